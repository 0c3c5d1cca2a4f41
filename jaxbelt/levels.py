"""Long runs driven by an index with few values: one cached propagator a level, one matrix product an interval.

Where every coefficient of an equation with one line of diffusion is constant between the jumps of step drivers, and those take
few values together (Kp has 28; with the largest Kp of the last 24 h 393 pairs occur in 65 years), each interval is

    c(t + dt) = exp(Q_level dt) c(t),    c: content of n cells, of three sinks, of the reservoirs behind walls and source,

with as many matrices as there are levels, made once (`flows.exponential`: exact, non-negative). An interval then costs one
product of an m x m matrix with the states at all nodes (mu), m = n + 4 + 2 reservoirs, whatever its length.

Nodes that have D_LL in common share the matrices. Losses that differ between nodes enter with the mean of the largest and
the smallest rate at each L; what is left, r(L, mu), is split off around the product, exp(-r dt/2) twice (Strang): second order
in r dt, exact where the nodes lose alike. Nodes with a D_LL of their own have matrices of their own.

`reduce` makes a problem whose drivers are read by level and not by time; `jaxbelt.solve` and `jaxbelt.run` then go this way.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxbelt._level_runs import Chunks, Keys
from jaxbelt.coefficients import Function, Series, Time, drivers, evaluate, is_constant, is_steady
from jaxbelt.flows import LineDiffusion
from jaxbelt.flows.exponential import propagators
from jaxbelt.grid import Grid
from jaxbelt.linear import Line
from jaxbelt.nodes import Batched
from jaxbelt.plan import Schedule
from jaxbelt.plan import plan as make_plan

__all__ = ["Levels", "distinct", "reduce", "with_levels", "prepare", "advance"]

_LEVELS_DIFFER = 5         # jaxbelt.solve.Result.levels_differ
_NOT_FINITE = 1
_SAMPLES = 48
_BLOCK = 32                # intervals of which a gradient keeps the states at once


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True, eq=False)
class Levels:
    """When which level holds: level index[k] from t[k] on [s after the epoch], the last one for ever. Static, hashable.

    count: how many there are. groups: how many sets of matrices the nodes need (1: D is common to all). split: the largest
    rate of loss [1/s] that is split off; 0 where the nodes of a group lose alike.
    """

    t: np.ndarray
    index: np.ndarray
    count: int
    groups: int = 1
    split: float = 0.0

    def __post_init__(self):
        for name, dtype in (("t", np.float64), ("index", np.int32)):
            array = np.array(getattr(self, name), dtype)
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        about = f"{self.count} {self.groups} {self.split!r}".encode()
        object.__setattr__(self, "digest", hashlib.sha256(self.t.tobytes() + self.index.tobytes() + about).hexdigest())

    def __hash__(self):
        return hash(self.digest)

    def __eq__(self, other):
        return isinstance(other, Levels) and self.digest == other.digest

    def at(self, t):
        """The level that holds at each time of an array."""
        return self.index[np.clip(np.searchsorted(self.t, t, side="right") - 1, 0, self.t.size - 1)]

    def schedule(self, problem, t, dt) -> Schedule:
        """What `jaxbelt.solve.plan` gives for any problem; `mid` of an interval is its level, which step drivers are read at."""
        clock = tuple(float(k) for k in range(self.count))
        others = set()
        for d in drivers((problem.parameters, problem.boundary)):
            if isinstance(d, Function):
                others.update(d.jumps)
            elif d.kind == "step" and len(d.t) > 1 and d.t != clock:
                raise ValueError(f"levels: a step Series of {len(d.t)} times is no driver of the levels; reduce the problem anew")
            elif d.kind != "step":
                others.update(d.t if len(d.t) > 1 else ())
        first, last = np.searchsorted(self.t, [np.asarray(t)[0], np.asarray(t)[-1]])
        made = make_plan(t, dt, sorted(others.union(self.t[first:last + 1].tolist())))
        return Schedule(tuple(dataclasses.replace(g, mid=self.at(g.mid).astype(np.float64)) for g in made.groups))

    def advance(self, problem, f, schedule):
        """`jaxbelt.solve.advance` of a problem with these levels, with cached propagators."""
        keys = Keys(problem, [schedule])
        return _whole(problem, f, keys.of(schedule), keys.level, keys.dt)

    def chunks(self, problem, t, dt, size):
        """advance(problem, f, schedule) of a run in chunks of `size` output periods: the propagators are made once."""
        schedules = [self.schedule(problem, t[k:k + size + 1], dt) for k in range(0, len(t) - 1, size)]
        return Chunks(prepare, advance, problem, schedules)


def distinct(**series) -> tuple[dict, Levels]:
    """Step `Series` as levels: ({name: Series by level, at 0, 1, 2, ...}, `Levels`).

    A level is one combination of values of all series that occurs. Their times need not be the same: the union counts.
    Raises ValueError where a series is no step series.
    """
    for name, one in series.items():
        if not isinstance(one, Series) or one.kind != "step":
            raise ValueError(f"{name}: needs a step Series; one that is linear in time has no levels")
    times = np.unique(np.concatenate([one.t for one in series.values()]))
    rows = {name: np.clip(np.searchsorted(one.t, times, side="right") - 1, 0, len(one.t) - 1) for name, one in series.items()}
    codes = np.zeros(times.size, np.int64)
    for name, one in series.items():
        values = np.asarray(one.values)
        values = values.reshape(values.shape[0], -1)
        values = values[:, np.any(values != values[:, :1], axis=0) | (np.arange(values.shape[1]) == 0)]
        _, code = np.unique(values, axis=0, return_inverse=True)
        code = code.reshape(-1)[rows[name]]
        _, codes = np.unique(codes * (code.max() + 1) + code, return_inverse=True)
    _, first, index = np.unique(codes, return_index=True, return_inverse=True)
    clock = np.arange(first.size, dtype=np.float64)
    short = {name: Series(clock, np.asarray(one.values)[rows[name][first]]) for name, one in series.items()}
    return short, Levels(times, index.reshape(-1), first.size)


def reduce(problem):
    """The same problem with its step drivers as levels: `jaxbelt.solve` and `jaxbelt.run` advance it by cached propagators.

    problem: an equation with one line of diffusion (radial diffusion in L), at one or many nodes, whose coefficients depend on
    time through step `Series` alone; what depends on their past (the largest Kp of 24 h) has to be a Series too, as
    `KpLifetime(kp=kp, kp_max=drivers.max_over(kp))` or `Plasmapause(kp_max=plasmapause.maximum_series(kp))`. Walls may depend on
    time in any way: a step takes their value at its middle. Parameters, changed or traced, go in afterwards
    (`reduced.replace(parameters=p)`); where nodes share D_LL its derivative stands at the first of them.
    Raises ValueError where the problem is of another kind, and TypeError where its drivers are traced.
    """
    nodes = problem.grid.axes[0].is_nodes
    flat, tree = jax.tree.flatten((problem.parameters, problem.boundary), is_leaf=lambda x: isinstance(x, Series))
    found = {k: x for k, x in enumerate(flat) if isinstance(x, Series) and len(x.t) > 1 and x.kind == "step"}
    if any(isinstance(x.values, jax.core.Tracer) for x in found.values()):
        raise TypeError("levels.reduce: the values of drivers must be concrete; reduce the problem outside of jit and grad")
    if not found:
        return with_levels(problem, Levels([0.0], [0], 1))
    turned = (lambda a, i, j: np.moveaxis(np.asarray(a), i, j)) if nodes else (lambda a, i, j: np.asarray(a))    # noqa: E731
    whole = {str(k): Series(x.t, turned(x.values, 1, 0)) for k, x in found.items()}
    short, levels = distinct(**whole)
    for k, one in short.items():
        flat[int(k)] = object.__new__(Series)._set(one.t, jnp.asarray(turned(one.values, 0, 1)), "step")
    parameters, boundary = jax.tree.unflatten(tree, flat)
    made = with_levels(problem.replace(parameters=parameters, boundary=boundary), levels)
    _same(problem, made, levels)
    return made


def _same(problem, made, levels):
    """What the levels say must be what the problem says, at moments of all kinds."""
    rng = np.random.default_rng(0)
    picked = np.unique(np.concatenate([[0, levels.t.size - 1], rng.integers(0, levels.t.size, _SAMPLES)]))
    ends = np.append(levels.t[1:], levels.t[-1] + 1.0)
    mids = 0.5 * (levels.t + ends)[picked]

    @jax.jit
    def read(p, starts, mids):
        def one(x):
            line, _, source = _rates(p, Time(x[0], jnp.zeros_like(x[0]), x[1]), 1.0)
            return jax.tree.leaves((line, source))
        return lax.map(one, (starts, mids))

    ours, theirs = (read(p, jnp.asarray(mids), jnp.asarray(m, float)) for p, m in
                    ((made, levels.index[picked]), (problem.replace(tables=None), mids)))
    for a, b in zip(ours, theirs):
        bad = ~np.isclose(a, b, rtol=1e-9, atol=0).reshape(len(picked), -1).all(axis=1)
        if bad.any():
            raise ValueError(f"levels: at t = {mids[np.argmax(bad)]:g} s the coefficients depend on more than the values that "
                             "the step drivers have there; give what depends on their past (the largest Kp of 24 h) as a Series "
                             "of its own, kp_max=drivers.max_over(kp)")


def with_levels(problem, levels: Levels):
    """A problem whose step drivers stand at the levels 0, 1, 2, ..., with `levels`, which says when which one holds.

    For who has no use for the long drivers at all (64 copies of 190,000 values, one a node). Raises as `reduce` does.
    """
    if problem.tables is not None:
        raise ValueError(f"levels: {problem.equation} has tables of its own; levels are for radial diffusion")
    line, flow, _ = jax.eval_shape(lambda p: _rates(p, Time.at(jnp.zeros(())), 1.0), problem)
    if not flow.steady:
        raise ValueError("levels: a coefficient changes between the jumps of the drivers; levels need step Series "
                         "(walls alone may change all the time)")
    nodes = line.up.shape[0]

    @jax.jit
    def look(p):
        def one(level):
            line, _, source = _rates(p, Time(jnp.zeros(()), jnp.zeros(()), level), 1.0)
            loss = line.loss
            return (_apart(line.up) | _apart(line.down) | (False if source is None else _apart(source)),
                    0.5 * jnp.max(jnp.max(loss, axis=0) - jnp.min(loss, axis=0)))
        return lax.map(one, jnp.arange(levels.count, dtype=float))

    own, split = (np.asarray(x) for x in look(problem))
    if own.any():
        return problem.replace(tables=dataclasses.replace(levels, groups=nodes, split=0.0))
    return problem.replace(tables=dataclasses.replace(levels, groups=1, split=float(split.max())))


def _apart(x):
    """Whether rows of x differ by more than rounding."""
    return jnp.any(jnp.abs(x - x[:1]) > 1e-9 * jnp.max(jnp.abs(x)))


def _rates(problem, t, dt):
    """(Line with arrays (nodes, n), its flow, source (nodes, n) or None) of a problem with one line flow."""
    flows = problem.flows(problem, t, dt)
    flow = flows[0] if len(flows) == 1 else None
    nodes = isinstance(flow, Batched)
    inner = flow.inner if nodes else flow
    plane = Grid(problem.grid.axes[1:]) if nodes else problem.grid
    if not isinstance(inner, LineDiffusion) or plane.ndim != 1 or plane[0].periodic:
        raise ValueError(f"levels: need an equation with diffusion in one coordinate and nothing else, such as radial diffusion; "
                         f"{problem.equation} on ({', '.join(problem.grid.names)}) has other flows")

    def one(f):
        line = f._line(plane)
        shape = line.volume.shape
        loss = jnp.zeros(shape) if line.loss is None else line.loss
        source = None if f.source is None else jnp.broadcast_to(f.source, shape)
        return dataclasses.replace(line, loss=loss), source

    line, source = (jax.vmap(one) if nodes else lambda f: jax.tree.map(lambda x: x[None], one(f)))(inner)
    return line, flow, source


def _walls(flow, t):
    """Values outside the walls that have one, each (nodes,)."""
    inner = flow.inner if isinstance(flow, Batched) else flow

    def one(wall):
        return jnp.reshape(evaluate(wall, t), ())

    return [jax.vmap(one)(w) if isinstance(flow, Batched) else one(w)[None] for w in (inner.lower, inner.upper) if w is not None]


def prepare(problem, level, dt):
    """{"matrix": (keys, groups, m, m), "keep": (keys, groups, m, nodes/groups) or None, "fault"} for each level and step [s].

    Rows and columns of a matrix: n cells; what left through the lower wall, the upper one, by loss; reservoirs (walls that have a
    value, source), constant; what each of those has brought; what all this has changed in the cells. keep: what half a step of
    the losses that are split off leaves.
    """
    levels = problem.tables

    def one(x):
        level, dt = x
        line, flow, source = _rates(problem, Time(jnp.zeros_like(dt), 0.5 * dt, level), dt)
        nodes, n = line.loss.shape
        s = levels.groups
        parted = lambda a: jnp.broadcast_to(a, (nodes, a.shape[-1])).reshape(s, nodes // s, -1)      # noqa: E731
        up, down, loss = parted(line.up), parted(line.down), parted(line.loss)
        differ = (line.up, line.down) if source is None else (line.up, line.down, source)
        fault = (s == 1) & jnp.any(jnp.stack([_apart(a) for a in differ]))
        up, down = up[:, 0], down[:, 0]
        common = 0.5 * (jnp.max(loss, axis=1) + jnp.min(loss, axis=1)) if levels.split else loss[:, 0]
        fault = fault | (not levels.split) & (s == 1) & _apart(line.loss)
        volume = jnp.broadcast_to(line.volume[:1], (s, n))
        inner = flow.inner if isinstance(flow, Batched) else flow
        feeds = [] if inner.lower is None else [jnp.zeros((s, n)).at[:, 0].set(up[:, 0])]
        feeds += [] if inner.upper is None else [jnp.zeros((s, n)).at[:, -1].set(down[:, -1])]
        feeds += [] if source is None else [volume * parted(source)[:, 0]]
        r = len(feeds)
        feeds = jnp.stack(feeds, axis=-1) if r else jnp.zeros((s, n, 0))
        part = propagators(Line(volume, up, down, common), feeds, dt)
        size = 8 * math.ceil((n + 4 + 2 * r) / 8)
        i = n + 3 + np.arange(r)
        matrix = jnp.zeros((s, size, size)).at[:, :n + 3, :n].set(part[..., :n]).at[:, :n + 3, n + 3:n + 3 + r].set(part[..., n:])
        kept, end = np.arange(n, n + 4 + 2 * r), n + 3 + 2 * r
        matrix = matrix.at[:, end, :end].set(jnp.sum(matrix[:, :n, :end], axis=1) - (np.arange(end) < n))
        matrix = matrix.at[:, kept, kept].set(1.0).at[:, i + r, i].set(dt * jnp.sum(feeds, axis=1))
        keep = None
        if levels.split:
            keep = jnp.exp(-0.5 * dt * (loss - common[:, None]))
            keep = jnp.pad(jnp.moveaxis(keep, 1, 2), ((0, 0), (0, size - n), (0, 0)), constant_values=1.0)
        return {"matrix": matrix, "keep": keep, "fault": fault.astype(jnp.int32)}

    # a gradient makes the matrices of one level at a time once more: what they come from is thirty times as large
    return lax.map(jax.checkpoint(one, prevent_cse=False), (jnp.asarray(level, float), jnp.asarray(dt, float)))


def advance(problem, f, groups, states, level, dt):
    """(f after every period (P, *grid), budget (P,) cumulated, result code): see `jaxbelt.solve.advance`. Pure and jit-able.

    groups: [(start, key)] of `Keys.of`. states: of `prepare` for `level` and `dt`. A gradient keeps f at every output and
    computes one period at a time again.
    """
    grid = problem.grid
    nodes = grid.axes[0].is_nodes
    axis = grid.axes[-1]
    n, s = axis.n, problem.tables.groups
    _, flow, source = _rates(problem, Time(jnp.zeros(()), jnp.zeros(()), jnp.zeros(())), 1.0)
    volume = jnp.asarray(Grid((axis,)).line_volumes(axis.name)).reshape(-1)
    inner = flow.inner if isinstance(flow, Batched) else flow
    names = [f"{axis.name}.{w}" for w, v in (("lower", inner.lower), ("upper", inner.upper)) if v is not None]
    given, r = len(names), len(names) + (source is not None)
    fixed = all(w is None or _unchanging(w) for w in (inner.lower, inner.upper))
    weight = jnp.asarray(grid.axes[0].measure) if nodes else jnp.ones(1)
    matrix, keep = states["matrix"], states["keep"]
    keep = None if keep is None else jnp.concatenate([keep, jnp.ones_like(keep[:1])])      # after the last step of a period
    size, columns = matrix.shape[-1], weight.size // s
    level, dt = jnp.asarray(level, float), jnp.asarray(dt, float)

    def wall_rows(x, t):
        _, flow, _ = _rates(problem, t, 1.0)
        return x.at[:, n + 3:n + 3 + given].set(jnp.stack(_walls(flow, t)).reshape(given, s, columns).swapaxes(0, 1))

    def of(states, key):
        return lax.dynamic_index_in_dim(states, key, keepdims=False)

    def interval(c, x):
        start, key, following = x
        if given and not fixed:
            c = wall_rows(c, Time(start, 0.5 * dt[key], level[key]))
        a = of(matrix, key)
        c = (jnp.matmul(a[0], c[0], precision=lax.Precision.HIGHEST)[None] if s == 1
             else jnp.matmul(a, c, precision=lax.Precision.HIGHEST))
        if keep is not None:                                   # the second half of this step and the first one of the next
            c = of(keep, key) * of(keep, following) * c
        return c, None

    def block(c, x):
        return lax.scan(interval, c, x)

    def period(carry, x):
        f, total = carry
        start, key = x
        c = jnp.zeros((s, size, columns), f.dtype)
        c = c.at[:, :n].set(jnp.swapaxes((f.reshape(-1, n) * volume).reshape(s, columns, n), 1, 2))
        if given:
            c = wall_rows(c, Time(start[0], 0.5 * dt[key[0]], level[key[0]]))
        if source is not None:
            c = c.at[:, n + 3 + given].set(1.0)
        first = jnp.sum(c[:, :n], axis=1)
        if keep is not None:
            c = of(keep, key[0]) * c
        rest = start, key, jnp.append(key[1:], jnp.asarray(dt.size, key.dtype))
        whole = key.size // _BLOCK
        if whole > 1:
            cut, rest = (jax.tree.map(lambda a, i=i: a[i], rest) for i in (slice(whole * _BLOCK), slice(whole * _BLOCK, None)))
            cut = jax.tree.map(lambda a: a.reshape(whole, _BLOCK), cut)
            c, _ = lax.scan(jax.checkpoint(block, prevent_cse=False), c, cut)
        if rest[1].size:
            c, _ = block(c, rest)
        f = (jnp.swapaxes(c[:, :n], 1, 2).reshape(-1, n) / volume).reshape(f.shape)
        sums = {"lower": -c[:, n], "upper": -c[:, n + 1]}
        for k, name in enumerate(names):
            sums[name.rpartition(".")[2]] += c[:, n + 3 + r + k]
        lost = c[:, n + 2]
        if keep is not None:                                   # what is split off: the change that the matrices did not make
            lost = lost + first - jnp.sum(c[:, :n], axis=1) + c[:, n + 3 + 2 * r]
        sums = {f"{axis.name}.{k}": v for k, v in sums.items()} | {"loss": -lost}
        sums["source"] = c[:, n + 3 + r + given] if source is not None else jnp.zeros_like(lost)
        total = {k: total[k] + jnp.sum(weight * v.reshape(-1)) for k, v in sums.items()}
        return (f, total), (f, total, jnp.all(jnp.isfinite(f)))

    f = jnp.asarray(f, matrix.dtype)
    total = {k: jnp.zeros((), f.dtype) for k in (f"{axis.name}.lower", f"{axis.name}.upper", "loss", "source")}
    carry, outs = (f, total), []
    body = jax.checkpoint(period, prevent_cse=False)
    for start, key in groups:
        carry, out = lax.scan(body, carry, (jnp.asarray(start, float), jnp.asarray(key)))
        outs.append(out)
    f_out, budget, finite = jax.tree.map(lambda *x: jnp.concatenate(x), *outs)
    code = jnp.where(jnp.all(finite), 0, _NOT_FINITE)
    return f_out, budget, jnp.maximum(code, jnp.where(jnp.max(states["fault"]) > 0, _LEVELS_DIFFER, 0)).astype(jnp.int32)


def _unchanging(wall):
    """Whether a wall's value depends on time at all."""
    found = drivers(wall)
    return is_steady(wall) and is_constant(wall) and (bool(found) or not callable(wall))


_prepare, _advance = jax.jit(prepare), jax.jit(advance)


def _whole(problem, f, groups, level, dt):
    return _advance(problem, f, groups, _prepare(problem, level, dt), level, dt)
