"""What the rows of one table have in common, by which `joined.join` knows parts of it again."""

import dataclasses
import pathlib
from typing import Any

from ficklenet_tf.experiments.plan import Plan
from ficklenet_tf.models import precision
from ficklenet_tf.runs import artifacts


def of(plan: Plan) -> dict[str, Any]:
    """Returns what a plan's tables are made with, but for systems and random seeds, as JSON has it.

    Args:
      plan: a `plan.Plan`.
    """
    preset = dataclasses.replace(plan.preset, classifier=precision.settled(plan.preset.classifier, plan.run_dir),
                                 segmenter=precision.settled(plan.preset.segmenter, plan.run_dir))
    splits = {"split": plan.split, "held_out": plan.held_out, "strong": plan.strong}
    return artifacts.as_json({
        "preset": dataclasses.asdict(preset), "weights": pathlib.Path(plan.weights).name,
        "crf": None if plan.spec is None else dataclasses.asdict(plan.spec), "map_images": plan.map_images, **{
            name: {"name": split.name, "images": len(split), "fingerprint": split.fingerprint}
            for name, split in splits.items() if split is not None}})
