"""Coefficients and drivers: what a parameter may be, and how it is read at a time.

A coefficient is a number, an array on the grid, a `Series` in time, a `jb.function`, or any callable pytree of
(t, *coordinates). Numbers and arrays are leaves that can be fitted or swept; times are static.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Time", "Series", "Function", "function", "evaluate", "parameters", "is_steady", "jumps", "float_leaves"]


def parameters(cls):
    """Class decorator: a frozen, keyword-only dataclass that is a pytree; integers given for leaves become floats.

    Fields declared with `static()` are structure (hashable, compared), all others are leaves or subtrees.
    """
    given = cls.__dict__.get("__post_init__")

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if not field.metadata.get("static"):
                value = getattr(self, field.name)
                if isinstance(value, (int, np.integer, tuple, list)) and not isinstance(value, bool):
                    object.__setattr__(self, field.name, _as_float(value))
        if given is not None:
            given(self)

    cls.__post_init__ = __post_init__
    cls.replace = lambda self, **changes: dataclasses.replace(self, **changes)
    cls = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
    data = tuple(f.name for f in dataclasses.fields(cls) if not f.metadata.get("static"))
    meta = tuple(f.name for f in dataclasses.fields(cls) if f.metadata.get("static"))

    def flatten(self):
        keyed = [(jax.tree_util.GetAttrKey(name), getattr(self, name)) for name in data]
        return keyed, tuple(getattr(self, name) for name in meta)

    def unflatten(aux, children):
        # JAX rebuilds with tracers, None and in_axes integers: no constructor, no coercion on that path
        self = object.__new__(cls)
        for name, value in zip((*data, *meta), (*children, *aux)):
            object.__setattr__(self, name, value)
        return self

    jax.tree_util.register_pytree_with_keys(cls, flatten, unflatten)
    return cls


def static(default=dataclasses.MISSING, **kw):
    """A field of a `parameters` class that is structure, not a value: hashable, never differentiated or swept."""
    return dataclasses.field(default=default, metadata={"static": True}, **kw)


def _as_float(value):
    if isinstance(value, (tuple, list)):
        if value and all(isinstance(v, (int, float, np.number)) for v in value):
            return np.asarray(value, dtype=np.float64)
        return value
    return float(value)


def float_leaves(tree):
    """Numbers and integer arrays among the leaves become float arrays (an integer leaf would break `grad`), plain Python
    functions become `function`s of time (a function is no JAX type).
    """
    def leaf(x):
        if callable(x):
            return function(x)
        if isinstance(x, (bool, int, float, np.ndarray, np.number, jax.Array)):
            x = jnp.asarray(x)
            return x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(jnp.result_type(float))
        return x
    return jax.tree.map(leaf, tree)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Time:
    """A moment inside an interval: `start + offset` seconds after the epoch; `mid` is the interval's midpoint.

    Step drivers are read at `mid`, so a moment on an edge belongs to the interval that is being advanced. center and edge:
    offsets of the middle of the current step, and of its end on the side of the half step being taken (the middle again for
    a whole step): where the other flows of a splitting stand meanwhile. A plain number is accepted wherever a Time is.
    """

    start: Any
    offset: Any
    mid: Any
    center: Any = None
    edge: Any = None

    @property
    def value(self):
        return self.start + self.offset

    def plus(self, seconds) -> Time:
        return dataclasses.replace(self, offset=self.offset + seconds)

    @staticmethod
    def at(t) -> Time:
        """The moment t (a number, or a Time, which is returned as it is)."""
        return t if isinstance(t, Time) else Time(t, 0.0, t)


@dataclasses.dataclass(frozen=True, init=False)
class Series:
    """A driver given at times: `jb.Series(t, values, kind="step" | "linear")`.

    t: seconds after the problem's epoch, increasing; static. values: leaves, shape (len(t), ...).
    "step": value k holds from t[k] to t[k+1] (the last one for ever, the first one also before t[0]);
    "linear": interpolated, constant beyond the ends.
    """

    t: tuple[float, ...]
    values: Any
    kind: str = "step"

    def __init__(self, t, values, kind="step"):
        times = np.asarray(t, dtype=np.float64)
        if times.ndim != 1 or times.size == 0:
            raise ValueError(f"Series t: needs a one-dimensional list of times, got shape {times.shape}")
        if not np.all(np.isfinite(times)):
            raise ValueError("Series t: every time must be finite")
        if np.any(np.diff(times) <= 0):
            i = int(np.argmax(np.diff(times) <= 0))
            raise ValueError(f"Series t: times must increase, but t[{i + 1}] = {times[i + 1]:g} follows {times[i]:g}")
        if kind not in ("step", "linear"):
            raise ValueError(f"Series kind: {kind!r} is unknown; use 'step' or 'linear'")
        missing = np.isnan(np.asarray(values, dtype=np.float64)) if isinstance(values, (list, tuple, np.ndarray)) else np.zeros(1)
        if np.any(missing):
            k = min(int(np.argwhere(missing)[0][0]), times.size - 1)
            raise ValueError(f"Series values: missing (NaN) at t = {times[k]:g}; fill it or leave it out")
        if np.shape(values)[:1] != times.shape:
            raise ValueError(f"Series values: needs {times.size} entries, one a time, got shape {np.shape(values)}")
        self._set(tuple(times.tolist()), values if isinstance(values, jax.Array) else np.asarray(values, dtype=np.float64), kind)

    def _set(self, t, values, kind):
        for name, value in (("t", t), ("values", values), ("kind", kind)):
            object.__setattr__(self, name, value)
        return self

    def __call__(self, t, *coordinates):
        t = Time.at(t)
        values = jnp.asarray(self.values)
        times = jnp.asarray(np.asarray(self.t))
        if len(self.t) == 1:
            return values[0]
        if self.kind == "step":
            i = jnp.clip(jnp.searchsorted(times, t.mid, side="right") - 1, 0, len(self.t) - 1)
            return values[i]
        i = jnp.clip(jnp.searchsorted(times, t.value, side="right") - 1, 0, len(self.t) - 2)
        w = jnp.clip((t.value - times[i]) / (times[i + 1] - times[i]), 0.0, 1.0)
        return values[i] * (1.0 - w) + values[i + 1] * w


# rebuilt without the checks: JAX does so with tracers, None and in_axes integers for values
jax.tree_util.register_pytree_with_keys(
    Series, lambda s: (((jax.tree_util.GetAttrKey("values"), s.values),), (s.t, s.kind)),
    lambda aux, children: object.__new__(Series)._set(aux[0], children[0], aux[1]))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Function:
    """A Python function as a coefficient; see `function`."""

    fn: Callable = dataclasses.field(metadata={"static": True})
    arrays: dict
    steady: bool = dataclasses.field(default=False, metadata={"static": True})
    jumps: tuple[float, ...] = dataclasses.field(default=(), metadata={"static": True})

    def __call__(self, t, *coordinates):
        return self.fn(Time.at(t).value, *coordinates, **self.arrays)


def function(fn: Callable, *, steady: bool = False, jumps=(), **arrays) -> Function:
    """A Python function as a coefficient: `fn(t, *coordinates, **arrays)`, t in seconds.

    fn is structure (give the same object again and nothing is compiled anew), `arrays` are leaves that can be fitted.
    steady=True: fn does not depend on t, so its operators are factored once an interval.
    jumps: times at which fn is discontinuous; no step is taken across one.
    """
    if not callable(fn):
        raise TypeError(f"function: the first argument must be callable, got {type(fn).__name__}")
    return Function(fn, float_leaves(arrays), bool(steady), tuple(float(j) for j in jumps))


def evaluate(coefficient, t, *coordinates):
    """The coefficient at a moment: numbers and arrays as they are, callables at (t, *coordinates)."""
    if coefficient is None:
        return None
    if callable(coefficient):
        return jnp.asarray(coefficient(t, *coordinates))
    return jnp.asarray(coefficient)


def drivers(tree):
    """Every `Series` and `Function` in a tree, those inside a Function's arrays too."""
    nodes, _ = jax.tree_util.tree_flatten(tree, is_leaf=lambda x: isinstance(x, (Series, Function)))
    out = []
    for node in nodes:
        if isinstance(node, (Series, Function)):
            out.append(node)
            if isinstance(node, Function):
                out.extend(drivers(node.arrays))
    return out


def is_steady(*trees) -> bool:
    """True if nothing in the trees changes inside an interval: no linear series of two or more times, no unsteady function."""
    return all(d.steady if isinstance(d, Function) else (d.kind == "step" or len(d.t) == 1) for d in drivers(trees))


def is_constant(*trees) -> bool:
    """True if nothing in the trees depends on time at all."""
    return all(d.steady and not d.jumps if isinstance(d, Function) else len(d.t) == 1 for d in drivers(trees))


def jumps(*trees) -> tuple[float, ...]:
    """The times at which something in the trees jumps or has a kink: no step is taken across them."""
    times = set()
    for d in drivers(trees):
        times.update(d.jumps if isinstance(d, Function) else (d.t if len(d.t) > 1 else ()))
    return tuple(sorted(times))
