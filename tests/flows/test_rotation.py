"""`Rotation`: exact shifts, numerical phase diffusion, positivity by scaling to the mean, ring diffusion."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbelt.coefficients import Time
from jaxbelt.flows import Rotation
from jaxbelt.grid import Axis, Grid

DAY = 86400.0
FAST = 691.0 / DAY                     # rad/s


def ring(n):
    return Grid((Axis.cells("phi", 2 * np.pi * np.arange(n + 1) / n, periodic=True),))


@partial(jax.jit, static_argnums=(0, 4))
def turns(grid, flow, f, dt, count):
    state = flow.prepare(grid, dt)
    return jax.lax.fori_loop(0, count, lambda i, f: flow.advance(grid, state, f, Time.at(0.0), dt)[0], f)


@pytest.mark.parametrize("n", [9, 16, 128])
def test_resolved_modes_shift_exactly(n):
    grid = ring(n)
    phi = grid["phi"].centers
    dt = 137.0
    for m in range(1, (n + 1) // 2):
        f = turns(grid, Rotation(axis="phi", rate=FAST), jnp.asarray(1 + 0.5 * np.cos(m * phi + 0.3)), dt, 1)
        np.testing.assert_allclose(f, 1 + 0.5 * np.cos(m * (phi - FAST * dt) + 0.3), rtol=0, atol=1e-13)


@pytest.mark.parametrize("dt", [60.0, 300.0])
def test_numerical_phase_diffusion(dt):
    """A day at 691 rad/day, 128 cells, the positive scheme: below 2e-5 rad^2/day for m = 1, 4e-3 for m = 8."""
    grid = ring(128)
    phi = grid["phi"].centers
    count = round(DAY / dt)
    for m, limit in ((1, 2e-5), (8, 4e-3)):
        # touching zero, so that the positive scheme has work to do
        f = np.asarray(turns(grid, Rotation(axis="phi", rate=FAST), jnp.asarray(1 + np.cos(m * phi)), dt, count))
        assert f.min() >= 0
        amplitude = np.fft.rfft(f)[m] / np.fft.rfft(1 + np.cos(m * phi))[m]
        diffusion = -np.log(abs(amplitude)) / m**2
        phase = abs(np.angle(amplitude * np.exp(1j * m * FAST * DAY)))
        print(f"dt = {dt:g}, m = {m}: D_num = {diffusion:.1e} rad^2/day, phase error {phase:.1e}")
        assert abs(diffusion) <= limit
        assert phase <= 1e-8


def test_two_cells_wide():
    """A Gaussian two cells wide, turned for a day in 1-min steps: nothing negative, content to round-off."""
    n = 128
    grid = ring(n)
    phi = grid["phi"].centers
    h = 2 * np.pi / n

    def shape(x):
        x = np.mod(x + np.pi, 2 * np.pi) - np.pi
        return np.exp(-x**2 / (2 * (2 * h) ** 2))

    def square(x):
        x = np.mod(x + np.pi, 2 * np.pi) - np.pi
        return (np.abs(x) < h).astype(float)

    def wide(x):
        x = np.mod(x + np.pi, 2 * np.pi) - np.pi
        return (np.abs(x) < 8 * h).astype(float)

    # two cells cannot hold a square; sixteen keep their contrast, the edges softened to a cell or two
    for name, f0, limit in (("gaussian", shape, 1e-6), ("square of 2 cells", square, 0.6), ("of 16 cells", wide, 0.12)):
        count = 1440
        start = f0(phi - np.pi)
        f = np.asarray(turns(grid, Rotation(axis="phi", rate=FAST), jnp.asarray(start), 60.0, count))
        exact = f0(phi - np.pi - FAST * 60.0 * count)
        plain = np.asarray(turns(grid, Rotation(axis="phi", rate=FAST, positive=False), jnp.asarray(start), 60.0, count))
        error, bare = (np.abs(x - exact).sum() / start.sum() for x in (f, plain))
        print(f"{name}: L1 {error:.1e} (plain {bare:.1e}), minimum {f.min():.1e} (plain {plain.min():.1e})")
        assert f.min() >= 0
        assert abs(f.sum() / start.sum() - 1) <= 1e-13
        assert error <= limit
    one = np.asarray(turns(grid, Rotation(axis="phi", rate=FAST), jnp.asarray(square(phi - np.pi)), 60.0, 1))
    assert abs(one.sum() / square(phi - np.pi).sum() - 1) <= 4.5e-16


def test_content_of_one_step():
    rng = np.random.default_rng(0)
    grid = Grid((Axis.nodes("ring", np.arange(50.0)), *ring(64).axes))
    f0 = rng.uniform(size=(50, 64)) ** 12
    flow = Rotation(axis="phi", rate=jnp.asarray(rng.uniform(-1, 1, (50, 1))))
    f = np.asarray(turns(grid, flow, jnp.asarray(f0), 1.0, 1))
    worst = np.max(np.abs(f.sum(axis=1) / f0.sum(axis=1) - 1))
    print(f"content of a ring after one step: {worst:.1e}")
    assert worst <= 1e-15
    assert f.min() >= 0


def test_nyquist_mode():
    """The shortest wave of an even ring has no phase: it turns into its cosine part, stays real, and grows at no angle."""
    grid = ring(16)
    f0 = jnp.asarray(1 + 0.5 * (-1.0) ** np.arange(16))
    for angle in (0.1, np.pi / 16, 1.0):
        f = turns(grid, Rotation(axis="phi", rate=angle, positive=False), f0, 1.0, 1)
        np.testing.assert_allclose(f, 1 + 0.5 * np.cos(8 * angle) * (-1.0) ** np.arange(16), atol=1e-14)


def test_ring_diffusion_is_exact():
    grid = ring(64)
    phi = grid["phi"].centers
    for m in (1, 5, 20):
        flow = Rotation(axis="phi", rate=0.3, diffusion=0.02)
        f = turns(grid, flow, jnp.asarray(1 + 0.9 * np.cos(m * phi)), 1.7, 3)
        t = 3 * 1.7
        np.testing.assert_allclose(f, 1 + 0.9 * np.exp(-(m**2) * 0.02 * t) * np.cos(m * (phi - 0.3 * t)), rtol=0, atol=1e-13)


@pytest.mark.plain
def test_direction_and_rates_of_the_rings():
    """Eastward is toward larger phi, and each ring turns at its own rate, wherever the axis stands."""
    phi = ring(32).axes[0]
    x = Axis.nodes("x", [0.0, 1.0, 2.0])
    rates = jnp.asarray([1.0, -2.0, 0.0])
    for grid in (Grid((phi, x)), Grid((x, phi))):
        k = grid.index("x")
        f0 = 2 + jnp.cos(jnp.asarray(grid.centers("phi"))) * jnp.ones(grid.shape)
        f = turns(grid, Rotation(axis="phi", rate=rates.reshape(grid.along("x", rates).shape)), f0, 0.5, 1)
        np.testing.assert_allclose(f, 2 + np.cos(grid.centers("phi") - 0.5 * grid.along("x", rates)), atol=1e-13)
        assert f.shape[k] == 3


@pytest.mark.plain
def test_what_cannot_rotate():
    x = Axis.cells("x", [0.0, 1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="x: the axis must be periodic"):
        Rotation(axis="x", rate=1.0).prepare(Grid((x,)), 1.0)
    uneven = Axis.cells("phi", [0.0, 1.0, 2.5, 3.0], periodic=True)
    with pytest.raises(ValueError, match="phi: the axis must be periodic with equal cells"):
        Rotation(axis="phi", rate=1.0).prepare(Grid((uneven,)), 1.0)
    with pytest.raises(ValueError, match="must not vary along phi"):
        Rotation(axis="phi", rate=jnp.ones(8)).prepare(ring(8), 1.0)
