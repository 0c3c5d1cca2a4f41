"""Bulk drift in (L, phi) from a Hamiltonian: stream functions on cell corners, rotation rates, waves.

H = T/q + U [volt] at fixed first and second invariants (Lejosne & Albert 2023, Eqs. 17-19). With psi = H/(B_E R_E^2) [1/s],
    dL/dt = -L^2 dpsi/dphi,   dphi/dt = L^2 dpsi/dL,
which is divergence-free in dL dphi/L^2. phi = 0 at midnight, eastward.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxbelt.coefficients import Series, Time, evaluate, parameters, static
from jaxbelt.flows.transport import ripple_filter, stream_from_velocity

__all__ = ["Wave", "TurnedWall", "edge_rate", "streams", "rotation_rate", "perturbation", "velocity_stream"]

_GAUSS, _WEIGHTS = np.polynomial.legendre.leggauss(4)


@parameters
class Wave:
    """A potential wave U = potential(L) cos(m phi - omega t + phase) [V].

    potential: number or coefficient of (t, L) [V]; m: azimuthal number; omega [rad/s] > 0 travels eastward; phase [rad].
    An azimuthal field of amplitude E_phi [V/m] at L has potential = E_phi R_E L/m. Good values: 0.1-5 mV/m, omega/2pi 1-10 mHz.
    """

    potential: Any
    m: int = static()
    omega: Any = 0.0
    phase: Any = 0.0

    def __call__(self, t, L, phi):
        angle = self.m * phi - self.omega * Time.at(t).value + self.phase
        return evaluate(self.potential, t, L) * jnp.cos(angle) * jnp.ones_like(L)


@parameters
class TurnedWall:
    """A wall value as a flow feels it that is split from the rotation: seen in the frame in which the rings stand meanwhile.

    value: a coefficient of (t, phi). rate: rotation at the wall [rad/s]. At a stage time t the rings stand where they were (or
    will be) at the frame's moment, so the value is read at phi + rate (t - frame). Without this, a wall value that depends on phi
    would bring the splitting down to first order. spread: D_phiphi [rad^2/s] where that rides on the rotation: undone in the
    same way, to first order and not below zero. inner: the flow lies inside the rotation (frame: the middle of the step),
    else outside (its beginning or end).
    """

    value: Any
    rate: Any
    spread: Any = None
    inner: bool = static(True)

    def __call__(self, t, phi):
        elapsed = t.offset - (t.center if self.inner else t.edge)
        value = self._turned(t, phi, self.rate * elapsed)
        n = jnp.shape(value)[-1] if jnp.ndim(value) else 1
        if self.spread is None or n == 1:
            return value
        bend = (jnp.roll(value, 1, -1) - 2 * value + jnp.roll(value, -1, -1)) / (2 * np.pi / n) ** 2
        return jnp.maximum(value - self.spread * elapsed * bend, jnp.minimum(value, 0.0))

    def _turned(self, t, phi, turn):
        if callable(self.value) and not isinstance(self.value, Series):
            return evaluate(self.value, t, phi + turn)
        value = evaluate(self.value, t)
        if value.ndim == 0 or value.shape[-1] == 1:
            return value
        # an array over phi: linear interpolation keeps it within its bounds
        n = value.shape[-1]
        shift = turn / (2 * np.pi / n)
        k = jnp.floor(shift)
        index = (jnp.arange(n) + k.astype(int)) % n
        return value[..., index] * (1 - (shift - k)) + value[..., (index + 1) % n] * (shift - k)


def edge_rate(rate):
    """Rotation rates carried from the cells to the L faces, shape (n_L + 1, 1)."""
    return jnp.concatenate([1.5 * rate[:1] - 0.5 * rate[1:2], 0.5 * (rate[1:] + rate[:-1]), 1.5 * rate[-1:] - 0.5 * rate[-2:-1]])


def _scale(planet):
    """B_E R_E^2 in V s (tesla times square metres)."""
    return 1e-4 * planet.b_e * planet.r_e**2


def streams(grid, prm, t):
    """(psi_0, psi_1, waves): ring-mean and remaining stream function on corners [1/s], and each wave's own.

    Shapes: (n_L + 1, 1) or 0; (n_L + 1, n_phi) or None; list of (n_L + 1, n_phi). Corner j stands at the upper face of cell j.
    """
    L = grid.faces("L")
    phi = grid.along("phi", grid["phi"].faces[1:])
    scale = _scale(prm.planet)
    total = 0.0
    if prm.kinetic is not None:
        total = total + evaluate(prm.kinetic, t, L) / scale
    if prm.potential is not None:
        total = total + evaluate(prm.potential, t, L, phi) / scale
    if prm.ldot is not None:
        total = total + velocity_stream(grid, prm, t)[0]
    total = jnp.asarray(total)
    if total.ndim == 2 and total.shape[1] > 1:
        mean = jnp.mean(total, axis=1, keepdims=True)
        rest = total - mean
    else:
        mean, rest = total, None
    return mean, rest, [w(t, L, phi) / scale for w in prm.waves]


def velocity_stream(grid, prm, t):
    """Stream function of given Ldot [1/s] and phidot [rad/s], and by how much they fail to be divergence-free.

    Both are integrated over faces with four Gauss points (functions) or taken as they are (arrays: Ldot on
    (n_L + 1, n_phi) faces, phidot on (n_L, n_phi) faces).
    """
    La, pa = grid["L"], grid["phi"]
    x, w = 0.5 * (_GAUSS + 1.0), 0.5 * _WEIGHTS
    dphi = pa.measure[0]

    def on_l_faces(c):
        if not callable(c):
            return jnp.asarray(c)
        return sum(wk * jnp.broadcast_to(evaluate(c, t, La.faces[:, None], (pa.faces[:-1] + xk * dphi)[None]),
                                         (La.n + 1, pa.n)) for xk, wk in zip(x, w))

    def on_phi_faces(c):
        if c is None:
            return jnp.zeros((La.n, pa.n))
        if not callable(c):
            return jnp.broadcast_to(jnp.asarray(c), (La.n, pa.n)) * La.measure[:, None]
        inverse = 1.0 / La.faces                              # Gauss points in 1/L, the measure dL/L^2
        points = [1.0 / (inverse[:-1] + xk * (inverse[1:] - inverse[:-1])) for xk in x]
        return sum(wk * jnp.broadcast_to(evaluate(c, t, p[:, None], pa.faces[None, 1:]), (La.n, pa.n))
                   for p, wk in zip(points, w)) * La.measure[:, None]

    ua = on_l_faces(prm.ldot) / La.faces[:, None] ** 2 * dphi
    return stream_from_velocity(ua, on_phi_faces(prm.phidot))


def rotation_rate(grid, prm, mean, t):
    """Rate of every ring's exact rotation [rad/s], (n_L, 1): (psi_0(upper face) - psi_0(lower face))/V, plus phidot(L)."""
    rate = jnp.zeros((grid["L"].n, 1))
    if mean.ndim == 2:
        rate = rate + jnp.diff(mean, axis=0) / grid["L"].measure[:, None]
    if prm.phidot is not None and prm.ldot is None:
        given = evaluate(prm.phidot, t, *grid.mesh())
        if given.ndim == 2 and given.shape[1] > 1:
            raise ValueError("phidot: varies with phi, so it needs ldot as well (or give kinetic and potential instead)")
        rate = rate + given
    return rate


def perturbation(rest, waves, prm, rate, dt):
    """Stream function of H1 as a step of dt feels it: every harmonic averaged in the frame of the split-off rotation."""
    edge = edge_rate(rate)
    total = 0.0 if rest is None else ripple_filter(rest, edge, dt, 1)
    for wave, psi in zip(prm.waves, waves):
        total = total + ripple_filter(psi, edge, dt, 1, omega=wave.omega)
    return total
