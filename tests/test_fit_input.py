"""`jb.fit` and bad input: one line that names the entry, the value, and what would be right."""

import numpy as np
import pytest
from fit_twins import DAY, DT, PARAMETERS, START, T, orbit, two_parameters

import jaxbelt as jb
from jaxbelt import drift_diffusion as dd

pytestmark = pytest.mark.plain


@pytest.fixture(scope="module")
def twin():
    return two_parameters()


@pytest.mark.parametrize("change, says", [
    ({"free": "dll.pover"}, "free: 'dll.pover' is no parameter of this fit .did you mean \"dll.power\""),
    ({"free": "dll"}, "free: 'dll' is no parameter of this fit; it holds"),
    ({"free": ("dll.power", "dll.power")}, "free: 'dll.power' is given twice"),
    ({"free": ()}, "free: name at least one"),
    ({"free": "data.values"}, "free: 'data.values' is no parameter of this fit"),
    ({"iterations": 3}, "fit: 'iterations' is no option of method 'gauss-newton'"),
    ({"free": jb.Free("dll.power", start=np.nan)}, "dll.power: must start from finite numbers, got nan"),
    ({"free": jb.Free("dll.power", start=np.ones(2))}, r"dll.power: start has shape \(2,\), the parameter \(\)"),
    ({"free": jb.Free("dll.power", prior=jb.Normal(np.ones(3), 1.0))}, "dll.power: its prior has another shape"),
    ({"free": jb.Free("dll.power", prior=jb.Normal(np.nan, 1.0))}, "dll.power: the mean of a prior must be finite"),
    ({"free": jb.Free("dll.power", prior=jb.Smooth(1.0))}, "dll.power: a Smooth prior of order 2 needs at least 3 values, got 1"),
    ({"free": jb.Free("dll.power", scale=0.0)}, "dll.power: scale must be positive"),
    ({"free": jb.Free("dll.log_amplitude", transform="log")}, "dll.log_amplitude: must start above 0 for transform 'log', got 0"),
    ({"free": jb.Free("dll.power", transform="logit", bounds=(0.0, 5.0))}, "must start between its bounds 0 and 5, got 10"),
    ({"method": "gaus-newton"}, "method: 'gaus-newton' is unknown .did you mean \"gauss-newton\""),
    ({"starts": 0}, "starts: must be a whole number of at least 1"),
    ({"theta": [1.0]}, r"theta: needs 2 numbers \(dll.log_amplitude, dll.power\), got shape"),
    ({"theta": [np.nan, 1.0]}, "theta: must be finite, got nan"),
    ({"t": [0.0, DAY]}, "data: observe: 45 of 60 samples are outside the solution, the first at t = .*cut the orbit"),
    ({"t": 3.0}, "t: needs at least two times"),
    ({"values": np.ones(59)}, r"data: values have shape \(59,\), but the operator predicts \(60,\)"),
    ({"values": np.full(60, np.nan)}, "data: none of the 60 values is left: 60 missing"),
    ({"values": np.r_[np.full(30, -1.0), np.full(30, np.nan)]}, "none of the 60 values is left: 30 missing, 30 zero or negative"),
    ({"data": {"mask": np.zeros(60, bool)}}, "none of the 60 values is left: 60 masked"),
    ({"sigma": np.inf}, "none of the 60 values is left: 60 without sigma"),
    ({"sigma": 0.0}, "Data sigma: must be positive, got 0"),
    ({"sigma": [0.1] * 59 + [-0.1]}, "Data sigma: must be positive, got -0.1"),
    ({"sigma": np.ones(7)}, r"Data sigma: shape \(7,\) does not broadcast with the values' \(60,\)"),
    ({"data": {"noise": "poisson"}}, "Data noise: 'poisson' is unknown"),
    ({"data": {"dof": -1.0}}, "Data dof: must be positive"),
])
def test_bad_input(twin, change, says):
    with pytest.raises(ValueError, match=says) as error:
        twin.fit(**change)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("make, says", [
    (lambda: jb.Free("x", prior=jb.Normal(0.0, 0.0)), "x: the width sd of a prior must be positive, got 0.0"),
    (lambda: jb.Free("x", prior=jb.Smooth(-1.0)), "x: the width sd of a prior must be positive, got -1.0"),
    (lambda: jb.Free("x", prior=jb.Smooth(1.0, order=3)), "x: the order of a Smooth prior must be 1 or 2, got 3"),
    (lambda: jb.Free("x", prior=1.0), "x: a prior must be jb.Normal or jb.Smooth, got 1.0"),
    (lambda: jb.Free("x", transform="ln"), "x: transform 'ln' is unknown"),
    (lambda: jb.Free("x", bounds=(0.0, 1.0)), "x: bounds=.* and transform='logit' belong together"),
    (lambda: jb.Free("x", transform="logit", bounds=(1.0, 0.0)), "x: bounds must be two finite numbers, the lower first"),
    (lambda: jb.State(times=()), "State times: needs at least one finite time"),
    (lambda: jb.Moments(names="T_perb", times=1.0), "Moments names: 'T_perb' is unknown"),
    (lambda: jb.fit("problem", 0.0, None, "x"), "problem: needs what an equation's problem"),
])
def test_bad_words(make, says):
    with pytest.raises(ValueError, match=says) as error:
        make()
    assert "\n" not in str(error.value)


@jb.parameters
class Whole:
    """All outputs: an operator without times."""

    def __call__(self, sol):
        return sol.f


def test_bad_data_and_times(twin):
    data = jb.Data(operator=twin.operator, values=twin.clean)
    exact = jb.Data(operator=jb.observed(lambda f: f.sum(axis=1), [0.0, 0.7 * DAY]), values=np.ones(2))

    def fit(data, f0=START, problem=twin.problem, free="dll.power", **kw):
        return jb.fit(problem, f0, data, free, **kw)

    for call, says in (
            (lambda: fit([1.0]), "data: needs a jb.Data or a dict of them by name, got list"),
            (lambda: fit({}), "data: needs a jb.Data or a dict of them"),
            (lambda: fit({"a b": data}), "data: 'a b' cannot be a name"),
            (lambda: fit({"a": data.replace(values=np.ones(3))}, t=T, dt=DT), "data a: values have shape"),
            (lambda: fit(data, f0=np.ones(7)), r"f0: shape \(7,\) does not fit the grid \(24,\) \(L\)"),
            (lambda: fit(exact, t=T, dt=DT), r"t: the data are at t = 60480 \(1 such times\), which is not among the output"),
            (lambda: fit(data.replace(operator=jb.AlongOrbit(orbit=orbit(low=2.0))), t=T, dt=DT),
             r"data: observe: \d+ of 60 samples are outside the solution"),
            (lambda: fit(jb.Data(operator=lambda sol: sol.f, values=np.ones((9, 24)))),
             r"data: the operator must be .*jb.observed\(fn, times\), got function"),
            (lambda: fit(jb.Data(operator=Whole(), values=np.ones((9, 24)))), "t: give the output times"),
            (lambda: fit(data, t=T, dt=-1.0), "dt: must be a positive number"),
            (lambda: fit(data, free="lifetyme"), "'lifetyme' is no parameter of this fit .did you mean \"lifetime\"")):
        with pytest.raises(ValueError, match=says) as error:
            call()
        assert "\n" not in str(error.value)


def test_a_start_that_fails(twin):
    with pytest.raises(ValueError, match="the run fails .* with the parameters that the fit starts from"):
        twin.fit(start=(900.0, 10.0))


def test_nodes_that_differ_cannot_share():
    grid = dd.grid(L=(3.0, 7.0), cells=24, mu=(100.0, 200.0))
    problem = dd.problem(grid, lambda m: PARAMETERS.replace(lifetime=m), inner=0.0, outer=1.0)
    data = jb.Data(operator=jb.State(times=(DAY,)), values=np.ones((1, 2, 24)))
    with pytest.raises(ValueError, match="free: 'lifetime' differs from node to node; give start="):
        jb.fit(problem, 0.0, data, "lifetime")
