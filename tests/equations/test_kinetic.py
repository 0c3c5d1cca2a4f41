"""The kinetic equation of parallel mixing: its two averages, their rates (exact cases 18, 19, 21), Krook and Lorentz runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import plain_jit
from scipy.integrate import quad
from scipy.linalg import expm

import jaxbelt as jb
from jaxbelt.coefficients import Series, Time, function
from jaxbelt.equations import kinetic as kn
from jaxbelt.flows import Mixing
from jaxbelt.flows.series import MixingSeries, enough_terms
from jaxbelt.physics import mixing_projections as mp
from jaxbelt.physics import mixing_rates as mr
from jaxbelt.solve import Result

pytestmark = pytest.mark.plain

V = (0.005, 50.0)                       # the heated tail does not feel the upper wall


EIGENVALUE = jax.jit(mp.eigenvalue)


def maxwellian(grid):
    return np.exp(-grid["v"].centers ** 2)


def exact_eigenvalue(s, h):
    k = np.sqrt(h / (1 + h))
    inner = quad(lambda u: (1 + h * u * u) ** (-s / 2), 0, 1, epsabs=1e-15, epsrel=1e-13)[0]
    return inner * quad(lambda x: (1 - x * x) ** (-s / 2), 0, k, epsabs=1e-15, epsrel=1e-13)[0] - k


# the cells and the two averages

@pytest.mark.parametrize("h,trapped,passing", [(0.05, 4, 3), (0.5, 8, 6), (4.0, 16, 8), (40.0, 5, 2)])
@pytest.mark.optimised
def test_averages_are_conservative_positive_idempotent_and_self_adjoint(h, trapped, passing):
    grid = kn.grid(h, V, trapped=trapped, passing=passing)
    rng = np.random.default_rng(1)
    a, b = (rng.uniform(size=grid.shape) for _ in range(2))
    for average in (jax.jit(mp.ParallelMean(grid)), jax.jit(mp.PitchMean(grid))):
        mean = average(a)
        assert float(mean.min()) > 0.0
        np.testing.assert_allclose(average(mean), mean, rtol=1e-14)
        np.testing.assert_allclose(average(np.ones(grid.shape)), 1.0, rtol=1e-14)
        assert abs(grid.content(mean) / grid.content(a) - 1) < 1e-14
        a, b, mean, other = (np.asarray(x) for x in (a, b, mean, average(b)))
        assert abs(grid.content(b * mean) / grid.content(other * a) - 1) < 1e-14


def test_cells_lie_on_one_lattice_of_energy_and_perpendicular_energy():
    grid = kn.grid(0.7, V, trapped=6, passing=4)
    e, perp, par = mp.energies(grid)
    np.testing.assert_allclose(e, perp + par, rtol=1e-13)
    for k in range(7):                                    # E_perp of (i, k) is E of (i - k): trapped lines are diagonals
        np.testing.assert_allclose(perp[6:, k], e[6 - k:len(e) - k, 0], rtol=1e-12)
    np.testing.assert_allclose(par[:, 6], 0.7 * perp[:, 6], rtol=1e-12)          # the boundary runs through nodes
    assert np.all(par[:, 7:] > 0.7 * perp[:, 7:]) and np.all(par[:, :6] < 0.7 * perp[:, :6])
    # so what depends on E_perp where trapped is left alone by <.>_par, what depends on E by <.>_xi: to rounding
    f = np.where(par <= 0.7 * perp * (1 + 1e-12), np.exp(-perp), np.exp(-e))
    np.testing.assert_allclose(mp.ParallelMean(grid)(f), f, rtol=1e-12, atol=1e-30)
    np.testing.assert_allclose(mp.PitchMean(grid)(np.exp(-e)), np.exp(-e), rtol=1e-14, atol=1e-30)
    assert mp.pitch_average(grid, np.exp(-e)).shape == (grid.shape[0],)
    w = grid["xi"].measure
    assert abs(w[:7].sum() / np.sqrt(0.7 / 1.7) - 1) < 1e-14 and abs(w.sum() - 1) < 1e-14


def test_parallel_average_of_a_maxwellian_is_its_integral_along_v_par():
    """<exp(-E)>_par = exp(-E_perp) integral of exp(-h E_perp u^2) du, by quadrature."""
    errors = []
    for m in (16, 32, 64):
        grid = kn.grid(1.5, (0.1, 8.0), trapped=m, passing=2)
        perp = grid["v"].centers[:-m] ** 2
        seen = np.flatnonzero(perp < 10)[::4]
        mean = np.asarray(mp.parallel_average(grid, np.exp(-mp.energies(grid)[0]))[m:-m])[seen]
        want = [np.exp(-e) * quad(lambda u, e=e: np.exp(-1.5 * e * u * u), 0, 1)[0] for e in perp[seen]]
        errors.append(np.max(np.abs(mean / want - 1)))
    assert errors[-1] < 1e-4 and np.all(np.log2(np.divide(errors[:-1], errors[1:])) > 2.0), errors


@pytest.mark.parametrize("bad,message", [
    (dict(h=0.0), "h: must be positive"), (dict(h=-0.5), "h: must be positive"), (dict(h=np.inf), "h: must be positive"),
    (dict(h=1.0, v=(0.0, 2.0)), "v: needs"), (dict(h=1.0, v=(2.0, 1.0)), "v: needs"),
    (dict(h=1.0, trapped=1), "trapped: needs"), (dict(h=1.0, passing=0), "passing: needs"),
    (dict(h=1.0, v=(1.0, 1.2)), "no trapped line"),
])
def test_bad_cells_are_named(bad, message):
    with pytest.raises(ValueError, match=message) as error:
        kn.grid(**bad)
    assert "\n" not in str(error.value)


def test_traced_h_is_refused_with_the_way_out():
    with pytest.raises(TypeError, match="two_field is differentiable in h"):
        jax.grad(lambda h: kn.grid(h).volumes.sum())(0.5)


# the eigenvalues of delta g on powers of v: case 18

@pytest.mark.parametrize("h", [0.05, 0.5, 1.0, 4.0])
def test_eigenvalues_of_the_exact_operator(h):
    a = mp.energy_rate(h)
    assert a == pytest.approx(2 / 9 * h * (h / (1 + h)) ** 1.5, rel=1e-15)
    assert a == pytest.approx(10 * h / 45 * (h / (1 + h)) ** 1.5, rel=1e-14)       # (5.11)-(5.12): 10 G at nu_xi >> nu_par
    s = np.array([-4.0, -2.0, 1.5, 2.0, 4.0, 5.0, 7.0, 0.0, 3.0])
    got, mirrored = EIGENVALUE(s, h), EIGENVALUE(3.0 - s, h)
    np.testing.assert_allclose(got, [exact_eigenvalue(x, h) for x in s], rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(got, mirrored, rtol=1e-11, atol=1e-16)
    np.testing.assert_allclose(np.asarray(got)[[1, 5, 7, 8]], [a, a, 0.0, 0.0], rtol=1e-12, atol=1e-16)


def discrete(h, m, s, **kw):
    return float(mp.pair_eigenvalue(mp.trapped_nodes(h, m, **kw)[1], np.log1p(h) / m, s))


def test_linear_sharing_is_too_fast_by_1_8_over_m_squared():
    for m in (8, 16, 32):
        error = discrete(0.01, m, -2.0, corrected=False) / mp.energy_rate(0.01) - 1
        assert error * m * m == pytest.approx(1.8, abs=0.06)


@pytest.mark.parametrize("h", [0.02, 0.5, 4.0])
def test_corrected_weights_give_the_energy_exactly_and_other_powers_to_third_order(h):
    for m in (2, 3, 5, 8, 16, 64):
        w = mp.trapped_nodes(h, m)[1]
        assert np.all(w > 0)
        assert discrete(h, m, -2.0) == pytest.approx(mp.energy_rate(h), rel=1e-12)
        assert discrete(h, m, 5.0) == pytest.approx(mp.energy_rate(h), rel=1e-12)
        assert discrete(h, m, 0.0) == 0.0 and discrete(h, m, 3.0) == 0.0
    for s in (1.5, 7.0) if h > 0.1 else ():
        coarse, fine = (abs(discrete(h, m, s) / exact_eigenvalue(s, h) - 1) for m in (32, 128))
        plain = abs(discrete(h, 32, s, corrected=False) / exact_eigenvalue(s, h) - 1)
        assert np.log2(coarse / fine) / 2 > 2.7
        assert coarse < 0.03 * plain


# runs with Krook scattering: case 19

@pytest.mark.optimised
def test_exact_exponential_against_a_dense_one():
    grid = kn.grid(1.0, (0.3, 2.0), trapped=3, passing=2)
    n = int(np.prod(grid.shape))
    eye = np.eye(n).reshape(n, *grid.shape)
    par, xi = (np.asarray(jax.vmap(p)(eye)).reshape(n, n).T for p in (mp.ParallelMean(grid), mp.PitchMean(grid)))
    f0 = np.random.default_rng(2).uniform(size=n)
    for dt in (0.3, 30.0):
        flow = MixingSeries(projects=(mp.ParallelMean(grid), mp.PitchMean(grid)), rates=(1.0, 0.4), bound=1.4 * dt)
        f, budget = flow.advance(grid, flow.prepare(grid, dt), f0.reshape(grid.shape), Time.at(0.0), dt)
        want = expm(dt * (par - np.eye(n) + 0.4 * (xi - np.eye(n)))) @ f0
        np.testing.assert_allclose(f.reshape(-1), want, rtol=1e-12)
        assert int(budget["fault"]) == 0


def test_series_has_enough_terms():
    from scipy.stats import poisson
    for x in (0.0, 1e-3, 0.1, 1.0, 7.0, 16.0, 50.0, 700.0):
        terms, pieces = enough_terms(x)
        assert x / pieces <= 16.0 and poisson.sf(terms - 1, x / pieces) < 2e-16


@pytest.fixture(scope="module")
def krook():
    grid = kn.grid(0.5, V, trapped=6, passing=4)
    problem = kn.problem(grid, kn.Parameters(nu_par=1.0, nu_xi=0.5))
    f0 = kn.start(grid, maxwellian(grid))
    return grid, problem, f0, jb.solve(problem, f0, t=[0.0, 3.0, 12.0, 30.0], dt=1.0)


@pytest.mark.optimised
def test_run_keeps_number_and_sign_and_does_not_depend_on_the_step(krook):
    grid, problem, f0, sol = krook
    assert float(sol.f.min()) >= 0.0 and sol.message == Result.ok.message
    np.testing.assert_allclose(grid.content(sol.f), grid.content(f0), rtol=3e-14)
    other = jb.solve(problem, f0, t=[0.0, 3.0, 12.0, 30.0], dt=30.0)
    np.testing.assert_allclose(other.f, sol.f, rtol=1e-11, atol=1e-15)
    for at in ((0, 0), (40, 3), (-1, -1)):
        f = jnp.zeros(grid.shape).at[at].set(1.0)
        sol = jb.solve(problem, f, t=[0.0, 3.0, 12.0, 30.0], dt=1.0)
        assert float(sol.f.min()) >= 0.0
        np.testing.assert_allclose(grid.content(sol.f), grid.content(f), rtol=3e-14)


def energy_gain(t, nu_par, nu_xi, h):
    """Exact energy of an isotropic start: two exponentials with dE/dt(0) = nu_par A E(0)."""
    a = mp.energy_rate(h)
    slow, fast = mr.krook_rates(a, nu_par, nu_xi)
    share = (nu_par * a - fast) / (slow - fast)
    return share * jnp.exp(slow * t) + (1.0 - share) * jnp.exp(fast * t)


@pytest.mark.optimised
def test_energy_follows_the_two_exact_rates(krook):
    grid, _, _, sol = krook
    energy = kn.moment(grid, sol.f)
    np.testing.assert_allclose(energy / energy[0], energy_gain(sol.t, 1.0, 0.5, 0.5), rtol=1e-11)
    number = kn.moment(grid, sol.f, 0)
    # a cell holds its volume times the value at its centre: second order in ln v
    assert float(number[0]) == pytest.approx(np.pi**1.5, rel=5e-4)


@pytest.mark.optimised
def test_v_cubed_stays_in_the_mean_and_powers_grow_at_their_eigenvalue():
    grid = kn.grid(1.0, (0.01, 1000.0), trapped=4, passing=2)
    problem = kn.problem(grid, kn.Parameters(nu_par=1.0, nu_xi=0.7))
    v = grid["v"].centers
    middle = slice(60, -60)
    for s in (3.0, 0.0, 4.0):
        g = jb.solve(problem, kn.start(grid, v**-s), t=[0.0, 0.5], dt=0.5).f[-1] @ grid["xi"].measure
        lam = discrete(1.0, 4, s)
        slow, fast = mr.krook_rates(lam, 1.0, 0.7)
        share = (lam - fast) / (slow - fast)
        want = share * np.exp(0.5 * slow) + (1 - share) * np.exp(0.5 * fast)
        np.testing.assert_allclose((g * v**s)[middle], want, rtol=1e-12)
        assert (abs(float(want) - 1) < 1e-15) == (s < 4.0)


def test_strang_of_two_mixings_converges_to_the_joint_exponential():
    """The same equation by two projections one after the other (`Mixing`), order 2 in the step."""
    grid = kn.grid(1.0, (0.1, 6.0), trapped=4, passing=3)
    par, xi = (Mixing(project=p, rate=r) for p, r in ((mp.ParallelMean(grid), 1.0), (mp.PitchMean(grid), 0.6)))
    f0 = kn.start(grid, maxwellian(grid))
    flow = MixingSeries(projects=(par.project, xi.project), rates=(1.0, 0.6), bound=4.0)
    want = flow.advance(grid, flow.prepare(grid, 2.0), f0, Time.at(0.0), 2.0)[0]

    @jax.jit
    def strang(dt, steps):
        def step(_, f):
            for part, w in ((par, 0.5), (xi, 1.0), (par, 0.5)):
                f = part.advance(grid, part.prepare(grid, w * dt), f, Time.at(0.0), w * dt)[0]
            return f
        return jax.lax.fori_loop(0, steps, step, f0)

    errors = [float(jnp.max(jnp.abs(strang(2.0 / n, n) - want))) for n in (4, 8, 16)]
    assert np.all(np.abs(np.log2(np.array(errors[:-1]) / errors[1:]) - 2.0) < 0.1), errors


def test_alpha_is_the_weight_of_the_mixed_part():
    """(5.7): df/dt of (1 - alpha) <g>_xi + alpha <g>_par along <g>_par - <g>_xi; (5.8) is where it stops."""
    assert float(mr.alpha_steady(1.0, 1 / 3)) == pytest.approx(0.75)
    assert float(mr.alpha_steady(0.0, 0.0)) == 0.0
    t = 0.7
    rate = jax.grad(lambda t: mr.alpha(t, 2.0, 0.5, 0.1))(t)
    assert float(rate) == pytest.approx(float(mr.alpha_rate(mr.alpha(t, 2.0, 0.5, 0.1), 2.0, 0.5)), rel=1e-13)
    assert float(mr.alpha(50.0, 2.0, 0.5, 0.1)) == pytest.approx(0.8, rel=1e-12)
    assert float(mr.alpha(0.0, 2.0, 0.5, 0.1)) == 0.1
    # in a run: trapped f regressed on the mixed part of its own mean, where delta g is small
    grid = kn.grid(0.1, (0.3, 3.0), trapped=2, passing=3)
    problem = kn.problem(grid, kn.Parameters(nu_par=2.0, nu_xi=0.5))
    f = jb.solve(problem, kn.start(grid, maxwellian(grid)), t=[0.0, t], dt=t).f[-1]
    mean = mp.PitchMean(grid)(f)
    mixed = mp.ParallelMean(grid)(mean) - mean
    seen = (slice(8, -8), slice(0, 3))
    slope = jnp.sum(((f - mean) * mixed)[seen]) / jnp.sum((mixed * mixed)[seen])
    assert float(slope) == pytest.approx(float(mr.alpha(t, 2.0, 0.5)), rel=0.02)


# Lorentz scattering: case 21

def test_lorentz_conductances_are_positive_and_the_slowest_mode_exact():
    for h, trapped, passing in ((0.01, 8, 8), (0.5, 16, 8), (50.0, 8, 4)):
        grid = kn.grid(h, (0.01, 1.0), trapped=trapped, passing=passing)
        g = mp.lorentz_conductance(grid)[0]
        assert np.all(g[1:-1] > 0) and g[0] == g[-1] == 0
        operator = mr.mode_matrix(grid, 0.0, 0.0, nu_L=1.0)
        p2 = 3 * grid["xi"].centers ** 2 - 1
        np.testing.assert_allclose(operator @ p2, -3 * p2, atol=1e-9)
    grids = [kn.grid(1.0, (0.01, 1.0), trapped=m, passing=m) for m in (6, 12, 24)]
    fourth = [np.sort(np.linalg.eigvals(mr.mode_matrix(grid, 0.0, 0.0, nu_L=1.0)).real)[-3] for grid in grids]
    errors = np.abs(np.array(fourth) + 10.0)
    assert errors[-1] < 0.02 and np.all(np.log2(errors[:-1] / errors[1:]) > 1.8)


# kappa k^2 where Krook and Lorentz scattering heat alike; x = nu_L/(nu_par k^2)
KAPPA = {0.01: {1e-5: 7.39, 1e-3: 7.00, 1e-2: 6.36, 1e-1: 5.56, 1.0: 5.26}, 0.2: {1e-3: 6.49, 1e-2: 5.89, 1.0: 4.81},
         0.5: {1e-5: 6.46, 1e-3: 6.11, 1e-2: 5.52, 1e-1: 4.75, 1.0: 4.40}, 1.3: {1e-2: 5.04, 1.0: 3.81},
         50: {1e-2: 3.61, 1.0: 3.01}}


@pytest.mark.parametrize("h", KAPPA)
def test_lorentz_against_krook(h):
    grid = kn.grid(h, (0.01, 0.012 * np.sqrt(1 + h)), trapped=96, passing=32)
    a, k2 = mp.energy_rate(h), h / (1 + h)
    for x, want in KAPPA[h].items():
        slow = mr.growth_rate(grid, -2.0, 1.0, nu_L=x * k2)
        nu_xi = slow * (slow + 1.0) / (a - slow)
        assert nu_xi / x == pytest.approx(want, rel=2.5e-3)
        assert mr.growth_rate(grid, -2.0, 1.0, nu_xi) == pytest.approx(slow, rel=1e-10)


@pytest.mark.optimised
def test_lorentz_run_heats_at_the_eigenvalue_jointly_and_split():
    """The joint exponential at any step; a line solve between halves of the Krook part tends to it."""
    grid = kn.grid(1.0, (0.02, 50.0), trapped=3, passing=3)
    prm = kn.Parameters(nu_par=1.0, nu_L=0.1)
    problem = kn.problem(grid, prm)
    f0 = kn.start(grid, maxwellian(grid))
    sol = jb.solve(problem, f0, t=[0.0, 4.0, 18.0, 20.0], dt=2.0)
    assert float(sol.f.min()) >= 0.0 and sol.message == Result.ok.message
    np.testing.assert_allclose(grid.content(sol.f), grid.content(f0), rtol=2e-14)
    energy = kn.moment(grid, sol.f)
    rate = mr.growth_rate(grid, -2.0, 1.0, nu_L=0.1)
    assert float(jnp.log(energy[3] / energy[2]) / 2.0) == pytest.approx(rate, rel=1e-3)

    krook, lorentz = kn.flows(kn.problem(grid, prm, split=True), Time.at(0.0), 1.0)

    @jax.jit
    def strang(dt, steps):
        half, whole = krook.prepare(grid, 0.5 * dt), lorentz.prepare(grid, dt)

        def step(_, f):
            f = krook.advance(grid, half, f, Time.at(0.0), 0.5 * dt)[0]
            f = lorentz.advance(grid, whole, f, Time.at(0.0), dt)[0]
            return krook.advance(grid, half, f, Time.at(0.0), 0.5 * dt)[0]
        return jax.lax.fori_loop(0, steps, step, f0)

    errors = np.array([float(jnp.max(jnp.abs(strang(4.0 / n, n) - sol.f[1]))) for n in (128, 256, 512)])
    assert np.all(np.log2(errors[:-1] / errors[1:]) > 1.9) and errors[-1] < 3e-5, errors


# parameters

def test_heating_gradients_three_ways_and_exactly():
    grid = kn.grid(0.5, V, trapped=3, passing=3)
    problem = kn.problem(grid, kn.Parameters(nu_par=1.0, nu_xi=0.4))
    f0 = kn.start(grid, maxwellian(grid))

    def gain(nu):
        p = problem.replace(parameters=kn.Parameters(nu_par=nu[0], nu_xi=nu[1]))
        energy = kn.moment(grid, jb.solve(p, f0, t=[0.0, 4.0], dt=1.0).f)
        return energy[1] / energy[0]

    every = plain_jit(lambda nu: (gain(nu), jax.grad(gain)(nu), jax.jacfwd(gain)(nu)))
    nu = jnp.array([0.9, 0.4])
    _, back, forward = every(nu)
    np.testing.assert_allclose(back, forward, rtol=1e-12)
    differences = [float(every(nu + e)[0] - every(nu - e)[0]) / 2e-4 for e in 1e-4 * np.eye(2)]
    np.testing.assert_allclose(back, differences, rtol=1e-7)
    want = jax.grad(lambda nu: energy_gain(4.0, nu[0], nu[1], 0.5))(nu)
    np.testing.assert_allclose(back, want, rtol=1e-7)


def test_rates_in_time_and_lorentz_gradient():
    """Rates that change: a Series read in its intervals equals two runs; the gradient of the heat by nu_L is finite and right."""
    grid = kn.grid(1.0, (0.1, 6.0), trapped=2, passing=2)
    f0 = kn.start(grid, maxwellian(grid))
    rates = Series([0.0, 1.0], [0.2, 2.0], "step")
    both = jb.solve(kn.problem(grid, kn.Parameters(nu_par=1.0, nu_xi=rates)), f0, t=[0.0, 1.0, 2.0], dt=1.0).f
    fast = kn.problem(grid, kn.Parameters(nu_par=1.0, nu_xi=2.0))
    slow = fast.replace(parameters=fast.parameters.replace(nu_xi=jnp.asarray(0.2)))       # the same program
    one = jb.solve(slow, f0, t=[0.0, 1.0], dt=1.0).f[-1]
    two = jb.solve(fast, one, t=[0.0, 1.0], dt=1.0).f[-1]
    np.testing.assert_allclose(both[1:], jnp.stack([one, two]), rtol=1e-13)

    problem = kn.problem(grid, kn.Parameters(nu_par=function(lambda t: 1.0 + 0.5 * jnp.sin(t)), nu_L=0.3))

    def heat(nu_L):
        p = problem.replace(parameters=problem.parameters.replace(nu_L=nu_L))
        return kn.moment(grid, jb.solve(p, f0, t=[0.0, 1.0], dt=0.5).f[-1])

    both = plain_jit(jax.value_and_grad(heat))
    assert float(both(0.3)[1]) == pytest.approx(float(both(0.3001)[0] - both(0.2999)[0]) / 2e-4, rel=1e-6)


def test_bad_parameters_are_named():
    grid = kn.grid(1.0, (0.1, 6.0), trapped=2, passing=2)
    for prm, message in ((kn.Parameters(nu_par=-1.0, nu_xi=0.1), "nu_par: must be a rate"),
                         (kn.Parameters(nu_par=1.0, nu_xi=np.nan), "nu_xi: must be a rate"),
                         (kn.Parameters(nu_par=1.0, nu_L=np.ones(3)), "nu_L: needs a number"),
                         (kn.Parameters(nu_par=1.0, nu_xi=Series([0, 1], [1.0, -2.0])), "nu_xi: must be a rate"),
                         (kn.Parameters(), "give nu_par")):
        with pytest.raises(ValueError, match=message) as error:
            kn.problem(grid, prm)
        assert "\n" not in str(error.value)
    from jaxbelt.equations import velocity
    with pytest.raises(ValueError, match="aligned cells"):
        kn.problem(velocity.grid(cells=8), kn.Parameters(nu_par=1.0))
    # rates far above those the problem was built with are a fault of the run, not a silent loss of digits
    problem = kn.problem(grid, kn.Parameters(nu_par=1.0, nu_xi=1.0))
    fast = problem.replace(parameters=kn.Parameters(nu_par=jnp.asarray(9.0), nu_xi=jnp.asarray(1.0)))
    assert int(jb.solve(fast, jnp.ones(grid.shape), t=[0.0, 1.0], dt=1.0).result) == Result.substeps_exceeded
