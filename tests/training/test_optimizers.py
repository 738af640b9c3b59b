"""The optimizers' learning rates by layer."""

import dataclasses

from ficklenet_tf import presets
from ficklenet_tf.models import segmenter
from ficklenet_tf.training import optimizers


def test_multipliers():
    config = dataclasses.replace(presets.PAPER.segmenter, channels=8)
    network, _, head, _ = segmenter.build(config, 3, "small")
    factors = dict(zip([v.path for v in network.trainable_variables],
                       optimizers.multipliers(network.trainable_variables, head.trainable_variables),
                       strict=True))
    assert {v for k, v in factors.items() if "fc" in k and "kernel" in k} == {10.0}
    assert {v for k, v in factors.items() if "fc" in k and "bias" in k} == {20.0}
    assert {v for k, v in factors.items() if k.startswith("block") and "kernel" in k} == {1.0}
