"""The storm of 17 March 2013 inverted: D_LL(L, Kp) and lifetimes from half of Van Allen Probe A's passes, judged on the rest.

    python experiments/mageis_inversion.py [OUT]       # OUT: a folder, experiments/out by default

Reads ../shared/data (beside the project): MagEIS rates with L*, 16 to 20 March 2013, and Kp. docs/inversion-storm.md says what
is assumed and what came out. Diffusion in L* with losses, for 26 mu at once; four channels above 0.57 MeV, each the mean over its
energies of an omnidirectional flux with sin^2(alpha_eq), relative: each has a factor of its own. The first passes give f at the
start; the rates at L* = 5.3 to 5.5 give it at the wall up to the split; from there on the wall keeps its last value.
"""

import dataclasses
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jaxbelt as jb
from jaxbelt import drift_diffusion as dd
from jaxbelt.observation import Channel, Orbit, SinN, observe
from jaxbelt.physics.dipole import energy_of_mu
from jaxbelt.physics.drivers import max_over, read_kp
from jaxbelt.physics.free_form import KpPower
from jaxbelt.physics.invariants import psd_of_flux
from jaxbelt.physics.losses import KpLifetime
from jaxbelt.physics.mageis_files import mageis_passes
from jaxbelt.physics.radial_diffusion import BrautigamAlbert, OzekeElectric, OzekeMagnetic, total

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"
FILES = ("rbspa_mageis_20130316_20130321.mat", "rbspa_mageis_energy.mat", "kp_1958_2023.txt")
EPOCH = "2013-03-16T00:00:00"
HOUR, DAY = 3600.0, 86400.0
START, END = 12 * HOUR, 5 * DAY            # the first whole pass is over; the last rates
ONSET = 29.9 * HOUR                        # 17 March 06 UT, where a pass begins
SPLIT = 74.8 * HOUR                        # 19 March 03 UT: ten of the storm's twenty passes before it, ten after
RESTART = 52 * HOUR                        # 18 March 04 UT: the main phase is over
WALLS = (2.5, 5.5)
NEAR_WALL = (5.3, 5.5)
JUDGED = np.array([3.0, 3.4, 3.8, 4.2, 4.6, 5.0, 5.2])               # bins of L* of the score
CHANNELS = (6, 7, 8, 9)
MIDDLES = np.array([0.846, 1.253, 1.535, 1.942])                      # MeV, the channels' own middles
MU = np.geomspace(65.0, 4000.0, 26)        # MeV/G: 0.57 MeV at L* = 3 to 2.2 MeV at the wall
CELLS, DT, OUTPUT = 60, 900.0, 1800.0
SHAPE = SinN(n=2.0)
REFERENCE = (4.5, 3.0)                     # L and Kp in the middle of the data


@dataclasses.dataclass(frozen=True)
class Storm:
    """What all models share. rate, background: nominal fluxes, in proportion to 1/(cm^2 s keV), (channel, sample); level: ln of
    the phase space density that the rate above the background is at the channel's middle."""

    passes: object
    rate: np.ndarray
    background: np.ndarray
    level: np.ndarray
    train: np.ndarray
    held: np.ndarray
    kp: jb.Series
    grid: object
    f0: np.ndarray
    wall: list
    orbit: Orbit
    channels: tuple
    times: np.ndarray
    start: float
    split: float

    def problem(self, dll, lifetime):
        prm = dd.Parameters(dll=dll, lifetime=lifetime)
        return dd.problem(self.grid, [prm] * MU.size, inner=0.0, outer=self.wall, epoch=EPOCH)


def read(folder, start=START, split=SPLIT, factors=0.0) -> Storm:
    """The data reduced. factors: ln of the channels' factors that are put into the rates, and so into start and wall."""
    p = mageis_passes(folder / FILES[0], folder / FILES[1], epoch=EPOCH, channels=CHANNELS, L=(3.0, 5.6), quiet=(START, ONSET))
    nominal = (1e3 * p.factor * (p.band[:, 1] - p.band[:, 0]) * np.exp(factors))[:, None]              # factor times keV
    rate, background = p.rate / nominal, p.background / nominal
    net = np.maximum(rate - background, 0.1 * background) / float(SHAPE.omnidirectional(1.0))
    level = np.log(psd_of_flux(net, MIDDLES[:, None]))
    kp = read_kp(folder / FILES[2], "2013-03-14", "2013-03-21", epoch=EPOCH)
    judged = (p.lstar > JUDGED[0]) & (p.lstar < JUDGED[-1]) & (p.t > start + 4 * HOUR)
    grid = dd.grid(L=WALLS, cells=CELLS, mu=MU)
    orbit = Orbit(p.t, np.where((p.lstar < WALLS[1]) & (p.t >= start), p.lstar, np.nan))
    channels = tuple(Channel(energy=tuple(b), shape=SHAPE, label=f"{1e3 * b[0]:.0f}-{1e3 * b[1]:.0f} keV") for b in p.band)
    return Storm(passes=p, rate=rate, background=background, level=level, train=judged & (p.t < split),
                 held=judged & (p.t >= split), kp=kp, grid=grid, f0=first_state(p, level, grid, start),
                 wall=wall_values(p, level, split), orbit=orbit, channels=channels, times=np.arange(start, END + 1, OUTPUT),
                 start=start, split=split)


def along_energy(level, energy):
    """ln f at energies (mu, n) from its values at the channels' middles (channel, n): straight in E, the end slopes go on."""
    k = np.clip(np.searchsorted(MIDDLES, energy) - 1, 0, MIDDLES.size - 2)
    w = (energy - MIDDLES[k]) / (MIDDLES[k + 1] - MIDDLES[k])
    return np.take_along_axis(level, k, 0) * (1 - w) + np.take_along_axis(level, k + 1, 0) * w


def first_state(p, level, grid, start):
    """f at the start: the two passes next to it, averaged in ln f by bin of L*; beyond the bins as in the last one."""
    near = np.abs(p.t - start) < 4.6 * HOUR
    k = np.floor(p.lstar * 10).astype(int)
    bins = [near & (k == i) for i in np.unique(k[near])]
    bins = [b for b in bins if np.isfinite(level[:, b]).any(axis=1).all()]
    place = [p.lstar[b].mean() for b in bins]
    L = grid["L"].centers
    at = np.array([np.interp(L, place, [np.nanmean(c[b]) for b in bins]) for c in level])
    return np.exp(along_energy(at, np.asarray(energy_of_mu(MU[:, None], L))))


def wall_values(p, level, split):
    """f at the wall, a linear Series a mu: the mean of ln f near it on each pass before the split; then that of the last apogee.
    """
    use = (p.lstar > NEAR_WALL[0]) & (p.lstar < NEAR_WALL[1]) & np.isfinite(level).all(axis=0) & (p.t < split)
    value = along_energy(level[:, use], np.asarray(energy_of_mu(MU[:, None], p.lstar[use])))
    number = p.number[use]
    each = [number == n for n in np.unique(number)]
    t = np.array([p.t[use][e].mean() for e in each])
    v = np.array([value[:, e].mean(axis=1) for e in each])
    v[-1] = v[-2:].mean(axis=0)                                         # out and in
    hours = np.arange(0.0, END + 1, HOUR)
    return [jb.Series(hours, np.exp(np.interp(hours, t, row)), kind="linear") for row in v.T]


# ---- the fit

def free_parameters(tight=False):
    """The five parameters of the run with their priors (of ln D at Kp = 3 and L = 4.5: a factor 10), and those of the data.
    tight: D_LL stays that of Brautigam & Albert."""
    hold = 1e-4 if tight else 1.0
    return (jb.Free("dll.log_d0", prior=jb.Normal(sd=hold * np.log(10.0))),
            jb.Free("dll.kp_slope", prior=jb.Normal(sd=hold * 0.5)), jb.Free("dll.power", prior=jb.Normal(sd=hold * 3.0)),
            jb.Free("lifetime.log_tau_out", prior=jb.Normal(sd=1.0)),
            jb.Free("lifetime.tau_in", transform="log", prior=jb.Normal(sd=1.0)),
            jb.Free("data.log_calibration", prior=jb.Normal(sd=1.0)), jb.Free("data.log_sigma", prior=jb.Normal(sd=1.0)))


def inverted(storm, tight=False):
    """The fit to the training passes: Student's t in ln rate."""
    dll = KpPower.brautigam_albert(storm.kp, reference_l=REFERENCE[0], kp_reference=REFERENCE[1])
    data = jb.Data(operator=jb.AlongOrbit(orbit=storm.orbit, channels=storm.channels, outside="mask"), values=storm.rate,
                   sigma=0.4, noise="log-normal", dof=4.0, log_calibration=np.zeros((len(CHANNELS), 1)),
                   background=storm.background, mask=storm.train[None])
    problem = storm.problem(dll, published(storm))
    return jb.fit(problem, storm.f0, data, free=free_parameters(tight), t=storm.times, dt=DT, most=100)


def published(storm):
    """Lifetimes of 10 days inside the plasmapause and 3/Kp days outside."""
    return KpLifetime(kp=storm.kp, kp_max=max_over(storm.kp))


def predicted(storm, problem, f=None):
    """(rates of a run along the orbit, ln of the channels' factors): the factors are medians over the training passes."""
    sol = jb.solve(problem, storm.f0, t=storm.times, dt=DT) if f is None else \
        jb.Solution(f, storm.times, {}, np.zeros((), np.int32), problem)
    bare = np.asarray(observe(sol, storm.orbit, storm.channels, outside="mask").flux)
    excess = np.log(np.maximum(storm.rate - storm.background, 0.1 * storm.background) / bare)
    factor = np.nanmedian(excess[:, storm.train], axis=1, keepdims=True)
    return np.exp(factor) * bare + storm.background, factor.ravel()


def nothing_changes(storm):
    """The last training pass, by bin of 0.1 L*."""
    p, out = storm.passes, np.full(storm.rate.shape, np.nan)
    last, k = p.number == p.number[storm.train].max(), np.floor(p.lstar * 10).astype(int)
    for i in np.unique(k[last]):
        out[:, k == i] = np.nanmean(storm.rate[:, last & (k == i)], axis=1)[:, None]
    return out


# ---- the score

def accuracy(q):
    """Median symmetric accuracy [%] of q = ln(model/data) (Morley et al. 2018)."""
    return 100 * np.expm1(np.nanmedian(np.abs(q)))


def score(storm, rate, where):
    """({"accuracy", "rmse"}: (values a bin of L*, their mean with the Jacobian 1/L^2, that mean over L* > 3.8)), (accuracy a
    channel), median of q."""
    q, L = np.log(rate / storm.rate), storm.passes.lstar
    bins = [q[:, where & (L >= a) & (L < b)] for a, b in zip(JUDGED[:-1], JUDGED[1:])]
    weight = 1 / JUDGED[:-1] - 1 / JUDGED[1:]
    outer = weight * (JUDGED[:-1] > 3.7)
    table = {"accuracy": np.array([accuracy(x) for x in bins]), "rmse": np.array([np.sqrt(np.nanmean(x**2)) for x in bins])}
    return ({k: (v, weight @ v / weight.sum(), outer @ v / outer.sum()) for k, v in table.items()},
            [accuracy(x) for x in q[:, where]], float(np.nanmedian(q[:, where])))


def report(storm, models):
    """The table of scores."""
    for title, where in (("training passes", storm.train), ("held-out passes", storm.held)):
        print(f"\n{title}: {int(np.isfinite(storm.rate[:, where]).sum())} values; median symmetric accuracy [%] (log-RMSE)")
        names = [f"{a:g}-{b:g}" for a, b in zip(JUDGED[:-1], JUDGED[1:])]
        print(f"{'':34s}{'mean, 1/L^2':>14s}{'L* > 3.8':>14s}" + "".join(f"{n:>13s}" for n in names) + "   by channel     bias")
        for name, rate in models.items():
            table, channels, bias = score(storm, rate, where)
            cells = [f"{a:.0f} ({r:.2f})" for a, r in zip(table["accuracy"][0], table["rmse"][0])]
            means = (f"{table['accuracy'][k]:.0f} ({table['rmse'][k]:.2f})" for k in (1, 2))
            print(f"{name:34s}" + "".join(f"{m:>14s}" for m in means) + "".join(f"{c:>13s}" for c in cells) + "   "
                  + " ".join(f"{c:.0f}" for c in channels) + f"   {bias:+.2f}")


def one_of(tree):
    """What all mu share, without the axis of mu."""
    return jax.tree.map(lambda x: x[0], tree)


def residuals(storm, rate):
    """ln(fit/data), mean of the channels, by pass and L*: where and when a model without local acceleration fails."""
    q, p = np.log(rate / storm.rate), storm.passes
    edges = np.arange(3.0, 5.21, 0.2)
    print("\nmedian ln(fit/data) of the four channels by pass (beginning, hours) and L*\n       "
          + " ".join(f"{x:6.1f}" for x in edges[:-1]))
    for n in np.unique(p.number[storm.train | storm.held]):
        row = [q[:, (p.number == n) & (p.lstar >= a) & (p.lstar < a + 0.2)] for a in edges[:-1]]
        print(f"{p.ends[n] / HOUR:6.1f} "
              + " ".join(f"{np.nanmedian(x):+6.2f}" if np.isfinite(x).any() else "     -" for x in row))


def excess(storm, mus=(600.0, 1000.0, 1500.0)):
    """f inside over the highest f that the start and the wall have had until then, at three mu: no diffusion with losses,
    whatever its D_LL, makes more than 1 of them."""
    p, L = storm.passes, storm.grid["L"].centers
    inside = (p.lstar > 4.0) & (p.lstar < 5.0)
    print("\nmedian f at L* = 4 to 5 over the highest f of start and wall so far, by pass (beginning, hours), at mu = "
          + ", ".join(f"{m:g}" for m in mus) + " MeV/G")
    for n in np.unique(p.number[storm.train]):
        here, row = inside & (p.number == n) & np.isfinite(storm.level).all(axis=0), []
        for mu in mus:
            k = int(np.argmin(np.abs(np.log(MU / mu))))
            f = np.exp(np.median(along_energy(storm.level[:, here], np.asarray(energy_of_mu(MU[k:k + 1, None], p.lstar[here])))))
            wall = storm.wall[k].values[:int(p.ends[n + 1] // HOUR) + 1]
            row.append(f / max(wall[int(storm.start // HOUR):].max(), storm.f0[k, L > 3.0].max()))
        print(f"{p.ends[n] / HOUR:6.1f} " + " ".join(f"{x:7.2f}" for x in row))


# ---- the picture

def diffusion(fit, kp, L):
    """(D_LL of the fit at a Kp [1/day], lower, upper end of its 95 % band)."""
    value, error = fit.propagate(lambda prm: jnp.log(one_of(prm.dll).replace(kp=kp)(0.0, L)))
    return tuple(np.exp(value + s * 1.96 * error) for s in (0, -1, 1))


def draw(folder, storm, models, fit):
    """L*-time panels of two channels (data, fit, Brautigam-Albert), the held-out score by L*, and D_LL."""
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    p, edges = storm.passes, np.arange(3.0, 5.61, 0.1)
    fig = Figure(figsize=(13, 13), layout="constrained")
    axes = fig.subplots(4, 2, gridspec_kw={"height_ratios": (1, 1, 1, 1.35)})
    rows = (("MagEIS, probe A", storm.rate), ("fit of the passes left of the line", models["fit"]),
            ("Brautigam-Albert, same wall and lifetimes", models["Brautigam-Albert"]))
    bins = np.floor((p.lstar - edges[0]) / 0.1 + 1e-9).astype(int)
    days = np.datetime64(EPOCH, "s") + p.ends.astype("timedelta64[s]")
    for column, channel in enumerate((1, 3)):
        top = np.nanpercentile(storm.rate[channel], 99.5)
        for row, (title, rate) in enumerate(rows):
            table = np.full((edges.size - 1, p.ends.size - 1), np.nan)
            seen = np.where(p.t > storm.start, rate[channel], np.nan)
            table[bins, p.number] = seen
            ax = axes[row, column]
            ax.set_facecolor("0.85")
            image = ax.pcolormesh(days, edges, np.ma.masked_invalid(table / top), norm=LogNorm(1e-3, 1.0), cmap="turbo",
                                  rasterized=True)
            ax.axvline(np.datetime64(EPOCH, "s") + np.timedelta64(int(storm.split), "s"), color="w", lw=2.5)
            ax.axvline(np.datetime64(EPOCH, "s") + np.timedelta64(int(storm.split), "s"), color="k", lw=1.2, ls="--")
            ax.axhline(WALLS[1], color="k", lw=0.8, ls=":")
            ax.set(ylim=(3.0, 5.6), ylabel="L*" if column == 0 else None)
            ax.set_title(f"{title}, {storm.channels[channel].label}", fontsize=10, loc="left")
            ax.tick_params(axis="x", labelsize=8)
            if column:
                fig.colorbar(image, ax=ax, label="over the highest rate", pad=0.01)
    ax, middle = axes[3, 0], 0.5 * (JUDGED[1:] + JUDGED[:-1])
    for (name, rate), style in zip(models.items(), ("k--", "C3o-", "C0s-", "C2^-", "C9-.", "C0:", "C2:")):
        ax.semilogy(middle, 1 + score(storm, rate, storm.held)[0]["accuracy"][0] / 100, style, label=name, ms=5)
    ax.set(xlabel="L*", ylabel="typical factor between model and data", title="held-out passes, all channels")
    ax.set_ylim(1.0, None)
    ax.legend(fontsize=8)
    ax, L = axes[3, 1], np.linspace(3.0, 5.5, 60)
    for kp, colour in ((2.0, "C0"), (6.0, "C3")):
        value, low, high = diffusion(fit, kp, L)
        ax.semilogy(L, value, colour, lw=2, label=f"fit, Kp = {kp:g}")
        ax.fill_between(L, low, high, color=colour, alpha=0.25, lw=0)
        ax.semilogy(L, np.asarray(BrautigamAlbert(kp=kp)(0.0, L)), colour, ls="--", lw=1, label="Brautigam-Albert")
        ozeke = total(OzekeMagnetic(kp=kp), OzekeElectric(kp=kp))
        ax.semilogy(L, np.asarray(ozeke(0.0, L)), colour, ls=":", lw=1.4, label="Ozeke")
    ax.set(xlabel="L*", ylabel="$D_{LL}$ [1/day]", title="diffusion in L*, 95 % bands of the fit")
    ax.legend(fontsize=8, ncol=2)
    fig.suptitle("Storm of 17 March 2013, inverted: radial diffusion without local acceleration")
    folder.mkdir(parents=True, exist_ok=True)
    fig.savefig(folder / "mageis_inversion.png", dpi=120)
    return folder / "mageis_inversion.png"


def main(folder):
    missing = [f for f in FILES if not (DATA / f).is_file()]
    if missing:
        print(f"mageis_inversion: skipped, {DATA} lacks {', '.join(missing)} (measured data that are not part of the package)")
        return
    storm = read(DATA)
    began = time.time()
    fit = inverted(storm)
    print(f"{fit}\n{time.time() - began:.0f} s", flush=True)
    held = inverted(storm, tight=True)
    print(f"\nlifetimes alone, D_LL of Brautigam & Albert:\n{held}", flush=True)
    fitted, own = one_of(fit.parameters.lifetime), one_of(held.parameters.lifetime)
    ba, ozeke = BrautigamAlbert(kp=storm.kp), total(OzekeMagnetic(kp=storm.kp), OzekeElectric(kp=storm.kp))
    models, factors = {"nothing changes": nothing_changes(storm)}, {}
    for name, problem, f in (("fit", fit.problem, fit.f), ("Brautigam-Albert", storm.problem(ba, fitted), None),
                             ("Ozeke", storm.problem(ozeke, fitted), None),
                             ("Brautigam-Albert, own lifetimes", storm.problem(ba, own), None),
                             ("Brautigam-Albert, published", storm.problem(ba, published(storm)), None),
                             ("Ozeke, published", storm.problem(ozeke, published(storm)), None)):
        models[name], factors[name] = predicted(storm, problem, f)
    for name, factor in factors.items():
        print(f"ln of the channels' factors, {name}: " + " ".join(f"{x:+.2f}" for x in factor))
    report(storm, models)
    residuals(storm, models["fit"])
    excess(storm)
    for kp in (2.0, 6.0):
        print(f"D_LL [1/day] at Kp = {kp:g}, L* = 3.5, 4.5, 5.2: " + ", ".join(
            f"{v:.3g} ({a:.3g} to {b:.3g})" for v, a, b in zip(*diffusion(fit, kp, np.array([3.5, 4.5, 5.2])))))
    print(f"\n{draw(Path(folder), storm, models, fit)}", flush=True)

    factors, f = np.zeros(len(CHANNELS)), fit
    for _ in range(3):
        factors = factors + f.values["data.log_calibration"].ravel() - f.values["data.log_calibration"][0, 0]
        same = read(DATA, factors=factors)
        f = inverted(same)
    print("\nstart and wall made with the fitted factors, three times; ln of them " + " ".join(f"{x:+.2f}" for x in factors)
          + f"\n{f}", flush=True)
    report(same, {"fit": predicted(same, f.problem, f.f)[0]})

    later = read(DATA, start=RESTART)
    again = inverted(later)
    print(f"\nbegun at {RESTART / HOUR:g} h, after the main phase:\n{again}")
    lifetime = one_of(again.parameters.lifetime)
    models = {"nothing changes": nothing_changes(later), "fit": predicted(later, again.problem, again.f)[0],
              "Brautigam-Albert": predicted(later, later.problem(ba, lifetime))[0],
              "Ozeke": predicted(later, later.problem(ozeke, lifetime))[0]}
    report(later, models)


if __name__ == "__main__":
    jb.enable_x64()
    main(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "out")
