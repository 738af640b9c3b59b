"""The settings of every stage: what each is for, what it may be, where its default comes from.

A field's default is that of the preset `paper`; its `source` names who published it. `--help` of the binaries is made
of this file, so it imports nothing heavy. What fits none of it is refused when a config is made.
"""

import dataclasses
from typing import Any

from ficklenet_tf.errors import UserError
from ficklenet_tf.setting import MANY, Checked, number, several, switch, word

SIDES, RATES, SHARE = (16, 8192), (1e-12, 10), (0, 1)  # of photographs in pixels; of learning; of anything
AUTO = "auto"

# Words that name a part of the software: the tables of those parts have the same (tests/training/test_settings.py).
# To the lists one adds what one adds to such a table (CONTRIBUTING.md).
BACKBONES = ["vgg16", "resnet50", "resnet101", "small"]
CLASSIFIER_HEADS, SEGMENTER_HEADS = ["stochastic", "hidden", "mdc", "eps"], ["largefov", "largefov4", "aspp"]
OBJECTIVES = ["tags", "mining", "mining_masks", "saliency"]
SEGMENTER_LOSSES = ["seed", "sec_seed", "expand", "boundary", "full", "em_fixed", "em_adapt", "mil_lse", "mil_max",
                    "stc"]
CUES = ["activation", "gradient", "gradient_pixels", "saliency"]
REFINEMENTS = ["none", "crf", "srg", "affinity", "saliency", "harmonic", "eps"]
TRAINABLE = ("head", "last_block", "last_two_blocks", "all")
GROWINGS = ("none", "dsrg")
ERASINGS = ("pixels", "features")
MODES = ("stochastic", "general", "deterministic")
PRECISIONS = ("float32", "bfloat16", "float16")
AFFINITIES = ["embedding", "boundary"]

_PAPER = "FickleNet"


@dataclasses.dataclass(frozen=True)
class ClassifierConfig(Checked):
    """Training of the stochastic classifier (FickleNet, Section 4.1)."""

    input_size: int = number(321, SIDES, "Side in pixels to which photographs are warped.", _PAPER)
    backbone: str = word("vgg16", BACKBONES, "Network below the head.", _PAPER,
                         "; one of your own is registered first, see ficklenet_tf.register_backbone")
    trainable_layers: str = word("all", TRAINABLE, "What of the backbone is trained; what is below is computed once "
                                 "and kept.", _PAPER)
    kernel_size: int = number(9, (1, 99), "Side of the window of the head's convolution, an odd number: s.", _PAPER)
    rate: float = number(0.9, SHARE, "Share of hidden units that a selection drops: p.", _PAPER)
    rescale: bool = switch(False, "Scale the hidden units that stay by 1 / (1 - rate).")  # measured: docs/voc.md
    head: str = word("stochastic", CLASSIFIER_HEADS, "The paper's linear convolution; one above hidden layers; MDC's "
                     "dilated branches; eps: above hidden layers, with a background, for the objective "
                     "saliency.", _PAPER)
    hidden: int = number(512, (1, 65536), "head=hidden, mdc, eps: channels of each hidden layer.")
    training_mode: str = word("stochastic", MODES, "Which hidden units take part in training: center-preserving "
                              "selections, general dropout or all.", _PAPER)
    inference_mode: str = word("stochastic", MODES, "Which hidden units take part when tags are predicted.", _PAPER)
    form: str = word("contracted", ("contracted", "expanded"), "How the head is computed; the same answer, expanded "
                     "as in the paper takes more time and memory.")
    objectives: tuple = several(("tags",), OBJECTIVES, "What is learned of a photograph.", _PAPER)
    batch_size: int = number(10, (1, 65536), "Photographs in a step.", _PAPER)
    epochs: int = number(20, (0, MANY), "Times that every photograph is seen; 0: steps counts in their place.")
    steps: int | str = number(0, (0, MANY), "Steps of training where epochs is 0; auto: 150; of heads with hidden "
                              "layers 100 times the sixth root of the number of photographs.", word=AUTO)
    learning_rate: float = number(0.001, RATES, "Of Adam, for layers that are new.", _PAPER)
    pretrained_multiplier: float = number(0.01, (0, 100), "Times the learning rate, for layers with pretrained "
                                          "weights.")  # not the paper's: docs/voc.md
    halve_every: int = number(10, (1, MANY), "Epochs after which the learning rate is halved.", _PAPER)
    flips: bool = switch(True, "Mirror half of the photographs at random.")
    photometric: float = number(0.2, SHARE, "Strength of random changes of brightness, contrast and colour.")
    precision: str = word("float32", (*PRECISIONS, AUTO), "Of the computation; auto: bfloat16 where the hardware "
                          "has it.")
    hidden_layers: int = number(1, (1, 16), "head=hidden, eps: how many.")
    hidden_dropout: float = number(0.0, (0, 0.999), "head=hidden, eps: after each hidden layer, in "
                                    "training.")
    suppression: float = number(1.0, (0.01, 1), "head=hidden, eps: no unit is above this share of its channel's "
                                "maximum (DRS); 1: none is cut.")
    # [not verified]: remembered
    dilations: tuple = number((1, 3, 6, 9), (1, 4096), "head=mdc: of the branches; the maps of all but the first are "
                              "averaged and added to the first's.", "MDC")
    erase: str = word("pixels", ERASINGS, "Where the regions that earlier maps have found are erased: in the "
                      "photograph, or in the head's features (TPL).", "AE-PSL")
    # [not verified]: remembered
    erase_share: float = number(0.2, SHARE, "A position is erased where an earlier mean map is above this share "
                                "of the map's maximum.", "AE-PSL")
    snapshots: int = number(0, (0, 10000), "Evenly spaced steps, the last one among them, whose weights are kept as "
                            "classifiers of their own.")
    early_stopping: int = number(0, (0, MANY), "Steps between two looks at the tags' loss of a tenth of the "
                                 "photographs, which are then not learned from; after three that are no better the "
                                 "training ends with the best weights. 0: it does not.")
    mining_weight: float = number(1.0, (0, MANY), "objectives=mining: of the probability that a class keeps "
                                  "where its region is erased; alpha.", "GAIN")
    # [not verified]: the paper's omega, remembered
    mining_masks_weight: float = number(10.0, (0, MANY), "objectives=mining_masks: of the difference between a "
                                        "class's region and its mask.", "GAIN")
    eps_tau: float = number(0.4, SHARE, "objectives=saliency: a tag counts as background where less of its "
                            "map is salient.", "EPS")
    eps_lambda: float = number(0.5, SHARE, "objectives=saliency: share of the tags' maps in the estimated "
                               "saliency; the rest is the background's.", "EPS")

    @property
    def erases_in_vain(self) -> bool:
        """Whether pixels would be erased that frozen layers have seen: their output is computed once, of them all."""
        return self.erase == "pixels" and self.trainable_layers != "all"

    def __post_init__(self) -> None:
        """As `Checked`; the kernel has a centre, snapshots their steps, the head with a background its loss.

        Nothing is set of hidden layers that the head does not have.
        """
        super().__post_init__()
        if self.kernel_size % 2 == 0:
            raise UserError(f"kernel_size: expected an odd number, which has a centre, found {self.kernel_size}")
        if self.early_stopping and self.snapshots:
            raise UserError(f"early_stopping: expected 0 beside {self.snapshots} snapshots, which are spaced over the "
                            f"whole training, found {self.early_stopping}")
        of_layers = (self.hidden_layers, self.hidden_dropout, self.suppression)
        if self.head in ("stochastic", "mdc") and of_layers != (1, 0.0, 1.0):
            raise UserError(f"head {self.head}: expected hidden_layers 1, hidden_dropout 0 and suppression 1, which "
                            f"are of the heads hidden and eps, found {of_layers[0]}, {of_layers[1]:g} and "
                            f"{of_layers[2]:g}")
        if (self.head == "eps") != ("saliency" in self.objectives):
            raise UserError(f"head and objectives: expected head eps and the objective saliency together, "
                            f"found head {self.head} and objectives {','.join(self.objectives)}")
        if self.head == "eps" and self.hidden_dropout:
            raise UserError("head eps: expected hidden_dropout 0, as its two losses would each drop other units, "
                            f"found {self.hidden_dropout:g}")


@dataclasses.dataclass(frozen=True)
class MapsConfig(Checked):
    """Localization maps (FickleNet, Section 3.3)."""

    num_maps: int | str = number(200, (1, 10**6), "Maps of one photograph: N; auto: until doubling N changes little.",
                                 _PAPER, AUTO)  # maps/aggregation.py
    auto_tolerance: float = number(0.05, (1e-9, 1), "Of num_maps=auto: the greatest change, a share, of the mean and "
                                   "of the maximum map.")
    auto_most: int = number(2000, (1, 10**6), "Of num_maps=auto: N at most.")
    method: str = word("closed_form", ("closed_form", "tape"), "How maps are computed; the same maps, by the tape "
                       "as in the paper takes a thousand times as long.")
    cam: str = word("gradcam", ("gradcam", "cam"), "Grad-CAM, or class activation maps (where all hidden units take "
                    "part).", _PAPER)
    sizes: tuple = number((321,), SIDES, "Sides in pixels to which photographs are warped; of several the maps are "
                          "merged at the size of the first one's.", _PAPER)
    flip_views: bool = switch(False, "Also take the maps of the mirrored photograph.")
    gradient: str = word("none", ("none", "features", "pixels"), "Also keep the scores' gradient, for a background "
                         "cue.")

    def __post_init__(self) -> None:
        """As `Checked`; reads what runs before 2026-11-26 recorded."""
        if isinstance(self.gradient, bool):
            object.__setattr__(self, "gradient", "pixels" if self.gradient else "none")
        super().__post_init__()


@dataclasses.dataclass(frozen=True)
class SeedsConfig(Checked):
    """From maps to seeds (FickleNet, Sections 3.3 and 4.1)."""

    theta: float = number(0.35, SHARE, "A pixel is a class's seed where any of its maps is above this share of the "
                          "map's maximum.", _PAPER)
    background_cue: str = word("activation", CUES, "What tells the background where theta decides; the paper's is "
                               "saliency.")
    background_threshold: float = number(0.1, SHARE, "Below it the cue says background.")
    max_uncertainty: float = number(1.0, SHARE, "Seeds on which the maps agree less become nobody's; 1 keeps all.")
    refine: str = word("none", REFINEMENTS, "Rule that makes seeds of "
                       "the mean maps in place of theta and the cue.", _PAPER)
    refine_low: float | str = number(0.03, SHARE, "A pixel is background where no map reaches this score, before the "
                                     "CRF; auto: one for both, chosen without masks.", word=AUTO)
    refine_high: float = number(0.03, SHARE, "The same, for objects: between the two a pixel is nobody's.")
    refine_scale: float = number(0.5, (0.01, 1), "Photographs are reduced by this before they are refined.")
    walked_background: float = number(0.25, SHARE, "refine=affinity: the background's score against the walked maps.")
    saliency_threshold: float = number(0.1, SHARE, "refine=saliency: a pixel above it is an object's.")
    disputed: float = number(0.2, (0, MANY), "refine=saliency: below the threshold a pixel is nobody's where a mean "
                             "map is at least this.")
    harmonic_threshold: float = number(0.4, SHARE, "refine=harmonic: against the harmonic mean of map and saliency.",
                                       "DCSP")
    eps_background: float | str = number(0.2, SHARE, "refine=eps: the background's score against the classes' softmax "
                                         "maps, each divided by its maximum; head: the head's own background, against "
                                         "maps as they are.", "EPS", word="head")
    srg_distance: float = number(442.0, (0, 442), "refine=srg: how far in colour seeds grow; 442: without limit.")

    def __post_init__(self) -> None:
        """As `Checked`, and low is not above high."""
        super().__post_init__()
        if isinstance(self.refine_low, int | float) and self.refine_low > self.refine_high:
            raise UserError(f"refine_low: expected at most refine_high, {self.refine_high}, found {self.refine_low}")


@dataclasses.dataclass(frozen=True)
class AffinityConfig(Checked):
    """Training of AffinityNet (Ahn & Kwak 2018) or IRN (Ahn et al. 2019), for refine=affinity."""

    low: float = number(0.01, SHARE, "A pixel is taught as background where it is that even at this "
                        "background score.")
    high: float = number(0.1, SHARE, "A pixel is taught as an object's where it is that even at this "
                         "background score.")
    label_scale: float = number(0.5, (0.01, 1), "Photographs are reduced by this before they are labelled.")
    batch_size: int = number(8, (1, 65536), "Photographs in a step.")
    steps: int = number(500, (1, MANY), "Steps of training.")
    learning_rate: float = number(0.001, RATES, "Of Adam; it falls to 0 by (1 - step / steps) to the power "
                                  "of 0.9.")  # theirs: SGD at 0.1
    kind: str = word("embedding", AFFINITIES, "What is learned: vectors whose distance is the affinity (AffinityNet), "
                     "or boundaries, which part what lies on both sides (IRN).", "AffinityNet")

    def __post_init__(self) -> None:
        """Raises UserError where a field is out of its range, or the scores are in the wrong order."""
        super().__post_init__()
        if self.low > self.high:
            raise UserError(f"low: expected at most high, {self.high}, found {self.low}")


@dataclasses.dataclass(frozen=True)
class SegmenterConfig(Checked):
    """Training of DeepLab on seeds (SEC, DSRG; FickleNet, Section 4.1)."""

    head: str = word("largefov", SEGMENTER_HEADS, "DeepLab's head.", _PAPER)
    channels: int = number(1024, (1, 65536), "Channels of the head's hidden layers.", "DeepLab")
    dilation: int = number(12, (1, 4096), "Of the first convolution of head=largefov.", "DeepLab")
    dropout: float = number(0.5, (0, 0.999), "After each hidden layer of the head.", "DeepLab")
    initializer: str = word("normal", ("normal", "he_normal"), "Of new hidden layers; normal: N(0, 0.01).", "DeepLab")
    pretrained_fc: bool = switch(True, "Take fc6 and fc7 from VGG-16's classifier where the weights hold it.",
                                 "DeepLab")
    trainable_layers: str = word("all", TRAINABLE, "What of the backbone is trained; what is below is computed once "
                                 "and kept.", _PAPER)
    optimizer: str = word("sgd", ("sgd", "adam"), "Stochastic gradient descent with momentum, or Adam.", "SEC")
    batch_size: int = number(15, (1, 65536), "Photographs in a step.", "SEC")
    steps: int = number(8000, (1, MANY), "Steps of training.", "SEC")
    learning_rate: float = number(0.001, RATES, "Of pretrained layers; by SGD new ones learn 10 times as fast, their "
                                  "biases 20 times, pretrained biases twice.", "SEC")
    schedule: str = word("staircase", ("staircase", "poly"), "How the learning rate falls: in steps, or "
                         "steadily to 0.", "SEC")
    decay: float = number(0.1, (1e-9, 1), "staircase: times the learning rate, every decay_every steps.", "SEC")
    decay_every: int = number(2000, (1, MANY), "staircase: steps.", "SEC")
    poly_power: float = number(0.9, (0, 100), "poly: rate * (1 - step / steps) ** power.", "DeepLab-v2")
    pretrained_multiplier: float = number(1.0, (0, 100), "adam: times the learning rate, for layers that are not "
                                          "new.")
    weight_decay: float = number(5e-4, SHARE, "Of the layers' kernels; adam: at the full rate, whatever the "
                                 "multiplier.", "SEC")
    flips: bool = switch(True, "Mirror half of the photographs at random.", "DSRG")
    photometric: float = number(0.0, SHARE, "Strength of random changes of brightness, contrast and colour.")
    random_crop: bool = switch(False, "Scale photographs by 0.5 to 1.5 and crop, in place of warping.")
    losses: tuple = several(("seed", "boundary"), SEGMENTER_LOSSES, "What is learned of photographs without a mask.",
                            _PAPER)
    growing: str = word("none", GROWINGS, "How seeds grow while the segmenter learns.", _PAPER)
    log_probs: str = word("floored", ("floored", "softmax"), "Of seed and boundary loss: the logarithm of floored "
                          "probabilities, or the log-softmax.", "SEC")
    boundary_weight: float = number(1.0, (0, MANY), "Of the boundary loss against the seed loss.", "SEC")
    crf_unaries: str = word("log_probs", ("log_probs", "probs"), "What the boundary loss' CRF gets; probs: as in "
                            "DSRG's code.", "SEC")
    growing_foreground: float = number(0.85, SHARE, "growing=dsrg: probability from which objects' seeds grow.",
                                       "DSRG")
    growing_background: float = number(0.99, SHARE, "growing=dsrg: probability from which background grows.", "DSRG")
    expand_decay: float = number(0.996, SHARE, "Expansion loss: weight of the next pixel by rank, of tagged classes.",
                                 "SEC")
    expand_background_decay: float = number(0.999, SHARE, "The same of the background.", "SEC")
    full_loss: str = word("pixels", ("pixels", "balanced"), "Masks' cross-entropy: the mean over all pixels, or over "
                          "objects and background apart.")
    alpha: float = number(2.0, (0, MANY), "supervision=semi: weight of the masks' loss.", _PAPER)
    strong_share: float = number(0.5, (0, 0.999), "supervision=semi: share of a batch that has masks; 0: their share "
                                 "of all images.")
    precision: str = word("float32", (*PRECISIONS, AUTO), "Of the computation; auto: bfloat16 where the hardware "
                          "has it.")
    retrain_steps: int = number(0, (0, MANY), "Steps of a second round on the first network's own labels (DSRG's "
                                "retraining); 0: none.")
    retrain_learning_rate: float = number(0.001, RATES, "Of the second round.", "DSRG")
    simple_first: bool = switch(False, "Learn photographs of one tag first, then all of them by the network's "
                                "own labels (STC): half of the steps, and twice a quarter.")
    test_sizes: tuple = number((241, 321, 401), SIDES, "Sides in pixels whose predictions are averaged.", "SEC")
    test_flip: bool = switch(False, "Also predict the mirrored photograph.")
    em_background_bias: float = number(3.0, (0, MANY), "em_fixed: added to the background's score.")
    em_foreground_bias: float = number(5.0, (0, MANY), "em_fixed: added to the scores of tagged classes.")
    em_background_share: float = number(0.4, SHARE, "em_adapt: share of a photograph's pixels that its background "
                                        "takes.")
    em_foreground_share: float = number(0.2, SHARE, "em_adapt: share that each tagged class takes.")
    mil_sharpness: float = number(5.0, (1e-3, 1000), "mil_lse and image_prior: how near an image's score of a class "
                                  "is to its greatest, not its mean score.")
    image_prior: bool = switch(False, "Multiply a pixel's probabilities by those of the whole image where predicted; "
                               "made for mil_lse.")


# A stage's name -> its config, in the order of the stages.
STAGES: dict[str, type[Any]] = {"classifier": ClassifierConfig, "maps": MapsConfig, "seeds": SeedsConfig,
                                "segmenter": SegmenterConfig, "affinity": AffinityConfig}


def stage_of(config: type[Any]) -> str:
    """Returns the name of the stage that a class of config is for."""
    return next(name for name, stage in STAGES.items() if stage is config)
