"""Pictures of runs on a grid of labels: PSD and flux in (energy, pitch angle), spectra at 90 degrees, flux against time and L,
MLT dials of the flux at fixed energies, PSD at fixed mu and K.

Each takes what `jaxbelt.load` returns, or a Solution, and gives a Figure. A case says which energies, L, mu, K and moments
([output] energies, L, mu, K, times); else a few are chosen from the grid. Fluxes are directional, 1/(cm^2 s sr MeV).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxbelt import plot_common as common

__all__ = ["energy_angle", "energy_spectrum", "flux_dials", "flux_time", "psd_time"]

_PSD = r"PSD [(c/(MeV cm))$^3$]"
_DECADES = 7.0
USUAL_K = 0.05             # G^1/2 R_E, of `psd_time`
_ROWS = 4                  # the most L that `energy_angle` shows


# ---- what they share

def _without_phi(run, picked=slice(None)):
    """(grid without phi, f at the outputs picked, the mean over MLT)."""
    f = np.asarray(run.f[picked], float)
    if "phi" not in run.grid.names:
        return run.grid, f
    k = run.grid.index("phi")
    axes = tuple(a for a in run.grid.axes if a.name != "phi")
    return dataclasses.replace(run.grid, axes=axes), f.mean(axis=1 + k)


def _energies(run, n=4):
    """Energies [MeV] that the case names, or n that every L of the grid holds at 90 degrees."""
    named = common.style(run).get("energies")
    if named is not None:
        return np.atleast_1d(named)
    low, high = _range(run.grid)
    middle = np.geomspace(low, high, n + 2)[1:-1]
    return np.unique([float(f"{x:.{1 if high > 10 * low else 2}g}") for x in middle])


def steepest(grid) -> float:
    """The pitch angle [rad] of the pictures: 90 degrees, or the largest whole number of degrees on the grid at every L."""
    from jaxbelt.physics.label_sampling import reaches_90
    from jaxbelt.physics.labels import at_L

    if reaches_90(grid):
        return 0.5 * np.pi
    degrees = np.degrees(np.min(at_L(grid["alpha"].faces[-1], np.ravel(grid.L), grid.L_ref).alpha))
    return float(np.radians(max(np.floor(degrees + 1e-9), 0.5 * degrees)))


def energy_range(grid):
    """(lowest, highest) energy [MeV] that is on the grid at the `steepest` pitch angle, at each L."""
    from jaxbelt.physics.invariants import energy_of_momentum
    from jaxbelt.physics.labels import to_labels

    _, shift = to_labels(steepest(grid), np.ravel(grid.L), grid.L_ref)
    return tuple(np.asarray(energy_of_momentum(np.exp(x - shift), grid.species)) for x in grid["lnp"].faces[[0, -1]])


def mu_range(grid, K, planet):
    """(lowest, highest) mu [MeV/G] on the grid at K [G^1/2 R_E], the same at every L; None where the grid does not hold K."""
    from jaxbelt.physics.invariants import alpha_of_K, mu_of_momentum

    alpha, (low, high) = float(alpha_of_K(K, grid.L_ref, planet)), grid["alpha"].faces[[0, -1]]
    if not low - 1e-9 <= alpha <= high + 1e-9:
        return None
    return tuple(float(mu_of_momentum(np.exp(x), alpha, grid.L_ref, grid.species, planet)) for x in grid["lnp"].faces[[0, -1]])


def planet_of(attrs):
    """The planet of a run, out of its attributes."""
    from jaxbelt.constants import EARTH

    return EARTH.replace(b_e=float(attrs.get("b_e_gauss", EARTH.b_e)))


def _range(grid):
    """The energies [MeV] that are on the grid at every L."""
    low, high = energy_range(grid)
    return (low.max(), high.min()) if low.max() < high.min() else (float(np.median(low)), float(np.median(high)))


def _shells(run, n):
    """(indices of shells, L) to show: none on a grid without L."""
    if "L" not in run.grid.names:
        return [(None, run.grid.L_ref)]
    return [(int(j), float(run.grid["L"].centers[j])) for j in common.shells(run, n)]


def _named(energy):
    return f"{1e3 * energy:g} keV" if energy < 1.0 else f"{energy:g} MeV"


def _flux(grid):
    return rf"j$_{{{np.degrees(steepest(grid)):.3g}}}$ [1/(cm$^2$ s sr MeV)]"


def _mean(run):
    return ", MLT mean" if "phi" in run.grid.names else ""


def _energy_axis(axis):
    """Plain numbers at 1, 2, 5 of each decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def _limits(low, top):
    """Of a logarithmic axis: what is there, at most eight decades."""
    return (max(0.3 * low, 1e-8 * top), 3.0 * top) if top > 0 else None


def _decades(values, decades=_DECADES):
    """A logarithmic scale down from the largest value."""
    from matplotlib.colors import LogNorm

    top = np.nanmax(values, initial=0.0)
    top = 10.0 ** np.ceil(np.log10(top)) if top > 0 else 1.0
    return LogNorm(top * 10.0**-decades, top)


# ---- energy and pitch angle

def energy_angle(run, n: int = 4):
    """PSD (above) and directional flux (below) in pitch angle and energy at moments of the run: a row an L that the case names
    (of more than four, four spread over them; the middle of the grid where it names none), a column a moment."""
    from jaxbelt.physics import fluxes

    run = common.as_run(run)
    picked = common.picked(run, n)
    grid, psd = _without_phi(run, picked)
    flux = np.asarray(fluxes.to_flux(grid, psd))
    shells = _shells(run, 1)
    shells = [shells[i] for i in np.unique(np.linspace(0, len(shells) - 1, _ROWS).astype(int))]
    rows, corners = len(shells), [_corners(grid, L) for _, L in shells]
    several = rows > 1
    title = "" if several else f"L = {shells[0][1]:.2f}"
    fig = common.figure(run, 2.6 * len(picked) + 1.4, 1.6 + (2.1 if several else 2.5) * 2 * rows,
                        f"{title}{_mean(run)}".removeprefix(", "))
    axes = fig.subplots(2 * rows, len(picked), sharex=True, sharey=True, squeeze=False)
    for block, values, label in ((axes[:rows], psd, _PSD), (axes[rows:], flux, "j [1/(cm$^2$ s sr MeV)]")):
        values = [values if j is None else values[:, j] for j, _ in shells]
        norm = _decades(np.stack(values))
        for row, own, (angles, energies), (_, L) in zip(block, values, corners, shells):
            for ax, shown in zip(row, own):
                mesh = ax.pcolormesh(angles, energies, np.ma.masked_less_equal(shown, 0), norm=norm,
                                     cmap=common.under("viridis"), rasterized=True)
            row[0].set_ylabel((f"L = {L:.2f}\n" if several else "") + "energy [MeV]")
        common.bar_of(fig, mesh, list(block.ravel()), label)
    for ax, i in zip(axes[0], picked):
        ax.set_title(common.moment(run, run.t[i]), fontsize=9)
    for ax in axes[-1]:
        ax.set(xlabel="pitch angle [deg]", xlim=(0, 90), xticks=[0, 30, 60, 90], yscale="log",
               ylim=(min(np.nanmin(e) for _, e in corners), max(np.nanmax(e[-1]) for _, e in corners)))
    for ax in axes[:, 0]:
        _energy_axis(ax.yaxis)
    return fig


def _corners(grid, L):
    """(pitch angle [deg], energy [MeV]) of the corners of the cells at L: (n_alpha + 1, n_p + 1)."""
    from jaxbelt.physics.invariants import energy_of_momentum
    from jaxbelt.physics.labels import at_L

    place = at_L(grid["alpha"].faces, L, grid.L_ref)
    lnp = np.asarray(place.log_p)[:, None] + grid["lnp"].faces
    energies = np.asarray(energy_of_momentum(np.exp(lnp), grid.species))
    return np.broadcast_to(np.degrees(place.alpha)[:, None], energies.shape), energies


# ---- spectra

def energy_spectrum(run, n: int = 6):
    """Flux at 90 degrees, or the largest pitch angle of the grid, against energy at moments of the run, one panel an L."""
    from jaxbelt.physics import fluxes

    run = common.as_run(run)
    picked, shells = common.picked(run, n), _shells(run, 3)
    grid, f = _without_phi(run, picked)
    fig = common.figure(run, 3.3 * len(shells) + 2.8, 4.6)
    axes = fig.subplots(1, len(shells), sharey=True, squeeze=False)[0]
    top, low = 0.0, np.inf
    for ax, (j, L) in zip(axes, shells):
        low_end, high_end = (x[0 if j is None else j] for x in energy_range(grid))
        energy = np.geomspace(low_end * (1 + 1e-9), high_end * (1 - 1e-9), 200)
        flux = np.asarray(fluxes.flux_at(grid, f, energy, steepest(grid), None if j is None else np.asarray([L])))
        flux = flux if j is None else flux[:, 0]
        top, low = max(top, np.nanmax(flux)), min(low, np.nanmin(flux))
        for values, i, color in zip(flux, picked, common.colors(len(picked))):
            ax.loglog(energy, np.ma.masked_less_equal(values, 0), color=color, lw=1.6, label=common.moment(run, run.t[i]))
        ax.set(xlabel="energy [MeV]", xlim=energy[[0, -1]])
        ax.set_title(f"L = {L:.2f}", fontsize=10)
        _energy_axis(ax.xaxis)
        ax.grid(alpha=0.25, which="both", lw=0.4)
    axes[0].set(ylabel=_flux(grid).replace(" [", _mean(run) + " ["), ylim=_limits(low, top))
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside right upper", fontsize=8, frameon=False)
    return fig


# ---- against time

def flux_time(run):
    """Flux at 90 degrees at fixed energies against time: over L, one panel an energy, or lines where the run is at one L."""
    from jaxbelt.physics import fluxes

    run = common.as_run(run)
    energies = _energies(run)
    grid, f = _without_phi(run)
    flux = np.asarray(fluxes.flux_at(grid, f, energies, steepest(grid)))                      # (nt, [n_L,] energies)
    if "L" in grid.names:
        return _over_l(run, np.moveaxis(flux, -1, 0), [_named(e) for e in energies], _flux(grid).replace(" [", _mean(run) + " ["))
    fig = common.figure(run, 7.8, 4.6)
    ax = fig.subplots()
    low = np.asarray(fluxes.flux_at(grid, f, energies, 0.25 * np.pi))
    x = common.abscissa(run, run.t)
    for k, (energy, color) in enumerate(zip(energies, common.colors(len(energies)))):
        ax.semilogy(x, np.ma.masked_less_equal(flux[:, k], 0), color=color, lw=1.7, label=_named(energy))
        ax.semilogy(x, np.ma.masked_less_equal(low[:, k], 0), color=color, lw=1.0, ls="--")
    ax.plot([], [], color="0.3", lw=1.7, label=f"{np.degrees(steepest(grid)):.3g} deg")
    ax.plot([], [], color="0.3", lw=1.0, ls="--", label="45 deg")
    ax.set(ylabel="j [1/(cm$^2$ s sr MeV)]", xlim=common.abscissa(run, run.t[[0, -1]]),
           ylim=_limits(min(np.nanmin(flux), np.nanmin(low)), np.nanmax(flux)))
    ax.grid(alpha=0.25, which="both", lw=0.4)
    fig.legend(*ax.get_legend_handles_labels(), loc="outside right upper", fontsize=8, frameon=False)
    common.time_axis(run, ax)
    return fig


def psd_time(run):
    """PSD at fixed mu and K against time and L, one panel a mu."""
    from jaxbelt.physics import fluxes

    run = common.as_run(run)
    planet = planet_of(run.attrs)
    grid, f = _without_phi(run)
    style = common.style(run)
    K = float(style.get("K", USUAL_K))
    mu = style.get("mu")
    if mu is None:
        low, high = mu_range(grid, K, planet) or mu_range(grid, float(np.max(grid.K(planet))), planet)
        mu = np.unique([float(f"{x:.1g}") for x in np.geomspace(low, high, 5)[1:-1]])
    mu = np.atleast_1d(mu)
    psd = np.asarray(fluxes.psd_at(grid, f, mu, K, planet=planet))
    return _over_l(run, np.moveaxis(psd, -1, 0), [f"$\\mu$ = {x:g} MeV/G, K = {K:g} G$^{{1/2}}$ R$_E$" for x in mu],
                   _PSD.replace(" [", _mean(run) + " ["))


def _over_l(run, values, texts, label):
    """Panels (nt, n_L) on colour scales of their own, the drivers on top."""
    from jaxbelt.plot import _driver_panel

    panels = sorted(run.drivers, key=lambda n: n != "kp")
    fig = common.figure(run, 9.0, 0.9 * len(panels) + 1.75 * len(texts) + 1.2, label)
    axes = fig.subplots(len(panels) + len(texts), 1, sharex=True, squeeze=False,
                        height_ratios=[1] * len(panels) + [2.1] * len(texts))[:, 0]
    for ax, name in zip(axes, panels):
        _driver_panel(run, ax, name)
    x = common.abscissa(run, common.edges(run.t))
    for ax, shown, text in zip(axes[len(panels):], values, texts):
        mesh = ax.pcolormesh(x, run.grid["L"].faces, np.ma.masked_invalid(np.where(shown > 0, shown, np.nan)).T,
                             norm=common.norm(np.nan_to_num(shown)), cmap=_grey_outside(), rasterized=True)
        ax.set_ylabel("L")
        ax.text(0.01, 0.94, text, transform=ax.transAxes, va="top", fontsize=9,
                bbox={"fc": "w", "ec": "none", "alpha": 0.75, "pad": 1.5})
        common.bar_of(fig, mesh, ax, "")
    axes[-1].set_xlim(*common.abscissa(run, np.array([run.t[0], run.planned[-1]])))
    common.time_axis(run, axes[-1])
    return fig


def _grey_outside():
    """Grey where the grid does not hold the energy, and the darkest colour below the scale."""
    import matplotlib

    cmap = matplotlib.colormaps["viridis"]
    return cmap.with_extremes(bad="0.75", under=cmap(0.0))


# ---- in MLT

def flux_dials(run, n: int = 4):
    """Flux at 90 degrees over (L, MLT): a row an energy, a column a moment; noon at the top, dawn on the right; grey where the
    grid does not hold the energy."""
    from jaxbelt.physics import fluxes

    run = common.as_run(run)
    picked, energies = common.picked(run, n), _energies(run, 3)
    f = np.asarray(run.f[picked], float)
    flux = np.asarray(fluxes.flux_at(run.grid, f, energies, steepest(run.grid)))              # (times, n_L, n_phi, energies)
    flux = np.moveaxis(flux, -1, 0)
    fig = common.figure(run, 2.5 * len(picked) + 1.4, 2.6 * len(energies) + 0.9)
    axes = fig.subplots(len(energies), len(picked), squeeze=False, subplot_kw={"projection": "polar"})
    kp = run.drivers.get("kp")
    for row, shown, energy in zip(axes, flux, energies):
        norm = _decades(shown, 4.0)
        for ax, values in zip(row, shown):
            mesh = common.dial(ax, run.grid, np.ma.masked_invalid(np.maximum(values, 1e-3 * norm.vmin)), norm, _grey_outside())
        row[0].set_ylabel(_named(energy), labelpad=22, fontsize=10)
        common.bar_of(fig, mesh, list(row), _flux(run.grid), shrink=0.85)
    for ax, i in zip(axes[0], picked):
        text = common.moment(run, run.t[i])
        if kp is not None:
            at = max(0, np.searchsorted(kp["t"], run.t[i], side="right") - 1)
            text += f"   Kp {kp['values'][min(at, len(kp['values']) - 1)]:.1f}"
        ax.set_title(text, fontsize=9, pad=5)
    return fig
