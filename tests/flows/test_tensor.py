"""Full-tensor diffusion: orders, exact cases, conservation, positivity from the first step, gradients, transforms."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import plain_jit

from jaxbelt.coefficients import Time, function
from jaxbelt.flows import selling
from jaxbelt.flows.blocks import block_factor, block_solve
from jaxbelt.flows.tensor import TensorDiffusion
from jaxbelt.grid import Axis, Grid

jax.config.update("jax_enable_x64", True)

PI = np.pi


def make_grid(na, nb, periodic, x=(0.0, 1.0), y=(0.0, 1.0)):
    return Grid((Axis.cells("x", np.linspace(*x, na + 1)), Axis.cells("y", np.linspace(*y, nb + 1), periodic=periodic)))


def index_tensor(grid, d11, d12, d22):
    hx, hy = (np.diff(grid[k].faces)[0] for k in "xy")
    full = [jnp.broadcast_to(d, grid.shape) * hx * hy for d in (d11, d12, d22)]
    return dict(w11=full[0] / hx**2, w12=full[1] / (hx * hy), w22=full[2] / hy**2)


def _many(flow, grid, f, dt, steps):
    """f after `steps` steps (a traced count: one compilation serves all)."""
    state = flow.prepare(grid, dt)
    return jax.lax.fori_loop(0, steps, lambda i, f: flow.advance(grid, state, f, Time.at(i * dt), dt)[0], f)


advance_many = jax.jit(_many, static_argnames="grid")
# for errors far above rounding
quick_many = plain_jit(_many, static_argnames="grid")
decompose = jax.jit(selling.decompose, static_argnums=(3, 4))
clamped = jax.jit(selling.clamped, static_argnames=("rows", "cap"))


def orders(errors):
    errors = np.asarray(errors)
    return np.log2(errors[:-1] / errors[1:])


# ---- the decomposition ---------------------------------------------------------------------------------------------------


def random_tensors(n, seed=0, ratio=2.0, rho=0.999):
    rng = np.random.default_rng(seed)
    w11 = 10 ** rng.uniform(-3, 3, n)
    w22 = w11 * 10 ** rng.uniform(-ratio, ratio, n)
    return w11, rng.uniform(-rho, rho, n) * np.sqrt(w11 * w22), w22


@pytest.mark.parametrize("rows, cap", [(1, 32), (3, 8), (40, 40)])
def test_selling_reproduces_the_tensor(rows, cap):
    w11, w12, w22 = random_tensors(2000)
    p, q, lam, used = (np.asarray(x) for x in decompose(w11, w12, w22, rows, cap))
    assert lam.min() >= 0 and p.min() >= 0 and p.max() <= rows and abs(q).max() <= cap
    np.testing.assert_allclose((lam * p * p).sum(0), w11, rtol=1e-12)
    np.testing.assert_allclose((lam * q * q).sum(0), w22, rtol=1e-12)
    assert np.abs((lam * p * q).sum(0) - used).max() <= 1e-12 * np.sqrt(w11 * w22).max()
    report = clamped(w11, w12, w22, rows=rows, cap=cap)
    assert int(report["count"]) == int((np.abs(used - w12) > 1e-12 * np.abs(w12)).sum())
    if rows == 40:
        assert report["count"] == 0                       # Selling's theorem: nothing to clamp when all offsets are allowed
    else:
        assert 0 < report["fraction"] < 0.2


def test_clamp_is_the_bound_between_neighbours():
    # W11 = W22 = 1, |q| <= 2, |p| <= 1: the hull's edge there is (1, 0), (1, 1): W12 <= W22; slope 1 itself is allowed
    _, _, _, used = decompose(1.0, 0.999999, 1.0, 1, 2)
    assert float(used) == pytest.approx(0.999999, rel=1e-14)
    # slope sqrt 2 lies between (1, 1) and (1, 2): W12 <= (2 W11 + W22)/3
    _, _, _, used = decompose(1.0, -0.99 * np.sqrt(2.0), 2.0, 1, 2)
    assert float(used) == pytest.approx(-4 / 3, rel=1e-14)


@pytest.mark.plain
def test_psd_check():
    one = np.ones((3, 4))
    good = selling.check_psd(one, 0.5 * one, one)
    np.testing.assert_array_equal(good, 0.5)
    near = 0.5 * one
    near[1, 2] = 1.005
    with pytest.warns(UserWarning, match="1 of 12 cells"):
        fixed = selling.check_psd(one, near, one)
    assert fixed[1, 2] == 1.0 and fixed[0, 0] == 0.5
    near[2, 3] = -1.2
    with pytest.raises(ValueError, match=r"cell \(2, 3\).*1\.2"):
        selling.check_psd(one, near, one)
    with pytest.raises(ValueError, match="w22"):
        selling.check_psd(one, 0 * one, -one)
    inside = jax.grad(lambda s: jnp.sum(selling.limit_psd(one, s * near, one)))(1.0)
    assert np.isfinite(inside)


def test_block_solve_is_exact_at_any_stiffness():
    rng = np.random.default_rng(3)
    blocks, n = 7, 19
    for scale in (1.0, 1e6, 1e14):
        inner = rng.random((blocks, n, n)) * (rng.random((blocks, n, n)) < 0.2) * 10 ** rng.uniform(-3, 3, (blocks, n, n)) * scale
        inner = (inner + inner.transpose(0, 2, 1)) * (1 - np.eye(n))
        outer = rng.random((blocks, n, n)) * (rng.random((blocks, n, n)) < 0.1) * scale
        outer[-1] = 0
        sums = rng.random((blocks, n)) + 0.1
        b = np.zeros((blocks, n))
        b[2, 5] = 1.0
        x = jax.jit(block_solve)(jax.jit(block_factor)((inner, outer), sums), b)
        assert x.min() >= 0
        assert abs(float((sums * x).sum()) - 1) < 1e-14
        if scale == 1.0:
            m = np.zeros((blocks * n,) * 2)
            for i in range(blocks):
                s, e = slice(i * n, i * n + n), slice(i * n + n, i * n + 2 * n)
                m[s, s] -= inner[i]
                if i < blocks - 1:
                    m[s, e] -= outer[i]
                    m[e, s] -= outer[i].T
            np.fill_diagonal(m, sums.ravel() - m.sum(0))
            np.testing.assert_allclose(np.ravel(x), np.linalg.solve(m, b.ravel()), rtol=1e-9, atol=1e-14)


# ---- orders --------------------------------------------------------------------------------------------------------------


def manufactured(n, solution, tensor, periodic, walls, steps=None, T=0.2, **options):
    """L1 error at T of a run with the source that makes `solution` exact."""
    grid = make_grid(n, n, periodic)
    x, y = (jnp.asarray(c) for c in grid.mesh())

    def flux(t, x, y):
        fx, fy = jax.grad(solution, 1)(t, x, y), jax.grad(solution, 2)(t, x, y)
        a, b, c = tensor(x, y)
        return a * fx + b * fy, b * fx + c * fy

    @jnp.vectorize
    def source(t, x, y):
        return (jax.grad(solution, 0)(t, x, y) - jax.grad(lambda s: flux(t, s, y)[0])(x)
                - jax.grad(lambda s: flux(t, x, s)[1])(y))

    if "a" in walls:
        options |= dict(lower=function(lambda t, y: solution(t, 0.0, y)), upper=function(lambda t, y: solution(t, 1.0, y)))
    if "b" in walls:
        options |= dict(lower_b=function(lambda t, x: solution(t, x, 0.0)), upper_b=function(lambda t, x: solution(t, x, 1.0)))
    w = index_tensor(grid, *tensor(x, y))
    assert clamped(**w, rows=options.get("rows", 1))["count"] == 0
    flow = TensorDiffusion(axes=("x", "y"), source=function(lambda t, x, y: source(jnp.asarray(t, float), x, y)), **w, **options)
    steps = steps or n // 4
    exact = [jnp.broadcast_to(solution(t, x, y), grid.shape) for t in (0.0, T)]
    f = quick_many(flow, grid, exact[0], T / steps, steps)
    return float(jnp.abs(f - exact[1]).mean())


def variable_tensor(rho, ratio):
    def tensor(x, y):
        d11 = 1.0 + 0.3 * jnp.sin(2 * PI * y) * x
        d22 = ratio * (1.0 + 0.4 * jnp.cos(2 * PI * y) + 0.2 * x)
        return d11, rho * (1 - 0.2 * x) * jnp.sqrt(d11 * d22), d22
    return tensor


def wave(t, x, y):
    return jnp.exp(-t) * (1.2 + jnp.sin(2.1 * x + 0.3) * jnp.cos(2 * PI * y))


def slanted(t, x, y):
    return jnp.exp(-t) * (1.2 + jnp.sin(2.1 * x + 0.3) * jnp.cos(3.1 * y + 0.2))


@pytest.mark.parametrize("solution, rho, ratio, periodic, walls, rows", [
    (wave, 0.95, 4.0, True, "a", 1), pytest.param(slanted, -0.9, 4.0, False, "ab", 1, marks=pytest.mark.slow),
    (slanted, 0.9, 0.25, False, "ab", 3)])
@pytest.mark.plain
def test_order_with_given_wall_values(solution, rho, ratio, periodic, walls, rows):
    errors = [manufactured(n, solution, variable_tensor(rho, ratio), periodic, walls, rows=rows) for n in (16, 32)]
    assert orders(errors).min() >= 1.9, errors


@pytest.mark.parametrize("rho, ratio, transposed", [
    pytest.param(0.8, 1.0, False, marks=pytest.mark.slow), (-0.9, 4.0, False), (0.9, 4.0, True)])
@pytest.mark.plain
def test_order_at_closed_walls(rho, ratio, transposed):
    # no flux through x = 0, 1 although f varies along them: f_x + c f_y = 0 there
    c = rho * np.sqrt(ratio)

    def solution(t, x, y):
        return jnp.exp(-t) * (9 + jnp.cos(2 * PI * y) + c * jnp.sin(2 * PI * x) * jnp.sin(2 * PI * y))

    if transposed:
        # the closed walls belong to the second axis; the first one needs given values, not being periodic
        errors = [manufactured(n, lambda t, x, y: solution(t, y, x), lambda x, y: (ratio + 0 * x, c + 0 * x, 1.0 + 0 * x),
                               False, "a", rows=3) for n in (16, 32)]
    else:
        errors = [manufactured(n, solution, lambda x, y: (1.0 + 0 * x, c + 0 * x, ratio + 0 * x), True, "") for n in (16, 32)]
    assert orders(errors).min() >= 1.8, errors


M, K0 = 2, -5.0


def mode(t, x, phi, rate):
    return 2.0 + jnp.exp(-rate * t) * jnp.cos(M * phi + K0 * x)


def mode_at_wall(t, phi, x, rate):
    return mode(t, x, phi, rate)


def shear_free_mode(n, steps, rank_one, **options):
    """Exact case in x = 1/L, without rotation: constant tensor D0, C, E; error at T, relative to the amplitude."""
    x0, x1, T = 1 / 7, 1 / 2, 1.0
    grid = make_grid(n, n, True, x=(x0, x1), y=(0.0, 2 * PI))
    r = 2 * PI / (x1 - x0)
    d0 = 0.01
    # one noise along (1, 2) in index units, or a full tensor
    c, e = (2 * d0 * r, 4 * d0 * r**2) if rank_one else (0.9 * d0 * r, d0 * r**2)
    d0, c, e = (0.02 * d / d0 / r for d in (d0, c, e))
    rate = d0 * K0**2 + 2 * c * M * K0 + e * M**2
    w = index_tensor(grid, d0, c, e)
    if options.get("method") == "lines":
        options["offsets"] = selling.offset_set(**w)[::-1]
    walls = (function(mode_at_wall, x=x, rate=rate) for x in (x0, x1))
    flow = TensorDiffusion(axes=("x", "y"), **w, **dict(zip(("lower", "upper"), walls)), **options)
    f0, f1 = (mode(t, *(jnp.asarray(a) for a in grid.mesh()), rate) for t in (0.0, T))
    f = quick_many(flow, grid, f0, T / steps, steps)
    return float(jnp.abs(f - f1).mean() / np.exp(-rate * T)), w


@pytest.mark.parametrize("rank_one", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.plain
def test_exact_mode_with_moving_wall_values(rank_one):
    errors = [shear_free_mode(n, n // 2, rank_one)[0] for n in (16, 32)]
    assert orders(errors).min() >= 1.9, errors
    if rank_one:
        _, _, lam, _ = decompose(*shear_free_mode(16, 1, True)[1].values(), 1, 32)
        assert np.all(np.sort(np.asarray(lam), axis=0)[:2] < 1e-12 * lam.max())        # one direction only


@pytest.mark.plain
def test_second_order_in_time_and_no_blend_on_smooth_data():
    grid = make_grid(24, 24, True)
    x, y = (jnp.asarray(c) for c in grid.mesh())
    f0 = 1.0 + 0.9 * jnp.sin(PI * x) * jnp.cos(2 * PI * y)
    w = index_tensor(grid, *variable_tensor(0.9, 4.0)(x, y))
    runs = {}
    for positive in (True, False):
        flow = TensorDiffusion(axes=("x", "y"), positive=positive, **w)
        runs[positive] = [quick_many(flow, grid, f0, 0.02 / n, n) for n in (4, 8, 16)]
    for a, b in zip(runs[True], runs[False]):
        np.testing.assert_array_equal(a, b)                                          # blend factor 1
    coarse, medium, fine = runs[True]
    assert np.log2(jnp.abs(coarse - medium).max() / jnp.abs(medium - fine).max()) > 1.9


# ---- conservation and positivity -----------------------------------------------------------------------------------------


def closure(grid, f0, f1, budget):
    """Change of content against the budget, relative to what there is and to what went through the walls."""
    scale = float(grid.content(jnp.abs(f0))) + sum(abs(float(v)) for v in budget.values())
    return abs(float(grid.content(f1) - grid.content(f0)) - sum(float(v) for v in budget.values())) / scale


@pytest.mark.parametrize("periodic, opened, method", [
    pytest.param(periodic, opened, method, marks=() if quick else pytest.mark.slow) for method in ("unsplit", "lines")
    for periodic, opened, quick in (
        (True, {}, method == "unsplit"), (False, {}, False), (True, dict(lower=1.0), False),
        (False, dict(lower=1.0, upper=0.5, lower_b=2.0), method == "lines"),
        (False, dict(upper=0.5, upper_b=function(lambda t, x: 1 + t * x)), method == "unsplit"))])
def test_budget_closes_and_nothing_is_negative(periodic, opened, method):
    grid = make_grid(13, 12, periodic)
    rng = np.random.default_rng(5)
    # D dt/h^2 from 1e-3 to 1e3
    w11, w12, w22 = (w.reshape(grid.shape) / 156 for w in random_tensors(156, ratio=1.0, rho=0.95))
    static = dict(loss=rng.random(grid.shape), source=0.3)
    if method == "lines":
        w12 = jnp.minimum(abs(w12), 0.5 * jnp.minimum(w11, w22))
        static |= dict(method="lines", cap=1, offsets=selling.offset_set(w11, w12, w22, 1, 1))
        assert static["offsets"] == ((0, 1), (1, 0), (1, 1))
    flow = TensorDiffusion(axes=("x", "y"), w11=w11, w12=w12, w22=w22, **opened, **static)
    f = jnp.zeros(grid.shape).at[3, 5].set(1.0)
    state = jax.jit(lambda flow: flow.prepare(grid, 1.0))(flow)
    advance = jax.jit(lambda state, f, t: flow.advance(grid, state, f, Time.at(t), 1.0))
    for step in range(3):
        new, budget = advance(state, f, float(step))
        assert int(budget.pop("fault", 0)) == 0
        assert {k.split(".")[0] for k in budget} == ({"x", "source", "loss"} if periodic else {"x", "y", "source", "loss"})
        assert closure(grid, f, new, budget) < 1e-13
        assert new.min() >= 0
        f = new


@pytest.mark.parametrize("cap, opened", [(32, False), pytest.param(2, True, marks=pytest.mark.slow)])
def test_never_negative_from_rough_data(cap, opened):
    # 100 random fields: contrast 1e6, correlation to 0.999, index anisotropy to 10, D dt/h^2 to 1000
    n, fields = 24, 100
    grid = make_grid(n, n, True)
    rng = np.random.default_rng(7)
    volume = 1 / n**2
    amplitude = 10 ** rng.uniform(-3, 3, (fields, n, n)) * volume
    ratio = 10 ** rng.uniform(-1, 1, (fields, n, n))
    rho = rng.uniform(0.9, 0.999, (fields, n, n)) * rng.choice([-1, 1], (fields, n, n))
    w11, w22 = amplitude / np.sqrt(ratio), amplitude * np.sqrt(ratio)
    w12 = rho * amplitude
    delta = jnp.zeros((n, n)).at[11, 7].set(1.0)
    block = jnp.zeros((n, n)).at[4:9].set(1.0)
    walls = dict(lower=0.0, upper=0.0) if opened else {}

    def flow(w11, w12, w22, **options):
        return TensorDiffusion(axes=("x", "y"), w11=w11, w12=w12, w22=w22, **options)

    @jax.jit
    @jax.vmap
    def prepare(w11, w12, w22):
        fraction = selling.clamped(w11, w12, w22, 1, cap)["fraction"]
        return flow(w11, w12, w22, cap=cap, **walls).prepare(grid, 1.0), fraction

    @jax.jit
    @jax.vmap
    def advance(state, f):
        new, budget = flow(0.0, 0.0, 0.0, cap=cap, **walls).advance(grid, state, f, Time.at(0.0), 1.0)
        return new, jnp.abs(grid.content(new) - grid.content(f) - sum(budget.values())) / grid.content(f)

    state, clamped = prepare(w11, w12, w22)
    low, gap = np.inf, 0.0
    for f in (delta, block):
        f = jnp.broadcast_to(f, (fields, n, n))
        for _ in range(2):
            f, part = advance(state, f)
            low, gap = np.minimum(low, f.min()), np.maximum(gap, part.max())
    assert low >= 0 and gap < 1e-13
    assert 0 < clamped.min() and clamped.max() < 0.3                  # |p| <= 1 does not hold every slope: reported
    # the data are hard enough: without the blend they do go negative
    assert advance_many(flow(w11[0], w12[0], w22[0], positive=False), grid, delta, 1.0, 1).min() < 0


def test_constants_are_kept():
    grid = make_grid(12, 10, False)
    w11, w12, w22 = (w.reshape(grid.shape) for w in random_tensors(120))
    flow = TensorDiffusion(axes=("x", "y"), w11=w11, w12=w12, w22=w22, rows=2, lower=3.0, upper=3.0, lower_b=3.0)
    f = advance_many(flow, grid, jnp.full(grid.shape, 3.0), 1.0, 3)
    np.testing.assert_allclose(f, 3.0, rtol=1e-12)


# ---- lines ---------------------------------------------------------------------------------------------------------------


@pytest.mark.plain
def test_lines_agree_with_unsplit_and_converge():
    whole, split = (shear_free_mode(16, 128, False, **o)[0] for o in ({}, dict(method="lines", cap=4)))
    assert abs(split - whole) < 1e-3 * whole
    # closed walls and smooth data: splitting is second order in time
    grid = make_grid(16, 16, True)
    x, y = (jnp.asarray(c) for c in grid.mesh())
    f0 = 1.0 + 0.5 * jnp.cos(PI * x) * jnp.cos(2 * PI * y)
    w = index_tensor(grid, *(d + 0 * x * y for d in (1.0, 0.6, 1.0)))
    flow = TensorDiffusion(axes=("x", "y"), **w, method="lines", offsets=selling.offset_set(**w))
    runs = [quick_many(flow, grid, f0, 0.01 / n, n) for n in (8, 16, 32)]
    assert np.log2(jnp.abs(runs[0] - runs[1]).max() / jnp.abs(runs[1] - runs[2]).max()) > 1.8
    reference = quick_many(TensorDiffusion(axes=("x", "y"), **w), grid, f0, 0.01 / 32, 32)
    assert jnp.abs(runs[2] - reference).max() < 1e-3


@pytest.mark.plain
def test_lines_report_an_unknown_offset():
    grid = make_grid(8, 8, True)
    flow = TensorDiffusion(axes=("x", "y"), w11=1.0, w12=0.5, w22=1.0, method="lines", offsets=((0, 1), (1, 0)))
    _, budget = plain_jit(lambda f: flow.advance(grid, flow.prepare(grid, 0.1), f, Time.at(0.0), 0.1))(jnp.ones(grid.shape))
    assert int(budget["fault"]) == 2
    with pytest.raises(ValueError, match="offset_set"):
        TensorDiffusion(axes=("x", "y"), w11=1.0, w12=0.5, w22=1.0, method="lines").prepare(grid, 0.1)
    with pytest.raises(ValueError, match="periodic"):
        TensorDiffusion(axes=("y", "x"), w11=1.0, w12=0.5, w22=1.0).prepare(grid, 0.1)


# ---- gradients and transforms --------------------------------------------------------------------------------------------


def parametrised(grid, theta, **options):
    """A tensor, loss, source and wall values that all depend on theta."""
    x, y = (jnp.asarray(c) for c in grid.mesh())
    w = index_tensor(grid, *(theta[0] * d for d in variable_tensor(theta[1], theta[2])(x, y)))
    return TensorDiffusion(axes=("x", "y"), **w, loss=theta[3] * x, source=theta[3] * y, upper=theta[4], **options)


SMOOTH = np.array([0.4, 0.83, 3.1, 0.7, 1.3])


def functional(grid, options, steps, jit=plain_jit):
    """value(theta, f0, dt) after some steps, compiled once: its gradient in theta, and its derivative along a direction."""
    x = np.asarray(grid.mesh()[0])

    def value(theta, f0, dt):
        flow = parametrised(grid, theta, **options)
        state = flow.prepare(grid, dt)
        f, budget = jax.lax.scan(lambda f, i: flow.advance(grid, state, f, Time.at(i * dt), dt), f0, jnp.arange(float(steps)))
        return jnp.sum(f**2 * (1 + x)) + jnp.sum(budget["x.upper"])

    forward = jit(lambda theta, d, f0, dt: jax.jvp(lambda theta: value(theta, f0, dt), (theta,), (d,)))
    return jit(jax.grad(value)), forward


# the quick run has three lines in a whole run (gradients/test_runs.py)
@pytest.mark.parametrize("method", ["unsplit", *(pytest.param(k, marks=pytest.mark.slow) for k in ("lines", "many lines"))])
@pytest.mark.plain
def test_gradients(method):
    grid = make_grid(10, 12, True)
    x, y = grid.mesh()
    f0 = 1.0 + 0.5 * np.sin(2 * x) * np.cos(2 * PI * y)
    theta, options = SMOOTH, {}
    if "lines" in method:
        # three offsets, or all that the smooth tensor asks for
        theta = SMOOTH if "many" in method else np.array([0.4, 0.4, 1.1, 0.7, 1.3])
        flow = parametrised(grid, theta)
        options = dict(method="lines", offsets=selling.offset_set(flow.w11, flow.w12, flow.w22))
        assert len(options["offsets"]) > 3 if "many" in method else len(options["offsets"]) == 3
    reverse, forward = functional(grid, options, 3, jax.jit if "many" in method else plain_jit)
    reverse = np.asarray(reverse(theta, f0, 0.02))
    h = 1e-4
    for d in (*np.eye(5), np.array([0.3, -0.5, 0.2, 0.7, 0.4])):
        values = [forward(theta + k * h * d, d, f0, 0.02)[0] for k in (-2, -1, 1, 2)]
        central = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * h)
        np.testing.assert_allclose(reverse @ d, forward(theta, d, f0, 0.02)[1], rtol=1e-10)
        print(f"reverse against differences: {abs(reverse @ d / central - 1):.1e}")
        np.testing.assert_allclose(reverse @ d, central, rtol=1e-7)


@pytest.mark.plain
def test_gradient_through_the_blend_is_finite_and_right():
    grid = make_grid(12, 12, True)
    f0 = np.zeros(grid.shape)
    f0[5, 6] = 1.0
    reverse, forward = functional(grid, {}, 1)
    theta = np.array([0.4, 0.83, 3.1, 0.0, 0.0])
    back, h = np.asarray(reverse(theta, f0, 0.3)), 1e-5
    for e in np.eye(5)[:3]:
        plus, minus = (forward(theta + k * h * e, e, f0, 0.3)[0] for k in (1, -1))
        np.testing.assert_allclose(back @ e, (plus - minus) / (2 * h), rtol=1e-5)
    assert np.all(np.isfinite(back))


@pytest.mark.slow
def test_eager_jit_vmap_agree():
    grid = make_grid(9, 8, True)
    thetas = jnp.array([[0.4, 0.8, 3.0, 0.7, 1.3], [0.8, -0.6, 2.0, 0.1, 0.3]])
    f0 = jnp.zeros(grid.shape).at[4, 4].set(1.0)

    def one(theta):
        flow = parametrised(grid, theta)
        return flow.advance(grid, flow.prepare(grid, 0.1), f0, Time.at(0.0), 0.1)

    eager = [one(thetas[0])]
    batch = jax.jit(jax.vmap(one))(thetas)
    for k, single in enumerate(eager):
        jax.tree.map(lambda a, b, k=k: np.testing.assert_allclose(a[k], b, rtol=1e-12, atol=1e-14), batch, single)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14), jax.jit(one)(thetas[0]), eager[0])


@pytest.mark.plain
def test_other_axes_are_a_batch():
    """A third axis, between the two: shared factors, and factors of its own."""
    grid = make_grid(9, 8, True)
    f0 = jnp.zeros(grid.shape).at[4, 4].set(1.0)
    flow = parametrised(grid, np.array([0.4, 0.8, 3.0, 0.7, 1.3]))
    batch = Grid((grid.axes[0], Axis.nodes("mu", [1.0, 2.0, 3.0]), grid.axes[1]))

    def between(a):
        return a[:, None, :]

    data = jnp.stack([f0, 2 * f0, 1 + f0], axis=1)
    arrays = dict(w11=between(flow.w11), w12=between(flow.w12), w22=between(flow.w22), source=None, upper=1.3,
                  loss=between(flow.loss))
    shared = TensorDiffusion(axes=("x", "y"), **arrays)
    scale = jnp.array([1.0, 2.0, 0.5]).reshape(1, 3, 1)
    own = TensorDiffusion(axes=("x", "y"), **(arrays | {k: arrays[k] * scale for k in ("w11", "w12", "w22")}))
    @partial(jax.jit, static_argnames="grid")
    def once(flow, grid, f):
        return flow.advance(grid, flow.prepare(grid, 0.1), f, Time.at(0.0), 0.1)

    for many, factor in ((shared, np.ones(3)), (own, scale.ravel())):
        f, budget = once(many, batch, data)
        for k in range(3):
            single = TensorDiffusion(axes=("x", "y"), w11=flow.w11 * factor[k], w12=flow.w12 * factor[k],
                                     w22=flow.w22 * factor[k], loss=flow.loss, upper=1.3)
            alone, part = once(single, grid, data[:, k])
            np.testing.assert_allclose(f[:, k], alone, rtol=1e-12, atol=1e-14)
            budget = {name: value - part[name] for name, value in budget.items()}
        assert max(abs(float(v)) for v in budget.values()) < 1e-12


def test_planes_share_their_factors_where_nothing_depends_on_them():
    """A tensor that varies along one batch axis alone is factored once for each of its values, with the same result."""
    rng = np.random.default_rng(3)
    axes = (Axis.cells("z", np.linspace(0, 1, 4)), Axis.cells("x", np.linspace(0, 1, 7)), Axis.cells("w", np.linspace(0, 1, 6)),
            Axis.cells("y", np.linspace(0, 1, 8)))
    grid = Grid(axes)
    w11, w22 = 10 ** rng.uniform(-3, 0, (2, 3, 6, 1, 7))
    w12 = 0.9 * np.sqrt(w11 * w22)
    wall, f = rng.uniform(0, 1, (3, 5, 7)), rng.uniform(0, 1, grid.shape)
    out = []
    for copies in (1, 5):
        w = [np.repeat(x, copies, axis=2) for x in (w11, w12, w22)]
        flow = TensorDiffusion(axes=("x", "y"), w11=w[0], w12=w[1], w22=w[2], lower=wall)
        state = jax.eval_shape(lambda flow: flow.prepare(grid, 0.1), flow)
        assert jax.tree.leaves(state[3])[0].shape[0] == 3 * copies
        step = plain_jit(lambda flow, f: flow.advance(grid, flow.prepare(grid, 0.1), f, Time.at(0.0), 0.1))
        out.append(step(flow, jnp.asarray(f)))
    np.testing.assert_allclose(out[0][0], out[1][0], rtol=1e-12)
    assert out[0][1].keys() == out[1][1].keys()
    np.testing.assert_allclose(list(out[0][1].values()), list(out[1][1].values()), rtol=1e-10, atol=1e-15)
