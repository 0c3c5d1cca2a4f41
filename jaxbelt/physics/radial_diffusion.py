"""Radial diffusion coefficients D_LL [1/day]: callables of (t, L, *rest).

Times are seconds after the problem's epoch. Whatever can be fitted is an array leaf; `reference_l` is structure.
"""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp

from ..coefficients import evaluate, parameters, static
from .drivers import check_kp

__all__ = ["BrautigamAlbert", "PowerLaw"]


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

    def __call__(self, t, L, *_):
        kp = evaluate(self.kp, t)
        level = math.log(10.0) * (0.506 * kp - 9.325) + 10.0 * math.log(self.reference_l)
        return jnp.exp(level + self.log_amplitude + self.power * jnp.log(L / self.reference_l))


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

    def __call__(self, t, L, *_):
        return evaluate(self.d0, t) * jnp.exp(self.log_amplitude + self.power * jnp.log(L / self.reference_l))
