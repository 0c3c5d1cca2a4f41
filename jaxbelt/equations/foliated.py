r"""Inward diffusion in a dipole: the Fokker-Planck equation on the leaves of constant magnetic moment (Sato, Yoshida &
Kawazura, Eq. 15), in the coordinates (chi, p = v_par/B, theta, psi) in which its radial noise has no cross term.

    P_t = - d_chi(B^2 p P) + d_p[(B p^2 + mu) B_chi P] - rho d_theta[(B p^2 + mu) B_psi P] - phi'(psi) d_theta P
          + D_perp/2 d_psi^2 P - (1/2 - alpha) D_perp {d_psi(a P) - d_p(c p P)} + d_p(gamma p P)
          + D_par/2 [(1/B) d_p - rho q d_theta]^2 P + D_theta/2 d_theta^2 P - div(C P) + S - P/tau

See `docs/foliated.md` for the derivation.
"""

from jaxbelt.equations._foliated_grid import (  # noqa: F401
    Coordinates,
    coordinates,
    energy,
    energy_cap,
    geometry,
    grid,
    initial,
    live,
    maxwellian,
    wall,
)
