import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbelt.physics.drivers import (
    from_arrays,
    kp_thirds,
    read_daily_kp,
    read_drivers,
    read_gfz,
    read_kp,
    read_omni2,
    read_qin_denton,
)

pytestmark = pytest.mark.plain

HOUR = np.timedelta64(1, "h")


@pytest.fixture
def write(tmp_path):
    def write(text, name="file.txt"):
        path = tmp_path / name
        path.write_text(text)
        return path
    return write


@pytest.fixture(scope="module")
def real(shared_data):
    def find(name):
        if not (shared_data / name).is_file():
            pytest.skip(f"needs {name} of ../shared/data")
        return shared_data / name
    return find


@pytest.fixture(scope="module")
def omni(real):
    return read_omni2(real("omni2_2013.txt"))


# ---- files made here: one column each is set, the others hold their fill values

OMNI_FILL = ("9999 99 99 999 999" + 14 * " 999.9" + " 9999999. 999.9 9999. 999.9 999.9 9.999 99.99 9999999. 999.9 9999. 999.9 "
             "999.9 9.999 999.99 999.99 999.9 99 999 99999 9999 999999.99" + 5 * " 99999.99" + " 0 999 999.9 999.9 99999 99999 "
             "99.9").split()


def omni_row(year, day, hour, **values):
    words = list(OMNI_FILL)
    for name, value in values.items():
        words[{"bz": 17, "density": 24, "speed": 25, "pdyn": 29, "kp": 39, "dst": 41, "ae": 42, "ap": 50}[name] - 4] = str(value)
    return f"{year:4d} {day:3d} {hour:2d} " + " ".join(f"{w:>9}" for w in words) + "\n"


def omni_hours(start, count, **values):
    """Rows of an OMNI2 file from start on; a value is a function of the hour's number."""
    text = ""
    for k in range(count):
        t = np.datetime64(start, "h") + k * HOUR
        year = t.astype("datetime64[Y]")
        day = (t.astype("datetime64[D]") - year.astype("datetime64[D]")).astype(int) + 1
        text += omni_row(int(str(year)), day, t.astype(int) % 24, **{n: f(k) for n, f in values.items()})
    return text


GFZ_HEAD = ("# PURPOSE: three-hour index Kp\n#YYY MM DD  days  days_m  Bsr dB" + "".join(f"    Kp{k}" for k in range(1, 9))
            + "".join(f"  ap{k}" for k in range(1, 9)) + "    Ap  SN F10.7obs F10.7adj D\n")


def gfz_row(date, kp, ap=range(8), last="  15  60    110.5    109.4 2"):
    day = (np.datetime64(date) - np.datetime64("1932-01-01")).astype(int)
    return (f"{date.replace('-', ' ')} {day:5d} {day + 0.5:7.1f} 2449  5" + "".join(f" {k:6.3f}" for k in kp)
            + "".join(f" {a:4d}" for a in ap) + f" {last}\n")


QD_HEAD = """# {
#  "OriginFile": { "DESCRIPTION": "made here", "VALUES": [""] },
#  "DateTime": { "UNITS": "UTC", "START_COLUMN": 0 },
#  "Vsw": { "DESCRIPTION": "Solar wind speed.", "UNITS": "km/s", "START_COLUMN": 2 },
#  "Dst": { "UNITS": "nT", "START_COLUMN": 1 },
#  "W": { "DIMENSION": [ 2 ], "START_COLUMN": 3, "ELEMENT_NAMES": [ "W1", "W2" ] }
# } End JSON
"""


def qd_rows(start, count, minutes=5, dst=lambda k: -k):
    return "".join(f"{np.datetime64(start, 's') + k * np.timedelta64(minutes, 'm')} {dst(k)} {400 + k}.5 0.1 0.2\n"
                   for k in range(count))


# ---- OMNI2

def test_omni_columns_of_2013(omni):
    """The row of 2013-03-17 09 UT, read off the file by its columns."""
    storm = {"start": "2013-03-17T09", "stop": "2013-03-17T10"}
    raw = np.loadtxt(omni.source, skiprows=75 * 24 + 9, max_rows=1)
    for name, word in (("bz", 17), ("bz_gse", 15), ("by", 16), ("density", 24), ("speed", 25), ("pdyn", 29), ("e_field", 36),
                       ("dst", 41), ("ae", 42), ("ap", 50), ("f107", 51), ("au", 54), ("mach_magnetosonic", 55)):
        np.testing.assert_array_equal(omni.series(name, **storm).values, [raw[word - 1]])
    # the definitions of the derived columns hold within their rounding, which no shifted column would do
    v, bz = omni["speed"].values, omni["bz"].values
    np.testing.assert_allclose(omni["e_field"].values, -1e-3 * v * bz, atol=0.06)
    n, he, p = (omni[x].values for x in ("density", "alpha_ratio", "pdyn"))
    expected = np.where(np.isnan(he), 2e-6 * n * v**2, 1.67e-6 * n * v**2 * (1 + 4 * he))
    good = ~np.isnan(n)
    assert good.sum() == 8749
    assert np.all(np.abs(p - expected)[good] < 0.02 + 0.06 * 2.2e-6 * v[good]**2 + 0.01 * expected[good])
    assert (omni["dst"].units, omni["pdyn"].units, omni["speed"].long_name) == ("nT", "nPa", "solar wind speed")


def test_kp_of_omni_is_that_of_gfz(omni, real):
    kp = omni.series("kp", epoch="2013-01-01")
    assert len(kp.t) == 2920 and kp.kind == "step" and np.array_equal(np.diff(kp.t), np.full(2919, 10800.0))
    np.testing.assert_array_equal(kp.values * 3, np.round(kp.values * 3))
    daily = real("kp_1958_2023.txt")
    gfz = read_kp(daily, "2013-01-01", "2014-01-01")
    assert gfz.t == kp.t
    np.testing.assert_array_equal(kp_thirds(gfz.values), kp.values)
    np.testing.assert_array_equal(read_daily_kp(daily).series("kp", start="2013-01-01", stop="2014-01-01").values, kp.values)


def test_dst_and_kp_of_2013_have_no_gap(omni):
    for name in ("dst", "kp"):
        for kind in ("step", "linear"):
            series = omni.series(name, kind)
            assert np.all(np.isfinite(series.values)) and not np.isnan(omni[name].values).any()
    assert omni["dst"].values.min() == -132.0 and omni["kp"].values.max() == 23 / 3


def test_gaps_of_2013_are_named(omni):
    with pytest.raises(ValueError, match=r"omni2_2013.txt: density is missing at 11 of 8760 times, first at 2013-01-05T19:00 "
                                         r"\(the fill value 999.9\); 5 gaps, the longest 5 h long, 2013-05-18T20:00 to "
                                         r"2013-05-19T01:00; give fill='previous', 'linear' or a number"):
        omni.series("density")
    filled = omni.series("density", "linear", fill="linear", max_gap="5 h")
    assert np.all(filled.values > 0)
    with pytest.raises(ValueError, match="a gap longer than max_gap = 4 h: 5 h long, 2013-05-18T20:00 to 2013-05-19T01:00"):
        omni.series("density", fill="linear", max_gap="4 h")


def test_omni_year_boundary_and_leap_day(write):
    leap = read_omni2(write(omni_hours("2012-02-28T22", 53, dst=lambda k: -k)))["dst"]
    np.testing.assert_array_equal(leap.times, np.datetime64("2012-02-28T22", "us") + np.arange(53) * HOUR)
    years = [write(omni_hours("2012-12-30", 48, dst=lambda k: k), "a"), write(omni_hours("2013-01-01", 24, dst=lambda k: k), "b")]
    end = read_omni2(years)
    series = end.series("dst", start="2012-12-31T23", stop="2013-01-01T02")
    assert series.t == (0.0, 3600.0, 7200.0)
    np.testing.assert_array_equal(series.values, [47.0, 0.0, 1.0])
    assert read_omni2(write(omni_row(2012, 366, 0)))["dst"].start == np.datetime64("2012-12-31")
    with pytest.raises(ValueError, match=r"line 1: day of the year = 366 must be a whole number from 1 to 365"):
        read_omni2(write(omni_row(2013, 366, 0)))


def test_kp_of_omni_rows_that_begin_inside_three_hours(write):
    text = omni_hours("2013-01-01T02", 5, kp=lambda k: [27, 33, 99, 33, 7][k], ap=lambda k: [1, 2, 2, 2, 3][k])
    kp = read_omni2(write(text))["kp"]
    np.testing.assert_array_equal(kp.values, [8 / 3, 10 / 3, 2 / 3])
    assert kp.start == np.datetime64("2013-01-01T00") and kp.stop == np.datetime64("2013-01-01T09")
    with pytest.raises(ValueError, match="line 2: the 3 hours from 2013-01-01T03:00 have different kp: 30 and 33"):
        read_omni2(write(omni_hours("2013-01-01T02", 4, kp=lambda k: [27, 30, 30, 33][k])))
    with pytest.raises(ValueError, match="line 3: Kp = 45; OMNI2 lists 10 Kp"):
        read_omni2(write(omni_hours("2013-01-01T00", 3, kp=lambda k: [40, 40, 45][k])))


@pytest.mark.parametrize("change, message", [
    (lambda rows: rows[:2] + [rows[1]] + rows[2:], "line 3: 2013-01-01T01:00 is there twice, also on line 2; times"),
    (lambda rows: [rows[0], rows[2], rows[1]], "line 3: 2013-01-01T01:00 follows 2013-01-01T02:00 of line 2; times"),
    (lambda rows: rows[:2] + [rows[2][:300]], r"line 3: has \d+ columns, needs 55 \(the last line; the file was cut off\)"),
    (lambda rows: rows[:2] + [rows[2][:-3]], "line 3: the last line is shorter than the others and has no end; the file was cut"),
    (lambda rows: [rows[0], "2013 1 1 5\n", rows[2]], "line 2: has 4 columns, needs 55$"),
    (lambda rows: [" ".join(r.split()[:50]) + "\n" for r in rows], "line 1: has 50 columns, needs 55 or 56"),
    (lambda rows: [rows[0], rows[1].replace(" 99999.99", "    *.**", 1)], r"line 2: column \d+ is no number: '\*\.\*\*'"),
    (lambda rows: [rows[0].replace("2013", "2013.5")], "line 1: year = 2013.5 must be a whole number"),
    (lambda rows: [], "holds no row of numbers"),
])
def test_a_broken_omni_file_is_named(write, change, message):
    rows = omni_hours("2013-01-01", 3).splitlines(keepends=True)
    with pytest.raises(ValueError, match=message):
        read_omni2(write("".join(change(rows))))


# ---- GFZ

def test_gfz_daily_rows(write):
    kp = [0.0, 0.333, 0.667, 1.0, 4.333, 8.667, 9.0, 2.667]
    data = read_gfz(write(GFZ_HEAD + gfz_row("2012-02-29", kp, [0, 2, 3, 4, 32, 300, 400, 12])
                          + gfz_row("2012-03-01", kp[:5] + [-1.0] * 3, [0] * 5 + [-1] * 3, "  -1  -1     -1.0     -1.0 0")))
    assert data.names == ("kp", "ap", "ap_daily", "sunspots", "f107", "f107_adjusted", "status")
    series = data.series("Kp", start="2012-02-29", stop="2012-03-01T15")
    np.testing.assert_array_equal(series.values[:8] * 3, [0, 1, 2, 3, 13, 26, 27, 8])
    assert series.t == tuple(10800.0 * k for k in range(13))
    np.testing.assert_array_equal(data["ap"].values[:8], [0, 2, 3, 4, 32, 300, 400, 12])
    assert data["f107"].values[0] == 110.5 and data["f107_adjusted"].values[0] == 109.4 and data["status"].values[0] == 2
    assert data["Ap"].name == "ap_daily" and data["Ap"].values[0] == 15 and np.isnan(data["Ap"].values[1])
    with pytest.raises(ValueError, match=r"kp is missing at 3 of 16 times, first at 2012-03-01T15:00 \(the fill value -1\)"):
        data.series("kp")


def test_gfz_three_hour_rows(write):
    rows = ["2003 10 31 21.0 22.50 26235.00000 26235.06250  8.667  300 1\n",
            "2003 11 01 00.0 01.50 26236.00000 26236.06250  3.333   18 1\n"]
    data = read_gfz(write("# head\n" + "".join(rows)))
    np.testing.assert_array_equal(data["kp"].values, [26 / 3, 10 / 3])
    np.testing.assert_array_equal(data["ap"].values, [300.0, 18.0])
    assert data["kp"].stop == np.datetime64("2003-11-01T03")
    with pytest.raises(ValueError, match="line 2: hour = 1 is no beginning of 3 hours"):
        read_gfz(write("# head\n" + rows[1].replace(" 00.0", " 01.0")))


@pytest.mark.parametrize("text, message", [
    (gfz_row("2013-02-28", [1.0] * 8).replace("02 28", "02 29"), "line 1: day = 29 must be a whole number from 1 to 28"),
    (gfz_row("2013-02-28", [1.0] * 7 + [9.333]), "line 1: Kp = 9.333: Kp lies between 0 and 9"),
    (gfz_row("2013-02-28", [1.0] * 8) + gfz_row("2013-03-01", [1.0] * 7 + [2.5]), "line 2: Kp = 2.5 is no third"),
    (gfz_row("2013-02-28", [1.0] * 8) * 2, "line 2: 2013-02-28T00:00 is there twice, also on line 1"),
    (gfz_row("2013-02-28", [1.0] * 8)[:-4], r"line 1: has 27 columns, needs 28 or 10"),
])
def test_a_broken_gfz_file_is_named(write, text, message):
    with pytest.raises(ValueError, match=message):
        read_gfz(write(text))


def test_daily_rows_agree_with_read_kp(write):
    path = write("YYYYMMDD Kp_x8 f10.7\n20121231 1.0 1.3 1.7 2.0 2.3 2.7 3.0 9.0 120.0\n20130101 -1 1 1 1 1 1 1 1 0.0\n")
    data = read_daily_kp(path)
    np.testing.assert_array_equal(data["kp"].values[:8] * 3, [3, 4, 5, 6, 7, 8, 9, 27])
    assert np.isnan(data["kp"].values[8]) and data["f107"].values[0] == 120.0 and np.isnan(data["f107"].values[1])
    rounded = read_kp(path, "2012-12-31", "2013-01-01").values
    np.testing.assert_allclose(data.series("kp", stop="2013-01-01").values, rounded, atol=0.034)


# ---- Qin-Denton

def test_qin_denton_of_the_st_patrick_storm(real, omni):
    data = read_qin_denton(real("qin_denton_20130317_1min.txt"))
    assert len(data.names) == 37 and data["speed"].width == np.timedelta64(1, "m")
    # the row of 00:02, read off the file
    for name, value in (("ByIMF", -2.02), ("BzIMF", -0.56), ("Vsw", 423.0), ("Den_P", 2.28), ("Pdyn", 0.81), ("G1", 0.26),
                        ("G3", 0.09), ("Vsw_status", 1), ("Kp", 1.68), ("Dst", -11), ("Bz6", -0.56), ("W1", 0.072),
                        ("W6", 0.075), ("W3_status", 2)):
        assert data[name].values[2] == value, name
    assert data["bz"] is data["BzIMF"] and data["W1"].long_name == "Tsyganeko W parameters"
    # its Dst is the hourly one, interpolated: an hourly average stands at the middle of the hour
    t = 60.0 * np.arange(1440)
    span = {"start": "2013-03-17", "stop": "2013-03-18"}
    middle = jax.vmap(omni.series("dst", "linear", **span))(t)
    assert np.abs(middle - data["dst"].values).max() < 3.0
    begin = np.interp(t, 3600.0 * np.arange(25), omni.series("dst", start="2013-03-17", stop="2013-03-18T01").values)
    assert np.abs(begin - data["dst"].values).max() > 20.0
    # its Kp is that of 3 hours at the middle of them
    np.testing.assert_allclose(data["kp"].values[90::180], omni.series("kp", **span).values, atol=0.034)


def test_qin_denton_header_and_days(write):
    days = [write(QD_HEAD + qd_rows("2012-12-31", 288), "a"), write(QD_HEAD + qd_rows("2013-01-01", 288), "b")]
    data = read_qin_denton(days)
    assert data.names == ("dst", "speed", "W1", "W2") and data["Vsw"].values[3] == 403.5 and data["W2"].values[0] == 0.2
    series = data.series("dst", "linear", start="2012-12-31T23:50", stop="2013-01-01T00:06", epoch="2013-01-01")
    assert series.t == (-600.0, -300.0, 0.0, 300.0, 600.0)
    np.testing.assert_array_equal(series.values, [-286, -287, 0, -1, -2])
    with pytest.raises(ValueError, match="b: begins at 2013-01-01T00:00, before .*b ends .2013-01-01T23:55.; files must follow"):
        read_qin_denton([days[1], days[1]])
    later = write(QD_HEAD + qd_rows("2013-01-03", 288), "c")
    with pytest.raises(ValueError, match=r"dst is missing at 288 of 864 times, first at 2013-01-02T00:00 \(no row\); the gap is "
                                         r"1 d long, 2013-01-02T00:00 to 2013-01-03T00:00"):
        read_qin_denton([*days[:1], days[1], later]).series("dst", start="2013-01-01")
    assert read_qin_denton(days[0], instant=False).series("dst", "linear").t[:2] == (0.0, 150.0)


@pytest.mark.parametrize("text, message", [
    (qd_rows("2013-01-01", 3), "has no JSON header"),
    (QD_HEAD.replace('"Dst":', '"Dst"') + qd_rows("2013-01-01", 3), "its JSON header cannot be read: Expecting ':' delimiter"),
    (QD_HEAD.replace('"START_COLUMN": 1 ', '"START_COLUMN": 2 ') + qd_rows("2013-01-01", 3), "share column 2"),
    (QD_HEAD.replace('"W1", "W2"', '"W1"') + qd_rows("2013-01-01", 3), "W of its header has 1 ELEMENT_NAMES for 2 columns"),
    (QD_HEAD.replace('"DateTime"', '"Time"') + qd_rows("2013-01-01", 3), "does not place DateTime in column 0"),
    (QD_HEAD + qd_rows("2013-01-01", 3).replace("0.2\n", "0.2 0.3\n"), "line 8: has 6 columns, needs 5"),
    (QD_HEAD + qd_rows("2013-01-01", 3).replace("00:05:00", "00:05:61"), "line 9: '2013-01-01T00:05:61' is no time"),
    (QD_HEAD + qd_rows("2013-01-01", 5).replace("00:05:00", "00:03:20"),
     "line 9: 2013-01-01T00:03:20 is not a whole number of 300 s after line 8"),
    (QD_HEAD + qd_rows("2013-01-01", 1), "holds one row"),
])
def test_a_broken_qin_denton_file_is_named(write, text, message):
    with pytest.raises(ValueError, match=message):
        read_qin_denton(write(text))


# ---- any format, missing files

def test_the_format_is_told(write, tmp_path):
    assert "W1" in read_drivers(write(QD_HEAD + qd_rows("2013-01-01", 3)))
    assert "status" in read_drivers(write(GFZ_HEAD + gfz_row("2013-02-28", [1.0] * 8)))
    assert "pdyn" in read_drivers([write(omni_hours("2013-01-01", 3))])
    assert read_drivers(write("YYYYMMDD Kp\n20130101 1 1 1 1 1 1 1 1\n")).names == ("kp",)
    with pytest.raises(ValueError, match="its format is not known; give format='omni2'"):
        read_drivers(write("one two\nthree four\n"))
    with pytest.raises(ValueError, match="format: 'omni' is unknown; use 'omni2'"):
        read_drivers(tmp_path, "omni")
    for reader in (read_drivers, read_omni2, read_gfz, read_qin_denton, read_daily_kp):
        with pytest.raises(FileNotFoundError, match=rf"{reader.__name__}: there is no file .*nothing\.txt"):
            reader(tmp_path / "nothing.txt")
    with pytest.raises(ValueError, match="the list of files is empty"):
        read_omni2([])


# ---- from values to a Series

def hourly(values, start="2013-03-17", **kw):
    times = np.datetime64(start, "h") + np.arange(len(values)) * HOUR
    return from_arrays(times, width=HOUR, dst=values, **kw)


def test_step_and_linear_times():
    data = hourly([1.0, 2.0, 4.0, 8.0])
    step = data.series("dst", start="2013-03-17T00:30", stop="2013-03-17T02")
    assert step.t == (-1800.0, 1800.0) and step.kind == "step"
    linear = data.series("dst", "linear", start="2013-03-17T01", stop="2013-03-17T02", epoch="2013-03-17")
    assert linear.t == (1800.0, 5400.0, 9000.0)
    np.testing.assert_array_equal(linear.values, [1.0, 2.0, 4.0])
    whole = data.series("dst", "linear")            # half an hour at the ends is constant
    assert whole.t == (0.0, 1800.0, 5400.0, 9000.0, 12600.0, 14400.0)
    np.testing.assert_array_equal(whole.values, [1.0, 1.0, 2.0, 4.0, 8.0, 8.0])
    instant = hourly([1.0, 2.0, 4.0], instant=True).series("dst", "linear")
    assert instant.t == (0.0, 3600.0, 7200.0, 10800.0)
    np.testing.assert_array_equal(instant.values, [1.0, 2.0, 4.0, 4.0])


def test_the_mean_of_the_linear_series_is_near_the_hourly_one():
    """Standing at the middles, a straight line keeps its hourly averages exactly."""
    series = hourly(10.0 + 3.0 * np.arange(8)).series("dst", "linear", start="2013-03-17T02", stop="2013-03-17T05")
    for k in range(3):
        t = 3600.0 * (k + (np.arange(10) + 0.5) / 10)
        np.testing.assert_allclose(np.mean([series(x) for x in t]), 16.0 + 3.0 * k, rtol=1e-13)


def test_the_span_must_be_covered():
    data = hourly([1.0, 2.0, 4.0])
    for span in ({"stop": "2013-03-17T03:01"}, {"start": "2013-03-16T23:59"}):
        with pytest.raises(ValueError, match="arrays: dst covers 2013-03-17T00:00 to 2013-03-17T03:00, not 2013-03-1"):
            data.series("dst", **span)
    with pytest.raises(ValueError, match="must be later than start"):
        data.series("dst", start="2013-03-17T02", stop="2013-03-17T02")
    with pytest.raises(ValueError, match="kind: 'steps' is unknown"):
        data.series("dst", "steps")
    with pytest.raises(ValueError, match="arrays has no 'dts'; did you mean 'dst'?"):
        data.series("dts")


@pytest.mark.parametrize("rows", [True, False])
def test_filling(rows):
    """Hours 2, 3 and 6 are missing, as NaN or as absent rows."""
    values = np.array([0.0, 10.0, np.nan, np.nan, 40.0, 55.0, np.nan, 7.0])
    times = np.datetime64("2013-03-17", "h") + np.arange(8) * HOUR
    keep = np.full(8, True) if rows else ~np.isnan(values)
    data = from_arrays(times[keep], width="1 h", dst=values[keep])
    what = "not a number" if rows else "no row"
    with pytest.raises(ValueError, match=rf"dst is missing at 3 of 8 times, first at 2013-03-17T02:00 \({what}\); 2 gaps, the "
                                         "longest 2 h long, 2013-03-17T02:00 to 2013-03-17T04:00"):
        data.series("dst")
    for fill, expected in (("previous", [0, 10, 10, 10, 40, 55, 55, 7]), ("linear", [0, 10, 20, 30, 40, 55, 31, 7]),
                           (-5.0, [0, 10, -5, -5, 40, 55, -5, 7])):
        series = data.series("dst", fill=fill, max_gap=7200)
        np.testing.assert_allclose(series.values, expected, rtol=1e-15)
        assert series.t == tuple(3600.0 * k for k in range(8))
        with pytest.raises(ValueError, match="longer than max_gap = 1.5 h: 2 h long"):
            data.series("dst", fill=fill, max_gap="90 min")
    # only what is used must be there; filling looks at the neighbours outside
    np.testing.assert_array_equal(data.series("dst", start=times[4], stop=times[6]).values, [40.0, 55.0])
    np.testing.assert_allclose(data.series("dst", start=times[3], stop=times[5], fill="linear").values, [30.0, 40.0])
    np.testing.assert_allclose(data.series("dst", start=times[3], stop=times[5], fill="previous").values, [10.0, 40.0])
    with pytest.raises(ValueError, match="is missing at 1 of 3 times, first at 2013-03-17T03:00"):
        data.series("dst", "linear", start=times[4], stop=times[5])


def test_filling_needs_neighbours():
    data = hourly([np.nan, 2.0, np.nan])
    with pytest.raises(ValueError, match="no value before the gap at 2013-03-17T00:00; fill='previous' needs one"):
        data.series("dst", fill="previous")
    np.testing.assert_array_equal(data.series("dst", start="2013-03-17T01", fill="previous").values, [2.0, 2.0])
    with pytest.raises(ValueError, match="no value after the gap at 2013-03-17T03:00; fill='linear' needs one"):
        data.series("dst", start="2013-03-17T01", fill="linear")
    with pytest.raises(ValueError, match="fill: 'zero' is unknown"):
        data.series("dst", fill="zero")
    with pytest.raises(ValueError, match="max_gap: '3 hours' is no length of time"):
        data.series("dst", fill=0.0, max_gap="3 hours")


@pytest.mark.parametrize("values, message", [
    ({"dst": [1.0, 99999.0]}, r"dst at 2013-03-17T01:00 = 99999 nT: outside -3000 to 500 nT; a fill value, or other units"),
    ({"speed": [400.0, 9999.0]}, "speed at 2013-03-17T01:00 = 9999 km/s: outside"),
    ({"density": [999.9, 4.0]}, "density at 2013-03-17T00:00 = 999.9 cm"),
    ({"kp": [3.0, 33.0]}, r"kp at 2013-03-17T01:00 = 33: .*10 Kp"),
    ({"bz": [1.0]}, r"bz: needs 2 values, one a time, got shape \(1,\)"),
    ({}, "needs at least one quantity"),
])
def test_wrong_arrays_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        from_arrays(["2013-03-17T00", "2013-03-17T01"], **values)


def test_times_of_arrays():
    data = from_arrays([0.0, 60.0, 200.0], epoch="2013-03-17", instant=True, wave=[1.0, 2.0, 3.0], units={"wave": "pT"})
    assert data["wave"].units == "pT" and data["wave"].stop == np.datetime64("2013-03-17T00:05:40")
    assert data.series("wave").t == (0.0, 60.0, 200.0)
    masked = from_arrays([0.0, 60.0], epoch="2013-03-17", dst=np.ma.masked_array([1, 2], [False, True]))
    assert "1 missing" in repr(masked) and "Dst" in repr(masked)
    with pytest.raises(ValueError, match=r"times\[1\] = 2013-03-17T00:00 follows 2013-03-17T00:01"):
        from_arrays(["2013-03-17T00:01", "2013-03-17T00:00"], dst=[1.0, 2.0])
    with pytest.raises(ValueError, match=r"times\[1\] is missing \(NaT\)"):
        from_arrays(["2013-03-17T00:01", "NaT"], dst=[1.0, 2.0])
    with pytest.raises(ValueError, match="need epoch"):
        from_arrays([0.0, 60.0], dst=[1.0, 2.0])
    with pytest.raises(ValueError, match="from_arrays times"):
        from_arrays(["yesterday", "today"], dst=[1.0, 2.0])


def test_averages(omni):
    data = hourly(np.arange(10.0), "2013-03-17T02").resample("3 h")
    np.testing.assert_array_equal(data["dst"].values, [2.0, 5.0, 8.0])
    assert data["dst"].start == np.datetime64("2013-03-17T03") and data["dst"].width == 3 * HOUR
    assert np.isnan(hourly([0.0, np.nan, 2.0]).resample("3 h")["dst"].values).all()
    with pytest.raises(ValueError, match="cannot average intervals of 1 h over 1.5 h"):
        hourly([0.0, 1.0])["dst"].resample("90 min")
    with pytest.raises(ValueError, match="holds no whole interval of 3 h"):
        hourly([0.0, 1.0]).resample("3 h")
    days = omni.resample("1 d")
    assert days["kp"].values.size == 365
    np.testing.assert_allclose(days["dst"].values[75], omni["dst"].values[75 * 24:76 * 24].mean(), rtol=1e-14)


def test_thirds():
    np.testing.assert_array_equal(kp_thirds([0.3, 0.33, 2.667, 9.0, np.nan]) * 3, [1, 1, 8, 27, np.nan])
    with pytest.raises(ValueError, match=r"kp\[1\] = 2.5 is no third"):
        kp_thirds([1.0, 2.5])


@pytest.mark.parametrize("kind", ["step", "linear"])
def test_gradients_reach_the_values(kind):
    series = hourly([-10.0, -30.0, -20.0]).series("dst", kind)
    leaves, tree = jax.tree.flatten(series)
    assert len(leaves) == 1
    slope = jax.grad(lambda v: jax.tree.unflatten(tree, [v])(4500.0) ** 2)(jnp.asarray(leaves[0]))
    if kind == "step":
        np.testing.assert_allclose(slope, [0.0, -60.0, 0.0], rtol=1e-14)
    else:                       # 01:15 lies three quarters of the way from 00:30 to 01:30; the ends' copies take no part
        np.testing.assert_allclose(slope, 2 * -25.0 * np.array([0.0, 0.25, 0.75, 0.0, 0.0]), rtol=1e-14)
