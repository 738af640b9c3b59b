"""The embedded data set: drawn creatures whose head gives the class away and whose body hardly does.

A plain Grad-CAM finds the head, which alone tells the classes apart for sure, and
misses the body: the problem that FickleNet (Lee et al., CVPR 2019, section 1) is
about. A body is drawn from distributions of hue, outline and texture that
differ between the classes but overlap, so it carries some evidence, and its
saturated colour sets it off against the muted background, so its extent can be seen.
"""

import dataclasses

import cv2
import numpy as np
import tensorflow_datasets as tfds

from ficklenet_tf.data import labels
from ficklenet_tf.data.datasets import records

CLASS_NAMES = ("background", "rings", "checks", "cross", "halves", "bars", "wedges")  # the heads' patterns
_HEAD_COLOURS = np.array([  # two RGB colours a class
    [(235, 30, 30), (250, 250, 250)], [(20, 20, 20), (250, 225, 30)], [(30, 60, 235), (250, 250, 250)],
    [(225, 40, 200), (40, 215, 60)], [(20, 20, 20), (250, 250, 250)], [(30, 220, 230), (200, 25, 25)]], np.float32)
_HUE_SPREAD = 45.0  # degrees, standard deviation around hues that lie 60 degrees apart
_PREFERENCE = 0.4  # probability of the class's own outline, and of its own texture; else any, evenly
_SPLITS = ("train", "val")


@dataclasses.dataclass
class ShapesConfig(tfds.core.BuilderConfig):
    """What is drawn: side in pixels, images a split, seed."""

    side: int = 129
    num_train: int = 600
    num_val: int = 120
    seed: int = 0


class FickleShapes(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of the drawn images; see `records.info` for the features."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [ShapesConfig(name="default", description="129 x 129 pixels, 600 and 120 images")]

    def _info(self):
        return records.info(self, CLASS_NAMES, "Creatures with telling heads and vague bodies on cluttered ground.")

    def _split_generators(self, dl_manager):
        config = self.builder_config
        return {"train": self._generate_examples("train", config.num_train),
                "val": self._generate_examples("val", config.num_val)}

    def _generate_examples(self, split, num_images):
        config = self.builder_config
        names = {f"{split}_{index:05d}": index for index in range(num_images)}

        def read(image_id):
            image, label = draw(config.seed, split, names[image_id], config.side)
            _, png = cv2.imencode(".png", image[..., ::-1])
            return {"image_id": image_id, "image": png.tobytes(), "label": records.encode_ids(label),
                    "tags": (np.flatnonzero(labels.tags_of(label, len(CLASS_NAMES))) + 1).tolist(), "has_label": True}

        yield from records.generate(self, split, f"{self.name}/{config.name}", list(names), read, "stop")


def builder(cache_dir, side=129, num_train=600, num_val=120, seed=0):
    """Returns the builder for these settings.

    Args:
      cache_dir: TFDS' data_dir.
      side: of an image, in pixels.
      num_train: images in the split "train".
      num_val: images in the split "val".
      seed: another seed draws other images.
    """
    settings = {"side": side, "num_train": num_train, "num_val": num_val, "seed": seed}
    default = FickleShapes.BUILDER_CONFIGS[0]
    if all(getattr(default, key) == value for key, value in settings.items()):
        return FickleShapes(data_dir=cache_dir, config="default")
    name = f"side{side}-train{num_train}-val{num_val}-seed{seed}"
    return FickleShapes(data_dir=cache_dir, config=ShapesConfig(name=name, **settings))


def draw(seed, split, index, side):
    """Draws one image.

    Args:
      seed: int.
      split: "train" or "val".
      index: of the image in its split.
      side: in pixels.

    Returns:
      image `[side, side, 3]` uint8 RGB and label `[side, side]` uint8; the same arguments, the same image.
    """
    rng = np.random.default_rng([seed, _SPLITS.index(split), index])
    image, label = _background(rng, side), np.zeros((side, side), np.uint8)
    heads, wanted = np.zeros((side, side), bool), rng.integers(1, 4)
    for _ in range(60):  # places tried; a crowded image gets fewer creatures
        class_id = rng.integers(1, len(CLASS_NAMES))
        colours, body, head = _creature(rng, class_id, side)
        extent = body | head
        if (extent & heads).any() or (extent & (label > 0)).sum() > 0.08 * extent.sum():
            continue  # every head stays in sight, a body may be hidden a little
        image[extent], label[extent] = colours[extent], class_id
        heads |= head
        wanted -= 1
        if wanted == 0:
            break
    image = cv2.GaussianBlur(image, (0, 0), 0.6) + rng.normal(0, 4, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), label


def _noise(rng, side, cells):
    """Returns `[side, side]` smooth noise of mean 0 and deviation about 1, with `cells` bumps a side."""
    coarse = rng.normal(size=(cells, cells)).astype(np.float32)
    return cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)


def _background(rng, side):
    """Draws muted ground: clouds, grain and clutter of polygons and lines; `[side, side, 3]` float32."""
    base = rng.uniform(80, 175) + rng.normal(0, 12, 3)
    image = np.stack([_noise(rng, side, 6)] * 3, -1) * 14 + _noise(rng, side, side // 3)[..., None] * 7 + base
    image = np.ascontiguousarray(image, np.float32)
    for _ in range(rng.integers(8, 16)):
        colour = (np.clip(rng.uniform(50, 205) + rng.normal(0, 12, 3), 0, 255)).tolist()
        middle, reach = rng.uniform(0, side, 2), rng.uniform(0.04, 0.16) * side
        points = np.int32(middle + rng.uniform(-reach, reach, (rng.integers(3, 7), 2)))
        if rng.random() < 0.5:
            cv2.fillConvexPoly(image, cv2.convexHull(points), colour)
        else:
            cv2.polylines(image, [points], False, colour, int(rng.integers(1, 4)))
    return image + _noise(rng, side, side // 2)[..., None] * 6


def _creature(rng, class_id, side):
    """Draws one creature.

    Returns:
      colours `[side, side, 3]` float32, and the masks of body and head, `[side, side]` bool.
    """
    length, width = rng.uniform(0.17, 0.26) * side, rng.uniform(0.095, 0.145) * side
    radius, angle = rng.uniform(0.052, 0.066) * side, rng.uniform(0, 2 * np.pi)
    along = np.array([np.cos(angle), np.sin(angle)])
    reach = np.abs(along) * length + width * 0.8
    middle = rng.uniform(np.minimum(reach, side / 2), np.maximum(side - reach, side / 2))
    y, x = np.mgrid[:side, :side].astype(np.float32)
    u = ((x - middle[0]) * along[0] + (y - middle[1]) * along[1]) / length
    v = ((y - middle[1]) * along[0] - (x - middle[0]) * along[1]) / width
    body = _outline(_pick(rng, class_id), u, v)
    hue = (60 * (class_id - 1) + rng.normal(0, _HUE_SPREAD)) % 360
    colour = cv2.cvtColor(np.float32([[[hue, rng.uniform(0.55, 0.8), rng.uniform(0.55, 0.85)]]]), cv2.COLOR_HSV2RGB)
    light = 1 + 0.12 * _texture(_pick(rng, class_id), u * length / side, v * width / side)
    colours = np.clip(colour * 255 * light[..., None] + _noise(rng, side, side // 4)[..., None] * 4, 0, 255)
    tilt = rng.uniform(0, 2 * np.pi)
    p, q = (u - 0.85) * length / radius, v * width / radius
    p, q = p * np.cos(tilt) - q * np.sin(tilt), p * np.sin(tilt) + q * np.cos(tilt)
    head = p**2 + q**2 < 1
    pattern = _pattern(class_id, p, q)
    colours[head] = _HEAD_COLOURS[class_id - 1][pattern[head].astype(int)]
    return colours, body, head


def _pick(rng, class_id):
    """Returns 0..5: the class's own variant with `_PREFERENCE`, else any."""
    own = rng.random() < _PREFERENCE
    anyone = rng.integers(6)
    return class_id - 1 if own else anyone


def _outline(kind, u, v):
    """Returns the mask of a body; u runs along it and v across, both -1..1 at its ends."""
    forms = (lambda: u**2 + v**2 < 1, lambda: np.maximum(np.abs(u), np.abs(v)) < 0.92,
             lambda: (np.abs(v) < (u + 1) / 2) & (u < 1), lambda: np.abs(u) + np.abs(v) * 0.9 < 1,
             lambda: ((u * u)**2 + (v * v)**2 < 1) & (v > -0.45 - 0.5 * np.cos(3 * u)),
             lambda: (np.abs(u) < 1) & (np.abs(v) < 0.62 + 0.36 * np.cos(4.5 * u)))
    return forms[kind]()


def _texture(kind, s, t):
    """Returns a body's light and dark, -1..1; s and t are places along and across in image sides."""
    waves = (lambda: 0 * s, lambda: np.sin(130 * s), lambda: np.sin(130 * t),
             lambda: np.sin(100 * s) * np.sin(100 * t), lambda: np.sin(90 * (s + t)),
             lambda: np.cos(4 * s) * np.cos(6 * t))
    return waves[kind]()


def _pattern(class_id, p, q):
    """Returns where a head wears its second colour; p and q are -1..1 across the head."""
    forms = (lambda: np.sqrt(p**2 + q**2) % 0.66 < 0.33, lambda: (np.floor(p * 2) + np.floor(q * 2)) % 2 == 0,
             lambda: (np.abs(p) < 0.25) | (np.abs(q) < 0.25), lambda: p > 0, lambda: np.sin(8 * p) > 0,
             lambda: np.sin(3 * np.arctan2(q, p)) > 0)
    return forms[class_id - 1]()
