"""Links of a plane of cells: what the Selling weights of every cell connect, and where they meet a wall.

A cell with weight lam on the offset e gives half of lam to its link forward, i -> i + e, and half to its link backward,
i -> i - e: a link inside has the arithmetic mean of its two cells. A half link that leaves the plane meets a wall
first at the fraction t of its length (walls lie half a cell from the last centers). There it either becomes
the exchange lam/t (f_wall - f) with the value on the wall at the point of crossing, or, at a closed wall, it is dropped
and what it carried along the wall is given to the link along the wall.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxbelt.flows.selling import decompose, limit_psd

__all__ = ["Links", "Wall", "build", "exchange", "WALLS"]

WALLS = ("a.lower", "a.upper", "b.lower", "b.upper")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Wall:
    """Exchange with a wall: conductance (5, 2, strip), and where its links cross it: between `below` and `below` + 1."""

    conductance: Any
    below: Any
    above: Any
    fraction: Any
    name: str = dataclasses.field(metadata={"static": True})

    def strip(self, a):
        """The cells (..., na, nb) that can reach the wall."""
        rows, columns = self.conductance.shape[-2:]
        low = self.name.endswith("lower")
        if self.name.startswith("a"):
            return a[..., :rows, :] if low else a[..., a.shape[-2] - rows:, :]
        return a[..., :columns] if low else a[..., a.shape[-1] - columns:]

    def spread(self, strip, shape):
        """Zeros of `shape` with a strip set."""
        missing = [n - m for n, m in zip(shape, strip.shape)]
        low = self.name.endswith("lower")
        return jnp.pad(strip, [(0, m) if low else (m, 0) for m in missing])

    def gain(self, value, match=None):
        """Content per time that comes in, on the strip, for values along the wall. match: only these links (5, 2, strip)."""
        at = (1.0 - self.fraction) * value[self.below] + self.fraction * value[self.above]
        g = self.conductance if match is None else jnp.where(match, self.conductance, 0.0)
        return jnp.sum(g * at, axis=(0, 1))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Links:
    """Five weights a cell: three of the tensor, and what closed walls add to (0, 1) and (1, 0).

    p, q (5, na, nb): offsets, 0 <= p. half (5, 2, na, nb): conductance given to the link forward [0] and backward [1].
    target: flat index of the cell at the other end. walls: the open ones, by name; outflow: their sums over links (na, nb).
    """

    p: Any
    q: Any
    half: Any
    target: Any
    walls: dict
    outflow: dict


def _exits(p, q, shape, periodic):
    """For links (1, -1) * (p, q) of every cell: fraction of the length at which a wall of a or of b is met (inf: never)."""
    na, nb = shape
    i = jnp.arange(na)[:, None] + 0.5
    j = jnp.arange(nb)[None, :] + 0.5
    di, dj = jnp.stack([p, -p], axis=1), jnp.stack([q, -q], axis=1)

    def fraction(d, position, n):
        length = jnp.where(d == 0, 1, jnp.abs(d))
        t = jnp.where(d < 0, position / length, jnp.where(d > 0, (n - position) / length, jnp.inf))
        return jnp.where(t < 1, t, jnp.inf)

    ta = fraction(di, i, na)
    tb = jnp.full_like(ta, jnp.inf) if periodic else fraction(dj, j, nb)
    return di, dj, ta, tb


def build(w11, w12, w22, opened, periodic, rows, cap) -> Links:
    """Links of a plane (na, nb) from its index-space tensor. opened: names of the walls beyond which a value is given."""
    shape = w11.shape
    na, nb = shape
    w12 = limit_psd(w11, w12, w22)
    p, q, lam, used = decompose(w11, w12, w22, rows, cap)

    # closed walls: no flux means that along the wall normal gradients follow the tangential ones, so a dropped half link
    # would have carried lam/2 (e . grad f)^2 with e . grad f = (q - p w12/w11) f_y, or (p - q w12/w22) f_x
    di, dj, ta, tb = _exits(p, q, shape, periodic)
    open_a = jnp.where(di < 0, "a.lower" in opened, "a.upper" in opened)
    open_b = jnp.where(dj < 0, "b.lower" in opened, "b.upper" in opened)
    left_a, left_b = (ta < jnp.inf) & (ta <= tb), tb < ta
    slope_a = jnp.where(w11 > 0, used, 0.0) / jnp.where(w11 > 0, w11, 1.0)
    slope_b = jnp.where(w22 > 0, used, 0.0) / jnp.where(w22 > 0, w22, 1.0)
    along_b = jnp.sum(jnp.where(left_a & ~open_a, 0.5 * (lam * (q - p * slope_a) ** 2)[:, None], 0.0), axis=(0, 1))
    along_a = jnp.sum(jnp.where(left_b & ~open_b, 0.5 * (lam * (p - q * slope_b) ** 2)[:, None], 0.0), axis=(0, 1))
    zero, one = jnp.zeros((1,) + shape, p.dtype), jnp.ones((1,) + shape, p.dtype)
    p, q = jnp.concatenate([p, zero, one]), jnp.concatenate([q, one, zero])
    lam = jnp.concatenate([lam, along_b[None], along_a[None]])

    di, dj, ta, tb = _exits(p, q, shape, periodic)
    t = jnp.minimum(ta, tb)
    leaves = t < jnp.inf
    left_a = leaves & (ta <= tb)
    i, j = jnp.arange(na)[:, None] + di, jnp.arange(nb)[None, :] + dj
    to_j = jnp.mod(j, nb)
    own = jnp.arange(na * nb).reshape(shape)
    target = jnp.where(leaves, own, jnp.clip(i, 0, na - 1) * nb + to_j)
    half = jnp.where(leaves | (target == own), 0.0, 0.5 * lam[:, None])

    crossing = {"a": jnp.arange(nb)[None, :] + dj * jnp.where(leaves, t, 0.0),
                "b": jnp.arange(na)[:, None] + di * jnp.where(leaves, t, 0.0)}
    side = {"a.lower": left_a & (di < 0), "a.upper": left_a & (di > 0),
            "b.lower": leaves & ~left_a & (dj < 0), "b.upper": leaves & ~left_a & (dj > 0)}
    walls, outflow = {}, {}
    for name in opened:
        along, n = crossing[name[0]], nb if name[0] == "a" else na
        around = periodic and name[0] == "a"
        below = jnp.floor(along) if around else jnp.clip(jnp.floor(along), 0, max(n - 2, 0))
        fraction = along - below if around else jnp.clip(along - below, 0.0, 1.0)
        below = below.astype(jnp.int32)
        above = jnp.mod(below + 1, n) if around else jnp.minimum(below + 1, n - 1)
        conductance = jnp.where(side[name], lam[:, None] / jnp.where(leaves, t, 1.0), 0.0)
        reach = (min(rows, na), nb) if name[0] == "a" else (na, min(cap, nb))
        empty = Wall(jnp.zeros((1, 1) + reach), None, None, None, name)
        strip = [empty.strip(x) for x in (conductance, jnp.mod(below, n), above, fraction.astype(lam.dtype))]
        walls[name] = Wall(*strip, name)
        outflow[name] = walls[name].spread(jnp.sum(strip[0], axis=(0, 1)), shape)
    return Links(p, q, half, target.astype(jnp.int32), walls, outflow)


def exchange(links: Links, f):
    """Content per time that leaves each cell (na, nb) through its links inside the plane; sums to zero."""
    flat = f.reshape(-1)
    flow = links.half * (f - flat[links.target])
    out = jnp.sum(flow, axis=(0, 1)).reshape(-1)
    return out.at[links.target.reshape(-1)].add(-flow.reshape(-1)).reshape(f.shape)


def blocks(links: Links, rows: int, scale):
    """(entries, assemble) for `block_factor`: scale times the links, in blocks of `rows` rows (n = rows * nb cells each)."""
    half, target = lax.stop_gradient(links.half * scale), links.target
    na, nb = half.shape[-2:]
    count, n = -(-na // rows), rows * nb

    def split(a):
        a = jnp.pad(a, [(0, 0)] * 2 + [(0, count * rows - na), (0, 0)])
        return jnp.moveaxis(a.reshape(a.shape[:2] + (count, n)), 2, 0)

    half, target = split(half), split(target)
    number = jnp.arange(count)
    after = (jnp.concatenate([x[1:, :, 1], jnp.zeros_like(x[:1, :, 1])]) for x in (half, target))

    def assemble(entry):
        half, target, half_after, target_after, number = entry
        own = jnp.broadcast_to(jnp.arange(n), target.shape)
        here = jnp.where(target // n == number, half, 0.0)          # rows are contiguous: cell // n is its block
        inner = jnp.zeros((n, n), half.dtype).at[own, target % n].add(here)
        outer = jnp.zeros((n, n), half.dtype).at[own[:, 0], target[:, 0] % n].add((half - here)[:, 0])
        outer = outer.at[target_after % n, own[:, 1]].add(jnp.where(target_after // n == number, half_after, 0.0))
        return inner + inner.T, outer

    return (half, target, *after, number), assemble
