"""The paper's tables and figures, one command each: trains what it needs, resumes, compares.

    python -m tools.reproduce --table=5 --dataset=shapes --preset=tiny --output_dir=runs/reproduce

Writes OUTPUT_DIR/tables/<name>.md, .csv and .json (mean and deviation over seeds, the paper's figures beside them,
and which of its claims the numbers bear out, see experiments/claims.py) and OUTPUT_DIR/figures/<name>.png. Stages are
shared: same settings, same artefact. Lists are allowed (--table=5,6,7 --figure=5), and --all makes everything. What is
where: docs/paper.md.
"""

from absl import flags

from ficklenet_tf.experiments import systems
from tools import cli, define, words


def _is_share(text: str) -> bool:
    try:
        return 0 <= float(text) < 1
    except ValueError:
        return False


flags.DEFINE_list("table", [], f"Tables to make: {', '.join(words.TABLES)}.")
flags.DEFINE_list("figure", [], f"Figures to make: {', '.join(words.FIGURES)}.")
flags.DEFINE_list("study", [], f"Studies beyond the paper: {', '.join(words.STUDIES)}.")
flags.DEFINE_boolean("all", False, "Every table, figure and study.")
flags.DEFINE_integer("random_seeds", 5, "How many random seeds: mean and deviation are over them; fewer than 5 decide "
                     "no claim.", lower_bound=1)
flags.DEFINE_integer("first_random_seed", 0, "The first of them; tools.join_tables joins tables of several nights or "
                     "machines.", lower_bound=0)
flags.DEFINE_integer("map_images", 200, "Training images that maps are scored on, evenly spaced.", lower_bound=1)
flags.DEFINE_integer("repeats", 10, "Repeats of Table 6 and Figure 5.", lower_bound=2)
flags.DEFINE_enum("scale", "full", words.SCALES, "Of Table 4. full: the paper's size; tiny: to see that it runs.")
flags.DEFINE_boolean("with_segmenter", False, "Table 5: also train a segmenter on each row's seeds.")
flags.DEFINE_list("systems", ["all"], "Rows of Tables 1 to 3: all, or some of those in docs/systems.md.")
flags.DEFINE_list("limits", [str(limit) for limit in words.LIMITS], "Study uncertainty: its rows.")
flags.register_validator("systems", lambda names: bool(names) and (names == ["all"] or set(names) <= set(
    systems.SYSTEMS)), f"expected all, or some of {', '.join(systems.SYSTEMS)}")
flags.register_validator("limits", lambda limits: bool(limits) and all(map(_is_share, limits)),
                         "expected numbers from 0 to below 1, which the first row has")
flags.DEFINE_integer("reference", words.REFERENCE, "Study convergence: maps of the reference.", lower_bound=1)
flags.DEFINE_integer("reference_images", 20, "Study convergence: training images.", lower_bound=1)
flags.DEFINE_string("strong_split", None, "Images with masks for Table 3 (voc: train; else see --table3_images).")
flags.DEFINE_integer("table3_images", 60, "Images with masks for Table 3, without --strong_split: this many of the "
                     "training images, evenly spaced.", lower_bound=1)
flags.DEFINE_enum("crf", "dsrg", words.CRFS, "Dense CRF's parameters for evaluation.")
flags.DEFINE_string("table2_backbone", None, "Of Table 2 (default: resnet50; small where the preset's is small).")
flags.DEFINE_string("table2_weights", "", "Of Table 2's backbone, as --weights.")
define.whole_job()


def main() -> None:
    """Makes what was asked for."""
    from tools import reproduction

    reproduction.run()


if __name__ == "__main__":
    cli.start(main)
