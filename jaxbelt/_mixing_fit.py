r"""The model behind `mixing_inference`, on the bins of a measured grid, and its least squares at one h; the data's projections.

    f = (1 - alpha share) g(v) + alpha share <g>_par,   g = reference * spline:   f = A c + alpha D c

share: the trapped part of a pitch-angle bin; means over bins by Gauss-Legendre points on the trapped part, so that f is
continuous in h. Pure functions.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from .distributions import Distribution

__all__ = ["fit_mixing", "projections", "regress_mixing"]


def _gauss(n):
    x, w = np.polynomial.legendre.leggauss(n)
    return 0.5 * (x + 1.0), 0.5 * w


_S, _WS = _gauss(8)                        # along v_par at fixed v_perp
_X, _WX = _gauss(4)                        # across a pitch-angle bin
_ITERATIONS = 8
_DEGREE = 6


def _chebyshev(x, n):
    t = jnp.clip(x, -1.0, 1.0)
    out = [jnp.ones_like(t), t]
    for _ in range(n - 1):
        out.append(2.0 * t * out[-1] - out[-2])
    return jnp.stack(out[:n + 1], axis=-1)


def _reference(f, width, valid, u):
    """(ln of a smooth isotropic reference as a function of u, energies that have data): a polynomial through ln <f>."""
    w = jnp.where(valid, width, 0.0)
    total = w.sum(axis=1)
    mean = (w * jnp.where(valid, f, 0.0)).sum(axis=1) / jnp.where(total > 0.0, total, 1.0)
    some = (total > 0.0) & (mean > 0.0)
    log = jnp.where(some, jnp.log(jnp.where(some, mean, 1.0)), 0.0)
    degree = min(_DEGREE, max(1, u.shape[0] // 3))
    V = _chebyshev(2.0 * (u - u[0]) / (u[-1] - u[0]) - 1.0, degree) * jnp.where(some, 1.0, 0.0)[:, None]
    tiny = 10.0 * jnp.finfo(V.dtype).eps * u.shape[0]
    shift = log.sum() / jnp.maximum(some.sum(), 1)
    c = jnp.linalg.solve(V.T @ V + tiny * jnp.eye(degree + 1, dtype=V.dtype), V.T @ jnp.where(some, log - shift, 0.0))
    return lambda x: shift + _chebyshev(2.0 * (x - u[0]) / (u[-1] - u[0]) - 1.0, degree) @ c, some


def _spline(u, ends, knots):
    """Cubic B-splines on `knots` equal functions over the range `ends`, at u: a new last axis."""
    t = jnp.abs(((u - ends[0]) / (ends[1] - ends[0]) * (knots - 3) + 1.0)[..., None] - jnp.arange(knots, dtype=u.dtype))
    far = jnp.maximum(2.0 - t, 0.0)
    return jnp.where(t < 1.0, 2.0 / 3.0 - t * t + 0.5 * t ** 3, far ** 3 / 6.0)


def trapped(xi_edges, h):
    """(share of each bin that is trapped, xi at 4 points of that part)."""
    k = jnp.sqrt(h / (1.0 + h))
    low, high = jnp.maximum(xi_edges[1:], -k), jnp.minimum(xi_edges[:-1], k)
    part = jnp.maximum(high - low, 0.0)
    return part / (xi_edges[:-1] - xi_edges[1:]), low[:, None] + part[:, None] * jnp.asarray(_X, part.dtype)


def _design(u, xi_edges, h, log_reference, knots):
    """A and D (energy, bin, knot) for f in units of the reference at its energy."""
    share, xi = trapped(xi_edges, h)
    perp = u[:, None, None] + jnp.log1p(-jnp.minimum(xi * xi, 1.0 - 1e-6))
    at = jnp.clip(perp[..., None] + jnp.log1p(h * jnp.asarray(_S * _S, u.dtype)), u[0], u[-1])
    weight = jnp.exp(log_reference(at) - log_reference(u)[:, None, None, None]) * jnp.asarray(_WX[:, None] * _WS, u.dtype)
    mixed = share[:, None] * jnp.einsum("ijmq,ijmqk->ijk", weight, _spline(at, (u[0], u[-1]), knots))
    plain = jnp.broadcast_to(_spline(u, (u[0], u[-1]), knots)[:, None, :], mixed.shape)
    return plain, mixed - share[:, None] * plain


def covered(u, xi_edges, h):
    """Bins whose trapped part needs g at measured energies only (energy, bin)."""
    share, xi = trapped(xi_edges, h)
    low = u[:, None] + jnp.log1p(-jnp.minimum(jnp.max(xi * xi, axis=1), 1.0 - 1e-6))
    high = u[:, None] + jnp.log1p(-jnp.min(xi * xi, axis=1)) + jnp.log1p(h)
    slack = 1e-6 * (u[-1] - u[0])
    return (share == 0.0) | ((low >= u[0] - slack) & (high <= u[-1] + slack))


@functools.partial(jax.jit, static_argnames=("knots",))
def fit_mixing(f, sigma, valid, log_v2, xi_edges, h, *, knots: int, relative=False, used=None):
    """The fit at a given h, pure: jit, vmap and grad go through it.

    f (n, m), sigma its standard error or, with relative=True, the error as a fraction of the fitted f; valid (n, m);
    log_v2 (n,) = 2 ln v; xi_edges (m + 1,) cosines of the walls, decreasing; knots: spline coefficients of g (4 or more);
    used (n, m): which bins to fit, None: those whose mixing stays within the energies. Values not `valid` are not looked at.
    Returns a dict: alpha, sigma_alpha, chi2, count (bins), used, model (n, m), residual (n, m) over sigma, sigma (n, m), g (n,).
    """
    f = jnp.where(valid, f, 0.0)
    u, xi_edges, h = (jnp.asarray(x, f.dtype) for x in (log_v2, xi_edges, h))
    log_reference, some = _reference(f, xi_edges[:-1] - xi_edges[1:], valid, u)
    A, D = _design(u, xi_edges, h, log_reference, knots)
    use = (covered(u, xi_edges, h) if used is None else used) & valid & some[:, None]
    scale = jnp.exp(log_reference(u))[:, None]
    y = jnp.where(use, f / scale, 1.0)
    given = jnp.where(valid, sigma / scale, 1.0)

    def errors(model):                     # of what the fit says, not of the noisy value: low values would weigh too much
        return jnp.where(relative, sigma * jnp.maximum(model, 0.05), given)

    def normal(c, alpha):
        model = (A + alpha * D) @ c
        s = errors(model)
        J = jnp.concatenate([A + alpha * D, (D @ c)[..., None]], axis=-1)
        J = jnp.where(use[..., None], J / s[..., None], 0.0).reshape(-1, knots + 1)
        r = jnp.where(use, (y - model) / s, 0.0)
        N = J.T @ J
        ridge = 30.0 * jnp.finfo(N.dtype).eps * jnp.trace(N) / (knots + 1)
        return N + ridge * jnp.eye(knots + 1, dtype=N.dtype), J.T @ r.ravel(), r, model, s

    def step(carry, _):
        c, alpha = carry
        N, b, *_ = normal(c, alpha)
        change = jnp.linalg.solve(N, b)
        return (c + change[:-1], alpha + change[-1]), None

    start = (jnp.ones(knots, y.dtype), jnp.asarray(0.5, y.dtype))
    (c, alpha), _ = jax.lax.scan(step, start, None, length=_ITERATIONS)
    N, _, r, model, s = normal(c, alpha)
    unit = jnp.zeros(knots + 1, y.dtype).at[-1].set(1.0)
    variance = jnp.linalg.solve(N, unit)[-1]
    return {"alpha": alpha, "sigma_alpha": jnp.sqrt(variance), "chi2": (r * r).sum(), "count": use.sum(), "used": use,
            "model": model * scale, "residual": r, "sigma": s * scale, "g": (A[:, 0] @ c) * scale[:, 0]}


# ---- the projections of the data themselves, for looking at them

def projections(dist: Distribution, h):
    """(<f>_xi (n,), <f>_par (n, m), bins (n, m) where both are known) of the data, by interpolation: for plots.

    <f>_xi: mean with the bins' widths in xi. <f>_par: mean over v_par = +-s sqrt(h) v_perp, 8 Gauss points in s, of ln f linear
    in ln v and xi between the middles of the bins that lie wholly inside; f itself outside. A bin without data takes the value
    of the nearest one with data at its energy (`infer_mixing` needs no such assumption). Noise biases anything made of these.
    """
    valid, f = jnp.asarray(dist.valid), jnp.asarray(dist.f)
    middle, width = jnp.asarray(dist.xi), dist.width
    distance = jnp.where(valid[:, None, :], jnp.abs(middle[:, None] - middle), jnp.inf)
    f = jnp.take_along_axis(f, jnp.argmin(distance, axis=2), axis=1)
    iso = (f * width).sum(axis=1) / width.sum()
    u = jnp.log(jnp.asarray(dist.v2) / dist.v2[0])
    whole = trapped(dist.xi_edges, h)[0] > 1.0 - 1e-6                       # f jumps at the boundary: do not reach across it
    first, last = jnp.argmax(whole), whole.shape[0] - 1 - jnp.argmax(whole[::-1])
    log = jnp.log(jnp.maximum(f, 1e-30 * jnp.max(f)))
    at = u[:, None, None] + jnp.log1p(-middle * middle)[:, None] + jnp.log1p(h * _S * _S)
    to = jnp.sqrt(h * _S * _S / (1.0 + h * _S * _S))

    def sample(at, xi):
        i = jnp.clip(jnp.searchsorted(u, at, method="compare_all") - 1, 0, u.shape[0] - 2)
        p = (at - u[i]) / (u[i + 1] - u[i])
        j = jnp.clip(jnp.searchsorted(-middle, -xi, method="compare_all") - 1, first, jnp.maximum(last - 1, first))
        q = (middle[j] - xi) / (middle[j] - middle[j + 1])
        below, above = ((1 - q) * log[n, j] + q * log[n, j + 1] for n in (i, i + 1))
        return jnp.exp((1 - p) * below + p * above)

    par = 0.5 * ((sample(at, to) + sample(at, -to)) * _WS).sum(axis=2)
    outside = trapped(dist.xi_edges, h)[0] == 0.0
    known = valid & (outside | (whole & (at[..., 0] >= u[0]) & (at[..., -1] <= u[-1])))
    return iso, jnp.where(outside, f, par), known


def regress_mixing(dist: Distribution, h, relative: float | None = None):
    """(alpha, x, y, trapped): the plain weighted regression of y = f - <f>_xi on x = <f>_par - <f>_xi over trapped bins.

    What Eq. (5.1) with (5.8) suggests at first sight; kept to be looked at and compared. Its slope is biased: by noise, which x
    and y share, by <<f>_par>_xi differing from <f>_xi, and by the interpolation. `infer_mixing` is what to use.
    """
    iso, par, known = projections(dist, h)
    use = known & (trapped(dist.xi_edges, h)[0] > 0.0)
    sigma = relative * iso[:, None] if relative is not None else dist.sigma
    x, y = par - iso[:, None], jnp.asarray(dist.f) - iso[:, None]
    w = jnp.where(use, 1.0 / jnp.where(use, sigma, 1.0) ** 2, 0.0)
    w = w / jnp.max(w)
    return (w * x * y).sum() / (w * x * x).sum(), x, y, use
