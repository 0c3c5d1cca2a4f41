"""Error against time of a run of radial diffusion, by jaxbelt and by other codes, over cells and steps: who is first at an error.

    python experiments/bench/peers.py [--rounds 5] [--json out.json]     (spacepy, FiPy and py-pde where they are installed)

The problem is that of `jaxbelt bench peers` (D_LL = d0 L^4, f = 0 at both walls, a decaying sine as the exact solution), 60 days.
For every code: time of a whole run of a line and its error, at 50 to 400 cells with steps in proportion; then, at errors that all
reach, the time it takes, by interpolation between its runs, and the ratio to spacepy's C kernel. jaxbelt's batch of 512 lines
counts a line. All codes of a setting are timed in turn, round by round; what is done once (matrices, compiling) does not count.
Busy time is the smaller of wall and processor time.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os

import numpy as np

import jaxbelt as jb

jb.enable_x64()

from jaxbelt.benchmarks.peers import Peer, Setting, peers  # noqa: E402
from jaxbelt.benchmarks.timing import FULL, timed  # noqa: E402

SETTINGS = tuple(Setting(cells=n, steps=3 * n // 5) for n in (50, 100, 200, 400))
ERRORS = (3e-3, 1e-3, 3e-4)


def runs(rounds):
    """{code: list of (cells, steps, seconds a line: busy, least, most; error)}."""
    out, missing = {}, {}
    for setting in SETTINGS:
        made = peers(setting)
        missing |= {k: p for k, p in made.items() if not isinstance(p, Peer)}
        made = {k: p for k, p in made.items() if isinstance(p, Peer)}
        taken = timed({k: p.call for k, p in made.items()}, dataclasses.replace(FULL, rounds=rounds, least=1))
        print(f"\n{setting.cells} cells, {setting.steps} steps: ms a run and line, busy time (wall time: least to most), error")
        for name, peer in made.items():
            whole = setting.steps / peer.steps_a_call / peer.lines
            t = [whole * x for x in (taken[name].busy, taken[name].least, taken[name].most)]
            out.setdefault(name, []).append((setting.cells, setting.steps, *t, peer.error))
            print(f"  {name:38s}{peer.scheme:32s}{1e3 * t[0]:11.4f} ({1e3 * t[1]:.4f} to {1e3 * t[2]:.4f}){peer.error:10.1e}",
                  flush=True)
    for name, why in missing.items():
        print(f"  {name}: {why}")
    return out


def at_error(rows, error):
    """Seconds at an error, between runs in logarithms; None where no run gets there or all do better."""
    e, t = np.log([r[5] for r in rows]), np.log([r[2] for r in rows])
    order = np.argsort(e)
    if not e[order[0]] <= np.log(error) <= e[order[-1]]:
        return None
    return float(np.exp(np.interp(np.log(error), e[order], t[order])))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json")
    given = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    out = runs(given.rounds)
    print("\nms a run and line at an error (times faster than spacepy's kernel)")
    print(f"  {'':38s}" + "".join(f"{e:>20.0e}" for e in ERRORS))
    base = [at_error(out["spacepy solve_cn"], e) if "spacepy solve_cn" in out else None for e in ERRORS]
    for name, rows in out.items():
        line = ""
        for e, b in zip(ERRORS, base):
            t = at_error(rows, e)
            line += f"{'--':>20s}" if t is None else f"{1e3 * t:10.4f} " + (f"({b / t:7.3g})" if b else " " * 9)
        print(f"  {name:38s}{line}")
    if given.json:
        with open(given.json, "w") as file:
            json.dump(out, file, indent=1)


if __name__ == "__main__":
    main()
