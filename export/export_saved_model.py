"""Exports a run for serving.

    python -m export.export_saved_model --output_dir=runs/demo --version=1

Reads the segmenter's last finished round and OUTPUT_DIR/classifier/; writes OUTPUT_DIR/saved_model/VERSION/ for
TensorFlow Serving, and lists it in models.config beside it, or with --format=onnx, openvino or litert
OUTPUT_DIR/FORMAT/VERSION/. export/README.md says how to serve it; export.rollout lets running servers use it.
"""

import pathlib
from typing import TYPE_CHECKING

from absl import flags

from ficklenet_tf import configs
from ficklenet_tf.errors import UserError
from tools import cli, define, words

if TYPE_CHECKING:
    import numpy as np

define.run_dir()
define.imports()
flags.DEFINE_integer("version", 1, "TensorFlow Serving's version number.", lower_bound=1,
                     upper_bound=2**63 - 1)
flags.DEFINE_enum("format", "tf_saved_model", words.EXPORTS, "What to export to.")
define.segmenter()
flags.DEFINE_enum("crf", "dsrg", [*words.CRFS, words.AUTO], "Dense CRF of the signature serve_crf; none: without "
                  "it; auto: what tools.evaluate --crf=auto has chosen.")
flags.DEFINE_boolean("localization_maps", True, "Also export the signature localization_maps, and the "
                     "classifier with it.")
flags.DEFINE_enum("precision", None, configs.PRECISIONS, "Of the network's inside (default: as it was trained; "
                  "of other formats float32).")
define.sizes("test_sizes", None, "Sides of the multi-scale prediction (default: the preset's).")
flags.DEFINE_boolean("test_flip", None, "Average mirror images in (default: the preset's).")
flags.DEFINE_integer("max_side", 0, "Longest side to compute on; a larger photograph is shrunk to it. 0: no bound.",
                     lower_bound=0)
define.sizes("size_buckets", [], "Sides to pad photographs to, instead of warping them to --test_sizes.")
flags.DEFINE_integer("max_pixels", words.MAX_PIXELS, "Of one request; more is refused.", lower_bound=64)
flags.DEFINE_integer("max_batch", words.MAX_BATCH, "Photographs in a request; more is refused.", lower_bound=1)
flags.DEFINE_boolean("batching", False, "For servers with --enable_batching: serve_jpeg alone, and "
                     "batching_parameters.txt beside the versions.")
flags.DEFINE_string("base_path", None, "The versions' directory as the server sees it, in models.config (default: "
                    f"{words.BASE_PATH}, or what is there).")
flags.DEFINE_string("photographs", None, "Directory of photographs on which agreement is measured for the model card.")
flags.DEFINE_integer("max_photographs", 50, "Of --photographs, how many at most.", lower_bound=1)


def _photographs() -> "list[np.ndarray]":
    from ficklenet_tf.data import images

    directory = cli.FLAGS.photographs
    if directory is None:
        return []
    paths = [path for path in sorted(pathlib.Path(directory).glob("*"))
             if path.suffix.lower() in (".jpg", ".jpeg", ".png")][:cli.FLAGS.max_photographs]
    if not paths:
        raise UserError(f"{directory}: expected a directory of .jpg or .png files, found none")
    return [images.read_image(path) for path in paths]


def main() -> None:
    """Exports, or says that it is done."""
    from ficklenet_tf.seeds import crf_choice
    from ficklenet_tf.serving import formats, loading, saved_model

    flags_ = cli.FLAGS
    applied = loading.Options(
        flags_.precision, None if flags_.test_sizes is None else cli.integers("test_sizes", flags_.test_sizes),
        flags_.test_flip,
        flags_.max_pixels, flags_.max_batch, flags_.max_side, cli.integers("size_buckets", flags_.size_buckets))
    if flags_.format == "tf_saved_model":
        key = crf_choice.chosen(flags_.output_dir, flags_.crf, flags_.segmenter)
        options = saved_model.Options(flags_.segmenter, key, flags_.localization_maps, flags_.batching,
                                      flags_.base_path, applied)
        target = saved_model.export(flags_.output_dir, flags_.version, options, photographs=_photographs())
    else:
        target = formats.export(flags_.output_dir, flags_.version, flags_.format, applied, stage_name=flags_.segmenter,
                                photographs=_photographs())
    cli.done(flags_.format, target)


if __name__ == "__main__":
    cli.start(main)
