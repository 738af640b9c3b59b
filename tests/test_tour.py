"""The tour: its cells run from top to bottom, and the notebook that is kept is that of its source."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from tests import tiny_run
from tools import make_tour

ROOT = pathlib.Path(__file__).parents[1]
SOURCE = ROOT / "docs" / "tour.py"


def _run(**variables):
    """Runs the tour as Jupyter does, from docs/, in a fresh process."""
    variables = {name: str(value) for name, value in variables.items()}
    return subprocess.run([sys.executable, SOURCE.name], cwd=SOURCE.parent, capture_output=True, text=True,
                          timeout=300, env={**os.environ, "MPLBACKEND": "Agg", **variables})


@pytest.fixture
def photographs_of_the_run(tmp_path):
    """A directory for the data set "folder" with the classes of `tiny_run` and five held-out photographs."""
    root = tmp_path / "photographs"
    (root / "images").mkdir(parents=True)
    (root / "splits").mkdir()
    names = [f"{number}.png" for number in range(6)]
    for number, name in enumerate(names):
        Image.fromarray(tiny_run.photograph(48, 60, number)).save(root / "images" / name)
    (root / "classes.txt").write_text("\n".join(tiny_run.CLASS_NAMES[1:]))
    (root / "tags.csv").write_text("\n".join(["image,tags", *(f"{name},disc;star" for name in names)]))
    (root / "splits" / "val.txt").write_text("\n".join(names[1:]))
    return root


def test_every_cell_runs_on_a_finished_run(tmp_path, photographs_of_the_run):
    run_dir = tiny_run.make(tmp_path / "run", sizes=(48,), flip=False)
    shutil.copytree(run_dir / "classifier", run_dir / "classifier_deterministic")
    done = _run(FICKLENET_TOUR="tiny", FICKLENET_RUN=run_dir, FICKLENET_DATASET="folder",
                FICKLENET_DATA_DIR=photographs_of_the_run, TFDS_DATA_DIR=tmp_path / "cache")
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    assert lines[0] == "5 photographs of disc, square, star; this one: disc, star"
    assert lines[1] == "20 maps; the first ones are kept: (3, 8, 8, 2) (maps, height, width, tags)"
    distances = [float(number) for number in re.findall(r"N = \d+: (\S+)", lines[2])]
    assert len(distances) == 3 and distances[0] > distances[1] > distances[2] > 0  # N = 1, 3, 10
    assert lines[3] == "(48, 60, 4) (height, width, classes)"
    assert lines[4].startswith("found: ")
    before, after = (float(number) for number in re.findall(r"(\S+) %", lines[5]))
    wrong = [float(number) for number in lines[6].split(":")[1].split()]
    assert len(wrong) == 11 and (wrong[0], wrong[10]) == (before, after) and after < before


def test_without_a_run_it_says_what_to_do(tmp_path):
    done = _run(FICKLENET_RUN=tmp_path)
    assert done.returncode == 1 and "run `make demo` first" in done.stderr.splitlines()[-1]


def test_cells_of_percent_format():
    text = ('"""Header."""\n\n# %% [markdown]\n# # Title\n#\n# A line.\n\n# %%\nx = 1\n\n\n'
            "# %%\nif x:\n    # no cell: %%\n    y = 2\n")
    assert make_tour.cells(text) == [("markdown", "# Title\n\nA line."), ("code", "x = 1"),
                                     ("code", "if x:\n    # no cell: %%\n    y = 2")]


def test_the_notebook_is_that_of_the_source_and_was_executed():
    notebook = json.loads((ROOT / "docs" / "tour.ipynb").read_text())
    assert [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]] == make_tour.cells(
        SOURCE.read_text()), "docs/tour.ipynb is stale: python -m tools.make_tour"
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} == {"display_data", "stream"}
    assert sum("image/png" in output.get("data", {}) for output in outputs) > 10
    said = "".join(line for output in outputs for line in output.get("text", []))
    assert not re.search(r"(^|[\s'\"])/\w", said), "an absolute path"
    assert all(output.get("name", "stdout") == "stdout" for output in outputs)
    assert max(sum(bool(line.strip()) for line in cell["source"]) for cell in code) <= 10, "a cell is too long"
