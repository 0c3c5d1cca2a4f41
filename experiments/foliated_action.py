"""What fluctuations do to the bounce action J_par of particles in a dipole: slow, weak ones keep it, fast, strong ones do not.

    python experiments/foliated_action.py [--out FOLDER] [--n PARTICLES] [--quick]

Particles of one mu and energy, in every phase of their bounce, are carried across the field by dpsi/dt = -phi_theta(t), each by
its own Gaussian noise of strength D_perp (spectrum D_perp at frequency 0) and frequency omega_f = 2 pi/tau_f: with sharp fronts,
spectrum D_perp/(1 + (omega/omega_f)^2), that of a train of decaying pulses, or smooth, D_perp exp(-(omega/omega_f)^2). The action
changes at the rate (20) of Sato, Yoshida & Kawazura. Prints that its bounce average is 0 and that it is the slope of J along the
orbits, then how far J has spread after two bounces against tau_f/T_b, beside what the noise gives to first
order (its power near the harmonics of the bounce), and beside white noise of `montecarlo`. A minute on two cores.
"""

import argparse
import math
import pathlib
import types

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import jaxbelt as jb

jb.enable_x64()

from jaxbelt import montecarlo as mc  # noqa: E402
from jaxbelt.physics import fluctuations  # noqa: E402
from jaxbelt.physics import guiding_center as gc  # noqa: E402

PSI, MU, RHO = 0.6, 4.0, 0.05
B_EQ = PSI**3
H = 1.5 * MU * B_EQ                                               # mirrors where B is half as strong again as at the equator
CENTER = gc.GuidingCenter(e=1.0 / RHO)
T_B = float(gc.bounce_period(H, MU, PSI, CENTER))
J_0 = float(gc.bounce_action(H, MU, PSI, CENTER))
BOUNCES, STEPS = 2, 80                                           # followed for, and steps in each
SHAPES = {"sharp fronts": lambda x: 1.0 / (1.0 + x**2), "smooth": lambda x: jnp.exp(-x**2)}


def phases(n):
    """(chi, p) through one undisturbed bounce, at n equal times."""
    top = math.sqrt(2.0 * (H - MU * B_EQ)) / B_EQ
    steps = max(1, round(480 / n)) * n
    orbit = gc.orbit((0.0, top, 0.0, PSI), MU, T_B / steps, steps, CENTER, every=steps // n)
    return np.asarray(orbit.chi)[:-1], np.asarray(orbit.p)[:-1]


def actions(chi, p, psi):
    """J_par, mean potential zero."""
    energy = gc.hamiltonian(chi, p, 0.0, psi, MU, CENTER)
    return gc.bounce_action(jnp.maximum(energy, MU * psi**3), MU, psi, CENTER)


def response(n=256):
    """dJ/dt for dpsi/dt = -1, through one bounce: (20) with phi_theta = 1."""
    chi, p = phases(n)
    pushed = gc.GuidingCenter(e=CENTER.e, fluctuation=lambda t, chi, theta, psi: theta)
    return np.asarray(gc.bounce_action_rate(chi, p, 0.0, PSI, MU, pushed))


def kernel(modes=24, per_harmonic=200):
    """(omega, what a noise of spectrum 1 around omega does to the variance of J/J_0 in BOUNCES bounces), omega of either sign:
    |g_n|^2 of the harmonics of `response`, each as sharp as the time allows."""
    power = np.abs(np.fft.fft(response()) / 256) ** 2
    omega_b, T = 2.0 * math.pi / T_B, BOUNCES * T_B
    omega = omega_b / per_harmonic * np.arange(-(modes + 40) * per_harmonic, (modes + 40) * per_harmonic + 1)
    total = sum(power[n % 256] * np.sinc((omega - n * omega_b) * T / (2.0 * math.pi)) ** 2 for n in range(-modes, modes + 1) if n)
    return omega, total * T**2 / J_0**2 * omega_b / per_harmonic / (2.0 * math.pi)


def first_order(known, shape, omega_f, D_perp):
    """Spread of J/J_0 to first order in the noise: the wobble of J within a bounce, and what stays."""
    omega, weight = known
    return math.sqrt(D_perp * float(np.sum(weight * np.asarray(SHAPES[shape](np.abs(omega) / omega_f)))))


@jax.jit
def _pushed(chi, p, dW):
    """Orbits under the potential phi_theta(t) theta that moves psi by dW in each step."""
    h = T_B / STEPS
    slope = -dW / h

    def fluctuation(t, chi, theta, psi):
        return slope[jnp.clip(jnp.floor(t / h).astype(int), 0, slope.shape[0] - 1)] * theta

    out = gc.orbit((chi, p, jnp.zeros_like(chi), jnp.full_like(chi, PSI)), MU, h, dW.shape[0],
                   gc.GuidingCenter(e=CENTER.e, fluctuation=fluctuation), every=4, iterations=6)
    J = actions(jnp.where(out.lost, 0.0, out.chi), jnp.where(out.lost, 0.0, out.p), jnp.where(out.lost, PSI, out.psi))
    return out.t, J / J_0, out.psi, out.lost


def spread(key, shape, omega_f, D_perp, n):
    """Times, J/J_0, psi and who is lost (to the planet), each (outputs, n)."""
    chi, p = (np.tile(y, -(-n // y.size))[:n] for y in phases(40))
    # made for four times as long, so that slow noise has frequencies enough
    whole = 4 * BOUNCES * STEPS
    noise = fluctuations.spectral_increments(key, lambda w: SHAPES[shape](w / omega_f), whole, T_B / STEPS, (n,))[:whole // 4]
    return [np.asarray(y) for y in _pushed(chi, p, math.sqrt(D_perp) * noise)]


def width(J):
    """Half the range that holds the middle 68.3 %: a standard deviation that far outliers do not set."""
    return float(np.diff(np.quantile(J, [0.15866, 0.84134]))[0] / 2.0)


def spread_of(J, lost):
    """Spread of J/J_0 over the particles left (`width`), its error, and the median change with its error."""
    J = J[-1][~lost[-1]]
    parts = np.array([width(part) for part in np.array_split(J, 10)])
    return width(J), parts.std() / 3.0, np.median(J) - 1.0, 1.25 * width(J) / math.sqrt(J.size)


def white(key, D_perp, n):
    """The same with white noise, from `montecarlo`."""
    chi, p = (np.tile(y, -(-n // y.size))[:n] for y in phases(40))
    start = mc.from_canonical(chi, p, PSI, MU)
    settings = types.SimpleNamespace(D_perp=D_perp, alpha=0.5)
    end = mc.walk(start, key, parameters=settings, dt=T_B / STEPS, steps=BOUNCES * STEPS, psi=(0.02, 0.98), substeps=2).particles
    left = np.asarray(end.weight) > 0.0
    chi, p, psi = (np.asarray(y)[left] for y in (end.chi, end.p, end.psi))
    J = np.asarray(actions(chi, p, psi)) / J_0
    return width(J), np.median(J) - 1.0, left.mean()


def check_rate():
    """The bounce average of (20), and (20) against the slope of J along an orbit under a pulse."""
    G = response()
    print(f"T_b = {T_B:.4f}, J_0 = {J_0:.4f}: dJ/dt of (20) per unit phi_theta between {G.min():.3f} and {G.max():.3f} through a "
          f"bounce, average {abs(G.mean()):.1e}")
    pushed = gc.GuidingCenter(e=CENTER.e, fluctuation=lambda t, chi, theta, psi: 0.05 * jnp.sin(2.0 * t) * theta)
    h = T_B / 960
    out = gc.orbit((0.1, 1.0, 0.0, PSI), MU, h, 960, pushed)
    J = np.asarray(actions(out.chi, out.p, out.psi))
    slope = (8.0 * (J[3:-1] - J[1:-3]) - (J[4:] - J[:-4])) / (12.0 * h)
    t = np.asarray(out.t)[2:-2]
    rate = jax.vmap(lambda t, *at: gc.bounce_action_rate(*at, MU, pushed, t))(t, *(y[2:-2] for y in (out.chi, out.p, out.theta,
                                                                                                 out.psi)))
    print(f"slope of J along an orbit against (20): largest difference {np.max(np.abs(slope - rate)):.1e} of "
          f"{np.max(np.abs(rate)):.3f}")


def table(args, known):
    """Spread of J over the scan, printed: {(shape, D_perp): [(tau_f/T_b, spread)]}."""
    ratios = np.array([0.1, 0.5, 2.0, 8.0] if args.quick else [0.1, 0.2, 0.4, 0.7, 1.0, 2.0, 4.0, 8.0])
    strengths = (5e-5, 5e-4, 5e-3)
    found, key = {}, jax.random.key(3)
    print(f"\nspread of J/J_0 after {BOUNCES} bounces, {args.n} particles (first order in the noise in brackets)")
    for shape in SHAPES:
        print(f"{shape}:  tau_f/T_b" + "".join(f"        D_perp = {D:g}        " for D in strengths))
        for i, ratio in enumerate(ratios):
            omega_f, line = 2.0 * math.pi / (ratio * T_B), []
            for k, D in enumerate(strengths):
                _, J, psi, lost = spread(jax.random.fold_in(key, 100 * i + k), shape, omega_f, D, args.n)
                s, error, _, _ = spread_of(J, lost)
                line.append(f"{s:9.5f}({1e5 * error:3.0f}) [{first_order(known, shape, omega_f, D):.5f}]")
                found.setdefault((shape, D), []).append((ratio, s))
            print(f"{ratio:22.2f}   " + "  ".join(line))
    print("white noise, by particles:")
    for D in strengths:
        s, change, left = white(jax.random.key(5), D, 4 * args.n)
        print(f"  D_perp = {D:g}: {s:.5f} [{first_order(known, 'smooth', math.inf, D):.5f}], "
              f"median change {change:+.5f}, {100 * left:.1f} % left")
        found["white", D] = s
    return found, strengths


CASES = (("slow and weak", "smooth", 8.0, 5e-4), ("fast and strong", "smooth", 0.1, 5e-3))


def picture(args, known, found, strengths):
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.6), constrained_layout=True)
    for k, (ax, (name, shape, ratio, D)) in enumerate(zip(axes, CASES)):
        omega_f = 2.0 * math.pi / (ratio * T_B)
        t, J, psi, lost = spread(jax.random.key(11 + k), shape, omega_f, D, args.n)
        s, error, change, change_error = spread_of(J, lost)
        moved = psi[-1][~lost[-1]].std()
        strength = math.sqrt(D * omega_f / (2.0 * math.sqrt(math.pi))) / RHO / H
        print(f"{name}: tau_f/T_b = {ratio:g}, D_perp = {D:g} (rms e phi_theta/H = {strength:.2f}): J/J_0 spreads by {s:.4f} +- "
              f"{error:.4f}, median change {change:+.4f} +- {change_error:.4f}, psi by {moved:.3f}, "
              f"{100 * lost[-1].mean():.1f} % lost")
        J = np.where(lost, np.nan, J)
        low, high = np.nanpercentile(J, [16, 84], axis=1)
        ax.fill_between(t / T_B, low, high, color="0.85", label="16 to 84 % of all")
        for i in range(8):
            ax.plot(t / T_B, J[:, 5 * i], lw=1.2)
        ax.set(title=rf"{name}: $\tau_f$ = {ratio:g} $T_b$, $D_\perp$ = {D:g}", xlabel=r"t/$T_b$", ylabel=r"$J_\parallel/J_0$",
               ylim=(0.0, 2.6), xlim=(0, BOUNCES))
        ax.legend(fontsize=8)
    ax, x = axes[2], np.geomspace(0.04, 12, 200)
    for D, color in zip(strengths, ("C0", "C1", "C3")):
        for shape, mark, line in (("sharp fronts", "o", "-"), ("smooth", "s", "--")):
            ratio, s = np.array(found[shape, D]).T
            ax.plot(ratio, s, mark, color=color, ms=5, mfc="none" if mark == "s" else color,
                    label=rf"$D_\perp$ = {D:g}" if mark == "o" else None)
            y = [first_order(known, shape, 2.0 * math.pi / (r * T_B), D) for r in x]
            ax.plot(x, y, line, color=color, lw=1.0)
        ax.plot(0.032, found["white", D], "<", color=color, ms=7)
    ax.plot([], [], "ko-", ms=5, lw=1, label="sharp fronts; line: first order")
    ax.plot([], [], "ks--", ms=5, lw=1, mfc="none", label="smooth; line: first order")
    ax.plot([], [], "k<", ls="none", label="white noise, montecarlo")
    ax.set(xscale="log", yscale="log", xlabel=r"$\tau_f/T_b = \omega_b/\omega_f$", xlim=(0.028, 12), ylim=(1e-4, 2),
           ylabel=rf"spread of $J_\parallel/J_0$ after {BOUNCES} bounces", title="destruction of the bounce action")
    ax.grid(alpha=0.25, lw=0.4)
    ax.legend(fontsize=8, loc="lower left")
    args.out.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out / "foliated-action.png", dpi=130)
    plt.close(figure)
    print("wrote", args.out / "foliated-action.png")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent / "out")
    parser.add_argument("--n", type=int, default=None, help="particles a point (default 2000; 1000 with --quick)")
    parser.add_argument("--quick", action="store_true", help="four times tau_f instead of eight")
    args = parser.parse_args()
    args.n = args.n or (1000 if args.quick else 2000)
    check_rate()
    known = kernel()
    found, strengths = table(args, known)
    picture(args, known, found, strengths)


if __name__ == "__main__":
    main()
