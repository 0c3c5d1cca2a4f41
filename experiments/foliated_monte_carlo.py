"""Inward diffusion followed with particles: the numbers a grid of the foliated equation has to find.

    python experiments/foliated_monte_carlo.py reference --n 1000000 --alpha 0.5 --dt 0.04
    python experiments/foliated_monte_carlo.py figures --n 400000 --out figures.npz [--case "sf, alpha 0"]
    python experiments/foliated_monte_carlo.py weak-error --n 200000
    python experiments/foliated_monte_carlo.py grid [--quick]
    python experiments/foliated_monte_carlo.py theta --n 400000 [--quick]

reference: mu = 20, psi in (.3, .7), D_perp = 1e-3, t = 8, walls and planet absorbing, P0 = exp(-H). figures: the two cases of
Figs. 1 and 2 of Sato, Yoshida & Kawazura, psi in (.5, .95), every mu up to 7/B at the outer wall: strong and fast (D_perp = 5e-3)
and weak and slow (5e-4). weak-error: the reference case against dt, with the same particles at the start. grid: the reference
case on grids, by the remap and by finite volumes, beside 1e6 particles; the error of a grid is its difference from a coarser one
(and from twice the step). theta: all four dimensions: one mu, a density that depends on theta, drifts, a mean potential, noise in
psi, theta and v_par, friction, alpha = 1/4; on two grids and with particles.
"""

from __future__ import annotations

import argparse
import dataclasses
import time

import jax
import jax.numpy as jnp
import numpy as np

import jaxbelt as jb

jb.enable_x64()

from jaxbelt import foliated  # noqa: E402
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


# the averages of 1e6 particles: alpha: ((N/N0, T_perp, E_par), standard errors)
REFERENCE = {0.5: ((0.43447, 2.5033, 0.8458), (4.9e-4, 2.4e-3, 2.2e-3)),
             0.0: ((0.47595, 2.5001, 0.7052), (4.9e-4, 2.2e-3, 1.8e-3))}


def on_grid(alpha, cells, dt, bounce, mu=20.0, psi=(0.3, 0.7), end=8.0, problems={}):  # noqa: B006
    """N/N0, T_perp, E_par at the end on a grid of (chi, p, psi) cells."""
    key = cells, dt, bounce
    if key not in problems:
        grid = foliated.grid(psi=psi, cells=cells, mu=[mu])
        problems[key] = foliated.problem(grid, Parameters(D_perp=1e-3, alpha=0.5), dt=dt, bounce=bounce,
                                         temperature=1.0 if bounce == "finite-volume" else None)
    problem = problems[key].replace(parameters=Parameters(D_perp=1e-3, alpha=float(alpha)))
    run = jb.solve(problem, foliated.maxwellian(problem.grid), t=np.array([0.0, end]), dt=dt)
    a = foliated.averages(problem.grid, run.f)
    return np.array([a.number[1] / a.number[0], a.T_perp[1], a.E_par[1]])


def grids(args):
    """The reference case: remap in two steps and on two grids, finite volumes (whose steps are short anyway) on two grids."""
    fine, coarse = ((32, 40, 48), (24, 32, 36)) if args.quick else ((40, 48, 72), (32, 40, 48))
    volumes, fewer = ((16, 24, 24), (12, 20, 18)) if args.quick else ((24, 32, 36), (16, 24, 24))
    runs = (("remap", fine, 0.5), ("remap", fine, 0.25), ("remap", coarse, 0.25), ("finite-volume", volumes, 0.5),
            ("finite-volume", fewer, 0.5))
    runs, out = [run for run in runs if args.bounce in run[0]], {}
    for alpha, (mean, error) in REFERENCE.items():
        print(f"\nmu = 20, alpha = {alpha:g}, t = 8; cells are (chi, p, psi); in brackets the difference from the particles")
        print(f"{'particles':>42}" + "".join(f"   {m:.5f} +- {e:.5f} " for m, e in zip(mean, error)))
        found = {}
        for bounce, cells, dt in runs:
            began = time.perf_counter()
            got = found[bounce, cells, dt] = on_grid(alpha, cells, dt, bounce)
            print(f"{bounce:>16} {str(cells):>16} dt {dt:5.2f}" + "".join(f"   {g:.5f} ({g - m:+.5f})" for g, m in zip(got, mean))
                  + f"   {time.perf_counter() - began:.0f} s", flush=True)
            out[f"{alpha:g} {bounce} {cells} {dt:g}"] = got
        if ("remap", fine, 0.25) in found:
            got = found["remap", fine, 0.25]
            off = np.abs(got - found["remap", coarse, 0.25]) + np.abs(got - found["remap", fine, 0.5])
            verdict("remap", got, mean, error, off)
        if ("finite-volume", volumes, 0.5) in found:
            got = found["finite-volume", volumes, 0.5]
            verdict("finite-volume", got, mean, error, np.abs(got - found["finite-volume", fewer, 0.5]))
    return out


def verdict(title, got, mean, error, grid_error, names=QUANTITIES[:3]):
    for name, g, m, e, d in zip(names, got, mean, error, grid_error):
        room = 3.0 * e + d
        print(f"  {title:>16} {name:>10}: off by {g - m:+.5f}, three errors and the grid's {room:.5f}: "
              f"{'inside' if abs(g - m) <= room else 'OUTSIDE'}")


FULL = dict(D_perp=1e-3, D_par=0.02, D_theta=0.02, gamma=0.05, alpha=0.25, rho=0.05)
FULL_MU, FULL_PSI, FULL_END = 5.0, (0.5, 0.8), 4.0
FULL_NAMES = ("fraction", "T_perp", "E_par", "cos", "sin")


def potential(t, psi):
    """Turns the plasma at phi' = .3 - .4 psi, against the drift in the field."""
    return 0.3 * psi - 0.2 * psi**2


def full_grid(cells, around, dt):
    grid = foliated.grid(psi=FULL_PSI, cells=cells, mu=[FULL_MU], theta=around)
    problem = foliated.problem(grid, Parameters(potential=potential, **FULL), dt=dt)
    theta = grid.centers("theta")
    f0 = foliated.maxwellian(grid) * (1.0 + 0.8 * jnp.cos(theta))
    run = jb.solve(problem, f0, t=np.array([0.0, FULL_END]), dt=dt)
    a, f = foliated.averages(grid, run.f), run.f[-1]
    whole = grid.content(f)
    return np.array([a.number[1] / a.number[0], a.T_perp[1], a.E_par[1], grid.content(f * jnp.cos(theta)) / whole,
                     grid.content(f * jnp.sin(theta)) / whole])


def full_particles(n, dt=0.04, batch=50_000, seed=0):
    """Means over n particles and their standard errors, from batches."""
    found = []
    for key in jax.random.split(jax.random.key(seed), max(4, round(n / batch))):
        start = mc.thermal(jax.random.fold_in(key, 0), batch, psi=FULL_PSI, mu=FULL_MU, theta=True)
        start = dataclasses.replace(start, weight=start.weight * (1.0 + 0.8 * jnp.cos(start.theta)))
        walk = mc.walk(start, jax.random.fold_in(key, 1), parameters=Parameters(potential=potential, **FULL), dt=dt,
                       steps=round(FULL_END / dt), psi=FULL_PSI, substeps=2)
        end, w = walk.particles, walk.particles.weight
        found.append([walk.fraction[-1], walk.T_perp[-1], walk.E_par[-1], jnp.sum(w * jnp.cos(end.theta)) / jnp.sum(w),
                      jnp.sum(w * jnp.sin(end.theta)) / jnp.sum(w)])
    found = np.array(found)
    return found.mean(axis=0), found.std(axis=0, ddof=1) / np.sqrt(len(found)), len(found) * batch


def theta(args):
    # nothing depends on theta but the start, whose one wave eight cells hold exactly
    fine, coarse = (((24, 32, 24), 8), ((20, 24, 20), 8)) if args.quick else (((40, 48, 40), 8), ((32, 40, 32), 8))
    mean, error, count = full_particles(args.n)
    print(f"\nall four dimensions, mu = {FULL_MU:g}, t = {FULL_END:g}: " + ", ".join(f"{k} {v:g}" for k, v in FULL.items()))
    print(f"{'':>28}" + "".join(f"{name:>12}" for name in FULL_NAMES))
    print(f"{count:>18} particles" + "".join(f"{m:12.5f}" for m in mean))
    print(f"{'standard error':>28}" + "".join(f"{e:12.5f}" for e in error), flush=True)
    found = []
    for (cells, around), dt in ((coarse, 0.25), (coarse, 0.5), (fine, 0.25)):
        began = time.perf_counter()
        found.append(full_grid(cells, around, dt))
        print(f"{str((*cells, around)):>18}, dt {dt:5.2f}" + "".join(f"{g:12.5f}" for g in found[-1])
              + f"   {time.perf_counter() - began:.0f} s", flush=True)
    verdict("remap", found[2], mean, error, np.abs(found[2] - found[0]) + np.abs(found[1] - found[0]), FULL_NAMES)
    return {"particles": mean, "error": error, "grid": found[2]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("reference", "figures", "weak-error", "grid", "theta"))
    parser.add_argument("--n", type=int, default=1_000_000, help="number of particles")
    parser.add_argument("--alpha", type=float, default=0.5)
    parser.add_argument("--dt", type=float, default=0.04)
    parser.add_argument("--substeps", type=int, default=2, help="Runge-Kutta steps in each half of dt")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", default="", help="of the figures, those whose name contains this")
    parser.add_argument("--quick", action="store_true", help="coarse grids")
    parser.add_argument("--bounce", default="", help="of the grids, those whose scheme's name contains this")
    parser.add_argument("--out", help="file (.npz) for the numbers")
    args = parser.parse_args()
    out = {"reference": reference, "figures": figures, "weak-error": weak_error, "grid": grids,
           "theta": theta}[args.what](args)
    if args.out:
        np.savez(args.out, **{k: jnp.asarray(v) for k, v in out.items()})


if __name__ == "__main__":
    main()
