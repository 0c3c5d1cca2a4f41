"""What the shipped cases show, against theory: drift echoes at the drift period, islands of the width that is drawn."""

import math

import numpy as np
import pytest

from jaxbelt import cases, io
from jaxbelt.cases._belt import island
from jaxbelt.cases.drift_diffusion import wall_factor
from jaxbelt.constants import EARTH, TESLA_PER_GAUSS
from jaxbelt.physics.dipole import drift_period, drift_rate, mu_of_energy
from jaxbelt.run import run

pytestmark = pytest.mark.plain

MU = float(mu_of_energy(1.0, 5.0))
K = 1.0 / (EARTH.b_e * TESLA_PER_GAUSS * EARTH.r_e**2)


def trace(L, phi, t0, t1, steps, wave, U0):
    """Bulk drift of guiding centres in the wave, by RK4: the same equations, no grid."""
    h, x = (t1 - t0) / steps, np.array([1 / L, phi])
    table = np.linspace(0.1, 0.4, 100_001)
    rates = np.asarray(drift_rate(1 / table, MU))

    def velocity(t, y):
        angle = wave["m"] * y[1] - wave["omega"] * t
        return np.array([-K * U0 * wave["m"] * np.sin(angle), np.interp(y[0], table, rates)])

    for i in range(steps):
        t = t0 + i * h
        a = velocity(t, x)
        b = velocity(t + h / 2, x + h / 2 * a)
        c = velocity(t + h / 2, x + h / 2 * b)
        d = velocity(t + h, x + h * c)
        x = x + h / 6 * (a + 2 * b + 2 * c + d)
    return 1 / x[0], x[1]


def test_island_separates_trapped_from_passing():
    for U0 in (500.0, -500.0):
        wave = island(U0, 3, 5.0, MU)
        assert wave["half_width"] == pytest.approx(25 * wave["w"])
        slope = abs(float(drift_rate(5.001, MU) - drift_rate(4.999, MU))) / 0.002
        assert wave["half_width"] == pytest.approx(10.0 * math.sqrt(500.0 * K / slope), rel=1e-5)
        centre = 0.0 if wave["sign"] > 0 else math.pi / 3
        edge = 1 / (1 / 5.0 + wave["w"] * np.array([-0.95, 0.95, -1.05, 1.05, 0.01]))
        t = 6 * wave["period"]
        _, phi = trace(edge, np.full(5, centre), 0.0, t, 4000, wave, U0)
        turned = np.abs(phi - centre - wave["omega"] / 3 * t) / (2 * np.pi / 3)
        assert np.all(turned[:2] < 0.5) and np.all(turned[2:4] > 1.0)
        # near the centre a particle is back after one period
        back, _ = trace(edge[4:], np.full(1, centre), 0.0, wave["period"], 2000, wave, U0)
        assert abs(1 / back[0] - 1 / edge[4]) < 0.02 * abs(1 / edge[4] - 0.2)


def test_ulf_resonance_follows_the_guiding_centres(tmp_path):
    words = ["grid.cells=[64,96]", "case.duration='80 min'", "output.every='40 min'", "numerics.dt='60 s'"]
    case = cases.load_case("ulf-resonance", words)
    path = run(case.problem, case.f0, t=case.t, dt=case.dt, out=tmp_path / "u.nc", attrs=case.attrs, chunk=1, progress=False)
    out = io.load(path)
    L, phi = np.broadcast_arrays(*case.problem.grid.mesh())
    wave = out.attrs["island"]
    before, _ = trace(L, phi, out.t[-1], 0.0, 160, wave, 2160.0)
    inside = (L > 4.5) & (L < 5.5)
    exact = np.exp(np.interp(before, [4.0, 6.0], np.log([1.0, 4.0])))
    error = np.abs(out.f[-1] - exact)[inside].mean() / np.abs(exact - case.f0)[inside].mean()
    assert error < 0.02
    assert wave["half_width"] == pytest.approx(0.40, abs=0.005) and wave["period"] / 3600 == pytest.approx(2.74, abs=0.01)


def test_drift_echoes_return_after_a_drift_period(tmp_path):
    period = float(drift_period(5.0, MU))
    words = ["grid.cells=[30,64]", f"case.duration='{3 * period} s'", f"output.every='{period} s'"]
    case = cases.load_case("drift-echoes", words)
    out = io.load(run(case.problem, case.f0, t=case.t, dt=case.dt, out=tmp_path / "e.nc", chunk=3, progress=False))
    i = int(np.argmin(np.abs(case.problem.grid["L"].centers - 5.0)))
    phase = np.angle((out.f[:, i] * np.exp(1j * case.problem.grid["phi"].centers)).sum(axis=-1))
    off = case.problem.grid["L"].centers[i]
    late = 2 * np.pi * (period / float(drift_period(off, MU)) - 1.0) * np.arange(4)
    assert np.max(np.abs(np.angle(np.exp(1j * (phase - phase[0] - late))))) < 0.01


def test_the_wall_has_the_mean_that_is_written():
    phi = 2 * np.pi * (np.arange(64) + 0.5) / 64
    kw = {"times": np.array([0.0, 10.0]), "log_factor": np.log([1.0, 0.01]), "amplitude": np.array([0.0, 2.0]), "peak": 0.0}
    for t, mean in ((0.0, 1.0), (5.0, 0.1), (10.0, 0.01), (20.0, 0.01)):
        value = np.asarray(wall_factor(t, phi, **kw))
        assert value.mean() == pytest.approx(mean, rel=1e-10) and float(wall_factor(t, **kw)) == pytest.approx(mean)
    assert value[0] / value[31] == pytest.approx(math.exp(4.0), rel=0.01)


def test_storm_has_the_kp_and_the_wall_that_were_asked_for():
    case = cases.load_case("storm-2013-03")
    kp, wall = case.drivers["kp"]["values"], case.drivers["outer_factor"]
    assert kp.size == 40 and kp[:3].tolist() == [3.3, 3.7, 2.7] and kp[10:16].tolist() == [6.7, 6.3, 5.7, 6.3, 6.7, 6.0]
    assert min(wall["values"]) == 0.01 and "illustrative" in wall["long_name"] and any("illustrative" in n for n in case.notes)
    assert case.problem.grid.shape == (200, 128) and case.problem.epoch.startswith("2013-03-16T00:00")
    assert case.attrs["mu_MeV_per_G"] == pytest.approx(MU)
