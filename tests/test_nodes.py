"""Many problems along an axis of nodes: the same as one after another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxbelt as jb
from jaxbelt import drift_diffusion as dd
from jaxbelt.nodes import at_node, stack

MU = np.array([200.0, 800.0, 3000.0])
KP = jb.drivers.kp_series([2.0, 6.0, 4.0])


def parameters(mu):
    return dd.Parameters(kinetic=jb.dipole.KineticEnergy(mu=mu), dphiphi=6e-3, lifetime=jb.losses.KpLifetime(kp=KP),
                         dll=jb.radial_diffusion.BrautigamAlbert(kp=KP, log_amplitude=np.log(mu / 800)))


def wall(t, phi):
    return 1 + 0.5 * jnp.cos(phi)


WALL = jb.function(wall, steady=True)


def blob(grid):
    return np.broadcast_to(np.exp(-(grid.centers("L") - 5) ** 2) * (1 + 0.5 * np.sin(grid.centers("phi"))), grid.shape)


def setup():
    grid = dd.grid(L=(3.0, 7.0), cells=(24, 8), mu=MU)
    problem = dd.problem(grid, parameters, outer=WALL)
    return grid, problem, blob(grid)


def test_nodes_equal_single_runs_and_close_the_budget():
    grid, problem, f0 = setup()
    sol = jb.solve(problem, f0, t=[0, 3 * 3600.0], dt=600.0)
    one = at_node(problem, 0)
    for k, mu in enumerate(MU):
        alone = dd.problem(one.grid, parameters(mu), outer=WALL)
        f = jb.solve(alone, f0[k], t=[0, 3 * 3600.0], dt=600.0).f[-1]
        assert np.max(np.abs(f - sol.f[-1, k])) < 1e-13
    content = grid.content(sol.f)
    assert abs(content[-1] - content[0] - sum(v[-1] for v in sol.budget.values())) < 1e-13 * content[0]


@pytest.mark.slow
def test_gradient_reaches_every_node_and_no_other():
    grid = dd.grid(L=(3.0, 7.0), cells=24, mu=MU)
    problem = dd.problem(grid, [dd.Parameters(dll=jb.radial_diffusion.PowerLaw(d0=1e-9 * mu)) for mu in MU], outer=1.0)
    f0 = np.broadcast_to(np.exp(-(grid.centers("L") - 5) ** 2), grid.shape)

    def total(prm, k):
        return jnp.sum(jb.solve(problem.replace(parameters=prm), f0, t=[0, 3600.0], dt=600.0).f[-1, k])

    gradient = np.asarray(jax.jit(jax.grad(total), static_argnums=1)(problem.parameters, 1).dll.log_amplitude)
    assert np.all(np.isfinite(gradient)) and gradient[1] != 0 and gradient[0] == gradient[2] == 0


def test_two_species_drift_apart():
    """An electron and a proton of the same mu on one axis: the one goes east, the other west."""
    axis = jb.Axis.nodes("population", [0, 1])
    grid = dd.grid(L=(4.0, 6.0), cells=(8, 64), nodes=axis)
    prms = [dd.Parameters(kinetic=jb.dipole.KineticEnergy(mu=40.0, species=s)) for s in ("electron", "proton")]
    problem = dd.problem(grid, prms)
    f0 = np.broadcast_to(1 + np.cos(grid.centers("phi") - 1.0), grid.shape)
    f = jb.solve(problem, f0, t=[0, 600.0], dt=60.0).f[-1]
    phase = np.angle(np.sum(np.asarray(f[:, 4]) * np.exp(1j * grid["phi"].centers), axis=-1))
    for k, name in enumerate(("electron", "proton")):
        # a ring of the scheme turns with the mean rate of its cell
        L = grid["L"].centers[4]
        rate = float(jb.dipole.drift_rate(L, 40.0, name))
        assert abs(phase[k] - 1.0 - rate * 600.0) < 2e-3 * abs(rate * 600.0)
    assert phase[0] > 1.0 > phase[1]


def test_what_is_wrong_is_named():
    grid = dd.grid(cells=(8, 8), mu=MU)
    with pytest.raises(ValueError, match="3 nodes of mu; give a list"):
        dd.problem(grid, parameters(1.0))
    with pytest.raises(ValueError, match="needs one entry for each of the 3 nodes of mu, got 2"):
        dd.problem(grid, [parameters(1.0)] * 2)
    with pytest.raises(ValueError, match="mu = 800: lifetime: must be positive"):
        dd.problem(grid, lambda mu: dd.Parameters(lifetime=-1.0 if mu == 800 else 1.0))
    with pytest.raises(ValueError, match="mu: needs positive, increasing"):
        dd.grid(mu=[3.0, 2.0])
    with pytest.raises(ValueError, match="another structure"):
        stack([{"a": 1.0}, {"b": 1.0}])
    with pytest.raises(ValueError, match="is an axis of cells"):
        dd.grid(nodes=jb.Axis.cells("x", [0.0, 1.0, 2.0]))
