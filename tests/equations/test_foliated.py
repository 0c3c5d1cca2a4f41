"""The foliated equation: exact states and rates, what is conserved, walls, gradients, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import plain_jit

import jaxbelt as jb
from jaxbelt import foliated as fo
from jaxbelt.equations._foliated_flows import shear
from jaxbelt.equations._foliated_grid import spread
from jaxbelt.flows.diffusion import LineDiffusion

pytestmark = [pytest.mark.plain, pytest.mark.filterwarnings("ignore:cells of chi")]
SMALL = {"psi": (0.5, 0.7), "cells": (8, 16, 6), "mu": [0.5, 4.0], "v_max": 4.0}
CLOSED = {"inner": "reflecting", "outer": "reflecting", "planet": "reflecting"}


@pytest.fixture(scope="module")
def closed():
    """A closed box with its tables, the bounce over 0.25."""
    grid = fo.grid(**SMALL)
    return grid, fo.problem(grid, fo.Parameters(D_perp=5e-3), dt=0.25, **CLOSED)


@pytest.fixture(scope="module")
def around():
    """The same with theta."""
    grid = fo.grid(**SMALL, theta=8)
    prm = fo.Parameters(D_perp=5e-3, D_theta=1e-2, rho=0.05)
    return grid, fo.problem(grid, prm, dt=0.25, **CLOSED)


def everywhere(grid, a):
    """An array (psi, chi) on the cells of the grid that are above the planet."""
    return spread(grid, np.where(fo.live(grid), a, 0.0)) * np.ones(grid.shape)


def blob(grid, wave=0.0):
    c = fo.coordinates(grid)
    return everywhere(grid, 1.0) * np.exp(-0.5 * c.v**2 - 30 * (c.psi - 0.6) ** 2 - c.l**2 + 0.4 * c.v * c.l) * (
        1.0 + wave * np.cos(c.theta))


# ---- noise in psi

def test_a_wave_between_closed_walls_decays_exactly():
    grid = fo.grid(**SMALL | {"cells": (8, 16, 20)})
    psi, h = grid["psi"], grid["psi"].measure[0]
    x = np.pi * 3 * (psi.centers - psi.faces[0]) / (psi.faces[-1] - psi.faces[0])
    problem = fo.problem(grid, fo.Parameters(D_perp=5e-3), bounce="none", **CLOSED)
    f0 = everywhere(grid, (1 + np.cos(x) / 2)[:, None])
    f = np.asarray(jb.solve(problem, f0, t=[0.0, 7.0], dt=2.0).f[-1])
    rate = 0.5 * 5e-3 * 2 * (1 - np.cos(np.pi * 3 * h / (psi.faces[-1] - psi.faces[0]))) / h**2
    whole = fo.live(grid).all(axis=0)                          # lines of chi that meet no planet
    assert whole.any()
    np.testing.assert_allclose(f[0][:, whole, 3], np.broadcast_to((1 + np.cos(x) / 2 * np.exp(-7 * rate))[:, None],
                                                                  (psi.n, whole.sum())), atol=1e-13)


def only_lines(*args):
    return [flow for flow in fo.flows(*args) if isinstance(flow, LineDiffusion)]


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_the_steady_profile_of_the_noise(alpha):
    grid = fo.grid(**SMALL)
    at = fo.geometry(grid)
    problem = fo.problem(grid, fo.Parameters(D_perp=5e-2, alpha=alpha), bounce="none", **CLOSED)
    f0 = everywhere(grid, (at.r_cyl * at.B) ** (1 - 2 * alpha))
    radial = problem.replace(flows=only_lines)
    f = np.asarray(jb.solve(radial, f0, t=[0.0, 30.0], dt=10.0).f[-1])
    np.testing.assert_allclose(f, f0, rtol=1e-12, atol=0)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_heating_by_the_noise(alpha):
    """d<mu B>/dt and d<v^2/2>/dt of particles on one line of p, per unit of D: what the formulas say at that place."""
    grid = fo.grid(psi=(0.5, 0.8), cells=(8, 64, 120), mu=[1.0])
    k, j = 60, 4
    at, p = fo.geometry(grid), grid["p"].centers
    f0 = np.zeros(grid.shape)
    f0[0, k, j] = np.exp(-0.5 * (at.B[k, j] * p) ** 2)
    D, dt = 1e-4, 0.02                                         # spreads by 1.4e-3 in psi: half a cell
    problem = fo.problem(grid, fo.Parameters(D_perp=D, alpha=alpha), bounce="none", **CLOSED)
    f = np.asarray(jb.solve(problem, f0, t=[0.0, dt], dt=dt).f)
    c, number = fo.coordinates(grid), float(grid.content(f[0]))
    B, h = at.B[k, j], 0.5 - alpha
    square = float(grid.content(f[0] * grid.centers("p") ** 2)) / number
    perp, par = (float(grid.content((f[1] - f[0]) * e)) / (number * D * dt)
                 for e in (c.mu * spread(grid, at.B), 0.5 * c.v**2))
    rate = 0.5 * at.B_psipsi[k, j] + h * at.a[k, j] * at.B_psi[k, j]
    assert abs(perp / rate - 1) < 1e-3
    rate = square * (0.5 * (at.B_psi[k, j] ** 2 + B * at.B_psipsi[k, j])
                     + h * (at.a[k, j] * B * at.B_psi[k, j] - at.c[k, j] * B**2))
    assert abs(par / rate - 1) < 2e-3
    x = at.psi[k, j] ** 2                                      # near the equator: 3 + 6 h and 15 - 12 h
    assert abs(perp * x / B - (3 + 6 * h)) < 0.5 and abs(par * x / (0.5 * B**2 * square) - (15 - 12 * h)) < 2.5
    assert abs(float(grid.content(f[1])) / number - 1) < 1e-13


# ---- the whole splitting in a closed box

def entropies(grid, f):
    return np.asarray(fo.leaf_entropy(grid, f))


EVERY_STEP = np.arange(0.0, 250.1, 0.25)                       # one program for the two tests, and for both states


@pytest.mark.slow
@pytest.mark.optimised
def test_a_closed_box_keeps_number_and_flat_state_and_gains_entropy(closed):
    grid, problem = closed
    f = np.asarray(jb.solve(problem, blob(grid), t=EVERY_STEP, dt=0.25).f)
    number = np.asarray(grid.content(f))
    assert np.max(np.abs(number / number[0] - 1)) < 1e-12
    assert f.min() >= 0
    assert np.all(np.diff(entropies(grid, f)) > -1e-12 * number[0])
    assert np.all(np.diff(np.asarray(grid.content(f**2))) < 1e-12 * number[0])
    # the first fifty steps, far from equilibrium, one by one
    s, q = entropies(grid, f[:51]), np.asarray(grid.content(f[:51] ** 2))
    assert np.all(np.diff(s) > 0) and np.all(np.diff(q) < 0)
    flat = everywhere(grid, 1.0)
    again = np.asarray(jb.solve(problem, flat, t=EVERY_STEP, dt=0.25).f[-1])
    np.testing.assert_allclose(again, flat, rtol=1e-11)


@pytest.mark.optimised
@pytest.mark.slow
def test_a_closed_box_around(around):
    grid, problem = around
    sol = jb.solve(problem, blob(grid, 0.8), t=np.arange(0.0, 250.1, 5.0), dt=0.25)
    f = np.asarray(sol.f)
    number = np.asarray(grid.content(f))
    assert np.max(np.abs(number / number[0] - 1)) < 1e-12
    assert f.min() >= 0
    assert np.all(np.diff(entropies(grid, f)) > -1e-12 * number[0])


def test_without_waves_theta_changes_nothing(closed, around):
    plain, problem = closed
    grid, whole = around
    t = [0.0, 2.0]
    one = np.asarray(jb.solve(problem, blob(plain), t=t, dt=0.25).f[-1])
    many = np.asarray(jb.solve(whole, blob(grid), t=t, dt=0.25).f[-1])
    np.testing.assert_allclose(many, np.broadcast_to(one[..., None], many.shape), rtol=1e-9, atol=1e-13)


def test_open_walls_and_planet_are_accounted_for():
    grid = fo.grid(**SMALL)
    problem = fo.problem(grid, fo.Parameters(D_perp=5e-3, alpha=0.2), dt=0.5)
    sol = jb.solve(problem, fo.maxwellian(grid), t=np.arange(0.0, 5.1, 0.5), dt=0.5)
    number, moved = np.asarray(grid.content(sol.f)), sum(np.asarray(x) for x in sol.budget.values())
    assert int(sol.result) == 0 and np.all(np.diff(number) < 0)
    np.testing.assert_allclose(number - number[0], moved, atol=1e-13 * number[0])
    assert all(float(sol.budget[k][-1]) < 0 for k in ("loss", "psi.lower", "psi.upper"))
    assert not np.asarray(sol.f)[..., ~fo.live(grid), :].any()


def test_a_step_that_the_tables_were_not_made_for_is_refused(closed):
    grid, problem = closed
    with pytest.raises(ValueError, match="tables of this problem are for steps of 0.25, but this run takes steps of 0.2"):
        jb.solve(problem, blob(grid), t=[0.0, 1.0], dt=0.2)
    # where the tables are traced nothing can be raised: the result says it
    schedule = jb.solve.__globals__["plan"](problem.replace(tables=None), [0.0, 1.0], 0.2)
    code = jb.solve.__globals__["advance"](problem, blob(grid), schedule)[2]
    assert int(code) == 4 and "dt of solve" in jb.Result(4).message


def test_the_energy_of_a_closed_box_is_kept_by_the_closing_friction(closed):
    grid, problem = closed
    H = fo.energy(grid)
    drift = []
    for gamma in (None, fo.Closing()):
        prm = fo.Parameters(D_perp=5e-3, alpha=0.3, gamma=gamma)
        made = fo.problem(grid, prm, bounce="none", **CLOSED)
        f = jb.solve(made, blob(grid), t=[0.0, 1.0, 2.0], dt=0.1).f
        E = np.asarray(grid.content(f * H))
        drift.append(abs(E[-1] / E[0] - 1))
    assert drift[0] > 0.02 and drift[1] < 0.01 * drift[0]


# ---- noise and friction along the field

@pytest.mark.parametrize("theta", [None, 8])
def test_noise_and_friction_balance_in_the_maxwellian(theta):
    """exp(-2 gamma H/D_par) carries no flux through any face, around as along; so it stands still to rounding."""
    grid = fo.grid(**SMALL | {"mu": [0.5]}, theta=theta)
    prm = fo.Parameters(D_par=0.2, gamma=0.1, detailed_balance=theta is not None, rho=0.0 if theta is None else 0.05)
    problem = fo.problem(grid, prm, bounce="none", **CLOSED)
    f0 = everywhere(grid, 1.0) * np.exp(-np.minimum(fo.energy(grid), 30.0)) * np.ones(grid.shape)
    f = np.asarray(jb.solve(problem, f0, t=[0.0, 2.0], dt=0.5).f[-1])
    low = np.broadcast_to((fo.energy(grid) < 25.0) & (everywhere(grid, 1.0) > 0), grid.shape)
    assert np.max(np.abs(f - f0)[low]) < 1e-13
    far = np.asarray(jb.solve(problem, blob(grid), t=[0.0, 1.0], dt=0.5).f)
    assert np.max(np.abs(far[1] - far[0])) > 0.01              # what is no Maxwellian does move
    assert abs(float(grid.content(far[1]) / grid.content(far[0])) - 1) < 1e-13


def test_finite_volumes_keep_the_flat_state_or_the_maxwellian():
    from jaxbelt.equations._foliated_flows import bounce_stream

    grid = fo.grid(**SMALL | {"cells": (8, 16, 3)})
    for temperature in (None, 1.0):
        weight = bounce_stream(grid, "reflecting", temperature)[1]
        f0 = everywhere(grid, 1.0) * (1.0 if weight is None else weight)
        problem = fo.problem(grid, fo.Parameters(), bounce="finite-volume", temperature=temperature, **CLOSED)
        f = np.asarray(jb.solve(problem, f0, t=[0.0, 0.2], dt=0.1).f[-1])
        np.testing.assert_allclose(f, f0, rtol=1e-12, atol=1e-300)
        if weight is not None:                                 # and that state is exp(-(H - H_min)), cell by cell
            e = fo.energy(grid) - (grid.centers("mu") * grid.centers("psi") ** 3)
            cool = np.broadcast_to(e < 4.0, grid.shape) & (everywhere(grid, 1.0) > 0)
            inner = cool[..., 1:-1, :] & cool[..., 2:, :] & cool[..., :-2, :]
            assert inner.any() and np.max(np.abs(weight / np.exp(-e) - 1)[..., 1:-1, :][inner]) < 1e-12


def test_friction_without_noise_contracts():
    grid = fo.grid(**SMALL | {"cells": (8, 80, 3), "mu": [0.5]})
    problem = fo.problem(grid, fo.Parameters(gamma=0.3), bounce="none", **CLOSED)
    f0 = blob(grid)
    f = jb.solve(problem, f0, t=[0.0, 1.0], dt=0.25).f
    E = np.asarray(fo.averages(grid, f).E_par)
    assert abs(E[1] / E[0] / np.exp(-0.6) - 1) < 2e-3
    # the same as a drift in v of one's own
    own = fo.problem(grid, fo.Parameters(C_v=lambda t, l, v, psi, mu: -0.3 * v), bounce="none", **CLOSED)
    g = jb.solve(own, f0, t=[0.0, 1.0], dt=0.25).f
    assert np.max(np.abs(np.asarray(g[-1] - f[-1]))) < 2e-3 * float(jnp.max(f))


# ---- drifts around

def test_particles_turn_at_their_drift_rate():
    grid = fo.grid(**SMALL | {"mu": [3.0]}, theta=16)
    at = fo.geometry(grid)
    prm = fo.Parameters(D_theta=0.02, rho=0.1, potential=lambda t, psi: 0.5 * psi**2)
    problem = fo.problem(grid, prm, bounce="none", **CLOSED)
    theta = grid["theta"].centers
    f0 = everywhere(grid, 1.0) * (1.0 + 0.5 * np.cos(theta))
    t = 3.0
    f = np.asarray(jb.solve(problem, f0, t=[0.0, t], dt=1.0).f[-1])
    p = grid["p"].centers
    rate = 0.1 * (at.B[..., None] * p**2 + 3.0) * at.B_psi[..., None] + grid["psi"].centers[:, None, None]
    exact = 1.0 + 0.5 * np.exp(-0.01 * t) * np.cos(theta - rate[..., None] * t)
    good = fo.live(grid)
    np.testing.assert_allclose(f[0][good], exact[good], atol=1e-12)


# ---- walls, sources, drifts of one's own

def test_walls_with_values_feed_the_flat_state():
    grid = fo.grid(**SMALL)
    outer = lambda t, l, v, theta, psi, mu: 2.0 + 0.0 * l * v * mu      # noqa: E731, E741
    problem = fo.problem(grid, fo.Parameters(D_perp=5e-2), inner=2.0, outer=outer, planet="reflecting", bounce="none")
    f = np.asarray(jb.solve(problem, everywhere(grid, 2.0), t=[0.0, 3.0], dt=1.0).f[-1])
    np.testing.assert_allclose(f, everywhere(grid, 2.0), rtol=1e-12)
    empty = np.asarray(jb.solve(problem, np.zeros(grid.shape), t=[0.0, 400.0], dt=20.0).f[-1])
    np.testing.assert_allclose(empty, everywhere(grid, 2.0), rtol=1e-6)


def test_sources_and_lifetimes():
    grid = fo.grid(**SMALL)
    prm = fo.Parameters(D_perp=5e-3, source=lambda t, l, v, theta, psi, mu: jnp.exp(-(v**2)) + 0.0 * mu, lifetime=2.0)
    problem = fo.problem(grid, prm, bounce="none", **CLOSED)
    sol = jb.solve(problem, np.zeros(grid.shape), t=[0.0, 1.0], dt=0.5)
    rate = float(grid.content(everywhere(grid, 1.0) * np.exp(-fo.coordinates(grid).v ** 2)))
    assert abs(float(grid.content(sol.f[-1])) / (rate * 2.0 * (1 - np.exp(-0.5))) - 1) < 1e-12


@pytest.mark.slow
def test_a_drift_in_psi_moves_the_middle():
    grid = fo.grid(**SMALL | {"cells": (8, 16, 40)})
    prm = fo.Parameters(D_perp=1e-4, C_psi=lambda t, l, v, psi, mu: 0.02 + 0.0 * v * psi * mu)
    problem = fo.problem(grid, prm, bounce="none", inner="reflecting", outer="reflecting")
    psi = grid.centers("psi")
    f0 = everywhere(grid, 1.0) * np.exp(-0.5 * ((psi - 0.57) / 0.02) ** 2) * np.exp(-0.5 * fo.coordinates(grid).v ** 2)
    f = jb.solve(problem, f0, t=[0.0, 2.0], dt=0.1).f
    mean = np.asarray(grid.content(f * psi) / grid.content(f))
    assert abs(mean[1] - mean[0] - 0.04) < 1e-3


@pytest.mark.slow
def test_runs_side_by_side_are_the_runs_alone():
    axis = jb.Axis.nodes("D_perp", [5e-3, 5e-4])
    both = fo.grid(**SMALL, nodes=axis)
    alone = fo.grid(**SMALL)
    prm = [fo.Parameters(D_perp=D, alpha=0.2) for D in axis.centers]
    problem = fo.problem(both, prm, dt=0.5)
    f0 = fo.maxwellian(alone)
    f = np.asarray(jb.solve(problem, np.broadcast_to(f0, both.shape), t=[0.0, 1.0], dt=0.5).f[-1])
    for k in range(2):
        one = problem.replace(grid=alone, parameters=prm[k], boundary=jax.tree.map(lambda x, k=k: x[k], problem.boundary))
        np.testing.assert_allclose(f[k], np.asarray(jb.solve(one, f0, t=[0.0, 1.0], dt=0.5).f[-1]), rtol=1e-10, atol=1e-15)


# ---- gradients

def heat(D, problem, steps=4):
    grid = problem.grid
    prm = fo.Parameters(D_perp=D, alpha=0.3, gamma=0.02)
    f = jb.solve(problem.replace(parameters=prm), blob(grid), t=[0.0, 0.25 * steps], dt=0.25).f[-1]
    return fo.averages(grid, f).T_perp


@pytest.mark.slow                                              # the quick run has that of `solve` alone
def test_memory_of_the_gradient(closed):
    """Reverse mode keeps the states at the outputs and at two levels of checkpoints between them, not every step."""
    problem = closed[1]
    few, many = (plain_jit(jax.grad(lambda D, p, n=n: heat(D, p, n))).lower(5e-3, problem).compile().memory_analysis()
                 for n in (4, 256))
    assert many.temp_size_in_bytes < 4 * few.temp_size_in_bytes              # 64 times as many steps


@pytest.mark.slow
def test_gradient_of_the_temperature(closed):
    """d<T_perp>/dD_perp in reverse and forward mode and by differences."""
    problem, D = closed[1], 5e-3
    back = float(plain_jit(jax.grad(heat))(D, problem))
    ahead = plain_jit(lambda D, problem: jax.jvp(lambda D: heat(D, problem), (D,), (1.0,)))
    along = float(ahead(D, problem)[1])
    h = 1e-5 * D                                               # no cell changes sign, no plane its share of averages
    values = [float(ahead(D + k * h, problem)[0]) for k in (-2, -1, 1, 2)]
    central = (8 * (values[2] - values[1]) - (values[3] - values[0])) / (12 * h)
    assert back != 0 and abs(back / along - 1) < 1e-11 and abs(central / along - 1) < 1e-7


# ---- bad input

@pytest.mark.parametrize("kw, words", [
    ({"psi": (0.5, 1.2)}, "psi: .*inside the planet"), ({"L": (0.9, 2.0)}, "L: .*surface"), ({}, "psi: give either"),
    ({"psi": (0.5, 0.8), "mu": [1.0, 0.0]}, "mu: .*0"),
    ({"psi": (0.05, 0.95), "cells": (24, 24, 10)}, "too much for 24 cells of p"),
    ({"psi": (0.5, 0.8), "cells": (7, 12, 6)}, "cells of chi: needs an even"),
    ({"psi": (0.5, 0.8), "v_max": -1.0}, "v_max: must be positive"),
])
def test_grids_that_cannot_be(kw, words):
    with pytest.raises(ValueError, match=words):
        fo.grid(**kw)


@pytest.mark.parametrize("prm, kw, words", [
    ({"alpha": 1.2}, {}, "alpha: .*1.2"), ({"D_perp": -1.0}, {}, "D_perp: .*-1"), ({"gamma": -0.1}, {}, "gamma: .*-0.1"),
    ({}, {"inner": "open"}, "inner: 'open' is unknown"), ({}, {"planet": "soft"}, "planet: 'soft'"),
    ({}, {"bounce": "remap"}, "dt: "), ({}, {"bounce": "fast"}, "bounce: 'fast'"),
    ({"lifetime": 0.0}, {}, "lifetime: must be positive"), ({}, {"temperature": 1.0}, "temperature: weights the finite-volume"),
])
def test_problems_that_cannot_be(prm, kw, words):
    with pytest.raises(ValueError, match=words):
        fo.problem(fo.grid(**SMALL), fo.Parameters(**prm), **{"bounce": "none"} | kw)


@pytest.mark.parametrize("prm, kw, words", [
    ({"source": -1.0}, {}, "source: must be at least 0 everywhere.*got -1"),
    ({"source": lambda t, l, v, theta, psi, mu: -0.5 * mu}, {}, "source: must be at least 0"),
    ({}, {"inner": -2.0}, "inner: must be at least 0 everywhere.*got -2"),
    ({}, {"outer": lambda t, l, v, theta, psi, mu: jnp.minimum(v, 0.0)}, "outer: must be at least 0"),
    ({}, {"outer": jb.Series([0.0, 1.0], [1.0, -1.0])}, "outer: must be at least 0"),
    ({}, {"inner": np.ones((3, 4))}, r"inner: an array of shape \(3, 4\) does not fit"),
    ({"C_v": lambda t, v: v}, {}, r"C_v: is called as a function of \(t, l, v, psi, mu\): too many"),
    ({"potential": lambda psi: psi}, {}, r"potential: is called as a function of \(t, psi\)"),
    ({"D_perp": lambda t, psi: psi}, {}, r"D_perp: is called as a function of \(t\): missing"),
    ({"lifetime": lambda t, l, v, psi, mu: mu}, {}, r"lifetime: is called as a function of \(t, l, v, theta, psi, mu\)"),
    ({}, {"inner": lambda t, l, v: v}, r"inner: is called as a function of \(t, l, v, theta, psi, mu\)"),
    ({"D_par": lambda t: jnp.ones(3) * t}, {}, r"D_par: as a function of \(t\) must give one number, got shape \(3,\)"),
    ({"C_l": lambda t, l, v, psi, mu: jnp.ones((2, 6, 8, 16))}, {}, "C_l: .* must give shape"),
    ({"source": lambda t, l, v, theta, psi, mu: jnp.ones((5, 5))}, {}, "source: .* must give shape"),
    ({"source": lambda t, l, v, theta, psi, mu: missing_name}, {}, "source: calling this .* fails: NameError"),   # noqa: F821
    ({"source": np.ones((4, 4))}, {}, r"source: an array of shape \(4, 4\) does not fit the grid"),
])
def test_negative_values_and_wrong_functions_are_one_line(prm, kw, words):
    with pytest.raises(ValueError, match=words) as caught:
        fo.problem(fo.grid(**SMALL), fo.Parameters(**prm), **{"bounce": "none"} | kw)
    assert "\n" not in str(caught.value)


def test_a_negative_start_is_refused(tmp_path):
    grid = fo.grid(**SMALL)
    problem = fo.problem(grid, fo.Parameters(D_perp=5e-3), bounce="none", **CLOSED)
    f0 = blob(grid)
    with pytest.raises(ValueError, match="f0: P must be at least 0 everywhere, got -0.1"):
        jb.solve(problem, f0 - 0.1, t=[0.0, 1.0], dt=0.5)
    with pytest.raises(ValueError, match="f0: P must be at least 0"):
        jb.run(problem, f0 - 0.1, t=[0.0, 1.0], dt=0.5, out=tmp_path / "x.nc")
    jax.eval_shape(lambda f: jb.solve(problem, f, t=[0.0, 1.0], dt=0.5).f, -f0)            # traced ones pass


def test_few_cells_along_the_field_and_shear_above_the_planet_are_warned_of():
    import warnings

    with pytest.warns(UserWarning, match="cells of chi: 8 are too few for E_par.*at least 20"):
        fo.problem(fo.grid(**SMALL), fo.Parameters(), bounce="none")
    grid = fo.grid(psi=(0.5, 0.9), cells=(20, 60, 3), mu=[1.0], theta=8)
    dead = ~spread(grid, fo.live(grid))
    turn = 4 * np.abs(np.diff(shear(grid, 1.0), axis=3))
    above, all_of_it = float(np.max(np.where(dead, 0.0, turn))), float(np.max(turn))
    assert all_of_it > 1.1 * above                             # it is steepest where there is no plasma
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fo.problem(grid, fo.Parameters(D_par=0.1, rho=0.99 * np.pi / above), bounce="none")
    with pytest.warns(UserWarning, match="D_par with theta"):
        fo.problem(grid, fo.Parameters(D_par=0.1, rho=1.01 * np.pi / above), bounce="none")


def test_a_distribution_that_p_max_cuts_is_refused():
    with pytest.raises(ValueError, match=r"v_max: p_max = .* cuts the distribution: .* %"):
        fo.maxwellian(fo.grid(**SMALL), temperature=8.0)
