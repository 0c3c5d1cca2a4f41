"""A gradient of a whole run, three ways: reverse mode, forward mode, central differences."""

import jax
import jax.numpy as jnp
import numpy as np
from compiling import plain_jit
from jax.flatten_util import ravel_pytree

import jaxbelt as jb
from jaxbelt import drift_diffusion as dd


def functional(problem, t, dt):
    """A smooth functional of all parameters and walls in a scaled basis and of f0, compiled once in each direction:
    reverse(x, f0) is its gradient in x, forward(x, d, f0) its value and its derivative along d. Also the zero x."""
    volumes = np.broadcast_to(problem.grid.volumes, problem.grid.shape)
    weight = volumes * (1.3 + np.sin(np.arange(volumes.size).reshape(volumes.shape)))
    flat, unravel = ravel_pytree((problem.parameters, problem.boundary))
    scale = np.where(np.abs(flat) > 0, np.abs(flat), 1.0)

    def loss(x, f0):
        prm, boundary = unravel(flat + x * scale)
        sol = jb.solve(problem.replace(parameters=prm, boundary=boundary), f0, t=t, dt=dt)
        return jnp.sum(weight * sol.f[-1]) + 0.1 * jnp.sum(weight * sol.f[1] ** 2)

    forward = plain_jit(lambda x, d, f0: jax.jvp(lambda x: loss(x, f0), (x,), (d,)))
    return loss, plain_jit(jax.grad(loss)), forward, np.zeros(flat.shape)


def agree(reverse, forward, zero, f0, eps=1e-4, tol=1e-7):
    """The gradient at zero: reverse == forward == central differences."""
    direction = np.random.default_rng(0).normal(size=zero.shape)
    back = np.asarray(reverse(zero, f0))
    assert np.all(np.isfinite(back))
    along = float(forward(zero, direction, f0)[1])
    size = float(np.linalg.norm(back) * np.linalg.norm(direction))
    assert abs(along - back @ direction) < 1e-11 * size
    # fourth-order central difference: its own error is far below the tolerance
    h = eps / float(np.linalg.norm(direction))
    values = [float(forward(k * h * direction, direction, f0)[0]) for k in (-2, -1, 1, 2)]
    central = (8 * (values[2] - values[1]) - (values[3] - values[0])) / (12 * h)
    assert abs(central - along) < tol * size
    return back


def check(problem, f0, t, dt, both=False, **kw):
    """Gradient of a smooth functional with respect to all parameters and walls, three ways, in a scaled basis."""
    loss, reverse, forward, zero = functional(problem, t, dt)
    back = agree(reverse, forward, zero, f0, **kw)
    if both:                                             # grad(jit) as well as jit(grad)
        np.testing.assert_allclose(jax.grad(jax.jit(loss))(zero, f0), back, rtol=1e-11, atol=1e-14 * np.linalg.norm(back))
    return back


def belt(cells=(24, 16)):
    grid = dd.grid(L=(3.0, 7.0), cells=cells)
    L, phi = grid.mesh()
    return grid, 1.5 + np.sin(L) * np.ones_like(phi) + 0.2 * np.cos(phi - 0.3) * np.exp(-((L - 5) ** 2))
