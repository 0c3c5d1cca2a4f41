"""Wall time of one simulated day at 200 x 128 cells: drift, radial diffusion at 3-h Kp, loss; no convection.

    python experiments/bench/simulated_day.py

Accuracy beside the speed: the L1 difference from the same day at ten times smaller steps. Limit: a step reads and writes the
25,600 cells (205 kB) in about ten passes; at 30 GB/s from L2 that is 0.14 ms, the FFTs add about 20 flops a cell.
"""

import time

import jax
import numpy as np

import jaxbelt as jb
from jaxbelt import drift_diffusion as dd

jb.enable_x64()


def main():
    grid = dd.grid(L=(2.0, 7.0), cells=(200, 128))
    kp = jb.drivers.kp_series([2.0, 2.3, 6.7, 6.3, 5.7, 6.3, 6.7, 6.0])
    mu = float(jb.dipole.mu_of_energy(1.0, 5.0))
    prm = dd.Parameters(dll=jb.radial_diffusion.BrautigamAlbert(kp=kp), kinetic=jb.dipole.KineticEnergy(mu=mu), dphiphi=0.01,
                        lifetime=jb.losses.KpLifetime(kp=kp))
    problem = dd.problem(grid, prm, inner=0.0, outer=1.0)
    L, phi = grid.mesh()
    f0 = np.exp(-((L - 4.8) ** 2)) * (1 + 0.5 * np.cos(phi)) + 0.01
    times = np.arange(0, 86401.0, 10800.0)
    fine = jb.solve(problem, f0, t=times, dt=6.0).f[-1]
    for dt in (60.0, 300.0, 600.0):
        start = time.perf_counter()
        f = jax.block_until_ready(jb.solve(problem, f0, t=times, dt=dt).f)
        first = time.perf_counter() - start
        runs = []
        for _ in range(7):
            start = time.perf_counter()
            jax.block_until_ready(jb.solve(problem, f0, t=times, dt=dt).f)
            runs.append(time.perf_counter() - start)
        error = float(np.mean(np.abs(f[-1] - fine)) / np.mean(fine))
        print(f"dt {dt:5.0f} s: {min(runs):.3f} s a simulated day ({86400 / dt:.0f} steps, "
              f"{1e3 * min(runs) * dt / 86400:.3f} ms a step), first call with compilation "
              f"{first:.1f} s; L1 difference from dt = 6 s: {error:.1e}")


if __name__ == "__main__":
    main()
