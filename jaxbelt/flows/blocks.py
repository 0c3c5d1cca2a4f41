"""Block tridiagonal M-matrices: factored without a subtraction, solved with non-negative matrices only.

M = [ D_1 -U_1 ; -U_1^T D_2 -U_2 ; ... ], blocks of n x n, D_i = diag(d_i) - N_i, with N, U >= 0 and the column sums c > 0 of
M known. Elimination carries the column sums along instead of the diagonal (Grassmann, Taksar & Heyman 1985, here
with blocks), so that it only adds, multiplies and divides non-negative numbers. Hence x = M^-1 b >= 0 for b >= 0
exactly in floating point, entries are accurate one by one, and c^T x = 1^T b to round-off however stiff M is.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax

__all__ = ["m_matrix_inverse", "block_factor", "block_solve"]

# width of the panels that are eliminated by scalar pivots; the rest of the work is matrix products
PANEL = 16


def _sweep(table, sums):
    """`m_matrix_inverse` by scalar pivots: every pivot is a rank-1 update of the whole table."""
    n = sums.shape[0]
    index = jnp.arange(n)

    def body(k, carry):
        table, sums = carry
        later, other = index > k, index != k
        column = lax.dynamic_index_in_dim(table, k, 1, keepdims=False)
        row = lax.dynamic_index_in_dim(table, k, 0, keepdims=False)
        pivot = 1.0 / (sums[k] + jnp.sum(jnp.where(later, column, 0.0)))
        row = jnp.where(other, row * pivot, pivot)
        sums = sums + jnp.where(later, sums[k] * row, 0.0)
        table = table + jnp.where(other, column, 0.0)[:, None] * row[None, :]
        table = jnp.where(other[None, :], table, jnp.where(other, column * pivot, pivot)[:, None])
        table = jnp.where(other[:, None], table, row[None, :])
        return table, sums

    return lax.fori_loop(0, n, body, (table, sums))[0]


def m_matrix_inverse(off, sums):
    """Inverse of diag(d) - off, off >= 0 with zero diagonal (n, n), d such that its column sums are `sums` > 0 (n,).

    Gauss-Jordan without subtraction. With K the cells eliminated so far and R the rest, the table holds
    [ A^-1, A^-1 B ; C A^-1, N + C A^-1 B ] for the partition [ A, -B ; -C, . - N ]: all non-negative, and each new pivot block P
    adds column P row to every other entry.
    """
    n = sums.shape[0]
    width = min(PANEL, n)
    padded = -(-n // width) * width
    table = jnp.pad(off, ((0, padded - n), (0, padded - n)))
    sums = jnp.pad(sums, (0, padded - n), constant_values=1.0)
    index = jnp.arange(padded)
    hollow = 1.0 - jnp.eye(width, dtype=off.dtype)

    def body(b, carry):
        table, sums = carry
        k = b * width
        later = index >= k + width
        inside = (index >= k) & ~later
        column = lax.dynamic_slice_in_dim(table, k, width, 1)
        row = lax.dynamic_slice_in_dim(table, k, width, 0)
        own = lax.dynamic_slice_in_dim(sums, k, width, 0)
        block = lax.dynamic_slice_in_dim(row, k, width, 1) * hollow
        pivot = _sweep(block, own + jnp.sum(jnp.where(later[:, None], column, 0.0), axis=0))
        column = jnp.where(inside[:, None], 0.0, column)
        row = pivot @ jnp.where(inside[None, :], 0.0, row)
        sums = sums + jnp.where(later, own @ row, 0.0)
        table = table + column @ row
        table = lax.dynamic_update_slice(table, column @ pivot, (0, k))
        return lax.dynamic_update_slice(table, lax.dynamic_update_slice(row, pivot, (0, k)), (k, 0)), sums

    table, _ = lax.fori_loop(0, padded // width, body, (table, sums))
    return table[:n, :n]


def block_factor(blocks, sums, assemble=lambda block: block):
    """Factor M: blocks (N, U), each (blocks, n, n), the last U zero; sums c (blocks, n) -> (X, Y).

    X_i is the inverse of the i-th Schur complement and Y_i = X_i U_i. assemble: makes (N_i, U_i) from the i-th entry of
    `blocks`, a pytree of something smaller then: dense blocks exist one at a time, in the cache.
    """
    n = sums.shape[-1]
    hollow = 1.0 - jnp.eye(n, dtype=sums.dtype)

    def body(carry, block):
        product, before, lost = carry                # Y and U of the block before, column sums of its Schur complement
        (inner, outer), sums = assemble(block[0]), block[1]
        inner = (inner + before.T @ product) * hollow
        lost = sums + lost @ product
        inverse = m_matrix_inverse(inner, lost + jnp.sum(outer, axis=1))
        product = inverse @ outer
        # what enters a cell either stays in this block's share of the sums or goes on: the two must add up to one
        share = 1.0 / (lost @ inverse + jnp.sum(product, axis=1))
        inverse, product = inverse * share[None, :], product * share[:, None]
        return (product, outer, lost), (inverse, product)

    zero = jnp.zeros((n, n), sums.dtype)
    return lax.scan(body, (zero, zero, jnp.zeros_like(sums[0])), (blocks, sums))[1]


def block_solve(factors, b):
    """x with M x = b; b (blocks, n)."""
    inverse, product = factors

    def forward(entering, block):
        b, product = block
        y = b + entering
        return y @ product, y

    _, y = lax.scan(forward, jnp.zeros_like(b[0]), (b, product))
    z = jnp.einsum("kij,kj->ki", inverse, y)

    def backward(after, block):
        z, product = block
        x = z + product @ after
        return x, x

    return lax.scan(backward, jnp.zeros_like(b[0]), (z, product), reverse=True)[1]
