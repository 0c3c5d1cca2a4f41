"""What pictures of runs share: the figure with its title and notes, colour scales, time axes, the moments and shells shown."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path

import numpy as np

__all__ = ["GREY", "abscissa", "as_run", "bar_of", "colors", "dial", "edges", "figure", "label", "limits", "moment", "norm",
           "picked", "plain_numbers", "shells", "style", "time_axis", "under", "values"]

GREY = "0.35"
_YEARS = 400 * 86400.0     # a run longer than this has years in its dates
_DAYS = 3 * 86400.0        # one without dates that is longer than this, days
_TICKS = (0.25, 0.5, 1.0, 2.0, 3.0, 6.0, 12.0)     # hours
_ARC = math.radians(1.5)   # the most that a straight edge in a dial spans: 1e-4 of a radius off the circle


def as_run(run, one=True):
    """A `Run`, also of a Solution; `one`: runs with a leading axis of nodes are refused."""
    if one and run.grid.axes[0].is_nodes:
        axis = run.grid.axes[0]
        raise ValueError(f"this run has {axis.n} nodes of {axis.name}; draw one of them, plot.at_node(run, k)")
    if hasattr(run, "attrs"):
        return run
    from jaxbelt.io import Run

    f, t = np.asarray(run.f), np.asarray(run.t)
    return Run(path=Path("solution.nc"), grid=run.grid, t=t, f=f, content=np.zeros(t.size), budget={}, state=f[-1], result=0,
               epoch=run.problem.epoch, status="complete", drivers={}, planned=t,
               attrs={"title": run.problem.equation, "problem": run.problem},
               f_attrs=dict(zip(("units", "long_name"), run.problem.quantity[1:])))


def figure(run, width, height, title=""):
    """An empty figure with the title, the status and the notes of the run."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(width, height), layout="constrained")
    name = run.attrs.get("long_title", run.attrs.get("title", ""))
    status = {"unfinished": "  (unfinished run)", "diverged": "  (stopped: diverged)"}.get(run.status, "")
    fig.suptitle("\n".join(textwrap.wrap(name + status, int(width * 11)) + ([title] if title else [])), fontsize=11)
    notes = run.attrs.get("notes", "")
    if notes:
        text = "\n".join(textwrap.wrap(notes, int(width * 15)))
        fig.supxlabel(text, fontsize=7, color=GREY, x=0.01, ha="left")
    return fig


def values(run, over=("L",)):
    """f averaged over all axes that are not in `over`, weighted by volume: (nt, *those axes)."""
    f, volumes = np.asarray(run.f, float), np.asarray(run.grid.volumes)
    drop = tuple(i for i, n in enumerate(run.grid.names) if n not in over)
    if not drop:
        return f
    return (f * volumes).sum(axis=tuple(1 + i for i in drop)) / volumes.sum(axis=drop)


def label(run, mean=False) -> str:
    """What f is, with its unit, for an axis or a colour bar."""
    unit = run.f_attrs.get("units", "1")
    pretty = {"(c/(MeV cm))^3": r"(c/(MeV cm))$^3$"}.get(unit, unit)
    name = run.f_attrs.get("long_name", "f").replace("phase space density", "PSD").replace(" mu", " $\\mu$")
    mean = ", MLT mean" if mean and "phi" in run.grid.names else ""
    return name + mean + ("" if unit in ("", "1") else f" [{pretty}]")


def norm(values, limits=None, decades=5.0):
    """A logarithmic colour scale whose ends are whole halves of a decade; a linear one for less than a factor of 30."""
    from matplotlib.colors import LogNorm, Normalize

    if limits is not None:
        return LogNorm(float(limits[0]), float(limits[1]), clip=False)
    good = values[np.isfinite(values) & (values > 0)]
    if good.size == 0:
        return LogNorm(1e-3, 1.0)
    if values.min() > 0 and values.max() < 30 * values.min():
        return Normalize(values.min(), values.max() * (1 + 1e-9))
    top = math.ceil(2 * math.log10(good.max()) - 1e-9) / 2
    low = math.floor(2 * math.log10(np.percentile(good, 1.0)) + 1e-9) / 2
    return LogNorm(10.0 ** min(max(low, top - decades), top - 0.5), 10.0**top)


def limits(run):
    """The range of f that the case asks for, or None."""
    return style(run).get("range")


def style(run) -> dict:
    """The case's table of picture settings; empty where it has none."""
    style = run.attrs.get("style", {})
    return style if isinstance(style, dict) else {}


def picked(run, n):
    """Indices of the outputs the case names, or of n spread evenly."""
    times = style(run).get("times")
    if times is None:
        return np.unique(np.round(np.linspace(0, run.t.size - 1, n)).astype(int))
    times = np.atleast_1d(times)
    return np.unique([int(np.argmin(np.abs(run.t - s))) for s in times if s <= run.t[-1] * (1 + 1e-9) or s == times[0]])


def shells(run, n=3):
    """Indices of cells at the L the case names, or of n inside the grid."""
    axis = run.grid["L"]
    L = style(run).get("L")
    L = np.linspace(axis.faces[0], axis.faces[-1], n + 2)[1:-1] if L is None else np.atleast_1d(L)
    return np.unique([int(np.argmin(np.abs(axis.centers - x))) for x in L])


def _span(run) -> float:
    """Length of the whole run [s], of one that is not finished too."""
    return float(run.planned[-1] - run.planned[0])


def moment(run, seconds, short=False) -> str:
    """A moment as text: its date, or its time since the start in a unit that fits the run."""
    if run.epoch is None:
        span, minutes = _span(run), seconds / 60
        if span > _DAYS:
            return f"{seconds / 86400:.4g} d"
        if minutes < 120 and not (span >= 12 * 3600 and minutes % 60 == 0):
            return f"{minutes:.3g} min"
        return f"{seconds / 3600:.3g} h" if minutes % 60 == 0 else f"{minutes // 60:.0f} h {minutes % 60:.0f} min"
    import datetime

    date = np.datetime64(run.dates(seconds), "s").item()
    assert isinstance(date, datetime.datetime)
    if run.t[-1] - run.t[0] > _YEARS:
        return f"{date:%Y-%m-%d}"
    return f"{date.day} {date:%b} {date:%H:%M}" + ("" if short else " UT")


def _time_unit(run):
    """(name, seconds) of the unit of a time axis without dates."""
    span = _span(run)
    return ("min", 60.0) if span < 3600 else ("h", 3600.0) if span <= _DAYS else ("d", 86400.0)


def time_axis(run, ax):
    """Label and ticks of the x axis, which `abscissa` made: dates, or minutes, hours (at whole parts of a day) or days."""
    if run.epoch is None:
        from matplotlib.ticker import MultipleLocator

        name, unit = _time_unit(run)
        ax.set_xlabel(f"time [{name}]")
        step = next((x for x in _TICKS if _span(run) <= 9 * x * unit), None) if name == "h" else None
        if step is not None:
            ax.xaxis.set_major_locator(MultipleLocator(step))
        return
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=4, maxticks=9)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    ax.set_xlabel("UTC")


def abscissa(run, seconds):
    """Times for a time axis: dates, or numbers in the unit that fits the run."""
    return run.dates(seconds) if run.epoch is not None else np.asarray(seconds) / _time_unit(run)[1]


def plain_numbers(axis, values) -> None:
    """0.1, 1, 10 on a logarithmic axis in place of powers; also 2, 3 and 5 where the values span less than a decade."""
    from matplotlib.ticker import FuncFormatter

    few = np.max(values) < 10 * np.min(values)
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.set_minor_formatter(FuncFormatter(lambda x, _: f"{x:g}" if few and f"{x:e}"[0] in "235" else ""))


def edges(t):
    """Edges around points, for pcolormesh; the first and last cells keep to the run."""
    middle = 0.5 * (t[1:] + t[:-1])
    return np.concatenate([t[:1], middle, t[-1:]])


def colors(n):
    """n colours of lines, from dark to light."""
    import matplotlib

    return matplotlib.colormaps["viridis"](np.linspace(0.0, 0.9, max(n, 1)))


def bar_of(fig, mesh, axes, label, **kw):
    """A colour bar with its label; open below where the scale is logarithmic."""
    if type(mesh.norm).__name__ == "LogNorm":
        kw = {"extend": "min"} | kw
    bar = fig.colorbar(mesh, ax=axes, pad=0.015, **kw)
    bar.set_label(label)
    return bar


def under(cmap):
    """A colour map in which what is not drawn has the lowest colour."""
    import matplotlib

    cmap = matplotlib.colormaps[cmap]
    return cmap.with_extremes(bad=cmap(0.0))


def dial(ax, grid, values, norm, cmap=None):
    """values (n_L, n_phi) on polar axes as seen from above the north pole: noon at the top, dawn on the right; and the planet.
    What is not above 0 is as dark as the lowest value; with a `cmap`, only what is masked has that one's `bad` colour."""
    faces = grid["L"].faces
    ax.set_theta_zero_location("S")
    ax.grid(False)
    # a cell's edges are straight lines, so that few cells in phi would make polygons: each is drawn as several
    phi = grid["phi"].faces
    parts = max(1, math.ceil(np.max(np.diff(phi)) / _ARC - 1e-9))
    phi = np.append((phi[:-1, None] + np.diff(phi)[:, None] * np.arange(parts) / parts).ravel(), phi[-1])
    shown = np.ma.repeat(np.ma.masked_less_equal(values, 0) if cmap is None else values, parts, axis=1)
    mesh = ax.pcolormesh(phi, faces, shown, norm=norm, cmap=under("viridis") if cmap is None else cmap, rasterized=True)
    # its night side (phi = 0) dark
    ax.bar(0.0, 1.0, width=np.pi, color="k", edgecolor="k", lw=0.5, zorder=3)
    ax.bar(np.pi, 1.0, width=np.pi, color="w", edgecolor="k", lw=0.5, zorder=3)
    ax.set_rlim(0, faces[-1])
    ticks = [x for x in (2, 4, 6, 8, 10) if faces[0] < x < faces[-1]]
    if len(ticks) < 2:
        ticks = [x for x in range(1, 11) if faces[0] < x < faces[-1]]
    ax.set_rgrids(ticks, [str(x) for x in ticks], angle=135, color="w", fontsize=6.5)
    around = np.linspace(0, 2 * np.pi, 361)
    for x in ticks:
        ax.plot(around, np.full(361, float(x)), color="w", lw=0.3, alpha=0.6)
    ax.plot(around, np.full(361, faces[0]), color="k", lw=0.8)
    ax.set_thetagrids([0, 90, 180, 270], ["00", "06", "12", "18"], fontsize=8)
    ax.tick_params(pad=-1.5)
    return mesh
