r"""The mixing cycle itself with scattering inside it, from first principles: where the Krook model of mixing stops being right.

The cycle of the paper's Fig. 1: a narrow barrier B_T rises at x = d and splits the trapped electrons into A (share d) and B; the
field of A is raised from B_0 to B_T in the first half of the period and lowered, with the barrier, in the second. mu and J are
conserved except where an electron of A clears the barrier and gains the action of B (2.6). Meanwhile, electrons are made
isotropic at the rate nu among all of the same energy at that moment, in A and B alike (Krook, C_K = 1), as in `pumping`, which
is the same without the barrier. f = E_perp^(-s/2) F on labels (t = v_par/v_perp at B_A = B_0); with y^2 = E/E_perp - 1
scattering is X F = (1 + y^2)^(-s/2) <(1 + y^2)^(s/2) F>, <.> with weight (1 + y^2)^(-3/2) dt. For trapped electrons
t = sqrt(h) u, 0 < u < 1:

    raising:   A: y^2 = t^2 + beta while below h, then d sqrt(y^2 - beta) + (1-d) y = d t + (1-d) sqrt(h);   B: y = t
    lowering:  J = (1-d) t of B, d t + (1-d) sqrt(h) of A, and y of J as in `pumping`; at the end y = J.

So the map of a cycle is (2.12), u -> (1-d) u, (1-d) + d u, on equal cells of u; stripes finer than a cell are averaged away.
"""

from __future__ import annotations

import functools

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxbelt.physics.pumping import _largest, log_energy_ratio, pitch_nodes

__all__ = ["G", "cycle_growth"]


@functools.lru_cache(maxsize=8)
def _merge(d, n):
    """(n, 2n): means over final cells of u of what A (first n columns) and B bring."""
    edge = np.arange(n + 1) / n
    out = np.zeros((n, 2 * n))
    for column, (start, share) in ((0, (1.0 - d, d)), (n, (0.0, 1.0 - d))):
        image = start + share * edge
        low = np.maximum(edge[:-1, None], image[None, :-1])
        high = np.minimum(edge[1:, None], image[None, 1:])
        out[:, column:column + n] = np.maximum(high - low, 0.0)
    return out / out.sum(axis=1, keepdims=True)


def _through(action, beta, d):
    """y of an electron that crosses both regions with the action d sqrt(y^2 - beta) + (1-d) y."""
    square = jnp.maximum(action**2 + (2.0 * d - 1.0) * beta, 1e-300)
    return (action**2 + d * d * beta) / ((1.0 - d) * action + d * jnp.sqrt(square))


def cycle_growth(s, ratio, h, d=0.4, *, cells: int = 40, steps: int = 128):
    """Growth rate of v^-s in units of the frequency f of the cycle; ratio = nu/f > 0, h > 0 (scalars); d a number.

    cells: of u in the trapped region; one for which d cells is whole is best. steps: in a cycle, even. The cycle is not its own
    adjoint (mixing before or after the scattering is not the same), so growth(s) and growth(3 - s) differ: a moment <v^q>
    grows at growth(q + 3), the energy at growth(5).
    """
    u = (np.arange(cells) + 0.5) / cells
    xi, w = pitch_nodes(h)
    xi, w = xi[xi.shape[0] // 2:], w[w.shape[0] // 2:]
    root = jnp.sqrt(h)
    tan, passing = root * u, xi / jnp.sqrt(1.0 - xi**2)
    dt = jnp.concatenate([jnp.full(cells, root / cells), w * (1.0 - xi**2) ** -1.5])
    part = -jnp.expm1(-ratio / steps)
    n = cells + passing.shape[0]

    def scatter(y, weight, matrix):
        a = (1.0 + y * y) ** (-0.5 * s)
        b = weight * (1.0 + y * y) ** (0.5 * s - 1.5) / jnp.sum(weight * (1.0 + y * y) ** -1.5)
        return matrix + part * (a[:, None] * (b @ matrix) - matrix)

    def raising(matrix, phase):
        beta = 0.5 * h * (1.0 - jnp.cos(2 * jnp.pi * phase))
        inside = tan**2 + beta < h
        region_a = jnp.where(inside, jnp.sqrt(tan**2 + beta), _through(d * tan + (1.0 - d) * root, beta, d))
        y = jnp.concatenate([region_a, tan, _through(passing, beta, d)])
        return scatter(y, jnp.concatenate([d * dt[:cells], (1.0 - d) * dt[:cells], dt[cells:]]), matrix), None

    def lowering(matrix, phase):
        beta = 0.5 * h * (1.0 - jnp.cos(2 * jnp.pi * phase))
        label = jnp.concatenate([tan, passing])
        log = log_energy_ratio(label / jnp.sqrt(1.0 + label**2), beta, d)
        return scatter(jnp.sqrt(jnp.expm1(log + jnp.log1p(label**2))), dt, matrix), None

    phase = (jnp.arange(steps) + 0.5) / steps
    eye = jnp.eye(n)
    matrix = jnp.concatenate([eye[:cells], eye])
    matrix, _ = lax.scan(raising, matrix, phase[: steps // 2])
    matrix = jnp.concatenate([jnp.asarray(_merge(float(d), cells)) @ matrix[: 2 * cells], matrix[2 * cells:]])
    matrix, _ = lax.scan(lowering, matrix, phase[steps // 2:])
    return jnp.log1p(_largest(matrix - eye))


def G(ratio, h, d=0.4, *, cells: int = 40, steps: int = 128):
    """G of the cycle with scattering inside it, computed here from the energy: D = f v^2 G, G = `cycle_growth(5)`/10."""
    return cycle_growth(5.0, ratio, h, d, cells=cells, steps=steps) / 10.0
