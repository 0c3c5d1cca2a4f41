"""What is checked when a foliated problem is built with concrete values: one line that names the entry and what is right."""

from __future__ import annotations

import inspect
import math

import jax
import numpy as np

from jaxbelt._warn import warn
from jaxbelt.coefficients import Function, Series, evaluate
from jaxbelt.equations._foliated_closing import Closing
from jaxbelt.equations._foliated_flows import on_grid, shear
from jaxbelt.equations._foliated_grid import coordinates, geometry, live, spread

__all__ = ["check", "check_start", "check_walls", "warn_of_coarse"]

_TIME, _PLACE, _LEAF = ("t",), ("t", "l", "v", "psi", "mu"), ("t", "l", "v", "theta", "psi", "mu")
_FEW_CHI = 20                  # cells below which E_par is off


def check(grid, prm):
    """Concrete parameters: their ranges, at t = 0 where they are functions of time, and the arguments and shapes of functions."""
    for name in ("alpha", "rho", "D_perp", "D_par", "D_theta"):
        value = getattr(prm, name)
        if isinstance(value, str) or (value is None and name in ("alpha", "rho")):
            raise ValueError(f"{name}: needs a number, got {value!r}")
    if prm.detailed_balance and prm.gamma is None:
        raise ValueError("detailed_balance: needs a friction gamma")
    with jax.ensure_compile_time_eval():
        _check_functions(grid, prm)
        alpha = np.asarray(evaluate(prm.alpha, 0.0))
        if not np.all((alpha >= 0) & (alpha <= 1)):
            raise ValueError(f"alpha: must be in [0, 1] (0 Ito, 1/2 Stratonovich), got {alpha.ravel()[0]:g}")
        for name in ("D_perp", "D_par", "D_theta", "gamma"):
            value = getattr(prm, name)
            if value is None or isinstance(value, Closing):
                continue
            value = np.asarray(value.values if isinstance(value, Series) else evaluate(value, 0.0))
            bad = ~((value >= 0) & np.isfinite(value))
            if np.any(bad):
                raise ValueError(f"{name}: must be at least 0 and finite, got {value[bad].ravel()[0]:g}")
        if not np.all(np.isfinite(np.asarray(prm.rho))):
            raise ValueError(f"rho: must be finite, got {prm.rho}")
        if prm.lifetime is not None:
            tau = np.asarray(on_grid(grid, prm.lifetime, 0.0))
            if np.any(~(tau > 0)):
                raise ValueError(f"lifetime: must be positive, got {tau[~(tau > 0)].ravel()[0]:g}")
        if prm.source is not None:
            _not_negative("source", prm.source, lambda s: on_grid(grid, s, 0.0), spread(grid, live(grid)))
        if "theta" in grid.names and prm.D_par is not None:
            _warn_of_shear(grid, float(np.asarray(prm.rho)))


def check_walls(grid, boundary):
    """Concrete P outside the walls, shaped (mu, chi, p[, theta])."""
    shape = grid.shape[:1] + grid.shape[2:]
    for name, row in (("inner", -1), ("outer", 0)):
        if name not in boundary:
            continue
        value = boundary[name]
        with jax.ensure_compile_time_eval():
            if callable(value):
                _check_call(name, value.value, _LEAF, value.at, shape)
            elif not _fits(np.shape(value), shape):
                raise ValueError(f"{name}: an array of shape {np.shape(value)} does not fit the wall, {shape}")
            above = live(grid)[row].reshape((1, -1, 1) + (1,) * (len(shape) - 3))
            _not_negative(name, value, lambda w: evaluate(w, 0.0), above)


def check_start(f0):
    """A state that is below zero somewhere, by more than rounding."""
    if isinstance(f0, jax.core.Tracer):
        return
    f0 = np.asarray(f0)
    if f0.size and np.min(f0) < -1e-12 * np.max(np.abs(f0)):
        raise ValueError(f"f0: P must be at least 0 everywhere, got {np.min(f0):g}")


def warn_of_coarse(grid):
    """Few cells along the field."""
    n = grid["chi"].n
    if n < _FEW_CHI:
        warn(f"cells of chi: {n} are too few for E_par, whose moment is steep along the field; take at least {_FEW_CHI} "
             "(24 is usual)")


def _not_negative(name, value, read, where):
    value = value.value if isinstance(getattr(value, "value", None), Series) else value
    read = np.asarray(value.values if isinstance(value, Series) else read(value))
    bad = ~(read >= 0) if isinstance(value, Series) else ~(read >= 0) & where
    if np.any(bad):
        raise ValueError(f"{name}: must be at least 0 everywhere, or P would become negative; got "
                         f"{np.broadcast_to(read, bad.shape)[bad].ravel()[0]:g}")


def _warn_of_shear(grid, rho):
    """Neighbouring cells of p above the planet, between which the finest wave of theta turns by more than half a turn."""
    turns = np.abs(np.diff(shear(grid, rho), axis=3)) * spread(grid, live(grid))
    turn = grid["theta"].n // 2 * float(np.max(turns))
    if turn > math.pi:
        most = int(grid["theta"].n * math.pi / turn)
        warn(f"D_par with theta: the finest wave along theta turns by {turn:.2g} rad from one cell of p to "
             f"the next (pi is the most that is resolved); take at most {most} cells of theta, or more of p")


# ---- functions of the user

def _fits(shape, full):
    try:
        return np.broadcast_shapes(shape, full) == tuple(full)
    except ValueError:
        return False


def _check_call(name, value, arguments, at, full):
    """A callable takes (t, *at) and gives what fits the shape `full`."""
    if not callable(value) or isinstance(value, Series):
        return
    words = f"({', '.join(arguments)})"
    fn, arrays = (value.fn, value.arrays) if isinstance(value, Function) else (value, {})
    try:
        inspect.signature(fn).bind(*arguments, **arrays)
    except TypeError as error:
        raise ValueError(f"{name}: is called as a function of {words}: {error}") from None
    except ValueError:                                         # a builtin that has no signature
        pass
    try:
        shape = jax.eval_shape(lambda t: evaluate(value, t, *at), 0.0).shape
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise ValueError(f"{name}: calling this function of {words} fails: {type(error).__name__}: {first}") from error
    if not _fits(shape, full):
        what = f"one number, got shape {shape}" if not full else f"shape {tuple(full)} or what broadcasts to it, got {shape}"
        raise ValueError(f"{name}: as a function of {words} must give {what}")


def _check_functions(grid, prm):
    for name in ("alpha", "D_perp", "D_par", "D_theta", "gamma"):
        if not isinstance(getattr(prm, name), Closing):
            _check_call(name, getattr(prm, name), _TIME, (), ())
    psi = grid.centers("psi")
    _check_call("potential", prm.potential, ("t", "psi"), (psi,), np.shape(psi))
    c = coordinates(grid)
    for name in ("source", "lifetime"):
        value = getattr(prm, name)
        _check_call(name, value, _LEAF, c, grid.shape)
        if value is not None and not callable(value) and not _fits(np.shape(value), grid.shape):
            raise ValueError(f"{name}: an array of shape {np.shape(value)} does not fit the grid {grid.shape} "
                             f"({', '.join(grid.names)})")
    _check_call("C_theta", prm.C_theta, _PLACE, (c.l, c.v, c.psi, c.mu), grid.shape)
    at, faces = geometry(grid), grid.faces("p")
    k = grid.index("p")
    shape = tuple(n + (i == k) for i, n in enumerate(grid.shape))
    for name in ("C_l", "C_v", "C_psi"):                       # read on faces: a fixed array of the cells would not do
        _check_call(name, getattr(prm, name), _PLACE, (c.l, spread(grid, at.B) * faces, c.psi, c.mu), shape)
