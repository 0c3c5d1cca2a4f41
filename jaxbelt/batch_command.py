"""What `jaxbelt batch` does: the batch of a case into NAME-batch.nc, with its log and its progress, alone or with others."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

import numpy as np

from jaxbelt.config import InputError, parse, read, section

__all__ = ["ARGUMENTS", "batch", "check_lines", "progress"]

ARGUMENTS = (
    ("--resume", {"action": "store_true", "help": "go on with an unfinished batch: only the runs that are missing"}),
    ("--overwrite", {"action": "store_true", "help": "replace another batch, finished or not, of the same name"}),
    ("--processes", {"type": int, "metavar": "N", "help": "how many processes share this batch (found by itself under srun)"}),
    ("--process-id", {"type": int, "metavar": "K", "help": "which of them this is, 0 to N-1"}),
    ("--coordinator", {"metavar": "HOST:PORT", "help": "where process 0 listens, the same for all of them"}),
    ("--patience", {"type": float, "metavar": "SECONDS", "default": 120.0,
                    "help": "how long another process may be silent before it is taken for lost (default 120)"}),
)
_EVERY = 5.0           # seconds between lines of progress where there is no terminal


def output_of(case: str, overrides, folder) -> Path:
    """NAME-batch.nc of a case that is not built yet."""
    from jaxbelt import cases

    path = cases.find(case)
    about = parse(read(path), overrides, str(path)).get("case", {})
    name = about.get("name", path.stem) if isinstance(about, dict) else path.stem
    if not isinstance(name, str) or not name or "/" in name:
        raise InputError(f"case.name = {name}: must be a plain file name")
    return Path(folder) / f"{name}-batch.nc"


def batch(args) -> int:
    """The command; returns the exit status."""
    from jaxbelt import io
    from jaxbelt._lock import only_writer
    from jaxbelt.batch_files import check_output
    from jaxbelt.batch_processes import Crew, connect, identity
    from jaxbelt.cli import prepare

    if not args.patience > 0:
        raise InputError(f"--patience {args.patience:g}: must be a positive number of seconds")
    me = identity(args.processes, args.process_id, args.coordinator)
    out = output_of(args.case, args.set, args.out)
    if me.n == 1 or args.resume and _complete(out):
        prepare(args.device)
        args.quiet = args.quiet or me.k > 0
        return _batch(args, out, None)
    io.check_writable(out.parent)
    with only_writer(out) if me.k == 0 else contextlib.nullcontext():
        # all look at the folder before any of them begins to write to it
        check_output(out, args.resume, args.overwrite, first=me.k == 0)
        with Crew(io.parts_of(out), me.k, me.n, args.patience) as crew:
            crew.meet()
            connect(me, lambda: prepare(args.device))
            return _batch(args, out, crew)


def _complete(out: Path) -> bool:
    from jaxbelt import io

    return out.exists() and not any(io.parts_of(out).glob("runs-*.nc"))


def _batch(args, out: Path, crew) -> int:
    from jaxbelt import cases, io
    from jaxbelt.batch_files import run_batch
    from jaxbelt.cases import _batch
    from jaxbelt.cli import DONE, _Log

    k, n = (0, 1) if crew is None else (crew.k, crew.n)
    case = cases.load_case(args.case, args.set)
    made = _batch.build(case)
    typed = f"jaxbelt batch {args.case}" + "".join(f" --set {s}" for s in args.set) + (" --resume" if args.resume else "")
    lines = [*_described(case, made), *([f"processes {n}, this is {k}"] if n > 1 else [])]
    log = _Log(io.log_of(out), [typed, *lines], append=args.resume) if k == 0 else None
    complete = args.resume and _complete(out)
    if complete:
        log = None
    elif not args.quiet and k == 0:
        print("\n".join(lines), flush=True)
    start = time.perf_counter()
    with progress(not args.quiet and k == 0, out.stem) as report:
        run_batch(case.problem, made.f0, made.sweep, t=case.t, dt=case.dt, out=out, chunk=made.chunk, keep=made.keep,
                  precision=case.precision, resume=args.resume, overwrite=args.overwrite, attrs=case.attrs, f_attrs=case.f_attrs,
                  drivers=case.drivers, report=report, log=log, process=(k, n), crew=crew)
    if complete and not args.quiet:
        print(f"{out} is complete; nothing to resume")
    return _closing(args, out, log, time.perf_counter() - start) if k == 0 else DONE


def _described(case, made) -> list[str]:
    """What will be done, for the terminal and the log."""
    from jaxbelt.batch_files import bytes_of_file
    from jaxbelt.cases import _batch
    from jaxbelt.cli_report import described

    lines = [x for x in described(case) if not x.startswith(("output ", "note "))]
    size = bytes_of_file(case.problem, len(made.sweep), case.t.size, made.keep, case.precision)
    return [*lines, *_batch.describe(made), f"output    about {size / 2**20:.1f} MiB", *(f"note      {n}" for n in case.notes)]


def check_lines(case) -> list[str]:
    """What `jaxbelt check` says of a case with a table [batch]."""
    import jax

    from jaxbelt.batch import bytes_of_run, chunk_of
    from jaxbelt.cases import _batch

    made = _batch.build(case)
    with section("batch"):
        chunk = chunk_of(case.problem, len(made.sweep), case.t.size, jax.local_devices(), made.chunk)
    size = chunk * bytes_of_run(case.problem, case.t.size) / 2**20
    return [*_batch.describe(made), f"chunk     {chunk} runs, about {size:.0f} MiB, on {jax.local_device_count()} devices"]


def _closing(args, out: Path, log, seconds: float) -> int:
    from jaxbelt import io
    from jaxbelt._netcdf import Opened
    from jaxbelt.cli import DIVERGED, DONE, _fail
    from jaxbelt.solve import Result

    with Opened(out) as file:
        result = np.asarray(file["result"][...])
    lines = [f"file      {out} ({out.stat().st_size / 2**20:.1f} MiB, {result.size} runs)",
             *([f"log       {io.log_of(out)}"] if log is not None else []), f"time      {seconds:.1f} s"]
    bad = np.flatnonzero(result)
    why = ""
    if bad.size:
        some = ", ".join(str(i) for i in bad[:5]) + (", ..." if bad.size > 5 else "")
        why = (f"{bad.size} of {result.size} runs did not reach their end (run {some}): {Result(int(result[bad[0]])).message}; "
               f"{out} holds all, with their codes in result")
    for line in (*lines, *([why] if why else [])):
        if log is not None:
            log(line)
    if not args.quiet:
        print("\n".join(lines))
    return _fail(DIVERGED, why) if why else DONE


@contextlib.contextmanager
def progress(show: bool, title: str, stream=None, clock=time.perf_counter):
    """report(runs done, runs in all): a bar on stderr with the time that is left; lines where stderr is no terminal."""
    stream = stream or sys.stderr
    if not show:
        yield None
        return
    if stream.isatty():
        from tqdm import tqdm

        with tqdm(desc=title, unit="run", file=stream, dynamic_ncols=True) as bar:
            def report(done, total):
                bar.total = total
                bar.update(done - bar.n)
            yield report
        return
    start, first, last = clock(), None, None

    def report(done, total):
        nonlocal first, last
        now = clock()
        if first is None:
            first = now, done                        # compiling is over: the rate counts from here, where it can
        if last is not None and now - last < _EVERY and done < total:
            return
        last = now
        since, runs = (now - first[0], done - first[1]) if done > first[1] else (now - start, done)
        left = since / runs * (total - done)
        print(f"{title}: {done} of {total} runs, {now - start:.0f} s" + (f", about {left:.0f} s left" if done < total else ""),
              file=stream, flush=True)

    yield report
