"""The command line in process: what it writes, what it prints, and the exit status of everything that can go wrong."""

import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from jaxbelt import cases, cli, io

SMALL = ["--set", "grid.cells=[12]", "--set", "case.duration=6 h", "--set", "output.every=1 h"]


@pytest.fixture()
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(capsys, *words):
    status = cli.main(list(words))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    assert cli.main(["run", "radial-1d", "--out", str(folder / "made" / "here"), *SMALL]) == 0
    return folder / "made" / "here"


def test_run_writes_file_pictures_and_log(finished):
    names = sorted(p.name for p in finished.iterdir())
    assert names == ["radial-1d-cuts.png", "radial-1d-l-time.png", "radial-1d.log", "radial-1d.nc"]
    run = io.load(finished / "radial-1d.nc")
    assert run.complete and run.f.shape == (7, 12) and run.attrs["toml"] == cases.shipped()["radial-1d"].read_text()
    assert json.loads(run.attrs["overrides"]) == SMALL[1::2]
    for name in ("jax_version", "numpy_version", "device", "source", "created"):
        assert run.attrs[name]
    log = (finished / "radial-1d.log").read_text()
    assert "illustrative" in log and "particles of the initial content" in log
    words = ("jaxbelt run radial-1d", "case  ", "begun: ", "first chunk done", "drawing", "pictures")
    places = [log.index(word) for word in words]
    assert places == sorted(places)


@pytest.mark.plain
def test_a_log_has_the_times_at_which_things_happened(here, capsys):
    log = cli._Log(here / "a.log", ["typed", "said"], begun=1e9)
    assert not (here / "a.log").exists()
    log("first")
    typed, said, first = (here / "a.log").read_text().splitlines()
    assert typed.startswith("2001-09-0") and typed.endswith(" typed")
    assert said.endswith(" said") and first.endswith(" first") and said[:4] == first[:4] != "2001"
    (here / "radial-1d.log").mkdir()
    status, out, err = call(capsys, "run", "radial-1d", *SMALL)
    assert status == 2 and "radial-1d.log is a folder" in err and err.count("\n") == 1 and not out
    assert sorted(p.name for p in here.iterdir()) == ["a.log", "radial-1d.log"]


def test_progress_without_a_terminal(here, capsys):
    """`jaxbelt run CASE > log 2>&1` says what it does; --quiet nothing."""
    status, _, err = call(capsys, "run", "radial-1d", *SMALL, "--set", "output.pictures=['cuts']")
    lines = err.splitlines()
    assert status == 0 and lines[0] == "radial-1d: compiling, then 6 outputs" and lines[-1] == "radial-1d: drawing"
    assert "1 of 6 outputs" in lines[1] and "s left" in lines[1] and "6 of 6 outputs" in lines[-2]
    status, out, err = call(capsys, "run", "radial-1d", *SMALL, "--quiet", "--no-pictures")
    assert (status, out, err) == (0, "", "")


def test_summary_closes_the_budget(finished):
    line = next(x for x in cli.summary(io.load(finished / "radial-1d.nc")) if x.startswith("particles"))
    assert "upper wall of L" in line and "loss" in line and abs(float(line.split("unaccounted")[1])) < 1e-12


def test_plot_and_resume_of_a_finished_run(finished, capsys, tmp_path):
    file = str(finished / "radial-1d.nc")
    status, out, _ = call(capsys, "plot", file, "--out", str(tmp_path), "--pictures", "cuts")
    assert status == 0 and out.strip() == str(tmp_path / "radial-1d-cuts.png")
    status, out, _ = call(capsys, "resume", file)
    assert status == 0 and "complete" in out
    status, _, err = call(capsys, "plot", file, "--pictures", "cust")
    assert (status, err) == (2, 'jaxbelt: --pictures cust: "cust" is not a picture (did you mean "cuts"?)\n')


@pytest.mark.plain
def test_cases_copy_case_and_check(here, capsys):
    status, out, _ = call(capsys, "cases")
    assert status == 0 and [line.split()[0] for line in out.splitlines()] == sorted(cases.shipped())
    assert call(capsys, "copy-case", "radial-1d", "mine.toml")[0] == 0
    assert (here / "mine.toml").read_text() == cases.shipped()["radial-1d"].read_text()
    status, _, err = call(capsys, "copy-case", "radial-1d", "mine.toml")
    assert status == 2 and "mine.toml exists" in err
    status, out, _ = call(capsys, "check", "mine.toml")
    assert status == 0 and "480 steps" in out and "memory" in out and "121 outputs" in out
    assert sorted(p.name for p in here.iterdir()) == ["mine.toml"]


@pytest.mark.plain
def test_check_prints_the_step_that_is_taken(capsys):
    words = ["check", "radial-1d", "--set", "case.duration=6 h", "--set", "output.every=1 h", "--set"]
    assert "steps     dt = 600 s\n" in call(capsys, *words, "numerics.dt=600 s")[1]
    assert "steps     dt = 700 s; taken: 600 s\n" in call(capsys, *words, "numerics.dt=700 s")[1]


def test_every_picture_is_in_the_manual():
    page = (pathlib.Path(__file__).parents[2] / "docs" / "command-line.md").read_text()
    line = next(x for x in page.splitlines() if "`jaxbelt plot RUN.nc`" in x)
    assert all(re.search(rf"\b{kind}\b", line) for kind in cases.PICTURES)


@pytest.mark.parametrize("name", sorted(cases.shipped()))
@pytest.mark.plain
def test_check_reads_every_shipped_case(name, capsys):
    status, out, err = call(capsys, "check", name)
    assert status == 0 and not err and out.startswith(f"case      {name}") and "changes nothing" not in out


def test_info_help_and_version(capsys):
    status, out, _ = call(capsys, "info")
    assert status == 0 and "float64" in out and "devices" in out and "jaxlib" in out and "programs   " in out
    with pytest.raises(SystemExit) as e:
        cli.main(["--help"])
    assert e.value.code == 0 and "copy-case" in capsys.readouterr().out
    assert call(capsys, "--version")[1].startswith("jaxbelt ")
    assert call(capsys)[0] == 0


WRONG = [
    (["run"], "the following arguments are required: CASE"),
    (["rnu", "x"], "invalid choice"),
    (["run", "storm-2013-3"], 'did you mean "storm-2013-03"'),
    (["run", "no/such.toml"], "no such file"),
    (["run", "radial-1d", "--device", "tpu"], "invalid choice"),
    (["run", "radial-1d", "--set", "numerics.dt"], "--set numerics.dt: must be table.key=value"),
    (["run", "radial-1d", "--set", "numerics.dt=12 parsec"], 'unit "parsec" is not a unit of time'),
    (["run", "radial-1d", "--set", "parameters.kp=[1.0, -1.0]"], "parameters.kp = [1.0, -1.0]: -1"),
    (["run", "radial-1d", "--set", "grid.L=[0.9, 7.0]"], "[grid] L: the inner wall must be at least 1"),
    (["run", "radial-1d", "--set", "grid.faces=[2.0, 4.0, 3.0]", "--set", "grid.cells=[2]"], "[grid]"),
    (["run", "radial-1d", "--out", "a-file"], "cannot be written to"),
    (["check", "bad.toml"], "not valid TOML"),
    (["check", "empty.toml"], "needs the table [case]"),
    (["copy-case", "radial"], 'did you mean "radial-1d"'),
    (["plot", "nothing.nc"], "nothing.nc does not exist"),
    (["resume", "nothing.nc"], "nothing.nc does not exist"),
    (["resume", "broken.nc"], "broken.nc is damaged"),
]


@pytest.mark.parametrize("words,message", WRONG, ids=[" ".join(w) for w, _ in WRONG])
@pytest.mark.plain
def test_bad_input_is_one_line_and_status_2(here, capsys, words, message):
    (here / "a-file").write_text("")
    (here / "bad.toml").write_text("[case\n")
    (here / "empty.toml").write_text("")
    (here / "broken.nc").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    before = sorted(p.name for p in here.iterdir())
    status, out, err = call(capsys, *words)
    assert status == 2 and message in err and err.count("\n") == 1 and err.startswith("jaxbelt: ") and "Traceback" not in err
    assert sorted(p.name for p in here.iterdir()) == before


def test_a_diverged_run_ends_with_3(here, capsys):
    words = [*SMALL, "--set", "parameters.source=1e308", "--set", "boundary.outer=1e308", "--set", "initial.model=uniform",
             "--set", "initial.value=1.7e308", "--set", "parameters.lifetime=1000 d", "--no-pictures", "--quiet"]
    status, out, err = call(capsys, "run", "radial-1d", *words)
    assert status == 3 and err.count("\n") == 1 and "f became" in err and "L = " in err and "UT" in err and not out
    run = io.load(here / "radial-1d.nc")
    assert run.status == "diverged" and np.isfinite(run.f).all()
    assert call(capsys, "resume", "radial-1d.nc")[0] == 3


def test_an_unfinished_run_is_not_overwritten(here, capsys):
    (here / "radial-1d.nc.parts").mkdir()
    (here / "radial-1d.nc.parts" / "part-00000.nc").write_bytes(b"damaged")
    status, _, err = call(capsys, "run", "radial-1d", *SMALL)
    assert status == 2 and "holds an unfinished run" in err and err.count("\n") == 1
    status, _, err = call(capsys, "resume", "radial-1d.nc")
    assert status == 2 and "part-00000.nc is damaged" in err and err.count("\n") == 1


def test_a_gpu_that_is_not_there():
    words = [sys.executable, "-m", "jaxbelt.cli", "info", "--device", "gpu"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, 2)
    assert done.returncode == 0 or "--device gpu" in done.stderr and done.stderr.count("\n") == 1


def test_the_command_is_installed():
    done = subprocess.run([sys.executable, "-m", "jaxbelt.cli", "cases"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "storm-2013-03" in done.stdout
