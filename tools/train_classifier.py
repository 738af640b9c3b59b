r"""Trains the classifier on image-level tags.

    python -m tools.train_classifier --dataset=voc --data_dir=VOCdevkit --preset=cpu --weights=vgg16.npz \
        --output_dir=runs/voc

Reads photographs and tags; writes OUTPUT_DIR/classifier/ (weights, checkpoints, log.csv,
tensorboard/, run.json with the mAP of the tags on the held-out split).

--objectives=tags,mining is GAIN, and mining_masks beside it learns the masks of the images of --strong_split (VOC:
train) or of --strong_images too. --head=eps --objectives=tags,saliency is EPS; it learns
OUTPUT_DIR/saliency/ of tools.make_saliency, or --saliency_dir.
"""

from absl import flags

from ficklenet_tf import presets
from ficklenet_tf.runs import layout
from tools import cli, define, texts

_MASKS = "--objectives=tags,mining_masks"

flags.DEFINE_string("weights", "", define.WEIGHTS)
flags.DEFINE_string("held_out", None, define.HELD_OUT)
define.name(layout.CLASSIFIER)
flags.DEFINE_boolean("cache_flips", False, "With frozen layers: keep what they give of the mirrored photographs too.")
define.strong(_MASKS)
flags.DEFINE_string("saliency_dir", None, define.SALIENCY_DIR)
define.data(None)
define.training()
define.stage(presets.ClassifierConfig)


def main() -> None:
    """Trains, or says that it is done."""
    from ficklenet_tf import distribution
    from ficklenet_tf.training import classifier as classifier_training
    from ficklenet_tf.training import classifier_losses, rehearsal

    run_dir, name, config = cli.run_dir(), cli.FLAGS.name, cli.config(presets.ClassifierConfig)
    learns_masks = bool(set(config.objectives) & set(classifier_losses.NEED_MASKS))
    with distribution.strategy(cli.FLAGS.distribute).scope():  # before anything else is computed
        split, held_out = cli.splits()
        options = classifier_training.Options(
            cli.FLAGS.weights, cli.FLAGS.seed, cli.FLAGS.cache_flips, cli.loop_options(),
            saliency_dir=cli.FLAGS.saliency_dir, strong=cli.strong(split, learns_masks, _MASKS))
        cli.restart_stages(name)
        if cli.FLAGS.rehearsal:
            rehearsal.rehearse_classifier(run_dir, split, held_out, config, options, name=name)
        run = classifier_training.train(run_dir / name, split, held_out, config, options)
    cli.done(f"classifier: {texts.map_text(run['metrics'])} in {run['held_out']}", run_dir / name)


if __name__ == "__main__":
    cli.start(main)
