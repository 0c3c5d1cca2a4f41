"""Radial diffusion coefficients D_LL [1/day]: callables of (t, L, *rest).

Times are seconds after the problem's epoch. Whatever can be fitted is an array leaf; `reference_l` and `outside` are structure.
A model that is a factor of t times a profile of L has `separated(t, L)`, which returns the two: what a grid makes of the profile
is then made once, for all times and for all runs of a batch. All are drift-averaged coefficients, for the radial equation
(Lejosne & Albert 2023, Eq. 7); what the drift-resolved one needs (Eq. 27) differs: see `drift_average`. `total(...)` adds
several, `PitchAngle` carries a magnetic one to other pitch angles.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..coefficients import Series, evaluate, float_leaves, parameters, static
from ..constants import EARTH, SECONDS_PER_DAY, TESLA_PER_GAUSS, Planet
from ..constants import species as as_species
from . import dipole
from .dipole import drift_rate
from .drivers import check_kp
from .ranges import check_outside, within

__all__ = [
    "BrautigamAlbert", "BrautigamAlbertElectric", "OzekeMagnetic", "OzekeElectric", "AliMagnetic", "AliElectric", "LiuElectric",
    "Lejosne", "PowerLaw", "PitchAngle", "Sum", "total",
]

_LN10 = math.log(10.0)


@parameters
class BrautigamAlbert:
    r"""Magnetic radial diffusion of Brautigam & Albert (2000, JGR 105, 291, Eq. 6), 1/day:

        D_LL = exp(log_amplitude) 10^(0.506 Kp - 9.325) L_ref^10 (L/L_ref)^power

    kp: a number, a `Series`, or a `function` of t alone. log_amplitude: natural logarithm of a factor. power: exponent of L.
    reference_l (L_ref, static): where changing `power` changes nothing. With the default L_ref = 1 this is
    10^(0.506 Kp - 9.325) L^power; a fit of amplitude and power together is far better conditioned with L_ref inside
    the data, say 5. power = 10, log_amplitude = 0 is the published formula for every L_ref.
    Fitted for Kp 1 to 6. At Kp = 2: 5.10035e-3 (L = 4), 4.75007e-2 (5), 0.294112 (6).
    Raises ValueError if kp is a number outside 0 to 9 (a Series is checked by `drivers.kp_series`).
    """

    kp: Any
    log_amplitude: Any = 0.0
    power: Any = 10.0
    reference_l: float = static(1.0)

    def __post_init__(self):
        check_kp("BrautigamAlbert kp", self.kp)

    def separated(self, t, L):
        """(factor at t, profile of L): see the module's docstring."""
        level = _LN10 * (0.506 * evaluate(self.kp, t) - 9.325) + 10.0 * math.log(self.reference_l)
        return jnp.exp(level + self.log_amplitude), jnp.exp(self.power * jnp.log(L / self.reference_l))

    def __call__(self, t, L, *_):
        return _product(*self.separated(t, L))


@parameters
class PowerLaw:
    r"""A power law, 1/day: D_LL = exp(log_amplitude) d0 (L/reference_l)^power.

    d0 [1/day]: the value at L = reference_l (static, default 1); a number, a `Series`, or a `function` of t alone; >= 0.
    power: 10 for magnetic, 6 for electric impulses with a power spectrum falling as frequency^-2 (Falthammar 1965).
    """

    d0: Any
    power: Any = 10.0
    log_amplitude: Any = 0.0
    reference_l: float = static(1.0)

    def separated(self, t, L):
        """(factor at t, profile of L): see the module's docstring."""
        return evaluate(self.d0, t) * jnp.exp(self.log_amplitude), jnp.exp(self.power * jnp.log(L / self.reference_l))

    def __call__(self, t, L, *_):
        return _product(*self.separated(t, L))


def _product(factor, profile):
    return factor * profile


def _check(model, kp, mu=None, outside=None):
    """What a user gave, where it is concrete: Kp 0 to 9, mu positive, a known `outside`."""
    check_kp(f"{model} kp", kp)
    if isinstance(mu, (int, float, np.ndarray, np.number)) and not np.all(np.asarray(mu) > 0):
        raise ValueError(f"{model} mu = {np.min(mu):g} MeV/G must be positive")
    if outside is not None:
        check_outside(model, outside)


@parameters
class BrautigamAlbertElectric:
    r"""Electric radial diffusion of Brautigam & Albert (2000, JGR 105, 291, Eqs. 4-5), 1/day:

        D_LL = exp(log_amplitude) (1/4) (E/(B_E R_E))^2 T/(1 + (w_d T/2)^2) L^6,   E = max(0.26 (Kp - 1) + 0.1, 0) mV/m

    the response to impulses of the convection field that rise at once and decay in T = decay_time [s]; w_d: drift rate of
    `dipole.drift_rate` at mu [MeV/G] and L (90 degrees). E is the fit's, not below 0: D_LL vanishes for Kp < 0.615.
    kp: a number, a `Series`, or a `function` of t alone; mu: a number or an array that broadcasts with L; species, planet: for
    w_d, B_E and R_E. For Kp 1 to 6, any L (beyond, the formula is used as it is).
    At Kp = 2, 500 MeV/G: 8.42122e-3 (L = 4), 4.36162e-2 (5), 0.1747287 (6).
    Raises ValueError if kp is a number outside 0 to 9, or mu a number that is not positive.
    """

    kp: Any
    mu: Any
    log_amplitude: Any = 0.0
    decay_time: Any = 2700.0
    species: Any = "electron"
    planet: Planet = EARTH

    def __post_init__(self):
        _check("BrautigamAlbertElectric", self.kp, self.mu)
        object.__setattr__(self, "species", as_species(self.species))

    def __call__(self, t, L, *_):
        field = 1e-3 * jnp.maximum(0.26 * (evaluate(self.kp, t) - 1.0) + 0.1, 0.0)                # V/m
        speed = field / (self.planet.b_e * TESLA_PER_GAUSS * self.planet.r_e)                     # R_E/s at L = 1
        turn = 0.5 * drift_rate(L, self.mu, self.species, self.planet) * self.decay_time
        rise = jnp.exp(self.log_amplitude + 6.0 * jnp.log(L))
        return 0.25 * SECONDS_PER_DAY * speed**2 * self.decay_time / (1.0 + turn**2) * rise


@parameters
class OzekeMagnetic:
    r"""Compressional magnetic ULF waves, Ozeke et al. (2014, JGR 119, 1587, Eq. 20), 1/day:

        D_LL = exp(log_amplitude) 6.62e-13 L^8 10^(-0.0327 L^2 + 0.625 L - 0.0108 Kp^2 + 0.499 Kp)

    kp: a number, a `Series`, or a `function` of t alone. Fitted for about L 2.5 to 7, Kp 0 to 6, all energies. outside (static):
    beyond those L the formula is used as it is ("extrapolate", the default), or "error", or "nearest"; Kp is extrapolated.
    At Kp = 2: 3.70628e-5 (L = 4), 4.73062e-4 (5), 3.74686e-3 (6).
    Raises ValueError if kp is a number outside 0 to 9; for L where outside="error" and L is concrete.
    """

    kp: Any
    log_amplitude: Any = 0.0
    outside: str = static("extrapolate")

    def __post_init__(self):
        _check("OzekeMagnetic", self.kp, outside=self.outside)

    def separated(self, t, L):
        """(factor at t, profile of L): see the module's docstring."""
        kp, L = evaluate(self.kp, t), within("OzekeMagnetic", "L", L, 2.5, 7.0, self.outside)
        factor = jnp.exp(math.log(6.62e-13) + _LN10 * (-0.0108 * kp**2 + 0.499 * kp) + self.log_amplitude)
        return factor, jnp.exp(8.0 * jnp.log(L) + _LN10 * (-0.0327 * L**2 + 0.625 * L))

    def __call__(self, t, L, *_):
        return _product(*self.separated(t, L))


@parameters
class OzekeElectric:
    r"""Azimuthal electric ULF waves, Ozeke et al. (2014, JGR 119, 1587, Eq. 23), 1/day:

        D_LL = exp(log_amplitude) 2.16e-8 L^6 10^(0.217 L + 0.461 Kp)

    Arguments, ranges and errors as `OzekeMagnetic`. At Kp = 2: 5.45524e-3 (L = 4), 3.42984e-2 (5), 0.168796 (6).
    """

    kp: Any
    log_amplitude: Any = 0.0
    outside: str = static("extrapolate")

    def __post_init__(self):
        _check("OzekeElectric", self.kp, outside=self.outside)

    def separated(self, t, L):
        """(factor at t, profile of L): see the module's docstring."""
        kp, L = evaluate(self.kp, t), within("OzekeElectric", "L", L, 2.5, 7.0, self.outside)
        return jnp.exp(math.log(2.16e-8) + _LN10 * 0.461 * kp + self.log_amplitude), jnp.exp(6.0 * jnp.log(L) + _LN10 * 0.217 * L)

    def __call__(self, t, L, *_):
        return _product(*self.separated(t, L))


@parameters
class AliMagnetic:
    r"""Magnetic ULF waves of the Van Allen Probes, Ali et al. (2016, JGR 121, 9586, Eq. 14), 1/day:

        D_LL = exp(log_amplitude) exp(-16.253 + 0.224 Kp L + L)

    kp: a number, a `Series`, or a `function` of t alone. Fitted for about L 3 to 5.5, Kp 0 to 5. outside (static): beyond those L
    the formula is used as it is ("extrapolate", the default), or "error", or "nearest"; Kp is extrapolated.
    At Kp = 2: 2.86316e-5 (L = 4), 1.218159e-4 (5), 5.182774e-4 (6).
    Raises ValueError if kp is a number outside 0 to 9; for L where outside="error" and L is concrete.
    """

    kp: Any
    log_amplitude: Any = 0.0
    outside: str = static("extrapolate")

    def __post_init__(self):
        _check("AliMagnetic", self.kp, outside=self.outside)

    def __call__(self, t, L, *_):
        L = within("AliMagnetic", "L", L, 3.0, 5.5, self.outside)
        return jnp.exp(-16.253 + (0.224 * evaluate(self.kp, t) + 1.0) * L + self.log_amplitude)


@parameters
class AliElectric:
    r"""Electric ULF waves of the Van Allen Probes, Ali et al. (2016, JGR 121, 9586, Eq. 15), 1/day:

        D_LL = exp(log_amplitude) exp(-16.951 + 0.181 Kp L + 1.982 L)

    Arguments, ranges and errors as `AliMagnetic`. At Kp = 2: 5.1312e-4 (L = 4), 5.34817e-3 (5), 5.574319e-2 (6).
    """

    kp: Any
    log_amplitude: Any = 0.0
    outside: str = static("extrapolate")

    def __post_init__(self):
        _check("AliElectric", self.kp, outside=self.outside)

    def __call__(self, t, L, *_):
        L = within("AliElectric", "L", L, 3.0, 5.5, self.outside)
        return jnp.exp(-16.951 + (0.181 * evaluate(self.kp, t) + 1.982) * L + self.log_amplitude)


@parameters
class LiuElectric:
    r"""Electric ULF waves of THEMIS, Liu et al. (2016, GRL 43, 1023), 1/day, mu in MeV/G:

        D_LL = exp(log_amplitude) 1.115e-6 10^(0.281 Kp) L^8.184 mu^-0.608

    kp: a number, a `Series`, or a `function` of t alone; mu: a number or an array that broadcasts with L. Fitted for about L 3 to
    7.5, Kp 0 to 5. outside (static): beyond those L the formula is used as it is ("extrapolate", the default), or "error", or
    "nearest"; Kp and mu are extrapolated.
    At Kp = 2, 500 MeV/G: 7.86249e-3 (L = 4), 4.88283e-2 (5), 0.2171156 (6).
    Raises ValueError if kp is a number outside 0 to 9, or mu one that is not positive; for L where outside="error".
    """

    kp: Any
    mu: Any
    log_amplitude: Any = 0.0
    outside: str = static("extrapolate")

    def __post_init__(self):
        _check("LiuElectric", self.kp, self.mu, self.outside)

    def __call__(self, t, L, *_):
        kp, L = evaluate(self.kp, t), within("LiuElectric", "L", L, 3.0, 7.5, self.outside)
        level = math.log(1.115e-6) + 0.281 * _LN10 * kp - 0.608 * jnp.log(self.mu)
        return jnp.exp(level + 8.184 * jnp.log(L) + self.log_amplitude)


# (nT/R_E/min)^2 at Kp = 0, 1, 2, 3, 4, and 1/min: Lejosne et al. (2013), Table 2
_LEJOSNE_C = np.log([[1.3e-2, 4.26e-2, 8.48e-2, 2.45e-1, 6.78e-1], [2.28e-4, 3.83e-4, 8.31e-4, 1.31e-3, 1.36e-3]])
_LEJOSNE_RATES = (2.0, 1.43e-2)


@parameters
class Lejosne:
    r"""Magnetic and induced electric fields from geostationary data, Lejosne et al. (2013, JGR 118, 3147, Eq. 23), 1/day:

        D_LL = exp(log_amplitude) L^10/(2 k0)^2 (5/7)^2 [l1 C1/(l1^2 + W^2) + l2 C2/(l2^2 + W^2)] per minute

    k0 = B_E [nT], W = |drift rate| at mu [MeV/G] and L [rad/min], l1 = 2 and l2 = 0.0143 per minute; C1, C2 (Table 2) are
    given at Kp 0, 1, 2, 3, 4 and interpolated between in their logarithm. Measured at L = 6.6; L^10 carries it to other L.
    kp: a number, a `Series`, or a `function` of t alone; mu: a number or an array that broadcasts with L. outside (static):
    beyond Kp = 4, where the table ends, "error" (the default), "nearest" (Kp = 4 is used), "extrapolate" (the last slope goes
    on). A traced Kp cannot be refused: with "error" it is taken as "nearest".
    At mu = 500 MeV/G, Kp = 2: 8.0379e-3 (L = 4), 7.5776e-2 (5), 0.47347 (6).
    Raises ValueError if kp is a number (or a Series holds one) outside 0 to 4, or mu a number that is not positive.
    """

    kp: Any
    mu: Any
    log_amplitude: Any = 0.0
    species: Any = "electron"
    planet: Planet = EARTH
    outside: str = static("error")

    def __post_init__(self):
        _check("Lejosne", self.kp, self.mu, self.outside)
        object.__setattr__(self, "species", as_species(self.species))
        given = self.kp.values if isinstance(self.kp, Series) else self.kp
        if isinstance(given, (float, np.ndarray, jax.Array)):
            within("Lejosne", "kp", given, 0.0, 4.0, self.outside)

    def __call__(self, t, L, *_):
        kp = within("Lejosne", "kp", evaluate(self.kp, t), 0.0, 4.0, self.outside)
        kp = jnp.asarray(kp) if self.outside == "extrapolate" else jnp.clip(kp, 0.0, 4.0)
        i = jnp.clip(jnp.floor(kp), 0, 3).astype(int)
        table, turn = jnp.asarray(_LEJOSNE_C, jnp.result_type(kp)), 60.0 * drift_rate(L, self.mu, self.species, self.planet)
        spectrum = sum(rate / (rate**2 + turn**2) * jnp.exp(c[i] + (kp - i) * (c[i + 1] - c[i]))
                       for rate, c in zip(_LEJOSNE_RATES, table))
        k0 = 1e5 * self.planet.b_e
        return 1440.0 * (5.0 / 14.0) ** 2 * spectrum * jnp.exp(10.0 * jnp.log(L) - 2.0 * jnp.log(k0) + self.log_amplitude)


@parameters
class PitchAngle:
    r"""A magnetic D_LL at other pitch angles than 90 degrees, 1/day: model times [Q(y)/D(y)]^2/[Q(1)/D(1)]^2.

    Asymmetric compressions of a dipole (Schulz & Lanzerotti 1974, Eq. 3.13), with `dipole.Q` and `dipole.D`. model: any
    coefficient. y = sin(equatorial pitch angle), 0 to 1: a number, an array that broadcasts with L, or a callable of (t, L)
    (at fixed K the pitch angle changes with L). 1 at y = 1, about 0.107 at y = 0.
    Raises ValueError if y is concrete and outside 0 to 1; traced values pass.
    """

    model: Any
    y: Any

    def __call__(self, t, L, *rest):
        y = within("PitchAngle", "y", evaluate(self.y, t, L), 0.0, 1.0)
        ratio = dipole.Q(y) * dipole.D(1.0) / (dipole.D(y) * dipole.Q(1.0))
        return ratio**2 * evaluate(self.model, t, L, *rest)


@parameters
class Sum:
    """The sum of several coefficients, a callable of (t, L, *rest); see `total`."""

    parts: Any

    def __call__(self, t, L, *rest):
        return sum((evaluate(p, t, L, *rest) for p in self.parts), start=jnp.zeros(()))


def total(*models) -> Sum:
    """The sum of coefficients: D_LL = total(OzekeMagnetic(kp=kp), OzekeElectric(kp=kp)), and so for potentials and sources.

    Each is anything a coefficient can be (number, array, Series, function, callable); None counts as 0. An array must fit where
    the sum is evaluated: solvers read a callable D_LL at cell centres and at faces, so give functions there.
    Raises ValueError if there is nothing to add.
    """
    models = tuple(float_leaves(m) for m in models if m is not None)
    if not models:
        raise ValueError("total: needs at least one coefficient")
    return Sum(parts=models)
