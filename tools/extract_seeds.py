"""Extracts seeds: N Grad-CAMs a photograph on random selections, aggregated.

    python -m tools.extract_seeds --dataset=voc --data_dir=VOCdevkit --preset=cpu --output_dir=runs/voc

Reads OUTPUT_DIR/classifier/; writes OUTPUT_DIR/seeds/<image id>.png (palette PNG, 255 where nothing is
allotted), with --maps OUTPUT_DIR/seeds_maps/<image id>.npz, and with --uncertainty OUTPUT_DIR/seeds_uncertainty/
<image id>.png, grey: how little the N maps agree on each seed. --selections=auto draws until the maps change little
(--auto_tolerance). Where masks exist, run.json holds precision, recall and mIoU. Several machines: --num_shards and
--shard_index, then once without.
"""

from absl import flags

from ficklenet_tf import presets
from ficklenet_tf.models import stochastic
from ficklenet_tf.seeds import extraction
from tools import cli

flags.DEFINE_enum("selection", "stochastic", stochastic.SELECTIONS, "Hidden units; deterministic: plain Grad-CAM.")
flags.DEFINE_string("name", "seeds", "Directory below OUTPUT_DIR.")
flags.DEFINE_string("stage", "classifier", "The classifier's directory below OUTPUT_DIR.")
flags.DEFINE_string("saliency_dir", None, "Saliency maps <image id>.png for --background_cue=saliency.")
flags.DEFINE_boolean("maps", False, "Also write the maps.")
flags.DEFINE_boolean("uncertainty", False, "Also write how little the maps agree on each seed.")
flags.DEFINE_boolean("jit_compile", False, "Compile backbone and maps by XLA.")
cli.define_shards()
cli.define_data(None)
cli.define_stage(presets.Seeds)
flags.DEFINE_alias("cam_method", "method")


def main():
    """Extracts what is missing."""
    run_dir, name = cli.run_dir(), cli.FLAGS.name
    run = extraction.extract(
        run_dir, cli.split(), cli.stage("seeds"), name=name, selection=cli.FLAGS.selection,
        seed=cli.FLAGS.seed, saliency_dir=cli.FLAGS.saliency_dir, maps=cli.FLAGS.maps,
        uncertainty=cli.FLAGS.uncertainty, stage=cli.FLAGS.stage,
        shard=cli.shard(), jit_compile=cli.FLAGS.jit_compile)
    scores = run.get("metrics")
    text = "" if not scores else (f": mIoU {100 * scores['miou']:.1f}, recall {100 * scores['recall']:.1f}, "
                                  f"precision {100 * scores['precision']:.1f}")
    if "selections" in run:
        text += f"; selections: median {run['selections']['median']:g}, at most {run['selections']['max']}"
    cli.done(f"seeds ({cli.FLAGS.selection}){text}", run_dir / name)


if __name__ == "__main__":
    cli.start(main)
