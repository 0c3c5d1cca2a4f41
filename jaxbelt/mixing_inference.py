r"""nu_xi/nu_par from a measured distribution: how fast pitch angles scatter against how fast v_par is mixed.

The Krook model of parallel velocity mixing (J. Plasma Phys. 2021, "Parallel velocity mixing yielding enhanced electron heating",
Eq. 5.2)

    f_t = nu_par (<f>_par - f) + nu_xi (<f>_xi - f) + isotropic source - f/tau

(<.>_xi: mean over xi = cos(pitch angle) at fixed v; <.>_par: mean over v_par at fixed v_perp among trapped particles,
v_par^2 < h v_perp^2) has the steady state f - <f>_xi = alpha (<f>_par - <<f>_par>_xi). Both sides contain the noise, so a
regression of one on the other is biased. Every solution of that relation, and only those, has the form of Eq. (5.1),

    f = (1 - alpha) g(v) + alpha <g>_par   where trapped,   f = g(v)   elsewhere,
    <g>_par = int_0^1 g(v_perp sqrt(1 + h s^2)) ds,   alpha = nu_par/(nu_par + nu_xi + 1/tau)

with SOME isotropic g, which is not <f>_xi. So alpha, g and, if asked, h are fitted together to f itself: maximum likelihood,
with the noise where it belongs and no error in the variables. g is a smooth reference times a cubic spline in ln v.

What comes out is (nu_xi + 1/tau)/nu_par: a loss (or slow growth at a rate 1/tau) cannot be told from scattering; it matters
where it is not small against nu_xi. Symmetry in v_par, gyrotropy and an isotropic source are assumed, and nothing at pitch
angles without data. v = p/m, so it holds for relativistic particles too.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaincc

from ._mixing_fit import covered, fit_mixing, projections, regress_mixing, trapped
from .coefficients import parameters
from .distributions import Distribution

__all__ = ["infer_mixing", "MixingFit", "fit_mixing", "projections", "regress_mixing"]

_TWO_SIDED = 3.841458820694124             # chi^2 of one parameter at 95 %


def _ratio(alpha, sigma):
    """1/alpha - 1 without its mean error of second order, sigma^2/alpha^3 (bounded where alpha is hardly known); inf for
    alpha <= 0: no mixing is seen."""
    some = alpha > 0.0
    a = jnp.where(some, alpha, 1.0)
    rho = (sigma / a) ** 2
    return jnp.where(some, (1.0 - rho / (1.0 + 3.0 * rho)) / a - 1.0, jnp.inf)


@parameters
class MixingFit:
    """What a distribution says of parallel mixing and pitch-angle scattering; print it for the summary.

    ratio: nu_xi/nu_par (strictly (nu_xi + 1/tau)/nu_par), may come out slightly below 0; sigma: its standard error;
    ratio_interval: 95 %, of the likelihood, cut at 0 (inf: no upper limit). All with the uncertainty of h where h was fitted.
    alpha = nu_par/(nu_par + nu_xi), sigma_alpha, alpha_interval: the same. h, h_interval: the mirror ratio less 1 and its 95 %
    (both h where it was given). chi2, dof, reduced_chi2, p_value; residual (n, m) in standard errors, 0 where not `used`; model
    (n, m) and g (n,) in the unit of f. h_scan, chi2_scan, alpha_scan, sigma_scan: the last profile over h (None: given).
    """

    ratio: Any
    sigma: Any
    ratio_interval: Any
    alpha: Any
    sigma_alpha: Any
    alpha_interval: Any
    h: Any
    h_interval: Any
    chi2: Any
    dof: Any
    residual: Any
    used: Any
    model: Any
    g: Any
    xi_edges: Any
    h_scan: Any = None
    chi2_scan: Any = None
    alpha_scan: Any = None
    sigma_scan: Any = None
    h_range: Any = None

    @property
    def reduced_chi2(self):
        return self.chi2 / self.dof

    @property
    def p_value(self):
        """Probability of a chi^2 at least as large if the model and the errors are right."""
        return gammaincc(0.5 * self.dof, 0.5 * self.chi2)

    @property
    def runs_z(self) -> float:
        """Runs of residuals of one sign, along the pitch angle, energy after energy, against chance, in standard deviations
        (Wald & Wolfowitz 1940): far below 0 where residuals of one sign stand together, that is where the model is wrong."""
        sign = np.asarray(self.residual)[np.asarray(self.used)] > 0
        n, up = sign.size, int(sign.sum())
        if up in (0, n):
            return -float(np.sqrt(n))
        runs, mean = 1 + int((sign[1:] != sign[:-1]).sum()), 2.0 * up * (n - up) / n + 1.0
        return float((runs - mean) / np.sqrt((mean - 1.0) * (mean - 2.0) / (n - 1.0)))

    @property
    def fits(self) -> bool:
        """p_value > 0.01 and runs_z > -3."""
        return bool(self.p_value > 0.01) and self.runs_z > -3.0

    @property
    def h_determined(self) -> bool:
        """h was given, or its 95 % interval ends inside the range that was searched."""
        if self.h_scan is None:
            return True
        (low, high), (first, last) = np.asarray(self.h_interval), np.asarray(self.h_range)
        return bool(low > first * 1.0001 and high < last * 0.9999)

    @property
    def determined(self) -> bool:
        """The model fits, h is determined and the 95 % interval of the ratio has two ends (above 0, below inf)."""
        low, high = np.asarray(self.ratio_interval)
        return self.fits and self.h_determined and bool(low > 0.0) and bool(np.isfinite(high))

    def __str__(self):
        low, high = np.asarray(self.ratio_interval)
        a_low, a_high = np.asarray(self.alpha_interval)
        h = f"h = {float(self.h):.3g}" + (" given" if self.h_scan is None else
                                          f" (95 %: {self.h_interval[0]:.3g} to {self.h_interval[1]:.3g}"
                                          + ("" if self.h_determined else ", not determined within the range searched") + ")")
        value = (f"{float(self.ratio):.4g} +- {float(self.sigma):.2g} (95 %: {low:.4g} to {high:.4g})" if self.alpha > 0 else
                 f"none (alpha = {float(self.alpha):.3g} +- {float(self.sigma_alpha):.2g})")
        say = [f"nu_xi/nu_par = {value}; {h}; reduced chi^2 {float(self.reduced_chi2):.3g} of {int(self.dof)}, "
               f"p = {float(self.p_value):.2g}, runs {self.runs_z:+.1f} sigma"]
        if not self.fits:
            say.append("the model does not fit these data: the numbers mean little")
        if a_high < 0:
            say.append("alpha < 0: the anisotropy has the opposite sign of what mixing makes")
        elif a_low <= 0:
            say.append("no mixing is seen: alpha = 0 is within the interval, the ratio has no upper limit")
        elif a_low > 1:
            say.append("alpha > 1: more anisotropic than complete mixing")
        elif low == 0:
            say.append("an upper limit only: no scattering is needed")
        return "; ".join(say)


def _knots(u) -> int:
    """About one coefficient per 0.3 in ln v^2, at most one per two energies."""
    return int(np.clip(round(float(u[-1] - u[0]) / 0.3) + 3, 4, max(4, len(u) // 2 + 2)))


def _concrete(*values):
    return not any(isinstance(x, jax.core.Tracer) for v in values for x in jax.tree.leaves(v))


def infer_mixing(dist: Distribution, *, h=None, relative: float | None = None, knots: int | None = None,
                 points: int = 25) -> MixingFit:
    """nu_xi/nu_par of a measured `Distribution` (see the module's text), weighted by its errors.

    h = B_T/B_0 - 1: a number; (low, high): fitted within; None: fitted within 0.1 to 4, less where energies span less.
    relative: the error as a fraction of f (0.2: 20 %); None: `dist.sigma`. knots: spline coefficients of g, by default one per
    0.3 in ln v^2, at most one per two energies. points: of each profile over h (four rounds, each closer to the minimum).
    The error of each bin is taken as independent and Gaussian. Used are all passing bins, and the trapped ones whose mixing
    (v_perp^2 to (1 + h) v_perp^2) stays within the measured energies; a bin that the boundary cuts counts as both, by its shares.

    With h a number it is pure (jit, vmap, grad); a search of h runs on the host. Raises ValueError for h <= 0, no errors, too
    few data, and where no trapped bin can be used.
    """
    if not isinstance(dist, Distribution):
        raise ValueError(f"infer_mixing: needs a Distribution, got {type(dist).__name__}; a TimeSeries gives one by .mean() or "
                         ".record(k), arrays by distributions.distribution(...)")
    if _concrete(dist.f, dist.valid) and not np.any(np.asarray(dist.valid) & (np.asarray(dist.f) > 0)):
        raise ValueError("infer_mixing: every bin is masked or 0; there is nothing to infer from")
    if dist.sigma is None and relative is None:
        raise ValueError("infer_mixing: the distribution has no standard errors; give relative= (0.2 for 20 %) or a sigma")
    if relative is not None and _concrete(relative) and not relative > 0:
        raise ValueError(f"infer_mixing relative = {relative}: an error is above 0")
    if _concrete(dist.energy, dist.edges, dist.species):                     # in numpy: concrete inside jit too
        dist = dist.replace(energy=np.asarray(dist.energy), edges=np.asarray(dist.edges))
    v2, xi_edges = dist.v2, dist.xi_edges
    if _concrete(v2):
        u = np.log(np.asarray(v2) / np.asarray(v2)[0])
        knots = _knots(u) if knots is None else knots
    else:
        u = jnp.log(v2 / v2[0])
    if knots is None:
        raise ValueError("infer_mixing: inside jit with traced energies give knots= (their number must be known)")
    if knots < 4:
        raise ValueError(f"infer_mixing knots = {knots}: at least 4")
    search = h is None or isinstance(h, (tuple, list))
    if search and not _concrete(dist, h, relative):
        raise ValueError("infer_mixing: the search of h runs on the host; inside jit, vmap and grad give h as a number")
    low, high = (h if h is not None else (0.1, min(4.0, float(np.exp(0.5 * u[-1]) - 1.0)))) if search else (h, h)
    if _concrete(low, high) and not (np.min(low) > 0 and np.isfinite(np.max(high))):
        raise ValueError(f"infer_mixing h = {h}: must be above 0, h = B_T/B_0 - 1")
    if search and not low < high:
        raise ValueError(f"infer_mixing h = {h}: a range needs low < high" if h is not None else
                         "infer_mixing: the energies span too little to search h; give h= as a number")
    if _concrete(dist.valid, u, xi_edges, high):
        with jax.ensure_compile_time_eval():
            share = np.asarray(trapped(xi_edges, low)[0])
            may = np.asarray(dist.valid) & np.asarray(covered(u, xi_edges, high))
        if not (may & (share > 0)).any():
            angle = np.rad2deg(np.arccos(np.sqrt(low / (1 + low))))
            raise ValueError(f"infer_mixing: the trapped region (h = {low:g}: pitch angles {angle:.1f} to {180 - angle:.1f} deg) "
                             f"holds no usable bin: energies must span more than 1 + h = {1 + high:g}, bins with data lie in it")
        if may.sum() < knots + 3:
            raise ValueError(f"infer_mixing: {int(may.sum())} usable bins for {knots + 2} unknowns; give more data, fewer knots, "
                             "a smaller h")
    # powers of ten out of f, which float32 could not square
    unit = jnp.max(jnp.where(dist.valid, dist.f, 0.0))
    f = dist.f / jnp.where(unit > 0.0, unit, 1.0)
    error = jnp.broadcast_to(relative, f.shape) if relative is not None else dist.sigma / jnp.where(unit > 0.0, unit, 1.0)
    fit = functools.partial(fit_mixing, f=f, valid=jnp.asarray(dist.valid), log_v2=jnp.asarray(u), xi_edges=xi_edges, knots=knots)
    if not search:
        h = jnp.asarray(h, f.dtype)
        out = fit(sigma=error, h=h, relative=relative is not None, used=jnp.asarray(dist.valid) & covered(u, xi_edges, h))
        half = jnp.sqrt(_TWO_SIDED) * out["sigma_alpha"]
        return _result(out, h, unit, knots + 1, xi_edges, (out["alpha"] - half, out["alpha"] + half), (h, h))
    return _search(fit, error, relative is not None, float(low), float(high), points, u, xi_edges, unit, knots)


def _result(out, h, unit, unknowns, xi_edges, alpha_interval, h_interval, **scan):
    a_low, a_high = alpha_interval

    def of(a):                              # monotonic: the interval of alpha is that of the ratio
        some = a > 0.0
        return jnp.where(some, jnp.maximum(1.0 / jnp.where(some, a, 1.0) - 1.0, 0.0), jnp.inf)

    alpha = out["alpha"]
    some = alpha > 0.0
    return MixingFit(ratio=_ratio(alpha, out["sigma_alpha"]),
                     sigma=jnp.where(some, out["sigma_alpha"] / jnp.where(some, alpha, 1.0) ** 2, jnp.inf),
                     ratio_interval=jnp.stack([of(a_high), of(a_low)]), alpha=alpha, sigma_alpha=out["sigma_alpha"],
                     alpha_interval=jnp.stack([jnp.asarray(a_low), jnp.asarray(a_high)]), h=jnp.asarray(h),
                     h_interval=jnp.stack([jnp.asarray(x) for x in h_interval]), chi2=out["chi2"], dof=out["count"] - unknowns,
                     residual=out["residual"], used=out["used"], model=out["model"] * unit, g=out["g"] * unit,
                     xi_edges=xi_edges, **scan)


@functools.partial(jax.jit, static_argnames=("knots",))
def _profile(h, **kw):
    """`fit_mixing` at each h (points,)."""
    many = jax.vmap(lambda x: fit_mixing(h=x, **kw))(h)
    return {k: many[k] for k in ("alpha", "sigma_alpha", "chi2", "sigma")}


def _search(fit, error, relative, low, high, points, u, xi_edges, unit, knots):
    """Profile over h in rounds, each on the bins that its own range can use, the same for every h of it."""
    valid = fit.keywords["valid"]

    def scan(a, b, error, relative):
        grid = np.geomspace(a, b, points)
        used = valid & covered(u, xi_edges, b)
        many = _profile(sigma=error, h=jnp.asarray(grid), used=used, relative=relative, **fit.keywords)
        return grid, used, {k: np.asarray(v) for k, v in many.items()}

    a, b, fraction = low, high, error
    for last in (False, False, False, True):
        if relative:                         # errors of the round's best model, then kept: chi^2 of its h must be comparable
            _, _, many = scan(a, b, fraction, True)
            error = jnp.asarray(many["sigma"][np.argmin(many["chi2"])])
        grid, used, many = scan(a, b, error, False)
        rise = many["chi2"] - many["chi2"].min()
        near = np.flatnonzero(rise < 16.0)
        narrower = grid[max(near[0] - 1, 0)], grid[min(near[-1] + 1, points - 1)]
        if last or narrower[1] / narrower[0] > 0.8 * b / a:
            break
        a, b = narrower
    best = int(np.argmin(many["chi2"]))
    x = np.log(grid)
    h = grid[best]
    if 0 < best < points - 1:                # the parabola through the three lowest
        y0, y1, y2 = many["chi2"][best - 1:best + 2]
        h = np.exp(x[best] + 0.5 * (x[1] - x[0]) * (y0 - y2) / max(y0 - 2.0 * y1 + y2, 1e-300))
    out = fit(sigma=error, h=jnp.asarray(h), relative=False, used=used)
    if float(out["chi2"]) > many["chi2"][best]:
        h = grid[best]
        out = fit(sigma=error, h=jnp.asarray(h), relative=False, used=used)
    rise = many["chi2"] - float(out["chi2"])
    inside = rise <= _TWO_SIDED
    inside[best] = True
    i, j = np.flatnonzero(inside)[[0, -1]]

    def crossing(i, k):                      # sqrt of the rise is linear near a minimum
        if not 0 <= k < points:
            return grid[i]
        p, q = (np.sign(rise[n]) * np.sqrt(abs(rise[n])) for n in (i, k))
        return float(np.exp(x[i] + (x[k] - x[i]) * np.clip((np.sqrt(_TWO_SIDED) - p) / max(q - p, 1e-300), 0.0, 1.0)))

    # the profile of the likelihood over alpha: its 95 % interval, h free
    room = many["sigma_alpha"] * np.sqrt(np.maximum(_TWO_SIDED - rise, 0.0))
    own = float(np.sqrt(_TWO_SIDED) * out["sigma_alpha"])
    ends = (min(float(out["alpha"]) - own, (many["alpha"] - room)[inside].min()),
            max(float(out["alpha"]) + own, (many["alpha"] + room)[inside].max()))
    out["sigma_alpha"] = jnp.asarray((ends[1] - ends[0]) / (2.0 * np.sqrt(_TWO_SIDED)))
    return _result(out, h, unit, knots + 2, xi_edges, ends, (crossing(i, i - 1), crossing(j, j + 1)), h_scan=grid,
                   chi2_scan=many["chi2"], alpha_scan=many["alpha"], sigma_scan=many["sigma_alpha"],
                   h_range=np.array([low, high]))
