"""The paper's tables and figures, one command each: trains what it needs, resumes, compares.

    python -m tools.reproduce --table=5 --dataset=shapes --preset=tiny --output_dir=runs/reproduce

Writes OUTPUT_DIR/tables/<name>.md, .csv and .json (mean and deviation over seeds, the paper's figures beside them,
and which of its claims the numbers bear out, see experiments/claims.py) and OUTPUT_DIR/figures/<name>.png. Stages are
shared: same settings, same artefact. Lists are allowed (--table=5,6,7 --figure=5), and --all makes everything. What is
where: docs/paper.md.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from absl import flags

from ficklenet_tf import crf
from ficklenet_tf.data import datasets
from ficklenet_tf.errors import UserError
from ficklenet_tf.experiments import drawing, figures, map_tables, mask_tables, plan, studies, tables
from ficklenet_tf.models import backbones
from ficklenet_tf.runs import layout
from ficklenet_tf.seeds import needed
from ficklenet_tf.training import classifier as classifier_training
from ficklenet_tf.training import rehearsal
from tools import cli, table4
from tools.benchmarks import measure

TABLES = ("1", "2", "3", "4", "5", "6", "7")
FIGURES = ("1", "3", "4", "5", "6")
STUDIES = ("rescale", "uncertainty", "convergence")


def _is_share(text: str) -> bool:
    try:
        return 0 <= float(text) <= 1
    except ValueError:
        return False


flags.DEFINE_list("table", [], f"Tables to make: {', '.join(TABLES)}.")
flags.DEFINE_list("figure", [], f"Figures to make: {', '.join(FIGURES)}.")
flags.DEFINE_list("study", [], f"Studies beyond the paper: {', '.join(STUDIES)}.")
flags.DEFINE_boolean("all", False, "Every table, figure and study.")
flags.DEFINE_integer("seeds", 5, "Seeds, from 0: mean and deviation are over them; fewer than 5 decide no claim.",
                     lower_bound=1)
flags.DEFINE_integer("map_images", 200, "Training images that maps are scored on, evenly spaced.", lower_bound=1)
flags.DEFINE_integer("repeats", 10, "Repeats of Table 6 and Figure 5.", lower_bound=2)
flags.DEFINE_enum("scale", "full", list(measure.SIZES), "Sizes of Table 4: the paper's, or a smoke test's.")
flags.DEFINE_boolean("with_segmenter", False, "Table 5: also train a segmenter on each row's seeds.")
flags.DEFINE_list("systems", list(mask_tables.SYSTEMS), "Rows of Tables 1 and 2.")
flags.DEFINE_list("limits", [str(limit) for limit in studies.LIMITS[1:]], "Study uncertainty: its rows.")
flags.register_validator("systems", lambda names: bool(names) and set(names) <= set(mask_tables.SYSTEMS),
                         f"expected some of {', '.join(mask_tables.SYSTEMS)}")
flags.register_validator("limits", lambda limits: bool(limits) and all(map(_is_share, limits)),
                         "expected numbers from 0 to 1")
flags.DEFINE_integer("reference", studies.LARGE, "Study convergence: maps of the reference.", lower_bound=1)
flags.DEFINE_integer("reference_images", 20, "Study convergence: training images.", lower_bound=1)
flags.DEFINE_boolean("retrain", False, "Segmenters: also the preset's second round, on their own labels.")
flags.DEFINE_string("strong_split", None, "Images with masks for Table 3 (voc: train; else see --strong_images).")
flags.DEFINE_integer("strong_images", 60, "Without --strong_split: this many training images, evenly spaced.",
                     lower_bound=1)
flags.DEFINE_enum("crf", "dsrg", list(crf.SPECS), "Dense CRF's parameters for evaluation.")
flags.DEFINE_string("saliency_dir", None, "Saliency maps, where seeds need them (default: the run's own).")
flags.DEFINE_string("weights", "", "Backbone: imagenet, a path to .npz, .h5 or .weights.h5, or empty for none.")
flags.DEFINE_enum("table2_backbone", None, list(backbones.BACKBONES),
                  "Of Table 2 (default: resnet50; small where the preset's is small).")
flags.DEFINE_string("table2_weights", "", "Of Table 2's backbone, as --weights.")
flags.DEFINE_string("held_out", None, "Split for evaluation (default: the data set's).")
flags.DEFINE_integer("save_every", 200, "Steps between checkpoints.", lower_bound=1)
cli.define_rehearsal()
cli.define_data(None)
cli.define_all_stages()


def _wanted() -> list[tuple[str, str]]:
    """Returns what to make, (flag, name), tables first."""
    wanted = []
    for flag, legal in {"table": TABLES, "figure": FIGURES, "study": STUDIES}.items():
        names = list(legal) if cli.FLAGS.all else getattr(cli.FLAGS, flag)
        for name in names:
            if name not in legal:
                raise UserError(f"{flag}: expected {', '.join(legal)}, found {name!r}")
        wanted += [(flag, name) for name in legal if name in names]
    if not wanted:
        raise UserError("expected --table, --figure, --study or --all, found none of them")
    return wanted


def _strong(split: datasets.Split) -> datasets.Split:
    """Returns the images whose masks semi-supervision may use."""
    name = cli.FLAGS.strong_split or ("train" if split.dataset == "voc" else None)
    if name:
        return cli.split(name)
    masked = [index for index, labelled in enumerate(split.labelled) if labelled]
    count = min(cli.FLAGS.strong_images, len(masked))
    return split.select(masked[i * len(masked) // count] for i in range(count))


def _plan() -> plan.Plan:
    preset = cli.preset()
    if not cli.FLAGS.retrain:
        preset = dataclasses.replace(preset, segmenter=dataclasses.replace(preset.segmenter, retrain_steps=0))
    split = cli.split()
    return plan.Plan(cli.run_dir(), split, cli.split(cli.FLAGS.held_out, held_out=True), preset,
                     weights=cli.FLAGS.weights, seeds=cli.FLAGS.seeds, map_images=cli.FLAGS.map_images,
                     strong=_strong(split), spec=crf.SPECS[cli.FLAGS.crf], options=cli.loop_options(),
                     saliency_dir=needed.saliency_of(cli.run_dir(), preset.seeds, cli.FLAGS.saliency_dir))


def _residual(work: plan.Plan) -> plan.Plan:
    """The plan of Table 2: DeepLab-v2's head, and another backbone, which gets a directory of its own."""
    classifier = work.preset.classifier
    backbone = cli.FLAGS.table2_backbone or ("small" if classifier.backbone == "small" else "resnet50")
    preset = dataclasses.replace(work.preset, classifier=dataclasses.replace(classifier, backbone=backbone),
                                 segmenter=dataclasses.replace(work.preset.segmenter, head="aspp"))
    work = dataclasses.replace(work, preset=preset)
    return work if backbone == classifier.backbone else dataclasses.replace(
        work, run_dir=work.run_dir / f"table2_{backbone}", weights=cli.FLAGS.table2_weights)


_TABLES: dict[str, Callable[[plan.Plan], tables.Table]] = {
    "1": lambda work: mask_tables.weak(work, cli.FLAGS.systems),
    "2": lambda work: mask_tables.weak(_residual(work), cli.FLAGS.systems, "table2"),
    "3": mask_tables.supervised,
    "4": lambda work: table4.table4(cli.FLAGS.scale),
    "5": lambda work: map_tables.table5(work, mask_tables.rate if cli.FLAGS.with_segmenter else None),
    "6": lambda work: map_tables.table6(work, cli.FLAGS.repeats),
    "7": map_tables.table7,
    "rescale": map_tables.rescaling,
    "uncertainty": lambda work: studies.uncertainty(work, (1.0, *map(float, cli.FLAGS.limits))),
    "convergence": lambda work: studies.convergence(work, cli.FLAGS.reference_images, cli.FLAGS.reference),
}
_FIGURES: dict[str, Callable[[plan.Plan], np.ndarray]] = {
    "1": figures.figure1, "3": figures.figure3, "4": figures.figure4,
    "5": lambda work: figures.figure5(work, cli.FLAGS.repeats), "6": figures.figure6}


def main() -> None:
    """Makes what was asked for."""
    wanted, work = _wanted(), _plan()
    systems = cli.FLAGS.systems if {("table", "1"), ("table", "2")} & set(wanted) else []
    for refine in {work.preset.seeds.refine, *(mask_tables.SYSTEMS[name].seeds["refine"] for name in systems)}:
        needed.check(dataclasses.replace(work.preset.seeds, refine=refine), work.saliency_dir)  # before the classifier
    if cli.FLAGS.rehearsal and not set(wanted) <= {("table", "4"), ("figure", "3")}:  # these two train nothing
        options = classifier_training.Options(work.weights, training=work.options)
        rehearsal.rehearse_run(work.run_dir, work.split, work.held_out, work.preset, options, last=layout.CLASSIFIER,
                               saliency_dir=work.saliency_dir)
    for flag, name in wanted:
        if flag == "figure":
            path = work.run_dir / layout.FIGURES / f"figure{name}.png"
            drawing.write_png(path, _FIGURES[name](work))
            cli.done(f"Figure {name}", path)
        else:
            table = _TABLES[name](work)
            print(tables.write(table, work.run_dir / layout.TABLES))
            cli.done(table.title, work.run_dir / layout.TABLES / f"{table.name}.md")


if __name__ == "__main__":
    cli.start(main)
