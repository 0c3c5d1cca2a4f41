"""What `jaxbelt bench` does: measures the parts that are asked for, prints their tables, and writes them as JSON."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from jaxbelt.benchmarks import PARTS
from jaxbelt.config import InputError, suggest

__all__ = ["ARGUMENTS", "bench"]

ARGUMENTS = (
    ("parts", {"metavar": "PART", "nargs": "*",
               "help": "all without one; " + "; ".join(f"{name}: {what}" for name, (_, what) in PARTS.items())}),
    ("--json", {"metavar": "FILE", "help": "write all figures there too"}),
    ("--quick", {"action": "store_true", "help": "tiny sizes, two rounds: to try it; its figures mean nothing"}),
)


def bench(args) -> int:
    """The command; returns the exit status."""
    from jaxbelt import benchmarks
    from jaxbelt.benchmarks import report
    from jaxbelt.cli import DONE, prepare

    for name in args.parts:
        if name not in PARTS:
            raise InputError(f'"{name}" is not a part{suggest(name, PARTS)}')
    target = None if args.json is None else Path(args.json)
    if target is not None and (target.is_dir() or not target.absolute().parent.is_dir()):
        raise InputError(f"--json {target}: " + ("is a folder; name a file" if target.is_dir() else "its folder does not exist"))
    prepare(args.device)
    about = benchmarks.machine()
    print(report.heading(about, args.quick), flush=True)
    results, names = {}, list(dict.fromkeys(args.parts or PARTS))
    for k, name in enumerate(names):
        print(f"measuring {name} ({k + 1} of {len(names)}): {PARTS[name][1]}", file=sys.stderr, flush=True)
        start = time.perf_counter()
        results |= benchmarks.run([name], args.quick)
        print(f"{name} took {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
        print("\n" + "\n\n".join(report.text(t) for t in results[name]), flush=True)
    if target is not None:
        made = {"machine": about, "quick": args.quick, "parts": report.plain(results)}
        try:
            target.write_text(json.dumps(made, indent=1), encoding="utf-8")
        except OSError as error:
            raise InputError(f"--json {target}: cannot be written: {error.strerror}") from None
        print(f"\n{target}")
    return DONE
