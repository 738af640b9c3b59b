"""Two processes in one place: the second is refused with the first one's name, or waits; a killed one holds none."""

import errno
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import lock, stage
from ficklenet_tf.serving import saved_model

_HOLD = ("import sys, time; from ficklenet_tf.runs import lock\n"
         "with lock.hold(sys.argv[1], 'there'):\n    print('held', flush=True); time.sleep(float(sys.argv[2]))")


@pytest.fixture
def holder(tmp_path):
    """A process that holds tmp_path/.lock."""
    process = subprocess.Popen([sys.executable, "-c", _HOLD, str(tmp_path / ".lock"), "60"], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()


def test_the_second_is_refused_until_the_first_is_dead(holder, tmp_path):
    message = rf"^place: process {holder.pid} on .+, for \d+ minutes, is at work here; wait until it has ended, or"
    with pytest.raises(UserError, match=message), lock.hold(tmp_path / ".lock", "place"):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with lock.hold(tmp_path / ".lock", "place"):
        assert f'"process": {os.getpid()}' in (tmp_path / ".lock").read_text()
    with lock.hold(tmp_path / ".lock", "place"):  # left behind, it locks nothing
        pass


def test_a_file_system_without_locks_is_said_and_used(tmp_path, monkeypatch, capfd):
    def missing(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", missing)
    with lock.hold(tmp_path / ".lock", "place"):
        assert "this file system has no locks (No locks available)" in capfd.readouterr().err


def test_who_waits_comes_after(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", _HOLD, str(tmp_path / ".lock"), "1"], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    with lock.hold(tmp_path / ".lock", "place", wait=True):
        process.wait(120)  # its sleep is over: it let go before it ended
    assert process.returncode == 0


def test_two_trainings_in_one_directory(holder, tmp_path):
    stage.begin_stage(tmp_path, {"seed": 1})
    with pytest.raises(UserError, match=rf"{re.escape(str(tmp_path))}: process {holder.pid} on"):
        stage.run(tmp_path, {"seed": 1}, lambda: pytest.fail("began"))
    holder.kill()
    holder.wait()
    assert stage.run(tmp_path, {"seed": 1}, lambda: lambda: {"answer": 42})["answer"] == 42


def test_two_exports_of_one_version_and_what_a_killed_one_left(tmp_path):
    (tmp_path / ".3.left.tmp").mkdir()
    (tmp_path / ".4.other.tmp").mkdir()
    started = time.monotonic()

    def build(directory):
        assert not (tmp_path / ".3.left.tmp").exists() and (tmp_path / ".4.other.tmp").exists()
        with pytest.raises(UserError, match=rf"{tmp_path}/3: process {os.getpid()} on .* is at work here"):
            saved_model.write_whole(tmp_path / "3", lambda _: pytest.fail("began"))
        with open(f"{directory}/model", "w") as file:
            file.write(str(started))

    saved_model.write_whole(tmp_path / "3", build)
    assert (tmp_path / "3" / "model").read_text() == str(started)
    with pytest.raises(RuntimeError):
        saved_model.write_whole(tmp_path / "5", lambda _: (_ for _ in ()).throw(RuntimeError()))
    assert not list(tmp_path.glob(".5.*.tmp")) and not (tmp_path / "5").exists()
