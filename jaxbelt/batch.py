"""Many runs of one problem: `sweep` says what varies, `run_many` advances them in chunks over all devices; to files:
`batch_files.run_batch`.

    many = jb.run_many(problem, f0, jb.sweep({"dll.log_amplitude": a}), t=times, dt=60.0)      # many.f[run, time, L, phi]

The runs of a chunk are a `vmap` (with the runs last, see `lanes`), shared out over the devices without any communication between
them; every chunk is the same compiled program. Whatever a fit can free can be swept, by the same names (`jaxbelt.fitting.free`).
"""

from __future__ import annotations

import dataclasses
import numbers
import os
import weakref
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbelt.batch_checks import check_values, places, start_of, tree_of
from jaxbelt.grid import Frozen
from jaxbelt.lanes import lanes
from jaxbelt.solve import Problem, Result, advance, plan

__all__ = ["KEEP", "Keep", "Many", "Sweep", "draws", "places", "run_many", "runner", "start_of", "sweep", "take"]

KEEP = ("all", "last", "mean", "max", "content")
_SHARE = 0.5                   # of the free memory that a chunk may take
_CACHED = 2**17                # cells a CPU device advances at once: its caches hold no more, and a step would take twice as long
_WORK = 24                     # states that a run holds while it steps, about


@dataclasses.dataclass(frozen=True, eq=False)
class Sweep:
    """What varies from run to run: values {name: (runs, ...)}; shape: of the product of axes that the runs are, or (runs,)."""

    values: dict
    shape: tuple[int, ...]
    seen: list = dataclasses.field(default_factory=list, repr=False)       # the problem that its values were last checked for

    def __len__(self):
        return next(iter(self.values.values())).shape[0]


def take(values: dict, index) -> dict:
    """The values of some runs."""
    return {name: v[index] for name, v in values.items()}


def sweep(values: dict, how: str = "zip") -> Sweep:
    """A sweep from {name: one entry a run}: "zip", all of one length, side by side; or "grid", every combination, the last name
    fastest.

    Names are those of a fit: leaves of the parameters, "inner.x", "outer.x", and "initial" for f0 ("initial.x" where f0 is
    made by a function with leaves). An entry has the shape of the leaf; a number stands for a leaf of one value only. Raises
    ValueError where there is no run, or lengths differ with "zip".
    """
    if how not in ("zip", "grid"):
        raise ValueError(f"sweep how: {how!r} is unknown; use 'zip' or 'grid'")
    if not isinstance(values, dict) or not values:
        raise ValueError("sweep: needs {name: values}, at least one name")
    arrays = {}
    for name, v in values.items():
        v = np.asarray(v, float)
        if v.ndim == 0 or v.shape[0] == 0:
            raise ValueError(f"sweep {name}: needs one entry a run, and at least one run, got shape {v.shape}")
        if not np.all(np.isfinite(v)):
            raise ValueError(f"sweep {name}: must be finite, got {v[~np.isfinite(v)].ravel()[0]}")
        arrays[name] = v
    lengths = {name: v.shape[0] for name, v in arrays.items()}
    if how == "zip":
        if len(set(lengths.values())) > 1:
            raise ValueError("sweep: side by side all names need as many entries: " +
                             ", ".join(f"{k} has {n}" for k, n in lengths.items()) + "; for every combination give how='grid'")
        return Sweep(arrays, (next(iter(lengths.values())),))
    shape = tuple(lengths.values())
    index = np.unravel_index(np.arange(int(np.prod(shape))), shape)
    return Sweep({name: v[i] for (name, v), i in zip(arrays.items(), index)}, shape)


def draws(ranges: dict, runs: int, seed: int = 0) -> Sweep:
    """A sweep of random runs: {name: ("uniform", low, high) | ("log-uniform", low, high) | ("normal", mean, sd)}.

    The same seed gives the same values, whatever else is drawn beside them. Raises ValueError for unknown words and bad ranges.
    """
    if int(runs) != runs or runs < 1:
        raise ValueError(f"draws runs: must be a whole number of at least 1, got {runs}")
    out = {}
    for name, given in ranges.items():
        kind, a, b = given if len(given) == 3 else (None, 0, 0)
        seeds = np.random.SeedSequence([seed, *name.encode()])
        random = np.random.default_rng(seeds)
        if kind == "normal" and b > 0:
            out[name] = random.normal(a, b, int(runs))
        elif kind in ("uniform", "log-uniform") and a < b and (kind == "uniform" or a > 0):
            low, high = (np.log(a), np.log(b)) if kind == "log-uniform" else (a, b)
            x = random.uniform(low, high, int(runs))
            out[name] = np.exp(x) if kind == "log-uniform" else x
        else:
            raise ValueError(f"draws {name}: needs ('uniform', low, high), ('log-uniform', low, high) with 0 < low, or "
                             f"('normal', mean, sd) with sd > 0, got {given}")
    return sweep(out)


@dataclasses.dataclass(frozen=True, eq=False)
class Many:
    """f: (runs, len(t), *grid.shape), or what `keep` made of each run, stacked; t; budget {name: (runs, len(t))}; result: (runs,)
    codes, 0 where a run reached its end; sweep; problem."""

    f: Any
    t: np.ndarray
    budget: dict
    result: np.ndarray
    sweep: Sweep
    problem: Problem

    def __repr__(self):
        """One line; printing should not print arrays."""
        return f"Many({self.problem.equation}, {len(self.sweep)} runs, {len(self.t)} times, {self.message})"

    @property
    def grid(self):
        return self.problem.grid

    @property
    def message(self) -> str:
        """How the runs ended."""
        bad = {c: int(n) for c, n in zip(*np.unique(self.result, return_counts=True)) if c}
        if not bad:
            return "all runs reached their end"
        return "; ".join(f"{n} of {self.result.size} runs: {Result(int(c)).message}" for c, n in bad.items())

    def to_xarray(self):
        """An `xarray.Dataset` with a dimension `run` and the swept values as coordinates; only where f was kept."""
        from jaxbelt.io import to_dataset

        if not hasattr(self.f, "shape") or self.f.shape[2:] != self.grid.shape:
            raise ValueError("to_xarray: these runs kept something else than f")
        import xarray as xr

        one = to_dataset(self.problem, self.t, np.asarray(self.f[0]), {k: v[0] for k, v in self.budget.items()})
        varied = {k: ("run", *one[k].dims) for k in one.data_vars if k == "f" or "time" in one[k].dims and k not in one.coords}
        fresh = {"f": np.asarray(self.f)} | {k: np.asarray(v) for k, v in zip([k for k in varied if k != "f"],
                                                                             self.budget.values())}
        data = {k: (varied[k], fresh[k], one[k].attrs) for k in varied}
        coords = {name: (("run", *(f"{name}_{i}" for i in range(v.ndim - 1))), v) for name, v in self.sweep.values.items()
                  if name != "initial"}
        rest = one.drop_vars(list(varied))
        return xr.merge([rest, xr.Dataset(data, coords | {"run": np.arange(len(self.sweep)),
                                                          "result": ("run", self.result)})]).assign_attrs(one.attrs)


@dataclasses.dataclass(frozen=True)
class Keep:
    """What is kept of one run, by a word of KEEP: {"f": f at all times, the last f, its mean in time (trapezoids) or its largest
    value; nothing for "content"; "content": (time,) sum of volume times f}. Equal ones share a compiled program.
    """

    word: str
    times: Frozen
    grid: Any

    def __call__(self, f):
        out = {"content": jnp.sum(f * jnp.asarray(self.grid.volumes, f.dtype), axis=tuple(range(1, f.ndim)))}
        if self.word == "all":
            out["f"] = f
        elif self.word == "last":
            out["f"] = f[-1]
        elif self.word == "max":
            out["f"] = jnp.max(f, axis=0)
        elif self.word == "mean":
            step = np.diff(self.times.array)
            weight = 0.5 * (np.append(step, 0.0) + np.append(0.0, step)) / np.sum(step)
            out["f"] = jnp.tensordot(jnp.asarray(weight, f.dtype), f, axes=1)
        return out


def _one(places, t, dt, keep, problem, f0, values):
    """A single run with its own values: (what is kept, budget, result code)."""
    leaves, structure = jax.tree.flatten(tree_of(problem, f0))
    for name, k, shape in places:
        leaves[k] = jnp.broadcast_to(values[name], shape).astype(jnp.result_type(leaves[k]))
    tree = jax.tree.unflatten(structure, leaves)
    f0 = tree.pop("initial")
    f0 = jnp.broadcast_to(f0(problem.grid) if callable(f0) else f0, problem.grid.shape)
    mine = problem.replace(**tree)
    out, budget, code = advance(mine, f0, plan(mine, t.array, dt))
    f = jnp.concatenate([f0[None].astype(out.dtype), out])
    budget = {k: jnp.concatenate([jnp.zeros((1,), v.dtype), v]) for k, v in budget.items()}
    return (f if keep is None else keep(f)), budget, code


class _Program:
    """A jitted function, compiled once for each shape of its arguments, whose memory is looked at before its first call."""

    def __init__(self, jitted, device):
        self.lower, self.device, self.made = jitted.lower, device, {}

    def __call__(self, *args):
        leaves, structure = jax.tree.flatten(args)
        key = (structure, tuple((np.shape(x), str(jnp.result_type(x))) for x in leaves))
        if key not in self.made:
            compiled = self.lower(*args).compile()
            said = compiled.memory_analysis()
            need = 0 if said is None else said.temp_size_in_bytes + said.output_size_in_bytes
            if need > (room := free_memory(self.device)):
                raise _too_large(max(np.shape(v)[0] for v in args[2].values()), need, room)
            self.made[key] = compiled
        return self.made[key](*args)


def _too_large(chunk, need, room):
    return ValueError(f"chunk: {chunk} runs need about {need / 2**30:.3g} GiB, but {room / 2**30:.3g} GiB are free; give a "
                      "smaller chunk or fewer output times")


@lru_cache(maxsize=32)
def _program(places, t, dt, keep, devices):
    """The compiled-once function of (problem, f0, {name: (chunk, ...)}): the runs of a chunk over the devices."""
    one = partial(_one, places, t, dt, keep)

    def runs(problem, f0, values):
        return lanes(lambda shared, values: one(*shared, values))((problem, f0), values)

    if len(devices) > 1:
        # shard_map, not a sharded vmap: what a run decides for its batch stays on its device, nothing is sent
        mesh = jax.sharding.Mesh(np.array(devices), ("runs",))
        P = jax.sharding.PartitionSpec
        runs = jax.shard_map(runs, mesh=mesh, in_specs=(P(), P(), P("runs")), out_specs=P("runs"), check_vma=False)
    return _Program(jax.jit(runs), devices[0])


def free_memory(device) -> int:
    """Bytes that are free on a device (of the host, for a CPU)."""
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            found = dict(line.split(":")[:2] for line in file)
        return int(found["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2) if hasattr(os, "sysconf") else 4 << 30


def bytes_of_run(problem, outputs: int) -> int:
    """About what one run of a chunk holds: its outputs, twice, and the states of a step."""
    cells = int(np.prod(problem.grid.shape))
    return cells * jnp.result_type(float).itemsize * (2 * outputs + _WORK)


def chunk_of(problem, runs: int, outputs: int, devices, chunk=None) -> int:
    """Runs a chunk, a multiple of the number of devices: as given, or all that fit into half the free memory (on a CPU: into its
    caches), in chunks of about equal size. Raises ValueError where the chunk given, or a single run, is too large for the memory,
    with the estimate.
    """
    many = len(devices)
    cpu = devices[0].platform == "cpu"
    each, room = bytes_of_run(problem, outputs), free_memory(devices[0]) * (1 if cpu else many)
    if chunk is None:
        if not cpu:                                  # there a run may hold two dense inverses of its own for every line
            sizes = [a.n for a in problem.grid.axes if not a.is_nodes and a.n <= 512]
            each += 2 * int(np.prod(problem.grid.shape)) * max(sizes, default=0) * jnp.result_type(float).itemsize
        most = int(_SHARE * room // each)
        if cpu:
            most = min(most, many * (_CACHED // int(np.prod(problem.grid.shape))))
        most = max(most // many * many, many)
        chunk = -(-runs // -(-runs // most))
    elif not isinstance(chunk, numbers.Real) or chunk < 1 or int(chunk) != chunk:
        raise ValueError(f"chunk: must be a whole number of runs, at least 1, got {chunk!r}")
    chunk = -(-int(chunk) // many) * many
    if chunk * each > room:
        raise _too_large(chunk, chunk * each, room)
    return chunk


def run_many(problem: Problem, f0, sweep: Sweep, *, t, dt, chunk: int | None = None, devices=None,
             keep: Callable | str | None = None, report: Callable | None = None) -> Many:
    """Every run of a sweep: `problem` with the swept values put in, from f0, through the times t with steps of at most dt.

    chunk: runs advanced together, by default as many as fit into half the memory, on a CPU into its caches; rounded up to a
    multiple of the number of devices. devices: by default all of this process; the runs of a chunk are shared out over them.
    keep: a word of KEEP ("all", "last", "mean", "max", "content"), or a pure function of one run's f (time, *grid.shape) whose
    result is kept instead of it (an `observe`): give the same function again and nothing is compiled anew. report: called with
    (runs done, runs in all) after each chunk.

    The last chunk is filled up with copies of its last run, so that all chunks run the same program, and what comes out does not
    depend on which runs are in it. Returns `Many`, with NumPy arrays. A run that fails is marked in `.result`, the others go on.
    Raises ValueError for unknown names (with the nearest), shapes that do not fit, values that the equation or a model does not
    take (of the first run and of those with the smallest and largest values), chunks larger than the memory.
    """
    from jaxbelt.solve import check_times

    times = check_times(t, dt)
    word, keep = (keep, _kept(keep, times, problem.grid)) if isinstance(keep, str) else ("", keep)
    if keep is not None and not callable(keep):
        raise ValueError(f"keep: must be one of {', '.join(KEEP)}, or a function of a run's f, got {keep!r}")
    if not (sweep.seen and sweep.seen[0]() is problem and "initial" not in {n.partition(".")[0] for n in sweep.values}):
        check_values(problem, f0, sweep)             # once, where the same call is made again and again
        sweep.seen[:] = [weakref.ref(problem)]
    devices = tuple(jax.local_devices() if devices is None else devices)
    chunk = chunk_of(problem, len(sweep), times.size, devices, chunk)
    advance_chunk = runner(problem, f0, sweep, times, dt, keep, devices, chunk)
    parts, total = [], len(sweep)
    for first in range(0, total, chunk):
        parts.append(advance_chunk(first))
        if report is not None:
            report(min(first + chunk, total), total)
    kept, budget, code = jax.tree.map(lambda *x: np.concatenate(x), *parts)
    if word and keep is not None:
        kept = kept["content" if word == "content" else "f"]
    return Many(kept, times, budget, code, sweep, problem)


def _kept(word, times, grid):
    """What is kept by a word of KEEP; None for all of f."""
    if word not in KEEP:
        raise ValueError(f"keep: {word!r} is unknown; use one of {', '.join(KEEP)}, or a function of a run's f")
    return None if word == "all" else Keep(word, Frozen(times), grid)


def runner(problem, f0, sweep: Sweep, times, dt, keep, devices, chunk: int) -> Callable:
    """function(first) -> (what is kept, budget, result codes) of the runs first, first + 1, ... of one chunk, as NumPy arrays.

    Raises ValueError for unknown names (with the nearest), shapes that do not fit, and an f0 that the equation cannot begin with.
    """
    from jaxbelt.solve import check_start

    known, f0 = places(problem, f0, sweep), start_of(problem, f0)
    if "initial" not in sweep.values:
        check_start(problem, f0(problem.grid) if callable(f0) else f0)
    program, total = _program(known, Frozen(times), float(dt), keep, tuple(devices)), len(sweep)

    def advance_chunk(first: int):
        # a chunk that is not full is filled up with copies of its last run: every chunk is the same program
        index = np.minimum(np.arange(first, first + chunk), total - 1)
        try:
            out = jax.tree.map(np.asarray, program(problem, f0, take(sweep.values, index)))
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise ValueError(f"chunk: {chunk} runs do not fit into the memory of the device: give a smaller chunk") from None
        return jax.tree.map(lambda x: x[:min(chunk, total - first)], out)

    return advance_chunk
