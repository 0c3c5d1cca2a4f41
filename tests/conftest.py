"""Double precision, strict promotion of ranks, and eight CPU devices, for every test."""

import itertools
import os
import pathlib
import shutil
import sys

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
os.environ.setdefault("MPLBACKEND", "Agg")

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_enable_x64", True)
sys.path.insert(0, str(pathlib.Path(__file__).parent))           # for `compiling`


def pytest_configure(config):
    config.addinivalue_line("markers", "plain: compiled without optimising, for statements far above rounding (see `compiling`)")
    config.addinivalue_line("markers", "optimised: compiled as jax.jit compiles it, in a file whose other tests are plain")
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        # the workers, the command lines that tests start, and the next run share what they compile
        folder = config.rootpath / ".pytest_cache" / "compiled"
        if sum(file.stat().st_size for file in folder.glob("*")) > 2**30:
            shutil.rmtree(folder)
        os.environ |= {"JAX_COMPILATION_CACHE_DIR": str(folder), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5"}
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _is_plain(item):
    """Long runs are worth optimising."""
    return item.get_closest_marker("plain") is not None and not any(map(item.get_closest_marker, ("optimised", "slow")))


def pytest_collection_modifyitems(items):
    """Within each file tests that compile alike follow each other, and files begin as the last one ended."""
    ordered, plain = [], False
    for _, group in itertools.groupby(items, lambda item: item.path):
        ordered += sorted(group, key=lambda item: _is_plain(item) != plain)
        plain = _is_plain(ordered[-1])
    items[:] = ordered


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    from compiling import compile_plainly

    compile_plainly(_is_plain(item))


@pytest.fixture(scope="session")
def _plain_advance():
    from compiling import plain_advance

    return plain_advance()


@pytest.fixture
def plain_solve(_plain_advance, monkeypatch):
    """`solve` compiles in a quarter of the time: for errors far above rounding (see `compiling`)."""
    module, advance = _plain_advance
    monkeypatch.setattr(module, "_advance", advance)
