"""The static plan of a run: output periods, driver intervals inside them, equal steps inside those."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import numpy as np

__all__ = ["Group", "Schedule", "plan", "check_times"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Group:
    """Output periods of equal structure: (periods, intervals) arrays and a static number of steps an interval.

    start, length: of each interval [s]; dt = length/steps; mid: its midpoint, at which step drivers are read.
    dt_max (static) bounds dt, for what must be known before the run (substep maxima).
    """

    start: Any
    dt: Any
    mid: Any
    steps: int = dataclasses.field(metadata={"static": True})
    dt_max: float = dataclasses.field(metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Schedule:
    """What `advance` follows: groups of output periods. Schedules of equal structure share one compilation."""

    groups: tuple[Group, ...]

    @property
    def total_steps(self) -> int:
        return sum(g.steps * int(np.prod(np.shape(g.start))) for g in self.groups)


def check_times(t, dt) -> np.ndarray:
    """The output times as a float array; ValueError where they or dt cannot be used."""
    try:
        times = np.asarray(t, dtype=np.float64)
        dt = float(dt)
    except jax.errors.TracerArrayConversionError:
        raise TypeError("solve: t and dt must be concrete numbers (they shape the plan), not traced values") from None
    except jax.errors.ConcretizationTypeError:
        raise TypeError("solve: t and dt must be concrete numbers (they shape the plan), not traced values") from None
    if times.ndim != 1 or times.size < 2:
        raise ValueError(f"t: needs at least two times, the first being that of f0, got shape {times.shape}")
    if not np.all(np.isfinite(times)):
        raise ValueError("t: every time must be finite")
    if np.any(np.diff(times) <= 0):
        i = int(np.argmax(np.diff(times) <= 0))
        raise ValueError(f"t: times must increase, but t[{i + 1}] = {times[i + 1]:g} follows t[{i}] = {times[i]:g}")
    if not (math.isfinite(dt) and dt > 0):
        raise ValueError(f"dt: must be a positive number of seconds, got {dt:g}")
    return times


def _steps(length, dt):
    return max(1, math.ceil(length / dt * (1 - 1e-12)))


def _refine(edges, count):
    """Split the longest intervals until there are `count`."""
    edges = list(edges)
    while len(edges) - 1 < count:
        i = int(np.argmax(np.diff(edges)))
        edges.insert(i + 1, 0.5 * (edges[i] + edges[i + 1]))
    return edges


def plan(t, dt, jumps=()) -> Schedule:
    """Output times t (the first is the start), the largest step dt, and the times no step may cross.

    Every output period is cut at the jumps; the intervals of a period get equal step counts; neighbouring periods with the
    same structure form one scan. Irregular patterns are refined to a common structure unless that doubles the work.
    """
    times = check_times(t, dt)
    tol = 1e-9 * max(abs(times[0]), abs(times[-1]), times[-1] - times[0])
    cuts = np.asarray([j for j in jumps if times[0] < j < times[-1]])
    periods = []
    for a, b in zip(times[:-1], times[1:]):
        inside = cuts[(cuts > a + tol) & (cuts < b - tol)] if cuts.size else cuts
        edges = [a, *inside, b]
        periods.append((edges, max(_steps(v - u, dt) for u, v in zip(edges[:-1], edges[1:]))))

    def shapes():
        return [(len(e) - 1, n) for e, n in periods]

    changes = 1 + sum(a != b for a, b in zip(shapes()[:-1], shapes()[1:]))
    if changes > 4:
        k = max(s[0] for s in shapes())
        refined = [_refine(e, k) for e, _ in periods]
        n = max(_steps(v - u, dt) for e in refined for u, v in zip(e[:-1], e[1:]))
        if n * k * len(periods) <= 2 * sum(a * b for a, b in shapes()):
            periods = [(e, n) for e in refined]
    groups, i = [], 0
    while i < len(periods):
        j, shape = i, (len(periods[i][0]), periods[i][1])
        while j < len(periods) and (len(periods[j][0]), periods[j][1]) == shape:
            j += 1
        edges = np.asarray([e for e, _ in periods[i:j]])
        n = shape[1]
        step = np.diff(edges, axis=1) / n
        top = float(f"{float(step.max()) * (1 + 1e-9):.6g}") * (1 + 1e-5)
        groups.append(Group(edges[:, :-1], step, 0.5 * (edges[:, 1:] + edges[:, :-1]), n, top))
        i = j
    return Schedule(tuple(groups))
