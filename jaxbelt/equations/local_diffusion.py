r"""Drift and diffusion in (L, phi) together with local diffusion in pitch angle and momentum (Lejosne & Albert 2023, Eq. 29).

    dF/dt + Ldot F_L + phidot F_phi = L^2 d_L[ (D_LL F_L + D_Lphi F_phi)/L^2 ] + d_phi[ D_Lphi F_L + D_phiphi F_phi ]
        + (1/G) sum_ij d_i [ G D_ij d_j F ] + (1/G) d_lnp[ G k F ] + S - F/tau,        i, j in (alpha, ln p)

F(t, L, phi, alpha, lnp): phase space density on labels: equatorial pitch angle alpha and ln p that particles have at the
reference L, a bijection of (mu, K) (`physics.labels`). Transport acts at fixed label, nothing is interpolated; the local tensor
at (L, phi) is carried into the labels, D' = J D J^T, where G = p^3 T(sin alpha) sin(2 alpha) is the measure of both. phi, or L
and phi, may be absent: (L, alpha, lnp) is the three-dimensional model of drift-averaged belts, (alpha, lnp) local diffusion at
one L.
Units: t, dt in seconds; D and k in 1/day; lifetimes in days; sources in F per day; E in MeV, alpha in radians.

As flows: those of `drift_diffusion` at every label; the energy loss as a drift along ln p; the local tensor unsplit in planes
(alpha, ln p) on the Selling stencil, with the loss cone on its diagonal. Planes that differ in nothing (in phi, where the waves
do not depend on MLT) share their factors.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbelt.coefficients import evaluate, is_steady, parameters
from jaxbelt.constants import EARTH, SECONDS_PER_DAY
from jaxbelt.constants import species as as_species
from jaxbelt.equations import drift_diffusion as dd
from jaxbelt.equations._local_plan import Plan, check_axes, checked
from jaxbelt.flows import Advection, LineDiffusion, Reaction
from jaxbelt.flows.tensor import TensorDiffusion
from jaxbelt.physics import labels
from jaxbelt.physics.dipole import KineticEnergy
from jaxbelt.physics.invariants import energy_of_momentum, momentum
from jaxbelt.physics.label_grid import LabelGrid, add_coordinates, label_axes
from jaxbelt.physics.losses import LossConeLifetime
from jaxbelt.physics.losses import rate as loss_rate
from jaxbelt.solve import make_problem

__all__ = ["LabelGrid", "LocalTensor", "Parameters", "add_coordinates", "flows", "grid", "kinetic_energy", "loss_cone",
           "problem", "tensor_in_labels"]

_FEW, _LONG = 64, 128      # matrices of lines in L that are worth having, and their largest size
_MOST = 1e4                # MeV
_WALLS = ("inner", "outer", "low_alpha", "low_p", "high_p")


@parameters
class Parameters(dd.Parameters):
    """What `drift_diffusion.Parameters` has, evaluated at (t, L[, phi]) with values for every label where they depend on it
    (arrays inside a model broadcast: `mu=grid.mu()`), and

    local: diffusion by waves, a callable of (t, alpha [rad], E [MeV], L[, phi]) that returns (D_aa, D_ap/p, D_pp/p^2) [1/day]
    (a `WaveTable`, a `LocalTensor`), or a tuple of such, which are added. loss_cone: lifetime [day] on the diagonal of the local
    solve, for losses faster than a step (`loss_cone(grid)`). energy_loss: k = -d(ln p)/dt [1/day] at fixed pitch angle, a number,
    or a callable of (t, alpha, E, L[, phi]). lifetime, source: on the diagonal of the line solves in L.
    """

    local: Any = None
    loss_cone: Any = None
    energy_loss: Any = None


@parameters
class LocalTensor:
    """A local tensor from its entries: daa = D_aa, dap = D_ap/p, dpp = D_pp/p^2 [1/day], in the pitch angle and ln p that
    particles have at L: numbers, arrays on the grid, or callables of (t, alpha, E, L[, phi]). factor: on all three."""

    daa: Any = 0.0
    dap: Any = 0.0
    dpp: Any = 0.0
    factor: Any = 1.0

    def __call__(self, t, alpha, energy, L, *phi):
        factor = evaluate(self.factor, t, L, *phi)
        return tuple(factor * evaluate(d, t, alpha, energy, L, *phi) for d in (self.daa, self.dap, self.dpp))


def grid(L=None, *, alpha=(0.0873, 0.5 * math.pi), energy=None, p=None, cells, L_ref=None, species="electron",
         spacing="log") -> LabelGrid:
    """Cells in (L, phi, alpha, lnp), (L, alpha, lnp) or (alpha, lnp), by the length of `cells`.

    L: (inner, outer) walls, with `spacing` as in `drift_diffusion.grid`; absent for two axes. L_ref: where the labels belong to,
    by default the outer wall; needed for two axes. alpha: (lowest, highest) equatorial pitch angle at L_ref [rad], equal cells
    up to at most pi/2; 5 to 90 degrees by default. energy: (lowest, highest) kinetic energy [MeV], or p: p c [MeV], at L_ref,
    equal cells in ln p. At smaller L the same labels have higher energies: p grows as L^-3/2 at 90 degrees.
    Raises ValueError, one line, where a number cannot be.
    """
    given = tuple(np.atleast_1d(cells).tolist())
    if len(given) not in (2, 3, 4) or any(float(n) != int(n) or n < 2 for n in given):
        raise ValueError(f"cells: needs (n_L, n_phi, n_alpha, n_p), (n_L, n_alpha, n_p) or (n_alpha, n_p), whole numbers of at "
                         f"least 2, got {given}")
    cells = tuple(int(n) for n in given)
    if len(cells) == 2:
        if L is not None or L_ref is None:
            raise ValueError("cells: two numbers are (alpha, lnp) at one L: give that as L_ref, and no L; with L give three "
                             "(L, alpha, lnp) or four (L, phi, alpha, lnp)")
        space = ()
    else:
        if L is None:
            raise ValueError(f"L: needs (inner, outer) walls, because cells has {len(cells)} numbers (two would be alpha and lnp "
                             "at L_ref)")
        space = dd.grid(L, cells[:-2], spacing=spacing).axes
        L_ref = space[0].faces[-1] if L_ref is None else L_ref
    if not (math.isfinite(L_ref) and L_ref >= 1.0):
        raise ValueError(f"L_ref: must be at least 1, got {L_ref:g}")
    lo, hi = _two("alpha", alpha)
    if not 0.0 < lo < hi <= 0.5 * math.pi * (1 + 1e-12):
        raise ValueError(f"alpha: needs 0 < lowest < highest <= pi/2 [rad], got ({lo:g}, {hi:g})" +
                         ("; degrees given?" if hi > 2.0 else ""))
    species = as_species(species)
    if (energy is None) == (p is None):
        raise ValueError("energy, p: give one of the two")
    name, ends = ("energy", energy) if p is None else ("p", p)
    ends = _two(name, ends)
    if ends[1] > _MOST:
        raise ValueError(f"{name}: {ends[1]:g} MeV is beyond any belt; keV given?")
    if not 0.0 < ends[0] < ends[1] < math.inf:
        raise ValueError(f"{name}: needs 0 < lowest < highest [MeV], got ({ends[0]:g}, {ends[1]:g})")
    first, last = (math.log(float(momentum(x, species)) if p is None else x) for x in ends)
    angles = np.linspace(lo, min(hi, 0.5 * math.pi), cells[-2] + 1)
    return LabelGrid((*space, *label_axes(angles, np.linspace(first, last, cells[-1] + 1))), L_ref=float(L_ref), species=species)


def _two(name, ends) -> tuple[float, float]:
    """Two numbers, or a ValueError."""
    if np.shape(ends) != (2,):
        raise ValueError(f"{name}: needs two numbers, (lowest, highest), got {ends}")
    return float(ends[0]), float(ends[1])


def kinetic_energy(grid: LabelGrid, planet=EARTH) -> KineticEnergy:
    """T/q of every label, whose drift is the gradient-curvature drift: `Parameters(kinetic=kinetic_energy(grid))`."""
    return KineticEnergy(mu=grid.mu(planet), K=grid.K(planet), species=grid.species, planet=planet)


def loss_cone(grid: LabelGrid, altitude=100.0, planet=EARTH) -> LossConeLifetime:
    """The lifetime T_b/4 of what mirrors below an altitude [km]: `Parameters(loss_cone=loss_cone(grid))`.

    A cell is in the loss cone if its centre is: let a few cells lie inside (`problem` warns where there is none)."""
    return LossConeLifetime(energy=np.asarray(grid.energy()), pitch_angle=np.asarray(grid.alpha()), altitude=altitude,
                            species=grid.species, planet=planet)


def problem(grid: LabelGrid, parameters: Parameters, *, inner="no flux", outer="no flux", low_alpha="no flux", low_p="no flux",
            high_p="no flux", epoch=None, planet=None):
    """The problem to solve. inner, outer: the walls in L as in `drift_diffusion.problem` (values: a number, an array over the
    other axes, a `Series`, or a `jb.function` of (t, *other coordinates)).

    low_alpha, low_p, high_p: the walls of the labels, "no flux" or the value of F there (0: empty; a spectrum: a supply of
    seed electrons). At 90 degrees nothing goes through. epoch: the date of t = 0.
    Raises ValueError where a coefficient is negative or not finite, the local tensor is not positive semi-definite (within 1 %
    it is projected, with a warning), energies or L lie outside a wave table, the drift crosses a no-flux wall.
    """
    if not isinstance(parameters, Parameters):
        kind = type(parameters)
        raise ValueError(f"parameters: needs local_diffusion.Parameters, got {kind.__module__.split('.')[-1]}.{kind.__name__}")
    if not isinstance(grid, LabelGrid):
        raise ValueError("grid: needs a grid of labels, made with local_diffusion.grid")
    parameters = dd._one_planet(parameters, planet)
    if isinstance(parameters.local, (list, tuple)):
        parameters = parameters.replace(local=tuple(parameters.local))
    walls = dict(zip(_WALLS, (inner, outer, low_alpha, low_p, high_p)))
    kinds, boundary = {}, {}
    for name, value in walls.items():
        allowed = ("no flux", "open") if name in ("inner", "outer") else ("no flux",)
        if value is None or isinstance(value, str) and value not in allowed:
            raise ValueError(f"{name}: {value!r} is unknown; give a value of F or {' or '.join(map(repr, allowed))}")
        kinds[name] = value if isinstance(value, str) else "value"
        if not isinstance(value, str):
            boundary[name] = value
    check_axes(grid, parameters, kinds)
    made = make_problem(flows, grid, parameters, boundary=boundary, epoch=epoch, equation="local_diffusion",
                        quantity=("psd", "1", "phase space density at fixed mu and K"), plan=Plan(**kinds))
    if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves((made.parameters, made.boundary))):
        return made
    return checked(made, tensor_in_labels)


def recheck(problem):
    """What `problem` checks of coefficients and walls, for one whose values were replaced; raises ValueError as it does."""
    checked(problem, tensor_in_labels)


def tensor_in_labels(grid: LabelGrid, waves, t):
    """(D_aa, D_ap, D_pp) [1/day] of all waves in (alpha, ln p) of the labels, broadcastable to an array on the grid."""
    local = grid.local()
    parts = waves if isinstance(waves, tuple) else (waves,)
    total = [sum(d) for d in zip(*(wave(t, *local) for wave in parts))]
    return labels.tensor_in_labels(grid.place(), *total)


def _index_tensor(grid: LabelGrid, waves, t, axes):
    """(W11, W12, W22) [volume/s] of the local tensor for the planes of `axes`: see `TensorDiffusion`."""
    daa, dap, dpp = tensor_in_labels(grid, waves, t)
    ha, hp = (grid.along(x, np.diff(grid[x].faces)) for x in ("alpha", "lnp"))
    volume = grid.volumes_compact / SECONDS_PER_DAY
    w = {"alpha": volume * daa / ha**2, "lnp": volume * dpp / hp**2}
    return w[axes[0]], volume * dap / (ha * hp), w[axes[1]]


def flows(problem, t, dt):
    """The flows of one step, outermost first (see the module's docstring)."""
    prm, grid = problem.parameters, problem.grid
    space = "L" in grid.names
    out = [_whole(grid, x) for x in dd.flows(problem, t, dt)] if space else []
    if prm.energy_loss is not None:
        out = [*out, _energy_loss(problem, t)]
    diagonal = {} if space else {"lifetime": prm.lifetime, "source": prm.source}
    at = grid.local()[2:]
    losses = [loss_rate(x, t, *at) / SECONDS_PER_DAY for x in (prm.loss_cone, diagonal.get("lifetime")) if x is not None]
    loss = sum(losses[1:], losses[0]) if losses else None
    source = None if diagonal.get("source") is None else evaluate(prm.source, t, *at) / SECONDS_PER_DAY
    steady = is_steady(prm.local, prm.loss_cone, *diagonal.values())
    if prm.local is None:
        if loss is not None or source is not None:
            out = [*out, Reaction(loss=0.0 if loss is None else loss, source=0.0 if source is None else source, steady=steady)]
        return out
    axes, walls = problem.plan.plane, problem.boundary
    w11, w12, w22 = _index_tensor(grid, prm.local, t, axes)
    ends = {"alpha": (walls.get("low_alpha"), None), "lnp": (walls.get("low_p"), walls.get("high_p"))}
    (lower, upper), (lower_b, upper_b) = (ends[x] for x in axes)
    return [*out, TensorDiffusion(axes=axes, w11=w11, w12=w12, w22=w22, loss=loss, source=source, lower=lower, upper=upper,
                                  lower_b=lower_b, upper_b=upper_b, steady=steady, rows=problem.plan.plane_rows,
                                  cap=max(32, grid[axes[1]].n))]


def _whole(grid, flow):
    """Lines in L that all labels share are advanced by one exact matrix: a product, which a solve row by row is not."""
    if not isinstance(flow, LineDiffusion) or flow.axis != "L" or grid["L"].n > _LONG:
        return flow
    shapes = (jnp.shape(x)[1:] for x in (flow.up, flow.loss) if x is not None)
    lines = math.prod(jnp.broadcast_shapes(*shapes))
    return dataclasses.replace(flow, method="exponential") if lines <= _FEW else flow


def _energy_loss(problem, t) -> Advection:
    """The drift along ln p, from its rate on the faces."""
    prm, grid = problem.parameters, problem.grid
    place = grid.place()
    energy = energy_of_momentum(jnp.exp(grid.faces("lnp") + place.log_p), grid.species)
    rate = evaluate(prm.energy_loss, t, *(place.alpha, energy, *grid.local()[2:]))
    rate = rate.reshape((1,) * (grid.ndim - rate.ndim) + rate.shape)
    if rate.shape[-1] == 1:
        rate = jnp.broadcast_to(rate, (*rate.shape[:-1], grid["lnp"].n + 1))
    elif not callable(prm.energy_loss) and rate.shape[-1] == grid["lnp"].n:      # an array on cells
        rate = 0.5 * (jnp.concatenate([rate[..., :1], rate], -1) + jnp.concatenate([rate, rate[..., -1:]], -1))
    walls = problem.boundary
    return Advection(axis="lnp", speed=-rate / SECONDS_PER_DAY, lower=walls.get("low_p"), upper=walls.get("high_p"),
                     steady=is_steady(prm.energy_loss))
