"""Gradients of a fit's loss: reverse == forward == central differences, and nowhere NaN."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

import jaxbelt as jb
from jaxbelt import drift_diffusion as dd
from jaxbelt.fit import prepare
from jaxbelt.fitting import methods
from jaxbelt.physics.dipole import KineticEnergy, mu_of_energy
from jaxbelt.physics.free_form import InitialProfile, KpPower, Modulated
from jaxbelt.physics.losses import KpLifetime
from jaxbelt.physics.radial_diffusion import PowerLaw

pytestmark = pytest.mark.plain
GRID = dd.grid(L=(3.0, 7.0), cells=(12, 8))
T, DT = np.array([0.0, 1800.0, 3600.0, 5400.0]), 900.0


def orbit(samples=20):
    t = np.linspace(0.0, 5400.0, samples + 2)[1:-1]
    return jb.Orbit(t, 5.0 + 1.6 * np.sin(2.3 * t / 1800.0), mlt=np.mod(3.0 + t / 500.0, 24.0))


def start():
    L, phi = GRID.mesh()
    return InitialProfile(L=(3.0, 5.0, 7.0), log_values=np.array([0.1, -0.2, 0.3]),
                          base=1.5 + np.sin(L) + 0.2 * np.cos(phi - 0.3) * np.exp(-((L - 5) ** 2)))


def agree(setting, theta, scale, eps, tol=1e-7, seed=0):
    theta, scale = jnp.asarray(theta), np.asarray(scale)
    value, reverse, code = methods._value_and_gradient(setting, theta)
    now = methods.compiled_derivatives(setting, theta)
    assert int(code) == int(now["code"]) == 0 and float(value) == pytest.approx(float(now["loss"]), rel=1e-12)
    reverse, forward = np.asarray(reverse) * scale, np.asarray(now["gradient"]) * scale
    assert np.all(np.isfinite(reverse)) and np.all(np.isfinite(forward)) and np.all(np.isfinite(now["fisher"]))
    size = np.linalg.norm(reverse)
    assert np.linalg.norm(reverse - forward) < 1e-11 * size
    d = np.random.default_rng(seed).normal(size=theta.size)
    d /= np.linalg.norm(d)
    # fourth-order differences: their own error is far below the tolerance
    values = [float(methods._value_and_gradient(setting, theta + k * eps * d * scale)[0]) for k in (-2, -1, 1, 2)]
    central = (8 * (values[2] - values[1]) - (values[3] - values[0])) / (12 * eps)
    assert abs(central - reverse @ d) < tol * size
    return reverse


@pytest.fixture(scope="module")
def drifting():
    """Rotation, convection, D_LL with MLT dependence, losses by Kp, a start of free form, Student's t with a free width."""
    kp = jb.Series([0.0, 1800.0], [3.0, 5.0])
    dll = Modulated(model=KpPower(kp=kp, log_d0=-2.0, kp_slope=0.8), cosine=[0.4], sine=[-0.2])
    prm = dd.Parameters(dll=dll, kinetic=KineticEnergy(mu=float(mu_of_energy(0.05, 5.0))), lifetime=KpLifetime(kp=kp, width=0.5),
                        potential=jb.function(lambda t, L, phi, A: A * L**2 * jnp.sin(phi) - 92.5e3 / L, steady=True, A=900.0))
    problem = dd.problem(GRID, prm, inner=0.7, outer=1.5)
    values = 1.3 + 0.6 * np.sin(np.arange(20.0))
    data = jb.Data(operator=jb.AlongOrbit(orbit=orbit()), values=values, sigma=0.3, dof=4.0)
    free = ("dll.model.log_d0", "dll.model.kp_slope", "dll.model.power", "dll.cosine", "dll.sine", "potential.A", "kinetic.mu",
            "inner", "outer", "initial.log_values", "data.log_sigma", "data.log_calibration")
    return prepare(problem, start(), data, free, t=T, dt=DT)


def test_through_rotation_and_convection(drifting):
    setting, known = drifting
    scale = np.where(known.start == 0, 1.0, np.abs(known.start))
    # WENO weights bend on the scale of the differences between cells: a small step of the differences
    gradient = agree(setting, known.start, scale, eps=3e-5)
    assert np.all(gradient != 0)


# ---- where something is zero

@jb.parameters
class Twice:
    """Two channels that see the same."""

    orbit: object = jb.static()
    exact = False

    def __call__(self, sol):
        psd = jb.observe(sol, self.orbit, outside="mask").psd
        return jnp.stack([psd, 2.0 * psd])


@pytest.fixture(scope="module")
def radial():
    """D_LL of one power, losses, walls, a start; two channels, of which one is empty, and the state itself; columns of the
    Jacobian in chunks of four."""
    grid = dd.grid(L=(3.0, 7.0), cells=12)
    prm = dd.Parameters(dll=PowerLaw(d0=1e-6, power=8.0), lifetime=0.5, source=0.2)
    base = start().replace(base=1.5 + np.sin(grid["L"].centers))
    return _two_sets(dd.problem(grid, prm, inner=1.0, outer=1.5), base, ("dll.d0", "dll.power", "source"), 4)


def _two_sets(problem, f0, free, chunk=16):
    near = np.stack([1.3 + 0.6 * np.sin(np.arange(20.0)), np.full(20, np.nan)])
    shape = (1, *problem.grid.shape)
    sets = {"near": jb.Data(operator=Twice(orbit=orbit()), values=near, sigma=0.3, log_calibration=np.zeros((2, 1))),
            "state": jb.Data(operator=jb.State(times=(3600.0,), normalised=True), values=np.full(shape, 0.05), sigma=0.01,
                             noise="normal")}
    free = (*free, jb.Free("lifetime", transform="log"), "inner", "outer", "initial.log_values", "data.near.log_calibration",
            jb.Free("data.state.background", prior=jb.Normal(0.0, 0.1)))
    return prepare(problem, f0, sets, free, t=T, dt=DT, chunk=chunk)


@pytest.fixture(scope="module")
def tensor():
    """The full tensor, losses, a source, walls, two sets of data of which one has an empty channel."""
    prm = dd.Parameters(dll=PowerLaw(d0=1e-6, power=8.0), dphiphi=2.0, lifetime=0.5, source=0.2,
                        dlphi=jb.function(lambda t, L, phi, c: c * L**3, steady=True, c=3e-4))
    problem = dd.problem(GRID, prm, inner=1.0, outer=1.5)
    return _two_sets(problem, start(), ("dll.d0", "dll.power", "dlphi.c", "dphiphi", "source"))


@pytest.mark.slow
def test_through_the_full_tensor_with_losses_and_walls(tensor):
    setting, known = tensor
    scale = np.where(known.start == 0, 1.0, np.abs(known.start))
    gradient = agree(setting, known.start, scale, eps=1e-4)
    empty = known.labels.index("data.near.log_calibration[1, 0]")
    assert gradient[empty] == 0 and np.all(np.delete(gradient, empty) != 0)


def _with(known, **changes):
    theta = known.start.copy()
    for name, value in changes.items():
        theta[known.labels.index(name.replace("__", "."))] = value
    return jnp.asarray(theta)


@pytest.mark.parametrize("zero", [("radial", {"dll__d0": 0.0}), pytest.param(("tensor", {"dll__d0": 0.0, "dlphi__c": 0.0}),
                                                                            marks=pytest.mark.slow)], ids=lambda z: z[0])
def test_no_nan_without_diffusion(zero, request):
    setting, known = request.getfixturevalue(zero[0])
    theta = _with(known, **zero[1])
    value, reverse, code = methods._value_and_gradient(setting, theta)
    now = methods.compiled_derivatives(setting, theta)
    assert int(code) == 0 and np.isfinite(value) and np.all(np.isfinite(reverse)) and np.all(np.isfinite(now["fisher"]))
    np.testing.assert_allclose(reverse, now["gradient"], rtol=0, atol=1e-10 * np.linalg.norm(reverse))


def test_with_losses_walls_and_an_empty_channel(radial):
    setting, known = radial
    gradient = agree(setting, known.start, np.where(known.start == 0, 1.0, np.abs(known.start)), eps=1e-4)
    empty = known.labels.index("data.near.log_calibration[1, 0]")
    assert gradient[empty] == 0 and np.all(np.delete(gradient, empty) != 0)


@pytest.mark.parametrize("problem", ["radial", pytest.param("tensor", marks=pytest.mark.slow)])
def test_no_nan_in_a_vacuum(problem, request):
    """f = 0 everywhere: the logarithm of nothing is a floor, and its slope 0."""
    setting, known = request.getfixturevalue(problem)
    tree = {**setting.tree, "initial": setting.tree["initial"].replace(base=0.0 * setting.tree["initial"].base)}
    setting = dataclasses.replace(setting, tree=tree)
    theta = _with(known, inner=0.0, outer=0.0, source=0.0)
    value, reverse, code = methods._value_and_gradient(setting, theta)
    now = methods.compiled_derivatives(setting, theta)
    assert int(code) == 0 and np.isfinite(value) and np.all(np.isfinite(reverse))
    assert np.all(np.isfinite(now["gradient"])) and np.all(np.isfinite(now["fisher"]))
