r"""Tables of quasi-linear diffusion coefficients of waves (PADIE and Horne's format): read, checked, interpolated.

    D_aa, D_ap/p, D_pp/p^2 [1/s in the files, 1/day here]   at (L, f_pe/f_ce, E, alpha_eq), for one amplitude; D ~ amplitude^2

Interpolated are the two diagonals, as logarithms where nothing is zero, and the correlation D_ap/(D_aa D_pp)^(1/2), as it is:
between tensors that are positive semi-definite every interpolated one is, by construction.
"""

from __future__ import annotations

import dataclasses
import io
import math
import re
import tarfile
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxbelt.coefficients import evaluate, parameters, static
from jaxbelt.constants import SECONDS_PER_DAY
from jaxbelt.grid import Frozen

__all__ = ["TableReport", "WaveTable", "read_wave_tables"]

_ROW = 7                                  # alpha, D_aa/p^2, D_aE/E^2, D_EE/E^2, D_ap/p^2, D_pp/p^2, mirror latitude
_TOLERANCE = 0.01                         # by which |correlation| may exceed 1 before a table is refused


@dataclasses.dataclass(frozen=True)
class TableReport:
    """What was found in the tables: rows in all; empty: rows without any diffusion; off: rows that were not positive
    semi-definite, brought back by shortening D_ap; worst: the largest D_ap^2/(D_aa D_pp) - 1 among them."""

    rows: int
    empty: int
    off: int
    worst: float

    def __str__(self):
        text = f"{self.rows} rows, {self.empty} of them without diffusion"
        if self.off:
            text += f"; {self.off} not positive semi-definite, by up to {100 * self.worst:.2g} %: D_ap was reduced to the limit"
        return text


@parameters
class WaveTable:
    r"""D_aa, D_ap/p, D_pp/p^2 [1/day] as a callable of (t, alpha, energy, L): three arrays that broadcast with the arguments.

    log_aa, log_pp, correlation: (n_L, n_ratio, n_energy, n_alpha), leaves (-inf: no diffusion). Axes (static): L; ratio =
    f_pe/f_ce; energy [MeV]; alpha_low (n_L,): first pitch angle [rad] of each L, from where alpha is evenly spaced up to 90
    degrees (not included: D_aa and D_pp go on evenly, D_ap oddly). amplitude [pT]: of the waves that the tables are for.
    power: factor on all of D, a number, a `Series`, or a callable of (t, L[, phi]): (B_w/amplitude)^2 times the share of local
    times with waves. density: f_pe/f_ce, likewise. Beyond the tables in L, ratio and E their edge values are used, but
    `local_diffusion.problem` refuses a grid that goes outside in L or E unless outside="edge" says so; there is no diffusion
    inside alpha_low.
    """

    log_aa: Any
    correlation: Any
    log_pp: Any
    power: Any = 1.0
    density: Any = 2.5
    L: Any = static()
    ratio: Any = static()
    energy: Any = static()
    alpha_low: Any = static()
    amplitude: float = static(100.0)
    report: Any = static(None)
    outside: str = static("error")
    electrons = True

    def covers(self, energy, L, density=None) -> str:
        """A sentence naming what of (energy [MeV], L, f_pe/f_ce) lies outside the tables, or ""."""
        said = []
        for name, unit, given, nodes in (("E", " MeV", energy, self.energy.array), ("L", "", L, self.L.array),
                                         ("f_pe/f_ce", "", density, self.ratio.array)):
            if given is None:
                continue
            low, high = float(np.min(given)), float(np.max(given))
            if low < nodes[0] * (1 - 1e-9) or high > nodes[-1] * (1 + 1e-9):
                said.append(f"{name} = {low:g} to {high:g}{unit} (tables: {nodes[0]:g} to {nodes[-1]:g})")
        return " and ".join(said)

    def __call__(self, t, alpha, energy, L, *rest):
        alpha, energy, L = (jnp.asarray(x) for x in (alpha, energy, L))
        power, density = evaluate(self.power, t, L, *rest), evaluate(self.density, t, L, *rest)
        folded = 0.5 * math.pi - jnp.abs(0.5 * math.pi - alpha)                  # beyond 90 degrees: the other hemisphere
        i, wi = _between(self.L.array, L)
        j, wj = _between(np.log(self.ratio.array), jnp.log(density))
        k, wk = _between(np.log(self.energy.array), jnp.log(energy))
        n = jnp.shape(self.log_aa)[-1]
        edge = jnp.asarray(self.alpha_low.array)
        low = edge[i] * (1 - wi) + edge[i + 1] * wi
        x = (folded - low) / (0.5 * math.pi - low) * n                           # node n would be at 90 degrees
        inside = x >= -1e-9
        m = jnp.clip(jnp.floor(x), 0, n - 1).astype(int)
        wm = jnp.clip(x - m, 0.0, 1.0)
        last = m == n - 1
        sign = jnp.where(alpha > 0.5 * math.pi, -1.0, 1.0)
        out = []
        for values, odd in ((self.log_aa, False), (self.correlation, True), (self.log_pp, False)):
            values = jnp.asarray(values)

            def corner(a, b, c, values=values, odd=odd):
                first = values[i + a, j + b, k + c, m]
                mirrored = 0.0 if odd else first
                return first, jnp.where(last, mirrored, values[i + a, j + b, k + c, jnp.minimum(m + 1, n - 1)])

            mix = _linear if odd else _geometric
            cube = [[[mix(*corner(a, b, c), wm) for c in (0, 1)] for b in (0, 1)] for a in (0, 1)]
            plane = [[mix(*row, wk) for row in sheet] for sheet in cube]
            out.append(mix(*(mix(*line, wj) for line in plane), wi))
        aa, rho, pp = jnp.exp(out[0]), out[1] * sign, jnp.exp(out[2])
        aa, pp = (jnp.where(inside, x * (power * SECONDS_PER_DAY), 0.0) for x in (aa, pp))
        both = (aa > 0) & (pp > 0)
        return aa, rho * jnp.sqrt(jnp.where(both, aa, 1.0)) * jnp.where(both, jnp.sqrt(jnp.where(both, pp, 1.0)), 0.0), pp


def _between(nodes, x):
    """(lower node, weight of the next), held at the ends."""
    if nodes.size == 1:
        return jnp.zeros(jnp.shape(x), int), jnp.zeros(jnp.shape(x))
    i = jnp.clip(jnp.searchsorted(jnp.asarray(nodes), x, side="right") - 1, 0, nodes.size - 2)
    left, right = jnp.asarray(nodes)[i], jnp.asarray(nodes)[i + 1]
    return i, jnp.clip((x - left) / (right - left), 0.0, 1.0)


def _linear(a, b, w):
    return a * (1.0 - w) + b * w


def _geometric(a, b, w):
    """Logarithms mixed linearly; where one is -inf (no diffusion) the values themselves are."""
    both = jnp.isfinite(a) & jnp.isfinite(b)
    safe_a, safe_b = jnp.where(both, a, 0.0), jnp.where(both, b, 0.0)
    top = jnp.where(jnp.isfinite(a), a, jnp.where(jnp.isfinite(b), b, 0.0))
    share = jnp.where(jnp.isfinite(a), 1.0 - w, jnp.where(jnp.isfinite(b), w, 0.0))
    some = share > 0
    return jnp.where(both, _linear(safe_a, safe_b, w), jnp.where(some, top + jnp.log(jnp.where(some, share, 1.0)), -jnp.inf))


def read_wave_tables(path, amplitude: float | None = None) -> WaveTable:
    """The tables in a folder or a .tgz archive of files `*_l4.5_d2.5_e300.out` (PADIE output: L, f_pe/f_ce, keV in the name).

    amplitude [pT]: what the tables are for, by default what they say of themselves. The rows of a table that are not positive
    semi-definite by at most 1 % are brought back and counted in `.report`.
    Raises ValueError, one line, for a folder without tables, combinations of L, ratio and energy that are missing, tables of
    different pitch angles at one L, values that are not finite, tensors off by more than 1 %.
    """
    path = Path(path)
    found = {}
    for name, text in _texts(path):
        at = re.search(r"_l([\d.]+)_d([\d.]+)_e([\d.]+)\.out$", name)
        if at:
            found[tuple(float(x) for x in at.groups())] = (name, *_rows(name, text))
    if not found:
        raise ValueError(f"{path}: holds no wave tables; expected files such as fb_l4.5_d2.5_e300.out (PADIE output), in a "
                         "folder or a .tgz archive")
    axes = [np.unique([key[k] for key in found]) for k in range(3)]
    missing = [(a, b, c) for a in axes[0] for b in axes[1] for c in axes[2] if (a, b, c) not in found]
    if missing:
        a, b, c = missing[0]
        whole = int(np.prod([x.size for x in axes]))
        raise ValueError(f"{path}: {len(missing)} of {whole} tables are missing, the first L = {a:g}, f_pe/f_ce = {b:g}, "
                         f"E = {c:g} keV; a grid of tables must have no gaps")
    low = []
    for a in axes[0]:
        angles = [found[key][1][:, 0] for key in found if key[0] == a]
        if any(x.shape != angles[0].shape or np.abs(x - angles[0]).max() > 1e-3 for x in angles):
            raise ValueError(f"{path}: the tables at L = {a:g} have different pitch angles")
        low.append(angles[0][0])
    n = {found[key][1].shape[0] for key in found}
    if len(n) > 1:
        raise ValueError(f"{path}: the tables have {min(n)} to {max(n)} pitch angles; all must have as many")
    values = np.array([[[found[a, b, c][1][:, [1, 4, 5]] for c in axes[2]] for b in axes[1]] for a in axes[0]])
    aa, ap, pp = np.moveaxis(values, -1, 0)
    names = np.array([[[found[a, b, c][0] for c in axes[2]] for b in axes[1]] for a in axes[0]])
    rho, report = _correlation(aa, ap, pp, names)
    says = {found[key][2] for key in found}
    if amplitude is None:
        if len(says) != 1 or None in says:
            raise ValueError(f"{path}: the tables do not say one wave amplitude; give amplitude= in pT")
        amplitude = says.pop()
    with np.errstate(divide="ignore"):
        logs = np.log(aa), np.log(pp)
    return WaveTable(log_aa=logs[0], correlation=rho, log_pp=logs[1], L=Frozen(axes[0]), ratio=Frozen(axes[1]),
                     energy=Frozen(axes[2] / 1e3), alpha_low=Frozen(np.radians(low)), amplitude=float(amplitude), report=report)


def _texts(path: Path):
    """(name, text) of every file of tables in a folder or an archive."""
    if path.is_dir():
        for file in sorted(path.glob("*.out")):
            yield file.name, file.read_text(encoding="latin-1")
    elif path.is_file() and tarfile.is_tarfile(path):
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isfile() and member.name.endswith(".out"):
                    yield Path(member.name).name, io.TextIOWrapper(archive.extractfile(member), "latin-1").read()
    else:
        raise ValueError(f"{path}: is neither a folder nor an archive of wave tables")


def _rows(name, text):
    """(rows (n_alpha, 7) with diffusion angles above 0, amplitude [pT] or None)."""
    rows, amplitude, reading = [], None, False
    for line in text.splitlines():
        if line.strip().startswith("Pitch-Angle"):
            reading = True
        elif not reading and "Wave magnetic field" in line:
            amplitude = float(re.search(r"([\d.]+)\s*\(pT\)", line)[1])
        elif reading:
            words = line.split()
            if len(words) != _ROW:
                break
            try:
                rows.append([float(x) for x in words])
            except ValueError:
                raise ValueError(f"{name}: {line.strip()[:60]!r} is no row of {_ROW} numbers") from None
    rows = np.array(rows).reshape(-1, _ROW)
    rows = rows[rows[:, 0] > 0]                                # the first row is a placeholder at 0 degrees
    if rows.shape[0] < 2 or np.any(np.diff(rows[:, 0]) <= 0):
        raise ValueError(f"{name}: needs at least two rows of increasing pitch angle below 'Pitch-Angle'")
    if not np.all(np.isfinite(rows)) or np.any(rows[:, [1, 5]] < 0):
        raise ValueError(f"{name}: a coefficient is negative or not finite")
    return rows, amplitude


def _correlation(aa, ap, pp, names):
    """(D_ap/sqrt(D_aa D_pp) within [-1, 1], report); ValueError where it is off by more than the tolerance."""
    limit = np.sqrt(aa * pp)
    some = limit > 0
    rho = np.where(some, ap / np.where(some, limit, 1.0), 0.0)
    stray = ~some & (ap != 0)
    # D_ap^2 > D_aa D_pp by so much
    excess = np.where(stray, np.inf, rho**2 - 1.0)
    if excess.max() > _TOLERANCE:
        at = np.unravel_index(np.argmax(excess), excess.shape)
        raise ValueError(f"{names[at[:3]]}: row {at[3] + 1} is not positive semi-definite: D_ap^2 is "
                         f"{excess[at] + 1:.4g} times D_aa D_pp; at most {1 + _TOLERANCE:g} is corrected")
    # what the five or seven printed digits leave open is no fault
    off = excess > 1e-6
    empty = (aa == 0) & (pp == 0)
    return np.clip(rho, -1.0, 1.0), TableReport(int(aa.size), int(empty.sum()), int(off.sum()),
                                                float(excess[off].max()) if off.any() else 0.0)
