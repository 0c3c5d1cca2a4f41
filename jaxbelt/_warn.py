"""Warnings that show the line of the user's own script, however deep in the library they are given."""

from __future__ import annotations

import sys
import warnings

__all__ = ["warn"]

_PASSED = ("jaxbelt", "jax")


def warn(message: str) -> None:
    """`warnings.warn(message)` at the innermost line that is outside of this package and of JAX."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in _PASSED:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UserWarning, stacklevel=level)
