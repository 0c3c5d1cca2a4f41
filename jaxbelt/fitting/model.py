"""The likelihood of data under a run, its gradient and Fisher matrix, as functions of the vector of free parameters. Pure."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbelt.fitting.data import compared, likelihood
from jaxbelt.fitting.free import put
from jaxbelt.grid import Frozen
from jaxbelt.solve import Solution, advance, plan

__all__ = ["Setting", "check_shapes", "compiled_predictions", "compiled_slopes", "derivatives", "loss", "predictions", "slopes",
           "value_and_gradient"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """All that a fit is made of but theta: leaves are data (new ones compile nothing anew), the rest is structure.

    tree: {"parameters", "boundary", "initial", "data"}; data is {name: Data}. use: {name: bool array}. matrix, target: priors.
    of_data: which entries of theta the run does not depend on. chunk: columns of the Jacobian at a time.
    """

    problem: Any
    tree: Any
    use: Any
    matrix: Any
    target: Any
    key: tuple = dataclasses.field(metadata={"static": True})
    of_data: tuple = dataclasses.field(metadata={"static": True})
    t: Frozen = dataclasses.field(metadata={"static": True})
    dt: float = dataclasses.field(metadata={"static": True})
    chunk: int = dataclasses.field(default=16, metadata={"static": True})


def start_state(tree, grid):
    """f at the start: an array, or what a callable `initial` makes of the grid."""
    f0 = tree["initial"]
    f0 = f0(grid) if callable(f0) else f0
    return jnp.broadcast_to(jnp.asarray(f0, jnp.result_type(float)), grid.shape)


def states(setting: Setting, tree):
    """(f at all outputs, result code) of a run with the parameters of `tree`."""
    problem = setting.problem.replace(parameters=tree["parameters"], boundary=tree["boundary"])
    f0 = start_state(tree, problem.grid)
    out, _, code = advance(problem, f0, plan(problem, setting.t.array, setting.dt))
    return jnp.concatenate([f0[None], out]), code


def seen(setting: Setting, tree, f):
    """Predictions {name: array} of the operators for the outputs f."""
    problem = setting.problem.replace(parameters=tree["parameters"], boundary=tree["boundary"])
    sol = Solution(f, setting.t.array, {}, jnp.zeros((), jnp.int32), problem)
    return {name: data.operator(sol) for name, data in tree["data"].items()}


def _compared(setting, tree, f):
    """(z, u) of all data, each one vector."""
    told = seen(setting, tree, f)
    pairs = [compared(d, told[name], setting.use[name]) for name, d in tree["data"].items()]
    return tuple(jnp.concatenate([jnp.ravel(p[k]) for p in pairs]) for k in (0, 1))


def _likelihood(setting, z, u):
    """Vectors (loss, slopes in z and u, curvatures in z and u, residual) over all data."""
    rows, at = [], 0
    for name, data in setting.tree["data"].items():
        use = setting.use[name]
        n = use.size
        part = likelihood(data, use, z[at:at + n].reshape(use.shape), u[at:at + n].reshape(use.shape))
        rows.append([jnp.broadcast_to(x, use.shape).ravel() for x in part])
        at += n
    return [jnp.concatenate(x) for x in zip(*rows)]


def _prior(setting, theta):
    """(loss, gradient, curvature) of the priors."""
    r = setting.matrix @ theta - setting.target
    return 0.5 * jnp.sum(r**2), setting.matrix.T @ r, setting.matrix.T @ setting.matrix


def loss(setting: Setting, theta):
    """-ln posterior without its constants, and the result code of the run."""
    tree = put(setting.key, setting.tree, theta)
    f, code = states(setting, tree)
    z, u = _compared(setting, tree, f)
    return jnp.sum(_likelihood(setting, z, u)[0]) + _prior(setting, theta)[0], code


def _columns(setting, theta):
    """(z, u, their derivatives (n, data) in every entry of theta, code): one run for the state and one tangent run for every
    entry that the run depends on; the entries of the data take the operators alone."""
    of_data = np.asarray(setting.of_data, bool)
    inner, outer = np.nonzero(~of_data)[0], np.nonzero(of_data)[0]

    def whole(theta):
        tree = put(setting.key, setting.tree, theta)
        f, code = states(setting, tree)
        return _compared(setting, tree, f), (f, code)

    eye = jnp.eye(theta.size, dtype=theta.dtype)
    columns = {}

    def chunk(basis):
        # the run itself is no part of the batch: it is computed once for all columns of a chunk
        return jax.vmap(lambda v: jax.jvp(whole, (theta,), (v,), has_aux=True), out_axes=(None, 0, None))(basis)

    if not inner.size:
        (z, u), (f, code) = whole(theta)
    elif inner.size <= setting.chunk:
        (z, u), moved, (f, code) = chunk(eye[inner])
        columns = {k: (dz, du) for k, dz, du in zip(inner.tolist(), *moved)}
    else:
        # chunks of equal length, one compilation for all of them; the last ends with columns of zeros
        count = -(-inner.size // setting.chunk)
        length = -(-inner.size // count)
        basis = jnp.zeros((count * length, theta.size), theta.dtype).at[:inner.size].set(eye[inner])

        def step(_, basis):
            now, moved, rest = chunk(basis)
            return (now, rest), moved

        shapes = jax.eval_shape(step, None, basis[:length])[0]
        first = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        ((z, u), (f, code)), moved = jax.lax.scan(step, first, basis.reshape(count, length, -1))
        dz, du = (x.reshape(count * length, -1) for x in moved)
        columns = {k: (dz[i], du[i]) for i, k in enumerate(inner.tolist())}
    if outer.size:
        def shallow(theta):
            return _compared(setting, put(setting.key, setting.tree, theta), f)

        moved = jax.vmap(lambda v: jax.jvp(shallow, (theta,), (v,))[1])(eye[outer])
        columns |= {k: (dz, du) for k, dz, du in zip(outer.tolist(), *moved)}
    zs, us = (jnp.stack([columns[k][i] for k in range(theta.size)]) for i in (0, 1))
    return z, u, zs, us, code


def _chi2(setting, slope_u):
    """Sum of r^2, or of r^2 weight(r) for Student's t: what one value adds is 1 on average if the noise is right."""
    return jnp.sum(jnp.where(jnp.concatenate([jnp.ravel(u) for u in setting.use.values()]), 1.0 - slope_u, 0.0))


def derivatives(setting: Setting, theta):
    """Loss, gradient and Fisher matrix at theta: {"loss", "gradient", "fisher" (of the data alone), "prior" (curvature), "chi2",
    "code"}."""
    z, u, zs, us, code = _columns(setting, theta)
    cost, slope_z, slope_u, curve_z, curve_u, _ = _likelihood(setting, z, u)
    prior, prior_slope, prior_curve = _prior(setting, theta)
    fisher = (zs * curve_z) @ zs.T + (us * curve_u) @ us.T
    return {"loss": jnp.sum(cost) + prior, "gradient": zs @ slope_z + us @ slope_u + prior_slope, "fisher": fisher,
            "prior": prior_curve, "chi2": _chi2(setting, slope_u), "code": code}


def predictions(setting: Setting, theta):
    """({name: z}, {name: u}, {name: residual}, outputs f): what the model says of every value at theta."""
    tree = put(setting.key, setting.tree, theta)
    f, _ = states(setting, tree)
    z, u = _compared(setting, tree, f)
    r = _likelihood(setting, z, u)[-1]
    out, at = ({}, {}, {}), 0
    for name, use in setting.use.items():
        for d, x in zip(out, (z, u, r)):
            d[name] = x[at:at + use.size].reshape(use.shape)
        at += use.size
    return (*out, f)


def slopes(setting: Setting, theta):
    """{name: derivative of z (n, *shape of the values)} at theta, for bands."""
    _, _, zs, _, _ = _columns(setting, theta)
    out, at = {}, 0
    for name, use in setting.use.items():
        out[name] = zs[:, at:at + use.size].reshape(-1, *use.shape)
        at += use.size
    return out


compiled_predictions, compiled_slopes = jax.jit(predictions), jax.jit(slopes)


def check_shapes(setting: Setting):
    """Raise ValueError where an operator's predictions have another shape than the data."""
    f = jax.ShapeDtypeStruct((setting.t.array.size, *setting.problem.grid.shape), jnp.result_type(float))
    for name, told in jax.eval_shape(partial(seen, setting), setting.tree, f).items():
        want = setting.use[name].shape
        if told.shape != want:
            raise ValueError(f"data{' ' + name if name else ''}: values have shape {want}, but the operator predicts "
                             f"{told.shape}")


def value_and_gradient(setting: Setting, theta):
    """(loss, gradient, code) by the discrete adjoint: the cost of a few runs, whatever the number of parameters."""
    (value, code), slope = jax.value_and_grad(partial(loss, setting), has_aux=True)(theta)
    return value, slope, code
