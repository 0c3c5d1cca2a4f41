"""The flows of the foliated equation, term by term: coefficients on cells and faces (see `jaxbelt.equations.foliated`)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxbelt.coefficients import evaluate, is_steady
from jaxbelt.equations._foliated_closing import Closing
from jaxbelt.equations._foliated_grid import coordinates, energy, energy_cap, geometry, live, spread, wall
from jaxbelt.flows import Advection, LineDiffusion, Sheared
from jaxbelt.flows.weights import fitted_drift

__all__ = ["along_p", "bounce_stream", "on_grid", "parallel", "radial", "shear", "turning_rate"]

_FAST = 15.0


def on_grid(grid, value, t):
    """An array, or a function of (t, l, v, theta, psi, mu) at the cells."""
    return evaluate(value, t, *coordinates(grid)) if callable(value) else jnp.asarray(value)


def shear(grid, rho):
    """theta displacement rho q B p = rho q v that straightens the noise of D_par."""
    at = geometry(grid)
    return rho * spread(grid, at.q * at.B) * grid.centers("p")


def bounce_stream(grid, planet, temperature):
    """(stream function -G(H) on the corners of (chi, p), weight F(H) or None), G' = F s; see `Transport`.

    s = 1, but (E_1/E_par)^(1/2) where the parallel energy at the equator is above E_1 = 15: such particles follow their orbits,
    no faster than those of E_1, so that the few fast ones do not make the substeps short for all.
    """
    edge = wall(grid)[:, None]
    faces = grid["chi"].faces[None, :]
    at = geometry(grid, chi="faces")
    # beyond the surface the field of the surface goes on: what enters the planet is removed, and no step need be small for it
    beyond = np.abs(faces) > edge
    last = np.take_along_axis(at.B, np.argmax(faces >= edge * (1 - 1e-12), axis=1)[:, None], axis=1)
    B = np.where(beyond, last, at.B)[None, :, :, None]
    H = 0.5 * (B * grid.faces("p").reshape(1, 1, 1, -1)) ** 2 + grid["mu"].centers[:, None, None, None] * B
    floor = grid["mu"].centers[:, None, None, None] * (grid["psi"].centers ** 3)[:, None, None]
    # an absorbing planet needs no closed box: what is faster than p_max leaves
    cap = energy_cap(grid)[:, :, None, None] - floor if planet == "reflecting" else np.inf
    if temperature is not None:
        cap = np.minimum(cap, 16.0 * temperature)              # beyond, exp(-H/T) is nothing, and differs too much across a cell
    e = np.minimum(H - floor, cap)
    if planet == "reflecting":
        e = np.where((np.abs(faces) >= edge * (1 - 1e-12))[None, :, :, None], cap, e)
    weight = None
    if temperature is None:
        stream = -(np.minimum(e, _FAST) + 2.0 * (np.sqrt(_FAST * np.maximum(e, _FAST)) - _FAST))
    else:
        stream = temperature * np.exp(-e / temperature)
        corners = [stream[..., a:a - 1 or None, b:b - 1 or None] / temperature for a in (0, 1) for b in (0, 1)]
        inside = (energy(grid)[..., 0] if grid.ndim == 5 else energy(grid)) - floor
        whole = np.minimum.reduce(corners) > 1.001 * np.exp(-cap / temperature)
        weight = np.where(whole, np.exp(-inside / temperature), sum(corners) / 4)
    if grid.ndim == 5:
        stream, weight = stream[..., None], None if weight is None else weight[..., None]
    return stream, weight


def radial(problem, t):
    """Diffusion in psi with the weight (r_cyl B)^(1 - 2 alpha), and the drift C_psi; what enters the planet is lost."""
    prm, grid, plan = problem.parameters, problem.grid, problem.plan
    psi, h = grid["psi"], float(grid["psi"].measure[0])
    at, ends = geometry(grid), geometry(grid, psi="faces")
    alpha = evaluate(prm.alpha, t)
    log_w, log_end = ((1.0 - 2.0 * alpha) * np.log(x.r_cyl * x.B) for x in (at, ends))
    half = 0.5 * (evaluate(prm.D_perp, t) if prm.D_perp is not None else 0.0)
    above = live(grid)
    both = above[1:] & above[:-1]
    last = above[:-1] & ~above[1:]                             # the planet lies above the cell, at psi = 1 - chi^2
    gap = np.clip(1.0 - grid["chi"].centers[None, :] ** 2 - psi.centers[:-1, None], 0.05 * h, h)

    def faced(a):                                              # (psi faces, chi) -> all axes
        return a.reshape((1,) + a.shape + (1,) * (grid.ndim - 3))

    g = half * jnp.where(both, 1.0 / h, 0.0)
    drift = g * (log_w[1:] - log_w[:-1])
    walls, surface = [], half * np.where(last, 1.0 / gap, 0.0) if plan.planet == "absorbing" else None
    for k, f, kind, sign in ((0, 0, plan.outer, 1.0), (-1, -1, plan.inner, -1.0)):
        open_ = above[k] & (kind != "reflecting")
        gw = half * jnp.where(open_, 2.0 / h, 0.0)
        walls.append((gw, gw * sign * (log_w[k] - log_end[f]), open_))
    g = faced(jnp.concatenate([walls[0][0][None], g, walls[1][0][None]]))
    drift = faced(jnp.concatenate([walls[0][1][None], drift, walls[1][1][None]]))
    if prm.C_psi is not None:
        inside = np.concatenate([walls[0][2][None], both, walls[1][2][None]])
        l_, v = spread(grid, ends.l), spread(grid, ends.B) * grid.centers("p")
        edges = grid.faces("psi")
        u = evaluate(prm.C_psi, t, l_, v, edges, grid.centers("mu"))
        drift = drift + jnp.where(faced(inside), u, 0.0)
    up, down = fitted_drift(g, drift)
    loss = None
    if surface is not None and np.any(last):
        # absorbed at the surface: the drift of the weight over the gap decides the rate
        slope = (1.0 - 2.0 * alpha) * jnp.asarray(at.a[:-1] * gap)
        rate = fitted_drift(jnp.asarray(surface), surface * slope)[0] / h
        loss = faced(jnp.concatenate([rate, jnp.zeros((1, rate.shape[1]))]))
    steady = is_steady(prm.D_perp, prm.alpha, prm.C_psi)
    return LineDiffusion(axis="psi", up=up, down=down, loss=loss, lower=problem.boundary.get("outer"),
                         upper=problem.boundary.get("inner"), steady=steady,
                         method="exponential" if steady and prm.C_psi is None else "tr-bdf2")


def along_p(problem, t):
    """Drifts along p (and chi) that are no bounce motion: the alpha drift, friction without D_par, the user's C_l, C_v, C_psi."""
    prm, grid = problem.parameters, problem.grid
    at, out, k = geometry(grid), [], None
    if prm.D_perp is not None:
        k = (0.5 - evaluate(prm.alpha, t)) * evaluate(prm.D_perp, t) * spread(grid, at.c)
    steady = is_steady(prm.D_perp, prm.alpha)
    if prm.gamma is not None and prm.D_par is None and not isinstance(prm.gamma, Closing):
        gamma = evaluate(prm.gamma, t)
        k = gamma * np.ones_like(spread(grid, at.c)) if k is None else k + gamma
        steady = steady and is_steady(prm.gamma)
    if k is not None:
        out.append(Advection(axis="p", rate=k, steady=steady))
    drifts = (prm.C_l, prm.C_v, prm.C_psi)
    if any(c is not None for c in drifts):
        # chi' = B (C_l - q C_psi), p' = [C_v - p (B_l C_l + B_psi C_psi)]/B, B_psi at constant l
        steady = is_steady(*drifts)

        def given(c, where, p):
            if c is None:
                return 0.0
            return evaluate(c, t, spread(grid, where.l), spread(grid, where.B) * p, grid.centers("psi"), grid.centers("mu"))

        p = grid.faces("p")
        c_l, c_v, c_psi = (given(c, at, p) for c in drifts)
        push = c_v - p * (spread(grid, at.B_l) * c_l + spread(grid, at.B_psi_at_l) * c_psi)
        out.append(Advection(axis="p", speed=push / spread(grid, at.B), steady=steady))
        if prm.C_l is not None or prm.C_psi is not None:
            on = geometry(grid, chi="faces")
            c_l, _, c_psi = (given(c, on, grid.centers("p")) for c in drifts)
            out.append(Advection(axis="chi", speed=spread(grid, on.B) * (c_l - spread(grid, on.q) * c_psi), steady=steady))
    return out


def parallel(problem, t):
    """D_par with friction on lines of p, Chang-Cooper; with theta, along the direction that the noise has there."""
    prm, grid = problem.parameters, problem.grid
    if prm.D_par is None:
        return []
    closing = isinstance(prm.gamma, Closing)
    gamma = 0.0 if prm.gamma is None or closing else evaluate(prm.gamma, t)
    p = grid["p"].centers
    B2 = spread(grid, geometry(grid).B ** 2)
    g = 0.5 * evaluate(prm.D_par, t) / (B2 * grid.along("p", np.diff(p)))
    drift = -gamma * grid.along("p", 0.5 * (p[1:] + p[:-1]))
    up, down = fitted_drift(g, jnp.broadcast_to(drift, g.shape))
    axis = grid.index("p")
    pad = [(1, 1) if i == axis else (0, 0) for i in range(grid.ndim)]
    line = LineDiffusion(axis="p", up=jnp.pad(up, pad), down=jnp.pad(down, pad),
                         steady=is_steady(prm.D_par) and (closing or is_steady(prm.gamma)))
    if "theta" not in grid.names:
        return [line]
    return [Sheared(line=line, ring="theta", shift=shear(grid, prm.rho), steady=line.steady)]


def turning_rate(problem, t):
    """d theta/dt of the drift motion [1/time], broadcastable to the grid: rho (B p^2 + mu) B_psi + phi'(psi) + C_theta."""
    prm, grid = problem.parameters, problem.grid
    at, p = geometry(grid), grid.centers("p")
    rate = prm.rho * (spread(grid, at.B) * p**2 + grid.centers("mu")) * spread(grid, at.B_psi)
    if prm.potential is not None:
        psi = jnp.asarray(grid.centers("psi"))
        rate = rate + jax.jvp(lambda x: evaluate(prm.potential, t, x) * jnp.ones_like(x), (psi,), (jnp.ones_like(psi),))[1]
    if prm.C_theta is not None:
        c = coordinates(grid)
        rate = rate + evaluate(prm.C_theta, t, c.l, c.v, c.psi, c.mu)
    if prm.gamma is not None and not isinstance(prm.gamma, Closing):
        # the friction of the sheared lines brings gamma rho q v with it; that of the plain ones does not
        sign = (1.0 if prm.detailed_balance else 0.0) - (1.0 if prm.D_par is not None else 0.0)
        rate = rate + sign * evaluate(prm.gamma, t) * shear(grid, prm.rho)
    return rate
