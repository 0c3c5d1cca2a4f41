r"""Cells for parallel mixing and pitch-angle scattering, and the two averages <.>_par and <.>_xi on them (paper: Sections 4, 5).

<f>_xi is the average over xi = v_par/v at fixed speed, dv_par at fixed v_perp is that of <f>_par, over the trapped electrons
E_par < h E_perp, h = B_T/B_0 - 1; passing ones are left as they are. Both act along lines of constant E or E_perp, so the cells
lie on a lattice of ln E and ln E_perp with the same spacing, ln(1+h)/M: cell (i, k) holds E_i and, for trapped electrons, E_perp
= E_(i-k), k = 0 (xi = 0) to M (the boundary E = (1+h) E_perp, xi = sqrt(h/(1+h))). The measure v^2 dv dxi is a product V_i w_k,
<f>_xi the sum of w_k f_ik over k, <f>_par the mean along the diagonals i - k = const. So both are sums of the same cells:
conservative, positive, idempotent and self-adjoint to round-off, and constants stay. The physics is in the weights w_k alone
(`trapped_nodes`).

f is even in xi. Number density is 4 pi times the content. v in any unit v0.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxbelt.grid import Axis, Frozen, Grid

__all__ = ["Cells", "LorentzStep", "ParallelMean", "PitchMean", "cells", "energies", "energy_rate", "eigenvalue",
           "lorentz_conductance", "lorentz_operator", "parallel_average", "pair_eigenvalue", "pitch_average", "trapped_nodes"]

_GAUSS = 12
_QUADRATURE = 48


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Cells(Grid):
    """The grid (v, xi) of `cells`: h, and the number M of steps of ln E_perp in the trapped region (M + 1 trapped nodes)."""

    h: float = 0.0
    trapped: int = 0


def _interpolation_weights(h, m, degree):
    """Weights of the nodes k = 0..m for the integral over xi from 0 to its boundary, by interpolation of a degree in xi^2."""
    step = math.log1p(h) / m
    u = -np.expm1(-step * np.arange(m + 1))
    xi = np.sqrt(u)
    xi[-1] = math.sqrt(h / (1.0 + h))
    x, gauss = np.polynomial.legendre.leggauss(_GAUSS)
    w = np.zeros(m + 1)
    for a in range(m):
        half = 0.5 * (xi[a + 1] - xi[a])
        at = (half * x + 0.5 * (xi[a + 1] + xi[a])) ** 2
        low = min(max(a - (degree - 1) // 2, 0), m - degree)
        window = range(low, low + degree + 1)
        for k in window:
            w[k] += half * np.sum(gauss * np.prod([(at - u[n]) / (u[k] - u[n]) for n in window if n != k], axis=0))
    return xi, w


def trapped_nodes(h: float, trapped: int, *, corrected: bool = True):
    r"""(xi_k, w_k), k = 0..M: xi_k = sqrt(1 - (1+h)^(-k/M)), sum of w_k = sqrt(h/(1+h)).

    With q = (1+h)^(1/M), Phi(s) = sum of w_k q^(s k/2) the operator <<g>_par>_xi - g has on v^-s the eigenvalue Phi(s) Phi(3-s)/
    Phi(3) - Phi(0). corrected=False: electrons of a cell of the lattice are shared linearly among its corners, that is, cells
    cut by the boundary and by E = E_perp with their exact measures; the eigenvalue is too large by 1.8/M^2. True: interpolation
    to second degree, adjusted (least change) so that number and energy growth are exact for every M, lam(-2) = lam(5) = (2/9) h
    (h/(1+h))^(3/2), and other powers to third order (s = 7, h = 1, M = 8: 4e-5, of the linear rule 3e-2).
    """
    k2 = h / (1.0 + h)
    xi, w = _interpolation_weights(h, trapped, 1)
    if not corrected:
        return xi, w
    r = math.log1p(h) / trapped * np.arange(trapped + 1)
    scaled = -np.expm1(-r) / k2
    # number; xi^2, so that <xi^2> = 1/3; the ratio Phi(5)/Phi(3) = 1 + h/3 of the exact average along v_par
    rows = np.array([np.ones_like(r), scaled, np.exp(1.5 * r) * (np.expm1(r) / h - 1.0 / 3.0)])
    want = np.array([1.0, 1.0 / 3.0, 0.0]) * math.sqrt(k2)
    for degree in (2, 1):                                      # 3 is no better up to M = 16, and its weights are uneven
        new = _interpolation_weights(h, trapped, degree)[1]
        for _ in range(3):
            shape = new * np.array([np.ones_like(r), scaled, scaled**2])
            new = new + np.linalg.lstsq(rows @ shape.T, want - rows @ new, rcond=None)[0] @ shape
        if np.all(new > 0.0):
            return xi, new
    raise ValueError(f"h, trapped: no positive weights for h = {h:g} with {trapped} cells; use more")


def cells(h, v=(0.05, 50.0), *, trapped: int = 8, passing: int = 8, corrected: bool = True) -> Cells:
    """The grid (v, xi) for wells of relative depth h = B_T/B_0 - 1 > 0 (concrete: it shapes the cells).

    v: (lowest, highest), 0 < lowest < highest, in ln v steps of ln(1+h)/(2 trapped); highest is rounded up to a whole number of
    them. trapped >= 2: steps of ln E_perp across the trapped region. passing >= 1: Gauss-Legendre nodes between its boundary and
    xi = 1. corrected: see `trapped_nodes`. Raises ValueError for values that make no grid, among them a range of v without room
    for a whole trapped line.
    """
    try:
        h = float(h)
    except jax.errors.ConcretizationTypeError:
        raise TypeError("h: must be a number here, not a traced value; two_field is differentiable in h") from None
    if not (0.0 < h < math.inf):
        raise ValueError(f"h: must be positive and finite (h = B_T/B_0 - 1), got {h:g}: without a well nothing is trapped")
    lo, hi = (float(x) for x in v)
    if not (0.0 < lo < hi < math.inf):
        raise ValueError(f"v: needs (lowest, highest) with 0 < lowest < highest, got ({lo:g}, {hi:g})")
    for name, n, least in (("trapped", trapped, 2), ("passing", passing, 1)):
        if int(n) != n or n < least:
            raise ValueError(f"{name}: needs a whole number of at least {least}, got {n}")
    step = 0.5 * math.log1p(h) / trapped
    n = math.ceil(math.log(hi / lo) / step * (1 - 1e-12))
    if n <= trapped:
        raise ValueError(f"v: from {lo:g} to {hi:g} no trapped line (E to (1+h) E) fits for h = {h:g}: widen it")
    faces = lo * np.exp(step * np.arange(n + 1))
    speed = Axis.cells("v", faces, measure=np.diff(faces**3) / 3.0, centers=np.sqrt(faces[1:] * faces[:-1]), unit="v0",
                       long_name="speed")
    xi, w = trapped_nodes(h, int(trapped), corrected=corrected)
    x, gauss = np.polynomial.legendre.leggauss(int(passing))
    half = 0.5 / ((1.0 + h) * (1.0 + xi[-1]))                  # (1 - k)/2, without cancellation
    pitch = Axis.nodes("xi", np.concatenate([xi, xi[-1] + half * (1.0 + x)]), np.concatenate([w, half * gauss]),
                       long_name="cosine of the pitch angle, v_par/v")
    return Cells((speed, pitch), None, h, int(trapped))


def energies(grid: Cells):
    """(E, E_perp, E_par) of every node, in units of m v0^2/2; trapped E_perp lie exactly on the lattice of E."""
    v, xi = grid.mesh()
    return v**2 + 0 * xi, v**2 * (1.0 - xi**2), (v * xi) ** 2


@functools.lru_cache(maxsize=16)
def _strip_weights(grid: Cells) -> Frozen:
    """V_i w_k along each strip of constant E_perp, sum 1: (M + 1, n + M), row M - k, column i - k + M."""
    m, n = grid.trapped, grid.shape[0]
    w, volume = grid["xi"].measure[: m + 1][::-1], grid["v"].measure
    shares = np.zeros((m + 1, n + m))
    for row in range(m + 1):
        shares[row, row:row + n] = volume * w[row]
    return Frozen(shares / shares.sum(axis=0))


def _to_strips(a):
    """Row r of (m, n) moved right by r: (m, n + m - 1). A reshape, no gather."""
    m, n = a.shape
    return jnp.pad(a, [(0, 0), (0, m)]).reshape(-1)[: m * (n + m - 1)].reshape(m, n + m - 1)


def _from_strips(a, n):
    """The way back of `_to_strips`."""
    m = a.shape[0]
    return jnp.pad(a.reshape(-1), (0, m)).reshape(m, n + m)[:, :n]


def parallel_average(grid: Cells, f):
    """f (n_v, n_xi) averaged along each trapped line: (n_v + M,) for E_perp = E_(j - M); lines cut by a wall over what is left.
    """
    weights = _strip_weights(grid).array
    trapped = f[:, : grid.trapped + 1].T[::-1]
    return jnp.sum(jnp.asarray(weights, f.dtype) * _to_strips(trapped), axis=0)


def pitch_average(grid: Cells, f):
    """g = <f>_xi (n_v,) of f (n_v, n_xi)."""
    w = grid["xi"].measure
    return f @ jnp.asarray(w / w.sum(), f.dtype)


@functools.partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["grid"])
@dataclasses.dataclass(frozen=True)
class ParallelMean:
    """f -> <f>_par on `grid`: the mean over v_par at fixed v_perp of what is trapped; passing electrons unchanged."""

    grid: Cells

    def __call__(self, f):
        m, n = self.grid.trapped, self.grid.shape[0]
        strips = parallel_average(self.grid, f)
        trapped = _from_strips(jnp.broadcast_to(strips, (m + 1, n + m)), n)[::-1].T
        return jnp.concatenate([trapped, f[:, m + 1:]], axis=1)


@functools.partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["grid"])
@dataclasses.dataclass(frozen=True)
class PitchMean:
    """f -> <f>_xi on `grid`, in the shape of f."""

    grid: Cells

    def __call__(self, f):
        return jnp.broadcast_to(pitch_average(self.grid, f)[:, None], f.shape)


def lorentz_conductance(grid: Cells):
    """Conductances (1, n_xi + 1) of (1/2) d_xi (1 - xi^2) d_xi on the faces between nodes, for a `LineDiffusion` along xi.

    The flux of xi^2 through a face is that of the exact operator summed over the nodes below, so the second Legendre polynomial,
    the slowest even one, decays at exactly 3; all conductances are positive because 1 - 3 xi^2 changes sign once.
    """
    xi, w = grid["xi"].centers, grid["xi"].measure
    into = np.cumsum(w * (1.0 - 3.0 * xi**2))[:-1]
    return np.concatenate([[0.0], into / np.diff(xi**2), [0.0]])[None, :]


def lorentz_operator(grid: Cells):
    """(n_xi, n_xi) matrix of (1/2) d_xi (1 - xi^2) d_xi on functions of xi at fixed v, and its largest rate of loss [1/nu_L]."""
    g, w = lorentz_conductance(grid)[0], grid["xi"].measure
    matrix = (np.diag(g[1:-1], 1) + np.diag(g[1:-1], -1) - np.diag(g[:-1] + g[1:])) / w[:, None]
    return matrix, float(-matrix.diagonal().min())


@functools.partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["grid"])
@dataclasses.dataclass(frozen=True)
class LorentzStep:
    """f -> f + L f/c, L of `lorentz_operator`, c its largest rate of loss: positive and conservative, so that nu_L L f = nu_L c
    (LorentzStep f - f) enters a `MixingSeries` beside the averages."""

    grid: Cells

    def __call__(self, f):
        matrix, most = lorentz_operator(self.grid)
        return f @ jnp.asarray(np.eye(len(matrix)) + matrix / most, f.dtype).T


def eigenvalue(s, h):
    r"""lam(s) of the exact operator delta g = <<g>_par>_xi - g on g = v^-s (scale invariance makes powers its eigenfunctions).

    lam = int_0^1 (1 + h u^2)^(-s/2) du int_0^k (1 - xi^2)^(-s/2) dxi - k, k^2 = h/(1+h). lam(s) = lam(3-s), lam(0) = lam(3) = 0,
    lam(-2) = lam(5) = `energy_rate(h)`. By Gauss-Legendre quadrature of the symmetric form without cancellation; h, s broadcast,
    differentiable. Good to 1e-12 for h <= 4 and |s| <= 8.
    """
    s, h = jnp.asarray(s)[..., None, None], jnp.asarray(h)[..., None, None]
    x, w = (jnp.asarray(a) for a in np.polynomial.legendre.leggauss(_QUADRATURE))
    x, w = 0.5 * (1.0 + x), 0.5 * w
    # with tan = v_par/v_perp = sqrt(h) u: dxi = (1 + h u^2)^(-3/2) sqrt(h) du, 1/(1 - xi^2) = 1 + h u^2
    log = jnp.log1p(h[..., 0] * x * x)
    part = 0.5 * w[:, None] * w * jnp.exp(-1.5 * (log[..., :, None] + log[..., None, :]))
    diff = lambda p: jnp.exp(0.5 * p * log[..., :, None]) - jnp.exp(0.5 * p * log[..., None, :])    # noqa: E731
    return jnp.sqrt(h[..., 0, 0]) * -jnp.sum(part * diff(s) * diff(3.0 - s), axis=(-2, -1))


def pair_eigenvalue(w, step, s):
    """lam(s) of the operator with weights w_k on a lattice of spacing `step` in ln E: Phi(s) Phi(3-s)/Phi(3) - Phi(0), written as
    a sum over pairs of nodes that are all of one sign for s < 0 or s > 3, so that nothing cancels."""
    w = jnp.asarray(w)
    k = step * np.arange(w.shape[0])
    power = lambda p: np.exp(0.5 * p * k)                          # noqa: E731
    diff = lambda p: power(p)[:, None] - power(p)                  # noqa: E731
    return -0.5 * w @ (diff(s) * diff(3.0 - s)) @ w / (w @ power(3.0))


def energy_rate(h):
    """A = (2/9) h (h/(1+h))^(3/2) = lam(-2): the gain of energy of an isotropic distribution by <<g>_par>_xi, exactly, at any h.
    """
    return 2.0 / 9.0 * h * (h / (1.0 + h)) ** 1.5
