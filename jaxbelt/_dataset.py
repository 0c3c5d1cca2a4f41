"""Runs and solutions as xarray Datasets: named dimensions, units, and the further coordinates that an equation offers.

An equation whose axes are not what people think in has a function `add_coordinates(dataset) -> dataset` in its module; it is
called wherever one of its runs or solutions becomes a Dataset.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec

import numpy as np

from jaxbelt._netcdf import budget_label, budget_name

__all__ = ["dataset", "equation_hook", "to_dataset"]


def to_dataset(problem, t, f, budget):
    """A solution in memory as an xarray Dataset: f (nt, *grid.shape), the budget (nt,) each, UTC where there is an epoch."""
    name, unit, long_name = problem.quantity
    times = t if problem.epoch is None else np.datetime64(problem.epoch, "ms") + np.round(t * 1e3).astype("timedelta64[ms]")
    attrs = {"equation": problem.equation, "epoch": problem.epoch or ""}
    return dataset(problem.grid, times, f, budget, {"units": unit, "long_name": long_name, "short_name": name}, attrs,
                    "" if problem.epoch else problem.time_unit, getattr(problem.flows, "__module__", ""))


def dataset(grid, times, f, budget, f_attrs, attrs, time_unit, module=""):
    """The Dataset of f (nt, *grid.shape) at `times` (nt,); module: where to look for the equation's hook first."""
    import xarray as xr

    coords = {a.name: (a.name, a.centers, {"units": a.unit, "long_name": a.long_name}) for a in grid.axes}
    coords["time"] = ("time", times, {"units": time_unit} if time_unit else {})
    data = {"f": (("time", *grid.names), f, f_attrs), "volume": (grid.names, np.array(grid.volumes))}
    data |= {budget_name(k): ("time", v, {"long_name": budget_label(k)}) for k, v in budget.items()}
    made = xr.Dataset(data, coords, attrs | getattr(grid, "attrs", {}))
    hook = equation_hook("add_coordinates", attrs.get("equation", ""), module)
    return made if hook is None else hook(made)


def equation_hook(name, equation, module=""):
    """What an equation offers under this name, or None. Looked for in the module given (where a problem's `flows` is written),
    then, for runs read from a file, in `jaxbelt.equations.<equation>`."""
    hook = getattr(sys.modules.get(module), name, None)
    if hook is None and str(equation).isidentifier() and find_spec(f"jaxbelt.equations.{equation}") is not None:
        hook = getattr(import_module(f"jaxbelt.equations.{equation}"), name, None)
    return hook
