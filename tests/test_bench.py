"""`jaxbelt bench`: what is measured is what is said, tables have their entries, other codes solve the same problem."""

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbelt import benchmarks, cli, drift_diffusion, linear
from jaxbelt.benchmarks import flow_costs, line_solves, operations, peers, report, scaling, steps, timing
from jaxbelt.benchmarks.problems import PROBLEMS, Run

pytestmark = pytest.mark.plain


def test_the_command(tmp_path, capsys):
    """A part by name: its tables on the screen and in the file."""
    status = cli.main(["bench", "copy", "--quick", "--json", str(tmp_path / "out.json")])
    out, err = capsys.readouterr()
    made = json.loads((tmp_path / "out.json").read_text())
    assert status == 0 and "bandwidth" in out and "triad" in out and "cores" in out
    assert out.startswith("--quick: ") and "FIGURES MEAN NOTHING" in out.splitlines()[0] and "products of 32 x 32" in out
    assert "random places of 1024" in out and not report.heading(benchmarks.machine()).startswith("--quick")
    assert err.startswith("measuring copy (1 of 1): bandwidth") and "\ncopy took " in err
    assert made["quick"] and made["machine"]["cores"] >= 1 and list(made["parts"]) == ["copy"]
    rows = made["parts"]["copy"][0]["rows"]
    assert sorted({r["kind"] for r in rows}) == ["copy", "in place", "triad"] and len(rows) == 6
    assert all(0 < r["least"] <= r["GB/s"] <= r["most"] for r in rows)


WRONG = [(["copi"], "did you mean \"copy\""), (["copy", "--json", "no/such/a.json"], "does not exist"),
         (["copy", "--json", "."], "is a folder"), (["--device", "tpu"], "invalid choice")]


@pytest.mark.parametrize("words, message", WRONG)
def test_bad_words_are_one_line_and_status_2(words, message, capsys):
    assert cli.main(["bench", *words]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_a_loop_takes_its_steps_and_seconds_are_theirs(monkeypatch):
    loop = timing.Loop(lambda x, a: a * x, jnp.asarray(1.0), jnp.asarray(2.0))
    assert float(loop(3)) == 8.0 and float(loop(10)) == 1024.0
    assert float(timing.Loop(lambda x: 2.0 * x, jnp.asarray(1.0), inner=4)(10)) == 1024.0
    now = [0.0]

    def takes(seconds):
        def call(*given):
            now[0] += seconds * (given[0] if given else 1)
        return call

    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: now[0], process_time=lambda: 0.5 * now[0]))
    taken = timing.timed({"a": takes(2.0), "b": takes(0.25)}, timing.Effort(rounds=3, seconds=1.0, least=2))
    assert (taken["a"].median, taken["b"].median, taken["a"].steps, taken["b"].steps) == (2.0, 0.25, 2, 4)
    assert taken["a"].cores == 0.5 and taken["a"].busy == 1.0 and taken["a"].row(1e3, "ms")["ms"] == 2000.0
    # a call of 5 s beside 4 steps of 0.5 s
    one, once = timing.timed_pairs(takes(7.0), takes(11.0), 4, timing.QUICK)
    assert (one.median, one.least, one.most, one.busy, once) == (0.5, 0.5, 0.5, 0.25, 5.0)


@pytest.mark.parametrize("shared", [True, False])
def test_all_back_ends_solve_the_system_that_is_timed(shared):
    line, c, b = line_solves.system(5, 3, shared, "float64")
    x = linear.solve(linear.factor(line, c, "sweep"), b)
    np.testing.assert_allclose(x + c * linear.apply(line, x), b, rtol=1e-12)
    made = line_solves.cases(5, 3, shared, "float64")
    assert set(made) == set(line_solves.BACKENDS)
    for name, loop in made.items():
        if isinstance(loop, timing.Loop):
            np.testing.assert_allclose(loop(1), x, rtol=1e-12, err_msg=name)
        else:
            assert name == "pallas" and "interpreted" in loop


def test_bytes_of_a_flow():
    """Reaction: f in and out and two tables are 32 bytes a cell, whatever it takes; no products, some additions."""
    (table,) = flow_costs.part(quick=True, names=["Reaction"])
    (row,) = table.rows
    assert row["bytes a cell"] == 32.0 and row["grid"] == "8 x 8" and 3 <= row["operations a cell"] <= 10
    assert row["memory ns"] > 0 and row["operations ns"] > 0
    assert row["bandwidth %"] == pytest.approx(100 * row["memory ns"] / row["busy"])
    text = report.text(table)
    assert "Reaction: f in and out, two tables." in text and text.count("\n") == 3
    assert set(row) >= {k for k, _, _ in table.columns}


def test_steps_and_the_slope():
    grid = drift_diffusion.grid(cells=5)
    problem = drift_diffusion.problem(grid, drift_diffusion.Parameters(lifetime=1.0))
    taken, once = steps.measure(Run(problem, jnp.ones(5), 60.0, "loss"), timing.QUICK, 0.0)
    assert taken.steps == 4 and taken.least <= taken.median <= taken.most and once >= 0
    x = np.array([1e3, 1e4, 1e6])
    assert scaling.slope(x, 3 * x**1.25) == pytest.approx(1.25, abs=1e-12)


def test_codes_solve_the_same_problem():
    """Errors fall with the square of the cells, and are alike with the same cells."""
    ours, *names = "jaxbelt, one line", "spacepy solve_cn", "scipy solve_banded", "scipy splu"
    coarse = peers.peers(peers.Setting(cells=25, steps=60), names)
    fine = peers.peers(peers.Setting(cells=50, steps=60), [ours, *names])
    assert list(fine) == [ours, *names]
    for name, peer in coarse.items():
        if isinstance(peer, peers.Peer):
            assert 3.0 < peer.error / fine[name].error < 5.5 and fine[name].error < 0.02, (name, peer.error, fine[name].error)
    assert fine["scipy splu"].error == pytest.approx(fine["scipy solve_banded"].error, rel=1e-9)
    assert fine[ours].error == pytest.approx(fine["scipy splu"].error, rel=0.1)


def test_a_code_that_is_missing_is_said(monkeypatch):
    monkeypatch.setattr(peers, "_available", lambda *modules: not modules or modules == ("scipy",))
    (table,) = peers.part(quick=True, names=["scipy splu", "FiPy"])
    there, missing = table.rows
    assert there["us"] > 0 and "pip install" in missing["scheme"] and "--" in report.text(table)


def test_operations_are_counted():
    """By hand: 8 entries, ten rounds of a product and a sum, a division, the cheaper branch, a matrix product, a ring."""
    def rounds(x):
        return jax.lax.fori_loop(0, 10, lambda i, y: y * 2.0 + x, x)

    def work(x):
        y = jnp.exp(rounds(x) / x)
        y = jax.lax.cond(y[0] > 0, lambda y: y + 1.0, lambda y: y * y * y, y)
        return y @ jnp.ones((8, 3)), jnp.fft.rfft(x), x[jnp.array([1, 5, 2])]

    found = operations.count(work, jnp.ones(8))
    assert found["division"] == 8 and found["function"] == 8 and found["product"] == 2 * 8 * 3 and found["gather"] == 3
    loop, branch, ring = 10 * (8 + 8 + 1), 8, 2.5 * 8 * 3                     # the loop counts its rounds, too
    assert loop + branch + ring <= found["simple"] <= loop + branch + ring + 20
    skipped = operations.count(lambda x: jax.lax.cond(x[0] > 0, lambda x: x, jnp.square, x), jnp.ones(8), empty=False)
    assert skipped["simple"] == 9


@pytest.mark.slow
def test_everything_quickly(tmp_path, capsys):
    """All parts, tiny: every row has what its columns show, or says why not."""
    results = benchmarks.run(quick=True)
    assert list(results) == list(benchmarks.PARTS)
    assert [r["flow"] for r in results["flows"][0].rows] == list(flow_costs.CASES)
    assert [r["equation"] for r in results["steps"][0].rows] == list(PROBLEMS)
    cost = {r["flow"]: r["bytes a cell"] for r in results["flows"][0].rows}
    # 9 numbers, and 3 factors of a row of 8 read twice; 6 numbers more where every line has its own
    assert cost["LineDiffusion L"] == 72.0 + 6 * 8 / 8 and cost["LineDiffusion L, own factors"] == 72.0 + 6 * 8
    for tables in results.values():
        for table in tables:
            assert table.rows and len(report.text(table).splitlines()) == 2 + len(table.rows) + len(table.notes)
    json.dumps(report.plain(results))
    assert jax.config.jax_enable_x64
