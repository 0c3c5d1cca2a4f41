r"""A closed-form tensor of lower-band chorus, for runs without wave tables: positive semi-definite wherever it is asked for.

With u = (f_pe/f_ce) p/(m c), x = ln u, z = cos^2(alpha) and g = ln(gamma), all at the equator,

    ln D_aa,  ln D_pp/p^2  =  a0 + a1 x + a2 x^2 + a3 z + a4 x z + a5 z^2 + (a6 + a7 x + a8 z) g        [1/day]
    D_ap/p = rho (D_aa D_pp/p^2)^(1/2),    rho = tanh(r0 cot(alpha)) tanh(r1 + r2 x + r3 z + r4 g),  |rho| <= 0.98

times (B_w/100 pT)^2 (L/4.5)^3: log-normal in momentum times density (what a wave resonates with, Kennel & Petschek 1966, J.
Geophys. Res. 71, 1), a bell in pitch angle that moves towards 90 degrees as u grows, odd about 90 degrees in D_ap. Waves of
amplitude B_w in a given part of the gyrofrequency scatter at a rate Omega (B_w/B)^2 ~ L^3 where f_pe/f_ce is the same.

The numbers are a robust fit to quasi-linear tables of Horne (PADIE: waves peaked at 0.35 and cut off at 0.125 and 0.575 of the
gyrofrequency, up to 15 degrees of latitude, normals 30 degrees wide, harmonics up to 5, 100 pT) for 0.03 to 3 MeV and f_pe/f_ce
1.5 to 7.5, where D_aa is above 0.01/day, at L = 4.5. Of those entries half are met within a factor of 1.42 in D_aa and 1.49 in
D_pp, nine tenths within 2.6 and 3.1 (3.4 at L = 6.5); the correlation within 0.07 (median), 0.26 (rms). What a smooth form cannot
have: the tables end sharply towards 90 degrees below 0.3 MeV. Within the loss cone of MeV electrons both are small.
"""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import i0e

from ..coefficients import evaluate, parameters, static
from .chorus import chorus_power
from .invariants import gamma_of_energy
from .losses import _switch

__all__ = ["ChorusPower", "ChorusTensor"]

_AA = (2.755, 2.735, -0.953, 9.424, -5.103, -7.407, -3.188, 0.965, -0.162)
_PP = (0.739, 1.173, -0.890, 11.759, -5.329, -12.878, -0.923, 0.783, 0.160)
_RHO = (2.940, 2.234, -0.508, 0.045, -0.713)
_CORRELATION = 0.98
_ENERGY, _DENSITY = (0.03, 3.0), (1.5, 7.5)            # MeV and f_pe/f_ce of the tables


@parameters
class ChorusTensor:
    """D_aa, D_ap/p, D_pp/p^2 [1/day] as a callable of (t, alpha [rad], energy [MeV], L[, phi]), in place of a `WaveTable`.

    power: factor on all of D, a number, a `Series`, or a callable of (t, L[, phi]): (B_w/amplitude)^2 times the share of local
    times with waves; density: f_pe/f_ce at the equator, likewise. amplitude [pT]: of the waves at power 1. The formula and how
    well it meets the tables are at the head of the module; beyond their energies and densities it goes on smoothly, and outside
    says whether `local_diffusion.problem` gives a warning of that: "warn", or "extrapolate", without a word.
    1 MeV, 60 degrees, L = 4.5, density 2.5: 11.27, 1.326, 0.910 per day (tables: 11.75, 1.22, 1.57).
    """

    power: Any = 1.0
    density: Any = 2.5
    amplitude: float = static(100.0)
    outside: str = static("warn")
    electrons = True

    def __post_init__(self):
        if self.outside not in ("warn", "extrapolate"):
            raise ValueError(f"ChorusTensor outside: {self.outside!r} is unknown; use 'warn' or 'extrapolate'")
        for name in ("power", "density"):
            _no_text("ChorusTensor", name, getattr(self, name))

    def covers(self, energy, L, density=None) -> str:
        """A sentence naming what of (energy [MeV], f_pe/f_ce) lies beyond the tables it was fitted to, or ""; for any L."""
        said = []
        for name, unit, given, (least, most) in (("E", " MeV", energy, _ENERGY), ("f_pe/f_ce", "", density, _DENSITY)):
            if given is not None and (np.min(given) < least * (1 - 1e-9) or np.max(given) > most * (1 + 1e-9)):
                said.append(f"{name} = {np.min(given):.3g} to {np.max(given):.3g}{unit} (fitted: {least:g} to {most:g})")
        return " and ".join(said)

    def __call__(self, t, alpha, energy, L, *rest):
        alpha, energy, L = (jnp.asarray(x) for x in (alpha, energy, L))
        power, density = evaluate(self.power, t, L, *rest), evaluate(self.density, t, L, *rest)
        gamma = gamma_of_energy(energy)
        g, z = jnp.log(gamma), jnp.cos(alpha) ** 2
        x = jnp.log(density) + 0.5 * jnp.log(gamma * gamma - 1.0)
        scale = power * (self.amplitude / 100.0) ** 2 * (L / 4.5) ** 3
        aa, pp = (scale * jnp.exp(_surface(a, x, z, g)) for a in (_AA, _PP))
        r0, r1, r2, r3, r4 = _RHO
        rho = _CORRELATION * jnp.tanh(r0 / jnp.tan(alpha)) * jnp.tanh(r1 + r2 * x + r3 * z + r4 * g)
        # the root of the product, which at power 0 would have no derivative
        half = scale * jnp.exp(0.5 * (_surface(_AA, x, z, g) + _surface(_PP, x, z, g)))
        return aa, rho * half, pp


def _no_text(model, name, value):
    if isinstance(value, str):
        unit = " in pT" if name == "b_w" else ""
        raise ValueError(f"{model} {name} = {value!r}: must be a number{unit}, a Series or a callable, no text")


def _surface(a, x, z, g):
    return a[0] + (a[1] + a[2] * x) * x + (a[3] + a[4] * x + a[5] * z) * z + (a[6] + a[7] * x + a[8] * z) * g


@parameters
class ChorusPower:
    r"""Power of chorus waves as `power` of a `ChorusTensor` or `WaveTable`: a callable of (t, L[, phi]).

        (B_w/amplitude)^2  coverage  M(MLT)  [0 inside of the plasmapause, 1 outside],    M = exp((cos(phi - phi0) - 1)/w^2)

    b_w: amplitude of the waves [pT], a number or a `Series`; or kp, with B_w^2 of Gu et al. (2012), `chorus.chorus_power`: 58 pT
    at Kp = 4. mlt [h]: local time of the strongest waves, phi0 = pi mlt/12, and mlt_width [h], w = pi mlt_width/12; asked without
    phi, the mean of M over MLT is taken, exp(-1/w^2) I0(1/w^2). mlt None: M = 1. coverage: a further share. lpp [R_E]: the
    plasmapause, a number or a callable of (t, L, ...), `width` wide; None: waves everywhere. amplitude [pT]: of the tensor.
    """

    b_w: Any = None
    kp: Any = None
    coverage: Any = 1.0
    mlt: Any = None
    mlt_width: Any = 3.0
    lpp: Any = None
    width: Any = 0.1
    amplitude: float = static(100.0)

    def __post_init__(self):
        if (self.b_w is None) == (self.kp is None):
            raise ValueError("ChorusPower b_w, kp: give one of the two")
        for name in ("b_w", "kp", "coverage", "mlt", "mlt_width", "lpp"):
            _no_text("ChorusPower", name, getattr(self, name))

    def __call__(self, t, L, *phi):
        square = evaluate(self.b_w, t, L, *phi) ** 2 if self.kp is None else chorus_power(evaluate(self.kp, t))
        out = evaluate(self.coverage, t, L, *phi) * square / self.amplitude**2
        if self.mlt is not None:
            sharp = (12.0 / (math.pi * self.mlt_width)) ** 2
            out = out * (jnp.exp(sharp * (jnp.cos(phi[0] - math.pi / 12.0 * self.mlt) - 1.0)) if phi else i0e(sharp))
        return out if self.lpp is None else out * _switch(L - evaluate(self.lpp, t, L, *phi), self.width)
