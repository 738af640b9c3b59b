"""Extracts seeds in one go: tools.extract_maps and tools.make_seeds, without writing the maps to disk in between.

    python -m tools.extract_seeds --dataset=voc --data_dir=VOCdevkit --preset=cpu --output_dir=runs/voc

Reads OUTPUT_DIR/classifier/; writes OUTPUT_DIR/seeds/<image id>.png (palette PNG, 255 where a pixel has
no seed), with --keep_maps OUTPUT_DIR/maps/<image id>.npz, and with --uncertainty OUTPUT_DIR/seeds_uncertainty/
<image id>.png, grey: how little the N maps agree on each seed. --num_maps=auto draws until the maps change little
(--auto_tolerance). Where masks exist, run.json holds precision, recall and mIoU. Several machines: --num_shards and
--shard_index, then once without.
"""

import dataclasses

from absl import flags

from ficklenet_tf import presets
from ficklenet_tf.runs import layout
from tools import cli, define, texts

define.name(layout.SEEDS)
flags.DEFINE_boolean("keep_maps", False, "Also write the maps.")
define.drawing()
define.seeding()
define.shards()
define.data(None)
define.stage(presets.MapsConfig)
define.stage(presets.SeedsConfig)


def main() -> None:
    """Extracts what is missing."""
    from ficklenet_tf.seeds import extraction

    options = dataclasses.replace(cli.seeding(), keep_maps=cli.FLAGS.keep_maps)
    configs = cli.config(presets.MapsConfig), cli.config(presets.SeedsConfig)
    split, name = cli.split(), cli.FLAGS.name
    cli.restart_stages(name, layout.uncertainty_of(name), layout.maps_of(name))
    drawing = cli.drawing()
    run = extraction.extract(cli.run_dir(), split, *configs, drawing, options, name=name, shard=cli.shard())
    cli.done(f"seeds ({drawing.mode}){texts.scores_text(run.get('metrics'))}{texts.maps_text(run)}",
             cli.run_dir() / name)


if __name__ == "__main__":
    cli.start(main)
