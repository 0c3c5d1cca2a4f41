"""The command line: `jaxbelt run storm-2013-03`. Each command is one function with its arguments; see COMMANDS.

Exit status: 0 done, 2 bad usage or input (one line on stderr), 3 the run diverged (its file ends at the last good time),
runs of a batch did (its file marks them), or the fit did not converge (its file holds the best it saw), 130 interrupted
(resumable).
"""

from __future__ import annotations

import argparse
import dataclasses
import glob
import importlib
import os
import shutil
import sys
import time
import warnings
from pathlib import Path

from jaxbelt import batch_command, bench_command
from jaxbelt._compile_cache import kept_programs, remember_programs
from jaxbelt.cli_report import described, memory, steps_taken, summary
from jaxbelt.config import InputError

DONE, BAD_INPUT, DIVERGED, INTERRUPTED = 0, 2, 3, 130
COMMANDS: dict = {}


class _Parser(argparse.ArgumentParser):
    """Errors of usage are one line and exit status 2."""

    def error(self, message):
        raise InputError(f"{message} (see: {self.prog} --help)")


def command(name: str, text: str, *arguments):
    """Decorator: `name` becomes a command; arguments are (names..., {options}) of add_argument."""
    def register(function):
        COMMANDS[name] = (function, text, arguments)
        return function
    return register


def main(words=None) -> int:
    """Run one command line; returns the exit status."""
    parser = _Parser(prog="jaxbelt", description="Differentiable Fokker-Planck solver for radiation belts and dipole plasmas.",
                     epilog="A CASE is a shipped name (see: jaxbelt cases) or a TOML file (see: jaxbelt copy-case). "
                            "Compiled programs are kept between starts, see: jaxbelt info.")
    parser.add_argument("--version", action="store_true", help="print the version and stop")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    for name, (_, text, arguments) in COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=text)
        for argument in arguments:
            sub.add_argument(*argument[:-1], **argument[-1])
    try:
        args = parser.parse_args(words)
        if args.version:
            from jaxbelt import __version__
            print(f"jaxbelt {__version__}")
            return DONE
        if args.command is None:
            parser.print_help()
            return DONE
        with warnings.catch_warnings():
            warnings.showwarning = _warning
            return COMMANDS[args.command][0](args) or DONE
    except InputError as error:
        return _fail(BAD_INPUT, str(error))
    except KeyboardInterrupt as error:
        return _fail(INTERRUPTED, str(error) or "interrupted")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except RuntimeError as error:
        from jaxbelt.run import Diverged
        if isinstance(error, Diverged):
            return _fail(DIVERGED, f"diverged: {error}")
        raise


def _warning(message, category, filename, line, *_):
    text = " ".join(str(message).split())
    print(f"jaxbelt: warning: {text}" if category is UserWarning else f"{filename}:{line}: {category.__name__}: {text}",
          file=sys.stderr)


def _fail(status: int, message: str) -> int:
    sys.stdout.flush()
    print("jaxbelt: " + " ".join(message.split()), file=sys.stderr)
    return status


def prepare(device: str | None = None):
    """float64, a cache of compiled programs, as many CPU devices as cores, and the platform asked for."""
    import jax

    import jaxbelt

    jaxbelt.enable_x64()
    if device:
        jax.config.update("jax_platforms", {"cpu": "cpu", "gpu": "cuda,cpu"}[device])
    remember_programs(jax)
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        _use_all_cores(jax)
    try:
        found = jax.devices()[0].platform
    except (RuntimeError, AssertionError):       # the latter where jaxlib has no CUDA at all
        found = "none"
    if device and found != device:
        advice = '; install: pip install "jaxbelt[cuda12]"' if device == "gpu" else ""
        raise InputError(f"--device {device}: JAX finds no such device here{advice}")


def _use_all_cores(jax):
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        jax.config.update("jax_num_cpu_devices", cores)
    except RuntimeError:
        pass           # the devices were in use before this call


class _Log:
    """NAME.log: opened at the first line after `head`, so that a run that does not begin leaves none behind.

    head: what was typed, at the time `begun` (of time.time(), by default now), and what was said of it, now.
    """

    def __init__(self, path: Path, head=(), append=False, begun=None):
        if path.is_dir():
            raise InputError(f"{path} is a folder; the log of this run needs that name")
        now = time.time()
        self.path, self.append, self.file = path, append, None
        self.head = [(now if k or begun is None else begun, line) for k, line in enumerate(head)]

    def __call__(self, line: str):
        try:
            if self.file is None:
                self.file = open(self.path, "a" if self.append else "w", encoding="utf-8")
                for at, text in self.head:
                    self._write(at, text)
            self._write(time.time(), line)
        except OSError as error:
            raise InputError(f"{self.path} cannot be written: {error.strerror or error}") from error

    def _write(self, at: float, line: str):
        print(time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)), line, file=self.file, flush=True)


_CASE = ("case", {"metavar": "CASE", "help": "a shipped name or a TOML file"})
_SET = ("--set", {"metavar": "TABLE.KEY=VALUE", "action": "append", "default": [],
                  "help": "change one value of the case (repeatable)"})
_DEVICE = ("--device", {"choices": ("cpu", "gpu"), "help": "default: a GPU where JAX finds one"})
_QUIET = ("--quiet", {"action": "store_true", "help": "no progress and no summary"})
_NO_PICTURES = ("--no-pictures", {"action": "store_true", "help": "only the file and the log"})


@command("run", "run a case: NAME.nc, pictures and NAME.log in the folder --out", _CASE,
         ("--out", {"metavar": "DIR", "default": ".", "help": "folder of the output (made if missing)"}), _SET, _DEVICE, _QUIET,
         ("--overwrite", {"action": "store_true", "help": "replace another run, finished or not, of the same name"}),
         _NO_PICTURES)
def _run(args):
    from jaxbelt import cases, io
    from jaxbelt.run import Diverged, run

    begun = time.time()
    prepare(args.device)
    case = cases.load_case(args.case, args.set)
    out = Path(args.out) / f"{case.name}.nc"
    typed = f"jaxbelt run {args.case}" + "".join(f" --set {s}" for s in args.set)
    log = _Log(io.log_of(out), [typed, *described(case)], begun=begun)
    if not args.quiet:
        print("\n".join(described(case)), flush=True)
    start = time.perf_counter()
    failure = None
    try:
        run(case.problem, case.f0, t=case.t, dt=case.dt, out=out, chunk=case.chunk, precision=case.precision, attrs=case.attrs,
            f_attrs=case.f_attrs, drivers=case.drivers, overwrite=args.overwrite, log=log, progress=not args.quiet)
    except Diverged as error:
        failure = error
    return _close(out, log, args, start, failure, case.problem)


@command("resume", "go on with an unfinished run, to the same bits as if it had not stopped",
         ("file", {"metavar": "RUN.nc"}), _DEVICE, _QUIET, _NO_PICTURES)
def _resume(args):
    from jaxbelt import io
    from jaxbelt.run import Diverged, resume

    prepare(args.device)
    path = Path(args.file)
    if not io.part_files(path):
        resume(path)
        print(f"{path} is complete; nothing to resume")
        return DONE
    log = _Log(io.log_of(path), [f"jaxbelt resume {path}"], append=True)
    start, failure = time.perf_counter(), None
    try:
        resume(path, log=log, progress=not args.quiet)
    except Diverged as error:
        failure = error
    return _close(path, log, args, start, failure)


def _close(out: Path, log, args, start, failure, problem=None):
    """Pictures, the summary on stdout and in the log; the exit status. problem: what was run, for the pictures."""
    from jaxbelt import io

    if failure is not None and not out.exists():
        raise failure
    computed = time.perf_counter() - start
    whole = io.load(out)
    pictures, drawn = [], time.perf_counter()
    if not args.no_pictures and whole.t.size > 1:
        from jaxbelt import plot
        _drawing(args, log, out)
        known = {} if problem is None else {"problem": problem}
        pictures = plot.save(dataclasses.replace(whole, attrs=whole.attrs | known))
    drawn = time.perf_counter() - drawn
    lines = summary(whole, pictures) + [f"time      {computed:.1f} s running, {drawn:.1f} s drawing"]
    for line in lines:
        log(line)
    if not args.quiet:
        print("\n".join(lines))
    if failure is not None:
        return _fail(DIVERGED, f"diverged: {failure}")
    return DONE


def _drawing(args, log, out: Path):
    """Pictures take a while, in which nothing else is said."""
    log("drawing")
    if not args.quiet:
        print(f"{out.stem}: drawing", file=sys.stderr, flush=True)


@command("fit", "fit the parameters that [fit] of a case names to its data: the best run with its uncertainties", _CASE,
         ("--out", {"metavar": "DIR", "default": ".", "help": "folder of the output (made if missing)"}), _SET, _DEVICE, _QUIET,
         ("--restart", {"action": "store_true", "help": "begin anew instead of going on with an interrupted fit"}),
         ("--overwrite", {"action": "store_true", "help": "replace another finished run of the same name"}), _NO_PICTURES)
def _fit(args):
    from jaxbelt import cases, io
    from jaxbelt.fitting.command import fit_case, state_of

    begun = time.time()
    prepare(args.device)
    case = cases.load_case(args.case, args.set)
    out = Path(args.out) / f"{case.name}.nc"
    typed = f"jaxbelt fit {args.case}" + "".join(f" --set {s}" for s in args.set)
    log = _Log(io.log_of(out), [typed, *described(case)], append=state_of(out).exists() and not args.restart, begun=begun)
    if not args.quiet:
        print("\n".join(described(case)), flush=True)
    start = time.perf_counter()
    found, made = fit_case(case, out, restart=args.restart, overwrite=args.overwrite, log=log, quiet=args.quiet,
                           show=None if args.quiet else lambda line: print(line, flush=True))
    computed, drawn = time.perf_counter() - start, time.perf_counter()
    pictures = []
    if not args.no_pictures:
        from jaxbelt import plot, plot_fit
        _drawing(args, log, out)
        whole = io.load(out)
        whole = dataclasses.replace(whole, attrs=whole.attrs | {"problem": found.problem})
        pictures = [*plot_fit.save(made, out), *plot.save(whole)]
    drawn = time.perf_counter() - drawn
    from jaxbelt.fitting.output import held_line
    lines = [*str(found).splitlines(), *held_line(made), f"file      {out} (the best run, and the fit in its group \"fit\")",
             *([f"pictures  {' '.join(p.name for p in pictures)}"] if pictures else []), f"log       {io.log_of(out)}",
             f"time      {computed:.1f} s fitting and running, {drawn:.1f} s drawing"]
    for line in lines:
        log(line)
    if not args.quiet:
        print("\n".join(lines))
    if not found.converged:
        return _fail(DIVERGED, f"{found.message}; {out} holds the best it saw, without standard errors")
    return DONE


@command("batch", "the many runs that [batch] of a case names, into NAME-batch.nc with a dimension run", _CASE,
         ("--out", {"metavar": "DIR", "default": ".", "help": "folder of the output (made if missing)"}), _SET, _DEVICE, _QUIET,
         *batch_command.ARGUMENTS)
def _batch(args):
    return batch_command.batch(args)


@command("bench", "what a step costs on this machine, beside its bandwidth and beside other codes", _DEVICE,
         *bench_command.ARGUMENTS)
def _bench(args):
    return bench_command.bench(args)


@command("check", "read a case and say what a run would do; runs nothing", _CASE, _SET)
def _check(args):
    from jaxbelt import cases

    prepare("cpu")
    case = cases.load_case(args.case, args.set, dry=True)
    lines = described(case)
    lines.insert(-len(case.notes) or len(lines), f"steps     {steps_taken(case)}")
    lines.insert(-len(case.notes) or len(lines), f"memory    about {memory(case) / 2**20:.0f} MiB")
    if case.fit is not None:
        from jaxbelt.cases import _fit
        lines += _fit.describe(_fit.build(case, dry=True))
    if case.batch is not None:
        lines += batch_command.check_lines(case)
    print("\n".join(lines))


@command("cases", "list the shipped cases")
def _cases(args):
    from jaxbelt import cases

    known = cases.shipped()
    width = max((len(n) for n in known), default=0)
    for name, path in known.items():
        print(f"{name:{width}}  {cases.first_line(path)}")


@command("copy-case", "copy a shipped case to a TOML file to start from",
         ("name", {"metavar": "NAME"}), ("file", {"metavar": "FILE", "nargs": "?", "help": "default: NAME.toml here"}))
def _copy_case(args):
    from jaxbelt import cases
    from jaxbelt.config import suggest

    known = cases.shipped()
    if args.name not in known:
        raise InputError(f'"{args.name}" is not a shipped case{suggest(args.name, known)}')
    target = Path(args.file or f"{args.name}.toml")
    if target.is_dir():
        target = target / f"{args.name}.toml"
    if target.exists():
        raise InputError(f"{target} exists; give another name")
    try:
        shutil.copyfile(known[args.name], target)
    except OSError as error:
        raise InputError(f"{target} cannot be written: {error.strerror}") from None
    text = target.read_text(encoding="utf-8")
    word = next((w for w in ("fit", "batch") if f"\n[{w}]" in text), "run")
    print(f"{target}: change it and run it with: jaxbelt {word} {target}")


@command("plot", "draw the pictures of a run, finished or not", ("file", {"metavar": "RUN.nc"}),
         ("--out", {"metavar": "DIR", "help": "folder of the pictures (default: beside the file)"}),
         ("--pictures", {"metavar": "NAMES", "help": "comma-separated: l-time, dials, cuts, mlt, keogram, map, spectrum, "
                                                     "moments, distribution, averages, profiles, meridian, phase-space, "
                                                     "energy-angle, energy-spectrum, flux-time, flux-dials, psd-time"}))
def _plot(args):
    from jaxbelt import cases, io, plot
    from jaxbelt.config import suggest

    run = io.load(args.file)
    if run.t.size < 2:
        raise InputError(f"{args.file} holds only its initial state so far")
    kinds = [k.strip() for k in args.pictures.split(",")] if args.pictures else None
    for kind in kinds or ():
        if kind not in cases.PICTURES:
            raise InputError(f'--pictures {args.pictures}: "{kind}" is not a picture{suggest(kind, cases.PICTURES)}')
    folder = io.check_writable(args.out or Path(args.file).parent)
    for path in plot.save(run, kinds, folder):
        print(path)
    if kinds is None:
        from jaxbelt.fitting.output import fit_in
        made = fit_in(args.file)
        if made is not None:
            from jaxbelt import plot_fit
            for path in plot_fit.save(made, args.file, folder):
                print(path)


@command("info", "versions, devices and precision", _DEVICE)
def _info(args):
    import platform

    prepare(args.device)
    import jax

    for name in ("jaxbelt", "jax", "jaxlib", "numpy", "xarray", "h5netcdf", "matplotlib"):
        print(f"{name:11}{importlib.import_module(name).__version__}")
    print(f"python     {platform.python_version()} on {platform.system()} {platform.machine()}")
    devices = jax.devices()
    kinds = sorted({d.device_kind for d in devices})
    print(f"devices    {len(devices)} x {devices[0].platform} ({', '.join(kinds)})")
    print(f"precision  {'float64' if jax.config.jax_enable_x64 else 'float32'}")
    print(f"programs   {kept_programs(jax)}")
    if devices[0].platform == "cpu" and args.device != "cpu" and (glob.glob("/dev/nvidia[0-9]*") or shutil.which("nvidia-smi")):
        print('warning    this machine has an NVIDIA GPU, but JAX fell back to the CPU; install: pip install "jaxbelt[cuda12]"')


if __name__ == "__main__":
    sys.exit(main())
