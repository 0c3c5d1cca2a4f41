"""Observation operators: what a run would have shown. Each is a callable pytree, Solution -> predictions, and may have

    times     the times at which it looks (tuple); exact: the run must have outputs there, else it interpolates between outputs
    covered   method (problem, t) -> bool array: which predictions a run with outputs t can make; raises ValueError, one line,
              for data outside the grid or the time span
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxbelt.coefficients import float_leaves, parameters, static

__all__ = ["AlongOrbit", "Moments", "Observed", "State", "observed"]


@parameters
class AlongOrbit:
    """f along an orbit, or the flux in channels: `observation.observe` as an operator.

    Predictions: (time,) without channels, of psd ((mu, time) where the solution has several mu); (channel, time) with them.
    orbit: an `Orbit`. channels: a `Channel` or several; the leaves of their shapes can be free ("data.operator.channels...").
    mu [MeV/G], K, species, planet, node: see `observe`. outside: "error" for samples beyond the grid or the run's times, or
    "mask".
    """

    orbit: Any = static()
    channels: Any = None
    mu: Any = None
    K: Any = None
    planet: Any = None
    species: Any = static(None)
    node: int | None = static(None)
    outside: str = static("error")
    exact = False

    @property
    def times(self):
        """The times of the samples [s]."""
        t = self.orbit.t
        return tuple(t[np.isfinite(self.orbit.L)].tolist())

    def _look(self, sol, outside):
        from jaxbelt.observation import observe

        seen = observe(sol, self.orbit, self.channels, mu=self.mu, K=self.K, species=self.species, planet=self.planet,
                       node=self.node, outside=outside)
        return seen.psd if seen.flux is None else seen.flux

    def __call__(self, sol):
        return self._look(sol, "mask")

    def covered(self, problem, t):
        """Which samples a run with outputs t sees."""
        from jaxbelt.solve import Solution

        like = Solution(jnp.ones((len(t), *problem.grid.shape)), np.asarray(t), {}, jnp.zeros((), jnp.int32), problem)
        return np.isfinite(np.asarray(self._look(like, self.outside)))


def _outputs(sol, times):
    """f of a solution at given times, which are among its outputs (to half their distance)."""
    t = np.asarray(sol.t, float)
    index = np.abs(t[None, :] - np.asarray(times, float)[:, None]).argmin(axis=1)
    return sol.f[index]


def _as_times(who, times):
    times = tuple(float(x) for x in np.atleast_1d(np.asarray(times, float)))
    if not times or not np.all(np.isfinite(times)):
        raise ValueError(f"{who} times: needs at least one finite time")
    return times


@parameters
class Moments:
    """Averages over all particles of the foliated equation at given times: predictions (name, time).

    names: fields of `foliated.averages`: "T_perp", "T_par", "E_par", "anisotropy", "number", ...; times [R_p/v_th].
    """

    names: tuple = static(("T_perp", "E_par"))
    times: tuple = static(())
    exact = True

    def __post_init__(self):
        from jaxbelt.physics.foliated_moments import Averages

        names = (self.names,) if isinstance(self.names, str) else tuple(self.names)
        for name in names:
            if name not in Averages._fields:
                raise ValueError(f"Moments names: {name!r} is unknown; choose among {', '.join(Averages._fields)}")
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "times", _as_times("Moments", self.times))

    def __call__(self, sol):
        from jaxbelt.physics.foliated_moments import averages

        seen = averages(sol.grid, _outputs(sol, self.times))
        return jnp.stack([getattr(seen, name) for name in self.names])


@parameters
class State:
    """f itself on the grid at given times: predictions (time, *grid.shape), or relative to the content at that time.

    times [the problem's unit of time]. normalised (static): every state over its own content, for distributions whose level is
    not known (or give a free log_calibration).
    """

    times: tuple = static(())
    normalised: bool = static(False)
    exact = True

    def __post_init__(self):
        object.__setattr__(self, "times", _as_times("State", self.times))

    def __call__(self, sol):
        f = _outputs(sol, self.times)
        if not self.normalised:
            return f
        axes = tuple(range(1, f.ndim))
        total = jnp.sum(f * sol.grid.volumes, axis=axes, keepdims=True)
        return f / jnp.where(total > 0, total, 1.0)


@parameters
class Observed:
    """Any function as an operator; see `observed`."""

    fn: Callable = static()
    arrays: Any = None
    times: tuple = static(())
    exact: bool = static(True)

    def __call__(self, sol):
        return self.fn(_outputs(sol, self.times) if self.exact else sol, **self.arrays)


def observed(fn: Callable, times, *, exact: bool = True, **arrays) -> Observed:
    """A Python function as an operator: `fn(f, **arrays)`, f (time, *grid.shape) at `times`, or with exact=False fn(sol, ...),
    which interpolates itself between the outputs. arrays are leaves and can be free.
    """
    if not callable(fn):
        raise TypeError(f"observed: the first argument must be callable, got {type(fn).__name__}")
    return Observed(fn=fn, arrays=float_leaves(arrays), times=_as_times("observed", times), exact=bool(exact))
