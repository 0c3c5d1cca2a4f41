"""Ranges of models: named in one line, clamped or passed on."""

import jax
import numpy as np
import pytest

from jaxbelt.physics.ranges import check_outside, within


def test_outside_is_named_clamped_or_passed():
    with pytest.raises(ValueError, match="M L = 9 R_E is outside the model's range, 1 to 5 R_E; keep to the range") as caught:
        within("M", "L", np.array([2.0, 9.0]), 1.0, 5.0, unit="R_E")
    assert "\n" not in str(caught.value)
    assert within("M", "L", np.array([2.0, 9.0]), 1.0, 5.0, "nearest").tolist() == [2.0, 5.0]
    assert within("M", "L", 9.0, 1.0, 5.0, "extrapolate") == 9.0
    assert jax.jit(lambda x: within("M", "L", x, 1.0, 5.0))(9.0) == 9.0
    for value in (np.nan, np.float32(5.1), 5.0001):
        with pytest.raises(ValueError):
            within("M", "L", value, 1.0, 5.0)
    within("M", "L", np.float32(5.000001), 1.0, 5.0)
    with pytest.raises(ValueError):
        within("M", "L", np.float32(-1.0), 0.0, np.inf)


def test_the_way_must_be_known():
    with pytest.raises(ValueError, match="M outside: 'near' is unknown"):
        check_outside("M", "near")
