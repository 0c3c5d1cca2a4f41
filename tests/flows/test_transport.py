import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import plain_jit

from jaxbelt.coefficients import function
from jaxbelt.flows.transport import (
    SUBSTEPS_EXCEEDED,
    Transport,
    face_fluxes,
    rate,
    ripple_filter,
    stream_from_velocity,
)
from jaxbelt.grid import Axis, Grid
from jaxbelt.physics.field_lines import from_potential
from jaxbelt.physics.guiding_center import canonical_drift


def step(tr, grid, f, dt, t=0.0):
    return tr.advance(grid, tr.prepare(grid, dt), f, t, dt)


def _go(tr, grid, f, dt, steps, t):
    f, budgets = jax.lax.scan(lambda f, i: step(tr, grid, f, dt, t + i * dt), f, jnp.arange(steps))
    return f, {k: v.max() if k == "fault" else v.sum() for k, v in budgets.items()}


# compiled once for all data and steps of a flow on a grid; the second for errors far above rounding
_GO = {plain: jit(_go, static_argnames=("grid", "steps")) for plain, jit in ((False, jax.jit), (True, plain_jit))}


def run(tr, grid, f, dt, steps, t=0.0, plain=False):
    """`steps` steps in one compiled scan; the budgets are summed, the fault is the largest."""
    return _GO[plain](tr, grid, f, dt, steps, t)


def check_budget(grid, f0, f1, budget, tol=1e-13):
    assert int(budget["fault"]) == 0
    gained = sum(v for k, v in budget.items() if k != "fault")
    assert abs(grid.content(f1) - grid.content(f0) - gained) <= tol * grid.content(jnp.abs(f0))


def box(n, m=None, stretch=0.0):
    """A box of n x m cells on [-1, 1]^2, with a cubic stretching of the faces of the first axis."""
    x, y = np.linspace(-1, 1, n + 1), np.linspace(-1, 1, (m or n) + 1)
    return Grid((Axis.cells("x", x + stretch * x**3), Axis.cells("y", y)))


def belt(n=20, m=24):
    L, phi = np.exp(np.linspace(np.log(2.0), np.log(7.0), n + 1)), np.linspace(0, 2 * np.pi, m + 1)
    return Grid((Axis.cells("L", L, measure=1 / L[:-1] - 1 / L[1:]), Axis.cells("phi", phi, periodic=True)))


def belt_stream(grid, a=1.0, b=0.15):
    L, phi = grid.faces("L"), grid.faces("phi")[:, 1:]
    return jnp.asarray(-a / L + b * np.sin(phi) * L / 7 + 0.3 * b * np.cos(3 * phi) / L)


def random_stream(grid, key, walls_closed=False):
    """A rough random stream function on the corners."""
    shape = [a.n if a.periodic else a.n + 1 for a in grid.axes]
    psi = jax.random.normal(key, shape)
    if walls_closed:
        for k, a in enumerate(grid.axes):
            if not a.periodic:
                psi = jnp.moveaxis(jnp.moveaxis(psi, k, 0).at[jnp.array([0, -1])].set(0.0), 0, k)
    return psi


def substeps_for(grid, psi, dt, courant=0.8):
    return int(np.ceil(float(rate(grid, psi, grid.names[:2])) * dt / courant))


def test_face_fluxes_signs_and_divergence():
    grid = belt()
    ua, ub = face_fluxes(grid, -1 / grid.faces("L") * jnp.ones((1, 24)), ("L", "phi"))
    # phidot = L^2 dpsi/dL = 1 for psi = -1/L: flux = rate times the measure of the cell
    np.testing.assert_allclose(ub, np.broadcast_to(grid["L"].measure[:, None], (20, 24)), rtol=1e-13)
    assert jnp.max(jnp.abs(ua)) == 0
    psi = belt_stream(grid)
    for names in (("L", "phi"), ("phi", "L")):
        ua, ub = face_fluxes(grid, psi, names)
        along = {names[0]: ua, names[1]: ub}
        div = jnp.diff(along["L"], axis=0) + along["phi"] - jnp.roll(along["phi"], 1, 1)
        assert jnp.max(jnp.abs(div)) < 1e-15
    with pytest.raises(ValueError, match="corners along 'L'"):
        face_fluxes(grid, jnp.zeros(grid.shape), ("L", "phi"))


@pytest.mark.plain
def test_line_order_is_five():
    """A smooth profile around a ring, small steps: fifth order in space."""
    errors = []
    for n in (16, 32):
        phi = np.linspace(0, 2 * np.pi, n + 1)
        grid = Grid((Axis.cells("a", [0.0, 1.0, 2.0, 3.0]), Axis.cells("phi", phi, periodic=True)))

        def averages(shift):
            primitive = phi + np.sin(phi - shift)  # noqa: B023
            return jnp.broadcast_to(np.diff(primitive) / np.diff(phi), grid.shape)  # noqa: B023
        psi = grid.faces("a") * jnp.ones((1, n))
        tr = Transport(axes=("a", "phi"), stream=psi, substeps=64, courant=0.02 * (16 / n) ** (2 / 3))
        f, b = run(tr, grid, averages(0.0), 0.05, 20, plain=True)
        assert int(b["fault"]) == 0
        errors.append(float(jnp.mean(jnp.abs(f - averages(1.0)))))
    assert np.log2(errors[0] / errors[1]) > 4.6, errors


def gauss(x, y, x0=0.3, y0=0.0, w=0.03):
    return jnp.exp(-((x - x0) ** 2 + (y - y0) ** 2) / w)


@pytest.mark.parametrize("stretch", [pytest.param(0.0, marks=pytest.mark.slow), 0.2])
@pytest.mark.plain
def test_rotation_order_two_dimensions(stretch):
    """A blob that turns rigidly about the origin of a box by 1 rad."""
    errors = []
    for n in (40, 80):
        grid = box(n, stretch=stretch)
        psi = 0.5 * (grid.faces("x") ** 2 + grid.faces("y") ** 2) * jnp.ones(())
        x, y = grid.mesh()
        tr = Transport(axes=("x", "y"), stream=psi, substeps=64)
        f, b = run(tr, grid, gauss(x, y), 0.1, 10, plain=True)
        exact = gauss(x, y, 0.3 * np.cos(1.0), 0.3 * np.sin(1.0))
        assert int(b["fault"]) == 0
        errors.append(float(jnp.mean(jnp.abs(f - exact))) / float(jnp.mean(exact)))
    assert np.log2(errors[0] / errors[1]) > 2.0, errors
    assert errors[1] < 0.02, errors


@pytest.mark.plain
def test_doubly_periodic_translation():
    """A stream function that is not single-valued (n + 1 corners): a uniform drift around both periodic axes."""
    errors = []
    for n in (24, 48):
        c = np.linspace(0, 2 * np.pi, n + 1)
        grid = Grid((Axis.cells("a", c, periodic=True), Axis.cells("b", c, periodic=True)))
        psi = jnp.asarray(-1.0 * c[None, :] + 0.5 * c[:, None])  # adot = 1, bdot = 0.5
        a, b = grid.mesh()
        tr = Transport(axes=("a", "b"), stream=psi, substeps=20)
        f, budget = run(tr, grid, 1.5 + np.sin(a) * np.cos(b), 0.5, 2, plain=True)
        assert list(budget) == ["fault"] and int(budget["fault"]) == 0
        errors.append(float(jnp.max(jnp.abs(f - 1.5 - jnp.sin(a - 1.0) * jnp.cos(b - 0.5)))))
    assert np.log2(errors[0] / errors[1]) > 2.8, errors


@pytest.mark.parametrize("names", [("L", "phi"), ("phi", "L")])
def test_constants_are_preserved(names):
    """Open walls with what is outside equal to what is inside, in either order of the axes."""
    grid = belt()
    psi = belt_stream(grid)
    walls = tuple(2.5 if n == "L" else None for n in names)
    tr = Transport(axes=names, stream=psi, lower=walls, upper=walls, substeps=50)
    f, b = run(tr, grid, jnp.full(grid.shape, 2.5), 1.0, 5)
    assert float(jnp.max(jnp.abs(f / 2.5 - 1))) < 4e-15
    check_budget(grid, jnp.full(grid.shape, 2.5), f, b)


@pytest.mark.plain
def test_smooth_inflow_and_outflow():
    """A travelling wave that enters at one wall and leaves at the other; the inflow depends on time."""
    errors = []
    for n in (40, 80):
        grid = Grid((Axis.cells("x", np.linspace(0, 1, n + 1)), Axis.cells("y", np.linspace(0, 1, 5))))
        psi = -grid.faces("y") * jnp.ones((n + 1, 1))

        def exact(t, x):
            return 1.5 + jnp.sin(6 * (x - t))
        tr = Transport(axes=("x", "y"), stream=psi, lower=(function(lambda t, y: exact(t, 0.0)), None), substeps=40)
        x = grid.mesh()[0] * jnp.ones(grid.shape)

        f, _ = run(tr, grid, exact(0.0, x), 0.25, 2, plain=True)
        errors.append(float(jnp.max(jnp.abs(f - exact(0.5, x)))))
    assert np.log2(errors[0] / errors[1]) > 1.9, errors
    assert errors[1] < 2e-3, errors


def test_function_of_the_stream_is_nearly_steady():
    """F = f(H) is steady: the L1 change after several turns is small, and shrinks with the cells."""
    errors = []
    for n in (24, 48):
        grid = belt(n, n)
        bump = np.sin(np.pi * (grid.faces("L") - 2) / 5)
        psi = belt_stream(grid, b=0.0) + 0.03 * np.sin(grid.faces("phi")[:, 1:]) * bump
        mean = 0.25 * (psi[1:] + psi[:-1] + jnp.roll(psi, 1, 1)[1:] + jnp.roll(psi, 1, 1)[:-1])
        f0 = jnp.exp(-40 * (mean + 0.25) ** 2)
        f, b = run(Transport(axes=("L", "phi"), stream=psi, substeps=50), grid, f0, 2.0, 5)
        check_budget(grid, f0, f, b)
        errors.append(grid.content(jnp.abs(f - f0)) / grid.content(f0))
    assert errors[1] < 4e-3 and errors[0] / errors[1] > 3.5, errors


def test_weighted_state_is_exactly_steady():
    """Flux of a weighted flow: f = weight stays, to round-off, with open walls and matching inflow."""
    grid = belt()
    L, phi = grid.mesh()
    w = jnp.exp(-2 * (L - 4) ** 2) * (1 + 0.5 * jnp.cos(phi)) + 1e-3
    tr = Transport(axes=("L", "phi"), stream=belt_stream(grid), weight=w, lower=(1.0, None), upper=(1.0, None), substeps=31)
    dt = 30 * 0.8 / float(rate(grid, tr.stream, tr.axes, w))
    f, b = run(tr, grid, w, dt, 2)
    assert float(jnp.max(jnp.abs(f / w - 1))) < 1e-14
    check_budget(grid, w, f, b)


def dipole_plane(n=16, m=20, cap=True):
    """(chi, p) for two psi and two mu: the grid, H on corners and in cells, both at most that of (0, p_max) where `cap`."""
    chi = np.sinh(1.5 * np.linspace(-1, 1, n + 1))
    p = np.sinh(np.linspace(-1, 1, m + 1))
    grid = Grid((Axis.nodes("mu", [1.0, 1.5], [0.4, 0.7]), Axis.cells("psi", [0.45, 0.5, 0.6]),
                 Axis.cells("chi", 0.8 * chi / chi[-1]), Axis.cells("p", 8.0 * p / p[-1])))

    def H(chi, p):
        B = np.asarray(from_potential(chi, grid.centers("psi"), outside="extrapolate").B)
        top = 0.5 * (grid.centers("psi") ** 3 * 8.0) ** 2 + grid.centers("mu") * grid.centers("psi") ** 3
        return np.minimum(0.5 * (B * p) ** 2 + grid.centers("mu") * B, top if cap else np.inf)

    return grid, H(grid.faces("chi"), grid.faces("p")), H(grid.centers("chi"), grid.centers("p"))


def test_bounce_fluxes_are_those_of_guiding_centers():
    """stream -H: B^2 p through the faces of chi, and the integral of -(B p^2 + mu) B_chi through those of p."""
    grid, corners, _ = dipole_plane(cap=False)
    along, push = face_fluxes(grid, -corners, ("chi", "p"))
    p, width = grid.centers("p"), grid["p"].measure
    exact = canonical_drift(grid.faces("chi"), p, 0.0, grid.centers("psi"), grid.centers("mu"))[0] * width
    np.testing.assert_allclose(along, exact, rtol=1e-12, atol=1e-13)
    nodes, weights = np.polynomial.legendre.leggauss(8)
    half = 0.5 * grid.along("chi", grid["chi"].measure)
    exact = sum(w * half * canonical_drift(grid.centers("chi") + half * x, grid.faces("p"), 0.0, grid.centers("psi"),
                                           grid.centers("mu"))[1] for x, w in zip(nodes, weights))
    np.testing.assert_allclose(push, exact, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("temperature", [None, 0.15])
def test_bounce_in_a_dipole_keeps_its_two_states(temperature):
    """The flat state without a weight, exp(-H/T) with it: steady to round-off for a bounce. From any state the content stays."""
    grid, corners, cells = dipole_plane()
    stream, weight = -corners, None
    if temperature is not None:                               # G = -T exp(-H/T), F = G' = exp(-H/T)
        stream, weight = temperature * np.exp(-corners / temperature), np.exp(-cells / temperature)
    state = jnp.ones(grid.shape) if weight is None else jnp.asarray(weight)
    bounce = 2 * np.pi / (3 * 0.55**2.5)
    r = float(rate(grid, stream, ("chi", "p"), weight))
    tr = Transport(axes=("chi", "p"), stream=jnp.asarray(stream), weight=weight, substeps=int(np.ceil(r * bounce / 40 / 0.8)))
    f, budget = run(tr, grid, state, bounce / 40, 40)
    assert int(budget.pop("fault")) == 0
    assert float(jnp.max(jnp.abs(f / state - 1))) <= 1e-12
    # the corners of all four walls are on one level of H: nothing goes through them
    assert max(abs(float(v)) for v in budget.values()) <= 1e-13 * float(grid.content(state))
    f0 = jnp.asarray(np.random.default_rng(0).uniform(size=grid.shape) ** 8) * state
    f, budget = run(tr, grid, f0, bounce / 40, 40)
    check_budget(grid, f0, f, budget)
    assert abs(float(grid.content(f) / grid.content(f0)) - 1) <= 1e-13 and float(jnp.min(f)) >= 0.0


def test_cells_that_are_not_live_swallow_what_meets_them():
    """A beam meets a wall inside the box: what reaches it is the loss, and what it hides stays empty."""
    grid = Grid((Axis.nodes("mu", [1.0, 2.0], [0.5, 1.5]), *box(16, 12, 0.3).axes))
    y = grid.faces("y")
    stream = jnp.asarray(-y * np.ones((1, 17, 1)))                           # to the right at speed one
    live = np.abs(grid.centers("x") - 0.5) + 0 * grid.centers("y") > 0.25    # the same for both mu
    r = float(rate(grid, stream, ("x", "y")))
    tr = Transport(axes=("x", "y"), stream=stream, live=live, substeps=int(np.ceil(r * 0.5 / 0.8)))
    beam = np.where(grid.centers("x") < 0.2, 1.0 + np.sin(3 * grid.centers("y")) ** 2, 0.0)
    f0 = jnp.asarray(beam * np.array([[[1.0]], [[2.0]]]))
    f, budget = run(tr, grid, f0, 0.5, 6)
    check_budget(grid, f0, f, budget)
    assert float(jnp.max(jnp.where(live, 0.0, f))) == 0.0 and float(jnp.min(f)) >= 0.0
    assert float(jnp.max(f)) <= 1e-3                                         # what trails behind the beam
    assert float(budget["loss"]) == pytest.approx(-float(grid.content(f0)), rel=1e-3)
    assert abs(float(budget["x.upper"])) <= 1e-3 * float(grid.content(f0))
    everywhere, budget = run(dataclasses.replace(tr, live=jnp.ones((1, 16, 1), bool)), grid, f0, 0.5, 1, plain=True)
    free, _ = run(dataclasses.replace(tr, live=None), grid, f0, 0.5, 1, plain=True)
    np.testing.assert_array_equal(everywhere, free)
    assert float(budget["loss"]) == 0.0


def test_never_negative_at_random_flows():
    """Rough random flows, a vmapped batch of them, on non-uniform volumes, walls closed and open; content is accounted for."""
    grid = belt(12, 10)
    data = {
        "delta": jnp.zeros(grid.shape).at[5, 3].set(1.0),
        "steps": (jax.random.uniform(jax.random.key(1), grid.shape) > 0.7).astype(float),
        "tails": 10.0 ** jax.random.uniform(jax.random.key(2), grid.shape, minval=-300.0, maxval=2.0),
    }

    @jax.jit
    def go(psi, f0):
        dt = 3 * 0.8 / jnp.max(jax.vmap(lambda p: rate(grid, p, grid.names))(psi))

        def one(p):
            tr = Transport(axes=grid.names, stream=p, substeps=4)

            def body(f, _):
                f, b = step(tr, grid, f, dt)
                return f, (jnp.min(f), b)
            return jax.lax.scan(body, f0, None, length=15)
        return jax.vmap(one)(psi)
    for closed in (True, False):
        keys = jax.random.split(jax.random.key(3), 6)
        psi = jax.vmap(lambda k: random_stream(grid, k, closed))(keys)  # noqa: B023
        for name, f0 in data.items():
            f, (low, b) = go(psi, f0)
            assert float(low.min()) >= 0.0, name
            for i in range(len(keys)):
                check_budget(grid, f0, f[i], {k: v[i].max() if k == "fault" else v[i].sum() for k, v in b.items()})
            if closed:
                assert all(abs(float(b[w].sum())) < 1e-13 for w in ("L.lower", "L.upper"))


def test_square_pulse_keeps_positive_only_by_the_limiter():
    grid = belt(6, 48)
    phi = grid.centers("phi")
    f0 = jnp.where(jnp.abs(phi - 2) < 0.5, 1.0, 0.0) * jnp.ones(grid.shape)
    psi = -1 / grid.faces("L") * jnp.ones((1, 48))
    lows = []
    for positive in (True, False):
        f, b = run(Transport(axes=("L", "phi"), stream=psi, substeps=20, positive=positive), grid, f0, 1.0, 7)
        check_budget(grid, f0, f, b)
        lows.append(float(f.min()))
    assert lows[0] >= 0 > lows[1] > -1e-3


def test_limiter_leaves_smooth_data_alone():
    grid = belt(16, 16)
    L, phi = grid.mesh()
    f0 = 1 + 0.5 * jnp.sin(phi) * jnp.cos(L)
    kw = dict(axes=("L", "phi"), stream=belt_stream(grid), substeps=20, lower=(1.0, None), upper=(1.0, None))
    a, b = (run(Transport(positive=p, **kw), grid, f0, 1.0, 1)[0] for p in (True, False))
    assert float(jnp.max(jnp.abs(a - b))) < 1e-14


@pytest.mark.plain
def test_fault_where_substeps_run_out():
    grid = belt()
    psi = belt_stream(grid)
    f0 = jnp.ones(grid.shape)
    exact = float(rate(grid, psi, ("L", "phi"))) / 0.8
    need = int(np.ceil(exact))

    @jax.jit
    def go(psi, dt):
        return step(Transport(axes=("L", "phi"), stream=psi, substeps=need), grid, f0, dt)
    assert int(go(psi, 1.0)[1]["fault"]) == 0
    assert int(go(psi, (need + 0.01) / exact)[1]["fault"]) == SUBSTEPS_EXCEEDED
    assert int(go(psi.at[3, 3].set(jnp.nan), 1.0)[1]["fault"]) == SUBSTEPS_EXCEEDED
    f, b = go(0 * psi, 1.0)
    assert bool(jnp.all(f == f0)) and int(b["fault"]) == 0


@pytest.fixture(scope="module")
def derivatives():
    """A functional of (f0, stream, outer values) after one step of several substeps, compiled once in each direction."""
    grid = belt(10, 12)
    L, phi = grid.mesh()
    weight = np.cos(L + phi)

    def loss(x):
        f0, psi, lower, upper = x
        tr = Transport(axes=("L", "phi"), stream=psi, substeps=12, lower=(lower, None), upper=(upper, None))
        f, b = step(tr, grid, f0, 0.8)
        return jnp.sum(weight * f**2) + 3 * b["L.upper"]
    return grid, loss, plain_jit(jax.grad(loss)), plain_jit(lambda x, d: jax.jvp(loss, (x,), (d,)))


def smooth_case(grid):
    """The arguments of the functional at theta (three numbers, linear in each), and their derivative along v."""
    L, phi = grid.mesh()
    start, base = 1 + 0.3 * np.sin(phi) * np.cos(L), np.asarray(belt_stream(grid))
    bump = np.cos(2 * grid.faces("phi")[:, 1:]) * np.sin(grid.faces("L"))
    assert substeps_for(grid, base, 0.8) > 3

    def at(theta):
        return start * (1 + theta[2] * L), base + theta[0] * bump, 1 + theta[1], 1.1

    def along(v):
        return start * v[2] * L, v[0] * bump, v[1], 0.0
    return at, along


@pytest.mark.plain
def test_gradient_reverse_forward_differences(derivatives):
    """Through substeps: jit(grad) == jvp == central differences."""
    grid, _, reverse, forward = derivatives
    at, along = smooth_case(grid)
    theta, v = np.array([0.011, 0.02, 0.03]), np.array([0.6, -0.3, 0.5])
    back = reverse(at(theta))
    g = np.array([sum(np.vdot(a, b) for a, b in zip(back, along(e))) for e in np.eye(3)])
    np.testing.assert_allclose(g @ v, forward(at(theta), along(v))[1], rtol=1e-10)
    eps = 1e-6  # differences of WENO weights bend on the scale of 1e-3: at 1e-5 they are off by 2e-6, at 1e-6 by 2e-8
    value = lambda x: forward(x, along(v))[0]  # noqa: E731
    fd = [(value(at(theta + eps * e)) - value(at(theta - eps * e))) / (2 * eps) for e in np.eye(3)]
    np.testing.assert_allclose(g, fd, rtol=1e-7)


@pytest.mark.slow
def test_gradient_of_a_compiled_batch(derivatives):
    """grad(jit(vmap)) == jit(grad)."""
    grid, loss, reverse, _ = derivatives
    at, _ = smooth_case(grid)
    points = [at(np.array([0.011, 0.02, 0.03]) * k) for k in (0.5, 1.0)]
    many = jax.jit(jax.vmap(loss))
    batch = jax.grad(lambda x: jnp.sum(many(x)))(jax.tree.map(lambda *x: jnp.stack(jnp.asarray(x)), *points))
    for a, b in zip(reverse(points[1]), batch):
        np.testing.assert_allclose(a, b[1], rtol=1e-10, atol=1e-12 * np.max(np.abs(b)))


@pytest.mark.plain
def test_gradient_has_no_nan(derivatives):
    grid, _, reverse, forward = derivatives
    psi, zero = np.asarray(belt_stream(grid)), jnp.zeros(grid.shape)
    data = {"vacuum": zero, "delta": zero.at[4, 4].set(1.0), "pulse": zero.at[2:5, 2:5].set(1.0),
            "tiny": zero.at[2:5, 2:5].set(1e-200), "mixed": zero.at[2:5, 2:5].set(1e-200).at[6, 6].set(1e30)}
    for name, f0 in data.items():
        x = f0, psi, 0.0, 0.0
        assert all(bool(jnp.all(jnp.isfinite(g))) for g in reverse(x)), name
        assert bool(jnp.isfinite(forward(x, (np.ones(grid.shape), np.ones(psi.shape), 0.0, 0.0))[1])), name


@pytest.mark.parametrize("eager", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_eager_jit_vmap_agree(eager):
    """Runs of a batch do not see each other, even where one of them needs the limiter."""
    grid = belt(8, 10)
    tr = Transport(axes=("L", "phi"), stream=belt_stream(grid), substeps=10)
    f0 = jnp.stack([jnp.ones(grid.shape), jnp.zeros(grid.shape).at[4, 4].set(1.0), jnp.ones(grid.shape).at[:, :3].set(5.0)])

    def one(f):
        return step(tr, grid, f, 0.7)
    many, jitted = jax.jit(jax.vmap(one))(f0), jax.jit(one)
    pairs = [(jitted(f0[i]), jax.tree.map(lambda x: x[i], many)) for i in range(3)]  # noqa: B023
    for one_way, other in (*pairs, (jitted(f0[1]), one(f0[1]))) if eager else pairs:
        for a, b in zip(jax.tree.leaves(one_way), jax.tree.leaves(other)):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)


@pytest.mark.plain
def test_vmap_over_flows():
    """Runs with different rates share the largest substep count; only the run that is short of substeps is at fault."""
    grid = belt(8, 10)
    psi = belt_stream(grid)[None] * jnp.array([0.2, 1.0])[:, None, None]
    need = substeps_for(grid, psi[0], 0.7)
    f0 = jnp.ones(grid.shape)

    def one(p):
        _, b = step(Transport(axes=("L", "phi"), stream=p, substeps=need), grid, f0, 0.7)
        return b["fault"]
    assert jax.jit(jax.vmap(one))(psi).tolist() == [0, SUBSTEPS_EXCEEDED]


@pytest.mark.parametrize("order", [*(pytest.param(x, marks=pytest.mark.slow) for x in
                                     (("q", "L", "phi"), ("L", "q", "phi"), ("L", "phi", "q"))), ("q", "phi", "r", "L")])
@pytest.mark.plain
def test_batch_axes_anywhere(order):
    """Other axes are batch: each of their cells evolves as the plane alone would, and the budget counts their measure."""
    plane = belt(8, 10)
    axes = {"L": plane.axes[0], "phi": plane.axes[1], "q": Axis.nodes("q", [1.0, 2.0], [0.5, 3.0]),
            "r": Axis.cells("r", [0.0, 1.0, 4.0])}
    grid = Grid(tuple(axes[n] for n in order))
    psi = belt_stream(plane)
    start = jnp.zeros(plane.shape).at[1:4, 3:6].set(1.0) + 0.01
    kq = grid.index("q")

    def spread(x):
        """An (L, phi) array as an array on the grid with length 1 along the batch axes."""
        x = x if order.index("L") < order.index("phi") else x.T
        return jnp.expand_dims(x, [i for i, n in enumerate(order) if n not in ("L", "phi")])
    q = grid.centers("q")
    f0 = spread(start) * q * jnp.ones(grid.shape)
    inside = tuple(n for n in order if n != "L").index("q")
    shape = [1] * (grid.ndim - 1)
    shape[inside] = 2
    outside = jnp.array([0.5, 1.0]).reshape(shape) * jnp.ones([axes[n].n for n in order if n != "L"])
    tr = Transport(axes=("L", "phi"), stream=spread(psi), lower=(outside, None), upper=(outside, None), substeps=12)
    f, b = jax.jit(lambda f: step(tr, grid, f, 0.7))(f0)
    check_budget(grid, f0, f, b)
    alone, _ = run(Transport(axes=("L", "phi"), stream=psi, lower=(0.5, None), upper=(0.5, None), substeps=12),
                   plane, start, 0.7, 1)
    for i in range(2):
        np.testing.assert_allclose(jnp.take(f, jnp.array([i]), kq), (i + 1) * spread(alone)
                                   * jnp.ones_like(jnp.take(f, jnp.array([i]), kq)), rtol=1e-12, atol=1e-14)


def test_ripple_filter():
    """Each harmonic is multiplied by sin(x)/x, by row; the drift stays divergence-free."""
    grid = belt(6, 32)
    phi = grid.faces("phi")[:, 1:]
    Omega, dt, omega = np.linspace(0.01, 0.05, 7)[:, None], 180.0, 0.004
    psi = 0.3 + sum(np.cos(m * phi + m) * np.ones((7, 1)) for m in (1, 3, 8))
    filtered = jax.jit(lambda w: ripple_filter(psi, Omega, dt, 1, w))
    for w in (0.0, omega):
        expected = 0.3 * np.sinc(w * dt / 2 / np.pi) * np.ones((7, 32))
        for m in (1, 3, 8):
            x = (m * Omega - w) * dt / 2
            expected = expected + np.sin(x) / x * np.cos(m * phi + m)
        np.testing.assert_allclose(filtered(w), expected, atol=2e-15)
    ua, ub = (np.asarray(u) for u in face_fluxes(grid, filtered(0.0), ("L", "phi")))
    assert np.max(np.abs(np.diff(ua, axis=0) + ub - np.roll(ub, 1, 1))) < 1e-15
    slope = jax.jit(jax.grad(lambda o: jnp.sum(ripple_filter(psi, o, dt, 1) ** 2)))
    assert bool(jnp.isfinite(slope(0 * Omega)).all())


@pytest.mark.parametrize("periodic", [(False, False), (False, True), (True, False), (True, True)])
@pytest.mark.parametrize("axes", [(0, 1), (2, 1)])
@pytest.mark.plain
def test_stream_from_velocity(periodic, axes):
    cells = [Axis.cells(n, np.linspace(0, 1, m + 1), periodic=p) for n, m, p in zip("ab", (5, 7), periodic)]
    order = [None] * (max(axes) + 1)
    order[axes[0]], order[axes[1]] = cells
    grid = Grid(tuple(a or Axis.nodes("q", [1.0]) for a in order))
    psi = np.random.default_rng(0).normal(size=[x.n + (not x.periodic and not x.is_nodes) for x in grid.axes])

    @jax.jit
    def round_trip(psi):
        ua, ub = face_fluxes(grid, psi, ("a", "b"))
        # the same cell pushed harder on one side only: divergent
        pushed = ua + (jnp.arange(ua.size).reshape(ua.shape) == ua.size // 2)
        return *stream_from_velocity(ua, ub, axes), stream_from_velocity(pushed, ub, axes)[1]

    back, mismatch, divergent = round_trip(psi)
    assert float(mismatch) < 1e-14
    np.testing.assert_allclose(back - back.mean(), psi - psi.mean(), atol=1e-13)
    assert float(divergent) > 0.05


@pytest.mark.parametrize("m, expected", [(1, 1.7e-3), (8, 0.12)])
@pytest.mark.plain
def test_numerical_phase_diffusion(m, expected):
    """128 cells round a ring at 691 rad/day: the decay of harmonic m, as a diffusion in rad^2/day."""
    grid = Grid((Axis.cells("a", [0.0, 1.0, 2.0, 3.0]), Axis.cells("phi", np.linspace(0, 2 * np.pi, 129), periodic=True)))
    phi = grid.centers("phi")
    psi = 691.0 * grid.faces("a") * jnp.ones((1, 128))
    dt = 16 * 0.8 * (2 * np.pi / 128) / 691
    f0 = 1 + 0.5 * jnp.cos(m * phi) * jnp.ones(grid.shape)
    f, b = run(Transport(axes=("a", "phi"), stream=psi, substeps=16), grid, f0, dt, 50, plain=True)
    amplitude = 2 * abs(jnp.fft.rfft(f[1])[m]) / 128
    D = -float(jnp.log(amplitude / 0.5)) / (50 * dt) / m**2
    assert D == pytest.approx(expected, rel=0.15)
