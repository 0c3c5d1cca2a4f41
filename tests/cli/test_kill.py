"""`kill -9` at three moments of the (reduced) storm case, and an interrupt: the resumed run ends with the same bits."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from compiling import FLAGS

from jaxbelt import io

WORDS = ["run", "storm-2013-03", "--quiet", "--no-pictures", "--set", "grid.cells=[24,16]", "--set", "numerics.chunk=10",
         "--set", "numerics.dt=900 s"]
ENV = os.environ | {"XLA_FLAGS": FLAGS}                  # what a run keeps and reads back does not depend on the compiler


def start(folder, *words, cache=None):
    """cache: a folder of compiled programs, which spares the runs that are to be killed their compiling."""
    env = ENV | ({"JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"} if cache else {})
    return subprocess.Popen([sys.executable, "-m", "jaxbelt.cli", *words], cwd=folder, env=env, stderr=subprocess.PIPE, text=True)


def finish(folder, *words, cache=None):
    process = start(folder, *words, cache=cache)
    _, err = process.communicate(timeout=300)
    return process.returncode, err


def parts(folder):
    return sorted((folder / "storm-2013-03.nc.parts").glob("part-*.nc"))


def until(process, condition, *args):
    end = time.time() + 300
    while process.poll() is None and not condition(*args) and time.time() < end:
        time.sleep(0.0005)


def same(a, b):
    for x, y in ((a.f, b.f), (a.state, b.state), (a.t, b.t), (a.content, b.content)):
        assert x.tobytes() == y.tobytes()
    assert all(a.budget[k].tobytes() == b.budget[k].tobytes() for k in b.budget)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def test_kill_at_three_moments(tmp_path, cache):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    assert finish(whole, *WORDS, cache=cache)[0] == 0
    total, reached = 25, []
    writing = killed / "storm-2013-03.nc.parts"
    moments = [
        lambda n: len(parts(killed)) == 1,                                      # while compiling
        lambda n: len(parts(killed)) >= n + 3 and any(writing.glob("*.tmp")),   # while a part is being written
        lambda n: (killed / "storm-2013-03.nc.tmp").exists(),                   # while the parts are put together
    ]
    for k, moment in enumerate(moments):
        n = len(parts(killed))
        process = start(killed, *(WORDS if k == 0 else ["resume", "storm-2013-03.nc", "--quiet", "--no-pictures"]), cache=cache)
        until(process, moment, n)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"
        reached.append(len(parts(killed)))
        assert not (killed / "storm-2013-03.nc").exists()
        assert io.load(killed / "storm-2013-03.nc").t.size == 1 + 10 * (reached[-1] - 1)      # what there is can be read
    assert reached[0] == 1 and reached == sorted(reached) and reached[1] < total == reached[2]
    # the last one compiles for itself
    assert finish(killed, "resume", "storm-2013-03.nc", "--quiet", "--no-pictures") == (0, "")
    a, b = (io.load(f / "storm-2013-03.nc") for f in (killed, whole))
    same(a, b)
    assert b.complete and np.all(b.f >= 0)
    assert sorted(p.name for p in killed.iterdir() if not p.name.endswith(".tmp")) == ["storm-2013-03.log", "storm-2013-03.nc"]
    assert not list(killed.glob("*.tmp"))


@pytest.mark.slow
def test_a_hundred_kills_at_random_moments(tmp_path, cache):
    """Runs killed at random moments, again and again until they are done: the same bits as the one that was not."""
    words = ["run", "storm-2013-03", "--quiet", "--no-pictures", "--set", "grid.cells=[24,16]", "--set", "numerics.chunk=10",
             "--set", "numerics.dt=450 s"]
    again = ["resume", "storm-2013-03.nc", "--quiet", "--no-pictures"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    assert finish(whole, *words, cache=cache)[0] == 0
    begun = time.perf_counter()
    shutil.rmtree(whole)
    whole.mkdir()
    assert finish(whole, *words, cache=cache)[0] == 0
    length, b = time.perf_counter() - begun, io.load(whole / "storm-2013-03.nc")
    random, kills, ends = np.random.default_rng(0), 0, 0
    while kills < 100:
        shutil.rmtree(killed, ignore_errors=True)
        killed.mkdir()
        first = True
        while not (killed / "storm-2013-03.nc").exists() or list(killed.glob("*.parts")):
            process = start(killed, *(words if first else again), cache=cache)
            try:
                process.communicate(timeout=random.uniform(0.3, 1.0) * length)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                kills += 1
            first = not list((killed / "storm-2013-03.nc.parts").glob("part-*.nc")) and not (killed / "storm-2013-03.nc").exists()
        same(io.load(killed / "storm-2013-03.nc"), b)
        ends += 1
    print(f"{kills} kills, {ends} runs to the end, all with the same bits")


def test_interrupt_ends_with_130(tmp_path):
    process = start(tmp_path, "run", "radial-1d", "--quiet", "--no-pictures", "--set", "numerics.chunk=2")
    until(process, lambda: len(list((tmp_path / "radial-1d.nc.parts").glob("part-*.nc"))) >= 3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130 and "resume with: jaxbelt resume" in err and err.count("\n") == 1
    assert io.load(tmp_path / "radial-1d.nc").status == "unfinished"
