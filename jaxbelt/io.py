"""Files: labelled netCDF-4 that xarray, ncdump and a restart all read, written so that a kill leaves nothing broken.

While a run goes on, each chunk of output is a small complete netCDF of its own in RUN.nc.parts/, written under a temporary
name, synced and renamed. `merge` copies them part by part into RUN.nc and renames that into place; `load` reads either.
Every part ends with the state at full precision, which is the restart. Checksums guard the data.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from jaxbelt._dataset import dataset, to_dataset
from jaxbelt._netcdf import (
    Opened,
    attrs_of,
    budget_label,
    budget_name,
    seconds_units,
    text_of,
    time_attrs,
    variable,
    write,
    write_static,
)
from jaxbelt.config import InputError
from jaxbelt.grid import Axis, Frozen, Grid

__all__ = ["Header", "Run", "load", "merge", "write_part", "parts_of", "check_writable", "seconds_units", "log_of", "to_dataset"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Header:
    """What is the same in every part of a run.

    t: the planned output times; dtype: of the state; precision: "single" or "double", of the stored f; attrs: global
    attributes (text, numbers, or dictionaries of them); f_attrs: units and long_name of f; drivers: name -> dict(t=,
    values=, kind=, units=, long_name=).
    """

    grid: Grid
    t: np.ndarray
    epoch: str | None = None
    dtype: str = "float64"
    precision: str = "double"
    attrs: dict = dataclasses.field(default_factory=dict)
    f_attrs: dict = dataclasses.field(default_factory=dict)
    drivers: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """A run read from its file: arrays are NumPy, names as in a Solution.

    f: (nt, *grid.shape); t: (nt,) seconds after the epoch; content: (nt,) sum of V f in double precision; budget: name ->
    (nt,) content gained since t[0]; state: the last f at full precision; planned: all output times asked for; status:
    "complete", "unfinished" or "diverged".
    """

    path: Path
    grid: Grid
    t: np.ndarray
    f: np.ndarray
    content: np.ndarray
    budget: dict
    state: np.ndarray
    result: int
    epoch: str | None
    status: str
    attrs: dict
    f_attrs: dict
    drivers: dict
    planned: np.ndarray

    @property
    def time_unit(self) -> str:
        """Unit of t: "s", or what an equation without dimensions calls it."""
        return self.attrs.get("time_unit", "s")

    def __repr__(self):
        """One line; printing a run should not print its arrays."""
        axes = ", ".join(f"{a.name} {a.n}" for a in self.grid.axes)
        return f"Run({str(self.path)!r}, {self.status}, {self.t.size} of {self.planned.size} times, {axes})"

    @property
    def complete(self) -> bool:
        return self.status == "complete"

    @property
    def times(self):
        """UTC as datetime64[ms], or the seconds where the run has no epoch."""
        return self.dates(self.t)

    def dates(self, seconds):
        """Seconds after the epoch as datetime64[ms]; unchanged where the run has no epoch."""
        seconds = np.asarray(seconds)
        if self.epoch is None:
            return seconds
        return np.datetime64(self.epoch, "ms") + np.round(seconds * 1e3).astype("timedelta64[ms]")

    def to_xarray(self):
        """The run as an xarray Dataset with named dimensions, units and long names."""
        attrs = {k: v for k, v in self.attrs.items() if not isinstance(v, dict)}
        return dataset(self.grid, self.times, self.f, self.budget, self.f_attrs, attrs, "" if self.epoch else self.time_unit)


def parts_of(path) -> Path:
    """The folder RUN.nc.parts beside RUN.nc."""
    return Path(str(path) + ".parts")


def log_of(path) -> Path:
    """The log beside RUN.nc."""
    return Path(path).with_suffix(".log")


def check_writable(folder, size: int = 0) -> Path:
    """Make the folder, write to it and remove that again; InputError where this fails or `size` bytes do not fit."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"x")
    except OSError as error:
        raise InputError(f"the folder {folder} cannot be written to: {error.strerror or error}") from None
    free = shutil.disk_usage(folder).free
    if size > free:
        raise InputError(f"the folder {folder} has {free / 2**20:.0f} MiB free, but this run writes about {size / 2**20:.0f} MiB")
    return folder


def _stored(header: Header):
    return np.float32 if header.precision == "single" else np.float64


def _f_attrs(header: Header) -> dict:
    return {"units": "1", "long_name": "phase space density"} | header.f_attrs


def write_part(path, header: Header, k: int, t, f, budget: dict, result: int = 0):
    """Part k of the run `path`: outputs f (n, *grid.shape) at t (n,), the last of them the restart, the running budget (n,)."""
    names, state = header.grid.names, f[-1]
    content = np.array([np.sum(header.grid.volumes * x, dtype=np.float64) for x in f])

    def fill(file):
        write_static(file, header, len(t))
        variable(file, "time", ("time",), np.asarray(t, np.float64), time_attrs(header))
        variable(file, "f", ("time", *names), np.asarray(f, _stored(header)), _f_attrs(header))
        variable(file, "state", names, np.asarray(state, np.float64),
                 {"long_name": "f at the last time at full precision: the restart", "units": _f_attrs(header)["units"]})
        _accounts(file, content, budget)
        file.attrs["result"] = int(result)

    folder = parts_of(path)
    folder.mkdir(exist_ok=True)
    write(folder / f"part-{k:05d}.nc", fill)


def _accounts(file, content, budget):
    variable(file, "content", ("time",), content, {"long_name": "content of the grid: sum of volume times f"})
    for name, values in budget.items():
        variable(file, budget_name(name), ("time",), np.asarray(values, np.float64),
                 {"long_name": budget_label(name), "jaxbelt_budget": name})


def part_files(path) -> list[Path]:
    """The parts of a run in order; InputError where one is missing in between."""
    files = sorted(parts_of(path).glob("part-*.nc"))
    for k, file in enumerate(files):
        if file.name != f"part-{k:05d}.nc":
            raise InputError(f"{parts_of(path) / f'part-{k:05d}.nc'} is missing; the run cannot be read without it")
    return files


def read_header(path) -> Header:
    """The Header of a part or of a whole file."""
    with Opened(path) as file:
        if "jaxbelt_batch" in file.attrs:
            raise InputError(f"{path} holds a batch of runs: jaxbelt.load_batch reads it")
        names = [d for d in file["f"].dimensions if d != "time"]
        axes = []
        for name in names:
            v = file[name]
            kw = {"unit": text_of(v.attrs["units"]), "long_name": text_of(v.attrs["long_name"])}
            if int(v.attrs["nodes"]):
                axes.append(Axis.nodes(name, v[...], file[f"{name}_measure"][...], **kw))
            else:
                axes.append(Axis.cells(name, file[f"{name}_face"][...], measure=file[f"{name}_measure"][...], centers=v[...],
                                       periodic=bool(int(v.attrs["periodic"])), **kw))
        factor = Frozen(file["volume_factor"][...]) if "volume_factor" in file.variables else None
        drivers = {}
        for name, v in file.variables.items():
            if "jaxbelt_driver" in v.attrs:
                drivers[name] = {"t": file[f"{name}_time"][...], "values": v[...], "units": text_of(v.attrs["units"]),
                                 "long_name": text_of(v.attrs["long_name"]), "kind": text_of(v.attrs["kind"])}
        attrs = attrs_of(file)
        f_attrs = {k: text_of(v) for k, v in file["f"].attrs.items() if k in ("units", "long_name")}
        grid = Grid(tuple(axes), factor)
        if "L_ref" in attrs:
            from jaxbelt.physics.label_grid import restored

            grid = restored(grid, attrs)
        return Header(grid=grid, t=file["planned_time"][...], epoch=attrs.get("epoch") or None,
                      dtype=attrs["state_dtype"], precision=attrs["precision"], attrs=attrs, f_attrs=f_attrs, drivers=drivers)


def read_end(path) -> dict:
    """Of one part: t (n,), the state, content (n,), the budget (n,) each and the result, without reading f."""
    with Opened(path) as file:
        budget = {text_of(v.attrs["jaxbelt_budget"]): v[...] for v in file.variables.values() if "jaxbelt_budget" in v.attrs}
        return {"t": file["time"][...], "state": file["state"][...], "content": file["content"][...], "budget": budget,
                "result": int(file.attrs["result"])}


def read_f(path) -> np.ndarray:
    """f of one part (n, *grid.shape)."""
    with Opened(path) as file:
        return file["f"][...]


def _sources(path) -> list[Path]:
    parts = part_files(path)
    if parts:
        return parts
    if not Path(path).exists():
        raise InputError(f"{path} does not exist")
    return [Path(path)]


def load(path) -> Run:
    """The run in RUN.nc, or in its parts where it is not finished, as a `Run`.

    Raises InputError (a ValueError) where the file is missing, damaged or not one of jaxbelt.
    """
    path = Path(path)
    sources = _sources(path)
    header = read_header(sources[0])
    ends = [read_end(s) for s in sources]
    t = np.concatenate([e["t"] for e in ends])
    f = np.empty((t.size, *header.grid.shape), _stored(header))
    at = 0
    for source, end in zip(sources, ends):
        f[at:at + end["t"].size] = read_f(source)
        at += end["t"].size
    budget = _budget(ends)
    complete = t.size == header.t.size
    status = header.attrs.get("status", "") or ("complete" if complete else "unfinished")
    content = np.concatenate([e["content"] for e in ends])
    return Run(path=path, grid=header.grid, t=t, f=f, content=content, budget=budget, state=ends[-1]["state"],
               result=ends[-1]["result"], epoch=header.epoch, status=status, attrs=header.attrs, f_attrs=header.f_attrs,
               drivers=header.drivers, planned=header.t)


def _budget(ends) -> dict:
    names = dict.fromkeys(name for e in ends for name in e["budget"])
    return {n: np.concatenate([e["budget"].get(n, np.zeros(e["t"].size)) for e in ends]) for n in names}


def merge(path, status: str, extra: dict | None = None):
    """Put the parts together into RUN.nc (memory: one part), then drop them. `extra` are attributes that come on top."""
    path = Path(path)
    parts = part_files(path)
    header = read_header(parts[0])
    header = dataclasses.replace(header, attrs=header.attrs | {"status": status} | (extra or {}))
    ends = [read_end(p) for p in parts]
    t = np.concatenate([e["t"] for e in ends])
    names = header.grid.names

    def fill(file):
        write_static(file, header, t.size)
        variable(file, "time", ("time",), t, time_attrs(header))
        f = variable(file, "f", ("time", *names), None, _f_attrs(header), dtype=_stored(header),
                     whole=(t.size, *header.grid.shape))
        at = 0
        for part, end in zip(parts, ends):
            f[at:at + end["t"].size] = read_f(part)
            at += end["t"].size
        variable(file, "state", names, ends[-1]["state"],
                 {"long_name": "f at the last time at full precision: the restart", "units": _f_attrs(header)["units"]})
        _accounts(file, np.concatenate([e["content"] for e in ends]), _budget(ends))
        file.attrs["result"] = ends[-1]["result"]

    write(path, fill)
    drop_parts(path)


def drop_parts(path):
    """Remove the parts of a run: renamed first, so that a kill never leaves a part of the parts."""
    folder = parts_of(path)
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
        shutil.rmtree(old, ignore_errors=True)
