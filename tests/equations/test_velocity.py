"""Velocity diffusion (5.11) against its exact solutions, moments and steady states."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxbelt as jb
from jaxbelt import velocity
from jaxbelt.equations.velocity import Flux, PowerLaw, Units, moment, s_between

pytestmark = pytest.mark.plain

C = 0.02          # nu_par G


def kernel(t, v, c=C, sigma=0.3):
    """The spreading of exp(-ln(v)^2/2 sigma^2) v^-3 type data: the exact solution for a Gaussian start."""
    wide = sigma**2 + 2 * c * t
    x = jnp.log(v)
    return sigma / jnp.sqrt(wide) * jnp.exp(-((x + 3 * c * t) ** 2) / (2 * wide))


def spread(cells, steps, t=4.0):
    """Errors of a Gaussian in ln v at time t, in content."""
    grid = velocity.grid(v=(0.02, 20.0), cells=cells)
    v = grid["v"].centers
    problem = velocity.problem(grid, velocity.Parameters(rate=C))
    sol = jb.solve(problem, kernel(0.0, v), t=[0.0, t], dt=t / steps)
    exact = kernel(t, v)
    return float(grid.content(abs(sol.f[-1] - exact)) / grid.content(exact))


def test_order_two_in_ln_v_and_time():
    errors = [spread(n, n // 4) for n in (64, 128, 256)]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all(orders > 1.95) and errors[-1] < 1e-3


@pytest.mark.optimised
def test_number_of_a_maxwellian_over_many_steps():
    """Closed walls keep number, and nothing becomes negative, over 1e5 steps; energy grows as exp(10 c t)."""
    grid = velocity.grid(v=(0.01, 1000.0), cells=256)
    v = grid["v"].centers
    problem = velocity.problem(grid, velocity.Parameters(rate=C))
    g0 = np.exp(-(v**2))
    sol = jb.solve(problem, g0, t=[0.0, 1.0, 1e4], dt=0.1)     # spread over the whole grid in the end
    number = moment(grid, sol.f, 0)
    assert np.max(np.abs(number / number[0] - 1)) < 1e-12 and np.min(sol.f) >= 0
    energy = moment(grid, sol.f, 2)
    assert float(energy[1] / energy[0]) == pytest.approx(np.exp(10 * C), rel=2e-4)


@pytest.mark.optimised
def test_moments_grow_as_they_must():
    """d<v^q>/dt = q (q + 3) c <v^q>: <v^-3> and number constant, energy exp(10 c t), <v^4> exp(28 c t) (case 15)."""
    def rates(cells):
        grid = velocity.grid(v=(1e-4, 1e4), cells=cells)
        g0 = np.exp(-np.log(grid["v"].centers) ** 2)
        sol = jb.solve(velocity.problem(grid, velocity.Parameters(rate=C)), g0, t=[0.0, 2.0], dt=1.0 / 64)
        return np.array([float(jnp.log(m[1] / m[0])) / (2 * C) for m in (moment(grid, sol.f, q) for q in (-3, 0, 2, 4))])

    exact = np.array([0.0, 0.0, 10.0, 28.0])
    coarse, fine = rates(256), rates(512)
    assert abs(fine[1]) < 1e-11
    assert np.all(np.abs(fine - exact) < 5e-3 * np.array([1, 1, 10, 28]))
    assert np.log2(np.abs(coarse - exact)[2:] / np.abs(fine - exact)[2:]) == pytest.approx([2, 2], abs=0.1)


@pytest.mark.optimised
def test_constant_flux_is_steady():
    """v^-3 between a flux that comes in and the power law that goes on, and between two values: 1e-12 (case 16)."""
    grid = velocity.grid(v=(0.1, 100.0), cells=512)
    v = grid["v"].centers
    prm = velocity.Parameters(nu_par=3.0, nu_xi=1.0, h=1.0)
    c = float(jb.mixing.diffusion_rate(3.0, 1.0, 1.0))
    for walls in ({"inner": Flux(value=3 * c), "outer": PowerLaw(exponent=3.0)}, {"inner": 0.1**-3, "outer": 100.0**-3}):
        sol = jb.solve(velocity.problem(grid, prm, **walls), v**-3, t=[0.0, 1e3, 1e6], dt=1e5)
        assert np.max(np.abs(np.asarray(sol.f) * v**3 - 1)) < 1e-12
        assert float(sol.budget["v.upper"][-1]) == pytest.approx(-3 * c * 1e6, rel=1e-10)
        assert float(sol.budget["v.lower"][-1]) == pytest.approx(3 * c * 1e6, rel=1e-10)


@pytest.mark.parametrize("s", [-2.0, 1.0, 4.0, 5.0])
def test_a_power_law_grows_at_its_rate(s):
    """v^-s grows as exp(s (s - 3) c t) (case 16), between walls that know it."""
    errors = []
    for cells in (64, 128):
        grid = velocity.grid(v=(0.5, 2.0), cells=cells)
        v, lam = grid["v"].centers, s * (s - 3) * C
        walls = {w: jb.function(lambda t, x=x, lam=lam: x**-s * jnp.exp(lam * t)) for w, x in (("inner", 0.5), ("outer", 2.0))}
        sol = jb.solve(velocity.problem(grid, velocity.Parameters(rate=C), **walls), v**-s, t=[0.0, 5.0], dt=5.0 / cells)
        errors.append(float(np.max(np.abs(sol.f[-1] / (v**-s * np.exp(5 * lam)) - 1))))
    assert errors[1] < 2e-4 and (np.log2(errors[0] / errors[1]) > 1.9 or errors[1] < 1e-11)


def test_source_and_sink_make_a_power_law():
    """Slopes above and below the source, and g there: case 17, gamma = 4 at c tau = 0.25, within 0.1 % at 512 cells."""
    grid = velocity.grid(v=(1e-3, 1e3), cells=512)
    v, dx = grid["v"].centers, np.log(1e6) / 512
    k = 256
    source = np.zeros(512)
    source[k] = 1.0 / (4 * np.pi * grid["v"].measure[k])       # one particle a unit of time
    tau = 0.25 / C
    sol = jb.solve(velocity.problem(grid, velocity.Parameters(rate=C, source=source, lifetime=tau)), np.zeros(512),
                   t=[0.0, 40 * tau], dt=tau / 4)
    g = np.asarray(sol.f[-1])
    slope = -np.diff(np.log(g)) / dx
    assert slope[k + 40:k + 120] == pytest.approx(4.0, rel=1e-3)
    assert slope[k - 120:k - 40] == pytest.approx(-1.0, rel=1e-3)
    assert g[k] == pytest.approx(1.0 / (4 * np.pi * C * v[k] ** 3 * 5.0), rel=2e-2)


def test_rates_in_time_cost_no_accuracy():
    """Only s = integral of nu_par G counts: the same g for a constant and for a varying rate, at the same steps of s."""
    grid = velocity.grid(v=(0.02, 20.0), cells=128)
    g0 = kernel(0.0, grid["v"].centers)
    nu = jb.Series([0.0, 2.0, 4.0], [0.5, 3.5, 0.5], kind="linear")
    prm = velocity.Parameters(nu_par=nu, nu_xi=1.0, h=jb.function(lambda t: 0.5 + 0.1 * t))
    problem = velocity.problem(grid, prm)
    s = float(s_between(prm, 0.0, 4.0))
    fine = np.linspace(0.0, 4.0, 20001)
    direct = np.trapezoid([float(x) for x in jb.mixing.diffusion_rate(np.interp(fine, [0, 2, 4], [0.5, 3.5, 0.5]), 1.0,
                                                                      0.5 + 0.1 * fine)], fine)
    assert s == pytest.approx(direct, rel=1e-7)
    constant = jb.solve(velocity.problem(grid, velocity.Parameters(rate=s / 4.0)), g0, t=[0.0, 4.0], dt=0.1).f[-1]
    varying = jb.solve(problem, g0, t=[0.0, 4.0], dt=0.1).f[-1]
    size = float(np.max(g0) * s)
    assert float(np.max(np.abs(varying - constant))) < 3e-5 * size


def test_gradients_of_the_heating_rate():
    """d ln(energy)/d(nu_par, nu_xi, h): reverse == forward == differences."""
    grid = velocity.grid(v=(0.02, 50.0), cells=96)
    g0 = np.exp(-grid["v"].centers ** 2)

    @jax.jit
    def heating(x):
        prm = velocity.Parameters(nu_par=x[0], nu_xi=x[1], h=x[2], lifetime=10.0 * x[0], source=0.01 * g0)
        sol = jb.solve(velocity.problem(grid, prm), g0, t=[0.0, 2.0, 4.0], dt=0.25)
        return jnp.log(moment(grid, sol.f[-1], 2))

    x, d = jnp.array([1.5, 0.5, 0.8]), jnp.array([0.7, -0.3, 0.4])
    reverse = jax.grad(heating)(x)
    forward = jax.jvp(heating, (x,), (d,))[1]
    h = 1e-3
    diff = [float(heating(x + k * h * d) - heating(x - k * h * d)) for k in (1, 2)]
    central = (8 * diff[0] - diff[1]) / (12 * h)
    assert float(reverse @ d) == pytest.approx(float(forward), rel=1e-11)
    assert central == pytest.approx(float(forward), rel=1e-7)


def test_units_there_and_back():
    units = Units.of_energy(100.0, t0=10.0, n0=5e6)
    assert units.energy(1.0) == pytest.approx(100.0) and units.velocity(1.0) == pytest.approx(5.931e6, rel=1e-3)
    assert units.dimensionless(energy=units.energy(0.3)) == pytest.approx(0.3)
    assert units.dimensionless(psd=units.psd(2.0)) == pytest.approx(2.0) and units.time(3.0) == 30.0
    with pytest.raises(ValueError, match="give one of"):
        units.dimensionless()


@pytest.mark.parametrize("change, words", [
    ({"h": 0.0}, "h: must be positive .*got 0"), ({"h": -1.0}, "h: must be positive"), ({"nu_par": -1.0}, "nu_par: must be at"),
    ({"nu_xi": np.nan}, "nu_xi: must be at least 0 and finite, got nan"), ({"rate": 1.0}, "give nu_par, nu_xi and h, or rate"),
    ({"h": None}, "give nu_par, nu_xi and h"), ({"lifetime": 0.0}, "lifetime: must be positive"),
    ({"source": np.zeros(7)}, r"source: an array of shape \(7,\)"), ({"nu_par": 0.0, "nu_xi": 0.0}, "both are 0"),
])
def test_wrong_parameters_are_named(change, words):
    prm = velocity.Parameters(**({"nu_par": 1.0, "nu_xi": 0.3, "h": 0.5} | change))
    with pytest.raises(ValueError, match=words) as caught:
        velocity.problem(velocity.grid(cells=8), prm)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("make, words", [
    (lambda: velocity.grid(v=(0.0, 1.0)), "v: needs .lowest, highest. with 0 < lowest"),
    (lambda: velocity.grid(cells=1), "cells: needs a whole number"),
    (lambda: velocity.problem(velocity.grid(cells=8), velocity.Parameters(rate=1.0), inner=PowerLaw()), "inner: a power law v"),
    (lambda: velocity.problem(velocity.grid(cells=8), velocity.Parameters(rate=1.0), outer="shut"), "outer: 'shut' is unknown"),
    (lambda: velocity.problem(velocity.grid(cells=8), velocity.Parameters(rate=1.0), outer=np.ones(3)), "outer: needs one"),
])
def test_wrong_grids_and_walls_are_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()
