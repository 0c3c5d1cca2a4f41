"""Local diffusion with transport (Eq. 29): exact solutions, eigenmodes, labels, 3-D and 4-D against the parts they consist of."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import plain_jit

import jaxbelt as jb
from jaxbelt import drift_diffusion as dd
from jaxbelt import local_diffusion as ld
from jaxbelt.coefficients import function
from jaxbelt.physics import labels
from jaxbelt.physics.chorus_tensor import ChorusTensor
from jaxbelt.physics.dipole import T0, T1, T

jax.config.update("jax_enable_x64", True)

DAY = 86400.0
LOW, HIGH = np.radians(20.0), 0.5 * np.pi


def u_of(alpha):
    """int T(y) sin(2 alpha) d(alpha): with w = p^3/3 the measure is du dw."""
    y = np.sin(alpha)
    return T0 * y**2 - (T0 - T1) * (2 / 3 * y**3 + 4 / 5 * y**2.5) / 2


def plain_tensor(duu, duw, dww):
    """The tensor in (alpha, ln p) of a constant one in (u, w) [1/day]: F_t = duu F_uu + 2 duw F_uw + dww F_ww exactly."""
    def of(t, alpha, energy, L, *_):
        p = jnp.sqrt(energy * (energy + 2 * 0.51099895))
        du, dw = T(jnp.sin(alpha)) * jnp.sin(2 * alpha), p**3
        return duu / du**2 + 0 * dw, duw / (du * dw), dww / dw**2 + 0 * du
    return function(of, steady=True)


def as_local(tensor):
    return lambda t, *x: tensor(t, *x)


def gaussian(t, u, w, center, start, D):
    """A Gaussian in (u, w) whose covariance grows as 2 D t."""
    s = start + 2 * D * t
    det = s[0, 0] * s[1, 1] - s[0, 1] ** 2
    x, y = u - center[0], w - center[1]
    q = (s[1, 1] * x**2 - 2 * s[0, 1] * x * y + s[0, 0] * y**2) / det
    return jnp.exp(-0.5 * q) / jnp.sqrt(det)


def blob_error(cells, steps):
    """L1 error of a tilted Gaussian on cells^2 cells of (alpha, ln p) after `steps` steps, correlation .8."""
    bounds, momenta = (LOW, np.radians(75.0)), (0.7, 1.5)
    grid = ld.grid(L_ref=5.0, alpha=bounds, p=momenta, cells=(cells, cells))
    ends = [u_of(x) for x in bounds], [p**3 / 3 for p in momenta]
    center = [0.45 * a + 0.55 * b for a, b in ends]
    size = [b - a for a, b in ends]
    D = np.array([[1.0, 0.8], [0.8, 1.0]]) * np.outer(size, size) * 2e-3
    start = np.diag(np.square(size)) * 0.006
    prm = ld.Parameters(local=plain_tensor(D[0, 0], D[0, 1], D[1, 1]))
    problem = ld.problem(grid, prm, low_alpha=0.0, low_p=0.0, high_p=0.0)
    # exact averages over cells, by 4 x 4 Gauss points in the measure's own variables
    x, weight = np.polynomial.legendre.leggauss(4)
    x, weight = 0.5 * (x + 1), 0.5 * weight
    fu, fw = u_of(grid["alpha"].faces), np.exp(3 * grid["lnp"].faces) / 3
    u, w = fu[:-1, None] + np.diff(fu)[:, None] * x, fw[:-1, None] + np.diff(fw)[:, None] * x

    def exact(t):
        f = gaussian(t, u[:, :, None, None], w[None, None], center, start, D)
        return jnp.einsum("iajb,a,b->ij", f, weight, weight)

    end = 1.0
    sol = plain_solve(problem, exact(0.0), t=np.array([0.0, end * DAY]), dt=end * DAY / steps)
    return float(jnp.sum(grid.volumes * jnp.abs(sol.f[-1] - exact(end))) / jnp.sum(grid.volumes * exact(end))), sol


def plain_solve(problem, f0, **kw):
    return plain_jit(lambda p, f: jb.solve(p, f, **kw))(problem, f0)


def test_a_tilted_gaussian_second_order():
    """Full tensor in a coordinate where the operator is plain: order 2 in cells and steps together, nothing below zero."""
    errors = []
    for cells, steps in ((20, 6), (40, 12)):
        error, sol = blob_error(cells, steps)
        errors.append(error)
        assert float(sol.f.min()) >= 0.0 and int(sol.result) == 0
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert errors[-1] < 1.3e-2 and orders[-1] >= 1.9, (errors, orders)


def test_energy_diffusion_is_the_heat_equation_in_ln_p():
    """D_pp/p^2 = D alone: F = p^-3 times a Gaussian in ln p that spreads as 2 D t and moves by 3 D t... in (x, x + 3 D t)."""
    grid = ld.grid(L_ref=5.0, alpha=(LOW, HIGH), p=(0.05, 20.0), cells=(2, 240))
    D, s = 0.02, 0.3
    problem = ld.problem(grid, ld.Parameters(local=ld.LocalTensor(dpp=D)), low_p=0.0, high_p=0.0)
    x = grid.centers("lnp") * np.ones(grid.shape)

    def exact(t):
        var = s**2 + 2 * D * t
        return s / np.sqrt(var) * np.exp(-((x + 3 * D * t) ** 2) / (2 * var))

    sol = plain_solve(problem, exact(0.0), t=np.array([0.0, 2 * DAY]), dt=DAY / 20)
    assert np.max(np.abs(sol.f[-1] - exact(2.0))) < 1e-3


def test_pitch_angle_decay_rate_against_the_eigenproblem():
    """Pure D_aa with an empty loss cone relaxes to its lowest mode, whose rate a Chebyshev collocation gives on its own."""
    def daa(alpha):
        return 0.5 * (1.0 + np.cos(alpha) ** 2)

    # Galerkin with Legendre polynomials times (x - LOW): int g daa u' v' = rate int g u v, natural at 90 degrees
    nodes, weight = np.polynomial.legendre.leggauss(200)
    alpha = LOW + (HIGH - LOW) * 0.5 * (nodes + 1)
    g = np.asarray(T(np.sin(alpha))) * np.sin(2 * alpha) * weight
    power = np.polynomial.Polynomial
    basis = [power([1.0, 1.0]) * np.polynomial.legendre.Legendre.basis(k).convert(kind=power) for k in range(14)]
    u, du = (np.array([b(nodes) for b in x]) for x in (basis, [b.deriv() * (2 / (HIGH - LOW)) for b in basis]))
    stiff, mass = (du * (g * daa(alpha))) @ du.T, (u * g) @ u.T
    rate = np.min(np.linalg.eigvals(np.linalg.solve(mass, stiff)).real)

    rates = []
    for cells in (30, 60):
        grid = ld.grid(L_ref=5.0, alpha=(LOW, HIGH), energy=(0.5, 1.0), cells=(cells, 2))
        tensor = ld.LocalTensor(daa=function(lambda t, alpha, *_: 0.5 * (1.0 + jnp.cos(alpha) ** 2), steady=True))
        problem = ld.problem(grid, ld.Parameters(local=tensor), low_alpha=0.0)
        t = np.array([0.0, 3.0, 3.5]) * DAY
        sol = plain_solve(problem, jnp.ones(grid.shape), t=t, dt=DAY / 200)
        content = grid.content(sol.f)
        rates.append(float(jnp.log(content[1] / content[2]) / 0.5))
    errors = np.abs(np.array(rates) / rate - 1)
    assert errors[1] < 1e-3 and np.log2(errors[0] / errors[1]) > 1.9, (rates, rate)


def belt(cells=(6, 8, 5, 4), L=(4.0, 6.0), **kw):
    return ld.grid(L=L, alpha=(np.radians(15), HIGH), energy=(0.3, 1.5), cells=cells, **kw)


def test_transport_leaves_every_label_its_content():
    """1,000 steps of drift and diffusion in (L, phi) between closed walls: each label keeps what it has, to 1e-13."""
    grid = belt()
    prm = ld.Parameters(kinetic=ld.kinetic_energy(grid), dll=jb.radial_diffusion.BrautigamAlbert(kp=6.0), dphiphi=0.1)
    problem = ld.problem(grid, prm)
    f0 = np.random.default_rng(0).uniform(0, 1, grid.shape)
    sol = plain_solve(problem, f0, t=np.array([0.0, 1000 * 120.0]), dt=120.0)
    content = np.sum(grid.volumes * sol.f, axis=(1, 2))
    np.testing.assert_allclose(content[1], content[0], rtol=1e-13)
    assert float(sol.f.min()) >= 0


@pytest.mark.parametrize("lifetime", [None, 0.4])
def test_one_label_is_the_drift_diffusion_equation(lifetime):
    """What happens at one label is what `drift_diffusion` gives at its mu and K: exactly drifts, diffusion to their steps."""
    grid = belt((12, 16, 2, 2))
    kp, common = 4.0, {"dphiphi": 0.05, "lifetime": lifetime}
    dll = jb.radial_diffusion.BrautigamAlbert(kp=kp)
    prm = ld.Parameters(kinetic=ld.kinetic_energy(grid), dll=dll, **common)
    t = np.array([0.0, 4 * 3600.0])
    f0 = np.exp(-(((grid.centers("L") - 5) / 0.4) ** 2)) * (1 + 0.5 * np.cos(grid.centers("phi"))) * np.ones(grid.shape)
    many = plain_solve(ld.problem(grid, prm, outer=0.1), f0, t=t, dt=60.0)
    plane = dd.grid(L=(4.0, 6.0), cells=(12, 16))
    K, mu = float(grid.K()[0, 0, 1, 0]), float(grid.mu()[0, 0, 1, 0])
    one = dd.Parameters(kinetic=jb.dipole.KineticEnergy(mu=mu, K=K), dll=dll, **common)
    alone = plain_solve(dd.problem(plane, one, outer=0.1), f0[:, :, 0, 0], t=t, dt=60.0)
    np.testing.assert_allclose(many.f[-1][:, :, 1, 0], alone.f[-1], rtol=2e-5)


@pytest.mark.slow
def test_scattering_in_labels_is_scattering_at_L():
    """Pure pitch-angle diffusion at L = 4 in the labels of L = 6: what depends on the local momentum alone stays."""
    daa = function(lambda t, alpha, *_: 0.3 + 0.2 * jnp.sin(alpha) ** 2, steady=True)
    errors = []
    for n in (16, 24):
        grid = ld.grid(L=(3.9, 4.1), alpha=(np.radians(10), HIGH), p=(0.3, 3.0), cells=(2, n, 4 * n), L_ref=6.0)
        problem = ld.problem(grid, ld.Parameters(local=ld.LocalTensor(daa=daa)))
        f0 = np.broadcast_to(np.exp(-0.5 * (np.log(np.asarray(grid.momentum()) / 1.7) / 0.4) ** 2), grid.shape)
        sol = plain_solve(problem, f0, t=np.array([0.0, 0.5 * DAY]), dt=DAY / 10)
        errors.append(np.sum(grid.volumes * np.abs(sol.f[-1] - f0)) / np.sum(grid.volumes * f0))
    assert errors[1] < 5e-3 and errors[0] / errors[1] > 1.5, errors


def test_energy_loss_is_a_drift():
    """d(ln p)/dt = -k: the content moves to lower p and F grows as exp(3 k t) along the way (G F is carried)."""
    grid = ld.grid(L_ref=4.0, alpha=(LOW, HIGH), p=(0.1, 10.0), cells=(2, 200))
    problem = ld.problem(grid, ld.Parameters(energy_loss=0.2))
    x = grid.centers("lnp") * np.ones(grid.shape)

    def exact(t):
        return np.exp(3 * 0.2 * t) * np.exp(-((x + 0.2 * t) ** 2) / (2 * 0.2**2))

    sol = plain_solve(problem, exact(0.0), t=np.array([0.0, 3 * DAY]), dt=DAY / 10)
    assert np.max(np.abs(sol.f[-1] - exact(3.0))) < 2e-3 * exact(3.0).max()
    np.testing.assert_allclose(grid.content(sol.f)[1] + sol.budget["lnp.lower"][1] * -1, grid.content(sol.f)[0], rtol=1e-12)


def everything(grid, power=1.0, log_dll=0.0):
    def wave(t, alpha, energy, L, phi, size):
        d = size * (1.0 + 0.5 * jnp.cos(phi)) * jnp.sin(alpha) ** 2 / (0.3 + energy)
        return d, 0.6 * d * jnp.cos(alpha), 0.5 * d

    local = function(wave, steady=True, size=power)
    return ld.Parameters(local=local, loss_cone=ld.loss_cone(grid, altitude=2000.0), kinetic=ld.kinetic_energy(grid),
                         dll=jb.radial_diffusion.BrautigamAlbert(kp=4.0, log_amplitude=log_dll), dphiphi=0.05, lifetime=5.0)


@pytest.mark.slow
def test_gradient_of_the_whole_step():
    """Reverse, forward and central differences agree for the wave power and D_LL through all four dimensions."""
    grid = ld.grid(L=(4.0, 6.0), alpha=(np.radians(4), HIGH), energy=(0.3, 1.5), cells=(5, 8, 5, 4))
    f0 = jnp.asarray(np.exp(-np.asarray(grid.energy())) * np.ones(grid.shape))
    problem = ld.problem(grid, everything(grid), outer=1.0, low_p=0.5, high_p=0.0)
    weight = np.asarray(grid.energy()) * grid.volumes

    def heat(x):
        prm = problem.parameters
        prm = prm.replace(local=dataclasses.replace(prm.local, arrays={"size": x[0]}), dll=prm.dll.replace(log_amplitude=x[1]))
        sol = jb.solve(problem.replace(parameters=prm), f0, t=np.array([0.0, 1200.0]), dt=300.0)
        return jnp.sum(weight * sol.f[-1])

    x = jnp.array([1.0, 0.0])
    reverse = plain_jit(jax.grad(heat))(x)
    forward = plain_jit(lambda x: jax.jvp(heat, (x,), (jnp.array([1.0, -2.0]),))[1])(x)
    np.testing.assert_allclose(reverse[0] - 2.0 * reverse[1], forward, rtol=1e-9)
    h = 1e-4
    quick = plain_jit(heat)
    differences = [(quick(x + h * e) - quick(x - h * e)) / (2 * h) for e in jnp.eye(2)]
    np.testing.assert_allclose(reverse, differences, rtol=1e-5)


def test_closed_box_keeps_content_and_sign():
    """All of it between closed walls, from a rough state: content to 1e-12 with what is lost, nothing below zero."""
    grid = ld.grid(L=(4.0, 6.0), alpha=(np.radians(4), HIGH), energy=(0.3, 1.5), cells=(5, 8, 5, 4))
    f0 = np.random.default_rng(1).uniform(0, 1, grid.shape) ** 8
    sol = plain_solve(ld.problem(grid, everything(grid)), f0, t=np.array([0.0, 20 * 300.0]), dt=300.0)
    content = grid.content(sol.f)
    assert float(sol.f.min()) >= 0 and float(sol.budget["loss"][-1]) < -1e-3 * float(content[0])
    np.testing.assert_allclose(content[1] - sol.budget["loss"][-1], content[0], rtol=1e-12)


def test_labels_there_and_back():
    """labels -> (E, alpha) -> labels, to rounding, at every L of the grid."""
    grid = belt((6, 12, 8))
    alpha, energy, L = grid.local()
    ref, shift = labels.to_labels(alpha, L, grid.L_ref)
    lnp = jnp.log(jb.invariants.momentum(energy)) + shift
    np.testing.assert_allclose(ref, grid.centers("alpha") * np.ones_like(ref), rtol=1e-12)
    np.testing.assert_allclose(lnp, grid.centers("lnp") * np.ones_like(lnp), atol=1e-12)


def test_a_loss_cone_without_cells_and_a_negative_start_are_said():
    grid = ld.grid(L_ref=5.0, alpha=(0.2, 1.5), energy=(0.3, 1.5), cells=(4, 4))
    with pytest.warns(UserWarning, match="loss_cone: nothing is lost"):
        problem = ld.problem(grid, ld.Parameters(local=ld.LocalTensor(daa=1.0), loss_cone=ld.loss_cone(grid)))
    with pytest.raises(ValueError, match="f0: must be at least 0"):
        jb.solve(problem, -np.ones(grid.shape), t=[0.0, 1.0], dt=1.0)


BAD = [
    (dict(alpha=(5.0, 90.0)), {}, {}, "alpha: needs .* degrees given"),
    (dict(energy=(0.0, 1.0)), {}, {}, "energy: needs 0 < lowest"),
    (dict(energy=None, p=(-1.0, 1.0)), {}, {}, "p: needs 0 < lowest"),
    (dict(cells=(4, 1)), {}, {}, "cells: needs"),
    (dict(L_ref=0.5), {}, {}, "L_ref: must be at least 1"),
    ({}, dict(dll=1.0), {}, "dll: needs an axis L"),
    ({}, dict(local=ld.LocalTensor(daa=1.0, dap=1.2, dpp=1.0)), {},
     "local: the tensor is not positive semi-definite: .D_ap. is 1.2 times"),
    ({}, dict(local=ld.LocalTensor(daa=-1.0)), {}, "local: D_aa must be finite and at least 0 everywhere, got -1"),
    (dict(energy=(100.0, 30000.0)), {}, {}, "energy: 30000 MeV .* keV given"),
    (dict(energy=1.0), {}, {}, "energy: needs two numbers"),
    (dict(cells=(4, 4.5)), {}, {}, "cells: needs .* got .4.0, 4.5"),
    ({}, dict(local=np.ones((4, 4))), {}, "local: needs a callable .* got ndarray"),
    ({}, dict(local=ld.LocalTensor(daa=np.ones((3, 4)))), {}, "local: LocalTensor cannot be evaluated"),
    ({}, dict(local=function(lambda t, *x: (1.0, 0.0), steady=True)), {}, "must return .D_aa, D_ap/p, D_pp/p.2."),
    (dict(species="proton"), dict(local=ChorusTensor()), {}, "local: ChorusTensor is for electrons"),
    ({}, dict(local=ld.LocalTensor(daa=1.0)), dict(outer=1.0), "outer: is a wall in L"),
    ({}, {}, dict(low_p=1.0), "low_p: a value on this wall does nothing"),
    ({}, dict(local=ld.LocalTensor(daa=1.0)), dict(low_alpha="open"), "low_alpha: 'open' is unknown"),
    ({}, dict(energy_loss=-1.0), {}, "energy_loss: is a rate"),
]


@pytest.mark.parametrize("shape, prm, walls, message", BAD)
def test_input_that_cannot_be(shape, prm, walls, message):
    given = dict(L_ref=5.0, alpha=(0.1, 1.5), energy=(0.3, 1.5), cells=(4, 4)) | shape
    with pytest.raises(ValueError, match=message):
        ld.problem(ld.grid(**given), ld.Parameters(**prm), **walls)
