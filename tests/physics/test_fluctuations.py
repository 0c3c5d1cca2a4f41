"""Fluctuations: alpha (16) to (19), the E x B noise (9) to (13) and its statistics (14), one sense of a noise in another."""

import math

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import plain_jit
from scipy import integrate

from jaxbelt.physics import fluctuations as fl

pytestmark = pytest.mark.plain

POINTS = np.array([[1.5, 0.0, 0.0], [0.9, -1.1, 0.4], [-0.6, 0.5, -0.9], [0.2, 1.3, 0.7]])


# --- alpha -------------------------------------------------------------------------------------------------------------------

def test_alpha_of_a_decaying_pulse_is_the_closed_form():
    ratio = np.array([1e-3, 0.1, 1.0, 3.0, 40.0, 1e4, 1e7])
    tau = 2.3

    def of_pulse(ratio):
        return fl.alpha_of_pulse(lambda t: fl.decaying_pulse(t, tau, tau / ratio, 0.7), tau, 0.7)

    closed = 0.5 * np.expm1(-ratio) ** 2
    np.testing.assert_allclose(fl.alpha_of_ratio(ratio), closed, rtol=1e-15)
    assert float(fl.alpha_of_ratio(1.0)) == pytest.approx(0.19978820, abs=5e-9)
    # a batch by vmap, and without: the parameters of the pulse are arrays, tau is a number
    (value, slope), batch = plain_jit(lambda x: (jax.vmap(jax.value_and_grad(of_pulse))(x), of_pulse(x)))(ratio)
    np.testing.assert_allclose(value, closed, rtol=1e-12)
    np.testing.assert_allclose(batch, closed, rtol=1e-12)
    np.testing.assert_allclose(slope, np.exp(-ratio) * -np.expm1(-ratio), rtol=1e-10, atol=1e-14)
    # the limits of (18)
    assert float(fl.alpha_of_ratio(0.0)) == 0.0 and float(fl.alpha_of_ratio(np.inf)) == 0.5
    assert float(jax.grad(fl.alpha_of_ratio)(0.0)) == 0.0 and float(jax.grad(fl.alpha_of_ratio)(np.inf)) == 0.0
    assert float(fl.alpha_of_ratio(1e-9)) == pytest.approx(0.5e-18, rel=1e-8)


def test_the_pulse_as_printed_would_not_give_it():
    """(17) without tau under the root gives alpha off by tau_d/tau: the correction is needed."""
    tau, tau_d, D = 2.0, 0.5, 0.3
    printed = plain_jit(lambda D: fl.alpha_of_pulse(lambda t: jnp.sqrt(D / tau_d) * jnp.exp(-t / tau_d), tau, D))(D)
    assert float(printed) == pytest.approx(float(fl.alpha_of_ratio(tau / tau_d)) * tau_d / tau, rel=1e-12)


def test_alpha_of_other_shapes_is_the_double_integral():
    tau, D = 1.7, 0.4

    def check(shape):
        double, _ = integrate.dblquad(lambda s, t: shape(s, np) * shape(t, np), 0.0, tau, 0.0, lambda t: t, epsabs=1e-12)
        alpha = plain_jit(lambda tau: fl.alpha_of_pulse(lambda t: shape(t, jnp), tau, D))(tau)
        assert float(alpha) == pytest.approx(double / (tau * D), rel=1e-10)

    check(lambda t, xp: 0.5 * xp.exp(-t) * xp.cos(6.0 * t))
    check(lambda t, xp: t * (tau - t))
    check(lambda t, xp: 0.3 / (0.1 + t) ** 0.5)
    # d alpha/d tau by the closed form of a constant pulse: tau/2D
    assert float(jax.grad(lambda tau: fl.alpha_of_pulse(jnp.ones_like, tau, D))(tau)) == pytest.approx(0.5 / D, rel=1e-12)


def test_decay_time_two_ways_and_the_exponent_of_18():
    t_par, anisotropy, mass, size, omega_b, omega_f = 1.3, 2.25, 0.8, 0.15, 0.9, 4.0
    length = math.sqrt(2.0 * t_par / mass) * 2.0 * math.pi / omega_b              # v_par = length omega_b/2 pi
    thermal = fl.decay_time(size, anisotropy * t_par, mass)
    np.testing.assert_allclose(fl.decay_time_of_bounce(size, length, omega_b, anisotropy), thermal, rtol=1e-14)
    ratio = fl.decay_ratio(omega_b, omega_f, length, size, anisotropy)
    np.testing.assert_allclose(ratio, 2.0 * math.pi / omega_f / thermal, rtol=1e-14)
    alpha = fl.alpha_of_fluctuations(omega_b, omega_f, length, size, anisotropy)
    np.testing.assert_allclose(alpha, 0.5 * (1.0 - math.exp(-1.5 * length * omega_b / (size * omega_f))) ** 2, rtol=1e-13)
    # SI: protons of 100 eV crossing a centimetre
    np.testing.assert_allclose(fl.decay_time(0.01, 100 * 1.602176634e-19, 1.67262192e-27), 7.2249e-8, rtol=2e-5)


def test_alpha_rises_from_0_to_a_half():
    ratio = np.logspace(-8, 8, 33)
    alpha = plain_jit(jax.vmap(lambda w: fl.alpha_of_fluctuations(w, 1.0, 3.0, 3.0, 1.0)))(ratio)
    assert np.all(np.diff(alpha[ratio < 10]) > 0) and alpha[0] < 1e-15 and alpha[-1] == 0.5
    slopes = plain_jit(jax.grad(fl.alpha_of_fluctuations, argnums=(0, 1, 2, 3, 4)))(0.3, 1.0, 3.0, 1.5, 4.0)
    x = 2.0 * 3.0 * 0.3 / 1.5                      # alpha depends on sqrt(anisotropy) length omega_b/(size omega_f) alone
    common = x * math.exp(-x) * (1.0 - math.exp(-x))
    np.testing.assert_allclose(slopes, common * np.array([1 / 0.3, -1.0, 1 / 3.0, -1 / 1.5, 0.5 / 4.0]), rtol=1e-12)


@pytest.mark.optimised
def test_single_precision():
    with jax.enable_x64(False):
        ratio = jnp.asarray([1e-4, 1e-2, 1.0, 30.0, 1e5], jnp.float32)
        closed = plain_jit(fl.alpha_of_ratio)(ratio)
        assert closed.dtype == jnp.float32
        np.testing.assert_allclose(closed, 0.5 * np.expm1(-np.asarray(ratio, float)) ** 2, rtol=1e-6)
        pulse = plain_jit(lambda x: fl.alpha_of_pulse(lambda t: fl.decaying_pulse(t, 1.0, 1.0 / x, 2.0), 1.0, 2.0))(ratio)
        np.testing.assert_allclose(pulse, closed, rtol=5e-6)
        increments = plain_jit(lambda key: fl.spectral_increments(key, jnp.ones_like, 64, 0.1, (2,)))(jax.random.key(0))
        assert increments.dtype == jnp.float32 and bool(jnp.all(jnp.isfinite(increments)))
        noise = fl.ExBNoise(D_perp=1e-3, D_theta=1e-3, D_par=1e-3)
        move = plain_jit(lambda x, dW: fl.displacement(x, dW, noise, 0.2))
        moved = move(jnp.asarray(POINTS, jnp.float32), jnp.full((4, 3), 0.1, jnp.float32))
        assert moved.dtype == jnp.float32
    exact = move(POINTS, np.full((4, 3), 0.1))
    np.testing.assert_allclose(moved, exact, atol=2e-6 * float(jnp.max(jnp.abs(exact))))


@pytest.mark.parametrize("call, words", [
    (lambda: fl.decay_time(0.0, 1.0), "size = 0"), (lambda: fl.decay_time(1.0, -2.0), "t_perp = -2"),
    (lambda: fl.decay_time_of_bounce(1.0, 1.0, 0.0), "omega_b = 0"), (lambda: fl.decay_ratio(-1.0, 1.0, 1.0, 1.0), "b = -1"),
    (lambda: fl.decay_ratio(1.0, 0.0, 1.0, 1.0), "omega_f = 0"), (lambda: fl.decay_ratio(1.0, 1.0, 1.0, 1.0, 0.0), "py = 0"),
    (lambda: fl.alpha_of_ratio([1.0, -0.5]), "tau/tau_d = -0.5"), (lambda: fl.alpha_of_ratio(np.nan), "tau/tau_d = nan"),
    (lambda: fl.decaying_pulse(0.0, -1.0, 1.0, 1.0), "tau = -1"), (lambda: fl.decaying_pulse(0.0, 1.0, 0.0, 1.0), "tau_d = 0"),
    (lambda: fl.decaying_pulse(0.0, 1.0, 1.0, -1.0), "D_perp = -1"), (lambda: fl.alpha_of_pulse(jnp.cos, 0.0, 1.0), "tau = 0"),
    (lambda: fl.alpha_of_pulse(jnp.ones_like, 1.0, 0.0), "D_perp = 0"), (lambda: fl.ExBNoise(D_perp=-1e-3), "D_perp = -0.001"),
    (lambda: fl.ExBNoise(D_perp=1.0, D_theta=-2), "D_theta = -2"), (lambda: fl.ExBNoise(D_perp=1.0, charge=0.0), "|charge| = 0"),
    (lambda: fl.displacement(POINTS, np.zeros((4, 3)), fl.ExBNoise(D_perp=1.0), 1.2), "alpha = 1.2"),
    (lambda: fl.walk(np.array([0.0, 0.0, 1.0]), np.zeros((2, 3)), fl.ExBNoise(D_perp=1.0)), "distance from the axis = 0"),
    (lambda: fl.interpretation_drift(lambda x: x, 1.0, -0.1), "alpha = -0.1"),
    (lambda: fl.interpretation_drift(lambda x: x, 1.0, 0.1, 2.0), "target = 2"),
    (lambda: fl.displacement_drift(lambda x: x, lambda x: x, 1.0, 1.5), "alpha = 1.5"),
    (lambda: fl.white_increments(jax.random.key(0), 4, 0.0), "dt = 0"),
    (lambda: fl.pulse_increments(jax.random.key(0), 4, 1.0, -1.0), "tau_d = -1"),
    (lambda: fl.spectral_increments(jax.random.key(0), lambda w: -w, 4, 1.0), "spectrum = -"),
])
def test_bad_input_is_one_clear_line(call, words):
    with pytest.raises(ValueError) as caught:
        call()
    assert words in str(caught.value) and "\n" not in str(caught.value)


# --- geometry and the E x B velocity -----------------------------------------------------------------------------------------

def coordinates(position):
    """(l, theta, psi) of one position, and the scalar potential chi: from their definitions, for differentiation."""
    x, y, z = position
    R = jnp.sqrt(x**2 + y**2 + z**2)
    s, psi = z / R, (x**2 + y**2) / R**3
    length = 0.5 * (s * jnp.sqrt(1 + 3 * s**2) + jnp.arcsinh(jnp.sqrt(3.0) * s) / jnp.sqrt(3.0)) / psi
    return jnp.stack([length, jnp.arctan2(-y, x), psi, z / R**3])


frame = plain_jit(fl.dipole_frame)
values = plain_jit(jax.vmap(coordinates))
gradients = plain_jit(jax.vmap(jax.jacfwd(coordinates)))


def test_frame_is_that_of_the_dipole():
    at = frame(POINTS)
    np.testing.assert_allclose(np.stack([at.l, at.theta, at.psi]), values(POINTS).T[:3], rtol=1e-14, atol=1e-15)
    grad_l, grad_theta, grad_psi, B = np.moveaxis(np.asarray(gradients(POINTS)), 1, 0)
    good = frame(np.tile([2.0, 0.0, 0.0], (4, 1)))
    assert (good.psi[0], good.l[0], good.field[0], good.q[0]) == (0.5, 0.0, 0.125, 0.0)
    np.testing.assert_allclose(np.cross(grad_psi, grad_theta), B, atol=1e-14)                # B = grad psi x grad theta
    np.testing.assert_allclose(B, at.field[:, None] * at.parallel, atol=1e-14)
    np.testing.assert_allclose(grad_psi, (at.r * at.field)[:, None] * at.perp, atol=1e-14)
    np.testing.assert_allclose(grad_theta, at.toroidal / at.r[:, None], atol=1e-14)
    np.testing.assert_allclose(grad_l, at.parallel + (at.q * at.r * at.field)[:, None] * at.perp, atol=1e-13)


def test_exb_velocity_of_the_noise_is_12_and_moves_psi_and_theta():
    noise = fl.ExBNoise(D_perp=0.02, D_theta=0.3, D_par=0.05, mass=1.7, charge=-0.6)
    gamma = np.random.default_rng(1).normal(size=(4, 3))
    electric = plain_jit(fl.electric_noise)(POINTS, gamma, noise)
    gradient = np.asarray(gradients(POINTS))
    one_form = gamma[:, [2, 0, 1]] * np.array([1.7 / -0.6 * math.sqrt(0.05), math.sqrt(0.02), math.sqrt(0.3)])
    np.testing.assert_allclose(electric, np.einsum("pc,pcx->px", one_form, gradient[:, :3]), atol=1e-13)            # (10), (11)
    velocity, at = plain_jit(fl.exb_velocity)(POINTS, electric), frame(POINTS)
    around = math.sqrt(0.3) * gamma[:, 1] + 1.7 / -0.6 * at.q * math.sqrt(0.05) * gamma[:, 2]
    perp = math.sqrt(0.02) * gamma[:, 0]
    twelve = (perp / (at.r * at.field))[:, None] * at.perp - (at.r * around)[:, None] * at.toroidal
    np.testing.assert_allclose(velocity, twelve, atol=1e-13)
    # psi' = -phi_theta, theta' = -(Gamma terms of 14c), l' = q psi'
    rates = np.einsum("pcx,px->pc", gradient[:, :3], velocity)
    np.testing.assert_allclose(rates, np.stack([at.q * perp, -around, perp], 1), atol=1e-13)
    # (13) is the first order of a step
    move = plain_jit(fl.displacement)
    np.testing.assert_allclose(move(POINTS, 1e-6 * gamma, noise, 0.3), 1e-6 * twelve, atol=1e-10)
    # in the sense of Stratonovich a step retraces itself to fourth order, in others to second
    def round_trip(size, alpha):
        there = move(POINTS, size * gamma, noise, alpha)
        return np.max(np.abs(there + move(POINTS + there, -size * gamma, noise, alpha)))

    assert 15.0 < round_trip(2e-2, 0.5) / round_trip(1e-2, 0.5) < 17.0
    assert 3.5 < round_trip(2e-2, 0.0) / round_trip(1e-2, 0.0) < 4.5


def test_gradients_at_the_edges_are_finite():
    noise = fl.ExBNoise(D_perp=0.0, D_theta=0.0, D_par=0.0)
    edges = jnp.asarray([[2.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])

    @plain_jit
    def slopes(noise, x):
        def loss(noise, x):
            moved = jnp.sum((x + fl.displacement(x, jnp.ones((3, 3)), noise)) ** 2)
            return moved + sum(jnp.sum(leaf) for leaf in fl.dipole_frame(x))
        return jax.value_and_grad(loss, argnums=(0, 1))(noise, x)

    leaves = jax.tree.leaves(slopes(noise, edges))
    assert len(leaves) == 7 and all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in leaves)


# --- statistics (14) ---------------------------------------------------------------------------------------------------------

@plain_jit
def shift(psi, length):
    """X q, X ln(rB) and q at (l, psi), X = d_psi + q d_l, from the closed forms of the dipole."""
    at = fl.dipole_frame(position_of(length, psi))
    x = 1.0 - _sine(length * psi) ** 2
    q_l = -3.0 / psi * x * (2.0 - x) / (4.0 - 3.0 * x) ** 2
    q_psi = (length * q_l - 2.0 * at.q) / psi
    return q_psi + at.q * q_l, (8.0 - 12.0 * x + 6.0 * x**2) / ((4.0 - 3.0 * x) ** 2 * psi), at.q


def _sine(u):
    """s of S(s) = u by Newton."""
    def newton(_, s):
        root = jnp.sqrt(1 + 3 * s**2)
        return s - (0.5 * (s * root + jnp.arcsinh(math.sqrt(3) * s) / math.sqrt(3)) - u) / root

    return jax.lax.fori_loop(0, 8, newton, u / jnp.sqrt(1.0 + 0.9 * u**2))


@jax.jit
def position_of(length, psi):
    s = _sine(jnp.asarray(length) * psi)
    R = (1.0 - s**2) / psi
    return jnp.stack([R * jnp.sqrt(1.0 - s**2), jnp.zeros_like(s), R * s], -1)


PSI, LENGTH, D, TIME = 0.5, 0.7, 1e-4, 1.0
NOISE = fl.ExBNoise(D_perp=D, D_theta=4e-4, D_par=9e-4, mass=0.5, charge=1.0)


def pairs(key, count, steps):
    """White increments and their mirror images: the mean of a pair has lost the first order of the noise."""
    dW = fl.white_increments(key, steps, TIME / steps, (count, 3))
    return jnp.stack([dW, -dW], 1)


def within(samples, expected, sigmas=4.0):
    samples = np.asarray(samples)
    error = np.std(samples, ddof=1) / math.sqrt(samples.size)
    assert abs(np.mean(samples) - expected) < sigmas * error, (np.mean(samples), expected, error)
    return error


def test_walk_diffuses_as_14():
    steps, count = 4, 10000
    Xq, growth, q = (float(v) for v in shift(PSI, LENGTH))
    start = position_of(LENGTH, PSI)
    move = plain_jit(lambda dW, alpha: fl.dipole_frame(fl.walk(start, dW, NOISE, alpha)))
    dW = pairs(jax.random.key(3), count, steps)
    for alpha in (0.0, 0.5, 1.0):
        at = move(dW, alpha)
        psi, theta, length = np.asarray(at.psi) - PSI, np.asarray(at.theta), np.asarray(at.l) - LENGTH
        for sign in (0, 1):
            within(psi[sign] ** 2, D * TIME)                                             # D_perp
            within(theta[sign] ** 2, (4e-4 + 0.25 * q**2 * 9e-4) * TIME)                 # D_theta, and D_par through q
            within(psi[sign] * theta[sign], 0.0)
            within(psi[sign] * length[sign], q * D * TIME)
        # the drifts: (14d), and (14a) with the alpha D_perp X q that its own noise adds in the mean
        drift = (0.5 - alpha) * D * growth * TIME
        if alpha == 0.5:                                                # no noise left: what there is, is the step's own error
            assert abs(psi.mean()) < 2.0 * (D * growth) ** 2 * TIME / PSI * TIME / steps
        else:
            error = within(psi.mean(0), drift)
            assert abs(drift) > 40 * error                                               # the test can tell them apart
        drift = D * TIME * ((0.5 - alpha) * (Xq + q * growth) + alpha * Xq)
        error = within(length.mean(0), drift)
        assert abs(drift) > 20 * error
        within(theta.mean(0), 0.0)


def test_walk_is_differentiable():
    """Reverse mode through the steps against central differences, in the strengths, the sense and the start."""
    dW = 0.3 * np.random.default_rng(4).normal(size=(3, 4, 3))

    def loss(noise, alpha, start):
        return jnp.sum(jnp.sin(3.0 * fl.walk(start, dW, noise, alpha)))

    at = (fl.ExBNoise(D_perp=0.02, D_theta=0.1, D_par=0.04, mass=0.7), 0.3, jnp.asarray(POINTS))
    both = plain_jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))
    flat, unravel = jax.flatten_util.ravel_pytree(at)
    flat = np.asarray(flat)
    slope = np.asarray(jax.flatten_util.ravel_pytree(both(*at)[1])[0])
    for k in range(7):                                                       # strengths, mass, charge, alpha, the first x
        unit = np.arange(flat.size) == k
        shifted = [float(both(*unravel(jnp.asarray(flat + h * unit)))[0]) for h in (-2e-4, -1e-4, 1e-4, 2e-4)]
        central = (8 * (shifted[2] - shifted[1]) - (shifted[3] - shifted[0])) / 12e-4
        assert abs(central - slope[k]) < 1e-8 * np.max(np.abs(slope)) and slope[k] != 0.0


def test_white_and_spectral_increments_have_the_variance_of_their_spectrum():
    key = jax.random.key(5)
    white = np.asarray(fl.white_increments(key, 16, 0.25, (4000,)))
    within(white.sum(0) ** 2, 4.0)
    within((white[:-1] * white[1:]).ravel(), 0.0)
    memory, steps, duration = 0.5, 40, 5.0

    @plain_jit
    def lorentz(key, memory):
        return fl.spectral_increments(key, lambda w: 1.0 / (1.0 + (w * memory) ** 2), steps, duration / steps, (6000,))

    parts = np.asarray(lorentz(key, memory))
    within(parts.sum(0) ** 2, duration - memory * (1.0 - math.exp(-duration / memory)))
    # covariance at half the time, from the correlation function exp(-t/memory)/(2 memory)
    half, T = duration / 2, duration
    within(parts[: steps // 2].sum(0) ** 2, half - memory * (1.0 - math.exp(-half / memory)))
    flat = np.asarray(plain_jit(lambda key: fl.spectral_increments(key, jnp.ones_like, 8, T / 8, (3000,), modes=50))(key))
    within(flat.sum(0) ** 2, T * (2.0 / math.pi**2) * np.sum(1.0 / (np.arange(50) + 0.5) ** 2))


def test_a_train_of_pulses_17_diffuses_psi_with_its_own_strength():
    tau, tau_d, pulses, samples, count = 0.1, 0.2, 10, 4, 4000
    rho, n = math.exp(-tau / tau_d), pulses
    dW = plain_jit(lambda key, tau_d: fl.pulse_increments(key, pulses, tau, tau_d, (count, 3), samples))(jax.random.key(7), tau_d)
    assert dW.shape == (pulses * samples, count, 3)
    W = np.asarray(dW).sum(0)
    variance = tau * (n - 2.0 * rho * (1.0 - rho**n) / (1.0 - rho**2))
    assert variance > 0.8 * n * tau
    within(W.ravel() ** 2, variance)
    # single steps: remaining impulses of variance 1/(1 - rho^2), of which a part goes in each, whenever it is
    for j in (0, pulses * samples - 1):
        part = math.exp(-tau / tau_d * (j % samples) / samples) * -math.expm1(-tau / tau_d / samples)
        within(np.asarray(dW)[j].ravel() ** 2, tau * part**2 / (1.0 - rho**2))
    # the walk they drive: psi spreads with D_perp; the noise is resolved in part, and its drift in the sense 0 is that part
    at = frame(plain_jit(fl.walk)(position_of(LENGTH, PSI), jnp.stack([dW, -dW], 1), NOISE, 0.0))
    within(np.asarray(at.psi[0] - PSI) ** 2, D * variance)
    part = np.exp(-tau / tau_d * np.arange(samples) / samples) * -math.expm1(-tau / tau_d / samples)
    rough = n * tau * np.sum(part**2) / (1.0 - rho**2)                                    # sum of <dW^2>
    assert rough < 0.2 * variance
    within(np.asarray(at.psi - PSI).mean(0), 0.5 * D * float(shift(PSI, LENGTH)[1]) * rough)


def test_pulses_felt_for_one_period_give_twice_alpha():
    """<W(tau)^2>/(2 tau) of one pulse cut off at tau is alpha (18): the mean of (16) over random strengths."""
    tau, tau_d = 0.4, 0.3
    t = np.linspace(0.0, tau, 4001)
    pulse = np.asarray(fl.decaying_pulse(t, tau, tau_d, 1.0))
    impulse = integrate.simpson(pulse, x=t)
    strengths = np.random.default_rng(2).normal(size=4000)
    within((strengths * impulse) ** 2 / (2 * tau), float(fl.alpha_of_ratio(tau / tau_d)))


# --- one sense in another ----------------------------------------------------------------------------------------------------

def test_multiplicative_noise_in_the_sense_alpha():
    """dX = s X dW in the sense alpha: Monte Carlo in that sense, Ito with the drift, and <X> = X0 exp(alpha s^2 t) agree."""
    s, steps, count, alpha = 0.4, 64, 4000, np.array([0.0, 0.3, 0.5, 1.0])
    half = fl.white_increments(jax.random.key(11), steps, 1.0 / steps, (count, 1))

    def noise(x):
        return s * x

    @plain_jit
    def run(dW):
        def step(state, dW):
            own, ito = state
            return (own + noise(own + alpha * noise(own) * dW) * dW,
                    ito + fl.interpretation_drift(noise, ito, alpha, 0.0) / steps + noise(ito) * dW), None
        start = jnp.ones((count, 4))
        return jax.lax.scan(step, (start, start), dW)[0]

    (own, ito), (own2, ito2) = run(half), run(-half)
    for k, a in enumerate(alpha):
        # weak order 1: compounding a s^2/steps is exact in the mean of both
        expected = (1.0 + a * s**2 / steps) ** steps
        assert abs(expected / math.exp(a * s**2) - 1) < 3e-4
        error = within(0.5 * (own + own2)[:, k], expected)
        within(0.5 * (ito + ito2)[:, k], expected)
        assert a == 0.0 or expected - 1.0 > 10 * error


def test_conversion_drifts_against_closed_forms():
    x = np.array([0.7, -0.4])

    def noise(x):                                                     # two Wiener processes in the plane
        return jnp.stack([jnp.stack([x[0] * x[1], jnp.sin(x[1])], -1), jnp.stack([x[1] ** 2, x[0]], -1)], 0)

    u, v = x
    convert = plain_jit(lambda alpha, target: fl.interpretation_drift(noise, x, alpha, target))
    exact = np.array([u * v * v + v**2 * u + u * math.cos(v), v**2 * 2 * v + math.sin(v)])     # columns (uv, v^2), (sin v, u)
    for alpha, target in ((0.2, 0.5), (1.0, 0.0), (0.5, 0.5)):
        np.testing.assert_allclose(convert(alpha, target), (alpha - target) * exact, atol=1e-15)
    # from alpha to Ito, and from there to Stratonovich, is from alpha to Stratonovich
    there = convert(0.8, 0.0) + convert(0.0, 0.5)
    np.testing.assert_allclose(there, convert(0.8, 0.5), atol=1e-15)
    # a point, a batch and a number
    batch = np.stack([x, 2 * x])
    square = plain_jit(lambda x, target: fl.interpretation_drift(lambda x: x**2, x, 1.0, target))
    np.testing.assert_allclose(square(batch, 0.0), 2 * batch**3, rtol=1e-14)
    assert float(square(3, 0.5)) == pytest.approx(27.0)
    assert np.all(np.asarray(fl.interpretation_drift(lambda x: 0.3, batch, 1.0)) == 0.0)                # additive noise
    slope = plain_jit(jax.grad(lambda a: jnp.sum(fl.interpretation_drift(noise, x, a))))(0.3)
    assert float(slope) == pytest.approx(exact.sum())


def test_displacement_drift_is_14a_and_14d():
    def size(x):
        at = fl.dipole_frame(position_of(x[..., 0], x[..., 1]))
        return 1.0 / (at.r * at.field)

    def noise(x):
        q = fl.dipole_frame(position_of(x[..., 0], x[..., 1])).q
        return math.sqrt(D) * jnp.stack([q, jnp.ones_like(q)], -1)

    points = np.array([[0.7, 0.5], [-1.1, 0.4], [0.0, 0.8]])
    convert = plain_jit(lambda alpha: fl.displacement_drift(noise, size, points, alpha))
    drift = convert(0.2)
    Xq, growth, q = shift(points[:, 1], points[:, 0])
    np.testing.assert_allclose(drift, 0.3 * D * np.stack([Xq + q * growth, growth], -1), rtol=1e-11, atol=1e-18)
    assert np.all(np.asarray(convert(0.5)) == 0.0)
    # psi as a function of Cartesian x: (1/2 - alpha) D (second derivative along perp)/(rB)^2
    places = position_of(points[:, 0], points[:, 1])
    hess = plain_jit(jax.vmap(jax.hessian(lambda x: coordinates(x)[2])))(places)
    at = frame(places)
    bend = np.einsum("pi,pij,pj->p", at.perp, hess, at.perp) / (at.r * at.field) ** 2
    np.testing.assert_allclose(drift[:, 1], 0.3 * D * bend, rtol=1e-11)
    # where there is no noise there is no drift
    assert float(fl.displacement_drift(lambda x: 0.0 * x, lambda x: 0.0 * x, 2.0, 0.0)) == 0.0
