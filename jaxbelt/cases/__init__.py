"""Cases: from a TOML text to a problem, an initial state and times. Shipped ones lie beside this file.

The tables [case], [numerics] and [output] are the same for every equation and read here, [fit] and [batch] in `_fit.py` and
`_batch.py`. The rest belongs to the equation:
`jaxbelt/cases/<equation>.py` has TABLES, the keys of its tables, and `build(config, case) -> Built`; where its times are
no seconds, TIME names the kind of quantity they are (see `config.UNITS`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import math
import pkgutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from jaxbelt.cases import _batch, _fit
from jaxbelt.config import InputError, Table, parse, read, section, suggest

__all__ = ["Built", "Case", "build", "find", "from_attrs", "shipped", "PICTURES"]

PICTURES = ("l-time", "dials", "cuts", "mlt", "keogram", "map", "spectrum", "moments", "distribution", "averages", "profiles",
            "meridian", "phase-space", "energy-angle", "energy-spectrum", "flux-time", "flux-dials", "psd-time")
_CASE = ("equation", "name", "title", "epoch", "duration", "notes")
_NUMERICS = ("dt", "chunk")     # and what an equation's builder names in TABLES["numerics"]
_OUTPUT = ("every", "precision", "pictures", "times", "L", "range", "overlays", "energies", "mu", "K")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Built:
    """What an equation's builder returns: the problem, f0, and what the file is to hold besides (see `io.Header`)."""

    problem: Any
    f0: np.ndarray
    f_attrs: dict = dataclasses.field(default_factory=dict)
    drivers: dict = dataclasses.field(default_factory=dict)
    attrs: dict = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    tables: float = 0.0        # bytes of the problem's own tables
    start: Any = None          # what makes f0, where something in it can be free in a fit: a callable pytree of the grid
    measured: Any = None       # what was read of measurements, for [[fit.data]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A case ready to run: the problem and f0, t and dt in seconds, and everything its file and pictures need."""

    name: str
    title: str
    notes: tuple[str, ...]
    problem: Any
    f0: np.ndarray
    t: np.ndarray
    dt: float
    chunk: int | None
    precision: str
    pictures: tuple[str, ...]
    attrs: dict
    f_attrs: dict
    drivers: dict
    tables: float = 0.0
    start: Any = None          # see Built
    measured: Any = None
    fit: Table | None = None   # the table [fit], read by cases._fit
    batch: Table | None = None   # the table [batch], read by cases._batch
    frame: Any = None


@dataclasses.dataclass(frozen=True)
class Frame:
    """What a builder may need of [case] and of where the file lies. dry: nothing will be run, so tables need not be made."""

    epoch: str | None
    duration: float
    folder: Path
    dt: float = 0.0
    dry: bool = False

    def path(self, table: Table, key: str) -> Path:
        """The path given under a key, relative to the case's folder."""
        path = Path(table.text(key)).expanduser()
        path = path if path.is_absolute() else self.folder / path
        if not path.is_file():
            raise table.error(key, f"there is no file {path}")
        return path


def shipped() -> dict[str, Path]:
    """Name -> TOML file of every case that comes with jaxbelt."""
    return {p.stem: p for p in sorted(Path(__file__).parent.glob("*.toml"))}


def find(case: str) -> Path:
    """The TOML file of a shipped name or of a path; InputError with "did you mean" where there is neither."""
    known = shipped()
    if case in known:
        return known[case]
    path = Path(case)
    if path.is_file():
        return path
    if path.suffix == ".toml" or len(path.parts) > 1:
        raise InputError(f"{case}: there is no such file")
    raise InputError(f'"{case}" is neither a shipped case nor a file{suggest(case, known)}')


def first_line(path: Path) -> str:
    """The title of a case file, for lists."""
    return parse(read(path), name=str(path)).get("case", {}).get("title", "")


def from_attrs(attrs: dict) -> Case:
    """The case a run was made from, out of the attributes of its file."""
    return build(attrs["toml"], json.loads(attrs.get("overrides", "[]")), Path(attrs.get("toml_folder", ".")), attrs["title"])


def load_case(case: str, overrides=(), dry=False) -> Case:
    """The case of a shipped name or a TOML file, with `table.key=value` overrides; dry: to be looked at, not run."""
    path = find(case)
    text = read(path)
    parse(text, overrides, str(path))                          # a TOML error names the file as it was given
    # a shipped case names no files: those that overrides name lie where the command is given
    return build(text, overrides, Path.cwd() if case in shipped() else path.resolve().parent, path.stem, dry)


def equations() -> list[str]:
    """The equations for which there is a builder."""
    return [m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")]


def build(text: str, overrides=(), folder=Path("."), name: str = "case", dry: bool = False) -> Case:
    """The case written in a TOML text. Raises InputError, one line that names table, key and value."""
    values = parse(text, overrides, name)
    case = Table(values).table("case", _CASE)
    equation = case.choice("equation", equations())
    builder = importlib.import_module(f"{__name__}.{equation}")
    _elsewhere(values, builder, equation)
    config = Table(values, "", ("case", "numerics", "output", "fit", "batch", *(k for k in builder.TABLES if k != "numerics")))
    # every table is opened once before any value is read, so that a misspelt key is named before a missing one
    numerics = config.table("numerics", (*_NUMERICS, *builder.TABLES.get("numerics", ())))
    output = config.table("output", _OUTPUT)
    for key, keys in builder.TABLES.items():
        if key != "numerics":
            config.table(key, keys, {})
    fit, batch = _fit.open_table(config), _batch.open_table(config)
    name = case.text("name", name)
    if not name or any(c in name for c in "/\\\0") or name.startswith("."):
        raise case.error("name", "must be a plain file name")
    epoch = case.text("epoch", None)
    if epoch is not None:
        try:
            np.datetime64(epoch, "s")
        except ValueError:
            raise case.error("epoch", 'must be a time in UTC such as "2013-03-16T00:00:00"') from None
    notes = case.get("notes", [])
    if not isinstance(notes, list) or any(not isinstance(n, str) for n in notes):
        raise case.error("notes", "must be a list of texts")
    kind = getattr(builder, "TIME", "time")
    duration = case.quantity("duration", kind, above=0)
    t = _times(output, duration, kind)
    dt = numerics.quantity("dt", kind, above=0)
    chunk = numerics.integer("chunk", None, low=1)
    precision = output.choice("precision", ("single", "double"), "double")
    pictures = output.get("pictures", getattr(builder, "USUAL_PICTURES", ["l-time", "cuts"]))
    if not isinstance(pictures, list) or any(p not in PICTURES for p in pictures):
        bad = next((p for p in pictures if p not in PICTURES), "") if isinstance(pictures, list) else pictures
        raise output.error("pictures", f'"{bad}" is not a picture{suggest(bad, PICTURES)}')
    style = _style(output, kind)
    frame = Frame(epoch, duration, Path(folder), dt, dry)
    with section("case"), _warnings() as warned:
        built = builder.build(config, frame)
    if built.problem.tables is not None:                       # made for one step: the output times must fit it
        from jaxbelt.solve import plan

        with section("numerics / output"):
            plan(built.problem, t, dt)
    late = _late(output, style, duration, case.text("duration"))
    _check_style(output, style, built)
    notes = (*notes, *_undrawable(pictures if "pictures" in output else (), built.problem.grid))
    notes = (*notes, *built.notes, *late, *warned)
    attrs = {"title": name, "long_title": case.text("title", name), "notes": "; ".join(notes), "toml": text,
             "overrides": json.dumps(list(overrides)), "toml_folder": str(folder), "pictures": json.dumps(list(pictures)),
             "style": style}
    return Case(name=name, title=case.text("title", name), notes=notes, problem=built.problem, f0=built.f0, t=t, dt=dt,
                chunk=chunk, precision=precision, pictures=tuple(pictures), attrs=attrs | built.attrs, f_attrs=built.f_attrs,
                drivers=built.drivers, tables=built.tables, start=built.start, measured=built.measured, fit=fit,
                batch=batch, frame=frame)


def _elsewhere(values: dict, builder, equation: str) -> None:
    """An error for a table or a key of another equation, which says of which."""
    own = builder.TABLES | {"numerics": (*_NUMERICS, *builder.TABLES.get("numerics", ()))}
    strange = [(table, None) for table in values if table not in own and table not in ("case", "output", "fit", "batch")]
    strange += [(table, key) for table, held in values.items() if table in own and isinstance(held, dict)
                for key in held if key not in own[table]]
    for table, key in strange:
        others = {name: importlib.import_module(f"{__name__}.{name}").TABLES for name in equations()}
        owners = [f'"{name}"' for name, tables in others.items() if table in tables and (key is None or key in tables[table])]
        if not owners:
            continue
        why = f'belongs to equation = {" or ".join(owners)}, not to "{equation}"'
        instead, close = getattr(builder, "INSTEAD", {}).get(key), suggest(key, own[table]) if key else ""
        why += f"; {instead}" if instead else close if "did you mean" in close else ""
        if key is None or isinstance(values[table][key], dict):
            raise InputError(f"[{table}{f'.{key}' if key else ''}]: {why}")
        raise Table(values[table], table).error(key, why)


@contextlib.contextmanager
def _warnings():
    """A list that holds, afterwards, the text of every warning given inside; those of other kinds are given again."""
    said = []
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        yield said
    for w in warned:
        if w.category is not UserWarning:
            warnings.warn_explicit(w.message, w.category, w.filename, w.lineno)
        elif str(w.message) not in said:
            said.append(str(w.message))


def _undrawable(pictures, grid) -> list[str]:
    """A note for every picture asked for that needs axes the run does not have."""
    from jaxbelt.plot import PICTURES as DRAWN

    missing = {p: set(DRAWN[p][1]) - set(grid.names) for p in pictures}
    return [f'picture "{p}" is left out: it needs the axes {", ".join(DRAWN[p][1])}' for p, axes in missing.items() if axes]


def _late(output: Table, style: dict, duration: float, end: str) -> list[str]:
    """Moments after the end of a run are left out, with a note; where only one is left, pictures show others."""
    if "times" not in style:
        return []
    inside = style["times"] <= duration * (1 + 1e-9)
    if not inside.any():
        raise output.error("times", f"are all after the end of the run ({end})")
    if inside.all():
        return []
    late = [text for text, ok in zip(output.get("times"), inside) if not ok]
    some = ", ".join(late[:3]) + (", ..." if len(late) > 3 else "")
    style["times"] = style["times"][inside]
    if inside.sum() == 1:
        del style["times"]
    return [f"output.times: {some} after the end of the run ({end}) left out"
            + ("; moments spread over the run are shown" if "times" not in style else "")]


def _check_style(output: Table, style: dict, built: Built) -> None:
    """What the pictures are to show must be there."""
    grid = built.problem.grid
    if "L" in style and "L" in grid.names:
        lo, hi = grid["L"].faces[[0, -1]]
        bad = style["L"][(style["L"] < lo) | (style["L"] > hi)]
        if bad.size:
            raise output.error("L", f"{bad[0]:g} is outside the grid, {lo:g} to {hi:g}")
    if "lnp" in grid.names:
        _check_labels(output, style, grid, built.attrs)


def _check_labels(output: Table, style: dict, grid, attrs: dict) -> None:
    """Energies, mu and K that are nowhere on a grid of labels would be empty pictures."""
    from jaxbelt import plot_local as drawn

    lowest, highest = drawn.energy_range(grid)
    ranges = {"energies": (lowest.min(), highest.max(), " MeV", f"{math.degrees(drawn.steepest(grid)):.3g} degrees")}
    if "mu" in style or "K" in style:
        K, planet = style.get("K", drawn.USUAL_K), drawn.planet_of(attrs)
        held = drawn.mu_range(grid, K, planet)
        if held is None:
            least, most = (float(f(grid.K(planet))) for f in (np.min, np.max))
            raise output.error("K" if "K" in style else "mu", f"K = {K:g} is outside the grid, {least:.3g} to {most:.3g} "
                                                              "G^1/2 R_E at the centres of the cells")
        ranges["mu"] = (*held, " MeV/G", f"K = {K:g}")
    for key, (low, high, unit, at) in ranges.items():
        for value in style.get(key, ()):
            if not low * (1 - 1e-9) <= value <= high * (1 + 1e-9):
                raise output.error(key, f"{value:g}{unit} is outside the grid, {low:.3g} to {high:.3g}{unit} at {at}")


def _times(output: Table, duration: float, kind: str) -> np.ndarray:
    every = output.quantity("every", kind, above=0)
    if every > duration * (1 + 1e-9):
        raise output.error("every", f"is longer than the run ({duration:g} s)")
    n = int(np.floor(duration / every * (1 + 1e-12)))
    if n > 10_000_000:
        raise output.error("every", f"would make {n} outputs")
    t = every * np.arange(n + 1)
    return t if t[-1] >= duration * (1 - 1e-12) else np.append(t, duration)


def _style(output: Table, kind: str) -> dict:
    """What the pictures show, as attributes: times, L, energies [MeV], mu [MeV/G], K [G^1/2 R_E]."""
    style = {}
    times = output.quantities("times", kind, None, low=0.0)
    if times is not None:
        style["times"] = np.asarray(times)
    L = output.numbers("L", None, low=0.0)
    if L is not None:
        style["L"] = np.asarray(L)
    limits = output.numbers("range", None, size=2)
    if limits is not None:
        if not 0 < limits[0] < limits[1]:
            raise output.error("range", "must be two positive numbers, the smaller first")
        style["range"] = np.asarray(limits)
    for key, kind in (("energies", "energy"), ("mu", "mu")):
        if key in output:
            style[key] = np.asarray(output.quantities(key, kind))
            if not np.all(style[key] > 0):
                raise output.error(key, "must be positive")
    if "K" in output:
        style["K"] = output.number("K", low=0.0)
    if "overlays" in output:
        style["overlays"] = int(output.flag("overlays"))
    return style
