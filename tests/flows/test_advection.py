"""`Advection`: known solutions, order, number, positivity, walls, moments, gradients; the two ways to give a drift agree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import plain_jit
from scipy.special import erf

from jaxbelt.coefficients import Time
from jaxbelt.flows import Advection
from jaxbelt.flows.advection import _departure_band, departure_matrix
from jaxbelt.grid import Axis, Frozen, Grid


def stretched(n, top=6.0, strength=2.0, name="p"):
    """Cells symmetric about 0, finest there."""
    x = np.sinh(strength * np.linspace(-1, 1, n + 1))
    x = 0.5 * (x - x[::-1])
    return Axis.cells(name, top * x / x[-1])


def means(axis, primitive):
    """Cell means of a density from its integral."""
    return jnp.asarray(np.diff(primitive(axis.faces)) / axis.measure)


def run(grid, flow, f, dt, count):
    """f, and the sums of the budget through both walls, after `count` steps."""
    state = flow.prepare(grid, dt)

    def one(i, carry):
        f, lower, upper = carry
        f, budget = flow.advance(grid, state, f, Time.at(0.0).plus(i * dt), dt)
        return f, lower + budget["p.lower"], upper + budget["p.upper"]

    f, lower, upper = jax.lax.fori_loop(0, count, one, (f, 0.0, 0.0))
    return f, jnp.stack([lower, upper])


steps, plain_steps = (jit(run, static_argnums=0) for jit in (jax.jit, plain_jit))


def bump(x):
    """The integral of a density that is smooth, and not symmetric."""
    return erf((x - 0.4) / 0.9) + 0.5 * erf((x + 0.8) / 0.7)


def order(errors):
    return np.log2(np.asarray(errors[:-1]) / np.asarray(errors[1:]))


@pytest.mark.parametrize("rate", [0.5, -0.3])
def test_contraction_and_expansion_against_the_exact_solution(rate):
    """P(p, t) = e^(k t) P0(p e^(k t)): fifth order of the cell means in many small steps, more exact in one large one."""
    errors, once, t = [], [], 1.0
    for n in (32, 64):
        axis = stretched(n)
        grid, flow = Grid((axis,)), Advection(axis="p", rate=rate)
        exact = np.diff(bump(axis.faces * np.exp(rate * t))) / axis.measure
        scale = axis.measure / np.sum(axis.measure * exact)
        f, _ = plain_steps(grid, flow, means(axis, bump), t / 8, 8)
        errors.append(float(np.sum(np.abs(f - exact) * scale)))
        f, _ = plain_steps(grid, flow, means(axis, bump), t, 1)
        once.append(float(np.sum(np.abs(f - exact) * scale)))
    print(f"L1 in eight steps {errors}, orders {order(errors)}; in one {once}")
    assert errors[1] <= 1e-3 and np.all(order(errors) >= 4.0)
    assert once[1] <= 0.5 * errors[1]


def test_reconstruction_is_exact_for_polynomials_and_of_second_order_at_walls():
    """Contents of 1, x, .., x^4 are cut exactly anywhere but near the walls: to x^2 next to them, to x in the last cells."""
    axis = stretched(12, 1.0)
    faces = axis.faces
    for power in range(5):
        def primitive(x, power=power):
            return x ** (power + 1) / (power + 1)
        contents = np.diff(primitive(faces))
        reach = (faces[0], faces[1], faces[2])[0 if power < 2 else 1 if power < 3 else 2]
        cut = np.linspace(0.999 * reach, -0.999 * reach, 13)
        rows = np.asarray(departure_matrix(faces, jnp.asarray(cut))) @ contents
        np.testing.assert_allclose(rows[1:-1], np.diff(primitive(cut)), rtol=0, atol=2e-15)


@pytest.mark.slow
def test_diagonals_are_those_of_the_matrix():
    for n in (1, 2, 3, 4, 6, 13):
        axis = Axis.cells("p", np.cumsum(np.r_[-1.0, np.random.default_rng(n).uniform(0.5, 1.5, n)]))
        shift = np.random.default_rng(0).uniform(-0.99, 0.99, (4, n + 1)) * np.min(axis.measure)
        shift[0] = 0.0
        feet = jnp.asarray(np.sort(axis.faces + shift, axis=-1))
        band, matrix = np.asarray(_departure_band(axis.faces, feet)), np.asarray(departure_matrix(axis.faces, feet))
        rebuilt = np.zeros(matrix.shape)
        for row in range(n + 2):
            for d in range(-3, 4):
                cell = row - 1 + d
                if 0 <= cell < n:
                    rebuilt[:, row, cell] = band[:, row, 3 + d]
                else:
                    assert np.all(band[:, row, 3 + d] == 0.0)
        np.testing.assert_allclose(rebuilt, matrix, rtol=0, atol=1e-15)
        np.testing.assert_allclose(matrix.sum(axis=-2), 1.0, rtol=1e-15)
        assert np.all(rebuilt[0, 1:-1] == np.eye(n))


def test_number_over_a_thousand_steps_and_none_below_zero():
    """A contraction by 1000 e-foldings of 0.02 each, and a box cut off at its edges."""
    axis = stretched(48)
    grid = Grid((Axis.nodes("mu", [1.0, 2.0], [0.3, 0.8]), axis))
    box = jnp.asarray(np.where(np.abs(axis.centers - 1.0) < 2.0, 1.0, 0.0)) * jnp.asarray([[1.0], [3.0]])
    for rate, dt in ((1.0, 0.02), (1.0, 3.0), ([[0.3], [0.001]], 0.1)):
        flow = Advection(axis="p", rate=jnp.asarray(rate) * jnp.ones((2, 1)))
        f, walls = steps(grid, flow, box, dt, 1000)
        drift = float(grid.content(f) / grid.content(box)) - 1
        print(f"rate dt {np.ravel(rate) * dt}: number {drift:.1e}, least {float(jnp.min(f)):.1e}")
        assert abs(drift) <= 1e-13
        assert float(jnp.min(f)) >= 0.0 and not np.any(walls)
        one, _ = steps(grid, flow, box, dt, 1)
        assert float(jnp.min(one)) >= 0.0


@pytest.mark.parametrize("shape", ["box", "delta", "spikes"])
def test_expansion_books_what_leaves(shape):
    axis = stretched(32)
    grid = Grid((axis,))
    rng = np.random.default_rng(0)
    f0 = {"box": np.where(axis.centers > -1.0, 1.0, 0.0), "delta": np.eye(32)[31],
          "spikes": rng.uniform(size=32) ** 20}[shape]
    f0 = jnp.asarray(f0)
    for dt in (0.01, 0.3, 4.0):
        f, walls = steps(grid, Advection(axis="p", rate=-1.0), f0, dt, 20)
        content = float(grid.content(f0))
        assert float(jnp.min(f)) >= 0.0
        assert abs(float(grid.content(f)) - content - float(jnp.sum(walls))) <= 1e-13 * content
        assert np.all(np.asarray(walls) <= 0.0)
    assert float(grid.content(f)) <= 1e-12 * content


def test_mean_square_decays_as_it_must():
    """<p^2> = <p^2>_0 exp(-2 k t), to the second order that cell means know it to."""
    worst = []
    for n in (48, 96):
        axis = stretched(n)
        grid = Grid((axis,))
        f0 = means(axis, lambda x: erf(x / 2.0))
        square = jnp.asarray(np.diff(axis.faces**3) / 3)
        worst.append([])
        for count in (1, 50):
            f, _ = plain_steps(grid, Advection(axis="p", rate=0.5), f0, 1.0 / count, count)
            now, start = (float(jnp.sum(square * g) / grid.content(g)) for g in (f, f0))
            worst[-1].append(now / start * np.exp(1.0) - 1)
    print(f"<p^2> against its decay in 1, 50 steps, at 48 and 96 cells: {worst}")
    assert np.all(np.abs(worst[1]) <= 8e-4) and np.all(np.abs(worst[0]) <= 4.2 * np.abs(worst[1]))


def test_speed_and_rate_agree_and_many_cells_at_once():
    """u = -k x on the faces is the contraction; a constant speed shifts a bump across the grid in one step or in many."""
    axis = stretched(40)
    grid = Grid((axis,))
    f0 = means(axis, bump)
    for k in (0.7, -0.7):
        a, wall_a = plain_steps(grid, Advection(axis="p", rate=k), f0, 0.5, 2)
        b, wall_b = plain_steps(grid, Advection(axis="p", speed=jnp.asarray(-k * axis.faces), substeps=32), f0, 0.5, 2)
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-7)
        np.testing.assert_allclose(wall_a, wall_b, rtol=0, atol=1e-7)
    even = Axis.cells("p", np.linspace(-10, 10, 201))
    grid, f0 = Grid((even,)), means(even, lambda x: bump(x + 4.0))
    exact = np.diff(bump(even.faces - 2.0)) / even.measure
    one, many = (plain_steps(grid, Advection(axis="p", speed=jnp.full(201, 6.0)), f0, 1.0 / m, m)[0] for m in (1, 100))
    print(f"60 cells at once: {float(jnp.max(jnp.abs(one - exact))):.1e}, 0.6 cells at a time "
          f"{float(jnp.max(jnp.abs(many - exact))):.1e}")
    np.testing.assert_allclose(one, exact, rtol=0, atol=1e-12)
    np.testing.assert_allclose(many, exact, rtol=0, atol=1e-3)


def test_curved_speed_against_its_known_feet():
    """dx/dt = sin x: x = 2 atan(tan(x0/2) e^t); feet converge with the second order of the linear speed."""
    errors = []
    for n in (40, 80):
        axis = Axis.cells("p", np.linspace(0.0, np.pi, n + 1))
        grid = Grid((axis,))
        f0 = jnp.asarray(np.diff(1 - np.cos(axis.faces)) / axis.measure)
        feet = 2 * np.arctan(np.tan(axis.faces / 2) * np.exp(-0.5))
        f, walls = plain_steps(grid, Advection(axis="p", speed=jnp.asarray(np.sin(axis.faces))), f0, 0.1, 5)
        errors.append(float(np.max(np.abs(f - np.diff(1 - np.cos(feet)) / axis.measure))))
        assert float(jnp.max(jnp.abs(walls))) <= 1e-12
    print(f"sin x: {errors}")
    assert errors[1] <= 2e-3 and errors[0] / errors[1] >= 2.0


def test_walls_with_values_keep_constants():
    """Constants stay under a constant speed, whichever way and however far it goes, and the walls say what came in."""
    axis = Axis.cells("p", np.cumsum([0, 1, 2, 1, 3, 1, 1, 2.0]))
    grid = Grid((Axis.nodes("mu", [1.0, 2.0]), axis))
    for speed in (0.3, -0.3, 40.0):
        flow = Advection(axis="p", speed=jnp.full((1, 8), speed), lower=jnp.asarray([1.5, 1.5]), upper=1.5)
        f, walls = steps(grid, flow, jnp.full(grid.shape, 1.5), 1.0, 2)
        np.testing.assert_allclose(f, 1.5, rtol=1e-14)
        np.testing.assert_allclose(walls, 2 * 2 * 1.5 * speed * np.array([1, -1]), rtol=1e-13)


@pytest.mark.parametrize("form", ["rate", "speed"])
def test_gradient_forward_reverse_and_differences(form):
    """In k of either sign and in k = 0, where every foot lies on its face; in u; finite in vacuum."""
    axis = stretched(16, 3.0)
    grid = Grid((Axis.nodes("mu", [1.0, 2.0, 3.0]), axis))
    f0 = (0.5 + means(axis, bump))[None] * jnp.asarray([[1.0], [2.0], [0.0]])
    weight = jnp.asarray(np.random.default_rng(1).uniform(size=grid.shape))
    fields = {"rate": jnp.ones((3, 1)), "speed": jnp.asarray(0.3 - axis.faces + 0.2 * axis.faces**2)[None] * jnp.ones((3, 1))}
    field = fields[form]
    way = jnp.asarray(np.random.default_rng(2).normal(size=field.shape))

    def value(a, f):
        flow = Advection(axis="p", **{form: a})
        new, budget = flow.advance(grid, flow.prepare(grid, 0.3), f, Time.at(0.0), 0.3)
        return jnp.sum(weight * new) + 0.3 * budget["p.lower"] - 0.2 * budget["p.upper"]

    reverse = plain_jit(jax.grad(value, (0, 1)))
    forward = plain_jit(lambda a, f, da, df: jax.jvp(value, (a, f), (da, df)))
    for factor in (0.8, -0.8, 0.0):
        a, df = factor * field, 0.1 * f0
        back = reverse(a, f0)
        assert all(bool(jnp.all(jnp.isfinite(x))) for x in back)
        along = float(forward(a, f0, way, df)[1])
        assert along == pytest.approx(float(jnp.sum(back[0] * way) + jnp.sum(back[1] * df)), rel=1e-11)
        # at 0 the summed content has one slope below a face and another above: differences see the mean of both, but only to
        # the first order in h
        h = 1e-4 if factor else 1e-7
        v = [float(forward(a + s * h * way, f0 + s * h * df, way, df)[0]) for s in (-2, -1, 1, 2)]
        central = (8 * (v[2] - v[1]) - (v[3] - v[0])) / (12 * h)
        assert along == pytest.approx(central, rel=1e-7 if factor else 1e-6)
        assert bool(jnp.all(jnp.isfinite(reverse(a, jnp.zeros_like(f0))[0])))


def test_order_of_axes_and_runs_in_a_batch():
    """The axis first, last or between others, its lines shared or not, alone or in a batch with longer steps: the same."""
    axis, mu, y = stretched(12), Axis.nodes("mu", [1.0, 2.0], [0.3, 0.8]), Axis.cells("y", [0.0, 1.0, 3.0, 4.0])
    rng = np.random.default_rng(4)
    rate, f0 = rng.uniform(0.2, 1.0, (2, 3, 1)), rng.uniform(size=(2, 3, 12)) ** 4

    def value(a, order, factor=None):
        axes = tuple((mu, y, axis)[i] for i in order)
        grid = Grid(axes, None if factor is None else Frozen(factor))
        flow = Advection(axis="p", rate=jnp.transpose(jnp.asarray(a), order))
        f, budget = flow.advance(grid, flow.prepare(grid, 0.1), jnp.transpose(jnp.asarray(f0), order), Time.at(0.0), 0.1)
        return jnp.transpose(f, np.argsort(order)), budget["p.upper"]

    several = plain_jit(jax.vmap(lambda a: value(a, (0, 1, 2))))
    all_of_them = several(jnp.stack([rate, -rate, 20.0 * rate]))
    for k, a in enumerate((rate, -rate, 20.0 * rate)):
        order = ((2, 0, 1), (0, 2, 1), (1, 2, 0))[k]
        for got, wanted in zip(plain_jit(lambda a, order=order: value(a, order))(a), all_of_them):
            np.testing.assert_allclose(got, wanted[k], rtol=1e-13, atol=1e-15)
    # lines that share their rate; a volume factor that is the same along the axis changes nothing but what a cell holds
    shared = plain_jit(lambda a: value(a, (0, 1, 2), np.array([[[2.0]], [[4.0]]]) * np.ones((2, 3, 12))))
    np.testing.assert_allclose(shared(rate[:1, :1])[0][0, 0], all_of_them[0][0, 0, 0], rtol=1e-13, atol=1e-15)


def test_bad_fields_are_refused():
    ring = Grid((Axis.cells("p", np.linspace(0, 1, 9), periodic=True),))
    line = Grid((stretched(8),))
    for grid, flow, says in ((ring, Advection(axis="p", rate=1.0), "periodic"),
                             (line, Advection(axis="p"), "either rate or speed"),
                             (line, Advection(axis="p", rate=1.0, speed=jnp.ones(9)), "either rate or speed"),
                             (line, Advection(axis="p", rate=jnp.ones(8)), "rate has length 8"),
                             (line, Advection(axis="p", speed=jnp.ones(8)), "speed has length 8")):
        with pytest.raises(ValueError, match=says):
            flow.prepare(grid, 1.0)
