"""The exact propagator of line operators with constant coefficients: positive at any step, a matrix product to apply."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxbelt.flows.base import max_in_batch
from jaxbelt.linear import Line

__all__ = ["propagator", "propagators"]

_TERMS = 14
_SQUARINGS = 80            # up to 3e23 rates a step; what a step does not need costs nothing
_BLOCK = 8


def propagator(line: Line, feeds, dt):
    """`propagators` of one line: (n+3, n+r) from arrays (n,) and (n+1,), feeds (n,) or (n, r)."""
    feeds = jnp.asarray(feeds)
    grow = lambda a: None if a is None else a[None]           # noqa: E731
    rates = Line(grow(line.volume), grow(line.up), grow(line.down), grow(line.loss), cyclic=line.cyclic)
    return propagators(rates, feeds.reshape(1, feeds.shape[0], -1), dt)[0]


def propagators(line: Line, feeds, dt):
    """exp(Q dt) for the content of n cells, three sinks and r reservoirs of many lines at once: (lines, n+3, n+r).

    line: arrays (lines, n) and (lines, n+1) [the lines come first here]; feeds (lines, n, r): content per time that reservoir
    k brings into the cells, for ever the same. Rows: the cells, then what has left through the lower wall, through the upper
    one, by loss. Columns: content 1 in a cell; then what each reservoir has brought.

    Uniformisation and squaring: Q + qI >= 0, so only non-negative numbers are added, and columns are rescaled to their known
    sums after every squaring. All lines are squared as often as the fastest needs.
    """
    volume, up, down = line.volume, line.up, line.down
    n, r = volume.shape[-1], feeds.shape[-1]
    size = n + 3 + r
    loss = jnp.zeros_like(volume) if line.loss is None else line.loss
    dtype = jnp.result_type(volume, up, down, loss, feeds, float)
    lines = jnp.broadcast_shapes(*(x.shape[:1] for x in (volume, up, down, loss, feeds)))
    i = np.arange(n)
    q = jnp.zeros((*lines, size, size), dtype)
    q = q.at[:, i[1:], i[:-1]].add(up[:, 1:-1] / volume[:, :-1]).at[:, i[:-1], i[1:]].add(down[:, 1:-1] / volume[:, 1:])
    if line.cyclic:
        q = q.at[:, 0, n - 1].add(up[:, 0] / volume[:, -1]).at[:, n - 1, 0].add(down[:, 0] / volume[:, 0])
    else:
        q = q.at[:, n, 0].add(down[:, 0] / volume[:, 0]).at[:, n + 1, n - 1].add(up[:, -1] / volume[:, -1])
    q = q.at[:, n + 2, :n].add(loss)
    leaving = jnp.sum(q, axis=1)                                   # reservoirs are not depleted
    q = q.at[:, :n, n + 3:].add(feeds)
    top = jnp.max(leaving, axis=1)
    count = jnp.ceil(jnp.log2(jnp.maximum(max_in_batch(lax.stop_gradient(jnp.max(top) * dt)), 0.25) / 0.25))
    count = jnp.clip(count, 0, _SQUARINGS)
    h = dt / 2.0**count
    shift = lax.stop_gradient(top)[:, None]
    eye = jnp.eye(size, dtype=dtype)
    p = (q + eye * (shift - leaving)[:, None, :]) * h
    # Taylor series of exp(p), all terms non-negative, then the factor exp(-shift h)
    term = total = jnp.broadcast_to(eye, p.shape)
    for k in range(1, _TERMS + 1):
        term = p @ term / k
        total = total + term
    total = total * jnp.exp(-shift * h)[:, None]
    fed = jnp.sum(feeds, axis=1)

    def normalised(m, time):
        sums = jnp.sum(m, axis=1)
        known = jnp.ones_like(sums).at[:, n + 3:].add(fed * time)
        return m * (known / sums)[:, None, :]

    def square(carry, k):
        def go(c):
            m, time = c
            return normalised(m @ m, 2 * time), 2 * time

        return lax.cond(k < count, go, lambda c: c, carry), None

    # in blocks, recomputed for the gradient: it keeps a matrix a block, and of blocks that nobody needs nothing is done
    def block(carry, k):
        return lax.cond(k[0] < count, lambda c: lax.scan(square, c, k)[0], lambda c: c, carry), None

    start = normalised(total, h), h * jnp.ones((), dtype)
    steps = jnp.arange(_SQUARINGS).reshape(-1, _BLOCK)
    (total, _), _ = lax.scan(jax.checkpoint(block), start, steps)
    return jnp.concatenate([total[:, :n + 3, :n], total[:, :n + 3, n + 3:]], axis=-1)
