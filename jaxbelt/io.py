"""Files: labelled netCDF-4 that xarray, ncdump and a restart all read, written so that a kill leaves nothing broken.

While a run goes on, each chunk of output is a small complete netCDF of its own in RUN.nc.parts/, written under a temporary
name, synced and renamed. `merge` copies them part by part into RUN.nc and renames that into place; `load` reads either.
Every part ends with the state at full precision, which is the restart. Checksums guard the data.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import tempfile
from pathlib import Path

import numpy as np

from jaxbelt.config import InputError
from jaxbelt.grid import Axis, Frozen, Grid

__all__ = ["Header", "Run", "load", "merge", "write_part", "parts_of", "check_writable", "seconds_units", "log_of"]

FORMAT = 1
_LONG = 60_000     # an HDF5 attribute holds less than 64 kB


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
        return _dataset(self.grid, self.times, self.f, self.budget, self.f_attrs, attrs, "" if self.epoch else self.time_unit)


def to_dataset(problem, t, f, budget):
    """A solution in memory as an xarray Dataset: f (nt, *grid.shape), the budget (nt,) each, UTC where there is an epoch."""
    name, unit, long_name = problem.quantity
    times = t if problem.epoch is None else np.datetime64(problem.epoch, "ms") + np.round(t * 1e3).astype("timedelta64[ms]")
    attrs = {"equation": problem.equation, "epoch": problem.epoch or ""}
    return _dataset(problem.grid, times, f, budget, {"units": unit, "long_name": long_name, "short_name": name}, attrs,
                    "" if problem.epoch else problem.time_unit)


def _dataset(grid, times, f, budget, f_attrs, attrs, time_unit):
    import xarray as xr

    coords = {a.name: (a.name, a.centers, {"units": a.unit, "long_name": a.long_name}) for a in grid.axes}
    coords["time"] = ("time", times, {"units": time_unit} if time_unit else {})
    data = {"f": (("time", *grid.names), f, f_attrs), "volume": (grid.names, np.array(grid.volumes))}
    data |= {_budget_name(k): ("time", v, {"long_name": _budget_label(k)}) for k, v in budget.items()}
    made = xr.Dataset(data, coords, attrs)
    if attrs.get("equation") == "foliated":                    # its axes are not what people think in
        from jaxbelt.physics.foliated_maps import add_coordinates

        made = add_coordinates(made)
    return made


def parts_of(path) -> Path:
    """The folder RUN.nc.parts beside RUN.nc."""
    return Path(str(path) + ".parts")


def log_of(path) -> Path:
    """The log beside RUN.nc."""
    return Path(path).with_suffix(".log")


def seconds_units(epoch, unit="s") -> str:
    """CF units of the time coordinate; `unit`: of time, where there is no epoch."""
    return unit if epoch is None else "seconds since " + str(np.datetime64(epoch, "s")).replace("T", " ")


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


def _budget_name(name: str) -> str:
    return "budget_" + re.sub(r"\W", "_", name)


def _budget_label(name: str) -> str:
    axis, _, side = name.partition(".")
    return f"content gained through the {side} wall of {axis} since the start" if side else \
        f"content gained by {name} since the start"


def _sync(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write(path: Path, fill):
    """fill(h5netcdf file) under a temporary name, synced, then renamed to `path`."""
    import h5netcdf

    temporary = path.with_name(path.name + ".tmp")
    try:
        with h5netcdf.File(temporary, "w") as file:
            fill(file)
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _static(file, header: Header, nt: int):
    """Dimensions, coordinates, drivers and attributes: what is the same in every part and in the whole."""
    grid, attrs = header.grid, dict(header.attrs)
    file.dimensions = {"time": nt, **dict(zip(grid.names, grid.shape))}
    for a in grid.axes:
        common = {"units": a.unit, "long_name": a.long_name}
        _variable(file, a.name, (a.name,), a.centers, common | {"periodic": int(a.periodic), "nodes": int(a.is_nodes)})
        _variable(file, f"{a.name}_measure", (a.name,), a.measure, {"long_name": f"integral of the volume factor of {a.name}"})
        if not a.is_nodes:
            file.dimensions[f"{a.name}_face"] = a.n + 1
            _variable(file, f"{a.name}_face", (f"{a.name}_face",), a.faces, common)
    factor = grid.volume_factor
    if factor is not None:
        full = np.broadcast_to(factor.array, grid.shape)
        _variable(file, "volume_factor", grid.names, full, {"long_name": "non-separable part of the cell volume"})
    _variable(file, "volume", grid.names, np.array(grid.volumes), {"long_name": "cell volume"})
    for name, d in header.drivers.items():
        file.dimensions[f"{name}_time"] = len(d["t"])
        _variable(file, f"{name}_time", (f"{name}_time",), d["t"], _time_attrs(header))
        _variable(file, name, (f"{name}_time",), d["values"], {"units": d.get("units", "1"),
                  "long_name": d.get("long_name", name), "kind": d.get("kind", "step"), "jaxbelt_driver": 1})
    file.dimensions["planned_time"] = len(header.t)
    _variable(file, "planned_time", ("planned_time",), header.t,
              _time_attrs(header) | {"long_name": "planned output times"})
    attrs |= {"jaxbelt_format": FORMAT, "Conventions": "CF-1.10", "epoch": header.epoch or "", "state_dtype": header.dtype,
              "precision": header.precision}
    for key, value in attrs.items():
        if isinstance(value, dict):
            for k, v in value.items():
                file.attrs[f"{key}.{k}"] = v
        elif isinstance(value, str) and len(value.encode()) > _LONG:
            pieces = [value[i:i + _LONG // 4] for i in range(0, len(value), _LONG // 4)]
            for i, piece in enumerate(pieces):
                file.attrs[f"{key}#{i}"] = piece
        else:
            file.attrs[key] = value


def _time_attrs(header) -> dict:
    epoch = header.epoch
    units = seconds_units(epoch, header.attrs.get("time_unit", "s"))
    return {"units": units} | ({"calendar": "proleptic_gregorian"} if epoch else {})


def _variable(file, name, dims, data, attrs=None, *, dtype=None, whole=None):
    """A checksummed variable; with `whole`, room for that shape is made and data is None."""
    shape = np.shape(data) if whole is None else whole
    dtype = np.asarray(data).dtype if dtype is None else dtype
    if shape:
        chunks = (1, *shape[1:]) if dims[0] == "time" and len(shape) > 1 else shape
        kw = {"chunks": tuple(max(1, n) for n in chunks), "fletcher32": True}
    else:
        kw = {}
    variable = file.create_variable(name, dims, dtype, **kw, **({"data": data} if whole is None else {}))
    for key, value in (attrs or {}).items():
        variable.attrs[key] = value
    return variable


def _stored(header: Header):
    return np.float32 if header.precision == "single" else np.float64


def _f_attrs(header: Header) -> dict:
    return {"units": "1", "long_name": "phase space density"} | header.f_attrs


def write_part(path, header: Header, k: int, t, f, budget: dict, result: int = 0):
    """Part k of the run `path`: outputs f (n, *grid.shape) at t (n,), the last of them the restart, the running budget (n,)."""
    names, state = header.grid.names, f[-1]
    content = np.array([np.sum(header.grid.volumes * x, dtype=np.float64) for x in f])

    def fill(file):
        _static(file, header, len(t))
        _variable(file, "time", ("time",), np.asarray(t, np.float64), _time_attrs(header))
        _variable(file, "f", ("time", *names), np.asarray(f, _stored(header)), _f_attrs(header))
        _variable(file, "state", names, np.asarray(state, np.float64),
                  {"long_name": "f at the last time at full precision: the restart", "units": _f_attrs(header)["units"]})
        _accounts(file, content, budget)
        file.attrs["result"] = int(result)

    folder = parts_of(path)
    folder.mkdir(exist_ok=True)
    _write(folder / f"part-{k:05d}.nc", fill)


def _accounts(file, content, budget):
    _variable(file, "content", ("time",), content, {"long_name": "content of the grid: sum of volume times f"})
    for name, values in budget.items():
        _variable(file, _budget_name(name), ("time",), np.asarray(values, np.float64),
                  {"long_name": _budget_label(name), "jaxbelt_budget": name})


def part_files(path) -> list[Path]:
    """The parts of a run in order; InputError where one is missing in between."""
    files = sorted(parts_of(path).glob("part-*.nc"))
    for k, file in enumerate(files):
        if file.name != f"part-{k:05d}.nc":
            raise InputError(f"{parts_of(path) / f'part-{k:05d}.nc'} is missing; the run cannot be read without it")
    return files


class _Opened:
    """A netCDF file open for reading; anything wrong with it becomes one clear line that names the file."""

    def __init__(self, path):
        self.path = Path(path)

    def __enter__(self):
        import h5netcdf

        try:
            self.file = h5netcdf.File(self.path, "r")
        except FileNotFoundError:
            raise InputError(f"{self.path} does not exist") from None
        except PermissionError:
            raise InputError(f"{self.path} cannot be read: permission denied") from None
        except (OSError, KeyError, ValueError) as error:
            raise self._damaged(error) from None
        if "jaxbelt_format" not in self.file.attrs:
            self.file.close()
            raise InputError(f"{self.path} is not a file of jaxbelt")
        return self.file

    def __exit__(self, kind, error, trace):
        self.file.close()
        if isinstance(error, (OSError, KeyError, RuntimeError)):
            raise self._damaged(error) from None

    def _damaged(self, error):
        part = self.path.parent.name.endswith(".parts")
        advice = "; remove this part (and any after it) and resume, to go on from the part before" if part and \
            self.path.name != "part-00000.nc" else ""
        return InputError(f"{self.path} is damaged and cannot be read{advice}")


def _attrs_of(file) -> dict:
    """Global attributes; long texts put together again, "a.b" as dictionaries."""
    out, pieces = {}, {}
    for key, value in file.attrs.items():
        value = value.item() if isinstance(value, np.ndarray) and value.size == 1 else value
        value = value.item() if isinstance(value, np.generic) else value
        if "#" in key:
            name, _, i = key.rpartition("#")
            pieces.setdefault(name, {})[int(i)] = value
        elif "." in key:
            name, _, k = key.partition(".")
            out.setdefault(name, {})[k] = value
        else:
            out[key] = value
    return out | {name: "".join(p[i] for i in sorted(p)) for name, p in pieces.items()}


def read_header(path) -> Header:
    """The Header of a part or of a whole file."""
    with _Opened(path) as file:
        names = [d for d in file["f"].dimensions if d != "time"]
        axes = []
        for name in names:
            v = file[name]
            kw = {"unit": _text(v.attrs["units"]), "long_name": _text(v.attrs["long_name"])}
            if int(v.attrs["nodes"]):
                axes.append(Axis.nodes(name, v[...], file[f"{name}_measure"][...], **kw))
            else:
                axes.append(Axis.cells(name, file[f"{name}_face"][...], measure=file[f"{name}_measure"][...], centers=v[...],
                                       periodic=bool(int(v.attrs["periodic"])), **kw))
        factor = Frozen(file["volume_factor"][...]) if "volume_factor" in file.variables else None
        drivers = {}
        for name, v in file.variables.items():
            if "jaxbelt_driver" in v.attrs:
                drivers[name] = {"t": file[f"{name}_time"][...], "values": v[...], "units": _text(v.attrs["units"]),
                                 "long_name": _text(v.attrs["long_name"]), "kind": _text(v.attrs["kind"])}
        attrs = _attrs_of(file)
        f_attrs = {k: _text(v) for k, v in file["f"].attrs.items() if k in ("units", "long_name")}
        return Header(grid=Grid(tuple(axes), factor), t=file["planned_time"][...], epoch=attrs.get("epoch") or None,
                      dtype=attrs["state_dtype"], precision=attrs["precision"], attrs=attrs, f_attrs=f_attrs, drivers=drivers)


def _text(value) -> str:
    return value if isinstance(value, str) else str(np.asarray(value).item())


def read_end(path) -> dict:
    """Of one part: t (n,), the state, content (n,), the budget (n,) each and the result, without reading f."""
    with _Opened(path) as file:
        budget = {_text(v.attrs["jaxbelt_budget"]): v[...] for v in file.variables.values() if "jaxbelt_budget" in v.attrs}
        return {"t": file["time"][...], "state": file["state"][...], "content": file["content"][...], "budget": budget,
                "result": int(file.attrs["result"])}


def read_f(path) -> np.ndarray:
    """f of one part (n, *grid.shape)."""
    with _Opened(path) as file:
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
        _static(file, header, t.size)
        _variable(file, "time", ("time",), t, _time_attrs(header))
        f = _variable(file, "f", ("time", *names), None, _f_attrs(header), dtype=_stored(header),
                      whole=(t.size, *header.grid.shape))
        at = 0
        for part, end in zip(parts, ends):
            f[at:at + end["t"].size] = read_f(part)
            at += end["t"].size
        _variable(file, "state", names, ends[-1]["state"],
                  {"long_name": "f at the last time at full precision: the restart", "units": _f_attrs(header)["units"]})
        _accounts(file, np.concatenate([e["content"] for e in ends]), _budget(ends))
        file.attrs["result"] = ends[-1]["result"]

    _write(path, fill)
    drop_parts(path)


def drop_parts(path):
    """Remove the parts of a run: renamed first, so that a kill never leaves a part of the parts."""
    folder = parts_of(path)
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
        shutil.rmtree(old, ignore_errors=True)
