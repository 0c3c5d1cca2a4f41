"""Free parameters of a fit: names of leaves, transforms, priors, and the vector that the methods work on."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbelt.config import suggest

__all__ = ["Free", "Normal", "Smooth", "Unknowns", "named_leaves", "unknowns"]


@dataclasses.dataclass(frozen=True)
class Normal:
    """A Gaussian prior on the transformed value (so on ln x with `transform="log"`): mean and standard deviation sd > 0.

    mean None: the value that the fit starts from. mean and sd: numbers, or arrays of the parameter's shape.
    """

    mean: Any = None
    sd: Any = 1.0

    def rows(self, start):
        """(matrix, target) of residuals matrix @ theta - target, each of unit variance."""
        mean = np.broadcast_to(start if self.mean is None else np.asarray(self.mean, float), start.shape)
        if not np.all(np.isfinite(mean)):
            raise ValueError(f"the mean of a prior must be finite, got {mean[~np.isfinite(mean)][0]}")
        sd = np.broadcast_to(np.asarray(self.sd, float), start.shape)
        return np.diag(1.0 / sd.ravel()), (mean / sd).ravel()


@dataclasses.dataclass(frozen=True)
class Smooth:
    """A smoothness prior on a profile: differences of `order` (1 or 2) between neighbours have standard deviation sd > 0.

    x: where the values stand, if unevenly (order 2 then asks for straight lines in x, order 1 for steps that grow with the root
    of their length). For ln D at knots sd = 1 is usual: D bends by a factor e from one knot to the next. Profiles lie along the
    last axis of a parameter; each is smooth for itself.
    """

    sd: Any = 1.0
    order: int = 2
    x: Any = None

    def rows(self, start):
        """(matrix, target) of residuals matrix @ theta - target, each of unit variance."""
        n = start.shape[-1] if start.ndim else 1
        if n <= self.order:
            raise ValueError(f"a Smooth prior of order {self.order} needs at least {self.order + 1} values, got {n}")
        x = np.arange(n, dtype=float) if self.x is None else np.asarray(self.x, float)
        if x.shape != (n,) or not np.all(np.diff(x) > 0):
            raise ValueError(f"x of a Smooth prior: needs {n} increasing numbers, one a value, got {np.ravel(x)}")
        x = (x - x[0]) * (n - 1) / (x[-1] - x[0])
        slope = np.diff(np.eye(n), axis=0) / np.diff(x)[:, None]
        if self.order == 1:
            matrix = slope * np.sqrt(np.diff(x))[:, None]
        else:
            matrix = np.diff(slope, axis=0) / np.sqrt(0.5 * (x[2:] - x[:-2]))[:, None]
        matrix = np.kron(np.eye(start.size // n), matrix / float(self.sd))
        return matrix, np.zeros(matrix.shape[0])


@dataclasses.dataclass(frozen=True)
class Free:
    """One free parameter (a number or an array) of a fit; a plain name stands for `Free(name)`.

    path: the name of a leaf: "dll.log_amplitude" of the parameters; "initial.x", "inner.x", "outer.x", "data.x" of the others.
    transform: what is fitted is x ("identity"), ln x ("log": x stays positive), or ln((x-a)/(b-x)) ("logit", needs
    bounds=(a, b)). prior: `Normal`, `Smooth`, or a tuple of them, on the transformed value. start: where to begin, by default the
    value that is there. scale: a change of the transformed value that would matter; a direction known worse than that counts as
    undetermined. Default 1, but |start| where 0 < |start| < 1 and the transform is "identity", unless the name says that it is a
    logarithm ("log_..."). per_node: on an axis of nodes (mu), one value a node; else all share one.
    Raises ValueError for unknown words, bounds that do not fit, priors of zero width.
    """

    path: str
    transform: str = "identity"
    bounds: tuple | None = None
    prior: Any = ()
    start: Any = None
    scale: Any = None
    per_node: bool = False

    def __post_init__(self):
        if self.transform not in ("identity", "log", "logit"):
            raise ValueError(f"{self.path}: transform {self.transform!r} is unknown; use 'identity', 'log' or 'logit'")
        if (self.transform == "logit") != (self.bounds is not None):
            raise ValueError(f"{self.path}: bounds=(lowest, highest) and transform='logit' belong together")
        if self.bounds is not None:
            low, high = (float(b) for b in self.bounds)
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(f"{self.path}: bounds must be two finite numbers, the lower first, got {self.bounds}")
        object.__setattr__(self, "prior", self.prior if isinstance(self.prior, (tuple, list)) else (self.prior,))
        for prior in self.prior:
            if not isinstance(prior, (Normal, Smooth)):
                raise ValueError(f"{self.path}: a prior must be jb.Normal or jb.Smooth, got {prior!r}")
            if not (np.all(np.isfinite(prior.sd)) and np.all(np.asarray(prior.sd) > 0)):
                raise ValueError(f"{self.path}: the width sd of a prior must be positive, got {prior.sd}; a value that is known "
                                 "exactly is not free")
            if isinstance(prior, Smooth) and prior.order not in (1, 2):
                raise ValueError(f"{self.path}: the order of a Smooth prior must be 1 or 2, got {prior.order}")

    def inward(self, x, what="start"):
        """The transformed value of x; what: the word for it in an error."""
        x = np.asarray(x, float)
        if self.transform == "log":
            if not np.all(x > 0):
                raise ValueError(f"{self.path}: must {what} above 0 for transform 'log', got {np.min(x):g}")
            return np.log(x)
        if self.transform == "logit":
            low, high = self.bounds
            if not (np.all(x > low) and np.all(x < high)):
                raise ValueError(f"{self.path}: must {what} between its bounds {low:g} and {high:g}, got {np.ravel(x)[0]:g}")
            return np.log((x - low) / (high - x))
        return x

    def outward(self, theta):
        """x of a transformed value; traceable."""
        if self.transform == "log":
            return jnp.exp(theta)
        if self.transform == "logit":
            low, high = self.bounds
            return low + (high - low) * jax.nn.sigmoid(theta)
        return theta

    @property
    def key(self):
        """What `outward` depends on: hashable."""
        return (self.path, self.transform, self.bounds, self.per_node)


def _name(path) -> str:
    """"dll.parts.0.log_amplitude" of a JAX key path; the arrays of a `function` are named without "arrays"."""
    words = []
    for key in path:
        for attribute in ("name", "key", "idx"):
            if hasattr(key, attribute):
                words.append(str(getattr(key, attribute)))
                break
    return ".".join(w for w in words if w not in ("", "arrays"))      # a single set of data has the name ""


def named_leaves(tree) -> dict[str, int]:
    """Name -> number of every leaf of a tree in which things can be free."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    out = {}
    for k, (path, leaf) in enumerate(flat):
        if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
            name = _name(path)
            for prefix in ("parameters.", "boundary."):
                name = name.removeprefix(prefix)
            out[name] = k
    return out


@dataclasses.dataclass(frozen=True, eq=False)
class Unknowns:
    """The free parameters of one fit, in order: theta is the vector of their transformed values.

    start (n,), matrix and target: the priors' residuals matrix @ theta - target; scale (n,). labels: a name an entry.
    """

    free: tuple
    index: tuple[int, ...]                     # leaf of each
    shapes: tuple[tuple, ...]                  # of each as a free parameter
    nodes: tuple[bool, ...]                    # the leaf has a leading axis of nodes that share the value
    start: np.ndarray
    scale: np.ndarray
    matrix: np.ndarray
    target: np.ndarray
    labels: tuple[str, ...]

    @property
    def key(self):
        """The structure: hashable, equal for fits that can share a compilation."""
        return (tuple(f.key for f in self.free), self.index, self.shapes, self.nodes)

    @property
    def size(self) -> int:
        return self.start.size

    @property
    def slices(self):
        ends = np.cumsum([0, *(int(np.prod(s)) for s in self.shapes)])
        return [slice(int(a), int(b)) for a, b in zip(ends[:-1], ends[1:])]

    def values(self, theta) -> dict:
        """{path: x} of a vector theta."""
        return {f.path: f.outward(theta[at].reshape(shape)) for f, at, shape in zip(self.free, self.slices, self.shapes)}

    def of_data(self) -> np.ndarray:
        """(n,) True for entries that belong to the data: the run does not depend on them."""
        out = np.zeros(self.size, bool)
        for f, at in zip(self.free, self.slices):
            out[at] = f.path.startswith("data.")
        return out


def put(key, tree, theta):
    """`tree` with the leaves that `Unknowns.key` names replaced by what theta says; pure."""
    leaves, structure = jax.tree.flatten(tree)
    at = 0
    for (path, transform, bounds, _), index, shape, shared in zip(*key):
        n = int(np.prod(shape))
        x = Free(path, transform, bounds).outward(theta[at:at + n].reshape(shape))
        old = jnp.asarray(leaves[index])
        leaves[index] = (jnp.broadcast_to(x, old.shape) if shared else x).astype(old.dtype)
        at += n
    return jax.tree.unflatten(structure, leaves)


def unknowns(tree, free, nodes: int = 0) -> Unknowns:
    """`Unknowns` of the names in `free` among the leaves of `tree`; nodes: length of the leading axis of the problem's leaves, 0
    where it has none.

    Raises ValueError for a name that does not exist (with the nearest ones), one given twice, starts that do not fit, a shared
    parameter that differs from node to node.
    """
    if isinstance(free, (str, Free)):
        free = (free,)
    free = tuple(f if isinstance(f, Free) else Free(f) for f in free)
    if not free:
        raise ValueError("free: name at least one parameter to fit")
    leaves = jax.tree.leaves(tree)
    known = {k: i for k, i in named_leaves(tree).items() if not re.fullmatch(r"data\.(\w+\.)?values", k)}     # what was measured
    index, shapes, shared, start, scale, rows, labels = [], [], [], [], [], [], []
    for f in free:
        if f.path not in known:
            inside = [k for k in known if k.startswith(f.path + ".")]
            hint = f"; it holds {', '.join(inside)}" if inside else suggest(f.path, known)
            raise ValueError(f"free: {f.path!r} is no parameter of this fit{hint}")
        if [g.path for g in free].count(f.path) > 1:
            raise ValueError(f"free: {f.path!r} is given twice")
        k = known[f.path]
        value = np.asarray(leaves[k], float)
        common = nodes > 0 and not f.path.startswith(("data.", "initial.")) and value.shape[:1] == (nodes,) and not f.per_node
        if common:
            if np.ptp(value, axis=0).any() and f.start is None:
                raise ValueError(f"free: {f.path!r} differs from node to node; give start= for one value that all share, or "
                                 "per_node=True for one a node")
            value = value[0]
        if f.start is not None:
            try:
                value = np.broadcast_to(np.asarray(f.start, float), value.shape)
            except ValueError:
                raise ValueError(f"{f.path}: start has shape {np.shape(f.start)}, the parameter {value.shape}") from None
        if not np.all(np.isfinite(value)):
            raise ValueError(f"{f.path}: must start from finite numbers, got {np.ravel(value)[~np.isfinite(np.ravel(value))][0]}")
        theta = f.inward(value).ravel()
        plain = f.transform == "identity" and not f.path.rsplit(".", 1)[-1].startswith("log_")
        small = plain & (np.abs(theta) < 1) & (theta != 0)
        index.append(k)
        shapes.append(value.shape)
        shared.append(common)
        start.append(theta)
        given = np.where(small, np.abs(theta), 1.0) if f.scale is None else np.asarray(f.scale, float)
        if not (np.all(np.isfinite(given)) and np.all(given > 0)) or given.shape not in ((), theta.shape, value.shape):
            raise ValueError(f"{f.path}: scale must be positive, one number or one a value, got {f.scale}")
        scale.append(np.broadcast_to(given.ravel() if given.ndim else given, theta.shape))
        at = sum(s.size for s in start[:-1])
        for prior in f.prior:
            try:
                rows.append((at, *prior.rows(theta.reshape(value.shape))))
            except ValueError as error:
                why = f"its prior has another shape than the parameter, {value.shape}" if "broadcast" in str(error) else error
                raise ValueError(f"{f.path}: {why}") from None
        where = [""] if not value.shape else [str(list(i)) for i in np.ndindex(*value.shape)]
        labels += [f.path + w for w in where]
    size = sum(s.size for s in start)
    matrix = np.zeros((sum(r[1].shape[0] for r in rows), size))
    target, at = np.zeros(matrix.shape[0]), 0
    for column, m, t in rows:
        matrix[at:at + m.shape[0], column:column + m.shape[1]] = m
        target[at:at + m.shape[0]] = t
        at += m.shape[0]
    return Unknowns(free, tuple(index), tuple(shapes), tuple(shared), np.concatenate(start), np.concatenate(scale), matrix,
                    target, tuple(labels))
