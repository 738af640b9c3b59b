"""Whether the words of a preset are known, before any stage begins; its numbers check themselves (presets.py)."""

from collections.abc import Iterable
from typing import Any

from ficklenet_tf import presets
from ficklenet_tf.data import feature_cache
from ficklenet_tf.errors import UserError
from ficklenet_tf.maps import grad_cam, localizer
from ficklenet_tf.models import backbones, classifier, precision, segmenter, stochastic
from ficklenet_tf.seeds import background_score, cues, refinement
from ficklenet_tf.training import classifier as classifier_training
from ficklenet_tf.training import losses, optimizers

_PRECISIONS = (*precision.PRECISIONS, precision.AUTO)
# Each field with a word, by its stage.
WORDS: dict[str, dict[str, Iterable[str]]] = {
    "classifier": {"backbone": backbones.BACKBONES, "trainable_layers": backbones.TRAINABLE,
                   "head": classifier.HEADS, "training_mode": stochastic.MODES, "inference_mode": stochastic.MODES,
                   "form": stochastic.FORMS, "precision": _PRECISIONS},
    "maps": {"method": grad_cam.METHODS, "cam": grad_cam.CAMS, "gradient": localizer.GRADIENTS},
    "seeds": {"background_cue": cues.CUES, "refine": refinement.REFINEMENTS},
    "segmenter": {"head": segmenter.HEADS, "initializer": segmenter.INITIALIZERS,
                  "trainable_layers": backbones.TRAINABLE, "optimizer": optimizers.OPTIMIZERS,
                  "schedule": optimizers.SCHEDULES, "log_probs": losses.FORMS, "crf_unaries": losses.UNARIES,
                  "full_loss": losses.MEANS, "precision": _PRECISIONS},
}
# Numbers in whose place one word may stand.
NUMBER_OR: dict[str, dict[str, str]] = {
    "classifier": {"steps": classifier_training.AUTO}, "maps": {"num_maps": localizer.AUTO},
    "seeds": {"refine_low": background_score.AUTO}}


def check_words(stage: str, config: Any) -> None:
    """Checks every word of a stage's config.

    Args:
      stage: "classifier", "maps", "seeds", "affinity" or "segmenter".
      config: its config of `presets`.

    Raises:
      UserError: nobody knows a word.
    """
    for field, legal in WORDS.get(stage, {}).items():
        if getattr(config, field) not in legal:
            raise UserError(f"{stage}.{field}: expected one of {', '.join(legal)}, found {getattr(config, field)!r}")
    for field, word in NUMBER_OR.get(stage, {}).items():
        if isinstance(getattr(config, field), str) and getattr(config, field) != word:
            raise UserError(f"{stage}.{field}: expected a number or {word}, found {getattr(config, field)!r}")


def check(preset: presets.Preset) -> None:
    """Checks what must go together in a preset whose words are known.

    Raises:
      UserError: the training has no length, the backbone no such cut, or frozen layers would not see how photographs
        are changed.
    """
    classifier_training.steps_of(preset.classifier, 1)
    for config in (preset.classifier, preset.segmenter):
        if config.trainable_layers not in ("all", "head"):
            backbones.cut_layer(preset.classifier.backbone, config.trainable_layers)
        if config.trainable_layers != "all":
            feature_cache.check_augmentation(config)
