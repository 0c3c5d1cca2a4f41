"""Twin experiments in radial diffusion, small enough for quick tests; fits of one structure share what they compile."""

from types import SimpleNamespace

import jax
import numpy as np

import jaxbelt as jb
from jaxbelt import drift_diffusion as dd
from jaxbelt.fit import prepare
from jaxbelt.fitting.model import compiled_predictions
from jaxbelt.physics.radial_diffusion import BrautigamAlbert

DAY = 86400.0
GRID = dd.grid(L=(3.0, 7.0), cells=24)
T, DT = np.linspace(0.0, 4 * DAY, 9), DAY / 8
START = np.exp(-0.5 * ((GRID["L"].centers - 4.5) / 0.5) ** 2) + 1e-3
PARAMETERS = dd.Parameters(dll=BrautigamAlbert(kp=3.0, reference_l=5.0), lifetime=5.0)


def orbit(samples=60, low=3.5, high=6.0, days=4.0):
    t = np.linspace(600.0, days * DAY - 600.0, samples)
    return jb.Orbit(t, 0.5 * (low + high) + 0.5 * (high - low) * np.sin(2 * np.pi * t / (8.9 * 3600)))


def clean(problem, f0, operator, free, shape, t=T, dt=DT, **data):
    """What a run shows, by what a fit compiles anyway."""
    sets = {"": jb.Data(operator=operator, values=np.ones(shape), **data)} if shape is not None else operator
    setting, known = prepare(problem, f0, sets if shape is None else sets[""], free, t=t, dt=dt)
    z = compiled_predictions(setting, jax.numpy.asarray(known.start))[0]
    out = {k: np.exp(np.asarray(v)) if setting.tree["data"][k].noise == "log-normal" else np.asarray(v) for k, v in z.items()}
    return out if shape is None else out[""]


def noisy(values, sigma=0.15, seed=0):
    """Log-normal noise."""
    return values * np.exp(sigma * np.random.default_rng(seed).normal(size=values.shape))


def two_parameters():
    """ln of the amplitude and the exponent of D_LL, from f along an orbit."""
    problem = dd.problem(GRID, PARAMETERS, inner=1e-3, outer=1.0)
    operator, free = jb.AlongOrbit(orbit=orbit()), ("dll.log_amplitude", "dll.power")
    values = clean(problem, START, operator, free, (60,))

    first, names = noisy(values), free

    def fit(start=(1.0, 8.0), values=first, sigma=0.15, free=free, data=None, **kw):
        free = [free] if isinstance(free, (str, jb.Free)) else list(free)
        if free == list(names):
            free = [jb.Free(n, start=x) for n, x in zip(names, start)]
        kw = {"t": T, "dt": DT} | kw
        return jb.fit(problem, START, jb.Data(operator=operator, values=values, sigma=sigma, **(data or {})), free, **kw)

    return SimpleNamespace(problem=problem, operator=operator, free=free, clean=values, fit=fit, truth=np.array([0.0, 10.0]))


class Compilations:
    """How often something was compiled: `with Compilations() as n: ...; n.count`."""

    _seen = None

    def __enter__(self):
        if Compilations._seen is None:
            Compilations._seen = []
            jax.monitoring.register_event_duration_secs_listener(
                lambda event, *_, **__: Compilations._seen.append(event) if "backend_compile" in event else None)
        self._before = len(Compilations._seen)
        return self

    def __exit__(self, *_):
        self.count = len(Compilations._seen) - self._before
