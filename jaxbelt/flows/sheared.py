"""`Sheared`: a line flow between two opposite rotations, for rank-1 noise along a skew direction."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jaxbelt.coefficients import static
from jaxbelt.flows.base import Flow, flow
from jaxbelt.flows.diffusion import LineDiffusion
from jaxbelt.flows.rotation import _multiplier, shift_rings

__all__ = ["Sheared"]


@flow
class Sheared(Flow):
    """Diffusion along d_x - s'(x) d_theta: straightened by eta = theta + shift(x), advanced as a line flow in x, sheared back.

    line: a `LineDiffusion` along x whose coefficients do not depend on theta. ring: the periodic axis theta. shift: displacement
    in theta [axis unit] as a function of the other axes, length 1 along `ring`. Conservative and positive as its parts are;
    resolve the shear: k_max |d shift/dx| dx < pi.
    """

    line: LineDiffusion = None
    ring: str = static()
    shift: Any = 0.0
    steady: bool = static(True)
    positive: bool = static(True)

    def prepare(self, grid, dt):
        """What a step of dt needs: see `Flow`."""
        k = grid.index(self.ring)
        axis = grid[k]
        shift = jnp.asarray(self.shift)
        shift = jnp.squeeze(shift.reshape((1,) * (grid.ndim - shift.ndim) + shift.shape), axis=k)
        period = axis.faces[-1] - axis.faces[0]
        there = _multiplier(axis.n, period, shift, None, jnp.result_type(float))
        return there, self.line.prepare(grid, dt)

    def advance(self, grid, state, f, t, dt):
        """(f after dt, budget): see `Flow`."""
        k = grid.index(self.ring)
        there, inner = state

        def turn(f, multiplier):
            return jnp.moveaxis(shift_rings(jnp.moveaxis(f, k, -1), multiplier, self.positive), -1, k)

        f = turn(f, there)
        f, budget = self.line.advance(grid, inner, f, t, dt)
        return turn(f, jnp.conj(there)), budget
