"""Electrons in a magnetic well that is divided, reshaped and restored: initial against present energy, by the action integrals.

The well (Fig. 1 of the paper named in `mixing_maps`): 0 <= x <= 1 with floor B0, divided by a narrow barrier BT at x = d into
region A (x < d) and region B. mu is conserved, and so is J, the sum over the regions an orbit visits of (length)
sqrt(E - mu B), apart from the orbit transitions. Two scenarios of a cycle: "floor" (`FloorStage`), "barrier" (`BarrierStage`).
Energies, mu and B: any units with E = mu B; by default mu = B0 = 1, energies in units of mu B0. Traced values are not checked.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..coefficients import parameters
from .mixing_maps import check, check_d, check_scenario, in_region_a, mix, repeated, root

__all__ = ["Well", "FloorStage", "BarrierStage", "FORBIDDEN", "BLUE", "MAGENTA", "RED", "transition_energy", "energy_before",
           "energy_after", "initial_energy", "present_energy", "orbit", "origin", "actions"]

# classes of orbits (`orbit`), and of where they started (`origin`: A, B, both)
FORBIDDEN, BLUE, MAGENTA, RED = 0, 1, 2, 3

@parameters
class Well:
    """A square well: floor B0, a barrier BT at x = d of a well of length 1. Defaults: the paper's figures.

    Raises ValueError unless 0 < d < 1 and BT > B0 > 0 (numbers or arrays; traced values pass).
    """

    d: Any = 0.4
    BT: Any = 8.0
    B0: Any = 1.0

    def __post_init__(self):
        if any(isinstance(x, jax.core.Tracer) for x in (self.d, self.BT, self.B0)):
            return
        check_d(self.d)
        check("B0", self.B0, lambda x: (x > 0.0) & (x < np.inf), "above 0 and finite")
        check("BT", self.BT, lambda x: (x > np.asarray(self.B0)) & (x < np.inf), "above B0 and finite (else nothing is trapped)")

    @property
    def h(self):
        """BT/B0 - 1."""
        return self.BT / self.B0 - 1.0

    def relative(self, E, mu):
        """w^2 = (E - mu B0)/(mu (BT - B0)); at least 0."""
        E, mu = jnp.asarray(E), jnp.asarray(mu)
        e = (E - mu * self.B0) / (mu * (self.BT - self.B0))
        return jnp.where(e >= 0.0, e, 0.0 * e)

    def energy(self, w2, mu):
        """E of w^2."""
        return mu * self.B0 + mu * (self.BT - self.B0) * w2


_PAPER = Well()


def _relative(name, E, well, mu):
    check("mu", mu, lambda x: (x > 0.0) & (x < np.inf), "above 0 and finite")
    if not any(isinstance(x, jax.core.Tracer) for x in (E, mu, well.B0)):
        low = np.asarray(mu) * np.asarray(well.B0)
        single = np.float32 in (getattr(E, "dtype", None), getattr(mu, "dtype", None))
        values, low = np.broadcast_arrays(np.asarray(E), low * (1.0 - (1e-6 if single else 1e-9)))
        if not np.all(values >= low):
            raise ValueError(f"mixing {name} = {float(values[~(values >= low)].ravel()[0]):g}: it must be at least mu B0, "
                             "the energy of a particle without parallel speed")
    return well.relative(E, mu)


def transition_energy(well=_PAPER, mu=1.0, scenario="floor"):
    """E_T, where the two branches of a whole cycle meet: mu B0 + mu (BT - B0) times (1-d)^2 (2.11), or d^2 (A 8)."""
    check_scenario(scenario)
    return well.energy((1.0 - well.d) ** 2 if scenario == "floor" else jnp.asarray(well.d) ** 2, mu)


def _before_floor(e, d):
    # in w^2: the lower branch is linear, so its derivative at w = 0 is right
    upper = e >= (1.0 - d) ** 2
    return jnp.where(upper, ((root(jnp.where(upper, e, 1.0)) - (1.0 - d)) / d) ** 2, e / (1.0 - d) ** 2)


def _before_barrier(e, d):
    upper = e > d * d
    return jnp.where(upper, ((1.0 - root(jnp.where(upper, e, 1.0))) / (1.0 - d)) ** 2, e / (d * d))


def _before(e, d, cycles, scenario):
    step = _before_floor if scenario == "floor" else _before_barrier
    return repeated(lambda e, d: jnp.where(e < 1.0, step(jnp.where(e < 1.0, e, 0.0), d), e), e, d, cycles)


def energy_before(E, cycles=1, well=_PAPER, mu=1.0, scenario="floor"):
    r"""E0 of what has energy E after `cycles` whole cycles: (2.12), (2.13), and (A 7) with E_N throughout.

        "floor":   (E - mu B0)/(1-d)^2 + mu B0                                          for mu B0 <= E < E_T
                   [sqrt(E - mu B0) - (1-d) sqrt(mu (BT - B0))]^2/d^2 + mu B0           for E_T <= E < mu BT
        "barrier": (E - mu B0)/d^2 + mu B0                                              for mu B0 <= E <= E_T
                   [sqrt(mu (BT - B0)) - sqrt(E - mu B0)]^2/(1-d)^2 + mu B0             for E_T < E < mu BT
                   E for E >= mu BT

    "floor" jumps at E_T (from mu BT to mu B0) and is continuous at mu BT; "barrier" is continuous at E_T and jumps at mu BT
    (from mu B0 to mu BT). E, mu, the well's fields: arrays that broadcast. A distribution f0(E, mu) becomes
    f0(energy_before(E, cycles, well, mu), mu), (3.1). d = 0.4, BT = 8 B0, mu = B0 = 1: E = 2 -> 3.77777777777778, after two
    cycles 1.03921972280373. The derivative in E at E_T and mu BT is that of the branch taken.
    Raises ValueError if E < mu B0, mu <= 0, or cycles is no count.
    """
    check_scenario(scenario, cycles)
    return well.energy(_before(_relative("E", E, well, mu), well.d, cycles, scenario), mu)


def energy_after(E0, regions, well=_PAPER, mu=1.0, scenario="floor"):
    """E after as many whole cycles as `regions` has letters, of what begins cycle i in region regions[i]: "A", "BAB", ...

    An array instead of a string: one cycle, True where the region is A. The inverse of `energy_before`. At E0 = mu B0 the
    derivative may be infinite (E ~ sqrt(E0 - mu B0)); it is given as if sqrt had the slope 0 there.
    """
    check_scenario(scenario)
    if isinstance(regions, str) and set(regions) - {"A", "B"}:
        raise ValueError(f"mixing regions: {regions!r} must be made of the letters A and B, one a cycle")
    e = _relative("E0", E0, well, mu)
    for region in regions if isinstance(regions, str) else (regions,):
        slow = 1.0 - well.d if scenario == "floor" else well.d           # the branch through w = 0, linear in w^2
        curved = mix(root(e), "A" if scenario == "floor" else "B", well.d, scenario) ** 2
        is_curved = in_region_a(region) if scenario == "floor" else jnp.logical_not(in_region_a(region))
        e = jnp.where(e < 1.0, jnp.where(is_curved, curved, slow**2 * e), e)
    return well.energy(e, mu)


@parameters
class FloorStage:
    """A stage of the main cycle (Fig. 1), by its progress from 0 to 3; floor of A and barrier change linearly with it.

    0 to 1: the barrier rises from B0 to BT (it only divides orbits: E0 = E). 1 to 2: the floor of A rises from B0 to BT.
    2 to 3: the floor of A sinks back to B0 and the barrier with it, never above the floor.
    `raising(B, well)`, `lowering(B, well)`: the stages at which the floor of A is B.
    """

    progress: Any

    scenario = "floor"

    def __post_init__(self):
        check("FloorStage progress", self.progress, lambda x: (x >= 0.0) & (x <= 3.0), "0 to 3")

    @classmethod
    def raising(cls, B, well=_PAPER):
        return cls(progress=1.0 + cls._part(B, well))

    @classmethod
    def lowering(cls, B, well=_PAPER):
        return cls(progress=3.0 - cls._part(B, well))

    @staticmethod
    def _part(B, well):
        if not any(isinstance(x, jax.core.Tracer) for x in (B, well.B0, well.BT)):
            check("floor B", B, lambda x: (x >= np.asarray(well.B0)) & (x <= np.asarray(well.BT)), "from B0 to BT")
        return (B - well.B0) / (well.BT - well.B0)

    @property
    def _levels(self):
        """Floor of A and barrier as fractions of BT - B0 above B0."""
        p = jnp.asarray(self.progress)
        floor = jnp.where(p < 2.0, jnp.clip(p - 1.0, 0.0, 1.0), jnp.clip(3.0 - p, 0.0, 1.0))
        return floor, jnp.where(p <= 2.0, jnp.clip(p, 0.0, 1.0), floor)

    def floor(self, well=_PAPER):
        """B of region A."""
        return well.B0 + (well.BT - well.B0) * self._levels[0]

    def barrier(self, well=_PAPER):
        """B at the barrier."""
        return well.B0 + (well.BT - well.B0) * self._levels[1]

    def divide(self, well=_PAPER):
        """x between A and B."""
        return jnp.asarray(well.d)

    def _red(self, e, d):
        """Orbits through both regions: w0^2 and origin, from S = (1-d) sqrt(E - mu B0) + d sqrt(E - mu B) [(2.7), (2.9)]."""
        floor, _ = self._levels
        level = floor <= 0.0
        S = jnp.where(level, root(e), (1.0 - d) * root(e) + d * root(e - floor))
        squared = jnp.where(level, e, S * S)                              # linear in e on a level floor, also at e = 0
        divided = self.progress >= 1.0                                    # before that nobody has changed class
        from_b = divided & (self.progress > 2.0) & (S < 1.0 - d)
        from_a = divided & (S < 1.0) & ~from_b
        e0 = jnp.where(from_a, ((S - (1.0 - d)) / d) ** 2, jnp.where(from_b, squared / (1.0 - d) ** 2, squared))
        return e0, jnp.where(from_a, BLUE, jnp.where(from_b, MAGENTA, RED))

    def _back(self, e, x, well):
        """w0^2, orbit, origin, for w^2 at x."""
        in_a = x < jnp.asarray(well.d)
        floor, barrier = self._levels
        bottom = jnp.where(in_a, floor, 0.0)
        kind = jnp.where(e < bottom, FORBIDDEN, jnp.where(e >= barrier, RED, jnp.where(in_a, BLUE, MAGENTA)))
        red, began = self._red(jnp.where(kind == RED, e, 1.0), well.d)
        # before the barrier is up an orbit's origin is what BT will make of it
        early = jnp.where(e < 1.0, jnp.where(in_a, BLUE, MAGENTA), RED)
        began = jnp.where(kind == RED, jnp.where(self.progress < 1.0, early, began), kind)
        return jnp.where(kind == RED, red, e - bottom), kind, began

    def _forth(self, e0, in_a, well):
        """w^2 now, for w0^2 and the region."""
        d = well.d
        floor, _ = self._levels
        lowering = jnp.asarray(self.progress) > 2.0
        w0 = root(e0)
        S = jnp.where(e0 >= 1.0, w0, jnp.where(in_a, (1.0 - d) + d * w0, (1.0 - d) * w0))
        inside = S * S - (1.0 - 2.0 * d) * floor
        sloped = floor > 0.0
        below = jnp.where(sloped, (1.0 - d) * S + d * root(inside), 1.0)   # S = (1-d) u + d sqrt(u^2 - floor) solved for u
        red = jnp.where(sloped, ((S * S + d * d * floor) / below) ** 2, jnp.where(in_a | (e0 >= 1.0), S * S, (1.0 - d) ** 2 * e0))
        trapped = jnp.where(in_a, ~lowering & (e0 + floor < 1.0), ~lowering | (e0 < floor)) & (e0 < 1.0)
        moved = jnp.where(trapped, e0 + jnp.where(in_a, floor, 0.0), red)
        return jnp.where(self.progress < 1.0, e0, moved)

    def _actions(self, e, well):
        return well.d * root(e - self._levels[0]), (1.0 - well.d) * root(e)


@parameters
class BarrierStage:
    """A stage of Appendix A's cycle (Fig. 6): the barrier BT now at x = position, d to 1; the floor is B0 throughout."""

    position: Any

    scenario = "barrier"

    def __post_init__(self):
        check("BarrierStage position", self.position, lambda x: (x > 0.0) & (x <= 1.0), "above 0 and at most 1 (from d to 1)")

    def divide(self, well=_PAPER):
        """x between A and B."""
        both = (self.position, well.d)
        if not any(isinstance(x, jax.core.Tracer) for x in both) and np.any(np.asarray(both[0]) < np.asarray(both[1]) - 1e-6):
            raise ValueError(f"mixing BarrierStage position = {float(np.min(np.asarray(both[0]))):g}: it must be at least d = "
                             f"{float(np.max(np.asarray(both[1]))):g}, where the barrier starts")
        return jnp.asarray(self.position)

    def floor(self, well=_PAPER):
        """B of region A."""
        return jnp.asarray(well.B0)

    def barrier(self, well=_PAPER):
        """B at the barrier."""
        return jnp.asarray(well.BT)

    def _back(self, e, x, well):
        d, now = well.d, self.divide(well)
        in_a = (x < now) | (now >= 1.0)
        kind = jnp.where(e >= 1.0, RED, jnp.where(in_a, BLUE, MAGENTA))
        crossed = (e > (d / now) ** 2) & (kind == BLUE)
        w = root(jnp.where(crossed, e, 1.0))
        inside = jnp.where(crossed, ((1.0 - now * w) / (1.0 - d)) ** 2, e * (now / d) ** 2)                  # (A 5), (A 1)
        e0 = jnp.where(kind == RED, e, jnp.where(in_a, inside, e * ((1.0 - now) / (1.0 - d)) ** 2))          # (A 2)
        return e0, kind, jnp.where(crossed, MAGENTA, kind)

    def _forth(self, e0, in_a, well):
        d, now = well.d, self.divide(well)
        w0 = root(e0)
        crossed = (1.0 - d) * w0 > 1.0 - now
        rest = jnp.where(crossed, 1.0, 1.0 - now)
        rest = jnp.where(rest > 0.0, rest, 1.0)
        squeezed = jnp.where(crossed, ((1.0 - (1.0 - d) * w0) / now) ** 2, e0 * ((1.0 - d) / rest) ** 2)
        return jnp.where(e0 >= 1.0, e0, jnp.where(in_a, e0 * (d / now) ** 2, squeezed))

    def _actions(self, e, well):
        now = self.divide(well)
        return now * root(e), (1.0 - now) * root(e)


def initial_energy(E, x, stage, well=_PAPER, mu=1.0, cycles=0):
    r"""E0 of what has energy E at x in a `FloorStage` (Fig. 2 a-g) or `BarrierStage` (Fig. 6 a-c).

    FloorStage, B the floor of A: blue (in A only) E0 = E - mu (B - B0); magenta (in B only) E0 = E; red (both), with
    S = (1-d) sqrt(E - mu B0) + d sqrt(E - mu B) and S_T = sqrt(mu (BT - B0)): E0 - mu B0 = S^2 for S >= S_T (always red),
    [(S - (1-d) S_T)/d]^2 for (1-d) S_T <= S < S_T (once blue, (2.8)), [S/(1-d)]^2 for S < (1-d) S_T (once magenta, (2.10)).
    BarrierStage, barrier at d': (A 1), (A 5) in A on either side of E_T = (d/d')^2 mu (BT - B0) + mu B0, (A 2) in B.
    cycles: whole cycles completed before this one. E, x, mu and the fields of stage and well broadcast; x < d (d') is A.
    NaN (with derivative 0) where E < mu B(x): nothing moves there, and `orbit` is FORBIDDEN. Derivatives are one-sided at the
    edges of the classes; where sqrt(E - mu B) is 0 its infinite derivative is given as 0.
    Raises ValueError if E < mu B0, x is outside 0 to 1, or the stage is outside its cycle.
    """
    e0, kind, _ = _at(E, x, stage, well, mu)
    check_scenario(stage.scenario, cycles)
    e0 = _before(jnp.where(kind == FORBIDDEN, 0.0, e0), well.d, cycles, stage.scenario)
    return jnp.where(kind == FORBIDDEN, jnp.nan, well.energy(e0, mu))


def _at(E, x, stage, well, mu):
    check("x", x, lambda x: (x >= 0.0) & (x <= 1.0), "0 to 1, the well's length")
    return stage._back(_relative("E", E, well, mu), jnp.asarray(x), well)


def present_energy(E0, region, stage, well=_PAPER, mu=1.0):
    """E at a stage of what began the cycle with E0 in region "A" or "B" (or an array, True where it is A); E0 >= mu BT: any.

    The inverse of `initial_energy`. At E0 = mu B0 its derivative may be infinite; it is given as if sqrt had the slope 0 there.
    """
    e0 = _relative("E0", E0, well, mu)
    return well.energy(stage._forth(e0, jnp.asarray(in_region_a(region)), well), mu)


def orbit(E, x, stage, well=_PAPER, mu=1.0):
    """Class of the orbit through x now, integers: BLUE (in A only), MAGENTA (B only), RED (both), FORBIDDEN (E < mu B(x))."""
    return _at(E, x, stage, well, mu)[1]


def origin(E, x, stage, well=_PAPER, mu=1.0):
    """Where the orbit began the cycle: BLUE (E0 < mu BT, in A), MAGENTA (in B), RED (E0 >= mu BT), FORBIDDEN (E < mu B(x))."""
    return _at(E, x, stage, well, mu)[2]


def actions(E, stage, well=_PAPER, mu=1.0):
    """(J_A, J_B) = (d sqrt(E - mu B), (1-d) sqrt(E - mu B0)), (2.4)-(2.5): of an orbit in A, in B, their sum in both.

    0, with derivative 0, where the square root's argument is not above 0. For a BarrierStage d is the barrier's position.
    """
    e = _relative("E", E, well, mu)
    unit = jnp.sqrt(mu * (well.BT - well.B0))
    return tuple(unit * part for part in stage._actions(e, well))
