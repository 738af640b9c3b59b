"""The losses: by hand, against slow NumPy, and what ignored pixels and missing seeds do."""

import numpy as np
import pytest
import tensorflow as tf

from ficklenet_tf import crf
from ficklenet_tf.training import losses

LN2, LN3 = np.log(2), np.log(3)


def _near(value):
    return pytest.approx(value, abs=5e-4)  # the floor of 1e-4 moves a logarithm by about as much


def test_seed_loss_by_hand():
    """Uniform answers over three classes: each part is ln 3, however many seeds it has."""
    logits = tf.zeros([1, 2, 2, 3])
    assert losses.seed_loss(logits, tf.constant([[[0, 0], [1, 255]]], tf.uint8)).numpy() == _near(2 * LN3)
    assert losses.seed_loss(logits, tf.constant([[[255, 255], [1, 2]]], tf.uint8)).numpy() == _near(LN3)
    assert losses.seed_loss(logits, tf.constant([[[255, 0], [255, 255]]], tf.uint8)).numpy() == _near(LN3)


def test_seed_loss_normalises_foreground_and_background_apart():
    """One background pixel that is right (p = 3/4, loss ln 4/3), three foreground ones at p = 1/2: ln 2."""
    logits = np.zeros((1, 2, 2, 2), "float32")
    logits[0, 0, 0] = [LN3, 0]
    loss = losses.seed_loss(tf.constant(logits), tf.constant([[[0, 1], [1, 1]]], tf.uint8))
    assert loss.numpy() == _near(np.log(4 / 3) + LN2)


def test_secs_seed_loss_normalises_them_together():
    """As above: one at ln 4/3, three at ln 2; and an image without seeds, of loss 0."""
    logits = np.zeros((2, 2, 2, 2), "float32")
    logits[0, 0, 0] = [LN3, 0]
    seeds = np.array([[[0, 1], [1, 1]], [[255, 255], [255, 255]]], np.uint8)
    loss = losses.sec_seed_loss(tf.constant(logits), tf.constant(seeds))
    assert loss.numpy() == _near((np.log(4 / 3) + 3 * LN2) / 4 / 2)


def test_seed_loss_against_slow_numpy():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 4, 5, 6)).astype("float32")
    seeds = rng.choice([0, 1, 4, 255], size=(3, 4, 5)).astype("uint8")
    total = 0.0
    for b in range(3):
        for counts in (lambda s: s == 0, lambda s: 0 < s < 255):
            terms = []
            for y in range(4):
                for x in range(5):
                    if counts(seeds[b, y, x]):
                        p = np.exp(logits[b, y, x].astype("float64"))
                        p = (p / p.sum() + 1e-4) / (1 + 6e-4)
                        terms.append(-np.log(p[seeds[b, y, x]]))
            total += np.mean(terms)
    assert losses.seed_loss(tf.constant(logits), tf.constant(seeds)).numpy() == pytest.approx(total / 3, rel=1e-5)


def test_an_image_without_seeds_has_no_loss_and_no_gradient():
    logits = tf.Variable(tf.random.stateless_normal([2, 3, 3, 4], [0, 1]))
    seeds = np.full((2, 3, 3), 255, "uint8")
    seeds[1, 0, 0] = 2
    with tf.GradientTape() as tape:
        loss = losses.seed_loss(logits, tf.constant(seeds))
    gradient = tape.gradient(loss, logits).numpy()
    assert loss > 0
    assert (gradient[0] == 0).all() and (gradient[1, 1:] == 0).all() and (gradient[1, 0, 0] != 0).all()


def test_full_loss_ignores_255():
    logits = np.zeros((1, 1, 3, 2), "float32")
    logits[0, 0, 2] = [100, -100]
    loss = losses.full_loss(tf.constant(logits), tf.constant([[[0, 1, 255]]], tf.uint8))
    assert loss.numpy() == pytest.approx(LN2, rel=1e-5)
    assert losses.full_loss(tf.constant(logits), tf.fill([1, 1, 3], tf.constant(255, tf.uint8))).numpy() == 0


def test_full_loss_balanced_by_hand():
    """One background pixel at ln 2, three of class 1 at ln 4/3: one mean of the four, or the sum of two means."""
    logits = np.tile(np.float32([0, LN3]), (1, 1, 4, 1))
    logits[0, 0, 0] = 0
    target = tf.constant([[[0, 1, 1, 1]]], tf.uint8)
    assert losses.full_loss(tf.constant(logits), target).numpy() == _near((LN2 + 3 * np.log(4 / 3)) / 4)
    assert losses.full_loss(tf.constant(logits), target, "balanced").numpy() == _near(LN2 + np.log(4 / 3))
    with pytest.raises(ValueError, match="full_loss: expected one of pixels, balanced, found 'x'"):
        losses.full_loss(tf.constant(logits), target, "x")


def _boundary_numpy(logits, images, spec):
    """KL(Q || f) with Q from dense kernels built by loops, in float64."""
    b, h, w, c = logits.shape
    total = 0.0
    for image, image_logits in zip(images.astype("float64"), logits.astype("float64"), strict=True):
        p = np.exp(image_logits - image_logits.max(-1, keepdims=True))
        f = (p / p.sum(-1, keepdims=True) + 1e-4) / (1 + c * 1e-4)
        grid = np.array([(x, y) for y in range(h) for x in range(w)], "float64")
        colours, unary = image.reshape(-1, 3), np.log(f).reshape(-1, c)
        kernel = np.zeros((h * w, h * w))
        for weight, features in (
                (spec.bilateral_weight,
                 np.hstack([grid / spec.bilateral_sigma_xy, colours / spec.bilateral_sigma_rgb])),
                (spec.gaussian_weight, grid / spec.gaussian_sigma_xy)):
            k = np.exp(-0.5 * ((features[:, None] - features[None]) ** 2).sum(-1))
            d = k.sum(1) ** -0.5
            kernel += weight * d[:, None] * k * d[None]
        q = np.exp(unary) / np.exp(unary).sum(-1, keepdims=True)
        for _ in range(spec.iterations):
            q = np.exp(unary + kernel @ q)
            q /= q.sum(-1, keepdims=True)
        q = (q + 1e-4) / (1 + c * 1e-4)
        total += (q * (np.log(q) - unary)).sum(-1).mean()
    return total / b


def _boundary_loss(logits, images, spec=crf.SEC_TRAIN):
    return losses.boundary_loss(logits, losses.refine(logits, images, spec))


def test_boundary_loss_against_slow_numpy():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(2, 6, 7, 3)).astype("float32")
    images = rng.uniform(0, 255, (2, 6, 7, 3)).astype("float32")
    spec = crf.CRFSpec(4.0, 3.0, 40.0, 2.0, 1.0, 5)
    loss = _boundary_loss(tf.constant(logits), tf.constant(images), spec).numpy()
    assert loss == pytest.approx(_boundary_numpy(logits, images, spec), rel=1e-4)
    assert loss > 0.01  # the divergence is the right way round: KL is not negative


def test_no_gradient_flows_through_the_crf():
    """With Q a constant, dL/dlogits = (f' terms): the gradient of KL(Q || f) alone, pixel by pixel."""
    logits = tf.Variable(tf.random.stateless_normal([1, 4, 4, 3], [2, 3]))
    images = tf.random.stateless_uniform([1, 4, 4, 3], [4, 5], 0, 255)
    refined = crf.mean_field(images, losses.log_probs(logits), crf.SEC_TRAIN, "exact")
    refined = tf.exp(losses._floored(refined))
    with tf.GradientTape() as tape:
        loss = _boundary_loss(logits, images)
    with tf.GradientTape() as by_hand:
        known = -tf.reduce_mean(tf.reduce_sum(tf.stop_gradient(refined) * losses.log_probs(logits), -1))
    np.testing.assert_allclose(tape.gradient(loss, logits), by_hand.gradient(known, logits), rtol=1e-4, atol=1e-7)


def test_boundary_loss_compiles_and_agrees():
    logits = tf.random.stateless_normal([2, 9, 9, 4], [2, 3])
    images = tf.random.stateless_uniform([2, 9, 9, 3], [4, 5], 0, 255)
    compiled = tf.function(_boundary_loss, jit_compile=True, autograph=False)
    np.testing.assert_allclose(compiled(logits, images), _boundary_loss(logits, images), rtol=1e-5)


def _seed_gradient(logit, form):
    """Returns the seed loss of a pixel that says class 0, `logit` against -`logit`, and is 1; and its gradient."""
    logits = tf.Variable([[[[logit, -logit]]]])
    with tf.GradientTape() as tape:
        loss = losses.seed_loss(logits, tf.constant([[[1]]], tf.uint8), form)
    return loss.numpy(), tape.gradient(loss, logits).numpy()[0, 0, 0]


@pytest.mark.parametrize("logit", [0.0, 2.0, 9.0, 15.0, 50.0])
def test_the_gradient_of_a_wrong_answer(logit):
    """With p of the right class: floored p (1 - p) / (p + 1e-4), next to nothing where p is; softmax 1 - p."""
    p = 1 / (1 + np.exp(np.float64(2 * logit)))
    loss, gradient = _seed_gradient(logit, "floored")
    assert loss == pytest.approx(-np.log((p + 1e-4) / (1 + 2e-4)), rel=1e-3)
    np.testing.assert_allclose(gradient, np.array([1, -1]) * p * (1 - p) / (p + 1e-4), rtol=1e-3, atol=1e-30)
    loss, gradient = _seed_gradient(logit, "softmax")
    assert loss == pytest.approx(-np.log(p), rel=1e-5)
    np.testing.assert_allclose(gradient, [1 - p, p - 1], rtol=1e-5)


def test_the_form_reaches_every_loss():
    logits, seeds = tf.constant([[[[9.0, -9.0]]]]), tf.constant([[[1]]], tf.uint8)
    refined = tf.math.log([[[[0.25, 0.75]]]])
    for floored, softmax in ([loss(logits, other, form).numpy() for form in losses.FORMS] for loss, other in (
            (losses.seed_loss, seeds), (losses.sec_seed_loss, seeds), (losses.boundary_loss, refined))):
        assert softmax > floored + 5
    with pytest.raises(ValueError, match="log_probs: expected one of floored, softmax, found 'x'"):
        losses.seed_loss(logits, seeds, "x")


def test_the_crf_may_be_given_probabilities():
    """DSRG's unaries are weaker: with no message, of two classes at p the CRF answers 1 / (1 + exp(1 - 2 p))."""
    logits, images = tf.constant([[[[LN3, 0.0]]]]), tf.zeros([1, 1, 1, 3])
    no_messages = crf.CRFSpec(0.0, 3.0, 40.0, 0.0, 1.0, 5)
    probs = {unaries: np.exp(losses.refine(logits, images, no_messages, unaries=unaries))[0, 0, 0, 0]
             for unaries in losses.UNARIES}
    assert probs["log_probs"] == _near(3 / 4) and probs["probs"] == _near(1 / (1 + np.exp(-0.5)))
    with pytest.raises(ValueError, match="crf_unaries: expected one of log_probs, probs, found 'logits'"):
        losses.refine(logits, images, unaries="logits")


def test_expand_loss_by_hand():
    """Two pixels, three classes, class 1 in the image, class 2 not; decay 1/2, of the background 1.

    Class 1 has 0.6 and 0.3: (0.6 + 0.3 / 2) / (3 / 2) = 0.5. The background has 0.3 and 0.5: their mean, 0.4.
    Class 2's greatest is 0.2: 1 - 0.2 = 0.8.
    """
    logits = tf.math.log(tf.constant([[[[0.3, 0.6, 0.1], [0.5, 0.3, 0.2]]]]))
    loss = losses.expand_loss(logits, tf.constant([[1.0, 0.0]]), 0.5, 1.0).numpy()
    assert loss == _near(-np.log(0.5) - np.log(0.8) - np.log(0.4))


def test_the_gradient_of_the_expansion():
    """On the case above: an absent class at its greatest pixel alone, a tagged one by rank, the background evenly."""
    logits = tf.Variable(tf.math.log(tf.constant([[[[0.3, 0.6, 0.1], [0.5, 0.3, 0.2]]]])))
    with tf.GradientTape() as tape:
        loss = losses.expand_loss(logits, tf.constant([[1.0, 0.0]]), 0.5, 1.0)
    of_probs = np.array([[-0.5 / 0.4, -(2 / 3) / 0.5, 0], [-0.5 / 0.4, -(1 / 3) / 0.5, 1 / 0.8]])
    probs = np.array([[0.3, 0.6, 0.1], [0.5, 0.3, 0.2]])
    expected = probs * (of_probs - (probs * of_probs).sum(-1, keepdims=True))
    np.testing.assert_allclose(tape.gradient(loss, logits)[0, 0], expected, rtol=2e-3, atol=1e-4)


def test_the_gradient_of_secs_seed_loss():
    """(p - Y) / number of seeds where there is one, nothing elsewhere."""
    logits = tf.Variable(tf.math.log(tf.constant([[[[0.3, 0.6, 0.1], [0.5, 0.3, 0.2], [0.2, 0.2, 0.6]]]])))
    with tf.GradientTape() as tape:
        loss = losses.sec_seed_loss(logits, tf.constant([[[1, 255, 0]]], tf.uint8))
    expected = np.array([[0.3, -0.4, 0.1], [0, 0, 0], [-0.8, 0.2, 0.6]]) / 2
    np.testing.assert_allclose(tape.gradient(loss, logits)[0, 0], expected, rtol=2e-3, atol=1e-4)


def test_expand_loss_pools_by_rank_between_the_greatest_and_the_mean():
    probs = np.random.default_rng(0).dirichlet([1, 1], (1, 4, 5)).astype("float32")
    logits, tags, values = tf.math.log(probs), tf.ones([1, 1]), probs[..., 1].ravel()
    for decay, pooled in ((0.0, values.max()), (1.0, values.mean())):
        loss = losses.expand_loss(logits, tags, decay, 1.0).numpy()
        assert loss == _near(-np.log(pooled) - np.log(probs[..., 0].mean()))


def test_expand_loss_of_an_image_with_all_classes_or_none_is_finite():
    logits = tf.Variable([[[[50.0, -50.0, 0.0]]], [[[-50.0, 50.0, 0.0]]]])
    with tf.GradientTape() as tape:
        loss = losses.expand_loss(logits, tf.constant([[1.0, 1.0], [0.0, 0.0]]))
    assert np.isfinite(loss.numpy()) and np.isfinite(tape.gradient(loss, logits).numpy()).all()
