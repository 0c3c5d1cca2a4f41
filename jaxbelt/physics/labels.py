r"""Labels of (mu, K): the pitch angle and momentum that a particle has at a reference L. One grid for all L.

    alpha_ref, p_ref: equatorial pitch angle and momentum at L_ref of the particles with (mu, K); at another L they have

    Y(y)/y = (L/L_ref)^(1/2) Y(y_ref)/y_ref          (K the same),      y = sin(alpha)
    p^2 y^2 L^3 = p_ref^2 y_ref^2 L_ref^3            (mu the same)

so alpha depends on (alpha_ref, L) alone and ln p - ln p_ref too. At fixed labels radial transport changes nothing else; local
diffusion at L is a tensor in the labels, D' = J D J^T. The measure dJ1 dJ2 is, up to a constant at each L,

    G d(alpha) d(ln p) = p^3 T(y) sin(2 alpha) d(alpha) d(ln p),   the same in the labels and at L.

Dipole; T and Y of Schulz & Lanzerotti (1974), which obey d(Y/y)/dy = -2 T/y^2 exactly (see `dipole`).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxbelt.physics.dipole import T, _excess, _ratio

__all__ = ["Place", "at_L", "to_labels", "pitch_measure", "tensor_in_labels"]


class Place(NamedTuple):
    """Where particles of a label are at L: alpha [rad], ln p/p_ref, and the derivatives of both in alpha_ref."""

    alpha: jax.Array
    log_p: jax.Array
    alpha_slope: jax.Array
    log_p_slope: jax.Array


def _excess_of_alpha(alpha):
    """1/sin(alpha) - 1, precise near 90 degrees."""
    return 2.0 * jnp.sin(0.5 * (0.5 * np.pi - alpha)) ** 2 / jnp.sin(alpha)


def _cot(w):
    """cot(alpha) of w = 1/sin(alpha) - 1, alpha <= 90 degrees."""
    inside = w * (2.0 + w)
    return jnp.where(inside > 0, jnp.sqrt(jnp.where(inside > 0, inside, 1.0)), 0.0)


def at_L(alpha_ref, L, L_ref) -> Place:
    """`Place` at L of labels alpha_ref [rad, 0 < alpha_ref <= pi/2]. Arrays broadcast."""
    alpha_ref, L = jnp.asarray(alpha_ref), jnp.asarray(L)
    w_ref = _excess_of_alpha(alpha_ref)
    w = _excess(_ratio(w_ref) * jnp.sqrt(L / L_ref))
    y, y_ref = 1.0 / (1.0 + w), 1.0 / (1.0 + w_ref)
    alpha = jnp.arctan2(1.0, _cot(w))
    cot, cot_ref = _cot(w), _cot(w_ref)
    # dw = -cot/y d(alpha); at 90 degrees both cot vanish, like the fourth root of L/L_ref
    ratio = jnp.where(cot > 0, cot_ref / jnp.where(cot > 0, cot, 1.0), (L_ref / L) ** 0.25)
    slope = jnp.sqrt(L / L_ref) * T(y_ref) / T(y) * ratio * y / y_ref
    return Place(alpha, jnp.log(y_ref / y) + 1.5 * jnp.log(L_ref / L), slope, cot_ref - cot * slope)


def to_labels(alpha, L, L_ref):
    """(alpha_ref, ln p_ref/p) of particles that have alpha [rad] at L: the inverse of `at_L`."""
    place = at_L(alpha, L_ref, L)
    return place.alpha, place.log_p


def tensor_in_labels(place: Place, daa, dap, dpp):
    """(D_aa, D_ap, D_pp) in (alpha_ref, ln p_ref) of a tensor in (alpha, ln p) at the place of the labels."""
    a, b = place.alpha_slope, place.log_p_slope / place.alpha_slope
    return daa / a**2, (dap - b * daa) / a, dpp - 2.0 * b * dap + b**2 * daa


def pitch_measure(faces) -> np.ndarray:
    """int T(y) sin(2 alpha) d(alpha) over cells of the pitch angle, exact to rounding.

    T(y) = T0 - (T0 - T1)(y + sqrt y)/2, sin(2 alpha) d(alpha) = 2 y dy: T0 y^2 - (T0 - T1)(y^3/3 + 2/5 y^(5/2)).
    """
    from jaxbelt.physics.dipole import T0, T1

    y = np.sin(np.asarray(faces, float))
    # differences of powers as products, so that thin cells near 90 degrees keep their digits
    a, b = y[:-1], y[1:]
    step = 2.0 * np.cos(0.5 * (faces[1:] + faces[:-1])) * np.sin(0.5 * np.diff(faces))                    # b - a
    ra, rb = np.sqrt(a), np.sqrt(b)
    fifth = step / (ra + rb) * (ra**4 + ra**3 * rb + ra**2 * rb**2 + ra * rb**3 + rb**4)
    return T0 * step * (a + b) - (T0 - T1) * (step * (a * a + a * b + b * b) / 3.0 + 0.4 * fifth)
