"""What a segmenter learns from: images with seeds, images with masks, or both (FickleNet, Section 4).

weak: L_seed + L_boundary on seeds. full: L_full on masks. semi: both, in every batch,
L_seed + L_boundary + alpha L_full.
"""

import dataclasses
import functools
import logging

import tensorflow as tf

from ficklenet_tf.data import datasets, labels
from ficklenet_tf.errors import UserError
from ficklenet_tf.seeds import region_growing
from ficklenet_tf.training import losses

KINDS = ("weak", "semi", "full")
GROWINGS = ("none", "dsrg")


@dataclasses.dataclass(frozen=True)
class Task:
    """What is learned from what; made by `plan`.

    Attributes:
      kind: one of `KINDS`.
      weak: `datasets.Split` of the images with seeds, or None.
      strong: `datasets.Split` of the images with masks, or None.
      losses_used: of `LOSSES`, for the weak images.
      growing: one of `GROWINGS`.
    """

    kind: str
    weak: datasets.Split | None
    strong: datasets.Split | None
    losses_used: tuple
    growing: str

    def settings(self):
        """Returns what of it a run is a function of, for settings.json."""
        strong = self.strong and {"split": self.strong.name, "images": len(self.strong),
                                  "fingerprint": self.strong.fingerprint}
        return {"supervision": self.kind, "losses": list(self.losses_used), "growing": self.growing, "strong": strong}

    def total_loss(self, model, config):
        """Returns the function from a batch to its losses, for `training.fit`.

        Args:
          model: logits of a batch's "image" or "features".
          config: `presets.SegmenterConfig`: weights and thresholds.

        Returns:
          batch -> dict of scalars: "loss", the weighted parts whose sum it is ("strong_loss": alpha L_full), and
          with growing "seeds_share", the labelled pixels' share. A batch is a dict as of
          `input_pipeline.training_batches`; under "strong" it may hold another, of images with masks.
        """
        def losses_of(batch):
            strong = batch.get("strong")
            x = _inputs(batch) if strong is None else tf.concat([_inputs(batch), _inputs(strong)], 0)
            logits = model(x, training=True)
            if strong is None:
                parts, measured = _weak_losses(logits, batch, config, self)
            else:
                weak, masked = tf.split(logits, [tf.shape(batch["label"])[0], tf.shape(strong["label"])[0]])
                parts, measured = _weak_losses(weak, batch, config, self)
                parts["strong_loss"] = config.alpha * losses.full_loss(masked, strong["label"])
            return {"loss": tf.add_n(list(parts.values())), **parts, **measured}

        return losses_of


def plan(kind, split, strong=None, losses_used=("seed", "boundary"), growing="none"):
    """Returns the `Task`; see `divide` for `split` and `strong`, `Task` for the others.

    Raises:
      ValueError: these do not go together; the message says what to change.
    """
    for name, words, legal in (("supervision", [kind], KINDS), ("growing", [growing], GROWINGS),
                               ("losses", losses_used, LOSSES)):
        if not words or len(set(words)) < len(words) or not set(words) <= set(legal):
            raise UserError(f"{name}: expected {'some' if name == 'losses' else 'one'} of {', '.join(legal)}, "
                            f"found {','.join(words)!r}")
    if growing != "none" and (kind == "full" or "seed" not in losses_used):
        raise UserError(f"growing {growing}: expected seeds that can grow and the seed loss, found supervision "
                        f"{kind} with losses {','.join(losses_used)}")
    return Task(kind, *divide(kind, split, strong), ("full",) if kind == "full" else tuple(losses_used), growing)


def divide(kind, split, strong=None):
    """Says which images are learned from their seeds, and which from their masks.

    The strong images are left out of the weak ones (the paper: 1.4k strong and 9k weak). Images without a mask
    cannot be strong; they are counted in a warning.

    Args:
      kind: one of `KINDS`.
      split: `datasets.Split`: of "weak" and "semi" the images with seeds, of "full" those with masks.
      strong: for "semi": `datasets.Split` of the images with masks.

    Returns:
      (weak split or None, strong split or None).

    Raises:
      ValueError: one of those that `kind` wants would be empty.
    """
    if (kind == "semi") != (strong is not None):
        raise UserError(f"supervision {kind}: expected {'' if kind == 'semi' else 'no '}strong images, "
                        f"found {'some' if strong is not None else 'none'}")
    if kind == "weak":
        return split, None
    strong = split if kind == "full" else strong
    kept = [i for i, labelled in enumerate(strong.labelled) if labelled]
    if not kept:
        raise UserError(f"supervision {kind}: expected masks in {strong.dataset} {strong.name}, found none")
    if len(kept) < len(strong):
        logging.getLogger(__name__).warning("%s %s: %d of %d images have no mask, left out", strong.dataset,
                                            strong.name, len(strong) - len(kept), len(strong))
        strong = strong.select(kept)
    if kind == "full":
        return None, strong
    known = set(strong.image_ids)
    kept = [i for i, image_id in enumerate(split.image_ids) if image_id not in known]
    if not kept:
        raise UserError(f"supervision semi: expected images in {split.dataset} {split.name} that are not among the "
                        f"strong ones ({strong.name}), found none")
    return (split if len(kept) == len(split) else split.select(kept)), strong


def batch_sizes(batch_size, weak, strong, share):
    """Returns how many weak and how many strong images make a batch.

    Args:
      batch_size: of both.
      weak: `datasets.Split` or None.
      strong: `datasets.Split` or None.
      share: strong images' part of a batch, above 0 and below 1; 0: their part of all images, one pool as it were.
    """
    if weak is None:
        return 0, min(batch_size, len(strong))
    if strong is None:
        return min(batch_size, len(weak)), 0
    total = min(batch_size, len(weak) + len(strong))
    if not 0 <= share < 1 or total < 2:
        raise UserError("strong_share and batch_size: expected 0 <= share < 1 and two images a batch or more, found "
                        f"{share} and {total}")
    own = min(max(round(total * (share or len(strong) / (len(weak) + len(strong)))), 1), total - 1)
    return total - own, own


def _inputs(batch):
    return tf.cast(batch.get("features", batch.get("image")), tf.float32)


class Step:
    """What the losses of the weak images see in one step.

    Args:
      logits: `[b, h, w, classes]` float32.
      batch: as of `input_pipeline.training_batches`, with label images.
      config: `presets.SegmenterConfig`.
      growing: one of `GROWINGS`.

    Attributes:
      logits: as above.
      batch: as above.
      config: as above.
      seeds: `[b, h, w]` uint8, 255 where there is none: the label images, grown where that is asked for.
    """

    def __init__(self, logits, batch, config, growing="none"):
        self.logits, self.batch, self.config, self.seeds = logits, batch, config, batch["label"]
        if growing == "dsrg":
            self.seeds = region_growing.dsrg(tf.exp(self.refined), self.seeds, batch["tags"],
                                             config.growing_foreground, config.growing_background)

    @functools.cached_property
    def refined(self):
        """The dense CRF's answer to the logits, `[b, h, w, classes]` log Q; one CRF per step serves all who ask."""
        return losses.refine(self.logits, self.batch["small_image"], unaries=self.config.crf_unaries)


def _seed(step):
    return losses.seed_loss(step.logits, step.seeds)


def _expand(step):
    return losses.expand_loss(step.logits, step.batch["tags"], step.config.expand_decay,
                              step.config.expand_background_decay)


def _boundary(step):
    if not step.config.boundary_weight:
        return None
    return step.config.boundary_weight * losses.boundary_loss(step.logits, step.refined)


def _full(step):
    return losses.full_loss(step.logits, step.batch["label"])


# Of the weak images, by the word in --losses: a function of a `Step`, weighted; None where its weight is 0.
# "full" is the cross-entropy on their label images.
LOSSES = {"seed": _seed, "expand": _expand, "boundary": _boundary, "full": _full}


def _weak_losses(logits, batch, config, task):
    step = Step(logits, batch, config, task.growing)
    parts = {f"{name}_loss": LOSSES[name](step) for name in LOSSES if name in task.losses_used}
    measured = {}
    if task.growing == "dsrg":
        measured["seeds_share"] = tf.reduce_mean(tf.cast(step.seeds != labels.IGNORE, tf.float32))
    return {name: loss for name, loss in parts.items() if loss is not None}, measured
