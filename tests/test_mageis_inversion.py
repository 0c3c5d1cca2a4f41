"""MagEIS rates from MATLAB files: what is read, and how passes are told apart and reduced, on a file made here."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from jaxbelt.physics.mageis_files import by_pass, mageis_passes, pass_ends, read_mageis, thin

scipy_io = pytest.importorskip("scipy.io", reason="MATLAB files are read with scipy")

EPOCH = "2013-03-16"
HOUR = 3600.0
PERIOD = 9 * HOUR
ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"


def orbit(t):
    """L* of an orbit whose perigees are at 0, 9, 18 h ..."""
    return 3.4 - 2.2 * np.cos(2 * np.pi * t / PERIOD)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two days at 12 s: rate of channel k = (k + 1) (10 + 1000 (L* > 4)), three gaps, one spike."""
    folder = tmp_path_factory.mktemp("mageis")
    t = np.arange(0.0, 36 * HOUR, 12.0)
    lstar = orbit(t)
    rate = (10.0 + 1000.0 * (lstar > 4.0))[:, None] * np.arange(1, 11)
    rate[100:400, 7] = np.nan
    rate[5000] *= 1e4
    lstar[::97] = np.nan
    scipy_io.savemat(folder / "rates.mat", {"T": (735309.0 + t / 86400.0)[:, None], "Lstar": lstar[:, None],
                                            "MLT": np.mod(t / HOUR, 24)[:, None], "CountRate": rate})
    low = np.array([33, 51, 74, 102, 174, 210, 569, 1130, 1394, 1686], np.uint16)
    scipy_io.savemat(folder / "energy.mat", {"Emin": low, "Emax": low + np.uint16(100), "E": low * 1.0, "G": np.full(10, 0.01)})
    return folder / "rates.mat", folder / "energy.mat"


def test_dates_energies_and_rates_are_those_of_the_file(files):
    data = read_mageis(*files)
    assert data.dates[0] == np.datetime64("2013-03-16T00:00:00") and data.dates[300] == np.datetime64("2013-03-16T01:00:00")
    assert data.rate.shape == (10, data.dates.size) and data.band[6] == pytest.approx((0.569, 0.669))
    assert data.rate[2, 2700 // 2] == pytest.approx(3 * 1010.0) and data.factor == pytest.approx(np.full(10, 0.01))


def test_medians_of_blocks_survive_a_spike_and_need_half_the_values():
    x = np.array([[1.0, 2.0, 1e9, 3.0, 5.0, np.nan, np.nan, 4.0, np.nan]])
    assert thin(x, 3) == pytest.approx(np.array([[2.0, 4.0, np.nan]]), nan_ok=True)


def test_passes_end_at_perigees_and_apogees():
    t = np.arange(0.0, 36 * HOUR, 60.0)
    assert pass_ends(t, orbit(t))[:-1] / HOUR == pytest.approx(np.arange(0.0, 36.0, 4.5), abs=0.02)
    with pytest.raises(ValueError, match="0 of 10 are finite"):
        pass_ends(t[:10], np.full(10, np.nan))


def test_one_sample_a_pass_and_a_bin(files):
    p = mageis_passes(*files, epoch=EPOCH, channels=(6, 9), L=(2.0, 5.5), width=0.25, quiet=(0.0, 9 * HOUR))
    assert np.all(np.diff(p.t) > 0) and p.ends.size == 9 and p.rate.shape == (2, p.t.size)
    assert np.bincount(p.number) == pytest.approx(np.full(8, 14), abs=1)
    assert p.lstar == pytest.approx(orbit(p.t), abs=0.02)                # the median place is where the median time is
    assert p.rate[1] == pytest.approx(np.where(p.lstar > 4.0, 1010.0, 10.0) * 10, rel=1e-12)
    assert p.background.ravel() == pytest.approx([70.0, 100.0])          # (k + 1) 10 below L* = 4
    assert p.band[1] == pytest.approx((1.686, 1.786))


def test_bins_with_few_values_are_empty():
    t, lstar = np.arange(4.0), np.array([3.0, 3.01, 3.02, 4.0])
    out = by_pass(t, lstar, np.array([1.0, 5.0, 2.0, 7.0]), np.array([0.0, 4.0]), np.array([2.5, 3.5, 4.5]))
    assert out == pytest.approx(np.array([[2.0, np.nan]]), nan_ok=True)


def test_what_is_wrong_is_said_in_one_line(files, tmp_path):
    with pytest.raises(FileNotFoundError, match="no file .*nowhere.mat; MagEIS count rates .* with T, Lstar, MLT, CountRate"):
        read_mageis(tmp_path / "nowhere.mat", files[1])
    with pytest.raises(ValueError, match="lacks T, Lstar, MLT, CountRate .it holds Emin"):
        read_mageis(files[1], files[1])
    (tmp_path / "text.mat").write_text("no MATLAB file, only a sentence that is long enough to be taken for a header" * 4)
    with pytest.raises(ValueError, match="cannot be read as a MATLAB file"):
        read_mageis(tmp_path / "text.mat", files[1])
    with pytest.raises(ValueError, match="different numbers from 0 to 9"):
        mageis_passes(*files, epoch=EPOCH, channels=(6, 10))
    with pytest.raises(ValueError, match="no rate at L"):
        mageis_passes(*files, epoch=EPOCH, quiet=(100 * HOUR, 200 * HOUR))


# ---- the experiment, on the measured files where they are

@pytest.fixture(scope="module")
def experiment():
    missing = [f for f in ("rbspa_mageis_20130316_20130321.mat", "rbspa_mageis_energy.mat", "kp_1958_2023.txt")
               if not (DATA / f).is_file()]
    if missing:
        pytest.skip(f"{DATA} lacks {', '.join(missing)}: measured data that are not part of the package")
    spec = importlib.util.spec_from_file_location("mageis_inversion", ROOT / "experiments" / "mageis_inversion.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_spectrum_is_straight_in_the_energy(experiment):
    slope = np.array([[-2.0, 3.0]])
    level = 1.0 + slope * experiment.MIDDLES[:, None]
    energy = np.array([[0.3, 0.3], [1.0, 1.3], [2.5, 1.9]])
    assert experiment.along_energy(level, energy) == pytest.approx(1.0 + slope * energy, rel=1e-12)


def test_no_held_out_value_enters_the_start_or_the_wall(experiment, monkeypatch):
    def changed(*args, **rest):
        p = mageis_passes(*args, **rest)
        return p._replace(rate=np.where(p.t < experiment.SPLIT, p.rate, 1e9 * np.random.default_rng(0).random(p.rate.shape)))

    as_it_is = experiment.read(DATA)
    monkeypatch.setattr(experiment, "mageis_passes", changed)
    other = experiment.read(DATA)
    assert np.array_equal(as_it_is.f0, other.f0)
    assert all(np.array_equal(a.values, b.values) for a, b in zip(as_it_is.wall, other.wall))
    assert np.array_equal(as_it_is.rate[:, as_it_is.train], other.rate[:, other.train], equal_nan=True)
    assert not np.array_equal(as_it_is.rate[:, as_it_is.held], other.rate[:, other.held], equal_nan=True)
    assert not np.any(as_it_is.train & as_it_is.held) and as_it_is.train.sum() > 200 and as_it_is.held.sum() > 200
    assert np.all(np.isfinite(as_it_is.f0)) and np.all(as_it_is.f0 > 0)
    wall = np.array([s.values for s in as_it_is.wall])
    last = int(experiment.SPLIT // HOUR) + 1
    assert np.all(wall[:, last:] == wall[:, last:last + 1])              # after the split nothing new is known of it


def test_the_score_is_the_typical_factor_weighted_by_the_jacobian(experiment):
    storm = experiment.read(DATA)
    factor = np.where(storm.passes.lstar < 4.2, 2.0, 0.25)
    table, channels, bias = experiment.score(storm, storm.rate * factor, storm.held)
    assert table["accuracy"][0] == pytest.approx([100.0] * 3 + [300.0] * 3)
    assert table["rmse"][0] == pytest.approx(np.log([2.0] * 3 + [4.0] * 3))
    inner, whole = 1 / 3.0 - 1 / 4.2, 1 / 3.0 - 1 / 5.2                   # integrals of dL/L^2
    assert table["accuracy"][1] == pytest.approx((100.0 * inner + 300.0 * (whole - inner)) / whole)
    assert len(channels) == 4 and bias == pytest.approx(np.log(2.0))
