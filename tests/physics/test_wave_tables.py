"""Wave tables: read from files as PADIE writes them, refused where they cannot be used, positive wherever interpolated."""

from __future__ import annotations

import tarfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbelt.physics.wave_tables import read_wave_tables

TABLES = Path(__file__).parents[3] / "shared" / "data" / "horne_chorus_tables.tgz"
LS, RATIOS, ENERGIES = (4.0, 5.0), (2.0, 4.0), (100, 1000)
ANGLES = 30.0 + 10.0 * np.arange(6)                          # to 80 degrees, evenly up to 90


def coefficients(L, ratio, keV, degrees):
    """A tensor that is a power law in everything, its correlation linear."""
    aa = 1e-4 * L**2 * ratio * keV**-0.5 * np.exp(degrees / 40.0)                    # 1/s
    return aa, 0.5 * aa, aa**1.0


def text(L, ratio, keV, off=0.0, amplitude=100.0):
    lines = ["  some header", f"                      Wave magnetic field    {amplitude:.2f}    (pT)",
             " Pitch-Angle        Daa/p^2        Dae/E^2        Dee/E^2            Dap/p^2        Dpp/p^2     Mirror Latitude",
             "        0.0          0.0             0.0             0.0             0.0             0.0           0."]
    for k, a in enumerate(ANGLES):
        aa, ap, pp = coefficients(L, ratio, keV, a)
        ap = aa * (1 + off) ** 0.5 if off and k == 2 else ap
        lines.append(f"{a:12.5f} {aa:.9e} 0.0 0.0 {ap:.9e} {pp:.9e} 15.0")
    return "\n".join([*lines, "", "  the rest"])


def write(folder, **kw):
    for L in LS:
        for ratio in RATIOS:
            for keV in ENERGIES:
                (folder / f"fb_l{L:g}_d{ratio:g}_e{keV}.out").write_text(text(L, ratio, keV, **kw))
    return folder


def test_nodes_and_between(tmp_path):
    """Nodes come back as written; half way (in log ratio and log E) power laws are exact."""
    table = read_wave_tables(write(tmp_path)).replace(density=np.sqrt(8.0))
    assert table.amplitude == 100.0 and table.report.off == 0 and table.report.rows == 48
    alpha, energy = np.radians([30.0, 55.0, 80.0]), np.sqrt(0.1)
    got = table(0.0, alpha, energy, 4.0)
    np.testing.assert_allclose(got[0], 86400 * coefficients(4.0, np.sqrt(8.0), 1e3 * energy, np.degrees(alpha))[0],
                               rtol=1e-8)
    np.testing.assert_allclose(got[1], 0.5 * got[0], rtol=1e-8)
    np.testing.assert_array_equal(table(0.0, np.radians(29.0), 0.1, 4.0)[0], 0.0)
    # the other hemisphere: D_ap changes sign, and vanishes at 90 degrees
    up, down = (table(0.0, np.radians(x), 0.1, 4.5) for x in (70.0, 110.0))
    np.testing.assert_allclose([up[0], -up[1], up[2]], down, rtol=1e-12)
    assert abs(table(0.0, np.pi / 2, 0.1, 4.5)[1]) < 1e-12 * up[0]


def test_an_archive_holds_the_same(tmp_path):
    write(tmp_path)
    with tarfile.open(tmp_path / "tables.tgz", "w:gz") as archive:
        for file in tmp_path.glob("*.out"):
            archive.add(file, f"folder/{file.name}")
    a, b = read_wave_tables(tmp_path), read_wave_tables(tmp_path / "tables.tgz")
    np.testing.assert_array_equal(a.log_aa, b.log_aa)


def test_rows_that_are_not_quite_positive_are_counted(tmp_path):
    table = read_wave_tables(write(tmp_path, off=2e-3))
    assert table.report.off == 8 and table.report.worst == pytest.approx(2e-3, rel=1e-3)
    assert "8 not positive semi-definite, by up to 0.2 %" in str(table.report)
    aa, ap, pp = table(0.0, np.radians(ANGLES[2]), 0.1, 4.0)
    assert float(ap**2) <= float(aa * pp) * (1 + 1e-14)


@pytest.mark.parametrize("spoil, message", [
    (lambda d: write(d, off=0.02), "is not positive semi-definite: D_ap.* 1.02 times"),
    (lambda d: (write(d) / "fb_l4_d2_e100.out").unlink(), "1 of 8 tables are missing, the first L = 4"),
    (lambda d: (write(d) / "fb_l4_d2_e100.out").write_text("nothing"), "at least two rows"),
    (lambda d: (write(d) / "fb_l4_d2_e100.out").write_text(text(4, 2, 100, amplitude=50.0)), "do not say one wave amplitude"),
    (lambda d: None, "holds no wave tables"),
])
def test_tables_that_cannot_be_used(tmp_path, spoil, message):
    spoil(tmp_path)
    with pytest.raises(ValueError, match=message):
        read_wave_tables(tmp_path)


@pytest.mark.skipif(not TABLES.is_file(), reason="needs horne_chorus_tables.tgz in the folder shared/data")
def test_real_tables_stay_positive_everywhere():
    """Horne's chorus tables: every interpolated tensor is positive semi-definite; derivatives are finite, gaps included."""
    table = read_wave_tables(TABLES)
    assert table.log_aa.shape == (5, 5, 6, 90) and table.report.off > 0 and table.report.worst < 2e-3
    random = np.random.default_rng(1)
    n = 4000
    alpha, energy, L = random.uniform(0, np.pi, n), 10 ** random.uniform(-2.2, 0.7, n), random.uniform(2.3, 6.8, n)
    density = jnp.asarray(random.uniform(1.2, 11.0, n))

    def both(density):
        return table.replace(density=density)(0.0, alpha, energy, L)

    (aa, ap, pp), slopes = jax.jvp(both, (density,), (jnp.ones(n),))
    assert np.all(np.asarray(ap) ** 2 <= np.asarray(aa * pp) * (1 + 1e-12)) and np.min(aa) >= 0
    assert all(np.all(np.isfinite(x)) for x in (aa, ap, pp, *slopes)) and 0.05 < np.mean(np.asarray(aa) == 0) < 0.5
