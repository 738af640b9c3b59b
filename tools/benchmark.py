"""Measures what the project claims: speed, memory and growth, each against its alternative in one run.

    python -m tools.benchmark localization head --photos=VOCdevkit/VOC2012/JPEGImages

Sections: localization head crf segmenter pipeline serving scaling peers, or all. Prints tables and writes
benchmark.json, tables.md and plots into --output_dir, where the sections of earlier runs are kept; the table of goals
covers them all. TensorFlow computes by oneDNN on some processors only: run it with TF_ENABLE_ONEDNN_OPTS=0 and =1 into
two directories and give the second run --beside=FIRST/benchmark.json, then the goals have a column for each.
"""

import dataclasses
import importlib.util
import pathlib
import sys
import time

from absl import flags

from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import artifacts
from tools import cli
from tools.benchmarks import measure, tables

SECTIONS = ("localization", "head", "crf", "segmenter", "pipeline", "serving", "scaling", "peers")

FLAGS = flags.FLAGS


def _define_flags():
    flags.DEFINE_string("output_dir", "runs/benchmark", "The run's directory.")
    flags.DEFINE_string("photos", None, "Directory of photographs (*.jpg); without it drawn ones are taken.")
    flags.DEFINE_string("run_dir", None, "A finished run, whose networks are taken where a section can.")
    flags.DEFINE_string("weights", "", "Of the backbone: imagenet, .npz or .h5; without it random ones.")
    flags.DEFINE_integer("rounds", 5, "Timings of which the median is given.", lower_bound=1)
    flags.DEFINE_enum("scale", "full", list(measure.SIZES), "full: the paper's size; tiny: to see that it runs.")
    flags.DEFINE_string("peers_python", None, "Python of an environment with requirements-peers.txt, for peers.")
    flags.DEFINE_string("beside", None, "benchmark.json of a run with oneDNN in the other state: its goals too.")
    flags.DEFINE_string("update", None, "Document whose marked places get the tables (docs/benchmark_onednn_on.md).")


def run(sections, options, update=None, beside=None):
    """Runs sections and keeps what they found, section by section.

    Args:
      sections: names from `SECTIONS`.
      options: `measure.Options`.
      update: a document for the tables, or None; see `tables.update`.
      beside: benchmark.json of a run in the other state of oneDNN, for the table of goals, or None.

    Returns:
      The content of benchmark.json: {section: {"machine", "seconds", "tables"}}.
    """
    path = options.output_dir / "benchmark.json"
    found = artifacts.read_json(path) if path.exists() else {}
    other = beside and artifacts.read_json(beside)
    if update:
        for section in (*sections, "goals"):
            tables.marked(pathlib.Path(update).read_text(), section)  # better now than after the measurements
    for section in sections:
        facts, start = measure.machine(), time.perf_counter()
        made = importlib.import_module(f"tools.benchmarks.{section}").run(options)
        found[section] = {"machine": facts, "scale": options.scale, "rounds": options.rounds,
                          "seconds": time.perf_counter() - start, "tables": [tables.as_json(table) for table in made]}
        print(markdown(found[section], made), flush=True)
        for number, table in enumerate(made):
            if table.plot:
                tables.draw(table, options.output_dir / "plots" / f"{section}_{number}.png")
        found = {name: found[name] for name in SECTIONS if name in found}
        artifacts.write_json(path, found)
    written = {name: markdown(part, [_table(table) for table in part["tables"]]) for name, part in found.items()}
    aims = goals(found, other, options.scale)
    written = {"goals": tables.grid(aims.columns, aims.rows), **written}
    print(f"\n{aims.markdown()}")
    page = "\n\n".join(f"## {name}\n\n{text}" for name, text in written.items())
    artifacts.write_bytes(options.output_dir / "tables.md", f"{page}\n".encode())
    if update:
        tables.update(update, {name: written[name] for name in (*sections, "goals")})
    return found


def goals(found, beside, scale):
    """Returns the table of the goals of all sections measured at `scale`.

    Args:
      found: what `run` returns.
      beside: the same of a run in the other state of oneDNN, for two more columns, or None.
      scale: see `measure.Options`.
    """
    made, other = ([goal for part in (parts or {}).values() if part["scale"] == scale
                    for table in part["tables"] for goal in table["goals"]] for parts in (found, beside))
    aims = tables.goals_table(made)
    if not beside:
        return aims
    again = {(row[0], row[1]): row[3:] for row in tables.goals_table(other).rows}
    states = ["oneDNN on" if next(iter(parts.values()))["machine"]["onednn"] else "oneDNN off"
              for parts in (found, beside)]
    return dataclasses.replace(aims, columns=(*aims.columns[:3], states[0], "", states[1], " "),
                               rows=[[*row, *again.get((row[0], row[1]), (None, None))] for row in aims.rows])


def _table(stored):
    """Makes the table of its JSON; of what only `run` needs nothing is kept."""
    return tables.Table(stored["title"], tuple(stored["columns"]), stored["rows"], stored["note"])


def markdown(part, made):
    """Returns a section's tables with a line on machine and date."""
    facts = part["machine"]
    line = (f"{facts['date']}, {facts['cores']} cores of {facts['processor']}, {facts['memory_gib']} GiB, "
            f"oneDNN {'on' if facts.get('onednn') else 'off'}, load {facts['load'][0]} at the start, TensorFlow "
            f"{facts['versions'].get('tensorflow', facts['versions'].get('tensorflow-cpu'))}; "
            f"{part['rounds']} rounds, {part['seconds']:.0f} s"
            + ("" if part["scale"] == "full" else f"; scale {part['scale']}: its figures mean nothing"))
    return "\n\n".join([line, *(table.markdown() for table in made)])


def main(argv):
    """Runs the sections named."""
    sections = SECTIONS if argv == ["all"] else argv
    unknown = [name for name in sections if name not in SECTIONS]
    if unknown or not sections:
        raise UserError(f"sections: expected all or some of {' '.join(SECTIONS)}, found {' '.join(argv) or 'none'}")
    options = measure.Options(
        output_dir=pathlib.Path(FLAGS.output_dir), photo_dir=FLAGS.photos and pathlib.Path(FLAGS.photos),
        run_dir=FLAGS.run_dir and pathlib.Path(FLAGS.run_dir), weights=FLAGS.weights, rounds=FLAGS.rounds,
        scale=FLAGS.scale, peers_python=FLAGS.peers_python)
    if argv == ["all"] and options.peers_python is None:
        sections = SECTIONS[:-1]
        print("peers: left out, --peers_python is not given", file=sys.stderr)
    if argv == ["all"] and importlib.util.find_spec("pydensecrf") is None:
        sections = [name for name in sections if name != "crf"]
        print("crf: left out, pydensecrf is not installed (make reference)", file=sys.stderr)
    run(sections, options, FLAGS.update, FLAGS.beside)
    cli.done(" ".join(sections), options.output_dir)


if __name__ == "__main__":
    _define_flags()
    cli.start(main, arguments=True)
