"""What comes in over the wire: refused with a clear message where it is not what a signature takes."""

from collections.abc import Sequence

import tensorflow as tf

from ficklenet_tf.serving import png

Condition = tuple[tf.Tensor, str, tf.Tensor]  # scalar bool, what was expected, a tensor that says what was found


def check_images(images: tf.Tensor, max_pixels: int, max_batch: int) -> tf.Tensor:
    """Returns `images` after the check that they have pixels, and not too many.

    Args:
      images: `[n, h, w, 3]` uint8.
      max_pixels: n * h * w at most.
      max_batch: n at most.

    Raises:
      tf.errors.InvalidArgumentError: when run, for another shape, an empty axis or too many pixels.
    """
    images = check_shape(images, "images", (None, None, None, 3), "uint8 [n, height, width, 3], RGB")
    shape = tf.shape(images, tf.int64)
    return demand(images, [
        (tf.reduce_all(shape[:3] > 0), "images: expected no empty axis, found the shape", shape),
        (shape[0] <= max_batch, f"images: expected at most {max_batch} in one request, found", shape[0]),
        (tf.reduce_prod(shape[:3]) <= max_pixels, f"images: expected at most {max_pixels} pixels, found the shape",
         shape)])


def undeclared(spec: tf.TensorSpec) -> tf.TensorSpec:
    """Returns a signature's input as its graph takes it: of any shape, see `check_shape`."""
    return tf.TensorSpec(None, spec.dtype, spec.name)


def check_shape(value: tf.Tensor, name: str, shape: Sequence[int | None], expected: str) -> tf.Tensor:
    """Returns `value` once it has the shape that its signature declares: a server does not look.

    Args:
      value: what came in, of a shape that the graph does not know (`undeclared`): else TensorFlow takes the check
        for settled.
      name: of the input, for the message.
      shape: None for an axis of any length.
      expected: the shape in words, for the message.

    Raises:
      tf.errors.InvalidArgumentError: when run, for another rank or length.
    """
    message = f"{name}: expected {expected}, found the shape"
    # Not tf.rank: the shape that is ensured below would settle it, and the check with it.
    value = demand(value, [(tf.equal(tf.size(tf.shape(value)), len(shape)), message, tf.shape(value))])
    found = tf.shape(value)
    lengths = [(axis, length) for axis, length in enumerate(shape) if length is not None]
    value = demand(value, [(tf.equal(found[axis], length), message, found) for axis, length in lengths])
    return tf.ensure_shape(value, shape)


def demand(value: tf.Tensor, conditions: Sequence[Condition]) -> tf.Tensor:
    """Returns `value` once the conditions hold.

    Args:
      value: a tensor.
      conditions: list of `Condition`.

    Raises:
      tf.errors.InvalidArgumentError: when run, for the first that does not.
    """
    checks = [tf.debugging.Assert(holds, [message, actual], summarize=8) for holds, message, actual in conditions]
    with tf.control_dependencies(checks):
        return tf.identity(value)


def check_rows(values: tf.Tensor, images: tf.Tensor, name: str, row: Sequence[int] = ()) -> tf.Tensor:
    """Returns `values` once there is one row for each of `images`.

    Args:
      values: `[n, *row]`.
      images: `[n, h, w, 3]`.
      name: of the input, for the message.
      row: shape of a row.

    Raises:
      tf.errors.InvalidArgumentError: when run, for another shape.
    """
    expected = ", ".join(map(str, ("n", *row)))
    values = check_shape(values, name, (None, *row), f"{values.dtype.name} [{expected}], one row per image")
    return demand(values, [(tf.equal(tf.shape(values)[0], tf.shape(images)[0]),
                            f"{name}: expected one row per image, found the shape", tf.shape(values))])


def decode(encoded: tf.Tensor, max_pixels: int) -> tf.Tensor:
    """Decodes one JPEG or PNG to `[h, w, 3]` uint8, its size checked before any pixel is unpacked.

    Args:
      encoded: scalar string.
      max_pixels: height * width at most: a decompression bomb is refused by its header.

    Raises:
      tf.errors.InvalidArgumentError: when run, for other bytes, broken files and too many pixels.
    """
    head = tf.strings.substr(encoded, 0, 24)
    is_png = tf.equal(tf.strings.substr(encoded, 0, 4), b"\x89PNG") & tf.equal(tf.strings.length(head), 24)
    is_jpeg = tf.equal(tf.strings.substr(encoded, 0, 2), b"\xff\xd8")
    encoded = demand(encoded, [(is_png | is_jpeg, "image: expected the bytes of a JPEG or PNG; found another format, "
                                "number of bytes", tf.strings.length(encoded))])
    size = tf.cond(is_png, lambda: png.size(head),
                   lambda: tf.cast(tf.image.extract_jpeg_shape(encoded)[:2], tf.int64))
    # Each side first: the product of two 32-bit numbers may not fit.
    encoded = demand(encoded, [(tf.reduce_all((size > 0) & (size <= max_pixels)) & (size[0] * size[1] <= max_pixels),
                                f"image: expected 1 to {max_pixels} pixels, found height and width", size)])
    image = tf.cond(is_png, lambda: tf.io.decode_png(encoded, channels=3),
                    lambda: tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE"))  # Pillow's pixels
    return tf.ensure_shape(image, [None, None, 3])
