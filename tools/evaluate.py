"""Predicts a split and scores it: one confusion matrix, original size, 255 ignored, mean over all classes.

    python -m tools.evaluate --dataset=voc --data_dir=VOCdevkit --preset=cpu --output_dir=runs/voc

Reads OUTPUT_DIR/segmenter/ (or --stage); writes label images to OUTPUT_DIR/predictions/ and, refined by the
dense CRF, predictions_crf/, and the scores as table, CSV and JSON to OUTPUT_DIR/evaluation/.
"""

from absl import flags

from ficklenet_tf import evaluation, prediction
from tools import binary

flags.DEFINE_string("stage", None, "Segmenter's directory below OUTPUT_DIR (default: the last round's).")
flags.DEFINE_string("name", "predictions", "Directory below OUTPUT_DIR for the label images.")
flags.DEFINE_enum("crf", "dsrg", list(prediction.CRFS), "Dense CRF's parameters; none: without.")
flags.DEFINE_list("test_sizes", None, "Sides for multi-scale prediction (default: the preset's).")
flags.DEFINE_boolean("test_flip", None, "Also predict the mirror image (default: the preset's).")
binary.define_data(None)


def main():
    """Predicts what is missing, then scores."""
    run_dir, sizes = binary.run_dir(), binary.FLAGS.test_sizes
    scored = evaluation.evaluate(
        run_dir, binary.split(binary.FLAGS.split, held_out=True), stage=binary.FLAGS.stage, name=binary.FLAGS.name,
        spec=prediction.CRFS[binary.FLAGS.crf], sizes=tuple(map(int, sizes)) if sizes else None,
        flip=binary.FLAGS.test_flip)
    for name, scores in scored.items():
        binary.done(f"{name}: mIoU {100 * scores['miou']:.1f} on {scores['images']} images",
                    run_dir / "evaluation" / f"{name}.json")
    print((run_dir / "evaluation" / f"{name}.txt").read_text())


if __name__ == "__main__":
    binary.start(main)
