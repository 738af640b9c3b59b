"""Whether what a preset says goes together, before any stage begins; each setting checks itself (configs.py)."""

from ficklenet_tf import presets
from ficklenet_tf.data import feature_cache
from ficklenet_tf.models import backbones, pretrained
from ficklenet_tf.training import classifier as classifier_training


def check(preset: presets.Preset, weights: str | None) -> None:
    """Checks what must go together in a preset.

    Args:
      preset: `presets.Preset`.
      weights: of the backbone, see `pretrained.load_weights`; None where nothing is trained.

    Raises:
      UserError: the training has no length, the backbone no such cut, frozen layers would be random, or they would not
        see how photographs are changed.
    """
    if weights is not None:
        pretrained.check(weights, preset.classifier.backbone, preset.classifier.trainable_layers)
    classifier_training.steps_of(preset.classifier, 1)
    for config in (preset.classifier, preset.segmenter):
        if config.trainable_layers not in ("all", "head"):
            backbones.cut_layer(preset.classifier.backbone, config.trainable_layers)
        if config.trainable_layers != "all":
            feature_cache.check_augmentation(config)
