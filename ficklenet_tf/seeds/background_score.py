"""A background score without masks: what the classifier no longer sees when the foreground is covered says it.

For each score the CRF's seeds of some photographs cover the features of their foreground. A high score leaves parts
of the objects uncovered, where the classifier goes on seeing them; a low one covers more than it needs. The score is
taken for which (what a tag's logit loses) x (share of the photograph that is left) is greatest. See docs/voc.md.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import tensorflow as tf

from ficklenet_tf import configs
from ficklenet_tf.data import datasets
from ficklenet_tf.errors import UserError
from ficklenet_tf.maps.localizer import Localizer
from ficklenet_tf.presets import SeedsConfig
from ficklenet_tf.runs import artifacts, layout, progress, shards
from ficklenet_tf.seeds.refinement import crf_refine

AUTO = configs.AUTO  # presets.SeedsConfig.refine_low
SCORES = (0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.18, 0.25)
_LOOKED_AT = 60  # photographs


def settled(run_dir: str | pathlib.Path, split: datasets.Split, config: SeedsConfig, localizer: Localizer,
            map_settings: dict[str, Any], seed: int, shard: shards.Shard = shards.WHOLE) -> SeedsConfig:
    """Returns the config with "auto" for `refine_low` replaced by a number, which is `refine_high` too.

    The choice is made once for a classifier and its maps; `run_dir`/background_scores.json keeps it.

    Args:
      run_dir: the run's directory.
      split: `datasets.Split`.
      config: `presets.SeedsConfig`.
      localizer: of the maps.
      map_settings: what the maps are a function of, see `maps.extraction.settings_of`.
      seed: of the maps' selections.
      shard: see shards.py.

    Raises:
      UserError: shards would each choose for themselves.
    """
    if config.refine_low != AUTO or config.refine != "crf":
        return config
    path = pathlib.Path(run_dir) / layout.BACKGROUND_SCORES
    choices = artifacts.read_json(path) if path.exists() else {}
    settings = {key: value for key, value in map_settings.items() if key != "format"}
    key = hashlib.sha256(json.dumps([settings, config.refine_scale], sort_keys=True).encode()).hexdigest()[:16]
    if key not in choices:
        if shard != shards.WHOLE:
            raise UserError(f"refine_low: expected a number with shards, found {AUTO}, which each would choose alone")
        lost, left = measure(localizer, split, config.refine_scale, seed)
        score = choose(lost, left)
        choices[key] = {"score": score, "scores": SCORES, "lost": lost, "left": left}
        artifacts.write_json(path, choices)
        progress.say(f"background score: {score} (chosen by the tags of those of "
                     f"{min(_LOOKED_AT, len(split))} photographs that have any)")
    score = choices[key]["score"]
    return dataclasses.replace(config, refine_low=score, refine_high=score)


def choose(lost: Sequence[float], left: Sequence[float]) -> float:
    """Returns that of `SCORES` whose product of the two is greatest; see `measure`."""
    return SCORES[int(np.argmax(np.multiply(lost, left)))]


def measure(localizer: Localizer, split: datasets.Split, scale: float, seed: int) -> tuple[list[float], list[float]]:
    """Covers the foreground of some photographs at each of `SCORES`.

    Args:
      localizer: a `Localizer`.
      split: `datasets.Split`; evenly spaced images of it are looked at.
      scale: see `crf_refine`.
      seed: of the selections.

    Returns:
      (what the logit of a tag loses, the mean over images and their tags; the share of the photographs that is left
      as background), each a list over `SCORES`.
    """
    head = localizer.model.head
    logits = tf.function(lambda x: head.expected_logits(x), autograph=False, reduce_retracing=True)
    count = min(_LOOKED_AT, len(split))
    losses: list[np.ndarray] = []
    shares: list[np.ndarray] = []
    for index in progress.bar([k * len(split) // count for k in range(count)], desc="background score", unit="img"):
        prepared = localizer.prepare(split[index])
        tag_ids = np.flatnonzero(prepared["tags"])
        if not len(tag_ids):
            continue
        features = localizer.features(prepared)
        maps = localizer.localize({**prepared, "features": features}, seed)
        x, image = features[0].numpy(), prepared["image"].numpy()
        foregrounds = np.stack([_share(crf_refine(image, maps.mean, tag_ids, score, score, scale=scale) > 0, x.shape)
                                for score in SCORES])[..., None]
        whole, covered = (logits(tf.constant(parts)).numpy()[:, tag_ids] for parts in (x[None], x * (1 - foregrounds)))
        losses.extend((whole - covered).T)
        shares.append(1 - foregrounds.mean((1, 2, 3)))
    if not losses:
        raise UserError(f"{split.dataset} {split.name}: expected photographs with tags to choose a background score "
                        "on, found none; give --refine_low and --refine_high")
    return np.mean(losses, 0).tolist(), np.mean(shares, 0).tolist()


def _share(foreground: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Returns how much of each position of the features is foreground, `[h, w]` float32 of `[height, width]` bool."""
    return cv2.resize(foreground.astype(np.float32), shape[1::-1], interpolation=cv2.INTER_AREA)
