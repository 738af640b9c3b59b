"""Whether what a preset says goes together, before any stage begins; each setting checks itself (configs.py)."""

from ficklenet_tf import presets
from ficklenet_tf.data import feature_cache
from ficklenet_tf.errors import UserError
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
    backbones.say_sides((preset.classifier.input_size, *preset.maps.sizes, *preset.segmenter.test_sizes))


def check_sizes(base: presets.Preset, input_size: int) -> None:
    """Checks that maps are not taken at the preset's sizes where the classifier learns photographs of another one.

    Args:
      base: `presets.Preset` whose `maps.sizes` nothing has changed.
      input_size: of the classifier, in pixels.

    Raises:
      UserError: it is not the preset's.
    """
    if input_size != base.classifier.input_size:
        sizes, test_sizes = (",".join(map(str, each)) for each in (base.maps.sizes, base.segmenter.test_sizes))
        raise UserError(f"classifier.input_size: expected --maps.sizes beside it, as maps would be of {sizes} pixels; "
                        f"found {input_size} alone; give --maps.sizes={input_size}, and --segmenter.test_sizes in "
                        f"place of {test_sizes}")
