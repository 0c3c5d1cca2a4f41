"""Grid, geometry and phase-space coordinates of the foliated equation: (mu, psi, chi, p) and, with theta, five axes.

chi is the magnetic scalar potential (grad chi = B), p = v_par/B: see `jaxbelt.equations.foliated` for why. chi and p are
sinh-stretched and symmetric about 0, psi is uniform, mu stands on Gauss-Legendre nodes of y with mu = mu_c sinh y.
"""

from __future__ import annotations

import math
from functools import lru_cache
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxbelt.grid import Axis, Frozen, Grid
from jaxbelt.physics import field_lines

__all__ = ["Coordinates", "coordinates", "energy", "energy_cap", "geometry", "grid", "initial", "live", "spread", "wall"]

_MU_CENTRE = 0.5
_READ = ("s", "x", "psi", "L", "latitude", "r", "r_cyl", "z", "l", "chi", "B", "q", "q_l", "q_psi", "B_l", "B_psi_at_l", "B_chi",
         "B_psi", "B_psipsi", "a", "c")


class Coordinates(NamedTuple):
    """The paper's coordinates at the centres of the cells, broadcastable to the grid: l [R_p], v [v_th], theta, psi, mu."""

    l: np.ndarray     # noqa: E741
    v: np.ndarray
    theta: np.ndarray | float
    psi: np.ndarray
    mu: np.ndarray


def _stretched(half, cells, step):
    """Symmetric faces of an axis from -half to half, sinh-stretched so that its central cells have the width `step`."""
    n = cells // 2
    target = half / (n * step)                                 # sinh(a)/a
    a = 0.0
    if target > 1.0:
        a = math.sqrt(6.0 * (target - 1.0))
        a = min(a, math.log(2.0 * target) + math.log(max(math.log(2.0 * target), 1.0)) + 1.0)
        for _ in range(60):
            a -= (math.sinh(a) / a - target) / ((a * math.cosh(a) - math.sinh(a)) / a**2)
    u = np.arange(n + 1) / n
    right = half * (u if a < 1e-6 else np.sinh(a * u) / math.sinh(a))
    right[-1] = half
    return np.concatenate([-right[:0:-1], right])


def _whole(name, value, low, even=False):
    if isinstance(value, bool) or int(value) != value or value < low or (even and value % 2):
        raise ValueError(f"{name}: needs {'an even' if even else 'a whole'} number of at least {low}, got {value}")
    return int(value)


def _mu_axis(mu, mu_max, B_out):
    if np.ndim(mu) == 0 and not isinstance(mu, Axis):
        n = _whole("mu", mu, 1)
        top = 7.0 / B_out if mu_max is None else float(mu_max)
        if not 0 < top < math.inf:
            raise ValueError(f"mu_max: must be positive, got {top:g}; 7/B at the outer wall's equator, "
                             f"{7.0 / B_out:.3g}, is usual")
        x, w = np.polynomial.legendre.leggauss(n)
        y_max = math.asinh(top / _MU_CENTRE)
        y = 0.5 * y_max * (1.0 + x)
        return Axis.nodes("mu", _MU_CENTRE * np.sinh(y), 0.5 * y_max * w * _MU_CENTRE * np.cosh(y), unit="T0/B_p",
                          long_name="magnetic moment")
    if isinstance(mu, Axis):
        values, weights = mu.centers, mu.measure
        if not mu.is_nodes:
            raise ValueError("mu: no flow acts along it: give Axis.nodes, a list of values, or a number of nodes")
    else:
        values, weights = np.asarray(mu, float), None
        if values.size == 0 or np.any(np.diff(values) <= 0):
            raise ValueError(f"mu: needs increasing values, at least one, got {list(mu)}")
    bad = values[~(values > 0)]
    if bad.size:
        raise ValueError(f"mu: a magnetic moment must be positive, got {bad[0]:g}")
    return Axis.nodes("mu", values, weights, unit="T0/B_p", long_name="magnetic moment")


def grid(psi=None, *, L=None, cells=(24, 48, 60), mu=8, theta=None, v_max=5.5, mu_max=None, chi_max=None,
         nodes=None) -> Grid:
    """Axes (mu, psi, chi, p), or (mu, psi, chi, p, theta) where `theta` is a number of cells around.

    psi: (outermost, innermost) flux function, 0 < psi < 1; or L: (innermost, outermost), L = 1/psi. cells: (chi, p, psi), the
    first two even. mu: number of Gauss-Legendre nodes up to mu_max (default 7/B at the outer wall's equator), or the values
    themselves (weights one), or an `Axis.nodes`. v_max: largest |v_par| [v_th] at the outer wall's equator; there p = v_par/B is
    largest, p_max = v_max/B_out. chi_max: default sqrt(1 - psi_outermost), where the outermost field line meets the planet.
    nodes: an `Axis.nodes` that comes first, one run a node (weak and strong noise, say), all advanced together.

    Good values: L from 1.05 to 2 or 3; (24, 48, 60) gives averages to about 1 %. The cells at p = 0 are as wide as 0.45 v_th
    where B is strongest. Raises ValueError where psi is outside (0, 1), mu <= 0, or the range of L is too wide for the cells of p
    (their v_par = B p spans B_max/B_out at fixed p).
    """
    if (psi is None) == (L is None):
        raise ValueError("psi: give either psi=(outermost, innermost) or L=(innermost, outermost)")
    if L is not None:
        if np.shape(L) != (2,):
            raise ValueError(f"L: needs two numbers, (innermost, outermost), got {L}")
        near, far = (float(x) for x in L)
        if not 1.0 < near < far < math.inf:
            raise ValueError(f"L: needs (innermost, outermost) with 1 < innermost < outermost, got ({near:g}, {far:g}); "
                             "L = 1 is the planet's surface")
        psi = (1.0 / far, 1.0 / near)
    if np.shape(psi) != (2,):
        raise ValueError(f"psi: needs two numbers, (outermost, innermost), got {psi}")
    if len(cells) != 3:
        raise ValueError(f"cells: needs three numbers, for (chi, p, psi), got {cells}")
    lo, hi = (float(x) for x in psi)
    if not 0.0 < lo < hi < 1.0:
        raise ValueError(f"psi: needs (outermost, innermost) with 0 < outermost < innermost < 1, got ({lo:g}, {hi:g}); psi = 1/L "
                         "is 1 at the planet's equator, and beyond it the domain would lie inside the planet")
    n_chi, n_p = _whole("cells of chi", cells[0], 6, even=True), _whole("cells of p", cells[1], 6, even=True)
    n_psi = _whole("cells of psi", cells[2], 2)
    if not 0 < v_max < math.inf:
        raise ValueError(f"v_max: must be positive [v_th at the outer wall's equator], got {v_max:g}; 5.5 is usual")
    B_out, top = lo**3, math.sqrt(1.0 - lo)
    if chi_max is None:
        chi_max = top
    elif not 0 < chi_max <= top * (1 + 1e-12):
        raise ValueError(f"chi_max: must be in (0, {top:.4g}], where psi = {lo:g} meets the planet, got {chi_max:g}")
    chi = _stretched(chi_max, n_chi, min(0.2 * math.sqrt(1.0 - hi), 0.25 * lo**2))
    # the strongest field of the domain: on the surface sqrt(4 - 3 psi), or where chi_max ends
    with jax.ensure_compile_time_eval():
        ends = field_lines.from_potential(np.minimum(chi_max, np.sqrt(1.0 - np.array([lo, hi]))), np.array([lo, hi]))
        B_max = max(float(np.max(np.asarray(ends.B))), hi**3)
    p_max = v_max / B_out
    p = _stretched(p_max, n_p, 0.45 / B_max)
    # thermal particles at the outer equator: the cell that holds v = v_th there
    k = int(np.searchsorted(p, min(1.0, 0.5 * v_max) / B_out))
    width = (p[k] - p[k - 1]) * B_out
    if width > 0.6:
        raise ValueError(f"psi: B rises {B_max / B_out:.3g} times from the outer equator (psi = {lo:g}) to the strongest point, "
                         f"too much for {n_p} cells of p (cells[1]): they are {width:.2g} v_th wide at v_par = v_th in the outer "
                         "field (0.6 is the limit); take a narrower range of L, or more cells of p")
    axes = [*([nodes] if nodes is not None else []), _mu_axis(mu, mu_max, B_out),
            Axis.cells("psi", lo + (hi - lo) * np.arange(n_psi + 1) / n_psi, unit="B_p R_p^2", long_name="flux function"),
            Axis.cells("chi", chi, unit="B_p R_p", long_name="magnetic scalar potential"),
            Axis.cells("p", p, unit="v_th/B_p", long_name="parallel velocity over field strength")]
    if theta is not None:
        n = _whole("theta", theta, 4)
        axes.append(Axis.cells("theta", 2.0 * np.pi * np.arange(n + 1) / n, unit="rad", periodic=True,
                               long_name="toroidal angle"))
    return Grid(tuple(axes))


def check_grid(grid) -> None:
    """Raise ValueError unless the grid is one of `grid`."""
    if grid.axes[0].is_nodes and grid.axes[0].name != "mu":
        grid = Grid(grid.axes[1:])
    if grid.names[:4] != ("mu", "psi", "chi", "p") or grid.names[4:] not in ((), ("theta",)):
        raise ValueError(f"grid: needs the axes (mu, psi, chi, p[, theta]) of foliated.grid, got ({', '.join(grid.names)})")


@lru_cache(maxsize=16)
def _geometry(psi, chi):
    with jax.ensure_compile_time_eval():
        lines = jnp.asarray(psi.array)[:, None]
        where = field_lines.from_potential(jnp.asarray(chi.array)[None, :], lines, outside="extrapolate")
        return SimpleNamespace(**{name: np.asarray(getattr(where, name)) for name in _READ})


def geometry(grid, *, chi="centers", psi="centers") -> SimpleNamespace:
    """What `field_lines.Point` gives (l, B, q, a, c, r_cyl, z ...) at the centres or faces of (psi, chi), as NumPy arrays of that
    shape; inside the planet they are extrapolated.
    """
    return _geometry(Frozen(getattr(grid["psi"], psi)), Frozen(getattr(grid["chi"], chi)))


def spread(grid, a):
    """An array (psi, chi) broadcastable to the grid."""
    return np.asarray(a)[None, :, :, None, None] if "theta" in grid.names else np.asarray(a)[None, :, :, None]


def live(grid) -> np.ndarray:
    """True in the cells (psi, chi) whose centre is above the planet's surface, |chi| < sqrt(1 - psi)."""
    return np.abs(grid["chi"].centers)[None, :] < np.sqrt(1.0 - grid["psi"].centers)[:, None]


def wall(grid) -> np.ndarray:
    """|chi| of the planet's surface in every plane psi, as the cells see it: the outermost face of the live ones."""
    half = grid["chi"].faces[grid["chi"].n // 2:]
    return half[np.sum(live(grid), axis=1) // 2]


def energy_cap(grid) -> np.ndarray:
    """E_cap(mu, psi): the least energy on |p| = p_max, at the equator. Beyond it nothing moves along the field."""
    B = grid["psi"].centers ** 3
    return 0.5 * (B * grid["p"].faces[-1]) ** 2 + grid["mu"].centers[:, None] * B


def coordinates(grid) -> Coordinates:
    """(l, v, theta, psi, mu) at the centres of the cells, each broadcastable to the grid (theta is 0.0 without that axis)."""
    at = geometry(grid)
    theta = grid.centers("theta") if "theta" in grid.names else 0.0
    l = spread(grid, at.l)   # noqa: E741
    return Coordinates(l, spread(grid, at.B) * grid.centers("p"), theta, grid.centers("psi"), grid.centers("mu"))


def energy(grid) -> np.ndarray:
    """H = v_par^2/2 + mu B [T0] at the centres of the cells, broadcastable to the grid."""
    B = spread(grid, geometry(grid).B)
    return 0.5 * (B * grid.centers("p")) ** 2 + grid.centers("mu") * B


def initial(grid, P, *, points: int = 2, cut: float = 0.01):
    """Cell averages of P(l, v, theta, psi, mu) on the grid, 0 inside the planet.

    P: a density per dl dv dtheta dpsi dmu (axisymmetric: called with theta = 0.0), for instance
    `lambda l, v, theta, psi, mu: exp(-v**2/2 - mu*B)` with B = field_lines.from_length(l, psi, outside="extrapolate").B; see
    also `maxwellian`.
    points: Gauss points a cell along chi and p each. cut: how much of P may lie beyond E_cap, where nothing moves along the
    field (1 for states that fill the box).

    Raises ValueError where more than `cut` does: the grid's p_max cuts the distribution.
    """
    check_grid(grid)
    x, w = np.polynomial.legendre.leggauss(points)
    chi, p = grid["chi"], grid["p"]
    psi = jnp.asarray(grid["psi"].centers)[:, None]
    total = 0.0
    shape = (1, -1, chi.n, 1) + ((1,) if "theta" in grid.names else ())
    theta = grid.centers("theta") if "theta" in grid.names else 0.0
    others = (theta, grid.centers("psi"), grid.centers("mu"))
    for a, wa in zip(x, w):
        inside = jnp.asarray(chi.centers + 0.5 * a * np.diff(chi.faces))[None, :]
        at = field_lines.from_potential(inside, psi, outside="extrapolate")
        for b, wb in zip(x, w):
            v = at.B.reshape(shape) * grid.along("p", p.centers + 0.5 * b * np.diff(p.faces))
            total = total + 0.25 * wa * wb * jnp.asarray(P(at.l.reshape(shape), v, *others))
    f = jnp.broadcast_to(jnp.where(spread(grid, live(grid)), total, 0.0), grid.shape)
    if not isinstance(f, jax.core.Tracer):
        _check_cut(grid, np.asarray(f), cut)
    return f


def _check_cut(grid, f, cut):
    cap = energy_cap(grid)[:, :, None, None]
    beyond = energy(grid) >= (cap[..., None] if "theta" in grid.names else cap)
    content = np.abs(f) * grid.volumes
    total = content.sum()
    share = (content * beyond).sum() / total if total > 0 else 0.0
    if share > cut:
        p, low = grid["p"].faces[-1], grid["psi"].faces[0]
        raise ValueError(f"v_max: p_max = {p:.4g} cuts the distribution: {100 * share:.2g} % of it lies beyond the largest "
                         f"energy that moves on the grid; take a larger v_max in the grid (it is {p * low**3:.3g}), or "
                         f"allow it with initial(..., cut={min(1.0, 1.1 * share):.2g})")


def check_mu(grid, temperature) -> None:
    """Raise ValueError where the largest mu cuts a Maxwellian of this temperature at the outer equator."""
    if isinstance(temperature, jax.core.Tracer) or grid["mu"].n < 4 or np.all(grid["mu"].measure == 1.0):
        return                                                 # chosen values, no quadrature
    top, B = float(grid["mu"].measure.sum()), grid["psi"].faces[0] ** 3     # the range that the nodes integrate over
    if math.exp(-top * B / temperature) > 0.02:
        raise ValueError(f"mu_max: the range of mu, 0 to {top:.3g}, cuts a Maxwellian of temperature {temperature:g} at the "
                         f"outer equator; take mu_max = 7 temperature/B = {7 * temperature / B:.3g} in the grid")


def maxwellian(grid, temperature=1.0, level=1.0, *, points: int = 2):
    """level * exp(-H/temperature) on the grid (temperature in T0), the start of the paper's figures: uniform in space, with
    n = level temperature^(3/2)/(2 pi)^(1/2) where there is no theta. Raises ValueError where the grid's mu or p cut it.
    """
    for name, value in (("temperature", temperature), ("level", level)):
        if not isinstance(value, jax.core.Tracer) and not value > 0:
            raise ValueError(f"{name}: must be positive, got {value:g}")
    check_mu(grid, temperature)

    def P(l, v, theta, psi, mu):   # noqa: E741
        B = field_lines.from_length(l, psi, outside="extrapolate").B
        return level * jnp.exp(-(0.5 * v**2 + mu * B) / temperature) + 0.0 * theta

    return initial(grid, P, points=points)
