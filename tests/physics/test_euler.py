import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from jaxbelt.constants import EARTH, Planet
from jaxbelt.physics import dipole, euler

pytestmark = pytest.mark.plain

PAPER = Planet(b_e=0.30, r_e=6.370e6)             # 30,000 nT and 6370 km, Lejosne & Albert 2023, Eq. 11
LATITUDES = np.array([-1.2, -0.6, 0.3, 1.0, 1.3])


def dipole_vector(x):
    """Field of a dipole that points south, in units of the equatorial surface field; x in radii, Cartesian, first axis."""
    r = np.sqrt(np.sum(x * x, axis=0))
    return -(3 * x[2] * x / r**5 - np.array([0 * r, 0 * r, 1 / r**3]))


def spherical(x):
    r = jnp.sqrt(jnp.sum(x * x))
    return r, jnp.arcsin(x[2] / r), jnp.arctan2(x[1], x[0])


@pytest.mark.parametrize("planet", [EARTH, PAPER])
def test_the_gradients_of_the_potentials_give_the_field(planet):
    @jax.jit
    @jax.vmap
    def field(x):
        gradients = jax.jacrev(lambda x: jnp.stack([euler.alpha_at(*spherical(x)[:2], planet), euler.beta(spherical(x)[2])]))(x)
        return jnp.cross(gradients[0], gradients[1]) / planet.r_e**2         # tesla

    x = np.array([(3.0, 0.5, 1.0), (-4.0, 2.0, -2.5), (0.2, -1.1, 0.0)])
    B = np.asarray(field(x))
    np.testing.assert_allclose(B, planet.b_e * 1e-4 * dipole_vector(x.T).T, rtol=1e-12, atol=1e-18)
    r = np.linalg.norm(x, axis=1)
    latitude = np.arcsin(x[:, 2] / r)
    strength = dipole.field(r / np.cos(latitude) ** 2, latitude, planet)
    np.testing.assert_allclose(1e4 * np.linalg.norm(B, axis=1), strength, rtol=1e-12)
    assert B[2, 2] > 0                                                       # northward at the equator


def test_values():
    np.testing.assert_allclose(euler.alpha(4.0), -3.17295e8, rtol=2e-6)
    np.testing.assert_allclose(euler.alpha(1.0, PAPER), -30_000e-9 * 6.370e6**2, rtol=1e-14)
    np.testing.assert_allclose(euler.label_of_footpoint(np.pi / 3, 0.0)[0], 4.0, rtol=1e-14)
    np.testing.assert_allclose(euler.label_of_footpoint(np.pi / 3, 0.0, 120.0)[0], 4.0753, atol=5e-5)
    slope = jax.grad(euler.alpha)(4.0)
    np.testing.assert_allclose(slope, 0.312e-4 * 6.378e6**2 / 16, rtol=1e-14)


@pytest.mark.parametrize("altitude", [0.0, 100.0, np.array([0.0, 80.0, 110.0, 300.0, 800.0])])
def test_footpoints_labels_and_potentials_are_inverse(altitude):
    phi = np.array([0.1, 1.0, 3.0, 5.0, 6.2])
    L, p = euler.label_of_footpoint(LATITUDES, phi, altitude, PAPER)
    latitude, p2 = euler.footpoint(L, p, altitude, PAPER)
    np.testing.assert_allclose(latitude, np.abs(LATITUDES), rtol=1e-14)
    np.testing.assert_array_equal(p2, phi)
    a, b = euler.potentials_at_footpoint(LATITUDES, phi, altitude, PAPER)
    np.testing.assert_allclose(a, euler.alpha(L, PAPER), rtol=1e-14)
    back, p3 = euler.label_of_potentials(a, b, PAPER)
    np.testing.assert_allclose(back, L, rtol=1e-14)
    np.testing.assert_array_equal(p3, phi)


def test_one_field_line_has_one_label_at_every_height():
    altitude = np.array([0.0, 120.0, 1000.0])
    latitude, _ = euler.footpoint(5.0, 0.0, altitude)
    np.testing.assert_allclose(euler.label_of_footpoint(latitude, 0.0, altitude)[0], 5.0, rtol=1e-14)
    # the loss cone at that height mirrors at that footpoint
    np.testing.assert_allclose(dipole.mirror_latitude(dipole.loss_cone(5.0, altitude)), latitude, rtol=1e-13)


def test_phi_is_brought_to_one_turn():
    phi = euler.label_of_footpoint(1.0, np.array([-0.5 * np.pi, 2.5 * np.pi]))[1]
    np.testing.assert_allclose(phi, [1.5 * np.pi, 0.5 * np.pi])
    assert jax.grad(euler.beta)(-0.3) == 1.0


@pytest.mark.optimised
def test_transforms_and_ends():
    grad = jax.jit(jax.vmap(jax.grad(lambda x: euler.label_of_footpoint(x, 0.0)[0])))(LATITUDES)
    np.testing.assert_allclose(grad, 2 * np.tan(LATITUDES) / np.cos(LATITUDES) ** 2, rtol=1e-13)
    latitude = lambda x: euler.footpoint(x, 0.0)[0]                       # noqa: E731
    assert latitude(1.0) == 0.0 and np.isfinite(jax.grad(latitude)(1.0)) and jax.jit(latitude)(0.5) == 0.0
    single = jax.jit(lambda x: euler.potentials_at_footpoint(x, 0.0))(LATITUDES.astype(np.float32))[0]
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, euler.potentials_at_footpoint(LATITUDES, 0.0)[0], rtol=2e-6)


def test_values_that_mean_nothing_are_errors():
    with pytest.raises(ValueError, match=r"footpoint latitude = 60 is out of range: .* in radians"):
        euler.label_of_footpoint(60.0, 0.0)
    with pytest.raises(ValueError, match="rise above the altitude"):
        euler.footpoint(1.01, 0.0, 120.0)
    with pytest.raises(ValueError, match="alpha = 3e"):
        euler.label_of_potentials(3e8, 0.0)


def test_footpoints_traced_in_a_distorted_field_give_its_flux():
    # dipole + a day-night asymmetric compression (curl- and divergence-free), a tenth of the dipole's field at L = 6
    strength = 0.1 / 6.0**4

    def field(x):
        return dipole_vector(x) + strength * np.array([x[2], 0.0, x[0]])

    def trace(x):
        def along(s, x):
            b = field(x)
            return b / np.sqrt(b @ b)

        def surface(s, x):
            return x @ x - 1.0
        surface.terminal = True
        end = solve_ivp(along, (0.0, 60.0), x, events=surface, rtol=1e-10, atol=1e-10, method="DOP853").y[:, -1]
        return euler.potentials_at_footpoint(np.arcsin(end[2] / np.linalg.norm(end)), np.arctan2(end[1], end[0]))

    h = 1e-2
    x0 = 6.0 * np.array([np.cos(2.5), np.sin(2.5), 0.0])
    gradients = np.array([(np.array(trace(x0 + h * e)) - np.array(trace(x0 - h * e))) / (2 * h) for e in np.eye(3)]).T
    B = np.cross(*gradients) / EARTH.r_e**2
    expected = 0.312e-4 * field(x0)
    assert np.linalg.norm(expected - 0.312e-4 * dipole_vector(x0)) > 0.05 * np.linalg.norm(expected)
    # what is neglected is the distortion at the surface, 1e-4 of the dipole there
    np.testing.assert_allclose(B, expected, rtol=0, atol=5e-4 * np.linalg.norm(expected))
