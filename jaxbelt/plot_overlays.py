"""What is drawn over the MLT pictures of f: drift contours, the last closed one, plasmapause, magnetopause, wave islands.

All of it comes from the problem, which a run's file holds as its case: `of_run(run).at(t)` is computed once a moment. A
picture never fails for an overlay: what a problem does not have is not drawn, and what cannot be computed is a warning.
"""

from __future__ import annotations

import functools

import numpy as np

from jaxbelt._warn import warn

__all__ = ["Overlays", "in_time", "of_run", "overlays", "draw", "legend", "separatrix"]

_STYLES = {
    "last_closed": ("last closed drift contour inside the grid", {"color": "w", "lw": 1.5}),
    "plasmapause": ("plasmapause", {"color": "#ff6fb5", "lw": 1.3, "ls": (0, (4, 2))}),
    "magnetopause": ("magnetopause / last closed shell", {"color": "#ff9d3c", "lw": 1.5, "ls": ":"}),
}
_CONTOUR = {"colors": "0.62", "linewidths": 0.55}
_LABEL = "drift contours"


class Overlays:
    """The overlays of one problem, computed once for each moment.

    `at(t)` is a dictionary of arrays: phi (n,) [rad], once round with both ends; H (n_L, n) [V] on L (n_L,) and `levels` of it;
    last_closed, plasmapause and magnetopause, L at each phi, NaN beyond the grid. What the problem does not have is None:
    H, levels and last_closed where H does not depend on phi, for its contours are circles.
    """

    def __init__(self, problem):
        self.problem = problem
        self._known: dict = {}
        axis = problem.grid["L"]
        self._L = np.geomspace(axis.faces[0], axis.faces[-1], 81)
        self._phi = np.linspace(0.0, 2 * np.pi, 121)
        self._walls = (float(axis.faces[0]), float(axis.faces[-1]))
        self._compiled = None

    def at(self, t) -> dict:
        t = float(t)
        if t not in self._known:
            lifetime = getattr(self.problem.parameters, "lifetime", None)
            self._known[t] = {"t": t, "phi": self._phi, "L": self._L, **self._contours(t),
                              "plasmapause": _shell(lifetime, _plasmapause, t, self._L, self._phi),
                              "magnetopause": _shell(lifetime, _magnetopause, t, self._L, self._phi)}
        return self._known[t]

    def _contours(self, t) -> dict:
        nothing = {"H": None, "levels": None, "last_closed": None}
        prm = self.problem.parameters
        if getattr(prm, "potential", None) is None:
            return nothing
        if self._compiled is None:
            self._compiled = _compile(self.problem.grid, self._walls, self._L, self._phi)
        H, closed, phi, L = (np.asarray(x) for x in self._compiled(prm, t))
        if not np.all(np.isfinite(H)) or np.max(np.ptp(H, axis=1)) <= 1e-9 * np.ptp(H):
            return nothing
        # evenly spaced where they cross midnight: every path of the convection passes there
        ray = np.arange(np.ceil(2 * self._walls[0]) / 2, self._walls[1], 0.5)
        levels = np.unique(np.interp(ray, self._L, H[:, 0]))
        keep = np.append(True, np.diff(levels) > 1e-3 * np.ptp(H[:, 0]))
        last = None
        if closed:
            turn = np.mod(phi, 2 * np.pi)
            order = np.argsort(turn)
            last = np.interp(self._phi, turn[order], L[order], period=2 * np.pi)
        return {"H": H, "levels": levels[keep], "last_closed": last}


def _compile(grid, walls, L, phi):
    import jax

    from jaxbelt.physics.contours import last_closed
    from jaxbelt.physics.drift import hamiltonian

    @jax.jit
    def found(prm, t):
        H = hamiltonian(prm, t, grid)
        c = last_closed(H, walls)
        return H(*np.meshgrid(L, phi, indexing="ij")), c.closed & c.graph, c.phi, c.L
    return found


def overlays(problem, t) -> dict:
    """What is drawn over a picture of this problem at t; see `Overlays`."""
    return Overlays(problem).at(t)


@functools.lru_cache(maxsize=8)
def _rebuilt(toml, overrides, folder, title, node):
    from jaxbelt.cases import from_attrs

    return _of_node(from_attrs({"toml": toml, "overrides": overrides, "toml_folder": folder, "title": title}).problem, node)


def _of_node(problem, node) -> Overlays:
    """The overlays of a problem, or of one node of its leading axis."""
    from jaxbelt.nodes import at_node

    return Overlays(at_node(problem, node) if problem.grid.axes[0].is_nodes else problem)


def of_run(run) -> Overlays | None:
    """The overlays of a run out of its file (or of a solution), or None where none are to be drawn.

    output.overlays of the case says whether; by default they are drawn where the problem has an electric potential.
    """
    style = run.attrs.get("style", {})
    flag = style.get("overlays") if isinstance(style, dict) else None
    if (flag is not None and not int(flag)) or "phi" not in run.grid.names or "L" not in run.grid.names:
        return None
    try:
        if "problem" in run.attrs:
            found = _of_node(run.attrs["problem"], run.attrs.get("node"))
        elif "toml" in run.attrs:
            found = _rebuilt(*(run.attrs.get(k, d) for k, d in (("toml", ""), ("overrides", "[]"), ("toml_folder", "."),
                                                                ("title", "case"), ("node", None))))
        else:
            return None
    except Exception as error:
        warn(f"overlays are left out of the pictures: the case cannot be built again ({error})")
        return None
    if flag is None and getattr(found.problem.parameters, "potential", None) is None:
        return None
    return found


# ---- shells out of a lifetime

def _parts(lifetime):
    """A lifetime and those it is made of."""
    if lifetime is None or isinstance(lifetime, (str, bytes)):
        return
    yield lifetime
    for part in getattr(lifetime, "parts", None) or ():
        yield from _parts(part)
    for name in ("inside", "outside"):
        yield from _parts(getattr(lifetime, name, None))


def _plasmapause(part, t, L, phi):
    found = getattr(part, "plasmapause", None)
    return None if found is None else found(t, L, phi)


def _magnetopause(part, t, L, phi):
    from jaxbelt.coefficients import evaluate

    found = getattr(part, "l_max", None)
    return None if found is None else evaluate(found, t, L, phi)


def _shell(lifetime, read, t, L, phi):
    """L of the shell at each phi: the smallest that any part of the lifetime gives, NaN beyond the grid; or None."""
    shells = []
    for part in _parts(lifetime):
        values = read(part, t, L[:, None], phi[None])
        if values is None:
            continue
        values = np.asarray(values, float)
        if values.ndim == 2 and values.shape[0] == L.size:      # depends on L: where L first exceeds it
            beyond = L[:, None] > np.broadcast_to(values, (L.size, phi.size))
            values = np.where(beyond.any(axis=0), L[np.argmax(beyond, axis=0)], np.inf)
        values = values.reshape(-1) if values.size in (1, phi.size) else np.full(1, np.nan)
        shells.append(np.broadcast_to(values, phi.shape))
    if not shells:
        return None
    lowest = np.min(shells, axis=0)
    return np.where(lowest <= L[-1], lowest, np.nan)


def in_time(found: Overlays | None, t) -> dict:
    """Plasmapause and magnetopause (at noon) at times t (n,): name -> (label, style, L (n,)); what there is of them."""
    import jax
    import jax.numpy as jnp

    out = {}
    lifetime = None if found is None else getattr(found.problem.parameters, "lifetime", None)
    if hasattr(getattr(found, "problem", None), "tables") and hasattr(found.problem.tables, "schedule"):
        t = found.problem.tables.at(t)                         # drivers that are read by level (see `jaxbelt.levels`)
    for name, read in (("plasmapause", _plasmapause), ("magnetopause", _magnetopause)):
        for part in _parts(lifetime):
            try:
                values = jax.jit(jax.vmap(lambda part, s, read=read: jnp.reshape(read(part, s, 5.0, np.pi), ()), (None, 0)))(
                    part, jnp.asarray(t))
            except Exception:                                  # it has none, or one that is no function of time: not drawn
                continue
            label, style = _STYLES[name]
            out[name] = label, style, np.asarray(values)
            break
    return out


# ---- drawing

def draw(ax, found: Overlays | None, t, polar=True) -> dict:
    """Draw the overlays at t on a dial, or on an (MLT hours, L) map where polar is False; {label: handle} of what was drawn."""
    if found is None:
        return {}
    try:
        data = found.at(t)
    except Exception as error:
        warn(f"overlays are left out of the pictures: {error}")
        return {}
    from matplotlib import patheffects
    from matplotlib.lines import Line2D

    x = data["phi"] if polar else 12 * data["phi"] / np.pi
    handles = {}
    if data["H"] is not None:
        lines = ax.contour(x, data["L"], data["H"], levels=data["levels"], linestyles="-", **_CONTOUR)
        lines.set_zorder(1.8)
        handles[_LABEL] = Line2D([], [], color="0.6", lw=0.8)
    for name, (label, style) in _STYLES.items():
        if data[name] is None or not np.any(np.isfinite(data[name])):
            continue
        outline = [patheffects.Stroke(linewidth=style["lw"] + 1.2, foreground="0.1", alpha=0.7), patheffects.Normal()]
        (line,) = ax.plot(x, data[name], zorder=2.2, path_effects=outline, **style)
        handles[label] = line
    return handles


def legend(fig, handles: dict):
    """A small legend below the axes, on a ground on which white lines are seen."""
    if handles:
        for text in fig.texts:                                 # the notes stand above it
            if text.get_text() and text.get_text() == fig.get_supxlabel():
                text.set_text(text.get_text() + "\n\n")
        fig.legend(list(handles.values()), list(handles), loc="outside lower right", ncols=len(handles), fontsize=7.5,
                   facecolor="#30506c", labelcolor="w", handlelength=2.6, columnspacing=1.4)


def separatrix(ax, wave, t):
    """x - 1/L0 = +- w |cos((m phi - omega t + phase)/2)| about the centres of the island, and its ends 1/L0 -+ w."""
    phi = np.linspace(0, 2 * np.pi, 600)
    angle = wave["m"] * phi - wave["omega"] * t + wave.get("phase", 0.0) + (0.0 if wave["sign"] > 0 else np.pi)
    x = wave["w"] * np.abs(np.cos(angle / 2))
    for side, label in ((1, "separatrix (theory)"), (-1, None)):
        ax.plot(12 * phi / np.pi, 1 / (1 / wave["L0"] + side * x), color="w", lw=0.9, label=label)
    ax.axhline(wave["L0"], color="w", lw=0.6, ls=":", label="resonance")
    for side in (1, -1):
        ax.axhline(1 / (1 / wave["L0"] + side * wave["w"]), color="#ff7f50", lw=0.8, ls="--",
                   label="width (theory)" if side > 0 else None)
