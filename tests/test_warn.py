"""Warnings: a script sees its own line, the command line one line without a place."""

import warnings

import pytest

from jaxbelt import cli
from jaxbelt._warn import warn
from jaxbelt.cases import build

SCRIPT = """
import functools, types, jax
from jaxbelt.equations._foliated_checks import warn_of_coarse
grid = {"chi": types.SimpleNamespace(n=8)}
warn_of_coarse(grid)
jax.eval_shape(functools.partial(warn_of_coarse, grid))
"""


def test_a_warning_names_the_line_of_the_script():
    """Through the frames of the library and of JAX."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exec(compile(SCRIPT, "script.py", "exec"), {"__name__": "__main__"})
    assert [(w.filename, w.lineno, w.category) for w in caught] == [("script.py", n, UserWarning) for n in (5, 6)]


def test_the_command_line_gives_one_line(monkeypatch, capsys):
    def command(_):
        warn("two\n  lines")
        warnings.warn("old", FutureWarning, stacklevel=1)

    monkeypatch.setitem(cli.COMMANDS, "info", (command, "", ()))
    shown = warnings.showwarning
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert cli.main(["info"]) == 0
    mine, other = capsys.readouterr().err.splitlines()
    assert mine == "jaxbelt: warning: two lines" and other.endswith("FutureWarning: old") and "test_warn.py:" in other
    assert warnings.showwarning is shown


COARSE = """
[case]
equation = "drift_diffusion"
duration = "1 h"
[grid]
L = [3.0, 6.0]
cells = [24, 4]
[parameters]
dll = "1 1/d"
dphiphi = "1 1/d"
dlphi = "0.99 1/d"
[initial]
model = "uniform"
value = 1.0
[boundary]
inner = 0.0
outer = "initial"
[numerics]
dt = "30 min"
[output]
every = "1 h"
"""


@pytest.mark.plain
def test_warnings_of_a_case_are_notes_of_it(recwarn):
    case = build(COARSE)
    assert sum("of the cross diffusion is beyond the stencil" in note for note in case.notes) == 1 and not recwarn.list
