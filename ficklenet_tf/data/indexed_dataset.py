"""tf.data datasets of what a Python function returns for each index, on all cores and in order.

`tf.data.Dataset.from_generator` is not used anywhere: it works one element after the other, and its op sets glibc's
M_TRIM_THRESHOLD to 128 kB for the whole process, so that every image and every large tensor afterwards is
fetched from the kernel page by page, and given back (TensorFlow 2.21, generator_dataset_op.cc).
"""

import os

import tensorflow as tf

_AT_ONCE = 8  # more threads than that wait for Python's lock


def dataset(indices, read, signature):
    """Returns the endless or finite tf.data.Dataset of read(i) for i in `indices`, in their order.

    Args:
      indices: a `range` of step 1.
      read: int -> dict of arrays as in `signature`; called by several threads at once.
      signature: {name: tf.TensorSpec}.

    Raises:
      tf.errors.OpError: read raised an error, when its element is asked for; its message holds that one's text.
    """
    names = list(signature)

    def arrays(index):
        found = read(int(index))
        return [found[name] for name in names]

    def element(index):
        values = tf.numpy_function(arrays, [index], [signature[name].dtype for name in names])
        return {name: tf.ensure_shape(value, signature[name].shape)
                for name, value in zip(names, values, strict=True)}

    threads = min(os.cpu_count(), _AT_ONCE)
    return tf.data.Dataset.range(indices.start, indices.stop).map(element, num_parallel_calls=threads).prefetch(2)
