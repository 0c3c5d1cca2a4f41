"""Divergence-free drift in a plane of two axes, from a stream function on cell corners."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxbelt.coefficients import Time, static
from jaxbelt.flows.base import Flow, any_in_batch, flow, max_in_batch, wall_value
from jaxbelt.flows.weno import Wall, cell_faces, divergence, face_values, sides, upwind_values

__all__ = ["Transport", "rate", "face_fluxes", "ripple_filter", "stream_from_velocity", "SUBSTEPS_EXCEEDED"]

SUBSTEPS_EXCEEDED = 3

# SSP-RK3, a row a stage: moment of its Euler step in units of h; weight of the substep's start in y = keep f + (1 - keep)
# (y + h L y); weight of its fluxes in the quadrature f1 - f = h (L0 + L1 + 4 L2)/6
_SSP_RK3 = np.array([[0.0, 0.0, 1 / 6], [1.0, 3 / 4, 1 / 6], [0.5, 1 / 3, 2 / 3]])


def _plane_volumes(grid, axes) -> np.ndarray:
    """Cell volumes of the plane (the measures of the other axes left out), broadcastable to the grid."""
    v = grid.along(axes[0], grid[axes[0]].measure) * grid.along(axes[1], grid[axes[1]].measure)
    return v if grid.volume_factor is None else v * grid.volume_factor.array


def _other_measures(grid, axes) -> np.ndarray:
    """Product of the measures of the axes outside the plane, broadcastable to the grid."""
    plane = {grid.index(a) for a in axes}
    v = np.ones((1,) * grid.ndim)
    for i, a in enumerate(grid.axes):
        v = v if i in plane else v * grid.along(i, a.measure)
    return v


def face_fluxes(grid, stream, axes):
    """Content fluxes (U_a, U_b) [plane volume/s] through the faces of the plane, from the stream function on corners.

    U_a(i+1/2, j) = -[psi(i+1/2, j+1/2) - psi(i+1/2, j-1/2)], U_b(i, j+1/2) = psi(i+1/2, j+1/2) - psi(i-1/2, j+1/2).
    stream: n + 1 corners along an axis; n along a periodic one, corner i being the upper corner of cell i (n + 1 there
    means that psi is not single-valued: it differs by a constant after one turn). Length 1 or n along other axes.
    A periodic axis has n faces (face i is the upper face of cell i), any other n + 1.
    """
    ka, kb = (grid.index(a) for a in axes)
    stream = jnp.asarray(stream)
    if stream.ndim != grid.ndim:
        raise ValueError(f"stream: needs {grid.ndim} dimensions, one an axis of the grid, got shape {stream.shape}")
    for k, axis in enumerate(grid.axes):
        right = (1, axis.n) if k not in (ka, kb) else (axis.n, axis.n + 1) if axis.periodic else (axis.n + 1,)
        if stream.shape[k] not in right:
            raise ValueError(f"stream: needs {' or '.join(map(str, right))} corners along {axis.name!r}, "
                             f"got {stream.shape[k]}")

    def difference(k):
        if stream.shape[k] == grid.axes[k].n:
            upper, lower = cell_faces(stream, k, True)
            return upper - lower
        return jnp.diff(stream, axis=k)

    def on_faces(x, k):
        closed = grid.axes[k].periodic and x.shape[k] > grid.axes[k].n
        return lax.slice_in_dim(x, 1, None, axis=k) if closed else x

    return on_faces(-difference(kb), ka), on_faces(difference(ka), kb)


def _rate(grid, ua, ub, axes, weight):
    out = 0.0
    for u, axis in ((ua, axes[0]), (ub, axes[1])):
        upper, lower = cell_faces(u, grid.index(axis), grid[axis].periodic)
        out = out + jnp.maximum(upper, 0) + jnp.maximum(-lower, 0)
    volume = _plane_volumes(grid, axes)
    return jnp.max(out / (volume if weight is None else volume * weight))


def rate(grid, stream, axes, weight=None):
    """The CFL rate [1/s]: the largest (sum of outgoing fluxes)/(V weight) of any cell. Can be traced."""
    return _rate(grid, *face_fluxes(grid, stream, axes), axes, weight)


@flow
class Transport(Flow):
    """V df/dt = -div(U f), U from a stream function psi on the corners of the cells of a plane (a, b):

        adot * measure = -d psi/db,  bdot * measure = +d psi/da

    so that constants are kept to round-off on any grid. All other axes of the grid are batch; psi is per unit measure
    of those. Finite volume, WENO5-Z in index space, SSP-RK3, n = ceil(rate dt/courant) equal substeps.

    axes: names (a, b). stream: see `face_fluxes` for its shape. weight: None, or positive cell values w: f/w is what is
    reconstructed and carried by U, so that f = w is exactly steady. lower, upper: for (a, b), the value of f (of f/w
    where there is a weight) brought in through that wall, None for vacuum: a number, an array over the other axes, or a
    callable. What flows out leaves. substeps: the most substeps a step may take; more sets `fault` to 3.
    courant: n is such that (sum of outgoing U) dt/(n V w) <= courant in every cell; below 1 the upwind part of an Euler
    stage is positive, which the limiter relies on; 0.8 is also well inside linear stability (about 1.4).
    positive: a stage that leaves anything negative has its antidiffusive fluxes limited, cell by cell. Conservative.
    live: None, or True where a cell holds anything, broadcastable to the grid: what a substep has brought into the others is
    removed after it and booked as "loss" (a body in the plane that absorbs what meets it).
    """

    axes: tuple[str, str] = static()
    stream: Any
    weight: Any = None
    live: Any = None
    lower: tuple = (None, None)
    upper: tuple = (None, None)
    steady: bool = static(True)
    substeps: int = static(1)
    courant: float = static(0.8)
    positive: bool = static(True)

    def prepare(self, grid, dt):
        """What a step of dt needs: see `Flow`."""
        ua, ub = face_fluxes(grid, self.stream, self.axes)
        for axis in self.axes:
            if grid[axis].n < 3:
                raise ValueError(f"axis {axis!r}: transport needs at least 3 cells, got {grid[axis].n}")
        return {"fluxes": (ua, ub), "rate": lax.stop_gradient(_rate(grid, ua, ub, self.axes, self.weight))}

    def advance(self, grid, state, f, t, dt):
        """(f after dt, budget): see `Flow`."""
        needed = lax.stop_gradient(state["rate"] * dt / self.courant) * (1 - 1e-6)
        # written so that NaN and infinity count as too many
        own = jnp.where(needed <= self.substeps, jnp.ceil(needed), self.substeps + 1).astype(jnp.int32)
        n = jnp.minimum(max_in_batch(own), self.substeps)
        h = dt / jnp.maximum(n, 1).astype(f.dtype)
        t = Time.at(t)
        none = tuple(jnp.zeros((), f.dtype) for _ in self._wall_names(grid))

        def substep(f, walls, lost, i):
            start = t.plus(i.astype(f.dtype) * h)

            def stage(carry, c):
                y, walls = carry
                moment, keep, share = c
                e, gained = self._euler(grid, state, y, start.plus(moment * h), h)
                return (keep * f + (1 - keep) * e, tuple(w + share * g for w, g in zip(walls, gained))), None
            # one stage compiled, run three times
            f, walls = lax.scan(jax.checkpoint(stage), (f, walls), jnp.asarray(_SSP_RK3, f.dtype))[0]
            if self.live is None:
                return f, walls, lost
            dead = jnp.where(self.live, 0.0, f)
            measure = _plane_volumes(grid, self.axes) * _other_measures(grid, self.axes)
            return f - dead, walls, lost - jnp.sum(dead * measure)

        def body(carry, i):
            return lax.cond(i < n, lambda: substep(*carry, i), lambda: carry), None

        start = f, none, jnp.zeros((), f.dtype)
        (f, walls, lost), _ = lax.scan(jax.checkpoint(body), start, jnp.arange(self.substeps, dtype=jnp.int32))
        budget = dict(zip(self._wall_names(grid), walls))
        if self.live is not None:
            budget["loss"] = lost
        budget["fault"] = jnp.where(own > self.substeps, SUBSTEPS_EXCEEDED, 0).astype(jnp.int32)
        return f, budget

    def _wall_names(self, grid):
        return [f"{grid[a].name}.{side}" for a in self.axes if not grid[a].periodic for side in ("lower", "upper")]

    def _walls(self, grid, u, which, t):
        """The two walls of an axis at a moment; None where the axis is periodic."""
        axis = self.axes[which]
        k = grid.index(axis)
        if grid[axis].periodic:
            return None
        walls = []
        for i, sign, coefficient in ((0, 1, self.lower[which]), (u.shape[k] - 1, -1, self.upper[which])):
            value = 0.0 if coefficient is None else wall_value(coefficient, t, grid, axis)
            walls.append(Wall(sign * lax.index_in_dim(u, i, k) > 0, value))
        return walls

    def _euler(self, grid, state, f, t, h):
        """One Euler stage f - (h/V) div F, and the content gained through each wall."""
        k = [grid.index(a) for a in self.axes]
        periodic = [grid[a].periodic for a in self.axes]
        u = state["fluxes"]
        walls = [self._walls(grid, u[i], i, t) for i in (0, 1)]
        h_over_v = h / _plane_volumes(grid, self.axes)
        others = _other_measures(grid, self.axes)
        g = f if self.weight is None else f / self.weight

        def moved(flux):
            return f - h_over_v * (divergence(flux[0], k[0], periodic[0]) + divergence(flux[1], k[1], periodic[1]))

        def gained(flux):
            out = []
            for x, i, wrap in zip(flux, k, periodic):
                if not wrap:
                    out.append(h * jnp.sum(lax.index_in_dim(x, 0, i) * others))
                    out.append(-h * jnp.sum(lax.index_in_dim(x, x.shape[i] - 1, i) * others))
            return tuple(out)

        high = [u[i] * face_values(g, u[i], k[i], walls[i], self.positive) for i in (0, 1)]
        new = moved(high)
        if not self.positive:
            return new, gained(high)
        # a plane that comes in with negative values is left to the high order: there is nothing to keep positive
        negative = jnp.any(new < 0, axis=tuple(k), keepdims=True) & (jnp.min(f, axis=tuple(k), keepdims=True) >= 0)

        def limited():
            low = [u[i] * upwind_values(g, u[i], k[i], walls[i]) for i in (0, 1)]
            flux = _limit(high, low, moved(low), h_over_v, k, periodic)
            # only in the planes that need it, so that no plane or run depends on its neighbours in a batch
            flux = [jnp.where(negative, x, y) for x, y in zip(flux, high)]
            return jnp.where(negative, moved(flux), new), gained(flux)

        return lax.cond(any_in_batch(lax.stop_gradient(negative)), limited, lambda: (new, gained(high)))


def _limit(high, low, low_cells, h_over_v, k, periodic):
    """Fluxes low + r (high - low) with 0 <= r <= 1: no cell gives away more antidiffusively than the upwind stage left."""
    anti = [x - y for x, y in zip(high, low)]
    out = 0.0
    for a, i, wrap in zip(anti, k, periodic):
        upper, lower = cell_faces(a, i, wrap)
        out = out + jnp.maximum(upper, 0) + jnp.maximum(-lower, 0)
    given = h_over_v * out
    info = np.finfo(low_cells.dtype)
    # a few ulp less than there is, so that rounding cannot leave a negative cell
    room = jnp.maximum(low_cells, 0) * (1 - 64 * float(info.eps))
    short = given > room
    # below the floor 1/given^2 overflows in the derivative; nothing antidiffusive is left there
    divide = short & (given > float(info.tiny) ** 0.4)
    ratio = jnp.where(divide, room / jnp.where(divide, given, 1.0), jnp.where(short, 0.0, 1.0))
    flux = []
    for a, x, i, wrap in zip(anti, low, k, periodic):
        below, above = sides(ratio, i, wrap, 1.0)
        flux.append(x + a * jnp.where(a > 0, below, above))
    return flux


def ripple_filter(stream, rotation_rate, dt, axis_index, omega=0.0):
    """Average of a stream function over a step of dt in the frame that turns with the rotation split off from it.

    Each harmonic m along the periodic axis `axis_index` is multiplied by sin(x)/x, x = (m Omega - omega) dt/2.
    stream: n corners along that axis. rotation_rate: Omega [rad/s], for each row of corners, broadcastable to the
    stream with length 1 along the axis. omega: angular frequency of the stream itself [rad/s]. The drift stays
    divergence-free. It removes most of the splitting error of a rotation by many cells a step.
    """
    stream = jnp.asarray(stream)
    k = axis_index % stream.ndim
    n = stream.shape[k]
    shape = [1] * stream.ndim
    shape[k] = -1
    m = jnp.arange(n // 2 + 1, dtype=stream.dtype).reshape(shape)
    x = (m * rotation_rate - omega) * dt / 2
    return jnp.fft.irfft(jnp.fft.rfft(stream, axis=k) * jnp.sinc(x / jnp.pi), n, axis=k)


def stream_from_velocity(ua, ub, axes=(0, 1)):
    """The stream function of given face fluxes, and how badly it reproduces them: (psi, mismatch).

    ua: adot * measure through the a-faces, integrated over the face: (n_a + 1, n_b), or (n_a, n_b) if a is periodic;
    ub: (n_a, n_b + 1), or (n_a, n_b) if b is periodic; other dimensions are batch. `axes`: positions of a and b. Faces
    and corners of periodic axes are numbered as in `face_fluxes`. psi is summed from the first row of ua and from ub;
    mismatch = max |U - U(psi)|/max |U| is round-off if the drift is divergence-free (and carries no net flux around
    or through a periodic axis), and of order one if it is not. Can be traced.
    """
    ua, ub = jnp.asarray(ua), jnp.asarray(ub)
    ka, kb = (axis % ua.ndim for axis in axes)
    wrap_a, wrap_b = ua.shape[ka] == ub.shape[ka], ub.shape[kb] == ua.shape[kb]
    if not (wrap_a or ua.shape[ka] == ub.shape[ka] + 1) or not (wrap_b or ub.shape[kb] == ua.shape[kb] + 1):
        raise ValueError(f"ua has shape {ua.shape} and ub {ub.shape}: needs (n_a + 1, n_b) and (n_a, n_b + 1), "
                         "one less along a periodic axis")
    # the corners at the lower end of a (its upper end, if periodic), upper corners of each cell along b
    row = -jnp.cumsum(lax.index_in_dim(ua, ua.shape[ka] - 1 if wrap_a else 0, ka), axis=kb)
    rise = jnp.cumsum(ub, axis=ka)
    if not wrap_b:
        row = lax.concatenate([jnp.zeros_like(lax.index_in_dim(row, 0, kb)), row], kb)
    psi = row + rise if wrap_a else lax.concatenate([row, row + rise], ka)
    back_a = -(psi - jnp.roll(psi, 1, kb) if wrap_b else jnp.diff(psi, axis=kb))
    back_b = psi - jnp.roll(psi, 1, ka) if wrap_a else jnp.diff(psi, axis=ka)
    scale = jnp.maximum(jnp.max(jnp.abs(ua)), jnp.max(jnp.abs(ub)))
    worst = jnp.maximum(jnp.max(jnp.abs(ua - back_a)), jnp.max(jnp.abs(ub - back_b)))
    return psi, worst / jnp.where(scale > 0, scale, 1.0)
