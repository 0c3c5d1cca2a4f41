"""The closed-form chorus tensor: positive, odd, scaled as waves are, and as near to real tables as its docstring says."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbelt.coefficients import Series, Time
from jaxbelt.physics.chorus_tensor import ChorusPower, ChorusTensor
from jaxbelt.physics.wave_tables import read_wave_tables

pytestmark = pytest.mark.plain
TABLES = Path(__file__).parents[3] / "shared" / "data" / "horne_chorus_tables.tgz"
ALPHA = np.radians([1.0, 5.0, 20.0, 45.0, 60.0, 75.0, 89.0])


def test_value_and_symmetry():
    got = ChorusTensor()(0.0, np.radians(60.0), 1.0, 4.5)
    np.testing.assert_allclose(got, [11.27, 1.326, 0.910], rtol=1e-3)
    up, down = (ChorusTensor()(0.0, x, 0.4, 5.0) for x in (ALPHA, np.pi - ALPHA))
    np.testing.assert_allclose([up[0], -up[1], up[2]], down, rtol=1e-9)
    assert abs(ChorusTensor()(0.0, np.pi / 2, 1.0, 4.5)[1]) < 1e-13 * up[0].max()


def test_positive_everywhere_also_beyond_the_tables():
    energy = np.geomspace(1e-3, 30.0, 9)[:, None]
    for density in (0.5, 3.0, 15.0):
        aa, ap, pp = ChorusTensor(density=density)(0.0, ALPHA, energy, 6.0)
        assert np.all(aa >= 0) and np.all(pp >= 0) and np.all(np.isfinite(ap)) and np.all(ap**2 <= 0.98**2 * aa * pp * (1 + 1e-9))


def test_power_density_amplitude_and_L_scale():
    one = np.array(ChorusTensor()(0.0, ALPHA, 0.5, 4.5))
    np.testing.assert_allclose(ChorusTensor(amplitude=50.0)(0.0, ALPHA, 0.5, 9.0), 2.0 * one, rtol=1e-12)
    power = Series([0.0, 3600.0], [1.0, 3.0])
    np.testing.assert_allclose(ChorusTensor(power=power)(Time.at(5000.0), ALPHA, 0.5, 4.5), 3.0 * one, rtol=1e-12)
    by_mlt = ChorusTensor(power=lambda t, L, phi: 1.0 + jnp.cos(phi))(0.0, ALPHA, 0.5, 4.5, np.full(7, np.pi / 3))
    np.testing.assert_allclose(by_mlt, 1.5 * one, rtol=1e-12)


def test_gradient_is_finite_without_waves():
    grad = jax.grad(lambda p: sum(jnp.sum(x) for x in ChorusTensor(power=p)(0.0, ALPHA, 0.5, 4.5)))(0.0)
    assert grad == pytest.approx(float(np.sum(ChorusTensor()(0.0, ALPHA, 0.5, 4.5))), rel=1e-12)


def test_power_of_the_waves():
    """58 pT at Kp = 4; without phi the mean over MLT; nothing inside of the plasmapause."""
    assert ChorusPower(kp=4.0)(0.0, 5.0) == pytest.approx(0.5761**2, rel=1e-3)
    dawn = ChorusPower(b_w=50.0, mlt=6.0, mlt_width=3.0, lpp=4.0, coverage=0.5)
    phi = 2 * np.pi * np.arange(48) / 48
    around = dawn(0.0, 5.0, phi)
    assert np.argmax(around) == 12 and around[12] == pytest.approx(0.125)
    assert dawn(0.0, 5.0) == pytest.approx(float(np.mean(around)), rel=1e-12) and dawn(0.0, 3.8) == 0.0
    with pytest.raises(ValueError, match="give one of the two"):
        ChorusPower()
    with pytest.raises(ValueError, match="ChorusPower b_w = '50 nT': must be a number in pT"):
        ChorusPower(b_w="50 nT")
    with pytest.raises(ValueError, match="ChorusTensor density = 'low': must be a number, a Series"):
        ChorusTensor(density="low")


@pytest.mark.slow
def test_as_near_to_the_tables_as_it_says():
    if not TABLES.exists():
        pytest.skip("the chorus tables are not here")
    tables = read_wave_tables(TABLES)
    n = tables.log_aa.shape[-1]
    alpha = tables.alpha_low.array[2] + (np.pi / 2 - tables.alpha_low.array[2]) * np.arange(n) / n
    energy, off = tables.energy.array[1:, None], []
    for k, density in enumerate(tables.ratio.array[:4]):
        got = ChorusTensor(density=density)(0.0, alpha, energy, tables.L.array[2])
        want = [np.exp(x[2, k, 1:]) * 86400 for x in (tables.log_aa, tables.log_pp)]
        for j, (model, table, floor) in enumerate(zip(got[::2], want, (1e-2, 1e-4))):
            use = (table > floor) & (alpha < np.radians(89.5))
            off.append((j, np.abs(np.log(np.asarray(model)[use] / table[use]))))
    for j, half, most in ((0, 1.43, 2.65), (1, 1.50, 3.1)):
        ratios = np.exp(np.concatenate([x for i, x in off if i == j]))
        assert np.median(ratios) < half and np.quantile(ratios, 0.9) < most
