r"""Drift in a dipole at fixed first invariant, for particles that mirror at the equator (90 degrees).

    B = B_E / L^3,    mu = p^2 / (2 m B),    gamma^2 = 1 + 2 mu B / (m c^2),    T = (gamma - 1) m c^2

The bounce-averaged drift is Hamiltonian in (L, phi): with U = T/q + V [volt],

    dphi/dt = (L^2 / (B_E R_E^2)) dU/dL,    dL/dt = -(L^2 / (B_E R_E^2)) dU/dphi

so electrons (q < 0) drift east, phi increasing, and protons west. phi = 0 at midnight, eastward, in radians. Formulas:
Schulz & Lanzerotti (1974), Particle Diffusion in the Radiation Belts.

L [1], mu [MeV/G], energies [MeV] are numbers or arrays that broadcast; `species` is anything `constants.species` accepts.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from ..coefficients import parameters
from ..constants import EARTH, JOULE_PER_MEV, TESLA_PER_GAUSS, Planet, rest_energy
from ..constants import species as as_species

__all__ = ["equatorial_field", "gamma", "energy_of_mu", "mu_of_energy", "drift_rate", "drift_period", "KineticEnergy"]


def equatorial_field(L, planet: Planet = EARTH):
    """Dipole field at the equator, B_E / L^3 [G]: 4.875e-3 G at L = 4 for B_E = 0.312 G."""
    return planet.b_e / jnp.asarray(L) ** 3


def gamma(L, mu, species="electron", planet: Planet = EARTH):
    """Lorentz factor sqrt(1 + 2 mu B/(m c^2)) at L [1] for mu [MeV/G]."""
    return jnp.sqrt(1.0 + 2.0 * mu * equatorial_field(L, planet) / rest_energy(species))


def energy_of_mu(mu, L, species="electron", planet: Planet = EARTH):
    """Kinetic energy [MeV] of mu [MeV/G] at L: (gamma - 1) m c^2, written 2 mu B/(gamma + 1) so that small energies keep
    every digit."""
    return 2.0 * mu * equatorial_field(L, planet) / (1.0 + gamma(L, mu, species, planet))


def mu_of_energy(energy, L, species="electron", planet: Planet = EARTH):
    """First invariant [MeV/G] of a kinetic energy [MeV] at L: E (E + 2 m c^2)/(2 m c^2 B).

    Electron, 1 MeV, L = 4: 405.84 MeV/G.
    """
    energy, mc2 = jnp.asarray(energy), rest_energy(species)
    return energy * (energy + 2.0 * mc2) / (2.0 * mc2 * equatorial_field(L, planet))


def drift_rate(L, mu, species="electron", planet: Planet = EARTH):
    """Gradient-curvature drift dphi/dt [rad/s] at fixed mu [MeV/G]: -3 mu/(q gamma L^2 R_E^2) in SI.

    Positive is eastward: electrons > 0, protons < 0. Corotation is not in it. Non-relativistic drift falls as L^-2,
    ultra-relativistic as L^-1/2 (d ln Omega/d ln L = -2 + 1.5 (gamma^2 - 1)/gamma^2).
    """
    of = as_species(species)
    moment = mu * (JOULE_PER_MEV / TESLA_PER_GAUSS / of.charge)           # mu/q [J/(T C) = m^2/s]
    return -3.0 * moment / planet.r_e / planet.r_e / (gamma(L, mu, of, planet) * jnp.asarray(L) ** 2)


def drift_period(L, mu, species="electron", planet: Planet = EARTH):
    """Time of one drift around the planet [s], 2 pi/|drift_rate|.

    Electron of 1 MeV (mu = `mu_of_energy(1.0, L)`) at L = 3, 4, 5, 6: 1324.26, 993.20, 794.56, 662.13 s.
    """
    return 2.0 * jnp.pi / jnp.abs(drift_rate(L, mu, species, planet))


@parameters
class KineticEnergy:
    """The kinetic part of the drift Hamiltonian at fixed mu: a callable (t, L, *rest) -> T/q [volt].

    mu: first invariant [MeV/G], a number or an array that broadcasts with L; species: "electron", "proton",
    (mass [kg], charge [C]) or a `Species`; planet: a `Planet`. Negative for electrons and rising to 0 with L, so
    (L^2/(B_E R_E^2)) d(T/q)/dL is `drift_rate` exactly (B_E in tesla). The electric potential V [volt] is added to it.
    """

    mu: Any
    species: Any = "electron"
    planet: Planet = EARTH

    def __post_init__(self):
        # names become arrays once, where the user builds it; JAX rebuilds without this
        object.__setattr__(self, "species", as_species(self.species))

    def __call__(self, t, L, *_):
        joule = energy_of_mu(self.mu, L, self.species, self.planet) * JOULE_PER_MEV
        return joule / self.species.charge
