"""Copies your photographs at a smaller size: masks are made at a photograph's own size, which takes time and memory.

    python -m tools.make_copies --dataset=folder --data_dir=mine --to=mine_small

Writes the same folders, names, tags, lists and masks to another directory, for --data_dir of the other tools; changes
nothing in yours. What is small enough is copied as it is. The dense CRF's widths are those of photographs of 500
pixels.
"""

from absl import flags

from ficklenet_tf.errors import UserError
from tools import cli, define

define.source("folder")
flags.DEFINE_string("to", None, "The directory to make.")
flags.DEFINE_integer("longest", 500, "Pixels of a copy's longer side, at most.", lower_bound=64)


def main() -> None:
    """Writes the copies."""
    from ficklenet_tf.data.datasets import copies  # here: TensorFlow takes seconds, and --help needs none

    if cli.FLAGS.dataset != "folder" or not cli.FLAGS.to:
        raise UserError("expected --dataset=folder, and the directory to make as --to")
    number, smaller = copies.make(cli.FLAGS.data_dir, cli.FLAGS.to, cli.FLAGS.longest)
    cli.done(f"{number} photographs, {smaller} of them made smaller", cli.FLAGS.to)


if __name__ == "__main__":
    cli.start(main)
