"""The tables of `jaxbelt bench` as text and as plain data for JSON."""

from __future__ import annotations

import dataclasses
import math

__all__ = ["text", "plain", "heading"]


def heading(about: dict, quick: bool = False) -> str:
    """The machine in two lines; above them that the figures of a quick look mean nothing."""
    warning = "--quick: tiny sizes and two rounds, to see that it works: THESE FIGURES MEAN NOTHING\n" if quick else ""
    return warning + (
        f"{about['processor']}, {about['cores']} cores, load {about['load']:.1f}; {about['devices']} ({about['platform']})\n"
        f"jax {about['jax']}, numpy {about['numpy']}, Python {about['python']}; medians of rounds with their range")


def _cell(value, form: str, width: int) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "--".rjust(width)
    return form.format(value)


def text(table) -> str:
    """A table in columns as wide as their entries."""
    cells = [[head for _, head, _ in table.columns]]
    for row in table.rows:
        cells.append([_cell(row.get(key), form, 0).strip() for key, _, form in table.columns])
    widths = [max(len(line[i]) for line in cells) for i in range(len(table.columns))]
    numbers = [isinstance(next((r[key] for r in table.rows if r.get(key) is not None), ""), (int, float))
               for key, _, _ in table.columns]
    lines = ["  ".join(c.rjust(w) if right else c.ljust(w) for c, w, right in zip(line, widths, numbers)).rstrip()
             for line in cells]
    return "\n".join([table.title, *("  " + line for line in lines), *("  " + note for note in table.notes)])


def plain(results: dict) -> dict:
    """Results as dicts, lists, strings and numbers."""
    return {name: [{"title": t.title, "rows": [_number(r) for r in t.rows], "notes": list(t.notes)} for t in tables]
            for name, tables in results.items()}


def _number(x):
    if isinstance(x, dict):
        return {str(k): _number(v) for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        return [_number(v) for v in x]
    if dataclasses.is_dataclass(x):
        return _number(dataclasses.asdict(x))
    if isinstance(x, (str, bool, int)) or x is None:
        return x
    x = float(x)
    return x if math.isfinite(x) else None
