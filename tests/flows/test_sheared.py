"""`Sheared`: diffusion along a skew direction with an irrational, varying slope."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import plain_jit
from scipy.special import erf

from jaxbelt.coefficients import Time
from jaxbelt.flows import LineDiffusion, Sheared
from jaxbelt.flows.weights import fitted_drift
from jaxbelt.grid import Axis, Grid
from jaxbelt.physics.field_lines import from_potential

SLOPE, CURVE = np.sqrt(2.0), 0.6


def made(n, m):
    x = Axis.cells("x", np.linspace(0.0, np.pi, n + 1))
    grid = Grid((x, Axis.cells("theta", 2 * np.pi * np.arange(m + 1) / m, periodic=True)))
    up = jnp.full((n + 1, 1), n / np.pi).at[0].set(0.0).at[-1].set(0.0)
    shift = SLOPE * x.centers + CURVE * np.sin(x.centers)
    return grid, Sheared(line=LineDiffusion(axis="x", up=up), ring="theta", shift=jnp.asarray(shift)[:, None])


def run(grid, flow, f, dt, count):
    state = flow.prepare(grid, dt)
    return jax.lax.fori_loop(0, count, lambda i, f: flow.advance(grid, state, f, Time.at(0.0), dt)[0], f)


# the second for errors far above rounding
steps, plain_steps = (jit(run, static_argnums=0) for jit in (jax.jit, plain_jit))


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
        f = plain_steps(grid, flow, jnp.asarray(exact(grid, 0.0)), t / count, count)
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


GAMMA, NOISE, RHO = 0.4, 0.5, 0.4


def along_the_field(n, m):
    """D/2 [(1/B) d_p - rho q d_theta]^2 with friction on its lines at two places of a field line, as Chang-Cooper lines of p."""
    p = np.sinh(np.linspace(-1, 1, n + 1))
    at = from_potential(np.array([0.15, 0.35])[:, None, None], 0.6)
    grid = Grid((Axis.nodes("chi", [0.15, 0.35], [0.7, 0.4]), Axis.cells("p", 14.0 * (p - p[::-1]) / (p[-1] - p[0])),
                 Axis.cells("theta", 2 * np.pi * np.arange(m + 1) / m, periodic=True)))
    centers, B = grid["p"].centers, np.asarray(at.B)
    gap, middle = (x[None, :, None] for x in (np.diff(centers), 0.5 * (centers[1:] + centers[:-1])))
    up, down = fitted_drift(jnp.asarray(0.5 * NOISE / (B**2 * gap)), jnp.asarray(-GAMMA * middle * np.ones_like(B)))
    line = LineDiffusion(axis="p", **{k: jnp.pad(v, ((0, 0), (1, 1), (0, 0))) for k, v in (("up", up), ("down", down))})
    shift = RHO * np.asarray(at.q) * B * grid.centers("p")
    return grid, Sheared(line=line, ring="theta", shift=jnp.asarray(shift)), B, shift


def relaxed(grid, B, shift, t):
    """Cell means in p of what relaxes on every line theta + rho q B p: a displaced cold beam, which is bunched in theta."""
    fade = np.exp(-GAMMA * t)
    variance = (0.3 * fade**2 + 0.5 * NOISE / GAMMA * (1 - fade**2)) / B**2
    edge = (grid.faces("p") - 0.7 * fade / B) / np.sqrt(2 * variance)
    eta = grid.centers("theta") + shift
    return np.diff(erf(edge), axis=1) / grid["p"].measure[:, None] * (1.0 + 0.5 * np.cos(eta - 0.4) + 0.3 * np.sin(2 * eta))


def test_noise_and_friction_along_the_field_against_the_exact_solution():
    errors, t = [], 1.0
    for n, count in ((64, 8), (128, 16)):
        grid, flow, B, shift = along_the_field(n, n // 2)
        f0, exact = (relaxed(grid, B, shift, x) for x in (0.0, t))
        f = np.asarray(plain_steps(grid, flow, jnp.asarray(f0), t / count, count))
        assert f.min() >= 0
        errors.append(grid.content(np.abs(f - exact)) / grid.content(exact))
    change = grid.content(np.abs(f0 - exact)) / grid.content(exact)
    print(f"L1 {errors}, of a change of {change:.2f}; max shear per cell {np.max(np.abs(np.diff(shift, axis=1))):.2f}")
    assert errors[1] <= 2e-3 and np.log2(errors[0] / errors[1]) >= 1.8


def test_detailed_balance_of_noise_and_friction():
    """exp(-2 gamma H/D) carries no flux: steady to round-off however long the step; everything else tends to it."""
    grid, flow, B, _ = along_the_field(32, 8)
    f0 = jnp.asarray(np.exp(-GAMMA / NOISE * (B * grid.centers("p")) ** 2) * np.ones(grid.shape))
    for dt in (0.01, 1.0, 100.0):
        np.testing.assert_allclose(steps(grid, flow, f0, dt, 1), f0, rtol=0, atol=2e-15)
    rough = np.random.default_rng(0).uniform(size=grid.shape) ** 4
    held = np.sum(rough * grid.volumes, axis=1, keepdims=True) / np.sum(f0 * grid.volumes, axis=1, keepdims=True)
    f = np.asarray(steps(grid, flow, jnp.asarray(rough), 5.0, 30))
    assert f.min() >= 0 and abs(grid.content(f) / grid.content(rough) - 1) <= 1e-13
    np.testing.assert_allclose(np.mean(f, axis=2), np.mean(held, axis=2) * f0[:, :, 0], rtol=1e-10)
