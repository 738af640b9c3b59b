"""Label images: the palette and its inverse, round trips, and what is refused."""

import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from ficklenet_tf.data import labels
from ficklenet_tf.errors import UserError

EVERY_ID = np.arange(256, dtype=np.uint8).reshape(8, 32)


def test_palette_is_vocs():
    colours = labels.palette()
    colour_of = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 7: (128, 128, 128), 8: (64, 0, 0),
                 15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}
    for label, colour in colour_of.items():
        assert tuple(colours[label]) == colour
    assert len(np.unique(colours, axis=0)) == 256


def test_shares_are_of_all_pixels_largest_first_without_background_and_255():
    label = np.full((10, 100), 255, np.uint8)
    label[0, :30], label[1, :], label[2, :2] = 1, 3, 2
    shares = labels.shares(label, ["background", "cat", "dog", "cow", "horse"])
    assert list(shares.items()) == [("cow", 0.1), ("cat", 0.03), ("dog", 0.002)]
    assert labels.in_words(shares) == "cow 10 %, cat 3 %, dog < 1 %"
    assert labels.in_words(labels.shares(np.zeros((2, 3), int), ["background", "cat"])) == "no object"


def test_palette_inverts_every_id_eagerly_in_a_graph_and_in_tf_data():
    colours = labels.palette()[EVERY_ID]
    np.testing.assert_array_equal(labels.labels_from_colours(colours), EVERY_ID)
    graph = tf.function(labels.labels_from_colours)
    np.testing.assert_array_equal(graph(tf.constant(colours)), EVERY_ID)
    data = tf.data.Dataset.from_tensors(colours).map(labels.labels_from_colours)
    np.testing.assert_array_equal(next(iter(data)), EVERY_ID)


def test_encoded_labels_decode_to_every_id():
    png = labels.encode_label(EVERY_ID)
    np.testing.assert_array_equal(labels.decode_label_op(png), EVERY_ID)
    np.testing.assert_array_equal(next(iter(tf.data.Dataset.from_tensors(png).map(labels.decode_label_op))), EVERY_ID)


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_read_label_takes_palette_grey_and_colours(tmp_path, mode):
    path = tmp_path / "a.png"
    if mode == "P":
        labels.write_label(path, EVERY_ID)
    else:
        Image.fromarray(EVERY_ID if mode == "L" else labels.palette()[EVERY_ID]).save(path)
    np.testing.assert_array_equal(labels.read_label(path), EVERY_ID)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]  # no temporary file stays


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("mode", ["L", "P"])
def test_ids_of_few_bits_are_ids(tmp_path, depth, mode):
    """Pillow spreads grey samples of two and four bits over 0..255."""
    ids = np.arange(2**depth, dtype=np.uint8).reshape(2, -1)
    rows = np.packbits(np.unpackbits(ids[..., None], -1)[..., 8 - depth:].reshape(2, -1), -1)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    header = struct.pack(">IIBBBBB", ids.shape[1], 2, depth, {"L": 0, "P": 3}[mode], 0, 0, 0)
    chunks = [(b"IHDR", header), *([(b"PLTE", bytes(range(256)) * 3)] if mode == "P" else []), (b"IDAT", data),
              (b"IEND", b"")]
    chunks = [(name, content[:3 * 2**depth] if name == b"PLTE" else content) for name, content in chunks]
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks))
    np.testing.assert_array_equal(labels.read_label(tmp_path / "a.png"), ids)
    np.testing.assert_array_equal(labels.decode_label((tmp_path / "a.png").read_bytes()), ids)


def test_read_label_refuses_ids_without_a_class(tmp_path):
    path = tmp_path / "a.png"
    labels.write_label(path, [[0, 3, 255], [1, 4, 200]])
    labels_read = labels.read_label(path, num_classes=201)
    assert labels_read[1, 2] == 200
    with pytest.raises(ValueError, match=r"a\.png: expected ids 0\.\.3 or 255, found \[4, 200\]"):
        labels.read_label(path, num_classes=4)


def test_read_label_refuses_what_is_not_labels(tmp_path):
    path = tmp_path / "a.png"
    with pytest.raises(FileNotFoundError, match="a.png"):
        labels.read_label(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.png: expected a label image"):
        labels.read_label(path)
    Image.fromarray(np.full((2, 2, 3), 77, np.uint8)).save(path)
    with pytest.raises(ValueError, match=r"a\.png: expected .* found other colours"):
        labels.read_label(path)
    Image.fromarray(np.full((2, 2), 1000, np.uint16)).save(path)
    with pytest.raises(ValueError, match=r"a\.png: expected 8-bit labels, found an image of mode I;16"):
        labels.read_label(path)


def test_tags_of_leave_background_and_ignored_out():
    np.testing.assert_array_equal(labels.tags_of(np.uint8([[0, 255], [3, 3]]), 5), [0, 0, 1, 0])


def _with_palette(path, label, colours):
    image = Image.fromarray(np.asarray(label, np.uint8), mode="P")
    image.putpalette([value for colour in colours for value in colour])
    image.save(path)
    return path


def test_a_palette_with_vocs_colours_at_other_numbers_is_refused(tmp_path):
    """As programs write it that number the colours as they come: number 1 in the colour of id 2."""
    black, red, green, own = (0, 0, 0), (128, 0, 0), (0, 128, 0), (10, 20, 30)
    label = [[0, 1, 1], [0, 0, 2]]
    for colours, wrong in (((black, green, red), (1, 2)), ((green, black, red), (0, 2))):
        with pytest.raises(UserError, match=f"a.png: .* number {wrong[0]} has VOC's colour of id {wrong[1]}; save"):
            labels.read_label(_with_palette(tmp_path / "a.png", label, colours))
    for colours in ((black, red, green), (black, green, own)):  # VOC's order; colours of one's own say nothing
        np.testing.assert_array_equal(labels.read_label(_with_palette(tmp_path / "a.png", label, colours)), label)
    ignored = [[0, 1, 255]]  # above the palette's end, which is black for Pillow
    short = _with_palette(tmp_path / "a.png", ignored, (black, red, *[own] * 18))
    np.testing.assert_array_equal(labels.read_label(short), ignored)
    unused = [[0, 1, 0]]  # number 2 is in no pixel
    np.testing.assert_array_equal(labels.read_label(_with_palette(tmp_path / "a.png", unused, (black, red, red))),
                                  unused)
