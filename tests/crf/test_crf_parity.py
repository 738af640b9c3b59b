"""The lattice against pydensecrf, on photographs."""

import pathlib

import cv2
import numpy as np
import pytest
import tensorflow as tf

from ficklenet_tf import crf

pytest.importorskip("pydensecrf.densecrf", reason="the reference is not installed: make reference")
SPECS = (crf.SEC_TRAIN, crf.DSRG_TEST, crf.DEEPLAB_LARGEFOV, crf.DEEPLAB_V2)


def random_logits(height, width, num_classes, smooth, seed):
    random = np.random.default_rng(seed)
    coarse = random.normal(0, 2, (-(-height // 12), -(-width // 12), num_classes)).astype(np.float32)
    fine = random.normal(0, 0.1 if smooth else 1.5, (height, width, num_classes)).astype(np.float32)
    return cv2.resize(coarse, (width, height)).reshape(fine.shape) + fine


def photograph(path):
    image = cv2.imread(str(path))
    assert image is not None, path
    return image[..., ::-1]


def check(image, logits, spec):
    """Labels agree to 99.99 %, all of them below 10000 pixels; probabilities to 1e-5 in the mean."""
    probs, expected = (crf.mean_field(image[None], logits[None], spec, backend).numpy()
                       for backend in ("permutohedral", "pydensecrf"))
    num_wrong = (probs.argmax(-1) != expected.argmax(-1)).sum()
    assert np.abs(expected - tf.nn.softmax(logits)).mean() > 1e-3
    assert np.abs(probs - expected).mean() < 1e-5
    assert num_wrong <= 1e-4 * expected[..., 0].size
    return num_wrong, expected[..., 0].size


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("size", [(41, 41), (120, 97)])
@pytest.mark.parametrize("num_classes, smooth", [(2, False), (3, True), (21, False), (21, True)])
def test_parity_on_a_bundled_photograph(spec, size, num_classes, smooth):
    cbook = pytest.importorskip("matplotlib.cbook")
    with cbook.get_sample_data("grace_hopper.jpg") as file:
        image = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    image = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
    check(image, random_logits(*size, num_classes, smooth, seed=num_classes), spec)


def test_parity_on_a_voc_photograph(voc_dir):
    image = photograph(sorted((voc_dir / "VOC2012" / "JPEGImages").glob("*.jpg"))[0])
    check(image, random_logits(*image.shape[:2], 4, False, seed=0), crf.DSRG_TEST)


@pytest.mark.slow
@pytest.mark.parametrize("spec", SPECS)
def test_parity_on_ten_voc_photographs(voc_dir, spec):
    paths = sorted((voc_dir / "VOC2012" / "JPEGImages").glob("*.jpg"))
    sizes = [(41, 41), (97, 130), (321, 321), None]  # None: as it is, about 500 x 375
    num_wrong = num_pixels = 0
    for i, path in enumerate(paths[::len(paths) // 10][:10]):
        image, size = photograph(path), sizes[i % len(sizes)]
        image = image if size is None else cv2.resize(image, size[::-1])
        for num_classes, smooth in ((2, False), (21, True)) if i % 2 else ((5, True), (21, False)):
            logits = random_logits(*image.shape[:2], num_classes, smooth, seed=i)
            image_wrong, image_pixels = check(image, logits, spec)
            num_wrong, num_pixels = num_wrong + image_wrong, num_pixels + image_pixels
    print(f"{pathlib.Path(__file__).stem}: {spec}: {num_wrong} of {num_pixels} labels differ")
    assert num_wrong <= 1e-5 * num_pixels
