r"""Pictures of the foliated equation: averages against time, profiles along z = 0, the (r, z) plane, phase space on a leaf.

Each takes what `jaxbelt.load` returns, or a Solution, and gives a Figure. Axes are in the paper's units; where the run knows
its physical ones (T0_eV, B0_T and R0_m among its attributes, or `units`), eV, metres and seconds stand beside them. T_par is
what the paper calls so, <m v_par^2/2> of Eq. (22), half of the usual temperature, unless `usual` is set. A grid whose first
axis is a list of runs is drawn run beside run (`averages`, `profiles`) or one of them (`plot.at_node`).
"""

from __future__ import annotations

import json

import numpy as np

from jaxbelt import plot_common as common
from jaxbelt.grid import Grid
from jaxbelt.physics import foliated_maps as maps
from jaxbelt.physics import foliated_moments as fm
from jaxbelt.physics.foliated_units import of_attrs

__all__ = ["averages", "meridian", "phase_space", "profiles"]

_PERP, _PAR = "Reds", "Blues"


# ---- what they share

def _runs(run):
    """[(label, run without the axis of runs)]."""
    from jaxbelt import plot

    run = common.as_run(run, False)
    axis = run.grid.axes[0]
    if axis.name == "mu":
        return [("", run)]
    labels = json.loads(run.attrs.get("node_labels", "[]")) or [f"{_pretty(axis.name)} = {x:g}" for x in axis.centers]
    return [(label, plot.at_node(run, k)) for k, label in enumerate(labels)]


def _pretty(name):
    return {"D_perp": r"$D_\perp$", "alpha": r"$\alpha$", "gamma": r"$\gamma$", "D_par": r"$D_\parallel$"}.get(name, name)


def _alone(run):
    runs = _runs(run)
    if len(runs) > 1:
        raise ValueError(f"this file holds {len(runs)} runs; draw one of them, plot.at_node(run, k)")
    return runs[0][1]


def _units(run, units):
    return of_attrs(run.attrs) if units is None else units


def _plane(run, i):
    """(grid without theta, f at output i integrated over theta)."""
    grid, f = run.grid, np.asarray(run.f[i], float)
    if grid.names[-1] != "theta":
        return grid, f
    return Grid(grid.axes[:-1]), f @ grid["theta"].measure


def _par(usual):
    """(name of the field, its symbol, what it is)."""
    if usual:
        return "T_par", r"$T_\parallel$", r"$T_\parallel = \langle m v_\parallel^2\rangle$"
    return "E_par", r"$T_\parallel$", r"$T_\parallel = \langle m v_\parallel^2/2\rangle$ (22)"


_PERP_TEXT = r"$T_\perp = \langle\mu B\rangle$ (21)"


def _when(t, units, short=False):
    text = f"t = {t:g}"
    return text if units is None or short else f"{text}  ({_si(units.time(t), 's')})"


def _si(x, unit):
    """A number with a prefix: 4.1e-6, "s" -> "4.1 us"."""
    if x == 0:
        return f"0 {unit}"
    k = int(np.clip(np.floor(np.log10(abs(x)) / 3 + 1e-9), -4, 3))
    return f"{x / 10.0 ** (3 * k):.3g} " + ("p", "n", "µ", "m", "", "k", "M", "G")[k + 4] + unit


def _prefix(largest, unit):
    """(factor, unit with a prefix) for an axis that reaches `largest`."""
    k = int(np.clip(np.floor(np.log10(largest) / 3 + 1e-9), -4, 3)) if largest > 0 else 0
    return 10.0 ** (-3 * k), ("p", "n", "µ", "m", "", "k", "M", "G")[k + 4] + unit


def _second(ax, side, factor, label):
    """A further axis on one side: the same numbers times factor."""
    make = ax.secondary_xaxis if side in ("top", "bottom") else ax.secondary_yaxis
    other = make(side, functions=(lambda x: np.asarray(x) * factor, lambda x: np.asarray(x) / factor))
    (other.set_xlabel if side in ("top", "bottom") else other.set_ylabel)(label)
    return other


def _grid_lines(ax):
    ax.grid(alpha=0.25, lw=0.4)


def _shades(name, n):
    import matplotlib

    return matplotlib.colormaps[name](np.linspace(0.95, 0.45, n) if n > 1 else [0.85])


# ---- averages

def averages(run, *more, labels=None, units=None, usual=False):
    """T_perp and T_par averaged over all particles against time (Fig. 1), and the number of particles below.

    more: further runs for the same axes; labels: one for each run drawn.
    """
    drawn = [pair for one in (run, *more) for pair in _runs(one)]
    first = common.as_run(run, False)
    units, (name, _, meaning) = _units(first, units), _par(usual)
    if labels is not None:
        if len(labels) != len(drawn):
            raise ValueError(f"labels: needs {len(drawn)}, one for each run, got {len(labels)}")
        drawn = [(label, part) for label, (_, part) in zip(labels, drawn)]
    fig = common.figure(first, 7.0, 5.6)
    top, low = fig.subplots(2, 1, sharex=True, height_ratios=[3, 1.2])
    import matplotlib

    colors = matplotlib.colormaps["tab10"](np.arange(max(len(drawn), 2)) % 10)
    for (label, part), color in zip(drawn, colors):
        got = [fm.averages(part.grid, np.asarray(f, float)) for f in part.f]
        for field, style in (("T_perp", "-"), (name, "--")):
            top.plot(part.t, [float(getattr(a, field)) for a in got], style, color=color, lw=1.7)
        low.plot(part.t, [float(a.number / got[0].number) for a in got], color=color, lw=1.5)
        if label:
            top.plot([], [], color=color, lw=1.7, label=label)
    top.plot([], [], "-", color="0.3", label=_PERP_TEXT)
    top.plot([], [], "--", color="0.3", label=meaning)
    top.set(ylabel="average [$T_0$]", ylim=(0, None))
    low.set(ylabel="$N/N_0$", ylim=(0, None), xlabel=r"t [$R_p/v_{th}$]")
    end = max(part.t[-1] for _, part in drawn)
    if end > first.t[0]:
        low.set_xlim(first.t[0], end)
    for ax in (top, low):
        _grid_lines(ax)
    top.legend(fontsize=8.5, framealpha=0.9)
    if units is not None:
        factor, unit = _prefix(units.time(low.get_xlim()[1]), "s")
        _second(top, "top", units.t0 * factor, f"t [{unit}]")
        _second(top, "right", units.T0, "average [eV]")
    return fig


# ---- profiles

def profiles(run, n: int = 3, units=None, usual=False):
    """T_perp, T_par and density along z = 0 against r (Fig. 2), one column a run; the start is dashed and marked 0."""
    runs, first = _runs(run), common.as_run(run, False)
    units, (name, _, meaning) = _units(first, units), _par(usual)
    picked = common.picked(first, n)
    fig = common.figure(first, 4.4 * len(runs) + 1.6, 5.8)
    axes = fig.subplots(2, len(runs), sharex=True, sharey="row", squeeze=False, height_ratios=[1.7, 1])
    tones = [_shades(c, len(picked)) for c in (_PERP, _PAR, "Greys")]
    for column, (label, part) in zip(axes.T, runs):
        for k, i in enumerate(picked[::-1]):
            got, start = fm.equatorial(*_plane(part, i)), i == 0
            style = {"ls": "--", "lw": 1.2} if start else {"ls": "-", "lw": 1.7}
            for ax, field, tone in ((column[0], "T_perp", tones[0]), (column[0], name, tones[1]), (column[1], "n", tones[2])):
                values = np.asarray(getattr(got, field))
                ax.plot(got.r, values, **style, color=tone[k], label=_when(part.t[i], None) if field == "n" else None)
                if start and field != "n":
                    middle = got.r.size // 2
                    ax.annotate("0", (got.r[middle], values[middle]), color=tone[k], fontsize=8, ha="center", va="bottom")
        column[0].set_title(label, fontsize=10)
        column[1].set(xlabel=r"r [$R_p$]  (z = 0)", xlim=(got.r.min(), got.r.max()))
        for ax in column:
            _grid_lines(ax)
    # where all is lost, the density need not be followed down to nothing
    held = np.concatenate([line.get_ydata() for ax in axes[1] for line in ax.lines])
    held = held[np.isfinite(held) & (held > 0)]
    if held.size:
        axes[1, 0].set(yscale="log", ylim=(max(0.7 * held.min(), 1e-4 * held.max()), 2.0 * held.max()))
    axes[0, 0].set(ylabel="temperature [$T_0$]", ylim=(0, None))
    axes[1, 0].set_ylabel(r"n [1/$R_p^3$]")
    axes[0, -1].plot([], [], color=tones[0][0], label=_PERP_TEXT)
    axes[0, -1].plot([], [], color=tones[1][0], label=meaning)
    axes[0, -1].legend(fontsize=8.5, framealpha=0.9)
    axes[1, -1].legend(fontsize=8, framealpha=0.9, title=r"in $R_p/v_{th}$", title_fontsize=8)
    if units is not None:
        _second(axes[0, -1], "right", units.T0, "temperature [eV]")
        for ax in axes[0]:
            _second(ax, "top", units.R0, "r [m]")
        _density_axis(axes[1, -1], units)
    return fig


def _density_axis(ax, units):
    if units.particles != 1.0:
        _second(ax, "right", units.density(1.0), "n [m$^{-3}$]")


# ---- the (r, z) plane

def meridian(run, n: int = 3, units=None, usual=False, points: int = 240):
    """Density, T_perp and T_par in the (r, z) plane at moments through the run, and line-integrated density beside.

    Line densities: along tangents to circles of radius b at z = 0, and at b in the middle of the domain against the height z.
    """
    run = _alone(run)
    units, (name, symbol, _) = _units(run, units), _par(usual)
    picked = common.picked(run, n)
    columns = len(picked)
    fig = common.figure(run, 2.5 * columns + 4.4, 7.4)
    spec = fig.add_gridspec(3, columns + 1, width_ratios=[1.0] * columns + [1.3])
    grid = _plane(run, 0)[0]
    fields, where = _fields(run, picked, name), None
    r, z = _mesh(grid, points)
    scales = ((None, "viridis", r"n [1/$R_p^3$]"), ("T_perp", "inferno", r"$T_\perp$ [$T_0$]"),
              (name, "inferno", symbol + " [$T_0$]"))
    for row, (field, cmap, label) in enumerate(scales):
        values = np.stack([np.asarray(getattr(one, field or "n")) for one in fields])
        images = maps.meridian(grid, values, r, z)[2]
        norm = common.norm(np.nan_to_num(values)) if field is None else _linear(values)
        axes = []
        for k, i in enumerate(picked):
            ax = fig.add_subplot(spec[row, k], sharex=where, sharey=where)
            where = where or ax
            mesh = ax.pcolormesh(r, z, np.ma.masked_invalid(images[k]), norm=norm, cmap=cmap, shading="nearest", rasterized=True)
            _scenery(ax, grid, r[-1], z[-1])
            ax.tick_params(labelbottom=row == 2, labelleft=k == 0)
            if row == 0:
                ax.set_title(_when(run.t[i], units), fontsize=9)
            if row == 2:
                ax.set_xlabel("r [$R_p$]")
            if k == 0:
                ax.set_ylabel("z [$R_p$]")
            axes.append(ax)
        bar = common.bar_of(fig, mesh, axes, label, shrink=0.9, aspect=16)
        if field is not None and units is not None:
            bar.set_label(label.replace("[$T_0$]", f"[$T_0$ = {units.T0:g} eV]"))
    _line_densities(fig, spec, run, picked, grid, fields, units)
    return fig


def _fields(run, picked, name):
    return [fm.local(*_plane(run, i)) for i in picked]


def _mesh(grid, points):
    lo = grid["psi"].faces[0]
    top = min(1.1 * (2.0 / 3.0) / np.sqrt(3.0) / lo, 1.0 / lo)
    return np.linspace(0.0, 1.02 / lo, points), np.linspace(-top, top, points | 1)


def _linear(values):
    from matplotlib.colors import Normalize

    # a few hot cells that hold next to nothing do not set the scale
    good = values[np.isfinite(values)]
    return Normalize(0.0, float(np.percentile(good, 99.0)) * 1.02 if good.size else 1.0)


def _scenery(ax, grid, right, top):
    """The planet, thin field lines, the walls."""
    from matplotlib.patches import Wedge

    ax.add_patch(Wedge((0, 0), 1.0, -90, 90, fc="0.75", ec="k", lw=0.7))
    lo, hi = grid["psi"].faces[[0, -1]]
    for psi in (lo, *np.linspace(lo, hi, 6)[1:-1], hi):
        edge = np.sqrt(1.0 - psi)
        s = np.sin(np.linspace(-np.arcsin(edge), np.arcsin(edge), 121))
        x = 1.0 - s**2
        wall = psi in (lo, hi)
        ax.plot(x**1.5 / psi, s * x / psi, color="k" if wall else "w", lw=0.7 if wall else 0.35, alpha=0.9 if wall else 0.7)
    ax.set(aspect="equal", xlim=(0, right), ylim=(-top, top))


def _line_densities(fig, spec, run, picked, grid, fields, units):
    lo, hi = grid["psi"].faces[[0, -1]]
    beside, above = (fig.add_subplot(place) for place in spec[:, -1].subgridspec(2, 1))
    b = np.linspace(1.0 + 1e-6, 1.0 / lo, 121)
    middle, top = 0.5 * (1.0 / lo + 1.0 / hi), _mesh(grid, 3)[1][-1]
    z = np.linspace(-top, top, 121)
    radii, heights = np.stack([b, np.full_like(b, middle)]), np.stack([np.zeros_like(z), z])
    sums = maps.chords(grid, np.stack([one.n for one in fields]), radii, heights)
    tones = _shades("Greys", len(picked))[::-1]
    for (at_equator, at_middle), i, color in zip(sums, picked, tones):
        style, text = ("--" if i == 0 else "-"), _when(run.t[i], units, short=True)
        beside.plot(b, at_equator, style, color=color, lw=1.5, label=text)
        above.plot(z, at_middle, style, color=color, lw=1.5, label=text)
    beside.set(xlabel="tangency radius b [$R_p$]  (z = 0)", xlim=(1, 1 / lo))
    above.set(xlabel=f"height z [$R_p$]  (b = {middle:.2f})", xlim=(z[0], z[-1]))
    for ax in (beside, above):
        ax.set(ylim=(0, None), ylabel=r"$\int n\,ds$ [1/$R_p^2$]")
        ax.yaxis.set_label_position("right")
        ax.yaxis.tick_right()
        _grid_lines(ax)
    beside.legend(fontsize=7.5)
    if units is not None:
        _second(beside, "top", units.R0, "b [m]")


# ---- phase space

def phase_space(run, n: int = 3, psi=None, mu=None, units=None, speed=None, decades: float = 3.0):
    """P over (l, v_par) on leaves, one row a (psi, mu), one column a moment, with lines of constant energy.

    psi, mu: numbers, or lists of the same length, the nearest on the grid are drawn (default: the middle of the domain, and the
    mu whose mu B is .3 and 1.5 there). Lines: H in steps, dashed at the loss cone, H = mu B on the planet's surface.
    """
    from matplotlib.colors import LogNorm

    run = _alone(run)
    grid, units, picked = run.grid, _units(run, units), common.picked(run, n)
    rows = _leaves(grid, psi, mu)
    fig = common.figure(run, 3.0 * len(picked) + 1.6, 2.7 * len(rows) + 1.1)
    axes = fig.subplots(len(rows), len(picked), sharex="row", sharey="row", squeeze=False)
    for row, (line, (i_psi, i_mu)) in enumerate(zip(axes, rows)):
        p0, m = float(grid["psi"].centers[i_psi]), float(grid["mu"].centers[i_mu])
        cells = np.flatnonzero(np.abs(grid["chi"].centers) < np.sqrt(1.0 - p0))
        chi, *along = _line(p0)
        length, strength = (np.interp(grid["chi"].faces, chi, a) for a in along)
        edge = slice(cells[0], cells[-1] + 2)
        x = np.broadcast_to(length[edge, None], (cells.size + 1, grid["p"].n + 1))
        y = strength[edge, None] * grid["p"].faces
        frames = [_plane(run, i)[1][i_mu, i_psi, cells] for i in picked]
        top = float(np.max(np.nan_to_num(frames)))
        top = top if top > 0 else 1.0
        norm = LogNorm(top * 10.0**-decades, top)
        high = speed or 1.05 * min(grid["p"].faces[-1] * p0**3, 4.5)
        for ax, i, frame in zip(line, picked, frames):
            mesh = ax.pcolormesh(x, y, frame, norm=norm, cmap=common.under("viridis"), rasterized=True)
            _energy_lines(ax, p0, m, high)
            ax.set(ylim=(-high, high), xlim=(length[edge][0], length[edge][-1]))
            if row == 0:
                ax.set_title(_when(run.t[i], units), fontsize=9)
        line[0].set_ylabel(r"$v_\parallel$ [$v_{th}$]" + f"\nL = {1 / p0:.2f}, $\\mu$ = {m:.3g}", fontsize=9)
        common.bar_of(fig, mesh, list(line), "P", aspect=14)
    for ax in axes[-1]:
        ax.set_xlabel("l [$R_p$]")
    if units is not None:
        for line in axes:
            _second(line[-1], "right", units.v_th / 1e3, r"$v_\parallel$ [km/s]")
    return fig


def _line(psi):
    """(chi, l, B) along a field line, as far as a little below the surface."""
    end = np.sin(min(1.1 * np.arcsin(np.sqrt(1.0 - psi)), 1.5))
    s = np.linspace(-end, end, 4001)
    x = 1.0 - s**2
    length = 0.5 * (s * np.sqrt(1.0 + 3.0 * s**2) + np.arcsinh(np.sqrt(3.0) * s) / np.sqrt(3.0)) / psi
    return psi**2 * s / x**2, length, psi**3 * np.sqrt(4.0 - 3.0 * x) / x**3


def _leaves(grid, psi, mu):
    """Positions (psi, mu) of the leaves to draw."""
    psi = np.atleast_1d(grid["psi"].centers[grid["psi"].n // 2] if psi is None else psi)
    B = float(np.mean(psi)) ** 3
    mu = np.atleast_1d(np.array([0.3, 1.5]) / B if mu is None else mu)
    psi, mu = np.broadcast_arrays(psi, mu)
    found = [(int(np.argmin(np.abs(grid["psi"].centers - a))), int(np.argmin(np.abs(grid["mu"].centers - b))))
             for a, b in zip(psi, mu)]
    return list(dict.fromkeys(found))


def _energy_lines(ax, psi, mu, high):
    _, l, B = (a[::20] for a in _line(psi))   # noqa: E741
    v = np.linspace(-high, high, 161)
    H = 0.5 * v[:, None] ** 2 + mu * B
    least, lost = mu * psi**3, mu * np.sqrt(4.0 - 3.0 * psi)
    ax.contour(l, v, H, levels=least + 0.5 * (np.arange(1, 8) * high / 8) ** 2, colors="w", linewidths=0.4, alpha=0.7)
    if lost < H.max():
        ax.contour(l, v, H, levels=[lost], colors="w", linewidths=1.0, linestyles="--")
