"""Line solves: many tridiagonal or cyclic systems at once, factored once, with exact positivity and their own adjoint.

The systems are M x = V b with M = V + c A, where A moves content between neighbouring cells of a line:

    (A f)_i = (up_{i+1} + down_i + V_i loss_i) f_i - up_i f_{i-1} - down_{i+1} f_{i+1},    up, down, loss >= 0,

face k lying between cells k-1 and k. M is an M-matrix whose column sums V + c (V loss + what leaves through walls) are
known without subtraction, so elimination carries the column sums along instead of the diagonal (Grassmann, Taksar &
Heyman 1985): every operation adds or multiplies non-negative numbers. Factors are accurate entry by entry at any
stiffness, x >= 0 for b >= 0 holds exactly in floating point, and content is kept to round-off however large c A/V is.

Arrays: the line runs along axis 0, all other axes are lines; factors may have length 1 there (shared by all lines).
"""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.custom_batching import custom_vmap
from jax.custom_derivatives import SymbolicZero

__all__ = ["Line", "Factors", "factor", "solve", "apply", "default_backend", "BACKENDS"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Line:
    """Rates of a line operator: volume (n, ...), up and down (n+1, ...) [content/time per f], loss (n or 1, ...) [1/time]."""

    volume: Any
    up: Any
    down: Any
    loss: Any = None
    cyclic: bool = dataclasses.field(default=False, metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Spread:
    """The rates of a line operator with an entry a line: between cells, out through the two walls, lost."""

    volume: Any
    up: Any
    down: Any
    low: Any
    high: Any
    loss: Any
    cyclic: bool = dataclasses.field(default=False, metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Factors:
    """Sweep coefficients of a factored line system (see `_sweeps`), or its dense inverse where that is the back end.

    spread: what derivatives in the rates are taken of, or None where that is `line` itself. kernel: swept by `linear_pallas`.
    """

    line: Line
    c: Any
    forward: Any
    forward_last: Any
    scale: Any
    back: Any
    back_last: Any
    inverse: Any
    spread: Any = None
    kernel: bool = dataclasses.field(default=False, metadata={"static": True})


BACKENDS = ("auto", "sweep", "dense", "pallas")
_DENSE_CELLS = 512                  # longer lines: n numbers a cell are more than two sweeps' latency is worth
_DENSE_BYTES = 2**30                # of inverses, where every line has its own


def default_backend(platform: str, n: int, lines: int = 1, shared: bool = True, itemsize: int = 8) -> str:
    """What `factor` takes for `lines` lines of n cells on a platform ("cpu", "gpu"), that share one line's factors or do not.

    "sweep"     two loops over the rows: any CPU. By `jaxbelt bench lines` it is the fastest there, by 1.1 to 490 times, for n =
                50, 200, 500 and 1 to 16384 lines, shared or not, but for a single line of 50 cells: there the inverse takes half
                the time in float64 and is level in float32.
    "dense"     the inverse as a (batched) matrix product: elsewhere, where a loop of 2 n dependent operations costs its launches
                however few the lines; up to 512 cells, and where lines have factors of their own as long as the inverses take no
                more than 1 GiB.
    "pallas"    one kernel (see `linear_pallas`): never by itself, since it has run on no GPU yet. Ask for it by name.
    """
    if platform == "cpu":
        return "sweep"
    small = n <= _DENSE_CELLS and (shared or itemsize * n * n * lines <= _DENSE_BYTES)
    return "dense" if small else "sweep"


def _chosen(backend: str, scale) -> str:
    if backend not in BACKENDS:
        raise ValueError(f"backend: {backend!r} is unknown; use {', '.join(map(repr, BACKENDS))}")
    if backend != "auto":
        return backend
    n, own = scale.shape[0], math.prod(scale.shape[1:])
    return default_backend(jax.default_backend(), n, own, own == 1, scale.dtype.itemsize)


def factor(line: Line, c, backend: str = "auto", lines=None) -> Factors:
    """Factor V + c A. backend: "sweep", "dense", "pallas" or "auto" (see `default_backend`).

    lines: the shape of the lines that will be solved. Then a gradient in rates that lines share grows line by line, and the sum
    over lines is taken once at the end and not in every solve, where it costs as much as the solve.
    """
    stopped = lax.stop_gradient((line, c))
    forward, forward_last, scale, back, back_last = _eliminate(*stopped)
    n = line.volume.shape[0]
    inverse = None
    backend = _chosen(backend, scale)
    if backend == "dense":
        shape = jnp.broadcast_shapes(scale.shape[1:], back.shape[1:])
        eye = jnp.eye(n, dtype=scale.dtype).reshape((n,) + (1,) * len(shape) + (n,))
        eye = jnp.broadcast_to(eye, (n,) + shape + (n,))
        expand = [None if a is None else a[..., None] for a in (forward, forward_last, scale, back, back_last)]
        inverse = _sweeps(*expand, eye)
    spread = None if lines is None else _spread(line, lines)
    return Factors(line, c, forward, forward_last, scale, back, back_last, inverse, spread, kernel=backend == "pallas")


def _spread(line, lines):
    def full(a):
        return jnp.broadcast_to(a, a.shape[:1] + lines)

    inner = slice(0, -1) if line.cyclic else slice(1, -1)
    up = full(line.up[inner])
    # one array where there is one: its cotangents are then added up once
    down = up if line.down is line.up else full(line.down[inner])
    loss = None if line.loss is None else full(line.loss)
    return Spread(line.volume, up, down, full(line.down[:1]), full(line.up[-1:]), loss, line.cyclic)


def _batch_last(fn):
    """`fn` of trees of (n, ...) arrays, with a vmapped batch put last, next to the other lines: rows stay contiguous in memory
    and one loop serves all. For what is never differentiated through (see `solve`).
    """
    wrapped = custom_vmap(fn)

    @wrapped.def_vmap
    def rule(size, batched, *args):
        flat, tree = jax.tree.flatten(args)
        marks = jax.tree.leaves(batched)
        # an argument that all runs share gets a length-1 axis; scalars stay scalars unless they are batched
        flat = [jnp.moveaxis(a, 0, -1) if m else (a[..., None] if jnp.ndim(a) else a) for a, m in zip(flat, marks)]
        out = wrapped(*jax.tree.unflatten(tree, flat))

        def first(x):
            x = jnp.moveaxis(x, -1, 0)
            return jnp.broadcast_to(x, (size,) + x.shape[1:])

        return jax.tree.map(first, out), jax.tree.map(lambda _: True, out)

    return wrapped


@_batch_last
def _eliminate(line: Line, c):
    """Elimination from cell 0 upward, carrying column sums. Returns (L, P, G, U, W) for `_sweeps`."""
    volume, n = line.volume, line.volume.shape[0]
    held = volume if line.loss is None else volume * (1 + c * line.loss)
    if not line.cyclic:
        shape = jnp.broadcast_shapes(held.shape[1:], line.up.shape[1:], line.down.shape[1:], jnp.shape(c))
        dtype = jnp.result_type(held, line.up, line.down)

        # s/d is the fraction of a cell's content that does not go on; what comes back to it from above leaves no more of it
        def row(i, ratio, inverse):
            s = _row(held, i) + c * _row(line.down, i) * ratio
            r = jnp.broadcast_to(1.0 / (s + c * _row(line.up, i + np.uint32(1))), shape)      # one division a cell
            return s * r, _with_row(inverse, i, r)

        # the wall's own outflow belongs to the column sums: a first ratio of 1 makes down[0] count in full
        _, inverse = _rows(n, row, jnp.ones(shape, dtype), jnp.zeros((n,) + shape, dtype))
        zero = jnp.zeros((1,) + shape, dtype)
        forward = jnp.concatenate([zero, c * line.up[1:-1] * (volume[:-1] / volume[1:]) * inverse[:-1]])
        back = jnp.concatenate([c * line.down[1:-1] * inverse[:-1], zero])
        return forward, None, volume * inverse, back, None

    up, down = c * line.up, c * line.down
    shape = jnp.broadcast_shapes(held.shape[1:], up.shape[1:], down.shape[1:])
    dtype = jnp.result_type(held, up, down)

    def full(a):
        return jnp.broadcast_to(a, a.shape[:1] + shape).astype(dtype)

    held, up, down, volume = full(held), full(up), full(down), full(volume)
    # cyclic: every eliminated cell i also talks to the last cell N, at rates a (i -> N) and b (N -> i)
    def rows(carry, x):
        s, a, b, s_last = carry
        held, out, into = x                                   # out: i -> i+1, into: i+1 -> i (old neighbour)
        d = s + out + a
        nxt = (held + into * s / d, into * a / d, b * out / d, s_last + b * s / d)
        return nxt, (d, a, b)

    first = (held[0], jnp.broadcast_to(down[0], shape), jnp.broadcast_to(up[0], shape), held[-1])
    (s, a, b, s_last), (d, aa, bb) = lax.scan(rows, first, (held[1:-1], up[1:-2], down[1:-2]))
    # cell N-1 touches the last cell on both sides
    a, b = a + up[-2], b + down[-2]
    d_near = s + a
    s_last = s_last + b * s / d_near
    zero = jnp.zeros((1,) + shape, dtype)
    d_all = jnp.concatenate([d, d_near[None], s_last[None]])
    forward = jnp.concatenate([zero, up[1:-2] / d * (volume[:-2] / volume[1:-1]), zero])
    forward_last = jnp.concatenate([aa / d * (volume[:-2] / volume[-1]), (a / d_near * (volume[-2] / volume[-1]))[None], zero])
    back = jnp.concatenate([down[1:-2] / d, zero, zero])
    back_last = jnp.concatenate([bb / d, (b / d_near)[None], zero])
    return forward, forward_last, volume / d_all, back, back_last


def _row(a, i):
    return lax.squeeze(lax.dynamic_slice(a, (i, *[np.uint32(0)] * (a.ndim - 1)), (1, *a.shape[1:])), (0,))


def _with_row(a, i, row):
    return lax.dynamic_update_slice(a, row.astype(a.dtype)[None], (i, *[np.uint32(0)] * (a.ndim - 1)))


def _rows(n, body, *carry, back=False):
    """body(i, *carry) -> carry for the rows 0 to n-1, or back.

    The counter is unsigned: one that may be negative costs two more small kernels a row, up to half the time of a sweep. It
    counts upward: XLA takes an unsigned one that counts down for a loop of one round.
    """
    def step(carry):
        k, *rest = carry
        return k + np.uint32(1), *body(np.uint32(n - 1) - k if back else k, *rest)

    return lax.while_loop(lambda carry: carry[0] < np.uint32(n), step, (jnp.zeros((), jnp.uint32), *carry))[1:]


def _sweeps(forward, forward_last, scale, back, back_last, b):
    """z_i = b_i + L_i z_{i-1} (z_N += sum P_i z_i); x_i = G_i z_i + U_i x_{i+1} (+ W_i x_N). In place, row by row."""
    n = b.shape[0]
    zero = jnp.zeros_like(b[0])

    if forward_last is None:
        def down(i, z, buffer):
            z = _row(buffer, i) + _row(forward, i) * z
            return z, _with_row(buffer, i, z)

        def up(i, x, buffer):
            x = _row(buffer, i) * _row(scale, i) + _row(back, i) * x
            return x, _with_row(buffer, i, x)

        _, buffer = _rows(n, down, zero, b)
        return _rows(n, up, zero, buffer, back=True)[1]

    def down(i, z, last, buffer):
        z = _row(buffer, i) + _row(forward, i) * z
        return z, last + _row(forward_last, i) * z, _with_row(buffer, i, z)

    _, last, buffer = _rows(n - 1, down, zero, b[-1], b)
    last = last * scale[-1]

    def up(i, x, buffer):
        x = _row(buffer, i) * _row(scale, i) + _row(back, i) * x + _row(back_last, i) * last
        return x, _with_row(buffer, i, x)

    return _rows(n - 1, up, zero, buffer.at[n - 1].set(last), back=True)[1]


@_batch_last
def _lines(coefficients, b):
    lines = jnp.broadcast_shapes(b.shape[1:], *(a.shape[1:] for a in jax.tree.leaves(coefficients)))
    return _sweeps(*coefficients, jnp.broadcast_to(b, b.shape[:1] + lines))


@_batch_last
def _kernel_lines(coefficients, b):
    from jaxbelt.linear_pallas import sweeps

    lines = jnp.broadcast_shapes(b.shape[1:], *(a.shape[1:] for a in jax.tree.leaves(coefficients)))
    return sweeps(*coefficients, jnp.broadcast_to(b, b.shape[:1] + lines))


def _shift(a, k):
    """Row i of the result is row i+k of a (rows outside are zero)."""
    zero = jnp.zeros_like(a[:1])
    return jnp.concatenate([a[1:], zero]) if k == 1 else jnp.concatenate([zero, a[:-1]])


def apply(line: Line, f):
    """V^-1 A f: what leaves each cell per unit time and volume (walls: outflow only)."""
    if line.cyclic:
        before, after = jnp.roll(f, 1, axis=0), jnp.roll(f, -1, axis=0)
    else:
        before, after = _shift(f, -1), _shift(f, 1)
    moved = (line.up[1:] + line.down[:-1]) * f
    if line.cyclic:
        moved = moved - line.up[:-1] * before - line.down[1:] * after
    else:
        moved = moved - line.up[:-1].at[0].set(0.0) * before - line.down[1:].at[-1].set(0.0) * after
    moved = moved / line.volume
    return moved if line.loss is None else moved + line.loss * f


def solve(factors: Factors, b, name=None):
    """x with (V + c A) x = V b; b: (n, ...). Differentiable in b, the rates and c; the adjoint is another line solve.

    name: what `jax.checkpoint` policies may call x, so that it is kept for the gradient (of factors made with `lines`).
    """
    return _solve(factors, b) if factors.spread is None else _spread_solve(name, factors, b)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _spread_solve(name, factors, b):
    return _solve(factors, b)


def _spread_solve_jvp(name, primals, tangents):
    """M dx = V db - dM x, of an x that has a name."""
    (factors, b), (dfactors, db) = primals, tangents
    x = _solve(factors, b)
    x = x if name is None else checkpoint_name(x, name)
    rates, tree = jax.tree.flatten((factors.spread, factors.c))
    changes = jax.tree.leaves((dfactors.spread, dfactors.c))
    moving = [not isinstance(d, SymbolicZero) for d in changes]

    def product(*some):
        some = iter(some)
        return -_product(*jax.tree.unflatten(tree, [next(some) if m else a for a, m in zip(rates, moving)]), x)

    right = [] if isinstance(db, SymbolicZero) else [db]
    if any(moving):
        right.append(jax.jvp(product, [a for a, m in zip(rates, moving) if m], [d for d, m in zip(changes, moving) if m])[1])
    return x, _solve(factors, sum(right)) if right else jnp.zeros_like(x)


_spread_solve.defjvp(_spread_solve_jvp, symbolic_zeros=True)


def _product(rates: Spread, c, f):
    """c V^-1 A f, arranged so that its transpose in the rates is products of whole rows."""
    if rates.cyclic:
        through = rates.up * jnp.roll(f, 1, axis=0) - rates.down * f
        left = jnp.roll(through, -1, axis=0) - through
    else:
        n, through = f.shape[0], rates.up * f[:-1] - rates.down * f[1:]

        def at(a, before):
            return lax.pad(a, jnp.zeros((), a.dtype), [(before, n - before - a.shape[0], 0), *[(0, 0, 0)] * (f.ndim - 1)])

        left = at(through, 0) - at(through, 1) + at(rates.low * f[:1], 0) + at(rates.high * f[-1:], n - 1)
    left = left * (c / rates.volume)
    return left if rates.loss is None else left + c * rates.loss * f


def _solve(factors, b):
    line, c = factors.line, factors.c

    def matvec(x):
        return x + c * apply(line, x)

    if factors.inverse is not None:
        inverse = factors.inverse

        def direct(_, b):
            return _contract(inverse, b)

        def transposed(_, b):
            return _contract(jnp.swapaxes(inverse, 0, -1), b)
    else:
        f, lines = factors, _kernel_lines if factors.kernel else _lines
        coefficients = (f.forward, f.forward_last, f.scale, f.back, f.back_last)
        # the transpose of two sweeps is two sweeps with the coefficients exchanged: x = (I - L)^-T G (I - U)^-T b
        swapped = (_shift(f.back, -1), f.back_last, f.scale, _shift(f.forward, 1), f.forward_last)

        def direct(_, b):
            return lines(coefficients, b)

        def transposed(_, b):
            return lines(swapped, b)

    return lax.custom_linear_solve(matvec, b, direct, transposed)


def _contract(inverse, b):
    """sum_j inverse[i, ..., j] b[j, ...]; one matrix product where the lines share it."""
    n = b.shape[0]
    if all(k == 1 for k in inverse.shape[1:-1]):
        return (inverse.reshape(n, n) @ b.reshape(n, -1)).reshape(b.shape)
    lines = inverse.shape[1:-1]
    flat = jnp.broadcast_to(b, (n,) + jnp.broadcast_shapes(lines, b.shape[1:]))
    return jnp.einsum("i...j,j...->i...", inverse, flat)
