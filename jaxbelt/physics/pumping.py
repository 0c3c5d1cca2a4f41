r"""Magnetic pumping of trapped and passing electrons, from first principles, to compare with parallel mixing.

Set-up (computed here; it is the cycle of the paper's Fig. 1 without the narrow barrier, so that scattering alone makes it
irreversible): a flux tube of unit length, closed by mirrors too high to leave. In region A, the fraction d of its length, the
field is raised and lowered, B_A = B_0 (1 + beta), beta = h (1 - cos 2 pi f t)/2, so that it reaches B_T = (1 + h) B_0; in region
B it stays B_0. Transits are fast: mu and J = d sqrt(E - mu B_A) + (1-d) sqrt(E - mu B_0) are conserved, the first term absent
for electrons that the hill keeps in B (E < mu B_A). Between, electrons are made isotropic at the rate nu among all that have the
same energy E at that moment (a Krook operator, C_K = 1). Labels: E_0 and xi_0 = v_par/v of the electron's (mu, J) at beta = 0.
With tan = xi_0/sqrt(1 - xi_0^2), y^2 = (E - mu B_0)/(mu B_0) and eps = E/E_0 = (1 - xi_0^2)(1 + y^2):

    y = tan/(1-d) where tan < (1-d) sqrt(beta),   else  d sqrt(y^2 - beta) + (1-d) y = tan.

df/dt = nu (X_beta f - f) at fixed labels; as the measure of labels is kept (Liouville), X on powers f = E_0^(-s/2) F(xi_0) is
X F = eps^(-s/2) <eps^(s/2) F>, <.> the mean over xi_0 with weight eps^(-3/2). The largest multiplier of F over a cycle gives the
growth rate of v^-s, exactly scale-invariant, with no cells in v at all; s = -2 is the energy, which grows as exp(10 f G t).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

__all__ = ["G", "G_weak", "cycle_growth", "log_energy_ratio", "mean_operator_growth", "pitch_nodes"]

_NODES = 40
_SQUARINGS = 48


def log_energy_ratio(xi, beta, d=0.4):
    """ln(E/E_0) of an electron labelled xi = xi_0 (0 <= xi < 1) while B_A = (1 + beta) B_0; 0 at beta = 0. Broadcasts."""
    perp = 1.0 - xi**2
    tan = xi / jnp.sqrt(perp)
    below = tan < (1.0 - d) * jnp.sqrt(jnp.where(beta > 0, beta, 0.0))
    # the root of the quadratic, written as a quotient of sums
    square = jnp.where(below, 1.0, tan**2 + (2.0 * d - 1.0) * beta)
    root = (1.0 - d) * tan + d * jnp.sqrt(jnp.where(square > 0, square, 1.0))
    through = (tan**2 + d * d * beta) / jnp.where(root > 0, root, 1.0)
    y = jnp.where(below, tan / (1.0 - d), through)
    return jnp.where(beta > 0, jnp.log1p(perp * (y - tan) * (y + tan)), 0.0)


def pitch_nodes(h, n: int = _NODES):
    """(xi_0, weights) of Gauss-Legendre nodes in the trapped (xi^2 < h/(1+h)) and in the passing region, n each; differentiable.
    """
    x, w = (jnp.asarray(a) for a in np.polynomial.legendre.leggauss(n))
    k = jnp.sqrt(h / (1.0 + h))
    return (jnp.concatenate([0.5 * k * (1.0 + x), 0.5 * (1.0 + k) + 0.5 * (1.0 - k) * x]),
            jnp.concatenate([0.5 * k * w, 0.5 * (1.0 - k) * w]))


def _feed(s, beta, d, xi, w):
    """(a, b) with X F = a (b . F)."""
    log = log_energy_ratio(xi, beta, d)
    return jnp.exp(-0.5 * s * log), w * jnp.exp((0.5 * s - 1.5) * log) / jnp.sum(w * jnp.exp(-1.5 * log))


def _largest(change):
    """The largest eigenvalue (real, isolated) of 1 + change, less 1; its gradient by the left and right vectors."""
    n = change.shape[0]

    def square(a, _):
        a = a @ a
        return a / jnp.max(jnp.abs(a)), None

    power, _ = lax.scan(square, lax.stop_gradient(jnp.eye(n) + change), None, length=_SQUARINGS)
    i, j = jnp.unravel_index(jnp.argmax(jnp.abs(power)), power.shape)
    right, left = power[:, j], power[i]
    return left @ change @ right / (left @ right)


def cycle_growth(s, ratio, h, d=0.4, *, grid=None, steps: int = 192):
    """Growth rate of v^-s in units of f: ln of the multiplier over a cycle; ratio = nu/f > 0, h > 0, 0 < d < 1 (scalars).

    grid: kinetic cells whose nodes in xi are used; None: `pitch_nodes(h)`. Second order in the steps of a cycle, whose scattering
    is exact at fixed B. Symmetric, growth(s) = growth(3 - s) >= 0 for s < 0, 0 for s = 0 and 3. Differentiable.
    """
    xi, w = pitch_nodes(h) if grid is None else (jnp.asarray(grid["xi"].centers), jnp.asarray(grid["xi"].measure))
    part = -jnp.expm1(-ratio / steps)

    def step(change, phase):
        a, b = _feed(s, 0.5 * h * (1.0 - jnp.cos(2 * jnp.pi * phase)), d, xi, w)
        # 1 + change -> (1 + part (X - 1)) (1 + change)
        return change + part * (a[:, None] * (b + b @ change) - jnp.eye(n) - change), None

    n = xi.shape[0]
    change, _ = lax.scan(step, jnp.zeros((n, n)), (jnp.arange(steps) + 0.5) / steps)
    return jnp.log1p(_largest(change))


def mean_operator_growth(s, h, d=0.4, *, steps: int = 192):
    """The limit of `cycle_growth`/ratio for ratio -> 0: the largest eigenvalue of the mean of X - 1 over a cycle (scattering is
    so rare that an electron has seen many cycles between two events)."""
    xi, w = pitch_nodes(h)
    phase = (jnp.arange(steps) + 0.5) / steps
    a, b = jax.vmap(lambda beta: _feed(s, beta, d, xi, w))(0.5 * h * (1.0 - jnp.cos(2 * jnp.pi * phase)))
    return _largest(a.T @ b / steps - jnp.eye(xi.shape[0]))


def G(ratio, h, d=0.4, *, grid=None, steps: int = 192):
    """G of magnetic pumping, computed here: D = f v^2 G, from the growth of energy, `cycle_growth(-2)`/10. ratio = nu/f; scalars.

    G(1, 1) = 4.894e-4 at d = 0.4. Raises ValueError for concrete ratio <= 0, h <= 0 or d outside (0, 1).
    """
    share = "between 0 and 1 (the share of the tube where B is raised)"
    for name, value, fine, must in (("ratio", ratio, lambda x: 0 < x < np.inf, "above 0 and finite"),
                                    ("h", h, lambda x: 0 < x < np.inf, "above 0 and finite"),
                                    ("d", d, lambda x: 0 < x < 1, share)):
        if not isinstance(value, jax.core.Tracer) and not fine(float(value)):
            raise ValueError(f"pumping {name} = {float(value):g}: it must be {must}")
    return cycle_growth(-2.0, ratio, h, d, grid=grid, steps=steps) / 10.0


def G_weak(ratio, h, d=0.4):
    r"""The limit h -> 0 of `G`, all electrons passing over the hill: (d^2 h^2/360) (2 pi)^2 r/(r^2 + (2 pi)^2).

    dE/E = d (1 - xi^2) dbeta, whose variance over pitch angles is (4/45) (d dbeta)^2, decorrelated at the rate nu. The electrons
    that the hill reflects add terms of relative order sqrt(h).
    """
    w2 = 4.0 * np.pi**2
    return d * d * h * h / 360.0 * w2 * ratio / (ratio**2 + w2)
