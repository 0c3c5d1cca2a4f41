"""One set of tests for every flow, on grids of one to four axes: budget, positivity, constants, transforms, gradients."""

import dataclasses
import os
import subprocess
import sys
import zlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import plain_jit
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxbelt.coefficients import Series, Time
from jaxbelt.flows import Advection, LineDiffusion, Mixing, MixingSeries, Reaction, Rotation, Sheared, Transport
from jaxbelt.flows.tensor import TensorDiffusion
from jaxbelt.flows.transport import rate as courant_rate
from jaxbelt.flows.weights import fitted
from jaxbelt.grid import Axis, Grid

DT = 1.0
RUNS = 24                  # data sets of the positivity test; a multiple of the eight devices
RANDOM = 20


def stretched(name, n, lo, hi):
    """Cells of unequal width, with a Jacobian that is not one."""
    faces = lo + (hi - lo) * np.linspace(0, 1, n + 1) ** 1.3
    return Axis.cells(name, faces, measure=np.diff(faces**3) / 3)


X, X6 = stretched("x", 12, 1.0, 2.0), stretched("x", 6, 1.0, 2.0)
Y5 = stretched("y", 5, 0.5, 1.5)
PHI = Axis.cells("phi", np.linspace(0, 2 * np.pi, 17), periodic=True)
PHI9 = Axis.cells("phi", np.linspace(0, 2 * np.pi, 10), periodic=True)     # an odd number: no Nyquist mode
MU = Axis.nodes("mu", [1.0, 3.0], [0.4, 1.7])

GRIDS = {
    "x": Grid((X,)),
    "phi": Grid((PHI,)),
    "x phi": Grid((X, PHI)),
    "mu x phi": Grid((MU, X6, PHI9)),
    "phi mu x y": Grid((PHI9, MU, X6, Y5)),
}


def rates(rng, shape, decades):
    return 10.0 ** rng.uniform(-decades / 2, decades / 2, shape)


def faces(rng, grid, axis, decades):
    """Positive rates on the faces of an axis, zero on the walls, equal on the two ends of a ring."""
    k = grid.index(axis)
    shape = list(grid.shape)
    shape[k] += 1
    out = np.moveaxis(np.array(rates(rng, shape, decades)) * grid[axis].measure.mean(), k, 0)
    if grid[axis].periodic:
        out[-1] = out[0]
    else:
        out[0] = out[-1] = 0.0
    return jnp.asarray(np.moveaxis(out, 0, k))


def open_faces(rng, grid, axis, decades):
    k = grid.index(axis)
    shape = list(grid.shape)
    shape[k] += 1
    return rates(rng, shape, decades) * grid[axis].measure.mean()


def row(grid, axis):
    """Shape of an array that is constant along an axis."""
    return tuple(1 if i == grid.index(axis) else n for i, n in enumerate(grid.shape))


def rotation(grid, rng, decades, constant=False):
    shape = row(grid, "phi")
    sign = rng.choice([-1.0, 1.0], shape)
    return Rotation(axis="phi", rate=sign * rates(rng, shape, decades), diffusion=1e-2 * rates(rng, shape, decades))


def pure_rotation(grid, rng, decades, constant=False):
    return Rotation(axis="phi", rate=rates(rng, row(grid, "phi"), decades))


def line(grid, rng, decades, constant=False, method="tr-bdf2", axis="x"):
    return LineDiffusion(axis=axis, up=faces(rng, grid, axis, decades), method=method)


def fitted_line(grid, rng, decades, constant=False, method="tr-bdf2", axis="x"):
    g = faces(rng, grid, axis, decades)
    peclet = jnp.asarray(rng.uniform(-3, 3, g.shape)) * (0.0 if constant else 1.0)
    if grid[axis].periodic:
        k = grid.index(axis)
        peclet = jnp.moveaxis(peclet, k, 0)
        peclet = jnp.moveaxis(peclet.at[-1].set(peclet[0]), 0, k)
    up, down = fitted(g, peclet)
    return LineDiffusion(axis=axis, up=up, down=down, method=method)


def open_line(grid, rng, decades, constant=False, method="tr-bdf2"):
    loss = rates(rng, grid.shape, decades)
    source = loss if constant else rates(rng, grid.shape, decades)
    if constant:
        lower, upper = 1.0, 1.0
    else:
        lower, upper = rates(rng, row(grid, "x"), 1), Series([0.0, 1.0], rng.uniform(0, 2, 2), "linear")
        lower = jnp.squeeze(lower, grid.index("x"))
    return LineDiffusion(axis="x", up=open_faces(rng, grid, "x", decades), loss=loss, source=source, lower=lower,
                         upper=upper, method=method)


def sheared(grid, rng, decades, constant=False):
    shape = row(grid, "phi")
    up = faces(rng, grid, "x", decades)
    up = jax.lax.index_in_dim(up, 0, grid.index("phi"))                      # the line does not depend on phi
    return Sheared(line=LineDiffusion(axis="x", up=up), ring="phi", shift=jnp.asarray(rng.uniform(-2, 2, shape)))


def advection(grid, rng, decades, constant=False):
    shape = row(grid, "x")
    return Advection(axis="x", rate=rng.choice([-1.0, 1.0], shape) * rates(rng, shape, decades) * (0.0 if constant else 1.0))


def reaction(grid, rng, decades, constant=False):
    loss = rates(rng, grid.shape, decades)
    return Reaction(loss=loss, source=loss if constant else rates(rng, grid.shape, decades))


@partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["grid", "axis"])
@dataclasses.dataclass(frozen=True)
class Mean:
    """Average over an axis of a grid, the last one by default."""

    grid: Grid
    axis: int = -1

    def __call__(self, f):
        v, k = self.grid.volumes, self.axis
        return jnp.broadcast_to(jnp.sum(v * f, k, keepdims=True) / jnp.sum(v, k, keepdims=True), f.shape)


def mixing(grid, rng, decades, constant=False):
    return Mixing(project=Mean(grid), rate=rates(rng, row(grid, grid.names[-1]), decades))


def mixing_series(grid, rng, decades, constant=False):
    """Means along the last and along the first axis together; its terms are many where it is stiff, so it is not very."""
    few = rates(rng, (2,), min(decades, 1.0))
    return MixingSeries(projects=(Mean(grid), Mean(grid, 0)), rates=tuple(few), bound=200.0)


def _stream(grid, axes, rng, decades, closed):
    """Random stream function on corners, fast at some and slow at others; its fastest drift needs three substeps."""
    shape = [a.n if a.periodic else a.n + 1 for a in grid.axes]
    for k, a in enumerate(grid.axes):
        if a.name not in axes:
            shape[k] = a.n
    psi = jnp.asarray(rng.normal(size=shape)) * rates(rng, shape, decades)
    for name in axes if closed else ():
        if not grid[name].periodic:
            k = grid.index(name)
            psi = jnp.moveaxis(jnp.moveaxis(psi, k, 0).at[jnp.array([0, -1])].set(0.0), 0, k)
    return psi * 2.0 / (courant_rate(grid, psi, axes) * DT)


def transport(grid, rng, decades, constant=False, closed=False):
    axes = ("x", "y") if "y" in grid.names else ("x", "phi")
    psi = _stream(grid, axes, rng, decades, closed)
    value = 1.0 if constant else 0.7
    walls = tuple(None if closed or grid[a].periodic else value for a in axes)
    return Transport(axes=axes, stream=psi, lower=walls, upper=walls, substeps=3)


def tensor(grid, rng, decades, constant=False, walls=False):
    axes = ("x", "y") if "y" in grid.names else ("x", "phi")
    shape = row(grid, "phi") if walls and "y" in axes else grid.shape         # there the planes along phi share their factors
    w11, w22 = rates(rng, shape, decades), rates(rng, shape, decades)
    w12 = jnp.asarray(rng.uniform(-0.999, 0.999, shape)) * jnp.sqrt(w11 * w22)
    # the stencil is local only where neighbours agree about their offsets: nothing here asks for that
    extra = {}
    if walls:
        loss = rates(rng, shape, decades)
        extra = dict(loss=loss, source=loss if constant else rates(rng, grid.shape, decades), lower=1.0,
                     upper=1.0 if constant else Series([0.0, 1.0], rng.uniform(0, 2, 2), "linear"))
    v = grid.volumes / grid["mu"].measure.mean() if "mu" in grid.names else grid.volumes
    v = v[:1] if shape[0] == 1 else v
    return TensorDiffusion(axes=axes, w11=w11 * v, w12=w12 * v, w22=w22 * v, **extra)


# name: (maker, grids, content kept); the first grid is the one of the quick run, all others are in `-m slow`
FLOWS = {
    "rotation": (rotation, ("phi mu x y", "phi", "x phi", "mu x phi"), True),
    "pure rotation": (pure_rotation, ("x phi",), True),
    "line": (line, ("x", "x phi", "mu x phi", "phi mu x y"), True),
    "line, exponential": (partial(line, method="exponential"), ("mu x phi", "x", "x phi", "phi mu x y"), True),
    "cyclic line": (partial(line, axis="phi"), ("phi mu x y", "phi", "x phi", "mu x phi"), True),
    "cyclic line, exponential": (partial(line, axis="phi", method="exponential"), ("phi", "mu x phi"), True),
    "fitted line": (fitted_line, ("mu x phi", "x", "x phi", "phi mu x y"), True),
    "fitted line, exponential": (partial(fitted_line, method="exponential"), ("x", "mu x phi"), True),
    "fitted cyclic line": (partial(fitted_line, axis="phi"), ("phi", "x phi"), True),
    "walls, loss, source": (open_line, ("x phi", "x", "mu x phi", "phi mu x y"), False),
    "walls, loss, source, exponential": (partial(open_line, method="exponential"), ("x", "mu x phi"), False),
    "sheared": (sheared, ("mu x phi", "x phi", "phi mu x y"), True),
    "advection": (advection, ("x phi", "x", "mu x phi", "phi mu x y"), False),
    "reaction": (reaction, ("x", "phi", "x phi", "mu x phi", "phi mu x y"), False),
    "mixing": (mixing, ("phi mu x y", "x", "phi", "x phi", "mu x phi"), True),
    "mixing series": (mixing_series, ("mu x phi", "x phi"), True),
    "transport": (transport, ("x phi", "mu x phi", "phi mu x y"), False),
    "closed transport": (partial(transport, closed=True), ("phi mu x y", "x phi"), True),
    "tensor": (tensor, ("x phi", "mu x phi", "phi mu x y"), True),
    "tensor, walls, loss, source": (partial(tensor, walls=True), ("phi mu x y", "x phi"), False),
}


def cases(quick=1, leave=()):
    """Every flow on every grid; the first `quick` grids of each flow in the quick run, except those of `leave`."""
    out = []
    for flow, (_, grids, _) in FLOWS.items():
        for k, grid in enumerate(grids):
            marks = () if k < quick and flow not in leave else pytest.mark.slow
            out.append(pytest.param(flow, grid, marks=marks, id=f"{flow} on {grid}".replace(" ", "-")))
    return pytest.mark.parametrize("name,grid_name", out)


def made(name, grid_name, decades, seed=0, **kw):
    rng = np.random.default_rng([zlib.crc32(f"{name} on {grid_name}".encode()), seed])
    grid = GRIDS[grid_name]
    return grid, FLOWS[name][0](grid, rng, decades, **kw), rng


def step(grid, flow, f):
    return flow.advance(grid, flow.prepare(grid, DT), f, Time.at(0.0), DT)


# one function for all: a compilation serves every test that gives it the same shapes
one = jax.jit(step, static_argnums=0)
many = jax.jit(jax.vmap(step, in_axes=(None, 0, 0)), static_argnums=0)


def nonnegative_data(grid, rng, runs=RUNS):
    """A delta, a step, random spikes over vacuum, random numbers of many magnitudes."""
    out = [np.zeros(grid.shape) for _ in range(runs)]
    out[0].reshape(-1)[out[0].size // 2] = 1.0
    out[1].reshape(-1)[out[1].size // 3:] = 1.0
    for k in range(2, 2 + RANDOM):
        f = rng.uniform(size=grid.shape)
        out[k] = np.where(rng.uniform(size=grid.shape) < 0.4, 0.0, f) if k % 2 else f ** rng.integers(1, 40)
    out[-2].reshape(-1)[0] = 1.0
    out[-1].reshape(-1)[-1] = 1.0
    return jnp.asarray(np.stack(out))


def stacked(name, grid_name, decades, runs=RUNS):
    flows = [made(name, grid_name, decades, seed)[1] for seed in range(runs)]
    return jax.tree.map(lambda *x: np.stack([np.asarray(y, dtype=float) for y in x]), *flows)


def smooth(grid):
    f = np.full(grid.shape, 2.0)
    for a in grid.axes:
        x = np.arange(a.n) / a.n
        f = f + 0.3 * grid.along(a.name, np.cos(2 * np.pi * x + 0.3) if a.periodic else np.cos(np.pi * (x + 0.5 / a.n)))
    return jnp.asarray(f)


@cases(leave=("cyclic line, exponential", "fitted line, exponential", "tensor, walls, loss, source"))
def test_positive_and_conservative(name, grid_name):
    """From 24 non-negative states, each with its own rates over six decades: nothing below zero after the first step and
    the fifth, and the content changes by what the budget says."""
    grid, _, rng = made(name, grid_name, 6)
    flows, f = stacked(name, grid_name, 6), nonnegative_data(grid, rng)
    for _ in range(5):
        new, budget = many(grid, flows, f)
        fault = budget.pop("fault", 0)
        assert not np.any(fault)
        assert bool(jnp.all(jnp.isfinite(new)))
        assert float(jnp.min(new)) >= 0.0
        change = grid.content(new) - grid.content(f)
        gained = sum(budget.values(), jnp.zeros(RUNS))
        size = grid.content(f) + sum((jnp.abs(v) for v in budget.values()), jnp.zeros(RUNS))
        assert bool(jnp.all(jnp.abs(change - gained) <= 1e-13 * size))       # some runs lose all they have
        if FLOWS[name][2]:
            assert float(jnp.max(jnp.abs(change) / grid.content(f))) <= 1e-13
        if "loss" in budget:
            assert float(jnp.max(budget["loss"] / size)) <= 1e-13
        f = new


@cases(leave=("advection", "tensor, walls, loss, source", "closed transport", "cyclic line, exponential",
              "fitted line, exponential"))
def test_constants_are_kept(name, grid_name):
    grid, flow, _ = made(name, grid_name, 6, constant=True)
    flow = jax.tree.map(lambda x: np.asarray(x, dtype=float), flow)           # as in the next test, for one compilation of both
    new, _ = one(grid, flow, jnp.ones(grid.shape))
    # what a stiff operator does to rounding of its own coefficients stays far below its rates (1e3 a cell and step)
    np.testing.assert_allclose(new, 1.0, rtol=0, atol=1e-11 if name.startswith("tensor") else 1e-12)


SIMILAR = ("advection", "cyclic line, exponential", "fitted line", "fitted line, exponential", "fitted cyclic line",
           "pure rotation", "walls, loss, source, exponential", "tensor, walls, loss, source")


# spread over devices in the slow run only: their pieces are those of others here
PIECES = ("cyclic line", "line, exponential", "walls, loss, source", "mixing", "reaction")
# operation by operation in the slow run only: hundreds of them, each compiled alone
LONG = ("transport", "tensor", "sheared", "mixing series")


@cases(leave=(*SIMILAR, "closed transport"))
def test_eager_jit_vmap_and_sharded_agree(name, grid_name, request):
    grid, _, rng = made(name, grid_name, 3)
    flows, f = stacked(name, grid_name, 3), nonnegative_data(grid, rng)
    together, _ = many(grid, flows, f)
    k = 3
    own = jax.tree.map(lambda x: x[k], flows)
    compiled, _ = one(grid, own, f[k])
    slow = request.node.get_closest_marker("slow")
    skip = name.startswith("tensor") and grid.ndim > 2 or name in LONG and not slow
    eager = compiled if skip else step(grid, own, f[k])[0]
    scale = float(jnp.max(compiled))
    np.testing.assert_allclose(eager, compiled, rtol=0, atol=1e-14 * scale)
    np.testing.assert_allclose(together[k], compiled, rtol=0, atol=1e-14 * scale)
    if name in PIECES and not slow:
        return
    mesh = jax.make_mesh((8,), ("runs",), axis_types=(AxisType.Auto,))
    put = partial(jax.device_put, device=NamedSharding(mesh, PartitionSpec("runs")))
    spread, _ = many(grid, jax.tree.map(put, flows), put(f))
    assert len(spread.sharding.device_set) == 8
    for a, b in zip(spread, together):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-14 * float(jnp.max(b)))


@cases(leave=(*SIMILAR, "closed transport"))
@pytest.mark.plain
def test_gradients(name, grid_name):
    """Reverse == forward == central differences on smooth data; finite in vacuum and at a delta."""
    grid, flow, rng = made(name, grid_name, 1)
    f = smooth(grid)
    weight = jnp.asarray(rng.uniform(0.5, 1.5, grid.shape))
    x0, tree = jax.tree.flatten((flow, f))
    x0 = [np.asarray(x, dtype=float) for x in x0]
    # relative changes, so that rates stay positive
    direction = [x * rng.uniform(-1, 1, x.shape) for x in x0]
    if isinstance(flow, LineDiffusion | Sheared):
        inner = flow.line if isinstance(flow, Sheared) else flow
        if grid[inner.axis].periodic:
            # the two ends of a ring are one face
            direction[:-1] = [x * 0.3 for x in x0[:-1]]

    def value(x):
        flow, f = jax.tree.unflatten(tree, x)
        new, budget = step(grid, flow, f)
        budget = [v for k, v in budget.items() if k != "fault"]
        return jnp.sum(weight * new**2) + sum(((i + 1) * b for i, b in enumerate(budget)), 0.0)

    @plain_jit
    def both(x, d):
        v, back = jax.value_and_grad(value)(x)
        forward = jax.jvp(value, (x,), (d,))[1]
        return v, sum(jnp.vdot(g, s) for g, s in zip(back, d)), forward, \
            jnp.sqrt(sum(jnp.vdot(g * s, g * s) for g, s in zip(back, x))), back

    def at(h):
        return both([x + h * s for x, s in zip(x0, direction)], direction)

    _, reverse, forward, norm, _ = at(0.0)
    h = 1e-4
    a, b, c, d = (float(at(s * h)[0]) for s in (-2, -1, 1, 2))
    difference = (8 * (c - b) - (d - a)) / (12 * h)
    assert abs(float(reverse - forward)) <= 1e-12 * float(norm)
    # the weights of WENO reconstruction bend on the scale of the step of the differences
    assert abs(float(reverse) - difference) <= (1e-7 if "transport" in name else 1e-8) * float(norm)
    for data in (jnp.zeros(grid.shape), jnp.zeros(grid.shape).at[(1,) * grid.ndim].set(1.0)):
        assert all(bool(jnp.all(jnp.isfinite(g))) for g in both([*x0[:-1], data], direction)[-1])


FLOAT32 = """
import jax, jax.numpy as jnp, numpy as np
assert not jax.config.jax_enable_x64
from jaxbelt.flows import LineDiffusion, Rotation, Transport
from jaxbelt.flows.tensor import TensorDiffusion
from jaxbelt.coefficients import Time
from jaxbelt.grid import Axis, Grid
x, phi = Axis.cells("x", np.linspace(1, 2, 13)), Axis.cells("phi", np.linspace(0, 2 * np.pi, 17), periodic=True)
grid = Grid((x, phi))
f0 = jnp.zeros(grid.shape).at[5, 7].set(1.0)
up = jnp.ones((13, 1)).at[0].set(0.0).at[-1].set(0.0)
w = jnp.asarray(np.broadcast_to(grid.volumes, grid.shape), jnp.float32)
psi = jnp.asarray(0.02 * np.sin(grid.faces("phi")[:, 1:]) * np.sin(np.pi * (grid.faces("x") - 1)))
@jax.jit
def every(f0):
    out = []
    for flow in (LineDiffusion(axis="x", up=up), Rotation(axis="phi", rate=1.0, diffusion=0.1),
                 TensorDiffusion(axes=("x", "phi"), w11=w, w12=0.5 * w, w22=w),
                 Transport(axes=("x", "phi"), stream=psi, substeps=8)):
        f, budget = flow.advance(grid, flow.prepare(grid, 1.0), f0, Time.at(0.0), 1.0)
        out.append((f, budget.get("fault", 0)))
    return out
for k, (f, fault) in enumerate(every(f0)):
    assert f.dtype == jnp.float32, (k, f.dtype)
    assert float(f.min()) >= 0, (k, float(f.min()))
    assert abs(float(grid.content(f) / grid.content(f0)) - 1) < 1e-5, k
    assert int(fault) == 0
line = LineDiffusion(axis="x", up=up)
g = jax.jit(jax.grad(lambda f: jnp.sum(line.advance(grid, line.prepare(grid, 1.0), f, Time.at(0.0), 1.0)[0] ** 2)))(f0)
assert g.dtype == jnp.float32 and bool(jnp.all(jnp.isfinite(g)))
print("float32 works")
"""


def test_single_precision():
    environment = {k: v for k, v in os.environ.items() if k not in ("JAX_ENABLE_X64", "XLA_FLAGS")}
    done = subprocess.run([sys.executable, "-c", FLOAT32], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
