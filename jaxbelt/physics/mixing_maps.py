"""One cycle of parallel mixing as a map of w = |v_par|/(sqrt(h) v_perp), the parallel speed over that at which a particle passes.

For a well with floor B0 that a barrier BT divides at x = d into region A (x < d) and region B, mu conserved, h = BT/B0 - 1:
w = sqrt((E - mu B0)/(mu (BT - B0))), trapped where w < 1. A whole cycle is a map of [0, 1] onto itself, two to one, that
preserves dw. Equation numbers: "Parallel velocity mixing yielding enhanced electron heating", J. Plasma Phys. 2021,
doi:10.1017/S0022377821000088. Two scenarios, `scenario=`:
  "floor"    the floor of A is raised to BT and lowered again, the barrier with it (Sec. 2);
  "barrier"  the barrier moves from x = d to the end of the well at x = 1 (Appendix A).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["unmix", "mix", "stripes", "correlation"]

_SCENARIOS = ("floor", "barrier")


def check(name, value, fine, must):
    """Raise ValueError, one line, where a concrete value is not `fine`; traced values pass."""
    if isinstance(value, jax.core.Tracer):
        return
    values = np.asarray(value)
    bad = ~fine(values)
    if np.any(bad):
        raise ValueError(f"mixing {name} = {float(values[bad].ravel()[0]):g}: it must be {must}")


def check_d(d):
    """ValueError unless 0 < d < 1 (traced values pass)."""
    check("d", d, lambda x: (x > 0.0) & (x < 1.0), "between 0 and 1, both excluded (x = d divides the well)")


def check_scenario(scenario, cycles=0):
    """ValueError for an unknown scenario, or cycles that are no count."""
    if scenario not in _SCENARIOS:
        raise ValueError(f"mixing scenario: {scenario!r} is unknown; use 'floor' (Sec. 2) or 'barrier' (Appendix A)")
    if isinstance(cycles, bool) or not isinstance(cycles, (int, np.integer)) or cycles < 0:
        raise ValueError(f"mixing cycles: {cycles!r} is no count of cycles; give an integer, at least 0")


def in_region_a(region):
    """True where the region is A: from its letter, or an array that is handed on."""
    if isinstance(region, str):
        if region not in ("A", "B"):
            raise ValueError(f"mixing region: {region!r} is unknown; use 'A', 'B', or an array that is True where it is A")
        return region == "A"
    return region


def root(x):
    """sqrt(x), 0 for x <= 0, with derivative 0 there."""
    some = x > 0.0
    return jnp.where(some, jnp.sqrt(jnp.where(some, x, 1.0)), 0.0)


def repeated(step, x, d, cycles):
    """`step(x, d)` repeated `cycles` times (static), at one type and shape."""
    x, d = jnp.asarray(x), jnp.asarray(d)
    x = jnp.broadcast_to(x, jnp.broadcast_shapes(x.shape, d.shape)).astype(jnp.result_type(x, d, float))
    return jax.lax.fori_loop(0, int(cycles), lambda i, x: step(x, d).astype(x.dtype), x)


def _unmix_floor(w, d):
    return jnp.where(w < 1.0 - d, w / (1.0 - d), (w - (1.0 - d)) / d)


def _unmix_barrier(w, d):
    return jnp.where(w <= d, w / d, (1.0 - w) / (1.0 - d))


def unmix(w, d, cycles=1, scenario="floor"):
    r"""w before `cycles` cycles of what has w now; w = |v_par|/(sqrt(h) v_perp), w >= 1 (passing) is unchanged.

        "floor", (2.12):   w0 = w/(1-d)  for w < 1-d,   (w-(1-d))/d  for w >= 1-d      (Bernoulli map; jumps at 1-d)
        "barrier", (A 7):  w0 = w/d      for w <= d,    (1-w)/(1-d)  for w > d         (tent map; jumps at 1, to 1)

    w, d: arrays that broadcast; cycles: an integer, static. At the jumps the derivative is that of the branch taken.
    Every w0 comes from two w, with slopes d and 1 - d: dw is preserved, and w at the end of many cycles forgets w0. Each cycle
    costs -(d log2 d + (1-d) log2(1-d)) bits (0.97 at d = 0.4): beyond some 50 (single precision: 20) only averages mean anything.
    Raises ValueError if d is not inside (0, 1), w < 0, or cycles is no count.
    """
    check_scenario(scenario, cycles)
    check_d(d)
    check("w", w, lambda x: x >= 0.0, "at least 0")
    step = _unmix_floor if scenario == "floor" else _unmix_barrier
    return repeated(lambda w, d: jnp.where(w < 1.0, step(jnp.where(w < 1.0, w, 0.0), d), w), w, d, cycles)


def mix(w0, region, d, scenario="floor"):
    r"""w after one cycle of what began with w0 in region "A" or "B" (or an array, True where it is A); inverse of `unmix`.

        "floor":   A: (1-d) + d w0,  B: (1-d) w0          "barrier":  A: d w0,  B: 1 - (1-d) w0

    w0 >= 1 (passing) is unchanged. Of the particles of one w0, a fraction d is in A and 1 - d in B.
    """
    check_scenario(scenario)
    check_d(d)
    check("w0", w0, lambda x: x >= 0.0, "at least 0")
    w0 = jnp.asarray(w0)
    if scenario == "floor":
        w = jnp.where(in_region_a(region), (1.0 - d) + d * w0, (1.0 - d) * w0)
    else:
        w = jnp.where(in_region_a(region), d * w0, 1.0 - (1.0 - d) * w0)
    return jnp.where(w0 < 1.0, w, w0)


def stripes(cycles, d, scenario="floor"):
    """Edges of the 2^cycles stripes in w after `cycles` cycles, rising from 0 to 1, shape (2^cycles + 1,).

    Inside a stripe w0 is linear in w and takes every value of [0, 1] once: integrals of a mixed distribution are sums over
    stripes. d: a number. At most 20 cycles.
    """
    check_scenario(scenario, cycles)
    check_d(d)
    if cycles > 20:
        raise ValueError(f"mixing cycles = {cycles}: 2^{cycles} stripes are too many to list; at most 20")
    edges = jnp.asarray([0.0, 1.0])
    for _ in range(cycles):
        if scenario == "floor":
            edges = jnp.concatenate([(1.0 - d) * edges, ((1.0 - d) + d * edges)[1:]])
        else:
            edges = jnp.concatenate([d * edges, (1.0 - (1.0 - d) * edges)[::-1][1:]])
    return edges


def correlation(cycles, d, scenario="floor"):
    """Correlation of w with what it was `cycles` cycles before, over particles uniform in w: the fraction of order that is left.

    "floor": (d^2 + (1-d)^2)^cycles; "barrier": (d^2 - (1-d)^2)^cycles. d = 0.4: 0.52^N and (-0.2)^N. cycles: an integer.
    """
    check_scenario(scenario, cycles)
    check_d(d)
    d = jnp.asarray(d)
    return (d**2 + (1.0 - d) ** 2 if scenario == "floor" else 2.0 * d - 1.0) ** int(cycles)
