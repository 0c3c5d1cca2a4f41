"""Bulk drift in (L, phi) from a Hamiltonian: stream functions on cell corners, rotation rates, waves.

H = T/q + U [volt] at fixed first and second invariants (Lejosne & Albert 2023, Eqs. 17-19). With psi = H/(B_E R_E^2) [1/s],
    dL/dt = -L^2 dpsi/dphi,   dphi/dt = L^2 dpsi/dL,
which is divergence-free in dL dphi/L^2. phi = 0 at midnight, eastward. Eq. 17 in Euler potentials, alpha = -B_E R_E^2/L and
beta = phi, reads alphadot = -dH/dbeta, betadot = +dH/dalpha. A Hamiltonian is given as a function or as an array on a grid.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbelt.coefficients import Series, Time, evaluate, parameters, static
from jaxbelt.constants import EARTH
from jaxbelt.flows.transport import ripple_filter, stream_from_velocity

__all__ = ["Wave", "TurnedWall", "edge_rate", "streams", "rotation_rate", "perturbation", "transport_mesh", "velocity_stream",
           "drift_velocity", "Interpolant", "interpolant", "hamiltonian"]

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

    value: a coefficient of (t, phi), or of (t, phi, *labels). rate: rotation at the wall [rad/s], phi first. At a stage time t
    the rings stand where they were (or will be) at the frame's moment, so the value is read at phi + rate (t - frame). Without
    this, a wall value that depends on phi would bring the splitting down to first order. spread: D_phiphi [rad^2/s] where that
    rides on the rotation: undone in the same way, to first order and not below zero. inner: the flow lies inside the rotation
    (frame: the middle of the step), else outside (its beginning or end).
    """

    value: Any
    rate: Any
    spread: Any = None
    inner: bool = static(True)

    def __call__(self, t, phi, *labels):
        elapsed = t.offset - (t.center if self.inner else t.edge)
        value = self._turned(t, phi, self.rate * elapsed, labels)
        n = value.shape[0] if value.ndim == 1 + len(labels) else 1
        if self.spread is None or n == 1:
            return value
        bend = (jnp.roll(value, 1, 0) - 2 * value + jnp.roll(value, -1, 0)) / (2 * np.pi / n) ** 2
        return jnp.maximum(value - self.spread * elapsed * bend, jnp.minimum(value, 0.0))

    def _turned(self, t, phi, turn, labels):
        if callable(self.value) and not isinstance(self.value, Series):
            return evaluate(self.value, t, phi + turn, *labels)
        value = evaluate(self.value, t)
        if value.ndim < 1 + len(labels) or value.shape[0] == 1:
            return value
        # an array over phi: linear interpolation keeps it within its bounds
        n = value.shape[0]
        shift = turn / (2 * np.pi / n)
        k = jnp.floor(shift)
        index = (jnp.arange(n).reshape((n,) + (1,) * len(labels)) + k.astype(int)) % n
        value = jnp.broadcast_to(value, jnp.broadcast_shapes(value.shape, index.shape))
        here, after = (jnp.take_along_axis(value, i, axis=0, mode="promise_in_bounds") if labels else value[i]
                       for i in (jnp.broadcast_to(index, value.shape), jnp.broadcast_to((index + 1) % n, value.shape)))
        return here * (1 - (shift - k)) + after * (shift - k)


def transport_mesh(grid) -> list:
    """Coordinates (L[, phi]) of the cells, broadcastable to an array on the grid; further axes (labels) are left out."""
    return [c for name, c in zip(grid.names, grid.mesh()) if name in ("L", "phi")]


def edge_rate(rate):
    """Rotation rates carried from the cells to the L faces, shape (n_L + 1, 1)."""
    return jnp.concatenate([1.5 * rate[:1] - 0.5 * rate[1:2], 0.5 * (rate[1:] + rate[:-1]), 1.5 * rate[-1:] - 0.5 * rate[-2:-1]])


def _scale(planet):
    """B_E R_E^2 in V s (tesla times square metres)."""
    return 1e-4 * planet.b_e * planet.r_e**2


def streams(grid, prm, t):
    """(psi_0, psi_1, waves): ring-mean and remaining stream function on corners [1/s], and each wave's own.

    Shapes: (n_L + 1, 1) or 0; (n_L + 1, n_phi) or None; list of (n_L + 1, n_phi). Corner j stands at the upper face of cell j.
    On a grid with more axes (labels) after L and phi each has as many dimensions as the grid.
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
    if total.ndim >= 2 and total.shape[1] > 1:
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
    stream, mismatch = stream_from_velocity(ua, on_phi_faces(prm.phidot))
    return stream.reshape(stream.shape + (1,) * (grid.ndim - 2)), mismatch


def rotation_rate(grid, prm, mean, t):
    """Rate of every ring's exact rotation [rad/s], (n_L, 1): (psi_0(upper face) - psi_0(lower face))/V, plus phidot(L)."""
    rate = jnp.zeros((grid["L"].n,) + (1,) * (grid.ndim - 1))
    if mean.ndim >= 2:
        rate = rate + jnp.diff(mean, axis=0) / grid.along("L", grid["L"].measure)
    if prm.phidot is not None and prm.ldot is None:
        given = evaluate(prm.phidot, t, *transport_mesh(grid))
        if given.ndim >= 2 and given.shape[1] > 1:
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


# ---- a Hamiltonian as a function or as a user's array

def drift_velocity(H, L, phi, planet=EARTH, t=None):
    r"""Bulk drift (Ldot [1/s], phidot [rad/s]) of a Hamiltonian H = T/q + U [volt] (Lejosne & Albert 2023, Eqs. 17-19):

        Ldot = -(L^2/(B_E R_E^2)) dH/dphi,    phidot = (L^2/(B_E R_E^2)) dH/dL,

    so that L^2 d_L(Ldot/L^2) + d_phi phidot = 0. A function H(L, phi), or H(t, L, phi) where t is given, acts point by point;
    L and phi broadcast and the derivatives are exact. An array H has shape (n_L, n_phi), or (n_L, 1) where it does not depend
    on phi, on increasing L (n_L,) or (n_L, 1) and phi (n_phi,) evenly spaced over the whole circle, cells or corners alike:
    derivatives are spectral in phi and of fifth order (quintic spline in ln L) in L, and commute, so that the divergence
    vanishes to round-off in them. L and phi are then concrete.

    Corotation alone, H = -rotation B_E R_E^2/L: phidot = rotation. A uniform field of 1 mV/m from dawn to dusk at L = 6 gives
    Ldot = -3.908 R_E/h at midnight for B_E = 0.312 G (E/B). Raises ValueError where an array does not fit L and phi.
    """
    scale = _scale(planet)
    if not callable(H):
        H, x, _ = _on_nodes(H, L, phi)
        slope = _spline(x).derivative()(x)                    # (n_L, n_L): values at the nodes -> derivative in ln L there
        return _at_nodes(H, slope.astype(H.dtype), np.exp(x)[:, None].astype(H.dtype), scale)
    L, phi = jnp.broadcast_arrays(*(jnp.asarray(x, jnp.result_type(float, x)) for x in (L, phi)))
    h = H if t is None else lambda L, phi: evaluate(H, Time.at(t), L, phi)

    def value(L, phi):
        return jnp.broadcast_to(h(L, phi), L.shape)
    one, zero = jnp.ones_like(L), jnp.zeros_like(L)
    dL = jax.jvp(value, (L, phi), (one, zero))[1]
    dphi = jax.jvp(value, (L, phi), (zero, one))[1]
    return -(L**2) / scale * dphi, L**2 / scale * dL


@jax.jit
def _at_nodes(H, slope, L, scale):
    """Drift on an array's own nodes; slope: derivative in ln L as a matrix."""
    return -(L**2) / scale * _d_phi(H), L / scale * jnp.einsum("ij,jk->ik", slope, H)


def _on_nodes(values, L, phi):
    """(values (n_L, n_phi), ln L, phi of the first column), checked."""
    L, phi = np.ravel(np.asarray(L, float)), np.ravel(np.asarray(phi, float))
    values = jnp.asarray(values)
    values = values if jnp.issubdtype(values.dtype, jnp.inexact) else values.astype(jnp.result_type(float))
    if values.ndim != 2 or values.shape[0] != L.size or values.shape[1] not in (1, phi.size):
        raise ValueError(f"H: an array of shape {values.shape} does not fit {L.size} values of L and {phi.size} of phi; "
                         "give one row for each L and one column for each phi")
    if L.size < 4 or not np.all(np.diff(L) > 0) or not L[0] > 0:
        raise ValueError("H: L needs at least 4 positive values that increase")
    if values.shape[1] > 1 and not np.allclose(np.diff(phi), 2 * np.pi / phi.size, rtol=0, atol=1e-5 / phi.size):
        raise ValueError(f"H: phi needs even steps of 2 pi/{phi.size}, once round without the first value again at the end")
    return values, np.log(L), float(phi[0]) if phi.size else 0.0


def _spline(x):
    """The quintic (cubic below 6 nodes) not-a-knot spline through unit values at each node x: a function of x and node."""
    from scipy.interpolate import make_interp_spline

    return make_interp_spline(x, np.eye(x.size), k=5 if x.size >= 6 else 3)


def _d_phi(values):
    """Spectral derivative along the last axis, evenly spaced over 2 pi; the Nyquist mode has none."""
    n = values.shape[-1]
    k = np.arange(n // 2 + 1)
    k = np.where(2 * k == n, 0, k)
    return jnp.fft.irfft(1j * jnp.asarray(k) * jnp.fft.rfft(values, axis=-1), n, axis=-1)


def _cardinal() -> np.ndarray:
    """W[m, k]: the quintic cardinal B-spline centred m - 2 cells ahead, at a fraction w of a cell, as sum_k W w^k."""
    rows = []
    for m in range(-2, 4):
        terms = [(-1) ** k * math.comb(6, k) / 120 * np.poly1d([1.0, 3 - m - k]) ** 5 for k in range(0, 4 - m)]
        total = sum(terms, np.poly1d([0.0]))
        rows.append(np.pad(total.coeffs[::-1], (0, 6 - total.coeffs.size)))
    return np.array(rows)


_CARDINAL = _cardinal()


@parameters
class Interpolant:
    """H(L, phi) [volt] from an array, four times continuously differentiable; built by `interpolant`.

    coefficients: (n_L - 1, n, 6), powers of ln L above each node, B-spline coefficients in phi. log_l: the nodes in ln L.
    """

    coefficients: Any
    log_l: tuple = static()
    phi0: float = static(0.0)

    @property
    def domain(self):
        """(lowest, highest) L of the array."""
        return float(np.exp(self.log_l[0])), float(np.exp(self.log_l[-1]))

    def __call__(self, L, phi):
        c = jnp.asarray(self.coefficients)
        nodes = jnp.asarray(np.asarray(self.log_l), c.dtype)
        L, phi = jnp.broadcast_arrays(jnp.asarray(L, jnp.result_type(float, L)), jnp.asarray(phi, jnp.result_type(float, phi)))
        y, s = jnp.log(L), (phi - self.phi0) * (c.shape[1] / (2 * np.pi))
        i = jnp.clip(jnp.searchsorted(nodes, jax.lax.stop_gradient(y), side="right") - 1, 0, c.shape[0] - 1)
        j = jnp.floor(jax.lax.stop_gradient(s))
        local = c[i[..., None], (j.astype(int)[..., None] + np.arange(-2, 4)) % c.shape[1]]           # (..., 6 in phi, 6 powers)
        in_phi = jnp.einsum("mk,...k->...m", jnp.asarray(_CARDINAL, c.dtype), _powers(s - j))
        return jnp.einsum("...m,...mk,...k->...", in_phi, local, _powers(y - nodes[i]))


def _powers(x):
    """1, x, ... x^5 along a new last axis."""
    x2 = x * x
    return jnp.stack([jnp.ones_like(x), x, x2, x2 * x, x2 * x2, x2 * x2 * x], axis=-1)


def interpolant(values, L, phi) -> Interpolant:
    """H(L, phi) as a smooth function, from an array (n_L, n_phi) or (n_L, 1) on increasing L and evenly spaced phi.

    Quintic splines in ln L and in phi, the latter on twice the array's points (its Fourier series between them): a potential
    sin(phi)/L is met to 1e-9 on 60 by 64 points. Differentiable in `values`. Beyond the array the last piece goes on;
    `contours` stop there. Raises ValueError as `drift_velocity` does.
    """
    values, x, phi0 = _on_nodes(values, L, phi)
    spline, order = _spline(x), 5 if x.size >= 6 else 3
    powers = [spline(x[:-1], nu=k) / math.factorial(k) for k in range(order)]
    powers.append(spline(0.5 * (x[1:] + x[:-1]), nu=order) / math.factorial(order))      # piecewise constant: read in the middle
    powers += [np.zeros_like(powers[0])] * (6 - len(powers))
    coefficients = _in_both(values, np.stack(powers).astype(values.dtype))
    return Interpolant(coefficients=coefficients, log_l=tuple(x.tolist()), phi0=phi0)


@jax.jit
def _in_both(values, powers):
    """(n_L - 1, n, 6) coefficients from values (n_L, n_phi) and the splines' powers (6, n_L - 1, n_L)."""
    n = values.shape[1]
    fine = 2 * n if n > 1 else 1
    modes = jnp.fft.rfft(values, axis=1) * (fine / n)
    if n > 1 and n % 2 == 0:
        modes = modes.at[:, -1].multiply(0.5)                 # the Nyquist mode is a cosine, half of it on either side
    theta = 2 * np.pi * np.arange(modes.shape[1]) / fine
    modes = modes / jnp.asarray((66 + 52 * np.cos(theta) + 2 * np.cos(2 * theta)) / 120, values.dtype)
    rows = jnp.fft.irfft(jnp.pad(modes, ((0, 0), (0, fine // 2 + 1 - modes.shape[1]))), fine, axis=1)
    return jnp.einsum("kij,jp->ipk", powers, rows)


def hamiltonian(prm, t, grid=None):
    """H(L, phi) [volt] at the moment t of a drift-diffusion `Parameters`: kinetic + potential, without `waves`; None if neither.

    Entries given as arrays (on L faces, and on corners) need the grid and are interpolated.
    """
    parts, t = [], Time.at(t)
    for name in ("kinetic", "potential"):
        given = getattr(prm, name, None)
        if given is None:
            continue
        if callable(given) and not isinstance(given, Series):
            parts.append((lambda L, phi, k=given: evaluate(k, t, L)) if name == "kinetic" else
                         (lambda L, phi, u=given: evaluate(u, t, L, phi)))
            continue
        values = evaluate(given, t)
        if values.ndim == 2 and values.shape[0] > 1:
            if grid is None:
                raise ValueError(f"hamiltonian: {name} is an array, which needs the grid it stands on")
            parts.append(interpolant(values, grid["L"].faces, grid["phi"].faces[1:]))
        elif values.ndim == 2 and values.shape[1] > 1:
            raise ValueError(f"hamiltonian: {name} of shape {values.shape} does not depend on L; give one row for each L face")
        else:
            parts.append(lambda L, phi, u=values: jnp.reshape(u, ()))
    if not parts:
        return None
    return lambda L, phi: sum(part(L, phi) for part in parts)
