"""Twin inversions: parameters found again from what a run with known ones would have shown, with noise. Prints a table of

    case, method, converged, iterations, seconds (of a second fit: compiled), seconds of the first, largest |error|/sigma

and, with --coverage N, in how many of N fits to new noise the 95 % interval holds the true value, pooled over the parameters,
beside the same for 1000 draws of the linearised problem.

    python experiments/twin_inversion.py [--cases two knots kp mlt foliated kinetic two_field velocity]
                                         [--methods gauss-newton lbfgs adam] [--coverage 200]
"""

import argparse
import time
import warnings
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

import jaxbelt as jb
from jaxbelt import drift_diffusion as dd
from jaxbelt import foliated, kinetic, two_field, velocity
from jaxbelt.fit import prepare
from jaxbelt.fitting import methods
from jaxbelt.fitting.model import compiled_predictions, compiled_slopes
from jaxbelt.fitting.posterior import posterior
from jaxbelt.physics.free_form import Knots, KpPower, Modulated

DAY = 86400.0


def case(problem, f0, operator, shape, free, start, sigma, *, noise="log-normal", t, dt):
    """free: names or `Free`s whose true values are those of the problem; start: where the fits begin, in the same order."""
    return SimpleNamespace(**locals())


# ---- radiation belts: 80 x 16 cells, an orbit of L 2.5 to 6 for 7 days, 500 samples with 15 % noise

def _belt(dll, free, start, around=False, samples=500):
    grid = dd.grid(L=(2.0, 7.0), cells=(80, 16))
    problem = dd.problem(grid, dd.Parameters(dll=dll, dphiphi=6e-3, lifetime=10.0), inner=1e-3, outer=1.0)
    f0 = np.exp(-0.5 * ((grid.mesh()[0] - 4.5) / 0.6) ** 2) + 1e-3 + 0.0 * grid.mesh()[1]
    t = np.linspace(600.0, 7 * DAY - 600.0, samples)
    turn = 2 * np.pi * t / (8.9 * 3600.0)
    orbit = jb.Orbit(t, 4.25 + 1.75 * np.sin(turn), mlt=np.mod(3.0 + 24.0 * t / DAY / 30.0 + around * 12.0 * turn / np.pi, 24.0))
    outputs = np.linspace(0.0, 7 * DAY, 85)
    return case(problem, f0, jb.AlongOrbit(orbit=orbit), (samples,), free, start, 0.15, t=outputs, dt=1800.0)


def two():
    """ln of the amplitude, and the exponent of D_LL."""
    true = jb.radial_diffusion.BrautigamAlbert(kp=3.0, reference_l=5.0)
    return _belt(true, ("dll.log_amplitude", "dll.power"), (1.0, 8.0))


def knots():
    """ln D_LL at 12 L, with a prior of smoothness: its slope in ln L changes by about 1 from knot to knot."""
    L = np.linspace(2.0, 7.0, 12)
    true = np.log(np.asarray(jb.radial_diffusion.BrautigamAlbert(kp=3.0)(0.0, L)))
    free = jb.Free("dll.log_d", prior=jb.Smooth(1.0, x=np.log(L)))
    return _belt(Knots(L=L, log_d=true), (free,), (true + 1.0,))


def kp():
    """exp(a + b Kp) L^n, Kp every three hours."""
    steps = np.arange(0.0, 7 * DAY, 10800.0)
    level = 2.7 + 2.2 * np.sin(2 * np.pi * steps / (3.1 * DAY)) * np.exp(-((steps / DAY - 3.0) ** 2) / 6.0)
    true = KpPower.brautigam_albert(jb.Series(steps, level))
    return _belt(true, ("dll.log_d0", "dll.kp_slope", "dll.power"), (float(true.log_d0) + 1.0, 0.5, 8.0))


def mlt():
    """The first harmonic of ln D_LL in MLT, the amplitude and the exponent, from an orbit through all MLT."""
    true = Modulated(model=jb.radial_diffusion.BrautigamAlbert(kp=3.0, reference_l=5.0), cosine=[0.6], sine=[-0.4])
    return _belt(true, ("dll.cosine", "dll.sine", "dll.model.log_amplitude", "dll.model.power"), ([0.0], [0.0], 0.7, 9.0),
                 around=True)


# ---- the foliated equation: the noise and how it is read, from two temperatures in time

def foliated_twin(cells=(20, 32, 12), mu=4):
    """D_perp and alpha, from <mu B> and <v_par^2/2> at 24 times with 0.5 % noise."""
    grid = foliated.grid(L=(1.3, 2.2), cells=cells, mu=mu)
    prm = foliated.Parameters(D_perp=5e-3, alpha=0.5)
    problem = foliated.problem(grid, prm, inner="reflecting", outer="reflecting", planet="absorbing", dt=0.5)
    times = np.arange(1, 25) * 2.0
    free = (jb.Free("D_perp", transform="log"), jb.Free("alpha", transform="logit", bounds=(0.0, 1.0)))
    return case(problem, foliated.maxwellian(grid), jb.Moments(names=("T_perp", "E_par"), times=times), (2, 24), free,
                (2e-3, 0.25), 0.005, t=np.r_[0.0, times], dt=0.5)


# ---- mixing in velocity space

def kinetic_twin():
    """nu_par and nu_xi of the kinetic equation, from f(v, xi) at 6 times with 10 % noise."""
    grid = kinetic.grid(0.8, v=(0.2, 6.0), trapped=6)
    v = grid["v"].centers
    problem = kinetic.problem(grid, kinetic.Parameters(nu_par=1.0, nu_xi=0.2))
    f0 = np.asarray(kinetic.start(grid, np.exp(-0.5 * v**2), 0.0))
    times = np.linspace(0.5, 6.0, 6)
    free = (jb.Free("nu_par", transform="log"), jb.Free("nu_xi", transform="log"))
    return case(problem, f0, jb.State(times=times), (6, *grid.shape), free, (0.3, 0.6), 0.1, t=np.r_[0.0, times], dt=0.25)


def two_field_twin():
    """nu_par, nu_xi and h, from g(v) and p(v) at 6 times with 10 % noise."""
    grid = two_field.grid(v=(0.1, 12.0), cells=128)
    v = grid["v"].centers
    problem = two_field.problem(grid, two_field.Parameters(nu_par=1.0, nu_xi=0.2, h=0.8))
    f0 = np.broadcast_to(np.exp(-0.5 * v**2) + 1e-6 * v**-4, grid.shape)
    times = np.linspace(1.0, 30.0, 8)
    free = tuple(jb.Free(n, transform="log") for n in ("nu_par", "nu_xi", "h"))
    return case(problem, f0, jb.State(times=times), (8, *grid.shape), free, (0.5, 0.4, 0.5), 0.1, t=np.r_[0.0, times], dt=0.25)


def velocity_twin():
    """nu_par G, from g(v) at 8 times with 10 % noise: nu_par, nu_xi and h act through it alone."""
    grid = velocity.grid(v=(0.1, 20.0), cells=128)
    v = grid["v"].centers
    problem = velocity.problem(grid, velocity.Parameters(rate=2e-3))
    times = np.linspace(5.0, 100.0, 8)
    return case(problem, np.exp(-0.5 * v**2) + 1e-6 * v**-4, jb.State(times=times), (8, 128), (jb.Free("rate", transform="log"),),
                (1e-2,), 0.1, t=np.r_[0.0, times], dt=1.0)


CASES = {"two": two, "knots": knots, "kp": kp, "mlt": mlt, "foliated": foliated_twin, "kinetic": kinetic_twin,
         "two_field": two_field_twin, "velocity": velocity_twin}
METHODS = ("gauss-newton", "lbfgs", "adam")


# ---- twins

def data_of(c, values):
    return jb.Data(operator=c.operator, values=values, sigma=c.sigma, noise=c.noise)


def truth_of(c):
    """(what the run shows, true theta, the setting at the truth)."""
    setting, known = prepare(c.problem, c.f0, data_of(c, np.ones(c.shape)), c.free, t=c.t, dt=c.dt)
    z = np.asarray(compiled_predictions(setting, jnp.asarray(known.start))[0][""])
    return z, known, setting


def noisy(c, z, seed):
    z = z + c.sigma * np.random.default_rng(seed).normal(size=z.shape)
    return np.exp(z) if c.noise == "log-normal" else z


def from_there(c):
    """The free parameters, from the wrong start."""
    free = [f if isinstance(f, jb.Free) else jb.Free(f) for f in c.free]
    return [jb.Free(f.path, f.transform, f.bounds, f.prior, start=s) for f, s in zip(free, c.start)]


def fit(c, values, method, **kw):
    if method == "adam":                                       # its steps fade over the iterations that it is given
        kw = {"rate": 0.2, "most": {1: 120, 2: 120, 12: 300}.get(sum(np.size(s) for s in c.start), 500)} | kw
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return jb.fit(c.problem, c.f0, data_of(c, values), from_there(c), method=method, t=c.t, dt=c.dt, **kw)


def table(names, chosen):
    print(f"{'case':<10} {'method':<13} {'converged':<9} {'iterations':>10} {'runs':>5} {'seconds':>8} {'first':>7}  error/sigma",
          flush=True)
    for name in names:
        c = CASES[name]()
        z, known, _ = truth_of(c)
        values = noisy(c, z, 0)
        for method in chosen:
            spent = []
            for _ in range(2):
                begin = time.perf_counter()
                f = fit(c, values, method)
                spent.append(time.perf_counter() - begin)
            off = (f.theta - known.start) / f.sigma_theta
            steps = len(f.history) - 1
            print(f"{name:<10} {method:<13} {str(f.converged):<9} {steps:>10} {f.history[-1].get('runs', steps + 1):>5} "
                  f"{spent[1]:>8.2f} {spent[0]:>7.1f}  {np.abs(off).max():.2f}  {f.message}", flush=True)
            jax.clear_caches() if method == chosen[-1] else None


# ---- coverage

def linearised(c, draws=1000, seed=0):
    """Share of 95 % intervals of the linearised twin that hold the true value, pooled over parameters."""
    _, known, setting = truth_of(c)
    theta = jnp.asarray(known.start)
    now = {k: np.asarray(v) for k, v in methods.compiled_derivatives(setting, theta).items()}
    slopes = np.asarray(compiled_slopes(setting, theta)[""]).reshape(known.size, -1)
    sigma = posterior(now["fisher"], now["prior"], known.labels, known.scale).sigma
    rng = np.random.default_rng(seed)
    e, q = rng.normal(size=(draws, slopes.shape[1])), rng.normal(size=(draws, known.matrix.shape[0]))
    gradient = e @ slopes.T / c.sigma + q @ known.matrix
    off = np.stack([methods._step(g, now["fisher"] + now["prior"], 0.0) for g in gradient])
    return np.mean(np.abs(off) < 1.959964 * sigma)


def full(c, draws):
    """The same for full fits to new noise, and how many converged."""
    z, known, _ = truth_of(c)
    inside, done = [], 0
    for seed in range(draws):
        f = fit(c, noisy(c, z, 1000 + seed), "gauss-newton")
        done += f.converged
        inside.append(np.abs(f.theta - known.start) < 1.959964 * f.sigma_theta)
    return np.mean(inside), done


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=METHODS)
    parser.add_argument("--coverage", type=int, default=0, metavar="N", help="fits to new noise")
    a = parser.parse_args()
    jb.enable_x64()
    if a.methods:
        table(a.cases, a.methods)
    for name in a.cases if a.coverage else ():
        c = CASES[name]()
        share, (held, done) = linearised(c), full(c, a.coverage)
        print(f"{name}: 95 % intervals hold {100 * share:.1f} % (1000 linearised draws), {100 * held:.1f} % ({a.coverage} fits, "
              f"{done} converged)", flush=True)


if __name__ == "__main__":
    main()
