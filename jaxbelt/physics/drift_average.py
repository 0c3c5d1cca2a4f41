r"""From local transport coefficients to drift-averaged ones, and why they are not the same thing.

The radial equation (Lejosne & Albert 2023, Eq. 7) has D_LL = <(dL*)^2>/2dt of the third invariant, over times long against a
drift period. The drift-resolved equation (Eq. 27) has D_LL, D_Lphi, D_phiphi at each (L, phi) (Eq. 28), over times short against
it. The two D_LL share a name only. They are related by what a particle meets along its drift:

1. Noise that forgets within a small part of a drift (correlation time << drift period). F settles on drift shells, and
       D_LL (Eq. 7) = average of D_LL (Eq. 27) over the drift phase,
   with the time spent, d phi/phidot, as the weight: `DriftAverage`; lifetimes average as rates: `DriftAverageLifetime`.
   D_Lphi and D_phiphi drop out on circular shells. The value at one local time - at the noise's maximum, or where a satellite
   was - is wrong by the ratio of that value to the mean. On shells that are not circles, all three take part: `ShellDiffusion`.
2. Noise with a memory as long as a drift. Eq. 28 then has no plateau in dt: Eq. 27 with local coefficients does not apply, and
   no average of them is the D_LL of Eq. 7. What counts is the power at the drift's harmonics: `resonant_dll`. A field of mode m
   with correlation time tau gives 1/(1 + (m Omega tau)^2) of what a particle that stood still would have.
3. Nor does Eq. 7's coefficient serve in Eq. 27: it is right for the phi-mean of F where drift is fast, and knows nothing of
   where in local time the noise is.

phi = 0 at midnight, eastward, radians; D in 1/day, rad/day, rad^2/day; rates in 1/day; phidot in rad/s.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..coefficients import evaluate, parameters, static
from ..constants import EARTH, SECONDS_PER_DAY, TESLA_PER_GAUSS, Planet
from . import losses

__all__ = ["drift_average", "DriftAverage", "DriftAverageLifetime", "Shell", "drift_shell", "ShellDiffusion", "lorentzian",
           "resonant_dll"]

_NEWTON = 12


def _phases(points):
    """Midpoints of `points` equal sectors, the cell centres of a grid with as many cells: the rule is exact for every
    harmonic below `points`."""
    return 2.0 * np.pi * (np.arange(points) + 0.5) / points


def drift_average(local, t, L, *, phidot=None, points: int = 64):
    r"""Mean of a local quantity over the drift phase on circular shells:

        <X>(t, L) = integral X(t, L, phi) d phi/|phidot| / integral d phi/|phidot|

    local: a callable of (t, L, phi), or an array whose last axis is phi (equal sectors). phidot: bulk drift [rad/s], a callable
    of (t, L, phi) or an array like local's; None: uniform, the plain mean. (A drift on circles is uniform because it is
    divergence-free; phidot that varies stands for shells that are nearly circles. `drift_shell` follows the others.)
    L: number or array; returns its shape. points: sectors; with noise confined to a sector, as many as the grid has cells.
    Raises ValueError if concrete phidot vanishes or changes sign on a shell: that is no closed drift.
    """
    L = jnp.asarray(L)
    L = L.astype(jnp.result_type(L, float))
    given = [jnp.shape(x)[-1] for x in (local, phidot) if not (callable(x) or x is None) and jnp.ndim(x)]
    phi = jnp.asarray(_phases(max(given, default=points)), L.dtype)

    def along(x):
        value = evaluate(x, t, L.reshape(-1, 1), phi)
        return jnp.broadcast_to(value, jnp.broadcast_shapes(value.shape, (L.size, phi.size)))

    if phidot is None:
        return jnp.mean(along(local), axis=-1).reshape(L.shape)
    rate = along(phidot)
    _check_closed("drift_average phidot", rate)
    return (jnp.sum(along(local) / jnp.abs(rate), axis=-1) / jnp.sum(1.0 / jnp.abs(rate), axis=-1)).reshape(L.shape)


def _check_closed(name, rate):
    """A drift that stands still or turns back is no closed shell; traced values pass."""
    if isinstance(rate, jax.core.Tracer):
        return
    rate = np.asarray(rate)
    if not (np.all(np.isfinite(rate)) and (np.all(rate > 0, axis=-1) | np.all(rate < 0, axis=-1)).all()):
        raise ValueError(f"{name}: the drift stops or turns back on a shell ({np.min(rate):.3g} to {np.max(rate):.3g} rad/s); "
                         "there is no closed drift to average over")


@parameters
class DriftAverage:
    """The drift average of a local coefficient or source, a coefficient of (t, L) itself: see `drift_average`.

    local, phidot: as there. points: static. D_LL (Eq. 7) = DriftAverage(local=D_LL of Eq. 27), for noise of short memory.
    """

    local: Any
    phidot: Any = None
    points: int = static(64)

    def __call__(self, t, L, *_):
        return drift_average(self.local, t, L, phidot=self.phidot, points=self.points)


@parameters
class DriftAverageLifetime(losses._Lifetime):
    """The lifetime [day] whose rate is the drift average of the local rate, a callable of (t, L): 1/tau = <1/tau_local>.

    local: whatever a lifetime may be (array with phi last, callable of (t, L, phi), `losses.ShadowingLifetime`, ...). A particle
    that is lost at one local time only is lost on every drift: averaging the lifetimes instead would make infinite ones win.
    phidot, points: as in `drift_average`. Infinite where no local time has a loss.
    """

    local: Any
    phidot: Any = None
    points: int = static(64)

    def rate(self, t, L, *_):
        """Loss rate [1/day]."""
        if callable(self.local) or hasattr(self.local, "rate"):
            return drift_average(_Rate(lifetime=self.local), t, L, phidot=self.phidot, points=self.points)
        return drift_average(losses.rate(self.local, t), t, L, phidot=self.phidot, points=self.points)


@parameters
class _Rate:
    lifetime: Any

    def __call__(self, t, L, phi):
        return losses.rate(self.lifetime, t, L, phi)


class Shell(NamedTuple):
    """A closed drift path. Last axis of length n: local times.

    L: of the path at phi; phi [rad]; weight: share of the drift period spent there (sums to 1); dl, dphi: gradient of L* there;
    period: time of one drift [s], without the last axis.
    """

    L: Any
    phi: Any
    weight: Any
    dl: Any
    dphi: Any
    period: Any


def drift_shell(hamiltonian, t, L, *, points: int = 64, planet: Planet = EARTH) -> Shell:
    r"""The closed drift path H(L, phi) = const with a given L*, fields taken as steady at t:

        1/L* = (1/2 pi) integral d phi/L    (Lejosne & Albert 2023, Eq. 16)

    hamiltonian: callable of (t, L, phi) -> T/q + U [V], e.g. total(KineticEnergy(...), Convection(...)). L: L*, number or array.
    Found by Newton's method from the circle L = L*, its derivatives by one more step. The rule in phi converges exponentially.
    Raises ValueError where concrete values show that the path does not close around the planet; traced values then come out
    as NaN or as a path whose `weight` is meaningless.
    """
    star = jnp.asarray(L)[..., None]
    star = star.astype(jnp.result_type(star, float))
    phi = jnp.asarray(_phases(points), star.dtype)
    scale = planet.b_e * TESLA_PER_GAUSS * planet.r_e * planet.r_e

    def slopes(h, L):
        def u(L, phi):
            return jnp.broadcast_to(evaluate(h, t, L, phi), L.shape)
        angle, one, none = jnp.broadcast_to(phi, L.shape), jnp.ones_like(L), jnp.zeros_like(L)
        value, h_l = jax.jvp(u, (L, angle), (one, none))
        return value, h_l, jax.jvp(u, (L, angle), (none, one))[1]

    def newton(h, star, L):
        value, h_l, _ = slopes(h, L)
        level = jnp.mean(value, axis=-1, keepdims=True)
        stretch = 1.0 / (h_l * L * L)
        miss = jnp.mean(1.0 / L + (value - level) * stretch, axis=-1, keepdims=True) - 1.0 / star
        step = (level - value + miss / jnp.mean(stretch, axis=-1, keepdims=True)) / h_l
        return L * jnp.clip(1.0 + step / L, 0.5, 2.0)

    fixed = jax.lax.stop_gradient((hamiltonian, star))
    start = jnp.broadcast_to(fixed[1], star.shape[:-1] + (points,))
    path = newton(hamiltonian, star, jax.lax.fori_loop(0, _NEWTON, lambda _, L: newton(*fixed, L), start))
    value, h_l, h_phi = slopes(hamiltonian, path)
    rate = path * path * h_l / scale
    _check_path(value, rate)
    time = 2.0 * jnp.pi / points / jnp.abs(rate)
    period = jnp.sum(time, axis=-1)
    per_volt = star * star * jnp.mean(1.0 / (path * path * h_l), axis=-1, keepdims=True)          # dL*/dH
    return Shell(path, phi, time / period[..., None], per_volt * h_l, per_volt * h_phi, period)


def _check_path(value, rate):
    if isinstance(value, jax.core.Tracer) or isinstance(rate, jax.core.Tracer):
        return
    value = np.asarray(value)
    tolerance = 1e-9 if value.dtype == np.float64 else 1e-4
    spread = np.ptp(value, axis=-1) / np.max(np.abs(value), axis=-1)
    if not np.all(spread <= tolerance):
        raise ValueError("drift_shell: no closed drift path was found at one of the L* (the drift there may be open); "
                         "use smaller L*, more energy or a weaker field")
    _check_closed("drift_shell", rate)


@parameters
class ShellDiffusion:
    r"""D_{L*L*} [1/day] of the radial equation from the local tensor, on drift shells of any shape, a callable of (t, L*):

        D_{L*L*} = < (dL*/dL)^2 D_LL + 2 (dL*/dL)(dL*/dphi) D_Lphi + (dL*/dphi)^2 D_phiphi >,   time average along the shell

    dll, dlphi, dphiphi: local coefficients (Eq. 27), numbers or callables of (t, L, phi), [1/day, rad/day, rad^2/day]; None: 0.
    hamiltonian, planet: as in `drift_shell`, whose errors it raises. This is what Eq. 27 becomes where F is constant along the
    shells; where they are circles it is the mean of dll over phi. points: static.
    """

    hamiltonian: Any
    dll: Any
    dlphi: Any = None
    dphiphi: Any = None
    planet: Planet = EARTH
    points: int = static(64)

    def __call__(self, t, L, *_):
        shell = drift_shell(self.hamiltonian, t, L, points=self.points, planet=self.planet)
        total = shell.dl**2 * evaluate(self.dll, t, shell.L, shell.phi)
        if self.dlphi is not None:
            total = total + 2.0 * shell.dl * shell.dphi * evaluate(self.dlphi, t, shell.L, shell.phi)
        if self.dphiphi is not None:
            total = total + shell.dphi**2 * evaluate(self.dphiphi, t, shell.L, shell.phi)
        return jnp.sum(total * shell.weight, axis=-1)


def lorentzian(omega, variance, correlation_time):
    """Power spectrum of an Ornstein-Uhlenbeck process, 2 variance tau/(1 + (omega tau)^2).

    The transform of variance exp(-|t|/tau), two-sided in angular frequency: variance = integral S d omega/2 pi. omega [rad/s],
    correlation_time tau [s].
    """
    return 2.0 * variance * correlation_time / (1.0 + (omega * correlation_time) ** 2)


def resonant_dll(spectrum, rate, modes=(1,)):
    r"""Drift-averaged D_LL [1/day] of fluctuations with any memory, from their power at the drift's harmonics:

        D_LL = (1/2) sum_m S_m(m Omega),   <Ldot(t, phi) Ldot(t + s, phi + a)> = sum_m R_m(s) cos(m a),
        S_m(omega) = integral R_m(s) exp(-i omega s) ds

    the limit of <dL^2>/2dt over many drifts at phi = phi_0 + Omega t (Falthammar 1965; Schulz & Lanzerotti 1974, Sect. III.2).
    spectrum: function of (omega [rad/s], m) -> S_m of Ldot [1/s]: two-sided, in angular frequency; half of it where the spectrum
    is one-sided in hertz. For E_phi with R_m of its own in (V/m)^2: S_m(Ldot) = (L^3/(B_E R_E))^2 S_m(E).
    rate: Omega [rad/s], drift_rate, number or array, either sign. modes: the m to sum.

    A field of mode m with variance and correlation time tau (`lorentzian`): variance tau/(1 + (m Omega tau)^2) in 1/s. The local
    value, at rest or for tau << 1/Omega, is variance tau. Brautigam & Albert (2000, Eq. 4) is m = 1 with
    variance (E L^3/(B_E R_E))^2/2 and tau = T/2.
    """
    rate = jnp.asarray(rate)
    return 0.5 * SECONDS_PER_DAY * sum(spectrum(m * rate, m) for m in modes)
