"""A dense matrix for every line of an axis, applied as one batched product."""

from __future__ import annotations

import jax.numpy as jnp

__all__ = ["contract_lines"]


def contract_lines(matrix, content, axis):
    """sum_j matrix[..., i, j] content[.., j, ..] along `axis` (a position) of content: m cells there instead of n.

    matrix: (*lines, m, n), `lines` being the shape of the other axes with length 1 along those which all lines share. The
    lines that share a matrix are the columns of one product; nothing is repeated in memory.
    """
    lines, (m, n) = matrix.shape[:-2], matrix.shape[-2:]
    others = [i for i in range(content.ndim) if i != axis]
    own = [i for i, k in zip(others, lines) if k > 1]
    shared = [i for i, k in zip(others, lines) if k == 1]
    apart = [content.shape[i] for i in own]
    matrix = matrix.reshape(*apart, m, n)
    if not own and axis == content.ndim - 1:
        return content @ matrix.T
    # columns last: the product that the CPU does fastest
    columns = jnp.transpose(content, [*own, axis, *shared]).reshape(*apart, n, -1)
    out = (matrix @ columns).reshape(*apart, m, *(content.shape[i] for i in shared))
    return jnp.transpose(out, [[*own, axis, *shared].index(i) for i in range(content.ndim)])
