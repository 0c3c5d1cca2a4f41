"""`TensorDiffusion`: diffusion with a full tensor in the plane of two axes, conservative and non-negative at any anisotropy."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxbelt import linear
from jaxbelt.coefficients import evaluate, static
from jaxbelt.flows import links as lk
from jaxbelt.flows.base import Flow, any_in_batch, blend_factor, flow, wall_value
from jaxbelt.flows.blocks import block_factor, block_solve

__all__ = ["TensorDiffusion", "UNKNOWN_OFFSET"]

UNKNOWN_OFFSET = 2

ROOT2 = math.sqrt(2.0)
ALPHA = 1.0 - 1.0 / ROOT2
GAMMA = 2.0 - ROOT2


@flow
class TensorDiffusion(Flow):
    """V df/dt = div(W grad f) + V (source - loss f) in the plane of `axes` = (a, b); the other axes are a batch.

    w11, w12, w22: index-space tensor V D_ab/(h_a h_b) of every cell [content/s per f], broadcastable to the grid, positive
    semi-definite (`selling.check_psd` on the host; here silently limited). loss [1/s]: broadcastable, on the diagonal of the
    solves. source [f/s]: a coefficient of (t, *grid coordinates). lower, upper = walls of a; lower_b, upper_b = walls of b: None
    (no flux), or the value on the wall, a coefficient of (t, *other coordinates). b may be periodic, a may not.

    Walls lie half a cell from the last centers. Offsets of the stencil: |p| <= rows along a, |q| <= cap along b; a tensor that
    needs more has its w12 clamped (`selling.clamped` tells how much). Orient the axes so that a needs the fewer rows.

    method "unsplit": one block tridiagonal system (blocks of rows * n_b) a step; factored once while coefficients last.
    method "lines": the offsets one after another in Strang order, each a batch of tridiagonal lines; only for lam dt/V up to
    about 10. `offsets` is then the static set (`selling.offset_set`); a traced tensor that needs another one loses that
    link and sets the budget's fault to 2.

    Time: TR-BDF2 with alpha = 1 - 1/sqrt 2 in the form  M y1 = V f0, M y2 = V y1, f1 = (1 + sqrt 2) y2 - sqrt 2 y1,
    M = V + alpha dt K (sources at the means that make this identical). y_k are backward Euler steps of alpha dt, hence
    non-negative. Where f1 is not, the largest convex blend with the positive (2 - sqrt 2) y3 + (sqrt 2 - 1) y4 that is, which
    has the same time dt and needs no second matrix; its error is a third of that of one backward Euler step.
    """

    axes: tuple[str, str] = static()
    w11: Any
    w12: Any
    w22: Any
    loss: Any = None
    source: Any = None
    lower: Any = None
    upper: Any = None
    lower_b: Any = None
    upper_b: Any = None
    steady: bool = static(True)
    positive: bool = static(True)
    method: str = static("unsplit")
    offsets: tuple = static(())
    rows: int = static(1)
    cap: int = static(32)

    def _coefficients(self, grid):
        """Wall coefficients by their name inside the plane; periodic axes have no walls."""
        a, b = (grid[x] for x in self.axes)
        if a.periodic:
            raise ValueError(f"TensorDiffusion: {a.name!r} is periodic; only the second of `axes` may be (swap them)")
        if self.method not in ("unsplit", "lines"):
            raise ValueError(f"TensorDiffusion method: {self.method!r} is unknown; use 'unsplit' or 'lines'")
        if self.method == "lines" and not self.offsets:
            raise ValueError("TensorDiffusion offsets: method='lines' needs its static set, see selling.offset_set")
        given = dict(zip(lk.WALLS, (self.lower, self.upper, self.lower_b, self.upper_b)))
        return {k: v for k, v in given.items() if v is not None and not (b.periodic and k[0] == "b")}

    def prepare(self, grid, dt):
        """What a step of dt needs: see `Flow`."""
        opened = tuple(self._coefficients(grid))
        periodic = grid[self.axes[1]].periodic
        order = self._order(grid)
        arrays = [order.own(a) for a in self._arrays(grid)]
        k = ALPHA * dt

        def plane(w11, w12, w22, volume, loss):
            links = lk.build(w11, w12, w22, opened, periodic, self.rows, self.cap)
            if self.method == "lines":
                return links, volume, loss, _line_systems(links, volume, loss, self.offsets, periodic, dt)
            return links, volume, loss, _factor(links, volume, loss, k, self.rows)

        return (jax.vmap(plane) if order.own_axes else plane)(*arrays)

    def _arrays(self, grid):
        arrays = [self.w11, self.w12, self.w22, grid.volumes_compact, 0.0 if self.loss is None else self.loss]
        arrays = [_full_rank(a, grid.ndim) for a in arrays]
        dtype = jnp.result_type(*arrays)
        return [a.astype(dtype) for a in arrays]

    def _order(self, grid) -> _Order:
        shapes = jnp.broadcast_shapes(*(a.shape for a in self._arrays(grid)))
        return _Order(grid, tuple(grid.index(x) for x in self.axes), shapes)

    def advance(self, grid, state, f, t, dt):
        """(f after dt, budget): see `Flow`."""
        coefficients = self._coefficients(grid)
        ka, kb = (grid.index(x) for x in self.axes)
        order = self._order(grid)
        moments = [t.plus(s * dt) for s in (0.0, GAMMA, 1.0)]
        values = [{w: self._wall(grid, order, w, c, m) for w, c in coefficients.items()} for m in moments]
        source = None
        if self.source is not None:
            source = [order.planes(evaluate(self.source, m, *grid.mesh())) for m in moments]
        step = _lines_step if self.method == "lines" else _unsplit_step

        def plane(state, f, values, source):
            return step(self, state, f, values, source, dt, grid[kb].periodic)

        planes = order.planes(f)
        for count, batch in zip(planes.shape[1::-1], (None, 0)):      # planes with a factor in common, then each with its own
            plane = jax.vmap(plane, in_axes=(batch, 0, 0, 0)) if count > 1 else _only(plane)
        planes, budget = plane(state, planes, values, source)
        f = order.back(planes)
        names = dict(zip("ab", self.axes))
        out = {names[w[0]] + w[1:]: jnp.sum(budget[w]) for w in lk.WALLS if w in budget}
        out |= {"source": jnp.sum(budget["source"]), "loss": jnp.sum(budget["loss"])}
        if "fault" in budget:
            out["fault"] = jnp.max(budget["fault"])
        return f, out

    def _wall(self, grid, order, wall, coefficient, t):
        """Values along a wall, (own, shared, n)."""
        value = wall_value(coefficient, t, grid, self.axes["ab".index(wall[0])])
        value = order.planes(value, across=wall[0])
        return value[:, :, 0] if wall[0] == "a" else value[..., 0]


def _full_rank(a, ndim):
    a = jnp.asarray(a)
    return a.reshape((1,) * (ndim - a.ndim) + a.shape)


def _only(step):
    """A step of the one plane of a batch of one."""
    def alone(state, *batch):
        out = step(state, *jax.tree.map(lambda x: x[0], batch))
        return jax.tree.map(lambda x: x[None], out)
    return alone


class _Order:
    """How an array on the grid becomes planes (own, shared, na, nb): own: along the axes where tensor, volume or loss vary, a
    factor each; shared: along the other ones, which share their factors."""

    def __init__(self, grid, axes, shape):
        others = [i for i in range(grid.ndim) if i not in axes]
        self.grid, self.axes = grid, axes
        self.own_axes = tuple(i for i in others if shape[i] > 1)
        self.order = (*self.own_axes, *(i for i in others if shape[i] == 1), *axes)

    def own(self, a):
        """An array that does not vary along the shared axes: (own, na, nb), or (na, nb) where there is one plane."""
        shape = [n if i in self.own_axes or i in self.axes else 1 for i, n in enumerate(self.grid.shape)]
        a = jnp.transpose(jnp.broadcast_to(a, shape), self.order)
        return a.reshape(((-1,) if self.own_axes else ()) + a.shape[-2:])

    def planes(self, a, across=None):
        """Any array as (own, shared, na, nb); across: "a" or "b", along which it has length 1 (a wall)."""
        shape = list(self.grid.shape)
        if across is not None:
            shape[self.axes["ab".index(across)]] = 1
        a = jnp.transpose(jnp.broadcast_to(_full_rank(a, self.grid.ndim), shape), self.order)
        own = math.prod(self.grid.shape[i] for i in self.own_axes)
        return a.reshape((own, -1) + a.shape[-2:])

    def back(self, planes):
        """Planes as an array on the grid."""
        shape = [self.grid.shape[i] for i in self.order]
        return jnp.transpose(planes.reshape(shape), [self.order.index(i) for i in range(self.grid.ndim)])


def _total(outflow, like):
    return sum(outflow.values(), jnp.zeros_like(like))


def _factor(links, volume, loss, k, rows):
    """Factor V + k K for `_solve`; what leaves a cell for good are the column sums."""
    entries, assemble = lk.blocks(links, rows, k)
    count, n = entries[0].shape[0], entries[0].shape[-1]
    sums = lax.stop_gradient(volume + k * (volume * loss + _total(links.outflow, volume))).reshape(-1)
    # rows that only fill up the last block stand alone
    sums = jnp.pad(sums, (0, count * n - sums.size), constant_values=1.0)
    return block_factor(entries, sums.reshape(count, n), assemble)


def _solve(links, volume, loss, factors, k, b):
    """x with (V + k K) x = b on the plane; differentiable in b, the links, V, loss and k."""
    diagonal = volume + k * (volume * loss + _total(links.outflow, volume))

    def matvec(x):
        return diagonal * x + k * lk.exchange(links, x)

    def solve(_, b):
        blocks, n = factors[0].shape[:2]
        flat = jnp.pad(b.reshape(-1), (0, blocks * n - b.size))
        return block_solve(factors, flat.reshape(blocks, n)).reshape(-1)[:b.size].reshape(b.shape)

    return lax.custom_linear_solve(matvec, b, solve, solve, symmetric=True)


def _step(solve, volume, f0, rates, k, axis, positive):
    """One step. rates: content gained per time at the moments t, t + gamma dt, t + dt; k = alpha dt.

    Returns f1, theta and z with  sum V (f1 - f0) = k (sources - K z),  sources weighted by `_quadrature`.
    """
    start, middle, end = rates
    first = 0.5 * (start + middle)
    second = (end + ROOT2 * first) / (1 + ROOT2)

    def euler(y, rate):
        y = solve(volume * y + k * rate)
        return y, y

    # a loop of two, so that the solve is compiled once
    y2, (y1, _) = lax.scan(euler, f0, jnp.stack([first, second]))
    f1 = y2 + ROOT2 * (y2 - y1)                    # weights that differ by exactly 1, or content would drift
    theta = jnp.ones_like(jnp.sum(f1, axis=axis, keepdims=True))
    z = y1 + (1 + ROOT2) * y2
    if not positive:
        return f1, theta, z

    def blended(args):
        f1, _, z = args
        y4, (y3, _) = lax.scan(euler, y2, jnp.stack([end, end]))
        safe = (2 - ROOT2) * y3 + (ROOT2 - 1) * y4
        theta = blend_factor(f1, safe, f0, axis)
        f = theta * f1 + (1 - theta) * safe
        # as a sum of non-negative terms wherever f1 is not used at all
        f = jnp.where(theta > 0, f, safe)
        return f, theta, y1 + (1 + ROOT2 * theta) * y2 + (1 - theta) * (y3 + (ROOT2 - 1) * y4)

    return lax.cond(any_in_batch(lax.stop_gradient(f1) < 0), blended, lambda args: args, (f1, theta, z))


def _quadrature(rates, theta):
    """Weights of the rates at the three moments that go with z of `_step`."""
    start, middle, end = rates
    first = 0.5 * (start + middle)
    second = (end + ROOT2 * first) / (1 + ROOT2)
    return first + (1 + ROOT2 * theta) * second + (1 - theta) * ROOT2 * end


def _unsplit_step(flow, state, f0, values, source, dt, periodic):
    links, volume, loss, factors = state
    k = ALPHA * dt
    gains = [{w: links.walls[w].gain(v) for w, v in at.items()} for at in values]
    rates = [_rate(links, g, f0.shape) for g in gains]
    if source is not None:
        rates = [r + volume * s for r, s in zip(rates, source)]

    def solve(b):
        return _solve(links, volume, loss, factors, k, b)

    f1, theta, z = _step(solve, volume, f0, rates, k, (0, 1), flow.positive)
    theta = theta[0, 0]
    budget = {w: k * (_quadrature([jnp.sum(g[w]) for g in gains], theta) - jnp.sum(links.outflow[w] * z))
              for w in links.walls}
    for w in lk.WALLS[:2] if periodic else lk.WALLS:
        budget.setdefault(w, jnp.zeros((), f0.dtype))
    fed = 0.0 if source is None else k * _quadrature([jnp.sum(volume * s) for s in source], theta)
    return f1, budget | {"source": fed + jnp.zeros((), f0.dtype), "loss": -k * jnp.sum(volume * loss * z)}


def _rate(links, gains, shape):
    return sum((links.walls[w].spread(g, shape) for w, g in gains.items()), jnp.zeros(shape))


# ---- one offset after another -------------------------------------------------------------------------------------------


def _layout(shape, offset, periodic):
    """Cells of the lines along an offset: (order, inverse, n, m, cyclic), static; order permutes n * m >= cells entries.

    Line m holds cells (i0 + k p, j0 + k q mod nb): where b is not periodic the wrapped links have no conductance.
    """
    na, nb = shape
    p, q = offset
    if p == 0:
        cells = (np.arange(na)[None, :] * nb + np.arange(nb)[:, None] * q % nb)
        return cells.reshape(-1), np.argsort(cells.reshape(-1)), nb, na, periodic
    n = -(-na // p)
    i = np.arange(n)[:, None, None] * p + np.arange(p)[None, :, None]
    j = (np.arange(nb)[None, None, :] + np.arange(n)[:, None, None] * q) % nb
    # rows beyond the last one fill up the array: they sort behind all cells
    cells = (i * nb + j).reshape(-1)
    return cells, np.argsort(cells), n, p * nb, False


def _permute(x, order, inverse):
    """x[order]; its transpose is the gather x[inverse], not a scatter."""
    return lax.custom_linear_solve(lambda y: y[inverse], x, lambda _, b: b[order], lambda _, b: b[inverse])


def _sequence(offsets):
    """Strang order with half steps around the last offset: (index, part of dt)."""
    last = len(offsets) - 1
    wings = [(i, 0.5) for i in range(last)]
    return wings + [(last, 1.0)] + wings[::-1]


def _line_systems(links, volume, loss, offsets, periodic, dt):
    """Factored lines for every offset. Loss belongs to the last one, which is advanced by a whole step."""
    shape = volume.shape
    systems = []
    for number, offset in enumerate(offsets):
        order, inverse, n, m, cyclic = _layout(shape, offset, periodic)
        match = (links.p == offset[0]) & (links.q == offset[1])
        half = jnp.sum(jnp.where(match[:, None], links.half, 0.0), axis=0)
        out = jnp.zeros(shape)
        for wall in links.walls.values():
            g = jnp.where(wall.strip(match)[:, None], wall.conductance, 0.0)
            out = out + wall.spread(jnp.sum(g, axis=(0, 1)), shape)
        last = number == len(offsets) - 1
        leaving = out / volume + (loss if last else 0.0)

        def line(x, fill, order=order, inverse=inverse, n=n, m=m):
            flat = jnp.pad(x.reshape(-1), (0, n * m - x.size), constant_values=fill)
            return _permute(flat, order, inverse).reshape(n, m)

        forward, backward = line(half[0], 0.0), line(half[1], 0.0)
        inside = forward[:-1] + backward[1:]
        ends = (forward[-1] + backward[0])[None] if cyclic else jnp.zeros((1, m))
        faces = jnp.concatenate([ends, inside, ends])
        system = linear.Line(line(volume, 1.0), faces, faces, line(leaving, 0.0), cyclic=cyclic)
        systems.append((linear.factor(system, ALPHA * dt * (1.0 if last else 0.5)), out))
    known = jnp.zeros(links.p.shape, bool)
    for p, q in offsets:
        known = known | ((links.p == p) & (links.q == q))
    missed = jnp.any(~known & (jnp.max(links.half, axis=1) > 0))
    return systems, jnp.where(missed, UNKNOWN_OFFSET, 0)


def _lines_step(flow, state, f0, values, source, dt, periodic):
    links, volume, loss, (systems, fault) = state
    shape, size = f0.shape, f0.size
    zero = jnp.zeros((), f0.dtype)
    budget = {w: zero for w in (lk.WALLS[:2] if periodic else lk.WALLS)} | {"source": zero, "loss": zero}
    f, begin = f0, 0.0
    offsets = flow.offsets
    sequence = _sequence(offsets)
    for number, part in sequence:
        last = number == len(offsets) - 1
        order, inverse, n, m, _ = _layout(shape, offsets[number], periodic)
        match = (links.p == offsets[number][0]) & (links.q == offsets[number][1])
        k = ALPHA * dt * part
        factors, _ = systems[number]
        # wall values on the part of the step that this sub-step stands for, linear between the three moments
        span = (0.0, 1.0) if last else ((0.0, 0.5) if begin == 0.0 else (0.5, 1.0))
        begin = span[1] if last else begin
        moments = [span[0] + s * (span[1] - span[0]) for s in (0.0, GAMMA, 1.0)]

        def line(x, fill=0.0, order=order, inverse=inverse, n=n, m=m):
            flat = jnp.pad(x.reshape(-1), (0, n * m - size), constant_values=fill)
            return _permute(flat, order, inverse).reshape(n, m)

        gains = []
        for moment in moments:
            at = {w: _between([v[w] for v in values], moment) for w in links.walls}
            gains.append({w: links.walls[w].spread(links.walls[w].gain(v, links.walls[w].strip(match)[:, None]), shape)
                          for w, v in at.items()})
        rates = [line(sum(g.values(), jnp.zeros(shape))) for g in gains]
        if last and source is not None:
            rates = [r + line(volume * s) for r, s in zip(rates, source)]
        cells = line(volume, 1.0)
        f1, theta, z = _step(lambda b, c=cells, s=factors: linear.solve(s, b / c), cells, line(f), rates, k, 0,
                             flow.positive)
        back = [_permute(jnp.broadcast_to(x, (n, m)).reshape(-1), inverse, order)[:size].reshape(shape)
                for x in (f1, theta, z)]
        f, theta, z = back
        for w, wall in links.walls.items():
            g = jnp.where(wall.strip(match)[:, None], wall.conductance, 0.0)
            out = wall.spread(jnp.sum(g, axis=(0, 1)), shape)
            budget[w] += k * jnp.sum(_quadrature([x[w] for x in gains], theta) - out * z)
        if last:
            budget["loss"] -= k * jnp.sum(volume * loss * z)
            if source is not None:
                budget["source"] += k * jnp.sum(volume * _quadrature(source, theta))
    return f, budget | {"fault": fault}


def _between(values, moment):
    """A wall value at a fraction of the step, linear between its three moments."""
    nodes = (0.0, GAMMA, 1.0)
    if moment in nodes:
        return values[nodes.index(moment)]
    left = 0 if moment < GAMMA else 1
    w = (moment - nodes[left]) / (nodes[left + 1] - nodes[left])
    return (1 - w) * values[left] + w * values[left + 1]
