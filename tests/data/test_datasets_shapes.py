"""The embedded data set: it repeats, heads tell the class, bodies only hint at it, and their extent can be seen."""

import concurrent.futures

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from ficklenet_tf.data import datasets, images, labels
from ficklenet_tf.data.datasets import shapes

NUM_CLASSES = len(shapes.CLASS_NAMES)


@pytest.fixture(scope="module")
def drawn():
    """Sixty images and their labels."""
    return [shapes.draw(0, "train", i, 129) for i in range(60)]


def test_the_same_arguments_draw_the_same_image():
    image, label = shapes.draw(3, "val", 7, 65)
    again, label_again = shapes.draw(3, "val", 7, 65)
    np.testing.assert_array_equal(image, again)
    np.testing.assert_array_equal(label, label_again)
    assert image.shape == (65, 65, 3) and image.dtype == label.dtype == np.uint8
    for arguments in ((4, "val", 7, 65), (3, "train", 7, 65), (3, "val", 8, 65)):
        assert (shapes.draw(*arguments)[0] != image).mean() > 0.5


def test_one_to_three_creatures_of_six_classes(drawn):
    counts = [len(np.unique(label)) - 1 for _, label in drawn]
    assert min(counts) >= 1 and max(counts) <= 3 and len(set(counts)) == 3
    assert {i for _, label in drawn for i in np.unique(label)} == set(range(NUM_CLASSES))
    assert 0.05 < np.mean([(label > 0).mean() for _, label in drawn]) < 0.3


def test_a_head_is_a_small_part_and_lies_in_or_at_its_body():
    rng = np.random.default_rng(0)
    shares, apart = [], 0
    for i in range(60):
        _, body, head = shapes._creature(rng, i % 6 + 1, 129)
        shares.append(head.sum() / (head | body).sum())
        apart += not (head & body).any()
        assert (head | body)[1:-1, 1:-1].sum() > 0.9 * (head | body).sum()  # it lies in the image
    assert 0.05 < np.mean(shares) < 0.25 and max(shares) < 0.4
    assert apart <= 6


def _body_colours(count):
    """Mean colours of bodies without their heads, and their classes."""
    rng = np.random.default_rng(1)
    pairs = []
    for i in range(count):
        colours, body, head = shapes._creature(rng, i % 6 + 1, 129)
        pairs.append((colours[body & ~head].mean(0), i % 6))
    return np.array([colour for colour, _ in pairs]), np.array([class_index for _, class_index in pairs])


def test_a_body_says_something_of_its_class_but_not_all():
    colours, classes = _body_colours(480)
    train, held = slice(0, 360), slice(360, None)
    distance = ((colours[held, None] - colours[None, train]) ** 2).sum(-1)
    nearest = np.argsort(distance, 1)[:, :9]
    votes = np.array([np.bincount(classes[train][row], minlength=6).argmax() for row in nearest])
    accuracy = (votes == classes[held]).mean()
    assert 1.6 / 6 < accuracy < 0.75


def test_a_heads_two_colours_are_its_class():
    rng = np.random.default_rng(2)
    means = {}
    for i in range(48):
        colours, _, head = shapes._creature(rng, i % 6 + 1, 129)
        pair = {tuple(c) for c in colours[head].astype(int)}
        assert pair == {tuple(c) for c in shapes._HEAD_COLOURS[i % 6].astype(int)}
        means.setdefault(i % 6, set()).add(frozenset(pair))
    assert len({next(iter(pairs)) for pairs in means.values()}) == 6 and all(len(v) == 1 for v in means.values())


def test_creatures_are_more_colourful_than_their_background(drawn):
    def saturation(pixels):
        return (pixels.max(-1).astype(float) - pixels.min(-1)).mean()

    gaps = [saturation(image[label > 0]) - saturation(image[label == 0]) for image, label in drawn]
    assert np.quantile(gaps, 0.1) > 30


def test_load_split_holds_what_draw_draws(tmp_path):
    train = datasets.load_split("shapes", "train", cache_dir=tmp_path, max_images=4)
    val = datasets.load_split("shapes", "val", cache_dir=tmp_path)
    assert len(train) == 4 and len(val) == 120 and train.class_names == shapes.CLASS_NAMES and train.has_labels
    for i in range(4):
        image, label = shapes.draw(0, "train", i, 129)
        np.testing.assert_array_equal(images.decode_image_op(train[i]["image"]), image)
        np.testing.assert_array_equal(labels.decode_label_op(train[i]["label"]), label)
        np.testing.assert_array_equal(train[i]["tags"], labels.tags_of(label, NUM_CLASSES))
    assert not set(train.image_ids) & set(val.image_ids)
    with pytest.raises(ValueError, match="data_dir: expected none for shapes"):
        datasets.load_split("shapes", "train", data_dir="/x", cache_dir=tmp_path)


def test_a_split_can_be_read_by_many_threads_and_inside_tf_data(tmp_path):
    builder = shapes.builder(tmp_path, side=33, num_train=24, num_val=2)
    builder.download_and_prepare(file_format="array_record")
    split = datasets._open(builder, "shapes", "train", None)
    alone = [split[i]["image"] for i in range(24)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda i: split[i % 24]["image"], range(480))) == alone * 20
    data = tf.data.Dataset.range(24).map(
        lambda i: tf.numpy_function(lambda i: split[int(i)]["image"], [i], tf.string), num_parallel_calls=4)
    assert [image.numpy() for image in data] == alone


class ShapesBuilderTest(tfds.testing.DatasetBuilderTestCase):
    """TFDS' own test of a builder."""

    DATASET_CLASS = shapes.FickleShapes
    BUILDER_CONFIG_NAMES_TO_TEST = [shapes.ShapesConfig(name="few", side=33, num_train=3, num_val=2)]
    SPLITS = {"train": 3, "val": 2}
    EXAMPLE_DIR = "."
