"""Cost of the foliated equation: every flow alone, the whole step, scaling with the number of cells, tables, memory, gradient.

    python experiments/bench/foliated.py [PART ...] [--json out.json] [--small]

PART: flows, step, linear, memory, gradient (all of them without one). Times are inside one compiled loop of many steps (a single
call pays for fresh pages), the median of several, on whatever device JAX has. The bound beside a time: every flow reads P and
writes it once, at the bandwidth of this machine, measured by a triad a = b + c over arrays beyond the caches.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np

import jaxbelt as jb

jb.enable_x64()

from jaxbelt import foliated  # noqa: E402
from jaxbelt.benchmarks.problems import clock  # noqa: E402
from jaxbelt.coefficients import Time  # noqa: E402

DT = 0.25
NOISE = dict(D_perp=5e-3, rho=0.05)
FULL = dict(D_perp=5e-3, D_par=0.05, D_theta=0.02, gamma=0.1, rho=0.05)
# (nodes of mu, cells of (chi, p, psi), cells of theta)
AXISYMMETRIC, ROUND = (8, (24, 48, 60), None), (2, (24, 48, 16), 16)
MEGABYTE = 1e6


def median(f, *args, rounds=5, longest=4.0):
    """Median wall time of f(*args) [s], after one call that does not count."""
    jax.block_until_ready(f(*args))
    times, start = [], time.perf_counter()
    while len(times) < rounds and (len(times) < 2 or time.perf_counter() - start < longest):
        t = time.perf_counter()
        jax.block_until_ready(f(*args))
        times.append(time.perf_counter() - t)
    return statistics.median(times)


def size(tree):
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree) if hasattr(x, "dtype"))


def bandwidth(n=20_000_000, repeats=5):
    """Bytes a second of a triad: two arrays beyond the caches read, one written."""
    f = jax.jit(lambda a, b: jax.lax.fori_loop(0, repeats, lambda i, x: (x[1], x[0] + 0.5 * x[1]), (a, b))[1])
    return 24.0 * n * repeats / median(f, jnp.ones(n), jnp.ones(n), rounds=5)


def build(shape, parameters, bounce="remap"):
    """(problem, seconds it took: the tables of the bounce)."""
    mu, cells, theta = shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")                        # the shear of coarse lines of p does not matter here
        grid = foliated.grid(psi=(0.5, 0.95), cells=cells, mu=mu, theta=theta)
        t = time.perf_counter()
        problem = foliated.problem(grid, foliated.Parameters(**parameters), bounce=bounce, dt=DT)
        jax.block_until_ready(jax.tree.leaves(problem.tables))
    return problem, time.perf_counter() - t


def start(problem, steps=4):
    """A state some steps after a Maxwellian, so that cells below zero come up as often as in a run."""
    grid = problem.grid
    f = foliated.maxwellian(grid)
    f = f if "theta" not in grid.names else f * (1.0 + 0.9 * jnp.cos(grid.centers("theta")))
    return jb.solve(problem, f, t=[0.0, steps * DT], dt=DT).f[-1]


def compiled(f, *args):
    """(executable, seconds to compile)."""
    t = time.perf_counter()
    f = jax.jit(f).lower(*args).compile()
    return f, time.perf_counter() - t


def applications(flows):
    """How often a step applies each flow: the middle one once, the outermost once where its halves join, the others twice."""
    last = len(flows) - 1
    return [1 if i == last or (i == 0 and flow.exact and flow.steady) else 2 for i, flow in enumerate(flows)]


def flow_cost(problem, f0, index, steps=5):
    """One application of one flow: {ns a cell, seconds to compile}, from a loop of `steps` and one of three times as many."""
    grid, now = problem.grid, clock()

    def many(problem, f, n):
        flow = problem.flows(problem, now, DT)[index]
        ready = flow.prepare(grid, jnp.asarray(DT))
        return jax.lax.fori_loop(0, n, lambda i, f: flow.advance(grid, ready, f, now, DT)[0], f)

    f, compiling = compiled(many, problem, f0, steps)
    a, b = (median(f, problem, f0, n) for n in (steps, 3 * steps))
    return {"ns": 1e9 * (b - a) / (2 * steps) / f0.size, "compile_s": compiling}


def step_cost(problem, f0, steps=8):
    """A whole step: {ns a cell, seconds to compile, once: seconds that a run spends before its steps}."""
    def many(n):
        return lambda problem, f: jb.solve(problem, f, t=[0.0, n * DT], dt=DT).f[-1]

    (short, compiling), (long, _) = compiled(many(steps), problem, f0), compiled(many(3 * steps), problem, f0)
    a, b = median(short, problem, f0), median(long, problem, f0)
    step = (b - a) / (2 * steps)
    return {"ns": 1e9 * step / f0.size, "compile_s": compiling, "once_s": max(a - steps * step, 0.0)}


def described(problem):
    return " x ".join(f"{a.name} {a.n}" for a in problem.grid.axes)


def in_precision(bits):
    return jax.enable_x64(bits == 64)


def flows_part(rate, smaller):
    """Every flow alone, on two nodes of mu: the planes of the others are no different."""
    rows = []
    print("\nflows, one application   (bound: the state read and written once, and the tables read)")
    print(f"{'':48s}{'bits':>5s}{'ns a cell':>11s}{'bound':>8s}{'compile s':>11s}")
    for bits in (64, 32):
        for title, shape in (("axisymmetric", (2, *AXISYMMETRIC[1:])), ("with theta", ROUND)):
            with in_precision(bits):
                for bounce in ("remap", "finite-volume"):
                    problem = build(smaller(shape), FULL | {"alpha": 0.0}, bounce)[0].replace(dt_max=DT)
                    if bounce == "remap":
                        print(f"{title}: {described(problem)}")
                        f0 = start(problem)
                    flows = problem.flows(problem, Time.at(0.0), DT)
                    for i, flow in enumerate(flows):
                        last = i == len(flows) - 1
                        if bounce == "remap" or last:
                            table = size(problem.tables) if last and bounce == "remap" else 0
                            at = getattr(flow, "axis", None) or getattr(flow, "axes", None) or (flow.line.axis, flow.ring)
                            name = f"{type(flow).__name__} {at if isinstance(at, str) else ', '.join(at)}"
                            name += f" ({flow.substeps} substeps)" if bounce != "remap" else ""
                            one = flow_cost(problem, f0, i, steps=4 if bounce == "remap" else 1)
                            one["bound"] = 1e9 * (bits / 4 + table / f0.size) / rate
                            rows.append(one | {"flow": name, "bits": bits, "shape": f0.shape})
                            print(f"    {name:44s}{bits:5d}{one['ns']:11.1f}{one['bound']:8.1f}{one['compile_s']:11.2f}",
                                  flush=True)
    return rows


def step_part(rate, smaller):
    """The whole step."""
    rows = []
    print("\nwhole step: ns a cell and step   (bound: every application reads and writes the state once)")
    print(f"{'':62s}{'float64':>9s}{'bound':>8s}{'float32':>9s}{'bound':>8s}{'compile s':>11s}{'once s':>8s}{'tables s':>10s}"
          f"{'bytes/cell':>12s}")
    cases = (("alpha = 1/2", AXISYMMETRIC, NOISE | {"alpha": 0.5}), ("alpha = 0", AXISYMMETRIC, NOISE | {"alpha": 0.0}),
             ("alpha = 0, D_par, gamma", AXISYMMETRIC, FULL | {"alpha": 0.0}),
             ("with theta, all terms", ROUND, FULL | {"alpha": 0.0}))
    built = {}
    for title, shape, parameters in cases:
        r = {}
        for bits in (64, 32):
            with in_precision(bits):
                if (shape, bits) not in built:
                    built = {(shape, bits): build(smaller(shape), parameters)} | {k: v for k, v in built.items() if k[0] == shape}
                problem, seconds = built[shape, bits]
                problem = problem.replace(parameters=foliated.Parameters(**parameters))
                f0 = start(problem)
                times = sum(applications(problem.flows(problem, Time.at(0.0), DT)))
                table = size(problem.tables) / f0.size
                r[bits] = step_cost(problem, f0) | {"bound": 1e9 * (times * bits / 4 + table) / rate, "tables_s": seconds,
                                                    "table_bytes": table}
        a = r[64]
        print(f"{title:24s}{described(problem):>38s}" + "".join(f"{r[b]['ns']:9.1f}{r[b]['bound']:8.1f}" for b in (64, 32))
              + f"{a['compile_s']:11.2f}{a['once_s']:8.2f}{a['tables_s']:10.2f}{a['table_bytes']:12.1f}", flush=True)
        rows.append({"case": title, "shape": problem.grid.shape, "cost": r})
    return rows


def linear_part(rate, smaller):
    """Time of a step against the number of cells."""
    print("\nscaling of the whole step, alpha = 0, float64")
    print(f"{'cells':>10s}{'ns a cell':>11s}{'tables s':>10s}{'MB':>8s}   along")
    out = {}
    for along, shapes in (("mu", [(m, (24, 48, 30), None) for m in (1, 2, 4, 8, 16, 32)]),
                          ("theta", [(1, (24, 48, 16), n) for n in (8, 16, 32, 64, 128)])):
        rows = []
        for shape in shapes:
            problem, seconds = build(smaller(shape), (NOISE if along == "mu" else FULL) | {"alpha": 0.0})
            f0 = start(problem)
            row = {"cells": f0.size, "tables_s": seconds, "table_MB": size(problem.tables) / MEGABYTE} | step_cost(problem, f0, 6)
            rows.append(row)
            print(f"{row['cells']:10d}{row['ns']:11.1f}{seconds:10.2f}{row['table_MB']:8.1f}   {along}", flush=True)
        x, y = (np.log([r["cells"] * r[k] if k else r["cells"] for r in rows]) for k in (None, "ns"))
        slope = float(np.polyfit(x, y, 1)[0])
        print(f"slope of log time against log cells, along {along}: {slope:.3f}", flush=True)
        out[along] = {"rows": rows, "slope": slope}
    return out


def memory_part(rate, smaller):
    """The shipped case in a process of its own: what it holds at its peak."""
    with tempfile.TemporaryDirectory() as folder:
        t = time.perf_counter()
        subprocess.run([sys.executable, "-m", "jaxbelt.cli", "run", "inward-diffusion"], cwd=folder, check=True,
                       stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - t
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"\njaxbelt run inward-diffusion: {seconds:.1f} s in all, {peak:.0f} MB at its peak (of the host)", flush=True)
    return {"seconds": seconds, "peak_MB": peak}


def gradient_part(rate, smaller, steps=32):
    """d <T_perp>/d D_perp by reverse mode, against the run itself."""
    problem, _ = build(smaller((2, (24, 48, 30), None)), NOISE | {"alpha": 0.0})
    f0 = start(problem)

    def heat(D, problem, f0):
        prm = dataclasses.replace(problem.parameters, D_perp=D)
        sol = jb.solve(problem.replace(parameters=prm), f0, t=[0.0, steps * DT], dt=DT)
        return foliated.averages(problem.grid, sol.f[-1]).T_perp

    D = jnp.asarray(5e-3)
    cases = {"forward": heat, "reverse": jax.value_and_grad(heat), "tangent": lambda *a: jax.jvp(
        lambda D: heat(D, *a[1:]), (a[0],), (jnp.ones(()),))}
    print(f"\ngradient of <T_perp> in D_perp, {described(problem)}, {steps} steps")
    rows = {}
    for name, f in cases.items():
        run, compiling = compiled(f, D, problem, f0)
        held = run.memory_analysis()
        rows[name] = {"s": median(run, D, problem, f0, rounds=3), "compile_s": compiling,
                      "MB": getattr(held, "temp_size_in_bytes", float("nan")) / MEGABYTE, "value": np.ravel(run(D, problem, f0))}
        r, base = rows[name], rows["forward"]
        print(f"    {name:8s} {r['s']:7.3f} s ({r['s'] / base['s']:.2f} x)   {r['MB']:8.1f} MB of temporaries "
              f"({r['MB'] / base['MB']:.2f} x; the state has {f0.nbytes / MEGABYTE:.2f})   compiled in {compiling:.1f} s   "
              f"{', '.join(f'{v:.8g}' for v in r['value'])}", flush=True)
        r["value"] = r["value"].tolist()
    return rows


PARTS = {"flows": flows_part, "step": step_part, "linear": linear_part, "memory": memory_part, "gradient": gradient_part}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=[], help=" ".join(PARTS))
    parser.add_argument("--json")
    parser.add_argument("--small", action="store_true", help="a quarter of the cells, to try the script")
    arguments = parser.parse_args()
    if bad := [x for x in arguments.parts if x not in PARTS]:
        parser.error(f"{bad[0]!r} is not one of {', '.join(PARTS)}")

    def smaller(shape):
        mu, (chi, p, psi), theta = shape
        return (mu, (chi, p, psi // 4), theta) if arguments.small else shape

    device, rate = jax.devices()[0], bandwidth()
    print(f"{device.device_kind} ({device.platform}), {os.cpu_count()} cores; triad {rate / 1e9:.1f} GB/s", flush=True)
    out = {"device": device.device_kind, "platform": device.platform, "cores": os.cpu_count(), "triad_B_per_s": rate}
    for name in arguments.parts or PARTS:
        out[name] = PARTS[name](rate, smaller)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(out, file, indent=1, default=str)


if __name__ == "__main__":
    main()
