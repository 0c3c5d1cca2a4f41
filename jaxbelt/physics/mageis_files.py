"""Count rates of the Van Allen Probes' MagEIS electron channels with L*, from MATLAB files, reduced to medians by pass and L*.

`read_mageis` reads the two files, `mageis_passes` reduces them to what a fit wants: one sample a pass and a bin of L*. The files
are those of the ECT-MagEIS team's data as repositories of radiation-belt code share them (no file is part of the package):

    rates:     T (MATLAB datenum, days), Lstar, MLT [h], CountRate (time, channel) [1/s]; NaN: no value, or no count
    energies:  Emin, Emax [keV], G: lower and upper edge of each channel, and its geometric factor

Rates are relative: the unit of G is not stated, so a fit gives each channel a factor of its own. The rates hold no pitch angle.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxbelt.physics.drivers import seconds_after

__all__ = ["Mageis", "Passes", "read_mageis", "mageis_passes", "thin", "pass_ends", "by_pass"]

_HOUR, _DAY = 3600.0, 86400.0
_RATES = ("T", "Lstar", "MLT", "CountRate")
_ENERGIES = ("Emin", "Emax", "G")
_SOURCE = "MagEIS count rates are NASA data of the Van Allen Probes (ECT suite); give the path of a MATLAB file with {}"


class Mageis(NamedTuple):
    """Rates as in the file. dates: datetime64[ms] (time,). lstar, mlt [h]: (time,). rate [1/s]: (channel, time). band [MeV]:
    (channel, 2), each channel's edges. factor: (channel,), geometric factors, to be used relative to one another only."""

    dates: np.ndarray
    lstar: np.ndarray
    mlt: np.ndarray
    rate: np.ndarray
    band: np.ndarray
    factor: np.ndarray


class Passes(NamedTuple):
    """Medians by pass and bin of L*, in the order of time.

    t [s after the epoch], lstar: (sample,), medians of the bin, t increasing. rate [1/s]: (channel, sample); NaN: fewer than
    three values. band [MeV]: (channel, 2). background [1/s]: (channel, 1), see `mageis_passes`. number: (sample,), the pass,
    from 0. factor: (channel,), geometric factors. ends [s]: (pass + 1,), when each pass begins and ends.
    """

    t: np.ndarray
    lstar: np.ndarray
    rate: np.ndarray
    band: np.ndarray
    background: np.ndarray
    number: np.ndarray
    factor: np.ndarray
    ends: np.ndarray


def _load(path, names) -> dict:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"read_mageis: there is no file {path}; {_SOURCE.format(', '.join(names))}")
    try:
        from scipy.io import loadmat
    except ImportError:
        raise ImportError(f"read_mageis: reading the MATLAB file {path} needs scipy: pip install scipy") from None
    try:
        found = loadmat(path)
    except (ValueError, NotImplementedError, TypeError, OSError) as error:
        raise ValueError(f"read_mageis: {path} cannot be read as a MATLAB file before version 7.3 ({error})") from None
    missing = [n for n in names if n not in found]
    if missing:
        held = ", ".join(k for k in found if not k.startswith("__")) or "nothing"
        raise ValueError(f"read_mageis: {path} lacks {', '.join(missing)} (it holds {held})")
    return {n: np.asarray(found[n], np.float64) for n in names}


def read_mageis(path, energy_path) -> Mageis:
    """The two files (see the module) as arrays.

    Raises FileNotFoundError naming a file that is not there and what it should hold; ImportError without scipy; ValueError for a
    file that is no MATLAB file (version 7.3 is HDF5 and is not read), a variable that is missing, shapes that do not fit,
    times that do not increase.
    """
    data, energy = _load(path, _RATES), _load(energy_path, _ENERGIES)
    t, lstar, mlt = (data[n].ravel() for n in _RATES[:3])
    rate = data["CountRate"]
    low, high, factor = (energy[n].ravel() for n in _ENERGIES)
    if not t.size == lstar.size == mlt.size == rate.shape[0]:
        raise ValueError(f"read_mageis: {path} has {t.size} T, {lstar.size} Lstar, {mlt.size} MLT and {rate.shape[0]} rows of "
                         "CountRate; they must be as many")
    if not low.size == high.size == factor.size == rate.shape[1]:
        raise ValueError(f"read_mageis: {path} has {rate.shape[1]} channels, {energy_path} {low.size}")
    if not np.all(np.diff(t) > 0):
        i = int(np.argmin(np.diff(t) > 0))
        raise ValueError(f"read_mageis: {path}: T must increase, but T[{i + 1}] = {t[i + 1]:.6f} follows {t[i]:.6f}")
    unix = (t - 719529.0) * _DAY                                       # MATLAB counts days from year 0
    dates = np.datetime64("1970-01-01", "ms") + np.round(unix * 1e3).astype("timedelta64[ms]")
    return Mageis(dates, lstar, mlt, rate.T, np.stack([low, high], axis=1) / 1e3, factor)


def thin(x, k=6) -> np.ndarray:
    """Medians of blocks of k values along the last axis; NaN where more than half is missing. k = 6 of 11 s: about a minute."""
    x = np.asarray(x, np.float64)
    blocks = x[..., :x.shape[-1] // k * k].reshape(*x.shape[:-1], -1, k)
    return np.where(np.isfinite(blocks).sum(axis=-1) >= k / 2, _median(blocks), np.nan)


def _median(x) -> np.ndarray:
    """np.nanmedian over the last axis without its warning where everything is missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmedian(x, axis=-1)


def pass_ends(t, lstar) -> np.ndarray:
    """Times at which a pass ends and the next begins [s]: perigees and apogees, the extremes of L* within 1.5 h either way.

    t [s], evenly spaced; lstar with NaN where it is not known. Includes the first and the last time.
    """
    known = np.isfinite(lstar)
    if known.sum() < 2:
        raise ValueError(f"pass_ends lstar: needs values, but {int(known.sum())} of {np.size(lstar)} are finite")
    L = np.interp(t, t[known], lstar[known])
    n = max(1, int(1.5 * _HOUR / np.median(np.diff(t))))
    kernel = np.ones(2 * (n // 4) + 1)
    smooth = np.convolve(np.pad(L, n // 4, mode="edge"), kernel / kernel.size, "valid")
    window = np.lib.stride_tricks.sliding_window_view(np.pad(smooth, n, mode="edge"), 2 * n + 1)
    ends = t[(smooth == window.max(axis=1)) | (smooth == window.min(axis=1))]
    ends = ends[np.concatenate([[True], np.diff(ends) > _HOUR])]
    return np.unique(np.concatenate([[t[0]], ends[(ends > t[0] + _HOUR) & (ends < t[-1] - _HOUR)], [t[-1]]]))


def by_pass(t, lstar, values, ends, edges, least=3) -> np.ndarray:
    """Medians of `values` (..., time) by pass and bin of L*: (..., pass, bin); NaN with fewer than `least` values."""
    values = np.asarray(values, np.float64)
    out = np.full((*values.shape[:-1], ends.size - 1, edges.size - 1), np.nan)
    p = np.clip(np.searchsorted(ends, t, side="right") - 1, 0, ends.size - 2)
    k = np.where(np.isfinite(lstar), np.searchsorted(edges, lstar, side="right") - 1, -1)
    for i in range(ends.size - 1):
        for j in range(edges.size - 1):
            here = values[..., (p == i) & (k == j)]
            if here.shape[-1] >= least:
                out[..., i, j] = np.where(np.isfinite(here).sum(axis=-1) >= least, _median(here), np.nan)
    return out


def mageis_passes(path, energy_path, *, epoch, channels=(6, 7, 8, 9), L=(2.5, 5.7), width=0.1, quiet=None,
                  slot=(3.0, 4.0)) -> Passes:
    """Rates of some channels as medians by pass and bin of L*: `Passes`.

    epoch: the date of t = 0. channels: which rows. L, width: bins of L*. Samples of about a minute come first (`thin`), then
    medians of those in a bin, in rates, L* and time. quiet [s after the epoch]: (from, to), hours before the storm whose 10th
    percentile of the rates at L* in `slot` is the background; None: no background (0).
    Raises as `read_mageis`, and ValueError for a channel that is not there, or a quiet time without a value in the slot.
    """
    data = read_mageis(path, energy_path)
    channels = [int(c) for c in np.atleast_1d(channels)]
    if not all(0 <= c < len(data.band) for c in channels) or len(set(channels)) < len(channels):
        raise ValueError(f"mageis_passes channels: needs different numbers from 0 to {len(data.band) - 1}, got {channels}")
    if not (width > 0 and L[0] + width <= L[1]):
        raise ValueError(f"mageis_passes L, width: needs a bin between {L[0]:g} and {L[1]:g}, got width {width:g}")
    t, lstar, rate = (thin(x) for x in (seconds_after(epoch, data.dates), data.lstar, data.rate[channels]))
    ends = pass_ends(t, lstar)
    edges = L[0] + width * np.arange(int(round((L[1] - L[0]) / width)) + 1)
    background = np.zeros((len(channels), 1))
    if quiet is not None:
        low = (t >= quiet[0]) & (t <= quiet[1]) & (lstar > slot[0]) & (lstar < slot[1])
        if not np.isfinite(rate[:, low]).any(axis=1).all():
            raise ValueError(f"mageis_passes quiet: no rate at L* {slot[0]:g} to {slot[1]:g} from {quiet[0]:g} to {quiet[1]:g} s")
        background = np.nanpercentile(rate[:, low], 10, axis=1, keepdims=True)
    when, where, *table = by_pass(t, lstar, np.concatenate([t[None], lstar[None], rate]), ends, edges)
    some = np.isfinite(table).any(axis=0) & np.isfinite(when) & np.isfinite(where)
    number = np.broadcast_to(np.arange(ends.size - 1)[:, None], some.shape)[some]
    order = np.argsort(when[some], kind="stable")
    when = when[some][order]
    apart = np.concatenate([[True], np.diff(when) > 0])                # two bins of one pass can share their median time
    order, when = order[apart], when[apart]
    return Passes(when, where[some][order], np.stack(table)[:, some][:, order], data.band[channels], background, number[order],
                  data.factor[channels], ends)
