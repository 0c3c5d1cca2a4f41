"""Is nu_xi/nu_par to be had from one real electron distribution? Van Allen Probe A, HOPE, 2012-12-01 00:00 to 00:36 UT.

    python experiments/hope_mixing.py [FOLDER]        # hope_mixing.png; default experiments/out

The mean of the 80 spectra that share one table of energies (20 have another), neighbouring channels combined as they were sent
down, errors from the scatter in time about the level common to all pitch angles. `infer_mixing` with h free, in three ranges of
energy, with those errors alone and with 10 % added for what the scatter cannot show (calibration between the detector's pixels).

What to expect: the spacecraft is at 5.8 R_E on trapped electrons with a loss cone, drifting for hours; nobody says that there are
magnetic wells in which v_par is mixed. Mixing makes f rise from 90 degrees to the boundary of the trapped region and drop there.
"""

import dataclasses
import sys
from pathlib import Path

import numpy as np

import jaxbelt as jb
from jaxbelt.distributions import read_cdf
from jaxbelt.mixing_inference import infer_mixing

FILE = Path(__file__).resolve().parents[2] / "shared" / "data" / "rbspa_hope_l3_20121201.cdf"
RANGES = ((100.0, 10e3), (150.0, 700.0), (2e3, 30e3))       # [eV]; below: photoelectrons of the spacecraft
EXTRA = 0.1
SHOWN = 0.5                                                 # h of the fit in the picture
SCAN = np.geomspace(0.1, 3.5, 15)
CUTS = (250.0, 500.0, 1250.0, 4000.0, 10e3)


def isotropic(dist):
    """Mean over the bins that have data (energy,)."""
    width = np.asarray(dist.width) * dist.valid
    return (dist.f * width).sum(axis=1) / width.sum(axis=1)


def widened(dist, fraction):
    """An error more, a fraction of the mean at each energy: one of f itself would make low values count more."""
    error = np.hypot(dist.sigma, fraction * isotropic(dist)[:, None])
    return dataclasses.replace(dist, sigma=np.where(dist.valid, error, 1.0))


def main(folder):
    if not FILE.is_file():
        print(f"hope_mixing: skipped, there is no {FILE} (measured data that are not part of the package)")
        return
    series = read_cdf(FILE)
    same = series.same_energies()
    dist = same.merge_energies(2).mean()
    relative = dist.sigma / np.where(dist.valid, dist.f, np.nan)
    print(f"{series}\n  {len(same)} spectra share a table of energies; mean of {same.times[0]} to {same.times[-1]}; "
          f"standard errors {np.nanmin(relative):.1%} to {np.nanmax(relative):.0%}, median {np.nanmedian(relative):.1%}")
    fits, scans = {}, {}
    for low, high in RANGES:
        part = dist.between(low, high)
        for extra in (0.0, EXTRA):
            fit = infer_mixing(widened(part, extra) if extra else part)
            fits[low, high, extra] = fit
            scans[low, high, extra] = [(h, float(one.reduced_chi2)) for h in SCAN[SCAN < 0.9 * np.sqrt(high / low) - 1.0]
                                       for one in [infer_mixing(widened(part, extra) if extra else part, h=h)]]
            print(f"{low:g} to {high:g} eV, {'scatter + 10 %' if extra else 'scatter only'}: {fit}\n"
                  f"    alpha = nu_par/(nu_par + nu_xi) = {float(fit.alpha):.2f} +- {float(fit.sigma_alpha):.2g}; "
                  f"determined: {'yes' if fit.determined else 'no'}")
    path = draw(Path(folder), dist, fits, scans)
    print(f"  {path}")


def draw(folder, dist, fits, scans):
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    low, high = RANGES[0]
    part = dist.between(low, high)
    fit = infer_mixing(widened(part, EXTRA), h=SHOWN)
    print(f"shown: {low:g} to {high:g} eV, scatter + 10 %, {fit}; alpha = {float(fit.alpha):.2f} +- {float(fit.sigma_alpha):.2g}")
    used = np.asarray(fit.used)
    boundary = np.rad2deg(np.arctan(1.0 / np.sqrt(SHOWN)))
    walls = np.rad2deg(np.asarray(part.edges))
    energies = np.exp(np.interp(np.arange(len(part.energy) + 1) - 0.5, np.arange(len(part.energy)), np.log(part.energy)))
    iso = isotropic(part)
    fig = Figure(figsize=(15.5, 9.0), layout="constrained")
    (a, b, c), (d, e, g) = fig.subplots(2, 3)

    # f in the plane of v_par, v_perp
    keep = (dist.energy > 60) & (dist.energy < 2e4)
    v, f = np.asarray(dist.v)[keep] / 1e6, np.where(dist.valid, dist.f, np.nan)[keep]
    radius = np.exp(np.interp(np.arange(len(v) + 1) - 0.5, np.arange(len(v)), np.log(v)))
    x, y = (np.log10(radius / radius[0])[:, None] * q(np.asarray(dist.edges)) for q in (np.cos, np.sin))
    image = a.pcolormesh(x, y, f, norm=LogNorm(), cmap="turbo", rasterized=True)
    r = np.array([0, np.log10(radius[-1] / radius[0])])
    for s in (-1, 1):
        a.plot(s * r * np.cos(np.deg2rad(boundary)), r * np.sin(np.deg2rad(boundary)), "w--", lw=1.5)
    a.set(aspect="equal", anchor="S", xlabel=r"log$_{10}(v/v_0)\,\cos\alpha$  (along B)", ylabel=r"log$_{10}(v/v_0)\,\sin\alpha$",
          title=f"Measured f(v, $\\xi$), {dist.energy[keep][0]:.0f} eV to {dist.energy[keep][-1] / 1e3:.0f} keV")
    fig.colorbar(image, ax=a, label=r"f [s$^3$/m$^6$]", location="bottom", pad=0.02, shrink=0.9)

    ratio, fitted = dict(vmin=0.4, vmax=1.6, cmap="RdBu_r"), np.asarray(fit.model) / iso[:, None]
    for ax, values, title, how in ((b, part.f / iso[:, None], r"Measured f/$\langle f\rangle_\xi$", ratio),
                                   (c, fitted, f"Fit at h = {SHOWN:g}" + r" / $\langle f\rangle_\xi$", ratio),
                                   (d, np.asarray(fit.residual), "Residual in standard errors (scatter and 10 %)",
                                    dict(vmin=-5, vmax=5, cmap="PuOr_r"))):
        show = part.valid if ax is b else used
        image = ax.pcolormesh(walls, energies, np.where(show, values, np.nan), rasterized=True, **how)
        ax.set_facecolor("0.8")
        ax.axvline(boundary, color="k", ls="--", lw=1.2)
        ax.axvline(180 - boundary, color="k", ls="--", lw=1.2)
        ax.set(yscale="log", title=title, xlabel="Pitch angle [deg]", xticks=range(0, 181, 30), ylabel="Energy [eV]",
               xlim=(0, 180), ylim=(energies[0], energies[-1]))
        fig.colorbar(image, ax=ax, pad=0.01)

    middle = np.rad2deg(0.5 * (np.asarray(part.edges)[1:] + np.asarray(part.edges)[:-1]))
    for n, energy in enumerate(CUTS):
        i = int(np.argmin(np.abs(np.log(part.energy / energy))))
        ok, up = part.valid[i], 0.5 * n
        colour = f"C{n}"
        e.errorbar(middle[ok], part.f[i, ok] / iso[i] + up, part.sigma[i, ok] / iso[i], fmt="o", ms=4, color=colour, capsize=2)
        e.plot(middle[used[i]], fitted[i, used[i]] + up, "-", color=colour)
        e.annotate(f"{part.energy[i]:.0f} eV\n+ {up:g}", (183, 0.95 + up), color=colour, fontsize=9, va="center",
                   annotation_clip=False)
    e.set(title="Cuts: HOPE (points, scatter in time), fit (lines)", xlabel="Pitch angle [deg]", xlim=(0, 180),
          xticks=range(0, 181, 30), ylabel=r"f/$\langle f\rangle_\xi$, shifted")
    e.axvline(boundary, color="k", ls="--", lw=1.2)
    e.axvline(180 - boundary, color="k", ls="--", lw=1.2)

    for n, ((low, high, extra), curve) in enumerate(scans.items()):
        best = fits[low, high, extra]
        label = f"{low:g}-{high:g} eV, " + ("scatter + 10 %" if extra else "scatter only")
        g.plot(*np.array(curve).T, "-" if extra else ":", color=f"C{n // 2}", lw=2,
               label=label + f": best $\\alpha$ {float(best.alpha):.2f} $\\pm$ {float(best.sigma_alpha):.2g}")
    g.axhline(1.0, color="0.5", lw=1)
    g.set(xscale="log", yscale="log", xlabel="h", ylabel=r"reduced $\chi^2$", title="Fits at given h (1: the model fits)")
    g.set_ylim(0.7, 3e4)
    g.legend(fontsize=8, loc="upper left")
    fig.suptitle("Van Allen Probe A, HOPE electrons, 2012-12-01 00:00 to 00:36 UT: nothing on nu_xi/nu_par is to be had "
                 "from them")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "hope_mixing.png"
    fig.savefig(path, dpi=110)
    return path


if __name__ == "__main__":
    jb.enable_x64()
    main(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "out")
