import jax
import numpy as np
import pytest
from rbamlib.models.dll import BA2000

from jaxbelt.coefficients import Series, Time, function, is_steady, jumps
from jaxbelt.physics.radial_diffusion import BrautigamAlbert, PowerLaw

L = np.array([4.0, 5.0, 6.0])


def test_published_values():
    np.testing.assert_allclose(BrautigamAlbert(kp=2)(0.0, L), [5.10035e-3, 4.75007e-2, 0.29411184], rtol=2e-6)


@pytest.mark.parametrize("kp", [1.0, 3.7, 6.0])
def test_agrees_with_rbamlib(kp):
    np.testing.assert_allclose(BrautigamAlbert(kp=kp)(0.0, L), BA2000(L, kp), rtol=1e-12)


def test_reference_l_changes_nothing_at_the_published_power():
    np.testing.assert_allclose(BrautigamAlbert(kp=2, reference_l=5.0)(0.0, L), BrautigamAlbert(kp=2)(0.0, L), rtol=1e-12)
    steep = BrautigamAlbert(kp=2, power=12.0, reference_l=5.0)(0.0, L)
    np.testing.assert_allclose(steep / BrautigamAlbert(kp=2)(0.0, L), (L / 5.0) ** 2, rtol=1e-12)


def test_log_amplitude_is_a_natural_logarithm():
    np.testing.assert_allclose(BrautigamAlbert(kp=2, log_amplitude=np.log(3.0))(0.0, L), 3.0 * BrautigamAlbert(kp=2)(0.0, L),
                               rtol=1e-13)


def test_kp_may_be_a_series_or_a_function():
    kp = Series([0.0, 10800.0], [2.0, 5.0])
    dll = BrautigamAlbert(kp=kp)
    np.testing.assert_allclose(dll(20000.0, L), BrautigamAlbert(kp=5.0)(0.0, L), rtol=1e-14)
    on_the_edge = Time(0.0, 10800.0, 5400.0)
    np.testing.assert_allclose(dll(on_the_edge, L), BrautigamAlbert(kp=2.0)(0.0, L), rtol=1e-14)
    assert jumps(dll) == (0.0, 10800.0) and is_steady(dll)
    ramp = BrautigamAlbert(kp=function(lambda t, slope: 2.0 + slope * t, slope=1e-4))
    np.testing.assert_allclose(ramp(1e4, L), BrautigamAlbert(kp=3.0)(0.0, L), rtol=1e-13)


def test_gradients_against_the_formula():
    kp = Series([0.0, 10800.0], [2.0, 5.0])
    dll = BrautigamAlbert(kp=kp)
    gradient = jax.grad(lambda d: d(0.0, 4.0))(dll)
    value = dll(0.0, 4.0)
    np.testing.assert_allclose(gradient.log_amplitude, value, rtol=1e-13)
    np.testing.assert_allclose(gradient.power, value * np.log(4.0), rtol=1e-13)
    np.testing.assert_allclose(gradient.kp.values, [value * 0.506 * np.log(10.0), 0.0], rtol=1e-13)


def test_jit_and_vmap_agree_with_eager():
    dll = BrautigamAlbert(kp=Series([0.0, 10800.0], [2.0, 5.0]))
    eager = np.stack([dll.replace(log_amplitude=a)(0.0, L) for a in (-1.0, 0.0, 1.0)])
    swept = jax.jit(jax.vmap(lambda a: dll.replace(log_amplitude=a)(0.0, L)))(np.array([-1.0, 0.0, 1.0]))
    np.testing.assert_allclose(swept, eager, rtol=1e-13)


@pytest.mark.parametrize("kp, message", [(27.0, "kp = 27: .*10 Kp"), (-1, "kp = -1: a fill"), (float("nan"), "kp = nan")])
def test_a_kp_that_cannot_be_is_refused(kp, message):
    with pytest.raises(ValueError, match=message):
        BrautigamAlbert(kp=kp)


def test_power_law():
    law = PowerLaw(d0=1e-3, power=6, log_amplitude=np.log(2.0), reference_l=5.0)
    np.testing.assert_allclose(law(0.0, L), 2e-3 * (L / 5.0) ** 6, rtol=1e-13)
    np.testing.assert_allclose(PowerLaw(d0=1e-9)(0.0, L), 1e-9 * L**10, rtol=1e-13)
    driven = PowerLaw(d0=Series([0.0, 1.0], [0.0, 1.0], "linear"), power=0)
    np.testing.assert_allclose(driven(0.25, L), 0.25, rtol=1e-14)
    gradient = jax.grad(lambda p: p(0.0, L).sum())(PowerLaw(d0=0.0))
    assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(gradient))
