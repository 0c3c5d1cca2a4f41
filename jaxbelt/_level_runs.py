"""What runs by levels do on the host: which propagators a schedule needs, and chunks that share them."""

from __future__ import annotations

import time

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

__all__ = ["Chunks", "Keys"]

_MOST_BYTES = 8 * 2**30


class Keys:
    """The pairs (level, length of step) that schedules need: `level` and `dt` (count,), and `of(schedule)`, who needs which."""

    def __init__(self, problem, schedules):
        self.levels, self.grid = problem.tables, problem.grid
        level, dt = (np.concatenate([x.ravel() for s in schedules for x in f(s)])
                     for f in (lambda s: [g.mid for g in s.groups], lambda s: [np.asarray(g.dt) for g in s.groups]))
        self.scale = dt.max()
        self.lengths, first = np.unique(np.round(dt / self.scale, 9), return_index=True)
        self.codes, which = np.unique(self._code(level, dt), return_index=True)
        self.level, self.dt = level[which], dt[first][self.codes % self.lengths.size]
        n, nodes = self.grid.shape[-1], self.levels.groups
        size = 8.0 * self.codes.size * nodes * (n + 8) ** 2
        if size > _MOST_BYTES:
            raise ValueError(f"levels: {self.codes.size} levels need {size / 2**30:.0f} GiB of matrices"
                             + (f", {nodes} nodes having a diffusion of their own" if nodes > 1 else "")
                             + "; take fewer cells or nodes, or method = \"steps\"")

    def _code(self, level, dt):
        near = np.abs(np.round(dt / self.scale, 9)[..., None] - self.lengths).argmin(axis=-1) if self.lengths.size > 1 else 0
        return level.astype(np.int64) * self.lengths.size + near

    def of(self, schedule):
        """[(start, key)] of the groups of a schedule, each (periods, intervals), one entry a step."""
        out = []
        for g in schedule.groups:
            key = np.searchsorted(self.codes, self._code(g.mid, g.dt)).astype(np.int32)
            start = np.asarray(g.start)[..., None] + np.asarray(g.dt)[..., None] * np.arange(g.steps)
            out.append((start.reshape(len(start), -1), np.repeat(key, g.steps, axis=1)))
        return out


class Chunks:
    """See `levels.Levels.chunks`; `seconds` tells how long compiling and making the propagators took.

    Where there are several devices (the command line makes one of each core), each makes its part of the propagators and
    advances its part of the nodes.
    """

    def __init__(self, prepare, advance, problem, schedules):
        start = time.perf_counter()
        self.keys, self.compiled, self.mesh, self.jitted = Keys(problem, schedules), {}, None, jax.jit(advance)
        level, dt, devices = self.keys.level, self.keys.dt, jax.devices()
        if problem.grid.axes[0].is_nodes and len(devices) > 1 and problem.grid.shape[0] % len(devices) == 0:
            self.mesh = jax.make_mesh((len(devices),), ("nodes",), axis_types=(AxisType.Auto,))
            share = -(-level.size // len(devices)) * len(devices)
            parts = jax.jit(jax.shard_map(prepare, mesh=self.mesh, in_specs=(P(), P("nodes"), P("nodes")), out_specs=P("nodes"),
                                          check_vma=False))
            states = parts(problem, *(np.append(x, np.repeat(x[-1:], share - x.size)) for x in (level, dt)))
            own = problem.tables.groups > 1                    # matrices of its own for every node
            where = {"matrix": P(None, "nodes") if own else P(), "keep": P(*([None] * 3), "nodes"), "fault": P()}
            self.states = {k: None if v is None else self._put(v, where[k]) for k, v in states.items()}
        else:
            self.states = jax.jit(prepare)(problem, level, dt)
        jax.block_until_ready(self.states)
        self.seconds = time.perf_counter() - start

    def _put(self, x, part):
        return x if self.mesh is None else jax.device_put(x, NamedSharding(self.mesh, part))

    def __call__(self, problem, f, schedule):
        groups, f = self.keys.of(schedule), self._put(f, P("nodes"))
        rest = self.states, self.keys.level, self.keys.dt
        shape = tuple(key.shape for _, key in groups)
        if shape not in self.compiled:
            start = time.perf_counter()
            self.compiled[shape] = self.jitted.lower(problem, f, groups, *rest).compile()
            self.seconds += time.perf_counter() - start
        return jax.block_until_ready(self.compiled[shape](problem, f, groups, *rest))
