"""`scaling`: cost of a step against the number of cells, of a batch against its size, of a batch against devices."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

import jaxbelt
from jaxbelt.benchmarks import problems
from jaxbelt.benchmarks.steps import measure
from jaxbelt.benchmarks.timing import FULL, QUICK, Table, spread, timed

__all__ = ["part", "slope"]

CELLS = ((32, 32), (80, 64), (200, 128), (400, 320), (1000, 1000))
RUNS = (1, 10, 100, 1000)


def slope(x, y) -> float:
    """d ln y / d ln x by a straight line through all points."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def _last(f):
    return f[-1]


def _by_cells(quick, effort):
    rows = []
    for cells in ((6, 6), (8, 8)) if quick else CELLS:
        taken, _ = measure(problems.belt(cells), effort, 0.0 if quick else 4e5)
        size = cells[0] * cells[1]
        rows.append({"grid": f"L {cells[0]} x phi {cells[1]}", "cells": size} | taken.row(1e9 / size, "ns a cell"))
    fit = slope([r["cells"] for r in rows], [max(r["cells"] * r["busy"], 1e-9) for r in rows])
    columns = (("grid", "grid", "{:22s}"), ("cells", "cells", "{:9d}"), ("ns a cell", "ns/cell", "{:9.2f}"),
               *spread("{:9.2f}"))
    return Table("a step of drift and radial diffusion against the number of cells", columns, rows,
                 (f"slope of ln(busy time a step) over ln(cells): {fit:.3f}",))


def _sweep(n):
    return jaxbelt.draws({"dll.log_amplitude": ("normal", 0.0, 0.5), "lifetime": ("log-uniform", 1.0, 20.0)}, n, seed=1)


def _batch(run, n, steps, devices):
    sweep, t = _sweep(n), [0.0, steps * run.dt]

    def call(_):
        return jaxbelt.run_many(run.problem, run.f0, sweep, t=t, dt=run.dt, keep=_last, devices=devices)

    return call


def _by_runs(quick, effort):
    run, steps = problems.radial(quick), 2 if quick else 240
    device, all_devices = jax.local_devices()[:1], jax.local_devices()
    numbers = (1, 2) if quick else RUNS
    taken = timed({n: _batch(run, n, steps, device) for n in numbers}, effort)
    rows = [{"runs": n, "devices": 1} | taken[n].row(1e6 * taken[n].steps / n / steps, "us a run and step") for n in numbers]
    columns = (("runs", "runs", "{:6d}"), ("devices", "devices", "{:8d}"), ("us a run and step", "us a run and step", "{:18.3f}"),
               *spread("{:9.3f}"))
    batch = Table(f"`run_many`: radial diffusion, {run.f0.size} cells, {steps} steps, on one device", columns, rows)
    counts = [k for k in (1, 2, 4, 8, 16) if k <= len(all_devices)]
    shared = timed({k: _batch(run, numbers[-1], steps, all_devices[:k]) for k in counts}, effort)
    rows = [{"runs": numbers[-1], "devices": k, "times": shared[1].median / t.median}
            | t.row(1e6 * t.steps / numbers[-1] / steps, "us a run and step") for k, t in shared.items()]
    note = () if len(counts) > 1 else ("one device alone is in sight",)
    return [batch, Table("the largest batch shared out over devices", (*columns, ("times", "times", "{:6.2f}")), rows, note)]


def part(quick: bool = False) -> list[Table]:
    """Three tables: cells, runs, devices."""
    effort = QUICK if quick else dataclasses.replace(FULL, rounds=5)
    once = dataclasses.replace(effort, least=1, most=1)              # a call is a whole batch
    return [_by_cells(quick, effort), *_by_runs(quick, once)]
