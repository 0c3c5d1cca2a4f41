"""One step of the particles of the foliated Fokker-Planck equation, in two forms: see `montecarlo` for the equations.

The canonical form holds (s, v, theta, psi, weight), s = sin(latitude), the paper's (l, v, theta, psi, weight).
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from .physics.field_lines import Point, S, from_length, from_potential

__all__ = ["Rule", "canonical_step", "paper_step", "root"]


@dataclasses.dataclass(frozen=True)
class Rule:
    """What is fixed when a walk is compiled."""

    steps: int
    every: int
    substeps: int
    psi: tuple
    inner: str
    outer: str
    planet: str
    form: str
    p_max: float | None
    closed: bool
    drifts: bool
    parallel: bool
    keep: bool
    bins: tuple | None
    pushed: bool
    lifetime: bool


def root(y):
    """sqrt(y), 0 with derivative 0 where y <= 0."""
    some = y > 0.0
    return jnp.where(some, jnp.sqrt(jnp.where(some, y, 1.0)), 0.0)


def _rates(s, v, psi, mu, turning):
    """(ds/dt, dv/dt, dtheta/dt over rho) along a field line, in s = sin(latitude): l = S(s)/psi needs no inverse."""
    w = s * s
    x, g = 1.0 - w, 1.0 + 3.0 * w
    root, x2 = jnp.sqrt(g), x * x
    line = psi * psi
    ds, dv = psi * v / root, -3.0 * mu * line * line * s * (3.0 + 5.0 * w) / (x2 * x2 * g)
    if not turning:
        return ds, dv, None
    return ds, dv, (v * v + mu * line * psi * root / (x2 * x)) * (3.0 * x * (2.0 - x)) / (g * g * psi)


def _bounce(state, mu, h, rule, c):
    """The Hamiltonian's motion for a time h at constant psi: `rule.substeps` steps of Runge-Kutta of order four."""
    if rule.substeps == 0:
        return state
    s, v, theta, psi, weight = state
    turning = theta is not None
    top = jnp.sqrt(jnp.maximum(1.0 - psi, 0.0))
    h = h / rule.substeps
    move = h
    if rule.p_max is not None:
        least = psi**3
        high = 0.5 * v**2 + mu * Point(s, 1.0 - s**2, psi).B > 0.5 * (least * rule.p_max) ** 2 + mu * least
        move = jnp.where(high, 0.0, h)

    def rates(s, v):
        return _rates(jnp.clip(s, -0.9999, 0.9999), v, psi, mu, turning)

    def substep(_, carry):
        s, v, theta, weight = carry
        one = rates(s, v)
        two = rates(s + 0.5 * move * one[0], v + 0.5 * move * one[1])
        three = rates(s + 0.5 * move * two[0], v + 0.5 * move * two[1])
        four = rates(s + move * three[0], v + move * three[1])
        ds, dv, turn = (None if k is None else (k + 2.0 * (m + n) + o) / 6.0 for k, m, n, o in zip(one, two, three, four))
        new, fast = s + move * ds, v + move * dv
        out = jnp.abs(new) > top
        if rule.planet == "absorbing":
            weight = jnp.where(out, 0.0, weight)
        else:                                       # specular, with the energy it came with
            back = jnp.sign(new) * jnp.maximum(2.0 * top - jnp.abs(new), 0.0)
            energy = 0.5 * fast**2 + mu * Point(new, 1.0 - new**2, psi).B
            speed = root(2.0 * (energy - mu * Point(back, 1.0 - back**2, psi).B))
            new, fast = jnp.where(out, back, new), jnp.where(out, -jnp.sign(new) * speed, fast)
        kept = weight > 0.0
        if turning:
            theta = jnp.where(kept, theta + h * (c["rho"] * turn + c["electric"](psi)), theta)
        return jnp.where(kept, new, s), jnp.where(kept, fast, v), theta, weight

    s, v, theta, weight = jax.lax.fori_loop(0, rule.substeps, substep, (s, v, theta, weight))
    return s, v, theta, psi, weight


def _met(weight, start, end, wall, variance):
    """The weight left by an absorbing wall `wall` above (both measured downwards): a Brownian bridge met it with probability
    exp(-2 (wall - start)(wall - end)/variance)."""
    product = jnp.maximum(wall - start, 0.0) * (wall - end)
    some = product > 0.0
    left = -jnp.expm1(-2.0 * jnp.where(some, product, 1.0) / jnp.maximum(variance, 1e-30))
    return jnp.where(some, weight * left, 0.0)


def _walls(start, end, chi, weight, variance, rule):
    """(psi, weight) after the walls in psi, and the planet, which the line of constant chi enters at psi = 1 - chi^2."""
    low, high = rule.psi
    ground = 1.0 - chi**2
    top = jnp.minimum(ground, high)
    first = ground < high                           # the planet comes before the wall
    absorbs = jnp.where(first, rule.planet == "absorbing", rule.inner == "absorbing")
    folded = 2.0 * top - end
    end_in = jnp.where(absorbs | (end < top), end, folded)
    weight = jnp.where(absorbs, _met(weight, start, end, top, variance), weight)
    if rule.outer == "absorbing":
        weight = _met(weight, -start, -end_in, -low, variance)
    else:
        end_in = jnp.where(end_in < low, 2.0 * low - end_in, end_in)
    return jnp.where(weight > 0.0, jnp.clip(end_in, low, jnp.maximum(top, low)), start), weight


def _fold(psi, chi, rule):
    """psi as the coefficients of a trial step may be read at: mirrored at the walls."""
    low, high = rule.psi
    top = jnp.maximum(jnp.minimum(1.0 - chi**2, high), low)
    return jnp.clip(jnp.where(psi > top, 2.0 * top - psi, jnp.where(psi < low, 2.0 * low - psi, psi)), low, top)


def _capped(p, rule):
    """p mirrored at the ends of its range, where it has some."""
    if rule.p_max is None:
        return p
    return jnp.where(jnp.abs(p) > rule.p_max, jnp.sign(p) * jnp.maximum(2.0 * rule.p_max - jnp.abs(p), 0.0), p)


def _parallel(state, xi, h, rule, c):
    """Friction and noise along the field line, exactly (Ornstein-Uhlenbeck at constant place)."""
    s, v, theta, psi, weight = state
    decay = c["gamma"] * h
    some = decay != 0.0
    # the variance of v, D_par h (1 - e^(-2 gamma h))/(2 gamma h)
    share = jnp.where(some, -jnp.expm1(-2.0 * decay) / jnp.where(some, 2.0 * decay, 1.0), 1.0)
    kick = root(c["D_par"] * h) * xi
    new = v * jnp.exp(-decay) + jnp.sqrt(share) * kick
    at = Point(s, 1.0 - s**2, psi)
    if rule.p_max is not None:
        new = _capped(new / at.B, rule) * at.B
    if theta is not None:
        theta = theta - c["rho"] * at.q * (new - v if rule.closed else kick)
    alive = weight > 0.0
    return s, jnp.where(alive, new, v), theta, psi, weight


def _across(state, xi, h, rule, c):
    """The noise of D_perp at constant chi: weak order two (Heun; the noise is additive), exact at alpha = 1/2."""
    s, v, theta, psi, weight = state
    here = Point(s, 1.0 - s**2, psi)
    chi, p = here.chi, v / here.B
    variance = c["D_perp"] * h
    kick = root(variance) * xi
    end = psi + kick
    if rule.drifts:
        k = (0.5 - c["alpha"]) * variance
        there = from_potential(chi, _fold(end + k * here.a, chi, rule), outside="extrapolate")
        end = end + 0.5 * k * (here.a + there.a)
        p = _capped(p * jnp.exp(-0.5 * k * (here.c + there.c)), rule)
    new, weight = _walls(psi, end, chi, weight, variance, rule)
    at = from_potential(chi, new, outside="extrapolate")
    alive = weight > 0.0
    return jnp.where(alive, at.s, s), jnp.where(alive, p * at.B, v), theta, new, weight


def _pushed(state, mu, h, rule, c):
    """Drifts C_l, C_v, C_theta, C_psi given by the user (midpoint rule), and the lifetime."""
    s, v, theta, psi, weight = state

    def rates(s, v, psi):
        l, zero = S(s) / psi, jnp.zeros_like(psi)
        C_l, C_v, C_theta, C_psi = (zero if c[name] is None else c[name](l, v, psi, mu) for name in
                                    ("C_l", "C_v", "C_theta", "C_psi"))
        return (psi * C_l + l * C_psi) / jnp.sqrt(1.0 + 3.0 * s**2), C_v, C_theta, C_psi         # S(s) = l psi

    alive = weight > 0.0
    if rule.pushed:
        one = rates(s, v, psi)
        two = rates(s + 0.5 * h * one[0], v + 0.5 * h * one[1], psi + 0.5 * h * one[3])
        chi = Point(s, 1.0 - s**2, psi).chi
        s, v = (jnp.where(alive, y + h * dy, y) for y, dy in zip((s, v), two))
        theta = None if theta is None else jnp.where(alive, theta + h * two[2], theta)
        if c["C_psi"] is not None:
            psi, weight = _walls(psi, psi + h * two[3], chi, weight, 0.0, rule)
    if rule.lifetime:
        tau = c["lifetime"](S(s) / psi, v, 0.0 if theta is None else theta, psi, mu)
        weight = weight * jnp.exp(-h / tau)
    return s, v, theta, psi, weight


def canonical_step(state, mu, keys, h, rule, c):
    """Bounce for half the step, noise along and across, and back: symmetric, so of weak order two inside."""
    shape, dtype = state[0].shape, state[0].dtype
    state = _bounce(state, mu, 0.5 * h, rule, c)
    if rule.pushed or rule.lifetime:
        state = _pushed(state, mu, 0.5 * h, rule, c)
    if rule.parallel:
        state = _parallel(state, jax.random.normal(keys[1], shape, dtype), 0.5 * h, rule, c)
    state = _across(state, jax.random.normal(keys[0], shape, dtype), h, rule, c)
    if rule.parallel:
        state = _parallel(state, jax.random.normal(keys[2], shape, dtype), 0.5 * h, rule, c)
    if rule.pushed or rule.lifetime:
        state = _pushed(state, mu, 0.5 * h, rule, c)
    return _bounce(state, mu, 0.5 * h, rule, c)


def paper_step(state, mu, keys, h, rule, c):
    """(14a-d) as printed: the drift by Runge-Kutta of order four, the noise read in the sense alpha: at the fraction alpha of
    its own displacement."""
    l, v, theta, psi, weight = state
    k, shape = (0.5 - c["alpha"]) * c["D_perp"], psi.shape

    def rates(l, v, psi):
        at = from_length(l, psi, outside="extrapolate")
        drag = c["gamma"] * c["rho"] * at.q * v if rule.closed else 0.0
        return (v + k * (at.q_psi + at.q * at.q_l + at.q * at.a), -mu * at.B_l - c["gamma"] * v,
                c["rho"] * (mu * at.B_psi - v**2 * at.q_l) + c["electric"](psi) + drag, k * at.a)

    def drift(state, h):
        h = h / rule.substeps

        def substep(_, state):
            l, v, theta, psi, weight = state

            def stage(i, carry):                    # of Runge-Kutta's four; rolled up, since a rate takes long to compile
                rate, total = carry
                part = jnp.where(i == 3, 1.0, jnp.where(i == 0, 0.0, 0.5)) * h
                dl, dv, _, dpsi = rate
                rate = rates(l + part * dl, v + part * dv, _fold(psi + part * dpsi, 0.0, rule))
                share = jnp.where((i == 0) | (i == 3), 1.0, 2.0) / 6.0
                return rate, tuple(y + share * dy for y, dy in zip(total, rate))

            none = (jnp.zeros_like(psi),) * 4
            dl, dv, turn, dpsi = jax.lax.fori_loop(0, 4, stage, (none, none))[1]
            new, line = l + h * dl, _fold(psi + h * dpsi, 0.0, rule)
            edge = S(jnp.sqrt(1.0 - line)) / line
            out = jnp.abs(new) > edge
            if rule.planet == "absorbing":
                weight = jnp.where(out, 0.0, weight)
                fast = v + h * dv
            else:
                fast = jnp.where(out, -jnp.sign(new) * jnp.abs(v + h * dv), v + h * dv)
                new = jnp.where(out, jnp.sign(new) * (2.0 * edge - jnp.abs(new)), new)
            kept = weight > 0.0
            theta = None if theta is None else jnp.where(kept, theta + h * turn, theta)
            return jnp.where(kept, new, l), jnp.where(kept, fast, v), theta, jnp.where(kept, line, psi), weight

        return jax.lax.fori_loop(0, rule.substeps, substep, state)

    l, v, theta, psi, weight = drift(state, 0.5 * h)
    z = root(c["D_perp"] * h) * jax.random.normal(keys[0], shape, psi.dtype)
    y = root(c["D_par"] * h) * jax.random.normal(keys[1], shape, psi.dtype)
    here = from_length(l, psi, outside="extrapolate")
    read = c["alpha"] * z
    late = v + c["alpha"] * (y - v * here.q_l * z)
    at = from_length(l + here.q * read, _fold(psi + read, here.chi, rule), outside="extrapolate")
    new, weight = _walls(psi, psi + z, here.chi, weight, c["D_perp"] * h, rule)
    z = new - psi                                    # what a reflecting wall has left of the noise
    kept = weight > 0.0
    l, v = jnp.where(kept, l + at.q * z, l), jnp.where(kept, v + y - late * at.q_l * z, v)
    theta = None if theta is None else jnp.where(kept, theta - c["rho"] * here.q * y, theta)
    return drift((l, v, theta, jnp.where(kept, new, psi), weight), 0.5 * h)
