"""What every flow promises, on random grids with random walls and rates (see `random_flows`).

A case is a flow and a seed; the seed draws the grid, the structure (walls, which arrays there are, which axes they vary along)
and all values. A few seeds run by themselves, many with `-m slow`. To look at one: `case_of(name, seed)`.
"""

import dataclasses
import os
import pathlib
import subprocess
import sys
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import FLAGS
from random_flows import DRAWS
from scipy.linalg import expm

from jaxbelt.coefficients import Time
from jaxbelt.flows import LineDiffusion, TensorDiffusion
from jaxbelt.flows.exponential import propagator
from jaxbelt.flows.links import WALLS
from jaxbelt.linear import Line

pytestmark = pytest.mark.plain
MANY = {"tensor": 12, "tensor of lines": 4, "remap": 20}      # seeds in the slow run; 40 of the others
FEW = {"tensor": 1, "sheared": 1, "remap": 2}              # in the quick run
DRAWN = 5                  # draws of coefficients and of the step a grid, each with six states
FLAT = 3
SCALE = 2.0**30
SIMILAR = ("mixing", "mixing series", "tensor", "tensor of lines", "remap")      # one by one in the slow run only


def seeds(quick, many, leave=(), only=DRAWS):
    """Every flow with `quick` seeds, and with as many as `many` in the slow run; those to `leave` there only."""
    out = []
    for name in only:
        few = 0 if name in leave else min(quick, FEW.get(name, quick))
        out += [pytest.param(name, k, marks=() if k < few else pytest.mark.slow, id=f"{name}-{k}".replace(" ", "-"))
                for k in range(max(few, min(many, MANY.get(name, 40))))]
    return pytest.mark.parametrize("name,seed", out)


@pytest.fixture(autouse=True)
def forget(request):
    """What hundreds of shapes compile to fills the memory map of a process."""
    yield
    if request.node.get_closest_marker("slow"):
        jax.clear_caches()


def case_of(name, seed):
    rng = np.random.default_rng([zlib.crc32(name.encode()), seed])
    return DRAWS[name](rng), rng


def step(grid, flow, f, dt):
    """(f after dt, budget, what came in through walls with a value)."""
    state = flow.prepare(grid, dt)
    return *flow.advance(grid, state, f, Time.at(0.0), dt), dt * inflow(grid, flow, state)


one = jax.jit(step, static_argnums=0)
many = jax.jit(jax.vmap(step, in_axes=(None, 0, 0, 0)), static_argnums=0)
many_alike = jax.jit(jax.vmap(step, in_axes=(None, None, 0, None)), static_argnums=0)


def inflow(grid, flow, state):
    """Through a wall with a value content flows both ways, and the budget is the difference: its rounding is that of this."""
    def highest(wall):
        return jnp.max(jnp.stack([jnp.max(x) for x in jax.tree.leaves(wall)]))

    total = jnp.zeros(())
    if isinstance(flow, LineDiffusion) and not grid[flow.axis].periodic:
        k = grid.index(flow.axis)
        for wall, rate, i in ((flow.lower, flow.up, 0), (flow.upper, flow.up if flow.down is None else flow.down, -1)):
            if wall is not None:
                total += highest(wall) * jnp.sum(jnp.take(rate, jnp.array([i]), axis=k) * grid.other_measures(flow.axis))
    if isinstance(flow, TensorDiffusion):
        for name, wall in zip(WALLS, (flow.lower, flow.upper, flow.lower_b, flow.upper_b)):
            if name in state[0].outflow:
                total += highest(wall) * jnp.sum(state[0].outflow[name])
    return total


def scaled(flow, factor):
    """The flow with all that it brings in multiplied."""
    names = [n for n in ("source", "lower", "upper", "lower_b", "upper_b") if getattr(flow, n, None) is not None]
    return dataclasses.replace(flow, **{n: jax.tree.map(lambda x: np.asarray(x) * factor, getattr(flow, n)) for n in names})


def states(rng, shape):
    """Random numbers a over many magnitudes, b with zeros among them, a + b, nothing, a single cell."""
    a = rng.uniform(size=shape) ** rng.integers(1, 20)
    b = np.where(rng.random(shape) < 0.5, 0.0, rng.uniform(size=shape))
    delta = np.zeros(shape)
    delta.flat[rng.integers(delta.size)] = 1.0
    return [a, b, a + b, np.zeros(shape), delta]


def rows_of(case, rng):
    """[(flow, f, dt)]: DRAWN times those of `states` and a scaled; flat ones; a mild one of usual, tiny and huge values."""
    rows = []
    for _ in range(DRAWN):
        dt = case.shared or 10.0 ** rng.uniform(-6, 6)
        flow, some = case.draw(rng, "wild", dt), states(rng, case.grid.shape)
        rows += [(flow, f, dt) for f in some] + [(scaled(flow, SCALE), some[0] * SCALE, dt)]
    for _ in range(FLAT):
        dt = case.shared or 10.0 ** rng.uniform(-6, 6)
        rows.append((case.draw(rng, "flat", dt), case.steady, dt))
    dt, f = case.shared or 1.0, states(rng, case.grid.shape)[1]
    flow = case.draw(rng, "mild", dt)
    return rows + [(scaled(flow, size), f * size, dt) for size in (1.0, case.smallest, case.largest)]


def together(case, rows):
    """(f, budget, inflow) after a step of all rows at once, as NumPy arrays."""
    flows, f, dt = zip(*rows)
    if case.shared:
        out = many_alike(case.grid, flows[0], np.stack(f), dt[0])
    else:
        out = many(case.grid, jax.tree.map(lambda *x: np.stack([np.asarray(y) for y in x]), *flows), np.stack(f), np.array(dt))
    return jax.device_get(out)


def largest(f):
    return np.max(np.abs(f), axis=tuple(range(1, f.ndim)), keepdims=True)


def highest_wall(flow):
    walls = [x for side in ("lower", "upper") for x in jax.tree.leaves(getattr(flow, side, None))]
    return max((float(np.max(x)) for x in walls), default=0.0)


@seeds(3, 40, leave=("tensor of lines",))
def test_balance_sign_scale_and_steady_states(name, seed):
    case, rng = case_of(name, seed)
    rows = rows_of(case, rng)
    f = np.stack([r[1] for r in rows])
    new, budget, entered = together(case, rows)
    assert not np.any(budget.pop("fault", 0))
    # no NaN, nothing below zero: exactly
    assert np.all(np.isfinite(new)) and np.min(new) >= 0.0
    # what there is more of went through a wall, was lost or fed
    usual = slice(0, DRAWN * 6 + FLAT + 1)                    # content of 1e300 in a cell need not be a number
    content = case.grid.content(f[usual])
    change = case.grid.content(new[usual]) - content
    budget = {k: v[usual] for k, v in budget.items()}
    size = content + sum(map(np.abs, budget.values())) + entered[usual]
    assert np.all(np.abs(change - sum(budget.values())) <= 1e-13 * size)
    if case.keeps:
        assert np.all(np.abs(change) <= 1e-13 * content)
    assert np.all(budget.get("loss", 0.0) <= 1e-13 * size) and np.all(budget.get("source", 0.0) >= 0)
    a, b, both, nothing, _, more = np.moveaxis(new[:DRAWN * 6].reshape(DRAWN, 6, *case.grid.shape), 1, 0)
    # of first degree in f and all that comes in, to the last bit
    np.testing.assert_array_equal(more / SCALE, a)
    if case.linear:
        assert np.all(np.abs(both + nothing - a - b) <= 1e-13 * largest(both))
    if case.contracts:
        top = np.array([max(np.max(f[k]), highest_wall(rows[k][0])) for k in range(DRAWN * 6)])
        assert np.all(largest(new[:DRAWN * 6]).ravel() <= top * (1 + 1e-13))
    for k in range(DRAWN * 6, DRAWN * 6 + FLAT):
        np.testing.assert_allclose(new[k], case.steady, rtol=case.rounding)
    # tiny and huge numbers are as good as any
    for k, factor in ((-2, case.smallest), (-1, case.largest)):
        np.testing.assert_allclose(new[k] / factor, new[-3], rtol=0, atol=1e-11 * np.max(new[-3]))
    if case.exact:
        # with the same compiled function: half a step, and another
        halves = [(flow, g, h / 2) for flow, g, h in rows]
        middle = together(case, halves)[0]
        twice = together(case, [(flow, g, h) for (flow, _, h), g in zip(halves, middle)])[0]
        assert np.all(np.abs(twice - new) <= 1e-12 * np.maximum(largest(new), largest(middle)))


@seeds(1, 6, leave=(*SIMILAR, "rotation", "exponential line", "reaction"))
def test_alone_compiled_and_in_a_batch(name, seed, request):
    """A run knows nothing of its neighbours in a batch, and compiling it changes nothing."""
    case, rng = case_of(name, seed)
    rows = rows_of(case, rng)
    batch = together(case, rows)[0]
    for k in rng.choice(DRAWN * 6, 3, replace=False):
        flow, f, dt = rows[k]
        alone = jax.device_get(one(case.grid, jax.tree.map(np.asarray, flow), f, dt)[0])
        top = max(np.max(np.abs(alone)), np.max(f))           # what a fast loss leaves is a difference of what there was
        np.testing.assert_allclose(batch[k], alone, rtol=0, atol=1e-12 * top)
    # operation by operation: each compiled by itself
    if request.node.get_closest_marker("slow") and seed % 4 == 1:
        np.testing.assert_allclose(step(case.grid, flow, jnp.asarray(f), dt)[0], alone, rtol=0, atol=1e-12 * top)


def mild(case, rng, shift=0.0):
    """Rows whose rates are of the order of the step, so that derivatives and float32 are good to rounding."""
    rows = []
    for _ in range(3):
        dt = case.shared or 10.0 ** rng.uniform(-3, 3)
        rows += [(case.draw(rng, "mild", dt), f + shift, dt) for f in states(rng, case.grid.shape)[:2]]
    return rows


CHILD = """
import importlib.util, sys, jax, numpy as np
sys.path.insert(0, sys.argv[1])
spec = importlib.util.spec_from_file_location("properties", sys.argv[2])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
assert not jax.config.jax_enable_x64
out = {}
for case in sys.argv[4:]:
    for kind, (f, budget) in module.both_kinds(*case.rsplit(" ", 1)).items():
        assert f.dtype == np.float32 and all(v.dtype in (np.float32, np.int32) for v in budget.values()), (case, budget)
        out[f"{kind} {case}"] = f
np.savez(sys.argv[3], **out)
"""


def both_kinds(name, seed):
    case, rng = case_of(name, int(seed))
    wild = rows_of(case, rng)[:DRAWN * 6]
    return {"mild": together(case, mild(case, rng))[:2], "wild": together(case, wild)[:2]}


@pytest.mark.parametrize("cases", [
    pytest.param([(name, 0) for name in ("line", "advection")], id="some"),
    pytest.param([(name, seed) for name in DRAWS for seed in range(5)], id="all", marks=pytest.mark.slow)])
def test_single_precision(cases, tmp_path):
    """float32 throughout, in a process of its own: the same to four digits, and nothing below zero whatever the rates."""
    environment = {k: v for k, v in os.environ.items() if k != "JAX_ENABLE_X64"} | {"XLA_FLAGS": FLAGS, "JAX_PLATFORMS": "cpu"}
    arguments = [pathlib.Path(__file__).parents[1], __file__, tmp_path / "single.npz", *(f"{n} {s}" for n, s in cases)]
    done = subprocess.run([sys.executable, "-c", CHILD, *map(str, arguments)], capture_output=True, text=True, env=environment,
                          timeout=1200)
    assert done.returncode == 0, done.stderr[-2000:]
    single = np.load(tmp_path / "single.npz")
    for name, seed in cases:
        wild, usual = (single[f"{kind} {name} {seed}"] for kind in ("wild", "mild"))
        assert np.all(np.isfinite(wild)) and min(np.min(wild), np.min(usual)) >= 0
        case, rng = case_of(name, seed)
        rows_of(case, rng)
        rows = mild(case, rng)
        double = together(case, rows)[0]
        scale = np.maximum(largest(double), largest(np.stack([r[1] for r in rows])))
        assert np.all(np.abs(usual - double) <= 1e-4 * scale), (name, seed, np.max(np.abs(usual - double) / scale))


@seeds(1, 6, leave=(*SIMILAR, "sheared", "line", "advection"))
def test_gradients(name, seed):
    """Reverse mode is what forward mode says along random directions, and finite at zeros, at one cell, at any rates."""
    case, rng = case_of(name, seed)
    wild, usual = rows_of(case, rng), mild(case, rng, shift=0.1)
    weight = rng.uniform(0.5, 1.5, case.grid.shape)
    leaves, tree = jax.tree.flatten(usual[0][:2])
    moving = [np.issubdtype(np.asarray(x).dtype, np.floating) for x in leaves]

    def value(x, fixed, dt):
        x, fixed = iter(x), iter(fixed)
        flow, f = jax.tree.unflatten(tree, [next(x if m else fixed) for m in moving])
        new, budget, _ = step(case.grid, flow, f, dt)
        return jnp.sum(weight * (new + new**2)) + 0.3 * sum((v for k, v in budget.items() if k != "fault"), 0.0)

    @jax.jit
    def derivatives(x, d, fixed, dt):
        return jax.grad(value)(x, fixed, dt), jax.jvp(lambda x: value(x, fixed, dt), (x,), (d,))[1]

    for row in (*usual[:4], *(wild[k] for k in (0, 3, 4, 10, 15, 16))):
        leaves = [np.asarray(x) for x in jax.tree.leaves(row[:2])]
        x, fixed = ([y for y, m in zip(leaves, moving) if m is kind] for kind in (True, False))
        d = [y * rng.uniform(-1, 1, y.shape) for y in x]
        back, forward = jax.device_get(derivatives(x, d, fixed, row[2]))
        assert all(np.all(np.isfinite(y)) for y in back)
        if any(row is r for r in usual):
            size = sum(np.sum(np.abs(y * z)) for y, z in zip(back, d))
            assert abs(sum(np.vdot(y, z) for y, z in zip(back, d)) - forward) <= 1e-11 * size


def dense_line(volume, up, down, loss, source, walls, f, dt, periodic, exponential):
    """(f, content through the lower wall, through the upper one) of one line after dt, with matrices made from the equation."""
    n = f.size
    rate, fed = np.zeros((n + 2, n)), np.zeros(n + 2)          # content per time into the cells and through the walls, per f
    rate[np.arange(n), np.arange(n)] -= volume * loss
    fed[:n] += volume * source
    for k in range(n + 1):
        left, right = (k - 1) % n, k % n
        if periodic and k == n:
            break
        if k > 0 or periodic:
            rate[left, left] -= up[k]
            rate[left, right] += down[k] if k < n else 0.0
        if k < n:
            rate[right, right] -= down[k]
            rate[right, left] += up[k] if k > 0 or periodic else 0.0
    if not periodic:
        rate[n, 0], fed[n] = -down[0], up[0] * walls[0]
        rate[n + 1, n - 1], fed[n + 1] = -up[n], down[n] * walls[1]
        fed[0] += fed[n]
        fed[n - 1] += fed[n + 1]
    if exponential:
        whole = np.zeros((n + 3, n + 3))
        whole[:n + 2, :n], whole[:n + 2, -1] = rate, fed
        whole[:n] /= volume[:, None]
        out = expm(whole * dt) @ np.concatenate([f, [0.0, 0.0, 1.0]])
        return out[:n], out[n], out[n + 1]
    h = (1 - np.sqrt(0.5)) * dt
    y1 = np.linalg.solve(np.diag(volume) - h * rate[:n], volume * f + h * fed[:n])
    y2 = np.linalg.solve(np.diag(volume) - h * rate[:n], volume * y1 + h * fed[:n])
    moved = h * (rate @ y1 + fed + (1 + np.sqrt(2)) * (rate @ y2 + fed))
    return (1 + np.sqrt(2)) * y2 - np.sqrt(2) * y1, moved[n], moved[n + 1]


@seeds(2, 20, only=("line", "exponential line"))
def test_lines_are_those_of_dense_matrices(name, seed):
    case, rng = case_of(name, seed)
    grid, rows = case.grid, mild(case, rng, shift=0.5)
    rows = [(dataclasses.replace(flow, lower=constant(flow.lower), upper=constant(flow.upper)), f, dt) for flow, f, dt in rows]
    new, budget, _ = together(case, rows)
    k, n, periodic = grid.index("x"), grid["x"].n, grid["x"].periodic

    def lines(a, length=n):
        a = np.zeros(1) if a is None else np.asarray(a)
        shape = [length if i == k else m for i, m in enumerate(grid.shape)]
        return np.moveaxis(np.broadcast_to(a, shape), k, -1).reshape(-1, length)

    for row, (flow, f, dt) in enumerate(rows):
        walls = [np.zeros(1) if w is None else np.asarray(w) for w in (flow.lower, flow.upper)]
        walls = [np.broadcast_to(w, tuple(np.delete(grid.shape, k)) or (1,)).ravel() for w in walls]
        down = flow.up if flow.down is None else flow.down
        arrays = [lines(grid.line_volumes("x")), lines(flow.up, n + 1), lines(down, n + 1), lines(flow.loss), lines(flow.source)]
        through, measures, second_order = np.zeros(2), lines(grid.other_measures("x"))[:, 0], True
        for i, (volume, up, down, loss, source) in enumerate(zip(*arrays)):
            want, *moved = dense_line(volume, up, down, loss, source, [w[i] for w in walls], lines(f)[i], dt, periodic,
                                      name == "exponential line")
            through += measures[i] * np.array(moved)
            if np.min(want) < 0:                              # blended with first-order steps
                second_order = False
            else:
                np.testing.assert_allclose(lines(new[row])[i], want, rtol=0, atol=1e-11 * np.max(want))
        if second_order and not periodic:
            for end, total in zip(("lower", "upper"), through):
                size = np.abs(total) + grid.content(np.abs(f)) + grid.content(new[row])
                assert abs(budget[f"x.{end}"][row] - total) <= 1e-11 * size


def constant(wall):
    return wall if wall is None or not callable(wall) else np.asarray(wall.values)[0]


def test_exponential_of_rates_that_differ_by_any_factor():
    """Between two cells that exchange their content at once the propagator is that of one cell."""
    together = jax.jit(lambda up: propagator(Line(jnp.ones(5), up, up), jnp.zeros((5, 1)), 0.7)[:, :5])
    q = np.zeros((5, 5))                                      # cell 0, cells 1 and 2, cell 3, cell 4, what left
    for i, j, rate in ((1, 0, 1.0), (0, 1, 0.5), (2, 1, 0.5), (1, 2, 1.0), (3, 2, 0.5), (2, 3, 0.5), (4, 3, 2.0)):
        q[i, j] += rate
        q[j, j] -= rate
    for fast in (1e13, 1e15, 1e17, 1e20, 1e22):
        whole = np.asarray(together(np.array([0.0, 1.0, fast, 1.0, 0.5, 2.0])))
        merged = np.stack([whole[0], whole[1] + whole[2], whole[3], whole[4], whole[6]])
        np.testing.assert_allclose(merged[:, [0, 1, 3, 4]], expm(0.7 * q)[:, :4], rtol=1e-12)
