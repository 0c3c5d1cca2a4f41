"""jaxbelt: differentiable Fokker-Planck equations of radiation belts and dipole plasmas, in JAX.

    import jaxbelt as jb
    from jaxbelt import drift_diffusion as dd

Importing changes no configuration. Call `jb.enable_x64()` first: the equations are made for double precision.
"""

from __future__ import annotations

import importlib

# eager, because these functions share their module's name: a later import of the module must not hide them
from jaxbelt.fit import Fit, fit
from jaxbelt.run import resume, run
from jaxbelt.solve import Problem, Result, Solution, make_problem, solve

__version__ = "0.1.0"

# public name -> module that defines it; loaded at first use, so that importing jaxbelt stays light
_HOME = {
    "Axis": "grid", "Grid": "grid",
    "Series": "coefficients", "Time": "coefficients", "evaluate": "coefficients", "function": "coefficients",
    "parameters": "coefficients", "static": "coefficients", "is_steady": "coefficients",
    "sweep": "batch", "draws": "batch", "run_many": "batch", "solve_over": "sharding", "Sweep": "batch", "Many": "batch",
    "run_batch": "batch_files", "load_batch": "batch_merge",
    "load": "io", "infer_mixing": "mixing_inference",
    "Data": "fitting.data", "Free": "fitting.free", "Normal": "fitting.free", "Smooth": "fitting.free",
    "AlongOrbit": "fitting.operators", "Moments": "fitting.operators", "State": "fitting.operators",
    "observed": "fitting.operators",
    "observe": "observation", "Orbit": "instrument", "Channel": "instrument", "SinN": "instrument",
}
_MODULES = {
    "drift_diffusion": "equations.drift_diffusion", "local_diffusion": "equations.local_diffusion",
    "velocity": "equations.velocity",
    "foliated": "equations.foliated", "kinetic": "equations.kinetic", "two_field": "equations.two_field",
    "constants": "constants", "distributions": "distributions", "flows": "flows", "levels": "levels", "linear": "linear",
    "montecarlo": "montecarlo", "nodes": "nodes",
    "plot": "plot",
    "chorus": "physics.chorus", "chorus_tensor": "physics.chorus_tensor", "contours": "physics.contours",
    "dipole": "physics.dipole", "drift": "physics.drift",
    "drift_average": "physics.drift_average", "drivers": "physics.drivers", "electric": "physics.electric",
    "euler": "physics.euler", "field_lines": "physics.field_lines", "fluctuations": "physics.fluctuations",
    "guiding_center": "physics.guiding_center", "hiss": "physics.hiss", "invariants": "physics.invariants",
    "losses": "physics.losses",
    "magnetopause": "physics.magnetopause", "mixing": "physics.mixing", "plasmapause": "physics.plasmapause",
    "potential_noise": "physics.potential_noise",
    "radial_diffusion": "physics.radial_diffusion", "free_form": "physics.free_form", "wave_tables": "physics.wave_tables",
    "labels": "physics.labels", "fluxes": "physics.fluxes", "spectra": "physics.spectra", "flux_tables": "physics.flux_tables",
}

__all__ = ["__version__", "enable_x64", "Problem", "Result", "Solution", "make_problem", "solve", "run", "resume", "fit", "Fit",
           *_HOME, *_MODULES]


def enable_x64() -> None:
    """Switch JAX to double precision; call it before any array is made."""
    import jax

    jax.config.update("jax_enable_x64", True)


def __getattr__(name):
    if name in _MODULES:
        value = importlib.import_module(f"jaxbelt.{_MODULES[name]}")
    elif name in _HOME:
        value = getattr(importlib.import_module(f"jaxbelt.{_HOME[name]}"), name)
    else:
        raise AttributeError(f"module 'jaxbelt' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__():
    return sorted(__all__)
