"""What a computation has to calculate, counted in its jaxpr, and how fast this machine calculates: the roof beside the bandwidth.

Kinds: "simple" (additions, products, comparisons, choices, one an entry; 2.5 n log2 n of them for a real FFT), "division" (and
roots), "function" (exp, log, sine ...), "gather" (entries read or written by index), "product" (multiplications and additions of
matrix products). Of branches the cheapest counts: the others are for what is rare.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from jaxbelt.benchmarks.timing import FULL, Effort, Loop, timed

__all__ = ["KINDS", "count", "rates"]

KINDS = ("simple", "division", "function", "gather", "product")
_KIND = dict.fromkeys("add add_any sub mul max min neg abs sign select_n eq ne lt le gt ge and or xor not clamp floor ceil round "
                      "is_finite square integer_pow rem nextafter".split(), "simple")
_KIND |= dict.fromkeys(("div", "sqrt", "rsqrt", "cbrt"), "division")
_KIND |= dict.fromkeys("exp exp2 expm1 log log1p pow sin cos tan asin acos atan atan2 sinh cosh tanh logistic erf erfc".split(),
                       "function")
_REDUCING = ("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or", "argmax", "argmin", "cumsum",
             "cumprod", "cummax", "cummin")


def count(fun, *args, empty: bool = True) -> dict:
    """{kind: operations} of fun(*args). empty: whether a branch that calculates nothing may be the cheapest one."""
    found = _of(jax.make_jaxpr(fun)(*args).jaxpr, empty)
    return {kind: float(found[kind]) for kind in KINDS}


def _size(v):
    return math.prod(v.aval.shape)


def _of(jaxpr, empty) -> Counter:
    total = Counter()
    for eqn in jaxpr.eqns:
        total.update(_one(eqn, empty))
    return total


def _closed(inner, empty):
    return _of(inner.jaxpr if isinstance(inner, core.ClosedJaxpr) else inner, empty)


def _times(found, n):
    return Counter({k: n * v for k, v in found.items()})


def _one(eqn, empty) -> Counter:
    name, p = eqn.primitive.name, eqn.params
    if name in _KIND:
        return Counter({_KIND[name]: _size(eqn.outvars[0])})
    if name in _REDUCING:
        return Counter(simple=_size(eqn.invars[0]))
    if name == "fft":
        n = math.prod(p["fft_lengths"])
        rings = max(_size(eqn.invars[0]), _size(eqn.outvars[0])) / eqn.invars[0].aval.shape[-1]
        return Counter(simple=(5.0 if str(p["fft_type"]).endswith(("IFFT", ".FFT")) else 2.5) * n * math.log2(max(n, 2)) * rings)
    if name == "dot_general":
        (contracted, _), _ = p["dimension_numbers"]
        return Counter(product=2 * _size(eqn.outvars[0]) * math.prod(eqn.invars[0].aval.shape[i] for i in contracted))
    if name == "gather":
        return Counter(gather=_size(eqn.outvars[0]))
    if name.startswith("scatter"):
        return Counter(gather=_size(eqn.invars[2]))
    if name == "scan":
        return _times(_closed(p["jaxpr"], empty), p["length"])
    if name == "while":
        return _times(_closed(p["body_jaxpr"], empty), _trips(p["cond_jaxpr"].jaxpr))
    if name == "cond":
        found = [_closed(b, empty) for b in p["branches"]]
        return min((b for b in found if empty or b), key=lambda b: sum(b.values()), default=Counter())
    if name == "custom_linear_solve":
        return _closed(p["jaxprs"].solve, empty)
    inner = p.get("jaxpr", p.get("call_jaxpr", p.get("call", p.get("fun_jaxpr"))))
    return Counter() if inner is None else _closed(inner, empty)


def _trips(condition) -> int:
    """Rounds of a loop that counts from 0 up to a literal; 1 where that is not seen."""
    bounds = [v.val for eqn in condition.eqns if eqn.primitive.name == "lt" for v in eqn.invars if isinstance(v, core.Literal)]
    return int(bounds[0]) if len(condition.eqns) == 1 and bounds else 1


def rates(n: int, dtype="float64", effort: Effort = FULL) -> dict:
    """{kind: operations a second} but for products: "simple" as chains of multiplications and additions over 2048 entries,
    divisions and exponentials likewise, "gather" from random places of an array of n entries.
    """
    x, one = jnp.linspace(0.5, 1.5, 2048, dtype=dtype), jnp.asarray(1.0, dtype)
    place = jnp.asarray(np.random.default_rng(0).permutation(n))

    def chain(step, rounds, x, one):
        for _ in range(rounds):
            x = step(x, one)
        return x

    # as many rounds as hide the reading of x, and no fixed point that would be a special value
    def chains(x, one):
        # four at once: one alone would wait for each of its results
        return sum(chain(lambda y, one: y * one + one, 8, x * k, one) for k in (1.0, 0.5, 0.25, 0.125)) * 0.25

    loops = {"simple": (Loop(chains, x, one * 0.7), (4 * (2 * 8 + 1) + 4) * x.size),
             "division": (Loop(partial(chain, lambda x, one: one / (x + 0.25), 8), x, one), 8 * x.size),
             "function": (Loop(partial(chain, lambda x, one: jnp.exp(-x * one), 4), x, one), 4 * x.size),
             "gather": (Loop(lambda x, place: x[place], jnp.linspace(0, 1, n, dtype=dtype), place), n)}
    taken = timed({k: loop for k, (loop, _) in loops.items()}, dataclasses.replace(effort, least=max(effort.least, 2)))
    return {k: loops[k][1] / t.busy for k, t in taken.items()}
