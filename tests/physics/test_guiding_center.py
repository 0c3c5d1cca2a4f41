import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import plain_jit
from scipy.integrate import quad

import jaxbelt as jb
from jaxbelt.physics import dipole
from jaxbelt.physics import field_lines as fl
from jaxbelt.physics import guiding_center as gc

pytestmark = pytest.mark.plain

rng = np.random.default_rng(11)
N = 24
PSI = rng.uniform(0.15, 0.9, N)
LENGTH = fl.surface_length(PSI) * rng.uniform(-0.9, 0.9, N)
V, THETA, MU = rng.normal(size=N), rng.uniform(-3, 3, N), rng.uniform(0.2, 3, N)
M, E = 1.7, -2.3
WAVY = gc.GuidingCenter(
    m=M, e=E, phi=jb.function(lambda t, psi, slope: slope * psi + 0.4 * psi**2, slope=0.3),
    fluctuation=lambda t, chi, theta, psi: 0.2 * jnp.cos(2 * theta - 0.3 * t + psi) * (1 + 0.5 * jnp.sin(chi)) * psi)
OMEGA = np.zeros((4, 4))                                     # of the canonical coordinates: m dp ^ dchi + e dpsi ^ dtheta
OMEGA[1, 0], OMEGA[0, 1], OMEGA[3, 2], OMEGA[2, 3] = M, -M, E, -E


def same(left, right, rtol=1e-11, atol=1e-11):
    np.testing.assert_allclose(left, right, rtol=rtol, atol=atol)


# --- Eqs. (1) to (8) at random points, with a potential of every coordinate ---

@plain_jit
@jax.vmap
def everything(z, mu):
    """Rates, forms and Jacobians at z = (l, v, theta, psi)."""
    def rates(z):
        return jnp.stack(gc.drift(*z, mu, WAVY, 0.4))

    def canonical(z):
        return jnp.stack(gc.to_canonical(*z))

    def cartesian(z):
        return jnp.stack([*fl.to_cartesian(fl.from_length(z[0], z[3]), z[2]), z[1]])

    w = canonical(z)
    return dict(
        rates=rates(z), divergence=jnp.trace(jax.jacfwd(rates)(z)), to_canonical=jax.jacfwd(canonical)(z), there=w,
        canonical_rates=jnp.stack(gc.canonical_drift(*w, mu, WAVY, 0.4)), back=jnp.stack(gc.to_paper(*w)),
        pair=jax.jacfwd(lambda z: jnp.stack([z[0], z[1], gc.pair_angle(*z, WAVY), z[3]]))(z),
        form=gc.two_form(z[0], z[1], z[3], WAVY), slope=jax.grad(lambda z: gc.energy(*z, mu, WAVY, 0.4))(z),
        canonical_slope=jax.grad(lambda w: gc.hamiltonian(*w, mu, WAVY, 0.4))(w),
        moved=jax.jvp(cartesian, (z,), (rates(z),))[1],
        cartesian_rates=jnp.stack(gc.cartesian_drift(*cartesian(z), mu, WAVY, 0.4)))


STATE = np.stack([LENGTH, V, THETA, PSI], axis=1)


@pytest.fixture(scope="module", autouse=True)
def _computed():
    """What many tests look at: made when they run, not where they are collected, which every process does."""
    global AT, BOUNCE, T_B
    AT = everything(STATE, MU)
    BOUNCE = bounces(ENERGY + POTENTIAL, np.full(5, MOMENT), np.full(5, LINE))
    T_B = float(gc.bounce_period(1.6 * AXIS, MOMENT, 0.5))


def test_coordinates_go_there_and_back_with_unit_jacobian():
    same(AT["back"], STATE)
    same(jnp.linalg.det(AT["to_canonical"]), 1.0)


def test_the_motion_is_the_same_in_all_three_coordinates():
    scale = np.abs(AT["canonical_rates"]) + 1
    same(np.einsum("kij,kj->ki", AT["to_canonical"], AT["rates"]) / scale, AT["canonical_rates"] / scale)
    scale = np.linalg.norm(AT["moved"], axis=1)[:, None]
    same(AT["moved"] / scale, AT["cartesian_rates"] / scale)


def test_hamiltons_equations():
    chi, p, theta, psi = AT["canonical_slope"].T
    hamilton = np.stack([p / M, -chi / M, psi / E, -theta / E], axis=1)
    scale = np.abs(hamilton) + 1
    same(AT["canonical_rates"] / scale, hamilton / scale)


def test_the_motion_contracted_with_the_two_form_is_minus_the_differential_of_the_energy():
    scale = np.linalg.norm(AT["slope"], axis=1)[:, None]
    same(np.einsum("ki,kij->kj", AT["rates"], AT["form"]) / scale, -AT["slope"] / scale)


def test_energy_is_constant_and_volume_is_preserved_along_the_motion():
    work = AT["rates"] * AT["slope"]
    same(np.sum(work, axis=1) / np.sum(np.abs(work), axis=1), 0.0)
    same(AT["divergence"] / (1 + np.linalg.norm(AT["rates"], axis=1)), 0.0)


def test_the_two_form_is_canonical_in_both_pairs_of_coordinates():
    same(np.einsum("kia,ij,kjb->kab", AT["to_canonical"], OMEGA, AT["to_canonical"]), AT["form"])
    flat = OMEGA                                             # m dv ^ dl + e dpsi ^ deta has the same entries
    same(np.einsum("kia,ij,kjb->kab", AT["pair"], flat, AT["pair"]), AT["form"])
    same(jnp.linalg.det(AT["form"]), (M * E) ** 2)


def test_phase_space_has_the_measure_of_eq_2():
    def phase(w):                                            # position and momentum of (l, v, theta, psi, theta_c, mu)
        l, v, theta, psi, phase, mu = w
        at = fl.from_length(l, psi)
        place = jnp.stack(fl.to_cartesian(at, theta))
        b = jnp.stack(fl.field_vector(*place)) / at.B
        across = jnp.stack([jnp.sin(theta), jnp.cos(theta), 0.0])
        speed = jnp.sqrt(2.0 * mu * at.B / M)
        ring = speed * (jnp.cos(phase) * across + jnp.sin(phase) * jnp.cross(b, across))
        return jnp.concatenate([place, M * (v * b + ring)])

    w = np.concatenate([STATE, rng.uniform(0, 6, (N, 1)), MU[:, None]], axis=1)
    volume = jnp.linalg.det(plain_jit(jax.vmap(jax.jacfwd(phase)))(w))
    same(np.abs(volume), gc.measure(WAVY))


def test_positive_charges_drift_along_theta_and_negative_ones_against_it():
    for e in (1.0, -1.0):
        assert np.all(e * np.asarray(gc.drift(0.0, V, 0.0, PSI, MU, gc.GuidingCenter(e=e))[2]) > 0)


# --- Eq. (15): as printed, in (l, v, theta, psi), and in canonical form ---

D_PERP, D_PAR, D_THETA, GAMMA = 0.7, 0.4, 0.3, 0.25


def density(l, v, theta, psi):
    return jnp.exp(-0.3 * (v - 0.2) ** 2 - 0.1 * l**2 - psi) * (1.2 + jnp.sin(theta + 0.5 * v + 2 * psi) * jnp.cos(0.7 * l))


def printed(z, mu, alpha):
    def place(l, psi):
        return fl.from_length(l, psi)

    def bases(l, psi):
        at = place(l, psi)
        return at.q, at.q_l, jnp.log(at.r_cyl * at.B)

    def terms(z):
        l, v, theta, psi = z
        at, P = place(l, psi), density(*z)
        (q, q_l, _), (X_q, X_q_l, X_ln) = jax.jvp(bases, (l, psi), (at.q, 1.0))      # along d_psi + q d_l
        X_B = at.B_psi_at_l + q * at.B_l
        k = (0.5 - alpha) * D_PERP
        first = [-(v + k * (X_q + q * X_ln)) - alpha * D_PERP * X_q,
                 mu / M * at.B_l + GAMMA * v + alpha * D_PERP * (v * X_q_l - v * q_l**2),
                 -(mu / E * X_B + GAMMA * M / E * q * v - M / E * v**2 * q_l),
                 -k * X_ln]
        second = [[D_PERP * q**2, -D_PERP * v * q * q_l, 0.0, D_PERP * q],
                  [-D_PERP * v * q * q_l, D_PAR + D_PERP * (v * q_l) ** 2, -M / E * D_PAR * q, -D_PERP * v * q_l],
                  [0.0, -M / E * D_PAR * q, D_THETA + (M / E * q) ** 2 * D_PAR, 0.0],
                  [D_PERP * q, -D_PERP * v * q_l, 0.0, D_PERP]]
        return jnp.stack(first) * P, 0.5 * jnp.stack([jnp.stack(list(map(jnp.asarray, row))) for row in second]) * P

    gradient = jax.jacfwd(lambda z: terms(z)[0])(z)
    curvature = jax.jacfwd(jax.jacfwd(lambda z: terms(z)[1]))(z)
    parts = jnp.concatenate([jnp.diagonal(gradient), jnp.einsum("ijij->ij", curvature).ravel()])
    return jnp.sum(parts), jnp.sum(jnp.abs(parts))


def canonical(z, mu, alpha):
    def P(w):
        return density(*gc.to_paper(*w))

    def flux(w):
        chi, p, theta, psi = w
        at, k = fl.from_potential(chi, psi), (0.5 - alpha) * D_PERP
        return P(w) * jnp.stack([
            -at.B**2 * p, (at.B * p**2 + mu / M) * at.B_chi + GAMMA * p + k * at.c * p,
            -(M * at.B * p**2 + mu) * at.B_psi / E - GAMMA * M / E * at.q * at.B * p, -k * at.a])

    w = jnp.stack(gc.to_canonical(*z))
    at = fl.from_potential(w[0], w[3])
    h = jax.jacfwd(jax.jacfwd(P))(w)
    spread = h[1, 1] / at.B**2 - 2 * M / E * at.q / at.B * h[1, 2] + (M / E * at.q) ** 2 * h[2, 2]
    return jnp.trace(jax.jacfwd(flux)(w)) + 0.5 * (D_PERP * h[3, 3] + D_PAR * spread + D_THETA * h[2, 2])


def test_eq_15_as_printed_is_the_canonical_form():
    @plain_jit
    def both(z, mu, alpha):
        over = jax.vmap(jax.vmap(lambda z, mu, alpha: (*printed(z, mu, alpha), canonical(z, mu, alpha)), (0, 0, None)),
                        (None, None, 0))
        return over(z, mu, alpha)

    theirs, scale, ours = both(STATE, MU, np.array([0.0, 0.2, 0.5, 1.0]))
    assert np.max(np.abs(theirs - ours) / scale) < 1e-11
    assert np.max(np.abs(theirs - theirs[2]) / scale) > 1e-2            # alpha matters


# --- the bounce ---

EXCESS = np.array([0.0, 0.01, 0.3, 2.0, 10.0])              # kinetic energy over mu B_eq, minus 1
PLAIN = gc.GuidingCenter(m=M, e=E)
CHARGED = WAVY.replace(fluctuation=None)
LINE, MOMENT = 0.4, 0.8
POTENTIAL = E * (0.3 * LINE + 0.4 * LINE**2)
ENERGY = MOMENT * LINE**3 * (1 + EXCESS)


@plain_jit
@jax.vmap
def bounces(H, mu, psi):
    J = gc.bounce_action(H, mu, psi, CHARGED)
    return dict(J=J, slope=jax.grad(gc.bounce_action, (0, 1, 2))(H, mu, psi, CHARGED), T=gc.bounce_period(H, mu, psi, CHARGED),
                drift=gc.drift_rate(H, mu, psi, CHARGED), mirror=gc.mirror_point(H, mu, psi, CHARGED),
                turn=jax.grad(lambda H: gc.mirror_point(H, mu, psi, CHARGED).s)(H),
                curve=jax.grad(gc.bounce_period, (0, 1, 2))(H, mu, psi, CHARGED))


def test_mirror_points_are_where_the_field_turns_the_particle():
    at = BOUNCE["mirror"]
    same(at.B, ENERGY / MOMENT)
    slope = MOMENT * at.B_chi * LINE**2 * (4 - 3 * at.x) / at.x**3        # mu dB/ds
    same(1 / BOUNCE["turn"][1:], slope[1:], rtol=1e-10)
    surface = fl.from_potential(fl.surface_potential(LINE), LINE).B
    np.testing.assert_array_equal(gc.is_trapped(MOMENT * surface * np.array([0.999, 1.001]), MOMENT, LINE), [True, False])


def test_small_oscillations():
    of = gc.GuidingCenter()
    for mu, psi in ((0.5, 0.3), (20.0, 0.6)):
        frequency = 2 * np.pi / gc.bounce_period(mu * psi**3, mu, psi, of)
        same(frequency, 3 * np.sqrt(mu) * psi**2.5, rtol=1e-14)
        same(frequency, 2 * np.pi / (4 * np.pi / (3 * np.sqrt(2)) / psi / np.sqrt(2 * mu * psi**3)), rtol=1e-14)


def test_bounce_period_action_and_drift_are_integrals_along_the_orbit():
    for k in range(1, 5):
        s_m = float(BOUNCE["mirror"].s[k])
        speed = np.sqrt(2 * ENERGY[k] / M)

        def field(s):
            return np.sqrt(1 + 3 * s * s) / (1 - s * s) ** 3

        def cosine(u, s_m=s_m):                              # of the pitch angle, at s = s_m (1 - u^2)
            return np.sqrt(1 - field(s_m * (1 - u * u)) / field(s_m))

        def ds(u, s_m=s_m):
            return 2 * u * s_m * np.sqrt(1 + 3 * (s_m * (1 - u * u)) ** 2)

        period = 4 / LINE / speed * quad(lambda u: ds(u) / cosine(u), 1e-7, 1)[0]
        action = 4 * M * speed / LINE * quad(lambda u: ds(u) * cosine(u), 0, 1, epsabs=1e-12)[0]
        assert BOUNCE["T"][k] == pytest.approx(period, rel=1e-6)
        assert BOUNCE["J"][k] == pytest.approx(action, rel=1e-7)


def test_bounce_period_is_the_usual_one():
    y = 1 / np.sqrt(1 + EXCESS)
    np.testing.assert_allclose(BOUNCE["T"] * LINE * np.sqrt(2 * ENERGY / M) / 4, dipole.T(y), rtol=1e-2)
    same(BOUNCE["T"][0], 4 * dipole.T1 / LINE / np.sqrt(2 * ENERGY[0] / M), rtol=1e-8)


def test_action_period_and_drift_are_one_hamiltonian():
    J_H, _, J_psi = BOUNCE["slope"]
    same(J_H, BOUNCE["T"])
    same(-J_psi / J_H / E, BOUNCE["drift"])
    magnetic = gc.drift_rate(ENERGY, MOMENT, LINE, PLAIN)
    same(magnetic[0], 3 * MOMENT * LINE**2 / E)
    same(BOUNCE["drift"], magnetic + 0.3 + 0.8 * LINE)
    same(gc.drift_period(ENERGY, MOMENT, LINE, PLAIN), 2 * np.pi / np.abs(magnetic))


def test_bounce_derivatives_against_finite_differences():
    at = ENERGY + POTENTIAL, np.full(5, MOMENT), np.full(5, LINE)
    for k, h in enumerate((1e-6 * ENERGY, 1e-6, 1e-6)):
        up, down = (bounces(*(w + (sign * h if j == k else 0.0) for j, w in enumerate(at))) for sign in (1, -1))
        for name, slope in (("T", "curve"), ("J", "slope")):
            np.testing.assert_allclose(((up[name] - down[name]) / (2 * h))[1:], BOUNCE[slope][k][1:], rtol=1e-5)
    for leaf in jax.tree.leaves(BOUNCE):                     # at no amplitude, too
        assert np.all(np.isfinite(leaf))


def test_bounce_average():
    H, drift = ENERGY[2], gc.drift_rate(ENERGY[2], MOMENT, LINE, PLAIN)

    def drifting(chi, p):
        at = fl.from_potential(chi, LINE)
        return (M * at.B * p**2 + MOMENT) * at.B_psi / E

    def total(chi, p):
        B = fl.from_potential(chi, LINE).B
        return 0.5 * M * (B * p) ** 2 + MOMENT * B

    functions = drifting, total, lambda chi, p: chi**3 + p
    averages = plain_jit(lambda H: [gc.bounce_average(f, H, MOMENT, LINE, PLAIN) for f in functions])(H)
    same(averages, [drift, H, 0.0])


# --- Eq. (20) ---

FLUTE = jb.function(lambda t, chi, theta, psi, size, rate: size * jnp.cos(theta - rate * t), size=0.02, rate=0.1)


def action(w, mu, of, t=0.0):
    B = fl.from_potential(w[0], w[3], outside="extrapolate").B
    return gc.bounce_action(0.5 * of.m * (B * w[1]) ** 2 + mu * B + of.e * of.mean(t, w[3])[0], mu, w[3], of, t)


def test_rate_of_the_bounce_action_is_eq_20_and_averages_to_0():
    of = CHARGED.replace(fluctuation=FLUTE)

    @plain_jit
    @jax.vmap
    def both(w, mu):
        along = jax.jvp(lambda w: action(w, mu, of), (w,), (jnp.stack(gc.canonical_drift(*w, mu, of, 0.7)),))[1]
        # its average over the bounce is 0
        H = gc.hamiltonian(*w, mu, CHARGED)
        mean = gc.bounce_average(lambda chi, p: gc.bounce_action_rate(chi, p, w[2], w[3], mu, of, 0.7), H, mu, w[3], CHARGED, 0.7)
        return along, gc.bounce_action_rate(*w, mu, of, 0.7), mean

    along, formula, mean = both(AT["there"][:8], MU[:8])
    same(formula, along)
    assert np.min(np.abs(formula)) > 1e-4
    assert np.max(np.abs(mean / formula)) < 1e-11


def test_eq_20_to_first_order_in_a_fluctuation_that_changes_along_the_line():
    def potential(t, chi, theta, psi, size):
        return size * jnp.cos(theta + psi) * (1 + chi + jnp.cos(chi))

    def rate(size, w, mu):
        of = CHARGED.replace(fluctuation=jb.function(potential, size=size))

        def J(w):                                            # of the whole energy, to first order
            H = gc.hamiltonian(*w, mu, of)
            mean = gc.bounce_average(lambda chi, p: potential(0, chi, w[2], w[3], size), H, mu, w[3], CHARGED)
            return gc.bounce_action(H, mu, w[3], CHARGED) - E * gc.bounce_period(H, mu, w[3], CHARGED) * mean

        return jax.jvp(J, (w,), (jnp.stack(gc.canonical_drift(*w, mu, of)),))[1]

    @plain_jit
    @jax.vmap
    def both(w, mu):
        of = CHARGED.replace(fluctuation=jb.function(potential, size=1.0))
        return jax.jvp(lambda size: rate(size, w, mu), (0.0,), (1.0,))[1], gc.bounce_action_rate(*w, mu, of)

    along, formula = both(AT["there"][:4], MU[:4])
    same(formula, along, rtol=1e-9)


# --- orbits: psi = 0.5, mu = 0.8, from the equator with kinetic energy 1.6 mu B_eq ---

AXIS = MOMENT * 0.5**3
START = np.sqrt(2 * AXIS * 0.6) / 0.5**3
OF = gc.GuidingCenter(e=20.0)


@plain_jit
def follow(of, dt, state=(0.0, START, 0.0, 0.5)):            # 640 steps, every 8th kept
    return gc.orbit(state, MOMENT, dt, 640, of, every=8)


def spread(values):
    return float(jnp.max(jnp.abs(values / values[0] - 1)))


def test_bounce_action_is_kept_by_slow_weak_fluctuations_and_broken_by_fast_strong_ones():
    omega, state = 2 * np.pi / T_B, (np.zeros(6), np.full(6, START), np.arange(6.0), np.full(6, 0.5))

    @plain_jit
    def run(size, rate):
        of = OF.replace(fluctuation=jb.function(FLUTE.fn, size=size, rate=rate))
        out = gc.orbit(state, MOMENT, T_B / 40, 1600, of, every=20)
        return out, action((out.chi, out.p, out.theta, out.psi), MOMENT, of)

    (slow, kept), (fast, broken) = run(1e-3, 0.02 * omega), run(0.05, 2 * omega)
    assert slow.residual < 1e-9 and fast.residual < 1e-9 and not fast.lost.any()
    assert spread(kept) < 0.01 and jnp.max(jnp.abs(slow.psi - 0.5)) > 0.05
    assert spread(broken) > 1.0 and jnp.max(jnp.abs(fast.psi - 0.5)) < 0.12


def test_orbits_keep_the_energy_at_fourth_order_and_drift_at_the_mean_rate():
    errors = []
    for n in (40, 80):                                       # 16 and 8 bounces, seen at the same phases
        out = follow(OF, T_B / n)
        errors.append(spread(gc.hamiltonian(out.chi, out.p, out.theta, out.psi, MOMENT)))
        np.testing.assert_array_equal(out.psi, 0.5)
    assert errors[0] < 4e-6 and 13 < errors[0] / errors[1] < 19
    assert out.residual < 1e-13 and abs(out.chi[-1]) < 1e-4
    same(out.theta[-1] / out.t[-1], gc.drift_rate(1.6 * AXIS, MOMENT, 0.5, OF), rtol=2e-6)


def test_a_step_is_symplectic_and_reversible():
    of = WAVY.replace(fluctuation=FLUTE)

    def there(w, dt, t):
        out = gc.orbit(tuple(w), MOMENT, dt, 2, of, t=t, every=2, iterations=25)
        return jnp.stack([out.chi[-1], out.p[-1], out.theta[-1], out.psi[-1]])

    w, h, dt = jnp.asarray([0.05, 0.9 * START, 0.4, 0.5]), 1e-6, 0.3
    many = plain_jit(jax.vmap(there, (0, None, None)))
    around = many(w + h * jnp.concatenate([jnp.eye(4), -jnp.eye(4)]), dt, 0.1)
    again = many(around, -dt, 0.1 + 2 * dt)
    jacobian, gradient = (plain_jit(way(there))(w, dt, 0.1) for way in (jax.jacfwd, jax.jacrev))
    same(jacobian.T @ OMEGA @ jacobian, OMEGA)
    assert np.max(np.abs(jacobian - np.eye(4))) > 0.05
    same(gradient, jacobian)
    np.testing.assert_allclose(jacobian, (around[:4] - around[4:]).T / (2 * h), atol=1e-7)
    same(again, w + h * np.concatenate([np.eye(4), -np.eye(4)]))


def test_an_orbit_ends_where_it_meets_the_planet():
    fast = 20 * START
    assert not gc.is_trapped(AXIS + 0.5 * (fast * 0.5**3) ** 2, MOMENT, 0.5)
    out = follow(OF, 0.01, (np.zeros(2), np.array([fast, START]), np.zeros(2), np.full(2, 0.5)))
    r = fl.from_potential(out.chi, out.psi).r                # checked: no place is inside the planet
    assert out.lost[-1, 0] and not out.lost[:, 1].any() and not out.lost[0, 0]
    last = int(np.argmax(out.lost[:, 0]))
    np.testing.assert_array_equal(out.chi[last:, 0], out.chi[last, 0])
    assert 1 <= r[last, 0] < 1 + 0.01 * fast * 0.5**3
    assert np.isfinite(out.residual)
    # a step far too long for its particle ends it too, and spoils no gradient
    ends = plain_jit(jax.vmap(jax.value_and_grad(lambda p: gc.orbit((0.0, p, 0.0, 0.5), MOMENT, 0.1, 4, OF, every=4).theta[-1])))
    for value in ends(np.array([1.0, 60.0, 1e3, 1e5, 1e8])):
        assert np.all(np.isfinite(value))


def test_many_orbits_are_the_orbits_one_by_one():
    p = START * np.array([0.3, 1.0])
    together = follow(OF, T_B / 40, (np.zeros(2), p, np.zeros(2), np.full(2, 0.5)))
    mapped = plain_jit(jax.vmap(lambda p: gc.orbit((0.0, p, 0.0, 0.5), MOMENT, T_B / 40, 640, OF, every=8)))(p)
    same(together.chi, mapped.chi.T, rtol=1e-9)


@pytest.mark.optimised
def test_single_precision():
    small = tuple(np.float32(v) for v in (0.0, START, 0.0, 0.5))
    out, exact = follow(OF, T_B / 80, small), follow(OF, T_B / 80)
    for name in ("chi", "p", "theta", "psi"):
        assert getattr(out, name).dtype == jnp.float32
        np.testing.assert_allclose(getattr(out, name), getattr(exact, name), rtol=1e-3, atol=1e-3)
    H, mu, psi = (np.asarray(v, np.float32) for v in (ENERGY, MOMENT, LINE))
    for fn in (gc.bounce_period, gc.bounce_action, gc.drift_rate):
        value = fn(H, mu, psi)
        assert value.dtype == jnp.float32
        np.testing.assert_allclose(value[1:], fn(ENERGY, MOMENT, LINE)[1:], rtol=1e-4)


@pytest.mark.parametrize("call, words", [
    (lambda: gc.drift(0.0, 1.0, 0.0, 0.5, 0.0), "mu = 0 must be above 0"),
    (lambda: gc.canonical_drift(0.0, 1.0, 0.0, 0.5, [1.0, -2.0]), "mu = -2 must be above 0"),
    (lambda: gc.hamiltonian(0.0, 1.0, 0.0, 1.2, 1.0), r"psi = 1.2 is outside \(0, 1\)"),
    (lambda: gc.to_canonical(0.0, 1.0, 0.0, 0.0), r"psi = 0 is outside \(0, 1\)"),
    (lambda: gc.bounce_period(1.0, np.nan, 0.5), "mu = nan must be above 0"),
    (lambda: gc.bounce_period(0.01, 1.0, 0.5), "kinetic energy of 0.01 is below mu B = 0.125"),
    (lambda: gc.drift_period(0.2, 1.0, 0.5, gc.GuidingCenter(phi=lambda t, psi: psi)), "kinetic energy of -0.3 is below"),
    (lambda: gc.mirror_point(0.2, 1.0, -0.5), r"psi = -0.5 is outside \(0, 1\)"),
    (lambda: gc.orbit((0.9, 0.0, 0.0, 0.5), 1.0, 0.1, 1), "inside the planet"),
    (lambda: gc.orbit((0.0, 0.0, 0.0, 0.5), 1.0, 0.1, 10, every=3), "steps = 10 must be a positive multiple of every = 3"),
    (lambda: gc.orbit((0.0, 0.0, 0.0, 0.5), 1.0, 0.1, 1, iterations=0), "iterations = 0 must be at least 1"),
    (lambda: gc.orbit((0.0, 0.0, 0.0, 0.5), -1.0, 0.1, 1), "mu = -1 must be above 0"),
])
def test_input_that_means_nothing_is_named(call, words):
    with pytest.raises(ValueError, match=words) as error:
        call()
    assert "\n" not in str(error.value)
