"""How the noise is read: inward diffusion for alpha from 0 (fast fluctuations) over 1/2 (slow) to 1, and what alpha stands for.

    python experiments/foliated_alpha.py [--out FOLDER] [--quick]

Strong noise, D_perp = 5e-3, psi in (.5, .95), walls and planet absorbing, from a Maxwellian of uniform density. Prints particles
left, temperatures and anisotropy for each alpha, and the fluctuations that it belongs to by (18) of Sato, Yoshida & Kawazura: the
ratio of frequencies omega_b/omega_f for fluctuation domains of 1 cm, and for protons of 100 eV in a laboratory dipole whose
planet has a radius of .4 m, the frequency omega_f/2 pi. Two minutes on two cores.
"""

import argparse
import math
import pathlib

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import jaxbelt as jb

jb.enable_x64()

from jaxbelt import foliated  # noqa: E402
from jaxbelt.equations.foliated import Parameters  # noqa: E402
from jaxbelt.physics import fluctuations  # noqa: E402
from jaxbelt.physics import guiding_center as gc  # noqa: E402

DT, D_PERP, SIZE = 0.5, 5e-3, 0.01                                # SIZE: of a fluctuation domain [m]
TIMES = np.arange(0.0, 15.01, 1.0)
# 1.6e6 particles at t = 15: N/N0, T_perp, E_par
PARTICLES = {0.0: (0.0659, 1.843, 0.2210), 0.5: (0.0497, 1.841, 0.342)}


def ratio_of_alpha(alpha):
    """tau/tau_d of (18); infinite for 1/2, none above."""
    if alpha > 0.5:
        return math.nan
    return math.inf if alpha == 0.5 else -math.log1p(-math.sqrt(2.0 * alpha))


def typical_bounce(units, psi=0.7):
    """(length of the bounce orbit [m], omega_b [rad/s]) of a particle with mu B = 1 T0 and v_par^2/2 = T0/2 at the equator."""
    mu, energy = 1.0 / psi**3, 1.5
    end = gc.mirror_point(energy, mu, psi)
    return 4.0 * float(end.l) * units.R0, 2.0 * math.pi / (float(gc.bounce_period(energy, mu, psi)) * units.t0)


def meaning(alphas, units):
    """omega_b/omega_f and omega_f/2 pi [Hz] for each alpha; found by (19) and put back into (18)."""
    length, omega_b = typical_bounce(units)
    print(f"typical bounce: orbit of {length:.2f} m, {omega_b / 2 / math.pi / 1e3:.0f} kHz; domains of {100 * SIZE:g} cm, a = 1")
    out = []
    for alpha in alphas:
        tau = ratio_of_alpha(alpha)
        if 0.0 < tau < math.inf:
            omega_f = omega_b * length / (SIZE * tau)
            back = float(fluctuations.alpha_of_fluctuations(omega_b, omega_f, length, SIZE))
            assert abs(back - alpha) < 1e-12, (back, alpha)
            out.append((omega_b / omega_f, omega_f / (2.0 * math.pi)))
        else:
            out.append((tau, math.nan if tau != tau else (math.inf if tau == 0 else 0.0)))
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent / "out")
    parser.add_argument("--quick", action="store_true", help="a coarse grid")
    args = parser.parse_args()
    cells, mu = ((16, 24, 24), 6) if args.quick else ((24, 48, 60), 8)
    grid = foliated.grid(psi=(0.5, 0.95), cells=cells, mu=mu)
    problem, f0 = foliated.problem(grid, Parameters(D_perp=D_PERP, alpha=0.5), dt=DT), foliated.maxwellian(grid)
    units = foliated.units(100.0, 0.05, 0.4)
    alphas = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 1.0)
    rows, runs = meaning(alphas, units), {}
    print("\nalpha  omega_b/omega_f  omega_f/2pi |  N/N0(3)  N/N0(15) |  T_perp   E_par  T_perp/T_par at 15 (at 3)")
    for alpha, (ratio, frequency) in zip(alphas, rows):
        run = jb.solve(problem.replace(parameters=Parameters(D_perp=D_PERP, alpha=alpha)), f0, t=TIMES, dt=DT)
        a = runs[alpha] = foliated.averages(grid, run.f)
        share = np.asarray(a.number / a.number[0])
        print(f"{alpha:5.2f}  {ratio:15.4f}  {frequency / 1e6:8.2f} MHz | {share[3]:8.4f}  {share[15]:8.4f} | "
              f"{float(a.T_perp[15]):7.3f} {float(a.E_par[15]):7.3f}  {float(a.anisotropy[15]):7.3f} "
              f"({float(a.anisotropy[3]):.3f})"
              + ("" if alpha not in PARTICLES else "   particles: {:.4f} {:.3f} {:.3f} -> {:.3f}".format(
                  *PARTICLES[alpha], PARTICLES[alpha][1] / 2 / PARTICLES[alpha][2])))
    figure, axes = plt.subplots(1, 3, figsize=(14, 4.3), constrained_layout=True)
    colors = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(alphas)))
    for (alpha, a), color in zip(runs.items(), colors):
        axes[0].plot(TIMES, a.anisotropy, color=color, label=f"{alpha:g}")
        axes[1].plot(TIMES, a.number / a.number[0], color=color, label=f"{alpha:g}")
    axes[0].set(ylabel=r"$T_\perp/T_\parallel$ over all particles", ylim=(0, None))
    axes[1].set(ylabel="$N/N_0$", yscale="log")
    for ax in axes[:2]:
        ax.set_xlabel(r"t [$R_p/v_{th}$]")
        ax.legend(title=r"$\alpha$", fontsize=8)
    x = np.geomspace(1e-3, 3e-1, 200)
    length, omega_b = typical_bounce(units)
    axes[2].semilogx(x, fluctuations.alpha_of_fluctuations(x, 1.0, length, SIZE), "k-")
    for alpha, (ratio, _), color in zip(alphas, rows, colors):
        if 0 < ratio < math.inf:
            axes[2].plot(ratio, alpha, "o", color=color)
    axes[2].set(xlabel=r"$\omega_b/\omega_f$", ylabel=r"$\alpha$ of (18)", ylim=(0, 0.52),
                title=f"bounce orbit {length:.2f} m, domains {100 * SIZE:g} cm")
    for ax in axes:
        ax.grid(alpha=0.25, lw=0.4)
    args.out.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out / "foliated-alpha.png", dpi=130)
    plt.close(figure)
    print("wrote", args.out / "foliated-alpha.png")


if __name__ == "__main__":
    main()
