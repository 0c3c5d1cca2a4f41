"""`LineDiffusion`: drift and diffusion along one axis, with loss and source on its diagonal."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxbelt import linear
from jaxbelt.coefficients import Function, Series, is_steady, static
from jaxbelt.flows.base import KEPT, Flow, any_in_batch, blend_factor, flow, kept, line_sum, wall_value
from jaxbelt.flows.exponential import propagators
from jaxbelt.flows.matrices import contract_lines

__all__ = ["LineDiffusion"]

# TR-BDF2 with gamma = 2 - sqrt 2 needs one matrix M = V + alpha dt A. With y1 = M^-1 V f0 and y2 = M^-1 V y1, two backward Euler
# steps of alpha dt, it is f1 = (1 + sqrt 2) y2 - sqrt 2 y1. Two more of them give (2 - sqrt 2) y3 + (sqrt 2 - 1) y4, which
# stands at the same time, is never negative and has a third of the error of one backward Euler step.
ALPHA = 1.0 - 1.0 / np.sqrt(2.0)
GAMMA = 2.0 - np.sqrt(2.0)
SQRT2 = np.sqrt(2.0)


@flow
class LineDiffusion(Flow):
    """V df/dt = -(F_{k+1} - F_k) + V (source - loss f),  F_k = up_k f_{k-1} - down_k f_k on face k of `axis`.

    up, down: (n+1 along `axis`; 1 or n along the others) [content/s per f and per unit measure of the other axes], >= 0, so
    that lines which differ only in those measures share their factors; `down=None` means down = up (pure diffusion: the
    conductance). loss [1/s] and source [f/s] broadcast against f. lower, upper: None (then up[0] and down[n] are not used:
    nothing comes in; what `down[0]` and `up[n]` let out leaves), or the value outside, a coefficient of (t, other coordinates).
    On a periodic axis face 0 and face n are the same face.

    method "tr-bdf2": second order, L-stable, kept non-negative line by line by the largest convex blend with a positive
    first-order step, computed only where something is negative (and was not before). "exponential": the exact propagator
    (coefficients constant in the step, wall values and sources at its midpoint), positive at any step, dense: good for
    lines of up to about a hundred cells; `exact` where nothing changes inside an interval. One matrix a distinct line.
    """

    axis: str = static()
    up: Any = None
    down: Any = None
    loss: Any = None
    source: Any = None
    lower: Any = None
    upper: Any = None
    steady: bool = static(True)
    positive: bool = static(True)
    method: str = static("tr-bdf2")
    backend: str = static("auto")
    again = True

    @property
    def exact(self) -> bool:
        """See `Flow`."""
        walls = (self.lower, self.upper)
        known = all(isinstance(w, Series | Function) or not callable(w) for w in walls)
        return self.method == "exponential" and self.steady and known and is_steady(*walls)

    def _line(self, grid) -> linear.Line:
        k = grid.index(self.axis)

        def first(a):
            return None if a is None else jnp.moveaxis(_full_rank(a, grid.ndim), k, 0)

        up = first(self.up)
        down = up if self.down is None else first(self.down)
        volume = jnp.asarray(first(grid.line_volumes(self.axis)))
        n = grid[k].n
        volume = jnp.broadcast_to(volume, (n,) + volume.shape[1:])
        loss = first(self.loss)
        return linear.Line(volume, up, down, loss, cyclic=grid[k].periodic)

    def prepare(self, grid, dt):
        """What a step of dt needs: see `Flow`."""
        line, k = self._line(grid), grid.index(self.axis)
        if self.method == "exponential":
            return _exponential_state(self, grid, line, dt)
        return line, linear.factor(line, ALPHA * dt, self.backend, lines=grid.shape[:k] + grid.shape[k + 1:])

    def source_at(self, grid, t):
        """The source with the axis first (it does not depend on t: an unsteady flow is built anew for every step)."""
        if self.source is None:
            return None
        k = grid.index(self.axis)
        return jnp.moveaxis(jnp.broadcast_to(_full_rank(self.source, grid.ndim), grid.shape), k, 0)

    def _walls(self, grid, t):
        k = grid.index(self.axis)
        return tuple(None if w is None or grid[k].periodic else jnp.moveaxis(wall_value(w, t, grid, self.axis), k, 0)[0]
                     for w in (self.lower, self.upper))

    def advance(self, grid, state, f, t, dt):
        """(f after dt, budget): see `Flow`."""
        k = grid.index(self.axis)
        if self.method == "exponential":
            f, moved = _exponential_step(self, grid, state, f, t, dt)
        else:
            f, moved = _tr_bdf2_step(self, grid, state, jnp.moveaxis(f, k, 0), t, dt)
            f, moved = jnp.moveaxis(f, 0, k), [jnp.expand_dims(x, k) for x in moved]
        lower, upper, fed, lost = (jnp.sum(x * jnp.asarray(grid.other_measures(self.axis))) for x in moved)
        budget = {"loss": -lost, "source": fed}
        if not grid[k].periodic:
            budget |= {f"{grid[k].name}.lower": lower, f"{grid[k].name}.upper": upper}
        return f, budget


def _full_rank(a, ndim):
    a = jnp.asarray(a)
    return a.reshape((1,) * (ndim - a.ndim) + a.shape)


def _wall_flux(line, f, walls):
    """Content per time that comes in through the lower and the upper wall of every line."""
    low, high = walls
    shape = f.shape[1:]
    if line.cyclic:
        return jnp.zeros(shape, f.dtype), jnp.zeros(shape, f.dtype)
    lower, upper = -line.down[0] * f[0], -line.up[-1] * f[-1]
    if low is not None:
        lower = lower + line.up[0] * low
    if high is not None:
        upper = upper + line.down[-1] * high
    return jnp.broadcast_to(lower, shape), jnp.broadcast_to(upper, shape)


def _add_inflow(b, line, walls, source, weight):
    """b + weight * (source + inflow through walls), per volume; returns b itself where there is neither."""
    low, high = walls
    if source is not None:
        b = b + weight * source
    # not `b.at[0].add(...)`: a batch of scatters is transposed
    if low is not None:
        b = jnp.concatenate([b[:1] + weight * line.up[0] / line.volume[0] * low, b[1:]])
    if high is not None:
        b = jnp.concatenate([b[:-1], b[-1:] + weight * line.down[-1] / line.volume[-1] * high])
    return b


def _tr_bdf2_step(flow, grid, state, f0, t, dt):
    line, factors = state
    source = flow.source_at(grid, t)
    w0, wg, w1 = (flow._walls(grid, t.plus(s * dt)) for s in (0.0, GAMMA, 1.0))
    # wall values of the two solves: the means that make them identical to the stages at t, t + gamma dt and t + dt
    first = tuple(None if a is None else 0.5 * (a + b) for a, b in zip(w0, wg))
    second = tuple(None if a is None else (a + SQRT2 * b) / (1.0 + SQRT2) for a, b in zip(w1, first))
    shape = f0.shape[1:]

    def euler(y, walls, factors, name=None):
        """A backward Euler step of alpha dt, and what went through the walls and was lost in it, line by line."""
        y = linear.solve(factors, _add_inflow(y, line, walls, source, ALPHA * dt), name)
        if line.loss is None:
            lost = 0.0
        elif line.loss.shape[0] == 1:
            lost = line.loss[0] * line_sum(line.volume, y)
        else:
            lost = line_sum(line.volume, line.loss * y)
        return y, [ALPHA * dt * x * jnp.ones(shape, y.dtype) for x in (*_wall_flux(line, y, walls), lost)]

    # of the two stages a gradient keeps one: the other is a solve away, and as a third of its memory would cost more
    y1, m1 = euler(f0, first, factors, KEPT)
    y2, m2 = euler(y1, second, factors)
    moved = [a + (1.0 + SQRT2) * b for a, b in zip(m1, m2)]
    fed = jnp.zeros(shape, f0.dtype) if source is None else dt * jnp.sum(line.volume * source, axis=0)

    def whole(y1, y2):
        # not (1 + sqrt 2) y2 - sqrt 2 y1: those weights do not sum to 1 in floating point and lose 2e-16 of the content a step
        return y2 + SQRT2 * (y2 - y1)

    def settled(f1, moved, positive):
        if walls_closed(w0):
            f1 = _settled(line, f0, f1, fed, moved[0] + moved[1] - moved[2], positive)
        return f1, moved

    # recomputed in the reverse pass: of what a branch keeps, the other branch has to write zeros
    @partial(jax.checkpoint, prevent_cse=False)
    def blended(y1, y2, moved):
        f1 = whole(y1, y2)
        if flow.positive:
            rare = dataclasses.replace(factors, spread=None)
            y3, m3 = euler(y2, w1, rare)
            y4, m4 = euler(y3, w1, rare)
            safe = (2.0 - SQRT2) * y3 + (SQRT2 - 1.0) * y4
            theta = blend_factor(f1, safe, f0, 0)
            passed = [a + b + c + (SQRT2 - 1.0) * d for a, b, c, d in zip(m1, m2, m3, m4)]
            f1, moved = theta * f1 + (1.0 - theta) * safe, [theta[0] * a + (1.0 - theta[0]) * b for a, b in zip(moved, passed)]
        return settled(f1, moved, jnp.min(lax.stop_gradient(f1), axis=0) >= 0)

    # each branch ends with a product of its own: a branch that only hands f1 on has to copy it
    negative = kept(any_in_batch(lax.stop_gradient(whole(y1, y2)) < 0))
    f1, moved = lax.cond(negative, blended, lambda y1, y2, moved: settled(whole(y1, y2), moved, True), y1, y2, moved)
    return f1, (moved[0], moved[1], fed, moved[2])


def walls_closed(walls) -> bool:
    """True where no wall has a value."""
    return walls[0] is None and walls[1] is None


def _settled(line, f0, f1, fed, gained, positive):
    """Scale each line by 1 + O(ulp) to the content it must have. positive: which lines have no negative values.

    A solve keeps content to a few ulp, but with constant factors it errs the same way every step, and 10,000 steps would
    add that up. Lines with negative values, with hardly any content left, or fed more than they held (where the account of what
    is fed and lost is the less precise of the two), are not touched.
    """
    before, after = (line_sum(line.volume, lax.stop_gradient(f)) for f in (f0, f1))
    fed = lax.stop_gradient(fed)
    due = before + (fed + lax.stop_gradient(gained))
    good = positive & (after > 0.01 * before) & (due > 0) & (fed <= before)
    return f1 * kept(jnp.where(good, due / jnp.where(good, after, 1.0), 1.0))


def _exponential_state(flow, grid, line, dt):
    """The propagators of all distinct lines, what walls of value 1 let in and what the source brings in a step of dt.

    matrix (*lines, n+3, n); lower and upper: n+3 along the axis, or None; source the same.
    """
    k, (n, *_) = grid.index(flow.axis), line.volume.shape
    loss = None if line.loss is None else jnp.broadcast_to(line.loss, (n, *line.loss.shape[1:]))
    arrays = (line.volume, line.up, line.down, *(() if loss is None else (loss,)))
    lines = jnp.broadcast_shapes(*(a.shape[1:] for a in arrays))

    def flat(a):
        return None if a is None else jnp.moveaxis(jnp.broadcast_to(a, a.shape[:1] + lines).reshape(a.shape[0], -1), 0, 1)

    walls = [None if grid[k].periodic else w for w in (flow.lower, flow.upper)]
    cells = [c for c, w in zip((0, n - 1), walls) if w is not None] if flow.source is None else list(range(n))
    feeds = jnp.eye(n)[None, :, cells]                       # content 1 a second in each of these cells
    rates = linear.Line(flat(line.volume), flat(line.up), flat(line.down), flat(loss), cyclic=line.cyclic)
    matrix = propagators(rates, feeds, dt).reshape(*lines, n + 3, n + len(cells))
    state = {"volume": jnp.moveaxis(line.volume, 0, k), "matrix": matrix[..., :n], "source": None, "walls": [None, None]}
    for i, (cell, wall, rate) in enumerate(zip((0, n - 1), walls, (line.up[0], line.down[-1]))):
        if wall is not None:
            reply = jnp.moveaxis(matrix[..., n + cells.index(cell)], -1, 0) * rate
            state["walls"][i] = jnp.moveaxis(reply, 0, k), dt * jnp.expand_dims(rate, k)
    if flow.source is not None:
        fed = jnp.moveaxis(line.volume * flow.source_at(grid, None), 0, k)
        state["source"] = contract_lines(matrix[..., n:], fed, k), dt * jnp.sum(fed, axis=k, keepdims=True)
    return state


def _exponential_step(flow, grid, state, f0, t, dt):
    k, n = grid.index(flow.axis), grid[flow.axis].n
    moved = contract_lines(state["matrix"], state["volume"] * f0, k)
    gained = [0.0, 0.0, 0.0]
    if state["source"] is not None:
        added, gained[2] = state["source"]
        moved = moved + added
    for i, (wall, reply) in enumerate(zip((flow.lower, flow.upper), state["walls"])):
        if reply is not None:
            value = wall_value(wall, t.plus(0.5 * dt), grid, flow.axis)
            moved, gained[i] = moved + reply[0] * value, reply[1] * value
    lower, upper, lost = (lax.index_in_dim(moved, n + i, k) for i in range(3))
    shape = lower.shape
    lower, upper, fed = (jnp.broadcast_to(a - b, shape) for a, b in zip(gained, (lower, upper, 0.0)))
    return lax.slice_in_dim(moved, 0, n, axis=k) / state["volume"], (lower, upper, fed, lost)
