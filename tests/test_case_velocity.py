"""Case files of the velocity equation: the shipped one makes its power law; mistakes are named."""

import numpy as np
import pytest

import jaxbelt as jb
from jaxbelt.cases import build, load_case
from jaxbelt.config import InputError

BASE = """
[case]
equation = "velocity"
duration = "10 s"
[grid]
v = [0.1, 10.0]
cells = 32
[parameters]
{parameters}
[initial]
model = "maxwellian"
[boundary]
{boundary}
[numerics]
dt = "1 s"
[output]
every = "10 s"
"""


def test_the_shipped_case_becomes_a_power_law():
    case = load_case("velocity-mixing", ["grid.cells=256"])
    sol = jb.solve(case.problem, case.f0, t=case.t[[0, -1]], dt=case.dt)
    v, g = case.problem.grid["v"].centers, np.asarray(sol.f[-1])
    above = (v > 3.0) & (v < 15.0)
    assert -np.polyfit(np.log(v[above]), np.log(g[above]), 1)[0] == pytest.approx(4.0, rel=2e-3)
    assert abs(4 * np.pi * case.problem.grid.content(case.f0) - 1) < 1e-3


@pytest.mark.parametrize("parameters, boundary, words", [
    ('nu_par = "1 1/s"\nnu_xi = "1 1/s"\nh = 0.0', "", "parameters.h = 0.0: must be above 0"),
    ('nu_par = "-1 1/s"\nnu_xi = "1 1/s"\nh = 0.1', "", "parameters.nu_par = .*must be at least 0"),
    ('nu_par = 1.0', "", "parameters.nu_par = 1.0: needs a number with its unit"),
    ('nu_par = "1 1/s"', "", "give nu_par, nu_xi and h, or rate"),
    ('rate = "1 1/s"\nsource = { v = 20.0, strength = 1.0 }', "", "parameters.source.v = 20.0: must lie inside the grid"),
    ('rate = "1 1/s"', "inner = { power_law = 3.0 }", "inner: a power law v.* rises away"),
    ('rate = "1 1/s"', "outer = { power_law = 3.0, value = 1.0 }", "boundary.outer = .*give one of"),
    ('rate = "1 1/s"', 'outer = "open"', "boundary.outer = .*must be .no flux., a number"),
])
def test_mistakes_are_named(parameters, boundary, words):
    with pytest.raises(InputError, match=words) as caught:
        build(BASE.format(parameters=parameters, boundary=boundary))
    assert "\n" not in str(caught.value)


def test_the_kinetic_case_heats_and_keeps_number(tmp_path):
    from jaxbelt import io, plot

    case = load_case("krook-2d", ["grid.trapped=3", "grid.passing=3", "grid.v=[0.1,8.0]", 'case.duration="4 s"',
                                  'numerics.dt="1 s"'])
    path = tmp_path / "k.nc"
    jb.run(case.problem, case.f0, t=case.t, dt=case.dt, out=path, attrs=case.attrs, f_attrs=case.f_attrs, progress=False)
    run = io.load(path)
    assert abs(run.content[-1] / run.content[0] - 1) < 1e-12
    energy = run.grid.content(run.f * run.grid.centers("v") ** 2)
    assert 1.05 < energy[-1] / energy[0] < 1.2
    assert len(plot.save(run, ["distribution", "spectrum", "moments"], tmp_path, dpi=40)) == 3
