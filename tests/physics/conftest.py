"""Fixtures for the tests of the physics."""

import pathlib

import pytest


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """The folder ../shared/data beside the repository, with measured data; the test is skipped where it is absent."""
    folder = pathlib.Path(__file__).resolve().parents[2].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the measured data of ../shared/data, which is not part of the package")
    return folder
