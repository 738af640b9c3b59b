"""Pictures on the page: what each mask shows is written below it, and a click enlarges it."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from ficklenet_tf.data import labels
from ficklenet_tf.report import gallery, picture_rows, template
from ficklenet_tf.report.picture_rows import Picture
from tests.report import pages

PIXELS = np.zeros((4, 6, 3), np.uint8)


def _cells(table):
    return [re.sub(r"<[^>]*>|\s+", " ", cell).split() for cell in re.findall(r"<td>(.*?)</td>", table)]


def test_each_mask_names_its_classes_the_largest_first():
    label = np.array([[2, 2, 2, 1, 255, 255, 255, 255, 0, 0, 0, 0, 0]], np.uint8)
    cells = {"drawing": Picture(PIXELS), "seeds": Picture(PIXELS, picture_rows.classes_of(label))}
    table = gallery.table([("x", cells)], ("background", "cat", "<bus>"))
    assert _cells(table) == [["x"], ["&lt;bus&gt;", "cat"]]
    assert re.findall(r"background:rgb\(([\d,]+)\)", table) == [
        ",".join(map(str, labels.palette()[i])) for i in (2, 1)]


@pytest.mark.parametrize("class_ids, words", [
    ((0,), "background only"), ((), "no answer"), (tuple(range(9)), "a b c d e f and 2 more"), (None, "")])
def test_names_of_masks_with_little_and_with_much(class_ids, words):
    table = gallery.table([("x", {"drawing": Picture(PIXELS), "seeds": Picture(PIXELS, class_ids)})],
                          ("background", *"abcdefgh"))
    assert _cells(table)[1] == words.split()


def test_every_mask_of_the_page_is_named(run_dir, train, val):
    text, _ = pages.page(run_dir, train, val)
    pictures = re.findall(r'<button type="button" class="picture"><img [^>]*alt="(.*?)"[^>]*></button>(<span class='
                          r'"classes">)?', text)
    of_masks = ("seeds of", "Grad-CAM seeds of", "segmenter of", "segmenter + CRF of", "ground truth of")
    assert len(pictures) == text.count("<img ") - 1  # and the enlarged one
    assert {words for words, named in pictures if named} == {words for words, _ in pictures
                                                            if words.startswith(of_masks)}
    assert any(named for _, named in pictures) and not all(named for _, named in pictures)


def test_pictures_are_enlarged_from_what_is_there(run_dir, train, val):
    text, _ = pages.page(run_dir, train, val)
    sizes = {Image.open(io.BytesIO(base64.b64decode(data))).size
             for data in re.findall(r"data:image/webp;base64,([^\"]*)", text)}
    assert sizes == {(30, 20)}  # as the drawings are, neither shrunk nor blown up
    assert text.count("<dialog>") == 1 and all(
        part in template.SCRIPT for part in ("showModal", "ArrowLeft", "ArrowRight", ".picture"))


def test_large_photographs_are_shrunk():
    split = pages.split("train", 1, size=(20, 500))
    cells = picture_rows.truth_pictures(split, 0, 320)
    assert {picture.pixels.shape for picture in cells.values()} == {(13, 320, 3)}
    assert cells["ground truth"].class_ids == (0, 1)


@pytest.mark.parametrize("dataset, word", [("shapes", "drawing"), ("folder", "photograph"), ("voc", "photograph")])
def test_images_are_called_what_they_are(run_dir, dataset, word):
    other = {"drawing": "photograph", "photograph": "drawing"}[word]
    splits = [pages.split(name, count, dataset=dataset) for name, count in (("train", 5), ("val", 4))]
    _, shown = pages.page(run_dir, *splits)
    assert f"5 {word}s of train" in shown.text and f"held-out {word}s" in shown.text
    assert f"Each row is a training {word}," in shown.text and f"ranks the {word}s" in shown.text
    assert other not in shown.text


def test_a_hint_stands_above_whatever_scrolls(run_dir, train, val):
    text, _ = pages.page(run_dir, train, val)
    hint = r'<p class="hint"[^>]*>[^<]*scroll sideways[^<]*</p><div class="scroll">'
    wide = re.findall(rf'({hint})?<(?:table|svg class="matrix)', text)
    assert all(wide) and len(wide) > 5
    assert "@media (max-width: 640px) { .hint { display: block; } }" in template.STYLE
