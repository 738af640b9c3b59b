"""The export: every signature answers as the library does, in a fresh process; what lies beside it is right."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from ficklenet_tf import crf, presets
from ficklenet_tf.data import images, labels
from ficklenet_tf.errors import UserError
from ficklenet_tf.evaluation import prediction
from ficklenet_tf.maps import aggregation
from ficklenet_tf.maps.localizer import Localizer
from ficklenet_tf.runs import artifacts
from ficklenet_tf.serving import (
    bare_session,
    graph_scan,
    loading,
    model_card,
    png,
    saved_model,
    server_files,
    verify,
    warmup,
)
from tests import tiny_run
from tests.serving import servers


@pytest.fixture(scope="module")
def fresh(exported, live):
    """(Agreement by `verify` with the live labels, the answers of its fresh process)."""
    answers, ask = [], verify.ask
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify, "ask", lambda *args: answers.extend(ask(*args)) or answers)
        share = verify.verify(exported[1], live[0], [probs.argmax(-1) for probs in live[1]])
    return share, answers


@pytest.fixture(scope="module")
def replayed(exported, live, fresh):
    """The warm-up file's requests and the fresh process' answers to them."""
    return warmup.read(exported[1]), fresh[1][2 * len(live[0]):]


def _tensors(replayed, signature):
    return [(request.tensors, answer) for request, answer in zip(*replayed, strict=True)
            if request.signature == signature]


def test_a_fresh_process_answers_as_the_live_predictor(exported, live, fresh, monkeypatch):
    photographs, expected = live[0], [probs.argmax(-1) for probs in live[1]]
    assert fresh[0] == 1
    assert len(np.unique(expected[0])) > 2 and fresh[1][0]["labels"].shape == (1, 70, 93)
    monkeypatch.setattr(verify, "ask", lambda *_: fresh[1])
    wrong = [expected[0], (expected[1] + 1) % 4]
    assert verify.verify(exported[1], photographs, wrong) == pytest.approx(70 * 93 / (70 * 93 + 33 * 21))
    with pytest.raises(ValueError, match="expected the shape"):
        verify.verify(exported[1], photographs, [expected[0], np.zeros((3, 3))])


def test_only_the_outputs_that_are_wanted_are_fetched(exported, fresh):
    """Of a great photograph the probabilities alone take gigabytes, and nobody looks at them here."""
    assert [set(answer) for answer in fresh[1][:4]] == [{"labels"}] * 2 + [{"label_png_bytes"}] * 2
    assert [set(answer) for answer in fresh[1][4:]] == [
        set(graph_scan.signatures(graph_scan.read(exported[1]))[request.signature]["outputs"])
        for request in warmup.read(exported[1])], "a request that names none gets all"
    wrong = bare_session.Message("serving_default", {"images": np.zeros((1, 9, 9, 3), np.uint8)}, ("labels", "logits"))
    with pytest.raises(ValueError, match=r"serving_default: expected outputs of \[.*'labels'.*found .*logits"):
        bare_session.answer(str(exported[1]), [wrong])


def test_verify_names_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match="as many labels as images"):
        verify.verify(tmp_path, [np.zeros((3, 3, 3))], [])
    with pytest.raises(FileNotFoundError, match="expected a SavedModel"):
        verify.ask(tmp_path, [])
    (tmp_path / "saved_model.pb").write_bytes(b"none of ours")
    with pytest.raises(ValueError, match="expected answers from a bare session, found .*saved_model.pb"):
        verify.ask(tmp_path, [])


def test_every_signature_is_warmed_up_and_replays_in_a_fresh_process(exported, replayed):
    signatures = graph_scan.signatures(graph_scan.read(exported[1]))
    assert set(signatures) == {"serving_default", "serve_jpeg", "serve_crf", "localization_maps"}
    assert {request.signature for request in replayed[0]} == set(signatures)
    for name, signature in signatures.items():
        for _, answer in _tensors(replayed, name):
            assert set(answer) == set(signature["outputs"])
        assert all(info["shape"][0] is None for info in signature["inputs"].values()), "a batch axis on every input"


def test_a_warm_up_is_of_every_side_and_of_no_more_pixels_than_a_signature_takes():
    described = {name: {"inputs": {"images": {}}, "outputs": {}} for name in ("serving_default", "serve_crf")}
    requests = warmup.examples(described, [8, 64, 32, 2000], 1024)
    assert [(each.signature, each.tensors["images"].shape[1:3]) for each in requests] == [
        (name, shape) for shape in ((8, 8), (32, 32), (16, 64), (1, 1024)) for name in described]


def test_the_warm_up_of_serving_default_is_the_predictors_answer(exported, replayed):
    [(request, answer)] = _tensors(replayed, "serving_default")
    expected = prediction.Predictor(exported[0] / "segmenter")(request["images"][0])
    np.testing.assert_allclose(answer["probabilities"][0], expected, atol=1e-5)
    np.testing.assert_array_equal(answer["labels"][0], expected.argmax(-1))
    np.testing.assert_array_equal(np.flatnonzero(answer["classes_present"][0]), np.unique(expected.argmax(-1)))


def test_serve_crf_is_the_packages_answer_with_iterations_per_row(served, live, reference_crf):
    images_ = np.stack([live[0][0]] * 2)
    class_ids = served.run("serve_crf", {"images": images_, "iterations": np.array([0, 10], np.int32)})["labels"]
    expected = crf.refine(live[0][0], live[1][0], crf.DSRG_TEST, "pydensecrf")
    np.testing.assert_array_equal(class_ids[0], live[1][0].argmax(-1))
    assert (class_ids[1] == expected.argmax(-1)).mean() > 0.999
    assert (class_ids[0] != class_ids[1]).mean() > 0.01


def test_localization_maps_are_the_extractions_own(exported, served):
    model, normalization, run, _ = loading.classifier.load(exported[0] / "classifier")
    config = presets.MapsConfig(num_maps=23, sizes=(64,))
    photograph, tags = tiny_run.photograph(50, 61, 5), np.array([0, 1, 1], np.float32)
    localizer = Localizer(model, normalization, config)
    example = {"image": tf.io.encode_png(photograph), "image_id": "one", "tags": tags}
    expected = localizer(example, 7)
    seed = tf.random.fold_in(aggregation.image_seed(7, "one"), 0).numpy()
    request = {"images": np.stack([photograph] * 2), "tags": np.stack([tags, [1, 0, 0]]).astype(np.float32),
               "seed": np.stack([seed, seed]), "num_maps": np.array([23, 1], np.int32)}
    maps = served.run("localization_maps", request)
    for name in ("mean", "max"):
        present = maps[f"{name}_maps"][0, ..., 1:]
        np.testing.assert_allclose(present, getattr(expected, name), atol=5e-4)  # the extraction's: half precision
    assert not maps["max_maps"][0, ..., 0].any() and maps["max_maps"][0, ..., 1:].max() == pytest.approx(1)
    np.testing.assert_allclose(maps["max_maps"][1], maps["mean_maps"][1])  # of one selection
    again = served.run("localization_maps", request)
    np.testing.assert_array_equal(again["mean_maps"], maps["mean_maps"])
    reseeded = served.run("localization_maps", {**request, "seed": request["seed"] + 1})
    assert np.abs(reseeded["mean_maps"] - maps["mean_maps"]).max() > 0.01


def _changed(path, stage, **changes):
    """Writes a tiny run's run.json with other entries."""
    run = artifacts.read_json(path / stage / "run.json")
    artifacts.write_json(path / stage / "run.json", {**run, **{key: {**run[key], **value}
                                                               for key, value in changes.items()}})


def test_maps_of_a_deterministic_classifier_are_the_extractions_own(tmp_path, capsys):
    run_dir = tiny_run.make(tmp_path, sizes=(40,), flip=False)
    config = presets.MapsConfig(num_maps=20, sizes=(48,))
    _changed(run_dir, "classifier", config={"training_mode": "deterministic", "inference_mode": "deterministic"})
    _changed(run_dir, "seeds", maps={"mode": "deterministic", "config": dataclasses.asdict(config)})
    options = saved_model.Options(crf="none")
    path = saved_model.export(run_dir, 1, options)
    assert "localization_maps" not in capsys.readouterr().err
    photograph, tags = tiny_run.photograph(50, 61, 5), np.array([0, 1, 1], np.float32)
    model, normalization, *_ = loading.classifier.load(run_dir / "classifier")
    expected = Localizer(model, normalization, config, "deterministic")(
        {"image": tf.io.encode_png(photograph), "image_id": "one", "tags": tags}, 7)
    served = servers.Model(path)
    request = {"images": np.stack([photograph] * 2), "tags": np.stack([tags] * 2),
               "seed": np.array([[1, 2], [3, 4]], np.int32), "num_maps": np.array([1, 20], np.int32)}
    maps = served.run("localization_maps", request)
    for name in ("mean_maps", "max_maps"):
        np.testing.assert_allclose(maps[name][0, ..., 1:], expected.mean, atol=5e-4)
        np.testing.assert_array_equal(maps[name][0], maps[name][1])
    for name, wrong in (("num_maps", np.array([0, 1], np.int32)), ("seed", np.zeros([2, 3], np.int32))):
        with pytest.raises(servers.Refused, match=f"{name}: "):
            served.run("localization_maps", {**request, name: wrong})
    drawing = {"size": 48, "mode": "deterministic", "cam": "gradcam", "other_than_seeds": []}
    assert artifacts.read_json(path / "assets.extra" / "model_card.json")["localization_maps"] == drawing

    two = dataclasses.asdict(dataclasses.replace(config, sizes=(48, 64)))
    _changed(run_dir, "seeds", maps={"config": two})
    assert saved_model.export(run_dir, 1, options) == path
    assert ("localization_maps are not the maps that the seeds were made of: of the photograph at 48 pixels, those of "
            "the seeds are merged of the sizes 48, 64") in capsys.readouterr().err
    _changed(run_dir, "seeds", maps={"mode": "stochastic"})
    with pytest.raises(UserError, match="differs in maps; give another --version"):
        saved_model.export(run_dir, 1, options)


def test_files_of_different_sizes_share_a_request(served, live):
    files = np.array([verify.encode(image) for image in live[0]], object)
    answer = served.run("serve_jpeg", {"image": files})
    assert answer["size"].tolist() == [[70, 93], [33, 21]]
    assert [names.decode().split("\n") for names in answer["class_names_bytes"]] == [tiny_run.CLASS_NAMES] * 2
    for data, probs, shares in zip(answer["label_png_bytes"], live[1], answer["fractions"], strict=True):
        np.testing.assert_array_equal(verify.decode_ids(data), probs.argmax(-1))
        np.testing.assert_allclose(shares, np.bincount(probs.argmax(-1).ravel(), minlength=4) / probs[..., 0].size,
                                   rtol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (2, 300), (257, 3)])
def test_a_label_png_is_a_palette_png_that_all_read(shape, tmp_path):
    ids = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    data = png.encode_palette(tf.constant(ids), labels.palette()).numpy()
    (tmp_path / "x.png").write_bytes(data)
    np.testing.assert_array_equal(labels.read_label(tmp_path / "x.png"), ids)
    np.testing.assert_array_equal(labels.decode_label_op(data).numpy(), ids)  # by its colours
    assert png.size(data[:24]).numpy().tolist() == list(shape)


def test_what_lies_beside_the_graph(exported):
    extra = exported[1] / "assets.extra"
    card = json.loads((extra / "model_card.json").read_text())
    assert (extra / "class_names.txt").read_text().split() == tiny_run.CLASS_NAMES
    assert json.loads((extra / "palette.json").read_text())["disc"] == [128, 0, 0]
    assert card["normalization"]["mean"] == list(images.TORCH.mean) and card["data"]["dataset"] == "shapes"
    assert card["metrics"]["classifier"] == {"map": 0.5} and "licence" in card["pretrained_weights"]
    assert card["signatures"]["serve_jpeg"]["outputs"]["fractions"] == {"dtype": "float32", "shape": [None, 4]}
    everything = (extra / "model_card.json").read_text() + (extra / "run.json").read_text()
    assert str(exported[0]) not in everything


def test_a_finished_version_is_kept_and_another_is_refused(exported):
    before = (exported[1] / "saved_model.pb").stat().st_mtime_ns
    assert saved_model.export(exported[0], 1) == exported[1]
    assert (exported[1] / "saved_model.pb").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match=r"differs in flip; give another --version"):
        saved_model.export(exported[0], 1, saved_model.Options(applied=loading.Options(flip=False)))
    with pytest.raises(ValueError, match="version: expected an integer from 1"):
        saved_model.export(exported[0], 0)
    with pytest.raises(FileNotFoundError, match=r"segmenter.run\.json"):
        saved_model.export(exported[0] / "nothing", 1)
    with pytest.raises(UserError, match="crf: expected"):
        saved_model.export(exported[0], 9, saved_model.Options(crf="x"))
    for wrong in ({"precision": "int8"}, {"sizes": (0,)}, {"max_side": -1}, {"max_pixels": 9}):
        with pytest.raises(UserError, match=f"{next(iter(wrong))}.*expected"):
            saved_model.export(exported[0], 9, saved_model.Options(applied=loading.Options(**wrong)))


def test_nothing_half_written_is_left(tmp_path):
    def build(directory):
        (tmp_path / "versions" / directory / "saved_model.pb").write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        saved_model.write_whole(tmp_path / "versions" / "1", build)
    assert [path.name for path in (tmp_path / "versions").iterdir()] == [".1.lock"]  # see runs/lock.py


def test_an_export_only_adds_its_version(tmp_path):
    def added(version, **options):
        (tmp_path / str(version)).mkdir(exist_ok=True)
        server_files.add_version(tmp_path, version, **options)
        [model] = server_files.read(tmp_path / server_files.MODELS).model_config_list.config
        return list(model.model_version_policy.specific.versions), dict(model.version_labels), model.base_path

    assert added(1) == ([1], {"stable": 1}, "/models/ficklenet")
    assert added(2, base_path="/elsewhere") == ([1, 2], {"stable": 1}, "/elsewhere")
    assert added(1) == ([1, 2], {"stable": 1}, "/elsewhere")
    (tmp_path / "1").rmdir()
    assert added(3) == ([2, 3], {"stable": 3}, "/elsewhere"), "a version that is gone loses its place and its label"
    assert not (tmp_path / server_files.BATCHING).exists()
    added(3, batch=32)
    assert "max_batch_size { value: 32 }" in (tmp_path / server_files.BATCHING).read_text()
    (tmp_path / server_files.MODELS).write_text("no { config")
    with pytest.raises(ValueError, match="expected a ModelServerConfig"):
        added(5)


def test_the_scan_finds_what_a_server_would_not_run(exported, tmp_path):
    assert graph_scan.scan(exported[1]) == []
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(["a"], [1]), 0)

    class Bad(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None])])
        def serve(self, x):
            inner = tf.function(lambda y: y + 1, jit_compile=True)
            table.lookup(tf.constant(["a"]))
            tf.io.read_file(tf.constant("/etc/some/file"))
            return {"y": inner(tf.py_function(lambda y: y, [x], tf.float32))}

    bad = Bad()
    bad.table = table
    tf.saved_model.save(bad, str(tmp_path))
    findings = " ".join(graph_scan.scan(tmp_path))
    for expected in ("calls Python", "_XlaMustCompile", "needs a table", "/etc/some/file"):
        assert expected in findings
    with pytest.raises(ValueError, match="stock server"):
        saved_model.refuse(tmp_path)


def test_the_binary_fails_with_one_line(tmp_path):
    finished = subprocess.run([sys.executable, "-m", "export.export_saved_model", f"--output_dir={tmp_path}"],
                              capture_output=True, text=True, check=False)
    assert finished.returncode == 1 and "Traceback" not in finished.stderr
    assert finished.stderr.splitlines()[-1].startswith(f"error: {tmp_path}/segmenter/run.json: expected")


def test_without_a_number_a_version_of_the_same_settings_is_kept_and_others_get_the_next(tmp_path):
    """A version that somebody exported by hand in between does not make a third of what is there."""
    assert saved_model._next_version(tmp_path, {"crf": "dsrg"}) == 1
    for version, settings in ((1, {"crf": "dsrg"}), (2, {"crf": "none"})):
        artifacts.write_run(tmp_path / "saved_model" / str(version) / model_card.DIRECTORY, settings=settings)
    (tmp_path / "saved_model" / "models.config").touch()
    assert [saved_model._next_version(tmp_path, {"crf": crf}) for crf in ("dsrg", "none", "deeplab")] == [1, 2, 3]
