"""Selling's decomposition: a 2 x 2 tensor as a sum of non-negative weights times integer directions.

    W = [[w11, w12], [w12, w22]] = sum_k lam_k e_k e_k^T,    e_k = (p_k, q_k) integers, lam_k >= 0, three of them,

in index units (unit spacing on both axes). Links between cells e_k apart with conductance lam_k are then a consistent
and monotone discretisation of div(W grad f) at any anisotropy. The directions are found by descending the Stern-Brocot
tree of slopes; offsets beyond |p| <= rows, |q| <= cap are not used: there w12 is clamped and both diagonals are kept.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxbelt._warn import warn

__all__ = ["decompose", "clamped", "offset_set", "check_psd", "limit_psd"]


def limit_psd(w11, w12, w22):
    """w12 with w12^2 <= w11 w22. In the graph, silent, safe to differentiate; rounding (1e-12) is let through."""
    product = w11 * w22
    bad = w12 * w12 > product * (1 + 1e-12)
    limit = jnp.sqrt(jnp.where(bad & (product > 0), product, 1.0))
    return jnp.where(bad, jnp.where(product > 0, jnp.sign(w12) * limit, 0.0), w12)


def check_psd(w11, w12, w22, tol=0.01):
    """Host check that the tensor is positive semi-definite; returns w12 (NumPy), projected where it is not quite.

    The measure is |w12| / sqrt(w11 w22). Above 1 by at most `tol`: |w12| is reduced to the limit and a warning counts
    the cells. Above that, or with a negative or non-finite entry on the diagonal: ValueError naming the worst cell.
    """
    w11, w12, w22 = np.broadcast_arrays(*(np.asarray(w, dtype=np.float64) for w in (w11, w12, w22)))
    for name, w in (("w11", w11), ("w12", w12), ("w22", w22)):
        wrong = ~np.isfinite(w) if name == "w12" else ~(np.isfinite(w) & (w >= 0))
        if wrong.any():
            cell = tuple(int(i) for i in np.argwhere(wrong)[0])
            rule = "finite" if name == "w12" else "finite and not negative"
            raise ValueError(f"tensor: {name} must be {rule}, but it is {w[cell]:g} in cell {cell} ({wrong.sum()} cells)")
    limit = np.sqrt(w11 * w22)
    # where a diagonal entry is zero any cross term at all is infinitely too large
    ratio = np.where(w12 == 0, 0.0, np.abs(w12) / np.where(limit > 0, limit, np.finfo(float).tiny))
    if ratio.size and ratio.max() > 1 + tol:
        cell = tuple(int(i) for i in np.unravel_index(np.argmax(ratio), ratio.shape))
        raise ValueError(f"tensor is not positive semi-definite: in cell {cell} |w12| is {ratio[cell]:.4g} times "
                         f"sqrt(w11 w22) (w11 = {w11[cell]:g}, w12 = {w12[cell]:g}, w22 = {w22[cell]:g}); "
                         f"at most {1 + tol:g} is corrected")
    bad = ratio > 1 + 1e-12
    if bad.any():
        warn(f"tensor: |w12| exceeds sqrt(w11 w22) by up to {100 * (ratio.max() - 1):.2g} % in {bad.sum()} of "
             f"{bad.size} cells; reduced there to the limit")
    return np.where(bad, np.sign(w12) * limit, w12)


def _weights(w11, w12, w22, u, v):
    """Weights of W on u, v, u+v for neighbours u, v (determinant 1), and a scale for their rounding."""
    a, b, c = u[1] * v[1] * w11, u[0] * v[0] * w22, (u[0] * v[1] + u[1] * v[0]) * w12
    third = c - a - b
    first = v[1] ** 2 * w11 - 2 * v[0] * v[1] * w12 + v[0] ** 2 * w22 - third
    second = u[1] ** 2 * w11 - 2 * u[0] * u[1] * w12 + u[0] ** 2 * w22 - third
    return first, second, third


def _search(w11, w12, w22, rows, cap):
    """Descend from the pair (1,0), (0,1) to the triple whose weights are non-negative, within the cap. w12 >= 0.

    A point W outside the triangle of (u, v, u+v) lies beyond exactly one edge; the pair of that edge is the next one.
    If its mediant is not allowed, that edge is where W leaves the convex hull of the allowed offsets.
    """
    one, zero = jnp.ones_like(w11), jnp.zeros_like(w11)
    eps = 8 * np.finfo(w11.dtype).eps

    def body(_, pair):
        u, v = pair
        first, second, _ = _weights(w11, w12, w22, u, v)
        w = (u[0] + v[0], u[1] + v[1])
        # a weight that is zero but for rounding must not ask for one more, wider offset
        low_first = first < -eps * (v[1] ** 2 * w11 + v[0] ** 2 * w22)
        low_second = second < -eps * (u[1] ** 2 * w11 + u[0] ** 2 * w22)
        drop_u = low_first & (w[0] + v[0] <= rows) & (w[1] + v[1] <= cap)
        drop_v = low_second & ~low_first & (w[0] + u[0] <= rows) & (w[1] + u[1] <= cap)
        u2 = tuple(jnp.where(drop_u, b, a) for a, b in zip(u, w))
        v2 = tuple(jnp.where(drop_v, b, a) for a, b in zip(v, w))
        return u2, v2

    return lax.fori_loop(0, rows + cap, body, ((one, zero), (zero, one)))


def _not_negative(x):
    """Rounding below zero becomes zero; the derivative stays that of the linear function."""
    return jnp.where(x < 0, x - lax.stop_gradient(x), x)


def decompose(w11, w12, w22, rows=1, cap=32):
    """Offsets and weights: (p, q, lam, w12_used), p, q int32 and lam of shape (3, ...), 0 <= p <= rows, |q| <= cap.

    The search is under stop_gradient; lam is linear in W where the offsets do not change, and differentiated as such.
    w12_used differs from w12 only where it was clamped (slopes between which no allowed offset lies).
    """
    if rows < 1 or cap < 1:
        raise ValueError(f"rows and cap must be at least 1, got rows = {rows}, cap = {cap}")
    w11, w12, w22 = jnp.broadcast_arrays(*(jnp.asarray(w) for w in (w11, w12, w22)))
    sign = lax.stop_gradient(jnp.where(w12 < 0, -1.0, 1.0)).astype(w11.dtype)
    size = sign * w12
    u, v = _search(*lax.stop_gradient((w11, size, w22)), rows, cap)
    w = (u[0] + v[0], u[1] + v[1])
    first, second, _ = lax.stop_gradient(_weights(w11, size, w22, u, v))
    eps = 8 * np.finfo(w11.dtype).eps
    over_u = first < -eps * (v[1] ** 2 * w11 + v[0] ** 2 * w22)
    over_v = ~over_u & (second < -eps * (u[1] ** 2 * w11 + u[0] ** 2 * w22))

    def edge(a, b):
        return (a[1] * b[1] * w11 + a[0] * b[0] * w22) / (a[0] * b[1] + a[1] * b[0])

    bound = jnp.where(over_u, edge(v, w), edge(u, w))
    over = (over_u | over_v) & (bound < size)
    size = jnp.where(over, bound, size)
    first, second, third = _weights(w11, size, w22, u, v)
    first, second, third = (_not_negative(x) for x in (first, second, third))
    first = jnp.where(over & over_u, 0.0, first)
    second = jnp.where(over & over_v, 0.0, second)
    p = jnp.stack([u[0], v[0], w[0]]).astype(jnp.int32)
    q = (sign * jnp.stack([u[1], v[1], w[1]])).astype(jnp.int32)
    # (0, 1) and (0, -1) are the same link: keep one name for it
    q = jnp.where(p == 0, jnp.abs(q), q)
    return p, q, jnp.stack([first, second, third]), sign * size


def clamped(w11, w12, w22, rows=1, cap=32):
    """How much of w12 the cap removes: {"fraction": sum|dw12|/sum|w12|, "max": max |dw12|/|w12|, "count": cells}."""
    w12 = limit_psd(jnp.asarray(w11), jnp.asarray(w12), jnp.asarray(w22))
    used = decompose(w11, w12, w22, rows, cap)[3]
    lost = jnp.abs(w12 - used)
    lost = jnp.where(lost > 1e-13 * jnp.abs(w12), lost, 0.0)
    total = jnp.sum(jnp.broadcast_to(jnp.abs(w12), lost.shape))
    return {"fraction": jnp.sum(lost) / jnp.where(total > 0, total, 1.0),
            "max": jnp.max(lost / jnp.where(w12 == 0, 1.0, jnp.abs(w12))),
            "count": jnp.sum(lost > 0)}


def offset_set(w11, w12, w22, rows=1, cap=32):
    """Host: the offsets (p, q) these tensors use, with (1, 0) and (0, 1), sorted; the static set of `method="lines"`."""
    w12 = limit_psd(*(jnp.asarray(w) for w in (w11, w12, w22)))
    p, q, lam, _ = (np.asarray(x) for x in decompose(w11, w12, w22, rows, cap))
    used = {(int(a), int(b)) for a, b in zip(p[lam > 0], q[lam > 0])}
    return tuple(sorted(used | {(1, 0), (0, 1)}, key=lambda e: (e[0] ** 2 + e[1] ** 2, e)))
