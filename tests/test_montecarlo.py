import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import plain_jit

from jaxbelt import _particle_steps as steps
from jaxbelt import montecarlo as mc
from jaxbelt.grid import Axis, Grid
from jaxbelt.physics import field_lines as fl

KEY = jax.random.key(0)
N, COUNT = 12000, 1000
BOX = (0.3, 0.7)


def coefficients(**given):
    return types.SimpleNamespace(**given)


def still(n, chi=0.0, psi=0.5, p=0.0):
    """Particles of no moment and no (or hardly any) velocity: nothing but the noise moves them."""
    return mc.from_canonical(jnp.full(n, chi), p, psi, 0.0, weight=1.0 / n)


def within(samples, exact, sigmas=4.0):
    samples = np.asarray(samples)
    error = np.std(samples, ddof=1) / math.sqrt(samples.size)
    assert abs(samples.mean() - exact) < sigmas * error, (samples.mean(), exact, error)
    return error


@pytest.fixture(scope="module")
def start():
    return plain_jit(lambda: mc.thermal(KEY, COUNT, psi=(0.35, 0.6), mu=(1.0, 8.0), theta=True))()


# --- bounce ---

@pytest.fixture(scope="module")
def bounce():
    @plain_jit
    def run(particles, dt):
        return mc.walk(particles, KEY, parameters=coefficients(rho=0.05), dt=dt, steps=40, psi=(0.2, 0.9))

    def filled(particles, dt):                       # always of one shape: compiled once
        n = particles.psi.size
        walk = run(jax.tree.map(lambda y: jnp.resize(y, COUNT), particles), dt)
        return jax.tree.map(lambda y: y[:n], walk.particles)
    return filled


def test_bounce_keeps_energy_and_moment_at_fourth_order(bounce, start):
    errors = []
    for dt in (0.1, 0.05):
        end = bounce(start, dt)
        alive = np.asarray(end.alive)
        assert alive.mean() > 0.5
        assert np.array_equal(end.mu, start.mu) and np.array_equal(end.psi, start.psi)
        errors.append(np.mean(np.abs(end.energy / start.energy - 1)[alive]))
    assert errors[1] < 3e-6 and errors[0] / errors[1] > 12


def test_frequency_and_drift_at_the_equator(bounce):
    psi, mu = np.array([0.4, 0.8]), np.array([2.0, 5.0])
    period = 2 * math.pi / (3 * np.sqrt(mu) * psi**2.5)
    for k in range(2):
        end = bounce(mc.from_canonical(1e-5, 0.0, psi, mu, theta=np.zeros(2)), period[k] / 40)
        assert end.chi[k] == pytest.approx(1e-5, rel=1e-6) and abs(end.p[k]) < 1e-8
        np.testing.assert_allclose(end.theta, 0.05 * 3 * mu * psi**2 * period[k], rtol=1e-7)          # rho mu B_psi


def test_loss_cone(bounce):
    psi, cosine = 0.4, (np.arange(200) + 0.5) / 200                   # isotropic, all of one speed
    B, surface, speed = psi**3, math.sqrt(4 - 3 * psi), 1.5
    particles = mc.from_canonical(np.zeros(200), speed * cosine / B, psi, 0.5 * speed**2 * (1 - cosine**2) / B, np.zeros(200))
    # half a bounce of those that go furthest
    end = bounce(particles, 2 * fl.HALF_LENGTH / (psi * speed) / 40)
    edge = math.sqrt(1 - B / surface)                       # sin^2 = B_eq/B_s: half a bounce is enough for the lost
    assert np.array_equal(end.alive, cosine < edge)


# --- the noise alone: particles with mu = 0 that stand still along the field ---

@pytest.fixture(scope="module")
def noise():
    @jax.jit                                         # many steps: worth its compilation
    def run(particles, key, alpha, D_perp, dt):
        return mc.walk(particles, key, parameters=coefficients(D_perp=D_perp, alpha=alpha, rho=0.0), dt=dt, steps=160, psi=BOX,
                       inner="reflecting", outer="reflecting", substeps=0, bins=np.linspace(*BOX, 5))
    return run


def test_psi_spreads_with_D_perp(noise):
    end = noise(still(N), KEY, 0.5, 1e-3, 1 / 160).particles
    within(end.psi, 0.5)
    within((end.psi - 0.5) ** 2, 1e-3)               # the walls are six deviations away
    np.testing.assert_array_equal(end.p, 0.0)


def test_between_reflecting_walls_the_profile_becomes_a_power_of_rB(noise):
    for alpha in (0.0, 1.0):
        for chi in (0.0, 0.4):
            x, w = np.polynomial.legendre.leggauss(8)                 # in each of the four bins
            psi = BOX[0] + 0.1 * (np.arange(4)[:, None] + 0.5 + 0.5 * x)
            at = fl.from_potential(chi, psi)
            exact = np.sum(0.5 * w * (at.r_cyl * at.B) ** (1 - 2 * alpha), axis=1)
            exact = exact / (0.1 * exact.sum())
            start = still(N, chi, BOX[0] + 0.4 * jax.random.uniform(jax.random.key(3), (N,)))
            walk = noise(start, KEY, alpha, 0.05, 4 / 160)
            assert np.all(np.abs(walk.profile[-1] - exact) < 4 * walk.profile_error[-1])
            assert np.max(np.abs(walk.profile[0] - exact) / walk.profile_error[-1]) > 10
            np.testing.assert_allclose(walk.fraction, 1.0, rtol=1e-12)
            np.testing.assert_allclose(walk.particles.chi, chi, atol=1e-14)


def test_heating_rates_at_the_equator(noise):
    psi, D, time = 0.5, 1e-4, 0.2
    p = 1e-7
    for alpha in (0.0, 0.5, 1.0):
        end = noise(still(N, 0.0, psi, p), KEY, alpha, D, time / 160).particles
        k = 0.5 - alpha
        # what has mean 0 in first order is subtracted: the noise in psi without its drift 2 k D/psi
        shift = (np.asarray(end.psi) - psi) / psi - 2 * k * D * time / psi**2
        field = (np.asarray(end.psi) / psi) ** 3
        parallel = (field * np.asarray(end.p) / p) ** 2
        unit = D * time / psi**2
        within((field - 1 - 3 * shift) / unit, 3 + 6 * k, 3)
        # p falls at 12 k D/psi^2 from its value and the field goes up: 15 - 12 k, and second order
        mean = (parallel - 1 - 6 * shift) / unit
        assert abs(mean.mean() - (15 - 12 * k)) < 3 * mean.std() / math.sqrt(N) + 100 * unit


def test_absorbing_walls_take_what_the_exact_series_says_at_any_step():
    n, width = N, BOX[1] - BOX[0]

    @plain_jit
    def run(particles, D_perp):
        return mc.walk(particles, KEY, parameters=coefficients(D_perp=D_perp), dt=1.0, steps=12, every=2, psi=BOX, substeps=0)

    psi = BOX[0] + width * (np.arange(n) + 0.5) / n
    for D_perp in (2e-4, 3e-3):                                       # steps of 4 and 14 % of the width
        walk = run(still(n, 0.1, psi), D_perp)
        m = np.arange(0, 200)[:, None] * 2 + 1
        exact = np.sum(8 / (math.pi * m) ** 2 * np.exp(-0.5 * D_perp * (math.pi * m / width) ** 2 * walk.t), axis=0)
        assert np.all(np.abs(walk.fraction - exact)[1:] < 4 * walk.fraction_error[1:])
        assert np.all(walk.fraction_error[1:] < 5e-3)
    # the planet is a wall of its own: at chi = 0.8 the surface is the field line psi = 0.36
    walk = run(still(n, 0.8, 0.3 + 0.06 * (np.arange(n) + 0.5) / n), 1e-4)
    exact = np.sum(8 / (math.pi * m) ** 2 * np.exp(-0.5e-4 * (math.pi * m / 0.06) ** 2 * walk.t), axis=0)
    assert np.all(np.abs(walk.fraction - exact)[1:] < 4 * walk.fraction_error[1:])


# --- everything ---

ALL = dict(D_perp=2e-3, D_theta=0.02, gamma=0.3, rho=0.1, potential=lambda t, psi: 0.4 * psi**2 + 0.1 * t * psi)


def test_the_printed_and_the_canonical_equations_are_one(start):
    def run(form):
        @plain_jit
        def run(alpha, D_par, key):
            end = mc.walk(start, key, parameters=coefficients(alpha=alpha, D_par=D_par, **ALL), dt=0.05, steps=10, psi=BOX,
                          form=form, substeps=1).particles
            turn, at = end.theta - start.theta, end.point
            v = end.p * at.B
            return jnp.stack([end.psi, v**2, end.mu * at.B, jnp.ones(COUNT), at.l**2, jnp.cos(turn), jnp.sin(turn),
                              turn * v * at.q, end.psi * v**2]), end.weight / jnp.mean(start.weight)
        return run

    canonical, printed = run("canonical"), run("paper")
    for alpha in (0.0, 1.0):                                          # independent noise: the same statistics
        one, two = (np.prod(np.broadcast_arrays(*found), axis=0) for found in
                    (canonical(alpha, 0.05, KEY), printed(alpha, 0.05, jax.random.key(5))))
        error = np.sqrt((np.var(one, axis=1) + np.var(two, axis=1)) / COUNT)
        assert np.all(np.abs(one.mean(axis=1) - two.mean(axis=1)) < 4 * error)
    # the same noise across: the same paths, but for the steps' own errors, while another alpha gives other paths
    runs = canonical(0.0, 0.0, KEY), printed(0.0, 0.0, KEY), canonical(1.0, 0.0, KEY)
    alive = np.all([found[1] > 0.0 for found in runs], axis=0)
    one, two, other = (np.asarray(found[0])[:3, alive] for found in runs)                   # psi, v^2, mu B
    gap, matters = np.mean(one - two, axis=1), np.mean(one - other, axis=1)
    error = np.std(one - two, axis=1) / math.sqrt(one.shape[1])
    assert np.all(np.abs(gap) < 4 * error) and np.all(np.abs(matters) > 20 * error), (gap, matters, error)
    assert np.mean(np.abs(one - two), axis=1)[0] < 0.002 * np.abs(matters[0])


@pytest.mark.slow
def test_a_step_is_of_weak_order_two():
    """Means over the noise by Gauss-Hermite quadrature, no sampling: one step against two halves differs in third order."""
    nodes, share = np.polynomial.hermite_e.hermegauss(14)
    share = share / share.sum()
    rule = steps.Rule(steps=1, every=1, substeps=8, psi=(0.05, 0.95), inner="absorbing", outer="absorbing", planet="absorbing",
                      form="canonical", p_max=None, closed=False, drifts=True, parallel=True, keep=False, bins=None, pushed=False,
                      lifetime=False)
    c = dict(D_perp=2e-3, alpha=0.1, D_par=0.0, gamma=0.2, rho=0.05)

    def step(state, h):
        state = steps._parallel(steps._bounce(state, 3.0, h / 2, rule, c), 0.0, h / 2, rule, c)
        n = state[0].size
        s, v, theta, psi, weight = (None if y is None else jnp.repeat(y, 14) for y in state)
        state = steps._across((s, v, theta, psi, weight * jnp.tile(share, n)), jnp.tile(nodes, n), h, rule, c)
        return steps._bounce(steps._parallel(state, 0.0, h / 2, rule, c), 3.0, h / 2, rule, c)

    def means(state):
        s, v, _, psi, weight = state
        B = fl.Point(s, 1 - s**2, psi).B
        return jnp.array([jnp.sum(weight * y) for y in (psi, psi**2, v**2, 3.0 * B, s * v, s**2)])

    start = jnp.array([0.2]), jnp.array([0.8]), None, jnp.array([0.45]), jnp.array([1.0])
    error = plain_jit(lambda h: jnp.abs(means(step(start, h)) - means(step(step(start, h / 2), h / 2))))
    assert np.all(np.asarray(error(0.1) / error(0.05)) > 7)


def test_noise_along_the_field_and_friction():
    n, gamma, D_par, time = N, 0.7, 0.5, 1.0
    start = mc.from_paper(np.zeros(n), 0.4, 0.5, 0.0, theta=np.zeros(n))
    given = coefficients(D_perp=0.0, D_par=D_par, gamma=gamma, D_theta=0.3, rho=0.0)
    end = plain_jit(lambda s: mc.walk(s, KEY, parameters=given, dt=0.25, steps=4, psi=BOX, planet="reflecting"))(start).particles
    share = -math.expm1(-2 * gamma * time)
    within(end.v**2, 0.4**2 * (1 - share) + D_par * share / (2 * gamma))
    within(end.theta**2, 0.3 * time)
    assert np.all(np.asarray(end.point.r) >= 1.0) and np.all(np.asarray(end.weight) == 1.0)


def test_reflecting_planet_keeps_particles_and_their_energy(start):
    run = plain_jit(lambda s: mc.walk(s, KEY, parameters=coefficients(), dt=0.05, steps=60, psi=BOX, planet="reflecting"))
    end = run(start).particles
    assert np.all(np.asarray(end.alive))
    np.testing.assert_allclose(end.energy, start.energy, rtol=2e-5)
    assert np.sum(np.asarray(end.p) * np.asarray(start.p) < 0) > 100


def test_drifts_of_the_user_lifetime_and_a_range_of_p():
    start = mc.from_canonical(np.array([0.0, 0.1, 0.1]), np.array([0.0, 0.0, 9.0]), np.array([0.4, 0.5, 0.5]),
                              np.array([0.0, 0.0, 0.3]), theta=np.zeros(3))
    given = coefficients(C_l=lambda t, l, v, psi, mu: 0.2 + 0 * l, C_theta=lambda t, l, v, psi, mu: psi, lifetime=2.0,
                         C_psi=lambda t, l, v, psi, mu: 0.1 * psi, rho=0.0)

    @plain_jit
    def run(start):
        end = mc.walk(start, KEY, parameters=given, dt=0.05, steps=20, psi=BOX, p_max=8.0).particles
        return start.l, start.v, end, end.l, end.v

    l, v, end, end_l, end_v = run(start)
    np.testing.assert_allclose(end.psi[:2], start.psi[:2] * math.exp(0.1), rtol=1e-5)
    np.testing.assert_allclose(end_l[:2], l[:2] + 0.2, rtol=1e-5)
    np.testing.assert_allclose(end.theta, start.psi * math.expm1(0.1) / 0.1, rtol=1e-5)
    np.testing.assert_allclose(end.weight, math.exp(-0.5), rtol=1e-12)
    # the third has more energy than p_max has at the equator: only the drift moves it along the line
    np.testing.assert_allclose(end_l[2], l[2] + 0.2, rtol=1e-5)
    np.testing.assert_allclose(end_v[2], v[2], rtol=1e-12)


# --- samplers and statistics ---

def test_samplers_draw_what_they_say():
    def place(psi, u):
        half = fl.surface_length(psi)
        at = fl.from_length(u * half, psi, outside="extrapolate")
        return half, at.B

    x, w = np.polynomial.legendre.leggauss(60)
    psi, u = 0.5 + 0.2 * x[:, None], x[None, :]

    @plain_jit
    def drawn():
        one = mc.thermal(KEY, 20000, psi=BOX, mu=3.0, cells=64)
        two = mc.thermal(KEY, 20000, psi=BOX, mu=(0.5, 6.0), theta=True, cells=64)
        # the same from uniform points and weights
        flat = mc.sample(KEY, 40000, lambda l, v, theta, psi, mu: jnp.exp(-0.5 * v**2 - mu * fl.from_length(l, psi).B), psi=BOX,
                         mu=(0.5, 6.0), theta=True)
        return one, one.v, one.point.B, two, flat, place(psi, u), (one.effective_number, flat.effective_number)

    one, v, field, two, flat, (half, B), effective = drawn()
    measure = 0.2 * w[:, None] * w[None, :] * np.asarray(half) * math.sqrt(2 * math.pi)
    B, weight = np.asarray(B), np.asarray(20000 * one.weight)
    N_one = np.sum(measure * np.exp(-3.0 * B))
    assert effective[0] > 18000 and 4000 < effective[1] < 20000
    within(weight, N_one)
    within(weight * np.asarray(field), np.sum(measure * B * np.exp(-3.0 * B)))
    within(weight * np.asarray(v) ** 2, N_one)
    N_two = 2 * math.pi * np.sum(measure * (np.exp(-0.5 * B) - np.exp(-6.0 * B)) / B)
    within(20000 * np.asarray(two.weight), N_two)
    within(40000 * np.asarray(flat.weight), N_two)
    assert two.mu.min() >= 0.5 and two.mu.max() <= 6.0
    gap = np.average(flat.mu, weights=flat.weight) - np.average(two.mu, weights=two.weight)
    assert abs(gap) < 4 * np.std(two.mu) / math.sqrt(float(effective[1]))


def test_particles_of_a_grid():
    rng = np.random.default_rng(1)
    grid = Grid((Axis.nodes("mu", [1.0, 4.0], [0.5, 2.0]), Axis.cells("psi", np.linspace(0.3, 0.5, 4)),
                 Axis.cells("chi", np.sinh(np.linspace(-0.6, 0.6, 5))), Axis.cells("p", np.sinh(np.linspace(-2, 2, 7)))))
    f = rng.uniform(size=grid.shape) * (rng.uniform(size=grid.shape) > 0.3)
    end = plain_jit(lambda f: mc.sample_grid(KEY, 40000, grid, f))(f)
    assert float(jnp.sum(end.weight)) == pytest.approx(grid.content(f), rel=1e-12)
    edges = [np.array([0.0, 2.0, 5.0])] + [a.faces for a in grid.axes[1:]]
    count = np.histogramdd(np.stack([end.mu, end.psi, end.chi, end.p], axis=1), bins=edges)[0]
    expected = 40000 * f * grid.volumes / grid.content(f)
    assert np.all(count[expected == 0] == 0)
    assert np.all(np.abs(count - expected) <= 5 * np.sqrt(expected))
    assert end.theta is None


def test_seeds_and_transformations(start):
    def run(key):
        walk = mc.walk(start, key, parameters=coefficients(D_perp=1e-3), dt=0.1, steps=4, every=2, psi=BOX, keep=True, substeps=1)
        B = walk.particles.point.B
        named = {name: getattr(walk, name) for name in ("N", "N_error", "T_perp", "E_par", "fraction")}
        return walk, named, walk.particles.mu * B, (walk.particles.p * B) ** 2 / 2

    single, other = plain_jit(run), jax.random.key(7)
    (one, named, heat, parallel), (again, *_), (second, *_) = single(KEY), single(KEY), single(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(again)):
        assert np.array_equal(a, b)
    assert not np.array_equal(one.particles.psi[-1], second.particles.psi[-1])
    assert one.particles.psi.shape == (3, COUNT) and one.t.tolist() == pytest.approx([0.0, 0.2, 0.4])
    many = plain_jit(jax.vmap(lambda key: run(key)[0]))(jnp.stack([KEY, other]))
    np.testing.assert_allclose(many.particles.psi[1], second.particles.psi, rtol=1e-13)
    both = one.merged(second)
    assert float(both.N[-1]) == pytest.approx(float(one.N[-1] + second.N[-1]))
    # sums over the particles are what `Walk` says they are, errors those of independent particles
    w = np.asarray(one.particles.weight)
    for k in range(3):
        assert float(named["T_perp"][k]) == pytest.approx(np.average(heat[k], weights=w[k]))
        assert float(named["E_par"][k]) == pytest.approx(np.average(parallel[k], weights=w[k]))
        assert float(named["N_error"][k]) == pytest.approx(math.sqrt(COUNT) * np.std(w[k]))
        assert float(named["fraction"][k]) == pytest.approx(w[k].sum() / w[0].sum())


AT = np.array([2e-3, 0.3, 0.2, 0.4, 0.05])


def mean_energy(y):
    """Of a few particles, through all that moves and reflects; the key, and so the noise, is the same."""
    few = mc.from_canonical(np.linspace(-0.3, 0.4, 6), np.linspace(-3.0, 9.0, 6), np.linspace(0.35, 0.6, 6), 2.0, np.zeros(6))
    given = coefficients(D_perp=y[0], alpha=y[1], D_par=y[2], gamma=y[3], rho=y[4])
    end = mc.walk(few, KEY, parameters=given, dt=0.1, steps=4, psi=BOX, planet="reflecting", inner="reflecting",
                  substeps=1).particles
    return jnp.sum((end.energy + jnp.sin(end.theta)) * end.weight)


def test_derivatives_against_differences():
    both = plain_jit(lambda y, dy: jax.jvp(mean_energy, (y,), (dy,)))
    for k in range(5):
        h = 1e-4 * AT * (np.arange(5) == k)
        values = [float(both(AT + m * h, h)[0]) for m in (-2, -1, 1, 2)]
        slope = float(both(AT, h)[1])
        assert abs((8 * (values[2] - values[1]) - (values[3] - values[0])) / 12 - slope) < 1e-6 * abs(slope) and slope != 0.0
    assert np.isfinite(both(np.array([0.0, 0.5, 0.0, 0.0, 0.0]), np.ones(5))[1])


@pytest.mark.slow
def test_reverse_mode_is_forward_mode():
    reverse, forward = plain_jit(jax.grad(mean_energy)), plain_jit(jax.jacfwd(mean_energy))
    for at in (AT, np.array([0.0, 0.5, 0.0, 0.0, 0.0])):
        np.testing.assert_allclose(reverse(at), forward(at), rtol=1e-10)


GOOD = dict(dt=0.1, steps=2, psi=BOX)


@pytest.mark.parametrize("given, options, words", [
    (dict(alpha=1.2), GOOD, "alpha = 1.2"),
    (dict(D_perp=-1e-3), GOOD, "D_perp = -0.001"),
    (dict(gamma=-0.5), GOOD, "gamma = -0.5"),
    (dict(gamma="closing"), GOOD, "gamma = 'closing'"),
    (dict(lifetime=0.0), GOOD, "lifetime = 0"),
    (dict(source=1.0), GOOD, "source"),
    ({}, {**GOOD, "dt": 0.0}, "dt = 0"),
    ({}, {**GOOD, "psi": (0.5, 1.1)}, "0 < low < high < 1"),
    ({}, {**GOOD, "inner": "open"}, "inner = 'open'"),
    ({}, {**GOOD, "form": "cartesian"}, "form = 'cartesian'"),
    ({}, {**GOOD, "every": 3}, "every must divide steps"),
])
def test_bad_input_is_one_clear_line(given, options, words):
    with pytest.raises(ValueError) as found:
        mc.walk(still(3), KEY, parameters=coefficients(**given), **options)
    assert words in str(found.value) and "\n" not in str(found.value)


@pytest.mark.parametrize("call, words", [
    (lambda: mc.from_canonical(0.0, 0.0, 1.2, 1.0), "psi = 1.2"),
    (lambda: mc.from_canonical(0.0, 0.0, 0.5, -1.0), "mu = -1"),
    (lambda: mc.thermal(KEY, 3, psi=(0.6, 0.5), mu=1.0), "0 < low < high < 1"),
    (lambda: mc.thermal(KEY, 3, psi=BOX, mu=(2.0, 1.0)), "mu = (2.0, 1.0)"),
    (lambda: mc.sample_grid(KEY, 3, Grid((Axis.cells("psi", [0.1, 0.2, 0.3]),)), np.ones(2)), "axis 'mu'"),
])
def test_bad_particles_are_named(call, words):
    with pytest.raises(ValueError) as found:
        call()
    assert words in str(found.value) and "\n" not in str(found.value)
