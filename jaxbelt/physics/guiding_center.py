r"""Guiding-center motion in a dipole, on a leaf of constant magnetic moment mu, and its bounce.

Sato, Yoshida & Kawazura (2021), in the paper's coordinates (l, v, theta, psi) and in the canonical ones (chi, p, theta, psi) with
p = v/B, v the velocity along B. With the energy (6), H = m v^2/2 + mu B + e phi, and X = d_psi + q d_l (d_psi at constant chi):

    (3)   dl/dt = v - q phi_theta                   dv/dt = -(mu B + e phi)_l/m + v q_l phi_theta
          dtheta/dt = X (mu B/e + phi) - (m/e) v^2 q_l           dpsi/dt = -phi_theta
    (7)   omega = m dv ^ dl + m v q_l dpsi ^ dl + e dpsi ^ dtheta + m q dpsi ^ dv,     i_V omega = -dH
    (8)   omega = d(m v dl + e psi d eta),  eta = theta + (m/e) q v;   equally  omega = m dp ^ dchi + e dpsi ^ dtheta

m and e, which (7) and (8) leave out, are written in. The canonical equations are dchi/dt = H_p/m, dp/dt = -H_chi/m,
dtheta/dt = H_psi/e, dpsi/dt = -H_theta/e. See `field_lines` for the geometry, the units (moment and planet's radius 1) and the
sense of theta. With v_th the unit of velocity and m = 1, 1/e is rho* = m v_th/(e B_p R_p), which scales the drift in theta.

Arrays broadcast; every function takes part in jit, vmap, grad and jvp. A concrete mu <= 0 or psi outside (0, 1) is a
ValueError; positions inside the planet are evaluated (the field is continued), so that an orbit may be followed until it is lost.
"""

from __future__ import annotations

import dataclasses
import math
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..coefficients import evaluate, function, parameters
from .bounce_quadrature import SIN, Quarter, bounce, mirror, root
from .field_lines import Point, from_cartesian, from_length, from_potential

__all__ = ["GuidingCenter", "UNIT", "to_canonical", "to_paper", "pair_angle", "measure", "energy", "hamiltonian", "drift",
           "canonical_drift", "cartesian_drift", "two_form", "mirror_point", "is_trapped", "bounce_average", "bounce_period",
           "bounce_action", "bounce_action_rate", "drift_rate", "drift_period", "Orbit", "orbit"]

@parameters
class GuidingCenter:
    """A kind of particle and the electric potential it moves in.

    m, e: mass and charge, of either sign. phi: mean potential, a callable (t, psi) or None. fluctuation: potential of the
    fluctuations, a callable (t, chi, theta, psi) or None; elementwise in its coordinates, like phi. Plain functions are
    accepted (`jaxbelt.function` adds arrays that can be fitted). Potentials in units of v_th B_p R_p (times 1 for m = e = 1).
    """

    m: Any = 1.0
    e: Any = 1.0
    phi: Any = None
    fluctuation: Any = None

    def __post_init__(self):
        for name in ("phi", "fluctuation"):
            if isinstance(getattr(self, name), types.FunctionType):
                object.__setattr__(self, name, function(getattr(self, name)))

    def mean(self, t, psi):
        """(phi, dphi/dpsi) of the mean potential."""
        if self.phi is None:
            return jnp.zeros_like(psi), jnp.zeros_like(psi)
        return jax.jvp(lambda psi: evaluate(self.phi, t, psi) + jnp.zeros_like(psi), (psi,), (jnp.ones_like(psi),))

    def potential(self, t, chi, theta, psi):
        """The whole potential, mean and fluctuations."""
        total = self.mean(t, psi)[0]
        return total if self.fluctuation is None else total + evaluate(self.fluctuation, t, chi, theta, psi)

    def slopes(self, t, chi, theta, psi):
        """(phi_chi, phi_theta, phi_psi) of the whole potential, phi_psi at constant chi."""
        mean = self.mean(t, psi)[1]
        if self.fluctuation is None:
            return jnp.zeros_like(mean), jnp.zeros_like(mean), mean
        at = tuple(jnp.broadcast_arrays(chi, theta, psi))
        one, zero = jnp.ones_like(at[0]), jnp.zeros_like(at[0])
        out = []
        for k in range(3):
            along = tuple(one if k == j else zero for j in range(3))
            out.append(jax.jvp(lambda *at: evaluate(self.fluctuation, t, *at) + zero, at, along)[1])
        return out[0], out[1], out[2] + mean


UNIT = GuidingCenter()                                            # m = e = 1, no electric field


def _check_mu(mu):
    if not isinstance(mu, jax.core.Tracer):
        values = np.asarray(mu)
        bad = ~(values > 0.0)
        if bad.any():
            raise ValueError(f"guiding center mu = {float(values[bad].ravel()[0]):g} must be above 0")


def _floats(*values):
    return [v if jnp.issubdtype(v.dtype, jnp.inexact) else v.astype(float) for v in map(jnp.asarray, values)]


def to_canonical(l, v, theta, psi):
    """(chi, p, theta, psi) of the paper's coordinates (l, v, theta, psi); the Jacobian is 1."""
    at = from_length(l, psi, outside="extrapolate")
    return at.chi, jnp.asarray(v) / at.B, theta, psi


def to_paper(chi, p, theta, psi):
    """(l, v, theta, psi) of the canonical coordinates: the inverse of `to_canonical`."""
    at = from_potential(chi, psi, outside="extrapolate")
    return at.l, jnp.asarray(p) * at.B, theta, psi


def pair_angle(l, v, theta, psi, of: GuidingCenter = UNIT):
    """eta = theta + (m/e) q v: (l, m v) and (eta, e psi) are the canonical pairs of Eq. (8)."""
    return theta + of.m / of.e * from_length(l, psi, outside="extrapolate").q * v


def measure(of: GuidingCenter = UNIT):
    """m^2, the constant of Eq. (2): d^3x d^3p = m^2 dl dv dtheta dpsi dtheta_c dmu (and dchi dp = dl dv at given psi)."""
    return of.m**2


def energy(l, v, theta, psi, mu, of: GuidingCenter = UNIT, t=0.0):
    """H = m v^2/2 + mu B + e phi (6) in the paper's coordinates."""
    return hamiltonian(*to_canonical(l, v, theta, psi), mu, of, t)


def hamiltonian(chi, p, theta, psi, mu, of: GuidingCenter = UNIT, t=0.0):
    """H = m B^2 p^2/2 + mu B + e phi (6) in the canonical coordinates; constant along the motion where phi is steady."""
    _check_mu(mu)
    B = from_potential(chi, psi, outside="extrapolate").B
    chi, p, theta, psi = _floats(chi, p, theta, psi)
    return 0.5 * of.m * (B * p) ** 2 + mu * B + of.e * of.potential(t, chi, theta, psi)


def drift(l, v, theta, psi, mu, of: GuidingCenter = UNIT, t=0.0):
    """(dl/dt, dv/dt, dtheta/dt, dpsi/dt) of Eq. (3)."""
    _check_mu(mu)
    at = from_length(l, psi, outside="extrapolate")
    v, theta = _floats(v, theta)
    phi_chi, phi_theta, phi_psi = of.slopes(t, at.chi, theta, at.psi)     # phi_l = B phi_chi, X phi = phi_psi at constant chi
    return tuple(jnp.broadcast_arrays(
        v - at.q * phi_theta, -(mu * at.B_l + of.e * at.B * phi_chi) / of.m + v * at.q_l * phi_theta,
        mu / of.e * (at.B_psi_at_l + at.q * at.B_l) + phi_psi - of.m / of.e * v**2 * at.q_l, -phi_theta))


def _rates(chi, p, theta, psi, mu, of, t):
    at = from_potential(chi, psi, outside="extrapolate")
    B, square = at.B, of.m * at.B * p**2 + mu
    phi_chi, phi_theta, phi_psi = of.slopes(t, chi, theta, psi)
    return tuple(jnp.broadcast_arrays(B**2 * p, -(square * at.B_chi + of.e * phi_chi) / of.m,
                                      square * at.B_psi / of.e + phi_psi, -phi_theta))


def canonical_drift(chi, p, theta, psi, mu, of: GuidingCenter = UNIT, t=0.0):
    """(dchi/dt, dp/dt, dtheta/dt, dpsi/dt): B^2 p, -[(m B p^2 + mu) B_chi + e phi_chi]/m, [(m B p^2 + mu) B_psi]/e + phi_psi,
    -phi_theta, with derivatives in (chi, p, theta, psi)."""
    _check_mu(mu)
    return _rates(*_floats(chi, p, theta, psi), mu, of, t)


def cartesian_drift(x, y, z, v, mu, of: GuidingCenter = UNIT, t=0.0):
    """(dx/dt, dy/dt, dz/dt, dv/dt) of Eq. (1): v b + E x B/B^2 + (mu/e B) b x grad B + (m v^2/e B) b x k, and
    -(mu B + e phi)_l/m + v v_ExB . k, with the curvature k = (b . grad) b; for any place off the axis.
    """
    _check_mu(mu)
    x, y, z, v = jnp.broadcast_arrays(*_floats(x, y, z, v))
    here = jnp.stack([x, y, z])
    square = x**2 + y**2 + z**2
    root = jnp.sqrt(1.0 + 3.0 * z**2 / square)
    B = root / (square * jnp.sqrt(square))
    up = jnp.stack([jnp.zeros_like(x), jnp.zeros_like(x), jnp.ones_like(x)])
    b = (up - 3.0 * z / square * here) / root
    ln_B = 3.0 * z / (square * root**2) * (up - z / square * here) - 3.0 / square * here      # grad ln B
    k = ln_B - b * jnp.sum(b * ln_B, axis=0)                      # (b . grad) b, because curl B = 0

    def potential(x, y, z):
        at, theta = from_cartesian(x, y, z, outside="extrapolate")
        return of.potential(t, at.chi, theta, at.psi) + jnp.zeros_like(x)

    one, zero = jnp.ones_like(x), jnp.zeros_like(x)
    grad_phi = jnp.zeros_like(here)
    if of.phi is not None or of.fluctuation is not None:
        axes = (one, zero, zero), (zero, one, zero), (zero, zero, one)
        grad_phi = jnp.stack([jax.jvp(potential, (x, y, z), axis)[1] for axis in axes])
    cross = jnp.cross(b, grad_phi, axis=0) / B                    # E x B/B^2 = b x grad phi/B
    velocity = v * b + cross + jnp.cross(b, mu * ln_B + of.m * v**2 / B * k, axis=0) / of.e
    slope = jnp.sum(b * (mu * B * ln_B + of.e * grad_phi), axis=0)
    return *velocity, -slope / of.m + v * jnp.sum(cross * k, axis=0)


def two_form(l, v, psi, of: GuidingCenter = UNIT):
    """omega of Eq. (7), (..., 4, 4): omega[i, j] on the i-th and j-th of (l, v, theta, psi), so that sum_i V_i omega[i, j] =
    -dH/dj. Its determinant is (m e)^2."""
    at = from_length(l, psi, outside="extrapolate")
    v, one = jnp.broadcast_arrays(v * jnp.ones_like(at.q), jnp.ones_like(at.q))
    zero = jnp.zeros_like(one)
    ml, mv = of.m * v * at.q_l, of.m * at.q * one
    m, e = of.m * one, of.e * one
    rows = ((zero, -m, zero, -ml), (m, zero, zero, -mv), (zero, zero, zero, -e), (ml, mv, e, zero))
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


# --- the bounce, in the mean potential ---

def _kinetic(H, mu, psi, of, t):
    """(kinetic energy, its excess over mu B_eq in units of mu B_eq), checked where concrete."""
    _check_mu(mu)
    H, mu, psi = jnp.broadcast_arrays(*_floats(H, mu, psi))
    at = from_potential(jnp.zeros_like(psi), psi)
    kinetic = H - of.e * of.mean(t, psi)[0]
    least = mu * at.B
    excess = (kinetic - least) / least
    floor = -1e-5 if excess.dtype == jnp.float32 else -1e-9       # rounding of a particle that stays at the equator
    if not isinstance(excess, jax.core.Tracer):
        bad = ~(np.asarray(excess) >= floor)
        if bad.any():
            has, needs = (float(np.asarray(v)[bad].ravel()[0]) for v in (kinetic, least))
            raise ValueError(f"guiding center energy: a kinetic energy of {has:g} is below mu B = {needs:g} at the equator of "
                             "the field line, which no particle of this mu can have")
    # as it is within rounding of 0, where everything but the mirror point is smooth: so are the derivatives there
    return jnp.where(excess < floor, least, kinetic), jnp.where(excess < floor, 0.0, excess)


def mirror_point(H, mu, psi, of: GuidingCenter = UNIT, t=0.0) -> Point:
    """Where a particle of energy H and moment mu turns on the field line psi, mu B = H - e phi(psi): the mirror point with
    l > 0 (the other is its image). It may lie inside the planet; see `is_trapped`.

    Raises ValueError if H is less than the particle has at rest along B at the equator (traced: taken as that). The derivative
    of the mirror point where it is the equator, infinite, is given as 0.
    """
    w, x = mirror(_kinetic(H, mu, psi, of, t)[1])
    return Point(root(w), x, jnp.broadcast_to(jnp.asarray(psi), x.shape))


def is_trapped(H, mu, psi, of: GuidingCenter = UNIT, t=0.0):
    """True where the mirror points are above the planet's surface."""
    return mirror_point(H, mu, psi, of, t).r >= 1.0


def bounce_period(H, mu, psi, of: GuidingCenter = UNIT, t=0.0):
    """Bounce period T_b = 4 T(y)/(psi v), y = sin(alpha_eq), T(1) = pi/(3 sqrt2), to rounding (`dipole.T` is the usual 1 %
    approximation). Small oscillations: 2 pi/(3 sqrt(mu/m) psi^(5/2)). As if there were no planet; errors as `mirror_point`."""
    return bounce(*_kinetic(H, mu, psi, of, t), jnp.asarray(psi), of.m, of.e)[0]


def bounce_action(H, mu, psi, of: GuidingCenter = UNIT, t=0.0):
    """Bounce action J_par = closed integral of m v dl along the field line psi in the mean potential; dJ_par/dH = T_b."""
    return bounce(*_kinetic(H, mu, psi, of, t), jnp.asarray(psi), of.m, of.e)[1]


def drift_rate(H, mu, psi, of: GuidingCenter = UNIT, t=0.0):
    """Bounce-averaged dtheta/dt = (1/e) dH/dpsi at constant J_par: 3 K/(e psi) + phi'(psi) for equatorial particles of
    kinetic energy K."""
    magnetic = bounce(*_kinetic(H, mu, psi, of, t), jnp.asarray(psi), of.m, of.e)[2]
    return magnetic + of.mean(t, *_floats(psi))[1]


def drift_period(H, mu, psi, of: GuidingCenter = UNIT, t=0.0):
    """Time of one drift around the planet, 2 pi/|drift_rate|."""
    return 2.0 * math.pi / jnp.abs(drift_rate(H, mu, psi, of, t))


def bounce_average(values, H, mu, psi, of: GuidingCenter = UNIT, t=0.0):
    """Time average over a bounce of values(chi, p): elementwise, called with arrays of one more (last) axis."""
    kinetic, excess = _kinetic(H, mu, psi, of, t)
    at = Quarter(kinetic, excess, psi, of.m)
    s_m = root(at.w_m)
    s = s_m * jnp.asarray(SIN, s_m.dtype)
    here = Point(s, at.x, jnp.broadcast_to(jnp.asarray(psi), kinetic.shape)[..., None])
    p = at.speed[..., None] * s_m * jnp.sqrt(at.cos2 * at.h) / here.B
    total = sum(values(sign * here.chi, way * p) for sign in (1.0, -1.0) for way in (1.0, -1.0))
    return at.average(0.25 * total)


def bounce_action_rate(chi, p, theta, psi, mu, of: GuidingCenter = UNIT, t=0.0):
    """dJ_par/dt of Eq. (20): T_b (phi_theta <H_psi> - <phi_theta> H_psi), H_psi = e dtheta/dt at constant chi, <> the average
    over the bounce in the mean potential.

    That average of (mu B + e phi)_psi at constant l, as printed, and of H_psi are the same. Exact where the fluctuation is
    constant along field lines (then it is dJ_par/dt of `bounce_action` along the motion, whatever its time dependence), and
    to first order in a static fluctuation that is not. Its own bounce average is 0.
    """
    _check_mu(mu)
    chi, p, theta, psi = jnp.broadcast_arrays(*_floats(chi, p, theta, psi))
    at = from_potential(chi, psi, outside="extrapolate")
    mean = of.e * of.mean(t, psi)[1]
    H = 0.5 * of.m * (at.B * p) ** 2 + mu * at.B + of.e * of.mean(t, psi)[0]
    H_psi = (of.m * at.B * p**2 + mu) * at.B_psi + mean
    phi_theta = of.slopes(t, chi, theta, psi)[1]
    along = bounce_average(lambda chi, p: of.slopes(t, chi, theta[..., None], psi[..., None])[1] * jnp.ones_like(chi), H, mu, psi,
                           of, t)
    return bounce_period(H, mu, psi, of, t) * (phi_theta * of.e * drift_rate(H, mu, psi, of, t) - along * H_psi)


# --- orbits ---

@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Orbit:
    """What `orbit` returns. t: times (n,); chi, p, theta, psi: (n, ...), theta not wrapped; lost: (n, ...), True once the
    particle has met the planet (or its step is so long that it would leap through it), from when it stays at its last place
    above the surface; residual: the largest change that the last iteration of any step made to the state (rounding where the
    step is small enough)."""

    t: jax.Array
    chi: jax.Array
    p: jax.Array
    theta: jax.Array
    psi: jax.Array
    lost: jax.Array
    residual: jax.Array


_C = 0.5 - math.sqrt(3.0) / 6.0, 0.5 + math.sqrt(3.0) / 6.0
_A = (0.25, 0.25 - math.sqrt(3.0) / 6.0), (0.25 + math.sqrt(3.0) / 6.0, 0.25)


def orbit(state, mu, dt, steps: int, of: GuidingCenter = UNIT, t=0.0, every: int = 1, iterations: int = 12) -> Orbit:
    """Follow guiding centers from state = (chi, p, theta, psi) through `steps` steps of dt, keeping every `every`-th.

    Gauss's two-stage method in the canonical coordinates: fourth order, symplectic and time-reversible, so the error of the
    energy does not grow (kinetic energy twice mu B_eq: 2e-5, 1e-6, 7e-8 of it at dt = T_b/30, T_b/60, T_b/120). Its equations
    are solved by `iterations` fixed-point sweeps, which converge for dt below about a tenth of a bounce period; `residual`
    says how well.
    dt < 0 goes back. Paper coordinates: `to_canonical` before, `to_paper` after. Raises ValueError if steps is not a positive
    multiple of every, if mu <= 0, or if a particle starts inside the planet.
    """
    if steps < 1 or every < 1 or steps % every:
        raise ValueError(f"orbit steps = {steps} must be a positive multiple of every = {every}")
    if iterations < 1:
        raise ValueError(f"orbit iterations = {iterations} must be at least 1")
    _check_mu(mu)
    from_potential(state[0], state[3])
    start = jnp.stack(jnp.broadcast_arrays(*_floats(*state), jnp.asarray(mu) * 1.0)[:4])
    dtype = start.dtype
    mu, dt, t = (jnp.asarray(v, dtype) for v in (mu, dt, t))
    times = t + dt * jnp.arange(0, steps + 1, every, dtype=dtype)

    def slopes(y, now):
        return jnp.stack(_rates(*y, mu, of, now)).astype(dtype)

    def stages_of(y, rates):
        """The two stages, and whether they are sane: a step that would leap through the planet is not followed there, where
        iterates overflow (outside the planet |chi| <= 1)."""
        trial = jnp.stack([y + dt * (row[0] * rates[0] + row[1] * rates[1]) for row in _A])
        chi, p, psi = trial[:, 0], trial[:, 1], trial[:, 3]
        sane = jnp.all((jnp.abs(chi) < 16.0) & (jnp.abs(p) < 1e12) & (psi > 0.0) & (psi < 4.0), axis=0)
        return jnp.where(sane, trial, y), sane

    def step(carry, k):
        y, lost, worst = carry
        now = t + dt * k

        def sweep(_, known):
            stages, _ = stages_of(y, known[0])
            return jnp.stack([slopes(stage, now + c * dt) for stage, c in zip(stages, _C)]), known[0]

        first = slopes(y, now)
        rates, before = jax.lax.fori_loop(0, iterations, sweep, (jnp.stack([first, first]),) * 2)
        new = y + 0.5 * dt * (rates[0] + rates[1])
        sane = stages_of(y, before)[1] & (jnp.abs(new[0]) < 16.0) & (new[3] > 0.0)
        place = jnp.where(sane, new, y)
        lost = lost | ~sane | (from_potential(place[0], place[3], outside="extrapolate").r < 1.0)
        change = jnp.max(jnp.where(lost, 0.0, jnp.abs(dt * (rates - before))))
        return (jnp.where(lost, y, new), lost, jnp.maximum(worst, change)), None

    def segment(carry, k):
        carry, _ = jax.lax.scan(step, carry, k)
        return carry, carry[:2]

    carry = start, jnp.zeros(start.shape[1:], bool), jnp.zeros((), dtype)
    (_, _, worst), (ys, lost) = jax.lax.scan(jax.checkpoint(segment), carry, jnp.arange(steps, dtype=dtype).reshape(-1, every))
    ys = jnp.concatenate([start[None], ys])
    lost = jnp.concatenate([jnp.zeros((1, *start.shape[1:]), bool), lost])
    return Orbit(times, *(ys[:, i] for i in range(4)), lost, worst)
