"""Trains the segmenter: on seeds (L_seed + L_boundary) or tags alone, on masks (L_full), or on both.

    python -m tools.train_segmenter --dataset=voc --data_dir=VOCdevkit --preset=cpu --output_dir=runs/voc

Reads OUTPUT_DIR/classifier/ and OUTPUT_DIR/seeds/; writes OUTPUT_DIR/segmenter/. With --retrain_steps
above 0 a second round follows (DSRG's retraining): the first network labels the training images
(OUTPUT_DIR/segmenter_labels/, restricted to the tags, refined by the dense CRF) and goes on to learn
from them in OUTPUT_DIR/segmenter_retrained/.

--growing=dsrg lets the seeds grow at each step (DSRG). --losses=sec_seed,expand,boundary is SEC.
--losses=em_adapt and em_fixed (WSSL), mil_lse (MIL-seg; --image_prior is its prior) and mil_max (MIL-FCN) learn from
tags alone: OUTPUT_DIR/seeds/ need not be there. --losses=stc is STC's first network: photographs of one tag and
saliency maps.
--supervision=full learns the split's own masks and needs no seeds. --supervision=semi adds images with masks
to every batch (--strong_share of it) with --alpha times their cross-entropy: those of --strong_split (VOC: train), or
--strong_images of the split; they are left out of the images with seeds. Of a folder the masks of photographs in
val..., test... and the like are not learned, whatever the split.
"""

from absl import flags

from ficklenet_tf import presets
from ficklenet_tf.runs import layout
from tools import checks, cli, define, words

_SEMI = "--supervision=semi"

flags.DEFINE_string("weights", "", f"With --initial=weights. {define.WEIGHTS}")
flags.DEFINE_enum("initial", "classifier", ("classifier", "weights"), "Where the backbone's weights come from.")
flags.DEFINE_string("seeds", layout.SEEDS, "Directory below OUTPUT_DIR with the label images to train on.")
define.name(layout.SEGMENTER)
flags.DEFINE_enum("supervision", "weak", words.SUPERVISIONS, "Seeds, seeds and masks, or masks.")
define.strong(_SEMI)
flags.DEFINE_string("saliency_dir", None, define.SALIENCY_DIR)
define.data(None)
define.training()
define.stage(presets.SegmenterConfig)


def main() -> None:
    """Trains one or two rounds, or says that they are done."""
    from ficklenet_tf import distribution
    from ficklenet_tf.training import rehearsal, rounds
    from ficklenet_tf.training import segmenter as segmenter_training

    checks.check_weights(cli.FLAGS.initial, cli.FLAGS.weights)
    run_dir, config, name = cli.run_dir(), cli.config(presets.SegmenterConfig), cli.FLAGS.name
    with distribution.strategy(cli.FLAGS.distribute).scope():  # before anything else is computed
        split = cli.own_masks(cli.split()) if cli.FLAGS.supervision == "full" else cli.split()
        options = segmenter_training.Options(
            seeds=cli.FLAGS.seeds, initial=cli.FLAGS.initial, supervision=cli.FLAGS.supervision,
            strong=cli.strong(split, cli.FLAGS.supervision == "semi", _SEMI),
            saliency_dir=cli.FLAGS.saliency_dir, weights=cli.FLAGS.weights, seed=cli.FLAGS.seed,
            training=cli.loop_options())
        cli.restart_stages(name, layout.labels_of(name), layout.simple(name), layout.labels_of(layout.simple(name)),
                           layout.retrained(name))
        if cli.FLAGS.rehearsal:
            rehearsal.rehearse_segmenter(run_dir, split, config, options, name=name)
        stage = rounds.train_rounds(run_dir, split, config, options, name=name)
    cli.done("segmenter", run_dir / stage)


if __name__ == "__main__":
    cli.start(main)
