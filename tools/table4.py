"""Table 4 of the paper: run time and memory of the naive, the expanded and the contracted head.

    python -m tools.table4 --output_dir=runs/table4

Writes OUTPUT_DIR/tables/table4.md, .csv and .json, as tools.reproduce --table=4 does; needs no data set.
"""

from absl import flags

from tools import cli, define, words

define.run_dir("runs/table4")
flags.DEFINE_enum("scale", "full", words.SCALES, "full: the paper's size; tiny: to see that it runs.")
flags.DEFINE_integer("rounds", 5, "Timings of which mean and deviation are given.", lower_bound=1)


def main() -> None:
    """Measures, prints and writes the table."""
    from ficklenet_tf.experiments import tables
    from ficklenet_tf.runs import layout
    from tools.benchmarks import head_table

    table = head_table.table4(cli.FLAGS.scale, cli.FLAGS.rounds)
    print(tables.write(table, cli.run_dir() / layout.TABLES))
    cli.done(table.title, cli.run_dir() / layout.TABLES / f"{table.name}.md")


if __name__ == "__main__":
    cli.start(main)
