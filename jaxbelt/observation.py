r"""What a spacecraft would see in a run: phase space density and electron (or proton) flux along an orbit.

    f(t, L, phi) at each mu    interpolated between cells and outputs: log f is linear in t, ln L, phi and ln mu
    j(E, y_K) = p^2 f          at mu = p^2 y_K^2/(2 m B), B = B_E/L^3 (Roederer 1970; Schulz & Lanzerotti 1974)
    j(E, y)   = j(E, y_K) shape(y)/shape(y_K)

y = sin(alpha_eq), y_K that of the solution's K: 1 where K = 0. With f in (c/(MeV cm))^3 the flux is absolute (`flux_of_psd`: of
1-MeV electrons, 1 /(cm^2 s sr keV) is f = 1.650e-8); with f in another unit it is in proportion. In a dipole L is L*; an orbit
is best given in L*.

`observe` is pure: it takes part in jit, vmap, grad and jvp, so it is the observation operator of a fit.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxbelt.constants import EARTH, Planet
from jaxbelt.constants import species as as_species
from jaxbelt.instrument import Channel, Observation, Orbit, SinN
from jaxbelt.physics.dipole import energy_of_mu, mu_of_energy, y_of_K
from jaxbelt.physics.invariants import flux_of_psd

__all__ = ["Orbit", "Channel", "SinN", "Observation", "observe", "interpolate"]

PSD_UNIT = "(c/(MeV cm))^3"

_POINTS = 8                               # Gauss-Legendre points in ln E across a channel
_GEOMETRIC, _LINEAR = math.log(1e6), math.log(1e9)
_SLACK = 1e-6                             # of a range, forgiven at its ends


# ---- interpolation

def interpolate(a, b, w):
    """A value between a (w = 0) and b (w = 1), positive where they are: a^(1-w) b^w, exact for exponentials and power laws.

    Where a and b differ by more than a factor 1e6 it slides to the linear (1-w) a + w b, reached at 1e9 and for values that are
    0 or negative: a front or an empty cell is no power law. Always between a and b for 0 <= w <= 1, once differentiable in a and
    b, second order in the cell size.
    Outside 0 <= w <= 1 the power law goes on; the linear rule stays at its end.
    """
    both = (a > 0.0) & (b > 0.0)
    sa, sb = jnp.where(both, a, 1.0), jnp.where(both, b, 1.0)
    log = jnp.log(sb) - jnp.log(sa)
    s = jnp.clip((_LINEAR - jnp.abs(log)) / (_LINEAR - _GEOMETRIC), 0.0, 1.0)
    s = s * s * (3.0 - 2.0 * s)
    flat = jnp.clip(w, 0.0, 1.0)
    linear = a * (1.0 - flat) + b * flat
    power = sa * jnp.exp(w * jnp.clip(log, -_LINEAR, _LINEAR))
    return jnp.where(both, s * power + (1.0 - s) * linear, linear)


def _locate(nodes, x, xp=np):
    """(lower neighbour, upper neighbour, weight of the upper one) of x among increasing nodes; beyond the ends the last two."""
    last = nodes.shape[0] - 1
    i = xp.clip(xp.searchsorted(nodes, x, side="right") - 1, 0, max(last - 1, 0))
    j = xp.minimum(i + 1, last)
    step = nodes[j] - nodes[i]
    return i, j, (x - nodes[i]) / xp.where(step > 0, step, 1.0)


def _concrete(*values) -> bool:
    return not any(isinstance(x, jax.core.Tracer) for v in values for x in jax.tree.leaves(v))


def observe(sol, orbit: Orbit, channels=None, *, mu=None, K=None, species=None, planet: Planet | None = None,
            node: int | None = None, outside: str = "error", psd_unit: str | None = None) -> Observation:
    """Phase space density, and the flux in `channels`, along an orbit through a solution.

    sol: a `Solution` or a loaded `Run` with the axes L, or L and phi, with or without a first axis of nodes "mu" [MeV/G]; or
    the solutions of a vmap over mu, when mu is the array (n,). orbit: an `Orbit`. channels: a `Channel` or several; None: psd
    alone. mu [MeV/G]: of a solution at one mu, whose flux is known at that mu's energy alone: `Channel(energy=None)`.
    K [G^1/2 R_E]: of the solution; None: particles that mirror at the equator. node: which node of a leading axis other than mu
    (a population). mu, K, species and planet are by default those of the solution's `kinetic` and `planet` (a loaded `Run` has
    neither), else None, 0, electrons and EARTH.
    psd_unit: that of f, by default the solution's own; where it is not PSD_UNIT the flux is called relative.
    outside: "error", or "mask" for NaN at samples outside the grid or the time span; samples with NaN are always masked.

    log f is linear in t, ln L and phi, then in ln mu (see `interpolate`); a channel is the mean over its energies, by 8-point
    Gauss-Legendre in ln E. Between the wall and the centre of the first cell the power law of the first two cells goes on.
    Raises ValueError, one line, for samples outside, an orbit without MLT where it is needed, a channel whose mu the solution
    nowhere has (samples partly out of mu are NaN and counted in `.message`). Inside jit the times of the solution and the
    result cannot be looked at: samples outside the time span, and channels not covered, are masked there.
    """
    if outside not in ("error", "mask"):
        raise ValueError(f"observe outside: {outside!r} is unknown; use 'error' or 'mask'")
    channels = (channels,) if isinstance(channels, Channel) else None if channels is None else tuple(channels)
    grid = sol.grid
    mu, K, species, planet = _particles(sol, mu, K, species, planet, node or 0)
    f, times, mu, batched = _layout(sol, grid, mu, node)
    single = mu is None or jnp.size(mu) == 1
    for channel in channels or ():
        if mu is None:
            raise ValueError("observe: a flux needs the first invariant of the solution: give mu= in MeV/G")
        if (channel.energy is None) != single:
            raise ValueError(f"observe: channel {channel.name!r} has an energy, but the solution has one mu, whose flux is known "
                             "only at that mu's energy at each L: give Channel(energy=None)" if single else
                             "observe: Channel(energy=None) is for a solution at one mu; this one has several: give an energy")
    inside, where = _inside(sol, grid, orbit, times, outside)
    known = _known(orbit, grid)
    L, y = np.where(known, orbit.L, grid["L"].centers[0]), np.where(known, orbit.y, 1.0)       # no NaN for a gradient to meet
    # y of the solution's own particles: 1 by structure without K
    own = 1.0 if K is None or not channels else y_of_K(K, L, planet)
    psd, *seen = _seen(f, where, inside, channels, mu, L, y, None if K is None else own, as_species(species), planet)
    flux, energy, valid = seen or (None, None, None)
    _check_cover(channels, valid, inside, mu, L, species, planet, own)
    unit = _unit(sol) if psd_unit is None else psd_unit
    return Observation(psd if batched else psd[0], flux, energy, inside, valid, mu, orbit=orbit, epoch=_epoch(sol),
                       psd_unit=unit, units=tuple(c.flux_unit if unit == PSD_UNIT else "relative" for c in channels or ()),
                       labels=tuple(c.name for c in channels or ()))


@jax.jit
def _seen(f, where, inside, channels, mu, L, y, own, species, planet):
    """psd (mu, time), and with channels (flux, energy, valid), each (channel, time)."""
    particles = (species, planet, 1.0 if own is None else own)
    psd = _along(f, where).T
    masked = jnp.where(inside, psd, jnp.nan)
    if not channels:
        return (masked,)
    out = []
    for channel in channels:
        flux, energy, covered = (_at_mu if channel.energy is None else _in_band)(channel, psd, mu, L, *particles)
        valid = inside & covered
        flux = flux * (channel.direction(y) if own is None else channel.direction(y) / channel.shape(own))
        out.append((jnp.where(valid, flux, jnp.nan), jnp.where(inside, energy, jnp.nan), valid))
    return (masked, *(jnp.stack(x) for x in zip(*out)))


def _particles(sol, mu, K, species, planet, node):
    """mu, K, species and planet: as given, else those of the solution's parameters, else (None, None, electron, EARTH)."""
    prm = getattr(getattr(sol, "problem", None), "parameters", None)
    kinetic = getattr(prm, "kinetic", None)

    def one(tree):                # parameters on an axis of nodes, or of a vmap over mu, carry that axis in every leaf
        return jax.tree.map(lambda x: jnp.reshape(x, (-1,))[node] if jnp.ndim(x) else x, tree)

    if mu is None and "mu" not in sol.grid.names:
        mu = getattr(kinetic, "mu", None)
        mu = one(mu) if sol.grid.axes[0].is_nodes else mu
    if K is None:
        K = one(getattr(kinetic, "K", None))
    if species is None:
        species = one(kinetic.species) if hasattr(kinetic, "species") else "electron"
    if planet is None:
        planet = one(prm.planet) if hasattr(prm, "planet") else EARTH
    return mu, K, species, planet


def _epoch(sol):
    return sol.epoch if hasattr(sol, "epoch") else sol.problem.epoch


def _unit(sol):
    return sol.f_attrs.get("units", "1") if hasattr(sol, "f_attrs") else sol.problem.quantity[1]


def _layout(sol, grid, mu, node):
    """(f with axes (t, L[, phi], mu), output times, mu or None, whether the result keeps the mu axis)."""
    names, f = grid.names, jnp.asarray(sol.f)
    if grid.axes[0].is_nodes and names[0] != "mu":
        if node is None or not 0 <= node < grid.axes[0].n:
            raise ValueError(f"observe: the solution has {grid.axes[0].n} nodes of {names[0]}; give node= 0 to "
                             f"{grid.axes[0].n - 1}, got {node}")
        names, f = names[1:], f[:, node]
    elif node is not None:
        raise ValueError(f"observe: node = {node}, but the solution has no leading axis of nodes besides mu")
    if names not in (("L",), ("L", "phi"), ("mu", "L"), ("mu", "L", "phi")):
        raise ValueError(f"observe: needs a solution on (L) or (L, phi), or on (mu, L) or (mu, L, phi), got ({', '.join(names)})")
    times = sol.t if isinstance(sol.t, jax.core.Tracer) else np.asarray(sol.t, np.float64)
    if "mu" in names:
        if mu is not None:
            raise ValueError("observe: the solution has an axis mu of its own; leave mu= out")
        if f.ndim != grid.ndim + 1:
            raise ValueError(f"observe: needs f of shape (time, {', '.join(names)}), got {f.shape}; use jax.vmap for a batch")
        return jnp.moveaxis(f, 1, -1), times, _increasing(grid["mu"].centers), True
    if mu is not None and jnp.ndim(mu) == 1 and f.ndim == len(names) + 2 and f.shape[0] == jnp.size(mu):
        times = times if times.ndim == 1 else times[0]
        return jnp.moveaxis(f, 0, -1), times, _increasing(mu), True
    if f.ndim != len(names) + 1 or (mu is not None and jnp.ndim(mu)):
        raise ValueError(f"observe: f has shape {f.shape} on the grid ({', '.join(names)}) = {grid.shape[-len(names):]}, and mu "
                         f"shape {jnp.shape(mu) if mu is not None else None}: give one run with one mu, or the runs of a vmap "
                         "over mu= an array of that length")
    return f[..., None], times, mu, False


def _increasing(mu):
    if _concrete(mu):
        mu = np.asarray(mu, np.float64)
        if not (np.all(mu > 0) and np.all(np.diff(mu) > 0)):
            raise ValueError("observe: mu must be positive and increase")
    return mu


def _l_range(grid):
    axis = grid["L"]
    ends = axis.centers if axis.is_nodes else axis.faces
    return float(ends[0]), float(ends[-1])


def _known(orbit, grid):
    """Samples without a gap, inside the grid in L."""
    lo, hi = _l_range(grid)
    known = np.isfinite(orbit.L) & np.isfinite(orbit.y) & (orbit.L >= lo * (1 - _SLACK)) & (orbit.L <= hi * (1 + _SLACK))
    return known & np.isfinite(orbit.phi) if "phi" in grid.names else known


def _inside(sol, grid, orbit, times, outside):
    """(mask of the samples that can be seen, [(lower, upper, weight)] of each axis of (t, L[, phi]))."""
    if "phi" in grid.names and orbit.phi is None:
        raise ValueError("observe: the solution depends on MLT; give the orbit mlt= [h] or phi= [rad]")
    xp = np if _concrete(times) else jnp
    slack = _SLACK * (times[-1] - times[0])
    in_time = (orbit.t >= times[0] - slack) & (orbit.t <= times[-1] + slack)
    known = _known(orbit, grid)
    inside = known & in_time
    gap = np.isnan(orbit.L) | np.isnan(orbit.y) | (np.isnan(orbit.phi) if "phi" in grid.names else False)
    if outside == "error" and (np.any(~gap & ~known) or (xp is np and not np.all(in_time | gap))):
        _complain(sol, grid, orbit, times, ~gap & ~(inside if xp is np else known))
    c = grid["L"].centers
    where = [_locate(times, xp.where(inside, orbit.t, times[0]), xp), _locate(np.log(c), np.log(np.where(known, orbit.L, c[0])))]
    if "phi" in grid.names:
        axis = grid["phi"]
        s = np.mod(np.where(known, orbit.phi, 0.0) - axis.centers[0], 2 * np.pi) * axis.n / (2 * np.pi)
        i = np.minimum(s.astype(int), axis.n - 1)
        where.append((i, (i + 1) % axis.n, s - i))
    return inside, where


def _complain(sol, grid, orbit, times, bad):
    i = int(np.argmax(bad))
    epoch = _epoch(sol)
    lo, hi = _l_range(grid)

    def date(t):
        return f"{t:g} s" if epoch is None else str(np.datetime64(epoch, "s") + np.timedelta64(round(float(t)), "s"))

    span = f" and t = {date(times[0])} to {date(times[-1])}" if _concrete(times) else ""
    raise ValueError(f"observe: {int(bad.sum())} of {orbit.n} samples are outside the solution, the first at "
                     f"t = {date(orbit.t[i])}, L = {orbit.L[i]:g}; it has L = {lo:g} to {hi:g}{span}: "
                     "cut the orbit, or give outside='mask'")


def _along(f, where):
    """f (t, L[, phi], mu) at the samples: (time, mu). One axis after the other, from the eight (or four) corners."""
    corners = [((), None)]
    for lower, upper, _ in where:
        corners = [(index + (k,), None) for index, _ in corners for k in (lower, upper)]
    values = [f[index] for index, _ in corners]
    for _, _, w in reversed(where):
        w = jnp.asarray(w, f.dtype)[:, None]
        values = [interpolate(a, b, w) for a, b in zip(values[::2], values[1::2])]
    return values[0]


def _at_mu(channel, psd, mu, L, species, planet, own):
    """(j of the solution's particles, energy, where known) of a solution at one mu."""
    energy = energy_of_mu(jnp.reshape(mu, ()), L, species, planet, own)
    return flux_of_psd(psd[0], energy, species, channel.unit), energy, jnp.ones(L.shape, bool)


def _in_band(channel, psd, mu, L, species, planet, own):
    """(mean of j of the solution's particles over its energies, their geometric middle, where mu covers all of them)."""
    lo, hi = channel.energy[0], channel.energy[-1]
    if lo == hi:
        energies, weights = np.array([lo]), np.array([1.0])
    else:
        x, weights = np.polynomial.legendre.leggauss(_POINTS)
        energies = math.sqrt(lo * hi) * np.exp(0.5 * math.log(hi / lo) * x)
        weights = 0.5 * math.log(hi / lo) * weights * energies / (hi - lo)      # dE = E dlnE
    low, high = (mu_of_energy(e, L, species, planet, own) for e in (lo, hi))
    covered = (low >= mu[0] * (1 - _SLACK)) & (high <= mu[-1] * (1 + _SLACK))
    i, j, w = _locate(jnp.log(mu), jnp.log(mu_of_energy(energies[:, None], L, species, planet, own)), jnp)
    each = interpolate(jnp.take_along_axis(psd, i, 0), jnp.take_along_axis(psd, j, 0), w.astype(psd.dtype))
    each = flux_of_psd(each, energies[:, None], species, channel.unit)
    flux = jnp.sum(jnp.asarray(weights, psd.dtype)[:, None] * each, axis=0)
    return flux, jnp.full(L.shape, math.sqrt(lo * hi)), covered


def _check_cover(channels, valid, inside, mu, L, species, planet, own):
    """A channel that could be seen nowhere at all is a mistake, not a gap."""
    if not channels or not _concrete(valid, inside, mu, planet) or not np.any(inside):
        return
    inside = np.asarray(inside)
    for channel, some in zip(channels, np.asarray(valid).any(axis=1)):
        if not some:
            need = (np.asarray(mu_of_energy(e, L, species, planet, own))[inside] for e in (channel.energy[0], channel.energy[-1]))
            low, high = (float(f(x)) for f, x in zip((np.min, np.max), need))
            raise ValueError(f"observe: channel {channel.name!r} needs mu = {low:.4g} to {high:.4g} MeV/G along this orbit, and "
                             f"at no sample does the solution, with mu = {mu[0]:.4g} to {mu[-1]:.4g} MeV/G, have all it needs")
