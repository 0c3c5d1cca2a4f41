r"""Fluxes and states on a `LabelGrid`: f of a flux model, on the cells and on the walls, and the fluxes of an f.

    f = j/(c (p c)^2) [(c/(MeV cm))^3],     j [1/(cm^2 s sr MeV)] at the equatorial pitch angle and energy that a label has at L

Between the cells ln f is a monotone cubic in alpha_ref, ln p_ref and L (see `label_sampling`): positive, exact at the cells. f
may have leading axes (time, runs); it is (..., [L, [phi,]] alpha, lnp).
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxbelt.constants import EARTH, Planet
from jaxbelt.physics.invariants import alpha_of_K, energy_of_momentum, flux_of_psd, momentum, momentum_of_mu, psd_of_flux
from jaxbelt.physics.label_grid import LabelGrid
from jaxbelt.physics.label_sampling import reaches_90, sample, within_faces
from jaxbelt.physics.labels import at_L, to_labels
from jaxbelt.physics.spectra import check_model

__all__ = ["state", "wall", "to_flux", "to_psd", "flux_at", "psd_at", "omnidirectional"]

_MODEL = ("needs a callable of (alpha, energy, L, phi, t), such as spectra.DirectionalFlux(spectrum=spectra.Exponential(), "
          "shape=spectra.SinePower())")
_OUTSIDE = ("nan", "nearest", "error")


# ---- flux models as f

def state(grid: LabelGrid, flux, t=0.0):
    """f [(c/(MeV cm))^3] on the grid of a flux model, a callable of (alpha, energy, L, phi, t) -> j [1/(cm^2 s sr MeV)] such as
    `spectra.DirectionalFlux`. Exact at the centres of the cells. phi is None on a grid without.

    Raises ValueError, one line, where a concrete j is negative or not a number, for what is no such flux model (a spectrum
    without its pitch angles), and for a grid without labels.
    """
    return _psd(grid, flux, {}, t)


def wall(grid: LabelGrid, axis: str, side: str, flux, t=0.0):
    """f on a wall of the grid, for boundary values: the same as `state` with length 1 along `axis`, "L", "alpha" or "lnp", taken
    at its "lower" or "upper" face. A problem's wall has that axis left out: `wall(grid, "L", "upper", flux)[0]`, and in time
    `jb.function(lambda t, *_, flux: wall(grid, "L", "upper", flux, t)[0], flux=flux)`.

    Raises ValueError for an axis that the grid does not have, another side, and as `state`.
    """
    _check_grid(grid)
    if axis not in ("L", "alpha", "lnp") or axis not in grid.names:
        have = ", ".join(repr(x) for x in grid.names if x != "phi")
        raise ValueError(f"wall axis: {axis!r} has no wall with a flux; the grid has {have}")
    if side not in ("lower", "upper"):
        raise ValueError(f"wall side: {side!r} is unknown; use 'lower' or 'upper'")
    faces = grid[axis].faces
    return _psd(grid, flux, {axis: grid.along(axis, faces[:1] if side == "lower" else faces[-1:])}, t)


def _psd(grid, flux, at, t):
    """f of a flux model on the cells, coordinates in `at` in place of theirs."""
    _check_grid(grid)
    if hasattr(flux, "solid_angle"):
        raise ValueError(f"flux: {type(flux).__name__} is a shape without a spectrum; {_MODEL}")
    check_model("flux", flux, "alpha, energy, L, phi, t", _MODEL)
    L = at.get("L", grid.L)
    phi = grid.centers("phi") if "phi" in grid.names else None
    alpha, energy = _local(grid, *(at.get(name, grid.centers(name)) for name in ("alpha", "lnp")), L)
    j = flux(alpha, energy, L, phi, t)
    shape = tuple(1 if name in at else n for name, n in zip(grid.names, grid.shape))
    if not hasattr(j, "dtype") and not isinstance(j, (int, float)):
        raise ValueError(f"flux: gives {j!r:.40}, no number and no array; {_MODEL}")
    try:
        fits = np.broadcast_shapes(np.shape(j), shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"flux: gives an array of shape {np.shape(j)}, which does not broadcast to the cells, {shape}")
    if not isinstance(j, jax.core.Tracer):
        bad = ~(np.asarray(j) >= 0.0)
        if bad.any():
            a, e, l = (np.broadcast_to(x, bad.shape)[bad][0] for x in (alpha, energy, L))
            raise ValueError(f"flux = {np.asarray(j)[bad][0]:g} at {np.degrees(a):.3g} deg, {e:.4g} MeV, L = {l:.3g}: a flux is "
                             "a number and not negative")
    return jnp.broadcast_to(psd_of_flux(j, energy, grid.species, per="MeV"), shape)


def to_flux(grid: LabelGrid, f):
    """Directional differential flux j [1/(cm^2 s sr MeV)] of f [(c/(MeV cm))^3] on the cells, at their own pitch angle and energy
    (`grid.alpha()`, `grid.energy()`)."""
    return flux_of_psd(_on(grid, f), grid.energy(), grid.species, per="MeV")


def to_psd(grid: LabelGrid, flux):
    """f [(c/(MeV cm))^3] of j [1/(cm^2 s sr MeV)] on the cells: the inverse of `to_flux`."""
    return psd_of_flux(_on(grid, flux, "flux"), grid.energy(), grid.species, per="MeV")


@functools.partial(jax.jit, static_argnums=0)
def _local(grid, alpha_ref, lnp, L):
    """(alpha, energy) of labels at L."""
    place = at_L(alpha_ref, L, grid.L_ref)
    return place.alpha, energy_of_momentum(jnp.exp(lnp + place.log_p), grid.species)


@functools.partial(jax.jit, static_argnums=0)
def _labels(grid, alpha, energy, L):
    """(alpha_ref, lnp) of alpha and energy at L: the inverse of `_local`."""
    alpha_ref, shift = to_labels(alpha, L, grid.L_ref)
    return alpha_ref, jnp.log(momentum(energy, grid.species)) + shift


# ---- what an instrument sees

def flux_at(grid: LabelGrid, f, energy, alpha, L=None, outside="nan"):
    """Directional flux j [1/(cm^2 s sr MeV)] at fixed kinetic energies [MeV] and equatorial pitch angles [rad, 0 to pi], which
    broadcast to a shape S, at the L of the cells or at others, given.

    Returns (..., n_L, [n_phi,] *S), with the shape of L, if given, in place of n_L. outside: where the labels of (energy, alpha)
    at that L, or L, lie outside the grid's faces, "nan", "nearest" (the value at the wall), or "error" (traced values: NaN).
    Raises ValueError, one line, for energies <= 0, pitch angles outside 0 to pi, an f that is not on the grid, L on a grid
    without L.
    """
    _positive("flux_at energy", energy, "a kinetic energy [MeV] is above 0")
    _inside("flux_at alpha", alpha, "an equatorial pitch angle is above 0 and below pi, in radians")
    energy, alpha = jnp.broadcast_arrays(jnp.asarray(energy), jnp.asarray(alpha))
    alpha = 0.5 * math.pi - jnp.abs(0.5 * math.pi - alpha)                       # the other hemisphere
    where, shape = _places(grid, L)
    out = _sample(grid, f, *_labels(grid, alpha.ravel(), energy.ravel(), where[:, None]), where, L is None, outside, "flux_at")
    return _shaped(grid, flux_of_psd(out, energy.ravel(), grid.species, per="MeV"), shape, energy.shape)


def psd_at(grid: LabelGrid, f, mu, K, L=None, outside="nan", planet: Planet = EARTH):
    """f [(c/(MeV cm))^3] at fixed mu [MeV/G] and K [G^1/2 R_E], which broadcast to a shape S; the rest as `flux_at`.

    At the L of the cells only labels are interpolated, the same ones everywhere. The derivative in K at K = 0 is given as 0.
    Raises ValueError, one line, for mu <= 0, K < 0 and as `flux_at`.
    """
    _positive("psd_at mu", mu, "a first invariant [MeV/G] is above 0")
    mu, K = jnp.broadcast_arrays(jnp.asarray(mu), jnp.asarray(K))
    where, shape = _places(grid, L)
    alpha = alpha_of_K(K.ravel(), grid.L_ref, planet)
    lnp = jnp.log(momentum_of_mu(mu.ravel(), alpha, grid.L_ref, grid.species, planet))
    labels = (jnp.broadcast_to(x, (where.size, x.size)) for x in (alpha, lnp))
    return _shaped(grid, _sample(grid, f, *labels, where, L is None, outside, "psd_at"), shape, mu.shape)


def omnidirectional(grid: LabelGrid, f, energy, L=None, outside="nan", nodes=32):
    r"""Omnidirectional flux [1/(cm^2 s MeV)] at fixed kinetic energies [MeV] of shape S: (..., n_L, [n_phi,] *S), as `flux_at`.

        J(E, L) = 4 pi int_{alpha_lo}^{90 deg} j(alpha, E, L) sin(alpha) d(alpha)

    by Gauss-Legendre with `nodes` points between the first face of the pitch angle, alpha_lo, at that L, and 90 degrees: whatever
    f is in the loss cone counts, inside alpha_lo there is none. The labels of one energy span a range of ln p: "nan" is the
    result where the grid does not hold all of it.
    Raises ValueError, one line, for energies <= 0, fewer than 2 nodes, a grid that ends below 90 degrees, and as `flux_at`.
    """
    _positive("omnidirectional energy", energy, "a kinetic energy [MeV] is above 0")
    _check_grid(grid)
    if not isinstance(nodes, int) or nodes < 2:
        raise ValueError(f"omnidirectional nodes = {nodes}: an integer of at least 2")
    if not reaches_90(grid):
        end = np.degrees(grid["alpha"].faces[-1])
        raise ValueError(f"omnidirectional: the grid's pitch angles end at {end:g} degrees; must be 90")
    energy = jnp.asarray(energy)
    where, shape = _places(grid, L)
    alpha_ref, lnp, share = _nodes(grid, nodes, energy.ravel(), where)
    out = _sample(grid, f, alpha_ref, lnp, where, L is None, outside, "omnidirectional")
    share = share[:, None, None] if "phi" in grid.names else share[:, None]
    total = (out.reshape(*out.shape[:-1], energy.size, nodes) * share).sum(-1)
    return _shaped(grid, flux_of_psd(total, energy.ravel(), grid.species, per="MeV"), shape, energy.shape)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _nodes(grid, nodes, energy, where):
    """Labels (places, s * nodes) of Gauss-Legendre points of the pitch angle at energies (s,), and their solid angles [sr]
    (places, nodes)."""
    x, weights = np.polynomial.legendre.leggauss(nodes)
    low, high = grid["alpha"].faces[[0, -1]]
    half = 0.5 * (high - low)
    alpha_ref = low + half * (1.0 + x)
    place = at_L(alpha_ref, where[:, None], grid.L_ref)
    lnp = jnp.log(momentum(energy[:, None], grid.species)) - place.log_p[:, None, :]                     # (places, s, nodes)
    flat = (where.size, energy.size * nodes)
    share = (4.0 * math.pi * half) * weights * place.alpha_slope * jnp.sin(place.alpha)
    return jnp.broadcast_to(alpha_ref, lnp.shape).reshape(flat), lnp.reshape(flat), share


# ---- between the cells

def _sample(grid, f, alpha_ref, lnp, where, at_cells, outside, who):
    """f at labels (places, s) and their L, `where` (places,), those of the cells or others: (..., places, [phi,] s)."""
    if outside not in _OUTSIDE:
        raise ValueError(f"{who} outside: {outside!r} is unknown; use 'nan', 'nearest' or 'error'")
    f = _on(grid, f)
    asked = {"alpha": alpha_ref, "lnp": lnp}
    if "L" in grid.names and not at_cells:
        asked = {"L": where[:, None], **asked}
    if outside == "error":
        for name, x in asked.items():
            if not isinstance(x, jax.core.Tracer) and not np.all(within_faces(grid[name], x)):
                low, high = grid[name].faces[[0, -1]]
                raise ValueError(f"{who}: {name} of the labels is {float(jnp.min(x)):g} to {float(jnp.max(x)):g}, the grid's "
                                 f"{low:g} to {high:g}; give outside='nan' or 'nearest', or another grid")
    return sample(grid, outside == "nearest", f, asked)


def _places(grid, L):
    """(the L asked for (places,), their shape)."""
    _check_grid(grid)
    if "L" in grid.names:
        L = jnp.asarray(grid["L"].centers if L is None else L)
        return L.ravel(), L.shape
    if L is not None:
        raise ValueError(f"L: the grid has no L, all of it is at L_ref = {grid.L_ref:g}; leave L out")
    return jnp.asarray([grid.L_ref]), ()


def _shaped(grid, out, places, shape):
    """(..., places, [phi,] s) with the shapes that were asked for."""
    phi = out.shape[-2:-1] if "phi" in grid.names else ()
    lead = out.shape[:out.ndim - 2 - len(phi)]
    return out.reshape(*lead, *places, *phi, *shape)


def _on(grid, f, name="f"):
    _check_grid(grid)
    _numbers(name, f)
    f = jnp.asarray(f)
    if f.shape[-grid.ndim:] != grid.shape or f.ndim < grid.ndim:
        want = ", ".join(map(str, grid.shape))
        raise ValueError(f"{name}: has shape {f.shape}, but the grid ({', '.join(grid.names)}) needs (..., {want})")
    return f


def _check_grid(grid):
    if not isinstance(grid, LabelGrid):
        has = f" with the axes {', '.join(grid.names)}" if hasattr(grid, "names") else ""
        raise ValueError(f"grid: needs a grid of local_diffusion.grid, with the axes alpha and lnp; got a "
                         f"{type(grid).__name__}{has}")


def _numbers(name, value):
    if not isinstance(value, jax.Array) and np.asarray(value).dtype.kind not in "biuf":
        raise ValueError(f"{name} = {value!r:.40}: must be numbers, without a unit")


def _positive(name, value, why):
    _numbers(name, value)
    if not isinstance(value, jax.core.Tracer):
        bad = ~(np.asarray(value) > 0.0)
        if bad.any():
            raise ValueError(f"{name} = {np.asarray(value)[bad].ravel()[0]:g}: {why}")


def _inside(name, alpha, why):
    _numbers(name, alpha)
    if not isinstance(alpha, jax.core.Tracer):
        value = np.asarray(alpha)
        bad = ~((value > 0.0) & (value < math.pi))
        if bad.any():
            raise ValueError(f"{name} = {value[bad].ravel()[0]:g}: {why}")
