"""TOML in, typed values out: every mistake is one line that names the table, the key and the value.

    config = read("case.toml", overrides=["numerics.dt=60 s"])
    grid = config.table("grid", keys=("L", "cells", "spacing"))
    cells = grid.integers("cells")

A table is opened with all the keys it may hold, so that a misspelt key is found before a missing one. Times and other
quantities with a unit are written as text, `dt = "300 s"`; nothing is ever evaluated.
"""

from __future__ import annotations

import contextlib
import difflib
import math
import re
import tomllib
from pathlib import Path

__all__ = ["InputError", "Table", "read", "parse", "section", "suggest", "UNITS"]

# kind -> unit -> size in the unit the code works in (the first one)
UNITS = {
    "time": {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "day": 86400.0, "days": 86400.0},
    "crossing": {"R_p/v_th": 1.0},
    "length": {"m": 1.0, "cm": 1e-2, "km": 1e3},
    "altitude": {"km": 1.0, "m": 1e-3},
    "lifetime": {"d": 1.0, "day": 1.0, "days": 1.0, "h": 1 / 24, "min": 1 / 1440},
    "energy": {"MeV": 1.0, "keV": 1e-3, "eV": 1e-6},
    "mu": {"MeV/G": 1.0, "MeV/nT": 1e5, "keV/nT": 1e2},
    "rate": {"1/d": 1.0, "1/day": 1.0, "1/h": 24.0, "1/s": 86400.0},
    "per second": {"1/s": 1.0, "1/min": 1 / 60, "1/h": 1 / 3600},
    "frequency": {"rad/s": 1.0, "mHz": 2e-3 * math.pi, "Hz": 2 * math.pi},
    "voltage": {"V": 1.0, "kV": 1e3},
    "field": {"G": 1.0, "nT": 1e-5, "T": 1e4},
    "wave amplitude": {"pT": 1.0, "nT": 1e3},
}
# what an error shows of a kind: a value as it may stand in a case
_EXAMPLES = {"time": "300 s", "crossing": "0.5 R_p/v_th", "length": "0.5 m", "altitude": "100 km", "lifetime": "10 d",
             "energy": "1 MeV", "mu": "1000 MeV/G", "rate": "0.1 1/d", "per second": "0.1 1/s", "frequency": "4 mHz",
             "voltage": "10 kV", "field": "0.31 G", "wave amplitude": "50 pT"}
_NAMES = {"per second": "rate", "crossing": "time in crossings"}
_REQUIRED = object()
_QUANTITY = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(\S.*?)?\s*")


class InputError(ValueError):
    """What the user gave cannot be used; the message is one line that names the key and the value."""


def suggest(word: str, known) -> str:
    """' (did you mean "dt"?)' where something known is close to the word, else the list of what is known."""
    known = [str(k) for k in known]
    close = difflib.get_close_matches(str(word), known, n=1, cutoff=0.6)
    return f' (did you mean "{close[0]}"?)' if close else f" (known: {', '.join(known)})" if known else ""


@contextlib.contextmanager
def section(name: str):
    """Errors raised by a builder inside this block become an InputError that names the table."""
    try:
        yield
    except InputError:
        raise
    except (ValueError, TypeError, OSError) as error:
        message = " ".join(str(error).split())
        raise InputError(f"[{name}] {message}") from error


def _shown(value) -> str:
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


class Table:
    """One TOML table with typed access; `path` is its dotted name. Keys outside `keys` are errors at once."""

    def __init__(self, values: dict, path: str = "", keys=None):
        if not isinstance(values, dict):
            raise InputError(f"{path} = {_shown(values)}: must be a table, such as [{path}]")
        self.values, self.path = values, path
        if keys is not None:
            for key in values:
                if key not in keys:
                    raise InputError(f"{self.name(key)} = {_shown(values[key])}: unknown key{suggest(key, keys)}"
                                     if not isinstance(values[key], dict) else
                                     f"[{self.name(key)}]: unknown table{suggest(key, keys)}")

    def name(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def __contains__(self, key):
        return key in self.values

    def error(self, key: str, why: str) -> InputError:
        """The error "table.key = value: why", to be raised."""
        if key not in self.values:
            return InputError(f"{self.name(key)}: {why}")
        return InputError(f"{self.name(key)} = {_shown(self.values[key])}: {why}")

    def get(self, key: str, default=_REQUIRED):
        """The raw value; a missing key without a default is an error."""
        if key in self.values:
            return self.values[key]
        if default is _REQUIRED:
            where = f"[{self.path}]" if self.path else "the file"
            raise InputError(f'{where} needs the key "{key}"' if self.path else f"{where} needs the table [{key}]")
        return default

    def table(self, key: str, keys, default=_REQUIRED) -> Table:
        """The sub-table `key`, which may hold `keys` and nothing else."""
        return Table(self.get(key, default), self.name(key), keys)

    def tables(self, key: str, keys) -> list[Table]:
        """An array of tables, [[key]]; empty where there is none."""
        values = self.get(key, [])
        if not isinstance(values, list):
            raise self.error(key, f"must be a list of tables, [[{self.name(key)}]]")
        return [Table(v, f"{self.name(key)}[{i}]", keys) for i, v in enumerate(values)]

    def text(self, key: str, default=_REQUIRED) -> str:
        """A string."""
        value = self.get(key, default)
        if value is not default and not isinstance(value, str):
            raise self.error(key, "must be text in quotes")
        return value

    def choice(self, key: str, options, default=_REQUIRED) -> str:
        """One of a few words."""
        value = self.text(key, default)
        if value is not default and value not in options:
            raise self.error(key, "is not one of the choices" + suggest(value, options))
        return value

    def flag(self, key: str, default=_REQUIRED) -> bool:
        """true or false."""
        value = self.get(key, default)
        if value is not default and not isinstance(value, bool):
            raise self.error(key, "must be true or false")
        return value

    def number(self, key: str, default=_REQUIRED, *, low=None, high=None, above=None) -> float:
        """A plain number, low <= number <= high, number > above."""
        value = self.get(key, default)
        return value if value is default else self._checked(key, value, low, high, above)

    def _checked(self, key, value, low=None, high=None, above=None) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.error(key, "must be a number" + (", without quotes and unit" if isinstance(value, str) else ""))
        if not math.isfinite(value):
            raise self.error(key, "must be finite")
        if low is not None and value < low or above is not None and value <= above or high is not None and value > high:
            bounds = [f"at least {low:g}" if low is not None else "", f"above {above:g}" if above is not None else "",
                      f"at most {high:g}" if high is not None else ""]
            bad = "" if isinstance(self.values.get(key), (int, float)) else f"{value:g} "
            raise self.error(key, f"{bad}must be {' and '.join(b for b in bounds if b)}")
        return float(value)

    def integer(self, key: str, default=_REQUIRED, *, low=None) -> int:
        """A whole number."""
        value = self.get(key, default)
        if value is not default:
            if isinstance(value, bool) or not isinstance(value, int):
                raise self.error(key, "must be a whole number")
            self._checked(key, value, low)
        return value

    def numbers(self, key: str, default=_REQUIRED, *, low=None, high=None, size=None) -> list[float]:
        """A list of plain numbers."""
        value = self.get(key, default)
        if value is default:
            return value
        if not isinstance(value, list) or not value:
            raise self.error(key, "must be a list of numbers")
        if size is not None and len(value) != size:
            raise self.error(key, f"needs {size} numbers, has {len(value)}")
        return [self._checked(key, v, low, high) for v in value]

    def integers(self, key: str, default=_REQUIRED, *, low=None) -> tuple[int, ...]:
        """A list of whole numbers, or one of them, as a tuple."""
        value = self.get(key, default)
        if value is default:
            return value
        values = value if isinstance(value, list) else [value]
        if not values or any(isinstance(v, bool) or not isinstance(v, int) for v in values):
            raise self.error(key, "must be whole numbers")
        return tuple(int(self._checked(key, v, low)) for v in values)

    def quantity(self, key: str, kind: str, default=_REQUIRED, *, low=None, above=None, high=None, like="") -> float:
        """A number with its unit, such as "300 s", in the working unit of `kind` (see UNITS); like: one as an error shows it."""
        value = self.get(key, default)
        return value if value is default else self._quantity(key, value, kind, low, above, high, like)

    def quantities(self, key: str, kind: str, default=_REQUIRED, *, low=None) -> list[float]:
        """A list of quantities, each with its unit."""
        value = self.get(key, default)
        if value is default:
            return value
        if not isinstance(value, list) or not value:
            raise self.error(key, f'must be a list such as ["{_EXAMPLES[kind]}"]')
        return [self._quantity(key, v, kind, low) for v in value]

    def _quantity(self, key, value, kind, low=None, above=None, high=None, like="") -> float:
        units, example = UNITS[kind], f'such as "{like or _EXAMPLES[kind]}"'
        if not isinstance(value, str):
            raise self.error(key, f"needs a number with its unit in quotes, {example}")
        match = _QUANTITY.fullmatch(value)
        if not match:
            raise self.error(key, f'"{value}" is not a number with a unit, {example}')
        unit = match[2] or ""
        if unit not in units:
            use = f"use {', '.join(units)}, {example}"
            raise self.error(key, f'unit "{unit}" is not a unit of {_NAMES.get(kind, kind)}; {use}' if unit
                             else f"has no unit; {use}")
        size = float(match[1]) * units[unit]
        for word, bound, bad in (("at least", low, low is not None and size < low),
                                 ("above", above, above is not None and size <= above),
                                 ("at most", high, high is not None and size > high)):
            if bad:
                raise self.error(key, f"must be {word} {bound:g}{f' {next(iter(units))}, {example}' if bound else ''}")
        return size


def override(values: dict, words) -> dict:
    """A copy of the TOML values with `table.key=value` words put in; the value is read as TOML, else as text."""
    import copy

    values = copy.deepcopy(values)
    for word in words:
        path, equals, text = str(word).partition("=")
        keys = path.strip().split(".")
        if not equals or len(keys) < 2 or not all(keys):
            raise InputError(f'--set {word}: must be table.key=value, such as numerics.dt="60 s"')
        try:
            value = tomllib.loads(f"x = {text.strip()}")["x"]
        except tomllib.TOMLDecodeError:
            value = text.strip()
        at = values
        for key in keys[:-1]:
            if isinstance(at, list) and key.isdigit() and int(key) < len(at):
                at = at[int(key)]
            elif isinstance(at, dict):
                at = at.setdefault(key, {})
            else:
                raise InputError(f"--set {word}: {path} does not name a key of a table")
        if isinstance(at, list) and keys[-1].isdigit() and int(keys[-1]) < len(at):
            at[int(keys[-1])] = value
        elif isinstance(at, dict):
            at[keys[-1]] = value
        else:
            raise InputError(f"--set {word}: {path} does not name a key of a table")
    return values


def parse(text: str, overrides=(), name: str = "the case") -> dict:
    """The values of a TOML text with overrides put in."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{name} is not valid TOML: {error}") from None
    return override(values, overrides)


def read(path) -> str:
    """The text of a TOML file."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path} is not a text file in UTF-8") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
