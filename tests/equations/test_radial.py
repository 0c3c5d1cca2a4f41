"""Radial diffusion (the drift-diffusion equation with one axis) against its exact solutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import plain_jit
from scipy import special

import jaxbelt as jb
from jaxbelt import drift_diffusion as dd
from jaxbelt.physics.radial_diffusion import PowerLaw

DAY = 86400.0


def order(errors, ratio=2.0):
    return np.log(np.asarray(errors[:-1]) / np.asarray(errors[1:])) / np.log(ratio)


def weighted(grid, e):
    return float(np.sum(np.abs(e) * grid.volumes) / grid.volumes.sum())


@pytest.mark.parametrize("n", [3.0, 4.0, 6.0])
def test_steady_state_with_values_at_both_walls_is_exact(n):
    grid = dd.grid(L=(1.0, 7.0), cells=200, spacing="linear")
    L = grid["L"].centers

    def steady(x):
        return 2.0 + (np.log(x) if n == 3 else -(x ** (3 - n)))

    problem = dd.problem(grid, dd.Parameters(dll=PowerLaw(d0=1e-3, power=n)), inner=steady(1.0), outer=steady(7.0))
    dt = 100 * DAY
    f = jb.solve(problem, steady(L), t=[0, dt], dt=dt).f
    flux = 1e-3 * (1.0 if n == 3 else n - 3) / DAY        # (D/L^2) f', the same on every face
    residual = np.max(np.abs(f[1] - f[0]) * grid.volumes) / dt / flux
    assert residual < 1e-14


@pytest.mark.plain
def test_steady_state_with_loss_is_a_bessel_function():
    n, d0, tau = 6.0, 1e-5, 3.0
    nu = (n - 3) / (n - 2)

    def exact(L):
        xi = 2 * L ** ((2 - n) / 2) / ((n - 2) * np.sqrt(d0 * tau))
        # scaled so that it stays of order one: both Bessel functions are of the same growth as exp(-xi)
        return L ** ((3 - n) / 2) * special.kve(nu, xi) * np.exp(-(xi - 2 * 7.0 ** ((2 - n) / 2) / ((n - 2) * np.sqrt(d0 * tau))))

    errors = []
    for cells in (50, 100, 200):
        grid = dd.grid(L=(2.0, 7.0), cells=cells)
        problem = dd.problem(grid, dd.Parameters(dll=PowerLaw(d0=d0, power=n), lifetime=tau), inner=exact(2.0), outer=exact(7.0))
        f = jb.solve(problem, exact(grid["L"].centers), t=[0, 400 * DAY], dt=2 * DAY).f[-1]
        errors.append(weighted(grid, f - exact(grid["L"].centers)))
    assert np.all(order(errors) > 1.9), errors


def heat(cells, steps, spacing="inverse", k=2, d0=1e-3, t=20.0, **kw):
    L1, L2 = 1.0, 7.0
    lam = k * np.pi / (1 / L1 - 1 / L2)
    grid = dd.grid(L=(L1, L2), cells=cells, spacing=spacing)
    shape = np.sin(lam * (1 / L1 - 1 / grid["L"].centers))
    problem = dd.problem(grid, dd.Parameters(dll=PowerLaw(d0=d0, power=4.0)), inner=0.0, outer=0.0)
    return grid, problem, shape, lam, t * DAY, t * DAY / steps


@pytest.mark.plain
@pytest.mark.parametrize("spacing", ["inverse", "log", "linear"])
def test_sine_in_1_over_L_decays_at_order_two_in_L(spacing):
    errors = []
    for cells in (50, 100, 200):
        grid, problem, shape, lam, t, dt = heat(cells, 200, spacing)
        f = jb.solve(problem, shape, t=[0, t], dt=dt).f[-1]
        errors.append(weighted(grid, f - shape * np.exp(-1e-3 * lam**2 * t / DAY)))
    assert np.all(order(errors) > 1.9), errors


@pytest.mark.plain
def test_order_two_in_time():
    fine = None
    errors = []
    for steps in (512, 4, 8, 16):
        grid, problem, shape, lam, t, dt = heat(60, steps, k=1, t=200.0)
        f = jb.solve(problem, shape, t=[0, t], dt=dt).f[-1]
        if fine is None:
            fine = f
        else:
            errors.append(weighted(grid, f - fine))
    assert np.all(order(errors) > 1.9), errors


@pytest.mark.plain
def test_closed_form_gradient():
    grid, problem, shape, lam, t, dt = heat(200, 400)

    def end(d0):
        prm = problem.parameters.replace(dll=problem.parameters.dll.replace(d0=d0))
        return jb.solve(problem.replace(parameters=prm), shape, t=[0, t], dt=dt).f[-1]

    f, df = plain_jit(lambda d: jax.jvp(end, (d,), (1.0,)))(1e-3)
    exact = -(lam**2) * t / DAY * f
    assert np.max(np.abs(df - exact)) < 3e-4 * np.max(np.abs(exact))
    assert np.isclose(plain_jit(jax.grad(lambda d: end(d) @ shape))(1e-3), df @ shape, rtol=1e-11)


@pytest.mark.plain
def test_similarity_solution_through_a_wall_value_that_changes_in_time():
    n, d0 = 6.0, 1e-3

    def exact(t, L):
        return (t / DAY + 2.0) ** (-1 / (n - 2)) * jnp.exp(-1 / ((n - 2) ** 2 * d0 * (t / DAY + 2.0) * L ** (n - 2)))

    errors = []
    for cells, steps in ((40, 20), (80, 40), (160, 80)):
        grid = dd.grid(L=(2.0, 7.0), cells=cells)
        L = grid["L"].centers
        problem = dd.problem(grid, dd.Parameters(dll=PowerLaw(d0=d0, power=n)),
                             inner=jb.function(lambda t: exact(t, 2.0)), outer=jb.function(lambda t: exact(t, 7.0)))
        f = jb.solve(problem, exact(0.0, L), t=[0, 8 * DAY], dt=8 * DAY / steps).f[-1]
        errors.append(weighted(grid, f - exact(8 * DAY, L)))
    assert np.all(order(errors) > 1.9), errors


@pytest.mark.plain
@pytest.mark.parametrize("outer, eigenvalue", [(0.0, 13.4336282126), ("no flux", 3.35840705315)])
def test_lowest_eigenvalue(outer, eigenvalue):
    d0, found = 1e-3, []
    for cells in (100, 200):
        grid = dd.grid(L=(1.0, 7.0), cells=cells, spacing="inverse")
        problem = dd.problem(grid, dd.Parameters(dll=PowerLaw(d0=d0, power=4.0)), inner=0.0, outer=outer)
        f = jb.solve(problem, np.sin(np.linspace(0.1, 3, cells)), t=[0, 600 * DAY, 700 * DAY], dt=DAY).f
        found.append(-np.log(np.sum(f[2]) / np.sum(f[1])) / (d0 * 100.0))
    # Richardson: the error is of second order
    assert abs(found[1] - eigenvalue) < 1e-3 * eigenvalue
    assert abs((4 * found[1] - found[0]) / 3 - eigenvalue) < 1e-5 * eigenvalue


@pytest.mark.plain
def test_manufactured_source_and_loss():
    w, th = 2 * np.pi / 9, 0.006
    a = 0.01 + th * (10 * w) ** 2
    errors = []
    for cells, steps in ((50, 25), (100, 50), (200, 100)):
        grid = dd.grid(L=(1.0, 10.0), cells=cells, spacing="linear")
        L = grid["L"].centers
        prm = dd.Parameters(dll=PowerLaw(d0=th, power=2.0), lifetime=1 / (a - th * (w * L) ** 2), source=a * np.sin(w * (L - 1)))
        problem = dd.problem(grid, prm, inner=0.0, outer=0.0)
        f = jb.solve(problem, 2 * np.sin(w * (L - 1)), t=[0, 5 * DAY], dt=5 * DAY / steps).f[-1]
        errors.append(np.max(np.abs(f - np.sin(w * (L - 1)) * (np.exp(-a * 5.0) + 1))))
    assert np.all(order(errors) > 1.9), errors


def test_one_large_step_from_a_step_profile_stays_positive():
    grid = dd.grid(L=(1.0, 7.0), cells=61, spacing="linear")
    problem = dd.problem(grid, dd.Parameters(dll=jb.radial_diffusion.BrautigamAlbert(kp=6.0)), inner=0.0, outer=1.0)
    f = jb.solve(problem, np.where(grid["L"].centers > 5, 1.0, 0.0), t=[0, 3600.0], dt=3600.0).f[-1]
    assert f.min() >= 0 and f.max() <= 1


@pytest.mark.plain
def test_fast_loss_on_the_diagonal_allows_large_steps():
    grid = dd.grid(L=(2.0, 7.0), cells=200)
    L = grid["L"].centers
    prm = dd.Parameters(dll=jb.radial_diffusion.BrautigamAlbert(kp=6.0), lifetime=np.where(L > 6, 0.1 / 1440, 5.0))
    problem = dd.problem(grid, prm, inner=0.0, outer=0.0)
    f0 = np.exp(-((L - 5) ** 2))
    fine = jb.solve(problem, f0, t=[0, 6 * 3600.0], dt=2.0).f[-1]
    coarse = jb.solve(problem, f0, t=[0, 6 * 3600.0], dt=300.0).f[-1]
    inside = L < 5.8
    error = np.max(np.abs(coarse - fine)[inside]) / np.max(fine[inside])
    assert error < 1e-3
    assert coarse.min() >= 0


def test_a_coefficient_that_turns_nan_ends_the_run():
    """Built with a good one, run with a traced one that is NaN: it must not pass for no diffusion."""
    grid = dd.grid(L=(2.0, 6.0), cells=8)
    problem = dd.problem(grid, dd.Parameters(dll=PowerLaw(d0=1e-3)), inner=1.0, outer=1.0)

    @jax.jit
    def run(d0):
        prm = problem.parameters.replace(dll=problem.parameters.dll.replace(d0=d0))
        return jb.solve(problem.replace(parameters=prm), jnp.ones(8), t=[0.0, 3600.0], dt=3600.0).result

    assert int(run(1e-3)) == jb.Result.ok and int(run(jnp.nan)) == int(run(jnp.inf)) == jb.Result.not_finite


@pytest.mark.parametrize("name, given", [("BrautigamAlbert", {"log_amplitude": 0.3, "reference_l": 5.0}), ("OzekeMagnetic", {}),
                                         ("OzekeElectric", {"log_amplitude": -0.2}), ("PowerLaw", {"d0": 2e-9})])
def test_a_factor_of_time_times_a_profile_of_l_conducts_like_its_product(name, given):
    """A model that says its two parts gives the conductances of the same model as a plain function of (t, L)."""
    kp = jb.Series(DAY * np.arange(3), [1.0, 4.0, 6.0])
    model = getattr(jb.radial_diffusion, name)(**({} if name == "PowerLaw" else {"kp": kp}), **given)
    grid = dd.grid(L=(2.5, 7.0), cells=12)
    problems = [dd.problem(grid, dd.Parameters(dll=dll), inner="no flux", outer=1.0)
                for dll in (model, jb.function(lambda t, L: model(t, L)))]
    up = [p.flows(p, jb.coefficients.Time(1.5 * DAY, 0.0, 1.5 * DAY), 60.0)[0].up for p in problems]
    np.testing.assert_allclose(up[0], up[1], rtol=2e-14)
    assert up[0][0] == 0 and np.all(up[0][1:] > 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_traced_factor_that_is_no_number_ends_the_run(bad):
    grid = dd.grid(L=(3.0, 6.0), cells=6)
    problem = dd.problem(grid, dd.Parameters(dll=PowerLaw(d0=1e-9)), inner="no flux", outer=1.0)

    def end(d0):
        prm = problem.parameters.replace(dll=PowerLaw(d0=d0))
        return jb.solve(problem.replace(parameters=prm), 1.0, t=[0, 60.0], dt=60.0).result

    assert int(jax.jit(end)(bad)) != 0
