r"""The kinetic equation of parallel mixing with pitch-angle scattering (J. Plasma Phys. 87 (2021), Eq. 5.2).

    df/dt = nu_par (<f>_par - f) + nu_xi (<f>_xi - f) + (nu_L/2) d_xi( (1 - xi^2) d_xi f )

f(t, v, xi), even in xi = v_par/v: electrons in magnetic wells of depth h = B_T/B_0 - 1. <f>_par: mean over v_par at fixed v_perp
of the trapped ones (E_par < h E_perp), which trapping and detrapping mix at the rate nu_par; <f>_xi: mean over xi at fixed v,
the Krook model of pitch-angle scattering; nu_L: Lorentz scattering, instead or besides. <f>_xi obeys velocity diffusion
(`jaxbelt.velocity`) with D = nu_par v^2 G approximately, `jaxbelt.two_field` exactly. Dimensionless: v in any unit v0, t in the
inverse of the rates' unit. Good values: h 0.1 to 4, trapped = 8, nu_xi/nu_par 0.01 to 10.

As flows: all of it by one exact, positive exponential (`MixingSeries`), at any step. Where Lorentz scattering on these cells is
too fast for that, it is a line solve in xi, composed with the Krook terms by Strang (second order; less where a step is longer
than it takes to scatter across the boundary layer). f >= 0, number kept to round-off, walls in v closed.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxbelt.coefficients import evaluate, is_steady, parameters
from jaxbelt.equations._mixing_checks import bound_of_step, check_rates, rate_bound
from jaxbelt.flows import LineDiffusion
from jaxbelt.flows.series import MixingSeries
from jaxbelt.physics.mixing_projections import (
    Cells,
    LorentzStep,
    ParallelMean,
    PitchMean,
    cells,
    lorentz_conductance,
    lorentz_operator,
    pitch_average,
)
from jaxbelt.solve import make_problem

__all__ = ["Parameters", "flows", "grid", "isotropic", "moment", "problem", "start"]

grid = cells
_MOST = 2000.0             # rates times step up to which Lorentz scattering joins the exponential


@parameters
class Parameters:
    """nu_par, nu_xi, nu_L [1/time] >= 0: numbers, `Series` or functions of t; None: absent. h belongs to the grid.

    nu_par: parallel mixing; nu_xi: Krook scattering; nu_L: Lorentz scattering (the second Legendre polynomial decays at 3 nu_L).
    """

    nu_par: Any = None
    nu_xi: Any = None
    nu_L: Any = None


def problem(grid, parameters, *, split=None, epoch=None):
    """The problem to solve. split: whether Lorentz scattering is a flow of its own; None: where the joint exponential would need
    more than 2000 terms a step.

    Build it with numbers; inside jit and grad use `replace(parameters=...)`. Rates traced when it is built are planned for
    sum of rates times step <= 8, and rates beyond a plan give NaN and `Result.substeps_exceeded`.
    Raises ValueError, naming the entry, for a negative rate, no rate at all, or a grid of another kind.
    """
    if not isinstance(grid, Cells):
        raise ValueError("grid: needs the aligned cells of kinetic.grid(h, ...)")
    p = parameters
    check_rates(p, ("nu_par", "nu_xi", "nu_L"))
    if p.nu_par is None and p.nu_xi is None and p.nu_L is None:
        raise ValueError("parameters: give nu_par, and nu_xi or nu_L; got none of them")
    plan = rate_bound(p.nu_par, p.nu_xi), rate_bound(p.nu_L), split
    return make_problem(flows, grid, p, epoch=epoch, equation="kinetic", time_unit="1",
                        quantity=("f", "1", "electron distribution"), plan=plan)


def recheck(made):
    """What `problem` checks, for one whose values were replaced; raises ValueError as it does."""
    problem(made.grid, made.parameters, split=made.plan[2])


def flows(problem, t, dt):
    """The flows of one step (see the module's docstring)."""
    p, grid = problem.parameters, problem.grid
    krook, lorentz, split = problem.plan
    parts = [(ParallelMean(grid), p.nu_par, 1.0), (PitchMean(grid), p.nu_xi, 1.0)]
    rates = [p.nu_par, p.nu_xi]
    if p.nu_L is not None:
        most = lorentz_operator(grid)[1]
        if split is None and lorentz is None and any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(p.nu_L)):
            raise ValueError("nu_L: is traced, so that how to advance it cannot be chosen; build the problem with numbers and "
                             "use problem.replace(parameters=...), or give split=True")
        if split is None:
            split = lorentz is None or problem.dt_max is None or lorentz * most * problem.dt_max > _MOST
        if not split:
            parts.append((LorentzStep(grid), p.nu_L, most))
            rates.append(p.nu_L)
            krook = None if krook is None or lorentz is None else krook + most * lorentz
    parts = [part for part in parts if part[1] is not None]
    out = []
    if parts:
        out.append(MixingSeries(projects=tuple(a for a, _, _ in parts), rates=tuple(c * evaluate(r, t) for _, r, c in parts),
                                bound=bound_of_step(krook, problem.dt_max), steady=is_steady(*rates)))
    if p.nu_L is not None and split:
        up = evaluate(p.nu_L, t) * jnp.asarray(lorentz_conductance(grid))
        out.append(LineDiffusion(axis="xi", up=up, steady=is_steady(p.nu_L),
                                 method="exponential" if grid["xi"].n <= 96 else "tr-bdf2"))
    return out


def start(grid, g, alpha=0.0):
    """f = (1 - alpha) <g>_xi + alpha <g>_par (5.1) for g(v), shape (n_v,); alpha = 0: isotropic."""
    f = jnp.broadcast_to(jnp.asarray(g, float)[:, None], grid.shape)
    return (1.0 - alpha) * f + alpha * ParallelMean(grid)(f)


def moment(grid, f, power=2.0):
    """Integral of v^power f over velocity space; power 0: number density, 2: energy (twice, per mass). f: (..., n_v, n_xi)."""
    return 4.0 * jnp.pi * grid.content(f * (1.0 if power == 0 else grid.centers("v") ** power))


def isotropic(grid, f):
    """g(v) = <f>_xi."""
    return pitch_average(grid, f)
