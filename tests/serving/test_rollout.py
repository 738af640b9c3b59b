"""Three versions, a canary that is bad, and a rollback, at a server that keeps the real one's rules, under load."""

import contextlib
import pathlib
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from export import messages, rollout, transport
from ficklenet_tf.errors import UserError
from ficklenet_tf.serving import server_files
from tests.serving import servers


class Numbered:
    """A model that answers with its version's number; a version with the file `broken` cannot be loaded."""

    def __init__(self, directory):
        if (directory / "broken").exists():
            raise OSError("variables are missing")
        self.version = int(directory.name)

    def run(self, name, inputs, outputs=()):
        """Answers anything."""
        return {"labels": np.full(len(inputs["images"]), self.version, np.uint8)}


@pytest.fixture
def base(tmp_path):
    """A directory with models.config and the versions 1 to 4, as exports leave it; 4 is broken."""
    for version in range(1, 5):
        (tmp_path / "saved_model" / str(version)).mkdir(parents=True)
        (tmp_path / "saved_model" / str(version) / "saved_model.pb").write_bytes(b"a graph")
    (tmp_path / "saved_model" / "4" / "broken").touch()
    server_files.add_version(tmp_path / "saved_model", 1)
    return tmp_path / "saved_model"


def _versions(base, **options):
    return servers.Versions(base_paths={"/models/ficklenet": base}, load_seconds=0.1, loader=Numbered, **options)


@contextlib.contextmanager
def _server(base, poll=60.0):
    """A server as the README starts it; yields (address, versions)."""
    versions = _versions(base, allow_labels=True)
    with servers.polling(versions, base / "models.config", poll), servers.serve_grpc(versions) as (address, _):
        yield address, versions


def _ask(address, version=transport.STABLE):
    with transport.Client(address, version=version, deadline=10) as client:
        return int(client.predict("serving_default", {"images": np.zeros((1, 2, 2, 3), np.uint8)})["labels"][0])


@contextlib.contextmanager
def _load(address):
    """Asks for "stable" without a pause; yields the list of answers."""
    answers, errors, ended = [], [], threading.Event()

    def ask():
        with transport.Client(address, deadline=20) as client:
            while not ended.is_set():
                try:
                    answer = client.predict("serving_default", {"images": np.zeros((1, 2, 2, 3), np.uint8)})
                    answers.append(int(answer["labels"][0]))
                except transport.ServerError as error:
                    errors.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert errors == []


def test_what_an_export_wrote_starts_only_with_the_readmes_flag(base):
    """Labels are looked at before anything is loaded."""
    with pytest.raises(servers.Refused, match="version 1 of model ficklenet, which is not currently available"):
        with servers.polling(_versions(base), base / "models.config"):
            pass
    with _server(base) as (address, _):
        assert _ask(address) == 1


def test_roll_forward_canary_promote_and_roll_back_under_load(base):
    with _server(base) as (address, versions), _load(address) as answers:
        def rolled():
            return rollout.Rollout(base, [address], wait=5)

        def settled():
            del answers[:]
            while len(answers) < 20:
                time.sleep(0.01)
            return set(answers[3:])  # what was under way when the label moved may be of the version before

        assert rolled().promote(2) == "stable is 2; to go back to 1: rollback"
        assert settled() == {2} and versions.labels == {"stable": 2, "previous": 1}
        assert rolled().canary(3) == "canary is 3; stable is 2"
        assert settled() == {2} and _ask(address, "canary") == 3 and _ask(address, None) == 3
        assert sorted(versions.models) == [1, 2, 3]
        assert rolled().promote(3).startswith("stable is 3")
        assert settled() == {3} and versions.labels == {"stable": 3, "previous": 2}
        assert rolled().listed == [2, 3] and sorted(versions.models) == [2, 3], "two are kept"
        assert rolled().rollback() == "stable is 2 again; 3 stays loaded, as previous"
        assert settled() == {2}
        assert rolled().rollback().startswith("stable is 3") and settled() == {3}
        text = rolled().status()
        assert f"{address}: 1 END, 2 AVAILABLE, 3 AVAILABLE; previous is 2, stable is 3" in text
        assert "versions 2, 3; " in text


def test_a_canary_that_cannot_be_loaded_moves_no_label(base):
    with _server(base) as (address, versions), _load(address):
        with pytest.raises(UserError, match="version 4 to be loaded within 5 s, found END: OSError: variables"):
            rollout.Rollout(base, [address], wait=5).canary(4)
        assert versions.labels == {"stable": 1} and rollout.Rollout(base, [address]).listed == [1]
        with pytest.raises(UserError, match="expected version 4 to be loaded"):
            rollout.Rollout(base, [address], wait=5).promote(4)
        assert _ask(address) == 1
        rollout.Rollout(base, [address], wait=5).canary(2)
        assert rollout.Rollout(base, [address]).withdraw() == "canary 2 is withdrawn; stable is 1"
        assert _ask(address, None) == 1, "nobody is sent to it any more"


def test_what_is_not_there_is_refused_and_said(base):
    with _server(base) as (address, _):
        rolled = rollout.Rollout(base, [address], wait=5)
        for call, message in ((lambda: rolled.canary(9), "9: expected an exported version, found none"),
                              (lambda: rolled.canary(1), "expected another one than the stable one"),
                              (rolled.rollback, "expected the label previous, which a promotion leaves, found"),
                              (rolled.withdraw, "expected the label canary, found stable is 1")):
            with pytest.raises(UserError, match=message):
                call()
        (base / "models.config").unlink()
        with pytest.raises(UserError, match="expected one model, as an export writes it, found 0"):
            rollout.Rollout(base, [address])


def test_labels_move_at_no_server_before_all_have_loaded_the_version(base):
    with _server(base) as (first, _), _server(base) as (second, slow):
        slow.load_seconds = 1.0
        rollout.Rollout(base, [first, second], wait=5).promote(2)
        assert _ask(first) == _ask(second) == 2
        slow.loader = lambda directory: 1 / 0
        with pytest.raises(UserError, match=f"{second}: expected version 3 to be loaded .* found END: ZeroDivision"):
            rollout.Rollout(base, [first, second], wait=5).promote(3)
        assert _ask(first) == _ask(second) == 2


def test_over_rest_the_server_polls(base):
    versions = _versions(base, allow_labels=True)
    with servers.polling(versions, base / "models.config", 0.1), servers.serve_http(versions) as address:
        assert rollout.Rollout(base, [address], wait=5).promote(2).startswith("stable is 2")
        assert versions.refused == [], "no config that the server refuses was written"
        assert rollout.Rollout(base, [address]).status().count("previous is 1, stable is 2") == 2
        rollout.Rollout(base, [address], wait=5).canary(3)
        rollout.Rollout(base, [address], wait=5).withdraw()
        assert versions.labels == {"stable": 2, "previous": 1}, "it has waited until the label was gone"


def test_a_label_that_the_server_refuses_is_put_back(base, monkeypatch):
    with _server(base) as (address, versions):
        monkeypatch.setattr(rollout.Rollout, "_until_loaded", lambda *_: None)  # the order that is not allowed
        versions.load_seconds = 3.0
        with pytest.raises(transport.ServerError, match=f"{address}: .*Request to assign label to version 2"):
            rollout.Rollout(base, [address]).promote(2)
        assert rollout.Rollout(base, [address]).labels == {"stable": 1} == versions.labels


def test_the_binary_ends_in_one_line(base, capsys):
    with _server(base) as (address, _):
        command = [f"--server={address}", f"--model_base={base}"]
        rollout.main([*command, "status"])
        assert "versions 1; stable is 1" in capsys.readouterr().out
        ended = subprocess.run([sys.executable, "-m", "export.rollout", *command, "rollback"], capture_output=True,
                               text=True, check=False)
        assert ended.returncode == 1 and ended.stderr.startswith("error: ") and len(ended.stderr.splitlines()) == 1
        with pytest.raises(SystemExit):
            rollout.main([*command, "canary"])
        assert "canary: expected a version" in capsys.readouterr().err


def test_a_restarted_server_finds_what_was_meant(base):
    with _server(base) as (address, _):
        rollout.Rollout(base, [address], wait=5).promote(2)
        rollout.Rollout(base, [address], wait=5).canary(3)
    with _server(base) as (address, versions):
        assert versions.labels == {"stable": 2, "previous": 1, "canary": 3} and _ask(address) == 2


def test_a_request_survives_a_restart(base):
    """The client asks until its deadline, also while the version is loaded."""
    versions = _versions(base, allow_labels=True)
    with servers.polling(versions, base / "models.config"):
        with servers.serve_grpc(versions) as (address, _):
            port = int(address.rpartition(":")[2])
        answers, late = [], threading.Thread(target=lambda: answers.append(_ask(address)))
        late.start()
        time.sleep(1.5)
        versions.models.clear()
        versions.states[1] = servers.LOADING, ""
        with servers.serve_grpc(versions, port=port):
            time.sleep(0.5)
            versions.models[1], versions.states[1] = Numbered(base / "1"), (servers.AVAILABLE, "")
            late.join()
    assert answers == [1]


def test_the_messages_are_the_servers(base):
    """Field by field those of the published packages."""
    from tensorflow.core.framework import tensor_pb2
    from tensorflow_serving.apis import (
        get_model_metadata_pb2,
        get_model_status_pb2,
        model_management_pb2,
        model_pb2,
        predict_pb2,
        status_pb2,
    )
    theirs = {name: getattr(module, name) for module in (
        tensor_pb2, get_model_metadata_pb2, get_model_status_pb2, model_management_pb2, model_pb2, predict_pb2,
        status_pb2) for name in messages._MESSAGES if hasattr(module, name)}
    assert len(theirs) >= 12
    for name, message in theirs.items():
        fields = {field.name: field for field in message.DESCRIPTOR.fields}
        for field, (number, _) in messages._MESSAGES[name].items():
            assert fields[field].number == number, f"{name}.{field}"
            ours = messages.new(name).DESCRIPTOR.fields_by_name[field]
            assert ours.is_repeated == fields[field].is_repeated, f"{name}.{field}"


def test_the_client_needs_neither_tensorflow_nor_numpy(tmp_path):
    """Beside this software, installed or not, and copied out."""
    root = pathlib.Path(rollout.__file__).parents[1]
    (tmp_path / "export").mkdir()
    for name in ("client.py", "photographs.py", "transport.py", "messages.py"):
        shutil.copy(root / "export" / name, tmp_path / "export" / name)
    blocked = """
import importlib.abc, sys
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "tensorflow_serving", "numpy", "absl", "keras", "cv2"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
from export import client
client.main(["--help"])
"""
    for place in (root, tmp_path):
        ended = subprocess.run([sys.executable, "-c", blocked], cwd=place, capture_output=True, text=True, check=False)
        assert ended.returncode == 0 and "--server SERVER" in ended.stdout, ended.stderr


def test_one_command_at_a_time(base):
    with _server(base) as (address, _), server_files.changing(base, wait=False), \
            pytest.raises(UserError, match=r"models\.config: process .* is at work here"):
        rollout.Rollout(base, [address]).canary(2)


def test_a_version_that_was_mended_is_loaded(base):
    """What the server says of the failure before is not taken for one of now."""
    with _server(base) as (address, versions):
        with pytest.raises(UserError, match="expected version 4 to be loaded"):
            rollout.Rollout(base, [address], wait=10).canary(4)
        (base / "4" / "broken").unlink()
        assert versions.states[4][0] == servers.END
        assert rollout.Rollout(base, [address], wait=10).canary(4) == "canary is 4; stable is 1"


def test_where_one_of_two_servers_refuses_both_go_back(base, monkeypatch):
    with _server(base) as (first, one), _server(base) as (second, other):
        def refuse(*_, **__):
            raise servers.Refused(servers.CODE.FAILED_PRECONDITION, "no")

        rollout.Rollout(base, [first, second], wait=5).promote(2)
        before = dict(one.labels)
        with monkeypatch.context() as patch:
            patch.setattr(other, "reload", refuse)
            with pytest.raises(transport.ServerError, match=f"{second}: .*no"):
                rollout.Rollout(base, [first, second], wait=5).rollback()
        assert one.labels == other.labels == rollout.Rollout(base, [first]).labels == before


def test_after_a_killed_command_a_promotion_says_what_is_meant(base):
    """models.config is written first; a rollback asked again must not swap back."""
    with _server(base) as (address, versions):
        rolled = rollout.Rollout(base, [address], wait=5)
        rolled.promote(2)
        rolled._write(rolled.listed, {"stable": 1, "previous": 2})  # and killed here
        with pytest.raises(UserError, match="expected stable to be 1, as models.config says, found 2: a command was"):
            rollout.Rollout(base, [address], wait=5).rollback()
        assert _ask(address) == 2
        assert rollout.Rollout(base, [address], wait=5).promote(1) == "stable is 1 already; to go back to 2: rollback"
        assert _ask(address) == 1 and versions.labels == {"stable": 1, "previous": 2}


def test_a_stable_version_that_no_longer_loads_is_rolled_back(base):
    with _server(base) as (address, _):
        rollout.Rollout(base, [address], wait=5).promote(2)
        rollout.Rollout(base, [address], wait=5).canary(3)
    for version in (2, 3):
        (base / str(version) / "broken").touch()
    with _server(base) as (address, versions):
        assert versions.states[2][0] == servers.END
        assert rollout.Rollout(base, [address], wait=5).rollback() == "stable is 1 again"
        assert _ask(address) == 1 and versions.labels == {"stable": 1}


def test_a_canary_that_no_longer_loads_is_withdrawn(base):
    with _server(base) as (address, _):
        rollout.Rollout(base, [address], wait=5).canary(3)
    (base / "3" / "broken").touch()
    with _server(base) as (address, versions):
        assert rollout.Rollout(base, [address], wait=5).withdraw() == "canary 3 is withdrawn; stable is 1"
        assert versions.labels == {"stable": 1} and rollout.Rollout(base, [address]).listed == [1]


def test_a_server_that_missed_a_promotion_is_brought_up(base):
    with _server(base) as (first, _), _server(base) as (second, late):
        rollout.Rollout(base, [first], wait=5).promote(2)
        assert _ask(second) == 1
        rollout.Rollout(base, [first, second], wait=5).canary(3)
        assert _ask(second) == 2 and late.labels == {"stable": 2, "previous": 1, "canary": 3}


def test_stable_is_not_lost_with_its_directory(base):
    with _server(base) as (address, versions):
        rollout.Rollout(base, [address], wait=5).promote(2)
        shutil.rmtree(base / "2")
        with pytest.raises(UserError, match="2: expected an exported version, found none"):
            rollout.Rollout(base, [address], wait=5).canary(3)
        assert versions.labels["stable"] == 2 and _ask(address) == 2
        assert rollout.Rollout(base, [address], wait=5).rollback() == "stable is 1 again"


def test_a_label_of_ones_own_stays(base):
    with _server(base) as (address, versions):
        rolled = rollout.Rollout(base, [address], wait=5)
        rolled._write([1], {"stable": 1, "beta": 1})
        rollout.Rollout(base, [address], wait=5).promote(2)
        assert versions.labels == {"stable": 2, "previous": 1, "beta": 1}


def test_a_version_whose_directory_is_gone_loses_its_label(base):
    with _server(base) as (address, _):
        rollout.Rollout(base, [address], wait=5).promote(2)
    shutil.rmtree(base / "1")
    with _server(base) as (address, versions):
        assert rollout.Rollout(base, [address], wait=5).canary(3) == "canary is 3; stable is 2"
        assert versions.labels == {"stable": 2, "canary": 3}


def test_canaries_that_were_replaced_go(base):
    """Else the greatest of them would answer requests without a label for good."""
    with _server(base) as (address, versions):
        for version in (3, 2):
            rollout.Rollout(base, [address], wait=5).canary(version)
        assert rollout.Rollout(base, [address]).listed == [1, 2] and sorted(versions.models) == [1, 2]


def test_the_command_line_refuses_what_cannot_be(capsys):
    for wrong in (["--wait=nan"], ["--keep=-3"], ["--server=a:1,"], ["--keep=0"]):
        with pytest.raises(SystemExit):
            rollout.main(["--server=a:1", "--model_base=b", *wrong, "status"])
        assert f"argument {wrong[0].split('=')[0]}: expected" in capsys.readouterr().err or "a:1," in wrong[0]
    with pytest.raises(SystemExit):
        rollout.main(["--server=a:1", "--model_base=b", "canary", "0"])
    assert "expected a number from 1" in capsys.readouterr().err
