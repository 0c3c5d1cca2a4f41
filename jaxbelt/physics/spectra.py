r"""Spectra and pitch-angle shapes of trapped particles, and the directional flux j(alpha, E, L) that they make together.

    j(alpha, E, L) = J(E, L) s(alpha)/Omega,     Omega = 2 pi int_0^pi s(alpha) sin(alpha) d(alpha)     [sr]

where J is an omnidirectional spectrum [1/(cm^2 s MeV)] and s a shape that is 1 at 90 degrees; or j = j_90(E, L) s(alpha) of a
spectrum at 90 degrees [1/(cm^2 s sr MeV)]. Everything is at the equator. Spectra are callables of (energy [MeV], L), shapes of
(alpha [rad], energy, L); both take phi and t besides. A parameter is a number, an array that broadcasts with the arguments, a
`Series`, or a callable of (t, energy, L[, phi]).
"""

from __future__ import annotations

import inspect
import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxbelt.coefficients import evaluate, parameters, static
from jaxbelt.constants import EARTH, Planet, rest_energy
from jaxbelt.constants import species as as_species
from jaxbelt.instrument import SinN
from jaxbelt.physics.dipole import loss_cone

__all__ = ["Exponential", "Kappa", "PowerLaw", "SinePower", "DirectionalFlux"]

_NODES = 64
_SPECTRUM = "needs a spectrum, such as spectra.Exponential(flux=1e6, E0=0.3), or a callable of (energy, L, phi, t)"
_SHAPE = "needs a shape, such as spectra.SinePower(n=1.0)"
_GIVEN = ("omnidirectional", "perpendicular")


def _at(value, t, energy, L, phi):
    return evaluate(value, t, energy, L, *(() if phi is None else (phi,)))


def check_model(field, model, arguments, advice) -> None:
    """Raise ValueError, one line, for what cannot be called with the arguments named, "energy, L, phi, t"."""
    if callable(model) and not isinstance(model, type):
        asked = getattr(model, "fn", model)                    # the Python function of a `jb.function`
        try:
            inspect.signature(asked).bind(*arguments.split(", "), **getattr(model, "arrays", {}))
            return
        except TypeError:
            what = f"{getattr(asked, '__name__', type(model).__name__)} is not called with ({arguments})"
        except ValueError:                                     # it does not say what it takes
            return
    else:
        what = f"{model.__name__} is a class, no instance of it" if isinstance(model, type) else f"{model!r:.40} is no function"
    raise ValueError(" ".join(f"{field}: {what}; {advice}".split()))


def _above(model, limits, self):
    """Raise ValueError, one line, for parameters that are numbers and not above (for the flux: below) their limit."""
    for name, low, why in limits:
        value = getattr(self, name)
        if isinstance(value, str):
            raise ValueError(f"{model} {name} = {value!r}: must be a number, an array, a Series or a callable, no text")
        if isinstance(value, (float, np.ndarray)):
            bad = ~(np.asarray(value) >= low if name == "flux" else np.asarray(value) > low)
            if np.any(bad):
                raise ValueError(f"{model} {name} = {np.asarray(value)[bad].ravel()[0]:g}: {why}")


_FLUX = ("flux", 0.0, "a flux is not negative")


@parameters
class Exponential:
    """flux exp(-(E - at)/E0): `flux` at the energy `at` [MeV], e-folding energy E0 [MeV]; 0.2 to 0.6 in the outer belt.

    Raises ValueError for a negative flux, E0 <= 0.
    """

    flux: Any = 1.0
    E0: Any = 0.3
    at: Any = 0.0

    def __post_init__(self):
        _above("Exponential", (_FLUX, ("E0", 0.0, "an e-folding energy [MeV] is above 0")), self)

    def __call__(self, energy, L, phi=None, t=0.0):
        flux, E0, at = (_at(x, t, energy, L, phi) for x in (self.flux, self.E0, self.at))
        return flux * jnp.exp(-(jnp.asarray(energy) - at) / E0)


@parameters
class PowerLaw:
    """flux (E/at)^-index: `flux` at the energy `at` [MeV]; index 2 to 5 in the outer belt. E > 0.

    Raises ValueError for a negative flux, at <= 0.
    """

    flux: Any = 1.0
    index: Any = 3.0
    at: Any = 1.0

    def __post_init__(self):
        _above("PowerLaw", (_FLUX, ("at", 0.0, "an energy [MeV] is above 0")), self)

    def __call__(self, energy, L, phi=None, t=0.0):
        flux, index, at = (_at(x, t, energy, L, phi) for x in (self.flux, self.index, self.at))
        return flux * jnp.exp(-index * jnp.log(jnp.asarray(energy) / at))


@parameters
class Kappa:
    r"""Relativistic kappa distribution, f ~ (1 + E/(kappa E0))^-(kappa + 1) with the kinetic energy E, as a flux j ~ p^2 f:

        flux (p(E)/p(at))^2 [(1 + E/(kappa E0))/(1 + at/(kappa E0))]^-(kappa + 1),     p^2 ~ E (E + 2 m c^2)

    `flux` at the energy `at` [MeV]; E0 [MeV]: where j has its maximum, as long as E0 << m c^2. kappa -> inf is the relativistic
    Maxwellian exp(-E/E0). f falls as v^-2(kappa + 1) and, above m c^2, as p^-(kappa + 1). Vasyliunas (1968, J. Geophys. Res. 73,
    2839); with the relativistic energy Xiao (2006, Plasma Phys. Control. Fusion 48, 203). Plasma sheet electrons: kappa 3 to
    6, E0 0.5 to 5 keV. Raises ValueError for a negative flux, E0, kappa, at <= 0.
    """

    flux: Any = 1.0
    E0: Any = 0.002
    kappa: Any = 4.0
    at: Any = 0.1
    species: Any = "electron"

    def __post_init__(self):
        object.__setattr__(self, "species", as_species(self.species))
        _above("Kappa", (_FLUX, ("E0", 0.0, "the energy [MeV] of the maximum is above 0"), ("kappa", 0.0, "kappa is above 0"),
                         ("at", 0.0, "an energy [MeV] is above 0")), self)

    def __call__(self, energy, L, phi=None, t=0.0):
        flux, E0, kappa, at = (_at(x, t, energy, L, phi) for x in (self.flux, self.E0, self.kappa, self.at))
        energy, twice = jnp.asarray(energy), 2.0 * rest_energy(self.species)
        fall = jnp.log1p(energy / (kappa * E0)) - jnp.log1p(at / (kappa * E0))
        return flux * energy * (energy + twice) / (at * (at + twice)) * jnp.exp(-(kappa + 1.0) * fall)


@parameters
class SinePower:
    r"""Pitch-angle shape s = sin^n(alpha), 1 at 90 degrees, times `inside` within the loss cone.

    n >= -1: 0 is isotropic, 1 to 4 pancakes, below 0 cigars. altitude [km]: top of the atmosphere, which the loss cone
    (`dipole.loss_cone`) belongs to, or None: no loss cone. inside: the share of s that is left in it, 0 to 1.
    Raises ValueError for n < -1, inside outside 0 to 1.
    """

    n: Any = 0.0
    altitude: Any = None
    inside: Any = 0.0
    planet: Planet = EARTH

    def __post_init__(self):
        for name, low, high, why in (("n", -1.0, np.inf, "a power of the sine is at least -1"),
                                     ("inside", 0.0, 1.0, "the share left in the loss cone is 0 to 1")):
            value = getattr(self, name)
            if isinstance(value, (float, np.ndarray)):
                values = np.ravel(value)
                bad = ~((values >= low) & (values <= high))
                if bad.any():
                    raise ValueError(f"SinePower {name} = {values[bad][0]:g}: {why}")

    def _edge(self, t, energy, L, phi):
        return loss_cone(L, _at(self.altitude, t, energy, L, phi), self.planet)

    def __call__(self, alpha, energy, L, phi=None, t=0.0):
        """s at the equatorial pitch angle alpha [rad], 0 to pi."""
        sine = jnp.abs(jnp.sin(alpha))
        shape = SinN(n=_at(self.n, t, energy, L, phi))(sine)
        if self.altitude is None:
            return shape
        trapped = sine >= jnp.sin(self._edge(t, energy, L, phi))
        return shape * jnp.where(trapped, 1.0, _at(self.inside, t, energy, L, phi))

    def solid_angle(self, energy, L, phi=None, t=0.0):
        r"""Omega [sr] = 2 pi^(3/2) Gamma(n/2 + 1)/Gamma(n/2 + 3/2), 4 pi if isotropic; with a loss cone alpha_c

            inside Omega + (1 - inside) 4 pi int_{alpha_c}^{90 deg} sin^(n + 1)(alpha) d(alpha)

        by Gauss-Legendre of 64 points, to rounding for alpha_c above 1 degree.
        """
        n = _at(self.n, t, energy, L, phi)
        whole = SinN(n=n).omnidirectional(1.0)
        if self.altitude is None:
            return whole
        x, weights = np.polynomial.legendre.leggauss(_NODES)
        inside = _at(self.inside, t, energy, L, phi)
        low = self._edge(t, energy, L, phi)[..., None]
        half = 0.5 * (0.5 * math.pi - low)
        angles = low + half * (1.0 + x)
        outer = (half * weights * jnp.exp((n[..., None] + 1.0) * jnp.log(jnp.sin(angles)))).sum(-1)
        return inside * whole + (1.0 - inside) * 4.0 * math.pi * outer


@parameters
class DirectionalFlux:
    """Directional differential flux j [1/(cm^2 s sr MeV)] at the equator as a callable of (alpha [rad], energy [MeV], L).

    spectrum: a spectrum of this file, a `FluxTable`, or any callable pytree of (energy, L, phi, t); shape: `SinePower` or any
    callable pytree with its two methods. given: what the spectrum is, "omnidirectional" [1/(cm^2 s MeV)], or "perpendicular",
    the flux at 90 degrees [1/(cm^2 s sr MeV)]. log_amplitude: natural logarithm of a factor; a `Series` makes walls that change
    in time. Raises ValueError for a spectrum or a shape that is not one.
    """

    spectrum: Any
    shape: Any = SinePower()
    log_amplitude: Any = 0.0
    given: str = static("omnidirectional")

    def __post_init__(self):
        if self.given not in _GIVEN:
            raise ValueError(f"DirectionalFlux given: {self.given!r} is unknown; use 'omnidirectional' or 'perpendicular'")
        if hasattr(self.spectrum, "solid_angle") or hasattr(self.spectrum, "perpendicular"):
            raise ValueError(f"DirectionalFlux spectrum: {type(self.spectrum).__name__} depends on the pitch angle; {_SPECTRUM}")
        check_model("DirectionalFlux spectrum", self.spectrum, "energy, L, phi, t", _SPECTRUM)
        check_model("DirectionalFlux shape", self.shape, "alpha, energy, L, phi, t", _SHAPE)
        if not hasattr(self.shape, "solid_angle"):
            raise ValueError(f"DirectionalFlux shape: {type(self.shape).__name__} has no solid_angle; {_SHAPE}")

    def __call__(self, alpha, energy, L, phi=None, t=0.0):
        return self.perpendicular(energy, L, phi, t) * self.shape(alpha, energy, L, phi, t)

    def perpendicular(self, energy, L, phi=None, t=0.0):
        """j at 90 degrees [1/(cm^2 s sr MeV)]."""
        flux = self.spectrum(energy, L, phi, t) * jnp.exp(_at(self.log_amplitude, t, energy, L, phi))
        return flux / self.shape.solid_angle(energy, L, phi, t) if self.given == "omnidirectional" else flux

    def omnidirectional(self, energy, L, phi=None, t=0.0):
        """J [1/(cm^2 s MeV)]."""
        flux = self.spectrum(energy, L, phi, t) * jnp.exp(_at(self.log_amplitude, t, energy, L, phi))
        return flux if self.given == "omnidirectional" else flux * self.shape.solid_angle(energy, L, phi, t)
