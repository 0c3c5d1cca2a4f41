"""Pictures of distributions over speed: spectrum with local slope, number and energy against time, f over v_par and v_perp."""

from __future__ import annotations

import numpy as np

from jaxbelt import plot_common as common

__all__ = ["distribution", "moments", "spectrum"]


def spectrum(run, n: int = 6):
    """g(v), the mean over xi, at moments through the run, log-log, and below it the local slope -d ln g/d ln v."""
    run = common.as_run(run)
    fig = common.figure(run, 7.0, 6.4)
    top, low = fig.subplots(2, 1, sharex=True, height_ratios=[2.2, 1])
    v, f, picked = run.grid["v"].centers, common.values(run, ("v",)), common.picked(run, n)
    peak = f[picked].max()
    for i, color in zip(picked, common.colors(len(picked))):
        g = np.ma.masked_less_equal(f[i], 1e-16 * peak)
        top.loglog(v, g, color=color, lw=1.5, label=_when(run, run.t[i]))
        middle = np.sqrt(v[1:] * v[:-1])
        low.semilogx(middle, -np.ma.diff(np.ma.log(g)) / np.diff(np.log(v)), color=color, lw=1.2)
    label = common.label(run).replace("f(v, xi)", "g(v), mean over xi")
    top.set(ylabel=label, ylim=(1e-16 * peak, 3 * peak), xlim=run.grid["v"].faces[[0, -1]])
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
    run = common.as_run(run)
    fig = common.figure(run, 7.0, 4.2)
    ax = fig.subplots()
    axis, f = run.grid["v"], common.values(run, ("v",))
    number = f @ axis.measure
    energy = f @ (axis.measure * axis.centers**2) / number
    x = common.abscissa(run, run.t) if run.epoch is not None else run.t
    for y, label in ((number, "number"), (energy, "mean energy")):
        ax.plot(x, y / y[0], lw=1.6, label=label)
    rate = run.attrs.get("diffusion_rate_per_s")
    if rate is not None:
        fine = np.linspace(run.t[0], run.t[-1], 400)
        growth = np.exp(10.0 * float(rate) * (fine - fine[0]))
        keep = growth < 1.3 * np.max(energy / energy[0])
        ax.plot((common.abscissa(run, fine) if run.epoch is not None else fine)[keep], growth[keep], color="0.35", lw=0.9,
                ls="--", label="velocity diffusion alone, exp(10 $\\nu_\\parallel G\\,t$)")
    if np.max(energy / energy[0]) > 30:
        ax.set_yscale("log")
    ax.set(ylabel="relative to the start", xlabel="UTC" if run.epoch is not None else "t [s]")
    ax.set_xlim(x[0], x[-1])
    ax.grid(alpha=0.25, lw=0.4)
    ax.legend(fontsize=8)
    return fig


def _when(run, t) -> str:
    return common.moment(run, t) if run.epoch is not None or run.t[-1] > 7200 else f"{t:g} s"


def distribution(run, n: int = 4):
    """f over (v_par, v_perp) at moments through the run, with the boundary of the trapped electrons, E_par = h E_perp."""
    from matplotlib.colors import LogNorm

    run = common.as_run(run)
    picked = common.picked(run, n)
    columns = min(4, len(picked))
    rows = -(-len(picked) // columns)
    fig = common.figure(run, 3.1 * columns + 1.0, 1.9 * rows + 1.3)
    axes = fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    v, xi = run.grid["v"].centers, run.grid["xi"].centers
    f = common.values(run, ("v", "xi"))[picked]
    top = f.max()
    # as far as f stays within four decades of its peak
    reach = v[np.any(f > 1e-4 * top, axis=(0, 2))].max()
    xi, f = np.append(xi, 1.0), np.concatenate([f, f[..., -1:]], axis=-1)      # as far as the axis
    both = np.concatenate([-xi[::-1], xi])
    par, perp = v[:, None] * both, v[:, None] * np.sqrt(1.0 - both**2)
    for ax, i, values in zip(axes, picked, f):
        mesh = ax.pcolormesh(par, perp, np.concatenate([values[:, ::-1], values], axis=1), shading="gouraud",
                             cmap=common.under("viridis"), norm=LogNorm(1e-4 * top, top), rasterized=True)
        h = run.attrs.get("h")
        if h is not None:
            for side in (1, -1):
                ax.plot([0, side * np.sqrt(float(h)) * reach], [0, reach], color="w", lw=0.9, ls="--",
                        label="trapped / passing" if side > 0 else None)
        ax.set(xlim=(-reach, reach), ylim=(0, reach), aspect="equal", title=_when(run, run.t[i]))
        ax.title.set_fontsize(9)
    for ax in axes[len(picked):]:
        ax.remove()
    for ax in axes[:len(picked)]:
        ax.set_xlabel("$v_\\parallel$ [v0]")
    for ax in axes[:len(picked):columns]:
        ax.set_ylabel("$v_\\perp$ [v0]")
    handles, labels = axes[0].get_legend_handles_labels()
    if handles:
        fig.legend(handles, labels, loc="outside lower right", fontsize=8, facecolor="#30506c", labelcolor="w")
    common.bar_of(fig, mesh, list(axes[:len(picked)]), common.label(run), shrink=0.8)
    return fig
