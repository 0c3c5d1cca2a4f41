"""Batches to files: one netCDF a chunk of runs while it goes on, one netCDF with a dimension `run` in the end.

    jb.run_batch(problem, f0, jb.sweep({"dll.log_amplitude": a}), t=times, dt=60.0, out="many.nc")
    many = jb.load_batch("many.nc")                       # an xarray Dataset: many.f (run, time, L, phi)

The chunks lie in NAME.nc.parts/, each whole or not there at all, so that a batch which was stopped, killed, or lost one of its
processes goes on with what is missing. Every chunk is computed by the same program, whoever computes it.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from jaxbelt import io
from jaxbelt._lock import only_writer
from jaxbelt._netcdf import budget_label, budget_name, time_attrs, variable, write, write_static
from jaxbelt.batch import KEEP, Keep, Sweep, chunk_of, runner, take
from jaxbelt.batch_checks import check_values, unit_of
from jaxbelt.batch_merge import load_batch, merge, signature_of
from jaxbelt.batch_plan import difference, signature
from jaxbelt.batch_processes import PATIENCE, Crew
from jaxbelt.config import InputError
from jaxbelt.grid import Frozen
from jaxbelt.run import Interrupted, _Stop, _write_errors, provenance

__all__ = ["begun_chunk", "check_output", "done_chunks", "load_batch", "run_batch"]

_BEGUN = "plan.json"
_FIXED = 65_000        # bytes of a file without runs: coordinates, volumes, the case


def run_batch(problem, f0, sweep: Sweep, *, t, dt, out="batch.nc", chunk: int | None = None, devices=None, keep="all",
              precision: str = "double", resume: bool = False, overwrite: bool = False, process: tuple[int, int] | None = None,
              patience: float = PATIENCE, attrs: dict | None = None, f_attrs: dict | None = None, drivers: dict | None = None,
              report: Callable | None = None, log: Callable | None = None, stop_after: int | None = None,
              crew: Crew | None = None) -> Path:
    """`run_many`, to the netCDF file `out` with a dimension `run`. Returns its path; read it with `load_batch` or xarray.

    problem, f0, sweep, t, dt, chunk, devices: see `run_many`. keep: "all" (f at all times), "last", "mean" (in time), "max", or
    "content" (no f); the content and the budget of every run are always kept. precision: "double" or "single", of the stored f.
    resume: go on with the chunks that are missing. overwrite: replace a batch, finished or not. attrs, f_attrs, drivers:
    see `jaxbelt.run`. report: called with (runs done by all, runs in all) after each chunk. stop_after: stop, resumable, after
    so many chunks.

    process: (k, n), this process and how many there are; by default as `jax.distributed.initialize()` has it. All call this with
    the same arguments and see the same folder; the chunks are dealt out in turn, nothing is sent while they are computed, and
    process 0 puts the file together when all are there. patience: seconds after which a silent process is taken for lost.

    A run that fails is marked in `result` (see `Result`) and the others go on. Raises InputError (a ValueError) for input that
    cannot be used, such as a resume with other parameters (it names them); `run.Interrupted` after SIGINT, SIGTERM or the loss of
    another process: what is done is kept, and resume=True goes on, with any number of processes.
    """
    from jaxbelt.solve import check_times

    out, log, asked = Path(out), log or (lambda line: None), chunk
    k, n = process or (jax.process_index(), jax.process_count())
    try:
        times = check_times(t, dt)
        if keep not in KEEP:
            raise ValueError(f"keep: {keep!r} is unknown; use one of {', '.join(KEEP)}")
        if precision not in ("single", "double"):
            raise ValueError(f'precision: {precision!r} must be "single" or "double"')
        check_words(out, resume, overwrite)
        check_values(problem, f0, sweep)
        prints = signature(problem, f0, sweep, times, dt, keep, precision)
        io.check_writable(out.parent)
        with only_writer(out) if k == 0 and crew is None else contextlib.nullcontext():
            if crew is None:                         # else looked at before the processes met
                check_output(out, resume, overwrite, first=k == 0)
            if _is_finished(out, resume, overwrite, prints, k > 0 and crew is not None):
                return out
            devices = tuple(jax.local_devices() if devices is None else devices)
            with Crew(io.parts_of(out), k, n, patience, log) if crew is None else contextlib.nullcontext(crew) as crew:
                if not crew.met:
                    crew.meet()
                chunk, devices = _plan(out, problem, len(sweep), times.size, devices, chunk, prints)
                if not resume and crew.k == 0:
                    io.check_writable(out.parent, 2 * bytes_of_file(problem, len(sweep), times.size, keep, precision))
                if asked is not None and chunk != asked:
                    log(f"chunk of {chunk} runs, not {asked}: a multiple of the number of devices, {len(devices)}")
                advance = runner(problem, f0, sweep, times, dt, Keep(keep, Frozen(times), problem.grid), devices, chunk)
                header = _header(problem, out, times, dt, chunk, sweep, prints, precision, keep, attrs, f_attrs, drivers)
                _work(out, crew, header, sweep, advance, chunk, resume, report, log, stop_after)
                _finish(out, crew, len(sweep), chunk, report, log)
                crew.say("done")
    except InputError:
        raise
    except ValueError as error:
        raise InputError(" ".join(str(error).split())) from error
    return out


def check_words(out, resume=False, overwrite=False):
    """Before any folder is made: InputError where both are asked for, or there is nothing to resume."""
    out = Path(out)
    if resume and overwrite:
        raise InputError("resume=True, overwrite=True: go on, or begin anew; give one of the two")
    folder = io.parts_of(out)
    if resume and not (out.exists() or (folder / _BEGUN).exists() or any(folder.glob("runs-*.nc"))):
        raise InputError(f"{out}: there is nothing to resume; leave resume=True out")


def check_output(out, resume=False, overwrite=False, *, first=True):
    """Before anything is computed: the folder of the parts is as it should be, and cleared for a fresh start.

    first: this is the process that clears it. Raises InputError where an unfinished batch would be lost, or there is none to go
    on with.
    """
    check_words(out, resume, overwrite)
    folder = io.parts_of(Path(out))
    if any(folder.glob("runs-*.nc")) and not resume and not overwrite:
        raise InputError(f"{folder} holds an unfinished batch: go on with resume=True, or discard it with overwrite=True")
    if first and not resume:
        for file in [*folder.glob("runs-*.nc*"), *folder.glob(_BEGUN)]:
            file.unlink(missing_ok=True)


def _is_finished(out, resume, overwrite, prints, helps) -> bool:
    """`out` is this very batch, and `resume` is asked for. Raises InputError where a finished one would be replaced.

    helps: another process leads this batch, and may have put it together already."""
    if not out.is_file() or overwrite or any(io.parts_of(out).glob("runs-*.nc")):
        return False
    try:
        changed = difference(signature_of(out), prints)
    except InputError:
        if resume:
            raise
        changed = "it is no batch that can be read"
    if changed:
        raise InputError(f"{out} holds another finished batch ({changed}): give this one another name or folder, "
                         "or replace it with overwrite=True")
    if not resume and not (helps and not io.parts_of(out).exists()):
        raise InputError(f"{out} is complete; give overwrite=True to compute it again")
    return True


def _plan(out, problem, runs, outputs, devices, chunk, prints):
    """(chunk, devices) of this batch: as it was begun, by whoever of the processes came first.

    Raises InputError where it was begun with other parameters, and names them."""
    file = io.parts_of(out) / _BEGUN
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        if any(file.parent.glob("runs-*.nc")):
            raise InputError(f"{file} is missing; without it the runs beside it cannot be told: begin anew with overwrite=True")
        made = {"runs": runs, "chunk": chunk_of(problem, runs, outputs, devices, chunk), "asked": chunk, "signature": prints}
        temporary = file.with_name(f"{_BEGUN}.{os.getpid()}.{time.monotonic_ns()}.tmp")
        with _write_errors(file):
            temporary.write_text(json.dumps(made), encoding="utf-8")
            try:
                os.link(temporary, file)             # the first one counts
            except FileExistsError:
                pass
            except OSError:                          # a file system without links
                os.replace(temporary, file)
            temporary.unlink(missing_ok=True)
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
        changed, size, asked = difference(known["signature"], prints), int(known["chunk"]), known["asked"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{file} is damaged and cannot be read: begin anew with overwrite=True") from None
    if not changed and chunk is not None and chunk not in (asked, size):
        changed = f"chunk was {size}, now {chunk}"
    if changed:
        raise InputError(f"{out} was begun with other parameters ({changed}): give the same ones, another name or folder, or "
                         "discard it with overwrite=True")
    use = max(m for m in range(1, len(devices) + 1) if size % m == 0)
    chunk_of(problem, runs, outputs, devices[:use], size)              # does it fit here?
    return size, devices[:use]


def begun_chunk(out) -> int | None:
    """Runs a chunk of the batch that was begun here; None where there is none."""
    try:
        return int(json.loads((io.parts_of(out) / _BEGUN).read_text(encoding="utf-8"))["chunk"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def bytes_of_file(problem, runs: int, outputs: int, keep: str, precision: str) -> int:
    """About how large the file of a batch becomes."""
    f = {"all": outputs, "content": 0}.get(keep, 1) * int(np.prod(problem.grid.shape)) * (4 if precision == "single" else 8)
    return _FIXED + runs * (f + 8 * 6 * outputs)


def done_chunks(out) -> set[int]:
    """The numbers of the chunks that are there."""
    return {int(p.stem.partition("-")[2]) for p in io.parts_of(out).glob("runs-*.nc")}


def _part(out, c) -> Path:
    return io.parts_of(out) / f"runs-{c:06d}.nc"


def _work(out, crew, header, sweep, advance, chunk, resume, report, log, stop_after):
    """The chunks of this process that are missing, one after the other."""
    runs = len(sweep)
    missing = sorted(set(range(-(-runs // chunk))) - (crew.done if resume else set()))
    mine = missing[crew.k::crew.n]
    for stale in io.parts_of(out).glob("runs-*.tmp") if crew.n == 1 else ():
        stale.unlink(missing_ok=True)
    crew.say("working")
    start = time.perf_counter()
    with _stopped_at_once(out, crew, chunk, runs, log), _Stop() as stop:
        for i, c in enumerate(mine):
            kept, budget, code = advance(c * chunk)
            first = c * chunk
            index = np.arange(first, min(first + chunk, runs))
            with _write_errors(out):
                _write_part(_part(out, c), header, index, take(sweep.values, index), kept, budget, code)
            if i == 0:
                log(f"first chunk of {index.size} runs done in {time.perf_counter() - start:.1f} s, with compiling")
            there = done_chunks(out)
            if report is not None:
                report(_runs(there, chunk, runs), runs)
            if len(mine) > i + 1 and (stop.asked or stop_after is not None and i + 1 >= stop_after):
                crew.say("stopped")
                _stopped(out, "stopped", there, chunk, runs, log)
        if mine:
            took = time.perf_counter() - start
            log(f"{len(mine)} chunks, {_runs(mine, chunk, runs)} runs, computed and written in {took:.1f} s")


def _runs(chunks, chunk, runs) -> int:
    return sum(min(chunk, runs - c * chunk) for c in chunks)


def _stopped(out, why, there, chunk, runs, log):
    message = f"{why}: {_runs(there, chunk, runs)} of {runs} runs are done and kept; go on with the same call and resume=True"
    log(message)
    raise Interrupted(message, out)


@contextlib.contextmanager
def _stopped_at_once(out, crew, chunk, runs, log):
    """A second signal ends this block where it is: what is done is said all the same."""
    try:
        yield
    except Interrupted:
        raise
    except KeyboardInterrupt:
        crew.say("stopped")
        _stopped(out, "stopped at once", done_chunks(out), chunk, runs, log)


def _finish(out, crew, runs, chunk, report, log):
    """Process 0 waits for all chunks and merges them; the others wait for that."""
    count, before = -(-runs // chunk), len(done_chunks(out))
    crew.say("waiting")
    if before < count and crew.n > 1:
        log(f"waiting for the other processes: {_runs(done_chunks(out), chunk, runs)} of {runs} runs are done; one that gives no "
            f"sign of life in {io.parts_of(out)} for {crew.patience:g} s is taken for lost")
    with _stopped_at_once(out, crew, chunk, runs, log), _Stop() as stop:
        while True:
            there = done_chunks(out)
            if report is not None and len(there) > before:
                report(_runs(there, chunk, runs), runs)
            before = len(there)
            if crew.k == 0 and len(there) == count:
                break
            if crew.k > 0 and not io.parts_of(out).exists():
                return
            # where all chunks are there, only process 0 is needed
            why = "stopped" if stop.asked else crew.trouble(range(crew.n) if len(there) < count else [0])
            if why and (len(there := done_chunks(out)) < count or crew.k > 0 and io.parts_of(out).exists()):
                _stopped(out, why, there, chunk, runs, log)
            time.sleep(min(0.5, crew.patience / 20))
    crew.say("merging")
    with _stopped_at_once(out, crew, chunk, runs, log), _write_errors(out):
        merge([_part(out, c) for c in range(count)], out)
        crew.say("done")
        crew.over.set()
        io.drop_parts(out)


def _header(problem, out, times, dt, chunk, sweep, prints, precision, keep, attrs, f_attrs, drivers):
    name, unit, long_name = problem.quantity
    about = {"title": out.stem, "equation": str(problem.equation), **provenance(), "dt": float(dt), "chunk": chunk, "keep": keep,
             "sweep_shape": np.asarray(sweep.shape), "jaxbelt_batch": len(sweep), "batch_signature": json.dumps(prints)}
    if problem.time_unit not in ("s", "1"):
        about["time_unit"] = problem.time_unit
    about["swept_units"] = json.dumps({name: unit_of(name, problem, (f_attrs or {}).get("units", unit)) for name in sweep.values})
    return io.Header(grid=problem.grid, t=times, epoch=None if problem.epoch is None else str(problem.epoch),
                     dtype=str(jax.dtypes.canonicalize_dtype(np.float64)), precision=precision, drivers=drivers or {},
                     f_attrs={"units": unit, "long_name": long_name} | (f_attrs or {}), attrs=about | (attrs or {}))


def _rows(shape, width) -> tuple:
    """HDF5 chunks of about a MiB of whole runs."""
    each = max(1, math.prod(shape[1:]) * width)
    return (max(1, min(shape[0], 2**20 // each)), *(max(1, m) for m in shape[1:]))


def _write_part(path, header, index, values, kept, budget, code):
    names = header.grid.names
    f_dims = ("time", *names) if header.attrs["keep"] == "all" else names
    units = json.loads(header.attrs["swept_units"])
    # as CF has it: the values stand beside every result; those with dimensions of their own as xarray has it
    beside = {"coordinates": " ".join([*(name for name, v in values.items() if v.ndim == 1), "result"])}
    wide = [name for name, v in values.items() if v.ndim > 1 and name != "initial"]
    said = {"all": "", "last": " at the last time", "mean": ", mean in time", "max": ", largest in time"}

    def fill(file):
        write_static(file, header, len(header.t))
        file.dimensions["run"] = index.size
        if wide:
            file.attrs["coordinates"] = " ".join(wide)

        def put(name, dims, data, about):
            data = np.asarray(data)
            variable(file, name, ("run", *dims), data, about, chunks=_rows(data.shape, data.dtype.itemsize))

        variable(file, "time", ("time",), header.t, time_attrs(header))
        put("run", (), index, {"long_name": "number of the run", "units": "1"})
        for name, v in values.items():
            dims = tuple(f"{name}_{i}" for i in range(v.ndim - 1)) if name != "initial" else names
            for d, m in zip(dims, v.shape[1:]):
                if d not in file.dimensions:
                    file.dimensions[d] = m
            unit = {"units": units[name]} if units[name] else {}
            put(name, dims, v, {"long_name": f"{name} of the run"} | unit | {"jaxbelt_swept": 1})
        put("result", (), np.asarray(code, np.int32), {"units": "1", "long_name": "how the run ended: 0 at its end, or a code of "
                                                                                   "jaxbelt.Result"})
        put("content", ("time",), kept["content"], {"long_name": "content of the grid: sum of volume times f"} | beside)
        for name, v in budget.items():
            put(budget_name(name), ("time",), v, {"long_name": budget_label(name), "jaxbelt_budget": name} | beside)
        if "f" in kept:
            dtype = np.float32 if header.precision == "single" else np.float64
            about = header.f_attrs | {"long_name": header.f_attrs["long_name"] + said[header.attrs["keep"]]}
            put("f", f_dims, kept["f"].astype(dtype, copy=False), about | beside)

    path.parent.mkdir(exist_ok=True)
    write(path, fill)
