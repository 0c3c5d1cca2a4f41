import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rbamlib.models.mp import S1998

import jaxbelt as jb
from jaxbelt import drift_diffusion as dd
from jaxbelt.coefficients import Series, function
from jaxbelt.physics.drivers import kp_series
from jaxbelt.physics.losses import BeltLifetime, KpLifetime, ShadowingLifetime
from jaxbelt.physics.magnetopause import (
    LastClosedShell,
    Magnetopause,
    flaring,
    last_closed_shell,
    magnetopause_radius,
    standoff,
)

pytestmark = pytest.mark.plain

THETA = np.deg2rad(np.linspace(0.0, 177.0, 60))
BZ = np.array([-25.0, -18.0, -5.0, -1e-3, 0.0, 1e-3, 4.0, 15.0])
PDYN = np.array([0.3, 0.5, 1.0, 2.0, 4.0, 8.5, 20.0, 60.0])
BOTH = ("shue1997", "shue1998")


def finite(tree):
    return all(np.all(np.isfinite(x)) for x in jax.tree.leaves(tree))


def test_last_closed_shell():
    np.testing.assert_allclose(last_closed_shell(np.array([0.0, -50.0, -100.0])), [9.37, 7.34175, 5.617], rtol=1e-13)
    dst = np.linspace(-2000.0, 50.0, 2051)
    shell = np.asarray(last_closed_shell(dst))
    assert np.all(np.diff(shell) >= 0.0)                       # never further out in a deeper storm
    np.testing.assert_allclose(shell[0], 9.37 - 0.0436**2 / (4 * 6.07e-5), rtol=1e-12)
    assert np.isclose(dst[np.argmax(shell > shell[0])], -359.0)
    slope = jax.vmap(jax.grad(last_closed_shell))(np.array([-1000.0, -100.0]))
    np.testing.assert_allclose(slope, [0.0, 0.0436 - 0.01214], rtol=1e-12)


def test_shue_1997_agrees_with_rbamlib():
    # rbamlib calls it S1998, its formulas are those of 1997
    # and its result for several moments at once is no longer one row a moment: give it one at a time
    theirs = np.array([S1998(THETA, np.array([bz]), np.array([pdyn]))[0] for bz, pdyn in zip(BZ, PDYN)])
    np.testing.assert_allclose(magnetopause_radius(THETA, BZ[:, None], PDYN[:, None], "shue1997"), theirs, rtol=1e-12)
    np.testing.assert_allclose(standoff(BZ, PDYN, "shue1997"), theirs[:, 0], rtol=1e-12)


def test_check_values():
    # SpacePy's documented standoff distances (getMPstandoff, Bz = -2.4 nT, 2 and 4 nPa)
    np.testing.assert_allclose(standoff(-2.4, np.array([2.0, 4.0]), "shue1997"), [9.96096838, 8.96790412], rtol=1e-8)
    np.testing.assert_allclose([standoff(0.0, 2.0, m) for m in BOTH], [10.2635, 10.2519], rtol=1e-5)
    np.testing.assert_allclose([flaring(0.0, 2.0, m) for m in BOTH], [0.5916, 0.58964861], rtol=1e-7)


def test_shue_1998_by_hand():
    for bz, pdyn in ((-15.0, 5.0), (3.0, 1.0)):
        r0 = (10.22 + 1.29 * np.tanh(0.184 * (bz + 8.14))) * pdyn ** (-1 / 6.6)
        a = (0.58 - 0.007 * bz) * (1 + 0.024 * np.log(pdyn))
        np.testing.assert_allclose(standoff(bz, pdyn), r0, rtol=1e-13)
        # at the terminator the opening is 2, so r = r0 2^a
        np.testing.assert_allclose(magnetopause_radius(np.pi / 2, bz, pdyn), r0 * 2**a, rtol=1e-13)
        np.testing.assert_allclose(magnetopause_radius(1.0, bz, pdyn), r0 * (2 / (1 + np.cos(1.0))) ** a, rtol=1e-13)


@pytest.mark.parametrize("model", BOTH)
def test_the_open_tail_is_finite(model):
    theta = np.sort(np.concatenate([THETA, np.pi - np.logspace(-1, -9, 20), [np.pi]]))
    values = jax.jit(jax.vmap(jax.value_and_grad(lambda *a: magnetopause_radius(*a, model), argnums=(0, 1, 2)),
                              (0, None, None)))(theta, -10.0, 4.0)
    assert finite(values) and np.all(np.diff(values[0]) >= 0.0)
    assert 300.0 < values[0][-1] < 1e4 and values[1][0][-1] == 0.0
    extreme = magnetopause_radius(THETA, np.array([-150.0, 60.0])[:, None], np.array([80.0, 0.05])[:, None], model)
    assert finite(extreme) and np.all(extreme > 0.0)
    single = magnetopause_radius(THETA[:50].astype(np.float32), np.float32(-10.0), np.float32(4.0), model)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, magnetopause_radius(THETA[:50], -10.0, 4.0, model), rtol=2e-6)


@pytest.mark.parametrize("model", BOTH)
def test_gradients_agree_with_differences(model):
    f = jax.jit(lambda *a: magnetopause_radius(*a, model))
    at, h = (2.0, -7.0, 3.0), 1e-5
    for k, slope in enumerate(jax.grad(f, argnums=(0, 1, 2))(*at)):
        up, down = ([x + s * h * (i == k) for i, x in enumerate(at)] for s in (1, -1))
        np.testing.assert_allclose(slope, (f(*up) - f(*down)) / (2 * h), rtol=1e-7)


def test_magnetopause_in_the_equatorial_plane():
    phi = np.linspace(0.0, 2 * np.pi, 24, endpoint=False)
    wind = {"bz": Series([0.0, 100.0], [2.0, -12.0], "linear"), "pdyn": Series([0.0, 50.0], [1.0, 8.0])}
    for model in BOTH:
        r = np.asarray(Magnetopause(**wind, model=model)(75.0, 6.0, phi))
        np.testing.assert_allclose(r, magnetopause_radius(np.abs(phi - np.pi), -8.5, 8.0, model), rtol=1e-12)
        assert np.argmin(r) == 12 and np.argmax(r) == 0           # nearest at noon, phi = pi
        np.testing.assert_allclose(r[1:], r[:0:-1], rtol=1e-12)   # dawn and dusk alike
        np.testing.assert_allclose(Magnetopause(**wind, model=model)(75.0, 6.0), r[12], rtol=1e-13)
    moved = Magnetopause(bz=-3, pdyn=2, shift=-0.5)
    np.testing.assert_allclose(moved(0.0, 6.0, phi), magnetopause_radius(np.abs(phi - np.pi), -3.0, 2.0) - 0.5, rtol=1e-12)


def test_callables_trace_once_and_differentiate():
    phi = np.linspace(0.0, 2 * np.pi, 16, endpoint=False)
    mp = Magnetopause(bz=Series([0.0, 10.0], [0.0, -5.0]), pdyn=2.0, model="shue1997")
    traced = []

    @jax.jit
    def total(m):
        traced.append(1)
        return jnp.sum(1.0 / m(5.0, 6.0, phi))

    for pdyn in (1.0, 2.0, 3.0):
        np.testing.assert_allclose(total(mp.replace(pdyn=pdyn)), np.sum(1 / mp.replace(pdyn=pdyn)(5.0, 6.0, phi)), rtol=1e-13)
    assert len(traced) == 1
    assert finite(jax.grad(total)(mp))
    shell = LastClosedShell(dst=Series([0.0, 10.0], [-20.0, -400.0]))
    slope = jax.grad(lambda s: s(5.0, 6.0))(shell)
    np.testing.assert_allclose(slope.dst.values, [0.0436 - 40 * 6.07e-5, 0.0], rtol=1e-12)
    np.testing.assert_allclose([shell(5.0, 6.0, 1.0), shell.replace(shift=1.0)(20.0, 6.0)], [8.52228, 2.5406754], rtol=1e-7)


@pytest.mark.parametrize("make, message", [
    (lambda: standoff(0.0, 0.0), r"^standoff pdyn = 0 nPa: .*must be positive$"),
    (lambda: standoff(0.0, np.array([1.0, -2.0])), r"standoff pdyn\[1\] = -2 nPa"),
    (lambda: standoff(np.nan, 1.0), "standoff bz = nan nT: missing"),
    (lambda: flaring(999.9, 1.0), "flaring bz = 999.9 nT"),
    (lambda: standoff(0.0, 1.0, "shue1996"), "standoff model: 'shue1996' is unknown; use 'shue1997' or 'shue1998'"),
    (lambda: magnetopause_radius(3.2, 0.0, 1.0), "^magnetopause_radius theta = 3.2 rad: .*between 0 and pi$"),
    (lambda: magnetopause_radius(-0.1, 0.0, 1.0), "theta = -0.1 rad"),
    (lambda: Magnetopause(bz=0.0, pdyn=Series([0.0, 1.0], [2.0, 99.99])), r"Magnetopause pdyn\[1\] = 99.99 nPa"),
    (lambda: Magnetopause(bz=0.0, pdyn=2.0, model="1998"), "Magnetopause model: '1998'"),
    (lambda: LastClosedShell(dst=Series([0.0, 1.0], [-20.0, 99999.0])), r"LastClosedShell dst\[1\] = 99999 nT"),
    (lambda: last_closed_shell(np.nan), "last_closed_shell dst = nan nT"),
])
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.optimised
def test_content_beyond_the_last_closed_shell_is_gone_within_minutes():
    grid = dd.grid(L=(3.0, 9.0), cells=24, spacing="linear")
    L = grid["L"].centers
    # Dst drops from -20 to -100 nT after an hour: Lmax from 8.52 to 5.62
    shell = LastClosedShell(dst=Series([0.0, 3600.0], [-20.0, -100.0]))
    prm = dd.Parameters(lifetime=ShadowingLifetime(l_max=shell))
    f = np.asarray(jb.solve(dd.problem(grid, prm), jnp.ones(grid.shape), t=[0.0, 3600.0, 3900.0], dt=60.0).f)
    beyond = L > 5.617 + 0.1
    np.testing.assert_array_equal(f[1][L < 8.52], 1.0)         # the hour before, only the outermost shells are open
    assert np.all(f[1][L > 8.62] < 1e-6) and np.all(f[2][beyond] < 1e-6)
    np.testing.assert_array_equal(f[2][L < 5.617], 1.0)


def test_a_boundary_in_mlt_empties_only_what_it_cuts_off():
    grid = dd.grid(L=(5.0, 10.0), cells=(10, 16), spacing="linear")
    L, phi = np.broadcast_arrays(*grid.mesh())
    mp = Magnetopause(bz=-10.0, pdyn=6.0)                      # 7.4 R_E at noon, 11.4 at the terminator
    kp = kp_series([1.0, 5.0], times=[0.0, 1800.0])
    belt = BeltLifetime(kp=kp, energy=0.5)
    prm = dd.Parameters(lifetime=ShadowingLifetime(l_max=mp, inside=belt))
    f = np.asarray(jb.solve(dd.problem(grid, prm), jnp.ones(grid.shape), t=[0.0, 3600.0], dt=900.0).f[-1])
    r = np.broadcast_to(mp(0.0, L, phi), L.shape)
    outside = L > r + 0.1
    assert 10 < outside.sum() < 80 and np.all(np.cos(phi[outside]) < 0.0)
    assert np.all(f[outside] < 1e-6)
    # elsewhere the loss of the belt itself, half an hour at each Kp, by day and night
    slow = sum(belt.rate(t, *grid.mesh()) for t in (1.0, 1801.0)) / 48.0
    closed = L < r
    np.testing.assert_allclose(f[closed], np.exp(-slow)[closed], rtol=1e-4)
    assert 0.5 < f[closed].min() < 0.99


def test_shadowing_takes_other_losses_inside():
    inside = KpLifetime(kp=kp_series([3.0, 3.0]))
    tau = ShadowingLifetime(l_max=LastClosedShell(dst=function(lambda t: -100.0 + 0.0 * t)), inside=inside)
    np.testing.assert_allclose(tau(0.0, np.array([3.0, 5.0, 7.0])), [10.0, 1.0, 0.1 / 1440], rtol=1e-10)
