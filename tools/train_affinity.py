"""Trains AffinityNet or IRN, which tell what nearby pixels belong together, on what the maps are sure of.

    python -m tools.extract_maps --dataset=voc --data_dir=VOCdevkit --preset=cpu --output_dir=runs/voc
    python -m tools.train_affinity --dataset=voc --data_dir=VOCdevkit --preset=cpu --output_dir=runs/voc
    python -m tools.make_seeds --dataset=voc --data_dir=VOCdevkit --preset=cpu --output_dir=runs/voc --refine=affinity

Reads OUTPUT_DIR/maps/ and the classifier that made them; writes OUTPUT_DIR/affinity_labels/ and OUTPUT_DIR/affinity/.
Seeds then walk the maps at random over the affinities. --kind=boundary trains IRN. What the classifier's frozen layers
give is kept; one that was trained whole runs over each photograph again.
"""

import math

from absl import flags

from ficklenet_tf import presets
from ficklenet_tf.runs import layout
from tools import cli, define

flags.DEFINE_string("maps", layout.MAPS, "Directory below OUTPUT_DIR with the maps.")
define.name(layout.AFFINITY)
define.save_every()
define.data(None)
define.stage(presets.AffinityConfig)


def main() -> None:
    """Trains, or says that it is done."""
    from ficklenet_tf.training import affinity

    config, split, name = cli.config(presets.AffinityConfig), cli.split(), cli.FLAGS.name
    options = affinity.Options(cli.FLAGS.maps, cli.FLAGS.seed, cli.loop_options())
    cli.restart_stages(name, layout.labels_of(name))
    run = affinity.train(cli.run_dir(), split, config, options, name=name)
    cli.done(f"affinity: loss {run['metrics'].get('loss', math.nan):.3f}", cli.run_dir() / name)


if __name__ == "__main__":
    cli.start(main)
