"""Moments of a foliated state against closed forms, every sum that must close, and derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import plain_jit
from scipy.special import erf

from jaxbelt import foliated
from jaxbelt.grid import Axis
from jaxbelt.physics import foliated_moments as fm

GAUSS, WEIGHT = np.polynomial.legendre.leggauss(10)


def grid(cells=(24, 48, 6), mu=16, **kw):
    kw = {"L": (1.05, 2.0), "mu_max": None if isinstance(mu, Axis) else 200.0} | kw
    return foliated.grid(cells=cells, mu=mu, **kw)


def boltzmann(g, beta=1.0, gamma=0.0):
    """exp(-beta H - gamma mu): exact averages along p, 10 Gauss points along chi."""
    (B, live), mu = at_nodes(g), g["mu"].centers[:, None, None, None]
    edges = erf(np.sqrt(0.5 * beta) * B[..., None] * g["p"].faces)
    along = np.sqrt(0.5 * np.pi / beta) / B[..., None] * np.diff(edges) / g["p"].measure
    f = np.einsum("mpcg,pcgk,g->mpck", np.exp(-(beta * B + gamma) * mu), along, 0.5 * WEIGHT) * live[:, :, None]
    return jnp.asarray(f if g.ndim == 4 else np.broadcast_to(f[..., None], g.shape))


def computed(function, g, f, **kw):
    return plain_jit(lambda f: function(g, f, **kw))(f)


def at_nodes(g, nodes=GAUSS):
    """(B at Gauss points of every cell (psi, chi, point), live cells): X^2 x^4 + x - 1 = 0, B = psi^3 sqrt(4 - 3 x)/x^3."""
    chi, psi = g["chi"], g["psi"].centers[:, None, None]
    X = (chi.centers[:, None] + 0.5 * chi.measure[:, None] * np.asarray(nodes)) / psi**2
    x = np.minimum(1.0, np.abs(X) ** -0.5)
    for _ in range(7):
        x = x - (X**2 * x**4 + x - 1.0) / (4.0 * X**2 * x**3 + 1.0)
    return psi**3 * np.sqrt(4.0 - 3.0 * x) / x**3, foliated.live(g)


def average(values):
    return np.sum(0.5 * WEIGHT * values, axis=-1)


# ---- closed forms

@pytest.mark.parametrize("beta, gamma", [(1.0, 0.0), (2.0, 0.7), (0.5, 2.0)])
def test_boltzmann_on_leaves_everywhere(beta, gamma):
    """exp(-beta H - gamma mu): n ~ B/(beta B + gamma), T_perp = B/(beta B + gamma), <v^2/2> = 1/(2 beta), in every cell."""
    worst = {}
    for cells in ((24, 48, 4), (48, 96, 4)):
        g = grid(cells, mu=24)
        here = computed(fm.local, g, boltzmann(g, beta, gamma))
        B, live = at_nodes(g)
        N = 1.0 / (B * (beta * B + gamma))                            # int int P dp dmu but for its constant
        n = np.sqrt(2 * np.pi / beta) / (2 * np.pi) * average(N) / average(B**-2.0)
        T = average(N * B / (beta * B + gamma)) / average(N)
        worst[cells[0]] = [np.max(np.abs(np.asarray(a)[live] / b[live] - 1.0)) for a, b in
                           ((here.n, n), (here.T_perp, T), (here.E_par, np.full_like(n, 0.5 / beta)),
                            (here.T_par, np.full_like(n, 1.0 / beta)), (here.anisotropy, T * beta))]
    # beside the planet's surface, where the last cells are wide, is the worst place
    assert max(worst[24]) < 1.5e-3 and max(worst[48]) < 4e-4


def test_averages_of_a_maxwellian_converge_and_centres_do_not_do_as_well():
    """<v^2/2> = 1/2 and T_perp = 1 over the whole domain; v^2 at the centres of the cells is 1 % off on the same grid."""
    errors = []
    for cells in ((16, 32, 6), (24, 48, 6), (48, 96, 6)):
        g = grid(cells)
        f = boltzmann(g)
        got = computed(fm.averages, g, f)
        v2 = (at_nodes(g, [0.0])[0] * g["p"].centers) ** 2
        centre = float(np.sum(f * g.volumes * v2) / np.sum(f * g.volumes)) / 2 - 0.5
        errors.append((abs(float(got.E_par) - 0.5), abs(float(got.T_perp) - 1.0), abs(centre)))
        np.testing.assert_allclose(got.energy, got.T_perp + got.E_par, rtol=1e-14)
        np.testing.assert_allclose(got.anisotropy, got.T_perp / (2 * got.E_par), rtol=1e-14)
        np.testing.assert_allclose(got.number, g.content(f), rtol=1e-14)
    errors = np.array(errors)
    assert 0.009 < errors[1, 2] < 0.013 and errors[1, 0] < 4e-4 and errors[2, 0] < 5e-6
    assert errors[0, 0] / errors[2, 0] > 3.0**5
    assert np.all(errors[:, 1] < [1e-3, 2e-4, 1e-4])


def test_mu_nodes_limit_the_perpendicular_temperature():
    """T_perp of a Maxwellian at the outer equator with n nodes up to 7/B_out misses what is above that: 7 e^-7."""
    T = []
    for n in (4, 8, 16, 32):
        g = grid((24, 48, 12), mu=n, mu_max=None)
        T.append(float(computed(fm.equatorial, g, boltzmann(g)).T_perp[0]))
    x = 7.0 * float(g["psi"].centers[0] / g["psi"].faces[0]) ** 3
    cut = (1 - (1 + x) * np.exp(-x)) / (1 - np.exp(-x))
    assert abs(T[1] - 1) < 7e-3 and abs(T[-1] - cut) < 3e-4 and abs(T[2] - T[-1]) < 1e-5 and abs(T[0] - T[-1]) > 1e-2


@pytest.mark.parametrize("theta", [None, 6])
def test_flat_on_leaves(theta):
    """P = 1 below a speed v_c: n ~ B; P = 1 in the box |p| < p_max: n ~ B^2, and <v^2/2> = (B p_max)^2/6."""
    g = grid((24, 48, 6), mu=Axis.nodes("mu", [0.3]), theta=theta)
    B, live = at_nodes(g)
    around = 2 * np.pi if theta is None else 1.0
    lines = slice(None) if theta is None else np.s_[..., 0]

    box = computed(fm.local, g, jnp.where(foliated.spread(g, live), jnp.ones(g.shape), 0.0))
    top = g["p"].faces[-1]
    np.testing.assert_allclose(box.n[lines][live], (2 * top / around / average(B**-2.0))[live], rtol=2e-8)
    assert np.max(np.abs(np.asarray(box.E_par[lines]) / (average(B**2.0) * top**2 / 6.0) - 1.0)[live]) < 2e-3
    n = computed(fm.equatorial, g, jnp.ones(g.shape)).n[lines]
    np.testing.assert_allclose(n, 2 * top / around * g["psi"].centers**6, rtol=2e-3)

    # the part of every cell of p that is below v_c, averaged along chi
    lo, hi = g["p"].faces[:-1], g["p"].faces[1:]
    v_c = 1.7
    part = np.clip((np.minimum(hi, v_c / B[..., None]) - np.maximum(lo, -v_c / B[..., None])) / (hi - lo), 0.0, 1.0)
    P = np.einsum("pcgi,g->pci", part, 0.5 * WEIGHT) * live[..., None]
    f = np.broadcast_to(P[None] if theta is None else P[None, ..., None], g.shape)
    got = computed(fm.local, g, f)
    np.testing.assert_allclose(got.n[lines][live], (2 * v_c / around * average(1.0 / B) / average(B**-2.0))[live], rtol=1e-11)
    np.testing.assert_allclose(got.T_perp[lines][live], (0.3 * average(np.ones_like(B)) / average(1.0 / B))[live], rtol=4e-3)


def test_equator():
    """Profiles at z = 0 against closed forms, the fourth order of the interpolation, and r = L."""
    beta, gamma, worst = 1.0, 0.5, []
    for cells in ((24, 48, 6), (48, 96, 6)):
        g = grid(cells, mu=24)
        got, B = computed(fm.equatorial, g, boltzmann(g, beta, gamma)), g["psi"].centers ** 3
        np.testing.assert_array_equal(got.r, 1.0 / g["psi"].centers)
        T = B / (beta * B + gamma)
        exact = (np.sqrt(2 * np.pi / beta) / (2 * np.pi) * T, T, np.full_like(T, 0.5), np.ones_like(T), T)
        worst.append([np.max(np.abs(a / b - 1)) for a, b in zip(got[1:], exact)])
    assert max(worst[0]) < 1.6e-3 and max(worst[1]) < 3e-4
    assert worst[0][0] / worst[1][0] > 6


# ---- sums that close

def test_density_times_volume_is_the_content():
    """int n dV is what the grid holds, with and without theta, and so are the energies; space is dchi dpsi dtheta/B^2."""
    for theta in (None, 8):
        g = grid((12, 24, 5), mu=4, theta=theta)
        f = boltzmann(g) * (1.0 + 0.3 * np.sin(g.centers("chi") * 3.0 + (g.centers("theta") if theta else 0.0)))
        here, over = computed(fm.local, g, f), computed(fm.averages, g, f)
        V, live = fm.volumes(g), foliated.live(g)
        assert here.n.shape == g.shape[1:3] + g.shape[4:] and V.shape[:2] == live.shape
        N = float(over.number)
        np.testing.assert_allclose(np.sum(here.n * V), N, rtol=1e-13)
        np.testing.assert_allclose(np.sum((here.n * V * here.T_perp)[live]), N * over.T_perp, rtol=1e-13)
        np.testing.assert_allclose(np.sum((here.n * V * here.E_par)[live]), N * over.E_par, rtol=1e-13)
        assert np.all(np.isnan(here.T_perp[~live])) and np.all(here.n[~live] == 0)
    # the volume between two field lines: sin(latitude) from -a to a at each, r from 1 to x/psi
    g = grid((40, 24, 40), mu=1)
    psi = np.linspace(*g["psi"].faces[[0, -1]], 4001)
    s, w = np.polynomial.legendre.leggauss(40)
    s = s * np.sqrt(1 - psi)[:, None]
    exact = 2 * np.pi * np.trapezoid(np.sqrt(1 - psi) * np.sum(w * (1 - s**2) ** 3, axis=1) / psi**4, psi)
    # the planet's surface is followed in whole cells
    np.testing.assert_allclose(np.sum(fm.volumes(g) * foliated.live(g)), exact, rtol=0.01)


def test_entropy():
    """-int P ln P: of a flat box V P ln P, 0 ln 0 = 0; of a Maxwellian <H> + ln Z per particle; leaf by leaf."""
    g = grid((12, 24, 4), mu=5)
    f = jnp.zeros(g.shape).at[:, :, 4:8].set(0.3)
    V = np.sum(g.volumes[:, :, 4:8])
    np.testing.assert_allclose(fm.leaf_entropy(g, f), -V * 0.3 * np.log(0.3), rtol=1e-13)
    leaves = fm.leaf_entropy(g, f, leaves=True)
    assert leaves.shape == (5,)
    np.testing.assert_allclose(leaves @ g["mu"].measure, fm.leaf_entropy(g, f), rtol=1e-13)
    assert np.all(np.isfinite(jax.grad(lambda f: fm.leaf_entropy(g, f))(f)))
    errors = []
    for cells in ((16, 32, 4), (32, 64, 4)):
        g = grid(cells)
        got = computed(fm.averages, g, boltzmann(g))
        errors.append(abs(float(got.entropy / got.number) - 1.5))
    assert errors[1] < 1e-2 and errors[0] / errors[1] > 2.5


def test_potential_energy_counts_where_asked():
    g = grid((12, 24, 5), mu=3)
    f, e_phi = boltzmann(g), np.linspace(1.0, 2.0, 5)
    more = fm.averages(g, f, potential=e_phi).energy - fm.averages(g, f).energy
    held = np.sum(np.asarray(f) * g.volumes, axis=(0, 2, 3))
    np.testing.assert_allclose(more, np.sum(e_phi * held) / np.sum(held), rtol=1e-12)


# ---- positive, whatever the state; transformations; errors

def test_temperatures_are_positive_whatever_the_state():
    """Single occupied cells and random sparse states: every temperature is between what its cell could hold."""
    rng = np.random.default_rng(0)
    for kw in ({}, {"L": (1.5, 3.0), "cells": (16, 48, 4)}, {"L": (1.05, 1.5), "cells": (6, 24, 4)}):
        g = grid(**({"cells": (14, 28, 4), "mu": 3} | kw))
        f = np.where(rng.random((5, *g.shape)) < 0.02, rng.random((5, *g.shape)) ** -2.0, 0.0) * \
            foliated.spread(g, foliated.live(g))
        here, over, eq = (computed(m, g, f) for m in (fm.local, fm.averages, fm.equatorial))
        for got in (here, over, eq):
            for a in (got.T_perp, got.E_par):
                assert np.all(~(np.asarray(a) <= 0)) and np.any(np.isfinite(a))
        assert np.all(np.asarray(eq.n) >= 0)
        mu = g["mu"].centers
        top = mu.max() * at_nodes(g)[0].max(axis=-1) * 1.5
        assert np.all(~(np.asarray(here.T_perp) > top))


@pytest.mark.parametrize("theta", [None, 4])
def test_jit_vmap_batch_axes_and_precision(theta):
    g = grid((8, 16, 3), mu=2, theta=theta, L=(1.2, 1.5))
    f = np.random.default_rng(1).random((2, 3, *g.shape)) * foliated.spread(g, foliated.live(g))
    for compute in (fm.averages, fm.local, fm.equatorial):
        plain = computed(compute, g, f)
        inner = jax.jit(lambda f, compute=compute: jax.vmap(jax.vmap(lambda x: compute(g, x)))(f)[-4:])(f)
        single = computed(compute, g, f.astype(np.float32))
        for a, b, c in zip(plain[-4:], inner, single[-4:]):
            np.testing.assert_allclose(a, b, rtol=1e-12)
            np.testing.assert_allclose(a, c, rtol=3e-4)
            assert c.dtype == jnp.float32 and np.shape(a)[:2] == (2, 3)
        np.testing.assert_allclose(computed(compute, g, f[1, 2])[1], plain[1][1, 2], rtol=1e-12)


def test_derivatives():
    """Forward and reverse mode against central differences, finite where cells are empty."""
    g = grid((8, 16, 3), mu=2, L=(1.2, 1.5))
    f = boltzmann(g)
    f = f.at[:, 0].set(0.0)                                          # a whole shell is empty
    d = np.random.default_rng(2).random(g.shape) * np.asarray(f)

    def loss(f):
        a, e = fm.averages(g, f), fm.equatorial(g, f)
        here = fm.local(g, f)
        some = foliated.live(g)[1:]
        return a.T_perp + 2 * a.E_par + a.anisotropy + a.entropy + jnp.sum(e.T_perp[1:] * e.n[1:]) \
            + jnp.sum(jnp.where(some, here.T_par[1:], 0.0))

    slope = plain_jit(jax.grad(loss))(f)
    along = float(plain_jit(lambda f, d: jax.jvp(loss, (f,), (d,)))(f, d)[1])
    assert np.all(np.isfinite(slope))
    h = 1e-4
    value = plain_jit(loss)
    central = (value(f + h * d) - value(f - h * d)) / (2 * h)
    assert abs(float(jnp.sum(slope * d)) - along) < 1e-11 * abs(along) and abs(float(central) - along) < 1e-6 * abs(along)


def test_nothing_is_not_a_temperature():
    g = grid((8, 16, 3), mu=2, L=(1.2, 1.5))
    got = fm.averages(g, jnp.zeros(g.shape))
    assert float(got.number) == 0 and np.isnan(got.T_perp) and np.isnan(got.E_par) and float(got.entropy) == 0
    assert np.all(np.isnan(fm.local(g, jnp.zeros(g.shape)).T_perp)) and np.all(fm.equatorial(g, jnp.zeros(g.shape)).n == 0)


def test_nodes_before_mu_are_kept():
    """A grid whose first axis is a list of runs: one row for each."""
    case = Axis.nodes("case", [0, 1])
    plain, g = (grid((8, 16, 3), mu=2, L=(1.2, 1.5), nodes=n) for n in (None, case))
    f = jnp.stack([boltzmann(plain, 1.0), boltzmann(plain, 2.0)])
    for compute in (fm.averages, fm.local, fm.equatorial):
        for a, b in zip(computed(compute, g, f), computed(compute, plain, f)):
            np.testing.assert_array_equal(a, b)
    assert fm.volumes(g).shape == (3, 8)


def test_errors():
    g = grid((8, 16, 3), mu=2, L=(1.2, 1.5))
    with pytest.raises(ValueError, match=r"f: needs the shape \(\.\.\., 2, 3, 8, 16\) of the grid's mu, psi, chi, p, got \(3, 8"):
        fm.averages(g, np.zeros((3, 8, 16)))
    from jaxbelt import drift_diffusion

    with pytest.raises(ValueError, match=r"grid: needs the axes \(mu, psi, chi, p\[, theta\]\) of foliated.grid, got \(L, phi\)"):
        fm.local(drift_diffusion.grid(L=(1, 7), cells=(8, 8)), np.zeros((8, 8)))
