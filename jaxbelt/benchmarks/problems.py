"""The problems that are timed: every equation on a grid that is typical of it, tiny where they are only tried."""

from __future__ import annotations

import dataclasses
import math
import warnings
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxbelt import dipole, drift_diffusion, electric, foliated, kinetic, local_diffusion, radial_diffusion, velocity
from jaxbelt.coefficients import Time, function

__all__ = ["Run", "PROBLEMS", "belt", "clock"]


@dataclasses.dataclass(frozen=True)
class Run:
    """A problem, the state it starts from, its step, and what it is in a few words."""

    problem: Any
    f0: Any
    dt: float
    what: str


def clock() -> Time:
    """The moment t = 0, which is the middle and the end of its step too."""
    return Time(*(jnp.zeros(()) for _ in range(5)))


def radial(quick: bool) -> Run:
    """D_LL of Brautigam & Albert at Kp 3, steps of an hour."""
    grid = drift_diffusion.grid(L=(2.0, 7.0), cells=10 if quick else 200)
    prm = drift_diffusion.Parameters(dll=radial_diffusion.BrautigamAlbert(kp=3.0), lifetime=5.0)
    L = grid["L"].centers
    return Run(drift_diffusion.problem(grid, prm, inner=0.0, outer=1.0), jnp.asarray(np.exp(-((L - 4.8) ** 2))), 3600.0,
               "radial diffusion with a lifetime")


def belt(cells, **more) -> Run:
    """Drift, D_LL and a lifetime in (L, phi), steps of 5 min."""
    grid = drift_diffusion.grid(L=(2.0, 7.0), cells=cells)
    mu = float(dipole.mu_of_energy(1.0, 5.0))
    prm = drift_diffusion.Parameters(**{"dll": radial_diffusion.BrautigamAlbert(kp=3.0), "kinetic": dipole.KineticEnergy(mu=mu),
                                        "dphiphi": 0.01, "lifetime": 5.0} | more)
    L, phi = grid.mesh()
    f0 = jnp.asarray(np.exp(-((L - 4.8) ** 2)) * (1 + 0.5 * np.cos(phi)) + 0.01)
    return Run(drift_diffusion.problem(grid, prm, inner=0.0, outer=1.0), f0, 300.0, "drift, radial diffusion, lifetime")


def drift(quick: bool) -> Run:
    """Drift around the Earth and radial diffusion in (L, phi)."""
    return belt((8, 8) if quick else (200, 128))


def convection(quick: bool) -> Run:
    """The same with convection, which makes the drift a stream function in the plane."""
    potential = electric.VollandStern(amplitude=electric.maynard_chen(3.0))
    made = belt((8, 8) if quick else (200, 128), potential=potential, dphiphi=None)
    return dataclasses.replace(made, what="the same with convection")


def full_tensor(quick: bool) -> Run:
    """D_LL, D_Lphi and D_phiphi of one size, drift."""
    made = belt((6, 8) if quick else (200, 128), dll=0.05, dlphi=0.02, dphiphi=0.05)
    return dataclasses.replace(made, what="drift and a full tensor D_LL, D_Lphi, D_phiphi")


def speeds(quick: bool) -> Run:
    """Diffusion in v by mixing, 512 cells."""
    grid = velocity.grid(v=(0.01, 100.0), cells=12 if quick else 512)
    g0 = jnp.asarray(np.exp(-np.log(grid["v"].centers) ** 2 / 0.18))
    return Run(velocity.problem(grid, velocity.Parameters(nu_par=1.0, nu_xi=1.0, h=1.0)), g0, 0.01, "diffusion in v")


def leaves(quick: bool) -> Run:
    """Inward diffusion in a dipole, axisymmetric, with noise in psi and v_par and friction."""
    return _leaves((1, (6, 16, 4), None) if quick else (2, (24, 48, 30), None))


def leaves_in_theta(quick: bool) -> Run:
    """The foliated equation with theta resolved."""
    return _leaves((1, (6, 16, 4), 6) if quick else (2, (24, 48, 16), 16))


def _leaves(shape) -> Run:
    mu, cells, theta = shape
    dt = 0.25
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")                        # the shear of coarse lines of p does not matter here
        grid = foliated.grid(psi=(0.7 if cells[1] < 40 else 0.5, 0.95), cells=cells, mu=mu, theta=theta)
        prm = foliated.Parameters(D_perp=5e-3, D_par=0.05, D_theta=0.02 if theta else None, gamma=0.1, rho=0.05, alpha=0.0)
        problem = foliated.problem(grid, prm, bounce="remap", dt=dt)
    f0 = foliated.maxwellian(grid)
    f0 = f0 if theta is None else f0 * (1.0 + 0.9 * jnp.cos(grid.centers("theta")))
    return Run(problem, f0, dt, "bounce, inward diffusion, noise and friction in v_par")


def _waves(t, alpha, energy, L, *phi):
    """A tensor of the size of chorus waves."""
    fall = 1 + (energy / 0.2) ** 1.5
    aa, pp = 2.0 / fall * jnp.sin(alpha), 0.2 / fall * jnp.sin(alpha) ** 2
    return aa, 0.7 * jnp.cos(alpha) * jnp.sqrt(aa * pp), pp


def local(quick: bool) -> Run:
    """Pitch angle and momentum with radial diffusion and drift, steps of 10 min."""
    grid = local_diffusion.grid(L=(3.0, 6.5), alpha=(math.radians(5.0), math.pi / 2), energy=(0.05, 2.0),
                                cells=(3, 4, 6, 6) if quick else (10, 8, 32, 32))
    prm = local_diffusion.Parameters(local=function(_waves, steady=True), kinetic=local_diffusion.kinetic_energy(grid),
                                     dphiphi=6e-3, dll=radial_diffusion.BrautigamAlbert(kp=3.0))
    with warnings.catch_warnings():                  # that square cells err: it is the cost that matters here
        warnings.simplefilter("ignore")
        problem = local_diffusion.problem(grid, prm, outer=0.0, inner=0.0, low_p=0.0, high_p=0.0)
    _, energy, L, phi = grid.local()
    f0 = jnp.exp(-energy / 0.2) / (energy * (energy + 1.022)) * jnp.sin(grid.alpha()) * jnp.exp(-(((L - 5) / 0.7) ** 2))
    f0 = jnp.broadcast_to(f0 * (1 + 0.5 * jnp.cos(phi)), grid.shape)
    return Run(problem, f0, 600.0, "chorus tensor, drift, radial diffusion")


def mixing(quick: bool) -> Run:
    """The Krook operators of parallel mixing and of isotropisation, in (v, xi)."""
    grid = kinetic.grid(1.0, (0.1, 6.0), trapped=4 if quick else 24, passing=3 if quick else 20)
    g0 = np.exp(-np.unique(np.asarray(grid.centers("v"))) ** 2)
    return Run(kinetic.problem(grid, kinetic.Parameters(nu_par=1.0, nu_xi=0.6)), kinetic.start(grid, g0), 0.5,
               "mixing along field lines and in pitch angle")


PROBLEMS = {"radial": radial, "L, phi": drift, "L, phi with convection": convection, "full tensor": full_tensor,
            "velocity": speeds, "kinetic mixing": mixing, "foliated": leaves, "foliated in theta": leaves_in_theta,
            "local diffusion": local}
