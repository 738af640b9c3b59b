"""Order and augmentation: what a step sees, and what a resumed run sees."""


import numpy as np
import pytest
import tensorflow as tf

from ficklenet_tf.data import datasets, images, indexed_dataset, input_pipeline, labels
from tools import start


@pytest.fixture(scope="module")
def split(drawings_dir):
    return datasets.load_split("shapes", "train", cache_dir=drawings_dir, max_images=7)


def test_every_epoch_is_a_permutation():
    indices = [input_pipeline.index_at(position, 5, 1) for position in range(15)]
    for epoch in range(3):
        assert sorted(indices[5 * epoch:5 * epoch + 5]) == [0, 1, 2, 3, 4]
    assert indices[:5] != indices[5:10] or indices[5:10] != indices[10:]
    assert [input_pipeline.index_at(position, 5, 2) for position in range(15)] != indices


def test_what_reading_raises_keeps_its_text():
    def read(index):
        if index == 2:
            raise FileNotFoundError("expected a photograph, found none")
        return {"index": np.int64(index)}

    data = indexed_dataset.dataset(range(1, 9), read, {"index": tf.TensorSpec([], tf.int64)})
    assert [int(element["index"]) for element in data.take(1)] == [1]
    with pytest.raises(tf.errors.OpError, match="expected a photograph, found none") as caught:
        list(data)
    assert start._text(caught.value) == "expected a photograph, found none"  # a binary's one line


def _batches(split, start, count, photometric=0.0, **options):
    reader = input_pipeline.ExampleReader(split, 4, 33, **options)
    data = input_pipeline.training_batches(reader, batch_size=3, start_step=start)
    data = data.map(lambda batch: input_pipeline.prepared(batch, images.TORCH, photometric))
    return [{k: v.numpy() for k, v in batch.items()} for batch in data.take(count)]


@pytest.mark.parametrize("options", [dict(photometric=0.2), dict(label_size=5), dict(crop=(0.5, 1.5), label_size=9)])
def test_a_batch_is_a_function_of_seed_and_step(split, options):
    whole, late = _batches(split, 0, 5, **options), _batches(split, 3, 2, **options)
    for expected, batch in zip(whole[3:], late, strict=True):
        assert batch.keys() == expected.keys()
        for name in batch:
            np.testing.assert_array_equal(batch[name], expected[name], err_msg=name)
    assert (whole[0]["rng_seeds"] != whole[1]["rng_seeds"]).any()
    # Of the sixth example, which is the third of step 1.
    example_seed = tf.random.fold_in(tf.constant([4, 0x5EED], tf.int64), 5)
    np.testing.assert_array_equal(whole[1]["rng_seeds"][2], tf.cast(example_seed, tf.int32))


def test_the_parts_of_all_replicas_make_the_batch(split):
    def parts(**context):
        reader = input_pipeline.ExampleReader(split, 4, 33)
        data = input_pipeline.training_batches(reader, batch_size=4, start_step=1,
                                               context=tf.distribute.InputContext(**context))
        return [batch["image"].numpy() for batch in data.take(4)]

    whole = np.concatenate(parts()[:2])
    worker_0, worker_1 = (parts(num_input_pipelines=2, input_pipeline_id=i, num_replicas_in_sync=4) for i in range(2))
    np.testing.assert_array_equal(whole, np.concatenate([*worker_0[:2], *worker_1[:2], *worker_0[2:], *worker_1[2:]]))


def test_nothing_is_left_to_a_tuner_whose_end_a_training_would_wait_for(split):
    """Of one training's batches, and of weak and strong ones side by side."""
    batches = input_pipeline.training_batches(input_pipeline.ExampleReader(split, 4, 33), batch_size=2, start_step=0)
    for data in batches, tf.data.Dataset.zip((batches, batches)):
        assert data.options().autotune.enabled is False


def test_image_and_label_are_mirrored_together(split):
    """The label of a mirrored image is the mirrored label: both cases occur, and each is one of the two."""
    seen = set()
    still = _batches(split, 0, 7, label_size=33, flips=False)
    moving = _batches(split, 0, 7, label_size=33, flips=True)
    for plain, flipping in zip(still, moving, strict=True):
        for k in range(3):
            mirrored = np.array_equal(flipping["image"][k], plain["image"][k][:, ::-1])
            assert mirrored or np.array_equal(flipping["image"][k], plain["image"][k])
            expected = plain["label"][k][:, ::-1] if mirrored else plain["label"][k]
            np.testing.assert_array_equal(flipping["label"][k], expected)
            small = plain["small_image"][k][:, ::-1] if mirrored else plain["small_image"][k]
            np.testing.assert_array_equal(flipping["small_image"][k], small)
            seen.add(mirrored)
    assert seen == {True, False}


def test_without_labels_the_small_images_are_the_same(split):
    for options in (dict(label_size=9), dict(label_size=9, crop=(0.5, 1.5))):
        [whole], [plain] = _batches(split, 0, 1, **options), _batches(split, 0, 1, labelled=False, **options)
        assert whole.keys() - plain.keys() == {"label"}
        for name, value in plain.items():
            np.testing.assert_array_equal(value, whole[name], err_msg=name)


def test_saliency_is_mirrored_with_the_photograph(split, tmp_path):
    """Each map is white on the left: on the right in those batches whose photographs are mirrored; means of areas."""
    for image_id in split.image_ids:
        height, width = images.decode_image(split[split.image_ids.index(image_id)]["image"]).shape[:2]
        grey = np.zeros((height, width))
        grey[:, :width // 2], grey[0] = 1, 0
        images.write_grey(tmp_path / f"{image_id}.png", grey)
    options = dict(saliency_dir=tmp_path, saliency_size=4)
    still, seen = _batches(split, 0, 4, flips=False, **options), set()
    for plain, moving in zip(still, _batches(split, 0, 4, flips=True, **options), strict=True):
        assert "label" not in plain and plain["saliency"].dtype == np.float32
        for k in range(3):
            mirrored = not np.array_equal(moving["image"][k], plain["image"][k])
            np.testing.assert_allclose(plain["saliency"][k][1:], [[1, 1, 0, 0]] * 3, atol=0.05)
            assert 0.5 < plain["saliency"][k][0, 0] < 1  # its first row of pixels is black
            np.testing.assert_array_equal(moving["saliency"][k], plain["saliency"][k][:, ::-1 if mirrored else 1])
            seen.add(mirrored)
    assert seen == {True, False}
    with pytest.raises(ValueError, match="random_crop: expected none where saliency maps are learned"):
        _batches(split, 0, 1, crop=(0.5, 1.5), **options)


def test_the_labels_of_images_that_may_not_be_seen_are_unknown(split):
    masked = {split.image_ids[2], split.image_ids[4]}
    every, some = (_batches(split, 0, 3, label_size=33, masked=ids) for ids in (None, masked))
    seen = [(a["label"][k], b["label"][k]) for a, b in zip(every, some, strict=True) for k in range(3)]
    known = [np.array_equal(*pair) for pair in seen]
    assert sum(known[:7]) == 2 and all(known[i] or (seen[i][1] == labels.IGNORE).all() for i in range(7))


def test_missing_seed_images_are_named(split, tmp_path):
    with pytest.raises(ValueError, match="7 are missing"):
        _batches(split, 0, 1, label_size=5, seeds_dir=tmp_path)
