"""The table [measured]: MagEIS rates that give a belt case its initial state, its outer wall and data to fit.

f at the channels' middles is (rate - background)/(factor width), as an omnidirectional flux of electrons with sin^2(alpha_eq):
relative, so a fit frees a factor a channel. Between the channels ln f is straight in the energy, and beyond them goes on.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from jaxbelt.config import InputError, Table, section

__all__ = ["KEYS", "HOLDS", "Measured", "MissingFile", "find", "read"]

KEYS = ("kind", "file", "energy_file", "channels", "energies", "bins", "width", "quiet", "near_start", "near_wall", "until")
HOLDS = {
    "file": "a MATLAB file (before version 7.3) of MagEIS count rates of Van Allen Probe A: T (datenum), Lstar, MLT [h], "
            "CountRate (time, channel)",
    "energy_file": "a MATLAB file of the channels of MagEIS: Emin, Emax [keV] and the geometric factor G",
}
_SOURCE = "NASA data of the Van Allen Probes (ECT suite, https://cdaweb.gsfc.nasa.gov); radiation-belt codes share such files. " \
          "Give its path with --set measured.{}=PATH"
_HOUR = 3600.0


class MissingFile(InputError):
    """A file of measurements is not there."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """Rates by pass and L* (`mageis_files.Passes`) in relative fluxes, rate and background (channel, sample); level: ln f there.

    missing: what is not there, where nothing is to be run; the state and the wall are then 1.
    """

    table: Table
    passes: Any = None
    rate: Any = None
    background: Any = None
    level: Any = None
    middles: Any = None
    channels: tuple = ()
    missing: str = ""

    def first(self, grid, mu):
        """f at t = 0 (mu, L): the passes next to it, averaged in ln f by bin of L*; beyond the bins as in the last one."""
        if self.missing:
            return np.ones((len(mu), grid["L"].n))
        p, width = self.passes, self.table.number("width", 0.1, above=0)
        near = np.abs(p.t) < self.table.quantity("near_start", "time", 4.6 * _HOUR, above=0)
        k = np.floor(p.lstar / width + 1e-9).astype(int)
        bins = [near & (k == i) for i in np.unique(k[near])]
        bins = [b for b in bins if np.isfinite(self.level[:, b]).any(axis=1).all()]
        if len(bins) < 2:
            raise self.table.error("near_start", f"finds {len(bins)} bins of L* with a rate in every channel near t = 0")
        place = [p.lstar[b].mean() for b in bins]
        L = grid["L"].centers
        at = np.array([np.interp(L, place, [np.nanmean(c[b]) for b in bins]) for c in self.level])
        return np.exp(self._along(at, mu, L))

    def wall(self, mu, duration: float):
        """f at the outer wall, a linear Series a mu: the mean of ln f near it on each pass before `until`; then it stays that of
        the last apogee."""
        from jaxbelt.coefficients import Series

        if self.missing:
            return [1.0] * len(mu)
        hours = np.arange(0.0, duration + 1.0, _HOUR)
        p, low, high = self.passes, *self.table.numbers("near_wall", size=2)
        use = (p.lstar > low) & (p.lstar < high) & np.isfinite(self.level).all(axis=0)
        use &= p.t < self.table.quantity("until", "time", duration, above=0)
        value, number = self._along(self.level[:, use], mu, p.lstar[use]), p.number[use]
        each = [number == n for n in np.unique(number)]
        if len(each) < 2:
            raise self.table.error("near_wall", f"finds rates on {len(each)} passes; the wall needs two")
        t = np.array([p.t[use][e].mean() for e in each])
        v = np.array([value[:, e].mean(axis=1) for e in each])
        v[-1] = v[-2:].mean(axis=0)                                    # out and in
        return [Series(hours, np.exp(np.interp(hours, t, row)), kind="linear") for row in v.T]

    def _along(self, level, mu, L):
        """ln f (mu, n) from its values at the channels' middles (channel, n) at L (n,)."""
        from jaxbelt.physics.dipole import energy_of_mu

        energy = np.asarray(energy_of_mu(np.asarray(mu)[:, None], L))
        k = np.clip(np.searchsorted(self.middles, energy) - 1, 0, self.middles.size - 2)
        w = (energy - self.middles[k]) / (self.middles[k + 1] - self.middles[k])
        return np.take_along_axis(level, k, 0) * (1 - w) + np.take_along_axis(level, k + 1, 0) * w


def find(table: Table, key: str, folder: Path) -> Path:
    """The file under a key, beside the case or in the current folder; MissingFile says what it holds and where one comes from."""
    given = Path(table.text(key)).expanduser()
    for path in ((given,) if given.is_absolute() else (folder / given, Path.cwd() / given)):
        if path.is_file():
            return path
    raise MissingFile(f'{table.name(key)} = "{given}": there is no such file beside the case or in {Path.cwd()}. It is '
                      f"{HOLDS[key]}; {_SOURCE.format(key)}")


def read(table: Table, case) -> Measured:
    """[measured] of a case; case: its `Frame`."""
    from jaxbelt.instrument import Channel, SinN
    from jaxbelt.physics.invariants import psd_of_flux
    from jaxbelt.physics.mageis_files import mageis_passes

    table.choice("kind", ("mageis",))
    if case.epoch is None:
        raise table.error("kind", "needs case.epoch, the date of t = 0")
    numbers = list(table.integers("channels", low=0))
    energies = np.asarray(table.quantities("energies", "energy"))
    if energies.size != len(numbers) or energies.size < 2 or np.any(np.diff(energies) <= 0):
        raise table.error("energies", f"needs {len(numbers)} energies that increase, the middle of each channel")
    quiet = tuple(table.quantities("quiet", "time"))
    if len(quiet) != 2 or quiet[0] >= quiet[1]:
        raise table.error("quiet", "needs two times, the earlier first")
    bins = tuple(table.numbers("bins", [3.0, 5.6], size=2))
    try:
        files = [find(table, key, case.folder) for key in ("file", "energy_file")]
    except MissingFile as error:
        if case.dry:
            return Measured(table, missing=str(error))
        raise
    with section("measured"):
        p = mageis_passes(*files, epoch=case.epoch, channels=numbers, L=bins, width=table.number("width", 0.1, above=0),
                          quiet=quiet)
    shape = SinN(n=2.0)
    nominal = (1e3 * p.factor * (p.band[:, 1] - p.band[:, 0]))[:, None]              # factor times keV
    rate, background = p.rate / nominal, p.background / nominal
    flux = np.maximum(rate - background, 0.1 * background) / float(shape.omnidirectional(1.0))
    channels = tuple(Channel(energy=tuple(b), shape=shape, label=f"{1e3 * b[0]:.0f}-{1e3 * b[1]:.0f} keV") for b in p.band)
    return Measured(table, p, rate, background, np.log(np.asarray(psd_of_flux(flux, energies[:, None]))), energies, channels)
