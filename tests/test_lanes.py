"""A vmap with the batch last gives what `jax.vmap` gives, through every kind of loop, branch and custom rule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxbelt as jb
from jaxbelt import drift_diffusion as dd
from jaxbelt import linear
from jaxbelt.flows.base import any_in_batch
from jaxbelt.lanes import lanes
from jaxbelt.solve import advance, plan


def scanned(w, v):
    """Carries of which one varies, one begins shared and varies later, and one never does; xs of both kinds."""
    def body(c, x):
        a, b, k = c
        y = jnp.sin(a) * w["m"] + x[0] * x[1][:, None]
        return (a + y.sum(0) * 1e-2, b + a.mean(), k + 1), (y, k)

    xs = (jnp.arange(3.0), jnp.broadcast_to(v["a"], (3, 4)))
    return lax.scan(body, (v["a"], jnp.zeros(()), 0), xs, reverse=True)


def looped(w, v):
    def body(c):
        i, x = c
        return i + 1, x * 1.5 + w["b"]

    own = lax.while_loop(lambda c: c[1].sum() < 40.0 + 10 * v["s"], body, (0, v["a"] ** 2))      # as long as a run itself needs
    rows = lax.fori_loop(0, 4, lambda i, x: x.at[i].add(i * v["s"]), v["a"])
    return lax.while_loop(lambda c: c[0] < 5, body, (0, v["a"])), own, rows


def branched(w, v):
    common = lax.cond(any_in_batch(v["a"] < -1.0), lambda x: (x * 2, w["b"]), lambda x: (-x, w["b"] + v["s"]), v["a"])
    return common, lax.cond(v["s"] > 0, jnp.sin, jnp.cos, v["a"]), lax.switch(2, [jnp.sin, jnp.cos, jnp.tan], v["a"])


@jax.custom_jvp
def cube(x):
    return x ** 3


cube.defjvp(lambda p, t: (cube(*p), 3 * p[0] ** 2 * t[0]))


def mixed(w, v):
    x = jax.checkpoint(lambda a: jnp.exp(a) @ w["m"])(v["a"])
    y = jnp.concatenate([cube(x)[1:3], w["b"][:1], v["s"][None]])
    z = jnp.pad(v["a"][::-1], (1, 2)).reshape(7, 1) @ jnp.ones((1, 2)) + jnp.where(v["s"] > 0, 1.0, w["b"][0])
    return y, z.T, jnp.sort(v["a"]), jnp.cumsum(v["a"]), jnp.clip(v["a"], 0.0, v["s"]), w["b"], jnp.argmin(v["a"]), v["a"][v["k"]]


def solved(w, v):
    up, down, loss = jnp.ones((5, 1)) * v["s"] ** 2, jnp.full((5, 2), 0.3), jnp.abs(v["s"]).reshape(1, 1)
    line = linear.Line(w["b"][:, None] + 1.0, up, down, loss)
    return linear.solve(linear.factor(line, 0.4), jnp.stack([v["a"], w["b"]], axis=1))


@pytest.mark.parametrize("fun", [scanned, looped, branched, mixed, solved])
def test_gives_what_vmap_gives(fun):
    random = np.random.default_rng(3)
    w = {"m": jnp.asarray(random.normal(size=(4, 4))), "b": jnp.asarray(random.uniform(size=4))}
    v = {"a": jnp.asarray(random.normal(size=(6, 4))), "s": jnp.asarray(random.normal(size=6)), "k": jnp.arange(6) % 4}
    out, ref = jax.jit(lanes(fun))(w, v), jax.jit(jax.vmap(fun, in_axes=(None, 0)))(w, v)
    assert jax.tree.structure(out) == jax.tree.structure(ref)
    for a, b in zip(jax.tree.leaves(out), jax.tree.leaves(ref)):
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-14, atol=1e-14)


def test_a_batch_is_compiled_without_transposed_states():
    """What `lanes` is for: no transpose of a whole state inside the loop over the steps of a batch of radial runs."""
    grid = dd.grid(L=(2.0, 7.0), cells=40)
    prm = dd.Parameters(dll=jb.radial_diffusion.BrautigamAlbert(kp=3.0), lifetime=4.0)
    problem, times = dd.problem(grid, prm, inner=0.0, outer=0.0), np.array([0.0, 86400.0])
    schedule = plan(problem, times, 3600.0)

    def run(shared, amplitude):
        mine = problem.replace(parameters=prm.replace(dll=prm.dll.replace(log_amplitude=amplitude)))
        return advance(mine, shared, schedule)[0]

    f0, amplitude = jnp.sin(jnp.linspace(0.1, 3.0, 40)), jnp.linspace(-1.0, 1.0, 24)
    texts = [jax.jit(f).lower(f0, amplitude).compile().as_text() for f in (lanes(run), jax.vmap(run, in_axes=(None, 0)))]
    loops = ["\n".join(line for line in text.splitlines() if "while/body" in line and "f64[24,40]" in line) for text in texts]
    assert "f64[24,40]" not in loops[0] and "f64[24,40]" in loops[1]
