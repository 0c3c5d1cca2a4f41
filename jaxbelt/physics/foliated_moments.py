r"""Number, temperatures, energy and entropy of a state of the foliated equation: over all particles, and in every place.

f is P on a grid of `jaxbelt.foliated.grid`, (..., mu, psi, chi, p[, theta]); leading axes (time, a batch, the grid's own nodes)
are kept. Units: T0 for energies and temperatures, B_p, R_p and v_th for the rest.

How many particles. The content of the grid, int P dchi dp dpsi dmu [dtheta], is the number of particles, and n is such that
int n dx dy dz is the content, exactly. Space is dx dy dz = dchi dpsi dtheta/B^2, so

    n = B^2 int int P dp dmu            with a theta axis,
    n = B^2 int int P dp dmu/(2 pi)     without (the grid then holds what has been integrated over theta).

A P that was meant per unit theta on a grid without theta, or per unit gyrophase (the 2 pi of n = 2 pi B^2 int int P dp dmu): its
number of particles is 2 pi times the content, and n and `number` are to be multiplied by that.

How they are integrated. f holds cell averages. v^2 at the centre of a cell stands for more than it holds, as particles are
denser on the side of low energy (<v^2/2> of a Maxwellian: .511 for .500 with 48 cells of p). Here P is rebuilt along p in
every cell from the averages of five (degree 4, so that each cell keeps its content) and integrated against p^2 exactly. Along
chi, density and pressures are rebuilt in the same way, as polynomials that give five cells their contents (three beside the
planet's surface), so they are exact where density and pressure are the same all along the field line, as in a Maxwellian.
The error falls with the fourth power of the width or faster. What a cell's p^2 and B stand for is kept between the least and
the largest there, so a state that is nowhere negative has no negative temperature.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxbelt.grid import Grid
from jaxbelt.physics import field_lines

__all__ = ["Averages", "Local", "Profile", "averages", "equatorial", "leaf_entropy", "local", "number", "volumes"]

_GAUSS = 6


class Averages(NamedTuple):
    """Averages over all particles of the domain; each has the leading axes of f. NaN where there is no particle.

    number: the content; T_perp = <mu B> (Eq. 21); E_par = <v_par^2/2> (Eq. 22: what the paper calls T_par, 1/2 for a
    Maxwellian of T_perp = 1); T_par = <v_par^2>, the usual temperature (no mean flow is taken out); anisotropy =
    T_perp/T_par; energy = <H>; entropy: see `leaf_entropy`.
    """

    number: jax.Array
    T_perp: jax.Array
    E_par: jax.Array
    T_par: jax.Array
    anisotropy: jax.Array
    energy: jax.Array
    entropy: jax.Array


class Local(NamedTuple):
    """Of the particles in each cell of space, (..., psi, chi[, theta]): density n, temperatures as in `Averages`.

    n is the number in the cell over its volume. Temperatures are NaN where there is no particle, as inside the planet.
    """

    n: jax.Array
    T_perp: jax.Array
    E_par: jax.Array
    T_par: jax.Array
    anisotropy: jax.Array


class Profile(NamedTuple):
    """Along the equator z = 0: radius r = L (psi,) [R_p] and the quantities of `Local`, (..., psi[, theta]). psi falls with r."""

    r: np.ndarray
    n: jax.Array
    T_perp: jax.Array
    E_par: jax.Array
    T_par: jax.Array
    anisotropy: jax.Array


# ---- tables: what belongs to the grid

class _Tables(NamedTuple):
    p2: np.ndarray          # (p,): the p^2 that a cell's average stands for
    B: np.ndarray           # (psi, chi, chi): averages of int mu P along chi -> averages of B int mu P
    B2: np.ndarray          # of int p^2 P -> of B^2 int p^2 P
    low: np.ndarray         # (psi, chi): least and largest B of a cell
    high: np.ndarray
    volume: np.ndarray      # (psi, chi): int dchi/B^2
    equator: np.ndarray     # (3, psi, chi): averages of int P, int mu P, int p^2 P -> their values at chi = 0
    B_eq: np.ndarray        # (psi,)
    live: np.ndarray        # (psi, chi)


def _weights(t, x):
    """(x, cell): weights of the averages of the cells between the faces t in the polynomial that has them, at x."""
    n, x = t.size, np.atleast_1d(x)[:, None]
    slope = np.empty((x.shape[0], n))                       # of the Lagrange polynomials of the primitive
    for k in range(n):
        rest = np.delete(t, k)
        slope[:, k] = sum(np.prod(x - np.delete(rest, i), axis=1) for i in range(n - 1)) / np.prod(t[k] - rest)
    return np.diff(t) * np.cumsum(slope[:, :0:-1], axis=1)[:, ::-1]


def _stencil(j, first, last):
    """The five cells around j out of first <= cell < last: their first, and how many. Three beside an end: one-sided stencils of
    cells that widen outward weigh wildly."""
    if last - first < 3:
        return first, last - first
    reach = max(1, min(2, j - first, last - 1 - j))
    return min(max(j - reach, first), last - 2 * reach - 1), 2 * reach + 1


def _rebuilt(faces):
    """(cell, Gauss point, cell): P at the points of every cell, from the averages."""
    n, (x, _) = faces.size - 1, np.polynomial.legendre.leggauss(_GAUSS)
    out = np.zeros((n, _GAUSS, n))
    for j in range(n):
        at, count = _stencil(j, 0, n)
        width = faces[j + 1] - faces[j]
        out[j, :, at:at + count] = _weights((faces[at:at + count + 1] - faces[j]) / width, 0.5 * (1.0 + x))
    return out


def _inner(grid) -> Grid:
    """The grid without an axis of nodes before mu; ValueError unless it has the axes of `jaxbelt.foliated.grid`."""
    names = grid.names[1:] if grid.axes[0].is_nodes and grid.names[0] != "mu" else grid.names
    if names not in (("mu", "psi", "chi", "p"), ("mu", "psi", "chi", "p", "theta")):
        raise ValueError(f"grid: needs the axes (mu, psi, chi, p[, theta]) of foliated.grid, got ({', '.join(grid.names)})")
    return grid if names == grid.names else Grid(grid.axes[1:])


@jax.jit
def _field(chi, psi):
    return field_lines.from_potential(chi, psi, outside="extrapolate").B


def _along_chi(grid, nodes, B, live):
    """The tables B, B2 and equator: n, n T_perp and n T_par are polynomials of chi, P's integrals those over B^2, B^3, B^4.

    nodes (chi, Gauss point), B at them (psi, chi, Gauss point).
    """
    n_psi, n, w = grid["psi"].n, grid["chi"].n, 0.5 * np.polynomial.legendre.leggauss(_GAUSS)[1]
    matrix, equator = np.zeros((2, n_psi, n, n)), np.zeros((3, n_psi, n))
    half = np.sum(live, axis=1) // 2
    for k in np.unique(half[half > 0]):
        rows = np.flatnonzero(half == k)
        b, B_eq = B[rows], grid["psi"].centers[rows] ** 3
        for j in range(n // 2 - k, n // 2 + k):
            at, count = _stencil(j, n // 2 - k, n // 2 + k)
            cells = slice(at, at + count)
            powers = ((nodes[cells] - grid["chi"].centers[j]) / grid["chi"].measure[j])[..., None] ** np.arange(count)
            for m, out in ((1, matrix[0]), (2, matrix[1])):
                # averages of the powers over B^(2+m) in the cells of the stencil, and over B^2 in this one
                have = np.einsum("g,pcg,cgd->pcd", w, b[:, cells] ** (-2.0 - m), powers)
                want = np.einsum("g,pg,gd->pd", w, b[:, j] ** -2.0, powers[j - at])
                out[rows, j, cells] = np.linalg.solve(have.transpose(0, 2, 1), want[..., None])[..., 0]
        count = 2 * min(k, 3)
        cells = slice(n // 2 - count // 2, n // 2 + count // 2)
        powers = (nodes[cells] / grid["chi"].measure[n // 2])[..., None] ** np.arange(count)
        for m in range(3):
            have = np.einsum("g,pcg,cgd->pcd", w, (B_eq[:, None, None] / b[:, cells]) ** (2 + m), powers)
            want = np.broadcast_to(np.eye(count)[0], (len(rows), count))
            equator[m, rows, cells] = np.linalg.solve(have.transpose(0, 2, 1), want[..., None])[..., 0]
    return (*matrix, equator)


@lru_cache(maxsize=8)
def _tables(grid) -> _Tables:
    x, w = np.polynomial.legendre.leggauss(_GAUSS)
    p, chi, psi = grid["p"].faces, grid["chi"].faces, grid["psi"].centers
    points = grid["p"].centers[:, None] + 0.5 * np.diff(p)[:, None] * x
    p2 = np.einsum("jg,g,jgi,j->i", points**2, 0.5 * w, _rebuilt(p), np.diff(p)) / np.diff(p)
    square = p**2
    p2 = np.clip(p2, np.minimum(square[1:], square[:-1]), np.maximum(square[1:], square[:-1]))      # 0 is a face
    nodes = grid["chi"].centers[:, None] + 0.5 * np.diff(chi)[:, None] * x
    with jax.ensure_compile_time_eval():
        B = np.asarray(_field(np.concatenate([nodes.ravel(), chi]), psi[:, None]), np.float64)
    B, edge = B[:, :nodes.size].reshape(psi.size, *nodes.shape), B[:, nodes.size:]
    volume = np.sum(0.5 * np.diff(chi)[:, None] * w / B**2, axis=-1)
    live = np.abs(grid["chi"].centers) < np.sqrt(1.0 - psi)[:, None]
    # B grows away from the equator, and the equator is a face
    low, high = np.minimum(edge[:, 1:], edge[:, :-1]), np.maximum(edge[:, 1:], edge[:, :-1])
    perp, par, equator = _along_chi(grid, nodes, B, live)
    return _Tables(p2, perp, par, low, high, volume, equator, psi**3, live)


# ---- the moments

def _ratio(a, b):
    """a/b, NaN where b is not positive, without a NaN in its derivatives."""
    some = b > 0
    return jnp.where(some, a / jnp.where(some, b, 1.0), jnp.nan)


def _state(grid, f):
    """(grid from mu on, f in floating point), checked."""
    inner, f = _inner(grid), jnp.asarray(f)
    f = f if jnp.issubdtype(f.dtype, jnp.floating) else f.astype(float)
    if f.shape[max(f.ndim - grid.ndim, 0):] != grid.shape:
        raise ValueError(f"f: needs the shape (..., {', '.join(map(str, grid.shape))}) of the grid's {', '.join(grid.names)}, "
                         f"got {f.shape}")
    return inner, f


def _sums(grid, f):
    """Integrals over p and mu of P, mu P and p^2 P: (..., psi, chi[, theta])."""
    mu, p, t = grid["mu"], grid["p"], _tables(grid)
    rows = np.stack([p.measure, p.measure * t.p2]).astype(f.dtype)
    over = np.stack([mu.measure, mu.measure * mu.centers]).astype(f.dtype)
    tail = "t" if grid.ndim == 5 else ""
    both = jnp.einsum(f"...mijp{tail},kp->...kmij{tail}", f, rows)
    first = jnp.einsum(f"...kmij{tail},am->...kaij{tail}", both, over)
    at = -3 - (grid.ndim - 3)
    plain, square = jnp.take(first, 0, axis=at), jnp.take(first, 1, axis=at)
    at += 1
    return jnp.take(plain, 0, axis=at), jnp.take(plain, 1, axis=at), jnp.take(square, 0, axis=at)


def _spatial(grid, a, f):
    """(psi, chi) or (psi,) values of the grid beside (..., psi, chi[, theta]) ones, in their precision."""
    a = np.asarray(a, f.dtype)
    return a[..., None] if grid.ndim == 5 else a


def _along(grid, matrix, a):
    """A matrix (psi, chi, chi) on a: (..., psi, chi[, theta])."""
    tail = "t" if grid.ndim == 5 else ""
    return jnp.einsum(f"pij,...pj{tail}->...pi{tail}", matrix.astype(a.dtype), a)


def _cells(grid, f):
    """Averages over each cell of space (..., psi, chi[, theta]): P, mu B P and v^2/2 P, integrated over p and mu."""
    t = _tables(grid)
    N, M, Q = _sums(grid, f)
    low, high = _spatial(grid, t.low, N), _spatial(grid, t.high, N)
    perp = jnp.clip(_along(grid, t.B, M), low * M, high * M)
    par = jnp.clip(_along(grid, t.B2, Q), low**2 * Q, high**2 * Q)
    return N, perp, 0.5 * par


def _measure(grid, dtype):
    """dpsi dchi [dtheta]: (psi, chi[, theta])."""
    m = grid["psi"].measure[:, None] * grid["chi"].measure
    return (m[..., None] * grid["theta"].measure if grid.ndim == 5 else m).astype(dtype)


def _total(grid, a):
    """Integral over psi, chi and theta of (..., psi, chi[, theta])."""
    return jnp.sum(a * _measure(grid, a.dtype), axis=tuple(range(2 - grid.ndim, 0)))


def volumes(grid) -> np.ndarray:
    """Volume [R_p^3] of the cells of space, (psi, chi[, theta]): dpsi dtheta int dchi/B^2; all around without theta. Cells inside
    the planet too, so that density times volume is what the grid holds."""
    grid = _inner(grid)
    v = grid["psi"].measure[:, None] * _tables(grid).volume
    return v[..., None] * grid["theta"].measure if grid.ndim == 5 else 2.0 * np.pi * v


def number(grid, f):
    """The number of particles: the content of the grid, sum of volume times f."""
    grid, f = _state(grid, f)
    return grid.content(f).astype(f.dtype)


def averages(grid, f, potential=None) -> Averages:
    """Averages over all particles (the curves of Fig. 1), for f of shape (..., *grid.shape).

    potential: e phi = phi/rho [T0] at the centres of psi, (psi,), to be counted in `energy`. Errors of a Maxwellian, L from 1.05
    to 2 with (24, 48, 60) cells: E_par 4e-4; T_perp 4e-4, from what the mu nodes leave out above 7/B_out.
    """
    return _averages(*_state(grid, f), potential)


@partial(jax.jit, static_argnums=0)
def _averages(grid, f, potential):
    N, perp, par = _cells(grid, f)
    amount, perp, par = _total(grid, N), _total(grid, perp), _total(grid, par)
    energy = perp + par
    if potential is not None:
        e_phi = jnp.broadcast_to(jnp.asarray(potential, N.dtype), (grid["psi"].n,))
        energy = energy + _total(grid, e_phi.reshape(-1, *(1,) * (grid.ndim - 3)) * N)
    T_perp, E_par = _ratio(perp, amount), _ratio(par, amount)
    return Averages(number(grid, f), T_perp, E_par, 2.0 * E_par, _ratio(perp, 2.0 * par), _ratio(energy, amount),
                    leaf_entropy(grid, f))


def local(grid, f) -> Local:
    """Density and temperatures in every cell of space, (..., psi, chi[, theta]).

    Sums over the cells are those of `averages`: sum of n volumes is the number, sum of n T_perp volumes the number times T_perp.
    """
    return _local(*_state(grid, f))


@partial(jax.jit, static_argnums=0)
def _local(grid, f):
    N, perp, par = _cells(grid, f)
    n = _density(grid, N, _spatial(grid, _tables(grid).volume / grid["chi"].measure, N))
    return Local(n, _ratio(perp, N), _ratio(par, N), _ratio(2.0 * par, N), _ratio(perp, 2.0 * par))


def _density(grid, N, inverse_square):
    return N / (inverse_square if grid.ndim == 5 else 2.0 * np.pi * inverse_square)


def equatorial(grid, f) -> Profile:
    """Density and temperatures along z = 0 (the profiles of Fig. 2): values at chi = 0, from the three cells on either side.

    Where one of the three integrals is then not between half the least and twice the largest of the two cells beside the
    equator, as in a state of few single cells, all are the mean of these two.
    """
    grid, f = _state(grid, f)
    return Profile(1.0 / grid["psi"].centers, *_equatorial(grid, f))


@partial(jax.jit, static_argnums=0)
def _equatorial(grid, f):
    t, n, chi_axis = _tables(grid), grid["chi"].n, 2 - (grid.ndim - 1)
    sums = _sums(grid, f)
    beside = [(jnp.take(a, n // 2 - 1, axis=chi_axis), jnp.take(a, n // 2, axis=chi_axis)) for a in sums]
    values = [jnp.sum(_spatial(grid, w, a) * a, axis=chi_axis) for w, a in zip(t.equator, sums)]
    sane = jnp.all(jnp.stack([(v >= 0.5 * jnp.minimum(*two)) & (v <= 2.0 * jnp.maximum(*two))
                              for v, two in zip(values, beside)]), axis=0)
    N, M, Q = (jnp.where(sane, v, 0.5 * (two[0] + two[1])) for v, two in zip(values, beside))
    B = t.B_eq.astype(N.dtype)
    B = B[:, None] if grid.ndim == 5 else B
    perp, par = B * M, B**2 * Q
    return _density(grid, N, 1.0 / B**2), _ratio(perp, N), _ratio(0.5 * par, N), _ratio(par, N), _ratio(perp, par)


def leaf_entropy(grid, f, leaves: bool = False):
    """-int P ln P over the grid, 0 ln 0 = 0: the entropy on the leaves of constant mu, summed over them.

    leaves: one for each mu instead, (..., mu), without mu's weight. It is that of the cell averages, never below that of what
    they average. With closed walls, gamma = 0 and alpha = 1/2 it cannot fall. (P/number has entropy/number + ln number.)
    """
    grid, f = _state(grid, f)
    some = f > 0
    dense = jnp.where(some, -f * jnp.log(jnp.where(some, f, 1.0)), 0.0)
    if not leaves:
        return grid.content(dense).astype(f.dtype)
    measure = np.asarray(grid.other_measures("mu"), f.dtype)
    return jnp.sum(dense * measure, axis=tuple(range(1 - grid.ndim, 0)))
