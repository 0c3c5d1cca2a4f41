"""The foliated equation itself, without a grid: as printed, as the noise (14) makes it, in flux form, in canonical form.

Geometry, Hamilton's equations and the two-form are in test_field_lines.py and test_guiding_center.py.
"""

import foliated_operators as op
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import plain_jit

from jaxbelt.physics import field_lines as fl
from jaxbelt.physics import guiding_center as gc

rng = np.random.default_rng(5)
COUNT = 24
PSI = rng.uniform(0.2, 0.85, COUNT)
STATE = np.stack([fl.surface_length(PSI) * rng.uniform(-0.9, 0.9, COUNT), rng.normal(size=COUNT), rng.uniform(-3, 3, COUNT), PSI],
                 axis=1)
GIVEN = dict(D_perp=0.7, D_par=0.4, D_theta=0.3, gamma=0.25, rho=0.6, mu=1.3, slope=0.5, curvature=-0.8)


def density(z, c):
    """c["kind"]: how much of a smooth function of everything, of the flat state and of exp(-2 gamma H/D_par)."""
    l, v, theta, psi = z
    smooth = jnp.exp(-0.3 * (v - 0.2) ** 2 - 0.1 * l**2 - psi) * (1.2 + jnp.sin(theta + 0.5 * v + 2 * psi) * jnp.cos(0.7 * l))
    return jnp.dot(c["kind"], jnp.stack([smooth, jnp.ones_like(l), jnp.exp(-2 * c["gamma"] / c["D_par"] * op.energy(z, c))]))


CASES = [dict(GIVEN, alpha=alpha, closed=closed) for closed in (0.0, 1.0) for alpha in (0.0, 0.2, 0.5, 0.8, 1.0)]
FLAT = [dict(GIVEN, alpha=alpha, closed=1.0, gamma=0.0, kind=(0.0, 1.0, 0.0)) for alpha in (0.5, 0.0)]
BALANCE = [dict(GIVEN, alpha=0.3, closed=closed, D_perp=0.0, D_theta=0.0, kind=(0.0, 0.0, 1.0)) for closed in (1.0, 0.0)]


@pytest.fixture(scope="module")
def forms():
    """Every form in every case at every point, compiled once."""
    @plain_jit
    def everywhere(states, cases):
        def at(c, z):
            def P(z):
                return density(z, c)
            whole, scale = op.printed(P, z, c)
            w = jnp.stack(gc.to_canonical(*z))
            return dict(printed=whole, scale=scale, noise=op.of_noise(P, z, c), flux=op.flux_form(P, z, c), density=P(z),
                        canonical=op.canonical(op.in_canonical(P), w, c), dissipative=op.fluxes(P, z, c)[2])
        return jax.lax.map(lambda c: jax.vmap(lambda z: at(c, z))(states), cases)

    cases = [dict(dict(kind=(1.0, 0.0, 0.0)), **c) for c in CASES] + FLAT + BALANCE
    return jax.tree.map(np.asarray, everywhere(STATE, jax.tree.map(lambda *y: np.array(y), *[
        {k: np.asarray(v) for k, v in c.items()} for c in cases])))


@pytest.mark.parametrize("form", ["noise", "flux", "canonical"])
def test_eq_15_as_printed_is(forms, form):
    assert np.max(np.abs(forms["printed"] - forms[form])[:10] / forms["scale"][:10]) < 1e-11


def test_every_alpha_and_the_toroidal_friction_matter(forms):
    relative = (forms["printed"] / forms["scale"])[:10].reshape(2, 5, COUNT)
    for i in range(4):
        assert np.max(np.abs(relative[:, i] - relative[:, i + 1])) > 1e-3
    assert np.max(np.abs(relative[0] - relative[1])) > 1e-3


@pytest.mark.parametrize("form", ["printed", "canonical"])
def test_only_stratonovich_noise_leaves_the_flat_state_alone(forms, form):
    half, ito = (forms[form] / forms["scale"])[10:12]
    assert np.max(np.abs(half)) < 1e-12 and np.min(np.abs(ito)) > 1e-3


def test_detailed_balance(forms):
    """exp(-2 gamma H/D_par) is steady, and with C_theta = gamma rho q v nothing dissipative flows at all."""
    for form in ("printed", "canonical"):
        assert np.max(np.abs(forms[form] / forms["scale"])[12:]) < 1e-11
    balanced, loose = (forms["dissipative"] / forms["density"][..., None])[12:]
    assert np.max(np.abs(balanced)) < 1e-12
    expected = -GIVEN["gamma"] * GIVEN["rho"] * fl.from_length(STATE[:, 0], PSI).q * STATE[:, 1]
    np.testing.assert_allclose(loose[:, 2], expected, rtol=1e-9, atol=1e-12)        # what C_theta is there to cancel


def test_no_flux_across_the_field_where_content_goes_as_a_power_of_rB():
    """N ~ (r B)^(1 - 2 alpha) at constant chi: the drift of the sense alpha balances the diffusion in psi."""
    @plain_jit
    @jax.vmap
    def flux(z):
        def of(alpha):
            def P(z):
                at = fl.from_length(z[0], z[3])
                return (at.r_cyl * at.B) ** (1 - 2 * alpha) * jnp.exp(-(at.chi**2))
            parts = op.fluxes(P, z, dict(GIVEN, alpha=alpha, closed=1.0))
            return (parts[1] + parts[3])[3] / (jnp.abs(parts[1]) + jnp.abs(parts[3]))[3]
        return of(0.2), of(0.9)

    assert np.max(np.abs(flux(STATE))) < 1e-12


def test_heating_rates():
    """d<mu B>/dt and d<v^2/2>/dt of a particle by the noise across: E_perp [3 + 6 k'], E_par [15 - 12 k'] D_perp/psi^2 at the
    equator, k' = 1/2 - alpha, and D_par/2 by the noise along."""
    @plain_jit
    def rates(alpha, psi):
        c = dict(GIVEN, alpha=alpha, closed=0.0, gamma=0.0)

        def mean_rate(f, z):
            """The backward equation: (A + alpha (b . grad) b) . grad f + b b : f_zz/2."""
            b = op.noise_14(z, c)
            return jnp.dot(op.ito_drift(z, c), jax.jacfwd(f)(z)) + 0.5 * jnp.sum(b @ b.T * jax.jacfwd(jax.jacfwd(f))(z))

        z = jnp.stack([0.0 * psi, 0.7 + 0.0 * psi, 0.0 * psi, psi])
        E_perp, E_par = c["mu"] * psi**3, 0.5 * 0.7**2
        unit = c["D_perp"] / psi**2
        return (mean_rate(lambda z: c["mu"] * fl.from_length(z[0], z[3]).B, z) / (unit * E_perp),
                (mean_rate(lambda z: 0.5 * z[1] ** 2, z) - 0.5 * c["D_par"]) / (unit * E_par))

    for alpha in (0.0, 0.5, 1.0):
        np.testing.assert_allclose(rates(alpha, 0.6), (3 + 6 * (0.5 - alpha), 15 - 12 * (0.5 - alpha)), rtol=1e-12,
                                   atol=1e-13)
