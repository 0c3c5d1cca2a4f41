"""`steps`: a whole step of every equation, and what a run costs before its steps."""

from __future__ import annotations

import dataclasses

import jax

import jaxbelt
from jaxbelt.benchmarks.problems import PROBLEMS, Run
from jaxbelt.benchmarks.timing import FULL, QUICK, Effort, Table, Timing, spread, timed_pairs

__all__ = ["part", "measure"]


def measure(run: Run, effort: Effort = FULL, cells_a_call: float = 1e6) -> tuple[Timing, float]:
    """(a step, seconds a run takes besides: factors and tables of its interval): `solve` over some steps against three times as
    many, in turn."""
    steps = int(min(max(effort.least, cells_a_call / run.f0.size), 2000))

    def whole(count):
        f = jax.jit(lambda problem, f: jaxbelt.solve(problem, f, t=[0.0, count * run.dt], dt=run.dt).f[-1])
        return lambda: jax.block_until_ready(f(run.problem, run.f0))

    return timed_pairs(whole(steps), whole(3 * steps), steps, effort)


def part(quick: bool = False, names=None) -> list[Table]:
    """Every problem of `PROBLEMS` (or those of `names`)."""
    effort = QUICK if quick else dataclasses.replace(FULL, rounds=5)
    rows = []
    for name in names or PROBLEMS:
        run = PROBLEMS[name](quick)
        taken, once = measure(run, effort, 0.0 if quick else 1e6)
        row = {"equation": name, "grid": " x ".join(f"{a.name} {a.n}" for a in run.problem.grid.axes), "what": run.what}
        row |= taken.row(1e9 / run.f0.size, "ns a cell")
        rows.append(row | {"ms a step": 1e3 * taken.median, "once ms": 1e3 * once})
    columns = (("equation", "equation", "{:24s}"), ("grid", "grid", "{:>48s}"), ("ns a cell", "ns/cell", "{:9.2f}"),
               *spread("{:9.2f}"), ("ms a step", "ms a step", "{:10.4f}"),
               ("once ms", "once ms", "{:9.2f}"))
    return [Table("a step, float64; once: what the coefficients of an interval cost before its steps", columns, rows)]
