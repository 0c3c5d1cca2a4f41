r"""Large-scale electric potentials U [V]: callables of (t, L, phi), and the E x B drift they make in a dipole.

phi = 0 at midnight, eastward, radians; MLT = 12 phi/pi hours; t in seconds after the epoch. U is positive at dawn (phi = pi/2)
and negative at dusk, so E = -grad U points from dawn to dusk and cold plasma at midnight drifts earthward. Give one as
`drift_diffusion.Parameters(potential=...)`; several at once with `radial_diffusion.total`.

    E_r = -(1/R_E) dU/dL,   E_phi = -(1/(L R_E)) dU/dphi
    Ldot = -(L^2/(B_E R_E^2)) dU/dphi,   phidot = (L^2/(B_E R_E^2)) dU/dL
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..coefficients import evaluate, parameters, static
from ..constants import EARTH, TESLA_PER_GAUSS, Planet
from .drivers import check_kp

__all__ = ["maynard_chen", "corotation_potential", "Corotation", "VollandStern", "DawnDusk", "Convection", "electric_field",
           "exb_drift"]

_NEWTON = 40            # near the double root at dusk each step only halves the error


def maynard_chen(kp):
    """Strength of the Volland-Stern field with shielding exponent 2, 45/(1 - 0.159 Kp + 0.0093 Kp^2)^3 [V/R_E^2].

    Maynard & Chen (1975, JGR 80, 1009), from plasmapause positions. The bracket is smallest at Kp = 8.55 (0.320) and stays
    positive, so every Kp from 0 to 9 gives a finite strength. Kp = 0, 2, 5, 9: 45.0, 120.97, 537.38, 1344.1.
    """
    return 45.0 / (1.0 - 0.159 * kp + 0.0093 * kp**2) ** 3


def corotation_potential(L, planet: Planet = EARTH):
    """Potential of a plasma that rotates with the planet, -Omega B_E R_E^2/L [V]: -92.55 kV/L for the default `EARTH`."""
    return -planet.rotation * _scale(planet) / jnp.asarray(L)


def _scale(planet):
    """B_E R_E^2 [V s]."""
    return planet.b_e * TESLA_PER_GAUSS * planet.r_e * planet.r_e


def _sine(phi, rotate):
    return jnp.sin(phi - rotate * (jnp.pi / 12.0))


@parameters
class Corotation:
    """The corotation potential as a coefficient, (t, L, *rest) -> V: see `corotation_potential`. Its drift is phidot = Omega."""

    planet: Planet = EARTH

    def __call__(self, t, L, *_):
        return corotation_potential(L, self.planet)


@parameters
class VollandStern:
    r"""Convection potential of Volland (1973) and Stern (1975), (t, L, phi) -> V, without corotation:

        U = exp(log_amplitude) amplitude L^shielding sin(phi - pi rotate/12)

    amplitude: U at dawn at L = 1, the "A" in V/R_E^shielding: a number, a `Series`, or a `function` of t alone. shielding: 1 is a
    uniform field, 2 a shielded one; any positive number, a leaf (the power law differentiates in it, and a sweep compiles once).
    rotate [hours of MLT]: turns the whole pattern eastward (towards later local times).
    """

    amplitude: Any
    shielding: Any = 2.0
    rotate: Any = 0.0
    log_amplitude: Any = 0.0

    def __call__(self, t, L, phi):
        strength = evaluate(self.amplitude, t) * jnp.exp(self.log_amplitude + self.shielding * jnp.log(L))
        return strength * _sine(phi, self.rotate)


@parameters
class DawnDusk:
    r"""A uniform electric field from dawn to dusk, (t, L, phi) -> V, without corotation:

        U = exp(log_amplitude) e0 R_E L sin(phi - pi rotate/12)

    e0 [mV/m]: a number, a `Series`, or a `function` of t alone; 0.1 (quiet) to 1 (storm) are good values. rotate [hours of
    MLT] turns the pattern eastward. 1 mV/m is 6378 V per R_E.
    """

    e0: Any
    rotate: Any = 0.0
    log_amplitude: Any = 0.0
    planet: Planet = EARTH

    def __call__(self, t, L, phi):
        strength = 1e-3 * evaluate(self.e0, t) * self.planet.r_e * jnp.exp(self.log_amplitude)
        return strength * L * _sine(phi, self.rotate)


@parameters
class Convection:
    r"""Volland-Stern convection driven by Kp, with corotation, (t, L, phi) -> V:

        U = exp(log_amplitude) A(Kp) reference_l^2 (L/reference_l)^shielding sin(phi - pi rotate/12) - Omega B_E R_E^2/L

    A(Kp): `maynard_chen` [V/R_E^2]. With shielding = 2, which it was fitted for, reference_l drops out. With another exponent
    the potential at reference_l is kept: at 10 R_E, about the magnetopause, so that the drop from dawn to dusk across the
    magnetosphere, 200 A(Kp) volt, is the same for every exponent.
    kp: a number, a `Series`, or a `function` of t alone, 0 to 9. log_amplitude: natural logarithm of a factor on the convection
    alone. shielding: positive, a leaf (it can be fitted; nothing of the structure hangs on it). rotate [hours of MLT]: turns the
    convection eastward. corotation, reference_l: static. planet: B_E, R_E and rotation.
    Raises ValueError if kp is a number outside 0 to 9, or shielding one that is not positive.
    """

    kp: Any
    log_amplitude: Any = 0.0
    shielding: Any = 2.0
    rotate: Any = 0.0
    planet: Planet = EARTH
    corotation: bool = static(True)
    reference_l: float = static(10.0)

    def __post_init__(self):
        check_kp("Convection kp", self.kp)
        if isinstance(self.shielding, (float, np.ndarray)) and not np.all(np.asarray(self.shielding) > 0):
            raise ValueError(f"Convection shielding = {np.min(self.shielding):g} must be positive")

    def strength(self, t):
        """The convection potential at dawn at reference_l [V]."""
        return maynard_chen(evaluate(self.kp, t)) * self.reference_l**2 * jnp.exp(self.log_amplitude)

    def __call__(self, t, L, phi):
        rise = jnp.exp(self.shielding * jnp.log(L / self.reference_l))
        potential = self.strength(t) * rise * _sine(phi, self.rotate)
        return potential + corotation_potential(L, self.planet) if self.corotation else potential

    def stagnation(self, t):
        r"""L of the stagnation point of cold plasma, at dusk (phi = 3 pi/2 + pi rotate/12), where E x B and corotation cancel:

            L_s = (Omega B_E R_E^2 reference_l^shielding/(shielding U_ref))^(1/(shielding + 1)),   U_ref = `strength(t)`

        With shielding = 2: (Omega B_E R_E^2/(2 A))^(1/3); Kp = 0, 2, 5, 9: 10.094, 7.259, 4.416, 3.253.
        """
        s = self.shielding
        level = jnp.log(self.planet.rotation * _scale(self.planet) / (s * self.strength(t)))
        return jnp.exp((level + s * jnp.log(self.reference_l)) / (s + 1.0))

    def separatrix(self, t, phi):
        r"""L of the last closed drift path of cold plasma (the zero-energy Alfven layer) at phi, array in, array out.

        The equipotential through the stagnation point: x = L/L_s in (0, 1] solves x^(s+1) sin(phi') + (s + 1) x = s, with phi'
        from which `rotate` is taken and s = shielding. x = 1 at dusk, s/(s+1) at noon and midnight, 0.596 at dawn for s = 2. A
        steady convection holds the plasmapause there. The slope in phi jumps at dusk, where its mean, 0, is returned.
        """
        s, sine = self.shielding, _sine(phi, self.rotate)

        def newton(x, s, sine):
            rest = jnp.exp((s + 1.0) * jnp.log(x)) * sine + (s + 1.0) * x - s
            slope = (s + 1.0) * (jnp.exp(s * jnp.log(x)) * sine + 1.0)
            flat = slope <= 1e-6
            return jnp.where(flat, x, x - rest / jnp.where(flat, 1.0, slope))

        fixed = jax.lax.stop_gradient((jnp.asarray(s), sine))
        start = jnp.broadcast_to(fixed[0] / (fixed[0] + 1.0), jnp.broadcast_shapes(jnp.shape(s), jnp.shape(sine)))
        x = jax.lax.fori_loop(0, _NEWTON, lambda _, x: newton(x, *fixed), start.astype(jnp.result_type(sine)))
        # the derivative is that of one more step; at the double root, where the slope vanishes, there is none
        return self.stagnation(t) * newton(jax.lax.stop_gradient(x), s, sine)


def _derivatives(potential, t, L, phi):
    """dU/dL and dU/dphi at broadcast (L, phi): U acts point by point, so one tangent of ones serves all points."""
    L, phi = jnp.asarray(L), jnp.asarray(phi)
    kind = jnp.result_type(L, phi, float)
    L, phi = (jnp.broadcast_to(x, jnp.broadcast_shapes(L.shape, phi.shape)).astype(kind) for x in (L, phi))

    def u(L, phi):
        return jnp.broadcast_to(evaluate(potential, t, L, phi), L.shape)

    one, none = jnp.ones_like(L), jnp.zeros_like(L)
    return jax.jvp(u, (L, phi), (one, none))[1], jax.jvp(u, (L, phi), (none, one))[1], L


def electric_field(potential, t, L, phi, planet: Planet = EARTH):
    """(E_r, E_phi) [V/m], outward and eastward, of a potential (a callable of (t, L, phi) [V], differentiable in L and phi).

    L and phi broadcast. A uniform field of 1 mV/m from dawn to dusk has E_phi = -1e-3 V/m at midnight, E_r = -1e-3 at dawn.
    """
    du_dl, du_dphi, L = _derivatives(potential, t, L, phi)
    return -du_dl / planet.r_e, -du_dphi / (planet.r_e * L)


def exb_drift(potential, t, L, phi, planet: Planet = EARTH):
    """(Ldot [1/s], phidot [rad/s]) of a potential or any Hamiltonian T/q + U [V], a callable of (t, L, phi).

    Lejosne & Albert (2023), Eqs. 17-18, in a dipole. L and phi broadcast. L^2 d_L(Ldot/L^2) + d_phi phidot = 0. Corotation gives
    (0, Omega); `total(dipole.KineticEnergy(...), Convection(...))` the drift of energetic particles.
    """
    du_dl, du_dphi, L = _derivatives(potential, t, L, phi)
    rate = L * L / _scale(planet)
    return -rate * du_dphi, rate * du_dl
