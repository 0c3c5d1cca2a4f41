import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rbamlib import constants as rb
from rbamlib.models.lpp import CA1992
from rbamlib.models.tau import tau_lc

from jaxbelt.coefficients import Series, function, jumps
from jaxbelt.constants import ELECTRON_MASS
from jaxbelt.physics import dipole, losses
from jaxbelt.physics.drivers import kp_series, max_over
from jaxbelt.physics.losses import (
    KpLifetime,
    LossConeLifetime,
    ShadowingLifetime,
    StrongDiffusionLifetime,
    combine,
    strong_diffusion_lifetime,
)
from jaxbelt.physics.plasmapause import Plasmapause

pytestmark = pytest.mark.plain

L = np.linspace(2.0, 8.0, 121)


def finite(tree):
    return all(np.all(np.isfinite(x)) for x in jax.tree.leaves(tree))


def test_lifetime_on_either_side_of_the_plasmapause():
    tau = KpLifetime(kp=3.0)                       # Lpp = 4.22
    np.testing.assert_allclose(tau(0.0, np.array([3.0, 4.1, 4.22, 4.33, 6.0])), [10.0, 10.0, 2.0 / 1.1, 1.0, 1.0], rtol=1e-12)
    np.testing.assert_allclose(tau.replace(log_tau_out=np.log(2.0))(0.0, 6.0), 2.0, rtol=1e-13)


def test_plasmapause_agrees_with_rbamlib():
    rng = np.random.default_rng(1)
    values = np.round(rng.uniform(0, 9, 80), 1)
    kp = kp_series(values)
    t = np.asarray(kp.t)
    ours = [KpLifetime(kp=kp).plasmapause(x) for x in t]
    np.testing.assert_allclose(ours, CA1992(t / 86400.0, values), rtol=1e-14)


def test_plasmapause_remembers_a_storm_for_a_day():
    kp = kp_series([1.0, 6.0] + [1.0] * 20)
    tau = KpLifetime(kp=kp)
    at = 3600.0 * np.array([1.0, 4.0, 7.0, 29.9, 30.1])
    np.testing.assert_allclose([tau.plasmapause(t) for t in at], 5.6 - 0.46 * np.array([1.0, 6.0, 6.0, 6.0, 1.0]), rtol=1e-14)
    stated = KpLifetime(kp=kp, kp_max=max_over(kp, 24.0))
    for t in at:
        np.testing.assert_allclose(stated(t, L), tau(t, L), rtol=1e-14)
    assert set(jumps(tau)) < set(jumps(stated))


def test_quiet_times_are_safe():
    tau = KpLifetime(kp=0.0)
    assert finite(tau(0.0, L))
    np.testing.assert_allclose(tau(0.0, 7.0), 9.0, rtol=1e-13)
    assert finite(jax.grad(lambda x: x(0.0, 7.0))(tau))


def test_width_zero_is_a_hard_switch():
    tau = KpLifetime(kp=3.0, width=0.0)
    np.testing.assert_allclose(tau(0.0, np.array([4.2199, 4.2201])), [10.0, 1.0])
    assert finite(jax.grad(lambda x: x(0.0, L).sum())(tau))


def test_gradients_agree_with_differences():
    kp = kp_series([1.0, 6.0, 2.0, 3.0, 1.0])
    tau, t = KpLifetime(kp=kp), 4.5 * 10800.0

    def total(x):
        return jnp.sum(x(t, L))

    gradient = jax.grad(total)(tau)
    assert finite(gradient)
    assert gradient.kp.values[1] != 0.0 and gradient.kp.values[2] == 0.0      # the storm moved the plasmapause
    for name in ("tau_in", "log_tau_out", "width"):
        x, h = getattr(tau, name), 1e-6
        slope = (total(tau.replace(**{name: x + h})) - total(tau.replace(**{name: x - h}))) / (2 * h)
        np.testing.assert_allclose(getattr(gradient, name), slope, rtol=1e-7)
    h = 1e-6 * np.eye(5)[1]
    slope = (total(tau.replace(kp=Series(kp.t, kp.values + h))) - total(tau.replace(kp=Series(kp.t, kp.values - h)))) / 2e-6
    np.testing.assert_allclose(gradient.kp.values[1], slope, rtol=1e-6)


def test_replacing_kp_moves_the_plasmapause():
    tau = KpLifetime(kp=kp_series([1.0] * 10))
    stormy = tau.replace(kp=kp_series([6.0] * 10))
    np.testing.assert_allclose(stormy.plasmapause(0.0), 5.6 - 0.46 * 6.0)


@pytest.mark.optimised
def test_jit_and_vmap_agree_with_eager():
    tau = KpLifetime(kp=kp_series([1.0, 6.0, 2.0, 3.0, 1.0]))
    at = np.array([0.0, 2e4, 4e4])
    eager = np.stack([tau(t, L) for t in at])
    np.testing.assert_allclose(jax.jit(jax.vmap(lambda x, t: x(t, L), (None, 0)))(tau, at), eager, rtol=1e-13)
    assert np.all(np.isfinite(jax.vmap(lambda a: tau.replace(log_tau_out=a)(0.0, L))(np.array([-1.0, 1.0]))))


def test_another_plasmapause():
    kp = kp_series([1.0, 6.0, 2.0, 3.0, 1.0])
    tau, t = KpLifetime(kp=kp), 4.5 * 10800.0
    same = tau.replace(lpp=Plasmapause(kp=kp))
    np.testing.assert_allclose(same(t, L), tau(t, L), rtol=1e-13)
    other = tau.replace(lpp=Plasmapause(kp=kp, model="obrien2003"))
    np.testing.assert_allclose(other.plasmapause(t), 5.9 - 0.43 * 6.0, rtol=1e-13)
    # it may depend on where: a bulge at dusk
    bulge = tau.replace(lpp=function(lambda t, L, phi: 4.0 + jnp.where(phi > np.pi, 1.0, 0.0)), width=0.0)
    np.testing.assert_allclose(bulge(t, 4.5, np.array([1.5, 4.7])), [3.0, 10.0])


def test_shadowing_spares_closed_shells():
    tau = ShadowingLifetime(l_max=6.0)
    out = np.asarray(tau(0.0, L))
    assert np.all(np.isinf(out[L <= 6.0])) and np.all(np.isfinite(out[L > 6.02]))
    np.testing.assert_allclose(out[L > 6.11], 0.1 / 1440.0, rtol=1e-12)
    np.testing.assert_allclose(ShadowingLifetime(l_max=6.0, inside=5)(0.0, 4.0), 5.0)
    hard = ShadowingLifetime(l_max=6.0, width=0.0)
    assert np.isinf(hard(0.0, 6.0)) and np.isfinite(hard(0.0, 6.0 + 1e-9))


def test_shadowing_follows_its_driver():
    tau = ShadowingLifetime(l_max=Series([0.0, 3600.0], [8.0, 5.0]))
    assert np.isinf(tau(0.0, 6.0)) and np.isfinite(tau(4000.0, 6.0))
    noon = ShadowingLifetime(l_max=function(lambda t, L, phi: 7.0 + jnp.cos(phi) + 0.0 * L))
    out = noon(0.0, 7.5, np.array([0.0, np.pi]))
    assert np.isinf(out[0]) and np.isfinite(out[1])


def test_gradients_survive_infinite_lifetimes():
    tau = ShadowingLifetime(l_max=6.0)
    for f in (lambda x: jnp.sum(1.0 / x(0.0, L)), lambda x: jnp.sum(x.rate(0.0, L)),
              lambda x: jnp.sum(1.0 / combine(x, 10.0)(0.0, L)), lambda x: jnp.sum(losses.rate(x, 0.0, L))):
        gradient = jax.grad(f)(tau)
        assert finite(gradient) and gradient.l_max < 0.0


def test_combine_adds_rates():
    tau = combine(KpLifetime(kp=3.0), ShadowingLifetime(l_max=6.0), 20.0, None, np.inf)
    np.testing.assert_allclose(tau(0.0, np.array([3.0, 5.0, 7.0])), [1 / 0.15, 1 / 1.05, 1 / (14400 + 1.05)], rtol=1e-12)
    assert np.all(np.isinf(combine()(0.0, L)))
    np.testing.assert_allclose(combine(3, Series([0.0], [6.0]))(0.0, 4.0), 2.0, rtol=1e-14)
    np.testing.assert_allclose(jax.jit(lambda x: x(0.0, L))(tau), tau(0.0, L), rtol=1e-13)
    with pytest.raises(ValueError, match="lifetime 1 = 0 days must be positive"):
        combine(10.0, 0.0)


def test_rate_of_anything():
    assert losses.rate(None, 0.0, L) == 0.0
    np.testing.assert_allclose(losses.rate(np.array([2.0, np.inf]), 0.0, L), [0.5, 0.0])
    assert finite(jax.grad(lambda x: jnp.sum(losses.rate(x, 0.0, 4.0)))(np.array([2.0, np.inf])))


def test_loss_cone_agrees_with_rbamlib():
    x, alpha, E = np.meshgrid(np.linspace(1.5, 7.0, 6), np.deg2rad([0.5, 2.0, 4.0, 20.0, 90.0]), [0.1, 1.0, 5.0])
    tau = np.asarray(LossConeLifetime(energy=E, pitch_angle=alpha)(0.0, x)) * 86400.0
    # rbamlib computes v = p/(m gamma) with m = 0.91e-27 g, c in the momentum from 0.51099895 MeV, T(0) and T(1) to 5 digits
    theirs = tau_lc(x, alpha, E) * (ELECTRON_MASS * 1e3) / rb.me
    np.testing.assert_array_equal(np.isinf(tau), np.isinf(theirs))
    lost = np.isfinite(tau)
    assert 0.1 < lost.mean() < 0.6
    y = np.sin(alpha)
    T_theirs = rb.T0 - 0.5 * (rb.T0 - rb.T1) * (y + np.sqrt(y))
    np.testing.assert_allclose(tau[lost], (theirs * dipole.T(y) / T_theirs)[lost], rtol=3e-6)


def test_loss_cone_acts_on_both_sides_and_is_safe():
    tau = LossConeLifetime(energy=1.0, pitch_angle=np.deg2rad([0.0, 3.0, 5.34, 5.345, 90.0, 174.7, 177.0]))
    out = np.asarray(tau(0.0, 4.0)) * 86400.0
    np.testing.assert_array_equal(np.isfinite(out), [True, True, True, False, False, True, True])
    np.testing.assert_allclose(out[[1, 6]], 0.116674, rtol=1e-5)
    gradient = jax.grad(lambda x: jnp.sum(x.rate(0.0, 4.0)) + jnp.sum(1.0 / x(0.0, 4.0)))(tau)
    assert finite(gradient) and gradient.energy > 0.0
    higher = LossConeLifetime(energy=1.0, pitch_angle=np.deg2rad(5.4), altitude=120.0)
    assert np.isfinite(higher(0.0, 4.0)) and np.isinf(higher.replace(altitude=0.0)(0.0, 4.0))
    heavy = LossConeLifetime(energy=1.0, pitch_angle=0.05, species="proton")
    assert heavy(0.0, 4.0) > 15 * LossConeLifetime(energy=1.0, pitch_angle=0.05)(0.0, 4.0)
    along = LossConeLifetime(energy=function(lambda t, L: 4.0 / L), pitch_angle=function(lambda t, L: 0.05 + 0.0 * L))
    np.testing.assert_allclose(along(0.0, 4.0), LossConeLifetime(energy=1.0, pitch_angle=0.05)(0.0, 4.0), rtol=1e-13)


def test_strong_diffusion_limit():
    # the closed form of Thorne et al. (2005) with T at the loss cone taken as 1.2165, here at its own y
    x, E = 5.0, 1.0 / 0.51099895
    per_second = 9.66 * x**-4 * np.sqrt(4 * x / (4 * x - 3)) * np.sqrt(E * (E + 2)) / (E + 1)
    y = np.sin(dipole.loss_cone(x))
    ratio = dipole.T(y) / (2.99792458e8 / (4 * 6.378e6 * 9.66))
    np.testing.assert_allclose(strong_diffusion_lifetime(x, 1.0) * 86400.0, ratio / per_second, rtol=2e-3)
    tau = StrongDiffusionLifetime(energy=1.0)
    np.testing.assert_allclose(tau(0.0, x), strong_diffusion_lifetime(x, 1.0), rtol=1e-13)
    # nothing is lost faster than what is in the cone: the same bounce period, over the cone's share of directions
    cone = dipole.loss_cone(x)
    inside = LossConeLifetime(energy=1.0, pitch_angle=0.999999 * cone)(0.0, x)
    np.testing.assert_allclose(inside / tau(0.0, x), 0.5 * cone**2, rtol=1e-5)


def test_kp_out_of_range_is_refused():
    with pytest.raises(ValueError, match="KpLifetime kp = 40"):
        KpLifetime(kp=40)
