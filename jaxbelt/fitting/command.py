"""What `jaxbelt fit` does: the fit with its log and its state file, the best run with the fit in its file, the pictures.

NAME.fit.json beside the output holds what is needed to go on; it is written anew (under a temporary name, synced, renamed) after
every iteration and removed when the fit has converged and its output is complete.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import warnings
from pathlib import Path

import numpy as np

from jaxbelt.config import InputError

__all__ = ["State", "check_output", "fit_case", "iteration_line", "state_of"]

_FORMAT = 1


def state_of(out) -> Path:
    """NAME.fit.json beside NAME.nc."""
    return Path(out).with_suffix(".fit.json")


@dataclasses.dataclass
class State:
    """Where a fit is: the history so far, of the fit whose case has this print."""

    path: Path
    fingerprint: str
    history: list
    resumed: int = 0               # entries of the history that an earlier call made

    @classmethod
    def open(cls, path, fingerprint, restart=False):
        """The state in a file, or a new one. Raises InputError where the file belongs to another fit or cannot be read."""
        path = Path(path)
        if restart or not path.exists():
            path.unlink(missing_ok=True)
            return cls(path, fingerprint, [])
        advice = "begin anew with --restart"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            history = [{**h, "theta": np.array(h["theta"], float)} for h in found["history"]]
            known = found["fingerprint"]
        except (OSError, ValueError, KeyError, TypeError):
            raise InputError(f"{path} is damaged and cannot be read: {advice}") from None
        if known != fingerprint:
            raise InputError(f"{path} belongs to another fit (the case or its data have changed): {advice}")
        return cls(path, fingerprint, history, len(history))

    def add(self, entry):
        """One more entry, in the file before this returns."""
        entry = dict(entry)
        entry["iteration"] = len(self.history)
        self.history.append(entry)
        plain = [{k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in h.items()} for h in self.history]
        temporary = self.path.with_name(self.path.name + ".tmp")
        try:
            with open(temporary, "w", encoding="utf-8") as file:
                json.dump({"format": _FORMAT, "fingerprint": self.fingerprint, "history": plain}, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise InputError(f"{self.path} cannot be written: {error.strerror or error}") from error

    @property
    def best(self):
        """The entry with the lowest loss."""
        return min(self.history, key=lambda h: h["loss"])


def fingerprint(case, fit) -> str:
    """A short hash of everything that decides a fit but how long it may go on."""
    keys = {k: v for k, v in fit.options.items() if k not in ("most", "tolerance")}
    digest = hashlib.sha256(repr((sorted(keys.items()), fit.free, fit.dt, fit.t.tolist())).encode())
    from jaxbelt.run import fingerprints

    digest.update("".join(fingerprints(case.problem)).encode() + np.asarray(case.f0, float).tobytes())
    for name, data in sorted(fit.data.items()):
        digest.update(f"{name}{data.noise}{data.dof}".encode())
        for x in (data.values, data.sigma, data.background):
            digest.update(np.asarray(x, float).tobytes())
    return digest.hexdigest()[:16]


def check_output(out: Path, case, overwrite: bool):
    """InputError where the best run could not be written in the end: before anything is computed."""
    from jaxbelt import io
    from jaxbelt.fitting.output import load_fit

    width = 4 if case.precision == "single" else 8
    io.check_writable(out.parent, 2 * case.t.size * case.f0.size * width)
    if not out.exists() or overwrite:
        return
    try:
        old = io.read_header(out).attrs
    except InputError:
        return                                                 # damaged: nothing to keep
    try:
        load_fit(out)
        same = old.get("toml") == case.attrs["toml"] and old.get("overrides") == case.attrs["overrides"]
    except InputError:
        same = False
    if not same:
        raise InputError(f"{out} holds another finished run: give this one another name (case.name) or folder (--out), or "
                         "replace it with --overwrite")


def iteration_line(entry, labels, values, count: int) -> str:
    """ "iteration 3  loss -12.3  chi2/n 1.02  dll.power 10.1" """
    shown = "  ".join(f"{label} {value:.5g}" for label, value in zip(labels[:6], values))
    more = f"  and {len(labels) - 6} more" if len(labels) > 6 else ""
    chi2 = f"  chi^2/n {entry['chi2'] / count:.4g}" if "chi2" in entry else ""
    taken = "" if entry.get("accepted", True) else "  (step taken back)"
    return f"iteration {entry['iteration']:<3d} loss {entry['loss']:.6g}{chi2}  {shown}{more}{taken}"


def fit_case(case, out, *, restart=False, overwrite=False, log=None, show=None, quiet=True):
    """The fit of a case into `out` (NAME.nc): (Fit, its Dataset). log: called with every line of the log; show: with every line
    for the terminal; quiet: no bar while the best run is written.

    Raises InputError; `run.Interrupted` after SIGINT or SIGTERM (the next call goes on); `run.Diverged` where the best run does.
    """
    from jaxbelt.cases import _fit
    from jaxbelt.fitting import output
    from jaxbelt.fitting.free import unknowns
    from jaxbelt.run import Interrupted, _Stop, run

    out, log, show = Path(out), log or (lambda line: None), show or (lambda line: None)
    check_output(out, case, overwrite)
    fit = _fit.build(case)
    known = unknowns(_fit.tree_of(fit.problem, fit.f0, fit.data), fit.free, _fit.nodes_of(fit.problem))
    count = max(1, sum(s.count for s in fit.sets.values()))

    def say(line):
        log(line)
        show(line)

    for line in (*_fit.describe(fit), *(f"note      {n}" for n in fit.notes)):
        say(line)
    state = State.open(state_of(out), fingerprint(case, fit), restart)
    more, goes_on = {}, f"go on with the same command: jaxbelt fit (it reads {state.path})"
    if state.history:
        last = state.best
        more = {"theta": last["theta"], "most": max(0, fit.options["most"] - len(state.history) + 1), "starts": 1}
        if "damping" in last:
            more["damping"] = last["damping"]
        say(f"goes on after iteration {len(state.history) - 1} of {state.path} (--restart begins anew)")
    skip = bool(state.history)

    def report(entry):
        nonlocal skip
        if not skip:                                            # the first of a resumed fit is the last one of before
            state.add(entry)
            values = np.concatenate([np.ravel(v) for v in known.values(np.asarray(entry["theta"])).values()])
            say(iteration_line(state.history[-1], known.labels, values, count))
        skip = False
        if stop.asked:
            message = f"stopped after iteration {len(state.history) - 1}; {goes_on}"
            log(message)
            raise Interrupted(message, out)

    with _Stop() as stop, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="fit:")        # said in the table and by the exit status
        try:
            found = fit.run(report=report, **more)
        except InputError:
            raise
        except ValueError as error:
            raise InputError(f"[fit] {' '.join(str(error).split())}") from error
    if state.history:
        found = dataclasses.replace(found, history=list(state.history),
                                    message=f"{found.method}, {len(state.history) - 1} iterations: "
                                            f"{found.message.partition(': ')[2]}")
    about = {"case": case.attrs["long_title"]} | ({"toml": case.attrs["toml"]} if len(case.attrs["toml"]) < 50_000 else {})
    made = output.dataset(found, fit.sets, fit.truth, about)
    fitted = {label: float(v) for label, v in zip(found.labels, np.asarray(made["value"]))}
    try:
        run(found.problem, found.initial, t=case.t, dt=case.dt, out=out, chunk=case.chunk, precision=case.precision,
            attrs=case.attrs | {"fitted": json.dumps(fitted)}, f_attrs=case.f_attrs, drivers=case.drivers, overwrite=True,
            log=log, progress=False if quiet else None)
    except Interrupted as error:
        raise Interrupted(f"stopped while the best run was written; {goes_on}", error.path) from None
    output.add_to(out, made)
    if found.converged:
        state.path.unlink(missing_ok=True)
    return found, made
