import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rbamlib.models.elec import VS1975

from jaxbelt.coefficients import Series, function, jumps
from jaxbelt.constants import EARTH, Planet
from jaxbelt.physics.dipole import KineticEnergy, drift_rate
from jaxbelt.physics.electric import (
    Convection,
    Corotation,
    DawnDusk,
    VollandStern,
    corotation_potential,
    electric_field,
    exb_drift,
    maynard_chen,
)
from jaxbelt.physics.radial_diffusion import total

pytestmark = pytest.mark.plain

L, PHI = np.linspace(1.5, 9.0, 16)[:, None], np.linspace(0.0, 2 * np.pi, 24, endpoint=False)
MIDNIGHT, DAWN, NOON, DUSK = 0.0, 0.5 * np.pi, np.pi, 1.5 * np.pi
SCALE = 0.312e-4 * 6.378e6**2             # B_E R_E^2 [V s]


def finite(tree):
    return all(np.all(np.isfinite(x)) for x in jax.tree.leaves(tree))


@jax.jit
def drift_at(u, L, phi):
    return exb_drift(u, 0.0, L, phi)


def test_maynard_chen():
    np.testing.assert_allclose(maynard_chen(np.array([0.0, 2.0, 5.0, 9.0])), [45.0, 120.96604, 537.37609, 1344.10005], rtol=1e-7)
    kp = np.linspace(0.0, 9.0, 901)
    strength, slope = jax.jit(jax.vmap(jax.value_and_grad(maynard_chen)))(kp)
    assert finite((strength, slope))
    assert abs(kp[np.argmax(strength)] - 0.159 / (2 * 0.0093)) < 0.01          # 8.548, where the bracket is smallest
    assert np.all(slope[kp < 8.54] > 0) and slope[-1] < 0


def test_signs_and_size_of_the_potentials():
    convection = Convection(kp=0.0, corotation=False)
    np.testing.assert_allclose(convection(0.0, 4.0, np.array([DAWN, DUSK])), [45.0 * 16, -45.0 * 16], rtol=1e-13)
    np.testing.assert_allclose(convection(0.0, 4.0, np.array([MIDNIGHT, NOON])), 0.0, atol=1e-12 * 45 * 16)
    np.testing.assert_allclose(corotation_potential(1.0), -92.55e3, rtol=1e-4)
    np.testing.assert_allclose(corotation_potential(4.0), -7.2921e-5 * SCALE / 4.0, rtol=1e-13)
    np.testing.assert_allclose(Convection(kp=3.0)(0.0, L, PHI), Convection(kp=3.0, corotation=False)(0.0, L, PHI)
                               + Corotation()(0.0, L, PHI), rtol=1e-13)
    np.testing.assert_allclose(VollandStern(amplitude=maynard_chen(3.0))(0.0, L, PHI),
                               Convection(kp=3.0, corotation=False)(0.0, L, PHI), rtol=1e-12)


def test_log_amplitude_scales_the_convection_alone():
    one, three = (Convection(kp=3.0, log_amplitude=a) for a in (0.0, np.log(3.0)))
    spin = corotation_potential(L)
    np.testing.assert_allclose(three(0.0, L, PHI) - spin, 3.0 * (one(0.0, L, PHI) - spin), rtol=1e-10, atol=1e-6)


def test_other_exponents_keep_the_drop_across_the_magnetosphere():
    for s in (1.0, 2.0, 3.0):
        u = Convection(kp=4.0, shielding=s, corotation=False)
        drop = u(0.0, 10.0, DAWN) - u(0.0, 10.0, DUSK)
        np.testing.assert_allclose(drop, 200.0 * maynard_chen(4.0), rtol=1e-13)
    strong, weak = (Convection(kp=4.0, shielding=s, corotation=False)(0.0, 3.0, DAWN) for s in (1.0, 3.0))
    np.testing.assert_allclose(strong / weak, (10.0 / 3.0) ** 2, rtol=1e-12)          # shielded: weaker inside
    same = Convection(kp=4.0, reference_l=5.0)
    np.testing.assert_allclose(same(0.0, L, PHI), Convection(kp=4.0)(0.0, L, PHI), rtol=1e-12)


def test_rotate_turns_the_pattern_eastward():
    for u, turned in ((Convection(kp=3.0), Convection(kp=3.0, rotate=2.0)), (DawnDusk(e0=0.5), DawnDusk(e0=0.5, rotate=2.0)),
                      (VollandStern(amplitude=50.0), VollandStern(amplitude=50.0, rotate=2.0))):
        np.testing.assert_allclose(turned(0.0, L, PHI + np.pi / 6.0), u(0.0, L, PHI), rtol=1e-11, atol=1e-9)


def test_a_uniform_field_points_from_dawn_to_dusk():
    e_r, e_phi = electric_field(DawnDusk(e0=1.0), 0.0, L, PHI)
    midward = e_r * np.cos(PHI) - e_phi * np.sin(PHI)
    dawnward = e_r * np.sin(PHI) + e_phi * np.cos(PHI)
    np.testing.assert_allclose(dawnward, -1e-3, rtol=1e-12)
    np.testing.assert_allclose(midward, 0.0, atol=1e-16)


def test_the_field_agrees_with_rbamlib():
    """rbamlib counts phi from noon and takes C [V/m]; its corotation field points outward, against E = -(v x B)."""
    amplitude = 120.0
    ours = electric_field(VollandStern(amplitude=amplitude), 0.0, L, PHI)
    theirs = VS1975(L, PHI + np.pi, gamma=2, C=amplitude / EARTH.r_e, r0=1, Omega=0.0)
    np.testing.assert_allclose(ours[0], theirs["r"], rtol=1e-6, atol=1e-17)
    np.testing.assert_allclose(ours[1], theirs["phi"], rtol=1e-6, atol=1e-17)
    spin = electric_field(Corotation(), 0.0, L, PHI)
    theirs = VS1975(L, PHI, C=0.0, Omega=EARTH.rotation)
    np.testing.assert_allclose(spin[0], -theirs["r"], rtol=1e-6)
    assert np.all(spin[1] == 0.0)


def test_the_drift_is_e_cross_b():
    u = Convection(kp=4.0, rotate=1.0)
    e_r, e_phi = electric_field(u, 0.0, L, PHI)
    north = np.broadcast_to(0.312e-4 / L**3, e_r.shape)
    e = np.stack([e_r, e_phi, np.zeros_like(e_r)], axis=-1)                # (r, phi, z) is right-handed, B along z
    b = np.stack([0 * north, 0 * north, north], axis=-1)
    v = np.cross(e, b) / np.sum(b * b, axis=-1)[..., None]
    ldot, phidot = exb_drift(u, 0.0, L, PHI)
    np.testing.assert_allclose(ldot, v[..., 0] / EARTH.r_e, rtol=1e-12)
    np.testing.assert_allclose(phidot, v[..., 1] / (EARTH.r_e * L), rtol=1e-12)


def test_the_drift_in_closed_form():
    a = maynard_chen(4.0)
    ldot, phidot = exb_drift(Convection(kp=4.0), 0.0, L, PHI)
    np.testing.assert_allclose(ldot, -a * L**4 * np.cos(PHI) / SCALE, rtol=1e-11, atol=1e-18)
    np.testing.assert_allclose(phidot, EARTH.rotation + 2.0 * a * L**3 * np.sin(PHI) / SCALE, rtol=1e-10, atol=1e-17)
    assert exb_drift(Convection(kp=4.0), 0.0, 6.0, MIDNIGHT)[0] < 0.0 < exb_drift(Convection(kp=4.0), 0.0, 6.0, NOON)[0]
    np.testing.assert_allclose(exb_drift(Corotation(), 0.0, L, PHI)[1], EARTH.rotation, rtol=1e-13)
    other = Planet(b_e=4.28, r_e=7.1492e7, rotation=1.7585e-4)
    np.testing.assert_allclose(exb_drift(Corotation(planet=other), 0.0, L, PHI, other)[1], other.rotation, rtol=1e-13)


def test_the_drift_is_divergence_free_and_takes_any_hamiltonian():
    h = total(KineticEnergy(mu=200.0), Convection(kp=5.0, shielding=1.7, rotate=-1.3))

    def divergence(x, p):
        return x**2 * jax.grad(lambda x: exb_drift(h, 0.0, x, p)[0] / x**2)(x) + jax.grad(lambda p: exb_drift(h, 0.0, x, p)[1])(p)

    points = np.array([[3.0, 0.3], [5.0, 2.0], [6.5, 5.1]])
    d = jax.jit(jax.vmap(divergence))(points[:, 0], points[:, 1])
    assert np.max(np.abs(d)) < 1e-14 * np.max(np.abs(exb_drift(h, 0.0, L, PHI)[1])) * 1e2
    kinetic = exb_drift(KineticEnergy(mu=200.0), 0.0, L, PHI)
    np.testing.assert_allclose(kinetic[1], drift_rate(L, 200.0) * np.ones_like(PHI), rtol=1e-10)
    assert np.all(kinetic[0] == 0.0)


separatrix_at = jax.jit(lambda u, phi: u.separatrix(0.0, phi))


@pytest.mark.parametrize("given", [{}, {"shielding": 1.0}, {"shielding": 2.7, "rotate": 1.5, "log_amplitude": 0.4}],
                         ids=["default", "uniform", "other"])
def test_stagnation_and_separatrix(given):
    u = Convection(kp=4.0, **given)
    dusk = DUSK + np.pi * u.rotate / 12.0
    at = u.stagnation(0.0)
    ldot, phidot = drift_at(u, at, dusk)
    assert np.hypot(ldot / at, phidot) < 1e-12 * EARTH.rotation
    phi = dusk + np.linspace(0.0, 2 * np.pi, 49)
    path = np.asarray(separatrix_at(u, phi))
    np.testing.assert_allclose(u(0.0, path, phi), u(0.0, at, dusk), rtol=1e-12)
    np.testing.assert_allclose(path[[0, -1]], at, rtol=1e-6)
    assert np.all(path <= at * (1 + 1e-12)) and np.argmin(path) == 24              # closest at dawn
    # cold plasma inside the path goes round with the planet at every local time
    assert np.all(drift_at(u, 0.99 * path, phi)[1] > 0.0)


def test_stagnation_values_and_closed_forms():
    values = [Convection(kp=k).stagnation(0.0) for k in (0.0, 2.0, 5.0, 9.0)]
    np.testing.assert_allclose(values, [10.094, 7.259, 4.416, 3.253], rtol=1e-4)
    u = Convection(kp=3.0)
    np.testing.assert_allclose(u.stagnation(0.0), (7.2921e-5 * SCALE / (2.0 * maynard_chen(3.0))) ** (1 / 3), rtol=1e-13)
    sine = np.sin(PHI)                                                             # x^3 sin + 3 x = 2 by trigonometry
    root = np.sqrt(np.abs(sine))
    with np.errstate(divide="ignore", invalid="ignore"):
        x = np.where(sine > 0, 2 * np.sinh(np.arcsinh(root) / 3) / root, 2 * np.sin(np.arcsin(root) / 3) / root)
    x = np.where(root < 1e-6, 2.0 / 3.0, x)
    np.testing.assert_allclose(separatrix_at(u, PHI) / u.stagnation(0.0), x, rtol=3e-7)


def test_separatrix_gradients():
    u = Convection(kp=3.0, shielding=1.8, rotate=0.5)
    phi = np.array([MIDNIGHT, 1.0, DAWN, NOON, 4.0, DUSK + np.pi / 24.0])

    @jax.jit
    def both(u):
        return u.separatrix(0.0, phi), jax.jacfwd(lambda u: u.separatrix(0.0, phi))(u)

    (path, gradient), h = both(u), 1e-5
    assert finite(gradient)
    for name in ("kp", "shielding", "rotate"):
        x = getattr(u, name)
        slope = (both(u.replace(**{name: x + h}))[0] - both(u.replace(**{name: x - h}))[0]) / (2 * h)
        np.testing.assert_allclose(getattr(gradient, name)[:-1], slope[:-1], rtol=1e-6, err_msg=name)
    np.testing.assert_allclose(gradient.kp / path, gradient.kp[0] / path[0], rtol=1e-6)     # the shape does not depend on Kp
    assert abs(gradient.rotate[-1]) < 1e-3 * abs(gradient.rotate[-2])                       # the corner at dusk: the mean slope
    reverse = jax.jit(jax.grad(lambda u: jnp.sum(u.separatrix(0.0, phi))))(u)
    for name in ("kp", "shielding", "log_amplitude"):
        np.testing.assert_allclose(getattr(reverse, name), jnp.sum(getattr(gradient, name)), rtol=1e-9)


@pytest.mark.optimised
def test_kp_series_sweep_and_transforms():
    kp = Series([0.0, 10800.0], [2.0, 7.0])
    u, traces = Convection(kp=kp), []

    @jax.jit
    def value(u, t):
        traces.append(1)
        return u(t, L, PHI)

    np.testing.assert_allclose(value(u, 20000.0), Convection(kp=7.0)(0.0, L, PHI), rtol=1e-12)
    other = Convection(kp=7.0, shielding=1.5)(0.0, L, PHI)
    np.testing.assert_allclose(value(u.replace(shielding=1.5), 20000.0), other, rtol=1e-12)
    assert len(traces) == 1 and jumps(u) == (0.0, 10800.0)
    gradient = jax.grad(lambda u: u(20000.0, 4.0, 1.0))(u)
    assert finite(gradient) and gradient.kp.values[0] == 0.0 and gradient.kp.values[1] > 0.0
    swept = jax.vmap(lambda a: u.replace(log_amplitude=a)(0.0, L, PHI))(np.array([0.0, 1.0]))
    np.testing.assert_allclose(swept[1], u.replace(log_amplitude=1.0)(0.0, L, PHI), rtol=1e-12)
    ramp = DawnDusk(e0=function(lambda t, slope: slope * t, slope=1e-4))
    np.testing.assert_allclose(ramp(5000.0, 4.0, DAWN), 0.5e-3 * 4.0 * 6.378e6, rtol=1e-12)


def test_float32():
    u = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), Convection(kp=6.0))
    low, phi = jnp.asarray(L, jnp.float32), jnp.asarray(PHI, jnp.float32)
    exact = Convection(kp=6.0)

    @jax.jit
    def everything(u, L, phi):
        return u(0.0, L, phi), exb_drift(u, 0.0, L, phi)[1], u.separatrix(0.0, phi)

    for got, want in zip(everything(u, low, phi), everything(exact, L, PHI)):
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, want, atol=1e-4 * np.max(np.abs(want)) if got.ndim > 1 else 2e-3)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="Convection kp = 40: .*10 Kp"):
        Convection(kp=40)
    with pytest.raises(ValueError, match="Convection shielding = 0 must be positive"):
        Convection(kp=4, shielding=0)
