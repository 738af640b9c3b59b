"""Writes a run's page, and on request the picture for a README.

    python -m tools.make_report --dataset=shapes --output_dir=runs/demo

Reads whatever the stages have left in OUTPUT_DIR; writes OUTPUT_DIR/report.html, one file to open or
send. Stages that are missing are named on the page with the command that makes each. With --picture
also a PNG: photographs, maps, seeds and masks side by side.
"""

from absl import flags

from tools import cli, define, words

flags.DEFINE_string("held_out", None, define.HELD_OUT)
flags.DEFINE_string("title", None, "Title of the page.")
flags.DEFINE_integer("rows", 12, "Images of each split.", lower_bound=1)
flags.DEFINE_string("picture", None, "Also write this PNG.")
flags.DEFINE_integer("picture_rows", 4, "Images of each split in the PNG.", lower_bound=1)
define.data(None)


def main() -> None:
    """Writes the page."""
    from ficklenet_tf import report
    from ficklenet_tf.experiments.systems import SYSTEMS
    from ficklenet_tf.runs import artifacts, layout

    run_dir = cli.run_dir()
    path = run_dir / layout.RESULT
    made = artifacts.read_json(path) if path.exists() else {}
    if made.get("dataset") != cli.FLAGS.dataset:  # of a run of tools.run_pipeline its own splits, else the usual ones
        made = {}
    split = cli.split(cli.FLAGS.split or made.get("train"))
    held_out = cli.split(cli.FLAGS.held_out or made.get("held_out") or words.DEFAULT_SPLITS[cli.FLAGS.dataset][1])
    system = SYSTEMS[made["system"]].title if made.get("system") else "FickleNet"
    path = report.write_report(run_dir, train_split=split, val_split=held_out, rows=cli.FLAGS.rows,
                               title=cli.FLAGS.title or cli.title(split.dataset, system), flags=cli.given_flags())
    cli.done("report", path)
    if cli.FLAGS.picture:
        picture = report.write_picture(run_dir, split, cli.FLAGS.picture, cli.FLAGS.picture_rows,
                                       val_split=held_out)
        cli.done("picture", picture)


if __name__ == "__main__":
    cli.start(main)
