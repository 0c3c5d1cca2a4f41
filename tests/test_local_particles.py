import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxbelt as jb
from jaxbelt import local_diffusion as ld
from jaxbelt import montecarlo as mc
from jaxbelt.coefficients import function
from jaxbelt.physics.dipole import T0, T1, T
from jaxbelt.physics.invariants import momentum
from jaxbelt.physics.label_grid import LabelGrid

KEY = jax.random.key(3)
DAY = 86400.0


def content_coordinate(alpha):
    """nu(alpha) with d nu = T sin(2 alpha) d(alpha): flat measure."""
    y = jnp.sin(alpha)
    return T0 * y**2 - (T0 - T1) * (y**3 / 3 + 0.4 * y**2.5)


def within(samples, exact, sigmas=4.0):
    samples = np.asarray(samples)
    error = np.std(samples, ddof=1) / math.sqrt(samples.size)
    assert abs(samples.mean() - exact) < sigmas * error, (samples.mean(), exact, error)


def flat(t, alpha, lnp, L, C, c, d):
    """A tensor that is constant (C, c, d) in (nu, X = p^3), where the measure is flat: a Gaussian remains one."""
    slope, X = T(jnp.sin(alpha)) * jnp.sin(2 * alpha), jnp.exp(3 * lnp)
    return C / slope**2, c / (3 * X * slope), d / (9 * X**2)


def test_full_tensor_moves_the_mean_and_the_covariance_as_it_must():
    C, c, d, n, alpha, lnp = 0.02, 0.05, 0.2, 20_000, 0.8, 0.6
    walk = mc.local_walk(jnp.full(n, alpha), lnp, KEY, tensor=function(flat, C=C, c=c, d=d), dt=0.002 * DAY, steps=50,
                         alpha_range=0.1)
    nu, X = content_coordinate(walk.alpha) - content_coordinate(alpha), jnp.exp(3 * walk.lnp) - math.exp(3 * lnp)
    for value, exact in ((nu, 0.0), (X, 0.0), (nu**2, 2 * C * 0.1), (nu * X, 2 * c * 0.1), (X**2, 2 * d * 0.1)):
        within(value, exact)
    assert np.all(np.asarray(walk.weight) == 1 / n)


def jacobi(t, alpha, lnp, L, C, d, low):
    """G^2 D_aa = C (nu - low)(nu_90 - nu): <nu> relaxes as exp(-2 C t), without flux at both ends; D_pp alike everywhere."""
    y = jnp.sin(alpha)
    r = jnp.sqrt(y)
    # nu_90 - nu = (1 - y) Q and 1 - y = cos^2/(1 + y): nothing cancels at 90 degrees
    Q = T0 * (1 + y) - (T0 - T1) * ((1 + y + y**2) / 3 + 0.4 * (1 + r + r**2 + r**3 + r**4) / (1 + r))
    return C * (content_coordinate(alpha) - low) * Q / (4 * T(y) ** 2 * y**2 * (1 + y)), 0.0, d


def test_pitch_angle_scattering_relaxes_exactly_to_and_beside_90_degrees():
    C, d, n, lowest, days = 2.0, 0.05, 10_000, 0.3, 0.3
    low, high = (float(content_coordinate(a)) for a in (lowest, math.pi / 2))
    tensor = function(jacobi, C=C, d=d, low=low)
    walk = mc.local_walk(jnp.full(n, 1.45), 0.0, KEY, tensor=tensor, dt=0.002 * DAY, steps=150, alpha_range=lowest)
    middle, first = 0.5 * (low + high), float(content_coordinate(1.45))
    nu = np.asarray(content_coordinate(walk.alpha))
    within(nu, middle + (first - middle) * math.exp(-2 * C * days))
    # the second Legendre polynomial decays as exp(-6 C t)
    z, z0 = (nu - middle) / (high - middle), (first - middle) / (high - middle)
    within(1.5 * z**2 - 0.5, (1.5 * z0**2 - 0.5) * math.exp(-6 * C * days))
    within(walk.lnp, 3 * d * days)
    within((walk.lnp - 3 * d * days) ** 2, 2 * d * days)


def waves(t, alpha, lnp, L, rho=0.9):
    """A smooth tensor of high correlation, odd about 90 degrees in D_ap."""
    aa, pp = 0.5 * jnp.exp(-lnp) * (0.3 + jnp.sin(alpha) ** 2), 0.3 * jnp.exp(-0.5 * lnp) * jnp.sin(alpha) ** 2
    return aa, rho * jnp.sqrt(aa * pp) * jnp.cos(alpha), pp


def as_waves(t, alpha, energy, L):
    return waves(t, alpha, jnp.log(momentum(energy)), L)


LOW, RANGE = 0.2, (-0.7, 1.1)


@pytest.fixture(scope="module")
def grid():
    return ld.grid(L_ref=4.5, alpha=(LOW, math.pi / 2), p=tuple(math.exp(x) for x in RANGE), cells=(40, 36))


def of_bins(grid: LabelGrid, f, shape):
    """The average of f over bins of whole cells, and the edges of those."""
    def blocks(y):
        a, b = (n // m for n, m in zip(grid.shape, shape))
        return np.asarray(y).reshape(shape[0], a, shape[1], b).sum((1, 3))
    edges = [grid[x].faces[::grid[x].n // m] for x, m in zip(("alpha", "lnp"), shape)]
    return blocks(f * grid.volumes) / blocks(grid.volumes), edges


def test_no_flux_walls_keep_what_is_constant_with_a_full_tensor(grid):
    n, shape = 60_000, (5, 4)
    _, edges = of_bins(grid, np.ones(grid.shape), shape)
    alpha, lnp, measure = mc.sample_labels(KEY, n, alpha=(LOW, math.pi / 2), lnp=RANGE)
    walk = mc.local_walk(alpha, lnp, KEY, tensor=function(waves), dt=0.005 * DAY, steps=60, weight=measure, chunks=2,
                         alpha_range=LOW, lnp_range=RANGE, bins=edges)
    content, error = walk.content(n)
    exact = np.diff(np.asarray(content_coordinate(edges[0])))[:, None] * np.diff(np.exp(3 * edges[1])) / 3
    np.testing.assert_allclose(np.sum(content[-1]), np.sum(measure), rtol=1e-12)
    assert np.all(np.abs(content[-1] - exact) < 3.5 * error[-1]), (content[-1] - exact) / error[-1]
    assert np.max(error[-1] / exact) < 0.1


@pytest.mark.slow
def test_particles_agree_with_the_grid_on_a_full_tensor_with_walls_of_every_kind(grid):
    n, days, shape = 40_000, 0.3, (5, 4)

    def start(alpha, lnp):
        return jnp.exp(-2 * lnp) * jnp.sin(alpha) ** 2

    def seeds(t, alpha):
        return start(alpha, RANGE[0])

    pb = ld.problem(grid, ld.Parameters(local=function(as_waves, steady=True)), low_alpha=0.0, low_p=function(seeds))
    f0 = start(grid.centers("alpha"), grid.centers("lnp"))
    f = jb.solve(pb, f0, t=np.array([0.0, days * DAY]), dt=0.02 * DAY).f[-1]
    expected, edges = of_bins(grid, f, shape)
    alpha, lnp, measure = mc.sample_labels(KEY, n, alpha=(LOW, math.pi / 2), lnp=RANGE)
    walk = mc.local_walk(alpha, lnp, KEY, tensor=function(waves), dt=0.005 * DAY, steps=60, weight=jnp.ones(n), alpha_range=LOW,
                         lnp_range=RANGE, low_alpha=0.0, low_p=function(lambda t, alpha, L: seeds(t, alpha)), lattice=(100, 80))
    mean, error = mc.local_average(alpha, lnp, measure, walk.weight * start(walk.alpha, walk.lnp) + walk.gain, edges)
    assert np.all(np.abs(mean - expected) < 3 * error), (mean - expected) / error
    assert np.median(error / expected) < 0.02


def test_radial_diffusion_and_losses_at_fixed_label():
    n, D0, days = 10_000, 2e-5, 1.0
    walk = mc.local_walk(jnp.full(n, 1.0), 0.0, KEY, tensor=function(lambda *a: (0.0, 0.0, 0.0)), dt=0.02 * DAY, steps=50, L=4.5,
                         dll=function(lambda t, L: D0 * L**4), loss=0.5)
    # 1/L is a Brownian path
    within(1 / walk.L, 1 / 4.5)
    within((1 / walk.L - 1 / 4.5) ** 2, 2 * D0 * days)
    np.testing.assert_allclose(np.sum(walk.weight), math.exp(-0.5), rtol=1e-12)
    assert np.all(walk.alpha == 1.0)


def test_what_cannot_be_is_said_in_one_line():
    tensor = function(waves)
    for word, given in (("alpha", dict(alpha=jnp.array([1.8]))), ("lnp", dict(lnp_range=(1.0, 2.0))), ("steps", dict(every=3)),
                        ("chunks", dict(chunks=2)), ("tensor", dict(tensor=1.0)), ("lattice", dict(lattice=(5, 5))),
                        ("low_p", dict(low_p=0.0)), ("dt", dict(dt=0.0)), ("alpha_range", dict(alpha_range=2.0))):
        given = dict(alpha=jnp.array([1.0]), lnp=0.0, tensor=tensor, dt=60.0, steps=4) | given
        with pytest.raises(ValueError, match=word) as said:
            mc.local_walk(given.pop("alpha"), given.pop("lnp"), KEY, **given)
        assert "\n" not in str(said.value)
