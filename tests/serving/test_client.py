"""The client against a server that is busy, gone or loading, and with files as people have them."""

import concurrent.futures
import contextlib
import io
import struct
import threading
import time
import zlib

import grpc
import numpy as np
import pytest
from PIL import Image

from export import client, messages, photographs, transport
from ficklenet_tf import crf
from ficklenet_tf.data import images, labels
from ficklenet_tf.evaluation import prediction
from ficklenet_tf.serving import decoding, saved_model, servable, signatures, verify
from tests import tiny_run
from tests.serving import servers


def _jpeg(photograph, **options):
    buffer = io.BytesIO()
    Image.fromarray(photograph).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def _png_header(width, height, crc_off=0):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk) + crc_off)


def test_no_file_ends_the_run(served, tmp_path, capsys):
    """A bomb, a header that Pillow calls a SyntaxError, a cut file: each is named, the good one is answered."""
    photograph = tiny_run.photograph(30, 40, 1)
    files = {"good.png": verify.encode(photograph), "bomb.png": _png_header(60000, 60000),
             "crc.png": _png_header(8, 8, 1) + bytes(40), "cut.jpg": _jpeg(photograph)[:200], "empty.jpg": b"",
             "text.png": b"no photograph"}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    with servers.serve_grpc(served) as (address, _), transport.Client(address) as connection:
        failed = client.segment_all(connection, [tmp_path / name for name in files], tmp_path / "out")
    printed = capsys.readouterr()
    assert failed == 5 and "1 of 6 photographs" in printed.out
    assert all(f"{name}: " in printed.err for name in files if name != "good.png")
    assert (tmp_path / "out" / "good.png").exists()


def test_a_photograph_above_the_limit_is_shrunk_and_its_labels_enlarged(served, tmp_path, capsys):
    Image.fromarray(tiny_run.photograph(80, 120, 2)).save(tmp_path / "camera.jpg", quality=95)
    with servers.serve_grpc(served) as (address, _), transport.Client(address) as connection:
        client.segment_all(connection, [tmp_path / "camera.jpg"], tmp_path / "out", client.Options(max_pixels=2400))
    assert "computed at 60 x 40 of 120 x 80 pixels" in capsys.readouterr().out
    label = labels.read_label(tmp_path / "out" / "camera.png")
    assert label.shape == (80, 120)
    np.testing.assert_array_equal(label, np.kron(label[::2, ::2], np.ones((2, 2), np.uint8)))
    with Image.open(tmp_path / "out" / "camera_overlay.jpg") as overlay:
        assert overlay.size == (120, 80)


@pytest.mark.parametrize("serve", [servers.serve_grpc, servers.serve_http])
def test_labels_are_refined_by_the_crf_as_by_the_live_model(serve, served, exported, tmp_path, capsys):
    """Of a JPEG of a camera on its side, which the client turns and sends as pixels; with names and colours."""
    exif = Image.Exif()
    exif[0x112] = 6
    path = tmp_path / "a.jpg"
    path.write_bytes(_jpeg(tiny_run.photograph(70, 93, 1), quality=95, exif=exif))
    with serve(served) as address, transport.Client(address[0] if isinstance(address, tuple) else address) as asked:
        for name, options in (("crf", client.Options(crf=True)), ("none", client.Options())):
            assert not client.segment_all(asked, [path], tmp_path / name, options)
    photograph = images.read_image(path)
    probs = prediction.Predictor(exported[0] / "segmenter")(photograph)
    refined = crf.refine(photograph, probs, crf.DSRG_TEST).argmax(-1)
    np.testing.assert_array_equal(labels.read_label(tmp_path / "crf" / "a.png"), refined)
    np.testing.assert_array_equal(labels.read_label(tmp_path / "none" / "a.png"), probs.argmax(-1))
    assert (refined != probs.argmax(-1)).any() and refined.shape == (93, 70)
    palettes = []
    for name in ("crf", "none"):
        with Image.open(tmp_path / name / "a.png") as image:
            palettes.append(image.getpalette())
    assert palettes[0] == palettes[1] and capsys.readouterr().out.count("disc") == 2


@pytest.mark.parametrize("serve", [servers.serve_grpc, servers.serve_http])
def test_a_version_without_names_is_told_by_numbers(serve, served, tmp_path, capsys):
    """As versions are that were exported before the names were an output."""
    older = servers.Model.__new__(servers.Model)
    older.session, older.signatures = served.session, {key: type(value).FromString(value.SerializeToString())
                                                       for key, value in served.signatures.items()}
    del older.signatures["serve_jpeg"].outputs["class_names_bytes"]
    (tmp_path / "a.png").write_bytes(verify.encode(tiny_run.photograph(70, 93, 1)))
    said = {}
    for name, model in (("new", served), ("old", older)):
        with serve(model) as address, transport.Client(address[0] if isinstance(address, tuple) else address) as asked:
            assert not client.segment_all(asked, [tmp_path / "a.png"], tmp_path / name)
        said[name] = capsys.readouterr().out.split("\n")[0].partition(": ")[2].rpartition("; ")[0]
    assert said["new"].count(" %") == 3 and "disc" in said["new"]
    numbers = said["new"]
    for class_id, class_name in enumerate(tiny_run.CLASS_NAMES):
        numbers = numbers.replace(class_name, f"class {class_id}")
    assert said["old"] == f"{numbers} (numbers: this version was exported without the names of its classes)"
    assert (tmp_path / "new" / "a.png").read_bytes() == (tmp_path / "old" / "a.png").read_bytes()
    with serve(older) as address, transport.Client(address[0] if isinstance(address, tuple) else address) as asked:
        with pytest.raises(transport.ServerError, match="expected missing in the answer, found no '?missing"):
            asked.predict("serve_jpeg", {"image": [(tmp_path / "a.png").read_bytes()]}, ["missing"], ["size"])


def test_what_was_found_is_said_largest_first_and_without_the_background():
    names = ("background", "dog", "person")
    assert client.Answer(1.0, {0: 0.849, 1: 0.031, 2: 0.12}, names).found == "person 12 %, dog 3 %"
    assert client.Answer(1.0, {0: 0.999, 2: 0.001}, names).found == "person < 1 %"
    assert client.Answer(1.0, {0: 1.0}, names).found == client.Answer(1.0, {0: 1.0}).found == "no object"


def test_a_busy_server_is_waited_for(served):
    """More clients than it has threads: RESOURCE_EXHAUSTED, which ends."""
    image = tiny_run.photograph(33, 21, 2)[None]
    with servers.serve_grpc(served, threads=1) as (address, service), transport.Client(address) as connection, \
            concurrent.futures.ThreadPoolExecutor(8) as pool:
        ask = ("serving_default", {"images": image}, ["labels"])
        answers = list(pool.map(lambda _: connection.predict(*ask), range(24)))
    assert len(answers) == 24 and service.num_requests == 24


def test_the_wait_lasts_until_the_deadline_and_no_longer(served):
    """Four attempts were over in half a second."""
    ask = ("serving_default", {"images": tiny_run.photograph(33, 21, 2)[None]})
    with servers.serve_grpc(served, [grpc.StatusCode.UNAVAILABLE] * 8) as (address, service), \
            transport.Client(address, deadline=30) as connection:
        start = time.monotonic()
        assert connection.predict(*ask)["labels"].shape == (1, 33, 21)
        assert time.monotonic() - start > 2 and service.num_requests == 9
    with transport.Client("127.0.0.1:1", deadline=1.5) as connection, \
            pytest.raises(transport.ServerError, match=r"no answer within 1\.5 s"):
        connection.predict(*ask)
    too_large = (grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max (5 vs. 4)")
    with servers.serve_grpc(served, [too_large] * 9) as (address, service), transport.Client(address) as connection:
        with pytest.raises(transport.ServerError, match="larger than max"):
            connection.predict(*ask)
        assert service.num_requests == 1, "no waiting cures it"


@pytest.mark.parametrize("options", [{"quality": 60}, {"quality": 95, "subsampling": 0}, {"progressive": True}])
def test_a_jpeg_is_decoded_as_in_training(options):
    """By TensorFlow's default most pixels differ; labels with them."""
    rng = np.random.default_rng(0)
    photograph = (tiny_run.photograph(96, 130, 3) // 2 + rng.integers(0, 120, (96, 130, 3))).astype(np.uint8)
    data = _jpeg(photograph, **options)
    for decode in (lambda data: decoding.decode(data, 10**6), images.decode_image_op):
        np.testing.assert_array_equal(decode(data).numpy(), images.decode_image(data))


@pytest.fixture(scope="module")
def batched(exported):
    """A version for servers that batch, and what was said beside it."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        directory = saved_model.export(exported[0], 7, saved_model.Options(batching=True))
    assert "these differ: 1 for pixels too, 7 for batches of 32" in said.getvalue()
    return servers.Model(directory)


def test_files_of_all_sizes_share_a_batch(batched, served, tmp_path, monkeypatch):
    files = [verify.encode(tiny_run.photograph(20 + 7 * i, 60 - 5 * i, i)) for i in range(8)]
    expected = [served.run("serve_jpeg", {"image": np.array([data], object)}) for data in files]
    with servers.serve_grpc(batched, batch=32) as (address, _), transport.Client(address) as connection, \
            concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda data: connection.predict("serve_jpeg", {"image": [data]}), files))
        for answer, one in zip(answers, expected, strict=True):
            assert answer["label_png_bytes"] == one["label_png_bytes"].tolist()
            np.testing.assert_array_equal(answer["size"], one["size"])
        many = connection.predict("serve_jpeg", {"image": files * 4})
        assert len(many["size"]) == 32, "as many as batching_parameters.txt and the graph say"
        ran = []
        monkeypatch.setattr(batched, "run", lambda *request: ran.append(request[2:]) or servers.Model.run(
            batched, *request))
        paths = [tmp_path / f"{i}.png" for i in range(8)]
        for path, data in zip(paths, files, strict=True):
            path.write_bytes(data)
        assert not client.segment_all(connection, paths, tmp_path / "out", client.Options(concurrency=8))
        assert len(ran) < 8 and not any(outputs for [*outputs] in ran), "our client's requests share a batch too"
        with pytest.raises(transport.ServerError, match="Task size 33 is larger than maximum input batch size 32"):
            connection.predict("serve_jpeg", {"image": [files[0]] * 33})
        with pytest.raises(transport.ServerError, match='signature key "serving_default" not found'):
            connection.predict("serving_default", {"images": np.zeros((1, 9, 9, 3), np.uint8)})


def test_pixels_of_different_sizes_would_fail_in_a_batch(served, monkeypatch):
    """Why a version for batching has no pixel signature."""
    ready, errors = threading.Barrier(2), []

    def ask(side):
        with transport.Client(address, deadline=20) as connection:
            ready.wait()
            try:
                connection.predict("serving_default", {"images": np.zeros((1, side, side, 3), np.uint8)})
            except transport.ServerError as error:
                errors.append(str(error))

    monkeypatch.setattr(servers.Batcher, "SECONDS", 2.0)
    with servers.serve_grpc(served, batch=8) as (address, _):
        threads = [threading.Thread(target=ask, args=(side,)) for side in (9, 12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(errors) == 2 and all("different shapes and padding is turned off" in error for error in errors)


def test_json_is_taken_as_the_server_takes_it(served):
    """A number that is no uint8 is cast in silence; both forms of a request; no label is the greatest version."""
    import json
    import urllib.request
    versions = servers.Versions({1: served, 2: served}, {"stable": 1})

    def post(place, body):
        request = urllib.request.Request(f"{address}/v1/models/ficklenet{place}:predict", json.dumps(body).encode())
        with urllib.request.urlopen(request) as response:
            return json.load(response)

    with servers.serve_http(versions) as address:
        odd = [[[300, -1, 5]] * 4] * 4
        plain = [[[44, 255, 5]] * 4] * 4
        rows = [post("/labels/stable", {"instances": [{"images": image}]})["predictions"] for image in (odd, plain)]
        assert rows[0] == rows[1]
        columns = post("", {"inputs": {"images": [odd]}})["outputs"]
        assert columns["labels"] == [rows[0][0]["labels"]]
        with transport.Client(address, version=None) as connection:
            assert connection.states() == {1: "AVAILABLE", 2: "AVAILABLE"}
        assert versions.find(servers.predict_pb2.PredictRequest(
            model_spec={"name": "ficklenet"}).model_spec)[0] == 2


def test_the_command_line_refuses_what_cannot_be(capsys):
    for wrong, message in ((["--opacity=nan"], "expected a number from 0 to 1, found nan"),
                           (["--deadline=-3"], "expected a number from 0.1"), (["--concurrency=0"], "from 1 to 1000"),
                           (["--max_pixels=x"], "invalid"), ([], "PHOTOGRAPH")):
        arguments = ["--server=localhost:1", *wrong] + (["a.jpg"] if wrong else [])
        with pytest.raises(SystemExit):
            client.main(arguments)
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit, match=r"expected files of different names, found two whose answer is a\.png"):
        client.main(["--server=localhost:1", "x/a.jpg", "y/a.png"])


def test_a_photograph_is_turned_as_in_training():
    """The client stands alone, without the library."""
    assert photographs._TURNS == images._TURNS


def test_the_limits_are_those_of_an_export():
    assert photographs.MAX_PIXELS == servable.MAX_PIXELS
    assert photographs.MAX_PIXELS_CRF == servable.MAX_PIXELS // signatures.CRF_SHARE


@pytest.mark.parametrize(("arguments", "most"), [
    (["--server=localhost:1"], 2**24), (["--server=localhost:1", "--crf"], 2**21),
    (["--server=http://localhost:1", "--crf"], 2**18),
    (["--server=http://localhost:1", "--crf", "--max_pixels=99"], 99)])
def test_how_large_a_photograph_is_sent(arguments, most, monkeypatch):
    options = []
    monkeypatch.setattr(client, "segment_all", lambda *given: options.append(given[-1]))
    client.main([*arguments, "a.jpg"])
    assert [each.max_pixels for each in options] == [most]


def test_an_interrupt_ends_in_a_word(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(client, "segment_all", interrupted)
    with pytest.raises(SystemExit) as ended:
        client.main(["--server=localhost:1", "a.jpg"])
    assert ended.value.code == 130 and capsys.readouterr().err == "stopped\n"


def test_the_old_name_of_to_says_the_new_one(capsys):
    for old in (["--output_dir=out"], ["--output_dir", "out"]):
        with pytest.raises(SystemExit) as ended:
            client.main(["--server=localhost:1", *old, "a.jpg"])
        assert ended.value.code == 2 and capsys.readouterr().err == "error: --output_dir is called --to now\n"


def test_an_output_that_no_version_has_is_an_error(served):
    ask = ("serve_jpeg", {"image": [verify.encode(tiny_run.photograph(9, 9, 1))]}, ["labels"], ["size"])
    with servers.serve_grpc(served) as (grpc_address, _), servers.serve_http(served) as http_address:
        for address in (grpc_address, http_address):
            with transport.Client(address) as asked, pytest.raises(transport.ServerError, match="labels"):
                asked.predict(*ask)


def test_a_photograph_is_never_overwritten(tmp_path):
    (tmp_path / "photo.png").write_bytes(verify.encode(tiny_run.photograph(9, 9, 1)))
    with pytest.raises(SystemExit, match="expected another --to, found that a photograph would be"):
        client.main(["--server=localhost:1", f"--to={tmp_path}", str(tmp_path / "photo.png")])


def test_sixteen_bits_are_the_higher_eight(tmp_path):
    """As `images.read_image` takes them; Pillow's own conversion cuts off."""
    ramp = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
    Image.fromarray(ramp).save(tmp_path / "a.png")
    data, _, _ = photographs.prepared((tmp_path / "a.png").read_bytes())
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(np.asarray(image), images.read_image(tmp_path / "a.png"))
    (tmp_path / "a.pgm").write_bytes(b"P5\n64 64\n65535\n" + ramp.astype(">u2").tobytes())
    with Image.open(io.BytesIO(photographs.prepared((tmp_path / "a.pgm").read_bytes())[0])) as image:
        np.testing.assert_array_equal(np.asarray(image), images.read_image(tmp_path / "a.png"))
    Image.fromarray(ramp.astype(np.float32)).save(tmp_path / "b.tiff")
    with pytest.raises(OSError, match="expected 8 or 16 bits a channel, found Pillow's mode F"):
        photographs.prepared((tmp_path / "b.tiff").read_bytes())


def test_what_cannot_be_sent_is_named():
    with transport.Client("localhost:1", deadline=1) as connection:
        for value in (np.zeros(3, np.float16), [1, 2], np.array(["text"])):
            with pytest.raises(ValueError, match="images: expected"):
                connection.predict("serving_default", {"images": value})
    assert messages.as_tensor("n", np.array([1], ">i4")).tensor_content == b"\x01\0\0\0"
    assert [dim.size for dim in messages.as_tensor("n", np.array([[b"a"]], object)).tensor_shape.dim] == [1, 1]
