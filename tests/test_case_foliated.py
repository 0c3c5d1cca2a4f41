"""Case files of the foliated equation: runs side by side, units, pictures; mistakes are named."""

import numpy as np
import pytest

import jaxbelt as jb
from jaxbelt.cases import build, load_case
from jaxbelt.config import InputError

pytestmark = [pytest.mark.plain, pytest.mark.filterwarnings("ignore:cells of chi")]
SMALL = ['numerics.dt="0.5 R_p/v_th"', "grid.psi=[0.5, 0.7]", "grid.cells=[8, 16, 6]", "grid.mu=[0.5, 4.0]", "grid.v_max=4.0",
         'case.duration="1 R_p/v_th"',
         "output.times=[]"]
BASE = """
[case]
equation = "foliated"
duration = "1 R_p/v_th"
[grid]
psi = [0.5, 0.7]
cells = [8, 16, 6]
mu = [0.5, 4.0]
v_max = 4.0
{grid}
[parameters]
{parameters}
[initial]
model = "maxwellian"
{initial}
[boundary]
{boundary}
[numerics]
dt = "0.5 R_p/v_th"
{numerics}
[output]
every = "0.5 R_p/v_th"
"""


def made(parameters="D_perp = 5e-3", grid="", initial="", boundary="", numerics='bounce = "none"'):
    return build(BASE.format(parameters=parameters, grid=grid, initial=initial, boundary=boundary, numerics=numerics))


def test_the_shipped_cases_run_and_are_drawn(tmp_path):
    from jaxbelt import io, plot

    case = load_case("inward-diffusion", [s for s in SMALL if "times" not in s])
    assert case.problem.grid.names == ("D_perp", "mu", "psi", "chi", "p") and case.dt == 0.5
    assert case.attrs["rho"] == pytest.approx(0.0511, rel=0.01)          # of 100-eV protons in 0.05 T around 0.4 m
    path = tmp_path / "i.nc"
    jb.run(case.problem, case.f0, t=case.t, dt=case.dt, out=path, attrs=case.attrs, f_attrs=case.f_attrs)
    run = io.load(path)
    number = np.asarray(case.problem.grid.content(run.f))
    assert run.time_unit == "R_p/v_th" and np.all(np.diff(number) < 0)
    data = run.to_xarray()
    assert data.time.attrs["units"] == "R_p/v_th" and data.v_par.dims == ("psi", "chi", "p") and "L" in data.coords
    names = [p.name for p in plot.save(run, folder=tmp_path)]
    assert len(names) == 6 and any("averages" in n for n in names)
    dry = load_case("uphill", SMALL[:-1], dry=True)
    assert dry.tables > 0 and dry.problem.tables is None


@pytest.mark.slow
def test_theta_rotation_walls_and_friction():
    case = made('D_perp = 5e-3\nD_par = 1e-3\nD_theta = 1e-3\ngamma = "closing"\nrotation = 0.2\nlifetime = "9 R_p/v_th"',
                grid="theta = 8", initial="amplitude = 0.5\nwave = 1\npsi = 0.6\nwidth = 0.05",
                boundary='inner = "maxwellian"\nouter = "reflecting"\nplanet = "reflecting"')
    sol = jb.solve(case.problem, case.f0, t=case.t, dt=case.dt)
    assert np.all(np.isfinite(sol.f)) and float(np.min(sol.f)) >= 0 and sol.f.shape[-1] == 8
    assert abs(np.ptp(case.f0[0, 3, 4, 8]) / np.mean(case.f0[0, 3, 4, 8]) - 1.0) < 0.1


def test_a_step_that_does_not_fit_the_outputs_is_named():
    with pytest.raises(InputError, match="dt: the tables of this problem are for steps of 0.5, but this run takes steps of 0.4"):
        load_case("uphill", [s for s in SMALL if "times" not in s] + ['output.every="0.4 R_p/v_th"'])


@pytest.mark.parametrize("kw, words", [
    ({"parameters": "D_perp = [5e-3, 5e-4]\nalpha = [0.5]"}, "lists of runs must be of one length, got D_perp 2, alpha 1"),
    ({"parameters": "alpha = 1.5"}, "parameters.alpha = 1.5: .*at most 1"),
    ({"parameters": "D_perp = -1"}, "parameters.D_perp = -1: .*at least 0"),
    ({"parameters": 'T0 = "100 eV"'}, 'needs the key "B0"'),
    ({"initial": "amplitude = 0.5"}, "initial.amplitude = 0.5: needs the axis theta"),
    ({"boundary": 'inner = "open"'}, "boundary.inner = .open.*not one of"),
    ({"grid": "mu_max = -1"}, "grid.mu_max = -1: must be above 0"),
    ({"numerics": 'bounce = "fast"'}, "numerics.bounce = .fast.*not one of"),
    ({"numerics": 'speed = 1'}, "numerics.speed = 1: unknown key"),
])
def test_mistakes_are_named(kw, words):
    with pytest.raises(InputError, match=words) as caught:
        made(**kw)
    assert "\n" not in str(caught.value)


def test_times_have_the_unit_of_the_equation():
    with pytest.raises(InputError, match='unit "s" is not a unit'):
        build(BASE.format(parameters="", grid="", initial="", boundary="", numerics="").replace('"1 R_p/v_th"', '"1 s"'))
