"""Ornstein-Uhlenbeck relaxation: noise of strength D against a pull toward `mean` at rate `pull`.

    df/dt = d_x[ pull (x - mean) f + D d_x f ],    no flux through the walls

A Gaussian stays a Gaussian; its mean and variance relax as exp(-pull t) and exp(-2 pull t) toward `mean` and D/pull.
Dimensionless. Good values: D, pull of order 1, walls six standard deviations sqrt(D/pull) or more away from `mean`.
"""

import jax.numpy as jnp
import numpy as np

import jaxbelt as jb
from jaxbelt.coefficients import evaluate, is_steady
from jaxbelt.flows import LineDiffusion
from jaxbelt.flows.weights import fitted


@jb.parameters
class Parameters:
    """pull > 0, mean, D > 0: each a number, a `Series` or a `function` of t."""

    pull: float = 1.0
    mean: float = 0.0
    D: float = 1.0


def grid(x=(-6.0, 6.0), cells=120):
    """Equal cells between the walls x[0] and x[1]."""
    return jb.Grid((jb.Axis.cells("x", np.linspace(*x, cells + 1)),))


def problem(grid, parameters):
    """The problem to solve; ValueError where D or pull is a number that is not positive."""
    for name in ("pull", "D"):
        value = getattr(parameters, name)
        if isinstance(value, float) and not value > 0:
            raise ValueError(f"{name}: must be positive, got {value:g}")
    return jb.make_problem(flows, grid, parameters, equation="ornstein_uhlenbeck", time_unit="1",
                           quantity=("f", "1", "probability density"))


def flows(problem, t, dt):
    """One flow along x: rates up_k f_(k-1) - down_k f_k through face k, exact for the steady Gaussian."""
    p, faces = problem.parameters, problem.grid.faces("x")
    h = faces[1] - faces[0]
    pull, mean, D = (evaluate(c, t) for c in (p.pull, p.mean, p.D))
    up, down = fitted(D / h, -pull * (faces - mean) * h / D)
    up, down = (jnp.asarray(a).at[jnp.array([0, -1])].set(0.0) for a in (up, down))     # closed walls
    return [LineDiffusion(axis="x", up=up, down=down, steady=is_steady(p))]


def exact(t, x, parameters, start, variance):
    """The density at x and time t of the Gaussian that began with mean `start` and `variance` (constant parameters)."""
    p, decay = parameters, jnp.exp(-parameters.pull * t)
    center = p.mean + (start - p.mean) * decay
    spread = p.D / p.pull + (variance - p.D / p.pull) * decay**2
    return jnp.exp(-0.5 * (x - center) ** 2 / spread) / jnp.sqrt(2 * jnp.pi * spread)
