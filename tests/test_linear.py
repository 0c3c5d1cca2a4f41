"""Line solves: against dense algebra, entry by entry at any stiffness; backends, adjoints, batches, shared factors."""

import dataclasses
from fractions import Fraction
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import plain_jit

from jaxbelt import linear


def random_line(rng, n, lines=(), cyclic=False, decades=2.0, closed=True, loss=False):
    def positive(*shape):
        return 10.0 ** rng.uniform(-decades / 2, decades / 2, shape)

    volume, up, down = 0.5 + rng.uniform(size=(n, *lines)), positive(n + 1, *lines), positive(n + 1, *lines)
    if cyclic:
        up[-1], down[-1] = up[0], down[0]
    elif closed:
        up[0] = down[0] = up[-1] = down[-1] = 0.0
    return linear.Line(*(jnp.asarray(a) for a in (volume, up, down)),
                       jnp.asarray(positive(n, *lines)) if loss else None, cyclic=cyclic)


def dense(line, c):
    """V + c A of one line."""
    n = line.volume.shape[0]
    volume, up, down = (np.asarray(a) for a in (line.volume, line.up, line.down))
    a = np.diag(up[1:] + down[:-1])
    for i in range(n - 1):
        a[i + 1, i] -= up[i + 1]
        a[i, i + 1] -= down[i + 1]
    if line.cyclic:
        a[0, n - 1] -= up[0]
        a[n - 1, 0] -= down[0]
    if line.loss is not None:
        a += np.diag(volume * np.asarray(line.loss))
    return np.diag(volume) + c * a


def inverse(line, c, backend="sweep"):
    """x for V b = unit vectors, as columns."""
    n = line.volume.shape[0]
    one = jax.tree.map(lambda a: a[:, None], line)
    return np.asarray(_solve(one, c, backend, jnp.eye(n) / line.volume[:, None]))


@partial(jax.jit, static_argnums=2)
def _solve(line, c, backend, b):
    return linear.solve(linear.factor(line, c, backend), b)


@pytest.mark.parametrize("cyclic", [False, True], ids=["open", "cyclic"])
@pytest.mark.parametrize("n", [3, 17])
def test_against_dense(n, cyclic):
    rng = np.random.default_rng(n)
    for closed, loss in ((True, False), (False, True)):
        line = random_line(rng, n, cyclic=cyclic, closed=closed, loss=loss)
        b = rng.normal(size=n)
        x = _solve(line, 0.7, "sweep", jnp.asarray(b))
        np.testing.assert_allclose(x, np.linalg.solve(dense(line, 0.7), np.asarray(line.volume) * b), rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(b, x + 0.7 * linear.apply(line, x), rtol=1e-11, atol=1e-12)


def test_two_cells_on_a_ring_are_refused_or_right():
    line = random_line(np.random.default_rng(0), 2, cyclic=True)
    x = linear.solve(linear.factor(line, 0.7), jnp.asarray([1.0, 2.0]))
    np.testing.assert_allclose(x, np.linalg.solve(dense(line, 0.7), np.asarray(line.volume) * [1.0, 2.0]), rtol=1e-12)


def exact_inverse(line, c):
    """Inverse of V + c A in rational arithmetic."""
    n = line.volume.shape[0]
    volume, up, down = ([Fraction(float(v)) for v in np.asarray(a)] for a in (line.volume, line.up, line.down))
    c = Fraction(c)
    rows = [[Fraction(int(i == j)) * (volume[i] + c * (up[i + 1] + down[i])) for j in range(n)] for i in range(n)]
    for i in range(n - 1):
        rows[i + 1][i] -= c * up[i + 1]
        rows[i][i + 1] -= c * down[i + 1]
    if line.cyclic:
        rows[0][n - 1] -= c * up[0]
        rows[n - 1][0] -= c * down[0]
    rows = [row + [Fraction(int(i == j)) for j in range(n)] for i, row in enumerate(rows)]
    for k in range(n):
        rows[k] = [v / rows[k][k] for v in rows[k]]
        for i in range(n):
            if i != k and rows[i][k] != 0:
                rows[i] = [v - rows[i][k] * w for v, w in zip(rows[i], rows[k])]
    return np.array([[float(v) for v in row[n:]] for row in rows])


@pytest.mark.parametrize("backend", ["sweep", "dense"])
@pytest.mark.parametrize("cyclic", [False, True], ids=["open", "cyclic"])
def test_every_entry_is_accurate_at_any_stiffness(cyclic, backend):
    """c A/V from 1e-6 to 1e12 in one line: entries to 1e-14 each (rational arithmetic), content to 1e-14, none below zero."""
    rng = np.random.default_rng(5)
    worst = content = 0.0
    for decades, c in ((2.0, 1.0), (6.0, 1e9), (18.0, 1e3)):
        line = random_line(rng, 12, cyclic=cyclic, decades=decades)
        x = inverse(line, c, backend)
        true = exact_inverse(line, c)
        assert np.all(x >= 0)
        worst = max(worst, np.max(np.abs(x / true - 1)))
        content = max(content, np.max(np.abs(np.asarray(line.volume) @ x - 1)))
    print(f"entries {worst:.1e}, content {content:.1e}")
    assert worst <= 1e-14
    assert content <= 1e-14


@pytest.mark.parametrize("cyclic", [False, True], ids=["open", "cyclic"])
def test_long_stiff_lines_keep_content_and_sign(cyclic):
    """200 cells, c A/V up to 1e12: deltas stay non-negative, their content is kept to round-off."""
    rng = np.random.default_rng(6)
    for _ in range(5):
        line = random_line(rng, 200, cyclic=cyclic, decades=24.0)
        x = inverse(line, 1.0)
        assert np.all(x >= 0)
        content = np.asarray(line.volume) @ x
        print(f"content {np.max(np.abs(content - 1)):.1e}")
        # 400 roundings in a row
        assert np.max(np.abs(content - 1)) <= 1e-13


@pytest.mark.parametrize("cyclic", [pytest.param(False, marks=pytest.mark.slow), True], ids=["open", "cyclic"])
def test_dense_backend_is_the_sweep(cyclic):
    rng = np.random.default_rng(7)
    line = random_line(rng, 20, (4,), cyclic=cyclic, decades=6.0, loss=True, closed=False)
    b = jnp.asarray(rng.uniform(size=(20, 4)))
    a, d = (_solve(line, 2.0, backend, b) for backend in ("sweep", "dense"))
    np.testing.assert_allclose(a, d, rtol=1e-13)
    # the pull-back goes through another solve
    one, other = (jax.grad(lambda b, k=backend: jnp.sum(_solve(line, 2.0, k, b) ** 2))(b)
                  for backend in ("sweep", "dense"))
    np.testing.assert_allclose(one, other, rtol=1e-12)


@pytest.mark.parametrize("cyclic", [False, True], ids=["open", "cyclic"])
def test_adjoint(cyclic):
    """Reverse == forward == the transposed dense system, for the right side, the rates, the volume and c."""
    rng = np.random.default_rng(8)
    line = random_line(rng, 9, cyclic=cyclic, loss=True, closed=False)
    b, w = jnp.asarray(rng.normal(size=9)), jnp.asarray(rng.normal(size=9))

    @jax.jit
    def value(line, c, b):
        return jnp.vdot(w, linear.solve(linear.factor(line, c, "sweep"), b))

    grads = jax.grad(value, argnums=(0, 1, 2))(line, 0.3, b)
    # x = M^-1 V b: the pull-back of b is V M^-T w
    v = np.asarray(line.volume)
    np.testing.assert_allclose(grads[2], v * np.linalg.solve(dense(line, 0.3).T, np.asarray(w)), rtol=1e-11)
    for _ in range(3):
        step = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=np.shape(x))) * x, (line, 0.3, b))
        if cyclic:
            # faces 0 and n of a ring are one
            ends = {k: getattr(step[0], k).at[-1].set(getattr(step[0], k)[0]) for k in ("up", "down")}
            step = (dataclasses.replace(step[0], **ends), *step[1:])
        forward = jax.jvp(value, (line, 0.3, b), step)[1]
        reverse = sum(jnp.vdot(g, s) for g, s in zip(jax.tree.leaves(grads), jax.tree.leaves(step)))
        plus, minus = (value(*jax.tree.map(lambda x, s, k=k: x + k * s, (line, 0.3, b), step)) for k in (1e-5, -1e-5))
        scale = sum(abs(float(jnp.vdot(g, s))) for g, s in zip(jax.tree.leaves(grads), jax.tree.leaves(step)))
        assert abs(forward - reverse) <= 1e-12 * scale
        assert abs(forward - (plus - minus) / 2e-5) <= 1e-8 * scale


@pytest.mark.parametrize("cyclic", [pytest.param(False, marks=pytest.mark.slow), True], ids=["open", "cyclic"])
def test_batches(cyclic):
    """vmap over the right side, over the rates, over both, equals one at a time; so do two vmaps."""
    rng = np.random.default_rng(9)
    line = random_line(rng, 8, (5,), cyclic=cyclic, loss=True)
    lines = jax.tree.map(lambda x: jnp.stack([x * (1 + 0.3 * k) for k in range(3)]), line)
    b = jnp.asarray(rng.uniform(size=(3, 8, 5)))

    @jax.jit
    def solve(line, b):
        return linear.solve(linear.factor(line, 0.9, "sweep"), b)

    each = [jax.tree.map(lambda x, k=k: x[k], lines) for k in range(3)]
    np.testing.assert_allclose(jax.jit(jax.vmap(solve, (0, 0)))(lines, b), [solve(x, y) for x, y in zip(each, b)], rtol=1e-14)
    np.testing.assert_allclose(jax.vmap(solve, (None, 0))(line, b), [solve(line, y) for y in b], rtol=1e-14)
    np.testing.assert_allclose(jax.vmap(solve, (0, None))(lines, b[0]), [solve(x, b[0]) for x in each], rtol=1e-14)
    twice = jax.vmap(jax.vmap(solve, (None, 0)), (0, None))(lines, b)
    np.testing.assert_allclose(twice, [[solve(x, y) for y in b] for x in each], rtol=1e-14)
    grad = jax.grad(lambda line, b: jnp.sum(solve(line, b) ** 2))
    pulled, one = jax.jit(jax.vmap(grad))(lines, b), jax.jit(grad)(each[1], b[1])
    np.testing.assert_allclose(pulled.up[1], one.up, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("backend", ["sweep", "dense"])
@pytest.mark.parametrize("cyclic", [False, True], ids=["open", "cyclic"])
def test_factors_shared_by_lines(cyclic, backend):
    """Rates of length 1 along the other axes serve all lines, also where only one of two axes is shared."""
    rng = np.random.default_rng(10)
    line = random_line(rng, 7, (1, 3), cyclic=cyclic)
    b = jnp.asarray(rng.uniform(size=(7, 4, 3)))
    factors = linear.factor(line, 1.1, backend)
    assert factors.scale.shape == (7, 1, 3)
    full = jax.tree.map(lambda x: jnp.broadcast_to(x, (x.shape[0], 4, 3)), line)
    np.testing.assert_allclose(linear.solve(factors, b), _solve(full, 1.1, backend, b), rtol=1e-14)
    one = jax.tree.map(lambda x: x[:, :, :1], line)
    np.testing.assert_allclose(_solve(one, 1.1, backend, b)[:, 2, 1],
                               np.linalg.solve(dense(jax.tree.map(lambda x: x[:, 0, 0], line), 1.1),
                                               np.asarray(line.volume[:, 0, 0] * b[:, 2, 1])), rtol=1e-11)


@pytest.mark.plain
@pytest.mark.parametrize("cyclic, backend", [(False, "sweep"), (True, "dense")])
def test_gradients_line_by_line_are_the_same(cyclic, backend):
    """Rates shared by lines: derivatives taken with an entry a line, of which a name is kept, against those of the rates."""
    rng = np.random.default_rng(5)
    rates, b, c = random_line(rng, 9, (1,), cyclic, closed=False, loss=True), jnp.asarray(rng.normal(size=(9, 4))), 0.3
    # on a cyclic line the first face and the last are one
    ends = [jnp.asarray([1.0, 2.0, *rng.normal(size=7), 1.0][: 10])[:, None] for _ in range(2)]
    change = (linear.Line(jnp.zeros((9, 1)), *ends, jnp.ones((9, 1)), cyclic=cyclic), 0.7, jnp.asarray(rng.normal(size=(9, 4))))

    def out(lines, name, rates, c, b):
        return jnp.sum(jnp.sin(linear.solve(linear.factor(rates, c, backend, lines), b, name)))

    @plain_jit
    def derivatives(rates, c, b):
        results = []
        for f in (partial(out, None, None), partial(out, (4,), "kept")):
            gradient = jax.grad(f, (0, 1, 2))
            results.append((jax.jvp(f, (rates, c, b), change)[1], *jax.jvp(gradient, (rates, c, b), change)))
        return results

    (plain, *_, second), (along, gradient, spread) = derivatives(rates, c, b)
    np.testing.assert_allclose(along, plain, rtol=1e-12)
    back = sum(jnp.vdot(g, d) for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(change)))
    np.testing.assert_allclose(back, along, rtol=1e-11)
    np.testing.assert_allclose(spread[2], second[2], rtol=1e-10, atol=1e-12)
