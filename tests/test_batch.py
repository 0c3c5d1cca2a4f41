"""`run_many`: each run is the run that it would be alone, on any number of devices, in any chunk."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxbelt as jb
from jaxbelt import batch
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
    (lambda p: jb.run_many(p, 1.0, jb.sweep({"dll.power": [[1.0, 2.0]]}), t=T, dt=DT), "an entry has shape"),
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
