r"""Geometry of dipole field lines, in the coordinates of Sato, Yoshida & Kawazura's foliated phase space.

A point of a meridian is a `Point`, built from whichever pair is known:

    from_length(l, psi)        l: arc length from the equator along B, psi: flux function (the paper's own coordinates)
    from_potential(chi, psi)   chi: magnetic scalar potential, grad chi = B (the canonical ones)
    from_latitude(latitude, L) magnetic latitude [rad], L = 1/psi
    from_cylinder(r, z)        distance from the axis, height
    from_cartesian(x, y, z)    the point and its toroidal angle theta

and read in any of them: `from_length(l, psi).chi`, `from_potential(chi, psi).l`, `.latitude`, `.L`, `.r_cyl`, `.z`.
With s = sin(latitude), x = cos^2(latitude) = r psi, S(s) = [s sqrt(1 + 3 s^2) + asinh(sqrt3 s)/sqrt3]/2:

    l = S(s)/psi,   chi = psi^2 s/x^2,   B = psi^3 sqrt(4 - 3 x)/x^3,   r_cyl = x^(3/2)/psi,   z = s x/psi

Units: dimensionless, moment M = 1 and planet's radius R_p = 1, so B = 1 at the planet's equator and psi runs from 0 (far) to 1.
B = grad psi x grad theta: z points along B at the equator, and theta then turns against the right-hand rule about z (for the
Earth, where z is north, westward, as positive charges drift). (l, psi, theta) and (chi, psi, theta) are unit-volume
coordinates: dx dy dz = dl dpsi dtheta/B = dchi dpsi dtheta/B^2.

A psi outside (0, 1), and a point below the planet's surface (r < 1), are a ValueError where values are concrete;
outside="extrapolate" admits the field inside the planet (grids in chi reach into it), "nearest" takes the surface point of
the same field line. Traced values cannot raise: they are extrapolated, which psi > 0 needs.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from .ranges import check_outside

__all__ = ["Point", "from_length", "from_potential", "from_latitude", "from_cylinder", "from_cartesian", "to_cartesian",
           "field_vector", "surface_potential", "surface_length", "S", "HALF_LENGTH"]

_ROOT3 = math.sqrt(3.0)
HALF_LENGTH = 1.0 + math.asinh(_ROOT3) / (2.0 * _ROOT3)      # S(1): equator to the origin, in units of 1/psi
_X_MIN = 1e-3                                                # a traced l past the end of its line counts as this x = cos^2 lat


def S(s):
    """Arc length from the equator to s = sin(latitude), in units of the field line's equatorial radius 1/psi; S(1) = 1.380173."""
    return 0.5 * (s * jnp.sqrt(1.0 + 3.0 * s**2) + jnp.arcsinh(_ROOT3 * s) / _ROOT3)


_U_MAX = 0.5 * (math.sqrt((1.0 - _X_MIN) * (4.0 - 3.0 * _X_MIN)) + math.asinh(math.sqrt(3.0 * (1.0 - _X_MIN))) / _ROOT3)


@jax.custom_jvp
@jax.jit
def _from_X(X):
    """(s, x) of X = chi/psi^2 = s/(1 - s^2)^2."""
    # X^2 x^4 + x - 1 is convex and increasing: Newton from above is monotone, 5 steps reach rounding for |X| <= 1e6
    size = jnp.abs(X)
    big = size > 1.0
    x = jnp.where(big, 1.0 / jnp.sqrt(jnp.where(big, size, 1.0)), 1.0)
    for _ in range(6):
        s = size * x**2
        x = x - (s**2 + x - 1.0) / (4.0 * s * size * x + 1.0)
    return X * x**2, x              # not sqrt(1 - x), which loses s near the equator


@_from_X.defjvp
def _(primals, tangents):
    s, x = _from_X(*primals)
    ds = x**3 / (4.0 - 3.0 * x) * tangents[0]
    return (s, x), (ds, -2.0 * s * ds)


@jax.custom_jvp
@jax.jit
def _from_u(u):
    """s of u = l psi = S(s)."""
    size = jnp.abs(u)
    s = size / jnp.sqrt(1.0 + 0.9 * size**2)
    for _ in range(5):
        s = s - (S(s) - size) / jnp.sqrt(1.0 + 3.0 * s**2)
    return jnp.sign(u) * s


@_from_u.defjvp
def _(primals, tangents):
    s = _from_u(*primals)
    return s, tangents[0] / jnp.sqrt(1.0 + 3.0 * s**2)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Point:
    """A point of a dipole's meridian: s = sin(latitude), x = cos^2(latitude), psi; everything else is computed when read.

    Subscripts are derivatives. B_chi, B_psi, B_psipsi: in (chi, psi), so B_psi at constant chi (the paper's (d_psi + q d_l) B);
    q_l, q_psi, B_l, B_psi_at_l: in (l, psi). Arrays of any shape; a pytree.
    """

    s: jax.Array
    x: jax.Array
    psi: jax.Array

    @property
    def L(self):
        """Equatorial radius 1/psi of the field line [R_p]."""
        return 1.0 / self.psi

    @property
    def latitude(self):
        """Magnetic latitude [rad]."""
        return jnp.arctan2(self.s, jnp.sqrt(self.x))

    @property
    def r(self):
        """Distance from the centre x/psi [R_p]; below 1 it is inside the planet."""
        return self.x / self.psi

    @property
    def r_cyl(self):
        """Distance from the axis x^(3/2)/psi [R_p]: the r of the paper."""
        return self.x * jnp.sqrt(self.x) / self.psi

    @property
    def z(self):
        """Height above the equatorial plane [R_p], along B at the equator."""
        return self.s * self.x / self.psi

    @property
    def l(self):   # noqa: E743
        """Arc length from the equator along B [R_p]."""
        return S(self.s) / self.psi

    @property
    def chi(self):
        """Magnetic scalar potential z/r^3."""
        return self.psi**2 * self.s / self.x**2

    @property
    def B(self):
        """Field strength, 1 at the planet's equator."""
        return self.psi**3 * jnp.sqrt(4.0 - 3.0 * self.x) / self.x**3

    @property
    def q(self):
        """grad l . grad psi/|grad psi|^2 = dl/dpsi at constant chi = -(l + 2 chi/B)/psi."""
        return -(self.l + 2.0 * self.chi / self.B) / self.psi

    @property
    def _g(self):
        return 3.0 * self.x * (2.0 - self.x) / (4.0 - 3.0 * self.x) ** 2

    @property
    def q_l(self):
        """dq/dl at constant psi = -B_psi/B."""
        return -self._g / self.psi

    @property
    def q_psi(self):
        """dq/dpsi at constant l."""
        return (self.l * self.q_l - 2.0 * self.q) / self.psi

    @property
    def B_l(self):
        """dB/dl at constant psi."""
        s2 = self.s**2
        return 3.0 * self.B * self.psi * self.s * (3.0 + 5.0 * s2) / (self.x * (1.0 + 3.0 * s2) ** 1.5)

    @property
    def B_psi_at_l(self):
        """dB/dpsi at constant l."""
        return (3.0 * self.B + self.l * self.B_l) / self.psi

    @property
    def B_chi(self):
        """dB/dchi at constant psi = B_l/B."""
        s2 = self.s**2
        return 3.0 * self.psi * self.s * (3.0 + 5.0 * s2) / (self.x * (1.0 + 3.0 * s2) ** 1.5)

    @property
    def B_psi(self):
        """dB/dpsi at constant chi = B_psi_at_l + q B_l."""
        return self.B * self._g / self.psi

    @property
    def B_psipsi(self):
        """d^2B/dpsi^2 at constant chi."""
        x, g = self.x, self._g
        return self.B * (g * (g - 1.0) + 24.0 * (4.0 - x) * x * (1.0 - x) / (4.0 - 3.0 * x) ** 4) / self.psi**2

    @property
    def a(self):
        """d ln(r_cyl B)/dpsi at constant chi; 2/psi at the equator."""
        x = self.x
        return (8.0 - 12.0 * x + 6.0 * x**2) / ((4.0 - 3.0 * x) ** 2 * self.psi)

    @property
    def c(self):
        """(B_psipsi + a B_psi)/B; 12/psi^2 at the equator."""
        return (self.B_psipsi + self.a * self.B_psi) / self.B


def _concrete(*values):
    return not any(isinstance(v, jax.core.Tracer) for v in values)


def _check_psi(psi):
    if _concrete(psi):
        values = np.asarray(psi)
        bad = ~((values > 0.0) & (values < 1.0))
        if bad.any():
            raise ValueError(f"field line psi = {float(values[bad].ravel()[0]):g} is outside (0, 1): psi = 1/L with the planet's "
                             "radius as unit, 0 at infinity and 1 at the planet's equator")


def _point(s, x, psi, outside):
    """The point, once it is known to be above the surface."""
    check_outside("field line", outside)
    if outside == "nearest":
        top = jnp.sqrt(jnp.clip(1.0 - psi, 0.0, 1.0))
        s, x = jnp.clip(s, -top, top), jnp.maximum(x, psi)
    elif outside == "error" and _concrete(s, x, psi):
        r, lines = (np.asarray(v) for v in np.broadcast_arrays(x / psi, psi))
        bad = ~(r >= 1.0 - (1e-5 if r.dtype == np.float32 else 1e-9))
        if bad.any():
            where = f"r = {float(r[bad].ravel()[0]):g} on the field line psi = {float(lines[bad].ravel()[0]):g}"
            raise ValueError(f"point at {where} is inside the planet (r < 1); keep |chi| <= surface_potential(psi), "
                             "|l| <= surface_length(psi), or give outside='nearest' or 'extrapolate'")
    s, x, psi = jnp.broadcast_arrays(s, x, psi)
    return Point(s, x, psi)


def _floats(*values):
    out = [jnp.asarray(v) for v in values]
    dtype = jnp.result_type(float, *out) if not any(jnp.issubdtype(v.dtype, jnp.inexact) for v in out) else jnp.result_type(*out)
    return [v.astype(dtype) for v in out]


def from_potential(chi, psi, outside: str = "error") -> Point:
    """The point at magnetic scalar potential chi on the field line psi: X^2 x^4 + x - 1 = 0, X = |chi|/psi^2.

    Solved to rounding for |X| <= 1e6 (the surface of every psi >= 1e-3), with the implicit derivative at every order.
    Raises ValueError if psi is outside (0, 1), or inside the planet with outside="error".
    """
    _check_psi(psi)
    chi, psi = _floats(chi, psi)
    s, x = _from_X(chi / psi**2)
    return _point(s, x, psi, outside)


def from_length(l, psi, outside: str = "error") -> Point:
    """The point at arc length l from the equator on the field line psi: S(s) = l psi.

    Solved to rounding, with the implicit derivative at every order. Raises ValueError if psi is outside (0, 1), if l is past
    the end of the line (|l| psi > 1.380173), or inside the planet with outside="error". A traced l past x = cos^2(lat) = 1e-3
    counts as that x, so nothing becomes infinite.
    """
    _check_psi(psi)
    l, psi = _floats(l, psi)
    u = l * psi
    if _concrete(u):
        values = np.asarray(u)
        bad = ~(np.abs(values) <= _U_MAX)
        if bad.any() and outside != "nearest":
            raise ValueError(f"field line l psi = {float(values[bad].ravel()[0]):g} is past the end of the line: a dipole's "
                             f"field line runs from -{HALF_LENGTH:.6f} to {HALF_LENGTH:.6f} in l psi")
    s = _from_u(jnp.clip(u, -_U_MAX, _U_MAX))
    return _point(s, (1.0 - s) * (1.0 + s), psi, outside)


def from_latitude(latitude, L, outside: str = "error") -> Point:
    """The point at a magnetic latitude [rad], |latitude| < pi/2, on the field line L = 1/psi > 1.

    Raises ValueError if L <= 1, or inside the planet with outside="error".
    """
    if _concrete(L):
        values = np.asarray(L)
        bad = ~(values > 1.0)
        if bad.any():
            raise ValueError(f"field line L = {float(values[bad].ravel()[0]):g} must be above 1, the planet's surface")
    latitude, L = _floats(latitude, L)
    return _point(jnp.sin(latitude), jnp.cos(latitude) ** 2, 1.0 / L, outside)


def from_cylinder(r, z, outside: str = "error") -> Point:
    """The point at distance r > 0 from the axis and height z: psi = r^2/(r^2 + z^2)^(3/2).

    Raises ValueError on the axis (psi = 0), where psi >= 1, or inside the planet with outside="error".
    """
    r, z = _floats(r, z)
    square = r**2 + z**2
    if _concrete(square) and (np.asarray(square) == 0.0).any():
        raise ValueError("point r = 0, z = 0 is the dipole itself: no field line passes there")
    radius = jnp.sqrt(square)
    psi = r**2 / (square * radius)
    _check_psi(psi)
    return _point(z / radius, r**2 / square, psi, outside)


def from_cartesian(x, y, z, outside: str = "error") -> tuple[Point, jax.Array]:
    """(point, theta) of Cartesian coordinates, theta in (-pi, pi]; errors as `from_cylinder`."""
    x, y, z = _floats(x, y, z)
    return from_cylinder(jnp.hypot(x, y), z, outside), jnp.arctan2(-y, x)


def to_cartesian(point: Point, theta):
    """(x, y, z) of a point at a toroidal angle [rad]: (r_cyl cos theta, -r_cyl sin theta, z)."""
    theta = jnp.asarray(theta)
    x, y, z = jnp.broadcast_arrays(point.r_cyl * jnp.cos(theta), -point.r_cyl * jnp.sin(theta), point.z)
    return x, y, z


def field_vector(x, y, z):
    """(B_x, B_y, B_z) = grad(z/r^3) of a dipole of unit moment whose field at the equator points along +z."""
    square = x**2 + y**2 + z**2
    cube = square * jnp.sqrt(square)
    return -3.0 * x * z / (square * cube), -3.0 * y * z / (square * cube), (1.0 - 3.0 * z**2 / square) / cube


def surface_potential(psi):
    """|chi| where the field line psi meets the planet: sqrt(1 - psi). Raises ValueError if psi is outside (0, 1)."""
    _check_psi(psi)
    return jnp.sqrt(1.0 - jnp.asarray(psi))


def surface_length(psi):
    """|l| where the field line psi meets the planet: S(sqrt(1 - psi))/psi. Raises ValueError if psi is outside (0, 1)."""
    return S(surface_potential(psi)) / jnp.asarray(psi)
