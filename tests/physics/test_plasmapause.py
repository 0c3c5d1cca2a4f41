import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rbamlib.models.lpp import CA1992, M2002, OBM2003

from jaxbelt.coefficients import Series, Time, function, jumps
from jaxbelt.physics.drivers import kp_series
from jaxbelt.physics.losses import BeltLifetime, KpLifetime
from jaxbelt.physics.plasmapause import Plasmapause, carpenter_anderson, moldwin, obrien_moldwin
from jaxbelt.plan import plan

pytestmark = pytest.mark.plain

HOUR = 3600.0
WINDOWS = {"carpenter1992": (24.0, 0.0), "moldwin2002": (12.0, 0.0), "obrien2003": (36.0, 2.0)}
LINES = {"carpenter1992": (5.6, 0.46), "moldwin2002": (5.39, 0.382), "obrien2003": (5.9, 0.43)}


def random_kp(n=40, seed=1):
    return np.round(np.random.default_rng(seed).uniform(0, 9, n), 1)


def greatest(kp, t, begin, end):
    """The largest value that holds at some moment of [t - begin, t - end], by looking at every value."""
    starts, ends = np.asarray(kp.t), np.append(kp.t[1:], np.inf)
    lo, hi = t - begin * HOUR, t - end * HOUR
    holds = (starts <= hi) & (ends > lo)
    holds[0] |= lo < starts[0]
    return np.max(np.asarray(kp.values)[holds])


def test_check_values():
    np.testing.assert_allclose([carpenter_anderson(3.0), moldwin(3.0), obrien_moldwin(3.0)], [4.22, 4.244, 4.61], rtol=1e-14)


@pytest.mark.parametrize("model", WINDOWS)
def test_the_maximum_is_that_of_every_value_in_the_window(model):
    (begin, end), (a, b) = WINDOWS[model], LINES[model]
    # spacing that does not divide the windows
    kp = kp_series(random_kp(), times=np.cumsum(np.random.default_rng(2).uniform(0.7, 4.3, 40)) * HOUR)
    lpp = jax.jit(jax.vmap(Plasmapause(kp=kp, model=model)))
    t = np.linspace(kp.t[0] + 1.0, kp.t[-1] + 40 * HOUR, 501)
    expected = [a - b * greatest(kp, x, begin, end) for x in t]
    np.testing.assert_allclose(lpp(t), expected, rtol=1e-13)


def test_agrees_with_rbamlib():
    # rbamlib takes samples, not steps: give it 10-minute samples, and compare where its windows begin with a step
    values = random_kp()
    kp = kp_series(values)
    t = np.arange(0.0, 40 * 3 * HOUR, 600.0)
    dense = np.repeat(values, 18)
    sharp = np.isclose(t % (3 * HOUR), 0.0)
    for model, theirs in (("moldwin2002", M2002(t / 86400, dense)), ("carpenter1992", CA1992(t / 86400, dense)),
                          ("obrien2003", OBM2003(t / 86400, dense, "Kp"))):
        ours = np.asarray(jax.vmap(Plasmapause(kp=kp, model=model))(t[sharp] + 1e-3))
        both = np.isfinite(theirs[sharp])
        assert both.sum() >= 39
        np.testing.assert_allclose(ours[both], theirs[sharp][both], rtol=1e-13)


@pytest.mark.parametrize("model", WINDOWS)
def test_steps_end_where_the_maximum_jumps(model):
    begin, end = WINDOWS[model]
    kp = kp_series([1.0, 6.0, 2.0, 1.0], times=np.array([0.0, 5.0, 9.5, 13.0]) * HOUR)
    expected = {(5.0 + end) * HOUR, (9.5 + begin) * HOUR, (13.0 + begin) * HOUR}       # up to 6, down to 2, to 1
    lpp = Plasmapause(kp=kp, model=model)
    assert expected <= set(jumps(lpp))
    t = np.sort(list(expected))
    np.testing.assert_allclose(jax.vmap(lpp.maximum)(t + 1.0) - jax.vmap(lpp.maximum)(t - 1.0), [5.0, -4.0, -1.0])
    # the intervals of a run, in which a step driver is constant, begin there
    starts = np.concatenate([np.ravel(g.start) for g in plan([0.0, 60 * HOUR], HOUR, jumps(lpp)).groups])
    assert all(np.min(np.abs(starts - x)) < 1e-6 for x in expected)


def test_lifetimes_share_the_jumps():
    kp = kp_series([1.0, 6.0, 2.0], times=np.array([0.0, 5.0, 9.5]) * HOUR)
    lpp = Plasmapause(kp=kp, model="obrien2003")
    assert {7.0 * HOUR, 45.5 * HOUR} <= set(jumps(KpLifetime(kp=kp, lpp=lpp)))
    belt = BeltLifetime(kp=kp, energy=1.0)
    assert 33.5 * HOUR in jumps(belt) and 45.5 * HOUR not in jumps(belt)
    assert 45.5 * HOUR in jumps(belt.replace(lpp=lpp))
    assert not jumps(BeltLifetime(kp=3.0, energy=1.0))


def test_the_middle_of_the_interval_is_what_counts_for_a_step_series():
    kp = kp_series([1.0, 6.0, 1.0])
    lpp = Plasmapause(kp=kp, model="obrien2003")
    edge = 5.0 * HOUR                                           # Kp = 6 since 3 h, seen from 5 h on
    after, before = Time(edge, 0.0, edge + 100.0), Time(edge - 600.0, 600.0, edge - 100.0)
    np.testing.assert_allclose([lpp.maximum(after), lpp.maximum(before)], [6.0, 1.0])


def test_other_drivers():
    np.testing.assert_allclose(Plasmapause(kp=3)(0.0, 4.0, 1.0), 4.22)
    np.testing.assert_allclose(Plasmapause(kp=3, shift=-0.2)(0.0, 4.0), 4.02)
    np.testing.assert_allclose(Plasmapause(kp=function(lambda t: t / 3600.0), model="moldwin2002")(2 * HOUR), 5.39 - 0.764)
    np.testing.assert_allclose(Plasmapause(kp_max=Series([0.0, 10.0], [2.0, 4.0]))(11.0), 5.6 - 1.84)
    ramp = Series([0.0, 10 * HOUR, 20 * HOUR], [0.0, 5.0, 0.0], "linear")
    lpp = Plasmapause(kp=ramp, model="obrien2003")
    # the window ends 2 h ago: still on the ramp at 8 h, past the peak at 15 h
    np.testing.assert_allclose([lpp.maximum(8 * HOUR), lpp.maximum(15 * HOUR)], [3.0, 5.0], rtol=1e-13)


def test_gradients_and_traces():
    kp = kp_series([1.0, 6.0, 2.0, 3.0])
    lpp, t = Plasmapause(kp=kp, model="moldwin2002"), 10.0 * HOUR
    gradient = jax.grad(lambda x: x(t))(lpp)
    np.testing.assert_allclose(gradient.kp.values, [0.0, -0.382, 0.0, 0.0])
    assert gradient.shift == 1.0
    traced = []

    @jax.jit
    def f(x):
        traced.append(1)
        return x(t)

    for scale in (1.0, 0.5):
        np.testing.assert_allclose(f(lpp.replace(kp=Series(kp.t, scale * kp.values))), 5.39 - 0.382 * 6.0 * scale)
    assert len(traced) == 1
    single = jax.vmap(lambda s: lpp.replace(shift=s)(jnp.float32(t)))(np.array([0.0, 1.0], dtype=np.float32))
    np.testing.assert_allclose(single[1] - single[0], 1.0, rtol=1e-6)


@pytest.mark.parametrize("make, message", [
    (lambda: Plasmapause(kp=3.0, model="carpenter"), "Plasmapause model: 'carpenter' is unknown; use 'carpenter1992'"),
    (lambda: Plasmapause(), "give kp, or its maximum"),
    (lambda: Plasmapause(kp=3.0, kp_max=3.0), "give kp, or its maximum"),
    (lambda: Plasmapause(kp=27.0), "Plasmapause kp = 27"),
    (lambda: Plasmapause(kp_max=-1.0), "Plasmapause kp_max = -1"),
])
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
