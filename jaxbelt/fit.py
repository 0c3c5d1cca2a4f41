r"""Fits: parameters of a problem (and of its walls, its start and its data) from measurements, with their uncertainty.

    fit = jb.fit(problem, f0, data, free=("dll.log_amplitude", "dll.power"), method="gauss-newton", t=times, dt=600.0)
    print(fit)                       # a table: value, 68 % interval, what is undetermined
    fit.parameters                   # the parameters at the best fit; fit.problem has them in it

The loss is -ln of the posterior: the data's likelihood (`Data`: log-normal, normal, Student's t) and the priors of the free
parameters (`Free`). Gauss-Newton takes one tangent run a parameter; L-BFGS and Adam take the discrete adjoint, whose cost does
not grow with their number. Uncertainties are those of the Laplace approximation: (F + prior)^-1 at the best fit, F the Fisher
matrix expected for the data's noise, in the transformed parameters.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxbelt._warn import warn
from jaxbelt.config import suggest
from jaxbelt.fitting.data import Data, accepted, counted, left_out
from jaxbelt.fitting.free import Unknowns, put, unknowns
from jaxbelt.solve import Problem

__all__ = ["Fit", "fit"]

_OUTPUTS = 240                 # about how many outputs a run gets between which observations are interpolated
_REACH = 3.0                   # a step changes a logarithm, or a logit, by no more
_CLOSE = 0.05                  # a stop this much above the parabola's minimum (a third of a sigma) is no best fit yet


@dataclasses.dataclass(frozen=True)
class Fit:
    """The result of `fit`; print it for a table.

    parameters, problem, initial (array), data: with the fitted values. values {path: x}; sigma {path: standard error of x, by
    the derivative of the transform}; theta, sigma_theta (n,), labels: the transformed entries one by one, covariance and
    correlation (n, n) of theta; undetermined: tuple of `Direction`, the combinations that the data alone do not know.
    converged, message; history: one dict an iteration; chi2: sum of the squared residuals, each with its weight where the noise
    is Student's t; dof = values - parameters that the data determine (the trace of F (F + prior)^-1), reduced_chi2. predictions,
    residuals {name: array}: what the model says of each value (NaN where it did not count), and (data - model)/sigma. Where no
    minimum was reached sigma is NaN. left_out {name: how many values did not count, and why}. A single set of data has the name
    "" in all of these.
    """

    parameters: Any
    problem: Problem
    initial: np.ndarray
    data: dict
    values: dict
    sigma: dict
    theta: np.ndarray
    sigma_theta: np.ndarray
    labels: tuple
    covariance: np.ndarray
    correlation: np.ndarray
    spectrum: np.ndarray
    undetermined: tuple
    converged: bool
    message: str
    method: str
    history: list
    loss: float
    chi2: float
    dof: float
    predictions: dict
    residuals: dict
    f: np.ndarray
    t: np.ndarray
    setting: Any = dataclasses.field(repr=False)
    unknowns: Unknowns = dataclasses.field(repr=False)
    posterior: Any = dataclasses.field(repr=False)
    left_out: dict = dataclasses.field(default_factory=dict)

    @property
    def reduced_chi2(self) -> float:
        """chi^2 over the degrees of freedom; near 1 where the model and the noise are right."""
        return self.chi2 / self.dof if self.dof > 0 else float("nan")

    def interval(self, path: str, level: float = 0.68):
        """(low, high) of a free parameter: an interval of theta at that level, mapped through the transform."""
        _check_level(level)
        for free, at, shape in zip(self.unknowns.free, self.unknowns.slices, self.unknowns.shapes):
            if free.path == path:
                half = _normal_half(level) * self.sigma_theta[at]
                return tuple(np.asarray(free.outward((self.theta[at] + s * half).reshape(shape))) for s in (-1, 1))
        raise ValueError(f"{path!r} is not free in this fit{suggest(path, self.values)}")

    def propagate(self, fn: Callable):
        """(value, standard error) of fn(parameters), a pure function of the fitted parameters (an array of any shape): for
        profiles such as `lambda p: p.dll(0.0, L)`, with all correlations, to first order in the errors; inf where it depends
        on what the data and the priors leave open."""
        import jax
        import jax.numpy as jnp

        def of(theta):
            return jnp.asarray(fn(put(self.setting.key, self.setting.tree, theta)["parameters"]))

        value, slope = jax.jit(of)(self.theta), jax.jit(jax.jacfwd(of))(jnp.asarray(self.theta))
        return np.asarray(value), self.posterior.spread(np.asarray(slope))

    def band(self, level: float = 0.68, noise: bool = True) -> dict:
        """{name: (low, high)} of the data's values at a level: what another measurement would show (noise=True: with its noise),
        or where the model lies. NaN where a value did not count. With Student's t its own, wider quantile is the noise's."""
        import jax

        from jaxbelt.fitting.model import compiled_predictions, compiled_slopes

        _check_level(level)
        z, u, _, _ = (jax.tree.map(np.asarray, x) for x in compiled_predictions(self.setting, self.theta))
        moved = compiled_slopes(self.setting, self.theta)
        out = {}
        for name, data in self.data.items():
            error = self.posterior.spread(np.moveaxis(np.asarray(moved[name]), 0, -1))
            half = _normal_half(level) * error
            if noise:
                half = np.hypot(half, _noise_half(level, data.dof) * np.exp(u[name]))
            ends = (z[name] + s * half for s in (-1, 1))
            use = np.asarray(self.setting.use[name])
            out[name] = tuple(np.where(use, np.exp(x) if data.noise == "log-normal" else x, np.nan) for x in ends)
        return out

    def __str__(self):
        from jaxbelt.fitting.report import table

        return table(self)

    __repr__ = __str__


def _check_level(level):
    if not 0.0 < level < 1.0:
        raise ValueError(f"level: must be between 0 and 1, got {level:g}")


def _normal_half(level):
    from jax.scipy.special import ndtri

    return float(ndtri(0.5 * (1.0 + level)))


def _noise_half(level, dof):
    """Half the width of the interval of a level in units of sigma: of a Gaussian, or of Student's t."""
    if dof is None:
        return _normal_half(level)
    from jax.scipy.special import betainc

    x = np.geomspace(1e-3, 1e3, 4001)
    within = 1.0 - np.asarray(betainc(0.5 * dof, 0.5, dof / (dof + x**2)))
    return float(np.interp(level, within, x))


def fit(problem: Problem, f0, data, free, *, method: str = "gauss-newton", t=None, dt=None, starts: int = 1, seed: int = 0,
        spread: float = 1.0, most: int | None = None, tolerance: float = 1e-4, chunk: int = 16, theta=None,
        report: Callable | None = None, **options) -> Fit:
    """Fit parameters of `problem` to data.

    f0: the state at t[0], an array, or a callable pytree of the grid whose leaves can be free ("initial.x"). data: a `Data`, or a
    dict {name: Data}. free: names or `Free`s: leaves of the parameters, "initial.x", "inner.x", "outer.x", "data.x" or
    "data.name.x". method: "gauss-newton" (few parameters, up to some tens), "lbfgs" or "adam" (many).
    t, dt: output times and steps of the runs, as for `solve`. t None: from 0 to the last datum, with outputs at the times of data
    that need them and about 240 between for those that interpolate. dt None: the shortest distance of outputs.
    starts: begin also from starts - 1 draws around the start (of the prior's width, or of `spread` scales; seed) and keep the
    best: Gauss-Newton advances them together, the others one after another. most: iterations; tolerance: see the methods.
    chunk: columns of the Jacobian at a time (memory: each holds a tangent run). theta: begin at this vector instead (to go on).
    report: called with every entry of the history.

    Returns a `Fit`. A fit that did not converge says so in `.message`, warns, and holds the best it saw.
    Raises ValueError, one line, for unknown names, data outside the grid or the time span, nothing left after masking, priors of
    zero width, sigma <= 0, a start from which the run fails.
    """
    import jax.numpy as jnp

    from jaxbelt.fitting import methods
    from jaxbelt.fitting.model import compiled_predictions, start_state
    from jaxbelt.fitting.posterior import posterior
    from jaxbelt.solve import Result

    if method not in methods.METHODS:
        raise ValueError(f"method: {method!r} is unknown{suggest(method, methods.METHODS)}")
    setting, known = prepare(problem, f0, data, free, t=t, dt=dt, chunk=chunk)
    given = _named(data)
    tree, data, use = setting.tree, setting.tree["data"], {k: np.asarray(v) for k, v in setting.use.items()}
    begin = _begin(known, starts, seed, spread, theta)
    if most is not None:
        options["most"] = most
    run = methods.METHODS[method]
    taken = list(inspect.signature(run).parameters.values())
    allowed = [p.name for p in taken if p.kind is p.KEYWORD_ONLY and p.name not in ("tolerance", "report", "scale", "reach")]
    for word in options:
        if word not in allowed:
            raise ValueError(f"fit: {word!r} is no option of method {method!r}{suggest(word, allowed)}")
    if method == "gauss-newton":
        # logarithms of too long a step overflow, and logits saturate, where nothing has a slope any more
        reach = np.concatenate([np.full(at.stop - at.start, np.inf if f.transform == "identity" else _REACH)
                                for f, at in zip(known.free, known.slices)])
        best = run(setting, begin, tolerance=tolerance, report=report, **{"reach": reach} | options)
    else:
        options.setdefault("scale", known.scale)
        found = []
        for k, one in enumerate(begin):
            try:
                found.append(run(setting, one, tolerance=tolerance, report=report, **options))
            except methods.NoStart:
                if k == 0:                                     # a draw may fail, the start itself should not
                    raise
        best = min(found, key=lambda o: o.loss)

    at = jnp.asarray(best.theta, float)
    last = best.last or {k: np.asarray(v) for k, v in methods.compiled_derivatives(setting, at).items()}
    # methods of first order know no curvature, and Gauss-Newton may be caught at a kink: the Fisher matrix says whether where
    # they stopped is near enough
    left = methods.decrement(last["gradient"], last["fisher"] + last["prior"])
    exact = method == "gauss-newton" and best.done
    done = exact or left < _CLOSE
    reason = "converged" if done else "stopped" if best.done else best.reason
    if not exact:
        reason += f", {np.sqrt(2 * left):.2g} sigma from the minimum of the local parabola"
    code = int(np.max(last["code"]))
    if code:
        done, reason = False, Result(code).message
    message = f"{method}, {len(best.history) - 1} iterations: {reason}"
    told, _, residual, f = compiled_predictions(setting, at)
    tree = put(known.key, tree, at)
    after = posterior(last["fisher"], last["prior"], known.labels, known.scale)
    # no minimum, no errors
    errors = after if done else posterior(np.full_like(last["fisher"], np.nan), last["prior"], known.labels, known.scale)
    values = {k: np.asarray(v) for k, v in known.values(at).items()}
    if not done:
        warn(f"fit: {message}; no standard errors")
    shown = {k: np.where(use[k], np.exp(np.asarray(z)) if data[k].noise == "log-normal" else np.asarray(z), np.nan)
             for k, z in told.items()}
    count = int(sum(u.sum() for u in use.values()))
    lost = {}
    for k, d in given.items():
        beyond = int((accepted(d) & ~use[k]).sum())
        lost[k] = ", ".join(x for x in (left_out(d), f"{beyond} not covered by the run" if beyond else "") if x)
    return Fit(parameters=tree["parameters"], problem=problem.replace(parameters=tree["parameters"], boundary=tree["boundary"]),
               initial=np.asarray(start_state(tree, problem.grid)), data=tree["data"], values=values,
               sigma=_errors(known, best.theta, errors.sigma), theta=best.theta, sigma_theta=errors.sigma, labels=known.labels,
               covariance=errors.covariance, correlation=errors.correlation,
               spectrum=after.spectrum, undetermined=after.undetermined, converged=done, message=message, method=method,
               history=best.history, loss=best.loss, chi2=float(last["chi2"]), dof=count - _effective(last),
               predictions=shown, residuals={k: np.where(use[k], np.asarray(r), np.nan) for k, r in residual.items()},
               f=np.asarray(f), t=setting.t.array, setting=setting, unknowns=known, posterior=errors,
               left_out=lost)


def prepare(problem: Problem, f0, data, free, *, t=None, dt=None, chunk: int = 16):
    """(`model.Setting`, `Unknowns`) of a fit, all checked: what the loss and its derivatives are functions of. See `fit`."""
    import jax
    import jax.numpy as jnp

    from jaxbelt.fitting.model import Setting, check_shapes
    from jaxbelt.grid import Frozen
    from jaxbelt.solve import check_times, plan

    if not isinstance(problem, Problem):
        raise ValueError(f"problem: needs what an equation's problem() returns, got {type(problem).__name__}")
    data = _named(data)
    tree = {"parameters": problem.parameters, "boundary": problem.boundary, "initial": _initial(f0, problem.grid),
            "data": {k: _floats(d) for k, d in data.items()}}
    # arrays that came from numbers are of another type to the compiler than those that a fit returns
    tree = jax.tree.map(lambda x: jnp.asarray(x).astype(jnp.result_type(x)), tree)
    problem = problem.replace(parameters=tree["parameters"], boundary=tree["boundary"])
    axis = problem.grid.axes[0]
    known = unknowns(tree, free, axis.n if axis.is_nodes else 0)
    t, dt = _times(data, t, dt)
    t, dt = check_times(t, dt), float(dt)
    plan(problem, t, dt)                                       # while its tables are concrete
    use = {name: counted(d, _covered(name, d, problem, t), name) for name, d in data.items()}
    setting = Setting(problem=problem, tree=tree, use={k: jnp.asarray(v) for k, v in use.items()},
                      matrix=jnp.asarray(known.matrix), target=jnp.asarray(known.target), key=known.key,
                      of_data=tuple(known.of_data().tolist()), t=Frozen(t), dt=dt, chunk=int(chunk))
    check_shapes(setting)
    return setting, known


def _named(data) -> dict:
    """{name: Data}; a single one has the name ""."""
    if isinstance(data, Data):
        return _callable({"": data})
    if not isinstance(data, dict) or not data or not all(isinstance(d, Data) for d in data.values()):
        raise ValueError(f"data: needs a jb.Data or a dict of them by name, got {type(data).__name__}")
    for name in data:
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"data: {name!r} cannot be a name; use letters, digits and _")
    return _callable(data)


def _callable(data) -> dict:
    import jax

    for name, one in data.items():
        if not callable(one.operator) or any(leaf is one.operator for leaf in jax.tree.leaves(one.operator)):
            raise ValueError(f"data{' ' + name if name else ''}: the operator must be AlongOrbit, Moments, State, or a function "
                             f"made one by jb.observed(fn, times), got {type(one.operator).__name__}")
    return data


def _floats(data: Data) -> Data:
    """Values and errors as arrays of the run's precision; what is missing becomes 1, it does not count."""
    import jax.numpy as jnp

    given = {name: np.asarray(getattr(data, name), float)
             for name in ("values", "sigma", "log_calibration", "background", "log_sigma")}
    data.replace(**given)                                      # checks what were lists
    values, sigma = given["values"], given["sigma"]
    given["values"] = np.where(np.isfinite(values) & ((values > 0) | (data.noise == "normal")), values, 1.0)
    given["sigma"] = np.where(np.isfinite(sigma) & (sigma > 0), sigma, 1.0)
    return data.replace(mask=None, **{name: jnp.asarray(x) for name, x in given.items()})


def _initial(f0, grid):
    """f0 as it goes into the tree: an array, or a callable pytree with leaves."""
    import jax
    import jax.numpy as jnp

    from jaxbelt.coefficients import float_leaves

    if callable(f0):
        leaves = jax.tree.leaves(f0)
        return jnp.asarray(f0(grid)) if len(leaves) == 1 and leaves[0] is f0 else float_leaves(f0)
    f0 = jnp.asarray(f0, jnp.result_type(float))
    try:
        jnp.broadcast_to(f0, grid.shape)
    except ValueError:
        raise ValueError(f"f0: shape {f0.shape} does not fit the grid {grid.shape} ({', '.join(grid.names)})") from None
    return f0


def _covered(name, data, problem, t):
    look = getattr(data.operator, "covered", None)
    try:
        return None if look is None else look(problem, t)
    except ValueError as error:
        raise ValueError(f"data{' ' + name if name else ''}: {error}") from None


def _times(data, t, dt):
    """Output times and steps: as given, else from the times of the data."""
    from jaxbelt.solve import check_times

    exact = sorted({x for d in data.values() if getattr(d.operator, "exact", False) for x in d.operator.times})
    loose = [x for d in data.values() if not getattr(d.operator, "exact", False) for x in getattr(d.operator, "times", ())]
    if t is None:
        if not exact and not loose:
            raise ValueError("t: give the output times of the run; the data's operators have no times")
        if min(exact + loose) < 0:
            raise ValueError(f"t: the data begin at {min(exact + loose):g}, before the run starts at 0; give t= that covers them")
        end = max(exact + loose)
        t = np.union1d(exact, [0.0])
        if loose:
            even = np.linspace(0.0, end, _OUTPUTS + 1)
            # no two outputs nearly at the same time
            far = np.abs(even[:, None] - t[None, :]).min(axis=1) > 1e-3 * end / _OUTPUTS
            t = np.sort(np.concatenate([t, even[far]]))
    else:
        t = check_times(t, 1.0)
        span = t[-1] - t[0]
        lost = [x for x in exact if np.abs(t - x).min() > 1e-6 * span]
        if lost:
            raise ValueError(f"t: the data are at t = {lost[0]:g} ({len(lost)} such times), which is not among the output times")
    return t, float(np.diff(t).min()) if dt is None else dt


def _begin(known, starts, seed, spread, theta):
    """Vectors to begin from, (starts, n)."""
    if theta is not None:
        theta = np.asarray(theta, float)
        if theta.shape != (known.size,):
            raise ValueError(f"theta: needs {known.size} numbers ({', '.join(known.labels)}), got shape {theta.shape}")
        if not np.all(np.isfinite(theta)):
            raise ValueError(f"theta: must be finite, got {theta[~np.isfinite(theta)][0]}")
        return theta[None]
    if int(starts) != starts or starts < 1:
        raise ValueError(f"starts: must be a whole number of at least 1, got {starts}")
    width = spread * known.scale.copy()
    for free, at in zip(known.free, known.slices):
        for prior in free.prior:
            if hasattr(prior, "mean"):
                width[at] = np.broadcast_to(np.ravel(prior.sd), width[at].shape)
    draws = np.random.default_rng(seed).normal(size=(int(starts) - 1, known.size)) * width
    return np.concatenate([known.start[None], known.start + draws])


def _effective(last) -> float:
    """How many parameters the data determine: trace of F (F + prior)^-1."""
    whole = last["fisher"] + last["prior"]
    size = np.sqrt(np.diag(whole))
    unit = np.outer(np.where(size > 0, size, 1.0), np.where(size > 0, size, 1.0))
    if not np.all(np.isfinite(whole)):
        return float(size.size)
    return float(np.trace(np.linalg.pinv(whole / unit, hermitian=True) @ (last["fisher"] / unit)))


def _errors(known, theta, sigma) -> dict:
    """{path: standard error of x} by the slope of the transform."""
    import jax
    import jax.numpy as jnp

    out = {}
    for free, at, shape in zip(known.free, known.slices, known.shapes):
        slope = jax.jvp(free.outward, (jnp.asarray(theta[at]),), (jnp.ones(at.stop - at.start),))[1]
        sure = ~np.isinf(sigma[at])
        out[free.path] = np.where(sure, np.abs(np.asarray(slope)) * np.where(sure, sigma[at], 0.0), np.inf).reshape(shape)
    return out
