"""`Advection`: a drift along one axis, its characteristics followed exactly and its content moved between them."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxbelt.coefficients import static
from jaxbelt.flows.base import Flow, any_in_batch, flow, ratio, wall_value
from jaxbelt.flows.matrices import contract_lines

__all__ = ["Advection", "feet_of_contraction", "feet_of_speed", "departure_matrix"]


@flow
class Advection(Flow):
    """V df/dt = -d(u f) along one axis x that is not periodic: what arrives between two faces left between their feet.

    The foot of a face is where the drift that reaches it at the end of the step starts. The content between two feet is read
    off a polynomial of degree 5 through the summed content at the six nearest faces (3 beside the outermost cells, 2 in them):
    one matrix a distinct line, exact for any length of step, good for lines of up to about a hundred cells.

    Give one of
        rate    k [1/s]: u = -k x, a contraction about x = 0 (k < 0: expansion). Length 1 along `axis`, 1 or n along the
                others. Feet x exp(k dt): exact.
        speed   u [axis unit/s] on the n+1 faces, linear between them; 1 or n along the other axes. Feet by `substeps` (static)
                steps of RK4.
    lower, upper: None (vacuum outside; what leaves is booked), or the value of f outside, a coefficient of (t, other
    coordinates). Number is kept to round-off. positive: what is below zero in a line that came without negative values
    borrows from its neighbours, then from the line.

    Good values: any step; few long ones err least. A bump of sigma 2.5 (5) cells shifted 100 times by about half a cell errs by
    2e-2 (4e-4) of its height; shifted once, by 2e-4 (4e-6). `exact`: two joined halves are one step without the interpolation
    between them. Longer steps than a cell cost dense matrices, made when they are applied. What fills a single cell drifts at
    about half its speed in small steps, because of the borrowing; a Gaussian of sigma 1 cell is right.
    """

    axis: str = static()
    rate: Any = None
    speed: Any = None
    lower: Any = None
    upper: Any = None
    steady: bool = static(True)
    positive: bool = static(True)
    substeps: int = static(8)
    exact = True

    def prepare(self, grid, dt):
        """What a step of dt needs: see `Flow`."""
        k = grid.index(self.axis)
        axis = grid[k]
        if axis.periodic:
            raise ValueError(f"Advection along {axis.name}: the axis is periodic; give a Rotation")
        if (self.rate is None) == (self.speed is None):
            raise ValueError(f"Advection along {axis.name}: give either rate or speed")
        name, needed, a = ("rate", 1, self.rate) if self.speed is None else ("speed", axis.n + 1, self.speed)
        a = jnp.asarray(a)
        if a.ndim > grid.ndim or (a.ndim and a.ndim != grid.ndim):
            raise ValueError(f"Advection along {axis.name}: {name} of shape {a.shape} needs {grid.ndim} dimensions, one an axis")
        a = jnp.moveaxis(a.reshape((1,) * (grid.ndim - a.ndim) + a.shape), k, -1)
        if a.shape[-1] != needed:
            raise ValueError(f"Advection along {axis.name}: {name} has length {a.shape[-1]} along the axis, needs {needed}")
        feet = feet_of_contraction(axis.faces, a, dt) if needed == 1 else feet_of_speed(axis.faces, a, dt, self.substeps)
        # one diagonal of the matrices after the other, each with the axis in its place
        band = jnp.moveaxis(_departure_band(axis.faces, feet), (-1, -2), (0, k + 1))
        still = lax.stop_gradient(feet)
        far = jnp.any(still[..., 1:] < axis.faces[:-1]) | jnp.any(still[..., :-1] > axis.faces[1:])
        return {"feet": feet, "band": band, "far": far, "inflow": self._inflow(grid, feet, k)}

    def _inflow(self, grid, feet, k):
        """Content that comes from outside per value there: (lower, upper), each with n+2 rows along the axis as the matrix."""
        if self.lower is None and self.upper is None:
            return None
        feet = jnp.moveaxis(feet, -1, 0)
        faces, volume = grid[k].faces, np.moveaxis(grid.line_volumes(k), k, 0)
        width = np.diff(faces)
        # outside a unit of length holds what it holds in the outermost cell
        below = jnp.minimum(feet - faces[0], 0.0) * (volume[0] / width[0])
        above = jnp.maximum(feet - faces[-1], 0.0) * (volume[-1] / width[-1])
        # rows: what goes out through the lower wall, the cells, what goes out through the upper wall
        from_below = jnp.concatenate([jnp.zeros_like(below[:1]), jnp.diff(below, axis=0), -below[-1:]])
        from_above = jnp.concatenate([above[:1], jnp.diff(above, axis=0), jnp.zeros_like(above[:1])])
        return tuple(jnp.moveaxis(x, 0, k) for x in (from_below, from_above))

    def advance(self, grid, state, f, t, dt):
        """(f after dt, budget): see `Flow`."""
        k = grid.index(self.axis)
        volume = jnp.asarray(grid.line_volumes(self.axis), f.dtype)
        before = volume * f
        # feet hardly ever lie more than a cell from their faces: then the matrices are banded
        moved = lax.cond(any_in_batch(state["far"]),
                         lambda x: contract_lines(departure_matrix(grid[k].faces, state["feet"]), x, k),
                         lambda x: _banded(state["band"], x, k), before)
        due = jnp.sum(before, axis=k, keepdims=True)
        gained = [0.0, 0.0]
        for i, wall in enumerate((self.lower, self.upper)):
            if wall is not None:
                value = wall_value(wall, t.plus(0.5 * dt), grid, self.axis)
                moved = moved + state["inflow"][i] * value
                gained[i] = jnp.sum(state["inflow"][i], axis=k, keepdims=True) * value
                due = due + gained[i]
        # a line that comes in with negative values is left as it is: there is nothing to keep positive
        kept = jnp.min(lax.stop_gradient(f), axis=k, keepdims=True) >= 0
        after, wanted = (lax.stop_gradient(x) for x in (jnp.sum(moved, axis=k, keepdims=True), due))
        # with constant feet rounding errs the same way every step: each line is scaled by 1 + O(ulp) to what it must hold
        good = kept & (after > 0.01 * wanted) & (wanted > 0)
        scale = jnp.where(good, wanted / jnp.where(good, after, 1.0), 1.0)
        if self.positive:
            negative = kept & (jnp.min(lax.stop_gradient(moved), axis=k, keepdims=True) < 0)
            moved = lax.cond(any_in_batch(negative), lambda m: jnp.where(negative, _filled(m, k), m) * scale,
                             lambda m: m * scale, moved)
        else:
            moved = moved * scale
        weight = jnp.asarray(grid.other_measures(self.axis))
        ends = (lax.index_in_dim(moved, i, k) for i in (0, moved.shape[k] - 1))
        lower, upper = (jnp.sum((gain - end) * weight) for gain, end in zip(gained, ends))
        name = grid[k].name
        f = lax.slice_in_dim(moved, 1, moved.shape[k] - 1, axis=k) / volume
        return f, {f"{name}.lower": lower, f"{name}.upper": upper}


def feet_of_contraction(faces, rate, dt):
    """Feet of the faces (n+1,) for dx/dt = -rate x: x exp(rate dt), shape (..., n+1) for a rate (..., 1)."""
    # beyond e^80 every foot is outside the grid, or in the cell at 0
    return jnp.asarray(faces) * jnp.exp(jnp.clip(jnp.asarray(rate) * dt, -80.0, 80.0))


def feet_of_speed(faces, speed, dt, substeps=8):
    """Feet of the faces (n+1,) for dx/dt = speed, given on them (..., n+1) and linear between; constant outside.

    `substeps` steps of RK4; error (|u'| dt/substeps)^4/120 of the way, and less than a crossing's change of slope, of second
    order, where a foot passes a face. Never out of order.
    """
    faces = jnp.asarray(faces)
    n = faces.shape[0] - 1
    h = -dt / substeps

    def at(x):
        cell = jnp.clip(jnp.searchsorted(faces, lax.stop_gradient(x), side="right") - 1, 0, n - 1)
        s = jnp.minimum(jnp.maximum((x - faces[cell]) / (faces[cell + 1] - faces[cell]), 0.0), 1.0)
        below, above = (jnp.take_along_axis(speed, cell + i, axis=-1) for i in (0, 1))
        return below + s * (above - below)

    def step(x, _):
        a = at(x)
        b = at(x + 0.5 * h * a)
        c = at(x + 0.5 * h * b)
        return x + h / 6 * (a + 2 * b + 2 * c + at(x + h * c)), None

    feet, _ = lax.scan(step, jnp.broadcast_to(faces, speed.shape), None, length=substeps)
    return lax.cummax(feet, axis=feet.ndim - 1)


def departure_matrix(faces, feet):
    """Where the content between `faces` goes that is cut at `feet` (..., n+1): (..., n+2, n).

    Row 0: the part of every cell's content that lies below the first foot and leaves through the lower wall; row 1 + i:
    between feet i and i+1; row n+1: above the last. Columns sum to 1.
    """
    faces = np.asarray(faces)
    n = faces.size - 1
    s = _part_below(faces[:-1], faces[1:], feet[..., :, None])
    below = s
    for shift, table in _cell_polynomials(faces).items():
        # what cell j holds below the foot depends on the content of cell j + shift
        pad = [(0, 0)] * (s.ndim - 1) + [(max(shift, 0), max(-shift, 0))]
        below = below + jnp.pad(_curved(table, s), pad)[..., max(-shift, 0):max(-shift, 0) + n]
    return jnp.concatenate([below[..., :1, :], jnp.diff(below, axis=-2), 1.0 - below[..., -1:, :]], axis=-2)


def _departure_band(faces, feet):
    """The diagonals of `departure_matrix` where no foot is more than a cell from its face: [..., row, 3 + d] is the entry of
    row `row`, cell row - 1 + d, |d| <= 3; (..., n+2, 7)."""
    n = faces.size - 1
    face, tables = np.arange(n + 1), _cell_polynomials(faces)
    # content below the foot of face i: cells i - 3 .. i + 2 here, all of it in cells further down
    below = [jnp.broadcast_to(np.where((face + c >= 0) & (face + c < n), float(c < -1), 0.0), feet.shape) for c in range(-3, 3)]
    for j in (-1, 0):                                    # the cell below the face, and the one above
        cell = np.clip(face + j, 0, n - 1)
        exists = (face + j == cell).astype(float)
        s = _part_below(faces[cell], faces[cell + 1], feet)
        below[3 + j] = below[3 + j] + exists * s
        for shift, table in tables.items():
            below[3 + j + shift] = below[3 + j + shift] + _curved(exists * table[:, cell], s)
    below = jnp.stack(below, axis=-1)
    # row i + 1 is face i + 1, one cell further, less face i; the first and the last row have one of them
    whole = np.where(face >= 4, 1.0, 0.0)
    upper = jnp.concatenate([jnp.broadcast_to(whole[:, None], (*feet.shape, 1)), below], axis=-1)
    ends = np.where((n - 3 + np.arange(7) >= 0) & (n - 3 + np.arange(7) < n), 1.0, 0.0)
    upper = jnp.concatenate([upper, jnp.broadcast_to(ends, (*feet.shape[:-1], 1, 7))], axis=-2)
    pad = [(0, 0)] * (feet.ndim - 1) + [(1, 0), (0, 1)]
    return upper - jnp.pad(below, pad)


def _part_below(lower, upper, feet):
    """The part of a cell that is below a foot: 0 and 1 exactly where that is on a face, with the mean of both sides' slopes."""
    s, rest = (feet - lower) / (upper - lower), (upper - feet) / (upper - lower)
    return jnp.where(s < 0.5, jnp.maximum(s, 0.0), 1.0 - jnp.maximum(rest, 0.0))


def _curved(table, s):
    """s (1 - s) sum over d of table[d] s^d."""
    return s * (1.0 - s) * (table[0] + s * (table[1] + s * (table[2] + s * table[3])))


def _cell_polynomials(faces) -> dict:
    """The content of cell j below its part s is s y_j + s (1 - s) sum over l, d of table[l][d, j] s^d y_(j + l), y the contents.

    It is the polynomial through the summed content at the faces around the cell: of degree 5, next to the outermost cells 3,
    in them 2.
    """
    n = faces.size - 1
    table = {l: np.zeros((4, n)) for l in range(-2, 3)}
    for j in range(n):
        r = min(2, j, n - 1 - j)
        first, last = (j - r, j + r) if r else (max(j - 1, 0), min(j + 1, n - 1))
        x = (faces[first:last + 2] - faces[j]) / (faces[j + 1] - faces[j])
        for l in range(first, last + 1):
            # content 1 in cell l: the sum is 1 at every face above it, less its value at the lower face of cell j
            total = np.zeros(x.size)
            for m in range(l + 1 - first, x.size):
                roots = np.delete(x, m)
                total = total + np.poly(roots) / np.prod(x[m] - roots)
            total[-1] = 0.0
            if l == j:
                total[-2] -= 1.0
            quotient = np.polydiv(total[:-1], [-1.0, 1.0])[0][::-1]
            table[l - j][:quotient.size, j] = quotient
    return table


def _banded(band, content, axis):
    """Diagonals of matrices (2 reach + 1, ...), as `_departure_band` with n + 2 rows along the axis, times content."""
    reach = band.shape[0] // 2
    wide = jnp.pad(content, [(reach + 1, reach + 1) if i == axis else (0, 0) for i in range(content.ndim)])
    n = content.shape[axis] + 2
    return sum(band[d] * lax.slice_in_dim(wide, d, d + n, axis=axis) for d in range(2 * reach + 1))


def _filled(content, axis):
    """Content of lines whose cells below zero took from their two neighbours in proportion to what those hold, and what that
    left below zero from all of the line in proportion. Conservative; nothing negative where the sum of a line is positive."""
    n = content.shape[axis]

    def around(x):
        x = jnp.pad(x, [(1, 1) if i == axis else (0, 0) for i in range(x.ndim)])
        return lax.slice_in_dim(x, 0, n, axis=axis) + lax.slice_in_dim(x, 2, n + 2, axis=axis)

    owed, held = jnp.maximum(-content, 0.0), jnp.maximum(content, 0.0)
    share = lax.optimization_barrier(ratio(owed, around(held)))          # read three times: not worth computing three times
    asked = around(share)
    given = 1.0 / jnp.maximum(asked, 1.0)
    left = lax.optimization_barrier(held * (1.0 - jnp.minimum(asked, 1.0))
                                    - jnp.maximum(owed - share * around(held * given), 0.0))
    held = jnp.maximum(left, 0.0)
    have, content = (jnp.sum(x, axis=axis, keepdims=True) for x in (held, left))
    return held * jnp.maximum(ratio(content, have), 0.0)
