"""What a folder's masks say: the first one with its names, and in how many mask and tags agree."""

import dataclasses
import re

import pytest

from ficklenet_tf.report import own_masks
from tests.report import pages


def _splits(shift=0):
    """Of a folder: the first training photograph has no mask; the tags of the others are moved on by `shift`."""
    train, val = (pages.split(name, 4, dataset="folder") for name in ("train", "val"))
    records = [{**record, "tags": [(record["tags"][0] - 1 + shift) % 2 + 1]} for record in train.records]
    return dataclasses.replace(train, records=records, labelled=(False, True, True, True)), val


def test_the_first_mask_is_shown_with_its_names_and_the_photographs_tags():
    text = own_masks.section(*_splits(), 320)
    assert re.findall(r'alt="(.*?)"', text) == [f'{words} of train_1: tags the &quot;bus&quot;'
                                                for words in ("photograph", "ground truth")]
    assert re.findall(r'</i>(.*?)</span>', text) == ["the &quot;bus&quot;"]
    assert "Mask and tags name the same classes in 7 of 7 photographs." in text and 'class="missing"' not in text
    assert "0 background, 1 cat &amp; &lt;dog&gt;, 2 the &quot;bus&quot;, 255 not judged" in text


def test_names_that_do_not_match_are_seen():
    text = own_masks.section(*_splits(shift=1), 320)
    assert "in 4 of 7 photographs; in train_1 the tags are cat &amp; &lt;dog&gt;, the mask has the &quot;bus" in text
    train, _ = _splits(shift=1)
    assert 'class="missing"' in own_masks.section(train, dataclasses.replace(train, labelled=(False,) * 4), 320)


@pytest.mark.parametrize("dataset, labelled", [("voc", True), ("folder", False)])
def test_only_a_folder_with_masks_has_the_section(run_dir, dataset, labelled):
    splits = [pages.split(name, 4, dataset=dataset, labelled=labelled) for name in ("train", "val")]
    assert own_masks.section(*splits, 320) == ""
    text, shown = pages.page(run_dir, *_splits())
    assert "own-masks" in shown.ids and shown.ids.index("own-masks") < shown.ids.index("seeds")
