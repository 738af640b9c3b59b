"""How maps are drawn by a server: as those of the run's own seeds, and what of these a server does not do."""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

from ficklenet_tf import presets
from ficklenet_tf.maps import merging
from ficklenet_tf.maps.localizer import AUTO
from ficklenet_tf.runs import artifacts, layout


@dataclasses.dataclass(frozen=True)
class Drawing:
    """How the maps of one photograph are drawn.

    Attributes:
      size: side to which it is warped.
      mode: which hidden units take part, see `aggregation.Options`.
      cam: "gradcam" or "cam", see there.
      other_than_seeds: in what these are other maps than those of the run's seeds, in words; none: they are the same.
    """

    size: int
    mode: str
    cam: str = "gradcam"
    other_than_seeds: tuple[str, ...] = ()


def drawing(run_dir: str | pathlib.Path, classifier_run: dict[str, Any], config: presets.ClassifierConfig) -> Drawing:
    """Returns how the maps of a run's seeds were drawn, at the first of their sizes.

    Without seeds, or with those of another classifier, maps are drawn as the classifier predicts tags.

    Args:
      run_dir: the run's directory.
      classifier_run: run.json of its classifier.
      config: of that classifier.
    """
    seeds = artifacts.read_run(pathlib.Path(run_dir) / layout.SEEDS)
    if seeds is None or "maps" not in seeds:
        return Drawing(config.input_size, config.inference_mode)
    maps = seeds["maps"]
    name, finished = maps.get("classifier_name"), maps.get("classifier")
    if name not in (None, layout.CLASSIFIER):
        return Drawing(config.input_size, config.inference_mode,
                       other_than_seeds=(f"of {layout.CLASSIFIER}, those of the seeds are of {name}",))
    if finished not in (None, classifier_run["finished"]):
        return Drawing(config.input_size, config.inference_mode, other_than_seeds=(
            f"of {layout.CLASSIFIER} as it is, those of the seeds are of an earlier one",))
    maps_config = presets.MapsConfig(**maps["config"])
    return Drawing(maps_config.sizes[0], maps["mode"], maps_config.cam,
                   tuple(_left_out(maps, maps_config, presets.SeedsConfig(**seeds["config"]))))


def _left_out(maps: dict[str, Any], maps_config: presets.MapsConfig, config: presets.SeedsConfig) -> Iterator[str]:
    """Yields what of the seeds' maps a server does not do; `maps` are their settings."""
    if len(maps_config.sizes) > 1 or maps_config.flip_views:
        yield (f"of the photograph at {maps_config.sizes[0]} pixels, those of the seeds are merged of the sizes "
               f"{', '.join(map(str, maps_config.sizes))}{' and their mirror images' * maps_config.flip_views}")
    parts = merging.parts_of(maps)
    if len(parts) > 1:
        yield f"of one classifier, those of the seeds are merged of {len(parts)}"
    if maps.get("erased"):
        yield "of whole photographs, those of the seeds are of erased ones"
    if config.refine == "eps":
        yield "Grad-CAMs, those of the seeds are softmax maps"
    if maps_config.num_maps == AUTO and maps["mode"] != "deterministic":
        yield "of as many selections as a request says, those of the seeds of as many as each photograph took"
