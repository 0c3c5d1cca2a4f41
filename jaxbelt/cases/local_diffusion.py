"""The tables [grid], [parameters], [initial] and [boundary] of drift and diffusion with local diffusion by waves.

`grid.cells` has two numbers for (alpha, p) at one L, three for (L, alpha, p), four for (L, phi, alpha, p).
"""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np

from jaxbelt.cases import Built, _belt
from jaxbelt.cases.drift_diffusion import factors_in_time, wall_factor
from jaxbelt.coefficients import function
from jaxbelt.config import Table, section, suggest

TABLES = {
    "grid": ("L", "cells", "spacing", "alpha", "energy", "L_ref"),
    "parameters": ("species", "b_e", "drift", "kp", "kp_start", "kp_file", "kp_cycle", "kp_cycle_label", "dst", "drivers_file",
                   "fill", "dll", "dlphi", "dphiphi", "lifetime", "shadowing", "convection", "chorus", "wave_tables", "loss_cone",
                   "energy_loss"),
    "initial": ("model", "flux_table", "flux", "at", "E0", "kappa", "index", "given", "sine_power", "altitude", "inside", "at_L",
                "width_in", "width_out", "floor"),
    "boundary": ("inner", "outer", "low_alpha", "low_p", "high_p"),
}
# keys of other equations, and what to give here
INSTEAD = {"fluctuations": "give the D_LL, D_Lphi and D_phiphi they make as dll, dlphi and dphiphi",
           "mu": "the grid has all mu, of the energies and pitch angles in [grid]",
           "K": "the grid has all K, of the pitch angles in grid.alpha", "waves": "give chorus, or wave_tables"}
USUAL_PICTURES = ["energy-angle", "energy-spectrum", "flux-time"]
_CHORUS = ("amplitude", "coverage", "density", "mlt", "mlt_width", "plasmapause", "outside")
_WALL = ("factor", "times", "mlt_peak", "mlt_log_amplitude", "label")
_SPECTRA = {"exponential": ("E0",), "power-law": ("index",), "kappa": ("E0", "kappa"), "flux-table": ("flux_table",)}
_STRONGEST = 1e4       # pT: beyond the strongest waves of any kind in the belts, and 3 % of the field at L = 4.5
_PSD_UNIT = "(c/(MeV cm))^3"


def build(config: Table, case) -> Built:
    """The problem, f0 and what the file holds besides, from the tables of one case."""
    from jaxbelt import local_diffusion as ld

    prm = config.table("parameters", TABLES["parameters"])
    planet = _belt.planet_of(prm)
    species = prm.choice("species", ("electron", "proton"), "electron")
    grid = _grid(config.table("grid", TABLES["grid"]), species, ld)
    drive = _belt.drivers(prm, case)
    fields, notes = _fields(prm, grid, drive, planet, species, ld)
    waves, said, size = _waves(prm, grid, drive, case)
    if waves is not None:
        fields["local"] = waves
    initial = _Initial(config.table("initial", TABLES["initial"]), case, grid, species)
    walls = config.table("boundary", TABLES["boundary"], {})
    bounds, drivers = {}, {}
    for key in TABLES["boundary"]:
        bounds[key], driver = _wall(walls, key, initial, grid)
        if driver is not None:
            drivers[f"{key}_factor"] = driver
            notes += [f"{key} boundary: {walls.table(key, _WALL).text('label')}"] if "label" in walls.get(key) else []
    with section("parameters"):
        parameters = ld.Parameters(planet=planet, **fields)
    with section("initial"):
        f0 = np.array(initial.state())
    with section("parameters / boundary"):
        problem = ld.problem(grid, parameters, **bounds, epoch=case.epoch)
    attrs = {"b_e_gauss": float(planet.b_e), "r_e_m": float(planet.r_e), "species": species}
    notes += drive.notes()
    return Built(problem=problem, f0=f0, drivers=drive.for_file | drivers, attrs=attrs, notes=(*notes, *said),
                 f_attrs={"units": _PSD_UNIT, "long_name": "phase space density"}, tables=size + _memory(grid, fields))


def _grid(table: Table, species, ld):
    cells = table.integers("cells", low=2)
    alpha = table.numbers("alpha", [5.0, 90.0], size=2)
    if not 0.0 < alpha[0] < alpha[1] <= 90.0:
        raise table.error("alpha", "needs 0 < lowest < highest <= 90 [deg]")
    if alpha[1] <= 0.5 * math.pi + 0.01:
        raise table.error("alpha", f"is in degrees, and ends at {alpha[1]:g}: radians given?")
    energy = table.quantities("energy", "energy")
    if len(energy) != 2:
        raise table.error("energy", f"needs two energies, the lowest and the highest, has {len(energy)}")
    if not 0.0 < energy[0] < energy[1]:
        raise table.error("energy", "needs 0 < lowest < highest")
    kw = {}
    if "L" in table:
        kw["L"] = tuple(table.numbers("L", size=2))
    if "L_ref" in table:
        kw["L_ref"] = table.number("L_ref", low=1.0)
    if "spacing" in table:
        kw["spacing"] = table.choice("spacing", ("log", "linear", "inverse"))
    with section("grid"):
        return ld.grid(**kw, alpha=tuple(math.radians(x) for x in alpha), energy=energy, cells=cells, species=species)


def _fields(prm: Table, grid, drive, planet, species, ld):
    """(fields of `ld.Parameters` but for the waves, notes)."""
    fields, mu = {}, grid.mu(planet)
    for key, axis in (("dll", "L"), ("dlphi", "phi"), ("dphiphi", "phi"), ("convection", "phi"), ("shadowing", "L")):
        if key in prm and axis not in grid.names:
            raise prm.error(key, f"needs an axis {axis}; the grid has {', '.join(grid.names)}: see grid.cells")
    for key in ("dll", "dlphi", "dphiphi"):
        if key in prm:
            fields[key] = _belt.coefficient(prm, key, drive, mu, species, planet)
    fields["lifetime"] = _belt.lifetime(prm, prm, drive, grid.energy())
    fields["potential"] = _belt.convection(prm, drive, planet)
    usual = "gradient-curvature" if "phi" in grid.names else "none"
    if prm.choice("drift", ("gradient-curvature", "none"), usual) != "none":
        if "phi" not in grid.names:
            raise prm.error("drift", "needs an axis phi; give grid.cells four numbers")
        fields["kinetic"] = ld.kinetic_energy(grid, planet)
    if "loss_cone" in prm:
        fields["loss_cone"] = ld.loss_cone(grid, prm.quantity("loss_cone", "altitude", low=0.0), planet)
    if "energy_loss" in prm:
        fields["energy_loss"] = prm.quantity("energy_loss", "rate", low=0.0)
    return {key: value for key, value in fields.items() if value is not None}, []


def _waves(prm: Table, grid, drive, case):
    """(wave model or None, notes, bytes of its tables): chorus in closed form, or of the tables that `wave_tables` names."""
    from jaxbelt.physics.chorus_tensor import ChorusPower, ChorusTensor
    from jaxbelt.physics.wave_tables import read_wave_tables

    if "chorus" not in prm:
        if "wave_tables" in prm:
            raise prm.error("wave_tables", "needs the table parameters.chorus, with the amplitude of the waves")
        return None, [], 0.0
    table = prm.table("chorus", _CHORUS)
    if table.get("amplitude") == "kp":
        strength = {"kp": drive.series("kp", _Asks(table, "amplitude"))}
    else:
        strength = {"b_w": table.quantity("amplitude", "wave amplitude", low=0.0, high=_STRONGEST)}
    strength["coverage"] = table.number("coverage", 1.0, low=0.0, high=1.0)
    if "mlt" in table:
        strength |= {"mlt": table.number("mlt", low=0.0, high=24.0), "mlt_width": table.number("mlt_width", 3.0, above=0)}
    elif "mlt_width" in table:
        raise table.error("mlt_width", "belongs to mlt, the local time of the strongest waves")
    if "plasmapause" in table:
        model = table.choice("plasmapause", _belt._PLASMAPAUSES)
        strength["lpp"] = drive.plasmapause(model, drive.series("kp", _Asks(table, "plasmapause")))
    density = table.number("density", 2.5, above=0)
    if "wave_tables" not in prm:
        if table.get("outside", None) in ("error", "edge"):
            raise table.error("outside", "belongs to parameters.wave_tables: what to do beyond their energies and L")
        note = "waves: a closed form fitted to quasi-linear tables"
        outside = table.choice("outside", ("warn", "extrapolate"), "warn")
        return ChorusTensor(power=ChorusPower(**strength), density=density, outside=outside), [note], 0.0
    path = _path(prm, "wave_tables", case)
    with section("parameters.wave_tables"):
        made = read_wave_tables(path)
    made = made.replace(power=ChorusPower(**strength, amplitude=made.amplitude), density=density,
                        outside=table.choice("outside", ("error", "edge"), "error"))
    _, energy, L = (np.asarray(x) for x in grid.local()[:3])
    said = made.covers(energy, L) if made.outside == "error" else ""
    if said:
        raise prm.error("wave_tables", f"the grid goes outside: {said}; take another grid, or chorus.outside = \"edge\", which "
                                       "holds the tables' edge values")
    return made, [f"wave tables: {made.report}"], 8.0 * 3 * np.size(made.log_aa)


class _Asks:
    """A table whose key, not its model, asks for a driver."""

    def __init__(self, table, key):
        self.table, self.key = table, key

    def error(self, _, why):
        return self.table.error(self.key, why)


def _path(table: Table, key: str, case):
    """The file or folder given under a key, relative to the case's folder."""
    from pathlib import Path

    path = Path(table.text(key)).expanduser()
    path = path if path.is_absolute() else case.folder / path
    if not path.exists():
        raise table.error(key, f"there is no file or folder {path}")
    return path


class _Initial:
    """The directional flux of [initial] times a profile in L, as f on the grid and on its walls."""

    def __init__(self, table: Table, case, grid, species):
        from jaxbelt.physics import spectra

        self.table, self.grid = table, grid
        model = table.choice("model", tuple(_SPECTRA))
        for key in {key for keys in _SPECTRA.values() for key in keys} - set(_SPECTRA[model]):
            if key in table:
                raise table.error(key, f"does not belong to {model}")
        with section("initial"):
            given = table.choice("given", ("omnidirectional", "perpendicular"), "omnidirectional")
            spectrum = _spectrum(table, model, case, species)
            altitude = table.quantity("altitude", "altitude", low=0.0) if "altitude" in table else None
            shape = spectra.SinePower(n=table.number("sine_power", 0.0, low=-1.0), altitude=altitude,
                                      inside=table.number("inside", 0.0, low=0.0, high=1.0))
            self.flux = spectra.DirectionalFlux(spectrum=spectrum, shape=shape, given=given)
        self.floor = table.number("floor", 0.0, low=0.0)
        self.at = None
        if "at_L" in table:
            if "L" not in grid.names:
                raise table.error("at_L", "needs an axis L; give grid.cells three or four numbers")
            self.at = table.number("at_L", above=0), table.number("width_in", above=0), table.number("width_out", above=0)

    def _profile(self, L):
        if self.at is None:
            return 1.0
        at, inside, outside = self.at
        return np.exp(-0.5 * ((L - at) / np.where(np.asarray(L) < at, inside, outside)) ** 2)

    def state(self):
        """f [(c/(MeV cm))^3] on the grid."""
        from jaxbelt.physics import fluxes

        return self.floor + np.asarray(fluxes.state(self.grid, self.flux)) * self._profile(self.grid.L)

    def wall(self, axis, side):
        """f on a wall, without that axis."""
        from jaxbelt.physics import fluxes

        L = self.grid["L"].faces[0 if side == "lower" else -1] if axis == "L" else self.grid.L
        f = self.floor + np.asarray(fluxes.wall(self.grid, axis, side, self.flux)) * self._profile(L)
        return np.squeeze(f, axis=self.grid.index(axis))


def _spectrum(table: Table, model: str, case, species):
    """The spectrum of a model: [1/(cm^2 s MeV)], or per sr where it is given at 90 degrees."""
    from jaxbelt.physics import spectra
    from jaxbelt.physics.flux_tables import read_flux_table

    if model == "flux-table":
        for key in ("flux", "at"):
            if key in table:
                raise table.error(key, "does not belong to flux-table")
        return read_flux_table(_path(table, "flux_table", case), outside_energy="extrapolate", outside_L="nearest")
    common = {"flux": table.number("flux", low=0.0), "at": table.quantity("at", "energy", above=0)}
    if model == "power-law":
        return spectra.PowerLaw(**common, index=table.number("index", 3.0))
    E0 = table.quantity("E0", "energy", above=0)
    if model == "exponential":
        return spectra.Exponential(**common, E0=E0)
    return spectra.Kappa(**common, E0=E0, kappa=table.number("kappa", 4.0, above=0), species=species)


def _scaled(t, *at, wall, times, log_factor, amplitude, peak):
    """The initial f of a wall times a factor in time and, where there is a phi, in MLT."""
    return wall * wall_factor(t, *at[:1], times=times, log_factor=log_factor, amplitude=amplitude, peak=peak)


def _scaled_alike(t, *_, wall, times, log_factor):
    return wall * wall_factor(t, times=times, log_factor=log_factor, amplitude=jnp.zeros_like(times), peak=0.0)


_SIDES = {"inner": ("L", "lower"), "outer": ("L", "upper"), "low_alpha": ("alpha", "lower"), "low_p": ("lnp", "lower"),
          "high_p": ("lnp", "upper")}


def _wall(walls: Table, key: str, initial: _Initial, grid):
    """(what is at a wall, its driver for the file or None)."""
    axis, side = _SIDES[key]
    if key in walls and axis not in grid.names:
        raise walls.error(key, f"is a wall in {axis}; the grid has {', '.join(grid.names)}")
    given = walls.get(key, "no flux")
    if isinstance(given, str):
        words = ("no flux", "initial", *(("open",) if axis == "L" else ()))
        if given not in words:
            raise walls.error(key, f"is not one of the choices{suggest(given, words)}")
        return initial.wall(axis, side) if given == "initial" else given, None
    if not isinstance(given, dict):
        return walls.number(key, low=0.0), None
    table = walls.table(key, _WALL)
    times, factor = factors_in_time(table)
    made = {"wall": initial.wall(axis, side), "times": np.asarray(times), "log_factor": np.log(np.asarray(factor))}
    if "mlt_log_amplitude" in table:
        if "phi" not in grid.names or axis != "L":
            raise table.error("mlt_log_amplitude", "needs a wall in L of a grid with phi; give grid.cells four numbers")
        made |= {"amplitude": np.asarray(table.numbers("mlt_log_amplitude", size=len(times))),
                 "peak": np.asarray(math.pi / 12 * table.number("mlt_peak", 0.0, low=0.0, high=24.0))}
    value = function(_scaled if "peak" in made else _scaled_alike, jumps=tuple(times), **made)
    label = table.text("label", "")
    driver = {"t": np.asarray(times), "values": np.asarray(factor), "kind": "log-linear", "units": "1",
              "long_name": f"f at the {key} boundary / initial" + (f" ({label})" if label else "")}
    return value, driver


def _memory(grid, fields) -> float:
    """Rough bytes of the factors of the local solves: a block a row of each plane, one plane a place where waves differ."""
    if "local" not in fields:
        return 0.0
    n, m = sorted((grid["alpha"].n, grid["lnp"].n))
    wave = fields["local"].power
    planes = math.prod(grid.shape[:-2]) if getattr(wave, "mlt", None) is not None else (grid.shape[0] if grid.ndim > 2 else 1)
    return 8.0 * planes * 4 * m * n * n
