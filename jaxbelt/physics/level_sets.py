"""Level sets of a smooth function h(y, p) in a plane that is periodic in p: followed, measured, polished.

Written for the drift contours of `contours`, y = ln L and p = phi; the direction is that of the drift of a Hamiltonian h.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

__all__ = ["CLOSED", "LEAVES_INNER", "LEAVES_OUTER", "ISLAND", "UNDECIDED", "BLOCK", "frozen", "trace", "flux", "polished",
           "follow", "along", "is_graph"]

CLOSED, LEAVES_INNER, LEAVES_OUTER, ISLAND, UNDECIDED = range(5)
_RUNNING = -1
_STEP = 2 * np.pi / 128        # longest step along a contour, in the plane of (ln L, phi)
_TURN = 0.3                    # largest turn in a step [rad]
BLOCK = 64                     # steps between two looks whether all contours have ended


def frozen(h, *like):
    """h without derivatives in anything it holds."""
    pure, held = jax.closure_convert(h, *like)
    held = [lax.stop_gradient(x) for x in held]
    return lambda y, p: pure(y, p, *held)


def _unit(a, b):
    norm2 = a * a + b * b
    fine = norm2 > 0
    inverse = jnp.where(fine, lax.rsqrt(jnp.where(fine, norm2, 1.0)), 0.0)
    return a * inverse, b * inverse


def trace(h, y0, p0, low, high, steps):
    """Follow h = h(y0, p0) in the direction of the drift, (ydot, phidot) ~ (-dh/dphi, dh/dy), in `steps` attempts.

    A step goes along the tangent at its middle and back onto the level set by two Newton steps along the gradient; one that
    turns by more than _TURN, as beside a stagnation point, is tried again at half the length.
    Returns arrays (n,) of points, unit tangents and lengths of the steps that lead there (0 where none), and the end.
    """
    value_and_slope = jax.value_and_grad(h, argnums=(0, 1))
    level, slope = value_and_slope(y0, p0)
    eps = float(jnp.finfo(y0.dtype).eps)
    start = (y0, p0, *_unit(-slope[1], slope[0]))

    def tangent(y, p):
        a, b = jax.grad(h, argnums=(0, 1))(y, p)
        return _unit(-b, a)

    def onto(_, z):
        v, (a, b) = value_and_slope(*z)
        norm2 = a * a + b * b
        r = jnp.where(norm2 > 0, (v - level) / jnp.where(norm2 > 0, norm2, 1.0), 0.0)
        return z[0] - r * a, z[1] - r * b

    def step(carry, _):
        (y, p, ty, tp), ds, taken, status, winding, end = carry
        my, mp = tangent(y + 0.5 * ds * ty, p + 0.5 * ds * tp)
        qy, qp = lax.fori_loop(0, 2, onto, (y + ds * my, p + ds * mp))
        sy, sp = tangent(qy, qp)
        cy, cp = qy - y, qp - p
        chord2 = jnp.maximum(cy * cy + cp * cp, jnp.finfo(y0.dtype).tiny)
        along = (cy * ty + cp * tp) / jnp.sqrt(chord2)
        cosine = ty * sy + tp * sp
        good = (cosine > np.cos(_TURN)) & (along > np.cos(_TURN)) & (chord2 < 4.0 * ds * ds) & (chord2 > 0.25 * ds * ds)

        # the start again, or its image after a turn: between the ends of this step, and the same way on
        images = p0 + 2 * np.pi * jnp.asarray([-1.0, 0.0, 1.0], y0.dtype)
        ry, rp = y0 - y, images - p
        t = (ry * cy + rp * cp) / chord2
        aside = (ry - t * cy) ** 2 + (rp - t * cp) ** 2
        home = (t > -0.01) & (t <= 1.0) & (aside < 0.05 * chord2) & (start[2] * sy + start[3] * sp > 0.5) & (taken >= 3)
        home = home & good
        back = jnp.any(home)
        which = jnp.argmax(home)

        out_low, out_high = good & ~back & (qy < low), good & ~back & (qy > high)
        out = out_low | out_high
        wall = jnp.where(out_low, low, high)
        part = jnp.where(out, (wall - y) / jnp.where(out, cy, 1.0), 1.0)
        qy, qp = jnp.where(out, wall, qy), jnp.where(out, p + part * cp, qp)
        qy, qp = jnp.where(back, y0, qy), jnp.where(back, images[which], qp)
        sy, sp = jnp.where(back, start[2], sy), jnp.where(back, start[3], sp)
        turn = jnp.arccos(jnp.clip(ty * sy + tp * sp, -1.0, 1.0))
        length = jnp.sqrt((qy - y) ** 2 + (qp - p) ** 2) * (1.0 + turn * turn / 24.0)     # the arc over the chord

        live = status == _RUNNING
        moved = live & good
        wound = jnp.where(live & back, which - 1, winding)
        # where phi first turns back: kept until the end is known
        turned = moved & (tp * sp < 0) & (end[2] == 0)
        end = (jnp.where(turned, qy, end[0]), jnp.where(turned, qp, end[1]), jnp.where(turned, 1, end[2]))
        new = jnp.where(back, jnp.where(which == 1, ISLAND, CLOSED),
                        jnp.where(out_low, LEAVES_INNER, jnp.where(out_high, LEAVES_OUTER, _RUNNING)))
        status = jnp.where(moved, new, status)
        status = jnp.where(live & ~good & (ds < 4.0 * eps**0.75), UNDECIDED, status)
        point = tuple(jnp.where(moved, a, b) for a, b in zip((qy, qp, sy, sp), (y, p, ty, tp)))
        ds = jnp.where(good, jnp.minimum(ds * jnp.where(cosine > np.cos(_TURN / 2), 1.5, 1.0), _STEP), 0.5 * ds)
        carry = (point, ds, taken + moved, status, wound, end)
        return carry, (*point, jnp.where(moved, length, 0.0))

    lost = (slope[0] == 0) & (slope[1] == 0)
    carry = (start, jnp.asarray(0.25 * _STEP, y0.dtype), jnp.asarray(0), jnp.where(lost, UNDECIDED, _RUNNING), jnp.asarray(0),
             (y0, p0, jnp.asarray(0)))
    blocks = -(-steps // BLOCK)

    def block(state):
        i, carry, points = state
        carry, new = lax.scan(step, carry, None, length=BLOCK)
        return i + 1, carry, tuple(lax.dynamic_update_slice(a, b, (1 + i * BLOCK,)) for a, b in zip(points, new))

    room = tuple(jnp.full(1 + blocks * BLOCK, a, y0.dtype) for a in (*start, 0.0))
    state = (jnp.asarray(0), carry, room)
    used, (last, _, _, status, winding, turned), points = lax.while_loop(
        lambda s: (s[0] < blocks) & (s[1][3] == _RUNNING), block, state)
    beyond = np.arange(1 + blocks * BLOCK) > used * BLOCK
    points = tuple(jnp.where(beyond, a, b) for a, b in zip((*last, 0.0), points))
    status = jnp.where(status == _RUNNING, UNDECIDED, status)
    leaves = (status == LEAVES_INNER) | (status == LEAVES_OUTER)
    end = tuple(jnp.where(leaves, a, jnp.where(status == ISLAND, b, c)) for a, b, c in zip(last[:2], turned[:2], (y0, p0)))
    return points, status, winding, turned[2] == 0, end


def flux(h, points, level):
    """(1/2 pi) integral of dphi/L over a traced contour, cubic Hermite pieces; and its derivative in level and in h."""
    y, p, ty, tp, d = points
    d = d[1:]
    nodes, weights = np.polynomial.legendre.leggauss(4)
    s = 0.5 * (nodes[:, None] + 1)
    w = jnp.asarray(0.5 * weights[:, None], y.dtype)
    shape = np.stack([2 * s**3 - 3 * s**2 + 1, s**3 - 2 * s**2 + s, 3 * s**2 - 2 * s**3, s**3 - s**2])
    slope = np.stack([6 * s**2 - 6 * s, 3 * s**2 - 4 * s + 1, 6 * s - 6 * s**2, 3 * s**2 - 2 * s])
    (ys, dy), (ps, dp) = ([k[0] * q[:-1] + k[1] * d * r[:-1] + k[2] * q[1:] + k[3] * d * r[1:]
                           for k in (jnp.asarray(shape, y.dtype), jnp.asarray(slope, y.dtype))] for q, r in ((y, ty), (p, tp)))
    x = jnp.exp(-ys)
    total = jnp.sum(w * x * dp)
    # moving a closed curve by (delta y, delta phi) changes the integral by that of x (delta phi dy - delta y dphi)
    off = jnp.vectorize(h)(ys, ps) - level
    a, b = jnp.vectorize(jax.grad(frozen(h, y[0], p[0]), argnums=(0, 1)))(ys, ps)
    norm2 = a * a + b * b
    change = jnp.sum(w * off * x * (a * dp - b * dy) / jnp.where(norm2 > 0, norm2, 1.0))
    return (total + change - lax.stop_gradient(change)) / (2 * np.pi)


def polished(h, y, p, level, rounds=8):
    """ln L on h = level at each phi, by Newton from y (no derivative taken), and the derivative of the solution by two more."""
    still = frozen(h, y[0], p[0])
    slope = jax.vmap(jax.value_and_grad(still))
    fixed = lax.stop_gradient((p, level))

    def newton(_, y):
        v, a = slope(y, fixed[0])
        return y - jnp.clip(jnp.where(a != 0, (v - fixed[1]) / jnp.where(a != 0, a, 1.0), 0.0), -0.02, 0.02)

    guess = y
    y = lax.fori_loop(0, rounds, newton, y)
    y = lax.stop_gradient(jnp.where(jnp.abs(y - guess) < 0.05, y, guess))
    for _ in range(2):
        v, a = jax.vmap(jax.value_and_grad(h))(y, p)
        y = y - jnp.clip(jnp.where(a != 0, (v - level) / jnp.where(a != 0, a, 1.0), 0.0), -0.01, 0.01)
    return y


def follow(points, phi, winding):
    """ln L of a traced graph at phi, phi[0] <= phi < phi[0] + 2 pi from the start of the trace."""
    y, p, ty, tp, _ = points
    turned = jnp.where(winding < 0, -1.0, 1.0)
    angle, at = turned * (p - p[0]), jnp.mod(turned * (phi - p[0]), 2 * np.pi)
    i = jnp.clip(jnp.searchsorted(angle, at, side="right") - 1, 0, jnp.argmax(angle) - 1)
    i = jnp.maximum(i, 0)
    width = angle[i + 1] - angle[i]
    width = jnp.where(width > 0, width, 1.0)
    s = jnp.clip((at - angle[i]) / width, 0.0, 1.0)
    slope = [width * turned * ty[k] / jnp.where(tp[k] != 0, tp[k], 1.0) for k in (i, i + 1)]
    return ((1 + 2 * s) * (1 - s) ** 2 * y[i] + s * (1 - s) ** 2 * slope[0] + s * s * (3 - 2 * s) * y[i + 1]
            + s * s * (s - 1) * slope[1])


def along(points, n):
    """(ln L, phi) at n even distances along a traced contour."""
    y, p, _, _, length = points
    s = jnp.cumsum(length)
    at = s[-1] * jnp.linspace(0.0, 1.0, n, dtype=y.dtype)
    return jnp.interp(at, s, y), jnp.interp(at, s, p)


def is_graph(points, closed):
    """phi never turns back, and nowhere is the contour nearly radial, where L(phi) would be of no use."""
    tp = points[3]
    return closed & (jnp.min(jnp.abs(tp)) > 0.02) & jnp.all(tp * tp[0] > 0)
