"""The table parameters.fluctuations of the belt equations: electric potential fluctuations and the diffusion they make."""

from __future__ import annotations

import numpy as np

from jaxbelt.config import Table, section

__all__ = ["KEYS", "fluctuations"]

KEYS = ("m", "density", "field", "at_L", "power", "twist", "tau_c", "phase")


def _numbers(table: Table, key: str, n: int, default=None, **limits):
    """One number for all modes, or a list of one for each."""
    if key not in table:
        return default
    if isinstance(table.get(key), list):
        return np.asarray(table.numbers(key, size=n, **limits))
    return table.number(key, **limits)


def fluctuations(prm: Table, fields: dict, mu, particle: dict, angle: bool, duration: float) -> None:
    """Add what [parameters] fluctuations say to the fields of `drift_diffusion.Parameters`: D_LL, and where there is phi D_Lphi,
    D_phiphi and the mean drift of noise with a memory. particle: species, planet and K of the drift it is felt along."""
    if "fluctuations" not in prm:
        return
    from jaxbelt.physics.dipole import KineticEnergy
    from jaxbelt.physics.electric import Corotation
    from jaxbelt.physics.potential_noise import PotentialNoise, check_duration, density_of_field
    from jaxbelt.physics.radial_diffusion import total

    table = prm.table("fluctuations", KEYS)
    m = table.integers("m", low=0) if isinstance(table.get("m"), list) else (table.integer("m", low=0),)
    n, planet = len(m), particle["planet"]
    at_L = table.number("at_L", 5.0, above=1.0)
    if ("density" in table) == ("field" in table):
        raise table.error("density", "give either density [V^2/Hz] or field [(mV/m)^2/Hz], at L = at_L")
    if "density" in table:
        S = _numbers(table, "density", n, low=0.0)
    else:
        power = _numbers(table, "field", n, low=0.0)
        if min(m) < 1:
            raise table.error("field", "is azimuthal, so m must be at least 1; give density")
        S = np.asarray(density_of_field(power, np.asarray(m), at_L, planet))
    kw = {key: _numbers(table, key, n) for key in ("power", "twist", "phase")}
    if "tau_c" in table:
        if mu is None:
            raise table.error("tau_c", "needs parameters.mu, or energy and at_L: the noise is felt along the drift")
        if "phase" in table and angle:
            raise table.error("phase", "a single pattern with tau_c gives a negative D_LL in some sector; leave one of them out")
        drift = [KineticEnergy(mu=mu, **particle)]
        if "convection" in prm and (not isinstance(prm.get("convection"), dict) or prm.get("convection").get("corotation", True)):
            drift.append(Corotation(planet=planet))
        kw |= {"tau_c": table.quantity("tau_c", "time", above=0), "kinetic": total(*drift) if len(drift) > 1 else drift[0]}
    with section(table.path):
        noise = PotentialNoise(S=S, m=m, planet=planet, reference_l=at_L, **kw)
        check_duration(noise, duration)
    made = {"dll": noise.dll, "dlphi": noise.dlphi, "dphiphi": noise.dphiphi, "potential": noise.mean_potential} if angle else \
        {"dll": noise.averaged().dll}
    for key, value in made.items():
        if value is not None:
            fields[key] = value if fields.get(key) is None else total(fields[key], value)
