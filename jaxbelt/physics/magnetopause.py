r"""Where closed drift shells end: the last one from Dst, and the magnetopause of Shue et al. from Bz and Pdyn.

    Lmax = 6.07e-5 Dst^2 + 0.0436 Dst + 9.37
    r = r0 (2/(1 + cos theta))^a,   theta the angle from noon (the Earth-Sun line)
    "shue1997": r0 = (11.4 + k Bz) Pd^(-1/6.6), k = 0.013 (Bz >= 0), 0.14 (Bz < 0);  a = (0.58 - 0.010 Bz)(1 + 0.010 Pd)
    "shue1998": r0 = (10.22 + 1.29 tanh(0.184 (Bz + 8.14))) Pd^(-1/6.6);            a = (0.58 - 0.007 Bz)(1 + 0.024 ln Pd)

Dst, Bz (GSM) [nT], Pd = solar wind dynamic pressure [nPa], r and L [R_E]. Lmax: J. Koller's fit (Koller & Morley 2010, AGU Fall
Meeting, abstract SM13A-1787; in SpacePy as get_Lmax), from moderate storms. Shue et al. 1997, JGR 102, 9497 (fitted for
-18 < Bz < 15 nT and 0.5 < Pd < 8.5 nPa); Shue et al. 1998, JGR 103, 17691 (meant for extreme conditions). Outside those
ranges the formulas are extrapolated, as storms need; what keeps them finite there is said below.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..coefficients import Series, evaluate, parameters, static

__all__ = ["last_closed_shell", "standoff", "flaring", "magnetopause_radius", "LastClosedShell", "Magnetopause"]

_DST_LOWEST = -0.0436 / (2.0 * 6.07e-5)     # nT; where the parabola has its minimum
_TAIL = 1e-3                                # least 1 + cos theta
_LEAST = 1.0                                # R_E; least 11.4 + k Bz
_MODELS = ("shue1997", "shue1998")


def _check(name, value, unit, bad, hint):
    """Raise ValueError, one line, for the first concrete number (also of a Series) that is missing or for which bad(value)."""
    value = value.values if isinstance(value, Series) else value
    if value is None or callable(value) or isinstance(value, jax.core.Tracer):
        return
    values = np.asarray(value)
    if values.dtype.kind not in "fiu":
        return
    wrong = ~np.isfinite(values) | bad(values)
    if wrong.any():
        where = tuple(int(i) for i in np.argwhere(wrong)[0])
        label = name + (f"[{', '.join(map(str, where))}]" if where else "")
        raise ValueError(f"{label} = {float(values[where]):g} {unit}: {hint}")


def _check_dst(name, dst):
    _check(name, dst, "nT", lambda x: np.abs(x) > 5000.0, "missing or a fill value; Dst lies within about -2000 to 100 nT")


def _check_wind(name, bz, pdyn, model):
    if model not in _MODELS:
        raise ValueError(f"{name} model: {model!r} is unknown; use {' or '.join(map(repr, _MODELS))}")
    _check(f"{name} bz", bz, "nT", lambda x: np.abs(x) > 500.0, "missing or a fill value; Bz [nT] lies within -500 to 500")
    _check(f"{name} pdyn", pdyn, "nPa", lambda x: (x <= 0.0) | (x == 99.99) | (x > 900.0),
           "missing or a fill value; the dynamic pressure [nPa] must be positive")


def last_closed_shell(dst):
    """Last closed drift shell Lmax [R_E], the parabola at the head of the module: 9.37 at Dst = 0, 5.617 at -100 nT.

    The parabola has its minimum, 1.54, at Dst = -359 nT; below, where it would rise again, that value is kept (derivative 0).
    """
    _check_dst("last_closed_shell dst", dst)
    dst = jnp.maximum(dst, _DST_LOWEST)
    return (6.07e-5 * dst + 0.0436) * dst + 9.37


def standoff(bz, pdyn, model: str = "shue1998"):
    """Magnetopause at noon, r0 [R_E]; Bz = 0, Pdyn = 2 nPa: 10.26 (1997), 10.25 (1998).

    With "shue1997" the factor 11.4 + 0.14 Bz is at least 1 R_E (Bz below -74 nT).
    """
    _check_wind("standoff", bz, pdyn, model)
    return _standoff(bz, pdyn, model)


def flaring(bz, pdyn, model: str = "shue1998"):
    """Exponent a of the magnetopause, the tail flaring; Bz = 0, Pdyn = 2 nPa: 0.5916 (1997), 0.5896 (1998)."""
    _check_wind("flaring", bz, pdyn, model)
    return _flaring(bz, pdyn, model)


def _standoff(bz, pdyn, model):
    bz, pdyn = jnp.asarray(bz), jnp.asarray(pdyn)
    if model == "shue1997":
        factor = jnp.maximum(11.4 + jnp.where(bz >= 0.0, 0.013, 0.14) * bz, _LEAST)
    else:
        factor = 10.22 + 1.29 * jnp.tanh(0.184 * (bz + 8.14))
    return factor * pdyn ** (-1.0 / 6.6)


def _flaring(bz, pdyn, model):
    bz, pdyn = jnp.asarray(bz), jnp.asarray(pdyn)
    if model == "shue1997":
        return (0.58 - 0.010 * bz) * (1.0 + 0.010 * pdyn)
    return (0.58 - 0.007 * bz) * (1.0 + 0.024 * jnp.log(pdyn))


def _radius(cosine, bz, pdyn, model):
    opening = jnp.maximum(1.0 + cosine, _TAIL)
    return _standoff(bz, pdyn, model) * (2.0 / opening) ** _flaring(bz, pdyn, model)


def magnetopause_radius(theta, bz, pdyn, model: str = "shue1998"):
    """Magnetopause distance r [R_E] at the angle theta from noon [rad], 0 to pi. All arguments broadcast.

    theta -> pi is the open tail, r -> infinity: within 2.6 degrees of midnight 1 + cos theta counts as 1e-3, so that r keeps
    its value there (about 900 R_E, derivative 0 in theta) and everything stays finite.
    Raises ValueError if theta is outside 0 to pi, pdyn is not positive, a value is missing or a fill, or model is unknown.
    """
    _check("magnetopause_radius theta", theta, "rad", lambda x: (x < 0.0) | (x > np.pi * (1.0 + 1e-6)),
           "the angle from noon lies between 0 and pi")
    _check_wind("magnetopause_radius", bz, pdyn, model)
    return _radius(jnp.cos(theta), bz, pdyn, model)


@parameters
class LastClosedShell:
    """Last closed drift shell from Dst, a callable of (t, L, phi) -> Lmax [R_E], for ShadowingLifetime(l_max=...).

    dst [nT]: a number, a `Series` (step or linear), or a `function` of t alone. shift [R_E]: added to Lmax, default 0.
    Formula, source and the least value are those of `last_closed_shell`. It is about whole drift shells: right for a radial
    model, and for MeV electrons resolved in drift phase, whose shells are nearly circles and which drift around within
    minutes. `Magnetopause` empties only the local times that are outside.
    Raises ValueError naming a Dst that is missing or a fill.
    """

    dst: Any
    shift: Any = 0.0

    def __post_init__(self):
        _check_dst("LastClosedShell dst", self.dst)

    def __call__(self, t, *_):
        return last_closed_shell(evaluate(self.dst, t)) + self.shift


@parameters
class Magnetopause:
    """Magnetopause in the equatorial plane, a callable of (t, L, phi) -> r [R_E], for ShadowingLifetime(l_max=...).

    theta = |phi - pi| is the angle from noon (phi = 0 at midnight, eastward). Called with (t, L) it is the standoff distance
    at noon, the smallest one: a drift shell that reaches beyond it is open.
    bz [nT], pdyn [nPa]: numbers, `Series` (step or linear), or `function`s of t alone. model (static): "shue1997" or
    "shue1998". shift [R_E]: added to r, default 0. The tail is finite, as in `magnetopause_radius`.
    Raises ValueError naming a pdyn that is not positive, a value that is missing or a fill, or an unknown model.
    """

    bz: Any
    pdyn: Any
    shift: Any = 0.0
    model: str = static("shue1998")

    def __post_init__(self):
        _check_wind("Magnetopause", self.bz, self.pdyn, self.model)

    def __call__(self, t, L=None, phi=None, *_):
        bz, pdyn = evaluate(self.bz, t), evaluate(self.pdyn, t)
        if phi is None:
            return _standoff(bz, pdyn, self.model) + self.shift
        return _radius(-jnp.cos(phi), bz, pdyn, self.model) + self.shift
