"""Parallel mixing without scattering: the maps and distributions of Figs. 2, 3 and 6 of "Parallel velocity mixing yielding
enhanced electron heating" (J. Plasma Phys. 2021), and correlation, energy gain and anisotropy over the cycles in both scenarios.

    python experiments/mixing_maps.py [FOLDER]

Pictures go to FOLDER (experiments/out by default), figures are printed. d = 0.4, BT/B0 = 8 as in the paper. About a minute.
"""

from __future__ import annotations

import pathlib
import sys

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

import jaxbelt as jb  # noqa: E402
from jaxbelt.physics import mixing  # noqa: E402

jb.enable_x64()

WELL = mixing.Well(d=0.4, BT=8.0, B0=1.0)
TOP = 12.0                                                 # of the energy axes, in units of mu B0
COLORS = "turbo"
initial = jax.jit(mixing.initial_energy, static_argnames="cycles")
SCENARIOS = {"floor": "main scenario: floor of A raised and lowered", "barrier": "Appendix A: barrier moved"}


def panel(ax, stage, title, cycles=0, n=(240, 600)):
    """E0 over (x, E): `n` points; white where nothing moves; the field in black."""
    x, E = (np.arange(n[0]) + 0.5) / n[0], 1.0 + (np.arange(n[1]) + 0.5) / n[1] * (TOP - 1.0)
    E0 = np.asarray(initial(E[:, None], x, stage, WELL, 1.0, cycles=cycles))
    mesh = ax.pcolormesh(x, E, E0, cmap=COLORS, vmin=1.0, vmax=TOP, shading="nearest", rasterized=True)
    divide, floor, barrier = (float(f(WELL)) for f in (stage.divide, stage.floor, stage.barrier))
    ax.plot([0, 0, divide, divide, 1, 1], [TOP, floor, floor, 1, 1, TOP], "k", lw=1.5)
    if divide < 1.0 and barrier > floor:
        ax.plot([divide, divide], [1.0, barrier], "k", lw=3.0)
    ax.set(xlim=(0, 1), ylim=(0.7, TOP), title=title, xticks=(0, 0.2, 0.4, 0.6, 0.8))
    return mesh


def save(fig, name, folder):
    fig.savefig(folder / name, dpi=130, bbox_inches="tight")
    plt.close(fig)
    print(f"  {folder / name}")


def figure_2(folder):
    """The main cycle, panels a to g, and two cycles, panel h."""
    up, down = mixing.FloorStage.raising, mixing.FloorStage.lowering
    stages = [(up(1.0), "barrier up, floor 1"), (up(10 / 3), "floor of A rising, 3.33"), (up(17 / 3), "rising, 5.67"),
              (up(8.0), "floor at $B_T$ = 8"), (down(17 / 3), "sinking, 5.67"), (down(10 / 3), "sinking, 3.33"),
              (down(1.0), "one cycle"), (down(1.0), "two cycles")]
    fig, axes = plt.subplots(2, 4, figsize=(14, 7), sharex=True, sharey=True, layout="constrained")
    for k, (ax, (stage, title)) in enumerate(zip(axes.flat, stages)):
        mesh = panel(ax, stage, f"({'abcdefgh'[k]}) {title}", cycles=int(k == 7))
    for y, kind in zip(mixing.energy_before(np.array([3.52 * (1 - 1e-9), 3.52 * (1 + 1e-9)])), ("below", "above")):
        print(f"  Fig. 2 (g): E0 just {kind} E_T = {float(mixing.transition_energy(WELL)):.2f}: {float(y):.3f}")
    axes[1, 2].axhline(float(mixing.transition_energy(WELL)), color="w", ls=":", lw=1.2)
    axes[1, 2].text(0.03, 3.6, "$E_T$", color="w", va="bottom")
    axes[0, 0].set_ylabel(r"$E/\mu B_0$")
    axes[1, 0].set_ylabel(r"$E/\mu B_0$")
    for ax in axes[1]:
        ax.set_xlabel("x")
    fig.colorbar(mesh, ax=axes, label=r"initial energy $E_0/\mu B_0$", shrink=0.8)
    save(fig, "mixing_fig2.png", folder)


def figure_6(folder):
    """Appendix A: the barrier moved, panels a to d, and the distributions e to g."""
    whole = plt.figure(figsize=(14, 7.2), layout="constrained")
    top, bottom = whole.subfigures(2, 1, height_ratios=(1.35, 1.0))
    axes = top.subplots(1, 4, sharey=True)
    stages = ((0.4, "$d'$ = 0.4"), (0.6, "$d'$ = 0.6"), (1.0, "$d'$ = 1, one cycle"), (1.0, "two cycles"))
    for k, (ax, (position, title)) in enumerate(zip(axes, stages)):
        mesh = panel(ax, mixing.BarrierStage(position=position), f"({'abcd'[k]}) {title}", cycles=int(k == 3))
        ax.set_xlabel("x")
    edge = float(mixing.transition_energy(WELL, scenario="barrier"))
    axes[0].set_ylabel(r"$E/\mu B_0$")
    axes[2].axhline(edge, color="k", ls=":", lw=1.2)
    axes[2].text(0.03, edge + 0.1, "$E_T$", va="bottom")
    top.colorbar(mesh, ax=axes, label=r"initial energy $E_0/\mu B_0$", shrink=0.9)
    axes = bottom.subplots(1, 3, sharey=True)
    for ax, letter, cycles in zip(axes, "efg", (1, 2, 5)):
        shown = distribution(ax, cycles, "barrier", f"({letter}) {count(cycles)}")
    bottom.colorbar(shown, ax=axes, label=r"$\log_{10} f$", shrink=0.9)
    save(whole, "mixing_fig6.png", folder)


def count(cycles):
    return {0: "initial Maxwellian", 1: "one cycle", 2: "two cycles", 5: "five cycles"}[cycles]


def maxwell(v_par, v_perp):
    return jnp.exp(-0.5 * (v_par**2 + v_perp**2))


def distribution(ax, cycles, scenario, title, top=5.0, n=360, fine=4):
    """f over (v_par, v_perp): means over pixels of `fine` x `fine` points, so that narrow stripes do not alias."""
    m = n * fine
    v_par, v_perp = -top + (np.arange(2 * m) + 0.5) / m * top, (np.arange(m) + 0.5) / m * top
    f = jax.jit(mixing.mixed(maxwell, cycles, WELL.h, WELL.d, scenario))(v_par, v_perp[:, None])
    f = f.reshape(n, fine, 2 * n, fine).mean((1, 3))
    extent = (-top, top, 0.0, top)
    shown = ax.imshow(np.log10(np.maximum(f, 1e-12)), origin="lower", extent=extent, vmin=-5, vmax=0, cmap=COLORS,
                      aspect="equal", interpolation="nearest")
    edge = np.array([0.0, top / np.sqrt(WELL.h)])
    for side in (-1, 1):
        ax.plot(side * np.sqrt(WELL.h) * edge, edge, "w--", lw=0.8)
    ax.set(title=title, xlabel=r"$v_\parallel/v_{th}$", ylabel=r"$v_\perp/v_{th}$", xlim=(-top, top), ylim=(0, top))
    return shown


def figure_3(folder):
    """A Maxwellian after 0, 1, 2 and 5 cycles of the main scenario."""
    fig, axes = plt.subplots(2, 2, figsize=(12, 6.6), layout="constrained")
    for ax, cycles, letter in zip(axes.flat, (0, 1, 2, 5), "abcd"):
        shown = distribution(ax, cycles, "floor", f"({letter}) {count(cycles)}")
    fig.colorbar(shown, ax=axes, label=r"$\log_{10} f$", shrink=0.8)
    save(fig, "mixing_fig3.png", folder)


def correlations():
    """Correlation of v_par with what it was, by quadrature over the stripes, beside the closed form; and the stripes counted."""
    node, weight = np.polynomial.legendre.leggauss(3)
    w = (np.arange(10**6) + 0.5) / 10**6
    measured = {}
    for scenario, title in SCENARIOS.items():
        print(f"  {title}: cycles, stripes, correlation by quadrature, closed form, by 1e6 particles")
        measured[scenario] = [1.0]
        for cycles in range(1, 9):
            edges = np.asarray(mixing.stripes(cycles, 0.4, scenario))
            width = np.diff(edges)[:, None]
            at = edges[:-1, None] + width * (node + 1) / 2
            mean = np.sum(width * weight / 2 * at * np.asarray(mixing.unmix(at, 0.4, cycles, scenario)))
            before = np.asarray(mixing.unmix(w, 0.4, cycles, scenario))
            turns = np.sum(np.diff(before) < -0.5) if scenario == "floor" else np.sum(np.diff(np.sign(np.diff(before))) != 0)
            measured[scenario].append(12 * (mean - 0.25))
            print(f"    {cycles}  {int(turns) + 1:4d}  {measured[scenario][-1]:+.8f}  "
                  f"{float(mixing.correlation(cycles, 0.4, scenario)):+.8f}  {np.corrcoef(w, before)[0, 1]:+.8f}")
    return measured


def over_cycles(folder):
    """Correlation, energy gain and anisotropy over the cycles, both scenarios."""
    measured, cycles = correlations(), np.arange(9)
    gains = {s: np.asarray(mixing.energy_gain(8, WELL.h, WELL.d, s)) for s in SCENARIOS}
    limit = float(mixing.energy_gain_limit(WELL.h))
    print(f"  energy gain over the initial energy, h = 7, nu_xi = 0; fully mixed: {limit:.6f}; P_par/P_perp = 1 + 3 gain")
    for s, title in SCENARIOS.items():
        print(f"    {title}: " + ", ".join(f"{g:.4f}" for g in gains[s]))
        print("      P_par/P_perp: " + ", ".join(f"{r:.3f}" for r in mixing.anisotropy(8, WELL.h, WELL.d, s)))
        close = np.abs(gains[s] / limit - 1.0) < 0.01
        print(f"      within 1 % of the limit from cycle {int(np.argmax(close))}")
    fig, axes = plt.subplots(1, 3, figsize=(15, 4.4), layout="constrained")
    for s, style in (("floor", "o-"), ("barrier", "s--")):
        size = np.abs(measured[s])
        axes[0].semilogy(cycles, size, style, label=SCENARIOS[s] + (" (alternating sign)" if s == "barrier" else ""))
        axes[1].plot(cycles, 1.0 + 3.0 * gains[s], style, label=SCENARIOS[s])
    axes[0].set(xlabel="cycles", ylabel=r"|correlation of $v_\parallel$ with the start|", title="d = 0.4: $0.52^N$, $(-0.2)^N$")
    axes[1].axhline(1 + 3 * limit, color="k", lw=0.8, ls=":", label="fully mixed")
    axes[1].set(xlabel="cycles", ylabel=r"$P_\parallel/P_\perp$", title=r"anisotropy, $B_T/B_0$ = 8, $\nu_\xi$ = 0")
    d = np.linspace(0.02, 0.98, 97)
    for s, style in (("floor", "-"), ("barrier", "--")):
        every = np.asarray(mixing.energy_gain(5, WELL.h, d, s)) / limit
        for n, color in ((1, "C0"), (2, "C1"), (5, "C2")):
            axes[2].plot(d, every[n], color=color, ls=style, label=f"{count(n)}, {s}")
    axes[2].axvline(WELL.d, color="k", lw=0.6)
    axes[2].axhline(1.0, color="k", lw=0.8, ls=":")
    axes[2].set(xlabel="d", ylabel="energy gain over its limit", title="how far the mixing has come")
    for ax in axes:
        ax.legend(fontsize=8)
        ax.grid(alpha=0.3)
    save(fig, "mixing_over_cycles.png", folder)


def reversal():
    """A Maxwellian mixed and unmixed: exact, and after the finest smoothing that an instrument or a wave would do."""
    rng = np.random.default_rng(0)
    v_par, v_perp = rng.uniform(-4, 4, 4000), rng.uniform(0.2, 3, 4000)
    print("  mixed for N cycles, run backward for N cycles: greatest error of f (peak 1) exactly, and with f averaged in between "
          "over v_par +- 0.01 v_perp")
    for s in SCENARIOS:
        for cycles in (1, 2, 5, 8):
            f = mixing.mixed(maxwell, cycles, WELL.h, WELL.d, s)

            def smoothed(v_par, v_perp, f=f):
                return sum(f(v_par + k * v_perp, v_perp) for k in np.linspace(-0.01, 0.01, 5)) / 5

            back = (jax.jit(mixing.unmixed(g, cycles, WELL.h, WELL.d, s))(v_par, v_perp) for g in (f, smoothed))
            error = [float(jnp.max(jnp.abs(b - maxwell(v_par, v_perp)))) for b in back]
            print(f"    {s}, N = {cycles}: {error[0]:.1e}, {error[1]:.1e}")


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "out")
    folder.mkdir(parents=True, exist_ok=True)
    figure_2(folder)
    figure_3(folder)
    figure_6(folder)
    over_cycles(folder)
    reversal()


if __name__ == "__main__":
    main()
