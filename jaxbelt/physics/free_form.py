"""Diffusion coefficients and profiles of free form, for fits: knots in L (and MLT, and time), and a plain law in Kp and L."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from ..coefficients import evaluate, parameters, static
from .drivers import check_kp

__all__ = ["Knots", "KpPower", "InitialProfile", "Modulated", "WallProfile", "monotone"]


def monotone(nodes, values, x):
    """Monotone cubic through (nodes, values) at x: C1, never beyond its two neighbours, C1 in the values too.

    Slopes at the nodes: harmonic means of the neighbouring slopes (Fritsch & Butland 1984), 0 at an extremum. Where one neighbour
    is less than a quarter as steep as the other they fall to that 0 smoothly (the mean alone would meet it at an angle, on which
    a fit gets caught). Beyond the ends the line of the end slope goes on. nodes: increasing, concrete; values (n,) or (n, ...),
    n >= 2; x of any shape.
    """
    nodes, values, x = np.asarray(nodes, float), jnp.asarray(values), jnp.asarray(x)
    h = np.diff(nodes).reshape((-1,) + (1,) * (values.ndim - 1))
    slope = jnp.diff(values, axis=0) / h
    ends = slope[:1], slope[-1:]
    if nodes.size > 2:
        a, b = slope[:-1], slope[1:]
        w = (2 * h[1:] + h[:-1]) / (3 * (h[1:] + h[:-1]))
        same = a * b > 0
        mean = jnp.where(same, a, 1.0) * jnp.where(same, b, 1.0)
        below = jnp.where(same, w * jnp.where(same, b, 1.0) + (1 - w) * jnp.where(same, a, 1.0), 1.0)
        low, high = jnp.minimum(jnp.abs(a), jnp.abs(b)), jnp.maximum(jnp.abs(a), jnp.abs(b))
        ratio = jnp.minimum(4.0 * jnp.where(same, low, 1.0) / jnp.where(same, high, 1.0), 1.0)
        slopes = jnp.concatenate([ends[0], jnp.where(same, mean / below * ratio**2 * (3.0 - 2.0 * ratio), 0.0), ends[1]])
    else:
        slopes = jnp.concatenate(ends)
    i = jnp.clip(jnp.searchsorted(jnp.asarray(nodes), x, side="right") - 1, 0, nodes.size - 2)
    width, left = jnp.asarray(np.diff(nodes))[i], jnp.asarray(nodes)[i]
    s = (x - left) / width
    dims = (1,) * (values.ndim - 1)
    s, width = s.reshape(s.shape + dims), width.reshape(width.shape + dims)
    inside = jnp.clip(s, 0.0, 1.0)
    t, u = inside, 1.0 - inside
    cubic = u * u * (1 + 2 * t) * values[i] + t * t * (1 + 2 * u) * values[i + 1]
    cubic = cubic + t * u * width * (u * slopes[i] - t * slopes[i + 1])
    return cubic + jnp.where(s < 0, s * width * slopes[i], 0.0) + jnp.where(s > 1, (s - 1) * width * slopes[i + 1], 0.0)


def _nodes(who, L):
    L = tuple(float(x) for x in np.atleast_1d(L))
    if len(L) < 2 or not all(0 < a < b for a, b in zip(L[:-1], L[1:])) or not np.isfinite(L).all():
        raise ValueError(f"{who}: needs at least two positive, increasing values, got {list(L)}")
    return L


def _check_count(who, values, n, what):
    """Concrete `values` must be (n,), one a `what`."""
    if isinstance(values, np.ndarray) and values.shape != (n,):
        raise ValueError(f"{who}: needs {n} values, one a {what}, got shape {values.shape}")


@parameters
class Knots:
    r"""D(L) of free form, 1/day: ln D is a monotone cubic in ln L through the knots, times exp(kp_slope (Kp - kp_reference)).

    L (static): where the knots stand. log_d (n,): ln D [1/day] there (or ln of any positive quantity; free it with `jb.Smooth`
    where knots are closer than the data). Beyond the ends the power law of the end goes on. kp (a number, a `Series` or a
    `function` of t), kp_slope: None: no dependence on Kp.
    """

    L: tuple = static()
    log_d: Any
    kp: Any = None
    kp_slope: Any = 0.0
    kp_reference: float = static(3.0)

    def __post_init__(self):
        object.__setattr__(self, "L", _nodes("Knots L", self.L))
        _check_count("Knots log_d", self.log_d, len(self.L), "knot")
        if self.kp is not None:
            check_kp("Knots kp", self.kp)

    def __call__(self, t, L, *_):
        level = monotone(np.log(self.L), self.log_d, jnp.log(L))
        if self.kp is not None:
            level = level + self.kp_slope * (evaluate(self.kp, t) - self.kp_reference)
        return jnp.exp(level)


@parameters
class KpPower:
    r"""D(L, Kp) = exp(log_d0 + kp_slope (Kp - kp_reference)) (L/reference_l)^power, 1/day: the shape of the published laws.

    kp: a number, a `Series`, or a `function` of t alone. With reference_l and kp_reference (static) in the middle of the data the
    three parameters are hardly correlated. Brautigam & Albert (2000) magnetic: power 10, kp_slope 0.506 ln 10 = 1.165, and
    log_d0 = ln(10) (0.506 kp_reference - 9.325) + 10 ln(reference_l): `KpPower.brautigam_albert(kp)`.
    """

    kp: Any
    log_d0: Any = 0.0
    kp_slope: Any = 0.0
    power: Any = 10.0
    reference_l: float = static(5.0)
    kp_reference: float = static(3.0)

    def __post_init__(self):
        check_kp("KpPower kp", self.kp)

    @classmethod
    def brautigam_albert(cls, kp, reference_l=5.0, kp_reference=3.0):
        """The magnetic law of Brautigam & Albert (2000), to start a fit from."""
        level = np.log(10.0) * (0.506 * kp_reference - 9.325) + 10.0 * np.log(reference_l)
        return cls(kp=kp, log_d0=level, kp_slope=0.506 * np.log(10.0), reference_l=reference_l, kp_reference=kp_reference)

    def __call__(self, t, L, *_):
        kp = evaluate(self.kp, t)
        return jnp.exp(self.log_d0 + self.kp_slope * (kp - self.kp_reference) + self.power * jnp.log(L / self.reference_l))


@parameters
class Modulated:
    r"""A coefficient with MLT dependence: model(t, L) exp(sum_m [cosine_m cos(m (phi - phi_0)) + sine_m sin(...)])/I.

    model: any coefficient of (t, L). cosine, sine (M,): harmonics m = 1..M of ln D in phi; phi_0 = phi_reference (static) [rad].
    normalised (static): divide by the mean over phi (I), so that `model` stays the drift average; else I = 1.
    """

    model: Any
    cosine: Any
    sine: Any = None
    phi_reference: float = static(0.0)
    normalised: bool = static(True)

    def __post_init__(self):
        if isinstance(self.cosine, np.ndarray) and self.sine is not None:
            _check_count("Modulated sine", self.sine, self.cosine.size, "harmonic of cosine")

    def _factor(self, phi):
        m = np.arange(1, jnp.size(self.cosine) + 1)
        angle = (jnp.asarray(phi)[..., None] - self.phi_reference) * m
        wave = jnp.cos(angle) @ jnp.asarray(self.cosine)
        if self.sine is not None:
            wave = wave + jnp.sin(angle) @ jnp.asarray(self.sine)
        return jnp.exp(wave)

    def __call__(self, t, L, phi, *_):
        factor = self._factor(phi)
        if self.normalised:
            factor = factor / jnp.mean(self._factor(2 * np.pi * np.arange(128) / 128))
        return evaluate(self.model, t, L) * factor


@parameters
class InitialProfile:
    """A start of free form: f0(L) = base exp(monotone cubic in ln L through log_values at the knots L); a callable of the grid.

    base: an array on the grid or a number; with log_values = 0 the start is base. Names of a fit: "initial.log_values".
    """

    L: tuple = static()
    log_values: Any
    base: Any = 1.0

    def __post_init__(self):
        object.__setattr__(self, "L", _nodes("InitialProfile L", self.L))
        _check_count("InitialProfile log_values", self.log_values, len(self.L), "knot")

    def __call__(self, grid):
        k = grid.index("L")
        shape = [1] * grid.ndim
        shape[k] = -1
        return self.base * jnp.exp(monotone(np.log(self.L), self.log_values, np.log(grid["L"].centers))).reshape(shape)


@parameters
class WallProfile:
    """A wall of free form: base(t) exp(linear interpolation of log_values at `times`); a coefficient of t.

    times (static) [s], increasing; log_values (n,); base: a number, a `Series` or a `function` of t. Constant beyond the ends.
    Steps may cross its times: let outputs or dt divide them. Names of a fit: "outer.log_values".
    """

    times: tuple = static()
    log_values: Any
    base: Any = 1.0

    def __post_init__(self):
        object.__setattr__(self, "times", tuple(float(t) for t in np.atleast_1d(self.times)))
        late = np.diff(self.times) <= 0
        if len(self.times) == 0 or not np.all(np.isfinite(self.times)) or np.any(late):
            raise ValueError(f"WallProfile times: must increase, at least one, got {list(self.times)}")
        _check_count("WallProfile log_values", self.log_values, len(self.times), "time")

    def __call__(self, t, *coordinates):
        from ..coefficients import Series

        factor = jnp.exp(Series(self.times, jnp.asarray(self.log_values), kind="linear")(t))
        return evaluate(self.base, t, *coordinates) * factor
