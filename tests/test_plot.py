"""Every picture is drawn, from a run and from a solution; what cannot be drawn says so."""

from pathlib import Path

import numpy as np
import pytest

from jaxbelt import drift_diffusion as dd
from jaxbelt import io, plot
from jaxbelt.config import InputError


def a_run(epoch="2013-03-16T00:00:00", cells=(10, 16), **attrs):
    grid = dd.grid(L=(3.0, 6.0), cells=cells)
    t = 1800.0 * np.arange(9)
    L, *phi = grid.mesh()
    wave = 1 + 0.5 * np.cos(phi[0] - t[:, None, None] / 3000) if phi else 1.0
    f = np.exp(-((L - 4.5) ** 2)) * np.ones((9,) + (1,) * grid.ndim) * wave
    kp = {"t": np.array([0.0, 10800.0]), "values": np.array([2.0, 6.0]), "kind": "step", "units": "1", "long_name": "Kp"}
    wall = {"t": np.array([0.0, 7200.0]), "values": np.array([1.0, 0.01]), "kind": "log-linear", "units": "1",
            "long_name": "f at the outer boundary / initial (illustrative)"}
    attrs = {"long_title": "A case", "notes": "illustrative"} | attrs
    return io.Run(path=Path("x.nc"), grid=grid, t=t, f=f, content=np.ones(9), budget={}, state=f[-1], result=0, epoch=epoch,
                  status="complete", attrs=attrs, f_attrs={}, drivers={"kp": kp, "outer_factor": wall}, planned=t)


@pytest.mark.parametrize("kind", plot.PICTURES)
@pytest.mark.parametrize("epoch", [None, "2013-03-16T00:00:00"])
def test_every_picture(kind, epoch, tmp_path):
    island = {"L0": 4.5, "half_width": 0.3, "w": 0.015, "m": 3, "omega": 0.02, "phase": 0.0, "sign": 1.0}
    (path,) = plot.save(a_run(epoch, island=island), [kind], tmp_path, dpi=40)
    assert path.name == f"x-{kind}.png" and path.stat().st_size > 2000


def test_midnight_is_at_the_bottom_and_dawn_on_the_right():
    ax = plot.dials(a_run(), 2).axes[0]
    assert ax.get_theta_direction() == 1
    to = ax.transData.transform
    centre, midnight, dawn, noon = to((0, 0)), to((0, 5)), to((np.pi / 2, 5)), to((np.pi, 5))
    assert midnight[1] < centre[1] < noon[1] and dawn[0] > centre[0]
    assert [x.get_text() for x in ax.get_xticklabels()] == ["00", "06", "12", "18"]


def test_notes_and_units_are_in_the_picture():
    run = a_run()
    run.f_attrs.update(units="(c/(MeV cm))^3", long_name="phase space density")
    fig = plot.l_time(run)
    words = " ".join(t.get_text() for t in fig.findobj(lambda a: hasattr(a, "get_text")))
    for word in ("illustrative", "A case", "Kp", "UTC", "MeV cm", "MLT mean"):
        assert word in words


def test_a_vacuum_and_a_constant_can_be_drawn(tmp_path):
    run = a_run()
    for value in (0.0, 1.0):
        run.f[:] = value
        drawn = plot.save(run, ["l-time", "cuts", "keogram"], tmp_path, dpi=30)
        assert len(drawn) == 3 and all(p.stat().st_size > 0 for p in drawn)


def test_one_axis(tmp_path):
    run = a_run(cells=10)
    assert [p.name for p in plot.save(run, None, tmp_path, dpi=30)] == ["x-l-time.png", "x-cuts.png"]
    with pytest.raises(InputError, match='"dials" needs the axes L, phi'):
        plot.save(run, ["dials"], tmp_path)


def test_a_solution_can_be_drawn(tmp_path):
    from jaxbelt.solve import solve

    grid = dd.grid(L=(3.0, 6.0), cells=8)
    problem = dd.problem(grid, dd.Parameters(dll=0.1), inner=0.0, outer=1.0, epoch="2013-03-16")
    sol = solve(problem, np.ones(8), t=[0.0, 600.0, 1200.0], dt=600.0)
    assert plot.save(sol, ["cuts"], tmp_path, dpi=30)[0].exists()
