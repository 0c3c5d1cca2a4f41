"""Case files gone wrong in two thousand ways: exit status 2 and one line that says what, no traceback, nothing written."""

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jaxbelt import cases
from jaxbelt.cli import main

VALUES = ['"text"', '""', "-1", "0", "nan", "inf", "-inf", "1e400", "true", "[]", "[1]", '["a"]', "{}", "{ model = 3 }",
          "[[1, 2]]", "2013-03-16", '"3 parsecs"', '"0 s"', '"-5 min"', "99999999999999999999", "1.5", "[1, 2, 3, 4, 5]",
          "[nan, nan]"]
# the wildest values make some files valid; these cannot be
SHIPPED = {name: path.read_text(encoding="utf-8") for name, path in cases.shipped().items()}
ENTRY = re.compile(r"^(\w+) *= *(.*?)( *#.*)?$", re.MULTILINE)


def mutated(rng: random.Random):
    """(text, what was done) of one broken file."""
    text = SHIPPED[rng.choice(sorted(SHIPPED))]
    entries = [m for m in ENTRY.finditer(text) if not m[2].startswith("[") or m[2].endswith("]")]
    kind = rng.choice(("cut", "key", "value", "value", "value", "line", "table", "twice", "byte"))
    if kind == "cut":
        return text[:rng.randrange(1, len(text))], kind
    if kind == "byte":
        at = rng.randrange(len(text))
        return text[:at] + rng.choice('"[]{}=,#\\\x01\n') + text[at + 1:], kind
    if kind == "table":
        return re.sub(r"^\[(\w+)\]", lambda m: f"[{m[1]}{rng.choice('sx_')}]", text, count=1, flags=re.MULTILINE), kind
    m = rng.choice(entries)
    if kind == "key":
        word = m[1]
        at = rng.randrange(len(word))
        return text[:m.start(1)] + word[:at] + rng.choice("abcxyz_") + word[at + 1:] + text[m.end(1):], f"{kind} {word}"
    if kind == "line":
        return text[:m.start()] + text[m.end():], f"{kind} {m[1]}"
    if kind == "twice":
        return text[:m.end()] + "\n" + m[0] + text[m.end():], f"{kind} {m[1]}"
    value = rng.choice(VALUES)
    return text[:m.start(2)] + value + text[m.end(2):], f"{m[1]} = {value}"


def judged(status, out, err, what):
    """A file that is wrong ends with 2 and one line; one that is still right with 0 and no word on stderr but warnings."""
    assert status in (0, 2), (what, status)
    assert "Traceback" not in err, (what, err)
    if status == 2:
        lines = [x for x in err.splitlines() if x.startswith("jaxbelt: ")]
        assert len(lines) == 1 and len(lines[0]) > 15, (what, err)
    return status


def check_many(folder, capsys, count, seed):
    rng, wrong = random.Random(seed), 0
    file = folder / "case.toml"
    for k in range(count):
        text, what = mutated(rng)
        file.write_text(text, encoding="utf-8")
        try:
            status = main(["check", str(file)])
        except BaseException as error:
            raise AssertionError(f"number {k}, {what}: {type(error).__name__}: {error}") from error
        said = capsys.readouterr()
        wrong += judged(status, said.out, said.err, f"number {k}, {what}") == 2
    assert [p.name for p in folder.iterdir()] == ["case.toml"]
    return wrong


def test_some_bad_files(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert check_many(tmp_path, capsys, 6, seed=1) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_two_thousand_bad_files(tmp_path, capsys, seed, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert check_many(tmp_path, capsys, 100, seed=100 + seed) >= 60


@pytest.mark.slow
def test_twenty_by_themselves(tmp_path):
    """The same through a process of its own, as a person does it."""
    rng = random.Random(7)
    for k in range(20):
        text, what = mutated(rng)
        (tmp_path / "case.toml").write_text(text, encoding="utf-8")
        done = subprocess.run([sys.executable, "-m", "jaxbelt.cli", "check", "case.toml"], cwd=tmp_path, capture_output=True,
                              text=True)
        judged(done.returncode, done.stdout, done.stderr, f"number {k}, {what}")


def test_the_files_are_where_they_should_be():
    assert len(SHIPPED) >= 10 and all(Path(p).suffix == ".toml" for p in cases.shipped().values())
