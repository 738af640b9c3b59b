"""The house: who may import whom (floors from low to high), and what only one module may know."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FLOORS = [
    {"artifacts", "distribution", "hardware", "labels", "loss_scale", "shards", "precision", "presets", "progress",
     "quiet", "selections", "optimizers", "random_access", "dilated"},
    {"augmentation", "images"},
    {"datasets", "backbones", "pretrained", "stochastic", "crf", "metrics", "features", "cams"},
    {"losses", "input_pipeline", "classifier", "segmenter", "localization", "seeds", "training", "refinement",
     "region_growing", "supervision", "reference", "localizer"},
    {"classifier_training", "segmenter_training", "extraction", "prediction", "evaluation", "retraining", "report",
     "submission", "rehearsal"},
    {"experiments"},
]
FILES = sorted((ROOT / "ficklenet_tf").rglob("*.py"))


def _module(path):
    return path.relative_to(ROOT / "ficklenet_tf").parts[0].removesuffix(".py")


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_imports_from_its_floor_or_below(path):
    floor = {name: number for number, names in enumerate(FLOORS) for name in names}
    own = _module(path)
    if own == "__init__":
        return
    assert own in floor, f"{own} has no floor: give it one in FLOORS"
    for name in _imports(path):
        if name.startswith("ficklenet_tf."):
            other = name.split(".")[1]
            assert floor[other] <= floor[own], f"{own} imports {other}, which stands above it"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_library_knows_no_flags_and_no_tools(path):
    for name in _imports(path):
        assert name.split(".")[0] not in ("absl", "tools", "export"), f"{path} imports {name}"


def test_only_one_module_imports_pydensecrf():
    users = [p for p in FILES if any(name.split(".")[0] == "pydensecrf" for name in _imports(p))]
    assert users == [ROOT / "ficklenet_tf" / "crf" / "pydensecrf.py"]
