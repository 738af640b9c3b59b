"""Smaller copies of a folder: the same data set, of smaller pictures."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from ficklenet_tf.data import images, labels
from ficklenet_tf.data.datasets import copies, folder
from ficklenet_tf.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]
UPRIGHT = 6  # of EXIF's orientations: the picture is to be turned by 90 degrees


def _save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


@pytest.fixture
def mine(tmp_path):
    """A photograph in two folders, one on its side, a small one, and what no class has; a mask of the first two."""
    root, rng = tmp_path / "mine", np.random.default_rng(0)
    large = np.repeat(np.repeat(rng.integers(0, 256, (40, 60, 3)).astype(np.uint8), 10, 0), 10, 1)  # 400 x 600
    for name in ("dog", "cat"):
        _save(root / name / "both.jpg", large)
    exif = Image.Exif()
    exif[0x0112] = UPRIGHT
    _save(root / "dog" / "side.jpg", large, exif=exif)
    _save(root / "cat" / "small.webp", large[:30, :50])
    striped = large.copy()
    striped[::5] = 0
    _save(root / "cat" / "large.png", striped)
    _save(root / "dog" / "x" / "deeper.png", large)
    (root / "classes.txt").write_text("dog\ncat\n")
    (root / "splits").mkdir()
    (root / "splits" / "val.txt").write_text("small.webp\n")
    halves = np.ones((400, 600), np.uint8)
    halves[:, 300:] = 2
    labels.write_label(root / "labels" / "both.png", halves)
    labels.write_label(root / "labels" / "small.png", np.full((30, 50), 255, np.uint8))
    return root


def test_a_copy_is_the_same_data_set_of_smaller_pictures(mine, tmp_path):
    to = tmp_path / "new" / "small"
    assert copies.make(mine, to, 120) == (5, 4)  # both.jpg twice
    before, after = folder.read(mine), folder.read(to)
    assert after.rows == before.rows and after.class_names == before.class_names
    assert ({name: ids for name, (_, ids) in after.splits.items()}
            == {name: ids for name, (_, ids) in before.splits.items()})
    assert not (to / "dog" / "x").exists() and sorted(path.name for path in to.parent.iterdir()) == ["small"]
    for name in ("cat/small.webp", "labels/small.png", "classes.txt", "splits/val.txt"):
        assert (to / name).read_bytes() == (mine / name).read_bytes()
    assert (to / "dog/both.jpg").read_bytes() == (to / "cat/both.jpg").read_bytes()
    means = images.read_image(mine / "cat/large.png").reshape(80, 5, 120, 5, 3).mean((1, 3))
    np.testing.assert_allclose(images.read_image(to / "cat/large.png"), means, atol=0.51)
    assert [Image.open(to / name).format for name in ("dog/both.jpg", "cat/large.png")] == ["JPEG", "PNG"]
    side = Image.open(to / "dog/side.jpg")
    assert side.size == (80, 120) and 0x0112 not in side.getexif()
    pixels = images.read_image(to / "dog/side.jpg").astype(int)
    assert np.abs(pixels - images.read_image(mine / "dog/side.jpg")[2::5, 2::5]).mean() < 40  # turned otherwise: 85
    mask = labels.read_label(to / "labels/both.png")
    assert mask.shape == (80, 120) and (mask[:, :60] == 1).all() and (mask[:, 60:] == 2).all()


def test_a_table_and_names_of_other_formats(tmp_path):
    pixels = np.zeros((200, 100, 3), np.uint8)
    two = {"format": "MPO", "save_all": True, "append_images": [Image.fromarray(pixels)]}
    for name, options in (("a.tif", {}), ("b.jp2", {}), ("c.gif", {}), ("e.avif", {}), ("f.MPO", two)):
        _save(tmp_path / "mine" / "images" / name, pixels, **options)
    _save(tmp_path / "mine" / "images" / "d.png", pixels.astype(np.uint16)[..., 0])
    _save(tmp_path / "mine" / "images" / "unlisted.png", pixels)
    assert Image.open(tmp_path / "mine" / "images" / "f.MPO").format == "MPO"
    (tmp_path / "mine" / "tags.csv").write_text("image,tags\n" + "".join(
        f"{name},x\n" for name in ("a.tif", "b.jp2", "c.gif", "d.png", "e.avif", "f.MPO", "a.tif")))
    assert copies.make(tmp_path / "mine", tmp_path / "to", 100) == (6, 6)
    made = {path.name: Image.open(path) for path in (tmp_path / "to" / "images").iterdir()}
    assert {name: image.format for name, image in made.items()} == {
        "a.tif": "TIFF", "b.jp2": "PNG", "c.gif": "GIF", "d.png": "PNG", "e.avif": "AVIF", "f.MPO": "JPEG"}
    assert {image.size for image in made.values()} == {(50, 100)}
    assert (tmp_path / "to" / "tags.csv").read_bytes() == (tmp_path / "mine" / "tags.csv").read_bytes()


def test_a_thin_photograph_keeps_a_pixel(tmp_path):
    for name, shape in (("a", (1, 900, 3)), ("b", (900, 1, 3))):
        _save(tmp_path / "mine" / "dog" / f"{name}.png", np.zeros(shape, np.uint8))
    copies.make(tmp_path / "mine", tmp_path / "to", 100)
    assert [Image.open(tmp_path / "to" / "dog" / f"{name}.png").size for name in "ab"] == [(100, 1), (1, 100)]


def test_what_cannot_be_copied_is_named_and_nothing_is_left(mine, tmp_path):
    labels.write_label(mine / "labels" / "large.png", np.zeros((600, 400), np.uint8))
    with pytest.raises(UserError, match=r"large.png: expected the size of .*, 600 x 400 pixels, found 400 x 600"):
        copies.make(mine, tmp_path / "small", 120)
    (mine / "labels" / "large.png").unlink()
    (mine / "cat" / "large.png").write_bytes((mine / "cat" / "large.png").read_bytes()[:900])
    with pytest.raises(UserError, match="large.png: expected a whole PNG image"):
        copies.make(mine, tmp_path / "small", 120)
    for to in (mine, mine / "small"):
        with pytest.raises(UserError, match="to: expected a directory that is not there yet, outside of"):
            copies.make(mine, to, 120)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_the_command_says_what_it_made(mine, tmp_path):
    command = [sys.executable, "-m", "tools.make_copies", f"--data_dir={mine}", "--longest=120"]
    without, whole = (subprocess.Popen([*command, *more], cwd=ROOT, text=True, stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
                      for more in ([], [f"--to={tmp_path}/small"]))
    assert whole.communicate(timeout=500)[0] == f"5 photographs, 4 of them made smaller -> {tmp_path}/small\n"
    assert "error: expected --dataset=folder, and the directory to make as --to" in without.communicate(timeout=500)[1]
    assert whole.returncode == 0 and without.returncode == 1
