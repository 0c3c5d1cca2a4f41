"""Readers of published files of geomagnetic indices and solar wind: each gives `Drivers`, checked row by row.

Formats: OMNI2 hourly (NASA SPDF, omni2.text), Qin-Denton with a JSON header, GFZ's Kp_ap_Ap_SN_F107 and Kp_ap files, and daily
rows of Kp. A list of paths is read as one, files in order of time. Every mistake is one line with the file and the line's number.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .driver_data import STANDARD, Drivers, Quantity, check_kp, kp_thirds, shown

__all__ = ["read_drivers", "read_omni2", "read_qin_denton", "read_gfz", "read_daily_kp"]

_HOUR, _DAY = np.timedelta64(1, "h"), np.timedelta64(1, "D")

# words 4 to 55 of an hourly record: name, fill value, units, long name (omni2.text of NASA SPDF)
_OMNI2 = (
    ("bartels", 9999, "1", "Bartels rotation"), ("imf_id", 99, "1", "IMF spacecraft"),
    ("plasma_id", 99, "1", "plasma spacecraft"),
    ("imf_points", 999, "1", "points in the IMF average"), ("plasma_points", 999, "1", "points in the plasma average"),
    ("b", 999.9, "nT", "IMF, mean magnitude"), ("b_vector", 999.9, "nT", "IMF, magnitude of the mean"),
    ("b_latitude", 999.9, "deg", "IMF latitude, GSE"), ("b_longitude", 999.9, "deg", "IMF longitude, GSE"),
    ("bx", 999.9, "nT", "IMF Bx, GSM"), ("by_gse", 999.9, "nT", "IMF By, GSE"), ("bz_gse", 999.9, "nT", "IMF Bz, GSE"),
    ("by", 999.9, "nT", "IMF By, GSM"), ("bz", 999.9, "nT", "IMF Bz, GSM"),
    ("sigma_b", 999.9, "nT", "rms of the IMF magnitude"), ("sigma_b_vector", 999.9, "nT", "rms of the IMF vector"),
    ("sigma_bx", 999.9, "nT", "rms of IMF Bx"), ("sigma_by", 999.9, "nT", "rms of IMF By, GSE"),
    ("sigma_bz", 999.9, "nT", "rms of IMF Bz, GSE"), ("temperature", 9999999, "K", "solar wind proton temperature"),
    ("density", 999.9, "cm^-3", "solar wind proton density"), ("speed", 9999, "km/s", "solar wind speed"),
    ("flow_longitude", 999.9, "deg", "flow longitude, quasi-GSE"), ("flow_latitude", 999.9, "deg", "flow latitude, GSE"),
    ("alpha_ratio", 9.999, "1", "alpha to proton density"), ("pdyn", 99.99, "nPa", "solar wind dynamic pressure"),
    ("sigma_temperature", 9999999, "K", "rms of the temperature"), ("sigma_density", 999.9, "cm^-3", "rms of the density"),
    ("sigma_speed", 9999, "km/s", "rms of the speed"), ("sigma_flow_longitude", 999.9, "deg", "rms of the flow longitude"),
    ("sigma_flow_latitude", 999.9, "deg", "rms of the flow latitude"), ("sigma_alpha_ratio", 9.999, "1", "rms of alpha_ratio"),
    ("e_field", 999.99, "mV/m", "-V Bz"), ("beta", 999.99, "1", "plasma beta"), ("mach_alfven", 999.9, "1", "Alfven Mach number"),
    ("kp", 99, "1", "Kp"), ("sunspots", 999, "1", "sunspot number"), ("dst", 99999, "nT", "Dst"), ("ae", 9999, "nT", "AE"),
    *((f"protons_{e}", 999999.99 if e == 1 else 99999.99, "1/(cm^2 s sr)", f"proton flux above {e} MeV")
      for e in (1, 2, 4, 10, 30, 60)),
    ("proton_flag", None, "1", "flag of the proton fluxes"), ("ap", 999, "nT", "ap"), ("f107", 999.9, "sfu", "F10.7, observed"),
    ("pc", 999.9, "1", "PC(N)"), ("al", 99999, "nT", "AL"), ("au", 99999, "nT", "AU"),
    ("mach_magnetosonic", 99.9, "1", "magnetosonic Mach number"),
)
# GFZ's daily rows, columns 24 to 28: name, own name, fill value, units, long name (the header of its files)
_GFZ_DAILY = (("ap_daily", "Ap", -1.0, "nT", "Ap, daily"), ("sunspots", "SN", -1.0, "1", "sunspot number"),
              ("f107", "F10.7obs", -1.0, "sfu", "F10.7, observed"), ("f107_adjusted", "F10.7adj", -1.0, "sfu", "F10.7, at 1 au"),
              ("status", "D", None, "1", "0 preliminary, 1 Kp definitive, 2 Kp and SN definitive"))
_QIN_DENTON = {"ByIMF": "by", "BzIMF": "bz", "Vsw": "speed", "Den_P": "density", "Pdyn": "pdyn", "Kp": "kp", "Dst": "dst"}


class _Rows:
    """The rows of a text file in columns, with the numbers of their lines; `skip` header lines and those with # are left out."""

    def __init__(self, path: Path, lines: list[str], counts, skip=0):
        self.path = path
        kept = [(n, line) for n, line in enumerate(lines, start=1)
                if n > skip and line.strip() and not line.lstrip().startswith("#")]
        if not kept:
            raise ValueError(f"{path}: holds no row of numbers")
        self.numbers, self.lines = [n for n, _ in kept], [line.rstrip() for _, line in kept]
        many = [len(line.split()) for line in self.lines]
        wanted = many[0] if many[0] in counts else None
        wrong = next((i for i, m in enumerate(many) if m != wanted), None)
        if wrong is not None:
            end = " (the last line; the file was cut off)" if wrong and wrong == len(many) - 1 and many[wrong] < many[0] else ""
            needs = str(wanted or " or ".join(str(c) for c in counts))
            raise ValueError(f"{path}, line {self.numbers[wrong]}: has {many[wrong]} columns, needs {needs}{end}")
        if not lines[-1].endswith("\n") and len(self.lines) > 1 and len(self.lines[-1]) < len(self.lines[-2]):
            raise ValueError(f"{path}, line {self.numbers[-1]}: the last line is shorter than the others and has no end; the "
                             "file was cut off")
        self.columns = many[0]

    def error(self, i: int, why: str) -> ValueError:
        return ValueError(f"{self.path}, line {self.numbers[i]}: {why}")

    def floats(self, first=0) -> np.ndarray:
        """Columns first, first + 1, ... as (rows, columns) numbers."""
        try:
            return np.loadtxt(self.lines, usecols=range(first, self.columns), ndmin=2)
        except ValueError:
            for i, line in enumerate(self.lines):
                for k, word in enumerate(line.split()[first:], start=first + 1):
                    try:
                        float(word)
                    except ValueError:
                        raise self.error(i, f"column {k} is no number: {word!r}") from None
            raise

    def whole(self, values, column: int, label: str, low: int, high) -> np.ndarray:
        """A column of integers, checked to lie in [low, high] (high may differ from row to row)."""
        x = values[:, column]
        bad = ~((x == np.floor(x)) & (x >= low) & (x <= high))
        if bad.any():
            i = int(np.argmax(bad))
            raise self.error(i, f"{label} = {x[i]:g} must be a whole number from {low} to {np.broadcast_to(high, x.shape)[i]:g}")
        return x.astype(np.int64)

    def dates(self, values) -> np.ndarray:
        """The days in columns year, month, day."""
        year, month = self.whole(values, 0, "year", 1, 9999), self.whole(values, 1, "month", 1, 12)
        first = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
        length = ((first + 1).astype("datetime64[D]") - first.astype("datetime64[D]")).astype(np.int64)
        return first.astype("datetime64[D]") + (self.whole(values, 2, "day", 1, length) - 1)

    def increasing(self, times) -> np.ndarray:
        times = times.astype("datetime64[us]")
        bad = np.diff(times) <= np.timedelta64(0, "us")
        if bad.any():
            i = int(np.argmax(bad)) + 1
            why = "is there twice, also on" if times[i] == times[i - 1] else f"follows {shown(times[i - 1])} of"
            raise self.error(i, f"{shown(times[i])} {why} line {self.numbers[i - 1]}; times must increase")
        return times


def _read_all(reader, path, label: str) -> Drivers:
    """The files, one or a list, put together; each must begin after the one before ends."""
    paths = [path] if isinstance(path, (str, Path)) else list(path)
    if not paths:
        raise ValueError(f"{label}: the list of files is empty")
    parts: list[dict[str, Quantity]] = []
    for item in map(Path, paths):
        if not item.is_file():
            raise FileNotFoundError(f"{label}: there is no file {item} (looked in {item.resolve().parent})")
        with item.open(encoding="utf-8", errors="replace") as lines:
            parts.append({q.name: q for q in reader(item, list(lines))})
        if len(parts) > 1 and parts[-1].keys() != parts[0].keys():
            other = sorted(parts[-1].keys() ^ parts[0].keys())
            raise ValueError(f"{item} and {paths[0]} do not hold the same columns: {', '.join(other)}")
    source = str(paths[0]) if len(paths) == 1 else f"{paths[0]} ... {Path(paths[-1]).name}"
    return Drivers({name: _joined([part[name] for part in parts], source) for name in parts[0]}, source)


def _joined(parts: list[Quantity], source: str) -> Quantity:
    for before, after in zip(parts[:-1], parts[1:]):
        if after.start <= before.times[-1]:
            raise ValueError(f"{after.source}: begins at {shown(after.start)}, before {before.source} ends "
                             f"({shown(before.times[-1])}); files must follow one another in time")
    if len(parts) == 1:
        return parts[0]
    p = parts[0]
    return Quantity(name=p.name, times=np.concatenate([q.times for q in parts]), values=np.concatenate([q.values for q in parts]),
                    width=min(q.width for q in parts), units=p.units, long_name=p.long_name, instant=p.instant, own=p.own,
                    fill=p.fill, source=source)


def _without(values, fill) -> np.ndarray:
    good = np.isfinite(values) & (np.abs(values) < 1e30)
    return np.where(good if fill is None else good & (values != fill), values, np.nan)


def read_omni2(path) -> Drivers:
    """OMNI2 hourly files of NASA, omni2_YYYY.dat: 55 columns (the extended files' 56 to 58 are read as well, the rest left out).

    Names: kp and ap (3-hour values, Kp in exact thirds: the file's 33 is 3+ = 10/3, 27 is 3- = 8/3); dst, ae, al, au, pc, f107,
    sunspots; the solar wind's bx, by, bz (GSM), by_gse, bz_gse, b, speed, density, temperature, pdyn, e_field, beta, ...: print
    the result for all of them. Values are averages over the hour that begins at the time given; fill values are missing.
    Raises FileNotFoundError; ValueError naming file and line: columns, no number, a day 366 of a common year, hours that do
    not increase, three hours of different Kp.
    """
    return _read_all(_omni2, path, "read_omni2")


def _omni2(path, lines):
    rows = _Rows(path, lines, (55, 56, 57, 58))
    values = rows.floats()
    year = (rows.whole(values, 0, "year", 1, 9999) - 1970).astype("datetime64[Y]")
    length = ((year + 1).astype("datetime64[D]") - year.astype("datetime64[D]")).astype(np.int64)
    day = year.astype("datetime64[D]") + (rows.whole(values, 1, "day of the year", 1, length) - 1)
    times = rows.increasing(day.astype("datetime64[h]") + rows.whole(values, 2, "hour", 0, 23))
    for column, (name, fill, units, label) in enumerate(_OMNI2, start=3):
        numbers = _without(values[:, column], fill)
        begins, width = times, _HOUR
        if name == "kp":
            bad = ~np.isnan(numbers) & ~(np.isin(numbers % 10, (0, 3, 7)) & (numbers >= 0) & (numbers <= 90))
            if bad.any():
                raise rows.error(int(np.argmax(bad)), f"Kp = {numbers[bad][0]:g}; OMNI2 lists 10 Kp: 0, 3, 7, 10, ... 90")
        if name in ("kp", "ap"):
            begins, numbers, width = *_three_hours(rows, name, times, numbers), 3 * _HOUR
        if name == "kp":
            numbers = kp_thirds(numbers / 10.0)
        yield Quantity(name=name, times=begins, values=numbers, width=width.astype("timedelta64[us]"), units=units,
                       long_name=label, fill=fill, source=str(path))


def _three_hours(rows, name, times, values):
    """The one value of every 3 hours; its hours must agree where they have one."""
    block = times.astype("datetime64[h]").astype(np.int64) // 3
    blocks, first = np.unique(block, return_index=True)
    filled = np.where(np.isnan(values), np.inf, values)
    low = np.minimum.reduceat(filled, first)
    high = np.maximum.reduceat(np.where(np.isnan(values), -np.inf, values), first)
    bad = high > low
    if bad.any():
        i = int(first[np.argmax(bad)])
        raise rows.error(i, f"the 3 hours from {shown(times[i])} have different {name}: {low[bad][0]:g} and {high[bad][0]:g}")
    return (blocks * 3).astype("datetime64[h]").astype("datetime64[us]"), np.where(np.isfinite(low), low, np.nan)


def read_qin_denton(path, *, instant: bool = True) -> Drivers:
    """Qin-Denton files (Qin et al. 2007) with a JSON header: 1-minute, 5-minute or hourly, one or a list of days in order.

    Columns are found by the header's START_COLUMN and named as there (G1, W1, Bz1, akp3, ..._status), but by, bz (the IMF's,
    GSM), speed, density, pdyn, kp and dst as in the other readers; "Vsw" and so on find them too. The values are those at
    their times (the 1-minute Dst is the hourly one, interpolated from the middles of the hours); for a file of averages that
    begin there give instant=False. Kp is interpolated too, so no exact thirds; as a step series it jumps every minute.
    Raises FileNotFoundError; ValueError naming file and line, or the header.
    """
    return _read_all(lambda p, lines: _qin_denton(p, lines, instant), path, "read_qin_denton")


def _header(path, lines):
    text = "".join(line.lstrip()[1:] for line in lines if line.lstrip().startswith("#"))
    begin, end = text.find("{"), text.rfind("}")
    if begin < 0:
        raise ValueError(f"{path}: has no JSON header (lines with #, from {{ to }}), so is no Qin-Denton file of this kind")
    try:
        header = json.loads(text[begin:end + 1])
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: its JSON header cannot be read: {error.msg} at line {error.lineno}") from None
    columns = {}
    for key, entry in header.items():
        if not isinstance(entry, dict) or "START_COLUMN" not in entry:
            continue
        try:
            first, size = int(entry["START_COLUMN"]), int(np.prod(np.asarray(entry.get("DIMENSION", 1), int)))
        except (TypeError, ValueError):
            raise ValueError(f"{path}: START_COLUMN or DIMENSION of {key} in its header is no whole number") from None
        names = entry.get("ELEMENT_NAMES", [key] if size == 1 else [f"{key}{k + 1}" for k in range(size)])
        if len(names) != size:
            raise ValueError(f"{path}: {key} of its header has {len(names)} ELEMENT_NAMES for {size} columns")
        for k, own in enumerate(names):
            if first + k in columns:
                raise ValueError(f"{path}: {own} and {columns[first + k][0]} of its header share column {first + k}")
            columns[first + k] = own, entry
    if columns.get(0, ("",))[0] != "DateTime":
        raise ValueError(f"{path}: its header does not place DateTime in column 0")
    return columns


def _qin_denton(path, lines, instant):
    columns = _header(path, lines)
    rows = _Rows(path, lines, (max(columns) + 1,))
    words = [line.split(maxsplit=1)[0].removesuffix("Z") for line in rows.lines]
    try:
        times = np.array(words, dtype="datetime64[us]")
        if np.isnat(times).any():
            raise ValueError
    except ValueError:
        for i, word in enumerate(words):
            try:
                if np.isnat(np.datetime64(word, "us")):
                    raise ValueError
            except ValueError:
                raise rows.error(i, f"{word!r} is no time") from None
        raise
    times = rows.increasing(times)
    values = rows.floats(first=1)
    if times.size < 2:
        raise ValueError(f"{path}: holds one row; its cadence is unknown")
    steps = np.diff(times)
    found, many = np.unique(steps, return_counts=True)
    width = found[np.argmax(many)]
    if (steps % width).any():
        i = int(np.argmax(steps % width != np.timedelta64(0))) + 1
        raise rows.error(i, f"{shown(times[i])} is not a whole number of {width / np.timedelta64(1, 's'):g} s after line "
                            f"{rows.numbers[i - 1]}")
    clock = {"Year", "Month", "Day", "Hour", "Minute", "Second"}
    for column, (own, entry) in sorted(columns.items()):
        if column == 0 or own in clock:
            continue
        name = _QIN_DENTON.get(own, own)
        units, label, *_ = STANDARD.get(name, (str(entry.get("UNITS", "")), str(entry.get("DESCRIPTION", own)).rstrip(".")))
        fill = entry.get("FILL_VALUE")
        fill = float(fill) if isinstance(fill, (int, float)) else None
        yield Quantity(name=name, times=times, values=_without(values[:, column - 1], fill), width=width,
                       units="1" if units == "dimless" else units, long_name=label, instant=instant, own=own, fill=fill,
                       source=str(path))


def read_gfz(path) -> Drivers:
    """GFZ's own files: Kp_ap_Ap_SN_F107_since_1932.txt (daily rows, 28 columns) or Kp_ap_since_1932.txt (3-hour rows, 10).

    Names: kp (exact thirds) and ap, 3-hour values; of the daily rows also ap_daily ("Ap"), sunspots, f107, f107_adjusted and
    status ("D"). Fill: -1. Raises FileNotFoundError; ValueError naming file and line.
    """
    return _read_all(_gfz, path, "read_gfz")


def _gfz(path, lines):
    rows = _Rows(path, lines, (28, 10))
    values = rows.floats()
    days = rows.dates(values)
    if rows.columns == 10:
        hour = rows.whole(values, 3, "hour", 0, 23)
        if (hour % 3).any():
            i = int(np.argmax(hour % 3 != 0))
            raise rows.error(i, f"hour = {hour[i]} is no beginning of 3 hours; only Kp files of 3-hour rows are read")
        begins, kp, ap = rows.increasing(days.astype("datetime64[h]") + hour), values[:, 7], values[:, 8]
    else:
        begins, kp, ap = _eighths(rows.increasing(days)), values[:, 7:15].ravel(), values[:, 15:23].ravel()
    yield _kp_of(path, rows, begins, kp, -1.0)
    yield Quantity(name="ap", times=begins, values=_without(ap, -1.0), width=_micro(3 * _HOUR), units="nT", long_name="ap",
                   own="ap", fill=-1.0, source=str(path))
    if rows.columns == 28:
        for column, (name, own, fill, units, label) in enumerate(_GFZ_DAILY, start=23):
            yield Quantity(name=name, times=days.astype("datetime64[us]"), values=_without(values[:, column], fill),
                           width=_micro(_DAY), units=units, long_name=label, own=own, fill=fill, source=str(path))


def read_daily_kp(path) -> Drivers:
    """Daily rows `YYYYMMDD Kp_1 ... Kp_8 [F10.7]` (a first line that is a header is skipped): kp, in exact thirds, and f107.

    `read_kp` reads the same files to a `Series` at once, with the numbers as they stand there. Kp below 0 is missing.
    """
    return _read_all(_daily, path, "read_daily_kp")


def _daily(path, lines):
    rows = _Rows(path, lines, (9, 10), skip=0 if lines and lines[0].strip()[:1].isdigit() else 1)
    values = rows.floats()
    date = rows.whole(values, 0, "YYYYMMDD", 101, 99991231)
    days = rows.dates(np.stack([date // 10000, date // 100 % 100, date % 100], axis=1))
    times = rows.increasing(days)
    kp = values[:, 1:9].ravel()
    yield _kp_of(path, rows, _eighths(times), np.where(kp < 0.0, -1.0, kp), -1.0)
    if rows.columns == 10:
        f107 = np.where(values[:, 9] <= 0.0, np.nan, values[:, 9])
        yield Quantity(name="f107", times=times, values=_without(f107, 999.9), width=_micro(_DAY), units="sfu",
                       long_name="F10.7, observed", own="f10.7", fill=999.9, source=str(path))


def _micro(span):
    return span.astype("timedelta64[us]")


def _eighths(days):
    return (days[:, None] + 3 * _HOUR * np.arange(8)).ravel().astype("datetime64[us]")


def _kp_of(path, rows, begins, kp, fill):
    kp = _without(kp, fill)
    per_row = kp.size // len(rows.lines)
    bad = (kp < 0.0) | (kp > 9.0)
    if bad.any():
        i = int(np.argmax(bad))
        check_kp(f"{path}, line {rows.numbers[i // per_row]}: Kp", float(kp[i]))
    bad = np.abs(np.round(3.0 * kp) - 3.0 * kp) > 0.105
    if bad.any():
        i = int(np.argmax(bad))
        raise rows.error(i // per_row, f"Kp = {kp[i]:g} is no third (0, 0.3, 0.7, 1, ...)")
    return Quantity(name="kp", times=begins, values=kp_thirds(kp), width=_micro(3 * _HOUR), units="1", long_name="Kp",
                    own="Kp", fill=fill, source=str(path))


_READERS = {"omni2": read_omni2, "qin-denton": read_qin_denton, "gfz": read_gfz, "kp": read_daily_kp}


def read_drivers(path: str | Path | Sequence, format: str | None = None) -> Drivers:
    """Drivers from a file, or a list of files that follow one another, of any format read here.

    format: "omni2", "qin-denton", "gfz" or "kp" (daily rows); by default told from the first file's first lines. Raises as
    `read_omni2` and the others do, and ValueError if the format is unknown.
    """
    if format is not None and format not in _READERS:
        raise ValueError(f"read_drivers format: {format!r} is unknown; use {', '.join(map(repr, _READERS))}")
    if format is None:
        first = Path(path) if isinstance(path, (str, Path)) else Path(next(iter(path), ""))
        if not first.is_file():
            raise FileNotFoundError(f"read_drivers: there is no file {first} (looked in {first.resolve().parent})")
        format = _format(first)
    return _READERS[format](path)


def _format(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as lines:
        comment = False
        for number, line in enumerate(lines, start=1):
            words = line.split()
            if words and words[0].startswith("#"):
                if "{" in line:
                    return "qin-denton"
                comment = True
            elif words and words[0].isdigit():
                if len(words[0]) == 8:
                    return "kp"
                return "gfz" if len(words) in (28, 10) or (comment and len(words) < 55) else "omni2"
            elif words and number > 1:
                break
    raise ValueError(f"{path}: its format is not known; give format={', '.join(map(repr, _READERS))}")
