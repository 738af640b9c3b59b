"""Extracts seeds as tools.extract_seeds does, its shards handed out by Apache Beam.

    python -m tools.extract_with_beam --dataset=voc --data_dir=VOCdevkit --preset=cpu --output_dir=runs/voc \
        --num_shards=64 --beam_options=--runner=DirectRunner

Apache Beam is not among requirements.txt: docs/fleet.md says how it is installed. Every Beam worker has this
project installed and sees --data_dir, --cache_dir and --output_dir under the same paths.
"""

from absl import flags

from ficklenet_tf import presets
from ficklenet_tf.data import datasets
from ficklenet_tf.seeds import extraction
from tools import cli

flags.DEFINE_string("name", "seeds", "Directory below OUTPUT_DIR.")
flags.DEFINE_boolean("maps", False, "Also write the maps.")
flags.DEFINE_integer("num_shards", 8, "Number of shards; finished ones are not done again.", lower_bound=1)
flags.DEFINE_list("beam_options", [], "Options of the Beam runner, as --runner=DirectRunner.")
cli.define_data(None)
cli.define_stage(presets.Seeds)


def extract_shard(index, count, run_dir, source, preset, options):
    """One element of the pipeline; needs nothing but its arguments, for it may run on another machine.

    Args:
      index: of the shard.
      count: of shards.
      run_dir: the run's directory.
      source: arguments of `datasets.load_split`, by name.
      preset: `presets.Seeds`.
      options: of `extraction.extract`, by name.

    Returns:
      The index.
    """
    extraction.extract(run_dir, datasets.load_split(**source), preset, shard=(index, count), **options)
    return index


def main():
    """Runs the shards through Beam, then checks that all is there and scores."""
    try:
        import apache_beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise ValueError(f"apache-beam: expected an installed package, found {error}; see docs/fleet.md") from error
    split, count, run_dir = cli.split(), cli.FLAGS.num_shards, str(cli.run_dir())
    options = {"name": cli.FLAGS.name, "seed": cli.FLAGS.seed, "maps": cli.FLAGS.maps}
    with apache_beam.Pipeline(options=PipelineOptions(cli.FLAGS.beam_options)) as pipeline:
        shards = pipeline | apache_beam.Create(range(count)) | apache_beam.Reshuffle()
        shards | apache_beam.Map(extract_shard, count, run_dir, cli.split_arguments(), cli.stage("seeds"),
                                 options)
    extraction.extract(run_dir, split, cli.stage("seeds"), **options)
    cli.done(f"seeds of {len(split)} images, {count} shards", cli.run_dir() / cli.FLAGS.name)


if __name__ == "__main__":
    cli.start(main)
