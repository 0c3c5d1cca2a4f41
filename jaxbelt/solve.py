"""Strang composition of flows in time: `Problem`, `solve`, `Solution`. Pure: jit, vmap, grad and jvp go through."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from jaxbelt.coefficients import Time, float_leaves
from jaxbelt.coefficients import jumps as jump_times
from jaxbelt.flows.base import KEPT, add_budgets
from jaxbelt.grid import Grid
from jaxbelt.plan import Schedule, check_times
from jaxbelt.plan import plan as make_plan

__all__ = ["Problem", "Result", "Solution", "solve", "plan", "advance", "make_problem"]


class Result(enum.IntEnum):
    """How a run ended; `.message` is a sentence for the person."""

    ok = 0
    not_finite = 1
    tensor_outside_plan = 2
    substeps_exceeded = 3
    step_differs = 4
    levels_differ = 5

    @property
    def message(self) -> str:
        return _MESSAGES[self]


_MESSAGES = {
    Result.ok: "the run reached its end",
    Result.not_finite: "f became NaN or infinite",
    Result.tensor_outside_plan: "the diffusion tensor needs offsets that the problem was not planned for: "
                                "rebuild the problem with these parameters",
    Result.substeps_exceeded: "the drift (or a rate of mixing) is faster than the problem was planned for: "
                              "rebuild the problem with these parameters, or lower dt",
    Result.step_differs: "the bounce tables were made for another step: rebuild the problem with the dt of solve, and choose "
                         "output times that are whole multiples of it",
    Result.levels_differ: "nodes that shared their diffusion (or loss, or source) when the problem was reduced to levels no "
                          "longer do: reduce the problem with these parameters",
}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """An equation with its grid, parameters and walls. Build one with an equation's `problem()`; change one with `.replace`.

    flows(problem, t, dt) -> list of flows is the equation. parameters and boundary are pytrees of leaves; everything else is
    static. It holds no array derived from the parameters, so `problem.replace(parameters=p)` is always right.
    plan: what depends on parameter values and must be static (drift rates, offsets), fixed with concrete values at building.
    tables: arrays that depend on the grid and on static choices alone (maps made on the host), never on the parameters.
    dt_max: bound on dt, set by `advance`.
    """

    parameters: Any
    boundary: Any
    tables: Any = None
    flows: Callable = dataclasses.field(metadata={"static": True})
    grid: Grid = dataclasses.field(metadata={"static": True})
    equation: str = dataclasses.field(default="", metadata={"static": True})
    epoch: str | None = dataclasses.field(default=None, metadata={"static": True})
    quantity: tuple = dataclasses.field(default=("f", "1", "distribution function"), metadata={"static": True})
    time_unit: str = dataclasses.field(default="s", metadata={"static": True})
    plan: Any = dataclasses.field(default=None, metadata={"static": True})
    dt_max: float | None = dataclasses.field(default=None, metadata={"static": True})

    def replace(self, **changes) -> Problem:
        return dataclasses.replace(self, **changes)


def make_problem(flows, grid, parameters, *, boundary=None, epoch=None, **static) -> Problem:
    """A `Problem` with numbers turned into float leaves and the epoch checked; for authors of equations."""
    if epoch is not None:
        try:
            epoch = str(np.datetime64(epoch).astype("datetime64[s]"))
        except ValueError:
            raise ValueError(f"epoch: {epoch!r} is not a date; write for instance '2013-03-16T00:00:00'") from None
    return Problem(flows=flows, grid=grid, parameters=float_leaves(parameters), boundary=float_leaves(boundary or {}),
                   epoch=epoch, **static)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Solution:
    """f: (len(t), *grid.shape), f[0] = f0. t: seconds after the epoch. budget: content gained since t[0] through each wall,
    by sources and by losses (negative), each (len(t),). result: an integer code (`Result(int(sol.result)).message`).
    """

    f: Any
    t: Any
    budget: dict
    result: Any
    problem: Problem

    def __repr__(self):
        """One line; printing a solution should not print its arrays."""
        axes = ", ".join(f"{a.name} {a.n}" for a in self.grid.axes)
        return f"Solution({self.problem.equation}, {jnp.shape(self.t)[0]} times, {axes})"

    @property
    def grid(self) -> Grid:
        return self.problem.grid

    @property
    def message(self) -> str:
        return Result(int(jnp.max(self.result))).message

    def to_xarray(self):
        """The solution as an `xarray.Dataset` with named dimensions, coordinates, units and long names."""
        from jaxbelt.io import to_dataset

        return to_dataset(self.problem, np.asarray(self.t), np.asarray(self.f),
                          {k: np.asarray(v) for k, v in self.budget.items()})


def plan(problem: Problem, t, dt) -> Schedule:
    """The schedule of a run of `problem` with outputs at t and steps of at most dt; no step crosses a driver's jump.

    Raises ValueError where the problem has tables made for another step.
    """
    if hasattr(problem.tables, "schedule"):                    # drivers that are read by level (see `jaxbelt.levels`)
        return problem.tables.schedule(problem, t, dt)
    made = make_plan(t, dt, jump_times(problem.parameters, problem.boundary))
    given = getattr(problem.tables, "dt", None)
    if given is not None and not isinstance(given, jax.core.Tracer):
        given = float(given)
        steps = np.concatenate([np.ravel(group.dt) for group in made.groups])
        bad = steps[~(np.abs(steps - given) <= 1e-6 * given)]
        if bad.size:
            raise ValueError(f"dt: the tables of this problem are for steps of {given:g}, but this run takes steps of "
                             f"{bad[0]:g}; make the problem with the dt of the run, and let output times be whole multiples of "
                             "it apart")
    return made


def _strang(flows):
    """(index, fraction, offset, side) of the pieces of one step: halves outward, the last flow whole in the middle."""
    last = len(flows) - 1
    first = [(i, 0.5, 0.0, -0.5) for i in range(last)]
    return first + [(last, 1.0, 0.0, 0.0)] + [(i, 0.5, 0.5, 0.5) for i in range(last - 1, -1, -1)]


def _interval(problem: Problem, steps: int, carry, interval, once=False):
    """Advance (f, budget) over one interval: coefficients evaluated and factored once where they are constant in it."""
    start, dt, mid = interval
    grid = problem.grid
    clock = Time(start, jnp.zeros_like(start), mid)

    def build(t):
        return problem.flows(problem, t, dt)

    shared = build(clock.plus(0.5 * steps * dt))
    if not shared:
        raise ValueError(f"{problem.equation}: the equation has no flow: give it at least one drift, diffusion or loss")
    pieces = _strang(shared)
    fraction = [1.0 if i == len(shared) - 1 else 0.5 for i in range(len(shared))]
    ready = [f.prepare(grid, w * dt) if f.steady else None for f, w in zip(shared, fraction)]
    steady = all(f.steady for f in shared)

    def piece(carry, i, flow, state, w, offset, side):
        f, budget = carry
        t = dataclasses.replace(clock, offset=(i + offset) * dt, center=(i + 0.5) * dt, edge=(i + 0.5 + side) * dt)

        def advance(f):
            return flow.advance(grid, state() if callable(state) else state, f, t, w * dt)

        f, moved = (jax.checkpoint(advance, prevent_cse=False, policy=_KEPT) if flow.again else advance)(f)
        return f, add_budgets(budget, moved)

    # the outermost flow's halves of neighbouring steps are joined where that is exact: one application a step, not two
    joined = len(shared) > 1 and shared[0].exact and shared[0].steady
    if joined:
        whole = shared[0].prepare(grid, dt)

    def step(carry, i):
        flows, states = shared, ready
        if not steady:
            fresh = build(clock.plus((i + 0.5) * dt))
            flows = [a if a.steady else b for a, b in zip(shared, fresh)]
            states = [s if a.steady else a.prepare(grid, w * dt) for a, s, w in zip(flows, ready, fraction)]
        for k, w, offset, side in pieces[1:-1] if joined else pieces:
            carry = piece(carry, i, flows[k], states[k], w, offset, side)
        if joined:
            end = i == steps - 1

            def chosen():
                return jax.tree.map(lambda a, b: jnp.where(end, a, b), ready[0], whole)

            carry = piece(carry, i, shared[0], chosen, jnp.where(end, 0.5, 1.0), 0.5, 0.5)
        return carry, None

    if once:
        return step(carry, 0)[0]
    if joined:
        carry = piece(carry, 0, shared[0], ready[0], 0.5, 0.0, -0.5)
    # a gradient keeps the state before every block of steps, then goes through one block at a time
    count = _blocks(steps)
    index = jnp.arange(steps)
    if count == 1:
        return lax.scan(step, carry, index)[0]
    size = steps // count

    def block(carry, index):
        return lax.scan(step, carry, index)

    block = jax.checkpoint(block, prevent_cse=False)

    def kept(carry, index):
        f, budget = carry
        return block((checkpoint_name(f, _BLOCK), budget), index)

    carry, _ = lax.scan(kept, carry, index[: count * size].reshape(count, size))
    return carry if count * size == steps else kept(carry, index[count * size:])[0]


_KEPT = jax.checkpoint_policies.save_only_these_names(KEPT)
_BLOCK = "before a block"
_INTERVAL = jax.checkpoint_policies.save_only_these_names(_BLOCK)


def _blocks(steps):
    """How many blocks of equal size: about the root of the number of steps, and no rest where that is possible."""
    if steps <= 64:
        return 1
    root = math.isqrt(steps)
    return min(range(root // 2, 2 * root), key=lambda k: (steps % k > 0, abs(math.log(k / root))))


def _budget_of(problem, f, group) -> dict:
    """A zero for every entry that one interval's budget has."""
    interval = (group.start[0, 0], group.dt[0, 0], group.mid[0, 0])
    _, shape = jax.eval_shape(partial(_interval, problem, 1, once=True), (f, {}), jax.tree.map(_real, interval))
    return {k: jnp.zeros(v.shape, v.dtype) for k, v in shape.items()}


def _real(x):
    return jnp.asarray(x, dtype=jnp.result_type(float))


def advance(problem: Problem, f, schedule: Schedule):
    """Follow a schedule from f: (f after every output period (P, ...), budget cumulated at each (P,), result code).

    Pure and jit-able; the gradient recomputes one interval at a time (`jax.checkpoint`), so its memory follows the outputs.
    """
    if hasattr(problem.tables, "advance"):                     # by levels; the schedule has to be concrete
        return problem.tables.advance(problem, f, schedule)
    f = _real(f)
    first = problem.replace(dt_max=schedule.groups[0].dt_max)
    budget = _budget_of(first, f, schedule.groups[0])
    budget.setdefault("fault", jnp.zeros((), jnp.int32))
    fs, budgets, carry = [], [], (f, budget)
    for group in schedule.groups:
        here = problem.replace(dt_max=group.dt_max)
        body = jax.checkpoint(partial(_interval, here, group.steps), prevent_cse=False, policy=_INTERVAL)

        def period(carry, intervals, body=body):
            carry, _ = lax.scan(lambda c, x: (body(c, x), None), carry, intervals)
            f, budget = carry
            bad = jnp.where(jnp.all(jnp.isfinite(f)), 0, int(Result.not_finite)).astype(jnp.int32)
            carry = (f, {**budget, "fault": jnp.maximum(budget["fault"], bad)})
            return carry, carry

        carry, (out, gained) = lax.scan(period, carry, jax.tree.map(_real, (group.start, group.dt, group.mid)))
        fs.append(out)
        budgets.append(gained)
    f_out = jnp.concatenate(fs)
    budget = {k: jnp.concatenate([b[k] for b in budgets]) for k in budgets[0]}
    fault = budget.pop("fault")
    return f_out, budget, fault[-1]


_advance = jax.jit(advance)


def check_start(problem: Problem, f0):
    """What an equation asks of f0: its plan may have `check_start(f0)`, which raises ValueError and lets tracers pass."""
    check = getattr(problem.plan, "check_start", None)
    if check is not None:
        check(f0)


def solve(problem: Problem, f0, *, t, dt) -> Solution:
    """Advance f0 through the times t with steps of at most dt [s].

    f0: array on the grid (or broadcastable to it): the state at t[0], not negative. t: increasing times [s after the epoch].
    Returns a `Solution`. Takes part in jit, vmap, grad and jvp over f0, parameters and boundary; t and dt are concrete.
    Raises ValueError where t, dt or the shape of f0 cannot be used.
    """
    times = check_times(t, dt)
    f0, shape = _real(f0), problem.grid.shape
    if f0.ndim and (f0.ndim != len(shape) or any(n not in (1, m) for n, m in zip(f0.shape, shape))):
        raise ValueError(f"f0: shape {f0.shape} does not fit the grid {shape} ({', '.join(problem.grid.names)}); "
                         "give one dimension for each axis")
    check_start(problem, f0)
    f0 = jnp.broadcast_to(f0, shape)
    through = getattr(problem.tables, "advance", _advance)
    out, budget, code = through(problem, f0, plan(problem, times, dt))
    budget = {k: jnp.concatenate([jnp.zeros((1,), v.dtype), v]) for k, v in budget.items()}
    return Solution(jnp.concatenate([f0[None], out]), _real(times), budget, code, problem)
