"""Exact states of the Krook model of parallel mixing on a (energy, pitch angle) grid, independent of the package.

f_t = nu_par (<f>_par - f) + nu_xi (<f>_xi - f) + S(v) - f/tau, nu_par = 1, keeps the form f = a(v) + [trapped] (b(v) +
c(v_perp)), so it is three functions of one variable, x = ln v^2, here on a fine uniform grid with 4-point interpolation.
"""

import functools

import numpy as np
from scipy.interpolate import CubicSpline

POWER = 3.0                                # the unknowns are times v^(2 POWER), smooth where f spans decades


def gauss(n):
    s, w = np.polynomial.legendre.leggauss(n)
    return 0.5 * (s + 1.0), 0.5 * w


def shift(x, by):
    """Matrix of y(x) -> y(x + by) exp(-POWER by); 0 beyond the ends."""
    at, step = x + by, x[1] - x[0]
    t = (at - x[0]) / step
    i = np.clip(np.floor(t).astype(int) - 1, 0, x.size - 4)
    M, inside = np.zeros((x.size, x.size)), (t >= 0) & (t <= x.size - 1)
    for a in range(4):
        w = np.prod([(t - i - b) / (a - b) for b in range(4) if b != a], axis=0)
        M[np.arange(x.size), i + a] += np.where(inside, w, 0.0)
    return np.exp(-POWER * by) * M


@functools.lru_cache
def operator(h, ratio, loss, span=(-7.0, 12.0), n=260):
    """(x, matrix of (a, b, c)_t, k)."""
    x, k = np.linspace(*span, n), np.sqrt(h / (1.0 + h))
    s, w = gauss(12)
    P = sum(wi * shift(x, np.log1p(h * si * si)) for si, wi in zip(s, w))                   # a + b -> its mean over v_par
    G = sum(k * wi * shift(x, np.log1p(-(k * si) ** 2)) for si, wi in zip(s, w))            # c -> its part of the mean over xi
    one, zero = np.eye(n), np.zeros((n, n))
    iso = (one, k * one, G)
    L = np.block([[ratio * iso[0], ratio * iso[1], ratio * iso[2]], [-one, -one, zero], [P, P, one - one]])
    L[:n, :n] -= ratio * one
    # on trapped particles f_t = P f + ratio <f> - (1 + ratio) f with f = a + b + c: b takes what a does not
    L[n:2 * n, n:2 * n] -= ratio * one
    L[2 * n:, 2 * n:] -= ratio * one
    return x, L - loss * np.eye(3 * n), k


def steady(h, ratio, loss, source):
    """The steady state with an isotropic source S(v^2) and the loss rate `loss`, as (function of v^2 and xi, k)."""
    x, L, k = operator(h, ratio, loss)
    S = np.concatenate([source(np.exp(x)) * np.exp(POWER * x), np.zeros(2 * x.size)])
    return fields(x, np.linalg.solve(L, -S), k)


def evolved(h, ratio, alpha, g, t, loss=0.0):
    """The state at t that started as (1 - alpha) g + alpha <g>_par."""
    from scipy.integrate import solve_ivp

    x, L, k = operator(h, ratio, loss)
    s, w = gauss(12)
    y = g(np.exp(x)) * np.exp(POWER * x)
    mixed = sum(wi * shift(x, np.log1p(h * si * si)) for si, wi in zip(s, w)) @ y
    start = np.concatenate([y, -alpha * y, alpha * mixed])
    out = solve_ivp(lambda _, z: L @ z, (0.0, t), start, rtol=1e-6, atol=1e-10 * np.abs(start).max()).y[:, -1] if t else start
    return fields(x, out, k)


def fields(x, y, k):
    a, b, c = (CubicSpline(x, part) for part in y.reshape(3, -1))

    def f(v2, xi, trapped):
        u, perp = np.log(v2), np.log(v2) + np.log1p(-xi * xi)
        inside = b(u) * np.exp(-POWER * u) + c(perp) * np.exp(-POWER * perp)
        return a(u) * np.exp(-POWER * u) + trapped * inside

    return f, k


def binned(state, v2, edges, points=6):
    """Means over pitch-angle bins [rad], exact at the boundary: (energy, bin)."""
    f, k = state
    walls, (s, w), out = np.cos(edges), gauss(points), 0.0
    for low, high, trapped in ((-1.0, -k, 0.0), (-k, k, 1.0), (k, 1.0, 0.0)):
        a, b = np.maximum(walls[1:], low), np.minimum(walls[:-1], high)
        part = np.maximum(b - a, 0.0)
        xi = np.clip(a[:, None] + part[:, None] * s, -1 + 1e-12, 1 - 1e-12)
        out = out + (f(v2[:, None, None], xi, trapped) * w).sum(axis=-1) * part
    return out / (walls[:-1] - walls[1:])
