"""Trains the segmenter on seeds, with the seed loss and the dense-CRF boundary loss.

    python -m tools.train_segmenter --dataset=voc --data_dir=VOCdevkit --preset=cpu --output_dir=runs/voc

Reads OUTPUT_DIR/classifier/ and OUTPUT_DIR/seeds/; writes OUTPUT_DIR/segmenter/. With --retrain_steps
above 0 a second round follows (DSRG's retraining): the first network labels the training images
(OUTPUT_DIR/segmenter_labels/, restricted to the tags, refined by the dense CRF) and goes on to learn
from them in OUTPUT_DIR/segmenter_retrained/.
"""

from absl import flags

from ficklenet_tf import presets, retraining
from tools import binary

flags.DEFINE_string("weights", "", "Backbone for --initial=weights, see tools.train_classifier.")
flags.DEFINE_enum("initial", "classifier", ("classifier", "weights"), "Where the backbone's weights come from.")
flags.DEFINE_string("seeds", "seeds", "Directory below OUTPUT_DIR with the label images to train on.")
flags.DEFINE_string("name", "segmenter", "Directory below OUTPUT_DIR for this stage.")
flags.DEFINE_boolean("jit_compile", False, "Compile the training step by XLA.")
binary.define_data(None)
binary.define_stage(presets.Segmenter)


def main():
    """Trains one or two rounds, or says that they are done."""
    name, run_dir = binary.FLAGS.name, binary.run_dir()
    stage = retraining.train_rounds(
        run_dir, binary.split(), binary.stage("segmenter"), seeds=binary.FLAGS.seeds, name=name,
        initial=binary.FLAGS.initial, weights=binary.FLAGS.weights, seed=binary.FLAGS.seed,
        jit_compile=binary.FLAGS.jit_compile)
    binary.done("segmenter", run_dir / stage)


if __name__ == "__main__":
    binary.start(main)
