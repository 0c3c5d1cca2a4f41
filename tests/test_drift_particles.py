"""Particles that drift in a fluctuating potential: their noise, their statistics against the closed forms, and the equation."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import plain_jit

import jaxbelt as jb
from jaxbelt import _drift_particles as dp
from jaxbelt import drift_diffusion as dd
from jaxbelt import montecarlo as mc
from jaxbelt.physics.dipole import KineticEnergy, drift_rate, mu_of_energy
from jaxbelt.physics.potential_noise import PotentialNoise

pytestmark = pytest.mark.plain

KEY = jax.random.key(7)
MU = float(mu_of_energy(1.0, 5.0))
KINETIC = KineticEnergy(mu=MU)
COMMON = dict(kinetic=KINETIC, reference_l=5.0)
WHITE = {"isotropic": PotentialNoise(S=1e8, m=1, **COMMON),
         "rank 1": PotentialNoise(S=1e8, m=1, phase=-0.5 * math.pi, **COMMON)}


def closed(noise, L, phi):
    ll, lphi, phil, phiphi = (np.ravel(x)[0] for x in noise.tensor(0.0, jnp.array([L]), jnp.array([phi])))
    return np.array([ll, 0.5 * (lphi + phil), phiphi]) * 86400.0


# --- the noise of a step, without chance ---

def covariance(x):
    """Of (xi at the end, its integral/tau) given xi(0), for unit variance, from the step's numbers."""
    n = dp._step_noise(2.0, 1.0, x)
    a = np.array([[n.rise, 0.0], [n.along, n.rest]], dtype=float)
    return np.array([[n.keep, 0.0], [n.carry, 0.0]], dtype=float), a @ a.T


@pytest.mark.parametrize("x", [1e-6, 1e-3, 0.04, 0.06, 1.0, 30.0])
def test_noise_of_a_step_is_exact(x):
    mean, cov = covariance(x)
    e = math.exp(-x)
    np.testing.assert_allclose(mean[:, 0], [e, -math.expm1(-x)], rtol=1e-12)
    np.testing.assert_allclose(cov[0], [-math.expm1(-2 * x), math.expm1(-x) ** 2], rtol=1e-12)
    exact = 2 * x - 3 + 4 * e - e**2 if x > 0.5 else 2 * x**3 / 3 - x**4 / 2 + 7 * x**5 / 30 - x**6 / 12 + 31 * x**7 / 1260
    assert cov[1, 1] == pytest.approx(exact, rel=1e-7)
    # two halves are a whole
    half, c = covariance(0.5 * x)
    carry = np.array([[half[0, 0], 0.0], [half[1, 0], 1.0]])
    np.testing.assert_allclose(carry @ c @ carry.T + np.array([[c[0, 0], c[0, 1]], [c[1, 0], c[1, 1]]]), cov, rtol=3e-7)


# --- walks ---

def test_drift_walls_windows_and_chunks():
    n, noise = 400, PotentialNoise(S=3e11, m=1, **COMMON)
    phi = 2 * np.pi * np.arange(n) / n
    kw = dict(dt=30.0, steps=20, every=10, walls=(4.8, 5.5), chunks=4, keep=True,
              windows=[[4.9, 5.3, 6.0, 7.5], [4.8, 5.5, 0.0, 2 * np.pi]])
    path = mc.drift_walk(5.0, phi, KEY, noise=noise, **kw)
    lost = np.asarray(path.weight) == 0
    assert 10 < lost.sum() < 200 and np.all((path.L > 4.8) & (path.L < 5.5))
    total, error = path.windowed
    seen = (np.mod(np.asarray(path.phi) - 6.0, 2 * np.pi) < 1.5) & (path.L >= 4.9) & (path.L < 5.3)
    assert total[0, 0] == pytest.approx(seen[0].mean()) and total[-1, 0] == pytest.approx((seen[-1] & ~lost).mean())
    assert total[-1, 1] == pytest.approx((~lost).mean()) and path.counts.shape == (3, 2, 4) and np.all(error[-1] > 0)
    again = mc.drift_walk(5.0, phi, KEY, noise=noise, **kw)
    assert np.array_equal(again.counts, path.counts) and np.array_equal(again.L, path.L)
    # without noise it is the drift
    L = np.linspace(4.9, 5.4, n)
    path = mc.drift_walk(L, phi, KEY, noise=noise.replace(S=0.0), **kw)
    assert path.t.tolist() == [0.0, 300.0, 600.0] and np.all(path.L == L) and not np.any(path.slip)
    np.testing.assert_allclose(path.phi - phi, np.outer(path.t, drift_rate(L, MU)), rtol=1e-12, atol=1e-12)
    assert float(jnp.sum(path.weight)) == pytest.approx(1.0)


def test_mirrored_pairs_batches_and_gradients():
    def end(S):
        noise = WHITE["isotropic"].replace(S=S)
        L = mc.drift_walk(jnp.full(6, 5.0), 0.3, KEY, noise=noise, dt=1.0, steps=4, mirrored=True).L[-1] - 5.0
        return jnp.sum(L**2), L

    (squares, L), slope = plain_jit(jax.vmap(jax.value_and_grad(end, has_aux=True)))(jnp.array([1e6, 4e6]))
    L = np.asarray(L).reshape(2, 3, 2)
    assert np.all(np.abs(L.sum(axis=-1)) < 1e-3 * np.abs(L).max())
    np.testing.assert_allclose(L[1], 2 * L[0], rtol=1e-3)
    np.testing.assert_allclose(slope, squares / np.array([1e6, 4e6]), rtol=1e-3)           # <X^2> = 2 D t ~ S


# --- the statistics of Eq. 28 against the closed forms ---

def off(values, errors, exact):
    return np.abs(np.array([float(x) for x in values]) - exact) / np.array([float(x) for x in errors])


def test_white_noise_within_three_standard_errors():
    noise = WHITE["isotropic"]
    got = mc.drift_statistics(5.0, 0.7, KEY, noise=noise, dt=0.02, steps=5, pairs=10_000)
    assert np.all(off(got[:3], got[5:8], closed(noise, 5.0, 0.7)) < 3.0)
    assert float(got.dll_error) < 0.015 * float(got.dll)
    rate = 4.0 / 5.0 * float(got.dll)                                    # L^2 d_L(D_LL/L^2) = 4 D_LL/L, and nothing in phi
    assert np.all(off([got.ldot, got.phidot], [got.ldot_error, got.phidot_error], [rate, 0.0]) < 3.0)


def test_one_pattern_and_the_drift_identity():
    """Rank 1. Eq. 24 holds particle by particle where there is one pattern, so far better than either side is known."""
    noise = WHITE["rank 1"]
    run = dict(noise=noise, dt=2e-3, steps=5, pairs=10_000)
    got, exact = mc.drift_statistics(5.0, 0.7, KEY, **run), closed(noise, 5.0, 0.7)
    assert np.all(off(got[:3], got[5:8], exact) < 3.0) and exact[1] ** 2 == pytest.approx(exact[0] * exact[2])
    both = mc.drift_identity(5.0, 0.7, KEY, **run)
    a = exact[0] / (5.0**6 * math.cos(0.7) ** 2)                         # D = a L^6 cos^2, -a L^5 sin cos, a L^4 sin^2
    exact = [a * 5.0**5 * (4 * math.cos(0.7) ** 2 - math.cos(1.4)), -0.5 * a * 5.0**4 * math.sin(1.4)]
    assert np.all(off(both[:2], both[6:8], exact) < 3.0) and np.all(off(both[2:4], both[8:10], exact) < 3.0)
    assert abs(both.l_left) < 5e-5 * abs(both.ldot) and abs(both.phi_left) < 5e-5 * abs(both.phidot)


def test_memory_tends_to_white_noise_and_follows_kubo():
    white = PotentialNoise(S=1e7, m=1, twist=2.0, **COMMON)
    flat = closed(white, 5.0, 0.7)
    for tau, dt in ((0.5, 5.0), (100.0, 50.0)):
        noise = white.replace(tau_c=tau)
        got = mc.drift_statistics(5.0, 0.7, KEY, noise=noise, dt=dt, steps=24, skip=12, pairs=5000)
        exact = closed(noise, 5.0, 0.7)
        values, errors = (np.array([float(x) for x in got[k:k + 3]]) for k in (0, 5))
        assert np.all(np.abs(values - exact) < 3.0 * errors) and errors[0] < 0.04 * exact[0]
        near = np.abs(values - flat) < 3.0 * errors
        assert np.all(near) if tau < 1.0 else not np.any(near)


# --- the equation ---

def signal(noise, cells, particles, periods, dt, spread):
    """The m = 1 part, in each drift period, of f at L = 5, 11.5 MLT: by the equation, and by 20 groups of particles."""
    grid = dd.grid(L=(3.0, 7.0), cells=cells, spacing="inverse")
    L, phi = grid.mesh()
    f0 = np.exp(-0.5 * ((L - 5.0) / spread) ** 2 + (np.cos(phi - math.pi / 6) - 1) / spread**2)
    lf, pf = grid.faces("L").ravel(), grid["phi"].faces
    i, j = int(np.argmin(np.abs(lf - 5.0))), int(np.argmin(np.abs(pf - 3.0)))
    window = [lf[i - 2], lf[i + 2], pf[j - 2], pf[j + 2]]
    volume = (1 / window[0] - 1 / window[1]) * (window[3] - window[2])
    period = 2 * np.pi / float(drift_rate(2.0 / (1 / window[0] + 1 / window[1]), MU))
    step = period / round(period / dt / 4) / 4
    n = round(period / step / 2)
    t = 2 * step * np.arange(periods * n + 1)
    prm = dd.Parameters(dll=noise.dll, dlphi=noise.dlphi, dphiphi=noise.dphiphi, kinetic=KINETIC)
    f = np.asarray(jb.solve(dd.problem(grid, prm, inner=0.0, outer=0.0), f0, t=t, dt=step).f)
    start = mc.sample_drift(KEY, particles, grid, f0)
    path = mc.drift_walk(*start, jax.random.key(8), noise=noise, dt=step, steps=2 * (t.size - 1), every=2, windows=[window],
                         walls=(3.0, 7.0), chunks=20)
    each = np.asarray(path.counts)[:, 0] * 20 * float(grid.content(f0))
    seen = np.sum((f * grid.volumes)[:, i - 2:i + 2, j - 2:j + 2], axis=(1, 2))
    turn = (np.exp(-2j * np.pi * t / period)[:-1].reshape(periods, n) * 2 / n / volume)
    return np.sum(turn * seen[:-1].reshape(periods, n), axis=1), np.einsum("pn,pnc->pc", turn, each[:-1].reshape(periods, n, 20))


def same(equation, particles, least):
    for z, each in zip(equation, particles):
        turned = np.real(each * np.exp(-1j * np.angle(z)))
        error = turned.std(ddof=1) / math.sqrt(20)
        assert abs(turned.mean() - abs(z)) < 3.0 * error < 0.1 * abs(z)
    late = np.angle(equation[1:] / equation[:-1]), np.angle(particles.mean(axis=1)[1:] / particles.mean(axis=1)[:-1])
    assert np.all(np.abs(late) < 0.01 * 2 * np.pi)                       # the drift period, within 1 %
    assert abs(equation[-1]) < least * abs(equation[0])                  # damped


def test_drift_periodic_signal_is_the_one_of_particles():
    noise = PotentialNoise(S=[2e13, 2e11], m=(0, 1), **COMMON)
    same(*signal(noise, (48, 64), 10_000, 2, 30.0, 0.5), 0.8)


@pytest.mark.slow
def test_signal_with_the_full_tensor():
    """Longer, with D_Lphi: that both signs of it are right is in experiments/electric_fluctuations.py."""
    noise = PotentialNoise(S=4e10, m=1, twist=-10.0, **COMMON)
    same(*signal(noise, (96, 128), 40_000, 4, 15.0, 0.4), 0.75)


# --- bad input ---

BAD = [
    (dict(dt=0.0), "dt = 0 is out of range"), (dict(steps=0), "steps = 0"), (dict(every=3), "every must divide steps"),
    (dict(chunks=3), "chunks = 3: must divide the 4 particles"), (dict(L=0.5), "L = 0.5 is out of range: particles start"),
    (dict(walls=(5.0, 4.0)), "walls = "), (dict(windows=[1.0, 2.0]), "windows: needs rows"),
    (dict(noise=1.0), "noise: needs a PotentialNoise"),
    (dict(L=5.0, phi=0.0), "needs one number a particle"),
    (dict(noise=PotentialNoise(S=1.0, correlation=jnp.exp, span=1.0, kinetic=KINETIC)), "is no recipe for noise"),
    (dict(noise=PotentialNoise(S=1.0, tau_c=100.0, kinetic=KINETIC)), r"tau_c = 100 s is longer than the run \(10 s\)"),
]


@pytest.mark.parametrize("given, message", BAD)
def test_bad_input_is_one_line(given, message):
    given = dict(L=5.0, phi=np.zeros(4), noise=WHITE["isotropic"], dt=1.0, steps=10) | given
    with pytest.raises(ValueError, match=message) as caught:
        mc.drift_walk(given.pop("L"), given.pop("phi"), KEY, **given)
    assert "\n" not in str(caught.value)


def test_bad_statistics():
    with pytest.raises(ValueError, match="skip = 5: needs at least 0 and fewer than the 5 steps"):
        mc.drift_statistics(5.0, 0.0, KEY, noise=WHITE["isotropic"], dt=1.0, steps=5, skip=5)
    with pytest.raises(ValueError, match="particles need a distribution of at least 0"):
        mc.sample_drift(KEY, 10, dd.grid(L=(3.0, 7.0), cells=(4, 4)), -np.ones((4, 4)))
