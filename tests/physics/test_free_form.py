"""Coefficients and profiles of free form: the monotone cubic, knots, laws in Kp, dependence on MLT, starts and walls."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import plain_jit
from scipy.interpolate import PchipInterpolator

import jaxbelt as jb
from jaxbelt import drift_diffusion as dd
from jaxbelt.physics.free_form import InitialProfile, Knots, KpPower, Modulated, WallProfile, monotone
from jaxbelt.physics.radial_diffusion import BrautigamAlbert

pytestmark = pytest.mark.plain
NODES = np.array([0.0, 1.0, 1.7, 3.0, 3.4])
VALUES = np.array([[-2.0, -1.0, 0.5, 0.6, 3.0], [1.0, 3.0, 2.0, 2.0, -1.0], [2.0, 2.0, 2.0, 2.0, 2.0]])
_spline = plain_jit(lambda v, x: monotone(NODES, v, x))


def test_the_cubic_of_scipy_inside():
    """PCHIP has the same slopes at inner nodes; at its ends, where ours goes on along the neighbour's line, it differs."""
    x = np.linspace(1.0, 3.0, 41)
    for values in (np.array([-2.0, -1.0, 0.5, 1.6, 2.0]), VALUES[2], np.array([0.0, 1.0, 0.6, -0.5, -0.8])):
        np.testing.assert_allclose(_spline(values, x), PchipInterpolator(NODES, values)(x), atol=1e-14)


def test_no_kink_in_the_values():
    """Through an extremum that comes and goes: the derivative in the values is continuous."""
    x = np.array([0.8, 1.3, 2.0, 2.9])
    slope = plain_jit(jax.jacfwd(lambda v: monotone(NODES, v, x)))
    for k in range(5):
        v = np.array([0.0, 1.0, 1.0, 2.0, 3.0])
        e = 1e-6 * np.eye(5)[k]
        np.testing.assert_allclose(slope(v + e), slope(v - e), atol=1e-4)


@pytest.mark.parametrize("values", VALUES)
def test_never_beyond_its_neighbours_and_through_the_nodes(values):
    np.testing.assert_allclose(_spline(values, NODES), values, atol=1e-15)
    for a, b, low, high in zip(NODES[:-1], NODES[1:], values[:-1], values[1:]):
        seen = np.asarray(_spline(values, np.linspace(a, b, 41)))
        step = np.diff(seen) * np.sign(high - low)
        assert seen.min() >= min(low, high) - 1e-14 and seen.max() <= max(low, high) + 1e-14 and step.min() >= -1e-14


def test_straight_lines_are_kept_and_go_on():
    x = np.linspace(-2.0, 6.0, 41)
    np.testing.assert_allclose(_spline(2 * NODES - 1, x), 2 * x - 1, atol=1e-13)


def test_two_nodes_are_a_line():
    np.testing.assert_allclose(monotone([0.0, 2.0], [1.0, 2.0], jnp.array([-1.0, 1.0, 3.0])), [0.5, 1.5, 2.5])


@pytest.mark.parametrize("values", VALUES)
def test_the_derivative_in_the_values(values):
    """Also at a plateau and at an extremum, where slopes are 0 by a rule: no NaN."""
    x = np.linspace(-0.5, 3.9, 23)
    slope = np.asarray(plain_jit(jax.jacrev(lambda v: monotone(NODES, v, x)))(jnp.asarray(values)))
    assert np.all(np.isfinite(slope))
    if np.ptp(values) == 0:
        return                                                 # where all slopes are 0 no direction is like another
    d, h = np.random.default_rng(0).normal(size=5), 1e-6
    central = (np.asarray(_spline(values + h * d, x)) - np.asarray(_spline(values - h * d, x))) / (2 * h)
    np.testing.assert_allclose(slope @ d, central, atol=1e-8)


def test_several_profiles_at_once():
    both = monotone(NODES, VALUES[:2].T, jnp.array([0.5, 2.0]))
    np.testing.assert_allclose(both, np.stack([_spline(v, np.array([0.5, 2.0])) for v in VALUES[:2]], axis=1), atol=1e-15)


def test_knots_of_a_power_law_are_that_power_law():
    L = np.linspace(2.0, 8.0, 31)
    knots = Knots(L=(3.0, 4.0, 5.5, 7.0), log_d=np.log(1e-9 * np.array([3.0, 4.0, 5.5, 7.0]) ** 10))
    np.testing.assert_allclose(knots(0.0, L), 1e-9 * L**10, rtol=1e-12)


def test_knots_with_kp():
    kp = jb.Series([0.0, 100.0], [2.0, 5.0])
    knots = Knots(L=(3.0, 7.0), log_d=[0.0, 1.0], kp=kp, kp_slope=1.2)
    early, late = (np.asarray(knots(jb.Time.at(t), 4.0)) for t in (50.0, 150.0))
    np.testing.assert_allclose(late / early, np.exp(1.2 * 3.0), rtol=1e-13)
    np.testing.assert_allclose(early * np.exp(1.2), Knots(L=(3.0, 7.0), log_d=[0.0, 1.0])(0.0, 4.0), rtol=1e-13)


def test_the_law_of_brautigam_and_albert():
    L = np.linspace(3.0, 7.0, 9)
    for kp in (1.0, 4.3):
        np.testing.assert_allclose(KpPower.brautigam_albert(kp)(0.0, L), BrautigamAlbert(kp=kp)(0.0, L), rtol=1e-12)
    np.testing.assert_allclose(KpPower(kp=4.0, log_d0=0.2, kp_slope=0.7, power=3.0)(0.0, 10.0), 8 * np.exp(0.9), rtol=1e-13)


def test_modulation_keeps_the_drift_average():
    phi = 2 * np.pi * np.arange(64) / 64
    D = Modulated(model=KpPower(kp=3.0), cosine=[0.8, -0.2], sine=[0.3, 0.1])
    seen = np.asarray(D(0.0, np.array([[4.0], [6.0]]), phi))
    np.testing.assert_allclose(seen.mean(axis=1), D.model(0.0, np.array([4.0, 6.0])), rtol=1e-13)
    wave = 0.8 * np.cos(phi - 0.5) - 0.2 * np.cos(2 * (phi - 0.5)) + 0.3 * np.sin(phi - 0.5) + 0.1 * np.sin(2 * (phi - 0.5))
    plain = D.replace(normalised=False, phi_reference=0.5)(0.0, 6.0, phi)
    np.testing.assert_allclose(plain, D.model(0.0, 6.0) * np.exp(wave), rtol=1e-13)
    np.testing.assert_allclose(Modulated(model=2.0, cosine=[0.0])(0.0, 4.0, phi), 2.0, rtol=1e-15)


def test_modulation_in_a_run_is_the_model_where_it_is_flat():
    """Through `dd.problem`, which evaluates it on faces and centres of (L, phi)."""
    grid = dd.grid(L=(3.0, 7.0), cells=(10, 4))
    ends = []
    for dll in (KpPower(kp=4.0), Modulated(model=KpPower(kp=4.0), cosine=[0.0], sine=[0.0])):
        problem = dd.problem(grid, dd.Parameters(dll=dll), inner=0.0, outer=1.0)
        ends.append(jb.solve(problem, 0.0, t=[0.0, 86400.0], dt=21600.0).f[-1])
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-12)


@pytest.mark.parametrize("cells, mu", [(12, None), ((12, 4), None), (12, (100.0, 200.0))])
def test_a_start_of_free_form(cells, mu):
    grid = dd.grid(L=(3.0, 7.0), cells=cells, mu=mu)
    base = 1.0 + np.random.default_rng(0).random(grid.shape)
    flat = InitialProfile(L=(3.0, 5.0, 7.0), log_values=[0.0, 0.0, 0.0], base=base)
    np.testing.assert_array_equal(flat(grid), base)
    lines = flat.replace(log_values=np.log([3.0, 5.0, 7.0]))(grid)
    np.testing.assert_allclose(lines, base * grid.centers("L"), rtol=1e-13)


def test_a_wall_of_free_form():
    base = jb.Series([0.0, 20.0], [2.0, 4.0], kind="linear")
    wall = WallProfile(times=(0.0, 10.0, 20.0), log_values=[0.0, 1.0, 1.0], base=base)
    np.testing.assert_allclose([wall(jb.Time.at(t)) for t in (0.0, 5.0, 20.0, 30.0)],
                               [2.0, 2.5 * np.exp(0.5), 4.0 * np.e, 4.0 * np.e], rtol=1e-13)


def test_a_wall_of_free_form_in_a_run():
    """As an equation sees it: no constant of a step."""
    grid = dd.grid(L=(3.0, 7.0), cells=12)
    prm = dd.Parameters(dll=KpPower(kp=5.0))
    ends = []
    for wall in (WallProfile(times=(0.0, 43200.0, 86400.0), log_values=[0.0, 0.4, 0.1]),
                 jb.function(lambda t: jnp.exp(jnp.interp(t, jnp.array([0.0, 43200.0, 86400.0]), jnp.array([0.0, 0.4, 0.1]))),
                             jumps=(43200.0,))):
        ends.append(jb.solve(dd.problem(grid, prm, inner=0.0, outer=wall), 0.0, t=[0.0, 86400.0], dt=7200.0).f[-1])
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-10)


@pytest.mark.parametrize("make, says", [
    (lambda: Knots(L=(3.0,), log_d=[0.0]), "Knots L: needs at least two positive, increasing values"),
    (lambda: Knots(L=(3.0, 3.0), log_d=[0.0, 1.0]), "increasing values, got"),
    (lambda: Knots(L=(3.0, 4.0), log_d=[0.0, 1.0, 2.0]), "Knots log_d: needs 2 values, one a knot, got shape"),
    (lambda: Knots(L=(3.0, 4.0), log_d=[0.0, 1.0], kp=12.0), "Knots kp"),
    (lambda: KpPower(kp=-3.0), "KpPower kp"),
    (lambda: InitialProfile(L=(3.0, 4.0), log_values=[0.0]), "InitialProfile log_values: needs 2 values"),
    (lambda: WallProfile(times=(0.0, 1.0), log_values=[0.0]), "WallProfile log_values: needs 2 values"),
    (lambda: WallProfile(times=(1.0, 0.0), log_values=[0.0, 1.0]), "WallProfile times: must increase"),
    (lambda: Modulated(model=1.0, cosine=[0.1, 0.2], sine=[0.1]), "Modulated sine: needs 2 values"),
])
def test_bad_input(make, says):
    with pytest.raises(ValueError, match=says) as error:
        make()
    assert "\n" not in str(error.value)
