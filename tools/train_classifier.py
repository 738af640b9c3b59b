"""Trains the classifier on image-level tags.

    python -m tools.train_classifier --dataset=voc --data_dir=VOCdevkit --preset=cpu \
        --weights=vgg16.npz --output_dir=runs/voc

Reads photographs and tags; writes OUTPUT_DIR/classifier/ (weights, checkpoints, log.csv,
tensorboard/, run.json with the mAP of the tags on the held-out split).
"""

from absl import flags

from ficklenet_tf import distribution, presets
from ficklenet_tf.training import classifier as classifier_training
from ficklenet_tf.training import rehearsal
from tools import cli

flags.DEFINE_string("weights", "", "Backbone: imagenet, a path to .npz, .h5 or .weights.h5, or empty for none.")
flags.DEFINE_string("held_out", None, "Split for the mAP (default: the data set's evaluation split).")
flags.DEFINE_string("name", "classifier", "Directory below OUTPUT_DIR.")
flags.DEFINE_boolean("cache_flips", False, "With frozen layers: keep what they give of the mirrored photographs too.")
cli.define_data(None)
cli.define_training()
cli.define_stage(presets.ClassifierConfig)


def main() -> None:
    """Trains, or says that it is done."""
    run_dir, name, config = cli.run_dir(), cli.FLAGS.name, cli.config(presets.ClassifierConfig)
    options = classifier_training.Options(cli.FLAGS.weights, cli.FLAGS.seed, cli.FLAGS.cache_flips,
                                          cli.loop_options())
    with distribution.strategy(cli.FLAGS.distribute).scope():  # before anything else is computed
        split, held_out = cli.split(), cli.split(cli.FLAGS.held_out, held_out=True)
        if cli.FLAGS.rehearsal:
            rehearsal.rehearse_classifier(run_dir, split, held_out, config, options, name=name)
        run = classifier_training.train(run_dir / name, split, held_out, config, options)
    cli.done(f"classifier: mAP {100 * run['metrics']['map']:.1f} on {run['held_out']}", run_dir / name)


if __name__ == "__main__":
    cli.start(main)
