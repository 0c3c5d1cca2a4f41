"""Face weights: conductances between cell centres, and exponentially fitted drift (Scharfetter-Gummel, Chang-Cooper)."""

from __future__ import annotations

import jax.numpy as jnp

__all__ = ["log_mean", "power_law_resistance", "conductance", "fitted", "fitted_drift", "line_conductances"]


def log_mean(p, q):
    """(q - p)/ln(q/p), the mean that integrates a local power law exactly; 0 where p or q is not positive."""
    good = (p > 0) & (q > 0)
    p, q = jnp.where(good, p, 1.0), jnp.where(good, q, 1.0)
    z = jnp.log(q / p)
    small = jnp.abs(z) < 1e-3
    series = 1.0 + z * (0.5 + z * (1.0 / 6.0 + z * (1.0 / 24.0 + z / 120.0)))
    ratio = jnp.where(small, series, jnp.expm1(z) / jnp.where(small, 1.0, z))
    return jnp.where(good, p * ratio, 0.0)


def power_law_resistance(x_a, x_b, r_a, r_b):
    """Integral of r dx from x_a to x_b, r being the power law of x through (x_a, r_a) and (x_b, r_b); x > 0."""
    return jnp.log(x_b / x_a) * log_mean(x_a * r_a, x_b * r_b)


def conductance(*resistances):
    """1/(sum of resistances in series); 0 where one of them is not positive and finite (no diffusion there)."""
    total = 0.0
    blocked = False
    for r in resistances:
        bad = ~((r > 0) & jnp.isfinite(r))
        blocked = blocked | bad
        total = total + jnp.where(bad, 1.0, r)
    return jnp.where(blocked, 0.0, 1.0 / total)


def line_conductances(faces, centers, r_faces, r_centers, lower: bool, upper: bool):
    """Conductances on all n+1 faces of an axis along dimension 0, for the resistivity r (inf where D = 0).

    faces (n+1, 1...), centers (n, 1...); r at both. `lower`, `upper`: whether the half cell next to a wall conducts
    (a value is given there) or the wall is closed. Exact for steady states wherever r is a power law of x.
    """
    before = power_law_resistance(centers, faces[1:], r_centers, r_faces[1:])      # centre i -> face i+1
    after = power_law_resistance(faces[:-1], centers, r_faces[:-1], r_centers)     # face i -> centre i
    inner = conductance(before[:-1], after[1:])
    first, last = conductance(after[:1]), conductance(before[-1:])
    return jnp.concatenate([first if lower else jnp.zeros_like(first), inner,
                            last if upper else jnp.zeros_like(last)])


def fitted(g, peclet):
    """Exponential fitting: rates (up, down) across a face of conductance g with drift/diffusion ratio `peclet`.

    flux = up f_left - down f_right, up = g B(-Pe), down = g B(Pe), B(x) = x/(e^x - 1): positive for any Pe, exact for
    the zero-flux profile f ~ exp(Pe s) (Chang & Cooper 1970; Scharfetter & Gummel 1969).
    """
    # B at |Pe|, the rate against the drift, and B + |Pe| with it: nothing cancels on either side
    size = jnp.where(peclet < 0, -peclet, peclet)
    small = size < 1e-3
    safe = jnp.where(small, 1.0, jnp.minimum(size, 500.0))
    against = jnp.where(small, 1.0 - 0.5 * size + size * size / 12.0, safe / jnp.expm1(safe))
    against = jnp.where(size > 500.0, 0.0, against)
    along = against + size
    return g * jnp.where(peclet < 0, against, along), g * jnp.where(peclet < 0, along, against)


def fitted_drift(g, drift):
    """`fitted` with the drift itself [content/time per f], Pe = drift/g: (up, down) that stay right where g = 0 (upwind)."""
    size = jnp.where(drift < 0, -drift, drift)
    some = g > size / 500.0
    against = fitted(jnp.where(some, g, 1.0), -jnp.where(some, size, 0.0) / jnp.where(some, g, 1.0))[0]
    against = jnp.where(some, against, 0.0)
    along = against + size
    return jnp.where(drift < 0, against, along), jnp.where(drift < 0, along, against)
