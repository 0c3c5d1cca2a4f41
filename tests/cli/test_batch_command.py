"""`jaxbelt batch`: its table, its file, going on after every kind of end, two processes against one, and what it refuses."""

import contextlib
import importlib
import io as text_io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest
import xarray
from compiling import FLAGS

import jaxbelt as jb
from jaxbelt import batch_processes, cases, cli, io
from jaxbelt._lock import only_writer
from jaxbelt.batch_command import progress
from jaxbelt.cases import _batch
from jaxbelt.config import InputError

pytestmark = pytest.mark.plain
batch_module = importlib.import_module("jaxbelt.batch")
TOML = """
[case]
equation = "drift_diffusion"
name = "small"
epoch = "2013-03-16T00:00:00"
duration = "1 d"
[grid]
L = [3.0, 6.0]
cells = [12]
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
every = "12 h"
[batch]
chunk = 8
[batch.grid]
dll.power = [7.0, 9.0]
[batch.list]
lifetime = [2.0, 4.0, 6.0, 8.0, 10.0]
[batch.draw]
"dll.log_amplitude" = { normal = [0.0, 0.5] }
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("batch") / "small.toml"
    path.write_text(TOML)
    return path


@pytest.fixture(scope="module", autouse=True)
def one_device():
    """As on a machine with one device: what is said here does not depend on how many there are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "local_devices", lambda *a, **k: jax.devices()[:1])
        yield


@pytest.fixture(scope="module")
def finished(file):
    """(exit status, stdout, stderr, folder) of one batch from beginning to end."""
    out, err = text_io.StringIO(), text_io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main(["batch", str(file), "--out", str(file.parent / "a")])
    return status, out.getvalue(), err.getvalue(), file.parent / "a"


def call(capsys, file, out, *words):
    status = cli.main(["batch", str(file), "--out", str(out), "--quiet", *words])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def with_table(table):
    """The case with another table [batch]."""
    return TOML[:TOML.index("[batch]")] + "[batch]\n" + table


def case_of(*words):
    return cases.build(TOML, words)


def arguments(case):
    made = _batch.build(case)
    return (case.problem, made.f0, made.sweep), {"t": case.t, "dt": case.dt, "chunk": made.chunk, "keep": made.keep}


def test_file_log_and_what_is_printed(finished):
    status, out, err, folder = finished
    assert status == 0 and sorted(p.name for p in folder.iterdir()) == ["small-batch.log", "small-batch.nc"]
    assert "10 runs (2 x 5)" in out and "of 10 runs" in err
    assert "chunk     8 runs, about" in out and "kB of memory, on 1 device" in out and "kB for all 10 runs" in out
    assert "varied    lifetime, 2 to 10 day\n" in out
    made = jb.load_batch(folder / "small-batch.nc")
    assert made["f"].dims == ("run", "time", "L") and made["f"].shape == (10, 3, 12) and not made["result"].any()
    assert made["dll.power"].values.tolist() == [7.0] * 5 + [9.0] * 5 and "lifetime" in made.coords
    assert made["lifetime"].attrs["units"] == "day" and made["dll.log_amplitude"].attrs["units"] == "1"
    assert str(made["time"].values[-1]).startswith("2013-03-17T00:00:00") and made.attrs["toml"] == TOML
    assert made.attrs["status"] == "complete" and made.attrs["jax_version"] == jax.__version__
    amplitude = made["dll.log_amplitude"].values
    assert np.array_equal(amplitude[:5], amplitude[5:]) and np.ptp(amplitude) > 0.3
    assert made.set_index(run=("dll.power", "lifetime")).unstack("run")["content"].sizes == \
        {"time": 3, "dll.power": 2, "lifetime": 5}
    with pytest.raises(InputError, match="holds a batch of runs: jaxbelt.load_batch"):
        io.load(folder / "small-batch.nc")


def test_every_run_is_the_case_with_its_values(finished):
    """The eighth run, in the second chunk, against the case with its three values set."""
    made = jb.load_batch(finished[3] / "small-batch.nc").isel(run=7)
    one = case_of("parameters.dll.power=9.0", 'parameters.lifetime="6 d"',
                  f"parameters.dll.log_amplitude={float(made['dll.log_amplitude'])!r}")
    sol = jb.solve(one.problem, one.f0, t=one.t, dt=one.dt)
    np.testing.assert_allclose(made["f"], sol.f, rtol=1e-12)
    np.testing.assert_allclose(made["budget_loss"], sol.budget["loss"], rtol=1e-11)
    np.testing.assert_allclose(made["content"], one.problem.grid.content(sol.f), rtol=1e-12)


def test_stopped_and_resumed_ends_with_the_same_bits(finished, tmp_path, capsys, file):
    """Stopped by a signal after the first of two chunks, refused with other parameters, resumed."""
    case = case_of()
    given, options = arguments(case)
    with pytest.raises(KeyboardInterrupt, match="8 of 10 runs are done and kept"):
        jb.run_batch(*given, **options, out=tmp_path / "small-batch.nc",
                     report=lambda done, total: signal.raise_signal(signal.SIGTERM))
    part = jb.load_batch(tmp_path / "small-batch.nc")
    whole = jb.load_batch(finished[3] / "small-batch.nc")
    assert part.attrs["status"] == "8 of 10 runs" and whole.attrs["status"] == "complete"
    assert part["f"].values.tobytes() == whole["f"][:8].values.tobytes() and part.sizes["run"] == 8
    status, _, err = call(capsys, file, tmp_path)
    assert status == 2 and "unfinished batch: go on with --resume" in err and err.count("\n") == 1
    status, _, err = call(capsys, file, tmp_path, "--resume", "--set", "numerics.dt=3 h", "--set", "boundary.outer=2.0",
                          "--set", "batch.list.lifetime=[1.0,2.0,3.0,4.0,5.0]")
    assert status == 2 and "dt was 21600, now 10800; outer was 1, now 2; batch lifetime has other values" in err
    assert "discard it with --overwrite" in err and "=True" not in err
    status, _, err = call(capsys, file, tmp_path, "--resume", "--set", "batch.chunk=4")
    assert status == 2 and "chunk was 8, now 4" in err
    with only_writer(tmp_path / "small-batch.nc"):
        status, _, err = call(capsys, file, tmp_path, "--resume")
    assert status == 2 and "is being written by another run" in err
    status, _, err = call(capsys, file, tmp_path, "--resume", "--set", "grid.L=[3.0,6.5]")
    assert status == 2 and "another grid" in err
    assert call(capsys, file, tmp_path, "--resume") == (0, "", "")
    assert jb.load_batch(tmp_path / "small-batch.nc").equals(whole)
    assert not io.parts_of(tmp_path / "small-batch.nc").exists()
    assert cli.main(["batch", str(file), "--out", str(tmp_path), "--resume"]) == 0
    assert "nothing to resume" in capsys.readouterr().out
    status, _, err = call(capsys, file, tmp_path)
    assert status == 2 and "small-batch.nc is complete; give --overwrite to compute it again" in err
    with pytest.raises(InputError, match="is complete; give overwrite=True"):
        jb.run_batch(*given, **options, out=tmp_path / "small-batch.nc")
    status, _, err = call(capsys, file, tmp_path, "--set", "numerics.dt=3 h")
    assert status == 2 and "another finished batch (dt was 21600, now 10800)" in err


def test_two_workers_in_one_folder_give_the_same_bits(finished, tmp_path):
    """Two members of a crew, each with its own chunks; the merged file is the one of a single process, bit for bit."""
    given, options = arguments(case_of())
    out = tmp_path / "two.nc"

    def work(k):
        jb.run_batch(*given, **options, out=out, process=(k, 2), patience=60.0)

    other = threading.Thread(target=work, args=(1,))
    other.start()
    work(0)
    other.join()
    assert jb.load_batch(out).equals(jb.load_batch(finished[3] / "small-batch.nc")) and not io.parts_of(out).exists()


def test_a_lost_process_leaves_what_is_done(finished, tmp_path, monkeypatch):
    """Its file stands still: the other ends with one line, and a single process goes on with what is missing."""
    given, options = arguments(case_of())
    out = tmp_path / "lost.nc"
    there = threading.Event()

    def vanish():
        with batch_processes.Crew(io.parts_of(out), 1, 2, 60.0) as crew:
            crew.meet()
            there.wait(5.0)

    other = threading.Thread(target=vanish)
    other.start()
    with pytest.raises(KeyboardInterrupt, match=r"process 1 of 2 was lost \(no sign of life for 1 s\): 8 of 10 runs are done"):
        jb.run_batch(*given, **options, out=out, process=(0, 2), patience=1.0,
                     log=lambda line: there.set() if line.startswith("first chunk") else None)
    other.join()
    computed = []
    jb.run_batch(*given, **options, out=out, resume=True, report=lambda done, total: computed.append(done))
    assert computed == [10] and jb.load_batch(out).equals(jb.load_batch(finished[3] / "small-batch.nc"))


def test_a_process_that_never_comes(tmp_path):
    given, options = arguments(case_of())
    said = []
    with pytest.raises(InputError, match="process 1 of 2 has not come within 0.3 s"):
        jb.run_batch(*given, **options, out=tmp_path / "b.nc", process=(0, 2), patience=0.3, log=said.append)
    assert said == [f"process 0 of 2 waits for process 1 to come, 0.3 s at most; they meet in {tmp_path / 'b.nc.parts'}"]


def test_runs_that_fail_are_marked_and_the_others_go_on(tmp_path, capsys):
    """The middle one of three cannot be computed (its wall value overflows): exit 3, the file complete."""
    (tmp_path / "small.toml").write_text(with_table("keep = 'last'\nlist.outer = [1.0, 1.7e308, 0.5]"))
    status, _, err = call(capsys, tmp_path / "small.toml", tmp_path, "--set", "output.precision=single")
    assert status == 3 and "1 of 3 runs did not reach their end (run 1)" in err and err.count("\n") == 1
    made = jb.load_batch(tmp_path / "small-batch.nc")
    assert made["result"].values.tolist() == [0, 1, 0] and made["f"].dims == ("run", "L") and made["f"].dtype == np.float32
    assert np.isfinite(made["f"].values[[0, 2]]).all() and not np.isfinite(made["f"].values[1]).any()
    assert made["content"].dims == ("run", "time") and made.attrs["failed_runs"] == 1


def test_what_is_kept():
    """The words against f itself."""
    case = case_of()
    f = np.random.default_rng(1).uniform(size=(3, 12))
    frozen = batch_module.Frozen(np.array([0.0, 1.0, 4.0]))

    def kept(word):
        return batch_module.Keep(word, frozen, case.problem.grid)(f)

    np.testing.assert_allclose(kept("mean")["f"], (0.5 * f[0] + 2.0 * f[1] + 1.5 * f[2]) / 4.0, rtol=1e-14)
    np.testing.assert_array_equal(kept("max")["f"], f.max(axis=0))
    np.testing.assert_array_equal(kept("last")["f"], f[-1])
    np.testing.assert_allclose(kept("content")["content"], case.problem.grid.content(f), rtol=1e-14)
    assert "f" not in kept("content")


@pytest.mark.parametrize("words, message", [
    ("", "[batch] has no runs"),
    (["batch.chnk=3"], 'batch.chnk = 3: unknown key (did you mean "chunk"?)'),
    (["batch.grid.dll.powr=[1.0]"], "'dll.powr' is no parameter of this problem (did you mean \"dll.power\"?)"),
    (["batch.grid.dll.power=[]"], "batch.grid.dll.power = []: has no entry: a batch needs at least one run"),
    (["batch.grid.dll.power=3.0"], "must be a list with one entry a run"),
    (["batch.list.outer=[1.0,2.0]"], "lifetime has 5, outer has 2; for every combination use [batch.grid]"),
    (["batch.grid.initial=[1.0,2.0]"], "initial: an entry must have the shape of f, (12,), got one number"),
    (["batch.runs=4"], "batch.runs = 4: must be as many as the lists have entries, 5"),
    ("draw.dll.power = { uniform = [1.0, 2.0] }", '[batch] needs the key "runs"'),
    ("grid.outer = [1.0]\nseed = 3", "batch.seed = 3: belongs to [batch.draw]"),
    (["batch.draw.lifetime={ uniform = [1.0, 2.0] }"], '"lifetime" is given twice'),
    (["batch.draw.outer={ unifrm = [1.0, 2.0] }"], '(did you mean "uniform"?)'),
    (["batch.draw.outer={ log-uniform = [0.0, 2.0] }"], "both numbers must be above 0"),
    (["batch.draw.outer={ normal = [0.0, 0.0] }"], "the standard deviation must be above 0"),
    (["batch.grid.outer={ from = 1.0, to = 2.0 }"], 'needs the key "count"'),
    (["batch.grid.outer={ from = 0.0, to = 2.0, count = 3, spacing = 'log' }"], 'must be above 0 for spacing = "log"'),
    (["batch.keep=lats"], 'is not one of the choices (did you mean "last"?)'),
    (["batch.list.dll.power=[[1.0,2.0]]", "batch.grid={}"], "dll.power has 1"),
])
def test_tables_that_cannot_be(words, message):
    with pytest.raises(InputError, match=re.escape(message)):
        _batch.build(cases.build(with_table(words)) if isinstance(words, str) else case_of(*words))


def test_cases_without_the_table_and_chunks_too_large(capsys, file, tmp_path, monkeypatch):
    status = cli.main(["batch", "radial-1d", "--out", str(tmp_path)])
    assert status == 2 and 'has no table [batch]' in capsys.readouterr().err
    status, _, err = call(capsys, file, tmp_path / "new", "--resume")
    assert status == 2 and "there is nothing to resume; leave --resume out" in err and not (tmp_path / "new").exists()
    status, _, err = call(capsys, file, tmp_path, "--resume", "--overwrite")
    assert status == 2 and "--resume, --overwrite: go on, or begin anew" in err
    monkeypatch.setattr(batch_module, "free_memory", lambda device: 20_000)
    status, _, err = call(capsys, file, tmp_path)
    assert status == 2 and "chunk: 8 runs need about 2.15e-05 GiB, but 1.86e-05 GiB are free; give a smaller chunk" in err
    assert not list(tmp_path.glob("*.log"))
    assert cli.main(["check", str(file), "--set", "batch.chunk=1"]) == 0
    assert "10 runs (2 x 5), keep = all" in capsys.readouterr().out


def test_values_that_no_run_can_have(capsys, file, tmp_path):
    """`check` and `batch` name the run and the value, and leave nothing behind."""
    for word, *more in (("check",), ("batch", "--out", str(tmp_path / "none"))):
        status = cli.main([word, str(file), *more, "--set", "batch.list.lifetime=[2.0,4.0,-4.48,8.0,10.0]"])
        err = capsys.readouterr().err
        assert status == 2 and err.count("\n") == 1
        assert re.search(r"run 2 \(dll.power = 7, lifetime = -4.48 day, .*\): lifetime: must be positive everywhere", err)
    assert not (tmp_path / "none").exists()


def test_check_says_what_the_batch_takes(capsys, file, monkeypatch):
    """Two devices: a chunk of 5 becomes 6; sizes are those of the batch."""
    monkeypatch.setattr(jax, "local_devices", lambda *a, **k: jax.devices()[:2])
    assert cli.main(["check", str(file), "--set", "batch.chunk=5"]) == 0
    out = capsys.readouterr().out
    assert "chunk     6 runs (5 asked for: rounded up to a multiple of the devices)" in out
    assert "kB of memory, on 2 devices" in out
    assert "kB for one run" in out and "kB for all 10 runs" in out


def test_any_reader_finds_the_values_beside_the_results(finished):
    with xarray.open_dataset(finished[3] / "small-batch.nc", engine="h5netcdf") as plain:
        assert {"dll.power", "lifetime", "dll.log_amplitude", "result"} <= set(plain["f"].coords)
        assert {"dll.power", "result"} <= set(plain["budget_loss"].coords)


def test_a_second_signal_says_what_is_done(tmp_path):
    given, options = arguments(case_of())

    def twice(done, total):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt, match="stopped at once: 8 of 10 runs are done and kept; .* resume=True"):
        jb.run_batch(*given, **options, out=tmp_path / "b.nc", report=twice)


def test_files_of_a_batch_that_do_not_belong_together(finished, tmp_path):
    given, options = arguments(case_of())
    jb.run_batch(*given, **options, precision="single", out=tmp_path / "other.nc")
    first = finished[3] / "small-batch.nc"
    with pytest.raises(InputError, match="belongs to another batch .* was double, now single"):
        jb.load_batch([first, tmp_path / "other.nc"])
    with pytest.raises(InputError, match="run 0 is in more than one"):
        jb.load_batch([first, first])
    jb.run_batch(*given, **options, out=tmp_path / "other.nc", overwrite=True)


def test_who_a_process_is():
    slurm = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"}
    assert batch_processes.identity(env=slurm) == batch_processes.Identity(3, 4, "cluster")
    assert batch_processes.identity(env={"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}).n == 1
    assert batch_processes.identity(2, 1, "a:1", slurm) == batch_processes.Identity(1, 2, "options", "a:1")
    for given, message in (((2, None, None), "--process-id: is needed too"),
                           ((2, 2, "a:1"), "--process-id 2: must be at least 0"),
                           ((2, 0, "a"), "--coordinator a: must be HOST:PORT")):
        with pytest.raises(InputError, match=message):
            batch_processes.identity(*given, env={})


@pytest.mark.parametrize("env, taken", [
    ({}, None),
    ({"CUDA_VISIBLE_DEVICES": "0,1,2,3"}, [2]),                                                # all see all
    ({"CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7"}, [4, 5]),
    ({"CUDA_VISIBLE_DEVICES": "5"}, [0]),                                                      # bound to its own
    ({"CUDA_VISIBLE_DEVICES": "0,1,2,3", "SLURM_GPUS_PER_TASK": "4"}, [0, 1, 2, 3]),
])
def test_gpus_of_a_process_in_slurm(env, taken):
    assert batch_processes.gpus({"SLURM_STEP_TASKS_PER_NODE": "4(x2)", "SLURM_LOCALID": "2"} | env) == taken


def test_lines_of_progress_say_what_is_left():
    now, said = [0.0], text_io.StringIO()
    with progress(True, "b", said, lambda: now[0]) as report:
        for at, done in ((40.0, 10), (41.0, 20), (50.0, 110), (59.0, 200)):
            now[0] = at
            report(done, 200)
    assert said.getvalue().splitlines() == ["b: 10 of 200 runs, 40 s",
                                            "b: 110 of 200 runs, 50 s, about 9 s left", "b: 200 of 200 runs, 59 s"]


def spawn(file, out, k, port, *words, env=None):
    environment = os.environ | {"XLA_FLAGS": FLAGS} | (env or {})
    by_hand = [] if env else ["--processes", "2", "--process-id", str(k), "--coordinator", f"localhost:{port}"]
    return subprocess.Popen([sys.executable, "-m", "jaxbelt.cli", "batch", str(file), "--quiet", "--device", "cpu", "--out",
                             str(out), *by_hand, *words], env=environment, stderr=subprocess.PIPE, text=True)


def free_port():
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return s.getsockname()[1]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["options", "slurm"])
def test_two_processes_give_the_bits_of_one(tmp_path, file, how):
    """Real processes that find each other through `jax.distributed.initialize`, by options and in a Slurm step."""
    alone = subprocess.run([sys.executable, "-m", "jaxbelt.cli", "batch", str(file), "--quiet", "--device", "cpu", "--out",
                            str(tmp_path / "one")], env=os.environ | {"XLA_FLAGS": FLAGS}, capture_output=True, text=True)
    assert alone.returncode == 0, alone.stderr
    slurm = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2",
             "SLURM_STEP_NUM_TASKS": "2"}
    port = free_port()
    both = [spawn(file, tmp_path / "two", k, port, env=None if how == "options" else
                  slurm | {"SLURM_PROCID": str(k), "SLURM_LOCALID": str(k)}) for k in (0, 1)]
    for process in both:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    one, two = (jb.load_batch(tmp_path / d / "small-batch.nc") for d in ("one", "two"))
    assert two.equals(one) and sorted(p.name for p in (tmp_path / "two").iterdir()) == ["small-batch.log", "small-batch.nc"]


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process(tmp_path, file, victim):
    """`kill -9` of either: the other ends with 130 and one line; a single process finishes to the bits of one."""
    words = ["--set", "batch.chunk=2", "--set", "batch.grid.dll.power={ from = 7.0, to = 9.0, count = 12 }"]
    port = free_port()
    both = [spawn(file, tmp_path / "two", k, port, "--patience", "4", *words) for k in (0, 1)]
    folder = tmp_path / "two" / "small-batch.nc.parts"
    end = time.time() + 200
    while len(list(folder.glob("runs-*.nc"))) < 4 and time.time() < end:
        time.sleep(0.005)
    both[victim].send_signal(signal.SIGKILL)
    said = [p.communicate(timeout=300)[1] for p in both]
    assert both[1 - victim].returncode == 130, said
    assert f"process {victim} of 2 was lost" in said[1 - victim] and said[1 - victim].count("\n") == 1
    for out, more in (("two", ["--resume"]), ("one", [])):
        assert subprocess.run([sys.executable, "-m", "jaxbelt.cli", "batch", str(file), "--quiet", "--device", "cpu", "--out",
                               str(tmp_path / out), *words, *more], env=os.environ | {"XLA_FLAGS": FLAGS}).returncode == 0
    one, two = (jb.load_batch(tmp_path / d / "small-batch.nc") for d in ("one", "two"))
    assert two.equals(one) and one.sizes["run"] == 60 and json.loads(one.attrs["batch_signature"])["keep"] == "all"
