"""Pictures of runs on labels: what they show are the fluxes and densities of the run, at the energies and L asked for."""

import dataclasses
import pathlib

import numpy as np
import pytest

from jaxbelt import local_diffusion as ld
from jaxbelt import plot, plot_local
from jaxbelt.config import InputError
from jaxbelt.io import Run
from jaxbelt.physics import fluxes
from jaxbelt.physics.spectra import DirectionalFlux, Exponential, SinePower

pytestmark = pytest.mark.plain
BELT = DirectionalFlux(spectrum=Exponential(flux=1e6, E0=0.3), shape=SinePower(n=1.0))


def made(cells=(4, 6, 5, 6), style=None, attrs=None, path="x.nc"):
    """f of the belt, twice and four times as much later on, with a cosine in phi."""
    kw = {"L_ref": 5.0} if len(cells) == 2 else {"L": (4.0, 6.0)}
    grid = ld.grid(**kw, energy=(0.1, 3.0), cells=cells)
    f0 = np.asarray(fluxes.state(grid, BELT))
    if "phi" in grid.names:
        f0 = f0 * (1.0 + 0.5 * np.cos(grid.centers("phi") - np.pi / 2))
    t = np.array([0.0, 3600.0, 7200.0])
    f = np.stack([f0, 2 * f0, 4 * f0])
    return Run(path=pathlib.Path(path), grid=grid, t=t, f=f, content=np.zeros(3), budget={}, state=f[-1], result=0, epoch=None,
               status="complete", drivers={}, planned=t, f_attrs={"units": "(c/(MeV cm))^3", "long_name": "phase space density"},
               attrs={"title": "small", "style": style or {}} | (attrs or {}))


def j90(energy):
    return np.asarray(BELT(0.5 * np.pi, energy, 5.0))


@pytest.fixture(scope="module")
def one():
    """At one L."""
    return made((6, 20), {"energies": np.array([0.3, 1.0])})


@pytest.fixture(scope="module")
def belt():
    """In all four coordinates."""
    return made(style={"energies": np.array([0.2, 1.0]), "mu": np.array([300.0]), "K": 0.05, "L": np.array([4.2, 5.5]),
                       "times": np.array([0.0, 7200.0])})


def test_flux_against_time_at_one_L(one):
    ax = plot.flux_time(one).axes[0]
    solid = [line for line in ax.lines if line.get_linestyle() == "-" and len(line.get_xdata())]
    for line, energy in zip(solid, (0.3, 1.0)):
        np.testing.assert_allclose(line.get_ydata(), j90(energy) * np.array([1.0, 2.0, 4.0]), rtol=0.05)
    assert [t.get_text() for t in ax.figure.legends[0].get_texts()] == ["300 keV", "1 MeV", "90 deg", "45 deg"]
    assert ax.get_xlabel() == "time [h]" and ax.get_xlim() == (0.0, 2.0) and "cm$^2$ s sr MeV" in ax.get_ylabel()


def test_spectra(one):
    fig = plot.energy_spectrum(one)
    energy, flux = fig.axes[0].lines[-1].get_data()
    some = (energy > 0.5) & (energy < 2.0)
    np.testing.assert_allclose(flux[some], 4.0 * j90(energy[some]), rtol=0.1)
    assert fig.axes[0].get_xlabel() == "energy [MeV]" and fig.axes[0].get_ylabel().startswith("j$_{90}$")


def test_flux_and_psd_against_time_and_L(belt):
    """The mean over MLT, grey where the grid does not hold the energy."""
    low, high = (ax for ax in plot.flux_time(belt).axes if ax.get_ylabel() == "L")
    shown = np.ma.getmaskarray(low.collections[0].get_array()).reshape(4, 3)
    lowest = np.asarray(belt.grid.energy())[:, 0, -1, 0]
    assert np.all(shown[lowest > 0.3]) and not shown[-1].any() and low.get_ylim() == (4.0, 6.0)
    shown = np.asarray(high.collections[0].get_array()).reshape(4, 3)
    np.testing.assert_allclose(shown[1:] / [1.0, 2.0, 4.0], j90(1.0), rtol=0.3)
    assert [ax.texts[0].get_text() for ax in (low, high)] == ["200 keV", "1 MeV"]
    fig = plot.psd_time(belt)
    ax, = (ax for ax in fig.axes if ax.get_ylabel() == "L")
    assert "300 MeV/G, K = 0.05" in ax.texts[0].get_text() and "MLT mean" in fig.get_suptitle()


def test_energy_and_pitch_angle(belt):
    """Cells where they are at every L that is named, f above and the flux below."""
    fig = plot.energy_angle(belt)
    axes = [ax for ax in fig.axes if ax.get_title()]
    assert len(axes) == 2 and axes[1].get_title() == "2 h" and "MLT mean" in fig.get_suptitle()
    said = [ax.get_ylabel() for ax in fig.axes[:8:2]]
    assert said == 2 * [f"L = {belt.grid['L'].centers[j]:.2f}\nenergy [MeV]" for j in (0, 3)]
    flux = np.asarray(fluxes.to_flux(belt.grid, belt.f[2]))[3].mean(axis=0)
    np.testing.assert_allclose(np.asarray(fig.axes[7].collections[0].get_array()).reshape(5, 6), flux, rtol=1e-12)
    mesh = axes[1].collections[0]
    np.testing.assert_allclose(np.asarray(mesh.get_array()).reshape(5, 6), belt.f[2, 0].mean(axis=0), rtol=1e-12)
    angles, energies = np.moveaxis(mesh.get_coordinates(), -1, 0)
    centers, inside = np.degrees(np.asarray(belt.grid.alpha()))[0, 0, :, 0], np.asarray(belt.grid.energy())[0, 0, -1]
    assert np.all((angles[:-1, 0] < centers) & (centers < angles[1:, 0])) and angles[-1, 0] == pytest.approx(90.0)
    assert np.all((energies[-1, :-1] < inside) & (inside < energies[-1, 1:]))
    assert fig.axes[6].get_xlabel() == "pitch angle [deg]"


def test_energy_and_pitch_angle_at_one_L_and_at_many(one, belt):
    fig = plot.energy_angle(one)
    assert "L = 5.00" in fig.get_suptitle() and fig.axes[0].get_ylabel() == "energy [MeV]"
    grid = ld.grid(L=(4.0, 6.0), energy=(0.1, 3.0), cells=(8, 2, 3))
    style = {"L": grid["L"].centers, "times": np.array([0.0, 7200.0])}
    run = dataclasses.replace(belt, grid=grid, f=np.ones((3, *grid.shape)), state=None, attrs={"title": "x", "style": style})
    shown = {ax.get_ylabel()[:8] for ax in plot.energy_angle(run).axes if ax.get_ylabel().startswith("L")}
    assert shown == {f"L = {grid['L'].centers[j]:.2f}" for j in (0, 2, 4, 7)}


def test_a_grid_that_ends_below_90_degrees():
    """The pictures are of the largest whole angle it has at every L."""
    grid = ld.grid(L=(4.0, 6.0), alpha=np.radians([5.0, 80.0]), energy=(0.1, 3.0), cells=(5, 12, 30))
    f0 = np.asarray(fluxes.state(grid, BELT))
    t = np.array([0.0, 3600.0, 7200.0])
    run = dataclasses.replace(made(), grid=grid, t=t, f=np.stack([f0, 2 * f0, 4 * f0]), attrs={"title": "x", "style": {}})
    angle = plot_local.steepest(grid)
    assert 78.0 <= round(np.degrees(angle), 9) <= 80.0 and np.degrees(angle) == pytest.approx(round(np.degrees(angle)))
    ax = plot.energy_spectrum(run).axes[0]
    energy, flux = ax.lines[0].get_data()
    np.testing.assert_allclose(flux[40:120], np.asarray(BELT(angle, energy, 5.0))[40:120], rtol=0.05)
    assert f"j$_{{{np.degrees(angle):.0f}}}$" in ax.get_ylabel() and np.all(np.isfinite(flux))
    for draw in (plot.flux_time, plot.psd_time):
        panels = [ax for ax in draw(run).axes if ax.get_ylabel() == "L"]
        assert len(panels) >= 3 and not any(np.ma.getmaskarray(ax.collections[0].get_array()).all() for ax in panels)


def test_dials(belt):
    """Noon at the top, dawn on the right, where this belt has most."""
    fig = plot.flux_dials(belt)
    dials = [ax for ax in fig.axes if ax.name == "polar"]
    assert len(dials) == 4 and dials[0].get_ylabel() == "200 keV" and dials[2].get_ylabel() == "1 MeV"
    assert np.sin(dials[0].get_theta_offset()) == pytest.approx(-1.0) and dials[0].get_theta_direction() == 1
    shown = np.asarray(dials[3].collections[0].get_array())[:, ::40]                          # cells of 60 degrees, in 40 parts
    assert np.argmax(shown[1]) in (1, 2)                       # 06 MLT is at phi = pi/2
    np.testing.assert_allclose(shown.mean(axis=1)[1:], 4.0 * j90(1.0), rtol=0.3)
    assert np.ma.getmaskarray(dials[0].collections[0].get_array()).any()


def test_files_and_what_cannot_be_drawn(one, tmp_path):
    run = dataclasses.replace(one, path=tmp_path / "one.nc")
    assert [p.name for p in plot.save(run, ["energy-spectrum"], dpi=30)] == ["one-energy-spectrum.png"]
    with pytest.raises(InputError, match="flux-dials.*needs the axes L, phi, alpha, lnp; this run has alpha, lnp"):
        plot.save(run, ["flux-dials"])
