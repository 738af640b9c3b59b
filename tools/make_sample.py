"""Writes drawings of the embedded data set as somebody's own photographs: a folder for each class.

    python -m tools.make_sample --to=mine

Writes TO/<class>/<image id>.png; a drawing of two classes lies in both folders, as the same photograph would. For
trying the tools on a folder (docs/tutorial.md) before one has photographs of one's own.
"""

import pathlib

from absl import flags

from ficklenet_tf.errors import UserError
from tools import cli, define

flags.DEFINE_string("to", "mine", "The directory to make.")
flags.DEFINE_integer("count", 60, "How many drawings.", lower_bound=2, upper_bound=600)
define.cache_dir()


def main() -> None:
    """Writes the drawings."""
    from ficklenet_tf.data import datasets
    from ficklenet_tf.runs import artifacts

    to = pathlib.Path(cli.FLAGS.to)
    if to.exists():
        raise UserError(f"to: expected a directory that is not there yet, found {to}")
    split = datasets.load_split("shapes", "train", cache_dir=cli.FLAGS.cache_dir, max_images=cli.FLAGS.count)
    for index, image_id in enumerate(split.image_ids):
        example = split[index]
        for name, tag in zip(split.class_names[1:], example["tags"], strict=True):
            if tag:
                artifacts.write_bytes(to / name / f"{image_id}.png", example["image"])
    cli.done(f"{len(split)} drawings", to)


if __name__ == "__main__":
    cli.start(main)
