"""The binaries as a user meets them: help, flag files, one clear line and a non-zero exit for a mistake."""

import ast
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import types

import numpy as np
import pytest

from ficklenet_tf.data import labels
from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import artifacts
from tools import cli
from tools import start as starting

ROOT = pathlib.Path(__file__).parents[1]
BINARIES = sorted(p for folder in ("tools", "export") for p in (ROOT / folder).glob("*.py")
                  if 'if __name__ == "__main__"' in p.read_text())


def _start(*arguments):
    return subprocess.Popen([sys.executable, "-m", *map(str, arguments)], cwd=ROOT, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
                            preexec_fn=_heed_interrupts)


def _heed_interrupts():
    """In the new process: what started the tests may have them ignored, as a shell does in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("path", BINARIES, ids=lambda p: p.stem)
def test_help_has_a_command_to_copy(path):
    text = ast.get_docstring(ast.parse(path.read_text()))
    assert f"python -m {path.parent.name}.{path.stem}" in text


def test_mistakes_end_in_one_line_and_a_non_zero_exit(tmp_path, drawings_dir):
    (tmp_path / "flags").write_text(f"--output_dir={tmp_path / 'none'}\n--dataset=shapes\n--cache_dir={drawings_dir}\n"
                                    "--max_images=4\n")
    (tmp_path / "mine" / "images").mkdir(parents=True)
    (tmp_path / "mine" / "images" / "a.jpg").write_bytes(b"\xff\xd8 truncated")
    (tmp_path / "mine" / "tags.csv").write_text("image,tags\na.jpg,dog\n")
    (tmp_path / "file").write_text("")
    cases = {
        "absent.npz": _start("tools.train_classifier", f"--flagfile={tmp_path / 'flags'}", "--weights=absent.npz"),
        "expected a finished classifier": _start("tools.extract_seeds", f"--flagfile={tmp_path / 'flags'}"),
        "expected a finished segmenter": _start("tools.predict", f"--output_dir={tmp_path / 'mine'}", "x.jpg"),
        "expected a run's directory, found no": _start("tools.predict", f"--output_dir={tmp_path / 'none'}", "x.jpg"),
        "different names": _start("tools.predict", f"--output_dir={tmp_path / 'none'}", "a/x.jpg", "b/x.png"),
        "would be overwritten": _start("tools.predict", f"--output_dir={tmp_path / 'none'}", f"--to={tmp_path}",
                                       f"{tmp_path / 'x.png'}"),
        "a.jpg": _start("tools.train_classifier", "--dataset=folder", f"--data_dir={tmp_path / 'mine'}",
                        "--split=all", f"--cache_dir={tmp_path}", f"--output_dir={tmp_path / 'r'}"),
        "rate: expected a number from 0 to 1": _start(
            "tools.train_classifier", "--dataset=shapes", f"--cache_dir={drawings_dir}", "--max_images=4",
            "--rate=1.5", f"--output_dir={tmp_path / 's'}"),
        str(tmp_path / "file"): _start("tools.train_classifier", "--dataset=shapes", f"--cache_dir={drawings_dir}",
                                       "--max_images=4", f"--output_dir={tmp_path / 'file' / 'below'}"),
    }
    for expected, process in cases.items():
        _, errors = process.communicate(timeout=500)
        lines = [line for line in errors.splitlines() if line.startswith("error: ")]
        assert process.returncode == 1 and len(lines) == 1 and expected in lines[0], (expected, errors[-2000:])
        assert "Traceback" not in errors
        assert not list(tmp_path.glob("*/classifier/run.json"))


class _Flags(types.SimpleNamespace):
    def __contains__(self, name):
        return hasattr(self, name)


def test_masks_of_held_out_photographs_are_not_learned(photographs_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cli, "FLAGS", _Flags(
        dataset="folder", data_dir=photographs_dir, cache_dir=tmp_path, output_dir=tmp_path, split=None, held_out=None,
        on_error="stop", max_images=None, strong_split="all", strong_images=None))
    strong = cli.strong(cli.split(), True, "--supervision=semi")
    assert sorted(strong.image_ids) == [f"p{number}" for number in range(9)]
    assert "all: 3 of 12 photographs are held out (val), their masks are not learned" in capsys.readouterr().err
    cli.FLAGS.strong_split = "val"
    with pytest.raises(UserError, match="strong_split: expected photographs that are not held out, found all 3"):
        cli.strong(cli.split(), True, "--supervision=semi")
    cli.FLAGS.split = "all"
    with pytest.raises(UserError, match="held_out: expected photographs from which nothing learns, found 3 of all in"):
        cli.splits()


@pytest.fixture
def masked_dir(photographs_dir, tmp_path):
    """The photographs with masks of p3 to p8, of p9 to p11, which are val's, and of p0 and p1, which are test's."""
    root = tmp_path / "masked"
    shutil.copytree(photographs_dir, root)
    (root / "classes.txt").write_text("disc\nsquare\n")
    for number in (0, 1, *range(3, 12)):
        labels.write_label(root / "labels" / f"p{number}.png", np.ones((40, 48), np.uint8))
    (root / "splits" / "train.txt").write_text("".join(f"p{number}\n" for number in range(2, 9)))
    (root / "splits" / "test.txt").write_text("p0\np1\n")
    (root / "splits" / "drawn.txt").write_text("p0\np4\np9\n")
    return root


def test_masks_of_all_that_is_measured_are_not_learned(masked_dir, tmp_path, monkeypatch, capsys):
    """Those of test, too, whatever is held out now; N strong images are evenly spaced among the other masks."""
    monkeypatch.setattr(cli, "FLAGS", _Flags(
        dataset="folder", data_dir=masked_dir, cache_dir=tmp_path, output_dir=tmp_path, split=None, held_out="test",
        on_error="stop", max_images=None, strong_split="drawn", strong_images=None))
    assert cli.strong(cli.split(), True, "--supervision=semi").image_ids == ("p4",)
    assert "drawn: 2 of 3 photographs are held out (test, val), their masks are not learned" in capsys.readouterr().err
    cli.FLAGS.strong_split, cli.FLAGS.strong_images = None, 3
    assert cli.strong(cli.split("all"), True, "--supervision=semi").image_ids == ("p3", "p5", "p7")
    assert "all: 5 of 12 photographs are held out (test, val)" in capsys.readouterr().err
    cli.FLAGS.strong_images = 7
    with pytest.raises(UserError, match="strong_images: expected 1 to 6 of 7 images, of which 6 have masks, found 7"):
        cli.strong(cli.split("all"), True, "--supervision=semi")
    cli.FLAGS.strong_split = "drawn"
    with pytest.raises(UserError, match="strong_images: expected no strong_split beside it, found drawn"):
        cli.strong(cli.split("all"), True, "--supervision=semi")


def test_the_first_of_a_data_set_of_masks_are_strong_as_before(drawings_dir, tmp_path, monkeypatch):
    """Published figures were made with them; shapes' own val is learned where that is asked for."""
    monkeypatch.setattr(cli, "FLAGS", _Flags(
        dataset="shapes", data_dir=None, cache_dir=drawings_dir, output_dir=tmp_path, split="val", on_error="stop",
        max_images=8, strong_split=None, strong_images=3))
    split = cli.split()
    strong = cli.strong(split, True, "--supervision=semi")
    assert strong.image_ids == split.image_ids[:3] and strong.fingerprint == split.select(range(3)).fingerprint
    assert cli.own_masks(split) is split


def test_vocs_strong_images_are_without_what_is_held_out(monkeypatch):
    """As with --split=val --held_out=train."""
    monkeypatch.setattr(cli, "FLAGS", _Flags(dataset="voc", strong_split=None, strong_images=None))
    monkeypatch.setattr(cli, "split", lambda name: f"{name} as it is")
    monkeypatch.setattr(cli, "learned", lambda split: f"{split}, without what is held out")
    assert cli.strong(None, True, "--supervision=semi") == "train as it is, without what is held out"


def test_a_segmenter_of_masks_alone_does_not_learn_what_is_measured(masked_dir, tmp_path):
    """It ends for want of a classifier, when it has said whose masks it leaves out."""
    common = ["tools.train_segmenter", "--dataset=folder", f"--data_dir={masked_dir}", "--supervision=full",
              f"--cache_dir={tmp_path / 'data'}", f"--output_dir={tmp_path / 'run'}", "--preset=tiny"]
    processes = [_start(*common, f"--split={split}") for split in ("all", "val")]
    (_, of_all), (_, of_val) = (process.communicate(timeout=500) for process in processes)
    assert [process.returncode for process in processes] == [1, 1]
    assert "all: 5 of 12 photographs are held out (test, val), their masks are not learned" in of_all, of_all
    assert "expected a finished classifier" in of_all.splitlines()[-1]
    assert of_val.splitlines()[-1] == ("error: split: expected photographs that are not held out, found all 3 of val "
                                       "in val")


@pytest.mark.parametrize("error, line", [
    (UserError("rate: expected 0..1, found 2"), "error: rate: expected 0..1, found 2"),
    (UserError("in user code:\n\n    File \"x.py\", line 1\n\n    UserError: rate: expected 0..1"),
     "error: rate: expected 0..1"),
    (FileNotFoundError("no such file"), "error: no such file"),
    (KeyError("rate"), None), (ValueError("shapes differ"), None)], ids=lambda value: type(value).__name__)
def test_a_mistake_is_one_line_and_a_bug_keeps_its_traceback(monkeypatch, capsys, error, line):
    def main():
        raise error

    monkeypatch.setattr(starting.app, "run", lambda wrapped, flags_parser: wrapped(["binary"]))
    monkeypatch.setattr(sys, "argv", ["binary"])
    with pytest.raises(SystemExit) as raised:
        cli.start(main)
    last, *earlier = capsys.readouterr().err.splitlines()[::-1]
    assert raised.value.code == 1
    if line:
        assert last == line and not any("Traceback" in text for text in earlier)
    else:
        assert last == f"{type(error).__name__}: {error}" and "Traceback (most recent call last):" in earlier


_ENDLESS = """
import sys, time
import numpy as np, tensorflow as tf
from ficklenet_tf.data import indexed_dataset
from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import artifacts
from tools import cli
from tools import start as starting

def read(index):
    time.sleep(0.02)
    if index == 3:
        raise (UserError if sys.argv[1] == "user" else KeyError)("x.png: expected a mask, found none")
    return {"index": np.int64(index)}

def main(_):
    data = iter(indexed_dataset.dataset(range(10**6), read, {"index": tf.TensorSpec([], tf.int64)}))
    while True:
        next(data)

cli.start(main, arguments=True)
"""


@pytest.mark.parametrize("kind", ["user", "bug"])
def test_an_error_in_the_input_pipeline_ends_the_process(kind):
    """Its threads wait for Python's lock; while a frame holds the pipeline, the interpreter waits for its threads."""
    command = [sys.executable, "-c", _ENDLESS, kind]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    assert ("error: x.png: expected a mask, found none" in ended.stderr.splitlines()) == (kind == "user")
    assert ("Traceback" in ended.stderr) == (kind == "bug")


@pytest.mark.parametrize("binary, flag, message", [
    ("tools.evaluate", "--nonsense=1", "there is no flag --nonsense; --help tells the flags"),
    ("tools.train_classifier", "--wieghts=x", "there is no flag --wieghts; near it: --weights; --help tells the "
                                              "flags"),
    ("tools.train_classifier", "--seed=many", "seed: expected a whole number, found many; --help tells the flags"),
    ("tools.train_classifier", "--rate=high", "rate: expected a number, found high; --help tells the flags"),
    ("tools.train_classifier", "--flips=maybe", "flips: expected true or false, found maybe; --help tells the flags"),
    ("tools.train_classifier", "--dataset=x", "dataset: expected one of shapes, voc, folder, found x; --help tells the"
                                              " flags"),
    ("tools.evaluate", "--split=val", "output_dir: expected a value, found none; --help tells the flags"),
    ("tools.check_data", "mine", "expected flags alone, found mine")])
def test_a_wrong_flag_ends_in_one_line_of_our_own_words(binary, flag, message):
    process = _start(binary, flag)
    output, errors = process.communicate(timeout=500)
    assert process.returncode == 1 and not output and errors == f"error: {message}\n"


def test_a_keyboards_interrupt_ends_in_one_line(tmp_path, drawings_dir):
    process = _start("tools.train_classifier", "--dataset=shapes", f"--cache_dir={drawings_dir}",
                     f"--output_dir={tmp_path / 'run'}")
    while not (tmp_path / "run" / "classifier" / "settings.json").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=100)
    assert process.returncode == 130 and "Traceback" not in errors
    assert errors.splitlines()[-1] == "stopped; a stage that was begun goes on with the same command"


_DROPS = """
import os, signal, time
from tools import cli, start
start._PATIENCE = 0.5

class Dropped:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0)  # here Python raises KeyboardInterrupt, which leaves no __del__

def main():
    Dropped()
    while True:
        time.sleep(1)

cli.start(main)
"""


def test_an_interrupt_that_python_drops_still_ends_the_process():
    ended = subprocess.run([sys.executable, "-c", _DROPS], cwd=ROOT, capture_output=True, text=True, timeout=120,
                           preexec_fn=_heed_interrupts)
    assert "Exception ignored" in ended.stderr and ended.returncode == 130
    assert ended.stderr.splitlines()[-1].startswith("stopped; a stage that was begun goes on")


_TURNS = """
import os, signal
from tools import cli

def main():
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt as error:
        raise RuntimeError("so says a library") from error

cli.start(main)
"""


def test_an_interrupt_of_which_a_library_made_another_error_is_one():
    ended = subprocess.run([sys.executable, "-c", _TURNS], cwd=ROOT, capture_output=True, text=True, timeout=120,
                           preexec_fn=_heed_interrupts)
    assert ended.returncode == 130 and "Traceback" not in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("stopped; a stage that was begun goes on")


def test_the_runs_data_set_is_not_taken_for_another(tmp_path):
    """--dataset has a default, which is easily forgotten: not another report over the one of one's photographs."""
    artifacts.write_run(tmp_path / "classifier", dataset="folder")
    process = _start("tools.make_report", f"--output_dir={tmp_path}")
    _, errors = process.communicate(timeout=500)
    assert process.returncode == 1
    assert errors.splitlines()[-1] == (f"error: dataset: expected folder, of which {tmp_path} was made, found shapes; "
                                       "give --dataset=folder and its --data_dir")


WITH_HELP = [path for path in BINARIES if "cli.start" in path.read_text()]
_LISTED = """
import runpy, sys
from absl import app
from tools import cli, define, help_page
import tools.start as starting
def note(main, arguments, modules, groups):
    defined = starting.FLAGS.flags_by_module_dict()
    print("TF", "tensorflow" in sys.modules)
    for module in modules:
        for flag in defined.get(module, []):
            print("FLAG", flag.name, "|", flag.help)
starting.start = note
sys.argv = [sys.argv[1]]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("path", WITH_HELP, ids=lambda p: p.stem)
def test_help_tells_every_flag_without_tensorflow(path):
    """Each flag stands on the page once, with a sentence of its own; nothing on standard error, exit code 0."""
    module = f"{path.parent.name}.{path.stem}"
    listed = subprocess.run([sys.executable, "-c", _LISTED, module], cwd=ROOT, capture_output=True, text=True).stdout
    assert "TF False" in listed
    flags = dict(line.removeprefix("FLAG ").split(" | ", 1) for line in listed.splitlines() if line.startswith("FLAG"))
    help_ = subprocess.run([sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert help_.returncode == 0 and not help_.stderr
    assert help_.stdout.startswith(ast.get_docstring(ast.parse(path.read_text())).splitlines()[0])
    shown = [line.split("=")[0].strip(" -") for line in help_.stdout.splitlines() if line.startswith("  --")]
    assert sorted(shown) == sorted(flags) and len(flags) >= 1
    assert all(len(text.split()) > 2 and "Overrides" not in text.split(".")[0] for text in flags.values())
    assert max(map(len, help_.stdout.splitlines())) <= 120


def test_help_shows_the_chosen_presets_numbers_and_their_sources():
    def lines(*arguments):
        output, _ = _start("tools.run_pipeline", "--help", *arguments).communicate(timeout=100)
        rows = [line.split() for line in output.splitlines() if line.startswith("  --")]
        return {row[0].split("=")[0].strip("-"): row[0].split("=")[1] for row in rows}, " ".join(output.split())

    tiny, text = lines()
    paper, paper_text = lines("--preset=paper")
    assert (tiny["segmenter.steps"], paper["segmenter.steps"], tiny["maps.num_maps"]) == ("400", "8000", "200")
    assert "Steps of training. From 1. SEC: 8000." in text and "Steps of training. From 1. As in SEC." in paper_text
    assert "--segmenter.test_sizes=241,321,401 Sides in pixels whose predictions are averaged." in paper_text
    first = text[text.index("matter first:"):text.index("More of this command:")]
    assert first.count(" --") <= 10 and "--data_dir" in first and "--output_dir" in first


@pytest.mark.parametrize("old, new, binary", [
    ("run_dir", "output_dir", "export.export_saved_model"), ("stage", "segmenter", "tools.evaluate"),
    ("seeds", "random_seeds", "tools.reproduce"), ("sizes", "test_sizes", "export.export_saved_model"),
    ("model", "saliency_model", "tools.make_saliency"), ("photos", "photographs", "tools.benchmark"),
    ("selections", "num_maps", "tools.extract_maps")])
def test_a_flag_by_its_old_name_is_told_the_new_one(tmp_path, old, new, binary):
    process = _start(binary, f"--output_dir={tmp_path / 'run'}", f"--{old}=5")
    output, errors = process.communicate(timeout=500)
    assert process.returncode == 1 and not output
    assert errors.splitlines()[-1] == f"error: --{old} is called --{new} now"
    assert errors.count("error: ") == 1 and "Traceback" not in errors and not (tmp_path / "run").exists()


def test_one_name_has_one_meaning_in_all_binaries():
    """The same words in its help, or words of which a person has seen that they mean the same of another command."""
    seen = {"batch_size", "crf", "flips", "head", "jit_compile", "learning_rate", "name", "num_maps", "num_shards",
            "photographs", "photometric", "precision", "pretrained_multiplier", "restart", "rounds", "rows",
            "saliency_dir", "scale", "steps", "strong_images", "strong_split", "supervision", "systems",
            "test_flip", "test_sizes", "to", "trainable_layers", "version", "weights"}
    texts = {}
    for path in WITH_HELP:
        module = f"{path.parent.name}.{path.stem}"
        listed = subprocess.run([sys.executable, "-c", _LISTED, module], cwd=ROOT, capture_output=True, text=True)
        for line in listed.stdout.splitlines():
            if line.startswith("FLAG "):
                name, text = line.removeprefix("FLAG ").split(" | ", 1)
                texts.setdefault(name, {}).setdefault(text, []).append(path.stem)
    assert {name: each for name, each in texts.items() if len(each) > 1 and name not in seen} == {}
