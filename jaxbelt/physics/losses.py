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
from .drivers import check_kp, trailing_max

__all__ = ["rate", "combine", "carpenter_anderson", "KpLifetime", "ShadowingLifetime", "Combined"]

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


def carpenter_anderson(kp_max):
    """Plasmapause 5.6 - 0.46 Kp_max [R_E], Kp_max the largest Kp of the last 24 h (Carpenter & Anderson 1992, Eq. 7)."""
    return 5.6 - 0.46 * kp_max


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
    width [R_E]: 0.1 by default; 0 is a hard switch, without a derivative in Lpp. window (static): hours of the maximum.
    At Kp = 3: 1 day at L = 5, 10 days at L = 4 (Lpp = 4.22).
    Raises ValueError if kp is a number outside 0 to 9.
    """

    kp: Any
    tau_in: Any = 10.0
    log_tau_out: Any = 0.0
    width: Any = 0.1
    kp_max: Any = None
    kp_floor: float = static(1.0 / 3.0)
    window: float = static(24.0)

    def __post_init__(self):
        check_kp("KpLifetime kp", self.kp)

    def plasmapause(self, t):
        """Lpp [R_E] at t."""
        if self.kp_max is not None:
            kp_max = evaluate(self.kp_max, t)
        elif isinstance(self.kp, Series):
            kp_max = trailing_max(self.kp, t, self.window)
        else:
            kp_max = evaluate(self.kp, t)
        return carpenter_anderson(kp_max)

    def rate(self, t, L, *_):
        """Loss rate [1/day]."""
        kp = jnp.maximum(evaluate(self.kp, t), self.kp_floor)
        outside = _switch(L - self.plasmapause(t), self.width)
        return outside * kp * jnp.exp(-self.log_tau_out) / 3.0 + (1.0 - outside) / self.tau_in


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
