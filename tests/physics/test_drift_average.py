"""Local and drift-averaged coefficients: that each is right in its own equation, and how wrong it is in the other one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad, solve_ivp
from scipy.optimize import brentq

import jaxbelt as jb
from jaxbelt import drift_diffusion as dd
from jaxbelt.constants import EARTH
from jaxbelt.physics.dipole import KineticEnergy, drift_period, drift_rate, mu_of_energy
from jaxbelt.physics.drift_average import (
    DriftAverage,
    DriftAverageLifetime,
    ShellDiffusion,
    drift_average,
    drift_shell,
    lorentzian,
    resonant_dll,
)
from jaxbelt.physics.electric import DawnDusk, exb_drift
from jaxbelt.physics.losses import ShadowingLifetime
from jaxbelt.physics.radial_diffusion import BrautigamAlbertElectric, PowerLaw, total

pytestmark = pytest.mark.plain

DAY = 86400.0
L = np.array([3.0, 4.5, 6.0])


def localised(t, L, phi, d0, contrast):
    """White noise strongest at midnight; with contrast 1 its mean over phi is 1.5 d0 L^4, its maximum 4 d0 L^4."""
    return d0 * L**4 * (1.0 + contrast * jnp.cos(phi)) ** 2


def noise(d0=1.88e-3, contrast=1.0):
    return jb.function(localised, steady=True, d0=d0, contrast=contrast)


LOCAL = noise()


def test_mean_over_the_drift_phase():
    mean = 1.5 * 1.88e-3 * L**4
    np.testing.assert_allclose(drift_average(LOCAL, 0.0, L), mean, rtol=1e-13)
    np.testing.assert_allclose(DriftAverage(local=LOCAL)(0.0, L[:, None], 0.0)[:, 0], mean, rtol=1e-13)
    np.testing.assert_allclose(drift_average(LOCAL, 0.0, 4.5), mean[1], rtol=1e-13)
    phi = 2 * np.pi * (np.arange(8) + 0.5) / 8
    np.testing.assert_allclose(drift_average(localised(0.0, L[:, None], phi, 1.88e-3, 1.0), 0.0, L), mean, rtol=1e-13)
    np.testing.assert_allclose(drift_average(2.5, 0.0, L), 2.5 * np.ones(3), rtol=1e-15)
    np.testing.assert_allclose(DriftAverage(local=total(LOCAL, PowerLaw(d0=1e-6)))(0.0, L), mean + 1e-6 * L**10, rtol=1e-13)


def test_a_slower_drift_weighs_more():
    """<cos phi> with phidot = w (1 - e cos phi): integral cos/(1 - e cos) over integral 1/(1 - e cos)."""
    e, w = 0.6, 3e-3
    slow = jb.function(lambda t, L, phi: w * (1.0 - e * jnp.cos(phi)) + 0.0 * L)
    cosine = jb.function(lambda t, L, phi: jnp.cos(phi) + L)
    top, bottom = (quad(lambda p, k=k: np.cos(p) ** k / (1 - e * np.cos(p)), 0, 2 * np.pi)[0] for k in (1, 0))
    for phidot in (slow, jb.function(lambda t, L, phi: -slow(t, L, phi))):          # west or east is the same
        np.testing.assert_allclose(drift_average(cosine, 0.0, L, phidot=phidot), L + top / bottom, rtol=1e-12)
    np.testing.assert_allclose(top / bottom, (1 - np.sqrt(1 - e**2)) / e, rtol=1e-12)
    backward = jb.function(lambda t, L, phi: w * (1.0 - 1.5 * jnp.cos(phi)))
    with pytest.raises(ValueError, match="drift_average phidot: the drift stops or turns back"):
        drift_average(cosine, 0.0, L, phidot=backward)


def test_lifetimes_average_as_rates():
    one_sided = ShadowingLifetime(l_max=jb.function(lambda t, L, phi: jnp.where(jnp.cos(phi) < 0, 5.0, 9.0) + 0.0 * L), tau=0.1)
    averaged = DriftAverageLifetime(local=one_sided)
    np.testing.assert_allclose(averaged(0.0, L), [np.inf, np.inf, 0.2], rtol=1e-12)     # half the drift is spent where tau = 0.1
    np.testing.assert_allclose(averaged.rate(0.0, L), [0.0, 0.0, 5.0], rtol=1e-12)
    table = np.array([[1.0, np.inf], [2.0, 4.0], [1.0, 1.0]])
    np.testing.assert_allclose(DriftAverageLifetime(local=table)(0.0, L), [2.0, 8.0 / 3.0, 1.0], rtol=1e-13)
    gradient = jax.jit(jax.grad(lambda m: jnp.sum(m.rate(0.0, L)) + 1.0 / m(0.0, 6.0)))(averaged)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(gradient))


def test_averages_differentiate_sweep_and_keep_float32():
    average = DriftAverage(local=LOCAL)
    swept = jax.jit(jax.vmap(lambda a: DriftAverage(local=noise(a))(0.0, L)))(np.array([1.0, 2.0]))
    np.testing.assert_allclose(swept, 1.5 * L**4 * np.array([[1.0], [2.0]]), rtol=1e-12)
    np.testing.assert_allclose(jax.grad(lambda m: m(0.0, 3.0))(average).local.arrays["d0"], 1.5 * 81.0, rtol=1e-12)
    low = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), average)(jnp.float32(0.0), jnp.asarray(L, jnp.float32))
    assert low.dtype == jnp.float32
    np.testing.assert_allclose(low, average(0.0, L), rtol=1e-6)


def decay(dll, period=None, n=12, steps=200):
    """The slowest mode of D_LL ~ L^4 (heat flow in 1/L) after a day: F/F(0) at the middle of the grid, (n_phi,) or a number."""
    grid = dd.grid(L=(3.0, 6.0), cells=n if period is None else (n, n), spacing="inverse")
    shape = np.sin(6.0 * np.pi * (1.0 / 3.0 - 1.0 / grid["L"].centers))
    given = {} if period is None else {"phidot": 2.0 * np.pi / (period * DAY)}
    f0 = jnp.asarray(shape if period is None else np.broadcast_to(shape[:, None], grid.shape))
    problem = dd.problem(grid, dd.Parameters(dll=dll, **given), inner=0.0, outer=0.0)
    sol = jb.solve(problem, f0, t=[0, DAY], dt=DAY / steps)
    assert int(sol.result) == 0
    return np.asarray(sol.f[-1])[n // 2] / shape[n // 2]


@pytest.fixture(scope="module")
def averaged():
    """What is left by the radial equation with the drift-averaged coefficient."""
    return float(decay(DriftAverage(local=LOCAL, points=12)))


def test_the_radial_equation_needs_the_average_not_a_local_value(averaged):
    """Noise around midnight, 20 drifts a day: Eq. 27 with the local D_LL against Eq. 7 with its average, and with its maximum."""
    resolved = float(np.mean(decay(LOCAL, period=0.05)))
    midnight = float(decay(DriftAverage(local=noise(4.0 * 1.88e-3, 0.0), points=12)))     # the value at midnight, everywhere
    assert abs(averaged / resolved - 1.0) < 1e-2
    assert abs(midnight / resolved - 1.0) > 0.2                     # four fifths of what should be left are gone,
    np.testing.assert_allclose(np.log(midnight) / np.log(resolved), 8.0 / 3.0, rtol=1e-2)    # by max/mean = 4/1.5 in the rate


def test_the_drift_resolved_equation_needs_the_local_value_not_the_average(averaged):
    """A twentieth of a drift: what has happened depends on local time, of which the drift-averaged D_LL knows nothing.

    (With the averaged D_LL the drift-resolved equation would keep F uniform in phi, equal to the radial equation's.)
    """
    local = decay(LOCAL, period=20.0)
    assert np.min(local) < 0.4 * averaged and np.max(local) > 2.0 * averaged
    assert abs(np.mean(local) / averaged - 1.0) > 0.2               # not even the mean over local time is the same


def test_noise_with_a_memory_is_felt_at_the_drift_frequency():
    """Particles at phi = phi_0 + Omega t in Ldot = a(t) cos phi + b(t) sin phi, a and b Ornstein-Uhlenbeck.

    The measured D_LL of many drifts is variance tau/(1 + (Omega tau)^2), the local one (a particle at rest) variance tau.
    """
    rng = np.random.default_rng(20230704)
    n, steps, tau, variance = 12000, 640, 500.0, 1e-10
    period = 2000.0
    omega, dt = 2.0 * np.pi / period, period / 40
    keep, kick = np.exp(-dt / tau), np.sqrt(variance * (1.0 - np.exp(-2.0 * dt / tau)))

    def measured(omega):
        a, phi0, x = np.sqrt(variance) * rng.standard_normal((2, n)), rng.uniform(0, 2 * np.pi, n), np.zeros(n)
        moments = []
        for k in range(steps):
            c, s = np.cos(phi0 + omega * dt * (k + 0.5)), np.sin(phi0 + omega * dt * (k + 0.5))
            new = keep * a + kick * rng.standard_normal((2, n))
            x += 0.5 * dt * ((a + new)[0] * c + (a + new)[1] * s)
            a = new
            moments.append(np.mean(x * x))
        half = steps // 4                                            # the start, as long as the memory, is left out
        return DAY * (moments[-1] - moments[half - 1]) / (2.0 * dt * (steps - half))

    def spectrum(omega, m):
        return lorentzian(omega, variance, tau)

    drifting, resting = measured(omega), measured(0.0)
    expected, naive = resonant_dll(spectrum, omega), resonant_dll(spectrum, 0.0)
    np.testing.assert_allclose(naive, variance * tau * DAY, rtol=1e-13)
    np.testing.assert_allclose(naive / expected, 1.0 + (omega * tau) ** 2, rtol=1e-12)           # 3.47
    np.testing.assert_allclose(drifting, expected, rtol=0.04)
    np.testing.assert_allclose(resting, naive, rtol=0.04)
    assert abs(naive / drifting - 1.0) > 2.0                         # the local value, taken for the drift-averaged one


def test_without_memory_the_drift_does_not_matter():
    omega = 2.0 * np.pi / 600.0
    white = resonant_dll(lambda w, m: lorentzian(w, 1e-8, 0.1), omega)
    np.testing.assert_allclose(white, 1e-8 * 0.1 * DAY, rtol=2e-6)


def test_resonant_dll_from_the_definition():
    """D = integral_0^inf of the correlation along the drift, several modes."""
    omega, tau = 3e-3, 400.0
    power = {1: 1e-10, 2: 4e-11, 5: 2e-11}

    def along(s):
        return sum(p * np.exp(-s / tau) * np.cos(m * omega * s) for m, p in power.items())

    by_quadrature = DAY * quad(along, 0, 40 * tau, limit=400)[0]
    ours = resonant_dll(lambda w, m: lorentzian(w, power[m], tau), omega, modes=tuple(power))
    np.testing.assert_allclose(ours, by_quadrature, rtol=1e-9)
    np.testing.assert_allclose(resonant_dll(lambda w, m: lorentzian(w, power[m], tau), -omega, modes=tuple(power)), ours)
    total_power = quad(lambda w: lorentzian(w, 3.0, tau), -np.inf, np.inf)[0] / (2 * np.pi)
    np.testing.assert_allclose(total_power, 3.0, rtol=1e-8)


def test_resonant_dll_of_impulses_is_brautigam_and_albert():
    mu, field = 500.0, 1e-3 * (0.26 * 2.0 + 0.1)
    speed = field * L**3 / (EARTH.b_e * 1e-4 * EARTH.r_e)
    ours = resonant_dll(lambda w, m: lorentzian(w, 0.5 * speed**2, 1350.0), drift_rate(L, mu))
    np.testing.assert_allclose(ours, BrautigamAlbertElectric(kp=3, mu=mu)(0.0, L), rtol=1e-12)


MU = float(mu_of_energy(0.3, 5.0))
H = total(KineticEnergy(mu=MU), DawnDusk(e0=1.0, rotate=2.0))


def path_through(L0, phi0, phi):
    """The same contour by root finding, one local time after the other."""
    def h(x, p):
        mc2, b = 0.51099895, 0.312 / x**3
        kinetic = -1e6 * mc2 * (np.sqrt(1.0 + 2.0 * MU * b / mc2) - 1.0)
        return kinetic + 6378.0 * x * np.sin(p - np.pi / 6.0)
    level = h(L0, phi0)
    return np.array([brentq(lambda x, p=p: h(x, p) - level, 0.5 * L0, 2.0 * L0, xtol=1e-13, rtol=1e-14) for p in phi])


def star_of(L0, phi0, phi):
    return 1.0 / np.mean(1.0 / path_through(L0, phi0, phi))


shell_of = jax.jit(lambda h, star: drift_shell(h, 0.0, star))


def test_circles_are_shells():
    shell = shell_of(KineticEnergy(mu=MU), L)
    np.testing.assert_allclose(shell.L, np.broadcast_to(L[:, None], shell.L.shape), rtol=1e-13)
    np.testing.assert_allclose(shell.dl, 1.0, rtol=1e-12)
    np.testing.assert_allclose(shell.dphi, 0.0, atol=1e-14)
    np.testing.assert_allclose(shell.period, drift_period(L, MU), rtol=1e-12)
    plain = ShellDiffusion(hamiltonian=KineticEnergy(mu=MU), dll=LOCAL, dlphi=0.3, dphiphi=5.0)     # not traced: with its checks
    np.testing.assert_allclose(plain(0.0, L), drift_average(LOCAL, 0.0, L), rtol=1e-12)


def test_a_shell_against_root_finding():
    shell = shell_of(H, 5.0)
    path, phi = np.asarray(shell.L), np.asarray(shell.phi)
    assert np.ptp(path) > 0.4                                        # 0.3 MeV in 1 mV/m: far from a circle
    np.testing.assert_allclose(np.mean(1.0 / path), 0.2, rtol=1e-13)
    np.testing.assert_allclose(path_through(path[3], phi[3], phi), path, rtol=1e-10)
    h = 1e-4
    for k in (0, 17, 40):
        dl = (star_of(path[k] + h, phi[k], phi) - star_of(path[k] - h, phi[k], phi)) / (2 * h)
        dphi = (star_of(path[k], phi[k] + h, phi) - star_of(path[k], phi[k] - h, phi)) / (2 * h)
        np.testing.assert_allclose([shell.dl[k], shell.dphi[k]], [dl, dphi], rtol=1e-6, atol=1e-8)


def test_shell_averages_are_time_averages_along_an_orbit():
    """A particle is followed through one drift; what it meets on its way, averaged in time, is the shell's average."""
    shell = shell_of(H, 5.0)
    move = jax.jit(lambda x, p: jnp.stack(exb_drift(H, 0.0, x, p)))
    period = float(shell.period)

    def orbit(t, y):
        ldot, phidot = np.asarray(move(y[0], y[1]))
        return [ldot, phidot, 1.5 * y[0] ** 4 * (1.0 + np.cos(y[1])) ** 2]

    end = solve_ivp(orbit, (0.0, period), [float(shell.L[0]), float(shell.phi[0]), 0.0], rtol=1e-10, atol=1e-10).y[:, -1]
    np.testing.assert_allclose(end[:2], [shell.L[0], shell.phi[0] + 2 * np.pi], rtol=1e-7)
    met = np.sum(shell.weight * 1.5 * shell.L**4 * (1.0 + np.cos(shell.phi)) ** 2)
    np.testing.assert_allclose(met, end[2] / period, rtol=1e-7)
    circle = 1.5 * 1.5 * 5.0**4
    assert abs(end[2] / period / circle - 1.0) > 0.02                # the circle would not do


def test_shell_diffusion_projects_the_tensor_across_the_shells():
    shell = shell_of(H, 5.0)
    d = {"dll": 0.7, "dlphi": -0.2, "dphiphi": 0.4}
    by_hand = np.sum(shell.weight * (0.7 * shell.dl**2 - 0.4 * shell.dl * shell.dphi + 0.4 * shell.dphi**2))
    across = jax.jit(lambda model: model(0.0, 5.0))
    np.testing.assert_allclose(across(ShellDiffusion(hamiltonian=H, **d)), by_hand, rtol=1e-12)
    # diffusion along the shells alone moves nobody to another one: D ~ v v with v the drift itself

    def along(i, j):
        return jb.function(lambda t, L, phi: 1e8 * exb_drift(H, t, L, phi)[i] * exb_drift(H, t, L, phi)[j], steady=True)

    no_transport = ShellDiffusion(hamiltonian=H, dll=along(0, 0), dlphi=along(0, 1), dphiphi=along(1, 1))
    alone = float(across(no_transport.replace(dlphi=None, dphiphi=None)))
    assert alone > 1e-3 and abs(float(across(no_transport))) < 1e-12 * alone


def test_shells_differentiate():
    def value(e0, star):
        h = total(KineticEnergy(mu=MU), DawnDusk(e0=e0))
        return ShellDiffusion(hamiltonian=h, dll=LOCAL, points=32)(0.0, star)

    both = jax.jit(lambda e0, star: (value(e0, star), jax.grad(value, (0, 1))(e0, star)))
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(both(0.0, 5.0)))
    for e0 in (0.3, 1.0):
        (_, (by_field, by_star)), h = both(e0, 5.0), 1e-4
        np.testing.assert_allclose(by_field, (both(e0 + h, 5.0)[0] - both(e0 - h, 5.0)[0]) / (2 * h), rtol=1e-6)
        np.testing.assert_allclose(by_star, (both(e0, 5.0 + h)[0] - both(e0, 5.0 - h)[0]) / (2 * h), rtol=1e-6)


def test_open_drift_is_refused():
    open_path = total(KineticEnergy(mu=float(mu_of_energy(0.01, 6.0))), DawnDusk(e0=3.0))
    with pytest.raises(ValueError, match="drift_shell: "):
        drift_shell(open_path, 0.0, 6.0)
