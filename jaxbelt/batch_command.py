"""What `jaxbelt batch` does: the batch of a case into NAME-batch.nc, with its log and its progress, alone or with others."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

import numpy as np

from jaxbelt.config import InputError, parse, read, section

__all__ = ["ARGUMENTS", "batch", "check_lines", "memory", "progress"]

ARGUMENTS = (
    ("--resume", {"action": "store_true", "help": "go on with an unfinished batch: only the runs that are missing"}),
    ("--overwrite", {"action": "store_true", "help": "replace a batch, finished or not, of the same name"}),
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


# what a call says, and what is typed for it
_TYPED = {"resume=True, overwrite=True": "--resume, --overwrite", "resume=True": "--resume", "overwrite=True": "--overwrite",
          "the same call and": "the same command and", "another name or folder": "another name (case.name) or folder (--out)"}


def _typed(text: str) -> str:
    for said, typed in _TYPED.items():
        text = text.replace(said, typed)
    return text


def batch(args) -> int:
    """The command; returns the exit status."""
    from jaxbelt.run import Interrupted

    try:
        return _alone_or_not(args)
    except InputError as error:
        raise InputError(_typed(str(error))) from error
    except Interrupted as error:
        raise Interrupted(_typed(str(error)), error.path) from error


def _alone_or_not(args) -> int:
    from jaxbelt import io
    from jaxbelt._lock import only_writer
    from jaxbelt.batch_files import check_output, check_words
    from jaxbelt.batch_processes import Crew, connect, identity
    from jaxbelt.cli import prepare

    if not args.patience > 0:
        raise InputError(f"--patience {args.patience:g}: must be a positive number of seconds")
    me = identity(args.processes, args.process_id, args.coordinator)
    out = output_of(args.case, args.set, args.out)
    check_words(out, args.resume, args.overwrite)
    if me.n == 1 or args.resume and _complete(out):
        prepare(args.device)
        args.quiet = args.quiet or me.k > 0
        return _batch(args, out, None)
    io.check_writable(out.parent)
    with only_writer(out) if me.k == 0 else contextlib.nullcontext():
        # all look at the folder before any of them begins to write to it
        check_output(out, args.resume, args.overwrite, first=me.k == 0)
        tell = None if args.quiet else lambda line: print(line, flush=True)
        with Crew(io.parts_of(out), me.k, me.n, args.patience, tell) as crew:
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
    lines = [*_described(case, made, out if args.resume else None), *([f"processes {n}, this is {k}"] if n > 1 else [])]
    complete = args.resume and _complete(out)
    log = _Log(io.log_of(out), [typed, *lines], append=args.resume) if k == 0 and not complete else None
    if not complete and not args.quiet:
        print("\n".join(lines), flush=True)
    start = time.perf_counter()
    with progress(not args.quiet and k == 0, out.stem) as report:
        run_batch(case.problem, made.f0, made.sweep, t=case.t, dt=case.dt, out=out, chunk=made.chunk, keep=made.keep,
                  precision=case.precision, resume=args.resume, overwrite=args.overwrite, attrs=case.attrs, f_attrs=case.f_attrs,
                  drivers=case.drivers, report=report, log=_both(log, not args.quiet, k), process=(k, n), crew=crew)
    if complete and not args.quiet:
        print(f"{out} is complete; nothing to resume")
    seconds = time.perf_counter() - start
    if k > 0 and not args.quiet:
        print(f"file      {out}, put together by process 0\ntime      {seconds:.1f} s", flush=True)
    return _closing(args, out, log, seconds) if k == 0 else DONE


def _both(log, show, k):
    """The log of process 0; the others say on the terminal what they do, and all say there that they wait."""
    def both(line):
        line = _typed(line)
        if log is not None:
            log(line)
        if show and (k > 0 or line.startswith("waiting")):
            print(line, flush=True)
    return both


def _described(case, made, resumed=None) -> list[str]:
    """What will be done, for the terminal and the log. resumed: the file of a batch that was begun with a chunk of its own."""
    from jaxbelt.cases import _batch
    from jaxbelt.cli_report import described

    lines = [x for x in described(case) if not x.startswith(("output ", "note "))]
    return [*lines, *_batch.describe(made), *_sizes(case, made, resumed), *(f"note      {n}" for n in case.notes)]


def _sizes(case, made, resumed=None) -> list[str]:
    """The chunk and its memory, and how large the file becomes."""
    import jax

    from jaxbelt.batch import bytes_of_run
    from jaxbelt.batch_files import begun_chunk, bytes_of_file
    from jaxbelt.cli_report import size_text

    chunk = resumed and begun_chunk(resumed) or _chunk(case, made)
    devices, runs = len(jax.local_devices()), len(made.sweep)
    asked = f" ({made.chunk} asked for: rounded up to a multiple of the devices)" if made.chunk not in (None, chunk) else ""
    size = bytes_of_file(case.problem, runs, case.t.size, made.keep, case.precision)
    held = size_text(chunk * bytes_of_run(case.problem, case.t.size))
    return [f"chunk     {chunk} runs{asked}, about {held} of memory, on {devices} device{'s' if devices > 1 else ''}",
            f"output    about {size_text(size)} for all {runs} runs"]


def _chunk(case, made) -> int:
    import jax

    from jaxbelt.batch import chunk_of

    with section("batch"):
        return chunk_of(case.problem, len(made.sweep), case.t.size, jax.local_devices(), made.chunk)


def memory(case) -> float:
    """Bytes that a chunk takes."""
    from jaxbelt.batch import bytes_of_run
    from jaxbelt.cases import _batch

    return _chunk(case, _batch.build(case)) * bytes_of_run(case.problem, case.t.size)


def check_lines(case) -> list[str]:
    """What `jaxbelt check` says of a case with a table [batch]; raises InputError for values that a run cannot have."""
    from jaxbelt.batch_checks import check_values
    from jaxbelt.cases import _batch

    made = _batch.build(case)
    with section("batch"):
        check_values(case.problem, made.f0, made.sweep)
    return [*_batch.describe(made), *_sizes(case, made)]


def _closing(args, out: Path, log, seconds: float) -> int:
    from jaxbelt import io
    from jaxbelt._netcdf import Opened
    from jaxbelt.cli import DIVERGED, DONE, _fail
    from jaxbelt.cli_report import size_text
    from jaxbelt.solve import Result

    with Opened(out) as file:
        result = np.asarray(file["result"][...])
    lines = [f"file      {out} ({size_text(out.stat().st_size)}, {result.size} runs)",
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
                if bar.total is None:                # compiling is over: the clock of the rate starts here
                    bar.initial = bar.n = bar.last_print_n = done
                    bar.start_t = bar.last_print_t = time.time()
                bar.total = total
                if not bar.update(done - bar.n):
                    bar.refresh()
            yield report
        return
    start, first, last = clock(), None, None

    def report(done, total):
        nonlocal first, last
        now = clock()
        if first is None:
            first = now, done                        # compiling is over: the clock of the rate starts here
        if last is not None and now - last < _EVERY and done < total:
            return
        last = now
        left = ""
        if first[1] < done < total:
            left = f", about {(now - first[0]) / (done - first[1]) * (total - done):.0f} s left"
        print(f"{title}: {done} of {total} runs, {now - start:.0f} s{left}", file=stream, flush=True)

    yield report
