"""What a person sees of a long run in a file."""

import time

import pytest

from ficklenet_tf.runs import progress


def test_a_log_gets_whole_lines_and_few(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_SECONDS", 0.1)
    with progress.bar(total=100, desc="work", unit="step") as bar:
        for number in range(100):
            bar.set_postfix(loss=f"{number}", refresh=False)
            bar.update()
            time.sleep(0.005)
    written = capsys.readouterr().err
    lines = written.splitlines()
    assert 2 <= len(lines) <= 8 and "\r" not in written
    assert all(line.startswith("work: ") and "/100 step [" in line and "loss=" in line for line in lines)
    assert lines[-1].startswith("work: 100/100")


def test_what_is_done_in_no_time_says_nothing(capsys):
    assert list(progress.bar(range(1000), desc="quick")) == list(range(1000))
    assert capsys.readouterr().err == ""


def test_silence(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_SECONDS", 0)
    with pytest.raises(KeyError), progress.silent():
        list(progress.bar(range(3), desc="hidden"))
        progress.say("hidden")
        raise KeyError
    progress.say("shown")
    assert capsys.readouterr().err == "shown\n"
