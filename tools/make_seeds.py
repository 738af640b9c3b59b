"""Makes seeds from maps that are on disk, without a network: thresholds, a background cue, a refinement.

    python -m tools.make_seeds --dataset=voc --data_dir=VOCdevkit --preset=cpu --output_dir=runs/voc --refine=srg \
        --name=seeds_srg

Reads OUTPUT_DIR/maps/ (of tools.extract_maps, or of tools.extract_seeds --keep_maps); writes
OUTPUT_DIR/seeds/<image id>.png (palette PNG, 255 where a pixel has no seed), and with --uncertainty
OUTPUT_DIR/seeds_uncertainty/<image id>.png, grey: how little the N maps agree on each seed. Where masks exist,
run.json holds precision, recall and mIoU. Several machines: --num_shards and --shard_index, then once without.
"""

from absl import flags

from ficklenet_tf import presets
from ficklenet_tf.runs import layout
from ficklenet_tf.seeds import extraction
from tools import cli

flags.DEFINE_string("maps", layout.MAPS, "Directory below OUTPUT_DIR with the maps.")
flags.DEFINE_string("name", layout.SEEDS, "Directory below OUTPUT_DIR.")
cli.define_seeding()
cli.define_shards()
cli.define_data(None)
cli.define_stage(presets.SeedsConfig)


def main() -> None:
    """Makes what is missing."""
    config = cli.config(presets.SeedsConfig)
    run = extraction.make(cli.run_dir(), cli.split(), config, cli.seeding(), maps=cli.FLAGS.maps, name=cli.FLAGS.name,
                          shard=cli.shard())
    cli.done(f"seeds{cli.scores_text(run.get('metrics'))}{cli.maps_text(run)}", cli.run_dir() / cli.FLAGS.name)


if __name__ == "__main__":
    cli.start(main)
