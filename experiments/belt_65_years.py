"""Sixty-five years of radial diffusion by levels, against the same equation step by step: accuracy, time, a figure.

    python experiments/belt_65_years.py KP_FILE [--out DIR] [--part run|front|year|years|figure]...

KP_FILE: daily rows "YYYYMMDD Kp1 ... Kp8 F10.7", 1958-01-01 to 2023-02-28. Parts, all of them by default:
  run     `jaxbelt run belt-65-years` in a process of its own: wall clock and CPU time of all 64 mu
  front   two weeks up to the storm of 4 August 2010, two mu, steps of 15 minutes down to 30 s: to whom the difference belongs
  year    1989 (the storm of March), all 64 mu, TR-BDF2 in steps of 10 minutes
  years   all 65 years, four mu, TR-BDF2 in steps of 5 minutes: five to ten minutes
  figure  solar cycle, Kp, f(L, t), lifetimes, and the difference to the steps over the whole time
The steps read the drivers by time (no levels): they share the face coefficients and nothing of the stepping.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np

import jaxbelt as jb
from jaxbelt import cases, io

NODES = (0, 21, 42, 63)
EVERY = "output.every=28 d"     # measured Kp repeats nothing, and 850 intervals of 28 days are the whole time
FLOOR = 1e-3               # of the value at L = 7: where relative differences are looked at


def run(args):
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    words = ["--set", f"parameters.kp_file={args.kp}", "--set", EVERY, "--set", "output.precision=double", "--out", str(args.out)]
    words += ["--overwrite", "--no-pictures", "--quiet"]
    subprocess.run([sys.executable, "-m", "jaxbelt.cli", "run", "belt-65-years", *words], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    wall, load = time.perf_counter() - start, os.getloadavg()[0]
    print(f"run: {wall:.1f} s wall clock, {cpu:.1f} s CPU, {os.cpu_count()} cores, load {load:.1f}")


def steps(args, words, dt, mu=None):
    """(times, mu, L) of the case in steps of dt, the drivers read by time."""
    words = [EVERY, *words, f"parameters.kp_file={args.kp}", "output.times=['0 d']"]
    words += ["numerics.method=steps", f"numerics.dt={dt} s"]
    if mu is not None:
        words.append("parameters.mu=[" + ", ".join(f"'{float(x)!r} MeV/G'" for x in mu) + "]")
    case = cases.load_case("belt-65-years", words)
    start = time.perf_counter()
    sol = jb.solve(case.problem, case.f0, t=case.t, dt=case.dt)
    f = np.asarray(jax.block_until_ready(sol.f))
    print(f"steps of {dt} s, {case.problem.grid.shape[0]} mu, {case.t[-1] / 86400:g} d: {time.perf_counter() - start:.0f} s")
    return f


def by_level(args, words):
    """(times, mu, L) of the case by levels."""
    case = cases.load_case("belt-65-years", [EVERY, *words, f"parameters.kp_file={args.kp}", "output.times=['0 d']"])
    return np.asarray(jb.solve(case.problem, case.f0, t=case.t, dt=case.dt).f)


def compare(name, f, g):
    """f by levels, g by steps: (times, mu, L)."""
    apart = np.abs(f - g)
    top = g.max(axis=-1)
    most, relative = apart.max(axis=-1) / top, np.where(g > FLOOR, apart / np.where(g > 0, g, 1.0), 0.0)
    total = apart.sum(axis=-1) / g.sum(axis=-1)
    for when, pick in (("at the end", slice(-1, None)), ("at any time", slice(1, None))):
        print(f"{name}, {when}: largest difference/largest f {most[pick].max():.1e}, mean over L {total[pick].max():.1e}, "
              f"relative where f > {FLOOR:g} f(L = 7) {relative[pick].max():.1e}")
    return most.max(axis=-1), relative.max(axis=(-2, -1))


def year(args):
    words = ["case.epoch='1989-01-01T00:00:00'", "case.duration='364 d'", "output.every='7 d'"]
    compare("1989, 64 mu", by_level(args, words), steps(args, words, 600))


def front(args):
    words = ["case.epoch='2010-07-21T00:00:00'", "case.duration='14 d'", "output.every='14 d'",
             "parameters.mu=['300.0 MeV/G', '5000.0 MeV/G']"]
    f = by_level(args, words)
    for dt in (900, 300, 100, 30):
        compare(f"July 2010, steps of {dt} s", f, steps(args, words, dt))


def years(args):
    whole = io.load(args.out / "belt-65-years.nc")
    g = steps(args, [], 300, whole.grid["mu"].centers[list(NODES)])
    np.savez(args.out / "steps.npz", f=g)
    compare("65 years, mu = " + ", ".join(f"{x:.0f}" for x in whole.grid["mu"].centers[list(NODES)]), whole.f[:, list(NODES)], g)


def figure(args):
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.colors import LogNorm

    whole = io.load(args.out / "belt-65-years.nc")
    rows = np.array([line.split() for line in Path(args.kp).read_text().splitlines()[1:]])
    flux, kp = rows[:, 9].astype(float), rows[:, 1:9].astype(float)
    day = 1958.0 + np.arange(len(rows)) / 365.2425
    at = 1958.0 + whole.t / 86400 / 365.2425
    case = cases.load_case("belt-65-years", [EVERY, f"parameters.kp_file={args.kp}"])
    node = int(np.argmin(np.abs(whole.grid["mu"].centers - 1000.0)))
    fig, axes = plt.subplots(5, 1, figsize=(10.5, 11), sharex=True, height_ratios=[1.1, 2.6, 2.6, 1.3, 1.2], layout="constrained")

    def smooth(x, width):
        return np.convolve(x, np.ones(width) / width, "same")

    cut = slice(182, -182)
    good = np.where((flux > 40) & (flux < 500), flux, np.nan)
    good = np.interp(day, day[np.isfinite(good)], good[np.isfinite(good)])
    axes[0].plot(day[cut], smooth(good, 365)[cut], color="#d08020")
    axes[0].set_ylabel("F10.7 [sfu]\n(year's mean)", color="#d08020", fontsize=9)
    twin = axes[0].twinx()
    twin.plot(day[cut], smooth(kp.mean(axis=1), 365)[cut], color="#30607f")
    twin.set_ylabel("Kp\n(year's mean)", color="#30607f", fontsize=9)
    faces = whole.grid["L"].faces
    edges = np.concatenate([at[:1], 0.5 * (at[1:] + at[:-1]), at[-1:]])
    for ax, k in zip(axes[1:3], (node, whole.grid["mu"].n - 1)):
        f = np.maximum(whole.f[:, k], 1e-30).T
        mesh = ax.pcolormesh(edges, faces, f, norm=LogNorm(1e-5, 1.0), cmap="viridis", rasterized=True)
        ax.set(ylabel="L", ylim=(2.0, 7.0))
        ax.set_title(f"f/f(L = 7), mu = {whole.grid['mu'].centers[k]:.0f} MeV/G, one moment every 28 days", fontsize=10)
    fig.colorbar(mesh, ax=axes[1:3], label="f/f(L = 7)", extend="min", pad=0.01)
    shells = (3.5, 4.5, 5.5)
    for L, color in zip(shells, ("#7a3b9a", "#2a8a5a", "#c0392b")):
        tau = lifetimes(case, node, L)
        axes[3].plot(at[1:], tau, color=color, lw=0.8, label=f"L = {L:g}")
    axes[3].set(yscale="log", ylabel="lifetime [d]\n(28 days' mean rate)")
    axes[3].set_ylim(0.5, 100)
    axes[3].legend(fontsize=8, ncols=3, loc="upper left")
    path = args.out / "steps.npz"
    if path.exists():
        most, relative = compare("65 years", whole.f[:, list(NODES)], np.load(path)["f"])
        axes[4].semilogy(at[1:], relative[1:], color="0.5", lw=0.8, label=f"relative, where f > {FLOOR:g} f(L = 7)")
        axes[4].semilogy(at[1:], most[1:], color="k", lw=0.9, label="over the largest f")
        axes[4].axhline(1e-3, color="r", lw=0.8, ls="--")
        axes[4].set_ylim(1e-7, 3e-2)
        axes[4].legend(fontsize=8, ncols=2, loc="upper right")
    axes[4].set(ylabel="levels - steps\n(largest, four mu)", xlabel="year", xlim=(1958, 2023.2))
    fig.savefig(args.out / "belt-65-years-history.png", dpi=130)
    print(args.out / "belt-65-years-history.png")


def lifetimes(case, node, L):
    """1/mean loss rate between outputs [d] at one L of one mu."""
    from jaxbelt.coefficients import Time
    from jaxbelt.nodes import at_node

    levels, lifetime = case.problem.tables, at_node(case.problem, node).parameters.lifetime
    rate = jax.vmap(lambda k: lifetime.rate(Time(0.0, 0.0, k), L))(np.arange(levels.count, dtype=float))
    mids = 10800.0 * (np.arange(round(case.t[-1] / 10800)) + 0.5)
    return 1.0 / np.asarray(rate).reshape(-1)[levels.at(mids)].reshape(case.t.size - 1, -1).mean(axis=1)


PARTS = {"run": run, "front": front, "year": year, "years": years, "figure": figure}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kp", type=Path)
    parser.add_argument("--out", type=Path, default=Path("belt-65-years"))
    parser.add_argument("--part", action="append", choices=PARTS)
    args = parser.parse_args()
    args.kp = args.kp.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    jb.enable_x64()
    for part in args.part or PARTS:
        PARTS[part](args)
