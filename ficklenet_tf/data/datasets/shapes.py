"""The embedded data set: drawn creatures whose head gives the class away and whose body hardly does.

A plain Grad-CAM finds the head, which alone tells the classes apart for sure, and
misses the body: the problem that FickleNet (Lee et al., CVPR 2019, section 1) is
about. A body is drawn from distributions of hue, outline and texture that
differ between the classes but overlap, so it carries some evidence, and its
saturated colour sets it off against the muted background, so its extent can be seen.
"""

import dataclasses
import pathlib
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds

from ficklenet_tf.data import labels
from ficklenet_tf.data.datasets import records

CLASS_NAMES = ("background", "rings", "checks", "cross", "halves", "bars", "wedges")  # the heads' patterns
_HEAD_COLOURS = np.array([  # two RGB colours per class
    [(235, 30, 30), (250, 250, 250)], [(20, 20, 20), (250, 225, 30)], [(30, 60, 235), (250, 250, 250)],
    [(225, 40, 200), (40, 215, 60)], [(20, 20, 20), (250, 250, 250)], [(30, 220, 230), (200, 25, 25)]], np.float32)
_HUE_SPREAD = 45.0  # degrees, standard deviation around hues that lie 60 degrees apart
_PREFERENCE = 0.4  # probability of the class's own outline, and of its own texture; else any, evenly
SPLITS = ("train", "val")


@dataclasses.dataclass
class ShapesConfig(tfds.core.BuilderConfig):
    """What is drawn: the side in pixels, the number of images in each split, the seed."""

    side: int = 129
    num_train: int = 600
    num_val: int = 120
    seed: int = 0


class FickleShapes(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of the drawn images; see `records.info` for the features."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [ShapesConfig(name="default", description="129 x 129 pixels, 600 and 120 images")]

    def _info(self) -> tfds.core.DatasetInfo:
        return records.info(self, CLASS_NAMES, "Creatures with telling heads and vague bodies on cluttered ground.")

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, records.Examples]:
        config = self.builder_config
        return {"train": self._generate_examples("train", config.num_train),
                "val": self._generate_examples("val", config.num_val)}

    def _generate_examples(self, split: str, num_images: int) -> records.Examples:
        config = self.builder_config
        indices = {f"{split}_{index:05d}": index for index in range(num_images)}

        def read(image_id: str) -> dict[str, Any]:
            image, label = draw(config.seed, split, indices[image_id], config.side)
            _, png = cv2.imencode(".png", image[..., ::-1])
            return {"image_id": image_id, "image": png.tobytes(), "label": records.encode_ids(label),
                    "tags": (np.flatnonzero(labels.tags_of(label, len(CLASS_NAMES))) + 1).tolist(), "has_label": True}

        yield from records.generate(self, split, f"{self.name}/{config.name}", list(indices), read, "stop")


def builder(cache_dir: str | pathlib.Path | None, side: int = 129, num_train: int = 600, num_val: int = 120,
            seed: int = 0) -> FickleShapes:
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


def draw(seed: int, split: str, index: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws one image.

    Args:
      seed: int.
      split: "train" or "val".
      index: of the image in its split.
      side: in pixels.

    Returns:
      image `[side, side, 3]` uint8 RGB and label `[side, side]` uint8; the same arguments give the same image.
    """
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    image, label = _background(rng, side), np.zeros((side, side), np.uint8)
    heads, num_left = np.zeros((side, side), bool), rng.integers(1, 4)
    for _ in range(60):  # places tried; a crowded image gets fewer creatures
        class_id = int(rng.integers(1, len(CLASS_NAMES)))
        colours, body, head = _creature(rng, class_id, side)
        extent = body | head
        if (extent & heads).any() or (extent & (label > 0)).sum() > 0.08 * extent.sum():
            continue  # every head stays in sight, a body may be hidden a little
        image[extent], label[extent] = colours[extent], class_id
        heads |= head
        num_left -= 1
        if num_left == 0:
            break
    image = cv2.GaussianBlur(image, (0, 0), 0.6) + rng.normal(0, 4, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), label


def _noise(rng: np.random.Generator, side: int, cells: int) -> np.ndarray:
    """Returns `[side, side]` smooth noise of mean 0 and deviation about 1, with `cells` bumps per side."""
    coarse = rng.normal(size=(cells, cells)).astype(np.float32)
    return cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)


def _background(rng: np.random.Generator, side: int) -> np.ndarray:
    """Draws muted ground: clouds, grain and clutter of polygons and lines; `[side, side, 3]` float32."""
    base = rng.uniform(80, 175) + rng.normal(0, 12, 3)
    image = np.stack([_noise(rng, side, 6)] * 3, -1) * 14 + _noise(rng, side, side // 3)[..., None] * 7 + base
    image = np.ascontiguousarray(image, np.float32)
    for _ in range(rng.integers(8, 16)):
        colour = (np.clip(rng.uniform(50, 205) + rng.normal(0, 12, 3), 0, 255)).tolist()
        middle, reach = rng.uniform(0, side, 2), rng.uniform(0.04, 0.16) * side
        points = (middle + rng.uniform(-reach, reach, (rng.integers(3, 7), 2))).astype(np.int32)
        if rng.random() < 0.5:
            cv2.fillConvexPoly(image, cv2.convexHull(points), colour)
        else:
            cv2.polylines(image, [points], False, colour, int(rng.integers(1, 4)))
    return image + _noise(rng, side, side // 2)[..., None] * 6


def _creature(rng: np.random.Generator, class_id: int, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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
    hsv = np.array([[[hue, rng.uniform(0.55, 0.8), rng.uniform(0.55, 0.85)]]], np.float32)
    colour = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    light = 1 + 0.12 * _texture(_pick(rng, class_id), u * length / side, v * width / side)
    colours = np.clip(colour * 255 * light[..., None] + _noise(rng, side, side // 4)[..., None] * 4, 0, 255)
    tilt = rng.uniform(0, 2 * np.pi)
    p, q = (u - 0.85) * length / radius, v * width / radius
    p, q = p * np.cos(tilt) - q * np.sin(tilt), p * np.sin(tilt) + q * np.cos(tilt)
    head = p**2 + q**2 < 1
    pattern = _pattern(class_id, p, q)
    colours[head] = _HEAD_COLOURS[class_id - 1][pattern[head].astype(int)]
    return colours, body, head


def _pick(rng: np.random.Generator, class_id: int) -> int:
    """Returns 0..5: the class's own variant with `_PREFERENCE`, else any."""
    prefers_its_own = rng.random() < _PREFERENCE
    any_variant = int(rng.integers(6))  # drawn in either case: later draws do not depend on the choice
    return class_id - 1 if prefers_its_own else any_variant


def _outline(variant: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Returns the mask of a body; u runs along it and v across, both -1..1 at its ends."""
    outlines = (lambda: u**2 + v**2 < 1, lambda: np.maximum(np.abs(u), np.abs(v)) < 0.92,
                lambda: (np.abs(v) < (u + 1) / 2) & (u < 1), lambda: np.abs(u) + np.abs(v) * 0.9 < 1,
                lambda: ((u * u)**2 + (v * v)**2 < 1) & (v > -0.45 - 0.5 * np.cos(3 * u)),
                lambda: (np.abs(u) < 1) & (np.abs(v) < 0.62 + 0.36 * np.cos(4.5 * u)))
    return outlines[variant]()


def _texture(variant: int, s: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Returns a body's light and dark, -1..1; s and t are places along and across in image sides."""
    waves = (lambda: 0 * s, lambda: np.sin(130 * s), lambda: np.sin(130 * t),
             lambda: np.sin(100 * s) * np.sin(100 * t), lambda: np.sin(90 * (s + t)),
             lambda: np.cos(4 * s) * np.cos(6 * t))
    return waves[variant]()


def _pattern(class_id: int, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Returns where a head wears its second colour; p and q are -1..1 across the head."""
    patterns = (lambda: np.sqrt(p**2 + q**2) % 0.66 < 0.33, lambda: (np.floor(p * 2) + np.floor(q * 2)) % 2 == 0,
                lambda: (np.abs(p) < 0.25) | (np.abs(q) < 0.25), lambda: p > 0, lambda: np.sin(8 * p) > 0,
                lambda: np.sin(3 * np.arctan2(q, p)) > 0)
    return patterns[class_id - 1]()
