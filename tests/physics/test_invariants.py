import jax
import numpy as np
import pytest
import rbamlib
from scipy.integrate import quad
from scipy.optimize import brentq

from jaxbelt.constants import EARTH, ELECTRON_MASS, JOULE_PER_MEV, LIGHT_SPEED, Planet, rest_energy, species
from jaxbelt.physics import dipole, invariants

pytestmark = pytest.mark.plain

ENERGIES = np.geomspace(1e-6, 100.0, 25)
ALPHAS = np.r_[1e-4, 0.01, np.linspace(0.05, 1.55, 16), 0.5 * np.pi - 1e-4]
SHELLS = np.array([1.2, 4.0, 6.6])[:, None]


def test_momentum_energy_gamma_velocity():
    np.testing.assert_allclose(invariants.momentum(ENERGIES), rbamlib.conv.en2pc(ENERGIES), rtol=1e-9)   # its sqrt loses digits
    np.testing.assert_allclose(invariants.energy_of_momentum(1.42197), rbamlib.conv.pc2en(1.42197), rtol=1e-9)
    np.testing.assert_allclose(invariants.gamma_of_energy(ENERGIES), rbamlib.conv.en2gamma(ENERGIES), rtol=1e-9)
    np.testing.assert_allclose(invariants.momentum(1.0), 1.42197, rtol=1e-5)

@pytest.mark.parametrize("which", ["electron", "proton"])
def test_momentum_energy_gamma_velocity_of_one_another(which):
    pc = invariants.momentum(ENERGIES, which)
    np.testing.assert_allclose(invariants.energy_of_momentum(pc, which), ENERGIES, rtol=1e-14)
    gamma = invariants.gamma_of_energy(ENERGIES, which)
    np.testing.assert_allclose(invariants.energy_of_gamma(gamma, which), ENERGIES, rtol=1e-14, atol=1e-12)
    v = invariants.velocity(ENERGIES, which)
    np.testing.assert_allclose(gamma * species(which).mass * v * LIGHT_SPEED / JOULE_PER_MEV, pc, rtol=1e-14)      # p = gamma m v
    slope = jax.vmap(jax.grad(lambda p: invariants.energy_of_momentum(p, which)))(pc)
    np.testing.assert_allclose(slope, v / LIGHT_SPEED, rtol=1e-13)                                                 # v = dE/dp


def test_momentum_and_velocity_at_rest():
    for fn in (invariants.momentum, invariants.velocity, invariants.energy_of_momentum):
        assert fn(0.0) == 0.0 and np.isfinite(jax.grad(fn)(0.0))


def test_K_is_the_integral_along_the_field_line():
    # K = int sqrt(B_m - B) ds between mirror points, within 0.93 %
    for alpha in (0.1, 0.7, 1.3):
        mirror = brentq(lambda x: float(dipole.field(4.0, x)) * np.sin(alpha) ** 2 - 0.312 / 64, 0.0, 1.5, xtol=1e-13)  # noqa: B023
        b_m = (0.312 / 64) / np.sin(alpha) ** 2

        def integrand(x):
            b = 0.312 / 64 * np.sqrt(1 + 3 * np.sin(x) ** 2) / np.cos(x) ** 6
            return np.sqrt(max(b_m - b, 0.0)) * 4 * np.cos(x) * np.sqrt(1 + 3 * np.sin(x) ** 2)  # noqa: B023

        expected = 2 * quad(integrand, 0.0, mirror, epsrel=1e-9)[0]
        np.testing.assert_allclose(invariants.K_of_alpha(alpha, 4.0), expected, rtol=0.0093)


def test_K_values():
    np.testing.assert_allclose(invariants.K_of_alpha(np.pi / 4, 4.0), 0.189803, rtol=3e-6)
    assert invariants.K_of_alpha(0.5 * np.pi, 4.0) < 1e-30
    assert np.isfinite(invariants.K_of_alpha(0.0, 4.0)) and np.isfinite(jax.grad(invariants.K_of_alpha)(0.0, 4.0))


def test_K_and_alpha_are_inverse_to_rounding():
    @jax.jit
    def there_and_back(alpha):
        K = invariants.K_of_alpha(alpha, SHELLS)
        return K, invariants.alpha_of_K(K, SHELLS)

    K, alpha = there_and_back(ALPHAS)
    np.testing.assert_allclose(alpha, np.broadcast_to(ALPHAS, K.shape), rtol=3e-14)
    np.testing.assert_allclose(there_and_back(np.pi - ALPHAS)[0], K, rtol=1e-10)
    K = np.geomspace(1e-12, 1e6, 40)
    np.testing.assert_allclose(jax.jit(lambda K: invariants.K_of_alpha(invariants.alpha_of_K(K, 4.0), 4.0))(K), K, rtol=1e-9)


def test_alpha_of_K_agrees_with_rbamlib(monkeypatch):
    K = np.geomspace(1e-3, 10.0, 12)
    theirs = np.array([rbamlib.conv.LK2al(5.0, k) for k in K])
    # rbamlib rounds T0 and T1 to 1.3802, 0.7405
    np.testing.assert_allclose(invariants.alpha_of_K(K, 5.0), theirs, rtol=4e-5)
    monkeypatch.setattr(rbamlib.constants, "T0", dipole.T0)
    monkeypatch.setattr(rbamlib.constants, "T1", dipole.T1)
    theirs = np.array([rbamlib.conv.LK2al(5.0, k) for k in K])
    np.testing.assert_allclose(invariants.alpha_of_K(K, 5.0), theirs, rtol=1e-8)


def test_alpha_of_K_has_exact_derivatives():
    K, L = np.array([1e-6, 1e-3, 0.1, 1.0, 30.0]), 4.5
    alpha = invariants.alpha_of_K(K, L)

    def steep(a, x):
        return invariants.K_of_alpha(a, x)

    dK_dalpha, dK_dL = jax.jit(jax.vmap(jax.grad(steep, argnums=(0, 1)), in_axes=(0, None)))(alpha, L)
    slope, along = jax.jit(jax.vmap(jax.grad(invariants.alpha_of_K, argnums=(0, 1)), in_axes=(0, None)))(K, L)
    np.testing.assert_allclose(slope, 1 / dK_dalpha, rtol=1e-9)
    np.testing.assert_allclose(along, -dK_dL / dK_dalpha, rtol=1e-9)
    forward = jax.jit(lambda k: jax.jvp(lambda k: invariants.alpha_of_K(k, L), (k,), (np.ones_like(K),))[1])
    h = 1e-4 * K
    second = jax.jit(lambda k: jax.jvp(forward, (k,), (np.ones_like(K),))[1])(K)
    np.testing.assert_allclose(second, (forward(K + h) - forward(K - h)) / (2 * h), rtol=1e-6)
    forward = forward(K)
    np.testing.assert_allclose(forward, slope, rtol=1e-14)
    assert jax.grad(invariants.alpha_of_K)(0.0, 4.0) == 0.0 and invariants.alpha_of_K(0.0, 4.0) == 0.5 * np.pi
    # sin(alpha_eq) is smooth there
    np.testing.assert_allclose(jax.grad(dipole.y_of_K)(0.0, 4.0), -1 / (2 * dipole.T1 * 4 * np.sqrt(0.312 / 64)), rtol=1e-12)


@pytest.mark.optimised
def test_alpha_of_K_in_single_precision():
    K = np.geomspace(1e-5, 100.0, 30)
    single = jax.jit(invariants.alpha_of_K)(K.astype(np.float32), np.float32(4.0))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, invariants.alpha_of_K(K, 4.0), rtol=1e-6)


def test_second_invariant_agrees_with_rbamlib():
    K, mu = np.array([0.01, 0.5, 3.0]), np.array([50.0, 500.0, 5000.0])
    np.testing.assert_allclose(invariants.J_of_K(K, mu), rbamlib.conv.Kmu2Jc(K, mu), rtol=1e-9)
    np.testing.assert_allclose(invariants.K_of_J(2.0, mu), rbamlib.conv.Jcmu2K(2.0, mu), rtol=1e-9)
    np.testing.assert_allclose(invariants.K_of_J(invariants.J_of_K(K, mu), mu), K, rtol=1e-14)
    # J c = closed integral of pc cos(alpha) ds = 2 L pc Y(y)
    mu, k = invariants.to_invariants(1.0, 0.6, 4.0)
    np.testing.assert_allclose(invariants.J_of_K(k, mu), 2 * 4.0 * invariants.momentum(1.0) * dipole.Y(np.sin(0.6)), rtol=1e-13)
    assert np.isfinite(jax.grad(invariants.J_of_K, argnums=1)(0.5, 0.0)) and invariants.K_of_J(0.5, 0.0) == 0.0


@pytest.mark.parametrize("which, planet", [("electron", EARTH), ("proton", Planet(b_e=0.30, r_e=6.370e6))])
def test_energy_and_pitch_angle_to_invariants_and_back(which, planet):
    energy = ENERGIES[:, None]
    mu, K = invariants.to_invariants(energy, ALPHAS, 4.0, which, planet)
    back, alpha = invariants.from_invariants(mu, K, 4.0, which, planet)
    np.testing.assert_allclose(back, np.broadcast_to(energy, back.shape), rtol=1e-11)
    np.testing.assert_allclose(alpha, np.broadcast_to(ALPHAS, alpha.shape), rtol=1e-11)
    pc = invariants.momentum(energy, which)
    np.testing.assert_allclose(invariants.mu_of_momentum(pc, ALPHAS, 4.0, which, planet), mu, rtol=1e-11)
    back = invariants.momentum_of_mu(mu, ALPHAS, 4.0, which, planet)
    np.testing.assert_allclose(back, np.broadcast_to(pc, mu.shape), rtol=1e-11)


def test_mu_and_momentum_agree_with_rbamlib():
    alpha = np.linspace(0.01, 1.5, 9)
    np.testing.assert_allclose(invariants.mu_of_momentum(1.3, alpha, 4.0), rbamlib.conv.pc2mu(1.3, 4.0, alpha), rtol=1e-8)
    np.testing.assert_allclose(invariants.momentum_of_mu(300.0, alpha, 4.0), rbamlib.conv.mu2pc(300.0, 4.0, alpha), rtol=1e-8)
    np.testing.assert_allclose(invariants.to_invariants(1.0, alpha, 4.0)[0], rbamlib.conv.en2mu(1.0, 4.0, alpha), rtol=1e-8)


def test_psd_of_flux_values():
    np.testing.assert_allclose(invariants.psd_of_flux(1.0, 1.0), 1.650e-8, rtol=2e-4)
    np.testing.assert_allclose(invariants.psd_of_flux(1e3, 1.0, per="MeV"), invariants.psd_of_flux(1.0, 1.0), rtol=1e-14)
    j = 1e4 / (1e3 * 1.602176634e-19)                                                   # 1/(m^2 s sr J)
    p = invariants.momentum(ENERGIES) * JOULE_PER_MEV / LIGHT_SPEED                     # kg m/s
    joule = ENERGIES * JOULE_PER_MEV
    np.testing.assert_allclose(invariants.psd_of_flux(1.0, ENERGIES, units="SI"), j / p**2, rtol=1e-13)
    newtonian = invariants.psd_of_flux(1.0, ENERGIES, units="velocity")
    np.testing.assert_allclose(newtonian, ELECTRON_MASS**2 * j / (2 * joule), rtol=1e-13)
    relativistic = invariants.psd_of_flux(1.0, ENERGIES, units="velocity relativistic")
    np.testing.assert_allclose(relativistic, ELECTRON_MASS**3 * j / p**2, rtol=1e-12)
    np.testing.assert_allclose(relativistic[0], newtonian[0], rtol=2e-6)
    # (c/(MeV cm))^3 in SI: one unit of momentum is 1 MeV/c
    unit = (LIGHT_SPEED / JOULE_PER_MEV) ** 3 * 1e6
    np.testing.assert_allclose(invariants.psd_of_flux(1.0, 1.0, units="SI") / invariants.psd_of_flux(1.0, 1.0), unit, rtol=1e-12)


def test_a_density_counts_the_particles_of_its_flux():
    # n = int f d^3p = 4 pi int j/v dE, both by quadrature, proton, j = E exp(-E/0.2) per MeV
    def flux(energy):
        return energy * np.exp(-energy / 0.2)

    energy = np.geomspace(1e-7, 10.0, 20001)
    pc = np.asarray(invariants.momentum(energy, "proton"))
    f = np.asarray(invariants.psd_of_flux(flux(energy), energy, "proton", per="MeV"))
    from_psd = np.trapezoid(4 * np.pi * pc**2 * f, pc)                                  # 1/cm^3
    v = np.asarray(invariants.velocity(energy, "proton")) * 100
    np.testing.assert_allclose(from_psd, np.trapezoid(4 * np.pi * flux(energy) / v, energy), rtol=1e-6)


@pytest.mark.parametrize("units, per", [*((units, "keV") for units in invariants.PSD_UNITS), ("SI", "MeV")])
def test_flux_and_psd_are_inverse_and_safe_at_rest(units, per):
    f = invariants.psd_of_flux(3.0, ENERGIES, "proton", per, units)
    np.testing.assert_allclose(invariants.flux_of_psd(f, ENERGIES, "proton", per, units), 3.0, rtol=1e-14)
    assert invariants.psd_of_flux(0.0, 0.0, "proton", per, units) == np.inf
    assert invariants.flux_of_psd(3.0, 0.0, "proton", per, units) == 0.0
    for fn in (invariants.psd_of_flux, invariants.flux_of_psd):
        slopes = jax.grad(lambda x, e, fn=fn: fn(x, e, "proton", per, units), argnums=(0, 1))(0.0, 0.0)
        assert np.all(np.isfinite(slopes))


@pytest.mark.optimised
def test_psd_in_single_precision():
    for units in ("c/(MeV cm)", "velocity", "velocity relativistic"):
        single = invariants.psd_of_flux(np.float32(1.0), np.float32(1.0), units=units)
        np.testing.assert_allclose(single, invariants.psd_of_flux(1.0, 1.0, units=units), rtol=1e-6)
        assert single.dtype == np.float32


def test_energy_at_fixed_mu_and_K():
    L = np.array([3.0, 5.0, 7.0])
    np.testing.assert_allclose([invariants.Energy(mu=500, K=k)(0.0, 5.0) for k in (0.0, 0.1, 1.0)], [0.72859, 0.99286, 2.97779],
                               rtol=1e-5)
    np.testing.assert_array_equal(invariants.Energy(mu=500.0)(0.0, L), dipole.energy_of_mu(500.0, L))
    np.testing.assert_array_equal(invariants.Energy(mu=500.0, K=0.0)(0.0, L), dipole.energy_of_mu(500.0, L))
    for which in ("electron", "proton"):
        energy = invariants.Energy(mu=50.0, K=0.4, species=which)
        np.testing.assert_allclose(invariants.from_invariants(50.0, 0.4, L, which)[0], energy(0.0, L, 1.0), rtol=1e-14)
        # T/q of the Hamiltonian is the same energy
        volt = dipole.KineticEnergy(mu=50.0, K=0.4, species=which)(0.0, L)
        np.testing.assert_allclose(volt * species(which).charge / JOULE_PER_MEV, energy(0.0, L), rtol=1e-14)
        gradient = jax.jit(jax.grad(lambda e: e(0.0, 4.0)))(energy)
        assert all(np.isfinite(g) for g in jax.tree.leaves(gradient))
        # dE/dmu at constant K and L: E (E + 2 m c^2) ~ mu
        e, mc2 = energy(0.0, 4.0), rest_energy(which)
        np.testing.assert_allclose(gradient.mu, e * (e + 2 * mc2) / (2 * (e + mc2)) / 50.0, rtol=1e-12)
    many = jax.vmap(lambda k: invariants.Energy(mu=500.0, K=k)(0.0, L))(np.array([0.0, 0.4]))
    np.testing.assert_allclose(many[1], invariants.Energy(mu=500.0, K=0.4)(0.0, L), rtol=1e-14)


def test_values_that_mean_nothing_are_errors():
    with pytest.raises(ValueError, match=r"alpha_eq = 45 is out of range: .* in radians"):
        invariants.to_invariants(1.0, 45.0, 4.0)
    with pytest.raises(ValueError, match="energy = -1 is out of range"):
        invariants.to_invariants(-1.0, 0.5, 4.0)
    with pytest.raises(ValueError, match="K = -2 is out of range"):
        invariants.from_invariants(1.0, -2.0, 4.0)
    with pytest.raises(ValueError, match="Energy K = -2 "):
        invariants.Energy(mu=1.0, K=-2)
    with pytest.raises(ValueError, match="per: 'GeV' is unknown; use 'keV' or 'MeV'"):
        invariants.psd_of_flux(1.0, 1.0, per="GeV")
    with pytest.raises(ValueError, match="units: 'cgs' is unknown; use one of"):
        invariants.flux_of_psd(1.0, 1.0, units="cgs")
    with pytest.raises(ValueError, match="gamma = 0.5 "):
        invariants.energy_of_gamma(0.5)
    assert np.isnan(invariants.K_of_alpha(np.nan, 4.0))
