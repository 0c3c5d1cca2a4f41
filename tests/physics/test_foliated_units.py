"""Units of the foliated equation: a laboratory dipole by hand, ways there and back, derivatives, errors."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbelt.constants import ELECTRON_MASS, ELEMENTARY_CHARGE, PROTON_MASS
from jaxbelt.physics.foliated_units import UNITS, of_attrs, units


def test_laboratory_dipole():
    """Protons of 100 eV, 0.05 T, 0.4 m: 98 km/s, 4.1 us, rho = .051; D = 5e-3 is 138 V that last 4.1 us."""
    u = units(T0=100.0, B0=0.05, R0=0.4)
    v = np.sqrt(100 * 1.602176634e-19 / 1.67262192369e-27)
    np.testing.assert_allclose(u.v_th, v, rtol=1e-12)
    np.testing.assert_allclose(u.t0, 0.4 / v, rtol=1e-12)
    assert 4.0e-6 < u.t0 < 4.2e-6 and 0.049 < u.rho_star < 0.053
    # the gyroradius itself, mm
    np.testing.assert_allclose(u.rho_star * u.R0, 1.67262192369e-27 * v / (1.602176634e-19 * 0.05), rtol=1e-12)
    assert 135 < u.phi_theta(5e-3, u.t0) < 142
    # a particle: psi changes by phi_theta t, as d psi/dt = -d phi/d theta; in a run by (D t)^(1/2)
    np.testing.assert_allclose((u.phi_theta(5e-3, u.t0) * u.t0 / u.psi0) ** 2, 5e-3, rtol=1e-12)
    np.testing.assert_allclose(u.strength(u.phi_theta(5e-3, 2e-6), 2e-6), 5e-3, rtol=1e-13)


def test_what_the_units_are_made_of():
    """e phi/T0 = phi/rho; D_perp, D_par and D_theta are squares per time; mu B is an energy; psi = chi R0."""
    u = units(T0=37.0, B0=0.2, R0=1.3, species="electron", particles=4e12)
    assert u.rho_star < 0
    phi = u.physical(potential=1.7)
    np.testing.assert_allclose(u.charge * phi / (ELEMENTARY_CHARGE * u.T0), 1.7 / u.rho_star, rtol=1e-12)
    np.testing.assert_allclose(u.physical(mu=2.0) * u.physical(field=3.0), u.energy(6.0), rtol=1e-13)
    np.testing.assert_allclose(u.physical(chi=2.0) * u.R0, u.physical(psi=2.0), rtol=1e-13)
    for name, root in (("D_perp", "psi"), ("D_par", "velocity")):
        np.testing.assert_allclose(u.physical(**{name: 1.0}) * u.t0, u.physical(**{root: 1.0}) ** 2, rtol=1e-13)
    np.testing.assert_allclose(u.physical(D_theta=1.0), u.physical(rate=1.0), rtol=1e-15)
    np.testing.assert_allclose(0.5 * ELECTRON_MASS * u.velocity(2.0) ** 2 / ELEMENTARY_CHARGE, u.energy(2.0), rtol=1e-13)
    # n = 1 everywhere in a volume of 1 is a content of 1
    np.testing.assert_allclose(u.density(1.0) * u.length(1.0) ** 3, 4e12, rtol=1e-13)
    np.testing.assert_allclose(u.physical(line_density=1.0), u.density(1.0) * u.length(1.0), rtol=1e-13)
    np.testing.assert_allclose(u.holding(5e15, 2.5).density(2.5) * u.R0**3, 5e15, rtol=1e-13)
    assert u.time(2.0) == u.physical(time=2.0) and u.temperature(2.0) == 74.0


def test_there_and_back():
    u, x = units(T0=250.0, B0=0.03, R0=0.7, species=(4 * PROTON_MASS, 2 * ELEMENTARY_CHARGE)), np.array([0.0, 1e-3, 7.0])
    for name in UNITS:
        np.testing.assert_allclose(u.dimensionless(**{name: u.physical(**{name: x})}), x, rtol=4e-16)
    assert of_attrs(u.attrs()) == u and of_attrs({"title": "x"}) is None
    plain = of_attrs({"T0_eV": 100, "B0_T": 0.05, "R0_m": 0.4, "species": "electron"})
    assert plain.mass == ELECTRON_MASS and plain.charge < 0


def test_derivatives_and_vmap():
    """Units are a pytree: d t0/d T0 = -t0/(2 T0); rho over a batch of temperatures."""
    slope = jax.grad(lambda T: units(T, 0.05, 0.4).t0)(100.0)
    np.testing.assert_allclose(slope, -units(100.0, 0.05, 0.4).t0 / 200.0, rtol=1e-12)
    T = jnp.array([50.0, 200.0])
    rho = jax.jit(jax.vmap(lambda T: units(T, 0.05, 0.4).rho_star))(T)
    np.testing.assert_allclose(rho[1] / rho[0], 2.0, rtol=1e-12)


@pytest.mark.parametrize("call, message", [
    (lambda: units(-1.0, 0.05, 0.4), "T0: must be positive (a temperature in eV), got -1.0"),
    (lambda: units(100.0, 0.0, 0.4), "B0: must be positive (the field on the equator's surface in T), got 0.0"),
    (lambda: units(100.0, 0.05, float("nan")), "R0: must be positive (the radius in m), got nan"),
    (lambda: units(100.0, 0.05, 0.4, species="muon"), "species: 'muon' is unknown"),
    (lambda: units(1e5, 0.05, 0.4, species="electron"), "T0: 100000 eV is too hot for the equation, which is not relativ"),
    (lambda: units(100.0, 0.05, 0.4).physical(speed=1.0), "physical: give one of length, velocity"),
    (lambda: units(100.0, 0.05, 0.4).dimensionless(time=1.0, energy=2.0), "got time, energy"),
    (lambda: units(100.0, 0.05, 0.4).holding(1e10, 0.0), "content: must be positive (the number that the grid holds), got 0.0"),
])
def test_errors(call, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        call()
    assert "\n" not in str(caught.value)
