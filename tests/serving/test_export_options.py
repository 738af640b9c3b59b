"""What an export may be asked for: a bounded side, buckets, a precision, other formats."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from ficklenet_tf import crf
from ficklenet_tf.data import images, labels
from ficklenet_tf.evaluation import prediction
from ficklenet_tf.runs import artifacts
from ficklenet_tf.serving import formats, loading, model_card, saved_model, signatures, verify
from tests import tiny_run

LIMITS = {"max_pixels": 10**6, "max_batch": 4}


def _load(exported, **changes):
    return loading.load_segmenter(exported[0] / "segmenter", loading.Options(**LIMITS, **changes))[0]


def _serve(model):
    return tf.function(signatures.serving_default(model), input_signature=[signatures.IMAGES], autograph=False)


def _serve_files(model):
    return tf.function(signatures.serve_jpeg(model, labels.palette(), tiny_run.CLASS_NAMES),
                       input_signature=[signatures.FILES], autograph=False)


def test_a_greater_photograph_is_computed_at_max_side(run):
    photograph = tiny_run.photograph(64, 96, 4)
    serve = _serve(_load(run, max_side=48, sizes=(40, 56)))
    served = serve(photograph[None])
    shrunk = tf.image.resize(tf.cast(photograph, tf.float32), (32, 48), antialias=True)
    predictor = prediction.Predictor(run[0] / "segmenter", sizes=(40, 56))
    probs = predictor(tf.cast(tf.round(shrunk), tf.uint8))
    expected = probs.argmax(-1).repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(served["labels"][0], expected)
    assert served["probabilities"].shape == (1, 64, 96, 4)
    file = tf.io.encode_png(photograph)[None]
    answer = _serve_files(_load(run, max_side=48, sizes=(40, 56)))(file)
    np.testing.assert_array_equal(labels.decode_label_op(answer["label_png_bytes"][0]), expected)
    small = tiny_run.photograph(48, 30, 4)
    np.testing.assert_array_equal(serve(small[None])["labels"][0], predictor(small).argmax(-1))
    assert _load(run, max_side=10).inner_shape(tf.constant([1000, 10])).numpy().tolist() == [10, 1]


def test_a_photograph_is_padded_to_the_smallest_bucket(run):
    model = _load(run, buckets=(64, 32))
    assert model.buckets == (32, 64) and model.longest == 64
    shapes = []
    counted = dataclasses.replace(model, network=lambda x, training: shapes.append(x.shape[1:3]) or model.network(x))
    serve = _serve(counted)
    photograph = tiny_run.photograph(20, 33, 4)
    wide, narrow = serve(photograph[None])["probabilities"], serve(photograph[None, :, :32])["probabilities"]
    assert [tuple(shape) for shape in shapes] == [(32, 32), (64, 64)], "the only sizes that the graph knows"
    for side, width, probs in ((64, 33, wide), (32, 32, narrow)):
        x = images.normalize(photograph[:, :width], model.normalization)
        x = np.pad(x, ((0, side - 20), (0, side - width), (0, 0)))
        expected = tf.image.resize(tf.nn.softmax(model.network(x[None])), (side, side))[0, :20, :width]
        np.testing.assert_allclose(probs[0], expected, atol=1e-5)
    answer = _serve_files(model)(tf.stack([tf.io.encode_png(p) for p in (photograph[:, :32], photograph)]))
    np.testing.assert_array_equal(labels.decode_label_op(answer["label_png_bytes"][0]), narrow[0].numpy().argmax(-1))
    assert serve(tiny_run.photograph(90, 100, 1)[None])["labels"].shape == (1, 90, 100)  # shrunk, enlarged


def test_agreement_of_a_precision_is_written_into_the_card(run):
    photographs = [tiny_run.photograph(60, 70, seed) for seed in range(3)]
    model, reference = _load(run, precision="bfloat16"), _load(run)
    probs, expected = (segmenter.probs(photographs[0][None]).numpy() for segmenter in (model, reference))
    assert 1e-5 < np.abs(probs - expected).max() < 0.1, "another precision, the same weights"
    options = saved_model.Options(crf="none", localization_maps=False, applied=loading.Options("bfloat16"))
    path = saved_model.export(run[0], 7, options, photographs=photographs)
    agreement = json.loads((path / "assets.extra" / "model_card.json").read_text())["agreement_with_float32"]
    class_ids, expected_ids = ([segmenter.probs(photograph[None]).numpy().argmax(-1) for photograph in photographs]
                               for segmenter in (model, reference))
    same = np.mean(np.equal(class_ids, expected_ids))
    assert agreement == {"precision": "bfloat16", "images": 3, "same_labels": pytest.approx(same)}
    assert 0.9 < agreement["same_labels"] <= 1
    card, graph = path / "assets.extra" / "model_card.json", (path / "saved_model.pb").read_bytes()
    before = json.loads(card.read_text())
    saved_model.export(run[0], 7, options)
    assert json.loads(card.read_text()) == before, "kept where nothing is measured again"
    saved_model.export(run[0], 7, options, photographs=photographs[:1])
    after = json.loads(card.read_text())
    assert after.pop("agreement_with_float32")["images"] == 1 and after == {
        key: value for key, value in before.items() if key != "agreement_with_float32"}
    assert (path / "saved_model.pb").read_bytes() == graph


@pytest.mark.parametrize("target", ["onnx", pytest.param("openvino", marks=pytest.mark.slow), "litert"])
def test_another_format_gives_the_same_labels(run, target):
    pytest.importorskip({"onnx": "onnxruntime", "openvino": "openvino", "litert": "tensorflow"}[target])
    if target == "onnx":
        pytest.importorskip("tf2onnx")
    directory = formats.export(run[0], 1, target)
    photograph = tiny_run.photograph(45, 77, 9)
    label = formats.runner(directory / formats.FILES[target])(photograph)
    expected = prediction.Predictor(run[0] / "segmenter")(photograph).argmax(-1)
    assert label.shape == expected.shape and (label == expected).mean() > 0.999
    with pytest.raises(ValueError, match="expected no such version"):
        formats.export(run[0], 1, target)


@pytest.mark.parametrize("changes", [{"max_side": 64}, {"buckets": (64, 96)}])
def test_no_format_shrinks_photographs(run, changes):
    """It would need an operation, ScaleAndTranslate, that no converter has."""
    with pytest.raises(ValueError, match="format onnx: expected neither max_side nor size_buckets"):
        formats.export(run[0], 4, "onnx", loading.Options(**changes))


def test_the_card_of_another_format_names_the_weights_of_the_backbone(run, monkeypatch):
    monkeypatch.setitem(formats._CONVERTERS, "onnx", lambda model, path: path.write_bytes(b""))
    monkeypatch.setattr(formats, "compare", lambda path, model, photographs: 1.0)
    monkeypatch.setattr(model_card.artifacts, "read_run", lambda path, read=artifacts.read_run: (
        {**read(path), "weights": "imagenet"} if path.name == "classifier" else read(path)))
    directory = formats.export(run[0], 4, "onnx")
    weights = json.loads((directory / "assets.extra" / "model_card.json").read_text())["pretrained_weights"]
    assert weights["source"] == "imagenet" and weights["licence"].startswith("weights of keras.applications")


@pytest.mark.parametrize(("weights", "source"), [("random", "none"), ("", "none"), ("a/vgg.npz", "vgg.npz")])
def test_a_card_says_whose_weights_and_this_segmenters_scores(run, weights, source):
    segmenter = artifacts.read_json(run[0] / "segmenter" / "run.json")
    for name, made_by in (("mine", segmenter["finished"]), ("earlier", "2020-01-01T00:00:00Z")):
        artifacts.write_run(run[0] / name, stage="predictions", segmenter=made_by)
        artifacts.write_json(run[0] / "evaluation" / f"{name}.json", {"miou": 0.5})
    card = model_card.make(run[0], {**segmenter, "initial": "weights", "weights": weights}, None, {}, {})
    assert card["pretrained_weights"]["source"] == source
    assert ("no pretrained" in card["pretrained_weights"]["licence"]) == (source == "none")
    assert card["metrics"]["mine"] == {"miou": 0.5} and "earlier" not in card["metrics"]


def test_a_photograph_above_the_servers_limit_is_shrunk_for_the_check():
    photograph = tiny_run.photograph(60, 90)
    assert verify.fitting(photograph, 60 * 90) is photograph
    assert verify.fitting(photograph, 60 * 90 // 4).shape == (30, 45, 3)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx", "openvino"])
def test_the_exact_crf_converts(target, tmp_path):
    for package in {"onnx": ("tf2onnx", "onnxruntime"), "openvino": ("openvino",)}[target]:
        pytest.importorskip(package)
    photograph = tiny_run.photograph(17, 21, 5)
    logits = np.random.default_rng(5).normal(0, 1, (1, 17, 21, 4)).astype(np.float32)
    signature = [tf.TensorSpec([1, None, None, 3], tf.uint8, name="images"),
                 tf.TensorSpec([1, None, None, 4], tf.float32, name="logits")]
    refine = tf.function(lambda images, logits: {"probs": crf.mean_field(images, logits, crf.DSRG_TEST, "exact")},
                         input_signature=signature, autograph=False)
    expected = refine(photograph[None], logits)["probs"].numpy()
    if target == "onnx":
        import onnxruntime
        import tf2onnx
        tf2onnx.convert.from_function(refine, signature, opset=18, output_path=str(tmp_path / "crf.onnx"))
        session = onnxruntime.InferenceSession(tmp_path / "crf.onnx", providers=["CPUExecutionProvider"])
        probs = session.run(["probs"], {"images": photograph[None], "logits": logits})[0]
    else:
        import openvino
        module = tf.Module()
        module.refine = refine
        tf.saved_model.save(module, tmp_path / "crf", signatures=refine.get_concrete_function())
        compiled = openvino.Core().compile_model(openvino.convert_model(tmp_path / "crf"), "CPU",
                                                 {"INFERENCE_PRECISION_HINT": "f32"})
        probs = np.array(compiled({"images": photograph[None], "logits": logits})["probs"])
    assert (expected.argmax(-1) != logits.argmax(-1)).mean() > 0.1  # the CRF did something
    np.testing.assert_array_equal(probs.argmax(-1), expected.argmax(-1))
    np.testing.assert_allclose(probs, expected, atol=1e-4)


def test_other_formats_compute_in_float32_unless_told(run, monkeypatch):
    """A network that was trained in bfloat16 too, whose layers LiteRT does not know."""
    def load(directory, options):
        raise ValueError(f"precision {options.precision}")

    monkeypatch.setattr(formats.loading, "load_segmenter", load)
    for target, precision, message in (
            ("litert", None, "precision float32"), ("onnx", "bfloat16", "precision bfloat16"),
            ("litert", "bfloat16", "format litert: expected the precision float32, .* found bfloat16")):
        with pytest.raises(ValueError, match=message):
            formats.export(run[0], 5, target, loading.Options(precision))


def test_what_a_converter_says_is_the_line_of_its_error(run, monkeypatch):
    def convert(model, path):
        raise ValueError("dump {\n  loc: error: 'tf.Conv2D' op is neither\n}) {attributes")

    monkeypatch.setitem(formats._CONVERTERS, "litert", convert)
    with pytest.raises(ValueError, match="litert: the converter failed:   loc: error: 'tf.Conv2D' op is neither$"):
        formats.export(run[0], 6, "litert")


def test_a_format_that_answers_otherwise_is_refused(run, monkeypatch):
    monkeypatch.setattr(formats, "runner", lambda path: lambda image: np.zeros(image.shape[:2], np.uint8))
    with pytest.raises(ValueError, match="expected TensorFlow's labels, found"):
        formats.export(run[0], 3, "litert")
    assert not (run[0] / "litert" / "3").exists()
    with pytest.raises(ValueError, match="format: expected one of"):
        formats.export(run[0], 3, "coreml")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(run directory,), not exported yet."""
    return (tiny_run.make(tmp_path_factory.mktemp("options"), sizes=(40,), flip=False),)


def test_a_second_round_has_the_weights_of_the_first(tmp_path):
    for name, run in (("classifier", {"weights": "vgg.npz"}), ("plain", {"initial": "classifier", "weights": ""}),
                      ("segmenter", {"initial": "weights", "weights": "random"})):
        artifacts.write_run(tmp_path / name, **run)
    found = [model_card._weights_below(tmp_path, {"initial": initial, "weights": ""})
             for initial in ("classifier", "segmenter", "plain")]
    assert found == ["vgg.npz", "random", "vgg.npz"]
