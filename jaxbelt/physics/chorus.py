r"""Electron lifetimes from chorus, Gu et al. (2012), GRL 39, L15102, doi:10.1029/2012GL052519, with its correction.

tau_0(L, E) [day], for waves of B_0 = 57.6 pT (their amplitude at Kp = 4) all around the drift path, in bins of energy:

    dayside, 6 <= MLT < 18:   1 to 10, 10 to 100 keV, 0.1 to 0.4, 0.4 to 2 MeV    (Eqs. 1-4, Table S1)
    nightside:                1 to 10, 10 to 100 keV                             (Eqs. 5, 6)

    drift-averaged tau = tau_0 (B_0/B_w)^2/coverage,
    B_w^2 = 2 10^x pT^2,    x = 0.73 + 0.91 Kp (Kp <= 2+), 2.50 + 0.18 Kp (2+ < Kp <= 6)

coverage = 1/4: chorus of each side occupies a quarter of all MLT, that is, half of its own twelve hours: resolved in MLT the
rate there is twice the drift average, and the drift average of dayside chorus is 4 tau_0. Nightside chorus does not scatter
electrons above 0.1 MeV into the loss cone: no loss. L 3 to 10. tau_0 jumps at the bin edges, between -45 and +66 % (10 keV,
0.1 MeV, 0.4 MeV; an edge belongs to the bin above it). The two lines of x cross at Kp = 2.425, between 2+ and 3-: the smaller
one is taken, which is the published branch for every value of the index and continuous between them.
Good values: 1 MeV at L = 5: tau_0 = 0.3448 d; drift average at Kp = 4: 1.379 d, at Kp = 2: 6.45 d (at noon half of these).
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from ..coefficients import evaluate, parameters, static
from .drivers import check_kp
from .losses import _Lifetime, local_time
from .ranges import check_outside, within

__all__ = ["chorus_power", "chorus_rate", "Gu2012"]

_B0 = 57.6           # pT
_SHORTEST = 1e-4     # day; the table has 9e-4 and more, only extrapolated polynomials fall below this (and below 0)

# Table S1: powers of (L, E) in the order of the coefficients; E in keV in the first set (log10 tau_0), in MeV elsewhere
_LOW = ((-1, 0), (2, 0), (0, -2), (0, 1), (1, -1), (2, -1), (-2, 1), (1, 1), (2, 1), (-1, 2))
_TABLE = {
    "day 1 keV": (_LOW, (-5.6829, -0.0346, -0.6096, 0.3570, -0.1434, 0.0336, 1.1000, -0.1170, 0.0095, -0.0299)),
    "day 10 keV": (((-1, 0), (-2, 0), (-2, -1), (-1, 1), (1, 1), (2, 2), (3, 2), (3, 3), (4, 4)),
                   (-0.1910, 0.6004, 0.0045, 1.1336, 0.1316, -0.4351, -0.0042, 0.7126, -0.3492)),
    "day 0.1 MeV": (((-1, 0), (-2, 0), (0, 1), (0, 2), (0, 3), (-1, 1), (-2, 1), (1, 2), (1, 4), (2, 4)),
                    (-0.6159, 1.5126, 1.1247, -3.4438, 18.4731, 2.6884, -7.9946, -0.4590, -6.5927, 0.5334)),
    "day 0.4 MeV": (((-1, 0), (-2, 0), (0, 1), (0, 2), (-1, 1), (-2, 1)),
                    (-0.1697, 3.9861, 0.1233, 0.0264, -2.4348, 13.9174)),
    "night 1 keV": (_LOW, (-5.7729, -0.0330, -0.6771, 0.3936, -0.1357, 0.0334, 1.0304, -0.1193, 0.0095, -0.0331)),
    "night 10 keV": (((-1, 0), (-2, 0), (2, 0), (-2, -1), (-1, 1), (1, 1), (2, 2), (3, 3), (4, 4), (5, 5)),
                     (-0.4844, 0.9811, -0.00014, 0.0103, 3.4253, 0.7607, -4.6765, 13.3977, -17.5595, 8.8706)),
}


def _tau(name, L, energy, inside):
    """tau_0 [day] of one bin; where the energy is not `inside` it is replaced by one that is, so that nothing overflows."""
    powers, coefficients = _TABLE[name]
    low = name.endswith("1 keV")
    typical = {"1 keV": 0.005, "10 keV": 0.05, "0.1 MeV": 0.2, "0.4 MeV": 1.0}[name.split(" ", 1)[1]]
    e = jnp.where(inside, energy, typical) * (1e3 if low else 1.0)
    value = sum(c * L**i * e**j for c, (i, j) in zip(coefficients, powers))
    return jnp.maximum(jnp.exp(math.log(10.0) * value) if low else value, _SHORTEST)


def chorus_power(kp):
    """Wave power B_w^2 [pT^2] of lower-band chorus at Kp; 57.61^2 at Kp = 4. Fitted for Kp 0 to 6, extrapolated above."""
    return 2.0 * jnp.exp(math.log(10.0) * jnp.minimum(0.73 + 0.91 * kp, 2.50 + 0.18 * kp))


def chorus_rate(L, energy, kp, mlt=None, outside: str = "error", coverage=0.25):
    """Loss rate by chorus [1/day]; L, energy [MeV], kp, mlt [h], coverage broadcast.

    mlt=None: the drift average, coverage (B_w/B_0)^2 (1/tau_day + 1/tau_night), the mean of the rate over MLT; at an MLT twice
    that of its own side.
    outside: "error", "nearest" or "extrapolate", for L and energy. Kp above 6 is extrapolated. Traced values are not
    checked: with "error" they are extrapolated. Raises ValueError as the module `ranges` does.
    """
    L = within("Gu2012", "L", L, 3.0, 10.0, outside)
    energy = within("Gu2012", "energy", energy, 1e-3, 2.0, outside, "MeV")
    return coverage * _loss(L, energy, kp, mlt)


@jax.jit
def _loss(L, energy, kp, mlt):
    """(B_w/B_0)^2/tau_0 [1/day]; compiled as one piece, because it is a hundred small operations."""
    L, energy = 1.0 * jnp.asarray(L), jnp.maximum(energy, 1e-6)
    bins = (energy < 0.01, (energy >= 0.01) & (energy < 0.1), (energy >= 0.1) & (energy < 0.4), energy >= 0.4)
    day = [_tau(f"day {name}", L, energy, bin) for name, bin in zip(("1 keV", "10 keV", "0.1 MeV", "0.4 MeV"), bins)]
    night = [_tau(f"night {name}", L, energy, bin) for name, bin in zip(("1 keV", "10 keV"), bins)]
    by_day = 1.0 / jnp.where(bins[0], day[0], jnp.where(bins[1], day[1], jnp.where(bins[2], day[2], day[3])))
    by_night = jnp.where(bins[0], 1.0 / night[0], jnp.where(bins[1], 1.0 / night[1], 0.0))
    if mlt is None:
        loss = by_day + by_night
    else:
        mlt = jnp.mod(mlt, 24.0)
        loss = 2.0 * jnp.where((mlt >= 6.0) & (mlt < 18.0), by_day, by_night)
    return chorus_power(kp) / _B0**2 * loss


@parameters
class Gu2012(_Lifetime):
    """Lifetime by chorus [day], a callable of (t, L[, phi]); the formula is at the head of the module.

    Called with phi it knows day and night, called with (t, L) it is the drift average (mean of the rate over MLT).
    kp: a number, a `Series`, or a `function` of t alone. energy [MeV]: a number, an array, or a callable of (t, L).
    coverage: part of all MLT with chorus of each side, 1/4. log_tau: natural logarithm of a factor on the lifetime, default 0.
    outside (static): "error", "nearest", "extrapolate", for L and energy, see `chorus_rate`.
    Raises ValueError if kp is a number outside 0 to 9, L or energy is outside the range, or outside is unknown.
    """

    kp: Any
    energy: Any
    coverage: Any = 0.25
    log_tau: Any = 0.0
    outside: str = static("error")

    def __post_init__(self):
        check_outside("Gu2012", self.outside)
        check_kp("Gu2012 kp", self.kp)

    def rate(self, t, L, *rest):
        """Loss rate [1/day]."""
        mlt = local_time(rest[0]) if rest else None
        loss = chorus_rate(L, evaluate(self.energy, t, L), evaluate(self.kp, t), mlt, self.outside, self.coverage)
        return loss * jnp.exp(-self.log_tau)
