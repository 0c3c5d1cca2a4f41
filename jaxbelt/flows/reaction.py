"""`Reaction`: slow loss and source, exactly. `Mixing`: relaxation toward a projection at a given rate (Krook)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jaxbelt.coefficients import static
from jaxbelt.flows.base import Flow, flow

__all__ = ["Reaction", "Mixing"]


def _phi1(x):
    """(1 - exp(-x))/x, safe at 0."""
    small = jnp.abs(x) < 1e-6
    return jnp.where(small, 1.0 - 0.5 * x, -jnp.expm1(-x) / jnp.where(small, 1.0, x))


@flow
class Reaction(Flow):
    """df/dt = source - loss f, exactly. loss [1/s] >= 0, source [f/s] >= 0, both broadcast against f.

    Only for lifetimes longer than about ten steps: a fast loss belongs on the diagonal of a `LineDiffusion`.
    """

    loss: Any = 0.0
    source: Any = 0.0
    steady: bool = static(True)

    def prepare(self, grid, dt):
        """What a step of dt needs: see `Flow`."""
        x = jnp.asarray(self.loss) * dt
        return jnp.exp(-x), jnp.asarray(self.source) * dt * _phi1(x)

    def advance(self, grid, state, f, t, dt):
        """(f after dt, budget): see `Flow`."""
        keep, gain = state
        new = f * keep + gain
        fed = jnp.sum(grid.volumes * jnp.broadcast_to(self.source, f.shape)) * dt
        return new, {"source": fed, "loss": grid.content(new) - grid.content(f) - fed}


@flow
class Mixing(Flow):
    """df/dt = rate (P f - f) for a projection P, exactly: f -> P f + (f - P f) exp(-rate dt).

    project: a callable pytree f -> P f with P P = P, content-preserving and positive.
    rate [1/s]: a number, or an array constant on the sets that P averages over.
    """

    project: Callable = None
    rate: Any = 0.0
    steady: bool = static(True)

    def prepare(self, grid, dt):
        """What a step of dt needs: see `Flow`."""
        return jnp.exp(-jnp.asarray(self.rate) * dt)

    def advance(self, grid, state, f, t, dt):
        """(f after dt, budget): see `Flow`."""
        mean = self.project(f)
        # a convex combination: never negative
        return mean * (1.0 - state) + f * state, {}
