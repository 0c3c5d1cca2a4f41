"""The tables [[fit.data]]: measurements from files, or made by the case itself with known parameters."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np

from jaxbelt.config import InputError, Table, section, suggest
from jaxbelt.fitting.columns import read_columns

__all__ = ["KEYS", "Missing", "Set", "kepler", "read", "synthetic"]

_NOISE = ("noise", "sigma", "dof", "log_calibration", "background", "log_sigma")
_OWN = {
    "orbit": ("file", "columns", "channels", "mu", "K", "species", "population", "outside"),
    "twin": ("truth", "seed", "apogee", "perigee", "period", "mlt", "samples", "channels", "mu", "K", "species",
             "population"),
    "moments": ("names", "file", "truth", "seed", "times", "columns"),
    "mageis": ("L", "from", "until"),
}
KEYS = ("name", "kind", *_NOISE, *dict.fromkeys(k for keys in _OWN.values() for k in keys))
_CHANNEL = ("column", "energy", "pitch_angle", "frame", "power", "unit", "label")
_COLUMNS = ("time", "L", "mlt", "phi", "y", "b_ratio", "psd")
_ORBIT_FILE = 'a CSV table with a header line, or a netCDF file, with "time" (UTC, or seconds after case.epoch), "L" (L*), ' \
              '"mlt" where the run has phi, and "psd" or the columns of the channels'


class Missing(InputError):
    """A file of data is not there."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Set:
    """One set of data: the `Data`, and what output and pictures need besides.

    title: a line. times: those of the values (along their last axis); L, mlt: where, or None. rows: a label for each row of
    values, () where there is one. unit: of the values. truth: {path: value}, {} for measurements. count: values that count.
    held: which values (broadcast) are kept out of the fit to judge it, or None.
    """

    data: object
    title: str
    times: np.ndarray
    L: np.ndarray | None = None
    mlt: np.ndarray | None = None
    rows: tuple = ()
    unit: str = "1"
    long_name: str = "value"
    truth: dict = dataclasses.field(default_factory=dict)
    seed: int = 0
    count: int = 0
    held: np.ndarray | None = None
    notes: tuple = ()


def read(table: Table, case) -> Set:
    """One table [[fit.data]]. Synthetic data have ones for values until `synthetic` makes them."""
    kind = table.choice("kind", tuple(_OWN))
    for key in table.values:
        if key not in ("name", "kind", *_NOISE, *_OWN[kind]):
            raise table.error(key, f'does not belong to kind = "{kind}"')
    return {"orbit": _orbit, "twin": _twin, "moments": _moments, "mageis": _mageis}[kind](table, case)


# ---- noise

def _data(table: Table, operator, values, columns=None, **usual):
    """`Data` with the noise that a table gives: sigma a number, one for each row, or a column of the file."""
    from jaxbelt.fitting.data import Data

    values = np.asarray(values, float)
    options = dict(usual)
    options["noise"] = table.choice("noise", ("log-normal", "normal"), usual.get("noise", "log-normal"))
    if "dof" in table:
        options["dof"] = table.number("dof", above=0)
    if isinstance(table.get("sigma", None), str):
        if columns is None:
            raise table.error("sigma", "must be a number or a list of them: there is no file with such a column")
        options["sigma"] = columns(table, "sigma", table.text("sigma"))
    elif "sigma" in table or "sigma" not in usual:
        options["sigma"] = _rows(table, "sigma", values)
    for key in ("log_calibration", "background", "log_sigma"):
        if key in table:
            options[key] = _rows(table, key, values)
    with section(table.path):
        return Data(operator=operator, values=values, **options)


def _rows(table: Table, key: str, values):
    """A number, or one for each row of values, shape (rows, 1)."""
    low = {"sigma": {"low": 1e-300}, "background": {"low": 0.0}}.get(key, {})
    if not isinstance(table.get(key), list):
        return table.number(key, **low)
    if values.ndim != 2:
        raise table.error(key, "must be one number: there is one row of values")
    return np.asarray(table.numbers(key, size=values.shape[0], **low))[:, None]


# ---- files

def _path(table: Table, case, key: str, holds: str) -> Path:
    """The file under a key: beside the case, or in the current folder; `Missing` says what it should hold."""
    given = Path(table.text(key)).expanduser()
    for path in ((given,) if given.is_absolute() else (case.frame.folder / given, Path.cwd() / given)):
        if path.is_file():
            return path
    raise Missing(f'{table.name(key)} = "{given}": there is no such file beside the case or in {Path.cwd()}; it should be '
                  + holds)


class _Columns:
    """The columns of one file under the names that `columns = { ... }` gives them."""

    def __init__(self, table: Table, case, holds):
        self.table, self.path = table, _path(table, case, "file", holds)
        self.names = table.get("columns", {})
        if not isinstance(self.names, dict) or any(not isinstance(v, str) for v in self.names.values()):
            raise table.error("columns", 'must be a table of names, such as { L = "lstar" }')
        with section(table.name("file")):
            self.found = read_columns(self.path)

    def __call__(self, table, key, name):
        """Column `name`, asked for by `key`."""
        name = self.names.get(name, name)
        if name not in self.found:
            raise table.error(key, f'{self.path} has no column "{name}"{suggest(name, self.found)}')
        return self.found[name]

    def maybe(self, name):
        """The column `name`, or None where the file has none and the case names none."""
        return self(self.table, "columns", name) if self.names.get(name, name) in self.found or name in self.names else None

    def times(self, case):
        """The column `time` in seconds after t = 0."""
        from jaxbelt.physics.drivers import seconds_after

        t = self(self.table, "file", "time")
        if t.dtype.kind != "M":
            return np.asarray(t, float)
        if case.problem.epoch is None:
            raise self.table.error("file", "its times are dates: give case.epoch, the date of t = 0")
        return seconds_after(case.problem.epoch, t)


# ---- along an orbit

def _orbit(table: Table, case) -> Set:
    columns = _Columns(table, case, _ORBIT_FILE)
    for name in columns.names:
        if name not in _COLUMNS:
            raise table.error("columns", f'"{name}" is not among them{suggest(name, _COLUMNS)}')
    from jaxbelt.instrument import Orbit

    channels, rows = _channels(table)
    t, place = columns.times(case), {k: columns.maybe(k) for k in ("mlt", "phi", "y", "b_ratio")}
    with section(table.name("file")):
        order = np.argsort(t, kind="stable")
        orbit = Orbit(t[order], np.asarray(columns(table, "file", "L"), float)[order],
                      **{k: np.asarray(v, float)[order] for k, v in place.items() if v is not None})
    if channels is None:
        values = np.asarray(columns(table, "file", "psd"), float)[order]
    else:
        values = np.stack([np.asarray(columns(one, "column", one.text("column")), float)[order]
                           for one in table.tables("channels", _CHANNEL)])

    def sorted_columns(*words):
        return np.asarray(columns(*words), float)[order]

    return _along(table, case, orbit, channels, rows, values, sorted_columns, table.choice("outside", ("error", "mask"), "error"),
                  title=f"{columns.path.name}, {orbit.n} samples")


def _along(table, case, orbit, channels, rows, values, columns, outside, title, **rest) -> Set:
    from jaxbelt.fitting.data import counted, left_out
    from jaxbelt.fitting.operators import AlongOrbit

    options = {"mu": table.quantity("mu", "mu", above=0)} if "mu" in table else {}
    if channels and "mu" not in options and "mu_MeV_per_G" in case.attrs:
        options["mu"] = case.attrs["mu_MeV_per_G"]
    if "K" in table:
        options["K"] = table.number("K", low=0.0)
    species = table.choice("species", ("electron", "proton"), case.attrs.get("species", "electron"))
    if species in ("electron", "proton"):                      # else each population has its own
        options["species"] = species
    if "population" in table:
        labels = json.loads(case.attrs.get("node_labels", "[]")) if "population" in case.problem.grid.names else []
        options["node"] = labels.index(table.choice("population", labels))
        options.pop("species", None)
    with section(table.path):
        operator = AlongOrbit(orbit=orbit, channels=channels, outside=outside, **options)
        covered = operator.covered(case.problem, case.t)
    values = np.ones(covered.shape) if values is None else values
    if values.shape != covered.shape:
        raise InputError(f"[{table.path}] the values have shape {values.shape}, the run makes {covered.shape}: give channels, or "
                         "a case with one mu")
    data = _data(table, operator, values, columns)
    with section(table.path):
        count = int(counted(data, covered).sum())
    if lost := left_out(data, covered):
        title += f"; left out: {lost}"
    unit = case.f_attrs.get("units", "1") if channels is None else channels[0].flux_unit
    if not rows and covered.ndim == 2:
        rows = tuple(f"mu = {x:.4g} MeV/G" for x in case.problem.grid["mu"].centers)
    return Set(data=data, title=title, times=orbit.t, L=orbit.L, mlt=orbit.mlt, rows=rows, unit=unit, count=count,
               long_name="phase space density" if channels is None else "flux", **rest)


def _channels(table: Table):
    """(tuple of `Channel` or None, their labels)."""
    from jaxbelt.instrument import Channel, SinN

    if "channels" not in table:
        return None, ()
    made = []
    for one in table.tables("channels", _CHANNEL):
        options = {k: one.get(k) for k in ("frame", "unit", "label") if k in one}
        if "energy" in one:
            many = isinstance(one.get("energy"), list)
            options["energy"] = one.quantities("energy", "energy") if many else one.quantity("energy", "energy", above=0)
        if "pitch_angle" in one:
            options["pitch_angle"] = one.number("pitch_angle", low=0.0, high=180.0)
        if "power" in one:
            options["shape"] = SinN(n=one.number("power"))
        with section(one.path):
            made.append(Channel(**options))
    if not made:
        raise table.error("channels", "is empty")
    return tuple(made), tuple(c.name for c in made)


def kepler(t, apogee: float, perigee: float, period: float):
    """(r, angle from apogee [rad]) of a Kepler orbit at times t, from apogee at t = 0."""
    a, e = 0.5 * (apogee + perigee), (apogee - perigee) / (apogee + perigee)
    mean = np.pi + 2 * np.pi * np.asarray(t, float) / period
    E = mean + e * np.sin(mean)
    for _ in range(20):
        E = E - (E - e * np.sin(E) - mean) / (1 - e * np.cos(E))
    beta = e / (1 + np.sqrt(1 - e**2))
    return a * (1 - e * np.cos(E)), E + 2 * np.arctan2(beta * np.sin(E), 1 - beta * np.cos(E)) - np.pi


def _twin(table: Table, case) -> Set:
    from jaxbelt.instrument import Orbit

    apogee, perigee = table.number("apogee", above=1.0), table.number("perigee", above=1.0)
    if perigee > apogee:
        raise table.error("perigee", f"is above the apogee, {apogee:g}")
    n = table.integer("samples", low=2)
    t = case.t[-1] * (np.arange(n) + 0.5) / n
    r, angle = kepler(t, apogee, perigee, table.quantity("period", "time", above=0))
    mlt = np.mod(table.number("mlt", 0.0, low=0.0, high=24.0) + 12 / np.pi * angle, 24.0)
    channels, rows = _channels(table)
    L = case.problem.grid["L"].faces[[0, -1]]
    inside = (r >= L[0]) & (r <= L[1])
    if not inside.any():
        raise table.error("apogee", f"the orbit never comes into the grid, L = {L[0]:g} to {L[1]:g}")
    orbit = Orbit(t[inside], r[inside], mlt=mlt[inside])
    title = f"synthetic, {orbit.n} samples along an orbit of L = {max(perigee, L[0]):.3g} to {min(apogee, L[1]):.3g}"
    return _along(table, case, orbit, channels, rows, None, None, "mask", title=title, truth=_truth(table),
                  seed=table.integer("seed", 0, low=0))


def _truth(table: Table) -> dict:
    truth = table.get("truth")
    if not isinstance(truth, dict) or not truth:
        raise table.error("truth", 'must be a table of names and values, such as { "dll.log_amplitude" = 0.5 }')
    flat = {}

    def walk(path, value):
        if isinstance(value, dict):
            for key, one in value.items():
                walk(f"{path}.{key}" if path else key, one)
        else:
            flat[path] = value

    walk("", truth)
    for name, value in flat.items():
        if any(isinstance(v, bool) or not isinstance(v, (int, float)) for v in (value if isinstance(value, list) else [value])):
            raise table.error("truth", f"{name} must be a number or a list of numbers")
    return {k: np.asarray(v, float) for k, v in flat.items()}


def _mageis(table: Table, case) -> Set:
    """The rates of [measured] by pass and L*, as fluxes in its channels."""
    from jaxbelt.fitting.data import counted
    from jaxbelt.fitting.operators import AlongOrbit
    from jaxbelt.instrument import Orbit

    measured = case.measured
    if measured is None:
        raise table.error("kind", "needs the table [measured]")
    if measured.missing:
        raise Missing(measured.missing)
    p, (low, high) = measured.passes, table.numbers("L", size=2)
    first, last = table.quantity("from", "time", 0.0, low=0.0), table.quantity("until", "time", float(case.t[-1]), above=0)
    walls = case.problem.grid["L"].faces[[0, -1]]
    inside = (p.lstar > walls[0]) & (p.lstar < walls[1]) & (p.t >= 0) & (p.t <= case.t[-1])
    judged = inside & (p.lstar > low) & (p.lstar < high) & (p.t > first)
    use, held = judged & (p.t < last), judged & (p.t >= last)
    orbit = Orbit(p.t, np.where(inside, p.lstar, np.nan))
    data = _data(table, AlongOrbit(orbit=orbit, channels=measured.channels, outside="mask"), measured.rate)
    data = data.replace(mask=use[None], **({} if "background" in table else {"background": measured.background}))
    with section(table.path):
        count = int(counted(data, data.operator.covered(case.problem, case.t)).sum())
    return Set(data=data, title=f"MagEIS, {len(measured.channels)} channels on {np.unique(p.number[use]).size} passes", times=p.t,
               L=np.where(inside, p.lstar, np.nan), rows=tuple(c.name for c in measured.channels), unit="relative",
               long_name="flux", count=count, held=held if held.any() else None)


# ---- averages of the foliated equation

def _moments(table: Table, case) -> Set:
    from jaxbelt.fitting.operators import Moments

    if case.problem.equation != "foliated":
        raise table.error("kind", f'is for equation = "foliated", not "{case.problem.equation}"')
    names = table.get("names")
    if not isinstance(names, list) or not names or any(not isinstance(n, str) for n in names):
        raise table.error("names", 'must be a list of averages, such as ["T_perp", "E_par"]')
    if ("file" in table) == ("truth" in table):
        raise table.error("file", "give either a file, or truth for synthetic data")
    columns, truth = None, {}
    if "file" in table:
        if "times" in table:
            raise table.error("times", "are those of the file")
        columns = _Columns(table, case, f'a CSV table or netCDF file with "time" and {", ".join(names)}')
        times = columns.times(case)
        values = np.stack([columns(table, "names", n) for n in names])
        title = f"{columns.path.name}, {', '.join(names)}"
    else:
        times, truth = np.asarray(table.quantities("times", "crossing", low=0.0)), _truth(table)
        values, title = np.ones((len(names), len(times))), f"synthetic, {', '.join(names)} at {len(times)} times"
    with section(table.path):
        operator = Moments(names=tuple(names), times=tuple(times))
    data = _data(table, operator, values, columns, noise="normal")
    return Set(data=data, title=title, times=times, rows=tuple(names), truth=truth, seed=table.integer("seed", 0, low=0),
               count=int(np.isfinite(values).sum()), long_name="average over all particles")


# ---- data that the case makes itself

def synthetic(sets: dict, problem, f0, t, dt, dry=False) -> dict:
    """The sets with values for those that have a truth: a run with it put in, seen by the operator, with noise."""
    import jax.numpy as jnp

    from jaxbelt.cases._fit import nodes_of, tree_of
    from jaxbelt.fitting.data import compared, counted
    from jaxbelt.fitting.free import Free, put, unknowns
    from jaxbelt.fitting.model import start_state
    from jaxbelt.solve import Result, solve

    if not any(s.truth for s in sets.values()):
        return sets
    tree, out, runs = tree_of(problem, f0, {k: s.data for k, s in sets.items()}), dict(sets), {}
    for name, one in sets.items():
        if not one.truth:
            continue
        try:
            known = unknowns(tree, [Free(path, start=value) for path, value in one.truth.items()], nodes_of(problem))
        except ValueError as error:
            raise InputError(f"fit.data{'.' + name if name else ''}.truth: {error}".replace("free: ", "")) from None
        if dry:
            continue
        true = put(known.key, tree, jnp.asarray(known.start))
        key = tuple((k, tuple(np.ravel(v).tolist())) for k, v in sorted(one.truth.items()) if not k.startswith("data."))
        if key not in runs:
            runs[key] = solve(problem.replace(parameters=true["parameters"], boundary=true["boundary"]),
                              start_state(true, problem.grid), t=t, dt=dt)
            if int(np.max(runs[key].result)):
                raise InputError(f"fit.data.truth: {Result(int(np.max(runs[key].result))).message}")
        data = true["data"][name]
        covered = getattr(data.operator, "covered", lambda *_: None)(problem, t)
        use = counted(one.data, covered)
        z, u = (np.asarray(x) for x in compared(data, data.operator(runs[key]), jnp.asarray(use)))
        rng = np.random.default_rng(one.seed)
        noise = rng.normal(size=z.shape) if data.dof is None else rng.standard_t(data.dof, size=z.shape)
        y = z + np.exp(u) * noise
        values = np.where(use, np.exp(y) if data.noise == "log-normal" else y, np.nan)
        out[name] = dataclasses.replace(one, data=one.data.replace(values=values))
    return out
