"""Pictures of foliated runs: what they show is what the moments say, units stand beside, files are named by run."""

import dataclasses
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from jaxbelt import foliated, plot
from jaxbelt.grid import Axis
from jaxbelt.io import Run
from jaxbelt.physics import field_lines
from jaxbelt.physics import foliated_maps as maps
from jaxbelt.physics import foliated_moments as fm
from jaxbelt.physics.foliated_units import units

KINDS = ["averages", "profiles", "meridian", "phase-space"]
UNITS = {"T0_eV": 100.0, "B0_T": 0.05, "R0_m": 0.4, "species": "proton"}


def made(nodes=None, theta=None, attrs=None, path="x.nc"):
    g = foliated.grid(L=(1.2, 1.6), cells=(8, 24, 6), mu=3, nodes=nodes, theta=theta)
    bell = np.exp(-0.5 * ((g.centers("psi") - 0.7) / 0.1) ** 2)
    t = np.array([0.0, 1.0, 4.0])
    hot = 1.0 if nodes is None else 1.0 + 0.2 * g.centers(0)
    f = np.stack([np.exp(-foliated.energy(g) / (hot + 0.1 * x)) * bell ** (x / 4) * foliated.spread(g, foliated.live(g))
                  * np.ones(g.shape) for x in t])
    return Run(path=pathlib.Path(path), grid=g, t=t, f=f, content=np.zeros(3), budget={}, state=f[-1], result=0, epoch=None,
               status="complete", drivers={}, planned=t, attrs={"title": "small", "notes": "made up"} | (attrs or {}),
               f_attrs={"units": "1", "long_name": "P"})


@pytest.fixture(scope="module")
def pair():
    return made(Axis.nodes("D_perp", [5e-3, 5e-4]), attrs=UNITS)


def curve(ax, style, k=0):
    return [line for line in ax.lines if line.get_linestyle() == style and len(line.get_xdata())][k].get_ydata()


def second_axes(ax):
    return [child for child in ax.child_axes]


def test_averages(pair):
    """Fig. 1: T_perp solid, <v_par^2/2> dashed, a colour a run; eV and microseconds on the other sides."""
    fig = plot.averages(pair)
    top, low = fig.axes[:2]
    got = fm.averages(pair.grid, jnp.asarray(pair.f))
    for k in range(2):
        np.testing.assert_allclose(curve(top, "-", k), got.T_perp[:, k], rtol=1e-12)
        np.testing.assert_allclose(curve(top, "--", k), got.E_par[:, k], rtol=1e-12)
        np.testing.assert_allclose(curve(low, "-", k), got.number[:, k] / got.number[0, k], rtol=1e-12)
    texts = [t.get_text() for t in top.get_legend().get_texts()]
    assert texts[:2] == [r"$D_\perp$ = 0.005", r"$D_\perp$ = 0.0005"] and "(21)" in texts[2] and "(22)" in texts[3]
    assert low.get_xlabel() == r"t [$R_p/v_{th}$]" and top.get_ylabel() == "average [$T_0$]"
    fig.draw_without_rendering()
    time, energy = second_axes(top)
    assert time.get_xlabel() == "t [µs]" and energy.get_ylabel() == "average [eV]"
    u = units(100.0, 0.05, 0.4)
    np.testing.assert_allclose(time.get_xlim()[1], u.time(4.0) * 1e6, rtol=1e-9)
    np.testing.assert_allclose(energy.get_ylim()[1], 100.0 * top.get_ylim()[1], rtol=1e-9)


def test_averages_of_several_files_and_the_usual_temperature():
    a, b = made(), made(attrs={"title": "other"})
    fig = plot.averages(a, b, labels=["strong", "weak"], usual=True)
    top = fig.axes[0]
    np.testing.assert_allclose(curve(top, "--"), [float(fm.averages(a.grid, f).T_par) for f in a.f], rtol=1e-12)
    assert [t.get_text() for t in top.get_legend().get_texts()][:2] == ["strong", "weak"] and not second_axes(top)
    with pytest.raises(ValueError, match="labels: needs 2, one for each run, got 1"):
        plot.averages(a, b, labels=["strong"])


def test_profiles(pair):
    """Fig. 2: along z = 0, the start dashed and marked 0, a column a run."""
    fig = plot.profiles(pair)
    got = fm.equatorial(pair.grid, pair.f)
    axes = [ax for ax in fig.axes if ax.get_subplotspec() is not None]
    for k in range(2):
        start = [line for line in axes[k].lines if line.get_linestyle() == "--"]
        np.testing.assert_allclose(start[0].get_xdata(), 1.0 / pair.grid["psi"].centers)
        np.testing.assert_allclose(start[0].get_ydata(), got.T_perp[0, k], rtol=1e-12)
        np.testing.assert_allclose(start[1].get_ydata(), got.E_par[0, k], rtol=1e-12)
        np.testing.assert_allclose(curve(axes[2 + k], "-"), got.n[-1, k], rtol=1e-12)
        assert {t.get_text() for t in axes[k].texts} == {"0"}
    assert axes[0].get_ylabel() == "temperature [$T_0$]" and axes[2].get_xlabel() == "r [$R_p$]  (z = 0)"
    assert any(a.get_ylabel() == "temperature [eV]" for a in second_axes(axes[1]))
    assert any(a.get_xlabel() == "r [m]" for a in second_axes(axes[0]))


def test_meridian(pair):
    """Maps of one run in both hemispheres, the planet, equal scales; the line densities are those of `chords`."""
    with pytest.raises(ValueError, match=r"this file holds 2 runs; draw one of them, plot.at_node\(run, k\)"):
        plot.meridian(pair)
    one = plot.at_node(pair, 0)
    fig = plot.meridian(one, points=60)
    first = fig.axes[0]
    assert first.get_aspect() == 1.0 and first.get_ylim()[0] == -first.get_ylim()[1] and len(first.patches) == 1
    here = fm.local(one.grid, one.f[-1])
    beside, above = (ax for ax in fig.axes if ax.get_ylabel().startswith(r"$\int n"))
    line = beside.lines[-1]
    np.testing.assert_allclose(line.get_ydata()[::12], maps.chords(one.grid, here.n, line.get_xdata()[::12]), rtol=1e-12)
    z, y = above.lines[-1].get_data()
    np.testing.assert_allclose(y, y[::-1], atol=1e-12 * y.max())
    assert y[0] == 0 and np.isfinite(y).all() and z[-1] > 0
    image = first.collections[0].get_array()
    assert np.ma.getmaskarray(image).any() and image.min() >= 0
    assert any("100 eV" in ax.get_ylabel() for ax in fig.axes)


def test_phase_space():
    """Cells where they are in (l, v_par), lines of energy, the loss cone dashed; the leaf that was asked for."""
    run = made(theta=4)
    fig = plot.phase_space(run, psi=0.7, mu=[0.5, 3.0])
    axes = [ax for ax in fig.axes if ax.get_ylabel() != "P"]
    assert len(axes) == 6 and axes[0].get_title().startswith("t = 0")
    k = int(np.argmin(np.abs(run.grid["psi"].centers - 0.7)))
    m = int(np.argmin(np.abs(run.grid["mu"].centers - 0.5)))
    mesh = axes[0].collections[0]
    live = foliated.live(run.grid)[k]
    around = np.sum(run.f[0, m, k] * run.grid["theta"].measure, axis=-1)
    np.testing.assert_allclose(np.asarray(mesh.get_array()).reshape(live.sum(), -1), around[live], rtol=1e-12)
    l, v = np.moveaxis(mesh.get_coordinates(), -1, 0)   # noqa: E741
    faces = run.grid["chi"].faces[np.append(live, False) | np.append(False, live)]
    exact = field_lines.from_potential(faces, run.grid["psi"].centers[k], outside="extrapolate").l
    np.testing.assert_allclose(l[:, 0], exact, atol=1e-5)
    np.testing.assert_allclose(v[4] / v[4, -1], run.grid["p"].faces / run.grid["p"].faces[-1], atol=1e-12)
    assert "L = " in axes[0].get_ylabel()
    assert {len(plot.phase_space(run, n=1).axes)} <= {2, 4}           # two leaves, or the same one of a coarse grid


def test_save_names_files_by_run(pair, tmp_path, monkeypatch):
    """Pictures of all runs are one file, of one run a file each; mu is not taken apart."""
    from matplotlib.figure import Figure

    drawn = []
    for kind in KINDS:
        monkeypatch.setitem(plot.PICTURES, kind, (lambda part: drawn.append(part.grid.names) or Figure(), plot.PICTURES[kind][1]))
    run = dataclasses.replace(pair, path=tmp_path / "x.nc")
    names = {p.name for p in plot.save(run, KINDS, dpi=20)}
    assert names == {"x-averages.png", "x-profiles.png", "x-meridian-D-perp-0.png", "x-meridian-D-perp-1.png",
                     "x-phase-space-D-perp-0.png", "x-phase-space-D-perp-1.png"}
    assert [names[0] for names in drawn] == ["D_perp"] * 2 + ["mu"] * 4
    alone = dataclasses.replace(made(), path=tmp_path / "y.nc")
    assert [p.name for p in plot.save(alone, ["averages", "phase-space"], dpi=20)] == ["y-averages.png", "y-phase-space.png"]
    from jaxbelt.cases import PICTURES

    assert set(KINDS) <= set(PICTURES) and set(PICTURES) == set(plot.PICTURES)


@pytest.mark.parametrize("kind", ["averages", "profiles", "phase-space"])
def test_a_vacuum_a_failed_run_and_a_single_moment_can_be_drawn(kind):
    run = made()
    blown = np.where(np.arange(3)[:, None, None, None, None] == 2, np.nan, run.f)
    for f, t in ((0 * run.f, run.t), (blown, run.t), (run.f[:1], run.t[:1])):
        plot.PICTURES[kind][0](dataclasses.replace(run, f=f, t=t, planned=t)).draw_without_rendering()
