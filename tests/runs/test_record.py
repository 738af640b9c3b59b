"""What was damaged, swapped or lost beside a stage's files is noticed, and what a kill leaves is not taken for it."""

import os
import re
import shutil
import subprocess
import sys
import zlib

import keras
import numpy as np
import pytest

from export import client
from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import artifacts, record, stage


@pytest.fixture
def directory(tmp_path):
    """A stage with two files."""
    stage.begin_stage(tmp_path / "stage", {"seed": 1})
    for name, data in (("a.png", b"first"), ("b.png", b"other")):
        artifacts.write_bytes(tmp_path / "stage" / name, data)
    return tmp_path / "stage"


def test_a_file_is_what_was_written(directory):
    assert artifacts.read_bytes(directory / "a.png") == b"first"
    assert record.fact_of(b"first") == (zlib.crc32(b"first"), 5) == record.fact_of_file(directory / "a.png")
    with pytest.raises(FileNotFoundError):
        artifacts.read_bytes(directory / "c.png")


def _flip(path):
    data = bytearray(path.read_bytes())
    data[2] ^= 1
    path.write_bytes(data)


def _swap(path):
    other = path.with_name("b.png")
    path.write_bytes(other.read_bytes())


@pytest.mark.parametrize("harm", [_flip, _swap, lambda path: os.truncate(path, 4),
                                  lambda path: path.write_bytes(b"")], ids=["flip", "swap", "cut", "emptied"])
def test_harm_is_named_with_its_remedy(directory, harm):
    path = directory / "a.png"
    harm(path)
    expected = (f"{path}: expected the 5 bytes of checksum {zlib.crc32(b'first'):08x} that were written here, found "
                f"{path.stat().st_size} bytes")
    with pytest.raises(UserError, match=re.escape(expected)) as error:
        artifacts.read_bytes(path)
    assert f"Remove {path}, then run the stage that makes stage/ again" in str(error.value)
    path.unlink()
    artifacts.write_bytes(path, b"first")
    assert artifacts.read_bytes(path) == b"first"


def test_a_file_of_somebody_else_is_refused_in_a_stage_and_taken_elsewhere(directory):
    for place in (directory, directory.parent):
        (place / "mine.png").write_bytes(b"mine")
    assert artifacts.read_bytes(directory.parent / "mine.png") == b"mine"
    with pytest.raises(UserError, match="expected a file that was written here"):
        artifacts.read_bytes(directory / "mine.png")
    assert not record.has_size(directory / "mine.png") and record.has_size(directory / "a.png")


def test_a_file_written_again_is_the_old_or_the_new_one(directory):
    """Killed between the journal's line and the renaming, the old file is still there, and sound."""
    path = directory / "a.png"
    record.note(path, record.fact_of(b"a longer one"))
    assert artifacts.read_bytes(path) == b"first"
    artifacts.write_bytes(path, b"a longer one")
    assert artifacts.read_bytes(path) == b"a longer one"
    with open(next((directory / "record").glob("*.txt")), "a") as file:
        file.write("12ab")  # a line that was cut
    assert artifacts.read_bytes(path) == b"a longer one"


def test_a_directory_removed_and_begun_anew_has_its_own_record(directory):
    for data in (b"again", b"anew!"):  # as long as "first"
        shutil.rmtree(directory)
        stage.begin_stage(directory, {"seed": 1})
        artifacts.write_bytes(directory / "a.png", data)
        assert artifacts.read_bytes(directory / "a.png") == data


def test_several_processes_write_to_one_directory(directory):
    code = ("import sys; from ficklenet_tf.runs import artifacts; "
            "artifacts.write_bytes(sys.argv[1] + '/' + sys.argv[2], sys.argv[2].encode())")
    for name in ("c.png", "d.png"):
        subprocess.run([sys.executable, "-c", code, str(directory), name], check=True)
    assert artifacts.read_bytes(directory / "c.png") == b"c.png"
    assert artifacts.read_bytes(directory / "d.png") == b"d.png" and len(list((directory / "record").iterdir())) == 3


def test_any_name_of_a_file_is_found_again(directory):
    for name in ("a b.png", "ü\u2028x.png", "1 2 3.png", "n\u0085.png"):
        artifacts.write_bytes(directory / name, name.encode())
        assert artifacts.read_bytes(directory / name) == name.encode() and record.has_size(directory / name)


def test_what_a_stage_was_made_with_cannot_be_lost(directory):
    (directory / "settings.json").unlink()
    with pytest.raises(UserError, match=r"expected settings.json beside what is there \(a.png, ...\), found none"):
        stage.begin_stage(directory, {"seed": 2})
    with pytest.raises(UserError, match="found none"):
        stage.run(directory, {"seed": 1}, lambda: dict)


def test_an_edited_record_of_a_run_is_noticed(directory):
    artifacts.write_run(directory, metrics={"miou": 0.5})
    path = directory / "run.json"
    path.write_text(path.read_text().replace("0.5", "0.9"))
    with pytest.raises(UserError, match="run.json: expected the"):
        artifacts.read_run(directory)


def test_weights_are_checked_and_written_whole(directory):
    keras.utils.set_random_seed(0)
    network, path = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]), directory / "model.weights.h5"
    artifacts.save_weights(network, path)
    artifacts.write_run(directory)
    expected = [np.array(weight) for weight in network.get_weights()]
    network.set_weights([np.zeros_like(weight) for weight in expected])
    artifacts.load_weights(network, path)
    for weight, before in zip(network.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(weight, before)
    assert [each.name for each in directory.glob("*.h5")] == ["model.weights.h5"]
    data = bytearray(path.read_bytes())
    data[-9] ^= 64
    path.write_bytes(data)
    with pytest.raises(UserError, match=f"Remove {path}, then run the stage"):
        artifacts.load_weights(network, path)
    (directory / "settings.json").write_text('{"snapshot_of": "classifier"}')
    with pytest.raises(UserError, match=f"Remove {directory.with_name('classifier')}, then run the stage that makes"):
        artifacts.load_weights(network, path)  # no checkpoint has what one moment had
    best = directory / "best.weights.h5"
    artifacts.save_weights(network, best)
    best.write_bytes(best.read_bytes()[:-1])
    with pytest.raises(UserError, match=f"Remove {directory}, then run the stage that makes it"):
        artifacts.load_weights(network, best)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="expected the weights of a finished training"):
        artifacts.load_weights(network, path)
    artifacts.save_weights(network, directory.parent / "other.weights.h5")
    with pytest.raises(UserError, match="expected weights of this network"):
        artifacts.load_weights(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]),
                               directory.parent / "other.weights.h5")


def test_what_fits_is_not_looked_up_again(directory, monkeypatch):
    """A thousand shards leave a thousand journals; they are looked through once, not once a file."""
    assert artifacts.read_bytes(directory / "a.png") == b"first"
    monkeypatch.setattr(record.os, "scandir", lambda path: pytest.fail("the journals were looked up again"))
    assert artifacts.read_bytes(directory / "b.png") == b"other"


def test_what_another_process_writes_later_is_found(directory):
    assert artifacts.read_bytes(directory / "a.png") == b"first"
    (directory / "c.png").write_bytes(b"third")
    (directory / "record" / "other.txt").write_text(f"{zlib.crc32(b'third'):08x} 5 c.png\n")
    assert artifacts.read_bytes(directory / "c.png") == b"third"


@pytest.mark.parametrize("write", [artifacts.write_bytes, client.write])
def test_a_users_umask_holds(tmp_path, monkeypatch, write):
    for umask, mode in ((0o022, 0o644), (0o077, 0o600)):
        monkeypatch.setattr(sys.modules[write.__module__], "_UMASK", umask)
        write(tmp_path / "a.png", b"x")
        assert (tmp_path / "a.png").stat().st_mode & 0o777 == mode
