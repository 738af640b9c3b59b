"""One map a selection: Grad-CAM (FickleNet, Eq. 1) by the tape and in closed form, and CAM.

`tape` takes the gradient by GradientTape, for any head. `closed_form` uses that our head is linear in x, so that the
sum inside the ReLU of Grad-CAM is sum_d t[u, d] Y_c[u, d] / (h w) with Y_c[u, d] = W_c[d] . x[u]: no expansion and no
backward pass, Y once an image.
"""

import tensorflow as tf

from ficklenet_tf.models.hidden_units import inside, weights_of

METHODS = ("closed_form", "tape")
CAMS = ("gradcam", "cam")


def _general_scale(bits, rate):
    return tf.cast(bits, tf.float32) / max(1 - rate, 1e-9)


def responses(head, x, classes, selection="stochastic"):
    """Returns Y of the closed form, `[h * w, s * s, c]` float32: what each hidden unit adds to a map before the ReLU.

    Args:
      head: a built `stochastic.StochasticHead`.
      x: features `[h, w, k]` float32, static shape.
      classes: `[c]` int32.
      selection: with "stochastic" survivors are scaled where the head asks for it.
    """
    height, width, channels = x.shape
    s, area = head.kernel_size, height * width
    kernel = tf.reshape(tf.gather(tf.convert_to_tensor(head.kernel), classes, axis=3), [s * s, channels, -1])
    rescale = head.rescale and selection == "stochastic"
    scale = weights_of(tf.ones([area, s * s], tf.bool), height, width, s, head.rate, rescale)
    return tf.einsum("uk,dkc->udc", tf.reshape(x, [area, channels]), kernel) * scale[..., None] / area


def closed_form(head, x, classes, selection):
    """Returns a function from the bits of n selections to their maps before the ReLU.

    Args:
      head: a built `stochastic.StochasticHead`.
      x: features `[h, w, k]` float32, static shape.
      classes: `[c]` int32.
      selection: one of `stochastic.SELECTIONS`.

    Returns:
      A function: bits `[h * w, n, s * s]`, for «general» `[h * w, n, k]`, for «deterministic» None (then n = 1) ->
      `[h * w, n, c]` float32.
    """
    height, width, channels = x.shape
    s, area = head.kernel_size, height * width
    if selection == "general":
        kernel = tf.reshape(tf.gather(tf.convert_to_tensor(head.kernel), classes, axis=3), [s * s, channels, -1])
        seen = tf.constant(inside(height, width, s), tf.float32)
        contribution = tf.reshape(x, [area, channels, 1]) * tf.einsum("ud,dkc->ukc", seen, kernel) / area
        return lambda bits: tf.matmul(_general_scale(bits, head.rate), contribution)
    y = responses(head, x, classes, selection)
    if selection == "deterministic":
        return lambda bits: tf.reduce_sum(y, 1, keepdims=True)
    centre = y[:, s * s // 2, None]
    others = y * (1 - tf.one_hot(s * s // 2, s * s))[:, None]
    return lambda bits: tf.matmul(tf.cast(bits, tf.float32), others) + centre


def class_activation(head, x, classes):
    """Returns a function to the convolution's output `[h * w, 1, c]` over all hidden units; its mean is the logit."""
    kernel = tf.gather(tf.convert_to_tensor(head.kernel), classes, axis=3)
    maps = tf.nn.conv2d(x[None], kernel, 1, "SAME")
    return lambda bits: tf.reshape(maps, [x.shape[0] * x.shape[1], 1, -1])


def tape(head, x, classes, selection):
    """As `closed_form`, by one forward and one backward pass a selection (Eq. 1 as it is written)."""
    height, width, channels = x.shape
    count = tf.shape(classes)[0]
    rows = tf.repeat(x[None], count, axis=0)  # one row a class, so one gradient serves all classes

    def one_map(factor, weights):
        with tf.GradientTape() as record:
            record.watch(rows)
            selected = None if weights is None else tf.repeat(weights[None], count, axis=0)
            scores = tf.gather(head.logits(rows * factor, selected), classes, axis=1, batch_dims=0)
            score = tf.reduce_sum(tf.linalg.diag_part(scores))
        maps = tf.reduce_sum(tf.reshape(rows * record.gradient(score, rows), [count, height * width, channels]), -1)
        return tf.transpose(maps)

    def block_maps(bits):
        if selection == "deterministic":
            return one_map(1.0, None)[:, None]
        one = tf.TensorSpec([height * width, None], tf.float32)
        bits = tf.transpose(bits, [1, 0, 2])
        if selection == "general":
            factors = tf.reshape(_general_scale(bits, head.rate), [-1, *x.shape])
            maps = tf.map_fn(lambda f: one_map(f, None), factors, fn_output_signature=one, parallel_iterations=1)
        else:
            weights = weights_of(bits, height, width, head.kernel_size, head.rate, head.rescale)
            maps = tf.map_fn(lambda w: one_map(1.0, w), weights, fn_output_signature=one, parallel_iterations=1)
        return tf.transpose(maps, [1, 0, 2])

    return block_maps
