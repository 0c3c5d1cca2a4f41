"""`Remap` with tables of a swirl whose exact map is known: sums, positivity, order, walls, derivatives."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import plain_jit

from jaxbelt.coefficients import Time
from jaxbelt.flows import Remap
from jaxbelt.flows import remap_tables as rt
from jaxbelt.flows.remap import _borrow, _borrow_where_needed
from jaxbelt.grid import Axis, Grid

TURN = 0.8


def swirl(a, b, angle):
    """A turn by angle (1 - r^2)^2 inside the unit circle: preserves da db."""
    r2 = a**2 + b**2
    w = np.where(r2 < 1, angle * (1 - r2) ** 2, 0.0)
    return a * np.cos(w) - b * np.sin(w), a * np.sin(w) + b * np.cos(w)


@lru_cache
def made(n, m, symmetric=True, sink=False, trailing=0):
    """(grid, flow): three planes that turn at different rates; with `sink`, what comes from or goes beyond a > 0.7 is lost."""
    a = Axis.cells("a", np.sinh(1.2 * np.linspace(-1, 1, n + 1)) / np.sinh(1.2))
    b = Axis.cells("b", np.linspace(-1, 1, m + 1))
    planes = Axis.nodes("plane", [0.5, 1.0, 2.0], [1.0, 2.0, 0.5])
    tail = (Axis.cells("theta", 2 * np.pi * np.arange(trailing + 1) / trailing, periodic=True),) if trailing else ()
    ga, w = rt.gauss_points(a.faces, 6)
    gb, _ = rt.gauss_points(b.faces, 6)
    lines = n // 2 if symmetric else n
    ga = ga[:lines]
    x, y = (np.broadcast_to(v, (lines, m, 6, 6)).reshape(lines * m, 36) for v in (ga[:, None, :, None], gb[None, :, None, :]))
    shares = np.outer(w, w).ravel()
    out = []
    for speed in planes.centers:
        a0, b0 = swirl(x, y, -TURN * speed)
        alive = np.ones(a0.shape, bool)
        if sink:                                               # forward and backward are mirror images in b
            alive = (np.abs(a0) < 0.7) & (np.abs(x) < 0.7)
        out.append(rt.plane_table(a.faces, b.faces, a0, b0, alive, shares, symmetric=symmetric))
    tables = rt.stack_planes(out, (3,), (a, b), TURN, lossy=sink, dtype=np.float64, symmetric=symmetric)
    return Grid((planes, a, b, *tail)), Remap(axes=("a", "b"), tables=tables)


def advance(grid, flow, f, dt=TURN):
    return flow.advance(grid, flow.prepare(grid, dt), f, Time.at(0.0), dt)


step = jax.jit(advance, static_argnums=0)


def blob(grid, turned=0.0, width=0.18):
    """Cell averages of a blob off the centre, turned exactly."""
    pa, w = rt.gauss_points(grid["a"].faces, 3)
    pb, _ = rt.gauss_points(grid["b"].faces, 3)
    out = []
    for speed in grid["plane"].centers:
        a, b = swirl(pa[:, None, :, None], pb[None, :, None, :], -turned * speed)
        out.append(np.einsum("ijkl,k,l", np.exp(-((a - 0.35) ** 2 + (b - 0.1) ** 2) / width**2), w, w))
    return np.stack(out)


def entropy(f):
    return -np.where(f > 0, f * np.log(np.where(f > 0, f, 1.0)), 0.0)


@pytest.mark.parametrize("symmetric", [True, False])
def test_content_constants_sign_and_entropy(symmetric):
    grid, flow = made(20, 16, symmetric)
    flat = jnp.full(grid.shape, 1.7)
    rough = np.where(np.random.default_rng(1).random(grid.shape) < 0.8, 0.0, 1.0)
    f = jnp.asarray(rough)
    for _ in range(10):
        before = f
        flat, f = step(grid, flow, flat)[0], step(grid, flow, f)[0]
        assert float(jnp.min(f)) >= 0
        assert np.all(np.sum(grid.volumes * f**2, (1, 2)) <= np.sum(grid.volumes * before**2, (1, 2)) * (1 + 1e-13))
        rise = [np.sum(grid.volumes * entropy(x), (1, 2)) for x in (before, f)]
        assert np.all(rise[1] >= rise[0] - 1e-13)
    np.testing.assert_allclose(flat, 1.7, rtol=1e-13)
    np.testing.assert_allclose(grid.content(f), grid.content(rough), rtol=1e-13)


def test_half_the_rows_by_point_reflection_are_the_whole_table():
    grid, half = made(20, 16, True)
    _, full = made(20, 16, False)
    f = np.random.default_rng(2).random(grid.shape)
    np.testing.assert_allclose(step(grid, half, f)[0], step(grid, full, f)[0], rtol=1e-10, atol=1e-13)


def test_error_falls_fast_with_the_cells():
    errors = []
    for n in (24, 48):
        grid, flow = made(n, n)
        f = jnp.asarray(blob(grid))
        for _ in range(4):
            f, _ = step(grid, flow, f)
        exact = blob(grid, 4 * TURN)
        errors.append([float(np.sum(np.abs(x - y) * grid.volumes[0]) / np.sum(y * grid.volumes[0])) for x, y in zip(f, exact)])
    errors = np.array(errors)
    print(errors, np.log2(errors[0] / errors[1]))
    assert np.all(errors[1] < [2e-3, 5e-3, 3e-2])
    assert np.all(np.log2(errors[0] / errors[1])[:2] > 3.4)


def test_what_is_lost_is_booked():
    grid, flow = made(20, 16, sink=True)
    f = 1.0 + np.random.default_rng(3).random(grid.shape)
    f[:, np.abs(grid["a"].centers) > 0.7] = 0.0
    new, budget = step(grid, flow, f)
    change = float(grid.content(new) - grid.content(f))
    assert change < -0.1
    np.testing.assert_allclose(float(budget["loss"]), change, rtol=1e-13)
    assert float(jnp.min(new)) >= 0 and int(budget["fault"]) == 0


def test_axes_behind_the_plane_share_its_table():
    grid, flow = made(20, 16)
    wide, same = made(20, 16, trailing=5)
    f = np.random.default_rng(4).random(wide.shape)
    together, _ = step(wide, same, jnp.asarray(f))
    for k in range(5):
        np.testing.assert_allclose(together[..., k], step(grid, flow, jnp.asarray(f[..., k]))[0], rtol=1e-13)


def test_another_step_is_a_fault_and_another_grid_an_error():
    grid, flow = made(20, 16)
    f = jnp.ones(grid.shape)
    assert int(step(grid, flow, f, TURN * (1 + 1e-9))[1]["fault"]) == 0
    assert int(step(grid, flow, f, TURN * 1.01)[1]["fault"]) == 4
    assert int(step(grid, flow, f, np.nan)[1]["fault"]) == 4
    with pytest.raises(ValueError, match="tables: made for planes"):
        flow.prepare(Grid((grid["a"], grid["b"])), TURN)


def test_derivatives_forward_reverse_and_in_batches():
    grid, flow = made(20, 16)
    rng = np.random.default_rng(5)
    f, d = blob(grid) + 1e-3, rng.normal(size=grid.shape) * blob(grid)
    weight = rng.random(grid.shape)

    def loss(f):
        return jnp.sum(weight * advance(grid, flow, f)[0] ** 2)

    value, along = plain_jit(lambda f: jax.jvp(loss, (f,), (d,)))(f)
    back = plain_jit(jax.grad(loss))(f)
    np.testing.assert_allclose(along, jnp.sum(back * d), rtol=1e-11)
    h = 1e-5
    low, high = (np.sum(weight * np.asarray(step(grid, flow, f + k * h * d)[0]) ** 2) for k in (-1, 1))
    np.testing.assert_allclose(along, (high - low) / (2 * h), rtol=1e-6)
    batch = jnp.stack([f, 2 * f, f**2])
    many = plain_jit(jax.vmap(lambda f: advance(grid, flow, f)[0]))(batch)
    for one, x in zip(many, batch):
        np.testing.assert_allclose(one, step(grid, flow, x)[0], rtol=1e-12, atol=1e-15)
    gradients = plain_jit(jax.vmap(jax.grad(loss)))(batch)
    np.testing.assert_allclose(gradients[0], back, rtol=1e-10, atol=1e-12)


def test_planes_below_zero_are_settled_alone_as_among_all():
    """Few planes in need, many and none: the same result but for the order of sums; what is whole is untouched."""
    x = np.random.default_rng(2).random((12, 6, 8))
    for needy in ([], [3], list(range(10))):
        content = x.copy()
        content[needy, 2, 3] = -0.4
        expected = _borrow(jnp.asarray(content), 1)
        got = np.asarray(_borrow_where_needed(jnp.asarray(content), 1, 0.4))
        np.testing.assert_allclose(got, expected, rtol=1e-14, atol=1e-15)
        whole = np.setdiff1d(np.arange(12), needy)
        np.testing.assert_array_equal(got[whole], content[whole])
