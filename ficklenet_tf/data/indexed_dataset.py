"""tf.data datasets of what a Python function returns for each index, on all cores and in order.

`tf.data.Dataset.from_generator` is not used anywhere: it works on one element after the other, and its op sets glibc's
M_TRIM_THRESHOLD to 128 kB for the whole process, so that every image and every large tensor afterwards is
fetched from the kernel page by page, and given back (TensorFlow 2.21, generator_dataset_op.cc).
"""

import os
from collections.abc import Callable

import numpy as np
import tensorflow as tf

_AT_ONCE = 8  # more threads than that wait for Python's lock


def dataset(indices: range, read: Callable[[int], dict[str, np.ndarray]],
            signature: dict[str, tf.TensorSpec]) -> tf.data.Dataset:
    """Returns the endless or finite tf.data.Dataset of read(i) for i in `indices`, in their order.

    Args:
      indices: a `range` of step 1.
      read: int -> dict of arrays as in `signature`; called by several threads at once.
      signature: {name: tf.TensorSpec}.

    Raises:
      tf.errors.OpError: `read` raised an error; comes when its element is asked for, with the text of that error.
    """
    names = list(signature)

    def read_in_order(index: np.ndarray) -> list[np.ndarray]:
        arrays = read(int(index))
        return [arrays[name] for name in names]

    def element(index: tf.Tensor) -> dict[str, tf.Tensor]:
        values = tf.numpy_function(read_in_order, [index], [signature[name].dtype for name in names])
        return {name: tf.ensure_shape(value, signature[name].shape)
                for name, value in zip(names, values, strict=True)}

    threads = min(os.cpu_count() or 1, _AT_ONCE)
    return tf.data.Dataset.range(indices.start, indices.stop).map(element, num_parallel_calls=threads).prefetch(2)
