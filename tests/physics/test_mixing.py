from math import comb

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from jaxbelt.physics import mixing

pytestmark = pytest.mark.plain


def finite(tree):
    return all(np.all(np.isfinite(x)) for x in jax.tree.leaves(tree))


# the rate of diffusion, (5.11)-(5.12)


def test_rate_check_values():
    np.testing.assert_allclose(mixing.G(1.0, 1.0), 1 / (2 * 45 * 2**1.5), rtol=1e-14)
    np.testing.assert_allclose(mixing.G(1 / 3, 7.0), 0.25 * 7 / 45 * (7 / 8) ** 1.5, rtol=1e-14)
    np.testing.assert_allclose(mixing.diffusion_rate(3.0, 1.0, 1.0), 3.0 * mixing.G(1 / 3, 1.0), rtol=1e-14)
    ratio, h = np.geomspace(1e-6, 1e6, 13)[:, None], np.geomspace(1e-3, 1e3, 7)
    np.testing.assert_allclose(mixing.diffusion_rate(2.0, 2.0 * ratio, h), 2.0 * mixing.G(ratio, h), rtol=1e-13)
    np.testing.assert_allclose(mixing.G(np.inf, h), h / 45 * (h / (1 + h)) ** 1.5, rtol=1e-14)


def test_rate_log_slopes():
    slope = jax.jit(jax.vmap(jax.grad(lambda x: jnp.log(mixing.G(0.2, jnp.exp(x))))))
    h = np.array([1e-3, 1e-2, 1e2, 1e4])
    np.testing.assert_allclose(slope(np.log(h)), 1.0 + 1.5 / (1.0 + h), rtol=1e-12)
    assert abs(slope(np.log(h))[0] - 2.5) < 2e-3 and abs(slope(np.log(h))[3] - 1.0) < 2e-4
    in_ratio = jax.vmap(jax.grad(lambda x: jnp.log(mixing.G(jnp.exp(x), 1.0))))(np.log([1e-6, 1.0, 1e6]))
    np.testing.assert_allclose(in_ratio, [1 / (1 + 1e-6), 0.5, 1 / (1 + 1e6)], rtol=1e-9)


def test_rate_gradients():
    gradient = jax.jit(jax.vmap(jax.grad(mixing.diffusion_rate, argnums=(0, 1, 2))))
    nu_par, nu_xi = np.array([0.0, 1.0, 0.0, 2.0, 1e-12]), np.array([0.0, 0.0, 1.0, 0.7, 3.0])
    h = np.array([1.0, 0.5, 2.0, 7.0, 1e-12])
    assert finite(gradient(nu_par, nu_xi, h))
    d_par, d_xi, d_h = gradient(nu_par, nu_xi, h)
    shape = h / 45 * (h / (1 + h)) ** 1.5
    total = np.where(nu_par + nu_xi > 0, nu_par + nu_xi, 1.0)
    np.testing.assert_allclose(d_par, (nu_xi / total) ** 2 * shape, rtol=1e-13)
    np.testing.assert_allclose(d_xi, (nu_par / total) ** 2 * shape, rtol=1e-13)
    forward = jax.jit(jax.vmap(jax.jacfwd(mixing.diffusion_rate, argnums=(0, 1, 2))))(nu_par, nu_xi, h)
    np.testing.assert_allclose(forward, (d_par, d_xi, d_h), rtol=1e-13)
    step = 1e-6
    difference = (mixing.diffusion_rate(2.0, 0.7, 7 + step) - mixing.diffusion_rate(2.0, 0.7, 7 - step)) / (2 * step)
    np.testing.assert_allclose(d_h[3], difference, rtol=1e-8)
    edges = jax.vmap(jax.grad(mixing.G, argnums=(0, 1)))(np.array([0.0, 1.0, np.inf, 1e300]), np.array([1.0, 1e-300, 1.0, 1e300]))
    assert finite(edges) and edges[0][0] == mixing.G(np.inf, 1.0) and edges[0][2] == 0.0


@pytest.mark.optimised
def test_rate_single_precision():
    nu_par, nu_xi, h = np.float32(2.0), np.float32(0.3), np.array([1e-3, 1.0, 7.0], np.float32)
    for value, exact in ((mixing.diffusion_rate(nu_par, nu_xi, h), mixing.diffusion_rate(2.0, 0.3, h.astype(float))),
                         (mixing.G(nu_xi, h), mixing.G(0.3, h.astype(float)))):
        assert value.dtype == np.float32
        np.testing.assert_allclose(value, exact, rtol=3e-6)


def test_rate_bad_input():
    for h in (0.0, -0.5, np.nan, np.inf, np.array([1.0, 0.0])):
        with pytest.raises(ValueError, match=r"mixing h = .* above 0 and finite"):
            mixing.G(1.0, h)
        with pytest.raises(ValueError, match=r"mixing h = "):
            mixing.diffusion_rate(1.0, 1.0, h)
    with pytest.raises(ValueError, match=r"mixing ratio = -0.1: it must be at least 0"):
        mixing.G(-0.1, 1.0)
    with pytest.raises(ValueError, match=r"mixing nu_par = -1: it must be a rate"):
        mixing.diffusion_rate(-1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match=r"mixing nu_xi = inf: it must be a rate"):
        mixing.diffusion_rate(1.0, np.inf, 1.0)
    assert finite(jax.jit(mixing.diffusion_rate)(-1.0, 1.0, -1.0))         # traced: counted as 0


# the map of a whole cycle


BOTH = ("floor", "barrier")
PAPER = mixing.Well()
before = jax.jit(mixing.energy_before, static_argnames=("cycles", "scenario"))
unmix = jax.jit(mixing.unmix, static_argnames=("cycles", "scenario"))
initial = jax.jit(mixing.initial_energy, static_argnames="cycles")
present = jax.jit(mixing.present_energy)
actions = jax.jit(mixing.actions)


@jax.jit
def where(E, x, stage, well=PAPER, mu=1.0):
    return tuple(of(E, x, stage, well, mu) for of in (mixing.initial_energy, mixing.orbit, mixing.origin))




def test_cycle_check_values():
    np.testing.assert_allclose(before(2.0), 1 + 1 / 0.36, rtol=1e-14)
    np.testing.assert_allclose(before(2.0, 2), 1 + 7 * (((1 / 7) ** 0.5 / 0.6 - 0.6) / 0.4) ** 2, rtol=1e-13)
    np.testing.assert_allclose(before(2.0, scenario="barrier"), 1 + 1 / 0.16, rtol=1e-14)
    np.testing.assert_allclose(before(5.0, scenario="barrier"), 1 + 7 * ((1 - (4 / 7) ** 0.5) / 0.6) ** 2, rtol=1e-14)
    edges = [mixing.transition_energy(scenario=scenario) for scenario in BOTH]
    np.testing.assert_allclose(edges, [3.52, 2.12], rtol=1e-14)
    # any unit: E, mu and B scale together
    scaled = mixing.energy_before(np.array([2.0, 5.0]) * 6e-3, 1, mixing.Well(BT=0.16, B0=0.02), 0.3)
    np.testing.assert_allclose(scaled, 6e-3 * np.asarray(before(np.array([2.0, 5.0]))), rtol=1e-13)


def test_what_the_paper_says_of_single_electrons():
    top, edge = 8.0, float(mixing.transition_energy())
    E0 = np.append(np.linspace(1.0, 7.999, 50), top * (1 - 1e-15))
    in_a, in_b = (np.asarray(mixing.energy_after(E0, region)) for region in "AB")
    np.testing.assert_allclose([in_a[0], in_b[-1]], edge, rtol=1e-13)          # gains most, from mu B0; loses most, from mu BT
    np.testing.assert_allclose([in_a[-1], in_b[0]], [top, 1.0], rtol=1e-13)    # unchanged
    assert np.all(in_a[:-1] > E0[:-1]) and np.all(in_b[1:] < E0[1:])
    np.testing.assert_allclose(before(np.array([8.0, 9.0, 80.0]), 3), [8.0, 9.0, 80.0], rtol=1e-14)


def test_where_the_maps_jump():
    """(2.12) jumps at E_T and not at mu BT; (A 7) the other way round."""
    tiny = 1e-12
    for scenario, at_edge, at_top in (("floor", (8.0, 1.0), (8.0, 8.0)), ("barrier", (8.0, 8.0), (1.0, 8.0))):
        edge = float(mixing.transition_energy(scenario=scenario))
        E = np.array([edge * (1 - tiny), edge * (1 + tiny), 8.0 * (1 - tiny), 8.0 * (1 + tiny)])
        np.testing.assert_allclose(before(E, scenario=scenario), [*at_edge, *at_top], rtol=1e-9)
    assert before(np.float64(8.0), scenario="barrier") == 8.0


@pytest.mark.parametrize("scenario", BOTH)
def test_cycle_is_the_map_of_w(scenario):
    w, d = np.linspace(0.0, 1.5, 301), np.array([0.1, 0.4, 0.5, 0.93])[:, None]
    # round-off grows with the slope of the map, at most 1/d^3
    by_hand = {"floor": np.where(w < 1 - d, w / (1 - d), (w - (1 - d)) / d),
               "barrier": np.where(w <= d, w / d, (1 - w) / (1 - d))}[scenario]
    np.testing.assert_allclose(unmix(w, d, 1, scenario), np.where(w < 1, by_hand, w), atol=1e-14)
    wells = mixing.Well(d=np.array([0.4, 0.93])[:, None])
    E = 1 + 7 * (w + 1e-5) ** 2                                   # off the jumps
    via_w = 1 + 7 * np.asarray(unmix(w + 1e-5, wells.d, 3, scenario)) ** 2
    np.testing.assert_allclose(before(E, 3, wells, scenario=scenario), via_w, atol=1e-9)


@pytest.mark.parametrize("scenario", BOTH)
def test_two_to_one_and_measure(scenario):
    w0, d = np.linspace(1e-3, 0.999, 40), np.array([0.07, 0.4, 0.5, 0.8])[:, None]
    mix = {r: jax.jit(lambda w0, r=r: mixing.mix(w0, r, d, scenario))(w0) for r in "AB"}
    for w in mix.values():
        inside = np.abs(w - (1 - d if scenario == "floor" else d)) > 1e-9           # at the edge one of the two is taken
        np.testing.assert_allclose(np.where(inside, unmix(w, d, 1, scenario), w0), np.broadcast_to(w0, w.shape), atol=2e-14)
    lower, upper = ("B", "A") if scenario == "floor" else ("A", "B")
    assert np.all(mix[lower] <= mix[upper])
    # slopes d and 1-d of the two branches: the measure dw, and with it dv_par, is preserved
    slope = {r: np.abs(np.diff(mix[r]) / np.diff(w0)) for r in "AB"}
    np.testing.assert_allclose(slope["A"], np.broadcast_to(d, (4, 39)), rtol=1e-12)
    np.testing.assert_allclose(slope["A"] + slope["B"], 1.0, rtol=1e-12)
    # over many cycles: the stripes fill [0, 1], 2^N of them, C(N, k) of width d^k (1-d)^(N-k)
    edges = np.asarray(mixing.stripes(6, 0.4, scenario))
    assert edges.shape == (65,) and edges[0] == 0.0 and edges[-1] == 1.0
    expected = np.sort(np.repeat([0.4**k * 0.6 ** (6 - k) for k in range(7)], [comb(6, k) for k in range(7)]))
    np.testing.assert_allclose(np.sort(np.diff(edges)), expected, rtol=1e-11)
    # and w0 takes every value once in each
    inside = edges[:-1, None] + np.diff(edges)[:, None] * np.array([1e-6, 0.3, 0.5, 0.7, 1 - 1e-6])
    start = np.asarray(unmix(inside, 0.4, 6, scenario))
    rising = np.where(start[:, 4] > start[:, 0], 1, -1)
    once = np.array([1e-6, 0.3, 0.5, 0.7, 1 - 1e-6])
    np.testing.assert_allclose(start, np.where(rising[:, None] > 0, once, once[::-1]), atol=1e-9)
    assert np.all(rising == 1) if scenario == "floor" else (rising == 1).sum() == 32


@pytest.mark.parametrize("scenario", BOTH)
@pytest.mark.parametrize("d", [0.4, 0.83])
def test_correlation(scenario, d):
    """Exact quadrature stripe by stripe, and a plain sum over many w, against the closed form."""
    node, weight = np.polynomial.legendre.leggauss(3)
    ratio = d**2 + (1 - d) ** 2 if scenario == "floor" else d**2 - (1 - d) ** 2
    w = (np.arange(400000) + 0.5) / 400000
    for cycles in (1, 2, 5):
        edges = np.asarray(mixing.stripes(cycles, d, scenario))
        width = np.diff(edges)[:, None]
        at = edges[:-1, None] + 0.5 * width * (1 + node)
        mean = np.sum(0.5 * width * weight * at * np.asarray(unmix(at, d, cycles, scenario)))
        np.testing.assert_allclose(12 * (mean - 0.25), ratio**cycles, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(mixing.correlation(cycles, d, scenario), ratio**cycles, rtol=1e-13)
        np.testing.assert_allclose(np.corrcoef(w, unmix(w, d, cycles, scenario))[0, 1], ratio**cycles, atol=1e-6 * 2**cycles)
    if d == 0.4:
        np.testing.assert_allclose(ratio, 0.52 if scenario == "floor" else -0.2, rtol=1e-14)


@pytest.mark.parametrize("scenario", BOTH)
def test_energy_there_and_back(scenario):
    E0 = np.array([1.0, 1.001, 2.0, 3.3, 6.0, 7.99, 8.0, 30.0])
    for word in ("A", "B", "AB", "BBA"):
        E = mixing.energy_after(E0, word, PAPER, 1.0, scenario)
        trapped = (E0 > 1.0) & (E0 < 8.0)
        np.testing.assert_allclose(np.asarray(before(E, len(word), scenario=scenario))[trapped], E0[trapped], rtol=1e-12)
        np.testing.assert_allclose(E[E0 >= 8.0], E0[E0 >= 8.0], rtol=1e-14)
    np.testing.assert_array_equal(mixing.energy_after(E0, E0 > 3.0, PAPER, 1.0, scenario),
                                  np.where(E0 > 3.0, *(mixing.energy_after(E0, r, PAPER, 1.0, scenario) for r in "AB")))


# the stages of a cycle


def slowly(w0, region, d, b_end):
    """w^2 by integrating the bounce-averaged heating mu dB/dt (the fraction of time spent in A), through the main cycle.

    b: floor of A, (B - B0)/(BT - B0). a: sqrt(w^2 - b). b_end: (raised to, lowered to), None if not lowered.
    """
    def red(a, b_from, b_to):
        fall = solve_ivp(lambda b, a: -(1 - d) / (2 * (d * np.sqrt(a * a + b) + (1 - d) * a)), (b_from, b_to), [a],
                         rtol=1e-11, atol=1e-13)
        return fall.y[0, -1]

    raised, lowered = b_end
    if w0 >= 1:
        a = red(w0, 0.0, raised)
    elif region == "A":
        clears = 1 - w0**2                                       # blue keeps a = w0 and reaches mu BT at this b
        a = w0 if raised <= clears else red(w0, clears, raised)
    if w0 < 1 and region == "B":                                 # magenta: nothing happens until the floor passes it
        if lowered is None or lowered >= w0**2:
            return w0**2
        return red(0.0, w0**2, lowered) ** 2 + lowered
    if lowered is None:
        return a * a + raised
    return red(a, raised, lowered) ** 2 + lowered


def test_stages_against_slow_heating():
    w0 = np.array([0.15, 0.5, 0.8, 0.97, 1.2, 2.0])
    for d in (0.4, 0.75):
        well = mixing.Well(d=d)
        for b_end in ((0.3, None), (0.9, None), (1.0, 0.6), (1.0, 0.1), (1.0, 0.0)):
            b = b_end[0] if b_end[1] is None else b_end[1]
            stage = (mixing.FloorStage.raising if b_end[1] is None else mixing.FloorStage.lowering)(1 + 7 * b, well)
            for region in "AB":
                expected = [1 + 7 * slowly(w, region, d, b_end) for w in w0]
                np.testing.assert_allclose(present(1 + 7 * w0**2, np.full(6, region == "A"), stage, well), expected, rtol=2e-9)


def some_stages(scenario, d):
    if scenario == "floor":
        return [mixing.FloorStage(progress=p) for p in (0.0, 0.4, 1.0, 1.3, 1.97, 2.0, 2.02, 2.5, 2.999, 3.0)]
    return [mixing.BarrierStage(position=d + (1 - d) * s) for s in (0.0, 0.01, 0.3, 0.8, 1.0)]


@pytest.mark.parametrize("scenario", BOTH)
@pytest.mark.parametrize("d", [0.4, 0.5, 0.8])
def test_stages_there_and_back(scenario, d):
    rng = np.random.default_rng(3)
    mu = rng.uniform(0.2, 3.0, 400)
    E0 = mu * (1 + 7 * rng.uniform(0.0, 1.3, 400) ** 2)
    well = mixing.Well(d=d)
    for stage in some_stages(scenario, d):
        divide = float(stage.divide(well))
        for region, kind in (("A", mixing.BLUE), ("B", mixing.MAGENTA)):
            E = present(E0, np.full(400, region == "A"), stage, well, mu)
            spots = (0.5 * divide, 1 - 0.5 * (1 - divide))
            found = [where(E, x, stage, well, mu) for x in spots]
            # red orbits pass both places and have one E0; others are found in their own region only
            is_red = np.asarray(found[0][1] == mixing.RED)
            own = int(region == "B")
            if scenario == "barrier":                             # from B to A once the barrier is at 1 - (1-d) w0
                own = np.where((1 - d) * np.sqrt((E0 / mu - 1) / 7) > 1 - stage.position, 0, own)
            E0_here, orbit_here, origin_here = (np.where(own == 0, a, b) for a, b in zip(*found))
            np.testing.assert_allclose(E0_here, E0, rtol=2e-8 if d == 0.8 else 1e-9)
            np.testing.assert_array_equal(origin_here, np.where(E0 >= mu * 8, mixing.RED, kind))
            np.testing.assert_allclose(np.asarray(found[0][0])[is_red], np.asarray(found[1][0])[is_red], rtol=1e-13)
            assert np.all(is_red[E0 >= mu * 8])


def test_panels_of_figure_2():
    """The stages are what the text says they are, at the ends and at the turn."""
    E, x = np.linspace(1.0, 12.0, 401), np.array([0.2, 0.7])[:, None]
    def classes(p):
        return where(E, x, mixing.FloorStage(progress=p))

    for p in (0.0, 0.7, 1.0):
        np.testing.assert_allclose(classes(p)[0], np.broadcast_to(E, (2, 401)), rtol=1e-14)
    np.testing.assert_allclose(classes(3.0)[0], np.broadcast_to(before(E), (2, 401)), rtol=1e-12)
    np.testing.assert_allclose(initial(E, x, mixing.FloorStage(progress=3.0), cycles=1),
                               np.broadcast_to(before(E, 2), (2, 401)), rtol=1e-11)
    E0, kind, began = (np.asarray(c) for c in classes(2.0))
    assert np.all(began[1, E < 8] == mixing.MAGENTA) and np.all(began[:, E >= 8] != mixing.MAGENTA)
    assert np.all(kind[0, E < 8] == mixing.FORBIDDEN)
    assert np.isnan(E0[0, E < 8]).all() and not np.isnan(E0[:, E >= 8]).any() and not np.isnan(E0[1]).any()
    for p in (2.0 + 1e-13, 2.0 - 1e-13):                                            # continuous through the turn
        np.testing.assert_allclose(np.asarray(classes(p)[0])[1, E != 8], E0[1, E != 8], rtol=1e-9)
    for make, p in ((mixing.FloorStage.raising, 1.5), (mixing.FloorStage.lowering, 2.5)):
        assert make(4.5).progress == p and make(4.5).floor() == 4.5
    assert mixing.FloorStage.raising(4.5).barrier() == 8.0 and mixing.FloorStage.lowering(4.5).barrier() == 4.5
    assert mixing.FloorStage(progress=0.5).barrier() == 4.5 and mixing.FloorStage(progress=0.5).floor() == 1.0
    # while the barrier rises, it divides but does not heat
    _, kind, began = (np.asarray(c)[:, 1:] for c in classes(0.5))
    own = np.array([[mixing.BLUE], [mixing.MAGENTA]])
    np.testing.assert_array_equal(kind, np.where(E[1:] < 4.5, own, mixing.RED))
    np.testing.assert_array_equal(began, np.where(E[1:] < 8, own, mixing.RED))
    # of what began in A everything gains, of what left B everything loses (2.8), (2.10)
    for p in (1.01, 1.5, 2.0, 2.4, 3.0):
        E0, kind, began = (np.asarray(c) for c in classes(p))
        assert np.all(E0[(began == mixing.BLUE) & (E < 8)] < np.broadcast_to(E, (2, 401))[(began == mixing.BLUE) & (E < 8)])
        left = (began == mixing.MAGENTA) & (kind == mixing.RED) & (E > 1)
        assert np.all(E0[left] > np.broadcast_to(E, (2, 401))[left]) and np.any(left) == (p > 2)


def test_panels_of_figure_6():
    E, x = np.linspace(1.0, 12.0, 401), np.array([0.2, 0.7])[:, None]
    np.testing.assert_allclose(initial(E, x, mixing.BarrierStage(position=0.4)), np.broadcast_to(E, (2, 401)), rtol=1e-12)
    end = mixing.BarrierStage(position=1.0)
    np.testing.assert_allclose(initial(E, x, end), np.broadcast_to(before(E, scenario="barrier"), (2, 401)), rtol=1e-11)
    np.testing.assert_allclose(initial(E, x, end, cycles=1), np.broadcast_to(before(E, 2, scenario="barrier"), (2, 401)),
                               rtol=1e-10)
    # (A 1), (A 2), (A 5) and the transition energy (A 6) at d' = 0.6
    half = mixing.BarrierStage(position=0.6)
    by_hand = [1 + (0.6 / 0.4) ** 2 * 2, 1 + 7 * ((1 - 0.6 * (5 / 7) ** 0.5) / 0.6) ** 2, 1 + (0.4 / 0.6) ** 2 * 5]
    np.testing.assert_allclose(initial(np.array([3.0, 6.0, 6.0]), np.array([0.5, 0.5, 0.9]), half), by_hand, rtol=1e-13)
    edge = 1 + 7 * (0.4 / 0.6) ** 2
    around = np.array([edge - 1e-9, edge + 1e-9])
    E0, _, began = where(around, 0.5, half)
    np.testing.assert_array_equal(began, [mixing.BLUE, mixing.MAGENTA])
    np.testing.assert_allclose(E0, 8.0, rtol=1e-8)


@pytest.mark.parametrize("scenario", BOTH)
def test_number_at_every_stage(scenario):
    """Integral over x and v_par at fixed mu of F(E0), F vanishing at both ends of the trapped range: what it was at first."""
    n = 30000
    v = 1.5 * (np.arange(n) + 0.5) / n                                              # sqrt(w^2 - floor); 1 is an edge

    def F(E0):
        e = (E0 - 1) / 7
        return jnp.where(e < 1, jnp.sin(np.pi * e) ** 2 * (1 + e), (e - 1) ** 2 * jnp.exp(-30 * (e - 1)))

    number = jax.jit(lambda E, x, stage, width: width * jnp.mean(F(mixing.initial_energy(E, x, stage))))
    first = float(jnp.mean(F(1 + 7 * v**2)))
    for stage in some_stages(scenario, 0.4):
        divide, floor = float(stage.divide()), float(stage.floor())
        total = number(floor + 7 * v**2, 0.5 * divide, stage, divide)
        total += number(1 + 7 * v**2, 1 - 0.5 * (1 - divide), stage, 1 - divide)
        np.testing.assert_allclose(total, first, rtol=2e-6)


def test_actions():
    """J_A = J_A0, J_B = J_B0, J_A + J_B = J_A0 + J_B0, and through the transitions (2.7), (2.9)."""
    E0, mu, d = np.array([1.2, 4.0, 7.0, 9.0]) * 0.7, 0.7, 0.4
    a0, b0 = actions(E0, mixing.FloorStage(progress=1.0), PAPER, mu)
    np.testing.assert_allclose(a0, d * np.sqrt(E0 - 0.7), rtol=1e-14)
    gained = (1 - d) * np.sqrt(0.7 * 7)                                             # J_BT (2.6)
    for p in (1.2, 1.9, 2.3, 2.9, 3.0):
        stage = mixing.FloorStage(progress=p)
        for region in "AB":
            E = present(E0, region == "A", stage, PAPER, mu)
            a, b = actions(E, stage, PAPER, mu)
            kind = np.asarray(where(E, 0.2 if region == "A" else 0.7, stage, PAPER, mu)[1])
            both = {"A": a0 + gained, "B": b0}[region]
            expected = np.where(kind == mixing.BLUE, a0, np.where(kind == mixing.MAGENTA, b0, np.where(E0 >= 5.6, a0 + b0, both)))
            now = np.where(kind == mixing.BLUE, a, np.where(kind == mixing.MAGENTA, b, a + b))
            np.testing.assert_allclose(now, expected, rtol=1e-12)
    squeezed = mixing.actions(np.array([3.0, 5.0]), mixing.BarrierStage(position=0.6))
    np.testing.assert_allclose(squeezed, [0.6 * np.sqrt([2.0, 4.0]), 0.4 * np.sqrt([2.0, 4.0])], rtol=1e-14)


def test_gradients_of_the_stages():
    """Finite at every edge, and equal to differences between them."""
    def E0(E, mu, p, d, BT, B0, x):
        stage = mixing.BarrierStage(position=0.4 + 0.6 * (p / 3)) if barrier else mixing.FloorStage(progress=p)
        return mixing.initial_energy(E, x, stage, mixing.Well(d=d, BT=BT, B0=B0), mu, cycles=1)

    E = np.array([1.0, 1.3, 2.12, 3.52, 4.5, 6.0, 7.2, 8.0, 9.5])
    x, p = np.array([0.2, 0.7]), np.array([0.0, 0.5, 1.0, 1.5, 2.0, 2.25, 2.5, 3.0])
    E, x, p = (a.ravel() for a in np.meshgrid(E, x, p))
    arguments = (E, 1.0, p, 0.4, 8.0, 1.0)
    for barrier in (False, True):
        axes = (0, None, 0, None, None, None, 0)
        slopes = jax.jit(jax.vmap(jax.grad(E0, argnums=tuple(range(6))), axes))(*arguments, x)
        assert finite(slopes)
        value = jax.jit(jax.vmap(E0, axes))
        forbidden = np.isnan(value(*arguments, x))
        assert all(np.all(np.asarray(s)[forbidden] == 0) for s in slopes) and forbidden.any() != barrier
        inner = np.isin(E, [1.3, 4.9, 6.0, 7.2, 9.5]) & np.isin(p, [0.5, 1.5, 2.25, 2.5]) & ~forbidden
        for i, slope in enumerate(slopes):
            up, down = ([a + s * 1e-6 if i == k else a for k, a in enumerate(arguments)] for s in (1, -1))
            difference = (value(*up, x) - value(*down, x)) / 2e-6
            near = np.asarray(jnp.abs(value(*up, x) - value(*down, x)) < 1e-2) & inner          # no jump in between
            assert near.sum() > 25
            np.testing.assert_allclose(np.asarray(slope)[near], difference[near], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scenario", BOTH)
def test_gradients_of_the_cycle(scenario):
    E = np.array([1.0, 2.0, 2.12, 3.52, 5.0, 8.0, 11.0])

    @jax.jit
    def slopes(E):
        before = jax.vmap(jax.grad(lambda E, d: mixing.energy_before(E, 2, mixing.Well(d=d), 1.0, scenario), (0, 1)), (0, None))
        there, after = jax.vmap(jax.value_and_grad(lambda E: mixing.energy_after(E, "BA", PAPER, 1.0, scenario)))(E)
        return before(E, 0.4), after, before(there, 0.4)[0]

    slope, after, back = slopes(E)
    assert finite((slope, after, back))
    lower = 0.6 if scenario == "floor" else 0.4
    np.testing.assert_allclose(slope[0][0], lower**-4, rtol=1e-13)              # right at mu B0 as well
    np.testing.assert_allclose(slope[1][0], 0.0)
    assert slope[0][6] == 1.0 and slope[1][6] == 0.0
    np.testing.assert_allclose((back * after)[1:5], 1.0, rtol=1e-9)             # there and back


# distributions


def maxwell(v_par, v_perp):
    return jnp.exp(-0.5 * (v_par**2 + v_perp**2))


def moments(f, cycles, scenario, h=7.0, d=0.4):
    """(number, parallel, perpendicular energy) of f by Gauss quadrature, stripe by stripe in w, and in v_perp."""
    node, weight = np.polynomial.legendre.leggauss(24)
    v, dv = (9.0 * (node + 1) / 2)[:, None, None], (9.0 * weight / 2)[:, None, None]                      # v_perp
    edges = np.concatenate([np.asarray(mixing.stripes(cycles, d, scenario)), [1.3, 2.0, 4.0, 8.0, 20.0, 60.0, 1e3]])
    node, weight = np.polynomial.legendre.leggauss(16)
    width = np.diff(edges)[:, None]
    w, dw = edges[:-1, None] + width * (node + 1) / 2, width * weight / 2
    v_par = np.sqrt(h) * v * w
    each = f(v_par, v) * 4 * np.pi * v * dv * np.sqrt(h) * v * dw
    return np.array([np.sum(each), np.sum(each * v_par**2 / 2), np.sum(each * v**2 / 2)])


@pytest.mark.parametrize("scenario", BOTH)
def test_energy_gain_of_a_maxwellian(scenario):
    """Number and perpendicular energy stay, parallel energy grows by `energy_gain`, by quadrature of the mixed distribution."""
    first = moments(maxwell, 0, scenario)
    np.testing.assert_allclose(first, np.array([1.0, 0.5, 1.0]) * (2 * np.pi) ** 1.5, rtol=2e-5)
    gain, ratio = jax.jit(lambda h: (mixing.energy_gain(3, h, 0.4, scenario), mixing.anisotropy(3, h, 0.4, scenario)))(7.0)
    assert gain.shape == (4,) and gain[0] == 0.0
    for cycles in (1, 3):
        now = moments(jax.jit(mixing.mixed(maxwell, cycles, scenario=scenario)), cycles, scenario)
        np.testing.assert_allclose(now[[0, 2]], first[[0, 2]], rtol=1e-10)
        np.testing.assert_allclose((now[1] - first[1]) / (first[1] + first[2]), gain[cycles], rtol=5e-5)
        np.testing.assert_allclose(now[1] / (now[2] / 2), ratio[cycles], rtol=5e-5)


def test_energy_gain_limit_and_slopes():
    h, d = np.array([1e-3, 0.1, 1.0, 7.0, 1e4]), np.array([0.2, 0.4, 0.75])[:, None]
    exact = 2 / 9 * h * (h / (1 + h)) ** 1.5
    np.testing.assert_allclose(mixing.energy_gain_limit(h), exact, rtol=1e-14)
    gain_of = jax.jit(mixing.energy_gain, static_argnums=(0, 3))
    for scenario, checks in zip(BOTH, ([0.63329360, 0.94665379], [1.97950278, 1.25840749])):
        gain = np.asarray(gain_of(60, h, d, scenario))
        np.testing.assert_allclose(gain[-1], np.broadcast_to(exact, (3, 5)), rtol=2e-6)
        np.testing.assert_allclose(gain[1:3, 1, 3], checks, atol=1e-8)
        # small wells: h^(5/2), as G
        np.testing.assert_allclose(np.log(gain[1, :, 1] / gain[1, :, 0]) / np.log(100.0), 2.5, atol=0.1)
        # one comes from below, the other overshoots in its first cycle (d < 1/2)
        assert np.all(np.diff(gain, axis=0) >= 0) if scenario == "floor" else np.all((gain[1] > exact)[:2])
    slope = jax.jit(jax.grad(lambda x: mixing.energy_gain(3, x[0], x[1])[-1]))(np.array([7.0, 0.4]))
    e = 1e-6
    moved = gain_of(60, np.array([7 + e, 7 - e, 7, 7, 7]), np.array([0.4, 0.4, 0.4 + e, 0.4 - e, 0.4]), "floor")[3]
    np.testing.assert_allclose(slope, [(moved[0] - moved[1]) / (2 * e), (moved[2] - moved[3]) / (2 * e)], rtol=1e-7)


@pytest.mark.parametrize("scenario", BOTH)
def test_reversed_cycle(scenario):
    """Exactly reversed, a cycle gives f back; once the finest stripes have been smoothed a little, it does not."""
    rng = np.random.default_rng(0)
    v_par, v_perp = rng.uniform(-6, 6, 500), np.append(rng.uniform(0, 3, 499), 0.0)

    def start(v_par, v_perp):
        return jnp.exp(-0.5 * v_par**2 - 0.5 * v_perp**2) * (1 + 0.3 * jnp.cos(2 * v_par) + 0.1 * v_perp)

    def smooth(f, width):
        return lambda v_par, v_perp: sum(f(v_par + k * width * v_perp, v_perp) for k in (-1, 0, 1)) / 3

    for cycles in (1, 5):
        f = mixing.mixed(start, cycles, scenario=scenario)
        error = [np.max(np.abs(jax.jit(mixing.unmixed(g, cycles, scenario=scenario))(v_par, v_perp) - start(v_par, v_perp)))
                 for g in (f, smooth(f, 3e-3))]
        assert error[0] < 1e-12
        assert error[1] > (1e-3 if cycles == 1 else 5e-3)
    # the other way round it smooths by itself: mixing after a reversed cycle does not give back what was no product of mixing
    other = jax.jit(mixing.mixed(mixing.unmixed(start, scenario=scenario), scenario=scenario))
    assert np.max(np.abs(other(v_par, v_perp) - start(v_par, v_perp))) > 1e-2


def test_velocities():
    """The map in (v_par, v_perp) is that of the energies; finite derivatives on the axes and at the cone's edge."""
    v_par, v_perp = np.array([0.0, 0.3, 1.5, 2.5, 9.0, -1.5]), np.ones(6)
    for scenario in BOTH:
        E0 = before(0.5 * (v_par**2 + v_perp**2), 2, mu=0.5, scenario=scenario)
        v_par0 = mixing.initial_v_par(v_par, v_perp, 2, 7.0, 0.4, scenario)
        np.testing.assert_allclose(v_par0, np.sqrt(2 * E0 - v_perp**2), rtol=1e-11, atol=1e-7)
    at = np.array([0.0, 1.0, 7**0.5, 0.0]), np.array([1.0, 0.0, 1.0, 0.0])
    assert finite(jax.jit(jax.vmap(jax.grad(lambda a, b: mixing.initial_v_par(a, b, 2), (0, 1))))(*at))
    assert finite(jax.jit(jax.vmap(jax.grad(lambda a, b: mixing.unmixed(mixing.mixed(maxwell))(a, b), (0, 1))))(*at))


# precision, transformations, bad input


@pytest.mark.optimised
def test_single_precision():
    E = np.array([1.0, 1.7, 4.0, 6.0, 12.0])

    def everything(E, well):
        return (mixing.energy_before(E, 2, well), mixing.energy_after(E, "AB", well),
                mixing.initial_energy(E, 0.7, mixing.FloorStage(progress=2.5), well),
                mixing.present_energy(E, "A", mixing.BarrierStage(position=0.7), well),
                mixing.initial_v_par(E, 2.0, 2, well.h, well.d), mixing.energy_gain(2, well.h, well.d))

    well = mixing.Well(d=np.float32(0.4), BT=np.float32(8), B0=np.float32(1))
    for got, exact in zip(jax.jit(everything)(E.astype(np.float32), well), jax.jit(everything)(E, PAPER)):
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, exact, rtol=2e-5, atol=1e-6)
    assert before(np.nextafter(np.float32(1.0), np.float32(0.0))) == 1.0                # round-off below mu B0 is forgiven
    assert mixing.energy_before(np.nextafter(np.float32(1.0), np.float32(0.0))) == 1.0


@pytest.mark.optimised
def test_transformations():
    """A sweep of stages and wells compiles once; jit, eager, vmap and broadcasting agree."""
    traces = []
    E = np.linspace(1.0, 10.0, 7)

    @jax.jit
    def run(stage, well):
        traces.append(1)
        return mixing.initial_energy(E, 0.8, stage, well, cycles=1)

    stages, d = np.array([0.5, 1.5, 2.5]), np.array([0.4, 0.3, 0.6])
    each = [run(mixing.FloorStage(progress=p), mixing.Well(d=x)) for p, x in zip(stages, d)]
    assert len(traces) == 1
    eager = mixing.initial_energy(E, 0.8, mixing.FloorStage(progress=1.5), mixing.Well(d=0.3), cycles=1)
    np.testing.assert_allclose(eager, each[1], rtol=1e-12)
    mapped = jax.vmap(lambda p, x: run(mixing.FloorStage(progress=p), mixing.Well(d=x)))(stages, d)
    np.testing.assert_allclose(mapped, each, rtol=1e-12)
    at_once = run(mixing.FloorStage(progress=stages[:, None]), mixing.Well(d=d[:, None]))
    np.testing.assert_allclose(at_once, each, rtol=1e-12)


def test_bad_input():
    stage = mixing.FloorStage(progress=1.5)
    for match, call in (
            (r"mixing d = 0: it must be between 0 and 1", lambda: mixing.Well(d=0.0)),
            (r"mixing BT = 1: it must be above B0", lambda: mixing.Well(BT=1.0)),
            (r"mixing B0 = -1: it must be above 0", lambda: mixing.Well(B0=-1.0)),
            (r"mixing BT = nan", lambda: mixing.Well(BT=np.nan)),
            (r"mixing E = 0.9: it must be at least mu B0", lambda: mixing.energy_before(np.array([2.0, 0.9]))),
            (r"mixing E = 1.5: it must be at least mu B0", lambda: mixing.initial_energy(1.5, 0.5, stage, mu=2.0)),
            (r"mixing E = nan", lambda: mixing.energy_before(np.nan)),
            (r"mixing E0 = 0.5", lambda: mixing.present_energy(0.5, "A", stage)),
            (r"mixing mu = 0: it must be above 0", lambda: mixing.energy_before(2.0, mu=0.0)),
            (r"mixing x = 1.2: it must be 0 to 1", lambda: mixing.orbit(2.0, 1.2, stage)),
            (r"mixing FloorStage progress = 3.5: it must be 0 to 3", lambda: mixing.FloorStage(progress=3.5)),
            (r"mixing floor B = 9: it must be from B0 to BT", lambda: mixing.FloorStage.raising(9.0)),
            (r"mixing BarrierStage position = 1.1", lambda: mixing.BarrierStage(position=1.1)),
            (r"position = 0.3: it must be at least d = 0.4", lambda: mixing.orbit(2.0, 0.5, mixing.BarrierStage(position=0.3))),
            (r"mixing cycles: -1 is no count", lambda: mixing.energy_before(2.0, -1)),
            (r"mixing cycles: 1.5 is no count", lambda: mixing.unmix(0.5, 0.4, 1.5)),
            (r"mixing cycles = 21: 2\^21 stripes", lambda: mixing.stripes(21, 0.4)),
            (r"mixing scenario: 'a' is unknown; use 'floor'", lambda: mixing.mix(0.5, "A", 0.4, "a")),
            (r"mixing region: 'C' is unknown", lambda: mixing.mix(0.5, "C", 0.4)),
            (r"mixing regions: 'AC' must be made of the letters", lambda: mixing.energy_after(2.0, "AC")),
            (r"mixing w = -0.5: it must be at least 0", lambda: mixing.unmix(-0.5, 0.4)),
            (r"mixing d = 1: it must be between", lambda: mixing.correlation(2, 1.0)),
            (r"mixing h = -0.2: it must be above 0", lambda: mixing.energy_gain(2, -0.2)),
            (r"mixing h = 0: it must be above 0", lambda: mixing.initial_v_par(1.0, 1.0, h=0.0))):
        with pytest.raises(ValueError, match=match) as raised:
            call()
        assert "\n" not in str(raised.value)
