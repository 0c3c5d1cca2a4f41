"""Parts, merging and reading back; what a damaged file says."""

import numpy as np
import pytest

from jaxbelt import io
from jaxbelt.config import InputError
from jaxbelt.grid import Axis, Frozen, Grid


def header(**kw):
    phi = Axis.cells("phi", np.linspace(0, 2 * np.pi, 5), unit="rad", periodic=True, long_name="longitude")
    mu = Axis.nodes("mu", [1.0, 3.0], [0.5, 2.0], unit="MeV/G")
    grid = Grid((Axis.cells("L", [2.0, 3.0, 5.0, 6.0], long_name="L"), phi, mu), Frozen(np.linspace(1, 2, 24).reshape(3, 4, 2)))
    kp = {"t": np.array([0.0, 10.0]), "values": np.array([2.0, 3.0]), "kind": "step", "units": "1", "long_name": "Kp"}
    base = {"grid": grid, "t": np.arange(5.0), "epoch": "2013-03-16T00:00:00", "f_attrs": {"units": "1/cm3"},
            "attrs": {"title": "x", "style": {"L": np.array([4.0, 5.0])}}, "drivers": {"kp": kp}}
    return io.Header(**(base | kw))


def write(path, head, parts=3):
    f = np.random.default_rng(0).random((5, *head.grid.shape))
    io.write_part(path, head, 0, head.t[:1], f[:1], {})
    for k in range(1, parts):
        some = slice(2 * k - 1, 2 * k + 1)
        io.write_part(path, head, k, head.t[some], f[some], {"L.lower": np.array([1.0, 2.0]) * k, "loss": -np.ones(2)})
    return f


def test_parts_and_merged_file_read_the_same(tmp_path):
    path, head = tmp_path / "a.nc", header()
    f = write(path, head)
    before = io.load(path)
    io.merge(path, "complete")
    after = io.load(path)
    assert not io.parts_of(path).exists() and [p.name for p in tmp_path.iterdir()] == ["a.nc"]
    for run in (before, after):
        assert run.grid == head.grid and run.complete and run.epoch == head.epoch
        np.testing.assert_array_equal(run.f, f)
        np.testing.assert_array_equal(run.state, f[-1])
        np.testing.assert_array_equal(run.budget["L.lower"], [0, 1, 2, 2, 4])
        np.testing.assert_allclose(run.content, head.grid.content(f), rtol=1e-14)
        np.testing.assert_array_equal(run.attrs["style"]["L"], [4.0, 5.0])
        np.testing.assert_array_equal(run.drivers["kp"]["values"], [2.0, 3.0])
    assert str(after.times[1]) == "2013-03-16T00:00:01.000"


def test_xarray_reads_the_file(tmp_path):
    xr = pytest.importorskip("xarray")
    path = tmp_path / "a.nc"
    f = write(path, header(precision="single"))
    io.merge(path, "complete")
    with xr.open_dataset(path, engine="h5netcdf") as ds:
        assert ds.f.dims == ("time", "L", "phi", "mu") and ds.f.dtype == np.float32 and ds.f.attrs["units"] == "1/cm3"
        assert ds.time.dtype.kind == "M" and str(ds.time.values[1])[:19] == "2013-03-16T00:00:01"
        np.testing.assert_array_equal(ds.state, f[-1])
        assert ds.L.attrs["long_name"] == "L" and ds.phi.attrs["units"] == "rad"
    assert io.load(path).to_xarray().f.dims == ("time", "L", "phi", "mu")


def test_a_long_text_is_kept_whole(tmp_path):
    path, text = tmp_path / "a.nc", "kp = [" + "3.3, " * 40_000 + "] # µ"
    write(path, header(attrs={"toml": text}))
    assert io.load(path).attrs["toml"] == text
    io.merge(path, "complete")
    assert io.load(path).attrs["toml"] == text


def test_damage_is_one_line_that_names_the_file(tmp_path):
    path, head = tmp_path / "a.nc", header()
    write(path, head)
    part = io.parts_of(path) / "part-00001.nc"
    whole = part.read_bytes()
    part.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="part-00001.nc is damaged") as e:
        io.load(path)
    assert "\n" not in str(e.value)
    at = whole.find(np.asarray(io.np.random.default_rng(0).random((5, *head.grid.shape))[1]).tobytes()[:64])
    assert at > 0
    part.write_bytes(whole[:at] + b"\0\0\0\0" + whole[at + 4:])          # a flipped value: the checksum notices
    with pytest.raises(InputError, match="part-00001.nc is damaged"):
        io.load(path)
    part.unlink()
    with pytest.raises(InputError, match="part-00001.nc is missing"):
        io.load(path)


def test_other_files(tmp_path):
    for content, message in ((None, "does not exist"), (b"hello", "is damaged")):
        path = tmp_path / "b.nc"
        if content:
            path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            io.load(path)
    h5py = pytest.importorskip("h5py")
    h5py.File(tmp_path / "c.nc", "w").close()
    with pytest.raises(InputError, match="not a file of jaxbelt"):
        io.load(tmp_path / "c.nc")


def test_a_failed_write_leaves_nothing(tmp_path):
    path, head = tmp_path / "a.nc", header(attrs={"bad": object()})
    with pytest.raises(TypeError):
        io.write_part(path, head, 0, head.t[:1], np.ones((1, *head.grid.shape)), {})
    assert list(io.parts_of(path).iterdir()) == []


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written to"):
        io.check_writable(tmp_path / "file" / "out")
    with pytest.raises(InputError, match="MiB free"):
        io.check_writable(tmp_path, 2**62)


def test_an_equation_offers_its_own_coordinates():
    """Without a word about it here: `add_coordinates` in the module of its flows, or in that of its name."""
    import sys
    import types

    from jaxbelt._dataset import equation_hook
    from jaxbelt.physics.foliated_maps import add_coordinates

    own = types.ModuleType("own_equation")
    own.add_coordinates = lambda data: data.assign_coords(twice=2 * data.L)
    sys.modules["own_equation"] = own
    try:
        assert equation_hook("add_coordinates", "anything", "own_equation") is own.add_coordinates
    finally:
        del sys.modules["own_equation"]
    assert equation_hook("add_coordinates", "foliated") is add_coordinates
    for name in ("drift_diffusion", "no_such_equation", "", "../io"):
        assert equation_hook("add_coordinates", name) is None
