r"""Fluctuations that diffuse particles inward: how their noise is to be read (alpha), and the E x B displacement they cause.

The electric field felt by a guiding centre is white noise on the leaf (l, v_par, theta, psi),

    E = -d phi = (m/e) D_par^(1/2) G_par dl + D_perp^(1/2) G_perp dtheta + D_theta^(1/2) G_theta dpsi,    G dt = dW      (10)

and multiplicative noise means nothing before it is said where inside a step its size is read: at a fraction alpha of it
(0 Ito, 1/2 Stratonovich, 1 the end of the step). That fraction follows from how long a pulse is felt against how long a
particle takes to cross it, equations (16) to (19). Two misprints are corrected: (17) needs (D_perp tau)^(1/2)/tau_d, without
which (16) does not give (18) nor a train of pulses D_perp; (19) reads tau_d = delta/sqrt(2 T_perp/m) = 2 pi delta/(a L omega_b).

Dipole of moment 1 in the units of the paper (or any consistent ones), z to the north along B at the equator: chi = z/R^3,
grad chi = B = grad psi x grad theta, psi = r^2/R^3, so theta = atan2(-y, x). r is the distance from the axis, R from the centre,
l the length along the field line from the equator. Source: Sato, Yoshida and Kawazura, Self-organization and heating by inward
diffusion in magnetospheric plasmas, whose equation numbers are given.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..coefficients import parameters

__all__ = ["alpha_of_ratio", "alpha_of_fluctuations", "alpha_of_pulse", "decaying_pulse", "decay_time", "decay_time_of_bounce",
           "decay_ratio", "interpretation_drift", "displacement_drift", "Frame", "dipole_frame", "ExBNoise", "electric_noise",
           "exb_velocity", "displacement", "walk", "white_increments", "pulse_increments", "spectral_increments"]


def _check(name, value, why, positive=False, high=math.inf):
    """Raise ValueError, one line, where a concrete value is not in [0, high], not above 0 if `positive`, or NaN."""
    if isinstance(value, jax.core.Tracer):
        return
    values = np.asarray(value)
    bad = ~((values > 0.0 if positive else values >= 0.0) & (values <= high))
    if np.any(bad):
        raise ValueError(f"{name} = {float(values[bad].ravel()[0]):g} is out of range: {why}")


def _check_alpha(alpha):
    _check("alpha", alpha, "it is where in a step the noise is read, 0 (Ito) to 1 (1/2 Stratonovich)", high=1.0)


def _positive(**values):
    for name, value in values.items():
        _check(name, value, "it must be above 0", positive=True)


def _sqrt(x):
    """sqrt(x) whose derivative at 0 is 0, not infinite."""
    x = jnp.asarray(x)
    some = x > 0.0
    return jnp.where(some, jnp.sqrt(jnp.where(some, x, 1.0)), 0.0)


# --- alpha from the fluctuations --------------------------------------------------------------------------------------------

def decay_time(size, t_perp, mass=1.0):
    """Time tau_d in which the pulse of a fluctuation decays for a particle that leaves it, size/sqrt(2 T_perp/m) (19).

    size: extent delta of a fluctuation domain across the field lines; t_perp: temperature, an energy; any consistent units (SI:
    0.01 m and 100 eV = 1.602e-17 J, protons of 1.673e-27 kg: 7.23e-8 s). Raises ValueError unless all are above 0.
    """
    _positive(size=size, t_perp=t_perp, mass=mass)
    return jnp.asarray(size) / _sqrt(2.0 * jnp.asarray(t_perp) / mass)


def decay_time_of_bounce(size, length, omega_b, anisotropy=1.0):
    """The same time from the bounce motion, 2 pi size/(a length omega_b) (19): v_par = length omega_b/(2 pi), a = v_perp/v_par.

    length: of a whole bounce orbit, there and back; omega_b: its angular frequency [rad/time]; anisotropy: a^2 = T_perp/T_par.
    Equals `decay_time(size, T_perp, m)` where v_par = sqrt(2 T_par/m). Raises ValueError unless all are above 0.
    """
    _positive(size=size, length=length, omega_b=omega_b, anisotropy=anisotropy)
    return 2.0 * jnp.pi * (jnp.asarray(size) / length) / (_sqrt(anisotropy) * omega_b)


def decay_ratio(omega_b, omega_f, length, size, anisotropy=1.0):
    """tau/tau_d = a length omega_b/(size omega_f): the period tau = 2 pi/omega_f of the fluctuations over their decay time (19).

    Frequencies in rad/time, length of the bounce orbit and size delta of a fluctuation domain in one unit, anisotropy
    a^2 = T_perp/T_par. Raises ValueError if omega_b is below 0 or any other not above 0.
    """
    _check("omega_b", omega_b, "a frequency is at least 0")
    _positive(omega_f=omega_f, length=length, size=size, anisotropy=anisotropy)
    return _sqrt(anisotropy) * (jnp.asarray(length) / size) * (jnp.asarray(omega_b) / omega_f)


def alpha_of_ratio(ratio):
    """alpha = (1/2)[1 - exp(-ratio)]^2 of ratio = tau/tau_d (18): from 0 (ratio^2/2; fast fluctuations) to 1/2 (slow ones).

    ratio = 1: 0.19978820. Every digit is kept where ratio is small. Raises ValueError if ratio < 0.
    """
    _check("tau/tau_d", ratio, "a ratio of times is at least 0")
    return 0.5 * jnp.expm1(-jnp.asarray(ratio)) ** 2


def alpha_of_fluctuations(omega_b, omega_f, length, size, anisotropy=1.0):
    """alpha (18), `alpha_of_ratio(decay_ratio(...))`: 0 where omega_b/omega_f -> 0 (fast fluctuations), 1/2 where it -> infinity.
    """
    return alpha_of_ratio(decay_ratio(omega_b, omega_f, length, size, anisotropy))


def decaying_pulse(t, tau, tau_d, D_perp):
    """phi_theta of one pulse, (D_perp tau)^(1/2)/tau_d exp(-t/tau_d) for t >= 0, and 0 before (17, corrected).

    A pulse of either sign every tau, each left to decay, is noise of strength D_perp. Raises ValueError if a time is not above 0
    or D_perp < 0.
    """
    _positive(tau=tau, tau_d=tau_d)
    _check("D_perp", D_perp, "a diffusion coefficient is at least 0")
    t = jnp.asarray(t)
    return jnp.where(t < 0.0, 0.0, _sqrt(D_perp * jnp.asarray(tau)) / tau_d * jnp.exp(-jnp.maximum(t, 0.0) / tau_d))


def alpha_of_pulse(pulse: Callable, tau, D_perp, *, panels: int = 32, nodes: int = 16):
    r"""alpha of a pulse of any shape (16): (1/(D_perp tau)) int_0^tau [int_0^t phi_theta dt'] phi_theta dt.

    pulse: t -> phi_theta, called with t of the shape that tau and D_perp broadcast to. The inner integral is the
    antiderivative of the outer factor, so alpha = [int_0^tau phi_theta dt]^2/(2 D_perp tau), whatever the shape. Gauss-Legendre
    with `nodes` points in each of `panels` intervals that halve towards t = 0, where a pulse starts: an exponential comes out to
    rounding for tau/tau_d up to about 1e8; a pulse with many oscillations within tau needs more nodes. Differentiable in tau,
    D_perp and all that `pulse` closes over.

    Above 1/2 or even 1 the pulse is stronger than noise of D_perp allows: no stochastic integral corresponds to it, and the
    number is returned as it is. Raises ValueError unless tau and D_perp are above 0.
    """
    _positive(tau=tau)
    _check("D_perp", D_perp, "the noise that the pulse belongs to must have a strength above 0", positive=True)
    x, w = np.polynomial.legendre.leggauss(nodes)
    edges = np.concatenate([[0.0], 0.5 ** np.arange(panels - 1, -1, -1)])
    width = np.diff(edges)[:, None]
    points, weights = (edges[:-1, None] + width * 0.5 * (x + 1.0)).ravel(), (0.5 * width * w).ravel()
    tau, D_perp = jnp.broadcast_arrays(*(jnp.asarray(v, jnp.result_type(v, float)) for v in (tau, D_perp)))
    mean = jnp.tensordot(jnp.asarray(weights, tau.dtype), jax.vmap(lambda s: pulse(tau * s))(jnp.asarray(points, tau.dtype)), 1)
    return 0.5 * tau * mean**2 / D_perp


# --- reading one stochastic differential equation in another sense ----------------------------------------------------------

def _along(noise, x):
    """(b . grad) b of b = noise(x), summed over the Wiener processes."""
    def of(z):
        b = jnp.asarray(noise(z), z.dtype)
        return b if b.ndim > z.ndim else jnp.broadcast_to(b, z.shape)

    b = of(x)
    if b.ndim == x.ndim:
        return b, jax.jvp(of, (x,), (b,))[1]
    columns = range(b.shape[-1])
    return b, sum(jax.jvp(lambda z, k=k: of(z)[..., k], (x,), (b[..., k],))[1] for k in columns)


def _float(x):
    return jnp.asarray(x, jnp.result_type(x, float))


def interpretation_drift(noise: Callable, x, alpha, target=0.5):
    """The drift (alpha - target)(b . grad) b: dX = A dt + b(X) dW read in the sense alpha is the same process as
    dX = (A + this) dt + b(X) dW read in the sense `target` (0 Ito, 1/2 Stratonovich).

    noise: x -> b, of x's shape, or with a last axis more, one entry for each independent Wiener process; differentiated by JAX.
    x: a point (n,), a number, or a batch of either if `noise` takes one. Good value: b = s X, target 0: alpha s^2 X, so
    <X(t)> = X(0) exp(alpha s^2 t). Raises ValueError if alpha or target lies outside [0, 1].
    """
    _check_alpha(alpha)
    _check("target", target, "it is where in a step the noise is read, 0 (Ito) to 1 (1/2 Stratonovich)", high=1.0)
    x = _float(x)
    return (alpha - jnp.asarray(target)) * _along(noise, x)[1]


def displacement_drift(noise: Callable, size: Callable, x, alpha):
    """The (1/2 - alpha) D_perp {...} of (14a) and (14d): (1/2 - alpha) [(b . grad) b - b (b . grad) ln(size)], b = noise(x).

    Noise displaces a particle along a curve by dX_perp = size dW, read in the sense alpha; coordinates x on the curve obey
    dx = this dt + b(x) dW in the same sense. It is (1/2 - alpha) size^2 d^2 x/dX_perp^2, so 0 where the chain rule holds.
    noise: as in `interpretation_drift`, one Wiener process; size: x -> number, up to a constant factor: here 1/(r B).
    In (l, psi), b = D_perp^(1/2) (q, 1) gives (1/2 - alpha) D_perp (X q + q X ln(r B), X ln(r B)), X = d_psi + q d_l.
    v_par is no displacement: its noise -D_perp^(1/2) v_par q_l dW is read in the sense alpha as it stands (14b).
    Raises ValueError if alpha lies outside [0, 1].
    """
    _check_alpha(alpha)
    x = _float(x)
    b, bent = _along(noise, x)
    value, change = jax.jvp(lambda z: jnp.asarray(size(z), z.dtype), (x,), (b,))
    some = value != 0.0
    growth = jnp.where(some, change / jnp.where(some, value, 1.0), 0.0)
    return (0.5 - jnp.asarray(alpha)) * (bent - b * (growth if growth.ndim == b.ndim else growth[..., None]))


# --- the E x B displacement in Cartesian coordinates -------------------------------------------------------------------------

class Frame(NamedTuple):
    """What `dipole_frame` returns, arrays of the shape of the positions without the last axis; unit vectors have it.

    l: length along the field line from the equator, north positive; theta: toroidal angle, -pi to pi; psi: flux; r: distance
    from the axis; field: B; q = grad l . grad psi/|grad psi|^2; parallel, perp, toroidal: unit vectors along B, grad psi and
    grad theta, right-handed as perp x toroidal = parallel. grad psi = r B perp, grad theta = toroidal/r,
    grad l = parallel + q r B perp.
    """

    l: Any  # noqa: E741
    theta: Any
    psi: Any
    r: Any
    field: Any
    q: Any
    parallel: Any
    perp: Any
    toroidal: Any


def dipole_frame(position) -> Frame:
    """Magnetic coordinates and unit vectors at Cartesian positions (..., 3) in the dipole of moment 1; see `Frame`.

    Good value: (2, 0, 0): psi = 0.5, l = 0, B = 0.125, parallel = z, perp = -x, toroidal = -y. Raises ValueError on the axis,
    where psi = 0; traced, the distance from it is taken as at least 1e-6 R, and everything stays finite.
    """
    position = jnp.asarray(position)
    x, y, z = position[..., 0], position[..., 1], position[..., 2]
    off = x**2 + y**2
    _check("distance from the axis", off, "on the axis psi = 0 and l is infinite", positive=True)
    on_axis, R2 = off == 0.0, jnp.maximum(off + z**2, 1e-12)
    off = jnp.maximum(off, 1e-12 * R2)
    R, r = jnp.sqrt(R2), jnp.sqrt(off)
    sine = z / R
    root = jnp.sqrt(1.0 + 3.0 * sine**2)
    psi, field = off / R**3, root / R**3
    length = 0.5 * (sine * root + jnp.arcsinh(math.sqrt(3.0) * sine) / math.sqrt(3.0)) / psi
    q = -(length + 2.0 * sine * R / root) / psi
    outward = jnp.stack([x / r, y / r, jnp.zeros_like(r)], -1)
    north = jnp.zeros_like(outward).at[..., 2].set(1.0)
    # grad (z/R^3)/B and the vector across it in the meridian plane
    axial, radial = ((1.0 - 3.0 * sine**2) / root)[..., None], (3.0 * sine * r / (R * root))[..., None]
    parallel = axial * north - radial * outward
    perp = -axial * outward - radial * north
    toroidal = jnp.stack([y / r, -x / r, jnp.zeros_like(r)], -1)
    return Frame(length, jnp.arctan2(-y, jnp.where(on_axis, 1.0, x)), psi, r, field, q, parallel, perp, toroidal)


@parameters
class ExBNoise:
    """Strengths of the fluctuations (10): D_perp, D_theta, D_par >= 0 and the mass and charge of the particle.

    psi diffuses with D_perp (variance D_perp t), theta with D_theta + (m/e)^2 q^2 D_par. Numbers, or arrays that broadcast with
    the positions. Raises ValueError if a strength is below 0, the mass not above 0 or the charge 0.
    """

    D_perp: Any
    D_theta: Any = 0.0
    D_par: Any = 0.0
    mass: Any = 1.0
    charge: Any = 1.0

    def __post_init__(self):
        for name in ("D_perp", "D_theta", "D_par"):
            _check(name, getattr(self, name), "a diffusion coefficient is at least 0")
        _positive(mass=self.mass)
        _check("|charge|", abs(self.charge), "neutral particles have no E x B drift", positive=True)

    def split(self, dW):
        """Of increments dW (..., 3) of (W_perp, W_theta, W_par): D_perp^(1/2) dW_perp, D_theta^(1/2) dW_theta,
        (m/e) D_par^(1/2) dW_par."""
        dW = jnp.asarray(dW)
        return (_sqrt(self.D_perp) * dW[..., 0], _sqrt(self.D_theta) * dW[..., 1],
                self.mass / self.charge * _sqrt(self.D_par) * dW[..., 2])


def electric_noise(position, gamma, noise: ExBNoise):
    """The fluctuating electric field in Cartesian coordinates (11), (..., 3), for gamma (..., 3) = (G_perp, G_theta, G_par):
    (m/e) D_par^(1/2) G_par grad l + D_perp^(1/2) G_perp grad theta + D_theta^(1/2) G_theta grad psi.
    """
    at, (perp, toroidal, parallel) = dipole_frame(position), noise.split(gamma)
    across = at.r * at.field * (toroidal + at.q * parallel)
    return across[..., None] * at.perp + (perp / at.r)[..., None] * at.toroidal + parallel[..., None] * at.parallel


def exb_velocity(position, electric):
    """E x B/B^2 in the dipole of moment 1, (..., 3). Of `electric_noise` it is (12): D_perp^(1/2) G_perp/(r B) along perp and
    -r (D_theta^(1/2) G_theta + (m/e) q D_par^(1/2) G_par) along toroidal; the mean over the noise is 0 (9).
    """
    at = dipole_frame(position)
    return jnp.cross(electric, at.parallel) / at.field[..., None]


def _displaced(position, dW, noise, alpha):
    perp, toroidal, parallel = noise.split(dW)

    def size(at):
        return perp / (at.r * at.field)

    def across(at, length):
        return length[..., None] * at.perp

    def turned(position, at):
        # around the axis by dX_theta/r, exactly along the circle, as a difference so that no digits are lost
        angle = toroidal + at.q * parallel                       # theta falls by this: about z, x turns towards y
        x, y = position[..., 0], position[..., 1]
        versed, sine = -2.0 * jnp.sin(0.5 * angle) ** 2, jnp.sin(angle)
        return jnp.stack([versed * x - sine * y, versed * y + sine * x, jnp.zeros_like(sine * x)], -1)

    start = dipole_frame(position)
    first = across(start, size(start))
    # the curve is followed by arc length (direction of mid-step, whatever alpha); only the size of the step is read at alpha
    read = dipole_frame(position + jnp.asarray(alpha)[..., None] * first)
    moved = across(dipole_frame(position + 0.5 * first), size(read))
    return moved + turned(position + moved, read)


def displacement(position, dW, noise: ExBNoise, alpha=0.5):
    """The displacement (13) of guiding centres (..., 3) by Wiener increments dW (..., 3) of (W_perp, W_theta, W_par), (..., 3):
    D_perp^(1/2)/(r B) dW_perp along perp, -r (D_theta^(1/2) dW_theta + (m/e) q D_par^(1/2) dW_par) along toroidal.

    The size 1/(r B), and q, are read at the fraction alpha of the step; the curves along grad psi and grad theta are followed by
    arc length (direction of mid-step; circles exactly). So psi gains D_perp^(1/2) dW_perp and the drift of (14d),
    (1/2 - alpha) D_perp X ln(r B), in the mean, l what (14a) says, theta -D_theta^(1/2) dW_theta - (m/e) q D_par^(1/2) dW_par;
    weak order 1. The step must be short: D_perp dt << psi^2. Raises ValueError if alpha lies outside [0, 1] or a position on the
    axis.
    """
    _check_alpha(alpha)
    return _displaced(jnp.asarray(position), dW, noise, alpha)


def walk(position, increments, noise: ExBNoise, alpha=0.5):
    """Positions (..., 3) after the `displacement`s of increments (steps, ..., 3), one after the other: a Monte Carlo of (13).

    increments: white (`white_increments`), from pulses or of a given spectrum, stacked on the last axis as (W_perp, W_theta,
    W_par). Resolved noise (steps short against its memory) is smooth: then alpha makes no difference, and the result is that of
    Stratonovich. Raises ValueError as `displacement` does.
    """
    _check_alpha(alpha)
    _check("distance from the axis", jnp.sum(jnp.asarray(position)[..., :2] ** 2, -1), "on the axis psi = 0", positive=True)
    increments = jnp.asarray(increments)
    shape = jnp.broadcast_shapes(jnp.shape(position), increments.shape[1:])
    start = jnp.broadcast_to(jnp.asarray(position, jnp.result_type(position, increments)), shape)
    return jax.lax.scan(lambda x, dW: (x + _displaced(x, dW, noise, alpha), None), start, increments)[0]


# --- noise: increments of W for a key ------------------------------------------------------------------------------------------

def white_increments(key, steps: int, dt, shape=()):
    """Wiener increments (steps, *shape): independent Gaussians of variance dt. Raises ValueError unless dt > 0."""
    _positive(dt=dt)
    return _sqrt(dt) * jax.random.normal(key, (steps, *shape))


def pulse_increments(key, pulses: int, tau, tau_d, shape=(), samples: int = 8):
    """Increments of W = -D_perp^(-1/2) int phi_theta dt over steps of tau/samples, (pulses samples, *shape), where phi_theta is
    a train of the pulses (17): one every tau of Gaussian strength (mean 0, variance 1), decaying with tau_d, for ever.

    Integrated exactly, and stationary from the start. W(n tau) has variance tau (n - 2 rho (1 - rho^n)/(1 - rho^2)),
    rho = exp(-tau/tau_d): n tau in the end, so psi diffuses with the very D_perp of (17). A pulse felt for tau only gives
    2 alpha D_perp, alpha of (18). tau and tau_d are numbers or arrays that broadcast with shape. Raises ValueError unless
    they are above 0.
    """
    _positive(tau=tau, tau_d=tau_d)
    ratio = jnp.asarray(tau) / tau_d
    first, later = jax.random.split(key)
    strengths = jax.random.normal(later, (pulses, *shape))
    fraction = jnp.arange(samples).reshape(samples, *(1,) * len(shape)) / samples
    # what a pulse gives in each step, and in the train: its remaining impulse decays by rho a period
    share = -jnp.expm1(-ratio / samples) * jnp.exp(-ratio * fraction)
    left = jnp.exp(-ratio) / _sqrt(-jnp.expm1(-2.0 * ratio)) * jax.random.normal(first, shape)

    def period(left, strength):
        full = left + strength
        return full * jnp.exp(-ratio), full * share

    _, parts = jax.lax.scan(period, left, strengths)
    return _sqrt(tau) * parts.reshape(pulses * samples, *shape)


def spectral_increments(key, spectrum: Callable, steps: int, dt, shape=(), modes: int | None = None):
    """Increments (steps, *shape) over steps dt of W = int G dt, G Gaussian noise of two-sided power spectral density
    spectrum(omega) >= 0 [omega > 0 in rad/time, (modes,)]: <G(t) G(0)> = (1/2 pi) int spectrum cos(omega t) domega.

    spectrum = 1 is white noise of unit strength, so D_perp = (spectrum of phi_theta at omega = 0). Random amplitudes at
    omega = (n + 1/2) pi/(steps dt), n < modes (default: steps, up to pi/dt), which makes the variance of W at the end
    exact for white noise as modes -> infinity; integrated exactly over a step. Good value: 1/(1 + omega^2 t_c^2) gives the
    variance T - t_c (1 - exp(-T/t_c)) at T = steps dt >> t_c. The cost is steps x modes for each path. Raises ValueError unless
    dt > 0, or if the spectrum is below 0.
    """
    _positive(dt=dt)
    modes = steps if modes is None else modes
    duration = steps * jnp.asarray(dt)
    index = np.arange(modes) + 0.5
    power = spectrum(jnp.asarray(index * np.pi) / duration)
    _check("spectrum", power, "a power spectral density is at least 0")
    # phases in whole parts of a turn, so that single precision keeps them
    turns = np.outer(np.arange(steps + 1), 2 * np.arange(modes) + 1) % (4 * steps)
    phase = 0.5 * np.pi / steps * turns
    rise = np.stack([np.diff(np.sin(phase), axis=0), -np.diff(np.cos(phase), axis=0)]) / (np.pi * index)
    table = jnp.asarray(rise, jnp.result_type(float)) * _sqrt(power * duration)   # sqrt(S domega/pi)/omega
    return jnp.einsum("ksm,km...->s...", table, jax.random.normal(key, (2, modes, *shape)))
