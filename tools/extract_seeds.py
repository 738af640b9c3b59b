"""Extracts seeds: N Grad-CAMs a photograph on random selections, aggregated.

    python -m tools.extract_seeds --dataset=voc --data_dir=VOCdevkit --preset=cpu --output_dir=runs/voc

Reads OUTPUT_DIR/classifier/; writes OUTPUT_DIR/seeds/<image id>.png (palette PNG, 255 where nothing is
allotted), with --maps OUTPUT_DIR/seeds_maps/<image id>.npz, and with --uncertainty OUTPUT_DIR/seeds_uncertainty/
<image id>.png, grey: how little the N maps agree on each seed. --selections=auto draws until the maps change little
(--auto_tolerance). Where masks exist, run.json holds precision, recall and mIoU. Several machines: --num_shards and
--shard_index, then once without.
"""

from absl import flags

from ficklenet_tf import extraction, presets, stochastic
from tools import binary

flags.DEFINE_enum("selection", "stochastic", stochastic.SELECTIONS, "Hidden units; deterministic: plain Grad-CAM.")
flags.DEFINE_string("name", "seeds", "Directory below OUTPUT_DIR.")
flags.DEFINE_string("stage", "classifier", "The classifier's directory below OUTPUT_DIR.")
flags.DEFINE_string("saliency_dir", None, "Saliency maps <image id>.png for --background_cue=saliency.")
flags.DEFINE_boolean("maps", False, "Also write the maps.")
flags.DEFINE_boolean("uncertainty", False, "Also write how little the maps agree on each seed.")
flags.DEFINE_boolean("jit_compile", False, "Compile backbone and maps by XLA.")
binary.define_shards()
binary.define_data(None)
binary.define_stage(presets.Seeds)
flags.DEFINE_alias("cam_method", "method")


def main():
    """Extracts what is missing."""
    run_dir, name = binary.run_dir(), binary.FLAGS.name
    run = extraction.extract(
        run_dir, binary.split(), binary.stage("seeds"), name=name, selection=binary.FLAGS.selection,
        seed=binary.FLAGS.seed, saliency_dir=binary.FLAGS.saliency_dir, maps=binary.FLAGS.maps,
        uncertainty=binary.FLAGS.uncertainty, stage=binary.FLAGS.stage,
        shard=binary.shard(), jit_compile=binary.FLAGS.jit_compile)
    scores = run.get("metrics")
    text = "" if not scores else (f": mIoU {100 * scores['miou']:.1f}, recall {100 * scores['recall']:.1f}, "
                                  f"precision {100 * scores['precision']:.1f}")
    if "selections" in run:
        text += f"; selections: median {run['selections']['median']:g}, at most {run['selections']['max']}"
    binary.done(f"seeds ({binary.FLAGS.selection}){text}", run_dir / name)


if __name__ == "__main__":
    binary.start(main)
