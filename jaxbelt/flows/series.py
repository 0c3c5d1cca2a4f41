"""`MixingSeries`: relaxation toward several projections at once, exactly and positively, whatever the projections share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxbelt.coefficients import static
from jaxbelt.flows.base import Flow, flow

__all__ = ["MixingSeries", "enough_terms"]

_PIECE = 16.0              # sum of rates times time of one series: beyond it the step is cut
_TAIL = 1e-17
_EXCEEDED = 3              # jaxbelt.solve.Result.substeps_exceeded


def enough_terms(x: float) -> tuple[int, int]:
    """(terms, pieces) for rates times step of at most x: what a series leaves out is below 1e-17 of what it keeps."""
    pieces = max(1, math.ceil(x / _PIECE))
    x = max(x / pieces, 1e-3)
    terms, size = 1, 1.0
    while size > _TAIL * math.exp(x) * (1.0 - x / (terms + 1)) or terms <= x:
        size *= x / terms
        terms += 1
    return terms, pieces


@flow
class MixingSeries(Flow):
    """df/dt = sum over m of rate_m (P_m f - f), exactly, for maps P_m that need not commute (Krook operators together).

    f(dt) = exp(-x) sum over n of (dt sum_m rate_m P_m)^n f/n!, x = dt sum_m rate_m (uniformisation; Jensen 1953). Every term
    is non-negative where f is, and has the invariants that all of the P_m, or their weighted sum, have: content, and for two
    fields that feed each other nu_xi g + nu_par p. Truncation is made up for by dividing by the sum of the weights.

    projects: tuple of callable pytrees f -> P f, positive. rates [1/s] >= 0: a tuple of scalars. bound (static): what x may be
    at most; it sets the number of terms. A traced x beyond it is a fault, and f becomes NaN. exchange (static): a name for the
    budget, where the content of the grid is no invariant (its axes hold different fields); None where the maps keep content.
    """

    projects: tuple[Callable, ...] = ()
    rates: tuple[Any, ...] = ()
    bound: float = static(8.0)
    exchange: str | None = static(None)
    steady: bool = static(True)

    exact = True

    def prepare(self, grid, dt):
        """What a step of dt needs: see `Flow`."""
        return tuple(jnp.asarray(r) * dt for r in self.rates)

    def advance(self, grid, state, f, t, dt):
        """(f after dt, budget): see `Flow`."""
        terms, pieces = enough_terms(self.bound)
        weights = [w / pieces for w in state]
        x = sum(weights)

        def term(carry, n):
            term, total, size, sizes = carry
            term = sum(w * p(term) for w, p in zip(weights, self.projects)) / n
            size = size * x / n
            return (term, total + term, size, sizes + size), None

        def piece(f, _):
            one = jnp.ones((), f.dtype)
            (_, total, _, sizes), _ = lax.scan(term, (f, f, one, one), jnp.arange(1, terms, dtype=f.dtype))
            new = total / sizes
            if self.exchange is None:
                # what rounding of so many terms adds to the content is taken back by a factor of some ulp
                before, after = grid.content(f), grid.content(new)
                near = jnp.abs(after - before) <= 1e5 * np.finfo(f.dtype).eps * jnp.abs(before)
                new = new * jnp.where(near & (after != 0), before / jnp.where(after != 0, after, 1.0), 1.0)
            return new, None

        new = piece(f, None)[0] if pieces == 1 else lax.scan(piece, f, None, length=pieces)[0]
        # rounding of the bound itself is no fault; beyond it the series is too short, and a wrong number must not pass for one
        beyond = x * pieces > self.bound * (1 + 1e3 * np.finfo(f.dtype).eps)
        new = jnp.where(beyond, jnp.nan, new)
        budget = {"fault": jnp.where(beyond, _EXCEEDED, 0).astype(jnp.int32)}
        if self.exchange is not None:
            budget[self.exchange] = grid.content(new - f)
        return new, budget
