"""The models of [parameters] of the belt equations: particles, drivers, diffusion, losses, convection."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np

from jaxbelt.config import Table, section

__all__ = ["KEYS", "coefficient", "convection", "drivers", "lifetime", "particle", "planet_of", "waves"]

KEYS = ("species", "mu", "K", "energy", "at_L", "b_e", "drift", "kp", "kp_start", "kp_file", "kp_cycle", "kp_cycle_label",
        "dst", "drivers_file", "fill", "dll", "dlphi", "dphiphi", "lifetime", "shadowing", "convection", "source", "waves",
        "populations", "fluctuations")
_COEFFICIENT = ("model", "d0", "power", "log_amplitude", "reference_L", "outside", "L", "log_d", "log_d0", "kp_slope",
                "kp_reference")
_FREE_FORM = {"knots": ("L", "log_d", "kp_slope", "kp_reference"),
              "kp-power": ("log_d0", "kp_slope", "power", "reference_L", "kp_reference")}
_LIFETIME = ("model", "tau_in", "log_tau_in", "log_tau_out", "width", "plasmapause")
_SHADOWING = ("model", "l_max", "tau", "width", "shift")
_CONVECTION = ("model", "e0", "log_amplitude", "shielding", "rotate", "corotation")
_WAVE = ("potential", "m", "at_L", "frequency", "phase")
_PLASMAPAUSES = ("carpenter1992", "moldwin2002", "obrien2003")
_UNITS = {"kp": ("1", "Kp"), "dst": ("nT", "Dst"), "bz": ("nT", "IMF Bz (GSM)"), "pdyn": ("nPa", "solar wind dynamic pressure")}


def planet_of(prm: Table):
    """EARTH, or with the field given under b_e."""
    from jaxbelt.constants import EARTH

    return EARTH.replace(b_e=prm.quantity("b_e", "field", above=0)) if "b_e" in prm else EARTH


def particle(prm: Table, planet, default="electron"):
    """(mu, species) of a table: mu itself, or that of an energy at an L (equatorially mirroring)."""
    from jaxbelt.physics.dipole import mu_of_energy

    species = prm.choice("species", ("electron", "proton"), default)
    mu = None
    if isinstance(prm.get("mu", None), dict):
        ends = prm.table("mu", ("from", "to", "count"))
        low, high, count = ends.quantity("from", "mu", above=0), ends.quantity("to", "mu", above=0), ends.integer("count", low=2)
        if low >= high:
            raise ends.error("to", "must be above from")
        mu = np.geomspace(low, high, count)
    elif isinstance(prm.get("mu", None), list):
        mu = np.asarray(prm.quantities("mu", "mu"))
        if np.any(mu <= 0) or np.any(np.diff(mu) <= 0):
            raise prm.error("mu", "must be positive and increase")
    elif "mu" in prm:
        mu = prm.quantity("mu", "mu", above=0)
    if mu is None and "energy" in prm:
        mu = float(mu_of_energy(prm.quantity("energy", "energy", above=0), prm.number("at_L", low=1.0), species, planet))
    elif "at_L" in prm or "energy" in prm:
        raise prm.error("energy" if "energy" in prm else "at_L", "give either mu, or energy and at_L together")
    return mu, species


class drivers:                                                 # noqa: N801
    """The drivers of a case, each read once when first asked for: `series("kp", for_key="dll")`; `used` goes to the file.

    by_level: Kp, and its maxima for the plasmapause, come as levels (see `jaxbelt.levels`), and `levels` says when which holds.
    """

    def __init__(self, prm: Table, case, by_level=False):
        self.prm, self.case, self.used, self._file = prm, case, {}, None
        self.read = set()                                      # of the models
        self.by_level, self.levels, self._maxima = by_level, None, {}
        given = [key for key in ("kp", "kp_file") if key in prm]
        if len(given) > 1:
            raise prm.error("kp_file", "give either kp or kp_file")
        if "kp_file" in prm and case.epoch is None:
            raise prm.error("kp_file", "needs case.epoch, the time to begin at")
        if "kp_start" in prm and not isinstance(prm.get("kp", None), list):
            raise prm.error("kp_start", "belongs to a list kp")
        if "kp" in prm and "kp_cycle" in prm:
            raise prm.error("kp_cycle", "give either kp or kp_cycle")
        if "kp_cycle_label" in prm and "kp_cycle" not in prm:
            raise prm.error("kp_cycle_label", "belongs to a list kp_cycle")
        self.label = prm.text("kp_cycle_label", "parameters.kp_cycle")
        for key in ("kp", "kp_file", "kp_cycle", "dst"):
            if key in prm:                                     # looked at even where no model asks for it
                self.series(key.partition("_")[0])

    def series(self, name: str, owner: Table | None = None):
        """The `Series` called kp, dst, bz or pdyn; owner: the table whose model needs it, for the message."""
        if owner is not None:
            self.read.add(name)
        if name not in self.used:
            made = self._make(name)
            if made is None:
                keys = {"kp": ("kp", "kp_file", "drivers_file"), "dst": ("dst", "drivers_file")}.get(name, ("drivers_file",))
                raise owner.error("model", "needs " + " or ".join(f"parameters.{key}" for key in keys))
            units, long_name = _UNITS[name]
            for_file = {"t": np.asarray(made.t), "values": np.asarray(made.values), "kind": made.kind, "units": units,
                        "long_name": long_name}
            self.used[name] = (self._short(name, made) if self.by_level else made, for_file)
        return self.used[name][0]

    def _short(self, name, made):
        """Kp by level, together with the maxima that the plasmapauses of the lifetimes need."""
        from jaxbelt.levels import distinct
        from jaxbelt.physics.plasmapause import maximum_series

        if name != "kp":
            raise self.prm.error(name if name in self.prm else "drivers_file", 'is a driver beside Kp, and numerics.method = '
                                 '"levels" has levels of Kp alone; write method = "steps"')
        own = (p.get("lifetime") for p in self.prm.get("populations", []) if isinstance(p, dict))
        tables = [self.prm.get("lifetime", None), *own]
        models = {x.get("plasmapause", _PLASMAPAUSES[0]) for x in tables if isinstance(x, dict)} & set(_PLASMAPAUSES)
        short, self.levels = distinct(kp=made, **{model: maximum_series(made, model) for model in sorted(models)})
        self._maxima = short
        return short["kp"]

    def plasmapause(self, model, kp):
        """The plasmapause of a lifetime."""
        from jaxbelt.physics.plasmapause import Plasmapause

        return Plasmapause(kp_max=self._maxima[model], model=model) if self.by_level else Plasmapause(kp=kp, model=model)

    @property
    def for_file(self) -> dict:
        return {name: driver for name, (_, driver) in self.used.items()}

    def notes(self) -> list[str]:
        """Of Kp that is no history, and of each driver that is given and that no model has asked for."""
        prm, notes = self.prm, []
        if "kp_cycle" in prm and "kp_file" not in prm and "kp" in self.read:
            notes.append(f"Kp: {len(prm.numbers('kp_cycle')) / 8:.4g} days of {self.label} repeated; give parameters.kp_file for "
                         "the measured series")
        return notes + self._unused()

    def _unused(self) -> list[str]:
        given = [key for key in ("kp", "kp_file", "kp_cycle", "dst") if key in self.prm]
        given = [key for key in given if key.partition("_")[0] not in self.read]
        if "drivers_file" in self.prm and self._file is None:
            given.append("drivers_file")
        return [f"parameters.{key} changes nothing: no coefficient of this case reads it" for key in given]

    def _make(self, name):
        prm, case = self.prm, self.case
        if name == "kp" and "kp_file" in prm:
            from jaxbelt.physics.drivers import read_kp

            start, stop = self._span()
            with section("parameters.kp_file"):
                path = case.path(prm, "kp_file")
                try:                    # a day more, for the plasmapause of the first day, where the file has it
                    return read_kp(path, start - np.timedelta64(1, "D"), stop, epoch=start)
                except ValueError:
                    return read_kp(path, start, stop, epoch=start)
        if name == "kp" and "kp_cycle" in prm:                 # a day more here too
            values = prm.numbers("kp_cycle", low=0.0, high=9.0)
            count = np.arange(-8, math.ceil(case.duration / 10800.0))
            return self._series(10800.0 * count, np.asarray(values)[count % len(values)])
        if name in ("kp", "dst") and name in prm:
            return self._written(name, *{"kp": (3.0, 0.0, 9.0), "dst": (1.0, -2000.0, 500.0)}[name])
        if "drivers_file" not in prm:
            return None
        if case.epoch is None:
            raise prm.error("drivers_file", "needs case.epoch, the time to begin at")
        from jaxbelt.physics.geomagnetic_files import read_drivers

        start, stop = self._span()
        with section("parameters.drivers_file"):
            if self._file is None:
                self._file = read_drivers(case.path(prm, "drivers_file"))
            quantity, fill = self._file[name], prm.get("fill", "error")
            before = max(quantity.start, start - np.timedelta64(36, "h")) if name == "kp" else start
            return quantity.series("step", epoch=start, start=min(before, start), stop=stop, fill=fill)

    def _written(self, name, hours, low, high):
        """Values in the case itself: one number, or one every 3 h (Kp) or 1 h (Dst), for the whole run."""
        prm, duration = self.prm, self.case.duration
        if not isinstance(prm.get(name), list):
            return self._series([0.0], [prm.number(name, low=low, high=high)])
        values = prm.numbers(name, low=low, high=high)
        width, start = 3600.0 * hours, prm.quantity("kp_start", "time", 0.0) if name == "kp" else 0.0
        if start > 0:
            raise prm.error("kp_start", "must not be after the start of the run")
        if start + len(values) * width < duration * (1 - 1e-12):
            raise prm.error(name, f"holds {len(values)} values of {hours:g} h, but the run lasts {duration / width:g} times "
                                  f"{hours:g} h" + (f" and they begin {-start / 3600:g} h before it" if start else ""))
        return self._series(start + width * np.arange(len(values)), values)

    def _series(self, t, values):
        from jaxbelt.coefficients import Series

        return Series(t, values)

    def _span(self):
        start = np.datetime64(self.case.epoch, "s")
        return start, start + np.timedelta64(int(math.ceil(self.case.duration)), "s")


def coefficient(prm: Table, key: str, drive, mu=None, species="electron", planet=None):
    """A diffusion coefficient: "0.1 1/d", a table with a model, or a list of them, to be added."""
    from jaxbelt.physics import radial_diffusion as rd

    low = {} if key == "dlphi" else {"low": 0.0}
    if isinstance(prm.get(key), list):
        if any(not isinstance(v, dict) for v in prm.get(key)):
            raise prm.error(key, "must be a list of tables, each with its model")
        return rd.total(*(_model(table, low, drive, mu, species, planet) for table in prm.tables(key, _COEFFICIENT)))
    if not isinstance(prm.get(key), dict):
        return prm.quantity(key, "rate", **low)
    return _model(prm.table(key, _COEFFICIENT), low, drive, mu, species, planet)


def _model(table: Table, low, drive, mu, species, planet):
    from jaxbelt.physics import radial_diffusion as rd

    plain = {"ozeke-magnetic": rd.OzekeMagnetic, "ozeke-electric": rd.OzekeElectric, "ali-magnetic": rd.AliMagnetic,
             "ali-electric": rd.AliElectric}
    of_mu = {"brautigam-albert-electric": rd.BrautigamAlbertElectric, "liu-electric": rd.LiuElectric, "lejosne": rd.Lejosne}
    model = table.choice("model", ("brautigam-albert", "power-law", *_FREE_FORM, *plain, *of_mu))
    own = {"power-law": ("d0", "power", "reference_L"), "brautigam-albert": ("power", "reference_L")} | _FREE_FORM
    own = (*own.get(model, ()), *(("outside",) if model in plain or model in ("liu-electric", "lejosne") else ()),
           *(() if model in _FREE_FORM else ("log_amplitude",)))
    for key in _COEFFICIENT[1:]:
        if key in table and key not in own:
            raise table.error(key, f"does not belong to {model}")
    if model in _FREE_FORM:
        return _free_form(table, model, drive)
    amplitude = {"log_amplitude": table.number("log_amplitude", 0.0)}
    if model in ("power-law", "brautigam-albert"):
        amplitude |= {"power": table.number("power", 10.0), "reference_l": table.number("reference_L", 1.0, above=0)}
    if model == "power-law":
        return rd.PowerLaw(d0=table.quantity("d0", "rate", **low), **amplitude)
    kp = drive.series("kp", table)
    if "outside" in table:
        amplitude["outside"] = table.choice("outside", ("error", "nearest", "extrapolate"))
    if model in of_mu:
        if mu is None:
            raise table.error("model", "needs parameters.mu, or energy and at_L")
        amplitude |= {"mu": mu} | ({} if model == "liu-electric" else {"species": species, "planet": planet})
    with section(table.path):
        return ({"brautigam-albert": rd.BrautigamAlbert} | plain | of_mu)[model](kp=kp, **amplitude)


def _free_form(table: Table, model: str, drive):
    """D of free form, for fits; without values of its own it starts as the magnetic law of Brautigam & Albert (2000)."""
    from jaxbelt.physics.free_form import Knots, KpPower

    at = {"kp_reference": table.number("kp_reference", 3.0, low=0.0, high=9.0)}
    if model == "kp-power":
        reference_l = table.number("reference_L", 5.0, above=0)
        law = KpPower.brautigam_albert(drive.series("kp", table), reference_l, at["kp_reference"])
        return law.replace(**{key: table.number(key) for key in ("log_d0", "kp_slope", "power") if key in table})
    L = table.numbers("L", low=0.0)
    if "log_d" in table:
        log_d = table.numbers("log_d", size=len(L))
    else:
        log_d = [math.log(10.0) * (0.506 * at["kp_reference"] - 9.325) + 10.0 * math.log(x) if x > 0 else 0.0 for x in L]
    if "kp_slope" in table:
        at |= {"kp": drive.series("kp", table), "kp_slope": table.number("kp_slope")}
    with section(table.path):
        return Knots(L=L, log_d=np.asarray(log_d), **at)


def lifetime(prm: Table, own: Table, drive, energy=None):
    """Losses on closed shells (from `own`) and beyond the magnetopause; None where there are neither. energy: (t, L) -> MeV."""
    inside = _lifetime(own, drive, energy)
    if "shadowing" not in prm:
        return inside
    from jaxbelt.physics.losses import ShadowingLifetime
    from jaxbelt.physics.magnetopause import LastClosedShell, Magnetopause

    table = prm.table("shadowing", _SHADOWING)
    model = table.choice("model", ("dst", "shue1997", "shue1998", "fixed"))
    shift = table.number("shift", 0.0)
    if model == "fixed" and "l_max" not in table:
        raise table.error("model", "needs l_max, the boundary in planetary radii")
    if model != "fixed" and "l_max" in table:
        raise table.error("l_max", 'belongs to model = "fixed"')
    if model == "fixed":
        l_max = table.number("l_max", above=1.0) + shift
    elif model == "dst":
        l_max = LastClosedShell(dst=drive.series("dst", table), shift=shift)
    else:
        l_max = Magnetopause(bz=drive.series("bz", table), pdyn=drive.series("pdyn", table), model=model, shift=shift)
    return ShadowingLifetime(l_max=l_max, inside=inside, tau=table.quantity("tau", "lifetime", 0.1 / 1440, above=0),
                             width=table.number("width", 0.05, low=0.0))


def _lifetime(prm: Table, drive, energy):
    from jaxbelt.physics.losses import BeltLifetime, KpLifetime

    if "lifetime" not in prm:
        return None
    if not isinstance(prm.get("lifetime"), dict):
        return prm.quantity("lifetime", "lifetime", above=0)
    table = prm.table("lifetime", _LIFETIME)
    model = table.choice("model", ("kp", "hiss-chorus", "hiss-kp", "hiss"))
    kp = drive.series("kp", table)
    common = {"kp": kp, "log_tau_out": table.number("log_tau_out", 0.0), "width": table.number("width", 0.1, low=0.0)}
    if "plasmapause" in table or drive.by_level:
        common["lpp"] = drive.plasmapause(table.choice("plasmapause", _PLASMAPAUSES, _PLASMAPAUSES[0]), kp)
    if model == "kp":
        if "log_tau_in" in table:
            raise table.error("log_tau_in", 'belongs to the models with hiss; give tau_in')
        return KpLifetime(tau_in=table.quantity("tau_in", "lifetime", 10.0, above=0), **common)
    if "tau_in" in table:
        raise table.error("tau_in", 'belongs to model = "kp"; give log_tau_in, the logarithm of a factor')
    if energy is None:
        raise table.error("model", "needs parameters.mu, or energy and at_L")
    if model == "hiss-kp":                                     # outside of a plasmapause at 0 is everywhere
        common["outside"] = KpLifetime(kp=kp, lpp=0.0)
    if model == "hiss":                                        # beyond the plasmapause no loss of this kind
        if "log_tau_out" in table:
            raise table.error("log_tau_out", 'belongs to the models with a loss outside: "hiss" has none there')
        common["outside"] = math.inf
    return BeltLifetime(energy=energy, log_tau_in=table.number("log_tau_in", 0.0), **common)


def convection(prm: Table, drive, planet):
    """The electric potential of [parameters.convection], or None."""
    if "convection" not in prm:
        return None
    from jaxbelt.physics.electric import Convection, Corotation, DawnDusk
    from jaxbelt.physics.radial_diffusion import total

    table = prm.table("convection", _CONVECTION)
    model = table.choice("model", ("volland-stern", "dawn-dusk"))
    corotation = table.flag("corotation", True)
    shared = {"log_amplitude": table.number("log_amplitude", 0.0), "rotate": table.number("rotate", 0.0, low=-24.0, high=24.0),
              "planet": planet}
    if model == "volland-stern":
        if "e0" in table:
            raise table.error("e0", 'belongs to model = "dawn-dusk"')
        return Convection(kp=drive.series("kp", table), shielding=table.number("shielding", 2.0, above=0), corotation=corotation,
                          **shared)
    if "shielding" in table:
        raise table.error("shielding", 'belongs to model = "volland-stern"')
    field = DawnDusk(e0=table.number("e0"), **shared)
    return total(field, Corotation(planet=planet)) if corotation else field


def waves(prm: Table, dd, mu, species, planet):
    """(tuple of `Wave`, the island of the first resonant one as attributes)."""
    from jaxbelt.coefficients import function
    from jaxbelt.physics.dipole import drift_rate

    made, note = [], {}
    for table in prm.tables("waves", _WAVE):
        U0, m, phase = table.quantity("potential", "voltage"), table.integer("m", low=1), table.number("phase", 0.0)
        if ("at_L" in table) == ("frequency" in table):
            raise table.error("at_L", "give either at_L, where the drift is in resonance, or frequency")
        if "at_L" in table:
            if mu is None:
                raise table.error("at_L", "needs parameters.mu, or energy and at_L")
            at_L = table.number("at_L", above=1.0)
            omega = m * float(drift_rate(at_L, mu, species, planet))
            note = note or island(U0, m, at_L, mu, species, planet) | {"phase": phase}
        else:
            omega = table.quantity("frequency", "frequency")
        made.append(dd.Wave(potential=function(_even, steady=True, amplitude=U0), m=m, omega=omega, phase=phase))
    return tuple(made), note


def _even(t, L, amplitude):
    """The same amplitude at every L, one value for each."""
    return amplitude * jnp.ones_like(L)


def island(potential: float, m: int, at_L: float, mu: float, species="electron", planet=None) -> dict:
    r"""The drift resonance of a wave U0 cos(m phi - omega t) with omega = m Omega(L0), and the island it makes.

    With x = 1/L and k = 1/(B_E R_E^2) the bulk drift is canonical, dphi/dt = Omega(x) - k dU/dx and dx/dt = k dU/dphi
    (x is the momentum). In the frame of the wave the Hamiltonian near x0 = 1/L0 is that of a pendulum,

        h = (dOmega/dx) (x - x0)^2 / 2 - k U0 cos(m phi - omega t),

    so that the separatrix, h = |k U0|, reaches |x - x0| = 2 sqrt(k U0/|dOmega/dx|). With dOmega/dx = -L0^2 dOmega/dL the
    island ends at 1/L = 1/L0 -+ w, that is to first order at L0 -+ half_width:

        half_width = L0^2 w = 2 L0 sqrt(U0 / (B_E R_E^2 |dOmega/dL|)),

    and a particle at its centre turns around in 2 pi/(m sqrt(k U0 |dOmega/dx|)).

    potential: U0 [V]; mu [MeV/G]. Returns L0, half_width [R_E], w (in 1/L), m, omega [rad/s], period [s] and `sign`, +1 where
    the island's centre lies at m phi - omega t = 0 (U0 dOmega/dx > 0), else -1.
    """
    import jax

    from jaxbelt.constants import EARTH, TESLA_PER_GAUSS
    from jaxbelt.physics.dipole import drift_rate

    planet = EARTH if planet is None else planet
    k = 1.0 / (planet.b_e * TESLA_PER_GAUSS * planet.r_e**2)
    rate, slope = jax.value_and_grad(lambda x: drift_rate(1.0 / x, mu, species, planet))(1.0 / at_L)
    omega, slope = m * float(rate), float(slope)
    w = 2.0 * math.sqrt(k * abs(potential) / abs(slope))
    return {"L0": float(at_L), "half_width": at_L**2 * w, "w": w, "m": int(m), "omega": omega,
            "period": 2.0 * math.pi / (m * math.sqrt(k * abs(potential) * abs(slope))),
            "sign": math.copysign(1.0, potential * slope)}
