"""Localization maps: N Grad-CAMs of one image on N random selections (FickleNet, Section 3.3, Eq. 1).

M_c[u] = ReLU(sum_k x[u, k] * dS_c / dx[u, k]), each map divided by its own maximum.
`tape` takes the gradient by GradientTape, for any head. `closed_form` uses that
our head is linear in x, so that the sum inside the ReLU is sum_d t[u, d] Y_c[u, d] / (h w)
with Y_c[u, d] = W_c[d] . x[u]: no expansion and no backward pass, Y once an image.
Only the running maximum, sum and sum of squares over the N maps are kept.
"""

import hashlib

import tensorflow as tf

from ficklenet_tf import selections, stochastic

BLOCK = 10  # selections drawn at once; part of what a seed means


def image_seed(seed, image_id):
    """Returns `[2]` int32 for one image of a run: a function of (seed, image id) alone."""
    digest = hashlib.sha256(f"{seed}:{image_id}".encode()).digest()
    return tf.constant([int.from_bytes(digest[i:i + 4], "little", signed=True) for i in (0, 4)], tf.int32)


def localize(head, features, classes, seed, *, selections, selection="stochastic", method="closed_form", samples=0):
    """Aggregates the maps of one image. Call it inside a tf.function.

    Args:
      head: a built `stochastic.StochasticHead`; with `method="tape"` any object with `kernel_size`,
        `rate`, `rescale` and a differentiable `logits(x, selection)`.
      features: `[h, w, k]` float32, static shape.
      classes: `[c]` int32, the classes to localize, 0 the first foreground class.
      seed: `[2]` int32. The i-th selection is the same whatever N, method or batch.
      selections: N, a Python int or scalar tensor.
      selection: "stochastic", "general" or "deterministic" (one map; N is not used).
      method: "closed_form" or "tape".
      samples: how many of the first maps (at most `BLOCK`) to return as they are.

    Returns:
      A dict of float32: "mean", "max", "std" `[h, w, c]` over the N maps, each map 0..1 by its own
      maximum (a map without a positive value is 0), and "samples" `[samples, h, w, c]`.
    """
    if method not in ("closed_form", "tape"):
        raise ValueError(f"method: expected closed_form or tape, found {method!r}")
    if selection not in stochastic.SELECTIONS:
        raise ValueError(f"selection: expected one of {', '.join(stochastic.SELECTIONS)}, found {selection!r}")
    height, width, _ = features.shape
    block_maps = (_closed_form if method == "closed_form" else _tape)(head, features, classes, selection)
    selections = tf.constant(1) if selection == "deterministic" else tf.cast(selections, tf.int32)
    blocks = (selections + BLOCK - 1) // BLOCK

    def normalized(block):
        bits = _draw(seed, block, features.shape, head, selection)
        maps = tf.nn.relu(block_maps(bits))  # [h * w, BLOCK, c]
        return tf.math.divide_no_nan(maps, tf.reduce_max(maps, axis=0, keepdims=True))

    def body(block, total, squares, highest):
        used = (block * BLOCK + tf.range(BLOCK) < selections)[None, :, None]
        maps = normalized(block) * tf.cast(used, tf.float32)
        return (block + 1, total + tf.reduce_sum(maps, 1), squares + tf.reduce_sum(maps * maps, 1),
                tf.maximum(highest, tf.reduce_max(maps, 1)))

    zero = tf.zeros([height * width, tf.shape(classes)[0]])
    _, total, squares, highest = tf.while_loop(lambda block, *_: block < blocks, body, (0, zero, zero, zero),
                                               shape_invariants=(tf.TensorShape([]), *[zero.shape] * 3))
    count = tf.cast(selections, tf.float32)
    mean = total / count
    spread = tf.sqrt(tf.nn.relu(squares / count - mean * mean))
    result = {name: tf.reshape(value, [height, width, -1])
              for name, value in (("mean", mean), ("max", highest), ("std", spread))}
    if samples:
        first = tf.transpose(normalized(0)[:, :samples], [1, 0, 2])
        result["samples"] = tf.reshape(first, [samples, height, width, tf.shape(classes)[0]])
    return result


def _draw(seed, block, shape, head, selection):
    """Bits of BLOCK selections: `[h * w, BLOCK, s * s]`, for «general» `[h * w, BLOCK, k]`, else None."""
    if selection == "deterministic":
        return None
    height, width, channels = shape
    units = channels if selection == "general" else head.kernel_size**2
    own = tf.random.fold_in(seed, block)
    return selections.keep_bits(own, (height * width, BLOCK, units), head.rate)


def _weights(bits, shape, head):
    """Completes drawn bits to t[u, d], the BLOCK axis first: `[BLOCK, h * w, s * s]`."""
    return selections.weights_of(tf.transpose(bits, [1, 0, 2]), shape[0], shape[1], head.kernel_size, head.rate,
                                 head.rescale)


def _general_scale(bits, rate):
    return tf.cast(bits, tf.float32) / max(1 - rate, 1e-9)


def _closed_form(head, x, classes, selection):
    """Returns a function from drawn bits to maps `[h * w, BLOCK, c]` before the ReLU."""
    height, width, channels = x.shape
    s, area = head.kernel_size, height * width
    flat = tf.reshape(x, [area, channels])
    kernel = tf.reshape(tf.gather(tf.convert_to_tensor(head.kernel), classes, axis=3), [s * s, channels, -1])
    if selection == "stochastic":
        scale = selections.weights_of(tf.ones([area, s * s], tf.bool), height, width, s, head.rate, head.rescale)
        y = tf.einsum("uk,dkc->udc", flat, kernel) * scale[..., None] / area
        centre = tf.one_hot(s * s // 2, s * s, True, False)
        return lambda bits: tf.matmul(tf.cast(bits | centre, tf.float32), y)
    seen = tf.constant(selections.inside(height, width, s), tf.float32)
    contribution = flat[..., None] * tf.einsum("ud,dkc->ukc", seen, kernel) / area
    if selection == "general":
        return lambda bits: tf.matmul(_general_scale(bits, head.rate), contribution)
    return lambda bits: tf.repeat(tf.reduce_sum(contribution, 1)[:, None], BLOCK, axis=1)


def _tape(head, x, classes, selection):
    """As `_closed_form`, by one forward and one backward pass a selection (Eq. 1 as it is written)."""
    height, width, channels = x.shape
    count = tf.shape(classes)[0]
    rows = tf.repeat(x[None], count, axis=0)  # one row a class, so one gradient serves all classes

    def one_map(factor, weights):
        with tf.GradientTape() as tape:
            tape.watch(rows)
            selected = None if weights is None else tf.repeat(weights[None], count, axis=0)
            scores = tf.gather(head.logits(rows * factor, selected), classes, axis=1, batch_dims=0)
            score = tf.reduce_sum(tf.linalg.diag_part(scores))
        maps = tf.reduce_sum(tf.reshape(rows * tape.gradient(score, rows), [count, height * width, channels]), -1)
        return tf.transpose(maps)

    def block_maps(bits):
        if selection == "deterministic":
            return tf.repeat(one_map(1.0, None)[:, None], BLOCK, axis=1)
        one = tf.TensorSpec([height * width, None], tf.float32)
        if selection == "general":
            factors = tf.reshape(tf.transpose(_general_scale(bits, head.rate), [1, 0, 2]), [BLOCK, *x.shape])
            maps = tf.map_fn(lambda f: one_map(f, None), factors, fn_output_signature=one, parallel_iterations=1)
        else:
            weights = _weights(bits, x.shape, head)
            maps = tf.map_fn(lambda w: one_map(1.0, w), weights, fn_output_signature=one, parallel_iterations=1)
        return tf.transpose(maps, [1, 0, 2])

    return block_maps
