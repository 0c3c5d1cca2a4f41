"""`Remap`: a measure-preserving map of a plane, applied as a conservative sparse table (semi-Lagrangian, any step)."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxbelt.coefficients import static
from jaxbelt.flows.base import Flow, any_in_batch, flow, ratio

__all__ = ["Remap", "STEP_DIFFERS"]

STEP_DIFFERS = 4


def _gathered(index, weight, order, f):
    """sum_k weight f[index], rows put back in order; f (cells, ...) -> (rows, ...)."""
    dims = (1,) * (f.ndim - 1)
    total = jnp.zeros((0, *f.shape[1:]), f.dtype)
    # the narrowest block comes first: every block holds the rows of the next one and more
    for i, w in zip(index[::-1], weight[::-1]):
        i, w = jnp.asarray(i), lax.stop_gradient(jnp.asarray(w)).astype(f.dtype)
        total = jnp.concatenate([total, jnp.zeros((i.shape[1] - total.shape[0], *f.shape[1:]), f.dtype)])

        def add(k, total, i=i, w=w):
            return total + w[k].reshape(-1, *dims) * f.at[i[k]].get(mode="promise_in_bounds")

        total = lax.fori_loop(0, i.shape[0], add, total)
    total = jnp.concatenate([total, jnp.zeros((1, *f.shape[1:]), f.dtype)])
    return total.at[jnp.asarray(order)].get(mode="promise_in_bounds")


def _around(x, radius):
    """Sums over boxes of 2 radius + 1 cells in the planes (axes 1 and 2), cut off at the plane's edge.

    As products with banded matrices: sums of slices cost three times more on a CPU.
    """
    for axis, spec in ((2, "pij...,jk->pik..."), (1, "pij...,ik->pkj...")):
        k = np.arange(x.shape[axis])
        near = np.abs(k[:, None] - k) <= radius
        x = jnp.einsum(spec, x, jnp.asarray(near, x.dtype), precision=lax.Precision.HIGHEST)
    return x


def _borrow(content, radius):
    """Cells below zero are filled from the positive cells of the box around them, in proportion to what those hold; nobody
    gives more than it has. Conservative; what a box cannot settle stays negative."""
    owed, held = jnp.maximum(-content, 0.0), jnp.maximum(content, 0.0)
    share = ratio(owed, _around(held, radius))           # asked of each cell around, per unit it holds
    asked = _around(share, radius)
    given = jnp.where(asked > 1, 1.0 / jnp.where(asked > 1, asked, 1.0), 1.0)
    owed = jnp.maximum(owed - share * _around(held * given, radius), 0.0)
    return held * (1.0 - jnp.minimum(asked, 1.0)) - owed


def _borrow_where_needed(content, radius, share):
    """`_borrow` for the planes that have a cell below zero, by themselves where they are no more than `share` of all: the others
    come out of it as they are, and are most of them."""
    borrow = jax.checkpoint(partial(_borrow, radius=radius))
    planes = content.shape[0]
    few = math.ceil(share * planes)
    if planes < 8:
        return borrow(content)
    needy = jnp.min(lax.stop_gradient(content), axis=tuple(range(1, content.ndim))) < 0

    def alone(content):
        rows = jnp.argsort(~needy)[:few]
        return content.at[rows].set(borrow(content[rows]), unique_indices=True)

    return lax.cond(any_in_batch(jnp.sum(needy) > few), borrow, alone, content)


@flow
class Remap(Flow):
    """f moved by a map of a plane (a, b) that preserves da db: content_new = table @ f, conservative and non-negative.

    axes: the plane, two neighbouring axes of the grid; the axes before them number the planes of the tables, those after them
    share a plane's table. tables: `RemapTables`, made for one dt: another step sets `fault` to 4 (a relative 1e-6 is forgiven).
    positive: cells that end below zero borrow from the positive ones around them, in boxes of 3 x 3, then 9 x 9 cells; what is
    left is settled by scaling down all that the plane holds. A plane whose L2 norm would rise, or whose entropy would fall where
    nothing leaves it, is mixed with its averages over 3 cells just as far as is needed. A plane that comes in with negative
    values is left as it is. (Tables of closed planes alone let some waves of two cells grow: a sixth-order damping keeps those
    small.)

    budget: "loss", the content that the map carries out of the plane (negative).
    """

    axes: tuple[str, str] = static()
    tables: Any = None
    steady: bool = static(True)
    positive: bool = static(True)

    def prepare(self, grid, dt):
        """What a step of dt needs: see `Flow`."""
        a, b = (grid.index(x) for x in self.axes)
        planes = grid.shape[:a]
        if b != a + 1:
            raise ValueError(f"axes: {self.axes[0]} and {self.axes[1]} must be neighbours on the grid ({', '.join(grid.names)})")
        if planes != self.tables.planes:
            raise ValueError(f"tables: made for planes of shape {self.tables.planes}, but the grid has {planes}")
        given = lax.stop_gradient(jnp.asarray(self.tables.dt))
        # written so that NaN counts as another step
        same = jnp.abs(lax.stop_gradient(dt) - given) <= 1e-6 * given
        return {"fault": jnp.where(same, 0, STEP_DIFFERS).astype(jnp.int32)}

    def advance(self, grid, state, f, t, dt):
        """(f after dt, budget): see `Flow`."""
        a, b = (grid.index(x) for x in self.axes)
        tables, f = self.tables, jnp.asarray(f)
        shape = f.shape
        na, nb = shape[a:a + 2]
        n, planes, tail = na * nb, int(np.prod(shape[:a])), shape[a + 2:]
        volume = np.outer(grid[a].measure, grid[b].measure).astype(f.dtype)
        volume = volume.reshape((1, na, nb) + (1,) * len(tail))
        cells = f.reshape(planes, n, *tail)
        if tables.symmetric:
            both = jnp.stack([cells, cells[:, ::-1]], axis=2).reshape(planes * n, 2, *tail)
            half = _gathered(tables.index, tables.weight, tables.order, both)
            content = jnp.concatenate([half[:, :, 0], half[:, ::-1, 1]], axis=1)
        else:
            content = _gathered(tables.index, tables.weight, tables.order, cells.reshape(planes * n, *tail))
        content = content.reshape(planes, na, nb, *tail)
        if tables.damp_a is not None:
            damp_a, damp_b = (lax.stop_gradient(jnp.asarray(x)).astype(f.dtype) for x in (tables.damp_a, tables.damp_b))
            content = jnp.einsum("pij...,kj->pik...", content, damp_b, precision=lax.Precision.HIGHEST)
            content = jnp.einsum("pij...,pki->pkj...", content, damp_a, precision=lax.Precision.HIGHEST)
        budget = {"fault": state["fault"]}
        if tables.loss is not None:
            dims = (1,) * len(tail)
            lost = lax.stop_gradient(jnp.asarray(tables.loss)).astype(f.dtype).reshape(planes, n, *dims) * cells
            weight = _measures(grid, a).astype(f.dtype)
            budget["loss"] = -jnp.sum(jnp.sum(lost, axis=1) * weight)
        if self.positive:
            room = jnp.where(jnp.asarray(tables.live).reshape(planes, na, 1, *(1,) * len(tail)), volume, 0.0)
            start = cells.reshape(planes, na, nb, *tail)
            inner = None
            if tables.inner is not None:
                beside = np.abs(np.arange(nb) - 0.5 * (nb - 1))    # cells from b = 0
                inner = jnp.asarray(tables.inner).reshape(planes, na, 1, *(1,) * len(tail)) > beside.reshape(
                    (1, 1, nb) + (1,) * len(tail))
            content = _settle(content, start, inner)
            content = _monotone(content, room, start, grid[a].measure, grid[b].measure, tables.loss is None)
        return (content / volume).reshape(shape), budget


def _measures(grid, a):
    """Product of the measures of the axes outside the plane: (planes, *tail)."""
    before, after = np.ones(()), np.ones(())
    for k, axis in enumerate(grid.axes):
        if k < a:
            before = np.multiply.outer(before, axis.measure)
        elif k > a + 1:
            after = np.multiply.outer(after, axis.measure)
    return np.multiply.outer(before.reshape(-1), after)


def _settle(content, start, inner=None):
    """Nothing negative, in planes that had nothing negative at the start. inner: cells of a part that the map does not mix with
    the rest; neither part then borrows from the other while it holds anything itself."""
    plane = (1, 2)

    def negative(x):
        return any_in_batch(lax.stop_gradient(x) < 0)

    def shared(x):
        """All cells pay what their boxes could not, each in proportion to what it holds."""
        owed, held = jnp.maximum(-x, 0.0), jnp.maximum(x, 0.0)
        part = ratio(jnp.sum(owed, axis=plane, keepdims=True), jnp.sum(held, axis=plane, keepdims=True))
        return held * (1.0 - jnp.minimum(part, 1.0))

    def settled(content):
        x, out = content, 0.0
        if inner is not None:
            out = jnp.where(inner, 0.0, content)               # on its way out: no boxes are needed
            total = jnp.sum(out, axis=plane, keepdims=True)
            out = shared(out)
            x = jnp.where(inner, content, 0.0)
        x = _borrow_where_needed(x, 1, 0.4)
        x = lax.cond(negative(x), lambda x: shared(_borrow_where_needed(x, 4, 0.2)), lambda x: x, x)
        if inner is not None:
            # an outer part that owes more than it holds is paid by the inner one
            debt = jnp.maximum(-total, 0.0)
            x = x * (1.0 - jnp.minimum(ratio(debt, jnp.sum(x, axis=plane, keepdims=True)), 1.0)) + out
        return jnp.where(jnp.min(start, axis=plane, keepdims=True) < 0, content, x)

    return lax.cond(negative(content), settled, lambda x: x, content)


def _averaged(u, room, widths_a, widths_b):
    """u with [1 4 1]/6 along both axes in its conservative form, between the cells that can hold anything."""
    for axis, widths in ((1, widths_a), (2, widths_b)):
        n = u.shape[axis]
        shape = [1] * u.ndim
        shape[axis] = -1
        link = np.reshape(np.minimum(widths[1:], widths[:-1]) / 6, shape)
        low, high = (lax.slice_in_dim(room, k, n - 1 + k, axis=axis) > 0 for k in (0, 1))
        flux = jnp.where(low & high, jnp.asarray(link, u.dtype) * jnp.diff(u, axis=axis), 0.0)
        ends = [(0, 0)] * u.ndim
        ends[axis] = (1, 1)
        u = u + jnp.diff(jnp.pad(flux, ends), axis=axis) / jnp.asarray(np.reshape(widths, shape), u.dtype)
    return u


def _disorder(u, room, mean, closed):
    """What must not fall: (-sum V (u - mean)^2, entropy -sum V u ln u if the planes are closed), each (planes, 1, 1, ...)."""
    out = [-jnp.sum(room * (u - mean) ** 2, axis=(1, 2), keepdims=True)]
    if closed:
        logarithm = jnp.log(jnp.where(u > 0, u, 1.0))
        out.append(-jnp.sum(jnp.where(u > 0, room * u * logarithm, 0.0), axis=(1, 2), keepdims=True))
    return out


def _monotone(content, room, start, widths_a, widths_b, closed):
    """A plane whose L2 norm rose or whose entropy fell since `start` is mixed with its averages, then with its mean.

    Both measures are concave, so the share (before - now)/(of the averages - now) is enough; the mean has the most of all.
    """
    fixed, whole = jnp.where(room > 0, room, 1.0), jnp.sum(room, axis=(1, 2), keepdims=True)
    # about the mean, so that small waves on a flat state are seen; an open plane has none that is kept
    level = jnp.sum(room * start, axis=(1, 2), keepdims=True) / jnp.where(whole > 0, whole, 1.0)
    level = lax.stop_gradient(level) if closed else jnp.zeros_like(level)
    before = _disorder(start, room, level, closed)

    def short(u):
        return [(a, b, b < a) for a, b in zip(before, _disorder(u, room, level, closed))]

    def mixed(u, other):
        share = jnp.zeros((), u.dtype)
        for (least, now, bad), best in zip(short(u), _disorder(other, room, level, closed)):
            gain = jnp.where(bad & (best > now), best - now, 1.0)
            share = jnp.maximum(share, jnp.where(bad, jnp.where(best > now, jnp.minimum((least - now) / gain, 1.0), 1.0), 0.0))
        return u + share * (other - u)

    def repaired(u):
        u = mixed(u, _averaged(u, room, widths_a, widths_b))
        mean = jnp.sum(room * u, axis=(1, 2), keepdims=True) / jnp.where(whole > 0, whole, 1.0)
        return mixed(u, jnp.where(room > 0, mean, 0.0))

    value = content / fixed
    now = lax.stop_gradient(short(value))
    # a rounding is no reason
    floor = whole * (1e-14 * level) ** 2
    rose = sum(jnp.any(least - x > 1e-14 * jnp.abs(least) + floor) for least, x, _ in now) > 0
    untouched = jnp.min(start, axis=(1, 2), keepdims=True) < 0
    return lax.cond(any_in_batch(rose), lambda u: jnp.where(untouched, u, repaired(u)), lambda u: u, value) * fixed
