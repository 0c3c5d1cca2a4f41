r"""Particles of local diffusion in (alpha, ln p), and in L at fixed label: an answer independent of any grid.

The operator of Lejosne & Albert (2023), Eq. 29, (1/G) d_i [G D_ij d_j], is its own adjoint in the measure G d(alpha) d(ln p),
G = p^3 T(sin alpha) sin(2 alpha), dL/L^2. In the sense of Ito its particles obey, with x = ln p,

    d(alpha) = A_a dt + s_aa dW_1,                     A_i = (1/G) d_j (G D_ij) = d_j D_ij + D_ij d_j ln G
    dx       = A_x dt + s_xa dW_1 + s_xx dW_2,         s s^T = 2 D (Cholesky)
    dL       = (d_L D_LL - 2 D_LL/L) dt + (2 D_LL)^(1/2) dW_3

Two statistics of the same walk: started with weights f0 G, the weight in a region at the end is its content; and f(t) at a place
is the mean of f0 where particles started there end, plus the values on the walls that took them. The second needs no particles
that come from where f is a million times larger.

A step is Euler's, but for three things. Near 90 degrees ln G has the singular part ln(theta), theta = pi/2 - alpha: theta is
moved as the distance from the origin of a plane, in which that drift is none. A wall with a value takes off the weight the
probability that a Brownian path between the ends of the step met it. A wall without flux mirrors along D n, the direction of the
flux (co-normal), which keeps f = const with a full tensor. Weak order one (Bossy, Gobet & Talay 2004 for the mirror).
Derivatives of D are those of what is interpolated (jvp): D of a table has kinks, the drift jumps there, by amounts that are
bounded, and the equation is the same as the grid's.
"""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .coefficients import evaluate, float_leaves, parameters, static
from .constants import SECONDS_PER_DAY as DAY
from .physics import labels
from .physics.dipole import T
from .physics.invariants import energy_of_momentum

__all__ = ["LabelTensor", "LocalPath", "local_walk", "local_average", "sample_labels"]

_HALF = 0.5 * math.pi
_NEAR = 1e-6                                        # [rad] from 90 degrees, where D_ap/theta is taken instead of 0/0
_WALLS = ("low_alpha", "low_p", "high_p", "inner", "outer")


@parameters
class LabelTensor:
    """Waves in the labels, at any place: (D_aa, D_ap, D_pp) [1/day] of (t, alpha [rad], ln(p c/1 MeV), L), the labels at L_ref.

    waves: as `local_diffusion.Parameters.local`, a callable of (t, alpha, E [MeV], L) or a tuple of such, which are added.
    """

    waves: Any
    L_ref: float = static(4.5)
    species: str = static("electron")

    def __call__(self, t, alpha, lnp, L):
        place = labels.at_L(alpha, L, self.L_ref)
        energy = energy_of_momentum(jnp.exp(lnp + place.log_p), self.species)
        parts = self.waves if isinstance(self.waves, (tuple, list)) else (self.waves,)
        total = [sum(d) for d in zip(*(wave(t, place.alpha, energy, L) for wave in parts))]
        return labels.tensor_in_labels(place, *total)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LocalPath:
    """What `local_walk` returns. t (outputs + 1,) [s]. alpha, lnp, L, weight, gain (n,) at the end: weight, what walls and losses
    have left (0: lost, it stays where it was); gain: what the values on the walls have added, see `local_average`.

    counts, squares: (outputs + 1, bins in alpha, bins in ln p), sums of weight and of its square, None without bins.
    """

    t: Any
    alpha: Any
    lnp: Any
    L: Any
    weight: Any
    gain: Any
    counts: Any
    squares: Any

    def content(self, n: int):
        """(content, standard error) of every bin at every output, of the n particles that were started."""
        return self.counts, jnp.sqrt(jnp.maximum(self.squares - self.counts**2 / n, 0.0))


class _Coefficients(NamedTuple):
    """Of a step, per day: the drifts without the singular part of A_a, the factor of 2 D, and D."""

    drift_a: Any
    drift_x: Any
    s_aa: Any
    s_xa: Any
    s_xx: Any


def _root(x):
    some = x > 0.0
    return jnp.where(some, jnp.sqrt(jnp.where(some, x, 1.0)), 0.0)


def _ratio(a, b):
    some = b > 0.0
    return jnp.where(some, a / jnp.where(some, b, 1.0), 0.0)


def _log_measure_slope(alpha):
    """d ln(T(sin alpha) sin(2 alpha))/d(alpha) + 1/theta, finite at theta = pi/2 - alpha = 0."""
    slope = jax.jvp(lambda a: jnp.log(T(jnp.sin(a))), (alpha,), (jnp.ones_like(alpha),))[1]
    theta = _HALF - alpha
    near = jnp.abs(theta) < 1e-3
    safe = jnp.where(near, 1.0, theta)
    # -2 cot(2 theta) + 1/theta
    return slope + jnp.where(near, 4.0 / 3.0 * theta, 1.0 / safe - 2.0 / jnp.tan(2.0 * safe))


def _coefficients(tensor, t, alpha, x, L) -> _Coefficients:
    """A and s at the particles' places [1/day, day^-1/2]."""
    alpha = jnp.minimum(alpha, _HALF - _NEAR)
    one, none = jnp.ones_like(alpha), jnp.zeros_like(alpha)

    def at(a, y):
        return tuple(jnp.broadcast_to(d, alpha.shape) for d in tensor(t, a, y, L))

    (aa, ax, xx), (aa_a, ax_a, _) = jax.jvp(at, (alpha, x), (one, none))
    _, ax_x, xx_x = jax.jvp(at, (alpha, x), (none, one))[1]
    smooth = _log_measure_slope(alpha)
    drift_a = aa_a + ax_x + aa * smooth + 3.0 * ax
    drift_x = ax_a + xx_x + ax * (smooth - 1.0 / (_HALF - alpha)) + 3.0 * xx
    s_aa = _root(2.0 * aa)
    s_xa = _ratio(2.0 * ax, s_aa)
    return _Coefficients(drift_a, drift_x, s_aa, s_xa, _root(2.0 * xx - s_xa**2))


class _Lattice(NamedTuple):
    """Coefficients on nodes even in alpha and ln p: (n_alpha, n_p, 5)."""

    values: Any
    low: Any
    step: Any

    def __call__(self, alpha, x):
        shape = jnp.asarray(self.values.shape[:2])
        at = (jnp.stack([alpha, x], -1) - self.low) / self.step
        i = jnp.clip(jnp.floor(at).astype(int), 0, shape - 2)
        w = jnp.clip(at - i, 0.0, 1.0)
        flat, (m, n) = self.values.reshape(-1, 5), (i[..., 0] * shape[1] + i[..., 1], shape[1])
        u, v = w[..., :1], w[..., 1:]
        mixed = (flat[m] * (1 - u) + flat[m + n] * u) * (1 - v) + (flat[m + 1] * (1 - u) + flat[m + n + 1] * u) * v
        return _Coefficients(*jnp.moveaxis(mixed, -1, 0))


def _lattice(tensor, t, alpha, lnp, L, shape) -> _Lattice:
    a, x = jnp.linspace(*alpha, shape[0]), jnp.linspace(*lnp, shape[1])
    made = jax.lax.map(lambda one: jnp.stack(_coefficients(tensor, t, jnp.full_like(x, one), x, jnp.full_like(x, L)), -1), a)
    return _Lattice(made, jnp.stack([a[0], x[0]]), jnp.stack([a[1] - a[0], x[1] - x[0]]))


@dataclasses.dataclass(frozen=True)
class _Rule:
    """What is fixed when a walk is compiled."""

    steps: int
    every: int
    absorbs: tuple[bool, ...]
    lattice: tuple[int, int] | None
    in_L: bool


def _met(start, end, variance):
    """The share of paths between two distances from a wall that do not meet it (a Brownian bridge)."""
    inside = (start > 0.0) & (end > 0.0)
    product = jnp.where(inside, start * end, 0.0)
    return jnp.where(inside, -jnp.expm1(-2.0 * product / jnp.maximum(variance, 1e-30)), 0.0)


@partial(jax.jit, static_argnames="rule")
def _walk(start, keys, given, dt, t0, limits, bins, rule):
    """Chunks one after another: start = (alpha, x, L, weight), each (chunks, n)."""
    low_alpha, (low_x, high_x), (low_L, high_L) = limits
    tensor, day = given["tensor"], dt / DAY
    lattice = None
    if rule.lattice is not None:
        lattice = _lattice(tensor, t0, (low_alpha, _HALF), (low_x, high_x), start[2].ravel()[0], rule.lattice)

    def wall(name, t, distance, moved, variance, mixed, state):
        """(moved distance, shift of the other coordinate over it, weight, gain) by a wall."""
        weight, gain, at = state
        if not rule.absorbs[_WALLS.index(name)]:
            over = jnp.maximum(-moved, 0.0)
            return moved + 2.0 * over, 2.0 * over * _ratio(mixed, variance), weight, gain
        left = weight * _met(distance, moved, variance)
        return moved, 0.0, left, gain + (weight - left) * evaluate(given[name], t, *at)

    def step(state, k, key):
        alpha, x, L, weight, gain = state
        t = t0 + (k + 0.5) * dt
        c = lattice(alpha, x) if lattice is not None else _coefficients(tensor, t, alpha, x, L)
        one, two, three = jax.random.normal(jax.random.fold_in(key, k), (3, alpha.size), alpha.dtype)
        root = jnp.sqrt(day)
        theta = _HALF - alpha
        theta = jnp.hypot(theta - c.drift_a * day - c.s_aa * root * one, c.s_aa * root * three)
        new, y = _HALF - theta, x + c.drift_x * day + root * (c.s_xa * one + c.s_xx * two)
        aa, ax, xx = c.s_aa**2 * day, c.s_aa * c.s_xa * day, (c.s_xa**2 + c.s_xx**2) * day
        if given["loss"] is not None:
            weight = weight * jnp.exp(-day * evaluate(given["loss"], t, alpha, x, L))
        middle = 0.5 * (x + y)
        moved, slip, weight, gain = wall("low_alpha", t, alpha - low_alpha, new - low_alpha, aa, ax, (weight, gain, (middle, L)))
        new, y, middle = low_alpha + moved, y + slip, 0.5 * (alpha + new)
        moved, slip, weight, gain = wall("low_p", t, x - low_x, y - low_x, xx, ax, (weight, gain, (middle, L)))
        new, y = new + slip, jnp.where(jnp.isfinite(low_x), low_x + moved, y)
        moved, slip, weight, gain = wall("high_p", t, high_x - x, high_x - y, xx, ax, (weight, gain, (middle, L)))
        new, y = new - slip, jnp.where(jnp.isfinite(high_x), high_x - moved, y)
        new = jnp.clip(_HALF - jnp.abs(_HALF - new), low_alpha, _HALF)
        there = L
        if rule.in_L:
            dll, slope = jax.jvp(lambda r: jnp.broadcast_to(evaluate(given["dll"], t, r), r.shape), (L,), (jnp.ones_like(L),))
            normal = jax.random.normal(jax.random.fold_in(jax.random.fold_in(key, k), 1), L.shape, L.dtype)
            there = L + (slope - 2.0 * dll / L) * day + _root(2.0 * dll * day) * normal
            at = (alpha, x)
            moved, _, weight, gain = wall("inner", t, L - low_L, there - low_L, 2.0 * dll * day, 0.0, (weight, gain, at))
            there = low_L + moved
            moved, _, weight, gain = wall("outer", t, high_L - L, high_L - there, 2.0 * dll * day, 0.0, (weight, gain, at))
            there = jnp.clip(jnp.where(jnp.isfinite(high_L), high_L - moved, there), low_L, high_L)
        alive = weight > 0.0
        new, y, there = (jnp.where(alive, a, b) for a, b in ((new, alpha), (jnp.clip(y, low_x, high_x), x), (there, L)))
        return new, y, there, weight, gain

    def output(state):
        if bins is None:
            return None
        alpha, x, _, weight, _ = state
        index, count = _bin(alpha, x, bins)
        shape = tuple(b.size - 1 for b in bins)
        return tuple(jax.ops.segment_sum(y, index, num_segments=count + 1)[:-1].reshape(shape) for y in (weight, weight**2))

    def one(chunk):
        *state, key = chunk
        state = (*state, jnp.zeros_like(state[0]))
        head = output(state)

        def segment(state, ks):
            state, _ = jax.lax.scan(lambda s, k: (step(s, k, key), None), state, ks)
            return state, output(state)

        state, rest = jax.lax.scan(segment, state, jnp.arange(rule.steps).reshape(-1, rule.every))
        return state, jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), head, rest)

    state, counts = jax.lax.map(one, (*start, keys))
    counts, squares = (None, None) if counts is None else (jnp.sum(c, axis=0) for c in counts)
    t = t0 + dt * jnp.arange(0, rule.steps + 1, rule.every, dtype=start[0].dtype)
    return LocalPath(t, *(y.ravel() for y in state), counts, squares)


def _bin(alpha, x, bins):
    """(index of the bin of every particle, bins in all); those in none have the last index + 1."""
    shape = [b.size - 1 for b in bins]
    i, j = (jnp.searchsorted(b, y, side="right") - 1 for b, y in zip(bins, (alpha, x)))
    # a particle on the last edge (90 degrees, say) belongs to the last bin
    i, j = (jnp.where(y == b[-1], n - 1, k) for b, y, n, k in zip(bins, (alpha, x), shape, (i, j)))
    inside = (i >= 0) & (i < shape[0]) & (j >= 0) & (j < shape[1])
    return jnp.where(inside, i * shape[1] + j, shape[0] * shape[1]), shape[0] * shape[1]


def _check(name, value, low, high, why):
    """One line of ValueError where a concrete value is not between low and high."""
    if isinstance(value, jax.core.Tracer):
        return
    values = np.asarray(value, dtype=float)
    bad = ~((values >= low) & (values <= high))
    if bad.any():
        raise ValueError(f"local particles {name} = {values[bad].ravel()[0]:g} is out of range: {why}")


def local_walk(alpha, lnp, key, *, tensor, dt, steps: int, every: int | None = None, L=4.5, weight=None, dll=None, loss=None,
               low_alpha=None, low_p=None, high_p=None, inner=None, outer=None, alpha_range=0.0, lnp_range=(-math.inf, math.inf),
               L_range=(1.0, math.inf), bins=None, chunks: int = 1, lattice=None, t0=0.0) -> LocalPath:
    """Particles at labels alpha [rad], lnp = ln(p c/1 MeV) (n,) followed for `steps` steps of dt [s]; output every `every`.

    tensor: (D_aa, D_ap, D_pp) [1/day] of (t, alpha, lnp, L), differentiable (`LabelTensor`, `jb.function`). L: a number or (n,).
    weight (n,): default 1/n. dll: D_LL [1/day] of (t, L): moves them in L at fixed label. loss: [1/day] of (t, alpha, lnp, L).
    alpha_range: the lowest pitch angle; the highest is 90 degrees, through which nothing goes. lnp_range, L_range: the domain.
    low_alpha, low_p, high_p, inner, outer: the walls, None (no flux) or the value of F there (0: absorbing; a number, or a
    function of (t, *other coordinates among alpha, lnp, L)). bins: edges (in alpha, in ln p) of `LocalPath.counts`.
    chunks: that many parts, one after another, in memory for one (n must divide).
    lattice: (n_alpha, n_p): drift and noise are read from so many nodes, between which they are linear; for steady tensors at one
    L on a finite domain, several times faster than tables; with nodes much closer than the table's it does not show.

    Good values: (2 D dt)^(1/2) below a quarter of the length over which D changes; halve dt to see that it does not show.
    The same key gives the same noise. Runs under jit and vmap. Raises ValueError for starts outside the domain, a wall with a
    value that is infinitely far, numbers that do not divide.
    """
    every = steps if every is None else every
    alpha, lnp, L = jnp.broadcast_arrays(*(jnp.asarray(y, jnp.result_type(float, y)) for y in (alpha, lnp, L)))
    if alpha.ndim != 1 or alpha.size == 0:
        raise ValueError(f"local particles alpha, lnp: needs one number a particle, got shape {alpha.shape}")
    if any(int(y) != y for y in (steps, every, chunks)) or min(steps, every, chunks) < 1 or steps % every:
        raise ValueError(f"local particles steps = {steps}, every = {every}, chunks = {chunks}: whole numbers of at least 1, and "
                         "every must divide steps")
    if alpha.size % chunks:
        raise ValueError(f"local particles chunks = {chunks}: must divide the {alpha.size} particles")
    if not callable(tensor):
        raise ValueError(f"local particles tensor: needs a callable of (t, alpha, lnp, L), got {type(tensor).__name__}")
    if not lnp_range[0] < lnp_range[1] or not 0.0 < L_range[0] < L_range[1] or not 0.0 <= alpha_range < _HALF:
        raise ValueError(f"local particles alpha_range = {alpha_range}, lnp_range = {lnp_range}, L_range = {L_range}: needs an "
                         "angle below 90 degrees and (lowest, highest)")
    _check("dt", dt, 1e-300, math.inf, "a step lasts more than 0")
    _check("alpha", alpha, alpha_range, _HALF + 1e-12, "particles start between alpha_range and 90 degrees [rad]")
    _check("lnp", lnp, *lnp_range, "particles start in lnp_range")
    _check("L", L, *L_range, "particles start in L_range")
    walls = dict(zip(_WALLS, (low_alpha, low_p, high_p, inner, outer)))
    ends = dict(zip(_WALLS, (alpha_range, *lnp_range, *L_range)))
    for name, value in walls.items():
        if value is not None and not math.isfinite(ends[name]):
            raise ValueError(f"local particles {name}: has a value, but lies at infinity; give its place")
    if lattice is not None and (dll is not None or not all(map(math.isfinite, lnp_range)) or min(lattice) < 2):
        raise ValueError(f"local particles lattice = {lattice}: needs two numbers of nodes, one L without dll, and a finite "
                         "lnp_range")
    if bins is not None:
        bins = tuple(jnp.asarray(b, alpha.dtype) for b in bins)
    weight = jnp.broadcast_to(jnp.asarray(1.0 / alpha.size if weight is None else weight, alpha.dtype), alpha.shape)
    given = float_leaves({**walls, "tensor": tensor, "loss": loss, "dll": dll})
    rule = _Rule(int(steps), int(every), tuple(walls[name] is not None for name in _WALLS),
                 None if lattice is None else tuple(int(n) for n in lattice), dll is not None)
    start = tuple(y.reshape(chunks, -1) for y in (alpha, lnp, L, weight))
    limits = jax.tree.map(lambda y: jnp.asarray(y, alpha.dtype), (alpha_range, tuple(lnp_range), tuple(L_range)))
    return _walk(start, jax.random.split(key, chunks), given, jnp.asarray(dt, alpha.dtype), jnp.asarray(t0, alpha.dtype), limits,
                 bins, rule)


def sample_labels(key, n: int, *, alpha=(0.0, _HALF), lnp):
    """(alpha, lnp, measure) of n particles spread evenly over a rectangle of the labels; measure (n,): the integral of G
    d(alpha) d(ln p) that each stands for [MeV^3], so that particles with weight f0 x measure are the content of f0."""
    u, v = jax.random.uniform(key, (2, n))
    a, x = alpha[0] + (alpha[1] - alpha[0]) * u, lnp[0] + (lnp[1] - lnp[0]) * v
    area = (alpha[1] - alpha[0]) * (lnp[1] - lnp[0]) / n
    return a, x, area * jnp.exp(3.0 * x) * T(jnp.sin(a)) * jnp.sin(2.0 * a)


def local_average(alpha, lnp, measure, values, bins):
    """(mean, standard error), (bins in alpha, bins in ln p), of what particles that started in a bin bring home: the average over
    the bin of f(t), where values = path.weight x f0(path.alpha, path.lnp) + path.gain of a walk started with weight 1.

    alpha, lnp, measure: where they started, from `sample_labels`. Bins without particles: NaN.
    """
    bins = tuple(jnp.asarray(b) for b in bins)
    index, count = _bin(alpha, lnp, bins)
    shape = tuple(b.size - 1 for b in bins)

    def total(y):
        return jax.ops.segment_sum(y, index, num_segments=count + 1)[:-1].reshape(shape)

    whole = total(measure)
    some = whole > 0.0
    whole = jnp.where(some, whole, 1.0)
    mean = total(measure * values) / whole
    off = jnp.concatenate([mean.ravel(), jnp.zeros(1, mean.dtype)])[index]
    error = _root(total((measure * (values - off)) ** 2)) / whole
    return jnp.where(some, mean, jnp.nan), jnp.where(some, error, jnp.nan)
