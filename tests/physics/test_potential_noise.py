"""Coefficients of potential fluctuations: the closed forms of white noise, Kubo's integral by brute force, limits, bad input."""

import math
import tomllib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import plain_jit

import jaxbelt as jb
from jaxbelt import cases
from jaxbelt import drift_diffusion as dd
from jaxbelt.cases import _noise
from jaxbelt.config import InputError, Table
from jaxbelt.constants import EARTH, SECONDS_PER_DAY, TESLA_PER_GAUSS
from jaxbelt.physics.dipole import KineticEnergy, drift_rate, mu_of_energy
from jaxbelt.physics.electric import Corotation
from jaxbelt.physics.potential_noise import PotentialNoise, check_duration, density_of_field

pytestmark = pytest.mark.plain

C = 1.0 / (EARTH.b_e * TESLA_PER_GAUSS * EARTH.r_e**2)
MU = float(mu_of_energy(1.0, 5.0))
KINETIC = KineticEnergy(mu=MU)
L, PHI = np.array([3.1, 4.4, 5.0, 6.6]), np.array([0.1, 1.2, 2.9, 5.5])
SPECTRUM = dict(S=[3e8, 1e8, 4e7], m=(0, 1, 3), power=[1.0, 2.0, 0.5], reference_l=5.0)
KINDS = {"independent": {}, "twisted": {"twist": [0.0, 4.0, -2.0]}, "one phase": {"phase": [0.3, 0.7, 2.0]}}


def close(value, exact, rtol):
    """Equal to rtol, where a value is 0 to rtol of the largest."""
    np.testing.assert_allclose(value, exact, rtol=rtol, atol=rtol * np.max(np.abs(exact)))


# one compilation for each structure, where single operations would be compiled one by one
tensor = plain_jit(lambda noise, L, phi=None: jnp.stack(noise.tensor(0.0, L, phi)))
dll = plain_jit(lambda noise, L: noise.dll(0.0, L))
velocity = plain_jit(lambda noise, L, phi, z: noise.velocity(0.0, L, phi, z))
mean_drift = plain_jit(lambda noise, L, phi: noise.mean_drift(0.0, L, phi))


def _slopes(noise, L, phi):
    """(d_L u, d_phi u) of every pattern, by differentiating the patterns themselves."""
    one, zero = jnp.ones_like(L), jnp.zeros_like(L)
    return tuple(jax.jvp(lambda L, phi: noise.patterns(0.0, L, phi), (jnp.asarray(L), jnp.asarray(phi)), d)[1]
                 for d in ((one, zero), (zero, one)))


slopes = plain_jit(_slopes)


def test_a_dawn_dusk_field_that_fluctuates():
    e0, S = 2e-4, 50.0                                                   # V/m, s
    scale = EARTH.b_e * TESLA_PER_GAUSS * EARTH.r_e
    a = S * e0**2 / (2 * scale**2)
    both = PotentialNoise(S=S * (e0 * EARTH.r_e) ** 2, m=1)
    for value, exact in zip(tensor(both, L), (a * L**6, 0 * L, 0 * L, a * L**4)):
        np.testing.assert_allclose(value, exact, rtol=1e-13, atol=1e-30)
    one = both.replace(phase=-0.5 * math.pi)                             # U = e0 R_E L sin(phi) alone
    s, c = np.sin(PHI), np.cos(PHI)
    for value, exact in zip(tensor(one, L, PHI), (a * L**6 * c**2, -a * L**5 * s * c, -a * L**5 * s * c, a * L**4 * s**2)):
        np.testing.assert_allclose(value, exact, rtol=1e-12)
    np.testing.assert_allclose(dll(both, L), SECONDS_PER_DAY * a * L**6, rtol=1e-13)
    np.testing.assert_allclose(plain_jit(one.dlphi)(0.0, L, PHI), -SECONDS_PER_DAY * a * L**5 * s * c, rtol=1e-12)
    assert both.dlphi is None and both.mean_potential is None


@pytest.mark.parametrize("kind", KINDS)
def test_white_noise_from_the_slopes_of_the_patterns(kind):
    noise = PotentialNoise(**SPECTRUM, **KINDS[kind])
    uL, uphi = slopes(noise, L, PHI)
    S = np.array(SPECTRUM["S"])[:, None]
    half = 0.5 * C**2 * L**4
    ll, lphi, phil, phiphi = tensor(noise, L, PHI)
    for value, a, b, sign in ((ll, uphi, uphi, 1), (lphi, uphi, uL, -1), (phil, uphi, uL, -1), (phiphi, uL, uL, 1)):
        np.testing.assert_allclose(value, sign * half * np.sum(S * a * b, axis=(0, 1)), rtol=1e-10, atol=1e-12 * np.max(ll))
    assert np.all(ll * phiphi >= lphi**2 * (1 - 1e-12))
    z = np.random.default_rng(0).normal(size=uL.shape)                  # and what moves the particles
    ldot, phidot = velocity(noise, L, PHI, z)
    np.testing.assert_allclose(ldot, -C * L**2 * np.sum(uphi * z, axis=(0, 1)), rtol=1e-11, atol=1e-25)
    np.testing.assert_allclose(phidot, C * L**2 * np.sum(uL * z, axis=(0, 1)), rtol=1e-11, atol=1e-25)


@plain_jit
def back(noise, omega, s):
    """The slopes of the patterns where the drift comes from, a time s before."""
    return jax.vmap(lambda s: jnp.stack(_slopes(noise, L, PHI - omega * s)))(s)


@plain_jit
def drift():
    """(Omega, dOmega/dL)."""
    return jax.jvp(lambda y: drift_rate(y, MU), (jnp.asarray(L),), (jnp.ones(L.size),))


def along_the_drift(noise, tau, shear):
    """int_0^inf <V_a(0) V_b(-s)> ds by following the drift back, with the patterns' slopes taken there."""
    x, w = np.polynomial.legendre.leggauss(200)
    s, w = np.concatenate([20 * tau * (k + 0.5 * (x + 1)) for k in range(2)]), np.tile(10 * tau * w, 2)
    omega, bend = drift()
    S, out = np.array(SPECTRUM["S"])[:, None], np.zeros((2, 2, L.size))

    uL, uphi = slopes(noise, L, PHI)
    now = np.stack([-uphi, uL]) * C * L**2
    then = np.asarray(back(noise, omega, s))
    for lag, weight, (uL, uphi) in zip(s, w, then):
        before = np.stack([-uphi, uL]) * C * L**2
        if shear:                                                        # carried along, what ends in phi has sheared
            before[1] = before[1] + bend * lag * before[0]
        c = weight * np.exp(-lag / tau) / (2 * tau)
        out += c * np.array([[np.sum(S * a * b, axis=(0, 1)) for b in before] for a in now])
    return out.reshape(4, L.size)


@pytest.mark.parametrize("kind, shear", [("independent", True), ("twisted", True), ("one phase", False), ("one phase", True)])
def test_memory_against_the_integral_along_the_drift(kind, shear):
    tau = 70.0
    noise = PotentialNoise(**SPECTRUM, **KINDS[kind], tau_c=tau, kinetic=KINETIC, shear=shear)
    exact = along_the_drift(noise, tau, shear)
    closed = np.asarray(tensor(noise, L, PHI))
    for value, of in zip(closed, exact):
        np.testing.assert_allclose(value, of, rtol=1e-7, atol=1e-8 * np.abs(exact).max())
    given = jb.function(lambda s, tau: jnp.exp(-s / tau) / (2 * tau), tau=tau)
    other = noise.replace(tau_c=None, correlation=given, span=30 * tau)
    np.testing.assert_allclose(tensor(other, L, PHI), closed, rtol=1e-11, atol=1e-12 * np.abs(exact).max())


def test_spectral_density_at_the_resonance():
    tau, S = 120.0, 1e8
    noise = PotentialNoise(S=S, m=2, tau_c=tau, kinetic=KINETIC)
    omega = np.asarray(drift()[0])
    np.testing.assert_allclose(plain_jit(noise.rate)(0.0, L), omega, rtol=1e-13)
    white = noise.replace(tau_c=None)
    np.testing.assert_allclose(dll(noise, L), dll(white, L) / (1 + (2 * omega * tau) ** 2), rtol=1e-12)
    # a spectral line of width 1/tau about w0: its density at m Omega, both signs of it
    w0 = 2 * float(drift_rate(5.0, MU))
    line = jb.function(lambda s: jnp.exp(-s / tau) * jnp.cos(w0 * s) / (2 * tau))
    near = noise.replace(tau_c=None, correlation=line, span=40 * tau)
    lorentz = sum(1 / (1 + ((2 * omega + sign * w0) * tau) ** 2) for sign in (-1, 1))
    np.testing.assert_allclose(dll(near, L), 0.5 * dll(white, L) * lorentz, rtol=1e-11)


def test_a_short_memory_is_white_noise():
    white = PotentialNoise(**SPECTRUM, phase=0.4, kinetic=KINETIC)
    sizes = []
    for tau in (0.02, 0.01):
        difference = np.asarray(tensor(white.replace(tau_c=tau, shear=True), L, PHI) - tensor(white, L, PHI))
        sizes.append(np.abs(difference).max(axis=1))
    assert np.all((sizes[0] / sizes[1] > 1.9) & (sizes[0] / sizes[1] < 2.1))


def test_mean_drift_is_that_of_the_antisymmetric_part():
    noise = PotentialNoise(**SPECTRUM, phase=[0.3, 0.7, 2.0], tau_c=90.0, kinetic=KINETIC, shear=True)

    def N(L, phi):
        _, lphi, phil, _ = np.asarray(tensor(noise, L, phi))
        return 0.5 * (lphi - phil)

    h = 1e-5
    ldot, phidot = mean_drift(noise, L, PHI)
    exact = (N(L, PHI + h) - N(L, PHI - h)) / (2 * h)
    assert np.all(exact != 0.0)
    close(ldot, exact, 1e-6)
    turned = -(L**2) * (N(L + h, PHI) / (L + h) ** 2 - N(L - h, PHI) / (L - h) ** 2) / (2 * h)
    close(np.asarray(phidot) - np.asarray(drift()[0]), turned, 1e-5)
    # the same, by the equation's own reading of a potential
    dL, dphi = plain_jit(lambda: jb.drift.drift_velocity(
        lambda t, L, phi: KINETIC(t, L) + noise.mean_potential(t, L, phi), L, PHI, t=0.0))()
    np.testing.assert_allclose(dL, ldot, rtol=1e-9, atol=1e-22)
    np.testing.assert_allclose(dphi, phidot, rtol=1e-12)
    still = mean_drift(PotentialNoise(S=1e8, m=1, kinetic=KINETIC), L, PHI)
    assert not np.any(still[0]) and np.allclose(still[1], drift()[0], rtol=1e-13)
    assert not np.any(mean_drift(PotentialNoise(S=1e8, m=1), L, PHI)[1])


@pytest.mark.parametrize("tau", [None, 50.0])
def test_averaged_is_the_mean_over_phi(tau):
    noise = PotentialNoise(**SPECTRUM, phase=[0.3, 0.7, 2.0], tau_c=tau, kinetic=KINETIC)
    phi = 2 * np.pi * np.arange(16) / 16
    around = np.mean(np.asarray(tensor(noise, L[:, None], phi[None])), axis=-1)
    average = np.asarray(tensor(noise.averaged(), L))
    np.testing.assert_allclose(average, around, rtol=1e-12, atol=1e-13 * around.max())
    if tau is not None:                                                  # what the docstring warns of
        assert np.min(tensor(noise, L[:, None], phi[None])[0]) < 0 < np.min(average[0])


def test_density_of_a_measured_field():
    power, m = 3.0, 2
    noise = PotentialNoise(S=density_of_field(power, m, 5.0), m=m, reference_l=5.0)
    d = SECONDS_PER_DAY * 5.0**6 * power * 1e-6 / (4 * (EARTH.b_e * TESLA_PER_GAUSS * EARTH.r_e) ** 2)
    assert float(dll(noise, 5.0)) == pytest.approx(d, rel=1e-12)
    assert float(density_of_field(1.0, 1, 5.0)) == pytest.approx(5.085e8, rel=1e-3)


def test_a_profile_of_ones_own():
    bump = jb.function(lambda t, m, L, width: jnp.exp(-0.5 * ((L - 5.0) / width) ** 2 + 1j * m * L), steady=True, width=0.8)
    noise = PotentialNoise(S=[1e8, 2e8], m=(1, 2), profile=bump)
    uL, uphi = slopes(noise, L, PHI)
    ll, lphi, _, phiphi = tensor(noise, L)
    S = np.array([1e8, 2e8])[:, None]
    for value, a, b in ((ll, uphi, uphi), (-lphi, uphi, uL), (phiphi, uL, uL)):
        np.testing.assert_allclose(value, 0.5 * C**2 * L**4 * np.sum(S * a * b, axis=(0, 1)), rtol=1e-10)


def test_derivatives_and_batches():
    noise = PotentialNoise(**SPECTRUM, twist=3.0, tau_c=60.0, kinetic=KINETIC)

    def value(S, tau, twist):
        of = noise.replace(S=S, tau_c=tau, twist=twist)
        return jnp.sum(of.dll(0.0, L)) + 2 * jnp.sum(of.dlphi(0.0, L)) + 3 * jnp.sum(of.dphiphi(0.0, L))

    at = jnp.asarray(SPECTRUM["S"]), jnp.asarray(60.0), jnp.asarray(3.0)
    back = plain_jit(jax.grad(value, argnums=(0, 1, 2)))(*at)
    value = plain_jit(value)
    for k, size in enumerate((1e8, 60.0, 3.0)):
        h = 1e-5 * size
        for i in range(at[k].size):
            step = jnp.zeros(at[k].size).at[i].set(h).reshape(at[k].shape)
            up, down = (value(*(x + sign * step if j == k else x for j, x in enumerate(at))) for sign in (1, -1))
            assert (up - down) / (2 * h) == pytest.approx(float(jnp.ravel(back[k])[i]), rel=1e-6)
    many = plain_jit(jax.vmap(lambda tau: noise.replace(tau_c=tau).dll(0.0, L)))(jnp.array([10.0, 60.0]))
    np.testing.assert_allclose(many[1], dll(noise, L), rtol=1e-12)
    low = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), noise)
    of_low = dll(low, jnp.asarray(L, jnp.float32))
    assert of_low.dtype == jnp.float32
    np.testing.assert_allclose(of_low, dll(noise, L), rtol=2e-5)


def test_in_the_equation():
    grid = dd.grid(L=(3.0, 7.0), cells=(6, 8))
    noise = PotentialNoise(S=jb.Series([0.0, 600.0], np.outer([1.0, 2.0], SPECTRUM["S"])), m=(0, 1, 3), tau_c=60.0,
                           kinetic=jb.radial_diffusion.total(KINETIC, Corotation()), reference_l=5.0)
    at = plain_jit(lambda t: noise.dll(t, L))
    np.testing.assert_allclose(at(700.0), 2 * np.asarray(at(0.0)), rtol=1e-13)
    assert dd.problem(grid, dd.Parameters(dphiphi=noise.dphiphi, kinetic=noise.kinetic)).parameters.dphiphi.noise.m == (0, 1, 3)
    with pytest.raises(ValueError, match="dll: must be finite and at least 0 everywhere"):
        one = PotentialNoise(S=1e8, m=1, phase=0.0, tau_c=200.0, kinetic=KINETIC)
        dd.problem(grid, dd.Parameters(dll=one.dll))


BAD = [
    (dict(S=-1.0), r"S = -1 is out of range: a spectral density"),
    (dict(S=[1.0, math.nan], m=(1, 2)), "S = nan is out of range"),
    (dict(m=-1), "m = -1: needs whole azimuthal numbers"), (dict(m=(1.5,)), "m = "), (dict(m=()), "m = "),
    (dict(tau_c=0.0, kinetic=KINETIC), "tau_c = 0 is out of range: .*None is white noise"),
    (dict(tau_c=10.0), "kinetic: noise with a memory needs the drift"), (dict(shear=True), "shear: needs kinetic"),
    (dict(S=[1.0, 2.0], m=(1, 2, 3)), "S: needs one number, or one for each of the 3 modes"),
    (dict(power=1.0, profile=lambda t, m, L: L), "power, profile: give one of the two"),
    (dict(tau_c=1.0, correlation=jnp.exp, span=1.0, kinetic=KINETIC), "tau_c, correlation: give one"),
    (dict(correlation=jnp.exp, kinetic=KINETIC), "span: give it together with correlation"),
]


@pytest.mark.parametrize("given, message", BAD)
def test_bad_input_is_one_line(given, message):
    with pytest.raises(ValueError, match=f"PotentialNoise {message}") as caught:
        PotentialNoise(**({"S": 1.0} | given))
    assert "\n" not in str(caught.value)


def test_bad_use_is_one_line():
    with pytest.raises(ValueError, match="phase: a single pattern diffuses differently at every phi"):
        PotentialNoise(S=1.0, phase=0.0).dll(0.0, L)
    noise = PotentialNoise(S=1.0, tau_c=3600.0, kinetic=KINETIC)
    with pytest.raises(ValueError, match=r"tau_c = 3600 s is longer than the run \(600 s\)"):
        check_duration(noise, 600.0)
    check_duration(noise, 3600.0)
    for m, power, message in ((0, 1.0, "m = 0"), (1, -1.0, "field = -1")):
        with pytest.raises(ValueError, match=message):
            density_of_field(power, m, 5.0)


# --- in a case ---

def case(**table):
    text = """
case = { equation = "drift_diffusion", duration = "600 s" }
grid = { L = [3.0, 7.0], cells = [8, 8] }
initial = { model = "uniform", value = 1.0 }
boundary = { inner = 1.0, outer = 1.0 }
numerics = { dt = "300 s" }
output = { every = "600 s" }
parameters = { energy = "1 MeV", at_L = 5.0, fluctuations = { TABLE } }
"""
    return cases.build(text.replace("TABLE", ", ".join(f"{k} = {v}" for k, v in table.items())))


def test_fluctuations_of_a_case():
    def fields(table, angle=True, **given):
        _noise.fluctuations(Table(tomllib.loads(f"fluctuations = {table}")), given, MU, {"planet": EARTH}, angle, 600.0)
        return given

    made = fields('{ m = [1, 2], field = [30.0, 10.0], power = 1.5, tau_c = "60 s" }', dll=0.1)
    noise = PotentialNoise(S=density_of_field(np.array([30.0, 10.0]), np.array([1, 2]), 5.0), m=(1, 2), power=1.5, tau_c=60.0,
                           kinetic=KINETIC, reference_l=5.0)
    radial = fields("{ m = 1, density = 3e10, phase = 0.3 }", angle=False)["dll"]
    white = PotentialNoise(S=3e10, m=1, reference_l=5.0)

    @plain_jit
    def both():
        return [(made["dll"](0.0, L), 0.1 + noise.dll(0.0, L)), (made["dphiphi"](0.0, L), noise.dphiphi(0.0, L)),
                (made["potential"](0.0, L, PHI), noise.mean_potential(0.0, L, PHI)), (radial(0.0, L), 0.5 * white.dll(0.0, L))]

    for value, exact in both():
        np.testing.assert_allclose(value, exact, rtol=1e-12)
    assert sorted(made) == ["dll", "dphiphi", "potential"]


BAD_CASES = [
    (dict(m="1", density="-1.0"), "parameters.fluctuations.density = -1"),
    (dict(m="-1", density="1.0"), "parameters.fluctuations.m"),
    (dict(m="1"), "parameters.fluctuations.density.*give either density"),
    (dict(m="[0, 1]", field="[1.0, 1.0]"), "parameters.fluctuations.field.*m must be at least 1"),
    (dict(m="1", density="1.0", tau_c='"1 h"'), r"tau_c = 3600 s is longer than the run \(600 s\)"),
    (dict(m="1", density="1.0", tau_c='"60 s"', phase="0.0"), "parameters.fluctuations.phase.*negative D_LL"),
    (dict(m="1", density="1.0", tau='"60 s"'), 'tau.*did you mean "tau_c"'),
]


@pytest.mark.parametrize("table, message", BAD_CASES)
def test_bad_fluctuations_of_a_case(table, message):
    with pytest.raises(InputError, match=message) as caught:
        case(**table)
    assert "\n" not in str(caught.value)
