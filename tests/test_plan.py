"""The static plan: jumps are never crossed, outputs are met, equal structures share a scan, bad input is named."""

import jax
import numpy as np
import pytest

from jaxbelt.plan import plan


def edges(schedule):
    """All (start, end) of steps, in order."""
    out = []
    for g in schedule.groups:
        for starts, steps in zip(np.asarray(g.start), np.asarray(g.dt)):
            for a, d in zip(starts, steps):
                out += [(a + k * d, a + (k + 1) * d) for k in range(g.steps)]
    return np.array(out)


def check(t, dt, jumps=()):
    schedule = plan(t, dt, jumps)
    steps = edges(schedule)
    scale = 1e-9 * max(abs(t[0]), abs(t[-1]))
    assert np.all(steps[:, 1] - steps[:, 0] <= dt * (1 + 1e-9))
    np.testing.assert_allclose(steps[1:, 0], steps[:-1, 1], rtol=0, atol=scale)
    assert steps[0, 0] == t[0] and abs(steps[-1, 1] - t[-1]) <= scale
    ends = np.concatenate([steps[:1, 0], steps[:, 1]])
    for moment in (*t, *(j for j in jumps if t[0] < j < t[-1])):
        assert np.min(np.abs(ends - moment)) <= scale, moment
    assert schedule.total_steps == len(steps)
    for g in schedule.groups:
        assert np.all(np.asarray(g.dt) <= g.dt_max)
        assert np.all(np.abs(np.asarray(g.mid) - np.asarray(g.start) - 0.5 * g.steps * np.asarray(g.dt)) <= scale + 1e-12)
    return schedule


def test_regular():
    schedule = check(np.arange(0.0, 11.0) * 3600, 300.0)
    assert len(schedule.groups) == 1 and schedule.groups[0].steps == 12 and schedule.total_steps == 120


def test_step_that_divides_only_within_rounding():
    assert plan([0.0, 0.3], 0.1).total_steps == 3
    assert plan([0.0, 1.0], 1 / 3).total_steps == 3
    assert plan([0.0, 1.0], 0.4).total_steps == 3
    assert plan([0.0, 1.0], 50.0).total_steps == 1


def test_jumps_inside_on_and_outside():
    schedule = check(np.arange(0.0, 5.0) * 3600, 600.0, jumps=(-50.0, 0.0, 1800.0, 3600.0, 5000.5, 1e9))
    assert 1 < len(schedule.groups) <= 5
    # a step driver is read at mid: never on an edge
    for g in schedule.groups:
        assert not np.any(np.isin(np.asarray(g.mid), (1800.0, 3600.0, 5000.5)))


def test_jumps_of_a_month_form_one_scan():
    hours = 3600.0
    schedule = check(np.arange(31) * 24 * hours, 300.0, jumps=tuple(np.arange(240) * 3 * hours))
    assert len(schedule.groups) == 1
    assert np.asarray(schedule.groups[0].start).shape == (30, 8) and schedule.groups[0].steps == 36


def test_irregular_is_refined_to_one_structure():
    """Jumps at no pattern: one common structure, unless that doubles the work."""
    rng = np.random.default_rng(0)
    t = np.arange(40.0) * 100
    jumps = tuple(np.sort(rng.uniform(0, 3900, 30)))
    schedule = check(t, 5.0, jumps)
    assert len(schedule.groups) == 1
    bare = sum(int(np.ceil(x / 5.0)) for x in np.diff(np.unique([*t, *jumps])))
    print(f"steps {schedule.total_steps}, least possible {bare}")
    assert schedule.total_steps <= 2.5 * bare
    # one period a hundred times longer: refining all to its steps would multiply the work
    long = np.cumsum([0.0, *([1.0, 7.0, 1.0, 13.0, 1.0] * 4), 20_000.0])
    assert len(check(long, 1.0).groups) > 1


def test_equal_structure_is_equal_for_jit():
    a, b = plan(np.arange(5.0) * 100, 7.0, (50.0,)), plan(1e5 + np.arange(5.0) * 100, 7.0, (1e5 + 50.0,))
    assert jax.tree.structure(a) == jax.tree.structure(b)
    assert [np.shape(x) for x in jax.tree.leaves(a)] == [np.shape(x) for x in jax.tree.leaves(b)]
    assert jax.tree.structure(plan(np.arange(5.0) * 100, 6.0)) != jax.tree.structure(plan(np.arange(5.0) * 100, 3.0))


@pytest.mark.parametrize("t,dt,message", [
    ([0.0, 2.0, 1.0], 1.0, r"t: times must increase, but t\[2\] = 1 follows t\[1\] = 2"),
    ([0.0, 1.0, 1.0], 1.0, r"t: times must increase"),
    ([0.0], 1.0, r"t: needs at least two times.*shape \(1,\)"),
    (5.0, 1.0, r"t: needs at least two times"),
    ([[0.0, 1.0]], 1.0, r"t: needs at least two times"),
    ([0.0, np.nan], 1.0, r"t: every time must be finite"),
    ([0.0, np.inf], 1.0, r"t: every time must be finite"),
    ([0.0, 1.0], 0.0, r"dt: must be a positive number of seconds, got 0"),
    ([0.0, 1.0], -3.0, r"dt: must be a positive number of seconds, got -3"),
    ([0.0, 1.0], np.nan, r"dt: must be a positive number"),
    ([0.0, 1.0], np.inf, r"dt: must be a positive number"),
])
def test_bad_input(t, dt, message):
    with pytest.raises(ValueError, match=message):
        plan(t, dt)


def test_traced_times_are_refused():
    with pytest.raises(TypeError, match="t and dt must be concrete"):
        jax.jit(lambda t: plan(t, 1.0).total_steps)(np.array([0.0, 1.0]))
    with pytest.raises(TypeError, match="t and dt must be concrete"):
        jax.jit(lambda dt: plan([0.0, 1.0], dt).total_steps)(1.0)
