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
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbelt.coefficients import Time, evaluate, is_steady, jumps, parameters
from jaxbelt.constants import EARTH
from jaxbelt.flows import LineDiffusion, Reaction, Rotation, Transport
from jaxbelt.flows.selling import check_psd, clamped, offset_set
from jaxbelt.flows.tensor import TensorDiffusion
from jaxbelt.flows.transport import rate as courant_rate
from jaxbelt.flows.weights import line_conductances
from jaxbelt.grid import Axis, Grid
from jaxbelt.physics.drift import TurnedWall, Wave, edge_rate, perturbation, rotation_rate, streams, velocity_stream
from jaxbelt.physics.losses import rate as loss_rate
from jaxbelt.solve import make_problem

__all__ = ["Parameters", "Wave", "flows", "grid", "problem"]

DAY = 86400.0
_SAMPLES = 64              # moments at which a problem is checked and planned when it is built
_MARGIN = 1.25             # the planned drift speed over the fastest one found
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


@dataclasses.dataclass(frozen=True)
class _Plan:
    """Static: kinds of the walls; the fastest drift [1/s], the largest cross-diffusion rate [1/s], the tensor's offsets and
    the rows they span, that the run is planned for."""

    inner: str
    outer: str
    drift: float = 0.0
    tensor: float = 0.0
    offsets: tuple = ()
    rows: int = 1


def grid(L=(2.0, 7.0), cells=(200, 128), *, spacing="log", faces=None) -> Grid:
    """Cells in L (and phi): `cells=(n_L, n_phi)`, or `cells=n_L` for the radial equation.

    L: inner and outer wall, >= 1. spacing of the L faces: "log" (uniform in ln L), "linear", "inverse" (uniform in 1/L);
    or give `faces` themselves. The volume of a cell is (1/L_lower - 1/L_upper) dphi exactly.
    """
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
    Raises ValueError where a coefficient is negative or not finite, the tensor is not positive semi-definite (within 1 % it is
    projected, with a warning), given Ldot and phidot are divergent, or the drift crosses a no-flux wall.
    """
    parameters = _one_planet(parameters, planet)
    if isinstance(parameters.waves, Wave):
        parameters = parameters.replace(waves=(parameters.waves,))
    _check_shapes(grid, parameters)
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
                        quantity=("psd", "1", "phase space density at fixed mu and K"), plan=_Plan(**kinds))
    if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves((made.parameters, made.boundary))):
        return made
    return _checked(made)


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


def _check_shapes(grid, prm):
    """Arrays must have one dimension for each axis (a profile in L would silently be taken for one in phi)."""
    for name in ("dll", "dlphi", "dphiphi", "lifetime", "source"):
        value = getattr(prm, name)
        shape = None if value is None or callable(value) else jnp.shape(value)
        if shape and (len(shape) != grid.ndim or any(n not in (1, m) for n, m in zip(shape, grid.shape))):
            raise ValueError(f"{name}: an array of shape {shape} does not fit the grid {grid.shape} ({', '.join(grid.names)}); "
                             "give a profile in L as [:, None]" if grid.ndim == 2 else
                             f"{name}: an array of shape {shape} does not fit the grid {grid.shape}")
    for wave in prm.waves:
        if grid.ndim == 2 and 2 * wave.m >= grid.shape[1]:
            raise ValueError(f"waves: m = {wave.m} needs more than {2 * wave.m} cells in phi, the grid has {grid.shape[1]}")


def _check_wall(name, value, grid):
    shape = jnp.shape(value)
    if shape and shape not in ((1,), grid.shape[1:]):
        raise ValueError(f"{name}: an array of shape {shape} does not fit the wall, which has {grid.shape[1:] or 'one'} value(s)")


def _moments(made):
    """Times at which to look at the coefficients (where drivers jump), and others at which to look at the drift's speed."""
    moments = np.asarray(jumps(made.parameters, made.boundary) or (0.0,))
    moments = moments[np.unique(np.linspace(0, moments.size - 1, _SAMPLES).astype(int))]
    return moments, () if is_steady(made.parameters) else np.geomspace(1.0, 30 * DAY, _SAMPLES // 2)


def _checked(made):
    """Check concrete coefficients at the moments where they can change, and fix what must be static."""
    prm, grid = made.parameters, made.grid
    drift = tensor = 0.0
    tensors = []
    moments, guesses = _moments(made)
    with jax.ensure_compile_time_eval():
        for t in (Time.at(jnp.asarray(m)) for m in moments):
            for name in ("dll", "dphiphi", "lifetime", "dlphi", "source"):
                _check_value(name, evaluate(getattr(prm, name), t, *grid.mesh()))
            for name, value in made.boundary.items():
                value = evaluate(value, t, *(c[0] for c in grid.mesh()[1:]))
                _check_value(name, value)
                _check_wall(name, value, grid)
            if prm.ldot is not None:
                mismatch = float(velocity_stream(grid, prm, t)[1])
                limit = 1e-6 if callable(prm.ldot) else 0.05
                if not mismatch <= limit:
                    raise ValueError(f"ldot, phidot: the drift is divergent in dL dphi/L^2 (by {mismatch:.2g} of its largest "
                                     "flux); L^2 d_L(Ldot/L^2) + d_phi phidot must vanish: derive both from one Hamiltonian")
            if prm.dlphi is not None:
                w = _tensor(grid, prm, t)
                w = [np.broadcast_to(np.asarray(x), grid.shape) for x in w]
                check_psd(*w)
                tensors.append(w)
                tensor = max(tensor, float(np.max(sum(np.abs(x) for x in w) / grid.volumes)))
            drift = max(drift, _drift_speed(made, t))
        for t in guesses:                                      # a function may be meant for the run's own times only: no NaN
            speed = _drift_speed(made, Time.at(jnp.asarray(t)))
            drift = max(drift, speed) if math.isfinite(speed) else drift
    rows, offsets = _stencil(tensors)
    plan = dataclasses.replace(made.plan, rows=rows, drift=float(f"{_MARGIN * drift:.3g}"), tensor=float(f"{tensor:.3g}"),
                               offsets=tuple(sorted(offsets)))
    return made.replace(plan=plan)


def _stencil(tensors):
    """(rows, offsets): the fewest rows, up to three, that hold the tensors' offsets, and those; a warning where they do not."""
    if not tensors:
        return 1, set()
    for rows in (1, 2, 3):
        worst = max((clamped(*w, rows=rows) for w in tensors), key=lambda c: float(c["fraction"]))
        if float(worst["fraction"]) <= 1e-3:
            break
    else:
        warnings.warn(f"dlphi: {100 * float(worst['fraction']):.2g} % of the cross diffusion is beyond the stencil and left out "
                      f"({int(worst['count'])} cells): D_LL is too large against D_phiphi in cells of this shape; use fewer "
                      "cells in L or more in phi", stacklevel=4)
    return rows, set().union(*(offset_set(*w, rows=rows) for w in tensors))


def _check_value(name, value):
    """NaN nowhere; D not negative; lifetimes positive. (Sources and walls may have any sign; F >= 0 needs them >= 0.)"""
    if value is None:
        return
    value = np.asarray(value)
    if np.any(np.isnan(value)):
        raise ValueError(f"{name}: is NaN somewhere; give a finite value everywhere")
    low = {"dll": value < 0, "dphiphi": value < 0, "lifetime": value <= 0}.get(name)
    if low is not None and np.any(low):
        need = "positive" if name == "lifetime" else "at least 0"
        raise ValueError(f"{name}: must be {need} everywhere, got {value[low][0]:g}")


def _drift_speed(made, t) -> float:
    """The fastest drift of H1 in cells a second; and the check that none crosses a no-flux wall."""
    prm, grid = made.parameters, made.grid
    if grid.ndim == 1:
        return 0.0
    _, rest, waves = streams(grid, prm, t)
    if rest is None and not waves:
        return 0.0
    scale = _wave_bound(grid, prm, t) + (0.0 if rest is None else float(courant_rate(grid, rest, ("L", "phi"))))
    everything = [x for x in (rest, *waves) if x is not None]
    for wall, row in (("inner", 0), ("outer", -1)):
        if getattr(made.plan, wall) == "no flux":
            worst = max(float(np.ptp(np.asarray(x)[row])) for x in everything)
            top = max(float(np.max(np.ptp(np.asarray(x), axis=1))) for x in everything)
            if worst > 1e-9 * top:
                raise ValueError(f"{wall}: the drift crosses a wall declared 'no flux'; give a value of F there, or 'open'")
    return scale


def _wave_bound(grid, prm, t) -> float:
    """Drift speed of the waves at their worst phase: cosine and sine parts together."""
    total = 0.0
    for wave in prm.waves:
        parts = [float(courant_rate(grid, streams(grid, prm.replace(waves=(wave.replace(phase=wave.phase + s),)), t)[2][0],
                                    ("L", "phi"))) for s in (0.0, np.pi / 2)]
        total += math.hypot(*parts)
    return total


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


def _radial(grid, prm, t, plan):
    """Face conductances of D_LL [1/s per unit phi], shape (n_L + 1, n_phi or 1)."""
    La = grid["L"]
    lc, lf = grid.centers("L"), grid.faces("L")
    rest = grid.mesh()[1:]
    dc = evaluate(prm.dll, t, *grid.mesh())
    dc = jnp.broadcast_to(dc, (1,) * (grid.ndim - dc.ndim) + dc.shape)
    dc = jnp.broadcast_to(dc, (La.n,) + dc.shape[1:])
    if callable(prm.dll):
        df = evaluate(prm.dll, t, lf, *rest)
        df = jnp.broadcast_to(df, (1,) * (grid.ndim - df.ndim) + df.shape)
        df = jnp.broadcast_to(df, (La.n + 1,) + df.shape[1:])
    else:
        df = _on_faces(dc, La.centers, La.faces)

    def resistivity(L, d):
        return jnp.where(d > 0, L**2 / jnp.where(d > 0, d, 1.0), jnp.inf) * DAY

    return line_conductances(lf, lc, resistivity(lf, df), resistivity(lc, dc), plan.inner == "value", plan.outer == "value")


def _tensor(grid, prm, t):
    """Index-space tensor (W11, W12, W22) [volume/s] of D: see `TensorDiffusion`."""
    mesh = grid.mesh()
    L, v, dphi = mesh[0], grid["L"].measure[:, None], grid["phi"].measure[0]
    dll, dlphi, dphiphi = (0.0 if c is None else evaluate(c, t, *mesh) / DAY for c in (prm.dll, prm.dlphi, prm.dphiphi))
    # x = 1/L: D_xx = D_LL/L^4 with dx = v; the index grows with L, so the cross term keeps its sign
    return dphi * dll / (L**4 * v), dlphi / L**2 * jnp.ones_like(v), v * dphiphi / dphi * jnp.ones_like(L)


def flows(problem, t, dt):
    """The flows of one step, outermost first (see the module's docstring)."""
    prm, grid = problem.parameters, problem.grid
    if grid.ndim == 1:
        return _in_l(problem, t, (problem.boundary.get("inner"), problem.boundary.get("outer")))
    mean, rest, waves = streams(grid, prm, t)
    rate = rotation_rate(grid, prm, mean, t)
    moving = any(x is not None for x in (prm.kinetic, prm.phidot, prm.potential, prm.ldot))
    convecting = rest is not None or bool(waves)
    steady = is_steady(prm.kinetic, prm.phidot, prm.potential, prm.ldot)
    ring, local = None, []                                     # D_phiphi(L) rides on the rotation, in Fourier space
    if prm.dphiphi is not None and prm.dlphi is None:
        d = evaluate(prm.dphiphi, t, *grid.mesh()) / DAY
        if d.ndim == 2 and d.shape[1] > 1:
            local = [_azimuthal(grid, prm, t)]
        else:
            ring = jnp.broadcast_to(d, (grid["L"].n, 1))
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
    ends = (None, None) if rate is None else (edge_rate(rate)[0, 0], edge_rate(rate)[-1, 0])
    out = []
    for name, row, omega in zip(("inner", "outer"), (0, -1), ends):
        spread = None if ring is None else ring[row, 0]
        value = problem.boundary.get(name)
        out.append(value if value is None or omega is None else TurnedWall(value=value, rate=omega, spread=spread, inner=inner))
    return tuple(out)


def _in_l(problem, t, walls):
    """Diffusion in L (or in the plane, with the cross terms), with loss and source on its diagonal."""
    prm, grid, plan = problem.parameters, problem.grid, problem.plan
    loss, source = _rates(prm, t, grid.mesh())
    local, slow = {"loss": loss, "source": source}, is_steady(prm.lifetime, prm.source)
    if prm.dlphi is not None:
        w11, w12, w22 = _tensor(grid, prm, t)
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
    return LineDiffusion(axis="phi", up=jnp.broadcast_to(d, (grid["L"].n, pa.n + 1)) / pa.measure[0],
                         steady=is_steady(prm.dphiphi))
