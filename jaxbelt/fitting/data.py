"""Measurements of a fit: values, their noise, and the operator that says what a run would have shown instead."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbelt.coefficients import parameters, static

__all__ = ["Data", "compared", "counted", "likelihood"]

_TINY = 1e-300


@parameters
class Data:
    r"""Measurements and how a run is compared with them.

    operator: callable pytree, Solution -> predictions of the shape of `values` (`AlongOrbit`, `Moments`, `State`, or your own
    `jb.observed(fn)`). values: measured; NaN and, with log-normal noise, values <= 0 are left out, and so is what `mask` (True:
    use it) leaves out.
    noise (static): "log-normal": ln values = ln(model + background) + log_calibration + sigma e^log_sigma noise;
    "normal": values = e^log_calibration (model + background) + sigma e^log_sigma noise.
    sigma: > 0, in units of ln values, or of values; a number or an array that broadcasts with them. dof (static): None for
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
        sigma = np.asarray(self.sigma)
        if sigma.dtype != object and not np.all(sigma > 0):
            raise ValueError(f"Data sigma: must be positive, got {np.ravel(sigma)[~(np.ravel(sigma) > 0)][0]:g}")


def counted(data: Data, covered=None) -> np.ndarray:
    """Which values take part in a fit (bool, shape of values): finite, positive where logarithms are taken, not masked, and
    covered by the run. Raises ValueError where none is left, saying how many were lost to what."""
    values = np.asarray(data.values, float)
    finite = np.isfinite(values)
    positive = finite & (values > 0) if data.noise == "log-normal" else finite
    masked = np.ones(values.shape, bool) if data.mask is None else np.broadcast_to(np.asarray(data.mask, bool), values.shape)
    seen = np.ones(values.shape, bool) if covered is None else np.broadcast_to(np.asarray(covered, bool), values.shape)
    known = np.broadcast_to(np.isfinite(np.asarray(data.sigma, float)), values.shape)
    out = positive & masked & seen & known
    if not out.any():
        reasons = [f"{int(np.sum(~finite))} missing"]
        if data.noise == "log-normal":
            reasons.append(f"{int(np.sum(finite & ~positive))} zero or negative")
        beyond = int(np.sum(positive & masked & ~seen))
        reasons += [f"{int(np.sum(positive & ~masked))} masked", f"{beyond} not covered by the run"]
        said = ", ".join(r for r in reasons if not r.startswith("0 "))
        raise ValueError(f"data: none of the {values.size} values is left: {said}")
    return out


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
