import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import plain_jit
from scipy.integrate import quad
from scipy.optimize import brentq

from jaxbelt.physics import dipole
from jaxbelt.physics import field_lines as fl

PROPERTIES = ("l", "chi", "B", "r", "r_cyl", "z", "latitude", "L", "q", "q_l", "q_psi", "B_l", "B_psi_at_l", "B_chi", "B_psi",
              "B_psipsi", "a", "c")
rng = np.random.default_rng(3)
PSI = np.append(rng.uniform(0.02, 0.95, 30), [0.5, 0.9])
TOP = np.sqrt(1 - PSI)                                       # sin(latitude) at the surface
SINE = np.append(TOP[:30] * rng.uniform(-1, 1, 30), [0.0, 0.0])
LENGTH = (SINE * np.sqrt(1 + 3 * SINE**2) + np.arcsinh(np.sqrt(3) * SINE) / np.sqrt(3)) / 2 / PSI
CHI = PSI**2 * SINE / (1 - SINE**2) ** 2


def everything(point):
    return {name: getattr(point, name) for name in PROPERTIES}


@plain_jit
@jax.vmap
def by_potential(chi, psi):
    """Values, first derivatives in (chi, psi), and d2B/dpsi2, of everything."""
    def values(chi, psi):
        return everything(fl.from_potential(chi, psi))

    def field(psi):
        return fl.from_potential(chi, psi).B

    d_chi, d_psi = derivatives(values, chi, psi)
    return values(chi, psi), d_chi, d_psi, jax.jacfwd(jax.jacfwd(field))(psi)


@plain_jit
@jax.vmap
def by_length(l, psi):
    def values(l, psi):
        return everything(fl.from_length(l, psi))

    return values(l, psi), *derivatives(values, l, psi)


def derivatives(values, first, psi):
    both = jax.jacfwd(lambda w: values(w[0], w[1]))(jnp.stack([first, psi]))
    return tuple({name: slope[k] for name, slope in both.items()} for k in (0, 1))


@pytest.fixture(scope="module", autouse=True)
def _computed():
    """What many tests look at: made when they run, not where they are collected, which every process does."""
    global CANONICAL, PAPER
    CANONICAL, PAPER = by_potential(CHI, PSI), by_length(LENGTH, PSI)


def same(left, right, rtol=1e-12):
    np.testing.assert_allclose(left, right, rtol=rtol, atol=1e-12)


def test_newton_residuals():
    psi = np.geomspace(1e-3, 0.999, 400)
    for share in (1.0, 0.7, 0.01, 1e-7):
        point = fl.from_potential(share * np.sqrt(1 - psi), psi)
        X = share * np.sqrt(1 - psi) / psi**2
        np.testing.assert_allclose(X**2 * point.x**4 + point.x, 1.0, rtol=2e-15)
        np.testing.assert_allclose(point.s / (1 - point.s**2) ** 2, X, rtol=1e-12 / psi.min())
        u = share * fl.S(np.sqrt(1 - psi))
        np.testing.assert_allclose(fl.S(fl.from_length(u / psi, psi).s), u, rtol=2e-15)


def test_inverses_find_the_point_they_were_made_from():
    for point in (fl.from_potential(CHI, PSI), fl.from_length(LENGTH, PSI), fl.from_latitude(np.arcsin(SINE), 1 / PSI),
                  fl.from_cylinder((1 - SINE**2) ** 1.5 / PSI, SINE * (1 - SINE**2) / PSI)):
        np.testing.assert_allclose(point.s, SINE, rtol=1e-13, atol=1e-16)
        np.testing.assert_allclose(point.x, 1 - SINE**2, rtol=1e-13)
        np.testing.assert_allclose(point.psi, PSI, rtol=1e-13)


def test_every_property_is_the_same_in_every_coordinate_pair():
    for name in PROPERTIES:
        same(CANONICAL[0][name], PAPER[0][name])
    latitudes = everything(fl.from_latitude(PAPER[0]["latitude"], PAPER[0]["L"]))
    cylinder = everything(fl.from_cylinder(PAPER[0]["r_cyl"], PAPER[0]["z"]))
    for name in PROPERTIES:
        same(latitudes[name], PAPER[0][name])
        same(cylinder[name], PAPER[0][name], rtol=1e-11)


def test_field_strength_is_the_dipoles():
    np.testing.assert_allclose(CANONICAL[0]["B"], dipole.field(1 / PSI, np.arcsin(SINE)) / 0.312, rtol=1e-13)


def test_arc_length_is_the_integral_along_the_line():
    assert fl.HALF_LENGTH == pytest.approx(1.3801729981504731, abs=1e-15)
    assert float(fl.S(1.0)) == pytest.approx(dipole.T0, abs=1e-15)
    for k in range(3):
        theirs = quad(lambda lat: np.cos(lat) * np.sqrt(1 + 3 * np.sin(lat) ** 2), 0, np.arcsin(SINE[k]), epsabs=1e-14)[0]
        assert PAPER[0]["l"][k] * PSI[k] == pytest.approx(theirs, rel=1e-12)


def test_a_root_found_by_bisection_is_the_same_point():
    for k in range(3):
        X = CHI[k] / PSI[k] ** 2
        s = brentq(lambda s, X=X: s / (1 - s * s) ** 2 - X, -1 + 1e-12, 1 - 1e-12, xtol=1e-15)
        assert SINE[k] == pytest.approx(s, abs=1e-13)


def test_derivatives_in_length_are_what_their_names_say():
    values, d_l, d_psi = PAPER
    same(d_l["chi"], values["B"])
    same(d_l["B"], values["B_l"])
    same(d_psi["B"], values["B_psi_at_l"])
    same(d_l["q"], values["q_l"])
    same(d_psi["q"], values["q_psi"])
    same(d_psi["chi"], -values["q"] * values["B"])


def test_derivatives_at_constant_potential_are_what_their_names_say():
    values, d_chi, d_psi, B_psipsi = CANONICAL
    same(d_chi["l"], 1 / values["B"])
    same(d_psi["l"], values["q"])
    same(d_chi["B"], values["B_chi"])
    same(d_psi["B"], values["B_psi"])
    same(d_psi["B"], values["B_psi_at_l"] + values["q"] * values["B_l"])
    same(d_psi["B"], -values["B"] * values["q_l"])
    same(d_psi["B_psi"], values["B_psipsi"])
    same(B_psipsi, values["B_psipsi"])
    same(d_psi["r_cyl"] / values["r_cyl"] + d_psi["B"] / values["B"], values["a"])
    same((B_psipsi + values["a"] * d_psi["B"]) / values["B"], values["c"])
    x = 1 - SINE**2
    same(d_chi["B"] / values["B"], 3 * (8 - 5 * x) * CHI / PSI**4 * x**4 / (4 - 3 * x) ** 2)


def test_the_leaf_derivative_is_divergence_free():
    # X_perp = d_psi + q d_l - v q_l d_v: d_l q - d_v(v q_l) = 0, and X q_l - q_l^2 = -B_psipsi/B
    values, d_l, d_psi = PAPER
    same(d_l["q"] - values["q_l"], 0.0)
    same(d_psi["q_l"] + values["q"] * d_l["q_l"] - values["q_l"] ** 2, -values["B_psipsi"] / values["B"])


def test_values_at_the_equator():
    at = fl.from_potential(0.0, PSI)
    for name, value in (("B", PSI**3), ("a", 2 / PSI), ("c", 12 / PSI**2), ("q", 0 * PSI), ("q_l", -3 / PSI), ("B_chi", 0 * PSI),
                        ("r_cyl", 1 / PSI), ("B_psipsi", 6 * PSI)):
        same(getattr(at, name), value)


def test_derivatives_against_finite_differences():
    h, k = 1e-6, slice(0, 8)
    for build, first in ((fl.from_potential, CHI), (fl.from_length, LENGTH)):
        for axis in (0, 1):
            step = h * (axis == 0), h * (axis == 1)
            up, down = (everything(build(0.9 * first[k] + sign * step[0], PSI[k] + sign * step[1])) for sign in (1, -1))
            here = (by_potential if build is fl.from_potential else by_length)(0.9 * np.append(first[k], first[8:]), PSI)
            for name in PROPERTIES:
                slope = (np.asarray(up[name]) - np.asarray(down[name])) / (2 * h)
                scale = np.abs(slope) + np.abs(np.asarray(up[name])) / PSI[k]
                assert np.max(np.abs(slope - here[1 + axis][name][k]) / scale) < 3e-7, name


def test_coordinates_have_the_volume_they_should():
    # dx dy dz = dl dpsi dtheta/B = dchi dpsi dtheta/B^2, and B = grad psi x grad theta
    def position(build):
        return lambda w: jnp.stack(fl.to_cartesian(build(w[0], w[1]), w[2]))

    theta = np.linspace(-3, 3, PSI.size)
    for build, first, power in ((fl.from_length, LENGTH, 1), (fl.from_potential, CHI, 2)):
        jacobian = plain_jit(jax.vmap(jax.jacfwd(position(build))))(np.stack([first, PSI, theta], axis=1))
        same(jnp.linalg.det(jacobian) * CANONICAL[0]["B"] ** power, 1.0)
        gradients = np.linalg.inv(jacobian)
        x, y, z = fl.to_cartesian(build(first, PSI), theta)
        field = np.stack(fl.field_vector(x, y, z), axis=1)
        scale = CANONICAL[0]["B"][:, None]
        same(np.cross(gradients[:, 1], gradients[:, 2]) / scale, field / scale)
        same(np.linalg.norm(gradients[:, 1], axis=1), CANONICAL[0]["r_cyl"] * CANONICAL[0]["B"])
        if build is fl.from_length:
            same(np.sum(gradients[:, 0] * gradients[:, 1], axis=1) / np.sum(gradients[:, 1] ** 2, axis=1), CANONICAL[0]["q"],
                 rtol=1e-11)
    point, angle = fl.from_cartesian(x, y, z)
    same(point.chi, CHI)
    same(angle, theta)


def test_surface_of_the_planet():
    for point in (fl.from_potential(fl.surface_potential(PSI), PSI), fl.from_length(-fl.surface_length(PSI), PSI)):
        np.testing.assert_allclose(point.r, 1.0, rtol=1e-12)
    beyond = fl.from_potential(2.0, PSI, outside="nearest")
    np.testing.assert_allclose(beyond.r, 1.0, rtol=1e-12)
    np.testing.assert_allclose(beyond.s, TOP, rtol=1e-12)
    np.testing.assert_allclose(fl.from_length(99.0, PSI, outside="nearest").s, TOP, rtol=1e-12)
    np.testing.assert_allclose(fl.from_potential(2.0, 0.5, outside="extrapolate").chi, 2.0, rtol=1e-14)


@pytest.mark.parametrize("call, words", [
    (lambda: fl.from_potential(0.0, 1.0), r"psi = 1 is outside \(0, 1\)"),
    (lambda: fl.from_potential(0.0, [0.5, -0.1]), r"psi = -0.1 is outside"),
    (lambda: fl.from_length(0.0, 0.0), r"psi = 0 is outside"),
    (lambda: fl.from_length(0.0, np.nan), r"psi = nan is outside"),
    (lambda: fl.from_latitude(0.0, 0.8), "L = 0.8 must be above 1"),
    (lambda: fl.from_potential(0.9, 0.5), "r = 0.9064.* psi = 0.5 is inside the planet"),
    (lambda: fl.from_length(1.8, 0.5), "inside the planet"),
    (lambda: fl.from_latitude(1.2, 2.0), "inside the planet"),
    (lambda: fl.from_cylinder(0.9, 0.1), r"psi = 1.* is outside"),
    (lambda: fl.from_cylinder(0.5, 0.1), r"outside \(0, 1\)"),
    (lambda: fl.from_cylinder(0.0, 0.0), "the dipole itself"),
    (lambda: fl.from_cylinder(0.1, 0.9), "inside the planet"),
    (lambda: fl.from_length(3.0, 0.5, outside="extrapolate"), "past the end of the line"),
    (lambda: fl.surface_potential(1.2), r"psi = 1.2 is outside"),
    (lambda: fl.from_potential(0.0, 0.5, outside="clip"), "'clip' is unknown"),
])
def test_input_that_means_nothing_is_named(call, words):
    with pytest.raises(ValueError, match=words) as error:
        call()
    assert "\n" not in str(error.value)


def test_single_precision():
    for build, first in ((fl.from_potential, CHI), (fl.from_length, LENGTH)):
        point = build(0.99 * first.astype(np.float32), PSI.astype(np.float32))
        exact = build(0.99 * first, PSI)
        for name in PROPERTIES:
            value = getattr(point, name)
            assert value.dtype == jnp.float32, name
            np.testing.assert_allclose(value, getattr(exact, name), rtol=3e-4, atol=1e-5)
        np.testing.assert_allclose(point.B, exact.B, rtol=1e-4)


def test_reverse_mode_is_forward_mode_and_nothing_is_nan_even_past_the_end():
    first, psi = np.resize([0.0, 1.4, 2.76, 5.0, -50.0], PSI.size), np.full(PSI.size, 0.5)
    for build, forward in ((fl.from_potential, by_potential), (fl.from_length, by_length)):
        def total(chi, psi, build=build):
            point = build(chi, psi)
            return point.B * point.chi + point.q

        values, *slopes = forward(first, psi)
        assert np.all(np.isfinite(jax.tree.leaves((values, slopes))))
        for slope, d in zip(plain_jit(jax.vmap(jax.grad(total, (0, 1))))(first, psi), slopes):
            np.testing.assert_allclose(slope, d["B"] * values["chi"] + values["B"] * d["chi"] + d["q"], rtol=1e-10, atol=1e-12)
