"""Order and augmentation: what a step sees, and what a resumed run sees."""


import numpy as np
import pytest
import tensorflow as tf

from ficklenet_tf.data import datasets, images, indexed_dataset, input_pipeline
from tools import cli


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return datasets.load_split("shapes", "train", cache_dir=tmp_path_factory.mktemp("data"), max_images=7)


def test_every_epoch_is_a_permutation():
    first = [input_pipeline.index_at(position, 5, 1) for position in range(15)]
    for epoch in range(3):
        assert sorted(first[5 * epoch:5 * epoch + 5]) == [0, 1, 2, 3, 4]
    assert first[:5] != first[5:10] or first[5:10] != first[10:]
    assert [input_pipeline.index_at(position, 5, 2) for position in range(15)] != first


def test_what_reading_raises_keeps_its_text():
    def read(index):
        if index == 2:
            raise FileNotFoundError("expected a photograph, found none")
        return {"index": np.int64(index)}

    data = indexed_dataset.dataset(range(1, 9), read, {"index": tf.TensorSpec([], tf.int64)})
    assert [int(one["index"]) for one in data.take(1)] == [1]
    with pytest.raises(tf.errors.OpError, match="expected a photograph, found none") as caught:
        list(data)
    assert cli._text(caught.value) == "expected a photograph, found none"  # a binary's one line


def _batches(split, start, count, photometric=0.0, **options):
    reader = input_pipeline.ExampleReader(split, 4, 33, **options)
    data = input_pipeline.training_batches(reader, batch_size=3, start_step=start)
    data = data.map(lambda batch: input_pipeline.prepared(batch, images.TORCH, photometric))
    return [{k: v.numpy() for k, v in batch.items()} for batch in data.take(count)]


@pytest.mark.parametrize("options", [dict(photometric=0.2), dict(label_size=5), dict(crop=(0.5, 1.5), label_size=9)])
def test_a_batch_is_a_function_of_seed_and_step(split, options):
    whole, late = _batches(split, 0, 5, **options), _batches(split, 3, 2, **options)
    for a, b in zip(whole[3:], late, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    assert (whole[0]["rng_seeds"] != whole[1]["rng_seeds"]).any()
    own = tf.random.fold_in(tf.constant([4, 0x5EED], tf.int64), 5)  # of the sixth example, so the third of step 1
    np.testing.assert_array_equal(whole[1]["rng_seeds"][2], tf.cast(own, tf.int32))


def test_the_parts_of_all_replicas_make_the_batch(split):
    def parts(**context):
        reader = input_pipeline.ExampleReader(split, 4, 33)
        data = input_pipeline.training_batches(reader, batch_size=4, start_step=1,
                                               context=tf.distribute.InputContext(**context))
        return [batch["image"].numpy() for batch in data.take(4)]

    whole = np.concatenate(parts()[:2])
    first, second = (parts(num_input_pipelines=2, input_pipeline_id=i, num_replicas_in_sync=4) for i in range(2))
    np.testing.assert_array_equal(whole, np.concatenate([*first[:2], *second[:2], *first[2:], *second[2:]]))


def test_image_and_label_are_mirrored_together(split):
    """The label of a mirrored image is the mirrored label: both cases occur, and each is one of the two."""
    plain = {}
    for index in range(len(split)):
        label = images.warp_label(tf.io.decode_png(split[index]["label"], 3)[..., 0], 33).numpy()
        plain[split.image_ids[index]] = label
    seen = set()
    still = _batches(split, 0, 7, label_size=33, flips=False)
    moving = _batches(split, 0, 7, label_size=33, flips=True)
    for a, b in zip(still, moving, strict=True):
        for k in range(3):
            mirrored = np.array_equal(b["image"][k], a["image"][k][:, ::-1])
            assert mirrored or np.array_equal(b["image"][k], a["image"][k])
            expected = a["label"][k][:, ::-1] if mirrored else a["label"][k]
            np.testing.assert_array_equal(b["label"][k], expected)
            seen.add(mirrored)
    assert seen == {True, False}


def test_missing_seed_images_are_named(split, tmp_path):
    with pytest.raises(ValueError, match="7 are missing"):
        _batches(split, 0, 1, label_size=5, seeds_dir=tmp_path)
