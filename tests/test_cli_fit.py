"""`jaxbelt fit`: what it writes and prints, how it goes on after an interrupt, and its exit status."""

import contextlib
import importlib
import io as text_io
import json
import subprocess
import sys
import time

import numpy as np
import pytest

from jaxbelt import cases, cli, io
from jaxbelt.fitting.command import state_of
from jaxbelt.fitting.output import load_fit

pytestmark = pytest.mark.plain
run_module = importlib.import_module("jaxbelt.run")             # jaxbelt.run is the function
TOML = """
[case]
equation = "drift_diffusion"
name = "small"
title = "A small twin"
duration = "2 d"
[grid]
L = [3.0, 6.0]
cells = [16]
[parameters]
dll = { model = "power-law", d0 = "0.3 1/d", power = 8.0, reference_L = 5.0 }
lifetime = "5 d"
[initial]
model = "uniform"
value = 0.1
[boundary]
inner = 0.0
outer = 1.0
[numerics]
dt = "6 h"
[output]
every = "6 h"
pictures = ["cuts"]
[fit]
free = ["dll.log_amplitude", { name = "dll.power", prior = 3.0 }]
[[fit.data]]
kind = "twin"
truth = { "dll.log_amplitude" = 0.5, "dll.power" = 9.0 }
apogee = 5.8
perigee = 2.5
period = "9 h"
samples = 200
sigma = 0.1
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("fit")
    (made / "small.toml").write_text(TOML)
    return made


@pytest.fixture(scope="module")
def finished(folder):
    """(exit status, what was printed, folder) of one fit from beginning to end."""
    said = text_io.StringIO()
    with contextlib.redirect_stdout(said):
        status = cli.main(["fit", str(folder / "small.toml"), "--out", str(folder / "a")])
    return status, said.getvalue(), folder / "a"


def call(capsys, folder, *words, out="."):
    status = cli.main(["fit", str(folder / "small.toml"), "--out", str(folder / out), *words])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_a_fit_writes_file_pictures_and_log(finished):
    status, out, made = finished
    assert status == 0
    names = sorted(p.name for p in made.iterdir())
    assert names == [f"small-{k}.png" for k in ("cuts", "fit-correlation", "fit-data", "fit-loss", "fit-profile")] + \
        ["small.log", "small.nc"]
    assert "dll.log_amplitude" in out and "chi^2/dof" in out and "iteration 2" in out and "converged" in out
    log = (made / "small.log").read_text()
    assert "iteration 2" in log and "chi^2/dof" in log and "particles" not in log


def test_the_file_holds_the_best_run_and_the_fit(finished):
    run, fit = io.load(finished[2] / "small.nc"), load_fit(finished[2] / "small.nc")
    assert run.complete and json.loads(run.attrs["fitted"])["dll.power"] == pytest.approx(float(fit["value"][1]))
    assert fit.attrs["converged"] == 1 and fit.attrs["toml"] == TOML and 0.6 < fit.attrs["reduced_chi2"] < 1.4
    assert list(fit["parameter"].values) == ["dll.log_amplitude", "dll.power"]
    assert np.all(np.abs(fit["value"] - fit["truth"]) < 4 * fit["sigma"]) and np.all(fit["low95"] < fit["low68"])
    inside = (fit["data_value"] > fit["data_low95"]) & (fit["data_value"] < fit["data_high95"])
    assert 0.9 < float(inside.sum() / fit["data_value"].notnull().sum()) < 0.99
    assert fit["data_value"].attrs["units"] == "(c/(MeV cm))^3" and fit["D_LL"].attrs["units"] == "1/day"
    at = fit["D_LL"].isel(D_LL_moment=0)
    want = 0.3 * np.exp(float(fit["value"][0])) * (fit["L"] / 5.0) ** float(fit["value"][1])
    assert at.values == pytest.approx(want.values, rel=1e-10)
    for name, x in fit.data_vars.items():
        assert x.attrs["long_name"], name


def test_an_interrupted_fit_goes_on(folder, finished, capsys, monkeypatch):
    enter = run_module._Stop.__enter__

    def asked(self):
        enter(self)
        self.asked = True
        return self

    with monkeypatch.context() as patch:
        patch.setattr(run_module._Stop, "__enter__", asked)
        status, _, err = call(capsys, folder, out="b")
    assert status == 130 and "stopped after iteration 0" in err and err.count("\n") == 1
    state = state_of(folder / "b" / "small.nc")
    assert sorted(p.name for p in (folder / "b").iterdir()) == ["small.fit.json", "small.log"]
    assert len(json.loads(state.read_text())["history"]) == 1
    status, _, err = call(capsys, folder, "--set", "fit.data.0.seed=5", out="b")
    assert status == 2 and "belongs to another fit" in err and "--restart" in err
    status, out, _ = call(capsys, folder, "--no-pictures", out="b")
    assert status == 0 and "goes on after iteration 0" in out and not state.exists()
    a, b = (load_fit(folder / k / "small.nc") for k in "ab")
    assert a["theta"].values == pytest.approx(b["theta"].values, abs=1e-6) and a["loss"].size == b["loss"].size


def test_a_fit_that_does_not_converge_ends_with_3_and_can_go_on(folder, capsys):
    status, out, err = call(capsys, folder, "--no-pictures", "--set", "fit.iterations=1", out="c")
    assert status == 3 and "not converged after 1 iterations" in err and err.count("\n") == 1
    assert np.isnan(load_fit(folder / "c" / "small.nc")["sigma"]).all() and state_of(folder / "c" / "small.nc").exists()
    status, _, err = call(capsys, folder, "--no-pictures", out="c")
    assert status == 2 and "another finished run" in err
    status, out, _ = call(capsys, folder, "--no-pictures", "--overwrite", out="c")
    assert status == 0 and "goes on after iteration 1" in out
    assert load_fit(folder / "c" / "small.nc").attrs["converged"] == 1


def test_check_plot_and_what_is_not_there(folder, capsys):
    assert cli.main(["check", str(folder / "small.toml")]) == 0
    out = capsys.readouterr().out
    assert "free      dll.power, starts at 8, with a prior" in out and "gauss-newton, 2 free numbers" in out
    (folder / "small.fit.json").write_text("{")
    status, _, err = call(capsys, folder)
    assert status == 2 and "is damaged" in err and err.count("\n") == 1
    assert cli.main(["fit", "radial-1d"]) == 2
    assert 'the case "radial-1d" has no table [fit]' in capsys.readouterr().err


def test_the_shipped_twin(capsys):
    assert {"fit-twin-dll", "fit-storm-2013-03"} <= set(cases.shipped())
    assert cli.main(["check", "fit-twin-dll"]) == 0
    assert "527 values, synthetic" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 0.05, 0.3, 1.0])
def test_a_killed_fit_goes_on(folder, finished, capsys, delay):
    """kill -9 at some moment after the first iteration: the same command ends with the same parameters, nothing more is left."""
    out = folder / f"killed-{delay}"
    words = [sys.executable, "-m", "jaxbelt.cli", "fit", str(folder / "small.toml"), "--out", str(out), "--no-pictures"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    while not state_of(out / "small.nc").exists() and process.poll() is None:
        time.sleep(0.02)
    time.sleep(delay)
    process.kill()
    process.wait()
    assert call(capsys, folder, "--no-pictures", out=out.name)[0] == 0
    assert sorted(p.name for p in out.iterdir()) == ["small.log", "small.nc"]
    killed, whole = (load_fit(f / "small.nc")["theta"].values for f in (out, finished[2]))
    assert killed == pytest.approx(whole, abs=1e-6)
