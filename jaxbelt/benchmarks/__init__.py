"""What jaxbelt costs on this machine, beside what the machine can do and what others take: `jaxbelt bench`.

`run(parts, quick)` measures and returns tables of plain numbers; `report` prints them. Nothing here is needed to solve anything.
"""

from __future__ import annotations

import importlib

__all__ = ["PARTS", "run", "machine"]

# part: (module, what it measures)
PARTS = {
    "copy": ("bandwidth", "bandwidth of this machine, by the size of the arrays"),
    "flows": ("flow_costs", "every flow: time a cell, the bytes it must move, and how near the two are"),
    "lines": ("line_solves", "back ends of the line solves, by length, number and precision"),
    "steps": ("steps", "a whole step of every equation"),
    "scaling": ("scaling", "cost against the number of cells, of runs, of devices"),
    "peers": ("peers", "the same radial diffusion by other codes, with its error"),
}


def run(parts=(), quick: bool = False) -> dict:
    """{part: list of `timing.Table`} of the parts named (all without). quick: tiny sizes and few rounds, to try it.

    Raises ValueError for a name that is not a part.
    """
    for name in parts:
        if name not in PARTS:
            raise ValueError(f"part: {name!r} is unknown; use {', '.join(PARTS)}")
    out = {}
    for name in parts or PARTS:
        module = importlib.import_module(f"jaxbelt.benchmarks.{PARTS[name][0]}")
        out[name] = module.part(quick)
    return out


def machine() -> dict:
    """Processor, cores, load, devices and versions."""
    import os
    import platform

    import jax
    import numpy

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    devices = jax.devices()
    return {"processor": _processor() or platform.machine(), "cores": cores, "load": load, "platform": devices[0].platform,
            "devices": f"{len(devices)} x {devices[0].device_kind}", "jax": jax.__version__, "numpy": numpy.__version__,
            "python": platform.python_version()}


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), "")
    except OSError:
        return ""
