"""A thousand runs of radial diffusion (200 cells, 30 days, steps of an hour, 3-hour Kp) in one call, beside two other ways.

    python experiments/bench/batch_1000.py [--runs 1000] [--cells 200] [--rounds 5] [--devices N]      (needs spacepy 0.7)

The batch: `run_many` over all CPU cores (a GPU where JAX finds one), each run with its own amplitude of D_LL and lifetime; wall
time and peak memory. Beside it a Python loop over the same compiled solver, run by run (a sample of runs, scaled up), and, for a
line and a step, spacepy's C kernel `solve_cn`, on one core. Accuracy stands beside speed: the error of one of the runs (without
loss, which the kernel does not know) in both codes against a reference with 8 times the cells and steps of 1.5 minutes.

Limit by bytes: a TR-BDF2 step is two solves with factors of the run's own; a solve goes down and up the line and moves 7 numbers
a cell (56 bytes), so a step at 200 cells moves 22 kB: 0.3 us on a core whose second-level cache gives 70 GB/s. A GPU with 4 TB/s
has 6 ns.
"""

import argparse
import ctypes
import resource
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

import jaxbelt as jb
from jaxbelt import drift_diffusion as dd

DAYS, DAY, L1, L2 = 30, 86400.0, 2.0, 7.0
STEPS = 24 * DAYS


def kp_values():
    """3-hour values of a month with a few storms."""
    random = np.random.default_rng(7)
    kp, out = 2.0, []
    for i in range(8 * DAYS):
        kp = 1.8 + 0.85 * (kp - 1.8) + 0.7 * random.standard_normal() + (4.0 if i in (40, 130, 190) else 0.0)
        out.append(float(np.clip(kp, 0.0, 8.0)))
    return np.array(out)


def problem_of(cells, kp, lifetime=None):
    grid = dd.grid(L=(L1, L2), cells=cells)
    series = jb.Series(10800.0 * np.arange(kp.size), kp)
    prm = dd.Parameters(dll=jb.radial_diffusion.BrautigamAlbert(kp=series, reference_l=5.0), lifetime=lifetime)
    return dd.problem(grid, prm, inner=0.0, outer=0.0), start(grid["L"].centers)


def start(L):
    """A belt that vanishes at both walls, as spacepy's kernel has it."""
    return np.sin(np.pi * (L - L1) / (L2 - L1)) ** 2


def last(f):
    return f[-1]


class Spacepy:
    """spacepy.lib.solve_cn through ctypes: one Crank-Nicolson step of one line a call, f = 0 at both ends."""

    def __init__(self, cells):
        from spacepy import lib

        self.L, self.cells, self.call = np.linspace(L1, L2, cells), cells, lib.solve_cn
        h = self.L[1] - self.L[0]
        self.low, self.high, self.zero = (self.L - h / 2) ** 10, (self.L + h / 2) ** 10, np.zeros(cells)
        self.f = start(self.L)

    def run(self, kp, dt_days, steps):
        """steps steps through the 3-hour values; returns f."""
        pointer = ctypes.POINTER(ctypes.c_double)
        each, L, s, f = round(0.125 / dt_days), *(a.ctypes.data_as(pointer) for a in (self.L, self.zero, self.f))
        dt, cells, call = ctypes.c_double(dt_days), ctypes.c_int(self.cells), self.call
        for i in range(steps):
            if i % each == 0:
                d = 10 ** (0.506 * kp[i // each] - 9.325)
                low, high = np.ascontiguousarray(d * self.low), np.ascontiguousarray(d * self.high)
                m, p = (a.ctypes.data_as(pointer) for a in (low, high))
            call(f, L, m, m, p, p, dt, cells, s)
        return self.f


def accuracy(cells, kp):
    """{name: largest error of f at the end, relative to its largest value}: steps of 1 h, and ours of 3 h."""
    from scipy.interpolate import CubicSpline

    problem, f0 = problem_of(8 * cells, kp)
    fine = np.asarray(jb.solve(problem, f0, t=[0.0, DAYS * DAY], dt=90.0).f[-1])
    exact = CubicSpline(np.concatenate([[L1], problem.grid["L"].centers, [L2]]), np.concatenate([[0.0], fine, [0.0]]))
    out = {}
    for hours in (1.0, 3.0):
        problem, f0 = problem_of(cells, kp)
        f = np.asarray(jb.solve(problem, f0, t=[0.0, DAYS * DAY], dt=3600.0 * hours).f[-1])
        out[f"jaxbelt, steps of {hours:g} h"] = np.max(np.abs(f - exact(problem.grid["L"].centers)))
        line = Spacepy(cells)
        f = line.run(kp, hours / 24.0, round(STEPS / hours))
        out[f"spacepy, steps of {hours:g} h"] = np.max(np.abs(f - exact(line.L)))
    return out, float(fine.max())


def spread(seconds):
    return f"median {statistics.median(seconds):.3f} s, {min(seconds):.3f} to {max(seconds):.3f}"


def timed(f, rounds, clock=time.perf_counter):
    out = []
    for _ in range(rounds):
        begin = clock()
        f()
        out.append(clock() - begin)
    return out


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sample", type=int, default=30, help="runs of the Python loop that are timed")
    parser.add_argument("--devices", type=int, default=0, help="CPU devices, by default the cores")
    parser.add_argument("--chunk", type=int, default=None)
    given = parser.parse_args()
    jb.enable_x64()
    import os

    cores = len(os.sched_getaffinity(0))
    jax.config.update("jax_num_cpu_devices", given.devices or cores)
    devices, kp, n = jax.local_devices(), kp_values(), given.runs
    print(f"jax {jax.__version__}; {len(devices)} x {devices[0].device_kind}, {cores} cores, load {os.getloadavg()[0]:.1f}; "
          f"{n} runs, {given.cells} cells, {STEPS} steps of 1 h")

    problem, f0 = problem_of(given.cells, kp, lifetime=5.0)
    sweep = jb.draws({"dll.log_amplitude": ("normal", 0.0, 0.5), "lifetime": ("log-uniform", 1.0, 20.0)}, n, seed=1)
    t = DAY * np.arange(0.0, DAYS + 1, 5.0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def batch():
        return jb.run_many(problem, f0, sweep, t=t, dt=3600.0, keep=last, chunk=given.chunk)

    first = timed(batch, 1)[0]
    whole = timed(batch, given.rounds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    many = batch()
    assert not many.result.any() and many.f.min() >= 0.0
    per = statistics.median(whole) / n / STEPS
    print(f"one batch call: {spread(whole)} (with compiling {first:.1f} s), {1e6 * per:.3f} us a line and step; peak memory "
          f"{peak / 1024:.0f} MiB, {(peak - before) / 1024:.0f} MiB more than before")

    def one(i):
        prm = problem.parameters
        mine = prm.replace(dll=prm.dll.replace(log_amplitude=jnp.asarray(sweep.values["dll.log_amplitude"][i])),
                           lifetime=jnp.asarray(sweep.values["lifetime"][i]))
        return jax.block_until_ready(jb.solve(problem.replace(parameters=mine), f0, t=t, dt=3600.0).f)

    difference = float(np.max(np.abs(many.f[1] - one(1)[-1])))
    single = [timed(lambda i=i: one(i), 1)[0] for i in range(min(given.sample, n))]
    loop = statistics.median(single)
    print(f"Python loop of the same solver, {len(single)} runs timed: {spread(single)} a run, {loop * n:.1f} s for {n} (scaled); "
          f"a run of the batch differs from it by {difference:.1e}")

    line = Spacepy(given.cells)
    theirs = [s / STEPS for s in timed(lambda: line.run(kp, 1 / 24.0, STEPS), 4 * given.rounds)]
    print(f"spacepy solve_cn, one core: median {1e6 * statistics.median(theirs):.2f} us a line and step, "
          f"{1e6 * min(theirs):.2f} to {1e6 * max(theirs):.2f}")
    limit = 2 * 7 * 8 * given.cells / 70e9
    print(f"limit by bytes: {1e6 * limit:.2f} us a core at 70 GB/s")

    def ratios(name, of, asked):
        values = sorted(of / w for w in whole)
        print(f"{name}: {of / statistics.median(whole):.1f} times, {values[0]:.1f} to {values[-1]:.1f} (asked: {asked})")

    ratios("batch against the Python loop", loop * n, 20)
    ratios("batch against spacepy's C kernel, a line and step", statistics.median(theirs) * n * STEPS, 20)
    if devices[0].platform == "cpu":                 # on a busy machine the processor's own time says more than the clock
        ours, alone, theirs = (min(timed(f, given.rounds, time.process_time)) for f in (
            batch, lambda: one(0), lambda: line.run(kp, 1 / 24.0, STEPS)))
        ours = ours / n
        print(f"least processor time, all cores: batch {1e6 * ours / STEPS:.2f}, a run alone {1e6 * alone / STEPS:.2f}, spacepy "
              f"{1e6 * theirs / STEPS:.2f} us a line and step: {alone / ours:.1f} and {theirs / ours:.1f} times")
    errors, top = accuracy(given.cells, kp)
    for name, e in errors.items():
        print(f"error at the end, {name}: {e / top:.1e} of the largest f")


if __name__ == "__main__":
    main()
