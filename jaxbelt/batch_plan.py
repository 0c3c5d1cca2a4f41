"""What a batch is made of, as names and short texts: so that going on with other parameters is noticed, and named."""

from __future__ import annotations

import dataclasses
import hashlib
import re

import jax
import jax.numpy as jnp
import numpy as np

from jaxbelt.batch import Sweep
from jaxbelt.batch_checks import start_of, tree_of
from jaxbelt.fitting.free import named_leaves
from jaxbelt.run import fingerprints

__all__ = ["difference", "signature"]

_FEW = 6               # values that are written out
_OTHERS = {"grid": "another grid", "models": "other models or drivers"}


def _text(values) -> str:
    """A number as it is, a few of them as a list, arrays by shape and hash."""
    values = np.asarray(values)
    if values.ndim == 0:
        return f"{float(values):.17g}"
    if values.size and np.all(values == values.flat[0]):
        return f"{float(values.flat[0]):.17g} ({'x'.join(map(str, values.shape))} times)"
    if values.ndim == 1 and values.size <= _FEW:
        return "[" + ", ".join(f"{float(v):.17g}" for v in values) + "]"
    return f"array {'x'.join(map(str, values.shape))} {_hash(np.ascontiguousarray(values, np.float64).tobytes())}"


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


def signature(problem, f0, sweep: Sweep, times, dt, keep, precision) -> dict:
    """{name: text} of everything that the runs of a batch depend on."""
    out = {"equation": str(problem.equation), "epoch": str(problem.epoch), "grid": fingerprints(problem)[0], "t": _text(times),
           "dt": _text(dt), "keep": keep, "precision": precision, "bits": str(jnp.result_type(float))}
    tree = tree_of(problem, start_of(problem, f0))
    leaves, structure = jax.tree.flatten(tree)
    out |= {name: _text(leaves[k]) for name, k in named_leaves(tree).items() if name not in sweep.values}
    out |= {f"batch {name}": _text(v) for name, v in sweep.values.items()}
    for part in ("parameters", "boundary"):
        _choices(getattr(problem, part), "", out)
    # what is no leaf: models, times of drivers, fixed choices
    fixed = re.sub(r" at 0x[0-9a-f]+", "", f"{structure}{problem.plan!r}{getattr(problem.tables, 'digest', '')}")
    return out | {"models": _hash(fixed.encode())}


def _choices(x, name, out):
    """Models and fixed choices by name: "dll": its class, "dll.reference_l": its value."""
    if isinstance(x, dict):
        inside = x.items()
    elif isinstance(x, (tuple, list)) and any(dataclasses.is_dataclass(v) for v in x):
        inside = enumerate(x)
    elif dataclasses.is_dataclass(x) and not isinstance(x, type):
        if name:
            out.setdefault(f"model {name}", type(x).__name__)
        inside = ((f.name, getattr(x, f.name)) for f in dataclasses.fields(x))
    else:
        if name and isinstance(x, (bool, str)):
            out.setdefault(name, str(x))
        elif name and isinstance(x, (int, float)) or isinstance(x, tuple) and x and all(isinstance(v, float) for v in x):
            out.setdefault(name, _text(x))
        return
    for key, value in inside:
        _choices(value, f"{name}.{key}" if name else str(key), out)


def difference(old: dict, new: dict) -> str:
    """ "dll.power was 10, now 9; lifetime has other values": what differs between two signatures; "" where nothing does."""
    said, vague = [], []
    for name in dict.fromkeys([*old, *new]):
        a, b = old.get(name), new.get(name)
        if a == b:
            continue
        if name in _OTHERS:
            vague.append(_OTHERS[name])
        elif a is None or b is None:
            said.append(f"{name} {'is new' if a is None else 'is missing'}")
        elif a.startswith("array") or b.startswith("array"):
            said.append(f"{name} has other values")
        else:
            said.append(f"{name} was {_short(a)}, now {_short(b)}")
    if "another grid" in vague:
        said.insert(0, "another grid")
    said = said or vague               # other values may mean another plan: that goes without saying
    more = f"; and {len(said) - 4} more" if len(said) > 4 else ""
    return "; ".join(said[:4]) + more


def _short(text: str) -> str:
    """A text of `_text` without the digits that nobody needs."""
    def number(found):
        return repr(float(found[0])).removesuffix(".0")

    try:
        return number([text])
    except ValueError:
        numbers = text.startswith("[") or text.endswith("times)")
        return re.sub(r"(?<![\w.x])[-+]?\d[\d.]*(?:e[-+]?\d+)?(?![\w.x])", number, text) if numbers else text
