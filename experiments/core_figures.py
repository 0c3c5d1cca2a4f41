"""The figures behind the core's claims, measured and printed (a few minutes on two cores).

    python experiments/core_figures.py
"""

import jax
import jax.numpy as jnp
import numpy as np

import jaxbelt as jb
from jaxbelt import drift_diffusion as dd
from jaxbelt.coefficients import Time
from jaxbelt.flows import LineDiffusion, Rotation
from jaxbelt.grid import Axis, Grid

jb.enable_x64()
DAY = 86400.0
PowerLaw = jb.radial_diffusion.PowerLaw


def steady_residual():
    print("Dirichlet steady state f = a + b L^(3-n), [1, 7], 200 uniform cells: residual of one 100-day step over its flux")
    for n in (3.0, 4.0, 6.0, 8.0, 10.0):
        grid = dd.grid(L=(1.0, 7.0), cells=200, spacing="linear")

        def exact(x, n=n):
            return 2.0 + (np.log(x) if n == 3 else -(x ** (3 - n)))

        problem = dd.problem(grid, dd.Parameters(dll=PowerLaw(d0=1e-3, power=n)), inner=exact(1.0), outer=exact(7.0))
        f = jb.solve(problem, exact(grid["L"].centers), t=[0, 100 * DAY], dt=100 * DAY).f
        flux = 1e-3 * (1.0 if n == 3 else n - 3) / DAY
        print(f"  n = {n:4.0f}: {np.max(np.abs(f[1] - f[0]) * grid.volumes) / (100 * DAY) / flux:.1e}")


def content():
    grid = Grid((Axis.cells("x", np.geomspace(1, 7, 201)),))
    for top in (1e-1, 1e2, 1e6):
        up = jnp.asarray(np.geomspace(1e-3, top, 201)).at[0].set(0).at[-1].set(0)
        flow = LineDiffusion(axis="x", up=up)
        state = flow.prepare(grid, 1.0)
        f0 = jnp.zeros(200).at[100].set(1.0)

        def step(i, f, flow=flow, state=state):
            return flow.advance(grid, state, f, Time.at(0.0), 1.0)[0]

        one, many = step(0, f0), jax.lax.fori_loop(0, 10000, step, f0)
        c = [float(grid.content(f) / grid.content(f0) - 1) for f in (one, many)]
        print(f"content, closed walls, g dt/V up to {top / np.min(grid.volumes):.0e}, from a delta: one step {c[0]:.1e}, "
              f"10,000 steps {c[1]:.1e}; least f {float(min(one.min(), many.min())):.1e}")


def drift_phase():
    grid = Grid((Axis.nodes("ring", [0.0]), Axis.cells("phi", np.linspace(0, 2 * np.pi, 129), periodic=True)))
    flow = Rotation(axis="phi", rate=jnp.full((1, 1), 691 / DAY))
    state = flow.prepare(grid, 60.0)
    for m in (1, 8):
        f0 = 2 + jnp.cos(m * jnp.asarray(grid.centers("phi")))
        f = jax.lax.fori_loop(0, 1440, lambda i, f: flow.advance(grid, state, f, Time.at(0.0), 60.0)[0], f0)
        a = [float(jnp.abs(jnp.fft.rfft(x[0])[m])) for x in (f0, f)]
        print(f"drift phase, 128 cells, 691 rad/day, 1-min steps: numerical diffusion of m = {m}: "
              f"{-np.log(a[1] / a[0]) / m**2:.1e} rad^2/day")
    pulse = jnp.where(jnp.abs(grid.centers("phi") - np.pi) < 0.3, 1.0, 0.0)
    f = jax.lax.fori_loop(0, 1440, lambda i, f: flow.advance(grid, state, f, Time.at(0.0), 60.0)[0], pulse)
    print(f"  square pulse after a day: least value {float(f.min()):.1e}, content {float(f.sum() / pulse.sum() - 1):.1e}")


def shadowing():
    grid = dd.grid(L=(2.0, 7.0), cells=200)
    L = grid["L"].centers
    prm = dd.Parameters(dll=jb.radial_diffusion.BrautigamAlbert(kp=6.0), lifetime=np.where(L > 6, 0.1 / 1440, np.inf))
    problem = dd.problem(grid, prm, inner=0.0, outer=0.0)
    f0 = np.exp(-((L - 5) ** 2))
    fine = jb.solve(problem, f0, t=[0, 21600.0], dt=1.0).f[-1]
    inside = L < 5.8
    for dt in (60.0, 300.0, 900.0):
        f = jb.solve(problem, f0, t=[0, 21600.0], dt=dt).f[-1]
        print(f"shadowing beyond L = 6 (0.1 min), Kp 6, {dt:.0f}-s steps: error at L < 5.8 "
              f"{float(np.max(np.abs(f - fine)[inside]) / np.max(fine[inside])):.1e}, least f {float(f.min()):.1e}")


def dawn_dusk(t, L, phi, A):
    return A * L**2 * jnp.sin(phi) - 92.5e3 / L


def stationarity():
    amplitude = 45.0 / (1 - 0.159 * 4 + 0.0093 * 16) ** 3       # V/R_E^2, Maynard & Chen 1975 at Kp 4
    grid = dd.grid(L=(2.0, 7.0), cells=(200, 128))
    kinetic = jb.dipole.KineticEnergy(mu=float(jb.dipole.mu_of_energy(1.0, 5.0)))
    prm = dd.Parameters(kinetic=kinetic, potential=jb.function(dawn_dusk, steady=True, A=amplitude))

    def total(L, phi):
        return kinetic(0.0, L) + dawn_dusk(0.0, L, phi, amplitude)

    low, high = (float(x) for x in (jnp.min(total(*grid.mesh())), jnp.max(total(*grid.mesh()))))

    def f_of_h(L, phi):
        return 1 + jnp.sin(2.5 * (total(L, phi) - low) / (high - low)) ** 2

    walls = {w: jb.function(lambda t, phi, L=L: f_of_h(jnp.asarray(L), phi), steady=True)
             for w, L in (("inner", 2.0), ("outer", 7.0))}
    problem = dd.problem(grid, prm, **walls)
    f0 = f_of_h(*grid.mesh())
    for dt in (60.0, 180.0):
        sol = jb.solve(problem, f0, t=[0, 6 * 3600.0], dt=dt)
        print(f"f(H) after 6 h of convection at Kp 4, 1 MeV at L = 5, 200 x 128, {dt:.0f}-s steps: mean error "
              f"{float(np.mean(np.abs(sol.f[-1] - f0))):.1e}, largest {float(np.max(np.abs(sol.f[-1] - f0))):.1e}")


def main():
    steady_residual()
    content()
    drift_phase()
    shadowing()
    stationarity()


if __name__ == "__main__":
    main()
