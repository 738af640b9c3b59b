"""PASCAL VOC 2012 for segmentation from tags: photographs, tags from the annotations, masks where present.

Everingham et al., "The PASCAL Visual Object Classes Challenge", IJCV 2010. The
`voc` of TFDS has neither masks nor the segmentation splits.
"""

import dataclasses
import hashlib
import pathlib
import urllib.request
import xml.etree.ElementTree
from collections.abc import Sequence
from typing import Any

import tensorflow_datasets as tfds

from ficklenet_tf.data.datasets import records, tags_csv
from ficklenet_tf.errors import UserError

CLASS_NAMES = ("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
               "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
               "tvmonitor")
URL = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar"
MD5 = "6cd6e144f989b92b3379bac3b3de84fd"
LISTS = {"train": ("train",), "train_aug": ("train_aug", "trainaug"), "val": ("val",), "test": ("test",)}
_MANUAL = f"""Fetch {URL} (2 GB, MD5 {MD5}) by hand, unpack it, and name the directory
VOCdevkit in it as the data directory (--data_dir=.../VOCdevkit). For the split train_aug put the masks of the
augmented set into VOCdevkit/VOC2012/SegmentationClassAug and the list of its images into
VOCdevkit/VOC2012/ImageSets/Segmentation/train_aug.txt. The split test (photographs alone) is in another archive of
the same server, with ImageSets/Segmentation/test.txt."""


@dataclasses.dataclass
class VocConfig(tfds.core.BuilderConfig):
    """Where the kit lies and what to do with bad files; None downloads the kit."""

    directory: str | None = None
    on_error: str = "stop"


class FickleVoc(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of VOC 2012's segmentation splits; see `records.info` for the features."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [VocConfig(name="official", description="the official kit, downloaded")]
    MANUAL_DOWNLOAD_INSTRUCTIONS = _MANUAL

    def _info(self) -> tfds.core.DatasetInfo:
        return records.info(self, CLASS_NAMES, "PASCAL VOC 2012 with segmentation splits, tags and masks.")

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, records.Examples]:
        root = kit(self.builder_config.directory or _download(dl_manager))
        generators = {split: self._generate_examples(root, split, path, ids)
                      for split, (path, ids) in split_ids(root).items()}
        return records.usable(self, generators, self.builder_config.on_error)

    def _generate_examples(self, root: pathlib.Path, split: str, path: pathlib.Path,
                           image_ids: Sequence[str]) -> records.Examples:
        yield from records.generate(self, split, path, image_ids, lambda image_id: _read(root, split, image_id),
                                    self.builder_config.on_error)


def builder(data_dir: str | pathlib.Path | None, cache_dir: str | pathlib.Path | None, on_error: str) -> FickleVoc:
    """Returns the builder for a kit on disk (or the official one), its state part of the name.

    Args:
      data_dir: VOCdevkit, VOCdevkit/VOC2012, or None to download.
      cache_dir: TFDS' data_dir.
      on_error: "stop" or "skip".
    """
    if data_dir is None and on_error == "stop":
        return FickleVoc(data_dir=cache_dir)
    if data_dir is None:
        return FickleVoc(data_dir=cache_dir, config=VocConfig(name=f"official-{on_error}", on_error=on_error))
    root = kit(data_dir)
    state = hashlib.sha256(f"{root} {on_error}".encode())
    for split, (_, ids) in split_ids(root).items():
        state.update(f"{split} {ids}".encode())
        for image_id in ids:
            for path in (image_path(root, image_id), annotation_path(root, image_id), mask_path(root, image_id)):
                status = path.stat() if path is not None and path.exists() else None
                state.update(f"{status and (status.st_size, status.st_mtime_ns)}".encode())
    config = VocConfig(name=f"kit-{state.hexdigest()[:12]}", directory=str(root), on_error=on_error)
    return FickleVoc(data_dir=cache_dir, config=config)


def kit(directory: str | pathlib.Path) -> pathlib.Path:
    """Returns VOCdevkit/VOC2012 for any of VOC2012, VOCdevkit and the directory that holds it.

    Raises:
      FileNotFoundError: none of them is there; the message says what to fetch and where to put it.
    """
    directory = pathlib.Path(directory).expanduser().resolve()
    for candidate in (directory, directory / "VOC2012", directory / "VOCdevkit" / "VOC2012"):
        if (candidate / "JPEGImages").is_dir():
            return candidate
    raise FileNotFoundError(f"{directory}: expected VOCdevkit (with VOC2012/JPEGImages), found no such directory.\n"
                            f"{_MANUAL}")


def split_ids(root: pathlib.Path) -> dict[str, tuple[pathlib.Path, list[str]]]:
    """Returns {split: (list file, image ids)} for the lists in ImageSets/Segmentation that are there.

    Raises:
      FileNotFoundError: there is no list at all.
      UserError: one is not UTF-8.
    """
    directory = root / "ImageSets" / "Segmentation"
    splits: dict[str, tuple[pathlib.Path, list[str]]] = {}
    for split, names in LISTS.items():
        path = next((directory / f"{name}.txt" for name in names if (directory / f"{name}.txt").exists()), None)
        if path is not None:
            splits[split] = path, [line.split()[0] for line in tags_csv.lines(path)]
    if not splits:
        raise FileNotFoundError(f"{directory}: expected train.txt, train_aug.txt or val.txt, found none")
    return splits


def image_path(root: pathlib.Path, image_id: str) -> pathlib.Path:
    """Returns the path of a photograph."""
    return root / "JPEGImages" / f"{image_id}.jpg"


def annotation_path(root: pathlib.Path, image_id: str) -> pathlib.Path:
    """Returns the path of a photograph's annotation."""
    return root / "Annotations" / f"{image_id}.xml"


def mask_path(root: pathlib.Path, image_id: str) -> pathlib.Path | None:
    """Returns the mask's path: the official one, else the augmented set's, else None.

    The official kit has masks for train and val only, so an image outside them
    gets the augmented set's mask, and an image has the same mask in every split.
    """
    for directory in ("SegmentationClass", "SegmentationClassAug"):
        path = root / directory / f"{image_id}.png"
        if path.exists():
            return path
    return None


def read_tags(path: pathlib.Path) -> list[int]:
    """Returns the class ids named in an annotation file, sorted.

    Raises:
      FileNotFoundError: there is no such file.
      UserError: it is not XML, or names a class that VOC does not have.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: expected the image's annotation, found no such file")
    try:
        tree = xml.etree.ElementTree.parse(path)
    except (xml.etree.ElementTree.ParseError, LookupError, ValueError) as error:  # the latter of its encoding
        raise UserError(f"{path}: expected an annotation in XML, found {error}") from error
    names = {(item.findtext("name") or "").strip() for item in tree.iterfind("object")}
    unknown = sorted(names - set(CLASS_NAMES[1:]))
    if unknown:
        raise UserError(f"{path}: expected VOC's 20 classes, found {', '.join(map(repr, unknown))}")
    return sorted(CLASS_NAMES.index(name) for name in names)


def _read(root: pathlib.Path, split: str, image_id: str) -> dict[str, Any]:
    """Returns the example of one image; see `records.example`."""
    secret = split == "test" and not annotation_path(root, image_id).exists()  # the test server alone knows the tags
    tags = [] if secret else read_tags(annotation_path(root, image_id))
    if not tags and split not in ("val", "test"):
        raise UserError(f"{annotation_path(root, image_id)}: expected at least one object for training, found none")
    return records.example(image_id, image_path(root, image_id), tags, mask_path(root, image_id), len(CLASS_NAMES))


def _download(dl_manager: tfds.download.DownloadManager) -> pathlib.Path:
    """Downloads and unpacks the official kit; returns the directory that holds VOCdevkit.

    Raises:
      OSError: the download failed or its MD5 differs; the message says what to do by hand.
    """
    try:
        probe = urllib.request.Request(URL, method="HEAD")
        urllib.request.urlopen(probe, timeout=30).close()  # TFDS tries for minutes before it says that there is no way
        archive = pathlib.Path(dl_manager.download(URL))
    except Exception as error:  # requests, urllib and TFDS each raise their own kinds
        raise OSError(f"{URL}: the download failed ({type(error).__name__}: {error}).\n{_MANUAL}") from error
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "md5").hexdigest()
    if digest != MD5:
        raise OSError(f"{archive}: expected MD5 {MD5}, found {digest}; remove it.\n{_MANUAL}")
    return pathlib.Path(dl_manager.extract(archive))
