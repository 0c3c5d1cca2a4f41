"""What a gradient costs: forward run, reverse mode and forward mode, time a step and temporary memory.

    python experiments/bench/gradient.py [--long]

80 x 16 cells, 1024 steps in one interval: radial diffusion; with loss and closed walls; with the drift around. Derivative in the
amplitude of D_LL of sum f^2 at the end. --long: 200 x 128 cells over seven days at one-minute steps (10,080) as well.
Limit: a reverse pass runs the steps twice (the state is kept before every block of steps only) and solves the transposed lines
once, so it cannot cost less than about three forward runs.
"""

import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

import jaxbelt as jb
from jaxbelt import drift_diffusion as dd

jb.enable_x64()
DAY = 86400.0


def functions(t, dt):
    def loss(a, problem, f0):
        prm = problem.parameters
        prm = prm.replace(dll=prm.dll.replace(log_amplitude=a))
        return jnp.sum(jb.solve(problem.replace(parameters=prm), f0, t=t, dt=dt).f[-1] ** 2)

    def along(a, problem, f0):
        return jax.jvp(lambda a: loss(a, problem, f0), (a,), (jnp.ones(()),))

    return jax.jit(loss), jax.jit(jax.value_and_grad(loss)), jax.jit(along)


def best(run, args, repeats):
    jax.block_until_ready(run(*args))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(run(*args))
        times.append(time.perf_counter() - start)
    return min(times)


def report(name, cells, t, dt, repeats, walls=(1e-3, 1.0), **parameters):
    grid = dd.grid(L=(2.0, 7.0), cells=cells)
    L, phi = grid.mesh()
    f0 = jnp.asarray(np.exp(-0.5 * ((L - 4.5) / 0.6) ** 2) * (1 + 0.5 * np.cos(phi)) + 1e-3)
    dll = jb.radial_diffusion.BrautigamAlbert(kp=3.0, reference_l=5.0)
    problem = dd.problem(grid, dd.Parameters(dll=dll, **parameters), inner=walls[0], outer=walls[1])
    steps = round((t[-1] - t[0]) / dt)
    args = jnp.asarray(0.1), problem, f0
    compiled = [f.lower(*args).compile() for f in functions(t, dt)]
    forward, reverse, along = (1e6 * best(f, args, repeats) / steps for f in compiled)
    memory = [f.memory_analysis().temp_size_in_bytes / 1e6 for f in compiled]
    print(f"{name:26s} {cells[0]:3d} x {cells[1]:3d}, {steps:5d} steps: forward {forward:7.1f} us a step; reverse {reverse:7.1f} "
          f"({reverse / forward:.1f} x), {memory[1]:.2f} MB of temporaries; jvp {along:7.1f} ({along / forward:.1f} x), "
          f"{memory[2]:.2f} MB; the gradient in {reverse * steps / 1e6:.3f} s", flush=True)


def main():
    drift = dict(kinetic=jb.dipole.KineticEnergy(mu=float(jb.dipole.mu_of_energy(1.0, 5.0))))
    t = [0.0, 1024 * 600.0]
    report("radial", (80, 16), t, 600.0, 21)
    report("radial, loss, closed walls", (80, 16), t, 600.0, 21, ("no flux", "no flux"), lifetime=10.0)
    report("radial and drift around", (80, 16), t, 600.0, 11, **drift)
    if "--long" in sys.argv:
        report("radial", (200, 128), [0.0, 7 * DAY], 60.0, 1)
        report("radial and drift around", (200, 128), [0.0, 7 * DAY], 60.0, 1, **drift)


if __name__ == "__main__":
    main()
