"""The netCDF-4 file underneath `io`: written whole or not at all, with checksums; opened with one clear line for what is wrong.

What a run's file holds is `io`'s; here is how variables, axes and attributes go into HDF5 and come back.
"""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import numpy as np

from jaxbelt.config import InputError

__all__ = ["FORMAT", "Opened", "attrs_of", "budget_label", "budget_name", "seconds_units", "text_of", "time_attrs", "variable",
           "write", "write_static"]

FORMAT = 1
_LONG = 60_000     # an HDF5 attribute holds less than 64 kB
_READ_BACK = 65_536    # bytes: what HDF5 writes in one piece and may read again is smaller, chunks of data are larger


def seconds_units(epoch, unit="s") -> str:
    """CF units of the time coordinate; `unit`: of time, where there is no epoch."""
    return unit if epoch is None else "seconds since " + str(np.datetime64(epoch, "s")).replace("T", " ")


def budget_name(name: str) -> str:
    """Name of a budget entry's variable in the file."""
    return "budget_" + re.sub(r"\W", "_", name)


def budget_label(name: str) -> str:
    """Long name of a budget entry."""
    axis, _, side = name.partition(".")
    return f"content gained through the {side} wall of {axis} since the start" if side else \
        f"content gained by {name} since the start"


def _sync(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class _Patient(io.RawIOBase):
    """A file whose writes never fail for the HDF5 library, which does not survive it: the first failure (a full disk) is kept in
    `failure`, and what it would have read back of what comes later is held in memory."""

    def __init__(self, path):
        self.raw, self.failure, self.held, self.at, self.end = open(path, "w+b", buffering=0), None, [], 0, 0

    def write(self, data):
        data = bytes(data)
        if self.failure is None:
            try:
                self.raw.seek(self.at)
                done = 0
                while done < len(data):
                    done += self.raw.write(data[done:])
            except OSError as error:
                self.failure = error
        if self.failure is not None and len(data) <= _READ_BACK:
            self.held.append((self.at, data))
        self.at += len(data)
        self.end = max(self.end, self.at)
        return len(data)

    def readinto(self, buffer):
        n = min(len(buffer), max(self.end - self.at, 0))
        self.raw.seek(self.at)
        got = bytearray(self.raw.read(n) or b"")
        got += bytes(n - len(got))
        for start, data in self.held:
            a, b = max(start, self.at), min(start + len(data), self.at + n)
            if a < b:
                got[a - self.at:b - self.at] = data[a - start:b - start]
        buffer[:n] = got
        self.at += n
        return n

    def seek(self, offset, whence=0):
        self.at = offset + (0, self.at, self.end)[whence]
        return self.at

    def tell(self):
        return self.at

    def truncate(self, size=None):
        self.end = self.at if size is None else size
        try:
            self.raw.truncate(self.end)
        except OSError as error:
            self.failure = self.failure or error
        return self.end

    def readable(self):
        return True

    def writable(self):
        return True

    def seekable(self):
        return True

    def close(self):
        if not self.closed:
            self.raw.close()
        super().close()


def write(path: Path, fill):
    """fill(h5netcdf file) under a temporary name, synced, then renamed to `path`."""
    import h5netcdf

    temporary = path.with_name(path.name + ".tmp")
    try:
        with _Patient(temporary) as target:
            with h5netcdf.File(target, "w") as file:
                fill(file)
            if target.failure is not None:
                raise target.failure
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_static(file, header, nt: int):
    """Dimensions, coordinates, drivers and attributes: what is the same in every part and in the whole."""
    grid, attrs = header.grid, dict(header.attrs)
    attrs |= getattr(grid, "attrs", {})
    file.dimensions = {"time": nt, **dict(zip(grid.names, grid.shape))}
    for a in grid.axes:
        common = {"units": a.unit, "long_name": a.long_name}
        variable(file, a.name, (a.name,), a.centers, common | {"periodic": int(a.periodic), "nodes": int(a.is_nodes)})
        variable(file, f"{a.name}_measure", (a.name,), a.measure, {"long_name": f"integral of the volume factor of {a.name}"})
        if not a.is_nodes:
            file.dimensions[f"{a.name}_face"] = a.n + 1
            variable(file, f"{a.name}_face", (f"{a.name}_face",), a.faces, common)
    factor = grid.volume_factor
    if factor is not None:
        full = np.broadcast_to(factor.array, grid.shape)
        variable(file, "volume_factor", grid.names, full, {"long_name": "non-separable part of the cell volume"})
    variable(file, "volume", grid.names, np.array(grid.volumes), {"long_name": "cell volume"})
    for name, d in header.drivers.items():
        file.dimensions[f"{name}_time"] = len(d["t"])
        variable(file, f"{name}_time", (f"{name}_time",), d["t"], time_attrs(header))
        variable(file, name, (f"{name}_time",), d["values"], {"units": d.get("units", "1"),
                  "long_name": d.get("long_name", name), "kind": d.get("kind", "step"), "jaxbelt_driver": 1})
    file.dimensions["planned_time"] = len(header.t)
    variable(file, "planned_time", ("planned_time",), header.t,
              time_attrs(header) | {"long_name": "planned output times"})
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


def time_attrs(header) -> dict:
    """CF attributes of the time axis: seconds after the epoch, or the unit of a problem without dates."""
    epoch = header.epoch
    units = seconds_units(epoch, header.attrs.get("time_unit", "s"))
    return {"units": units} | ({"calendar": "proleptic_gregorian"} if epoch else {})


def variable(file, name, dims, data, attrs=None, *, dtype=None, whole=None, chunks=None):
    """A checksummed variable; with `whole`, room for that shape is made and data is None."""
    shape = np.shape(data) if whole is None else whole
    dtype = np.asarray(data).dtype if dtype is None else dtype
    if shape:
        chunks = chunks or ((1, *shape[1:]) if dims[0] == "time" and len(shape) > 1 else shape)
        kw = {"chunks": tuple(max(1, n) for n in chunks), "fletcher32": True}
    else:
        kw = {}
    made = file.create_variable(name, dims, dtype, **kw, **({"data": data} if whole is None else {}))
    for key, value in (attrs or {}).items():
        made.attrs[key] = value
    return made


def text_of(value) -> str:
    """An attribute as text, whichever way it was stored."""
    return value if isinstance(value, str) else str(np.asarray(value).item())


class Opened:
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
        if self.path.name.startswith("runs-"):
            return InputError(f"{self.path} is damaged and cannot be read; remove it and go on with --resume")
        part = self.path.parent.name.endswith(".parts")
        advice = "; remove this part (and any after it) and resume, to go on from the part before" if part and \
            self.path.name != "part-00000.nc" else ""
        return InputError(f"{self.path} is damaged and cannot be read{advice}")


def attrs_of(file) -> dict:
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
