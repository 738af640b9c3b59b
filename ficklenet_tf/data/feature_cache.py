"""Features of a frozen backbone, computed once and kept on disk (float16, one file per image).

With the backbone frozen, both networks train on what lies above conv5, so one
pass over the photographs serves the classifier, the maps and the segmenter.
"""

import concurrent.futures
import dataclasses
import functools
import hashlib
import io
import pathlib
import zlib

import numpy as np
import tensorflow as tf

from ficklenet_tf.data import images, indexed_dataset
from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import artifacts, progress

_NPY_HEADER = 128  # bytes that NumPy writes before the data of a small array
_CHECKSUMS, _SHAPE = "photographs.json", "features.json"


@dataclasses.dataclass(frozen=True)
class FeatureCache:
    """A directory of features, `<image id>.npy` and `<image id>.flipped.npy`, made by one frozen backbone.

    Attributes:
      directory: where the files are.
      flips: whether the features of each mirrored photograph are there too (they are not the mirrored features).
    """

    directory: pathlib.Path
    flips: bool = False

    @classmethod
    def of_run(cls, run):
        """Returns the cache that a stage used, from its run.json as a dict; None where it used none."""
        stored = run.get("features")
        return None if stored is None else cls(pathlib.Path(stored["directory"]), stored["flips"])

    def as_json(self):
        """Returns what `of_run` reads, for the "features" of a run.json."""
        return {"directory": str(self.directory), "flips": self.flips}

    @functools.cached_property
    def shape(self):
        """(height, width, channels) of the features; known once one file is there."""
        return tuple(artifacts.read_json(self.directory / _SHAPE)["shape"])

    @functools.cached_property
    def _checksums(self):
        path = self.directory / _CHECKSUMS
        return artifacts.read_json(path) if path.exists() else {}

    def path(self, image_id, flipped=False):
        """Returns the file of an image's features, or of its mirror image's."""
        return self.directory / f"{image_id}{'.flipped' if flipped else ''}.npy"

    def holds(self, image_id, encoded):
        """Whether an image's features are there, and of this photograph: `encoded`, its bytes."""
        known = self._checksums.get(image_id)
        return self.path(image_id).exists() and known in (None, checksum(encoded))

    def load(self, image_id, mirrored=False):
        """Returns `[height, width, channels]` float16 of an image or of its mirror image.

        Without the mirror images' features, an image's own are mirrored, which is close but not the same.
        """
        stored = mirrored and self.flips
        features = np.load(self.path(image_id, stored))
        return features[:, ::-1] if mirrored and not stored else features

    def read(self, path):
        """Reads one of the files inside a graph: scalar string tensor -> `[height, width, channels]` float16."""
        data = tf.strings.substr(tf.io.read_file(path), _NPY_HEADER, -1)
        return tf.reshape(tf.io.decode_raw(data, tf.float16), self.shape)

    def fill(self, split, backbone, normalization, *, size, flips=None, batch_size=8):
        """Computes what is missing of a split's features, and what was made of another photograph of the same name.

        Args:
          split: a `datasets.Split`.
          backbone: keras.Model, `[b, size, size, 3]` -> `[b, h, w, channels]`.
          normalization: the backbone's `images.Normalization`.
          size: side to which photographs are warped, in pixels.
          flips: also of the mirrored photographs; None: as the cache's `flips`.
          batch_size: images per pass.

        Returns:
          The number of files written.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        before, flips = self._checksums, self.flips if flips is None else flips
        now = {image_id: checksum(split[i]["image"]) for i, image_id in enumerate(split.image_ids)}
        replaced = {image_id for image_id in now if before.get(image_id, now[image_id]) != now[image_id]}
        wanted = [(i, flipped) for i in range(len(split)) for flipped in ((False, True) if flips else (False,))]
        wanted = [(i, flipped) for i, flipped in wanted if split.image_ids[i] in replaced
                  or not self.path(split.image_ids[i], flipped).exists()]
        if not wanted:
            return 0
        forward = tf.function(lambda x: tf.cast(backbone(x, training=False), tf.float16), reduce_retracing=True)
        done = 0
        with (concurrent.futures.ThreadPoolExecutor(2) as writers,
              progress.bar(total=len(wanted), desc="features", unit="img", smoothing=0.05) as bar):
            for batch in _photographs(split, wanted, normalization, size).batch(batch_size).prefetch(2):
                features = forward(batch).numpy()
                if done == 0:
                    artifacts.write_json(self.directory / _SHAPE, {"shape": list(features.shape[1:]), "size": size})
                chosen = wanted[done:done + len(features)]
                list(writers.map(_write, [self.path(split.image_ids[i], flipped) for i, flipped in chosen], features))
                done += len(features)
                bar.update(len(features))
        artifacts.write_json(self.directory / _CHECKSUMS, {**before, **now})
        self.__dict__.pop("_checksums", None)
        return done


def cache_directory(root, *, dataset, backbone, weights, size, precision, seed):
    """Returns the directory for features made with these settings: other settings, another directory.

    `seed` counts where there are no weights to load: it made the random ones.
    """
    source = f"random {seed}" if not weights else "imagenet" if weights == "imagenet" else ""
    digest = hashlib.sha256(repr((dataset, backbone, size, precision, source)).encode())
    if weights and weights != "imagenet":
        digest.update(pathlib.Path(weights).read_bytes())
    return pathlib.Path(root) / f"{dataset}-{backbone}-{size}-{digest.hexdigest()[:8]}"


def checksum(encoded):
    """Returns an int that tells one photograph's bytes from another's."""
    return zlib.crc32(encoded)


def check_augmentation(config):
    """Raises UserError where a training's changes of photographs would be lost on cached features."""
    lost = [name for name in ("photometric", "random_crop") if getattr(config, name, False)]
    if lost:
        raise UserError(f"{' and '.join(lost)}: expected none with a frozen backbone, whose features are computed "
                        "once, from the photographs as they are; pass --photometric=0 --norandom_crop, or "
                        "--trainable_layers=last_block")


def _photographs(split, wanted, normalization, size):
    """Dataset of the network's inputs `[size, size, 3]` for `wanted`, (index, flipped) of each."""
    def encoded(number):
        index, flipped = wanted[number]
        return {"encoded": split[index]["image"], "flipped": np.bool_(flipped)}

    def prepare(element):
        image = images.warp(images.decode_image_op(element["encoded"]), size)
        image = tf.cond(element["flipped"], lambda: tf.reverse(image, [1]), lambda: image)
        return images.normalize(image, normalization)

    elements = indexed_dataset.dataset(range(len(wanted)), encoded, {"encoded": tf.TensorSpec([], tf.string),
                                                                     "flipped": tf.TensorSpec([], tf.bool)})
    return elements.map(prepare, num_parallel_calls=tf.data.AUTOTUNE)


def _write(path, features):
    buffer = io.BytesIO()
    np.save(buffer, features)
    artifacts.write_bytes(path, buffer.getvalue())
