"""Trains AffinityNet on what the maps are sure of (Ahn & Kwak, CVPR 2018, Sections 3.1 and 3.2), or IRN (2019).

The loss of the affinities is the same; IRN takes surer labels: --low=0.05 --high=0.3 (their code).
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from ficklenet_tf import presets
from ficklenet_tf.data import datasets, input_pipeline, labels
from ficklenet_tf.maps import extraction as map_extraction
from ficklenet_tf.models import affinity, backbones, classifier, neighbours
from ficklenet_tf.runs import artifacts, layout, stage
from ficklenet_tf.seeds import extraction
from ficklenet_tf.seeds.affinity import Walker
from ficklenet_tf.training import loop

_FLOOR = 1e-5  # of a logarithm's argument (their code)


@dataclasses.dataclass(frozen=True)
class Options:
    """What the network learns from, beside `presets.AffinityConfig`.

    Attributes:
      maps: directory below the run's with the finished maps of the split.
      seed: of weights and order.
      training: `loop.Options`.
    """

    maps: str = layout.MAPS
    seed: int = 0
    training: loop.Options = loop.Options()


def train(run_dir: str | pathlib.Path, split: datasets.Split, config: presets.AffinityConfig,
          options: Options = Options(), *, name: str = layout.AFFINITY) -> dict[str, Any]:
    """Trains AffinityNet or IRN on a classifier's features, which stay; goes on where an earlier call stopped.

    First the labels are made, `<name>_labels/`: seeds by the CRF on a low and a high background score, 255 where the
    two disagree.

    Args:
      run_dir: the run's directory, with the maps and the classifier that made them.
      split: `datasets.Split`; its masks serve the labels' scores only.
      config: `presets.AffinityConfig`.
      options: `Options`.
      name: directory below run_dir for this stage.

    Returns:
      The content of run.json.

    Raises:
      UserError: see `seeds.extraction.make`.
    """
    run_dir = pathlib.Path(run_dir)
    artifacts.finished_run(run_dir / options.maps, "set of maps", "tools.extract_maps")
    map_settings = artifacts.read_json(run_dir / options.maps / layout.SETTINGS)
    classifier_name = map_settings["classifier_name"]
    trained = classifier.load(run_dir / classifier_name)
    below, kind = affinity.frozen(trained, run_dir), affinity.KINDS[config.kind]
    label_config = presets.SeedsConfig(refine="crf", refine_low=config.low, refine_high=config.high,
                                       refine_scale=config.label_scale)
    extraction.make(run_dir, split, label_config, maps=options.maps, name=layout.labels_of(name))
    settings = {"stage": "affinity", "config": dataclasses.asdict(config), "seed": options.seed,
                "classifier_name": classifier_name, "classifier": trained.run["finished"], "dataset": split.dataset,
                "maps": {key: value for key, value in map_settings.items() if key != "format"},
                "split": split.name, "fingerprint": split.fingerprint}

    def work() -> Callable[[], dict[str, Any]]:
        keras.utils.set_random_seed(options.seed)
        below.fill(split)
        network = kind.build([tuple(output.shape[1:]) for output in below.model.outputs])
        reader = input_pipeline.ExampleReader(
            split, options.seed, below.size, features=below.features, seeds_dir=run_dir / layout.labels_of(name),
            label_size=-(-below.size // backbones.STRIDE), flips=below.features is None or below.features.flips)
        schedule = keras.optimizers.schedules.PolynomialDecay(config.learning_rate, config.steps, 0.0, 0.9)

        def losses(batch: loop.Batch) -> loop.Scalars:
            batch = input_pipeline.prepared(batch, below.normalization)
            maps = below.model(input_pipeline.network_input(batch), training=False)
            return loss(network(maps, training=True), batch["label"], kind)

        rows = loop.fit(run_dir / name, loop.Learner(network, keras.optimizers.Adam(schedule), losses),
                        lambda start, context: input_pipeline.training_batches(
                            reader, batch_size=min(config.batch_size, len(split)), start_step=start, context=context),
                        config.steps, options.training)

        def facts() -> dict[str, Any]:
            artifacts.save_weights(network, run_dir / name / layout.WEIGHTS)
            return {"metrics": {key: value for row in rows[-1:] for key, value in row.items()
                                if key not in ("step", "learning_rate")}}

        return facts

    return stage.run(run_dir / name, settings, work)


def walker_of(run_dir: str | pathlib.Path, split: datasets.Split, preset: presets.Preset,
              map_options: map_extraction.Options = map_extraction.Options(), maps: str = layout.MAPS,
              training: loop.Options = loop.Options(), *, name: str = layout.AFFINITY) -> Walker:
    """Extracts maps, trains on them what tells affinities, and returns the `Walker`: all that --refine=affinity needs.

    Args:
      run_dir: the run's directory, with the classifier.
      split: `datasets.Split`.
      preset: `presets.Preset`, of which maps and affinity count.
      map_options: `maps.extraction.Options`; the seed is the training's too.
      maps: directory below run_dir of the maps; unless they are there, they are made.
      training: `loop.Options`.
      name: directory below run_dir for the network.
    """
    if artifacts.read_run(pathlib.Path(run_dir) / maps) is None:
        map_extraction.extract(run_dir, split, preset.maps, map_options, name=maps)
    train(run_dir, split, preset.affinity, Options(maps, map_options.seed, training), name=name)
    return Walker(run_dir, name)


def loss(output: tf.Tensor, label: tf.Tensor, kind: affinity.Kind) -> loop.Scalars:
    """Cross-entropy of the affinities, pairs of three kinds weighed apart: L = bg/4 + fg/4 + differing/2 (Eq. 4 to 7).

    Args:
      output: of the network, `[b, h, w, k]` float32.
      label: `[b, h, w]` uint8; pairs with a 255 do not count.
      kind: of the network.

    Returns:
      Scalars: "loss", and the means over the pairs of each kind.
    """
    names = ("background_loss", "foreground_loss", "differing_loss")
    totals, counts = [tf.constant(0.0)] * 3, [tf.constant(0.0)] * 3
    for offset, pair in zip(neighbours.offsets(), kind.affinities(output), strict=True):
        one, other = neighbours.pairs(label, offset)
        valid = (one != labels.IGNORE) & (other != labels.IGNORE)
        same, background = valid & (one == other), one == labels.BACKGROUND
        entropies = (-tf.math.log(pair + _FLOOR),) * 2 + (-tf.math.log(1 + _FLOOR - pair),)
        for k, mask in enumerate((same & background, same & ~background, valid & (one != other))):
            weight = tf.cast(mask, tf.float32)
            totals[k] += tf.reduce_sum(weight * entropies[k])
            counts[k] += tf.reduce_sum(weight)
    means = [total / tf.maximum(count, 1.0) for total, count in zip(totals, counts, strict=True)]
    return {"loss": means[0] / 4 + means[1] / 4 + means[2] / 2, **dict(zip(names, means, strict=True))}
