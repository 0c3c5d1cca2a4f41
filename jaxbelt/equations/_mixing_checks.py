"""What the kinetic and the two-field equations check, and the size of a step of their exact exponential."""

from __future__ import annotations

import math

import jax
import numpy as np

from jaxbelt.coefficients import Series, evaluate, jumps

__all__ = ["bound_of_step", "check_rates", "rate_bound"]

_UNKNOWN = 8.0
_ROOM = 1.25               # so that a rate may be varied a little without a new plan


def _values(coefficient):
    """Concrete values of a rate, or None where it is traced or an arbitrary function of time."""
    if isinstance(coefficient, Series):
        values = coefficient.values
    elif callable(coefficient):
        return None
    else:
        values = coefficient
    return None if isinstance(values, jax.core.Tracer) else np.asarray(values)


def check_rates(parameters, names):
    """ValueError, one line, where a rate is not one number at a time that is finite and at least 0."""
    for name in names:
        rate = getattr(parameters, name)
        if rate is None:
            continue
        values = _values(rate)
        if values is None:
            if callable(rate) and not any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(rate)):
                values = np.asarray([evaluate(rate, t) for t in (0.0, *jumps(rate))])
            else:
                continue
        if values.ndim > (1 if callable(rate) else 0):
            raise ValueError(f"{name}: needs a number, a Series or a function of t, got an array of shape {values.shape}")
        bad = ~((values >= 0) & np.isfinite(values))
        if np.any(bad):
            raise ValueError(f"{name}: must be a rate, at least 0 and finite, got {values[bad].ravel()[0]:g}")


def _sampled(rate):
    """Values of a function of time, half as large again, over many decades of t; None where it is traced."""
    if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(rate)):
        return None
    moments = np.concatenate([[0.0], jumps(rate), np.geomspace(1e-3, 1e6, 64)])
    with jax.ensure_compile_time_eval():
        values = np.asarray([float(evaluate(rate, t)) for t in moments])
    values = values[np.isfinite(values)]                       # it may be meant for the run's own times alone
    return 1.5 * values if values.size else None


def rate_bound(*rates):
    """An upper bound of the sum of the rates (a guess for functions of time), or None if unknown."""
    total = 0.0
    for rate in rates:
        if rate is not None:
            values = _values(rate)
            if values is None:
                values = _sampled(rate)
            if values is None:
                return None
            total += float(np.max(values))
    return _rounded(total)


def _rounded(x):
    """x rounded up to a power of 2^(1/4): static data, so that a sweep rarely compiles anew."""
    return 2.0 ** (math.ceil(4 * math.log2(x) - 1e-9) / 4) if x > 1e-3 else 1e-3


def bound_of_step(rate, dt_max):
    """The static bound on (sum of rates) dt that a step may need; `_UNKNOWN` where it cannot be known."""
    return _UNKNOWN if rate is None or dt_max is None else _rounded(_ROOM * rate * dt_max)
