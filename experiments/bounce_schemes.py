"""The bounce in (chi, p) by the conservative remap and by finite volumes, against exact tracing.

    python experiments/bounce_schemes.py [--cells 32 64 128] [--out bounce_schemes.png]

One closed plane (psi = 0.5, mu = 8, reflecting walls that no orbit of the test reaches), an off-centre blob over one
small-amplitude period, small and deep. Printed: L1 error relative to the content, error of the energy, minimum, steps;
set-up time, bytes a plane, time a cell and step; and 1000 steps of the remap from a rough state.
"""

import argparse
import math
import time

import jax
import jax.numpy as jnp
import numpy as np

import jaxbelt as jb
from jaxbelt.coefficients import Time
from jaxbelt.flows import Remap, Transport
from jaxbelt.flows.remap_tables import gauss_points
from jaxbelt.flows.transport import rate
from jaxbelt.grid import Axis, Grid
from jaxbelt.physics import bounce_map, field_lines

PSI, MU = 0.5, 8.0
PERIOD = 2 * math.pi / (3 * math.sqrt(MU) * PSI**2.5)


def plane(n, chi_max, p_max):
    u = np.linspace(-1, 1, n + 1)
    return Grid((Axis.nodes("mu", [MU]), Axis.cells("psi", [PSI - 1e-3, PSI + 1e-3]),
                 Axis.cells("chi", chi_max * np.sinh(u) / np.sinh(1)), Axis.cells("p", p_max * np.sinh(u) / np.sinh(1))))


def field(chi):
    return np.asarray(field_lines.from_potential(chi, PSI, outside="extrapolate").B)


def averages(grid, start, t, points=4):
    """Cell averages of the state at t, traced back to the start."""
    a, w = gauss_points(grid["chi"].faces, points)
    b, _ = gauss_points(grid["p"].faces, points)
    shape = (grid["chi"].n, grid["p"].n, points, points)
    chi, p = (np.broadcast_to(x, shape).ravel() for x in (a[:, None, :, None], b[None, :, None, :]))
    if t:
        cap = float(bounce_map.energy_cap(grid)[0, 0])
        chi, p, _ = bounce_map.departure(chi, p, PSI, MU, t, wall=grid["chi"].faces[-1], e_cap=cap, reflect=True)
    return np.einsum("ijkl,k,l", np.asarray(start(np.asarray(chi), np.asarray(p))).reshape(shape), w, w)


def run(grid, make, f, dt, steps):
    step = jax.jit(lambda flow, f: flow.advance(grid, flow.prepare(grid, dt), f, Time.at(0.0), dt)[0])
    flow = make()
    for _ in range(steps):
        f = step(flow, f)
    return jax.block_until_ready(f)


def stream(grid):
    H = 0.5 * (field(grid["chi"].faces)[:, None] * grid["p"].faces) ** 2 + MU * field(grid["chi"].faces)[:, None]
    return -jnp.asarray(np.minimum(H, bounce_map.energy_cap(grid)[0, 0]))[None, None]


def compare(name, n, chi_max, p_max, start, periods, out=None):
    grid = plane(n, chi_max, p_max)
    V = np.outer(grid["chi"].measure, grid["p"].measure)
    H = 0.5 * (field(grid["chi"].centers)[:, None] * grid["p"].centers) ** 2 + MU * field(grid["chi"].centers)[:, None]
    t = periods * PERIOD
    f0, exact = (averages(grid, start, x) for x in (0.0, t))
    f = jnp.asarray(f0)[None, None]
    fastest = float(rate(grid, stream(grid), ("chi", "p"))) * t / 0.8
    schemes = {f"remap T_b/{k}": (lambda k=k: Remap(axes=("chi", "p"), tables=bounce_map.tables(grid, PERIOD / k,
                                  planet="reflecting")), PERIOD / k, round(periods * k)) for k in (8, 4)}
    most = int(fastest / 8 / periods) + 2
    schemes["finite volume"] = (lambda: Transport(axes=("chi", "p"), stream=stream(grid), substeps=most), PERIOD / 8,
                                round(8 * periods))
    results = [exact]
    for label, (make, dt, steps) in schemes.items():
        g = np.asarray(run(grid, make, f, dt, steps))[0, 0]
        results.append(g)
        taken = int(math.ceil(fastest)) if label == "finite volume" else steps
        print(f"{name:12s} {n:4d}  {label:14s} L1 {np.sum(V * abs(g - exact)) / np.sum(V * exact):.2e}  energy "
              f"{np.sum(V * H * g) / np.sum(V * H * f0) - 1:+.1e}  min {g.min():+.0e}  steps {taken}", flush=True)
    if out:
        import matplotlib.pyplot as plt

        fig, axes = plt.subplots(1, 4, figsize=(15, 4), sharey=True, constrained_layout=True)
        for ax, g, label in zip(axes, results, ["exact", *schemes]):
            ax.pcolormesh(grid["chi"].faces, grid["p"].faces, g.T, vmin=0, vmax=1)
            ax.set(title=f"{label}, {n} x {n}", xlabel="chi")
        axes[0].set_ylabel("p")
        fig.savefig(out, dpi=80)


def cost(n, dt, steps=1000):
    """Set-up, memory, speed, and a rough state on a closed plane over many steps."""
    grid = Grid((Axis.nodes("mu", np.linspace(2.0, 20.0, 4)), Axis.cells("psi", np.linspace(0.5, 0.9, 5)),
                 *plane(n, math.sqrt(0.5), 44.0).axes[2:]))
    bounce_map.tables(plane(n, math.sqrt(0.5), 44.0), dt, planet="reflecting")
    begin = time.perf_counter()
    tables = bounce_map.tables(grid, dt, planet="reflecting")
    setup = (time.perf_counter() - begin) / 16
    flow = jax.device_put(Remap(axes=("chi", "p"), tables=tables))
    live = jnp.asarray(tables.live).reshape(4, 4, n, 1)
    V = np.broadcast_to(grid.volumes, grid.shape)
    f = jnp.where(live, jnp.asarray(np.random.default_rng(0).random(grid.shape) ** 8), 0.0)
    flat = jnp.where(live & jnp.ones(grid.shape, bool), 1.0, 0.0)

    def measures(f):
        return jnp.sum(V * f**2), -jnp.sum(V * jnp.where(f > 0, f * jnp.log(jnp.where(f > 0, f, 1.0)), 0.0))

    @jax.jit
    def many(flow, f):
        def body(f, _):
            new = flow.advance(grid, flow.prepare(grid, dt), f, Time.at(0.0), dt)[0]
            (a, s), (b, r) = measures(f), measures(new)
            return new, ((b - a) / a, (r - s) / jnp.abs(s), jnp.min(new))
        return jax.lax.scan(body, f, None, length=steps)

    end, (l2, entropy, low) = many(flow, f)
    still, _ = many(flow, flat)
    one = jax.jit(lambda flow, f: flow.advance(grid, flow.prepare(grid, dt), f, Time.at(0.0), dt)[0])
    jax.block_until_ready(one(flow, end))
    begin = time.perf_counter()
    for _ in range(20):
        end = one(flow, end)
    jax.block_until_ready(end)
    spent = (time.perf_counter() - begin) / 20 / f.size
    size = sum(x.nbytes for x in (*tables.index, *tables.weight)) / 16
    print(f"{n} x {n}: set-up {1e3 * setup:.0f} ms a plane, {size / 1e6:.2f} MB a plane, {1e9 * spent:.0f} ns a cell and step")
    print(f"   {steps} steps: number {float(grid.content(end) / grid.content(f)) - 1:+.0e}, flat state "
          f"{float(jnp.max(jnp.abs(still - flat))):.0e}, minimum {float(jnp.min(low)):.0e}, largest rise of L2 "
          f"{float(jnp.max(l2)):+.0e}, least rise of entropy {float(jnp.min(entropy)):+.0e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--out", default="bounce_schemes.png")
    args = parser.parse_args()
    jb.enable_x64()

    def small(chi, p):
        return np.exp(-0.5 * (((chi - 0.012) / 0.004) ** 2 + (p / 0.6) ** 2))

    def deep(chi, p):
        return np.exp(-0.5 * (((chi - 0.12) / 0.06) ** 2 + ((p - 3.0) / 3.0) ** 2))

    compare("small, 1 T_b", 64, 0.035, 0.035 * 3 * math.sqrt(MU) / PSI**3.5 * 1.1, small, 1)
    for n in args.cells:
        compare("deep, 1 T_b", n, math.sqrt(1 - PSI), 40.0, deep, 1, args.out if n == args.cells[-1] else None)
    cost(24, PERIOD / 4)
    cost(64, PERIOD / 8, 50)


if __name__ == "__main__":
    main()
