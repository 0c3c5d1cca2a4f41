r"""Velocity diffusion by parallel mixing (J. Plasma Phys. 2021, doi:10.1017/S0022377821000088, Eqs. 5.11 and 5.12).

    dg/dt = v^-2 d_v( v^2 D d_v g ) + S - g/tau,    D = nu_par v^2 G,    G = nu_xi/(nu_par + nu_xi) (h/45) (h/(1+h))^(3/2)

g(t, v): isotropic electron distribution, per unit velocity space; its number density is 4 pi times the content, the integral
of v^2 g dv. Electrons trapped in magnetic wells of relative depth h = B_T/B_0 - 1 are mixed in v_par at the frequency nu_par
and scattered in pitch angle at nu_xi. A step of v is proportional to v (Fermi heating): energy grows as exp(10 nu_par G t),
v^-3 is steady with a constant flux. Dimensionless: v in any unit v0, t in the inverse of the unit of the rates; `Units`
goes to SI. Good values: h 0.1 to 1, nu_xi/nu_par 0.01 to 1; what holds beyond nu_xi = nu_par/3 is in the docs.

As a flow: one line solve on cells uniform in ln v, on which v^-3 is kept exactly. The operators at different times commute, so
a step needs nothing but s, the integral of nu_par G over it: rates that vary in time cost no accuracy.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbelt.coefficients import evaluate, is_constant, is_steady, jumps, parameters, static
from jaxbelt.constants import ELECTRON_MASS, ELEMENTARY_CHARGE
from jaxbelt.flows import LineDiffusion
from jaxbelt.grid import Axis, Grid
from jaxbelt.physics.mixing import diffusion_rate
from jaxbelt.solve import make_problem

__all__ = ["Flux", "Parameters", "PowerLaw", "Units", "flows", "grid", "problem"]

_GAUSS, _WEIGHTS = np.polynomial.legendre.leggauss(3)
_SAMPLES = 64


@parameters
class Parameters:
    """nu_par, nu_xi [1/time] >= 0, h > 0: numbers, `Series` or functions of t, what makes D; or `rate` = nu_par G itself.

    source [g/time] and lifetime [time]: None, or a number, an array over v, a `Series`, a callable of (t, v); a lifetime may
    be infinite. Constant rates are factored once.
    """

    nu_par: Any = None
    nu_xi: Any = None
    h: Any = None
    rate: Any = None
    source: Any = None
    lifetime: Any = None


@parameters
class PowerLaw:
    """A wall behind which g goes on as v^-exponent: at the upper wall exponent >= 0, at the lower one <= 0 (g must not rise
    away from the domain; a flux that comes in is given as `Flux`). 3 at the upper wall keeps the state of constant flux.
    """

    exponent: float = static(3.0)


@parameters
class Flux:
    """A wall through which content comes in at a given rate, value >= 0 [content/time]: a number, a `Series`, a function of t.

    Content is number density over 4 pi. 3 c A of it feeds g = A v^-3 at the diffusion rate c = nu_par G. 0 is "no flux".
    """

    value: Any


@parameters
class Units:
    """Physical units of a run: v0 [m/s], the unit of v; t0 [s], that of t; n0 [m^-3], that of number density.

    Build from an energy with `Units.of_energy(100.0, t0=1.0)`: v0 is the speed of an electron of that energy [eV].
    """

    v0: Any
    t0: Any = 1.0
    n0: Any = 1.0

    @staticmethod
    def of_energy(energy, t0=1.0, n0=1.0, mass=ELECTRON_MASS) -> Units:
        """v0 of a particle of `energy` [eV] (non-relativistic). Raises ValueError if energy is not positive."""
        if not energy > 0:
            raise ValueError(f"energy: must be positive [eV], got {energy:g}")
        return Units(v0=math.sqrt(2.0 * energy * ELEMENTARY_CHARGE / mass), t0=t0, n0=n0)

    def velocity(self, v):
        """Speed [m/s]."""
        return v * self.v0

    def energy(self, v, mass=ELECTRON_MASS):
        """Kinetic energy [eV]."""
        return 0.5 * mass * (v * self.v0) ** 2 / ELEMENTARY_CHARGE

    def time(self, t):
        """Time [s]."""
        return t * self.t0

    def psd(self, g):
        """Phase space density [s^3/m^6] of a g whose 4 pi times content is 1 at n0."""
        return g * self.n0 / self.v0**3

    def dimensionless(self, *, velocity=None, energy=None, time=None, psd=None, mass=ELECTRON_MASS):
        """The way back: one of velocity [m/s], energy [eV], time [s], psd [s^3/m^6] in units of the run."""
        given = {k: x for k, x in (("velocity", velocity), ("energy", energy), ("time", time), ("psd", psd)) if x is not None}
        if len(given) != 1:
            raise ValueError(f"dimensionless: give one of velocity, energy, time, psd; got {', '.join(given) or 'none'}")
        name, x = next(iter(given.items()))
        return {"velocity": lambda: x / self.v0, "time": lambda: x / self.t0, "psd": lambda: x * self.v0**3 / self.n0,
                "energy": lambda: jnp.sqrt(2.0 * x * ELEMENTARY_CHARGE / mass) / self.v0}[name]()


def grid(v=(0.05, 50.0), cells=512) -> Grid:
    """Cells uniform in ln v between v = (lowest, highest), both > 0; the measure of a cell is (v_+^3 - v_-^3)/3 exactly."""
    lo, hi = (float(x) for x in v)
    if not (0.0 < lo < hi < math.inf):
        raise ValueError(f"v: needs (lowest, highest) with 0 < lowest < highest, got ({lo:g}, {hi:g})")
    if int(cells) != cells or cells < 2:
        raise ValueError(f"cells: needs a whole number of at least 2, got {cells}")
    faces = lo * (hi / lo) ** (np.arange(int(cells) + 1) / int(cells))
    faces[-1] = hi
    return Grid((Axis.cells("v", faces, measure=np.diff(faces**3) / 3.0, centers=np.sqrt(faces[1:] * faces[:-1]), unit="v0",
                            long_name="speed"),))


def problem(grid, parameters, *, inner="no flux", outer="no flux", epoch=None):
    """The problem to solve. inner, outer (lowest and highest v): "no flux" (number is kept), the value of g outside (a number, a
    `Series` or a function of t), `PowerLaw(exponent=3.0)`, or `Flux(value=...)`.

    Raises ValueError, naming the entry, where rates are negative, h is not positive, neither (nu_par, nu_xi, h) nor rate is
    given, a source or lifetime cannot be, or a power law at a wall would bring particles in.
    """
    if grid.names != ("v",) or grid["v"].is_nodes:
        raise ValueError(f"grid: needs the one axis v of velocity.grid, got {', '.join(grid.names)}")
    given = [name for name in ("nu_par", "nu_xi", "h") if getattr(parameters, name) is not None]
    if (parameters.rate is None) != (len(given) == 3) or (parameters.rate is not None and given):
        raise ValueError("parameters: give nu_par, nu_xi and h, or rate (= nu_par G) alone; got "
                         + (", ".join(given + (["rate"] if parameters.rate is not None else [])) or "none of them"))
    walls, boundary = [], {}
    for name, wall, sign in (("inner", inner, -1), ("outer", outer, 1)):
        if isinstance(wall, str):
            if wall != "no flux":
                raise ValueError(f"{name}: {wall!r} is unknown; give a value of g, 'no flux', PowerLaw or Flux")
            walls.append(("closed", 0.0))
        elif isinstance(wall, PowerLaw):
            if not sign * wall.exponent >= 0:
                raise ValueError(f"{name}: a power law v^{-wall.exponent:g} rises away from the domain and would bring particles "
                                 "in; give Flux(value=...) or a value of g")
            walls.append(("power", float(wall.exponent)))
        elif isinstance(wall, Flux):
            walls.append(("flux", 0.0))
            boundary[name] = wall.value
        elif wall is None:
            raise ValueError(f"{name}: give a value of g, 'no flux', PowerLaw or Flux")
        else:
            walls.append(("value", 0.0))
            boundary[name] = wall
    made = make_problem(flows, grid, parameters, boundary=boundary, epoch=epoch, equation="velocity", time_unit="1",
                        quantity=("g", "1", "isotropic electron distribution"), plan=tuple(walls))
    if not any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves((made.parameters, made.boundary))):
        _check(made)
    return made


def recheck(problem):
    """What `problem` checks of rates and walls, for one whose values were replaced; raises ValueError as it does."""
    _check(problem)


def _check(made):
    """Concrete coefficients at the moments where they can change."""
    moments = np.asarray(jumps(made.parameters, made.boundary) or (0.0,))
    moments = moments[np.unique(np.linspace(0, moments.size - 1, _SAMPLES).astype(int))]
    v, shape = made.grid.centers("v"), made.grid.shape
    with jax.ensure_compile_time_eval():
        for t in moments:
            for name in ("nu_par", "nu_xi", "h", "rate", "source", "lifetime"):
                value = getattr(made.parameters, name)
                at = (v,) if name in ("source", "lifetime") else ()
                value = evaluate(value, t, *at) if value is not None else None
                if value is None:
                    continue
                if value.shape not in ((), (1,), shape if at else ()):
                    raise ValueError(f"{name}: an array of shape {value.shape} does not fit the grid {shape}" if at else
                                     f"{name}: needs a number, a Series or a function of t, got an array of shape {value.shape}")
                bad = ~(np.asarray(value) > 0 if name in ("h", "lifetime") else np.asarray(value) >= 0)
                if name == "source":
                    bad = ~np.isfinite(np.asarray(value))
                elif name != "lifetime":
                    bad |= ~np.isfinite(np.asarray(value))
                if np.any(bad):
                    need = {"h": "positive and finite (h = B_T/B_0 - 1)", "lifetime": "positive",
                            "source": "finite"}.get(name, "at least 0 and finite")
                    raise ValueError(f"{name}: must be {need}, got {np.asarray(value)[bad].ravel()[0]:g}")
            for name, value in made.boundary.items():
                value = np.asarray(evaluate(value, t))
                if value.shape != () or not np.isfinite(value) or value < 0:
                    raise ValueError(f"{name}: needs one finite number of at least 0, a Series or a function of t, got {value}")
    if all(np.all(np.asarray(evaluate(x, moments[0])) == 0) for x in (made.parameters.nu_par, made.parameters.nu_xi)
           if x is not None) and made.parameters.rate is None:
        raise ValueError("nu_par, nu_xi: both are 0, so nothing is mixed; give at least one of them")


def rate(parameters, t):
    """The diffusion rate c = nu_par G [1/time] at t: D = c v^2."""
    p = parameters
    if p.rate is not None:
        return evaluate(p.rate, t)
    return diffusion_rate(*(evaluate(x, t) for x in (p.nu_par, p.nu_xi, p.h)))


def flows(problem, t, dt):
    """The flow of one step (see the module's docstring)."""
    p, axis = problem.parameters, problem.grid["v"]
    made = (p.nu_par, p.nu_xi, p.h, p.rate)
    if is_steady(*made):
        c = rate(p, t)
    else:                                                      # its mean over the step about t, by Gauss-Legendre
        c = sum(0.5 * w * rate(p, t.plus(0.5 * x * dt)) for x, w in zip(_GAUSS, _WEIGHTS))
    step = math.log(axis.faces[-1] / axis.faces[0]) / axis.n
    # the resistance between two centres, integral of dv/(v^2 D), exactly: v^-3 is steady and carries the flux 3 c v^3 g
    base = 1.5 * axis.faces**3 / math.sinh(1.5 * step)
    (low, s_low), (high, s_high) = problem.plan
    # a value stands on the wall, half a cell away; a power law is the ghost cell it has beyond
    base[0] *= {"value": 1.0 + math.exp(1.5 * step), "power": -math.expm1(s_low * step)}.get(low, 0.0)
    base[-1] *= {"value": 1.0 + math.exp(-1.5 * step), "power": -math.expm1(-s_high * step)}.get(high, 0.0)
    source = None if p.source is None else evaluate(p.source, t, axis.centers)
    loss = None
    if p.lifetime is not None:
        tau = evaluate(p.lifetime, t, axis.centers)
        loss = jnp.where(jnp.isfinite(tau), 1.0 / jnp.where(jnp.isfinite(tau), tau, 1.0), 0.0)
    up, down = c * base, None
    if "flux" in (low, high):                                  # a wall that lets in its value times one, and nothing out
        down = up
        if low == "flux":
            up, down = up.at[0].set(1.0), down.at[0].set(0.0)
        if high == "flux":
            up, down = up.at[-1].set(0.0), down.at[-1].set(1.0)
    values = [problem.boundary.get(name) for name in ("inner", "outer")]
    return [LineDiffusion(axis="v", up=up, down=down, loss=loss, source=source, lower=values[0], upper=values[1],
                          steady=is_steady(*made, p.source, p.lifetime))]


def moment(grid, g, power=2.0):
    """Integral of v^power g over velocity space, 4 pi v^(2 + power) g dv, with v^power at the centres of the cells (midpoint
    rule in ln v, second order). power 0 is number density exactly. g: (..., cells)."""
    return 4.0 * np.pi * grid.content(g * (1.0 if power == 0 else grid["v"].centers**power))


def s_between(parameters, a, b, points: int = 16):
    """s = integral of nu_par G dt from a to b: the only thing a solution without source and loss depends on."""
    if is_constant(parameters):
        return rate(parameters, a) * (b - a)
    edges = np.asarray([a, *(x for x in jumps(parameters) if a < x < b), b])
    x, w = np.polynomial.legendre.leggauss(points)
    total = 0.0
    for lo, hi in zip(edges[:-1], edges[1:]):
        total = total + 0.5 * (hi - lo) * sum(wk * rate(parameters, _inside(lo, hi, xk)) for xk, wk in zip(x, w))
    return total


def _inside(lo, hi, x):
    from jaxbelt.coefficients import Time

    return Time(lo, 0.5 * (hi - lo) * (1.0 + x), 0.5 * (lo + hi))
