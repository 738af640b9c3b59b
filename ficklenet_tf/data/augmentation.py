"""Random changes of a training photograph together with its labels.

Size and place are changed as the photograph is read (NumPy, OpenCV), colours in the step, on the device that
computes it. What is drawn is a function of the generator or of the seeds.
"""

import cv2
import numpy as np
import tensorflow as tf

from ficklenet_tf import random_seeds
from ficklenet_tf.data import images, labels

_GREY = (0.299, 0.587, 0.114)  # a colour's brightness, ITU-R BT.601


def mirror(array: np.ndarray, mirrored: bool) -> np.ndarray:
    """Returns an image `[height, width, 3]` or `[height, width]` turned left to right, or as it is."""
    return cv2.flip(array, 1) if mirrored else array


def scale_and_crop(image: np.ndarray, label: np.ndarray | None, size: int, rng: np.random.Generator,
                   scales: tuple[float, float] = (0.5, 1.5)) -> tuple[np.ndarray, np.ndarray | None]:
    """Random scale, then a random `size` x `size` crop; what lies outside is padded and ignored (DeepLab).

    Args:
      image: `[height, width, 3]` uint8 RGB.
      label: `[height, width]` uint8, or None.
      size: side of the crop in pixels.
      rng: draws the scale, then the place of the crop.
      scales: least and greatest factor.

    Returns:
      image `[size, size, 3]` uint8 (padding: the scaled image's mean colour) and label
      `[size, size]` uint8 (padding: 255), or None.
    """
    factor, corner = rng.uniform(*scales), rng.random(2)
    shape = [max(1, round(side * factor)) for side in image.shape[:2]]
    image = cv2.resize(image, shape[::-1], interpolation=cv2.INTER_LINEAR)
    pads = [(0, max(0, size - side)) for side in shape]
    top, left = (int(c * (side + extra - size + 1)) for c, side, (_, extra) in zip(corner, shape, pads, strict=True))
    window = np.s_[top:top + size, left:left + size]
    colour = [round(channel) for channel in cv2.mean(image)[:3]]
    image = cv2.copyMakeBorder(image, *pads[0], *pads[1], cv2.BORDER_CONSTANT, value=colour)[window]
    if label is None:
        return image, None
    return image, np.pad(images.nearest(label, shape), pads, constant_values=labels.IGNORE)[window]


def photometric(batch: tf.Tensor, seeds: tf.Tensor, strength: float) -> tf.Tensor:
    """Changes brightness, contrast and saturation of each image by up to `strength`, in one product per pixel.

    Contrast is about the image's mean colour, saturation about each pixel's grey.

    Args:
      batch: `[b, h, w, 3]` RGB 0..255.
      seeds: `[b, 2]` int32, one per image: the same seed gives the same change.
      strength: 0..1.

    Returns:
      `[b, h, w, 3]` float32, 0..255.
    """
    batch = tf.cast(batch, tf.float32)
    draws = tf.map_fn(lambda seed: random_seeds.uniform(random_seeds.fold_in(seed, 3), 3), seeds,
                      fn_output_signature=tf.TensorSpec([3], tf.float32))
    draws = strength * (2 * draws - 1)
    brightness, contrast, saturation = (draws[:, i, None, None] for i in range(3))
    contrast, saturation = 1 + contrast, 1 + saturation
    mixing = saturation * tf.eye(3) + (1 - saturation) * tf.constant(_GREY)[None, :, None]  # [b, from, to]
    mean = tf.reduce_mean(batch, axis=(1, 2))[:, None]
    shift = tf.matmul((1 - contrast) * mean + 127.5 * brightness, mixing)
    shape = tf.shape(batch)
    changed = tf.matmul(tf.reshape(batch, [shape[0], -1, 3]), contrast * mixing) + shift
    return tf.reshape(tf.clip_by_value(changed, 0, 255), shape)
