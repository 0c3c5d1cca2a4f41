"""`solve`: splitting of runs, one compilation for sweeps, long runs, result codes, budgets, transforms."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import plain_jit

import jaxbelt as jb
from jaxbelt.coefficients import is_steady, parameters
from jaxbelt.flows import LineDiffusion, Reaction, Rotation
from jaxbelt.solve import advance, make_problem, plan, solve

N, M = 16, 9                 # an odd ring has no Nyquist mode, whose shift is a damping of first order in dt


@parameters
class Parameters:
    d: Any = 0.01
    spin: Any = 0.3
    loss: Any = 0.02
    source: Any = 0.0


def flows(problem, t, dt):
    p, grid = problem.parameters, problem.grid
    x = grid.faces("x")
    d = jb.evaluate(p.d, t, x) * jnp.ones_like(x)
    up = (d * N).at[0].set(0.0)
    up = up.at[-1].set(0.0) if problem.boundary.get("wall") is None else up.at[-1].mul(2.0)
    loss = jb.evaluate(p.loss, t)
    return [LineDiffusion(axis="x", up=up, loss=loss, source=jb.evaluate(p.source, t), upper=problem.boundary.get("wall"),
                          steady=is_steady(p.d, p.loss, p.source)),
            Rotation(axis="phi", rate=jb.evaluate(p.spin, t), steady=is_steady(p.spin))]


GRID = jb.Grid((jb.Axis.cells("x", np.linspace(0, 1, N + 1)),
                jb.Axis.cells("phi", 2 * np.pi * np.arange(M + 1) / M, periodic=True)))


def made(boundary=None, **p):
    return make_problem(flows, GRID, Parameters(**p), boundary=boundary, equation="test")


def start():
    x, phi = GRID.mesh()
    return jnp.asarray(1 + 0.5 * np.cos(np.pi * x) + 0.3 * np.cos(phi) + 0 * x)


KP = jb.Series(np.arange(10.0) * 3, 0.01 * (1 + np.arange(10.0) % 4))


def test_five_and_five_are_ten():
    """A run cut at an output and taken up again ends bit for bit where the whole one does, drivers and walls included."""
    problem = made(d=jb.Series([0.0, 50.0], [0.01, 0.05], "linear"), loss=KP, boundary={"wall": KP})
    t = np.arange(11.0) * 3
    whole = solve(problem, start(), t=t, dt=1.0)
    first = solve(problem, start(), t=t[:6], dt=1.0)
    second = solve(problem, first.f[-1], t=t[5:], dt=1.0)
    np.testing.assert_array_equal(np.asarray(second.f[-1]), np.asarray(whole.f[-1]))
    np.testing.assert_array_equal(np.asarray(second.f[1:]), np.asarray(whole.f[6:]))


def test_outputs_do_not_change_a_run():
    """Asking for more outputs between the same steps changes nothing beyond rounding."""
    problem = made(d=KP)
    few, many = solve(problem, start(), t=[0.0, 30.0], dt=1.0), solve(problem, start(), t=np.arange(31.0), dt=1.0)
    np.testing.assert_allclose(few.f[-1], many.f[-1], rtol=1e-13)
    assert few.f.shape == (2, N, M) and many.f.shape == (31, N, M)
    np.testing.assert_array_equal(many.t, np.arange(31.0))


def test_solve_is_advance():
    problem = made(boundary={"wall": 2.0})
    t = np.arange(5.0) * 2
    sol = solve(problem, start(), t=t, dt=0.5)
    f, budget, code = jax.jit(advance)(problem, start(), plan(problem, t, 0.5))
    np.testing.assert_array_equal(sol.f[1:], f)
    for k, v in budget.items():
        np.testing.assert_array_equal(sol.budget[k][1:], v)
    assert int(code) == 0 and sol.message == "the run reached its end"


@pytest.mark.plain
def test_irregular_times():
    problem = made(d=KP, source=0.1)
    t = np.cumsum([0.0, 1.0, 0.3, 7.0, 2.22, 0.01, 5.5])
    sol = solve(problem, start(), t=t, dt=0.05)
    fine = solve(problem, start(), t=[0.0, t[-1]], dt=0.01)
    np.testing.assert_allclose(sol.f[-1], fine.f[-1], rtol=2e-4)
    np.testing.assert_array_equal(sol.t, t)


@pytest.mark.plain
@pytest.mark.parametrize("driver", [pytest.param(0.01, marks=pytest.mark.slow), KP], ids=["steady", "Kp"])
def test_strang_is_second_order(driver):
    """Non-commuting flows: the loss depends on x, the source on phi."""
    x, phi = GRID.mesh()
    problem = made(d=driver, loss=0.1 * (1 + x) * (1 + 0.5 * np.cos(phi)), source=0.3 * (1 + np.sin(phi)) + 0 * x)
    fine = solve(problem, start(), t=[0.0, 12.0], dt=12 / 1024).f[-1]
    errors = [float(jnp.max(jnp.abs(solve(problem, start(), t=[0.0, 12.0], dt=dt).f[-1] - fine))) for dt in (1.5, 0.75, 0.375)]
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    print(errors, orders)
    assert np.all(orders >= 1.9)


@pytest.mark.plain
def test_second_order_with_a_driver_linear_in_time():
    wall = jb.Series([0.0, 12.0], [1.0, 3.0], "linear")
    problem = made(d=jb.Series([0.0, 12.0], [0.002, 0.05], "linear"), boundary={"wall": wall})
    fine = solve(problem, start(), t=[0.0, 12.0], dt=12 / 512).f[-1]
    errors = [float(jnp.max(jnp.abs(solve(problem, start(), t=[0.0, 12.0], dt=dt).f[-1] - fine))) for dt in (1.5, 0.75, 0.375)]
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    print(errors, orders)
    assert np.all(orders >= 1.9)


TRACES = []


def counted(t, x, strength, power):
    TRACES.append(1)
    return strength * (0.5 + x) ** power


@pytest.mark.plain
def test_fifty_parameter_sets_compile_once():
    def at(k):
        return made(d=jb.function(counted, steady=True, strength=0.01 * (1 + k), power=1.0 + 0.1 * k), loss=0.01 * k)

    def run(k):
        return solve(at(k), start(), t=np.arange(4.0), dt=0.5).f[-1]

    first = run(0)
    before = len(TRACES)
    assert before > 0
    outs = [run(k) for k in range(1, 50)]
    assert len(TRACES) == before
    assert len({float(jnp.sum(f)) for f in (first, *outs)}) == 50
    # another moment with the same structure is the same program too, and so is another step of the same count
    solve(at(0), start(), t=1e6 + np.arange(4.0), dt=0.5)
    assert len(TRACES) == before
    # as one batch: traced once more, the same answers
    p = jax.tree.map(lambda *x: jnp.stack(x), *(at(k).parameters for k in range(50)))
    together = jax.vmap(lambda p: solve(at(0).replace(parameters=p), start(), t=np.arange(4.0), dt=0.5).f[-1])(p)
    np.testing.assert_allclose(together, jnp.stack([first, *outs]), rtol=1e-13)


@pytest.mark.plain
@pytest.mark.parametrize("steps", [70, *(pytest.param(k, marks=pytest.mark.slow) for k in (64, 65, 81, 1000))])
def test_many_steps_in_an_interval(steps):
    """Beyond 64 steps there are two levels of checkpoints: no step is lost or done twice, whatever their number."""
    problem = made(d=0.02, loss=0.0)
    t = 5.0
    one = solve(problem, start(), t=[0.0, t], dt=t / steps).f[-1]
    parts = solve(problem, start(), t=np.linspace(0, t, steps + 1), dt=t / steps).f[-1]
    np.testing.assert_allclose(one, parts, rtol=1e-12)


@pytest.mark.plain
@pytest.mark.parametrize("steps", [70, pytest.param(10, marks=pytest.mark.slow)])
def test_gradient_of_a_run(steps):
    """Reverse == forward == central differences for every parameter, f0 and the wall, on both checkpoint paths."""
    problem = made(d=KP, loss=0.05, source=0.1, boundary={"wall": 1.5})

    def value(x):
        p, boundary, f0 = x
        out = solve(problem.replace(parameters=p, boundary=boundary), f0, t=[0.0, 3.0, 6.0], dt=3.0 / steps)
        return jnp.sum(out.f[-1] ** 2) + out.budget["x.upper"][-1] - out.budget["loss"][1]

    rng = np.random.default_rng(0)
    x0 = (problem.parameters, problem.boundary, start())
    x0 = jax.tree.map(jnp.asarray, x0)
    d = jax.tree.map(lambda x: x * jnp.asarray(rng.uniform(-1, 1, x.shape)), x0)
    back = plain_jit(jax.grad(value))(x0)
    both = plain_jit(lambda x, d: jax.jvp(value, (x,), (d,)))
    forward = float(both(x0, d)[1])
    parts = [float(jnp.vdot(g, s)) for g, s in zip(jax.tree.leaves(back), jax.tree.leaves(d))]
    norm = float(jnp.sqrt(sum(jnp.vdot(g * x, g * x) for g, x in zip(jax.tree.leaves(back), jax.tree.leaves(x0)))))
    h = 1e-4
    a, b, c, e = (float(both(jax.tree.map(lambda x, s, k=k: x + k * h * s, x0, d), d)[0]) for k in (-2, -1, 1, 2))
    difference = (8 * (c - b) - (e - a)) / (12 * h)
    print(f"reverse - forward {abs(sum(parts) - forward) / norm:.1e}, - differences {abs(sum(parts) - difference) / norm:.1e}")
    assert abs(sum(parts) - forward) <= 1e-12 * norm
    assert abs(sum(parts) - difference) <= 1e-8 * norm


@pytest.mark.plain
def test_memory_of_the_gradient():
    """256 steps in two levels of checkpoints keep 16 + 16 states, 4 steps keep 4: eight times as many, not 64 times."""
    problem = make_problem(only_loss, GRID, Parameters(loss=0.5))

    def end(p, steps):
        return jnp.sum(solve(problem.replace(parameters=p), start(), t=[0.0, 1.0], dt=1.0 / steps).f[-1] ** 2)

    few, many = (plain_jit(jax.grad(lambda p, n=n: end(p, n))).lower(problem.parameters).compile().memory_analysis()
                 for n in (4, 256))
    assert many.temp_size_in_bytes < 8 * few.temp_size_in_bytes


@pytest.mark.plain
def test_gradient_from_vacuum_and_a_delta():
    problem = made(d=KP)
    grad = plain_jit(jax.grad(
        lambda p, f0: jnp.sum(solve(problem.replace(parameters=p), f0, t=[0.0, 6.0], dt=1.0).f[-1] ** 2)))
    for f0 in (jnp.zeros((N, M)), jnp.zeros((N, M)).at[3, 4].set(1.0)):
        g = grad(problem.parameters, f0)
        assert all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves(g))


@pytest.mark.slow                                        # the quick run has a closed box of the foliated equation
def test_content_of_a_long_closed_run():
    closed = solve(made(d=KP, loss=0.0), start(), t=np.arange(21.0) * 15, dt=0.5)
    assert float(jnp.max(jnp.abs(GRID.content(closed.f) / GRID.content(closed.f[0]) - 1))) <= 1e-12


def test_budget_of_a_long_run():
    problem = made(d=KP, loss=0.03, source=0.2, boundary={"wall": 1.5})
    sol = solve(problem, start(), t=np.arange(21.0) * 15, dt=0.5)
    gained = sum(sol.budget.values())
    content = GRID.content(sol.f)
    worst = float(jnp.max(jnp.abs(content - content[0] - gained) / content))
    print(f"600 steps: the budget closes to {worst:.1e}")
    assert worst <= 1e-12
    assert set(sol.budget) == {"x.lower", "x.upper", "source", "loss"}
    assert float(jnp.max(jnp.diff(sol.budget["loss"]))) < 0 and float(jnp.min(jnp.diff(sol.budget["source"]))) > 0
    assert float(jnp.max(jnp.abs(sol.budget["x.lower"]))) == 0.0


def test_positive_from_the_first_step():
    for f0 in (jnp.zeros((N, M)).at[7, 3].set(1.0), (jnp.arange(N) < 5)[:, None] * jnp.ones((N, M))):
        sol = solve(made(d=10.0, loss=0.0), f0, t=np.arange(6.0), dt=1.0)
        assert float(jnp.min(sol.f)) >= 0.0


@pytest.mark.plain
def test_result_codes():
    good = solve(made(), start(), t=[0.0, 1.0, 2.0], dt=1.0)
    assert int(good.result) == jb.Result.ok
    bad = solve(made(), start().at[2, 2].set(jnp.nan), t=[0.0, 1.0, 2.0], dt=1.0)
    assert int(bad.result) == jb.Result.not_finite and "NaN" in bad.message
    late = made(source=jb.Series([0.0, 5.0], [0.0, np.inf]))
    assert int(solve(late, start(), t=[0.0, 2.0, 4.0], dt=0.5).result) == jb.Result.ok
    assert int(solve(late, start(), t=[0.0, 4.0, 8.0], dt=1.0).result) == jb.Result.not_finite
    code = plain_jit(jax.vmap(lambda f: solve(made(), f, t=[0.0, 1.0], dt=1.0).result))
    codes = code(jnp.stack([start(), start() * jnp.nan]))
    assert codes.tolist() == [0, 1]
    assert all(jb.Result(k).message for k in jb.Result)


def test_transforms_agree():
    """Eager == jit == vmap == runs sharded over eight devices."""
    problem = made(d=KP, boundary={"wall": 1.0})
    f0 = start()[None] * (1 + 0.1 * jnp.arange(8.0))[:, None, None]

    def run(f):
        return solve(problem, f, t=[0.0, 3.0, 6.0], dt=1.0).f

    one = jnp.stack([run(f) for f in f0])
    np.testing.assert_allclose(jax.jit(run)(f0[0]), one[0], rtol=1e-14)
    many = jax.jit(jax.vmap(run))
    np.testing.assert_allclose(many(f0), one, rtol=1e-14)
    mesh = jax.make_mesh((8,), ("runs",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = many(jax.device_put(f0, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("runs"))))
    assert len(spread.sharding.device_set) == 8
    np.testing.assert_allclose(spread, one, rtol=1e-14)


def no_flows(problem, t, dt):
    return []


def only_loss(problem, t, dt):
    return [Reaction(loss=problem.parameters.loss)]


@pytest.mark.plain
def test_one_flow_and_none():
    sol = solve(make_problem(only_loss, GRID, Parameters(loss=0.5)), 1.0, t=[0.0, 2.0], dt=0.5)
    np.testing.assert_allclose(sol.f[-1], np.exp(-1.0), rtol=1e-14)
    with pytest.raises(ValueError, match="has no flow"):
        solve(make_problem(no_flows, GRID, Parameters(), equation="empty"), 1.0, t=[0.0, 1.0], dt=1.0)


@pytest.mark.parametrize("kw,message", [
    (dict(f0=np.ones((3, 4)), t=[0.0, 1.0], dt=1.0), r"f0: shape \(3, 4\) does not fit the grid \(16, 9\) \(x, phi\)"),
    (dict(f0=1.0, t=[1.0, 0.0], dt=1.0), r"t: times must increase"),
    (dict(f0=1.0, t=[0.0, 1.0], dt=-1.0), r"dt: must be a positive number"),
])
def test_bad_input(kw, message):
    with pytest.raises(ValueError, match=message):
        solve(made(), kw.pop("f0"), **kw)


@pytest.mark.plain
def test_bad_epoch_and_traced_time():
    with pytest.raises(ValueError, match="epoch: 'yesterday' is not a date"):
        make_problem(flows, GRID, Parameters(), epoch="yesterday")
    with pytest.raises(TypeError, match="t and dt must be concrete"):
        jax.jit(lambda dt: solve(made(), 1.0, t=[0.0, 1.0], dt=dt).f)(1.0)


@pytest.mark.plain
def test_integers_can_be_differentiated():
    problem = make_problem(flows, GRID, Parameters(d=1, spin=0, loss=0), boundary={"wall": 1})
    end = lambda x: jnp.sum(solve(problem.replace(boundary=x), start(), t=[0, 1], dt=1).f[-1])  # noqa: E731
    g = plain_jit(jax.grad(end))(problem.boundary)
    assert np.isfinite(float(g["wall"]))
