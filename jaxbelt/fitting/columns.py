"""Columns of measurements from CSV tables and netCDF files."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from jaxbelt.config import InputError

__all__ = ["read_columns"]


def read_columns(path: Path) -> dict:
    """{name: array} of a CSV table with a header line, or of the one-dimensional variables of a netCDF file.

    Numbers as float (an empty cell is NaN), dates as datetime64[ms]. Raises InputError for a file that is neither.
    """
    if path.suffix.lower() in (".nc", ".nc4", ".h5", ".cdf", ".netcdf"):
        import xarray as xr

        try:
            with xr.open_dataset(path, engine="h5netcdf") as file:
                return {name: np.asarray(v.values) for name, v in file.variables.items() if v.ndim == 1}
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read as a netCDF-4 file ({' '.join(str(error).split())})") from None
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = [r for r in csv.reader(line for line in file if not line.startswith("#")) if any(c.strip() for c in r)]
    except (UnicodeDecodeError, OSError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a CSV table ({error})") from None
    if len(rows) < 2:
        raise InputError(f"{path} holds no rows below its header line")
    names = [name.strip() for name in rows[0]]
    for k, row in enumerate(rows[1:], 2):
        if len(row) != len(names):
            raise InputError(f"{path}, row {k}: has {len(row)} cells, the header {len(names)}")
    return {name: _column(path, name, [row[i].strip() for row in rows[1:]]) for i, name in enumerate(names)}


def _column(path, name, cells):
    try:
        return np.array([float(c) if c else np.nan for c in cells])
    except ValueError:
        pass                                                   # dates, then
    try:
        return np.array([c.removesuffix("Z") for c in cells], "datetime64[ms]")
    except ValueError:
        k, bad = next((k, c) for k, c in enumerate(cells, 2) if not _is_number(c))
        raise InputError(f'{path}, row {k}, column "{name}": "{bad}" is neither a number nor a date such as '
                         "2013-03-17T06:00:00") from None


def _is_number(text):
    try:
        return bool(float(text or "nan") or True)
    except ValueError:
        return False
