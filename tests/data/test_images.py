"""Photographs: every mode and size is read, broken files are named, image and labels move together."""

import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import ExifTags, Image

from ficklenet_tf.data import images, labels
from ficklenet_tf.data.inspection import photographs

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (20, 30, 3), np.uint8)
SMOOTH = np.linspace(0, 255, 20 * 30 * 3).reshape(20, 30, 3).astype(np.uint8)


def _save(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.mark.parametrize("name", ["rgb.png", "rgb.bmp", "rgb.tif", "rgb.webp"])
def test_lossless_formats_keep_every_pixel(tmp_path, name):
    path = _save(tmp_path / name, PIXELS, **({"lossless": True} if name.endswith("webp") else {}))
    np.testing.assert_array_equal(images.read_image(path), PIXELS)
    data, size = images.canonical_bytes(path)
    assert size == (20, 30)
    np.testing.assert_array_equal(images.decode_image_op(data), PIXELS)
    assert (data == path.read_bytes()) == name.endswith("png")


def test_grey_jpeg_and_png_are_kept_and_become_rgb(tmp_path):
    for path in (_save(tmp_path / "a.png", PIXELS[..., 0]), _save(tmp_path / "a.jpg", SMOOTH[..., 0])):
        data, size = images.canonical_bytes(path)
        assert data == path.read_bytes() and size == (20, 30)
        decoded = images.decode_image_op(data).numpy()
        assert decoded.shape == (20, 30, 3)
        np.testing.assert_allclose(decoded.astype(int), images.read_image(path), atol=1)  # two builds of libjpeg
    np.testing.assert_array_equal(images.read_image(tmp_path / "a.png"), np.stack([PIXELS[..., 0]] * 3, -1))


def test_16_bit_grey_keeps_its_higher_bits(tmp_path):
    deep = RNG.integers(0, 2**16, (20, 30), np.uint16)
    deep[0, :2] = 0, 65535
    path = _save(tmp_path / "deep.png", deep)
    expected = np.stack([(deep >> 8).astype(np.uint8)] * 3, -1)
    np.testing.assert_array_equal(images.read_image(path), expected)
    np.testing.assert_array_equal(images.decode_image_op(images.canonical_bytes(path)[0]), expected)


def test_16_bit_pgm_keeps_its_higher_bits(tmp_path):
    """Pillow holds its numbers in 32 bits."""
    deep = RNG.integers(0, 2**16, (20, 30), np.uint16)
    (tmp_path / "d.pgm").write_bytes(b"P5\n30 20\n65535\n" + deep.astype(">u2").tobytes())
    expected = np.repeat((deep // 256).astype(np.uint8)[..., None], 3, -1)
    np.testing.assert_array_equal(images.read_image(tmp_path / "d.pgm"), expected)
    np.testing.assert_array_equal(images.decode_image(images.canonical_bytes(tmp_path / "d.pgm")[0]), expected)


def test_alpha_is_dropped_and_palettes_become_colours(tmp_path):
    rgba = np.concatenate([PIXELS, RNG.integers(0, 256, (20, 30, 1), np.uint8)], -1)
    path = _save(tmp_path / "rgba.png", rgba)
    np.testing.assert_array_equal(images.read_image(path), PIXELS)
    np.testing.assert_array_equal(images.decode_image_op(images.canonical_bytes(path)[0]), PIXELS)
    palette = Image.fromarray(PIXELS).quantize(16)
    palette.save(tmp_path / "p.png")
    expected = np.asarray(palette.convert("RGB"))
    np.testing.assert_array_equal(images.decode_image_op(images.canonical_bytes(tmp_path / "p.png")[0]), expected)


def test_cmyk_jpeg_becomes_rgb(tmp_path):
    red = Image.new("CMYK", (30, 20), (0, 255, 255, 0))
    red.save(tmp_path / "a.jpg", quality=100)
    pixels = images.read_image(tmp_path / "a.jpg")
    assert pixels.shape == (20, 30, 3)
    np.testing.assert_allclose(pixels.reshape(-1, 3).mean(0), [255, 0, 0], atol=3)
    data, _ = images.canonical_bytes(tmp_path / "a.jpg")
    assert data[1:4] == b"PNG"  # not left to TensorFlow's own conversion
    np.testing.assert_array_equal(images.decode_image_op(data), pixels)


@pytest.mark.parametrize("orientation, turn", [(3, lambda x: x[::-1, ::-1]), (6, lambda x: np.rot90(x, -1)),
                                               (8, lambda x: np.rot90(x))])
def test_exif_orientation_is_applied(tmp_path, orientation, turn):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = tmp_path / "a.jpg"
    Image.fromarray(SMOOTH).save(path, quality=95, exif=exif)
    lying = np.asarray(Image.open(path))
    expected = turn(lying)
    np.testing.assert_array_equal(images.read_image(path), expected)
    data, size = images.canonical_bytes(path)
    assert size == expected.shape[:2]
    np.testing.assert_array_equal(images.decode_image_op(data), expected)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK", "P", "I;16"])
@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_tiff_that_lies_on_its_side_keeps_its_pixels(tmp_path, mode, orientation):
    """Pillow maps an uncompressed one into memory, rows of the turned width, where it is given a path."""
    pixels = np.arange(30 * 20, dtype=np.uint16).reshape(30, 20)
    image = Image.fromarray(pixels * 100) if mode == "I;16" else Image.fromarray(pixels.astype(np.uint8)).convert(mode)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    image.save(tmp_path / "a.tif", exif=exif)
    image.save(tmp_path / "upright.tif")
    turn = {3: lambda x: x[::-1, ::-1], 6: lambda x: np.rot90(x, -1), 8: np.rot90}[orientation]
    expected = turn(images.read_image(tmp_path / "upright.tif"))
    np.testing.assert_array_equal(images.read_image(tmp_path / "a.tif"), expected)
    assert photographs.read_photograph(tmp_path / "a.tif").size == expected.shape[1::-1]


def test_upright_jpeg_is_kept_byte_by_byte(tmp_path):
    path = _save(tmp_path / "a.jpg", SMOOTH, quality=90)
    data, size = images.canonical_bytes(path)
    assert data == path.read_bytes() and size == (20, 30)
    difference = images.decode_image_op(data).numpy().astype(int) - images.read_image(path)
    assert np.abs(difference).max() <= 3  # two builds of libjpeg


@pytest.mark.parametrize("shape", [(1, 1), (10, 8000), (8000, 10)])
@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_odd_sizes_work(tmp_path, shape, ending):
    path = _save(tmp_path / f"a.{ending}", np.full((*shape, 3), 90, np.uint8))
    data, size = images.canonical_bytes(path)
    assert size == shape
    assert images.read_image(path).shape == (*shape, 3)
    assert (np.abs(images.decode_image_op(data).numpy().astype(int) - 90) <= 1).all()


def _broken(keep, **options):
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, **options)
    data = buffer.getvalue()
    return data[:int(len(data) * keep)]


@pytest.mark.parametrize("read", [images.read_image, images.canonical_bytes])
@pytest.mark.parametrize("data", [
    b"", b"\xff\xd8\xff", b"no image at all", _broken(0.5, format="JPEG"), _broken(0.9, format="JPEG"),
    _broken(0.6, format="JPEG", progressive=True), _broken(0.5, format="PNG"), _broken(0.05, format="PNG")])
def test_broken_files_are_named(tmp_path, read, data):
    path = tmp_path / "broken.jpg"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"broken\.jpg: expected a .*, found a file of {len(data)} bytes: ."):
        read(path)


@pytest.mark.parametrize("read", [images.read_image, images.canonical_bytes])
def test_absent_directories_bombs_and_deep_images_are_named(tmp_path, read, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"none\.jpg: expected a photograph, found no such file"):
        read(tmp_path / "none.jpg")
    with pytest.raises(ValueError, match="expected a photograph"):
        read(tmp_path)
    _save(tmp_path / "f.tif", np.full((2, 2), 0.5, np.float32))
    with pytest.raises(ValueError, match=r"f\.tif: .*expected 8 or 16 bits a channel, found mode F"):
        read(tmp_path / "f.tif")
    _save(tmp_path / "a.png", PIXELS)
    monkeypatch.setattr(labels, "MAX_PIXELS", 599)
    with pytest.raises(ValueError, match=r"a\.png: expected at most 599 pixels, found 30 x 20"):
        read(tmp_path / "a.png")


def test_normalize_by_hand():
    pixel = np.float32([[[10, 20, 30]]])
    np.testing.assert_allclose(images.normalize(pixel, images.CAFFE)[0, 0],
                               [30 - 103.939, 20 - 116.779, 10 - 123.68], rtol=1e-6)
    np.testing.assert_allclose(images.normalize(pixel, images.TORCH)[0, 0],
                               [(10 / 255 - 0.485) / 0.229, (20 / 255 - 0.456) / 0.224, (30 / 255 - 0.406) / 0.225],
                               rtol=1e-5)


def test_outside_a_graph_photographs_and_labels_come_out_alike(tmp_path):
    """Decoding and warping by OpenCV give TensorFlow's pixels up to the rounding of a JPEG and of the result."""
    photo = np.kron(RNG.integers(0, 256, (5, 6, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
    for ending, tolerance in (("png", 0), ("jpg", 3)):
        data = _save(tmp_path / f"a.{ending}", photo).read_bytes()
        theirs, ours = images.decode_image_op(data).numpy().astype(int), images.decode_image(data)
        assert ours.dtype == np.uint8 and np.abs(ours - theirs).max() <= tolerance
        for size in (17, 64):
            assert np.abs(images.warp_pixels(ours, size) - images.warp(ours, size).numpy()).max() <= 1
    label = RNG.integers(0, 256, (29, 43), np.uint8)
    for size in (7, 29, 64):
        np.testing.assert_array_equal(images.nearest(label, (size, size)), images.warp_label(tf.constant(label), size))
    with pytest.raises(ValueError, match="expected an encoded image, found 4 bytes"):
        images.decode_image(b"none")


def test_warp_label_takes_the_nearest_and_makes_no_new_ids():
    label = np.uint8([[0, 7], [255, 3]])
    np.testing.assert_array_equal(images.warp_label(tf.constant(label), 4), np.kron(label, np.ones((2, 2), np.uint8)))


def test_any_number_of_maps_is_resized():
    maps = np.random.default_rng(0).random((3, 4, 300), np.float32)
    resized = images.resize_maps(maps, (7, 9))
    for start in (0, 127, 128, 299):
        alone = images.resize_maps(maps[..., start:start + 1], (7, 9))
        np.testing.assert_allclose(resized[..., start], alone[..., 0], rtol=1e-5)


@pytest.mark.parametrize("tag, kind, value", [(531, 1, b"\x01\0\0\0"), (296, 4, struct.pack("<I", 70000))])
def test_a_photograph_is_turned_whatever_else_its_exif_data_holds(tmp_path, tag, kind, value):
    """Pillow reads a tag of an unusual type, and fails to write it."""
    path = tmp_path / "a.jpg"
    Image.fromarray(SMOOTH).save(path, quality=95)
    expected = np.rot90(images.read_image(path), -1)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHIHHHHI4sI", 2, 274, 3, 1, 6, 0, tag, kind, 1, value, 0)
    data = path.read_bytes()
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:])
    np.testing.assert_array_equal(images.read_image(path), expected)
    np.testing.assert_array_equal(images.decode_image(images.canonical_bytes(path)[0]), expected)


def test_exif_data_that_cannot_be_read_is_none(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(SMOOTH).save(path, exif=b"Exif\0\0nothing of this kind")
    np.testing.assert_array_equal(images.read_image(path), SMOOTH)
