"""`flows`: what one application of every flow costs, beside what it must move and calculate and the machine's rates for that.

Bytes are what the algorithm cannot do without if every pass over f comes from the cache level in which f lies: f read and
written, stages read back, tables read; no temporary that a better compiler would keep in registers. The bandwidth is the best of
copy, triad and in place over arrays as large as what is held. Operations are counted in the flow's jaxpr (see `operations`), at
the rates of arrays in the first-level cache. The limit is the larger of the two, "%" is what is reached of it (in busy time, see
`timing`, for both sides).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxbelt.benchmarks import operations, problems
from jaxbelt.benchmarks.bandwidth import Limits
from jaxbelt.benchmarks.timing import FULL, QUICK, Loop, Table, size, spread, timed
from jaxbelt.flows import Advection, LineDiffusion, Mixing, Reaction, Remap, Rotation, Sheared, TensorDiffusion, Transport
from jaxbelt.flows.base import add_budgets
from jaxbelt.physics.mixing_projections import ParallelMean

__all__ = ["part", "CASES", "measure"]


@dataclasses.dataclass(frozen=True)
class Case:
    """A flow and its account. made(build) -> (grid, function of traced leaves -> flow, leaves, f, dt), build: `_builder`.

    numbers: of f's precision, moved a cell, besides tables. tables(flow, grid, state) -> arrays, each read `reads` times.
    taken(flow, state, dt): which share of its most substeps it takes. why: what else there is and what would spare it, in a line.
    """

    made: Callable
    numbers: Any
    counted: str
    why: str
    tables: Callable = lambda flow, grid, state: state
    reads: int = 1
    taken: Callable | None = None


def _of(make, kind, where=""):
    """The flow of a class (along an axis) in the step of a problem."""
    def made(build):
        run = build(make)
        problem = run.problem.replace(dt_max=run.dt)

        def flow_of(problem):
            flows = problem.flows(problem, problems.clock(), run.dt)
            return next(f for f in flows if isinstance(f, kind) and where in (getattr(f, "axis", ""), ""))

        return problem.grid, flow_of, problem, run.f0, run.dt

    return made


def _own_factors(build):
    """The radial step of the belt with a D that depends on phi: a line's factors are its own."""
    grid, flow_of, problem, f0, dt = _of(problems.drift, LineDiffusion)(build)

    def own(problem):
        flow = flow_of(problem)
        return dataclasses.replace(flow, up=flow.up * (1 + 0.1 * jnp.cos(grid.centers("phi"))))

    return grid, own, problem, f0, dt


def _reaction(build):
    run = build(problems.drift)
    grid = run.problem.grid
    loss = jnp.broadcast_to(1e-6 * grid.centers("L"), grid.shape)
    return grid, lambda loss: Reaction(loss=loss, source=loss), loss, run.f0, run.dt


def _mixing(build):
    run = build(problems.mixing)
    grid = run.problem.grid
    return grid, lambda rate: Mixing(project=ParallelMean(grid), rate=rate), jnp.asarray(1.0), run.f0, run.dt


def _factors(flow, grid, state):
    f = state[1]
    return [a for a in (f.forward, f.forward_last, f.scale, f.back, f.back_last) if a is not None]


def _tensor_numbers(flow, grid, state):
    return 15.0                                         # two solves of 7: b, y, y, y, z, z, x; and f1


def _blocks(flow, grid, state):
    inverse, product = state[3]
    return inverse, product, product


def _remap_tables(flow, grid, state):
    return flow.tables.index, flow.tables.weight, flow.tables.order


def _substeps(flow, grid, state):
    return 14.0 * flow.substeps


def _needed(flow, state, dt):
    return float(jnp.clip(jnp.ceil(state["rate"] * dt / flow.courant * (1 - 1e-6)), 1, flow.substeps)) / flow.substeps


_SWEEPS = "two solves of two sweeps, each reads and writes a row; the last reads y1 too: 9 numbers"
_SHORT = "rows of 128 lines, for each of which the loop starts four kernels; compiled whole it takes half (see the option below)"
_BEFORE = 10

CASES = {
    "Rotation phi": Case(_of(problems.drift, Rotation), 2.0, "f in and out, multipliers",
                         "two FFTs a ring and a product between them, each a pass; one kernel a ring would make it one"),
    "LineDiffusion L": Case(_of(problems.drift, LineDiffusion), 9.0, f"{_SWEEPS}; factors shared", _SHORT,
                            tables=_factors, reads=2),
    "LineDiffusion L, own factors": Case(_own_factors, 9.0, f"{_SWEEPS}; 3 factors, twice", _SHORT, tables=_factors, reads=2),
    "LineDiffusion p (friction)": Case(_of(problems.leaves, LineDiffusion, "p"), 9.0, f"{_SWEEPS}; 3 factors, twice",
                                       "the axis is put first and back, two more passes; sweeps of blocks of lines would spare "
                                       "them", tables=_factors, reads=2),
    "LineDiffusion psi, exponential": Case(_of(problems.leaves, LineDiffusion, "psi"), 2.0, "f in and out, a matrix a line",
                                           "one matrix a line: a product with few columns reads a number for every few "
                                           "multiplications; only lines that share a matrix would change that"),
    "Transport (L, phi)": Case(_of(problems.convection, Transport), _substeps,
                               "3 stages: f, start and the faces in, f out: 14 numbers a substep",
                               "reconstruction, search for negative cells and sum of a stage are passes of their own, on shifted "
                               "copies; one kernel a stage would keep them in registers", tables=lambda flow, grid, state: (),
                               taken=_needed),
    "TensorDiffusion (alpha, ln p)": Case(_of(problems.local, TensorDiffusion), _tensor_numbers,
                                          "two solves of 7 numbers; the three blocks of n x n of each, for every plane",
                                          "products of blocks of 32 with the planes that share them, one after the other; more "
                                          "planes a block (L or phi without MLT dependence) make them larger",
                                          tables=_blocks, reads=2),
    "TensorDiffusion (L, phi)": Case(_of(problems.full_tensor, TensorDiffusion), _tensor_numbers,
                                     "two solves of 7 numbers; the three blocks of n x n of each",
                                     "products with a vector, each waiting for the one before", tables=_blocks, reads=2),
    "Sheared (p, theta)": Case(_of(problems.leaves_in_theta, Sheared), 13.0, "two turns (2 each) around the 9 of a line step",
                               "four FFTs a ring, and copies that put p first and theta last; rings turned by products would "
                               "spare both", tables=lambda flow, grid, state: (state[0], state[0],
                                                                                            _factors(None, grid, state[1]))),
    "Advection p": Case(_of(problems.leaves, Advection, "p"), 2.0, "f in and out, 7 diagonals a line",
                        "each diagonal, the sums and the least value of every line are passes of their own; one kernel a line "
                        "would make them one", tables=lambda flow, grid, state: state["band"]),
    "Remap (chi, p)": Case(_of(problems.leaves, Remap), 2.0, "f in and out, an index and a weight a donor",
                           "donors come one at a time, planes are then damped, checked for entropy and settled: some ten "
                           "passes; a kernel a plane would keep them in the first-level cache", tables=_remap_tables),
    "Reaction": Case(_reaction, 2.0, "f in and out, two tables",
                     "the content before and after is summed for the budget, two passes; sums inside the loop would be none"),
    "Mixing (v, xi)": Case(_mixing, 3.0, "f twice in, once out",
                           "averages along curves of the plane: short products and sums, and copies between them"),
}


def _builder(quick: bool) -> Callable:
    """build(make): the problem that `make` of `problems` makes, once."""
    made = {}

    def build(make):
        if make not in made:
            made[make] = make(quick)
        return made[make]

    return build


def measure(name: str, limits: Limits, build: Callable) -> dict:
    """A row: ns a cell, bytes a cell, the limit by both roofs, and what is reached of it."""
    case = CASES[name]
    grid, flow_of, leaves, f, dt = case.made(build)

    @jax.jit
    def ready(leaves):
        flow = flow_of(leaves)
        return flow, flow.prepare(grid, jnp.asarray(dt))

    flow, state = ready(leaves)
    clock = problems.clock()

    def advance(f, flow, state):
        return flow.advance(grid, state, f, clock, jnp.asarray(dt))

    zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(advance, f, flow, state)[1])

    def step(carry, flow, state):
        f, total = carry
        f, budget = advance(f, flow, state)
        return f, add_budgets(total, budget)

    loop = Loop(step, (f, zero), flow, state)
    loop.carry = loop(_BEFORE)                           # cells below zero then come up as often as in a run, not as at its start
    taken = timed({"": loop}, limits.effort)[""]
    numbers = case.numbers(flow, grid, state) if callable(case.numbers) else case.numbers
    part_taken = case.taken(flow, state, dt) if case.taken else 1.0
    moved = part_taken * numbers * f.dtype.itemsize * f.size + case.reads * size(case.tables(flow, grid, state))
    arrays = f.nbytes + size(case.tables(flow, grid, state)) + (f.nbytes if numbers > 2 else 0)
    memory = moved / limits.bandwidth(arrays, f.dtype)
    counted = operations.count(advance, f, flow, state, empty=case.taken is None)
    counted = {kind: part_taken * k for kind, k in counted.items()}
    work = limits.seconds(counted, f.size, f.dtype)
    reached, share = memory / taken.busy, max(memory, work) / taken.busy
    row = {"flow": name, "grid": " x ".join(map(str, f.shape)), "dtype": str(f.dtype)} | taken.row(1e9 / f.size, "ns a cell")
    row |= {"bytes a cell": moved / f.size, "operations a cell": sum(counted.values()) / f.size}
    row |= {"memory ns": 1e9 * memory / f.size, "operations ns": 1e9 * work / f.size}
    return row | {"bandwidth %": 100 * reached, "limit %": 100 * share, "counted": case.counted,
                  "why": case.why if share < 0.5 else ""}


def part(quick: bool = False, names=None) -> list[Table]:
    """Every flow of `CASES` (or those of `names`)."""
    limits = Limits(QUICK if quick else dataclasses.replace(FULL, rounds=5))
    build = _builder(quick)
    rows = [measure(name, limits, build) for name in names or CASES]
    columns = (("flow", "flow", "{:32s}"), ("grid", "grid", "{:>20s}"), ("ns a cell", "ns/cell", "{:9.2f}"),
               *spread("{:9.2f}"), ("bytes a cell", "bytes", "{:8.1f}"), ("operations a cell", "ops", "{:7.1f}"),
               ("memory ns", "memory", "{:8.2f}"), ("operations ns", "calc", "{:8.2f}"), ("bandwidth %", "% bw", "{:6.1f}"),
               ("limit %", "%", "{:6.1f}"))
    notes = [f"{r['flow']}: {r['counted']}." + (f" Below half: {r['why']}." if r["why"] else "") for r in rows]
    return [Table("flows: one application, its budget included; memory, calc: ns a cell at the limits of the machine", columns,
                  rows, tuple(notes))]
