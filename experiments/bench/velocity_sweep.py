"""A sweep of (nu_par, nu_xi, h) of the velocity equation, against a loop over scipy's banded solver, in one run.

    python experiments/bench/velocity_sweep.py [RUNS]

Both take the same cells, conductances and number of steps; scipy's loop is Crank-Nicolson with the banded matrix handed over
ready (one `solve_banded` a step and run), ours TR-BDF2 kept positive, its factors made once a run. Errors against the exact
kernel.
"""

from __future__ import annotations

import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import solve_banded

import jaxbelt as jb

jb.enable_x64()

from jaxbelt import velocity  # noqa: E402

CELLS, STEPS, T, SIGMA = 512, 1000, 10.0, 0.3
CHUNK = 250


def exact(v, c):
    wide = SIGMA**2 + 2 * c * T
    return SIGMA / np.sqrt(wide) * np.exp(-((np.log(v) + 3 * c * T) ** 2) / (2 * wide))


def main(runs=1000):
    grid = velocity.grid(v=(0.01, 100.0), cells=CELLS)
    v = grid["v"].centers
    g0 = np.exp(-np.log(v) ** 2 / (2 * SIGMA**2))
    rng = np.random.default_rng(0)
    sets = np.stack([rng.uniform(1, 4, runs), rng.uniform(0.1, 2, runs), rng.uniform(0.2, 2, runs)], axis=1)
    rates = np.asarray(jb.mixing.diffusion_rate(*sets.T))
    problem = velocity.problem(grid, velocity.Parameters(nu_par=1.0, nu_xi=1.0, h=1.0))

    def one(p):
        prm = velocity.Parameters(nu_par=p[0], nu_xi=p[1], h=p[2])
        return jb.solve(problem.replace(parameters=prm), g0, t=[0.0, T], dt=T / STEPS).f[-1]

    many = jax.jit(lambda sets: jax.lax.map(one, sets, batch_size=CHUNK))
    many(jnp.asarray(sets)).block_until_ready()                # compile
    start = time.perf_counter()
    ours = np.asarray(many(jnp.asarray(sets)).block_until_ready())
    ours_s = time.perf_counter() - start

    dx = np.log(grid["v"].faces[-1] / grid["v"].faces[0]) / CELLS
    base = 1.5 * grid["v"].faces ** 3 / np.sinh(1.5 * dx)
    base[[0, -1]] = 0.0
    few = 5                                                    # scipy's time is the same for every run
    start = time.perf_counter()
    theirs = []
    for c in rates[:few]:
        k = 0.5 * (T / STEPS) * c
        lower, upper, vol = k * base[:-1] / grid["v"].measure, k * base[1:] / grid["v"].measure, grid["v"].measure
        matrix = np.zeros((3, CELLS))
        matrix[0, 1:], matrix[1], matrix[2, :-1] = -upper[:-1], 1 + lower + upper, -lower[1:]
        g = g0.copy()
        for _ in range(STEPS):
            b = g.copy()
            b[1:-1] += upper[1:-1] * (g[2:] - g[1:-1]) - lower[1:-1] * (g[1:-1] - g[:-2])
            b[0] += upper[0] * (g[1] - g[0])
            b[-1] -= lower[-1] * (g[-1] - g[-2])
            g = solve_banded((1, 1), matrix, b, check_finite=False)
        theirs.append(g)
        assert abs(vol @ g / (vol @ g0) - 1) < 1e-9
    scipy_s = (time.perf_counter() - start) / few * runs
    want = np.stack([exact(v, c) for c in rates])
    err = np.max(np.abs(ours - want).sum(1) / want.sum(1))
    err_scipy = np.max(np.abs(np.stack(theirs) - want[:few]).sum(1) / want[:few].sum(1))
    per = 1e9 * ours_s / (runs * CELLS * STEPS)
    print(f"{runs} sets x {CELLS} cells x {STEPS} steps in chunks of {CHUNK}: {ours_s:.2f} s ({per:.2f} ns a cell and step), "
          f"L1 error at most {err:.1e}")
    print(f"scipy solve_banded loop ({few} sets timed): {scipy_s:.1f} s for all, error {err_scipy:.1e}; "
          f"ratio {scipy_s / ours_s:.1f}")
    print("limit: a TR-BDF2 step reads and writes each value in two solves of two sweeps: 64 bytes a cell, from cache")


if __name__ == "__main__":
    main(*(int(x) for x in sys.argv[1:]))
