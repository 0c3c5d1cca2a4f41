"""What is checked and planned when a local-diffusion problem is built with concrete coefficients."""

from __future__ import annotations

import dataclasses
import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np

from jaxbelt.coefficients import Time, evaluate, jumps
from jaxbelt.constants import SECONDS_PER_DAY as DAY
from jaxbelt.equations import _drift_plan as drift
from jaxbelt.flows.selling import check_psd, clamped, decompose
from jaxbelt.physics.losses import rate as loss_rate

__all__ = ["Plan", "check_axes", "checked"]

_MOMENTS = 4               # at which the local tensor is looked at
_FAR = 1000                # cells: farther links are not told apart


@dataclasses.dataclass(frozen=True)
class Plan(drift.Plan):
    """Static: what transport needs (see there), the kinds of the walls of the labels, the axes of the local planes (the
    stencil reaches far along the second) and the rows of cells it spans along the first."""

    low_alpha: str = "no flux"
    low_p: str = "no flux"
    high_p: str = "no flux"
    plane: tuple[str, str] = ("lnp", "alpha")
    plane_rows: int = 1


def check_axes(grid, prm, kinds) -> None:
    """What is given must have its axes on the grid."""
    for name in ("dll", "dlphi", "dphiphi", "kinetic", "potential", "phidot", "ldot"):
        axis = "L" if name == "dll" else "phi"
        if getattr(prm, name) is not None and axis not in grid.names:
            raise ValueError(f"{name}: needs an axis {axis}; the grid has {', '.join(grid.names)}")
    for name in ("low_alpha", "low_p", "high_p"):
        drifts = name != "low_alpha" and prm.energy_loss is not None
        if kinds[name] == "value" and prm.local is None and not drifts:
            raise ValueError(f"{name}: a value on this wall does nothing without local diffusion")
    if "L" not in grid.names:
        for name in ("inner", "outer"):
            if kinds[name] != "no flux":
                raise ValueError(f"{name}: is a wall in L; the grid has {', '.join(grid.names)}")
    drift.check_shapes(grid, prm)


def checked(made, tensor):
    """Check concrete coefficients at the moments where they can change, and fix what must be static.

    tensor(grid, waves, t): the local tensor in the labels [1/day].
    """
    prm, grid = made.parameters, made.grid
    if "L" in grid.names:
        made = drift.checked(made)
    moments = np.asarray(jumps(prm, made.boundary) or (0.0,))
    moments = moments[np.unique(np.linspace(0, moments.size - 1, _MOMENTS).astype(int))]
    local = grid.local()
    for wave in prm.local if isinstance(prm.local, tuple) else () if prm.local is None else (prm.local,):
        if hasattr(wave, "covers") and getattr(wave, "outside", "error") == "error":
            said = wave.covers(np.asarray(local[1]), np.asarray(local[2]))
            if said:
                raise ValueError(f"local: the grid goes outside the tables: {said}; take other cells, or let the table hold "
                                 "its edge values with replace(outside='edge')")
    tensors, read = [], jax.jit(tensor, static_argnums=0)
    for moment in moments:
        t = Time.at(jnp.asarray(moment))
        for name, value in (("loss_cone", prm.loss_cone), ("lifetime", None if "L" in grid.names else prm.lifetime)):
            if value is not None:
                rate = np.asarray(loss_rate(value, t, *local[2:]))
                if not np.all(rate >= 0):
                    raise ValueError(f"{name}: must be positive everywhere, not NaN")
        if prm.energy_loss is not None:
            rate = np.asarray(evaluate(prm.energy_loss, t, *local))
            if not np.all(rate >= 0):
                raise ValueError("energy_loss: is a rate -d(ln p)/dt, at least 0 everywhere, not NaN")
        if prm.local is not None:
            tensors.append(_checked_tensor(grid, read(grid, prm.local, t)))
    for name in ("low_alpha", "low_p", "high_p"):
        if name in made.boundary:
            _check_wall(name, made.boundary[name], grid)
    stencil = _stencil(grid, tensors)
    if stencil:
        _warn_of_far_links(grid, tensors, stencil["plane"])
    return made.replace(plan=dataclasses.replace(made.plan, **stencil))


def _check_wall(name, value, grid):
    k = grid.index("alpha" if name == "low_alpha" else "lnp")
    others = [np.squeeze(c, axis=k) for i, c in enumerate(grid.mesh()) if i != k]
    value = np.asarray(evaluate(value, Time.at(jnp.zeros(())), *others))
    if not np.all(np.isfinite(value)) or np.any(value < 0):
        raise ValueError(f"{name}: must be finite and at least 0")
    shape = tuple(n for i, n in enumerate(grid.shape) if i != k)
    if value.ndim and (value.ndim != len(shape) or any(n not in (1, m) for n, m in zip(value.shape, shape))):
        raise ValueError(f"{name}: an array of shape {value.shape} does not fit the wall, {shape}")


def _checked_tensor(grid, tensor):
    """The tensor in index units, volumes left out (they change neither sign nor the stencil), positive semi-definite."""
    daa, dap, dpp = (np.asarray(d) / DAY for d in tensor)
    ha, hp = (grid.along(x, np.diff(grid[x].faces)) for x in ("alpha", "lnp"))
    w = np.broadcast_arrays(daa / ha**2, dap / (ha * hp), dpp / hp**2)
    try:
        check_psd(*w)
    except ValueError as error:
        raise ValueError(f"local: {error} (in alpha and ln p of the labels)") from None
    return w


def _stencil(grid, tensors) -> dict:
    """The order of the planes' axes, and the fewest rows of the stencil, that hold the cross diffusion; a warning if none do."""
    if not tensors:
        return {}
    # a cross term of rounding is none
    tensors = [(waa, np.where(np.abs(wap) > 1e-9 * (waa + wpp), wap, 0.0), wpp) for waa, wap, wpp in tensors]
    measure = grid.along("alpha", grid["alpha"].measure) * grid.along("lnp", grid["lnp"].measure)
    best = (np.inf, None)
    for rows in (1, 2, 3):
        for axes in (("lnp", "alpha"), ("alpha", "lnp")):
            turned = [(w if axes[0] == "alpha" else w[::-1]) for w in tensors]
            lost = max(float(_clamped(*(jnp.asarray(x * measure) for x in w), rows)["fraction"]) for w in turned)
            if lost < 0.5 * best[0]:
                best = lost, dict(plane=axes, plane_rows=rows)
            if lost <= 1e-2:
                return best[1]
    if best[0] > 0.02:
        warnings.warn(f"local: {100 * best[0]:.2g} % of the cross diffusion is beyond the stencil and left out: the shape of "
                      "the cells suits neither D_aa nor D_pp; use fewer cells in one of alpha and lnp", stacklevel=4)
    return best[1]


def _warn_of_far_links(grid, tensors, axes) -> None:
    """Cells that are too long in ln p for the slope D_ap/D_aa are linked with cells at quite another pitch angle."""
    n = grid[axes[1]].n
    for w in tensors:
        waa, wap, wpp = (jnp.asarray(x) for x in w)
        first, second = (waa, wpp) if axes[0] == "alpha" else (wpp, waa)
        reach, rho2 = (np.asarray(x) for x in _reach(first, wap, second))
        total = np.sum(rho2)
        share = np.sum(rho2[reach > 0.5 * n]) / total if total > 0 else 0.0
        if share > 0.05:
            order = np.argsort(reach, axis=None)
            far = reach.ravel()[order][np.searchsorted(np.cumsum(rho2.ravel()[order]), 0.97 * total)]
            warnings.warn(f"local: in {100 * share:.0f} % of the plane the cross diffusion is linked over more than half of the "
                          f"cells in {axes[1]}, which errs (by 10 to 30 % there): D_ap is small against D_aa for cells of this "
                          f"shape; take about {math.ceil(far / (0.4 * n))} times as many cells in {axes[0]}, and fewer in "
                          f"{axes[1]}", stacklevel=5)
            return


@jax.jit
def _reach(w11, w12, w22):
    """(cells along the second axis that the links of a cell span, its correlation squared)."""
    p, q, lam, _ = decompose(w11, w12, w22, 1, _FAR)
    there = w11 * w22 > 0
    rho2 = jnp.where(there, w12**2 / jnp.where(there, w11 * w22, 1.0), 0.0)
    return jnp.max(jnp.where((lam > 0) & (p > 0), jnp.abs(q), 0), axis=0), rho2


_clamped = jax.jit(clamped, static_argnums=3)
