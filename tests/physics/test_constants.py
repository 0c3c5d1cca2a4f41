import jax
import numpy as np
import pytest
from scipy import constants as codata

from jaxbelt import constants as c


def test_constants_agree_with_codata():
    assert c.LIGHT_SPEED == codata.c
    assert c.ELEMENTARY_CHARGE == codata.e
    np.testing.assert_allclose(c.ELECTRON_MASS, codata.m_e, rtol=1e-8)   # later adjustments differ in the 10th digit
    np.testing.assert_allclose(c.PROTON_MASS, codata.m_p, rtol=1e-8)


def test_rest_energies():
    np.testing.assert_allclose(c.rest_energy("electron"), 0.51099895, rtol=1e-8)
    np.testing.assert_allclose(c.rest_energy("proton"), 938.27208816, rtol=1e-9)


def test_earth():
    assert (c.EARTH.b_e, c.EARTH.r_e, c.EARTH.rotation) == (0.312, 6.378e6, 7.2921e-5)
    # corotation potential at L = 1: 92.5 kV
    np.testing.assert_allclose(c.EARTH.rotation * c.EARTH.b_e * 1e-4 * c.EARTH.r_e**2, 92.55e3, rtol=1e-3)
    assert len(jax.tree.leaves(c.EARTH.replace(b_e=0.30))) == 3


def test_species():
    assert c.species("electron").charge == -c.ELEMENTARY_CHARGE
    assert c.species("proton").charge == c.ELEMENTARY_CHARGE
    alpha = c.species((6.6447e-27, 2 * c.ELEMENTARY_CHARGE))
    assert c.species(alpha) is alpha


@pytest.mark.parametrize("wrong, message", [
    ("elektron", "'elektron' is unknown; use 'electron', 'proton'"),
    ((0.511, -1.0), "mass = 0.511 kg"),
    ((c.ELECTRON_MASS, -1.0), "charge = -1 C"),
    ((c.ELECTRON_MASS, 0.0), "charge = 0 C"),
    ((1.0, 2.0, 3.0), "is not a species"),
    (7, "7 is not a species"),
])
def test_a_wrong_species_is_named(wrong, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        c.species(wrong)
