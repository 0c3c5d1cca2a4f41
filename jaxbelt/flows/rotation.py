"""`Rotation`: an exact shift along a periodic axis at a rate that depends on the other axes, with ring diffusion for free."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxbelt.coefficients import static
from jaxbelt.flows.base import Flow, any_in_batch, borrow, flow, positive_scale

__all__ = ["Rotation", "shift_rings"]

_SHORT = 48                    # cells of a ring inside an array up to which it is turned by matrix products


def _multiplier(n, period, shift, spread, dtype):
    """Fourier multipliers of a shift (in the axis' unit) and a Gaussian spread (variance/2), shape (..., n//2+1)."""
    k = 2.0 * np.pi / period * np.arange(n // 2 + 1)
    angle = k * jnp.asarray(shift)[..., None]
    real, imag = jnp.cos(angle), -jnp.sin(angle)
    if n % 2 == 0:
        imag = imag.at[..., -1].set(0.0)                     # the Nyquist mode has no phase of its own
    if spread is not None:
        damp = jnp.exp(-(k**2) * jnp.asarray(spread)[..., None])
        real, imag = real * damp, imag * damp
    real, imag = jnp.broadcast_arrays(real, imag)
    return lax.complex(real.astype(dtype), imag.astype(dtype))


def shift_rings(f, multiplier, positive):
    """Rings (last axis) of f times Fourier multipliers; kept non-negative where needed: cells below zero
    borrow from their neighbours; what that cannot settle, by scaling the ring toward its mean."""
    n = f.shape[-1]
    # as (rings, n): XLA's CPU back end cannot run a partitioned FFT whose operand it laid out in another order
    modes = jnp.fft.rfft(f.reshape(-1, n)).reshape(*f.shape[:-1], n // 2 + 1) * multiplier
    out = jnp.fft.irfft(modes.reshape(-1, n // 2 + 1), n=n).reshape(f.shape)
    return _not_negative(out, f, -1) if positive else out


def _not_negative(out, f, k):
    """What f became, without negative values; the rings lie along axis k."""
    # computed again in the reverse pass: of what one branch keeps, the other has to write zeros
    @partial(jax.checkpoint, prevent_cse=False)
    def scaled(g, f):
        g, f = jnp.moveaxis(g, k, -1), jnp.moveaxis(f, k, -1)
        full = positive_scale(borrow(g), jnp.mean(f, axis=-1, keepdims=True), -1)
        return jnp.moveaxis(jnp.where(jnp.min(f, axis=-1, keepdims=True) < 0, g, full), -1, k)

    return lax.cond(any_in_batch(lax.stop_gradient(out) < 0), scaled, lambda g, f: g, out, f)


def _by_products(f, multiplier, k):
    """Rings along axis k, in the middle of the array, times Fourier multipliers (modes along k): the transforms are products
    with one n x n matrix, which for short rings cost no more than an FFT and need no transposed copy."""
    n, modes = f.shape[k], f.shape[k] // 2 + 1
    m, x = np.arange(modes), 2.0 * np.pi / n * np.arange(n)
    cos, sin = np.cos(np.outer(m, x)), -np.sin(np.outer(m, x))
    weight = np.where((m == 0) | (2 * m == n), 1.0, 2.0)[:, None] / n

    def rows(matrix, f):
        flat = f.reshape(math.prod(f.shape[:k]), f.shape[k], -1)
        out = jnp.matmul(jnp.asarray(matrix, f.dtype), flat, precision=lax.Precision.HIGHEST)
        return out.reshape(*f.shape[:k], matrix.shape[0], *f.shape[k + 1:])

    real, imag = jnp.split(rows(np.concatenate([cos, sin]), f), 2, axis=k)
    re, im = jnp.real(multiplier), jnp.imag(multiplier)
    return rows((weight * cos).T, real * re - imag * im) + rows((weight * sin).T, real * im + imag * re)


@flow
class Rotation(Flow):
    """df/dt + rate df/dx = diffusion d2f/dx2 along a periodic axis x, exactly, ring by ring (FFT).

    rate [axis unit/s], diffusion [axis unit^2/s] or None: length 1 along `axis`, 1 or n along the others. The axis must have
    equal cells. Exact for resolved data at any step. Where a shifted ring undershoots zero, beside edges sharper than about
    1.5 cells, the cells below zero borrow from their neighbours (content kept, nothing clipped): edges soften to that width.
    """

    axis: str = static()
    rate: Any = 0.0
    diffusion: Any = None
    steady: bool = static(True)
    positive: bool = static(True)
    exact = True
    again = True

    def prepare(self, grid, dt):
        """What a step of dt needs: see `Flow`."""
        k = grid.index(self.axis)
        ring = grid[k]
        if not ring.periodic or np.ptp(ring.measure) > 1e-9 * ring.measure[0]:
            raise ValueError(f"Rotation along {ring.name}: the axis must be periodic with equal cells")

        def rings(a):
            a = jnp.asarray(a)
            a = a.reshape((1,) * (grid.ndim - a.ndim) + a.shape)
            if a.shape[k] != 1:
                raise ValueError(f"Rotation along {ring.name}: rate and diffusion must not vary along {ring.name}")
            return jnp.squeeze(a, axis=k)

        dtype = jnp.result_type(float)
        period = ring.faces[-1] - ring.faces[0]
        spread = None if self.diffusion is None else rings(self.diffusion) * dt
        out = _multiplier(ring.n, period, rings(self.rate) * dt, spread, dtype)
        return jnp.moveaxis(out, -1, k) if _short(grid, k) else out

    def advance(self, grid, state, f, t, dt):
        """(f after dt, budget): see `Flow`."""
        k = grid.index(self.axis)
        if _short(grid, k):
            out = _by_products(f, state, k)
            return (_not_negative(out, f, k) if self.positive else out), {}
        out = shift_rings(jnp.moveaxis(f, k, -1), state, self.positive)
        return jnp.moveaxis(out, -1, k), {}


def _short(grid, k) -> bool:
    """Whether rings along axis k are turned by matrix products."""
    return k < grid.ndim - 1 and grid[k].n <= _SHORT
