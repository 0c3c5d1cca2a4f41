"""The tables [grid], [parameters], [initial] and [boundary] of the drift-diffusion equation in (L, phi), or in L alone.

Several mu (a list), or `parameters.populations` (a list of tables), make a leading axis of nodes: one run for all of them.
"""

from __future__ import annotations

import json
import math

import jax.numpy as jnp
import numpy as np

from jaxbelt.cases import Built, _belt, _measured, _noise
from jaxbelt.coefficients import function
from jaxbelt.config import Table, section

TABLES = {
    "grid": ("L", "cells", "spacing", "faces"),
    "parameters": _belt.KEYS,
    "initial": ("model", "value", "peak", "at_L", "width_in", "width_out", "floor", "L", "f", "unit", "injections", "knots",
                "log_values"),
    "boundary": ("inner", "outer"),
    "measured": _measured.KEYS,
    "numerics": ("method",),
}
_POPULATION = ("name", "species", "mu", "energy", "at_L", "lifetime", "factor")
_WALL = ("value", "factor", "times", "mlt_peak", "mlt_log_amplitude", "label")
_INJECTION = ("amplitude", "L", "width", "mlt", "mlt_width")
PSD_UNIT = "(c/(MeV cm))^3"


def build(config: Table, case) -> Built:
    """The problem, f0 and what the file holds besides, from the tables of one case."""
    from jaxbelt.equations import drift_diffusion as dd

    prm = config.table("parameters", TABLES["parameters"])
    planet = _belt.planet_of(prm)
    nodes, members, labels = _members(prm, planet)
    grid = _grid(config.table("grid", TABLES["grid"]), dd, nodes)
    angle = "phi" in grid.names
    numerics = config.table("numerics", ("dt", "chunk", *TABLES["numerics"]))
    by_level = numerics.choice("method", ("steps", "levels"), "steps") == "levels"
    drive = _belt.drivers(prm, case, by_level)
    attrs = {"b_e_gauss": float(planet.b_e), "r_e_m": float(planet.r_e)}
    if nodes is None:
        attrs["species"] = members[0]["species"]
        if members[0]["mu"] is not None:
            attrs["mu_MeV_per_G"] = members[0]["mu"]
    else:
        attrs |= {"species": ", ".join(dict.fromkeys(m["species"] for m in members)), "node_labels": json.dumps(labels)}
    built = []
    for member in members:
        fields, island = _fields(prm, member, drive, planet, angle, dd)
        built.append(fields)
        if island and nodes is None:
            attrs["island"] = island
    initial = _Initial(config.table("initial", TABLES["initial"]))
    mu = [member["mu"] for member in members]
    measured = _measured.read(config.table("measured", TABLES["measured"]), case) if "measured" in config else None
    if measured is not None and (angle or any(x is None for x in mu)):
        raise measured.table.error("kind", "needs parameters.mu and a grid in L alone")
    walls = config.table("boundary", TABLES["boundary"])
    bounds, notes, drivers = {}, [], drive.for_file
    for key, face in (("inner", 0), ("outer", -1)):
        L = float(grid["L"].faces[face])
        if walls.get(key) == "measured":
            made = [(value, None, None) for value in _source(walls, key, measured).wall(mu, case.duration)]
        else:
            made = [_wall(walls, key, initial, L, angle, member["factor"]) for member in members]
        bounds[key] = made[0][0] if nodes is None else [value for value, _, _ in made]
        _, driver, note = made[0]
        if driver is not None:
            drivers[f"{key}_factor"] = driver
        if note:
            notes.append(note)
    with section("parameters"):
        parameters = [dd.Parameters(**{k: v for k, v in fields.items() if v is not None}) for fields in built]
    with section("parameters / boundary"):
        problem = dd.problem(grid, parameters[0] if nodes is None else parameters, **bounds, epoch=case.epoch)
    size = 0.0
    if by_level:
        with section("numerics.method"):
            problem, size = _levels(problem, drive, case, notes)
    notes += drive.notes()
    notes += _long_steps(case.dt, walls, grid, members, planet)
    if initial.profile is None:
        f0 = _source(initial.table, "model", measured).first(grid, mu).reshape(grid.shape)
    else:
        f0 = np.broadcast_to(initial(*grid.mesh()[-2 if angle else -1:]), grid.shape).copy()
    if nodes is not None:
        f0 = f0 * grid.along(0, [m["factor"] for m in members])
    if not np.all(np.isfinite(f0)) or np.any(f0 < 0):
        raise config.table("initial", TABLES["initial"]).error("model", "gives an f that is negative or not finite")
    start, f0 = _free_start(config.table("initial", TABLES["initial"]), f0, grid)
    fixed = any(m["mu"] is not None for m in members)
    f_attrs = {"units": initial.unit, "long_name": "phase space density" + (" at fixed mu" if fixed else "")}
    return Built(problem=problem, f0=f0, f_attrs=f_attrs, drivers=drivers, attrs=attrs, notes=tuple(notes),
                 start=start, measured=measured, tables=size)


def _levels(problem, drive, case, notes):
    """(problem, bytes of its propagators): see `jaxbelt.levels`; a note where much is split off."""
    from jaxbelt import levels

    made = levels.with_levels(problem, drive.levels or levels.Levels([0.0], [0], 1))
    part = 0.5 * case.dt * made.tables.split
    if part > 0.05:
        notes.append(f"numerics.dt = {case.dt:g} s is long: losses that differ between nodes are split off, and half a step of "
                     f"them is up to exp(-{part:.2g}); take a shorter one")
    n = problem.grid.shape[-1]
    return made, 8.0 * made.tables.count * (made.tables.groups * (n + 8)**2 + math.prod(problem.grid.shape))


def _source(table: Table, key: str, measured):
    if measured is None:
        raise table.error(key, "needs the table [measured]")
    return measured


def _free_start(table: Table, f0, grid):
    """(callable that makes f0 or None, f0): with `knots` f0 exp(profile in L), whose log_values can be free in a fit."""
    if "knots" not in table:
        if "log_values" in table:
            raise table.error("log_values", "needs knots, the L at which they stand")
        return None, f0
    from jaxbelt.physics.free_form import InitialProfile

    knots = table.numbers("knots", low=0.0)
    with section("initial.knots"):
        start = InitialProfile(L=knots, log_values=np.asarray(table.numbers("log_values", [0.0] * len(knots), size=len(knots))),
                               base=f0)
    return start, np.asarray(start(grid))


def _long_steps(dt, walls: Table, grid, members, planet) -> list[str]:
    """A note where a wall depends on MLT and the step does not resolve the drift at it."""
    from jaxbelt.physics.dipole import drift_period

    for key, face in (("inner", 0), ("outer", -1)):
        wall = walls.get(key)
        if isinstance(wall, dict) and any(wall.get("mlt_log_amplitude", ())):
            L = float(grid["L"].faces[face])
            period = min((float(drift_period(L, m["mu"], m["species"], planet)) for m in members if m["mu"] is not None),
                         default=math.inf)
            if dt > 0.15 * period:
                return [f"numerics.dt = {dt:g} s is long: the {key} wall depends on MLT and the drift period there is "
                        f"{period:.0f} s; take a tenth of it"]
    return []


def _members(prm: Table, planet):
    """(axis of nodes or None, what each node is, their labels): one node, or a list of mu, or populations."""
    from jaxbelt.grid import Axis

    if "populations" in prm:
        for key in ("species", "mu", "energy", "at_L"):
            if key in prm:
                raise prm.error(key, "give it in each of parameters.populations")
        members, labels = [], []
        for table in prm.tables("populations", _POPULATION):
            mu, species = _belt.particle(table, planet)
            if mu is None or np.ndim(mu):
                raise table.error("mu", "needs one mu, or energy and at_L")
            labels.append(table.text("name", species))
            members.append({"mu": mu, "species": species, "table": table, "factor": table.number("factor", 1.0, low=0.0)})
        if not members:
            raise prm.error("populations", "is empty")
        axis = Axis.nodes("population", np.arange(len(members)), long_name=", ".join(f"{k}: {x}" for k, x in enumerate(labels)))
        return axis, members, labels
    mu, species = _belt.particle(prm, planet)
    common = {"species": species, "table": prm, "factor": 1.0}
    if np.ndim(mu) == 0:
        return None, [{"mu": mu} | common], []
    axis = Axis.nodes("mu", mu, unit="MeV/G", long_name="first adiabatic invariant")
    return axis, [{"mu": float(x)} | common for x in mu], [f"mu = {x:.4g} MeV/G" for x in mu]


def _fields(prm: Table, member, drive, planet, angle, dd):
    """The fields of `dd.Parameters` for one node, and the island of its resonant wave."""
    from jaxbelt.physics.dipole import KineticEnergy
    from jaxbelt.physics.invariants import Energy

    mu, species = member["mu"], member["species"]
    fields, particle = {"planet": planet}, {"species": species, "planet": planet}
    energy = None
    if "K" in prm:
        if mu is None:
            raise prm.error("K", "needs parameters.mu, or energy and at_L")
        particle["K"] = prm.number("K", low=0.0)
    if mu is not None:
        energy = Energy(mu=mu, **particle)
    fields["dll"] = _belt.coefficient(prm, "dll", drive, mu, species, planet) if "dll" in prm else None
    own = member["table"]
    fields["lifetime"] = _belt.lifetime(prm, own if "lifetime" in own else prm, drive, energy)
    if prm.get("source", None) is not None:
        fields["source"] = prm.number("source", low=0.0)
    for key in ("dlphi", "dphiphi", "convection", "waves"):
        if key in prm and not angle:
            raise prm.error(key, "needs a phi axis; give grid.cells two numbers")
    for key in ("dlphi", "dphiphi"):
        if key in prm:
            fields[key] = _belt.coefficient(prm, key, drive, mu, species, planet)
    fields["potential"] = _belt.convection(prm, drive, planet)
    usual = "gradient-curvature" if angle and mu is not None else "none"
    if prm.choice("drift", ("gradient-curvature", "none"), usual) != "none":
        if not angle or mu is None:
            raise prm.error("drift", "needs a phi axis and parameters.mu, or energy and at_L")
        fields["kinetic"] = KineticEnergy(mu=mu, **particle)
    _noise.fluctuations(prm, fields, mu, particle, angle, drive.case.duration)
    made, island = _belt.waves(prm, dd, mu, species, planet)
    if made:
        fields["waves"] = made
    return fields, island


def _grid(table: Table, dd, nodes):
    cells = table.integers("cells", low=2)
    kw = {"nodes": nodes}
    if "faces" in table:
        kw["faces"] = table.numbers("faces")
    else:
        kw["L"] = tuple(table.numbers("L", size=2))
        kw["spacing"] = table.choice("spacing", ("log", "linear", "inverse"), "log")
    with section("grid"):
        return dd.grid(cells=cells if len(cells) > 1 else cells[0], **kw)


class _Initial:
    """The initial f of [initial] as a function of (L) or (L, phi); `profile` is the part that depends on L alone."""

    def __init__(self, table: Table):
        self.unit, self.table, self.profile = table.text("unit", PSD_UNIT), table, None
        model = table.choice("model", ("uniform", "peak", "table", "measured"))
        if model == "measured":
            if "injections" in table:
                raise table.error("injections", "do not go with a measured state")
        elif model == "uniform":
            value = table.number("value", low=0.0)
            self.profile = lambda L: value + 0.0 * L
        elif model == "peak":
            peak, at = table.number("peak", low=0.0), table.number("at_L", above=0)
            inside, outside = table.number("width_in", above=0), table.number("width_out", above=0)
            floor = table.number("floor", 0.0, low=0.0)
            self.profile = lambda L: floor + peak * np.exp(-0.5 * ((L - at) / np.where(L < at, inside, outside))**2)
        else:
            L, f = table.numbers("L", low=0.0), table.numbers("f", low=0.0)
            if len(L) != len(f) or min(f) <= 0 or any(b <= a for a, b in zip(L, L[1:])):
                raise table.error("L", "needs as many increasing L as there are positive values in f")
            self.profile = lambda x: np.exp(np.interp(x, L, np.log(f)))
        self.injections = [(t.number("amplitude", low=0.0), t.number("L", above=0), t.number("width", above=0),
                            t.number("mlt", low=0.0, high=24.0), t.number("mlt_width", above=0))
                           for t in table.tables("injections", _INJECTION)]

    def __call__(self, L, phi=None):
        f = self.profile(L)
        for amplitude, at, width, mlt, mlt_width in self.injections:
            bump = amplitude * np.exp(-0.5 * ((L - at) / width)**2)
            if phi is not None:
                bump = bump * np.exp((np.cos(phi - math.pi * mlt / 12) - 1) / (math.pi * mlt_width / 12)**2)
            f = f + bump
        return f


def wall_factor(t, *phi, times, log_factor, amplitude, peak):
    """exp(log_factor(t) + a(t) cos(phi - peak))/I0(a(t)), of mean exp(log_factor) over phi; both linear in time."""
    from jax.scipy.special import i0e

    log_f, a = jnp.interp(t, times, log_factor), jnp.interp(t, times, amplitude)
    if not phi:
        return jnp.exp(log_f)
    return jnp.exp(log_f + a * jnp.cos(phi[0] - peak) - jnp.abs(a)) / i0e(a)


def factors_in_time(table: Table) -> tuple[list, list]:
    """The increasing `times` of a wall and its positive `factor` at each."""
    times, factor = table.quantities("times", "time"), table.numbers("factor")
    if len(times) != len(factor):
        raise table.error("factor", f"needs one number for each of the {len(times)} times, has {len(factor)}")
    if any(b <= a for a, b in zip(times, times[1:])):
        raise table.error("times", "times must increase")
    if min(factor) <= 0:
        raise table.error("factor", "must be positive numbers")
    return times, factor


def _wall(walls: Table, key: str, initial: _Initial, L: float, angle: bool, scale: float):
    """(boundary value, driver for the file or None, note or None) of one wall; scale: a population's factor."""
    given = walls.get(key)
    if isinstance(given, str):
        kind = walls.choice(key, ("no flux", "open", "initial", "measured"))
        if kind == "initial" and initial.profile is None:
            raise walls.error(key, "needs a number where the initial state is measured")
        return scale * float(initial.profile(L)) if kind == "initial" else kind, None, None
    if not isinstance(given, dict):
        return scale * walls.number(key, low=0.0), None, None
    table = walls.table(key, _WALL)
    if ("value" in table) == ("factor" in table):
        raise table.error("value", 'give either value, or factor (times the initial f at the wall) with times')
    if "value" in table:
        return scale * table.number("value", low=0.0), None, None
    if initial.profile is None:
        raise table.error("factor", "is times an initial f that is written out, not measured")
    times, factor = factors_in_time(table)
    amplitude = np.zeros(len(times))
    if "mlt_log_amplitude" in table:
        if not angle:
            raise table.error("mlt_log_amplitude", "needs a phi axis; give grid.cells two numbers")
        amplitude = np.asarray(table.numbers("mlt_log_amplitude", size=len(times)))
    start = scale * float(initial.profile(L))
    peak = math.pi * table.number("mlt_peak", 0.0, low=0.0, high=24.0) / 12
    log_factor = np.log(np.asarray(factor)) + math.log(start)
    value = function(wall_factor, jumps=tuple(times), times=np.asarray(times), log_factor=log_factor, amplitude=amplitude,
                     peak=np.asarray(peak))
    label = table.text("label", "")
    driver = {"t": np.asarray(times), "values": np.asarray(factor), "kind": "log-linear", "units": "1",
              "long_name": f"f at the {key} boundary / initial" + (f" ({label})" if label else "")}
    return value, driver, f"{key} boundary: {label}" if label else None
