r"""Measured electron (or ion) distributions in two velocity coordinates: (energy, pitch angle, flux or f) -> f(v, xi).

    f(v, xi)   [s^3/m^6],  v = p/m (gamma times the speed),  xi = cos(pitch angle),  number = 2 pi int int f v^2 dv dxi

from arrays (`distribution`) or a CDF file (`read_cdf`: Van Allen Probes HOPE as it comes; other missions by the names of their
variables). v = p/m and f = m^3 j/p^2 are what Liouville conserves; at low energy they are the velocity and m^2 j/(2 E).

A fill or negative value is an error unless it is masked: nothing is replaced silently. Zero counts are data.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from .coefficients import parameters, static
from .constants import LIGHT_SPEED, rest_energy
from .constants import species as as_species
from .physics.invariants import FLUX_UNITS, psd_of_flux

__all__ = ["Distribution", "distribution", "pitch_angle_edges", "read_cdf", "TimeSeries"]

_FILL = 1e30                                             # beyond this a value is a fill value
_EV = {"eV": 1e-6, "keV": 1e-3, "MeV": 1.0}
_QUANTITIES = ("flux", "energy flux", "psd")


@parameters
class Distribution:
    """f [s^3/m^6] on (energy, pitch-angle bin) at one time, or the mean of several; a pytree. Build it with `distribution`.

    energy [eV] (n,) increasing; edges [rad] (m + 1,), 0 to pi, increasing: the walls of the pitch-angle bins; f (n, m);
    sigma (n, m): its standard error, or None; valid (n, m): where f is data. Elsewhere f is 0 and sigma 1: never looked at.
    """

    energy: Any
    edges: Any
    f: Any
    sigma: Any
    valid: Any
    species: Any = "electron"
    label: str = static("")

    def __post_init__(self):
        object.__setattr__(self, "species", as_species(self.species))

    @property
    def v2(self):
        """v^2 = (E/m)(2 + E/(m c^2)) [m^2/s^2], (n,)."""
        gain = 1e-6 * self.energy / rest_energy(self.species)
        return LIGHT_SPEED ** 2 * gain * (2.0 + gain)

    @property
    def v(self):
        """p/m [m/s], (n,): gamma times the speed."""
        return jnp.sqrt(self.v2)

    @property
    def xi_edges(self):
        """Cosines of the walls (m + 1,), decreasing from 1 to -1."""
        return (np if isinstance(self.edges, np.ndarray) else jnp).cos(self.edges)

    @property
    def xi(self):
        """Cosine in the middle of each bin (m,)."""
        return 0.5 * (self.xi_edges[1:] + self.xi_edges[:-1])

    @property
    def width(self):
        """Extent of each bin in xi (m,): its share of the solid angle times 2."""
        return self.xi_edges[:-1] - self.xi_edges[1:]

    def between(self, low: float, high: float) -> Distribution:
        """The energies low to high [eV]. Raises ValueError if fewer than four are left."""
        keep = (np.asarray(self.energy) >= low) & (np.asarray(self.energy) <= high)
        if keep.sum() < 4:
            raise ValueError(f"{keep.sum()} energies between {low:g} and {high:g} eV; the distribution covers "
                             f"{float(self.energy[0]):g} to {float(self.energy[-1]):g} eV and four are needed")
        sigma = None if self.sigma is None else self.sigma[keep]
        return self.replace(energy=self.energy[keep], f=self.f[keep], sigma=sigma, valid=self.valid[keep])


def pitch_angle_edges(centers):
    """Walls [rad] of pitch-angle bins with these centres [rad], 0 to pi.

    Where bins of which each centre is the exact middle tile 0 to pi (HOPE: 4.5, 18, 36, ..., 162, 175.5 degrees have walls at 0,
    9, 27, ..., 171, 180) those; else half-way between centres, the end bins symmetric about theirs but within 0 to pi.
    Raises ValueError unless the centres increase within 0 to pi.
    """
    c = np.asarray(centers, dtype=np.float64)
    if c.ndim != 1 or c.size < 2 or not np.isfinite(c).all() or (np.diff(c) <= 0).any() or c[0] < 0 or c[-1] > np.pi + 1e-6:
        raise ValueError(f"pitch_angle = {c.min() if c.size else np.nan:g} to {c.max() if c.size else np.nan:g}: two or more "
                         "angles, increasing, 0 to pi, in radians (np.deg2rad for degrees)")
    walls = [0.0]
    for x in c:
        walls.append(2.0 * x - walls[-1])
    walls = np.array(walls)
    if (np.diff(walls) > 0).all() and abs(walls[-1] - np.pi) < 1e-4:
        walls[-1] = np.pi
        return walls
    middle = 0.5 * (c[1:] + c[:-1])
    return np.concatenate([[max(0.0, 2.0 * c[0] - middle[0])], middle, [min(np.pi, 2.0 * c[-1] - middle[-1])]])


def _first(bad, f, energy, edges):
    """'f[3, 0] = -1e+31 at 15 eV, 4.5 deg (200 of 792 values)' for the first True of `bad`."""
    i, j = (int(k) for k in np.argwhere(bad)[0])
    middle = np.rad2deg(0.5 * (edges[j] + edges[j + 1]))
    return f"[{i}, {j}] = {f[i, j]:g} at {energy[i]:g} eV, {middle:.3g} deg ({int(bad.sum())} of {f.size} values)"


def _is_fill(x):
    return ~np.isfinite(x) | (np.abs(x) >= _FILL)


def distribution(energy, pitch_angle=None, *, f=None, flux=None, sigma=None, mask=None, edges=None, species="electron",
                 per="keV", label="") -> Distribution:
    """A `Distribution` from arrays (energy, pitch-angle bin).

    energy [eV] (n,), increasing. pitch_angle [rad] (m,), the centres of the bins (see `pitch_angle_edges`), or edges [rad]
    (m + 1,). One of f [s^3/m^6], or flux [1/(cm^2 s sr keV), per="eV", "keV" or "MeV"]; sigma: its standard error in the same
    unit, a number or (n, m). mask (n, m), or (m,) for whole bins: True where the value is data; None: everywhere.

    Raises ValueError, one line, for shapes that do not fit, energies that do not increase, and at places that are not masked
    out: a fill value (not finite, or beyond 1e30 in size), a negative value, a standard error that is not above 0.
    """
    energy = np.asarray(energy, dtype=np.float64)
    if energy.ndim != 1 or energy.size < 4 or not (np.isfinite(energy).all() and (np.diff(energy, prepend=0.0) > 0).all()):
        raise ValueError(f"energy: four or more values [eV], above 0 and increasing, got shape {energy.shape}"
                         + (f", {energy.ravel()[0]:g} to {energy.ravel()[-1]:g}" if energy.size else ""))
    if (pitch_angle is None) == (edges is None):
        raise ValueError("distribution: give either pitch_angle (centres) or edges of the bins, in radians")
    if edges is None:
        edges = pitch_angle_edges(pitch_angle)
    edges = np.asarray(edges, dtype=np.float64)
    if edges.ndim != 1 or edges.size < 3 or not (np.diff(edges) > 0).all() or edges[0] < -1e-9 or edges[-1] > np.pi + 1e-6:
        raise ValueError("edges: the walls of two or more pitch-angle bins, increasing, 0 to pi, in radians")
    edges = np.clip(edges, 0.0, np.pi)
    if (f is None) == (flux is None):
        raise ValueError("distribution: give either f [s^3/m^6] or flux [1/(cm^2 s sr keV)]")
    name, value = ("f", f) if flux is None else ("flux", flux)
    value = np.asarray(value, dtype=np.float64)
    shape = (energy.size, edges.size - 1)
    if value.shape != shape:
        raise ValueError(f"{name}: has shape {value.shape}, but there are {shape[0]} energies and {shape[1]} pitch-angle bins: "
                         f"needs {shape}")
    try:
        valid = np.broadcast_to(True if mask is None else np.asarray(mask, dtype=bool), shape)
        error = None if sigma is None else np.broadcast_to(np.asarray(sigma, dtype=np.float64), shape)
    except ValueError as err:
        raise ValueError(f"mask and sigma must have the shape {shape} of {name}, or broadcast to it") from err
    bad = valid & (_is_fill(value) | (value < 0))
    if bad.any():
        raise ValueError(f"{name}{_first(bad, value, energy, edges)}: a fill or negative value; leave such places out with mask= "
                         "(True where the value is data)")
    if error is not None and (valid & ~((error > 0) & ~_is_fill(error))).any():
        bad = valid & ~((error > 0) & ~_is_fill(error))
        raise ValueError(f"sigma{_first(bad, error, energy, edges)}: a standard error is above 0 and finite; leave the place out "
                         "with mask=")
    of = as_species(species)
    if flux is not None:
        factor = _psd_per_flux(energy, of, per)
        value, error = value * factor, None if error is None else error * factor
    value = np.where(valid, value, 0.0)
    error = None if error is None else np.where(valid, error, np.where(value > 0, value, 1.0))
    return Distribution(energy=energy, edges=edges, f=value, sigma=error, valid=np.array(valid), species=of, label=label)


def _psd_per_flux(energy, species, per):
    """f = factor * flux, (n, 1)."""
    if per not in _EV:
        raise ValueError(f"per: {per!r} is unknown; use 'eV', 'keV' or 'MeV', the energy in the unit of the flux")
    scale = 1e3 if per == "eV" else 1.0                                       # 1/eV in 1/keV
    unit = per if per in FLUX_UNITS else "keV"
    return scale * np.asarray(psd_of_flux(1.0, 1e-6 * energy, species, per=unit, units="velocity relativistic"))[:, None]


# ---- files

class TimeSeries:
    """Spectra of one instrument in time order, in numpy: `times` (t,) datetime64, `energy` [eV] (t, n), `edges` [rad] (m + 1,),
    `value` (t, n, m) with its `quantity` and `per`, `valid` (t, n, m), `species`, `label`."""

    def __init__(self, times, energy, edges, value, valid, *, quantity, per, species, label):
        self.times, self.energy, self.edges, self.value, self.valid = times, energy, edges, value, valid
        self.quantity, self.per, self.species, self.label = quantity, per, as_species(species), label

    def __len__(self):
        return len(self.times)

    def __repr__(self):
        t, n, m = self.value.shape
        return (f"TimeSeries({self.label}: {t} spectra {self.times[0]} to {self.times[-1]}, {n} energies "
                f"{self.energy.min():g} to {self.energy.max():g} eV, {m} pitch-angle bins, {self.valid.mean():.0%} valid)")

    def select(self, keep) -> TimeSeries:
        """The records where `keep` (t,) is True, or with these numbers. Raises ValueError if none is left."""
        out = TimeSeries(self.times[keep], self.energy[keep], self.edges, self.value[keep], self.valid[keep],
                         quantity=self.quantity, per=self.per, species=self.species, label=self.label)
        if len(out) == 0:
            raise ValueError(f"{self.label}: no spectrum is left of {len(self)}")
        return out

    def between(self, start, stop) -> TimeSeries:
        """The records of start <= time < stop (datetime64, or text such as '2012-12-01T00:10')."""
        start, stop = np.datetime64(start), np.datetime64(stop)
        keep = (self.times >= start) & (self.times < stop)
        if not keep.any():
            raise ValueError(f"{self.label}: no spectrum from {start} to {stop}; it covers {self.times[0]} to {self.times[-1]}")
        return self.select(keep)

    def same_energies(self) -> TimeSeries:
        """The records with the commonest table of energies (to 1e-4): instruments switch between tables."""
        rounded = np.round(np.log(self.energy) / 1e-4).astype(np.int64)
        _, which, count = np.unique(rounded, axis=0, return_inverse=True, return_counts=True)
        return self.select(which.ravel() == np.argmax(count))

    def merge_energies(self, count: int = 2) -> TimeSeries:
        """Means over `count` neighbouring energies, at their geometric mean: for data sent down in combined channels (HOPE before
        September 2013: pairs), whose neighbours are not independent. A leftover at the end is dropped."""
        t, n, m = self.value.shape
        k = n // count
        value, valid = (x[:, :k * count].reshape(t, k, count, m) for x in (self.value, self.valid))
        energy = np.exp(np.log(self.energy[:, :k * count]).reshape(t, k, count).mean(axis=2))
        some = valid.sum(axis=2)
        mean = np.where(valid, value, 0.0).sum(axis=2) / np.maximum(some, 1)
        return TimeSeries(self.times, energy, self.edges, mean, some == count, quantity=self.quantity, per=self.per,
                          species=self.species, label=self.label)

    def mean(self, common_level: bool = True) -> Distribution:
        """The mean over time and its standard error from the scatter in time, as a `Distribution`.

        common_level: the scatter about a level that changes in time and is the same for all pitch angles of an energy, which says
        nothing on the anisotropy; False: the whole scatter. The error grows by sqrt((1 + r)/(1 - r)), r the correlation of
        neighbouring records (mean of an energy's bins, 0 to 0.9). Zero counts count as 0. Left out: places with fewer than three
        valid records, and every bin of an energy at which one shows no scatter (all zero): dropping only that one would bias.
        Raises ValueError for negative values that are not marked as fill, for energies that change by more than 1 % of a step.
        """
        energy = self.energy.mean(axis=0)
        if (np.abs(self.energy - energy) > 0.01 * np.diff(energy).min() + 1e-6 * energy).any():
            raise ValueError(f"{self.label}: the energies change in time; same_energies() keeps records with the commonest ones")
        value, valid = np.where(self.valid, self.value, 0.0), self.valid
        if (value < 0).any():
            k, i, j = np.argwhere(value < 0)[0]
            raise ValueError(f"{self.label}: {value[k, i, j]:g} at {self.times[k]}, {energy[i]:g} eV, bin {j}: negative, no "
                             "fill value; select() records without, or set .valid False there")
        many = valid.sum(axis=0)
        mean = value.sum(axis=0) / np.maximum(many, 1)
        width = -np.diff(np.cos(self.edges))
        level = (value * width).sum(axis=2) / np.maximum((valid * width).sum(axis=2), 1e-30)             # (t, n)
        # the level expected of the bins that a record has, were its shape the mean one
        expected = (np.where(valid, mean, 0.0) * width).sum(axis=2) / np.maximum((valid * width).sum(axis=2), 1e-30)
        change = level / np.where(expected > 0, expected, 1.0) if common_level else np.ones_like(level)
        off = np.where(valid, value - change[:, :, None] * mean, 0.0)
        variance = (off ** 2).sum(axis=0) / np.maximum(many - 1, 1)
        both = valid[1:] & valid[:-1]
        pairs = (off[1:] * off[:-1] * both).sum(axis=0) / np.maximum(both.sum(axis=0), 1)
        r = np.clip(np.where(many > 2, pairs / np.where(variance > 0, variance, 1.0), 0.0).sum(axis=1)
                    / np.maximum((many > 2).sum(axis=1), 1), 0.0, 0.9)[:, None]
        sigma = np.sqrt(variance / np.maximum(many, 1) * (1.0 + r) / (1.0 - r))
        good = many > 2
        good &= ~((good & ~(sigma > 0)).any(axis=1))[:, None]
        if not good.any():
            raise ValueError(f"{self.label}: {len(self)} spectra; an error from scatter in time needs three valid ones or more")
        name, scale = self._as(energy)
        return distribution(energy, edges=self.edges, **{name: np.where(good, mean * scale, 0.0)}, mask=good, per=self.per,
                            sigma=np.where(good, sigma * scale, 1.0), species=self.species, label=self.label)

    def record(self, k: int, relative: float | None = None) -> Distribution:
        """One spectrum; relative: its error as a fraction of the value."""
        name, scale = self._as(self.energy[k])
        value = np.where(self.valid[k], self.value[k] * scale, 0.0)
        sigma = None if relative is None else np.where(value > 0, relative * value, 1.0)
        return distribution(self.energy[k], edges=self.edges, **{name: value}, sigma=sigma, mask=self.valid[k], per=self.per,
                            species=self.species, label=f"{self.label} {self.times[k]}")

    def _as(self, energy):
        if self.quantity == "energy flux":                                   # over the energy, in the unit of both
            return "flux", 1.0 / (energy[:, None] * 1e-6 / _EV[self.per])
        return ("f", 1e12) if self.quantity == "psd" else ("flux", 1.0)      # s^3/cm^6 in s^3/m^6


def _units(name, attributes):
    text = attributes.get("UNITS", "")
    return "" if not isinstance(text, str) else text.replace("!N", "").replace("!E", "").replace("^", "").replace(" ", "")


def _energy_unit(name, unit, given):
    if given is not None:
        if given not in _EV:
            raise ValueError(f"energy_unit: {given!r} is unknown; use 'eV', 'keV' or 'MeV'")
        return given
    if unit in _EV:
        return unit
    raise ValueError(f"{name}: its unit {unit!r} is no unit of energy; give energy_unit='eV', 'keV' or 'MeV'")


def _quantity(name, unit, quantity, per):
    """(quantity, per) as given, else what the unit says."""
    known = [e for e in ("keV", "MeV", "eV") if e in unit]
    if quantity is None:
        if "s3" in unit and "cm-6" in unit or "s3/cm6" in unit:
            quantity = "psd"
        elif known and "cm" in unit and unit.count("eV") == 1:
            quantity = "flux"
        elif known and "cm" in unit and unit.count("eV") == 2:
            quantity = "energy flux"
        else:
            raise ValueError(f"{name}: its unit {unit!r} is not recognised; give quantity='flux', 'energy flux' or 'psd'")
    if quantity not in _QUANTITIES:
        raise ValueError(f"quantity: {quantity!r} is unknown; use 'flux', 'energy flux' or 'psd'")
    return quantity, per or (known[0] if known else "keV")


def read_cdf(path, flux: str = "FEDU", energy: str = "HOPE_ENERGY_Ele", pitch_angle: str = "PITCH_ANGLE",
             epoch: str = "Epoch_Ele", *, quantity: str | None = None, per: str | None = None, energy_unit: str | None = None,
             edges=None, species="electron") -> TimeSeries:
    """Pitch-angle resolved spectra of a CDF file as a `TimeSeries` (needs cdflib: the extra `cdf`).

    flux, energy, pitch_angle, epoch: names of its variables, by default those of Van Allen Probes HOPE, level 3, electrons.
    flux: (time, pitch angle, energy) or (time, energy, pitch angle), told apart by DEPEND_1 and DEPEND_2, else by size; energy
    (n,) or (time, n); pitch_angle [degrees] (m,), centres of the bins (`pitch_angle_edges`), or edges [degrees] (m + 1,) given.
    quantity: "flux" [1/(cm^2 s sr per)], "energy flux" [per/(cm^2 s sr per)] or "psd" [s^3/cm^6]; per, energy_unit: "eV", "keV",
    "MeV"; None: from the variables' UNITS. Fill values (FILLVAL, not finite, beyond 1e30) are marked not valid; zeros stay.

    Raises FileNotFoundError; ImportError without cdflib; ValueError, one line, for a file that is no CDF, a variable it does not
    have (with those it has), an energy or epoch that is not the flux's own, arrays that do not fit,
    units that are not recognised.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        import cdflib
    except ImportError as err:
        raise ImportError("reading a CDF file needs cdflib: pip install 'jaxbelt[cdf]'") from err
    try:
        file = cdflib.CDF(path)
        info = file.cdf_info()
    except Exception as err:                                                  # OSError, ValueError, struct.error, ...
        why = (str(err) or type(err).__name__).splitlines()[0]
        raise ValueError(f"{path}: is not a CDF file that can be read ({why})") from err
    there = [*info.zVariables, *info.rVariables]
    for argument, name in (("flux", flux), ("energy", energy), ("pitch_angle", pitch_angle), ("epoch", epoch)):
        if name not in there and not (argument == "pitch_angle" and edges is not None):
            raise ValueError(f"{path.name}: has no variable {name!r} ({argument}=); it has {', '.join(sorted(there))}")
    notes = {name: file.varattsget(name) for name in (flux, energy)}
    value = np.asarray(file.varget(flux), dtype=np.float64)
    energies = np.asarray(file.varget(energy), dtype=np.float64)
    if edges is None:
        angles = np.asarray(file.varget(pitch_angle), dtype=np.float64)
        angles = angles[0] if angles.ndim == 2 else angles
        walls = pitch_angle_edges(np.deg2rad(angles))
    else:
        walls = np.deg2rad(np.asarray(edges, dtype=np.float64))
    try:
        times = np.atleast_1d(np.asarray(cdflib.cdfepoch.to_datetime(file.varget(epoch)))).astype("datetime64[ms]")
    except Exception as err:
        raise ValueError(f"{path.name}: {epoch!r} (epoch=) is not a variable of times") from err
    n, m, t = energies.shape[-1], len(walls) - 1, len(times)
    if energies.shape not in ((n,), (t, n)):
        raise ValueError(f"{path.name}: {energy!r} (energy=) has shape {energies.shape}; needs (energy,) or (time, energy)")
    if value.ndim != 3 or value.shape[0] != t or sorted(value.shape[1:]) != sorted((n, m)):
        raise ValueError(f"{path.name}: {flux!r} has shape {value.shape}; needs (time, pitch angle, energy) = {(t, m, n)} or "
                         "with the last two exchanged: average over gyrophase, bin by pitch angle first")
    first = notes[flux].get("DEPEND_1")
    if value.shape[1:] != (n, m) or (n == m and first == pitch_angle):
        value = value.swapaxes(1, 2)
    energies = np.broadcast_to(energies, (t, n)) * 1e6 * _EV[_energy_unit(energy, _units(energy, notes[energy]), energy_unit)]
    fill = notes[flux].get("FILLVAL", -1e31)
    valid = ~_is_fill(value)
    if isinstance(fill, (int, float, np.number)) and np.isfinite(fill) and fill != 0:
        valid &= ~np.isclose(value, float(fill), rtol=1e-6)
    if n > 1 and (energies[0, 1:] < energies[0, :-1]).all():
        energies, value, valid = energies[:, ::-1], value[:, ::-1], valid[:, ::-1]
    quantity, per = _quantity(flux, _units(flux, notes[flux]), quantity, per)
    if not valid.any():
        raise ValueError(f"{path.name}: {flux!r} holds nothing but fill values")
    said = {notes[flux].get(f"DEPEND_{k}") for k in range(3)} & set(there)
    for argument, name in (("energy", energy), ("epoch", epoch)):
        if len(said) == 3 and name not in said:
            raise ValueError(f"{path.name}: {flux!r} depends on {', '.join(sorted(said))}, not on {name!r} ({argument}=); "
                             "name its own variables (and the species)")
    return TimeSeries(times, energies, walls, np.where(valid, value, np.nan), valid, quantity=quantity, per=per, species=species,
                      label=f"{path.name} {flux}")
