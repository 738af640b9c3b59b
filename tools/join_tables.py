"""Joins tables that tools.reproduce made on several nights or machines, each with random seeds or systems of its own.

    python -m tools.join_tables --output_dir=runs/joined night1/tables/table5.json night2/tables/table5.json

The parts come from tools.reproduce with the same settings, as --random_seeds=2 and --random_seeds=3
--first_random_seed=2; of Tables 1 and 2 also --systems=mdc,oaa and --systems=eps with the same random seeds. Writes
OUTPUT_DIR/tables/<name>.md, .csv and .json: mean and deviation over all seeds, the claims judged over all. Several
tables at once: parts of one name are joined.
"""

import pathlib

from ficklenet_tf.errors import UserError
from tools import cli, define

define.run_dir()


def main(paths: list[str]) -> None:
    """Joins the tables of `paths` by their names."""
    from ficklenet_tf.experiments import joined, tables
    from ficklenet_tf.runs import layout

    if not paths:
        raise UserError("expected files of tables after the flags, found none: python -m tools.join_tables "
                        "--output_dir=RUN TABLE.json...")
    directory = cli.run_dir() / layout.TABLES
    for name in dict.fromkeys(pathlib.Path(path).stem for path in paths):
        table = joined.join([joined.read(path) for path in paths if pathlib.Path(path).stem == name])
        print(tables.write(table, directory))
        cli.done(table.title, directory / f"{table.name}.md")


if __name__ == "__main__":
    cli.start(main, arguments=True)
