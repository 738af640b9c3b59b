"""Asked as a server is asked: the command line tool, gRPC and REST with the real protos, the client."""

import re
import socket
import subprocess
import sys
import threading
import time

import grpc
import numpy as np
import pytest
from PIL import Image

from export import client, transport
from ficklenet_tf.data import labels
from ficklenet_tf.serving import verify, warmup
from tests import tiny_run
from tests.serving import servers
from tools.benchmarks import exported as timing


@pytest.fixture(scope="module")
def rpc(served):
    """A gRPC server's address."""
    with servers.serve_grpc(served) as (address, _):
        yield address


@pytest.fixture(scope="module")
def rest(served):
    """An HTTP server's address."""
    with servers.serve_http(served) as address:
        yield address


def test_saved_model_cli_runs_the_default_signature(exported, live, tmp_path):
    np.save(tmp_path / "images.npy", live[0][0][None])
    tool = "import sys; from tensorflow.python.tools.saved_model_cli import main; sys.exit(main())"
    command = ["run", "--dir", str(exported[1]), "--tag_set", "serve", "--signature_def", "serving_default",
               "--inputs", f"images={tmp_path / 'images.npy'}", "--outdir", str(tmp_path)]
    finished = subprocess.run([sys.executable, "-I", "-c", tool, *command], cwd=tmp_path, capture_output=True,
                              text=True, check=False)
    assert finished.returncode == 0, finished.stderr[-500:]
    np.testing.assert_array_equal(np.load(tmp_path / "labels.npy")[0], live[1][0].argmax(-1))


@pytest.mark.parametrize("protocol", ["rpc", "rest"])
def test_all_signatures_over_the_wire(exported, served, protocol, request):
    address = request.getfixturevalue(protocol)
    with transport.Client(address) as connection:
        for name, inputs, _ in warmup.read(exported[1]):
            answer, expected = connection.predict(name, inputs), served.run(name, inputs)
            assert set(answer) == set(expected)
            for key, value in expected.items():
                if value.dtype == object:
                    assert answer[key] == value.tolist()
                else:
                    np.testing.assert_allclose(answer[key], value, atol=1e-6)


def test_outputs_can_be_left_out_and_versions_chosen(rpc, rest, live):
    for address in (rpc, rest):
        for version in (None, 1, "stable"):
            with transport.Client(address, version=version) as connection:
                answer = connection.predict("serving_default", {"images": live[0][1][None]}, ("labels",))
                np.testing.assert_array_equal(answer["labels"][0], live[1][1].argmax(-1))
                assert address == rest or set(answer) == {"labels"}
        for wrong, refusal in (({"version": 5}, "NOT_FOUND|404"), ({"model": "other"}, "NOT_FOUND|404"),
                               ({"version": "blue"}, "(INVALID_ARGUMENT|400).*Unrecognized servable version label")):
            with transport.Client(address, **wrong) as connection, \
                    pytest.raises(transport.ServerError, match=refusal):
                connection.predict("serving_default", {"images": live[0][1][None]})


@pytest.mark.parametrize("protocol", ["rpc", "rest"])
def test_the_servers_rules(protocol, request):
    image, floats = np.zeros((1, 9, 9, 3), np.uint8), np.zeros((1, 9, 9, 3), np.float32) + 0.5
    maps = {"tags": np.ones((1, 3), np.float32), "seed": np.ones((1, 2), np.int32), "num_maps": np.ones(1, np.int32)}
    wrong = [("serve_crf", {"images": image}, "iterations"),  # all inputs are required
             ("serving_default", {"images": image, "more": image}, "more"),  # and no others taken
             ("nothing", {"images": image}, "not found"),
             ("serving_default", {"images": floats}, "uint8"),
             *((name, {**more, "images": wrong}, r"uint8 \[n, height, width, 3\], RGB, found the shape")
               for wrong in (image[..., :1], np.zeros((1, 9, 9, 4), np.uint8), image[..., 0])
               for name, more in (("serving_default", {}), ("localization_maps", maps))),
             ("localization_maps", {"images": image, **maps, "tags": maps["tags"][:, :2]}, r"tags: .* \[n, 3\]"),
             ("localization_maps", {"images": image, **maps, "seed": maps["seed"][:, :1]}, r"seed: .* \[n, 2\]"),
             ("localization_maps", {"images": image, **maps, "num_maps": maps["num_maps"][:, None]}, "num_maps: "),
             ("serve_crf", {"images": image, "iterations": np.array([101], np.int32)}, r"expected 0\.\.100"),
             ("serve_jpeg", {"image": [b"\xff\xd8\xff nonsense"]}, "[Jj][Pp][Ee][Gg]"),
             ("serve_jpeg", {"image": [b"GIF89a..............."]}, "expected the bytes of a JPEG or PNG")]
    with transport.Client(request.getfixturevalue(protocol)) as connection:
        for name, inputs, message in wrong:
            with pytest.raises(transport.ServerError, match=f"(?s){name}: .*{message}"):
                connection.predict(name, inputs)
        answer = connection.predict("serving_default", {"images": image})
        assert answer["labels"].shape == (1, 9, 9), "the server lives on"


def test_an_answer_may_be_larger_than_grpcs_four_megabytes(rpc):
    image = tiny_run.photograph(600, 700, 3)
    with transport.Client(rpc) as connection:
        answer = connection.predict("serving_default", {"images": np.stack([image] * 4)})
    assert answer["probabilities"].nbytes > 4 * 2**20


def test_only_a_busy_server_is_asked_again(served, live):
    ask = ("serving_default", {"images": live[0][1][None]})
    busy = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED]
    with servers.serve_grpc(served, busy) as (address, service), transport.Client(address) as connection:
        assert connection.predict(*ask)["labels"].shape == (1, 33, 21)
        assert service.num_requests == 3
        service.failures[:] = [grpc.StatusCode.INTERNAL]
        with pytest.raises(transport.ServerError, match="INTERNAL"):
            connection.predict(*ask)
        assert service.num_requests == 4
    with servers.serve_http(served, [503, 503]) as address:
        assert transport.Client(address).predict(*ask)["labels"].shape == (1, 33, 21)
    with servers.serve_http(served, [503] * 1000) as address:
        with pytest.raises(transport.ServerError, match="no answer within 1 s: HTTP 503"):
            transport.Client(address, deadline=1).predict(*ask)
    with servers.serve_http(served, [504]) as address:  # of a server that has worked as long as it may
        with pytest.raises(transport.ServerError, match="serving_default: HTTP 504"):
            transport.Client(address).predict(*ask)


def test_a_deadline_ends_the_wait_for_a_silent_server():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"127.0.0.1:{silent.getsockname()[1]}"
        for address in (place, f"http://{place}"):
            ended = threading.Event()

            def ask(address=address, ended=ended):
                with transport.Client(address, deadline=0.5) as connection, pytest.raises(transport.ServerError):
                    connection.predict("serve_jpeg", {"image": [b""]})
                ended.set()

            threading.Thread(target=ask, daemon=True).start()
            assert ended.wait(60), "no end without an answer"


def test_the_client_writes_labels_and_overlays(rpc, served, tmp_path):
    photograph = Image.fromarray(tiny_run.photograph(40, 60, 8))
    exif = photograph.getexif()
    exif[0x0112] = 6  # stored lying on its side
    photograph.save(tmp_path / "a.png")
    photograph.save(tmp_path / "b.jpg", exif=exif, quality=95)
    photograph.convert("CMYK").save(tmp_path / "c.tiff")
    (tmp_path / "d.jpg").write_bytes(b"no photograph")
    command = [sys.executable, "-m", "export.client", f"--server={rpc}", f"--to={tmp_path / 'out'}"]
    files = [str(tmp_path / name) for name in ("a.png", "b.jpg", "c.tiff", "d.jpg", "e.png")]
    finished = subprocess.run(command + files, capture_output=True, text=True, check=False)
    assert finished.returncode == 1 and "Traceback" not in finished.stderr
    errors = [line for line in finished.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2 and all(any(name in line for line in errors) for name in ("d.jpg", "e.png"))
    expected = served.run("serving_default", {"images": np.asarray(photograph)[None]})["labels"][0]
    found = labels.in_words(labels.shares(expected, tiny_run.CLASS_NAMES))  # as tools.predict says it
    assert "3 of 5 photographs" in finished.stdout and "disc" in found
    assert re.search(rf"^{re.escape(str(tmp_path))}/a\.png: {found}; \d+ ms$", finished.stdout, re.MULTILINE)
    label = labels.read_label(tmp_path / "out" / "a.png", 4)
    np.testing.assert_array_equal(label, expected)
    assert labels.read_label(tmp_path / "out" / "b.png").shape == (60, 40), "upright, as a viewer shows it"
    overlay = np.asarray(Image.open(tmp_path / "out" / "a_overlay.jpg"), np.float32)
    mixed = 0.4 * np.asarray(photograph)[label == 1] + 0.6 * labels.palette()[1]
    assert np.abs(overlay[label == 1] - mixed).mean() < 25  # JPEG keeps colours only so well
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"{name}{end}" for name in "abc" for end in (".png", "_overlay.jpg")}


def test_no_more_requests_are_under_way_than_allowed(tmp_path):
    running, most, lock = [0], [0], threading.Lock()

    class Slow:
        def predict(self, signature, inputs, outputs, optional):
            with lock:
                running[0] += 1
                most[0] = max(most[0], running[0])
            time.sleep(0.05)
            with lock:
                running[0] -= 1
            return {"label_png_bytes": [labels.encode_label(np.ones((4, 4)))], "fractions": [[0, 1]]}

    paths = []
    for i in range(8):
        paths.append(str(tmp_path / f"{i}.png"))
        (tmp_path / f"{i}.png").write_bytes(verify.encode(np.zeros((4, 4, 3))))
    failed = client.segment_all(Slow(), paths, tmp_path / "out", client.Options(concurrency=3))
    assert failed == 0 and most[0] == 3


def test_who_stops_the_client_sends_no_more(tmp_path, monkeypatch):
    sent = []

    class Slow:
        def predict(self, *_):
            sent.append(1)
            time.sleep(0.05)
            return {"label_png_bytes": [labels.encode_label(np.ones((4, 4)))]}

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.print", stop)
    for i in range(40):
        (tmp_path / f"{i}.png").write_bytes(verify.encode(np.zeros((4, 4, 3))))
    with pytest.raises(KeyboardInterrupt):
        client.segment_all(Slow(), sorted(tmp_path.glob("*.png")), tmp_path / "out", client.Options(concurrency=2))
    assert 1 <= len(sent) < 20


def test_the_benchmark_measures_every_signature(exported, tmp_path, monkeypatch, capsys):
    (tmp_path / "a.png").write_bytes(verify.encode(tiny_run.photograph(40, 60, 8)))
    lines = timing.run(exported[0], 1, [tmp_path / "a.png"], 2, 3, 10).splitlines()
    assert "MiB, loaded in" in lines[0]
    assert [line[:18].strip() for line in lines[2:]] == ["bare network", "serving_default", "serve_jpeg", "serve_crf",
                                                         "localization_maps"]
    p50, p99, rate = (float(value) for value in lines[3][18:].split()[:3])
    assert 0 < p50 <= p99 and rate > 0 and lines[2].endswith(" 0.0%")
    monkeypatch.setattr(timing, "measure", lambda runs, count: {"bare network": np.ones(1)})
    monkeypatch.setattr(timing.verify, "fitting", lambda photograph, most: photograph[:most // 2**15])
    timing.run(exported[0], 1, [tmp_path / "a.png"], 1, 1, 1)
    assert "shrunk to 60 x " in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match="expected an exported version"):
        timing.run(exported[0], 99, [], 1, 1, 1)


def test_the_benchmarks_numbers():
    seconds = {"bare network": np.full(4, 0.1), "x": np.array([0.1, 0.2, 0.2, 0.3])}
    _, bare, x = timing.table(seconds).splitlines()
    assert bare.split() == ["bare", "network", "100.0", "100.0", "10.00", "0.0%"]
    assert x.split() == ["x", "200.0", "297.0", "5.00", "100.0%"]  # p99: 0.97 of the way from 0.2 to 0.3
