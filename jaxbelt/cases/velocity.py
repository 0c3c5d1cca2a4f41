"""The tables [grid], [parameters], [initial] and [boundary] of the velocity-diffusion equation. Times in s, rates in 1/s."""

from __future__ import annotations

import math

import numpy as np

from jaxbelt.cases import Built
from jaxbelt.config import Table, section

TABLES = {
    "grid": ("v", "cells"),
    "parameters": ("nu_par", "nu_xi", "h", "rate", "source", "lifetime", "v0", "n0"),
    "initial": ("model", "thermal", "exponent", "level", "v", "g"),
    "boundary": ("inner", "outer"),
}
_SOURCE = ("v", "width", "strength")
_WALL = ("power_law", "flux", "value")


def build(config: Table, case) -> Built:
    """The problem, g0 and what the file holds besides, from the tables of one case."""
    from jaxbelt import velocity

    table = config.table("grid", TABLES["grid"])
    with section("grid"):
        grid = velocity.grid(v=tuple(table.numbers("v", size=2)), cells=table.integer("cells", low=2))
    v = grid["v"].centers
    prm = config.table("parameters", TABLES["parameters"])
    fields, drivers = {}, {}
    for key in ("nu_par", "nu_xi", "rate"):
        if key in prm:
            fields[key] = prm.quantity(key, "per second", low=0.0)
    if "h" in prm:
        fields["h"] = prm.number("h", above=0)
    if "lifetime" in prm:
        fields["lifetime"] = prm.quantity("lifetime", "time", above=0)
    if "source" in prm:
        fields["source"] = _source(prm.table("source", _SOURCE), grid)
    units = velocity.Units.of_energy(1e6 * prm.quantity("v0", "energy", above=0)) if "v0" in prm else None
    attrs = {} if units is None else {"v0_m_per_s": float(units.v0)}
    if "n0" in prm:
        attrs["n0_per_m3"] = prm.number("n0", above=0)
    walls = config.table("boundary", TABLES["boundary"])
    with section("parameters"):
        parameters = velocity.Parameters(**fields)
    bounds = {key: _wall(walls, key, velocity) for key in ("inner", "outer")}
    with section("parameters / boundary"):
        problem = velocity.problem(grid, parameters, **bounds, epoch=case.epoch).replace(time_unit="s")
    g0 = initial(config.table("initial", TABLES["initial"]), v)
    rate = float(velocity.rate(parameters, 0.0))
    attrs["diffusion_rate_per_s"] = rate
    return Built(problem=problem, f0=g0, attrs=attrs, drivers=drivers,
                 f_attrs={"units": "n0/v0^3", "long_name": "isotropic electron distribution g"})


def _source(table: Table, grid) -> np.ndarray:
    """`strength` particles a second (4 pi times the content), a Gaussian in ln v of the given width."""
    v, at, width = grid["v"].centers, table.number("v", above=0), table.number("width", 0.05, above=0)
    lo, hi = grid["v"].faces[[0, -1]]
    if not lo < at < hi:
        raise table.error("v", f"must lie inside the grid, {lo:g} to {hi:g}")
    shape = np.exp(-0.5 * (np.log(v / at) / width) ** 2)
    if not grid.content(shape) > 0:
        raise table.error("width", "is too narrow for the cells")
    return table.number("strength", above=0) * shape / (4.0 * math.pi * grid.content(shape))


def _wall(walls: Table, key: str, velocity):
    given = walls.get(key, "no flux")
    if isinstance(given, str):
        if given != "no flux":
            raise walls.error(key, 'must be "no flux", a number (g outside), { power_law = 3.0 } or { flux = 0.1 }')
        return given
    if not isinstance(given, dict):
        return walls.number(key, low=0.0)
    table = walls.table(key, _WALL)
    if len(table.values) != 1:
        raise walls.error(key, "give one of power_law, flux, value")
    if "power_law" in table:
        return velocity.PowerLaw(exponent=table.number("power_law"))
    # particles a second, as for the source
    if "flux" in table:
        return velocity.Flux(value=table.number("flux", low=0.0) / (4.0 * math.pi))
    return table.number("value", low=0.0)


def initial(table: Table, v) -> np.ndarray:
    """g(v) of [initial]."""
    model = table.choice("model", ("maxwellian", "power-law", "table"))
    if model == "maxwellian":
        thermal = table.number("thermal", 1.0, above=0)
        return table.number("level", 1.0, above=0) * np.exp(-((v / thermal) ** 2)) / (math.pi**1.5 * thermal**3)
    if model == "power-law":
        return table.number("level", 1.0, above=0) * v ** -table.number("exponent")
    at, g = table.numbers("v", low=0.0), table.numbers("g", low=0.0)
    if len(at) != len(g) or min(g) <= 0 or min(at) <= 0 or any(b <= a for a, b in zip(at, at[1:])):
        raise table.error("v", "needs as many positive, increasing v as there are positive values in g")
    return np.exp(np.interp(np.log(v), np.log(at), np.log(g)))
