"""The numbers of every stage, each with its source. A flag of the stage's binary overrides any of them."""

import dataclasses
import numbers
from typing import Any

from ficklenet_tf.errors import UserError

MANY = 10**8  # more than anybody wants
SIDES, RATES = (16, 8192), (1e-12, 10)  # of photographs in pixels; of learning
# What numbers may be, from and to; the words that some take in their place are checked where they are known.
_LEGAL: dict[str, dict[str, tuple[float, float]]] = {
    "ClassifierConfig": {
        "input_size": SIDES, "kernel_size": (1, 99), "rate": (0, 1), "hidden": (1, 65536), "batch_size": (1, 65536),
        "epochs": (0, MANY), "steps": (0, MANY), "learning_rate": RATES, "pretrained_multiplier": (0, 100),
        "halve_every": (1, MANY), "photometric": (0, 1)},
    "MapsConfig": {"num_maps": (1, 10**6), "auto_tolerance": (1e-9, 1), "auto_most": (1, 10**6), "sizes": SIDES},
    "SeedsConfig": {
        "theta": (0, 1), "background_threshold": (0, 1), "max_uncertainty": (0, 1), "refine_low": (0, 1),
        "refine_high": (0, 1), "refine_scale": (0.01, 1), "walked_background": (0, 1), "saliency_threshold": (0, 1),
        "disputed": (0, MANY), "harmonic_threshold": (0, 1), "srg_distance": (0, 442)},
    "AffinityConfig": {
        "low": (0, 1), "high": (0, 1), "label_scale": (0.01, 1), "batch_size": (1, 65536), "steps": (1, MANY),
        "learning_rate": RATES},
    "SegmenterConfig": {
        "channels": (1, 65536), "dilation": (1, 4096), "dropout": (0, 0.999), "batch_size": (1, 65536),
        "steps": (1, MANY), "learning_rate": RATES, "decay": (1e-9, 1), "decay_every": (1, MANY),
        "poly_power": (0, 100), "pretrained_multiplier": (0, 100), "weight_decay": (0, 1), "photometric": (0, 1),
        "boundary_weight": (0, MANY), "growing_foreground": (0, 1), "growing_background": (0, 1),
        "expand_decay": (0, 1), "expand_background_decay": (0, 1), "alpha": (0, MANY), "strong_share": (0, 0.999),
        "retrain_steps": (0, MANY), "retrain_learning_rate": RATES, "test_sizes": SIDES},
}


def _check(config: Any) -> None:
    """Raises UserError where a number of a config is none, or one that cannot work."""
    for name, (least, most) in _LEGAL[type(config).__name__].items():
        value = getattr(config, name)
        kind = str(type(config).__annotations__[name])
        if isinstance(value, str) and "str" in kind:
            continue
        numbers_given, whole = value if isinstance(value, tuple | list) else [value], "float" not in kind
        sound = [isinstance(n, numbers.Integral if whole else numbers.Real) and not isinstance(n, bool)
                 and least <= float(n) <= most for n in numbers_given]
        if not sound or not all(sound):
            raise UserError(f"{name}: expected {'a whole number' if whole else 'a number'} from {least:g} to "
                            f"{most:g}, found {value!r}")
        if hasattr(value, "item"):  # NumPy's: JSON has none
            object.__setattr__(config, name, value.item())


@dataclasses.dataclass(frozen=True)
class ClassifierConfig:
    """Training of the stochastic classifier (FickleNet, Section 4.1)."""

    input_size: int = 321  # side in pixels
    backbone: str = "vgg16"
    trainable_layers: str = "all"  # head, last_block, last_two_blocks or all; below it is computed once
    kernel_size: int = 9  # s
    rate: float = 0.9  # p
    rescale: bool = False  # 1 / (1 - p): open in the paper; measured, see docs/voc.md
    head: str = "stochastic"  # one of models/classifier.py's HEADS
    hidden: int = 512  # channels of the layer of "hidden"
    training_mode: str = "stochastic"  # which hidden units: stochastic, general or deterministic (Table 7)
    inference_mode: str = "stochastic"
    form: str = "contracted"
    batch_size: int = 10
    epochs: int = 20  # open in the paper; 0: `steps` in their place
    steps: int | str = 0  # "auto": 100 times the sixth root of the number of photographs
    learning_rate: float = 0.001  # Adam; of the new layer
    pretrained_multiplier: float = 0.01  # of it, for layers with pretrained weights: not the paper's, see docs/voc.md
    halve_every: int = 10  # epochs
    flips: bool = True
    photometric: float = 0.2
    precision: str = "float32"

    def __post_init__(self) -> None:
        """Checks every number."""
        _check(self)
        if self.kernel_size % 2 == 0:
            raise UserError(f"kernel_size: expected an odd number, which has a centre, found {self.kernel_size}")


@dataclasses.dataclass(frozen=True)
class MapsConfig:
    """Localization maps (FickleNet, Section 3.3)."""

    num_maps: int | str = 200  # N; "auto": until doubling it changes little, see maps/aggregation.py
    auto_tolerance: float = 0.05  # of "auto": the greatest change of the mean and of the maximum map, a share
    auto_most: int = 2000  # of "auto"
    method: str = "closed_form"
    cam: str = "gradcam"  # "cam": class activation maps, with --mode=deterministic
    sizes: tuple = (321,)  # sides to which photographs are warped; more than one: multi-scale
    flip_views: bool = False
    gradient: str = "none"  # also the scores' gradient, for a background cue: by "features" (SEC) or by "pixels"

    def __post_init__(self) -> None:
        """Checks every number."""
        if isinstance(self.gradient, bool):  # as runs before 2026-11-26 recorded it
            object.__setattr__(self, "gradient", "pixels" if self.gradient else "none")
        _check(self)


@dataclasses.dataclass(frozen=True)
class SeedsConfig:
    """From maps to seeds (FickleNet, Sections 3.3 and 4.1)."""

    theta: float = 0.35
    background_cue: str = "activation"  # the paper: a saliency map, which VOC does not bring
    background_threshold: float = 0.1
    max_uncertainty: float = 1.0  # seeds with a greater `rule.uncertainty` become 255; 1 keeps all
    refine: str = "none"  # or a key of seeds/refinement.py: "crf" decides by the mean maps in place of theta and cue
    refine_low: float | str = 0.03  # its background scores, see seeds/refinement.py; "auto": one, background_score.py
    refine_high: float = 0.03
    refine_scale: float = 0.5  # it works on photographs reduced by this
    walked_background: float = 0.25  # "affinity": the score against the walked maps
    saliency_threshold: float = 0.1  # "saliency": above it a pixel is an object's;
    disputed: float = 0.2  # below it, it is nobody's where a mean map is at least this
    harmonic_threshold: float = 0.4  # "harmonic": DCSP's, against the harmonic mean of map and saliency
    srg_distance: float = 442.0  # "srg": how far in colour seeds grow; 442: no limit (Adams & Bischof 1994)

    def __post_init__(self) -> None:
        """Checks every number."""
        _check(self)
        if isinstance(self.refine_low, int | float) and self.refine_low > self.refine_high:
            raise UserError(f"refine_low: expected at most refine_high, {self.refine_high}, found {self.refine_low}")


@dataclasses.dataclass(frozen=True)
class AffinityConfig:
    """Training of AffinityNet (Ahn & Kwak 2018), for --refine=affinity."""

    low: float = 0.01  # background scores of its labels: a pixel is background even at the low one,
    high: float = 0.1  # an object even at the high one, or 255
    label_scale: float = 0.5  # as `SeedsConfig.refine_scale`
    batch_size: int = 8
    steps: int = 500
    learning_rate: float = 0.001  # Adam, poly 0.9; theirs is SGD at 0.1

    def __post_init__(self) -> None:
        """Checks every number."""
        _check(self)


@dataclasses.dataclass(frozen=True)
class SegmenterConfig:
    """Training of DeepLab on seeds (SEC, DSRG; FickleNet, Section 4.1)."""

    head: str = "largefov"
    channels: int = 1024
    dilation: int = 12
    dropout: float = 0.5
    initializer: str = "normal"  # of new hidden layers: N(0, 0.01), DeepLab; or he_normal
    pretrained_fc: bool = True  # fc6 and fc7 from VGG-16's classifier where the weights hold it (DeepLab)
    trainable_layers: str = "all"  # as the classifier's
    optimizer: str = "sgd"
    batch_size: int = 15  # SEC
    steps: int = 8000  # SEC
    learning_rate: float = 0.001  # SEC; new layers 10 x, their biases 20 x, of pretrained ones the biases 2 x
    schedule: str = "staircase"  # SEC, DSRG; "poly": DeepLab-v2
    decay: float = 0.1  # SEC: every decay_every steps
    decay_every: int = 2000
    poly_power: float = 0.9  # DeepLab-v2: rate * (1 - step / steps) ** power
    pretrained_multiplier: float = 1.0  # of Adam's rate, for layers that are not new
    weight_decay: float = 5e-4
    flips: bool = True
    photometric: float = 0.0
    random_crop: bool = False  # scale 0.5 to 1.5 and crop, in place of warping (DeepLab; DSRG's second round)
    log_probs: str = "floored"  # of seed and boundary loss: SEC's; or "softmax"
    boundary_weight: float = 1.0
    crf_unaries: str = "log_probs"  # of the CRF in the boundary loss: SEC; DSRG's code: "probs"
    growing_foreground: float = 0.85  # DSRG, thresholds of --growing=dsrg
    growing_background: float = 0.99
    expand_decay: float = 0.996  # SEC, of --losses=seed,expand,boundary
    expand_background_decay: float = 0.999
    full_loss: str = "pixels"  # what L_full is the mean over; or "balanced": objects and background apart
    alpha: float = 2.0  # weight of L_full, --supervision=semi
    strong_share: float = 0.5  # strong images' part of a batch (open in the paper); 0: their part of all images
    precision: str = "float32"
    retrain_steps: int = 0  # DSRG's second round, on the first network's own predictions
    retrain_learning_rate: float = 0.001
    test_sizes: tuple = (241, 321, 401)  # SEC, DSRG
    test_flip: bool = False

    def __post_init__(self) -> None:
        """Checks every number."""
        _check(self)


@dataclasses.dataclass(frozen=True)
class Preset:
    """One run's numbers, stage by stage."""

    name: str
    classifier: ClassifierConfig
    maps: MapsConfig
    seeds: SeedsConfig
    segmenter: SegmenterConfig
    affinity: AffinityConfig = AffinityConfig()


PAPER = Preset("paper", ClassifierConfig(), MapsConfig(), SeedsConfig(), SegmenterConfig())

# Two cores: an hour for a few hundred photographs, two for VOC's 3,700. The classifier's head and the segmenter's last
# block and head are trained; what is below is computed once, in bfloat16 where the hardware has it.
CPU = Preset(
    "cpu",
    ClassifierConfig(trainable_layers="head", epochs=0, steps="auto", photometric=0.0, flips=False, precision="auto"),
    MapsConfig(),
    SeedsConfig(refine="crf"),
    SegmenterConfig(channels=512, initializer="he_normal", pretrained_fc=False, trainable_layers="last_block",
                    optimizer="adam", batch_size=10, steps=800, learning_rate=5e-4, decay=0.33,
                    decay_every=300, pretrained_multiplier=0.1, weight_decay=0.0, precision="auto",
                    retrain_learning_rate=2e-4))  # no second round: with the CRF it harms, see docs/voc.md

# Two cores and an evening: as `cpu`, from maps of three sizes and of the mirrored photograph (docs/voc.md), and the
# segmenter three times as long.
EVENING = dataclasses.replace(
    CPU, name="evening", maps=MapsConfig(sizes=(241, 321, 481), flip_views=True),
    segmenter=dataclasses.replace(CPU.segmenter, steps=2400, decay_every=900))

# The embedded data set, in minutes: a small backbone, trained from nothing.
TINY = Preset(
    "tiny",
    ClassifierConfig(input_size=129, backbone="small", kernel_size=5, batch_size=16, epochs=15, halve_every=10,
                     learning_rate=0.002),
    MapsConfig(sizes=(129,)),
    SeedsConfig(refine="crf", refine_low=0.01, refine_high=0.01, refine_scale=1.0),
    SegmenterConfig(channels=128, dilation=3, initializer="he_normal", pretrained_fc=False, optimizer="adam",
                    batch_size=16, steps=400, learning_rate=1e-3, decay=0.33, decay_every=200, weight_decay=0.0,
                    full_loss="balanced", test_sizes=(129,)))

PRESETS = {preset.name: preset for preset in (PAPER, CPU, EVENING, TINY)}
