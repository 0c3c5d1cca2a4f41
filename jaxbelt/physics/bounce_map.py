r"""The bounce of particles along a dipole's field line as a map of the (chi, p) plane, and the tables of its conservative remap.

With H = B^2 p^2/2 + mu B (m = 1) at fixed psi and mu,  dchi/dt = B^2 p,  dp/dt = -(B p^2 + mu) B_chi. In s = sin(latitude) and
v = B p it is closed-form, with no equation to solve inside a step:

    ds/dt = psi v/sqrt(1 + 3 s^2),   dv/dt = -mu B_l,   B = psi^3 sqrt(1 + 3 s^2)/(1 - s^2)^3

Units as in `jaxbelt.physics.field_lines`: M = R_p = 1, v in units of v_th, mu in units of v_th^2.
"""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxbelt.flows import remap_tables
from jaxbelt.physics import field_lines

__all__ = ["departure", "substeps", "wall_lines", "energy_cap", "tables"]

_R = math.sqrt(21.0)
# Cooper & Verner (1972), order 8 in 11 stages: rows a_ij, then the weights
_A = (
    (1 / 2,),
    (1 / 4, 1 / 4),
    (1 / 7, (-7 - 3 * _R) / 98, (21 + 5 * _R) / 49),
    ((11 + _R) / 84, 0, (18 + 4 * _R) / 63, (21 - _R) / 252),
    ((5 + _R) / 48, 0, (9 + _R) / 36, (-231 + 14 * _R) / 360, (63 - 7 * _R) / 80),
    ((10 - _R) / 42, 0, (-432 + 92 * _R) / 315, (633 - 145 * _R) / 90, (-504 + 115 * _R) / 70, (63 - 13 * _R) / 35),
    (1 / 14, 0, 0, 0, (14 - 3 * _R) / 126, (13 - 3 * _R) / 63, 1 / 9),
    (1 / 32, 0, 0, 0, (91 - 21 * _R) / 576, 11 / 72, (-385 - 75 * _R) / 1152, (63 + 13 * _R) / 128),
    (1 / 14, 0, 0, 0, 1 / 9, (-733 - 147 * _R) / 2205, (515 + 111 * _R) / 504, (-51 - 11 * _R) / 56, (132 + 28 * _R) / 245),
    (0, 0, 0, 0, (-42 + 7 * _R) / 18, (-18 + 28 * _R) / 45, (-273 - 53 * _R) / 72, (301 + 53 * _R) / 72, (28 - 28 * _R) / 45,
     (49 - 7 * _R) / 18),
)
_W = (1 / 20, 0, 0, 0, 0, 0, 0, 49 / 180, 16 / 45, 49 / 180, 1 / 20)


def _strength(s, psi):
    return psi**3 * jnp.sqrt(1.0 + 3.0 * s**2) / (1.0 - s**2) ** 3


def _rates(s, v, psi, mu, top):
    """(ds/dt, dv/dt); beyond |s| = top the force stays what it is there, so that nothing blows up past a wall."""
    c = 1.0 / (1.0 + 3.0 * s**2)
    inside = jnp.clip(s, -top, top)
    i2 = inside**2
    x2 = (1.0 - i2) ** 2
    pull = 3.0 * psi**4 * mu * inside * (3.0 + 5.0 * i2) / (x2 * x2 * (1.0 + 3.0 * i2))
    return psi * v * jnp.sqrt(c), -pull


def _kutta(s, v, h, psi, mu, top):
    """One step h of the eighth-order method."""
    ks, kv = [], []
    for row in ((),) + _A:
        ds = sum((a * k for a, k in zip(row, ks) if a), 0.0)
        dv = sum((a * k for a, k in zip(row, kv) if a), 0.0)
        a, b = _rates(s + h * ds, v + h * dv, psi, mu, top)
        ks.append(a)
        kv.append(b)
    return (s + h * sum(w * k for w, k in zip(_W, ks) if w), v + h * sum(w * k for w, k in zip(_W, kv) if w))


@partial(jax.jit, static_argnames=("reflect",))
def _trace(s, v, psi, mu, dt, s_wall, e_cap, steps, reflect):
    """Follow (s, v) for -dt in `steps` steps between walls at |s| = s_wall: (s, v, alive). Energies above e_cap stay put."""
    b_wall = _strength(s_wall, psi)
    energy = 0.5 * v**2 + mu * _strength(s, psi)
    frozen = energy > e_cap
    passing = energy > mu * b_wall                             # reaches the wall: v keeps its sign on the way
    top = 0.5 * (1.0 + s_wall)
    h = -dt / steps
    start = v

    def absorbed(i, c):
        s, v, alive = c
        s, v = _kutta(s, v, h, psi, mu, top)
        gone = passing & ((jnp.abs(s) > s_wall) | (v * start < 0))
        # what is gone waits at the equator
        return jnp.where(gone, 0.0, s), jnp.where(gone, start, v), alive & ~gone

    v_wall = jnp.sqrt(jnp.maximum(2.0 * (energy - mu * b_wall), 0.0))
    per_speed = 1.0 / jnp.sqrt(2.0 * jnp.maximum(energy, 1e-300))

    def reflected(i, c):
        s, v, alive = c
        side = -jnp.sign(v)                                    # the wall it approaches, going back in time
        s1, v1 = _kutta(s, v, h, psi, mu, top)
        hit = passing & ((jnp.abs(s1) > s_wall) | (v1 * v < 0))

        def crossing(t, _):
            # Gauss-Newton for the moment of crossing: position and speed there are known, and grazing is no double root
            st, vt = _kutta(s, v, t, psi, mu, top)
            rs, rv = _rates(st, vt, psi, mu, top)
            a, b = rs / s_wall, rv * per_speed
            step = (a * (side - st / s_wall) + b * (-side * v_wall - vt) * per_speed) / jnp.maximum(a**2 + b**2, 1e-300)
            return jnp.clip(t + step, h, 0.0), None

        moved = side * (s1 - s)
        guess = jnp.where(moved > 0, h * (s_wall - side * s) / jnp.where(moved > 0, moved, 1.0), 0.5 * h)
        t, _ = lax.scan(crossing, jnp.clip(guess, h, 0.0), None, length=5)
        s2, v2 = _kutta(side * s_wall, side * v_wall, h - t, psi, mu, top)
        return jnp.where(hit, s2, s1), jnp.where(hit, v2, v1), alive

    alive = jnp.ones(jnp.shape(energy), bool)
    s1, v1, alive = lax.fori_loop(0, steps, reflected if reflect else absorbed, (s, v, alive))
    # above e_cap, but on its way to an absorbing planet: lost
    return jnp.where(frozen, s, s1), jnp.where(frozen, v, v1), jnp.where(frozen, ~passing | reflect, alive)


def _reach(psi, mu, wall, e_cap):
    """sin(latitude) where a particle of energy e_cap turns, or meets the wall."""
    low, high = 0.0, float(field_lines.from_potential(wall, psi, outside="extrapolate").s)
    if mu * psi**3 * math.sqrt(1 + 3 * high**2) / (1 - high**2) ** 3 <= e_cap:
        return high
    for _ in range(50):
        s = 0.5 * (low + high)
        low, high = (s, high) if mu * psi**3 * math.sqrt(1 + 3 * s**2) / (1 - s**2) ** 3 <= e_cap else (low, s)
    return high


def substeps(psi, mu, dt, wall, e_cap) -> int:
    """Steps of the eighth-order method over dt that keep H to about 1e-8 everywhere in the reach of energies up to e_cap: in each
    B must not change too much, for a turning particle and for the fastest one. Concrete numbers."""
    s = np.linspace(0.0, _reach(psi, mu, wall, e_cap), 33)
    x = 1.0 - s**2
    b = psi**3 * np.sqrt(1 + 3 * s**2) / x**3
    change = psi * (3 * s * (3 + 5 * s**2) / (x * (1 + 3 * s**2) ** 1.5) + 1.0)
    fastest = np.sqrt(np.maximum(2 * (e_cap - mu * b), 0.0))
    rate = max(np.max(change * (2.4 * np.sqrt(mu * b) + 0.8 * fastest)), psi * fastest[0] / s[-1])
    return max(2, math.ceil(abs(dt) * float(rate)))


def departure(chi, p, psi, mu, dt, *, wall, e_cap=math.inf, reflect=False, steps=None):
    """Where the bounce motion over dt brings particles from: (chi0, p0, alive).

    chi, p: where they arrive, arrays; psi, mu: the plane. wall: |chi| of the planet's surface (or of the edge of the grid):
    an orbit that touches it within dt is dead there (alive False, chi0 = p0 = 0), or with reflect=True turns p to -p. Energies
    H = (B p)^2/2 + mu B above e_cap do not move; of those an absorbing planet takes at once what is on its way there.
    steps: see `substeps`, which chooses it from concrete numbers.
    """
    if steps is None:
        top = e_cap
        if not math.isfinite(top):
            at = field_lines.from_potential(chi, psi, outside="extrapolate")
            top = float(jnp.max(0.5 * (at.B * p) ** 2 + mu * at.B))
        steps = substeps(psi, mu, dt, wall, top)
    at = field_lines.from_potential(chi, psi, outside="extrapolate")
    s_wall = field_lines.from_potential(wall, psi, outside="extrapolate").s
    s, v = jnp.broadcast_arrays(at.s, at.B * p)
    moved, v0, alive = _trace(s, v, psi, mu, dt, s_wall, e_cap, steps, bool(reflect))
    chi0 = psi**2 * moved / (1.0 - moved**2) ** 2
    p0 = v0 / _strength(moved, psi)
    # what did not move is given back as it came
    still = (moved == s) & (v0 == v)
    return (jnp.where(alive, jnp.where(still, chi, chi0), 0.0), jnp.where(alive, jnp.where(still, p, p0), 0.0), alive)


def wall_lines(grid) -> np.ndarray:
    """(low, high) of the lines chi of each plane psi that are above the planet, |chi| < sqrt(1 - psi): shape (psi, 2)."""
    n = grid["chi"].n
    above = np.abs(grid["chi"].centers)[None, :] < np.sqrt(1.0 - grid["psi"].centers)[:, None]
    half = above.sum(1) // 2
    return np.stack([n // 2 - half, n // 2 + half], axis=1)


def energy_cap(grid) -> np.ndarray:
    """E_cap(mu, psi) = (B p_max)^2/2 + mu B at the equator, the least energy on |p| = p_max: beyond it nothing moves."""
    B = grid["psi"].centers ** 3
    return 0.5 * (B * grid["p"].faces[-1]) ** 2 + grid["mu"].centers[:, None] * B


_LANES = 8192


def _plane(grid, psi, mu, dt, lines, e_cap, reflect, points):
    """The table of one plane: see `remap_tables.plane_table`."""
    chi, p = grid["chi"].faces, grid["p"].faces
    low, high = (int(x) for x in lines)
    if not reflect and high > low:
        # the outermost cells end where the planet is, not at their faces: with a wall that jumps from plane to plane, noise in
        # psi would take particles past the lowest wall around and lose too many
        chi = chi.copy()
        chi[high] = math.sqrt(1.0 - psi) if high < chi.size - 1 else min(chi[-1], math.sqrt(1.0 - psi))
        chi[low] = -chi[high]
    na, nb = chi.size - 1, p.size - 1
    rows = max(na // 2 - low, 0)
    ga, w = remap_tables.gauss_points(chi, points)
    gb, _ = remap_tables.gauss_points(p, points)
    a = np.broadcast_to(ga[low:na // 2, None, :, None], (rows, nb, points, points)).reshape(rows * nb, -1).copy()
    b = np.broadcast_to(gb[None, :, None, :], (rows, nb, points, points)).reshape(rows * nb, -1).copy()
    alive = np.ones(a.shape, bool)
    still = within = inner = None
    if rows:
        wall = float(chi[high])
        at = field_lines.from_potential(ga[low:na // 2], psi, outside="extrapolate")
        everywhere = (rows, nb, points, points)
        B, s = (np.broadcast_to(np.asarray(x)[:, None, :, None], everywhere).reshape(a.shape) for x in (at.B, at.s))
        v = B * b
        moving = 0.5 * v**2 + mu * B <= e_cap
        s_wall = float(field_lines.from_potential(wall, psi, outside="extrapolate").s)
        b_wall = float(_strength(s_wall, psi))
        if not reflect:
            energy = 0.5 * v**2 + mu * B
            # trapped particles stay trapped: the border is that of the cells nearest to it
            within = energy <= mu * b_wall
            centre = np.asarray(field_lines.from_potential(0.5 * (chi[1:] + chi[:-1]), psi, outside="extrapolate").B)
            fastest = np.sqrt(np.maximum(2.0 * mu * (b_wall - centre), 0.0)) / centre
            inner = np.searchsorted(grid["p"].centers[nb // 2:], fastest)
            # above e_cap, but on its way to the planet: lost within the step, as those below are (frozen they would pile up)
            alive[(energy > e_cap) & ~within] = False
            # so fast, even at the wall, that it must have met it
            slowest = np.sqrt(np.maximum(2.0 * (energy - mu * b_wall), 0.0))
            gone = ~within & (slowest * dt > 2.0 * float(field_lines.surface_length(psi)))
            alive[gone] = False
            moving &= ~gone
        s, v = s[moving], v[moving]
        # a table needs no eight digits: half the steps keep H to some 1e-6
        n = max(2, (substeps(psi, mu, dt, wall, e_cap) + 1) // 2)
        out = []
        for k in range(0, s.size, _LANES):
            part = [np.resize(x[k:k + _LANES], _LANES) for x in (s, v)]
            out.append(jax.device_get(_trace(*part, psi, mu, dt, s_wall, np.inf, n, reflect)))
        if out:
            s0, v0, ok = (np.concatenate([o[i] for o in out])[:s.size] for i in range(3))
            x0 = 1.0 - s0**2
            a[moving], b[moving] = psi**2 * s0 / x0**2, v0 * x0**3 / (psi**3 * np.sqrt(1.0 + 3.0 * s0**2))
            alive[moving] = ok
        still = alive.all(1) & ~moving.any(1)
    row, donor, weight, kept, volumes = remap_tables.plane_table(
        chi, p, a, b, alive, np.outer(w, w).ravel(), live=(low, high), still=still, within=within, lines=inner)
    # per unit of the grid's own averages
    volume = np.outer(grid["chi"].measure, grid["p"].measure).ravel()
    return row, donor, weight * (volume / np.where(volumes > 0, volumes, volume))[donor], kept, inner


def tables(grid, dt, *, planet="absorbing", points=6):
    """`RemapTables` of the bounce over dt on a grid with axes (mu, psi, chi, p[, theta]); chi and p symmetric about 0.

    planet: "absorbing", what touches the planet (or the edge of the grid in chi) within dt is lost; "reflecting", it turns back.
    points: Gauss points a cell and direction; 6 is good. Made on the host in double precision. Raises ValueError for a grid
    that is not symmetric, another kind of planet, or dt that is not positive.
    """
    if planet not in ("absorbing", "reflecting"):
        raise ValueError(f"planet: {planet!r} is unknown; give 'absorbing' or 'reflecting'")
    if not (np.isfinite(dt) and dt > 0):
        raise ValueError(f"dt: the step of the bounce tables must be positive, got {dt}")
    for name in ("chi", "p"):
        faces = grid[name].faces
        if faces.size % 2 == 0 or np.max(np.abs(faces + faces[::-1])) > 1e-12 * faces[-1]:
            raise ValueError(f"{name}: the bounce tables need an even number of cells, symmetric about 0")
    dtype = jnp.result_type(float)
    lines, caps = wall_lines(grid), energy_cap(grid)
    psi, mu = grid["psi"].centers, grid["mu"].centers
    reflect = planet == "reflecting"

    def one(k):
        m, j = divmod(k, psi.size)
        with jax.enable_x64(True):
            return _plane(grid, float(psi[j]), float(mu[m]), float(dt), lines[j], float(caps[m, j]), reflect, points)

    with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool:
        planes = list(pool.map(one, range(mu.size * psi.size)))
    shape, plane = (mu.size, psi.size), (grid["chi"], grid["p"])
    inner = None
    if not reflect:
        inner = np.stack([np.zeros(grid["chi"].n, np.int32) if x[4] is None else x[4].astype(np.int32) for x in planes])
    return remap_tables.stack_planes(planes, shape, plane, float(dt), lossy=not reflect, dtype=dtype,
                                     lines=np.tile(lines, (mu.size, 1)), inner=inner)
