"""Losses as lifetimes [day]: callables of (t, L, *rest), where infinity means no loss.

Every class here also has `rate(t, L, *rest)` [1/day], which stays finite and differentiable where there is no loss;
`rate(lifetime, t, L, ...)` reads the rate of any lifetime (None, number, array, Series, callable). Lifetimes longer than
1e12 days are returned as infinity, with derivative zero, so that 1/lifetime never makes a NaN in a gradient.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..coefficients import Series, evaluate, parameters, static
from ..constants import EARTH, SECONDS_PER_DAY, Planet
from ..constants import species as as_species
from . import dipole
from .drivers import check_kp, trailing_max
from .plasmapause import Plasmapause, carpenter_anderson, jumps_of_maximum

__all__ = ["rate", "combine", "carpenter_anderson", "local_time", "strong_diffusion_lifetime", "KpLifetime", "BeltLifetime",
           "ShadowingLifetime", "LossConeLifetime", "StrongDiffusionLifetime", "Combined"]

_NO_LOSS = 1e-12   # 1/day


def rate(lifetime, t, *coordinates):
    """Loss rate 1/lifetime [1/day] at (t, *coordinates): 0 where the lifetime is infinite, and for None."""
    if lifetime is None:
        return jnp.zeros(())
    if hasattr(lifetime, "rate"):
        return lifetime.rate(t, *coordinates)
    tau = evaluate(lifetime, t, *coordinates)
    finite = jnp.isfinite(tau)
    return jnp.where(finite, 1.0 / jnp.where(finite, tau, 1.0), 0.0)


class _Lifetime:
    """Gives a class that has `rate` its lifetime, safe to differentiate where the rate vanishes."""

    def __call__(self, t, L, *rest):
        loss = self.rate(t, L, *rest)
        some = loss > _NO_LOSS
        return jnp.where(some, 1.0 / jnp.where(some, loss, 1.0), jnp.inf)


def _switch(x, width):
    """0 below x = -width, 1 above +width, smooth (cubic, C1) between; where width = 0 the step x > 0."""
    sharp = jnp.asarray(width) <= 0.0
    s = jnp.clip(0.5 * (1.0 + x / jnp.where(sharp, 1.0, width)), 0.0, 1.0)
    return jnp.where(sharp, jnp.where(x > 0.0, 1.0, 0.0), s * s * (3.0 - 2.0 * s))


def local_time(phi):
    """Magnetic local time 12 phi/pi [h], 0 to 24, of a longitude phi [rad] that is 0 at midnight and grows eastward."""
    return jnp.mod(12.0 / np.pi * phi, 24.0)


@parameters
class KpLifetime(_Lifetime):
    r"""Electron lifetime [day] on either side of the plasmapause Lpp, the simplest choice for MeV electrons:

        1/tau = (1 - w)/tau_in + w Kp exp(-log_tau_out)/3,    w = switch((L - Lpp)/width)

    Outside: 3/Kp days times exp(log_tau_out) (chorus; Shprits et al. 2005, 2007); inside: tau_in, about 10 days (hiss).
    w rises from 0 to 1 (a cubic) between Lpp - width and Lpp + width. Lpp = 5.6 - 0.46 max_24h(Kp): the maximum over the
    current and the last 24 h of a Series, read where the Series is; any other kp is its own maximum. `kp_max` replaces it:
    give drivers.max_over(kp) for a Series whose spacing does not divide 24 h, and steps stop at each jump of the maximum.

    kp: a number, a `Series` (step or linear), or a `function` of t alone. Kp below kp_floor (static; 1/3, the smallest step
    of the index) counts as kp_floor, so a lifetime outside is at most 9 exp(log_tau_out) days. tau_in [day].
    lpp: another plasmapause [R_E] instead, anything a coefficient can be, for instance Plasmapause(kp=kp, model="moldwin2002").
    width [R_E]: 0.1 by default; 0 is a hard switch, without a derivative in Lpp. window (static): hours of the maximum.
    At Kp = 3: 1 day at L = 5, 10 days at L = 4 (Lpp = 4.22).
    Raises ValueError if kp is a number outside 0 to 9.
    """

    kp: Any
    tau_in: Any = 10.0
    log_tau_out: Any = 0.0
    width: Any = 0.1
    kp_max: Any = None
    lpp: Any = None
    kp_floor: float = static(1.0 / 3.0)
    window: float = static(24.0)

    def __post_init__(self):
        check_kp("KpLifetime kp", self.kp)

    def plasmapause(self, t, *coordinates):
        """Lpp [R_E] at t."""
        if self.lpp is not None:
            return evaluate(self.lpp, t, *coordinates)
        if self.kp_max is not None:
            kp_max = evaluate(self.kp_max, t)
        elif isinstance(self.kp, Series):
            kp_max = trailing_max(self.kp, t, self.window)
        else:
            kp_max = evaluate(self.kp, t)
        return carpenter_anderson(kp_max)

    def rate(self, t, L, *rest):
        """Loss rate [1/day]."""
        kp = jnp.maximum(evaluate(self.kp, t), self.kp_floor)
        outside = _switch(L - self.plasmapause(t, L, *rest), self.width)
        return outside * kp * jnp.exp(-self.log_tau_out) / 3.0 + (1.0 - outside) / self.tau_in


@parameters
class BeltLifetime(_Lifetime):
    r"""Electron lifetime [day] by hiss inside the plasmapause Lpp and chorus outside, for storms; (t, L[, phi]).

        1/tau = (1 - w) exp(-log_tau_in)/tau_in + w exp(-log_tau_out)/tau_out,    w = switch((L - Lpp)/width)

    w rises from 0 to 1 (a cubic) between Lpp - width and Lpp + width; width [R_E] 0.1, 0 is a hard switch.
    inside, outside: lifetimes [day], anything a lifetime can be (a number, Series, callable; infinity is no loss). None, the
    default: hiss of Orlova et al. (2016) inside, chorus of Gu et al. (2012) outside, for this kp and energy. Both are clamped
    to the nearest L and energy of their tables (outside="nearest"): hiss is asked for up to Lpp + width, which in quiet
    times is beyond its L = 5.5; chorus is asked for at every L, mostly without weight, and its table begins at 3; and at fixed
    mu the energy grows inward, past the tables' 10 and 2 MeV. For another choice give Orlova2016(...), Gu2012(...) themselves.
    log_tau_in, log_tau_out: natural logarithms of factors on both lifetimes, default 0, to be fitted.
    kp: a number, a `Series`, or a `function` of t alone. energy [MeV]: a number, an array, or a callable of (t, L).
    lpp [R_E]: anything a coefficient can be; None is Plasmapause(kp=kp), Carpenter & Anderson with the last 24 h of kp.
    marks: set by the class (the jumps of that maximum; no leaf).
    With phi, day and night and MLT count; with (t, L) the rates are their means over MLT.
    1 MeV, Kp = 2 (Lpp = 4.68): 5.77 d at L = 4, 6.45 d at L = 5 (at noon 3.19 and 3.23 d).
    Raises ValueError if kp is a number outside 0 to 9, or energy is missing where a table needs it.
    """

    kp: Any
    energy: Any = None
    inside: Any = None
    outside: Any = None
    log_tau_in: Any = 0.0
    log_tau_out: Any = 0.0
    width: Any = 0.1
    lpp: Any = None
    marks: Any = dataclasses.field(default=None, init=False)

    def __post_init__(self):
        check_kp("BeltLifetime kp", self.kp)
        if self.energy is None and (self.inside is None or self.outside is None):
            raise ValueError("BeltLifetime energy: hiss and chorus need the energy [MeV], a number or a callable of (t, L)")
        object.__setattr__(self, "marks", jumps_of_maximum(self.kp, 24.0) if self.lpp is None else None)

    def plasmapause(self, t, *coordinates):
        """Lpp [R_E] at t."""
        return evaluate(Plasmapause(kp=self.kp) if self.lpp is None else self.lpp, t, *coordinates)

    def rate(self, t, L, *rest):
        """Loss rate [1/day]."""
        # here, because both are built on this module
        from .chorus import Gu2012
        from .hiss import Orlova2016

        tables = {"kp": self.kp, "energy": self.energy, "outside": "nearest"}
        inner = Orlova2016(**tables) if self.inside is None else self.inside
        outer = Gu2012(**tables) if self.outside is None else self.outside
        w = _switch(L - self.plasmapause(t, L, *rest), self.width)
        return ((1.0 - w) * jnp.exp(-self.log_tau_in) * rate(inner, t, L, *rest)
                + w * jnp.exp(-self.log_tau_out) * rate(outer, t, L, *rest))


@parameters
class ShadowingLifetime(_Lifetime):
    r"""Magnetopause shadowing: particles beyond the last closed drift shell are lost within minutes.

        1/tau_loss = w/tau + (1 - w)/inside,    w = switch((L - l_max - width)/width)

    l_max [R_E]: a number, an array, a `Series`, or a callable of (t, L, *rest). tau [day]: 0.1 min by default, about 7e-5
    day; a solver must treat it implicitly. inside: lifetime on closed shells [day], anything a lifetime can be; None is no loss.
    w is 0 for L <= l_max and 1 for L >= l_max + 2 width: closed shells lose nothing. width [R_E] gives l_max its derivative
    (0.05 by default); 0 is a hard step.
    """

    l_max: Any
    tau: Any = 0.1 / 1440.0
    inside: Any = None
    width: Any = 0.05

    def rate(self, t, L, *rest):
        """Loss rate [1/day]."""
        beyond = _switch(L - evaluate(self.l_max, t, L, *rest) - self.width, self.width)
        return beyond / self.tau + (1.0 - beyond) * rate(self.inside, t, L, *rest)


@parameters
class LossConeLifetime(_Lifetime):
    """Loss into the atmosphere: T_b/4 [day], a quarter of the bounce period, where alpha_eq is in the loss cone; none outside.

    T_b = 4 L R_E T(y)/v and the loss cone are `dipole.bounce_period` and `dipole.loss_cone`. energy [MeV] and pitch_angle
    (alpha_eq [rad], 0 to pi): numbers, arrays, or callables of (t, L). altitude [km]: of the top of the atmosphere, 0 by
    default. species: "electron", "proton", (mass [kg], charge [C]) or a `Species`; planet: a `Planet`.
    The edge is hard (alpha_eq = loss cone loses nothing) and has no derivative. Lifetimes are tenths of a second, which
    a solver must treat implicitly: 1 MeV electron, L = 4, 3 degrees: 0.117 s.
    """

    energy: Any
    pitch_angle: Any
    altitude: Any = 0.0
    species: Any = "electron"
    planet: Planet = EARTH

    def __post_init__(self):
        object.__setattr__(self, "species", as_species(self.species))

    def rate(self, t, L, *_):
        """Loss rate [1/day]."""
        alpha = evaluate(self.pitch_angle, t, L)
        period = dipole.bounce_period(L, evaluate(self.energy, t, L), alpha, self.species, self.planet)
        inside = jnp.abs(jnp.sin(alpha)) < jnp.sin(dipole.loss_cone(L, self.altitude, self.planet))
        return jnp.where(inside, 4.0 * SECONDS_PER_DAY / period, 0.0)


def strong_diffusion_lifetime(L, energy, altitude=0.0, species="electron", planet: Planet = EARTH):
    """Shortest lifetime [day] that pitch-angle scattering can give, with the loss cone kept full: T_b/(2 alpha_LC^2).

    T_b is the bounce period at the loss cone alpha_LC (Kennel 1969; Summers & Thorne 2003). energy [MeV], altitude [km].
    1 MeV electron, L = 5: 66.4 s.
    """
    cone = dipole.loss_cone(L, altitude, planet)
    return dipole.bounce_period(L, energy, cone, species, planet) / (2.0 * cone**2 * SECONDS_PER_DAY)


@parameters
class StrongDiffusionLifetime(_Lifetime):
    """`strong_diffusion_lifetime` as a lifetime of (t, L): the limit of scattering for all trapped particles.

    energy [MeV]: a number, an array, or a callable of (t, L). altitude [km], species and planet as in LossConeLifetime.
    """

    energy: Any
    altitude: Any = 0.0
    species: Any = "electron"
    planet: Planet = EARTH

    def __post_init__(self):
        object.__setattr__(self, "species", as_species(self.species))

    def rate(self, t, L, *_):
        """Loss rate [1/day]."""
        return 1.0 / strong_diffusion_lifetime(L, evaluate(self.energy, t, L), self.altitude, self.species, self.planet)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Combined(_Lifetime):
    """Several losses at once; see `combine`."""

    parts: tuple

    def rate(self, t, L, *rest):
        """Loss rate [1/day], the sum of the parts'."""
        return sum((rate(p, t, L, *rest) for p in self.parts), start=jnp.zeros(()))


def combine(*lifetimes) -> Combined:
    """One lifetime from several, 1/tau = sum 1/tau_k. Each is None (no loss), a number or array [day], a Series, a callable.

    Raises ValueError for a number that is not positive.
    """
    for k, tau in enumerate(lifetimes):
        if isinstance(tau, (int, float, np.ndarray)) and not np.all(tau > 0):
            raise ValueError(f"combine: lifetime {k} = {np.min(tau):g} days must be positive (infinity or None is no loss)")
    return Combined(tuple(float(x) if isinstance(x, int) else x for x in lifetimes))
