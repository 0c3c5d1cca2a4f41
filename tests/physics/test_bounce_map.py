"""The bounce characteristics against frequencies, quadratures and conservation laws; the tables of a small grid."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbelt.coefficients import Time
from jaxbelt.flows import Remap
from jaxbelt.grid import Axis, Grid
from jaxbelt.physics import bounce_map, field_lines

PSI, MU = 0.5, 4.0


def field(chi, psi=PSI):
    return np.asarray(field_lines.from_potential(chi, psi, outside="extrapolate").B)


def energy(chi, p, psi=PSI, mu=MU):
    return 0.5 * (field(chi, psi) * p) ** 2 + mu * field(chi, psi)


@lru_cache
def nodes():
    return np.polynomial.legendre.leggauss(400)


def quarter(H, top, psi=PSI, mu=MU):
    """Time from the equator to s = top at energy H, by Gauss-Legendre in an angle (the end may be a turning point)."""
    y, w = nodes()
    angle = 0.25 * np.pi * (1 + y)
    s = top * np.sin(angle)
    B = psi**3 * np.sqrt(1 + 3 * s**2) / (1 - s**2) ** 3
    speed = psi * np.sqrt(np.maximum(2 * (H - mu * B), 1e-300))
    return float(np.sum(0.25 * np.pi * w * top * np.cos(angle) * np.sqrt(1 + 3 * s**2) / speed))


def mirror(H, psi=PSI, mu=MU):
    low, high = 0.0, 1.0 - 1e-9
    for _ in range(80):
        s = 0.5 * (low + high)
        low, high = (s, high) if mu * psi**3 * np.sqrt(1 + 3 * s**2) / (1 - s**2) ** 3 < H else (low, s)
    return low


def test_small_amplitude_frequency():
    period = 2 * np.pi / (3 * np.sqrt(MU) * PSI**2.5)
    chi, p = jnp.array([1e-6, 0.0]), jnp.array([0.0, 1e-5])
    back, slow, alive = bounce_map.departure(chi, p, PSI, MU, period, wall=0.7, steps=24)
    np.testing.assert_allclose(back, chi, atol=1e-13)
    np.testing.assert_allclose(slow, p, atol=1e-12)
    assert bool(alive.all())


@pytest.mark.parametrize("depth", [0.3, 0.55, 0.7])
def test_period_and_energy_of_deep_orbits(depth):
    H = MU * PSI**3 * np.sqrt(1 + 3 * depth**2) / (1 - depth**2) ** 3
    assert abs(mirror(H) - depth) < 1e-12
    period = 4 * quarter(H, depth)
    chi = 0.5 * PSI**2 * depth / (1 - depth**2) ** 2
    p = np.sqrt(2 * (H - MU * field(chi))) / field(chi)
    there, v, _ = bounce_map.departure(np.array([chi]), np.array([p]), PSI, MU, 0.37 * period, wall=0.7071)
    np.testing.assert_allclose(energy(there, v), H, rtol=2e-8)
    back, again, _ = bounce_map.departure(np.array([chi]), np.array([p]), PSI, MU, period, wall=0.7071)
    np.testing.assert_allclose(back, chi, atol=1e-7 * chi)
    np.testing.assert_allclose(again, p, atol=1e-7 * p)


@pytest.mark.parametrize("reflect", [False, True])
def test_backward_after_forward_and_the_loss_cone(reflect):
    """Mirroring p reverses time; a loss-cone particle dies exactly where its way to the wall is shorter than dt."""
    rng = np.random.default_rng(0)
    chi, p, dt = rng.uniform(-0.6, 0.6, 400), rng.uniform(-40, 40, 400), 0.21
    s_wall = 0.65
    wall = PSI**2 * s_wall / (1 - s_wall**2) ** 2
    chi = np.clip(chi, -0.99 * wall, 0.99 * wall)
    cap = 0.5 * (PSI**3 * 40) ** 2 + MU * PSI**3
    kw = {"wall": wall, "e_cap": cap, "reflect": reflect}
    chi0, p0, alive = map(np.asarray, bounce_map.departure(chi, p, PSI, MU, dt, **kw))
    H = energy(chi, p)
    frozen = H > cap
    assert 0 < frozen.sum() < 400
    # above the cap nothing moves, but an absorbing planet takes at once what is on its way there
    lossy = H > MU * PSI**3 * np.sqrt(1 + 3 * s_wall**2) / (1 - s_wall**2) ** 3
    np.testing.assert_array_equal(alive[frozen], ~lossy[frozen] | reflect)
    np.testing.assert_array_equal(chi0[frozen & alive], chi[frozen & alive])
    np.testing.assert_array_equal(p0[frozen & alive], p[frozen & alive])
    chi1, p1, ok = map(np.asarray, bounce_map.departure(chi0, -p0, PSI, MU, dt, **kw))
    np.testing.assert_allclose(np.where(alive, chi1 - chi, 0), 0, atol=1e-7)
    np.testing.assert_allclose(np.where(alive, p1 + p, 0), 0, atol=1e-5)
    np.testing.assert_allclose(np.where(alive, energy(chi0, p0), H), H, rtol=3e-8)
    passing = lossy & ~frozen
    assert passing.sum() > 50
    if reflect:
        assert alive.all()
    else:
        s = np.asarray(field_lines.from_potential(chi, PSI, outside="extrapolate").s)
        way = np.array([quarter(h, s_wall) + quarter(h, abs(x)) * np.sign(x * v) for h, x, v in zip(H, s, p) if h < cap])
        np.testing.assert_array_equal(alive[~frozen], ~passing[~frozen] | (way > dt))


def small_grid(psi=(0.5, 0.8), cells=(12, 16, 2)):
    chi = np.sinh(1.5 * np.linspace(-1, 1, cells[0] + 1))
    p = np.sinh(2 * np.linspace(-1, 1, cells[1] + 1))
    return Grid((Axis.nodes("mu", [0.5, 8.0]), Axis.cells("psi", np.linspace(*psi, cells[2] + 1)),
                 Axis.cells("chi", np.sqrt(1 - psi[0]) * chi / chi[-1]), Axis.cells("p", 44.0 * p / p[-1])))


@pytest.mark.parametrize("planet", ["absorbing", "reflecting"])
def test_tables(planet):
    grid, dt = small_grid(), 0.3
    flow = Remap(axes=("chi", "p"), tables=bounce_map.tables(grid, dt, planet=planet))
    step = jax.jit(lambda flow, f: flow.advance(grid, flow.prepare(grid, dt), f, Time.at(0.0), dt))
    live = np.zeros(grid.shape, bool)
    for j, (low, high) in enumerate(bounce_map.wall_lines(grid)):
        live[:, j, low:high] = True
    assert not live.all()
    f = jnp.asarray(np.where(live, np.random.default_rng(1).random(grid.shape), 0.0))
    flat = jnp.asarray(np.where(live, 1.0, 0.0))
    for _ in range(3):
        new, budget = step(flow, f)
        change = float(grid.content(new) - grid.content(f))
        np.testing.assert_allclose(float(budget.get("loss", 0.0)), change, rtol=1e-13, atol=1e-13 * float(grid.content(f)))
        assert float(jnp.min(new)) >= 0 and not np.asarray(new)[~live].any()
        f = new
    if planet == "absorbing":                                  # the outermost cells end at the surface, not at their faces
        for j, (low, high) in enumerate(bounce_map.wall_lines(grid)):
            share = (np.sqrt(1 - grid["psi"].centers[j]) - grid["chi"].faces[high - 1]) / grid["chi"].measure[high - 1]
            flat = flat.at[:, j, low].mul(share).at[:, j, high - 1].mul(share)
    after, _ = step(flow, flat)
    if planet == "reflecting":
        np.testing.assert_allclose(after, flat, atol=1e-13)
    else:
        # what a uniform plane loses is the part of it whose forward orbits, the mirrored backward ones, end on the planet
        wall = np.sqrt(1 - grid["psi"].centers[0])
        side = (np.arange(80) + 0.5) / 40 - 1
        chi, p = (x.reshape(16, 400) for x in np.meshgrid(wall * side, grid["p"].faces[-1] * side))
        kw = {"wall": wall, "e_cap": bounce_map.energy_cap(grid)[0, 0], "reflect": False}
        psi = grid["psi"].centers[0]
        dead = np.mean([~np.asarray(bounce_map.departure(x, -y, psi, 0.5, dt, **kw)[2]) for x, y in zip(chi, p)])
        volume = np.outer(grid["chi"].measure, grid["p"].measure)
        lost = 1 - np.sum(volume * after[0, 0]) / np.sum(volume * flat[0, 0])
        assert 0.05 < dead and abs(lost - dead) < 4e-3
    # the map commutes with the reflection of both axes, and time reverses with p
    np.testing.assert_allclose(step(flow, f[..., ::-1, ::-1])[0], step(flow, f)[0][..., ::-1, ::-1], atol=1e-13)


def test_bad_input_is_named():
    grid = small_grid()
    with pytest.raises(ValueError, match="planet: 'open'"):
        bounce_map.tables(grid, 0.3, planet="open")
    with pytest.raises(ValueError, match="dt: the step"):
        bounce_map.tables(grid, -1.0)
    lopsided = Grid((*grid.axes[:3], Axis.cells("p", np.linspace(-1.0, 2.0, 9))))
    with pytest.raises(ValueError, match="p: the bounce tables need"):
        bounce_map.tables(lopsided, 0.3)
