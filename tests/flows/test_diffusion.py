"""`LineDiffusion`: orders in time and space, positivity of large steps, walls, fitted drift, exact steady states, content."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from compiling import plain_jit

from jaxbelt import linear
from jaxbelt.coefficients import Series, Time, function
from jaxbelt.flows import Flow, LineDiffusion, flow
from jaxbelt.flows.exponential import propagator
from jaxbelt.flows.weights import fitted, line_conductances
from jaxbelt.grid import Axis, Grid
from jaxbelt.solve import make_problem, solve


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
    of_rates = jax.jit(lambda dt, feeds, *rates: propagator(linear.Line(*rates, cyclic=cyclic), feeds, dt))
    for dt in (1e-3, 0.7, 40.0):
        volume, up, down, loss = (10.0 ** rng.uniform(-1.5, 1.5, k) for k in (n, n + 1, n + 1, n))
        if cyclic:
            up[-1], down[-1] = up[0], down[0]
        line = linear.Line(*(jnp.asarray(x) for x in (volume, up, down, loss)), cyclic=cyclic)
        a = np.asarray(jax.vmap(linear.apply, (None, 1), 1)(line, jnp.eye(n)))
        q = -volume[:, None] * a / volume[None, :]                    # on contents
        exact = scipy.linalg.expm(q * dt)
        feeds = rng.uniform(size=(n, 2))
        p = np.asarray(of_rates(dt, feeds, volume, up, down, loss))
        assert p.shape == (n + 3, n + 2) and np.all(p >= 0)
        np.testing.assert_allclose(p[:n, :n], exact, rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(p[:, :n].sum(axis=0), 1.0, rtol=1e-14)
        # what a constant feed has left in the cells: Q^-1 (exp(Q dt) - 1) times it
        np.testing.assert_allclose(p[:n, n:], np.linalg.solve(q, (exact - np.eye(n)) @ feeds), rtol=1e-9, atol=1e-13)
        np.testing.assert_allclose(p[:, n:].sum(axis=0), dt * feeds.sum(axis=0), rtol=1e-13)


@pytest.mark.parametrize("axis,own", [("psi", ()), ("p", ()), ("psi", (1,)), ("p", (0, 2)), ("psi", (0, 1, 2))])
def test_exponential_lines_that_share_matrices(own, axis):
    """Every line is advanced by its own matrix, whichever axes the lines share it along."""
    axes = [Axis.nodes("mu", [1.0, 2.0], [0.5, 0.8]), Axis.cells("psi", [0.0, 1.0, 3.0, 4.0, 4.5]),
            Axis.cells("chi", [0.0, 1.0, 2.0, 4.0]), Axis.cells("p", np.linspace(0, 1, 5))]
    grid = Grid(tuple(axes))
    k, rng = grid.index(axis), np.random.default_rng(0)
    others = [i for i in range(4) if i != k]
    shape = [1] * 4
    shape[k] = 5
    for i in own:
        shape[others[i]] = grid.shape[others[i]]
    up, down, f = (jnp.asarray(rng.uniform(size=n)) for n in (shape, shape, grid.shape))
    flow = LineDiffusion(axis=axis, up=up, down=down, method="exponential")
    got = plain_jit(steps, static_argnums=(0, 4))(grid, flow, f, 0.7, 1)
    many = [*grid.shape[:k], 5, *grid.shape[k + 1:]]
    up, down, f, got = (np.moveaxis(np.broadcast_to(x, n), k, -1) for x, n in
                        ((up, many), (down, many), (f, grid.shape), (got, grid.shape)))
    volume = grid[axis].measure
    for at in np.ndindex(*f.shape[:-1]):
        u, d = up[at], down[at]
        q = np.diag(u[1:-1], -1) + np.diag(d[1:-1], 1) - np.diag(u[1:] + d[:-1])
        exact = scipy.linalg.expm(0.7 * q / volume[None, :]) @ (volume * f[at]) / volume
        np.testing.assert_allclose(got[at], exact, rtol=1e-12)


def test_exponential_gradient():
    """d/d(rates, loss, source, walls, f) of a step through many squarings: reverse == forward == differences."""
    n = 12
    mu, x, y = Axis.nodes("mu", [1.0, 2.0], [0.5, 0.8]), Axis.cells("x", np.linspace(0, 1, n + 1)), Axis.nodes("y", [1.0, 2.0])
    grid = Grid((mu, x, y))
    rng = np.random.default_rng(2)
    x0 = {"up": 30.0 * rng.uniform(0.5, 1, (1, n + 1, 2)), "down": 30.0 * rng.uniform(0.5, 1, (1, n + 1, 2)),
          "loss": rng.uniform(size=(1, n, 1)), "source": rng.uniform(size=(2, n, 2)), "lower": np.asarray(0.7),
          "upper": rng.uniform(size=(2, 2)), "f": rng.uniform(size=grid.shape)}
    way = jax.tree.map(lambda x: x * rng.uniform(-1, 1, x.shape), x0)
    weight = rng.uniform(size=grid.shape)

    def value(x):
        flow = LineDiffusion(axis="x", method="exponential", **{k: v for k, v in x.items() if k != "f"})
        f, budget = flow.advance(grid, flow.prepare(grid, 0.2), x["f"], Time.at(0.0), 0.2)
        return jnp.sum(weight * f) + 0.3 * budget["x.lower"] - 0.1 * budget["x.upper"] + 0.2 * budget["loss"]

    back = plain_jit(jax.grad(value))(x0)
    forward = plain_jit(lambda x: jax.jvp(value, (x,), (way,)))
    along = float(forward(x0)[1])
    assert along == pytest.approx(sum(float(jnp.sum(back[k] * way[k])) for k in x0), rel=1e-11)
    h = 1e-4
    v = [float(forward(jax.tree.map(lambda a, b, s=s: a + s * h * b, x0, way))[0]) for s in (-2, -1, 1, 2)]
    assert along == pytest.approx((8 * (v[2] - v[1]) - (v[3] - v[0])) / (12 * h), rel=1e-8)


def test_exponential_number_over_a_thousand_steps():
    n = 60
    grid = Grid((Axis.cells("x", np.linspace(0, 1, n + 1)), Axis.cells("y", np.linspace(0, 1, 5))))
    rng = np.random.default_rng(0)
    up = rng.uniform(1.0, 500.0, (n + 1, 4))
    up[0] = up[-1] = 0.0
    flow = LineDiffusion(axis="x", up=jnp.asarray(up), method="exponential")
    f0 = jnp.asarray(rng.uniform(size=grid.shape) ** 6)
    f = steps(grid, flow, f0, 0.01, 1000)
    drift = float(grid.content(f) / grid.content(f0)) - 1
    print(f"number after 1000 products: {drift:.1e}")
    assert abs(drift) <= 1e-12 and float(jnp.min(f)) >= 0.0
    # a flat state stays, to the last digits
    np.testing.assert_allclose(steps(grid, flow, jnp.ones(grid.shape), 0.01, 1000), 1.0, rtol=2e-13)


@flow
class Halved(Flow):
    """A flow that does not say that it is exact."""

    inner: Any
    steady = True

    def prepare(self, grid, dt):
        return self.inner.prepare(grid, dt)

    def advance(self, grid, state, f, t, dt):
        return self.inner.advance(grid, state, f, t, dt)


def test_halves_of_steps_are_joined_where_that_is_exact(plain_solve):
    """The exponential says so itself: constant coefficients, walls and sources. `solve` then gives what separate halves give."""
    n = 10
    grid = Grid((Axis.cells("x", np.linspace(0, 1, n + 1)), Axis.cells("y", np.linspace(0, 1, 4))))
    up = jnp.asarray(np.random.default_rng(0).uniform(1, 3, (n + 1, 1))).at[-1].set(0.0)
    jump, ramp = Series([0.0, 0.5], [1.0, 2.0]), Series([0.0, 1.0], [1.0, 2.0], "linear")
    bare = LineDiffusion(axis="x", up=up, loss=0.2, method="exponential")
    first = dataclasses.replace(bare, source=0.3, lower=jump)
    assert bare.exact and first.exact and dataclasses.replace(bare, lower=1.5, upper=jnp.ones(3)).exact
    assert not dataclasses.replace(bare, lower=ramp).exact and not dataclasses.replace(bare, upper=lambda t, y: t).exact
    assert not LineDiffusion(axis="x", up=up).exact and not dataclasses.replace(first, steady=False).exact
    other = LineDiffusion(axis="y", up=closed(3, 1.0)[None, :])
    f0 = jnp.asarray(np.random.default_rng(1).uniform(size=grid.shape))
    runs = []
    for outer in (first, Halved(inner=first)):
        problem = make_problem(lambda problem, t, dt, outer=outer: [outer, other], grid, {}, boundary={"lower": jump})
        runs.append(solve(problem, f0, t=[0.0, 0.5, 1.0], dt=0.1))
        content = grid.content(runs[-1].f)
        np.testing.assert_allclose(content, content[0] + sum(runs[-1].budget.values()), rtol=1e-13)
    np.testing.assert_allclose(runs[0].f, runs[1].f, rtol=1e-12)
    for name in runs[0].budget:
        np.testing.assert_allclose(runs[0].budget[name], runs[1].budget[name], rtol=1e-12, atol=1e-14)


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
