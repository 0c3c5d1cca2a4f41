"""Ranges of published models: a value outside is an error that names it, unless the user says what to do instead."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["within", "check_outside"]

_WAYS = ("error", "nearest", "extrapolate")


def check_outside(model: str, outside: str) -> None:
    """Raise ValueError if `outside` is not one of "error", "nearest", "extrapolate"."""
    if outside not in _WAYS:
        raise ValueError(f"{model} outside: {outside!r} is unknown; use 'error', 'nearest' or 'extrapolate'")


def within(model: str, field: str, value, low: float, high: float, outside: str = "error", unit: str = ""):
    """The value as a model may use it.

    "error": a concrete value outside [low, high] (a relative 1e-9 is forgiven, 1e-6 in single precision) raises ValueError,
    one line that names model, field, value and range. "nearest": clamped to the range. "extrapolate": as it is. A traced value
    cannot be looked at: with "error" it passes as it is.
    """
    if outside == "nearest":
        return jnp.clip(value, low, high)
    if outside == "error" and not isinstance(value, jax.core.Tracer):
        values = np.asarray(value, dtype=np.float64)
        relative = 1e-6 if getattr(value, "dtype", None) == np.float32 else 1e-9
        slack = relative * max((abs(x) for x in (low, high) if np.isfinite(x)), default=0.0)
        bad = ~((values >= low - slack) & (values <= high + slack))
        if bad.any():
            unit = f" {unit}" if unit else ""
            worst = float(values[bad].ravel()[0])
            raise ValueError(f"{model} {field} = {worst:g}{unit} is outside the model's range, {low:g} to {high:g}{unit}; "
                             "keep to the range, or give outside='nearest' or 'extrapolate'")
    return value
