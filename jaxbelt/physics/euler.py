r"""Euler potentials of field lines, from their ionospheric footpoints (Lejosne & Albert 2023, Eqs. 9 to 15).

    B = grad alpha x grad beta,    alpha = -B_E R_E^3 cos^2(lat)/r = -B_E R_E^2/L,    beta = phi

Both are constant along a field line. In a distorted field they are defined at the footpoints, where the field is a dipole's, so
L ("L-Euler") labels the field line by where it is rooted: it is the apex, in R_E, that the line would have if all but the dipole
were switched off within a few bounces. Tracing a field line to its footpoint is the user's (any field model, any tracer); only
the line must be closed, not the drift shell. Not L* (Roederer), which is the harmonic mean of L along a drift contour (Eq. 16).

alpha in weber [T m^2 = V s]; lat is the MAGNETIC latitude of the footpoint [rad], either hemisphere; phi [rad] is counted
eastward from midnight, MLT = 12 phi/pi, not geographic longitude; L and distances in planetary radii. The minus sign makes the
field point north at the equator, as the Earth's does.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from ..constants import EARTH, TESLA_PER_GAUSS, Planet
from .dipole import _sqrt, check

__all__ = ["alpha", "beta", "alpha_at", "potentials_at_footpoint", "label_of_potentials", "label_of_footpoint", "footpoint"]


def _moment(planet):
    """B_E R_E^2 [Wb]."""
    return planet.b_e * TESLA_PER_GAUSS * planet.r_e**2


def _distance(altitude, planet):
    """1 + altitude/R_E of an altitude [km]."""
    return 1.0 + 1e3 * jnp.asarray(altitude) / planet.r_e


def alpha(L, planet: Planet = EARTH):
    """Euler potential alpha = -B_E R_E^2/L [Wb] (Eq. 15): -3.17295e8 Wb at L = 4. d alpha = B_E R_E^2 dL/L^2."""
    return -_moment(planet) / jnp.asarray(L)


def beta(phi):
    """Euler potential beta = phi [rad] (Eq. 15), brought to 0 .. 2 pi."""
    return jnp.mod(phi, 2.0 * np.pi)


def alpha_at(r, latitude, planet: Planet = EARTH):
    """alpha of a dipole field [Wb] at distance r [R_E] from the centre and magnetic latitude [rad]: -B_E R_E^2 cos^2(lat)/r
    (Eq. 11). With beta = phi its gradients give the field, grad alpha x grad beta = B."""
    return -_moment(planet) * jnp.cos(latitude) ** 2 / jnp.asarray(r)


def label_of_footpoint(latitude, phi, altitude=0.0, planet: Planet = EARTH):
    """(L, phi) of the field line with this footpoint: L = (1 + altitude/R_E)/cos^2(lat), phi brought to 0 .. 2 pi.

    latitude: magnetic, of the footpoint [rad]; phi [rad]; altitude [km] at which it was found: 0 is Eqs. 13 and 14, another one
    the dipole of Eq. 11 at that height. 60 degrees at the surface: L = 4; at 120 km: 4.0753.
    Raises ValueError for |latitude| > pi/2 (degrees given?). The pole is L = infinity (1e15 or more in floating point).
    """
    check("footpoint latitude", latitude, -0.5 * np.pi, 0.5 * np.pi, "a latitude is -pi/2 to pi/2, in radians")
    return _distance(altitude, planet) / jnp.cos(latitude) ** 2, beta(phi)


def potentials_at_footpoint(latitude, phi, altitude=0.0, planet: Planet = EARTH):
    """(alpha [Wb], beta [rad]) of the field line with this footpoint (Eq. 12; arguments as for `label_of_footpoint`)."""
    check("footpoint latitude", latitude, -0.5 * np.pi, 0.5 * np.pi, "a latitude is -pi/2 to pi/2, in radians")
    return alpha_at(_distance(altitude, planet), latitude, planet), beta(phi)


def label_of_potentials(alpha, beta, planet: Planet = EARTH):
    """(L, phi) of (alpha [Wb] < 0, beta [rad]): L = -B_E R_E^2/alpha, phi brought to 0 .. 2 pi (Eq. 15).

    Raises ValueError if alpha > 0.
    """
    check("alpha", alpha, -np.inf, 0.0, "the Euler potential -B_E R_E^2/L [Wb] is negative")
    return -_moment(planet) / jnp.asarray(alpha), jnp.mod(beta, 2.0 * np.pi)


def footpoint(L, phi, altitude=0.0, planet: Planet = EARTH):
    """(latitude [rad], phi) of the northern footpoint at `altitude` [km] of the field line (L, phi), the southern being at
    -latitude: cos^2(lat) = (1 + altitude/R_E)/L. Inverts `label_of_footpoint`.

    Raises ValueError where the line's apex lies below the altitude; traced, this is the equator. The derivative of the latitude
    at the apex itself, infinite, is given as 0.
    """
    x = _distance(altitude, planet) / jnp.asarray(L)
    check("footpoint (1 + altitude/R_E)/L", x, 0.0, 1.0, "the field line must rise above the altitude")
    x = jnp.minimum(x, 1.0)
    return jnp.arctan2(_sqrt(1.0 - x), _sqrt(x)), beta(phi)
