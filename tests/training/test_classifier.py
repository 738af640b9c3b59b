"""The classifier's training: how long it is, and that a cut changes nothing but what is trained."""

import dataclasses

import keras
import numpy as np
import pytest

from ficklenet_tf import presets
from ficklenet_tf.data import datasets, feature_cache
from ficklenet_tf.errors import UserError
from ficklenet_tf.evaluation import metrics
from ficklenet_tf.maps import extraction
from ficklenet_tf.models import backbones, classifier
from ficklenet_tf.runs import artifacts
from ficklenet_tf.training import classifier as classifier_training
from ficklenet_tf.training import optimizers

RANDOM = classifier_training.Options("random")  # frozen layers, for these tests
CONFIG = dataclasses.replace(presets.TINY.classifier, input_size=33, kernel_size=3, batch_size=4, epochs=0, steps=2,
                             photometric=0.0)
MAPS = presets.MapsConfig(num_maps=10, sizes=(33,))


@pytest.mark.parametrize("changes, count, expected", [
    ({"epochs": 3, "steps": "auto"}, 10, 6), ({"steps": 7}, 10, 7), ({"steps": "auto"}, 64, 150),
    ({"steps": "auto", "head": "hidden"}, 64, 200), ({"steps": "auto", "head": "mdc"}, 729, 300),
    ({"epochs": 2, "steps": 0}, 3, 2)])
def test_how_many_steps(changes, count, expected):
    """Epochs of whole batches of 4, or steps; "auto" is 150, or by the sixth root of the number of photographs."""
    assert classifier_training.steps_of(dataclasses.replace(CONFIG, **changes), count) == expected


def test_no_length_is_refused():
    with pytest.raises(UserError, match="steps: expected a number from 1 or auto"):
        classifier_training.steps_of(dataclasses.replace(CONFIG, steps=0), 10)
    with pytest.raises(UserError, match="steps: expected a whole number from 0 to 1e\\+08 or auto, found 'long'"):
        dataclasses.replace(CONFIG, steps="long")
    with pytest.raises(UserError, match="steps: expected none beside 3 epochs, found 7; pass --epochs=0"):
        classifier_training.steps_of(dataclasses.replace(CONFIG, epochs=3, steps=7), 10)


def test_by_steps_the_rate_stays():
    for epochs, expected in ((0, 0.001), (1, 0.0005)):
        config = dataclasses.replace(presets.PAPER.classifier, epochs=epochs, steps=100, halve_every=10)
        head = classifier.HEADS["stochastic"](config, 2)
        head.build((None, 4, 4, 3))
        optimizer = optimizers.classifier_optimizer(config, head, head.trainable_variables, 3)
        optimizer.build(head.trainable_variables)
        optimizer.iterations.assign(31)
        assert float(optimizer.learning_rate) == pytest.approx(expected)


@pytest.fixture(scope="module")
def split(drawings_dir):
    return datasets.load_split("shapes", "train", cache_dir=drawings_dir, max_images=8)


@pytest.mark.parametrize("trainable", ["head", "last_block", "last_two_blocks"])
def test_a_cut_trains_what_is_above_it_and_maps_take_what_is_kept(trainable, split, tmp_path, capsys):
    config = dataclasses.replace(CONFIG, trainable_layers=trainable)
    run = classifier_training.train(tmp_path / "classifier", split, split, config, RANDOM)
    assert "classifier: 2 steps of 4, 1.0 epochs of 8 photographs" in capsys.readouterr().err
    trained, start = classifier.load(tmp_path / "classifier"), None
    start = backbones.build("small", trainable)
    below = backbones.cut(trained.model.backbone, trainable).below
    kept = {v.path for v in below.variables}
    assert {v.path for v in trained.model.backbone.trainable_variables} == (
        {v.path for v in start.trainable_variables} - kept)
    localizer, _ = extraction.open_localizer(tmp_path, split, MAPS, extraction.Options())
    from_kept = localizer(split[0], 1)
    prepared = localizer.prepare(split[0])
    assert prepared["views"][0].shape == below.compute_output_shape((1, 33, 33, 3))[1:]
    artifacts.write_run(tmp_path / "classifier", **{**run, "features": None})
    localizer, _ = extraction.open_localizer(tmp_path, split, MAPS, extraction.Options())
    assert localizer.prepare(split[0])["views"][0].shape == (1, 33, 33, 3)
    np.testing.assert_allclose(localizer(split[0], 1).mean, from_kept.mean, atol=0.02)  # what is kept is float16


def test_mirrored_photographs_are_kept_where_that_is_asked_for(split, tmp_path):
    """Though this classifier does not learn them: the segmenter may."""
    for kept in (False, True):
        config = dataclasses.replace(CONFIG, trainable_layers="head", flips=not kept)
        options = classifier_training.Options("random", cache_flips=kept)
        directory = tmp_path / f"kept {kept}" / "classifier"
        features = feature_cache.FeatureCache.of_run(
            classifier_training.train(directory, split, split.select([0]), config, options))
        assert features.flips is kept and features.path(split.image_ids[3], True).exists() is kept
        with pytest.raises(UserError, match="cache_flips: "):  # other features of the mirrored photographs
            classifier_training.train(directory, split, split.select([0]), config, dataclasses.replace(
                options, cache_flips=not kept))


def test_layers_below_the_cut_stay_and_those_above_move(split, tmp_path):
    for steps in (1, 2):
        classifier_training.train(tmp_path / f"after {steps}", split, split,
                                  dataclasses.replace(CONFIG, trainable_layers="last_block", steps=steps), RANDOM)
    one, two = (classifier.load(tmp_path / f"after {steps}").model.backbone for steps in (1, 2))
    moved = {v.path.split("_")[0] for v, w in zip(one.variables, two.variables, strict=True)
             if np.abs(v.numpy() - w.numpy()).max() > 0}
    assert moved == {"block5", "block6"}


def test_other_held_out_photographs_are_measured_again(split, tmp_path):
    """Also where they were there before, with other tags."""
    directory, held_out = tmp_path / "classifier", split.select([0, 1, 2, 3])
    first = classifier_training.train(directory, split, held_out, CONFIG, RANDOM)
    assert classifier_training.train(directory, split, held_out, CONFIG, RANDOM) == first
    other = split.select([4, 5, 6, 7])
    second = classifier_training.train(directory, split, other, CONFIG, RANDOM)
    trained = classifier.load(directory)
    logits = classifier_training.predictor(trained.model, trained.normalization, CONFIG.input_size)(other)
    mean, _ = metrics.mean_average_precision(np.stack([other[i]["tags"] for i in range(4)]), logits)
    assert second["metrics"]["map"] == pytest.approx(mean) and second["held_out_fingerprint"] == other.fingerprint
    assert second["metrics"]["ap_per_class"] != first["metrics"]["ap_per_class"]
    for facts in (first, second):
        for key in ("held_out_fingerprint", "metrics"):
            facts.pop(key)
    assert second == first, "the same classifier, so that its maps are valid"


def test_another_file_of_weights_is_refused(split, tmp_path):
    backbones.build("small", "all").save_weights(tmp_path / "a.weights.h5")
    options = classifier_training.Options(str(tmp_path / "a.weights.h5"))
    run = classifier_training.train(tmp_path / "classifier", split, split, CONFIG, options)
    keras.utils.set_random_seed(9)
    backbones.build("small", "all").save_weights(tmp_path / "a.weights.h5")
    with pytest.raises(UserError, match="other settings .weights_digest: "):
        classifier_training.train(tmp_path / "classifier", split, split, CONFIG, options)
    (tmp_path / "a.weights.h5").unlink()
    assert classifier_training.train(tmp_path / "classifier", split, split, CONFIG, options) == run
