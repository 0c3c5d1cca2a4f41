"""`jb.fit`: what it takes, what it says, and what its result is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fit_twins import DAY, DT, GRID, PARAMETERS, START, Compilations, T, clean, noisy, orbit, two_parameters

import jaxbelt as jb
from jaxbelt import drift_diffusion as dd
from jaxbelt.fitting import methods, model
from jaxbelt.fitting.posterior import posterior
from jaxbelt.physics.free_form import InitialProfile, Knots, WallProfile

pytestmark = pytest.mark.plain


@pytest.fixture(scope="module")
def twin():
    return two_parameters()


@pytest.fixture(scope="module")
def fitted(twin):
    return twin.fit()


# ---- the result

def test_two_parameters_are_found(fitted, twin):
    assert fitted.converged and "gauss-newton" in fitted.message
    assert len(fitted.history) - 1 <= 6
    assert np.all(np.abs(fitted.theta - twin.truth) < 3 * fitted.sigma_theta)
    assert np.all(fitted.sigma_theta < [0.3, 1.0])
    assert fitted.dof == pytest.approx(58.0, abs=1e-6)
    assert fitted.reduced_chi2 == pytest.approx(1.0, abs=4 * np.sqrt(2 / 58))
    assert float(fitted.problem.parameters.dll.power) == fitted.values["dll.power"]
    assert fitted.parameters.dll.log_amplitude == fitted.values["dll.log_amplitude"]
    assert not fitted.undetermined
    losses = [h["loss"] for h in fitted.history]
    assert np.all(np.diff(losses) <= 0) and losses[-1] == pytest.approx(fitted.loss)


def test_other_noise_masks_and_starts_compile_nothing(fitted, twin):
    y = noisy(twin.clean, seed=1)
    y[3] = np.nan
    with Compilations() as n:
        other = twin.fit(values=y, sigma=0.2, start=(0.5, 9.0), data={"mask": np.arange(60) > 5})
        again = twin.fit(values=y, sigma=0.2, theta=other.theta, data={"mask": np.arange(60) > 5})
        jb.fit(other.problem, START, jb.Data(operator=twin.operator, values=y, sigma=0.2), twin.free, t=T, dt=DT)
    assert n.count == 0
    assert other.converged and other.loss == pytest.approx(again.loss) and len(again.history) == 1


def test_what_does_not_count_is_nan_and_left_out(twin):
    y = noisy(twin.clean)
    y[:4] = np.nan, -1.0, 0.0, np.inf
    sigma = np.full(60, 0.15)
    sigma[4], sigma[0] = np.nan, -1e31
    mask = np.ones(60, bool)
    mask[5] = False
    one = twin.fit(values=y, sigma=sigma, data={"mask": mask})
    assert np.isnan(one.predictions[""][:6]).all() and np.isnan(one.residuals[""][:6]).all()
    assert np.isfinite(one.predictions[""][6:]).all()
    assert one.dof == pytest.approx(52.0, abs=1e-6) and "54 values" in str(one)
    assert one.left_out[""] == "2 missing, 2 zero or negative, 1 masked, 1 without sigma" and one.left_out[""] in str(one)
    # what is in the gaps means nothing
    y[:6] = 1e10
    other = twin.fit(values=y, sigma=np.full(60, 0.15), data={"mask": np.arange(60) > 5})
    np.testing.assert_allclose(other.theta, one.theta, rtol=1e-12)


def test_a_fit_that_does_not_converge_says_so_and_goes_on(fitted, twin):
    with pytest.warns(UserWarning, match="not converged after 1 iterations, .* sigma from the minimum .*; no standard errors"):
        short = twin.fit(most=1)
    assert not short.converged and np.isnan(short.sigma_theta).all() and np.isnan(short.covariance).all()
    assert np.isnan(short.sigma["dll.power"]) and "not converged" in str(short)
    assert short.loss < short.history[0]["loss"]
    rest = twin.fit(theta=short.theta)
    np.testing.assert_allclose(rest.theta, fitted.theta, atol=2e-3 * fitted.sigma_theta.min())


def test_the_table(fitted):
    lines = str(fitted).splitlines()
    assert lines[0].split()[:3] == ["parameter", "value", "sigma"]
    assert lines[1].startswith("dll.log_amplitude") and "60 values, chi^2/dof" in lines[-1]
    assert repr(fitted) == str(fitted)


def test_intervals(fitted):
    low, high = fitted.interval("dll.power", 0.95)
    assert 0.5 * (high - low) == pytest.approx(1.959964 * fitted.sigma["dll.power"])
    with pytest.raises(ValueError, match="'dll.pover' is not free in this fit .did you mean \"dll.power\""):
        fitted.interval("dll.pover")
    with pytest.raises(ValueError, match="level: must be between 0 and 1"):
        fitted.interval("dll.power", 95)


def test_profiles_with_their_errors(fitted):
    L = jnp.array([4.0, 5.0, 6.0])
    value, error = fitted.propagate(lambda p: p.dll(0.0, L))
    C, x = fitted.covariance, np.log(np.asarray(L) / 5.0)
    np.testing.assert_allclose(error / value, np.sqrt(C[0, 0] + 2 * x * C[0, 1] + x**2 * C[1, 1]), rtol=1e-10)


def test_bands(fitted):
    low, high = fitted.band(0.95)[""]
    with pytest.raises(ValueError, match="level: must be between 0 and 1, got 95"):
        fitted.band(95)
    seen = np.asarray(fitted.data[""].values)
    assert 0.85 <= np.mean((seen > low) & (seen < high)) <= 1.0
    tight = fitted.band(0.95, noise=False)[""]
    assert np.all(tight[0] > low) and np.all(tight[1] < high)
    np.testing.assert_allclose(np.sqrt(tight[0] * tight[1]), fitted.predictions[""], rtol=1e-10)


def test_the_report_sees_every_iteration(twin, fitted):
    entries = []
    twin.fit(report=entries.append)
    assert [e["iteration"] for e in entries] == list(range(len(fitted.history)))
    assert [e["loss"] for e in entries] == [h["loss"] for h in fitted.history]


# ---- methods

@pytest.mark.parametrize("method, most", [("lbfgs", 20), ("adam", 200)])
def test_methods_of_first_order_agree(fitted, twin, method, most):
    other = twin.fit(method=method, most=most, start=(0.3, 9.0), **({"rate": 0.2} if method == "adam" else {}))
    assert other.converged and "sigma from the minimum" in other.message
    assert np.all(np.abs(other.theta - fitted.theta) < 0.33 * fitted.sigma_theta)
    np.testing.assert_allclose(other.sigma_theta, fitted.sigma_theta, rtol=0.1)
    with Compilations() as n:
        twin.fit(method=method, most=2, start=(0.3, 9.0), values=noisy(twin.clean, seed=3)) \
            if method == "lbfgs" else twin.fit(method=method, most=2, theta=fitted.theta, rate=1e-6)
    assert n.count == 0


def test_an_early_end_of_adam_is_told_from_a_fit(twin):
    with pytest.warns(UserWarning, match="not converged after 2 iterations, [0-9.e+]* sigma from the minimum"):
        short = twin.fit(method="adam", most=2)
    assert not short.converged and np.isnan(short.sigma_theta).all()


def test_several_starts_are_advanced_together(fitted, twin):
    many = twin.fit(starts=3, spread=0.5, start=(1.5, 7.0))
    assert many.converged
    np.testing.assert_allclose(many.theta, fitted.theta, atol=0.02 * fitted.sigma_theta.min())


def test_gauss_newton_takes_back_steps_that_fail(monkeypatch):
    """Residuals 3 (ln x - ln 0.01): from x = 5 Gauss-Newton jumps below 0, where there is no run."""
    def derivatives(_, theta):
        x = np.asarray(theta, float)[0]
        r, slope = (3 * np.log(x / 0.01), 3 / x) if x > 0 else (np.nan, np.nan)
        code = np.array(0 if x > 0 else 1)
        return {"loss": np.array(0.5 * r**2), "gradient": np.array([r * slope]), "fisher": np.array([[slope**2]]),
                "prior": np.zeros((1, 1)), "chi2": np.array(r**2), "code": code}

    monkeypatch.setattr(methods, "compiled_derivatives", derivatives)
    end = methods.gauss_newton(None, [5.0], most=60)
    assert end.done and end.theta[0] == pytest.approx(0.01, rel=1e-2)
    assert not all(h["accepted"] for h in end.history)
    assert np.all(np.diff([h["loss"] for h in end.history]) <= 0)
    # no entry moves by more than its reach
    slow = methods.gauss_newton(None, [0.02], most=3, reach=np.array([1e-4]))
    assert not slow.done and np.abs(np.diff([h["theta"][0] for h in slow.history])) == pytest.approx(1e-4)
    with pytest.raises(ValueError, match="the run fails"):
        methods.gauss_newton(None, [-1.0])


@pytest.mark.parametrize("scale", [1.0, [1.0, 30.0]])
def test_lbfgs_follows_a_curved_valley_beside_a_cliff(monkeypatch, scale):
    """Rosenbrock's valley, in units of the entries; beyond x = 1.2 there is no run."""
    scales = np.broadcast_to(scale, (2,))

    def value(_, theta):
        x, y = np.asarray(theta) / scales
        g = np.array([-2 * (1 - x) - 400 * x * (y - x**2), 200 * (y - x**2)]) / scales
        return (1 - x) ** 2 + 100 * (y - x**2) ** 2, np.where(x < 1.2, g, np.nan), int(x > 1.2)

    monkeypatch.setattr(methods, "_value_and_gradient", value)
    end = methods.lbfgs(None, np.array([-1.2, 1.0]) * scales, scale=scale, tolerance=1e-9)
    assert end.done and end.theta / scales == pytest.approx([1.0, 1.0], abs=1e-3)
    assert len(end.history) < 60 and end.history[-1]["runs"] < 90
    assert np.all(np.diff([h["loss"] for h in end.history]) < 0)


def test_adam_goes_back_where_the_run_fails(monkeypatch):
    """To the best it saw, with shorter steps."""
    monkeypatch.setattr(methods, "_value_and_gradient",
                        lambda _, theta: (float(theta[0]), np.array([1.0]), int(theta[0] < -0.2)))
    end = methods.adam(None, [0.0], most=50)
    assert not end.done and "the run fails" in end.reason and -0.2 <= end.theta[0] < -0.19
    assert "f became NaN or infinite" in end.reason and not all(h["accepted"] for h in end.history)


def test_steps_are_damped():
    assert methods._step(np.array([2.0, 0.0]), np.diag([2.0, 0.0]), 0.0) == pytest.approx([-1.0, 0.0])
    far = methods._step(np.array([2.0, 1.0]), np.diag([2.0, 4.0]), 1e3)
    assert far == pytest.approx(np.array([-1.0, -0.25]) / 1001.0)


# ---- priors and transforms

def test_priors_and_transforms(twin):
    free = (jb.Free("lifetime", transform="log", start=8.0, prior=jb.Normal(np.log(5.0), 0.05)),
            jb.Free("dll.power", transform="logit", bounds=(6.0, 14.0), start=9.0))
    fit = twin.fit(free=free)
    assert fit.converged
    tau, s = float(fit.values["lifetime"]), fit.sigma_theta
    assert fit.sigma["lifetime"] == pytest.approx(tau * s[0]) and s[0] < 0.05 and abs(np.log(tau / 5.0)) < 0.15
    low, high = fit.interval("dll.power", 0.999999)
    assert 6.0 < low < fit.values["dll.power"] < high < 14.0
    x = float(fit.values["dll.power"])
    assert fit.sigma["dll.power"] == pytest.approx((x - 6) * (14 - x) / 8 * s[1])
    # the posterior is (F + prior)^-1, and the prior is worth what it says
    last = methods.compiled_derivatives(fit.setting, jnp.asarray(fit.theta))
    np.testing.assert_allclose(np.diag(last["prior"]), [400.0, 0.0])
    np.testing.assert_allclose(np.linalg.inv(last["fisher"] + last["prior"]), fit.covariance, rtol=1e-8)
    assert 58.0 < fit.dof < 59.0
    # with the other width, and no more compiled, the value is the prior's
    narrow = (jb.Free("lifetime", transform="log", start=8.0, prior=jb.Normal(np.log(7.0), 1e-4)), free[1])
    with Compilations() as n:
        other = twin.fit(free=narrow)
    assert n.count == 0 and float(other.values["lifetime"]) == pytest.approx(7.0, rel=1e-3)


def test_rows_of_priors():
    start = np.array([1.0, 2.0, 4.0, 8.0])
    m, r = jb.Smooth(0.5).rows(start)
    np.testing.assert_allclose(m @ start - r, np.diff(start, 2) / 0.5)
    m, r = jb.Smooth(2.0, order=1).rows(start)
    np.testing.assert_allclose(m @ start - r, np.diff(start) / 2.0)
    x = np.array([0.0, 1.0, 3.0, 7.0])
    np.testing.assert_allclose(jb.Smooth(1.0, x=x).rows(start)[0] @ (2 * x - 1), 0.0, atol=1e-14)
    # profiles of several nodes: each for itself
    m, _ = jb.Smooth(1.0).rows(np.zeros((2, 4)))
    both = np.stack([start, -start])
    np.testing.assert_allclose(m @ both.ravel(), np.diff(both, 2, axis=1).ravel())
    m, r = jb.Normal(sd=np.array([1.0, 2.0, 4.0, 8.0])).rows(start)
    np.testing.assert_allclose(m @ (start + 1) - r, 1 / np.array([1.0, 2.0, 4.0, 8.0]))


# ---- noise

def test_the_likelihood_is_a_density_with_its_fisher_information():
    """Slopes against autodiff, curvatures against their mean over draws of the noise itself."""
    from jaxbelt.fitting.data import likelihood

    rng = np.random.default_rng(0)
    n = 400_000
    for dof, draws in ((None, rng.normal(size=n)), (4.0, rng.standard_t(4.0, size=n))):
        data = jb.Data(operator=None, values=0.3 + 0.5 * draws, sigma=0.5, noise="normal", dof=dof)
        use, z, u = jnp.ones(n, bool), jnp.full(n, 0.3), jnp.full(n, np.log(0.5))
        loss, gz, gu, kz, ku, r = likelihood(data, use, z, u)
        assert np.allclose(r, draws)
        total = lambda z, u, data=data, use=use: jnp.sum(likelihood(data, use, z, u)[0])     # noqa: E731
        auto = jax.grad(total, argnums=(0, 1))(z, u)
        np.testing.assert_allclose(auto[0], gz, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(auto[1], gu, rtol=1e-9, atol=1e-12)
        for slope, curvature in ((gz, kz), (gu, ku)):
            mean = np.mean(np.broadcast_to(curvature, (n,)))
            assert abs(np.mean(slope)) < 5 * np.std(slope) / np.sqrt(n)
            assert np.mean(np.asarray(slope) ** 2) == pytest.approx(mean, rel=0.02)


def test_student_t_ignores_outliers_and_finds_the_width(twin, fitted):
    rng = np.random.default_rng(5)
    y = twin.clean * np.exp(0.15 * rng.normal(size=60))
    y[::10] *= 50.0
    free = (*(jb.Free(n, start=x) for n, x in zip(twin.free, (0.5, 9.0))), "data.log_sigma")
    robust = twin.fit(values=y, sigma=0.5, free=free, data={"dof": 3.0})
    assert robust.converged
    assert np.all(np.abs(robust.theta[:2] - twin.truth) < 4 * robust.sigma_theta[:2])
    assert 0.05 < 0.5 * np.exp(robust.values["data.log_sigma"]) < 0.35
    assert robust.reduced_chi2 == pytest.approx(1.0, abs=0.15)
    plain = twin.fit(values=y)
    assert np.any(np.abs(plain.theta - twin.truth) > 4 * robust.sigma_theta[:2]) and plain.reduced_chi2 > 20


# ---- several sets, starts, walls, what is not determined

@pytest.fixture(scope="module")
def profiles():
    """A start and a wall of free form, two sets of data with a calibration each, the width of one fitted."""
    f0 = InitialProfile(L=(3.2, 4.5, 6.5), log_values=np.zeros(3), base=START)
    wall = WallProfile(times=(0.0, 4 * DAY), log_values=np.zeros(2))
    problem = dd.problem(GRID, PARAMETERS, outer=wall)
    volumes = np.asarray(GRID.volumes)

    def content(f, weight):
        return f @ (volumes * weight)

    sets = {"near": jb.Data(operator=jb.AlongOrbit(orbit=orbit()), values=np.ones(60), sigma=0.1),
            "total": jb.Data(operator=jb.observed(content, T[1:], weight=1.0), values=np.ones(8), sigma=0.02, noise="normal")}

    def free(width):
        return ("initial.log_values", "outer.log_values", "data.near.log_sigma",
                jb.Free("data.near.log_calibration", prior=jb.Normal(0.0, width)), "data.total.log_calibration")

    told = clean(problem, f0, sets, free(1e9), None)
    rng = np.random.default_rng(2)
    sets = {"near": sets["near"].replace(values=noisy(told["near"], 0.2, 3)),
            "total": sets["total"].replace(values=told["total"] + 0.02 * rng.normal(size=8))}
    return lambda width: jb.fit(problem, f0, sets, free(width), t=T, dt=DT)


def test_starts_walls_and_several_sets(profiles):
    fit = profiles(0.01)
    assert fit.converged and set(fit.predictions) == {"near", "total"}
    assert fit.values["initial.log_values"].shape == (3,) and fit.values["outer.log_values"].shape == (2,)
    truth = np.zeros(8)
    truth[fit.labels.index("data.near.log_sigma")] = np.log(2.0)
    assert np.all(np.abs(fit.theta - truth) < 4 * fit.sigma_theta)
    assert fit.initial.shape == GRID.shape
    # width of ln sigma of 60 values: (2 N)^-1/2
    assert fit.sigma["data.near.log_sigma"] == pytest.approx(120**-0.5, rel=1e-6)


def test_a_level_and_a_calibration_are_not_determined(profiles):
    """All levels up, all calibrations down: no data see it. Sigma is infinite there and nowhere else."""
    profiles(0.01)
    with Compilations() as n:
        fit = profiles(1e9)
    assert n.count == 0 and fit.converged
    loose = fit.undetermined[0]
    assert np.isinf(loose.sigma)
    weights = np.array([loose.weights[k] for k in fit.labels])
    np.testing.assert_allclose(np.abs(weights), np.where(np.array(fit.labels) == "data.near.log_sigma", 0.0, 7**-0.5), atol=1e-6)
    known = np.isfinite(fit.sigma_theta)
    assert list(known) == [k == "data.near.log_sigma" for k in fit.labels]
    assert "do not determine" in str(fit) and "(sigma inf)" in str(fit)
    # bands know that the model itself is determined
    low, high = fit.band(noise=False)["near"]
    assert np.all(high / low < 1.5) and np.all(high / low > 1.0)


def test_posterior_of_what_is_known_by_a_prior_alone():
    fisher = np.diag([4.0, 0.0, 0.0])
    p = posterior(fisher, np.diag([0.0, 4.0, 0.0]), ("a", "b", "c"), np.ones(3))
    np.testing.assert_allclose(p.sigma, [0.5, 0.5, np.inf])
    assert [d.sigma for d in p.undetermined] == [np.inf, np.inf] and not p.positive
    # units do not matter: a parameter of 1e8 and one of 1e-8 are as well known as they are
    scale = np.array([1e8, 1e-8])
    p = posterior(np.array([[2.0, 0.5], [0.5, 1.0]]) / np.outer(scale, scale), np.zeros((2, 2)), ("a", "b"), np.ones(2))
    np.testing.assert_allclose(p.sigma, scale * np.sqrt(np.diag(np.linalg.inv([[2.0, 0.5], [0.5, 1.0]]))), rtol=1e-12)
    bad = posterior(np.full((1, 1), np.nan), np.zeros((1, 1)), ("a",), np.ones(1))
    assert np.isnan(bad.sigma).all() and not bad.positive


# ---- nodes of mu, channels, calibration

def test_nodes_of_mu_channels_and_an_empty_channel():
    mu = (200.0, 500.0, 1200.0)
    grid = dd.grid(L=(3.0, 7.0), cells=24, mu=mu)
    problem = dd.problem(grid, lambda m: PARAMETERS.replace(lifetime=3.0 + m / 400.0), inner=1e-3,
                         outer=[m**-1.5 for m in mu])
    channels = tuple(jb.Channel(energy=e) for e in (0.5, (0.8, 1.0), 1.2))
    operator = jb.AlongOrbit(orbit=orbit(low=4.2), channels=channels, outside="mask")
    f0 = START * np.reshape(mu, (3, 1)) ** -1.5
    calibration = np.array([[0.5], [-0.3], [0.0]])
    free = ("dll.log_amplitude", jb.Free("lifetime", transform="log", per_node=True), "data.log_calibration")
    told = clean(problem, f0, operator, free, (3, 60), log_calibration=calibration)
    y = noisy(told, 0.05)
    y[2] = np.nan                                              # the third channel is empty
    start = (jb.Free("dll.log_amplitude", start=0.5), jb.Free("lifetime", transform="log", per_node=True, start=5.0), free[2])
    fit = jb.fit(problem, f0, jb.Data(operator=operator, values=y, sigma=0.05, log_calibration=np.zeros((3, 1))), start, t=T,
                 dt=DT)
    assert fit.converged and len(fit.theta) == 7
    truth = np.array([0.0, *np.log(3.0 + np.array(mu) / 400.0), 0.5, -0.3, 0.0])
    assert np.isinf(fit.sigma_theta[-1]) and np.all(np.isfinite(fit.sigma_theta[:-1]))
    assert np.all(np.abs(fit.theta - truth)[:-1] < 4 * fit.sigma_theta[:-1])
    # one amplitude for all nodes, a lifetime each
    assert fit.values["dll.log_amplitude"].shape == () and fit.values["lifetime"].shape == (3,)
    assert np.ptp(np.asarray(fit.parameters.dll.log_amplitude)) == 0.0
    assert fit.sigma["data.log_calibration"].shape == (3, 1)


# ---- precision, transformations

def test_eager_is_jit(fitted):
    theta = jnp.asarray(fitted.theta)
    eager = model.loss(fitted.setting, theta)
    assert float(eager[0]) == pytest.approx(float(methods._value_and_gradient(fitted.setting, theta)[0]), rel=1e-12)
    assert float(eager[0]) == pytest.approx(fitted.loss, rel=1e-12)


def test_single_precision():
    with jax.enable_x64(False):
        single = two_parameters().fit()
        assert single.setting.tree["data"][""].values.dtype == jnp.float32
    assert single.converged and len(single.history) < 10
    assert np.all(np.abs(single.theta - [0.0, 10.0]) < 3 * single.sigma_theta) and np.all(single.sigma_theta < [0.3, 1.0])


# ---- times, knots

def test_times_follow_the_data(twin):
    from jaxbelt.fit import prepare

    setting, _ = prepare(twin.problem, START, jb.Data(operator=twin.operator, values=twin.clean), "dll.power")
    t = setting.t.array
    assert t[0] == 0.0 and t[-1] == twin.operator.times[-1] and 230 < t.size < 250
    state = jb.Data(operator=jb.State(times=(DAY, 3 * DAY)), values=np.ones((2, 24)))
    setting, _ = prepare(twin.problem, START, state, "dll.power")
    np.testing.assert_array_equal(setting.t.array, [0.0, DAY, 3 * DAY])
    assert setting.dt == DAY


def test_knots_that_no_orbit_sees():
    """Far outside the orbit ln D is known by the prior, and the fit says so."""
    knots = (3.0, 3.6, 4.2, 4.9, 5.6, 6.4, 7.0)
    truth = np.log(np.asarray(PARAMETERS.dll(0.0, np.array(knots))))
    problem = dd.problem(GRID, PARAMETERS.replace(dll=Knots(L=knots, log_d=truth)), inner=1e-3, outer=1.0)
    free = jb.Free("dll.log_d", prior=jb.Smooth(1.0, x=np.log(knots)))
    operator = jb.AlongOrbit(orbit=orbit(low=4.8, high=5.6))
    y = noisy(clean(problem, START, operator, free, (60,)), 0.05)
    fit = jb.fit(problem, START, jb.Data(operator=operator, values=y, sigma=0.05),
                 jb.Free("dll.log_d", prior=free.prior, start=truth + 0.5), t=T, dt=DT)
    assert fit.converged and 2 < 60 - fit.dof < 7
    assert np.all(np.abs(fit.theta - truth) < 4 * fit.sigma_theta)
    assert fit.undetermined and max(abs(fit.undetermined[0].weights[k]) for k in ("dll.log_d[0]", "dll.log_d[1]")) > 0.9
    assert fit.sigma_theta[0] > 3 * fit.sigma_theta[4]
