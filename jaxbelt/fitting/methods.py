"""Ways to the best parameters: Levenberg-Marquardt with the Fisher matrix, L-BFGS and Adam. Host loops around compiled steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxbelt.fitting.model import derivatives, value_and_gradient

__all__ = ["METHODS", "Outcome", "adam", "decrement", "gauss_newton", "lbfgs"]

_derivatives = jax.jit(derivatives)
_many_derivatives = jax.jit(jax.vmap(derivatives, in_axes=(None, 0)))
_value_and_gradient = jax.jit(value_and_gradient)

_LAMBDA = 1e-3                 # first damping of Levenberg-Marquardt,
_WORST = 1e10                  # and where it gives up: no step lowers the loss any more


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Where a method ended. history: one dict an iteration; reason: why it stopped, a sentence."""

    theta: np.ndarray
    loss: float
    done: bool
    reason: str
    history: list


def decrement(gradient, curvature) -> float:
    """How much lower the minimum of the local parabola lies, 1/2 g H^-1 g, in units of ln likelihood: 1/2 (distance/sigma)^2.
    Directions without curvature count nothing."""
    values, vectors = np.linalg.eigh(curvature)
    along = vectors.T @ gradient
    some = values > 1e-13 * max(values.max(initial=0.0), 1e-300)
    return float(0.5 * np.sum(along[some] ** 2 / values[some]))


def gauss_newton(setting, start, *, most=30, tolerance=1e-4, report: Callable | None = None, damping=_LAMBDA) -> Outcome:
    """Levenberg-Marquardt on the expected curvature (Gauss-Newton; Fisher scoring for Student's t and a free sigma).

    start: theta (n,), or several, (starts, n): all are advanced together, the best one is returned. One iteration is one run
    with its derivatives in all parameters; a step that does not lower the loss (or ends in NaN) is taken back and damped ten
    times more. It has converged where the parabola's minimum is lower by less than `tolerance` (1e-4: 1/70 sigma away).
    """
    theta = np.atleast_2d(np.asarray(start, float))
    count = theta.shape[0]

    def evaluate(theta):
        if count == 1:
            return {k: np.asarray(v)[None] for k, v in _derivatives(setting, theta[0]).items()}
        return {k: np.asarray(v) for k, v in _many_derivatives(setting, theta).items()}

    now = evaluate(theta)
    first = _sound(now)
    if not first.any():
        raise ValueError("the run fails (or f is not finite) with the parameters that the fit starts from")
    lam, live, done = np.full(count, damping), first.copy(), np.zeros(count, bool)
    lost = np.zeros(count, bool)
    history = []

    def note(iteration, accepted):
        best = int(np.argmin(np.where(_sound(now), now["loss"], np.inf)))
        history.append({"iteration": iteration, "loss": float(now["loss"][best]), "chi2": float(now["chi2"][best]),
                        "theta": theta[best].copy(), "damping": float(lam[best]), "accepted": bool(accepted[best]),
                        "start": best})
        if report is not None:
            report(history[-1])
        return best

    best = note(0, np.ones(count, bool))
    for iteration in range(1, most + 1):
        for k in np.nonzero(live)[0]:
            if decrement(now["gradient"][k], now["fisher"][k] + now["prior"][k]) < tolerance:
                live[k], done[k] = False, True
        if not live.any():
            break
        trial = theta.copy()
        for k in np.nonzero(live)[0]:
            trial[k] += _step(now["gradient"][k], now["fisher"][k] + now["prior"][k], lam[k])
        then = evaluate(trial)
        better = live & _sound(then) & (then["loss"] < now["loss"])
        lam = np.where(better, np.maximum(lam / 10.0, 1e-9), np.where(live, np.maximum(lam, 1e-4) * 10.0, lam))
        theta = np.where(better[:, None], trial, theta)
        now = {key: np.where(better.reshape(-1, *(1,) * (v.ndim - 1)), then[key], v) for key, v in now.items()}
        lost |= lam > _WORST
        live &= ~lost
        best = note(iteration, better)
    else:
        for k in np.nonzero(live)[0]:
            done[k] = decrement(now["gradient"][k], now["fisher"][k] + now["prior"][k]) < tolerance
    reason = "converged" if done[best] else \
        "no step lowers the loss any more" if lost[best] else f"not converged after {most} iterations"
    return Outcome(theta[best], float(now["loss"][best]), bool(done[best]), reason, history)


def _sound(x):
    """Runs that ended well, with a finite loss and finite derivatives."""
    count = x["loss"].shape[0]
    return (x["code"].reshape(count, -1).max(axis=1) == 0) & np.isfinite(x["loss"]) & \
        np.isfinite(x["gradient"]).all(axis=1) & np.isfinite(x["fisher"]).all(axis=(1, 2))


def _step(gradient, curvature, damping):
    """-(H + damping diag H)^-1 g, in units in which the diagonal is 1; entries without curvature stay."""
    size = np.sqrt(np.diag(curvature))
    some = size > 1e-150
    size = np.where(some, size, 1.0)
    h = curvature / np.outer(size, size)
    h[~some], h[:, ~some] = 0.0, 0.0
    h[np.diag_indices_from(h)] = np.where(some, 1.0 + damping, 1.0)
    return -np.linalg.solve(h, np.where(some, gradient / size, 0.0)) / size


def lbfgs(setting, start, *, most=100, tolerance=1e-4, report: Callable | None = None, memory=10) -> Outcome:
    """L-BFGS with a line search (optax), by the adjoint: for many parameters. Stops where the loss fell by less than `tolerance`
    in each of the last three steps."""
    import optax

    solver = optax.lbfgs(memory_size=memory)

    def value(theta):
        return _value_and_gradient(setting, theta)

    def safe(theta):
        v, g, code = value_and_gradient(setting, theta)
        bad = (code != 0) | ~jnp.isfinite(v) | ~jnp.all(jnp.isfinite(g))
        return jnp.where(bad, 1e30, v), jnp.where(bad, 0.0, g)

    fun = _CustomGradient(safe)

    @jax.jit
    def advance(theta, state, v, g):
        change, state = solver.update(g, state, theta, value=v, grad=g, value_fn=fun)
        theta = optax.apply_updates(theta, change)
        return theta, state, optax.tree.get(state, "value"), optax.tree.get(state, "grad")

    theta = jnp.asarray(np.asarray(start, float))
    v, g, code = value(theta)
    _check_start(v, g, code)
    state = solver.init(theta)
    history = [_entry(0, v, theta, True)]
    if report is not None:
        report(history[-1])
    small = 0
    for iteration in range(1, most + 1):
        new, state, v_new, g = advance(theta, state, v, g)
        small = small + 1 if float(v) - float(v_new) < tolerance else 0
        theta, v = (new, v_new) if float(v_new) <= float(v) else (theta, v)
        history.append(_entry(iteration, v, theta, True))
        if report is not None:
            report(history[-1])
        if small >= 3:
            return Outcome(np.asarray(theta), float(v), True, "converged", history)
    return Outcome(np.asarray(theta), float(v), False, f"not converged after {most} iterations", history)


def adam(setting, start, *, most=500, tolerance=1e-4, report: Callable | None = None, rate=0.05) -> Outcome:
    """Adam (optax), by the adjoint: slow and hard to derail. rate: of the first steps, in units of theta; it falls to nothing
    along a cosine over `most` steps. Stops early where the best loss of the last 20 steps is lower than that of the 20 before
    by less than `tolerance`. Returns the best theta it saw."""
    import optax

    solver = optax.adam(optax.cosine_decay_schedule(rate, most))
    theta = jnp.asarray(np.asarray(start, float))
    state = solver.init(theta)
    history, best = [], (np.inf, None)

    @jax.jit
    def update(theta, state, g):
        change, state = solver.update(g, state, theta)
        return optax.apply_updates(theta, change), state

    reason, done = f"not converged after {most} iterations", False
    for iteration in range(most + 1):
        v, g, code = _value_and_gradient(setting, theta)
        if iteration == 0:
            _check_start(v, g, code)
        if int(np.max(code)) != 0 or not np.isfinite(v) or not np.all(np.isfinite(g)):
            reason = "the run fails (or f is not finite) at the parameters of the last step"
            break
        if float(v) < best[0]:
            best = (float(v), np.asarray(theta))
        history.append(_entry(iteration, v, theta, True))
        if report is not None:
            report(history[-1])
        losses = [h["loss"] for h in history]
        if iteration >= 40 and min(losses[-40:-20]) - min(losses[-20:]) < tolerance:
            reason, done = "converged", True
            break
        theta, state = update(theta, state, g)
    return Outcome(best[1], best[0], done, reason, history)


class _CustomGradient:
    """A function of theta alone whose gradient comes with its value; what a line search of optax asks for."""

    def __init__(self, both):
        self.both = both
        self.call = jax.custom_vjp(lambda theta: both(theta)[0])
        self.call.defvjp(both, lambda g, v: (v * g,))

    def __call__(self, theta, **_):
        return self.call(theta)


def _check_start(value, gradient, code):
    if int(np.max(code)) != 0 or not np.isfinite(value) or not np.all(np.isfinite(gradient)):
        raise ValueError("the run fails (or f is not finite) with the parameters that the fit starts from")


def _entry(iteration, value, theta, accepted):
    return {"iteration": iteration, "loss": float(value), "theta": np.asarray(theta).copy(), "accepted": accepted}


METHODS = {"gauss-newton": gauss_newton, "lbfgs": lbfgs, "adam": adam}
