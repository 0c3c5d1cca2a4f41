"""Physical constants with their sources, planets and particle species.

Constants are SI (CODATA 2018; c and e are exact by definition). What published codes differ in - the surface field by
about 4 % (0.30 to 0.312 G), the radius by 0.1 % (6370 to 6378 km) - is never global here: it sits in a `Planet` that
every function takes as an argument.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .coefficients import parameters

__all__ = [
    "LIGHT_SPEED", "ELEMENTARY_CHARGE", "ELECTRON_MASS", "PROTON_MASS", "TESLA_PER_GAUSS", "JOULE_PER_MEV",
    "SECONDS_PER_DAY", "Planet", "EARTH", "Species", "species", "rest_energy",
]

LIGHT_SPEED = 299_792_458.0               # m/s, exact (SI)
ELEMENTARY_CHARGE = 1.602_176_634e-19     # C, exact (SI 2019)
ELECTRON_MASS = 9.109_383_7015e-31        # kg, CODATA 2018
PROTON_MASS = 1.672_621_923_69e-27        # kg, CODATA 2018
TESLA_PER_GAUSS = 1e-4                    # exact
JOULE_PER_MEV = 1e6 * ELEMENTARY_CHARGE   # exact
SECONDS_PER_DAY = 86_400.0                # exact


@parameters
class Planet:
    """A planet with a dipole field along its rotation axis.

    b_e: equatorial surface field [G]; r_e: radius, the unit of L [m]; rotation: sidereal rotation rate, eastward [rad/s].
    The defaults are `EARTH`: 0.312 G (the mean equatorial field most radial-diffusion codes take), 6378 km (equatorial
    radius), 7.2921e-5 rad/s (sidereal).
    """

    b_e: Any = 0.312
    r_e: Any = 6.378e6
    rotation: Any = 7.2921e-5


EARTH = Planet()


@parameters
class Species:
    """A particle species: rest mass [kg] and signed charge [C]. Build it with `species`, which checks both."""

    mass: Any
    charge: Any


_KNOWN = {"electron": (ELECTRON_MASS, -ELEMENTARY_CHARGE), "proton": (PROTON_MASS, ELEMENTARY_CHARGE)}


def species(which) -> Species:
    """A `Species` from "electron", "proton", a pair (mass [kg], charge [C]), or a Species (returned as it is).

    Raises ValueError for an unknown name, a mass that is not a particle's in kg, a charge that is zero or not in coulomb.
    """
    if isinstance(which, Species):
        return which
    if isinstance(which, str):
        if which not in _KNOWN:
            raise ValueError(f"species: {which!r} is unknown; use 'electron', 'proton', or (mass [kg], charge [C])")
        mass, charge = _KNOWN[which]
        return Species(mass=mass, charge=charge)
    try:
        mass, charge = (float(x) for x in which)
    except (TypeError, ValueError):
        raise ValueError(f"species: {which!r} is not a species; "
                         "use 'electron', 'proton', or (mass [kg], charge [C])") from None
    if not 0.0 < mass < 1e-20:
        raise ValueError(f"species: mass = {mass:g} kg is not a particle's; an electron has {ELECTRON_MASS:.4g} kg")
    if not (np.isfinite(charge) and 0.0 < abs(charge) < 1e-12):
        raise ValueError(f"species: charge = {charge:g} C is not a particle's; a proton has {ELEMENTARY_CHARGE:.4g} C")
    return Species(mass=mass, charge=charge)


def rest_energy(of) -> Any:
    """Rest energy m c^2 [MeV] of a species (anything `species` accepts): 0.51099895 electron, 938.272088 proton."""
    return species(of).mass * LIGHT_SPEED * (LIGHT_SPEED / JOULE_PER_MEV)
