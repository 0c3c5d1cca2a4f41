"""Pictures of distributions over speed: the spectrum with its local slope, and number and energy against time."""

from __future__ import annotations

import numpy as np

__all__ = ["spectrum", "moments"]


def spectrum(run, n: int = 6):
    """g(v) at moments through the run, log-log, and below it the local slope -d ln g/d ln v."""
    from jaxbelt.plot import _as_run, _colors, _figure, _label, _moment, _picked

    run = _as_run(run)
    fig = _figure(run, 7.0, 6.4)
    top, low = fig.subplots(2, 1, sharex=True, height_ratios=[2.2, 1])
    v, f, picked = run.grid["v"].centers, np.asarray(run.f, float), _picked(run, n)
    peak = f[picked].max()
    for i, color in zip(picked, _colors(len(picked))):
        g = np.ma.masked_less_equal(f[i], 1e-16 * peak)
        top.loglog(v, g, color=color, lw=1.5, label=_moment(run, run.t[i]))
        middle = np.sqrt(v[1:] * v[:-1])
        low.semilogx(middle, -np.ma.diff(np.ma.log(g)) / np.diff(np.log(v)), color=color, lw=1.2)
    top.set(ylabel=_label(run), ylim=(1e-16 * peak, 3 * peak), xlim=run.grid["v"].faces[[0, -1]])
    top.legend(fontsize=8, framealpha=0.9)
    low.axhline(3.0, color="0.35", lw=0.6, ls=":")
    low.text(0.99, 3.1, "3: constant flux", transform=low.get_yaxis_transform(), ha="right", fontsize=7.5, color="0.35")
    low.set(ylim=(-2, 8), ylabel="slope $-d\\,$ln$\\,g/d\\,$ln$\\,v$", xlabel="v [v0]")
    for ax in (top, low):
        ax.grid(alpha=0.25, lw=0.4)
    v0 = run.attrs.get("v0_m_per_s")
    if v0 is not None:
        from jaxbelt.constants import ELECTRON_MASS, ELEMENTARY_CHARGE

        unit = 0.5 * ELECTRON_MASS * float(v0) ** 2 / ELEMENTARY_CHARGE
        upper = top.secondary_xaxis("top", functions=(lambda x: unit * np.maximum(x, 1e-30) ** 2,
                                                      lambda e: np.sqrt(np.maximum(e, 1e-30) / unit)))
        upper.set_xlabel("energy [eV]")
    return fig


def moments(run):
    """Number density and mean energy against time, relative to the start."""
    from jaxbelt.plot import _abscissa, _as_run, _figure

    run = _as_run(run)
    fig = _figure(run, 7.0, 4.2)
    ax = fig.subplots()
    v, f = run.grid["v"].centers, np.asarray(run.f, float)
    number = run.grid.content(f)
    energy = run.grid.content(f * v**2) / number
    x = _abscissa(run, run.t) if run.epoch is not None else run.t
    for y, label in ((number, "number"), (energy, "mean energy")):
        ax.plot(x, y / y[0], lw=1.6, label=label)
    rate = run.attrs.get("diffusion_rate_per_s")
    if rate is not None:
        growth = np.exp(10.0 * float(rate) * run.t)
        keep = growth < 1.3 * np.max(energy / energy[0])
        ax.plot(x[keep], growth[keep], color="0.35", lw=0.9, ls="--", label="exp(10 $\\nu_\\parallel G\\,t$): no source, no loss")
    if np.max(energy / energy[0]) > 30:
        ax.set_yscale("log")
    ax.set(ylabel="relative to the start", xlabel="UTC" if run.epoch is not None else "t [s]")
    ax.set_xlim(x[0], x[-1])
    ax.grid(alpha=0.25, lw=0.4)
    ax.legend(fontsize=8)
    return fig
