import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rbamlib

from jaxbelt.constants import EARTH, ELECTRON_MASS, ELEMENTARY_CHARGE, TESLA_PER_GAUSS, Planet, species
from jaxbelt.physics import dipole

L = np.array([3.0, 4.0, 5.0, 6.0])
ELECTRON_MASS_RBAMLIB, CHARGE_RBAMLIB = 0.91e-30, 4.803e-10 / 2.99792458e9   # kg, C


def rate_from_hamiltonian(energy, L, planet=EARTH):
    slope = jax.vmap(jax.grad(lambda x: energy(0.0, x)))(L)
    return L**2 / (planet.b_e * TESLA_PER_GAUSS * planet.r_e**2) * slope


def test_drift_period_of_a_1_mev_electron():
    period = dipole.drift_period(L, dipole.mu_of_energy(1.0, L))
    np.testing.assert_allclose(period, [1324.26, 993.20, 794.56, 662.13], atol=0.005)


def test_drift_period_agrees_with_rbamlib_for_its_electron():
    # rbamlib takes m_e = 0.91e-27 g, 0.1 % low, in the prefactor and 0.51099895 MeV in gamma
    theirs = np.array([float(np.squeeze(rbamlib.motion.T_drift(x, 1.0))) for x in L])
    ours = dipole.drift_period(L, dipole.mu_of_energy(1.0, L))
    np.testing.assert_allclose(theirs * ELECTRON_MASS_RBAMLIB / CHARGE_RBAMLIB, ours * ELECTRON_MASS / ELEMENTARY_CHARGE,
                               rtol=3e-5)
    np.testing.assert_allclose(theirs, ours, rtol=1.2e-3)


def test_energy_and_mu_agree_with_rbamlib():
    for x in L:
        np.testing.assert_allclose(dipole.mu_of_energy(1.0, x), np.squeeze(rbamlib.conv.en2mu(1.0, x)), rtol=1e-8)
        np.testing.assert_allclose(dipole.energy_of_mu(500.0, x), np.squeeze(rbamlib.conv.mu2en(500.0, x)), rtol=1e-8)


@pytest.mark.parametrize("which", ["electron", "proton"])
@pytest.mark.parametrize("energy", [1e-6, 1e-2, 1.0, 30.0])
def test_energy_and_mu_are_inverse(which, energy):
    mu = dipole.mu_of_energy(energy, L, which)
    np.testing.assert_allclose(dipole.energy_of_mu(mu, L, which), energy, rtol=1e-14)


@pytest.mark.parametrize("which, sign", [("electron", 1.0), ("proton", -1.0)])
def test_electrons_drift_east_and_protons_west(which, sign):
    assert np.all(sign * dipole.drift_rate(L, 500.0, which) > 0)


def test_slow_electrons_and_protons_of_equal_mu_drift_alike():
    mu = 1e-6
    np.testing.assert_allclose(dipole.drift_rate(L, mu, "proton"), -dipole.drift_rate(L, mu, "electron"), rtol=1e-6)


def test_drift_falls_off_with_L_as_it_should():
    slope = jax.vmap(jax.grad(lambda x: jnp.log(dipole.drift_rate(jnp.exp(x), 500.0))))(np.log(L))
    g2 = dipole.gamma(L, 500.0) ** 2
    np.testing.assert_allclose(slope, -2.0 + 1.5 * (g2 - 1.0) / g2, rtol=1e-12)


@pytest.mark.parametrize("which", ["electron", "proton", (6.6446573357e-27, 2 * ELEMENTARY_CHARGE)])
@pytest.mark.parametrize("planet", [EARTH, Planet(b_e=0.30, r_e=6.370e6), Planet(b_e=4.28, r_e=7.1492e7, rotation=1.76e-4)])
def test_the_hamiltonian_gives_the_drift_rate(which, planet):
    energy = dipole.KineticEnergy(mu=500, species=which, planet=planet)
    np.testing.assert_allclose(rate_from_hamiltonian(energy, L, planet), dipole.drift_rate(L, 500.0, which, planet), rtol=1e-12)


def test_kinetic_energy_is_in_volt():
    np.testing.assert_allclose(dipole.KineticEnergy(mu=500.0)(0.0, L, 1.0), -1e6 * dipole.energy_of_mu(500.0, L), rtol=1e-14)


def test_kinetic_energy_under_jit_vmap_grad():
    energy = dipole.KineticEnergy(mu=500.0)
    eager = energy(0.0, L)
    np.testing.assert_allclose(jax.jit(lambda e, x: e(0.0, x))(energy, L), eager, rtol=1e-14)
    many = jax.vmap(lambda mu: energy.replace(mu=mu)(0.0, L))(np.array([100.0, 500.0]))
    np.testing.assert_allclose(many[1], eager, rtol=1e-14)
    both = jax.tree.map(lambda *x: jnp.stack([jnp.asarray(v) for v in x]), species("electron"), species("proton"))
    rates = jax.jit(jax.vmap(lambda s: dipole.drift_rate(4.0, 500.0, s)))(both)
    assert rates[0] > 0 > rates[1]
    gradient = jax.grad(lambda e: e(0.0, 4.0))(energy)
    assert all(np.isfinite(g) for g in jax.tree.leaves(gradient))
    # T = (gamma - 1) m c^2, dT/dmu = B/gamma
    expected = -1e6 * dipole.equatorial_field(4.0) / dipole.gamma(4.0, 500.0)
    np.testing.assert_allclose(gradient.mu, expected, rtol=1e-12)


def test_gradient_is_finite_for_a_particle_at_rest():
    assert np.isfinite(jax.grad(lambda mu: dipole.energy_of_mu(mu, 4.0))(0.0))


def test_float32_keeps_seven_digits():
    energy = np.float32(1.0)
    single = dipole.drift_period(L.astype(np.float32), dipole.mu_of_energy(energy, L.astype(np.float32)))
    np.testing.assert_allclose(single, [1324.26, 993.20, 794.56, 662.13], rtol=1e-5)
