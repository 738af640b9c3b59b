"""The whole job: photographs and tags in, a served segmenter out.

    python -m tools.run_pipeline --dataset=shapes --preset=tiny --output_dir=runs/demo

Trains the classifier, extracts seeds, trains the segmenter, evaluates it on the held-out split where that has
masks, exports a SavedModel, asks it again in a fresh process, and writes OUTPUT_DIR/report.html and result.json.
Started again after an interruption it goes on where it stopped. Each stage is a binary of its own too:
tools.train_classifier, extract_maps, make_seeds, train_segmenter, evaluate, make_report and export.export_saved_model.
"""

from absl import flags

from ficklenet_tf.experiments import systems
from ficklenet_tf.runs import restart
from tools import cli, define, words

_SEMI = "--supervision=semi"

flags.DEFINE_enum("system", None, list(systems.SYSTEMS), "What the preset is changed to: a compared system, see "
                  "docs/systems.md.")
flags.DEFINE_enum("supervision", "weak", ("weak", "semi"), "Tags, or tags and the masks of some images.")
define.strong(_SEMI)
flags.DEFINE_boolean("closer_looks", True, "With saliency made here: look again where the maps point.")
flags.DEFINE_boolean("cache_flips", False, "With frozen layers: keep what they give of the mirrored photographs too.")
flags.DEFINE_boolean("baseline", True, "Also train a deterministic classifier and extract plain Grad-CAM seeds; never "
                     "with --system.")
flags.DEFINE_enum("crf", "dsrg", [*words.CRFS, words.AUTO], "Dense CRF's parameters for evaluation and export; "
                  "auto: what agrees best with seeds of held-out photographs.")
define.restart("Directories of stages to remove first and make again, with all that is made from them: some of "
               f"{', '.join(restart.STAGES)}.")
define.whole_job()


def main() -> None:
    """Runs every stage that is not done yet."""
    from tools import pipeline

    pipeline.run()


if __name__ == "__main__":
    cli.start(main)
