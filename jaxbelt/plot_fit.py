"""Pictures of a fit, from its Dataset (`fitting.output.dataset`, or `load_fit` of a file): data against the model with bands and
residuals, profiles of D_LL and lifetime, the posterior of the parameters by pairs, the loss of every iteration.

Each function returns a matplotlib Figure; `save` writes all that can be drawn.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np

from jaxbelt.plot_common import GREY

__all__ = ["correlation", "history", "measured", "profile", "save"]

_DATA, _MODEL, _TRUTH, _START = "0.25", "#1f5fa8", "#c23b22", "#8a6d1f"
_ROWS = 4                      # of one set of data in one picture
_CORNER = 7                    # parameters up to which pairs are drawn one by one


def save(made, path, folder=None, dpi: int = 150) -> list[Path]:
    """Write NAME-fit-<kind>.png of a fit's Dataset beside `path` (NAME.nc), or into `folder`."""
    path = Path(path)
    folder = path.parent if folder is None else Path(folder)
    names = made.attrs["data_sets"].split()
    figures = {"fit-data" + (f"-{name}" if len(names) > 1 else ""): measured(made, name) for name in names
               if made[f"{name}_value"].ndim <= 2}
    figures["fit-profile"] = profile(made)
    figures["fit-correlation"] = correlation(made)
    figures["fit-loss"] = history(made)
    paths = []
    for kind, figure in figures.items():
        if figure is not None:
            paths.append(folder / f"{path.stem}-{kind}.png")
            figure.savefig(paths[-1], dpi=dpi)
    return paths


def _figure(made, width, height, title):
    from matplotlib.figure import Figure

    fig = Figure(figsize=(width, height), layout="constrained")
    quality = f"{made.attrs['method']}: " + ("converged" if made.attrs["converged"] else "NOT CONVERGED") + \
        f", {made.attrs['values']} values, $\\chi^2$/dof = {made.attrs['reduced_chi2']:.3g}"
    fig.suptitle("\n".join([*textwrap.wrap(title, int(width * 11)), quality]), fontsize=11)
    return fig


def _unit(x) -> str:
    unit = x.attrs.get("units", "1")
    unit = {"(c/(MeV cm))^3": "(c/(MeV cm))$^3$"}.get(unit, unit)
    return "" if unit in ("", "1") else f" [{unit}]"


def _axis(made, x):
    """(values, label, whether they are dates) of a time coordinate."""
    values = x.values
    if np.issubdtype(values.dtype, np.datetime64):
        return values, "UTC", True
    unit = x.attrs.get("units", "s")
    return (values / 3600.0, "time [h]", False) if unit == "s" else (values, f"time [{unit}]", False)


def _dates(ax):
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=4, maxticks=9)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))


# ---- data against model

def measured(made, name: str = "data"):
    """Data and model along time, with the 68 and 95 % posterior predictive bands, and the residuals below and against L."""
    value = made[f"{name}_value"]
    rows = 1 if value.ndim == 1 else value.shape[0]
    shown = list(range(rows)) if rows <= _ROWS else sorted({int(round(x)) for x in np.linspace(0, rows - 1, _ROWS)})
    along = f"{name}_time" in made.coords
    x, label, dated = _axis(made, made[f"{name}_time"]) if along else (np.arange(value.shape[-1]), "number of the value", False)
    shells = f"{name}_L" in made.coords
    title = _title(made, "data and model" if name == "data" else f"{name}: data and model")
    fig = _figure(made, 11.5, 1.2 + 3.4 * len(shown), title)
    grid = fig.add_gridspec(2 * len(shown), 2 if shells else 1, height_ratios=[2.4, 1.0] * len(shown),
                            width_ratios=[4.2, 1.0] if shells else [1.0])
    first = None
    for i, k in enumerate(shown):
        def get(word, k=k):
            a = made[f"{name}_{word}"].values
            return a if a.ndim == 1 else a[k]

        ax = fig.add_subplot(grid[2 * i, 0], sharex=first)
        first = first or ax
        below = fig.add_subplot(grid[2 * i + 1, 0], sharex=first)
        _compare(ax, x, get, made[f"{name}_residual"].attrs, value.attrs.get("noise") == "log-normal")
        row = str(made[f"{name}_row"].values[k]) if f"{name}_row" in made.coords else ""
        said = value.attrs["long_name"].partition(",")[0].replace("phase space density", "PSD")
        ax.set_ylabel("\n".join(textwrap.wrap(said + _unit(value), 26)))
        if row:
            ax.set_title(row, fontsize=9, loc="left")
        _residuals(below, x, get("residual"))
        if f"{name}_held_value" in made:
            _held(ax, x, get)
        if i == 0:
            ax.legend(fontsize=8, ncols=6, loc="lower right", bbox_to_anchor=(1.0, 1.0), frameon=False)
        below.set_ylabel("(data - model)\n/ sigma", fontsize=8)
        ax.tick_params(labelbottom=False)
        if i == len(shown) - 1:
            below.set_xlabel(label)
        else:
            below.tick_params(labelbottom=False)
        if dated:
            _dates(below)
        if shells:
            side = fig.add_subplot(grid[2 * i:2 * i + 2, 1])
            _residuals(side, made[f"{name}_L"].values, get("residual"))
            side.set(xlabel="L" if i == len(shown) - 1 else "")
            side.set_title("residuals against L", fontsize=9)
            side.yaxis.tick_right()
    return fig


def _title(made, what):
    name = made.attrs.get("case", "")
    return f"{name}: {what}" if name else what


def _runs(x, gap=None):
    """Slices of x without large gaps, so that bands are not drawn across them."""
    if x.size < 3:
        return [slice(0, x.size)]
    step = np.diff(x).astype(float)
    cuts = np.nonzero(step > 6 * np.median(step))[0] + 1
    ends = [0, *cuts.tolist(), x.size]
    return [slice(a, b) for a, b in zip(ends[:-1], ends[1:])]


def _compare(ax, x, get, attrs, log):
    values, model = get("value"), get("model")
    use = np.isfinite(values)
    x, values = x[use], values[use]
    for j, part in enumerate(_runs(x)):
        for word, alpha, text in (("95", 0.18, "95 %"), ("68", 0.30, "68 % predictive")):
            if not np.isfinite(get("low" + word)).any():
                continue
            ax.fill_between(x[part], get("low" + word)[use][part], get("high" + word)[use][part], color=_MODEL, alpha=alpha, lw=0,
                            label=text if j == 0 else None)
        ax.plot(x[part], model[use][part], color=_MODEL, lw=1.2, label="model" if j == 0 else None)
    ax.plot(x, values, ".", color=_DATA, ms=3.5, label="data")
    if log:
        ax.set_yscale("log")
        ends = np.concatenate([values, model[use]])
        ax.set_ylim(0.5 * np.nanmin(ends), 2.0 * np.nanmax(ends))
    ax.grid(alpha=0.25)


def _held(ax, x, get):
    """Values that the fit did not see, and what it says of them."""
    value, model = get("held_value"), get("held_model")
    use = np.isfinite(value)
    for j, part in enumerate(_runs(x[use])):
        ax.plot(x[use][part], model[use][part], color=_TRUTH, lw=1.1, label="foretold" if j == 0 else None)
    ax.plot(x[use], value[use], ".", color="0.6", ms=3.5, label="data not in the fit")
    low, high = ax.get_ylim()
    ends = np.concatenate([value[use], model[use], [2 * low, high / 2]])
    ax.set_ylim(0.5 * np.nanmin(ends), 2 * np.nanmax(ends))


def _residuals(ax, x, r):
    ax.axhspan(-2, 2, color="0.92", zorder=0)
    ax.axhspan(-1, 1, color="0.84", zorder=0)
    ax.axhline(0.0, color=GREY, lw=0.8)
    ax.plot(x, r, ".", color=_DATA, ms=3)
    most = np.nanmax(np.abs(r), initial=1.0)
    ax.set_ylim(-max(3.2, 1.1 * most), max(3.2, 1.1 * most))


# ---- profiles

def profile(made):
    """D_LL(L) and lifetime(L) where they were fitted: bands, where the fit started, and the truth if it is known; else None."""
    fields = [f for f in ("D_LL", "tau") if f in made]
    if not fields:
        return None
    import matplotlib

    L = made["L"].values
    spans = [made[f"{p}_L"].values[np.isfinite(np.atleast_2d(made[f"{p}_value"].values)).any(axis=0)]
             for p in made.attrs["data_sets"].split() if f"{p}_L" in made.coords]
    known = any(np.isfinite(made[f + "_low95"].values).any() for f in fields)
    fig = _figure(made, 6.4 * len(fields), 6.8 if known else 5.0, _title(made, "fitted profiles"))
    axes = fig.subplots(2 if known else 1, len(fields), sharex="col", squeeze=False, height_ratios=[2.2, 1.0] if known else [1.0])
    for (ax, *rest), field in zip(axes.T, fields):
        count = made[field].shape[0]
        colors = [_MODEL] if count == 1 else matplotlib.colormaps["viridis"](np.linspace(0.05, 0.8, count))
        for k, color in zip(range(count), colors):
            def get(word, field=field, k=k):
                return made[field + word].values[k]

            ax.fill_between(L, get("_low95"), get("_high95"), color=color, alpha=0.18, lw=0)
            ax.fill_between(L, get("_low68"), get("_high68"), color=color, alpha=0.35, lw=0)
            kp = f"Kp = {made[f'{field}_kp'].values[k]:.1f}" if f"{field}_kp" in made.coords else ""
            when = f"at {made[f'{field}_moment'].values[k] / 3600:.0f} h" if count > 1 else ""
            ax.plot(L, get(""), color=color, lw=1.6, label="fit" + "".join(f", {x}" for x in (kp, when) if x))
            ax.plot(L, get("_start"), color=color, lw=1.0, ls=":", label="start" if k == 0 else None)
            if f"{field}_truth" in made:
                ax.plot(L, get("_truth"), color=_TRUTH, lw=1.1, ls="--", label="truth" if k == 0 else None)
        ax.set_yscale("log")
        for below in rest:
            _relative(below, made, field, L, colors)
        if spans:                                              # where there were measurements
            low, high = min(np.nanmin(s) for s in spans), max(np.nanmax(s) for s in spans)
            for edge in (low, high):
                for one in (ax, *rest):
                    one.axvline(edge, color=GREY, lw=0.8, ls=(0, (1, 3)))
            ax.annotate("data", (0.5 * (low + high), 1.0), xycoords=("data", "axes fraction"), xytext=(0, -10),
                        textcoords="offset points", ha="center", fontsize=8, color=GREY)
        name = {"D_LL": "$D_{LL}$", "tau": r"lifetime $\tau$"}[field]
        _plain(ax)
        ax.set(ylabel=f"{name} [{made[field].attrs['units']}]", xlim=(L[0], L[-1]))
        ax.grid(alpha=0.25, which="both", lw=0.4)
        ax.legend(fontsize=8, title="bands: 68 and 95 %" if known else None, title_fontsize=8)
    for ax in axes[-1]:
        ax.set_xlabel("L")
    return fig


def _relative(ax, made, field, L, colors):
    """Bands and truth over the fit."""
    for k, color in enumerate(colors):
        fit = made[field].values[k]
        low, high = (made[field + side].values[k] / fit for side in ("_low68", "_high68"))
        ax.fill_between(L, low, high, color=color, alpha=0.25, lw=0)
        for side in ("_low95", "_high95"):
            ax.plot(L, made[field + side].values[k] / fit, color=color, lw=0.9)
        if f"{field}_truth" in made:
            ax.plot(L, made[f"{field}_truth"].values[k] / fit, color=_TRUTH, lw=1.1, ls="--")
    ax.axhline(1.0, color=GREY, lw=0.8)
    ax.set_ylabel("relative to the fit\n(68 % filled, 95 % lines)", fontsize=8)
    ax.grid(alpha=0.25, lw=0.4)
    ends = np.concatenate([made[field + side].values / made[field].values for side in ("_low95", "_high95")])
    if np.nanmax(ends, initial=1.0) > 5 * np.nanmin(ends, initial=1.0):
        ax.set_yscale("log")
        _plain(ax)


def _plain(ax):
    """Plain numbers on a logarithmic axis of hardly a decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = ax.get_ylim()
    if high < 100 * low:
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7) if high < 5 * low else (1, 2, 5)))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        ax.yaxis.set_minor_locator(NullLocator())


# ---- correlations

def correlation(made):
    """Up to seven parameters: ellipses of 68 and 95 % for every pair and the marginals; more: the correlation matrix. None where
    there are no standard errors."""
    covariance = made["covariance"].values
    if not np.all(np.isfinite(np.diag(covariance))):
        known = np.isfinite(np.diag(covariance))
        if not known.any():
            return None
        made = made.isel(parameter=known, **{"with": known})
        covariance = made["covariance"].values
    n = covariance.shape[0]
    return _corner(made, covariance) if n <= _CORNER else _matrix(made)


def _label(made, k):
    name = str(made["parameter"].values[k])
    return {"log": f"ln {name}", "logit": f"logit {name}"}.get(str(made["transform"].values[k]), name)


def _inward(made, k, x):
    """The transformed value of x, for a truth; NaN for bounds, which the file does not hold."""
    kind = str(made["transform"].values[k])
    return np.log(x) if kind == "log" and x > 0 else x if kind == "identity" else np.nan


def _corner(made, covariance):
    from matplotlib.patches import Ellipse

    n, theta = covariance.shape[0], made["theta"].values
    sigma = np.sqrt(np.diag(covariance))
    truth = [_inward(made, k, float(made["truth"].values[k])) if "truth" in made else np.nan for k in range(n)]
    fig = _figure(made, 2.0 + 1.9 * n, 1.8 + 1.8 * n, _title(made, "posterior (Gaussian)"))
    axes = np.atleast_2d(fig.subplots(n, n, sharex="col", squeeze=False))
    for i in range(n):
        for j in range(n):
            ax = axes[i, j]
            if j > i:
                ax.axis("off")
                continue
            ax.set_xlim(theta[j] - 3.6 * sigma[j], theta[j] + 3.6 * sigma[j])
            if i == j:
                x = np.linspace(-3.6, 3.6, 181)
                ax.fill_between(theta[i] + x * sigma[i], np.exp(-0.5 * x**2), color=_MODEL, alpha=0.35, lw=0)
                ax.set(ylim=(0, 1.1), yticks=[])
                ax.set_title(f"{theta[i]:.4g} $\\pm$ {sigma[i]:.2g}", fontsize=8)
            else:
                values, vectors = np.linalg.eigh(covariance[np.ix_([j, i], [j, i])])
                angle = np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1]))
                for scale, alpha in ((2.448, 0.18), (1.510, 0.35)):            # 95 and 68 % of a two-dimensional Gaussian
                    w, h = 2 * scale * np.sqrt(np.maximum(values[::-1], 0.0))
                    ax.add_patch(Ellipse((theta[j], theta[i]), w, h, angle=angle, color=_MODEL, alpha=alpha, lw=0))
                ax.plot(theta[j], theta[i], "+", color=_MODEL, ms=7)
                ax.set_ylim(theta[i] - 3.6 * sigma[i], theta[i] + 3.6 * sigma[i])
                ax.annotate(f"{made['correlation'].values[i, j]:+.2f}", (0.96, 0.94), xycoords="axes fraction", ha="right",
                            va="top", fontsize=8, color=GREY)
                if np.isfinite(truth[i]):
                    ax.axhline(truth[i], color=_TRUTH, lw=0.9, ls="--")
            if np.isfinite(truth[j]):
                ax.axvline(truth[j], color=_TRUTH, lw=0.9, ls="--", label="truth" if i == j == 0 else None)
            ax.tick_params(labelsize=7, labelleft=j == 0 and i > 0, labelbottom=i == n - 1)
            ax.locator_params(axis="x", nbins=4)
            if i != j:
                ax.locator_params(axis="y", nbins=4)
            if j == 0 and i > 0:
                ax.set_ylabel(_label(made, i), fontsize=8)
            if i == n - 1:
                ax.set_xlabel(_label(made, j), fontsize=8)
                ax.tick_params(axis="x", rotation=30)
    if np.isfinite(truth[0]):
        axes[0, 0].legend(fontsize=7, loc="upper left", frameon=False)
    return fig


def _matrix(made):
    n = made.sizes["parameter"]
    size = float(np.clip(1.6 + 0.28 * n, 5.0, 13.0))
    fig = _figure(made, size + 1.6, size + 0.8, _title(made, "correlation of the parameters"))
    ax = fig.subplots()
    mesh = ax.imshow(made["correlation"].values, cmap="RdBu_r", vmin=-1, vmax=1)
    each = max(1, n // 40)
    at, names = range(0, n, each), [_label(made, k) for k in range(0, n, each)]
    ax.set_xticks(at, names, rotation=90, fontsize=7)
    ax.set_yticks(at, names, fontsize=7)
    if n <= 14:
        for i in range(n):
            for j in range(n):
                c = made["correlation"].values[i, j]
                ax.text(j, i, f"{c:.2f}", ha="center", va="center", fontsize=6, color="w" if abs(c) > 0.6 else "0.2")
    fig.colorbar(mesh, ax=ax, shrink=0.8, label="correlation")
    return fig


# ---- the way there

def history(made):
    """Loss above its lowest value, and theta of every iteration in units of its final standard error (or of its change)."""
    loss, theta = made["loss"].values, made["history"].values
    if loss.size < 2:
        return None
    fig = _figure(made, 11.0, 4.2, _title(made, "iterations"))
    left, right = fig.subplots(1, 2)
    k = np.arange(loss.size)
    above = loss - np.nanmin(loss)
    left.semilogy(k, np.where(above > 0, above, np.nan), "o-", color=_MODEL, ms=4)      # the lowest itself has no logarithm
    left.set_xlim(-0.5, loss.size - 0.5)
    left.set(xlabel="iteration", ylabel="-ln posterior above its lowest value")
    left.grid(alpha=0.3)
    sigma = made["theta_sigma"].values
    spread = np.ptp(theta, axis=0)
    known = np.isfinite(sigma) & (sigma > 0)
    unit = np.where(known, np.where(known, sigma, 1.0), np.where(spread > 0, spread, 1.0))
    for j in range(min(theta.shape[1], 10)):
        right.plot(k, (theta[:, j] - theta[-1, j]) / unit[j], "o-", ms=3, lw=1, label=_label(made, j))
    right.set(xlabel="iteration", ylabel="(value - last value) / " + ("sigma" if known.all() else "range"))
    right.set_yscale("symlog", linthresh=1.0)
    right.grid(alpha=0.3)
    right.legend(fontsize=7, title="" if theta.shape[1] <= 10 else f"the first 10 of {theta.shape[1]}", title_fontsize=7,
                 loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
    for ax in (left, right):
        ax.xaxis.get_major_locator().set_params(integer=True)
    return fig
