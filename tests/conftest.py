"""What all tests share: the mark `slow`, and real photographs where they are at hand."""

import pathlib

import pytest

_VOC = pathlib.Path(__file__).parents[2] / "shared" / "VOCdevkit"


def pytest_configure(config):
    """Registers the mark for tests that take more than a few seconds: leave them out by -m "not slow"."""
    config.addinivalue_line("markers", "slow: takes more than a few seconds")


@pytest.fixture
def voc_dir():
    """A VOCdevkit directory beside the repository; the test is skipped where there is none."""
    if not (_VOC / "VOC2012" / "JPEGImages").is_dir():
        pytest.skip(f"no real photographs: expected {_VOC}")
    return _VOC
