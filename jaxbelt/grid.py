"""Grids: axes of cells with exact volumes.

A grid is static: it is hashable, holds no traced value, and its geometry is NumPy float64. Nothing here
knows how many axes an equation has or what they mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import jax
import numpy as np

__all__ = ["Axis", "Grid", "Frozen"]


class Frozen:
    """A read-only array that can be hashed and compared, so that it may sit in static pytree data."""

    __slots__ = ("_array", "_hash")

    def __init__(self, values):
        array = np.array(values, dtype=np.float64, copy=True)
        array.setflags(write=False)
        self._array = array
        self._hash = hash((array.shape, array.tobytes()))

    @property
    def array(self) -> np.ndarray:
        return self._array

    def __hash__(self):
        return self._hash

    def __eq__(self, other):
        return isinstance(other, Frozen) and self._array.shape == other._array.shape \
            and self._array.tobytes() == other._array.tobytes()

    def __repr__(self):
        return f"Frozen(shape={self._array.shape})"


def _increasing(name: str, values) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or values.size < 2:
        raise ValueError(f"{name}: needs at least two faces in one dimension, got shape {values.shape}")
    if not np.all(np.isfinite(values)):
        raise ValueError(f"{name}: faces must be finite, got {values[~np.isfinite(values)][0]}")
    step = np.diff(values)
    if np.any(step <= 0):
        i = int(np.argmax(step <= 0))
        raise ValueError(f"{name}: faces must increase, but face {i + 1} = {values[i + 1]:g} follows {values[i]:g}")
    return values


@dataclass(frozen=True)
class Axis:
    """Cells between `faces` along one coordinate, or nodes with weights along which no flow acts.

    `measure[i]` is the exact integral of this axis' factor of the Jacobian over cell i; `centers` are the points
    at which f is sampled. Build with `Axis.cells` or `Axis.nodes`.
    """

    name: str
    unit: str
    _faces: Frozen | None
    _centers: Frozen
    _measure: Frozen
    periodic: bool = False
    long_name: str = ""

    @staticmethod
    def cells(name, faces, *, unit="1", measure=None, centers=None, periodic=False, long_name="") -> Axis:
        """An axis of cells. `measure` is per cell (default: face differences); `centers` default to midpoints."""
        faces = _increasing(name, faces)
        centers = 0.5 * (faces[1:] + faces[:-1]) if centers is None else np.asarray(centers, np.float64)
        measure = np.diff(faces) if measure is None else np.asarray(measure, np.float64)
        n = faces.size - 1
        if centers.shape != (n,) or np.any(centers <= faces[:-1]) or np.any(centers >= faces[1:]):
            raise ValueError(f"{name}: centers must lie inside their cells, one for each of the {n} cells")
        if measure.shape != (n,) or not np.all(measure > 0):
            raise ValueError(f"{name}: measure must be positive, one for each of the {n} cells, got shape {measure.shape}")
        return Axis(name, unit, Frozen(faces), Frozen(centers), Frozen(measure), bool(periodic), long_name)

    @staticmethod
    def nodes(name, values, weights=None, *, unit="1", long_name="") -> Axis:
        """An axis along which no flow acts (mu, a species index, a batch label), with quadrature weights."""
        values = np.atleast_1d(np.asarray(values, np.float64))
        weights = np.ones_like(values) if weights is None else np.asarray(weights, np.float64)
        if weights.shape != values.shape or not np.all(weights > 0):
            raise ValueError(f"{name}: weights must be positive, one for each of the {values.size} nodes")
        return Axis(name, unit, None, Frozen(values), Frozen(weights), False, long_name)

    @property
    def n(self) -> int:
        return self._centers.array.size

    @property
    def centers(self) -> np.ndarray:
        return self._centers.array

    @property
    def measure(self) -> np.ndarray:
        return self._measure.array

    @property
    def is_nodes(self) -> bool:
        return self._faces is None

    @property
    def faces(self) -> np.ndarray:
        if self._faces is None:
            raise ValueError(f"{self.name}: an axis of nodes has no faces; no flow can act along it")
        return self._faces.array


@jax.tree_util.register_static
@dataclass(frozen=True)
class Grid:
    """A product of axes. Cell volume = product of the axes' measures (times `volume_factor` where it is not one)."""

    axes: tuple[Axis, ...]
    volume_factor: Frozen | None = None

    @property
    def ndim(self) -> int:
        return len(self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(a.n for a in self.axes)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(a.name for a in self.axes)

    def index(self, axis) -> int:
        """Position of an axis given by name or number."""
        if isinstance(axis, str):
            if axis not in self.names:
                raise ValueError(f"axis {axis!r} is not on this grid; it has {', '.join(self.names)}")
            return self.names.index(axis)
        return int(axis) % self.ndim

    def __getitem__(self, axis) -> Axis:
        return self.axes[self.index(axis)]

    def along(self, axis, values) -> np.ndarray:
        """Shape 1-D `values` so that they broadcast along `axis` of an array on the grid."""
        shape = [1] * self.ndim
        shape[self.index(axis)] = -1
        return np.reshape(values, shape)

    def centers(self, axis) -> np.ndarray:
        return self.along(axis, self[axis].centers)

    def faces(self, axis) -> np.ndarray:
        return self.along(axis, self[axis].faces)

    def mesh(self, **at: str) -> list[np.ndarray]:
        """Coordinates that broadcast to an array on the grid: centers, or faces where `name="faces"`."""
        return [self.along(a.name, a.faces if at.get(a.name) == "faces" else a.centers) for a in self.axes]

    @cached_property
    def volumes(self) -> np.ndarray:
        """Cell volumes, shape `grid.shape`."""
        v = np.ones((1,) * self.ndim)
        for a in self.axes:
            v = v * self.along(a.name, a.measure)
        if self.volume_factor is not None:
            v = v * self.volume_factor.array
        return np.broadcast_to(v, self.shape)

    @cached_property
    def volumes_compact(self) -> np.ndarray:
        """Cell volumes with length-1 dimensions where every cell along an axis has the same measure."""
        if self.volume_factor is not None:
            return self.volumes
        v = np.ones((1,) * self.ndim)
        for i, a in enumerate(self.axes):
            m = a.measure
            v = v * self.along(i, m[:1] if np.ptp(m) <= 4 * np.finfo(float).eps * m[0] else m)
        return v

    def line_volumes(self, axis) -> np.ndarray:
        """Cell volumes per unit measure of the other axes: length 1 along those (unless there is a `volume_factor`)."""
        v = self.along(axis, self[axis].measure)
        return v if self.volume_factor is None else v * self.volume_factor.array

    def other_measures(self, axis) -> np.ndarray:
        """Product of the other axes' measures, length 1 along `axis`."""
        v = np.ones((1,) * self.ndim)
        for i, a in enumerate(self.axes):
            if i != self.index(axis):
                v = v * self.along(i, a.measure)
        return v

    def content(self, f):
        """Total content, the sum of V f over the grid (leading batch axes of f are kept)."""
        axes = tuple(range(-self.ndim, 0))
        return (f * self.volumes).sum(axis=axes)
