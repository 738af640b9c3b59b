"""Maps of several classifiers as one: several finished map directories of a split -> another of the same form.

With "max" what any classifier has found is found: at a map's positions the union of the parts above a threshold is
their maximum above it (enlarged to a photograph, at least their union). It is how AE-PSL and TPL join their rounds and
OAA the moments of a training (training/erasing.py, training/accumulation.py). With "mean" all have their say.
"""

import concurrent.futures
import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ficklenet_tf.data import datasets, images
from ficklenet_tf.errors import UserError
from ficklenet_tf.maps import extraction, image_maps, localizer
from ficklenet_tf.maps.image_maps import ImageMaps
from ficklenet_tf.presets import MapsConfig
from ficklenet_tf.runs import artifacts, layout, shards, stage

_Statistics = list[dict[str, Any]]  # of each part: "mean", "max", "std", "probs" of one shape, "samples", "num_maps"


def _highest(parts: _Statistics) -> dict[str, Any]:
    means, spreads = (np.stack([part[name] for part in parts]) for name in ("mean", "std"))
    return {**localizer.merged(parts), "mean": means.max(0),
            "std": np.take_along_axis(spreads, means.argmax(0)[None], 0)[0]}


# By the word in `merge`.
RULES: dict[str, Callable[[_Statistics], dict[str, Any]]] = {"max": _highest, "mean": localizer.merged}


def joined(parts: Sequence[ImageMaps], rule: str) -> ImageMaps:
    """Joins the maps of one photograph at the size of the first ones.

    Args:
      parts: `ImageMaps` of the same photograph and tags, not empty.
      rule: one of `RULES`.

    Returns:
      `ImageMaps`. "max" is the greatest of the parts' "max". By the rule "max", "mean" is the greatest of the parts'
      means, and "std" belongs to the part that has it (the first of several); by "mean" they are the mean and the
      spread of all parts' maps together, each part counting alike. Softmax maps, where all have them, are averaged by
      both rules. Samples and gradient are the first part's, "num_maps" the greatest.
    """
    first = parts[0]
    shape = first.mean.shape[:2]
    names = ["mean", "max", "std", *(["probs"] if all(part.probs is not None for part in parts) else [])]
    statistics = [{"samples": part.samples, "num_maps": part.num_maps,
                   **{name: images.resize_maps(getattr(part, name), shape) for name in names}} for part in parts]
    return dataclasses.replace(first, **{"probs": None, **RULES[rule](statistics)})


def merge(run_dir: str | pathlib.Path, split: datasets.Split, names: Sequence[str], rule: str = "max", *,
          name: str = layout.MAPS, shard: shards.Shard = shards.WHOLE) -> dict[str, Any]:
    """Merges finished maps of a split; what is there is not made again. Seeds are made of them as of any maps.

    The settings of the result are those of the first part, with all parts' settings under "merged": what stands on
    one classifier (affinities, a background score "auto", the choice of a CRF) takes the first part's.

    Args:
      run_dir: the run's directory.
      split: `datasets.Split`.
      names: of the parts' directories below run_dir, at least one.
      rule: one of `RULES`, see `joined`.
      name: directory below run_dir for the result.
      shard: (index, count): only every count-th image, see shards.py.

    Returns:
      As `extraction.extract`.

    Raises:
      FileNotFoundError: a part has not been finished.
      UserError: no parts, one named twice or like the result, of other images or tags; an unknown rule; a part has
        been made again since the merging began.
    """
    run_dir = pathlib.Path(run_dir)
    if rule not in RULES:
        raise UserError(f"rule: expected one of {', '.join(RULES)}, found {rule!r}")
    if not names or len({*names, name}) != len(names) + 1:
        raise UserError(f"names: expected maps to merge into {name}, each once, found {', '.join(names) or 'none'}")
    parts = {part: _without_format(image_maps.finished_settings(run_dir / part, split)) for part in names}
    settings = {**parts[names[0]], "merged": {"rule": rule, "parts": parts}}

    def make_one(index: int) -> None:
        image_id = split.image_ids[index]
        read = [ImageMaps.read(layout.map_file(run_dir / part, image_id)) for part in names]
        for part, maps in zip(names, read, strict=True):
            if not np.array_equal(maps.tag_ids, read[0].tag_ids):
                raise UserError(f"{layout.map_file(run_dir / part, image_id)}: expected maps of the tags "
                                f"{read[0].tag_ids.tolist()} as in {names[0]}, found {maps.tag_ids.tolist()}")
        joined(read, rule).write(layout.map_file(run_dir / name, image_id))

    def work(pending: list[int]) -> Iterator[None]:
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            yield from pool.map(make_one, pending)

    config = MapsConfig(**settings["config"])
    return stage.run_per_image(
        {run_dir / name: settings}, split, files=lambda image_id: [layout.map_file(run_dir / name, image_id)],
        work=work, facts=lambda _: extraction.counts(run_dir / name, split, config), shard=shard)


def parts_of(settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns {name: settings} of what maps of these settings were merged of; of others nothing."""
    return settings.get("merged", {}).get("parts", {})


def check_part(run_dir: pathlib.Path, map_dir: pathlib.Path, name: str, settings: dict[str, Any]) -> None:
    """Raises UserError where a part of merged maps has been made again since; one that is gone may be gone."""
    path = run_dir / name / layout.SETTINGS
    if path.exists() and _without_format(artifacts.read_json(path)) != settings:
        raise UserError(f"{map_dir}: expected that it is merged of {run_dir / name} as it is, found that those maps "
                        f"have been made again since; merge them again into another directory, or remove {map_dir}")


def _without_format(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key != "format"}
