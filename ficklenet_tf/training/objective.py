"""What a segmenter learns from: images with seeds or tags, images with masks, or both (FickleNet, Section 4).

weak: L_seed + L_boundary on seeds, or losses that need tags alone. full: L_full on masks. semi: both, in every batch,
L_seed + L_boundary + alpha L_full.
"""

import dataclasses
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import tensorflow as tf

from ficklenet_tf import configs, presets
from ficklenet_tf.data import datasets, input_pipeline, labels
from ficklenet_tf.errors import UserError
from ficklenet_tf.seeds import region_growing
from ficklenet_tf.training import expectation_maximization, losses, multiple_instance, pixel_saliency
from ficklenet_tf.training.loop import Batch, Scalars
from ficklenet_tf.training.once import once

KINDS = ("weak", "semi", "full")
GROWINGS = configs.GROWINGS


@dataclasses.dataclass(frozen=True)
class Task:
    """What is learned from what; made by `plan`.

    Attributes:
      supervision: one of `KINDS`.
      weak: `datasets.Split` of the images with seeds, or with tags alone (`needs_seeds`), or None.
      strong: `datasets.Split` of the images with masks, or None.
      losses_used: of `LOSSES`, for the weak images.
      growing: one of `GROWINGS`.
    """

    supervision: str
    weak: datasets.Split | None
    strong: datasets.Split | None
    losses_used: tuple[str, ...]
    growing: str

    @property
    def needs_seeds(self) -> bool:
        """Whether the weak images are learned from label images, and not from their tags alone."""
        return self.weak is not None and needs_seeds(self.losses_used)

    def settings(self) -> dict[str, Any]:
        """Returns the part of it that decides a run's result, for settings.json."""
        strong = self.strong and {"split": self.strong.name, "images": len(self.strong),
                                  "fingerprint": self.strong.fingerprint}
        return {"supervision": self.supervision, "strong": strong}

    def total_loss(self, model: keras.Model, config: presets.SegmenterConfig) -> Callable[[Batch], Scalars]:
        """Returns the function from a batch to its losses, for `loop.Learner`.

        Args:
          model: from a batch's "image" or "features" to logits.
          config: `presets.SegmenterConfig`: weights and thresholds.

        Returns:
          batch -> dict of scalars: "loss", the weighted parts that it is the sum of ("strong_loss": alpha L_full),
          and with growing seeds "seeds_share", the share of labelled pixels. A batch is a dict as of
          `input_pipeline.training_batches`; under "strong" it may hold another one, of images with masks.
        """
        def losses_of(batch: Batch) -> Scalars:
            strong = batch.get("strong")
            parts_of_batch = [batch] if strong is None else [batch, strong]
            inputs = [input_pipeline.network_input(part) for part in parts_of_batch]
            logits = model(tf.concat(inputs, 0), training=True)
            if strong is None:
                parts, measures = _weak_losses(logits, batch, config, self)
            else:
                weak_logits, strong_logits = tf.split(logits, [tf.shape(x)[0] for x in inputs])
                parts, measures = _weak_losses(weak_logits, batch, config, self)
                parts["strong_loss"] = config.alpha * losses.full_loss(strong_logits, strong["label"],
                                                                           config.full_loss)
            return {"loss": tf.add_n(list(parts.values())), **parts, **measures}

        return losses_of


def plan(supervision: str, split: datasets.Split, strong: datasets.Split | None = None,
         losses_used: Sequence[str] = ("seed", "boundary"), growing: str = "none") -> Task:
    """Returns the `Task`; see `divide` for `split` and `strong`, `Task` for the others.

    Raises:
      UserError: these do not go together; the message says what to change.
    """
    choices: tuple[tuple[str, Sequence[str], Iterable[str]], ...] = (
        ("supervision", [supervision], KINDS), ("growing", [growing], GROWINGS), ("losses", losses_used, LOSSES))
    for name, words, legal in choices:
        if not words or len(set(words)) < len(words) or not set(words) <= set(legal):
            raise UserError(f"{name}: expected {'some' if name == 'losses' else 'one'} of {', '.join(legal)}, "
                            f"found {','.join(words)!r}")
    if growing != "none" and (supervision == "full" or not {"seed", "sec_seed"} & set(losses_used)):
        raise UserError(f"growing {growing}: expected seeds that can grow and the seed loss, found supervision "
                        f"{supervision} with losses {','.join(losses_used)}")
    weak, strong = divide(supervision, split, strong)
    return Task(supervision, weak, strong, ("full",) if supervision == "full" else tuple(losses_used), growing)


def divide(supervision: str, split: datasets.Split,
           strong: datasets.Split | None = None) -> tuple[datasets.Split | None, datasets.Split | None]:
    """Says which images are learned from their seeds, and which from their masks.

    The strong images are left out of the weak ones (the paper: 1.4k strong and 9k weak). Images without a mask
    cannot be strong; they are counted in a warning.

    Args:
      supervision: one of `KINDS`.
      split: `datasets.Split`: of "weak" and "semi" the images with seeds, of "full" those with masks.
      strong: for "semi": `datasets.Split` of the images with masks.

    Returns:
      (weak split or None, strong split or None).

    Raises:
      UserError: `strong` is missing or not wanted, or a split that `supervision` wants would be empty.
    """
    if (supervision == "semi") != (strong is not None):
        raise UserError(f"supervision {supervision}: expected {'' if supervision == 'semi' else 'no '}strong images, "
                        f"found {'some' if strong is not None else 'none'}")
    if supervision == "weak":
        return split, None
    strong = split if strong is None else strong  # None: of "full", where all images are strong
    masked = strong.with_masks()
    if not len(masked):
        raise UserError(f"supervision {supervision}: expected masks in {strong.dataset} {strong.name}, found none")
    if len(masked) < len(strong):
        logging.getLogger(__name__).warning("%s %s: %d of %d images have no mask, left out", strong.dataset,
                                            strong.name, len(strong) - len(masked), len(strong))
    strong = masked
    if supervision == "full":
        return None, strong
    strong_ids = set(strong.image_ids)
    kept = [i for i, image_id in enumerate(split.image_ids) if image_id not in strong_ids]
    if not kept:
        raise UserError(f"supervision semi: expected images in {split.dataset} {split.name} that are not among the "
                        f"strong ones ({strong.name}), found none")
    return (split if len(kept) == len(split) else split.select(kept)), strong


def batch_sizes(batch_size: int, weak: datasets.Split | None, strong: datasets.Split | None,
                share: float) -> tuple[int, int]:
    """Returns how many weak and how many strong images make a batch.

    Args:
      batch_size: of both.
      weak: `datasets.Split` or None.
      strong: `datasets.Split` or None.
      share: strong images' part of a batch, above 0 and below 1; 0: their part of all images, as if both were one
        pool.

    Raises:
      UserError: a share out of this range, or a batch of less than two images for both.
    """
    if weak is None:
        assert strong is not None
        return 0, min(batch_size, len(strong))
    if strong is None:
        return min(batch_size, len(weak)), 0
    total = min(batch_size, len(weak) + len(strong))
    if not 0 <= share < 1 or total < 2:
        raise UserError("strong_share and batch_size: expected 0 <= share < 1 and at least two images per batch, "
                        f"found {share} and {total}")
    num_strong = min(max(round(total * (share or len(strong) / (len(weak) + len(strong)))), 1), total - 1)
    return total - num_strong, num_strong


class Step:
    """What the losses of the weak images see in one step.

    Args:
      logits: `[b, h, w, classes]` float32.
      batch: as of `input_pipeline.training_batches`, with small images, and label images where a loss wants them.
      config: `presets.SegmenterConfig`.
      growing: one of `GROWINGS`.

    Attributes:
      logits: as above.
      batch: as above.
      config: as above.
      growing: as above.
    """

    def __init__(self, logits: tf.Tensor, batch: Batch, config: presets.SegmenterConfig,
                 growing: str = "none") -> None:
        self.logits, self.batch, self.config, self.growing = logits, batch, config, growing

    @once
    def seeds(self) -> tf.Tensor:
        """`[b, h, w]` uint8, 255 where there is none: the label images, grown where that is asked for."""
        if self.growing == "none":
            return self.batch["label"]
        return region_growing.dsrg(tf.exp(self.refined), self.batch["label"], self.batch["tags"],
                                   self.config.growing_foreground, self.config.growing_background)

    @once
    def refined(self) -> tf.Tensor:
        """The dense CRF's answer to the logits, `[b, h, w, classes]` log Q; one CRF per step serves all losses."""
        return losses.refine(self.logits, self.batch["small_image"], unaries=self.config.crf_unaries)


def _seed(step: Step) -> tf.Tensor:
    return losses.seed_loss(step.logits, step.seeds, step.config.log_probs)


def _sec_seed(step: Step) -> tf.Tensor:
    return losses.sec_seed_loss(step.logits, step.seeds, step.config.log_probs)


def _expand(step: Step) -> tf.Tensor:
    return losses.expand_loss(step.logits, step.batch["tags"], step.config.expand_decay,
                              step.config.expand_background_decay)


def _boundary(step: Step) -> tf.Tensor | None:
    if not step.config.boundary_weight:
        return None
    return step.config.boundary_weight * losses.boundary_loss(step.logits, step.refined,
                                                              step.config.log_probs)


def _full(step: Step) -> tf.Tensor:
    return losses.full_loss(step.logits, step.batch["label"], step.config.full_loss)


def _em_fixed(step: Step) -> tf.Tensor:
    target = expectation_maximization.fixed_labels(step.logits, step.batch["tags"], step.config.em_background_bias,
                                                   step.config.em_foreground_bias)
    return losses.full_loss(step.logits, target)


def _em_adapt(step: Step) -> tf.Tensor:
    target = expectation_maximization.adapted_labels(step.logits, step.batch["tags"], step.config.em_background_share,
                                                     step.config.em_foreground_share)
    return losses.full_loss(step.logits, target)


def _mil_lse(step: Step) -> tf.Tensor:
    return multiple_instance.lse_loss(step.logits, step.batch["tags"], step.config.mil_sharpness)


def _mil_max(step: Step) -> tf.Tensor:
    return multiple_instance.max_loss(step.logits, step.batch["tags"])


def _stc(step: Step) -> tf.Tensor:
    return pixel_saliency.stc_loss(step.logits, step.batch["saliency"], step.batch["tags"])


# The losses of the weak images, by the word in --losses: each a function of a `Step`, weighted; it returns None where
# its weight is 0. "full" is the cross-entropy on their label images.
LOSSES: dict[str, Callable[[Step], tf.Tensor | None]] = {
    "seed": _seed, "sec_seed": _sec_seed, "expand": _expand, "boundary": _boundary, "full": _full,
    "em_fixed": _em_fixed, "em_adapt": _em_adapt, "mil_lse": _mil_lse, "mil_max": _mil_max,
    "stc": _stc}
# Those that look at no label image: a training of these alone needs no seeds.
SEEDLESS = frozenset(("expand", "boundary", "em_fixed", "em_adapt", "mil_lse", "mil_max", "stc"))
NEED_SALIENCY = ("stc",)
# Those that look at all pixels, with the photograph's tags.
OF_ALL_PIXELS = SEEDLESS - {"boundary"}


def needs_seeds(losses_used: Iterable[str]) -> bool:
    """Whether one of these losses looks at label images."""
    return not SEEDLESS.issuperset(losses_used)


def _weak_losses(logits: tf.Tensor, batch: Batch, config: presets.SegmenterConfig,
                 task: Task) -> tuple[Scalars, Scalars]:
    """Returns the weighted parts of the loss, by name, and what else is measured."""
    step = Step(logits, batch, config, task.growing)
    parts = {f"{name}_loss": LOSSES[name](step) for name in LOSSES if name in task.losses_used}
    measures = {}
    if task.growing == "dsrg":
        measures["seeds_share"] = tf.reduce_mean(tf.cast(step.seeds != labels.IGNORE, tf.float32))
    return {name: loss for name, loss in parts.items() if loss is not None}, measures
