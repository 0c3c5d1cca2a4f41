"""Axes and grids: exact volumes, names, hashing, messages that name the axis and the value."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbelt.grid import Axis, Grid


def test_cells():
    a = Axis.cells("L", [1.0, 2.0, 4.0], unit="R_E", measure=[0.5, 0.25], centers=[1.4, 3.0])
    assert a.n == 2 and not a.is_nodes and not a.periodic and a.unit == "R_E"
    np.testing.assert_array_equal(a.faces, [1, 2, 4])
    np.testing.assert_array_equal(a.measure, [0.5, 0.25])
    np.testing.assert_array_equal(Axis.cells("x", [1.0, 2.0, 4.0]).centers, [1.5, 3.0])
    with pytest.raises(ValueError):
        a.faces[0] = 3.0


def test_nodes():
    a = Axis.nodes("mu", [1.0, 5.0], [0.3, 0.7])
    assert a.is_nodes and a.n == 2
    np.testing.assert_array_equal(Axis.nodes("species", [0, 1, 2]).measure, 1.0)
    with pytest.raises(ValueError, match="mu: an axis of nodes has no faces"):
        _ = a.faces
    assert Axis.nodes("one", 3.0).n == 1


def test_volumes_and_content():
    x = Axis.cells("x", [0.0, 1.0, 3.0])
    mu = Axis.nodes("mu", [1.0, 2.0, 3.0], [0.1, 0.2, 0.3])
    grid = Grid((mu, x))
    assert grid.shape == (3, 2) and grid.ndim == 2 and grid.names == ("mu", "x")
    np.testing.assert_allclose(grid.volumes, np.outer([0.1, 0.2, 0.3], [1.0, 2.0]))
    f = jnp.ones((4, 3, 2))
    np.testing.assert_allclose(grid.content(f), [0.6 * 3.0] * 4)
    even = Grid((Axis.cells("phi", np.linspace(0, 1, 9), periodic=True), x))
    assert even.volumes_compact.shape == (1, 2)
    np.testing.assert_allclose(np.broadcast_to(even.volumes_compact, even.shape), even.volumes)


def test_names_positions_and_shapes():
    grid = Grid((Axis.cells("x", [0.0, 1.0, 3.0]), Axis.cells("y", [0.0, 1.0, 2.0, 4.0])))
    assert grid.index("y") == grid.index(1) == grid.index(-1) == 1
    assert grid["y"].n == 3
    assert grid.centers("x").shape == (2, 1) and grid.faces("y").shape == (1, 4)
    assert [c.shape for c in grid.mesh()] == [(2, 1), (1, 3)]
    assert [c.shape for c in grid.mesh(x="faces")] == [(3, 1), (1, 3)]
    with pytest.raises(ValueError, match="axis 'z' is not on this grid; it has x, y"):
        grid["z"]


def test_static_and_hashable():
    def made():
        return Grid((Axis.cells("x", np.linspace(0, 1, 5)),))

    assert made() == made() and hash(made()) == hash(made())
    assert made() != Grid((Axis.cells("x", np.linspace(0, 2, 5)),))
    assert jax.tree.leaves(made()) == []
    traces = []

    @jax.jit
    def content(grid, f):
        traces.append(1)
        return grid.content(f)

    for _ in range(3):
        content(made(), jnp.ones(4))
    assert len(traces) == 1


@pytest.mark.parametrize("build,message", [
    (lambda: Axis.cells("L", [1.0, 3.0, 2.0]), r"L: faces must increase, but face 2 = 2 follows 3"),
    (lambda: Axis.cells("L", [1.0, 1.0]), r"L: faces must increase"),
    (lambda: Axis.cells("L", [1.0]), r"L: needs at least two faces.*\(1,\)"),
    (lambda: Axis.cells("L", [[1.0, 2.0]]), r"L: needs at least two faces"),
    (lambda: Axis.cells("L", [1.0, np.nan, 2.0]), r"L: faces must be finite, got nan"),
    (lambda: Axis.cells("L", [1.0, np.inf]), r"L: faces must be finite, got inf"),
    (lambda: Axis.cells("L", [0.0, 1.0, 2.0], centers=[0.5, 2.5]), r"L: centers must lie inside their cells.*2 cells"),
    (lambda: Axis.cells("L", [0.0, 1.0, 2.0], centers=[0.5]), r"L: centers"),
    (lambda: Axis.cells("L", [0.0, 1.0, 2.0], measure=[1.0, 0.0]), r"L: measure must be positive"),
    (lambda: Axis.cells("L", [0.0, 1.0, 2.0], measure=[1.0, np.nan]), r"L: measure must be positive"),
    (lambda: Axis.cells("L", [0.0, 1.0, 2.0], measure=[1.0]), r"L: measure.*shape \(1,\)"),
    (lambda: Axis.nodes("mu", [1.0, 2.0], [1.0]), r"mu: weights must be positive, one for each of the 2 nodes"),
    (lambda: Axis.nodes("mu", [1.0, 2.0], [1.0, -1.0]), r"mu: weights must be positive"),
])
def test_bad_input(build, message):
    with pytest.raises(ValueError, match=message):
        build()
