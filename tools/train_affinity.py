"""Trains AffinityNet, which tells what nearby pixels belong together, on what the maps are sure of.

    python -m tools.extract_maps --dataset=voc --data_dir=VOCdevkit --preset=cpu --output_dir=runs/voc
    python -m tools.train_affinity --dataset=voc --data_dir=VOCdevkit --preset=cpu --output_dir=runs/voc
    python -m tools.make_seeds --dataset=voc --data_dir=VOCdevkit --preset=cpu --output_dir=runs/voc --refine=affinity

Reads OUTPUT_DIR/maps/ and the classifier that made them, which must have frozen layers; writes
OUTPUT_DIR/affinity_labels/ and OUTPUT_DIR/affinity/. Seeds then walk the maps at random over the affinities.
"""

import math

from absl import flags

from ficklenet_tf import presets
from ficklenet_tf.runs import layout
from ficklenet_tf.training import affinity, loop
from tools import cli

flags.DEFINE_string("maps", layout.MAPS, "Directory below OUTPUT_DIR with the maps.")
flags.DEFINE_string("name", layout.AFFINITY, "Directory below OUTPUT_DIR.")
flags.DEFINE_integer("save_every", 200, "Steps between checkpoints.", lower_bound=1)
cli.define_data(None)
cli.define_stage(presets.AffinityConfig)


def main() -> None:
    """Trains, or says that it is done."""
    config = cli.config(presets.AffinityConfig)
    options = affinity.Options(cli.FLAGS.maps, cli.FLAGS.seed, loop.Options(save_every=cli.FLAGS.save_every))
    run = affinity.train(cli.run_dir(), cli.split(), config, options, name=cli.FLAGS.name)
    cli.done(f"affinity: loss {run['metrics'].get('loss', math.nan):.3f}", cli.run_dir() / cli.FLAGS.name)


if __name__ == "__main__":
    cli.start(main)
