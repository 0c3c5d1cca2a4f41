"""One large run over several devices, by its nodes (mu, species): `solve_over`. Many runs: `jaxbelt.batch`.

An axis of nodes carries no flow, so every device advances its own nodes and nothing is sent until the budgets are added up at the
end. Axes of cells are not shared out: a line solve, a ring or a plane would have to be collected for every flow of every step.
"""

from __future__ import annotations

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxbelt.grid import Axis, Grid
from jaxbelt.solve import Problem, Solution, advance, check_start, check_times, plan

__all__ = ["solve_over"]


def solve_over(problem: Problem, f0, *, t, dt, devices=None) -> Solution:
    """`solve`, with the nodes of the grid's first axis shared out over devices (by default all of this process).

    problem: with one entry a node in all its parameters (drift_diffusion on a grid with mu= or nodes=). The nodes must be a
    multiple of the devices, and of equal measure. f of the `Solution` stays where it was computed: NumPy or `jax.device_put`
    collects it. What comes out is what `solve` gives to rounding (a batch of another size), the step of a branch taken for all
    nodes of a device instead of for all. Raises ValueError where the problem cannot be shared out.
    """
    devices = tuple(jax.local_devices() if devices is None else devices)
    times, grid, many = check_times(t, dt), problem.grid, len(devices)
    axis = grid.axes[0]
    if not axis.is_nodes:
        raise ValueError(f"devices: a run is shared out by nodes (mu, species), but the first axis of this grid, {axis.name}, is "
                         "one of cells; many runs are shared out by `run_many`")
    leaves = jax.tree.leaves((problem.parameters, problem.boundary))
    if problem.tables is not None or any(np.shape(x)[:1] != (axis.n,) for x in leaves):
        raise ValueError(f"devices: the parameters of this problem have no entry for each of the {axis.n} nodes of {axis.name}: "
                         "only problems made of one Parameters a node can be shared out")
    if axis.n % many:
        fits = [k for k in range(1, axis.n + 1) if axis.n % k == 0]
        raise ValueError(f"devices: {many} devices cannot share {axis.n} nodes of {axis.name} evenly; give one of {fits} of them")
    if np.ptp(axis.measure) > 0:
        raise ValueError(f"devices: the nodes of {axis.name} have different measures; only nodes of equal weight are shared out")
    check_start(problem, f0)
    f0 = jnp.broadcast_to(jnp.asarray(f0, dtype=jnp.result_type(float)), grid.shape)
    out, budget, code = _program(devices)(problem, f0, plan(problem, times, dt))
    return Solution(out, jnp.asarray(times, jnp.result_type(float)), budget, code, problem)


@lru_cache(maxsize=8)
def _program(devices):
    mesh = jax.sharding.Mesh(np.array(devices), ("nodes",))
    P = jax.sharding.PartitionSpec

    def mine(problem, f, schedule):
        axis = problem.grid.axes[0]
        own = _part(axis, axis.n // len(devices))
        problem = problem.replace(grid=Grid((own, *problem.grid.axes[1:])))
        out, budget, code = advance(problem, f, schedule)
        budget = {k: jnp.concatenate([jnp.zeros((1,), v.dtype), v]) for k, v in lax.psum(budget, "nodes").items()}
        return jnp.concatenate([f[None], out]), budget, lax.pmax(code, "nodes")

    return jax.jit(jax.shard_map(mine, mesh=mesh, in_specs=(P("nodes"), P("nodes"), P()), out_specs=(P(None, "nodes"), P(), P()),
                                 check_vma=False))


def _part(axis, n):
    """The first n nodes; the equations read values of nodes in their parameters alone, so which they are does not matter."""
    return Axis.nodes(axis.name, axis.centers[:n], axis.measure[:n], unit=axis.unit, long_name=axis.long_name)
