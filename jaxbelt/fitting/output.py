"""A fit as a labelled Dataset, and in the netCDF file of its best run: the group "fit" of NAME.nc."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import numpy as np

__all__ = ["LEVELS", "add_to", "dataset", "load_fit"]

LEVELS = {"68": 0.68, "95": 0.95}
_PROFILES = {"dll": ("D_LL", "1/day", "radial diffusion coefficient"), "lifetime": ("tau", "day", "lifetime")}


def dataset(fit, sets: dict | None = None, truth: dict | None = None, attrs: dict | None = None):
    """A `Fit` as an `xarray.Dataset`.

    parameter: value, sigma, low68 ... high95 (intervals), start, truth; theta and its covariance and correlation;
    undetermined_weight (direction, parameter). iteration: loss, chi2, history (iteration, parameter). For each set of data
    (NAME_ or data_): value, sigma, model, residual, low68 ... (posterior predictive: where another measurement would lie),
    model_low68 ... (where the model lies), time, L, mlt; held_value and held_model: values kept out of the fit to judge it.
    D_LL and tau over L, at up to three moments, with their bands.
    sets: {name: `cases._fit_data.Set`}, times, places and labels of the data; truth: {path: value}, where it is known.
    """
    import xarray as xr

    data, coords = {}, {}
    _parameters(fit, truth or {}, data, coords)
    _history(fit, data)
    _measured(fit, sets or {}, data, coords)
    _profiles(fit, truth or {}, data, coords)
    from jaxbelt import __version__

    count = sum(int(np.isfinite(r).sum()) for r in fit.residuals.values())
    about = {"title": "fit", "method": fit.method, "converged": int(fit.converged), "message": fit.message, "loss": fit.loss,
             "chi2": fit.chi2, "dof": fit.dof, "reduced_chi2": fit.reduced_chi2, "values": count,
             "undetermined": "; ".join(map(str, fit.undetermined)), "source": f"jaxbelt {__version__}",
             "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "data_sets": " ".join(_prefix(k) for k in fit.data),
             "epoch": fit.problem.epoch or "", "time_unit": fit.problem.time_unit}
    return xr.Dataset(data, coords, about | (attrs or {}))


def _half(level, dof=None):
    from jaxbelt.fit import _noise_half

    return _noise_half(level, dof)


def _prefix(name: str) -> str:
    return name or "data"


# ---- parameters

def _parameters(fit, truth, data, coords):
    coords["parameter"] = ("parameter", np.array(fit.labels, object), {"long_name": "free parameter"})
    coords["with"] = ("with", np.array(fit.labels, object), {"long_name": "the other parameter of a pair"})
    begin = fit.unknowns.start

    def each(theta):
        """Entries of theta as parameters, one by one."""
        return np.concatenate([np.asarray(f.outward(theta[at])).ravel() for f, at in zip(fit.unknowns.free, fit.unknowns.slices)])

    def put(name, values, text):
        data[name] = ("parameter", values, {"long_name": text})

    put("value", each(fit.theta), "best fit")
    put("sigma", np.concatenate([np.ravel(fit.sigma[f.path]) for f in fit.unknowns.free]), "standard error (Laplace)")
    for word, level in LEVELS.items():
        for side, sign in (("low", -1), ("high", 1)):
            put(side + word, each(fit.theta + sign * _half(level) * fit.sigma_theta), f"{side} end of the {word} % interval")
    put("start", each(begin), "where the fit started")
    put("theta", fit.theta, "transformed value")
    put("theta_sigma", fit.sigma_theta, "standard error of the transformed value")
    transforms = [f.transform for f, s in zip(fit.unknowns.free, fit.unknowns.slices) for _ in range(s.stop - s.start)]
    put("transform", np.array(transforms, object), "what is fitted: x (identity), ln x (log), or between bounds (logit)")
    if truth:
        known = [np.broadcast_to(np.ravel(truth.get(f.path, np.nan)), at.stop - at.start)
                 for f, at in zip(fit.unknowns.free, fit.unknowns.slices)]
        put("truth", np.concatenate(known).astype(float), "value behind the synthetic data")
    pair = ("parameter", "with")
    data["covariance"] = (pair, fit.covariance, {"long_name": "covariance of theta"})
    data["correlation"] = (pair, fit.correlation, {"long_name": "correlation of theta"})
    data["spectrum"] = ("mode", fit.spectrum, {"long_name": "eigenvalues of the data's Fisher matrix, in units of scale"})
    if fit.undetermined:
        weights = [[d.weights.get(label, 0.0) for label in fit.labels] for d in fit.undetermined]
        data["undetermined_weight"] = (("direction", "parameter"), np.array(weights),
                                       {"long_name": "combinations that the data do not determine"})
        data["undetermined_sigma"] = ("direction", np.array([d.sigma for d in fit.undetermined]),
                                      {"long_name": "how well the data alone know it, in units of scale"})


def _history(fit, data):
    numbers = {"loss": "-ln posterior, without its constants", "chi2": "sum of squared residuals"}
    for key, text in numbers.items():
        data[key] = ("iteration", np.array([h.get(key, np.nan) for h in fit.history], float), {"long_name": text})
    thetas = np.array([h["theta"] for h in fit.history], float).reshape(-1, len(fit.labels))
    data["history"] = (("iteration", "parameter"), thetas, {"long_name": "theta of every iteration"})


# ---- data and model

def _measured(fit, sets, data, coords):
    """Values, model, residuals and bands: one run, and one with its derivatives."""
    import jax

    from jaxbelt.fitting.model import compiled_predictions, compiled_slopes

    z, u, _, _ = (jax.tree.map(np.asarray, x) for x in compiled_predictions(fit.setting, fit.theta))
    moved = compiled_slopes(fit.setting, fit.theta)
    told = _everything(fit) if any(getattr(s, "held", None) is not None for s in sets.values()) else {}
    for name, one in fit.data.items():
        p, s = _prefix(name), sets.get(name)
        use = np.asarray(fit.setting.use[name])
        dims = [f"{p}_time"] if use.ndim == 1 else [f"{p}_row", f"{p}_time"] if use.ndim == 2 else \
            [f"{p}_dim{k}" for k in range(use.ndim)]
        times, attrs = _times(fit, s, one, use)
        if times is not None and use.ndim in (1, 2):
            coords[f"{p}_time"] = (f"{p}_time", times, attrs)
            for key, unit in (("L", "1"), ("mlt", "h")):
                if s is not None and getattr(s, key) is not None:
                    coords[f"{p}_{key}"] = (f"{p}_time", np.asarray(getattr(s, key)), {"units": unit, "long_name": f"{key} of "
                                                                                      "the measurement"})
        if use.ndim == 2 and s is not None and s.rows:
            coords[f"{p}_row"] = (f"{p}_row", np.array(s.rows, object))
        about = {"units": s.unit if s else "1", "noise": one.noise}
        quantity = s.long_name if s else "value"
        error = fit.posterior.spread(np.moveaxis(np.asarray(moved[name]), 0, -1))
        noise = np.exp(u[name])

        def put(word, values, text, about=about, use=use, dims=dims, p=p):
            data[f"{p}_{word}"] = (dims, np.where(use, values, np.nan), about | {"long_name": text})

        def back(x, log=one.noise == "log-normal"):
            return np.exp(x) if log else x

        put("value", np.asarray(one.values), f"{quantity}, measured")
        put("sigma", noise, "noise" + (" of ln value" if one.noise == "log-normal" else ""),
            about=about | ({"units": "1"} if one.noise == "log-normal" else {}))
        put("model", back(z[name]), f"{quantity}, best fit")
        data[f"{p}_residual"] = (dims, np.where(use, fit.residuals[name], np.nan), {"long_name": "(data - model)/sigma"})
        if getattr(s, "held", None) is not None:
            model, real = back(told[name]), np.asarray(s.data.values, float)
            held = np.broadcast_to(s.held, use.shape) & np.isfinite(model) & np.isfinite(real)
            put("held_value", real, f"{quantity}, measured, not in the fit", use=held)
            put("held_model", model, f"{quantity}, what the fit says of it", use=held)
        for word, level in LEVELS.items():
            for side, sign in (("low", -1), ("high", 1)):
                put(side + word, back(z[name] + sign * np.hypot(_half(level) * error, _half(level, one.dof) * noise)),
                    f"{side} end of the {word} % posterior predictive band")
                put(f"model_{side}{word}", back(z[name] + sign * _half(level) * error),
                    f"{side} end of the {word} % band of the model")


def _everything(fit) -> dict:
    """{name: z} of all values that the run covers, whether they took part or not."""
    import jax.numpy as jnp

    from jaxbelt.fitting.data import compared
    from jaxbelt.fitting.free import put
    from jaxbelt.fitting.model import seen

    tree = put(fit.setting.key, fit.setting.tree, jnp.asarray(fit.theta))
    found = seen(fit.setting, tree, jnp.asarray(fit.f))
    out = {}
    for name, data in tree["data"].items():
        z = np.asarray(compared(data, found[name], jnp.isfinite(found[name]))[0])
        out[name] = np.where(np.isfinite(np.asarray(found[name])), z, np.nan)
    return out


def held_line(made) -> list[str]:
    """A line for every set of data some of which was kept out of the fit: how well the fit foretold it."""
    lines = []
    for p in made.attrs["data_sets"].split():
        if f"{p}_held_value" in made and made[f"{p}_value"].attrs["noise"] == "log-normal":
            q = np.log(made[f"{p}_held_value"] / made[f"{p}_held_model"]).values
            accuracy = 100 * np.expm1(np.nanmedian(np.abs(q)))
            count = int(np.isfinite(q).sum())
            lines.append(f"{p}: {count} values kept out of the fit, median symmetric accuracy {accuracy:.0f} %")
    return lines


def _times(fit, s, one, use):
    """(times of the values along their last axis or None, attributes)."""
    times = None if s is None else s.times
    if times is None and getattr(one.operator, "orbit", None) is not None:
        times = one.operator.orbit.t
    if times is None and use.ndim in (1, 2):
        times = np.asarray(getattr(one.operator, "times", ()), float)
    if times is None or len(times) != use.shape[-1]:
        return None, {}
    times = np.asarray(times, float)
    if fit.problem.epoch is None:
        return times, {"units": fit.problem.time_unit}
    return np.datetime64(fit.problem.epoch, "ns") + np.round(times * 1e3).astype("timedelta64[ms]"), {"long_name": "UTC"}


# ---- profiles

def _profiles(fit, truth, data, coords):
    """D_LL(L) and lifetime(L), where something in them is free: value and bands at up to three moments."""
    if fit.problem.equation != "drift_diffusion":
        return
    fields = [k for k in _PROFILES if any(f.path == k or f.path.startswith(k + ".") for f in fit.unknowns.free)
              and getattr(fit.parameters, k) is not None]
    if not fields:
        return
    import jax.numpy as jnp

    from jaxbelt.fitting.free import put

    L = fit.problem.grid["L"].centers
    coords["L"] = ("L", L, {"units": "1", "long_name": "L"})
    every = 0.5 * (fit.t[1:] + fit.t[:-1])
    middle = len(L) // 2
    for field in fields:
        name, unit, text = _PROFILES[field]
        times = _moments(lambda t, field=field: _log_profile(fit, fit.parameters, field, t)[:, middle], every)
        value, error = fit.propagate(lambda prm, field=field, times=times: _log_profile(fit, prm, field, times))
        value, error = (np.where(np.isfinite(value), x, np.nan) for x in (value, error))
        dims, m = (f"{name}_moment", "L"), f"{name}_moment"
        coords[m] = (m, times, {"units": fit.problem.time_unit if fit.problem.time_unit != "1" else "s",
                                "long_name": "time after the start"})
        kp = getattr(getattr(fit.parameters, field), "kp", None)
        if kp is not None:
            import jax

            from jaxbelt.coefficients import evaluate

            if fit.problem.grid.axes[0].is_nodes:
                kp = jax.tree.map(lambda x: x[0], kp)
            coords[f"{name}_kp"] = (m, np.array([float(evaluate(kp, t)) for t in times]), {"long_name": "Kp"})
        data[name] = (dims, np.exp(value), {"units": unit, "long_name": text})
        for word, level in LEVELS.items():
            for side, sign in (("low", -1), ("high", 1)):
                data[f"{name}_{side}{word}"] = (dims, np.exp(value + sign * _half(level) * error),
                                                {"units": unit, "long_name": f"{side} end of the {word} % band"})
        trees = {"start": put(fit.setting.key, fit.setting.tree, jnp.asarray(fit.unknowns.start))["parameters"]}
        real = {k: v for k, v in truth.items() if k == field or k.startswith(field + ".")}
        if real:
            trees["truth"] = _with(fit, real)
        for word, prm in trees.items():
            data[f"{name}_{word}"] = (dims, np.exp(np.asarray(_log_profile(fit, prm, field, times))),
                                      {"units": unit, "long_name": f"{text}: {word}"})


def _with(fit, values):
    """The starting parameters with other values put in by name."""
    import jax.numpy as jnp

    from jaxbelt.fitting.free import Free, put, unknowns

    axis = fit.problem.grid.axes[0]
    known = unknowns(fit.setting.tree, [Free(k, start=v) for k, v in values.items()], axis.n if axis.is_nodes else 0)
    return put(known.key, fit.setting.tree, jnp.asarray(known.start))["parameters"]


def _log_profile(fit, prm, field, times):
    """ln D_LL or ln lifetime (times, L): of the mean over phi, at the middle one of several nodes; infinite where none."""
    import jax
    import jax.numpy as jnp

    from jaxbelt.coefficients import evaluate
    from jaxbelt.grid import Grid
    from jaxbelt.physics.losses import rate

    grid = fit.problem.grid
    if grid.axes[0].is_nodes:
        prm = jax.tree.map(lambda x: x[grid.axes[0].n // 2], prm)
        grid = Grid(grid.axes[1:])
    mesh = [jnp.asarray(x) for x in grid.mesh()]

    def at(t):
        x = evaluate(prm.dll, t, *mesh) if field == "dll" else rate(prm.lifetime, t, *mesh)
        x = jnp.broadcast_to(x, grid.shape)
        x = x if grid.ndim == 1 else x.mean(axis=1)
        some = x > 1e-12
        x = jnp.log(jnp.where(some, x, 1.0))
        return jnp.where(some, x if field == "dll" else -x, -jnp.inf if field == "dll" else jnp.inf)

    return jax.vmap(at)(jnp.asarray(times))


def _moments(fn, times):
    """Up to three times: at which fn is near its lowest, middle and highest values; one where it hardly changes."""
    x = np.asarray(fn(times))
    if not np.all(np.isfinite(x)) or np.ptp(x) < 1e-6:
        return times[:1]
    order = np.argsort(x, kind="stable")
    picked = [order[int(round(q * (x.size - 1)))] for q in (0.05, 0.5, 0.95)]
    return times[sorted(dict.fromkeys(picked), key=lambda k: x[k])]


# ---- the file

def add_to(path, made) -> None:
    """The Dataset of a fit as group "fit" of a run's file: on a copy, synced, then renamed, so that a kill breaks nothing."""
    path = Path(path)
    temporary = path.with_name(path.name + ".tmp")
    try:
        shutil.copyfile(path, temporary)
        made.to_netcdf(temporary, mode="a", group="fit", engine="h5netcdf")
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def load_fit(path):
    """The Dataset of the fit in a run's file. Raises InputError (a ValueError) where there is no file or no fit in it."""
    from jaxbelt.config import InputError
    from jaxbelt.io import read_header

    read_header(path)                                          # its errors name the file
    made = fit_in(path)
    if made is None:
        raise InputError(f"{path} holds no fit; jaxbelt fit makes one")
    return made


def fit_in(path):
    """The Dataset of the fit in a file, or None where there is none."""
    import h5netcdf
    import xarray as xr

    if not Path(path).is_file():                               # an unfinished run is a folder of parts
        return None
    with h5netcdf.File(path, "r") as file:
        if "fit" not in file.groups:
            return None
    return xr.load_dataset(path, group="fit", engine="h5netcdf")
