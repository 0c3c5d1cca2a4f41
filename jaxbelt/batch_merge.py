"""Files of batches put together and read: `load_batch`, and the merging of parts, with the memory of one part."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from jaxbelt import io
from jaxbelt._dataset import equation_hook
from jaxbelt._netcdf import Opened, attrs_of, text_of, variable, write
from jaxbelt.batch_plan import difference
from jaxbelt.config import InputError

__all__ = ["load_batch", "merge", "signature_of"]


def signature_of(path) -> dict:
    """What the batch in a file was made with. Raises InputError where the file is none of a batch."""
    with Opened(path) as file:
        attrs = attrs_of(file)
    if "jaxbelt_batch" not in attrs:
        raise InputError(f"{path} holds no batch: it is the file of a single run")
    return json.loads(attrs["batch_signature"])


def merge(parts, out):
    """One netCDF of all the runs in the files `parts`, in order, atomically. Raises InputError where a part is damaged."""
    parts, out = [Path(p) for p in parts], Path(out)
    counts, failed = [], 0
    for part in parts:
        with Opened(part) as file:
            counts.append(file.dimensions["run"].size)
            failed += int(np.count_nonzero(file["result"][...]))
    total = sum(counts)

    def fill(made):
        with Opened(parts[0]) as first:
            for name, d in first.dimensions.items():
                made.dimensions[name] = total if name == "run" else d.size
            for name, v in first.variables.items():
                about = dict(v.attrs.items())
                if v.dimensions[:1] == ("run",):
                    shape = (total, *v.shape[1:])
                    rows = max(1, min(total, 2**20 // max(1, math.prod(v.shape[1:]) * v.dtype.itemsize)))
                    variable(made, name, v.dimensions, None, about, dtype=v.dtype, whole=shape,
                             chunks=(rows, *(max(1, m) for m in v.shape[1:])))
                else:
                    variable(made, name, v.dimensions, v[...], about)
            for key, value in first.attrs.items():
                made.attrs[key] = value
            made.attrs["status"], made.attrs["failed_runs"] = "complete", failed
        at = 0
        for part, count in zip(parts, counts):
            with Opened(part) as file:
                for name, v in file.variables.items():
                    if v.dimensions[:1] == ("run",):
                        made[name][at:at + count] = v[...]
            at += count

    write(out, fill)


def load_batch(where):
    """A batch as an `xarray.Dataset` with a dimension `run`, the swept values as coordinates, `result`, and times in UTC. Its
    attribute `status` is "complete", or "150 of 600 runs".

    where: its file (f is read only where it is used), one that is not finished (the runs that are done so far), or a list of
    files and folders of parts, as several machines without a common folder leave them.
    Raises InputError (a ValueError) for what is no batch, files of different batches, and runs that are there twice.
    """
    import xarray as xr

    given = [Path(w) for w in (where if isinstance(where, (list, tuple)) else [where])]
    files = [file for path in given for file in _files(path)]
    if not files:
        raise InputError(f"{given[0] if given else where}: there is no run of a batch")
    known = signature_of(files[0])
    for file in files[1:]:
        changed = difference(known, signature_of(file))
        if changed:
            raise InputError(f"{file} belongs to another batch than {files[0]} ({changed})")
    sets = [_coordinates(xr.open_dataset(file, engine="h5netcdf")) for file in files]
    if len(sets) == 1:
        made = sets[0]
    else:
        made = xr.concat([s.load() for s in sets], "run", data_vars="minimal", coords="minimal", compat="override",
                         join="override", combine_attrs="override").sortby("run")
        for s in sets:
            s.close()
        number = made["run"].values
        if np.unique(number).size < number.size:
            raise InputError(f"run {number[:-1][np.diff(number) == 0][0]} is in more than one of the files given")
    made.attrs = {k: v for k, v in attrs_of(made).items() if not isinstance(v, dict)}
    if made.attrs.get("status") != "complete":
        there, whole = made.sizes["run"], int(made.attrs["jaxbelt_batch"])
        made.attrs["status"] = "complete" if there == whole else f"{there} of {whole} runs"
        made.attrs["failed_runs"] = int(np.count_nonzero(made["result"].values))
    hook = equation_hook("add_coordinates", made.attrs.get("equation", ""))
    return made if hook is None else hook(made)


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(path.glob("runs-*.nc"))
    parts = sorted(io.parts_of(path).glob("runs-*.nc"))
    if parts:
        return parts
    if not path.exists():
        raise InputError(f"{path} does not exist")
    return [path]


def _coordinates(made):
    """What is no result of a run becomes a coordinate."""
    swept = [name for name, v in made.variables.items() if "jaxbelt_swept" in v.attrs and name != "initial"]
    return made.set_coords(["result", *swept])


def failed_runs(path) -> int:
    """How many runs of a batch's file did not reach their end."""
    with Opened(path) as file:
        return int(text_of(file.attrs["failed_runs"]))
