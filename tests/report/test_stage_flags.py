"""Commands of stages go on with what was begun: each stage's own config, seed, split, drawing and masks."""

import dataclasses
import shutil

import pytest

from ficklenet_tf import crf, presets
from ficklenet_tf.runs import artifacts, layout
from ficklenet_tf.training import objective
from tests.report import pages


def test_stages_have_commands_with_what_their_settings_say(run_dir, train, val):
    pages.by_stages(run_dir)
    config = dataclasses.replace(presets.CPU.classifier, input_size=129, precision="bfloat16")
    settings = {"config": dataclasses.asdict(config), "weights": "vgg.npz", "seed": 5, "split": "train"}
    artifacts.write_json(run_dir / "classifier" / layout.SETTINGS, settings)
    refined = {"crf": dataclasses.asdict(crf.SPECS["deeplab"])}
    artifacts.write_json(run_dir / "predictions_crf" / layout.SETTINGS, refined)
    shutil.rmtree(run_dir / "saved_model")
    pages.unfinished(run_dir, "classifier", "seeds", "segmenter", "predictions", "predictions_crf")
    lines = pages.shown(run_dir, train, val, data_dir="d", max_images=4, held_out="val", title="t")
    made = [pages.flags(line) for line in lines]
    assert [binary for binary, _ in made] == ["tools.train_classifier", "tools.extract_seeds", "tools.train_segmenter",
                                              "tools.evaluate", "export.export_saved_model"]
    common = {"dataset": "shapes", "data_dir": "d", "max_images": "4", "preset": "cpu", "seed": "5",
              "output_dir": str(run_dir)}
    classifier, seeds, segmenter, evaluation, export = (flags for _, flags in made)
    assert classifier == {**common, "split": "train", "held_out": "val", "weights": "vgg.npz", "input_size": "129"}
    assert seeds == {**common, "split": "train", "keep_maps": True}
    assert segmenter == {**common, "split": "train", "seed": "7"}  # its own
    assert evaluation == {**common, "split": "val", "crf": "deeplab"}
    assert export == {"output_dir": str(run_dir), "version": "1", "crf": "deeplab"}


def test_seeds_and_maps_are_gone_on_with_as_they_were_begun(run_dir, train, val):
    pages.by_stages(run_dir)
    drawn = {"seed": 0, "split": "all", "mode": "general", "classifier_name": "other"}
    artifacts.write_json(run_dir / "seeds" / layout.SETTINGS, {"maps": drawn, "split": "all"})
    pages.unfinished(run_dir, "seeds")
    (binary, flags), = map(pages.flags, pages.shown(run_dir, train, val))
    assert binary == "tools.extract_seeds" and "seed" not in flags  # 0, which is the flag's default
    assert (flags["split"], flags["mode"], flags["classifier"]) == ("all", "general", "other")
    shutil.rmtree(run_dir / "seeds_deterministic")
    drawn["seed"] = 9
    artifacts.write_json(run_dir / "seeds_deterministic" / layout.SETTINGS, {"maps": drawn})
    flags = pages.flags(pages.shown(run_dir, train, val)[1])[1]
    assert (flags["seed"], flags["mode"], flags["classifier"]) == ("9", "deterministic", "classifier_deterministic")


@pytest.mark.parametrize("strong, given", [
    (lambda split: split.select(range(3)), {"strong_images": "3"}),
    (lambda split: split.select([0, 2, 4]), {"strong_images": "3"}),  # a split of the same name: all that have a mask
    (lambda split: pages.split("drawn", 2), {"strong_split": "drawn"})])
def test_semi_supervision_has_its_strong_images(run_dir, train, val, strong, given):
    pages.by_stages(run_dir)
    task = objective.plan("semi", train, strong(train))
    artifacts.write_json(run_dir / "segmenter" / layout.SETTINGS, {
        **task.settings(), "dataset": "shapes", "split": "train", "fingerprint": train.fingerprint, "seed": 3})
    pages.unfinished(run_dir, "segmenter")
    (binary, flags), = map(pages.flags, pages.shown(run_dir, train, val))
    assert binary == "tools.train_segmenter" and flags["supervision"] == "semi" and flags["seed"] == "3"
    assert {name: value for name, value in flags.items() if name.startswith("strong")} == given


def test_saliency_maps_of_another_run_have_no_path(run_dir, train, val):
    pages.by_stages(run_dir)
    pages.unfinished(run_dir, "seeds")
    for identity, given in (("made by 0123", None), ("mine/saliency", "mine/saliency")):
        artifacts.write_json(run_dir / "seeds" / layout.SETTINGS, {"saliency": identity})
        (_, flags), = map(pages.flags, pages.shown(run_dir, train, val))
        assert flags.get("saliency_dir") == given
