"""What a batch is made of, as names and short texts: so that going on with other parameters is noticed, and named."""

from __future__ import annotations

import hashlib
import re

import jax
import jax.numpy as jnp
import numpy as np

from jaxbelt.batch import Sweep, start_of
from jaxbelt.fitting.free import named_leaves
from jaxbelt.run import fingerprints

__all__ = ["difference", "signature"]


def _text(values) -> str:
    """A number as it is; arrays by shape and hash."""
    values = np.asarray(values)
    if values.ndim == 0:
        return f"{float(values):.17g}"
    digest = hashlib.sha256(np.ascontiguousarray(values, np.float64).tobytes()).hexdigest()[:12]
    return f"array {'x'.join(map(str, values.shape))} {digest}"


def signature(problem, f0, sweep: Sweep, times, dt, keep, precision) -> dict:
    """{name: text} of everything that the runs of a batch depend on."""
    out = {"equation": str(problem.equation), "epoch": str(problem.epoch), "grid": fingerprints(problem)[0], "t": _text(times),
           "dt": _text(dt), "keep": keep, "precision": precision, "bits": str(jnp.result_type(float))}
    tree = {"parameters": problem.parameters, "boundary": problem.boundary, "initial": start_of(problem, f0)}
    leaves, structure = jax.tree.flatten(tree)
    out |= {name: _text(leaves[k]) for name, k in named_leaves(tree).items() if name not in sweep.values}
    out |= {f"batch {name}": _text(v) for name, v in sweep.values.items()}
    # what is no leaf: models, times of drivers, fixed choices
    fixed = re.sub(r" at 0x[0-9a-f]+", "", f"{structure}{problem.plan!r}{getattr(problem.tables, 'digest', '')}")
    return out | {"models": hashlib.sha256(fixed.encode()).hexdigest()[:12]}


def difference(old: dict, new: dict) -> str:
    """ "dll.power was 10, now 9; lifetime has other values": what differs between two signatures; "" where nothing does."""
    said = []
    for name in dict.fromkeys([*old, *new]):
        a, b = old.get(name), new.get(name)
        if a == b:
            continue
        if a is None or b is None:
            said.append(f"{name} {'is new' if a is None else 'is missing'}")
        elif name in ("grid", "models") or a.startswith("array") or b.startswith("array"):
            said.append("other models or drivers" if name == "models" else
                        "another grid" if name == "grid" else f"{name} has other values")
        else:
            said.append(f"{name} was {_short(a)}, now {_short(b)}")
    more = f"; and {len(said) - 4} more" if len(said) > 4 else ""
    return "; ".join(said[:4]) + more


def _short(text: str) -> str:
    try:
        return repr(float(text)).removesuffix(".0")
    except ValueError:
        return text
