r"""Particles of the foliated Fokker-Planck equation: its stochastic differential equations, an answer independent of any grid.

Sato, Yoshida & Kawazura (2021), Eqs. (14a-d). In the canonical coordinates (chi, p = v/B, theta, psi) of `guiding_center`, which
the noise of D_perp leaves alone but for psi, they are, in the sense of Ito and with k = (1/2 - alpha) D_perp,

    dchi   = B^2 p dt
    dp     = -(B p^2 + mu) B_chi dt - (k c + gamma) p dt + D_par^(1/2)/B dW_par
    dtheta = [rho (B p^2 + mu) B_psi + phi'(psi)] dt - rho q D_par^(1/2) dW_par + D_theta^(1/2) dW_theta
    dpsi   = k a dt + D_perp^(1/2) dW_perp,        a = d_psi ln(r_cyl B),  c = (B_psipsi + a B_psi)/B at constant chi

In the paper's own (l, v, theta, psi), read in the sense alpha, with X = d_psi + q d_l:

    dl     = {v + k [X q + q X ln(r_cyl B)]} dt + q D_perp^(1/2) dW_perp                                              (14a)
    dv     = -(mu B_l + gamma v) dt + D_par^(1/2) dW_par - D_perp^(1/2) v q_l dW_perp                                 (14b)
    dtheta = [rho (mu X B - v^2 q_l) + phi'(psi)] dt - D_theta^(1/2) dW_theta - rho q D_par^(1/2) dW_par              (14c)
    dpsi   = k X ln(r_cyl B) dt + D_perp^(1/2) dW_perp                                                                (14d)

Dimensionless: m = 1, v_th = 1, planet's radius 1, B = 1 at its equator; rho = m v_th/(e B_p R_p). mu stays what it is.

Particles carry weights. One that is lost keeps its place and has weight 0; absorption by a wall in psi between the two ends of
a step is taken off the weight as the probability that a Brownian path between them met the wall, which leaves no error of
order dt^(1/2): walls looked at only at the ends of steps keep 6 % too many particles at D_perp dt = 5e-5 between psi = .3 and .7,
where this keeps the right number, within sampling errors of .2 %, up to steps sixteen times as long.
"""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._drift_particles import (
    DriftIdentity,
    DriftPath,
    DriftStatistics,
    drift_identity,
    drift_statistics,
    drift_walk,
    sample_drift,
)
from ._local_particles import LabelTensor, LocalPath, local_average, local_walk, sample_labels
from ._particle_steps import Rule, canonical_step, paper_step, root
from ._particles import Particles, check, from_canonical, from_paper, sample, sample_grid, thermal
from .coefficients import evaluate, float_leaves
from .physics.field_lines import Point, from_length, from_potential

__all__ = ["Particles", "Walk", "from_canonical", "from_paper", "walk", "sample", "thermal", "sample_grid",
           "DriftPath", "DriftStatistics", "DriftIdentity", "drift_walk", "drift_statistics", "drift_identity", "sample_drift",
           "LabelTensor", "LocalPath", "local_walk", "local_average", "sample_labels"]

_WALLS = ("absorbing", "reflecting")
_DEFAULTS = dict(D_perp=0.0, D_par=0.0, D_theta=0.0, alpha=0.5, gamma=0.0, rho=0.05)
_DRIFTS = ("C_l", "C_v", "C_theta", "C_psi")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Walk:
    """What `walk` returns: times, sums over the particles at each of them, and the particles.

    t (outputs + 1,); sums: arrays (outputs + 1, ...), which `merged` adds; particles: at the end, or at every t (a leading axis)
    with keep=True. Errors are standard errors of independent particles.
    """

    t: Any
    sums: dict
    particles: Particles
    edges: Any = None

    def merged(self, *others) -> Walk:
        """This walk with those of other particles, in one statistics; of the particles, this walk's are kept."""
        return dataclasses.replace(self, sums=jax.tree.map(lambda *v: sum(v), self.sums, *(w.sums for w in others)))

    @property
    def N(self):
        """Content, the sum of the weights: the integral of P."""
        return self.sums["w"]

    @property
    def N_error(self):
        """Standard error of N."""
        return jnp.sqrt(jnp.maximum(self.sums["ww"] - self.sums["w"] ** 2 / self.sums["n"], 0.0))

    @property
    def fraction(self):
        """N(t)/N(0)."""
        return self.sums["w"] / self.sums["w"][0]

    @property
    def fraction_error(self):
        """Standard error of the fraction left."""
        return self._share_error("w", "ww", "w0w")

    def _share_error(self, one, two, mixed):
        one, two, mixed = (self.sums[k] for k in (one, two, mixed))
        first, square = self.sums["w"][0], self.sums["ww"][0]
        share = one / first
        return jnp.sqrt(jnp.maximum(two - 2.0 * share * mixed + share**2 * square, 0.0)) / first

    def _mean(self, name):
        w, value = self.sums["w"], self.sums[f"w{name}"]
        some = w > 0.0
        safe = jnp.where(some, w, 1.0)
        mean = jnp.where(some, value / safe, jnp.nan)
        square = self.sums[f"ww{name}{name}"] - 2.0 * mean * self.sums[f"ww{name}"] + mean**2 * self.sums["ww"]
        return mean, jnp.sqrt(jnp.maximum(square, 0.0)) / safe

    @property
    def T_perp(self):
        """<mu B> over the particles (21)."""
        return self._mean("h")[0]

    @property
    def T_perp_error(self):
        """Standard error of T_perp."""
        return self._mean("h")[1]

    @property
    def E_par(self):
        """<v^2/2> over the particles: the "T_par" of (22), half of a temperature."""
        return self._mean("e")[0]

    @property
    def E_par_error(self):
        """Standard error of E_par."""
        return self._mean("e")[1]

    @property
    def profile(self):
        """Content per unit psi over N(0) in the bins of `edges`, (outputs + 1, bins)."""
        return self.sums["bin_w"] / self.sums["w"][0] / jnp.diff(self.edges)

    @property
    def profile_error(self):
        """Standard error of the profile."""
        return self._share_error("bin_w", "bin_ww", "bin_w0w") / jnp.diff(self.edges)


def _sums(state, mu, first, edges):
    s, v, _, psi, weight = state
    B = Point(s, 1.0 - s**2, psi).B
    heat, energy, square = mu * B, 0.5 * v**2, weight**2
    parts = dict(n=jnp.ones_like(weight), alive=jnp.asarray(weight > 0.0, weight.dtype), w=weight, ww=square, w0w=first * weight,
                 wh=weight * heat, wwh=square * heat, wwhh=square * heat**2,
                 we=weight * energy, wwe=square * energy, wwee=square * energy**2)
    out = {name: jnp.sum(value) for name, value in parts.items()}
    if edges is not None:
        i = jnp.searchsorted(edges, psi, side="right") - 1
        i = jnp.where((i >= 0) & (i < edges.size - 1), i, edges.size - 1)
        for name, value in (("bin_w", weight), ("bin_ww", square), ("bin_w0w", first * weight)):
            out[name] = jax.ops.segment_sum(value, i, num_segments=edges.size)[:-1]
    return out


@partial(jax.jit, static_argnames="rule")
def _walk(particles, key, given, dt, t0, rule):
    dtype = particles.psi.dtype
    dt, t0 = jnp.asarray(dt, dtype), jnp.asarray(t0, dtype)
    edges = None if rule.bins is None else jnp.asarray(rule.bins, dtype)
    paper, mu = rule.form == "paper", particles.mu
    at = from_potential(particles.chi, particles.psi, outside="extrapolate")
    low, high = rule.psi
    inside = (particles.psi >= low) & (particles.psi <= high) & (at.r >= 1.0 - 1e-9)
    first = weight = jnp.where(inside, particles.weight, 0.0)
    state = at.l if paper else at.s, particles.p * at.B, particles.theta, particles.psi, weight

    def as_points(state):
        """The same state with s in place of l."""
        return (from_length(state[0], state[3], outside="extrapolate").s, *state[1:]) if paper else state

    def as_particles(state):
        s, v, theta, psi, weight = as_points(state)
        at = Point(s, 1.0 - s**2, psi)
        return Particles(at.chi, v / at.B, theta, psi, mu, weight)

    def output(state):
        return _sums(as_points(state), mu, first, edges), as_particles(state) if rule.keep else None

    def step(state, k):
        now = t0 + (k + 0.5) * dt
        c = {name: jnp.asarray(evaluate(given[name], now), dtype) for name in _DEFAULTS}
        for name in (*_DRIFTS, "lifetime"):
            c[name] = None if given[name] is None else lambda *at, name=name: evaluate(given[name], now, *at)

        def electric(psi):
            if given["potential"] is None:
                return jnp.zeros_like(psi)
            return jax.jvp(lambda y: evaluate(given["potential"], now, y) + jnp.zeros_like(y), (psi,), (jnp.ones_like(psi),))[1]

        c["electric"] = electric
        keys = jax.random.split(jax.random.fold_in(key, k), 4)
        state = (paper_step if paper else canonical_step)(state, mu, keys, dt, rule, c)
        if state[2] is not None:                     # nothing depends on theta: its own noise is exact at any place
            turn = root(c["D_theta"] * dt) * jax.random.normal(keys[3], state[2].shape, dtype)
            state = *state[:2], jnp.where(state[4] > 0.0, state[2] - turn, state[2]), *state[3:]
        return state, None

    def segment(state, ks):
        state, _ = jax.lax.scan(step, state, ks)
        return state, output(state)

    sums, kept = output(state)
    state, (more, others) = jax.lax.scan(segment, state, jnp.arange(rule.steps).reshape(-1, rule.every))
    sums, kept = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), (sums, kept), (more, others))
    t = t0 + dt * jnp.arange(0, rule.steps + 1, rule.every, dtype=dtype)
    return Walk(t, sums, kept if rule.keep else as_particles(state), edges)


def _is(value, number):
    """True where a coefficient is known to be this number, so that what it scales need not be compiled."""
    return not callable(value) and not isinstance(value, jax.core.Tracer) and bool(np.all(np.asarray(value) == number))


def _given(parameters):
    """The coefficients as a dictionary, checked."""
    given = {name: getattr(parameters, name, None) for name in (*_DEFAULTS, *_DRIFTS, "potential", "lifetime")}
    given.update({name: value for name, value in _DEFAULTS.items() if given[name] is None})
    if getattr(parameters, "source", None) is not None:
        raise ValueError("monte carlo source: particles are not made on the way; add a walk of those that the source gives")
    for name in _DEFAULTS:
        value = given[name]
        if not (callable(value) or isinstance(value, (int, float, np.ndarray, np.number, jax.Array))):
            raise ValueError(f"monte carlo {name} = {value!r}: particles need a number or a function of t")
    for name in ("D_perp", "D_par", "D_theta"):
        check(name, given[name], 0.0, math.inf, "a diffusion coefficient is at least 0")
    check("gamma", given["gamma"], 0.0, math.inf, "a friction is at least 0")
    check("alpha", given["alpha"], 0.0, 1.0, "it is where in a step the noise is read, 0 (Ito) to 1 (1/2 Stratonovich)")
    check("lifetime", given["lifetime"], 0.0, math.inf, "it must be above 0", inside=True)
    if np.ndim(given["lifetime"]):
        raise ValueError("monte carlo lifetime: an array on a grid means nothing to particles; give a number or a function of "
                         "(t, l, v, theta, psi, mu)")
    return given


def walk(particles: Particles, key, *, parameters, dt, steps: int, every: int | None = None, t0=0.0, psi, inner="absorbing",
         outer="absorbing", planet="absorbing", form="canonical", substeps: int = 2, p_max: float | None = None,
         bins=None, keep: bool = False) -> Walk:
    """Particles followed for `steps` steps of dt; sums over them every `every` steps (default: at the end only).

    parameters: `foliated.Parameters`, or anything with some of its attributes: D_perp, D_par, D_theta, alpha, gamma, rho
    (numbers, or functions of t, read in the middle of a step), potential, C_l ... C_psi, lifetime (no array), detailed_balance.
    t0: time of the start. psi = (low, high): the domain. inner, outer: its walls at high psi (near the planet) and at low psi;
    planet: the surface r = 1; each "absorbing" or "reflecting". p_max: as on a grid with |p| <= p_max: particles of more energy
    than p_max has at the equator do not bounce, and p is mirrored at p_max. bins: edges in psi of `Walk.profile`. keep=True:
    `Walk.particles` at every output.
    form: "canonical", or "paper" for (14a-d) as printed, weak order one and several times slower: a check of the former.

    Canonical: bounce for dt/2 (`substeps` Runge-Kutta steps; 0: no bounce nor drift in theta), noise for dt, bounce for dt/2.
    Weak order two away from walls, one at them. Good values: D_perp dt < 1e-4 psi^2, dt below T_b/10, dt/(2 substeps) below
    T_b/60; then statistics of 1e6 particles do not show dt. The same key gives the same noise. Runs under jit, vmap over keys
    and parameters; no gradient goes through a particle that is lost. Raises ValueError for alpha outside [0, 1], a D or gamma
    below 0, dt <= 0, psi not 0 < low < high < 1, steps that `every` does not divide, a source, a `Closing` friction.
    """
    given = _given(parameters)
    check("dt", dt, 0.0, math.inf, "a step lasts more than 0", inside=True)
    low, high = (float(y) for y in psi)
    if not 0.0 < low < high < 1.0:
        raise ValueError(f"monte carlo psi = ({low:g}, {high:g}): needs 0 < low < high < 1, field lines psi = 1/L")
    for name, wall in (("inner", inner), ("outer", outer), ("planet", planet)):
        if wall not in _WALLS:
            raise ValueError(f"monte carlo {name} = {wall!r} is unknown; use 'absorbing' or 'reflecting'")
    if form not in ("canonical", "paper"):
        raise ValueError(f"monte carlo form = {form!r} is unknown; use 'canonical' or 'paper'")
    if form == "paper" and substeps == 0:
        raise ValueError("monte carlo substeps = 0: leaving out the bounce belongs to form='canonical'")
    if form == "paper" and p_max is not None:
        raise ValueError(f"monte carlo p_max = {p_max:g}: a range of p belongs to form='canonical'")
    every = steps if every is None else every
    if steps < 1 or every < 1 or steps % every or substeps < 0:
        raise ValueError(f"monte carlo steps = {steps}, every = {every}, substeps = {substeps}: whole numbers of at least 1 "
                         "(substeps 0: no bounce), and every must divide steps")
    pushed, aging = any(given[name] is not None for name in _DRIFTS), given["lifetime"] is not None
    if form == "paper" and (pushed or aging):
        raise ValueError("monte carlo form = 'paper': further drifts and a lifetime belong to form='canonical'")
    rule = Rule(
        steps, every, substeps, (low, high), inner, outer, planet, form, None if p_max is None else float(p_max),
        bool(getattr(parameters, "detailed_balance", False)), not _is(given["alpha"], 0.5),
        not (_is(given["D_par"], 0.0) and _is(given["gamma"], 0.0)), bool(keep),
        None if bins is None else tuple(float(y) for y in np.asarray(bins)), pushed, aging)
    return _walk(particles, key, float_leaves(given), dt, t0, rule)
