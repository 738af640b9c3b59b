r"""Extracts seeds as tools.extract_seeds does, its shards handed out by Apache Beam.

    python -m tools.extract_with_beam --dataset=voc --data_dir=VOCdevkit --preset=cpu --output_dir=runs/voc \
        --num_shards=64 --beam_options=--runner=DirectRunner

The classifier is OUTPUT_DIR/classifier/, its maps are those of its inference_mode; there is no saliency_dir and no
uncertainty.
Apache Beam is not among requirements.txt: docs/fleet.md says how it is installed. Every Beam worker has this
project installed and sees --data_dir, --cache_dir and --output_dir under the same paths.
"""

from collections.abc import Sequence
from typing import Any

from absl import flags

from ficklenet_tf import presets
from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import artifacts, layout
from tools import cli, define, start

define.name(layout.SEEDS)
flags.DEFINE_boolean("keep_maps", False, "Also write the maps.")
flags.DEFINE_integer("num_shards", 8, "Number of shards; finished ones are not done again.", lower_bound=1)
flags.DEFINE_list("beam_options", [], "Options of the Beam runner, as --runner=DirectRunner.")
define.data(None)
define.stage(presets.MapsConfig)
define.stage(presets.SeedsConfig)


def extract_shard(index: int, count: int, run_dir: str, source: dict[str, Any], arguments: Any, name: str,
                  modules: Sequence[str] = ()) -> int:
    """One element of the pipeline; needs nothing but its arguments, for it may run on another machine.

    Args:
      index: of the shard.
      count: of shards.
      run_dir: the run's directory.
      source: arguments of `datasets.load_split`, by name.
      arguments: of `extraction.extract` after the split: both configs and both options.
      name: of the seeds' directory.
      modules: of --import.

    Returns:
      The index.
    """
    from ficklenet_tf.data import datasets
    from ficklenet_tf.seeds import extraction

    start.import_modules(modules)
    extraction.extract(run_dir, datasets.load_split(**source), *arguments, name=name, shard=(index, count))
    return index


def main() -> None:
    """Runs the shards through Beam, then checks that all is there and scores."""
    from ficklenet_tf.maps import extraction as map_extraction
    from ficklenet_tf.seeds import extraction

    classifier = artifacts.finished_run(cli.run_dir() / layout.CLASSIFIER, "classifier", "tools.train_classifier")
    arguments = (cli.config(presets.MapsConfig), cli.config(presets.SeedsConfig),
                 map_extraction.Options(mode=classifier["config"]["inference_mode"], seed=cli.FLAGS.seed),
                 extraction.Options(keep_maps=cli.FLAGS.keep_maps))
    try:
        import apache_beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise UserError(f"apache-beam: expected an installed package, found {error}; see docs/fleet.md") from error
    split, count, run_dir = cli.split(), cli.FLAGS.num_shards, str(cli.run_dir())
    cli.restart_stages(cli.FLAGS.name, layout.maps_of(cli.FLAGS.name))
    with apache_beam.Pipeline(options=PipelineOptions(cli.FLAGS.beam_options)) as pipeline:
        shards = pipeline | apache_beam.Create(range(count)) | apache_beam.Reshuffle()
        shards | apache_beam.Map(extract_shard, count, run_dir, cli.split_arguments(), arguments,
                                 cli.FLAGS.name, cli.FLAGS["import"].value)
    extraction.extract(run_dir, split, *arguments, name=cli.FLAGS.name)
    cli.done(f"seeds of {len(split)} images, {count} shards", cli.run_dir() / cli.FLAGS.name)


if __name__ == "__main__":
    cli.start(main)
