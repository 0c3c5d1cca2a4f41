"""The (L, phi) equation against exact solutions and invariants."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxbelt as jb
from jaxbelt import drift_diffusion as dd
from jaxbelt.physics.dipole import KineticEnergy, drift_rate, mu_of_energy
from jaxbelt.physics.radial_diffusion import BrautigamAlbert, PowerLaw

DAY = 86400.0


def order(errors, ratio=2.0):
    return np.log(np.asarray(errors[:-1]) / np.asarray(errors[1:])) / np.log(ratio)


def shear_case(cells, steps, *, d0, c, e, m=1, k0=4.0, o0=3.0, o1=12.0, days=0.5, outer=6.0):
    """Exact wave of a sheared full tensor: D_LL = d0 L^4, D_Lphi = -c L^2, D_phiphi = e, Omega = o0 + o1/L, per day."""
    grid = dd.grid(L=(2.0, outer), cells=cells, spacing="inverse")

    def exact(t, L, phi):
        t = t / DAY
        s = d0 * (k0**2 * t - k0 * m * o1 * t**2 + m**2 * o1**2 * t**3 / 3) \
            + 2 * c * m * (k0 * t - m * o1 * t**2 / 2) + e * m**2 * t
        return 2.0 + jnp.cos(m * phi - m * o0 * t + (k0 - m * o1 * t) / L) * jnp.exp(-s)

    cross = jb.function(lambda t, L, phi: -c * L**2, steady=True) if c else None
    prm = dd.Parameters(dll=PowerLaw(d0=d0, power=4.0), dlphi=cross, dphiphi=e,
                        phidot=jb.function(lambda t, L, phi: (o0 + o1 / L) / DAY, steady=True))
    walls = {w: jb.function(lambda t, phi, L=L: exact(t, L, phi)) for w, L in (("inner", 2.0), ("outer", outer))}
    problem = dd.problem(grid, prm, **walls)
    sol = jb.solve(problem, exact(0.0, *grid.mesh()), t=[0, days * DAY], dt=days * DAY / steps)
    return float(np.mean(np.abs(sol.f[-1] - exact(days * DAY, *grid.mesh()))))


@pytest.mark.plain
@pytest.mark.parametrize("cells", [(24, 48), pytest.param((48, 96), marks=pytest.mark.slow)])
def test_shear_and_line_diffusion_at_order_two(cells):
    errors = [shear_case((n, n), n // 2, d0=2e-2, c=0.0, e=0.5) for n in cells]
    assert np.all(order(errors) > 1.9), errors


@pytest.mark.plain
@pytest.mark.parametrize("cells", [(8, 16), pytest.param((16, 32), marks=pytest.mark.slow)])
@pytest.mark.parametrize("c", [0.05, 0.1])
def test_shear_and_full_tensor_at_order_two(c, cells):
    """c = 0.1 is the rank-1 tensor c^2 = d0 e; the walls make its slope 1 : 1 in cells (dphi/dx = 5, n_phi = 4 n_L)."""
    outer = 1 / (0.5 - 2 * np.pi / 20)
    errors = [shear_case((n, 4 * n), n, d0=2e-2, c=c, e=0.5, days=0.25, outer=outer) for n in cells]
    assert np.all(order(errors) > 1.9), errors


@pytest.mark.plain
def test_echo_period_and_decay():
    d0, e, o0, o1, L0 = 1e-4, 2.0, 100.0, 2000.0, 4.0
    omega, slope = o0 + o1 / L0, -o1 / L0**2
    grid = dd.grid(L=(3.0, 5.5), cells=(240, 64), spacing="inverse")
    prm = dd.Parameters(dll=PowerLaw(d0=d0, power=4.0), dphiphi=e,
                        phidot=jb.function(lambda t, L, phi: (o0 + o1 / L) / DAY, steady=True))
    f0 = jnp.broadcast_to(1 + 0.5 * jnp.cos(grid.mesh()[1]), grid.shape)
    period = 2 * np.pi / omega * DAY
    t = period * np.arange(0, 8.01, 0.1)
    f = jb.solve(dd.problem(grid, prm), f0, t=t, dt=period / 10).f
    i = int(np.argmin(np.abs(grid["L"].centers - L0)))
    harmonic = np.fft.fft(np.asarray(f[:, i, :]), axis=1)[:, 1]
    rate = o0 + o1 / grid["L"].centers[i]
    phase = -np.unwrap(np.angle(harmonic))
    assert abs((phase[-1] - phase[0]) / (rate * t[-1] / DAY) - 1) < 1e-2
    td = t[-1] / DAY
    decay = e * td + d0 * L0**4 * slope**2 * td**3 / 3
    assert abs(-np.log(abs(harmonic[-1] / harmonic[0])) / decay - 1) < 1e-2
    assert omega > 0


def test_phi_mean_obeys_the_radial_equation():
    cells = (60, 32)
    kp = jb.Series([0, 10800.0], [3.0, 5.0])
    prm = {"dll": BrautigamAlbert(kp=kp), "lifetime": 4.0}
    two, one = dd.grid(cells=cells), dd.grid(cells=cells[0])
    mu = float(mu_of_energy(1.0, 5.0))
    p2 = dd.problem(two, dd.Parameters(kinetic=KineticEnergy(mu=mu), dphiphi=0.1, **prm), inner=0.0, outer=1.0)
    p1 = dd.problem(one, dd.Parameters(**prm), inner=0.0, outer=1.0)
    L, phi = two.mesh()
    f0 = jnp.exp(-((L - 5) ** 2)) * (1 + 0.5 * jnp.cos(phi))
    t = [0, 21600.0]
    mean = jnp.mean(jb.solve(p2, f0, t=t, dt=300.0).f, axis=2)
    radial = jb.solve(p1, jnp.exp(-((one["L"].centers - 5) ** 2)), t=t, dt=300.0).f
    assert np.max(np.abs(mean - radial)) < 1e-13


def dawn_dusk(t, L, phi, A):
    """Volland-Stern-like potential with corotation [V]; L in Earth radii."""
    return A * L**2 * jnp.sin(phi) - 92.5e3 / L


def convection(cells, A=600.0, energy=0.05):
    """A problem, and a function of its Hamiltonian."""
    grid = dd.grid(L=(2.0, 7.0), cells=cells)
    kinetic = KineticEnergy(mu=float(mu_of_energy(energy, 5.0)))
    prm = dd.Parameters(kinetic=kinetic, potential=jb.function(dawn_dusk, steady=True, A=A))

    def total(L, phi):
        return kinetic(0.0, L) + dawn_dusk(0.0, L, phi, A)

    low, high = (float(x) for x in (jnp.min(total(*grid.mesh())), jnp.max(total(*grid.mesh()))))

    def profile(L, phi):
        s = (total(L, phi) - low) / (high - low)
        return 1 + jnp.sin(2.5 * s) ** 2

    walls = {w: jb.function(lambda t, phi, L=L: profile(jnp.asarray(L), phi), steady=True)
             for w, L in (("inner", 2.0), ("outer", 7.0))}
    return grid, dd.problem(grid, prm, **walls), profile(*grid.mesh())


def convecting(cells, dt, hours=6.0):
    grid, problem, f0 = convection(cells)
    return grid, problem, jb.solve(problem, f0, t=[0, hours * 3600.0], dt=dt), f0


def test_any_function_of_the_hamiltonian_stays_put():
    grid, problem, sol, f0 = convecting((100, 64), 180.0)
    assert int(sol.result) == 0
    assert np.mean(np.abs(sol.f[-1] - f0)) < 5e-5
    change = grid.content(sol.f[-1]) - grid.content(f0)
    assert abs(change - sum(float(v[-1]) for v in sol.budget.values())) < 1e-13 * grid.content(f0)


def test_constants_are_preserved_by_convection():
    grid, problem, _ = convection((50, 32))
    problem = problem.replace(boundary={"inner": jnp.asarray(1.0), "outer": jnp.asarray(1.0)})
    f = jb.solve(problem, jnp.ones(grid.shape), t=[0, 3600.0], dt=300.0).f
    assert np.max(np.abs(f - 1)) < 1e-13


def test_quasi_trapped_particles_leave_and_are_counted():
    grid = dd.grid(L=(2.0, 7.0), cells=(60, 48))
    prm = dd.Parameters(kinetic=KineticEnergy(mu=float(mu_of_energy(0.01, 5.0))),
                        potential=jb.function(dawn_dusk, steady=True, A=600.0))
    problem = dd.problem(grid, prm, inner="open", outer="open")
    f0 = np.where(grid.mesh()[0] > 5, 1.0, 0.0) * np.ones(grid.shape)
    sol = jb.solve(problem, f0, t=[0, 4 * 3600.0], dt=300.0)
    lost = -float(sol.budget["L.upper"][-1])
    assert lost > 0.05 * grid.content(f0)
    assert abs(grid.content(f0) - grid.content(sol.f[-1]) - lost + float(sol.budget["L.lower"][-1])) < 1e-12 * grid.content(f0)
    assert sol.f.min() >= 0


@pytest.mark.plain
def test_electrons_drift_east_and_protons_west():
    for species, sign in (("electron", 1), ("proton", -1)):
        mu = float(mu_of_energy(1.0, 5.0, species))
        grid = dd.grid(L=(4.9, 5.1), cells=(3, 64))
        prm = dd.Parameters(kinetic=KineticEnergy(mu=mu, species=species))
        f0 = jnp.broadcast_to(1 + jnp.cos(grid.mesh()[1]), grid.shape)
        quarter = abs(2 * np.pi / float(drift_rate(5.0, mu, species))) / 4
        f = jb.solve(dd.problem(grid, prm), f0, t=[0, quarter], dt=quarter).f[-1]
        peak = grid["phi"].centers[int(np.argmax(f[1]))]
        assert abs(peak - (np.pi / 2 if sign > 0 else 3 * np.pi / 2)) < 0.15


@pytest.mark.plain
def test_drift_given_as_ldot_and_phidot_equals_the_potential():
    grid, problem, sol, f0 = convecting((40, 32), 300.0, hours=1.0)
    planet, prm = problem.parameters.planet, problem.parameters
    scale = 1e-4 * planet.b_e * planet.r_e**2
    kinetic = prm.kinetic

    def slope(L):
        return jax.vmap(jax.grad(lambda x: kinetic(0.0, x)))(jnp.ravel(L)).reshape(jnp.shape(L))

    given = dd.Parameters(
        ldot=jb.function(lambda t, L, phi: -(L**2) / scale * 600.0 * L**2 * jnp.cos(phi), steady=True),
        phidot=jb.function(lambda t, L, phi: L**2 / scale * (slope(L) + 1200.0 * L * jnp.sin(phi) + 92.5e3 / L**2), steady=True))
    same = dd.problem(grid, given, **{k: v for k, v in problem.boundary.items()})
    f = jb.solve(same, f0, t=[0, 3600.0], dt=300.0).f[-1]
    assert np.max(np.abs(f - sol.f[-1])) < 1e-6


@pytest.mark.plain
def test_a_divergent_drift_is_refused():
    grid = dd.grid(cells=(20, 16))
    prm = dd.Parameters(ldot=jb.function(lambda t, L, phi: 1e-5 * L, steady=True), phidot=1e-3)
    with pytest.raises(ValueError, match="divergent"):
        dd.problem(grid, prm, inner=0.0, outer=0.0)


@pytest.mark.parametrize("make, words", [
    (lambda: dd.grid(L=(0.9, 7.0)), "0.9"),
    (lambda: dd.grid(faces=[2, 4, 3], cells=2), "increase"),
    (lambda: dd.grid(cells=(10, 2.5)), "2.5"),
    (lambda: dd.problem(dd.grid(cells=10), dd.Parameters(dll=-1.0)), "dll"),
    (lambda: dd.problem(dd.grid(cells=10), dd.Parameters(dll=1.0, lifetime=0.0)), "lifetime"),
    (lambda: dd.problem(dd.grid(cells=10), dd.Parameters(dll=1.0, dphiphi=1.0)), "phi axis"),
    (lambda: dd.problem(dd.grid(cells=10), dd.Parameters(dll=1.0), inner="closed"), "no flux"),
    (lambda: dd.problem(dd.grid(cells=10), dd.Parameters(dll=1.0), inner=np.nan), "inner"),
    (lambda: dd.problem(dd.grid(cells=10), dd.Parameters(dll=1.0), epoch="yesterday"), "yesterday"),
])
@pytest.mark.plain
def test_bad_input_is_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.plain
def test_drift_across_a_closed_wall_is_refused():
    prm = dd.Parameters(potential=jb.function(dawn_dusk, steady=True, A=600.0))
    with pytest.raises(ValueError, match="crosses a wall"):
        dd.problem(dd.grid(cells=(20, 16)), prm)


@pytest.mark.plain
def test_wave_makes_an_island_in_drift_resonance():
    """F = f(H') is steady in the frame of the wave; a single-m wave flattens f only inside its island."""
    grid = dd.grid(L=(4.0, 6.0), cells=(80, 64))
    mu = float(mu_of_energy(1.0, 5.0))
    m, omega = 2, 2 * float(drift_rate(5.0, mu))
    wave = dd.Wave(potential=2e3, m=m, omega=omega)
    prm = dd.Parameters(kinetic=KineticEnergy(mu=mu), waves=(wave,))
    problem = dd.problem(grid, prm, inner="open", outer="open")
    f0 = jnp.broadcast_to(grid.mesh()[0] - 3.0, grid.shape)
    f = jb.solve(problem, f0, t=[0, 4 * 3600.0], dt=30.0).f[-1]
    spread = np.ptp(np.asarray(f), axis=1)
    at = lambda L: int(np.argmin(np.abs(grid["L"].centers - L)))  # noqa: E731
    assert spread[at(5.0)] > 3 * spread[at(4.4)]
    assert f.min() >= 0
