"""Geomagnetic drivers: readers on the host, checked once, that give a `Series` in seconds after an epoch.

Kp alone: `kp_series` from values, `read_kp` from a file of daily rows. Everything else, Kp included: `read_drivers` (OMNI2,
Qin-Denton, GFZ's own files, daily rows) or `from_arrays` give `Drivers`, and `drivers.series("dst", "linear", epoch=...,
start=..., stop=...)` a `Series` without gaps.
"""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
import numpy as np

from ..coefficients import Series, Time
from .driver_data import Drivers, Quantity, check_kp, from_arrays, kp_thirds, moment, seconds_after, shown
from .geomagnetic_files import read_daily_kp, read_drivers, read_gfz, read_omni2, read_qin_denton

__all__ = ["check_kp", "seconds_after", "kp_series", "kp_thirds", "read_kp", "check_covers", "max_over", "trailing_max",
           "Drivers", "Quantity", "from_arrays", "read_drivers", "read_omni2", "read_qin_denton", "read_gfz", "read_daily_kp"]

_KP_HOURS = 3.0
_DAY = np.timedelta64(1, "D")


def kp_series(values, *, start=0.0, epoch=None, times=None, name="kp values") -> Series:
    """A step `Series` of Kp from 3-hour values: value k holds from start + 3k hours on.

    values: Kp, 0 to 9, one-dimensional, concrete. start: the beginning of the first 3 hours, in seconds after the epoch, or a
    datetime64 (or text). epoch: the zero of time, for a dated start; default `start`. times: the beginning of each value
    instead of a regular start, increasing, seconds or datetime64.
    Raises ValueError naming index and value if a Kp is missing, a fill, or outside 0 to 9, or if times do not increase.
    """
    if isinstance(values, np.ma.MaskedArray):
        values = values.astype(np.float64).filled(np.nan)
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"{name}: needs a one-dimensional list of 3-hour values, got shape {values.shape}")
    check_kp(name, values)
    if times is None:
        dated = isinstance(start, (str, np.datetime64)) or hasattr(start, "isoformat")
        origin = moment("start", start) if dated else start
        offset = _KP_HOURS * 3600.0 * np.arange(values.size)
        t = offset + (seconds_after(origin if epoch is None else epoch, origin) if dated else float(origin))
    else:
        times = np.asarray(times)
        if times.size == 0 or times.ndim != 1:
            raise ValueError(f"times: needs one time for each of the {values.size} values, got shape {times.shape}")
        if times.dtype.kind in "MUO":
            times = times.astype("datetime64[us]")
            t = seconds_after(times[0] if epoch is None else epoch, times)
        else:
            t = times.astype(np.float64)
    return Series(t, values)


def _rows(path: Path):
    """(line number, day, line) of every row of a Kp file; the days must follow one another in time."""
    previous = None
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            text = line.strip()
            if not text or (number == 1 and not text[0].isdigit()):
                continue
            day = text.split(maxsplit=1)[0]
            try:
                if len(day) != 8 or not day.isdigit():
                    raise ValueError
                day = np.datetime64(f"{day[:4]}-{day[4:6]}-{day[6:]}", "D")
            except ValueError:
                raise ValueError(f"{path}, line {number}: needs YYYYMMDD and eight Kp values, got {text!r}") from None
            if previous is not None and day <= previous:
                raise ValueError(f"{path}, line {number}: {day} follows {previous}; days must increase")
            previous = day
            yield number, day, text


def _eight(path: Path, number: int, text: str) -> np.ndarray:
    try:
        values = np.array([float(word) for word in text.split()[1:9]])
        if values.size != 8:
            raise ValueError
    except ValueError:
        raise ValueError(f"{path}, line {number}: needs YYYYMMDD and eight Kp values, got {text!r}") from None
    check_kp(f"{path}, line {number}: Kp", values)
    return values


def read_kp(path, start, stop, epoch=None) -> Series:
    """Kp from a file of daily rows `YYYYMMDD Kp_1 ... Kp_8 [F10.7]` (a first line that is a header is skipped).

    start, stop: datetime64 (or text), start < stop. epoch: the zero of time, default `start`. Returns a step `Series` in
    seconds after the epoch whose 3-hour values cover [start, stop]; the first one may begin before start. For the maximum of
    the last 24 hours to be right from the beginning, ask for a day more: read_kp(path, start - one day, stop, epoch=start).

    Raises FileNotFoundError naming the path; ValueError if the file does not cover the span, lacks a day, has a row that
    cannot be read (line number and text), or a Kp that is missing or outside 0 to 9 (line and value).
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"read_kp: there is no file {path} (looked in {path.resolve().parent})")
    start, stop = moment("start", start), moment("stop", stop)
    if not start < stop:
        raise ValueError(f"read_kp: stop = {stop} must be later than start = {start}")
    first, last = start.astype("datetime64[D]"), (stop - np.timedelta64(1, "us")).astype("datetime64[D]")
    days, values, ends = [], [], []
    for number, day, text in _rows(path):
        ends = [ends[0] if ends else day, day]
        if first <= day <= last:
            days.append(day)
            values.append(_eight(path, number, text))
    if not ends:
        raise ValueError(f"{path}: holds no row of Kp")
    if ends[0] > first or ends[1] < last:
        raise ValueError(f"{path}: covers {ends[0]} to {ends[1]}, not {start} to {stop}")
    wanted = np.arange(first, last + _DAY)
    if len(days) < wanted.size:
        missing = wanted[~np.isin(wanted, days)]
        more = f" ({missing.size} days are missing)" if missing.size > 1 else ""
        raise ValueError(f"{path}: has no row for {missing[0]}{more}")
    values = np.concatenate(values)
    begins = first.astype("datetime64[us]") + np.arange(values.size) * np.timedelta64(3, "h")
    keep = (begins + np.timedelta64(3, "h") > start) & (begins < stop)
    return kp_series(values[keep], start=begins[keep][0], epoch=start if epoch is None else epoch)


def check_covers(series, start, stop, name: str, *, epoch=None, width=None) -> None:
    """Raise ValueError, one line, if a `Series` begins after start or ends before stop; values and functions pass unseen.

    A `Series` itself holds its last value for ever, so this is for who knows the run's times: the builder of a case, with
    every series the user gave (`Quantity.series` and `read_kp` have checked theirs). start, stop: seconds after the epoch, or
    datetime64 (or text) with epoch, which also makes the message one of dates. A linear series ends with its last time, a step
    series `width` seconds after it: default as long as the step before; 10800 for 3-hour Kp. One value without width is a
    constant and covers everything.
    """
    if not isinstance(series, Series) or (len(series.t) == 1 and width is None):
        return
    zero = None if epoch is None else moment("epoch", epoch)

    def seconds(label, time):
        if isinstance(time, (str, np.datetime64)) or hasattr(time, "isoformat"):
            if zero is None:
                raise ValueError(f"check_covers {label}: a date needs epoch, the zero of the series' time")
            return float(seconds_after(zero, moment(label, time)))
        return float(time)

    def said(time):
        return f"{time:g} s" if zero is None else shown(zero + np.timedelta64(round(time * 1e6), "us"))

    begin, end = seconds("start", start), seconds("stop", stop)
    first, last = series.t[0], series.t[-1]
    if series.kind == "step":
        last += series.t[-1] - series.t[-2] if width is None else float(width)
    slack = 1e-9 * max(abs(begin), abs(end), end - begin)
    if first > begin + slack:
        raise ValueError(f"{name} begins at {said(first)}, the run begins at {said(begin)}")
    if last < end - slack:
        raise ValueError(f"{name} ends at {said(last)}, the run lasts until {said(end)}")


def max_over(series: Series, hours: float = 24.0) -> Series:
    """The largest value of a step `Series` over [t - hours, t], as a step Series with every jump at its right time.

    A value counts until its end is `hours` old; before the first time the first value is taken to hold. Values may be
    traced, so gradients pass (ties share them). Raises ValueError for a linear series, or hours that are not positive.
    """
    if series.kind != "step":
        raise ValueError("max_over: needs a step series; a linear one has no maximum in steps (see trailing_max)")
    window = _window(hours)
    t = np.asarray(series.t)
    times = np.unique(np.round(np.concatenate([t, t[1:] + window]), 6))
    high = np.searchsorted(t, times + 1e-6, side="right") - 1
    low = np.maximum(np.searchsorted(t, times - window + 1e-6, side="right") - 1, 0)
    # ranges [low, high] from maxima over runs of 2^k values
    xp = np if isinstance(series.values, np.ndarray) else jnp
    level = np.floor(np.log2(high - low + 1) + 1e-9).astype(int)
    runs = [xp.asarray(series.values)]
    for k in range(int(level.max())):
        shift = 1 << k
        previous = runs[-1]
        runs.append(xp.maximum(previous, xp.concatenate([previous[shift:], previous[-1:].repeat(shift, axis=0)])[: t.size]))
    table = xp.stack(runs)
    return Series(tuple(times.tolist()), xp.maximum(table[level, low], table[level, high - (1 << level) + 1]))


def trailing_max(series: Series, t, hours: float = 24.0):
    """The largest value of a `Series` (step or linear) over [t - hours, t] at one moment or many, inside `jit`.

    Equal to max_over(series, hours)(t) for a step series, at a cost that does not grow with its length.
    """
    window = _window(hours)
    times, values = np.asarray(series.t), jnp.asarray(series.values)
    now = Time.at(t)
    now = jnp.asarray(now.mid if series.kind == "step" else now.value)
    width = int(np.max(np.arange(times.size) - np.searchsorted(times, times - window, side="right") + 1)) + 2
    high = jnp.clip(jnp.searchsorted(times, now, side="right") - 1, 0, times.size - 1)[..., None]
    low = jnp.clip(jnp.searchsorted(times, now - window, side="right") - 1, 0, times.size - 1)[..., None]
    index = high - jnp.arange(width, dtype=high.dtype).reshape((1,) * (high.ndim - 1) + (width,))
    if series.kind == "step":
        return values[jnp.maximum(index, low)].max(axis=high.ndim - 1)
    # a linear series is largest at a node inside the window or at one of its ends
    here, there = series(now), series(now - window)
    inside = (index > low).reshape(index.shape + (1,) * (values.ndim - 1))
    nodes = jnp.where(inside, values[jnp.maximum(index, 0)], jnp.expand_dims(here, high.ndim - 1))
    return jnp.maximum(jnp.maximum(here, there), nodes.max(axis=high.ndim - 1))


def _window(hours) -> float:
    if not (np.isfinite(hours) and hours > 0):
        raise ValueError(f"hours = {hours} must be a positive number of hours")
    return float(hours) * 3600.0
