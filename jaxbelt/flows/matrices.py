"""A dense matrix for every line of an axis, applied as one batched product."""

from __future__ import annotations

import jax.numpy as jnp

__all__ = ["contract_lines"]


def contract_lines(matrix, content):
    """sum_j matrix[..., i, j] content[j, ...]: lines along axis 0 of content (n, *others), result (m, *others).

    matrix: (*lines, m, n), `lines` being the shape of the other axes with length 1 along those which all lines share. The
    lines that share a matrix are the columns of one product; nothing is repeated in memory.
    """
    lines, others = matrix.shape[:-2], content.shape[1:]
    m, n = matrix.shape[-2:]
    own = [i for i, k in enumerate(lines) if k > 1]
    shared = [i for i, k in enumerate(lines) if k == 1]
    order = [*own, *shared]
    apart = [others[i] for i in own]
    columns = jnp.transpose(content, [1 + i for i in own] + [0] + [1 + i for i in shared]).reshape(*apart, n, -1)
    out = jnp.matmul(matrix.reshape(*apart, m, n), columns).reshape(*apart, m, *(others[i] for i in shared))
    out = jnp.moveaxis(out, len(own), 0)
    place = [0] + [1 + order.index(i) for i in range(len(others))]
    return jnp.transpose(out, place)
