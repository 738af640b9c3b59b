"""FickleNet (Lee et al., CVPR 2019) in TensorFlow: from photographs and tags to a served segmentation model.

    run = ficklenet_tf.load("runs/mine")
    maps = run.localize("a.jpg", tags=["dog"], num_maps=200, seed=0)    # .mean, .max, .std
    mask = run.predict("a.jpg", crf="dsrg")                             # .names, .shares, .labels, .overlay()

    probs = ficklenet_tf.crf.refine(photograph, probs)    # the dense CRF, on the answer of any network
    ficklenet_tf.register_backbone("mine", build)         # then ClassifierConfig(backbone="mine"), --backbone=mine

Importing the package loads none of its modules; TensorFlow is loaded with the first name that needs it.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ficklenet_tf import crf, presets
    from ficklenet_tf.errors import UserError
    from ficklenet_tf.evaluation.prediction import Predictor, load_segmenter
    from ficklenet_tf.loaded_run import LoadedRun, Prediction, load
    from ficklenet_tf.maps.image_maps import ImageMaps
    from ficklenet_tf.maps.localizer import Localizer, localize
    from ficklenet_tf.models.backbones import register_backbone
    from ficklenet_tf.models.classifier import Classifier, load_classifier
    from ficklenet_tf.models.stochastic import CenterPreservingDropout, FeatureMapExpansion, StochasticHead

__all__ = ["CenterPreservingDropout", "Classifier", "FeatureMapExpansion", "ImageMaps", "LoadedRun", "Localizer",
           "Prediction", "Predictor", "StochasticHead", "UserError", "crf", "load", "load_classifier",
           "load_segmenter", "localize", "presets", "register_backbone"]

_HOMES = {
    "CenterPreservingDropout": "models.stochastic", "Classifier": "models.classifier",
    "FeatureMapExpansion": "models.stochastic", "ImageMaps": "maps.image_maps", "LoadedRun": "loaded_run",
    "Localizer": "maps.localizer", "Prediction": "loaded_run", "Predictor": "evaluation.prediction",
    "StochasticHead": "models.stochastic", "UserError": "errors", "load": "loaded_run",
    "load_classifier": "models.classifier", "load_segmenter": "evaluation.prediction", "localize": "maps.localizer",
    "register_backbone": "models.backbones",
}


def __getattr__(name: str) -> object:
    """Imports a public name when it is asked for."""
    if name == "load":  # for whoever types it: TensorFlow's messages while it is loaded mean nothing there
        importlib.import_module(f"{__name__}.runs.quiet").load_tensorflow()
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
