"""How anything is timed here: many steps inside one call, rounds that take all cases in turn, medians with their range.

Wall time of one compiled loop divided by its steps, so that what a call costs does not count. Cases that are compared run round
by round one after another: what else the machine does falls on all of them alike. What is printed is the median of the rounds and
their smallest and largest; `cores` is processor time over wall time, 1 where one core works and is not disturbed. Ratios are of
`busy` times: on a CPU the smaller of wall and processor time, which other work on the machine does not lengthen.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping

import jax
from jax import lax

__all__ = ["Effort", "FULL", "QUICK", "Timing", "Loop", "spread", "timed", "timed_pairs", "Table", "size"]


@dataclasses.dataclass(frozen=True)
class Effort:
    """rounds; seconds a round should last at least, by as many steps as that takes; least and most: bounds on the steps."""

    rounds: int = 7
    seconds: float = 0.05
    least: int = 4
    most: int = 100_000


FULL, QUICK = Effort(), Effort(rounds=2, seconds=0.0, least=2, most=2)


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds a step: median, least and most of the rounds, the median busy time; steps a round; cores in use."""

    median: float
    least: float
    most: float
    busy: float
    rounds: int
    steps: int
    cores: float

    def row(self, scale: float, name: str) -> dict:
        """Entries of a table: `name`, its range and cores, in units of 1/scale seconds."""
        return {name: scale * self.median, "least": scale * self.least, "most": scale * self.most, "cores": self.cores,
                "busy": scale * self.busy, "rounds": self.rounds, "steps a round": self.steps}


@dataclasses.dataclass(frozen=True)
class Table:
    """What a part measured: columns (key, heading, format), a dict a row (None: not measured), notes below it."""

    title: str
    columns: tuple
    rows: list
    notes: tuple = ()


def spread(form: str) -> tuple:
    """Columns of a `Table` for the entries of `Timing.row` beside its first."""
    return (*((name, name, form) for name in ("least", "most", "busy")), ("cores", "cores", "{:6.2f}"))


class Loop:
    """`step(carry, *given) -> carry`, n times in one compiled call: `loop(n)` returns the last carry.

    inner: steps in a loop of known length inside the loop over n, whose end a GPU has to ask the host about; by default 16 there.
    """

    def __init__(self, step: Callable, carry, *given, inner: int | None = None):
        self.carry, self.given = carry, given
        inner = (1 if jax.default_backend() == "cpu" else 16) if inner is None else inner

        def run(n, carry, given):
            def one(i, c):
                return step(c, *given)

            if inner > 1:
                carry = lax.fori_loop(0, n // inner, lambda i, c: lax.fori_loop(0, inner, one, c), carry)
                n = n % inner
            return lax.fori_loop(0, n, one, carry)

        self.run = jax.jit(run)

    def __call__(self, n: int):
        return jax.block_until_ready(self.run(n, self.carry, self.given))


def _clocked(call, *given):
    wall, cpu = time.perf_counter(), time.process_time()
    call(*given)
    return time.perf_counter() - wall, time.process_time() - cpu


def timed(cases: Mapping[str, Callable[[int], object]], effort: Effort = FULL) -> dict[str, Timing]:
    """Each case is called with a number of steps; all cases in turn, `effort.rounds` times."""
    steps = {}
    for name, case in cases.items():
        case(effort.least)                                         # compiles
        once, _ = _clocked(case, effort.least)
        steps[name] = int(min(max(effort.least, effort.seconds * effort.least / max(once, 1e-9)), effort.most))
    taken = {name: [] for name in cases}
    for _ in range(effort.rounds):
        for name, case in cases.items():
            taken[name].append(_clocked(case, steps[name]))
    return {name: _summary([w / steps[name] for w, _ in t], steps[name], t) for name, t in taken.items()}


def timed_pairs(short: Callable, long: Callable, steps: int, effort: Effort = FULL) -> tuple[Timing, float]:
    """(a step, seconds that a call costs beside its steps): from calls of `steps` and of 3 `steps` steps, one after the other."""
    short(), long()
    a, b = zip(*((_clocked(short), _clocked(long)) for _ in range(effort.rounds)))
    each = [(y - x) / (2 * steps) for (x, _), (y, _) in zip(a, b)]
    # a disturbed round may well be faster with more steps; the median of the calls is not
    middle = (statistics.median(y for y, _ in b) - statistics.median(x for x, _ in a)) / (2 * steps)
    busy = (statistics.median(map(_busy, b)) - statistics.median(map(_busy, a))) / (2 * steps)
    made = dataclasses.replace(_summary(each, 2 * steps, b), median=middle, busy=busy)
    return made, max(statistics.median(x for x, _ in a) - steps * middle, 0.0)


def _busy(taken):
    """Seconds of a round without what others did meanwhile; a host that waits for its accelerator is not idle."""
    return min(taken) if jax.default_backend() == "cpu" else taken[0]


def _summary(each, steps, taken):
    cores = statistics.median(c / max(w, 1e-9) for w, c in taken)
    busy = statistics.median(map(_busy, taken)) / steps
    return Timing(statistics.median(each), min(each), max(each), busy, len(each), steps, cores)


def size(tree) -> int:
    """Bytes of the arrays of a pytree."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree) if hasattr(x, "dtype"))
