r"""`LabelGrid`: cells of (L, phi) times labels (alpha_ref, ln p_ref) of (mu, K), and where the labels are at each L.

The labels are equatorial pitch angle and momentum at the reference L (`physics.labels`), so that transport in (L, phi) acts at
fixed label and nothing is ever interpolated. In a dipole the measure is a product of the axes' own measures,

    dL dphi/L^2  x  T(sin alpha_ref) sin(2 alpha_ref) d(alpha_ref)  x  p_ref^2 dp_ref,

each integrated exactly over its cell. Any of L and phi may be absent: then everything is at L_ref, and averaged over phi.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from jaxbelt.constants import EARTH, Planet, Species
from jaxbelt.constants import species as as_species
from jaxbelt.grid import Axis, Grid
from jaxbelt.physics.invariants import K_of_alpha, energy_of_momentum, mu_of_momentum
from jaxbelt.physics.labels import Place, at_L, pitch_measure

__all__ = ["LabelGrid", "add_coordinates", "label_axes", "restored"]


@jax.tree_util.register_static
@dataclass(frozen=True)
class LabelGrid(Grid):
    """A `Grid` with axes ([L, [phi,]] alpha, lnp), the L that the labels belong to, and the particle's species.

    alpha [rad]: equatorial pitch angle at L_ref; lnp: ln(p c/1 MeV) at L_ref.
    """

    L_ref: float = 0.0
    species: Species = field(default_factory=lambda: as_species("electron"))

    @property
    def attrs(self) -> dict:
        """What a file must keep besides the axes, to make the grid again (`restored`)."""
        of = self.species
        return {"L_ref": float(self.L_ref), "species_mass_kg": float(of.mass), "species_charge_C": float(of.charge)}

    @property
    def L(self):
        """L of the cells, broadcastable to an array on the grid (a number on a grid without L)."""
        return self.centers("L") if "L" in self.names else np.asarray(self.L_ref)

    def place(self, L=None) -> Place:
        """alpha [rad] and ln p/p_ref of the labels at L (by default at the grid's own), and their slopes: see `labels.at_L`."""
        return at_L(self.centers("alpha"), self.L if L is None else L, self.L_ref)

    def alpha(self, L=None):
        """Equatorial pitch angle [rad] of the cells at L, (n_L, 1, n_alpha, 1) on a grid with all axes."""
        return self.place(L).alpha

    def momentum(self, L=None):
        """p c [MeV] of the cells at L."""
        return jnp.exp(self.centers("lnp") + self.place(L).log_p)

    def energy(self, L=None):
        """Kinetic energy [MeV] of the cells at L."""
        return energy_of_momentum(self.momentum(L), self.species)

    def mu(self, planet: Planet = EARTH):
        """First invariant [MeV/G] of the labels, the same at every L."""
        return mu_of_momentum(np.exp(self.centers("lnp")), self.centers("alpha"), self.L_ref, self.species, planet)

    def K(self, planet: Planet = EARTH):
        """Second invariant K [G^1/2 R_E] of the labels, the same at every L."""
        return K_of_alpha(self.centers("alpha"), self.L_ref, planet)

    def local(self, phi_too: bool = True):
        """(alpha [rad], energy [MeV], L[, phi]) of the cells: what a coefficient of local diffusion is a function of."""
        place = self.place()
        energy = energy_of_momentum(jnp.exp(self.centers("lnp") + place.log_p), self.species)
        rest = (self.centers("phi"),) if phi_too and "phi" in self.names else ()
        return (place.alpha, energy, self.L, *rest)


def label_axes(alpha, lnp) -> tuple[Axis, Axis]:
    """The axes "alpha" and "lnp" from their faces [rad], [ln(p c/1 MeV)]."""
    alpha, lnp = np.asarray(alpha, float), np.asarray(lnp, float)
    pitch = Axis.cells("alpha", alpha, unit="rad", measure=pitch_measure(alpha),
                       long_name="equatorial pitch angle at the reference L")
    # (p+^3 - p-^3)/3 as a product, so that thin cells keep their digits
    step = np.diff(lnp)
    volume = np.exp(3.0 * lnp[:-1]) * np.expm1(3.0 * step) / 3.0
    return pitch, Axis.cells("lnp", lnp, measure=volume, long_name="ln(p c/1 MeV) at the reference L")


def restored(grid: Grid, attrs: dict) -> LabelGrid:
    """The grid of labels with the axes of `grid` and the `attrs` that it left in a file."""
    species = as_species((attrs["species_mass_kg"], attrs["species_charge_C"]))
    return LabelGrid(grid.axes, grid.volume_factor, L_ref=float(attrs["L_ref"]), species=species)


def add_coordinates(dataset):
    """A Dataset of a run with what its labels are: energy [MeV] and pitch angle [deg] at L, mu [MeV/G] and K [G^1/2 R_E]."""
    axes = [Axis.nodes(x, np.asarray(dataset[x].values)) for x in ("L", "alpha", "lnp") if x in dataset.dims]
    grid = restored(Grid(tuple(axes)), dataset.attrs)
    planet = EARTH.replace(b_e=float(dataset.attrs.get("b_e_gauss", EARTH.b_e)))
    made = {"energy": (grid.energy(), "MeV", "kinetic energy of the label at L"),
            "alpha_eq": (np.degrees(grid.alpha()), "degrees", "equatorial pitch angle of the label at L"),
            "mu": (grid.mu(planet), "MeV/G", "first adiabatic invariant"),
            "K": (grid.K(planet), "G^1/2 R_E", "second invariant K = J/sqrt(8 m mu)")}
    without = {"alpha_eq": "lnp", "K": "lnp"}                # axes that a quantity does not depend on
    out = {}
    for name, (values, unit, text) in made.items():
        drop = {without.get(name), "L" if name in ("mu", "K") else None}
        names = tuple(x for x in grid.names if x not in drop)
        values = np.broadcast_to(np.asarray(values), [grid[x].n if x in names else 1 for x in grid.names])
        out[name] = (names, values.reshape([grid[x].n for x in names]), {"units": unit, "long_name": text})
    return dataset.assign_coords(out)
