"""Runs by levels: against exponentials by hand, against steps in time, and what a run of them must keep."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

import jaxbelt as jb
from jaxbelt import cases, io, levels, linear
from jaxbelt import drift_diffusion as dd
from jaxbelt.coefficients import Series, Time
from jaxbelt.config import InputError
from jaxbelt.flows import LineDiffusion
from jaxbelt.physics.losses import BeltLifetime, KpLifetime
from jaxbelt.physics.plasmapause import Plasmapause, maximum_series
from jaxbelt.run import Diverged, Interrupted, resume, run
from jaxbelt.solve import Result

pytestmark = pytest.mark.plain

HOUR, DAY = 3600.0, 86400.0
KP = jb.drivers.kp_series([2.0, 6.0, 4.0, 2.0, 2.0, 7.3, 1.0, 0.3, 2.0, 6.0, 4.0, 2.0, 2.0, 1.0, 0.3, 0.3])
MAX = jb.drivers.max_over(KP)
MU = np.geomspace(300.0, 3000.0, 8)                      # one a device: runs share them out
BA = jb.radial_diffusion.BrautigamAlbert


def profile(grid):
    return np.broadcast_to(np.exp(1.5 * (grid.centers("L") - 7.0)), grid.shape).copy()


def single(cells=16, **changes):
    grid = dd.grid(L=(3.0, 7.0), cells=cells)
    prm = dd.Parameters(dll=BA(kp=KP), lifetime=KpLifetime(kp=KP, kp_max=MAX), source=1e-3)
    return dd.problem(grid, prm.replace(**changes), inner=0.0, outer=1.0)


def many(dll=lambda mu: BA(kp=KP)):
    grid = dd.grid(L=(3.0, 7.0), cells=16, mu=MU)
    outside = KpLifetime(kp=KP, lpp=0.0)

    def parameters(mu):
        life = BeltLifetime(kp=KP, inside=3.0 * (mu / 300.0) ** 0.5, outside=outside, lpp=Plasmapause(kp_max=MAX))
        return dd.Parameters(dll=dll(mu), lifetime=life)

    return dd.problem(grid, parameters, inner=0.0, outer=1.0)


@pytest.fixture(scope="module")
def alone():
    return levels.reduce(single())


@pytest.fixture(scope="module")
def together():
    return many(), levels.reduce(many())


def test_levels_are_the_combinations_that_occur():
    late = maximum_series(KP, "obrien2003")                    # ends 2 h late: the union of times counts
    short, found = levels.distinct(kp=KP, largest=MAX, late=late)
    moments = np.arange(0.5, 60.0, 0.5) * HOUR
    at = found.at(moments)
    for name, one in (("kp", KP), ("largest", MAX), ("late", late)):
        assert np.array_equal(np.asarray(short[name].values)[at], [float(one(t)) for t in moments])
    rows = np.stack([np.asarray(s.values) for s in short.values()], axis=1)
    assert found.count == len(np.unique(rows, axis=0)) == len(rows) and np.all(np.diff(found.t) > 0)
    assert all(float(Plasmapause(kp_max=late, model="obrien2003")(t)) == float(Plasmapause(kp=KP, model="obrien2003")(t))
               for t in moments[::7])


def test_an_interval_is_the_exponential_of_its_level(alone):
    problem = single()
    t = np.array([0.0, 15.0, 30.0]) * HOUR
    sol = jb.solve(alone, profile(problem.grid), t=t, dt=3 * HOUR)
    n = problem.grid.shape[0]
    f = profile(problem.grid)

    @jax.jit
    def generator(start):                                      # by hand, with its feed
        flow, = problem.flows(problem, Time(start, 0.0, start + 1.5 * HOUR), 1.0)
        assert isinstance(flow, LineDiffusion)
        line = flow._line(problem.grid)
        a = jax.vmap(lambda e: linear.apply(line, e), out_axes=1)(jnp.eye(n))
        feed = jnp.broadcast_to(flow.source, (n,)).at[-1].add(line.down[-1] / line.volume[-1])     # the outer wall's 1.0
        return jnp.zeros((n + 1, n + 1)).at[:n, :n].set(-a).at[:n, n].set(feed)

    for k in range(10):
        q = np.asarray(generator(3 * HOUR * k))
        f = (expm(3 * HOUR * q) @ np.append(f, 1.0))[:n]
        if k in (4, 9):
            np.testing.assert_allclose(sol.f[(k + 1) // 5], f, rtol=1e-11, atol=0)
    assert sol.message == Result.ok.message and sol.f.shape == (3, n)


def test_nodes_agree_with_steps_and_close_their_budget(together):
    problem, reduced = together
    f0, t = profile(problem.grid), np.array([0.0, 24.0, 48.0]) * HOUR
    assert reduced.tables.groups == 1 and 0 < reduced.tables.split * DAY < 0.25
    ours = jb.solve(reduced, f0, t=t, dt=3 * HOUR)
    exact = jb.solve(problem, f0, t=t, dt=60.0)
    assert np.max(np.abs(ours.f / exact.f - 1)) < 2e-4 and float(ours.f.min()) >= 0
    for name, v in exact.budget.items():
        assert abs(float(ours.budget[name][-1] - v[-1])) <= 1e-4 * abs(float(v[-1]))
    content = problem.grid.content(ours.f)
    moved = sum(np.asarray(v) for v in ours.budget.values())
    assert np.max(np.abs(content - content[0] - moved)) < 1e-13 * sum(abs(float(v[-1])) for v in ours.budget.values()) + 1e-13


@pytest.mark.slow
def test_what_is_split_off_is_second_order(together):
    problem, reduced = together
    f0, t = profile(problem.grid), np.array([0.0, 48.0]) * HOUR
    f = [np.asarray(jb.solve(reduced, f0, t=t, dt=h * HOUR).f[-1]) for h in (3.0, 1.5, 0.75)]
    top = [np.max(np.abs(a - b)) for a, b in zip(f, f[1:])]
    assert top[0] < 1e-5 and top[0] / top[1] > 3.0


@pytest.mark.slow
def test_nodes_with_a_diffusion_of_their_own():
    problem = many(lambda mu: BA(kp=KP, log_amplitude=np.log(mu / 800.0)))
    reduced = levels.reduce(problem)
    assert reduced.tables.groups == 8 and reduced.tables.split == 0.0
    f0, t = profile(problem.grid), np.array([0.0, 24.0, 48.0]) * HOUR
    ours, exact = jb.solve(reduced, f0, t=t, dt=3 * HOUR), jb.solve(problem, f0, t=t, dt=60.0)
    assert np.max(np.abs(ours.f / exact.f - 1)) < 2e-4


def objective(alone):
    """A number of D_LL's amplitude and the outer wall: of the last state and what was lost until then."""
    f0, t = profile(alone.grid), np.array([0.0, 15.0, 30.0]) * HOUR

    def loss(a, wall):
        dll = alone.parameters.dll.replace(log_amplitude=a)
        sol = jb.solve(alone.replace(parameters=alone.parameters.replace(dll=dll), boundary=alone.boundary | {"outer": wall}),
                       f0, t=t, dt=3 * HOUR)
        return jnp.sum(jnp.log(sol.f[-1])) + 1e3 * sol.budget["loss"][-1]

    return loss


def test_gradients_are_differences(alone):
    loss = objective(alone)
    g = jax.jit(jax.grad(loss, argnums=(0, 1)))(0.1, 1.0)
    loss = jax.jit(loss)
    h = 1e-5
    assert float(g[0]) == pytest.approx(float(loss(0.1 + h, 1.0) - loss(0.1 - h, 1.0)) / (2 * h), rel=1e-7)
    assert float(g[1]) == pytest.approx(float(loss(0.1, 1.0 + h) - loss(0.1, 1.0 - h)) / (2 * h), rel=1e-7)


@pytest.mark.slow
def test_forward_and_reverse_mode_and_vmap_agree(alone):
    loss = objective(alone)
    forward = jax.jit(lambda a: jax.jvp(lambda a: loss(a, 1.0), (a,), (1.0,)))(0.1)
    assert float(forward[1]) == pytest.approx(float(jax.jit(jax.grad(loss))(0.1, 1.0)), rel=1e-11)
    both = jax.jit(jax.vmap(loss, (0, None)))(jnp.array([0.1, 0.5]), 1.0)
    assert float(both[0]) == pytest.approx(float(forward[0]), rel=1e-12) and both[1] != both[0]


@pytest.mark.slow
def test_a_gradient_keeps_little():
    long = jb.drivers.kp_series(np.tile(np.asarray(KP.values), 40))
    grid = dd.grid(L=(3.0, 7.0), cells=40)
    reduced = levels.reduce(dd.problem(grid, dd.Parameters(dll=BA(kp=long), lifetime=5.0), inner=0.0, outer=1.0))
    t = np.array([0.0, 40.0, 80.0]) * DAY

    def last(dll):
        sol = jb.solve(reduced.replace(parameters=reduced.parameters.replace(dll=dll)), profile(grid), t=t, dt=3 * HOUR)
        return sol.f[-1, 20]

    used = jax.jit(jax.grad(last)).lower(reduced.parameters.dll).compile().memory_analysis().temp_size_in_bytes
    assert used < 30 * reduced.tables.count * 48**2 * 8        # the 640 states and 48 x 48 matrices would be ten times that


def test_nodes_that_no_longer_share_are_a_fault(together):
    _, reduced = together
    prm = reduced.parameters
    changed = prm.replace(dll=prm.dll.replace(log_amplitude=0.1 * jnp.arange(8.0)))
    f0, t = profile(reduced.grid), np.array([0.0, 24.0, 48.0]) * HOUR
    assert int(jb.solve(reduced.replace(parameters=changed), f0, t=t, dt=3 * HOUR).result) == Result.levels_differ


def test_chunks_and_a_resumed_run_give_the_same_bits(together, tmp_path):
    _, reduced = together
    f0, t = profile(reduced.grid), np.array([0.0, 6.0, 12.0, 17.0, 22.0, 27.0, 32.0]) * HOUR   # some inside an interval
    kw = {"t": t, "dt": 3 * HOUR, "progress": False}
    whole = io.load(run(reduced, f0, out=tmp_path / "a.nc", chunk=3, **kw))
    with pytest.raises(Interrupted):
        run(reduced, f0, out=tmp_path / "b.nc", chunk=3, stop_after=1, **kw)
    parts = io.load(resume(tmp_path / "b.nc", reduced, progress=False))
    np.testing.assert_allclose(whole.f, jb.solve(reduced, f0, t=t, dt=3 * HOUR).f, rtol=1e-12)          # on one device
    assert np.array_equal(whole.f, parts.f) and all(np.array_equal(v, parts.budget[k]) for k, v in whole.budget.items())
    other = reduced.replace(tables=levels.Levels(reduced.tables.t, reduced.tables.index[::-1], reduced.tables.count))
    with pytest.raises(Interrupted):
        run(reduced, f0, out=tmp_path / "c.nc", chunk=3, stop_after=1, **kw)
    with pytest.raises(InputError, match="other parameters, boundary values or drivers"):
        resume(tmp_path / "c.nc", other, progress=False)
    bad = reduced.replace(boundary=reduced.boundary | {"outer": reduced.boundary["outer"].at[1].set(np.nan)})
    with pytest.raises(Diverged, match="NaN"):
        run(bad, profile(reduced.grid), out=tmp_path / "d.nc", chunk=3, **kw)


def test_what_has_no_levels_is_refused():
    with pytest.raises(ValueError, match="largest Kp of 24 h"):
        levels.reduce(single(lifetime=KpLifetime(kp=KP)))
    with pytest.raises(ValueError, match="changes between the jumps"):
        levels.reduce(single(lifetime=Series([0.0, DAY], [1.0, 2.0], "linear")))
    with pytest.raises(ValueError, match="other flows"):
        levels.reduce(dd.problem(dd.grid(cells=(8, 8)), dd.Parameters(phidot=lambda t, L, phi: L, dll=1.0), inner=0.0, outer=1.0))
    with pytest.raises(ValueError, match="linear in time"):
        levels.distinct(kp=Series([0.0, 1.0], [1.0, 2.0], "linear"))
    with pytest.raises(TypeError, match="outside of jit"):
        jax.jit(lambda p: levels.reduce(p).parameters)(single())


SMALL = ["case.duration=4 d", "output.every=1 d", "output.times=['0 d']", "grid.cells=[16]", "parameters.mu.count=3"]


@pytest.mark.slow
def test_the_case_is_the_same_by_levels_and_by_steps(tmp_path, monkeypatch):
    words = [*SMALL, "parameters.lifetime={model='kp', plasmapause='moldwin2002'}"]
    by_level = cases.load_case("belt-65-years", words)
    by_step = cases.load_case("belt-65-years", [*words, "numerics.method=steps", "numerics.dt=15 min"])
    assert by_level.problem.tables.groups == 1 and by_step.problem.tables is None
    a, b = (jb.solve(c.problem, c.f0, t=c.t, dt=c.dt) for c in (by_level, by_step))
    assert np.max(np.abs(a.f / b.f - 1)) < 1e-3
    path = tmp_path / "kp.txt"
    days = np.arange(np.datetime64("1958-01-01"), np.datetime64("1958-01-05"))
    values = by_step.drivers["kp"]["values"][8:].reshape(-1, 8)
    path.write_text("".join(f"{str(d).replace('-', '')} {' '.join(str(x) for x in row)} 250.0\n" for d, row in zip(days, values)))
    monkeypatch.chdir(tmp_path)
    read = cases.load_case("belt-65-years", [*words, "parameters.kp_file=kp.txt"])
    assert np.array_equal(read.drivers["kp"]["values"], values.ravel())


def test_the_case_says_what_levels_cannot_do():
    with pytest.raises(InputError, match="Kp alone"):
        cases.load_case("belt-65-years", [*SMALL, "parameters.dst=-20.0", "parameters.shadowing={model='dst'}"])
    with pytest.raises(InputError, match="numerics.method"):
        cases.load_case("storm-2013-03", ["numerics.method=levels", "parameters.shadowing={model='fixed', l_max=6.9}",
                                          "grid.cells=[8,8]"])
    with pytest.raises(InputError, match="either kp or kp_cycle"):
        cases.load_case("belt-65-years", [*SMALL, "parameters.kp=[1.0]"])
