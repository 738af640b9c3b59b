"""Exports a trained run as one SavedModel that TensorFlow Serving runs as it stands.

One `keras.export.ExportArchive`, written under a temporary name and renamed: a server
that watches `<run>/saved_model` never sees half a version.
"""

import os
import pathlib
import shutil
import tempfile

import keras

from export import signatures
from ficklenet_tf import artifacts, labels, segmenter_training

MAX_PIXELS = 2**24  # of one request: at 21 classes, 1.4 GB of probabilities


def export(run_dir, version, *, stage="segmenter", sizes=None, flip=None, max_pixels=MAX_PIXELS):
    """Writes `<run_dir>/saved_model/<version>/`; what is there with the same settings is not made again.

    Args:
      run_dir: the run's directory, its segmenter finished.
      version: integer, at least 1: TensorFlow Serving's version number.
      stage: directory of the segmenter below run_dir.
      sizes: sides of the multi-scale prediction; None for the preset's.
      flip: also mirrored; None for the preset's.
      max_pixels: of one request, more is refused.

    Returns:
      The version's directory, a pathlib.Path.

    Raises:
      FileNotFoundError: a stage has not finished.
      ValueError: a bad version, too many classes, or the version is there with other settings.
    """
    run_dir = pathlib.Path(run_dir)
    if int(version) < 1:
        raise ValueError(f"version: expected an integer from 1, found {version}")
    network, normalization, run, preset = segmenter_training.load(run_dir / stage)
    classes = len(run["class_names"])
    if classes > labels.IGNORE:
        raise ValueError(f"{run_dir / stage}: expected at most {labels.IGNORE} classes (labels are 8-bit), "
                         f"found {classes}")
    model = signatures.Segmenter(network, normalization, tuple(sizes or preset.test_sizes),
                                 preset.test_flip if flip is None else flip, classes, max_pixels)
    settings = artifacts.as_json({"segmenter": run["finished"], "sizes": model.sizes, "flip": model.flip,
                                  "max_pixels": max_pixels})
    target = run_dir / "saved_model" / str(int(version))
    if _is_there(target, settings):
        return target

    def build(directory):
        archive = keras.export.ExportArchive()
        archive.track(network)
        archive.add_endpoint("serving_default", signatures.serving_default(model), [signatures.IMAGES])
        archive.add_endpoint("serve_jpeg", signatures.serve_jpeg(model, labels.palette()), [signatures.FILES])
        archive.write_out(directory, verbose=False)
        artifacts.write_run(pathlib.Path(directory) / "assets.extra", stage="saved_model", settings=settings)

    write_whole(target, build)
    return target


def _is_there(target, settings):
    if not target.exists():
        return False
    run = artifacts.read_run(target / "assets.extra")
    before = None if run is None else run["settings"]
    if before != settings:
        raise ValueError(f"{target}: expected no version {target.name} or one of the same settings, found {before}, "
                         f"now {settings}; give another --version")
    return True


def write_whole(target, build):
    """Calls `build(directory)` on a temporary directory beside `target`, then renames it to `target`.

    Args:
      target: pathlib.Path that does not exist.
      build: writes everything into the directory it is given.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    try:
        build(temporary)
        os.chmod(temporary, 0o755)
        os.replace(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
