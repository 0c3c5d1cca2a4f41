r"""Adiabatic invariants and phase space density: (E, alpha_eq, L) <-> (mu, K, L), momentum, flux <-> PSD, in a dipole.

    mu = (pc)^2 sin^2(alpha_eq)/(2 m c^2 B_eq) [MeV/G],   K = J/sqrt(8 m mu) = L sqrt(B_eq) Y(y)/y [G^1/2 R_E],
    y = sin(alpha_eq),   f = j/p^2

Y(y) is the approximation of Schulz & Lanzerotti (1974), see `dipole.Y` (within 0.93 %); K and alpha_eq are exact inverses of
each other. Kinetic energies E and momenta pc in MeV, alpha_eq in radians, B in gauss; numbers or arrays that broadcast.
`species` is anything `constants.species` accepts. Concrete values that mean nothing (E < 0, K < 0) are a ValueError, traced
ones pass; NaN (no data) passes.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from ..coefficients import parameters
from ..constants import EARTH, JOULE_PER_MEV, LIGHT_SPEED, Planet, rest_energy
from ..constants import species as as_species
from .dipole import (
    K_of_excess,
    _sqrt,
    check,
    energy_of_mu,
    equatorial_field,
    excess_of_K,
    mu_of_energy,
    speed,
    y_of_K,
)

__all__ = ["momentum", "energy_of_momentum", "gamma_of_energy", "energy_of_gamma", "velocity", "K_of_alpha", "alpha_of_K",
           "J_of_K", "K_of_J", "mu_of_momentum", "momentum_of_mu", "to_invariants", "from_invariants", "psd_of_flux",
           "flux_of_psd", "PSD_UNITS", "FLUX_UNITS", "Energy"]

_SMALL = 1e-9
_LIGHT_CM = 100.0 * LIGHT_SPEED                       # cm/s
FLUX_UNITS = {"keV": 1e3, "MeV": 1.0}                 # 1/(cm^2 s sr keV) and 1/(cm^2 s sr MeV), in the latter
PSD_UNITS = ("c/(MeV cm)", "SI", "velocity", "velocity relativistic")


def _check_energy(energy):
    check("energy", energy, 0.0, np.inf, "a kinetic energy [MeV] is at least 0")


def momentum(energy, species="electron"):
    """Momentum times c, pc = sqrt(E (E + 2 m c^2)) [MeV]: 1.42197 for an electron of 1 MeV. The derivative at rest,
    infinite, is given as 0. Raises ValueError if E < 0."""
    _check_energy(energy)
    energy = jnp.asarray(energy)
    return _sqrt(energy * (energy + 2.0 * rest_energy(species)))


def energy_of_momentum(pc, species="electron"):
    """Kinetic energy [MeV] of pc [MeV]: (pc)^2/(sqrt((pc)^2 + (m c^2)^2) + m c^2), which keeps every digit of small ones."""
    pc, mc2 = jnp.asarray(pc), rest_energy(species)
    return pc * pc / (jnp.sqrt(pc * pc + mc2 * mc2) + mc2)


def gamma_of_energy(energy, species="electron"):
    """Lorentz factor 1 + E/(m c^2): 2.95695 for an electron of 1 MeV. Raises ValueError if E < 0."""
    _check_energy(energy)
    return 1.0 + jnp.asarray(energy) / rest_energy(species)


def energy_of_gamma(gamma, species="electron"):
    """Kinetic energy (gamma - 1) m c^2 [MeV]. Raises ValueError if gamma < 1."""
    check("gamma", gamma, 1.0, np.inf, "a Lorentz factor is at least 1")
    return (jnp.asarray(gamma) - 1.0) * rest_energy(species)


def velocity(energy, species="electron"):
    """Speed [m/s], c pc/(E + m c^2): 0.941079 c for an electron of 1 MeV. The derivative at rest is given as 0."""
    return speed(energy, species)


def mu_of_momentum(pc, alpha_eq, L, species="electron", planet: Planet = EARTH):
    """First invariant [MeV/G] of pc [MeV] and alpha_eq [rad] at L: (pc)^2 sin^2(alpha_eq)/(2 m c^2 B_eq)."""
    return jnp.asarray(pc) ** 2 * jnp.sin(alpha_eq) ** 2 / (2.0 * rest_energy(species) * equatorial_field(L, planet))


def momentum_of_mu(mu, alpha_eq, L, species="electron", planet: Planet = EARTH):
    """pc [MeV] of mu [MeV/G] and alpha_eq [rad] at L: sqrt(2 m c^2 mu B_eq)/sin(alpha_eq), sines below 1e-9 counted as
    that. The derivative at mu = 0, infinite, is given as 0."""
    y = jnp.maximum(jnp.abs(jnp.sin(alpha_eq)), _SMALL)
    return _sqrt(2.0 * rest_energy(species) * jnp.asarray(mu) * equatorial_field(L, planet)) / y


def K_of_alpha(alpha_eq, L, planet: Planet = EARTH):
    """Second invariant K = L sqrt(B_eq) Y(y)/y [G^1/2 R_E] of an equatorial pitch angle [rad], 0 to pi, y = sin(alpha_eq).

    0 at 90 degrees; sines below 1e-9 count as that, so K stays finite along the field. L = 4, 45 deg: 0.189803 G^1/2 R_E.
    Raises ValueError for angles outside 0 to pi (degrees given?).
    """
    check("alpha_eq", alpha_eq, 0.0, np.pi, "an equatorial pitch angle is 0 to pi, in radians")
    y = jnp.maximum(jnp.abs(jnp.sin(alpha_eq)), _SMALL)
    # 1/y - 1, without the digits that 1 - y loses close to 90 degrees
    return K_of_excess(jnp.cos(alpha_eq) ** 2 / (y * (1.0 + y)), L, planet)


def alpha_of_K(K, L, planet: Planet = EARTH):
    """Equatorial pitch angle [rad], 0 to pi/2, of the second invariant K [G^1/2 R_E] at L; the inverse of `K_of_alpha`.

    Newton on a convex function to rounding (four steps, no bracket, no start to choose), with the implicit derivative of any
    order. Close to 90 degrees alpha_eq goes as pi/2 - sqrt(K): at K = 0 the derivative, infinite, is given as 0; that of
    sin(alpha_eq), `dipole.y_of_K`, is finite and right there. Raises ValueError if K < 0 (traced: taken as 0).
    """
    w = excess_of_K(K, L, planet)                                  # sin = 1/(1 + w), tan = 1/sqrt(w (2 + w))
    return jnp.arctan2(1.0, _sqrt(w * (2.0 + w)))


def J_of_K(K, mu, species="electron"):
    """Second invariant times c, J c = K sqrt(8 m c^2 mu) [MeV R_E], of K [G^1/2 R_E] and mu [MeV/G].

    J = closed integral of p_parallel ds over a bounce. The derivative at mu = 0, infinite, is given as 0.
    """
    return jnp.asarray(K) * _sqrt(8.0 * rest_energy(species) * jnp.asarray(mu))


def K_of_J(J, mu, species="electron"):
    """K [G^1/2 R_E] of J c [MeV R_E] and mu [MeV/G], J c/sqrt(8 m c^2 mu); mu > 0 (0 is returned at mu = 0)."""
    root = _sqrt(8.0 * rest_energy(species) * jnp.asarray(mu))
    some = root > 0.0
    return jnp.where(some, jnp.asarray(J) / jnp.where(some, root, 1.0), 0.0)


def to_invariants(energy, alpha_eq, L, species="electron", planet: Planet = EARTH):
    """(mu [MeV/G], K [G^1/2 R_E]) of a kinetic energy [MeV] and an equatorial pitch angle [rad] at L.

    Raises ValueError for E < 0 and angles outside 0 to pi.
    """
    _check_energy(energy)
    K = K_of_alpha(alpha_eq, L, planet)
    return mu_of_energy(energy, L, species, planet, jnp.abs(jnp.sin(alpha_eq))), K


def from_invariants(mu, K, L, species="electron", planet: Planet = EARTH):
    """(kinetic energy [MeV], equatorial pitch angle [rad]) of mu [MeV/G] and K [G^1/2 R_E] at L; inverts `to_invariants`.

    Raises ValueError if K < 0.
    """
    return energy_of_mu(mu, L, species, planet, y_of_K(K, L, planet)), alpha_of_K(K, L, planet)


def _psd_of_flux(energy, species, per, units):
    """(a, b) with f = a j/b; b vanishes at E = 0. Products are ordered so that float32 holds what it can."""
    if per not in FLUX_UNITS:
        raise ValueError(f"per: {per!r} is unknown; use 'keV' or 'MeV', the energy in the unit of the flux")
    if units not in PSD_UNITS:
        raise ValueError(f"units: {units!r} is unknown; use one of {', '.join(map(repr, PSD_UNITS))}")
    _check_energy(energy)
    energy, of = jnp.asarray(energy), as_species(species)
    mc2 = rest_energy(of)
    per_mev = FLUX_UNITS[per]
    per_si = per_mev * (1e4 / JOULE_PER_MEV)                                  # 1/(cm^2 s sr per) in 1/(m^2 s sr J)
    if units == "c/(MeV cm)":
        return per_mev / _LIGHT_CM, energy * (energy + 2.0 * mc2)
    if units == "SI":
        return per_si * (LIGHT_SPEED / JOULE_PER_MEV) * (LIGHT_SPEED / JOULE_PER_MEV), energy * (energy + 2.0 * mc2)
    newtonian = (of.mass * per_si) * (of.mass / (2.0 * JOULE_PER_MEV))        # m^2/2
    return newtonian, energy if units == "velocity" else energy * (1.0 + energy / (2.0 * mc2))


def psd_of_flux(flux, energy, species="electron", per="keV", units="c/(MeV cm)"):
    r"""Phase space density of a differential flux j [1/(cm^2 s sr keV), per="MeV": 1/(cm^2 s sr MeV)] at a kinetic energy [MeV].

    units:
        "c/(MeV cm)"             f = j/(c pc^2) [(c/(MeV cm))^3], density in (x, p)
        "SI"                     f = j/p^2 [1/(m^3 (kg m/s)^3)], density in (x, p) (beyond the range of float32)
        "velocity"               f = m^2 j/(2 E) [s^3/m^6], density in (x, v), non-relativistic
        "velocity relativistic"  f = m^3 j/p^2 = m^2 j/(2 E (1 + E/(2 m c^2))) [s^3/m^6], density in (x, u = p/m = gamma v),
                                 which Liouville conserves; the density in (x, v) is gamma^5 times that, and is not conserved
    Electrons, 1 /(cm^2 s sr keV) at 1 MeV: 1.650e-8, 1.0808e62, 1.6163e-28 (no longer valid), 8.1695e-29.
    Infinite at E = 0. Raises ValueError for another unit, or E < 0.
    """
    a, b = _psd_of_flux(energy, species, per, units)
    some = b > 0.0
    return jnp.where(some, jnp.asarray(flux) * a / jnp.where(some, b, 1.0), jnp.inf)


def flux_of_psd(psd, energy, species="electron", per="keV", units="c/(MeV cm)"):
    """Differential flux [1/(cm^2 s sr keV), or per="MeV"] of a phase space density; the inverse of `psd_of_flux`."""
    a, b = _psd_of_flux(energy, species, per, units)
    return jnp.asarray(psd) * b / a


@parameters
class Energy:
    """Kinetic energy [MeV] at fixed mu [MeV/G] and K [G^1/2 R_E]: a callable (t, L, *rest).

    mu, K: numbers or arrays that broadcast with L; K = None is 0 by structure (90 degrees, no iteration), K = 0.0 given is a
    leaf that can be swept or fitted. mu = 500 MeV/G, K = 0, 0.1, 1 at L = 5: 0.72859, 0.99286, 2.97779 MeV (electron).
    Raises ValueError if K is a number below 0.
    """

    mu: Any
    K: Any = None
    species: Any = "electron"
    planet: Planet = EARTH

    def __post_init__(self):
        object.__setattr__(self, "species", as_species(self.species))
        if isinstance(self.K, (float, np.ndarray)):
            check("Energy K", self.K, 0.0, np.inf, "K [G^1/2 R_E] is at least 0")

    def __call__(self, t, L, *_):
        y = 1.0 if self.K is None else y_of_K(self.K, L, self.planet)
        return energy_of_mu(self.mu, L, self.species, self.planet, y)
