"""The presets: the numbers of one run, stage by stage. What each number is for: configs.py."""

import dataclasses

from ficklenet_tf.configs import AffinityConfig, ClassifierConfig, MapsConfig, SeedsConfig, SegmenterConfig

__all__ = ["CPU", "EVENING", "PAPER", "PRESETS", "TINY", "AffinityConfig", "ClassifierConfig", "MapsConfig", "Preset",
           "SeedsConfig", "SegmenterConfig"]


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
    ClassifierConfig(input_size=129, backbone="small", kernel_size=5, hidden=128, batch_size=16, epochs=15,
                     halve_every=10, learning_rate=0.002),
    MapsConfig(sizes=(129,)),
    SeedsConfig(refine="crf", refine_low=0.01, refine_high=0.01, refine_scale=1.0),
    SegmenterConfig(channels=128, dilation=3, initializer="he_normal", pretrained_fc=False, optimizer="adam",
                    batch_size=16, steps=400, learning_rate=1e-3, decay=0.33, decay_every=200, weight_decay=0.0,
                    full_loss="balanced", test_sizes=(129,)))

PRESETS = {preset.name: preset for preset in (PAPER, CPU, EVENING, TINY)}
