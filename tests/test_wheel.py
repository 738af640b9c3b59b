"""The wheel: it holds the library alone, says what that needs, and works where there is no checkout."""

import ast
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ficklenet_tf import crf
from ficklenet_tf.evaluation import prediction
from tests import tiny_run

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DISTRIBUTIONS = {"PIL": "pillow", "cv2": "opencv-python-headless", "google": "protobuf", "pydensecrf": "pydensecrf2",
                 "tensorflow_datasets": "tensorflow-datasets"}


def _run(*command, **options):
    finished = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300, **options)
    assert not finished.returncode, finished.stderr[-3000:]


def _pip(*arguments):
    _run(sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy: setuptools leaves files in the directory where it builds."""
    directory = tmp_path_factory.mktemp("wheel")
    for name in ("ficklenet_tf", "tools", "export", "tests"):
        shutil.copytree(ROOT / name, directory / "copy" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, directory / "copy")
    _pip("wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", directory, directory / "copy")
    [path] = directory.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """An environment with the wheel, and with the packages of this one by a .pth file."""
    directory = tmp_path_factory.mktemp("environment")
    _run(sys.executable, "-m", "venv", "--without-pip", directory)
    [packages] = (directory / "lib").glob("python*/site-packages")
    _pip("install", "--no-deps", "--no-index", "--target", packages, wheel)
    paths = sysconfig.get_paths()
    (packages / "third_party.pth").write_text(f"{paths['purelib']}\n{paths['platlib']}\n")
    return directory


def test_the_wheel_holds_the_library_alone(wheel):
    library = {str(path.relative_to(ROOT)) for path in (ROOT / "ficklenet_tf").rglob("*.py")}
    info = f"ficklenet_tf-{PROJECT['version']}.dist-info"
    described = {f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "top_level.txt", "licenses/LICENSE")}
    with zipfile.ZipFile(wheel) as archive:
        assert set(archive.namelist()) == library | described | {"ficklenet_tf/py.typed"}
        assert archive.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
        assert archive.read(f"{info}/top_level.txt") == b"ficklenet_tf\n"
        assert b"\nLicense-Expression: Apache-2.0\n" in archive.read(f"{info}/METADATA")


def test_the_installed_library_works_without_the_checkout(environment, tmp_path):
    run_dir = tiny_run.make(tmp_path / "run", sizes=(64,), flip=True)
    rng = np.random.default_rng(1)
    inputs = {"photograph": tiny_run.photograph(50, 61), "images": tiny_run.photograph(12, 14)[None],
              "logits": rng.normal(size=(1, 12, 14, 3)).astype(np.float32)}
    np.savez(tmp_path / "inputs.npz", **inputs)
    script = shutil.copy(ROOT / "tests" / "wheel_user.py", tmp_path)
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    _run(environment / "bin" / "python", "-I", script, run_dir, tmp_path / "inputs.npz", tmp_path / "answers.npz",
         cwd=tmp_path, env={**variables, "TF_CPP_MIN_LOG_LEVEL": "3"})
    with np.load(tmp_path / "answers.npz") as arrays:
        answers = dict(arrays)
    assert pathlib.Path(str(answers["library"])).is_relative_to(environment)
    assert not answers["foreign"].size, f"these come with the wheel: {answers['foreign']}"
    for backend in ("exact", "permutohedral"):
        expected = crf.mean_field(inputs["images"], inputs["logits"], crf.DSRG_TEST, backend)
        np.testing.assert_allclose(answers[backend].sum(-1), 1, atol=1e-5)
        np.testing.assert_allclose(answers[backend], expected, atol=1e-5)
    assert np.abs(answers["logits"]).min() > 0
    np.testing.assert_array_equal(answers["reloaded_expanded"], answers["expanded"])
    np.testing.assert_array_equal(answers["reloaded_logits"], answers["logits"])
    expected = prediction.Predictor(run_dir / "segmenter")(inputs["photograph"])
    assert expected.shape == (50, 61, len(tiny_run.CLASS_NAMES))
    np.testing.assert_allclose(answers["probs"], expected, atol=1e-5)


def _declared():
    """Returns the dependencies and those of all extras: (extra or None, Requirement)."""
    extras = PROJECT["optional-dependencies"]
    lists = {None: PROJECT["dependencies"], **extras}
    return [(extra, Requirement(line)) for extra, lines in lists.items() for line in lines]


def test_only_the_extras_bring_tensorflow():
    wanted = {extra for extra, requirement in _declared() if requirement.name in ("tensorflow", "tensorflow-cpu")}
    assert wanted == {"cpu", "gpu"}


def test_what_is_pinned_lies_in_the_ranges():
    pins = {}
    for path in ROOT.glob("requirements*.txt"):
        for line in path.read_text().splitlines():
            if line and not line.startswith("#"):
                pin = Requirement(line)
                pins[canonicalize_name(pin.name)] = str(pin.specifier).removeprefix("==")
    for extra, requirement in _declared():
        pin = pins.get(canonicalize_name(requirement.name))
        assert pin is not None or extra in ("formats", "serve"), f"{requirement.name} of {extra} is not pinned"
        assert pin is None or pin in requirement.specifier, f"{requirement}: {pin} is pinned"


def test_every_package_that_the_library_imports_is_declared():
    declared = {canonicalize_name(requirement.name) for extra, requirement in _declared() if extra != "test"}
    for path in (ROOT / "ficklenet_tf").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = ([alias.name for alias in node.names] if isinstance(node, ast.Import)
                     else [node.module] if isinstance(node, ast.ImportFrom) else [])
            for name in {name.split(".")[0] for name in names} - sys.stdlib_module_names:
                known = name in ("ficklenet_tf", "tensorflow_serving")  # the second is installed with --no-deps
                assert known or DISTRIBUTIONS.get(name, name) in declared, f"{path} imports {name}"


def test_the_citation_has_the_version():
    assert f"\nversion: {PROJECT['version']}\n" in (ROOT / "CITATION.cff").read_text()
