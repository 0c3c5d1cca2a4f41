"""What `observe` needs and returns: an orbit, an instrument's channels with their pitch-angle shape, and what was seen."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbelt.coefficients import parameters, static
from jaxbelt.grid import Frozen
from jaxbelt.physics.drivers import seconds_after

__all__ = ["Orbit", "Channel", "SinN", "Observation"]


# ---- the orbit

@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True, init=False)
class Orbit:
    """Where a spacecraft is: `jb.Orbit(t, L, mlt=...)`. Static (hashable): another orbit compiles anew.

    t: seconds after the run's epoch, increasing (`Orbit.from_dates` takes dates). L: L* or L, (len(t),).
    mlt [h] or phi [rad, 0 at midnight, eastward]: needed where the solution depends on phi.
    y: sine of the equatorial pitch angle of particles that mirror at the spacecraft, 0 < y <= 1 (default 1, at the equator);
    or b_ratio = B/B_eq >= 1, of which y = b_ratio^(-1/2). Each is a number or one value a sample.
    A sample with a NaN (a gap in the data) is masked: its results are NaN.

    Raises ValueError, naming the entry, for other lengths, times that do not increase, values that are infinite or impossible.
    """

    _t: Frozen
    _L: Frozen
    _phi: Frozen | None
    _y: Frozen

    def __init__(self, t, L, phi=None, *, mlt=None, y=None, b_ratio=None):
        t = np.asarray(t, np.float64) if np.asarray(t).dtype.kind != "M" else _dated()
        if t.ndim != 1 or t.size == 0:
            raise ValueError(f"Orbit t: needs a one-dimensional list of times, got shape {t.shape}")
        if not np.all(np.isfinite(t)):
            raise ValueError(f"Orbit t: every time must be finite, but t[{int(np.argmin(np.isfinite(t)))}] is not; leave it out")
        if np.any(np.diff(t) <= 0):
            i = int(np.argmax(np.diff(t) <= 0))
            raise ValueError(f"Orbit t: times must increase, but t[{i + 1}] = {t[i + 1]:g} follows {t[i]:g}")
        if phi is not None and mlt is not None:
            raise ValueError("Orbit: give phi [rad] or mlt [h], not both")
        if y is not None and b_ratio is not None:
            raise ValueError("Orbit: give y or b_ratio, not both")
        phi = _samples("mlt", mlt, t.size, -24.0, 48.0) * (np.pi / 12.0) if mlt is not None else \
            None if phi is None else _samples("phi", phi, t.size)
        y = _samples("b_ratio", b_ratio, t.size, 1.0) ** -0.5 if b_ratio is not None else \
            _samples("y", 1.0 if y is None else y, t.size, np.finfo(float).tiny, 1.0)
        values = {"_t": t, "_L": _samples("L", L, t.size), "_phi": phi, "_y": y}
        for name, value in values.items():
            object.__setattr__(self, name, None if value is None else Frozen(value))

    @classmethod
    def from_dates(cls, dates, L, *, epoch, **rest) -> Orbit:
        """An orbit at dates (datetime64); epoch: the date of t = 0, that of the problem. The rest as in `Orbit`."""
        return cls(seconds_after(epoch, dates), L, **rest)

    @property
    def n(self) -> int:
        return self._t.array.size

    @property
    def t(self) -> np.ndarray:
        """Seconds after the epoch."""
        return self._t.array

    @property
    def L(self) -> np.ndarray:
        return self._L.array

    @property
    def phi(self) -> np.ndarray | None:
        """Radians eastward from midnight, or None."""
        return None if self._phi is None else self._phi.array

    @property
    def mlt(self) -> np.ndarray | None:
        """Hours, 0 to 24, or None."""
        return None if self._phi is None else np.mod(self._phi.array * (12.0 / np.pi), 24.0)

    @property
    def y(self) -> np.ndarray:
        """Sine of the equatorial pitch angle of locally mirroring particles."""
        return self._y.array


def _dated():
    raise ValueError("Orbit t: needs seconds after the epoch; for dates use Orbit.from_dates(dates, L, epoch=...)")


def _samples(name, values, n, low=-np.inf, high=np.inf):
    values = np.asarray(values, np.float64)
    if values.shape not in ((), (n,)):
        raise ValueError(f"Orbit {name}: needs {n} values, one a time (or a number), got shape {values.shape}")
    bad = np.isinf(values) | (values < low) | (values > high)
    if np.any(bad):
        need = {"mlt": "hours between 0 and 24", "b_ratio": "B/B_eq of at least 1 (clip what a field model puts below)",
                "y": "between 0 (excluded) and 1"}.get(name, "finite (NaN for a gap)")
        raise ValueError(f"Orbit {name}: must be {need}, got {values[bad].ravel()[0]:g}")
    return np.broadcast_to(values, (n,))


# ---- pitch angles and channels

@parameters
class SinN:
    r"""Pitch-angle distribution j(E, alpha_eq) = j(E, 90 deg) sin^n(alpha_eq).

    n > -2: a number, or one value a sample of the orbit; 0 is isotropic. The loss cone is not cut out.
    At a place whose locally mirroring particles have sin(alpha_eq) = y, the equatorial sine is y sin(alpha_local), so
    locally j = j(E, 90 deg) y^n sin^n(alpha_local), and the omnidirectional flux is
    4 pi j(E, 90 deg) y^n (sqrt(pi)/2) Gamma(n/2 + 1)/Gamma(n/2 + 3/2): 4 pi (n = 0), 8 pi/3 (n = 2) at the equator.
    Another shape is any callable pytree with these two methods.
    """

    n: Any = 2.0

    def __post_init__(self):
        if not isinstance(self.n, jax.core.Tracer) and not np.all(np.asarray(self.n) > -2.0):
            raise ValueError(f"SinN n: must be above -2 (the flux would be infinite), got {np.min(self.n):g}")

    def __call__(self, sine):
        """j/j(90 deg) at the equatorial sine."""
        some = sine > 0.0
        power = jnp.exp(self.n * jnp.log(jnp.where(some, sine, 1.0)))
        return jnp.where(some, power, jnp.where(jnp.asarray(self.n) == 0.0, 1.0, 0.0))

    def omnidirectional(self, y):
        """Integral over all directions at a place with y, over j(90 deg) [sr]."""
        half = 0.5 * jnp.asarray(self.n)
        gammaln = jax.scipy.special.gammaln
        return 2.0 * math.pi ** 1.5 * jnp.exp(gammaln(half + 1.0) - gammaln(half + 1.5)) * self(y)


@parameters
class Channel:
    """What an instrument's channel measures: `jb.Channel(energy=(0.57, 1.12))`.

    energy [MeV]: (lowest, highest), over which the differential flux is averaged, or one energy; None for a solution at one
    mu: the energy of that mu wherever the spacecraft is. pitch_angle [degrees]: None is omnidirectional. frame: "local",
    measured at the spacecraft, or "equatorial", on the same shell whether or not such particles reach the spacecraft.
    shape: the pitch-angle distribution (a leaf inside it can be fitted). unit: "keV" or "MeV", of the flux
    [1/(cm^2 s sr keV)], omnidirectional [1/(cm^2 s keV)]. label: a name for pictures and messages.
    Raises ValueError for energies that are not positive or do not increase, a pitch angle outside 0 to 180, unknown words.
    """

    energy: Any = static(None)
    pitch_angle: float | None = static(None)
    frame: str = static("local")
    shape: Any = SinN()
    unit: str = static("keV")
    label: str = static("")

    def __post_init__(self):
        if self.energy is not None:
            energy = tuple(float(e) for e in np.atleast_1d(self.energy))
            if len(energy) not in (1, 2) or not all(0.0 < e < math.inf for e in energy) or energy[0] >= (*energy, math.inf)[1]:
                raise ValueError(f"Channel energy: needs one energy or (lowest, highest) in MeV, got {self.energy}")
            object.__setattr__(self, "energy", energy)
        if self.pitch_angle is not None:
            if not 0.0 <= self.pitch_angle <= 180.0:
                raise ValueError("Channel pitch_angle: must be 0 to 180 degrees (None is omnidirectional), "
                                 f"got {self.pitch_angle}")
            object.__setattr__(self, "pitch_angle", float(self.pitch_angle))
        for name, known in (("frame", ("local", "equatorial")), ("unit", ("keV", "MeV"))):
            if getattr(self, name) not in known:
                raise ValueError(f"Channel {name}: {getattr(self, name)!r} is unknown; use {' or '.join(map(repr, known))}")

    @property
    def name(self) -> str:
        """The label, or the energy and direction."""
        if self.label:
            return self.label
        energy = "energy of mu" if self.energy is None else "-".join(f"{e:g}" for e in self.energy) + " MeV"
        return energy + (" omni" if self.pitch_angle is None else f" {self.pitch_angle:g} deg {self.frame}")

    @property
    def flux_unit(self) -> str:
        return f"1/(cm^2 s{'' if self.pitch_angle is None else ' sr'} {self.unit})"

    def direction(self, y):
        """Flux of the channel over j(90 deg) at samples with y."""
        if self.pitch_angle is None:
            return self.shape.omnidirectional(y)
        sine = math.sin(math.radians(self.pitch_angle)) if self.pitch_angle not in (0.0, 180.0) else 0.0
        return self.shape(sine * y if self.frame == "local" else jnp.full_like(y, sine))


# ---- the result

@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Observation:
    """What was seen. Where nothing can be said (a gap, outside the grid, mu not covered) values are NaN with derivative 0.

    psd: (time,), or (mu, time), in the unit of f. flux: (channel, time) [units[channel]] or None. energy: (channel, time)
    [MeV], the geometric middle of the channel, or the energy of the one mu. inside: (time,), the sample lies in the solution;
    valid: (channel, time), the flux is known. mu: None, a number or (mu,) [MeV/G]. units, labels: one text a channel.
    """

    psd: Any
    flux: Any
    energy: Any
    inside: Any
    valid: Any
    mu: Any
    orbit: Orbit = dataclasses.field(metadata={"static": True})
    units: tuple = dataclasses.field(default=(), metadata={"static": True})
    labels: tuple = dataclasses.field(default=(), metadata={"static": True})
    epoch: str | None = dataclasses.field(default=None, metadata={"static": True})
    psd_unit: str = dataclasses.field(default="1", metadata={"static": True})

    def __repr__(self):
        """One line; printing an observation should not print its arrays."""
        return f"Observation({self.orbit.n} samples, {len(self.labels)} channels)"

    @property
    def t(self) -> np.ndarray:
        """Seconds after the epoch."""
        return self.orbit.t

    @property
    def message(self) -> str:
        """How many samples have a value, and how many of each channel need a mu that the solution does not have."""
        inside = np.asarray(self.inside)
        text = f"{int(inside.sum())} of {inside.size} samples inside the solution"
        if self.flux is not None:
            lost = (inside & ~np.asarray(self.valid)).sum(axis=1)
            text += "".join(f"; {name}: {n} beyond its mu" for name, n in zip(self.labels, lost) if n)
        return text

    def to_xarray(self):
        """An `xarray.Dataset` along time (UTC where there is an epoch), with channel and mu, units and long names."""
        import xarray as xr

        t, orbit = self.t, self.orbit
        dated = self.epoch is not None
        time = np.datetime64(self.epoch, "ms") + np.round(t * 1e3).astype("timedelta64[ms]") if dated else t
        coords = {"time": ("time", time, {} if dated else {"units": "s"}), "L": ("time", orbit.L, {"long_name": "L or L*"}),
                  "y": ("time", orbit.y, {"long_name": "sine of the equatorial pitch angle of locally mirroring particles"})}
        if orbit.phi is not None:
            coords["mlt"] = ("time", orbit.mlt, {"units": "h", "long_name": "magnetic local time"})
        if self.mu is not None:
            coords["mu"] = ("mu" if np.ndim(self.mu) else (), np.asarray(self.mu), {"units": "MeV/G"})
        psd = np.asarray(self.psd)
        data = {"psd": (("mu", "time")[2 - psd.ndim:], psd, {"units": self.psd_unit, "long_name": "phase space density"})}
        if self.flux is not None:
            coords["channel"] = ("channel", np.array(self.labels))
            coords["flux_units"] = ("channel", np.array(self.units))
            data["flux"] = (("channel", "time"), np.asarray(self.flux),
                            {"long_name": "flux"} | ({"units": self.units[0]} if len(set(self.units)) == 1 else {}))
            data["energy"] = (("channel", "time"), np.asarray(self.energy), {"units": "MeV", "long_name": "kinetic energy"})
        return xr.Dataset(data, coords, {"epoch": self.epoch or ""})
