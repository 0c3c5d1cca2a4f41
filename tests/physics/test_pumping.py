"""Magnetic pumping and the mixing cycle with scattering inside it, from first principles; particles as an independent answer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq

from jaxbelt.physics import mixing_cycle, pumping
from jaxbelt.physics.mixing import G as G_diffusion
from jaxbelt.physics.mixing_projections import cells, energy_rate

pytestmark = pytest.mark.plain

PUMP = jax.jit(pumping.cycle_growth)
CYCLE = jax.jit(mixing_cycle.cycle_growth, static_argnames="cells")


def missing(y, tan, beta, d):
    return d * np.sqrt(max(y * y - beta, 0.0)) + (1 - d) * y - tan


def test_energy_conserves_mu_and_j():
    """E(mu, J) against a root of the action integral, with electrons that the hill keeps in B; E = E_0 at beta = 0."""
    for d in (0.3, 0.4, 0.5, 0.7):
        for beta in (0.1, 1.5):
            for tan in (0.01, 0.3, 0.95 * (1 - d) * np.sqrt(beta), 1.05 * (1 - d) * np.sqrt(beta), 3.0):
                y = brentq(missing, 0.0, 50.0, args=(tan, beta, d), xtol=1e-14)
                got = float(pumping.log_energy_ratio(tan / np.sqrt(1 + tan * tan), beta, d))
                assert got == pytest.approx(np.log((1 + y * y) / (1 + tan * tan)), rel=1e-9, abs=1e-12)
    xi = np.linspace(0, 0.999, 7)
    assert np.all(np.asarray(pumping.log_energy_ratio(xi, 0.0)) == 0.0)
    assert np.all(np.isfinite(jax.jacfwd(lambda b: pumping.log_energy_ratio(xi, b))(0.0)))


def test_scattering_is_microcanonical():
    """The weights of labels on a surface of constant E are those of a tube of cross-section 1/B filled isotropically."""
    beta, d = 0.6, 0.4
    xi, w = (np.asarray(x) for x in pumping.pitch_nodes(beta, 400))
    ratio = np.exp(np.asarray(pumping.log_energy_ratio(xi, beta, d)))
    weight, mu = w * ratio**-1.5, (1 - xi**2) / ratio
    x, gauss = np.polynomial.legendre.leggauss(20)
    local = 1 - (0.5 + 0.5 * x) ** 2
    volume = d / (1 + beta), 1 - d
    assert weight.sum() == pytest.approx(sum(volume), rel=1e-5)
    for n in (1, 2, 3):
        want = sum(v * np.sum(0.5 * gauss * (local / b) ** n) for v, b in zip(volume, (1 + beta, 1.0))) / sum(volume)
        assert np.sum(weight * mu**n) / weight.sum() == pytest.approx(want, rel=1e-5)


def test_symmetry_and_what_is_conserved():
    for s in (0.0, 3.0):
        assert abs(float(PUMP(s, 1.0, 1.0))) < 1e-14 and abs(float(CYCLE(s, 1.0, 1.0))) < 1e-14
    for s in (-2.0, -4.0):
        assert float(PUMP(s, 1.0, 1.0)) == pytest.approx(float(PUMP(3 - s, 1.0, 1.0)), rel=1e-11)
    assert pumping.G(1.0, 1.0) == pytest.approx(4.894e-4, rel=1e-3)


def test_pumping_tends_to_the_weak_limit_as_the_root_of_h():
    """Without trapping G = (d h)^2/360 (2 pi)^2 r/(r^2 + (2 pi)^2); what the hill reflects adds O(sqrt(h))."""
    for ratio in (0.1, 2 * np.pi, 40.0):
        apart = [float(PUMP(-2.0, ratio, h)) / 10 / pumping.G_weak(ratio, h) - 1 for h in (4e-4, 1e-4)]
        assert 0.03 < apart[1] < 0.07 and apart[0] / apart[1] == pytest.approx(2.0, rel=0.1), apart


def test_rare_scattering_and_frequent_scattering():
    assert float(PUMP(-2.0, 1e-3, 1.0)) == pytest.approx(1e-3 * float(pumping.mean_operator_growth(-2.0, 1.0)), rel=1e-6)
    high = [float(PUMP(-2.0, r, 1.0)) for r in (40.0, 80.0)]
    assert high[0] / high[1] == pytest.approx(2.0, rel=0.15)            # isotropic at every moment: reversible compression


def test_the_nodes_of_kinetic_cells_give_the_same():
    want = float(PUMP(-2.0, 1.0, 1.0))
    apart = [float(pumping.cycle_growth(-2.0, 1.0, 1.0, grid=cells(1.0, trapped=m, passing=m))) / want - 1 for m in (8, 24)]
    assert abs(apart[1]) < 5e-3 and abs(apart[0]) < 0.05 and abs(apart[0]) > 4 * abs(apart[1])


def test_gradients_by_rate_and_depth():
    every = jax.jit(lambda x: (pumping.G(x[0], x[1]), jax.grad(lambda y: pumping.G(y[0], y[1]))(x)))
    x = jnp.array([1.0, 0.5])
    differences = [float(every(x + e)[0] - every(x - e)[0]) / 2e-4 for e in 1e-4 * np.eye(2)]
    np.testing.assert_allclose(every(x)[1], differences, rtol=1e-4)


def test_bad_input_is_named():
    for bad, word in (((0.0, 1.0), "ratio"), ((1.0, 0.0), "h"), ((1.0, -1.0), "h"), ((1.0, 1.0, 1.0), "d")):
        with pytest.raises(ValueError, match=f"pumping {word} = "):
            pumping.G(*bad)


def test_mixing_cycle_between_its_limits():
    """Rare scattering: G linear in nu, above (5.12) because it also acts while the field is raised; frequent: G ~ 1/nu, while the
    Krook model of mixing saturates."""
    low = [float(CYCLE(5.0, r, 1.0)) for r in (1e-3, 2e-3)]
    assert low[1] / low[0] == pytest.approx(2.0, rel=2e-3)
    assert 1.3 < low[0] / (10 * float(G_diffusion(1e-3, 1.0))) < 1.6
    high = [float(CYCLE(5.0, r, 1.0)) for r in (40.0, 80.0)]
    assert high[0] / high[1] == pytest.approx(2.0, rel=0.25) and high[1] < 0.1 * energy_rate(1.0)
    assert float(CYCLE(5.0, 1.0, 1.0, cells=80)) == pytest.approx(float(CYCLE(5.0, 1.0, 1.0)), rel=3e-3)
    assert float(PUMP(-2.0, 1.0, 1.0)) < 0.2 * float(CYCLE(5.0, 1.0, 1.0))
    assert float(jax.jit(mixing_cycle.G)(1.0, 1.0)) == pytest.approx(1.102 * float(G_diffusion(1.0, 1.0)), rel=2e-3)


def particles(ratio, h, d, cycles, steps, n, barrier, rng):
    """Mean energy after every cycle of electrons with actions that scatter microcanonically, and its standard deviation."""
    mu, u = np.ones(n), rng.uniform(size=n)
    mu, tan = 1 - u**2, u / np.sqrt(1 - u**2)
    root, means = np.sqrt(h), []

    def cross(action, beta):
        y = (action**2 + d * d * beta) / ((1 - d) * action + d * np.sqrt(np.maximum(action**2 + (2 * d - 1) * beta, 1e-300)))
        return np.where(action < (1 - d) * np.sqrt(beta), action / (1 - d), y)

    in_a = rng.uniform(size=n) < d
    for _ in range(cycles):
        held = barrier & (tan < root)                          # behind the barrier, in A or B; `tan` is v_par/v_perp at B_0
        in_a = rng.uniform(size=n) < d
        for k in range(steps):
            beta = 0.5 * h * (1 - np.cos(2 * np.pi * (k + 0.5) / steps))
            rising = k < steps // 2
            if k == steps // 2 and barrier:
                tan = np.where(held, np.where(in_a, d * tan + (1 - d) * root, (1 - d) * tan), tan)
                held = np.zeros(n, bool)
            a = np.where(tan**2 + beta < h, np.sqrt(tan**2 + beta), cross(d * tan + (1 - d) * root, beta))
            y = np.where(held, np.where(in_a, a, tan), cross(tan, beta))
            hit = np.flatnonzero(rng.uniform(size=n) < -np.expm1(-ratio / steps))
            energy = mu[hit] * (1 + y[hit] ** 2)
            new_a = rng.uniform(size=hit.size) < d / (1 + beta) / (d / (1 + beta) + 1 - d)
            mu[hit] = energy * (1 - rng.uniform(size=hit.size) ** 2) / np.where(new_a, 1 + beta, 1.0)
            y2 = energy / mu[hit] - 1
            behind = barrier & rising & (y2 < h)
            crossing = np.where(y2 > beta, d * np.sqrt(np.maximum(y2 - beta, 0)), 0.0) + (1 - d) * np.sqrt(y2)
            cleared = barrier & rising & ~behind & (crossing < root)
            tan[hit] = np.where(behind, np.where(new_a, np.sqrt(np.maximum(y2 - beta, 0)), np.sqrt(y2)),
                                np.where(cleared, (crossing - (1 - d) * root) / d, crossing))
            held[hit] = behind | cleared
            in_a[hit] = new_a | cleared
        energies = mu * (1 + tan**2)
        means.append((energies.mean(), energies.std() / np.sqrt(n)))
    return np.array(means)


@pytest.mark.parametrize("barrier", [False, True])
def test_particles_gain_the_same_energy(barrier):
    ratio, h, d = 3.0, 2.0, 0.4
    means = particles(ratio, h, d, cycles=8, steps=64, n=30000, barrier=barrier, rng=np.random.default_rng(3))
    want = 6 * float((CYCLE if barrier else PUMP)(5.0, ratio, h))
    got = np.log(means[-1, 0] / means[1, 0])
    assert abs(got - want) < 4 * means[-1, 1] / means[-1, 0], (got, want)
    assert want > 10 * means[-1, 1] / means[-1, 0]                # the statement is a sharp one
