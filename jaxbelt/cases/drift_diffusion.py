"""The tables [grid], [parameters], [initial] and [boundary] of the drift-diffusion equation in (L, phi), or in L alone."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np

from jaxbelt.cases import Built
from jaxbelt.coefficients import function
from jaxbelt.config import Table, section

TABLES = {
    "grid": ("L", "cells", "spacing", "faces"),
    "parameters": ("species", "mu", "energy", "at_L", "b_e", "drift", "kp", "kp_file", "dll", "dlphi", "dphiphi", "lifetime",
                   "source", "waves"),
    "initial": ("model", "value", "peak", "at_L", "width_in", "width_out", "floor", "L", "f", "unit", "injections"),
    "boundary": ("inner", "outer"),
}
_COEFFICIENT = ("model", "d0", "power", "log_amplitude", "reference_L")
_LIFETIME = ("model", "tau_in", "log_tau_out", "width")
_WAVE = ("potential", "m", "at_L", "frequency", "phase")
_WALL = ("value", "factor", "times", "mlt_peak", "mlt_log_amplitude", "label")
_INJECTION = ("amplitude", "L", "width", "mlt", "mlt_width")
PSD_UNIT = "(c/(MeV cm))^3"


def build(config: Table, case) -> Built:
    """The problem, f0 and what the file holds besides, from the tables of one case."""
    from jaxbelt.equations import drift_diffusion as dd

    grid = _grid(config.table("grid", TABLES["grid"]), dd)
    prm = config.table("parameters", TABLES["parameters"])
    planet, mu, species = _particle(prm)
    kp, drivers = _kp(prm, case)
    attrs, notes = {"species": species, "b_e_gauss": float(planet.b_e), "r_e_m": float(planet.r_e)}, []
    if mu is not None:
        attrs["mu_MeV_per_G"] = mu
    fields = {"dll": _coefficient(prm, "dll", kp), "lifetime": _lifetime(prm, kp), "planet": planet}
    if prm.get("source", None) is not None:
        fields["source"] = prm.number("source", low=0.0)
    angle = grid.ndim > 1
    for key in ("dlphi", "dphiphi"):
        if key in prm:
            if not angle:
                raise prm.error(key, "needs a phi axis; give grid.cells two numbers")
            fields[key] = _coefficient(prm, key, kp)
    usual = "gradient-curvature" if angle and mu is not None else "none"
    if prm.choice("drift", ("gradient-curvature", "none"), usual) != "none":
        if not angle or mu is None:
            raise prm.error("drift", "needs a phi axis and parameters.mu, or energy and at_L")
        from jaxbelt.physics.dipole import KineticEnergy

        fields["kinetic"] = KineticEnergy(mu=mu, species=species, planet=planet)
    waves = prm.tables("waves", _WAVE)
    if waves:
        fields["waves"], attrs["island"] = _waves(prm, waves, dd, mu, species, planet)
    initial = _Initial(config.table("initial", TABLES["initial"]))
    walls = config.table("boundary", TABLES["boundary"])
    bounds = {}
    for key, face in (("inner", 0), ("outer", -1)):
        bounds[key], driver, note = _wall(walls, key, initial, float(grid["L"].faces[face]), angle, case)
        if driver is not None:
            drivers[f"{key}_factor"] = driver
        if note:
            notes.append(note)
    with section("parameters"):
        parameters = dd.Parameters(**{k: v for k, v in fields.items() if v is not None})
    with section("parameters / boundary"):
        problem = dd.problem(grid, parameters, **bounds, epoch=case.epoch)
    f0 = np.broadcast_to(initial(*grid.mesh()), grid.shape).copy()
    if not np.all(np.isfinite(f0)) or np.any(f0 < 0):
        raise config.table("initial", TABLES["initial"]).error("model", "gives an f that is negative or not finite")
    f_attrs = {"units": initial.unit, "long_name": "phase space density" + (" at fixed mu" if mu is not None else "")}
    return Built(problem=problem, f0=f0, f_attrs=f_attrs, drivers=drivers, attrs=attrs, notes=tuple(notes))


def _grid(table: Table, dd):
    cells = table.integers("cells", low=2)
    kw = {}
    if "faces" in table:
        kw["faces"] = table.numbers("faces")
    else:
        kw["L"] = tuple(table.numbers("L", size=2))
        kw["spacing"] = table.choice("spacing", ("log", "linear", "inverse"), "log")
    with section("grid"):
        return dd.grid(cells=cells if len(cells) > 1 else cells[0], **kw)


def _particle(prm: Table):
    from jaxbelt.constants import EARTH
    from jaxbelt.physics.dipole import mu_of_energy

    planet = EARTH.replace(b_e=prm.quantity("b_e", "field", above=0)) if "b_e" in prm else EARTH
    species = prm.choice("species", ("electron", "proton"), "electron")
    mu = prm.quantity("mu", "mu", None, above=0)
    if mu is None and "energy" in prm:
        mu = float(mu_of_energy(prm.quantity("energy", "energy", above=0), prm.number("at_L", above=0), species, planet))
    elif "at_L" in prm or "energy" in prm:
        raise prm.error("energy" if "energy" in prm else "at_L", "give either mu, or energy and at_L together")
    return planet, mu, species


def _kp(prm: Table, case):
    from jaxbelt.physics.drivers import kp_series, read_kp

    if "kp" in prm and "kp_file" in prm:
        raise prm.error("kp_file", "give either kp or kp_file")
    if "kp_file" in prm:
        if case.epoch is None:
            raise prm.error("kp_file", "needs case.epoch, the time to begin at")
        start = np.datetime64(case.epoch, "s")
        with section("parameters.kp_file"):
            stop = start + np.timedelta64(int(math.ceil(case.duration)), "s")
            path = case.path(prm, "kp_file")
            try:                        # a day more, for the plasmapause of the first day, where the file has it
                kp = read_kp(path, start - np.timedelta64(1, "D"), stop, epoch=start)
            except ValueError:
                kp = read_kp(path, start, stop, epoch=start)
    elif "kp" in prm:
        if isinstance(prm.get("kp"), list):
            values = prm.numbers("kp", low=0.0, high=9.0)
            if len(values) * 10800 < case.duration * (1 - 1e-12):
                raise prm.error("kp", f"holds {len(values)} values of 3 h, but the run lasts {case.duration / 10800:g} times 3 h")
        else:
            values = [prm.number("kp", low=0.0, high=9.0)]
        with section("parameters.kp"):
            kp = kp_series(values)
    else:
        return None, {}
    driver = {"t": np.asarray(kp.t), "values": np.asarray(kp.values), "kind": "step", "units": "1", "long_name": "Kp"}
    return kp, {"kp": driver}


def _coefficient(prm: Table, key: str, kp):
    """A diffusion coefficient: "0.1 1/d", or a table with a model."""
    from jaxbelt.physics.radial_diffusion import BrautigamAlbert, PowerLaw

    if not isinstance(prm.get(key), dict):
        return prm.quantity(key, "rate", **({} if key == "dlphi" else {"low": 0.0}))
    table = prm.table(key, _COEFFICIENT)
    kw = {"log_amplitude": table.number("log_amplitude", 0.0), "power": table.number("power", 10.0),
          "reference_l": table.number("reference_L", 1.0, above=0)}
    if table.choice("model", ("brautigam-albert", "power-law")) == "power-law":
        return PowerLaw(d0=table.quantity("d0", "rate", **({} if key == "dlphi" else {"low": 0.0})), **kw)
    if kp is None:
        raise table.error("model", "needs parameters.kp or parameters.kp_file")
    return BrautigamAlbert(kp=kp, **kw)


def _lifetime(prm: Table, kp):
    from jaxbelt.physics.losses import KpLifetime

    if "lifetime" not in prm:
        return None
    if not isinstance(prm.get("lifetime"), dict):
        return prm.quantity("lifetime", "lifetime", above=0)
    table = prm.table("lifetime", _LIFETIME)
    table.choice("model", ("kp",))
    if kp is None:
        raise table.error("model", "needs parameters.kp or parameters.kp_file")
    return KpLifetime(kp=kp, tau_in=table.quantity("tau_in", "lifetime", 10.0, above=0),
                      log_tau_out=table.number("log_tau_out", 0.0), width=table.number("width", 0.1, low=0.0))


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


def _even(t, L, amplitude):
    """The same amplitude at every L, one value for each."""
    return amplitude * jnp.ones_like(L)


def _waves(prm: Table, tables, dd, mu, species, planet):
    from jaxbelt.physics.dipole import drift_rate

    waves, note = [], {}
    for table in tables:
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
        waves.append(dd.Wave(potential=function(_even, steady=True, amplitude=U0), m=m, omega=omega, phase=phase))
    return tuple(waves), note


class _Initial:
    """The initial f of [initial] as a function of (L) or (L, phi); `profile` is the part that depends on L alone."""

    def __init__(self, table: Table):
        self.unit = table.text("unit", PSD_UNIT)
        model = table.choice("model", ("uniform", "peak", "table"))
        if model == "uniform":
            value = table.number("value", low=0.0)
            self.profile = lambda L: value + 0.0 * L
        elif model == "peak":
            peak, at = table.number("peak", low=0.0), table.number("at_L", above=0)
            inside, outside = table.number("width_in", above=0), table.number("width_out", above=0)
            floor = table.number("floor", 0.0, low=0.0)
            self.profile = lambda L: floor + peak * np.exp(-0.5 * ((L - at) / np.where(L < at, inside, outside))**2)
        else:
            L, f = table.numbers("L", low=0.0), table.numbers("f", low=0.0)
            if len(L) != len(f) or min(f) <= 0 or any(b <= a for a, b in zip(L, L[1:])):
                raise table.error("L", "needs as many increasing L as there are positive values in f")
            self.profile = lambda x: np.exp(np.interp(x, L, np.log(f)))
        self.injections = [(t.number("amplitude", low=0.0), t.number("L", above=0), t.number("width", above=0),
                            t.number("mlt", low=0.0, high=24.0), t.number("mlt_width", above=0))
                           for t in table.tables("injections", _INJECTION)]

    def __call__(self, L, phi=None):
        f = self.profile(L)
        for amplitude, at, width, mlt, mlt_width in self.injections:
            bump = amplitude * np.exp(-0.5 * ((L - at) / width)**2)
            if phi is not None:
                bump = bump * np.exp((np.cos(phi - math.pi * mlt / 12) - 1) / (math.pi * mlt_width / 12)**2)
            f = f + bump
        return f


def wall_factor(t, *phi, times, log_factor, amplitude, peak):
    """exp(log_factor(t) + a(t) cos(phi - peak))/I0(a(t)), of mean exp(log_factor) over phi; both linear in time."""
    from jax.scipy.special import i0e

    log_f, a = jnp.interp(t, times, log_factor), jnp.interp(t, times, amplitude)
    if not phi:
        return jnp.exp(log_f)
    return jnp.exp(log_f + a * jnp.cos(phi[0] - peak) - jnp.abs(a)) / i0e(a)


def _wall(walls: Table, key: str, initial: _Initial, L: float, angle: bool, case):
    """(boundary value, driver for the file or None, note or None) of one wall."""
    given = walls.get(key)
    if isinstance(given, str):
        kind = walls.choice(key, ("no flux", "open", "initial"))
        return float(initial.profile(L)) if kind == "initial" else kind, None, None
    if not isinstance(given, dict):
        return walls.number(key, low=0.0), None, None
    table = walls.table(key, _WALL)
    if ("value" in table) == ("factor" in table):
        raise table.error("value", 'give either value, or factor (times the initial f at the wall) with times')
    if "value" in table:
        return table.number("value", low=0.0), None, None
    times, factor = table.quantities("times", "time"), table.numbers("factor")
    if len(times) != len(factor):
        raise table.error("factor", f"needs one number for each of the {len(times)} times, has {len(factor)}")
    if any(b <= a for a, b in zip(times, times[1:])):
        raise table.error("times", "times must increase")
    if min(factor) <= 0:
        raise table.error("factor", "must be positive numbers")
    amplitude = np.zeros(len(times))
    if "mlt_log_amplitude" in table:
        if not angle:
            raise table.error("mlt_log_amplitude", "needs a phi axis; give grid.cells two numbers")
        amplitude = np.asarray(table.numbers("mlt_log_amplitude", size=len(times)))
    start = float(initial.profile(L))
    peak = math.pi * table.number("mlt_peak", 0.0, low=0.0, high=24.0) / 12
    log_factor = np.log(np.asarray(factor)) + math.log(start)
    value = function(wall_factor, jumps=tuple(times), times=np.asarray(times), log_factor=log_factor, amplitude=amplitude,
                     peak=np.asarray(peak))
    label = table.text("label", "")
    driver = {"t": np.asarray(times), "values": np.asarray(factor), "kind": "log-linear", "units": "1",
              "long_name": f"f at the {key} boundary / initial" + (f" ({label})" if label else "")}
    return value, driver, f"{key} boundary: {label}" if label else None
