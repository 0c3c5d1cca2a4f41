import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rbamlib.models.dll import A2016, BA2000, L2016, O2014

from jaxbelt.coefficients import Series, Time, function, is_steady, jumps
from jaxbelt.constants import ELECTRON_MASS, ELEMENTARY_CHARGE, Planet
from jaxbelt.physics import dipole
from jaxbelt.physics.radial_diffusion import (
    AliElectric,
    AliMagnetic,
    BrautigamAlbert,
    BrautigamAlbertElectric,
    Lejosne,
    LiuElectric,
    OzekeElectric,
    OzekeMagnetic,
    PitchAngle,
    PowerLaw,
    total,
)

pytestmark = pytest.mark.plain

L = np.array([4.0, 5.0, 6.0])
WIDE = np.linspace(2.0, 8.0, 25)
MU = {"mu": 500.0}
MODELS = [(BrautigamAlbert, {}), (BrautigamAlbertElectric, MU), (OzekeMagnetic, {}), (OzekeElectric, {}), (AliMagnetic, {}),
          (AliElectric, {}), (LiuElectric, MU), (Lejosne, MU | {"outside": "extrapolate"})]
every_model = pytest.mark.parametrize("model, given", MODELS, ids=[m.__name__ for m, _ in MODELS])


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


@pytest.mark.optimised
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


# the digits as they are printed: agreement to half a unit of the last one
PRINTED = [
    (BrautigamAlbertElectric, MU, ["8.42122e-3", "4.36162e-2", "1.747287e-1"]),
    (OzekeMagnetic, {}, ["3.7062773886e-5", "4.73061957052e-4", "3.746864541156e-3"]),
    (OzekeElectric, {}, ["5.455237955669e-3", "3.4298393384386e-2", "1.68795651219601e-1"]),
    (AliMagnetic, {}, ["2.86316e-5", "1.218159e-4", "5.182774e-4"]),
    (AliElectric, {}, ["5.1312e-4", "5.34817e-3", "5.574319e-2"]),
    (LiuElectric, MU, ["7.86249e-3", "4.88283e-2", "2.171156e-1"]),
]


@pytest.mark.parametrize("model, given, printed", PRINTED, ids=[m.__name__ for m, _, _ in PRINTED])
def test_published_values_at_the_precision_printed(model, given, printed):
    for at, text, value in zip(L, printed, model(kp=2, **given)(0.0, L)):
        mantissa, exponent = text.split("e")
        half = 0.5 * 10.0 ** (int(exponent) - len(mantissa.split(".")[1]))
        # the exponential of a logarithm near -30 keeps 14 digits
        assert abs(float(value) - float(text)) <= half + 1e-14 * float(value), (at, float(value), text)


def test_brautigam_albert_electric_against_the_published_matlab_values():
    np.testing.assert_allclose(BrautigamAlbertElectric(kp=2, mu=500)(0.0, L), [8.4195e-3, 4.3609e-2, 1.7471e-1], rtol=5e-4)


@pytest.mark.parametrize("kp", [0.0, 1.7, 4.0, 8.5])
@pytest.mark.parametrize("model, oracle, given", [
    (OzekeMagnetic, lambda L, kp: O2014(L, kp, "B"), {}), (OzekeElectric, lambda L, kp: O2014(L, kp, "E"), {}),
    (AliMagnetic, lambda L, kp: A2016(L, kp, "B"), {}), (AliElectric, lambda L, kp: A2016(L, kp, "E"), {}),
    (LiuElectric, lambda L, kp: L2016(L, kp, 500.0), MU)], ids=["OzekeB", "OzekeE", "AliB", "AliE", "Liu"])
def test_formulas_agree_with_rbamlib(model, oracle, given, kp):
    np.testing.assert_allclose(model(kp=kp, **given)(0.0, WIDE), oracle(WIDE, kp), rtol=1e-12)


@pytest.mark.parametrize("mu", [50.0, 500.0, 5000.0])
def test_brautigam_albert_electric_agrees_with_rbamlib_once_its_constants_are_set(mu):
    """rbamlib: 0.311 G in the field term (0.312 in gamma), e = 4.803e-10 esu, 1 MeV = 1.602e-6 erg."""
    slower = (1.602e-6 / 4.803e-10) / (1.602176634e-6 / 4.80320471e-10)
    ours = BrautigamAlbertElectric(kp=3.3, mu=mu, species=(ELECTRON_MASS, -ELEMENTARY_CHARGE / slower))
    np.testing.assert_allclose(ours(0.0, WIDE) * (0.312 / 0.311) ** 2, BA2000(WIDE, 3.3, mu, "E"), rtol=1e-6)


def test_brautigam_albert_electric_vanishes_with_its_field():
    """E = 0.26 (Kp - 1) + 0.1 is negative below Kp = 0.615; squared, it would rise again towards Kp = 0."""
    quiet = BrautigamAlbertElectric(kp=0.6, mu=500.0)
    assert np.all(quiet(0.0, L) == 0.0) and np.all(BrautigamAlbertElectric(kp=0.0, mu=500.0)(0.0, L) == 0.0)
    assert np.all(BrautigamAlbertElectric(kp=0.62, mu=500.0)(0.0, L) > 0.0)
    assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(jax.jit(jax.grad(lambda m: m(0.0, L).sum()))(quiet)))


def test_brautigam_albert_electric_knows_planet_and_species():
    """Half the field makes the impulses four times as effective where the drift is slow (w_d T << 1)."""
    one, half = (BrautigamAlbertElectric(kp=2, mu=1e-3, planet=Planet(b_e=b)) for b in (0.312, 0.156))
    np.testing.assert_allclose(half(0.0, L) / one(0.0, L), 4.0, rtol=1e-3)
    electron, proton = (BrautigamAlbertElectric(kp=2, mu=500.0, species=s)(0.0, L) for s in ("electron", "proton"))
    turn = 0.5 * 2700.0 * dipole.drift_rate(L, 500.0, "proton")
    slow = BrautigamAlbertElectric(kp=2, mu=1e-9)(0.0, L)
    np.testing.assert_allclose(proton, slow / (1.0 + turn**2), rtol=1e-6)
    assert np.all(proton < electron)                            # heavier: less relativistic at the same mu, faster drift


@pytest.mark.parametrize("kp", [0, 1, 2, 3, 4])
def test_lejosne_by_hand(kp):
    """In CGS, from the drift frequency 3 mu c/(e gamma L^2 R_E^2), with Table 2 as it stands."""
    c1 = [1.3e-2, 4.26e-2, 8.48e-2, 2.45e-1, 6.78e-1][kp]
    c2 = [2.28e-4, 3.83e-4, 8.31e-4, 1.31e-3, 1.36e-3][kp]
    gam = np.sqrt(1.0 + 2.0 * 500.0 * 0.312 * L**-3 / 0.51099895)
    w = 60.0 * 3.0 * 500.0 * 1.602176634e-6 * 2.99792458e10 / (4.80320471e-10 * gam * L**2 * 6.378e8**2)
    spectrum = 2.0 * c1 / (4.0 + w**2) + 1.43e-2 * c2 / (1.43e-2**2 + w**2)
    by_hand = 1440.0 * L**10 / (2.0 * 31200.0) ** 2 * (5.0 / 7.0) ** 2 * spectrum
    np.testing.assert_allclose(Lejosne(kp=kp, mu=500)(0.0, L), by_hand, rtol=1e-6)


def test_lejosne_between_and_beyond_its_table():
    at = {k: np.asarray(Lejosne(kp=k, mu=1e-9)(0.0, L)) for k in (2, 3)}
    between = Lejosne(kp=2.5, mu=1e-9)(0.0, L)
    assert np.all((at[2] < between) & (between < at[3]))
    np.testing.assert_allclose(Lejosne(kp=3 + 1e-9, mu=500)(0.0, L), Lejosne(kp=3 - 1e-9, mu=500)(0.0, L), rtol=1e-7)
    for kp in (5.0, Series([0.0, 10800.0], [2.0, 5.0])):
        with pytest.raises(ValueError, match="Lejosne kp = 5 is outside the model's range, 0 to 4; .*nearest"):
            Lejosne(kp=kp, mu=500)
    storm = Lejosne(kp=5.0, mu=500, outside="nearest")
    np.testing.assert_allclose(storm(0.0, L), Lejosne(kp=4.0, mu=500)(0.0, L), rtol=1e-14)
    assert np.all(storm.replace(outside="extrapolate")(0.0, L) > 2.0 * storm(0.0, L))
    with pytest.raises(ValueError, match="Lejosne kp = 6"):
        Lejosne(kp=function(lambda t: 6.0), mu=500)(0.0, L)
    traced = jax.jit(lambda k: Lejosne(kp=k, mu=500.0)(0.0, L))(6.0)
    np.testing.assert_allclose(traced, storm(0.0, L), rtol=1e-13)


@every_model
def test_every_model_at_the_edges(model, given):
    """Finite values and gradients from L = 1 to 10 and Kp 0 to 9, log_amplitude a natural logarithm, derivative = difference."""
    wide = np.array([1.0, 2.0, 5.0, 10.0])

    @jax.jit
    def both(m):
        return m(0.0, wide), jax.jacrev(lambda m: m(0.0, wide))(m)

    for kp in (0.0, 4.3, 9.0):
        m = model(kp=kp, **given)
        value, gradient = both(m)
        assert np.all(np.isfinite(value)) and np.all(value >= 0.0)
        assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(gradient))
        np.testing.assert_allclose(both(m.replace(log_amplitude=np.log(3.0)))[0], 3.0 * value, rtol=1e-12)
    slope = (both(model(kp=4.3 + 1e-5, **given))[0] - both(model(kp=4.3 - 1e-5, **given))[0]) / 2e-5
    np.testing.assert_allclose(both(model(kp=4.3, **given))[1].kp, slope, rtol=1e-6)


@every_model
def test_every_model_in_float32(model, given):
    m, wide = model(kp=6.0, **given), np.linspace(1.0, 10.0, 19)
    low = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), m)
    at = jax.jit(lambda m, L: m(0.0, L))
    value = at(low, jnp.asarray(wide, jnp.float32))
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, at(m, wide), rtol=3e-5)


@every_model
def test_every_model_sweeps_and_follows_a_series(model, given):
    kp = Series([0.0, 10800.0], [2.0, 3.5])
    m = model(kp=kp, **given)
    np.testing.assert_allclose(m(20000.0, L), model(kp=3.5, **given)(0.0, L), rtol=1e-13)
    traces = []

    @jax.jit
    def swept(m):
        traces.append(1)
        return m(20000.0, L)

    np.testing.assert_allclose(swept(m), m(20000.0, L), rtol=1e-12)
    np.testing.assert_allclose(swept(m.replace(log_amplitude=1.0)), np.e * m(20000.0, L), rtol=1e-12)
    assert len(traces) == 1 and jumps(m) == (0.0, 10800.0) and is_steady(m)


@every_model
def test_every_model_refuses_a_kp_that_cannot_be(model, given):
    with pytest.raises(ValueError, match=f"{model.__name__} kp = 27: .*10 Kp"):
        model(kp=27, **given)


@pytest.mark.parametrize("model", [BrautigamAlbertElectric, LiuElectric, Lejosne])
def test_mu_must_be_positive_and_may_be_an_array(model):
    for mu in (0, -5.0, np.array([500.0, 0.0])):
        with pytest.raises(ValueError, match=f"{model.__name__} mu = .* must be positive"):
            model(kp=2, mu=mu)
    mu = np.array([[100.0], [1000.0]])
    np.testing.assert_allclose(model(kp=2, mu=mu)(0.0, L)[1], model(kp=2, mu=1000.0)(0.0, L), rtol=1e-13)


@pytest.mark.parametrize("model, given, beyond, edge", [(OzekeMagnetic, {}, 7.5, 7.0), (OzekeElectric, {}, 2.0, 2.5),
                                                        (AliMagnetic, {}, 6.0, 5.5), (AliElectric, {}, 2.0, 3.0),
                                                        (LiuElectric, MU, 8.0, 7.5)])
def test_ranges_in_l_are_enforced_on_request(model, given, beyond, edge):
    m = model(kp=2, **given)
    with pytest.raises(ValueError, match=f"{model.__name__} L = {beyond:g} is outside the model's range"):
        m.replace(outside="error")(0.0, np.array([5.0, beyond]))
    np.testing.assert_allclose(m.replace(outside="nearest")(0.0, beyond), m(0.0, edge), rtol=1e-14)
    assert abs(float(m(0.0, beyond) / m(0.0, edge)) - 1.0) > 0.05
    with pytest.raises(ValueError, match=f"{model.__name__} outside: 'clip' is unknown"):
        model(kp=2, outside="clip", **given)


def test_total_adds_whatever_a_coefficient_may_be():
    kp = Series([0.0, 10800.0], [2.0, 5.0])
    parts = (OzekeMagnetic(kp=kp), OzekeElectric(kp=kp), PowerLaw(d0=1e-8, power=6))
    dll = total(*parts, 1, None, np.array([1.0, 2.0, 3.0]), function(lambda t, L, a: a * L, a=0.5), lambda t, L: 0.1)
    expected = sum(p(12000.0, L) for p in parts) + 1.0 + np.array([1.0, 2.0, 3.0]) + 0.5 * L + 0.1
    np.testing.assert_allclose(dll(12000.0, L), expected, rtol=1e-14)
    np.testing.assert_allclose(jax.jit(lambda d: d(12000.0, L))(dll), expected, rtol=1e-13)
    gradient = jax.grad(lambda d: d(12000.0, L)[0])(dll)
    np.testing.assert_allclose(gradient.parts[0].log_amplitude, parts[0](12000.0, 4.0), rtol=1e-12)
    assert jumps(dll) == (0.0, 10800.0)
    with pytest.raises(ValueError, match="at least one"):
        total(None)


def by_hand_factor(y):
    """[Q(y)/D(y)]^2/180^2, Q(1)/D(1) = -180, from the constants of Schulz & Lanzerotti (1974)."""
    t0, t1 = 1.3801729981504731, np.pi * np.sqrt(2.0) / 6.0
    q0, q1, qp = -27.1266694, -90.0 * t1, 7.5 * (9.0 * t0 - 41.0 * t1)
    big_t = t0 - 0.5 * (t0 - t1) * (y + np.sqrt(y))
    big_y = 2.0 * (1.0 - y) * t0 + (t0 - t1) * (y * np.log(y) + 2.0 * y - 2.0 * np.sqrt(y))
    q = q0 + (2.0 * q1 - 2.0 * q0 - 0.25 * qp) * y**4 + (q0 - q1 + 0.25 * qp) * y**8
    return (q / (0.5 * big_t - big_y / 12.0) / 180.0) ** 2


def test_pitch_angle_factor():
    model = BrautigamAlbert(kp=2)
    y = np.array([1.0, 0.8, 0.3])
    np.testing.assert_allclose(PitchAngle(model=model, y=y)(0.0, L), model(0.0, L) * by_hand_factor(y), rtol=1e-9)
    np.testing.assert_allclose(PitchAngle(model=model, y=1.0)(0.0, L), model(0.0, L), rtol=1e-12)
    small = PitchAngle(model=model, y=1e-12)(0.0, L) / model(0.0, L)
    np.testing.assert_allclose(small, by_hand_factor(1e-12), rtol=1e-6)
    np.testing.assert_allclose(small, (27.1266694 / (1.3801729981504731 / 3.0) / 180.0) ** 2, rtol=1e-5)
    follows = PitchAngle(model=model, y=lambda t, L: 4.0 / L)
    with pytest.raises(TypeError):
        jax.jit(lambda m: m(0.0, L))(follows)                   # a bare function is no JAX type: `function` makes it one
    follows = PitchAngle(model=model, y=function(lambda t, L, a: a / L, a=4.0))
    np.testing.assert_allclose(jax.jit(lambda m: m(0.0, L))(follows), model(0.0, L) * by_hand_factor(4.0 / L), rtol=1e-9)
    for at in (0.0, 0.5, 1.0):
        value, slope = jax.value_and_grad(lambda y: PitchAngle(model=model, y=y)(0.0, 4.0))(at)
        assert np.isfinite(value) and np.isfinite(slope), at
    with pytest.raises(ValueError, match="PitchAngle y = 1.2 is outside"):
        PitchAngle(model=model, y=1.2)(0.0, L)
