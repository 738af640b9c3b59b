"""The settings of every stage: what each is for, what it may be, where its default comes from.

A field's default is that of the preset `paper`; its `source` names who published it. `--help` of the binaries is made
of this file, so it imports nothing heavy. What fits none of it is refused when a config is made.
"""

import dataclasses
import numbers
from collections.abc import Sequence
from typing import Any

from ficklenet_tf.errors import UserError

MANY = 10**8  # more than anybody wants
SIDES, RATES, SHARE = (16, 8192), (1e-12, 10), (0, 1)  # of photographs in pixels; of learning; of anything
AUTO = "auto"

# Words that name a part of the software: the tables of those parts have the same (tests/training/test_settings.py).
# To the lists one adds what one adds to such a table (CONTRIBUTING.md).
BACKBONES = ["vgg16", "resnet50", "resnet101", "small"]
CLASSIFIER_HEADS, SEGMENTER_HEADS = ["stochastic", "hidden"], ["largefov", "largefov4", "aspp"]
CUES = ["activation", "gradient", "gradient_pixels", "saliency"]
REFINEMENTS = ["none", "crf", "srg", "affinity", "saliency", "harmonic"]
TRAINABLE = ("head", "last_block", "last_two_blocks", "all")
MODES = ("stochastic", "general", "deterministic")
PRECISIONS = ("float32", "bfloat16", "float16")

_PAPER = "FickleNet"


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is known of one field.

    Attributes:
      meaning: in one sentence.
      source: the paper that has the default, or "".
      limits: least and greatest number, or None for a word or a switch.
      words: legal words; beside `limits` those that may stand in a number's place.
      remedy: what to do about another word, or "".
    """

    meaning: str
    source: str = ""
    limits: tuple[float, float] | None = None
    words: Sequence[str] = ()
    remedy: str = ""

    def legal(self) -> str:
        """Returns what the field may be, as text: "0 to 1", "a or b"; nothing for a switch."""
        span = "{:.12g} to {:.12g}".format(*self.limits) if self.limits else ""
        if self.limits and self.limits[1] >= MANY:
            span = f"from {self.limits[0]:g}"
        return " or ".join([*filter(None, [span]), *self.words])


def _number(default: Any, limits: tuple[float, float], meaning: str, source: str = "", word: str = "") -> Any:
    return _field(default, Setting(meaning, source, limits, (word,) if word else ()))


def _word(default: str, words: Sequence[str], meaning: str, source: str = "", remedy: str = "") -> Any:
    return _field(default, Setting(meaning, source, words=words, remedy=remedy))


def _switch(default: bool, meaning: str, source: str = "") -> Any:
    return _field(default, Setting(meaning, source))


def _field(default: Any, setting: Setting) -> Any:
    return dataclasses.field(default=default, metadata={"setting": setting})


def setting_of(field: dataclasses.Field[Any]) -> Setting:
    """Returns the `Setting` of a field of one of these classes."""
    setting: Setting = field.metadata["setting"]
    return setting


class _Checked:
    """What the dataclasses below share: they refuse what a `Setting` does not allow."""

    def __post_init__(self) -> None:
        """Checks every field.

        Raises:
          UserError: names the field, what is legal and what was found.
        """
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            setting, value = setting_of(field), getattr(self, field.name)
            if isinstance(value, str) and value in setting.words:
                continue
            if setting.limits is not None:
                _check_number(field, setting, value)
                if hasattr(value, "item"):  # NumPy's: JSON has none
                    object.__setattr__(self, field.name, value.item())
            elif setting.words or not isinstance(value, bool):
                raise UserError(f"{field.name}: expected one of {', '.join(setting.words or ('True', 'False'))}, "
                                f"found {value!r}{setting.remedy}")


def _check_number(field: dataclasses.Field[Any], setting: Setting, value: Any) -> None:
    assert setting.limits is not None
    least, most = setting.limits
    given, whole = value if isinstance(value, tuple | list) else [value], "float" not in str(field.type)
    sound = [isinstance(n, numbers.Integral if whole else numbers.Real) and not isinstance(n, bool)
             and least <= float(n) <= most for n in given]
    if not sound or not all(sound):
        word = f" or {' or '.join(setting.words)}" if setting.words else ""
        raise UserError(f"{field.name}: expected {'a whole number' if whole else 'a number'} from {least:g} to "
                        f"{most:g}{word}, found {value!r}")


@dataclasses.dataclass(frozen=True)
class ClassifierConfig(_Checked):
    """Training of the stochastic classifier (FickleNet, Section 4.1)."""

    input_size: int = _number(321, SIDES, "Side in pixels to which photographs are warped.", _PAPER)
    backbone: str = _word("vgg16", BACKBONES, "Network below the head.", _PAPER,
                          "; one of your own is registered first, see ficklenet_tf.register_backbone")
    trainable_layers: str = _word("all", TRAINABLE, "What of the backbone is trained; what is below is computed once "
                                  "and kept.", _PAPER)
    kernel_size: int = _number(9, (1, 99), "Side of the window of the head's convolution, an odd number: s.", _PAPER)
    rate: float = _number(0.9, SHARE, "Share of hidden units that a selection drops: p.", _PAPER)
    rescale: bool = _switch(False, "Scale the hidden units that stay by 1 / (1 - rate).")  # measured: docs/voc.md
    head: str = _word("stochastic", CLASSIFIER_HEADS, "The paper's linear convolution, or one with a hidden "
                      "layer.", _PAPER)
    hidden: int = _number(512, (1, 65536), "Channels of the hidden layer, where head=hidden.")
    training_mode: str = _word("stochastic", MODES, "Which hidden units take part in training: center-preserving "
                               "selections, general dropout or all.", _PAPER)
    inference_mode: str = _word("stochastic", MODES, "Which hidden units take part when tags are predicted.", _PAPER)
    form: str = _word("contracted", ("contracted", "expanded"), "How the head is computed; the same answer, expanded "
                      "as in the paper takes more time and memory.")
    batch_size: int = _number(10, (1, 65536), "Photographs in a step.", _PAPER)
    epochs: int = _number(20, (0, MANY), "Times that every photograph is seen; 0: steps counts in their place.")
    steps: int | str = _number(0, (0, MANY), "Steps of training where epochs is 0; auto: 100 times the sixth root of "
                               "the number of photographs.", word=AUTO)
    learning_rate: float = _number(0.001, RATES, "Of Adam, for layers that are new.", _PAPER)
    pretrained_multiplier: float = _number(0.01, (0, 100), "Times the learning rate, for layers with pretrained "
                                           "weights.")  # not the paper's: docs/voc.md
    halve_every: int = _number(10, (1, MANY), "Epochs after which the learning rate is halved.", _PAPER)
    flips: bool = _switch(True, "Mirror half of the photographs at random.")
    photometric: float = _number(0.2, SHARE, "Strength of random changes of brightness, contrast and colour.")
    precision: str = _word("float32", (*PRECISIONS, AUTO), "Of the computation; auto: bfloat16 where the hardware "
                           "has it.")

    def __post_init__(self) -> None:
        """As `_Checked`, and the kernel has a centre."""
        super().__post_init__()
        if self.kernel_size % 2 == 0:
            raise UserError(f"kernel_size: expected an odd number, which has a centre, found {self.kernel_size}")


@dataclasses.dataclass(frozen=True)
class MapsConfig(_Checked):
    """Localization maps (FickleNet, Section 3.3)."""

    num_maps: int | str = _number(200, (1, 10**6), "Maps of one photograph: N; auto: until doubling N changes little.",
                                  _PAPER, AUTO)  # maps/aggregation.py
    auto_tolerance: float = _number(0.05, (1e-9, 1), "Of num_maps=auto: the greatest change, a share, of the mean and "
                                    "of the maximum map.")
    auto_most: int = _number(2000, (1, 10**6), "Of num_maps=auto: N at most.")
    method: str = _word("closed_form", ("closed_form", "tape"), "How maps are computed; the same maps, by the tape "
                        "as in the paper takes a thousand times as long.")
    cam: str = _word("gradcam", ("gradcam", "cam"), "Grad-CAM, or class activation maps (where all hidden units take "
                     "part).", _PAPER)
    sizes: tuple = _number((321,), SIDES, "Sides in pixels to which photographs are warped; of several the maps are "
                           "merged.", _PAPER)
    flip_views: bool = _switch(False, "Also take the maps of the mirrored photograph.")
    gradient: str = _word("none", ("none", "features", "pixels"), "Also keep the scores' gradient, for a background "
                          "cue.")

    def __post_init__(self) -> None:
        """As `_Checked`; reads what runs before 2026-11-26 recorded."""
        if isinstance(self.gradient, bool):
            object.__setattr__(self, "gradient", "pixels" if self.gradient else "none")
        super().__post_init__()


@dataclasses.dataclass(frozen=True)
class SeedsConfig(_Checked):
    """From maps to seeds (FickleNet, Sections 3.3 and 4.1)."""

    theta: float = _number(0.35, SHARE, "A pixel is a class's seed where any of its maps is above this share of the "
                           "map's maximum.", _PAPER)
    background_cue: str = _word("activation", CUES, "What tells the background where theta decides; the paper's is "
                                "saliency.")
    background_threshold: float = _number(0.1, SHARE, "Below it the cue says background.")
    max_uncertainty: float = _number(1.0, SHARE, "Seeds on which the maps agree less become nobody's; 1 keeps all.")
    refine: str = _word("none", REFINEMENTS, "Rule that makes seeds of "
                        "the mean maps in place of theta and the cue.", _PAPER)
    refine_low: float | str = _number(0.03, SHARE, "A pixel is background where no map reaches this score, before the "
                                      "CRF; auto: chosen without masks.", word=AUTO)
    refine_high: float = _number(0.03, SHARE, "The same, for objects: between the two a pixel is nobody's.")
    refine_scale: float = _number(0.5, (0.01, 1), "Photographs are reduced by this before they are refined.")
    walked_background: float = _number(0.25, SHARE, "refine=affinity: the background's score against the walked maps.")
    saliency_threshold: float = _number(0.1, SHARE, "refine=saliency: a pixel above it is an object's.")
    disputed: float = _number(0.2, (0, MANY), "refine=saliency: below the threshold a pixel is nobody's where a mean "
                              "map is at least this.")
    harmonic_threshold: float = _number(0.4, SHARE, "refine=harmonic: against the harmonic mean of map and saliency.",
                                        "DCSP")
    srg_distance: float = _number(442.0, (0, 442), "refine=srg: how far in colour seeds grow; 442: without limit.")

    def __post_init__(self) -> None:
        """As `_Checked`, and low is not above high."""
        super().__post_init__()
        if isinstance(self.refine_low, int | float) and self.refine_low > self.refine_high:
            raise UserError(f"refine_low: expected at most refine_high, {self.refine_high}, found {self.refine_low}")


@dataclasses.dataclass(frozen=True)
class AffinityConfig(_Checked):
    """Training of AffinityNet (Ahn & Kwak 2018), for refine=affinity."""

    low: float = _number(0.01, SHARE, "A pixel is taught as background where it is that even at this "
                          "background score.")
    high: float = _number(0.1, SHARE, "A pixel is taught as an object's where it is that even at this "
                           "background score.")
    label_scale: float = _number(0.5, (0.01, 1), "Photographs are reduced by this before they are labelled.")
    batch_size: int = _number(8, (1, 65536), "Photographs in a step.")
    steps: int = _number(500, (1, MANY), "Steps of training.")
    learning_rate: float = _number(0.001, RATES, "Of Adam; it falls to 0 by (1 - step / steps) to the power "
                                    "of 0.9.")  # theirs: SGD at 0.1


@dataclasses.dataclass(frozen=True)
class SegmenterConfig(_Checked):
    """Training of DeepLab on seeds (SEC, DSRG; FickleNet, Section 4.1)."""

    head: str = _word("largefov", SEGMENTER_HEADS, "DeepLab's head.", _PAPER)
    channels: int = _number(1024, (1, 65536), "Channels of the head's hidden layers.", "DeepLab")
    dilation: int = _number(12, (1, 4096), "Of the first convolution of head=largefov.", "DeepLab")
    dropout: float = _number(0.5, (0, 0.999), "After each hidden layer of the head.", "DeepLab")
    initializer: str = _word("normal", ("normal", "he_normal"), "Of new hidden layers; normal: N(0, 0.01).", "DeepLab")
    pretrained_fc: bool = _switch(True, "Take fc6 and fc7 from VGG-16's classifier where the weights hold it.",
                                  "DeepLab")
    trainable_layers: str = _word("all", TRAINABLE, "What of the backbone is trained; what is below is computed once "
                                  "and kept.", _PAPER)
    optimizer: str = _word("sgd", ("sgd", "adam"), "Stochastic gradient descent with momentum, or Adam.", "SEC")
    batch_size: int = _number(15, (1, 65536), "Photographs in a step.", "SEC")
    steps: int = _number(8000, (1, MANY), "Steps of training.", "SEC")
    learning_rate: float = _number(0.001, RATES, "Of pretrained layers; by SGD new ones learn 10 times as fast, their "
                                   "biases 20 times, pretrained biases twice.", "SEC")
    schedule: str = _word("staircase", ("staircase", "poly"), "How the learning rate falls: in steps, or "
                           "steadily to 0.", "SEC")
    decay: float = _number(0.1, (1e-9, 1), "staircase: times the learning rate, every decay_every steps.", "SEC")
    decay_every: int = _number(2000, (1, MANY), "staircase: steps.", "SEC")
    poly_power: float = _number(0.9, (0, 100), "poly: rate * (1 - step / steps) ** power.", "DeepLab-v2")
    pretrained_multiplier: float = _number(1.0, (0, 100), "adam: times the learning rate, for layers that are not "
                                           "new.")
    weight_decay: float = _number(5e-4, SHARE, "Of the layers' kernels.", "SEC")
    flips: bool = _switch(True, "Mirror half of the photographs at random.", "DSRG")
    photometric: float = _number(0.0, SHARE, "Strength of random changes of brightness, contrast and colour.")
    random_crop: bool = _switch(False, "Scale photographs by 0.5 to 1.5 and crop, in place of warping.")
    log_probs: str = _word("floored", ("floored", "softmax"), "Of seed and boundary loss: the logarithm of floored "
                           "probabilities, or the log-softmax.", "SEC")
    boundary_weight: float = _number(1.0, (0, MANY), "Of the boundary loss against the seed loss.", "SEC")
    crf_unaries: str = _word("log_probs", ("log_probs", "probs"), "What the boundary loss' CRF gets; probs: as in "
                             "DSRG's code.", "SEC")
    growing_foreground: float = _number(0.85, SHARE, "growing=dsrg: probability from which objects' seeds grow.",
                                        "DSRG")
    growing_background: float = _number(0.99, SHARE, "growing=dsrg: probability from which background grows.", "DSRG")
    expand_decay: float = _number(0.996, SHARE, "Expansion loss: weight of the next pixel by rank, of tagged classes.",
                                  "SEC")
    expand_background_decay: float = _number(0.999, SHARE, "The same of the background.", "SEC")
    full_loss: str = _word("pixels", ("pixels", "balanced"), "Masks' cross-entropy: the mean over all pixels, or over "
                           "objects and background apart.")
    alpha: float = _number(2.0, (0, MANY), "supervision=semi: weight of the masks' loss.", _PAPER)
    strong_share: float = _number(0.5, (0, 0.999), "supervision=semi: share of a batch that has masks; 0: their share "
                                  "of all images.")
    precision: str = _word("float32", (*PRECISIONS, AUTO), "Of the computation; auto: bfloat16 where the hardware "
                           "has it.")
    retrain_steps: int = _number(0, (0, MANY), "Steps of a second round on the first network's own labels (DSRG's "
                                 "retraining); 0: none.")
    retrain_learning_rate: float = _number(0.001, RATES, "Of the second round.", "DSRG")
    test_sizes: tuple = _number((241, 321, 401), SIDES, "Sides in pixels whose predictions are averaged.", "SEC")
    test_flip: bool = _switch(False, "Also predict the mirrored photograph.")


# A stage's name -> its config, in the order of the stages.
STAGES: dict[str, type[Any]] = {"classifier": ClassifierConfig, "maps": MapsConfig, "seeds": SeedsConfig,
                                "segmenter": SegmenterConfig, "affinity": AffinityConfig}


def stage_of(config: type[Any]) -> str:
    """Returns the name of the stage that a class of config is for."""
    return next(name for name, stage in STAGES.items() if stage is config)
