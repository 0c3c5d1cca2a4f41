"""What must not lose anything: a second writer, a full disk, a folder that turns read-only; and programs kept between starts."""

import os
import subprocess
import sys

import numpy as np
import pytest

from jaxbelt import io
from jaxbelt._compile_cache import _forget_oldest
from jaxbelt._lock import only_writer
from jaxbelt.cli import main
from jaxbelt.config import InputError

SMALL = ["--quiet", "--no-pictures", "--set", "grid.cells=[40]", "--set", "case.duration=1 d"]


def test_two_runs_on_one_file(tmp_path, capsys):
    """Who comes second is refused with the name of the first; nothing it has written is touched."""
    code = f"""
import time
from jaxbelt._lock import only_writer
with only_writer({str(tmp_path / 'radial-1d.nc')!r}):
    print("held", flush=True)
    time.sleep(60)
"""
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline().strip() == "held"
    try:
        assert main(["run", "radial-1d", "--out", str(tmp_path), *SMALL]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and f"process {other.pid}" in said and "being written by another run" in said
        assert not io.parts_of(tmp_path / "radial-1d.nc").exists()
    finally:
        other.kill()                                           # the lock goes with its process
        other.wait()
    assert main(["run", "radial-1d", "--out", str(tmp_path), *SMALL]) == 0
    assert not (tmp_path / "radial-1d.nc.lock").exists()


def test_the_lock_is_that_of_the_file_in_the_folder(tmp_path):
    with only_writer(tmp_path / "a.nc"), only_writer(tmp_path / "b.nc"):
        with pytest.raises(InputError, match="a.nc is being written"), only_writer(tmp_path / "a.nc"):
            pass
    with only_writer(tmp_path / "a.nc"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits on the size of files")
def test_a_disk_that_is_full(tmp_path, capsys):
    """Writes that fail (here: files may not grow beyond a limit) end with one line; what was written resumes to the same bits."""
    import resource

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main(["run", "radial-1d", "--out", str(whole), *SMALL]) == 0
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    part = 12000                                               # a part of this run has more bytes than that, its log fewer
    resource.setrlimit(resource.RLIMIT_FSIZE, (part, before[1]))
    try:
        assert main(["run", "radial-1d", "--out", str(cut), *SMALL]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "cannot be written" in said
    # now after some parts were written
    assert main(["run", "radial-1d", "--out", str(cut), *SMALL, "--overwrite", "--set", "numerics.chunk=4"]) == 0
    (cut / "radial-1d.nc").unlink()
    from jaxbelt import cases
    from jaxbelt.run import Interrupted, resume, run

    case = cases.load_case("radial-1d", [w for w in SMALL if "=" in w])
    with pytest.raises(Interrupted):
        run(case.problem, case.f0, t=case.t, dt=case.dt, out=cut / "radial-1d.nc", chunk=2, attrs=case.attrs, stop_after=3)
    kept = {p.name: p.read_bytes() for p in io.parts_of(cut / "radial-1d.nc").iterdir()}
    resource.setrlimit(resource.RLIMIT_FSIZE, (part, before[1]))
    try:
        assert main(["resume", str(cut / "radial-1d.nc"), "--quiet", "--no-pictures"]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert {p.name: p.read_bytes() for p in io.parts_of(cut / "radial-1d.nc").iterdir() if p.suffix == ".nc"} == kept
    resume(cut / "radial-1d.nc")
    a, b = io.load(cut / "radial-1d.nc"), io.load(whole / "radial-1d.nc")
    np.testing.assert_allclose(a.f[-1], b.f[-1], rtol=1e-12)


def test_a_folder_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["run", "radial-1d", "--out", str(tmp_path / "file"), *SMALL]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "cannot be written" in said


def test_programs_are_kept_between_starts(tmp_path):
    """The command line fills its cache folder, and empties it of what was used longest ago; JAXBELT_CACHE=off keeps none."""
    code = """
from jaxbelt.cli import kept_programs, prepare
prepare()
import jax
print(jax.config.jax_compilation_cache_dir)
print(kept_programs(jax))
"""
    env = {k: v for k, v in os.environ.items() if not k.startswith("JAX_COMPILATION_CACHE")}

    def asked(**more):
        done = subprocess.run([sys.executable, "-c", code], env=env | more, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    folder, said = asked(XDG_CACHE_HOME=str(tmp_path))
    assert folder.startswith(str(tmp_path / "jaxbelt"))
    assert said.startswith(f"{folder}, 0 MiB of at most 1024 MiB") and "JAXBELT_CACHE=off" in said
    assert asked(JAXBELT_CACHE="off") == ["None", "not kept between starts (JAXBELT_CACHE)"]
    for k in range(5):
        (tmp_path / f"p{k}").write_bytes(b"x" * 100)
        os.utime(tmp_path / f"p{k}", (k, k))
    _forget_oldest(tmp_path, most=250)
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["p3", "p4"]
