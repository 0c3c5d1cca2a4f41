"""Measured drivers with their times, units and gaps, on the host: `Drivers`, a set of `Quantity`, each gives a `Series`.

Every value belongs to an interval [time, time + width): an index or an average over it. As a step series it holds over the
interval; as a linear one an average stands at the middle of it (an hourly Dst of 05:00 is that of 05:30), an instantaneous
value (`instant`) at its time. Missing values are NaN here and never in a `Series`.
"""

from __future__ import annotations

import dataclasses
import datetime
import difflib
import re

import jax
import numpy as np

from ..coefficients import Series

__all__ = ["Quantity", "Drivers", "from_arrays", "kp_thirds", "check_kp", "seconds_after", "duration"]

_US = np.timedelta64(1, "us")
_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "day": 86400, "days": 86400}
# name: (units, long name, lowest and highest number that is no fill value)
STANDARD = {
    "kp": ("1", "Kp", 0.0, 9.0), "ap": ("nT", "ap", 0.0, 400.0), "dst": ("nT", "Dst", -3000.0, 500.0),
    "bx": ("nT", "IMF Bx, GSM", -500.0, 500.0), "by": ("nT", "IMF By, GSM", -500.0, 500.0),
    "bz": ("nT", "IMF Bz, GSM", -500.0, 500.0), "speed": ("km/s", "solar wind speed", 100.0, 5000.0),
    "density": ("cm^-3", "solar wind proton density", 0.0, 900.0), "pdyn": ("nPa", "solar wind dynamic pressure", 0.0, 900.0),
    "ae": ("nT", "AE", 0.0, 9000.0), "f107": ("sfu", "F10.7, observed", 40.0, 900.0),
}


def check_kp(name: str, kp) -> None:
    """Raise ValueError, naming the entry and its value, if concrete numbers in kp are missing or outside 0 to 9.

    The values of a Series are looked at; functions and traced values pass unseen.
    """
    if isinstance(kp, Series) and not isinstance(kp.values, jax.core.Tracer):
        kp = np.asarray(kp.values)
    if not isinstance(kp, (int, float, np.ndarray, np.number)):
        return
    values = np.asarray(kp, dtype=np.float64)
    bad = ~((values >= 0.0) & (values <= 9.0))
    if not bad.any():
        return
    where = tuple(int(i) for i in np.argwhere(bad)[0])
    value = float(values[where])
    label = name + (f"[{', '.join(map(str, where))}]" if where else "")
    if np.isnan(value):
        hint = "a missing value; fill it or leave its times out"
    elif value < 0.0 or value in (99.0, 99.9, 999.0, 999.9, 9999.0):
        hint = "a fill value; Kp lies between 0 and 9"
    else:
        hint = "Kp lies between 0 and 9 (some files, OMNI among them, list 10 Kp)"
    raise ValueError(f"{label} = {value:g}: {hint}")


def kp_thirds(kp, name: str = "kp") -> np.ndarray:
    """Kp in exact thirds from numbers rounded to a decimal or more: 2.3 and 2.333 are 2+ = 7/3, 2.7 is 3- = 8/3. NaN stays.

    Raises ValueError, naming the entry, where a number is no rounded third (an average, or interpolated).
    """
    kp = np.asarray(kp, dtype=np.float64)
    thirds = np.round(3.0 * kp) / 3.0
    bad = np.abs(thirds - kp) > 0.035
    if bad.any():
        i = int(np.argmax(bad.ravel()))
        raise ValueError(f"{name}[{i}] = {kp.ravel()[i]:g} is no third of Kp (0, 0.3, 0.7, 1, ...)")
    return thirds


def moment(name: str, time) -> np.datetime64:
    """The time (datetime64, datetime or text) to the microsecond; ValueError with the name if it is none."""
    try:
        found = np.datetime64(time, "us")
    except (TypeError, ValueError):
        raise ValueError(f"{name}: {time!r} is not a time; give a numpy datetime64 or a text like '2013-03-17T00:00'") from None
    if np.isnat(found):
        raise ValueError(f"{name}: the time is missing (NaT)")
    return found


def seconds_after(epoch, times) -> np.ndarray:
    """Seconds (float64) from epoch (datetime64 or text) to times (datetime64, one or an array), to the microsecond."""
    times = np.asarray(times, dtype="datetime64[us]")
    if np.isnat(times).any():
        raise ValueError("seconds_after: a time is missing (NaT)")
    return (times - moment("epoch", epoch)) / np.timedelta64(1, "s")


def duration(name: str, value) -> np.timedelta64:
    """A positive length of time from "3 h" (s, min, h, d), a timedelta, or seconds."""
    try:
        if isinstance(value, str):
            number, unit = re.fullmatch(r"\s*(\S+?)\s*([a-z]+)\s*", value).groups()
            value = float(number) * _UNITS[unit]
        if isinstance(value, (np.timedelta64, datetime.timedelta)):
            found = np.timedelta64(value, "us")
        else:
            found = np.timedelta64(round(float(value) * 1e6), "us")
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        raise ValueError(f"{name}: {value!r} is no length of time; write '3 h', '30 min', '2 d', or seconds") from None
    if not found > np.timedelta64(0, "us"):
        raise ValueError(f"{name}: {value!r} must be a positive length of time")
    return found


def shown(time) -> str:
    """A time for a message: to the minute where it is whole minutes."""
    return next(str(short) for short in (time.astype(f"datetime64[{u}]") for u in ("m", "s", "us")) if short == time)


def _length(span) -> str:
    seconds = span / np.timedelta64(1, "s")
    unit, size = next((u, s) for u, s in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1e-6)) if seconds >= s)
    return f"{seconds / (size if unit != 's' else 1):g} {unit}"


def _suggestion(word: str, known) -> str:
    close = difflib.get_close_matches(word.lower(), [k.lower() for k in known], n=1)
    match = [k for k in known if close and k.lower() == close[0]]
    return f"did you mean {match[0]!r}?" if match else f"it holds {', '.join(known)}"


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Quantity:
    """One measured quantity: times (datetime64[us], increasing: where each interval begins) and values (NaN where missing).

    width: length of an interval; None for irregular times, each value then reaching to the next one (the last as far as the
    one before). instant: the values are those at `times`, no averages. own: its name in the file; fill: the file's number
    for "missing"; source: the file, for messages.
    """

    name: str
    times: np.ndarray
    values: np.ndarray
    width: np.timedelta64 | None
    units: str = ""
    long_name: str = ""
    instant: bool = False
    own: str = ""
    fill: float | None = None
    source: str = "arrays"

    @property
    def start(self) -> np.datetime64:
        return self.times[0]

    @property
    def stop(self) -> np.datetime64:
        """The end of the last interval."""
        return self.times[-1] + (self.times[-1] - self.times[-2] if self.width is None else self.width)

    def __repr__(self):
        every = "irregular" if self.width is None else f"every {_length(self.width)}"
        return (f"{self.name} [{self.units}], {self.long_name}: {self.values.size} values, {every}, {shown(self.start)} to "
                f"{shown(self.stop)}, {int(np.isnan(self.values).sum())} missing")

    def series(self, kind: str = "step", *, epoch=None, start=None, stop=None, fill="error", max_gap=None) -> Series:
        """A `Series` in seconds after the epoch that covers [start, stop] and has no gap.

        kind: "step", each value holds over its interval (the first may begin before start); "linear", averages stand at the
        middles of their intervals and instantaneous values at their times, constant over what is left to the first and last
        interval's end. start, stop: times (default: all there is); epoch: the zero of time (default start).
        fill: what to do about missing values: "error" (default), "previous" (the last one holds on), "linear" (between the
        neighbours, also those outside [start, stop]), or a number. max_gap ("6 h"): a longer gap is refused all the same.

        Raises ValueError, one line, if the data do not cover [start, stop]; if values are missing and not to be filled (how
        many, the first one's time and number, the longest gap), or cannot be; if a number is outside what the quantity can be.
        """
        if kind not in ("step", "linear"):
            raise ValueError(f"{self.name} kind: {kind!r} is unknown; use 'step' or 'linear'")
        start = self.start if start is None else moment("start", start)
        stop = self.stop if stop is None else moment("stop", stop)
        if not start < stop:
            raise ValueError(f"{self.name}: stop = {shown(stop)} must be later than start = {shown(start)}")
        if start < self.start or stop > self.stop:
            raise ValueError(f"{self.source}: {self.name} covers {shown(self.start)} to {shown(self.stop)}, "
                             f"not {shown(start)} to {shown(stop)}")
        times, values, absent = self._with_gaps()
        ends = np.append(times[1:], self.stop)
        points = times if self.instant or kind == "step" else times + (ends - times) // 2
        low = max(int(np.searchsorted(points, start, side="right")) - 1, 0)
        high = int(np.searchsorted(points, stop, side="left")) - (kind == "step")
        high = min(high, times.size - 1)
        values = self._filled(points, ends, times, values, absent, slice(low, high + 1), fill, max_gap)
        points = points[low:high + 1]
        self._check(points, values)
        if kind == "linear" and points[0] > start:
            points, values = np.append(start, points), np.append(values[0], values)
        if kind == "linear" and points[-1] < stop:
            points, values = np.append(points, stop), np.append(values, values[-1])
        return Series(seconds_after(start if epoch is None else epoch, points), values, kind)

    def _with_gaps(self):
        """Times, values, and which were put in, NaN, where a row is absent."""
        if self.width is None:
            return self.times, self.values, np.zeros(self.times.size, bool)
        step = np.diff(self.times)
        if np.all(step <= self.width):
            return self.times, self.values, np.zeros(self.times.size, bool)
        index = np.append(0, np.cumsum(np.maximum(-(-step // self.width), 1)))
        # rows behind a gap keep their time; those put in count on from the row before the gap
        last = np.maximum.accumulate(np.where(np.isin(np.arange(index[-1] + 1), index), np.arange(index[-1] + 1), 0))
        rank = np.searchsorted(index, last)
        times = self.times[rank] + (np.arange(index[-1] + 1) - last) * self.width
        absent = last != np.arange(index[-1] + 1)
        return times, np.where(absent, np.nan, self.values[rank]), absent

    def _filled(self, points, ends, times, values, absent, span, fill, max_gap):
        if not (isinstance(fill, str) and fill in ("error", "previous", "linear")):
            if isinstance(fill, (str, bool)) or not np.isfinite(number := _number(fill)):
                raise ValueError(f"{self.name} fill: {fill!r} is unknown; use 'error', 'previous', 'linear' or a number")
        limit = None if max_gap is None else duration("max_gap", max_gap)
        missing = np.isnan(values)
        count = int(missing[span].sum())
        if not count:
            return values[span]
        edge = np.flatnonzero(np.diff(np.concatenate([[False], missing, [False]]).astype(int)))
        first, last = edge[::2], edge[1::2] - 1
        inside = (last >= span.start) & (first < span.stop)
        first, last = first[inside], last[inside]
        lengths = ends[last] - times[first]
        worst = int(np.argmax(lengths))
        longest = f"{_length(lengths[worst])} long, {shown(times[first[worst]])} to {shown(ends[last[worst]])}"
        if isinstance(fill, str) and fill == "error":
            i = max(int(first[0]), span.start)
            what = "no row" if absent[i] else "not a number" if self.fill is None else f"the fill value {self.fill:g}"
            gaps = f"the gap is {longest}" if first.size == 1 else f"{first.size} gaps, the longest {longest}"
            raise ValueError(f"{self.source}: {self.name} is missing at {count} of {missing[span].size} times, first at "
                             f"{shown(times[i])} ({what}); {gaps}; give fill='previous', 'linear' or a number")
        if limit is not None and lengths[worst] > limit:
            raise ValueError(f"{self.source}: {self.name} has a gap longer than max_gap = {_length(limit)}: {longest}")
        if not isinstance(fill, str):
            return np.where(missing, number, values)[span]
        if first[0] == 0 or (fill == "linear" and last[-1] == times.size - 1):
            side = "before" if first[0] == 0 else "after"
            at = shown(times[0]) if first[0] == 0 else shown(ends[-1])
            raise ValueError(f"{self.source}: {self.name} has no value {side} the gap at {at}; fill={fill!r} needs one")
        if fill == "previous":
            return values[np.maximum.accumulate(np.where(missing, 0, np.arange(values.size)))][span]
        x = seconds_after(points[0], points)
        return np.interp(x, x[~missing], values[~missing])[span]

    def _check(self, times, values):
        if self.name not in STANDARD:
            return
        low, high = STANDARD[self.name][2:]
        bad = ~((values >= low) & (values <= high))
        if bad.any():
            i = int(np.argmax(bad))
            if self.name == "kp":
                check_kp(f"{self.source}: kp at {shown(times[i])}", float(values[i]))
            raise ValueError(f"{self.source}: {self.name} at {shown(times[i])} = {values[i]:g} {self.units}: outside {low:g} to "
                             f"{high:g} {self.units}; a fill value, or other units?")

    def resample(self, width) -> Quantity:
        """Averages over longer intervals, which begin at whole multiples of width after midnight; NaN where a value is missing.

        Intervals cut off by the beginning or end are left out. Raises ValueError for irregular times, or a width that is no
        whole multiple of this one. (A mean of Kp is no Kp of a longer interval, only a mean.)
        """
        width = duration("resample", width)
        if self.width is None or width % self.width:
            have = "irregular times" if self.width is None else f"intervals of {_length(self.width)}"
            raise ValueError(f"{self.name}: cannot average {have} over {_length(width)}")
        times, values, _ = self._with_gaps()
        many = int(width // self.width)
        offset = (times.astype("datetime64[us]").astype(np.int64)) % int(width / _US)
        if (offset % int(self.width / _US)).any():
            raise ValueError(f"{self.name}: its times are no multiples of {_length(self.width)} after midnight")
        begin = int(np.argmax(offset == 0)) if (offset == 0).any() else values.size
        blocks = (values.size - begin) // many
        if blocks < 1:
            have = f"{shown(self.start)} to {shown(self.stop)}"
            raise ValueError(f"{self.name}: {have} holds no whole interval of {_length(width)}")
        values = values[begin:begin + blocks * many].reshape(blocks, many).mean(axis=1)
        times = times[begin:begin + blocks * many:many]
        return dataclasses.replace(self, times=times, values=values, width=width, instant=False, fill=None)


def _number(value) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return np.nan


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Drivers:
    """Quantities by name: `drivers["dst"]` is a `Quantity`, `drivers.series("dst", "linear", ...)` its `Series`.

    A file's own names are known too ("Vsw" and "speed" are the same in a Qin-Denton file). Printing one lists what it holds.
    """

    quantities: dict[str, Quantity]
    source: str = "arrays"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.quantities)

    def _find(self, name: str):
        if name in self.quantities:
            return name
        own = [q.name for q in self.quantities.values() if q.own == name]
        return own[0] if own else name.lower() if name.lower() in self.quantities else None

    def __contains__(self, name):
        return self._find(name) is not None

    def __getitem__(self, name: str) -> Quantity:
        found = self._find(name)
        if found is None:
            raise ValueError(f"{self.source} has no {name!r}; {_suggestion(name, self.names)}")
        return self.quantities[found]

    def series(self, name: str, kind: str = "step", **options) -> Series:
        """The `Series` of one quantity: see `Quantity.series` for epoch, start, stop, fill and max_gap."""
        return self[name].series(kind, **options)

    def resample(self, width) -> Drivers:
        """Averages over width ("1 h") of every quantity with shorter intervals: see `Quantity.resample`."""
        span = duration("resample", width)
        return Drivers({name: q.resample(span) if q.width is None or q.width < span else q
                        for name, q in self.quantities.items()}, self.source)

    def __repr__(self):
        return "\n".join([f"{self.source}:", *(f"  {q!r}" for q in self.quantities.values())])


def from_arrays(times, *, epoch=None, width=None, instant=False, units=None, long_names=None, source="arrays",
                **values) -> Drivers:
    """Drivers from arrays: `from_arrays(times, dst=dst, bz=bz)`.

    times: datetime64 (or datetimes, text), increasing: where the interval of each value begins; numbers are seconds after
    epoch. values: one array a quantity, NaN or masked where missing; kp, ap, dst, bx, by, bz (GSM), speed, density, pdyn, ae
    and f107 bring their units and are checked for fill values, other names are free. width: length of an interval ("1 h"),
    which makes absent rows known as gaps; by default each value reaches to the next. instant: the values are no averages.
    """
    times = np.asarray(times)
    if times.dtype.kind in "iuf":
        if epoch is None:
            raise ValueError("from_arrays: times in seconds need epoch, their zero")
        if not np.all(np.isfinite(times)):
            raise ValueError("from_arrays: every time must be finite")
        times = moment("epoch", epoch) + np.round(times * 1e6).astype(np.int64) * _US
    try:
        times = times.astype("datetime64[us]")
    except ValueError as error:
        raise ValueError(f"from_arrays times: {error}") from None
    width = None if width is None else duration("width", width)
    if times.ndim != 1 or times.size < (2 if width is None else 1):
        raise ValueError(f"from_arrays times: needs a list of two times or more (one with width), got shape {times.shape}")
    if np.isnat(times).any():
        raise ValueError(f"from_arrays times[{int(np.argmax(np.isnat(times)))}] is missing (NaT)")
    if np.any(np.diff(times) <= 0 * _US):
        i = int(np.argmax(np.diff(times) <= 0 * _US)) + 1
        raise ValueError(f"from_arrays times[{i}] = {shown(times[i])} follows {shown(times[i - 1])}; times must increase")
    if not values:
        raise ValueError("from_arrays: needs at least one quantity, such as dst=array")
    found = {}
    for name, array in values.items():
        array = np.ma.filled(np.ma.asarray(array, dtype=np.float64), np.nan)
        if array.shape != times.shape:
            raise ValueError(f"from_arrays {name}: needs {times.size} values, one a time, got shape {array.shape}")
        array = np.where(np.isinf(array), np.nan, array)
        unit, label, *_ = STANDARD.get(name, ("", name))
        quantity = Quantity(name=name, times=times, values=array, width=width, units=(units or {}).get(name, unit),
                            long_name=(long_names or {}).get(name, label), instant=instant, source=source)
        quantity._check(times[~np.isnan(array)], array[~np.isnan(array)])
        found[name] = quantity
    return Drivers(found, source)
