"""The models of the belt in case files: each builds, each mistake is one line that names the key."""

from pathlib import Path

import numpy as np
import pytest

import jaxbelt as jb
from jaxbelt.cases import build
from jaxbelt.config import InputError

pytestmark = pytest.mark.plain

DATA = Path(__file__).parents[2] / "shared" / "data"
BASE = """
[case]
equation = "drift_diffusion"
epoch = "2013-03-17T00:00:00"
duration = "6 h"
[grid]
L = [3.0, 6.0]
cells = [8, 8]
[parameters]
{parameters}
[initial]
model = "uniform"
value = 1.0
[boundary]
inner = "initial"
outer = "initial"
[numerics]
dt = "600 s"
[output]
every = "6 h"
"""
MU = 'energy = "1 MeV"\nat_L = 5.0\n'


def case(parameters, **kw):
    return build(BASE.format(parameters=parameters), **kw)


@pytest.mark.parametrize("model", ["brautigam-albert", "brautigam-albert-electric", "ozeke-magnetic", "ozeke-electric",
                                   "ali-magnetic", "ali-electric", "liu-electric", "lejosne"])
def test_every_diffusion_model_builds(model):
    made = case(MU + f'kp = [3.0, 4.0]\ndll = {{ model = "{model}", log_amplitude = 0.5 }}')
    plain = case(MU + f'kp = [3.0, 4.0]\ndll = {{ model = "{model}" }}')
    ratio = [np.asarray(c.problem.parameters.dll(0.0, 4.0)) for c in (made, plain)]
    assert ratio[0] / ratio[1] == pytest.approx(np.exp(0.5), rel=1e-12)


def test_sums_of_models_and_potentials():
    both = case(MU + 'kp = 3.0\ndll = [{ model = "brautigam-albert" }, { model = "power-law", d0 = "0.5 1/d", power = 0.0 }]\n'
                'convection = { model = "dawn-dusk", e0 = 1.0 }').problem.parameters
    assert float(both.dll(0.0, 4.0)) == pytest.approx(float(jb.radial_diffusion.BrautigamAlbert(kp=3.0)(0.0, 4.0)) + 0.5)
    assert float(both.potential(0.0, 4.0, np.pi / 2)) == pytest.approx(4 * 6378.0 - 92549.6 / 4, rel=1e-4)


def test_losses_with_shadowing():
    made = case(MU + 'kp = 3.0\ndst = -80.0\nlifetime = { model = "hiss-chorus", plasmapause = "moldwin2002" }\n'
                'shadowing = { model = "dst", width = 0.0 }').problem.parameters.lifetime
    l_max = 6.07e-5 * 6400 - 0.0436 * 80 + 9.37
    inside, outside = (float(made(0.0, L)) for L in (l_max - 0.05, l_max + 0.05))
    assert inside > 0.1 and outside == pytest.approx(0.1 / 1440)
    fixed = case(MU + 'shadowing = { model = "fixed", l_max = 5.0 }').problem.parameters.lifetime
    assert float(fixed(0.0, 4.0)) == np.inf


def test_populations_and_several_mu():
    made = case('kp = 2.0\npopulations = [{ species = "proton", energy = "50 keV", at_L = 5.0, factor = 2.0 }, '
                '{ name = "e", energy = "50 keV", at_L = 5.0 }]')
    assert made.problem.grid.names == ("population", "L", "phi") and made.f0[:, 0, 0].tolist() == [2.0, 1.0]
    assert np.asarray(made.problem.boundary["outer"]).tolist() == [2.0, 1.0]
    several = case('mu = ["100 MeV/G", "500 MeV/G"]\ndll = "0.1 1/d"')
    assert several.problem.grid["mu"].centers.tolist() == [100.0, 500.0]
    assert several.problem.parameters.kinetic.mu.tolist() == [100.0, 500.0]


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the folder shared/data with the measured drivers")
def test_drivers_from_a_file():
    made = case(MU + 'drivers_file = "omni2_2013.txt"\ndll = { model = "brautigam-albert" }\n'
                'shadowing = { model = "shue1998" }', folder=DATA)
    assert set(made.drivers) == {"kp", "bz", "pdyn"}
    assert made.drivers["kp"]["values"][-2:] == pytest.approx([2.0, 7 / 3], abs=1e-12)
    with pytest.raises(InputError, match="pdyn"):
        build(BASE.replace("2013-03-17", "2013-05-18").replace("6 h", "24 h").format(
            parameters='drivers_file = "omni2_2013.txt"\nshadowing = { model = "shue1998" }'), folder=DATA)


@pytest.mark.parametrize("parameters, words", [
    ("kp = [3.0]", "parameters.kp = .*holds 1 values of 3 h, but the run lasts 2 times 3 h"),
    ('dst = [-10.0]', "parameters.dst = .*holds 1 values of 1 h, but the run lasts 6 times 1 h"),
    ('kp = 12.0', "parameters.kp = 12.0: must be"),
    ('dll = { model = "lejosna" }', 'parameters.dll.model = "lejosna": .*did you mean "lejosne"'),
    ('dll = { model = "brautigam-albert" }', "parameters.dll.model = .*needs parameters.kp or parameters.kp_file"),
    ('kp = 3.0\ndll = { model = "lejosne" }', "parameters.dll.model = .*needs parameters.mu, or energy and at_L"),
    ('kp = 3.0\ndll = { model = "ali-magnetic", power = 3.0 }', "parameters.dll.power = 3.0: does not belong to ali-magnetic"),
    (MU + 'kp = 6.0\ndll = { model = "lejosne" }', r"\[parameters.dll\] Lejosne kp = 6"),
    ('shadowing = { model = "dst" }', "parameters.shadowing.model = .*needs parameters.dst or parameters.drivers_file"),
    ('shadowing = { model = "fixed" }', "parameters.shadowing.model = .*needs l_max"),
    ('kp = 3.0\nconvection = { model = "volland-stern", e0 = 1.0 }', "parameters.convection.e0 = 1.0: belongs to"),
    ('kp = 3.0\nlifetime = { model = "hiss-chorus" }', "parameters.lifetime.model = .*needs parameters.mu"),
    ('mu = ["500 MeV/G", "100 MeV/G"]', "parameters.mu = .*must be positive and increase"),
    ('species = "proton"\npopulations = [{ mu = "1 MeV/G" }]', "parameters.species = .*give it in each of"),
    ('drivers_file = "nothing.txt"\ndll = { model = "brautigam-albert" }', "parameters.drivers_file = .*there is no file"),
])
def test_mistakes_are_named(parameters, words):
    with pytest.raises(InputError, match=words) as caught:
        case(parameters)
    assert "\n" not in str(caught.value)
