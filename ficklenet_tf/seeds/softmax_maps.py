"""Seeds of a head with a background: its softmax maps as they are (EPS: Lee et al. 2021).

EPS' public code (infer.py) divides each tag's softmax map by its maximum and sets a constant score against them,
`presets.SeedsConfig.eps_background`; "head" sets the head's own background against the maps before any division.
"""

import numpy as np

from ficklenet_tf.data import images, labels
from ficklenet_tf.errors import UserError
from ficklenet_tf.seeds.evidence import Evidence


def greatest(evidence: Evidence) -> np.ndarray:
    """Gives each pixel to the tag or the background whose map is greatest there: `[h, w]` uint8 labels.

    Raises:
      UserError: the maps are of a head without a background.
    """
    maps, score = evidence.maps, evidence.config.eps_background
    if maps.probs is None:
        raise UserError(f"{evidence.image_id}: expected maps of a classifier with --head=eps for the refinement eps, "
                        "found those of a head without a background")
    probs = images.resize_maps(maps.probs, evidence.shape)
    of_tags, background = probs[..., :-1], probs[..., -1:]
    if score != "head":
        highest = of_tags.max((0, 1), keepdims=True)
        of_tags = of_tags / np.maximum(highest, np.finfo(np.float32).tiny)
        background = np.full_like(background, score)
    class_ids = np.concatenate([[labels.BACKGROUND], np.asarray(maps.tag_ids, np.int64) + 1])
    return class_ids[np.concatenate([background, of_tags], -1).argmax(-1)].astype(np.uint8)
