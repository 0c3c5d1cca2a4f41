r"""Rates of the kinetic equation of parallel mixing without a time step: the Krook model in closed form, Lorentz as an
eigenvalue.

Powers v^-s keep their shape in v (nothing sets a speed), so energy growth, s = -2, is one number for each model. Paper: Eqs. 5.1
to 5.12.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from jaxbelt.physics.mixing_projections import Cells, lorentz_operator

__all__ = ["alpha", "alpha_rate", "alpha_steady", "anisotropy_jump", "growth_rate", "krook_rates", "mode_matrix"]


def _ratio(a, b):
    return jnp.where(b > 0, a / jnp.where(b > 0, b, 1.0), 0.0)


def alpha_steady(nu_par, nu_xi):
    """alpha = nu_par/(nu_par + nu_xi) (5.8): the anisotropic part of f = (1 - alpha) <g>_xi + alpha <g>_par; 0 where both are 0.
    """
    return _ratio(jnp.asarray(nu_par, float), jnp.asarray(nu_par, float) + nu_xi)


def alpha_rate(alpha, nu_par, nu_xi):
    """d alpha/dt = nu_par (1 - alpha) - nu_xi alpha (5.7)."""
    return nu_par * (1.0 - alpha) - nu_xi * alpha


def alpha(t, nu_par, nu_xi, start=0.0):
    """The solution of (5.7) with constant rates from alpha = start at t = 0; start unchanged where both rates are 0."""
    steady = alpha_steady(nu_par, nu_xi)
    return start + (steady - start) * -jnp.expm1(-(jnp.asarray(nu_par) + nu_xi) * t)


def krook_rates(lam, nu_par, nu_xi):
    r"""(slow, fast) rates of the Krook model (5.2) for the eigenvalue lam of delta g:  Lam (Lam + nu_par + nu_xi) = nu_par nu_xi
    lam.

    Exact: with g = <f>_xi and p = <<f>_par>_xi the model is g_t = nu_par (p - g), p_t = nu_xi (g + delta g - p). (5.10), which
    gives 10 nu_par G for the energy (lam = `energy_rate(h)`), exceeds the slow rate by about nu_par nu_xi lam/(nu_par +
    nu_xi)^2.
    """
    total = jnp.asarray(nu_par, float) + nu_xi
    product = jnp.asarray(nu_par) * nu_xi * lam
    root = jnp.sqrt(total**2 + 4.0 * product)
    return _ratio(2.0 * product, total + root), -0.5 * (total + root)


def anisotropy_jump(nu_par, nu_xi):
    """(nu_par/(nu_par + nu_xi))^2: by how many delta g the slow part of an isotropic start differs from it, to first order in
    delta g (the initial layer; a start on f = (1 - alpha) g + alpha <g>_par, alpha of (5.8), has none).
    """
    return alpha_steady(nu_par, nu_xi) ** 2


def mode_matrix(grid: Cells, s, nu_par, nu_xi=0.0, nu_L=0.0):
    """The kinetic operator on f = v^-s F(xi), (n_xi, n_xi): nu_par (<.>_par - 1) + nu_xi (<.>_xi - 1) + (nu_L/2) d_xi (1 - xi^2)
    d_xi.

    Exactly what the cells of `grid` do away from the walls. NumPy, on the host: s and the rates are numbers.
    """
    w, m = grid["xi"].measure, grid.trapped
    n = w.size
    level = np.log1p(grid.h) / m * np.arange(m + 1)
    par = np.eye(n)
    weights = w[: m + 1] * np.exp(0.5 * (3.0 - s) * level)
    par[: m + 1, : m + 1] = np.outer(np.exp(0.5 * s * level), weights) / np.sum(w[: m + 1] * np.exp(1.5 * level))
    return nu_par * (par - np.eye(n)) + nu_xi * (np.tile(w / w.sum(), (n, 1)) - np.eye(n)) + nu_L * lorentz_operator(grid)[0]


def growth_rate(grid: Cells, s, nu_par, nu_xi=0.0, nu_L=0.0):
    """Growth rate of the slow mode of v^-s, the largest eigenvalue of `mode_matrix`; s = -2 is the energy: exp(growth_rate t)."""
    values = np.linalg.eigvals(mode_matrix(grid, s, nu_par, nu_xi, nu_L))
    return float(np.max(values.real))
