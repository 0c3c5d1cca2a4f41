r"""Test particles in (L, phi) that drift and are moved by electric potential fluctuations: an answer independent of any grid.

    dL = -c L^2 sum_k d_phi u_k o dW_k,   dphi = Omega(L) dt + c L^2 sum_k d_L u_k o dW_k,   c = 1/(B_E R_E^2)    (Stratonovich)

for a `PotentialNoise` whose modes are u_k: dW_k = S_k^(1/2) times the increment of a Wiener process, or the integral of
Ornstein-Uhlenbeck noise over the step, drawn jointly with its value at the end of it, exactly. A step is half of the drift, the
noise with the patterns where the particle then is (Heun), half of the drift: patterns that turn by m Omega dt = 0.3 in a step
are felt right to m^2 Omega^2 dt^2/24.

`drift_statistics` measures the coefficients of Eq. 27 as Eq. 28 of Lejosne & Albert (2023) defines them, and `drift_identity`
whether the particles' own mean rates obey Eq. 24.
"""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .coefficients import evaluate
from .constants import SECONDS_PER_DAY as DAY
from .physics.potential_noise import PotentialNoise, check_duration

__all__ = ["DriftPath", "DriftStatistics", "DriftIdentity", "drift_walk", "drift_statistics", "drift_identity", "sample_drift"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DriftPath:
    """What `drift_walk` returns. t (outputs + 1,).

    counts: (outputs + 1, windows, chunks), the weight in every window, each chunk of particles on its own, or None. L, phi,
    slip: (outputs + 1, n) with keep=True, else only at the end, (1, n); phi is not brought to 0 .. 2 pi, slip is the part of it
    that is not drift: the displacement by the fluctuations alone. weight (n,): 0 where a particle met a wall; it stays there.
    """

    t: Any
    counts: Any
    L: Any
    phi: Any
    slip: Any
    weight: Any

    @property
    def windowed(self):
        """(total weight in every window, its standard error), (outputs + 1, windows), from the scatter of two or more chunks."""
        n = self.counts.shape[-1]
        return jnp.sum(self.counts, axis=-1), jnp.sqrt(n * 1.0) * jnp.std(self.counts, axis=-1, ddof=1)


class _Noise(NamedTuple):
    """Ornstein-Uhlenbeck noise in a step of dt: xi -> keep xi + rise a, and its integral carry xi + along a + rest b, for
    independent standard normal a, b."""

    keep: Any
    rise: Any
    carry: Any
    along: Any
    rest: Any


def _step_noise(S, tau, dt):
    """The exact conditional Gaussian of (xi(t + dt), int xi dt) given xi(t), for the variance S/(2 tau)."""
    x = dt / tau
    e, gone = jnp.exp(-x), -jnp.expm1(-x)
    sigma = jnp.sqrt(0.5 * S / tau)
    rise = jnp.sqrt(-jnp.expm1(-2.0 * x))
    along = gone**2 / rise                                           # of the integral over sigma tau, per unit of a
    # 2 x - 3 + 4 e - e^2, by its series where the digits cancel
    small = x < 0.05
    y = jnp.where(small, x, 0.0)
    series = y**3 * (2 / 3 + y * (-1 / 2 + y * (7 / 30 + y * (-1 / 12 + y * (31 / 1260 - y / 160)))))
    variance = jnp.where(small, series, 2.0 * x - 3.0 + 4.0 * e - e**2)
    left = variance - along**2
    rest = jnp.sqrt(jnp.where(left > 0.0, left, 1.0)) * (left > 0.0)
    return _Noise(e, sigma * rise, tau * gone, sigma * tau * along, sigma * tau * rest)


@dataclasses.dataclass(frozen=True)
class _Rule:
    """What is fixed when a walk is compiled."""

    steps: int
    every: int
    keep: bool
    mirrored: bool


@partial(jax.jit, static_argnames="rule")
def _walk(L, phi, weight, keys, noise, kinetic, dt, t0, windows, walls, rule):
    """A walk of one chunk of particles after the other: L, phi, weight (chunks, n), keys (chunks,)."""
    mover = noise.replace(kinetic=kinetic)
    parts = 1 if noise.phase is not None else 2

    def rate(t, L):
        return jnp.zeros_like(L) if kinetic is None else mover.rate(t, L)

    def normal(key, like):
        """Standard normal numbers for every mode and particle; mirrored: every second particle has the first one's, negative."""
        if not rule.mirrored:
            return jax.random.normal(key, (parts, len(noise.m), *like.shape), like.dtype)
        half = jax.random.normal(key, (parts, len(noise.m), like.size // 2), like.dtype)
        return jnp.stack([half, -half], -1).reshape(parts, len(noise.m), like.size)

    def one(start):
        L, phi, weight, key = start
        first, key = jax.random.split(key)
        xi = None
        if noise.tau_c is not None:
            S, tau = (noise.column(evaluate(x, t0), L) for x in (noise.S, noise.tau_c))
            xi = jnp.sqrt(0.5 * S / tau) * normal(first, L)

        def step(state, k):
            L, phi, slip, weight, xi, turning = state
            t = t0 + (k + 0.5) * dt
            a, b = jax.random.split(jax.random.fold_in(key, k))
            S = noise.column(evaluate(noise.S, t), L)
            if xi is None:
                kick = jnp.sqrt(S * dt) * normal(a, L)
            else:
                of = _step_noise(S, noise.column(evaluate(noise.tau_c, t), L), dt)
                up = normal(a, L)
                kick = of.carry * xi + of.along * up + of.rest * normal(b, L)
                xi = of.keep * xi + of.rise * up
            middle = phi + 0.5 * dt * turning
            dL, dphi = noise.velocity(t, L, middle, kick)
            trial = jnp.clip(L + dL, 0.5 * L, 2.0 * L)
            more, turn = noise.velocity(t, trial, middle + dphi, kick)
            moved, turned = L + 0.5 * (dL + more), 0.5 * (dphi + turn)
            inside = (moved > walls[0]) & (moved < walls[1]) & (weight > 0.0)
            weight = jnp.where(inside, weight, 0.0)
            moved, turned = jnp.where(inside, moved, L), jnp.where(inside, turned, 0.0)
            turning = rate(t0 + (k + 1.0) * dt, moved)
            phi = jnp.where(inside, middle + turned + 0.5 * dt * turning, phi)
            return (moved, phi, slip + turned, weight, xi, turning), None

        def output(state):
            L, phi, slip, weight = state[:4]
            count = None
            if windows is not None:
                def within(window):
                    around = jnp.mod(phi - window[2], 2.0 * math.pi) < window[3] - window[2]
                    return jnp.sum(jnp.where((L >= window[0]) & (L < window[1]) & around, weight, 0.0))
                count = jax.vmap(within)(windows)
            return count, (L, phi, slip) if rule.keep else None

        def segment(state, ks):
            state, _ = jax.lax.scan(step, state, ks)
            return state, output(state)

        state = (L, phi, jnp.zeros_like(L), weight, xi, rate(t0, L))
        head = output(state)
        state, rest = jax.lax.scan(segment, state, jnp.arange(rule.steps).reshape(-1, rule.every))
        counts, kept = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), head, rest)
        return counts, kept if rule.keep else jax.tree.map(lambda x: x[None], state[:3]), state[3]

    counts, kept, weight = jax.lax.map(one, (L, phi, weight, keys))
    kept = jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1), kept)
    t = t0 + dt * jnp.arange(0, rule.steps + 1, rule.every, dtype=L.dtype)
    counts = None if counts is None else jnp.moveaxis(counts, 0, -1)
    return DriftPath(t, counts, *kept, weight.ravel())


def _check(name, value, low, high, why):
    """One line of ValueError where a concrete value is not strictly between low and high."""
    if isinstance(value, jax.core.Tracer):
        return
    values = np.asarray(value, dtype=float)
    bad = ~((values > low) & (values < high))
    if bad.any():
        raise ValueError(f"drift particles {name} = {values[bad].ravel()[0]:g} is out of range: {why}")


def drift_walk(L, phi, key, *, noise: PotentialNoise, dt, steps: int, every: int | None = None, kinetic=None, weight=None,
               windows=None, walls=(1.0, math.inf), chunks: int = 1, keep: bool = False, mirrored: bool = False,
               t0=0.0) -> DriftPath:
    """Particles at L, phi (n,) followed for `steps` steps of dt [s]; output every `every` steps (default: at the end only).

    noise: a `PotentialNoise`, white or with tau_c; each particle has its own. kinetic: T/q [V], callable of (t, L), whose drift
    they have (default: noise.kinetic; neither: no drift). weight (n,): default 1/n. windows: rows (L_low, L_high, phi_low,
    phi_high) to be counted. walls: particles that are not between them at the end of a step are lost; this lets through some of
    those a diffusion equation would lose, an error of order (D_LL dt)^(1/2) beside the wall. chunks: that many parts, one after
    another, in memory for one (n must divide), and standard errors of counts. mirrored: particles 2 i and 2 i + 1 have opposite
    noise, so that the mean of a pair has no first-order scatter.
    Good values: m Omega dt < 0.3 and D dt well below (L/m)^2; statistics of 1e6 particles then do not show dt.
    The same key gives the same noise. Runs under jit and vmap over keys and over what noise and kinetic hold. Raises ValueError
    for a tau_c longer than the run, a noise given by its correlation alone, places outside the walls, numbers that do not divide.
    """
    if not isinstance(noise, PotentialNoise):
        raise ValueError(f"drift particles noise: needs a PotentialNoise, got {type(noise).__name__}")
    if noise.correlation is not None:
        raise ValueError("drift particles noise: a correlation function is no recipe for noise; give tau_c, or none")
    L, phi = jnp.broadcast_arrays(*(jnp.asarray(x, jnp.result_type(float, x)) for x in (L, phi)))
    every = steps if every is None else every
    if L.ndim != 1 or L.size == 0:
        raise ValueError(f"drift particles L, phi: needs one number a particle, got shape {L.shape}")
    if any(int(x) != x for x in (steps, every, chunks)) or min(steps, every, chunks) < 1 or steps % every:
        raise ValueError(f"drift particles steps = {steps}, every = {every}, chunks = {chunks}: whole numbers of at least 1, and "
                         "every must divide steps")
    if L.size % (chunks * (2 if mirrored else 1)):
        raise ValueError(f"drift particles chunks = {chunks}: must divide the {L.size} particles{', two and two' * mirrored}")
    _check("dt", dt, 0.0, math.inf, "a step lasts more than 0")
    low, high = walls
    if not 0.0 < low < high:
        raise ValueError(f"drift particles walls = {walls}: needs 0 < inner < outer, in L")
    _check("L", L, low, high, "particles start between the walls")
    check_duration(noise, math.inf if isinstance(dt, jax.core.Tracer) else float(dt) * steps)
    if windows is not None:
        windows = jnp.atleast_2d(jnp.asarray(windows, L.dtype))
        if windows.shape[1:] != (4,):
            raise ValueError("drift particles windows: needs rows (L_low, L_high, phi_low, phi_high), got shape "
                             f"{windows.shape}")
    weight = jnp.broadcast_to(jnp.asarray(1.0 / L.size if weight is None else weight, L.dtype), L.shape)
    parts = (x.reshape(chunks, -1) for x in (L, phi, weight))
    rule = _Rule(int(steps), int(every), bool(keep), bool(mirrored))
    return _walk(*parts, jax.random.split(key, chunks), noise, noise.kinetic if kinetic is None else kinetic,
                 jnp.asarray(dt, L.dtype), jnp.asarray(t0, L.dtype), windows, jnp.asarray(walls, L.dtype), rule)


def sample_drift(key, n: int, grid, f):
    """(L, phi) of n particles of equal weight from an f(L, phi) on a grid of `drift_diffusion`: a cell by its content, then
    uniform inside it in dL dphi/L^2. Their weight is the content over n."""
    content = (jnp.asarray(f) * grid.volumes).ravel()
    _check("f", jnp.min(content), -1e-300, math.inf, "particles need a distribution of at least 0")
    total = jnp.cumsum(content)
    choose, within = jax.random.split(key)
    cell = jnp.searchsorted(total, total[-1] * jax.random.uniform(choose, (n,)), side="right")
    i, j = jnp.unravel_index(jnp.minimum(cell, content.size - 1), grid.shape)
    u = jax.random.uniform(within, (2, n))
    x, phi = 1.0 / jnp.asarray(grid.faces("L")).ravel(), jnp.asarray(grid["phi"].faces)
    return 1.0 / (x[i] + u[0] * (x[i + 1] - x[i])), phi[j] + u[1] * (phi[j + 1] - phi[j])


# --- the transport coefficients as statistics of particles ------------------------------------------------------------------

class DriftStatistics(NamedTuple):
    """Coefficients measured on particles, and their standard errors: D_LL [1/day], D_Lphi [rad/day], D_phiphi [rad^2/day], and
    the mean rates of L [R_E/day] and of phi without the drift [rad/day]."""

    dll: Any
    dlphi: Any
    dphiphi: Any
    ldot: Any
    phidot: Any
    dll_error: Any
    dlphi_error: Any
    dphiphi_error: Any
    ldot_error: Any
    phidot_error: Any


def _samples(L, phi, key, noise, dt, steps, skip, pairs, kinetic, chunks):
    """Of every pair of particles with opposite noise, from one place: its part of the five statistics per day, (5, pairs)."""
    n = 2 * pairs
    every = math.gcd(steps, skip) if skip else steps
    path = drift_walk(jnp.full(n, L), jnp.full(n, phi), key, noise=noise, dt=dt, steps=steps, every=every, kinetic=kinetic,
                      chunks=chunks, keep=True, mirrored=True)
    return _moments(path.L, path.slip, L, skip // every) * (DAY / (dt * (steps - skip)))


@partial(jax.jit, static_argnames="first")
def _moments(L, slip, L0, first):
    """Growth of the five statistics from output `first` to the last, (5, pairs): halves of covariances, and means."""
    X, Y = ((x[-1].reshape(-1, 2), x[first].reshape(-1, 2)) for x in (L - L0, slip))

    def product(a, b):                                               # about the means
        return 0.5 * sum(sign * jnp.mean((a[k] - jnp.mean(a[k])) * (b[k] - jnp.mean(b[k])), axis=-1)
                         for k, sign in enumerate((1.0, -1.0)))

    return jnp.stack([product(X, X), product(X, Y), product(Y, Y), *(jnp.mean(z[0] - z[1], axis=-1) for z in (X, Y))])


@partial(jax.jit, static_argnames="kind")
def _summary(values, kind):
    """Means over the pairs and their standard errors, as a NamedTuple of numbers."""
    return kind(*jnp.mean(values, axis=1), *(jnp.std(values, axis=1, ddof=1) / math.sqrt(values.shape[1])))


def drift_statistics(L, phi, key, *, noise, dt, steps: int, skip: int = 0, pairs: int = 10_000, kinetic=None,
                     chunks: int = 1) -> DriftStatistics:
    """The coefficients of Eq. 27 as the statistics of Eq. 28, of particles that all start at (L, phi):

        D_XY = (1/2) d<(X - <X>)(Y - <Y>)>/dt,   rates = d<X>/dt,   X, Y = L or the displacement in phi by the fluctuations alone

    over the steps from `skip` to `steps`. The particles' drift, integrated along their own paths, is taken off phi: over any time
    longer than a step it shears what diffused in L. Skip some tau_c where the noise has a memory: it starts at a place the
    particles have not yet come to by it. The window should be short against what the coefficients change along the drift (a
    single phase) and D t against (L/m)^2: what is measured is their mean. pairs: particles with opposite noise; the standard
    errors, of independent pairs, are about D (2/pairs)^(1/2), and for the rates as small. chunks: in memory one after another.
    """
    if not 0 <= skip < steps:
        raise ValueError(f"drift particles skip = {skip}: needs at least 0 and fewer than the {steps} steps")
    values = _samples(L, phi, key, noise, dt, steps, skip, pairs, kinetic, chunks)
    return _summary(values, DriftStatistics)


class DriftIdentity(NamedTuple):
    """Both sides of Eq. 24 in L [R_E/day] and phi [rad/day], measured: rates - divergence = what is left, which should be
    <Ldot> and <phidot> without the drift, 0 for white noise; with the standard errors of all six."""

    ldot: Any
    phidot: Any
    l_divergence: Any
    phi_divergence: Any
    l_left: Any
    phi_left: Any
    ldot_error: Any
    phidot_error: Any
    l_divergence_error: Any
    phi_divergence_error: Any
    l_left_error: Any
    phi_left_error: Any


def drift_identity(L, phi, key, *, noise, dt, steps: int, skip: int = 0, pairs: int = 10_000, kinetic=None, chunks: int = 1,
                   spread=3e-4) -> DriftIdentity:
    r"""Eq. 24 (A9) on particles, with nothing taken from a closed form: written in L and phi,

        d<L>/dt - L^2 d_L(D_LL/L^2) - d_phi D_Lphi = <Ldot>,    d<phi>/dt - L^2 d_L(D_Lphi/L^2) - d_phi D_phiphi = <phidot>

    with all of it measured (see `drift_statistics`), the derivatives by central differences over L (1 -+ spread) and phi -+
    spread of particles with the same noise, which leaves them no more scatter than the coefficients have. Their own error is of
    order spread^2, and that of the window m Omega t and D t/(L/m)^2: keep it well below a drift period, a few bounce periods say.
    """
    def at(L, phi):
        return _samples(L, phi, key, noise, dt, steps, skip, pairs, kinetic, chunks)

    if not 0 <= skip < steps:
        raise ValueError(f"drift particles skip = {skip}: needs at least 0 and fewer than the {steps} steps")
    h = spread * L
    here, out, into, east, west = (at(*place) for place in ((L, phi), (L + h, phi), (L - h, phi), (L, phi + spread),
                                                            (L, phi - spread)))
    rates = here[3:]
    divergence = L**2 * (out[:2] / (L + h) ** 2 - into[:2] / (L - h) ** 2) / (2.0 * h) + (east[1:3] - west[1:3]) / (2.0 * spread)
    values = jnp.concatenate([rates, divergence, rates - divergence])
    return _summary(values, DriftIdentity)
