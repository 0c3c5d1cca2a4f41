"""`peers`: one problem by jaxbelt and by other codes, in turn, with the error of each beside its time.

Radial diffusion D_LL = d0 L^4 between L = 1 and 7 with f = 0 at both walls: f_t = L^2 d_L(L^-2 D_LL d_L f), of which
sin(lam (1 - 1/L)) exp(-d0 lam^2 t), lam = pi/(1 - 1/7), is an exact solution. All get as many cells (or nodes) and, where they
take steps, the same steps; the error is the largest difference from the exact f at the end, relative to its peak then. What a
code does only once (building matrices that last, compiling) does not count for any of them.
"""

from __future__ import annotations

import ctypes
import dataclasses
import importlib.util
import math
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxbelt.benchmarks.timing import FULL, QUICK, Loop, Table, spread, timed

__all__ = ["part", "peers", "Setting", "Peer", "MISSING"]

L1, L2, D0 = 1.0, 7.0, 1e-3                         # D0 in 1/day
LAM = math.pi / (1 / L1 - 1 / L2)
MISSING = 'not importable; install: pip install "jaxbelt[bench]"'


@dataclasses.dataclass(frozen=True)
class Setting:
    """cells of a line, days, steps of a run; lines of the batches."""

    cells: int = 200
    days: float = 60.0
    steps: int = 120
    lines: int = 512

    @property
    def dt(self) -> float:
        return self.days / self.steps


@dataclasses.dataclass(frozen=True)
class Peer:
    """call(n) does n steps of `lines` lines; steps_a_call: how many steps of the setting one of those is; error: of one run."""

    call: Callable
    lines: int
    scheme: str
    error: float
    steps_a_call: float = 1.0


def exact(L, days=0.0):
    """The decaying sine."""
    return np.sin(LAM * (1 / L1 - 1 / np.asarray(L))) * math.exp(-D0 * LAM**2 * days)


def error(f, L, days) -> float:
    """Largest error relative to the peak at that time."""
    return float(np.max(np.abs(np.asarray(f) - exact(L, days))) / math.exp(-D0 * LAM**2 * days))


def _jaxbelt(set: Setting, lines: int, kind: str) -> Peer:
    """kind: "shared" or "own" factors, or "anew": factored in every step, as spacepy's kernel does."""
    from jaxbelt import drift_diffusion, radial_diffusion
    from jaxbelt.benchmarks.problems import clock
    from jaxbelt.grid import Axis, Grid

    radial = drift_diffusion.grid(L=(L1, L2), cells=set.cells, spacing="linear")
    prm = drift_diffusion.Parameters(dll=radial_diffusion.PowerLaw(d0=D0, power=4.0))
    problem = drift_diffusion.problem(radial, prm, inner=0.0, outer=0.0)
    dt = 86400.0 * set.dt
    (one,) = problem.flows(problem, clock(), dt)
    grid = Grid((radial["L"], Axis.nodes("line", np.arange(lines))))
    flow = dataclasses.replace(one, up=one.up[:, None] * jnp.ones((1, lines if kind != "shared" else 1)))
    now = clock()
    f0 = jnp.asarray(exact(radial["L"].centers))[:, None] * jnp.ones((1, lines))

    def advance(f, flow, state):
        return flow.advance(grid, state, f, now, jnp.asarray(dt))[0]

    if kind == "anew":
        def step(f, flow):
            # the rates depend on f in their last digit at most: no compiler can factor once for all steps
            flow = dataclasses.replace(flow, up=flow.up * (1 + 1e-18 * f[:1]))
            return advance(f, flow, flow.prepare(grid, jnp.asarray(dt)))

        loop = Loop(step, f0, flow)
    else:
        loop = Loop(advance, f0, flow, jax.jit(lambda flow: flow.prepare(grid, jnp.asarray(dt)))(flow))
    return Peer(loop, lines, "TR-BDF2, positive", error(loop(set.steps)[:, 0], radial["L"].centers, set.days))


def _spacepy(set: Setting) -> Peer:
    """`spacepy.lib.solve_cn`, the C kernel of its radial diffusion, through ctypes; it builds its matrix in every call."""
    from spacepy import lib

    pointer = ctypes.POINTER(ctypes.c_double)
    L = np.linspace(L1, L2, set.cells)
    h = L[1] - L[0]
    kept = [np.ascontiguousarray(a) for a in (exact(L), L, D0 * (L - h / 2) ** 4, D0 * (L + h / 2) ** 4, np.zeros(L.size))]
    f, nodes, low, high, source = (a.ctypes.data_as(pointer) for a in kept)
    given = f, nodes, low, low, high, high, ctypes.c_double(set.dt), ctypes.c_int(L.size), source
    solve = lib.solve_cn

    def call(n):
        kept[0][:] = exact(L)
        for _ in range(n):
            solve(*given)
        return kept[0]

    return Peer(call, 1, "Crank-Nicolson, C", error(call(set.steps), L, set.days))


def _matrices(set: Setting):
    """Centers, and the bands of V^-1 A of the conservative scheme on them (`solve_banded` order)."""
    faces = np.linspace(L1, L2, set.cells + 1)
    centers, volume = 0.5 * (faces[1:] + faces[:-1]), 1 / faces[:-1] - 1 / faces[1:]
    x = np.concatenate([[L1], centers, [L2]])
    # conductance 1/integral of L^2/D = 1/(D0 L^2) between the points: exact for a power law
    up = D0 / (1 / x[:-1] - 1 / x[1:])
    bands = np.zeros((3, set.cells))
    bands[0, 1:], bands[1], bands[2, :-1] = -up[1:-1] / volume[:-1], (up[1:] + up[:-1]) / volume, -up[1:-1] / volume[1:]
    return centers, bands


def _crank_nicolson(set: Setting, solver, scheme) -> Peer:
    centers, bands = _matrices(set)
    half = 0.5 * set.dt * bands
    solve = solver(half)

    def call(n):
        f = exact(centers)
        for _ in range(n):
            b = f - half[1] * f
            b[:-1] -= half[0, 1:] * f[1:]
            b[1:] -= half[2, :-1] * f[:-1]
            f = solve(b)
        return f

    return Peer(call, 1, scheme, error(call(set.steps), centers, set.days))


def _banded(set: Setting) -> Peer:
    from scipy.linalg import solve_banded

    def solver(half):
        left = half.copy()
        left[1] += 1.0
        return lambda b: solve_banded((1, 1), left, b, check_finite=False)

    return _crank_nicolson(set, solver, "Crank-Nicolson, gtsv anew")


def _splu(set: Setting) -> Peer:
    from scipy.sparse import diags, identity
    from scipy.sparse.linalg import splu

    def solver(half):
        matrix = identity(set.cells) + diags([half[2, :-1], half[1], half[0, 1:]], [-1, 0, 1])
        return splu(matrix.tocsc()).solve

    return _crank_nicolson(set, solver, "Crank-Nicolson, factored once")


def _fipy(set: Setting) -> Peer:
    words, sys.argv = sys.argv, sys.argv[:1]                  # FiPy reads the command line
    try:
        from fipy import CellVariable, DiffusionTerm, ExplicitDiffusionTerm, Grid1D, TransientTerm
    finally:
        sys.argv = words
    mesh = Grid1D(nx=set.cells, dx=(L2 - L1) / set.cells) + ((L1,),)
    centers, faces = mesh.cellCenters.value[0], mesh.faceCenters[0]
    f = CellVariable(mesh=mesh, value=exact(centers))
    f.constrain(0.0, mesh.facesLeft)
    f.constrain(0.0, mesh.facesRight)
    weight, D = CellVariable(mesh=mesh, value=1 / centers**2), D0 * faces**2
    implicit, explicit = (TransientTerm(coeff=weight) == term(coeff=D) for term in (DiffusionTerm, ExplicitDiffusionTerm))
    equation = implicit + explicit

    def call(n):
        f.setValue(exact(centers))
        for _ in range(n):
            equation.solve(var=f, dt=set.dt)
        return f.value

    return Peer(call, 1, "Crank-Nicolson", error(call(set.steps), centers, set.days))


def _py_pde(set: Setting) -> Peer:
    from pde import PDE, CartesianGrid, ScalarField, ScipySolver

    grid = CartesianGrid([[L1, L2]], set.cells)
    centers = grid.axes_coords[0]
    equation = PDE({"f": f"{D0} * (x**4 * laplace(f) + 2 * x**3 * d_dx(f))"}, bc={"value": 0})
    start = ScalarField(grid, exact(centers))
    # as adaptive as it comes; tolerances that leave the error to the grid
    solver = ScipySolver(equation, method="LSODA", lband=1, uband=1, rtol=1e-6, atol=1e-9)
    advance = solver.make_stepper(start, dt=set.dt)

    def call(n):
        for _ in range(n):
            state = start.copy()
            found = advance(state, 0.0, set.days)
        return found[0].data if isinstance(found, tuple) else state.data

    return Peer(call, 1, "LSODA, adaptive", error(call(1), centers, set.days), set.steps)


def _available(*modules) -> bool:
    return all(importlib.util.find_spec(m) is not None for m in modules)


def peers(set: Setting, names=None) -> dict:
    """{name: `Peer`, or why there is none}."""
    makers = {
        "jaxbelt, one line": ((), lambda: _jaxbelt(set, 1, "shared")),
        f"jaxbelt, {set.lines} lines, shared factors": ((), lambda: _jaxbelt(set, set.lines, "shared")),
        f"jaxbelt, {set.lines} lines, own factors": ((), lambda: _jaxbelt(set, set.lines, "own")),
        f"jaxbelt, {set.lines} lines, factored anew": ((), lambda: _jaxbelt(set, set.lines, "anew")),
        "spacepy solve_cn": (("spacepy",), lambda: _spacepy(set)),
        "scipy solve_banded": (("scipy",), lambda: _banded(set)),
        "scipy splu": (("scipy",), lambda: _splu(set)),
        "FiPy": (("fipy",), lambda: _fipy(set)),
        "py-pde": (("pde",), lambda: _py_pde(set)),
    }
    out = {}
    for name, (needed, make) in makers.items():
        if names is not None and name not in names:
            continue
        if not _available(*needed):
            out[name] = MISSING
            continue
        try:
            out[name] = make()
        except (ImportError, AttributeError, TypeError, OSError) as problem:      # another version of it
            out[name] = f"could not be used: {' '.join(str(problem).split())[:120]}"
    return out


def part(quick: bool = False, names=None) -> list[Table]:
    """us a line and step of each, its error, and the ratio to spacepy's kernel (to the first where that is missing)."""
    set = Setting(cells=12, steps=6, lines=3) if quick else Setting()
    made = peers(set, names)
    there = {k: p for k, p in made.items() if isinstance(p, Peer)}
    taken = timed({k: p.call for k, p in there.items()}, QUICK if quick else dataclasses.replace(FULL, least=1))
    each = {k: taken[k].busy / (p.lines * p.steps_a_call) for k, p in there.items()}
    base = "spacepy solve_cn" if "spacepy solve_cn" in there else next(iter(there))
    rows = []
    for name, peer in made.items():
        row = {"code": name}
        if name in there:
            row |= {"scheme": peer.scheme} | taken[name].row(1e6 / (peer.lines * peer.steps_a_call), "us") | {"error": peer.error}
            row |= {"ratio": each[base] / each[name]}
        else:
            row["scheme"] = peer
        rows.append(row)
    columns = (("code", "code", "{:40s}"), ("scheme", "scheme", "{:30s}"), ("us", "us a line and step", "{:18.3f}"),
               *spread("{:9.3f}"), ("ratio", "times faster", "{:12.3g}"),
               ("error", "error", "{:9.1e}"))
    title = f"radial diffusion D = d0 L^4, {set.cells} cells, {set.days:g} days in {set.steps} steps"
    return [Table(title, columns, rows, (f"times faster: than {base}, a line and step, in busy time",
                                         "error: of a run, relative to its peak",
                                         "py-pde: time of a run over the steps of the others"))]
