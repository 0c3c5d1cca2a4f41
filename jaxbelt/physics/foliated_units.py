"""Physical units of the foliated equation: from the paper's dimensionless ones to eV, metres, seconds and volts, and back.

Of a temperature T0, the surface field B0 at the equator, the radius R0 of planet or coil, and the particles: velocities are in
v_th = sqrt(T0/m), time in R0/v_th, psi in B0 R0^2, and rho_star = m v_th/(e B0 R0) is the gyroradius over the radius.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbelt.coefficients import parameters
from jaxbelt.constants import ELEMENTARY_CHARGE, LIGHT_SPEED
from jaxbelt.constants import species as of_species

__all__ = ["UNITS", "Units", "of_attrs", "units"]

# name -> (unit, factor)
_TABLE = {
    "length": ("m", lambda u: u.R0),
    "velocity": ("m/s", lambda u: u.v_th),
    "time": ("s", lambda u: u.t0),
    "rate": ("1/s", lambda u: 1.0 / u.t0),
    "energy": ("eV", lambda u: u.T0),
    "temperature": ("eV", lambda u: u.T0),
    "field": ("T", lambda u: u.B0),
    "mu": ("eV/T", lambda u: u.T0 / u.B0),
    "psi": ("T m^2", lambda u: u.psi0),
    "chi": ("T m", lambda u: u.B0 * u.R0),
    "potential": ("V", lambda u: u.B0 * u.R0 * u.v_th),
    "D_perp": ("V^2 s", lambda u: u.psi0**2 / u.t0),
    "D_par": ("m^2/s^3", lambda u: u.v_th**2 / u.t0),
    "D_theta": ("rad^2/s", lambda u: 1.0 / u.t0),
    "density": ("m^-3", lambda u: u.particles / u.R0**3),
    "line_density": ("m^-2", lambda u: u.particles / u.R0**2),
}
UNITS = {name: unit for name, (unit, _) in _TABLE.items()}


@parameters
class Units:
    """T0 [eV], B0 [T], R0 [m], mass [kg], charge [C], particles: how many one unit of content stands for. Build with `units`.

    From the dimensionless numbers: `time(t)` [s], `energy(E)` and `temperature(T)` [eV], `length(x)` [m], `velocity(v)` [m/s],
    `density(n)` [m^-3], `D_perp(D)` [V^2 s], or `physical(NAME=x)` of any NAME in `UNITS`; back: `dimensionless(NAME=x)`.
    """

    T0: Any
    B0: Any
    R0: Any
    mass: Any
    charge: Any
    particles: Any = 1.0

    @property
    def v_th(self):
        """Thermal speed sqrt(T0/m) [m/s]."""
        return (self.T0 * ELEMENTARY_CHARGE / self.mass) ** 0.5

    @property
    def t0(self):
        """Unit of time R0/v_th [s]."""
        return self.R0 / self.v_th

    @property
    def rho_star(self):
        """m v_th/(e B0 R0): the equation's `rho`, with the sign of the charge."""
        return self.mass * self.v_th / (self.charge * self.B0 * self.R0)

    @property
    def psi0(self):
        """Unit of the flux function B0 R0^2 [T m^2 = V s]."""
        return self.B0 * self.R0**2

    def physical(self, **one):
        """A dimensionless quantity in the unit of `UNITS`: physical(time=3.0) is in seconds. Give one."""
        name, x = _single("physical", one)
        return x * _TABLE[name][1](self)

    def dimensionless(self, **one):
        """The way back: dimensionless(time=1e-5) in units of R0/v_th. Give one."""
        name, x = _single("dimensionless", one)
        return x / _TABLE[name][1](self)

    def time(self, t):
        """Time [s]."""
        return self.physical(time=t)

    def energy(self, E):
        """Energy [eV]."""
        return self.physical(energy=E)

    def temperature(self, T):
        """Temperature [eV]."""
        return self.physical(temperature=T)

    def length(self, x):
        """Length [m]."""
        return self.physical(length=x)

    def velocity(self, v):
        """Speed [m/s]."""
        return self.physical(velocity=v)

    def density(self, n):
        """Number density [m^-3]."""
        return self.physical(density=n)

    def D_perp(self, D):
        """Strength of the radial noise [V^2 s]: the square of psi [V s] spread in a second."""
        return self.physical(D_perp=D)

    def phi_theta(self, D, tau):
        """Slope d phi/d theta [V] of fluctuations that last tau [s] and then take an independent value: D_perp = phi_theta^2 tau.

        It is the first value of the pulses of Eq. (17) too, one every decay time. Noise of variance sigma^2 whose correlation
        falls as exp(-t/tau) has D_perp = 2 sigma^2 tau instead.
        """
        return (self.D_perp(D) / tau) ** 0.5

    def strength(self, phi_theta, tau):
        """The dimensionless D_perp of a slope d phi/d theta [V] that lasts tau [s]; see `phi_theta`."""
        return self.dimensionless(D_perp=phi_theta**2 * tau)

    def holding(self, number, content):
        """The same units where a content (of f on its grid) stands for `number` particles, so that densities are in m^-3."""
        _positive("number", number, "particles")
        _positive("content", content, "the number that the grid holds")
        return self.replace(particles=number / content)

    def attrs(self) -> dict:
        """The numbers as attributes of a file: T0_eV, B0_T, R0_m, mass_kg, charge_C, particles. `of_attrs` reads them."""
        return {key: float(getattr(self, name)) for key, name in _ATTRS.items()}


_ATTRS = {"T0_eV": "T0", "B0_T": "B0", "R0_m": "R0", "mass_kg": "mass", "charge_C": "charge", "particles": "particles"}


def of_attrs(attrs) -> Units | None:
    """The units in the attributes of a run: T0_eV, B0_T, R0_m, and species or mass_kg and charge_C; None where there are none."""
    if not {"T0_eV", "B0_T", "R0_m"} <= set(attrs):
        return None
    kind = (attrs["mass_kg"], attrs["charge_C"]) if "mass_kg" in attrs else attrs.get("species", "proton")
    return units(float(attrs["T0_eV"]), float(attrs["B0_T"]), float(attrs["R0_m"]), kind,
                 particles=float(attrs.get("particles", 1.0)))


def _single(method, given):
    if len(given) != 1 or next(iter(given)) not in _TABLE:
        raise ValueError(f"{method}: give one of {', '.join(_TABLE)}; got {', '.join(given) or 'none'}")
    name, x = next(iter(given.items()))
    return name, jnp.asarray(x) if isinstance(x, (list, tuple)) else x


def _positive(name, x, meaning):
    if not isinstance(x, jax.core.Tracer) and not np.all((np.asarray(x) > 0) & np.isfinite(x)):
        raise ValueError(f"{name}: must be positive ({meaning}), got {np.asarray(x)}")


def units(T0, B0, R0, species="proton", *, particles=1.0) -> Units:
    """`Units` of a temperature T0 [eV], the equator's surface field B0 [T] and the radius R0 [m] of planet or coil.

    species: "proton", "electron", or (mass [kg], charge [C]). particles: how many one unit of content stands for (see
    `Units.holding`). Protons of 100 eV at 0.05 T and 0.4 m, a laboratory dipole: unit of time 4.1 us, rho_star = 0.051.

    Raises ValueError where one is not positive, the species is unknown, or v_th is above a tenth of the speed of light (the
    guiding centers are not relativistic).
    """
    for name, x, meaning in (("T0", T0, "a temperature in eV"), ("B0", B0, "the field on the equator's surface in T"),
                             ("R0", R0, "the radius in m"), ("particles", particles, "particles per unit of content")):
        _positive(name, x, meaning)
    kind = of_species(species)
    made = Units(T0=T0, B0=B0, R0=R0, mass=kind.mass, charge=kind.charge, particles=particles)
    if not isinstance(made.v_th, jax.core.Tracer) and np.any(np.asarray(made.v_th) > 0.1 * LIGHT_SPEED):
        raise ValueError(f"T0: {np.max(T0):g} eV is too hot for the equation, which is not relativistic: v_th is "
                         f"{np.max(made.v_th) / LIGHT_SPEED:.2g} c (0.1 c is the limit)")
    return made
