"""The Krook model as two fields of v: equal to the 2-D run, exact rates (case 19), differentiable in h, against (5.11)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import plain_jit
from scipy.linalg import expm

import jaxbelt as jb
from jaxbelt.coefficients import Series, function
from jaxbelt.equations import kinetic as kn
from jaxbelt.equations import two_field as tf
from jaxbelt.equations import velocity
from jaxbelt.physics import mixing_projections as mp
from jaxbelt.physics import mixing_rates as mr
from jaxbelt.physics.mixing import G
from jaxbelt.solve import Result

pytestmark = pytest.mark.plain

TIMES = [0.0, 2.0, 10.0]
DELTA = jax.jit(tf.delta_operator, static_argnums=0)


@pytest.fixture(scope="module")
def pair():
    """A 2-D run and the two fields on the same cells, from a state that is neither isotropic nor mixed."""
    cells = kn.grid(0.8, (0.05, 20.0), trapped=5, passing=4)
    kinetic = kn.problem(cells, kn.Parameters(nu_par=1.0, nu_xi=0.6))
    e, perp, _ = mp.energies(cells)
    f0 = np.exp(-e) * (1.0 + perp / (1 + e))
    full = jb.solve(kinetic, f0, t=TIMES, dt=0.5)
    problem = tf.reduced(kinetic)
    return cells, full, problem, jb.solve(problem, tf.fields(cells, f0), t=TIMES, dt=0.5)


@pytest.mark.optimised
def test_the_2d_run_equals_the_two_fields(pair):
    cells, full, problem, sol = pair
    want = jnp.stack([tf.fields(cells, f) for f in full.f])
    np.testing.assert_allclose(sol.f, want, rtol=1e-11, atol=1e-13 * float(want.max()))
    assert float(jnp.max(jnp.abs(sol.f - want))) <= 1e-13 * float(want.max())
    np.testing.assert_allclose(want[:, 0], jnp.stack([kn.isotropic(cells, f) for f in full.f]), rtol=1e-14)


@pytest.mark.optimised
def test_invariant_sign_and_budget(pair):
    _, _, problem, sol = pair
    assert float(sol.f.min()) >= 0.0 and sol.message == Result.ok.message
    np.testing.assert_allclose(tf.invariant(problem, sol.f), tf.invariant(problem, sol.f[0]), rtol=2e-14)
    gained = problem.grid.content(sol.f) - problem.grid.content(sol.f[0])
    np.testing.assert_allclose(sol.budget["exchange"], gained, atol=1e-13 * float(problem.grid.content(sol.f[0])))


@pytest.mark.optimised
def test_from_any_state_nothing_negative():
    grid = tf.grid((0.1, 10.0), 40)
    problem = tf.problem(grid, tf.Parameters(nu_par=1.0, nu_xi=0.3, h=2.0))
    for field, k in ((0, 0), (1, 20), (0, 39)):
        z = jnp.zeros(grid.shape).at[field, k].set(1.0)
        sol = jb.solve(problem, z, t=[0.0, 2.0], dt=2.0)
        assert float(sol.f.min()) >= 0.0
        np.testing.assert_allclose(tf.invariant(problem, sol.f[1]), tf.invariant(problem, z), rtol=1e-14)


@pytest.mark.parametrize("h", [0.01, 0.3, 1.0, 5.0])
@pytest.mark.optimised
def test_operator_on_any_cells(h):
    """Non-negative, conservative, self-adjoint, constants kept; number and energy exact even where the wells are not resolved."""
    v = tf.grid((0.01, 30.0), 96)["v"]
    delta = np.asarray(DELTA(v, h=h))
    mixed = np.eye(96) + delta
    assert mixed.min() >= 0.0 and np.all(np.abs(delta.sum(1)) < 1e-15)
    np.testing.assert_allclose(v.measure @ mixed, v.measure, rtol=1e-14)
    np.testing.assert_allclose(v.measure[:, None] * delta, (v.measure[:, None] * delta).T, atol=1e-15 * v.measure[-1])
    middle = slice(32, 64)
    for s, lam, rel in ((-2.0, mp.energy_rate(h), 1e-9), (5.0, mp.energy_rate(h), 1e-9), (3.0, 0.0, 0), (0.0, 0.0, 0)):
        np.testing.assert_allclose((delta @ v.centers**-s * v.centers**s)[middle], lam, rtol=rel, atol=3e-14)


def test_other_powers_to_second_order_in_the_cells():
    h, errors = 4.0, []
    for n in (128, 256, 512):
        v = tf.grid((0.05, 20.0), n)["v"]
        got = (np.asarray(DELTA(v, h=h)) @ v.centers**-7.0 * v.centers**7.0)[n // 2]
        errors.append(abs(float(got / mp.eigenvalue(7.0, h)) - 1))
    assert errors[-1] < 5e-4 and np.all(np.log2(np.divide(errors[:-1], errors[1:])) > 1.75), errors


def test_one_factor_below_one_and_smooth_in_h():
    """The shares of the nodes: non-negative, of sum sqrt(h/(1+h)), no jump as the boundary passes a node."""
    shares = jax.jit(jax.vmap(lambda h: tf._trapped_weights(h, 0.1, 60)))
    h = np.geomspace(1e-3, 20.0, 13)
    w = np.asarray(shares(h))
    assert w.min() >= 0.0
    np.testing.assert_allclose(w.sum(1), np.sqrt(h / (1 + h)), rtol=1e-14)
    factor = mp.energy_rate(h) / np.array([mp.pair_eigenvalue(x, 0.1, -2.0) for x in w])
    assert np.all((factor > 0.0) & (factor < 1.0))
    node = np.expm1(0.3)
    slope = jax.jit(jax.jacfwd(lambda h: tf._trapped_weights(h, 0.1, 60)))
    np.testing.assert_allclose(slope(node * (1 - 1e-9)), slope(node * (1 + 1e-9)), atol=1e-7)


def test_continuous_h_converges_to_the_2d_run():
    cells = kn.grid(0.8, (0.05, 20.0), trapped=12, passing=2)
    g0 = lambda v: np.exp(-(v**2))                              # noqa: E731
    prm = kn.Parameters(nu_par=1.0, nu_xi=0.6)
    f = jb.solve(kn.problem(cells, prm), kn.start(cells, g0(cells["v"].centers)), t=[0.0, 3.0], dt=3.0).f[-1]
    x, want = np.log(cells["v"].centers), np.log(np.asarray(kn.isotropic(cells, f)))
    errors = []
    for n in (64, 192):
        grid = tf.grid((0.05, cells["v"].faces[-1]), n)
        problem = tf.problem(grid, tf.Parameters(nu_par=1.0, nu_xi=0.6, h=0.8))
        v = grid["v"].centers
        g = jb.solve(problem, tf.start(problem, g0(v)), t=[0.0, 3.0], dt=3.0).f[-1, 0]
        near = (v > 0.2) & (v < 2.5)
        errors.append(float(np.max(np.abs(np.log(g) - np.interp(np.log(v), x, want))[near])))
    assert errors[1] < 6e-3 and errors[0] > 5 * errors[1], errors


def energy_gain(t, nu_par, nu_xi, h, alpha=0.0):
    """Exact <v^2> of g: two exponentials; at t = 0, g = g0 + alpha delta g0, p - g = (1 - alpha) delta g0."""
    a = mp.energy_rate(h)
    slow, fast = mr.krook_rates(a, nu_par, nu_xi)
    first, rate = 1.0 + alpha * a, nu_par * (1.0 - alpha) * a
    share = (rate - fast * first) / (slow - fast)
    return share * jnp.exp(slow * t) + (first - share) * jnp.exp(fast * t)


def test_rates_and_the_initial_layer():
    """Lam (Lam + nu_par + nu_xi) = nu_par nu_xi lam; an isotropic start jumps by delta g (nu_par/(nu_par + nu_xi))^2, a start
    with the alpha of (5.8) does not, to first order."""
    h, nu_par, nu_xi = 0.3, 1.0, 0.5
    a = mp.energy_rate(h)
    for root in mr.krook_rates(a, nu_par, nu_xi):
        assert float(root * (root + nu_par + nu_xi)) == pytest.approx(nu_par * nu_xi * a, rel=1e-12)
    assert float(mr.krook_rates(a, 0.0, 0.0)[0]) == 0.0
    grid = tf.grid((0.01, 30.0), 128)
    problem = tf.problem(grid, tf.Parameters(nu_par=nu_par, nu_xi=nu_xi, h=h))
    g0 = np.exp(-grid["v"].centers ** 2)
    slow = float(mr.krook_rates(a, nu_par, nu_xi)[0])
    steady = float(mr.alpha_steady(nu_par, nu_xi))
    for alpha in (0.0, steady):
        sol = jb.solve(problem, tf.start(problem, g0, alpha), t=[0.0, 4.0, 20.0], dt=2.0)
        energy = tf.moment(grid, sol.f)[:, 0] / tf.moment(grid, g0[None])[0]
        np.testing.assert_allclose(energy, energy_gain(sol.t, nu_par, nu_xi, h, alpha), rtol=1e-9)
        jump = float(energy[2] * jnp.exp(-slow * 20.0) / energy[0]) - 1
        want = a * float(mr.anisotropy_jump(nu_par, nu_xi)) if alpha == 0 else 0.0
        assert jump == pytest.approx(want, abs=2.5 * a * a)


# by how much ten times the G of (5.12) exceeds the exact slow rate: nu_xi = nu_par, and h = 4 at a third
@pytest.mark.parametrize("h,ratio,percent", [(0.5, 1.0, 0.5), (1.0, 1.0, 1.9), (4.0, 1.0, 14.0), (4.0, 1 / 3, 11.0)])
def test_excess_of_the_diffusion_rate(h, ratio, percent):
    slow = mr.krook_rates(mp.energy_rate(h), 1.0, ratio)[0]
    excess = float(10 * G(ratio, h) / slow) - 1
    assert 100 * excess == pytest.approx(percent, rel=0.06, abs=0.05)
    assert excess == pytest.approx(ratio * mp.energy_rate(h) / (1 + ratio) ** 2, rel=0.15)


def test_velocity_diffusion_is_the_limit_of_shallow_wells():
    """g of two fields on their slow state against (5.11), over the same time: apart by O(h) of what has changed."""
    nu_xi, apart = 0.5, []
    line, grid = velocity.grid((0.05, 20.0), 160), tf.grid((0.05, 20.0), 160)
    g0, end = np.exp(-line["v"].centers ** 2), 24.0
    for h in (0.8, 0.4):
        of = dict(nu_par=1.0, nu_xi=nu_xi, h=h)
        g = jb.solve(velocity.problem(line, velocity.Parameters(**of)), g0, t=[0.0, end], dt=end / 8).f[-1]
        z0 = np.stack([g0, g0 + (1.0 - mr.alpha_steady(1.0, nu_xi)) * (DELTA(line["v"], h=h) @ g0)])
        z = jb.solve(tf.problem(grid, tf.Parameters(**of)), z0, t=[0.0, end], dt=end / 8).f[-1, 0]
        apart.append(np.sum(line.volumes * np.abs(z - g)) / np.sum(line.volumes * np.abs(g - g0)))
    assert apart[0] < 0.2 and apart[1] < 0.65 * apart[0], apart


def test_heating_gradients_in_rates_and_depth():
    """d(heating)/d(nu_par, nu_xi, h): reverse == forward == differences == the exact two exponentials."""
    grid = tf.grid((0.01, 30.0), 80)
    problem = tf.problem(grid, tf.Parameters(nu_par=1.0, nu_xi=0.3, h=0.7))
    g0 = np.exp(-grid["v"].centers ** 2)

    def gain(x):
        p = problem.replace(parameters=tf.Parameters(nu_par=x[0], nu_xi=x[1], h=x[2]))
        energy = tf.moment(grid, jb.solve(p, tf.start(p, g0), t=[0.0, 5.0], dt=1.0).f)[:, 0]
        return energy[1] / energy[0]

    every = plain_jit(lambda x: (gain(x), jax.grad(gain)(x), jax.jacfwd(gain)(x)))
    x = jnp.array([0.95, 0.3, 0.7])
    value, back, forward = every(x)
    np.testing.assert_allclose(back, forward, rtol=1e-12)
    differences = [float(every(x + e)[0] - every(x - e)[0]) / 2e-4 for e in 1e-4 * np.eye(3)]
    np.testing.assert_allclose(back, differences, rtol=1e-7)
    exact = lambda x: energy_gain(5.0, x[0], x[1], x[2])          # noqa: E731
    assert float(value) == pytest.approx(float(exact(x)), rel=1e-9)
    np.testing.assert_allclose(back, jax.grad(exact)(x), rtol=1e-7)


@pytest.mark.optimised
def test_a_sweep_over_h_compiles_once_and_batches():
    grid = tf.grid((0.1, 10.0), 24)
    problem = tf.problem(grid, tf.Parameters(nu_par=1.0, nu_xi=0.3, h=0.7))
    z0, traces = jnp.ones(grid.shape), []

    @jax.jit
    def run(h):
        traces.append(1)
        return jb.solve(problem.replace(parameters=problem.parameters.replace(h=h)), z0, t=[0.0, 1.0], dt=1.0).f[-1]

    one = jnp.stack([run(h) for h in (0.2, 1.0, 3.0)])
    assert len(traces) == 1
    np.testing.assert_allclose(jax.vmap(run)(jnp.array([0.2, 1.0, 3.0])), one, rtol=1e-13)


def test_depth_in_time_against_dense_exponentials():
    grid = tf.grid((0.01, 30.0), 48)
    steps = tf.problem(grid, tf.Parameters(nu_par=1.0, nu_xi=0.3, h=Series([0.0, 1.0], [0.5, 2.0])))
    z0 = tf.start(steps, np.exp(-grid["v"].centers ** 2))
    got = jb.solve(steps, z0, t=[0.0, 1.0, 2.0], dt=1.0).f
    z, eye = np.asarray(z0).reshape(-1), np.eye(48)
    for h, seen in zip((0.5, 2.0), got[1:]):
        mixed = eye + np.asarray(DELTA(grid["v"], h=h))
        z = expm(np.block([[-eye, eye], [0.3 * mixed, -0.3 * eye]])) @ z
        np.testing.assert_allclose(seen.reshape(-1), z, rtol=1e-9, atol=1e-15)


def test_bad_input_is_named():
    grid = tf.grid((0.1, 10.0), 24)
    cells = kn.grid(1.0, (0.1, 10.0), trapped=3, passing=2)
    good = dict(nu_par=1.0, nu_xi=0.5, h=0.5)
    for change, message in (({"nu_par": -1.0}, "nu_par: must be a rate"), ({"nu_xi": None}, "both nu_par and nu_xi"),
                            ({"h": 0.0}, "h: must be positive"), ({"h": -1.0}, "h: must be positive"),
                            ({"h": 2e4}, "range of E on the grid"), ({"h": None}, "either h, or the weights"),
                            ({"h": function(lambda t: -1.0 + 0 * t)}, "h: must be positive"),
                            ({"h": Series([0.0, 1.0], [0.5, 0.0])}, "h: must be positive"),
                            ({"weights": np.ones(3)}, "either h, or the weights"),
                            ({"h": None, "weights": np.ones(99)}, "do not fit 24 cells")):
        with pytest.raises(ValueError, match=message) as error:
            tf.problem(grid, tf.Parameters(**{**good, **change}))
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"axes \(field, v\)"):
        tf.problem(velocity.grid(cells=8), tf.Parameters(**good))
    with pytest.raises(ValueError, match="v: needs"):
        tf.grid((0.0, 1.0))
    with pytest.raises(ValueError, match="only the Krook model"):
        tf.reduced(kn.problem(cells, kn.Parameters(nu_par=1.0, nu_L=0.1)))


def test_rates_beyond_the_plan_are_not_a_wrong_number():
    problem = tf.problem(tf.grid((0.1, 10.0), 24), tf.Parameters(nu_par=1.0, nu_xi=0.3, h=0.5))
    z = tf.start(problem, np.exp(-problem.grid["v"].centers ** 2))
    faster = problem.replace(parameters=problem.parameters.replace(nu_par=jnp.asarray(40.0)))
    sol = jb.solve(faster, z, t=[0.0, 1.0], dt=1.0)
    assert int(sol.result) == 3 and np.all(np.isnan(sol.f[-1])) and "mixing" in sol.message
