"""Exports a run as a SavedModel for TensorFlow Serving.

    python -m export.export_saved_model --run_dir=runs/demo --version=1

Reads RUN_DIR/segmenter/ and RUN_DIR/classifier/; writes RUN_DIR/saved_model/VERSION/.
"""

from absl import flags

from export import saved_model
from tools import binary

flags.DEFINE_string("run_dir", None, "The run's directory.", required=True)
flags.DEFINE_integer("version", 1, "TensorFlow Serving's version number.", lower_bound=1)
flags.DEFINE_string("segmenter", "segmenter", "Directory of the segmenter below RUN_DIR.")
flags.DEFINE_list("sizes", None, "Sides of the multi-scale prediction (default: the preset's).")
flags.DEFINE_boolean("flip", None, "Average mirror images in (default: the preset's).")
flags.DEFINE_integer("max_pixels", saved_model.MAX_PIXELS, "Of one request; more is refused.", lower_bound=1)


def main():
    """Exports, or says that it is done."""
    given = binary.FLAGS
    target = saved_model.export(
        given.run_dir, given.version, stage=given.segmenter, flip=given.flip, max_pixels=given.max_pixels,
        sizes=None if given.sizes is None else [int(size) for size in given.sizes])
    binary.done("saved model", target)


if __name__ == "__main__":
    binary.start(main)
