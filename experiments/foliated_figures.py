"""Figures 1 and 2 of Sato, Yoshida & Kawazura on a grid, beside particles: heating across the field by inward diffusion.

    python experiments/foliated_figures.py [--out FOLDER] [--quick] [--only figures|steps|uphill]

figures: averages against time, profiles along z = 0 and the density in the (r, z) plane for strong noise read as slow (alpha =
1/2), weak noise, and strong noise read as fast (alpha = 0), beside 1.6e6 particles (foliated_monte_carlo.py figures --n 1600000).
steps: the same with other steps and cells, and without noise, where all that is lost is the loss cone, to tell the errors of
time, grid and loss cone apart. uphill: closed walls and strong noise, from uniform density: density against the field. Ten
minutes on two cores; --quick leaves out the steps.
"""

import argparse
import pathlib
import time

import jax
import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import jaxbelt as jb

jb.enable_x64()

from jaxbelt import foliated, plot_foliated  # noqa: E402
from jaxbelt import montecarlo as mc  # noqa: E402
from jaxbelt.equations.foliated import Parameters  # noqa: E402

TIMES = (0.0, 3.0, 6.0, 9.0, 15.0)
CASES = {"sf, alpha 1/2": (5e-3, 0.5), "ws, alpha 1/2": (5e-4, 0.5), "sf, alpha 0": (5e-3, 0.0)}
RADII = (1.11, 1.40, 1.89)
# 1.6e6 particles: N/N0, T_perp and E_par at TIMES[1:], with the standard error of the last
PARTICLES = {
    "sf, alpha 1/2": ((0.3407, 0.2002, 0.1238, 0.0497, 2e-4), (1.472, 1.666, 1.756, 1.841, 7e-3),
                      (0.3879, 0.3727, 0.3629, 0.342, 2e-3)),
    "ws, alpha 1/2": ((0.6351, 0.5561, 0.5030, 0.4272, 4e-4), (1.175, 1.232, 1.278, 1.361, 2e-3),
                      (0.3647, 0.3641, 0.3642, 0.3643, 7e-4)),
    "sf, alpha 0": ((0.3655, 0.2285, 0.1489, 0.0659, 2e-4), (1.508, 1.711, 1.797, 1.843, 6e-3),
                    (0.3489, 0.3089, 0.2743, 0.2210, 1.4e-3)),
}
# at z = 0 and t = 15, at RADII, averaged over 4 % in r and 4 degrees of latitude: (T_perp, error), (E_par, error)
EQUATOR = {
    "sf, alpha 1/2": (((3.37, 0.08), (1.66, 0.03), (0.69, 0.03)), ((0.43, 0.02), (0.37, 0.01), (0.22, 0.02))),
    "ws, alpha 1/2": (((1.87, 0.02), (1.48, 0.01), (0.84, 0.01)), ((0.236, 0.005), (0.430, 0.004), (0.349, 0.006))),
}
QUANTITIES = ("N/N0", "T_perp", "E_par")


def save(figure, args, name):
    args.out.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out / name, dpi=130)
    plt.close(figure)
    print("wrote", args.out / name)


def make(cells=(24, 48, 60), dt=0.5, **options):
    began = time.perf_counter()
    grid = foliated.grid(psi=(0.5, 0.95), cells=cells)
    problem = foliated.problem(grid, Parameters(D_perp=5e-3, alpha=0.5), dt=dt, **options)
    print(f"cells {cells}, dt {dt:g}: set up in {time.perf_counter() - began:.0f} s")
    return problem, foliated.maxwellian(grid)


def solve(problem, f0, dt, case, t=TIMES):
    D_perp, alpha = case
    began = time.perf_counter()
    out = jb.solve(problem.replace(parameters=Parameters(D_perp=D_perp, alpha=alpha)), f0, t=np.asarray(t), dt=dt)
    jax.block_until_ready(out.f)
    return out, time.perf_counter() - began


def values(run):
    """{quantity: values at TIMES}."""
    at = np.searchsorted(np.asarray(run.t), np.array(TIMES) - 1e-9)
    a = foliated.averages(run.grid, run.f[at])
    return dict(zip(QUANTITIES, (np.asarray(a.number / a.number[0]), np.asarray(a.T_perp), np.asarray(a.E_par))))


def against_particles(name, run):
    found = values(run)
    print(f"\n{name}:   grid, particles and difference in %\n    t" + "".join(f"{q:>26}" for q in QUANTITIES))
    for k, t in enumerate(TIMES[1:]):
        print(f"{t:5.0f}" + "".join(f"{found[q][k + 1]:11.4f} {mc_[k]:7.4f} {100 * (found[q][k + 1] / mc_[k] - 1):+6.2f}"
                                    for q, mc_ in zip(QUANTITIES, PARTICLES[name])))


def near_equator(run):
    """T_perp and E_par of what is near the equator at RADII, as the particles are averaged over 4 % in r."""
    at = foliated.equatorial(run.grid, run.f[-1])
    inner, outer = 1.0 / run.grid["psi"].faces[1:], 1.0 / run.grid["psi"].faces[:-1]
    out = []
    for r in RADII:
        overlap = np.clip(np.minimum(outer, 1.04 * r) - np.maximum(inner, 0.96 * r), 0.0, None)
        w = np.asarray(at.n) * at.r**2 * overlap                   # a ring as high as it is wide
        out.append([float(np.sum(w * np.asarray(y)) / np.sum(w)) for y in (at.T_perp, at.E_par)])
    return np.array(out)


def figures(args):
    dt = 0.5
    problem, f0 = make(dt=dt)
    t = np.arange(0.0, 15.01, 0.5)
    runs = {}
    for name, case in CASES.items():
        runs[name], seconds = solve(problem, f0, dt, case, t)
        against_particles(name, runs[name])
        print(f"  ({seconds:.0f} s)")
        if name in EQUATOR:
            for r, got, *two in zip(RADII, near_equator(runs[name]), *EQUATOR[name]):
                print(f"  z = 0, r = {r}, t = 15: " + "; ".join(
                    f"{q} {g:.3f}, particles {m:.3g} +- {e:.2g} ({100 * (g / m - 1):+.1f} %, {(g - m) / e:+.1f} errors)"
                    for q, g, (m, e) in zip(QUANTITIES[1:], got, two)))
    names = list(CASES)
    figure = plot_foliated.averages(*(runs[name] for name in names), labels=names)
    top, low = figure.axes[:2]
    for k, name in enumerate(names):
        N, T_perp, E_par = PARTICLES[name]
        style = dict(color=f"C{k}", ls="none", ms=5)
        top.plot(TIMES[1:], T_perp[:4], "o", **style)
        top.plot(TIMES[1:], E_par[:4], "s", **style)
        low.plot(TIMES[1:], N[:4], "o", **style)
    top.plot([], [], "ko", ls="none", ms=5, label="particles")
    top.legend(fontsize=8.5, framealpha=0.9)
    save(figure, args, "foliated-fig1-averages.png")
    for name, file in zip(names, ("strong", "weak", "strong-ito")):
        few = jb.solve(problem.replace(parameters=runs[name].problem.parameters), f0, t=np.array([0.0, 3.0, 15.0]), dt=dt)
        figure = plot_foliated.profiles(few)
        if name in EQUATOR:
            for values_, color in zip(EQUATOR[name], ("#8b0000", "#00008b")):
                y, e = np.array(values_).T
                figure.axes[0].errorbar(RADII, y, e, fmt="o", color=color, ms=4, capsize=2)
            figure.axes[0].errorbar([], [], [], fmt="ko", ms=4, capsize=2, label="particles, t = 15")
            figure.axes[0].legend(fontsize=8)
        figure.suptitle(name, fontsize=10)
        save(figure, args, f"foliated-fig2-{file}.png")
        if file != "strong-ito":
            save(plot_foliated.meridian(few), args, f"foliated-density-{file}.png")


def steps(args):
    """Where the errors come from: N/N0 at t = 3 and 15 and temperatures at 15, per cent off the particles."""
    start = mc.thermal(jax.random.key(1), 200_000, psi=(0.5, 0.95), mu=(0.0, 56.0))
    still = mc.walk(start, jax.random.key(2), parameters=Parameters(), dt=0.1, steps=150, every=30, psi=(0.5, 0.95), substeps=4)
    share, error = np.asarray(still.fraction), np.asarray(still.fraction_error)
    print("\nper cent off the particles: N at t = 3 and 15, T_perp and E_par at 15; last, N/N0 without noise at t = 3, 6, 15")
    print("particles without noise: " + ", ".join(f"t = {t}: {share[k]:.4f} +- {error[k]:.4f}" for t, k in
                                                  ((3, 1), (6, 2), (15, 5))))
    rows = []
    for cells, dt in (((24, 48, 60), 0.5), ((24, 48, 60), 0.25), ((32, 64, 60), 0.5), ((24, 48, 60), 1.0), ((24, 48, 120), 0.5)):
        problem, f0 = make(cells, dt)
        line = f"{str(cells):>14} {dt:5.2f} "
        for name, case in CASES.items():
            found = values(solve(problem, f0, dt, case)[0])
            line += "  |" + "".join(f"{100 * (found[q][k] / m[k - 1] - 1):+7.2f}" for q, m, ks in
                                    zip(QUANTITIES, PARTICLES[name], ((1, 4), (4,), (4,))) for k in ks)
        quiet = foliated.averages(problem.grid, solve(problem, f0, dt, (None, 0.5))[0].f)
        rows.append(line + "  |" + "".join(f"{float(quiet.number[k] / quiet.number[0]):8.4f}" for k in (1, 2, 4)))
        print(rows[-1], flush=True)
    print(f"\n{'(chi, p, psi)':>14}    dt " + "".join(f"  |{name:^28}" for name in CASES) + "  |  without noise")
    print("\n".join(rows))


def particle_ratio(alpha, planet, n=200_000):
    """Density near the equator (4 % in r, 4 degrees) at r = 1.11 over 1.89, closed walls, strong noise, t = 15, and its error."""
    start = mc.thermal(jax.random.key(4), n, psi=(0.5, 0.95), mu=(0.0, 56.0))
    end = mc.walk(start, jax.random.key(5), parameters=Parameters(D_perp=5e-3, alpha=alpha), dt=0.1, steps=150, psi=(0.5, 0.95),
                  inner="reflecting", outer="reflecting", planet=planet, substeps=4).particles
    at, w, sums = end.point, np.asarray(end.weight), []
    for r in (1.11, 1.89):
        near = (np.abs(at.s) < 0.07) & (np.abs(np.asarray(at.r_cyl) / r - 1.0) < 0.04)
        sums.append((np.sum(w[near]) / r**3, 1.0 / np.sqrt(np.sum(w[near]) ** 2 / np.sum(w[near] ** 2))))
    ratio = sums[0][0] / sums[1][0]
    return ratio, ratio * np.hypot(sums[0][1], sums[1][1])


def uphill(args):
    """Closed walls: density at the equator far in and far out."""
    dt, t = 0.5, np.arange(0.0, 15.01, 1.0)
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.4), constrained_layout=True)
    for planet, color in (("absorbing", "C3"), ("reflecting", "C0")):
        problem, f0 = make(dt=dt, inner="reflecting", outer="reflecting", planet=planet)
        B = problem.grid["psi"].centers ** 3
        for alpha, line in ((0.5, "-"), (0.0, "--")):
            run, _ = solve(problem, f0, dt, (5e-3, alpha), t)
            at = foliated.equatorial(run.grid, run.f)
            n, content = np.asarray(at.n), np.asarray(foliated.number(run.grid, run.f))
            ratio = n[:, -1] / n[:, 0]
            print(f"\nuphill, planet {planet}, alpha {alpha:g}: N(15)/N0 = {content[-1] / content[0]:.4f}; "
                  f"B at r = {at.r[-1]:.3f} over "
                  f"r = {at.r[0]:.3f}: {B[-1] / B[0]:.3f}\n  t        " + "".join(f"{x:7.0f}" for x in t[::3])
                  + "\n  n_in/n_out" + "".join(f"{x:7.3f}" for x in ratio[::3]))
            six, near = (np.exp(np.interp(np.log(x), np.log(at.r[::-1]), np.log(n[-1][::-1]))) for x in
                         (1 / np.array([0.935, 0.5146]), np.array([1.11, 1.89])))
            text = f"  where the fields are as {(0.935 / 0.5146) ** 3:.2f}: {six[0] / six[1]:.3f}"
            if not args.quick:
                text += "; r = 1.11 over 1.89: {:.3f}, particles {:.3f} +- {:.3f}, the fields {:.3f}".format(
                    near[0] / near[1], *particle_ratio(alpha, planet), (1.89 / 1.11) ** 3)
            print(text)
            power = np.polyfit(np.log(B), np.log(n[-1]), 1)[0]
            print(f"  n ~ B^{power:.3f} over the whole equator at t = 15")
            axes[0].plot(t, ratio, line, color=color, label=f"planet {planet}, alpha = {alpha:g}")
            axes[1].plot(at.r, n[-1] / n[-1][0], line, color=color)
    axes[0].axhline(B[-1] / B[0], color="k", lw=0.8, ls=":", label="ratio of the fields")
    axes[0].set(xlabel=r"t [$R_p/v_{th}$]", ylabel=f"density at r = {at.r[-1]:.2f} over r = {at.r[0]:.2f}", ylim=(0, None))
    axes[1].plot(at.r, B / B[0], "k:", label="B")
    axes[1].set(xlabel=r"r [$R_p$] (z = 0)", ylabel="n/n(outermost) at t = 15", yscale="log")
    for ax in axes:
        ax.legend(fontsize=8)
        ax.grid(alpha=0.25, lw=0.4)
    save(figure, args, "foliated-uphill.png")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent / "out")
    parser.add_argument("--only", choices=("figures", "steps", "uphill"))
    parser.add_argument("--quick", action="store_true", help="leave out the steps")
    args = parser.parse_args()
    for name, part in (("figures", figures), ("steps", steps), ("uphill", uphill)):
        if args.only == name or (args.only is None and not (args.quick and name == "steps")):
            part(args)


if __name__ == "__main__":
    main()
