"""The kernel of the line solves: two sweeps to round-off, its adjoint, batches; it lowers for CUDA in both precisions."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbelt import linear, linear_pallas
from jaxbelt.coefficients import Time
from jaxbelt.flows import LineDiffusion
from jaxbelt.grid import Axis, Grid

pytestmark = pytest.mark.plain


def random_line(rng, n, lines=(), cyclic=False, decades=4.0):
    def positive(*shape):
        return 10.0 ** rng.uniform(-decades / 2, decades / 2, shape)

    volume, up, down = 0.5 + rng.uniform(size=(n, *lines)), positive(n + 1, *lines), positive(n + 1, *lines)
    if cyclic:
        up[-1], down[-1] = up[0], down[0]
    return linear.Line(*(jnp.asarray(a) for a in (volume, up, down, positive(n, *lines))), cyclic=cyclic)


def solved(backend, line, b):
    return linear.solve(linear.factor(line, 0.7, backend), b)


def by_hand(forward, forward_last, scale, back, back_last, b):
    """The two sweeps in NumPy."""
    n, z, x = b.shape[0], np.array(b), np.zeros_like(b)
    inner = n if forward_last is None else n - 1
    for i in range(1, inner):
        z[i] += forward[i] * z[i - 1]
    last = 0.0
    if forward_last is not None:
        z[-1] += sum(forward_last[i] * z[i] for i in range(inner))
        last = x[-1] = scale[-1] * z[-1]
    for i in reversed(range(inner)):
        x[i] = scale[i] * z[i] + (back[i] * x[i + 1] if i + 1 < inner else 0.0)
        x[i] += 0.0 if forward_last is None else back_last[i] * last
    return x


@pytest.mark.parametrize("ring", [False, True], ids=["open", "cyclic"])
def test_the_kernel_is_the_two_sweeps(ring):
    """Lines of their own, of which the last program has few; shared factors; factors shared along one of two axes; float32."""
    rng = np.random.default_rng(1)
    for lines, shape, dtype in (((7,), (7,), "float64"), ((1,), (3,), "float64"), ((1, 3), (2, 3), "float32")):
        factors = [rng.uniform(size=(5, *lines)).astype(dtype) if ring or i not in (1, 4) else None for i in range(5)]
        b = rng.uniform(size=(5, *shape)).astype(dtype)
        got = jax.jit(partial(linear_pallas.sweeps, block=4))(*factors, b)
        assert got.dtype == dtype and got.shape == b.shape and np.all(got >= 0)
        np.testing.assert_allclose(got, by_hand(*factors, b), rtol=1e-13 if dtype == "float64" else 1e-6)


def test_adjoint_and_batches():
    """Reverse and forward derivatives in rates and right side, also under vmap, are those of the sweep; so is the solution."""
    rng = np.random.default_rng(2)
    line, b = random_line(rng, 4, (3,), decades=2.0), jnp.asarray(rng.normal(size=(4, 3)))
    rights = jnp.stack([b, b**2])

    def everything(backend, line, rights):
        def value(line, b):
            return jnp.sum(jnp.sin(solved(backend, line, b)))

        return jax.vmap(jax.value_and_grad(value, (0, 1)), (None, 0))(line, rights), jax.jvp(value, (line, b), (line, b))

    want, got = (jax.jit(partial(everything, k))(line, rights) for k in ("sweep", "pallas"))
    for a, c in zip(jax.tree.leaves(want), jax.tree.leaves(got)):
        np.testing.assert_allclose(c, a, rtol=1e-12, atol=1e-13)


def test_a_flow_takes_it():
    """A step of `LineDiffusion` by the kernel: the same f, the same budget."""
    grid = Grid((Axis.cells("x", np.linspace(0.0, 1.0, 6)), Axis.cells("y", np.linspace(0.0, 1.0, 4))))
    up, f = jnp.linspace(1.0, 2.0, 6)[:, None], jnp.asarray(np.random.default_rng(3).uniform(size=grid.shape))

    def step(backend, f):
        flow = LineDiffusion(axis="x", up=up, upper=1.0, positive=False, backend=backend)
        return flow.advance(grid, flow.prepare(grid, 0.1), f, Time.at(0.0), 0.1)

    want, got = (jax.jit(partial(step, k))(f) for k in ("sweep", "pallas"))
    for a, c in zip(jax.tree.leaves(want), jax.tree.leaves(got)):
        np.testing.assert_allclose(c, a, rtol=1e-13, atol=1e-16)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_it_lowers_for_a_gpu_as_one_kernel(dtype):
    for ring in (False, True):
        factors = [jnp.ones((7, 1), dtype) if ring or i not in (1, 4) else None for i in range(5)]
        run = jax.jit(partial(linear_pallas.sweeps, *factors, interpret=False))
        text = run.trace(jnp.ones((7, 40), dtype)).lower(lowering_platforms=("cuda",)).as_text()
        assert text.count("custom_call @__gpu$xla.gpu.triton") == 1 and "while" not in text.split("custom_call")[0]


def test_wrong_names_are_refused():
    line = random_line(np.random.default_rng(4), 4)
    with pytest.raises(ValueError, match="'palas' is unknown; use 'auto', 'sweep', 'dense', 'pallas'"):
        linear.factor(line, 1.0, "palas")
    with pytest.raises(ValueError, match="power of two, got 12"):
        linear_pallas.sweeps(*(jnp.ones(4) if i not in (1, 4) else None for i in range(5)), jnp.ones(4), block=12)


def test_the_choice():
    """Loops on the CPU; elsewhere matrix products as long as lines are short and the inverses small; the kernel by name alone."""
    for n in (50, 200, 500):
        for lines in (1, 128, 2048, 16384):
            for shared in (True, False):
                assert linear.default_backend("cpu", n, lines, shared) == "sweep"
                large = not shared and 8 * n * n * lines > 2**30
                assert linear.default_backend("gpu", n, lines, shared) == ("sweep" if large else "dense")
    assert linear.default_backend("gpu", 1000) == "sweep"
