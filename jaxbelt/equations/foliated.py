r"""Inward diffusion in a dipole: the Fokker-Planck equation on the leaves of constant magnetic moment (Sato, Yoshida &
Kawazura, Self-organization and heating by inward diffusion in magnetospheric plasmas, Eq. 15).

The state P(mu, psi, chi, p[, theta]) is their distribution in (l, v_par, theta, psi, mu), in the coordinates chi (magnetic scalar
potential, grad chi = B) and p = v_par/B, whose Jacobian is 1 and in which the radial noise has no cross term:

    P_t = - d_chi(B^2 p P) + d_p[(B p^2 + mu) B_chi P] - rho d_theta[(B p^2 + mu) B_psi P] - phi'(psi) d_theta P
          + D_perp/2 d_psi^2 P - (1/2 - alpha) D_perp {d_psi(a P) - d_p(c p P)} + d_p(gamma p P)
          + D_par/2 [(1/B) d_p - rho q d_theta]^2 P + D_theta/2 d_theta^2 P - div(C P) + S - P/tau

with the derivatives of B, a = d_psi ln(r_cyl B) and c = (B_psipsi + a B_psi)/B taken at constant chi (`physics.field_lines`).

Dimensionless: lengths in R_p, fields in the equator's surface field B_p, velocities in v_th = sqrt(T0/m), so time in R_p/v_th,
psi in B_p R_p^2, mu in T0/B_p; rho = m v_th/(e B_p R_p). `units` goes to eV, metres and seconds.

Flows, outermost first: diffusion in psi (exact exponential, steady for N ~ (r_cyl B)^(1 - 2 alpha)), drifts along p, D_par with
friction (Chang-Cooper), rotation in theta, and the bounce motion in (chi, p), whole in the middle.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbelt.coefficients import evaluate, is_steady, parameters, static
from jaxbelt.equations._foliated_checks import check, check_start, check_walls, warn_of_coarse
from jaxbelt.equations._foliated_closing import Closing, ClosingFriction
from jaxbelt.equations._foliated_flows import along_p, bounce_stream, on_grid, parallel, radial, turning_rate
from jaxbelt.equations._foliated_grid import (
    Coordinates,
    check_grid,
    coordinates,
    energy,
    energy_cap,
    geometry,
    grid,
    initial,
    live,
    maxwellian,
    spread,
    wall,
)
from jaxbelt.flows import LineDiffusion, Reaction, Rotation, Sheared, Transport
from jaxbelt.flows.transport import rate as transport_rate
from jaxbelt.grid import Grid
from jaxbelt.nodes import Common, at_node, join, mapped
from jaxbelt.physics.foliated_maps import add_coordinates, at, chord, chords, meridian
from jaxbelt.physics.foliated_moments import averages, equatorial, leaf_entropy, local, number, volumes
from jaxbelt.physics.foliated_units import UNITS, Units, units
from jaxbelt.solve import make_problem

__all__ = ["Closing", "Coordinates", "Parameters", "UNITS", "Units", "add_coordinates", "at", "averages", "chord", "chords",
           "coordinates", "energy", "energy_cap", "equatorial", "flows", "geometry", "grid", "initial", "leaf_entropy", "live",
           "local", "maxwellian", "meridian", "number", "problem", "units", "volumes", "wall"]

_WALLS = {"absorbing": 0.0, "reflecting": None}


@parameters
class Parameters:
    """D_perp, D_par, D_theta >= 0: numbers, `Series`, functions of t; None leaves a term out. alpha: number in [0, 1].

    D_perp [(B_p R_p^2)^2 v_th/R_p]: strength of the radial noise (dpsi = D_perp^(1/2) dW); 5e-4 weak, 5e-3 strong. alpha: how
    the noise is read, 0 (Ito: fast fluctuations) to 1/2 (Stratonovich: slow ones) and 1. D_par: noise in v_par. D_theta: in
    theta. gamma: friction on v_par, a number, `Series`, function of t, or `Closing()`. detailed_balance: adds C_theta = gamma rho
    q v, with which exp(-2 gamma H/D_par) carries no flux. rho: gyroradius m v_th/(e B_p R_p), negative for electrons; the drifts
    and the theta noise scale with it. potential: phi(t, psi) [v_th B_p R_p], turns the plasma at phi'(psi).
    C_l, C_v, C_theta, C_psi: further drifts, functions of (t, l, v, psi, mu). source [P/time], lifetime [time]: arrays on the
    grid or functions of (t, l, v, theta, psi, mu).
    """

    D_perp: Any = None
    D_par: Any = None
    D_theta: Any = None
    alpha: Any = 0.5
    gamma: Any = None
    rho: Any = 0.05
    potential: Any = None
    C_l: Any = None
    C_v: Any = None
    C_theta: Any = None
    C_psi: Any = None
    source: Any = None
    lifetime: Any = None
    detailed_balance: bool = static(False)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is static in a problem: kinds of walls, the bounce scheme, and how fast the finite volumes need their substeps."""

    inner: str
    outer: str
    planet: str
    bounce: str
    temperature: float | None
    rate: float

    def check_start(self, f0):
        """Raise ValueError where a concrete f0 is negative."""
        check_start(f0)


@parameters
class WallDensity:
    """P outside a wall as a function of (t, l, v, theta, psi, mu), read at the cells of a grid."""

    value: Any
    at: Any

    def __call__(self, t, *coordinates):
        return evaluate(self.value, t, *(jnp.asarray(x) for x in self.at))


def problem(grid, parameters, *, inner="absorbing", outer="absorbing", planet="absorbing", bounce="remap", dt=None,
            temperature=None, points=6, epoch=None):
    """The problem to solve.

    inner, outer (highest and lowest psi): "absorbing" (P = 0), "reflecting" (no flux), or P outside: a number, an array over
    (mu, chi, p[, theta]), or a function of (t, l, v, theta, psi, mu). planet: what reaches its surface is lost ("absorbing") or
    comes back ("reflecting").
    bounce: "remap", conservative semi-Lagrangian, any step, its tables made here for the step `dt` that solve will take (output
    times must be whole multiples of it), with `points` x `points` Gauss points a cell; "finite-volume", WENO5-Z in substeps,
    which keeps the flat state exactly, or exp(-H/temperature) where a temperature is given; "none", no motion along the field.

    Good steps for the remap: a quarter to a half of a thermal R_p/v_th. Raises ValueError, naming the entry, for alpha outside
    [0, 1], a negative D, gamma, lifetime, source or P outside, unknown walls, a missing dt, and functions that do not take the
    arguments above or do not fit the grid; `solve` for a negative f0. Fewer than 20 cells of chi are a warning.
    """
    check_grid(grid)
    if grid.axes[0].name != "mu":
        return _many(grid, parameters, {"inner": inner, "outer": outer, "planet": planet, "bounce": bounce, "dt": dt,
                                        "temperature": temperature, "points": points, "epoch": epoch})
    warn_of_coarse(grid)
    kinds, boundary = {}, {}
    for name, value, row in (("inner", inner, -1), ("outer", outer, 0)):
        if isinstance(value, str):
            if value not in _WALLS:
                raise ValueError(f"{name}: {value!r} is unknown; give 'absorbing', 'reflecting' or P outside")
            kinds[name] = value
            if _WALLS[value] is not None:
                boundary[name] = _WALLS[value]
        elif value is None:
            raise ValueError(f"{name}: give 'absorbing', 'reflecting' or P outside")
        else:
            kinds[name], boundary[name] = "value", _wall_density(grid, value, row) if callable(value) else value
    if planet not in _WALLS:
        raise ValueError(f"planet: {planet!r} is unknown; give 'absorbing' or 'reflecting'")
    if bounce not in ("remap", "finite-volume", "none"):
        raise ValueError(f"bounce: {bounce!r} is unknown; give 'remap', 'finite-volume' or 'none'")
    if temperature is not None and (bounce != "finite-volume" or not temperature > 0):
        raise ValueError(f"temperature: weights the finite-volume bounce and must be positive, got {temperature} with {bounce!r}")
    if isinstance(parameters.gamma, Closing) and parameters.detailed_balance:
        raise ValueError("detailed_balance: needs a given gamma; gamma=Closing() is computed in every step")
    plan = Plan(kinds["inner"], kinds["outer"], planet, bounce, temperature, 0.0)
    tables = None
    if bounce == "remap":
        if dt is None or not (dt > 0 and math.isfinite(dt)):
            raise ValueError(f"dt: the remap is made for one step, give the dt of solve (0.25 to 0.5 is usual), got {dt}")
        from jaxbelt.physics.bounce_map import tables as bounce_tables

        tables = bounce_tables(grid, float(dt), planet=planet, points=points)
    elif bounce == "finite-volume":
        with jax.ensure_compile_time_eval():
            stream, weight = bounce_stream(grid, planet, temperature)
            plan = dataclasses.replace(plan, rate=float(transport_rate(grid, stream, ("chi", "p"), weight)))
    made = make_problem(flows, grid, parameters, boundary=boundary, epoch=epoch, equation="foliated", time_unit="R_p/v_th",
                        tables=tables, quantity=("P", "1", "distribution in (l, v_par, theta, psi, mu)"), plan=plan)
    if not _traced(made.parameters):
        check(grid, made.parameters)
    if not _traced(made.boundary):
        check_walls(grid, made.boundary)
    return made


def recheck(problem):
    """What `problem` checks of coefficients and walls, for one whose values were replaced; raises ValueError as it does."""
    if problem.grid.axes[0].name != "mu":
        for k in range(problem.grid.axes[0].n):
            recheck(at_node(problem, k))
        return
    check(problem.grid, problem.parameters)
    check_walls(problem.grid, problem.boundary)


def _traced(tree):
    return any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(tree))


def _many(grid, parameters, options):
    """One problem a node of the grid's first axis, joined; the tables of the bounce are made once."""
    axis, plane = grid.axes[0], Grid(grid.axes[1:])
    if isinstance(parameters, Parameters) or len(parameters) != axis.n:
        raise ValueError(f"parameters: the grid has {axis.n} nodes of {axis.name}; give a list, one Parameters a node")
    made = []
    for value, prm in zip(axis.centers, parameters):
        try:
            made.append(problem(plane, prm, **(options if not made else options | {"bounce": "none", "temperature": None})))
        except ValueError as error:
            raise ValueError(f"{axis.name} = {value:g}: {error}") from None
    return join(grid, [one.replace(tables=None) for one in made], made[0].plan).replace(tables=made[0].tables)


def _wall_density(grid, value, row):
    """A wall's function of (t, l, v, theta, psi, mu) at the cells of the wall, shaped (mu, chi, p[, theta])."""
    psi = grid["psi"].faces[row]
    from jaxbelt.physics import field_lines

    with jax.ensure_compile_time_eval():
        at = field_lines.from_potential(grid["chi"].centers, psi, outside="extrapolate")
        rest = (1,) * (grid.ndim - 4)
        line = (1, -1, 1, *rest)
        v = np.asarray(at.B).reshape(line) * grid["p"].centers.reshape(1, 1, -1, *rest)
        theta = grid["theta"].centers if rest else 0.0
        mu = grid["mu"].centers.reshape(-1, 1, 1, *rest)
        return WallDensity(value=value, at=(np.asarray(at.l).reshape(line), v, np.asarray(theta), np.asarray(psi), mu))


def flows(problem, t, dt):
    """The flows of one step, outermost first (see the module's docstring)."""
    if problem.grid.axes[0].name != "mu":                      # one run a node; the bounce motion is the same in all
        plane = problem.replace(grid=Grid(problem.grid.axes[1:]), tables=None)
        own = mapped(_unlike, problem.replace(tables=None), t, dt)
        return own + [Common(inner=flow) for flow in _bounce(plane.replace(tables=problem.tables))]
    return _unlike(problem, t, dt) + _bounce(problem)


def _unlike(problem, t, dt):
    """All flows but the bounce motion."""
    prm, grid = problem.parameters, problem.grid
    out = []
    if prm.D_perp is not None or prm.C_psi is not None:
        out.append(radial(problem, t))
    if prm.source is not None or prm.lifetime is not None:
        above = spread(grid, live(grid))
        loss = 0.0 if prm.lifetime is None else 1.0 / on_grid(grid, prm.lifetime, t)
        source = 0.0 if prm.source is None else jnp.where(above, on_grid(grid, prm.source, t), 0.0)
        out.append(Reaction(loss=loss, source=source, steady=is_steady(prm.source, prm.lifetime)))
    heating = [flow for flow in out if isinstance(flow, LineDiffusion)]
    drifts, noise = along_p(problem, t), parallel(problem, t)
    if isinstance(prm.gamma, Closing):
        heating += [flow.line if isinstance(flow, Sheared) else flow for flow in noise]
        k = next((d.rate for d in drifts if d.rate is not None), None)
        out.append(ClosingFriction(lines=tuple(heating), energy=energy(grid), square=coordinates(grid).v ** 2, rate=k))
    out += drifts + noise
    if "theta" in grid.names:
        spin = None if prm.D_theta is None else 0.5 * evaluate(prm.D_theta, t) * jnp.ones((1,) * grid.ndim)
        out.append(Rotation(axis="theta", rate=turning_rate(problem, t), diffusion=spin,
                            steady=is_steady(prm.D_theta, prm.potential, prm.C_theta)
                            and (isinstance(prm.gamma, Closing) or is_steady(prm.gamma))))
    return out


def _bounce(problem):
    """The motion along the field."""
    grid, plan = problem.grid, problem.plan
    if plan.bounce == "remap":
        from jaxbelt.flows.remap import Remap

        return [Remap(axes=("chi", "p"), tables=problem.tables)]
    if plan.bounce == "finite-volume":
        stream, weight = bounce_stream(grid, plan.planet, plan.temperature)
        flow = Transport(axes=("chi", "p"), stream=stream, weight=weight, live=spread(grid, live(grid)))
        bound = plan.rate * (problem.dt_max or 0.0)
        return [dataclasses.replace(flow, substeps=max(1, math.ceil(bound / flow.courant)))]
    return []
