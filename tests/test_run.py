"""The host loop: the same numbers as `solve`, in chunks; resuming to the same bits; stopping where the result is spoilt."""

import importlib
import io as io_of_text
import os
import signal
import threading
import time

import jax.numpy as jnp
import numpy as np
import pytest

from jaxbelt import drift_diffusion as dd
from jaxbelt import io
from jaxbelt.coefficients import function
from jaxbelt.config import InputError
from jaxbelt.run import Diverged, Interrupted, chunk_size, load, resume, run
from jaxbelt.solve import solve

T = 600.0 * np.arange(11)


def problem(source=None, dll=0.3, n=12):
    grid = dd.grid(L=(3.0, 6.0), cells=n)
    return dd.problem(grid, dd.Parameters(dll=dll, source=source), inner=0.0, outer=2.0, epoch="2013-03-16")


def f0(n=12):
    return np.linspace(0.5, 2.0, n)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "whole.nc"
    return load(run(problem(), f0(), t=T, dt=300.0, out=out, chunk=2, progress=False))


def same(a, b):
    for x, y in ((a.f, b.f), (a.state, b.state), (a.t, b.t), (a.content, b.content)):
        assert x.tobytes() == y.tobytes()
    assert a.budget.keys() == b.budget.keys() and all(a.budget[k].tobytes() == b.budget[k].tobytes() for k in a.budget)


def test_the_function_is_public_though_its_module_has_its_name():
    import jaxbelt

    importlib.import_module("jaxbelt.run")
    assert jaxbelt.run is run and jaxbelt.resume is resume and jaxbelt.load is load


def test_file_holds_what_solve_gives(whole):
    sol = solve(problem(), f0(), t=T, dt=300.0)
    np.testing.assert_allclose(whole.f, sol.f, rtol=1e-13)
    for name, values in sol.budget.items():
        np.testing.assert_allclose(whole.budget[name], values, rtol=1e-11, atol=1e-14)
    assert whole.complete and whole.attrs["equation"] == "drift_diffusion" and whole.attrs["dt"] == 300.0
    gained = sum(v[-1] for v in whole.budget.values())
    assert abs(whole.content[-1] - whole.content[0] - gained) < 1e-13 * whole.content[0]


def test_five_and_five_chunks_are_ten(whole, tmp_path):
    out = tmp_path / "a.nc"
    for stop in (2, 1):
        with pytest.raises(Interrupted, match="resume with"):
            if stop == 2:
                run(problem(), f0(), t=T, dt=300.0, out=out, chunk=2, progress=False, stop_after=stop)
            else:
                resume(out, problem(), progress=False, stop_after=stop)
        assert not out.exists()
    assert load(out).status == "unfinished" and load(out).t.size == 7
    assert resume(out, problem(), progress=False) == out
    same(load(out), whole)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nc"]
    assert resume(out) == out          # nothing left to do


def test_resume_wants_the_same_problem(tmp_path):
    out = tmp_path / "a.nc"
    with pytest.raises(Interrupted):
        run(problem(), f0(), t=T, dt=300.0, out=out, chunk=5, progress=False, stop_after=1)
    with pytest.raises(InputError, match="was started from Python: give its problem"):
        resume(out)
    with pytest.raises(InputError, match="on another grid"):
        resume(out, problem(n=13))
    with pytest.raises(InputError, match="other parameters"):
        resume(out, problem(dll=0.4))
    with pytest.raises(InputError, match="holds an unfinished run"):
        run(problem(), f0(), t=T, dt=300.0, out=out, progress=False)
    assert run(problem(), f0(), t=T, dt=300.0, out=out, overwrite=True, progress=False) == out


def test_a_spoilt_run_keeps_the_good_part(tmp_path):
    out = tmp_path / "a.nc"
    source, lines = function(lambda t, L: jnp.where(t > 3000.0, jnp.nan, 0.0) * L), []
    with pytest.raises(Diverged) as e:
        run(problem(source=source), f0(), t=T, dt=300.0, out=out, chunk=3, progress=False, log=lines.append)
    kept = load(out)
    assert kept.status == "diverged" and np.isfinite(kept.f).all() and kept.t.size == 6
    message = str(e.value)
    assert "f became" in message and "L = " in message and "2013-03-16 00:50" in message and lines[-1].endswith(message)
    with pytest.raises(Diverged, match="cannot be resumed"):
        resume(out)


def test_killed_while_it_diverges(tmp_path, monkeypatch):
    out, source = tmp_path / "a.nc", function(lambda t, L: jnp.where(t > 3000.0, jnp.nan, 0.0) * L)

    def killed(*_):
        raise SystemExit

    monkeypatch.setattr(io, "merge", killed)
    with pytest.raises(SystemExit):
        run(problem(source=source), f0(), t=T, dt=300.0, out=out, chunk=3, progress=False)
    monkeypatch.undo()
    assert load(out).t.size == 6
    with pytest.raises(Diverged):
        resume(out, problem(source=source), progress=False)
    assert load(out).t.size == 6 and load(out).status == "diverged"


def test_sigint_finishes_the_chunk_and_resumes(tmp_path, whole, monkeypatch):
    out = tmp_path / "a.nc"
    write = io.write_part

    def slow(path, header, k, *rest):
        write(path, header, k, *rest)
        if k == 2:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(io, "write_part", slow)
    with pytest.raises(Interrupted, match="4 of 10 outputs"):
        run(problem(), f0(), t=T, dt=300.0, out=out, chunk=2, progress=False)
    assert signal.getsignal(signal.SIGINT) is before
    monkeypatch.undo()
    same(load(resume(out, problem(), progress=False)), whole)


def test_it_runs_beside_the_main_thread(tmp_path, whole):
    done = []
    worker = threading.Thread(target=lambda: done.append(run(problem(), f0(), t=T, dt=300.0, out=tmp_path / "a.nc", chunk=2)))
    worker.start()
    worker.join()
    assert len(done) == 1
    same(load(done[0]), whole)


BAD = [
    ({"t": [0.0, 600.0, 600.0]}, "times must increase"),
    ({"t": [0.0]}, "at least two"),
    ({"f0": np.ones(5)}, "shape"),
    ({"f0": np.array([1.0] * 11 + [np.nan])}, "not finite at L = "),
    ({"dt": 0.0}, "dt = 0.0"),
    ({"precision": "half"}, "precision"),
    ({"chunk": 0}, "chunk = 0"),
]


@pytest.mark.parametrize("change,message", BAD, ids=[m for _, m in BAD])
def test_bad_input_leaves_nothing(tmp_path, change, message):
    kw = {"f0": f0(), "t": T, "dt": 300.0, "out": tmp_path / "a.nc", "progress": False} | change
    with pytest.raises(InputError, match=message):
        run(problem(), kw.pop("f0"), **kw)
    assert list(tmp_path.iterdir()) == []


def test_the_log_begins_before_anything_is_compiled(tmp_path, monkeypatch):
    """Whoever is killed while compiling leaves a log that says what was begun, and a file that can be resumed."""
    out, lines = tmp_path / "a.nc", []

    def killed(*_):
        raise SystemExit

    monkeypatch.setattr(importlib.import_module("jaxbelt.run"), "_Chunks", killed)
    with pytest.raises(SystemExit):
        run(problem(), f0(), t=T, dt=300.0, out=out, chunk=2, log=lines.append)
    assert lines == ["begun: compiling, then outputs 1 to 10, 2 at a time"] and load(out).t.size == 1


def test_lines_of_progress():
    """Where stderr is no terminal: at the first chunk, then at most every 5 s, with what is left without compiling."""
    now, stream = [100.0], io_of_text.StringIO()
    with importlib.import_module("jaxbelt.run")._bar(True, 10, 0, "belt", stream, lambda: now[0]) as bar:
        for seconds, moment in ((24.0, "a"), (4.0, "b"), (4.0, "c"), (4.0, "d"), (4.0, "e")):
            now[0] += seconds
            bar(2, moment, 20.0)
    assert stream.getvalue().splitlines() == [
        "belt: compiling, then 10 outputs", "belt: 2 of 10 outputs, a, 24 s, about 16 s left",
        "belt: 6 of 10 outputs, c, 32 s, about 8 s left", "belt: 10 of 10 outputs, e, 40 s"]


def test_a_folder_that_cannot_be_written_is_noticed_first(tmp_path):
    (tmp_path / "file").write_text("")
    start = time.perf_counter()
    with pytest.raises(InputError, match="cannot be written to"):
        run(problem(), f0(), t=T, dt=300.0, out=tmp_path / "file" / "a.nc", progress=False)
    assert time.perf_counter() - start < 5


def test_chunks_divide_the_run_where_they_can():
    assert chunk_size(240, 100_000) == 12
    assert chunk_size(7, 8) == 1
    assert chunk_size(1009, 8) == 51                     # a prime number of outputs
    assert chunk_size(10_000, 2**26) == 1                # large fields: one output a chunk
