"""Where things are in space: quantities on (psi, chi) at points (r, z), integrated along lines of sight, and their coordinates.

`values` are on a grid of `jaxbelt.foliated.grid`, (..., psi, chi) or, with theta, (..., psi, chi, theta), as
`foliated_moments.local` gives them. Lengths are in R_p; x, y, z and theta as in `field_lines` (z along the field at the equator).
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxbelt.physics import field_lines

__all__ = ["add_coordinates", "at", "chord", "chords", "meridian"]


def _domain(grid, psi, chi, r):
    """A continuous function of place that is positive in the domain: between the walls, above the surface, within chi_max."""
    lo, hi = grid["psi"].faces[[0, -1]]
    end = grid["chi"].faces[-1]
    inside = jnp.minimum(jnp.minimum((psi - lo) / hi, (hi - psi) / hi), r - 1.0)
    # where the outermost line meets the planet the grid ends, and so it may not be a wall for others
    return inside if end >= np.sqrt(1.0 - lo) * (1 - 1e-12) else jnp.minimum(inside, end - jnp.abs(chi))


def _axis(grid, values):
    """Position of psi among the axes of values, and whether theta is there; ValueError where they do not fit the grid."""
    shape, plane = np.shape(values), (grid["psi"].n, grid["chi"].n)
    if shape[-2:] == plane:
        return len(shape) - 2, False
    around = (grid["theta"].n,) if "theta" in grid.names else ()
    if around and shape[-3:] == plane + around:
        return len(shape) - 3, True
    raise ValueError(f"values: need the shape (..., {', '.join(map(str, plane + around))}) of the grid's psi, chi"
                     f"{', theta' if around else ''}, got {shape}")


def _between(centers, x):
    """(lower cell, weight of the upper one), constant beyond the first and the last centre."""
    k = jnp.clip(jnp.searchsorted(jnp.asarray(centers), x, side="right") - 1, 0, centers.size - 2)
    lower, upper = jnp.asarray(centers)[k], jnp.asarray(centers)[k + 1]
    return k, jnp.clip((x - lower) / (upper - lower), 0.0, 1.0)


def _sample(grid, values, psi, chi, theta):
    """Values at points anywhere: linear in psi, chi and theta; beyond the outermost centres above the surface as at these."""
    first, turns = _axis(grid, values)
    values = jnp.moveaxis(jnp.asarray(values), range(first), range(-first, 0)) if first else jnp.asarray(values)
    psi, chi, theta = jnp.broadcast_arrays(psi, chi, 0.0 if theta is None else theta)
    centers = grid["chi"].centers
    live = np.abs(centers) < np.sqrt(1.0 - grid["psi"].centers)[:, None]
    last = jnp.asarray(np.where(live.any(axis=1), np.max(np.where(live, centers, 0.0), axis=1), centers[-1]))
    row, up = _between(grid["psi"].centers, psi)
    if turns:
        n = grid["theta"].n
        place = (theta - grid["theta"].centers[0]) * (n / (2.0 * np.pi))
        low = jnp.floor(place)
        slots = ((low.astype(int) % n, 1.0 - (place - low)), ((low.astype(int) + 1) % n, place - low))
    else:
        slots = (((), 1.0),)

    def expand(w):
        return w.reshape(*w.shape, *(1,) * first)

    total = 0.0
    for i, weight in ((row, 1.0 - up), (row + 1, up)):
        j, right = _between(centers, jnp.clip(chi, -last[i], last[i]))
        for column, share in ((j, 1.0 - right), (j + 1, right)):
            for slot, part in slots:
                found = values[(i, column, slot) if turns else (i, column)]
                w = expand(weight * share * part)
                # a weight of 0 keeps out the NaN beside it, as below the surface
                total = total + jnp.where(w > 0, w * jnp.where(w > 0, found, 0.0), 0.0)
    return jnp.moveaxis(total, range(-first, 0), range(first)) if first else total


def at(grid, values, r, z, theta=None):
    """Values at points: r (distance from the axis) and z [R_p], arrays that broadcast, to (..., *their shape).

    Linear in (psi, chi), as at the outermost centres in the half cells at walls and surface; NaN inside the planet and outside
    the domain. theta [rad]: where values have that axis (linear and periodic); 0 if not given.
    """
    _axis(grid, values)
    return _at(grid, values, jnp.asarray(r, float), jnp.asarray(z, float), theta)


@partial(jax.jit, static_argnums=0)
def _at(grid, values, r, z, theta):
    r, z = jnp.broadcast_arrays(r, z)
    psi, chi, radius = _magnetic(r**2 + z**2, r, z)
    inside = _domain(grid, psi, chi, radius) >= -1e-12
    return jnp.where(inside, _sample(grid, values, psi, chi, theta), jnp.nan)


def _magnetic(square, r, z):
    """(psi, chi, distance from the centre), finite at the centre too."""
    radius = jnp.sqrt(jnp.maximum(square, 1e-12))
    return r**2 / radius**3, z / radius**3, radius


def meridian(grid, values, r=None, z=None, theta=None, points: int = 300):
    """(r, z, values (..., len(z), len(r))): a quantity on a mesh of a half plane through the axis, for pictures.

    r, z: 1-D [R_p]; by default `points` from 0 to the outer wall and twice as many across both hemispheres. NaN as in `at`.
    """
    lo = grid["psi"].faces[0]
    r = np.linspace(0.0, 1.0 / lo, points) if r is None else np.asarray(r, float)
    if z is None:
        # a field line's greatest height: x = cos^2(latitude) = 2/3
        top = (2.0 / 3.0) / np.sqrt(3.0) / lo
        z = np.linspace(-top, top, 2 * points)
    z = np.asarray(z, float)
    return r, z, at(grid, values, r[None, :], z[:, None], theta)


def chord(grid, values, origin, direction, points: int = 600):
    """The integral of a quantity along straight lines: of a density, the line density [1/R_p^2] that an interferometer sees.

    origin, direction (..., 3): a point of each line and its direction (of any length) in (x, y, z). A line is followed both ways
    through the whole domain; one that meets the planet is NaN. values (..., psi, chi[, theta]): leading axes stay in front.

    Second order in the step: between two of the `points` it is the part inside the domain times the value in its middle. Good to
    1e-4 with 600 points, 1e-3 for lines that graze a wall. Differentiable in the values.
    """
    origin, direction = jnp.broadcast_arrays(jnp.asarray(origin, float), jnp.asarray(direction, float))
    if origin.shape[-1:] != (3,):
        raise ValueError(f"origin: needs (x, y, z), the last axis of length 3, got the shape {origin.shape}")
    length = jnp.linalg.norm(direction, axis=-1, keepdims=True)
    if not isinstance(length, jax.core.Tracer) and not np.all(np.asarray(length) > 0):
        raise ValueError("direction: needs a vector that is not zero")
    _axis(grid, values)
    return _chord(grid, values, origin, direction / length, points)


@partial(jax.jit, static_argnums=(0, 4))
def _chord(grid, values, origin, direction, points):
    # from the point of the line nearest to the centre as far as the outer wall reaches anywhere
    nearest = origin - jnp.sum(origin * direction, axis=-1, keepdims=True) * direction
    impact = jnp.sqrt(jnp.sum(nearest**2, axis=-1))
    reach = jnp.sqrt(jnp.maximum(1.0 / grid["psi"].faces[0] ** 2 - impact**2, 0.0))
    s = np.linspace(-1.0, 1.0, points + 1)

    def place(u):
        x = nearest[..., None, :] + (reach[..., None] * u)[..., None] * direction[..., None, :]
        r2 = x[..., 0] ** 2 + x[..., 1] ** 2
        psi, chi, radius = _magnetic(r2 + x[..., 2] ** 2, jnp.sqrt(jnp.maximum(r2, 1e-30)), x[..., 2])
        return psi, chi, radius, jnp.arctan2(-x[..., 1], x[..., 0])

    psi, chi, radius, _ = place(s)
    g = _domain(grid, psi, chi, jnp.maximum(radius, 1.0 + 1e-9))
    a, b = g[..., :-1], g[..., 1:]
    # the inside part of each piece, from its zero on
    rise = jnp.where(a == b, 1.0, b - a)
    zero = jnp.clip(jnp.where(a == b, 0.0, -a / rise), 0.0, 1.0)
    start = jnp.where(a >= 0, 0.0, jnp.where(b > 0, zero, 1.0))
    end = jnp.where(b >= 0, 1.0, jnp.where(a > 0, zero, 0.0))
    share = jnp.maximum(end - start, 0.0)
    psi, chi, _, theta = place(s[:-1] + 0.5 * (start + end) * (2.0 / points))
    found = _sample(grid, values, psi, chi, theta)
    total = jnp.sum(jnp.where(share > 0, found * share, 0.0), axis=-1) * reach * (2.0 / points)
    return jnp.where(impact < 1.0, jnp.nan, total)


def chords(grid, values, b, z=0.0, points: int = 600):
    """`chord` along horizontal lines: tangent to the circle of radius b at the height z (b and z broadcast) [R_p].

    At z = 0, against b > 1, it is the usual radial profile of line density; over b and z the picture a camera far away sees. The
    line runs along y at x = b (theta = 0 where it is nearest to the axis).
    """
    b, z = jnp.broadcast_arrays(jnp.asarray(b, float), jnp.asarray(z, float))
    origin = jnp.stack([b, jnp.zeros_like(b), z], axis=-1)
    return chord(grid, values, origin, jnp.array([0.0, 1.0, 0.0]), points)


def add_coordinates(dataset):
    """An xarray Dataset of a foliated solution with more coordinates: L (psi), l, B, r, z (psi, chi) and v_par (psi, chi, p).

    `dataset` is what `Solution.to_xarray` and `Run.to_xarray` give; nothing else changes. Inside the planet they are
    extrapolated. Then dataset.f.sel(psi=0.6, method="nearest").swap_dims(chi="l") is f over the arc length, for instance.
    """
    missing = [n for n in ("psi", "chi", "p") if n not in dataset.coords]
    if missing:
        raise ValueError(f"dataset: needs the coordinates psi, chi and p of a foliated solution, {', '.join(missing)} not among "
                         f"its {', '.join(map(str, dataset.coords))}")
    psi, chi, p = (np.asarray(dataset[n], float) for n in ("psi", "chi", "p"))
    with jax.ensure_compile_time_eval():
        where = field_lines.from_potential(chi, psi[:, None], outside="extrapolate")
        B = np.asarray(where.B)
        plane = {"l": (where.l, "R_p", "arc length from the equator"), "B": (B, "B_p", "field strength"),
                 "r": (where.r_cyl, "R_p", "distance from the axis"), "z": (where.z, "R_p", "height above the equator")}
    new = {k: (("psi", "chi"), np.asarray(v), {"units": unit, "long_name": name}) for k, (v, unit, name) in plane.items()}
    new["L"] = ("psi", 1.0 / psi, {"units": "R_p", "long_name": "equatorial radius of the field line"})
    new["v_par"] = (("psi", "chi", "p"), B[..., None] * p, {"units": "v_th", "long_name": "velocity along the field"})
    return dataset.assign_coords(new)
