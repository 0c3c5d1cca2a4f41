"""Gradients of whole runs with respect to every parameter: reverse == forward == central differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jaxbelt as jb
from jaxbelt import drift_diffusion as dd
from jaxbelt.physics.dipole import KineticEnergy, mu_of_energy
from jaxbelt.physics.losses import KpLifetime
from jaxbelt.physics.radial_diffusion import BrautigamAlbert, PowerLaw


def check(problem, f0, t, dt, eps=1e-4, tol=1e-7, both=False):
    """Gradient of a smooth functional with respect to all parameters and walls, three ways, in a scaled basis."""
    grid = problem.grid
    weight = jnp.asarray(grid.volumes) * (1.3 + jnp.sin(jnp.arange(f0.size).reshape(f0.shape)))
    flat, unravel = ravel_pytree((problem.parameters, problem.boundary))
    scale = jnp.where(jnp.abs(flat) > 0, jnp.abs(flat), 1.0)
    direction = jax.random.normal(jax.random.key(0), flat.shape)

    @jax.jit
    def loss(x):
        prm, boundary = unravel(flat + x * scale)
        sol = jb.solve(problem.replace(parameters=prm, boundary=boundary), f0, t=t, dt=dt)
        return jnp.sum(weight * sol.f[-1]) + 0.1 * jnp.sum(weight * sol.f[1] ** 2)

    zero = jnp.zeros_like(flat)
    reverse = jax.jit(jax.grad(loss))(zero)
    assert jnp.all(jnp.isfinite(reverse))
    if both:                                             # grad(jit) as well as jit(grad)
        assert jnp.allclose(reverse, jax.grad(loss)(zero), rtol=1e-11, atol=1e-14 * float(jnp.linalg.norm(reverse)))
    _, forward = jax.jvp(loss, (zero,), (direction,))
    size = float(jnp.linalg.norm(reverse) * jnp.linalg.norm(direction))
    assert abs(float(forward - reverse @ direction)) < 1e-11 * size
    # fourth-order central difference: its own error is far below the tolerance
    h = eps / float(jnp.linalg.norm(direction))
    d = [float(loss(k * h * direction) - loss(-k * h * direction)) for k in (1, 2)]
    central = (8 * d[0] - d[1]) / (12 * h)
    assert abs(central - float(forward)) < tol * size
    return reverse


def belt(cells=(24, 16)):
    grid = dd.grid(L=(3.0, 7.0), cells=cells)
    L, phi = grid.mesh()
    return grid, jnp.asarray(1.5 + np.sin(L) * np.ones_like(phi) + 0.2 * np.cos(phi - 0.3) * np.exp(-((L - 5) ** 2)))


def test_radial_diffusion_with_kp_and_lifetimes():
    grid = dd.grid(L=(3.0, 7.0), cells=40)
    kp = jb.Series([0, 10800.0], [2.0, 4.7])
    prm = dd.Parameters(dll=BrautigamAlbert(kp=kp), lifetime=KpLifetime(kp=kp, width=0.5), source=0.01)
    problem = dd.problem(grid, prm, inner=0.2, outer=jb.Series([0, 21600.0], [1.0, 2.0], kind="linear"))
    g = check(problem, jnp.asarray(1 + np.sin(grid["L"].centers) ** 2), [0, 10800, 21600.0], 900.0)
    assert jnp.sum(g != 0) >= 8


def test_rings_with_azimuthal_diffusion():
    grid, f0 = belt()
    kp = jb.Series([0, 5400.0], [3.0, 5.0])
    prm = dd.Parameters(dll=BrautigamAlbert(kp=kp), dphiphi=PowerLaw(d0=1e-3, power=2.0),
                        kinetic=KineticEnergy(mu=float(mu_of_energy(0.5, 5.0))), lifetime=4.0)
    check(dd.problem(grid, prm, inner=0.5, outer=1.0 + 0.3 * np.cos(grid["phi"].centers)), f0, [0, 3600, 10800.0], 600.0)


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


def test_full_tensor():
    grid, f0 = belt((16, 12))
    prm = dd.Parameters(dll=PowerLaw(d0=1e-6, power=8.0), dlphi=jb.function(lambda t, L, phi, c: c * L**3, steady=True, c=3e-3),
                        dphiphi=2.0)
    check(dd.problem(grid, prm, inner=1.0, outer=1.5), f0, [0, 1800, 3600.0], 900.0)


@pytest.mark.parametrize("steps", [40, 75])
def test_many_steps_in_one_interval(steps):
    grid = dd.grid(L=(3.0, 7.0), cells=30)
    problem = dd.problem(grid, dd.Parameters(dll=PowerLaw(d0=1e-8, power=10.0), lifetime=3.0), inner=0.1, outer=1.0)
    check(problem, jnp.asarray(1 + np.sin(grid["L"].centers) ** 2), [0, 600.0, 1200.0 * steps], 1200.0)


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


def test_no_nan_in_the_gradient_at_vacuum():
    grid = dd.grid(L=(3.0, 7.0), cells=(20, 16))
    prm = dd.Parameters(dll=PowerLaw(d0=1e-6, power=8.0), kinetic=KineticEnergy(mu=float(mu_of_energy(0.1, 5.0))), dphiphi=0.1)
    problem = dd.problem(grid, prm, inner=0.0, outer=0.0)
    f0 = np.zeros(grid.shape)
    f0[10, 3] = 1.0

    def loss(p):
        return jnp.sum(jb.solve(problem.replace(parameters=p), f0, t=[0, 3600.0], dt=600.0).f[-1] ** 2)

    g, _ = ravel_pytree(jax.grad(loss)(problem.parameters))
    assert jnp.all(jnp.isfinite(g)) and jnp.any(g != 0)
    forward = jax.jvp(loss, (problem.parameters,), (jax.tree.map(jnp.ones_like, problem.parameters),))[1]
    assert abs(float(forward - jnp.sum(g))) < 1e-9 * float(jnp.linalg.norm(g))
