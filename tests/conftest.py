"""What all tests share: their order, the words of configs.py, and real photographs where they are at hand."""

import os
import pathlib

import numpy as np
import pytest
from PIL import Image

from ficklenet_tf import configs

_VOC = pathlib.Path(os.environ.get("FICKLENET_VOC", pathlib.Path(__file__).parents[2] / "shared" / "VOCdevkit"))

_LONG = ("test_pipeline.py", "test_distribution.py", "test_reproduce.py", "test_systems.py", "test_presets.py",
         "test_benchmark.py")


def pytest_collection_modifyitems(items):
    """The files that take longest first, so that no worker begins one when the others are done."""
    items.sort(key=lambda item: _LONG.index(item.path.name) if item.path.name in _LONG else len(_LONG))


@pytest.fixture(autouse=True)
def _words_of_configs():
    """What a test adds to the words of configs.py is taken back."""
    lists = (configs.BACKBONES, configs.CLASSIFIER_HEADS, configs.SEGMENTER_HEADS, configs.CUES, configs.REFINEMENTS,
             configs.OBJECTIVES, configs.SEGMENTER_LOSSES)
    before = [list(words) for words in lists]
    yield
    for words, content in zip(lists, before, strict=True):
        words[:] = content


@pytest.fixture
def reference_crf():
    """Skips the test where pydensecrf, the reference of our dense CRF, is not installed."""
    pytest.importorskip("pydensecrf.densecrf", reason="the reference pydensecrf is not installed: make reference")


@pytest.fixture
def voc_dir():
    """The VOCdevkit that FICKLENET_VOC names, or one in shared/ beside the repository; else the test is skipped."""
    if not (_VOC / "VOC2012" / "JPEGImages").is_dir():
        pytest.skip(f"no real photographs: expected {_VOC}")
    return _VOC


@pytest.fixture(scope="session")
def drawings_dir(tmp_path_factory):
    """The cache directory of the data set shapes, prepared once for all tests, of another worker's too."""
    root = tmp_path_factory.getbasetemp()
    return (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "drawings"


@pytest.fixture(scope="session")
def photographs_dir(tmp_path_factory):
    """A directory for --dataset=folder: twelve pictures with a red square, a blue disc or both; train 9, val 3."""
    root, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    (root / "images").mkdir()
    (root / "splits").mkdir()
    lines = ["image,tags"]
    for number in range(12):
        picture = rng.integers(90, 160, (40, 48, 3)).astype(np.uint8)
        if number % 3 != 1:
            picture[4:20, 6:24] = (200, 30, 30)
        if number % 3 != 0:
            picture[24:36, 26:44] = (30, 30, 200)
        Image.fromarray(picture).save(root / "images" / f"p{number}.png")
        lines.append(f"p{number}.png,{['square', 'disc', 'disc;square'][number % 3]}")
    (root / "tags.csv").write_text("\n".join(lines) + "\n")
    for name, numbers in (("train", range(9)), ("val", range(9, 12))):
        (root / "splits" / f"{name}.txt").write_text("".join(f"p{n}.png\n" for n in numbers))
    return root
