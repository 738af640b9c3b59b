"""Writes a run's page, and on request the picture for a README.

    python -m tools.make_report --dataset=shapes --output_dir=runs/demo

Reads whatever the stages have left in OUTPUT_DIR; writes OUTPUT_DIR/report.html, one file to open or
send. Stages that are missing are named on the page with the command that makes each. With --picture
also a PNG: photographs, maps, seeds and masks side by side.
"""

from absl import flags

from ficklenet_tf import report
from tools import binary

flags.DEFINE_string("held_out", None, "Split of the predictions (default: the data set's evaluation split).")
flags.DEFINE_string("title", None, "Title of the page.")
flags.DEFINE_integer("rows", 12, "Images of each split.", lower_bound=1)
flags.DEFINE_string("picture", None, "Also write this PNG.")
flags.DEFINE_integer("picture_rows", 4, "Images of each split in the PNG.", lower_bound=1)
binary.define_data(None)


def main():
    """Writes the page."""
    run_dir, split = binary.run_dir(), binary.split()
    held_out = binary.split(binary.FLAGS.held_out or binary.DEFAULT_SPLITS[binary.FLAGS.dataset][1])
    path = report.write_report(run_dir, train_split=split, val_split=held_out, rows=binary.FLAGS.rows,
                               title=binary.FLAGS.title or f"FickleNet on {split.dataset}")
    binary.done("report", path)
    if binary.FLAGS.picture:
        picture = report.write_picture(run_dir, split, binary.FLAGS.picture, binary.FLAGS.picture_rows,
                                       val_split=held_out)
        binary.done("picture", picture)


if __name__ == "__main__":
    binary.start(main)
