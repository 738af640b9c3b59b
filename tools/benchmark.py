"""Measures what the project claims: speed, memory and growth, each against its alternative in one run.

    python -m tools.benchmark localization head --photographs=VOCdevkit/VOC2012/JPEGImages

Sections: localization head crf segmenter pipeline serving scaling peers, or all. Prints tables and writes
benchmark.json, tables.md and plots into --output_dir, where the sections of earlier runs are kept; the table of goals
covers them all. TensorFlow uses oneDNN on some processors only: run it with TF_ENABLE_ONEDNN_OPTS=0 and =1 into
two directories and give the second run --beside=FIRST/benchmark.json; then the goals have a column for each.
"""

import importlib.util
import pathlib
import sys

from absl import flags

from ficklenet_tf.errors import UserError
from tools import cli, define, words

FLAGS = flags.FLAGS

define.run_dir("runs/benchmark")
define.imports()
flags.DEFINE_string("photographs", None, "Directory of photographs (*.jpg); without it drawn ones are taken.")
flags.DEFINE_string("trained_run", None, "A finished run, whose networks are taken where a section can.")
flags.DEFINE_string("weights", "", "Of the backbone: imagenet, .npz or .h5; without it random ones.")
flags.DEFINE_integer("rounds", 5, "Timings of which the median is given.", lower_bound=1)
flags.DEFINE_enum("scale", "full", words.SCALES, "full: the paper's size; tiny: to see that it runs.")
flags.DEFINE_string("peers_python", None, "Python of an environment with requirements-peers.txt, for peers.")
flags.DEFINE_string("beside", None, "benchmark.json of a run with oneDNN in the other state: its goals too.")
flags.DEFINE_string("update", None, "Document whose marked places get the tables (docs/benchmark_onednn_on.md).")


def main(argv: list[str]) -> None:
    """Runs the sections named."""
    from tools.benchmarks import measure
    from tools.benchmarks import sections as benchmark

    sections = list(words.SECTIONS) if argv == ["all"] else argv
    unknown = [name for name in sections if name not in words.SECTIONS]
    if unknown or not sections:
        raise UserError(f"sections: expected all or some of {' '.join(words.SECTIONS)}, found "
                        f"{' '.join(argv) or 'none'}")
    options = measure.Options(
        output_dir=pathlib.Path(FLAGS.output_dir), photo_dir=FLAGS.photographs and pathlib.Path(FLAGS.photographs),
        run_dir=FLAGS.trained_run and pathlib.Path(FLAGS.trained_run), weights=FLAGS.weights, rounds=FLAGS.rounds,
        scale=FLAGS.scale, peers_python=FLAGS.peers_python)
    if argv == ["all"] and options.peers_python is None:
        sections.remove("peers")
        print("peers: left out, --peers_python is not given", file=sys.stderr)
    if argv == ["all"] and importlib.util.find_spec("pydensecrf") is None:
        sections.remove("crf")
        print("crf: left out, pydensecrf is not installed (make reference)", file=sys.stderr)
    benchmark.run(sections, options, FLAGS.update, FLAGS.beside)
    cli.done(" ".join(sections), options.output_dir)


if __name__ == "__main__":
    cli.start(main, arguments=True)
