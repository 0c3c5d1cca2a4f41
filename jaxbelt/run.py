"""Runs with a file, a clock and a bar: the host loop around the pure solver.

One jitted function advances one chunk of output intervals; between chunks the loop looks for NaN, writes the chunk, moves the
bar and listens for an interrupt. Memory follows the chunk, not the number of steps. Chunks always begin at the same output
times, so a run that was killed and resumed ends with the same bits as one that was not.
"""

from __future__ import annotations

import contextlib
import hashlib
import platform
import signal
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np

from jaxbelt import io
from jaxbelt._lock import only_writer
from jaxbelt.config import InputError

__all__ = ["run", "resume", "load", "Diverged", "Interrupted", "chunk_size", "describe_cell"]

_CHUNK_BYTES = 64 * 2**20
_EVERY = 5.0               # seconds between lines of progress where there is no terminal
load = io.load


class Diverged(RuntimeError):
    """The run stopped because the result is no longer to be trusted; what came before is in the file `path`."""

    def __init__(self, message, path=None):
        super().__init__(message)
        self.path = path


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop; it can be resumed from `path`."""

    def __init__(self, message, path=None):
        super().__init__(message)
        self.path = path


def chunk_size(intervals: int, bytes_each: int) -> int:
    """Output intervals a chunk: about a twentieth of the run, at most 64 MiB of f; a divisor of the run where one is near."""
    cap = int(max(1, min(_CHUNK_BYTES // max(1, bytes_each), -(-intervals // 20))))
    near = [c for c in range(cap, max(1, cap // 2) - 1, -1) if intervals % c == 0]
    return near[0] if near else cap


def run(problem, f0, *, t, dt: float = 60.0, out="run.nc", chunk: int | None = None, precision: str = "double",
        attrs: dict | None = None, f_attrs: dict | None = None, drivers: dict | None = None, progress: bool | None = None,
        overwrite: bool = False, log=None, stop_after: int | None = None) -> Path:
    """Solve as `jaxbelt.solve` does, writing to the netCDF file `out` as the run goes on. Returns its path.

    t: output times in seconds after the epoch, increasing; f0 belongs to t[0]. dt: largest step in seconds.
    chunk: output intervals computed and written together. precision: "double" or "single", of the stored f (the restart
    is always double). attrs, f_attrs, drivers: text and series kept in the file (see `io.Header`).
    progress: True shows it on stderr, as a bar or, where that is no terminal, as a line every few seconds; by default a bar
    where it is a terminal and nothing elsewhere. log: called with each line of the log, the first before anything is compiled.
    stop_after: stop, resumable, after this many chunks (for queues with a time limit). overwrite: discard an unfinished
    run of the same name instead of refusing to.

    Raises InputError (a ValueError) for input that cannot be used, Diverged where the result turned NaN or the solver
    reports a fault (the file then ends at the last good time), Interrupted after SIGINT or SIGTERM (resumable).
    """
    from jaxbelt.solve import check_start

    out = Path(out)
    t = _times(t)
    f0 = np.asarray(f0)
    if f0.shape != problem.grid.shape:
        raise InputError(f"f0: its shape {f0.shape} is not the grid's {problem.grid.shape}")
    f0 = f0.astype(np.result_type(f0.dtype, np.float32)) if f0.dtype.kind != "f" else f0
    dtype = str(jax.dtypes.canonicalize_dtype(f0.dtype))
    if not np.all(np.isfinite(f0)):
        raise InputError(f"f0: is not finite at {describe_cell(problem.grid, ~np.isfinite(f0))}")
    try:
        check_start(problem, f0)
    except ValueError as error:
        raise InputError(str(error)) from None
    if precision not in ("single", "double"):
        raise InputError(f'precision = {precision!r}: must be "single" or "double"')
    if not dt > 0:
        raise InputError(f"dt = {dt}: must be positive")
    width = 4 if precision == "single" else 8
    chunk = chunk_size(t.size - 1, f0.size * width) if chunk is None else int(chunk)
    if chunk < 1:
        raise InputError(f"chunk = {chunk}: must be at least 1")
    io.check_writable(out.parent, 2 * t.size * f0.size * width)
    with only_writer(out):
        if io.parts_of(out).exists():
            if not overwrite and any(io.parts_of(out).glob("part-*.nc")):
                raise InputError(f"{io.parts_of(out)} holds an unfinished run: resume it, or discard it with "
                                 "--overwrite (overwrite=True)")
            io.drop_parts(out)
        grid_print, values_print = fingerprints(problem)
        if not overwrite:
            _refuse_to_replace(out, grid_print, values_print, t)
        header = io.Header(grid=problem.grid, t=t, epoch=None if problem.epoch is None else str(problem.epoch), dtype=dtype,
                           precision=precision, f_attrs=f_attrs or {}, drivers=drivers or {}, attrs={
            "title": out.stem, "equation": str(problem.equation), **provenance(), "dt": float(dt), "chunk": chunk,
            "grid_fingerprint": grid_print, "values_fingerprint": values_print}
            | ({} if problem.time_unit in ("s", "1") else {"time_unit": problem.time_unit}) | (attrs or {}))
        f = np.asarray(f0, dtype)
        with _write_errors(out):
            io.write_part(out, header, 0, t[:1], f[None], {})
        return _loop(problem, header, out, f, {}, 0, progress, log, stop_after)


def _refuse_to_replace(out: Path, grid_print, values_print, t):
    """A finished run may be computed again, but not be replaced by another one."""
    if not out.is_file():
        return
    try:
        old = io.read_header(out)
    except InputError:
        return                                                 # damaged: nothing to keep
    same = old.attrs.get("grid_fingerprint") == grid_print and old.attrs.get("values_fingerprint") == values_print
    if not same or np.shape(old.t) != np.shape(t) or not np.array_equal(old.t, t):
        raise InputError(f"{out} holds another finished run: give this one another name (case.name) or folder (--out), "
                         "or replace it with --overwrite (overwrite=True)")


def resume(path, problem=None, *, progress: bool | None = None, log=None, stop_after: int | None = None) -> Path:
    """Go on with the unfinished run in `path` (RUN.nc) from its last part; a finished one is left as it is.

    problem: not needed for a run of a case, which is in the file; needed for one that was started with `jaxbelt.run`, and
    then it must be the same one. Raises as `run` does.
    """
    path = Path(path)
    parts = io.part_files(path)
    if not parts:
        _finished(io.read_header(path), path)
        return path
    with only_writer(path):
        return _go_on(path, io.part_files(path), problem, progress, log, stop_after)


def _go_on(path: Path, parts, problem, progress, log, stop_after) -> Path:
    if not parts:                                              # another process finished it in the meantime
        return path
    for stale in io.parts_of(path).glob("*.tmp"):
        stale.unlink()
    header = io.read_header(parts[0])
    io.check_writable(path.parent)
    ends = [io.read_end(p) for p in parts]
    chunk, intervals = int(header.attrs["chunk"]), header.t.size - 1
    if len(ends) > 1 and ends[-1]["t"].size < min(chunk, intervals - (len(ends) - 2) * chunk):
        parts.pop().unlink()      # the good part of a chunk that diverged, killed before its file was finished: once more
        ends.pop()
    if not np.array_equal(np.concatenate([e["t"] for e in ends]), header.t[:sum(e["t"].size for e in ends)]):
        raise InputError(f"{io.parts_of(path)} holds other times than its first part planned; it cannot be resumed")
    state, total = ends[-1]["state"], {k: float(v[-1]) for k, v in ends[-1]["budget"].items()}
    if problem is None:
        if "toml" not in header.attrs:
            raise InputError(f"{path} was started from Python: give its problem, jaxbelt.resume({str(path)!r}, problem)")
        from jaxbelt import cases

        problem = cases.from_attrs(header.attrs).problem
    if str(jax.dtypes.canonicalize_dtype(header.dtype)) != header.dtype:
        raise InputError(f"{path} was computed in {header.dtype}: call jaxbelt.enable_x64() first")
    grid_print, values_print = fingerprints(problem)
    if grid_print != header.attrs["grid_fingerprint"]:
        raise InputError(f"{path} is on another grid than the problem given: shape {header.grid.shape} against "
                         f"{problem.grid.shape}, or other faces")
    if values_print != header.attrs["values_fingerprint"]:
        raise InputError(f"{path} was started with other parameters, boundary values or drivers than the problem given")
    io.read_f(parts[-1])       # its checksums are looked at before anything is computed
    return _loop(problem, header, path, state.astype(header.dtype), total, len(parts) - 1, progress, log, stop_after)


def _finished(header, path):
    if header.attrs.get("status") == "diverged":
        raise Diverged(f"{path} diverged and cannot be resumed: {header.attrs.get('message', '')}", path)


def _times(t) -> np.ndarray:
    t = np.asarray(t, np.float64)
    if t.ndim != 1 or t.size < 2:
        raise InputError(f"t: needs at least two output times, got shape {t.shape}")
    if not np.all(np.isfinite(t)):
        raise InputError("t: every output time must be finite")
    if np.any(np.diff(t) <= 0):
        i = int(np.argmax(np.diff(t) <= 0))
        raise InputError(f"t: times must increase, but t[{i + 1}] = {t[i + 1]:g} follows t[{i}] = {t[i]:g}")
    return t


def provenance() -> dict:
    """What made a file: versions, device and time."""
    import jaxlib

    from jaxbelt import __version__

    return {"source": f"jaxbelt {__version__}", "jax_version": jax.__version__, "jaxlib_version": jaxlib.__version__,
            "numpy_version": np.__version__, "python_version": platform.python_version(), "device": _device(),
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}


def _device() -> str:
    d = jax.devices()[0]
    return f"{d.platform} ({d.device_kind})"


def fingerprints(problem) -> tuple[str, str]:
    """Short hashes of a problem's grid, and of every number in it."""
    grid = hashlib.sha256()
    for a in problem.grid.axes:
        for part in (a.name.encode(), a.centers.tobytes(), a.measure.tobytes(), b"" if a.is_nodes else a.faces.tobytes()):
            grid.update(part)
    values = hashlib.sha256(f"{problem.equation}{getattr(problem.tables, 'digest', '')}".encode())
    for path, leaf in jax.tree_util.tree_flatten_with_path(problem.replace(tables=None))[0]:
        leaf = np.asarray(leaf)
        if leaf.dtype.kind in "fiub":
            values.update(f"{jax.tree_util.keystr(path)}{leaf.shape}".encode() + leaf.astype(np.float64).tobytes())
    return grid.hexdigest()[:16], values.hexdigest()[:16]


def describe_cell(grid, bad) -> str:
    """'L = 4.21 R_E, phi = 1.57 rad' of the first cell where `bad` is true."""
    index = np.unravel_index(int(np.argmax(bad)), grid.shape)
    return ", ".join(f"{a.name} = {a.centers[i]:.4g}{'' if a.unit in ('', '1') else ' ' + a.unit}"
                     for a, i in zip(grid.axes, index))


class _Stop:
    """SIGINT and SIGTERM ask to stop after the chunk at hand; a second one stops at once."""

    def __enter__(self):
        self.asked, self.before = False, {}
        if threading.current_thread() is threading.main_thread():
            for s in (signal.SIGINT, signal.SIGTERM):
                self.before[s] = signal.signal(s, self._ask)
        return self

    def _ask(self, number, frame):
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(self, *_):
        for s, handler in self.before.items():
            signal.signal(s, handler)


@contextlib.contextmanager
def _write_errors(path):
    try:
        yield
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error


class _Chunks:
    """advance(), compiled once for each structure of schedule; `seconds` tells how long compiling took."""

    def __init__(self):
        from jaxbelt.solve import advance

        self.jitted, self.compiled, self.seconds = jax.jit(advance), {}, 0.0

    def __call__(self, problem, f, schedule):
        leaves, structure = jax.tree.flatten(schedule)
        key = (structure, tuple((np.shape(x), str(jax.numpy.result_type(x))) for x in leaves))
        if key not in self.compiled:
            start = time.perf_counter()
            self.compiled[key] = self.jitted.lower(problem, f, schedule).compile()
            self.seconds += time.perf_counter() - start
        return jax.block_until_ready(self.compiled[key](problem, f, schedule))


def _loop(problem, header, out: Path, f, total: dict, done: int, progress, log, stop_after) -> Path:
    """Chunks `done`, done+1, ... of the run; f is the state before them and `total` the budget so far."""
    from jaxbelt.solve import plan

    log = log or (lambda line: None)
    t, c, dt = header.t, int(header.attrs["chunk"]), float(header.attrs["dt"])
    n = t.size - 1
    chunks, start = -(-n // c), time.perf_counter()
    made = getattr(problem.tables, "chunks", None)             # of a problem by levels (see `jaxbelt.levels`)
    log(f"begun: compiling, then outputs {done * c + 1} to {n}, {c} at a time" if done < chunks else "begun: nothing is missing")
    f = jax.numpy.asarray(f, header.dtype)
    show = sys.stderr.isatty() if progress is None else progress

    def moment(x):
        return when(header.epoch, x, problem.time_unit if problem.time_unit != "1" else "s")

    with _Stop() as stop, _bar(show, n, min(n, done * c), header.attrs["title"], sys.stderr) as bar:
        advance = made(problem, t, dt, c) if made and done < chunks else _Chunks()
        for k in range(done, chunks):
            times = t[k * c:k * c + c + 1]
            f_out, budget, result = advance(problem, f, plan(problem, times, dt))
            f_out, result = np.asarray(f_out), int(np.max(np.asarray(result)))
            budget = {name: total.get(name, 0.0) + np.asarray(v, np.float64) for name, v in budget.items()}
            if result or not np.all(np.isfinite(f_out)):
                _diverged(problem, header, out, k, times, f_out, budget, result, log)
            with _write_errors(out):
                io.write_part(out, header, k + 1, times[1:], f_out, budget)
            total = {name: float(v[-1]) for name, v in budget.items()}
            f = jax.numpy.asarray(f_out[-1])
            bar(len(times) - 1, moment(times[-1]), advance.seconds)
            if k == done:
                log(f"first chunk done, compiled in {advance.seconds:.1f} s")
            last = k + 1 == chunks
            if not last and (stop.asked or stop_after is not None and k + 1 - done >= stop_after):
                message = (f"stopped at {moment(times[-1])}, {min(n, (k + 1) * c)} of {n} outputs; "
                           f"resume with: jaxbelt resume {out}")
                log(message)
                raise Interrupted(message, out)
        with _write_errors(out):
            io.merge(out, "complete")
    seconds = time.perf_counter() - start
    log(f"done in {seconds:.1f} s: compiling {advance.seconds:.1f} s, computing and writing {seconds - advance.seconds:.1f} s")
    return out


def when(epoch, seconds: float, unit: str = "s") -> str:
    """The moment as text: UTC, or the time with its unit where there is no epoch."""
    if epoch is None:
        return f"t = {seconds:g} {unit}"
    moment = np.datetime64(epoch, "ms") + np.timedelta64(int(round(seconds * 1e3)), "ms")
    return str(moment.astype("datetime64[s]")).replace("T", " ") + " UT"


def _diverged(problem, header, out, k, times, f_out, budget, result, log):
    """Keep the outputs before the first bad one, finish the file there, and raise with field, cell and time."""
    finite = np.isfinite(f_out).reshape(len(f_out), -1).all(axis=1)
    unit = header.attrs.get("time_unit", "s")
    if finite.all():
        from jaxbelt.solve import Result

        good = 0
        why = f"{Result(result).message} (between {when(header.epoch, times[0], unit)} and {when(header.epoch, times[-1], unit)})"
    else:
        good = int(np.argmin(finite))
        bad = ~np.isfinite(f_out[good])
        what = "NaN" if np.isnan(f_out[good]).any() else "infinite"
        between = " and ".join(when(header.epoch, x, unit) for x in times[good:good + 2])
        why = (f"f became {what} between {between}, "
               f"first at {describe_cell(header.grid, bad)} ({int(bad.sum())} of {bad.size} cells)")
    with _write_errors(out):
        if good:
            io.write_part(out, header, k + 1, times[1:good + 1], f_out[:good], {name: v[:good] for name, v in budget.items()},
                          result)
        message = f"{why}; {out} ends at {when(header.epoch, times[good], unit)}"
        io.merge(out, "diverged", {"message": message})
    log("diverged: " + message)
    raise Diverged(message, out)


@contextlib.contextmanager
def _bar(show: bool, total: int, initial: int, title: str, stream, clock=time.perf_counter):
    """bar(outputs, text, seconds of compiling so far): a progress bar; where there is no terminal lines with the time left."""
    if not show or initial >= total:
        yield lambda n, text, compiled: None
        return
    if stream.isatty():
        from tqdm import tqdm

        with tqdm(total=total, initial=initial, desc=title, unit="output", file=stream, dynamic_ncols=True) as bar:
            def move(n, text, compiled):
                bar.set_postfix_str(text, refresh=False)
                bar.update(n)
            yield move
        return
    start, last, done = clock(), None, initial
    print(f"{title}: compiling, then {total - initial} outputs", file=stream, flush=True)

    def line(n, text, compiled):
        nonlocal last, done
        done, now = done + n, clock()
        if last is not None and now - last < _EVERY and done < total:
            return
        last = now
        left = max(0.0, now - start - compiled) / (done - initial) * (total - done)
        print(f"{title}: {done} of {total} outputs, {text}, {now - start:.0f} s"
              + (f", about {left:.0f} s left" if done < total else ""), file=stream, flush=True)

    yield line
