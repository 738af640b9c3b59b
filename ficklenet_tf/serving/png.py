"""Palette PNGs inside a graph: TensorFlow writes grey ones, and a palette makes the same ids visible.

A grey PNG of 8 bits and a palette PNG hold the same pixel data; they differ in one byte of the
header (PNG specification, 11.2.2: colour type 0 or 3), its checksum and the PLTE chunk (11.2.3).
"""

import zlib

import numpy as np
import tensorflow as tf

_HEADER_END = 8 + 8 + 13  # signature, length and type of IHDR, its data; the checksum follows
_COLOUR_TYPE = 8 + 8 + 9


def size(head: tf.Tensor) -> tf.Tensor:
    """Reads height and width from a PNG's first 24 bytes (scalar string); returns `[2]` int64."""
    octets = tf.cast(tf.io.decode_raw(tf.strings.substr(head, 16, 8), tf.uint8), tf.int64)
    width_height = tf.reduce_sum(tf.reshape(octets, [2, 4]) * [2**24, 2**16, 2**8, 1], -1)
    return width_height[::-1]


def encode_palette(labels: tf.Tensor, palette: np.ndarray) -> tf.Tensor:
    """Encodes labels as a palette PNG, in the graph.

    Args:
      labels: `[h, w]` uint8, at least one pixel.
      palette: `[256, 3]` uint8 RGB, NumPy.

    Returns:
      Scalar string.
    """
    grey = tf.io.encode_png(labels[..., None])
    header = tf.strings.substr(grey, 12, _COLOUR_TYPE - 12) + b"\x03" + tf.strings.substr(grey, _COLOUR_TYPE + 1, 3)
    chunk = b"PLTE" + np.asarray(palette, np.uint8).tobytes()
    colours = len(chunk[4:]).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    return tf.strings.join([tf.strings.substr(grey, 0, 12), header, crc32(header, 17), colours,
                            tf.strings.substr(grey, _HEADER_END + 4, -1)])


def crc32(data: tf.Tensor, length: int) -> tf.Tensor:
    """Computes the checksum of PNG's chunks (ISO 3309) in the graph.

    Args:
      data: scalar string of exactly `length` bytes.
      length: Python int.

    Returns:
      Scalar string, four bytes, the highest first.
    """
    codes = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        codes = np.where(codes & 1, np.uint32(0xEDB88320) ^ (codes >> 1), codes >> 1).astype(np.uint32)
    table = tf.constant(codes.astype(np.int64))
    values = tf.cast(tf.ensure_shape(tf.io.decode_raw(data, tf.uint8), [length]), tf.int64)
    state = tf.constant(0xFFFFFFFF, tf.int64)
    for i in range(length):
        low = tf.bitwise.bitwise_and(tf.bitwise.bitwise_xor(state, values[i]), 255)
        state = tf.bitwise.bitwise_xor(tf.gather(table, low), tf.bitwise.right_shift(state, tf.constant(8, tf.int64)))
    state = tf.bitwise.bitwise_xor(state, tf.constant(0xFFFFFFFF, tf.int64))
    octets = tf.bitwise.bitwise_and(tf.bitwise.right_shift(state, tf.constant([24, 16, 8, 0], tf.int64)), 255)
    single = tf.constant([bytes([value]) for value in range(256)])
    return tf.strings.reduce_join(tf.gather(single, octets))
