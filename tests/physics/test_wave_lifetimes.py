import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rbamlib.models.tau.chorus import G2012
from rbamlib.models.tau.hiss import O2016
from scipy.integrate import quad

from jaxbelt.coefficients import Series, function
from jaxbelt.physics.chorus import Gu2012, chorus_power, chorus_rate
from jaxbelt.physics.drivers import kp_series, read_kp
from jaxbelt.physics.hiss import Orlova2016, hiss_rate
from jaxbelt.physics.losses import BeltLifetime, local_time
from jaxbelt.physics.plasmapause import Plasmapause

DAY = 86400.0
MLT = np.array([0.0, 3.0, 5.99, 6.0, 12.0, 17.99, 18.0, 23.9])


fast_hiss = jax.jit(hiss_rate, static_argnames="outside")
fast_chorus = jax.jit(chorus_rate, static_argnames="outside")


def finite(tree):
    return all(np.all(np.isfinite(x)) for x in jax.tree.leaves(tree))


def mev(t, L):
    """Energy at fixed mu, 1 MeV at L = 5."""
    return (5.0 / L) ** 2


# hiss

def test_hiss_agrees_with_rbamlib():
    L = np.linspace(1.5, 5.5, 41)[:, None, None, None]
    E = np.logspace(-3, 1, 41)[:, None, None]
    kp = np.array([0.0, 1.3, 4.0, 6.0, 9.0])
    theirs = O2016(MLT[:, None], L, E, kp) / DAY
    ours = 1.0 / fast_hiss(L, E, kp, MLT[:, None], outside="extrapolate")
    valid = np.isfinite(theirs)                                # not below f(L), where rbamlib has NaN
    assert 0.5 < valid.mean() < 1.0
    np.testing.assert_allclose(np.asarray(ours)[valid], theirs[valid], rtol=1e-9)
    np.testing.assert_allclose(Orlova2016(kp=2.0, energy=1.0)(0.0, 4.0, np.pi), 3.18691942310974, rtol=1e-12)


def test_hiss_averages_the_rate_over_the_drift():
    mean, _ = quad(lambda mlt: float(fast_hiss(4.0, 1.0, 3.0, mlt)), 0.0, 24.0, epsabs=0, epsrel=1e-10)
    np.testing.assert_allclose(hiss_rate(4.0, 1.0, 3.0), mean / 24.0, rtol=1e-9)
    # 782.3 in the paper is the mean of its own 10^(...), so the average has g = 1
    g_noon = 10.0 ** (-0.007338 * 144 + 0.1773 * 12 + 2.080) / 782.3
    np.testing.assert_allclose(hiss_rate(4.0, 1.0, 3.0), hiss_rate(4.0, 1.0, 3.0, 12.0) / g_noon, rtol=1e-5)
    tau = Orlova2016(kp=3.0, energy=1.0)
    phi = np.linspace(0, 2 * np.pi, 2000, endpoint=False) + np.pi / 2000
    np.testing.assert_allclose(np.mean(tau.rate(0.0, 4.0, phi)), tau.rate(0.0, 4.0), rtol=1e-6)


@pytest.mark.parametrize("args, message", [
    ((1.4, 1.0), "Orlova2016 L = 1.4 is outside the model's range, 1.5 to 5.5"),
    ((4.0, 20.0), "Orlova2016 energy = 20 MeV is outside"),
    ((2.0, 0.5), r"Orlova2016 energy = 0.5 MeV at L = 2 is below the model's range there, 1.058 to 10 MeV; .*'nearest'"),
])
def test_hiss_outside_its_range(args, message):
    with pytest.raises(ValueError, match=message):
        hiss_rate(*args, 2.0)
    with pytest.raises(ValueError, match=message):
        Orlova2016(kp=2.0, energy=args[1])(0.0, args[0])
    L, E = args
    L, E = np.clip(L, 1.5, 5.5), np.clip(E, 1e-3, 10.0)
    E = max(E, 10 ** (0.1328 * L**2 - 2.1463 * L + 3.7857))
    np.testing.assert_allclose(hiss_rate(*args, 2.0, outside="nearest"), hiss_rate(L, E, 2.0), rtol=1e-6)
    assert np.isfinite(hiss_rate(*args, 2.0, outside="extrapolate"))


# chorus

def chorus_days(L, E, mlt, kp):
    with np.errstate(divide="ignore"):
        return 1.0 / np.asarray(fast_chorus(L, E, kp, mlt))


def test_chorus_agrees_with_rbamlib():
    # rbamlib divides B_w^2 by 57.6 instead of 57.6^2 (pT), and puts its branch at Kp = 2 instead of 2+
    L = np.linspace(3.0, 10.0, 29)[:, None, None, None]
    E = np.array([1e-3, 2e-3, 9.999e-3, 1e-2, 0.03, 0.0999, 0.1, 0.25, 0.3999, 0.4, 0.7, 2.0])[:, None, None]
    kp = np.array([0.0, 1.0, 5 / 3, 2.0, 8 / 3, 4.0, 6.0])
    # its values are drift averages of one side; where MLT is resolved the rate is twice that in the twelve hours of the side
    theirs = 57.6 * G2012(MLT[:, None], L, E, kp) / DAY
    ours = 2 * chorus_days(L, E, MLT[:, None], kp)
    scattered = np.isfinite(theirs)
    np.testing.assert_allclose(ours[scattered], theirs[scattered], rtol=1e-6)
    # the rest is the nightside above 0.1 MeV: no loss
    night = np.broadcast_to((MLT[:, None] < 6) | (MLT[:, None] >= 18), theirs.shape) & np.broadcast_to(E >= 0.1, theirs.shape)
    np.testing.assert_array_equal(~scattered, night)
    assert np.all(np.isinf(ours[night]))


def test_chorus_wave_power():
    # the reference amplitude is the one at Kp = 4, so that tau = 4 tau_0 there
    np.testing.assert_allclose(np.sqrt(chorus_power(4.0)), 57.6, rtol=3e-4)
    thirds = np.arange(0, 19) / 3.0
    published = 2.0 * 10.0 ** np.where(thirds < 2.4, 0.73 + 0.91 * thirds, 2.5 + 0.18 * thirds)
    np.testing.assert_allclose(chorus_power(thirds), published, rtol=1e-12)
    tau_0 = -0.1697 / 5 + 3.9861 / 25 + 0.1233 + 0.0264 - 2.4348 / 5 + 13.9174 / 25
    np.testing.assert_allclose(chorus_days(5.0, 1.0, None, 4.0), 4 * tau_0 * 57.6**2 / chorus_power(4.0), rtol=1e-12)
    # about a day for 1 MeV at L = 5 in a disturbed time, as the rule 3/Kp days has it (0.75 d)
    assert 0.5 < chorus_days(5.0, 1.0, None, 4.0) < 2.0


def test_chorus_averages_day_and_night():
    for E in (0.005, 0.05, 0.5):
        tau = Gu2012(kp=3.0, energy=E)
        phi = (np.arange(48) + 0.5) * np.pi / 24
        np.testing.assert_allclose(np.mean(tau.rate(0.0, 6.0, phi)), tau.rate(0.0, 6.0), rtol=1e-12)
    # only the dayside scatters at 0.5 MeV: in its half of the orbit twice the drift average
    np.testing.assert_allclose(2 * tau.rate(0.0, 6.0), tau.rate(0.0, 6.0, np.pi), rtol=1e-12)


def test_chorus_outside_its_range():
    for L, E, message in ((2.9, 0.5, "Gu2012 L = 2.9 is outside the model's range, 3 to 10"),
                          (5.0, 3.0, "Gu2012 energy = 3 MeV is outside the model's range, 0.001 to 2 MeV")):
        with pytest.raises(ValueError, match=message):
            Gu2012(kp=2.0, energy=E)(0.0, L)
        nearest = Gu2012(kp=2.0, energy=E, outside="nearest")(0.0, L, np.pi)
        np.testing.assert_allclose(nearest, chorus_days(max(L, 3), min(E, 2), 12.0, 2.0), rtol=1e-12)
    wide = fast_chorus(np.linspace(1.0, 12.0, 23)[:, None], np.logspace(-5, 2, 29), 9.0, 12.0, outside="extrapolate")
    assert np.all(np.isfinite(wide)) and np.all(wide > 0.0)
    with pytest.raises(ValueError, match="Gu2012 outside: 'clip' is unknown"):
        Gu2012(kp=2.0, energy=1.0, outside="clip")
    with pytest.raises(ValueError, match="Orlova2016 kp = 20"):
        Orlova2016(kp=20.0, energy=1.0)


# both

@pytest.mark.parametrize("model, L", [(Orlova2016, 4.5), (Gu2012, 6.0)])
def test_gradients_agree_with_differences(model, L):
    energies = np.array([0.005, 0.01, 0.05, 0.1, 0.3, 0.4, 1.0])

    @jax.jit
    def f(kp, E, L, log_tau):
        return jnp.sum(jnp.log(model(kp=kp, energy=E, log_tau=log_tau).rate(0.0, L, 3.0)))

    at, h = (3.1, energies, L, 0.2), 1e-7
    slopes = jax.grad(f, argnums=(0, 1, 2, 3))(*at)
    assert finite(slopes) and np.isclose(slopes[3], -7.0)
    for k in (0, 2):
        up, down = ([x + s * h * (i == k) for i, x in enumerate(at)] for s in (1, -1))
        np.testing.assert_allclose(slopes[k], (f(*up) - f(*down)) / (2 * h), rtol=1e-6)
    # in energy from above: an edge belongs to the bin above it
    rate = jax.jit(lambda E: jnp.log(model(kp=3.1, energy=E).rate(0.0, L, 3.0)))
    step = 1e-6 * energies
    np.testing.assert_allclose(slopes[1], (rate(energies + step) - rate(energies)) / step, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("model, L", [(Orlova2016, np.linspace(2.5, 5.5, 7)), (Gu2012, np.linspace(3.0, 10.0, 7))])
def test_energy_and_kp_may_vary(model, L):
    kp = kp_series([2.0, 5.0])
    tau = model(kp=kp, energy=function(lambda t, L: (5.0 / L) ** 1.5, steady=True), outside="nearest")
    phi = np.linspace(0, 6, 5)
    read = jax.jit(lambda x: x(2e4, L[:, None], phi))
    late = np.asarray(tau(2e4, L[:, None], phi))
    assert late.shape == (7, 5)
    single = model(kp=5.0, energy=(5.0 / L[:, None]) ** 1.5, outside="nearest")
    np.testing.assert_allclose(read(tau), late, rtol=1e-12)
    np.testing.assert_allclose(read(single), late, rtol=1e-12)
    np.testing.assert_allclose(read(single.replace(log_tau=np.log(2.0))), 2 * late, rtol=1e-12)
    f32 = single.replace(kp=np.float32(5.0), log_tau=np.float32(0), energy=np.float32(1.0))
    f64 = single.replace(energy=1.0)
    small = f32(jnp.float32(0), L[2:4].astype(np.float32), np.float32(3.0))
    np.testing.assert_allclose(small, f64(0.0, L[2:4], 3.0), rtol=5e-3)


def test_local_time():
    np.testing.assert_allclose(local_time(np.array([0.0, np.pi, -np.pi / 2, 5 * np.pi])), [0.0, 12.0, 18.0, 12.0], atol=1e-12)


# the belt

L = np.linspace(1.5, 9.0, 61)


def test_belt_is_hiss_inside_and_chorus_outside():
    kp = kp_series([2.0, 4.0, 1.0])
    tau = BeltLifetime(kp=kp, energy=function(mev, steady=True))
    t, phi = 1.5 * 10800.0, np.pi
    lpp = 5.6 - 0.46 * 4.0
    np.testing.assert_allclose(tau.plasmapause(t), lpp)
    inside, outside = L < lpp - 0.1, L > lpp + 0.1
    table = {"kp": 4.0, "energy": mev(0, L), "outside": "nearest"}
    rate = jax.jit(lambda x, *where: x.rate(t, L, *where))
    loss = rate(tau, phi)
    np.testing.assert_allclose(loss[inside], rate(Orlova2016(**table), phi)[inside], rtol=1e-12)
    np.testing.assert_allclose(loss[outside], rate(Gu2012(**table), phi)[outside], rtol=1e-12)
    scaled = rate(tau.replace(log_tau_in=np.log(3.0), log_tau_out=np.log(0.5)), phi)
    np.testing.assert_allclose(scaled[inside], loss[inside] / 3.0, rtol=1e-12)
    np.testing.assert_allclose(scaled[outside], loss[outside] / 0.5, rtol=1e-12)
    middle = tau.rate(t, lpp, phi)
    hiss, chorus = (m(kp=4.0, energy=mev(0, lpp), outside="nearest").rate(t, lpp, phi) for m in (Orlova2016, Gu2012))
    np.testing.assert_allclose(middle, 0.5 * (hiss + chorus), rtol=1e-12)
    np.testing.assert_allclose(BeltLifetime(kp=2.0, energy=1.0)(0.0, np.array([4.0, 5.0])), [5.76666, 6.450875], rtol=1e-6)


def test_belt_takes_any_lifetime_and_plasmapause():
    plain = BeltLifetime(kp=3.0, inside=10.0, outside=Series([0.0, 10.0], [1.0, 0.5]), lpp=4.0, width=0.0)
    np.testing.assert_allclose(plain(20.0, np.array([3.0, 3.999, 4.001, 6.0])), [10.0, 10.0, 0.5, 0.5])
    assert np.isinf(plain.replace(inside=np.inf)(0.0, 3.0))
    far = BeltLifetime(kp=3.0, energy=1.0, inside=np.inf, lpp=Plasmapause(kp=3.0, model="obrien2003"))
    np.testing.assert_allclose(far.plasmapause(0.0), 4.61)
    assert np.isinf(far(0.0, 4.5)) and np.isfinite(far(0.0, 4.75))
    with pytest.raises(ValueError, match="BeltLifetime energy: hiss and chorus need the energy"):
        BeltLifetime(kp=3.0)


def test_belt_gradients_and_one_compilation():
    kp, phi = kp_series([2.0, 6.0, 1.0]), np.array([0.5, 3.0])
    tau, t = BeltLifetime(kp=kp, energy=1.0), 1.5 * 10800.0
    traced = []

    @jax.jit
    def total(x):
        traced.append(1)
        return jnp.sum(x.rate(t, L[:, None], phi))

    gradient = jax.grad(total)(tau)
    assert finite(gradient) and gradient.kp.values[1] != 0.0 and gradient.kp.values[2] == 0.0
    h = 1e-6
    for name in ("log_tau_in", "log_tau_out", "width", "energy"):
        x = getattr(tau, name)
        slope = (total(tau.replace(**{name: x + h})) - total(tau.replace(**{name: x - h}))) / (2 * h)
        np.testing.assert_allclose(getattr(gradient, name), slope, rtol=1e-6)
    up, down = (tau.replace(kp=Series(kp.t, kp.values + s * h * np.eye(3)[1])) for s in (1, -1))
    np.testing.assert_allclose(gradient.kp.values[1], (total(up) - total(down)) / (2 * h), rtol=1e-6)
    assert len(traced) == 1


def test_a_real_storm_stays_finite(shared_data):
    kp = read_kp(shared_data / "kp_1958_2023.txt", "2013-03-15", "2013-03-21", epoch="2013-03-16")
    tau = BeltLifetime(kp=kp, energy=function(mev, steady=True))
    t = np.arange(0.0, 5 * DAY, 7200.0)
    loss = np.asarray(jax.jit(jax.vmap(lambda s: tau.rate(s, L[:, None], np.linspace(0, 6, 7))))(t))
    # between a year (hiss on multi-MeV electrons near the planet) and minutes
    assert np.all(np.isfinite(loss)) and np.all(loss >= 0.0) and loss.max() < 100.0
    belt = (L > 4.5) & (L < 6)
    mean = 1.0 / np.mean(loss[:, belt], axis=(1, 2))
    quiet, storm = np.median(mean), mean[(t > 1.3 * DAY) & (t < 2 * DAY)].mean()
    assert storm < 1.5 < quiet < 60.0
