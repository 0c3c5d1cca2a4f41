r"""Guiding-centre drift contours H(L, phi) = const, L* and the last closed contour (Lejosne & Albert 2023, section 2.2).

With H = T/q + U [volt] frozen at a moment, a guiding centre drifts along a level set of H; the third invariant is the
magnetic flux inside it, Phi = 2 pi B_E R_E^2/L*, Roederer's L*, here the harmonic mean of L (Eq. 16):

    1/L* = (1/2 pi) closed integral dphi/L .

A contour is open where it leaves the domain (L_in, L_out), and an island where it closes without encircling the planet, as
ring-current ions do where gradient drift and corotation cancel; L* belongs to contours that encircle. Every function takes H
as a callable (L, phi) [volt], or (t, L, phi) where t [s] is given; arrays go in through `drift.interpolant(values, L, phi)`.
phi = 0 at midnight, eastward [rad]. The level set is followed without derivatives and then polished, so that results are
differentiable in L0, phi0 and whatever H holds, by the implicit function theorem (to second order; the trace is redone, never
differentiated). All work under jit, vmap, grad and jvp; an H that is a pytree (`jb.function`, `Interpolant`) compiles once,
a plain Python function anew in every call outside jit.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxbelt.coefficients import Time, evaluate, parameters
from jaxbelt.physics.level_sets import (
    BLOCK,
    CLOSED,
    ISLAND,
    LEAVES_INNER,
    LEAVES_OUTER,
    UNDECIDED,
    along,
    flux,
    follow,
    frozen,
    is_graph,
    polished,
    trace,
)

__all__ = ["Contour", "contour", "l_star", "l_star_map", "last_closed",
           "CLOSED", "LEAVES_INNER", "LEAVES_OUTER", "ISLAND", "UNDECIDED"]

_SIZE = 256                    # contours traced at once in a map


@parameters
class Contour:
    """A drift contour. value: H on it [V]; phi (n,) [rad] and L (n,): its points; l_star: L*, NaN unless closed.

    closed: it encircles the planet. graph: closed, and phi never turns back on it: then phi rises from the start once round
    and L is exact at each; otherwise the points follow the drift at even distances from the start to its end. status: CLOSED
    (0), LEAVES_INNER (1), LEAVES_OUTER (2), ISLAND (3: closes without encircling), UNDECIDED (4: a stagnation point, or too
    long). end_L, end_phi: where it leaves, on an island where its drift first turns back, else its start.
    """

    value: Any
    phi: Any
    L: Any
    l_star: Any
    closed: Any
    graph: Any
    status: Any
    end_L: Any
    end_phi: Any


def _callable(H, t):
    """H as a function of scalars (ln L, phi)."""
    if not callable(H):
        raise ValueError("H: give a function of (L, phi) [V]; an array goes in as drift.interpolant(values, L, phi)")
    h = H if t is None else lambda L, p: evaluate(H, Time.at(t), L, p)
    return lambda y, p: jnp.reshape(h(jnp.exp(y), p), ()).astype(y.dtype)


def _domain(H, domain):
    low, high = (float(x) for x in (getattr(H, "domain", (1.0, 10.0)) if domain is None else domain))
    if not 0.0 < low < high:
        raise ValueError(f"domain: needs (L_in, L_out) with 0 < L_in < L_out, got ({low:g}, {high:g})")
    return low, high


def _ends(low, high, like):
    """ln L of the walls, with a little room for a contour that runs along one."""
    room = 4 * float(jnp.finfo(like.dtype).eps)
    return jnp.log(jnp.asarray(low, like.dtype)) - room, jnp.log(jnp.asarray(high, like.dtype)) + room


def _contour(h, L0, phi0, low, high, n, steps):
    L0, phi0 = jnp.asarray(L0, jnp.result_type(float, L0)), jnp.asarray(phi0, jnp.result_type(float, L0))
    y0 = jnp.log(L0)
    level = h(y0, phi0)
    still = frozen(h, y0, phi0)
    ends = _ends(low, high, y0)
    points, status, winding, _, end = trace(still, *lax.stop_gradient((y0, phi0)), *ends, steps)
    closed = status == CLOSED
    single = is_graph(points, closed)
    phi = phi0 + 2 * np.pi * jnp.arange(n, dtype=phi0.dtype) / n
    rough = follow(points, lax.stop_gradient(phi), winding)
    y = polished(h, rough, phi, level)
    other_y, other_p = along(points, n)
    around = jnp.where(single, jnp.mean(jnp.exp(-y)), jnp.abs(flux(h, points, level)))
    star = jnp.where(closed, 1.0 / jnp.where(closed, around, 1.0), jnp.nan)
    return Contour(value=level, phi=jnp.where(single, phi, other_p), L=jnp.exp(jnp.where(single, y, other_y)), l_star=star,
                   closed=closed, graph=single, status=status, end_L=jnp.exp(end[0]), end_phi=end[1])


def _compiled(function):
    """jit where H is a pytree (its functions are structure, its arrays leaves); a plain function is traced as it is."""
    fast = jax.jit(lambda H, t, given, sizes: function(_callable(H, t), *given, *sizes), static_argnums=(3,))

    def call(H, t, given, sizes):
        if not callable(H) or jax.tree_util.all_leaves([H]):
            return function(_callable(H, t), *given, *sizes)
        # numbers go in as arrays: a Python number would have a type of its own, and another compilation
        return fast(*jax.tree.map(lambda x: np.asarray(x, float) if isinstance(x, (int, float)) else x, (H, t, given)), sizes)
    return call


_one = _compiled(_contour)


def _concrete(*values):
    return not any(isinstance(x, jax.core.Tracer) for x in values)


def _check_start(name, L0, low, high):
    if _concrete(L0):
        L = np.asarray(L0, float)
        slack = 1e-6 if getattr(L0, "dtype", None) == np.float32 else 1e-9
        bad = ~((L >= low * (1 - slack)) & (L <= high * (1 + slack)))
        if bad.any():
            raise ValueError(f"{name}: L0 = {L[bad].ravel()[0]:g} is outside the domain, {low:g} to {high:g}; "
                             "start within it, or give a wider domain=(L_in, L_out)")


def contour(H, L0, phi0, *, t=None, domain=None, n: int = 256, steps: int = 640) -> Contour:
    """The drift contour through (L0, phi0), two numbers: the level set of H, followed in the direction of the drift.

    domain: (L_in, L_out) within which a contour counts as closed; (1, 10), or the range of an Interpolant. n: points; the
    error of L* falls exponentially with it (256: round-off, or 1e-7 for contours within 1 % in L of a stagnation point). steps:
    attempts of the trace, one about every 2.8 degrees. Raises ValueError for a concrete L0 outside the domain.
    """
    low, high = _domain(H, domain)
    _check_start("contour", L0, low, high)
    return _one(H, t, (L0, phi0, low, high), (int(n), int(steps)))


def _mlt(phi) -> str:
    return f"MLT = {float(np.mod(12 * np.asarray(phi) / np.pi, 24)):.2f} h"


def _why(c: Contour) -> str:
    end = f"L = {float(c.end_L):.4g}, {_mlt(c.end_phi)}"
    return {LEAVES_INNER: f"is open: it leaves the domain inwards at {end}",
            LEAVES_OUTER: f"is open: it leaves the domain outwards at {end}",
            ISLAND: f"closes without encircling the planet: its drift turns back at {end}",
            UNDECIDED: "meets a stagnation point, or is too long to be followed"}[int(c.status)]


def l_star(H, L0, phi0, *, t=None, domain=None, n: int = 256, steps: int = 640):
    r"""Roederer's L* of the drift contour through (L0, phi0): 1/L* = (1/2 pi) closed integral dphi/L (Eq. 16).

    1/L* is the third invariant in units of 2 pi B_E R_E^2: the magnetic flux inside the contour, which slow changes of H keep.
    It is the L of the circle on which the particles drift once all fields but the dipole are turned off slowly. A circle of
    constant L has L* = L. L0 and phi0 broadcast. Trapezoid rule in phi (spectral) on n points; where phi turns back on a
    contour that encircles the planet, fourth order along the contour (about 1e-7).
    Raises ValueError for a contour that is open or does not encircle the planet, with its start and where it leaves. Traced
    values cannot raise: L* is NaN there (and `contour(...).closed` False), derivatives 0. Other arguments as in `contour`.
    """
    low, high = _domain(H, domain)
    _check_start("l_star", L0, low, high)
    shape = jnp.broadcast_shapes(jnp.shape(L0), jnp.shape(phi0))
    if shape == ():
        c = _one(H, t, (L0, phi0, low, high), (int(n), int(steps)))
    else:
        starts = tuple(jnp.broadcast_to(jnp.asarray(x, jnp.result_type(float, x)), shape).ravel() for x in (L0, phi0))
        c = _many(H, t, (*starts, low, high), (int(n), int(steps)))
    if _concrete(c.closed, L0, phi0) and not np.all(c.closed):
        i = int(np.argmin(np.ravel(c.closed)))
        first = jax.tree.map(lambda x: x[i] if shape else x, c)
        start = [np.broadcast_to(np.asarray(x), shape).ravel()[i] for x in (L0, phi0)]
        raise ValueError(f"l_star: the drift contour through L0 = {start[0]:g}, {_mlt(start[1]).replace('MLT', 'MLT0')} "
                         f"{_why(first)}; L* needs a contour that closes around the planet within L = {low:g} to {high:g}")
    return jnp.reshape(c.l_star, shape)


def _batch(h, L0, phi0, low, high, n, steps):
    def one(start):
        c = _contour(h, *start, low, high, n, steps)
        return c.replace(phi=c.phi[:1], L=c.L[:1])
    many = L0.shape[0]
    rows = -(-many // _SIZE)
    each = -(-many // max(rows, 1))                       # equal batches: one program, not a second one for what is left over
    full = tuple(jnp.pad(x, (0, rows * each - many), mode="edge").reshape(rows, each) for x in (L0, phi0))
    c = lax.map(jax.vmap(one), full)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:many], c)


_many = _compiled(_batch)


def l_star_map(H, L, phi, *, t=None, domain=None, n: int = 128, steps: int = 640):
    """L* at every point of a grid, L (n_L,) by phi (n_phi,): (n_L, n_phi), NaN on open contours and islands.

    Memory is bounded (256 contours at a time); 60 x 48 points of an analytic H take a few seconds.
    """
    low, high = _domain(H, domain)
    L, phi = (jnp.ravel(jnp.asarray(x, jnp.result_type(float, x))) for x in (L, phi))
    _check_start("l_star_map", L, low, high)
    points = tuple(x.ravel() for x in jnp.meshgrid(L, phi, indexing="ij"))
    return _many(H, t, (*points, low, high), (int(n), int(steps))).l_star.reshape(L.size, phi.size)


def last_closed(H, domain=None, *, t=None, phi0: float = 0.0, n: int = 256, steps: int = 640) -> Contour:
    """The outermost contour that encircles the planet within the domain (L_in, L_out): a `Contour`, its H in `value`.

    Found by bisection along the ray phi0, then exactly: it passes a stagnation point (a saddle of H, where its derivatives
    vanish; end_L, end_phi) or touches the edge of the domain. phi (n,) are Gauss points from that point once round, so L*
    keeps spectral accuracy in spite of the corner. Differentiable in what H holds. With convection and corotation
    alone it is the plasmapause of a steady state; at fixed mu the Alfven layer. Raises ValueError where no contour encircles the
    planet; where values are traced, the result has closed = False and L* = NaN.
    """
    low, high = _domain(H, domain)
    c = _outermost(H, t, (float(phi0), low, high), (int(n), int(steps)))
    if _concrete(c.closed) and not bool(c.closed):
        raise ValueError(f"last_closed: no drift contour encircles the planet within L = {low:g} to {high:g}; "
                         "widen the domain inwards")
    return c


def _search(h, phi0, low, high, n, steps):
    phi0 = jnp.asarray(phi0, jnp.result_type(float))
    walls = _ends(low, high, phi0)
    ends = tuple(jnp.clip(jnp.log(jnp.asarray(x, phi0.dtype)), *walls) for x in (low, high))
    still = frozen(h, ends[0], phi0)
    traces = jax.vmap(lambda y: trace(still, y, phi0, *walls, steps)[:3])
    m = 48

    def narrow(state, _):
        lo, hi, found, best, winding = state
        y = lo + (hi - lo) * jnp.linspace(0.0, 1.0, m, dtype=phi0.dtype)
        points, status, wound = traces(y)
        i = jnp.max(jnp.where(status == CLOSED, np.arange(m), -1))
        new = i >= 0
        best = tuple(jnp.where(new, a[i], b) for a, b in zip(points, best))
        return (jnp.where(new, y[i], lo), jnp.where(new, y[jnp.minimum(i + 1, m - 1)], y[1]), found | new, best,
                jnp.where(new, wound[i], winding)), None

    nothing = jnp.zeros(1 + -(-steps // BLOCK) * BLOCK, phi0.dtype)
    start = (*ends, jnp.asarray(False), (nothing,) * 5, jnp.asarray(1))
    (y0, _, found, points, winding), _ = lax.scan(narrow, start, None, length=6)
    single = is_graph(points, found)
    y, p, _, _, _ = points

    # the stagnation point beside the contour
    gradient = jax.grad(still, argnums=(0, 1))
    size = jnp.hypot(*jax.vmap(gradient)(y, p))
    k = jnp.argmin(size)
    saddle = jnp.stack([y[k], p[k]])

    def hessian(z):
        return jax.hessian(lambda z: still(z[0], z[1]))(z)

    def towards(_, z):
        A, g = hessian(z), jnp.stack(gradient(z[0], z[1]))
        det = A[0, 0] * A[1, 1] - A[0, 1] ** 2
        d = jnp.stack([A[1, 1] * g[0] - A[0, 1] * g[1], A[0, 0] * g[1] - A[0, 1] * g[0]]) / jnp.where(det != 0, det, 1.0)
        return z - jnp.clip(d, -0.05, 0.05)

    z = lax.fori_loop(0, 20, towards, saddle)
    A = hessian(z)
    near = jnp.max(jnp.abs(z - saddle)) < 0.1
    stationary = jnp.hypot(*gradient(z[0], z[1])) < 1e-5 * jnp.max(size)
    inside = (z[0] >= ends[0]) & (z[0] <= ends[1])
    cross = near & stationary & inside & (A[0, 0] * A[1, 1] - A[0, 1] ** 2 < 0)

    # or the edge of the domain, where it touches it
    outer = jnp.abs(jnp.max(y) - ends[1]) < jnp.abs(jnp.min(y) - ends[0])
    wall = jnp.where(outer, ends[1], ends[0])
    k = jnp.where(outer, jnp.argmax(y), jnp.argmin(y))
    touching = jnp.abs(y[k] - wall) < 1e-3

    def slide(_, q):
        a, b = jax.grad(lambda q: still(wall, q))(q), jax.hessian(lambda q: still(wall, q))(q)
        return q - jnp.clip(jnp.where(b != 0, a / jnp.where(b != 0, b, 1.0), 0.0), -0.02, 0.02)

    q = lax.fori_loop(0, 10, slide, p[k])
    q = jnp.where(jnp.abs(q - p[k]) < 0.1, q, p[k])
    py, pp = (lax.stop_gradient(jnp.where(cross, a, jnp.where(touching, b, c)))
              for a, b, c in zip(z, (wall, q), (y0, phi0)))
    level = h(py, pp)                       # at a stationary point dH is all of the level's derivative (envelope theorem)
    nodes, weights = np.polynomial.legendre.leggauss(n)
    phi = pp + np.pi * (1.0 + jnp.asarray(nodes, y.dtype))
    rough = follow(points, phi, winding)
    fine = polished(h, rough, phi, level, rounds=30)
    other_y, other_p = along(points, n)
    around = jnp.where(single, 0.5 * jnp.sum(jnp.asarray(weights, y.dtype) * jnp.exp(-fine)), jnp.abs(flux(h, points, level)))
    star = jnp.where(found, 1.0 / jnp.where(found, around, 1.0), jnp.nan)
    return Contour(value=level, phi=jnp.where(single, phi, other_p), L=jnp.exp(jnp.where(single, fine, other_y)), l_star=star,
                   closed=found, graph=single, status=jnp.where(found, CLOSED, UNDECIDED), end_L=jnp.exp(py), end_phi=pp)


_outermost = _compiled(_search)
