"""`run_many`: each run is the run that it would be alone, on any number of devices, in any chunk."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxbelt as jb
from jaxbelt import batch, batch_checks, batch_plan
from jaxbelt import drift_diffusion as dd

pytestmark = pytest.mark.plain
T, DT = (0.0, 43200.0, 86400.0), 7200.0


@pytest.fixture(scope="module")
def problem():
    grid = dd.grid(L=(2.0, 7.0), cells=12)
    return dd.problem(grid, dd.Parameters(dll=jb.radial_diffusion.BrautigamAlbert(kp=3.0), lifetime=5.0), inner=1e-3, outer=1.0)


@pytest.fixture(scope="module")
def start(problem):
    return np.exp(-(problem.grid["L"].centers - 4.0) ** 2) + 1e-3


@pytest.fixture(scope="module")
def many(problem, start):
    sweep = jb.sweep({"dll.log_amplitude": [-1.0, 0.0, 1.0], "outer": [1.0, 2.0]}, how="grid")
    return jb.run_many(problem, start, sweep, t=T, dt=DT, chunk=4, devices=jax.devices()[:1])


def test_every_run_is_the_run_alone(problem, start, many):
    """The fifth of six runs, in the second chunk with two copies to fill it, against solve."""
    assert many.sweep.shape == (3, 2) and many.f.shape == (6, 3, 12) and not many.result.any()
    prm = problem.parameters
    alone = problem.replace(parameters=prm.replace(dll=prm.dll.replace(log_amplitude=jnp.asarray(1.0))),
                            boundary={**problem.boundary, "outer": jnp.asarray(1.0)})
    one = jb.solve(alone, start, t=T, dt=DT)
    np.testing.assert_allclose(many.f[4], one.f, rtol=1e-13)
    for name, value in one.budget.items():
        np.testing.assert_allclose(many.budget[name][4], value, rtol=1e-12, atol=1e-15)


def test_what_is_kept_and_the_start_varied(problem, start):
    states = np.stack([start, 2 * start])
    many = jb.run_many(problem, start, jb.sweep({"initial": states}), t=T, dt=DT, keep=_last)
    assert many.f.shape == (2, 12)
    assert many.f[1].max() > many.f[0].max()
    with pytest.raises(ValueError, match="kept something else"):
        many.to_xarray()


def test_words_of_what_is_kept(problem, start, many):
    """The words of `run_batch`."""
    def kept(word):
        return jb.run_many(problem, start, many.sweep, t=T, dt=DT, keep=word, chunk=6, devices=jax.devices()[:1]).f

    np.testing.assert_allclose(kept("last"), many.f[:, -1], rtol=1e-13)
    np.testing.assert_allclose(kept("content"), problem.grid.content(many.f), rtol=1e-12)


def _last(f):
    return f[-1]


def test_as_xarray(many):
    data = many.to_xarray()
    assert data["f"].dims == ("run", "time", "L") and data["budget_loss"].dims == ("run", "time")
    assert data["dll.log_amplitude"].values.tolist() == [-1.0, -1.0, 0.0, 0.0, 1.0, 1.0]
    np.testing.assert_array_equal(data["f"].values, many.f)


def test_random_sweeps_do_not_depend_on_what_else_is_drawn():
    a = jb.draws({"x": ("uniform", 0.0, 1.0), "y": ("log-uniform", 1e-3, 1.0)}, 100, seed=3)
    b = jb.draws({"y": ("log-uniform", 1e-3, 1.0)}, 100, seed=3)
    np.testing.assert_array_equal(a.values["y"], b.values["y"])
    assert np.ptp(np.log(b.values["y"])) > 0.8 * np.log(1e3) and len(a) == 100


@pytest.mark.parametrize("make, message", [
    (lambda p: jb.sweep({}), "at least one name"),
    (lambda p: jb.sweep({"dll.power": []}), "at least one run"),
    (lambda p: jb.sweep({"dll.power": [1.0, 2.0], "outer": [1.0]}), "dll.power has 2, outer has 1"),
    (lambda p: jb.sweep({"dll.power": [np.nan]}), "must be finite"),
    (lambda p: jb.draws({"x": ("log-uniform", 0.0, 1.0)}, 3), "0 < low"),
    (lambda p: jb.run_many(p, 1.0, jb.sweep({"dll.powe": [1.0]}), t=T, dt=DT), 'did you mean "dll.power"'),
    (lambda p: jb.run_many(p, 1.0, jb.sweep({"dll.power": [[1.0, 2.0]]}), t=T, dt=DT), "must be one number, .* got 2 values"),
    (lambda p: jb.run_many(p, 1.0, jb.sweep({"initial": [1.0, 2.0]}), t=T, dt=DT), r"the shape of f, \(12,\), got one number"),
    (lambda p: jb.run_many(p, 1.0, jb.sweep({"lifetime": [1.0, 2.0, -4.48]}), t=T, dt=DT),
     r"run 2 \(lifetime = -4.48 day\): lifetime: must be positive everywhere, got -4.48"),
    (lambda p: jb.run_many(p, 1.0, jb.sweep({"dll.kp": [1.0, 33.0]}), t=T, dt=DT), r"run 1 \(dll.kp = 33\): .*Kp lies between 0"),
    (lambda p: jb.run_many(p, 1.0, jb.sweep({"outer": [1.0]}), t=T, dt=DT, keep="lats"), "'lats' is unknown; use one of all"),
    (lambda p: jb.run_many(p, 1.0, jb.sweep({"outer": [1.0]}), t=T, dt=DT, keep=3), "keep: must be one of all.* got 3"),
    (lambda p: batch.chunk_of(p, 10, 3, jax.devices()[:1], "a"), "whole number of runs, at least 1, got 'a'"),
    (lambda p: batch.chunk_of(p, 10**12, 10**6, jax.devices()[:1], 10**9), "GiB are free"),
    (lambda p: batch.chunk_of(p, 10, 3, jax.devices()[:1], 0), "at least 1"),
])
def test_sweeps_that_cannot_be(problem, make, message):
    with pytest.raises(ValueError, match=message):
        make(problem)


def test_chunks_follow_memory_and_devices(problem):
    devices = jax.devices()[:1] * 8
    assert batch.chunk_of(problem, 21, 5, devices) == 24
    assert batch.chunk_of(problem, 1000, 5, devices, 10) == 16


STORM = jb.Series(21600.0 * np.arange(4), [2.0, 6.0, 4.0, 2.0])


def test_a_series_is_not_flattened_by_one_number(problem, start):
    """Kp of a storm as four values: an entry has four; a note where the lifetime keeps its own copy."""
    prm = problem.parameters.replace(dll=jb.radial_diffusion.BrautigamAlbert(kp=STORM), lifetime=jb.losses.KpLifetime(kp=STORM))
    storm = dd.problem(problem.grid, prm, inner=1e-3, outer=1.0)
    with pytest.raises(ValueError, match="dll.kp.values: an entry must have 4 values, as the parameter has; got one number; to "
                                         "scale D_LL sweep dll.log_amplitude"):
        batch.places(storm, start, jb.sweep({"dll.kp.values": [1.0, 2.0]}))
    with pytest.raises(ValueError, match="lifetime.kp.values: .* got 2 values$"):
        batch.places(storm, start, jb.sweep({"lifetime.kp.values": [[1.0, 2.0]]}))
    with pytest.raises(ValueError, match="'kp' is no parameter .*; Kp is a driver in dll.kp.values, lifetime.kp.values"):
        batch.places(storm, start, jb.sweep({"kp": [1.0, 2.0]}))
    both = jb.sweep({"dll.kp.values": [[2.0, 6.0, 4.0, 2.0], [1.0, 2.0, 3.0, 4.0]]})
    assert batch_checks.unvaried(storm, start, both) == ["kp is varied in dll.kp.values, but not in lifetime.kp.values"]
    assert not batch_checks.unvaried(storm, start, jb.sweep({k: both.values["dll.kp.values"] for k in
                                                            ("dll.kp.values", "lifetime.kp.values")}))
    with pytest.raises(ValueError, match=r"run 1 \(dll.kp.values from 2 to 60\): .*Kp lies between 0 and 9"):
        batch_checks.check_values(storm, start, jb.sweep({"dll.kp.values": [[2.0, 6.0, 4.0, 2.0], [2.0, 60.0, 4.0, 2.0]]}))


def test_one_value_for_all_nodes(start):
    """A number stands for all nodes where they had it in common, and not where they differ."""
    def prm(mu):
        return dd.Parameters(dll=jb.radial_diffusion.BrautigamAlbert(kp=STORM), lifetime=mu / 100.0)

    nodes = dd.problem(dd.grid(L=(2.0, 7.0), cells=12, mu=[100.0, 300.0]), prm, inner=1e-3, outer=1.0)
    found = batch.places(nodes, 1.0, jb.sweep({"outer": [1.0, 2.0], "dll.kp.values": [[1.0, 2.0, 3.0, 4.0]] * 2}))
    assert [shape for _, _, shape in found] == [(2,), (2, 4)]
    with pytest.raises(ValueError, match="lifetime: differs from node to node; give an entry for each of the 2 nodes"):
        batch.places(nodes, 1.0, jb.sweep({"lifetime": [1.0, 2.0]}))
    with pytest.raises(ValueError, match=r"run 0 \(lifetime from -2 to 1\): lifetime: must be positive"):
        batch_checks.check_values(nodes, 1.0, jb.sweep({"lifetime": [[1.0, -2.0]]}))


def test_units_follow_the_equation(problem):
    units = {name: batch_checks.unit_of(name, problem, "s^3/m^6") for name in
             ("dll.log_amplitude", "lifetime", "dll.kp.values", "outer.values", "source", "dll.whatever")}
    assert list(units.values()) == ["1", "day", "1", "s^3/m^6", "s^3/m^6/day", ""]
    assert batch_checks.unit_of("lifetime", problem.replace(time_unit="R_p/v_th")) == "R_p/v_th"


def test_a_changed_choice_is_named(problem, start):
    """A static entry, a value that nodes share, and a few values."""
    law = problem.parameters.dll
    other = problem.replace(parameters=problem.parameters.replace(dll=law.replace(reference_l=5.0)))
    sweep = jb.sweep({"lifetime": [1.0, 2.0]})
    made = [batch_plan.signature(p, start, sweep, np.array(T), DT, "all", "double") for p in (problem, other)]
    assert batch_plan.difference(*made) == "dll.reference_l was 1, now 5"
    assert batch_plan.difference({"x": batch_plan._text([10.0, 10.0])}, {"x": batch_plan._text([9.0, 9.5])}) == \
        "x was 10 (2 times), now [9, 9.5]"


def test_devices_share_the_runs_and_send_nothing(problem, start, many):
    """One run on each of eight devices: the same as on one device, and no collective in the compiled program."""
    places, values = batch.places(problem, start, many.sweep), batch.take(many.sweep.values, np.minimum(np.arange(8), 5))
    program = batch._program(places, batch.Frozen(T), DT, None, tuple(jax.devices()[:8]))
    compiled = program.lower(problem, jnp.asarray(start), values).compile()
    f, _, code = compiled(problem, jnp.asarray(start), values)
    np.testing.assert_allclose(f[:6], many.f, rtol=1e-13)
    assert len(f.sharding.device_set) == 8 and not code.any()
    text = compiled.as_text()
    assert "num_partitions=8" in text
    for word in ("all-reduce", "all-gather", "all-to-all", "collective", "reduce-scatter", "send(", "recv("):
        assert word not in text


@jb.parameters
class Hill:
    """level exp(-(L - 4)^2)"""

    level: float = 1.0

    def __call__(self, grid):
        return self.level * jnp.exp(-(grid["L"].centers - 4.0) ** 2)


def test_leaves_of_what_makes_the_initial_state(problem):
    """A callable f0 with leaves: swept by name, as in a fit."""
    many = jb.run_many(problem, Hill(), jb.sweep({"initial.level": [1.0, 3.0]}), t=T, dt=DT, keep=_last, chunk=8)
    one = jb.solve(problem, Hill(level=3.0)(problem.grid), t=T, dt=DT)
    np.testing.assert_allclose(many.f[1], one.f[-1], rtol=1e-13)
    with pytest.raises(ValueError, match="'initial' is no parameter of this problem; it holds initial.level"):
        jb.run_many(problem, Hill(), jb.sweep({"initial": [1.0]}), t=T, dt=DT)
