"""The table [batch] of a case, the same for every equation: what varies from run to run and what is kept; docs/clusters.md."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxbelt.batch import KEEP, Sweep, draws, sweep, take
from jaxbelt.config import InputError, Table, section

__all__ = ["BatchCase", "build", "describe", "open_table"]

KEYS = ("grid", "list", "draw", "runs", "seed", "chunk", "keep")
_SPACED = ("from", "to", "count", "spacing")
_DRAWN = ("uniform", "log-uniform", "normal")


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchCase:
    """A batch ready to run: `jb.run_batch(problem, f0, sweep, chunk=chunk, keep=keep, ...)`. f0: an array, or what makes it."""

    sweep: Sweep
    f0: object
    chunk: int | None
    keep: str
    units: dict = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()


def open_table(config: Table):
    """[batch] with all its tables opened once, so that a misspelt key is found at once; None where there is none."""
    if "batch" not in config:
        return None
    table = config.table("batch", KEYS)
    for key in ("grid", "list", "draw"):
        _entries(table, key)
    return table


def _entries(table: Table, key: str) -> dict:
    """{name: (table, key)} of a sub-table; names may be quoted, "dll.power" = [...], or not: dll.power = [...]."""
    found = {}

    def walk(one: Table, prefix: str):
        for word, value in one.values.items():
            name = f"{prefix}{word}"
            if not isinstance(value, dict):
                found[name] = (one, word)
            elif key == "grid" and "from" in value:
                found[name] = (one.table(word, _SPACED), None)
            elif key == "draw" and (any(w in value for w in _DRAWN) or not any(isinstance(v, dict) for v in value.values())):
                found[name] = (one.table(word, _DRAWN), None)
            else:
                walk(Table(value, one.name(word)), f"{name}.")

    if key in table:
        walk(Table(table.get(key), f"batch.{key}"), "")
    return found


def _axis(table: Table, key) -> np.ndarray:
    """The values of one axis of the grid: a list, or { from, to, count, spacing }."""
    if key is not None:
        return _listed(table, key)
    low, high, count = table.number("from"), table.number("to"), table.integer("count", low=2)
    if table.choice("spacing", ("linear", "log"), "linear") == "linear":
        return np.linspace(low, high, count)
    for end, value in (("from", low), ("to", high)):
        if value <= 0:
            raise table.error(end, 'must be above 0 for spacing = "log"')
    return np.geomspace(low, high, count)


def _listed(table: Table, key: str) -> np.ndarray:
    value = table.get(key)
    if not isinstance(value, list):
        raise table.error(key, "must be a list with one entry a run")
    if not value:
        raise table.error(key, "has no entry: a batch needs at least one run")
    if not any(isinstance(v, list) for v in value):
        return np.asarray(table.numbers(key))
    if any(not isinstance(v, list) or len(v) != len(value[0]) for v in value):
        raise table.error(key, "must hold numbers, or lists of numbers, all of one length")
    rows = [Table({key: v}, table.path).numbers(key) for v in value]
    return np.asarray(rows)


def _drawn(table: Table, key) -> tuple:
    if key is not None:
        raise table.error(key, "must be a table such as { uniform = [0.0, 1.0] }, or log-uniform, or normal = [mean, sd]")
    if len(table.values) != 1:
        raise InputError(f"[{table.path}]: needs one of {', '.join(_DRAWN)}, such as {{ uniform = [0.0, 1.0] }}")
    word = next(iter(table.values))
    a, b = table.numbers(word, size=2)
    if word == "normal" and b <= 0:
        raise table.error(word, "the standard deviation must be above 0")
    if word != "normal" and not a < b:
        raise table.error(word, "the first number must be below the second")
    if word == "log-uniform" and a <= 0:
        raise table.error(word, "both numbers must be above 0")
    return word, a, b


def sweep_of(table: Table) -> Sweep:
    """Every combination of the grid with every row; a row is an entry of the lists and of the draws, side by side."""
    axes = {name: _axis(*at) for name, at in _entries(table, "grid").items()}
    lists = {name: _listed(*at) for name, at in _entries(table, "list").items()}
    random = {name: _drawn(*at) for name, at in _entries(table, "draw").items()}
    names = [*axes, *lists, *random]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f'[batch] "{name}" is given twice')
    if not names:
        raise InputError("[batch] has no runs: give what varies in [batch.grid], [batch.list] or [batch.draw]")
    for key in ("runs", "seed"):
        if key in table and not random:
            raise table.error(key, "belongs to [batch.draw]")
    lengths = {name: len(v) for name, v in lists.items()}
    if len(set(lengths.values())) > 1:
        raise InputError("[batch.list]: side by side all names need as many entries: " +
                         ", ".join(f"{k} has {n}" for k, n in lengths.items()) + "; for every combination use [batch.grid]")
    with section("batch"):
        rows = sweep(lists).values if lists else {}
        if random:
            length = len(next(iter(rows.values()))) if rows else None
            runs = table.integer("runs", length, low=1) if length else table.integer("runs", low=1)
            if length not in (None, runs):
                raise table.error("runs", f"must be as many as the lists have entries, {length}")
            rows = rows | draws(random, runs, table.integer("seed", 0, low=0)).values
        grid = sweep(axes, how="grid") if axes else None
    if not rows:
        return grid
    side = sweep(rows)
    if grid is None:
        return side
    i, j = np.divmod(np.arange(len(grid) * len(side)), len(side))
    return Sweep(take(grid.values, i) | take(side.values, j), (*grid.shape, len(side)))


def build(case) -> BatchCase:
    """What [batch] of a case says. Raises InputError, one line that names table, key and value."""
    from jaxbelt.batch_checks import places, unit_of, unvaried

    table = case.batch
    if table is None:
        raise InputError(f'the case "{case.name}" has no table [batch]; see docs/clusters.md')
    made = sweep_of(table)
    f0 = case.f0 if case.start is None else case.start
    with section("batch"):
        places(case.problem, f0, made)
    f_unit = case.f_attrs.get("units", case.problem.quantity[1])
    return BatchCase(sweep=made, f0=f0, chunk=table.integer("chunk", None, low=1), keep=table.choice("keep", KEEP, "all"),
                     units={name: unit_of(name, case.problem, f_unit) for name in made.values},
                     notes=tuple(unvaried(case.problem, f0, made)))


def describe(batch: BatchCase) -> list[str]:
    """What a batch would do, for `jaxbelt check` and the log."""
    shape, lines = batch.sweep.shape, []
    lines.append(f"batch     {len(batch.sweep)} runs" + (f" ({' x '.join(map(str, shape))})" if len(shape) > 1 else "")
                 + f", keep = {batch.keep}")
    for name, values in batch.sweep.values.items():
        unit = batch.units.get(name, "")
        lines.append(f"varied    {name}, {values.min():.5g} to {values.max():.5g}" + ("" if unit in ("", "1") else f" {unit}")
                     + (f", {int(np.prod(values.shape[1:]))} values a run" if values.ndim > 1 else ""))
    return [*lines, *(f"note      {n}" for n in batch.notes)]
