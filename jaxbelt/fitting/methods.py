"""Ways to the best parameters: Levenberg-Marquardt with the Fisher matrix, L-BFGS and Adam. Host loops around compiled steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxbelt.fitting.model import derivatives, value_and_gradient
from jaxbelt.fitting.posterior import rounding

__all__ = ["METHODS", "NoStart", "Outcome", "adam", "compiled_derivatives", "decrement", "gauss_newton", "lbfgs"]

# compiled once for all fits of one structure: a setting's arrays are arguments
compiled_derivatives = jax.jit(derivatives)
_many_derivatives = jax.jit(jax.vmap(derivatives, in_axes=(None, 0)))
_value_and_gradient = jax.jit(value_and_gradient)

_LAMBDA = 1e-3                 # first damping of Levenberg-Marquardt,
_WORST = 1e10                  # and where it gives up,
_IDLE = 10                     # or after so many iterations in which the loss hardly fell


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Where a method ended. history: one dict an iteration; reason: why it stopped, a sentence; last: `derivatives` there, or
    None."""

    theta: np.ndarray
    loss: float
    done: bool
    reason: str
    history: list
    last: dict | None = None


def decrement(gradient, curvature) -> float:
    """How much lower the minimum of the local parabola lies, 1/2 g H^-1 g, in units of ln likelihood: 1/2 (distance/sigma)^2.
    Directions without curvature count nothing; inf where something is not finite."""
    if not (np.all(np.isfinite(curvature)) and np.all(np.isfinite(gradient))):
        return float("inf")
    size = np.sqrt(np.maximum(np.diag(curvature), 0.0))
    size = np.where(size > 0, size, 1.0)
    values, vectors = np.linalg.eigh(curvature / np.outer(size, size))
    along = vectors.T @ (gradient / size)
    some = values > rounding() * max(values.max(initial=0.0), 1e-300)
    return float(0.5 * np.sum(along[some] ** 2 / values[some]))


def gauss_newton(setting, start, *, most=30, tolerance=1e-4, report: Callable | None = None, reach=np.inf,
                 damping=_LAMBDA) -> Outcome:
    """Levenberg-Marquardt on the expected curvature (Gauss-Newton; Fisher scoring for Student's t and a free sigma).

    start: theta (n,), or several, (starts, n): all are advanced together, the best one is returned. One iteration is one run
    with its derivatives in all parameters; a step that does not lower the loss (or ends in NaN) is taken back and damped ten
    times more; no step moves an entry by more than its `reach` (n,). It has converged where the parabola's minimum is lower by
    less than `tolerance` (1e-4: 1/70 sigma away).
    """
    theta = np.atleast_2d(np.asarray(start, float))
    count = theta.shape[0]

    def evaluate(theta):
        if count == 1:
            return {k: np.asarray(v)[None] for k, v in compiled_derivatives(setting, theta[0]).items()}
        return {k: np.asarray(v) for k, v in _many_derivatives(setting, theta).items()}

    now = evaluate(theta)
    first = _sound(now)
    if not first.any():
        raise NoStart(now["code"])
    lam, live, done = np.full(count, damping), first.copy(), np.zeros(count, bool)
    lost, idle, failed = np.zeros(count, bool), np.zeros(count, int), 0
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
            step = _step(now["gradient"][k], now["fisher"][k] + now["prior"][k], lam[k])
            trial[k] += step / max(1.0, np.max(np.abs(step) / reach))
        then = evaluate(trial)
        better = live & _sound(then) & (then["loss"] < now["loss"])
        failed = max(failed, *(int(np.max(then["code"][k])) for k in np.nonzero(live)[0]), 0)
        gain = np.where(better, now["loss"] - then["loss"], 0.0)
        idle = np.where(gain > 0.01 * tolerance, 0, idle + 1)
        lam = np.where(better, np.maximum(lam / 10.0, 1e-9), np.where(live, np.maximum(lam, 1e-4) * 10.0, lam))
        theta = np.where(better[:, None], trial, theta)
        now = {key: np.where(better.reshape(-1, *(1,) * (v.ndim - 1)), then[key], v) for key, v in now.items()}
        lost |= live & ((lam > _WORST) | (idle >= _IDLE))
        live &= ~lost
        best = note(iteration, better)
    else:
        for k in np.nonzero(live)[0]:
            done[k] = decrement(now["gradient"][k], now["fisher"][k] + now["prior"][k]) < tolerance
    reason = "converged" if done[best] else \
        ("no step lowers the loss any more" if lost[best] else f"not converged after {most} iterations") + _why(failed)
    return Outcome(theta[best], float(now["loss"][best]), bool(done[best]), reason, history, {k: v[best] for k, v in now.items()})


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


def lbfgs(setting, start, *, most=100, tolerance=1e-4, report: Callable | None = None, scale=1.0, memory=10) -> Outcome:
    """L-BFGS (optax) with a line search, by the adjoint: for many parameters. scale (n,) or a number: the unit of each entry of
    theta. It has converged where the minimum of its own parabola is lower by less than `tolerance` twice in a row."""
    import optax

    x, scale = _in_units(start, scale)

    def value(x):
        v, g, code = _value_and_gradient(setting, jnp.asarray(x * scale))
        return float(v), np.asarray(g, float) * scale, int(np.max(code))

    v, g, code = value(x)
    _check_start(v, g, code)
    state = optax.scale_by_lbfgs(memory_size=memory).init(jnp.asarray(x))
    history, small, runs = [_entry(0, v, x * scale, runs=1)], 0, 1
    if report is not None:
        report(history[-1])
    for iteration in range(1, most + 1):
        d, state = _lbfgs_direction(memory, jnp.asarray(g), state, jnp.asarray(x))
        d = -np.asarray(d, float)
        slope = float(g @ d)
        if not slope < 0:                                      # rounding: begin again along the gradient
            state = optax.scale_by_lbfgs(memory_size=memory).init(jnp.asarray(x))
            d = -g / max(np.linalg.norm(g), 1e-300)
            slope = float(g @ d)
        small = small + 1 if -0.5 * slope < tolerance else 0
        if small >= 2 or slope == 0:
            return Outcome(x * scale, v, True, "converged", history)
        found, tried = _line_search(value, x, v, slope, d)
        runs += tried
        if found is None:
            return Outcome(x * scale, v, False, "no step lowers the loss any more", history)
        x, v, g = found
        history.append(_entry(iteration, v, x * scale, runs=runs))
        if report is not None:
            report(history[-1])
    return Outcome(x * scale, v, False, f"not converged after {most} iterations", history)


@partial(jax.jit, static_argnums=0)
def _lbfgs_direction(memory, g, state, x):
    """(H^-1 g, new memory) of the secants of the last steps."""
    import optax

    return optax.scale_by_lbfgs(memory_size=memory).update(g, state, x)


def _line_search(value, x, v, slope, d, most=25):
    """((x, value, gradient) at a step along d that lowers v enough and turns the slope, or None; number of runs). Between a step
    too short and one too long it follows parabolas."""
    low, high, step, best = 0.0, None, 1.0, None
    v_low, s_low = v, slope
    for k in range(1, most + 1):
        there = x + step * d
        v_new, g_new, code = value(there)
        sound = code == 0 and np.isfinite(v_new) and np.all(np.isfinite(g_new))
        if not sound or v_new > v + 1e-4 * step * slope:
            high, width = step, step - low
            bend = v_new - v_low - s_low * width if sound else 0.0
            share = -0.5 * s_low * width / bend if bend > 0 else 0.5
            step = low + float(np.clip(share, 0.1, 0.5)) * width
            continue
        best, s_new = (there, v_new, g_new), float(g_new @ d)
        if s_new >= 0.9 * slope:
            return best, k
        # still falling: where the slope would be 0, if it goes on as since the last point
        reach = step - s_new * (step - low) / (s_new - s_low) if s_new > s_low else 4.0 * step
        low, v_low, s_low = step, v_new, s_new
        step = float(np.clip(reach, 1.5 * step, 4.0 * step)) if high is None else 0.5 * (step + high)
    return best, most


def adam(setting, start, *, most=500, tolerance=1e-4, report: Callable | None = None, scale=1.0, rate=0.1) -> Outcome:
    """Adam (optax), by the adjoint: slow and hard to derail. scale (n,) or a number: the unit of each entry of theta; rate: of
    the first steps, in those units; it falls to nothing along a cosine over `most` steps. Stops early where all of the last 20
    losses are within `tolerance` of the best; where a run fails it goes on from the best with shorter steps. Returns the best
    theta it saw."""
    import optax

    # the loss has no noise: a short memory of its slopes follows narrow valleys, where the usual one of 1000 steps creeps
    solver = optax.adam(optax.cosine_decay_schedule(rate, most), b2=0.9)
    x, scale = _in_units(start, scale)
    x = jnp.asarray(x)
    state = solver.init(x)
    history, best, shorter = [], (np.inf, None), 1.0
    reason, done = f"not converged after {most} iterations", False
    for iteration in range(most + 1):
        theta = x * scale
        v, g, code = _value_and_gradient(setting, theta)
        if iteration == 0:
            _check_start(v, g, code)
        if int(np.max(code)) != 0 or not np.isfinite(v) or not np.all(np.isfinite(g)):
            reason = "the run fails (or f is not finite) at the parameters of the last step" + _why(code)
            if shorter < 1e-2:
                break
            # from the best again, with shorter steps
            x, state, shorter = jnp.asarray(best[1] / scale), solver.init(x), 0.3 * shorter
            history.append(_entry(iteration, best[0], best[1], accepted=False))
            continue
        if float(v) < best[0]:
            best = (float(v), np.asarray(theta))
        history.append(_entry(iteration, v, theta))
        if report is not None:
            report(history[-1])
        losses = [h["loss"] for h in history[-20:]]
        if iteration >= 20 and max(losses[-20:]) - best[0] < tolerance:
            reason, done = "converged", True
            break
        change, state = solver.update(g * scale, state)
        x = x + shorter * change
    return Outcome(best[1], best[0], done, reason, history)


def _in_units(start, scale):
    start = np.asarray(start, float)
    scale = np.broadcast_to(np.asarray(scale, float), start.shape)
    return start / scale, scale


class NoStart(ValueError):
    """There is no run to begin from."""

    def __init__(self, code=0):
        super().__init__("the run fails (or f is not finite) with the parameters that the fit starts from" + _why(code))


def _why(code) -> str:
    """What a run says of its failure."""
    from jaxbelt.solve import Result

    code = int(np.max(code))
    return f": {Result(code).message}" if code else ""


def _check_start(value, gradient, code):
    if int(np.max(code)) != 0 or not np.isfinite(value) or not np.all(np.isfinite(gradient)):
        raise NoStart(code)


def _entry(iteration, value, theta, **more):
    return {"iteration": iteration, "loss": float(value), "theta": np.asarray(theta).copy(), "accepted": True} | more


METHODS = {"gauss-newton": gauss_newton, "lbfgs": lbfgs, "adam": adam}
