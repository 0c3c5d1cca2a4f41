"""What the command line says of a case before its run and of a run after it."""

from __future__ import annotations

__all__ = ["described", "memory", "size_text", "steps", "steps_taken", "summary"]


def summary(run, pictures=()) -> list[str]:
    """The closing lines of a run: where it is and where the particles went."""
    start, end = float(run.content[0]), float(run.content[-1])
    scale = start if start > 0 else 1.0
    moved = {name: float(v[-1]) for name, v in run.budget.items()}
    lines = [f"file      {run.path} ({run.path.stat().st_size / 2**20:.1f} MiB, {run.t.size} outputs)"]
    if pictures:
        lines.append("pictures  " + " ".join(p.name for p in pictures))
    lines.append(f"log       {run.path.with_suffix('.log')}")
    unit = "of the initial content" if start > 0 else "(absolute)"
    gained = "".join(f", {_plain(n)} {v / scale:+.4g}" for n, v in moved.items())
    lines.append(f"particles {unit}: at the end {end / scale:.6g}{gained}, "
                 f"unaccounted {(end - start - sum(moved.values())) / scale:.1e}")
    return lines


def size_text(size: float) -> str:
    """ "12 kB", "3.4 MiB": a number of bytes to be read."""
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{size / 1e3:.3g} kB"


def _plain(name: str) -> str:
    axis, _, side = name.partition(".")
    return f"{side} wall of {axis}" if side else name


def described(case) -> list[str]:
    """What a case is, line by line: equation, grid, times and steps, size of its output, notes."""
    from jaxbelt.run import chunk_size, when

    problem, t = case.problem, case.t
    axes = ", ".join(f"{a.name} {a.n}" + ("" if a.is_nodes else f" cells {a.faces[0]:.4g} to {a.faces[-1]:.4g}")
                     + ("" if a.unit in ("", "1") else f" {a.unit}") for a in problem.grid.axes)
    width = 4 if case.precision == "single" else 8
    size, chunk = case.f0.size, case.chunk or chunk_size(t.size - 1, case.f0.size * width)
    unit = problem.time_unit if problem.time_unit != "1" else "s"
    span = f"{when(problem.epoch, t[0], unit)} to {when(problem.epoch, t[-1], unit)}"
    each = f", written {chunk} outputs at a time" if case.batch is None else " for one run"
    return [f"case      {case.name}: {case.title}", f"equation  {problem.equation}", f"grid      {axes}",
            f"time      {span}, {t.size} outputs, {steps(case)} steps of at most {case.dt:g} {unit}",
            f"output    about {size_text(t.size * size * width)}{each}",
            *(f"note      {n}" for n in case.notes)]


def steps(case) -> int:
    """Number of steps of a case: equal ones in each interval between output times and jumps of the drivers."""
    import numpy as np

    from jaxbelt.coefficients import jumps
    from jaxbelt.solve import plan

    t = case.t
    if hasattr(case.problem.tables, "schedule"):
        return plan(case.problem, t, case.dt).total_steps
    edges = np.unique(np.concatenate([t, [j for j in jumps(case.problem) if t[0] < j < t[-1]]]))
    return int(np.sum(np.ceil(np.diff(edges) / case.dt - 1e-9)))


def steps_taken(case) -> str:
    """The step asked for, and what is taken to meet output times and jumps of the drivers where that differs."""
    from jaxbelt.solve import plan

    unit = case.problem.time_unit if case.problem.time_unit != "1" else "s"
    taken = [x for group in plan(case.problem, case.t, case.dt).groups for x in group.dt.ravel()]
    low, high = min(taken), max(taken)
    text = f"dt = {case.dt:g} {unit}"
    if high - low <= 1e-6 * high:
        return text if abs(high - case.dt) <= 1e-6 * case.dt else f"{text}; taken: {high:.6g} {unit}"
    return f"{text}; taken: {low:.6g} to {high:.6g} {unit}"


def memory(case) -> float:
    """Rough peak memory of a run in bytes: Python, JAX and the pictures, about 60 work arrays, and the output twice; of a case
    with a table [batch], of a chunk of its runs."""
    from jaxbelt.run import chunk_size

    if case.batch is not None:
        from jaxbelt import batch_command

        return 600 * 2**20 + case.tables + batch_command.memory(case)
    width = 4 if case.precision == "single" else 8
    chunk = case.chunk or chunk_size(case.t.size - 1, case.f0.size * width)
    return 600 * 2**20 + case.tables + case.f0.size * (60 * 8 + 3 * chunk * 8 + 2 * case.t.size * width)
