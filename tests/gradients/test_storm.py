"""Gradients of the storm of March 2013 with everything in it, and of its drivers over a whole year."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradient_checks import belt, check

import jaxbelt as jb
from jaxbelt import drift_diffusion as dd
from jaxbelt.cases import load_case

DATA = Path(__file__).parents[3] / "shared" / "data"
HOUR = 3600.0


@pytest.mark.plain
@pytest.mark.slow
def test_storm_with_convection_waves_and_shadowing():
    """All D_LL, convection, lifetime, shadowing and driver values and both walls, through a jump of Kp as the storm arrives."""
    # turned by 0.3 h: the field that is symmetric about dawn and dusk has ties in the limiters, where there are two derivatives
    case = load_case("storm-2013-03", ["grid.cells=[16,8]", "grid.L=[3.0,7.0]", "parameters.convection.rotate=0.3"])
    _, f0 = belt((16, 8))
    # more than one substep a step, or the test would not see their loop
    assert case.problem.plan.drift * 600.0 / 0.8 > 2
    gradient = check(case.problem, f0, [32 * HOUR, 33 * HOUR, 34 * HOUR], 600.0)
    assert int(jnp.sum(gradient != 0)) > 30


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the folder shared/data with the measured drivers")
@pytest.mark.plain
def test_no_nan_in_any_coefficient_or_derivative_of_2013():
    """Every model of the library at every Kp and Dst of 2013, with derivatives in its driver and its factor."""
    drivers = jb.drivers.read_omni2(DATA / "omni2_2013.txt")
    kp = np.asarray(drivers["kp"].series(epoch="2013-01-01").values)
    dst = np.asarray(drivers["dst"].series(epoch="2013-01-01").values)[:: 3][: kp.size]
    L, phi = np.linspace(1.5, 8.0, 9)[:, None], np.linspace(0, 2 * np.pi, 5)
    energy = jb.invariants.Energy(mu=793.0)
    rd, losses = jb.radial_diffusion, jb.losses

    def everything(kp, dst, factor):
        out = [rd.BrautigamAlbert(kp=kp, log_amplitude=factor), rd.BrautigamAlbertElectric(kp=kp, mu=793.0, log_amplitude=factor),
               rd.OzekeMagnetic(kp=kp, log_amplitude=factor, outside="extrapolate"),
               rd.OzekeElectric(kp=kp, log_amplitude=factor, outside="extrapolate"),
               rd.AliMagnetic(kp=kp, log_amplitude=factor, outside="nearest"),
               rd.AliElectric(kp=kp, log_amplitude=factor, outside="nearest"),
               rd.LiuElectric(kp=kp, mu=793.0, log_amplitude=factor, outside="nearest"),
               rd.Lejosne(kp=kp, mu=793.0, log_amplitude=factor, outside="nearest"),
               jb.electric.Convection(kp=kp, log_amplitude=factor),
               losses.KpLifetime(kp=kp, log_tau_out=factor).rate,
               losses.ShadowingLifetime(l_max=jb.magnetopause.LastClosedShell(dst=dst),
                                        inside=losses.BeltLifetime(kp=kp, energy=energy, log_tau_out=factor)).rate]
        return [c(0.0, L, phi) * jnp.ones((9, 5)) for c in out]

    @jax.jit
    @jax.vmap
    def finite(kp, dst):
        value, slope = jax.jvp(everything, (kp, dst, 0.0), (1.0, 1.0, 1.0))
        return jnp.stack([jnp.all(jnp.isfinite(v)) & jnp.all(jnp.isfinite(s)) for v, s in zip(value, slope)])

    assert np.all(np.isfinite(kp)) and np.all(np.isfinite(dst)) and kp.size == dst.size == 2920
    assert np.all(finite(kp, dst[: kp.size]), axis=0).tolist() == [True] * 11
    assert jnp.all(jnp.isfinite(jax.grad(lambda k: sum(jnp.sum(x) for x in everything(k, -50.0, 0.0)))(3.0)))


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the folder shared/data with the measured drivers")
@pytest.mark.plain
def test_no_nan_in_a_run_over_2013():
    """A year of real Kp and Dst in three-hour intervals, value and gradient."""
    drivers = jb.drivers.read_omni2(DATA / "omni2_2013.txt")
    kp, dst = (drivers[k].series(epoch="2013-01-01") for k in ("kp", "dst"))
    lifetime = jb.losses.ShadowingLifetime(l_max=jb.magnetopause.LastClosedShell(dst=jb.Series(dst.t[::3], dst.values[::3])),
                                           inside=jb.losses.BeltLifetime(kp=kp, energy=jb.invariants.Energy(mu=793.0)))
    grid = dd.grid(L=(2.0, 7.0), cells=24)
    prm = dd.Parameters(dll=jb.radial_diffusion.BrautigamAlbert(kp=kp), lifetime=lifetime)
    problem = dd.problem(grid, prm, inner=0.0, outer=1.0)
    t = np.arange(0.0, 365 * 86400.0 + 1, 5 * 86400.0)

    @jax.jit
    def run(factor):
        p = prm.replace(dll=prm.dll.replace(log_amplitude=factor))
        sol = jb.solve(problem.replace(parameters=p), np.ones(24), t=t, dt=3 * HOUR)
        return jnp.sum(jnp.log(sol.f[1:] + 1e-30)), sol

    (_, sol), slope = jax.jvp(run, (0.0,), (1.0,))[0], jax.grad(lambda x: run(x)[0])(0.0)
    assert int(sol.result) == 0 and np.all(np.isfinite(sol.f)) and np.min(sol.f) >= 0 and np.isfinite(slope) and slope != 0
