"""The tables [grid], [parameters], [initial], [boundary] and [numerics] of the foliated equation, in its own units.

Times are in R_p/v_th, the time a thermal particle takes across the planet's radius. T0, B0, R0 and species, which scale the
pictures to eV and metres and set rho, are the only physical quantities.
"""

from __future__ import annotations

import numpy as np

from jaxbelt.cases import Built
from jaxbelt.config import Table, section
from jaxbelt.equations._foliated_grid import check_mu
from jaxbelt.grid import Axis

TIME = "crossing"
TABLES = {
    "grid": ("psi", "L", "cells", "mu", "mu_max", "theta", "v_max", "chi_max"),
    "parameters": ("D_perp", "D_par", "D_theta", "alpha", "gamma", "detailed_balance", "rho", "rotation", "lifetime", "T0", "B0",
                   "R0", "species"),
    "initial": ("model", "temperature", "level", "psi", "width", "wave", "amplitude"),
    "boundary": ("inner", "outer", "planet"),
    "numerics": ("bounce", "temperature", "points"),
}
_TABLE_BYTES = 130.0           # of the bounce tables, a cell of (mu, psi, chi, p), as measured
_LISTED = ("D_perp", "alpha", "gamma")


def build(config: Table, case) -> Built:
    """The problem, P at the start and what the file holds besides, from the tables of one case."""
    from jaxbelt import foliated

    prm = config.table("parameters", TABLES["parameters"])
    values, axis = _runs(prm)
    grid = _grid(config.table("grid", TABLES["grid"]), axis, foliated)
    attrs = {}
    common = {key: prm.number(key, low=0.0) for key in ("D_par", "D_theta") if key in prm}
    if "lifetime" in prm:
        common["lifetime"] = prm.quantity("lifetime", TIME, above=0)
    if "detailed_balance" in prm:
        common["detailed_balance"] = prm.flag("detailed_balance")
    if "rotation" in prm:
        common["potential"] = _Linear(prm.number("rotation"))
    common["rho"] = prm.number("rho", 0.05)
    scales = [key for key in ("T0", "B0", "R0", "species") if key in prm]
    if scales:
        units = _units(prm, foliated)
        if "rho" not in prm:
            common["rho"] = float(units.rho_star)
        attrs |= {"T0_eV": 1e6 * prm.quantity("T0", "energy"), "B0_T": 1e-4 * prm.quantity("B0", "field"),
                  "R0_m": prm.quantity("R0", "length"), "species": prm.text("species", "proton")}
    attrs |= {"rho": common["rho"]}
    with section("parameters"):
        runs = [foliated.Parameters(**common, **{k: foliated.Closing() if v == "closing" else v for k, v in one.items()})
                for one in values]
    walls = config.table("boundary", TABLES["boundary"], {})
    numerics = config.table("numerics", ("dt", "chunk", *TABLES["numerics"]))
    start = config.table("initial", TABLES["initial"])
    f0 = initial(start, grid, foliated)
    options = {key: _wall(walls, key, start, foliated) for key in ("inner", "outer")}
    options["planet"] = walls.choice("planet", ("absorbing", "reflecting"), "absorbing")
    options["bounce"] = numerics.choice("bounce", ("remap", "finite-volume", "none"), "remap")
    if "temperature" in numerics:
        options["temperature"] = numerics.number("temperature", above=0)
    tables = 0.0
    if options["bounce"] == "remap":
        options |= {"dt": case.dt, "points": numerics.integer("points", 6, low=2)}
        tables = _TABLE_BYTES * np.prod([a.n for a in grid.axes if a.name in ("mu", "psi", "chi", "p")])
        if case.dry:
            options["bounce"] = "none"
    with section("parameters / boundary / numerics"):
        problem = foliated.problem(grid, runs if axis else runs[0], **options, epoch=case.epoch)
    return Built(problem=problem, f0=np.array(np.broadcast_to(f0, grid.shape)), attrs=attrs,
                 tables=tables, f_attrs={"units": "1", "long_name": "distribution P in (l, v_par, theta, psi, mu)"})


def _runs(prm: Table):
    """The parameters of each run, and the axis of the runs (None where there is one): lists make several."""
    sizes = {key: len(prm.get(key)) for key in _LISTED if isinstance(prm.get(key, None), list)}
    if len(set(sizes.values())) > 1:
        raise prm.error(next(iter(sizes)), "lists of runs must be of one length, got " +
                        ", ".join(f"{k} {n}" for k, n in sizes.items()))
    n = next(iter(sizes.values()), 1)

    def one(key, high=None):
        if key not in prm:
            return None
        if key == "gamma" and prm.get(key) == "closing":
            return ["closing"] * n
        if key in sizes:
            return prm.numbers(key, low=0.0, high=high)
        return [prm.number(key, low=0.0, high=high)] * n

    given = {"D_perp": one("D_perp"), "alpha": one("alpha", 1.0), "gamma": one("gamma")}
    runs = [{k: v[i] for k, v in given.items() if v is not None} for i in range(n)]
    if not sizes:
        return runs, None
    if len(sizes) == 1:                                        # one list names the axis, and its values are the labels
        key = next(iter(sizes))
        return runs, Axis.nodes(key, [one[key] for one in runs], long_name=key)
    return runs, Axis.nodes("run", np.arange(1.0, n + 1.0), long_name="run")


def _grid(table: Table, axis, foliated):
    kw = {}
    for key in ("psi", "L"):
        if key in table:
            kw[key] = tuple(table.numbers(key, size=2))
    for key in ("v_max", "mu_max", "chi_max"):
        if key in table:
            kw[key] = table.number(key, above=0)
    if "cells" in table:
        kw["cells"] = table.integers("cells", low=2)
        if len(kw["cells"]) != 3:
            raise table.error("cells", "needs three numbers, for chi, p and psi")
    if "mu" in table:
        kw["mu"] = table.numbers("mu") if isinstance(table.get("mu"), list) else table.integer("mu", low=1)
    if "theta" in table:
        kw["theta"] = table.integer("theta", low=4)
    with section("grid"):
        return foliated.grid(**kw, nodes=axis)


def _units(prm: Table, foliated):
    return foliated.units(1e6 * prm.quantity("T0", "energy", above=0, like="100 eV"),
                          1e-4 * prm.quantity("B0", "field", above=0, like="0.1 T"),
                          prm.quantity("R0", "length", above=0), species=prm.text("species", "proton"))


class _Linear:
    """phi = rate psi: everything turns at this rate."""

    def __init__(self, rate):
        self.rate = rate

    def __call__(self, t, psi):
        return self.rate * psi


def _wall(walls: Table, key: str, start: Table, foliated):
    """ "absorbing", "reflecting", or "maxwellian": outside stands the Maxwellian that the run starts from. """
    kind = walls.choice(key, ("absorbing", "reflecting", "maxwellian"), "absorbing")
    if kind != "maxwellian":
        return kind
    temperature, level = start.number("temperature", 1.0, above=0), start.number("level", 1.0, above=0)
    import jax.numpy as jnp

    from jaxbelt import field_lines

    def outside(t, l, v, theta, psi, mu):   # noqa: E741
        B = field_lines.from_length(l, psi, outside="extrapolate").B
        return level * jnp.exp(-(0.5 * v**2 + mu * B) / temperature) + 0.0 * theta

    return outside


def initial(table: Table, grid, foliated):
    """P of [initial]."""
    import jax.numpy as jnp

    from jaxbelt import field_lines

    table.choice("model", ("maxwellian",))
    temperature, level = table.number("temperature", 1.0, above=0), table.number("level", 1.0, above=0)
    centre, width = table.number("psi", None, above=0), table.number("width", 0.1, above=0)
    wave, amplitude = table.integer("wave", 1, low=1), table.number("amplitude", 0.0, low=0.0, high=1.0)
    if amplitude and "theta" not in grid.names:
        raise table.error("amplitude", "needs the axis theta: give [grid] theta")

    def P(l, v, theta, psi, mu):   # noqa: E741
        B = field_lines.from_length(l, psi, outside="extrapolate").B
        out = level * jnp.exp(-(0.5 * v**2 + mu * B) / temperature) * (1.0 + amplitude * jnp.cos(wave * theta))
        return out if centre is None else out * jnp.exp(-0.5 * ((psi - centre) / width) ** 2)

    with section("initial"):
        check_mu(grid, temperature)
        return foliated.initial(grid, P)
