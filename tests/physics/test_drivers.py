import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbelt.coefficients import Series
from jaxbelt.physics.drivers import check_covers, kp_series, max_over, read_kp, seconds_after, trailing_max

pytestmark = pytest.mark.plain

ROW = "{} 1.0 1.3 1.7 2.0 2.3 2.7 3.0 {} 120.0\n"
DAYS = ["20130316", "20130317", "20130318"]


@pytest.fixture
def file(tmp_path):
    def write(*rows, header="YYYYMMDD Kp_x8 f10.7\n"):
        path = tmp_path / "kp.txt"
        path.write_text(header + "".join(rows))
        return path
    return write


def good(days=DAYS):
    return [ROW.format(day, k + 4) for k, day in enumerate(days)]


def test_kp_series_times():
    assert kp_series([1, 2, 3]).t == (0.0, 10800.0, 21600.0)
    assert kp_series([1, 2], start=-10800).t == (-10800.0, 0.0)
    dated = kp_series([1, 2], start="2013-03-17", epoch=np.datetime64("2013-03-16T21:00"))
    assert dated.t == (10800.0, 21600.0) and dated.kind == "step"
    assert kp_series([1, 2], start=np.datetime64("2013-03-17")).t[0] == 0.0
    given = kp_series([1, 2], times=np.array(["2013-03-17T00", "2013-03-17T06"], dtype="datetime64[h]"), epoch="2013-03-17")
    assert given.t == (0.0, 21600.0)


@pytest.mark.parametrize("values, message", [
    ([1.0, 27.0], r"kp values\[1\] = 27: .*10 Kp"),
    ([1.0, np.nan], r"kp values\[1\] = nan: a missing value"),
    ([-1.0, 2.0], r"kp values\[0\] = -1: a fill value"),
    ([1.0, 99.9], r"kp values\[1\] = 99.9: a fill value"),
    (np.ma.masked_array([1.0, 2.0], [False, True]), r"kp values\[1\] = nan"),
    ([[1.0], [2.0]], "one-dimensional"),
    ([], "one-dimensional"),
])
def test_a_wrong_kp_is_named(values, message):
    with pytest.raises(ValueError, match=message):
        kp_series(values)


def test_times_must_increase_and_exist():
    with pytest.raises(ValueError, match=r"t\[1\] = 0 follows 10800"):
        kp_series([1.0, 2.0], times=[10800.0, 0.0])
    with pytest.raises(ValueError, match="NaT"):
        kp_series([1.0], start=np.datetime64("NaT"))
    with pytest.raises(ValueError, match="start: 'yesterday' is not a time"):
        kp_series([1.0], start="yesterday")
    with pytest.raises(ValueError, match="NaT"):
        seconds_after("2013-03-17", np.array(["2013-03-17", "NaT"], dtype="datetime64[s]"))


def test_read_kp_covers_the_span(file):
    path = file(*good())
    kp = read_kp(path, "2013-03-16T22:30", "2013-03-17T04:00")
    assert kp.t == (-5400.0, 5400.0, 16200.0)
    np.testing.assert_array_equal(kp.values, [4.0, 1.0, 1.3])
    whole = read_kp(path, "2013-03-16", "2013-03-19")
    assert len(whole.t) == 24 and whole.t[0] == 0.0 and whole.values[-1] == 6.0
    later = read_kp(path, "2013-03-16", "2013-03-19", epoch="2013-03-17")
    assert later.t[0] == -86400.0
    assert read_kp(file(*good(), header=""), "2013-03-16", "2013-03-17").t == whole.t[:8]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*nothing\.txt"):
        read_kp(tmp_path / "nothing.txt", "2013-03-16", "2013-03-17")


@pytest.mark.parametrize("rows, message", [
    (good(DAYS[:2]), "covers 2013-03-16 to 2013-03-17, not 2013-03-16"),
    (good(["20130316", "20130318"]), "has no row for 2013-03-17"),
    (good()[:2] + ["20130318 1.0 2.0\n"], "line 4: needs YYYYMMDD and eight Kp values, got '20130318 1.0 2.0'"),
    (good()[:2] + ["2013-3-18 1 1 1 1 1 1 1 1\n"], "line 4: needs YYYYMMDD"),
    (good()[:2] + ["20131318 1 1 1 1 1 1 1 1\n"], "line 4: needs YYYYMMDD"),
    (good()[:2] + ["20130318 1 1 1 x 1 1 1 1\n"], "line 4: needs YYYYMMDD and eight"),
    (good()[:2] + ["20130318 1 1 1 99.9 1 1 1 1\n"], r"line 4: Kp\[3\] = 99.9: a fill value"),
    (good(["20130316", "20130318", "20130317"]), "line 4: 2013-03-17 follows 2013-03-18"),
    ([], "holds no row"),
])
def test_a_broken_file_is_named(file, rows, message):
    with pytest.raises(ValueError, match=message):
        read_kp(file(*rows), "2013-03-16", "2013-03-19")


def test_stop_must_follow_start(file):
    with pytest.raises(ValueError, match="must be later"):
        read_kp(file(*good()), "2013-03-17", "2013-03-17")


def test_read_kp_of_the_st_patrick_storm(shared_data):
    path = shared_data / "kp_1958_2023.txt"
    if not path.is_file():
        pytest.skip(f"needs {path.name} of ../shared/data")
    kp = read_kp(path, "2013-03-17", "2013-03-18")
    np.testing.assert_array_equal(kp.values, [2.0, 2.3, 6.7, 6.3, 5.7, 6.3, 6.7, 6.0])
    assert kp.t == tuple(10800.0 * k for k in range(8))
    everything = read_kp(path, "1958-01-01", "2023-03-01")
    assert len(everything.t) % 8 == 0 and everything.values.max() == 9.0
    with pytest.raises(ValueError, match="covers 1958-01-01 to 2023-02-28"):
        read_kp(path, "2023-02-28", "2023-03-02")


def brute_maximum(series, t, window):
    """The largest value of a step series in (t - window, t], by looking at every step."""
    begin = np.array(series.t)
    end = np.append(begin[1:], np.inf)
    begin[0] = -np.inf
    return np.asarray(series.values)[(begin <= t) & (end > t - window)].max()


@pytest.mark.parametrize("hours", [24.0, 7.0, 1000.0, 0.5])
@pytest.mark.parametrize("regular", [True, False])
def test_maximum_over_a_window(hours, regular):
    rng = np.random.default_rng(3)
    t = 10800.0 * np.arange(60) if regular else np.cumsum(rng.uniform(100.0, 2e4, 60))
    kp = Series(t, rng.uniform(0, 9, 60))
    largest = max_over(kp, hours)
    for now in rng.uniform(-1e4, t[-1] + 1.5 * hours * 3600.0, 200):
        expected = brute_maximum(kp, now, hours * 3600.0)
        assert largest(now) == expected and trailing_max(kp, now, hours) == expected
    many = rng.uniform(0.0, t[-1], 7)
    np.testing.assert_array_equal(jax.jit(lambda x: trailing_max(kp, x, hours))(many), largest(many))


def test_maximum_of_a_linear_series():
    rng = np.random.default_rng(4)
    kp = Series(np.cumsum(rng.uniform(1e3, 2e4, 20)), rng.uniform(0, 9, 20), "linear")
    for now in rng.uniform(-1e4, kp.t[-1] + 2e5, 50):
        t = np.append(np.linspace(now - 86400.0, now, 5001), [x for x in kp.t if now - 86400.0 <= x <= now])
        np.testing.assert_allclose(trailing_max(kp, now, 24.0), np.interp(t, kp.t, kp.values).max(), rtol=1e-12)
    with pytest.raises(ValueError, match="step series"):
        max_over(kp)


def test_one_value_and_wrong_hours():
    assert max_over(Series([0.0], [4.0]))(5.0) == 4.0
    assert trailing_max(Series([0.0], [4.0]), 5.0) == 4.0
    assert trailing_max(Series([0.0], [4.0], "linear"), 5.0) == 4.0
    with pytest.raises(ValueError, match="hours = 0"):
        max_over(Series([0.0], [4.0]), 0)


def test_gradient_of_the_maximum_goes_to_the_largest():
    t = tuple(10800.0 * k for k in range(6))
    values = np.array([1.0, 6.0, 2.0, 3.0, 1.0, 0.0])
    expected = np.eye(6)[1]
    np.testing.assert_array_equal(jax.grad(lambda v: max_over(Series(t, v), 24.0)(5 * 10800.0))(jnp.asarray(values)), expected)
    np.testing.assert_array_equal(jax.grad(lambda v: trailing_max(Series(t, v), 5 * 10800.0))(jnp.asarray(values)), expected)


def test_a_series_that_ends_before_the_run_is_named():
    kp = kp_series(np.full(32, 2.0), start="2013-03-16")
    run = {"name": "Kp", "epoch": "2013-03-16"}
    check_covers(kp, 0.0, 4 * 86400.0, "Kp")
    check_covers(kp, "2013-03-16", "2013-03-20", **run)
    with pytest.raises(ValueError, match="^Kp ends at 2013-03-20T00:00, the run lasts until 2013-03-21T00:00$"):
        check_covers(kp, 0.0, 5 * 86400.0, **run)
    with pytest.raises(ValueError, match="^Kp ends at 345600 s, the run lasts until 345601 s$"):
        check_covers(kp, 0.0, 345601.0, "Kp")
    with pytest.raises(ValueError, match="^Kp begins at 2013-03-16T00:00, the run begins at 2013-03-15T12:00$"):
        check_covers(kp, "2013-03-15T12", "2013-03-17", **run)
    with pytest.raises(ValueError, match="a date needs epoch"):
        check_covers(kp, 0.0, "2013-03-17", "Kp")


def test_how_far_a_last_value_reaches():
    one = kp_series([3.0])
    check_covers(one, 0.0, 1e9, "Kp")                                   # a constant
    with pytest.raises(ValueError, match="Kp ends at 10800 s"):
        check_covers(one, 0.0, 20000.0, "Kp", width=10800)
    linear = Series([0.0, 3600.0], [1.0, 2.0], "linear")
    check_covers(linear, 0.0, 3600.0, "Dst")
    with pytest.raises(ValueError, match="Dst ends at 3600 s, the run lasts until 3601 s"):
        check_covers(linear, 0.0, 3601.0, "Dst")
    check_covers(Series([0.0, 3600.0], [1.0, 2.0]), 0.0, 7200.0, "Dst")
    check_covers(4.0, 0.0, 7200.0, "Kp")
    jax.jit(lambda v: check_covers(Series([0.0, 3600.0], v), 0.0, 7200.0, "Dst"))(jnp.ones(2))
