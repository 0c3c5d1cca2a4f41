"""Line solves as one GPU kernel (Pallas): a line a thread, neighbouring lines in neighbouring threads, one launch a solve.

What it does is what `linear` does by a loop over rows: z_i = b_i + L_i z_{i-1}, then x_i = G_i z_i + U_i x_{i+1} (on a ring the
last cell joins in both). There every row is an operation of its own, 2 n of them one after another, and each costs a GPU some
microseconds however few lines there are. Here a thread walks down its line and up again.

The arrays are (n, lines), lines contiguous: the threads of a warp read 32 neighbouring numbers of a row at once. b is read once,
z written and read once (into the place of x; from the cache where the lines in flight fit it), x written once: 4 numbers a cell,
and 3 of the factors where every line has its own (5 on a ring). Nothing else is moved, and 3 multiply-adds a cell are far below
what a GPU can do beside it. Bandwidth is the limit of many lines, 2 n dependent steps (some hundred cycles each where they miss
the cache) that of few. At 4 TB/s and float64 it is 8 ns a thousand cells with shared factors, 14 ns with factors of their own.

Opt-in by `backend="pallas"`. It is lowered for CUDA (Triton) in the tests, and has run on no GPU yet. On the CPU it is
interpreted: right, and slow.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

__all__ = ["sweeps", "BLOCK"]

BLOCK = 32                     # lines a program: one warp, so that few lines still reach many units


def sweeps(forward, forward_last, scale, back, back_last, b, block: int = BLOCK, interpret: bool | None = None):
    """The two sweeps of a factored line system (see `linear.Factors`), x (n, ...) from b (n, ...), in one kernel.

    forward, scale, back (n, ...), and forward_last, back_last on a ring or None: length 1 or n along each other axis; all 1: one
    line's factors serve all lines. block: lines a program, a power of two. interpret: by the interpreter; by default on a CPU.
    Differentiate `linear.solve`, not this. Raises ValueError for another block.
    """
    if block < 1 or block & (block - 1):
        raise ValueError(f"block: needs a power of two, got {block}")
    n, lines = b.shape[0], b.shape[1:]
    interpret = jax.default_backend() == "cpu" if interpret is None else interpret
    factors = [a for a in (forward, forward_last, scale, back, back_last) if a is not None]
    dtype = jnp.result_type(b, *factors)
    shared = all(a.size == n for a in factors)
    factors = [(a if shared else jnp.broadcast_to(a, (n, *lines))).reshape(n, -1).astype(dtype) for a in factors]
    flat = b.reshape(n, -1).astype(dtype)
    if flat.size == 0:
        return flat.reshape(b.shape)
    return _call(factors, flat, shared, forward_last is not None, block, interpret).reshape(b.shape)


def _call(factors, b, shared, ring, block, interpret):
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton

    n, lines = b.shape

    def kernel(*refs):
        *tables, source, out = refs
        columns = pl.ds(pl.program_id(0) * block, block)
        at = partial(jnp.asarray, dtype=jnp.int32)             # what a program's own number is
        # the last program may have fewer lines than threads
        inside = pl.program_id(0) * block + jnp.arange(block) < lines

        def row(ref, i):
            return triton.load(ref.at[at(i), columns], mask=inside, other=0.0)

        def factor(ref, i):
            return ref[at(i), at(0)] if shared else row(ref, i)

        def put(i, value):
            triton.store(out.at[at(i), columns], value, mask=inside)

        def all_written():
            if not interpret:                                  # which thread reads a number may not be who wrote it
                triton.debug_barrier()

        zero = jnp.zeros((block,), b.dtype)
        if not ring:
            forward, scale, back = tables

            def down(i, z):
                z = row(source, i) + factor(forward, i) * z
                put(i, z)
                return z

            def up(k, x):
                i = n - 1 - k
                x = row(out, i) * factor(scale, i) + factor(back, i) * x
                put(i, x)
                return x

            lax.fori_loop(0, n, down, zero)
            all_written()
            lax.fori_loop(0, n, up, zero)
            return
        forward, forward_last, scale, back, back_last = tables

        def down(i, carry):
            z, last = carry
            z = row(source, i) + factor(forward, i) * z
            put(i, z)
            return z, last + factor(forward_last, i) * z

        _, last = lax.fori_loop(0, n - 1, down, (zero, row(source, n - 1)))
        last = last * factor(scale, n - 1)
        put(n - 1, last)
        all_written()

        def up(k, x):
            i = n - 2 - k
            x = row(out, i) * factor(scale, i) + factor(back, i) * x + factor(back_last, i) * last
            put(i, x)
            return x

        lax.fori_loop(0, n - 1, up, zero)

    return pl.pallas_call(kernel, grid=(pl.cdiv(lines, block),), out_shape=jax.ShapeDtypeStruct(b.shape, b.dtype),
                          interpret=interpret, name="line_sweeps",
                          compiler_params=triton.CompilerParams(num_warps=max(1, block // 32)))(*factors, b)
