"""`copy`: how fast this machine moves numbers and multiplies matrices; what all other parts are measured against."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from jaxbelt.benchmarks import operations
from jaxbelt.benchmarks.timing import FULL, QUICK, Effort, Loop, Table, timed

__all__ = ["part", "rates", "Limits"]

SIZES = (("within L2", 2**19), ("within L3", 2**23), ("beyond the caches", 3 * 2**27))
_PRODUCT, _QUICK_PRODUCT = 512, 32                                  # rows of the matrices that are multiplied
_KINDS = {"copy": 2, "triad": 3, "in place": 1}                       # arrays in use


def _loops(total: int, dtype):
    """{kind: (loop of one pass over arrays of `total` bytes together, bytes a pass moves)}."""
    out = {}
    for kind, arrays in _KINDS.items():
        n = max(16, total // (arrays * jnp.dtype(dtype).itemsize))
        a, b, c = (jnp.full(n, x, dtype) for x in (1.0, 2.0, 3.0))
        # a factor that changes every pass, so that none can be left out
        if kind == "copy":
            loop = Loop(lambda x, b: (b * x[1], 2.0 - x[1]), (a, jnp.asarray(0.999, dtype)), b)
        elif kind == "triad":
            loop = Loop(lambda x, b, c: (b + x[1] * c, 2.0 - x[1]), (a, jnp.asarray(0.999, dtype)), b, c)
        else:
            loop = Loop(lambda x: (x[0] * x[1], 2.0 - x[1]), (a, jnp.asarray(0.999, dtype)))
        out[kind] = loop, max(arrays, 2) * n * jnp.dtype(dtype).itemsize
    return out


def rates(total: int, dtype="float64", effort: Effort = FULL) -> dict:
    """{kind: (bytes a second, `Timing`)} for arrays of `total` bytes together: what is read and written counts, nothing else.

    copy: a <- s b. triad: a <- b + s c (McCalpin 1995). in place: a <- s a.
    """
    loops = _loops(total, dtype)
    taken = timed({k: loop for k, (loop, _) in loops.items()}, dataclasses.replace(effort, least=max(effort.least, 2)))
    return {k: (loops[k][1] / t.median, t) for k, t in taken.items()}


def products(n: int, dtype="float64", effort: Effort = FULL) -> float:
    """Multiplications and additions a second of products of n x n matrices."""
    a = jnp.eye(n, dtype=dtype) + jnp.asarray(1e-3 / n, dtype)
    taken = timed({"": Loop(lambda x, a: x @ a, a, a)}, effort)[""]
    return 2.0 * n**3 / taken.busy


class Limits:
    """What the machine can do, measured once for every size and precision asked for."""

    def __init__(self, effort: Effort = FULL):
        self.effort, self._bandwidth, self._products, self._operations = effort, {}, {}, {}

    def bandwidth(self, total: int, dtype) -> float:
        """Bytes a second, the best of copy, triad and in place, for arrays of `total` bytes together (to a factor of 2)."""
        key = max(int(total).bit_length(), 15), str(dtype)
        if key not in self._bandwidth:
            found = rates(int(0.75 * 2 ** key[0]), dtype, self.effort).values()
            self._bandwidth[key] = max(r * t.median / t.busy for r, t in found)
        return self._bandwidth[key]

    def products(self, dtype) -> float:
        """Multiplications and additions a second of large matrix products."""
        if str(dtype) not in self._products:
            self._products[str(dtype)] = products(_QUICK_PRODUCT if self.effort.rounds == QUICK.rounds else _PRODUCT, dtype,
                                                  self.effort)
        return self._products[str(dtype)]

    def seconds(self, counted: dict, n: int, dtype) -> float:
        """Time of the `operations` counted, one kind after the other, on arrays of n entries (to a factor of 2)."""
        key = max(int(n).bit_length(), 8), str(dtype)
        if key not in self._operations:
            self._operations[key] = operations.rates(2 ** (key[0] - 1), dtype, self.effort)
        rate = self._operations[key]
        return sum(k / (self.products(dtype) if kind == "product" else rate[kind]) for kind, k in counted.items() if k)


def part(quick: bool = False) -> list[Table]:
    """Bandwidth by size and kind, and the rate of matrix products."""
    effort = QUICK if quick else FULL
    rows = []
    for name, total in (("small", 2**14),) if quick else SIZES:
        for dtype in ("float64", "float32"):
            for kind, (rate, taken) in rates(total, dtype, effort).items():
                moved = rate * taken.median
                rows.append({"arrays": name, "MB": total / 1e6, "kind": kind, "dtype": dtype, "GB/s": rate / 1e9,
                             "least": moved / taken.most / 1e9, "most": moved / taken.least / 1e9, "cores": taken.cores})
    columns = (("arrays", "arrays", "{:18s}"), ("MB", "MB", "{:8.2f}"), ("kind", "kind", "{:10s}"),
               ("dtype", "precision", "{:9s}"), ("GB/s", "GB/s", "{:8.1f}"), ("least", "least", "{:8.1f}"),
               ("most", "most", "{:8.1f}"), ("cores", "cores", "{:6.2f}"))
    n, places = (_QUICK_PRODUCT, 2**10) if quick else (_PRODUCT, 2**15)
    multiply = [{"dtype": d, "GFlop/s": products(n, d, effort) / 1e9} for d in ("float64", "float32")]
    arithmetic = []
    for d in ("float64", "float32"):
        found = operations.rates(places, d, effort)
        arithmetic += [{"kind": kind, "dtype": d, "G/s": rate / 1e9} for kind, rate in found.items()]
    note = "copy a <- s b, triad a <- b + s c, in place a <- s a; what is read only because it is written to is not counted"
    of_products = (("dtype", "precision", "{:9s}"), ("GFlop/s", "GFlop/s", "{:10.1f}"))
    return [Table("bandwidth: bytes read and written by a loop over arrays that take MB together", columns, rows, (note,)),
            Table(f"matrix products of {n} x {n}", of_products, multiply),
            Table(f"operations on arrays in the first-level cache; gather: from random places of {places} entries",
                  (("kind", "kind", "{:9s}"), ("dtype", "precision", "{:9s}"), ("G/s", "G/s", "{:8.2f}")), arithmetic)]
