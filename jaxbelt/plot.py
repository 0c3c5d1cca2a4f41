"""Pictures of a run: L-time, MLT dials, line cuts, f against MLT, keograms, (L, MLT) maps.

Each function takes what `jaxbelt.load` returns (or a Solution) and gives a matplotlib Figure; `save` writes the ones a case
asks for. Times are UTC where the run has an epoch. MLT = 12 phi/pi hours, 0 at midnight; dials are seen from above the north
pole, noon at the top, dawn (06) on the right.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path

import numpy as np

from jaxbelt import plot_common as common
from jaxbelt import plot_overlays
from jaxbelt.config import InputError
from jaxbelt.grid import Grid
from jaxbelt.plot_foliated import averages, meridian, phase_space, profiles
from jaxbelt.plot_local import energy_angle, energy_spectrum, flux_dials, flux_time, psd_time
from jaxbelt.plot_velocity import distribution, moments, spectrum

_MOST_BARS = 2000          # values of a driver that are drawn one by one

__all__ = ["at_node", "averages", "distribution", "l_time", "dials", "cuts", "energy_angle", "energy_spectrum", "flux_dials",
           "flux_time", "psd_time", "meridian", "mlt", "keogram", "map_", "moments",
           "phase_space", "profiles", "spectrum", "save", "PICTURES"]


def save(run, kinds=None, folder=None, dpi: int = 150) -> list[Path]:
    """Write NAME-<kind>.png for each kind (default: what the case asks for) into `folder` (default: beside the file)."""
    asked = kinds is not None
    run = common.as_run(run, False)
    kinds = kinds if asked else json.loads(run.attrs.get("pictures", '["l-time", "dials", "cuts", "mlt", "keogram"]'))
    folder, paths = Path(run.path).parent if folder is None else Path(folder), []
    for kind in kinds:
        draw, axes = PICTURES[kind]
        if not set(axes) <= set(run.grid.names):
            if asked:
                raise InputError(f'picture "{kind}" needs the axes {", ".join(axes)}; this run has {", ".join(run.grid.names)}')
            continue
        for part, suffix in _each_node(run, kind, axes):
            path = folder / f"{Path(run.path).stem}-{kind}{suffix}.png"
            draw(part).savefig(path, dpi=dpi)
            paths.append(path)
    return paths


def at_node(run, k: int):
    """A run at one node of its leading axis (mu, population), as the pictures want it; the title says which."""
    run, axis = common.as_run(run, False), run.grid.axes[0]
    labels = json.loads(run.attrs.get("node_labels", "[]")) or [f"{axis.name} = {x:.4g} {axis.unit}".removesuffix(" 1")
                                                                     for x in axis.centers]
    attrs = run.attrs | {"node": k, "long_title": f"{run.attrs.get('long_title', run.attrs.get('title', ''))}: {labels[k]}"}
    return dataclasses.replace(run, grid=Grid(run.grid.axes[1:]), f=run.f[:, k], state=run.state[k], attrs=attrs)


def _each_node(run, kind="", axes=()):
    """(run at a node, suffix of its file names): all of up to four nodes, else the first, middle and last; the run as it is for
    a picture of all nodes."""
    if not run.grid.axes[0].is_nodes or kind in _TOGETHER or run.grid.names[0] in axes:
        return [(run, "")]
    n = run.grid.axes[0].n
    labels = json.loads(run.attrs.get("node_labels", "[]")) or [f"{run.grid.names[0]}-{k}" for k in range(n)]
    picked = range(n) if n <= 4 else (0, n // 2, n - 1)
    return [(at_node(run, k), "-" + re.sub(r"[^A-Za-z0-9.]+", "-", labels[k]).strip("-")) for k in picked]


def _driver_panel(run, ax, name):
    """One driver against time: Kp as coloured bars, anything else as a line; what has more values than pixels as a band."""
    d = run.drivers[name]
    t, values = np.asarray(d["t"], float), np.asarray(d["values"], float)
    end = run.planned[-1]
    if d["kind"] == "step" and np.sum(t < end) > _MOST_BARS:
        _driver_band(run, ax, t[t < end], values[t < end], end)
        ax.set_ylabel("Kp" if name == "kp" else name)
        if name == "kp":
            ax.set(ylim=(0, 9), yticks=[0, 3, 6, 9])
    elif name == "kp":
        keep = t < end
        edges = np.append(t[keep], min(end, t[keep][-1] + (10800.0 if t.size < 2 else t[1] - t[0])))
        colors = np.where(values[keep] < 4, "#4c9f70", np.where(values[keep] < 6, "#e0a030", "#c0392b"))
        start = common.abscissa(run, edges[:-1])
        ax.bar(start, values[keep], width=common.abscissa(run, edges[1:]) - start, align="edge", color=colors, edgecolor="white",
               linewidth=0.4)
        ax.set_ylim(0, 9)
        ax.set_yticks([0, 3, 6, 9])
        ax.set_ylabel("Kp")
    else:
        log = d["kind"] == "log-linear"
        fine = np.unique(np.concatenate([t[t <= end], np.linspace(0.0, end, 400)]))
        if d["kind"] == "step":
            held = np.append(t[t < end], end), np.append(values[t < end], values[t < end][-1])     # the last one, to the end
            ax.step(common.abscissa(run, held[0]), held[1], where="post", color="k", lw=1.2)
        else:
            line = np.exp(np.interp(fine, t, np.log(values))) if log else np.interp(fine, t, values)
            ax.plot(common.abscissa(run, fine), line, color="k", lw=1.2)
        if log:
            ax.set_yscale("log")
            common.plain_numbers(ax.yaxis, values)
            ax.axhline(1.0, color=common.GREY, lw=0.5, ls=":")
        words = {"outer_factor": "outer wall\nf / initial", "inner_factor": "inner wall\nf / initial", "dst": "Dst [nT]",
                 "bz": "Bz [nT]", "pdyn": "$P_{dyn}$ [nPa]"}
        ax.set_ylabel(words.get(name, name), fontsize=8)
        if "(" in d["long_name"]:
            label = d["long_name"].partition("(")[2].rstrip(")")
            ax.text(0.99, 0.08, label, transform=ax.transAxes, ha="right", va="bottom", fontsize=7.5, color="#a03020")
    ax.tick_params(labelbottom=False)


def _driver_band(run, ax, t, values, end):
    """Mean, and lowest to highest, between some hundred moments."""
    first = np.unique(np.linspace(0, t.size, 401).astype(int)[:-1])
    edges = common.abscissa(run, np.append(t[first], end))
    low, high = (np.append(f.reduceat(values, first), np.nan) for f in (np.minimum, np.maximum))
    mean = np.add.reduceat(values, first) / np.diff(np.append(first, t.size))
    ax.fill_between(edges, low, high, step="post", color="#4c9f70", alpha=0.35, lw=0, label="lowest to highest")
    ax.step(edges, np.append(mean, mean[-1]), where="post", color="#1d5c3a", lw=0.9, label="mean")
    ax.legend(fontsize=7, ncols=2, loc="upper right", framealpha=0.8)


# ---- the pictures

def l_time(run):
    """f averaged over MLT against time and L on a logarithmic colour scale, the drivers (Kp first) on top."""
    run = common.as_run(run)
    panels = sorted(run.drivers, key=lambda n: n != "kp")
    fig = common.figure(run, 9.0, 4.2 + 0.9 * len(panels))
    axes = fig.subplots(len(panels) + 1, 1, sharex=True, squeeze=False, height_ratios=[1] * len(panels) + [4])[:, 0]
    for ax, name in zip(axes, panels):
        _driver_panel(run, ax, name)
    f, ax = common.values(run), axes[-1]
    mesh = ax.pcolormesh(common.abscissa(run, common.edges(run.t)), run.grid["L"].faces, np.ma.masked_less_equal(f, 0).T,
                         norm=common.norm(f, common.limits(run)), cmap=common.under("viridis"), rasterized=True)
    ax.set_ylabel("L")
    for label, style, values in plot_overlays.in_time(plot_overlays.of_run(run), run.t).values():
        ax.plot(common.abscissa(run, run.t), np.where(values < run.grid["L"].faces[-1], values, np.nan), label=label, **style)
    if ax.get_legend_handles_labels()[1]:
        ax.legend(fontsize=7.5, loc="lower left", facecolor="#30506c", labelcolor="w", framealpha=0.9)
    ax.set_xlim(*common.abscissa(run, np.array([run.t[0], run.planned[-1]])))
    common.time_axis(run, ax)
    common.bar_of(fig, mesh, ax, common.label(run, mean=True))
    return fig


def dials(run, n: int = 8):
    """f(L, MLT) at moments through the run: noon at the top, dawn on the right, as seen from above the north pole.

    With drift contours, plasmapause and magnetopause over it where there is convection (output.overlays says otherwise).
    """
    run = common.as_run(run)
    picked = common.picked(run, n)
    columns = min(4, len(picked))
    rows = -(-len(picked) // columns)
    fig = common.figure(run, 2.75 * columns + 0.8, 2.95 * rows + 0.9)
    axes = fig.subplots(rows, columns, squeeze=False, subplot_kw={"projection": "polar"}).ravel()
    f = common.values(run, ("L", "phi"))[picked]
    norm = common.norm(f, common.limits(run))
    kp, over, drawn = run.drivers.get("kp"), plot_overlays.of_run(run), {}
    for ax, i, values in zip(axes, picked, f):
        mesh = common.dial(ax, run.grid, values, norm)
        drawn |= plot_overlays.draw(ax, over, run.t[i])
        text = common.moment(run, run.t[i])
        if kp is not None:
            at = max(0, np.searchsorted(kp["t"], run.t[i], side="right") - 1)
            text += f"   Kp {kp['values'][min(at, len(kp['values']) - 1)]:.1f}"
        ax.set_title(text, fontsize=9, pad=5)
    for ax in axes[len(picked):]:
        ax.remove()
    plot_overlays.legend(fig, drawn)
    common.bar_of(fig, mesh, list(axes[:len(picked)]), common.label(run), shrink=0.7 if rows > 1 else 0.9)
    return fig


def cuts(run, n: int = 7):
    """f(L), averaged over MLT, at moments through the run."""
    run = common.as_run(run)
    fig = common.figure(run, 7.0, 4.8)
    ax = fig.subplots()
    f, picked = common.values(run), common.picked(run, n)
    for i, color in zip(picked, common.colors(len(picked))):
        ax.plot(run.grid["L"].centers, np.ma.masked_less_equal(f[i], 0), color=color, label=common.moment(run, run.t[i]), lw=1.6)
    norm = common.norm(f, None, decades=6.0)
    if type(norm).__name__ == "LogNorm":
        ax.set(yscale="log", ylim=(norm.vmin, max(norm.vmax, 1.2 * f[picked].max())))
    ax.set(xlabel="L", ylabel=common.label(run, mean=True), xlim=run.grid["L"].faces[[0, -1]])
    ax.grid(alpha=0.25, which="both", lw=0.4)
    ax.legend(fontsize=8, framealpha=0.9)
    return fig


def mlt(run, n: int = 5):
    """f against MLT at fixed L, one panel a shell, one line a moment."""
    run = common.as_run(run)
    shells, picked = common.shells(run), common.picked(run, n)
    fig = common.figure(run, 2.9 * len(shells) + 2.3, 4.0)
    axes = fig.subplots(1, len(shells), squeeze=False)[0]
    f = common.values(run, ("L", "phi"))
    hours = 12.0 * run.grid["phi"].centers / np.pi
    for ax, j in zip(axes, shells):
        for i, color in zip(picked, common.colors(len(picked))):
            ax.plot(hours, f[i, j], color=color, lw=1.5, label=common.moment(run, run.t[i]))
        shown = f[picked][:, j]
        if shown.min() > 0 and shown.max() > 30 * shown.min():
            ax.set_yscale("log")
        ax.set_title(f"L = {run.grid['L'].centers[j]:.2f}", fontsize=10)
        ax.set(xlabel="MLT [h]", xlim=(0, 24), xticks=[0, 6, 12, 18, 24])
        ax.grid(alpha=0.25, lw=0.4)
    axes[0].set_ylabel(common.label(run))
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside right upper", fontsize=8, frameon=False)
    return fig


def keogram(run):
    """f over its MLT mean against time and MLT at fixed L: drift echoes are slanted stripes."""
    from matplotlib.colors import LogNorm

    run = common.as_run(run)
    shells = common.shells(run)
    fig = common.figure(run, 9.0, 1.9 * len(shells) + 1.3)
    axes = fig.subplots(len(shells), 1, sharex=True, squeeze=False)[:, 0]
    f = common.values(run, ("L", "phi"))[:, shells]
    mean = f.mean(axis=-1, keepdims=True)
    ratio = np.where(mean > 0, f / np.where(mean > 0, mean, 1.0), 1.0)
    spread = np.max(np.abs(np.log(np.clip(ratio, 0.05, 20.0))))
    spread = float(np.clip(np.exp(spread), 1.05, 10.0))
    norm = LogNorm(1 / spread, spread)
    hours = 12.0 * run.grid["phi"].faces / np.pi
    x = common.abscissa(run, common.edges(run.t))
    for k, (ax, j) in enumerate(zip(axes, shells)):
        mesh = ax.pcolormesh(x, hours, np.maximum(ratio[:, k], 1e-30).T, norm=norm, cmap="RdBu_r", rasterized=True)
        ax.set(ylabel="MLT [h]", ylim=(0, 24), yticks=[0, 6, 12, 18, 24])
        ax.text(0.01, 0.95, f"L = {run.grid['L'].centers[j]:.2f}", transform=ax.transAxes, va="top", fontsize=9,
                bbox={"fc": "w", "ec": "none", "alpha": 0.75, "pad": 1.5})
    ax.set_xlim(*common.abscissa(run, run.t[[0, -1]]))
    common.time_axis(run, ax)
    bar = common.bar_of(fig, mesh, list(axes), "f / MLT mean", extend="both")
    candidates = (0.1, 0.2, 0.5, 1, 2, 5, 10) if spread > 2.2 else (0.5, 0.8, 0.9, 0.95, 1, 1.05, 1.1, 1.25, 2)
    ticks = [v for v in candidates if abs(math.log(v)) <= math.log(spread) + 1e-9]
    bar.set_ticks(ticks, labels=[f"{v:g}" for v in ticks])
    bar.ax.minorticks_off()
    return fig


def map_(run, n: int = 4):
    """f(L, MLT) as maps; where the case holds a drift-resonant wave, its separatrix and theoretical width are drawn in."""
    run = common.as_run(run)
    picked = common.picked(run, n)
    columns = min(2, len(picked))
    rows = -(-len(picked) // columns)
    fig = common.figure(run, 4.4 * columns + 1.2, 2.7 * rows + 1.2)
    axes = fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    f = common.values(run, ("L", "phi"))[picked]
    hours, L = 12.0 * run.grid["phi"].faces / np.pi, run.grid["L"].faces
    norm = common.norm(f, common.limits(run))
    wave, over, drawn = run.attrs.get("island"), plot_overlays.of_run(run), {}
    for ax, i, values in zip(axes, picked, f):
        mesh = ax.pcolormesh(hours, L, values, cmap=common.under("viridis"), rasterized=True, norm=norm)
        drawn |= plot_overlays.draw(ax, over, run.t[i], polar=False)
        if wave:
            plot_overlays.separatrix(ax, wave, run.t[i])
        ax.set_title(common.moment(run, run.t[i]), fontsize=9)
        ax.set(xlim=(0, 24), xticks=[0, 6, 12, 18, 24], ylim=L[[0, -1]])
    for ax in axes[len(picked):]:
        ax.remove()
    for ax in axes[::columns]:
        ax.set_ylabel("L")
    for ax in axes[max(0, len(picked) - columns):len(picked)]:
        ax.set_xlabel("MLT [h]")
        ax.tick_params(labelbottom=True)
    if wave:
        handles, labels = axes[0].get_legend_handles_labels()
        drawn |= dict(zip(labels, handles))
    plot_overlays.legend(fig, drawn)
    common.bar_of(fig, mesh, list(axes[:len(picked)]), common.label(run))
    return fig


PICTURES = {"l-time": (l_time, ("L",)), "dials": (dials, ("L", "phi")), "cuts": (cuts, ("L",)), "mlt": (mlt, ("L", "phi")),
            "keogram": (keogram, ("L", "phi")), "map": (map_, ("L", "phi")), "spectrum": (spectrum, ("v",)),
            "moments": (moments, ("v",)), "distribution": (distribution, ("v", "xi")),
            "averages": (averages, ("mu", "psi", "chi", "p")), "profiles": (profiles, ("mu", "psi", "chi", "p")),
            "meridian": (meridian, ("mu", "psi", "chi", "p")), "phase-space": (phase_space, ("mu", "psi", "chi", "p")),
            "energy-angle": (energy_angle, ("alpha", "lnp")), "energy-spectrum": (energy_spectrum, ("alpha", "lnp")),
            "flux-time": (flux_time, ("alpha", "lnp")), "flux-dials": (flux_dials, ("L", "phi", "alpha", "lnp")),
            "psd-time": (psd_time, ("L", "alpha", "lnp"))}
_TOGETHER = ("averages", "profiles")         # all runs of a file in one picture
