"""Coefficients: series read at edges and midpoints, functions with leaves, parameter classes as pytrees, jumps, steadiness."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxbelt as jb
from jaxbelt.coefficients import Series, Time, evaluate, float_leaves, function, is_constant, is_steady, jumps, parameters, static

pytestmark = pytest.mark.plain


def test_step_series():
    s = Series([0.0, 10.0, 20.0], [1.0, 2.0, 3.0])
    assert [float(s(t)) for t in (-5.0, 0.0, 9.99, 10.0, 19.0, 20.0, 1e9)] == [1, 1, 1, 2, 2, 3, 3]


def test_step_series_on_an_edge_belongs_to_the_interval():
    """The end of an interval is read with that interval's value: mid decides, not the moment."""
    s = Series([0.0, 10.0], [1.0, 2.0])
    assert float(s(Time(0.0, 10.0, 5.0))) == 1.0
    assert float(s(Time(10.0, 0.0, 15.0))) == 2.0
    assert float(s(Time(0.0, 4.0, 5.0).plus(6.0))) == 1.0
    # a time whose start has rounded down past the edge
    assert float(s(Time(np.nextafter(10.0, 0.0), 0.0, 15.0))) == 2.0


def test_linear_series():
    s = Series([0.0, 10.0, 20.0], [[1.0, 0.0], [3.0, 5.0], [2.0, 5.0]], "linear")
    np.testing.assert_allclose([s(t) for t in (-1.0, 0.0, 2.5, 10.0, 15.0, 20.0, 30.0)],
                               [[1, 0], [1, 0], [1.5, 1.25], [3, 5], [2.5, 5], [2, 5], [2, 5]])
    np.testing.assert_allclose(s(Time(0.0, 2.5, 5.0)), [1.5, 1.25])
    assert float(jax.grad(lambda v: Series([0.0, 10.0], v, "linear")(2.5))(jnp.array([1.0, 3.0]))[0]) == 0.75


def test_one_time_is_a_constant():
    assert float(Series([3.0], [7.0], "linear")(100.0)) == 7.0
    assert is_constant(Series([3.0], [7.0]), 1.0, None)
    assert not is_constant(Series([3.0, 4.0], [7.0, 7.0]))


def test_series_is_a_pytree_with_static_times():
    s = Series([0, 10], [1, 2])
    leaves, tree = jax.tree.flatten(s)
    assert len(leaves) == 1 and leaves[0].dtype == np.float64
    assert jax.tree.unflatten(tree, [jnp.array([5.0, 6.0])]).t == (0.0, 10.0)
    assert jax.tree.structure(s) == jax.tree.structure(Series([0.0, 10.0], [9.0, 9.0]))
    assert jax.tree.structure(s) != jax.tree.structure(Series([0.0, 11.0], [1.0, 2.0]))
    batch = jax.tree.map(lambda v: jnp.ones((4, 2)), s)
    np.testing.assert_allclose(jax.vmap(lambda s: s(1.0))(batch), 1.0)


@pytest.mark.parametrize("args,message", [
    (([1.0, 0.0], [1.0, 2.0]), r"Series t: times must increase, but t\[1\] = 0 follows 1"),
    (([0.0, 0.0], [1.0, 2.0]), r"Series t: times must increase"),
    (([], []), r"Series t: needs a one-dimensional list of times, got shape \(0,\)"),
    (([[0.0]], [1.0]), r"Series t: needs a one-dimensional"),
    (([0.0, np.nan], [1.0, 2.0]), r"Series t: every time must be finite"),
    (([0.0, 1.0], [1.0]), r"Series values: needs 2 entries, one a time, got shape \(1,\)"),
    (([0.0, 1.0], 3.0), r"Series values: needs 2 entries.*shape \(\)"),
    (([0.0, 1.0], [1.0, 2.0], "cubic"), r"Series kind: 'cubic' is unknown; use 'step' or 'linear'"),
])
def test_bad_series(args, message):
    with pytest.raises(ValueError, match=message):
        Series(*args)


@pytest.mark.parametrize("args,message", [
    (((0.0, 1.0), [1.0, 2.0], "cubic"), r"Series kind: 'cubic' is unknown"),
    (((1.0, 0.0), [1.0, 2.0]), r"Series t: times must increase"),
    (((0.0, 1.0), [1.0]), r"Series values: needs 2 entries"),
])
def test_bad_series_given_as_a_tuple(args, message):
    with pytest.raises(ValueError, match=message):
        Series(*args)


def wave(t, x, amplitude, rate):
    return amplitude * jnp.cos(rate * t) * x


def test_function():
    f = function(wave, amplitude=2, rate=0.5, jumps=(4, 7.0))
    assert all(jnp.issubdtype(v.dtype, jnp.floating) for v in jax.tree.leaves(f))
    assert len(jax.tree.leaves(f)) == 2 and f.jumps == (4.0, 7.0)
    np.testing.assert_allclose(evaluate(f, Time(1.0, 1.0, 9.0), 3.0), 6.0 * np.cos(1.0))
    np.testing.assert_allclose(evaluate(f, 2.0, np.ones(3)), 2.0 * np.cos(1.0) * np.ones(3))
    g = jax.grad(lambda f: evaluate(f, 2.0, 3.0))(f)
    assert float(g.arrays["amplitude"]) == pytest.approx(3 * np.cos(1.0))
    assert jax.tree.structure(function(wave, amplitude=1.0, rate=2.0)) == jax.tree.structure(function(wave, amplitude=3, rate=4))
    with pytest.raises(TypeError, match="function: the first argument must be callable, got int"):
        function(3)


def test_evaluate():
    assert evaluate(None, 0.0) is None
    assert float(evaluate(3, 0.0)) == 3.0
    np.testing.assert_array_equal(evaluate(np.arange(3.0), 0.0, 1.0), np.arange(3.0))
    assert float(evaluate(lambda t, x: t.value * x, Time.at(2.0), 5.0)) == 10.0


def test_steadiness_and_jumps():
    step, linear = Series([0.0, 5.0], [1.0, 2.0]), Series([1.0, 5.0, 6.0], [1.0, 2.0, 3.0], "linear")
    assert is_steady(step, 3.0, None, np.ones(3)) and not is_steady(linear) and not is_steady({"a": [step, linear]})
    assert not is_steady(function(wave, amplitude=1.0, rate=1.0))
    assert is_steady(function(wave, steady=True, amplitude=1.0, rate=1.0))
    # a driver inside a function's arrays counts
    inner = function(wave, steady=True, amplitude=linear, rate=1.0)
    assert not is_steady(inner)
    assert jumps(inner) == (1.0, 5.0, 6.0)
    assert jumps(step, [linear, function(wave, jumps=(2.0, 5.0), amplitude=1.0, rate=1.0)]) == (0.0, 1.0, 2.0, 5.0, 6.0)
    assert jumps(Series([3.0], [1.0]), 4.0, None) == ()


@parameters
class Physics:
    strength: Any = 1
    table: Any = None
    driver: Any = None
    kind: str = static("a")


@parameters
class Outer:
    inner: Any = None
    factor: Any = 2


def test_parameters_turn_integers_into_floats():
    p = Physics(strength=3, table=[1, 2, 3])
    assert isinstance(p.strength, float) and p.table.dtype == np.float64
    assert isinstance(Physics(strength=np.int64(3)).strength, float)
    assert Outer().factor == 2.0 and isinstance(Outer().factor, float)
    assert isinstance(p.replace(strength=4).strength, float) and p.replace(kind="b").kind == "b"
    with pytest.raises(TypeError):
        Physics(3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        p.strength = 4.0


def test_parameters_are_pytrees():
    p = Outer(inner=Physics(strength=2.0, table=jnp.arange(3.0), driver=Series([0.0, 1.0], [1.0, 2.0]), kind="b"))
    leaves, tree = jax.tree.flatten(p)
    assert len(leaves) == 4
    back = jax.tree.unflatten(tree, leaves)
    assert back.inner.kind == "b" and back.inner.strength == 2.0
    names = [jax.tree_util.keystr(k) for k, _ in jax.tree_util.tree_flatten_with_path(p)[0]]
    assert names == [".inner.strength", ".inner.table", ".inner.driver.values", ".factor"]
    g = jax.grad(lambda p: p.factor * jnp.sum(p.inner.table) * p.inner.strength)(float_leaves(p))
    assert float(g.factor) == 6.0 and float(g.inner.strength) == 6.0
    assert jax.tree.structure(Physics(kind="a")) != jax.tree.structure(Physics(kind="b"))


def test_in_axes_integers_stay_integers():
    """`vmap(in_axes=...)` builds the class with None and integers: they are not values."""
    p = Physics(strength=jnp.arange(3.0), table=jnp.ones(2))
    axes = jax.tree.map(lambda _: None, p).replace  # a tree of None can be built
    assert axes is not None
    leaves, tree = jax.tree.flatten(p)
    spec = jax.tree.unflatten(tree, [0, None])
    assert spec.strength == 0 and isinstance(spec.strength, int) and spec.table is None
    out = jax.vmap(lambda p: p.strength * jnp.sum(p.table), in_axes=(spec,))(p)
    np.testing.assert_allclose(out, 2 * np.arange(3.0))


def test_float_leaves():
    tree = float_leaves({"a": 3, "b": np.arange(2), "c": jnp.ones(2, jnp.float32), "d": None})
    assert jnp.issubdtype(tree["a"].dtype, jnp.floating) and jnp.issubdtype(tree["b"].dtype, jnp.floating)
    assert tree["c"].dtype == jnp.float32 and tree["d"] is None


def test_public_names():
    assert jb.Series is Series and jb.function is function and jb.parameters is parameters
