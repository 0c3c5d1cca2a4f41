"""A day of chorus at L = 4.5 with the whole tensor: grids against a fine grid and against particles, and what D_ap does.

    python experiments/chorus_tensor.py grids     [--fine 120]
    python experiments/chorus_tensor.py particles [--n 1000000] [--dt 60] [--fine 120] [--bare]
    python experiments/chorus_tensor.py cross     [--out chorus_tensor.png] [--cells 60]

Four cells in ln p for one in alpha, but where another shape is named: the slope D_ap/D_aa of the tensor is .02 to .3, and links
of equal cells would reach over half of all pitch angles.

Tables of bounce-averaged chorus coefficients (PADIE output, --tables: an archive or a folder, by default in the data beside the
project) for 100 pT, taken here as 35 pT at a quarter of all local times, f_pe/f_ce = 3.5. 0.1 to 3 MeV, 5 to 90 degrees. At the
start an exponential spectrum (0.2 MeV) over p^2, sin(alpha) - sin(5 degrees); that is also what the lowest energy is held at;
empty below 5 degrees; no flux at 3 MeV.

grids: errors of cell averages by cells and by dt (cells fixed), content with no-flux walls, smallest f. particles:
the same tensor, read by `LabelTensor`, derivatives included, with nothing of the grid; averages over bins, in standard errors and
as they are, at dt, 2 dt and 4 dt. cross: f with and without D_ap, a picture and a table.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from functools import lru_cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jaxbelt as jb

jb.enable_x64()

from jaxbelt import local_diffusion as ld  # noqa: E402
from jaxbelt import montecarlo as mc  # noqa: E402
from jaxbelt.coefficients import function  # noqa: E402
from jaxbelt.physics.invariants import energy_of_momentum  # noqa: E402
from jaxbelt.physics.wave_tables import read_wave_tables  # noqa: E402

TABLES = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "horne_chorus_tables.tgz"
DAY, L, ENERGY, LOWEST = 86400.0, 4.5, (0.1, 3.0), math.radians(5.0)
BINS = (6, 10)
LNP = tuple(0.5 * math.log(e * (e + 1.02199790)) for e in ENERGY)


def waves(path, cross=True):
    table = read_wave_tables(path).replace(power=0.25 * (35 / 100) ** 2, density=3.5)
    return table if cross else table.replace(correlation=jnp.zeros_like(table.correlation))


def start(alpha, lnp):
    """f at the start, 1 at 90 degrees and the lowest energy."""
    def spectrum(energy):
        return jnp.exp(-energy / 0.2) / (energy * (energy + 1.02199790))
    return spectrum(energy_of_momentum(jnp.exp(lnp))) / spectrum(ENERGY[0]) * (jnp.sin(alpha) - math.sin(LOWEST)) / (
        1 - math.sin(LOWEST))


def seeds(t, alpha, *rest):
    return start(alpha, LNP[0])


@lru_cache
def run(cells, tables, *, cross=True, dt=900.0, closed=False, timed=False, outputs=4, aspect=4):
    """(grid, f at the outputs, wall time of the solve after compilation or None)."""
    grid = ld.grid(L_ref=L, alpha=(LOWEST, math.pi / 2), energy=ENERGY, cells=(cells, aspect * cells))
    walls = {} if closed else dict(low_alpha=0.0, low_p=function(seeds))
    problem = ld.problem(grid, ld.Parameters(local=waves(tables, cross)), **walls)
    f0 = jnp.broadcast_to(start(grid.centers("alpha"), grid.centers("lnp")), grid.shape)
    times = np.linspace(0.0, DAY, outputs + 1)
    f, seconds = np.asarray(jb.solve(problem, f0, t=times, dt=dt).f), None
    if timed:
        began = time.perf_counter()
        jax.block_until_ready(jb.solve(problem, f0, t=times, dt=dt).f)
        seconds = time.perf_counter() - began
    return grid, f, seconds


def blocks(grid, f, shape):
    """(averages over bins of whole cells, the edges of those in alpha and ln p)."""
    def total(y):
        a, b = (n // m for n, m in zip(grid.shape, shape))
        return np.broadcast_to(y, grid.shape).reshape(shape[0], a, shape[1], b).sum((1, 3))
    edges = tuple(grid[x].faces[::grid[x].n // m] for x, m in zip(("alpha", "lnp"), shape))
    return total(f * grid.volumes) / total(grid.volumes), edges


def errors(f, fine, volume):
    """L1 over the content; the largest error over the largest f; of ln f: mean and largest, and those where f > 1e-6 of it."""
    with np.errstate(divide="ignore"):
        logs = np.abs(np.log(f) - np.log(fine))
    most = fine > 1e-6 * fine.max()
    off = np.abs(f - fine)
    return (np.sum(off * volume) / np.sum(fine * volume), off.max() / fine.max(), logs.mean(), logs.max(), logs[most].mean(),
            logs[most].max())


HEAD = f"{'':24s}{'L1':>9s}{'max':>9s}{'mean ln':>9s}{'max ln':>9s}{'  f > 1e-6 of the largest: mean ln, max ln':s}"


def row(name, values, more=""):
    print(f"{name:24s}" + "".join(f"{v:9.2e}" for v in values) + more, flush=True)


def grids(args):
    def solved(n, dt=900.0, **how):
        return run(n, args.tables, dt=dt, **how)

    print(f"errors after a day against {args.fine} x {4 * args.fine} cells (averages over the coarse cells), dt = 900 s\n{HEAD}")
    fine_grid, fine, _ = solved(args.fine)
    for n, aspect in ((20, 1), (40, 1), (60, 1), (120, 1), (10, 4), (20, 4), (30, 4), (40, 4), (60, 4)):
        if n * aspect < 4 * args.fine and args.fine % n == 0:
            grid, f, seconds = solved(n, timed=True, aspect=aspect)
            reference, _ = blocks(fine_grid, fine[-1], (n, aspect * n))
            row(f"{n} x {aspect * n}", errors(f[-1], reference, np.asarray(grid.volumes)),
                f"   least f {f.min():8.1e}, {1e3 * seconds / 96:.2f} ms a step")
    print(f"least f on the fine grid {fine.min():.1e}")
    print(f"\nerrors of the step: 30 x 120 cells against dt = 100 s\n{HEAD}")
    grid, exact, _ = solved(30, 100.0)
    for dt in (21600.0, 7200.0, 3600.0, 1800.0, 900.0, 450.0):
        f = solved(30, dt)[1]
        row(f"dt = {dt:g} s", errors(f[-1], exact[-1], np.asarray(grid.volumes)), f"   least f {f.min():8.1e}")
    print("\ncontent with no-flux walls: largest relative change in a day")
    for n in (20, 30, 60):
        grid, f, _ = solved(n, 1800.0, closed=True)
        content = np.sum(f * np.asarray(grid.volumes), axis=(1, 2))
        print(f"{n} x {4 * n}: {np.abs(content / content[0] - 1).max():.1e}, least f {f.min():.1e}", flush=True)


def followed(args, table, dt, n, key, edges, lattice):
    """(mean, standard error) of f in the bins after a day, from n particles that start there; wall time."""
    began, k = time.perf_counter(), jax.random.key(key)
    alpha, x, measure = mc.sample_labels(k, n, alpha=(LOWEST, math.pi / 2), lnp=LNP)
    path = mc.local_walk(alpha, x, k, tensor=mc.LabelTensor(waves=table, L_ref=L), dt=dt, steps=round(DAY / dt), L=L,
                         weight=jnp.ones(n), alpha_range=LOWEST, lnp_range=LNP, low_alpha=0.0, low_p=function(seeds),
                         chunks=max(1, n // 50_000), lattice=lattice)
    mean, error = mc.local_average(alpha, x, measure, path.weight * start(path.alpha, path.lnp) + path.gain, edges)
    return np.asarray(mean), np.asarray(error), time.perf_counter() - began


def particles(args):
    table = waves(args.tables, not args.bare)
    grid, f, _ = run(args.fine, args.tables, cross=not args.bare)
    fine, edges = blocks(grid, f[-1], BINS)
    others = {}
    for cells in (30, 60):
        grid, f, _ = run(cells, args.tables, cross=not args.bare)
        others[cells] = blocks(grid, f[-1], BINS)[0]
    n = args.n // 50_000 * 50_000 or args.n
    print(f"{n} particles against {args.fine} x {4 * args.fine} cells, {BINS[0]} x {BINS[1]} bins in (alpha, ln p)"
          f"{', without D_ap' * args.bare}")
    kept = None
    lattice = (args.lattice, args.lattice)
    for number, (dt, share, nodes) in enumerate(((4 * args.dt, 1, lattice), (2 * args.dt, 1, lattice), (args.dt, 1, lattice),
                                                 (2 * args.dt, 0.1, None))):
        m = int(share * n) // 50_000 * 50_000 or int(share * n)
        mean, error, seconds = followed(args, table, dt, m, number, edges, nodes)
        z = (mean - fine) / error
        how = f"lattice of {nodes[0]} x {nodes[1]}" if nodes else "tables read at every step"
        off, spread = 100 * np.abs(mean / fine - 1), 100 * error / mean
        print(f"dt = {dt:g} s, {m} particles, {how}: chi^2/bins {np.mean(z**2):.2f}, worst bin {np.abs(z).max():.1f} standard "
              f"errors, mean {z.mean():+.2f}; standard error of f: median {np.median(spread):.2f} %, largest "
              f"{spread.max():.1f} %; difference: median {np.median(off):.2f} %, largest {off.max():.1f} %; "
              f"{1e9 * seconds / (m * DAY / dt):.0f} ns a particle and step", flush=True)
        if dt == args.dt:
            kept = mean, error, z
    mean, error, z = kept
    for cells, coarse in others.items():
        y = (mean - coarse) / error
        print(f"{cells} x {4 * cells} cells: chi^2/bins {np.mean(y**2):.2f}, worst bin {np.abs(y).max():.1f} standard errors")
    print("\n(particles - grid)/standard error by bin; rows: alpha, columns: energy; then the standard errors of f [%]")
    energies = np.asarray(energy_of_momentum(np.exp(edges[1])))
    print(" " * 12 + "".join(f"{e:7.2f}" for e in energies[:-1]) + "  MeV and above")
    for name, what in (("z", z), ("%", 100 * error / mean)):
        for i in range(BINS[0]):
            a, b = np.degrees(edges[0][i:i + 2])
            print(f"{a:4.0f}-{b:3.0f} {name}  " + "".join(f"{v:7.2f}" for v in what[i]))
    return edges, mean, error


def cross(args):
    grid, whole, _ = run(args.cells, args.tables)
    bare = run(args.cells, args.tables, cross=False)[1]
    before, after, without = whole[0], whole[-1], bare[-1]
    energy, alpha = np.asarray(grid.energy(L))[0], np.degrees(np.asarray(grid.alpha(L))).ravel()
    print("f after a day over f at the start: with D_ap / without / ratio without:with")
    shown = (0.15, 0.3, 0.5, 1.0, 1.5, 2.0)
    print(" " * 12 + "".join(f"{e:>24g}" for e in shown) + " MeV")
    for a in (89.0, 75.0, 60.0, 45.0, 30.0, 20.0):
        i = np.argmin(np.abs(alpha - a))
        cells = []
        for e in shown:
            j = np.argmin(np.abs(np.log(energy / e)))
            w, b = after[i, j] / before[i, j], without[i, j] / before[i, j]
            cells.append(f"{w:8.3g} /{b:7.3g} /{b / w:5.2f}")
        print(f"{alpha[i]:5.0f} deg   " + " ".join(cells))
    if args.out:
        picture(args, grid, energy, alpha, before, after, without)


def picture(args, grid, energy, alpha, before, after, without):
    os.environ.setdefault("MPLBACKEND", "Agg")
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(2, 2, figsize=(11, 8.4), constrained_layout=True)
    floor = 1e-9
    for axis, f, name in ((ax[0, 0], before, "at the start"), (ax[0, 1], after, "after a day, with $D_{\\alpha p}$")):
        drawn = axis.pcolormesh(energy, alpha, np.log10(np.maximum(f, floor)), cmap="viridis", vmin=-8, vmax=0, shading="nearest")
        axis.set_title(f"phase space density {name}")
        fig.colorbar(drawn, ax=axis, label="log$_{10}$ f (1 at 90°, 0.1 MeV)")
    ratio = np.log10(np.maximum(without, 1e-300) / np.maximum(after, 1e-300))
    ratio = np.where(after > floor, ratio, np.nan)
    drawn = ax[1, 0].pcolormesh(energy, alpha, ratio, cmap="RdBu_r", vmin=-0.4, vmax=0.4, shading="nearest")
    ax[1, 0].set_facecolor("0.85")
    ax[1, 0].set_title("without $D_{\\alpha p}$ over with (grey: f below 1e-9)")
    fig.colorbar(drawn, ax=ax[1, 0], label="log$_{10}$ of the ratio", extend="both")
    for axis in (ax[0, 0], ax[0, 1], ax[1, 0]):
        axis.set_ylabel("equatorial pitch angle [deg]")
        axis.set_ylim(5, 90)
    gained = ax[1, 1]
    for i, color in ((np.argmin(np.abs(alpha - 83)), "C0"), (np.argmin(np.abs(alpha - 45)), "C1"),
                     (np.argmin(np.abs(alpha - 20)), "C2")):
        for f, style, name in ((after, "-", "with"), (without, "--", "without")):
            gained.plot(energy, f[i] / before[i], color=color, ls=style, label=f"{alpha[i]:.0f}°, {name}")
    if args.n_picture:
        (first, edges), (last, _) = (blocks(grid, f, BINS) for f in (before, after))
        mean, error, _ = followed(args, waves(args.tables), 120.0, args.n_picture, 7, edges, (args.lattice, args.lattice))
        middle = np.asarray(energy_of_momentum(np.exp(0.5 * (edges[1][1:] + edges[1][:-1]))))
        gained.errorbar(middle, mean[-1] / first[-1], 2 * error[-1] / first[-1], fmt="k.", ms=5, capsize=2,
                        label=f"particles, bins of {np.degrees(edges[0][-2]):.0f}-90° (2 s.e.)")
        gained.plot(middle, last[-1] / first[-1], "kx", ms=6, label="grid, the same bins")
    gained.axhline(1.0, color="0.6", lw=0.8)
    gained.set_ylim(0, 3)
    gained.set_ylabel("flux after a day over flux at the start")
    gained.set_title("what a day of chorus adds, with and without $D_{\\alpha p}$")
    gained.legend(fontsize=7, loc="lower right", ncol=2)
    ticks = (0.1, 0.2, 0.5, 1.0, 2.0, 3.0)
    for axis in ax.ravel():
        axis.set_xscale("log")
        axis.set_xlim(*ENERGY)
        axis.set_xticks(ticks, [f"{x:g}" for x in ticks])
        axis.set_xticks([], minor=True)
        axis.set_xlabel("energy [MeV]")
    fig.savefig(args.out, dpi=110)
    print(f"wrote {args.out}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="+", choices=("grids", "particles", "cross"))
    parser.add_argument("--tables", default=str(TABLES), help="archive or folder of chorus tables")
    parser.add_argument("--fine", type=int, default=120, help="cells of the fine grid in alpha")
    parser.add_argument("--cells", type=int, default=60, help="cells of the grid in alpha for `cross`")
    parser.add_argument("--n", type=int, default=1_000_000, help="particles")
    parser.add_argument("--n-picture", type=int, default=50_000, help="particles in the picture; 0: none")
    parser.add_argument("--dt", type=float, default=60.0, help="smallest step of the particles [s]")
    parser.add_argument("--lattice", type=int, default=700, help="nodes a side from which drift and noise are read")
    parser.add_argument("--bare", action="store_true", help="particles and their grids without D_ap")
    parser.add_argument("--out", default="", help="picture")
    args = parser.parse_args()
    if not Path(args.tables).exists():
        print(f"chorus_tensor: skipped, {args.tables} is missing (tables that are not part of the package)")
        return
    for what in args.what:
        dict(grids=grids, particles=particles, cross=cross)[what](args)


if __name__ == "__main__":
    main()
