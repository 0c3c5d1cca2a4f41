"""What the names of a sweep stand for, and whether its values can be used: all of it before anything is computed."""

from __future__ import annotations

import dataclasses
import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np

from jaxbelt._dataset import equation_hook
from jaxbelt.config import suggest
from jaxbelt.fitting.free import named_leaves

__all__ = ["check_values", "places", "start_of", "tree_of", "unit_of", "unvaried"]

_INDICES = ("kp", "dst")       # drivers that are the same thing wherever they enter
# units of leaves by the last word of their names, where time is in seconds
_UNITS = {"lifetime": "day", "tau_in": "day", "d0": "1/day", "dll": "1/day", "dphiphi": "rad^2/day", "dlphi": "rad/day",
          "phidot": "rad/s", "ldot": "1/s", "potential": "V"}
_PLAIN = {"power": "1", "kp": "1", "kp_slope": "1", "shielding": "1", "dst": "nT"}


def tree_of(problem, f0):
    """What can be swept, as one tree."""
    return {"parameters": problem.parameters, "boundary": problem.boundary, "initial": f0}


def start_of(problem, f0):
    """f0 as a tree with leaves: a full array, or the callable that makes it."""
    from jaxbelt.fit import _initial

    f0 = _initial(f0, problem.grid)
    return f0 if callable(f0) else jnp.broadcast_to(f0, problem.grid.shape)


def places(problem, f0, sweep):
    """(name, leaf number, shape of the leaf) of every swept name; ValueError where there is none, or shapes do not fit.

    One number stands for a leaf of one value, never for a whole array. At nodes (mu, say) an entry of the shape of one node's
    value is shared by all of them, where they had it in common.
    """
    tree = tree_of(problem, start_of(problem, f0))
    known, leaves = named_leaves(tree), jax.tree.leaves(tree)
    out = []
    for name, v in sweep.values.items():
        if name not in known:
            raise ValueError(f"sweep: {name!r} is no parameter of this problem{_instead(name, known)}")
        leaf = leaves[known[name]]
        _check_entry(name, v.shape[1:], leaf, known, _nodes(problem))
        out.append((name, known[name], np.shape(leaf)))
    return tuple(out)


def _nodes(problem) -> int:
    """How many nodes the leaves have as their first dimension; 0 where they have none."""
    axis = problem.grid.axes[0]
    leaves = jax.tree.leaves((problem.parameters, problem.boundary))
    return axis.n if axis.is_nodes and leaves and all(np.shape(x)[:1] == (axis.n,) for x in leaves) else 0


def _instead(name, known) -> str:
    inside = [k for k in known if k.startswith(name + ".")]
    if inside:
        return f"; it holds {', '.join(inside)}"
    parts = [k for k in known if f".{name}." in f".{k}."]
    if parts:
        return f"; {name.capitalize() + ' is a driver in' if name in _INDICES else 'it is part of'} {', '.join(parts)}"
    return suggest(name, known)


def _one(shape) -> bool:
    return math.prod(shape) == 1


def _check_entry(name, given, leaf, known, nodes):
    """ValueError where an entry of this shape does not stand for the leaf."""
    shape = np.shape(leaf)
    if given == shape or given == () and _one(shape):
        return
    if nodes and not name.startswith("initial") and shape[:1] == (nodes,):
        rest = shape[1:]
        if given == rest or given == () and _one(rest):
            values = np.asarray(leaf)
            if np.all(values == values[:1]):
                return
            raise ValueError(f"{name}: differs from node to node; give an entry for each of the {nodes} nodes, of shape {shape}")
        shape = rest
    said = "one number" if given == () else f"{given[0]} values" if len(given) == 1 else f"an array of shape {given}"
    if name == "initial":
        raise ValueError(f"initial: an entry must have the shape of f, {shape}, got {said}; to scale f, give f0 as a function "
                         "with a factor among its leaves (in a case: initial.knots), and sweep that")
    need = "be one number, as the parameter is" if _one(shape) else \
        f"have {shape[0]} values, as the parameter has" if len(shape) == 1 else f"have the shape of the parameter, {shape}"
    raise ValueError(f"{name}: an entry must {need}; got {said}{_scale(name, known) if given == () else ''}")


def _scale(name, known) -> str:
    """What scales the coefficient that this leaf belongs to, where there is such a thing."""
    words = name.split(".")
    for k in range(len(words) - 1, 0, -1):
        whole = ".".join(words[:k])
        if f"{whole}.log_amplitude" in known:
            return f"; to scale {'D_LL' if whole == 'dll' else whole} sweep {whole}.log_amplitude"
    return ""


def _driver(name) -> str:
    """The driver that a leaf is the values of: "kp" of lifetime.lpp.kp.values; "" where it is none."""
    words = name.removesuffix(".values").split(".")
    return words[-1] if len(words) > 1 and (name.endswith(".values") or words[-1] in _INDICES) else ""


def unvaried(problem, f0, sweep) -> list[str]:
    """A line for each driver of which one copy is varied and others are not."""
    tree = tree_of(problem, start_of(problem, f0))
    known, leaves = named_leaves(tree), jax.tree.leaves(tree)
    said = []
    for word in dict.fromkeys(_driver(name) for name in sweep.values):
        varied = [name for name in sweep.values if _driver(name) == word]
        first = np.asarray(leaves[known[varied[0]]])
        others = [k for k in known if word and _driver(k) == word and k not in sweep.values and
                  (word in _INDICES or first.size > 1 and np.array_equal(leaves[known[k]], first))]
        if others:
            said.append(f"{word} is varied in {', '.join(varied)}, but not in {', '.join(others)}")
    return said


def unit_of(name, problem, f_unit="") -> str:
    """The unit of a swept value; "" where it is not known."""
    last = name.removesuffix(".values").rsplit(".", 1)[-1]
    if name.removesuffix(".values") in ("inner", "outer", "initial"):
        return f_unit
    if last.startswith("log_"):
        return "1"
    if last in _PLAIN:
        return _PLAIN[last]
    if problem.time_unit != "s":
        return problem.time_unit if last == "lifetime" else ""
    return f"{f_unit}/day" if name == "source" and f_unit else _UNITS.get(last, "")


def check_values(problem, f0, sweep):
    """The checks that a single case meets when it is built, with swept values put in: of the first run, and of the runs with the
    smallest and the largest value of each name.

    They are those of the models' constructors, of the equation (`recheck(problem)` in its module, where it has one) and of its
    start. Raises ValueError that names run and values. What already fails without the sweep is not its fault and passes.
    """
    found, f0 = places(problem, f0, sweep), start_of(problem, f0)
    leaves, structure = jax.tree.flatten(tree_of(problem, f0))
    if any(isinstance(x, jax.core.Tracer) for x in leaves):
        return
    checks = [lambda tree: _rebuilt(_of_one_node(tree, _nodes(problem)))]
    recheck = equation_hook("recheck", problem.equation, getattr(problem.flows, "__module__", ""))
    if recheck is not None:
        checks.append(lambda tree: recheck(problem.replace(parameters=tree["parameters"], boundary=tree["boundary"])))
    if any(name.partition(".")[0] == "initial" for name in sweep.values):
        checks.append(lambda tree: _check_start(problem, tree["initial"]))
    flat = [v.reshape(len(v), -1) for v in sweep.values.values()]
    runs = {0, *(int(v.min(axis=1).argmin()) for v in flat), *(int(v.max(axis=1).argmax()) for v in flat)}
    for run in sorted(runs):
        mine = list(leaves)
        for name, k, shape in found:
            value = np.broadcast_to(sweep.values[name][run], shape)
            mine[k] = jnp.asarray(value, jnp.result_type(leaves[k]))
        for check in checks:
            said = _fault(check, structure, mine)
            if said and not _fault(check, structure, leaves):
                raise ValueError(f"run {run} ({_written(problem, sweep, run)}): {said}")


def _fault(check, structure, leaves) -> str:
    """What a check says, in one line; "" where it passes."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check(jax.tree.unflatten(structure, leaves))
    except Exception as error:                                 # of whatever kind: it is a value that cannot be used
        return " ".join(str(error).split()) or type(error).__name__
    return ""


def _written(problem, sweep, run) -> str:
    """ "lifetime = -4.48 day, dll.power = 10": the values of a run."""
    said = []
    for name, v in sweep.values.items():
        unit = unit_of(name, problem) if v.ndim == 1 else ""
        said.append(f"{name} = {v[run]:.6g}{'' if unit in ('', '1') else ' ' + unit}" if v.ndim == 1 else
                    f"{name} from {v[run].min():.6g} to {v[run].max():.6g}")
    return ", ".join(said[:4]) + (", ..." if len(said) > 4 else "")


def _of_one_node(tree, nodes):
    pick = (lambda x: x[0]) if nodes else (lambda x: x)
    return {"parameters": jax.tree.map(pick, tree["parameters"]), "boundary": jax.tree.map(pick, tree["boundary"]),
            "initial": tree["initial"]}


def _rebuilt(x):
    """The same tree made by its constructors, which look at concrete values."""
    if isinstance(x, dict):
        return {k: _rebuilt(v) for k, v in x.items()}
    if isinstance(x, (tuple, list)):
        return type(x)(_rebuilt(v) for v in x)
    if isinstance(x, jax.Array):
        return np.asarray(x)
    if dataclasses.is_dataclass(x) and jax.tree.leaves(x):
        return dataclasses.replace(x, **{f.name: _rebuilt(getattr(x, f.name)) for f in dataclasses.fields(x) if f.init})
    return x


def _check_start(problem, f0):
    from jaxbelt.solve import check_start

    check_start(problem, f0(problem.grid) if callable(f0) else f0)
