"""nu_xi/nu_par from distributions whose answer is known: states of the Krook model from another discretisation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import plain_jit
from krook_data import binned, evolved, steady
from scipy.interpolate import CubicSpline

import jaxbelt as jb
from jaxbelt import mixing_inference
from jaxbelt.constants import rest_energy
from jaxbelt.distributions import distribution
from jaxbelt.equations import kinetic
from jaxbelt.mixing_inference import infer_mixing, projections, regress_mixing

pytestmark = pytest.mark.plain

RATIOS = (0.05, 0.2, 1.0 / 3.0, 1.0)
REST = 1e6 * rest_energy("electron")
EDGES = np.linspace(0.0, np.pi, 19)
V2 = np.geomspace(1.0, 300.0, 32)


def energy_of(v2, unit=1e-6):
    """Kinetic energy [eV] of v^2 = (p/m)^2 in units of `unit` c^2: the relation is in p, whatever the energy."""
    return REST * (unit * v2 / (np.sqrt(1.0 + unit * v2) + 1.0))


def diffusion(h, ratio):
    return ratio / (1.0 + ratio) * h / 45.0 * (h / (1.0 + h)) ** 1.5


def source(v2):
    return np.exp(-(np.log(v2 / 0.3) / 0.5) ** 2)


def measured(state, v2=V2, edges=EDGES, unit=1e-6, **kw):
    return distribution(energy_of(v2, unit), edges=edges, f=1e-19 * binned(state, v2, edges), **kw)


def plainly(function):
    """A jitted function compiled without optimising, which takes longer than the tests of it; traced it is what it always is."""
    plain = plain_jit(function.__wrapped__, static_argnames=("knots",))

    def call(*args, **kw):
        traced = any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves((args, kw)))
        return (function if traced else plain)(*args, **kw)
    return call


PLAIN = {name: plainly(getattr(mixing_inference, name)) for name in ("fit_mixing", "_profile")}


@pytest.fixture(autouse=True)
def compiled_plainly(monkeypatch):
    for name, function in PLAIN.items():
        monkeypatch.setattr(mixing_inference, name, function)


@pytest.fixture(scope="module")
def tail():
    """The power law above a source, at h = 1 and nu_xi/nu_par = 0.2: (distribution, ratio with its loss)."""
    loss = 0.25 * diffusion(1.0, 0.2)
    return measured(steady(1.0, 0.2, loss, source)), 0.2 + loss


# ---- without noise

@pytest.mark.parametrize("h", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("ratio", RATIOS)
def test_steady_state_with_source_and_loss(h, ratio):
    """To 3e-4, and what comes out is nu_xi + 1/tau: the loss is seen as scattering."""
    loss = 4.0 * diffusion(h, ratio)                    # c tau = 0.25: g ~ v^-4
    fit = infer_mixing(measured(steady(h, ratio, loss, source)), h=h, relative=0.01)
    assert abs(1.0 / float(fit.alpha) - 1.0 - (ratio + loss)) < 3e-4 * (ratio + loss)
    assert float(fit.reduced_chi2) < 1e-3


def test_the_start_of_a_run_gives_alpha_exactly():
    """f = (1 - a) g + a <g>_par at any a, for a spectrum with a core, a tail and a cut-off; (5.1) holds with g, not <f>_xi."""
    def g(v2):
        return (np.exp(-v2 / 4.0) + 0.02 * (1.0 + v2 / 30.0) ** -4.0) * np.exp(-v2 / 400.0)

    for h, alpha in ((0.3, 0.2), (1.0, 0.6), (3.0, 0.95)):
        fit = infer_mixing(measured(evolved(h, 0.3, alpha, g, 0.0)), h=h, relative=0.01)
        assert abs(float(fit.alpha) - alpha) < 1e-3 * alpha, (h, alpha, float(fit.alpha))


def test_a_run_relaxes_to_the_ratio():
    """From the isotropic start alpha(t) grows as (5.7) says; later the state is the slow mode and gives nu_xi/nu_par."""
    def kappa(v2):
        return (1.0 + v2 / 20.0) ** -4.0

    for ratio in (0.05, 1.0):
        early = infer_mixing(measured(evolved(0.5, ratio, 0.0, kappa, 0.5)), h=0.5, relative=0.01)
        said = (1.0 - np.exp(-0.5 * (1.0 + ratio))) / (1.0 + ratio)
        assert abs(float(early.alpha) / said - 1.0) < 0.02
        late = infer_mixing(measured(evolved(0.5, ratio, 0.0, kappa, 12.0)), h=0.5, relative=0.01)
        assert abs(float(late.ratio) / ratio - 1.0) < 0.05


def test_a_run_of_the_kinetic_equation(plain_solve):
    """The package's own 2-D run, from isotropic to t = 12, gives what the independent one gives, to 1e-4; and h."""
    h, ratio, trapped = 0.5, 0.2, 12
    cells = kinetic.grid(h=h, v=(0.1, 120.0), trapped=trapped, passing=2)
    v2, xi = np.ravel(cells.centers("v")) ** 2, np.asarray(cells["xi"].centers)
    sol = jb.solve(kinetic.problem(cells, kinetic.Parameters(nu_par=1.0, nu_xi=ratio)),
                   kinetic.start(cells, (1.0 + v2 / 20.0) ** -4.0), t=[0.0, 12.0], dt=1.0)
    log = CubicSpline(np.log(v2), np.log(sol.f[-1]), axis=0)(np.log(V2))
    inside, outside = CubicSpline(xi[:trapped + 1] ** 2, log[:, :trapped + 1], axis=1), np.exp(log[:, trapped + 1])

    def state(_, x, trapped):
        return np.exp(inside(x * x)) if trapped else np.broadcast_to(outside[:, None, None], (32, *x.shape))

    run = measured((state, np.sqrt(h / (1.0 + h))))
    independent = measured(evolved(h, ratio, 0.0, lambda x: (1.0 + x / 20.0) ** -4.0, 12.0))
    a, b = (infer_mixing(d, h=h, relative=0.01) for d in (run, independent))
    np.testing.assert_allclose(float(a.alpha), float(b.alpha), rtol=1e-4)
    free = infer_mixing(run, relative=0.01)
    np.testing.assert_allclose([float(free.h), float(free.ratio)], [h, ratio], rtol=0.05)


def test_relativistic_particles(tail):
    """The relation is in p: the same f(v, xi) at energies of 0.1 to 10 MeV gives the same numbers."""
    slow, _ = tail
    fast = slow.replace(energy=energy_of(V2, 0.3))
    assert fast.energy[0] > 5e4 and fast.energy[-1] > 4e6
    a, b = (infer_mixing(d, h=1.0, relative=0.1) for d in (slow, fast))
    np.testing.assert_allclose([b.ratio, b.sigma], [a.ratio, a.sigma], rtol=1e-6)


def test_wide_energy_channels_shift_the_ratio_little(tail):
    """Means over channels of +-9 % in energy, taken as values at the middle: nu_xi/nu_par moves by less than 1 %."""
    dist, true = tail
    loss = true - 0.2
    state = steady(1.0, 0.2, loss, source)
    f = np.mean([binned(state, V2 * (1.0 + x), EDGES) for x in np.linspace(-0.09, 0.09, 7)], axis=0)
    fit = infer_mixing(dist.replace(f=1e-19 * f), h=1.0, relative=1e-3)
    assert abs(float(fit.ratio) / true - 1.0) < 0.01


def test_end_bins_without_data(tail):
    """Fill in the bins along the field: nothing is assumed there, so the answer stays, whatever lies in them."""
    dist, true = tail
    mask = np.ones(18, bool)
    mask[[0, 1, -1]] = False
    fit = infer_mixing(distribution(dist.energy, edges=EDGES, f=np.where(mask, dist.f, -1e31), mask=mask), h=1.0, relative=1e-3)
    assert abs(float(fit.ratio) / true - 1.0) < 1e-3 and not np.asarray(fit.used)[:, ~mask].any()
    junk = infer_mixing(dist.replace(f=np.where(mask, dist.f, 7e-19), valid=np.tile(mask, (32, 1))), h=1.0, relative=1e-3)
    assert float(junk.ratio) == float(fit.ratio)


# ---- with noise

def study(h, ratios, noises, draws, v2, edges, seed=0):
    """[(ratio, noise, mean of the estimates, errors in sigma, intervals holding the truth)], draws in +- pairs.

    The pairs cancel what is odd in the noise, so their mean shows the bias well below the scatter of single draws.
    """
    rng, rows = np.random.default_rng(seed), []
    many = None
    for ratio in ratios:
        loss = 0.25 * diffusion(h, ratio)
        dist, true = measured(steady(h, ratio, loss, source), v2, edges), ratio + loss
        if many is None:
            def one(f, noise, dist=dist):
                fit = infer_mixing(dist.replace(f=f), h=h, relative=noise)
                return fit.ratio, fit.sigma, fit.ratio_interval, fit.reduced_chi2
            many = jax.jit(jax.vmap(one, in_axes=(0, None)))
        for noise in noises:
            z = rng.normal(size=(draws // 2, *dist.f.shape))
            f = dist.f * (1 + noise * np.concatenate([z, -z]))
            out, sigma, interval, chi2 = (np.asarray(x) for x in many(f, noise))
            assert len(rows) or abs(out[0] - float(infer_mixing(dist.replace(f=f[0]), h=h, relative=noise).ratio)) < 1e-9
            held = (interval[:, 0] <= true) & (true <= interval[:, 1])
            rows.append((true, noise, out.mean(), out.std() / sigma.mean(), held, chi2.mean()))
    return rows


def check_study(rows):
    for true, noise, mean, spread, held, chi2 in rows:
        assert abs(mean / true - 1.0) < 0.05, (true, noise, mean)
        assert 0.8 < spread < 1.2 and 0.95 < chi2 < 1.05, (true, noise, spread, chi2)
        assert held.mean() > 0.85, (true, noise, held.mean())
    for noise in sorted({row[1] for row in rows}):
        assert 0.90 <= np.mean([row[4] for row in rows if row[1] == noise]) <= 0.99
    assert 0.92 <= np.mean([row[4] for row in rows]) <= 0.98


@pytest.mark.slow
def test_bias_and_coverage_of_200_draws():
    check_study(study(2.0, RATIOS, (0.01, 0.05, 0.2), 200, np.geomspace(1.0, 300.0, 28), np.linspace(0, np.pi, 17)))


@pytest.mark.slow
@pytest.mark.parametrize("h", [0.7, 1.0, 3.0])
def test_bias_and_coverage_of_600_draws(h):
    check_study(study(h, RATIOS, (0.01, 0.05, 0.2), 600, np.geomspace(1.0, 300.0, 48), np.linspace(0, np.pi, 25), seed=3))


def test_the_plain_regression_is_biased(tail):
    """f - <f>_xi on <f>_par - <f>_xi, whose sides share the noise: at 20 % it is far off where the fit is not."""
    dist, true = tail
    rng = np.random.default_rng(1)
    iso, par, known = projections(dist, 1.0)
    whole = np.asarray(known)
    np.testing.assert_allclose(iso, (dist.f * np.asarray(dist.width)).sum(axis=1) / 2.0, rtol=1e-12)
    assert whole[8].all() or whole[8].sum() >= 14
    clean = float(1.0 / regress_mixing(dist, 1.0, 0.01)[0] - 1.0)
    assert abs(clean / true - 1.0) < 0.1                       # no noise: the interpolation and <<f>_par> against <f>
    # 0.05, where alpha is close to 1 and the shared noise matters most
    loss = 0.25 * diffusion(1.0, 0.05)
    dist, true = dist.replace(f=measured(steady(1.0, 0.05, loss, source)).f), 0.05 + loss
    noisy = np.abs(dist.f * (1.0 + 0.2 * rng.normal(size=(24, *dist.f.shape))))
    slope = plain_jit(lambda f: regress_mixing(dist.replace(f=f), 1.0, 0.2)[0])
    plain = np.mean([slope(f) for f in noisy])
    fitted = np.array([infer_mixing(dist.replace(f=f), h=1.0, relative=0.2).alpha for f in noisy])
    assert 1.0 / plain - 1.0 > 1.4 * true                      # 0.086 where 0.050 is right
    assert abs(fitted.mean() - 1.0 / (1.0 + true)) < 3.0 * fitted.std() / np.sqrt(24)


# ---- h

def test_h_is_found(tail):
    """Both within 3.5 standard errors, and the profile is that of chi^2."""
    dist, true = tail
    rng = np.random.default_rng(4)
    for _ in range(3):
        fit = infer_mixing(dist.replace(f=dist.f * (1.0 + 0.05 * rng.normal(size=dist.f.shape))), relative=0.05)
        assert fit.fits and fit.h_determined and fit.determined
        low, high = np.asarray(fit.h_interval)
        assert low < float(fit.h) < high and abs(float(fit.h) - 1.0) < 3.5 * (high - low) / 3.92 and high - low < 0.1
        assert abs(float(fit.ratio) - true) < 3.5 * float(fit.sigma)
        assert float(fit.chi2) <= fit.chi2_scan.min() + 1e-6
        at_end = np.interp([low, high], fit.h_scan, fit.chi2_scan) - float(fit.chi2)
        np.testing.assert_allclose(at_end, 3.84, rtol=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("h, ratio, noise", [(1.0, 0.2, 0.05), (0.7, 1.0 / 3.0, 0.05), (2.0, 0.05, 0.2), (1.0, 1.0, 0.01)])
def test_coverage_with_h_free(h, ratio, noise):
    loss = 0.25 * diffusion(h, ratio)
    dist, true = measured(steady(h, ratio, loss, source)), ratio + loss
    rng, held, values = np.random.default_rng(11), [], []
    for _ in range(120):
        fit = infer_mixing(dist.replace(f=dist.f * (1.0 + noise * rng.normal(size=dist.f.shape))), relative=noise)
        (a, b), (c, d) = fit.h_interval, fit.ratio_interval
        held.append((a <= h <= b, c <= true <= d))
        values.append((float(fit.h) / h, float(fit.ratio) / true))
    assert (np.abs(np.mean(held, axis=0) - 0.945) < 0.05).all(), np.mean(held, axis=0)
    error = np.std(values, axis=0) / np.sqrt(120)
    assert (np.abs(np.mean(values, axis=0) - 1.0) < (0.02, 0.05) + 2.0 * error).all(), np.mean(values, axis=0)


def test_isotropic_data_determine_nothing(tail):
    dist, _ = tail
    f = np.broadcast_to(1e-19 * V2[:, None] ** -2.0, dist.f.shape)
    noisy = dist.replace(f=f * (1 + 0.1 * np.random.default_rng(5).normal(size=f.shape)))
    given = infer_mixing(noisy, h=1.0, relative=0.1)
    assert given.fits and abs(float(given.alpha)) < 3 * float(given.sigma_alpha)
    assert np.isinf(given.ratio_interval[1]) and not given.determined and "no mixing is seen" in str(given)
    free = infer_mixing(noisy, relative=0.1)
    assert not free.h_determined and not free.determined and "not determined" in str(free)


@pytest.mark.parametrize("wrong", ["pancake", "cigar"])
def test_another_anisotropy_does_not_fit(tail, wrong):
    """sin^2 of the pitch angle, or cos^2, is no mixing: chi^2 and the runs of the residuals say so."""
    dist, _ = tail
    xi = np.asarray(dist.xi)
    shape = 1.0 - 0.5 * xi ** 2 if wrong == "pancake" else 0.5 + 0.5 * xi ** 2
    f = 1e-19 * V2[:, None] ** -2.0 * shape
    fit = infer_mixing(dist.replace(f=f * (1 + 0.05 * np.random.default_rng(6).normal(size=f.shape))), relative=0.05)
    assert not fit.fits and not fit.determined and fit.reduced_chi2 > 1.3 and fit.runs_z < -3 and "does not fit" in str(fit)
    if wrong == "pancake":
        assert float(infer_mixing(dist.replace(f=f), h=1.0, relative=0.05).alpha) < 0


# ---- as a function

def test_gradients(tail):
    """Reverse mode == forward mode == differences, for f and for h."""
    dist, _ = tail

    def ratio(log_f, h):
        return infer_mixing(dist.replace(f=jnp.exp(log_f)), h=h, relative=0.1).ratio

    x, way, d = jnp.log(dist.f), np.random.default_rng(7).normal(size=dist.f.shape), 1e-5
    reverse = plain_jit(jax.grad(ratio, argnums=(0, 1)))(x, 1.0)
    forward = plain_jit(lambda a, b: jax.jvp(ratio, (x, 1.0), (a, b))[1])
    for one, other, up, down in [((reverse[0] * way).sum(), forward(way, 0.0), ratio(x + d * way, 1.0), ratio(x - d * way, 1.0)),
                                 (reverse[1], forward(0.0 * x, 1.0), ratio(x, 1.0 + d), ratio(x, 1.0 - d))]:
        np.testing.assert_allclose(float(one), float(other), rtol=1e-9)
        np.testing.assert_allclose(float(one), float(up - down) / (2 * d), rtol=1e-5)


@pytest.mark.optimised
@pytest.mark.slow
def test_single_precision(tail):
    dist, true = tail
    narrow = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32) if np.asarray(x).dtype == np.float64 else x, dist)
    fit = infer_mixing(narrow, h=1.0, relative=0.05)
    assert fit.ratio.dtype == jnp.float32
    np.testing.assert_allclose(float(fit.ratio), float(infer_mixing(dist, h=1.0, relative=0.05).ratio), rtol=5e-3)


# ---- mistakes

@pytest.mark.parametrize("kw, message", [
    (dict(h=0.0, relative=0.1), "h = 0.0: must be above 0"),
    (dict(h=-1.0, relative=0.1), "h = -1.0: must be above 0"),
    (dict(h=(0.0, 1.0), relative=0.1), "must be above 0"),
    (dict(h=(2.0, 1.0), relative=0.1), "low < high"),
    (dict(h=1.0), "no standard errors; give relative="),
    (dict(h=1.0, relative=0.0), "relative = 0.0"),
    (dict(h=1000.0, relative=0.1), "trapped region .* holds no usable bin"),
    (dict(h=1e-4, relative=0.1, knots=3), "knots = 3: at least 4"),
])
def test_mistakes_are_named(tail, kw, message):
    with pytest.raises(ValueError, match=message) as error:
        infer_mixing(tail[0], **kw)
    assert "\n" not in str(error.value)


def test_no_bin_in_the_trapped_region():
    """Data along the field only: nothing to infer from."""
    edges = np.deg2rad([0.0, 10.0, 20.0, 30.0])
    dist = distribution(np.geomspace(10, 1000, 12), edges=edges, f=np.ones((12, 3)))
    with pytest.raises(ValueError, match="holds no usable bin"):
        infer_mixing(dist, h=0.5, relative=0.1)
