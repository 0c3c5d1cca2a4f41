"""Parallel velocity mixing: trapping and detrapping in magnetic wells (J. Plasma Phys. 87 (2021), the third paper's equations).

The rate of the resulting velocity diffusion, (5.11)-(5.12): g_t = v^-2 d_v(v^2 D d_v g), D = nu_par v^2 G(nu_xi/nu_par, h),
h = BT/B0 - 1 the depth of the well, nu_par the rate of parallel mixing, nu_xi that of pitch-angle scattering.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["G", "diffusion_rate"]


def _check(name, value, fine, must):
    """Raise ValueError, one line, where a concrete value is not `fine`; traced values pass."""
    if isinstance(value, jax.core.Tracer):
        return
    values = np.asarray(value)
    bad = ~fine(values)
    if np.any(bad):
        raise ValueError(f"mixing {name} = {float(values[bad].ravel()[0]):g}: it must be {must}")


def _check_h(h):
    _check("h", h, lambda x: (x > 0.0) & (x < np.inf), "above 0 and finite (h = BT/B0 - 1: the barrier is higher than the floor)")


def _shape(h):
    """h/45 (h/(1+h))^(3/2), 0 for a traced h <= 0, with derivatives that stay finite there."""
    some = jnp.where(h > 0.0, h, 0.0)
    return some / 45.0 * (some / (1.0 + some)) ** 1.5


@jax.custom_jvp
def _harmonic(a, b):
    """a b/(a + b) of numbers >= 0; 0, with derivative 0, where both are 0."""
    total = a + b
    some = total > 0.0
    return jnp.where(some, a * (b / jnp.where(some, total, 1.0)), 0.0)


@_harmonic.defjvp
def _harmonic_jvp(primals, tangents):
    # (b/(a + b))^2 written out: as a difference it would lose its digits where b << a
    (a, b), (da, db) = primals, tangents
    total = a + b
    some = total > 0.0
    safe = jnp.where(some, total, 1.0)
    return _harmonic(a, b), jnp.where(some, (b / safe) ** 2, 0.0) * da + jnp.where(some, (a / safe) ** 2, 0.0) * db


def G(ratio, h):
    r"""Rate of energization by mixing, (5.12): G = r/(1 + r) h/45 (h/(1+h))^(3/2), in units of nu_par; D = nu_par v^2 G.

    ratio: r = nu_xi/nu_par >= 0, infinity allowed (the limit). h = BT/B0 - 1 > 0, the depth of the well. They broadcast.
    G ~ h^(5/2) for h << 1 and ~ h for h >> 1. Linear in r for r << 1, so 0 without scattering.
    G(1, 1) = 3.928371006591931e-3; G(1/3, 7) = 3.182897031867158e-2. Energies grow as exp(10 nu_par G t).
    Raises ValueError if ratio < 0 or h is not positive and finite; a traced ratio or h below 0 counts as 0.
    """
    _check("ratio", ratio, lambda x: x >= 0.0, "at least 0 (nu_xi/nu_par)")
    _check_h(h)
    ratio, h = jnp.asarray(ratio), jnp.asarray(h)
    r = jnp.where(ratio >= 0.0, ratio, 0.0)
    # two forms, so that neither r = 0 nor r = infinity makes a NaN in a derivative
    low, high = jnp.where(r < 1.0, r, 1.0), jnp.where(r < 1.0, 1.0, r)
    mixed = jnp.where(r < 1.0, low / (1.0 + low), 1.0 / (1.0 + 1.0 / high))
    return mixed * _shape(h)


def diffusion_rate(nu_par, nu_xi, h):
    r"""nu_par G(nu_xi/nu_par, h) = nu_par nu_xi/(nu_par + nu_xi) h/45 (h/(1+h))^(3/2): D = v^2 times this, (5.11)-(5.12).

    nu_par, nu_xi >= 0: rates of parallel mixing and of pitch-angle scattering, in the same unit, which is the result's;
    h = BT/B0 - 1 > 0. They broadcast. 0 where either rate is 0. The derivative where both are 0 is given as 0.
    diffusion_rate(3, 1, 1) = 5.892556509887896e-3.
    Raises ValueError if a rate is negative or not finite, or h is not positive and finite; traced values below 0 count as 0.
    """
    for name, nu in (("nu_par", nu_par), ("nu_xi", nu_xi)):
        _check(name, nu, lambda x: (x >= 0.0) & (x < np.inf), "a rate, at least 0 and finite")
    _check_h(h)
    nu_par, nu_xi, h = jnp.asarray(nu_par), jnp.asarray(nu_xi), jnp.asarray(h)
    nu_par, nu_xi = jnp.where(nu_par >= 0.0, nu_par, 0.0), jnp.where(nu_xi >= 0.0, nu_xi, 0.0)
    return _harmonic(nu_par, nu_xi) * _shape(h)
