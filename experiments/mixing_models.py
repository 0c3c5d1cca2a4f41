"""Parallel mixing: where velocity diffusion (5.11), two fields, Krook and Lorentz scattering and the cycle itself agree.

    python experiments/mixing_models.py [FOLDER]

Draws Fig. 4 (three distributions), Fig. 5 (G, with magnetic pumping computed here), the rates of all models over nu_xi/nu_par
in [0.01, 10] and h in [0.1, 4], and spectra of runs; prints the figures. A few minutes on two cores.
"""

import pathlib
import sys

import jax
import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from scipy.interpolate import RegularGridInterpolator

import jaxbelt as jb
from jaxbelt.equations import kinetic, two_field, velocity
from jaxbelt.physics import mixing_cycle, pumping
from jaxbelt.physics import mixing_projections as mp
from jaxbelt.physics import mixing_rates as mr
from jaxbelt.physics.mixing import G

jb.enable_x64()
OUT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "out")
RATIOS = np.geomspace(0.01, 10.0, 25)
DEPTHS = np.geomspace(0.1, 4.0, 13)
PUMP, CYCLE = jax.jit(pumping.G), jax.jit(mixing_cycle.G)


def save(figure, name):
    OUT.mkdir(parents=True, exist_ok=True)
    figure.savefig(OUT / name, dpi=130)
    plt.close(figure)
    print("wrote", OUT / name)


def figure_4(h=7.0):
    """<g>_xi, <g>_par and <<g>_par>_xi of a Maxwellian; the boundary E_par = h E_perp dashed."""
    grid = kinetic.grid(h, (0.02, 4.0), trapped=24, passing=24)
    f = kinetic.start(grid, np.exp(-grid["v"].centers ** 2))
    par, xi = mp.ParallelMean(grid), mp.PitchMean(grid)
    x, y = np.meshgrid(np.linspace(-2.5, 2.5, 501), np.linspace(0.005, 2.5, 250))
    points = np.stack([np.log(np.hypot(x, y)), x**2 / (x**2 + y**2)], axis=-1)
    levels = np.linspace(-7, 0, 15)
    figure, axes = plt.subplots(1, 3, figsize=(12, 2.9), sharey=True, constrained_layout=True)
    for ax, data, title in zip(axes, (f, par(f), xi(par(f))), (r"(a) $\langle g\rangle_\xi$", r"(b) $\langle g\rangle_\parallel$",
                                                             r"(c) $\langle\langle g\rangle_\parallel\rangle_\xi$")):
        log = np.log(np.maximum(np.asarray(data), 1e-30))
        nodes = np.log(grid["v"].centers), grid["xi"].centers ** 2
        at = RegularGridInterpolator(nodes, log, bounds_error=False, fill_value=None)
        image = ax.contourf(x, y, np.clip(at(points), -7, 0), levels, cmap="viridis")
        r = np.linspace(0, 3, 2)
        for sign in (-1, 1) if title[1] != "c" else ():
            ax.plot(sign * np.sqrt(h) * r, r, "w--", lw=1.2)
        ax.set(xlim=(-2.5, 2.5), ylim=(0, 2.5), aspect="equal", xlabel=r"$v_\parallel/v_0$", title=title)
    axes[0].set_ylabel(r"$v_\perp/v_0$")
    figure.colorbar(image, ax=axes, label="ln f")
    save(figure, "fig4-distributions.png")


def figure_5():
    """G of (5.12), full where nu_xi/nu_par < 1/3, and pumping by the same field without the barrier, computed here."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.8), sharey=True, constrained_layout=True)
    r = np.geomspace(0.01, 10.0, 31)
    for ratio_of_fields in (1.1, 1.2, 1.5, 2.3, 5.0):
        h = ratio_of_fields - 1
        mixing = np.asarray(G(r, h))
        pump, cycle = (np.array([float(f(x, h)) for x in r]) for f in (PUMP, CYCLE))
        for ax, red, name in ((axes[0], pump, "magnetic pumping (computed here)"), (axes[1], cycle, "the cycle (computed here)")):
            first = ratio_of_fields == 1.1
            ax.loglog(r[r <= 1 / 3], mixing[r <= 1 / 3], "C0-", label="mixing, (5.12)" if first else None)
            ax.loglog(r[r >= 0.3], mixing[r >= 0.3], "C0--")
            ax.loglog(r, red, "C3-" if ax is axes[0] else "k-", lw=1.2, label=name if first else None)
            place = dict(textcoords="offset points", fontsize=8)
            ax.annotate(f"{ratio_of_fields:g}", (r[-1], mixing[-1]), xytext=(3, -3), color="C0", **place)
            if ax is axes[0]:
                ax.annotate(f"{ratio_of_fields:g}", (r[0], red[0]), xytext=(-17, -3), color="C3", **place)
        print(f"B_T/B_0 = {ratio_of_fields}: (5.12)/pumping at ratio 0.01, 0.1, 1/3, 1, 10: "
              + ", ".join(f"{float(G(x, h) / PUMP(x, h)):.3g}" for x in (0.01, 0.1, 1 / 3, 1.0, 10.0))
              + "; cycle/(5.12): " + ", ".join(f"{float(CYCLE(x, h) / G(x, h)):.3g}" for x in (0.01, 0.1, 1 / 3, 1.0, 10.0)))
    axes[0].set(ylabel=r"$\mathcal{G}$", title="mixing and pumping, same field, d = 0.4")
    axes[1].set(title="mixing as diffusion and the cycle itself, d = 0.4")
    for ax in axes:
        ax.axvline(1 / 3, color="0.8", lw=0.8)
        ax.set(xlabel=r"$\nu_\xi/\nu_\parallel$  ($\nu/f$)", xlim=(0.006, 22), ylim=(2e-8, 0.2))
        ax.legend(loc="lower right", fontsize=8)
        ax.text(10.3, 0.11, r"$B_T/B_0$", fontsize=8)
    save(figure, "fig5-energization.png")


def lorentz_constant(h, trapped=24):
    """kappa in the limit of weak scattering, nu_xi = kappa nu_L."""
    grid = kinetic.grid(h, (0.01, 0.012 * np.sqrt(1 + h)), trapped=trapped, passing=24)
    small = 1e-5 * h / (1 + h)
    return grid, mr.growth_rate(grid, -2.0, 1.0, nu_L=small) / mp.energy_rate(h) / small


def rates():
    """Energy growth of all models over the plane (ratio, h)."""
    excess, lorentz, cycle = (np.zeros((DEPTHS.size, RATIOS.size)) for _ in range(3))
    for i, h in enumerate(DEPTHS):
        grid, kappa = lorentz_constant(h)
        for j, r in enumerate(RATIOS):
            krook = float(mr.krook_rates(mp.energy_rate(h), 1.0, r)[0])
            diffusion = 10 * float(G(r, h))
            excess[i, j] = diffusion / krook - 1
            lorentz[i, j] = krook / mr.growth_rate(grid, -2.0, 1.0, nu_L=r / kappa) - 1
            cycle[i, j] = diffusion / (10 * float(CYCLE(r, h)))
        if i % 4 == 0:
            worst = int(np.argmax(np.abs(lorentz[i])))
            third = np.interp(1 / 3, RATIOS, lorentz[i])
            print(f"h = {h:.3g}: (5.11) above Krook by at most {100 * excess[i].max():.2g} %")
            print(f"    Krook above Lorentz, kappa k^2 = {kappa * h / (1 + h):.2f} of weak scattering: "
                  f"{100 * lorentz[i, 0]:.1f} % at 0.01, {100 * third:.1f} % at 1/3, "
                  f"at most {100 * lorentz[i, worst]:.1f} % at {RATIOS[worst]:.2g}")
            print("    (5.12)/cycle at 0.01, 1/3, 1, 10: "
                  + ", ".join(f"{np.interp(x, RATIOS, cycle[i]):.2f}" for x in (0.01, 1 / 3, 1, 10)))
    figure, axes = plt.subplots(1, 3, figsize=(14, 4.2), sharey=True, constrained_layout=True)
    for ax, data, levels, title in (
            (axes[0], 100 * excess, (0.1, 0.3, 1, 3, 10), "(5.11) above two fields = Krook  [%]"),
            (axes[1], 100 * lorentz, (3, 5, 7, 10, 15, 20, 25, 30), "Krook above Lorentz, equal at weak scattering  [%]"),
            (axes[2], cycle, (0.6, 0.7, 0.8, 1, 1.25, 1.5, 2, 3), "(5.12) over the cycle with scattering inside")):
        lines = ax.contour(RATIOS, DEPTHS, data, levels, colors="k", linewidths=1)
        ax.clabel(lines, fontsize=8, fmt="%g")
        image = ax.pcolormesh(RATIOS, DEPTHS, data, cmap="RdBu_r" if ax is axes[2] else "YlOrRd", shading="gouraud",
                              vmin=0 if ax is axes[2] else None, vmax=2 if ax is axes[2] else None)
        figure.colorbar(image, ax=ax)
        ax.axvline(1 / 3, color="C0", lw=1, ls=":")
        ax.set(xscale="log", yscale="log", xlabel=r"$\nu_\xi/\nu_\parallel$", title=title)
    axes[0].set_ylabel("h = $B_T/B_0$ - 1")
    save(figure, "mixing-rates.png")


def spectra():
    """g(v) of all four models from one Maxwellian, when the energy has grown by half (Krook)."""
    cases = ((0.1, 0.5), (1.0, 0.5), (0.1, 4.0), (1.0, 4.0))
    figure, axes = plt.subplots(2, 2, figsize=(10, 7.5), sharex=True, sharey=True, constrained_layout=True)
    for ax, (ratio, h) in zip(axes.flat, cases):
        grid = kinetic.grid(h, (0.02, 40.0), trapped=8, passing=8)
        v = grid["v"].centers
        g0 = np.exp(-v**2)
        end = np.log(1.5) / float(mr.krook_rates(mp.energy_rate(h), 1.0, ratio)[0])
        alpha = mr.alpha_steady(1.0, ratio)
        f0 = kinetic.start(grid, g0, alpha)
        krook = kinetic.problem(grid, kinetic.Parameters(nu_par=1.0, nu_xi=ratio))
        kappa = lorentz_constant(h)[1]
        lorentz = kinetic.problem(grid, kinetic.Parameters(nu_par=1.0, nu_L=ratio / kappa))
        two = two_field.problem(two_field.grid((0.02, 40.0), 320), two_field.Parameters(nu_par=1.0, nu_xi=ratio, h=h))
        vt = two.grid["v"].centers
        line = velocity.grid((0.02, 40.0), 320)
        solved = {}
        for name, problem, f, dt in (("(5.11)", velocity.problem(line, velocity.Parameters(nu_par=1.0, nu_xi=ratio, h=h)),
                                      np.exp(-vt**2), end / 200),
                                     ("two fields", two, two_field.start(two, np.exp(-vt**2), alpha), end / 10),
                                     ("Krook, 2-D", krook, f0, end / 10), ("Lorentz, 2-D", lorentz, f0, end / 200)):
            f = jb.solve(problem, f, t=[0.0, end], dt=dt).f[-1]
            g = kinetic.isotropic(grid, f) if problem.grid is grid else f[0] if problem is two else f
            at = v if problem.grid is grid else vt
            solved[name] = np.interp(v, at, np.log(np.maximum(np.asarray(g), 1e-300)))
        ax.loglog(v, g0, color="0.7", label="start")
        for (name, g), style in zip(solved.items(), ("C0-", "C1-", "k:", "C2--")):
            ax.loglog(v, np.exp(g), style, label=name)
        ax.set(xlim=(0.1, 15), ylim=(1e-10, 2))
        ax.set_title(rf"$\nu_\xi/\nu_\parallel$ = {ratio:g}, h = {h:g}, $\nu_\parallel$ t = {end:.0f}")
        near = (v > 0.1) & (v < 15) & (solved["Krook, 2-D"] > np.log(1e-10))
        print(f"ratio {ratio:g}, h {h:g}: largest |ln g - ln g(Krook)| where g > 1e-10: "
              + ", ".join(f"{name} {np.max(np.abs(g - solved['Krook, 2-D'])[near]):.2g}" for name, g in solved.items()))
    for ax in axes[1]:
        ax.set_xlabel("$v/v_0$")
    for ax in axes[:, 0]:
        ax.set_ylabel("g")
    axes[0, 0].legend(fontsize=8)
    save(figure, "mixing-spectra.png")


if __name__ == "__main__":
    figure_4()
    figure_5()
    rates()
    spectra()
