"""The quadrature of a bounce on a dipole field line: mirror points without lost digits, and a quarter of the bounce at nodes that
are exponentially accurate. Units as in `guiding_center`, whose functions of energy and moment are made of it.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["COS2", "SIN", "Quarter", "bounce", "mirror", "root"]

_NODES = 64
_ANGLES = (np.arange(_NODES) + 0.5) * (0.5 * math.pi / _NODES)    # midpoints: exponentially accurate for what is periodic
SIN, COS2 = np.sin(_ANGLES), np.cos(_ANGLES) ** 2


@jax.custom_jvp
@jax.jit
def mirror(excess):
    """(w, x) = (sin^2, cos^2) of the mirror latitude, where B/B_eq = sqrt(1 + 3 w)/(1 - w)^3 = 1 + excess."""
    # x = W z with W = (1 + excess)^(-1/3): z^6 + 3 W z = 4, Newton from above
    W = 1.0 / jnp.cbrt(1.0 + excess)
    z = 4.0 ** (1.0 / 6.0) * jnp.ones_like(W)
    for _ in range(6):
        z = z - (z**6 + 3.0 * W * z - 4.0) / (6.0 * z**5 + 3.0 * W)
    x = W * z
    # near the equator 1 - x has lost digits: Newton on w itself, in logarithms, gives them back
    near = x > 0.5
    w = jnp.where(near, 1.0 - x, 0.5)
    for _ in range(2):
        w = w - (0.5 * jnp.log1p(3.0 * w) - 3.0 * jnp.log1p(-w) - jnp.log1p(excess)) / (1.5 / (1.0 + 3.0 * w) + 3.0 / (1.0 - w))
    w = jnp.where(near, w, 1.0 - x)
    return w, jnp.where(near, 1.0 - w, x)


@mirror.defjvp
def _(primals, tangents):
    w, x = mirror(*primals)
    dw = tangents[0] / ((1.0 + primals[0]) * (1.5 / (1.0 + 3.0 * w) + 3.0 / x))
    return (w, x), (dw, -dw)


def root(w):
    """sqrt(w), 0 with derivative 0 where w <= 0."""
    some = w > 0.0
    return jnp.where(some, jnp.sqrt(jnp.where(some, w, 1.0)), 0.0)


class Quarter:
    """A quarter of the bounce at the nodes (last axis) of s = s_m sin(xi): 1 - B/B_m = (w_m - w) h, no digit lost."""

    def __init__(self, kinetic, excess, psi, m):
        self.w_m, x_m = (v[..., None] for v in mirror(excess))
        self.speed = jnp.sqrt(2.0 * kinetic / m)
        cos2 = self.cos2 = jnp.asarray(COS2, self.w_m.dtype)
        self.w = self.w_m * (1.0 - cos2)
        self.x = x_m + self.w_m * cos2
        g, g_m, x = jnp.sqrt(1.0 + 3.0 * self.w), jnp.sqrt(1.0 + 3.0 * self.w_m), self.x
        self.h = (3.0 * x**3 / (g_m + g) + g * (x * (x + x_m) + x_m**2)) / (x**3 * g_m)
        self.path = g                                                     # dl = (1/psi) g ds
        self.time = g / jnp.sqrt(self.h)                                  # dt = time dxi/(psi speed)
        self.b = 1.0 - self.w_m * cos2 * self.h                           # B/B_m

    def integral(self, values):
        return jnp.sum(values, axis=-1) * (0.5 * math.pi / _NODES)

    def average(self, values):
        return jnp.sum(values * self.time, axis=-1) / jnp.sum(self.time, axis=-1)


@jax.jit
def bounce(kinetic, excess, psi, m, e):
    """(period, action, drift rate without the electric one)."""
    at = Quarter(kinetic, excess, psi, m)
    g = 3.0 * at.x * (2.0 - at.x) / (4.0 - 3.0 * at.x) ** 2               # B_psi = g B/psi
    return (4.0 * at.integral(at.time) / (psi * at.speed),
            4.0 * m * at.speed / psi * at.integral(at.w_m * at.path * jnp.sqrt(at.h) * at.cos2),
            kinetic / (e * psi) * at.average((2.0 - at.b) * g))
