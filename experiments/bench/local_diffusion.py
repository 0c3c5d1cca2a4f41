"""Cost of the local-diffusion equation on one thread: every flow, the block solves against the machine, scaling, gradient.

    python experiments/bench/local_diffusion.py [PART ...] [--repeats 15] [--tables FILE] [--small]

PART: flows, linear, gradient (all of them without one). Cells (L, phi, alpha, ln p) = (40, 24, 32, 32): 983,040; rotation with
D_phiphi, D_LL at Kp 3, real chorus tables (where they are at hand; else a tensor of the same size), loss cone. Times are CPU
times of calls that are compiled, the smallest of --repeats. The bounds beside the block solves: the bytes of the factors and of f
that a step must move at the bandwidth of a triad a = b + c beyond the caches, and its multiplications and additions at the rate
of a large matrix product, both measured in the same run. "not shared": the same waves with a dependence on MLT.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from pathlib import Path

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

import jaxbelt as jb  # noqa: E402

jb.enable_x64()

from jaxbelt import local_diffusion as ld  # noqa: E402
from jaxbelt.coefficients import Time, function  # noqa: E402
from jaxbelt.flows.tensor import TensorDiffusion  # noqa: E402
from jaxbelt.physics.wave_tables import read_wave_tables  # noqa: E402

TABLES = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "horne_chorus_tables.tgz"
CELLS, DT = (40, 24, 32, 32), 600.0


def fastest(f, *args, repeats):
    """Smallest CPU time of f(*args) [s], after one call that does not count."""
    jax.block_until_ready(f(*args))
    times = []
    for _ in range(repeats):
        began = time.process_time()
        jax.block_until_ready(f(*args))
        times.append(time.process_time() - began)
    return min(times)


def size(tree):
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree) if hasattr(x, "dtype"))


def bandwidth(repeats):
    """Bytes a second of a triad: two arrays beyond the caches read, one written."""
    n = 10_000_000
    f = jax.jit(lambda a, b: jax.lax.fori_loop(0, 5, lambda i, x: (x[1], x[0] + 0.5 * x[1]), (a, b))[1])
    return 5 * 24.0 * n / fastest(f, jnp.ones(n), jnp.ones(n), repeats=repeats)


def multiplication(repeats, dtype, shape=(768, 768, 768)):
    """Multiplications and additions a second of a matrix product (m, k) x (k, n), or of a batch of 1000 smaller ones."""
    m, k, n = shape
    batch = () if m * k * n > 1e7 else (1000,)
    a, b = jnp.full((*batch, m, k), 1e-3, dtype), jnp.full((*batch, k, n), 1e-3, dtype)
    return math.prod(batch) * 2.0 * m * k * n / fastest(jax.jit(jnp.matmul), a, b, repeats=repeats)


def smooth(t, alpha, energy, L, *phi):
    """A tensor of the size of chorus, where there are no tables."""
    aa, pp = 2.0 / (1 + (energy / 0.2) ** 1.5) * jnp.sin(alpha), 0.2 / (1 + (energy / 0.2) ** 1.5) * jnp.sin(alpha) ** 2
    return aa, 0.7 * jnp.cos(alpha) * jnp.sqrt(aa * pp), pp


def by_mlt(t, L, phi, strength):
    """Waves from midnight to dawn, none at dusk."""
    return strength * (1.0 + 0.9 * jnp.cos(phi - 1.0))


def problem(cells, tables, *, shared=True, strength=0.25 * (35 / 100) ** 2):
    grid = ld.grid(L=(3.0, 6.5), alpha=(math.radians(5.0), math.pi / 2), energy=(0.05, 2.0), cells=cells)
    power = strength if shared else function(by_mlt, steady=True, strength=strength)
    if Path(tables).exists():
        waves = read_wave_tables(tables).replace(power=power, density=3.5, outside="edge")
    else:
        waves = function(smooth, steady=True) if shared else ld.LocalTensor(
            *(function(lambda t, *at, i=i: smooth(t, *at)[i], steady=True) for i in range(3)), factor=power)
    prm = ld.Parameters(local=waves, loss_cone=ld.loss_cone(grid), kinetic=ld.kinetic_energy(grid),
                        dll=jb.radial_diffusion.BrautigamAlbert(kp=3.0), dphiphi=6e-3)
    made = ld.problem(grid, prm, outer=0.0, inner=0.0, low_p=0.0, high_p=0.0)
    _, energy, L, phi = grid.local()
    f = jnp.exp(-energy / 0.2) / (energy * (energy + 1.022)) * jnp.sin(grid.alpha()) * jnp.exp(-(((L - 5) / 0.7) ** 2))
    return made, jnp.broadcast_to(f * (1 + 0.5 * jnp.cos(phi)), grid.shape)


def cost_of_flows(made, f, repeats):
    """[(flow, applications a step, CPU s of one, CPU s of its preparation, bytes of what it keeps)], outermost first."""
    grid, clock = made.grid, Time.at(jnp.zeros(()))
    # the middle of the step, and its end on the side of the half steps
    moment = Time(*(jnp.asarray(x) for x in (0.0, 0.0, 0.0, 0.5 * DT, 0.5 * DT)))
    flows = made.flows(made, clock, DT)
    out = []
    for i, flow in enumerate(flows):
        prepare = jax.jit(lambda made, i=i: made.flows(made, clock, DT)[i].prepare(grid, jnp.asarray(DT)))
        state = jax.block_until_ready(prepare(made))
        before = fastest(prepare, made, repeats=1)
        advance = jax.jit(lambda state, f, flow=flow: flow.advance(grid, state, f, moment, jnp.asarray(DT))[0])
        last = i == len(flows) - 1
        # the halves of the outermost flow join where it is exact and steady
        often = 1 if last or (i == 0 and flow.exact and flow.steady) else 2
        out.append((flow, often, fastest(advance, state, f, repeats=repeats), before, size(state)))
        del state
    return out


def solves(flow, grid, itemsize, shared):
    """(blocks' size, bytes moved, multiplications and additions) of one block solve of all planes."""
    a, b = (grid[x].n for x in flow.axes)
    n = min(flow.rows, a) * b
    count = -(-a // min(flow.rows, a))
    planes = grid["L"].n * (1 if shared else grid["phi"].n)
    entries = planes * count * n * n
    cells = math.prod(grid.shape)
    # X once and Y twice; b read, y written and read twice, z and x written and read
    return n, (3 * entries + 7 * cells) * itemsize, 6.0 * count * n * n * grid["L"].n * grid["phi"].n


def flows_part(args, cells):
    triad, rate = bandwidth(args.repeats), {}
    print(f"\ntriad {triad / 1e9:.1f} GB/s", end="")
    for bits in (64, 32):
        with jax.enable_x64(bits == 64):
            dtype = jnp.float64 if bits == 64 else jnp.float32
            rates = multiplication(args.repeats, dtype), multiplication(args.repeats, dtype, (32, 32, 24)), multiplication(
                args.repeats, dtype, (32, 32, 1))
            rate[bits] = rates[0]
            print(f"; {bits} bits: matrix product {rates[0] / 1e9:.1f} GFlop/s, of 32 x 32 x 24 {rates[1] / 1e9:.1f}, of 32 x 32 "
                  f"x 1 {rates[2] / 1e9:.1f}", end="")
    print()
    words = ("ms one", "ms a step", "ns a cell", "prepare s", "keeps MB")
    print(f"\n{'':38s}{'bits':>5s}{'times':>6s}" + "".join(f"{word:>10s}" for word in words))
    for bits, shared in ((64, True), (32, True), (64, False), (32, False)):
        with jax.enable_x64(bits == 64):
            made, f = problem(cells, args.tables, shared=shared)
            transport = 0.0
            for flow, often, seconds, before, kept in cost_of_flows(made, f, args.repeats):
                name = type(flow).__name__ + (f" {flow.axis}" if hasattr(flow, "axis") else "")
                if isinstance(flow, TensorDiffusion):
                    name += ", shared over phi" if shared else ", not shared"
                else:
                    transport += often * seconds
                print(f"{name:38s}{bits:5d}{often:6d}{1e3 * seconds:10.2f}{1e3 * often * seconds:10.2f}"
                      f"{1e9 * often * seconds / f.size:10.1f}{before:10.2f}{kept / 1e6:10.1f}", flush=True)
                if isinstance(flow, TensorDiffusion):
                    n, moved, flops = solves(flow, made.grid, f.dtype.itemsize, shared)
                    for number, when in ((2, "no cell below 0"), (4, "cells below 0")):
                        memory, work = 1e3 * number * moved / triad, 1e3 * number * flops / rate[bits]
                        print(f"    {number} solves ({when}), blocks of {n}: {number * moved / 1e6:.0f} MB: {memory:.2f} ms; "
                              f"{number * flops / 1e9:.2f} GFlop: {work:.2f} ms; measured is "
                              f"{1e3 * seconds / max(memory, work):.1f} times the larger")
            print(f"    transport (all but the tensor): {1e3 * transport:.2f} ms a step of {f.size} cells", flush=True)


def linear_part(args, cells):
    print("\nscaling: a step by the number of cells, (32, 32) in (alpha, ln p), 64 bits, shared and not")
    sizes = [(4, 4), (8, 8), (20, 12), (40, 24), (80, 40)] if cells == CELLS else [(4, 4), (8, 8), (16, 8)]
    for shared in (True, False):
        rows = []
        for pair in sizes if shared else sizes[:-1]:
            made, f = problem((*pair, *cells[2:]), args.tables, shared=shared)
            costs = cost_of_flows(made, f, max(3, args.repeats // 3))
            parts = [sum(o * s for x, o, s, _, _ in costs if isinstance(x, TensorDiffusion) is local) for local in (False, True)]
            rows.append((f.size, *parts))
            print(f"{'shared' if shared else 'not shared':12s}{pair[0]:4d} x {pair[1]:3d}: {f.size:9d} cells, transport "
                  f"{1e9 * parts[0] / f.size:6.1f} ns a cell, tensor {1e9 * parts[1] / f.size:6.1f}", flush=True)
        x, *y = np.log(np.array(rows)).T
        print(f"slope of ln(time) over ln(cells), a factor of {rows[-1][0] / rows[0][0]:.0f} in cells: transport "
              f"{np.polyfit(x, y[0], 1)[0]:.3f}, tensor {np.polyfit(x, y[1], 1)[0]:.3f}, together "
              f"{np.polyfit(x, np.logaddexp(y[0], y[1]), 1)[0]:.3f}")


def gradient_part(args, cells, steps=12):
    made, f = problem((10, 8, *cells[2:]), args.tables)

    def final(f, strength):
        prm = made.parameters
        local = prm.local.replace(power=strength) if hasattr(prm.local, "power") else prm.local
        at = made.replace(parameters=prm.replace(local=local))
        return jnp.sum(jb.solve(at, f, t=[0.0, steps * DT], dt=DT).f[-1] * made.grid.volumes)

    forward, both = jax.jit(final), jax.jit(jax.value_and_grad(final, argnums=(0, 1)))
    strength = jnp.asarray(0.25 * (35 / 100) ** 2)
    a, b = (fastest(g, f, strength, repeats=max(3, args.repeats // 3)) for g in (forward, both))
    print(f"\ngradient of a content in f0 ({f.size} numbers) and in the power of the waves, {steps} steps: {1e3 * a:.0f} ms "
          f"without, {1e3 * b:.0f} ms with: {b / a:.1f} times")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=("flows", "linear", "gradient", []))
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--tables", default=str(TABLES), help="archive or folder of chorus tables")
    parser.add_argument("--small", action="store_true", help="(10, 8, 32, 32) cells: a check of the script")
    args = parser.parse_args()
    cells = (10, 8, 32, 32) if args.small else CELLS
    print(f"cells {cells}, dt = {DT:g} s, {'chorus tables' if Path(args.tables).exists() else 'a smooth tensor'}; "
          f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for part in args.parts or ("flows", "linear", "gradient"):
        dict(flows=flows_part, linear=linear_part, gradient=gradient_part)[part](args, cells)


if __name__ == "__main__":
    main()
