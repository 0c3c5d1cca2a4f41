"""Particles of the foliated Fokker-Planck equation, and where they start: see `montecarlo`."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .physics.field_lines import Point, S, from_length, from_potential

__all__ = ["Particles", "from_canonical", "from_paper", "sample", "thermal", "sample_grid", "check"]


def check(name, value, low, high, why, inside=False):
    """One line of ValueError where a concrete value is not in [low, high], or not strictly inside."""
    if value is None or callable(value) or isinstance(value, jax.core.Tracer):
        return
    values = np.asarray(value)
    bad = ~((values > low) & (values < high)) if inside else ~((values >= low) & (values <= high))
    if bad.any():
        raise ValueError(f"monte carlo {name} = {float(values[bad].ravel()[0]):g} is out of range: {why}")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Particles:
    """Particles in the canonical coordinates: arrays of one shape (n,), or theta None where nothing depends on it.

    weight: how much of the distribution each stands for, so that a sum over particles of weight y is the integral of P y over
    dl dv [dtheta] dpsi [dmu]; 0: lost. Build with `from_canonical`, `from_paper`, or a sampler.
    """

    chi: Any
    p: Any
    theta: Any
    psi: Any
    mu: Any
    weight: Any

    @property
    def point(self) -> Point:
        """Where on its field line each particle is."""
        return from_potential(self.chi, self.psi, outside="extrapolate")

    @property
    def l(self):   # noqa: E743
        """Arc length from the equator [R_p]."""
        return self.point.l

    @property
    def v(self):
        """Velocity along B [v_th]."""
        return self.p * self.point.B

    @property
    def energy(self):
        """Kinetic energy v^2/2 + mu B [m v_th^2]."""
        B = self.point.B
        return 0.5 * (self.p * B) ** 2 + self.mu * B

    @property
    def alive(self):
        """True for the particles that are left."""
        return self.weight > 0.0

    @property
    def effective_number(self):
        """(sum of weights)^2/(sum of squared weights): how many particles of equal weight would know as much."""
        return jnp.sum(self.weight) ** 2 / jnp.sum(self.weight**2)


def from_canonical(chi, p, psi, mu, theta=None, weight=1.0) -> Particles:
    """Particles at (chi, p, theta, psi) with moments mu; all broadcast to one shape. ValueError if psi is outside (0, 1) or
    mu < 0."""
    check("psi", psi, 0.0, 1.0, "field lines lie in (0, 1): psi = 1/L", inside=True)
    check("mu", mu, 0.0, math.inf, "a magnetic moment is at least 0")
    values = jnp.broadcast_arrays(*(jnp.asarray(y, jnp.result_type(float, psi)) for y in
                                    (chi, p, 0.0 if theta is None else theta, psi, mu, weight)))
    return Particles(*values[:2], None if theta is None else values[2], *values[3:])


def from_paper(l, v, psi, mu, theta=None, weight=1.0) -> Particles:
    """Particles at the paper's coordinates (l, v, theta, psi); as `from_canonical`."""
    check("psi", psi, 0.0, 1.0, "field lines lie in (0, 1): psi = 1/L", inside=True)
    at = from_length(l, psi, outside="extrapolate")
    return from_canonical(at.chi, jnp.asarray(v) / at.B, psi, mu, theta, weight)


# --- where they start ------------------------------------------------------------------------------------------------------

def _range(name, value, why):
    """(low, high) of a number or a pair."""
    low, high = (float(y) for y in (value if np.ndim(value) else (value, value)))
    if not 0.0 <= low <= high:
        raise ValueError(f"monte carlo {name} = {value}: {why}")
    return low, high


def _lines(psi):
    low, high = (float(y) for y in psi)
    if not 0.0 < low < high < 1.0:
        raise ValueError(f"monte carlo psi = ({low:g}, {high:g}): needs 0 < low < high < 1, field lines psi = 1/L")
    return low, high


def _placed(u, v, theta, psi, mu, weight):
    """Particles at l = u (length of the field line from the equator to the planet)."""
    at = from_length(u * S(jnp.sqrt(1.0 - psi)) / psi, psi, outside="extrapolate")
    return Particles(at.chi, v / at.B, theta, psi, mu, weight)


def sample(key, n: int, density, *, psi, mu, v_max=6.0, theta: bool = False) -> Particles:
    """n particles uniform in psi, in l between the two ends of the field line, in |v| < v_max, mu (a number, or (low, high)) and,
    with theta=True, the angle; their weights are those of P0 = density(l, v, theta, psi, mu) (elementwise; theta is 0.0 without
    the angle). See `effective_number` for what they are worth: about n/3 for a Maxwellian at one mu.
    """
    low, high = _lines(psi)
    least, most = _range("mu", mu, "needs a number of at least 0, or 0 <= low < high")
    y = jax.random.uniform(key, (5, n))
    psi, mu, v = low + (high - low) * y[0], least + (most - least) * y[1], v_max * (2.0 * y[2] - 1.0)
    u, angle = 2.0 * y[3] - 1.0, math.pi * (2.0 * y[4] - 1.0) if theta else None
    half = S(jnp.sqrt(1.0 - psi)) / psi
    volume = (high - low) * (most - least or 1.0) * 4.0 * v_max * half * (2.0 * math.pi if theta else 1.0) / n
    weight = volume * density(u * half, v, 0.0 if angle is None else angle, psi, mu)
    return _placed(u, v, angle, psi, mu, weight)


def thermal(key, n: int, *, psi, mu, temperature=1.0, theta: bool = False, cells: int = 256) -> Particles:
    """n particles of P0 = exp(-H/T), H = v^2/2 + mu B, on the field lines psi = (low, high) outside the planet.

    mu: one moment, or (low, high) with the whole range between. v is drawn from its normal distribution, mu exactly at its place,
    and the place from a table of cells x cells whose deviations from exp(-H/T) inside a cell the weights make good: no bias, and
    an effective number within about 1 % of n. The sum of the weights is the integral of P0.
    """
    check("temperature", temperature, 0.0, math.inf, "it must be above 0", inside=True)
    return _thermal(key, n, _lines(psi), _range("mu", mu, "needs a number of at least 0, or 0 <= low < high"),
                    jnp.asarray(temperature, jnp.result_type(float)), theta, cells)


@partial(jax.jit, static_argnames=("n", "psi", "mu", "theta", "cells"))
def _thermal(key, n, psi, mu, temperature, theta, cells):
    (low, high), (least, most) = psi, mu

    def place(psi, u):
        """exp(-mu B/T) dl dpsi [dmu] per unit of u and psi, and B."""
        half = S(jnp.sqrt(1.0 - psi)) / psi
        B = from_length(u * half, psi, outside="extrapolate").B
        factor = jnp.exp(-least * B / temperature)
        if most > least:
            factor = -factor * jnp.expm1(-(most - least) * B / temperature) * temperature / B
        return half * factor, B

    lines = low + (high - low) / cells * (jnp.arange(cells) + 0.5)
    along = 2.0 / cells * (jnp.arange(cells) + 0.5) - 1.0
    table = place(lines[:, None], along[None, :])[0].ravel()
    total = jnp.cumsum(table)
    choose, within, velocity, moment, turn = jax.random.split(key, 5)
    i = jnp.searchsorted(total, total[-1] * jax.random.uniform(choose, (n,)), side="right")
    i = jnp.minimum(i, table.size - 1)
    shift = jax.random.uniform(within, (2, n)) - 0.5
    psi, u = lines[i // cells] + (high - low) / cells * shift[0], along[i % cells] + 2.0 / cells * shift[1]
    factor, B = place(psi, u)
    weight = factor / table[i] * total[-1] * (high - low) * 2.0 / cells**2 / n * jnp.sqrt(2.0 * math.pi * temperature)
    v = jnp.sqrt(temperature) * jax.random.normal(velocity, (n,))
    mu = jnp.full((n,), least)
    if most > least:                                # the truncated exponential, by its inverse
        y = jax.random.uniform(moment, (n,))
        mu = least - jnp.log1p(y * jnp.expm1(-(most - least) * B / temperature)) * temperature / B
    angle = None
    if theta:
        angle, weight = math.pi * (2.0 * jax.random.uniform(turn, (n,)) - 1.0), 2.0 * math.pi * weight
    return _placed(u, v, angle, psi, mu, weight)


def sample_grid(key, n: int, grid, f) -> Particles:
    """n particles of equal weight from a gridded P, axes "mu" (nodes), "psi", "chi", "p" and perhaps "theta": a cell by its
    content, then uniform inside it (those that so come to lie inside the planet, `walk` leaves out). ValueError if a value is negative or an
    axis is missing."""
    missing = [name for name in ("mu", "psi", "chi", "p") if name not in grid.names]
    if missing:
        raise ValueError(f"monte carlo grid: needs an axis {missing[0]!r}; it has {', '.join(grid.names)}")
    check("P", f, 0.0, math.inf, "particles need a distribution of at least 0")
    content = (jnp.asarray(f) * grid.volumes).ravel()
    total = jnp.cumsum(content)
    choose, within = jax.random.split(key)
    i = jnp.searchsorted(total, total[-1] * jax.random.uniform(choose, (n,)), side="right")
    index = jnp.unravel_index(jnp.minimum(i, content.size - 1), grid.shape)
    y = jax.random.uniform(within, (len(grid.axes), n))
    at = {}
    for k, axis in enumerate(grid.axes):
        if axis.is_nodes:
            at[axis.name] = jnp.asarray(axis.centers)[index[k]]
        else:
            faces = jnp.asarray(axis.faces)
            at[axis.name] = faces[index[k]] + y[k] * (faces[index[k] + 1] - faces[index[k]])
    return Particles(at["chi"], at["p"], at.get("theta"), at["psi"], at["mu"], jnp.full((n,), total[-1] / n))
