"""Electric potential fluctuations in a dipole: their diffusion coefficients, test particles, and a drift-periodic flux signal.

    python experiments/electric_fluctuations.py [statistics] [memory] [signal] [--pairs N] [--particles N] [--out DIR]

statistics: D_LL, D_Lphi, D_phiphi by the statistics of Eq. 28 of Lejosne & Albert (2023) on particles against the closed forms
of white noise, and Eq. 24 on the same particles. memory: the same over the correlation time, against Kubo's integral.
signal: a cloud of electrons (1 MeV at L = 5) seen by three virtual spacecraft, by the equation and by particles.
Without a word, all three. About 15 minutes on two cores.
"""

from __future__ import annotations

import argparse
import math
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np

import jaxbelt as jb

jb.enable_x64()

from jaxbelt import drift_diffusion as dd  # noqa: E402
from jaxbelt import montecarlo as mc  # noqa: E402
from jaxbelt.physics.potential_noise import PotentialNoise  # noqa: E402

MU = float(jb.dipole.mu_of_energy(1.0, 5.0))
KINETIC = jb.dipole.KineticEnergy(mu=MU)
L0, PHI0 = 5.0, 0.7
COMMON = dict(kinetic=KINETIC, reference_l=5.0)
WHITE = {
    "isotropic": PotentialNoise(S=1e8, m=1, **COMMON),
    "one pattern, rank 1": PotentialNoise(S=1e8, m=1, phase=-0.5 * math.pi, **COMMON),
    "spectrum m = 0, 1, 3, twisted": PotentialNoise(S=[1e8, 5e7, 1e7], m=(0, 1, 3), power=[2.0, 1.0, 1.0], twist=3.0, **COMMON),
}


def closed(noise, L, phi):
    """(D_LL, D_Lphi, D_phiphi) per day at one place."""
    L, phi = jnp.asarray([float(L)]), jnp.asarray([float(phi)])
    ll, lphi, phil, phiphi = (float(jnp.ravel(x)[0]) for x in noise.tensor(0.0, L, phi))
    return np.array([ll, 0.5 * (lphi + phil), phiphi]) * 86400.0


def row(name, value, error, exact):
    print(f"  {name:26s} {value: .6e} +- {error:.1e}   {exact: .6e}   {(value - exact) / error: 6.2f}", flush=True)


def statistics(pairs):
    """White noise: particles for a moment from one place, and both sides of Eq. 24."""
    print(f"\nWhite noise at L = {L0:g}, phi = {PHI0:g}: {pairs} pairs, a fifth of them for Eq. 24\n"
          f"  {'':26s} {'particles':>24s}   {'closed form':>13s}   errors off")
    short = dict(dt=2e-5, steps=5)              # white noise is the same at any scale, and the drift is not felt
    for i, (name, noise) in enumerate(WHITE.items()):
        print(f" {name}")
        got = mc.drift_statistics(L0, PHI0, jax.random.key(i), noise=noise, pairs=pairs, chunks=10, **short)
        for label, value, error, exact in zip(("D_LL [1/d]", "D_Lphi [rad/d]", "D_phiphi [rad^2/d]"), got[:3], got[5:8],
                                              closed(noise, L0, PHI0)):
            row(label, float(value), float(error), exact)
        both = mc.drift_identity(L0, PHI0, jax.random.key(100 + i), noise=noise, pairs=pairs // 5, chunks=10, **short)
        h = 1e-4
        d = {(a, b): closed(noise, L0 + a * h, PHI0 + b * h) for a in (-1, 0, 1) for b in (-1, 0, 1) if not a or not b}
        slope = [L0**2 * (d[1, 0][k] / (L0 + h) ** 2 - d[-1, 0][k] / (L0 - h) ** 2) / (2 * h)
                 + (d[0, 1][k + 1] - d[0, -1][k + 1]) / (2 * h) for k in (0, 1)]
        for label, k, exact in (("d<L>/dt [R_E/d]", 0, slope[0]), ("its divergence", 2, slope[0]), ("left, <Ldot>", 4, 0.0),
                                ("d<phi>/dt - Omega [rad/d]", 1, slope[1]), ("its divergence", 3, slope[1]),
                                ("left, <phidot> - Omega", 5, 0.0)):
            row(label, float(both[k]), float(both[k + 6]), exact)


def memory(pairs, out):
    """Coefficients over tau_c, by particles and by Kubo's integral."""
    white = PotentialNoise(S=1e7, m=1, twist=2.0, **COMMON)
    omega = float(white.rate(0.0, jnp.asarray(L0)))
    flat = closed(white, L0, PHI0)
    print(f"\nOrnstein-Uhlenbeck noise, m = 1, twist 2, over its white limit: {pairs} pairs a row\n"
          "   tau_c  Omega tau_c     Kubo    D_LL particles     D_Lphi particles   D_phiphi particles   errors off")
    taus, rows = (1.0, 3.0, 10.0, 30.0, 60.0, 100.0, 200.0, 300.0), []
    for i, tau in enumerate(taus):
        dt = 10.0
        skip = math.ceil(8 * tau / dt)
        noise = white.replace(tau_c=tau)
        got = mc.drift_statistics(L0, PHI0, jax.random.key(200 + i), noise=noise, dt=dt, steps=2 * skip, skip=skip, pairs=pairs,
                                  chunks=20)
        value, error = np.array([float(x) for x in got[:3]]) / flat, np.array([float(x) for x in got[5:8]]) / np.abs(flat)
        kubo = closed(noise, L0, PHI0) / flat
        rows.append((value, error, kubo))
        numbers = "".join(f"   {v:.4f} +- {e:.4f}" for v, e in zip(value, error))
        off = " ".join(f"{z:5.2f}" for z in (value - kubo) / error)
        print(f"  {tau:5g} s {omega * tau:10.4f}   {kubo[0]:.4f}{numbers}   {off}", flush=True)
    long = white.replace(tau_c=60.0)
    both = mc.drift_identity(L0, PHI0, jax.random.key(300), noise=long, dt=10.0, steps=96, skip=48, pairs=pairs, chunks=20)
    h = 1e-3
    exact = L0**2 * (closed(long, L0 + h, 0)[0] / (L0 + h) ** 2 - closed(long, L0 - h, 0)[0] / (L0 - h) ** 2) / (2 * h)
    turning = float(long.mean_drift(0.0, L0, PHI0)[1] - long.rate(0.0, L0)) * 86400.0
    print(" Eq. 24 at tau_c = 60 s (what is left in phi: the mean drift of the noise itself)")
    for label, k, value in (("d<L>/dt [R_E/d]", 0, exact), ("its divergence", 2, exact), ("left, <Ldot>", 4, 0.0),
                            ("left, <phidot> - Omega", 5, turning)):
        row(label, float(both[k]), float(both[k + 6]), value)
    draw_memory(taus, rows, white, flat, omega, out / "memory.png")


def draw_memory(taus, rows, white, flat, omega, path):
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(6.4, 4.0), constrained_layout=True)
    fine = np.geomspace(0.7, 450.0, 80)
    lines = np.array([closed(white.replace(tau_c=x), L0, PHI0) / flat for x in fine])
    for k, (name, mark) in enumerate((("$D_{LL}$", "o"), (r"$D_{L\varphi}$", "s"), (r"$D_{\varphi\varphi}$", "^"))):
        shift = 1.0 + 0.06 * (k - 1)
        ax.errorbar(np.array(taus) * omega * shift, [r[0][k] for r in rows], [3 * r[1][k] for r in rows], fmt=mark, ms=4,
                    color=f"C{k}", capsize=2, label=f"{name}, particles")
        if k == 0:
            ax.plot(fine * omega, lines[:, k], "k-", lw=1, label=r"Kubo: $1/(1 + (\Omega\tau_c)^2)$")
    ax.set(xscale="log", xlabel=r"$\Omega\,\tau_c$", ylabel="coefficient / white-noise limit", ylim=(0, 1.15))
    ax.set_title("Diffusion by noise with a memory; bars are three standard errors", fontsize=10)
    ax.legend(frameon=False, fontsize=9)
    fig.savefig(path, dpi=150)
    plt.close(fig)


# --- the equation against particles: a drift-periodic signal --------------------------------------------------------------------

def demodulated(t, signal, rate):
    """Complex amplitude of exp(i rate t) in signal (times first), in Hann windows two periods long, one a period."""
    period = 2 * np.pi / rate
    centers = np.arange(1, int(t[-1] / period)) * period
    w = np.where(np.abs(t - centers[:, None]) < period, np.cos(0.5 * np.pi * (t - centers[:, None]) / period) ** 2, 0.0)
    w = w / w.sum(axis=1, keepdims=True) * np.exp(-1j * rate * t)
    return centers, 2 * np.tensordot(w, signal, axes=1)


def period_of(centers, Z, rate):
    """The period from how the phase of the demodulated signal goes."""
    phase = np.unwrap(np.angle(Z), axis=0)
    w = np.abs(Z) ** 2
    mean = np.sum(w * centers[:, None], axis=0) / w.sum(axis=0)
    slope = np.sum(w * (centers[:, None] - mean) * phase, axis=0) / np.sum(w * (centers[:, None] - mean) ** 2, axis=0)
    return 2 * np.pi / (rate + slope)


def cloud(grid):
    L, phi = grid.mesh()
    return np.exp(-0.5 * ((L - 5.0) / 0.35) ** 2 + (np.cos(phi - math.pi / 6) - 1) / 0.4**2)


def by_equation(noise, grid, t, dt, **without):
    prm = dd.Parameters(**({"dll": noise.dll, "dlphi": noise.dlphi, "dphiphi": noise.dphiphi, "kinetic": KINETIC,
                            "potential": noise.mean_potential} | without))
    problem = dd.problem(grid, prm, inner=0.0, outer=0.0)
    return np.asarray(jb.solve(problem, cloud(grid), t=t, dt=dt).f)


class Spacecraft:
    """Blocks of cells, 4 in L and 5 in phi, about 11.5 MLT."""

    def __init__(self, grid, at=(4.5, 5.0, 5.5), phi=3.0):
        lf, pf = grid.faces("L").ravel(), grid["phi"].faces
        self.j = int(np.argmin(np.abs(grid["phi"].centers - phi)))
        self.i = [int(np.argmin(np.abs(lf - x))) for x in at]
        self.L = [2.0 / (1 / lf[i - 2] + 1 / lf[i + 2]) for i in self.i]
        self.windows = [[lf[i - 2], lf[i + 2], pf[self.j - 2], pf[self.j + 3]] for i in self.i]
        self.volume = np.array([(1 / a - 1 / b) * (d - c) for a, b, c, d in self.windows])
        self.volumes = np.asarray(grid.volumes)

    def see(self, f):
        """Averages of f (times, L, phi), (times, spacecraft)."""
        js = slice(self.j - 2, self.j + 3)
        return np.stack([np.sum((f * self.volumes)[:, i - 2:i + 2, js], axis=(1, 2)) for i in self.i], -1) / self.volume


def signal(name, noise, particles, periods=9.5, dt=15.0, cells=(96, 128), chunks=40):
    """What the spacecraft see, by the equation and by particles; the table of periods and amplitudes."""
    grid = dd.grid(L=(3.0, 7.0), cells=cells, spacing="inverse")
    craft = Spacecraft(grid)
    P = float(jb.dipole.drift_period(5.0, MU))
    t = np.arange(0.0, periods * P, 2 * dt)
    began = time.perf_counter()
    full = craft.see(by_equation(noise, grid, t, dt))
    took = time.perf_counter() - began
    less = {"without D_Lphi": craft.see(by_equation(noise, grid, t, dt, dlphi=None)),
            "D_LL alone": craft.see(by_equation(noise, grid, t, dt, dlphi=None, dphiphi=None))}
    f0 = cloud(grid)
    began = time.perf_counter()
    start = mc.sample_drift(jax.random.key(1), particles, grid, f0)
    path = mc.drift_walk(*start, jax.random.key(2), noise=noise, dt=dt, steps=2 * (t.size - 1), every=2, windows=craft.windows,
                         walls=(3.0, 7.0), chunks=chunks)
    counts = np.asarray(path.counts) * chunks * float(grid.content(f0)) / craft.volume[:, None]      # (t, craft, chunk)
    mean, error = counts.mean(axis=-1), counts.std(axis=-1, ddof=1) / math.sqrt(chunks)
    print(f"\n{name}: D(L = 5) = " + ", ".join(f"{x:.3f}" for x in closed(noise, 5.0, PHI0))
          + f" per day (LL, Lphi, phiphi); {cells[0]} x {cells[1]} cells ({took:.0f} s), {particles} particles "
          f"({time.perf_counter() - began:.0f} s), lost {1 - float(path.weight.sum()):.1e}")
    seen = mean > 0.02 * mean.max()
    z = ((full - mean) / np.where(seen, error, 1.0))[seen]
    print(f"  all {z.size} values above 2 % of the peak: rms {np.sqrt(np.mean(z**2)):.2f} errors off, largest "
          f"{np.abs(z).max():.2f}")
    for s, L in enumerate(craft.L):
        rate = float(jb.dipole.drift_rate(L, MU))
        centers, Z = demodulated(t, full[:, s:s + 1], rate)
        _, Zp = demodulated(t, counts[:, s], rate)
        n = min(8, centers.size)
        whole = Zp.mean(axis=1)
        left_out = (Zp.sum(axis=1, keepdims=True) - Zp) / (chunks - 1)
        jack = period_of(centers[:n], left_out[:n], rate)
        p_error = math.sqrt((chunks - 1) / chunks * np.sum((jack - jack.mean()) ** 2))
        exact, of_grid, of_particles = 2 * np.pi / rate, period_of(centers[:n], Z[:n], rate)[0], period_of(
            centers[:n], whole[:n, None], rate)[0]
        print(f"  L = {L:.3f}: drift period {exact:.2f} s; equation {of_grid:.2f} s ({100 * (of_grid / exact - 1):+.2f} %); "
              f"particles {of_particles:.2f} +- {p_error:.2f} s")
        a_error = np.real(Zp * np.exp(-1j * np.angle(whole))[:, None]).std(axis=1, ddof=1) / math.sqrt(chunks)
        others = {k: np.abs(demodulated(t, v[:, s:s + 1], rate)[1][:, 0]) for k, v in less.items()}
        print("    period  equation  particles            errors off   " + "   ".join(others))
        for k in range(n):
            off = (abs(Z[k, 0]) - abs(whole[k])) / a_error[k]
            print(f"    {k + 1:6d}  {abs(Z[k, 0]):.5f}   {abs(whole[k]):.5f} +- {a_error[k]:.5f}   {off:9.2f}    "
                  + "   ".join(f"{v[k]:14.5f}" for v in others.values()), flush=True)
    return t / P, full, mean, error, less


def draw_signal(results, path):
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(len(results), 1, figsize=(8.0, 2.9 * len(results)), sharex=True, constrained_layout=True,
                             squeeze=False)
    for ax, (name, (t, full, mean, error, less)) in zip(axes[:, 0], results.items()):
        ax.errorbar(t, mean[:, 1], 3 * error[:, 1], fmt=".", ms=3, color="C1", lw=0.8, label="particles, three standard errors")
        ax.plot(t, full[:, 1], "k-", lw=1.0, label="equation, full tensor")
        ax.plot(t, less["D_LL alone"][:, 1], "C0--", lw=0.9, label="$D_{LL}$ alone")
        ax.set(ylabel="f at L = 5, 11.5 MLT", title=name)
        ax.title.set_fontsize(10)
    axes[0, 0].legend(frameon=False, fontsize=9)
    axes[-1, 0].set(xlabel="time in drift periods (794.6 s)", xlim=(0, t[-1]))
    fig.savefig(path, dpi=150)
    plt.close(fig)


SIGNALS = {
    "white noise, one spiral": PotentialNoise(S=3e10, m=1, twist=10.0, **COMMON),
    "white noise, the other spiral": PotentialNoise(S=3e10, m=1, twist=-10.0, **COMMON),
    "noise with tau_c = 30 s, m = 0, 1, 2": PotentialNoise(S=[2e12, 3e10, 1e10], m=(0, 1, 2), tau_c=30.0, **COMMON),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="*", choices=["statistics", "memory", "signal", []], default=[])
    parser.add_argument("--pairs", type=int, default=200_000)
    parser.add_argument("--particles", type=int, default=400_000)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("."))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    what = args.what or ["statistics", "memory", "signal"]
    if "statistics" in what:
        statistics(args.pairs)
    if "memory" in what:
        memory(args.pairs, args.out)
    if "signal" in what:
        draw_signal({k: signal(k, v, args.particles) for k, v in SIGNALS.items()}, args.out / "signal.png")


if __name__ == "__main__":
    main()
