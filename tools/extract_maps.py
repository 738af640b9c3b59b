"""Extracts localization maps: N Grad-CAMs per photograph on random selections of hidden units, aggregated.

    python -m tools.extract_maps --dataset=voc --data_dir=VOCdevkit --preset=cpu --output_dir=runs/voc

Reads OUTPUT_DIR/classifier/; writes OUTPUT_DIR/maps/<image id>.npz (mean, maximum, spread and the first three maps,
float16). tools.make_seeds makes seeds of them, with other thresholds or refinements as often as you like.
--num_maps=auto draws until the maps change little (--auto_tolerance). Several machines: --num_shards and
--shard_index, then once without.
"""

from ficklenet_tf import presets
from ficklenet_tf.runs import layout
from tools import cli, define, texts

define.name(layout.MAPS)
define.drawing()
define.shards()
define.data(None)
define.stage(presets.MapsConfig)


def main() -> None:
    """Extracts what is missing."""
    from ficklenet_tf.maps import extraction

    config, split = cli.config(presets.MapsConfig), cli.split()
    cli.restart_stages(cli.FLAGS.name)
    options = cli.drawing()
    run = extraction.extract(cli.run_dir(), split, config, options, name=cli.FLAGS.name, shard=cli.shard())
    cli.done(f"maps ({options.mode}){texts.maps_text(run)}", cli.run_dir() / cli.FLAGS.name)


if __name__ == "__main__":
    cli.start(main)
