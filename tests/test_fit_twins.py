"""Twin experiments: parameters found again from what a run with known ones would have shown, and how often the intervals hold."""

import importlib.util
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fit_twins import DT, GRID, PARAMETERS, START, T, orbit

import jaxbelt as jb
from jaxbelt import drift_diffusion as dd
from jaxbelt import foliated, kinetic, two_field, velocity
from jaxbelt.physics.free_form import Knots

pytestmark = pytest.mark.plain
L_KNOTS = np.array([3.0, 3.6, 4.2, 4.9, 5.6, 6.4, 7.0])


@pytest.fixture(scope="module")
def twins():
    """The experiment of the same name: its cases, noise, fits and coverage."""
    path = pathlib.Path(__file__).parents[1] / "experiments" / "twin_inversion.py"
    spec = importlib.util.spec_from_file_location("twin_inversion", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["twin_inversion"] = module
    spec.loader.exec_module(module)
    return module


def check(twins, case, most, seed=0, sigmas=3.5):
    """A fit from the wrong start: converged within `most` iterations, errors within the stated sigma, chi^2 as it should be."""
    z, known, _ = twins.truth_of(case)
    fit = twins.fit(case, twins.noisy(case, z, seed), "gauss-newton")
    assert fit.converged and len(fit.history) - 1 <= most, fit.message
    assert np.all(np.abs(fit.theta - known.start) < sigmas * fit.sigma_theta)
    assert fit.reduced_chi2 == pytest.approx(1.0, abs=5 * np.sqrt(2 / fit.dof))
    assert not any(np.isinf(d.sigma) for d in fit.undetermined)
    return fit


def small_belt(twins, knots):
    truth = np.log(np.asarray(PARAMETERS.dll(0.0, L_KNOTS)))
    dll = Knots(L=L_KNOTS, log_d=truth) if knots else PARAMETERS.dll
    problem = dd.problem(GRID, PARAMETERS.replace(dll=dll), inner=1e-3, outer=1.0)
    free = (jb.Free("dll.log_d", prior=jb.Smooth(1.0, x=np.log(L_KNOTS))),) if knots else ("dll.log_amplitude", "dll.power")
    start = (truth + 1.0,) if knots else (1.0, 8.0)
    sees = orbit() if not knots else orbit(low=4.8, high=5.6)
    return twins.case(problem, START, jb.AlongOrbit(orbit=sees), (60,), free, start, 0.05 if knots else 0.15, t=T, dt=DT)


# ---- quick ones

def test_two_parameters_and_the_linearised_coverage(twins):
    case = small_belt(twins, knots=False)
    check(twins, case, most=6)
    assert 0.93 <= twins.linearised(case) <= 0.97


def test_rates_of_mixing_from_distributions(twins):
    grid = kinetic.grid(0.8, v=(0.4, 3.0), trapped=4, passing=4)
    problem = kinetic.problem(grid, kinetic.Parameters(nu_par=1.0, nu_xi=0.2))
    f0 = np.asarray(kinetic.start(grid, np.exp(-0.5 * grid["v"].centers ** 2)))
    free = tuple(jb.Free(n, transform="log") for n in ("nu_par", "nu_xi"))
    check(twins, twins.case(problem, f0, jb.State(times=(1.0, 2.0, 3.0)), (3, *grid.shape), free, (0.3, 0.6), 0.1,
                            t=[0.0, 1.0, 2.0, 3.0], dt=0.5), most=8)


def test_rates_and_depth_of_the_wells_from_two_fields(twins):
    grid = two_field.grid(v=(0.2, 8.0), cells=40)
    problem = two_field.problem(grid, two_field.Parameters(nu_par=1.0, nu_xi=0.2, h=0.8))
    g = np.exp(-0.5 * grid["v"].centers ** 2) + 1e-6 * grid["v"].centers ** -4.0
    free = tuple(jb.Free(n, transform="log") for n in ("nu_par", "nu_xi", "h"))
    t = np.linspace(0.0, 24.0, 7)
    check(twins, twins.case(problem, np.broadcast_to(g, grid.shape), jb.State(times=t[1:]), (6, *grid.shape), free,
                            (0.5, 0.4, 0.5), 0.1, t=t, dt=1.0), most=10)


def test_velocity_diffusion_knows_one_combination_of_its_rates(twins):
    """g depends on nu_par G alone: of ln nu_par, ln nu_xi and ln h two combinations stay open, and the third is that of ln G."""
    grid = velocity.grid(v=(0.2, 8.0), cells=40)
    problem = velocity.problem(grid, velocity.Parameters(nu_par=1.0, nu_xi=0.2, h=0.8))
    g = np.exp(-0.5 * grid["v"].centers ** 2) + 1e-6 * grid["v"].centers ** -4.0
    free = tuple(jb.Free(n, transform="log") for n in ("nu_par", "nu_xi", "h"))
    t = np.linspace(0.0, 60.0, 4)
    case = twins.case(problem, g, jb.State(times=t[1:]), (3, 40), free, (0.8, 0.2, 0.8), 0.1, t=t, dt=2.0)
    z, known, _ = twins.truth_of(case)
    fit = twins.fit(case, twins.noisy(case, z, 0), "gauss-newton")
    assert fit.converged and np.all(np.isinf(fit.sigma_theta))
    assert [np.isinf(d.sigma) for d in fit.undetermined] == [True, True]

    def rate(p):
        return jnp.log(velocity.diffusion_rate(p.nu_par, p.nu_xi, p.h))

    slope = jax.grad(lambda x: rate(velocity.Parameters(nu_par=jnp.exp(x[0]), nu_xi=jnp.exp(x[1]), h=jnp.exp(x[2]))))(fit.theta)
    for d in fit.undetermined:                                 # they leave ln(nu_par G) where it is
        assert abs(np.dot([d.weights[k] for k in fit.labels], slope)) < 1e-4
    assert fit.dof == pytest.approx(120 - 1, abs=1e-3)
    # what is known of them together has its error, what is not has none
    value, error = fit.propagate(rate)
    assert 0.001 < error < 0.1 and abs(value - np.log(velocity.diffusion_rate(1.0, 0.2, 0.8))) < 4 * error
    assert np.isinf(fit.propagate(lambda p: p.h)[1])


@pytest.mark.filterwarnings("ignore:cells of chi")
@pytest.mark.slow
def test_noise_of_the_foliated_equation_from_temperatures(twins):
    grid = foliated.grid(psi=(0.5, 0.7), cells=(8, 16, 8), mu=[1.0], v_max=4.0)
    problem = foliated.problem(grid, foliated.Parameters(D_perp=5e-3, alpha=0.5), inner="absorbing", outer="absorbing", dt=0.5)
    c = foliated.coordinates(grid)
    above = foliated.live(grid)[None, :, :, None]
    f0 = above * np.exp(-0.5 * c.v**2 - ((c.psi - 0.6) / 0.05) ** 2) * np.ones(grid.shape)
    times = np.arange(1, 7) * 1.0
    free = (jb.Free("D_perp", transform="log"), jb.Free("alpha", transform="logit", bounds=(0.0, 1.0)))
    case = twins.case(problem, f0, jb.Moments(names=("T_perp", "number"), times=times), (2, 6), free, (2e-3, 0.25), 0.03,
                      t=np.r_[0.0, times], dt=0.5)
    fit = check(twins, case, most=10)
    assert fit.sigma["D_perp"] < 0.3 * fit.values["D_perp"] and fit.sigma["alpha"] < 0.3
    with pytest.raises(ValueError, match="dt: the tables of this problem are for steps of 0.5"):
        jb.fit(problem, f0, twins.data_of(case, np.ones((2, 6))), free, t=case.t, dt=0.25)


# ---- long ones

@pytest.mark.slow
@pytest.mark.parametrize("knots, fits", [(False, 200), (True, 200)], ids=["two parameters", "knots"])
def test_coverage(twins, knots, fits):
    """95 % intervals hold the true value in 93 to 97 % of linearised draws and in 90 to 99 % of full fits."""
    case = small_belt(twins, knots)
    assert 0.93 <= twins.linearised(case) <= 0.97
    held, done = twins.full(case, fits)
    assert done >= 0.99 * fits
    # a prior of smoothness pulls towards the truth here, a power law: too many rather than too few
    assert 0.90 <= held <= (1.0 if knots else 0.99)


@pytest.mark.slow
@pytest.mark.parametrize("name, most", [("two", 5), ("knots", 10), ("kp", 8), ("mlt", 10), ("foliated", 10), ("kinetic", 6),
                                        ("two_field", 6), ("velocity", 6)])
def test_the_table(twins, name, most):
    check(twins, twins.CASES[name](), most)
