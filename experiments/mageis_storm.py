"""The storm of 17 March 2013 as Van Allen Probe A's MagEIS saw it, beside a radial-diffusion run seen along the same orbit.

    python experiments/mageis_storm.py [OUT]           # OUT: a folder, experiments/out by default

Reads ../shared/data (beside the project): MagEIS count rates of probe A with L*, 16 to 20 March 2013, and Kp. Needs scipy for
the MATLAB files. Nothing is tuned: published D_LL(Kp) and lifetimes, diffusion in L* alone for 24 mu at once.

Count rates are used relative to themselves. Model rate = a (flux in the channel) + background: a, one number a channel, is the
median of rate/flux in the 18 hours before the storm; the background is the 10th percentile at L* = 3 to 4 in the same hours.
The first pass gives f at the start, the rates around each apogee (L* > 5.3) its value at the wall, both with the ILLUSTRATIVE
spectrum j ~ exp(-E/0.35 MeV) at every L*. What the figures judge is therefore the inside: L* = 3 to 5.2 from the onset on.
"""

import sys
import warnings
from pathlib import Path

import jax.numpy as jnp
import numpy as np

import jaxbelt as jb
from jaxbelt import drift_diffusion as dd
from jaxbelt.observation import Channel, Orbit, SinN, observe
from jaxbelt.physics.dipole import energy_of_mu
from jaxbelt.physics.drivers import read_kp, seconds_after
from jaxbelt.physics.invariants import psd_of_flux
from jaxbelt.physics.losses import KpLifetime
from jaxbelt.physics.radial_diffusion import BrautigamAlbert

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"
EPOCH = "2013-03-16T00:00:00"
HOUR, DAY = 3600.0, 86400.0
WALLS = (2.5, 5.7)
JUDGED = (3.0, 5.2)                        # L* on which the figures are measured
ONSET = 30 * HOUR                          # 17 March 06 UT
E0 = 0.35                                  # MeV, illustrative
MU = np.geomspace(25.0, 4000.0, 24)        # MeV/G
CHANNELS = (6, 7)                          # 569-1123 keV and 1130-1375 keV


def read_mageis(folder):
    """(dates, L*, rates (time, channel), channel energies (channel, 2) [MeV]) of the MagEIS files; NaN: no value."""
    try:
        from scipy.io import loadmat
    except ImportError:
        raise SystemExit("mageis_storm: reading MATLAB files needs scipy: pip install scipy") from None
    data = loadmat(folder / "rbspa_mageis_20130316_20130321.mat")
    energy = loadmat(folder / "rbspa_mageis_energy.mat")
    unix = (data["T"].ravel() - 719529.0) * DAY                       # MATLAB counts days from year 0
    dates = np.datetime64("1970-01-01", "ms") + np.round(unix * 1e3).astype("timedelta64[ms]")
    band = np.stack([energy["Emin"].ravel(), energy["Emax"].ravel()], axis=1) / 1e3
    return dates, data["Lstar"].ravel(), data["CountRate"], band


def thin(x, k=6):
    """Medians over k samples (about a minute) of what there is; NaN where more than half is missing."""
    blocks = x[:len(x) // k * k].reshape(-1, k, *x.shape[1:])
    return np.where(np.isfinite(blocks).sum(axis=1) >= k / 2, nanmedian(blocks, axis=1), np.nan)


def nanmedian(x, axis):
    """np.nanmedian without its warning where everything is missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmedian(x, axis=axis)


def turns(t, lstar):
    """Times of the passes' ends: perigees and apogees, the extremes of L* within an hour and a half either way."""
    ok = np.isfinite(lstar)
    L = np.interp(t, t[ok], lstar[ok])
    n = int(1.5 * HOUR / np.median(np.diff(t)))
    smooth = np.convolve(np.pad(L, n // 4, mode="edge"), np.ones(n // 2 + 1) / (n // 2 + 1), "same")[n // 4:][:L.size]
    window = np.lib.stride_tricks.sliding_window_view(np.pad(smooth, n, mode="edge"), 2 * n + 1)
    extreme = (smooth == window.max(axis=1)) | (smooth == window.min(axis=1))
    ends = t[extreme]
    ends = ends[np.concatenate([[True], np.diff(ends) > HOUR])]
    return np.unique(np.concatenate([[t[0]], ends[(ends > t[0] + HOUR) & (ends < t[-1] - HOUR)], [t[-1]]]))


def binned(t, lstar, x, ends, edges):
    """Medians of x by pass and L* (n_pass, n_L); NaN with fewer than three samples."""
    out = np.full((ends.size - 1, edges.size - 1), np.nan)
    p, k = np.searchsorted(ends, t, side="right") - 1, np.searchsorted(edges, lstar, side="right") - 1
    good = np.isfinite(x) & np.isfinite(lstar)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            here = x[good & (p == i) & (k == j)]
            if here.size >= 3:
                out[i, j] = np.median(here)
    return out


def belt(t, lstar, rate, ends, background):
    """(problem's grid, f0, wall values a mu, start): from the rates of the first channel and the illustrative spectrum."""
    centre = 0.8
    net = np.maximum(rate - background, 0.05 * background)
    first = (t > 7.2 * HOUR) & (t < 11.8 * HOUR) & (lstar > 2.9)       # the first whole pass outward
    edges = np.arange(2.9, 5.8, 0.1)
    profile = binned(t[first], lstar[first], net[first], np.array([0.0, 12 * HOUR]), edges)[0]
    x, some = 0.5 * (edges[1:] + edges[:-1]), np.isfinite(profile)
    grid = dd.grid(L=WALLS, cells=110, mu=MU)
    L, mu = grid["L"].centers, MU[:, None]

    def psd(level, L):
        energy = energy_of_mu(mu, L)
        return np.asarray(psd_of_flux(level * np.exp(-(energy - centre) / E0), energy))

    f0 = psd(np.exp(np.interp(L, x[some], np.log(profile[some]))), L)
    top = []
    for a, b in zip(ends[:-1], ends[1:]):                              # near each apogee
        for end in (a, b):
            near = (np.abs(t - end) < 1.2 * HOUR) & (lstar > 5.3) & (lstar < WALLS[1] + 0.1) & np.isfinite(net)
            if near.sum() > 10:
                top.append((end, np.median(net[near])))
    when, level = np.array(sorted(set(top))).T
    hours = np.arange(0.0, 5 * DAY + 1, HOUR)
    level = np.exp(np.interp(hours, when, np.log(level)))
    wall = [jb.Series(hours, v, kind="linear") for v in psd(level, WALLS[1])]
    return grid, f0, wall


def skill(model, data):
    """(median symmetric accuracy [%], correlation of the logarithms, median of log10(model/data)) (Morley et al. 2018)."""
    q = np.log(model / data)
    return 100 * np.expm1(np.median(np.abs(q))), np.corrcoef(np.log(model), np.log(data))[0, 1], np.median(q) / np.log(10)


def main(folder):
    missing = [f for f in ("rbspa_mageis_20130316_20130321.mat", "rbspa_mageis_energy.mat", "kp_1958_2023.txt")
               if not (DATA / f).is_file()]
    if missing:
        print(f"mageis_storm: skipped, {DATA} lacks {', '.join(missing)} (measured data that are not part of the package)")
        return
    dates, lstar, rates, band = read_mageis(DATA)
    t, lstar, rates = thin(seconds_after(EPOCH, dates)), thin(lstar), thin(rates)
    ends, edges = turns(t, lstar), np.arange(2.5, 5.81, 0.1)
    calm = (t > 12 * HOUR) & (t < ONSET)
    slot = calm & (lstar > 3.0) & (lstar < 4.0)
    background = np.nanpercentile(rates[slot], 10, axis=0)

    kp = read_kp(DATA / "kp_1958_2023.txt", "2013-03-15", "2013-03-21", epoch=EPOCH)
    life = KpLifetime(kp=kp, kp_max=jb.drivers.max_over(kp))
    grid, f0, wall = belt(t, lstar, rates[:, CHANNELS[0]], ends, background[CHANNELS[0]])
    prm = [dd.Parameters(dll=BrautigamAlbert(kp=kp), lifetime=life)] * MU.size
    problem = dd.problem(grid, prm, inner=0.0, outer=wall, epoch=EPOCH)
    start = 12 * HOUR
    sol = jb.solve(problem, f0, t=np.arange(start, 5 * DAY + 1, 1800.0), dt=600.0)

    orbit = Orbit(t, np.where(lstar > WALLS[0], lstar, np.nan))
    seen = observe(sol, orbit, [Channel(energy=tuple(band[k]), shape=SinN(n=2.0), label=f"{1e3 * band[k, 0]:.0f}-"
                                        f"{1e3 * band[k, 1]:.0f} keV") for k in CHANNELS], outside="mask")
    print(f"{sol.message}; {seen.message}")
    middle = 0.5 * (edges[1:] + edges[:-1])
    judged = (ends[:-1] >= ONSET - HOUR)[:, None] & ((middle > JUDGED[0]) & (middle < JUDGED[1]))
    panels = []
    for k, flux in zip(CHANNELS, np.asarray(seen.flux)):
        data, bare = (binned(t, lstar, x, ends, edges) for x in (rates[:, k], flux))
        early = ((ends[:-1] >= start - HOUR) & (ends[1:] <= ONSET + HOUR))[:, None] & (data > 3 * background[k]) & (bare > 0)
        early &= (middle > 3.5) & (middle < JUDGED[1])
        factor = np.median((data[early] - background[k]) / bare[early])
        model = factor * bare + background[k]
        use = judged & np.isfinite(data) & np.isfinite(model)
        before = nanmedian(np.where(early.any(axis=1)[:, None], data, np.nan), axis=0)
        still = np.broadcast_to(before, data.shape)
        use &= np.isfinite(still)
        scale = np.nanmedian(data[early])
        panels.append((seen.labels[len(panels)], data / scale, model / scale, scale))
        for name, guess in (("model", model), ("nothing changes", still)):
            accuracy, r, bias = skill(guess[use], data[use])
            print(f"  {panels[-1][0]}, L* {JUDGED[0]:g}-{JUDGED[1]:g} from 17 March 06 UT, {int(use.sum())} bins, {name}: median "
                  f"symmetric accuracy {accuracy:.0f} %, correlation of logs {r:.2f}, median log10(model/data) {bias:+.2f}")
    path = draw(Path(folder), ends, edges, panels, kp, life)
    print(f"  {path}")


def draw(folder, ends, edges, panels, kp, life):
    """The picture: MagEIS, the model along the same orbit, their ratio, and Kp."""
    from matplotlib.colors import LogNorm
    from matplotlib.dates import DateFormatter, DayLocator, HourLocator, date2num
    from matplotlib.figure import Figure

    def utc(seconds):
        return date2num(np.datetime64(EPOCH, "ms") + np.round(np.asarray(seconds) * 1e3).astype("timedelta64[ms]"))

    fig = Figure(figsize=(13, 10), layout="constrained")
    axes = fig.subplots(4, 2, sharex=True, gridspec_kw={"height_ratios": (1, 1, 1, 0.45)})
    hours = np.arange(0.0, 5 * DAY, 900.0)
    lpp = np.array([float(life.plasmapause(jnp.asarray(h))) for h in hours[::4]])
    colours, ratio = LogNorm(1e-2, 1e2), LogNorm(1e-2, 1e2)
    for column, (label, data, model, _) in enumerate(panels):
        rows = ((data, f"MagEIS, probe A, {label}", colours, "turbo"),
                (model, f"Model along the same orbit, {label}", colours, "turbo"),
                (model / data, "Model / MagEIS", ratio, "RdBu_r"))
        for row, (values, title, norm, cmap) in enumerate(rows):
            ax = axes[row, column]
            ax.set_facecolor("0.85")
            image = ax.pcolormesh(utc(ends), edges, np.ma.masked_invalid(values.T), norm=norm, cmap=cmap, rasterized=True)
            ax.set_title(title, fontsize=11, loc="left")
            ax.set_ylim(edges[0], WALLS[1])
            ax.axhline(5.3, color="k", lw=0.8, ls=":")
            ax.axvline(utc(ONSET), color="k", lw=0.8, ls="--")
            if row < 2:
                ax.plot(utc(hours[::4]), lpp, color="w", lw=1.4)
            if column == 0:
                ax.set_ylabel("L*")
            else:
                fig.colorbar(image, ax=axes[row], label="rate / quiet median" if row < 2 else "ratio", pad=0.01, aspect=18)
        ax = axes[3, column]
        values = np.asarray([float(kp(h)) for h in hours])
        ax.fill_between(utc(hours), values, step="post", color="0.45", lw=0)
        ax.set(ylim=(0, 9), yticks=(0, 3, 6, 9), xlim=utc([0, 5 * DAY]))
        ax.axvline(utc(ONSET), color="k", lw=0.8, ls="--")
        ax.xaxis.set_major_locator(DayLocator())
        ax.xaxis.set_minor_locator(HourLocator(byhour=(6, 12, 18)))
        ax.xaxis.set_major_formatter(DateFormatter("%d %b\n%Y"))
        if column == 0:
            ax.set_ylabel("Kp")
    fig.suptitle("Storm of 17 March 2013: radial diffusion in L* (Kp-driven, no local acceleration) against MagEIS", fontsize=13)
    fig.supxlabel("UTC.  Medians by pass and 0.1 L*; each channel over its own median before the storm, L* = 3.5 to 5.2 "
                  "(relative intensities).\nDotted: above it the data feed the model's wall, with an illustrative spectrum "
                  "exp(-E/0.35 MeV); the first pass is its start.\nDashed: onset. White: plasmapause of the lifetimes. "
                  "Grey: no counts, or before the run.", fontsize=9)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "mageis_storm.png"
    fig.savefig(path, dpi=130)
    return path


if __name__ == "__main__":
    jb.enable_x64()
    main(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "out")
