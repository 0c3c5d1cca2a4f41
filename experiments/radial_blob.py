"""Radial noise alone, on a blob in the paper's own coordinates (l, v_par, psi), against the exact answer.

The noise moves particles along psi at fixed (chi, p): each line of the grid is diffusion in one variable, and the exact state at
any point is the start, averaged over a Gaussian in psi along that line. In (l, v, psi) the same noise is a full tensor.

    python experiments/radial_blob.py            # L1 error and minimum at 24^3 and 48^3 cells
"""

from __future__ import annotations

import argparse

import numpy as np

import jaxbelt as jb

jb.enable_x64()

from jaxbelt import field_lines, foliated  # noqa: E402

D, T = 1e-3, 1.0


def blob(l, v, psi):   # noqa: E741
    """The start: off the equator, moving, in the middle of the walls."""
    return np.exp(-0.5 * ((l - 0.3) / 0.25) ** 2 - 0.5 * ((v - 0.5) / 0.5) ** 2 - 0.5 * ((psi - 0.6) / 0.03) ** 2)


def exact(grid, t):
    """Cell averages at time t by quadrature: Gauss points in the cells, Gauss-Hermite in psi."""
    x, w = np.polynomial.legendre.leggauss(3)
    y, g = np.polynomial.hermite_e.hermegauss(16)
    g = g / g.sum()
    chi, p, psi = (grid[name] for name in ("chi", "p", "psi"))
    total = np.zeros(grid.shape[1:])
    for a, wa in zip(x, w):
        for c, wc in zip(x, w):
            at_chi = chi.centers + 0.5 * a * chi.measure
            at_psi = psi.centers + 0.5 * c * psi.measure
            for step, gs in zip(y * np.sqrt(D * t), g):
                line = np.clip(at_psi + step, 0.05, 0.95)      # the blob is nothing there
                where = field_lines.from_potential(at_chi[None, :], line[:, None], outside="extrapolate")
                B, l = np.asarray(where.B), np.asarray(where.l)   # noqa: E741
                for b, wb in zip(x, w):
                    v = B[..., None] * (p.centers + 0.5 * b * p.measure)
                    total += 0.125 * wa * wb * wc * gs * blob(l[..., None], v, line[:, None, None])
    return total


def main():
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    print(f"D_perp t = {D * T:g}; one step of the exponential")
    for n in (24, 48):
        grid = foliated.grid(psi=(0.4, 0.8), cells=(n, n, n), mu=[1.0], v_max=4.0, chi_max=0.4)
        problem = foliated.problem(grid, foliated.Parameters(D_perp=D), bounce="none", inner="reflecting", outer="reflecting",
                                   planet="reflecting")
        f = np.asarray(jb.solve(problem, exact(grid, 0.0)[None], t=[0.0, T], dt=T).f[-1, 0])
        best = exact(grid, T)
        volume = grid.volumes[0]
        error = np.sum(volume * np.abs(f - best)) / np.sum(volume * best)
        content = np.sum(volume * f) / np.sum(volume * best) - 1
        print(f"{n}^3 cells: L1 {error:.2e}, minimum {f.min():.1e}, content against the exact one {content:+.1e}")


if __name__ == "__main__":
    main()
