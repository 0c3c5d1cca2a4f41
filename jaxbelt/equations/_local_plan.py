"""What is checked and planned when a local-diffusion problem is built with concrete coefficients."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxbelt._warn import warn
from jaxbelt.coefficients import Time, evaluate, jumps
from jaxbelt.constants import SECONDS_PER_DAY as DAY
from jaxbelt.equations import _drift_plan as drift
from jaxbelt.flows.selling import check_psd, clamped, decompose
from jaxbelt.physics.losses import rate as loss_rate

__all__ = ["Plan", "check_axes", "checked"]

_PLANES = 6                # along L and along phi, by which the stencil is chosen
_MOMENTS = 4               # at which the local tensor is looked at
_FAR = 1000                # cells: farther links are not told apart
_SLOPE = 0.01              # of cross diffusion that changes anything: F falls by a few e-folds along ln p


@dataclasses.dataclass(frozen=True)
class Plan(drift.Plan):
    """Static: what transport needs (see there), the kinds of the walls of the labels, the axes of the local planes (the
    stencil reaches far along the second) and the rows of cells it spans along the first."""

    low_alpha: str = "no flux"
    low_p: str = "no flux"
    high_p: str = "no flux"
    plane: tuple[str, str] = ("lnp", "alpha")
    plane_rows: int = 1

    def check_start(self, f0):
        """ValueError where f0 is negative."""
        if not isinstance(f0, jax.core.Tracer) and np.any(np.asarray(f0) < 0):
            raise ValueError(f"f0: must be at least 0 everywhere, got {float(np.min(np.asarray(f0))):g}")


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
    for wave in _waves(prm):
        if not callable(wave):
            raise ValueError(f"local: needs a callable of (t, alpha, E, L[, phi]) such as LocalTensor(daa=...), got "
                             f"{type(wave).__name__}")
        if getattr(wave, "electrons", False) and grid.species.charge > 0:
            raise ValueError(f"local: {type(wave).__name__} is for electrons, the grid's particles are positive")


def _waves(prm) -> tuple:
    return prm.local if isinstance(prm.local, tuple) else () if prm.local is None else (prm.local,)


def _check_result(grid, wave, t, local):
    """Three entries that fit the grid."""
    try:
        made = wave(t, *local)
        found = [jnp.shape(x) for x in made]
        whole = jnp.broadcast_shapes(grid.shape, *found)
    except (TypeError, ValueError) as error:
        raise ValueError(f"local: {type(wave).__name__} cannot be evaluated on the grid {grid.shape} "
                         f"({', '.join(grid.names)}): {' '.join(str(error).split())}") from None
    if len(found) != 3 or whole != grid.shape:
        raise ValueError(f"local: {type(wave).__name__} must return (D_aa, D_ap/p, D_pp/p^2), arrays that fit the grid "
                         f"{grid.shape}; it returned {len(found)} of shapes {found}")


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
    for wave in _waves(prm):
        jax.eval_shape(lambda t, wave=wave: _check_result(grid, wave, Time.at(t), local), 0.0)
        way = getattr(wave, "outside", "error")
        if hasattr(wave, "covers") and way in ("error", "warn"):
            density = np.array([np.asarray(evaluate(wave.density, Time.at(jnp.asarray(m)), *local[2:])) for m in moments])
            said = wave.covers(np.asarray(local[1]), np.asarray(local[2]), density)
            if said and way == "warn":
                warn(f"local: {type(wave).__name__} is extrapolated: the grid has {said}")
            elif said:
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
                if name == "loss_cone" and not np.any(rate > 0) and made.plan.low_alpha == "no flux":
                    warn(f"loss_cone: nothing is lost: no cell has its centre in the loss cone; start alpha lower (now "
                         f"{math.degrees(grid['alpha'].faces[0]):.3g} deg), take more cells, or give low_alpha=0.0")
        if prm.energy_loss is not None:
            rate = np.asarray(evaluate(prm.energy_loss, t, *local))
            if not np.all(rate >= 0):
                raise ValueError("energy_loss: is a rate -d(ln p)/dt, at least 0 everywhere, not NaN")
        if prm.local is not None:
            tensors.append(_some_planes(_checked_tensor(grid, read(grid, prm.local, t))))
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
    rho = np.abs(w[1]) / np.sqrt(np.where(w[0] * w[2] > 0, w[0] * w[2], np.inf))
    for name, d, bad in (("D_aa", daa, ~(daa >= 0)), ("D_pp", dpp, ~(dpp >= 0)), ("D_ap", dap, ~np.isfinite(dap))):
        if np.any(bad):
            raise ValueError(f"local: {name} must be finite{' and at least 0' * (name != 'D_ap')} everywhere, got "
                             f"{d[bad][0] * DAY:g} per day (in the labels)")
    if np.max(rho) > 1.01:
        at = np.unravel_index(np.argmax(rho), rho.shape)
        values = ", ".join(f"{n} = {np.broadcast_to(d, rho.shape)[at] * DAY:.3g}" for n, d in
                           (("D_aa", daa), ("D_ap", dap), ("D_pp", dpp)))
        raise ValueError(f"local: the tensor is not positive semi-definite: |D_ap| is {rho[at]:.4g} times sqrt(D_aa D_pp) in "
                         f"cell {tuple(int(i) for i in at)} of the labels ({values} per day); at most 1.01 is corrected")
    check_psd(*w)
    return w


def _some_planes(w):
    """The tensor at some (L, phi), spread over the grid: what the stencil is chosen by."""
    for k in range(w[0].ndim - 2):
        some = np.unique(np.linspace(0, w[0].shape[k] - 1, _PLANES).astype(int))
        w = [np.take(x, some, axis=k) for x in w]
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
        warn(f"local: {100 * best[0]:.2g} % of the cross diffusion is beyond the stencil and left out: the shape of "
             "the cells suits neither D_aa nor D_pp; use fewer cells in one of alpha and lnp")
    return best[1]


def _warn_of_far_links(grid, tensors, axes) -> None:
    """Cells that are too long in ln p for the slope D_ap/D_aa are linked with cells at quite another pitch angle."""
    n = grid[axes[1]].n
    steps = [grid.along(x, np.diff(grid[x].faces)) for x in axes]
    for w in tensors:
        waa, wap, wpp = (np.broadcast_to(x, np.broadcast_shapes(*(y.shape for y in w))) for x in w)
        first, second = (waa, wpp) if axes[0] == "alpha" else (wpp, waa)
        reach = np.asarray(_reach(*(jnp.asarray(x) for x in (first, wap, second))))
        slope = np.abs(wap) * steps[0] / (np.where(second > 0, second, np.inf) * steps[1])
        far = (reach > 0.5 * n) & (slope > _SLOPE)
        if np.mean(far) > 0.02:
            factor = math.ceil(np.quantile(reach[slope > _SLOPE], 0.97) / (0.4 * n))
            warn(f"local: in {100 * np.mean(far):.0f} % of the cells the cross diffusion is linked over more than half "
                 f"of the cells in {axes[1]}, where it errs, by tens of per cent at worst: D_ap is small against D_aa "
                 f"for cells of this shape; take about {factor} times as many in {axes[0]}, and fewer in {axes[1]}")
            return


@jax.jit
def _reach(w11, w12, w22):
    """Cells along the second axis that the links of a cell span."""
    p, q, lam, _ = decompose(w11, w12, w22, 1, _FAR)
    return jnp.max(jnp.where((lam > 0) & (p > 0), jnp.abs(q), 0), axis=0)


_clamped = jax.jit(clamped, static_argnums=3)
