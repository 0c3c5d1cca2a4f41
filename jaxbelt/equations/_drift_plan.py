"""What is checked and planned when a drift-diffusion problem is built with concrete coefficients."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxbelt._warn import warn
from jaxbelt.coefficients import Series, Time, drivers, evaluate, is_steady, jumps
from jaxbelt.constants import SECONDS_PER_DAY as DAY
from jaxbelt.flows.selling import check_psd, clamped, offset_set
from jaxbelt.flows.transport import rate as courant_rate
from jaxbelt.physics.drift import streams, transport_mesh, velocity_stream

__all__ = ["Plan", "check_shapes", "checked", "index_tensor"]

_SAMPLES = 64              # moments at which a problem is checked and planned when it is built
_FEW = 8                   # moments looked at without compiling
_MARGIN = 1.25             # the planned drift speed over the fastest one found


@dataclasses.dataclass(frozen=True)
class Plan:
    """Static: kinds of the walls; the fastest drift [1/s], the largest cross-diffusion rate [1/s], the tensor's offsets and
    the rows they span, that the run is planned for."""

    inner: str
    outer: str
    drift: float = 0.0
    tensor: float = 0.0
    offsets: tuple = ()
    rows: int = 1


def check_shapes(grid, prm):
    """Arrays must have one dimension for each axis (a profile in L would silently be taken for one in phi)."""
    for name in ("dll", "dlphi", "dphiphi", "lifetime", "source"):
        value = getattr(prm, name)
        shape = None if value is None or callable(value) else jnp.shape(value)
        if shape and (len(shape) != grid.ndim or any(n not in (1, m) for n, m in zip(shape, grid.shape))):
            raise ValueError(f"{name}: an array of shape {shape} does not fit the grid {grid.shape} ({', '.join(grid.names)}); "
                             "give a profile in L as [:, None]" if grid.ndim == 2 else
                             f"{name}: an array of shape {shape} does not fit the grid {grid.shape}")
    for wave in prm.waves:
        if "phi" in grid.names and 2 * wave.m >= grid["phi"].n:
            raise ValueError(f"waves: m = {wave.m} needs more than {2 * wave.m} cells in phi, the grid has {grid.shape[1]}")


def _check_wall(name, value, grid):
    shape = jnp.shape(value)
    rest = grid.shape[1:]
    if shape and (len(shape) != max(len(rest), 1) or any(n not in (1, m) for n, m in zip(shape, rest or (1,)))):
        raise ValueError(f"{name}: an array of shape {shape} does not fit the wall, which has {grid.shape[1:] or 'one'} value(s)")


def _moments(made):
    """Times at which to look at the coefficients (where drivers jump), and others at which to look at the drift's speed."""
    moments = np.asarray(jumps(made.parameters, made.boundary) or (0.0,))
    moments = moments[np.unique(np.linspace(0, moments.size - 1, _SAMPLES).astype(int))]
    extremes = []                                              # a year of Kp has more values than that: never miss the largest
    for series in drivers((made.parameters, made.boundary)):
        if isinstance(series, Series) and np.ndim(series.values) == 1:
            values = np.asarray(series.values)
            extremes += [series.t[int(np.argmax(values))], series.t[int(np.argmin(values))]]
    moments = np.unique(np.concatenate([moments, extremes]))
    return moments, () if is_steady(made.parameters) else np.geomspace(1.0, 30 * DAY, _SAMPLES // 2)


def checked(made):
    """Check concrete coefficients at the moments where they can change, and fix what must be static."""
    prm, grid = made.parameters, made.grid
    drift = tensor = 0.0
    tensors = []
    moments, guesses = _moments(made)
    at, wall, speed = partial(_read, grid), partial(_read_wall, grid), partial(_drift_numbers, grid)
    if moments.size + len(guesses) > _FEW:                     # compile once, where each would cost as much
        at, wall, speed = (partial(f, grid) for f in (_compiled_read, _compiled_wall, _compiled_numbers))
    with contextlib.nullcontext() if moments.size + len(guesses) > _FEW else jax.ensure_compile_time_eval():
        for t in (Time.at(jnp.asarray(m)) for m in moments):
            for name in ("dll", "dphiphi", "lifetime", "dlphi", "source"):
                if getattr(prm, name) is not None:
                    _check_value(name, at(getattr(prm, name), t))
            for name, value in made.boundary.items():
                if name not in ("inner", "outer"):             # a wall of the labels, in local diffusion
                    continue
                value = wall(value, t)
                _check_value(name, value)
                _check_wall(name, value, grid)
            if prm.ldot is not None:
                mismatch = float(velocity_stream(grid, prm, t)[1])
                limit = 1e-6 if callable(prm.ldot) else 0.05
                if not mismatch <= limit:
                    raise ValueError(f"ldot, phidot: the drift is divergent in dL dphi/L^2 (by {mismatch:.2g} of its largest "
                                     "flux); L^2 d_L(Ldot/L^2) + d_phi phidot must vanish: derive both from one Hamiltonian")
            if prm.dlphi is not None:
                w = index_tensor(grid, prm, t)
                w = [np.broadcast_to(np.asarray(x), grid.shape) for x in w]
                check_psd(*w)
                tensors.append(w)
                tensor = max(tensor, float(np.max(sum(np.abs(x) for x in w) / grid.volumes)))
            drift = max(drift, _drift_speed(made, speed(prm, t)))
        for t in guesses:                                      # a function may be meant for the run's own times only: no NaN
            found = _drift_speed(made, speed(prm, Time.at(jnp.asarray(t))))
            drift = max(drift, found) if math.isfinite(found) else drift
    rows, offsets = _stencil(tensors)
    plan = dataclasses.replace(made.plan, rows=rows, drift=float(f"{_MARGIN * drift:.3g}"), tensor=float(f"{tensor:.3g}"),
                               offsets=tuple(sorted(offsets)))
    return made.replace(plan=plan)


def _read(grid, coefficient, t):
    return evaluate(coefficient, t, *transport_mesh(grid))


def _read_wall(grid, value, t):
    return evaluate(value, t, *(c[0] for c in grid.mesh()[1:]))


def _stencil(tensors):
    """(rows, offsets): the fewest rows, up to three, that hold the tensors' offsets, and those; a warning where they do not."""
    if not tensors:
        return 1, set()
    for rows in (1, 2, 3):
        worst = max((clamped(*w, rows=rows) for w in tensors), key=lambda c: float(c["fraction"]))
        if float(worst["fraction"]) <= 1e-3:
            break
    else:
        warn(f"dlphi: {100 * float(worst['fraction']):.2g} % of the cross diffusion is beyond the stencil and left out "
             f"({int(worst['count'])} cells): D_LL is too large against D_phiphi in cells of this shape; use fewer "
             "cells in L or more in phi")
    return rows, set().union(*(offset_set(*w, rows=rows) for w in tensors))


def _check_value(name, value):
    """NaN nowhere; D not negative; lifetimes positive. (Sources and walls may have any sign; F >= 0 needs them >= 0.)"""
    if value is None:
        return
    value = np.asarray(value)
    if np.any(np.isnan(value)):
        raise ValueError(f"{name}: is NaN somewhere; give a finite value everywhere")
    low = {"dll": (value < 0) | np.isinf(value), "dphiphi": (value < 0) | np.isinf(value), "lifetime": value <= 0}.get(name)
    if low is not None and np.any(low):
        need = "positive" if name == "lifetime" else "finite and at least 0"
        raise ValueError(f"{name}: must be {need} everywhere, got {value[low][0]:g}")


def _drift_numbers(grid, prm, t):
    """(fastest drift of H1 in cells a second, largest change of psi along the inner wall, the outer wall, any row)."""
    zero = jnp.zeros(())
    if "phi" not in grid.names:
        return zero, zero, zero, zero
    _, rest, waves = streams(grid, prm, t)
    everything = [x for x in (rest, *waves) if x is not None]
    if not everything:
        return zero, zero, zero, zero
    speed = zero if rest is None else courant_rate(grid, rest, ("L", "phi"))
    for wave in prm.waves:                                     # at its worst phase: cosine and sine parts together
        turned = [prm.replace(waves=(wave.replace(phase=wave.phase + s),)) for s in (0.0, np.pi / 2)]
        speed = speed + jnp.hypot(*(courant_rate(grid, streams(grid, p, t)[2][0], ("L", "phi")) for p in turned))
    spans = jnp.stack([jnp.ptp(x, axis=1) for x in everything])
    return speed, jnp.max(spans[:, 0]), jnp.max(spans[:, -1]), jnp.max(spans)


# once for all nodes
_compiled_read, _compiled_wall, _compiled_numbers = (jax.jit(f, static_argnums=0) for f in (_read, _read_wall, _drift_numbers))


def _drift_speed(made, numbers) -> float:
    """The fastest drift, and the check that none crosses a no-flux wall."""
    speed, inner, outer, top = (float(x) for x in numbers)
    for wall, worst in (("inner", inner), ("outer", outer)):
        if getattr(made.plan, wall) == "no flux" and worst > 1e-9 * top:
            raise ValueError(f"{wall}: the drift crosses a wall declared 'no flux'; give a value of F there, or 'open'")
    return speed


def index_tensor(grid, prm, t):
    """Index-space tensor (W11, W12, W22) [volume/s] of D: see `TensorDiffusion`."""
    mesh = transport_mesh(grid)
    L, v, dphi = mesh[0], grid.along("L", grid["L"].measure), grid["phi"].measure[0]
    dll, dlphi, dphiphi = (0.0 if c is None else evaluate(c, t, *mesh) / DAY for c in (prm.dll, prm.dlphi, prm.dphiphi))
    # x = 1/L: D_xx = D_LL/L^4 with dx = v; the index grows with L, so the cross term keeps its sign
    return dphi * dll / (L**4 * v), dlphi / L**2 * jnp.ones_like(v), v * dphiphi / dphi * jnp.ones_like(L)
