r"""Transport coefficients of electric potential fluctuations in a dipole (Lejosne & Albert 2023, Eqs. 24, 27, 28 and A9).

    U(t, L, phi) = sum_k u_k(L, phi) xi_k(t) [V],   Ldot = -c L^2 dU/dphi,   phidot = Omega(L) + c L^2 dU/dL,   c = 1/(B_E R_E^2)

Every mode has an azimuthal number m and a radial profile u(m, L), real, or complex where its phase turns with L:
Re[u exp(i m phi)] and Im[u exp(i m phi)], each with a noise of its own (statistics that do not depend on phi), or
Re[u exp(i (m phi + phase))] alone, a pattern that stands still. With A_L = -i m c L^2 u and A_phi = c L^2 u', to second order,

    D_ab = sum_k int_0^inf <V_a(0) V_b(-s)> ds = sum_k Re[A_a conj(A_b) Q],      Q = S int_0^inf c(s) exp(i m Omega s) ds
    one phase alone:  (1/2) sum_k Re[A_a conj(A_b) Q + A_a A_b exp(2 i (m phi + phase)) conj(Q)]

the integral of the velocities' correlation along the drift phi + Omega(L) t (Kubo). White noise, <xi xi> = S delta: Q = S/2,
so D_LL = (c^2 L^4/2) sum S (d_phi u)^2, D_phiphi = (c^2 L^4/2) sum S (d_L u)^2, D_Lphi = -(c^2 L^4/2) sum S d_phi u d_L u.
Ornstein-Uhlenbeck noise, c(s) = exp(-s/tau_c)/(2 tau_c): Q = (S/2)/(1 - i m Omega tau_c), and D_LL is that of white noise with
the spectral density at the drift resonance, S/(1 + (m Omega tau_c)^2).

The symmetric part of D_ab is the tensor of Eq. 27. The antisymmetric part N = (D_Lphi - D_phiL)/2 is no diffusion but a mean
drift, Ldot = d_phi N and phidot = -L^2 d_L(N/L^2), that of a potential -B_E R_E^2 N/L^2: it joins <Ldot>, <phidot> of Eq. 27
and is 0 for white noise. Particles at one place have, besides, the mean L^2 d_L(D_LL/L^2) + d_phi D_Lphi of Eq. 24.

Neglected: the fourth order in U, small where a particle moves little within tau_c against the size of the pattern; and, unless
shear=True, the shear of the drift within tau_c, which adds Omega' int s c(s) <..> ds to what ends on phi. After a time t that is
a fraction tau_c/t of the covariances, as much as the start of the noise makes; the tensor with it need not be positive.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..coefficients import Series, evaluate, function, parameters, static
from ..constants import EARTH, SECONDS_PER_DAY, TESLA_PER_GAUSS, Planet

__all__ = ["PotentialNoise", "NoiseCoefficient", "density_of_field", "check_duration"]

_GAUSS, _WEIGHTS = np.polynomial.legendre.leggauss(8)


def _check(name, value, low, why, inside=False):
    """One line of ValueError where a concrete number or array of them is below low, or not above it, or not finite."""
    value = value.values if isinstance(value, Series) else value
    if value is None or callable(value) or isinstance(value, jax.core.Tracer):
        return
    values = np.asarray(value, dtype=float)
    bad = ~((values > low if inside else values >= low) & np.isfinite(values))
    if bad.any():
        raise ValueError(f"PotentialNoise {name} = {values[bad].ravel()[0]:g} is out of range: {why}")


def _scale(planet):
    """B_E R_E^2 [V s]."""
    return planet.b_e * TESLA_PER_GAUSS * planet.r_e * planet.r_e


def density_of_field(power, m, L, planet: Planet = EARTH):
    r"""S [V^2/Hz] at L of a mode whose azimuthal field has the power spectral density `power` [(mV/m)^2/Hz]:

        S = power (L R_E)^2/(2 m^2)

    power is one-sided (frequencies f > 0 only), as spectra of measurements are, near f = 0, of the field of that m at one place,
    the same at every phi (sine and cosine independent). Then D_LL = L^6 power/(4 B_E^2 R_E^2). With the power of the amplitude of
    a standing pattern, half of which is felt at a place on average, this is L^6 power/(8 B_E^2 R_E^2), as in Fei et al. (2006).
    1 (mV/m)^2/Hz, m = 1, L = 5: 5.085e8 V^2/Hz. Raises ValueError if m < 1 (m = 0 has no azimuthal field) or power < 0.
    """
    _check("m", m, 1.0, "an azimuthal field needs m of at least 1")
    _check("field", power, 0.0, "a power spectral density is at least 0")
    return 0.5e-6 * jnp.asarray(power) * (jnp.asarray(L) * planet.r_e / jnp.asarray(m)) ** 2


def check_duration(noise, duration):
    """Raise ValueError where a concrete correlation time of `noise` is longer than a run of `duration` [s]."""
    tau = noise.tau_c.values if isinstance(noise.tau_c, Series) else noise.tau_c
    if tau is None or callable(tau) or any(isinstance(x, jax.core.Tracer) for x in (tau, duration)):
        return
    longest = float(np.max(tau))
    if longest > float(duration):
        raise ValueError(f"PotentialNoise tau_c = {longest:g} s is longer than the run ({float(duration):g} s): fluctuations "
                         "that do not change are no diffusion; give a longer run, or a potential that does not fluctuate")


@parameters
class NoiseCoefficient:
    """One coefficient of a `PotentialNoise` as a callable of (t, L[, phi]): of = "LL" [1/day], "Lphi" [rad/day],
    "phiphi" [rad^2/day], or "potential" [V], the one that makes the noise's own mean drift."""

    noise: Any
    of: str = static("LL")

    def __call__(self, t, L, *phi):
        ll, lphi, phil, phiphi = self.noise.tensor(t, L, *phi)
        if self.of == "potential":
            return -0.5 * (lphi - phil) * _scale(self.noise.planet) / jnp.asarray(L) ** 2
        return SECONDS_PER_DAY * {"LL": ll, "Lphi": 0.5 * (lphi + phil), "phiphi": phiphi}[self.of]


@parameters
class PotentialNoise:
    r"""An ensemble of potential fluctuations; see the module's docstring for the equations.

    S: spectral density at zero frequency, the integral of <xi(0) xi(s)> over all s, of each mode [V^2/Hz]: a number, (n,)
    numbers, or a `Series` or `function` of t (slow against tau_c). Two-sided; see `density_of_field` for measured fields.
    m: azimuthal numbers, whole, >= 0 (static); m = 0 is a radial field and diffuses in phi alone.
    power: u = (L/reference_l)^power, one number or one a mode; twist: u turned by exp(i twist ln(L/reference_l)), m > 0 only, a
    spiral, which makes D_Lphi; None: none. profile: instead, any `function` of (t, m, L) -> u, real or complex; m has shape
    (n, 1, ...) and u that of m and L together.
    phase: None: sine and cosine independent, each with S, so nothing depends on phi; [rad], a number or (n,): one pattern alone
    (rank 1 if there is but one mode).
    tau_c: None: white noise; [s] > 0, a number or (n,): Ornstein-Uhlenbeck noise, whose variance is S/(2 tau_c).
    correlation: instead, a `function` c(s) [1/s] of the lag s >= 0, with 2 int_0^inf c ds = 1 for S to be what it is called; it
    is integrated over 0 .. span [s], which must hold it, with 8 Gauss points in each of `panels` intervals.
    kinetic: T/q [V], the callable of (t, L) given to the equation: its drift is what noise with a memory is felt along.
    Good values: u ~ L (reference_l = 5), m = 1 to 3, 1e9 to 1e11 V^2/Hz; at m = 1 that is 2 to 200 (mV/m)^2/Hz and D_LL(5) = .017
    to 1.7 a day.

    Where one pattern alone has a memory, D_LL is negative in some sector, since V_L(0) V_L(-s) is: the equation refuses it. Take
    `averaged()` there. Differentiable in S, tau_c, power, twist and all that profile holds. Raises ValueError for a negative S,
    m < 0, tau_c <= 0, memory without `kinetic`, both of power and profile, both of tau_c and correlation.
    """

    S: Any
    m: Any = static((1,))
    power: Any = None
    twist: Any = None
    profile: Any = None
    phase: Any = None
    tau_c: Any = None
    correlation: Any = None
    span: Any = None
    kinetic: Any = None
    planet: Planet = EARTH
    reference_l: float = static(1.0)
    shear: bool = static(False)
    panels: int = static(64)

    def __post_init__(self):
        def put(**values):
            for name, value in values.items():
                object.__setattr__(self, name, value)

        given = np.atleast_1d(np.asarray(self.m, dtype=float))
        if given.ndim != 1 or given.size == 0 or np.any(given != np.round(given)) or np.any(given < 0):
            raise ValueError(f"PotentialNoise m = {self.m}: needs whole azimuthal numbers of at least 0")
        put(m=tuple(int(x) for x in given))
        for name in ("profile", "correlation", "kinetic"):
            if callable(getattr(self, name)) and jax.tree_util.all_leaves([getattr(self, name)]):
                put(**{name: function(getattr(self, name))})             # a plain Python function is no JAX type
        _check("S", self.S, 0.0, "a spectral density [V^2/Hz] is at least 0")
        _check("tau_c", self.tau_c, 0.0, "a correlation time [s] is above 0; None is white noise", inside=True)
        for name in ("S", "power", "twist", "phase", "tau_c"):
            value = getattr(self, name)
            if value is not None and not callable(value) and jnp.shape(value) not in ((), (given.size,)):
                raise ValueError(f"PotentialNoise {name}: needs one number, or one for each of the {given.size} modes, got shape "
                                 f"{jnp.shape(value)}")
        for one, other in (("power", "profile"), ("twist", "profile"), ("tau_c", "correlation")):
            if getattr(self, one) is not None and getattr(self, other) is not None:
                raise ValueError(f"PotentialNoise {one}, {other}: give one of the two")
        if self.power is None and self.profile is None:
            put(power=1.0)
        if (self.correlation is None) != (self.span is None):
            raise ValueError("PotentialNoise span: give it together with correlation, the longest lag [s] at which that is not 0")
        _check("span", self.span, 0.0, "the longest lag [s] is above 0", inside=True)
        if self.memory and self.kinetic is None:
            raise ValueError("PotentialNoise kinetic: noise with a memory needs the drift it is felt along, "
                             "kinetic=dipole.KineticEnergy(...)")
        if self.shear and self.kinetic is None:
            raise ValueError("PotentialNoise shear: needs kinetic, the drift")

    @property
    def memory(self) -> bool:
        """True unless the noise is white."""
        return self.tau_c is not None or self.correlation is not None

    # --- the coefficients of Eq. 27 ---

    @property
    def dll(self):
        """D_LL [1/day], a coefficient."""
        return NoiseCoefficient(noise=self, of="LL")

    @property
    def dlphi(self):
        """D_Lphi = D_phiL [rad/day], a coefficient; None where it is 0 by structure (power laws, no twist, no shear, any phi)."""
        plain = self.phase is None and self.profile is None and self.twist is None and not self.shear
        return None if plain else NoiseCoefficient(noise=self, of="Lphi")

    @property
    def dphiphi(self):
        """D_phiphi [rad^2/day], a coefficient."""
        return NoiseCoefficient(noise=self, of="phiphi")

    @property
    def mean_potential(self):
        """The potential [V] whose drift is the noise's own mean drift, a coefficient; None for white noise."""
        return NoiseCoefficient(noise=self, of="potential") if self.memory else None

    def mean_drift(self, t, L, phi):
        """(<Ldot> [1/s], <phidot> [rad/s]) of Eq. 27: Omega(L) of `kinetic` and the mean drift of noise with a memory."""
        L, phi = jnp.broadcast_arrays(*(jnp.asarray(x, jnp.result_type(float, x)) for x in (L, phi)))
        one, zero, scale = jnp.ones_like(L), jnp.zeros_like(L), _scale(self.planet)
        ldot, phidot = zero, zero if self.kinetic is None else self.rate(t, L)
        if self.memory:
            def U(L, phi):
                return jnp.broadcast_to(self.mean_potential(t, L, phi), L.shape)

            ldot = -(L**2) / scale * jax.jvp(U, (L, phi), (zero, one))[1]
            phidot = phidot + L**2 / scale * jax.jvp(U, (L, phi), (one, zero))[1]
        return ldot, phidot

    def averaged(self) -> PotentialNoise:
        """The noise, the same at every phi, that has this one's mean power: a pattern turned at random."""
        if self.phase is None:
            return self
        m = np.asarray(self.m, dtype=float)
        share = jnp.where(m == 0.0, jnp.cos(jnp.asarray(self.phase)) ** 2, 0.5)
        S = self.S
        if callable(S):
            raise ValueError("PotentialNoise S: averaged() needs numbers, not a function of time")
        return self.replace(S=S * share, phase=None)

    # --- what they are made of ---

    def column(self, value, like):
        """One number a mode (or one for all), to broadcast with the array `like` behind the axis of modes."""
        value = jnp.asarray(value)
        return jnp.broadcast_to(value, (len(self.m),)).reshape((-1,) + (1,) * like.ndim)

    def number(self, like):
        """The azimuthal numbers m as a column in the precision of `like`."""
        return self.column(jnp.asarray(self.m, like.dtype), like)

    def rate(self, t, L):
        """Omega [rad/s] = c L^2 d(T/q)/dL of `kinetic`, the drift without fluctuations."""
        L = jnp.asarray(L, jnp.result_type(float, L))
        slope = jax.jvp(lambda y: jnp.broadcast_to(evaluate(self.kinetic, t, y), y.shape), (L,), (jnp.ones_like(L),))[1]
        return L**2 / _scale(self.planet) * slope

    def radial(self, t, L):
        """The radial profile u of every mode, (n, *L.shape), real or complex."""
        m = self.number(L)
        if self.profile is not None:
            return jnp.broadcast_to(evaluate(self.profile, t, m, L[None]), (len(self.m), *L.shape))
        x = jnp.log(L / self.reference_l)[None]
        u = jnp.exp(self.column(self.power, L) * x)
        if self.twist is None:
            return u
        turn = jnp.where(m > 0, self.column(self.twist, L), 0.0) * x
        return u * (jnp.cos(turn) + 1j * jnp.sin(turn))

    def amplitudes(self, t, L):
        """(A_L, A_phi) [1/(V s)], complex, (n, *L.shape): the velocities of a mode are Re and Im of A exp(i (m phi + phase))."""
        L = jnp.asarray(L, jnp.result_type(float, L))
        u, slope = jax.jvp(lambda y: self.radial(t, y), (L,), (jnp.ones_like(L),))
        lift = (L**2 / _scale(self.planet))[None]
        return -1j * self.number(L) * lift * u, lift * slope + 0j

    def angle(self, phi):
        """m phi + phase, (n, *phi.shape)."""
        phi = jnp.asarray(phi, jnp.result_type(float, phi))
        return self.number(phi) * phi[None] + self.column(
            0.0 if self.phase is None else self.phase, phi)

    def correlated(self, t, L, order=0):
        """int_0^inf s^order S c(s) exp(i m Omega(L) s) ds of every mode, (n, *L.shape) [V^2 s^(1 + order)]."""
        L = jnp.asarray(L, jnp.result_type(float, L))
        half = 0.5 * self.column(evaluate(self.S, t), L)
        if not self.memory:
            return half * (1.0 - order) + 0j
        turn = self.number(L) * self.rate(t, L)[None]
        if self.tau_c is not None:
            tau = self.column(evaluate(self.tau_c, t), L)
            return half * tau**order / (1.0 - 1j * turn * tau) ** (1 + order)
        width = self.span / self.panels
        x = (np.arange(self.panels)[:, None] + 0.5 * (_GAUSS + 1.0)).reshape((-1,) + (1,) * turn.ndim)
        s = width * jnp.asarray(x, turn.dtype)
        w = 0.5 * width * jnp.asarray(np.tile(_WEIGHTS, self.panels).reshape(x.shape), turn.dtype)
        c = jnp.broadcast_to(evaluate(self.correlation, s), s.shape)
        return 2.0 * half * jnp.sum(w * c * s**order * jnp.exp(1j * turn[None] * s), axis=0)

    def tensor(self, t, L, phi=None):
        """(D_LL, D_Lphi, D_phiL, D_phiphi) per second, not symmetrised. phi is needed only where a phase is given."""
        L = jnp.asarray(L, jnp.result_type(float, L))
        if self.phase is not None and phi is None:
            raise ValueError("PotentialNoise phase: a single pattern diffuses differently at every phi; give phi, or take "
                             "averaged()")
        A, Q = self.amplitudes(t, L), self.correlated(t, L)
        bent = None
        if self.shear:
            slope = jax.jvp(lambda y: self.rate(t, y), (L,), (jnp.ones_like(L),))[1]
            bent = slope[None] * self.correlated(t, L, 1)
        if self.phase is not None:
            turned = self.angle(phi)
            ndim = max(L.ndim, turned.ndim - 1)
            A, Q, bent, turned = jax.tree.map(lambda x: x.reshape(x.shape[:1] + (1,) * (ndim + 1 - x.ndim) + x.shape[1:]),
                                              (A, Q, bent, turned))
            twice = jnp.exp(2j * turned)

        def entry(a, b, Q):
            if self.phase is None:
                return jnp.sum(jnp.real(A[a] * jnp.conj(A[b]) * Q), axis=0)
            return 0.5 * jnp.sum(jnp.real(A[a] * jnp.conj(A[b]) * Q + A[a] * A[b] * twice * jnp.conj(Q)), axis=0)

        out = [entry(a, b, Q) for a in (0, 1) for b in (0, 1)]
        if self.shear:
            out[1], out[3] = out[1] + entry(0, 0, bent), out[3] + entry(1, 0, bent)
        return tuple(out)

    def patterns(self, t, L, phi):
        """The u_k(L, phi) themselves, (1 or 2, n, *shape): the real parts and, where they are independent, the imaginary ones."""
        L, phi = jnp.broadcast_arrays(*(jnp.asarray(x, jnp.result_type(float, x)) for x in (L, phi)))
        z = self.radial(t, L) * jnp.exp(1j * self.angle(phi))
        return jnp.stack([jnp.real(z), jnp.imag(z)][:1 if self.phase is not None else 2])

    def velocity(self, t, L, phi, z):
        """(Ldot, phidot) of the fluctuations alone where the noise is z (1 or 2, n, *shape) [V]; z dt or dW [V s] gives
        displacements. L and phi: arrays of one shape."""
        AL, Aphi = self.amplitudes(t, L)
        z = z[0] - 1j * z[1] if z.shape[0] == 2 else z[0]
        angle = self.angle(phi)
        turn = z * (jnp.cos(angle) + 1j * jnp.sin(angle))
        return jnp.sum(jnp.real(AL * turn), axis=0), jnp.sum(jnp.real(Aphi * turn), axis=0)
