"""Measurements of a fit: values, their noise, and the operator that says what a run would have shown instead."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbelt.coefficients import parameters, static

__all__ = ["Data", "compared", "accepted", "counted", "left_out", "likelihood"]

_TINY = 1e-300


@parameters
class Data:
    r"""Measurements and how a run is compared with them.

    operator: callable pytree, Solution -> predictions of the shape of `values` (`AlongOrbit`, `Moments`, `State`, or your own
    `jb.observed(fn)`). values: measured; NaN and, with log-normal noise, values <= 0 are left out, and so is what `mask` (True:
    use it) leaves out.
    noise (static): "log-normal": ln values = ln(model + background) + log_calibration + sigma e^log_sigma noise;
    "normal": values = e^log_calibration (model + background) + sigma e^log_sigma noise.
    sigma: > 0, in units of ln values, or of values; a number or an array that broadcasts with them (NaN: the value is left out,
    and where a value is left out sigma may be anything). dof (static): None for
    Gaussian noise, or the degrees of freedom of Student's t (4 is a good robust choice), whose scale sigma then is.
    log_calibration, background, log_sigma: leaves that can be free, each broadcast with values: give log_calibration an entry a
    channel, shape (channels, 1), for data that are relative.
    """

    operator: Any
    values: Any
    sigma: Any = 0.1
    log_calibration: Any = 0.0
    background: Any = 0.0
    log_sigma: Any = 0.0
    mask: Any = None
    noise: str = static("log-normal")
    dof: float | None = static(None)

    def __post_init__(self):
        if self.noise not in ("log-normal", "normal"):
            raise ValueError(f"Data noise: {self.noise!r} is unknown; use 'log-normal' or 'normal'")
        if self.dof is not None and not (math.isfinite(self.dof) and self.dof > 0):
            raise ValueError(f"Data dof: must be positive, or None for Gaussian noise, got {self.dof}")
        if isinstance(self.values, jax.core.Tracer) or not isinstance(self.values, (np.ndarray, jax.Array)):
            return
        shape = np.shape(self.values)
        for name in ("sigma", "log_calibration", "background", "log_sigma", "mask"):
            value = getattr(self, name)
            if value is None or isinstance(value, jax.core.Tracer):
                continue
            try:
                np.broadcast_to(np.asarray(value), shape)
            except ValueError:
                raise ValueError(f"Data {name}: shape {np.shape(value)} does not broadcast with the values' {shape}") from None
        if isinstance(self.sigma, jax.core.Tracer) or isinstance(self.mask, jax.core.Tracer) or \
                np.asarray(self.sigma).dtype == object:        # what JAX puts there while it rebuilds
            return
        sigma = np.broadcast_to(np.asarray(self.sigma, float), shape)
        wrong = (sigma <= 0) & _worthy(self)               # the error of a gap may be anything
        if np.any(wrong):
            raise ValueError(f"Data sigma: must be positive, got {sigma[wrong][0]:g}")


def _worthy(data) -> np.ndarray:
    """Which values are neither missing nor masked (bool, shape of values)."""
    values = np.asarray(data.values, float)
    good = np.isfinite(values) & ((values > 0) | (data.noise == "normal"))
    return good if data.mask is None else good & np.broadcast_to(np.asarray(data.mask, bool), values.shape)


def counted(data: Data, covered=None, name="") -> np.ndarray:
    """Which values take part in a fit (bool, shape of values): finite, positive where logarithms are taken, not masked, and
    covered by the run. Raises ValueError where none is left, saying how many were lost to what, and where the run's predictions
    have another shape. name: of the data, for the message."""
    who = f"data {name}" if name else "data"
    shape = np.shape(data.values)
    if covered is not None and np.shape(covered) != shape:
        raise ValueError(f"{who}: values have shape {shape}, but the operator predicts {np.shape(covered)}")
    out, said = _sorted(data, covered)
    if not out.any():
        raise ValueError(f"{who}: none of the {out.size} values is left: {said or 'there were none'}")
    return out


def accepted(data: Data) -> np.ndarray:
    """Which values could take part, whatever the run covers."""
    return _sorted(data, None)[0]


def left_out(data: Data, covered=None) -> str:
    """How many values do not take part in a fit, and why: "16 missing, 11 zero or negative", or ""."""
    return _sorted(data, covered)[1]


def _sorted(data, covered):
    """(which values take part, how many were lost to what)."""
    values = np.asarray(data.values, float)
    finite = np.isfinite(values)
    positive = finite & (values > 0) if data.noise == "log-normal" else finite
    masked = np.ones(values.shape, bool) if data.mask is None else np.broadcast_to(np.asarray(data.mask, bool), values.shape)
    seen = np.ones(values.shape, bool) if covered is None else np.broadcast_to(np.asarray(covered, bool), values.shape)
    known = np.broadcast_to(np.isfinite(np.asarray(data.sigma, float)), values.shape)
    out = positive & masked & seen & known
    lost = {"missing": ~finite, "zero or negative": finite & ~positive, "masked": positive & ~masked,
            "not covered by the run": positive & masked & ~seen, "without sigma": positive & masked & seen & ~known}
    return out, ", ".join(f"{int(x.sum())} {why}" for why, x in lost.items() if x.any())


def compared(data: Data, predicted, use):
    """(z, u): what the model says of the value (its logarithm for log-normal noise) and ln of its standard deviation, both of
    the shape of values; safe where the model is 0 or the value does not count."""
    predicted = jnp.where(use, predicted, 1.0)
    level = predicted + jnp.where(use, data.background, 0.0)
    if data.noise == "log-normal":
        tiny = jnp.asarray(max(_TINY, float(jnp.finfo(level.dtype).tiny)), level.dtype)
        some = level > tiny
        z = jnp.where(some, jnp.log(jnp.where(some, level, 1.0)), jnp.log(tiny)) + data.log_calibration
    else:
        z = level * jnp.exp(data.log_calibration)
    sigma = jnp.where(use, data.sigma, 1.0)
    return jnp.broadcast_to(z, use.shape), jnp.broadcast_to(jnp.log(sigma) + data.log_sigma, use.shape)


def likelihood(data: Data, use, z, u):
    """(loss, slope in z, slope in u, curvature in z, curvature in u, residual), each of the shape of values, 0 where not used.

    loss = -ln likelihood of each value without its constants; the curvatures are those expected (Fisher's), positive everywhere.
    """
    measured = jnp.where(use, data.values, 1.0)
    y = jnp.log(measured) if data.noise == "log-normal" else measured
    size = jnp.exp(u)
    r = jnp.where(use, (y - z) / size, 0.0)
    if data.dof is None:
        loss, weight, kz, ku = 0.5 * r**2, 1.0, 1.0, 2.0
    else:
        n = data.dof
        loss, weight = 0.5 * (n + 1.0) * jnp.log1p(r**2 / n), (n + 1.0) / (n + r**2)
        kz, ku = (n + 1.0) / (n + 3.0), 2.0 * n / (n + 3.0)
    zero = jnp.zeros(())
    return (jnp.where(use, loss + u, zero), jnp.where(use, -weight * r / size, zero), jnp.where(use, 1.0 - weight * r**2, zero),
            jnp.where(use, kz / size**2, zero), jnp.where(use, ku, zero), r)
