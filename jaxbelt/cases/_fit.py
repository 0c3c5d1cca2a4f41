"""The table [fit] of a case, the same for every equation: what is free, the data, and the method; see docs/fitting.md."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import numpy as np

from jaxbelt.config import InputError, Table, section, suggest

__all__ = ["FitCase", "build", "describe", "open_table"]

KEYS = ("method", "iterations", "tolerance", "starts", "seed", "spread", "chunk", "rate", "every", "dt", "free", "data")
FREE = ("name", "transform", "start", "prior", "mean", "smooth", "order", "at", "bounds", "scale", "per_node")
_METHODS = ("gauss-newton", "lbfgs", "adam")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitCase:
    """A fit ready to run: jb.fit(problem, f0, data, free, t=t, dt=dt, **options).

    data: {name: Data}, name "" where there is a single one without a name. truth: {path: value} behind synthetic data, or {}.
    labels: {name: [a label for each row of values]}; times: {name: (rows of) times of the values}; shells: {name: L or None}.
    notes: lines for the log. missing: data that are not there, only where nothing is to be run.
    """

    problem: Any
    f0: Any
    data: dict
    free: tuple
    t: np.ndarray
    dt: float
    options: dict
    sets: dict
    truth: dict
    notes: tuple = ()
    missing: tuple = ()

    def run(self, **more):
        """jb.fit of it; `more` goes over its options."""
        from jaxbelt.fit import fit

        data = self.data[""] if "" in self.data else self.data
        return fit(self.problem, self.f0, data, self.free, t=self.t, dt=self.dt, **self.options | more)


def open_table(config: Table):
    """[fit] with all its tables opened once, so that a misspelt key is found at once; None where there is none."""
    if "fit" not in config:
        return None
    from jaxbelt.cases._fit_data import KEYS as DATA

    table = config.table("fit", KEYS)
    for i, entry in enumerate(table.get("free", []) if isinstance(table.get("free", []), list) else ()):
        if isinstance(entry, dict):
            Table(entry, f"fit.free[{i}]", FREE)
    table.tables("data", DATA)
    return table


def build(case, dry: bool = False) -> FitCase:
    """What [fit] of a case says. dry: nothing will be run: synthetic data are not made, missing files are no error.

    Raises InputError, one line that names table, key and value.
    """
    from jaxbelt.cases import _fit_data

    table = case.fit
    if table is None:
        raise InputError(f'the case "{case.name}" has no table [fit]; see docs/fitting.md, or start from: '
                         "jaxbelt copy-case fit-twin-dll")
    options, dt = _options(table, case)
    f0 = case.f0 if case.start is None else case.start
    free = _free(table, case.problem.parameters, f0)
    t = _times(table, case)
    sets, missing = {}, []
    tables = table.tables("data", _fit_data.KEYS)
    if not tables:
        raise InputError("[fit] needs at least one table [[fit.data]]")
    for one in tables:
        name = one.text("name", "")
        if len(tables) > 1 and not name:
            raise one.error("name", "needs a name where there are several sets of data")
        if name and not name.isidentifier():
            raise one.error("name", "must be made of letters, digits and _")
        if name in sets:
            raise one.error("name", "is given twice")
        try:
            sets[name] = _fit_data.read(one, case)
        except _fit_data.Missing as error:
            if not dry:
                raise
            missing.append(str(error))
    t = np.union1d(t, [x for s in sets.values() if getattr(s.data.operator, "exact", False) for x in s.data.operator.times])
    if t[0] < 0 or t[-1] > case.t[-1] * (1 + 1e-9):
        bad = t[0] if t[0] < 0 else t[-1]
        raise InputError(f"[fit.data] has a time {bad:g}, outside the run, 0 to {case.t[-1]:g}")
    notes = tuple(n for s in sets.values() for n in s.notes)
    with section("fit"):
        sets = _fit_data.synthetic(sets, case.problem, f0, t, dt, dry)
    truth = {k: v for s in sets.values() for k, v in s.truth.items()}
    if not missing:
        _check_names(case.problem, f0, {k: s.data for k, s in sets.items()}, free)
    return FitCase(problem=case.problem, f0=f0, data={k: s.data for k, s in sets.items()}, free=free, t=t, dt=dt, options=options,
                   sets=sets, truth=truth, notes=notes, missing=tuple(missing))


def _options(table: Table, case):
    from jaxbelt.fitting.methods import METHODS

    method = table.choice("method", _METHODS, "gauss-newton")
    usual = inspect.signature(METHODS[method]).parameters["most"].default
    options = {"method": method, "most": table.integer("iterations", usual, low=0),
               "tolerance": table.number("tolerance", 1e-4, above=0), "starts": table.integer("starts", 1, low=1),
               "seed": table.integer("seed", 0, low=0), "spread": table.number("spread", 1.0, above=0),
               "chunk": table.integer("chunk", 16, low=1)}
    if "rate" in table:
        if method != "adam":
            raise table.error("rate", 'belongs to method = "adam"')
        options["rate"] = table.number("rate", above=0)
    kind = _kind(case)
    return options, table.quantity("dt", kind, case.dt, above=0)


def _kind(case):
    return "time" if case.problem.time_unit in ("s", "1") else "crossing"


def _times(table: Table, case) -> np.ndarray:
    """Output times between which a fit interpolates."""
    every = table.quantity("every", _kind(case), None, above=0)
    if every is None:
        return np.asarray(case.t)
    if every > case.t[-1] * (1 + 1e-9):
        raise table.error("every", f"is longer than the run ({case.t[-1]:g})")
    return np.union1d(every * np.arange(int(case.t[-1] / every * (1 + 1e-12)) + 1), case.t[-1:])


def _free(table: Table, parameters, f0) -> tuple:
    entries = table.get("free")
    if not isinstance(entries, list) or not entries:
        raise table.error("free", 'must be a list of names or of tables, such as ["dll.log_amplitude"]')
    return tuple(_one_free(table, i, entry, parameters, f0) for i, entry in enumerate(entries))


def _one_free(table: Table, i: int, entry, parameters, f0):
    from jaxbelt.fitting.free import Free, Normal, Smooth

    if isinstance(entry, str):
        return Free(entry)
    if not isinstance(entry, dict):
        raise table.error("free", f"entry {i} must be a name or a table with a name")
    one = Table(entry, f"fit.free[{i}]", FREE)
    path = one.text("name")
    bounds = one.numbers("bounds", None, size=2)
    options = {"transform": one.choice("transform", ("identity", "log", "logit"), "identity" if bounds is None else "logit"),
               "bounds": None if bounds is None else tuple(bounds), "per_node": one.flag("per_node", False),
               "start": _values(one, "start"), "scale": _values(one, "scale")}
    for key, owner in (("mean", "prior"), ("order", "smooth"), ("at", "smooth")):
        if key in one and owner not in one:
            raise one.error(key, f"belongs to {owner}")
    with section(f"fit.free[{i}]"):
        free = Free(path, **options)
        priors = []
        if "prior" in one:
            mean = _values(one, "mean")
            priors.append(Normal(mean=None if mean is None else free.inward(mean, "have a mean"), sd=_values(one, "prior")))
        if "smooth" in one:
            where = one.numbers("at", None)
            priors.append(Smooth(sd=one.number("smooth", above=0), order=one.integer("order", 2, low=1),
                                 x=_knots(path, parameters, f0) if where is None else np.asarray(where)))
        return dataclasses.replace(free, prior=tuple(priors))


def _values(table: Table, key: str):
    """A number, a list of them as an array, or None."""
    if isinstance(table.get(key, None), list):
        return np.asarray(table.numbers(key))
    return table.number(key, None)


def _knots(path: str, parameters, f0):
    """ln L of the knots that a profile stands on, or None: then a smoothness prior takes them as evenly spaced."""
    *words, last = path.split(".")
    at = f0 if words[:1] == ["initial"] else parameters
    for word in words[1:] if words[:1] == ["initial"] else words:
        at = at[int(word)] if word.isdigit() and isinstance(at, (tuple, list)) else getattr(at, word, None)
    L = getattr(at, "L", None)
    return np.log(L) if isinstance(L, tuple) and last in ("log_d", "log_values") else None


def tree_of(problem, f0, data: dict) -> dict:
    """The tree in which names are looked up, as `jb.fit` builds it."""
    from jaxbelt.fit import _floats, _initial

    return {"parameters": problem.parameters, "boundary": problem.boundary, "initial": _initial(f0, problem.grid),
            "data": {k: _floats(d) for k, d in data.items()}}


def nodes_of(problem) -> int:
    """Length of the leading axis of the problem's leaves, 0 where it has none."""
    axis = problem.grid.axes[0]
    return axis.n if axis.is_nodes else 0


def _check_names(problem, f0, data, free):
    from jaxbelt.fitting.free import named_leaves, unknowns

    tree = tree_of(problem, f0, data)
    known = named_leaves(tree)
    for f in free:
        if f.path not in known and not any(k.startswith(f.path + ".") for k in known):
            raise InputError(f'fit.free = "{f.path}": is no parameter of this case{suggest(f.path, known)}')
    with section("fit.free"):
        unknowns(tree, free, nodes_of(problem))


def describe(fit: FitCase) -> list[str]:
    """What a fit would do, for `jaxbelt check` and the log."""
    options, lines = fit.options, []
    if fit.missing:
        return [f"fit       cannot run: {text}" for text in fit.missing]
    from jaxbelt.fitting.free import unknowns

    known = unknowns(tree_of(fit.problem, fit.f0, fit.data), fit.free, nodes_of(fit.problem))
    for f, at in zip(known.free, known.slices):
        n = at.stop - at.start
        start = np.asarray(f.outward(known.start[at]))
        said = f"{start[0]:.5g}" if n == 1 else f"{start.min():.4g} to {start.max():.4g}"
        lines.append(f"free      {f.path}{f' ({n} values)' if n > 1 else ''}, starts at {said}"
                     + (f", fitted as {f.transform}" if f.transform != "identity" else "")
                     + (", with a prior" if f.prior else ""))
    for name, s in fit.sets.items():
        lines.append(f"data      {name + ': ' if name else ''}{s.count} values, {s.title}")
    run = int(np.sum(~known.of_data()))
    each = {"gauss-newton": f"one run with its derivatives in {run} parameters an iteration, from {options['starts']} start"
                            f"{'s' if options['starts'] > 1 else ''}"}
    each = each.get(options["method"], "a few runs with their adjoint an iteration")
    lines.append(f"fit       {options['method']}, {known.size} free numbers, at most {options['most']} iterations; {each}")
    return lines
