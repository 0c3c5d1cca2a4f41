"""Drift of a Hamiltonian given as a function or an array; drift contours, L*, last closed contours and their topologies."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, optimize, special

from jaxbelt import coefficients
from jaxbelt import drift_diffusion as dd
from jaxbelt.constants import EARTH
from jaxbelt.physics import contours as ct
from jaxbelt.physics.dipole import KineticEnergy, drift_rate, mu_of_energy
from jaxbelt.physics.drift import drift_velocity, hamiltonian, interpolant, streams

pytestmark = pytest.mark.plain

SCALE = EARTH.b_e * 1e-4 * EARTH.r_e**2                 # B_E R_E^2 [V s]
C = EARTH.rotation * SCALE                              # corotation, 92.55 kV
A = 200.0                                               # V/R_E^2, shielding 2
L_S = (C / (2 * A)) ** (1 / 3)                          # stagnation at dusk for zero energy
NODES, PHI = np.geomspace(2.0, 8.0, 61), 2 * np.pi * np.arange(1, 65) / 64


@coefficients.parameters
class Field:
    """T/q + convection + corotation; one class for all, so that what is traced compiles once."""

    kinetic: object
    a: object = A

    def __call__(self, L, phi):
        return self.kinetic(0.0, L) - C / L + self.a * L**2 * jnp.sin(phi)


def field(energy=0.0, species="proton", a=A):
    """Particles of this energy [MeV] at L = 6."""
    mu = float(mu_of_energy(energy, 6.0, species))
    return Field(kinetic=KineticEnergy(mu=mu, species=species), a=a)


COLD = field()
WALLS = (1.5, 12.0)
star = partial(ct.l_star, domain=WALLS)
one = partial(ct.contour, domain=WALLS)


read = jax.jit(lambda H, L, phi: (H(L, phi), drift_velocity(H, L, phi)))


def cold_contour(phi, h):
    """L of -C/L + A L^2 sin(phi) = h inside the separatrix, by bisection."""
    s = np.sin(phi)
    top = 20.0 if s >= 0 else (C / (-2 * A * s)) ** (1 / 3)
    return optimize.brentq(lambda L: -C / L + A * L**2 * s - h, 0.5, top * (1 + 1e-12), xtol=1e-14, rtol=1e-15 * 4)


def harmonic_mean(L_of, start):
    total, _ = integrate.quad(lambda p: 1 / L_of(p), start, start + 2 * np.pi, epsabs=1e-13, epsrel=1e-13, limit=200)
    return 2 * np.pi / total


# ---- drift velocity

def test_drift_of_a_function():
    ldot, phidot = drift_velocity(lambda L, phi: -C / L, 5.0, 1.0)
    np.testing.assert_allclose((ldot, phidot), (0.0, EARTH.rotation), rtol=1e-14)
    for species, sign in (("electron", 1), ("proton", -1)):
        mu = float(mu_of_energy(0.5, 5.0, species))
        phidot = drift_velocity(KineticEnergy(mu=mu, species=species), np.array([4.0, 5.0]), 0.0, t=0.0)[1]
        np.testing.assert_allclose(phidot, drift_rate(np.array([4.0, 5.0]), mu, species), rtol=1e-13)
        assert np.all(sign * phidot > 0)
    # 1 mV/m from dawn to dusk: E/B towards the planet at midnight, away from it at noon
    expected = 1e-3 / (EARTH.b_e * 1e-4 / 6.0**3) / EARTH.r_e
    ldot = drift_velocity(lambda L, phi: 1e-3 * EARTH.r_e * L * jnp.sin(phi), 6.0, np.array([0.0, np.pi]))[0]
    np.testing.assert_allclose(ldot, [-expected, expected], rtol=1e-14)
    assert expected * 3600 == pytest.approx(3.908, rel=1e-3)


def test_hamilton_in_euler_potentials():
    """alphadot = -dH/dbeta, betadot = dH/dalpha with alpha = -B_E R_E^2/L: the sign that is lost in the text of Eq. 17."""
    def by_alpha(alpha, beta):
        return COLD(-SCALE / alpha, beta)
    L, phi = 4.3, 0.7
    d_alpha, d_beta = jax.grad(by_alpha, (0, 1))(-SCALE / L, phi)
    ldot, phidot = drift_velocity(COLD, L, phi)
    np.testing.assert_allclose((SCALE / L**2 * ldot, phidot), (-d_beta, d_alpha), rtol=1e-13)


def test_drift_of_an_array():
    def H(L, phi):
        return -C / L + A * L**2 * jnp.sin(phi) + 50 * L * jnp.cos(3 * phi + 1)
    exact = drift_velocity(H, NODES[:, None], PHI)
    values = np.asarray(H(NODES[:, None], PHI))
    given = drift_velocity(values, NODES, PHI)
    for a, b, tolerance in zip(given, exact, (1e-13, 1e-7)):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.max(np.abs(b)))
    # fifth order in L: half the nodes, about 32 times the error
    error = [np.max(np.abs(drift_velocity(values[::k], NODES[::k], PHI)[1] - exact[1][::k])) for k in (1, 2)]
    assert 16 < error[1] / error[0]
    flat = drift_velocity(values[:, :1], NODES, PHI)
    assert flat[0].shape == (61, 1) and not np.any(flat[0])


@pytest.mark.parametrize("given", ["function", "array", "interpolant"])
def test_the_drift_is_divergence_free(given):
    """L^2 d_L(Ldot/L^2) + d_phi phidot = 0."""
    rough = np.random.default_rng(1).normal(size=(61, 64))
    if given == "array":                       # with the array's own derivatives, for any array
        ldot, phidot = drift_velocity(rough, NODES, PHI)
        first = drift_velocity(np.asarray(ldot / NODES[:, None] ** 2), NODES, PHI)[1] * SCALE          # L^2 d_L(Ldot/L^2)
        second = -drift_velocity(np.asarray(phidot), NODES, PHI)[0] * SCALE / NODES[:, None] ** 2      # d_phi phidot
        assert np.max(np.abs(first + second)) < 1e-12 * np.max(np.abs(first))
        return
    H = COLD if given == "function" else interpolant(np.asarray(COLD(NODES[:, None], PHI)), NODES, PHI)
    L, phi = np.random.default_rng(2).uniform([2.1, 0], [7.9, 6.3], (20, 2)).T
    first = jax.jit(jax.vmap(jax.grad(lambda L, phi: drift_velocity(H, L, phi)[0] / L**2)))(L, phi) * L**2
    second = jax.jit(jax.vmap(jax.grad(lambda L, phi: drift_velocity(H, L, phi)[1], argnums=1)))(L, phi)
    assert np.max(np.abs(first + second)) < 1e-12 * np.max(np.abs(first))


def test_interpolant():
    H = interpolant(np.asarray(COLD(NODES[:, None], PHI)), NODES, PHI)
    L, phi = np.random.default_rng(3).uniform([2.0, -9.0], [8.0, 9.0], (200, 2)).T
    L[150:], phi[150:] = NODES[:50], PHI[:50]
    value, velocity = read(H, L, phi)
    exact, fast = read(COLD, L, phi)
    np.testing.assert_allclose(value, exact, rtol=0, atol=1e-9 * 5e4)
    np.testing.assert_allclose(value[150:], exact[150:], rtol=0, atol=1e-8)          # the array's own values
    for a, b in zip(velocity, fast):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-7 * np.max(np.abs(b)))
    assert H.domain == pytest.approx((2.0, 8.0))
    # linear in the values: its derivative is the weight of each, and the weights sum to one
    values = jnp.zeros((8, 6))
    weights = jax.grad(lambda v: interpolant(v, np.arange(2.0, 10.0), np.arange(6) * np.pi / 3)(4.3, 1.234))(values)
    assert np.sum(weights) == pytest.approx(1.0, rel=1e-12)
    alone = interpolant(np.asarray(-C / NODES[:, None]), NODES, PHI)
    np.testing.assert_allclose(alone(np.float64(4.4), np.float64(1.0)), -C / 4.4, rtol=1e-9)


@pytest.mark.parametrize("values, L, phi, message", [
    (np.zeros((5, 4)), np.arange(1.0, 5.0), np.arange(4) * np.pi / 2, "one row for each L"),
    (np.zeros((4, 4)), np.array([1.0, 3.0, 2.0, 4.0]), np.arange(4) * np.pi / 2, "that increase"),
    (np.zeros((4, 4)), np.arange(1.0, 5.0), np.linspace(0, 2 * np.pi, 4), "once round"),
])
def test_arrays_that_do_not_fit(values, L, phi, message):
    for call in (interpolant, drift_velocity):
        with pytest.raises(ValueError, match=message):
            call(values, L, phi)


def test_the_equation_takes_an_array_for_all_of_h():
    """Parameters.potential as a user's array of the total H on corners, kinetic = None, against the callables."""
    grid = dd.grid(L=(3.0, 6.0), cells=(8, 12))
    kinetic = KineticEnergy(mu=300.0)
    wave = coefficients.function(lambda t, L, phi: -C / L + A * L**2 * jnp.sin(phi), steady=True)
    L, phi = grid.faces("L"), grid["phi"].faces[None, 1:]
    total = np.asarray(kinetic(0.0, L) + wave(0.0, L, phi))
    separate = dd.Parameters(kinetic=kinetic, potential=wave)
    as_array = dd.Parameters(potential=total)
    t = coefficients.Time.at(0.0)
    for a, b in zip(streams(grid, as_array, t)[:2], streams(grid, separate, t)[:2]):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-14 * np.max(np.abs(total)) / SCALE)
    # and so are all flows of a step, with the coefficients they hold
    made = [jax.tree.leaves(dd.flows(dd.problem(grid, p, inner=0.1, outer=0.2), t, 60.0)) for p in (separate, as_array)]
    assert len(made[0]) == len(made[1]) > 1
    for a, b in zip(*made):
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-13 * np.max(np.abs(a)))
    # the same H as a function, for its contours
    H, G = hamiltonian(separate, 0.0), hamiltonian(as_array, 0.0, grid)
    np.testing.assert_allclose(H(L, phi), total, rtol=1e-14)
    np.testing.assert_allclose(G(L, phi), total, rtol=1e-12)
    assert hamiltonian(dd.Parameters(dll=0.1), 0.0) is None
    with pytest.raises(ValueError, match="needs the grid"):
        hamiltonian(as_array, 0.0)


# ---- L* of closed contours

def test_a_circle_has_l_star_l():
    L = np.array([1.5, 3.3, 6.7, 12.0])
    ring = field(1.0, "electron", a=0.0)
    np.testing.assert_allclose(star(ring, L, 1.0), L, rtol=1e-14)


@pytest.mark.parametrize("L0, phi0", [(2.5, 0.0), (3.5, 0.3), (5.5, -np.pi / 2)])
def test_l_star_against_bisection_and_quadrature(L0, phi0):
    c = one(COLD, L0, phi0)
    h = -C / L0 + A * L0**2 * np.sin(phi0)
    assert bool(c.closed) and bool(c.graph) and int(c.status) == ct.CLOSED
    assert float(c.value) == pytest.approx(h, rel=1e-14)
    np.testing.assert_allclose(c.phi, phi0 + 2 * np.pi * np.arange(256) / 256, rtol=0, atol=1e-14)
    np.testing.assert_allclose(c.L, [cold_contour(p, h) for p in np.asarray(c.phi)], rtol=1e-12)
    assert float(c.l_star) == pytest.approx(harmonic_mean(lambda p: cold_contour(p, h), 0.0), rel=1e-12)


def test_l_star_where_phi_turns_back():
    """ln L = c + 0.3 sin w, phi = w - b (ln L - ln 4): the integral of dphi/L is 2 pi e^-c I0(0.3) for every b."""
    @jax.jit
    def traced(b, w):
        H = coefficients.function(lambda t, L, phi, b: jnp.log(L) - 0.3 * jnp.sin(phi + b * jnp.log(L / 4)), b=b)
        y = np.log(4.0) + 0.3 * jnp.sin(w)

        def value(L):
            c = ct.contour(H, L, w - b * (y - np.log(4.0)), t=0.0)
            return c.l_star, c
        return jax.value_and_grad(value, has_aux=True)(jnp.exp(y))

    for b, tolerance in ((2.0, 1e-14), (6.0, 3e-7)):
        (found, c), slope = traced(b, 1.0)
        assert bool(c.closed) and bool(c.graph) == (b < 3)
        assert float(found) == pytest.approx(4.0 / special.i0(0.3), rel=tolerance)
        exact = 4.0 / special.i0(0.3) * (1 - 0.3 * b * np.cos(1.0)) / (4 * np.exp(0.3 * np.sin(1.0)))
        assert float(slope) == pytest.approx(exact, rel=1e-3 if b > 3 else 1e-9)


def test_l_star_from_an_array():
    H = interpolant(np.asarray(COLD(NODES[:, None], PHI)), NODES, PHI)
    assert float(ct.l_star(H, 3.5, 0.3)) == pytest.approx(float(star(COLD, 3.5, 0.3)), rel=1e-9)
    with pytest.raises(ValueError, match="interpolant"):
        ct.l_star(np.zeros((3, 3)), 3.5, 0.3)


def test_a_drifting_particle_keeps_l_star():
    H = field(0.01, "proton")

    @jax.jit
    def later(z):
        def speed(z):
            return jnp.stack(drift_velocity(H, z[0], z[1]))

        def step(z, _):
            a = speed(z)
            b = speed(z + 60 * a)
            c = speed(z + 60 * b)
            return z + 20 * (a + 2 * b + 2 * c + speed(z + 120 * c)), z
        return jax.lax.scan(step, z, None, length=600)[1]

    path = np.asarray(later(jnp.array([4.0, 0.5])))
    assert np.ptp(path[:, 0]) > 0.25 and np.ptp(path[:, 1]) > 2 * np.pi
    path = path[100::150]
    np.testing.assert_allclose(star(H, path[:, 0], path[:, 1]), float(star(H, 4.0, 0.5)), rtol=1e-9)


def test_derivatives_by_the_implicit_function_theorem():
    def f(a, L, phi):
        return star(COLD.replace(a=a), L, phi)
    x = (A, 3.5, 0.3)
    traced = jax.jit(jax.value_and_grad(f, (0, 1, 2)))
    value, gradient = traced(*x)
    assert float(value) == pytest.approx(float(f(*x)), rel=1e-14)
    for k, d in enumerate((1e-3, 1e-5, 1e-5)):
        up, down = list(x), list(x)
        up[k] += d
        down[k] -= d
        assert float(gradient[k]) == pytest.approx(float(f(*up) - f(*down)) / (2 * d), rel=1e-7)
    # a contour that is open: NaN, derivative 0, nothing raised where values are traced
    value, gradient = traced(A, 8.0, 0.3)
    assert np.isnan(value) and gradient == (0.0, 0.0, 0.0)


@pytest.mark.slow
def test_single_precision():
    jax.config.update("jax_enable_x64", False)
    try:
        assert float(star(field(), 3.5, 0.3)) == pytest.approx(3.6408492, rel=1e-5)
    finally:
        jax.config.update("jax_enable_x64", True)


# ---- topology

def test_open_contours_say_where_they_leave():
    with pytest.raises(ValueError, match=r"L0 = 7, MLT0 = 0.00 h is open: it leaves .* outwards at L = 12, MLT = 12\.\d+ h"):
        star(COLD, 7.0, 0.0)
    with pytest.raises(ValueError, match=r"L0 = 7, MLT0 = 6.00 h is open"):
        star(COLD, np.array([2.0, 2.1, 7.0, 8.0]), np.pi / 2)
    with pytest.raises(ValueError, match="L0 = 13 is outside the domain, 1.5 to 12"):
        star(COLD, 13.0, 0.0)
    c = one(COLD, 7.0, 0.0)
    assert not c.closed and int(c.status) == ct.LEAVES_OUTER and np.isnan(c.l_star)
    ends = np.asarray(COLD(c.L, c.phi))                  # the points are those of the contour, to where it leaves
    np.testing.assert_allclose(ends, float(c.value), rtol=0, atol=2e-3 * C / 7)
    assert float(c.L[-1]) == pytest.approx(12.0) and float(COLD(c.end_L, c.end_phi)) == pytest.approx(float(c.value), abs=20.0)


def test_an_ion_on_a_banana():
    """1 keV protons: gradient drift opposes corotation; contours about the centre at dusk close without encircling."""
    H = field(0.001)
    with pytest.raises(ValueError, match="MLT0 = 18.00 h closes without encircling the planet: its drift turns back at L = "):
        star(H, 3.2, -np.pi / 2)
    # and the ways: westward drift inside, an island, eastward drift outside, open
    dusk = [int(one(H, L, -np.pi / 2).status) for L in (2.0, 3.2, 5.2, 7.0)]
    assert dusk == [ct.CLOSED, ct.ISLAND, ct.CLOSED, ct.LEAVES_OUTER]
    speed = read(H, np.array([2.0, 5.2]), np.full(2, -np.pi / 2))[1][1]
    assert speed[0] < 0 < speed[1]
    # the same by integrating the drift, with an integrator of its own
    mu, q = float(H.kinetic.mu), 1.0
    for L0, turns in ((2.0, -1), (3.2, 0), (5.2, 1)):
        def rate(t, z):
            L, phi = z
            slope = float(drift_rate(L, mu, "proton")) + EARTH.rotation + 2 * A * L**3 * np.sin(phi) / SCALE * q
            return [-A * L**4 * np.cos(phi) / SCALE, slope]
        path = integrate.solve_ivp(rate, (0, 4e5), [L0, -np.pi / 2], rtol=1e-9, atol=1e-9).y[1]
        swept = (path[-1] + np.pi / 2) / (2 * np.pi)
        assert (np.sign(np.round(swept)) == turns) and (turns or np.ptp(path) < 2 * np.pi)


def test_map():
    L, phi, H = np.array([2.5, 5.2]), np.array([np.pi / 2, -np.pi / 2]), field(0.001)
    shown = ct.l_star_map(H, L, phi, domain=WALLS, n=256)
    np.testing.assert_array_equal(np.isfinite(shown), [[True, False], [False, True]])
    for i in (0, 1):
        assert float(shown[i, i]) == pytest.approx(float(one(H, L[i], phi[i]).l_star), rel=1e-14)


# ---- the last closed contour

def test_teardrop():
    """Zero energy: stagnation at dusk, L_s = (Omega B_E R_E^2/2A)^(1/3), and u^3 sin(phi) + 3 u = 2 with u = L/L_s."""
    c = ct.last_closed(COLD, WALLS)
    assert float(c.value) == pytest.approx(-1.5 * C / L_S, rel=1e-13)
    assert float(c.end_L) == pytest.approx(L_S, rel=1e-12)
    assert float(np.mod(c.end_phi, 2 * np.pi)) == pytest.approx(1.5 * np.pi, abs=1e-12)
    phi, u = np.asarray(c.phi), np.asarray(c.L) / L_S
    np.testing.assert_allclose(u**3 * np.sin(phi) + 3 * u, 2.0, rtol=0, atol=1e-12)
    assert np.all(u < 1)

    def tear(p):
        root = np.roots([np.sin(p), 0.0, 3.0, -2.0])
        return L_S * np.min(root[(np.abs(root.imag) < 1e-6) & (root.real > 0)].real)
    assert float(c.l_star) == pytest.approx(harmonic_mean(tear, -np.pi / 2), rel=1e-11)
    # everything scales with A^(-1/3)
    slope = jax.grad(lambda a: ct.last_closed(COLD.replace(a=a), WALLS).l_star)(A)
    assert float(slope) == pytest.approx(-float(c.l_star) / (3 * A), rel=1e-9)
    # L* just inside goes to it
    assert 0 < float(c.l_star - star(COLD, 0.97 * L_S, -np.pi / 2)) < 0.01


@pytest.mark.parametrize("species, energy, mlt", [("proton", 0.001, 18), ("proton", 0.05, 6), ("electron", 0.05, 18)])
def test_alfven_layers(species, energy, mlt):
    """The layer passes the saddle of H; just inside it contours encircle, outside they are open.

    Energetic ions stagnate at dawn, where convection opposes their westward drift; electrons and cold ions at dusk.
    """
    H = field(energy, species)
    c = ct.last_closed(H, WALLS)
    axis = np.pi * mlt / 12
    speed = np.vectorize(lambda L: float(read(H, L, axis)[1][1]))
    L = np.linspace(3.0, 11.9, 60)
    change = np.nonzero(np.diff(np.sign(speed(L))))[0][-1]
    stagnation = optimize.brentq(speed, L[change], L[change + 1], xtol=1e-13)
    assert float(c.end_L) == pytest.approx(stagnation, rel=1e-9)
    assert float(np.cos(c.end_phi - axis)) == pytest.approx(1.0, abs=1e-12)
    assert float(c.value) == pytest.approx(float(H(stagnation, axis)), rel=1e-10)
    np.testing.assert_allclose(H(c.L, c.phi), float(c.value), rtol=1e-9)
    turn = np.argsort(np.mod(c.phi, 2 * np.pi))
    at = np.interp(np.pi, np.mod(c.phi, 2 * np.pi)[turn], np.asarray(c.L)[turn])
    assert [int(one(H, x * at, np.pi).status) for x in (0.999, 1.001)] == [ct.CLOSED, ct.LEAVES_OUTER]


def test_the_domain_limits_the_last_contour():
    c = ct.last_closed(field(a=20.0), (1.5, 5.0))
    k = int(np.argmax(c.L))
    assert float(c.end_L) == pytest.approx(5.0) and float(c.L[k]) <= 5.0 + 1e-9 and float(c.L[k]) > 4.999
    assert float(np.mod(c.end_phi, 2 * np.pi)) == pytest.approx(1.5 * np.pi, abs=1e-9)
    with pytest.raises(ValueError, match="no drift contour encircles the planet within L = 7 to 9"):
        ct.last_closed(COLD, (7.0, 9.0))
