"""`lines`: back ends of the line solves by length, number of lines, shared or own factors, and precision.

sweep: two loops over the rows. tridiagonal: `jax.lax.linalg.tridiagonal_solve` (on a CPU LAPACK's gtsv, with pivots; it does
not keep x >= 0, factors anew at every call, and is here for comparison). dense: the inverse as a (batched) matrix product.
pallas: one kernel, where the platform compiles it. All solve the same system, prefactored where they can; b and x are (n, lines).
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxbelt import linear
from jaxbelt.benchmarks.timing import FULL, QUICK, Loop, Table, timed

__all__ = ["part", "cases", "BACKENDS"]

BACKENDS = ("sweep", "tridiagonal", "dense", "pallas")
LENGTHS, NUMBERS = (50, 200, 500), (1, 128, 2048, 16384)
_BYTES = 2**29                       # of inverses, beyond which a dense back end is not tried


def system(n, lines, shared, dtype):
    """(line, c, b): radial diffusion between closed walls, a few per cent different in every line."""
    L = np.linspace(1.0, 7.0, n + 1)
    width = 1 if shared else lines
    up = (L**4 / L**2)[:, None] * (1 + 0.05 * np.linspace(0, 1, width)) * n / 6.0
    up[[0, -1]] = 0.0                                    # or thousands of solves leave nothing to solve for
    volume = np.diff(L)[:, None] * np.ones((1, width))
    line = linear.Line(*(jnp.asarray(a, dtype) for a in (volume, up)), jnp.asarray(up, dtype))
    b = 1.0 + np.sin(np.linspace(0, 3, n))[:, None] * np.linspace(0.5, 1.0, lines)
    return line, jnp.asarray(1e-3, dtype), jnp.asarray(b, dtype)


def _tridiagonal(line, c, b):
    """x by `tridiagonal_solve` from the matrix; own systems need the lines first."""
    low, high = -c * line.up[:-1], -c * line.down[1:]
    diagonal = line.volume + c * (line.up[1:] + line.down[:-1])
    low, high = low.at[0].set(0.0), high.at[-1].set(0.0)
    right = line.volume * b
    if diagonal.shape[1] == 1:
        return lax.linalg.tridiagonal_solve(low[:, 0], diagonal[:, 0], high[:, 0], right)
    return lax.linalg.tridiagonal_solve(low.T, diagonal.T, high.T, right.T[..., None])[..., 0].T


def cases(n, lines, shared, dtype) -> dict:
    """{back end: loop of solves, or why it is not measured here}."""
    line, c, b = system(n, lines, shared, dtype)
    out = {}
    for name in BACKENDS:
        held = n * n * (1 if shared else lines) * jnp.dtype(dtype).itemsize
        if name == "pallas" and jax.default_backend() == "cpu":
            out[name] = "interpreted on a CPU"
        elif name == "dense" and held > _BYTES:
            out[name] = f"{held / 2**30:.1f} GiB of inverses"
        elif name == "tridiagonal":
            out[name] = Loop(lambda b, line, c: _tridiagonal(line, c, b), b, line, c)
        else:
            factors = jax.jit(lambda line, c, name=name: linear.factor(line, c, name))(line, c)
            out[name] = Loop(lambda b, factors: linear.solve(factors, b), b, factors)
    return out


def part(quick: bool = False) -> list[Table]:
    """A row for each length, number of lines, kind of factors and precision: us a solve of all lines, by back end."""
    effort = QUICK if quick else dataclasses.replace(FULL, rounds=3, seconds=0.02)
    rows = []
    for dtype in ("float64",) if quick else ("float64", "float32"):
        for n in (6,) if quick else LENGTHS:
            for lines in (1, 4) if quick else NUMBERS:
                for shared in (True, False):
                    if lines == 1 and not shared:
                        continue                                      # the same
                    made = cases(n, lines, shared, dtype)
                    taken = timed({k: f for k, f in made.items() if isinstance(f, Loop)}, effort)
                    rows.append(_row(n, lines, shared, dtype, made, taken))
    columns = (("dtype", "precision", "{:9s}"), ("n", "n", "{:5d}"), ("lines", "lines", "{:6d}"), ("factors", "factors", "{:8s}"),
               *((k, k, "{:12.3f}") for k in BACKENDS), ("fastest", "fastest", "{:>12s}"), ("default", "default", "{:>8s}"),
               ("cost %", "cost %", "{:7.0f}"))
    platform = jax.default_backend()
    return [Table(f"line solves on {platform}: us a line (busy time)", columns, rows,
                  ("fastest: of the back ends that keep x >= 0 (not tridiagonal); default: what `linear.default_backend` takes, "
                   "cost %: its time over the fastest's",))]


def _row(n, lines, shared, dtype, made, taken):
    row = {"dtype": dtype, "n": n, "lines": lines, "factors": "shared" if shared else "own"}
    row |= {k: 1e6 * taken[k].busy / lines if k in taken else None for k in BACKENDS}
    own = [k for k in ("sweep", "dense", "pallas") if k in taken]
    best = min(own, key=lambda k: taken[k].busy)
    default = linear.default_backend(jax.default_backend(), n, lines, shared, jnp.dtype(dtype).itemsize)
    cost = 100 * taken[default].busy / taken[best].busy if default in taken else None
    row |= {"fastest": best, "default": default, "cost %": cost}
    row["range"] = {k: [1e6 * t.least / lines, 1e6 * t.most / lines] for k, t in taken.items()}
    return row | {"not measured": {k: f for k, f in made.items() if isinstance(f, str)}}
