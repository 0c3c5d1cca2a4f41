"""Double precision, strict promotion of ranks, and eight CPU devices, for every test."""

import os
import pathlib
import sys

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
os.environ.setdefault("MPLBACKEND", "Agg")

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_enable_x64", True)
sys.path.insert(0, str(pathlib.Path(__file__).parent))           # for `compiling`


@pytest.fixture(scope="session")
def _plain_advance():
    from compiling import plain_advance

    return plain_advance()


@pytest.fixture
def plain_solve(_plain_advance, monkeypatch):
    """`solve` compiles in a quarter of the time: for errors far above rounding (see `compiling`)."""
    module, advance = _plain_advance
    monkeypatch.setattr(module, "_advance", advance)
