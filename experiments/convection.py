"""Drift in a convection field against two exact answers: f(H) stays, and F0 at the backward characteristic.

    python experiments/convection.py

Volland-Stern convection with the A(Kp) of Maynard & Chen, corotation, electrons of 1 MeV at L = 5 and fixed mu.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import jaxbelt as jb

jb.enable_x64()

from jaxbelt import drift_diffusion as dd  # noqa: E402
from jaxbelt.physics.electric import Convection  # noqa: E402

MU = float(jb.dipole.mu_of_energy(1.0, 5.0))
KINETIC = jb.dipole.KineticEnergy(mu=MU)
SCALE = jb.constants.EARTH.b_e * jb.constants.TESLA_PER_GAUSS * jb.constants.EARTH.r_e**2      # V s


def stationary(kp=4.0, cells=(200, 128), hours=6.0, steps=(60.0, 180.0)):
    """f(H) is steady for any f."""
    potential = Convection(kp=kp)
    grid = dd.grid(L=(2.0, 7.0), cells=cells)

    def total(L, phi):
        return KINETIC(0.0, L) + potential(0.0, L, phi)

    low, high = (float(x) for x in (jnp.min(total(*grid.mesh())), jnp.max(total(*grid.mesh()))))

    def f_of_h(L, phi):
        return 1 + jnp.sin(2.5 * (total(L, phi) - low) / (high - low)) ** 2

    walls = {w: jb.function(lambda t, phi, L=L: f_of_h(jnp.asarray(L), phi), steady=True)
             for w, L in (("inner", 2.0), ("outer", 7.0))}
    problem = dd.problem(grid, dd.Parameters(kinetic=KINETIC, potential=potential), **walls)
    f0 = f_of_h(*grid.mesh())
    out = {}
    for dt in steps:
        error = np.abs(jb.solve(problem, f0, t=[0, hours * 3600.0], dt=dt).f[-1] - f0)
        out[dt] = float(error.mean()), float(error.max())
    return out


def characteristics(f0, kp=6.0, cells=(400, 128), hours=2.0, steps=(60.0, 180.0)):
    """F(t, L, phi) = F0 where the particle was, traced back by a Runge-Kutta method of order four in steps of 5 s."""
    potential = Convection(kp=kp)
    grid = dd.grid(L=(2.0, 7.0), cells=cells)

    def h(L, phi):
        return (KINETIC(0.0, L) + potential(0.0, L, phi)) / SCALE

    def velocity(y):
        return jnp.array([-y[0] ** 2 * jax.grad(h, 1)(*y), y[0] ** 2 * jax.grad(h, 0)(*y)])

    @jax.jit
    @jax.vmap
    def back(L, phi):
        n = int(hours * 720)
        s = -hours * 3600.0 / n

        def step(_, y):
            a = velocity(y)
            b = velocity(y + s / 2 * a)
            c = velocity(y + s / 2 * b)
            return y + s / 6 * (a + 2 * b + 2 * c + velocity(y + s * c))

        return jax.lax.fori_loop(0, n, step, jnp.array([L, phi]))

    L, phi = (x.ravel() for x in np.broadcast_arrays(*grid.mesh()))
    was = back(L, phi)
    exact = f0(was[:, 0], was[:, 1]).reshape(grid.shape)
    problem = dd.problem(grid, dd.Parameters(kinetic=KINETIC, potential=potential), inner=0.0, outer=0.0)
    start = f0(*grid.mesh()) * jnp.ones(grid.shape)
    out = {}
    for dt in steps:
        error = np.abs(jb.solve(problem, start, t=[0, hours * 3600.0], dt=dt).f[-1] - exact)
        out[dt] = float(grid.content(error) / grid.content(exact)), float(error.max() / exact.max())
    return out


def shell(L):
    return jnp.exp(-(((L - 4.8) / 0.5) ** 2))


STARTS = {"m = 1": lambda L, phi: shell(L) * (1 + 0.8 * jnp.cos(phi - 1)),
          "half the globe": lambda L, phi: shell(L) * jnp.exp((jnp.cos(phi - 1) - 1) / 0.5),
          "20 degrees wide (7 cells)": lambda L, phi: shell(L) * jnp.exp((jnp.cos(phi - 1) - 1) / 0.12)}


def main():
    for dt, (mean, top) in stationary().items():
        print(f"f(H), Kp 4, 200 x 128, 6 h, {dt:.0f}-s steps: mean error {mean:.1e}, largest {top:.1e}")
    for name, f0 in STARTS.items():
        for dt, (l1, top) in characteristics(f0).items():
            print(f"backward characteristics, Kp 6, 400 x 128, 2 h, {dt:.0f}-s steps, {name}: L1 {l1:.1e}, "
                  f"largest {top:.1e} of the peak")


if __name__ == "__main__":
    main()
