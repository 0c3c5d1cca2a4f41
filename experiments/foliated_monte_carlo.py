"""Inward diffusion followed with particles: the numbers a grid of the foliated equation has to find.

    python experiments/foliated_monte_carlo.py reference --n 1000000 --alpha 0.5 --dt 0.04
    python experiments/foliated_monte_carlo.py figures --n 400000 --out figures.npz [--case "sf, alpha 0"]
    python experiments/foliated_monte_carlo.py weak-error --n 200000

reference: mu = 20, psi in (.3, .7), D_perp = 1e-3, t = 8, walls and planet absorbing, P0 = exp(-H). figures: the two cases of
Figs. 1 and 2 of Sato, Yoshida & Kawazura, psi in (.5, .95), every mu up to 7/B at the outer wall: strong and fast (D_perp = 5e-3)
and weak and slow (5e-4). weak-error: the reference case against dt, with the same particles at the start.
"""

from __future__ import annotations

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np

import jaxbelt as jb

jb.enable_x64()

from jaxbelt import montecarlo as mc  # noqa: E402
from jaxbelt.equations.foliated import Parameters  # noqa: E402

TIMES = (0.0, 3.0, 6.0, 9.0, 15.0)
QUANTITIES = ("fraction", "T_perp", "E_par", "profile")
B_OUT = 0.5**3
RADII = (1.11, 1.40, 1.89)                          # of the equatorial values, within 4 % in r and 4 degrees of latitude


@jax.jit
def equatorial(end):
    """Sums of weight (1, mu B, v^2/2) and those for their errors, near the equator at RADII: (radii, 8)."""
    at = end.point
    near = (jnp.abs(at.s) < 0.07) & (jnp.abs(at.r_cyl / jnp.asarray(RADII)[:, None] - 1.0) < 0.04)
    w, heat, energy = near * end.weight, end.mu * at.B, 0.5 * (end.p * at.B) ** 2
    return jnp.stack([jnp.sum(y, axis=1) for y in (w, w * heat, w * energy, w**2, w**2 * heat, w**2 * heat**2, w**2 * energy,
                                                   w**2 * energy**2)], axis=1)


def particles(alpha=0.5, n=1_000_000, *, D_perp=1e-3, psi=(0.3, 0.7), mu=20.0, t=(0.0, 8.0), dt=0.04, substeps=2, bins=40, seed=0,
              batch=100_000, inner="absorbing", outer="absorbing", planet="absorbing", form="canonical") -> dict:
    """Averages over n particles at the times t, with standard errors: fraction = N/N0, T_perp = <mu B>, E_par = <v^2/2>, and the
    profile in psi between `edges`; N0 is the integral of P0; at the end also equatorial_T_perp and equatorial_E_par at RADII.

    t: multiples of dt, from 0. batch: particles at a time.
    """
    steps = np.rint(np.asarray(t) / dt).astype(int)
    every = int(np.gcd.reduce(steps[1:]))
    edges = np.linspace(*psi, bins + 1)
    total, local, began = None, 0.0, time.perf_counter()
    count = max(1, round(n / batch))
    for key in jax.random.split(jax.random.key(seed), count):
        start = mc.thermal(jax.random.fold_in(key, 0), n // count, psi=psi, mu=mu)
        walk = mc.walk(start, jax.random.fold_in(key, 1), parameters=Parameters(D_perp=D_perp, alpha=alpha), dt=dt,
                       steps=int(steps[-1]), every=every, psi=psi, inner=inner, outer=outer, planet=planet, form=form,
                       substeps=substeps, bins=edges)
        total = jax.block_until_ready(walk if total is None else total.merged(walk))
        local = local + np.asarray(equatorial(walk.particles))
    pick = steps // every
    out = {name: np.asarray(getattr(total, name))[pick] for q in QUANTITIES for name in (q, f"{q}_error")}
    for name, k in (("equatorial_T_perp", 1), ("equatorial_E_par", 2)):
        w, sums = local[:, 0], local[:, [3, 2 * k + 2, 2 * k + 3]]
        with np.errstate(invalid="ignore", divide="ignore"):                 # nobody there: nan
            out[name] = local[:, k] / w
            out[f"{name}_error"] = np.sqrt(sums[:, 2] - 2 * out[name] * sums[:, 1] + out[name] ** 2 * sums[:, 0]) / w
    # every batch is an estimate of the whole integral
    out.update(t=np.asarray(t), edges=edges, n=n // count * count, N0=float(total.N[0]) / count,
               seconds=time.perf_counter() - began, particle_steps=n // count * count * int(steps[-1]))
    return out


def show(title, out):
    print(f"\n{title}: {out['n']} particles, N0 = {out['N0']:.6g}, "
          f"{1e9 * out['seconds'] / out['particle_steps']:.0f} ns a particle and step")
    print("     t            N/N0          T_perp = <mu B>        E_par = <v^2/2>")
    for k, t in enumerate(out["t"]):
        print(f"{t:6.2f}" + "".join(f"   {out[q][k]:9.5f} +- {out[q + '_error'][k]:.5f}" for q in QUANTITIES[:3]))


def show_equator(out):
    for k, r in enumerate(RADII):
        found = (f"   {q} {out[f'equatorial_{q}'][k]:.3f} +- {out[f'equatorial_{q}_error'][k]:.3f}" for q in ("T_perp", "E_par"))
        print(f"  equator, r = {r}:" + "".join(found))


def reference(args):
    out = particles(args.alpha, args.n, dt=args.dt, substeps=args.substeps, seed=args.seed)
    show(f"mu = 20, alpha = {args.alpha:g}, dt = {args.dt:g}", out)
    print("psi profile of N/N0 at the end: " + " ".join(f"{y:.3f}" for y in out["profile"][-1][::4]))
    return out


def figures(args):
    cases = {"sf, alpha 1/2": (5e-3, 0.5), "ws, alpha 1/2": (5e-4, 0.5), "sf, alpha 0": (5e-3, 0.0)}
    found = {}
    for name, (D_perp, alpha) in cases.items():
        if args.case not in name:
            continue
        out = particles(alpha, args.n, D_perp=D_perp, psi=(0.5, 0.95), mu=(0.0, 7.0 / B_OUT), t=TIMES, dt=args.dt,
                        substeps=args.substeps, seed=args.seed)
        show(name, out)
        show_equator(out)
        found.update({f"{name}: {k}": v for k, v in out.items()})
    return found


def weak_error(args):
    found = {}
    for dt in (0.8, 0.4, 0.2, 0.1, 0.05):
        # the bounce resolved alike, so that only the splitting and the walls change
        out = particles(args.alpha, args.n, dt=dt, substeps=max(1, round(dt / 0.02)), seed=args.seed)
        show(f"alpha = {args.alpha:g}, dt = {dt:g}", out)
        found.update({f"dt {dt:g}: {k}": v for k, v in out.items()})
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("reference", "figures", "weak-error"))
    parser.add_argument("--n", type=int, default=1_000_000, help="number of particles")
    parser.add_argument("--alpha", type=float, default=0.5)
    parser.add_argument("--dt", type=float, default=0.04)
    parser.add_argument("--substeps", type=int, default=2, help="Runge-Kutta steps in each half of dt")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", default="", help="of the figures, those whose name contains this")
    parser.add_argument("--out", help="file (.npz) for the numbers")
    args = parser.parse_args()
    out = {"reference": reference, "figures": figures, "weak-error": weak_error}[args.what](args)
    if args.out:
        np.savez(args.out, **{k: jnp.asarray(v) for k, v in out.items()})


if __name__ == "__main__":
    main()
