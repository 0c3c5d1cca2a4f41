"""A run seen along an orbit: interpolation, flux in channels, pitch angles, gaps, and gradients through it."""

import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

import jaxbelt as jb
from jaxbelt import drift_diffusion as dd
from jaxbelt.grid import Axis, Grid
from jaxbelt.observation import Channel, Observation, Orbit, SinN, interpolate, observe
from jaxbelt.physics.dipole import KineticEnergy, energy_of_mu, y_of_K
from jaxbelt.physics.radial_diffusion import PowerLaw
from jaxbelt.solve import Solution, make_problem

MU = np.geomspace(50.0, 5000.0, 9)
MC2 = 0.51099895
BAND = Channel(energy=(0.8, 1.2))          # one for most tests: it is compiled once


def solution(f, t, cells=12, mu=None, epoch=None, L=(2.0, 7.0), **parameters):
    """A solution whose f is a given function of (t, L[, phi]) or (t, mu, L[, phi]), without solving."""
    grid = dd.grid(L=L, cells=cells)
    if mu is not None:
        grid = Grid((Axis.nodes("mu", mu, unit="MeV/G"), *grid.axes))
    problem = make_problem(dd.flows, grid, dd.Parameters(dll=1.0, **parameters), epoch=epoch,
                           quantity=("psd", "(c/(MeV cm))^3", "phase space density"))
    t = np.asarray(t, float)
    values = np.broadcast_to(f(t.reshape((-1,) + (1,) * grid.ndim), *grid.mesh()), (t.size, *grid.shape))
    return Solution(jnp.asarray(values), jnp.asarray(t), {}, 0, problem)


def mu_of(energy, L):
    return energy * (energy + 2 * MC2) / (2 * MC2 * 0.312 / L**3)


def path(n=41, t=(0.0, 3600.0), L=(2.01, 6.99), **rest):
    s = np.linspace(0.0, 1.0, n)
    return Orbit(t[0] + (t[1] - t[0]) * s, L[0] + (L[1] - L[0]) * (0.5 - 0.5 * np.cos(7 * s)), **rest)


# ---- interpolation

def test_the_rule_between_two_values():
    assert float(interpolate(2.0, 8.0, 0.5)) == pytest.approx(4.0, rel=1e-15)
    assert float(interpolate(2.0, 8.0, 0.0)) == 2.0
    assert float(interpolate(1.0, 1e-5, 0.5)) == pytest.approx(10**-2.5, rel=1e-14)
    for a, b in ((0.0, 3.0), (1e-30, 3.0)):                    # an empty cell, and one nearly so, count the same
        assert float(interpolate(a, b, 0.25)) == pytest.approx(0.75, rel=1e-14)
    assert float(interpolate(0.0, 0.0, 0.3)) == 0.0
    assert float(interpolate(0.0, 3.0, -0.4)) == 0.0           # linear beyond the ends would be negative
    ratio = np.geomspace(1e-12, 1e12, 4001)
    middle = np.asarray(interpolate(1.0, ratio, 0.5))
    assert np.all(middle >= np.minimum(1, ratio)) and np.all(middle <= np.maximum(1, ratio))
    assert np.max(np.abs(np.diff(np.log(middle)))) < 0.1 and np.min(middle) > 0           # no jump from one rule to the other
    assert np.allclose(middle[::-1] * ratio, middle, rtol=1e-11)                          # the same from either side


def test_the_rule_has_finite_gradients_that_are_its_differences():
    grad = jax.grad(lambda a, b: interpolate(a, b, 0.3), argnums=(0, 1))
    for a, b in ((0.0, 0.0), (0.0, 2.0), (2.0, 0.0), (1e-200, 1.0), (1.0, 1.0)):
        assert np.all(np.isfinite(grad(a, b)))
    assert np.allclose(grad(0.0, 2.0), (0.7, 0.3))
    for a, b in ((1.0, 3.0), (1.0, 3e-7), (1.0, 3e-8), (1.0, 2e-9)):       # power law, both ends of the slide, nearly linear
        h = 1e-6
        central = (interpolate(a, b * (1 + h), 0.3) - interpolate(a, b * (1 - h), 0.3)) / (2 * h * b)
        assert float(grad(a, b)[1]) == pytest.approx(float(central), rel=1e-7)


def test_power_laws_in_l_and_exponentials_in_time_are_exact_up_to_the_walls():
    sol = solution(lambda t, L: 3e-8 * L**-9.5 * np.exp(-t / 5000.0), [0, 700, 3600])
    orbit = path(L=(2.0, 7.0))
    assert np.allclose(observe(sol, orbit).psd, 3e-8 * orbit.L**-9.5 * np.exp(-orbit.t / 5000.0), rtol=1e-12, atol=0)


def test_second_order_in_every_coordinate():
    def f(t, L, phi):
        return (2.0 + np.sin(t / 900.0)) * np.exp(-((L - 4.5) ** 2)) * (1.5 + np.cos(phi - 0.4))

    orbit = path(400, L=(2.5, 6.5), phi=np.linspace(-9.0, 9.0, 400))
    errors = []
    for k in (1, 2, 4):
        seen = observe(solution(f, np.linspace(0, 3600, 12 * k + 1), (20 * k, 12 * k)), orbit).psd
        errors.append(np.max(np.abs(np.asarray(seen) / f(orbit.t, orbit.L, orbit.phi) - 1)))
    order = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all(order > 1.8) and errors[-1] < 5e-3, (errors, order)


def test_longitude_is_periodic_and_mlt_is_hours_from_midnight():
    sol = solution(lambda t, L, phi: 1.0 + 0.5 * np.cos(phi) + 0 * L * t, [0, 10], (4, 8))
    t = np.arange(5.0)
    turned = observe(sol, Orbit(t, 4.0, phi=np.array([0.1, 0.1 + 2 * np.pi, 0.1 - 2 * np.pi, 0.1 + 4 * np.pi, 0.1]))).psd
    assert np.allclose(turned, turned[0], rtol=1e-13)
    hours = observe(sol, Orbit(t, 4.0, mlt=np.array([0.0, 6.0, 12.0, 18.0, 24.0]))).psd
    radians = observe(sol, Orbit(t, 4.0, phi=np.arange(5) * np.pi / 2)).psd
    assert np.allclose(hours, radians, rtol=1e-13) and hours[0] > hours[1] > hours[2]
    with pytest.raises(ValueError, match="depends on MLT; give the orbit mlt="):
        observe(sol, Orbit(t, 4.0))


# ---- flux

def test_flux_of_a_power_law_in_mu():
    """j = p^2 f exactly, at energies anywhere between the nodes, with the published conversion at 1 MeV."""
    sol = solution(lambda t, mu, L: 1.650e-8 * (mu / 300.0) ** -2.5 + 0 * t * L, [0, 3600], mu=MU)
    orbit = path(L=(3.0, 5.5))
    seen = observe(sol, orbit, [Channel(energy=1.0, pitch_angle=90.0), Channel(energy=1.0, pitch_angle=90.0, unit="MeV")])
    mu = mu_of(1.0, orbit.L)
    assert np.allclose(seen.flux[0], (mu / 300.0) ** -2.5, rtol=2e-4)                  # 1.650e-8 has four digits
    f = np.array(1.650e-8 * (mu / 300.0) ** -2.5)
    assert np.allclose(seen.flux[1], f * 2.99792458e10 * (1.0 + 2 * MC2), rtol=1e-8)
    assert np.allclose(seen.flux[1], 1e3 * seen.flux[0], rtol=1e-12)
    assert seen.units == ("1/(cm^2 s sr keV)", "1/(cm^2 s sr MeV)") and np.all(seen.valid)
    assert seen.psd.shape == (9, 41) and np.allclose(seen.mu, MU)


def test_a_band_is_the_mean_over_its_energies():
    def f(mu, L=4.0):
        return (mu / 300.0) ** -4.0

    sol = solution(lambda t, mu, L: f(mu) + 0 * t * L, [0, 3600], mu=MU)
    seen = observe(sol, Orbit([5.0, 6.0], [4.0, 5.0]), Channel(energy=(0.569, 1.123), pitch_angle=90.0))
    for k, L in enumerate((4.0, 5.0)):
        mean = quad(lambda e, L=L: e * (e + 2 * MC2) * 2.99792458e10 * f(mu_of(e, L)), 0.569, 1.123)[0] / 0.554
        assert float(seen.flux[0, k]) == pytest.approx(1e-3 * mean, rel=1e-9)
    assert np.allclose(seen.energy, np.sqrt(0.569 * 1.123))


def test_between_nodes_of_mu_the_error_is_second_order():
    errors = []
    for n in (12, 48):
        sol = solution(lambda t, mu, L: np.exp(-mu / 400.0) + 0 * t * L, [0, 10], 4, mu=np.geomspace(50, 5000, n))
        channel = Channel(energy=(0.5, 0.9), pitch_angle=90.0)
        mean = quad(lambda e: e * (e + 2 * MC2) * 2.99792458e7 * np.exp(-mu_of(e, 5.0) / 400.0), 0.5, 0.9)[0] / 0.4
        errors.append(abs(float(observe(sol, Orbit([1.0], 5.0), channel).flux[0, 0]) / mean - 1))
    assert errors[0] > 9 * errors[1] and errors[1] < 0.01, errors


@pytest.mark.parametrize("n", [0.0, 1.0, 2.0, 5.5, -0.5])
@pytest.mark.parametrize("y", [1.0, 0.6])
def test_omnidirectional_flux_is_the_integral_over_local_pitch_angles(n, y):
    sol = solution(lambda t, mu, L: mu**-2.0 + 0 * t * L, [0, 10], 4, mu=MU)
    channels = [Channel(energy=0.8, pitch_angle=a, shape=SinN(n=n)) for a in (None, 90.0, 40.0)]
    omni, ninety, forty = np.asarray(observe(sol, Orbit([1.0], 5.0, b_ratio=y**-2), channels).flux)[:, 0]
    equator = float(observe(sol, Orbit([1.0], 5.0), Channel(energy=0.8, pitch_angle=90.0)).flux[0, 0])
    assert ninety == pytest.approx(equator * y**n, rel=1e-12)                           # locally mirroring particles
    assert forty == pytest.approx(equator * (y * np.sin(np.radians(40.0))) ** n, rel=1e-12)
    integral = 4 * np.pi * quad(lambda a: np.sin(a) * equator * (y * np.sin(a)) ** n, 0, np.pi / 2)[0]
    assert omni == pytest.approx(integral, rel=1e-9)


def test_equatorial_pitch_angles_and_a_shape_along_the_orbit():
    sol = solution(lambda t, mu, L: mu**-2.0 + 0 * t * L, [0, 10], 4, mu=MU)
    orbit = Orbit([1.0, 2.0], 5.0, y=[1.0, 0.5])
    seen = observe(sol, orbit, [Channel(energy=0.8, pitch_angle=30.0, frame="equatorial", shape=SinN(n=np.array([2.0, 3.0]))),
                                Channel(energy=0.8, pitch_angle=90.0), Channel(energy=0.8, pitch_angle=180.0),
                                Channel(energy=0.8, pitch_angle=0.0, shape=SinN(n=0.0))]).flux
    j = seen[1, 0]
    assert np.allclose(seen[0], [j / 4, j / 8], rtol=1e-12)
    assert np.allclose(seen[2], 0.0, atol=1e-25 * float(j)) and np.allclose(seen[3], j)


def test_one_mu_gives_flux_at_its_own_energy():
    sol = solution(lambda t, L: 2e-8 + 0 * t * L, [0, 3600])
    orbit, channel = path(), Channel(energy=None, pitch_angle=90.0)
    seen = observe(sol, orbit, channel, mu=500.0)
    energy = np.asarray(energy_of_mu(500.0, orbit.L))
    assert seen.psd.shape == (41,) and np.allclose(seen.energy[0], energy, rtol=1e-13)
    assert np.allclose(seen.flux[0], 2e-8 * 2.99792458e7 * energy * (energy + 2 * MC2), rtol=1e-8)
    with pytest.raises(ValueError, match="needs the first invariant of the solution: give mu="):
        observe(sol, orbit, channel)
    with pytest.raises(ValueError, match=r"channel '1 MeV omni' has an energy, but the solution has one mu"):
        observe(sol, orbit, Channel(energy=1.0), mu=500.0)
    kinetic = KineticEnergy(mu=500.0, species="proton")
    proton = solution(lambda t, L, phi: 1e-8 + 0 * t * L * phi, [0, 3600], (6, 4), kinetic=kinetic)
    stated = observe(proton, path(phi=0.0), channel)                                    # mu and species of the solution
    assert np.allclose(stated.energy[0], energy_of_mu(500.0, path().L, "proton"))


def test_a_solution_at_another_k_gives_flux_at_its_own_pitch_angle():
    """f of particles with K > 0 is j/p^2 at y_K; the shape carries it to 90 degrees."""
    sol = solution(lambda t, mu, L: mu**-2.0 + 0 * t * L, [0, 10], 4, mu=MU)
    orbit, K = Orbit([1.0], 5.0), 0.3
    y = float(y_of_K(K, 5.0))
    channels = [Channel(energy=0.8, pitch_angle=float(np.degrees(np.arcsin(y)))), Channel(energy=0.8, pitch_angle=90.0)]
    own, ninety = np.asarray(observe(sol, orbit, channels, K=K).flux)[:, 0]
    assert own == pytest.approx((mu_of(0.8, 5.0) * y**2) ** -2.0 * 2.99792458e7 * 0.8 * (0.8 + 2 * MC2), rel=1e-8)
    assert ninety == pytest.approx(own / y**2, rel=1e-12) and 0.3 < y < 0.9
    stated = solution(lambda t, L, phi: 1e-8 + 0 * t * L * phi, [0, 10], (6, 4), kinetic=KineticEnergy(mu=500.0, K=K))
    seen = observe(stated, Orbit([1.0], 5.0, mlt=0.0), Channel(pitch_angle=90.0))
    assert float(seen.energy[0, 0]) == pytest.approx(float(energy_of_mu(500.0 / y**2, 5.0)), rel=1e-12)


def test_one_population_of_several():
    grid = dd.grid(L=(3.0, 7.0), cells=(6, 4), nodes=Axis.nodes("population", [0, 1]))
    prm = [dd.Parameters(kinetic=KineticEnergy(mu=20.0 + k, species=s)) for k, s in enumerate(("proton", "electron"))]
    problem = dd.problem(grid, prm, epoch="2013-03-16")
    sol = Solution(jnp.ones((2, *grid.shape)) * jnp.array([2.0, 3.0])[:, None, None], jnp.array([0.0, 9.0]), {}, 0, problem)
    orbit = Orbit([1.0, 2.0], 5.0, mlt=3.0)
    for k, s in enumerate(("proton", "electron")):
        seen = observe(sol, orbit, Channel(), node=k)
        assert np.allclose(seen.psd, 2.0 + k) and np.allclose(seen.energy, energy_of_mu(20.0 + k, 5.0, s))
    with pytest.raises(ValueError, match="the solution has 2 nodes of population; give node= 0 to 1, got None"):
        observe(sol, orbit)


# ---- gaps, ranges, messages

def test_gaps_are_nan_and_the_rest_is_not_touched():
    sol = solution(lambda t, mu, L: L**-5.0 * mu**-2.0 + 0 * t, [0, 3600], mu=MU)
    whole = path(L=(3.0, 5.5))
    L, y = whole.L.copy(), np.ones(41)
    L[3], y[7] = np.nan, np.nan
    seen, full = (observe(sol, o, BAND) for o in (Orbit(whole.t, L, y=y), whole))
    gap = np.isin(np.arange(41), (3, 7))
    assert np.array_equal(np.isnan(seen.flux[0]), gap) and np.array_equal(~np.asarray(seen.inside), gap)
    assert np.array_equal(seen.flux[0][~gap], full.flux[0][~gap]) and np.array_equal(np.isnan(seen.psd[0]), gap)
    assert seen.message == "39 of 41 samples inside the solution"


def test_samples_outside_are_an_error_that_says_where_or_a_mask():
    sol = solution(lambda t, L: 1.0 + 0 * t * L, [0, 3600], epoch="2013-03-16T00:00:00")
    orbit = Orbit([0.0, 60.0, 120.0, 4000.0], [3.0, 7.2, 1.9, 5.0])
    with pytest.raises(ValueError) as error:
        observe(sol, orbit)
    assert str(error.value) == ("observe: 3 of 4 samples are outside the solution, the first at t = 2013-03-16T00:01:00, "
                                "L = 7.2; it has L = 2 to 7 and t = 2013-03-16T00:00:00 to 2013-03-16T01:00:00: "
                                "cut the orbit, or give outside='mask'")
    assert np.array_equal(np.isnan(observe(sol, orbit, outside="mask").psd), [False, True, True, True])
    with pytest.raises(ValueError, match="outside: 'clip' is unknown"):
        observe(sol, orbit, outside="clip")


def test_energies_beyond_the_mu_of_the_solution():
    sol = solution(lambda t, mu, L: mu**-2.0 + 0 * t * L, [0, 10], mu=np.array([300.0, 600.0, 900.0]))
    orbit = Orbit(np.arange(4.0), [3.0, 4.0, 5.0, 6.0])                    # 1 MeV: mu = 171, 406, 793, 1370 MeV/G
    seen = observe(sol, orbit, [Channel(energy=1.0, label="1 MeV")])
    assert np.array_equal(np.isfinite(seen.flux[0]), [False, True, True, False])
    assert seen.message == "4 of 4 samples inside the solution; 1 MeV: 2 beyond its mu"
    with pytest.raises(ValueError, match=r"channel '3 MeV omni' needs mu = 1022 to 8174 MeV/G along this orbit, and at no "
                                         r"sample does the solution, with mu = 300 to 900 MeV/G"):
        observe(sol, orbit, Channel(energy=3.0))
    with pytest.raises(ValueError, match=r"Channel\(energy=None\) is for a solution at one mu"):
        observe(sol, orbit, Channel())
    with pytest.raises(ValueError, match="axis mu of its own"):
        observe(sol, orbit, Channel(energy=1.0), mu=300.0)


@pytest.mark.parametrize("make, message", [
    (lambda: Orbit([0, 1, 1], 4.0), r"t\[2\] = 1 follows 1"),
    (lambda: Orbit([0, np.nan], 4.0), r"t\[1\] is not; leave it out"),
    (lambda: Orbit([0, 1], [4.0, 4.0, 4.0]), "needs 2 values"),
    (lambda: Orbit([0, 1], np.inf), "Orbit L: must be finite"),
    (lambda: Orbit([0, 1], 4.0, phi=0.0, mlt=0.0), "not both"),
    (lambda: Orbit([0, 1], 4.0, mlt=99.0), "hours between 0 and 24, got 99"),
    (lambda: Orbit([0, 1], 4.0, y=0.0), "between 0 .excluded. and 1, got 0"),
    (lambda: Orbit([0, 1], 4.0, b_ratio=0.9), "at least 1 .*, got 0.9"),
    (lambda: Orbit(np.array(["2013-03-16"], "datetime64[s]"), 4.0), "use Orbit.from_dates"),
    (lambda: Channel(energy=(1.0, 0.5)), "one energy or .lowest, highest. in MeV"),
    (lambda: Channel(energy=0.0), "in MeV, got 0.0"),
    (lambda: Channel(pitch_angle=190.0), "0 to 180 degrees"),
    (lambda: Channel(unit="eV"), "unit: 'eV' is unknown; use 'keV' or 'MeV'"),
    (lambda: SinN(n=-2.0), "above -2"),
])
def test_wrong_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_only_solutions_that_depend_on_l():
    grid = Grid((Axis.cells("v", np.linspace(0, 1, 5)),))
    sol = Solution(jnp.ones((2, 4)), jnp.arange(2.0), {}, 0, make_problem(dd.flows, grid, dd.Parameters()))
    with pytest.raises(ValueError, match=r"needs a solution on \(L\) or \(L, phi\), .* got \(v\)"):
        observe(sol, Orbit([0.5], 4.0))


# ---- files, pictures, dates

def test_a_loaded_run_and_its_dataset(tmp_path):
    prm = dd.Parameters(dll=PowerLaw(d0=1e-6, power=6.0), lifetime=5.0)
    problem = dd.problem(dd.grid(L=(2.0, 7.0), cells=10), prm, inner=1e-3, outer=1.0, epoch="2013-03-16T00:00:00")
    f0, t = np.linspace(1e-3, 1.0, 10), [0.0, 1800.0, 3600.0]
    run = jb.load(jb.run(problem, f0, t=t, dt=600.0, out=tmp_path / "run.nc", progress=False))
    sol = Solution(jnp.asarray(run.f), jnp.asarray(run.t), {}, 0, problem)
    dates = np.datetime64("2013-03-16T00:00") + np.arange(5) * np.timedelta64(10, "m")
    orbit = Orbit.from_dates(dates, np.linspace(3, 6, 5), epoch=problem.epoch, mlt=3.0, b_ratio=1.5)
    channels = [Channel(pitch_angle=90.0), Channel()]
    a, b = (observe(s, orbit, channels, mu=800.0) for s in (sol, run))
    assert np.allclose(a.flux, b.flux, rtol=1e-13) and np.allclose(a.psd, b.psd, rtol=1e-13)
    assert all(len(repr(x)) < 200 and "\n" not in repr(x) for x in (a, run, sol))
    data = a.to_xarray()
    assert data.flux.dims == ("channel", "time") and np.array_equal(data.time, dates) and float(data.mu) == 800.0
    assert list(data.flux_units.values) == ["relative", "relative"]                  # f has the unit 1
    known = observe(sol, orbit, channels, mu=800.0, psd_unit="(c/(MeV cm))^3")
    assert known.units == ("1/(cm^2 s sr keV)", "1/(cm^2 s keV)") and np.allclose(data.mlt, 3.0)
    assert "flux" not in observe(run, orbit).to_xarray() and data.psd.attrs["units"] == "1"
    data.to_netcdf(tmp_path / "seen.nc", engine="h5netcdf")


# ---- transforms

def batch():
    """A radial problem, its solve at an amplitude of D_LL for three mu, and an orbit with a gap."""
    problem = dd.problem(dd.grid(L=(3.0, 7.0), cells=16), dd.Parameters(dll=PowerLaw(d0=1e-6, power=6.0), lifetime=2.0),
                         inner=1e-12, outer=1e-8)
    mu, L = np.array([300.0, 800.0, 2000.0]), problem.grid["L"].centers
    f0 = jnp.asarray(1e-8 * np.exp(-((L - 5) ** 2)) * (mu[:, None] / 800.0) ** -2)

    def solve(log_amplitude):
        prm = problem.parameters.replace(dll=problem.parameters.dll.replace(log_amplitude=log_amplitude))
        return jax.vmap(lambda f: jb.solve(problem.replace(parameters=prm), f, t=[0.0, 43200.0], dt=10800.0))(f0)

    s = np.linspace(0, 1, 9)
    orbit = Orbit(43200.0 * s, np.where(s == 0.5, np.nan, 4.0 + 2.0 * s), y=np.where(s == 0.25, np.nan, 0.9))
    return solve, orbit, mu


@pytest.mark.slow
def test_gradients_through_a_run_a_batch_of_mu_and_a_channel():
    solve, orbit, mu = batch()
    channels = [Channel(energy=(0.7, 1.0)), Channel(energy=1.6, pitch_angle=60.0)]

    def look(x, n):
        return observe(solve(x), orbit, [c.replace(shape=SinN(n=n)) for c in channels], mu=mu)

    def loss(x):
        seen = look(*x)                                 # a fit's way (mask, then the logarithm), and straight through the NaN
        masked = jnp.sum(jnp.where(seen.valid, jnp.log(jnp.where(seen.valid, seen.flux, 1.0)), 0.0))
        return masked + 1e-3 * jnp.nansum(seen.flux), seen

    gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))
    point, h = np.array([0.3, 2.0]), 1e-4
    (_, seen), grad = gradient(point)
    central = [float(gradient(point + d)[0][0] - gradient(point - d)[0][0]) / (2 * h) for d in h * np.eye(2)]
    assert np.allclose(grad, central, rtol=1e-6, atol=0) and np.all(np.isfinite(grad))
    assert isinstance(seen, Observation) and seen.flux.shape == (2, 9) and seen.orbit is orbit
    assert 0 < int(seen.valid[1].sum()) < 7 == int(seen.inside.sum())              # two gaps, and samples out of mu
    assert 1e-3 * float(jnp.nansum(seen.flux)) > 1e-3 and abs(central[0]) > 1e-3            # both terms are felt


def test_a_vmap_over_parameters():
    sol = solution(lambda t, mu, L: mu**-2.0 * np.exp(-L) + 0 * t, [0, 3600], mu=MU)
    orbit, scale, n = path(L=(3.0, 5.5)), jnp.array([1.0, 3.0]), jnp.array([2.0, 0.0])

    def look(scale, n):
        return observe(Solution(scale * sol.f, sol.t, {}, 0, sol.problem), orbit, BAND.replace(shape=SinN(n=n)))

    many = jax.jit(jax.vmap(look))(scale, n)
    one = observe(sol, orbit, BAND).flux
    assert np.allclose(many.flux, np.array([1.0, 4.5])[:, None, None] * one, rtol=1e-12) and many.inside.shape == (2, 41)


def test_forward_mode_agrees_with_reverse():
    sol = solution(lambda t, mu, L: mu**-2.0 * np.exp(-L) * (1 + t / 1e4), [0, 3600], mu=MU)
    orbit, channel = path(L=(3.0, 5.5)), BAND

    def total(f):
        return jnp.sum(jnp.log(observe(Solution(f, sol.t, {}, 0, sol.problem), orbit, channel).flux))

    direction = jnp.sin(jnp.arange(float(sol.f.size)).reshape(sol.f.shape)) * sol.f
    @jax.jit
    def both(f):
        return jax.jvp(total, (f,), (direction,))[1], jnp.vdot(jax.grad(total)(f), direction)

    forward, reverse = both(sol.f)
    assert float(forward) == pytest.approx(float(reverse), rel=1e-11) and abs(float(forward)) > 0.1


def test_a_batch_of_runs_is_seen_as_a_solution_with_an_axis_of_mu():
    solve, orbit, mu = batch()
    sol = solve(0.0)
    grid = Grid((Axis.nodes("mu", mu, unit="MeV/G"), *sol.grid.axes))
    both = Solution(jnp.moveaxis(sol.f, 0, 1), sol.t[0], {}, 0, make_problem(dd.flows, grid, dd.Parameters()))
    channel = Channel(energy=(0.7, 1.0))
    a, b = observe(sol, orbit, channel, mu=mu), observe(both, orbit, channel)
    assert np.array_equal(a.flux, b.flux, equal_nan=True) and np.array_equal(a.psd, b.psd, equal_nan=True)
    one = observe(Solution(sol.f[1], sol.t[0], {}, 0, make_problem(dd.flows, sol.grid, dd.Parameters())), orbit)
    assert np.array_equal(one.psd, a.psd[1], equal_nan=True)
    jitted = jax.jit(lambda sol: observe(sol, orbit, channel, mu=mu))(sol)
    assert np.allclose(jitted.flux, a.flux, rtol=1e-12, equal_nan=True) and np.array_equal(jitted.valid, a.valid)
    with pytest.raises(ValueError, match="mu must be positive and increase"):
        observe(sol, orbit, channel, mu=mu[::-1])
    with pytest.raises(ValueError, match=r"f has shape \(3, 2, 16\) .*: give one run with one mu, or the runs of a vmap"):
        observe(sol, orbit, channel, mu=mu[:2])


def test_empty_cells_and_single_precision():
    sol = solution(lambda t, mu, L: np.where((L > 4) & (t > 0), 1.0, 0.0) * mu**-2, [0, 3600], mu=MU)
    orbit, channel = path(L=(3.0, 5.5)), BAND
    weight = jnp.sin(jnp.arange(41.0))

    def total(f):
        return jnp.nansum(weight * observe(Solution(f, sol.t, {}, 0, sol.problem), orbit, channel).flux)

    flux = observe(sol, orbit, channel).flux
    assert np.all(np.isfinite(flux)) and np.all(flux >= 0) and np.any(flux == 0)
    g = np.asarray(jax.jit(jax.grad(total))(sol.f))
    assert np.all(np.isfinite(g)) and np.sum(g * sol.f) == pytest.approx(float(jnp.sum(weight * flux)), rel=1e-9)    # degree one
    single = Solution(sol.f.astype(jnp.float32), sol.t.astype(jnp.float32), {}, 0, sol.problem)
    assert np.allclose(observe(single, orbit, channel).flux, flux, rtol=2e-5)


# ---- measured data

def test_the_reader_of_mageis_files_and_an_orbit_of_them():
    root = pathlib.Path(__file__).resolve().parents[1]
    script, data = root / "experiments" / "mageis_storm.py", root.parent / "shared" / "data"
    if not (script.is_file() and (data / "rbspa_mageis_20130316_20130321.mat").is_file()):
        pytest.skip("needs the measured data of ../shared/data, which is not part of the package")
    spec = importlib.util.spec_from_file_location("mageis_storm", script)
    storm = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(storm)
    dates, lstar, rates, band = storm.read_mageis(data)
    assert rates.shape == (39961, 10) and band.shape == (10, 2) and band[6] == pytest.approx([0.569, 1.123])
    assert str(dates[0]) == "2013-03-16T00:00:03.000" and str(dates[-1]) == "2013-03-20T23:59:57.000"
    orbit = Orbit.from_dates(dates, lstar, epoch="2013-03-16")                   # increasing, with gaps in L*
    assert np.isnan(orbit.L).sum() == 849 and np.nanmax(orbit.L) == pytest.approx(5.7815, abs=1e-3)
    ends = storm.turns(orbit.t, lstar)
    assert np.median(np.diff(ends)) == pytest.approx(4.49 * 3600, rel=0.02)      # half of the 8.98-hour orbit of the probes
