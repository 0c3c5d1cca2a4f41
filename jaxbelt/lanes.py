"""A `vmap` that keeps its batch last, next to each other in memory, through loops and branches.

`jax.vmap` carries a batch along axis 0 through every scan, branch and solve. Lines that are solved row by row want it last: a
row of all runs is then one stretch of memory, and nothing is transposed between the loops. This evaluates the jaxpr of one run
with every varying value as (..., batch). For what is only advanced: a gradient takes `jax.vmap`.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core

__all__ = ["lanes"]

# operations that act on every entry alone
_ENTRIES = frozenset(
    "abs add add_any and atan2 cbrt ceil clamp convert_element_type copy cos cosh div eq erf erfc exp exp2 expm1 floor ge gt "
    "integer_pow is_finite le log log1p logistic lt max min mul ne neg nextafter not or pow rem round rsqrt select_n sign sin "
    "sinh sqrt square stop_gradient sub tan tanh xor name".split())


def lanes(fun: Callable) -> Callable:
    """What `jax.vmap(fun, in_axes=(None, 0))` is, for a function of (shared, varying), with the batch last inside.

    shared, varying: pytrees; the leaves of `varying`, one at least, have the batch on their first axis, and so have those of
    the result. Operations without a rule here follow `jax.vmap`'s. Branches taken together (`any_in_batch`) stay branches.
    """
    def run(shared, varying):
        size = jax.tree.leaves(varying)[0].shape[0]
        one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x)[1:], jnp.result_type(x)), varying)
        closed, shape = jax.make_jaxpr(fun, return_shape=True)(shared, one)
        given = [(x, False) for x in jax.tree.leaves(shared)]
        given += [(jnp.moveaxis(jnp.asarray(x), 0, -1), True) for x in jax.tree.leaves(varying)]
        out = _evaluate(size, closed.jaxpr, [(c, False) for c in closed.consts], given)
        return jax.tree.unflatten(jax.tree.structure(shape), [jnp.moveaxis(_spread(size, *x), -1, 0) for x in out])

    return run


def _spread(size, x, batched):
    """x with the batch as its last axis."""
    x = jnp.asarray(x)
    return x if batched else jnp.broadcast_to(x[..., None], (*x.shape, size))


def _evaluate(size, jaxpr, consts, args):
    """The results of a jaxpr, each (value, whether it has the batch as its last axis)."""
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args]))

    def read(v):
        return (v.val, False) if isinstance(v, core.Literal) else known[v]

    for eqn in jaxpr.eqns:
        given = [read(v) for v in eqn.invars]
        if not any(batched for _, batched in given):
            out = [(x, False) for x in _alone(jaxpr, eqn)(*(x for x, _ in given))]
        else:
            name = eqn.primitive.name
            rule = _RULES.get(name, _entries if name in _ENTRIES else _any)
            out = rule(size, jaxpr, eqn, given)
        known |= dict(zip(eqn.outvars, out))
    return [read(v) for v in jaxpr.outvars]


def _alone(jaxpr, eqn):
    """One equation as a function of all its operands that returns a list."""
    variables = list(dict.fromkeys(v for v in eqn.invars if not isinstance(v, core.Literal)))
    one = core.jaxpr_as_fun(core.ClosedJaxpr(jaxpr.replace(constvars=[], invars=variables, outvars=eqn.outvars, eqns=[eqn]), []))

    def run(*operands):
        return one(*dict((v, x) for v, x in zip(eqn.invars, operands) if not isinstance(v, core.Literal)).values())

    return run


def _any(size, jaxpr, eqn, given):
    """Any operation, by its own rule of `jax.vmap`."""
    axes = [-1 if batched else None for _, batched in given]
    out = jax.vmap(_alone(jaxpr, eqn), in_axes=axes, out_axes=-1, axis_size=size)(*(x for x, _ in given))
    return [(x, True) for x in out]


def _entries(size, jaxpr, eqn, given):
    """An operation on every entry alone."""
    shape = eqn.outvars[0].aval.shape

    def full(x, batched):
        if batched and jnp.ndim(x) > 1 or not shape:
            return _spread(size, x, batched)
        return jnp.broadcast_to(x if batched or not jnp.ndim(x) else jnp.asarray(x)[..., None], (*shape, size))

    out = eqn.primitive.bind(*(full(*x) for x in given), **eqn.params)
    return [(x, True) for x in (out if eqn.primitive.multiple_results else [out])]


def _depends(jaxpr, flags):
    """Which results may depend on inputs that vary, equation by equation."""
    varying = {v for v, flag in zip(jaxpr.invars, flags) if flag}
    for eqn in jaxpr.eqns:
        if any(v in varying for v in eqn.invars if not isinstance(v, core.Literal)):
            varying.update(eqn.outvars)
    return [not isinstance(v, core.Literal) and v in varying for v in jaxpr.outvars]


def _carried(jaxpr, before, carry, after):
    """Which parts of a loop's carry vary, once it has gone round often enough."""
    flags = [batched for _, batched in carry]
    while True:
        new = _depends(jaxpr, [*(b for _, b in before), *flags, *(b for _, b in after)])[:len(flags)]
        new = [a or b for a, b in zip(flags, new)]
        if new == flags:
            return flags
        flags = new


def _all(size, values, flags):
    return [_spread(size, *v) if flag else v[0] for v, flag in zip(values, flags)]


def _scan(size, jaxpr, eqn, given):
    p, body = eqn.params, eqn.params["jaxpr"]
    if "num_consts" in p:
        n, m = p["num_consts"], p["num_carry"]
    elif "ft_in" in p:                                  # JAX 0.12: as a tree of (constants, carry, xs)
        n, m, _ = (len(part) for part in p["ft_in"].unpack())
    else:
        return _any(size, jaxpr, eqn, given)
    consts, carry, xs = given[:n], given[n:n + m], given[n + m:]
    flags = _carried(body.jaxpr, consts, carry, xs)
    out_flags = _depends(body.jaxpr, [*(b for _, b in consts), *flags, *(b for _, b in xs)])[m:]

    def step(c, x):
        out = _evaluate(size, body.jaxpr, [(a, False) for a in body.consts],
                        [*consts, *zip(c, flags), *((a, b) for a, (_, b) in zip(x, xs))])
        return _all(size, out[:m], flags), _all(size, out[m:], out_flags)

    c, ys = lax.scan(step, _all(size, carry, flags), [x for x, _ in xs], length=p["length"], reverse=p["reverse"],
                     unroll=p["unroll"])
    return [*zip(c, flags), *zip(ys, out_flags)]


def _while(size, jaxpr, eqn, given):
    p = eqn.params
    n, m, cond, body = p["cond_nconsts"], p["body_nconsts"], p["cond_jaxpr"], p["body_jaxpr"]
    cond_consts, body_consts, carry = given[:n], given[n:n + m], given[n + m:]
    flags = _carried(body.jaxpr, body_consts, carry, [])
    if _depends(cond.jaxpr, [*(b for _, b in cond_consts), *flags])[0]:
        return _any(size, jaxpr, eqn, given)

    def evaluated(closed, consts, c):
        return _evaluate(size, closed.jaxpr, [(a, False) for a in closed.consts], [*consts, *zip(c, flags)])

    c = lax.while_loop(lambda c: evaluated(cond, cond_consts, c)[0][0],
                       lambda c: _all(size, evaluated(body, body_consts, c), flags), _all(size, carry, flags))
    return list(zip(c, flags))


def _cond(size, jaxpr, eqn, given):
    (index, varies), *operands = given
    if varies:
        return _any(size, jaxpr, eqn, given)
    branches, marks = eqn.params["branches"], [b for _, b in operands]
    flags = [any(f) for f in zip(*(_depends(branch.jaxpr, marks) for branch in branches))]

    def taken(branch):
        def run(*values):
            out = _evaluate(size, branch.jaxpr, [(a, False) for a in branch.consts], list(zip(values, marks)))
            return _all(size, out, flags)
        return run

    return list(zip(lax.switch(index, [taken(b) for b in branches], *(x for x, _ in operands)), flags))


def _inline(size, jaxpr, eqn, given):
    inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr", eqn.params.get("fun_jaxpr")))
    consts = inner.consts if isinstance(inner, core.ClosedJaxpr) else []
    inner = inner.jaxpr if isinstance(inner, core.ClosedJaxpr) else inner
    return _evaluate(size, inner, [(a, False) for a in consts], given)


def _linear_solve(size, jaxpr, eqn, given):
    """The solve itself; what its derivatives need is left out."""
    lengths, solve = eqn.params["const_lengths"], eqn.params["jaxprs"].solve
    first = lengths.matvec + lengths.vecmat
    consts, right = given[first:first + lengths.solve], given[sum(lengths):]
    return _evaluate(size, solve.jaxpr, [(a, False) for a in solve.consts], [*consts, *right])


def _custom_vmap(size, jaxpr, eqn, given):
    """By its own rule, which alone knows what comes out common to all."""
    axes, values = [0 if b else None for _, b in given], [jnp.moveaxis(x, -1, 0) if b else x for x, b in given]
    run, flags = _alone(jaxpr, eqn), []
    for i in range(len(eqn.outvars)):
        try:
            jax.eval_shape(jax.vmap(lambda *a, i=i: run(*a)[i], in_axes=axes, out_axes=None, axis_size=size), *values)
            flags.append(False)
        except ValueError:
            flags.append(True)
    to = tuple(0 if b else None for b in flags)
    out = jax.vmap(lambda *a: tuple(run(*a)), in_axes=axes, out_axes=to, axis_size=size)(*values)
    return [(jnp.moveaxis(x, 0, -1) if b else x, b) for x, b in zip(out, flags)]


def _same(size, jaxpr, eqn, given):
    """An operation along named axes, all before the batch."""
    out = eqn.primitive.bind(*(x for x, _ in given), **eqn.params)
    return [(x, True) for x in (out if eqn.primitive.multiple_results else [out])]


def _broadcast(size, jaxpr, eqn, given):
    shape, dims = eqn.params["shape"], eqn.params["broadcast_dimensions"]
    return [(lax.broadcast_in_dim(given[0][0], (*shape, size), (*dims, len(shape))), True)]


def _reshape(size, jaxpr, eqn, given):
    if eqn.params["dimensions"] is not None:
        return _any(size, jaxpr, eqn, given)
    return [(lax.reshape(given[0][0], (*eqn.params["new_sizes"], size)), True)]


def _slice(size, jaxpr, eqn, given):
    p = eqn.params
    strides = None if p["strides"] is None else (*p["strides"], 1)
    return [(lax.slice(given[0][0], (*p["start_indices"], 0), (*p["limit_indices"], size), strides), True)]


def _pad(size, jaxpr, eqn, given):
    (x, batched), (value, own) = given
    if own:
        return _any(size, jaxpr, eqn, given)
    return [(lax.pad(_spread(size, x, batched), value, (*eqn.params["padding_config"], (0, 0, 0))), True)]


def _transpose(size, jaxpr, eqn, given):
    order = eqn.params["permutation"]
    return [(lax.transpose(given[0][0], (*order, len(order))), True)]


def _concatenate(size, jaxpr, eqn, given):
    return [(lax.concatenate([_spread(size, *x) for x in given], eqn.params["dimension"]), True)]


_ALONG = ("reduce_sum reduce_max reduce_min reduce_prod reduce_and reduce_or argmax argmin cumsum cumprod cummax cummin rev "
          "squeeze").split()
_RULES = {"scan": _scan, "while": _while, "cond": _cond, "custom_linear_solve": _linear_solve, "custom_vmap_call": _custom_vmap,
          "broadcast_in_dim": _broadcast, "reshape": _reshape, "slice": _slice, "pad": _pad, "transpose": _transpose,
          "concatenate": _concatenate, **dict.fromkeys(_ALONG, _same),
          **dict.fromkeys(("jit", "pjit", "closed_call", "core_call", "checkpoint", "remat", "remat2", "custom_jvp_call",
                           "custom_vjp_call", "custom_vjp_call_jaxpr", "custom_lin"), _inline)}
