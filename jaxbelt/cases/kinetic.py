"""The tables [grid], [parameters] and [initial] of the kinetic equation of parallel mixing. Times in s, rates in 1/s."""

from __future__ import annotations

import math

import numpy as np

from jaxbelt.cases import Built
from jaxbelt.cases.velocity import initial
from jaxbelt.config import Table, section

TABLES = {
    "grid": ("h", "v", "trapped", "passing"),
    "parameters": ("nu_par", "nu_xi", "nu_L", "v0"),
    "initial": ("model", "thermal", "exponent", "level", "v", "g", "mixed"),
}


def build(config: Table, case) -> Built:
    """The problem, f0 and what the file holds besides, from the tables of one case."""
    from jaxbelt import kinetic, velocity

    table = config.table("grid", TABLES["grid"])
    with section("grid"):
        grid = kinetic.grid(table.number("h", above=0), tuple(table.numbers("v", size=2)), trapped=table.integer("trapped", 8),
                            passing=table.integer("passing", 8))
    prm = config.table("parameters", TABLES["parameters"])
    rates = {key: prm.quantity(key, "per second", low=0.0) for key in ("nu_par", "nu_xi", "nu_L") if key in prm}
    with section("parameters"):
        problem = kinetic.problem(grid, kinetic.Parameters(**rates), epoch=case.epoch).replace(time_unit="s")
    attrs = {"h": grid.h}
    if "v0" in prm:
        attrs["v0_m_per_s"] = float(velocity.Units.of_energy(1e6 * prm.quantity("v0", "energy", above=0)).v0)
    if {"nu_par", "nu_xi"} <= rates.keys():
        attrs["diffusion_rate_per_s"] = float(velocity.rate(velocity.Parameters(nu_par=rates["nu_par"], nu_xi=rates["nu_xi"],
                                                                                h=grid.h), 0.0))
    start = config.table("initial", TABLES["initial"])
    mixed = start.number("mixed", 0.0, low=0.0, high=1.0)
    f0 = np.asarray(kinetic.start(grid, initial(start, grid["v"].centers), mixed))
    if not math.isfinite(f0.max()):
        raise start.error("model", "gives an f that is not finite")
    return Built(problem=problem, f0=f0, attrs=attrs,
                 f_attrs={"units": "n0/v0^3", "long_name": "electron distribution f(v, xi)"})
