"""Gradients of whole runs with respect to every parameter: reverse == forward == central differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import plain_jit
from gradient_checks import agree, belt, check, functional
from jax.flatten_util import ravel_pytree

import jaxbelt as jb
from jaxbelt import drift_diffusion as dd
from jaxbelt.physics.dipole import KineticEnergy, mu_of_energy
from jaxbelt.physics.losses import KpLifetime
from jaxbelt.physics.radial_diffusion import BrautigamAlbert, PowerLaw

pytestmark = pytest.mark.plain


def test_radial_diffusion_with_kp_and_lifetimes():
    grid = dd.grid(L=(3.0, 7.0), cells=40)
    kp = jb.Series([0, 10800.0], [2.0, 4.7])
    prm = dd.Parameters(dll=BrautigamAlbert(kp=kp), lifetime=KpLifetime(kp=kp, width=0.5), source=0.01)
    problem = dd.problem(grid, prm, inner=0.2, outer=jb.Series([0, 21600.0], [1.0, 2.0], kind="linear"))
    g = check(problem, 1 + np.sin(grid["L"].centers) ** 2, [0, 10800, 21600.0], 900.0)
    assert np.sum(g != 0) >= 8


@pytest.fixture(scope="module")
def rings():
    grid, f0 = belt()
    kp = jb.Series([0, 5400.0], [3.0, 5.0])
    prm = dd.Parameters(dll=BrautigamAlbert(kp=kp), dphiphi=PowerLaw(d0=1e-3, power=2.0),
                        kinetic=KineticEnergy(mu=float(mu_of_energy(0.5, 5.0))), lifetime=4.0)
    problem = dd.problem(grid, prm, inner=0.5, outer=1.0 + 0.3 * np.cos(grid["phi"].centers))
    _, reverse, forward, zero = functional(problem, [0, 5400, 10800.0], 600.0)
    # the walls are the last of the parameters: one of their sizes less makes them zero
    walls = ravel_pytree(problem.boundary)[0].size
    empty = np.zeros_like(zero)
    empty[-walls:] = -np.sign(ravel_pytree(problem.boundary)[0])
    return reverse, forward, zero, empty, f0


def test_rings_with_azimuthal_diffusion(rings):
    reverse, forward, zero, _, f0 = rings
    agree(reverse, forward, zero, f0)


def test_no_nan_in_the_gradient_at_vacuum(rings):
    """A delta between walls at zero."""
    reverse, forward, _, empty, f0 = rings
    delta = np.zeros(f0.shape)
    delta[10, 3] = 1.0
    g = np.asarray(reverse(empty, delta))
    assert np.all(np.isfinite(g)) and np.any(g != 0)
    along = float(forward(empty, np.ones_like(g), delta)[1])
    assert abs(along - np.sum(g)) < 1e-9 * float(np.linalg.norm(g))


@pytest.mark.slow                                        # the quick run has the storm, which takes its substeps too
def test_through_convection_with_its_substeps():
    grid, f0 = belt()
    prm = dd.Parameters(dll=PowerLaw(d0=1e-8, power=10.0), kinetic=KineticEnergy(mu=float(mu_of_energy(0.05, 5.0))), lifetime=3.0,
                        potential=jb.function(lambda t, L, phi, A: A * L**2 * jnp.sin(phi) - 92.5e3 / L, steady=True, A=900.0))
    problem = dd.problem(grid, prm, inner=1.0, outer=1.5)
    # more than one substep a step, or the test would not see the loop
    assert problem.plan.drift * 900.0 / 0.8 > 2
    # WENO weights bend on the scale of the differences between cells: a smaller difference step
    check(problem, f0, [0, 1800, 3600.0], 900.0, eps=2e-6, both=True)


def test_wave():
    grid, f0 = belt()
    mu = float(mu_of_energy(1.0, 5.0))
    prm = dd.Parameters(kinetic=KineticEnergy(mu=mu), waves=(dd.Wave(potential=3e3, m=2, omega=0.012, phase=0.3),))
    check(dd.problem(grid, prm, inner="open", outer="open"), f0, [0, 600, 1200.0], 60.0, eps=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("c, offsets", [(3e-4, 3), pytest.param(3e-3, 6, marks=pytest.mark.slow)])
def test_full_tensor(c, offsets):
    grid, f0 = belt((16, 12))
    prm = dd.Parameters(dll=PowerLaw(d0=1e-6, power=8.0), dlphi=jb.function(lambda t, L, phi, c: c * L**3, steady=True, c=c),
                        dphiphi=2.0)
    problem = dd.problem(grid, prm, inner=1.0, outer=1.5)
    assert len(problem.plan.offsets) == offsets
    check(problem, f0, [0, 1800, 3600.0], 900.0)


@pytest.mark.parametrize("steps", [pytest.param(40, marks=pytest.mark.slow), 75])
def test_many_steps_in_one_interval(steps):
    grid = dd.grid(L=(3.0, 7.0), cells=30)
    problem = dd.problem(grid, dd.Parameters(dll=PowerLaw(d0=1e-8, power=10.0), lifetime=3.0), inner=0.1, outer=1.0)
    check(problem, 1 + np.sin(grid["L"].centers) ** 2, [0, 1200.0 * steps, 2400.0 * steps], 1200.0, both=True)


def test_a_gradient_keeps_two_roots_of_the_steps():
    """80 x 16 cells are 10 kB: the gradient of 1024 steps may keep 32 states, 32 results of solves, and some to work with."""
    grid = dd.grid(L=(2.0, 7.0), cells=(80, 16))
    problem = dd.problem(grid, dd.Parameters(dll=BrautigamAlbert(kp=3.0)), inner=0.1, outer=1.0)

    def loss(dll, f0):
        run = jb.solve(problem.replace(parameters=problem.parameters.replace(dll=dll)), f0, t=[0, 1024 * 600.0], dt=600.0)
        return jnp.sum(run.f[-1] ** 2)

    compiled = plain_jit(jax.value_and_grad(loss)).lower(problem.parameters.dll, jnp.ones(grid.shape)).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 1e6


def test_one_compilation_serves_a_sweep():
    grid = dd.grid(L=(3.0, 7.0), cells=30)
    traces = []

    def d(t, L, a, n):
        traces.append(1)
        return a * L**n

    def end(a, n):
        prm = dd.Parameters(dll=jb.function(d, steady=True, a=a, n=n), lifetime=n)
        return jb.solve(problem.replace(parameters=prm), jnp.ones(30), t=[0, 3600.0], dt=600.0).f[-1]

    problem = dd.problem(grid, dd.Parameters(dll=jb.function(d, steady=True, a=1e-8, n=10.0), lifetime=3.0), inner=0.0, outer=1.0)
    end(jnp.asarray(1e-8), jnp.asarray(10.0))
    before = len(traces)
    results = [end(jnp.asarray(1e-8 * k), jnp.asarray(10.0)) for k in range(1, 51)]
    assert len(traces) == before
    assert float(jnp.ptp(jnp.stack(results)[:, 15])) > 0
