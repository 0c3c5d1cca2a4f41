"""Sparse conservative tables for a measure-preserving map of a plane: content after the map = table @ values before it."""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from typing import Any

import jax
import numpy as np

from jaxbelt.grid import Frozen

__all__ = ["RemapTables", "damping", "gauss_points", "plane_table", "stack_planes"]

_DEGREE = 4                                                  # of the reconstruction inside a cell: 5 cells a direction
DAMPING = 1.0                                               # at most 27/8
_SMEAR = np.outer([1, 4, 1], [1, 4, 1]).ravel() / 36
_THREAD = 1e-3                                               # links of the mask weaker than this share of a row
_THIN = 0.25                                                 # columns hit by less than this share of their content


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RemapTables:
    """What a `Remap` needs: for each arrival cell its donors, and the content taken per unit value of each.

    Rows (arrival cells of all planes) are sorted by their number of donors, widest first, and stored in blocks of K donors:
    block b holds the next K donors of the rows that have any left, so that almost nothing is padded.

    index, weight: tuples of (K, rows of the block): donor as flat cell number over all planes, and its weight.
    order: (planes, rows of a plane) position of each row; one past the last for rows without donors. With `symmetric` a plane has
    n/2 rows, for the first half of its cells; the others follow by point reflection k -> n-1-k.
    loss: (planes, n), the content that a cell loses to the outside per unit value, or None. dt: the step they were made for.
    live: (planes, n_a), the lines of each plane that hold anything. damp_a (planes, n_a, n_a), damp_b (n_b, n_b): what a step
    does to the content after the map, along each axis: see `damping`; None in planes that lose content, where it would carry
    some across the border of what is lost. inner: (planes, n_a) cells on either side of b = 0 that belong to the inner part of
    planes in two parts (see `plane_table`), or None.
    """

    index: Any
    weight: Any
    order: Any
    loss: Any
    dt: Any
    live: Any
    damp_a: Any
    damp_b: Any
    planes: tuple = dataclasses.field(metadata={"static": True})
    symmetric: bool = dataclasses.field(default=True, metadata={"static": True})
    inner: Any = None


def gauss_points(faces, points: int):
    """(coordinates (cells, points), shares (points,)) of Gauss-Legendre points in every cell; the shares sum to 1."""
    y, w = np.polynomial.legendre.leggauss(points)
    faces = np.asarray(faces, np.float64)
    return 0.5 * (faces[1:] + faces[:-1])[:, None] + 0.5 * np.diff(faces)[:, None] * y, 0.5 * w


@lru_cache(maxsize=256)
def _reconstruction(faces, low, high):
    """(first donor (n,), coefficients (n, degree+1, cells)) of the value in each cell low <= i < high: the derivative of the
    polynomial through the primitive on the faces of the 5 cells around it (one-sided near low and high), as powers of
    (x - center)/width. Cell values in, value out: the coefficients of all donors sum to 1.
    """
    faces = faces.array
    n = faces.size - 1
    width = min(_DEGREE + 1, high - low)
    first = np.zeros(n, int)
    table = np.zeros((n, _DEGREE + 1, _DEGREE + 1))
    for i in range(low, high):
        first[i] = np.clip(i - width // 2, low, high - width)
        cell = faces[i + 1] - faces[i]
        x = (faces[first[i]:first[i] + width + 1] - 0.5 * (faces[i] + faces[i + 1])) / cell
        # primitive = sum of F_m x^m/m through all faces: values u_j are its differences over the cells
        powers = np.arange(1, width + 1)
        moments = np.diff(x[:, None] ** powers, axis=0) / np.diff(x)[:, None] / powers
        table[i, :width, :width] = np.linalg.inv(moments)
    return first, table


def _locate(faces, x, low, high):
    return np.clip(np.searchsorted(faces, x, side="right") - 1, low, high - 1)


def _weights(table, i, y):
    """(points, 5) reconstruction weights at y = (x - center)/width of cells i."""
    c = table[i]
    out = c[:, _DEGREE]
    for k in range(_DEGREE - 1, -1, -1):
        out = out * y[:, None] + c[:, k]
    return out


def _near(i, n_i, j, n_j):
    """Numbers of the 3 x 3 cells around (i, j), those beyond the plane's edge taken back to it: (cells, 9)."""
    near_i = np.stack([np.maximum(i - 1, 0), i, np.minimum(i + 1, n_i - 1)], axis=1)
    near_j = np.stack([np.maximum(j - 1, 0), j, np.minimum(j + 1, n_j - 1)], axis=1)
    return (near_i[:, :, None] * n_j + near_j[:, None, :]).reshape(-1, 9)


def _balance(m, row_gap, column_gap, rounds=6):
    """alpha, beta so that m * (alpha_row + beta_column) has the given row and column sums; m sparse, non-negative.

    Conjugate gradients for beta after alpha is eliminated, scaled by the sums of m; repeated on the residual, for its rounding.
    """
    from scipy.sparse import bmat
    from scipy.sparse.csgraph import connected_components

    rows = np.asarray(m.sum(1)).ravel()
    columns = np.asarray(m.sum(0)).ravel()
    dr = 1.0 / np.sqrt(np.where(rows > 0, rows, 1.0))
    dc = 1.0 / np.sqrt(np.where(columns > 0, columns, 1.0))
    scaled = m.multiply(dr[:, None]).multiply(dc).tocsr()
    back = scaled.T.tocsr()
    a, b = row_gap * dr, column_gap * dc
    # alpha up and beta down by the same in a part that hangs together changes no sum: rounding must not send the search there
    part = connected_components(bmat([[None, m], [m.T, None]]), directed=False)[1][rows.size:]
    idle = np.where(columns > 0, 1.0 / dc, 0.0)
    size = np.bincount(part, idle**2)

    def projected(r):
        return r - idle * (np.bincount(part, idle * r) / np.where(size > 0, size, 1.0))[part]

    alpha, beta = np.zeros_like(a), np.zeros_like(b)
    floor = 1e-32 * (np.sum(1 / dr**2) + np.sum(1 / dc**2))
    for _ in range(rounds):
        ra = np.where(rows > 0, a - alpha - scaled @ beta, 0)
        r = projected(np.where(columns > 0, b - beta - back @ (alpha + ra), 0))
        x, p, rr = np.zeros_like(r), r.copy(), r @ r
        goal = max(floor, 1e-20 * rr)
        for _ in range(2000):
            q = projected(p - back @ (scaled @ p))
            turn = p @ q
            if rr <= goal or turn <= 0:
                break
            step = rr / turn
            x += step * p
            r -= step * q
            rr, old = r @ r, rr
            p = r + (rr / old) * p
        beta += x
        alpha += ra - scaled @ x
        if goal == floor:
            break
    return alpha * dr, beta * dc


def plane_table(faces_a, faces_b, a0, b0, alive, shares, *, live=None, still=None, within=None, lines=None, symmetric=True):
    """One plane's sparse table: (row, donor, weight) sorted by row, what of each cell's content stays in the plane (n,), and the
    volumes of the cells (n,) that the table is for: content after = weight @ (content before/volume).

    A map of the plane (a, b) that preserves da db, known by where Gauss points of the arrival cells come from.
    faces_a, faces_b: faces of the axes; the cells of a plane are numbered k = i n_b + j.
    a0, b0, alive: (rows, points) departure points of the arrival cells in `live` (all of them, or with `symmetric` those in
    the first half, n_a/2 lines), in their order; alive False: nothing comes from there.
    shares (points,): share of each point in its cell.
    live: (low, high), the lines i of the plane that hold anything. still: (rows,) rows that the map leaves where they are.
    within, lines: where the plane falls into two parts that the map does not mix, around b = 0 and beyond (trapped particles and
    those on their way out): which part the points belong to (rows, points), and how many cells on either side of b = 0 the inner
    one has on each line (n_a,). Points beside the border count to the nearest cell of their own part, whose volume is what
    its points have: nothing leaks across. What is lost is lost from the outer part: there, backward and forward loss are
    mirror images in b (so must faces_b be), and columns follow them as far as few points can tell.
    """
    from scipy.sparse import csr_matrix

    na, nb = faces_a.size - 1, faces_b.size - 1
    n = na * nb
    low, high = (0, na) if live is None else live
    top = na // 2 if symmetric else high                     # rows of the lines low <= i < top
    rows = max(top - low, 0) * nb
    full = (np.diff(faces_a)[:, None] * np.diff(faces_b)).ravel()
    if rows == 0:
        return np.zeros(0, int), np.zeros(0, int), np.zeros(0), np.zeros(n), full
    first_a, table_a = _reconstruction(Frozen(faces_a), low, high)
    first_b, table_b = _reconstruction(Frozen(faces_b), 0, nb)
    # cells are numbered within the live lines from here on; part p of cell k counts to owner[p * width + k]
    m_low, width = low * nb, (high - low) * nb
    part = np.zeros(alive.shape, int) if within is None else (~within).astype(int)
    owner = _owners(None if within is None else lines[low:high], high - low, nb)
    each = shares * full[m_low:m_low + rows, None]
    home = owner[part * width + np.arange(rows)[:, None]]
    inner = home < rows                                      # an owner beyond the middle has its mirror image here
    home = np.where(inner, home, width - 1 - home) if symmetric else home
    volume = np.bincount(home.ravel(), each.ravel(), rows)
    goal_row = np.bincount(home.ravel(), (each * alive).ravel(), rows)
    t, m = np.zeros((rows, width)), np.zeros((rows, width))
    block = max(1, 2_000_000 // width)
    spread = (np.arange(_DEGREE + 1)[:, None] * nb + np.arange(_DEGREE + 1)).ravel()
    work = alive if still is None else alive & ~still[:, None]
    for r0 in range(0, rows, block):
        r1 = min(r0 + block, rows)
        ok = work[r0:r1]
        if not ok.any():
            continue
        x, y, content, row, of = a0[r0:r1][ok], b0[r0:r1][ok], each[r0:r1][ok], home[r0:r1][ok], width * part[r0:r1][ok]
        i, j = _locate(faces_a, x, low, high), _locate(faces_b, y, 0, nb)
        wa = _weights(table_a, i, (x - 0.5 * (faces_a[i] + faces_a[i + 1])) / (faces_a[i + 1] - faces_a[i])) * content[:, None]
        wb = _weights(table_b, j, (y - 0.5 * (faces_b[j] + faces_b[j + 1])) / (faces_b[j + 1] - faces_b[j]))
        first, last = int(row.min()), int(row.max()) + 1
        size = (last - first) * width
        row = (row - first) * width
        # stencils narrower than 5 hold zeros beyond their end
        donor = np.minimum(((first_a[i] - low) * nb + first_b[j])[:, None] + spread, width - 1)
        at, value = row[:, None] + owner[of[:, None] + donor], (wa[:, :, None] * wb[:, None, :])
        t[first:last] += np.bincount(at.ravel(), value.ravel(), size).reshape(-1, width)
        # piecewise constant, smeared by [1 4 1]/6 both ways; what would leave the plane stays
        at = row[:, None] + owner[of[:, None] + _near(i - low, high - low, j, nb)]
        m[first:last] += np.bincount(at.ravel(), (content[:, None] * _SMEAR).ravel(), size).reshape(-1, width)
    if still is not None:
        own = np.nonzero(still)[0]
        to, amount = home[own, 0], each[own].sum(1)
        np.add.at(t, (to, to), amount)
        np.add.at(m, (to[:, None], owner[width * part[own, :1] + _near(own // nb, high - low, own % nb, nb)]),
                  amount[:, None] * _SMEAR)
    half = width // 2 if symmetric else width

    def folded(x):
        return x[:, :half] + x[:, :half - 1:-1] if symmetric else x

    def whole(x):
        return np.concatenate([x, x[::-1]]) if symmetric else x

    goal_column = whole(goal_row)[:half]
    if not np.all(alive):
        # what leaves a cell in the next dt is what did not arrive at its mirror image in b
        if np.max(np.abs(np.diff(faces_b) - np.diff(faces_b)[::-1])) > 1e-9 * np.ptp(faces_b):
            raise ValueError("faces_b: where content is lost they must be mirror images of each other about their middle")
        goal_column = whole(goal_row).reshape(-1, nb)[:, ::-1].ravel()[:half]
    kept = np.where(volume > 0, goal_column / np.where(volume > 0, volume, 1.0), 1.0)
    mh = folded(m)
    thin = mh.sum(0) < _THIN * volume
    if thin.any():
        # columns that few points hit (beside an edge of what is lost): first order, so that their correction stays small
        both = whole(thin)
        t[:, both] = m[:, both]
    mh = csr_matrix(mh)
    row_gap, column_gap = goal_row - t.sum(1), goal_column - folded(t).sum(0)
    if kept.min() < 1.0 - 1e-12:
        column_gap = _consistent(mh, row_gap, column_gap, np.where(volume > 0, volume, 1.0), kept < 1.0 - 1e-12)
    alpha, beta = _balance(mh, row_gap, column_gap)
    beta = whole(beta)
    row, donor = np.nonzero((t != 0) | (m != 0))
    weight = t[row, donor] + m[row, donor] * (alpha[row] + beta[donor])
    told = np.abs(weight) > 1e-17 * volume[row]
    row, donor, weight = row[told], donor[told], weight[told]
    held = np.bincount(donor, weight, width)
    if symmetric:
        held = held + held[::-1]
    volumes = full.copy()
    volumes[m_low:m_low + width] = whole(volume)
    out = np.zeros(n)
    some = volumes > 0
    out[m_low:m_low + width] = held
    return row + m_low, donor + m_low, weight, np.where(some, out / np.where(some, volumes, 1.0), 0.0), volumes


def _owners(lines, na, nb):
    """(2 n,): the cell to which the inner and the outer part of each cell count. lines: see `plane_table`."""
    cell = np.arange(na * nb)
    if lines is None:
        return np.concatenate([cell, cell])
    i, j = np.divmod(cell, nb)
    middle, some = nb // 2, np.nonzero(lines > 0)[0]
    inner = cell
    if some.size:
        # the nearest line toward the equator that has inner cells
        to = np.where(lines[i] > 0, i, np.where(i < na // 2, some.min(), some.max()))
        inner = to * nb + np.clip(j, middle - lines[to], middle + lines[to] - 1)
    out = np.where(j < middle, np.minimum(j, middle - lines[i] - 1), np.maximum(j, middle + lines[i]))
    return np.concatenate([inner, np.where(lines[i] < middle, i * nb + np.clip(out, 0, nb - 1), cell)])


def _consistent(m, row_gap, column_gap, content, lossy):
    """Column gaps that m can close: where a part of m hangs together with the rest by a thread or not at all, what its rows need
    is shared out over its lossy columns, in proportion to their sums. (What is lost is counted from the table itself.)
    """
    from scipy.sparse import bmat, diags
    from scipy.sparse.csgraph import connected_components

    strong = diags(1.0 / content) @ m
    strong.data[strong.data < _THREAD] = 0.0
    strong.eliminate_zeros()
    parts, label = connected_components(bmat([[None, strong], [strong.T, None]]), directed=False)
    own = np.asarray(m.sum(0)).ravel()
    of_row, of_column = label[:row_gap.size], label[row_gap.size:]
    column_gap = np.where(own > 0, column_gap, 0.0)
    able = own * lossy
    able = np.where(np.bincount(of_column, able, parts)[of_column] > 0, able, own)
    total = np.bincount(of_column, able, parts)
    excess = np.bincount(of_row, row_gap, parts) - np.bincount(of_column, column_gap, parts)
    share = np.where(total > 0, excess / np.where(total > 0, total, 1.0), 0.0)
    return column_gap + share[of_column] * able


def damping(widths, low, high, strength=DAMPING):
    """Matrix 1 - strength (1 - s)^3 acting on the contents of cells, s = [1 4 1]/6 in its conservative form on unequal cells,
    between low and high. Symmetric in the cells' measure with eigenvalues in [0, 1]: keeps constants and content, lowers L2.

    A table that is exact in its rows and columns still lets modes of a cell's length grow by a per cent a step where the map is
    not smooth, at edges of what moves. Sixth order: a wave of 8 cells loses 1e-3 of its amplitude a step, of 16 cells 2e-5.
    """
    k = np.zeros((widths.size, widths.size))
    i = np.arange(low, high - 1)
    flux = np.minimum(widths[i], widths[i + 1]) / 6
    np.add.at(k, (i, i), flux)
    np.add.at(k, (i + 1, i + 1), flux)
    k[i, i + 1] = k[i + 1, i] = -flux
    return np.eye(widths.size) - strength * np.linalg.matrix_power(k / widths, 3)


def stack_planes(planes, shape, axes, dt, *, lossy, dtype, lines=None, symmetric=True, inner=None) -> RemapTables:
    """`RemapTables` from the results of `plane_table` for all planes (leading shape `shape`); lines: their `live`, or None."""
    lines = [(0, axes[0].n)] * len(planes) if lines is None else [(int(a), int(b)) for a, b in lines]
    damp_a = damp_b = None
    if not lossy:
        damps = {line: damping(axes[0].measure, *line) for line in set(lines)}
        damp_a = np.stack([damps[line] for line in lines]).astype(dtype)
        damp_b = damping(axes[1].measure, 0, axes[1].n).astype(dtype)
    live = np.array([(np.arange(axes[0].n) >= a) & (np.arange(axes[0].n) < b) for a, b in lines])
    n = axes[0].n * axes[1].n
    rows = n // 2 if symmetric else n
    row = np.concatenate([one[0] + k * rows for k, one in enumerate(planes)])
    donor = np.concatenate([one[1] + k * n for k, one in enumerate(planes)])
    weight = np.concatenate([one[2] for one in planes]).astype(dtype)
    loss = None
    if lossy:
        volume = np.outer(axes[0].measure, axes[1].measure).ravel()
        loss = np.stack([volume * (1.0 - one[3]) for one in planes]).astype(dtype)
    index, weight, order = _blocks(row, donor, weight, len(planes) * rows)
    return RemapTables(index, weight, order.reshape(len(planes), rows), loss, np.asarray(dt, dtype), live, damp_a,
                       damp_b, tuple(shape), symmetric, inner)


def _blocks(row, donor, weight, rows):
    """Rows given as sorted triplets, sorted by width and cut into blocks: see `RemapTables`."""
    count = np.bincount(row, minlength=rows)
    start = np.concatenate([[0], np.cumsum(count)[:-1]])
    widest_first = np.argsort(-count, kind="stable")
    position = np.empty(rows, np.int32)
    position[widest_first] = np.arange(rows)
    filled = int(np.count_nonzero(count))
    indices, weights = [], []
    done = 0
    while done < count.max(initial=0):
        held = widest_first[count[widest_first] > done]
        left = count[held] - done
        # as many donors as most of these rows still have; few blocks, since each is compiled by itself
        k = min(max(4, done // 3, int(np.quantile(left, 0.2))), int(left.max()))
        slot = np.arange(k)[:, None]
        good = slot < left
        at = np.where(good, start[held] + done + slot, start[held])
        indices.append(donor[at].astype(np.int32))
        weights.append(np.where(good, weight[at], 0))
        done += k
    return tuple(indices), tuple(weights), np.minimum(position, filled).astype(np.int32)
