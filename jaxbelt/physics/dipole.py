r"""Motion in a dipole field: field, loss cone, bounce, drift, and the drift Hamiltonian at fixed invariants.

    B = (B_E/L^3) sqrt(1 + 3 sin^2 lat)/cos^6 lat,    mu = p^2 y^2/(2 m B_eq),    K = L sqrt(B_eq) Y(y)/y

y = sin(alpha_eq) is the sine of the equatorial pitch angle; functions that take `y` assume 1 (particles that mirror at the
equator, gamma^2 = 1 + 2 mu B/(m c^2)) unless it is given. The bounce-averaged drift is Hamiltonian in (L, phi): with
U = T/q + V [volt], T the kinetic energy at fixed mu and K,

    dphi/dt = (L^2 / (B_E R_E^2)) dU/dL,    dL/dt = -(L^2 / (B_E R_E^2)) dU/dphi

so electrons (q < 0) drift east, phi increasing, and protons west. phi = 0 at midnight, eastward, in radians. Formulas:
Schulz & Lanzerotti (1974), Particle Diffusion in the Radiation Belts, where T(y) is approximated, and with it all of Y, D and
every function of y or K here: the docstrings give the largest error against the exact integrals. Y and D follow from the same
T without a further approximation (Y = 2 y int_y^1 T(x)/x^2 dx), so Hamiltonian and drift rate agree to rounding.

L [1], mu [MeV/G], K [G^1/2 R_E], energies [MeV], angles [rad] are numbers or arrays that broadcast; `species` is anything
`constants.species` accepts. Concrete values that mean nothing (y > 1, K < 0) are a ValueError; traced ones pass.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..coefficients import parameters
from ..constants import EARTH, JOULE_PER_MEV, LIGHT_SPEED, TESLA_PER_GAUSS, Planet, rest_energy
from ..constants import species as as_species

__all__ = ["equatorial_field", "field", "loss_cone", "mirror_latitude", "T0", "T1", "T", "Y", "D", "Q", "y_of_K", "K_of_y",
           "gamma", "energy_of_mu", "mu_of_energy", "bounce_period", "drift_rate", "drift_period", "KineticEnergy"]

T0 = 1.0 + math.log(2.0 + math.sqrt(3.0)) / (2.0 * math.sqrt(3.0))   # T(0): half a field line's length / (L R_E)
T1 = math.pi * math.sqrt(2.0) / 6.0                                  # T(1)
_Q0, _Q1, _DQ1 = -27.1266694, -90.0 * T1, 7.5 * (9.0 * T0 - 41.0 * T1)   # Q(0), Q(1), dQ/dy(1)
_SMALL = 1e-9   # y below this counts as this: mu/y^2 and K stay finite


def check(name, value, low, high, why):
    """Raise ValueError, one line, if a concrete value lies outside [low, high] (1e-6 is forgiven); NaN (no data) passes."""
    if isinstance(value, jax.core.Tracer):
        return
    values = np.asarray(value)
    bad = (values < low - 1e-6) | (values > high + 1e-6)
    if np.any(bad):
        raise ValueError(f"{name} = {float(values[bad].ravel()[0]):g} is out of range: {why}")


def _check_y(y):
    check("y", y, 0.0, 1.0, "it is sin(alpha_eq), 0 to 1")


def _sqrt(x):
    """sqrt(x) whose derivative at 0 is 0, not infinite."""
    some = x > 0.0
    return jnp.where(some, jnp.sqrt(jnp.where(some, x, 1.0)), 0.0)


def _is_one(y):
    return isinstance(y, (int, float)) and y == 1.0


def _over_y2(mu, y):
    """mu/y^2: the mu of a particle of the same energy that mirrors at the equator (mu itself, bit for bit, where y = 1)."""
    if _is_one(y):
        return mu
    _check_y(y)
    return mu / jnp.maximum(y, _SMALL) ** 2


def equatorial_field(L, planet: Planet = EARTH):
    """Dipole field at the equator, B_E / L^3 [G]: 4.875e-3 G at L = 4 for B_E = 0.312 G."""
    return planet.b_e / jnp.asarray(L) ** 3


def field(L, latitude, planet: Planet = EARTH):
    """Dipole field [G] where the field line of L crosses a magnetic latitude [rad] (at r = L cos^2 lat R_E):
    (B_E/L^3) sqrt(1 + 3 sin^2 lat)/cos^6 lat."""
    return equatorial_field(L, planet) * jnp.sqrt(1.0 + 3.0 * jnp.sin(latitude) ** 2) / jnp.cos(latitude) ** 6


def loss_cone(L, altitude=0.0, planet: Planet = EARTH):
    r"""Equatorial loss cone [rad]: particles below it mirror at or under `altitude` [km], the top of the atmosphere.

        sin^2 alpha = x^3/sqrt(4 - 3 x),    x = (1 + altitude/R_E)/L

    At the surface (altitude 0, the usual convention; 100 to 120 km is where particles are lost) L = 4 gives 5.3418 deg.
    Raises ValueError where the field line stays below the altitude (x > 1); traced, this is pi/2, derivative 0.
    """
    bottom = 1.0 + 1e3 * jnp.asarray(altitude) / planet.r_e
    x = bottom / jnp.asarray(L)
    check("loss_cone (1 + altitude/R_E)/L", x, 0.0, 1.0, "the field line must rise above the altitude")
    x = jnp.minimum(x, 1.0)
    sine2 = x**3 / jnp.sqrt(4.0 - 3.0 * x)
    return jnp.arctan2(_sqrt(sine2), _sqrt(1.0 - sine2))


@jax.custom_jvp
@jax.jit
def _mirror_latitude(alpha):
    sine, cosine2 = jnp.abs(jnp.sin(alpha)), jnp.cos(alpha) ** 2
    # x = cos^2 lat solves x^6 + 3 y^4 x = 4 y^4; with x = y^(2/3) z the root z is 1 to 4^(1/6), and Newton comes from above
    w = jnp.cbrt(sine) ** 2
    z = 4.0 ** (1.0 / 6.0) * jnp.ones_like(w)
    for _ in range(6):
        z = z - (z**6 + 3.0 * w * z - 4.0) / (6.0 * z**5 + 3.0 * w)
    x = w * z
    # near the equator one more step, on sin^2 lat, keeps the digits that 1 - x has lost
    u, y4 = 1.0 - x, (1.0 - cosine2) ** 2
    series = 6.0 + u * (-15.0 + u * (20.0 + u * (-15.0 + u * (6.0 - u))))            # (1 - (1 - u)^6)/u
    excess = cosine2 * (2.0 - cosine2) - u * (series + 3.0 * y4)
    near = u < 0.5
    u = jnp.where(near, u + excess / jnp.where(near, 6.0 * x**5 + 3.0 * y4, 1.0), u)
    return jnp.arctan2(_sqrt(u), _sqrt(x))


@_mirror_latitude.defjvp
def _(primals, tangents):
    (alpha,), (dalpha,) = primals, tangents
    latitude = _mirror_latitude(alpha)
    sine, cosine = jnp.sin(latitude), jnp.cos(latitude)
    equatorial, axial = sine == 0.0, jnp.sin(alpha) == 0.0
    up = jnp.where(equatorial, 3.0 / math.sqrt(2.0), jnp.cos(alpha) / jnp.where(equatorial, 1.0, sine))
    out = jnp.where(axial, 0.0, cosine / jnp.where(axial, 1.0, jnp.sin(alpha)))
    return latitude, -2.0 * up * out / (6.0 + 3.0 * cosine**2 / (1.0 + 3.0 * sine**2)) * dalpha


def mirror_latitude(alpha_eq):
    """Magnetic latitude [rad] at which a particle of equatorial pitch angle alpha_eq [rad] mirrors, whatever L:
    cos^6 lat = sin^2 alpha_eq sqrt(1 + 3 sin^2 lat).

    Solved to rounding, with the implicit derivative; the derivative at alpha_eq = 0 (lat = pi/2), infinite, is given as 0.
    """
    check("alpha_eq", alpha_eq, 0.0, math.pi, "a pitch angle in radians, 0 to pi")
    alpha_eq = jnp.asarray(alpha_eq)
    return _mirror_latitude(alpha_eq * 1.0)


def T(y):
    """Bounce integral T(y) = int_0^mirror ds/(L R_E cos alpha), y = sin(alpha_eq): T0 - (T0 - T1)(y + sqrt y)/2.

    T(0) = T0 = 1.380173, T(1) = T1 = 0.740480. At most 0.98 % below the exact integral (at y = 0.10; 0.56 % for y > 0.5) and
    0.03 % above. Schulz & Lanzerotti (1974). The derivative of sqrt y at y = 0 is given as 0.
    """
    _check_y(y)
    y = jnp.asarray(y)
    return T0 - 0.5 * (T0 - T1) * (y + _sqrt(y))


def Y(y):
    """Bounce integral of the second invariant, Y(y) = 2 int_0^mirror cos alpha ds/(L R_E), y = sin(alpha_eq):
    2 (1 - y) T0 + (T0 - T1)(y ln y + 2 y - 2 sqrt y).

    Y(0) = 2 T0, Y(1) = 0. At most 0.93 % below the exact integral (at y = 0.04; 0.28 % for y > 0.5) and 0.02 % above. Y/y, which
    K is made of, solves d(Y/y)/dy = -2 T/y^2 exactly. The derivatives of sqrt y and y ln y at y = 0 are given as 0.
    """
    _check_y(y)
    y = jnp.asarray(y)
    root, some = _sqrt(y), y > 0.0
    y_ln_y = jnp.where(some, y * jnp.log(jnp.where(some, y, 1.0)), 0.0)
    return 2.0 * (1.0 - y) * (T0 - (T0 - T1) * root / (1.0 + root)) + (T0 - T1) * y_ln_y


def D(y):
    """Drift integral D(y) = T/2 - Y/12: D/T is the drift at y = sin(alpha_eq) over the one at 90 degrees of the same energy,
    times 1/2 (D(1)/T(1) = 1/2, D(0)/T(0) = 1/3).

    The relation is exact; with the approximate T and Y, D is at most 1.04 % below and 0.03 % above (worst at y = 0.13), but D/T,
    where the errors cancel, is right to 0.08 %.
    """
    return 0.5 * T(y) - Y(y) / 12.0


def Q(y):
    """Response Q(y) of a bounce orbit to an asymmetric compression of the field (Schulz & Lanzerotti 1974), for magnetic
    radial diffusion, D_LL ~ [Q/D]^2: Q0 + (2 Q1 - 2 Q0 - Q1'/4) y^4 + (Q0 - Q1 + Q1'/4) y^8.

    Q0 = -27.1266694, Q1 = -90 T1 = -66.643244, Q1' = 7.5 (9 T0 - 41 T1) = -134.536; Q(1)/D(1) = -180.
    Within 0.51 % of the exact response (worst at y = 0.38 and 0.75): that is -84 d/d eps of int_0^mirror cos alpha ds/(L R_E)
    along field lines of one footpoint at noon, where -eps (z, 0, x) B_eq/(L R_E) is added to the dipole.
    """
    _check_y(y)
    y4 = jnp.asarray(y) ** 4
    return _Q0 + y4 * (2.0 * (_Q1 - _Q0) - 0.25 * _DQ1 + y4 * (_Q0 - _Q1 + 0.25 * _DQ1))


def _ratio(w):
    """Y(y)/y of w = 1/y - 1: from 2 T1 w (small) to 2 T0 w (large), increasing and convex, every digit kept."""
    return 2.0 * T0 * w - (T0 - T1) * (2.0 * w / (1.0 + jnp.sqrt(1.0 + w)) + jnp.log1p(w))


def _ratio_slope(w):
    """d(Y/y)/dw = 2 T(y)."""
    y = 1.0 / (1.0 + w)
    return 2.0 * T0 - (T0 - T1) * (y + jnp.sqrt(y))


@jax.custom_jvp
@jax.jit
def _excess(ratio):
    """w = 1/y - 1 where Y(y)/y = ratio >= 0. Newton from the right of the root of a convex function: the
    fourth step changes w by less than 1e-13 of itself for any ratio, so it is exact to rounding."""
    w = ratio / (2.0 * T1)
    for _ in range(4):
        w = w - (_ratio(w) - ratio) / _ratio_slope(w)
    return w


@_excess.defjvp
def _(primals, tangents):
    w = _excess(*primals)
    return w, tangents[0] / _ratio_slope(w)


def excess_of_K(K, L, planet: Planet = EARTH):
    """1/sin(alpha_eq) - 1 of K [G^1/2 R_E] at L, precise where alpha_eq is close to 90 degrees; see `y_of_K`."""
    check("K", K, 0.0, np.inf, "K [G^1/2 R_E] is at least 0")
    K = jnp.asarray(K)
    return _excess(jnp.where(K < 0.0, 0.0, K) / (jnp.asarray(L) * jnp.sqrt(equatorial_field(L, planet))))


def K_of_excess(w, L, planet: Planet = EARTH):
    """K [G^1/2 R_E] of w = 1/sin(alpha_eq) - 1 at L: the inverse of `excess_of_K`."""
    return _ratio(w) * jnp.asarray(L) * jnp.sqrt(equatorial_field(L, planet))


def y_of_K(K, L, planet: Planet = EARTH):
    """Sine of the equatorial pitch angle of the second invariant K [G^1/2 R_E] at L: Y(y)/y = K/(L sqrt(B_eq)).

    K = 0 is y = 1. Solved to rounding, with the implicit derivative (dy/dL = -y Y/(4 L T) at constant K, finite at K = 0).
    Raises ValueError if K < 0 (traced: taken as 0).
    """
    return 1.0 / (1.0 + excess_of_K(K, L, planet))


def K_of_y(y, L, planet: Planet = EARTH):
    """Second invariant K = L sqrt(B_eq) Y(y)/y [G^1/2 R_E]; y below 1e-9 counts as 1e-9."""
    _check_y(y)
    return K_of_excess(1.0 / jnp.clip(y, _SMALL, 1.0) - 1.0, L, planet)


def gamma(L, mu, species="electron", planet: Planet = EARTH, y=1.0):
    """Lorentz factor sqrt(1 + 2 mu B_eq/(m c^2 y^2)) at L [1] for mu [MeV/G], y = sin(alpha_eq) (1: 90 degrees)."""
    return jnp.sqrt(1.0 + 2.0 * _over_y2(mu, y) * equatorial_field(L, planet) / rest_energy(species))


def energy_of_mu(mu, L, species="electron", planet: Planet = EARTH, y=1.0):
    """Kinetic energy [MeV] of mu [MeV/G] at L and y = sin(alpha_eq): (gamma - 1) m c^2, written 2 mu B/(y^2 (gamma + 1)) so
    that small energies keep every digit."""
    return 2.0 * _over_y2(mu, y) * equatorial_field(L, planet) / (1.0 + gamma(L, mu, species, planet, y))


def mu_of_energy(energy, L, species="electron", planet: Planet = EARTH, y=1.0):
    """First invariant [MeV/G] of a kinetic energy [MeV] at L and y = sin(alpha_eq): y^2 E (E + 2 m c^2)/(2 m c^2 B_eq).

    Electron, 1 MeV, L = 4, 90 degrees: 405.84 MeV/G.
    """
    check("energy", energy, 0.0, np.inf, "a kinetic energy [MeV] is at least 0")
    check("L", L, 0.0, np.inf, "L is positive")
    energy, mc2 = jnp.asarray(energy), rest_energy(species)
    mu = energy * (energy + 2.0 * mc2) / (2.0 * mc2 * equatorial_field(L, planet))
    if _is_one(y):
        return mu
    _check_y(y)
    return mu * jnp.asarray(y) ** 2


def speed(energy, species="electron"):
    """Speed [m/s] of a kinetic energy [MeV]: c sqrt(E (E + 2 m c^2))/(E + m c^2). The derivative at rest is given as 0."""
    check("energy", energy, 0.0, np.inf, "a kinetic energy [MeV] is at least 0")
    energy, mc2 = jnp.asarray(energy), rest_energy(species)
    return LIGHT_SPEED * _sqrt(energy * (energy + 2.0 * mc2)) / (energy + mc2)


def bounce_period(L, energy, alpha_eq=0.5 * math.pi, species="electron", planet: Planet = EARTH):
    """Bounce period [s], 4 L R_E T(sin alpha_eq)/v, of a kinetic energy [MeV] and an equatorial pitch angle [rad].

    Relative error as T's. Electron, 1 MeV, L = 4, alpha_eq = 30, 60, 90 deg: 0.35957, 0.29137, 0.26784 s. Infinite at rest.
    """
    check("alpha_eq", alpha_eq, 0.0, math.pi, "a pitch angle in radians, 0 to pi")
    return 4.0 * planet.r_e * jnp.asarray(L) * T(jnp.abs(jnp.sin(alpha_eq))) / speed(energy, species)


def drift_rate(L, mu, species="electron", planet: Planet = EARTH, y=1.0):
    """Bounce-averaged gradient-curvature drift dphi/dt [rad/s] at fixed mu [MeV/G], y = sin(alpha_eq), in SI:
    -3 mu/(q gamma L^2 R_E^2 y^2) times 2 D(y)/T(y), which is 1 at 90 degrees.

    Positive is eastward: electrons > 0, protons < 0. Corotation is not in it. Non-relativistic drift falls as L^-2,
    ultra-relativistic as L^-1/2 (d ln Omega/d ln L = -2 + 1.5 (gamma^2 - 1)/gamma^2, at 90 degrees).
    The dependence on y is right to 0.08 % (see `D`).
    """
    of = as_species(species)
    moment = _over_y2(mu, y) * (JOULE_PER_MEV / TESLA_PER_GAUSS / of.charge)   # mu/(q y^2) [J/(T C) = m^2/s]
    rate = -3.0 * moment / planet.r_e / planet.r_e / (gamma(L, mu, of, planet, y) * jnp.asarray(L) ** 2)
    if _is_one(y):
        return rate
    return rate * (1.0 - Y(y) / (6.0 * T(y)))


def drift_period(L, mu, species="electron", planet: Planet = EARTH, y=1.0):
    """Time of one drift around the planet [s], 2 pi/|drift_rate|.

    Electron of 1 MeV (mu = `mu_of_energy(1.0, L)`) at 90 degrees, L = 3, 4, 5, 6: 1324.26, 993.20, 794.56, 662.13 s.
    """
    return 2.0 * jnp.pi / jnp.abs(drift_rate(L, mu, species, planet, y))


@parameters
class KineticEnergy:
    """The kinetic part of the drift Hamiltonian at fixed mu and K: a callable (t, L, *rest) -> T/q [volt].

    mu: first invariant [MeV/G], K: second invariant [G^1/2 R_E], numbers or arrays that broadcast with L; species:
    "electron", "proton", (mass [kg], charge [C]) or a `Species`; planet: a `Planet`. Without K (None) it is 0 by structure:
    particles that mirror at the equator, by the formula without iteration; K = 0.0 given is a leaf that can be swept or fitted.
    Negative for electrons and rising to 0 with L, so (L^2/(B_E R_E^2)) d(T/q)/dL at fixed mu and K is
    `drift_rate(L, mu, y=y_of_K(K, L))` exactly (B_E in tesla). The electric potential V [volt] is added to it.
    Raises ValueError if K is a number below 0.
    """

    mu: Any
    species: Any = "electron"
    planet: Planet = EARTH
    K: Any = None

    def __post_init__(self):
        # names become arrays once, where the user builds it; JAX rebuilds without this
        object.__setattr__(self, "species", as_species(self.species))
        if isinstance(self.K, (float, np.ndarray)):
            check("KineticEnergy K", self.K, 0.0, np.inf, "K [G^1/2 R_E] is at least 0")

    def __call__(self, t, L, *_):
        y = 1.0 if self.K is None else y_of_K(self.K, L, self.planet)
        joule = energy_of_mu(self.mu, L, self.species, self.planet, y) * JOULE_PER_MEV
        return joule / self.species.charge
