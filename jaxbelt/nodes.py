"""One equation at every node of a leading axis (mu, species): parameters stacked, the flows of a node mapped over all nodes.

An axis of nodes carries no flow, so its problems differ in their parameters alone. They become one problem whose leaves have
a leading dimension, advanced together by `vmap`: one compilation, one file, one gradient.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxbelt.flows.base import Flow, flow
from jaxbelt.grid import Grid

__all__ = ["Batched", "Common", "at_node", "join", "mapped", "stack"]


class _Around(Flow):
    """What a flow around another one, `inner`, has from it."""

    @property
    def steady(self):
        return self.inner.steady

    @property
    def exact(self):
        return self.inner.exact


@flow
class Batched(_Around):
    """A flow at every node of the grid's first axis. inner: the flow of one node, its leaves with a leading dimension."""

    inner: Any

    def prepare(self, grid, dt):
        """What a step of dt needs at every node: see `Flow`."""
        return jax.vmap(lambda one: one.prepare(_rest(grid), dt))(self.inner)

    def advance(self, grid, state, f, t, dt):
        """(f after dt, budget): see `Flow`; the budget is summed with the weights of the nodes."""
        f, budget = jax.vmap(lambda one, state, f: one.advance(_rest(grid), state, f, t, dt))(self.inner, state, f)
        return f, _summed(grid, budget)


@flow
class Common(_Around):
    """A flow that is the same at every node of the grid's first axis: its leaves are shared, not copied."""

    inner: Any

    def prepare(self, grid, dt):
        """What a step of dt needs at every node: see `Flow`."""
        return self.inner.prepare(_rest(grid), dt)

    def advance(self, grid, state, f, t, dt):
        """(f after dt, budget): see `Flow`; the budget is summed with the weights of the nodes."""
        f, budget = jax.vmap(lambda f: self.inner.advance(_rest(grid), state, f, t, dt))(f)
        return f, _summed(grid, budget)


def _summed(grid, budget) -> dict:
    """Budgets of the nodes, summed with their weights; the worst fault."""
    return {k: jnp.max(v) if k == "fault" else jnp.sum(jnp.asarray(grid.axes[0].measure, v.dtype) * v) for k, v in budget.items()}


def _rest(grid) -> Grid:
    return Grid(grid.axes[1:])


def mapped(flows, problem, t, dt) -> list:
    """`flows(problem, t, dt)` of an equation, at every node of the grid's first axis."""
    one = problem.replace(grid=_rest(problem.grid))
    many = jax.vmap(lambda prm, walls: flows(one.replace(parameters=prm, boundary=walls), t, dt))
    return [Batched(inner=f) for f in many(problem.parameters, problem.boundary)]


def stack(trees, names=None):
    """One pytree from several of the same structure: every leaf gets a leading dimension, one entry a tree.

    Raises ValueError naming the first tree (by `names`) that has another structure or other shapes than the first.
    """
    trees = list(trees)
    first = jax.tree.structure(trees[0])
    shapes = [jnp.shape(x) for x in jax.tree.leaves(trees[0])]
    for k, tree in enumerate(trees):
        if jax.tree.structure(tree) != first or [jnp.shape(x) for x in jax.tree.leaves(tree)] != shapes:
            who = names[k] if names else f"entry {k}"
            raise ValueError(f"{who}: its parameters have another structure than the first one's; give every node the same "
                             "models (a factor or a rate may be zero, a lifetime infinite)")
    return jax.tree.map(lambda *x: jnp.stack([jnp.asarray(v) for v in x]), *trees)


def join(grid, problems, plan):
    """One problem on `grid` (its first axis the nodes) from one problem a node; plan: static, good for all of them."""
    names = [f"{grid.axes[0].name} = {x:g}" for x in grid.axes[0].centers]
    return problems[0].replace(grid=grid, plan=plan, parameters=stack([p.parameters for p in problems], names),
                               boundary=stack([p.boundary for p in problems], names))


def at_node(problem, k: int):
    """The problem of node k alone, on the grid without the node axis."""
    pick = lambda tree: jax.tree.map(lambda x: x[k], tree)     # noqa: E731
    return problem.replace(grid=_rest(problem.grid), parameters=pick(problem.parameters), boundary=pick(problem.boundary))
