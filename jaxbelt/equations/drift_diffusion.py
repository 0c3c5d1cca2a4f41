"""The (L, phi) drift-diffusion equation of drift-phase-resolved radiation belts (Lejosne & Albert 2023, Eq. 27).

    dF/dt + Ldot F_L + phidot F_phi = L^2 d_L[ (D_LL F_L + D_Lphi F_phi)/L^2 ] + d_phi[ D_Lphi F_L + D_phiphi F_phi ] + S - F/tau

F(t, L, phi): phase space density at fixed first and second invariants, per unit Euler-potential surface (measure dL dphi/L^2).
The drift comes from a Hamiltonian H(L, phi, t) = T/q + U and is divergence-free in that measure. With one axis this is the
radial diffusion equation (Eq. 7). Units: t, dt in seconds; D in 1/day; lifetimes in days; sources in F per day.
phi = 0 at midnight, eastward [rad]; MLT = 12 phi/pi hours.

As flows: exact rings for H0(L) and D_phiphi(L); WENO5-Z transport for H1(L, phi, t); line solves in L for D_LL with loss and
source on their diagonal; a full tensor (Selling stencil) where D_Lphi is given.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbelt.coefficients import evaluate, is_steady, parameters
from jaxbelt.constants import EARTH
from jaxbelt.equations._drift_plan import Plan, check_shapes, checked, index_tensor
from jaxbelt.flows import LineDiffusion, Reaction, Rotation, Transport
from jaxbelt.flows.tensor import TensorDiffusion
from jaxbelt.flows.weights import line_conductances
from jaxbelt.grid import Axis, Grid
from jaxbelt.nodes import at_node, join, mapped
from jaxbelt.physics.drift import TurnedWall, Wave, edge_rate, perturbation, rotation_rate, streams, transport_mesh
from jaxbelt.physics.losses import rate as loss_rate
from jaxbelt.solve import make_problem

__all__ = ["Parameters", "Wave", "flows", "grid", "problem"]

DAY = 86400.0
_LINES_LIMIT = 1.0         # conductance * dt/V up to which the tensor is split into lines,
_MOST_LINES = 12           # and the number of offsets


@parameters
class Parameters:
    """What can be fitted or swept. Every entry: a number, an array on the grid, a `Series`, or a callable of (t, L[, phi]).

    dll: D_LL [1/day]; dlphi: D_Lphi = D_phiL [rad/day]; dphiphi: D_phiphi [rad^2/day]; None: absent.
    kinetic: T/q [V], callable of (t, L) (`dipole.KineticEnergy`) or (n_L + 1, 1) on L faces.
    potential: U [V], callable of (t, L, phi), or an array on corners (n_L + 1, n_phi), corner j at phi = 2 pi (j+1)/n_phi.
    waves: tuple of `Wave`. phidot [rad/s] and ldot [1/s]: drift given directly; phidot(L) may stand alone.
    lifetime [day]; source [F/day] (F stays >= 0 where it is >= 0). planet: B_E, R_E for the drift of H.
    """

    dll: Any = None
    dlphi: Any = None
    dphiphi: Any = None
    kinetic: Any = None
    potential: Any = None
    waves: tuple = ()
    phidot: Any = None
    ldot: Any = None
    lifetime: Any = None
    source: Any = None
    planet: Any = EARTH


def grid(L=(2.0, 7.0), cells=(200, 128), *, spacing="log", faces=None, mu=None, nodes=None) -> Grid:
    """Cells in L (and phi): `cells=(n_L, n_phi)`, or `cells=n_L` for the radial equation.

    L: inner and outer wall, >= 1. spacing of the L faces: "log" (uniform in ln L), "linear", "inverse" (uniform in 1/L);
    or give `faces` themselves. The volume of a cell is (1/L_lower - 1/L_upper) dphi exactly.
    mu: first invariants [MeV/G], increasing: a leading axis of nodes "mu"; f is solved for all of them at once. nodes: any
    other leading axis, `Axis.nodes("population", [0, 1])`. `problem` then wants Parameters for each.
    """
    if mu is not None:
        if nodes is not None:
            raise ValueError("mu, nodes: give one of the two")
        values = np.atleast_1d(np.asarray(mu, dtype=float))
        if values.ndim != 1 or not np.all(np.isfinite(values)) or values[0] <= 0 or np.any(np.diff(values) <= 0):
            raise ValueError(f"mu: needs positive, increasing numbers [MeV/G], got {values}")
        nodes = Axis.nodes("mu", values, unit="MeV/G", long_name="first adiabatic invariant")
    if nodes is not None:
        if not nodes.is_nodes:
            raise ValueError(f"nodes: {nodes.name!r} is an axis of cells; make it with Axis.nodes")
        return Grid((nodes, *grid(L, cells, spacing=spacing, faces=faces).axes))
    cells = tuple(np.atleast_1d(cells).tolist())
    if len(cells) not in (1, 2) or any(int(n) != n or n < 2 for n in cells):
        raise ValueError(f"cells: needs (n_L, n_phi) or n_L, whole numbers of at least 2, got {cells}")
    if faces is None:
        lo, hi = (float(x) for x in L)
        if not (math.isfinite(lo) and math.isfinite(hi) and lo < hi):
            raise ValueError(f"L: needs (inner, outer) with inner < outer, got ({lo:g}, {hi:g})")
        if lo < 1.0:
            raise ValueError(f"L: the inner wall must be at least 1 (the planet's surface), got {lo:g}")
        s = np.linspace(0.0, 1.0, int(cells[0]) + 1)
        match spacing:
            case "log":
                faces = lo * (hi / lo) ** s
            case "linear":
                faces = lo + (hi - lo) * s
            case "inverse":
                faces = 1.0 / (1.0 / lo + (1.0 / hi - 1.0 / lo) * s)
            case _:
                raise ValueError(f"spacing: {spacing!r} is unknown; use 'log', 'linear' or 'inverse'")
        faces[0], faces[-1] = lo, hi
    else:
        faces, spacing = np.asarray(faces, dtype=float), "given"
        if faces.ndim == 1 and faces.size and faces[0] < 1.0:
            raise ValueError(f"L: the inner wall must be at least 1 (the planet's surface), got {faces[0]:g}")
        if faces.shape != (int(cells[0]) + 1,):
            raise ValueError(f"faces: {int(cells[0])} cells in L need {int(cells[0]) + 1} faces, got shape {faces.shape}")
        if np.any(np.diff(faces) <= 0):
            raise ValueError(f"L: faces must increase, but {faces[1:][np.diff(faces) <= 0][0]:g} does not")
    a, b = faces[:-1], faces[1:]
    centers = {"log": np.sqrt(a * b), "inverse": 2.0 * a * b / (a + b)}.get(spacing, 0.5 * (a + b))
    axes = [Axis.cells("L", faces, measure=(b - a) / (a * b), centers=centers, long_name="L of the field line (Euler)")]
    if len(cells) == 2:
        n = int(cells[1])
        axes.append(Axis.cells("phi", 2 * np.pi * np.arange(n + 1) / n, unit="rad", measure=np.full(n, 2 * np.pi / n),
                               periodic=True, long_name="magnetic longitude, eastward from midnight"))
    return Grid(tuple(axes))


def problem(grid: Grid, parameters: Parameters, *, inner="no flux", outer="no flux", epoch=None, planet=None):
    """The problem to solve. inner, outer: "no flux", "open", or the value of F outside the wall.

    A value is a number, an array over phi, a `Series` or a `jb.function` of (t[, phi]). "open": what drifts out leaves, what
    drifts in is vacuum, nothing diffuses through. epoch: the date of t = 0.
    On a grid with a leading axis of nodes (mu, say) `parameters` is a list, one Parameters a node, or a function of the node's
    value that returns them; all of the same structure. inner and outer are shared, or lists. The problem's leaves then have a
    leading dimension (`nodes.stack`, `nodes.at_node`).
    Raises ValueError where a coefficient is negative or not finite, the tensor is not positive semi-definite (within 1 % it is
    projected, with a warning), given Ldot and phidot are divergent, or the drift crosses a no-flux wall.
    """
    if grid.axes[0].is_nodes:
        return _many(grid, parameters, inner, outer, epoch, planet)
    if not isinstance(parameters, Parameters):
        raise ValueError(f"parameters: needs drift_diffusion.Parameters, got {type(parameters).__name__}"
                         + ("; a list of them needs a grid with mu= or nodes=" if isinstance(parameters, (list, tuple)) else ""))
    parameters = _one_planet(parameters, planet)
    if isinstance(parameters.waves, Wave):
        parameters = parameters.replace(waves=(parameters.waves,))
    check_shapes(grid, parameters)
    if grid.ndim == 1:
        for name in ("dlphi", "dphiphi", "kinetic", "potential", "phidot", "ldot"):
            if getattr(parameters, name) is not None:
                raise ValueError(f"{name}: needs a phi axis; give grid cells=(n_L, n_phi)")
    kinds, boundary = {}, {}
    for name, value in (("inner", inner), ("outer", outer)):
        if isinstance(value, str):
            if value not in ("no flux", "open"):
                raise ValueError(f"{name}: {value!r} is unknown; give a value of F, 'no flux' or 'open'")
            kinds[name] = value
        else:
            if value is None:
                raise ValueError(f"{name}: give a value of F, 'no flux' or 'open'")
            kinds[name], boundary[name] = "value", value
    made = make_problem(flows, grid, parameters, boundary=boundary, epoch=epoch, equation="drift_diffusion",
                        quantity=("psd", "1", "phase space density at fixed mu and K"), plan=Plan(**kinds))
    if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves((made.parameters, made.boundary))):
        return made
    return checked(made)


def recheck(problem):
    """What `problem` checks of coefficients and walls, for one whose values were replaced; raises ValueError as it does."""
    if problem.grid.axes[0].is_nodes:
        for k in range(problem.grid.axes[0].n):
            recheck(at_node(problem, k))
        return
    check_shapes(problem.grid, problem.parameters)
    checked(problem)


def _many(grid, parameters, inner, outer, epoch, planet):
    """One problem a node, joined."""
    axis = grid.axes[0]

    def each(name, value):
        if not isinstance(value, (list, tuple)):
            return [value] * axis.n
        if len(value) != axis.n:
            raise ValueError(f"{name}: needs one entry for each of the {axis.n} nodes of {axis.name}, got {len(value)}")
        return value

    if isinstance(parameters, Parameters):
        raise ValueError(f"parameters: the grid has {axis.n} nodes of {axis.name}; give a list, one Parameters a node, or a "
                         f"function of {axis.name} that returns them")
    parameters = [parameters(x) for x in axis.centers] if callable(parameters) else each("parameters", parameters)
    made, plane = [], Grid(grid.axes[1:])
    for value, prm, low, high in zip(axis.centers, parameters, each("inner", inner), each("outer", outer)):
        try:
            made.append(problem(plane, prm, inner=low, outer=high, epoch=epoch, planet=planet))
        except ValueError as error:
            raise ValueError(f"{axis.name} = {value:g}: {error}") from None
    plans = [one.plan for one in made]
    if len({(p.inner, p.outer) for p in plans}) > 1:
        raise ValueError("inner, outer: every node must have the same kind of wall")
    plan = dataclasses.replace(plans[0], drift=max(p.drift for p in plans), tensor=max(p.tensor for p in plans),
                               rows=max(p.rows for p in plans), offsets=tuple(sorted(set().union(*(p.offsets for p in plans)))))
    return join(grid, made, plan)


def _one_planet(parameters, planet):
    """The planet of H and of the drift must be the same: `planet`, if given, goes everywhere."""
    kinetic = parameters.kinetic
    if planet is not None:
        parameters = parameters.replace(planet=planet)
        if hasattr(kinetic, "planet"):
            parameters = parameters.replace(kinetic=kinetic.replace(planet=planet))
    elif hasattr(kinetic, "planet"):
        pairs = zip(jax.tree.leaves(kinetic.planet), jax.tree.leaves(parameters.planet))
        if not any(isinstance(x, jax.core.Tracer) for p in pairs for x in p) and \
                jax.tree.leaves(kinetic.planet) != jax.tree.leaves(parameters.planet):
            raise ValueError("planet: `kinetic` and the drift use different planets; give planet= to problem() for both")
    return parameters


def _rates(prm, t, mesh):
    """(loss [1/s] or None, source [F/s] or None)."""
    loss = None if prm.lifetime is None else loss_rate(prm.lifetime, t, *mesh) / DAY
    source = None if prm.source is None else evaluate(prm.source, t, *mesh) / DAY
    return loss, source


def _on_faces(centers_value, lc, lf):
    """Values at cell centres carried to L faces along local power laws (arrays are given at centres only)."""
    v = jnp.log(jnp.where(centers_value > 0, centers_value, 1.0))
    x, xf = np.log(lc), np.log(lf)
    i = np.clip(np.searchsorted(x, xf) - 1, 0, x.size - 2)
    w = ((xf - x[i]) / (x[i + 1] - x[i])).reshape((-1,) + (1,) * (centers_value.ndim - 1))
    both = (centers_value[i] > 0) & (centers_value[i + 1] > 0)
    return jnp.where(both, jnp.exp(v[i] * (1 - w) + v[i + 1] * w), 0.0)


def _resistivity(L, d):
    return jnp.where(d > 0, L**2 / jnp.where(d > 0, d, 1.0), jnp.inf) * DAY


def _radial(grid, prm, t, plan):
    """Face conductances of D_LL [1/s per unit phi], shape (n_L + 1, n_phi or 1)."""
    La = grid["L"]
    lc, lf = grid.centers("L"), grid.faces("L")
    rest = transport_mesh(grid)[1:]

    def closed(r_faces, r_centers):
        return line_conductances(lf, lc, r_faces, r_centers, plan.inner == "value", plan.outer == "value")

    if hasattr(prm.dll, "separated"):
        factor, df = prm.dll.separated(t, grid.faces("L"))
        if jnp.ndim(factor) == 0:
            g = closed(_resistivity(lf, df), _resistivity(lc, prm.dll.separated(t, lc)[1]))
            # a factor that is no number, infinite or negative: see below
            return jnp.where(jnp.isfinite(factor) & jnp.all(jnp.isfinite(df)), jnp.maximum(factor, 0.0) * g, jnp.nan)
    dc = evaluate(prm.dll, t, *transport_mesh(grid))
    dc = jnp.broadcast_to(dc, (1,) * (grid.ndim - dc.ndim) + dc.shape)
    dc = jnp.broadcast_to(dc, (La.n,) + dc.shape[1:])
    if callable(prm.dll):
        df = evaluate(prm.dll, t, lf, *rest)
        df = jnp.broadcast_to(df, (1,) * (grid.ndim - df.ndim) + df.shape)
        df = jnp.broadcast_to(df, (La.n + 1,) + df.shape[1:])
    else:
        df = _on_faces(dc, La.centers, La.faces)
    g = closed(_resistivity(lf, df), _resistivity(lc, dc))
    # a coefficient that is no number or infinite (a traced one is not looked at before) ends the run, and does not pass for none
    return jnp.where(jnp.all(jnp.isfinite(df)) & jnp.all(jnp.isfinite(dc)), g, jnp.nan)


def flows(problem, t, dt):
    """The flows of one step, outermost first (see the module's docstring)."""
    prm, grid = problem.parameters, problem.grid
    if grid.axes[0].is_nodes:
        return mapped(flows, problem, t, dt)
    if "phi" not in grid.names:
        return _in_l(problem, t, (problem.boundary.get("inner"), problem.boundary.get("outer")))
    mean, rest, waves = streams(grid, prm, t)
    rate = rotation_rate(grid, prm, mean, t)
    moving = any(x is not None for x in (prm.kinetic, prm.phidot, prm.potential, prm.ldot))
    convecting = rest is not None or bool(waves)
    steady = is_steady(prm.kinetic, prm.phidot, prm.potential, prm.ldot)
    ring, local = None, []                                     # D_phiphi(L) rides on the rotation, in Fourier space
    if prm.dphiphi is not None and prm.dlphi is None:
        d = evaluate(prm.dphiphi, t, *transport_mesh(grid)) / DAY
        if d.ndim >= 2 and d.shape[1] > 1:
            local = [_azimuthal(grid, prm, t)]
        else:
            d = d.reshape((1,) * (grid.ndim - d.ndim) + d.shape)
            ring = jnp.broadcast_to(d, (grid["L"].n, *d.shape[1:]))
    rings = [Rotation(axis="phi", rate=rate, diffusion=ring, steady=steady and (ring is None or is_steady(prm.dphiphi)))] \
        if moving or ring is not None else []
    radial = _in_l(problem, t, _walls(problem, rate, ring, inner=not convecting) if rings else _walls(problem))
    if not convecting:
        return rings + local + radial
    bound = problem.plan.drift * (problem.dt_max or 0.0)
    lower, upper = _walls(problem, rate, ring, inner=True)
    flow = Transport(axes=("L", "phi"), stream=perturbation(rest, waves, prm, rate, dt), lower=(lower, None), upper=(upper, None),
                     steady=steady and not waves)
    return radial + local + rings + [dataclasses.replace(flow, substeps=max(1, math.ceil(bound / flow.courant)))]


def _walls(problem, rate=None, ring=None, inner=True):
    """(inner, outer) values, turned with the rings where they may depend on phi."""
    ends = (None, None) if rate is None else (edge_rate(rate)[0], edge_rate(rate)[-1])
    out = []
    for name, row, omega in zip(("inner", "outer"), (0, -1), ends):
        spread = None if ring is None else ring[row]
        value = problem.boundary.get(name)
        out.append(value if value is None or omega is None else TurnedWall(value=value, rate=omega, spread=spread, inner=inner))
    return tuple(out)


def _in_l(problem, t, walls):
    """Diffusion in L (or in the plane, with the cross terms), with loss and source on its diagonal."""
    prm, grid, plan = problem.parameters, problem.grid, problem.plan
    loss, source = _rates(prm, t, transport_mesh(grid))
    local, slow = {"loss": loss, "source": source}, is_steady(prm.lifetime, prm.source)
    if prm.dlphi is not None:
        w11, w12, w22 = index_tensor(grid, prm, t)
        # small steps allow the tensor's lines one after another, ten times cheaper; else one block solve
        split = 0 < len(plan.offsets) <= _MOST_LINES and plan.tensor * (problem.dt_max or math.inf) <= _LINES_LIMIT
        method = {"method": "lines", "offsets": plan.offsets} if split else {}
        method["rows"] = plan.rows
        return [TensorDiffusion(**method, axes=("L", "phi"), w11=w11, w12=w12, w22=w22, **local, lower=walls[0], upper=walls[1],
                                steady=slow and is_steady(prm.dll, prm.dlphi, prm.dphiphi))]
    if prm.dll is not None:
        return [LineDiffusion(axis="L", up=_radial(grid, prm, t, plan), **local, lower=walls[0], upper=walls[1],
                              steady=slow and is_steady(prm.dll))]
    if loss is not None or source is not None:
        return [Reaction(loss=0.0 if loss is None else loss, source=0.0 if source is None else source, steady=slow)]
    return []


def _azimuthal(grid, prm, t):
    """D_phiphi that varies with phi: cyclic line diffusion."""
    pa = grid["phi"]
    if callable(prm.dphiphi):
        d = evaluate(prm.dphiphi, t, grid.centers("L"), grid.faces("phi")) / DAY
    else:
        c = evaluate(prm.dphiphi, t) / DAY
        d = 0.5 * (c + jnp.roll(c, 1, axis=1))
        d = jnp.concatenate([d, d[:, :1]], axis=1)
    return LineDiffusion(axis="phi", up=jnp.broadcast_to(d, (grid["L"].n, pa.n + 1, *d.shape[2:])) / pa.measure[0],
                         steady=is_steady(prm.dphiphi))
