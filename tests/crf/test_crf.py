"""The dense CRF: the equations by a double loop, invariants of every backend, and the lattice by itself."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from ficklenet_tf import crf
from ficklenet_tf.crf import lattice
from ficklenet_tf.errors import UserError
from ficklenet_tf.seeds import refinement

GRAPH_BACKENDS = ("exact", "permutohedral")
SPECS = {"SEC_TRAIN": crf.SEC_TRAIN, "DSRG_TEST": crf.DSRG_TEST, "DEEPLAB_V2": crf.DEEPLAB_V2}
GENTLE = crf.CRFSpec(1.5, 3.0, 40.0, 0.7, 1.0, 3)  # leaves gradients that differences can tell


def example(batch, height, width, num_classes, seed=0, dtype=np.float32):
    """Blocks of colour with noise, and noisy logits that lean towards the blocks."""
    random = np.random.default_rng(seed)
    blocks = random.integers(0, num_classes, (batch, (height + 3) // 4, (width + 3) // 4))
    blocks = blocks.repeat(4, 1).repeat(4, 2)[:, :height, :width]
    colours = random.integers(0, 256, (num_classes, 3))
    images = np.clip(colours[blocks] + random.normal(0, 8, (*blocks.shape, 3)), 0, 255)
    logits = np.eye(num_classes)[blocks] + random.normal(0, 1, (*blocks.shape, num_classes))
    return images.astype(np.uint8), logits.astype(dtype)


def softmax(scores):
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def slow_mean_field(image, logits, spec):
    """The equations pixel by pixel, in float64."""
    height, width, num_classes = logits.shape
    n, logits = height * width, logits.reshape(-1, num_classes).astype(np.float64)
    position = [(i % width, i // width) for i in range(n)]
    colour = image.reshape(-1, 3).astype(np.float64)
    kernel = np.zeros((2, n, n))
    for i in range(n):
        for j in range(n):
            xy = (position[i][0] - position[j][0]) ** 2 + (position[i][1] - position[j][1]) ** 2
            rgb = sum((colour[i][c] - colour[j][c]) ** 2 for c in range(3))
            kernel[0, i, j] = np.exp(-xy / spec.bilateral_sigma_xy**2 / 2 - rgb / spec.bilateral_sigma_rgb**2 / 2)
            kernel[1, i, j] = np.exp(-xy / spec.gaussian_sigma_xy**2 / 2)
    mass = kernel.sum(-1)
    probs = softmax(logits)
    for _ in range(spec.iterations):
        message = np.zeros((n, num_classes))
        for m, weight in enumerate((spec.bilateral_weight, spec.gaussian_weight)):
            message += weight * ((kernel[m] / np.sqrt(mass[m])[None]) @ probs) / np.sqrt(mass[m])[:, None]
        probs = softmax(logits + message)
    return probs.reshape(height, width, num_classes)


def test_the_named_specs_are_their_sources():
    """Weight, position and colour widths, weight, position width, iterations, as each publication's code has them.

    SEC's and DSRG's loss: 80 and 3 pixels of 321, divided by 12 for the map; both at test time: undivided. DeepLab's
    two: its test scripts for VGG-16 and ResNet-101. IRN: cam_to_ir_label's.
    """
    numbers = {key: dataclasses.astuple(spec)[:6] for key, spec in (
        ("sec", crf.SEC_TRAIN), ("dsrg", crf.DSRG_TEST), ("largefov", crf.DEEPLAB_LARGEFOV), ("v2", crf.DEEPLAB_V2),
        ("irn", refinement.IRN), ("dsrg relative", crf.DSRG_RELATIVE), ("largefov relative", crf.DEEPLAB_RELATIVE))}
    dsrg, largefov = (10, 80, 13, 3, 3, 10), (4, 49, 5, 3, 3, 10)
    assert numbers == {"sec": (10, 80 / 12, 13, 3, 0.25, 10), "dsrg": dsrg, "largefov": largefov,
                       "v2": (4, 67, 3, 3, 1, 10), "irn": (10, 50, 5, 3, 3, 10), "dsrg relative": dsrg,
                       "largefov relative": largefov}
    assert crf.SPECS["dsrg"] is crf.DSRG_TEST and crf.SPECS["deeplab"] is crf.DEEPLAB_LARGEFOV


@pytest.mark.parametrize("name", SPECS)
def test_exact_is_the_double_loop(name):
    images, logits = example(2, 9, 7, 4)
    probs = crf.mean_field(images, logits, SPECS[name], "exact").numpy()
    for image, refined, unary in zip(images, probs, logits, strict=True):
        expected = slow_mean_field(image, unary, SPECS[name])
        assert np.abs(expected - softmax(unary)).max() > 0.1  # the CRF did something
        assert np.abs(refined - expected).max() < 1e-4


def test_exact_compiles_under_xla_with_its_gradient():
    images, logits = example(2, 9, 7, 4)

    def value_and_gradient(logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            probs = crf.mean_field(images, logits, GENTLE, "exact")
            score = tf.reduce_sum(probs[..., 0] * probs[..., 1])
        return probs, tape.gradient(score, logits)

    eager = value_and_gradient(tf.constant(logits))
    assert np.abs(eager[1]).max() > 0.01
    compiled = tf.function(value_and_gradient, jit_compile=True)(tf.constant(logits))
    for result, expected in zip(compiled, eager, strict=True):
        np.testing.assert_allclose(result, expected, atol=1e-5)


def test_exact_on_a_gpu_takes_the_whole_batch(monkeypatch):
    images, logits = example(3, 6, 5, 4)
    counts = tf.constant([0, 2, 5])
    expected = crf.mean_field(images, logits, crf.DSRG_TEST, "exact", counts)
    monkeypatch.setattr(tf, "map_fn", None)  # what a CPU would do
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda device_type: [device_type])
    np.testing.assert_allclose(crf.mean_field(images, logits, crf.DSRG_TEST, "exact", counts), expected, atol=1e-6)


@pytest.mark.parametrize("backend", crf.BACKENDS)
def test_refiner_in_and_out_of_a_graph(backend, request):
    if backend == "pydensecrf":
        request.getfixturevalue("reference_crf")
    images, logits = example(2, 9, 7, 4)
    refine = crf.refiner(crf.SEC_TRAIN, backend)
    assert refine is crf.refiner(crf.SEC_TRAIN, backend)
    expected = crf.mean_field(images, logits, crf.SEC_TRAIN, backend)
    if backend != "pydensecrf":
        np.testing.assert_allclose(tf.function(refine)(images, logits), expected, atol=1e-5)
    np.testing.assert_allclose(refine(images, logits), expected, atol=1e-5)


@pytest.mark.parametrize("backend", GRAPH_BACKENDS)
def test_refine_takes_the_logarithm_itself_of_one_photograph_or_many(backend):
    images, logits = example(2, 9, 7, 4)
    probs = softmax(logits)
    probs[0, 0, 0] = 1, 0, 0, 0  # whose logarithm needs the floor
    expected = [slow_mean_field(image, np.log(np.maximum(unary, 1e-6)), crf.DSRG_TEST)
                for image, unary in zip(images, probs, strict=True)]
    tolerance = 1e-4 if backend == "exact" else 0.05  # the lattice is near, not exact
    batch = crf.refine(images, probs, backend=backend)
    assert isinstance(batch, np.ndarray) and batch.dtype == np.float32 and batch.shape == probs.shape
    np.testing.assert_allclose(batch, expected, atol=tolerance)
    one = crf.refine(images[0].astype(np.float32), probs[0], "dsrg", backend)
    np.testing.assert_allclose(one, batch[0], atol=1e-6)
    assert np.abs(crf.refine(images, probs, "deeplab", backend) - batch).max() > 0.05
    for spec in (None, "none"):
        np.testing.assert_array_equal(crf.refine(images, probs, spec, backend), probs)


def test_refine_takes_probabilities_of_few_bits_and_of_tensorflow():
    images, logits = example(1, 9, 7, 21)
    probs = softmax(logits)
    expected = crf.refine(images, probs)
    np.testing.assert_allclose(crf.refine(images, probs.astype(np.float16)), expected, atol=0.01)
    np.testing.assert_array_equal(crf.refine(tf.constant(images), tf.constant(probs)), expected)
    assert crf.refine(images, probs.astype(np.float64)).dtype == np.float64


def test_refine_clips_what_misses_its_range_by_rounding():
    images, logits = example(1, 9, 7, 4)
    images[0, 0], images[0, 1] = 0, 255
    probs = softmax(logits)
    probs[0, 0, 0] = 1, 0, 0, 0
    resized, rounded = images.astype(np.float32), probs.copy()
    resized[0, 0], resized[0, 1], rounded[0, 0, 0] = -0.4, 255.4, (1.000001, -1e-9, 0, 0)
    np.testing.assert_allclose(crf.refine(resized, rounded), crf.refine(images, probs), atol=1e-6)
    np.testing.assert_array_equal(crf.refine(resized, rounded, None), probs)


def test_refine_takes_a_black_photograph():
    images, logits = example(1, 9, 7, 4)
    black, probs = np.zeros(images.shape, np.float32), softmax(logits)
    np.testing.assert_array_equal(crf.refine(black, probs), crf.refine(black.astype(np.uint8), probs))


def test_refine_refuses_what_it_cannot_mean():
    images, logits = example(1, 9, 7, 4)
    probs = softmax(logits)
    for wrong, message in (((images / 255, probs), "images: expected RGB 0..255, found floating numbers from 0"),
                           ((images / 255 + 1e-6, probs), "if they are 0..1, multiply them by 255"),
                           ((tf.cast(images / 255, tf.bfloat16), probs), "if they are 0..1, multiply them by 255"),
                           ((images.astype(np.float32) - 120, probs), "images: expected RGB 0..255, found numbers"),
                           ((images.astype(np.float32) + 2, probs), "images: expected RGB 0..255, found numbers"),
                           ((np.minimum(images, [-0.6, 255, 255]), probs), "found numbers from -0.6"),
                           ((images * np.nan, probs), "images: expected RGB 0..255, found numbers from nan"),
                           ((images, logits), "probs: expected probabilities, .* logits go to mean_field"),
                           ((images, probs / 2), "1 in sum over the classes, found .* in sum 0.5 to 0.5"),
                           ((images, np.stack([probs[..., 0] + 1, -probs[..., 0]], -1)), "found -.* to 1"),
                           ((images, probs * np.nan), "found nan to nan"),
                           ((images[0], probs), r"found \[9, 7, 3\] and \[1, 9, 7, 4\]"),
                           ((images[:, :5], probs), r"found \[1, 5, 7, 3\] and \[1, 9, 7, 4\]"),
                           ((images[..., :1], probs), "expected \\[height, width, 3\\]"),
                           ((images, probs[..., 0]), "expected \\[height, width, 3\\]"),
                           ((images[:0], probs[:0]), "expected \\[height, width, 3\\]"),
                           ((images, probs, "dsgr"), "crf: expected one of none, sec, dsrg, .* found 'dsgr'"),
                           ((images, probs, "dsrg", "fast"), "backend: expected one of exact, .* found 'fast'"),
                           ((images, probs, "none", "fast"), "backend: expected one of exact, .* found 'fast'")):
        with pytest.raises(UserError, match=message):
            crf.refine(*wrong)


@pytest.mark.parametrize("backend", GRAPH_BACKENDS)
class TestProperties:
    def test_probabilities_sum_to_one_and_smooth(self, backend):
        images, logits = example(1, 12, 10, 3)
        probs = crf.mean_field(images, logits, crf.DSRG_TEST, backend).numpy()
        np.testing.assert_allclose(probs.sum(-1), 1, atol=1e-5)
        assert (probs.max(-1).mean()) > softmax(logits).max(-1).mean()

    def test_permuted_classes_permute_the_answer(self, backend):
        images, logits = example(1, 12, 10, 5)
        order = [3, 0, 4, 2, 1]
        probs = crf.mean_field(images, logits, crf.DSRG_TEST, backend).numpy()
        permuted = crf.mean_field(images, logits[..., order], crf.DSRG_TEST, backend).numpy()
        np.testing.assert_allclose(permuted, probs[..., order], atol=1e-5)

    def test_a_constant_at_a_pixel_changes_nothing(self, backend):
        images, logits = example(1, 12, 10, 3)
        offset = np.random.default_rng(1).normal(0, 5, (1, 12, 10, 1)).astype(np.float32)
        probs = crf.mean_field(images, logits, crf.DSRG_TEST, backend)
        np.testing.assert_allclose(crf.mean_field(images, logits + offset, crf.DSRG_TEST, backend), probs, atol=1e-4)

    def test_flat_stays_flat(self, backend):
        images = np.full((1, 9, 11, 3), 77, np.uint8)
        probs = crf.mean_field(images, np.zeros((1, 9, 11, 4), np.float32), crf.DSRG_TEST, backend)
        np.testing.assert_allclose(probs, 0.25, atol=1e-6)

    def test_rows_do_not_depend_on_their_batch(self, backend):
        images, logits = example(3, 12, 10, 3)
        probs = crf.mean_field(images, logits, crf.DSRG_TEST, backend).numpy()
        for i in range(3):
            alone = crf.mean_field(images[i:i + 1], logits[i:i + 1], crf.DSRG_TEST, backend)
            np.testing.assert_allclose(alone[0], probs[i], atol=1e-5)
        assert np.abs(probs[0] - probs[1]).max() > 0.1

    def test_iterations(self, backend):
        images, logits = example(3, 12, 10, 3)
        counts = [0, 2, 7]
        probs = crf.mean_field(images, logits, crf.DSRG_TEST, backend, tf.constant(counts)).numpy()
        np.testing.assert_allclose(probs[0], softmax(logits[0]), atol=1e-6)
        for i, count in enumerate(counts):
            for iterations in (count, tf.constant(count)):
                same_for_all = crf.mean_field(images, logits, crf.DSRG_TEST, backend, iterations)
                np.testing.assert_allclose(same_for_all[i], probs[i], atol=1e-6)
        of_spec = crf.mean_field(images, logits, crf.DSRG_TEST, backend)
        np.testing.assert_array_equal(of_spec, crf.mean_field(images, logits, crf.DSRG_TEST, backend, 10))

    @pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (2, 2)])
    def test_extremes(self, backend, shape):
        images, logits = example(2, *shape, 3)
        for scale in (1, 1e4):
            probs = crf.mean_field(images, np.sign(logits) * scale, crf.DSRG_TEST, backend).numpy()
            assert np.isfinite(probs).all()
            np.testing.assert_allclose(probs.sum(-1), 1, atol=1e-5)
        single = crf.mean_field(images[:, :1, :1], logits[:, :1, :1, :1], crf.DSRG_TEST, backend)
        np.testing.assert_array_equal(single, np.ones((2, 1, 1, 1)))

    def test_large_logits_decide(self, backend):
        images, logits = example(1, 12, 10, 3)
        labels = logits.argmax(-1)
        probs = crf.mean_field(images, np.eye(3, dtype=np.float32)[labels] * 2e4 - 1e4, crf.DSRG_TEST, backend)
        np.testing.assert_array_equal(np.argmax(probs, -1), labels)

    @pytest.mark.parametrize("traced", [False, True])
    def test_gradient_is_the_finite_difference(self, backend, traced):
        images, logits = example(2, 4, 3, 3, dtype=np.float64)
        weights = np.random.default_rng(5).normal(size=logits.shape)

        def loss(logits):
            return tf.reduce_sum(weights * crf.mean_field(images, logits, GENTLE, backend))

        def gradient(logits):
            with tf.GradientTape() as tape:
                tape.watch(logits)
                value = loss(logits)
            return tape.gradient(value, logits)

        gradients = (tf.function(gradient) if traced else gradient)(tf.constant(logits)).numpy()
        traced_loss = tf.function(loss)
        for i in np.random.default_rng(6).choice(logits.size, 20, replace=False):
            step = np.zeros(logits.size)
            step[i] = 1e-5
            step = step.reshape(logits.shape)
            difference = (traced_loss(tf.constant(logits + step)) - traced_loss(tf.constant(logits - step))) / 2e-5
            assert abs(gradients.ravel()[i] - difference) < 1e-7
        assert np.abs(gradients).max() > 0.05

    def test_static_shape_is_kept(self, backend):
        images, logits = example(2, 6, 5, 3)
        assert tf.function(lambda i, u: crf.mean_field(i, u, crf.DSRG_TEST, backend)).get_concrete_function(
            tf.TensorSpec(images.shape), tf.TensorSpec(logits.shape)).output_shapes == (2, 6, 5, 3)

    def test_float_images_are_not_rounded(self, backend):
        images, logits = example(1, 6, 5, 3)
        shifted = crf.mean_field(images + np.linspace(0, 0.9, 30).reshape(1, 6, 5, 1), logits, crf.DEEPLAB_V2, backend)
        assert np.abs(shifted - crf.mean_field(images, logits, crf.DEEPLAB_V2, backend)).max() > 1e-4


@pytest.mark.parametrize("dimensions", [2, 5])
def test_lattice_simplices_hold_their_points(dimensions):
    points = np.random.default_rng(2).normal(0, 3, (dimensions, 400)).astype(np.float32)
    built = lattice.build([tf.constant(coordinates) for coordinates in points])
    weights, vertices, size = built.weights.numpy(), built.vertices.numpy(), int(built.size)
    assert weights.min() >= -1e-6
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
    assert vertices.min() == 1 and vertices.max() == size - 1
    # Position is linear inside a simplex: positions of the vertices exist that explain all points.
    matrix = np.zeros((400, size))
    np.add.at(matrix, (np.arange(400)[:, None], vertices), weights)
    positions = np.linalg.lstsq(matrix, points.T, rcond=None)[0]
    np.testing.assert_allclose(matrix @ positions, points.T, atol=1e-4)
    for before, after in built.neighbours:
        ids = np.arange(1, size)
        after, before = after.numpy(), before.numpy()
        assert after[0] == before[0] == 0
        linked = ids[after[ids] > 0]
        assert len(linked) > 10
        np.testing.assert_array_equal(before[after[linked]], linked)
        assert (before > 0).sum() == len(linked)


def test_blur_by_hand():
    # One axis of the lattice: 1 - 2 - 3 in a row, vertex 4 alone; 0 where there is no neighbour.
    axis = (tf.constant([0, 0, 1, 2, 0]), tf.constant([0, 2, 3, 0, 0]))
    chain = lattice.Lattice(None, None, [axis], tf.constant(5))
    blurred = lattice.blur(chain, tf.constant([[0.0], [1.0], [10.0], [100.0], [7.0]]))
    np.testing.assert_allclose(blurred[:, 0], [0, 6, 60.5, 105, 7])


def test_bad_input_is_an_error():
    images, logits = example(1, 4, 4, 2)
    with pytest.raises(ValueError, match="backend"):
        crf.mean_field(images, logits, crf.DSRG_TEST, "dense")
    with pytest.raises(ValueError, match="images and logits"):
        crf.mean_field(images[:, :3], logits, crf.DSRG_TEST, "exact")
    with pytest.raises(ValueError, match="images and logits"):
        crf.mean_field(images[0], logits[0], crf.DSRG_TEST, "exact")
    with pytest.raises(ValueError, match="float32"):
        crf.mean_field(images, logits.astype(np.int32), crf.DSRG_TEST, "exact")
    with pytest.raises(ValueError, match="eagerly"):
        tf.function(lambda: crf.mean_field(images, logits, crf.DSRG_TEST, "pydensecrf"))()


@pytest.mark.parametrize("backend", GRAPH_BACKENDS)
def test_relative_widths_grow_with_the_longer_side(backend):
    """For a longer side of 25, a twentieth of 500, the widths are a twentieth; for 500 they are the spec's."""
    spec = crf.CRFSpec(5.0, 60.0, 30.0, 3.0, 20.0, 4)
    twentieth = dataclasses.replace(spec, bilateral_sigma_xy=3.0, gaussian_sigma_xy=1.0)
    relative = dataclasses.replace(spec, relative=True)
    images, logits = example(2, 14, 25, 3)
    expected = crf.mean_field(images, logits, twentieth, backend)
    np.testing.assert_allclose(crf.mean_field(images, logits, relative, backend), expected, atol=1e-4)
    assert np.abs(expected - crf.mean_field(images, logits, spec, backend)).max() > 0.1
    images, logits = example(1, 2, 500, 3)
    np.testing.assert_allclose(crf.mean_field(images, logits, relative, backend),
                               crf.mean_field(images, logits, spec, backend), atol=1e-6)


@pytest.mark.parametrize("sigma", [80.0, 13.0, 3.0, 50.0, 5.0, 49.0, 67.0])
def test_features_are_pydensecrfs_float32_quotients(sigma):
    """Rounded once: a factor that is float32 before the product would move half of them by a bit."""
    positions = np.arange(501, dtype=np.int32)
    expected = positions.astype(np.float32) / np.float32(sigma)
    np.testing.assert_array_equal(lattice.times(tf.constant(positions), 1 / sigma), expected)
