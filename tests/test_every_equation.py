"""Every equation alone, in a batch, and spread over eight devices without a word between them: the same result.

(Operation by operation against compiled is tested for every flow in `flows/test_every_flow.py`; an equation is a list of them.)
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxbelt as jb
from jaxbelt import batch
from jaxbelt.fitting.free import named_leaves

jax.config.update("jax_enable_x64", True)
pytestmark = [pytest.mark.plain, pytest.mark.filterwarnings("ignore:cells of chi")]


def radial():
    from jaxbelt import drift_diffusion as dd

    grid = dd.grid(L=(2.0, 7.0), cells=10)
    prm = dd.Parameters(dll=jb.radial_diffusion.BrautigamAlbert(kp=3.0), lifetime=5.0)
    return dd.problem(grid, prm, inner=0.0, outer=1.0), {"dll.log_amplitude": np.linspace(-1, 1, 8)}, (0.0, 7200.0), 1800.0


def drift():
    from jaxbelt import drift_diffusion as dd

    grid = dd.grid(L=(3.0, 7.0), cells=(8, 12))
    prm = dd.Parameters(dll=jb.radial_diffusion.BrautigamAlbert(kp=4.0), dlphi=0.01, dphiphi=0.2, kinetic=jb.dipole.KineticEnergy(
        mu=500.0), potential=jb.electric.VollandStern(amplitude=100.0))
    return dd.problem(grid, prm, inner=0.5, outer=1.0), {"potential.amplitude": np.linspace(40, 100, 8)}, (0.0, 1200.0), 600.0


def local():
    from jaxbelt import local_diffusion as ld

    grid = ld.grid(L=(4.0, 6.0), alpha=(0.07, 0.5 * np.pi), energy=(0.3, 1.5), cells=(4, 6, 4, 4))
    prm = ld.Parameters(local=ld.LocalTensor(daa=1.0, dap=0.3, dpp=0.4, factor=1.0), loss_cone=ld.loss_cone(grid),
                        kinetic=ld.kinetic_energy(grid), dll=jb.radial_diffusion.BrautigamAlbert(kp=4.0), dphiphi=0.05)
    return ld.problem(grid, prm, inner=0.0, outer=1.0, low_p=1.0, high_p=0.0), {"local.factor": np.linspace(0.5, 2, 8)}, \
        (0.0, 1200.0), 600.0


def velocity():
    from jaxbelt import velocity as ve

    grid = ve.grid((0.1, 10.0), 24)
    return ve.problem(grid, ve.Parameters(nu_par=1.0, nu_xi=0.3, h=0.5)), {"nu_par": np.linspace(0.5, 2, 8)}, (0.0, 1.0), 0.25


def kinetic():
    from jaxbelt import kinetic as kn

    cells = kn.grid(0.8, (0.1, 10.0), trapped=3, passing=2)
    return kn.problem(cells, kn.Parameters(nu_par=1.0, nu_xi=0.6)), {"nu_xi": np.linspace(0.2, 0.6, 8)}, (0.0, 1.0), 0.5


def two_field():
    from jaxbelt import two_field as tf

    grid = tf.grid((0.1, 10.0), 24)
    return tf.problem(grid, tf.Parameters(nu_par=1.0, nu_xi=0.3, h=0.5)), {"nu_xi": np.linspace(0.1, 0.3, 8)}, (0.0, 1.0), 0.5


def foliated():
    from jaxbelt import foliated as fo

    grid = fo.grid(mu=[1.0], psi=(0.5, 0.7), cells=(8, 20, 6), v_max=4.0)
    prm = fo.Parameters(D_perp=5e-3, D_par=0.02, gamma=0.05, alpha=0.3)
    return fo.problem(grid, prm, dt=0.25), {"D_perp": np.linspace(1e-3, 5e-3, 8)}, (0.0, 0.5), 0.25


EVERY = [radial, drift, local, velocity, kinetic, two_field, foliated]


def start(problem):
    return jnp.exp(-jnp.linspace(0, 2, int(np.prod(problem.grid.shape)))).reshape(problem.grid.shape)


def accelerator():
    try:
        return jax.devices("gpu")[0]
    except RuntimeError:
        return None


@pytest.mark.skipif(accelerator() is None, reason="needs an accelerator")
@pytest.mark.parametrize("make", EVERY)
def test_the_accelerator_gives_what_the_processor_gives(make):
    ends = []
    for device in (jax.devices("cpu")[0], accelerator()):
        with jax.default_device(device):
            problem, _, t, dt = make()
            ends.append(np.asarray(jb.solve(problem, start(problem), t=t, dt=dt).f[-1]))
    np.testing.assert_allclose(ends[1], ends[0], rtol=1e-12, atol=1e-12 * ends[0].max())


@pytest.mark.slow
@pytest.mark.parametrize("make", EVERY)
def test_alone_in_a_batch_and_on_eight_devices(make):
    problem, values, t, dt = make()
    f0 = start(problem)
    sweep = jb.sweep(values)
    together = jb.run_many(problem, f0, sweep, t=t, dt=dt, chunk=8, devices=jax.devices()[:1])
    spread = jb.run_many(problem, f0, sweep, t=t, dt=dt, chunk=8, devices=jax.devices()[:8])
    scale = np.max(np.abs(together.f))
    assert not together.result.any() and np.all(np.isfinite(together.f))
    np.testing.assert_allclose(spread.f, together.f, rtol=0, atol=1e-13 * scale)

    tree = {"parameters": problem.parameters, "boundary": problem.boundary}
    leaves, structure = jax.tree.flatten(tree)
    known = named_leaves(tree)
    (name, given), = values.items()
    leaves[known[name]] = jnp.asarray(given[3])
    mine = problem.replace(**jax.tree.unflatten(structure, leaves))
    alone = jb.solve(mine, f0, t=t, dt=dt)
    np.testing.assert_allclose(alone.f, together.f[3], rtol=0, atol=1e-13 * scale)

    places, own = batch.places(problem, f0, sweep), batch.take(sweep.values, np.arange(8))
    program = batch._program(places, batch.Frozen(np.asarray(t)), float(dt), None, tuple(jax.devices()[:8]))
    text = program.lower(problem, f0, own).compile().as_text()
    assert "num_partitions=8" in text
    assert not any(word in text for word in ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter"))
