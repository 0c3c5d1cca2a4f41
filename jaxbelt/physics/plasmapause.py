"""The plasmapause Lpp [R_E] from the largest Kp of the past: functions of that maximum, and `Plasmapause`, a callable of time.

| model           | Lpp [R_E]          | largest Kp over         | source                                            |
|-----------------|--------------------|-------------------------|---------------------------------------------------|
| "carpenter1992" | 5.6 - 0.46 Kp_max  | the last 24 h           | Carpenter & Anderson 1992, JGR 97, 1097, Eq. 7    |
| "moldwin2002"   | 5.39 - 0.382 Kp_max| the last 12 h           | Moldwin et al. 2002, JGR 107(A11), 1339, Eq. 2    |
| "obrien2003"    | 5.9 - 0.43 Kp_max  | 36 h to 2 h before      | O'Brien & Moldwin 2003, GRL 30(4), 1152, Eq. 1    |

All three are averages over MLT.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..coefficients import Function, Series, Time, evaluate, parameters, static
from .drivers import check_kp, max_over, trailing_max

__all__ = ["carpenter_anderson", "moldwin", "obrien_moldwin", "maximum_series", "Plasmapause"]


def carpenter_anderson(kp_max):
    """Plasmapause 5.6 - 0.46 Kp_max [R_E], Kp_max the largest Kp of the last 24 h (Carpenter & Anderson 1992, Eq. 7)."""
    return 5.6 - 0.46 * kp_max


def moldwin(kp_max):
    """Plasmapause 5.39 - 0.382 Kp_max [R_E], Kp_max the largest Kp of the last 12 h (Moldwin et al. 2002, Eq. 2)."""
    return 5.39 - 0.382 * kp_max


def obrien_moldwin(kp_max):
    """Plasmapause 5.9 - 0.43 Kp_max [R_E], Kp_max the largest Kp from 36 h to 2 h before (O'Brien & Moldwin 2003, Eq. 1)."""
    return 5.9 - 0.43 * kp_max


# model -> (Lpp of the maximum, hours from the beginning of its window to now, hours from the end of its window to now)
_MODELS = {
    "carpenter1992": (carpenter_anderson, 24.0, 0.0),
    "moldwin2002": (moldwin, 12.0, 0.0),
    "obrien2003": (obrien_moldwin, 36.0, 2.0),
}


def _nothing(t, *_):
    return jnp.zeros(())


def jumps_of_maximum(kp, begin: float, end: float = 0.0) -> Function | None:
    """A coefficient without leaves whose jumps are those of the largest `kp` from `begin` to `end` hours before; None where
    kp is not a step `Series`. Kept in a class of `parameters` it lets the planner end a step at each of them.
    """
    if not (isinstance(kp, Series) and kp.kind == "step" and len(kp.t) > 1):
        return None
    times = max_over(Series(kp.t, np.zeros(len(kp.t))), begin - end).t
    return Function(_nothing, {}, True, tuple(t + 3600.0 * end for t in times))


def maximum_series(kp: Series, model: str = "carpenter1992") -> Series:
    """The largest Kp of a model's window as a step `Series`: Plasmapause(kp_max=...) with it is Plasmapause(kp=kp, ...)."""
    _, begin, end = _MODELS[model]
    found = max_over(kp, begin - end)
    return Series(np.asarray(found.t) + 3600.0 * end, found.values)


@parameters
class Plasmapause:
    """Plasmapause as a callable of (t, L, phi) -> Lpp [R_E], a function of time alone; the table above has the models.

    kp: a number, a `Series` (step or linear), or a `function` of t alone. The maximum over the model's window is read from
    a Series wherever it is needed, and steps of a run end at every jump it makes (also where the spacing does not divide the
    window, or the window ends 2 h ago); before the first time the first value is taken to hold, so give a Series that begins
    a window early. Any other kp is its own maximum. kp_max: the maximum itself (number, Series, function), instead of kp.
    model (static): "carpenter1992", "moldwin2002" or "obrien2003". shift [R_E]: added to Lpp, default 0, can be fitted.
    marks: set by the class (the times of the jumps; no leaf).
    At Kp_max = 3: 4.22, 4.244, 4.61 R_E.
    Raises ValueError if model is unknown, neither or both of kp and kp_max are given, or a number is outside 0 to 9.
    """

    kp: Any = None
    kp_max: Any = None
    shift: Any = 0.0
    model: str = static("carpenter1992")
    marks: Any = dataclasses.field(default=None, init=False)

    def __post_init__(self):
        if self.model not in _MODELS:
            raise ValueError(f"Plasmapause model: {self.model!r} is unknown; use {', '.join(map(repr, _MODELS))}")
        if (self.kp is None) == (self.kp_max is None):
            raise ValueError("Plasmapause: give kp, or its maximum kp_max, one of the two")
        check_kp("Plasmapause kp", self.kp)
        check_kp("Plasmapause kp_max", self.kp_max)
        object.__setattr__(self, "marks", jumps_of_maximum(self.kp, *_MODELS[self.model][1:]))

    def maximum(self, t):
        """The largest Kp of the model's window at t."""
        _, begin, end = _MODELS[self.model]
        if self.kp_max is not None:
            return evaluate(self.kp_max, t)
        if not isinstance(self.kp, Series):
            return evaluate(self.kp, t)
        now = Time.at(t)
        now = now.mid if self.kp.kind == "step" else now.value
        return trailing_max(self.kp, now - 3600.0 * end, begin - end)

    def __call__(self, t, *_):
        return _MODELS[self.model][0](self.maximum(t)) + self.shift
