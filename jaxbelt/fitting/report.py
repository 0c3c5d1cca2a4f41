"""The short table that a `Fit` prints."""

from __future__ import annotations

import numpy as np

__all__ = ["table"]


def table(fit) -> str:
    """Value and 68 % interval of every free entry, quality, and what the data leave open."""
    rows = []
    for free, at in zip(fit.unknowns.free, fit.unknowns.slices):
        value = np.ravel(fit.values[free.path])
        low, high = (np.ravel(x) for x in fit.interval(free.path))
        error = np.ravel(fit.sigma[free.path])
        for label, v, e, a, b in zip(fit.labels[at], value, error, low, high):
            rows.append((label, f"{v:.5g}", f"{e:.2g}", f"{a:.4g} .. {b:.4g}", free.transform))
    head = ("parameter", "value", "sigma", "68 %", "as")
    widths = [max(len(r[k]) for r in (head, *rows)) for k in range(5)]
    lines = ["  ".join(x.ljust(w) if k in (0, 4) else x.rjust(w) for k, (x, w) in enumerate(zip(r, widths))).rstrip()
             for r in (head, *rows)]
    lines.append(fit.message)
    count = sum(int(np.isfinite(r).sum()) for r in fit.residuals.values())
    without = "; ".join(text if len(fit.left_out) == 1 else f"{name}: {text}" for name, text in fit.left_out.items() if text)
    lines.append(f"{count} values{f' (left out: {without})' if without else ''}, chi^2/dof = {fit.reduced_chi2:.3g}")
    if fit.undetermined:
        lines.append("the data do not determine:")
        lines += [f"    {d}" for d in fit.undetermined[:6]]
        if len(fit.undetermined) > 6:
            lines.append(f"    and {len(fit.undetermined) - 6} more")
    return "\n".join(lines)
