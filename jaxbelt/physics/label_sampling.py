r"""f between the cells of a `LabelGrid`: monotone and positive, exact at the cells.

Along one axis ln f is the cubic through the four nearest cells, kept between the values of the two cells that x lies between:
fourth order where f is monotonic, second order at its extrema, no new extremum. In the outer half cells it goes on, at most twice
as steep as a straight line. At 90 degrees f is even, which its cubic is too. Where one of those cells is 0 it is ln f that is
linear between the nearest ones, and f itself where one of these is.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["sample", "within_faces", "reaches_90"]

_SLACK = 1e-9                                                    # of an axis' length


class _Stencil(NamedTuple):
    """Cells of x along an axis (m, ...) with their cubic and linear weights; which of them is the first of the two that x lies
    between, w of the way to the second; whether these two mirror each other."""

    cells: Any
    cubic: Any
    linear: Any
    first: Any
    w: Any
    mirrored: Any


def reaches_90(grid) -> bool:
    """Whether the grid's pitch angles end at 90 degrees."""
    return abs(grid["alpha"].faces[-1] - 0.5 * math.pi) < 1e-9


def within_faces(axis, x):
    """Where x lies between the first and the last face of an axis."""
    low, high = axis.faces[[0, -1]]
    slack = (1e-6 if x.dtype == jnp.float32 else _SLACK) * (high - low)
    return (x >= low - slack) & (x <= high + slack)


@functools.partial(jax.jit, static_argnums=(0, 1))
def sample(grid, hold: bool, f, asked):
    """f (..., [L, [phi,]] alpha, lnp) at asked["alpha"], asked["lnp"] (places, s) and asked["L"] (places, 1), without which the
    places are the cells of L: (..., places, [phi,] s). Beyond the faces NaN, or (hold) the value there."""
    lead = f.ndim - grid.ndim
    if "L" not in grid.names:
        f = jnp.expand_dims(f, lead)
    names = ("L", *(x for x in grid.names if x != "L"))
    # what is looked up to the front: (L, alpha, lnp, ..., [phi])
    f = jnp.moveaxis(f, [lead + names.index(x) for x in ("L", "alpha", "lnp")], [0, 1, 2])
    shape = asked["lnp"].shape
    inside = jnp.ones(shape, bool)
    one = jnp.ones((1, shape[0], 1))
    stencils = {"L": _Stencil(jnp.arange(shape[0])[None, :, None], one, one, None, None, None)}
    for name, x in asked.items():
        axis = grid[name]
        inside = inside & (hold | within_faces(axis, x))
        even = name == "alpha" and reaches_90(grid)
        stencils[name] = _stencil(axis.centers, jnp.clip(x, axis.faces[0], axis.faces[-1]), even)
    stencils = [stencils[name] for name in ("L", "alpha", "lnp")]
    # (cells of L, of alpha, of lnp, places, s, ..., [phi])
    values = f[tuple(_apart(x.cells, k) for k, x in enumerate(stencils))]
    more = (1,) * (f.ndim - 3)
    share = math.prod(_apart(x.linear, k) for k, x in enumerate(stencils))
    share = share.reshape(*share.shape, *more)
    positive = values > 0
    log = jnp.log(jnp.where(positive, values, 1.0))
    cubic = log
    for stencil in stencils:
        cubic = _along(cubic, stencil, more)
    every, near = positive.all((0, 1, 2)), (positive | (share == 0.0)).all((0, 1, 2))
    straight = jnp.exp(jnp.where(every, cubic, (share * log).sum((0, 1, 2))))
    out = jnp.where(near, straight, jnp.maximum((share * values).sum((0, 1, 2)), 0.0))
    out = jnp.where(inside.reshape(*shape, *more), out, jnp.nan)
    return jnp.moveaxis(jnp.moveaxis(out, 1, -1), 0, lead)


def _apart(x, k):
    """(m, places, s) with its m cells along axis k of three."""
    return jnp.expand_dims(x, [j for j in range(3) if j != k])


def _stencil(centers, x, even):
    n = centers.size
    cells = np.arange(n)
    if even:                                                     # mirrored at 90 degrees
        k = min(n, 2)
        centers, cells = np.append(centers, math.pi - centers[::-1][:k]), np.append(cells, cells[::-1][:k])
    x = x[None]
    if centers.size == 1:
        return _Stencil(jnp.zeros(x.shape, int), jnp.ones(x.shape), jnp.ones(x.shape), None, None, None)
    m = 4 if centers.size >= 4 else 2
    nodes = jnp.asarray(centers)
    i = jnp.clip(jnp.searchsorted(nodes, x, side="right") - 1, 0, centers.size - 2)
    start = jnp.clip(i - (m // 2 - 1), 0, centers.size - m)
    each = start + jnp.arange(m)[:, None, None]
    w = (x - nodes[i]) / (nodes[i + 1] - nodes[i])
    linear = jnp.where(each == i, 1.0 - w, jnp.where(each == i + 1, w, 0.0))
    cubic = [math.prod((x[0] - nodes[each[j]]) / (nodes[each[k]] - nodes[each[j]]) for j in range(m) if j != k) for k in range(m)]
    return _Stencil(jnp.asarray(cells)[each], jnp.stack(cubic), linear, i - start, w, even & (i == n - 1))


def _along(log, stencil, more):
    """ln f (m, ..., places, s, ...) at the cells of a stencil, mixed along its first axis."""
    def fit(x):
        return x.reshape(x.shape[0], *(1,) * (log.ndim - 3 - len(more)), *x.shape[1:], *more)

    if log.shape[0] == 1:
        return log[0]
    m = jnp.arange(log.shape[0])[:, None, None]
    a, b = (jnp.sum(log * fit(jnp.broadcast_to(m == stencil.first + k, stencil.linear.shape)), 0) for k in (0, 1))
    cubic, w = jnp.sum(log * fit(stencil.cubic), 0), fit(stencil.w)[0]
    # beyond the outer centres: at most twice as steep as straight on, and never back
    end = jnp.where(w < 0.0, a, b)
    far = 2.0 * (a * (1.0 - w) + b * w) - end
    between = (w >= 0.0) & (w <= 1.0)
    a, b = jnp.where(between, a, end), jnp.where(between, b, far)
    return jnp.where(fit(stencil.mirrored)[0], cubic, jnp.clip(cubic, jnp.minimum(a, b), jnp.maximum(a, b)))
