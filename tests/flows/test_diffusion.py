"""`LineDiffusion`: orders in time and space, positivity of large steps, walls, fitted drift, exact steady states, content."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from jaxbelt import linear
from jaxbelt.coefficients import Time, function
from jaxbelt.flows import LineDiffusion
from jaxbelt.flows.exponential import propagator
from jaxbelt.flows.weights import fitted, line_conductances
from jaxbelt.grid import Axis, Grid


def uniform(n, length=1.0):
    return Grid((Axis.cells("x", np.linspace(0, length, n + 1)),))


def closed(n, g):
    return jnp.full(n + 1, g).at[0].set(0.0).at[-1].set(0.0)


@partial(jax.jit, static_argnums=(0, 4))
def steps(grid, flow, f, dt, count):
    state = flow.prepare(grid, dt)

    def one(f, i):
        return flow.advance(grid, state, f, Time.at(0.0).plus(i * dt), dt)[0], None

    return jax.lax.scan(one, f, jnp.arange(count))[0]


def order(errors):
    return np.log2(np.asarray(errors[:-1]) / np.asarray(errors[1:]))


def test_second_order_in_time():
    """A cosine of a closed line decays as the discrete operator says."""
    n, t = 32, 0.2
    grid = uniform(n)
    flow = LineDiffusion(axis="x", up=closed(n, float(n)))
    x = grid["x"].centers
    rate = 4 * n**2 * np.sin(np.pi / (2 * n)) ** 2
    f0 = jnp.asarray(2 + np.cos(np.pi * x))
    exact = 2 + np.cos(np.pi * x) * np.exp(-rate * t)
    errors = [float(jnp.max(jnp.abs(steps(grid, flow, f0, t / k, k) - exact))) for k in (4, 8, 16, 32)]
    print(errors, order(errors))
    assert np.all(order(errors) >= 1.9)
    # the same data without the blend: it is not used where all is resolved
    free = LineDiffusion(axis="x", up=closed(n, float(n)), positive=False)
    assert bool(jnp.all(steps(grid, free, f0, t / 8, 8) == steps(grid, flow, f0, t / 8, 8)))


@pytest.mark.plain
def test_second_order_in_space():
    """sin(pi x) between walls at 0; the wall's half cell has twice the conductance."""
    t, errors = 0.05, []
    for n in (12, 24, 48):
        grid = uniform(n)
        up = jnp.full(n + 1, float(n)).at[0].mul(2.0).at[-1].mul(2.0)
        flow = LineDiffusion(axis="x", up=up, lower=0.0, upper=0.0, method="exponential")
        x = grid["x"].centers
        f = steps(grid, flow, jnp.asarray(np.sin(np.pi * x)), t, 1)
        errors.append(float(jnp.max(jnp.abs(f - np.sin(np.pi * x) * np.exp(-np.pi**2 * t)))))
    print(errors, order(errors))
    assert np.all(order(errors) >= 1.9)


@pytest.mark.parametrize("ratio,least", [(5, -0.012), (10, -0.032), (30, -0.029), (100, -0.018), (1000, -0.006)])
def test_one_large_step_from_a_delta(ratio, least):
    """TR-BDF2 alone undershoots by the known amount; the flow does not, keeps content, and its five steps stay close."""
    n = 401
    grid = uniform(n, float(n))
    f0 = jnp.zeros(n).at[n // 2].set(1.0)
    bare = steps(grid, LineDiffusion(axis="x", up=closed(n, float(ratio)), positive=False), f0, 1.0, 1)
    assert abs(float(jnp.min(bare)) - least) <= 6e-4
    f = steps(grid, LineDiffusion(axis="x", up=closed(n, float(ratio))), f0, 1.0, 1)
    assert float(jnp.min(f)) >= 0.0
    assert abs(float(jnp.sum(f)) - 1) <= 1e-13
    step = (jnp.arange(n) < n // 2).astype(float)
    assert float(jnp.min(steps(grid, LineDiffusion(axis="x", up=closed(n, float(ratio))), step, 1.0, 1))) >= 0.0


@pytest.mark.parametrize("cyclic", [False, True], ids=["walls", "ring"])
@pytest.mark.plain
def test_exponential_is_the_matrix_exponential(cyclic):
    rng = np.random.default_rng(1)
    n = 10
    for dt in (1e-3, 0.7, 40.0):
        volume, up, down, loss = (10.0 ** rng.uniform(-1.5, 1.5, k) for k in (n, n + 1, n + 1, n))
        if cyclic:
            up[-1], down[-1] = up[0], down[0]
        line = linear.Line(*(jnp.asarray(x) for x in (volume, up, down, loss)), cyclic=cyclic)
        a = np.asarray(jax.vmap(linear.apply, (None, 1), 1)(line, jnp.eye(n)))
        q = -volume[:, None] * a / volume[None, :]                    # on contents
        exact = scipy.linalg.expm(q * dt)
        p = np.asarray(propagator(line, jnp.zeros(n), dt))
        assert np.all(p >= 0)
        np.testing.assert_allclose(p[:n, :n], exact, rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(p[:, :n].sum(axis=0), 1.0, rtol=1e-14)


@pytest.mark.plain
def test_time_dependent_wall_is_second_order():
    """f = 2 + exp(-x) cos(2 t - x) solves f_t = f_xx: the skin layer of an oscillating wall."""
    n, t = 128, 1.0
    grid = uniform(n)
    x = grid["x"].centers

    def exact(t, x):
        return 2 + jnp.exp(-x) * jnp.cos(2 * t - x)

    wall = [function(lambda t, x, f=exact: f(t, x), x=at) for at in (0.0, 1.0)]
    up = jnp.full(n + 1, float(n)).at[0].mul(2.0).at[-1].mul(2.0)
    flow = LineDiffusion(axis="x", up=up, lower=wall[0], upper=wall[1])
    f0 = exact(0.0, jnp.asarray(x))
    fine = steps(grid, flow, f0, t / 640, 640)
    assert float(jnp.max(jnp.abs(fine - exact(t, x)))) <= 1e-4
    errors = [float(jnp.max(jnp.abs(steps(grid, flow, f0, t / k, k) - fine))) for k in (5, 10, 20, 40)]
    print(errors, order(errors))
    assert np.all(order(errors) >= 1.9)


def test_fitted_drift_keeps_its_profile():
    """Zero flux for f ~ exp(Pe s) from gentle to steep drift; beyond all numbers the upwind limit."""
    n = 20
    grid = uniform(n)
    for peclet in (1e-6, 0.01, 1.0, 5.0, -3.0):
        pe = jnp.full(n + 1, peclet)
        up, down = fitted(closed(n, float(n)), pe)
        f0 = jnp.asarray(np.exp(peclet * np.arange(n) - max(peclet, 0.0) * (n - 1)))
        f = steps(grid, LineDiffusion(axis="x", up=up, down=down), f0, 10.0, 5)
        np.testing.assert_allclose(f, f0, rtol=1e-11, err_msg=str(peclet))
    up, down = fitted(jnp.asarray([2.0, 2.0]), jnp.asarray([1e4, -1e4]))
    np.testing.assert_allclose(up, [2e4, 0.0])
    np.testing.assert_allclose(down, [0.0, 2e4])
    slope = jax.grad(lambda p: fitted(1.0, p)[1])
    for peclet in (0.0, 1e-3 * (1 - 1e-12), 1e-3 * (1 + 1e-12), 600.0, -600.0):
        assert bool(jnp.isfinite(slope(peclet)))
    assert float(slope(0.0)) == pytest.approx(-0.5)


def test_velocity_steady_state():
    """g = v^-3 between walls: D = c v^2, cells uniform in ln v, conductance nu v_f^3/dx."""
    n = 60
    x = np.linspace(0.0, 3.0, n + 1)
    dx = x[1] - x[0]
    v = np.exp(x)
    grid = Grid((Axis.cells("v", v, measure=(v[1:] ** 3 - v[:-1] ** 3) / 3, centers=np.exp(x[:-1] + dx / 2)),))
    centers = grid["v"].centers
    # the values outside are those of the next cells
    out = np.exp(x[0] - dx / 2) ** -3, np.exp(x[-1] + dx / 2) ** -3
    flow = LineDiffusion(axis="v", up=jnp.asarray(v**3 / dx), lower=out[0], upper=out[1])
    f0 = jnp.asarray(centers**-3.0)
    f = steps(grid, flow, f0, 3.0, 10)
    worst = float(jnp.max(jnp.abs(f / f0 - 1)))
    print(f"v^-3 after ten steps: {worst:.1e}")
    assert worst <= 1e-13
    # number is kept by a closed line
    closed_line = LineDiffusion(axis="v", up=jnp.asarray(v**3 / dx).at[0].set(0.0).at[-1].set(0.0))
    g = steps(grid, closed_line, f0, 3.0, 10)
    assert abs(float(grid.content(g) / grid.content(f0)) - 1) <= 1e-13


@pytest.mark.parametrize("n", [3, 4, 6, 8, 10])
def test_radial_steady_state(n):
    """f = a + b L^(3-n) with D = L^n: the change in one large step, as a flux, against the flux through the walls."""
    cells = 200
    faces = np.exp(np.linspace(0.0, np.log(7.0), cells + 1))
    lower, upper = faces[:-1], faces[1:]
    centers = np.sqrt(lower * upper)
    grid = Grid((Axis.cells("L", faces, measure=1 / lower - 1 / upper, centers=centers),))

    def exact(L):
        return 1.0 + (np.log(L) if n == 3 else L ** (3.0 - n))

    g = line_conductances(jnp.asarray(faces), jnp.asarray(centers), jnp.asarray(faces ** (2.0 - n)),
                          jnp.asarray(centers ** (2.0 - n)), True, True)
    flow = LineDiffusion(axis="L", up=g, lower=exact(1.0), upper=exact(7.0))
    f0 = jnp.asarray(exact(centers))
    dt = 10.0
    f1 = steps(grid, flow, f0, dt, 1)
    residual = grid["L"].measure * np.asarray(f1 - f0) / dt
    flux = np.asarray(g[1:-1] * (f0[1:] - f0[:-1]))
    assert np.ptp(flux) <= 1e-9 * np.max(np.abs(flux)) or n > 6
    relative = np.max(np.abs(residual)) / np.max(np.abs(flux))
    print(f"n = {n}: residual over flux {relative:.1e}, f changed by {np.max(np.abs(f1 - f0)):.1e}")
    assert relative <= (1e-14 if n <= 6 else 1e-12)


def test_content_of_a_step_and_of_ten_thousand():
    rng = np.random.default_rng(3)
    n = 50
    for cyclic in (False, True):
        grid = Grid((Axis.cells("x", np.linspace(0, 1, n + 1), periodic=cyclic),))
        up = 10.0 ** rng.uniform(-3, 3, n + 1)
        up[0] = up[-1] = 1.0 if cyclic else 0.0
        flow = LineDiffusion(axis="x", up=jnp.asarray(up))
        f0 = jnp.asarray(rng.uniform(size=n) ** 6)
        content = float(grid.content(f0))
        one, many = (float(grid.content(steps(grid, flow, f0, 1e-2, k))) / content - 1 for k in (1, 10_000))
        print(f"content after one step {one:.1e}, after 10000 {many:.1e}")
        assert abs(one) <= 1e-13
        assert abs(many) <= 1e-12


@pytest.mark.plain
def test_fast_loss_on_the_diagonal():
    """A loss a thousand times faster than the step empties its cells without a negative value and without a step error."""
    n = 100
    grid = uniform(n)
    loss = jnp.where(jnp.arange(n) >= 80, 1e5, 0.0)
    flow = LineDiffusion(axis="x", up=closed(n, float(n)), loss=loss)
    f0 = jnp.ones(n)
    fine, coarse = steps(grid, flow, f0, 0.01 / 400, 400), steps(grid, flow, f0, 0.01 / 10, 10)
    assert float(jnp.min(coarse)) >= 0.0
    error = float(jnp.max(jnp.abs(coarse - fine)))
    print(f"ten steps against four hundred: {error:.1e}")
    assert error <= 5e-3


def test_blend_follows_lines_one_by_one():
    """A line that needs no blend is the same bit for bit beside one that does."""
    n = 41
    grid = Grid((Axis.cells("x", np.linspace(0, n, n + 1)), Axis.nodes("mu", [0.0, 1.0])))
    smooth = jnp.asarray(2 + np.cos(np.pi * (np.arange(n) + 0.5) / n))
    f0 = jnp.stack([smooth, jnp.zeros(n).at[20].set(1.0)], axis=1)
    flow = LineDiffusion(axis="x", up=closed(n, 20.0)[:, None])
    f = steps(grid, flow, f0, 1.0, 1)
    alone = steps(grid, flow, jnp.stack([smooth, smooth], axis=1), 1.0, 1)
    np.testing.assert_allclose(f[:, 0], alone[:, 0], rtol=1e-15)
    assert float(jnp.min(f)) >= 0.0


def test_vacuum_stays_vacuum():
    n = 20
    grid = uniform(n)
    assert float(jnp.max(jnp.abs(steps(grid, LineDiffusion(axis="x", up=closed(n, 30.0)), jnp.zeros(n), 1.0, 3)))) == 0.0
