"""Order of the foliated equation along every axis, on its own and all together, in four dimensions.

    python experiments/foliated_convergence.py [AXIS ...] [--bounce remap] [--levels 3] [--figure x.png] [--json x.json]

AXIS: chi, p, psi, theta, dt, mu, all. One axis is refined by factors of two, the others stay as they are, and the finest run is
the reference; `all` halves every cell and the step at once. A smooth bump in (l, v, theta, psi) between closed walls, off the
equator and moving, with every term of the equation at work and alpha = 0.3. Errors: L1 of P averaged over the coarsest cells of
the series, and of the averages over all particles. Orders are those of the differences between neighbours, log2(d1/d2), which a
reference of finite size does not flatter.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np

import jaxbelt as jb

jb.enable_x64()

from jaxbelt import foliated  # noqa: E402
from jaxbelt.grid import Axis, Grid  # noqa: E402
from jaxbelt.physics import field_lines  # noqa: E402

PSI, CHI_MAX, P_MAX, T = (0.5, 0.7), 0.5, 24.0, 2.0
# the cells that stay as they are while another axis is refined
BASE = {"psi": 8, "chi": 24, "p": 36, "theta": 12, "dt": 0.25, "mu": None}
SERIES = {"psi": (8, 16, 32, 64), "chi": (12, 24, 48, 96), "p": (18, 36, 72, 144), "theta": (8, 16, 32),
          "dt": (0.5, 0.25, 0.125, 0.0625), "mu": (2, 4, 8)}
# finite volumes need substeps, more of them on finer cells
SMALLER = {"psi": (8, 16, 32), "chi": (12, 24, 48), "p": (18, 36, 72)}
TOGETHER = ((8, 16, 24, 0.5), (16, 32, 48, 0.25), (32, 64, 96, 0.125), (64, 128, 192, 0.0625))        # psi, chi, p, dt
PARAMETERS = dict(D_perp=1e-3, D_par=0.2, D_theta=0.1, alpha=0.3, gamma=0.3, rho=0.03)
NAMES = ("P", "N", "T_perp", "E_par", "cos")


def grid(cells):
    """Faces nested from one refinement to the next: the sinh stretching stays the same."""
    def stretched(half, n, a=2.0):
        u = np.linspace(-1.0, 1.0, n + 1)
        faces = half * np.sinh(a * u) / np.sinh(a)
        return 0.5 * (faces - faces[::-1])

    if cells["mu"] is None:
        mu = Axis.nodes("mu", [2.0])
    else:
        # Gauss-Legendre in y, mu = sinh(y)/2, as `foliated.grid` has it
        x, w = np.polynomial.legendre.leggauss(cells["mu"])
        top = np.arcsinh(2 * 12.0)
        mu = Axis.nodes("mu", 0.5 * np.sinh(0.5 * top * (1 + x)), 0.25 * top * w * np.cosh(0.5 * top * (1 + x)))
    return Grid((mu, Axis.cells("psi", np.linspace(*PSI, cells["psi"] + 1)),
                 Axis.cells("chi", stretched(CHI_MAX, cells["chi"])), Axis.cells("p", stretched(P_MAX, cells["p"])),
                 Axis.cells("theta", np.linspace(0, 2 * np.pi, cells["theta"] + 1), periodic=True)))


def bump(grid, points=4):
    """Cell averages, by Gauss points on every axis, of a Gaussian in (l, v, psi) times exp(2 cos(theta)), thermal in mu."""
    x, w = np.polynomial.legendre.leggauss(points)

    def inside(axis):
        return axis.centers[:, None] + 0.5 * np.diff(axis.faces)[:, None] * x

    psi, chi, p = (inside(grid[k]) for k in ("psi", "chi", "p"))
    at = field_lines.from_potential(chi.reshape(-1), psi.reshape(-1, 1))
    l, B = (np.asarray(a).reshape(*psi.shape, *chi.shape) for a in (at.l, at.B))     # noqa: E741
    mu = grid["mu"].centers
    across = np.exp(-0.5 * ((l - 0.1) / 0.2) ** 2 - 0.5 * ((psi[..., None, None] - 0.6) / 0.035) ** 2)
    heat = jnp.exp(-jnp.asarray(mu)[:, None, None, None, None] * (0.3 * B + 0.2))

    def slow(args):
        B, weight = args
        return jnp.einsum("g,pg->p", w / 2, jnp.exp(-0.5 * ((B * p - 0.4) / 0.6) ** 2)) * weight

    along = jax.lax.map(slow, (jnp.asarray(B).reshape(-1), jnp.asarray(across).reshape(-1)), batch_size=256)
    f = jnp.einsum("g,b,mkgcb,kgcbp->mkcp", w / 2, w / 2, heat, along.reshape(*B.shape, -1))
    ring = np.exp(2 * np.cos(inside(grid["theta"]))) @ (w / 2)
    return f[..., None] * ring


def run(cells, bounce):
    """State at T and how long it took: (grid, P, {name: average}, seconds to build, seconds to advance)."""
    g = grid(cells)
    f0 = bump(g)
    t0 = time.perf_counter()
    warnings.filterwarnings("ignore", "D_par with theta")       # the finest waves along theta are empty here
    problem = foliated.problem(g, foliated.Parameters(**PARAMETERS), inner="reflecting", outer="reflecting", planet="reflecting",
                               bounce=bounce, dt=cells["dt"])
    t1 = time.perf_counter()
    sol = jb.solve(problem, f0, t=[0.0, T], dt=cells["dt"])
    f = np.asarray(sol.f[-1])
    t2 = time.perf_counter()
    assert int(sol.result) == 0, sol.message
    assert f.min() >= 0
    a = foliated.averages(g, jnp.asarray(f))
    cos = np.sum(f * g.volumes * np.cos(g.centers("theta"))) / np.sum(f * g.volumes)
    cos /= np.sinc(0.5 / cells["theta"] * 2)                   # a cell's centre stands for the cell
    assert abs(float(a.number) / float(g.content(f0)) - 1) < 1e-11
    return g, f, {"N": float(a.number), "T_perp": float(a.T_perp), "E_par": float(a.E_par), "cos": float(cos)}, t1 - t0, t2 - t1


def coarsened(g, f, shape):
    """Content in cells coarser by whole factors, over the axes (mu, psi, chi, p, theta)."""
    content = f * g.volumes
    for k, n in enumerate(shape):
        if n != content.shape[k]:
            content = content.reshape(*content.shape[:k], n, content.shape[k] // n, *content.shape[k + 1:]).sum(k + 1)
    return content


def study(name, bounce, levels=3):
    """Rows {value, errors of NAMES against the finest, orders} of one axis, and prints them."""
    if name == "all":
        runs = [BASE | dict(zip(("psi", "chi", "p", "dt"), values)) for values in TOGETHER[:levels if bounce == "remap" else 2]]
        label = [r["psi"] for r in runs]
    else:
        label = (SERIES | (SMALLER if bounce == "finite-volume" else {}))[name]
        runs = [BASE | {name: x} for x in label]
        if name == "mu":                                      # nothing couples the leaves: the other axes may be coarse
            runs = [r | {"psi": 8, "chi": 16, "p": 24, "theta": 8} for r in runs]
        if name == "dt" and bounce == "remap":                # every remap interpolates once: cells fine enough to see the step
            runs = [r | {"chi": 48, "p": 72, "theta": 8} for r in runs]
    states, shape = [], None
    for cells in runs:
        g, f, averages, built, took = run(cells, bounce)
        shape = shape or g.shape
        states.append((coarsened(g, f, shape) if name != "mu" and all(n % m == 0 for n, m in zip(g.shape, shape)) else None,
                       averages, built, took, f.size))
        del f
    total = states[-1][1]["N"]

    def distance(a, b):
        out = {k: abs(a[1][k] - b[1][k]) / abs(total if k == "N" else b[1][k]) for k in NAMES[1:]}
        out["P"] = float(np.abs(a[0] - b[0]).sum() / total) if a[0] is not None and b[0] is not None else np.nan
        return out

    reference = states[-1]
    rows = []
    for i, s in enumerate(states):
        row = {"value": label[i], "cells": s[4], "built": s[2], "took": s[3]}
        row["error"] = distance(s, reference) if i < len(states) - 1 else None
        if i + 2 < len(states):
            d1, d2 = distance(s, states[i + 1]), distance(states[i + 1], states[i + 2])
            ratio = np.log(label[i + 1] / label[i]) / np.log(2) if name == "mu" else 1.0
            row["order"] = {k: float(np.log2(d1[k] / d2[k]) / ratio) if d1[k] > 0 and d2[k] > 0 else np.nan for k in NAMES}
        rows.append(row)
    print(f"\n{name}, {bounce}   (error against the finest; order of the differences between neighbours)")
    print(f"{name:>8s} {'cells':>10s}" + "".join(f"{k:>11s}{'':7s}" for k in NAMES) + "  tables s   run s")
    for row in rows:
        text = f"{row['value']:8g} {row['cells']:10d}"
        for k in NAMES:
            error = f"{row['error'][k]:11.2e}" if row["error"] else f"{'-':>11s}"
            order = f"{row['order'][k]:6.2f} " if "order" in row and np.isfinite(row["order"][k]) else " " * 7
            text += error + order
        print(text + f"{row['built']:9.1f}{row['took']:9.1f}", flush=True)
    return rows


def picture(results, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(name for name, _ in results))
    columns = min(4, len(names))
    fig, axes = plt.subplots(-(-len(names) // columns), columns, figsize=(3.4 * columns, 3.1 * -(-len(names) // columns)),
                             squeeze=False, layout="constrained")
    colours = dict(zip(NAMES, ("k", "0.6", "C0", "C3", "C2")))
    for ax, name in zip(axes.flat, names):
        low = []
        for (what, bounce), rows in results.items():
            if what != name:
                continue
            for k in NAMES:
                x = [r["value"] for r in rows if r["error"]]
                y = [r["error"][k] for r in rows if r["error"]]
                if k == "N" and max(y) < 1e-11 or not np.all(np.isfinite(y)):
                    continue
                ax.loglog(x, y, "o-" if bounce == "remap" else "s--", color=colours[k], ms=4, lw=1.2,
                          label=f"{k}, {bounce}")
                low += [(x[0], y[0])] if k == "P" else []
        if low and name not in ("theta", "mu"):
            x = np.array([r["value"] for r in rows if r["error"]], float)
            slope = x / x[0] if name == "dt" else x[0] / x
            ax.loglog(x, 0.4 * low[0][1] * slope**2, ":", color="0.5", lw=1, label="second order")
        ax.set_title({"all": "psi, chi, p and dt together: cells of psi", "dt": "dt [R_p/v_th]"}.get(name, f"cells of {name}"),
                     fontsize=9)
        ax.minorticks_off()
        x = [r["value"] for r in rows if r["error"]]
        ax.set_xticks(x, [f"{v:g}" for v in x])
        ax.grid(alpha=0.3)
    for ax in list(axes.flat)[len(names):]:
        ax.set_axis_off()
    handles = {}
    for ax in axes.flat:
        handles |= dict(zip(*ax.get_legend_handles_labels()[::-1]))
    fig.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    axes[0, 0].set_ylabel("relative error")
    fig.savefig(path, dpi=130)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("axes", nargs="*", default=[], help="chi p psi theta dt mu all")
    parser.add_argument("--bounce", nargs="+", default=["remap", "finite-volume"], choices=("remap", "finite-volume", "none"))
    parser.add_argument("--levels", type=int, default=3, choices=(2, 3, 4), help="of `all`; the fourth takes minutes and 2 GB")
    parser.add_argument("--figure")
    parser.add_argument("--json")
    arguments = parser.parse_args()
    names = arguments.axes or ["chi", "p", "psi", "theta", "dt", "mu", "all"]
    if bad := [x for x in names if x not in (*SERIES, "all")]:
        parser.error(f"{bad[0]!r} is not one of {', '.join(SERIES)}, all")
    results = {(name, bounce): study(name, bounce, arguments.levels) for name in names for bounce in arguments.bounce}
    if arguments.figure:
        picture(results, arguments.figure)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump([{"axis": n, "bounce": b, "rows": r} for (n, b), r in results.items()], file, indent=1)


if __name__ == "__main__":
    main()
