"""Features of a frozen backbone, computed once and kept on disk (float16, one file an image).

With the backbone frozen, both networks train on what lies above conv5, so one
pass over the photographs serves the classifier, the maps and the segmenter.
"""

import concurrent.futures
import hashlib
import io
import pathlib
import zlib

import numpy as np
import tensorflow as tf

from ficklenet_tf.data import images, indexed_dataset
from ficklenet_tf.runs import artifacts, progress

_NPY_HEADER = 128  # bytes that NumPy writes before the data of a small array
_CHECKSUMS = "photographs.json"


def cache_directory(root, *, dataset, backbone, weights, size, precision, seed):
    """Returns the directory for features made with these settings: other settings, another directory.

    `seed` counts where there are no weights to load: it made the random ones.
    """
    source = f"random {seed}" if not weights else "imagenet" if weights == "imagenet" else ""
    digest = hashlib.sha256(repr((dataset, backbone, size, precision, source)).encode())
    if weights and weights != "imagenet":
        digest.update(pathlib.Path(weights).read_bytes())
    return pathlib.Path(root) / f"{dataset}-{backbone}-{size}-{digest.hexdigest()[:8]}"


def path_of(directory, image_id, flipped=False):
    """Returns the file of an image's features, or of its mirror image's."""
    return pathlib.Path(directory) / f"{image_id}{'.flipped' if flipped else ''}.npy"


def read(path, shape):
    """Reads a cached file inside a graph.

    Args:
      path: scalar string tensor.
      shape: (height, width, channels).

    Returns:
      `[height, width, channels]` float16.
    """
    data = tf.strings.substr(tf.io.read_file(path), _NPY_HEADER, -1)
    return tf.reshape(tf.io.decode_raw(data, tf.float16), shape)


def shape_in(directory):
    """Returns (height, width, channels) of the features kept in `directory`."""
    return tuple(artifacts.read_json(pathlib.Path(directory) / "features.json")["shape"])


def cache(split, backbone, normalization, *, size, directory, flips=False, batch_size=8):
    """Computes what is missing of a split's features, and what was made of another photograph of the same name.

    Args:
      split: a `datasets.Split`.
      backbone: keras.Model, `[b, size, size, 3]` -> `[b, h, w, channels]`.
      normalization: the backbone's `images.Normalization`.
      size: side to which photographs are warped, in pixels.
      directory: where the files go; what is there is not computed again.
      flips: also the features of each mirrored photograph (they are not the mirrored features).
      batch_size: images a pass.

    Returns:
      The number of files written.
    """
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    before = checksums(directory)
    now = {image_id: checksum(split[i]["image"]) for i, image_id in enumerate(split.image_ids)}
    replaced = {image_id for image_id in now if before.get(image_id, now[image_id]) != now[image_id]}
    wanted = [(i, flipped) for i in range(len(split)) for flipped in ((False, True) if flips else (False,))]
    wanted = [(i, f) for i, f in wanted if split.image_ids[i] in replaced
              or not path_of(directory, split.image_ids[i], f).exists()]
    if not wanted:
        return 0

    def encoded(number):
        index, flipped = wanted[number]
        return {"encoded": split[index]["image"], "flipped": np.bool_(flipped)}

    def prepare(element):
        image = images.warp(images.decode(element["encoded"]), size)
        image = tf.cond(element["flipped"], lambda: tf.reverse(image, [1]), lambda: image)
        return images.normalize(image, normalization)

    batches = indexed_dataset.dataset(range(len(wanted)), encoded, {"encoded": tf.TensorSpec([], tf.string),
                                                                    "flipped": tf.TensorSpec([], tf.bool)})
    batches = batches.map(prepare, num_parallel_calls=tf.data.AUTOTUNE).batch(batch_size).prefetch(2)
    forward = tf.function(lambda x: tf.cast(backbone(x, training=False), tf.float16), reduce_retracing=True)
    done = 0
    with (concurrent.futures.ThreadPoolExecutor(2) as writers,
          progress.bar(total=len(wanted), desc="features", unit="img", smoothing=0.05) as bar):
        for batch in batches:
            values = forward(batch).numpy()
            if done == 0:
                artifacts.write_json(directory / "features.json", {"shape": list(values.shape[1:]), "size": size})
            chosen = wanted[done:done + len(values)]
            list(writers.map(_write, [path_of(directory, split.image_ids[i], f) for i, f in chosen], values))
            done += len(values)
            bar.update(len(values))
    artifacts.write_json(directory / _CHECKSUMS, {**before, **now})
    return done


def checksum(encoded):
    """Returns an int that tells one photograph's bytes from another's."""
    return zlib.crc32(encoded)


def checksums(directory):
    """Returns {image id: `checksum` of the photograph that its cached features are of}, {} before all are there."""
    path = pathlib.Path(directory) / _CHECKSUMS
    return artifacts.read_json(path) if path.exists() else {}


def check_augmentation(preset):
    """Raises ValueError where a preset's changes of photographs would be lost on cached features."""
    lost = [name for name in ("photometric", "random_crop") if getattr(preset, name, False)]
    if lost:
        raise ValueError(f"{' and '.join(lost)}: expected none with a frozen backbone, whose features are computed "
                         "once, from the photographs as they are; pass --photometric=0 --norandom_crop, or "
                         "--trainable_layers=last_block")


def _write(path, value):
    buffer = io.BytesIO()
    np.save(buffer, value)
    artifacts.write_bytes(path, buffer.getvalue())
