"""Predicts a split and scores it: one confusion matrix, original size, 255 ignored, mean over all classes.

    python -m tools.evaluate --dataset=voc --data_dir=VOCdevkit --preset=cpu --output_dir=runs/voc

Reads the segmenter's last finished round below OUTPUT_DIR (or --segmenter); writes label images to
OUTPUT_DIR/predictions/ and, refined by the dense CRF, predictions_crf/, and the scores as table, CSV and JSON to
OUTPUT_DIR/evaluation/. With several CRFs, as in --crf=dsrg,deeplab,deeplab_v2, the network sees each image once, and
the second and those that follow go to predictions_crf_deeplab/ and so on. Several machines: --num_shards and
--shard_index, then once without.

--crf=auto takes the CRF that agrees best with seeds of 60 photographs of the split, made by their tags alone, and
keeps the choice for tools.predict and export.export_saved_model (seeds/crf_choice.py): no mask is looked at, but the
tags of photographs that are scored are. It writes predictions_auto/. Where the seeds need saliency, first
tools.make_saliency --split=val --name=saliency_held_out. Shards, and a --submission without tags, take an earlier
choice; without masks it chooses and scores nothing.

--submission also writes the archive for the VOC server, OUTPUT_DIR/submission/<predictions>/results.tar.gz, of the
first CRF's label images; then the split may be one without masks (--split=test), which is not scored.
"""

import pathlib
from typing import TYPE_CHECKING, Any

from absl import flags

from ficklenet_tf.runs import layout
from tools import cli, define, texts, words

if TYPE_CHECKING:
    from ficklenet_tf.data import datasets
    from ficklenet_tf.evaluation import prediction

define.segmenter()
define.name(None, "Directory below OUTPUT_DIR for the label images (default: predictions; with "
            "--crf=auto predictions_auto).")
flags.DEFINE_list("crf", ["dsrg"], f"Dense CRF's parameters, one or several of {', '.join(words.CRFS)}, or auto; what "
                  "the network alone says is always scored too.")
flags.register_validator("crf", lambda keys: keys == [words.AUTO] or bool(keys) and (
    set(keys) <= set(words.CRFS) and len(keys) == len(set(keys))),
                         f"expected auto, or some of {', '.join(words.CRFS)}, each once")
flags.DEFINE_string("saliency_dir", None, "For --crf=auto, where the segmenter's seeds were made by saliency.")
define.sizes("test_sizes", None, "Sides for multi-scale prediction (default: the trained segmenter's).")
flags.DEFINE_boolean("test_flip", None, "Also predict the mirror image (default: the trained segmenter's).")
flags.DEFINE_boolean("submission", False, "Also write the archive that the VOC server takes.")
define.data(None)
define.shards()


def main() -> None:
    """Predicts what is missing, then scores, and packs."""
    from ficklenet_tf import crf
    from ficklenet_tf.evaluation import prediction, voc_submission

    run_dir, split, sizes = cli.run_dir(), cli.split(cli.FLAGS.split, held_out=True), cli.FLAGS.test_sizes
    sizes, auto = cli.integers("test_sizes", sizes) if sizes else None, cli.FLAGS.crf == [words.AUTO]
    name = cli.FLAGS.name or (f"{layout.PREDICTIONS}_auto" if auto else layout.PREDICTIONS)
    keys = [_chosen(run_dir, split, sizes)] if auto else cli.FLAGS.crf
    main_crf, *further = [key for key in keys if key != "none"] or ["none"]
    options = prediction.Options(crf.SPECS[main_crf], tuple(further), sizes, cli.FLAGS.test_flip)
    where = {"stage_name": cli.FLAGS.segmenter, "name": name}
    cli.restart_stages(*prediction.outputs(name, options.spec, further))
    if cli.FLAGS.num_shards > 1:
        prediction.predict_split(run_dir, split, options, shard=cli.shard(), **where)
        cli.done(f"predictions, shard {cli.FLAGS.shard_index} of {cli.FLAGS.num_shards}", run_dir / name)
        return
    if auto and not split.has_labels and not cli.FLAGS.submission:
        print(f"{split.dataset} {split.name} has no masks: no scores; tools.predict --crf=auto takes this CRF")
        return
    if not split.has_labels:
        prediction.predict_split(run_dir, split, options, **where)
        cli.done(f"{split.dataset} {split.name} has no masks: predictions without scores", run_dir / name)
    else:
        _score(run_dir, split, options, where)
    if cli.FLAGS.submission:
        packed = name if main_crf == "none" else layout.refined(name)
        cli.done(f"{len(split)} label images for the server",
                 voc_submission.write(run_dir / packed, split, run_dir / layout.SUBMISSION / packed))


def _chosen(run_dir: pathlib.Path, split: "datasets.Split", sizes: tuple[int, ...] | None) -> str:
    """Returns the CRF of --crf=auto; a shard, and a submission of photographs without tags, take an earlier choice."""
    from ficklenet_tf.seeds import crf_choice

    flags_ = cli.FLAGS
    if flags_.num_shards > 1 or (flags_.submission and not split.has_labels):
        return crf_choice.chosen(run_dir, crf_choice.AUTO, flags_.segmenter)
    return crf_choice.choose(run_dir, split, flags_.segmenter, flags_.saliency_dir, sizes, flags_.test_flip)


def _score(run_dir: pathlib.Path, split: "datasets.Split", options: "prediction.Options",
           where: dict[str, Any]) -> None:
    """Predicts what is missing and prints scores; see `scoring.evaluate`."""
    from ficklenet_tf.evaluation import scoring
    from ficklenet_tf.runs import artifacts

    for name, scores in scoring.evaluate(run_dir, split, options, **where).items():
        seconds = artifacts.finished_run(run_dir / name, "prediction", "tools.evaluate").get("seconds_per_image")
        timed = "the network" if name == where["name"] else "this CRF"
        time_text = "" if seconds is None else f"; {timed} took {seconds:.2f} s per image"
        cli.done(f"{name}: {texts.miou_text(scores)} in {scores['images']} images{time_text}",
                 layout.scores(run_dir, name))
    print(layout.scores(run_dir, name, "txt").read_text())


if __name__ == "__main__":
    cli.start(main)
