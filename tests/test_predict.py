"""`tools.predict` with a network of its own: what is wrong with one photograph does not touch the others."""

import pathlib
import subprocess
import sys

import numpy as np
from PIL import Image

from ficklenet_tf.data import labels

ROOT = pathlib.Path(__file__).parents[1]
_PREDICT = """
import tools  # first: it hushes TensorFlow
import numpy as np
import tensorflow as tf

from ficklenet_tf.evaluation import prediction
from ficklenet_tf.serving import servable
from tools import cli, predict

servable.MAX_PIXELS = 250


class Predictor:
    class_names = ["background", "dog"]

    def __init__(self, directory):
        pass

    def labels(self, image, spec):
        print("looks at", len(image))
        if len(image) == 21:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor\\nand more")
        if len(image) == 22:
            raise MemoryError("Unable to allocate 9 GiB")
        return np.ones(image.shape[:2], np.uint8)


prediction.Predictor = Predictor
cli.start(predict.main, arguments=True)
"""


def _ended(tmp_path, paths, to):
    (tmp_path / "run").mkdir(exist_ok=True)
    return subprocess.run([sys.executable, "-c", _PREDICT, f"--output_dir={tmp_path / 'run'}", "--crf=none",
                           f"--to={to}", *map(str, paths)], cwd=ROOT, capture_output=True, text=True)


def test_an_answer_replaces_an_earlier_one_and_nothing_else(tmp_path):
    """A directory of photographs, of which a.jpg is segmented and a.png is another one."""
    for name in ("a.jpg", "a.png", "z.jpg"):
        Image.fromarray(np.zeros((20, 9, 3), np.uint8)).save(tmp_path / name)
    before = (tmp_path / "a.png").read_bytes()
    ended = _ended(tmp_path, [tmp_path / "z.jpg", tmp_path / "a.jpg"], tmp_path)
    assert ended.returncode == 1 and not (tmp_path / "z.png").exists(), ended.stderr
    assert f"to: expected another directory, found {tmp_path / 'a.png'} in it, which is no answer" in ended.stderr
    assert (tmp_path / "a.png").read_bytes() == before
    for _ in range(2):
        assert _ended(tmp_path, [tmp_path / "z.jpg"], tmp_path).returncode == 0
    assert labels.read_label(tmp_path / "z.png").shape == (20, 9)


def test_what_is_wrong_with_one_photograph_is_said_and_the_others_are_done(tmp_path):
    (tmp_path / "to" / "taken.png").mkdir(parents=True)  # where an answer cannot be written
    for height, name in enumerate(("a", "large", "larger", "taken", "z"), 20):
        Image.fromarray(np.full((height, 9, 3), height, np.uint8)).save(tmp_path / f"{name}.png")
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "wide.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "a.png").read_bytes()[:30])
    paths = [tmp_path / f"{name}.png" for name in ("a", "large", "broken", "larger", "taken", "wide", "z")]
    ended = _ended(tmp_path, paths, tmp_path / "to")
    assert ended.returncode == 1 and "Traceback" not in ended.stderr, ended.stderr
    assert ended.stdout.splitlines() == [
        "looks at 20", "a.png: dog 100 %", "looks at 21", "looks at 22", "looks at 23", "looks at 12",
        "wide.png: dog 100 %; computed at 19 x 12 of 30 x 20 pixels", "looks at 24",
        "z.png: dog 100 %", f"3 photographs -> {tmp_path / 'to'}"], "each line as soon as it is known"
    large, broken, larger, taken = ended.stderr[ended.stderr.index("error: "):].splitlines()
    assert large == (f"error: {paths[1]}: expected a photograph that this machine suffices for, found "
                     "OOM when allocating tensor")
    assert broken.startswith(str(paths[2])) and larger.startswith(f"{paths[3]}: ") and "9 GiB" in larger
    assert str(tmp_path / "to" / "taken.png") in taken
    assert sorted(path.name for path in (tmp_path / "to").iterdir()) == [
        "a.png", "a_overlay.jpg", "taken.png", "taken_overlay.jpg", "wide.png",
        "wide_overlay.jpg", "z.png", "z_overlay.jpg"]
    assert labels.read_label(tmp_path / "to" / "wide.png").shape == (20, 30)
    assert labels.read_label(tmp_path / "to" / "z.png").tolist() == [[1] * 9] * 24
