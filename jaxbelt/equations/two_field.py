r"""The Krook model of parallel mixing as two fields of v, exactly (from J. Plasma Phys. 87 (2021), Eq. 5.2).

    dg/dt = nu_par (p - g),    dp/dt = nu_xi (g + delta g - p),    g = <f>_xi,  p = <<f>_par>_xi,  delta g = <<g>_par>_xi - g

Averages of the kinetic equation close on these two fields because both averages are projections. delta g (4.1) is a
scale-invariant integral operator in ln v; on v^-s its eigenvalue is lam(s) (`mixing_projections.eigenvalue`). Invariant:
nu_xi N_g + nu_par N_p, with N_g the number of particles. Dimensionless: v in any unit v0, t in the inverse of the rates' unit.

delta g is built on cells of ln v that do not depend on h, so that everything here is differentiable in h: trapped electrons of
energy E are shared, linearly in E_perp/E, between neighbouring cells of ln E_perp. That makes a non-negative, self-adjoint,
number-conserving operator with lam(0) = lam(3) = 0; one factor, below 1, sets lam(-2) = lam(5) = (2/9) h (h/(1+h))^(3/2). So
number and energy are exact on any cells, other powers to second order. As a flow: both fields together by their exact positive
exponential.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbelt.coefficients import Series, evaluate, is_steady, parameters
from jaxbelt.equations import velocity
from jaxbelt.equations._mixing_checks import bound_of_step, check_rates, rate_bound
from jaxbelt.flows.series import MixingSeries
from jaxbelt.grid import Axis, Grid
from jaxbelt.physics.mixing_projections import Cells, energy_rate, pair_eigenvalue, parallel_average, pitch_average
from jaxbelt.solve import make_problem

__all__ = ["Parameters", "delta_operator", "fields", "flows", "grid", "invariant", "moment", "problem", "reduced", "start"]


@parameters
class Parameters:
    """nu_par, nu_xi [1/time] >= 0 and h > 0: numbers, `Series` or functions of t. Instead of h, `weights`: those of the trapped
    nodes of a kinetic grid (`reduced`), whose own operator is then used.
    """

    nu_par: Any = None
    nu_xi: Any = None
    h: Any = None
    weights: Any = None


def _with_fields(axis) -> Grid:
    return Grid((Axis.nodes("field", [0, 1], long_name="0: g = <f>_xi, 1: p = <<f>_par>_xi"), axis))


def grid(v=(0.05, 50.0), cells=512) -> Grid:
    """(field, v): cells uniform in ln v, as in `velocity.grid`. A step of ln v of ln(1+h)/8 or less resolves the wells; where it
    is longer, number and energy stay exact."""
    return _with_fields(velocity.grid(v, cells)["v"])


def problem(grid, parameters, *, epoch=None):
    """The problem to solve; walls in v are closed. Build it with numbers; inside jit and grad use `replace(parameters=...)`:
    rates traced when it is built are planned for (nu_par + nu_xi) dt <= 8, and rates beyond a plan give NaN, no wrong number.

    Raises ValueError, naming the entry, for a negative rate, h that is not positive or so large that (1+h) E does not fit on the
    grid, and where not exactly one of h and weights is given.
    """
    if grid.names != ("field", "v"):
        raise ValueError(f"grid: needs the axes (field, v) of two_field.grid, got {grid.names}")
    check_rates(parameters, ("nu_par", "nu_xi"))
    if parameters.nu_par is None or parameters.nu_xi is None:
        raise ValueError("parameters: needs both nu_par and nu_xi")
    if (parameters.h is None) == (parameters.weights is None):
        raise ValueError("parameters: give either h, or the weights of a kinetic grid (two_field.reduced)")
    if parameters.h is not None:
        h = parameters.h.values if isinstance(parameters.h, Series) else parameters.h
        if callable(h) and not any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(h)):
            h = evaluate(h, 0.0)
        if not callable(h) and not isinstance(h, jax.core.Tracer):
            h, span = np.asarray(h), (grid["v"].centers[-1] / grid["v"].centers[0]) ** 2
            bad = ~((h > 0) & (1.0 + h < span))
            if np.any(bad):
                raise ValueError("h: must be positive (h = B_T/B_0 - 1), with 1 + h below the range of E on the grid, "
                                 f"{span:.4g}; got {h[bad].ravel()[0] if h.ndim else float(h):g}")
    elif np.shape(parameters.weights)[0] > grid["v"].n:
        raise ValueError(f"weights: {np.shape(parameters.weights)[0]} of them do not fit {grid['v'].n} cells of v")
    return make_problem(flows, grid, parameters, epoch=epoch, equation="two_field", time_unit="1",
                        quantity=("g", "1", "isotropic electron distribution and its mixed partner"),
                        plan=rate_bound(parameters.nu_par, parameters.nu_xi))


def recheck(made):
    """What `problem` checks, for one whose values were replaced; raises ValueError as it does."""
    problem(made.grid, made.parameters)


def reduced(kinetic_problem):
    """The two-field problem that a kinetic problem (Krook) reduces to on its own cells, to round-off."""
    cells, p = kinetic_problem.grid, kinetic_problem.parameters
    if not isinstance(cells, Cells) or p.nu_L is not None or p.nu_par is None or p.nu_xi is None:
        raise ValueError("reduced: only the Krook model (nu_par and nu_xi, no nu_L) reduces to two fields exactly")
    weights = jnp.asarray(cells["xi"].measure[: cells.trapped + 1])
    return problem(_with_fields(cells["v"]), Parameters(nu_par=p.nu_par, nu_xi=p.nu_xi, weights=weights))


def fields(cells, f):
    """(g, p) of a kinetic f on its grid: shape (2, n_v)."""
    m, w = cells.trapped, cells["xi"].measure
    strips = parallel_average(cells, f)
    n = cells.shape[0]
    trapped = sum(w[k] * strips[m - k:m - k + n] for k in range(m + 1))
    return jnp.stack([pitch_average(cells, f), (trapped + f[:, m + 1:] @ jnp.asarray(w[m + 1:])) / w.sum()])


def _trapped_weights(h, step, n):
    """w_k, k = 0..n-1: the share of xi of trapped electrons at E_perp = E exp(-k step), shared linearly in E_perp/E."""
    u = -np.expm1(-step * np.arange(n + 1))
    xi = np.sqrt(u)
    top = jnp.sqrt(h / (1.0 + h))
    a, b = xi[:-1], jnp.clip(top, xi[:-1], xi[1:])
    # integrals of (1 - c) and c, c = (xi^2 - u_k)/(u_(k+1) - u_k), from xi_k to b: products of non-negative numbers
    length = b - a
    above = length**2 * (b + 2.0 * a) / 3.0 / np.diff(u)
    return (length - above) + jnp.concatenate([jnp.zeros(1), above[:-1]])


def delta_operator(v, *, h=None, weights=None):
    """(n, n) matrix of delta: delta g = <<g>_par>_xi - g on the cells of the axis v, closed walls; differentiable in h.

    1 + delta is non-negative and keeps number; (V delta) is symmetric; rows sum to 0 (constants stay).
    """
    n, volume = v.n, v.measure
    step = 2.0 * math.log(v.faces[-1] / v.faces[0]) / n
    factor = 1.0
    if weights is None:
        w = _trapped_weights(jnp.asarray(h, float), step, n)
        factor = energy_rate(h) / pair_eigenvalue(w, step, -2.0)
    else:
        w = jnp.zeros(n).at[: len(weights)].set(weights)
    # strip j holds the electrons of one E_perp, node i = j + k of them with weight w_k; those of a wall hold what is there
    k = np.arange(n)[:, None] - np.arange(1 - n, n)[None, :]
    share = jnp.where((k >= 0) & (k < n), w[np.clip(k, 0, n - 1)], 0.0)
    held = volume @ share
    mean = (share * volume[:, None] / jnp.where(held > 0, held, 1.0)).T
    return factor * (share @ mean - jnp.diag(jnp.sum(share, axis=1)))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Feed:
    """(g, p) -> (p, p) where `mixed` is None, else (g, mixed g)."""

    mixed: Any = None

    def __call__(self, z):
        g, p = z[0], z[1]
        return jnp.stack([p, p] if self.mixed is None else [g, self.mixed @ g])


def flows(problem, t, dt):
    """The flow of one step (see the module's docstring)."""
    p, v = problem.parameters, problem.grid["v"]
    mixed = jnp.eye(v.n) + delta_operator(v, h=None if p.h is None else evaluate(p.h, t), weights=p.weights)
    return [MixingSeries(projects=(_Feed(), _Feed(mixed)), rates=(evaluate(p.nu_par, t), evaluate(p.nu_xi, t)),
                         steady=is_steady(p.nu_par, p.nu_xi, p.h), exchange="exchange",
                         bound=bound_of_step(problem.plan, problem.dt_max))]


def start(problem, g, alpha=0.0):
    """(g, p) of f = (1 - alpha) <g>_xi + alpha <g>_par (5.1) for g(v) at t = 0: (g + alpha delta g, g + delta g)."""
    p, g = problem.parameters, jnp.asarray(g, float)
    delta = delta_operator(problem.grid["v"], h=None if p.h is None else evaluate(p.h, 0.0), weights=p.weights) @ g
    return jnp.stack([g + alpha * delta, g + delta])


def moment(grid, z, power=2.0):
    """Integral of v^power over velocity space of g and p: (..., 2); power 0 of g is the number density. z: (..., 2, n_v)."""
    v = grid["v"]
    return 4.0 * np.pi * (z @ jnp.asarray(v.measure * (1.0 if power == 0 else v.centers**power)))


def invariant(problem, z):
    """nu_xi N_g + nu_par N_p, constant where the rates are (at t = 0)."""
    n = moment(problem.grid, z, 0)
    return evaluate(problem.parameters.nu_xi, 0.0) * n[..., 0] + evaluate(problem.parameters.nu_par, 0.0) * n[..., 1]
