r"""Electron lifetimes from plasmaspheric hiss, Orlova et al. (2016), JGR Space Physics 121, 1308, doi:10.1002/2015JA021878.

    log10 tau_av[day] = sum a_ij L^i e^j,  e = log10(E/MeV);    tau = tau_av/(g(MLT) h(Kp))
    g = 10^(-0.007338 MLT^2 + 0.1773 MLT + 2.080)/782.3,        h = 10^(-0.01414 Kp^2 + 0.2321 Kp + 2.598)/1315

L 1.5 to 5.5, E 1 keV to 10 MeV, and e >= f(L) = 0.1328 L^2 - 2.1463 L + 3.7857: below f(L) hiss is not in resonance with the
electrons; on that line lifetimes are hundreds of days for L < 4. g is a fit over 0 <= MLT < 24 h, with a step of 7 % at midnight.
Good values: 1 MeV at L = 4, MLT = 12, Kp = 2: 3.19 days.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..coefficients import evaluate, parameters, static
from .drivers import check_kp
from .losses import _Lifetime, local_time
from .ranges import check_outside, within

__all__ = ["hiss_rate", "Orlova2016"]

_LN10 = math.log(10.0)

# the 20 coefficients of the paper's table, as rows of L^0 to L^5 with e^0 to e^5
_A = (
    (77.323, -55.754, 8.9067, 1.5189, -0.22182, 0.0063218),
    (-92.641, 48.981, -3.3326, -0.85916, 0.034318),
    (44.497, -15.711, 0.31889, 0.097248),
    (-10.704, 2.2546),
    (1.294, -0.12192),
    (-0.062765,),
)
_G = (2.080, 0.1773, -0.007338)          # log10 of 782.3 g, powers of MLT [h]
_H = (2.598, 0.2321, -0.01414)           # log10 of 1315 h, powers of Kp
_F = (3.7857, -2.1463, 0.1328)           # lowest log10(E/MeV), powers of L


def _polynomial(coefficients, x):
    total = coefficients[-1]
    for c in coefficients[-2::-1]:
        total = total * x + c
    return total


def _mean_g() -> float:
    """Mean of g over MLT, from its integral: 10^(quadratic) is a Gaussian."""
    c, b, a = (_LN10 * x for x in _G)
    a, middle = math.sqrt(-a), -b / (2.0 * a)
    area = math.erf(a * (24.0 - middle)) + math.erf(a * middle)
    return math.exp(c + 0.5 * b * middle) * math.sqrt(math.pi) / (2.0 * a) * area / 24.0 / 782.3


_MEAN_G = _mean_g()


def _log_energy(L, energy, outside):
    """log10(E/MeV) as the model may use it at L."""
    floor = _polynomial(_F, L)
    e = jnp.log10(jnp.maximum(energy, 1e-9))
    if outside == "nearest":
        return jnp.maximum(e, floor)
    if outside == "error" and not isinstance(e, jax.core.Tracer) and not isinstance(L, jax.core.Tracer):
        low = np.asarray(e) < np.asarray(floor) - 1e-6
        if low.any():
            at, least, given = (np.broadcast_to(np.asarray(x, dtype=float), low.shape)[low][0]
                                for x in (L, 10.0 ** np.asarray(floor, dtype=float), energy))
            raise ValueError(f"Orlova2016 energy = {given:g} MeV at L = {at:g} is below the model's range there, {least:.4g} "
                             "to 10 MeV; keep to the range, or give outside='nearest' or 'extrapolate'")
    return e


def hiss_rate(L, energy, kp, mlt=None, outside: str = "error"):
    """Loss rate by hiss g h/tau_av [1/day]; L, energy [MeV], kp, mlt [h] are numbers or arrays that broadcast.

    mlt=None: the drift average, the mean of the rate over MLT (g is replaced by its mean, 1 to 4e-6).
    outside: "error", "nearest" or "extrapolate", for L, energy and the line e = f(L); with "nearest" an electron below that
    line has the (long) lifetime on it. Kp is not limited: h rests on few data above 5 and grows by 40 % from there to its
    maximum at 8.2. Traced values are not checked: with "error" they are extrapolated.
    Raises ValueError, as `ranges.within` does.
    """
    L = within("Orlova2016", "L", L, 1.5, 5.5, outside)
    energy = within("Orlova2016", "energy", energy, 1e-3, 10.0, outside, "MeV")
    e = _log_energy(L, energy, outside)
    return _loss(L, e, kp, mlt)


@jax.jit
def _loss(L, e, kp, mlt):
    """g h/tau_av [1/day], e = log10(E/MeV)."""
    log_tau = _polynomial([_polynomial(row, e) for row in _A], L)
    log_h = _polynomial(_H, kp) - math.log10(1315.0)
    if mlt is None:
        return jnp.exp(_LN10 * (log_h - log_tau)) * _MEAN_G
    log_g = _polynomial(_G, jnp.mod(mlt, 24.0)) - math.log10(782.3)
    return jnp.exp(_LN10 * (log_g + log_h - log_tau))


@parameters
class Orlova2016(_Lifetime):
    """Lifetime by plasmaspheric hiss [day], a callable of (t, L[, phi]); the formula is at the head of the module.

    Called with phi it has the MLT dependence, called with (t, L) it is the drift average (mean of the rate over MLT).
    kp: a number, a `Series`, or a `function` of t alone. energy [MeV]: a number, an array, or a callable of (t, L).
    log_tau: natural logarithm of a factor on the lifetime, default 0. outside (static): "error", "nearest", "extrapolate",
    for L and energy, see `hiss_rate`.
    Raises ValueError if kp is a number outside 0 to 9, L or energy is outside the range, or outside is unknown.
    """

    kp: Any
    energy: Any
    log_tau: Any = 0.0
    outside: str = static("error")

    def __post_init__(self):
        check_outside("Orlova2016", self.outside)
        check_kp("Orlova2016 kp", self.kp)

    def rate(self, t, L, *rest):
        """Loss rate [1/day]."""
        mlt = local_time(rest[0]) if rest else None
        loss = hiss_rate(L, evaluate(self.energy, t, L), evaluate(self.kp, t), mlt, self.outside)
        return loss * jnp.exp(-self.log_tau)
