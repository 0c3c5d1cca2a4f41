"""Parallel velocity mixing: electrons trapped and released in magnetic wells that come and go; "Parallel velocity mixing yielding
enhanced electron heating", J. Plasma Phys. 2021, doi:10.1017/S0022377821000088.

Here: the rate of the velocity diffusion it drives, (5.11)-(5.12), g_t = v^-2 d_v(v^2 D d_v g), D = nu_par v^2 G with
h = BT/B0 - 1 the depth of the well, nu_par the rate of parallel mixing, nu_xi that of pitch-angle scattering; and the mixing by
itself, nu_xi = 0: distributions after N cycles, the reversed cycle, energy gain and anisotropy. The map of a cycle, in
`mixing_maps`, and the orbits at each of its stages, in `mixing_orbits`, are to be had from here too.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from .mixing_maps import check, check_d, check_scenario, correlation, mix, stripes, unmix
from .mixing_orbits import (
    BLUE,
    FORBIDDEN,
    MAGENTA,
    RED,
    BarrierStage,
    FloorStage,
    Well,
    actions,
    energy_after,
    energy_before,
    initial_energy,
    orbit,
    origin,
    present_energy,
    transition_energy,
)

__all__ = ["G", "diffusion_rate", "initial_v_par", "mixed", "unmixed", "energy_gain", "energy_gain_limit", "anisotropy",
           "unmix", "mix", "stripes", "correlation", "Well", "FloorStage", "BarrierStage", "FORBIDDEN", "BLUE", "MAGENTA", "RED",
           "transition_energy", "energy_before", "energy_after", "initial_energy", "present_energy", "orbit", "origin", "actions"]


def _check_h(h):
    check("h", h, lambda x: (x > 0.0) & (x < np.inf), "above 0 and finite (h = BT/B0 - 1: the barrier is higher than the floor)")


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
    check("ratio", ratio, lambda x: x >= 0.0, "at least 0 (nu_xi/nu_par)")
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
        check(name, nu, lambda x: (x >= 0.0) & (x < np.inf), "a rate, at least 0 and finite")
    _check_h(h)
    nu_par, nu_xi, h = jnp.asarray(nu_par), jnp.asarray(nu_xi), jnp.asarray(h)
    nu_par, nu_xi = jnp.where(nu_par >= 0.0, nu_par, 0.0), jnp.where(nu_xi >= 0.0, nu_xi, 0.0)
    return _harmonic(nu_par, nu_xi) * _shape(h)


def initial_v_par(v_par, v_perp, cycles=1, h=7.0, d=0.4, scenario="floor"):
    r"""|v_par| before `cycles` cycles of what is at (v_par, v_perp) now; v_perp is conserved.

    Where trapped, |v_par| < sqrt(h) v_perp: sqrt(h) v_perp `unmix`(|v_par|/(sqrt(h) v_perp)); |v_par| elsewhere. They broadcast.
    """
    _check_h(h)
    v_par, edge = jnp.abs(jnp.asarray(v_par)), jnp.sqrt(h) * jnp.abs(jnp.asarray(v_perp))
    trapped = v_par < edge
    safe = jnp.where(trapped, edge, 1.0)
    return jnp.where(trapped, safe * unmix(jnp.where(trapped, v_par / safe, 0.0), d, cycles, scenario), v_par)


def mixed(f0, cycles=1, h=7.0, d=0.4, scenario="floor"):
    """The distribution that f0(v_par, v_perp) becomes after `cycles` cycles, (3.1): a function of (v_par, v_perp).

    f0: a function, even in v_par, of velocities in any unit. f is constant along orbits, so f = f0(initial_v_par, v_perp).
    Number and perpendicular energy at each v_perp stay what they were.
    """
    return lambda v_par, v_perp: f0(initial_v_par(v_par, v_perp, cycles, h, d, scenario), v_perp)


def unmixed(f, cycles=1, h=7.0, d=0.4, scenario="floor"):
    """The distribution that f(v_par, v_perp) becomes by `cycles` cycles run backward: a function of (v_par, v_perp).

    The reversed cycle leaves at w what was at mix(w, "A") in region A and what was at mix(w, "B") in region B; when the barrier
    goes the two mix, f = d f_A + (1-d) f_B. It is the exact inverse of `mixed` (both are equal then), but no longer so once
    the distribution has been smoothed in between. f is evaluated once, on arrays with 2^cycles entries along a new first axis.
    """
    check_scenario(scenario, cycles)
    check_d(d)
    _check_h(h)

    def before(v_par, v_perp):
        v_par, edge = jnp.abs(jnp.asarray(v_par)), jnp.sqrt(h) * jnp.abs(jnp.asarray(v_perp))
        trapped = v_par < edge
        # all 2^cycles places a particle may end up in, and the fraction of the particles in each
        w, share = jnp.where(trapped, v_par / jnp.where(trapped, edge, 1.0), 0.0)[None], jnp.ones_like(trapped, v_par.dtype)[None]
        for _ in range(cycles):
            w = jnp.concatenate([mix(w, region, d, scenario) for region in "AB"])
            share = jnp.concatenate([d * share, (1.0 - d) * share])
        return jnp.sum(share * f(jnp.where(trapped, edge * w, v_par), v_perp), axis=0)

    return before


def energy_gain(cycles, h, d=0.4, scenario="floor"):
    r"""Energy gained by an isotropic distribution in 0, 1, ..., `cycles` cycles without scattering, over its initial energy.

    Shape (cycles + 1, ...). All of it is parallel energy, and finite though nu_xi = 0. It is the same for every isotropic g(v):
    with q = (1+h)^(-1/2) and moments of w about the mixed state, a = <w> - 1/2 and b = <w^2> - 1/3, times the trapped part,
        gain_N = h^(3/2) (b_N - b_0),   b_0 = -(2/9) h q^3,   a_0 = -h q^3 (q^2 + 2 q + 2)/(6 (1+q)^2),
        "floor":   a -> (d^2 + (1-d)^2) a,    b -> (d^3 + (1-d)^3) b + 2 d^2 (1-d) a,
        "barrier": a -> (d^2 - (1-d)^2) a,    b -> (d^3 + (1-d)^3) b - 2 (1-d)^2 a.
    The limit is `energy_gain_limit`. "floor" rises to it; "barrier" overshoots it in its first cycle. For h = 7, d = 0.4, one and
    two cycles: 0.63329360, 0.94665379 and 1.97950278, 1.25840749. h, d: arrays that broadcast; cycles: an integer.
    """
    check_scenario(scenario, cycles)
    check_d(d)
    _check_h(h)
    h, d = jnp.broadcast_arrays(jnp.asarray(h, jnp.result_type(h, d, float)), jnp.asarray(d, jnp.result_type(h, d, float)))
    q = 1.0 / jnp.sqrt(1.0 + h)
    first = -h * q**3 * (q**2 + 2.0 * q + 2.0) / (6.0 * (1.0 + q) ** 2)
    second = -2.0 / 9.0 * h * q**3
    if scenario == "floor":
        keep, feed = d**2 + (1.0 - d) ** 2, 2.0 * d**2 * (1.0 - d)
    else:
        keep, feed = 2.0 * d - 1.0, -2.0 * (1.0 - d) ** 2

    def cycle(moments, _):
        a, b = moments
        moments = keep * a, (d**3 + (1.0 - d) ** 3) * b + feed * a
        return moments, moments[1]

    _, later = jax.lax.scan(cycle, (first, second), length=int(cycles))
    gains = jnp.concatenate([jnp.zeros((1, *second.shape), second.dtype), later - second])
    return gains * jnp.where(h > 0.0, h, 0.0) ** 1.5


def energy_gain_limit(h):
    """Energy gain of an isotropic distribution once it is fully mixed, A = (2/9) h (h/(1+h))^(3/2) (B 16): A(7) = 1.27320286."""
    _check_h(h)
    return 10.0 * _shape(jnp.asarray(h))


def anisotropy(cycles, h, d=0.4, scenario="floor"):
    """P_par/P_perp after 0, 1, ..., `cycles` cycles from an isotropic start, shape (cycles + 1, ...): 1 + 3 `energy_gain`."""
    return 1.0 + 3.0 * energy_gain(cycles, h, d, scenario)
