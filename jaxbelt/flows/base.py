"""What every flow is: a conservative, positive map that advances f by dt, and the account of what it moved."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.custom_batching import custom_vmap

from jaxbelt.coefficients import evaluate

__all__ = ["Flow", "flow", "wall_value", "any_in_batch", "max_in_batch", "add_budgets", "blend_factor", "borrow",
           "positive_scale", "ratio", "kept", "KEPT", "line_sum", "nonnegative_lines"]


class Flow:
    """Abstract. A flow is a frozen dataclass (a pytree) of arrays on faces or cells, in two stages:

    prepare(grid, dt) -> state      factors and tables; called once an interval where the flow is `steady`
    advance(grid, state, f, t, dt) -> (f, budget)
        budget: dict of scalars, the content gained in this step: "<axis>.lower" and "<axis>.upper" through the walls,
        "source", "loss" (negative). An int entry "fault" is 0, or the code of what went wrong.

    `steady` (static) says that the coefficients are constant inside an interval. dt may be traced. `exact` (a property of
    the class): advancing by a and then by b is advancing by a + b, so that the halves of neighbouring steps may be joined.
    `again` (of the class): a gradient computes `advance` again from its arguments and from what it marked with `kept`, instead of
    keeping all that its derivative needs. Good for cheap flows; not for those that have checkpoints inside.
    """

    steady: bool
    exact = False
    again = False

    def prepare(self, grid, dt) -> Any:
        raise TypeError(f"{type(self).__name__} must define prepare")

    def advance(self, grid, state, f, t, dt):
        """(f after dt, budget): see `Flow`."""
        raise TypeError(f"{type(self).__name__} must define advance")


def flow(cls):
    """Class decorator for flows: frozen keyword dataclass, registered as a pytree; `static()` fields are structure."""
    cls = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
    fields = dataclasses.fields(cls)
    return jax.tree_util.register_dataclass(
        cls,
        data_fields=[f.name for f in fields if not f.metadata.get("static")],
        meta_fields=[f.name for f in fields if f.metadata.get("static")],
    )


def wall_value(coefficient, t, grid, axis):
    """The value outside a wall of `axis` at a moment, shaped to broadcast against one row of f (length 1 along `axis`).

    coefficient: a number, an array over the other axes, or a callable of (t, *coordinates of the other axes).
    """
    k = grid.index(axis)
    others = [np.squeeze(c, axis=k) for i, c in enumerate(grid.mesh()) if i != k]
    value = evaluate(coefficient, t, *others)
    value = jnp.broadcast_to(value, (1,) * (grid.ndim - 1 - value.ndim) + value.shape)
    return jnp.expand_dims(value, k)


KEPT = "kept"


def kept(x):
    """x, marked as worth keeping for the gradient of a step: everything else in a step is computed again (see `solve.advance`).

    For what costs much and takes little memory: a decision, a factor a line, the result of a solve.
    """
    return checkpoint_name(x, KEPT)


@custom_vmap
def any_in_batch(flags):
    """any(flags), common to a vmapped batch, so that a `lax.cond` on it stays a branch under `vmap`."""
    return jnp.any(flags)


@any_in_batch.def_vmap
def _any_rule(size, batched, flags):
    return any_in_batch(jnp.any(flags, axis=0)), False


@custom_vmap
def max_in_batch(value):
    """max(value), common to a vmapped batch (a substep count, for instance)."""
    return jnp.max(value)


@max_in_batch.def_vmap
def _max_rule(size, batched, value):
    return max_in_batch(jnp.max(value, axis=0)), False


def add_budgets(a: dict, b: dict) -> dict:
    """Sum of two budgets; `fault` keeps the larger code."""
    out = dict(a)
    for key, value in b.items():
        if key not in out:
            out[key] = value
        else:
            out[key] = jnp.maximum(out[key], value) if key == "fault" else out[key] + value
    return out


def ratio(a, b):
    """a/b where b > 0, else 0. The derivative of a quotient holds 1/b^2, which overflows long before b underflows: for such b
    the ratio is a constant.
    """
    small = b < np.sqrt(np.finfo(b.dtype).tiny)
    frozen = lax.stop_gradient(jnp.where(b > 0, a / jnp.where(b > 0, b, 1.0), 0.0))
    return jnp.where(small, frozen, a / jnp.where(small, 1.0, b))


def blend_factor(f, safe, before, axis):
    """Largest theta in [0, 1] with theta f + (1 - theta) safe >= 0 over `axis`, for safe >= 0; safe to differentiate.

    A few ulp less than exact where it binds, so that rounding leaves nothing negative. 1 where the state `before` already had
    negative values: there is nothing to keep positive then, and the second order is kept.
    """
    bad = f < 0
    eps = jnp.asarray(8 * np.finfo(f.dtype).eps, f.dtype)
    theta = ratio(jnp.maximum(safe, 0.0), jnp.where(bad, safe - f, 1.0)) * (1 - eps)
    theta = jnp.min(jnp.where(bad, theta, 1.0), axis=axis, keepdims=True)
    had = kept(jnp.min(lax.stop_gradient(before), axis=axis, keepdims=True) < 0)
    return jnp.where(had, 1.0, theta)


def line_sum(weight, f):
    """sum_i weight_i f_i over axis 0: as a matrix product where all lines have the same weights; a reduction along the first axis
    takes ten times longer on a CPU."""
    if weight.ndim > 1 and any(k > 1 for k in weight.shape[1:]):
        return jnp.sum(weight * f, axis=0)
    return jnp.tensordot(weight.reshape(-1).astype(f.dtype), f, 1, precision=lax.Precision.HIGHEST)


def nonnegative_lines(f):
    """Which lines along axis 0 have no negative value; looked for only where anything is negative at all."""
    f = lax.stop_gradient(f)
    return lax.cond(any_in_batch(f < 0), lambda f: jnp.min(f, axis=0) >= 0, lambda f: jnp.ones(f.shape[1:], bool), f)


def borrow(f, radii=(1, 4)):
    """Fill negative cells of rings (last axis, periodic) from the positive cells around them, nearest first. Conservative.

    Within each radius a negative cell asks its neighbours in proportion to what they hold; nobody gives more than it has. What
    is still missing after the last radius stays negative. The undershoots that an exact shift leaves beside a sharp edge are
    settled within a cell or two, and the rest of the ring does not feel them.
    """
    f = _lent(f, radii[0])
    for r in radii[1:]:
        f = lax.cond(any_in_batch(lax.stop_gradient(f) < 0), lambda x, r=r: _lent(x, r), lambda x: x, f)
    return f


def _around(x, r):
    """Sums over 2 r + 1 cells of rings; short ones as a product with a circulant matrix, six times faster than shifted copies."""
    n = x.shape[-1]
    if n > 128:
        return x + sum(jnp.roll(x, k, -1) + jnp.roll(x, -k, -1) for k in range(1, r + 1))
    apart = (np.arange(n)[:, None] - np.arange(n)) % n
    near = sum((apart == k % n).astype(float) for k in range(-r, r + 1))
    return jnp.matmul(x, jnp.asarray(near, x.dtype), precision=lax.Precision.HIGHEST)


def _lent(f, r):
    owed, held = jnp.maximum(-f, 0.0), jnp.maximum(f, 0.0)
    share = ratio(owed, _around(held, r))                      # asked of each neighbour, per unit it holds
    asked = _around(share, r)
    given = jnp.where(asked > 1, 1.0 / jnp.where(asked > 1, asked, 1.0), 1.0)
    owed = jnp.maximum(owed - share * _around(held * given, r), 0.0)
    return held * (1.0 - jnp.minimum(asked, 1.0)) - owed


def positive_scale(f, mean, axes):
    """Scale f toward its (non-negative) mean over `axes` by the smallest amount that leaves nothing negative.

    f' = m + (f - m) m/(m - min f): content-preserving, identity where min f >= 0. Safe to differentiate.
    """
    low = jnp.min(f, axis=axes, keepdims=True)
    bad = low < 0
    room = jnp.where(bad, mean - low, 1.0)
    # a few ulp less than the exact factor, so that rounding cannot leave a negative cell
    eps = jnp.asarray(8 * np.finfo(f.dtype).eps, f.dtype)
    scale = jnp.where(bad, ratio(jnp.maximum(mean, 0.0), room) * (1 - eps), 1.0)
    return jnp.where(bad, mean + (f - mean) * scale, f)
