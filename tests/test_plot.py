"""Every picture is drawn, from a run and from a solution; what cannot be drawn says so."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from jaxbelt import drift_diffusion as dd
from jaxbelt import io, plot, plot_overlays
from jaxbelt import plot_common as common
from jaxbelt.config import InputError

pytestmark = pytest.mark.plain


def a_run(epoch="2013-03-16T00:00:00", cells=(10, 16), **attrs):
    grid = dd.grid(L=(3.0, 6.0), cells=cells)
    t = 1800.0 * np.arange(9)
    L, *phi = grid.mesh()
    wave = 1 + 0.5 * np.cos(phi[0] - t[:, None, None] / 3000) if phi else 1.0
    f = np.exp(-((L - 4.5) ** 2)) * np.ones((9,) + (1,) * grid.ndim) * wave
    kp = {"t": np.array([0.0, 10800.0]), "values": np.array([2.0, 6.0]), "kind": "step", "units": "1", "long_name": "Kp"}
    wall = {"t": np.array([0.0, 7200.0]), "values": np.array([1.0, 0.01]), "kind": "log-linear", "units": "1",
            "long_name": "f at the outer boundary / initial (illustrative)"}
    attrs = {"long_title": "A case", "notes": "illustrative"} | attrs
    return io.Run(path=Path("x.nc"), grid=grid, t=t, f=f, content=np.ones(9), budget={}, state=f[-1], result=0, epoch=epoch,
                  status="complete", attrs=attrs, f_attrs={}, drivers={"kp": kp, "outer_factor": wall}, planned=t)


@pytest.mark.parametrize("kind", [k for k, (_, axes) in plot.PICTURES.items() if set(axes) <= {"L", "phi"}])
@pytest.mark.parametrize("epoch", [None, "2013-03-16T00:00:00"])
def test_every_picture(kind, epoch, tmp_path):
    island = {"L0": 4.5, "half_width": 0.3, "w": 0.015, "m": 3, "omega": 0.02, "phase": 0.0, "sign": 1.0}
    (path,) = plot.save(a_run(epoch, island=island), [kind], tmp_path, dpi=40)
    assert path.name == f"x-{kind}.png" and path.stat().st_size > 2000


def test_midnight_is_at_the_bottom_and_dawn_on_the_right():
    ax = plot.dials(a_run(), 2).axes[0]
    assert ax.get_theta_direction() == 1
    to = ax.transData.transform
    centre, midnight, dawn, noon = to((0, 0)), to((0, 5)), to((np.pi / 2, 5)), to((np.pi, 5))
    assert midnight[1] < centre[1] < noon[1] and dawn[0] > centre[0]
    assert [x.get_text() for x in ax.get_xticklabels()] == ["00", "06", "12", "18"]


def test_cells_of_dials_are_parts_of_rings():
    """However few there are: the edges that are drawn stay within 1e-4 of their radius."""
    run = a_run(cells=(10, 8))
    mesh = plot.dials(run, 2).axes[0].collections[0]
    phi, L = np.moveaxis(mesh.get_coordinates(), -1, 0)
    np.testing.assert_allclose(np.cos(0.5 * np.diff(phi, axis=1)), 1.0, atol=1e-4)
    assert phi[0, 0] == 0 and phi[0, -1] == pytest.approx(2 * np.pi) and np.array_equal(L[:, 0], run.grid["L"].faces)
    np.testing.assert_array_equal(np.asarray(mesh.get_array()).reshape(10, 8, 30), np.repeat(run.f[0][..., None], 30, axis=2))


@pytest.mark.parametrize("hours, label, ticks, said", [
    (0.5, "time [min]", None, ["0 min", "30 min"]),
    (2.5, "time [h]", [0, 0.5, 1, 1.5, 2, 2.5], ["0 min", "2 h 30 min"]),
    (24.0, "time [h]", [0, 3, 6, 9, 12, 15, 18, 21, 24], ["0 h", "24 h"]),
    (72.0, "time [h]", [0, 12, 24, 36, 48, 60, 72], ["0 h", "72 h"]),
    (240.0, "time [d]", None, ["0 d", "10 d"]),
])
def test_time_axes_without_dates(hours, label, ticks, said):
    run = a_run(None)
    run = dataclasses.replace(run, t=run.t * hours / 4.0, planned=run.planned * hours / 4.0, drivers={})
    ax = plot.keogram(run).axes[2]
    assert ax.get_xlabel() == label and [common.moment(run, t) for t in run.t[[0, -1]]] == said
    low, high = ax.get_xlim()
    drawn = [x for x in ax.get_xticks() if low <= x <= high]
    assert ticks is None or drawn == ticks
    assert 4 <= len(drawn) <= 11 and high == {"m": 60 * hours, "h": hours, "d": hours / 24}[label[6]]


def test_notes_and_units_are_in_the_picture():
    run = a_run()
    run.f_attrs.update(units="(c/(MeV cm))^3", long_name="phase space density")
    fig = plot.l_time(run)
    words = " ".join(t.get_text() for t in fig.findobj(lambda a: hasattr(a, "get_text")))
    for word in ("illustrative", "A case", "Kp", "UTC", "MeV cm", "MLT mean"):
        assert word in words


def test_a_vacuum_and_a_constant_can_be_drawn(tmp_path):
    run = a_run()
    for value in (0.0, 1.0):
        run.f[:] = value
        drawn = plot.save(run, ["l-time", "cuts", "keogram"], tmp_path, dpi=30)
        assert len(drawn) == 3 and all(p.stat().st_size > 0 for p in drawn)


def test_one_axis(tmp_path):
    run = a_run(cells=10)
    assert [p.name for p in plot.save(run, None, tmp_path, dpi=30)] == ["x-l-time.png", "x-cuts.png"]
    with pytest.raises(InputError, match='"dials" needs the axes L, phi'):
        plot.save(run, ["dials"], tmp_path)


def test_a_solution_can_be_drawn(tmp_path):
    from jaxbelt.solve import solve

    grid = dd.grid(L=(3.0, 6.0), cells=8)
    problem = dd.problem(grid, dd.Parameters(dll=0.1), inner=0.0, outer=1.0, epoch="2013-03-16")
    sol = solve(problem, np.ones(8), t=[0.0, 600.0, 1200.0], dt=600.0)
    assert plot.save(sol, ["cuts"], tmp_path, dpi=30)[0].exists()


# ---- overlays

class WithShells:
    """A lifetime as the overlays see it: parts that hold a plasmapause and a last closed shell."""

    def __init__(self, **given):
        self.__dict__.update(given)


@pytest.fixture(scope="module")
def convecting():
    """Zero-energy convection and corotation with stagnation at L = 5.5, twice as strong after an hour, and both shells."""
    import jax.numpy as jnp

    from jaxbelt.coefficients import Series, function
    from jaxbelt.constants import EARTH
    from jaxbelt.physics.losses import KpLifetime, ShadowingLifetime, combine

    C = EARTH.rotation * EARTH.b_e * 1e-4 * EARTH.r_e**2
    a = Series([0.0, 3600.0], C / (2 * 5.5**3) * np.array([1.0, 2.0]))
    potential = function(lambda t, L, phi, a, C: a(t) * L**2 * jnp.sin(phi) - C / L, steady=True, a=a, C=C)
    lifetime = combine(KpLifetime(kp=3.0), ShadowingLifetime(l_max=function(lambda t, L, phi: 5.0 - jnp.cos(phi), steady=True)))
    grid = dd.grid(L=(2.0, 7.0), cells=(10, 16))
    return dd.problem(grid, dd.Parameters(potential=potential, lifetime=lifetime), inner=0.0, outer=1.0)


@pytest.fixture(scope="module")
def found(convecting):
    return plot_overlays.Overlays(convecting)


def test_overlays_of_a_problem(found):
    data = found.at(0.0)
    phi, dusk = data["phi"], 90
    assert phi[dusk] == pytest.approx(1.5 * np.pi) and phi[0] == 0 and phi[-1] == pytest.approx(2 * np.pi)
    assert data["last_closed"][dusk] == pytest.approx(5.5, abs=0.01)                 # the teardrop: 2/3 at midnight and noon
    assert data["last_closed"][[0, 60, 120]] == pytest.approx(5.5 * 2 / 3, rel=1e-3)
    np.testing.assert_allclose(data["plasmapause"], 5.6 - 0.46 * 3)
    np.testing.assert_allclose(data["magnetopause"], 5.0 - np.cos(phi))
    assert data["H"].shape == (data["L"].size, phi.size) and np.all(np.diff(data["levels"]) > 0)
    assert found.at(7200.0)["last_closed"][dusk] == pytest.approx(5.5 / 2 ** (1 / 3), abs=0.01)
    assert found.at(0.0) is data                                                    # computed once a moment


def test_overlays_where_there_is_little_to_draw():
    grid = dd.grid(L=(2.0, 7.0), cells=(10, 16))
    circles = plot_overlays.overlays(dd.problem(grid, dd.Parameters(dll=0.1), inner=0.0, outer=1.0), 0.0)
    assert all(circles[k] is None for k in ("H", "levels", "last_closed", "plasmapause", "magnetopause"))
    lifetime = WithShells(inside=WithShells(l_max=lambda t, L, *phi: 3.0 + 0.5 * L),
                          outside=WithShells(plasmapause=lambda t, *_: 9.0))
    shells = plot_overlays.overlays(WithShells(grid=grid, parameters=WithShells(lifetime=lifetime)), 0.0)
    np.testing.assert_allclose(shells["magnetopause"], 6.0, atol=0.1)               # where L first exceeds an l_max of L
    assert np.all(np.isnan(shells["plasmapause"]))                                  # beyond the grid


def test_overlays_on_the_pictures(convecting, found, monkeypatch, recwarn):
    run = a_run(cells=(10, 16))
    monkeypatch.setattr(plot_overlays, "_of_node", lambda problem, node: found)
    with_them = a_run(cells=(10, 16), problem=convecting)
    labels = {"drift contours", "last closed drift contour inside the grid", "plasmapause", "magnetopause / last closed shell"}
    for picture in (plot.dials, plot.map_):
        (legend,) = picture(with_them, 2).legends
        assert {text.get_text() for text in legend.get_texts()} == labels
        assert not picture(run, 2).legends
        assert not picture(a_run(cells=(10, 16), problem=convecting, style={"overlays": 0}), 2).legends
    fig = plot.dials(with_them, 2)
    (line,) = [x for x in fig.axes[0].lines if x.get_label().startswith("last closed drift") or x.get_linewidth() == 1.5
               and x.get_linestyle() == "-"]
    assert line.get_ydata()[90] == pytest.approx(5.5, abs=0.01) and line.get_xdata()[90] == pytest.approx(1.5 * np.pi)
    notes = [t.get_text() for t in fig.texts]
    assert any(t.startswith("illustrative") and t.endswith("\n") for t in notes)     # above the legend, not under it
    assert not recwarn.list


def test_a_picture_never_fails_for_its_overlays(convecting):
    broken = a_run(cells=(10, 16), toml="[case]", style={"overlays": 1})
    with pytest.warns(UserWarning, match="overlays are left out"):
        assert not plot.dials(broken, 1).legends
    lifetime = WithShells(plasmapause=lambda *_: 1 / 0)
    failing = plot_overlays.Overlays(WithShells(grid=convecting.grid, parameters=WithShells(lifetime=lifetime)))
    with pytest.warns(UserWarning, match="division by zero"):
        assert plot_overlays.draw(None, failing, 0.0) == {}


def test_overlays_out_of_a_file():
    """A run's file holds the case; the problem is built from it again, one node of it where there are several."""
    from jaxbelt.cases import load_case

    case = load_case("ring-current-50keV", ["grid.cells=[12,16]"])
    run = a_run(cells=(12, 16))
    for node, sign in ((0, 1.0), (1, -1.0)):
        run.attrs.update(case.attrs, node=node)
        problem = plot_overlays.of_run(run).problem
        assert problem.grid.names == ("L", "phi")
        assert np.sign(problem.parameters.kinetic(0.0, 5.0)) == sign                  # protons, electrons
    run.attrs["style"] = {"overlays": 0}
    assert plot_overlays.of_run(run) is None
