r"""Tables of omnidirectional differential flux over (energy, L), such as AE-8: read, checked, interpolated.

    J(E, L) [1/(cm^2 s MeV)],  ln J linear in ln E and in ln L between the nodes

AE-8: Vette (1991), The AE-8 trapped electron model environment, NSSDC/WDC-A-R&S 91-24. At the equator radial distance is L.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbelt.coefficients import evaluate, parameters, static
from jaxbelt.grid import Frozen
from jaxbelt.physics.invariants import FLUX_UNITS
from jaxbelt.physics.ranges import check_outside

__all__ = ["FluxReport", "FluxTable", "flux_table", "read_flux_table"]


@dataclasses.dataclass(frozen=True)
class FluxReport:
    """What was found in a table: values in all; zeros: places without flux, kept; gaps: places without a value, filled along the
    energy; rising: places where the flux is larger than at the next lower energy, which no integral spectrum can have."""

    values: int
    zeros: int
    gaps: int
    rising: int

    def __str__(self):
        text = f"{self.values} values"
        for count, what in ((self.zeros, "without flux"), (self.gaps, "missing and filled along the energy"),
                            (self.rising, "above the next lower energy's")):
            text += f", {count} {what}" if count else ""
        return text


@parameters
class FluxTable:
    r"""Omnidirectional differential flux [1/(cm^2 s MeV)] as a callable of (energy [MeV], L). Build it with `flux_table`.

    log_flux (n_energy, n_L): natural logarithms, a leaf (-inf: no flux). factor: on all of it, a number, a `Series`, or a
    callable of (t, energy, L[, phi]). Axes (static): energy [MeV], L. Power laws between the nodes; beside a place without flux
    J itself is linear in the logarithms. outside_energy, outside_L: beyond the nodes, "error" (traced: NaN), "nearest"
    (the edge value; for energies above the table an unphysically hard spectrum), or "extrapolate" (the last power law goes on).
    """

    log_flux: Any
    factor: Any = 1.0
    energy: Any = static()
    L: Any = static()
    outside_energy: str = static("error")
    outside_L: str = static("error")
    report: Any = static(None)

    def __post_init__(self):
        check_outside("FluxTable energy", self.outside_energy)
        check_outside("FluxTable L", self.outside_L)

    @property
    def flux(self):
        """The values at the nodes [1/(cm^2 s MeV)], (n_energy, n_L)."""
        return jnp.exp(self.log_flux)

    def covers(self, energy, L) -> str:
        """A sentence naming what of (energy [MeV], L) lies outside the table, or ""."""
        said = []
        for name, unit, given, nodes in (("E", " MeV", energy, self.energy.array), ("L", "", L, self.L.array)):
            if given is not None and not np.all(_inside(np.asarray(given), nodes)):
                said.append(f"{name} = {np.min(given):g} to {np.max(given):g}{unit} (table: {nodes[0]:g} to {nodes[-1]:g})")
        return " and ".join(said)

    def __call__(self, energy, L, phi=None, t=0.0):
        for name, value in (("energy", energy), ("L", L)):
            if isinstance(value, str):
                raise ValueError(f"FluxTable {name} = {value!r}: must be numbers, without a unit")
        asked, ways = (jnp.asarray(energy), jnp.asarray(L)), (self.outside_energy, self.outside_L)
        # traced values cannot be looked at
        said = self.covers(*(x if way == "error" and not isinstance(x, jax.core.Tracer) else None for x, way in zip(asked, ways)))
        if said:
            raise ValueError(f"FluxTable: {said}; give outside_energy or outside_L, 'nearest' or 'extrapolate', or another range")
        inside = _interpolated((self.energy, self.L), ways, self.log_flux, *asked)
        return inside * evaluate(self.factor, t, *asked, *(() if phi is None else (phi,)))


def _inside(x, nodes):
    slack = 1e-6 if x.dtype == np.float32 else 1e-9
    return (x >= nodes[0] * (1 - slack)) & (x <= nodes[-1] * (1 + slack))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _interpolated(axes, ways, values, energy, L):
    (i, w, seen), (j, v, also) = (_between(x, axis.array, way) for x, axis, way in zip((energy, L), axes, ways))
    values = jnp.asarray(values)
    lines = [_mix(values[i, j + k], values[i + 1, j + k], w) for k in (0, 1)]
    return jnp.where(seen & also, jnp.exp(_mix(*lines, v)), jnp.nan)


def _between(x, nodes, outside):
    """(lower node, weight of the next in the logarithm, whether x may be asked for)."""
    x = jnp.clip(x, nodes[0], nodes[-1]) if outside == "nearest" else x
    log, logs = jnp.log(x), np.log(nodes)
    i = jnp.clip(jnp.searchsorted(jnp.asarray(logs), log, side="right") - 1, 0, nodes.size - 2)
    w = (log - jnp.asarray(logs)[i]) / jnp.asarray(np.diff(logs))[i]
    return i, w, (outside != "error") | _inside(x, nodes)


def _mix(a, b, w):
    """Logarithms mixed linearly; beside one that is -inf (no flux) the values themselves, never below zero."""
    some_a, some_b = jnp.isfinite(a), jnp.isfinite(b)
    both = some_a & some_b
    one = jnp.where(some_a, a, jnp.where(some_b, b, 0.0))
    share = jnp.where(some_a, 1.0 - w, jnp.where(some_b, w, 0.0))
    left = share > 0
    alone = jnp.where(left, one + jnp.log(jnp.where(left, share, 1.0)), -jnp.inf)
    return jnp.where(both, jnp.where(both, a, 0.0) * (1.0 - w) + jnp.where(both, b, 0.0) * w, alone)


def flux_table(energy, L, flux, *, per="MeV", outside_energy="error", outside_L="error", name="flux_table") -> FluxTable:
    """A `FluxTable` from arrays: energy [MeV] (n_energy,) and L (n_L,), both increasing; flux [1/(cm^2 s per)] (n_energy, n_L),
    omnidirectional and differential; per: "MeV" or "keV". Zeros stay zeros; a gap (NaN) between two values at its L is filled
    with the power law between them, and both are counted in `.report`.

    Raises ValueError, one line, for axes that do not increase or are not above 0, shapes that do not fit, negative or infinite
    fluxes, gaps that have no value on one side.
    """
    if per not in FLUX_UNITS:
        raise ValueError(f"{name} per: {per!r} is unknown; use 'keV' or 'MeV', the energy in the unit of the flux")
    axes = []
    for what, unit, nodes in (("energy", " MeV", energy), ("L", "", L)):
        nodes = _floats(f"{name} {what}", nodes)
        if nodes.ndim != 1 or nodes.size < 2:
            raise ValueError(f"{name} {what}: needs two or more values in one dimension, got shape {nodes.shape}")
        bad = ~(np.diff(nodes, prepend=0.0) > 0) | ~np.isfinite(nodes)
        if bad.any():
            k = int(np.argmax(bad))
            after = f"follows {nodes[k - 1]:g}{unit}" if k else "comes first"
            raise ValueError(f"{name} {what}: values must be above 0 and increase, but {nodes[k]:g}{unit} {after}")
        axes.append(nodes)
    energy, L = axes
    flux = _floats(f"{name} flux", flux) * FLUX_UNITS[per]
    if flux.shape != (energy.size, L.size):
        raise ValueError(f"{name} flux: has shape {flux.shape}, but there are {energy.size} energies and {L.size} values of L: "
                         f"needs {(energy.size, L.size)}")
    bad = (flux < 0) | np.isinf(flux)
    if bad.any():
        i, j = np.argwhere(bad)[0]
        raise ValueError(f"{name} flux = {flux[i, j]:g} at E = {energy[i]:g} MeV, L = {L[j]:g}: a flux is finite and not "
                         "negative (NaN where there is none)")
    gaps = np.isnan(flux)
    with np.errstate(divide="ignore"):
        logs = np.log(flux)
    for i, j in np.argwhere(gaps):
        below, above = (np.flatnonzero(~gaps[side, j]) for side in (slice(None, i), slice(i + 1, None)))
        if not (below.size and above.size):
            raise ValueError(f"{name} flux: missing at E = {energy[i]:g} MeV, L = {L[j]:g}, at an end of the energies; leave out "
                             "that energy or that L")
        a, b = below[-1], i + 1 + above[0]
        w = np.log(energy[i] / energy[a]) / np.log(energy[b] / energy[a])
        logs[i, j] = np.asarray(_mix(logs[a, j], logs[b, j], w))
    rising = int((np.diff(np.exp(logs), axis=0) > 0).sum())
    report = FluxReport(int(flux.size), int((flux == 0).sum()), int(gaps.sum()), rising)
    return FluxTable(log_flux=logs, energy=Frozen(energy), L=Frozen(L), outside_energy=outside_energy, outside_L=outside_L,
                     report=report)


def _floats(name, values):
    try:
        return np.array(values, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: must be numbers, got {values!r:.40}") from None


def read_flux_table(path, *, per=None, outside_energy="error", outside_L="error") -> FluxTable:
    """A `FluxTable` from a file: a first line that names the unit, the sizes (n_L n_energy), L of the columns, energies [MeV] of
    the rows, then n_energy rows of n_L fluxes; what follows "!" is a remark.

    per: "MeV" or "keV", by default from the remark of the first line, (cm^2 s MeV)^-1: such a unit is a differential flux; one
    without an energy would be an integral flux and is refused. The other options and errors are those of `flux_table`; for a
    file that is not of this form ValueError, one line, too.
    """
    if not isinstance(path, (str, Path)):
        raise ValueError(f"read_flux_table path: must name a file, got {path!r:.40}")
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    lines = path.read_text(encoding="latin-1").splitlines()
    if per is None:
        unit = re.search(r"\bs\s*([kM]eV)\s*\)\s*\^?-1", lines[0] if lines else "")
        if unit is None:
            raise ValueError(f"{path}: its first line names no unit such as (cm^2 s MeV)^-1; if the fluxes are differential and "
                             "omnidirectional, give per='MeV' or 'keV'")
        per = unit[1]
    numbers = []
    for k, line in enumerate(lines[1:], 2):
        for word in line.partition("!")[0].split():
            try:
                numbers.append(float(word))
            except ValueError:
                raise ValueError(f"{path}: line {k} has {word!r}, which is no number") from None
    if len(numbers) < 2 or numbers[0] % 1 or numbers[1] % 1 or min(numbers[:2]) < 2:
        raise ValueError(f"{path}: its second line must give the numbers of L and of energies, two or more each")
    n, m = int(numbers[0]), int(numbers[1])
    if len(numbers) != 2 + n + m + n * m:
        raise ValueError(f"{path}: holds {len(numbers) - 2} numbers, but {n} values of L, {m} energies and their fluxes are "
                         f"{n + m + n * m}")
    L, energy, flux = np.split(np.asarray(numbers[2:]), [n, n + m])
    return flux_table(energy, L, flux.reshape(m, n), per=per, outside_energy=outside_energy, outside_L=outside_L, name=str(path))
