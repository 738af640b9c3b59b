"""The paper's tables and figures, one command each: trains what it needs, resumes, compares.

    python -m tools.reproduce --table=5 --dataset=shapes --preset=tiny --output_dir=runs/reproduce

Writes OUTPUT_DIR/tables/<name>.md, .csv and .json (mean and deviation over seeds, the paper's figures beside them,
which claims the numbers bear out) and OUTPUT_DIR/figures/<name>.png. Stages are shared: same settings, same artefact.
Lists are allowed (--table=5,6,7 --figure=5), and --all makes everything. What is where: docs/paper.md.
"""

import dataclasses

from absl import flags

from ficklenet_tf import presets
from ficklenet_tf.experiments import map_tables, plan, tables
from tools import binary

TABLES = ("1", "2", "3", "4", "5", "6", "7")
FIGURES = ("1", "3", "4", "5", "6")
STUDIES = ("rescale", "uncertainty", "convergence")

flags.DEFINE_list("table", [], f"Tables to make: {', '.join(TABLES)}.")
flags.DEFINE_list("figure", [], f"Figures to make: {', '.join(FIGURES)}.")
flags.DEFINE_list("study", [], f"Studies beyond the paper: {', '.join(STUDIES)}.")
flags.DEFINE_boolean("all", False, "Every table, figure and study.")
flags.DEFINE_integer("seeds", 3, "Seeds, from 0: mean and deviation are over them.", lower_bound=1)
flags.DEFINE_integer("map_images", 200, "Training images that maps are scored on, evenly spaced.", lower_bound=1)
flags.DEFINE_integer("repeats", 10, "Repeats of Table 6 and Figure 5.", lower_bound=2)
flags.DEFINE_string("weights", "", "Backbone: imagenet, a path to .npz, .h5 or .weights.h5, or empty for none.")
flags.DEFINE_string("held_out", None, "Split for evaluation (default: the data set's).")
flags.DEFINE_integer("save_every", 200, "Steps between checkpoints.", lower_bound=1)
binary.define_data(None)
for _stage in (presets.Classifier, presets.Seeds, presets.Segmenter):
    binary.define_stage(_stage, prefix=f"{_stage.__name__.lower()}.")


def _wanted():
    """Returns what to make, as names of functions' keys ("table5"), in the order of the paper."""
    asked = {"table": TABLES, "figure": FIGURES, "study": STUDIES}
    result = []
    for kind, legal in asked.items():
        given = list(legal) if binary.FLAGS.all else binary.FLAGS[kind].value
        for name in given:
            if name not in legal:
                raise ValueError(f"{kind}: expected {', '.join(legal)}, found {name!r}")
        result += [(kind, name) for name in legal if name in given]
    if not result:
        raise ValueError("expected --table, --figure, --study or --all, found none of them")
    return result


def _plan():
    preset = dataclasses.replace(presets.PRESETS[binary.FLAGS.preset], **{
        name: binary.stage(name) for name in ("classifier", "seeds", "segmenter")})
    return plan.Plan(binary.run_dir(), binary.split(), binary.split(binary.FLAGS.held_out, held_out=True), preset,
                     weights=binary.FLAGS.weights, seeds=binary.FLAGS.seeds, map_images=binary.FLAGS.map_images,
                     options={"save_every": binary.FLAGS.save_every})


def _table(name, work):
    makers = {"5": map_tables.table5, "6": lambda p: map_tables.table6(p, binary.FLAGS.repeats),
              "7": map_tables.table7, "rescale": map_tables.rescaling}
    made = makers[name](work)
    print(tables.write(made, binary.run_dir() / "tables"))
    binary.done(made.title, binary.run_dir() / "tables" / f"{made.name}.md")


def main():
    """Makes what was asked for."""
    wanted, work = _wanted(), _plan()
    for _, name in wanted:
        _table(name, work)


if __name__ == "__main__":
    binary.start(main)
