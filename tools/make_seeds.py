r"""Makes seeds from maps that are on disk, without a network: thresholds, a background cue, a refinement.

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
from tools import cli, define, texts

flags.DEFINE_string("maps", layout.MAPS, "Directory below OUTPUT_DIR with the maps.")
define.name(layout.SEEDS)
define.seeding()
define.shards()
define.data(None)
define.stage(presets.SeedsConfig)


def main() -> None:
    """Makes what is missing."""
    from ficklenet_tf.seeds import extraction

    config, split, name = cli.config(presets.SeedsConfig), cli.split(), cli.FLAGS.name
    cli.restart_stages(name, layout.uncertainty_of(name))
    run = extraction.make(cli.run_dir(), split, config, cli.seeding(), maps=cli.FLAGS.maps, name=name,
                          shard=cli.shard())
    cli.done(f"seeds{texts.scores_text(run.get('metrics'))}{texts.maps_text(run)}", cli.run_dir() / name)


if __name__ == "__main__":
    cli.start(main)
