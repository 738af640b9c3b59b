"""Saliency: how the network is fed and its answer read, the stage, and seeds by saliency worked out by hand."""

import base64
import dataclasses

import cv2
import numpy as np
import pytest
import tensorflow as tf

from ficklenet_tf import presets
from ficklenet_tf.data import images
from ficklenet_tf.errors import UserError
from ficklenet_tf.maps import extraction as map_extraction
from ficklenet_tf.maps.image_maps import ImageMaps
from ficklenet_tf.runs import artifacts
from ficklenet_tf.seeds import extraction, needed, refinement, saliency, salient
from ficklenet_tf.seeds.evidence import Evidence
from tests import tiny_run

PHOTOGRAPHS = tiny_run.Photographs()
# An ONNX file made by onnx 1.23: x [1, 3, 8, 8] -> y = x_red + 2 x_green - x_blue, and z = -y as a second output.
ONNX = base64.b64decode(
    "CAg6lQEKDwoBeAoBdxIBeSIEQ29udgoLCgF5EgF6IgNOZWcSAWcqGwgBCAMIAQgBEAEiDAAAgD8AAABAAACAv0IBd1obCgF4EhYKFAgBEhAKAggB"
    "CgIIAwoCCAgKAggIYhsKAXkSFgoUCAESEAoCCAEKAggBCgIICAoCCAhiGwoBehIWChQIARIQCgIIAQoCCAEKAggICgIICEIECgAQDQ==")


@pytest.fixture
def onnx_file(tmp_path):
    (tmp_path / "network.onnx").write_bytes(ONNX)
    return tmp_path / "network.onnx"


def _answer(image):
    """What the network of `ONNX` says of a photograph, stretched to 0..1."""
    y = (image / image.max() - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225] @ [1, 2, -1]
    return (y - y.min()) / (y.max() - y.min())


def test_the_network_sees_a_normalised_photograph_and_its_first_output_is_stretched(onnx_file):
    image = np.random.default_rng(1).integers(0, 200, (8, 8, 3)).astype(np.uint8)
    np.testing.assert_allclose(saliency.Network(onnx_file)(image), _answer(image), atol=1e-5)
    assert saliency.Network(onnx_file)(np.zeros((20, 30, 3), np.uint8)).shape == (20, 30)


def test_a_network_of_open_sides_sees_320_pixels(tmp_path):
    """As U2-Net was trained: a photograph of that size is not resized, one of another size is."""
    (tmp_path / "open.onnx").write_bytes(ONNX.replace(b"\x0a\x02\x08\x08", b"\x0a\x02\x12\x00"))  # no numbers
    network = saliency.Network(tmp_path / "open.onnx")
    image = np.random.default_rng(2).integers(0, 200, (320, 320, 3)).astype(np.uint8)
    np.testing.assert_allclose(network(image), _answer(image), atol=1e-5)


def test_maps_of_other_photographs_of_the_same_names_are_refused(onnx_file, tmp_path):
    class Other(tiny_run.Photographs):
        fingerprint = "other"
        replaced = ()

        def __getitem__(self, index):
            png = tf.io.encode_png(tiny_run.photograph(40 + 8 * index, 48, index + 9)).numpy()
            return {**super().__getitem__(index), **({"image": png} if index in self.replaced else {})}

    saliency.make(tmp_path, PHOTOGRAPHS, onnx_file)
    other, directory = Other(), tmp_path / "saliency"
    needed.check_saliency(directory, other)  # other tags alone
    other.replaced = (1, 2)
    with pytest.raises(UserError, match="of the 3 photographs, 2 are of others of the same name, the first b.png; "
                                        "make them again by tools.make_saliency --restart=saliency"):
        needed.check_saliency(directory, other)
    (directory / "photographs.json").unlink()  # as of an earlier version
    needed.check_saliency(directory, other)


def test_the_stage_writes_maps_once_and_seeds_find_them(onnx_file, tmp_path):
    run = saliency.make(tmp_path, PHOTOGRAPHS, onnx_file)
    assert run["images"] == 3 and saliency.make(tmp_path, PHOTOGRAPHS, onnx_file) == run
    photograph = tiny_run.photograph(40, 48, 0)
    np.testing.assert_allclose(saliency.read(tmp_path / "saliency", "a", (40, 48)),
                               saliency.Network(onnx_file)(photograph), atol=0.5 / 255)
    config = presets.SeedsConfig(background_cue="saliency")
    assert needed.saliency_of(tmp_path, config, None) == tmp_path / "saliency"
    plain = presets.SeedsConfig(refine="crf", background_cue="saliency")  # which asks for no cue
    assert needed.saliency_of(tmp_path, plain, None) is None
    assert needed.saliency_of(tmp_path, config, "elsewhere") == "elsewhere"
    other = onnx_file.with_name("other.onnx")
    other.write_bytes(ONNX + b"\x72\x00")  # the same network in other bytes
    with pytest.raises(UserError, match="model:"):
        saliency.make(tmp_path, PHOTOGRAPHS, other)
    assert saliency.make(tmp_path, PHOTOGRAPHS, tmp_path / "gone.onnx") == run  # all is done: nobody asks for it


def test_shards_write_what_one_call_writes(onnx_file, tmp_path):
    saliency.make(tmp_path, PHOTOGRAPHS, onnx_file)
    for index in range(2):
        saliency.make(tmp_path, PHOTOGRAPHS, onnx_file, name="parts", shard=(index, 2))
    assert not artifacts.read_run(tmp_path / "parts") and saliency.make(tmp_path, PHOTOGRAPHS, onnx_file, name="parts")
    for image_id in "abc":
        paths = [tmp_path / name / f"{image_id}.png" for name in ("saliency", "parts")]
        assert paths[0].read_bytes() == paths[1].read_bytes()


def test_squares_where_the_maps_point_by_hand():
    """40 x 80 pixels. 8 x 6 from (10, 20): half of 1.5 x 8 around its centre (14, 23); from 0.25 x 40 on, not less."""
    mean = np.zeros((40, 80, 3), np.float32)
    mean[10:18, 20:26, 0], mean[14, 70, 0] = 0.5, 0.5  # a single pixel is less than 0.005 of the photograph
    mean[..., 1] = 0.19  # below a fifth
    mean[30:34, 74:80, 1] = 1.0
    mean[:, 10:60, 2] = 0.2  # its square is the whole photograph
    assert saliency.squares(mean) == [(slice(8, 20), slice(17, 29)), (slice(27, 37), slice(72, 80))]
    odd = np.zeros((40, 80, 1), np.float32)
    odd[12:19, 20:27] = 1.0  # centre (15.5, 23.5), half of 1.5 x 7: from 10.25 to 20.75 and 18.25 to 28.75
    assert saliency.squares(odd) == [(slice(10, 20), slice(18, 28))]
    everywhere = np.ones((40, 80, 1), np.float32)
    everywhere[4:12, 4:12] = 0.0  # what a map leaves out is no region
    assert saliency.squares(everywhere) == []
    assert saliency.squares(np.zeros((40, 80, 2), np.float32)) == saliency.squares(np.zeros((9, 9, 0))) == []


def test_a_closer_look_keeps_the_greater_answer():
    image = np.arange(40 * 80 * 3, dtype=np.uint32).reshape(40, 80, 3).astype(np.uint8)
    mean = np.zeros((40, 80, 1), np.float32)
    mean[10:18, 20:26] = 1.0
    first = np.full((40, 80), 0.5, np.float32)
    first[9] = 0.9

    def network(part):
        assert (part == image[8:20, 17:29]).all()
        return np.full(part.shape[:2], 0.7, np.float32)

    expected = first.copy()
    expected[8:20, 17:29] = 0.7
    expected[9] = 0.9
    np.testing.assert_array_equal(saliency.closer(network, image, first, mean), expected)
    assert first[8, 17] == 0.5  # what was given is left alone


def test_the_stage_of_closer_looks(onnx_file, tmp_path):
    root = tiny_run.make_classifier(tmp_path)
    config = presets.MapsConfig(num_maps=10, sizes=(33,))
    map_extraction.extract(root, PHOTOGRAPHS, config)
    with pytest.raises(FileNotFoundError, match="saliency/run.json: .*tools.make_saliency"):
        saliency.make_closer(root, PHOTOGRAPHS, onnx_file)
    first = saliency.make(root, PHOTOGRAPHS, onnx_file)
    run = saliency.make_closer(root, PHOTOGRAPHS, onnx_file)
    assert run["model"] == first["model"] and run["maps"] == artifacts.read_run(root / "maps")["finished"]
    whole, close = (saliency.read(root / name, "b", (48, 48)) for name in ("saliency", "saliency_closer"))
    squares = saliency.squares(images.resize_maps(ImageMaps.read(root / "maps" / "b.npz").mean, (48, 48)))
    outside = np.ones((48, 48), bool)
    for square in squares:
        outside[square] = False
    assert squares and (close[outside] == whole[outside]).all() and (close > whole).any() and (close >= whole).all()
    assert needed.saliency_identity(root / "saliency") != needed.saliency_identity(root / "saliency_closer")
    other = onnx_file.with_name("other.onnx")
    other.write_bytes(ONNX + b"\x72\x00")
    with pytest.raises(UserError, match="expected maps of the network .*other.onnx, found those of another"):
        saliency.make_closer(root, PHOTOGRAPHS, other, name="refused")
    artifacts.write_run(root / "saliency", **{**first, "fingerprint": "of others"})
    with pytest.raises(UserError, match="saliency: .*found those of other images"):
        saliency.make_closer(root, PHOTOGRAPHS, onnx_file, name="refused")


def test_what_is_no_network_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="x.onnx: expected the ONNX file .*make saliency"):
        saliency.Network(tmp_path / "x.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    with pytest.raises(UserError, match="bad.onnx: expected an ONNX file"):
        saliency.Network(tmp_path / "bad.onnx")


def _evidence(tmp_path, mean, saliency_map, config=None, tag_ids=(2, 4)):
    mean = np.asarray(mean, np.float32)
    shape = np.shape(saliency_map)
    images.write_grey(tmp_path / "a.png", np.asarray(saliency_map))
    maps = ImageMaps(np.array(tag_ids[:mean.shape[-1]]), mean, mean, mean, mean[None], 1, shape, None)
    return Evidence("a", np.zeros((*shape, 3), np.uint8), maps, config or presets.SeedsConfig(), tmp_path)


def test_a_salient_pixel_takes_the_strongest_class_and_without_one_the_nearest(tmp_path):
    """Four columns, maps at the photograph's size: class 3 left, class 5 in the third, nothing in the last."""
    mean = np.zeros((4, 4, 2))
    mean[:, 0, 0], mean[:, 1] = 0.5, (0.3, 0.2)
    mean[:, 2, 1] = 0.01
    salient_map = np.ones((4, 4))
    salient_map[0] = 0.05
    label = salient.strongest(_evidence(tmp_path, mean, salient_map))
    assert label.tolist() == [[255, 255, 0, 0]] + [[3, 3, 5, 5]] * 3
    disputed = presets.SeedsConfig(disputed=0.3)
    assert salient.strongest(_evidence(tmp_path, mean, salient_map, disputed))[0].tolist() == [255, 255, 0, 0]
    config = presets.SeedsConfig(saliency_threshold=0.01)
    assert (salient.strongest(_evidence(tmp_path, mean, salient_map, config)) == [3, 3, 5, 5]).all()


def test_the_harmonic_mean_of_map_and_saliency(tmp_path):
    """2 a s / (a + s): of 1 and 1/4 0.4, of 0.5 and 0.25 1/3; maps are divided by their maxima first."""
    mean = np.array([[[0.2], [0.1], [0.2], [0.0]]])
    saliency_map = np.array([[1, 1, 63 / 255, 1]])
    config = dataclasses.replace(presets.SeedsConfig(), harmonic_threshold=0.39)
    assert salient.harmonic(_evidence(tmp_path, mean, saliency_map, config)).tolist() == [[3, 3, 3, 0]]
    config = dataclasses.replace(config, harmonic_threshold=0.41)
    assert salient.harmonic(_evidence(tmp_path, mean, saliency_map, config)).tolist() == [[3, 3, 0, 0]]


def test_the_harmonic_rule_is_that_of_the_authors_code(tmp_path):
    """Pixel by pixel as arslan-chaudhry/dcsp_segmentation labels them: background first, then the greatest class."""
    rng = np.random.default_rng(7)
    mean, saliency_map = rng.random((6, 8, 2)) ** 2, rng.integers(0, 256, (6, 8)) / 255
    mean[0, :2] = np.eye(2)  # each map reaches 1: nothing is to be divided
    expected = np.zeros((6, 8), int)
    for p in np.ndindex(6, 8):
        means = [2 / (1 / (value + 1e-12) + 1 / (saliency_map[p] + 1e-12)) for value in mean[p]]
        expected[p] = 0 if max(means) < 0.4 else (3, 5)[int(np.argmax(means))]
    label = salient.harmonic(_evidence(tmp_path, mean, saliency_map))
    np.testing.assert_array_equal(label, expected)
    assert {0, 3, 5} == set(np.unique(label))


def test_each_tags_map_is_divided_by_its_own_maximum(tmp_path):
    """Of (1, 1/2) and (1/4, 1) the greater share wins, whatever the maps' own heights (0.2 and 0.8)."""
    mean = np.array([[[0.2, 0.2], [0.1, 0.8]]])
    config = dataclasses.replace(presets.SeedsConfig(), harmonic_threshold=0.4)
    assert salient.harmonic(_evidence(tmp_path, mean, np.ones((1, 2)), config)).tolist() == [[3, 5]]


def test_nearest_class_by_hand():
    label = np.full((3, 7), 255, np.uint8)
    label[1, 0], label[1, 5] = 4, 9
    expected = np.abs(np.arange(7) - 0) <= np.abs(np.arange(7) - 5)  # the middle is at 2.5
    assert (salient.nearest_class(label)[1] == np.where(expected, 4, 9)).all()
    assert (salient.nearest_class(np.full((2, 2), 255, np.uint8)) == 255).all()


@pytest.mark.parametrize("refine", refinement.NEEDS_SALIENCY)
def test_seeds_by_saliency_in_the_stage(refine, onnx_file, tmp_path):
    root = tiny_run.make_classifier(tmp_path)
    maps = presets.MapsConfig(num_maps=10, sizes=(33,))
    config = presets.SeedsConfig(refine=refine, saliency_threshold=0.5)
    with pytest.raises(UserError, match="saliency: expected a map for each image; .* tools.make_saliency"):
        extraction.extract(root, PHOTOGRAPHS, maps, config)
    saliency.make(root, PHOTOGRAPHS, onnx_file)
    made = artifacts.read_run(root / "saliency")["model"]
    assert extraction.extract(root, PHOTOGRAPHS, maps, config)["saliency"] == f"made by {made}"
    (root / "saliency" / "b.png").rename(root / "b.png")
    with pytest.raises(UserError, match="a saliency map for each of 3 images, 1 are missing, the first b.png"):
        extraction.extract(root, PHOTOGRAPHS, maps, config, name="refused")
    label = cv2.imread(str(root / "seeds" / "b.png"), cv2.IMREAD_GRAYSCALE)
    assert label.shape == (48, 48) and len(set(np.unique(label)) - {220}) == 2  # the background and the one tag

