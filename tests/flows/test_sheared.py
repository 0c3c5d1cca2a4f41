"""`Sheared`: diffusion along a skew direction with an irrational, varying slope."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbelt.coefficients import Time
from jaxbelt.flows import LineDiffusion, Sheared
from jaxbelt.grid import Axis, Grid

SLOPE, CURVE = np.sqrt(2.0), 0.6


def made(n, m):
    x = Axis.cells("x", np.linspace(0.0, np.pi, n + 1))
    grid = Grid((x, Axis.cells("theta", 2 * np.pi * np.arange(m + 1) / m, periodic=True)))
    up = jnp.full((n + 1, 1), n / np.pi).at[0].set(0.0).at[-1].set(0.0)
    shift = SLOPE * x.centers + CURVE * np.sin(x.centers)
    return grid, Sheared(line=LineDiffusion(axis="x", up=up), ring="theta", shift=jnp.asarray(shift)[:, None])


@partial(jax.jit, static_argnums=(0, 4))
def steps(grid, flow, f, dt, count):
    state = flow.prepare(grid, dt)
    return jax.lax.fori_loop(0, count, lambda i, f: flow.advance(grid, state, f, Time.at(0.0), dt)[0], f)


def exact(grid, t):
    """1 + sum of modes cos(k x) cos(q eta + b), eta = theta + s(x), between reflecting walls; averaged over no cell."""
    x, theta = grid.centers("x"), grid.centers("theta")
    eta = theta + SLOPE * x + CURVE * np.sin(x)
    f = 2.0 + 0 * eta
    for k, q, a in ((1, 1, 0.4), (2, 1, 0.3), (3, 2, 0.3), (2, 3, 0.2), (1, 4, 0.2), (4, 0, 0.2)):
        f = f + a * np.cos(k * x) * np.cos(q * eta + 0.3 * k) * np.exp(-(k**2) * t)
    return f


@pytest.mark.parametrize("refinements", [2, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.plain
def test_converges_where_the_slope_is_irrational(refinements):
    errors, t = [], 0.2
    for n, count in ((64, 16), (128, 32), (256, 64))[:refinements]:
        grid, flow = made(n, n // 2)
        f = steps(grid, flow, jnp.asarray(exact(grid, 0.0)), t / count, count)
        change = np.abs(exact(grid, t) - exact(grid, 0.0)).mean()
        errors.append(float(np.abs(np.asarray(f) - exact(grid, t)).mean()))
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    print(f"L1 {errors}, orders {orders}, change {change:.2e}")
    assert errors[0] <= 1.3e-3 and errors[1] <= 4.0e-4
    assert np.all(orders >= 1.7)


def test_narrow_blob_stays_positive_and_along_its_curves():
    """A Gaussian blob spreads along eta = const: nothing negative, its distribution over eta stays, content is kept."""
    errors = []
    for n in (64, 128):
        grid, flow = made(n, n)
        x, theta = grid.centers("x"), grid.centers("theta")
        eta = theta + SLOPE * x + CURVE * np.sin(x)

        def blob(width, x=x, eta=eta):
            around = np.mod(eta - 2.0 + np.pi, 2 * np.pi) - np.pi
            images = sum(np.exp(-((x - s * 1.3 - 2 * np.pi * j) ** 2) / (2 * width)) for s in (1, -1) for j in (-1, 0, 1))
            return images / np.sqrt(width) * np.exp(-(around**2) / (2 * 0.05))

        t, start = 0.1, 0.02
        f0 = blob(start)
        f = np.asarray(steps(grid, flow, jnp.asarray(f0), t / 10, 10))
        assert f.min() >= 0
        assert abs(f.sum() / f0.sum() - 1) <= 1e-13
        errors.append(np.abs(f - blob(start + 2 * t)).sum() / f0.sum())
    print(f"blob: L1 {errors}")
    assert errors[1] <= 0.02


def test_no_shift_is_the_line():
    grid, flow = made(32, 16)
    f0 = jnp.asarray(np.random.default_rng(0).uniform(size=grid.shape) + 1.0)
    flat = Sheared(line=flow.line, ring="theta", shift=jnp.zeros((32, 1)))
    np.testing.assert_allclose(steps(grid, flat, f0, 0.1, 1), steps(grid, flow.line, f0, 0.1, 1), rtol=1e-13)
