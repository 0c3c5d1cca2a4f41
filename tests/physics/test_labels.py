"""Labels of (mu, K) at a reference L: inverse, invariants, slopes and measure."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbelt.physics import dipole, labels
from jaxbelt.physics.invariants import K_of_alpha, mu_of_momentum

ALPHA = np.radians([3.0, 20.0, 45.0, 70.0, 89.0, 89.999])


@pytest.mark.parametrize("L", [2.5, 6.0, 7.3])
def test_mu_and_K_are_kept(L):
    place = labels.at_L(ALPHA, L, 6.0)
    p = 1.3
    np.testing.assert_allclose(K_of_alpha(place.alpha, L), K_of_alpha(ALPHA, 6.0), rtol=1e-9, atol=1e-12)
    here = mu_of_momentum(p * jnp.exp(place.log_p), place.alpha, L)
    np.testing.assert_allclose(here, mu_of_momentum(p, ALPHA, 6.0), rtol=1e-12)
    back, log_p = labels.to_labels(place.alpha, L, 6.0)
    np.testing.assert_allclose(back, ALPHA, rtol=1e-12)
    np.testing.assert_allclose(log_p + place.log_p, 0.0, atol=1e-12)


@pytest.mark.parametrize("L", [2.5, 7.3])
def test_slopes_are_those_of_the_map(L):
    """By automatic differentiation of the map itself, and at 90 degrees by its limit."""
    place = labels.at_L(ALPHA, L, 6.0)
    one = jnp.ones(ALPHA.size)
    _, slope = jax.jvp(lambda a: labels.at_L(a, L, 6.0)[:2], (jnp.asarray(ALPHA),), (one,))
    np.testing.assert_allclose(slope[0], place.alpha_slope, rtol=1e-6)
    np.testing.assert_allclose(slope[1], place.log_p_slope, rtol=1e-6, atol=1e-9)
    at, near = (labels.at_L(jnp.pi / 2 - d, L, 6.0) for d in (0.0, 1e-4))
    np.testing.assert_allclose(at.alpha_slope, near.alpha_slope, rtol=1e-6)
    assert np.all(np.isfinite(jax.tree.leaves(at)))


def test_the_measure_is_the_same_at_every_L():
    """p^3 T(y) sin(2 alpha) d(alpha) d(ln p) of the map: its Jacobian is one constant at each L."""
    for L in (3.0, 6.6):
        place = labels.at_L(ALPHA[1:5], L, 6.0)
        here = jnp.exp(3 * place.log_p) * dipole.T(jnp.sin(place.alpha)) * jnp.sin(2 * place.alpha) * place.alpha_slope
        there = dipole.T(jnp.sin(ALPHA[1:5])) * np.sin(2 * ALPHA[1:5])
        ratio = np.asarray(here / there)
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-11)


def test_cell_measures_against_quadrature():
    faces = np.radians(np.concatenate([np.linspace(2.0, 80.0, 14), [89.0, 89.999, 90.0]]))
    x, w = np.polynomial.legendre.leggauss(20)
    alpha = 0.5 * (faces[1:] + faces[:-1])[:, None] + 0.5 * np.diff(faces)[:, None] * x
    exact = 0.5 * np.diff(faces) * ((np.asarray(dipole.T(np.sin(alpha))) * np.sin(2 * alpha)) @ w)
    np.testing.assert_allclose(labels.pitch_measure(faces), exact, rtol=1e-11)


def test_a_tensor_keeps_its_diffusion():
    """D' = J D J^T: grad u . D grad u of any function is the same in both coordinates."""
    L, daa, dap, dpp = 4.0, 2.0, 0.7, 0.5
    alpha_ref = jnp.radians(jnp.asarray([25.0, 60.0, 85.0]))
    place = labels.at_L(alpha_ref, L, 6.0)
    new = labels.tensor_in_labels(place, daa, dap, dpp)
    # u_alpha, u_lnp at the place; in the labels by the chain rule
    u = jnp.asarray([0.3, -1.1])
    u_ref = [u[0] * place.alpha_slope + u[1] * place.log_p_slope, u[1]]
    here = daa * u[0] ** 2 + 2 * dap * u[0] * u[1] + dpp * u[1] ** 2
    there = new[0] * u_ref[0] ** 2 + 2 * new[1] * u_ref[0] * u_ref[1] + new[2] * u_ref[1] ** 2
    np.testing.assert_allclose(there, here, rtol=1e-12)
    assert np.all(np.asarray(new[1]) ** 2 <= np.asarray(new[0] * new[2]) * (1 + 1e-12))
