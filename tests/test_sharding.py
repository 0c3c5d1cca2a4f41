"""One run over several devices by its nodes: the run of one device, and nothing sent before its end."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxbelt as jb
from jaxbelt import drift_diffusion as dd
from jaxbelt import sharding
from jaxbelt.solve import plan

MU, T, DT = np.geomspace(200.0, 1600.0, 8), (0.0, 3600.0, 7200.0), 1800.0


@pytest.fixture(scope="module")
def problem():
    kp = jb.Series([0.0, 5400.0], [2.0, 5.0])
    prm = [dd.Parameters(dll=jb.radial_diffusion.BrautigamAlbert(kp=kp, log_amplitude=-0.1 * k), lifetime=5.0 * (1 + k))
           for k in range(8)]
    return dd.problem(dd.grid(L=(3.0, 7.0), cells=10, mu=MU), prm, inner=0.0, outer=list(np.linspace(0.5, 1.5, 8)))


def start(problem):
    return np.sin(problem.grid.centers("L")) ** 2 + np.zeros(problem.grid.shape)


def test_eight_devices_give_what_one_gives(problem):
    alone, shared = jb.solve(problem, start(problem), t=T, dt=DT), jb.solve_over(problem, start(problem), t=T, dt=DT)
    assert len(shared.f.sharding.device_set) == 8
    np.testing.assert_allclose(shared.f, alone.f, rtol=1e-13)
    assert shared.budget.keys() == alone.budget.keys() and int(shared.result) == 0
    for k, v in alone.budget.items():
        np.testing.assert_allclose(shared.budget[k], v, rtol=1e-12, atol=1e-15)


def test_nothing_is_sent_but_the_budget_at_the_end(problem):
    given = problem, jnp.asarray(start(problem)), plan(problem, np.array(T), DT)
    text = sharding._program(tuple(jax.devices())).lower(*given).as_text()
    found = re.findall(r"stablehlo\.(all_\w+|collective_\w+|reduce_scatter)", text)
    assert set(found) == {"all_reduce"}
    # sums over devices come once, after the loop over the periods: the budgets and the code, not once a step
    compiled = sharding._program(tuple(jax.devices())).lower(*given).compile().as_text()
    places = re.findall(r'all-reduce\(.*op_name="([^"]*)"', compiled)
    assert places and all("while" not in place for place in places)


@pytest.mark.parametrize("change, says", [
    (lambda p: {"devices": jax.devices()[:3]}, r"3 devices cannot share 8 nodes of mu evenly; give one of \[1, 2, 4, 8\]"),
    (lambda p: {"problem": dd.problem(dd.grid(L=(3.0, 7.0), cells=8), dd.Parameters(dll=0.1))}, "this grid, L, is one of cells"),
    (lambda p: {"problem": p.replace(parameters=p.parameters.replace(lifetime=5.0))}, "no entry for each of the 8 nodes of mu"),
])
def test_what_cannot_be_shared_out_is_said(problem, change, says):
    given = {"problem": problem, "f0": 1.0, "t": T, "dt": DT} | change(problem)
    with pytest.raises(ValueError, match=says):
        jb.solve_over(**given)
