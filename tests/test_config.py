"""TOML in, typed values out, and the one line that every mistake gives."""

import re

import pytest

from jaxbelt import cases
from jaxbelt.config import UNITS, InputError, Table, override, parse

pytestmark = pytest.mark.plain


def small(**changes):
    """The text of a small radial case; changes are "table.key" -> TOML value."""
    return cases.build(SMALL, [f"{k}={v}" for k, v in changes.items()], name="small")


SMALL = """
[case]
equation = "drift_diffusion"
epoch = "2013-03-16T00:00:00"
duration = "6 h"
[grid]
L = [3.0, 6.0]
cells = [12]
[parameters]
kp = [2.0, 5.0]
dll = { model = "brautigam-albert" }
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


def test_small_case_builds():
    case = small()
    assert case.f0.shape == (12,) and case.t.tolist() == [3600.0 * k for k in range(7)] and case.dt == 1800.0
    assert case.drivers["kp"]["values"].tolist() == [2.0, 5.0]


def test_quantities_carry_units():
    t = Table({"a": "90 min", "b": ["1 h", "2d"], "e": "500 keV", "n": 300, "u": "3 parsec", "x": "fast", "bare": "300"},
              "numerics")
    assert t.quantity("a", "time") == 5400.0
    assert t.quantities("b", "time") == [3600.0, 172800.0]
    assert t.quantity("e", "energy") == 0.5
    for key, words in (("n", "unit in quotes"), ("u", 'unit "parsec" is not a unit of time'), ("x", "not a number with a unit"),
                       ("bare", "has no unit")):
        with pytest.raises(InputError, match=words) as e:
            t.quantity(key, "time")
        assert f"numerics.{key} = " in str(e.value)


def test_every_kind_has_an_example_in_a_unit_of_its_own():
    for kind, units in UNITS.items():
        with pytest.raises(InputError, match="such as") as e:
            Table({"a": 1.0}, "t").quantity("a", kind)
        shown = re.search('such as "(.*)"', str(e.value))[1]
        assert Table({"a": shown}).quantity("a", kind) > 0 and shown.partition(" ")[2] in units
    with pytest.raises(InputError, match='must be above 5 km, such as "20 km"'):
        Table({"a": "4000 m"}).quantity("a", "altitude", above=5.0, like="20 km")


def test_kp_that_nothing_reads_is_noted():
    unread = small(**{"parameters.dll": "'0.1 1/d'"})
    assert unread.notes == ("parameters.kp changes nothing: no coefficient of this case reads it",) and not small().notes
    assert not small(**{"parameters.dll": "'0.1 1/d'", "parameters.lifetime.model": "kp"}).notes


CYCLE = SMALL.replace("kp = [2.0, 5.0]", "kp_cycle = [2.0, 5.0, 3.0, 1.0]")


def test_kp_that_is_repeated_is_noted():
    """Where it is read, and no file is."""
    said = "; give parameters.kp_file for the measured series"
    assert cases.build(CYCLE).notes == ("Kp: 0.5 days of parameters.kp_cycle repeated" + said,)
    assert cases.build(CYCLE, ['parameters.kp_cycle_label="May 2024"']).notes == ("Kp: 0.5 days of May 2024 repeated" + said,)
    (note,) = cases.build(CYCLE, ["parameters.dll=0.1 1/d"]).notes
    assert note.startswith("parameters.kp_cycle changes nothing")
    with pytest.raises(InputError, match='kp_cycle_label = "May": belongs to a list kp_cycle'):
        small(**{"parameters.kp_cycle_label": "May"})


def test_the_years_are_looked_at_where_their_kp_repeats_itself():
    values = parse(cases.shipped()["belt-65-years"].read_text())
    assert values["output"]["every"] == f"{len(values['parameters']['kp_cycle']) // 8} d"
    words = ["numerics.method=steps", "grid.cells=[8]", "parameters.mu.count=2", "case.duration=729 d"]
    case = cases.load_case("belt-65-years", words, dry=True)
    assert any(note.startswith("Kp: 27 days of March 2013 repeated") for note in case.notes)
    assert any("3645 d, 7317 d, 10962 d, ... after the end of the run (729 d)" in note for note in case.notes)
    assert len(case.t) == 28 and case.attrs["notes"].count("March 2013") == 1


def test_moments_after_the_end_are_left_out_with_a_note():
    some = small(**{"output.times": "['0 h', '3 h', '7 h']"})
    assert some.attrs["style"]["times"].tolist() == [0.0, 10800.0]
    assert some.notes == ("output.times: 7 h after the end of the run (6 h) left out",)
    one = small(**{"output.times": "['0 h', '7 h']"})                # one curve says nothing of a run: others are picked
    assert "times" not in one.attrs["style"] and one.notes[0].endswith("left out; moments spread over the run are shown")
    assert not small(**{"output.times": "['0 h']"}).notes and not small(**{"output.times": "['0 h', '6 h']"}).notes


def test_overrides():
    values = override({"a": {"w": [{"m": 1}]}}, ["a.w.0.m=3", "a.name=plain words", "b.c=[1, 2]", "a.q=60 s"])
    assert values == {"a": {"w": [{"m": 3}], "name": "plain words", "q": "60 s"}, "b": {"c": [1, 2]}}
    for bad in ("dt", "a=3", "a.w.x.m=1"):
        with pytest.raises(InputError, match="--set"):
            override({"a": {"w": [{"m": 1}]}}, [bad])


def test_invalid_toml():
    with pytest.raises(InputError, match="mine.toml is not valid TOML"):
        parse("[case\n", name="mine.toml")


WRONG = [
    ("case.nonsense=1", "case.nonsense = 1: unknown key"),
    ("numerics.dtt='60 s'", 'numerics.dtt = "60 s": unknown key (did you mean "dt"?)'),
    ("grid.alpha=[5.0, 90.0]", 'grid.alpha = [5.0, 90.0]: belongs to equation = "local_diffusion", not to "drift_diffusion"'),
    ("initial.at=4.0", 'not to "drift_diffusion" (did you mean "at_L"?)'),
    ("gird.cells=[3]", '[gird]: unknown table (did you mean "grid"?)'),
    ("case.equation='drift_difusion'", '(did you mean "drift_diffusion"?)'),
    ("numerics.dt=60", "numerics.dt = 60: needs a number with its unit"),
    ("numerics.dt='60 m'", 'numerics.dt = "60 m": unit "m" is not a unit of time'),
    ("numerics.dt='-60 s'", 'numerics.dt = "-60 s": must be above 0'),
    ("grid.cells='many'", 'grid.cells = "many": must be whole numbers'),
    ("grid.cells=[1]", "grid.cells = [1]: 1 must be at least 2"),
    ("grid.L=[0.5,6.0]", "[grid] L: the inner wall must be at least 1"),
    ("grid.L=[6.0,3.0]", "[grid] L: needs (inner, outer) with inner < outer"),
    ("parameters.kp=[2.0,9.7]", "parameters.kp = [2.0, 9.7]: 9.7 must be at least 0 and at most 9"),
    ("parameters.kp=[2.0]", "parameters.kp = [2.0]: holds 1 values of 3 h, but the run lasts 2 times 3 h"),
    ("parameters.dll='0.1'", "parameters.dll = \"0.1\": has no unit"),
    ("parameters.dll.model='brautigam'", '(did you mean "brautigam-albert"?)'),
    ("parameters.dll.exponent=3", "parameters.dll.exponent = 3: unknown key"),
    ("parameters.dphiphi='1 1/d'", "needs a phi axis"),
    ("parameters.lifetime='0 d'", 'parameters.lifetime = "0 d": must be above 0'),
    ("initial.value='1 1/cm'", 'initial.value = "1 1/cm": must be a number, without quotes and unit'),
    ("initial.value=-1.0", "initial.value = -1.0: must be at least 0"),
    ("boundary.outer='fixed'", "is not one of the choices"),
    ("output.every='7 h'", "is longer than the run"),
    ("output.pictures=['l-tiem']", '(did you mean "l-time"?)'),
    ("case.epoch='yesterday'", 'case.epoch = "yesterday": must be a time in UTC'),
    ("case.name='../x'", "must be a plain file name"),
]


@pytest.mark.parametrize("word,message", WRONG, ids=[w for w, _ in WRONG])
def test_a_mistake_names_key_and_value(word, message):
    with pytest.raises(InputError) as e:
        cases.build(SMALL, [word])
    assert message in str(e.value) and "\n" not in str(e.value)


def test_boundary_series_times_must_increase():
    wall = 'boundary.outer={times = ["0 h", "3 h", "2 h"], factor = [1.0, 0.1, 1.0]}'
    with pytest.raises(InputError, match="times must increase"):
        cases.build(SMALL, [wall])


def test_missing_keys_are_named():
    for line, message in (('dt = "30 min"', '[numerics] needs the key "dt"'), ("cells = [12]", '[grid] needs the key "cells"'),
                          ("[output]\nevery = \"1 h\"", "needs the table [output]")):
        with pytest.raises(InputError) as e:
            cases.build(SMALL.replace(line, ""))
        assert message in str(e.value)


def test_tensor_that_is_not_positive_is_refused():
    words = ["grid.cells=[12,16]", "parameters.dll='1 1/d'", "parameters.dphiphi='1 1/d'", "parameters.dlphi='3 1/d'"]
    with pytest.raises(InputError, match="positive semi-definite"):
        cases.build(SMALL, words)


def test_kp_file(tmp_path):
    path = tmp_path / "kp.txt"
    path.write_text("YYYYMMDD Kp_x8\n20130316 3.3 3.7 2.7 2.0 1.7 1.3 1.7 1.3\n")
    text = SMALL.replace("kp = [2.0, 5.0]", 'kp_file = "kp.txt"')
    case = cases.build(text, folder=tmp_path)
    assert case.drivers["kp"]["values"].tolist()[:2] == [3.3, 3.7]
    with pytest.raises(InputError, match="parameters.kp_file.*there is no file"):
        cases.build(text, folder=tmp_path / "elsewhere")
    path.write_text("20130316 3.3 3.7 27 2.0 1.7 1.3 1.7 1.3\n")
    with pytest.raises(InputError, match="line 1.*27"):
        cases.build(text, folder=tmp_path)


@pytest.mark.parametrize("name", sorted(cases.shipped()))
def test_shipped_cases_have_titles_and_names(name):
    values = parse(cases.shipped()[name].read_text())
    assert values["case"]["name"] == name and values["case"]["title"]
