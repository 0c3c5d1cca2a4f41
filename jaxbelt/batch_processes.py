"""Several processes that share one batch, without a word between them while they compute.

Each keeps a small file in the folder of the parts, written anew every second. They meet there before the first run, and learn
there how the others end; a process whose file stands still is lost. JAX's own service only serves to find out who is who and
which devices belong to whom: it is left before the first run, for it would take every process down with the first that dies.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import threading
import time
from pathlib import Path

from jaxbelt.config import InputError

__all__ = ["Crew", "connect", "gpus", "identity"]

PATIENCE = 120.0       # seconds; a shared file system may show a file a minute late


@dataclasses.dataclass(frozen=True)
class Identity:
    """Process `k` of `n`; how: "alone", "options" or "cluster"; coordinator: host:port of process 0."""

    k: int = 0
    n: int = 1
    how: str = "alone"
    coordinator: str | None = None


def identity(processes: int | None = None, process_id: int | None = None, coordinator: str | None = None, env=None) -> Identity:
    """Who this process is: from the three values given, else from a Slurm step (srun) of several tasks, else alone.

    Raises InputError where only some are given, or they do not fit together.
    """
    env = os.environ if env is None else env
    given = {"--processes": processes, "--process-id": process_id, "--coordinator": coordinator}
    if any(v is not None for v in given.values()):
        missing = [k for k, v in given.items() if v is None]
        if missing:
            raise InputError(f"{missing[0]}: is needed too; --processes N, --process-id K (0 to N-1) and --coordinator HOST:PORT "
                             "belong together")
        if processes < 1 or not 0 <= process_id < processes:
            raise InputError(f"--process-id {process_id}: must be at least 0 and below --processes, {processes}")
        host, colon, port = coordinator.rpartition(":")
        if not host or not colon or not port.isdigit():
            raise InputError(f"--coordinator {coordinator}: must be HOST:PORT of process 0, such as node001:12345")
        return Identity(process_id, processes, "options", coordinator) if processes > 1 else Identity()
    tasks, rank = (env.get(k, "") for k in ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"))
    if tasks.isdigit() and rank.isdigit() and int(tasks) > 1:
        return Identity(int(rank), int(tasks), "cluster")
    return Identity()


def gpus(env=None) -> list[int] | None:
    """Which of the GPUs that it sees a process of a Slurm step takes: all where each has its own, else its share of the node's.

    None where nothing is known. JAX by itself takes the one with the number of the process on its node, which is not there where
    Slurm gives every process its own.
    """
    env = os.environ if env is None else env
    seen = len([v for v in env.get("CUDA_VISIBLE_DEVICES", "").split(",") if v.strip()])
    beside = re.match(r"\d+", env.get("SLURM_STEP_TASKS_PER_NODE", ""))
    if not seen or not beside:
        return None
    share = seen // int(beside[0])
    if not share or "SLURM_GPUS_PER_TASK" in env:
        return list(range(seen))
    first = int(env.get("SLURM_LOCALID", 0)) * share
    return list(range(first, first + share))


def connect(me: Identity, devices, timeout: int = 300):
    """`jax.distributed.initialize` as process `me`, then devices() (called while all are connected), then out of it again."""
    import jax

    if me.n == 1:
        return devices()
    given = {"local_device_ids": gpus()} if me.how == "cluster" else \
        {"coordinator_address": me.coordinator, "num_processes": me.n, "process_id": me.k}
    jax.config.update("jax_enable_preemption_service", False)        # SIGTERM is ours: it finishes the chunk at hand
    try:
        jax.distributed.initialize(**given, initialization_timeout=timeout)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"the processes cannot find each other: {' '.join(str(error).split())}") from None
    try:
        return devices()
    finally:
        jax.distributed.shutdown()


class Crew:
    """This process among those that work on one batch in `folder`. Alone it does nothing at all.

    tell: called with a line where it has to wait for the others.
    Use: with Crew(folder, k, n) as crew: crew.meet(); ...; crew.say("done"). A `with` that ends by an exception says "failed".
    """

    def __init__(self, folder, k: int = 0, n: int = 1, patience: float = PATIENCE, tell=None):
        self.tell = tell or (lambda line: None)
        self.folder, self.k, self.n, self.patience = Path(folder), k, n, patience
        self.state, self.beat, self.lock, self.over = "ready", 0, threading.Lock(), threading.Event()
        self.met, self.done = False, set()           # done: chunks that were there when all met
        self.seen: dict = {}                         # process -> (its text, when that was new)

    def __enter__(self):
        if self.n > 1:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file(self.k).unlink(missing_ok=True)
            if self.k == 0:
                for stale in self.folder.glob("process-*.json"):
                    if int(stale.stem.partition("-")[2]) >= self.n:
                        stale.unlink(missing_ok=True)
            self.seen = {j: (self._text(j), None) for j in self._others()}
            self._write()
            threading.Thread(target=self._keep_beating, daemon=True).start()
        return self

    def __exit__(self, kind, error, trace):
        if self.n > 1 and error is not None and self.state not in ("done", "stopped"):
            self.say("stopped" if issubclass(kind, KeyboardInterrupt) else "failed")
        self.over.set()

    def _others(self):
        return [j for j in range(self.n) if j != self.k]

    def _file(self, j) -> Path:
        return self.folder / f"process-{j:05d}.json"

    def _text(self, j) -> str:
        try:
            return self._file(j).read_text(encoding="utf-8")
        except OSError:
            return ""

    def _write(self):
        with self.lock:
            self.beat += 1
            text = json.dumps({"state": self.state, "beat": self.beat, "pid": os.getpid()})
            temporary = self._file(self.k).with_suffix(".tmp")
            try:
                temporary.write_text(text, encoding="utf-8")
                os.replace(temporary, self._file(self.k))
            except OSError:
                pass                                 # the folder is gone: the parts have been merged

    def _keep_beating(self):
        while not self.over.wait(min(1.0, self.patience / 10)):
            self._write()

    def say(self, state: str):
        """The others read it: "ready", "working", "done", "stopped" or "failed"."""
        self.state = state
        if self.n > 1:
            self._write()

    def states(self) -> dict:
        """{process: its state}, "lost" where its file stood still for longer than the patience, "" where it has not come."""
        now, out = time.monotonic(), {}
        for j in self._others():
            text, new = self._text(j), self.seen[j][1]
            if text and text != self.seen[j][0]:
                self.seen[j], new = (text, now), now
            if new is None:
                out[j] = ""
                continue
            try:
                state = json.loads(self.seen[j][0])["state"]
            except (ValueError, KeyError):
                state = "working"                    # seen while it was being replaced
            ended = state in ("done", "stopped", "failed")
            out[j] = state if ended or now - new < self.patience else "lost"
        return out

    def meet(self):
        """Wait until all processes are here. Raises InputError where one is not in time, or failed at once."""
        start, self.met = time.monotonic(), True
        self.done = {int(p.stem.partition("-")[2]) for p in self.folder.glob("runs-*.nc")}
        told = False
        while self.n > 1:
            states = self.states()
            failed = [j for j, s in states.items() if s in ("failed", "stopped")]
            if failed:
                raise InputError(f"process {failed[0]} of {self.n} did not start: see what it says")
            late = [j for j, s in states.items() if not s]
            if not late:
                return
            if not told:
                more = ", ..." if late[5:] else ""
                self.tell(f"process {self.k} of {self.n} waits for process {', '.join(map(str, late[:5]))}{more} to come, "
                          f"{self.patience:g} s at most; they meet in {self.folder}")
                told = True
            if time.monotonic() - start > self.patience:
                raise InputError(f"process {late[0]} of {self.n} has not come within {self.patience:g} s: were {self.n} of them "
                                 f"started, and do all of them see the folder {self.folder}?")
            time.sleep(0.05)

    def trouble(self, among) -> str:
        """What is wrong with another one of these processes, as a sentence; "" where nothing is."""
        for j, state in self.states().items():
            if j not in among:
                continue
            if state == "lost":
                return f"process {j} of {self.n} was lost (no sign of life for {self.patience:g} s)"
            if state in ("failed", "stopped"):
                return f"process {j} of {self.n} " + ("was stopped" if state == "stopped" else "failed; see what it says")
        return ""
