"""What seeds need beside maps, by `presets.SeedsConfig`: saliency maps, affinities, the scores' gradient."""

import dataclasses
import hashlib
import pathlib

from ficklenet_tf.data import datasets, feature_cache
from ficklenet_tf.errors import UserError
from ficklenet_tf.presets import MapsConfig, SeedsConfig
from ficklenet_tf.runs import artifacts, layout
from ficklenet_tf.seeds import affinity, cues, refinement

MADE_BY = "made by "  # how the identity of our own saliency maps begins


def check(config: SeedsConfig, saliency_dir: str | pathlib.Path | None, gradient: str | None = None) -> None:
    """Checks before any work that seeds can be made.

    Args:
      config: `presets.SeedsConfig`.
      saliency_dir: where saliency maps are, or will be; None: nowhere.
      gradient: which one the maps hold, see `MapsConfig.gradient`; None: what is needed.

    Raises:
      UserError: a cue or refinement without what it needs.
    """
    if saliency(config) and not saliency_dir:
        raise UserError("saliency: expected a map for each image; make them by tools.make_saliency, or pass "
                        "--saliency_dir")
    wanted = _gradient(config)
    if wanted and gradient not in (None, wanted):
        raise UserError(f"background_cue {config.background_cue}: expected maps with the gradient by {wanted}, found "
                        f"{gradient}; extract them with --gradient={wanted}")


def saliency(config: SeedsConfig) -> bool:
    """Whether a `presets.SeedsConfig` makes use of saliency: more supervision than tags."""
    return _cue(config) == "saliency" or config.refine in refinement.NEEDS_SALIENCY


def _cue(config: SeedsConfig) -> str | None:
    """Returns the background cue, None where the refinement decides without one."""
    return None if config.refine in refinement.CUELESS else config.background_cue


def with_gradient(maps_config: MapsConfig, config: SeedsConfig) -> MapsConfig:
    """Returns the `presets.MapsConfig` with the gradient where the background cue of `config` wants it."""
    wanted = _gradient(config)
    return dataclasses.replace(maps_config, gradient=wanted) if wanted else maps_config


def _gradient(config: SeedsConfig) -> str | None:
    return cues.GRADIENTS.get(_cue(config) or "")


def saliency_of(run_dir: str | pathlib.Path, config: SeedsConfig,
                saliency_dir: str | pathlib.Path | None) -> str | pathlib.Path | None:
    """Returns `saliency_dir`, or without one the run's own where `config` asks for saliency and it is finished."""
    own = pathlib.Path(run_dir) / layout.SALIENCY
    return own if saliency_dir is None and saliency(config) and artifacts.read_run(own) else saliency_dir


def check_saliency(saliency_dir: str | pathlib.Path, split: datasets.Split) -> None:
    """Checks before any work that each photograph has a saliency map, and that it is not another photograph's.

    Raises:
      UserError: one is missing; the directory is of another stage; or maps that `saliency.make` has made are of other
        photographs of the same names.
    """
    run = artifacts.read_run(saliency_dir)
    if run is not None and run.get("stage", "saliency") != "saliency":
        raise UserError(f"{saliency_dir}: expected saliency maps, found what the stage {run['stage']} has made")
    missing = [i for i in split.image_ids if not layout.label_image(saliency_dir, i).exists()]
    if missing:
        raise UserError(f"{saliency_dir}: expected a saliency map for each of {len(split)} images, {len(missing)} are "
                        f"missing, the first {missing[0]}.png")
    path = pathlib.Path(saliency_dir) / layout.PHOTOGRAPHS
    if run is None or run.get("fingerprint") == split.fingerprint or not path.exists():
        return
    looked_at = artifacts.read_json(path)
    other = [image_id for i, image_id in enumerate(split.image_ids)
             if looked_at.get(image_id) != feature_cache.checksum(split[i]["image"])]
    if other:
        raise UserError(f"{saliency_dir}: expected saliency maps of the {len(split)} photographs, {len(other)} are of "
                        f"others of the same name, the first {other[0]}.png; make them again by tools.make_saliency "
                        f"--restart={pathlib.Path(saliency_dir).name}")


def saliency_identity(saliency_dir: str | pathlib.Path) -> str:
    """Returns what tells saliency maps from others: the network that made them, or where another system's lie."""
    run = artifacts.read_run(saliency_dir)
    if run is None or "model" not in run:
        return str(saliency_dir)
    return f"{MADE_BY}{run['model']}" + (f", closer by maps of {run['maps']}" if "maps" in run else "")


def saliency_of_split(saliency_dir: str | pathlib.Path, split: datasets.Split) -> dict[str, str]:
    """Returns what saliency maps add to a stage's settings; of maps that a user brings, a digest of them too."""
    identity = {"saliency": saliency_identity(saliency_dir)}
    if identity["saliency"] != str(saliency_dir):
        return identity
    digest = hashlib.sha256()
    for image_id in split.image_ids:
        path = layout.label_image(saliency_dir, image_id)
        digest.update(path.read_bytes() if path.exists() else b"")
    return {**identity, "saliency_digest": digest.hexdigest()[:16]}


def saliency_settings(config: SeedsConfig, saliency_dir: str | pathlib.Path | None,
                      split: datasets.Split) -> dict[str, str]:
    """As `saliency_of_split`; nothing where `config` makes no use of saliency."""
    return saliency_of_split(saliency_dir, split) if saliency_dir and saliency(config) else {}


def open_walker(run_dir: str | pathlib.Path, name: str, classifier: str) -> affinity.Walker:
    """Opens the affinity network `name` of a run.

    Args:
      run_dir: the run's directory.
      name: directory of the network below it.
      classifier: when the classifier of the maps was finished.

    Raises:
      FileNotFoundError: the affinity network has not been trained.
      UserError: it stands on another classifier.
    """
    walker = affinity.Walker(run_dir, name)
    if walker.run["classifier"] != classifier:
        raise UserError(f"{name}: expected affinities on the classifier of the maps, found those on another; give "
                        "--affinity")
    return walker
