"""Speed of the line solves, per line of 200 cells, side by side with spacepy's C Crank-Nicolson kernel in one run.

    python experiments/bench/line_solve.py            (needs spacepy 0.7; uses two threads for the last table)

Every figure stands with its accuracy: the error of one simulated run of the heat-equation case n = 4 in which both schemes take
the same steps. Limit: a prefactored solve reads and writes each cell twice (32 bytes) and does 3 multiply-adds, so a core with
30 GB/s from its L2 cache needs about 0.2 us a line of 200 cells when all arrays stream, less when a row stays in registers.
"""

import ctypes
import os
import time

os.environ["XLA_FLAGS"] = ("--xla_force_host_platform_device_count=2 --xla_cpu_multi_thread_eigen=false "
                           "intra_op_parallelism_threads=1")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

import jaxbelt as jb  # noqa: E402
from jaxbelt import drift_diffusion as dd  # noqa: E402
from jaxbelt import linear  # noqa: E402
from jaxbelt.coefficients import Time  # noqa: E402
from jaxbelt.flows import LineDiffusion  # noqa: E402
from jaxbelt.grid import Axis, Grid  # noqa: E402

jb.enable_x64()
N, REPEAT = 200, 200


def best(f, *args, rounds=9):
    jax.block_until_ready(f(*args))
    times = []
    for _ in range(rounds):
        t = time.perf_counter()
        jax.block_until_ready(f(*args))
        times.append(time.perf_counter() - t)
    return min(times)


def loop(step):
    """`step` applied REPEAT times to f inside one compiled call."""
    return jax.jit(lambda f, *a: jax.lax.fori_loop(0, REPEAT, lambda i, f: step(f, *a), f))


class Spacepy:
    """spacepy.lib.solve_cn through ctypes, pointers converted once."""

    def __init__(self, L, d0, dt):
        from spacepy import lib

        pointer = ctypes.POINTER(ctypes.c_double)
        self.f, h = np.zeros(L.size), L[1] - L[0]
        self.keep = [np.ascontiguousarray(a) for a in (L, d0 * (L - h / 2) ** 4, d0 * (L + h / 2) ** 4, np.zeros(L.size))]
        L, m, p, s = (a.ctypes.data_as(pointer) for a in self.keep)
        self.args = (self.f.ctypes.data_as(pointer), L, m, m, p, p, ctypes.c_double(dt), ctypes.c_int(N), s)
        self.solve = lib.solve_cn

    def steps(self, count):
        for _ in range(count):
            self.solve(*self.args)
        return self.f


def accuracy(d0=1e-3, days=60.0, steps=120):
    """Largest error of the k = 1 sine in 1/L after `days`, relative to its peak then: (spacepy, jaxbelt)."""
    L1, L2 = 1.0, 7.0
    lam = np.pi / (1 / L1 - 1 / L2)
    nodes = np.linspace(L1, L2, N)
    shape = lambda L: np.sin(lam * (1 / L1 - 1 / L))  # noqa: E731
    cn = Spacepy(nodes, d0, days / steps)
    cn.f[:] = shape(nodes)
    end = np.exp(-d0 * lam**2 * days)
    theirs = np.max(np.abs(cn.steps(steps) - shape(nodes) * end)) / end
    grid = dd.grid(L=(L1, L2), cells=N, spacing="linear")
    problem = dd.problem(grid, dd.Parameters(dll=jb.radial_diffusion.PowerLaw(d0=d0, power=4.0)), inner=0.0, outer=0.0)
    f = jb.solve(problem, shape(grid["L"].centers), t=[0, days * 86400], dt=days * 86400 / steps).f[-1]
    return theirs, float(np.max(np.abs(f - shape(grid["L"].centers) * end)) / end)


def case(lines, shared):
    grid = Grid((Axis.cells("L", np.linspace(1.0, 7.0, N + 1)), Axis.nodes("line", np.arange(lines))))
    width = 1 if shared else lines
    up = jnp.asarray(np.linspace(1, 7, N + 1)[:, None] ** 2 * (1 + 0.1 * np.linspace(0, 1, width)[None]))
    flow = LineDiffusion(axis="L", up=up, lower=0.0, upper=0.0)
    f = jnp.asarray(1.0 + np.sin(np.linspace(0, 3, N))[:, None] * np.ones((1, lines)))
    return grid, flow, f


def steps_of(lines, shared, positive=True):
    grid, flow, f = case(lines, shared)
    flow = LineDiffusion(axis="L", up=flow.up, lower=0.0, upper=0.0, positive=positive)
    state = flow.prepare(grid, 0.1)
    return loop(lambda f, state: flow.advance(grid, state, f, Time.at(0.0), 0.1)[0]), f, state


def main():
    L = np.linspace(1.0, 7.0, N)
    cn = Spacepy(L, 1e-3, 0.01)
    cn.f[:] = np.sin(np.linspace(0, np.pi, N))
    reference = best(lambda: cn.steps(2000), rounds=7) / 2000
    theirs, ours = accuracy()
    print(f"jax {jax.__version__}, numpy {np.__version__}; one thread, float64, lines of {N} cells")
    print(f"error of one run, same steps: spacepy {theirs:.2e}, jaxbelt {ours:.2e}\n")
    print(f"{'':44s}{'lines':>6s}{'us/line':>9s}{'ratio':>7s}")
    print(f"{'spacepy 0.7 solve_cn (rebuilds, one line)':44s}{1:6d}{1e6 * reference:9.3f}{1:7.1f}")
    for lines in (128, 256, 512, 1024):
        for shared in (True, False):
            grid, flow, f = case(lines, shared)
            line = flow._line(grid)
            name = "shared factors" if shared else "factors per line"

            def show(what, seconds, lines=lines):
                per = seconds / REPEAT / lines
                print(f"{what:44s}{lines:6d}{1e6 * per:9.3f}{reference / per:7.1f}", flush=True)

            factors = linear.factor(line, 0.1)
            show(f"bare solve, {name}", best(loop(lambda f, k: linear.solve(k, f)), f, factors))
            show(f"D rebuilt every step, {name}",
                 best(loop(lambda f, x: linear.solve(linear.factor(x, 0.1 + 1e-9 * f[0, 0]), f)), f, line))
            show(f"TR-BDF2 step, positive (default), {name}", best(*steps_of(lines, shared)))
            show(f"TR-BDF2 step, no positivity, {name}", best(*steps_of(lines, shared, positive=False)))
    lines = 512
    run, f, state = steps_of(lines, True)
    f = f.at[:].set(0.0).at[N // 2].set(1.0)
    show(f"first {REPEAT} steps from a delta", best(run, f, state))

    print("\ntwo threads: lines sharded over two host devices")
    mesh = jax.make_mesh((2,), ("line",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec(None, "line")
    grid, flow, f = case(512, True)
    state = flow.prepare(grid, 0.1)
    step = jax.jit(jax.shard_map(lambda f: jax.lax.fori_loop(
        0, REPEAT, lambda i, f: flow.advance(grid, state, f, Time.at(0.0), 0.1)[0], f), mesh=mesh, in_specs=spec, out_specs=spec,
        check_vma=False))
    two = jax.device_put(jnp.concatenate([f, f], axis=1), jax.sharding.NamedSharding(mesh, spec))
    one = best(*steps_of(512, True)) / 512
    both = best(step, two) / 1024
    print(f"default step: one {1e6 * one / REPEAT:.3f}, two {1e6 * both / REPEAT:.3f} us a line: {one / both:.2f} times")


if __name__ == "__main__":
    main()
