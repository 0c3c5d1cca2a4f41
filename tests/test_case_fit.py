"""The table [fit] of a case: free parameters, data from files and from the case itself, and what can be wrong in it."""

import numpy as np
import pytest

from jaxbelt import cases
from jaxbelt.cases import _belt, _fit, _fit_data
from jaxbelt.config import InputError, Table
from jaxbelt.fitting.columns import read_columns
from jaxbelt.fitting.free import Normal, Smooth

pytestmark = pytest.mark.plain

TOML = """
[case]
equation = "drift_diffusion"
name = "small"
epoch = "2013-03-16T00:00:00"
duration = "12 h"
[grid]
L = [3.0, 6.0]
cells = [12]
[parameters]
kp = [2.0, 4.0, 5.0, 3.0]
mu = "800 MeV/G"
dll = { model = "knots", L = [3.0, 4.0, 6.0], log_d = [-4.0, -2.0, 1.0] }
lifetime = "5 d"
[initial]
model = "uniform"
value = 1.0
knots = [3.0, 4.5, 6.0]
[boundary]
inner = 0.0
outer = 1.0
[numerics]
dt = "1 h"
[output]
every = "3 h"
[fit]
free = ["dll.log_d", { name = "lifetime", transform = "log", prior = 0.5, mean = 6.0 }]
[[fit.data]]
kind = "twin"
truth = { "dll.log_d" = [-3.0, -1.5, 1.0], lifetime = 4.0 }
apogee = 5.8
perigee = 2.5
period = "9 h"
samples = 30
sigma = 0.1
"""


def made(*words, text=TOML, folder=".", dry=True):
    return _fit.build(cases.build(text, words, folder, dry=dry), dry)


def test_free_form_diffusion_in_a_case():
    case = cases.build(TOML, ["initial.log_values=[0.0, 1.0, 0.0]"])
    dll = case.problem.parameters.dll
    assert np.log(dll(0.0, np.array([3.0, 4.0, 6.0]))) == pytest.approx([-4.0, -2.0, 1.0])
    assert case.f0.max() > 2.5 and case.start.log_values.shape == (3,)

    def d(at=5.0, **model):
        prm = Table({"kp": [2.0, 4.0, 5.0, 3.0], "dll": model}, "parameters")
        return float(_belt.coefficient(prm, "dll", _belt.drivers(prm, case.frame))(0.0, at))

    published = d(model="brautigam-albert")
    assert d(model="kp-power") == pytest.approx(published) == d(model="kp-power", power=8.0)
    assert d(4.0, model="kp-power", power=8.0) == pytest.approx(published * 0.8**8)
    assert d(model="knots", L=[3.0, 5.0], kp_slope=0.506 * np.log(10)) == pytest.approx(published)


def test_what_is_free_and_its_priors():
    fit = made("fit.free=['dll.log_d', {name='lifetime', transform='log', prior=0.5, mean=6.0}, "
               "{name='initial.log_values', smooth=0.3, order=1, prior=1.0}, {name='outer', bounds=[0.1, 3.0], scale=0.2}]")
    plain, lifetime, start, outer = fit.free
    assert plain.path == "dll.log_d" and not plain.prior
    assert isinstance(lifetime.prior[0], Normal) and lifetime.prior[0].mean == pytest.approx(np.log(6.0))
    smooth = next(p for p in start.prior if isinstance(p, Smooth))
    assert smooth.sd == 0.3 and smooth.order == 1 and smooth.x == pytest.approx(np.log([3.0, 4.5, 6.0]))
    assert outer.transform == "logit" and outer.bounds == (0.1, 3.0) and outer.scale == 0.2
    lines = "\n".join(_fit.describe(fit))
    assert "dll.log_d (3 values)" in lines and "8 free numbers" in lines and "30 values" not in lines


def test_synthetic_data_are_the_truth_with_noise():
    quiet = made("fit.data.0.sigma=1e-9", dry=False).data[""]
    loud, again, other = (made(f"fit.data.0.seed={k}", dry=False).data[""] for k in (0, 0, 1))
    noise = np.log(loud.values / quiet.values)
    assert np.std(noise[np.isfinite(noise)]) == pytest.approx(0.1, rel=0.5)
    np.testing.assert_array_equal(loud.values, again.values)
    assert not np.array_equal(loud.values, other.values)
    told = made("parameters.dll.log_d=[-3.0, -1.5, 1.0]", "parameters.lifetime='4 d'", "fit.data.0.truth={lifetime=4.0}",
                "fit.data.0.sigma=1e-9", dry=False).data[""]
    assert told.values == pytest.approx(quiet.values, rel=1e-6, nan_ok=True)


def test_a_kepler_orbit_sweeps_equal_areas():
    t = np.linspace(0.0, 9.0, 2001)
    r, angle = _fit_data.kepler(t, 5.8, 1.1, 9.0)
    assert r[[0, 1000, 2000]] == pytest.approx([5.8, 1.1, 5.8]) and angle[[0, 1000, 2000]] == pytest.approx([0, np.pi, 2 * np.pi])
    rate = 0.5 * r**2 * np.gradient(angle, t)
    assert rate[2:-2] == pytest.approx(np.pi * 3.45**2 * np.sqrt(1 - (4.7 / 6.9) ** 2) / 9.0, rel=1e-3)


CSV = """# a comment
time,lstar,mlt,psd,err
2013-03-16T01:00:00Z,4.0,3.0,0.5,0.1
2013-03-16T00:30:00Z,3.5,3.0,0.4,0.2
2013-03-16T02:00:00Z,5.0,,,0.1
"""
ORBIT = "fit.data=[{kind='orbit', file='probe.csv', columns={L='lstar'}, sigma='err'}]"


def test_an_orbit_from_a_table(tmp_path):
    (tmp_path / "probe.csv").write_text(CSV)
    fit = made(ORBIT, folder=tmp_path)
    data, one = fit.data[""], fit.sets[""]
    assert one.times == pytest.approx([1800.0, 3600.0, 7200.0]) and one.L == pytest.approx([3.5, 4.0, 5.0])
    assert data.values == pytest.approx([0.4, 0.5, np.nan], nan_ok=True) and data.sigma == pytest.approx([0.2, 0.1, 0.1])
    assert one.count == 2
    flux = ORBIT.replace("sigma='err'", "sigma=0.2, channels=[{column='psd', pitch_angle=90.0}]")
    assert made(flux, folder=tmp_path).data[""].values.shape == (1, 3)


def test_an_orbit_from_netcdf_is_that_of_the_table(tmp_path):
    import xarray as xr

    (tmp_path / "probe.csv").write_text(CSV)
    columns = read_columns(tmp_path / "probe.csv")
    columns["time"] = columns["time"].astype("datetime64[ns]")
    xr.Dataset({k: ("n", v) for k, v in columns.items()}).to_netcdf(tmp_path / "probe.nc", engine="h5netcdf")
    a, b = (made(ORBIT.replace("probe.csv", f"probe.{k}"), folder=tmp_path).sets[""] for k in ("csv", "nc"))
    assert a.times == pytest.approx(b.times) and a.data.values == pytest.approx(b.data.values, nan_ok=True)


def test_moments_of_the_foliated_equation(tmp_path):
    text = cases.shipped()["uphill"].read_text() + """
[fit]
free = ["D_perp"]
[[fit.data]]
kind = "moments"
names = ["T_perp", "number"]
file = "moments.csv"
sigma = [0.02, 0.01]
"""
    (tmp_path / "moments.csv").write_text("time,T_perp,number\n1.0,1.1,0.9\n2.0,1.2,0.8\n")
    small = ["grid.cells=[20, 24, 4]", "grid.mu=1"]
    fit = made(*small, text=text, folder=tmp_path)
    data = fit.data[""]
    assert data.values.tolist() == [[1.1, 1.2], [0.9, 0.8]] and data.noise == "normal" and data.sigma.shape == (2, 1)
    assert {1.0, 2.0} <= set(fit.t.tolist())
    with pytest.raises(InputError, match="outside the run"):
        made(*small, "fit.data.0.file='late.csv'", text=text, folder=_late(tmp_path))


def _late(folder):
    (folder / "late.csv").write_text("time,T_perp,number\n1.0,1.1,0.9\n2000.0,1.2,0.8\n")
    return folder


@pytest.mark.parametrize("words, message", [
    (["fit.metod='adam'"], r'fit.metod = "adam": unknown key \(did you mean "method"\?\)'),
    (["fit.method='newton'"], 'fit.method = "newton": is not one of the choices'),
    (["fit.rate=0.1"], 'fit.rate = 0.1: belongs to method = "adam"'),
    (["fit.iterations=-1"], "fit.iterations = -1: must be at least 0"),
    (["fit.free=[]"], r"fit.free = \[\]: must be a list of names"),
    (["fit.free=['dll.log_f']"], r'fit.free = "dll.log_f": is no parameter of this case \(did you mean "dll.log_d"\?\)'),
    (["fit.free=[{name='lifetime', prior=0.0}]"], "width sd of a prior must be positive"),
    (["fit.free=[{name='lifetime', mean=1.0}]"], "mean = 1.0: belongs to prior"),
    (["fit.free=[{name='lifetime', transfrom='log'}]"], r'fit.free\[0\].transfrom = "log": unknown key'),
    (["fit.free=[{name='lifetime', bounds=[6.0, 9.0]}]"], "lifetime: must start between its bounds 6 and 9, got 5"),
    (["fit.data=[]"], r"\[fit\] needs at least one table \[\[fit.data\]\]"),
    (["fit.data.0.kind='moments'"], 'does not belong to kind = "moments"'),
    (["fit.data.0.sigma=-0.1"], r"fit.data\[0\].sigma = -0.1: must be at least"),
    (["fit.data.0.sigma='err'"], "there is no file with such a column"),
    (["fit.data.0.truth={lifetimes=4.0}"], "'lifetimes' is no parameter of this fit"),
    (["fit.data.0.perigee=5.9"], r"fit.data\[0\].perigee = 5.9: is above the apogee, 5.8"),
    (["fit.data.0.apogee=2.8"], "the orbit never comes into the grid, L = 3 to 6"),
    (["fit.data.0.dof=0"], r"fit.data\[0\].dof = 0: must be above 0"),
    (["fit.every='13 h'"], r'fit.every = "13 h": is longer than the run'),
    (["initial.knots=[3.0]"], r"\[initial.knots\] InitialProfile L: needs at least two"),
    (["parameters.dll={model='knots', L=[3.0, 4.0], power=3}"], "parameters.dll.power = 3: does not belong to knots"),
    (["parameters.dll={model='knots', L=[3.0, 4.0], log_d=[1.0]}"], "parameters.dll.log_d = .*: needs 2 numbers, has 1"),
])
def test_what_cannot_be_is_one_line(words, message):
    with pytest.raises(InputError, match=message) as caught:
        made(*words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text, words, message", [
    (None, [], r'file = "probe.csv": there is no such file .* it should be a CSV table'),
    ("time,lstar,psd,err\n", [], "holds no rows"),
    ("time,lstar,psd,err\n1,2,3\n", [], "row 2: has 3 cells, the header 4"),
    ("time,L,psd,err\n1,4,3,.1\n", [], r'has no column "lstar"'),
    ("time,lstar,psd,err\n1,four,3,.1\n", [], 'column "lstar": "four" is neither a number nor a date'),
    ("time,lstar,psd,err\n1,4,0,.1\n", [], "none of the 1 values is left: 1 zero or negative"),
    ("time,lstar,psd,err\n1,9,1,.1\n", [], "outside"),
])
def test_bad_files_are_one_line(text, words, message, tmp_path):
    if text is not None:
        (tmp_path / "probe.csv").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        made(ORBIT, *words, folder=tmp_path, dry=False)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_a_note_where_nothing_is_run():
    fit = made(ORBIT)
    assert len(fit.missing) == 1 and _fit.describe(fit) == [f"fit       cannot run: {fit.missing[0]}"]


def test_bands_of_student_noise_are_wider():
    from jaxbelt.fit import _noise_half

    assert _noise_half(0.95, 4.0) == pytest.approx(2.776, abs=2e-3) and _noise_half(0.95, None) == pytest.approx(1.960, abs=1e-3)
    assert _noise_half(0.68, 1.0) == pytest.approx(np.tan(0.34 * np.pi), rel=1e-3)          # Cauchy


def test_an_orbit_through_one_of_several_populations():
    text = cases.shipped()["ring-current-50keV"].read_text() + """
[fit]
free = ["lifetime"]
[[fit.data]]
kind = "twin"
truth = { lifetime = 2.0 }
population = "electrons"
channels = [{ pitch_angle = 90.0, label = "50 keV" }]
apogee = 7.0
perigee = 3.0
period = "11 h"
samples = 20
sigma = 0.1
"""
    words = ["grid.cells=[12, 8]", "fit.free=[{name='lifetime', start=1.0}]"]
    fit = made(*words, text=text)
    assert fit.sets[""].rows == ("50 keV",) and fit.data[""].operator.node == 1 and fit.sets[""].count == 20
    with pytest.raises(InputError, match='population = "ions": is not one of the choices'):
        made(*words, "fit.data.0.population='ions'", text=text)


STORM = ["case.duration='20 h'", "grid.cells=[8]", "parameters.mu.count=4", "measured.quiet=['0 h', '18 h']",
         "fit.data.0.from='4 h'", "fit.data.0.until='15 h'", "measured.until='15 h'"]


@pytest.fixture(scope="module")
def rates(tmp_path_factory):
    """Two days from 16 March 00 UT: rates that rise with L* and fall with energy, on orbits of 9 h."""
    scipy_io = pytest.importorskip("scipy.io", reason="MATLAB files are read with scipy")
    folder = tmp_path_factory.mktemp("rates")
    t = np.arange(0.0, 36 * 3600.0, 30.0)
    lstar = 3.4 - 2.2 * np.cos(2 * np.pi * t / 32400)
    low = np.array([33, 51, 74, 102, 174, 210, 569, 1130, 1394, 1686])
    rate = (1.0 + 1e3 * np.exp(-((lstar - 5.0) ** 2))[:, None] * np.exp(-low / 300.0)).astype(float)
    scipy_io.savemat(folder / "rates.mat", {"T": (735309.0 + t / 86400.0)[:, None], "Lstar": lstar[:, None],
                                            "MLT": np.mod(t / 3600, 24)[:, None], "CountRate": rate})
    scipy_io.savemat(folder / "energy.mat", {"Emin": low, "Emax": low + 200, "G": np.full(10, 0.01)})
    return [*STORM, f"measured.file='{folder / 'rates.mat'}'", f"measured.energy_file='{folder / 'energy.mat'}'"]


def test_rates_give_the_state_the_wall_and_the_data(rates):
    text = cases.shipped()["fit-storm-2013-03"].read_text()
    case = cases.build(text, rates)
    assert case.f0.shape == (4, 8) and np.all(np.diff(case.f0[1]) > 0) and np.all(np.diff(case.f0[:, -1]) < 0)
    fit = _fit.build(case, dry=True)
    one = fit.sets[""]
    assert one.rows == ("569-769 keV", "1130-1330 keV", "1394-1594 keV", "1686-1886 keV") and one.data.dof == 4.0
    use = np.broadcast_to(one.data.mask, one.data.values.shape)
    assert one.count == np.isfinite(one.data.values[use]).sum() and one.held.any() and not (one.held & one.data.mask).any()
    assert fit.data[""].log_calibration.shape == (4, 1) and fit.data[""].background.shape == (4, 1)
    # f at the wall continues f at the start, and both are those of the rates there
    wall = np.array([float(x) for x in case.problem.boundary["outer"].values[:, 0]])
    assert wall == pytest.approx(case.f0[:, -1], rel=0.5)


def test_a_storm_without_its_files_says_what_they_hold():
    text = cases.shipped()["fit-storm-2013-03"].read_text()
    with pytest.raises(InputError, match="measured.file = .*: there is no such file .* CountRate .* Probes .*--set measured"):
        cases.build(text)
    case = cases.build(text, STORM, dry=True)
    assert "cannot run: measured.file" in _fit.describe(_fit.build(case, dry=True))[0]


def test_several_sets_of_data_have_names():
    one = TOML[TOML.index("[[fit.data]]"):]
    names = ["fit.data.0.name='a'", "fit.data.1.name='b'"]
    fit = made(*names, "fit.data.1.sigma=0.3", "fit.free=['dll.log_d', 'data.b.log_calibration']", text=TOML + one)
    assert set(fit.data) == {"a", "b"} and fit.data["b"].sigma == 0.3
    assert f"b: {fit.sets['b'].count} values" in "\n".join(_fit.describe(fit))
    with pytest.raises(InputError, match="name: needs a name where there are several"):
        made(text=TOML + one)
    with pytest.raises(InputError, match='name = "a": is given twice'):
        made(names[0], "fit.data.1.name='a'", text=TOML + one)
