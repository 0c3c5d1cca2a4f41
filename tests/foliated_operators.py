"""The right-hand side of Eq. (15) of Sato, Yoshida & Kawazura, four ways, by automatic differentiation at a point.

P is a function of z = (l, v, theta, psi), or of w = (chi, p, theta, psi) in `canonical`; c holds the numbers D_perp, D_par,
D_theta, alpha, gamma, rho, mu, closed (1: C_theta = gamma rho q v, 0: no C) and the slope and curvature of the potential,
phi = slope psi + curvature psi^2/2. Units of `jaxbelt.physics.field_lines`, m = 1, 1/e = rho.
"""

import jax
import jax.numpy as jnp

from jaxbelt.physics import field_lines as fl
from jaxbelt.physics import guiding_center as gc


def electric(psi, c):
    """phi'(psi), which the paper leaves out with the mean potential: it turns the plasma."""
    return c["slope"] + c["curvature"] * psi


def energy(z, c):
    """H = v^2/2 + mu B + e phi (6)."""
    l, v, _, psi = z
    return 0.5 * v**2 + c["mu"] * fl.from_length(l, psi).B + (c["slope"] * psi + 0.5 * c["curvature"] * psi**2) / c["rho"]


def geometry(z):
    """The point; q, q_l, and along X = d_psi + q d_l: X q, X q_l, X ln(r B)."""
    def bases(l, psi):
        at = fl.from_length(l, psi)
        return (at.q, at.q_l, jnp.log(at.r_cyl * at.B)), at

    (q, q_l, _), at = bases(z[0], z[3])
    return at, q, q_l, *jax.jvp(lambda l, psi: bases(l, psi)[0], (z[0], z[3]), (q, jnp.ones_like(q)))[1]


def _divergence(f, z):
    return jnp.trace(jax.jacfwd(f)(z))


def printed(P, z, c):
    """Eq. (15) term by term as it is printed, plus the mean potential; and the sum of the sizes of its terms."""
    D, Dp, Dt, alpha, g, m = c["D_perp"], c["D_par"], c["D_theta"], c["alpha"], c["gamma"], c["rho"]

    def first(z):
        v, k = z[1], 0.5 - alpha
        at, q, q_l, Xq, Xq_l, X_ln = geometry(z)
        XB = at.B_psi_at_l + q * at.B_l
        return P(z) * jnp.stack([
            -(v + k * D * (Xq + q * X_ln)) - alpha * D * Xq,
            c["mu"] * at.B_l + g * v + alpha * D * (v * Xq_l - v * q_l**2),
            -(m * c["mu"] * XB + c["closed"] * g * m * q * v - m * v**2 * q_l + electric(z[3], c)),
            -D * k * X_ln])

    def second(z):
        at, v, o = fl.from_length(z[0], z[3]), z[1], jnp.zeros_like(z[0])
        q, q_l = at.q, at.q_l
        rows = ((D / 2 * q**2, -D * v * q * q_l, o, D * q),
                (o, Dp / 2 + D / 2 * (v * q_l) ** 2, -m * Dp * q, o),
                (o, o, Dt / 2 + m**2 / 2 * Dp * q**2, o),
                (o, -D * v * q_l, o, D / 2 + o))
        return P(z) * jnp.stack([jnp.stack(row) for row in rows])

    slopes = jnp.diagonal(jax.jacfwd(first)(z))
    curved = jnp.einsum("ijij->ij", jax.jacfwd(jax.jacfwd(second))(z))
    return jnp.sum(slopes) + jnp.sum(curved), jnp.sum(jnp.abs(slopes)) + jnp.sum(jnp.abs(curved))


def coefficients_14(z, c):
    """(A, b) of (14a-d), dZ = A dt + sum_k b_k dW_k: A (4,), b (4, 3) for W_perp, W_par, W_theta."""
    at, q, q_l, Xq, _, X_ln = geometry(z)
    v, k, m = z[1], (0.5 - c["alpha"]) * c["D_perp"], c["rho"]
    A = jnp.stack([v + k * (Xq + q * X_ln), -c["mu"] * at.B_l - c["gamma"] * v,
                   m * (c["mu"] * at.B_psi - v**2 * q_l) + electric(z[3], c) + c["closed"] * c["gamma"] * m * q * v,
                   k * X_ln])
    return A, noise_14(z, c)


def noise_14(z, c):
    """b of `coefficients_14`."""
    at, v = fl.from_length(z[0], z[3]), z[1]
    zero, one = jnp.zeros_like(v), jnp.ones_like(v)
    return jnp.stack([jnp.stack([at.q, -v * at.q_l, zero, one]) * jnp.sqrt(c["D_perp"]),
                      jnp.stack([zero, one, -c["rho"] * at.q, zero]) * jnp.sqrt(c["D_par"]),
                      jnp.stack([zero, zero, -one, zero]) * jnp.sqrt(c["D_theta"])], axis=1)


def ito_drift(z, c):
    """A + alpha (b . grad) b: the drift of (14a-d) in the sense of Ito."""
    def b(z):
        return noise_14(z, c)
    return coefficients_14(z, c)[0] + c["alpha"] * sum(jax.jvp(b, (z,), (b(z)[:, k],))[1][:, k] for k in range(3))


def of_noise(P, z, c):
    """The Fokker-Planck equation of (14a-d) read in the sense alpha: -div[(A + alpha (b . grad) b) P] + (b b P)_zz/2."""
    def second(z):
        b = noise_14(z, c)
        return 0.5 * b @ b.T * P(z)

    return jnp.einsum("ijij->", jax.jacfwd(jax.jacfwd(second))(z)) - _divergence(lambda z: ito_drift(z, c) * P(z), z)


def fluxes(P, z, c):
    """(reversible, of the sense alpha, of friction and D_par, of D_perp, of D_theta): what flows in (l, v, theta, psi)."""
    at, q, q_l, _, Xq_l, X_ln = geometry(z)
    v, m, k = z[1], c["rho"], (0.5 - c["alpha"]) * c["D_perp"]
    zero, one = jnp.zeros_like(v), jnp.ones_like(v)
    motion = jnp.stack([v, -c["mu"] * at.B_l, m * (c["mu"] * at.B_psi - v**2 * q_l) + electric(z[3], c), zero])
    sense = k * jnp.stack([q * X_ln, v * (Xq_l - q_l**2), zero, X_ln])
    friction = -c["gamma"] * v * jnp.stack([zero, one, -c["closed"] * m * q, zero])
    slope = jax.jacfwd(P)(z)
    perp, par = jnp.stack([q, -v * q_l, zero, one]), jnp.stack([zero, one, -m * q, zero])
    turn = jnp.stack([zero, zero, -one, zero])
    across, parallel, around = (-0.5 * D * b * jnp.dot(b, slope) for D, b in
                                ((c["D_perp"], perp), (c["D_par"], par), (c["D_theta"], turn)))
    return motion * P(z), sense * P(z), friction * P(z) + parallel, across, around


def flux_form(P, z, c):
    """-div of the sum of `fluxes`."""
    return -_divergence(lambda z: sum(fluxes(P, z, c)), z)


def canonical(P, w, c):
    """The equation in (chi, p, theta, psi), P a function of w."""
    D, k, m = c["D_perp"], (0.5 - c["alpha"]) * c["D_perp"], c["rho"]

    def first(w):
        chi, p, theta, psi = w
        at = fl.from_potential(chi, psi)
        force = at.B * p**2 + c["mu"]
        return P(w) * jnp.stack([
            -at.B**2 * p, force * at.B_chi + c["gamma"] * p + k * at.c * p,
            -m * force * at.B_psi - electric(psi, c) - c["closed"] * c["gamma"] * m * at.q * at.B * p, -k * at.a])

    def noise(f):
        """(1/B) d_p - rho q d_theta."""
        def of(w):
            at = fl.from_potential(w[0], w[3])
            zero = 0.0 * at.B
            return jax.jvp(f, (w,), (jnp.stack([zero, 1.0 / at.B, -m * at.q, zero]),))[1]
        return of

    def twice(i):
        unit = jnp.zeros(4).at[i].set(1.0)
        return jax.jvp(lambda w: jax.jvp(P, (w,), (unit,))[1], (w,), (unit,))[1]

    return _divergence(first, w) + 0.5 * (D * twice(3) + c["D_par"] * noise(noise(P))(w) + c["D_theta"] * twice(2))


def in_canonical(P):
    """P of z as a function of w: the Jacobian is 1."""
    return lambda w: P(jnp.stack(gc.to_paper(*w)))
