"""Measured distributions: bins, units, fill values, files, errors from the scatter in time."""

import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from jaxbelt.constants import LIGHT_SPEED
from jaxbelt.distributions import TimeSeries, distribution, pitch_angle_edges, read_cdf
from jaxbelt.physics.invariants import psd_of_flux

pytestmark = pytest.mark.plain

E = np.geomspace(10.0, 1e4, 12)
EDGES = np.linspace(0.0, np.pi, 7)
F = (E[:, None] ** -2.0) * (1.0 + 0.1 * np.cos(np.arange(6)))
HOPE = np.array([4.5, 18, 36, 54, 72, 90, 108, 126, 144, 162, 175.5])


def hope_file():
    path = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data" / "rbspa_hope_l3_20121201.cdf"
    if not path.is_file():
        pytest.skip("needs rbspa_hope_l3_20121201.cdf of ../shared/data, which is not part of the package")
    pytest.importorskip("cdflib")
    return path


# ---- bins, units

def test_edges_of_bins():
    np.testing.assert_allclose(np.rad2deg(pitch_angle_edges(np.deg2rad(HOPE))), [0, *range(9, 172, 18), 180], atol=1e-9)
    np.testing.assert_allclose(np.rad2deg(pitch_angle_edges(np.deg2rad(np.arange(3.0, 180, 6)))), np.arange(0, 181, 6), atol=1e-9)
    np.testing.assert_allclose(pitch_angle_edges([0.5, 1.0, 2.0]), [0.25, 0.75, 1.5, 2.5])       # half-way; no bins tile 0 to pi
    for bad in (HOPE, [1.0], [1.0, 0.5], [0.1, np.nan], []):
        with pytest.raises(ValueError, match="in radians"):
            pitch_angle_edges(bad)


def test_velocity_and_cosine():
    d = distribution(E, edges=EDGES, f=F)
    gamma = 1.0 + 1e-6 * E / 0.51099895
    np.testing.assert_allclose(d.v, LIGHT_SPEED * np.sqrt(gamma ** 2 - 1.0), rtol=1e-7)
    np.testing.assert_allclose(d.width.sum(), 2.0, rtol=1e-14)
    assert d.xi_edges[0] == 1.0 and (np.diff(d.xi) < 0).all()
    proton = distribution(E, edges=EDGES, f=F, species="proton")
    np.testing.assert_allclose(float(proton.v[0]), np.sqrt(2 * 10 * 1.602176634e-19 / 1.67262192369e-27), rtol=1e-6)


@pytest.mark.parametrize("per, factor", [("eV", 1e3), ("keV", 1.0), ("MeV", 1e-3)])
def test_flux_becomes_phase_space_density(per, factor):
    """m^2 j/(2E) at low energy: 1 /(cm^2 s sr keV) at 1 keV is 1.616e-25 s^3/m^6."""
    d = distribution(E, edges=EDGES, flux=F, sigma=0.1 * F, per=per)
    f = factor * F * np.asarray(psd_of_flux(1.0, 1e-6 * E, units="velocity relativistic"))[:, None]
    np.testing.assert_allclose(d.f, f, rtol=1e-6)
    np.testing.assert_allclose(d.sigma, 0.1 * d.f, rtol=1e-12)
    one = distribution([1e2, 1e3, 2e3, 3e3], edges=EDGES, flux=np.ones((4, 6))).f[1, 0]
    joule_flux = 1e4 / (1e3 * 1.602176634e-19)
    np.testing.assert_allclose(one, 9.1093837e-31 ** 2 * joule_flux / (2 * 1e3 * 1.602176634e-19), rtol=2e-3)


def test_zero_counts_are_data_and_masked_values_are_not_seen():
    f = F.copy()
    f[3, 2], f[5, 1], f[6, 0] = 0.0, -1e31, np.nan
    mask = (np.abs(f) < 1e30) & np.isfinite(f)
    d = distribution(E, edges=EDGES, f=f, mask=mask, sigma=0.1)
    assert d.valid[3, 2] and d.f[3, 2] == 0.0 and not d.valid[5, 1] and d.f[5, 1] == 0.0
    assert np.isfinite(d.f).all() and np.isfinite(d.sigma).all() and (d.sigma > 0).all()
    cut = d.between(20.0, 2000.0)
    assert cut.energy[0] > 20 and cut.energy[-1] < 2000 and cut.f.shape == (len(cut.energy), 6) == cut.valid.shape
    with pytest.raises(ValueError, match="0 energies between 1 and 2 eV; the distribution covers 10 to 10000"):
        d.between(1.0, 2.0)


def bad(i, j, value):
    f = F.copy()
    f[i, j] = value
    return f


@pytest.mark.parametrize("kw, message", [
    (dict(f=bad(2, 1, -1e31)), r"f\[2, 1\] = -1e\+31 at 35.11.* eV, 45 deg \(1.*: a fill or negative value; .*mask="),
    (dict(f=bad(2, 1, -1e-9)), r"f\[2, 1\] = -1e-09 .*negative"),
    (dict(flux=bad(0, 5, np.nan)), r"flux\[0, 5\] = nan at 10 eV, 165 deg"),
    (dict(f=F, sigma=0.0), r"sigma\[0, 0\] = 0 at 10 eV, 15 deg \(72 of 72 values\): a standard error is above 0"),
    (dict(f=F, sigma=np.ones(5)), "mask and sigma must have the shape"),
    (dict(f=F[:, :3]), r"f: has shape \(12, 3\), but there are 12 energies and 6 pitch-angle bins"),
    (dict(), "give either f .* or flux"),
    (dict(f=F, flux=F), "give either f .* or flux"),
    (dict(flux=F, per="J"), "per: 'J' is unknown"),
    (dict(f=F, edges=np.rad2deg(EDGES)), "in radians"),
    (dict(f=F, edges=None), "either pitch_angle"),
    (dict(f=F, energy=E[::-1]), "energy: four or more values .* increasing"),
    (dict(f=F, energy=E - 10.0), "above 0 and increasing"),
    (dict(f=F, energy=[]), "energy: four or more"),
])
def test_mistakes_are_named(kw, message):
    arguments = dict(energy=E, edges=EDGES) | kw
    with pytest.raises(ValueError, match=message) as error:
        distribution(arguments.pop("energy"), **arguments)
    assert "\n" not in str(error.value)


# ---- files

def write(path, flux, energy, *, unit="s!E-1!Ncm!E-2!Nster!E-1!NkeV!E-1!N", energy_unit="eV", names=None, order=(1, 2)):
    """A small file as HOPE's: (time, pitch angle, energy), or with `order` (2, 1) energy first, as other missions do."""
    cdfwrite = pytest.importorskip("cdflib.cdfwrite")
    epoch = pytest.importorskip("cdflib.epochs").CDFepoch
    flux_name, energy_name, angle_name, epoch_name = names or ("FEDU", "HOPE_ENERGY_Ele", "PITCH_ANGLE", "Epoch_Ele")
    file = cdfwrite.CDF(str(path), delete=True)
    times = epoch.compute_epoch([[2013, 3, 17, 0, k, 0, 0] for k in range(len(flux))])

    def var(name, kind, data, dims, vary, **attributes):
        spec = {"Variable": name, "Data_Type": kind, "Num_Elements": 1, "Rec_Vary": vary, "Dim_Sizes": list(dims)}
        file.write_var(spec, var_attrs={k: v for k, v in attributes.items()}, var_data=data)

    var(epoch_name, 31, np.asarray(times), (), True)
    var(angle_name, 44, np.asarray(HOPE, np.float32), (len(HOPE),), False)
    var(energy_name, 44, np.asarray(energy, np.float32), (energy.shape[-1],), energy.ndim == 2, UNITS=energy_unit)
    depend = {f"DEPEND_{k}": (angle_name, energy_name)[i - 1] for k, i in enumerate(order, start=1)}
    data = np.asarray(flux, np.float32).transpose(0, *order)
    var(flux_name, 44, data, data.shape[1:], True, UNITS=unit, FILLVAL=np.float32(-1e31), DEPEND_0=epoch_name, **depend)
    file.close()
    return path


def spectra(times=3, n=11):
    energy = np.geomspace(10.0, 1e4, n)
    flux = 1e6 * energy ** -1.0 * (1.0 + 0.1 * np.arange(11))[:, None] * (1.0 + np.arange(times))[:, None, None]
    flux[:, [0, -1]] = -1e31
    return flux, energy


def test_a_file_like_hope(tmp_path):
    flux, energy = spectra()
    flux[1, 5, 3] = 0.0
    s = read_cdf(write(tmp_path / "hope.cdf", flux, energy))
    assert len(s) == 3 and s.quantity == "flux" and s.per == "keV" and "82% valid" in repr(s)
    assert s.times[1] == np.datetime64("2013-03-17T00:01")
    np.testing.assert_allclose(np.where(s.valid, s.value, 0), np.where(flux > -1, flux, 0).swapaxes(1, 2), rtol=1e-6)
    assert s.valid[1, 3, 5] and not s.valid[:, :, [0, -1]].any() and s.valid[:, :, 1:-1].all()
    d = s.record(0, relative=0.1)
    f = flux[0, 4, 2] * psd_of_flux(1.0, 1e-6 * energy[2], units="velocity relativistic")
    np.testing.assert_allclose(d.f[2, 4], f, rtol=1e-5)
    assert len(s.between("2013-03-17T00:01", "2013-03-17T00:02")) == 1
    with pytest.raises(ValueError, match="no spectrum from 2014"):
        s.between("2014-01-01", "2014-01-02")


def test_other_missions_by_the_names_of_their_variables(tmp_path):
    """Energy before pitch angle, keV, decreasing, energies that change in time, s^3/cm^6, eV/(cm^2 s sr eV): the same f."""
    flux, energy = spectra()
    reference = read_cdf(write(tmp_path / "a.cdf", flux, energy)).record(1).f
    names = ("mms1_des_pad", "mms1_des_energy", "mms1_des_pa", "Epoch")
    arguments = dict(zip(("flux", "energy", "pitch_angle", "epoch"), names))
    table = np.broadcast_to(1e-3 * energy[::-1], (3, 11))
    s = read_cdf(write(tmp_path / "b.cdf", flux[:, :, ::-1], table, energy_unit="keV", names=names, order=(2, 1)), **arguments)
    np.testing.assert_allclose(s.record(1).f, reference, rtol=1e-5)
    there = np.where(flux > -1, flux, 0.0)
    eflux = read_cdf(write(tmp_path / "c.cdf", there * energy * 1e-3, energy, unit="eV/(cm^2 s sr eV)"))    # keV/keV = eV/eV
    assert (eflux.quantity, eflux.per) == ("energy flux", "eV")
    np.testing.assert_allclose(eflux.record(1).f, reference, rtol=1e-5)
    psd = there * 1e-12 * np.asarray(psd_of_flux(1.0, 1e-6 * energy, units="velocity relativistic"))
    dense = read_cdf(write(tmp_path / "d.cdf", psd, energy, unit="s^3/cm^6"))
    assert dense.quantity == "psd"
    np.testing.assert_allclose(dense.record(1).f, reference, rtol=1e-5)
    odd = write(tmp_path / "e.cdf", flux, energy, unit="counts")
    with pytest.raises(ValueError, match="FEDU: its unit 'counts' is not recognised; give quantity="):
        read_cdf(odd)
    np.testing.assert_allclose(read_cdf(odd, quantity="flux").record(1).f, reference, rtol=1e-5)
    with pytest.raises(ValueError, match="quantity: 'density' is unknown"):
        read_cdf(odd, quantity="density")


def test_a_wrong_file_is_named(tmp_path):
    flux, energy = spectra()
    path = write(tmp_path / "hope.cdf", flux, energy)
    for kw, message in [
        (dict(flux="FESA"), r"hope.cdf: has no variable 'FESA' \(flux=\); it has Epoch_Ele, FEDU, HOPE_ENERGY_Ele, PITCH_ANGLE"),
        (dict(energy="ENERGY"), r"no variable 'ENERGY' \(energy=\)"),
        (dict(epoch="PITCH_ANGLE"), "not a variable of times"),
        (dict(flux="HOPE_ENERGY_Ele"), r"'HOPE_ENERGY_Ele' has shape"),
        (dict(energy="FEDU"), r"'FEDU' \(energy=\) has shape"),
        (dict(energy_unit="J"), "energy_unit: 'J'"),
        (dict(edges=[0.0, 90.0, 180.0]), "bin by pitch angle first"),
    ]:
        with pytest.raises(ValueError, match=message) as error:
            read_cdf(path, **kw)
        assert "\n" not in str(error.value)
    (tmp_path / "text.cdf").write_text("no CDF at all, but long enough to be looked at" * 20)
    with pytest.raises(ValueError, match="is not a CDF file"):
        read_cdf(tmp_path / "text.cdf")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_cdf(tmp_path / "nothing.cdf")
    with pytest.raises(ValueError, match="nothing but fill"):
        read_cdf(write(tmp_path / "fill.cdf", np.full_like(flux, -1e31), energy))


# ---- the mean over time

def series(value, valid=None, energy=E):
    t = len(value)
    return TimeSeries(np.datetime64("2013-03-17") + np.arange(t), np.broadcast_to(energy, (t, len(energy))), EDGES, value,
                      np.ones(value.shape, bool) if valid is None else valid, quantity="psd", per="keV", species="electron",
                      label="x")


def test_the_error_of_the_mean():
    """sigma is the scatter of the mean in many repetitions: with a level that varies, with records that are correlated."""
    rng, t = np.random.default_rng(0), 60
    level = np.exp(0.7 * np.sin(np.arange(t) / 4.0))[:, None, None]                 # common to all bins of a record

    def repeat(memory):
        z = rng.normal(size=(t, 12, 6))
        for k in range(1, t):
            z[k] = memory * z[k - 1] + np.sqrt(1 - memory ** 2) * z[k]
        return series(level * F * (1.0 + 0.1 * z)).mean()

    for memory, low, high in ((0.0, 0.9, 1.1), (0.5, 0.85, 1.25)):
        many = [repeat(memory) for _ in range(60)]
        f, sigma = np.array([d.f for d in many]), np.array([d.sigma for d in many])
        # the level common to an energy's bins says nothing on the anisotropy: judge the shape
        shape = f / f.mean(axis=2, keepdims=True)
        spread, said = shape.std(axis=0), (sigma / f).mean(axis=0) * np.sqrt(5 / 6)
        assert low < (said / spread).mean() < high, (memory, (said / spread).mean())
    s = series(level * F * (1.0 + 0.1 * rng.normal(size=(t, 12, 6))))
    whole = s.mean(common_level=False)
    assert (whole.sigma > 8.0 * s.mean().sigma).all()                # the level's own scatter, slow: 0.5 and correlated
    np.testing.assert_allclose(whole.f, 1e12 * F * level.mean(), rtol=0.1)


def test_what_the_mean_leaves_out():
    rng = np.random.default_rng(1)
    value = rng.poisson(4.0, size=(20, 12, 6)).astype(float)
    valid = np.ones(value.shape, bool)
    valid[:, :, 0] = False                                          # a bin of fill
    valid[2:, 3, 1] = False                                         # too few records
    value[:, 5, 2] = 0.0                                            # no count in 20 records: no error from scatter
    value[~valid] = np.nan
    d = series(value, valid).mean()
    assert not d.valid[:, 0].any() and not d.valid[3, 1] and d.valid[3, 2:].all() and not d.valid[5].any()
    assert d.valid.sum() == 12 * 5 - 1 - 5 and jnp.isfinite(d.f).all()
    value[4, 4, 4] = -1.0
    with pytest.raises(ValueError, match="-1 at .*bin 4: negative, no fill value"):
        series(value, valid).mean()
    with pytest.raises(ValueError, match="needs three valid ones"):
        series(value[:2], valid[:2]).mean()
    with pytest.raises(ValueError, match="no spectrum is left of 20"):
        series(value).select(np.zeros(20, bool))


def test_energy_tables_and_combined_channels():
    value = np.broadcast_to(F, (6, 12, 6)).copy()
    s = series(value)
    s.energy = np.where((np.arange(6) == 2)[:, None], 1.3 * E, E)
    with pytest.raises(ValueError, match="the energies change in time; same_energies"):
        s.mean()
    assert len(s.same_energies()) == 5
    merged = series(value).merge_energies(2)
    assert merged.value.shape == (6, 6, 6)
    np.testing.assert_allclose(merged.energy[0], np.sqrt(E[::2] * E[1::2]))
    np.testing.assert_allclose(merged.value[0], 0.5 * (F[::2] + F[1::2]))


# ---- the real file

def test_hope_on_1_december_2012():
    s = read_cdf(hope_file())
    assert s.value.shape == (100, 72, 11) and s.quantity == "flux" and s.per == "keV"
    assert s.times[0].astype("datetime64[D]") == np.datetime64("2012-12-01")
    assert not s.valid[:, :, [0, -1]].any() and s.valid[:, :, 1:-1].all()
    np.testing.assert_allclose(np.rad2deg(s.edges), [0, *range(9, 172, 18), 180], atol=1e-4)
    np.testing.assert_allclose([s.energy[0, 0], s.energy[0, -1]], [14.98, 51768], rtol=1e-3)
    same = s.same_energies()
    assert len(same) == 80                                          # 20 spectra have another table of energies
    d = same.merge_energies(2).mean()
    assert d.f.shape == (36, 11) and d.valid.sum() == 36 * 9 and 0.002 < (d.sigma / np.where(d.valid, d.f, np.inf)).max() < 0.3
