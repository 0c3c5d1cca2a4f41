"""Flows on random grids: cells of any number and widths, axes in any order, walls of every kind, rates over many decades."""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxbelt import flows
from jaxbelt.coefficients import Series
from jaxbelt.flows import remap_tables as rt
from jaxbelt.flows.transport import rate as courant_rate
from jaxbelt.grid import Axis, Frozen, Grid

CELLS = (2, 3, 4, 5, 7, 8, 11, 13, 16, 17, 23, 30, 31, 37, 48, 49, 60)
SQUARES = {"smallest": 1e-40, "largest": 1e140}      # where squares of values are needed
WIDEST = 100.0             # of widths, and of measures, on one axis


@dataclasses.dataclass(frozen=True)
class Case:
    """A flow on a grid whose structure is drawn: `draw(rng, kind, dt)` draws its coefficients.

    kind: "wild" (rates times dt from 0 to 1e12 and more), "mild" (of order one), "flat" (`steady` is a steady state, whatever the
    rates). keeps: content is kept. linear: superposition holds. contracts: nothing grows beyond the largest value that there was
    or is on a wall. exact: two half steps are one. shared: the one dt of all runs, which then have one draw. rounding: how well
    a steady state is kept at any rates (what a stiff operator does to rounding of its own coefficients). smallest, largest: sizes
    of f at which all is as at 1.
    """

    grid: Grid
    draw: Callable
    steady: np.ndarray
    keeps: bool = False
    linear: bool = False
    contracts: bool = False
    exact: bool = False
    shared: float = 0.0
    rounding: float = 1e-12
    smallest: float = 1e-280
    largest: float = 1e300


def cells(rng, name, n, periodic=False, equal=False, ratio=WIDEST):
    """n cells whose widths and measures are equal, or differ by up to `ratio`, in one of four ways."""
    lo, span = rng.choice([0.0, 1.0, -0.7, 1e-3]), 10.0 ** rng.uniform(-1, 1)
    way = 0 if equal else rng.integers(4)
    if way == 3:
        faces = np.geomspace(1.0, 10.0 ** rng.uniform(0.1, 2), n + 1)
    else:
        widths = (np.ones(n), rng.uniform(1, 3, n), ratio ** rng.uniform(0, 1, n))[way]
        faces = lo + span * np.append(0.0, np.cumsum(widths)) / np.sum(widths)
    width = np.diff(faces)
    middle = 0.5 * (faces[1:] + faces[:-1])
    measure = (width, width * (1 + middle**2), width * WIDEST ** rng.uniform(-0.5, 0.5, n))[0 if equal else rng.integers(3)]
    inside = faces[:-1] + width * rng.uniform(0.2, 0.8, n)
    return Axis.cells(name, faces, periodic=periodic, measure=measure, centers=None if equal else inside)


def grid_around(rng, *axes, others=2, factor=True):
    """A grid of these axes in any order, among up to `others` more of 1 to 5 cells or nodes."""
    axes = list(axes)
    for k in range(rng.integers(others + 1)):
        n = rng.integers(1, 6)
        axes.append(Axis.nodes(f"node{k}", np.arange(1.0, n + 1), rng.uniform(0.1, 3, n)) if rng.random() < 0.5
                    else cells(rng, f"other{k}", n, periodic=rng.random() < 0.5))
    axes = [axes[k] for k in rng.permutation(len(axes))]
    shape = [a.n if rng.random() < 0.5 else 1 for a in axes]
    factor = factor and rng.random() < 0.25
    return Grid(tuple(axes), Frozen(rng.uniform(0.3, 3, shape)) if factor else None)


def some_axes(rng, grid, *whole, length=None):
    """A shape: `whole` axes in full (or `length`), of the others each in full or 1."""
    full = [grid.index(a) for a in whole]
    return [(length or n) if k in full else (n if rng.random() < 0.5 else 1) for k, n in enumerate(grid.shape)]


def stiffness(rng, kind):
    """A typical rate times dt: of all rates of a draw."""
    return 10.0 ** (rng.choice([-12, -3, -1, 0, 2, 5, 12]) + rng.uniform(-0.5, 0.5)) if kind != "mild" else 1.0


def rates(rng, kind, shape):
    """Rates times dt relative to the typical one, with exact zeros."""
    if kind == "mild":
        return rng.uniform(0.2, 2.0, shape)
    return 10.0 ** rng.uniform(-3, 3, shape) * (rng.random(shape) > 0.15)


def draw_line(rng, method):
    periodic = rng.random() < 0.3
    n = int(rng.choice(CELLS))
    grid = grid_around(rng, cells(rng, "x", n, periodic))
    k = grid.index("x")
    low, high = ("closed", "closed") if periodic else rng.choice(["closed", "leak", "value", "array", "series"], 2)
    values = [w in ("value", "array", "series") for w in (low, high)]
    pure, lossy, fed = rng.random() < 0.5, rng.random() < 0.5, rng.random() < 0.4
    shape, loss_shape = some_axes(rng, grid, "x", length=n + 1), some_axes(rng, grid)
    source_shape = some_axes(rng, grid, "x")
    across = tuple(np.delete(grid.shape, k))
    per_line = np.moveaxis(grid.line_volumes("x"), k, 0)
    size = float(per_line.mean())

    def draw(rng, kind, dt):
        typical = stiffness(rng, kind)

        def faces(closed):
            a = np.moveaxis(rates(rng, kind, shape), k, 0) * typical * size / dt
            if periodic:
                a[-1] = a[0]
            for end in (0, -1) if closed else ():
                a[end] = 0.0
            for end, wall in ((0, low), (-1, high)):
                if wall == "closed" and not periodic or wall == "leak" and kind == "flat":
                    a[end] = 0.0
            return np.moveaxis(a, 0, k)

        def wall(how):
            if how not in ("value", "array", "series"):
                return None
            value = 1.0 if kind == "flat" else rng.uniform(0.0, 2.0) * (rng.random() < 0.8)
            if how == "array":
                value = value * (np.ones(across) if kind == "flat" else rng.uniform(0, 1, across))
            return value if how != "series" else Series([0.0, 0.5], np.array([value, value if kind == "flat" else 0.3]), "linear")

        up = faces(False)
        down = None if pure else up if kind == "flat" else faces(False)
        loss = rates(rng, kind, loss_shape) * stiffness(rng, kind) / dt if lossy and not (kind == "flat" and not fed) else None
        if lossy and loss is None:
            loss = np.zeros(loss_shape)
        source = rates(rng, kind, source_shape) / dt if fed else None
        if fed and kind == "flat":
            source = np.broadcast_to(loss, np.broadcast_shapes(loss.shape, source_shape)) if lossy else np.zeros(source_shape)
        # arrays of one shape for all kinds: they are stacked
        full = np.broadcast_shapes(tuple(loss_shape), tuple(source_shape)) if fed and lossy else tuple(source_shape)
        source = None if source is None else np.array(np.broadcast_to(source, full))
        return flows.LineDiffusion(axis="x", up=up, down=down, loss=loss, source=source, lower=wall(low), upper=wall(high),
                                   method=method)

    exponential = method == "exponential"
    closed = not any(values) and "leak" not in (low, high) and not lossy and not fed
    return Case(grid, draw, np.ones(grid.shape), keeps=closed, linear=exponential, contracts=exponential and pure and not fed,
                exact=exponential and "series" not in (low, high), rounding=1e-11 if exponential else 1e-12)


def draw_rotation(rng):
    n = int(rng.choice(CELLS))
    grid = grid_around(rng, cells(rng, "x", n, periodic=True, equal=True), factor=False)
    shape, shape2 = (np.where(np.arange(grid.ndim) == grid.index("x"), 1, some_axes(rng, grid)) for _ in range(2))
    diffuses = rng.random() < 0.5
    period = float(np.ptp(grid["x"].faces))

    def draw(rng, kind, dt):
        turns = rates(rng, kind, shape) * min(stiffness(rng, kind), 1e3) * rng.choice([-1.0, 1.0], shape)
        spread = rates(rng, kind, shape2) * min(stiffness(rng, kind), 1e6) if diffuses else None
        spread = spread if spread is None else spread * (period / n) ** 2 / dt
        return flows.Rotation(axis="x", rate=turns * period / n / dt, diffusion=spread)

    return Case(grid, draw, np.ones(grid.shape), keeps=True)


def draw_sheared(rng):
    n, m = int(rng.choice(CELLS)), int(rng.choice([2, 5, 9, 12, 16, 31]))
    grid = grid_around(rng, cells(rng, "x", n), cells(rng, "ring", m, periodic=True, equal=True), others=1, factor=False)
    k, ring = grid.index("x"), grid.index("ring")
    shape = np.where(np.arange(grid.ndim) == ring, 1, some_axes(rng, grid, "x", length=n + 1))
    shift = np.where(np.arange(grid.ndim) == ring, 1, some_axes(rng, grid, "x"))

    def draw(rng, kind, dt):
        up = np.moveaxis(rates(rng, kind, shape) * stiffness(rng, kind) * grid["x"].measure.mean() / dt, k, 0)
        up[[0, -1]] = 0.0
        line = flows.LineDiffusion(axis="x", up=np.moveaxis(up, 0, k))
        return flows.Sheared(line=line, ring="ring", shift=rng.uniform(-2, 2, shift) * np.ptp(grid["ring"].faces))

    return Case(grid, draw, np.ones(grid.shape), keeps=True)


def draw_reaction(rng):
    grid = grid_around(rng, cells(rng, "x", int(rng.choice(CELLS))))
    shape = some_axes(rng, grid)

    def draw(rng, kind, dt):
        loss = rates(rng, kind, shape) * stiffness(rng, kind) / dt
        return flows.Reaction(loss=loss, source=loss if kind == "flat" else rates(rng, kind, shape) / dt)

    return Case(grid, draw, np.ones(grid.shape), linear=True, exact=True)


@partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["grid", "axis"])
@dataclasses.dataclass(frozen=True)
class Mean:
    """Average over an axis of a grid."""

    grid: Grid
    axis: int

    def __call__(self, f):
        v, k = self.grid.volumes, self.axis
        return jnp.broadcast_to(jnp.sum(v * f, k, keepdims=True) / jnp.sum(v, k, keepdims=True), f.shape)


def draw_mixing(rng):
    grid = grid_around(rng, cells(rng, "x", int(rng.choice(CELLS))))
    k = grid.index("x")
    shape = np.where(np.arange(grid.ndim) == k, 1, some_axes(rng, grid))

    def draw(rng, kind, dt):
        return flows.Mixing(project=Mean(grid, k), rate=rates(rng, kind, shape) * stiffness(rng, kind) / dt)

    return Case(grid, draw, np.ones(grid.shape), keeps=True, linear=True, contracts=True, exact=True)


def draw_series(rng):
    grid = grid_around(rng, cells(rng, "x", int(rng.choice(CELLS))), cells(rng, "y", int(rng.integers(2, 9))), others=1)
    bound = float(rng.choice([3.0, 20.0, 200.0]))

    def draw(rng, kind, dt):
        few = rates(rng, kind, 2) * min(stiffness(rng, kind), 10.0)
        few = few * min(1.0, 0.99 * bound / max(few.sum(), 1e-300))
        means = tuple(Mean(grid, grid.index(axis)) for axis in "xy")
        return flows.MixingSeries(projects=means, rates=tuple(few / dt), bound=bound)

    return Case(grid, draw, np.ones(grid.shape), keeps=True, linear=True, contracts=True, exact=True)


def draw_advection(rng):
    n = int(rng.choice(CELLS))
    grid = grid_around(rng, cells(rng, "x", n, ratio=10.0))
    k, span = grid.index("x"), np.ptp(grid["x"].faces)
    contraction = rng.random() < 0.5
    shape = some_axes(rng, grid, "x", length=1 if contraction else n + 1)
    walls = rng.random(2) < 0.5
    per_length = np.moveaxis(grid.line_volumes("x"), k, -1) / np.diff(grid["x"].faces)
    even = bool(np.all(np.ptp(per_length, axis=-1) <= 1e-12 * per_length[..., 0]))
    across = tuple(np.delete(grid.shape, k))

    def draw(rng, kind, dt):
        lower, upper = (None if not w else np.ones(across) if kind == "flat" else rng.uniform(0, 1, across) * (rng.random() < 0.8)
                        for w in walls)
        if contraction:
            rate = rng.choice([-1.0, 1.0], shape) * rates(rng, kind, shape) * min(stiffness(rng, kind), 1e-1) / dt
            return flows.Advection(axis="x", rate=rate * (kind != "flat"), lower=lower, upper=upper)
        speed = rng.choice([-1.0, 1.0]) * rates(rng, kind, shape) * min(stiffness(rng, kind), 1e-1) * span / dt
        if kind == "flat":
            speed = np.full(shape, speed.flat[0] if even and walls.all() else 0.0)
        return flows.Advection(axis="x", speed=speed, lower=lower, upper=upper)

    return Case(grid, draw, np.ones(grid.shape))


def draw_transport(rng):
    b_ring = rng.random() < 0.5
    a, b = cells(rng, "a", int(rng.integers(3, 21)), rng.random() < 0.2), cells(rng, "b", int(rng.integers(3, 21)), b_ring)
    grid = grid_around(rng, a, b, others=1)
    shape = some_axes(rng, grid, "a", "b")
    for x in (a, b):
        shape[grid.index(x.name)] = x.n if x.periodic else x.n + 1
    closed, weighted, absorbing = rng.random() < 0.3, rng.random() < 0.4, rng.random() < 0.2
    kinds = {x.name: rng.random(2) < 0.6 for x in (a, b)}
    weight = rng.uniform(0.1, 3, some_axes(rng, grid, "a", "b")) if weighted else None
    live = rng.random(grid.shape) < 0.8 if absorbing else None
    substeps = int(rng.integers(1, 4))

    def draw(rng, kind, dt):
        psi = rng.normal(size=shape) * rates(rng, kind, shape)
        for x in (a, b) if closed else ():
            if not x.periodic:
                np.moveaxis(psi, grid.index(x.name), 0)[[0, -1]] = 0.0
        # all draws need as many substeps
        fastest = float(courant_rate(grid, psi, ("a", "b"), weight))
        psi = psi * 0.8 * (substeps - rng.uniform(0.01, 0.9)) / (dt * fastest if fastest > 0 else 1.0)
        walls = [[float(kind == "flat" or rng.uniform(0, 2)) if given and not closed and not x.periodic else None
                  for given in kinds[x.name]] for x in (a, b)]
        if kind == "flat" and not (closed or all(y is not None for x, w in zip((a, b), walls) if not x.periodic for y in w)):
            psi = psi * 0.0
        here = None if live is None else np.ones(grid.shape, bool) if kind == "flat" else live
        return flows.Transport(axes=("a", "b"), stream=psi, weight=weight, live=here, lower=tuple(w[0] for w in walls),
                         upper=tuple(w[1] for w in walls), substeps=substeps)

    steady = np.broadcast_to(1.0 if weight is None else weight, grid.shape)
    return Case(grid, draw, steady, keeps=closed and not absorbing, **SQUARES)


def draw_tensor(rng, method):
    a, b = cells(rng, "a", int(rng.integers(2, 13))), cells(rng, "b", int(rng.integers(2, 17)), rng.random() < 0.5)
    grid = grid_around(rng, a, b, others=1)
    shape, loss_shape = some_axes(rng, grid, "a", "b"), some_axes(rng, grid)
    names = ["lower", "upper"] + ([] if b.periodic else ["lower_b", "upper_b"])
    given = [name for name in names if rng.random() < 0.4]
    lossy, fed = rng.random() < 0.5, rng.random() < 0.4
    # within one row and one column: all offsets that there are
    lines = dict(method="lines", rows=1, cap=1, offsets=((0, 1), (1, 0), (1, -1), (1, 1)))
    how = lines if method == "lines" else dict(rows=int(rng.integers(1, 3)), cap=int(rng.choice([1, 2, 5, 32])))
    size = float(grid.volumes.mean())

    def draw(rng, kind, dt):
        typical = stiffness(rng, kind) * size / dt
        w11, w22 = rates(rng, kind, shape) * typical, rates(rng, kind, shape) * typical
        rho = np.where(rng.random(shape) < 0.2, rng.choice([-1.0, 1.0], shape), rng.uniform(-1, 1, shape))
        loss = rates(rng, kind, loss_shape) * stiffness(rng, kind) / dt if lossy else None
        if kind == "flat" and lossy and not fed:
            loss = loss * 0.0
        source = None if not fed else rates(rng, kind, grid.shape) / dt
        if fed and kind == "flat":
            source = np.array(np.broadcast_to(loss, grid.shape)) if lossy else np.zeros(grid.shape)
        walls = {name: float(kind == "flat" or rng.uniform(0, 2) * (rng.random() < 0.8)) for name in given}
        tensor = dict(w11=w11, w12=rho * np.sqrt(w11 * w22), w22=w22)
        return flows.TensorDiffusion(axes=("a", "b"), loss=loss, source=source, **tensor, **walls, **how)

    return Case(grid, draw, np.ones(grid.shape), keeps=not (given or lossy or fed), rounding=1e-11)


def draw_remap(rng):
    """A swirl inside an ellipse around the middle of the plane: it preserves da db."""
    n, m = int(rng.integers(8, 17)), int(rng.integers(8, 17))
    a, b = (Axis.cells(name, np.append(0.0, np.cumsum(5.0 ** rng.uniform(0, 1, k)))) for name, k in (("a", n), ("b", m)))
    planes = [Axis.nodes("plane", np.arange(1.0, 1 + rng.integers(1, 4)))] if rng.random() < 0.7 else []
    tail = [cells(rng, "tail", int(rng.integers(1, 4)))] if rng.random() < 0.5 else []
    grid = Grid((*planes, a, b, *tail))
    ga, w = rt.gauss_points(a.faces, 6)
    gb, _ = rt.gauss_points(b.faces, 6)
    x, y = (np.broadcast_to(v, (n, m, 6, 6)).reshape(n * m, 36) for v in (ga[:, None, :, None], gb[None, :, None, :]))
    half_a, half_b, out = a.faces[-1] / 2, b.faces[-1] / 2, []
    for _ in range(planes[0].n if planes else 1):
        u, v = x / half_a - 1, y / half_b - 1
        turn = rng.uniform(-1.5, 1.5) * np.maximum(1 - u**2 - v**2, 0.0) ** 2
        back = half_a * (1 + u * np.cos(turn) - v * np.sin(turn)), half_b * (1 + u * np.sin(turn) + v * np.cos(turn))
        out.append(rt.plane_table(a.faces, b.faces, *back, np.ones(x.shape, bool), np.outer(w, w).ravel(), symmetric=False))
    dt = 10.0 ** rng.uniform(-3, 3)
    tables = rt.stack_planes(out, grid.shape[:len(planes)], (a, b), dt, lossy=False, dtype=np.float64, symmetric=False)
    moved = flows.Remap(axes=("a", "b"), tables=tables)
    return Case(grid, lambda rng, kind, dt: moved, np.ones(grid.shape), keeps=True, shared=dt, **SQUARES)


DRAWS = {
    "line": partial(draw_line, method="tr-bdf2"),
    "exponential line": partial(draw_line, method="exponential"),
    "rotation": draw_rotation,
    "sheared": draw_sheared,
    "reaction": draw_reaction,
    "mixing": draw_mixing,
    "mixing series": draw_series,
    "advection": draw_advection,
    "transport": draw_transport,
    "tensor": partial(draw_tensor, method="unsplit"),
    "tensor of lines": partial(draw_tensor, method="lines"),
    "remap": draw_remap,
}
