"""The exact propagator of a line operator with constant coefficients: positive at any step, a matrix product to apply."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax

from jaxbelt.linear import Line

__all__ = ["propagator"]

_TERMS = 14
_SQUARINGS = 48


def propagator(line: Line, sources, dt):
    """exp(Q dt) for the content of n cells, a source reservoir and three sinks, shape (n+4, n+4).

    One line (arrays (n,) and (n+1,)). Rows and columns n: the reservoir, whose content 1 feeds `sources` (n,) [content per
    time]; n+1, n+2, n+3: content that left through the lower wall, the upper wall, by loss. Uniformisation and squaring:
    Q + qI >= 0, so only non-negative numbers are added, and columns are rescaled to their known sums after every squaring.
    """
    n = line.volume.shape[0]
    volume, up, down = line.volume, line.up, line.down
    loss = jnp.zeros_like(volume) if line.loss is None else jnp.broadcast_to(line.loss, volume.shape)
    i = jnp.arange(n)
    q = jnp.zeros((n + 4, n + 4), dtype=jnp.result_type(volume, up))
    q = q.at[i[1:], i[:-1]].add(up[1:-1] / volume[:-1]).at[i[:-1], i[1:]].add(down[1:-1] / volume[1:])
    if line.cyclic:
        q = q.at[0, n - 1].add(up[0] / volume[-1]).at[n - 1, 0].add(down[0] / volume[0])
    else:
        q = q.at[n + 1, 0].add(down[0] / volume[0]).at[n + 2, n - 1].add(up[-1] / volume[-1])
    q = q.at[n + 3, :n].add(loss).at[:n, n].add(sources)
    leaving = jnp.sum(q.at[:, n].set(0.0), axis=0)               # the reservoir is not depleted
    top = jnp.max(leaving)
    count = jnp.ceil(jnp.log2(jnp.maximum(top * dt, 0.25) / 0.25))
    count = lax.stop_gradient(jnp.clip(count, 0, _SQUARINGS))
    h = dt / 2.0**count
    shift = lax.stop_gradient(top)
    p = (q + jnp.diag(shift - leaving)) * h
    # Taylor series of exp(p), all terms non-negative, then the factor exp(-shift h)
    term = jnp.eye(n + 4, dtype=q.dtype)
    total = term
    for k in range(1, _TERMS + 1):
        term = p @ term / k
        total = total + term
    total = total * jnp.exp(-shift * h)
    fed = jnp.sum(q[:, n])

    def normalised(m, time):
        sums = jnp.sum(m, axis=0)
        known = jnp.ones_like(sums).at[n].set(1.0 + fed * time)
        return m * (known / sums)

    def square(carry, k):
        m, time = carry

        def go(c):
            m, time = c
            return normalised(m @ m, 2 * time), 2 * time

        return lax.cond(k < count, go, lambda c: c, (m, time)), None

    (total, _), _ = lax.scan(square, (normalised(total, h), h * jnp.ones((), q.dtype)), jnp.arange(_SQUARINGS))
    return total
