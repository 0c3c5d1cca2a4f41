"""The friction that keeps the energy of a closed box: gamma(t) from the state itself."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jaxbelt.coefficients import parameters, static
from jaxbelt.flows import Advection
from jaxbelt.flows.base import Flow, flow

__all__ = ["Closing", "ClosingFriction", "heating"]


def heating(line, grid, energy, f):
    """Rate of change of the content of H = `energy` by the flows between neighbouring cells of a `LineDiffusion`: sum F dH.

    Summed by parts on the faces as the line solve moves content, so walls without flux are right by themselves.
    """
    k = grid.index(line.axis)
    n = grid[k].n

    def cut(a, start, stop):
        return jnp.take(a, jnp.arange(start, stop), axis=k)

    flux = cut(line.up, 1, n) * cut(f, 0, n - 1) - cut(line.down, 1, n) * cut(f, 1, n)
    return jnp.sum(flux * jnp.diff(jnp.broadcast_to(energy, grid.shape), axis=k) * grid.other_measures(k))


@parameters
class Closing:
    """gamma = Closing(): the friction that takes out what the noise heats, so that a closed box keeps its energy; it is computed
    from P in every step: 2 gamma <v_par^2/2> = rate of change of <H> by D_perp and D_par.
    """


@flow
class ClosingFriction(Flow):
    """dP/dt = d_p(gamma p P), gamma = (heating by `lines` and by the drift dp/dt = -rate p)/<v_par^2>, read from P in every step.

    energy, square: H and v_par^2 on the cells. gamma below zero (noise that cools) pushes v_par up.
    """

    lines: tuple = ()
    energy: Any = None
    square: Any = None
    rate: Any = None
    steady: bool = static(True)

    def prepare(self, grid, dt):
        """Nothing: gamma is known when P is."""
        return ()

    def power(self, grid, f):
        """Rate at which the noise heats f, with its drift along p."""
        power = sum(heating(line, grid, self.energy, f) for line in self.lines)
        if self.rate is None:
            return power
        return power - jnp.sum(f * grid.volumes_compact * self.square * self.rate)

    def gamma(self, grid, f, dt=0.0):
        """The friction [1/time] that P asks for over a step of dt: power/<v^2>, such that exp(-2 gamma dt) takes out power dt."""
        parallel, power = jnp.sum(f * grid.volumes_compact * self.square), self.power(grid, f)
        some = parallel > 0
        gamma = jnp.where(some, power / jnp.where(some, parallel, 1.0), 0.0)
        # (1 - exp(-2 g dt))/2 = gamma dt, as long as there is so much to take
        share = jnp.minimum(2.0 * gamma * dt, 0.9)
        near = jnp.abs(share) < 1e-6
        return jnp.where(near, gamma, -gamma * jnp.log1p(-share) / jnp.where(near, 1.0, share))

    def advance(self, grid, state, f, t, dt):
        """(f after dt, budget): see `Flow`."""
        def contracted(rate):
            drift = Advection(axis="p", rate=rate * jnp.ones((1,) * grid.ndim))
            return drift.advance(grid, drift.prepare(grid, dt), f, t, dt)

        def taken(rate):
            return jnp.sum((f - contracted(rate)[0]) * grid.volumes_compact * self.energy)

        # what a contraction takes out on these cells is not quite what it takes out of a smooth P: twice, in proportion
        gamma = self.gamma(grid, f, dt)
        due = sum(heating(line, grid, self.energy, f) for line in self.lines) * dt
        due = due if self.rate is None else due - taken(self.rate)
        first = taken(gamma)
        near = jnp.abs(first - due) < 0.5 * jnp.abs(due)
        return contracted(gamma * jnp.where(near, due / jnp.where(near, first, 1.0), 1.0))
