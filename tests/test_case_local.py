"""Case files of local diffusion: the shipped ones in two, three and four dimensions, tables of waves and of fluxes, mistakes."""

import numpy as np
import pytest

import jaxbelt as jb
from jaxbelt.cases import build, load_case
from jaxbelt.coefficients import Time, evaluate
from jaxbelt.config import InputError
from jaxbelt.physics import fluxes
from jaxbelt.physics.chorus_tensor import ChorusTensor

pytestmark = pytest.mark.plain
BASE = """
[case]
equation = "local_diffusion"
duration = "2 h"
[grid]
{grid}
[parameters]
{parameters}
[initial]
{initial}
[boundary]
{boundary}
[numerics]
dt = "1 h"
[output]
every = "2 h"
{output}
"""
ONE = 'L_ref = 4.5\nenergy = ["0.1 MeV", "2 MeV"]\ncells = [6, 5]'
THREE = 'L = [4.0, 6.0]\nenergy = ["0.1 MeV", "2 MeV"]\ncells = [4, 6, 5]'
WAVES = 'loss_cone = "100 km"\nchorus = { amplitude = "50 pT", coverage = 0.25 }'
START = 'model = "exponential"\nflux = 1e6\nat = "0.1 MeV"\nE0 = "0.2 MeV"'


def made(grid=ONE, parameters=WAVES, initial=START, boundary="", output="", **kw):
    return build(BASE.format(grid=grid, parameters=parameters, initial=initial, boundary=boundary, output=output), **kw)


def test_a_day_of_chorus_makes_mev_electrons(tmp_path):
    """And the file of the run knows its labels."""
    from jaxbelt import io
    from jaxbelt.physics.label_grid import LabelGrid

    case = load_case("chorus-acceleration", ["grid.cells=[16, 16]", "grid.alpha=[1.0, 90.0]", 'numerics.dt="2 h"',
                                             'output.every="12 h"'])
    path = tmp_path / "c.nc"
    jb.run(case.problem, case.f0, t=case.t, dt=case.dt, out=path, attrs=case.attrs, f_attrs=case.f_attrs, progress=False)
    run = io.load(path)
    assert isinstance(run.grid, LabelGrid) and run.grid == case.problem.grid and np.all(run.f >= 0)
    flux = np.asarray(fluxes.flux_at(run.grid, run.f, [0.5, 1.0, 2.0], np.pi / 2))
    growth = flux[-1] / flux[0]
    assert growth[0] > 2 and growth[1] > 5 and growth[2] > 50
    start = run.content[0]
    assert abs(run.content[-1] - start - sum(v[-1] for v in run.budget.values())) < 1e-12 * start
    assert run.budget["lnp.lower"][-1] > 0 > run.budget["loss"][-1]
    data = run.to_xarray()
    np.testing.assert_allclose(data.energy, np.broadcast_to(run.grid.energy(), (16, 16)), rtol=1e-12)
    np.testing.assert_allclose(data.alpha_eq, np.degrees(run.grid["alpha"].centers), rtol=1e-12)
    assert data.mu.dims == ("alpha", "lnp") and data.K.dims == ("alpha",)


def small(name, cells):
    return load_case(name, [f"grid.cells={cells}", 'case.duration="2 h"', 'output.every="1 h"', 'output.times=["0 h", "2 h"]',
                            'numerics.dt="1 h"'])


@pytest.mark.slow
def test_the_belt_in_four_coordinates_is_built():
    """The outer wall is the initial f at first; later on fed at midnight, three times as much in the mean."""
    problem = small("belt-4d", "[4, 8, 5, 5]").problem
    outer, phi = problem.boundary["outer"], 2 * np.pi * np.arange(8)[:, None, None] / 8
    first, later = (np.asarray(evaluate(outer, Time.at(t), phi)) for t in (0.0, 7200.0))
    assert np.ptp(first, axis=0).max() < 1e-12 * first.max() and np.argmax(later[:, 0, 0]) == 0
    np.testing.assert_allclose(later.mean(axis=0), 3.0 * first[0], rtol=1e-4)
    assert problem.boundary["low_p"].shape == (4, 8, 5) and problem.boundary["inner"] == 0.0
    assert problem.parameters.kinetic is not None and problem.parameters.local.power.mlt == 6.0


@pytest.mark.slow
def test_the_belt_in_three_coordinates_is_built():
    """Hiss only inside of the plasmapause; chorus in the mean over MLT; the wall moves with the case's factor."""
    case = small("belt-3d", "[4, 6, 5]")
    problem = case.problem
    rate = np.asarray(problem.parameters.lifetime.rate(Time.at(0.0), problem.grid.centers("L")))
    inside = problem.grid["L"].centers < 5.6 - 0.46 * 3.3 - 0.1
    assert np.all(rate[inside] > 0) and np.all(rate[problem.grid["L"].centers > 4.2] == 0) and rate.shape == (4, 6, 5)
    power = problem.parameters.local.power
    mean, dawn, inner = (float(power(Time.at(0.0), *at)) for at in ((5.0,), (5.0, np.pi / 2), (3.5,)))
    assert 0 < mean < 0.5 * dawn and inner == 0
    first, later = (np.asarray(evaluate(problem.boundary["outer"], Time.at(h * 3600.0))) for h in (0.0, 36.0))
    np.testing.assert_allclose(later, 0.1 * first, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name, cells", [("belt-3d", "[6, 6, 5]"), ("belt-4d", "[4, 8, 5, 5]")])
def test_the_belts_run_and_are_drawn(name, cells, tmp_path):
    from jaxbelt import io, plot

    case = small(name, cells)
    path = tmp_path / "b.nc"
    jb.run(case.problem, case.f0, t=case.t, dt=case.dt, out=path, attrs=case.attrs, f_attrs=case.f_attrs, drivers=case.drivers,
           progress=False)
    run = io.load(path)
    start = run.content[0]
    assert abs(run.content[-1] - start - sum(v[-1] for v in run.budget.values())) < 1e-12 * start and np.all(run.f >= 0)
    data = run.to_xarray()
    np.testing.assert_allclose(data.energy, np.asarray(run.grid.energy()).reshape(data.energy.shape))
    np.testing.assert_allclose(data.alpha_eq, np.degrees(np.asarray(run.grid.alpha()).reshape(data.alpha_eq.shape)))
    assert len(plot.save(run, folder=tmp_path, dpi=40)) == len(case.pictures)


def padie(folder, energies=(100, 1000, 3000), off=0.0):
    """Files of tables as PADIE writes them, the tensor everywhere the same."""
    cross = {50: 1e-4 * (1.0 + off) ** 0.5} if off else {}
    rows = "".join(f"{a:9.3f} 1e-4 0 0 {cross.get(a, 5e-5):.9e} 1e-4 15.0\n" for a in range(3, 88))
    text = f" Wave magnetic field 100.00 (pT)\n Pitch-Angle Daa/p^2\n 0.0 0 0 0 0 0 0\n{rows}\n"
    for L in (4, 5):
        for keV in energies:
            (folder / f"fb_l{L}_d2.5_e{keV}.out").write_text(text)
    return folder


def test_tables_of_waves_and_of_fluxes(tmp_path):
    """They stand beside the case, and take the place of the closed form and of the spectrum."""
    (tmp_path / "waves").mkdir()
    padie(tmp_path / "waves")
    (tmp_path / "ae8.txt").write_text("flux (cm^2 s MeV)^-1\n2 2\n3.0 7.0\n0.1 1.0\n1e7 1e7\n1e5 1e5\n")
    case = made(parameters=WAVES + '\nwave_tables = "waves"', folder=tmp_path,
                initial='model = "flux-table"\nflux_table = "ae8.txt"\nsine_power = 2.0')
    got = np.asarray(case.problem.parameters.local(0.0, np.radians(45.0), 0.5, 4.5))
    np.testing.assert_allclose(got, 0.25 * 0.5**2 * 86400e-4 * np.array([1.0, 0.5, 1.0]), rtol=1e-6)
    assert any("wave tables: " in note for note in case.notes) and case.tables > 0
    grid = case.problem.grid
    j = np.asarray(fluxes.to_flux(grid, case.f0))
    want = 1e5 * np.asarray(grid.energy()) ** -2 * np.sin(grid.centers("alpha")) ** 2 / (8 * np.pi / 3)
    np.testing.assert_allclose(j, want, rtol=1e-6)


@pytest.mark.parametrize("kw, words", [
    ({"grid": ONE.replace("0.1 MeV", "0 MeV")}, "grid.energy = .*needs 0 < lowest < highest"),
    ({"grid": ONE.replace('["0.1 MeV", "2 MeV"]', "[0.1, 2.0]")}, "grid.energy = .*needs a number with its unit"),
    ({"grid": ONE + "\nalpha = [5.0, 95.0]"}, r"grid.alpha = .*needs 0 < lowest < highest <= 90"),
    ({"grid": ONE + "\nangle = [5.0, 90.0]"}, "grid.angle = .*unknown key"),
    ({"grid": ONE.replace("[6, 5]", "[4, 6, 5]")}, "L: needs .inner, outer. walls"),
    ({"grid": ONE.replace("L_ref = 4.5", "L = [3.0, 5.0]")}, "cells: two numbers are"),
    ({"parameters": WAVES.replace("amplitude", "amplitud")}, 'chorus.amplitud = .*did you mean "amplitude"'),
    ({"parameters": WAVES.replace("chorus", "chorous")}, r'parameters.chorous\]: unknown table \(did you mean "chorus"'),
    ({"parameters": WAVES.replace('"50 pT"', '"kp"')}, "chorus.amplitude = .kp.: needs parameters.kp"),
    ({"parameters": WAVES.replace("50 pT", "50 nT")}, 'amplitude = "50 nT": must be at most 10000 pT, such as "50 pT"'),
    ({"parameters": WAVES.replace("50 pT", "5e-7 G")}, 'unit "G" is not a unit of wave amplitude; use pT, nT, such as "50 pT"'),
    ({"parameters": WAVES.replace('"50 pT"', "50")}, 'amplitude = 50: needs a number .* such as "50 pT"'),
    ({"parameters": WAVES.replace('"100 km"', "100")}, 'loss_cone = 100: needs a number .* such as "100 km"'),
    ({"initial": START + '\naltitude = "100 cm"'}, 'altitude = .*unit "cm" is not a unit of altitude; use km, m, such'),
    ({"parameters": WAVES.replace("0.25", "1.5")}, "chorus.coverage = 1.5: must be at least 0 and at most 1"),
    ({"parameters": WAVES.replace("0.25", '0.25, outside = "edge"')}, "chorus.outside = .*belongs to parameters.wave_tables"),
    ({"parameters": WAVES + '\nwave_tables = "none"'}, "wave_tables = .none.: there is no file or folder"),
    ({"parameters": 'wave_tables = "none"'}, "wave_tables = .*needs the table parameters.chorus"),
    ({"parameters": WAVES + '\ndll = "1 1/d"'}, "parameters.dll = .*needs an axis L"),
    ({"grid": THREE, "parameters": WAVES + '\ndrift = "gradient-curvature"'}, "parameters.drift = .*needs an axis phi"),
    ({"boundary": "outer = 0.0"}, "boundary.outer = 0.0: is a wall in L"),
    ({"boundary": 'low_p = "open"'}, "boundary.low_p = .open.: is not one of the choices"),
    ({"boundary": "low_p = -1.0"}, "boundary.low_p = -1.0: must be at least 0"),
    ({"grid": THREE, "boundary": 'outer = { times = ["0 h"], factor = [1.0], mlt_log_amplitude = [1.0] }'},
     "needs a wall in L of"),
    ({"initial": START.replace("E0", "kappa = 3.0\nE0")}, "initial.kappa = 3.0: does not belong to exponential"),
    ({"initial": START.replace("1e6", "-1.0")}, "initial.flux = -1.0: must be at least 0"),
    ({"initial": START + "\nsine_power = -2.0"}, "initial.sine_power = -2.0: must be at least -1"),
    ({"initial": START + "\nat_L = 4.0\nwidth_in = 1.0\nwidth_out = 1.0"}, "initial.at_L = 4.0: needs an axis L"),
    ({"output": 'energies = ["0 MeV"]'}, "output.energies = .*must be positive"),
    ({"output": 'energies = ["1 MeV", "2.5 MeV"]'}, r"output.energies = .*: 2.5 MeV is outside the grid, 0.1 to 2 MeV at"),
    ({"grid": THREE, "output": 'energies = ["90 keV"]'}, "output.energies = .*: 0.09 MeV is outside the grid, 0.115 to 3.71 MeV"),
    ({"output": 'mu = ["100 MeV/G", "1e6 MeV/G"]'}, r"mu = .*: 1e.06 MeV/G is outside the grid, .* to .* MeV/G at K = 0.05"),
    ({"output": "K = 50.0"}, r"output.K = 50.0: K = 50 is outside the grid, .* to .* G.1/2 R_E"),
    ({"grid": ONE + "\nalpha = [5, 60]", "output": 'energies = ["3 MeV"]'}, "3 MeV is outside .* 0.1 to 2 MeV at 60 degrees"),
    ({"parameters": "fluctuations = { m = [1], density = [1e3] }"},
     r'\[parameters.fluctuations\]: belongs to equation = "drift_diffusion", not to "local_diffusion"; give the D_LL, .* as dll'),
    ({"parameters": 'mu = "1000 MeV/G"'}, 'parameters.mu = "1000 MeV/G": belongs to equation = "drift_diffusion", not .* all mu'),
    ({"boundary": "[measured]"}, r'\[measured\]: belongs to equation = "drift_diffusion", not to "local_diffusion"'),
    ({"grid": ONE + "\nmu = [0.1]"}, 'grid.mu = .0.1.: belongs to equation = "foliated", not to "local_diffusion"'),
])
def test_mistakes_are_named(kw, words, tmp_path):
    with pytest.raises(InputError, match=words) as caught:
        made(**kw, folder=tmp_path)
    assert "\n" not in str(caught.value)


def test_beyond_the_fit_of_the_closed_form_there_is_a_note():
    """Once, which names the range; none where nothing is beyond it or the case says so."""
    wide, dense = ONE.replace("2 MeV", "5 MeV"), WAVES.replace("0.25", "0.25, density = 9.0")
    (note,) = [n for n in made(grid=wide).notes if "is extrapolated" in n]
    assert "ChorusTensor is extrapolated: the grid has E = 0.165 to 3.67 MeV (fitted: 0.03 to 3)" in note
    assert any("f_pe/f_ce = 9 to 9 (fitted: 1.5 to 7.5)" in n for n in made(parameters=dense).notes)
    quiet = made(grid=wide, parameters=WAVES.replace("0.25", '0.25, outside = "extrapolate"'))
    assert not any("is extrapolated" in n for n in (*made().notes, *quiet.notes))
    with pytest.raises(ValueError, match="ChorusTensor outside: 'edge' is unknown; use 'warn' or 'extrapolate'"):
        ChorusTensor(outside="edge")


def test_drivers_that_nothing_reads_are_noted():
    unread = made(parameters=WAVES + "\nkp = 3.0\ndst = -20.0").notes
    assert [n for n in unread if "changes nothing" in n] == [
        f"parameters.{key} changes nothing: no coefficient of this case reads it" for key in ("kp", "dst")]
    assert not any("changes nothing" in n for n in made(parameters=WAVES.replace('"50 pT"', '"kp"') + "\nkp = 3.0").notes)


def test_an_amplitude_in_nT_is_one_in_pT():
    powers = [made(parameters=WAVES.replace("50 pT", text)).problem.parameters.local.power for text in ("50 pT", "0.05 nT")]
    assert powers[0].b_w == 50.0 and abs(powers[1].b_w - 50.0) < 1e-12


@pytest.mark.parametrize("kind, words", [
    ("gap", "1 of 6 tables are missing, the first L = 4, f_pe/f_ce = 2.5, E = 100 keV"),
    ("off", "row 48 is not positive semi-definite: D_ap.2 is 1.05 times D_aa D_pp"),
    ("energy", "wave_tables = .*the grid goes outside: E = .* take another grid, or chorus.outside"),
    ("L", "wave_tables = .*the grid goes outside: L = 4.13"),
])
def test_tables_that_cannot_be_used(kind, words, tmp_path):
    folder = padie(tmp_path, energies=(100, 1000) if kind == "energy" else (100, 1000, 3000), off=0.05 if kind == "off" else 0.0)
    if kind == "gap":
        (folder / "fb_l4_d2.5_e100.out").unlink()
    grid = THREE.replace("[4.0, 6.0]", "[4.0, 5.2]") if kind == "L" else ONE
    with pytest.raises(InputError, match=words) as caught:
        made(grid, WAVES + '\nwave_tables = "."', folder=folder)
    assert "\n" not in str(caught.value)
