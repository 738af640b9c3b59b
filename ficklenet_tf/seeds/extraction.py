"""Extracts seeds: photographs and tags -> N maps an image -> seeds/<image id>.png, resumable and in shards."""

import concurrent.futures
import dataclasses
import io
import pathlib
import time

import numpy as np

from ficklenet_tf.data import datasets, images, labels
from ficklenet_tf.evaluation import scoring
from ficklenet_tf.maps.localizer import AUTO, Localizer
from ficklenet_tf.models import classifier
from ficklenet_tf.runs import artifacts, progress, shards
from ficklenet_tf.seeds import refinement, rule


def extract(run_dir, split, preset, *, stage="classifier", name="seeds", selection="stochastic", seed=0,
            saliency_dir=None, maps=False, uncertainty=False, shard=shards.WHOLE, jit_compile=False):
    """Writes one seed image a photograph, at the photograph's size.

    The answer for an image is a function of (classifier, preset, seed, image id), not of batch,
    order or shard. Files that are there are not made again.

    Args:
      run_dir: the run's directory.
      split: `datasets.Split`; its masks, if any, serve the report only.
      preset: `presets.Seeds`.
      stage: the classifier's directory below run_dir.
      name: directory below run_dir for the seeds; maps go to `<name>_maps`.
      selection: "stochastic", "general" or "deterministic" (a plain Grad-CAM).
      seed: of the selections.
      saliency_dir: for the background cue "saliency".
      maps: also write mean, maximum, spread and the first three maps (.npz, float16).
      uncertainty: also write `<name>_uncertainty/<image id>.png`, grey, see `seeds.uncertainty`.
      shard: (index, count): only every count-th image, see shards.py.
      jit_compile: compile backbone and maps by XLA, anew for each number of tags.

    Returns:
      The content of run.json (of a shard: without metrics, which need every image). With selections "auto" it has
      the median and the greatest number of selections that an image took, `<name>_selections/<image id>.json` each.
    """
    run_dir = pathlib.Path(run_dir)
    directory = run_dir / name
    cue = cue_settings(preset, saliency_dir)
    model, normalization, run, trained = classifier.load(run_dir / stage)
    datasets.check_classes(split, run["class_names"], run_dir / stage)
    settings = {"stage": "seeds", "preset": dataclasses.asdict(preset), "selection": selection, "seed": seed,
                "dataset": split.dataset, "split": split.name, "fingerprint": split.fingerprint,
                "classifier": run["finished"], **cue}
    directory.mkdir(parents=True, exist_ok=True)
    artifacts.claim(directory, settings)
    beside = [kind for kind, wanted in (("maps", maps), ("uncertainty", uncertainty),
                                        ("selections", preset.selections == AUTO)) if wanted]
    own, started = shards.own(shard, len(split)), time.monotonic()
    pending = [i for i in own if not all(path.exists() for path in _paths(directory, split.image_ids[i], beside))]
    finished = artifacts.read_run(directory)
    if finished and not pending:
        return finished
    shards.check_complete(directory, shard, [split.image_ids[i] for i in pending])
    cached = run["features_dir"] if preset.sizes[0] == trained.input_size else None
    localizer = Localizer(model, normalization, preset, selection, cached, jit_compile)
    made = stream(localizer, split, pending, seed, directory, saliency_dir=saliency_dir, beside=beside)
    for _ in progress.bar(made, total=len(own), initial=len(own) - len(pending), desc=name, unit="img"):
        pass
    shards.write_manifest(directory, shard, [split.image_ids[i] for i in own], len(pending), started)
    if shard != shards.WHOLE:
        return settings
    result = scoring.score_directory(directory, split) if split.has_labels else None
    artifacts.write_run(directory, **settings, images=len(split), metrics=result,
                        **_selections_taken(directory, split, beside))
    return artifacts.read_run(directory)


def stream(localizer, examples, indices, seed, directory, *, saliency_dir=None, beside=()):
    """Localizes images one after another and writes what comes out, reading ahead and writing behind meanwhile.

    Args:
      localizer: a `Localizer`.
      examples: `datasets.Split`, or a list of its examples.
      indices: which of them.
      seed: of the selections.
      directory: for the seeds.
      saliency_dir: for the background cue "saliency".
      beside: what else to write, of "maps", "uncertainty", "selections".

    Yields:
      The id of an image when its maps are there; its files are there when the next one comes or all is over.
    """
    with concurrent.futures.ThreadPoolExecutor(1) as reader, concurrent.futures.ThreadPoolExecutor(1) as writer:
        ahead = written = None
        for index in [*indices, None]:
            now = ahead
            ahead = None if index is None else reader.submit(lambda i: localizer.prepare(examples[i]), index)
            if now is None:
                continue
            image_id, found = now.result()["image_id"], localizer.localize(now.result(), seed)
            if written is not None:
                written.result()
            written = writer.submit(_write, image_id, found, localizer.preset, directory, saliency_dir, beside)
            yield image_id
        if written is not None:
            written.result()


def _paths(directory, image_id, beside):
    """The files of an image: its seeds, then those that stand beside them."""
    suffixes = {"maps": "npz", "uncertainty": "png", "selections": "json"}
    return [directory / f"{image_id}.png",
            *(directory.with_name(f"{directory.name}_{kind}") / f"{image_id}.{suffixes[kind]}" for kind in beside)]


def _selections_taken(directory, split, beside):
    """How many selections the images of an «auto» run took, for run.json."""
    if "selections" not in beside:
        return {}
    taken = [artifacts.read_json(_paths(directory, image_id, ["selections"])[1])["selections"]
             for image_id in split.image_ids]
    return {"selections": {"median": float(np.median(taken)), "max": max(taken)}}


def cue_settings(preset, saliency_dir):
    """Returns what a stage's settings say of the saliency maps: nothing where there are none.

    Raises:
      ValueError: the background cue of `preset`, a `presets.Seeds`, wants them and there are none.
    """
    if preset.background_cue == "saliency" and preset.refine != "crf" and not saliency_dir:
        raise ValueError("background_cue saliency: expected --saliency_dir with a map for each image, found none")
    return {"saliency_dir": str(saliency_dir)} if saliency_dir else {}


def make_seed(found, preset, image_id="", saliency_dir=None):
    """Turns a `Localizer`'s answer into a seed image `[height, width]` uint8 at the photograph's size."""
    return _make(found, preset, image_id, saliency_dir)[0]


def _make(found, preset, image_id, saliency_dir, uncertainty=False):
    """Returns the seed image and, where it is wanted or needed, the uncertainty of what the rule says, or None."""
    label, uncertain = _by_rule(found, preset, image_id, saliency_dir), None
    if uncertainty or preset.max_uncertainty < 1:
        uncertain = rule.uncertainty(found["std"], found["mean"], found["classes"], label)
    if preset.max_uncertainty < 1:
        label = rule.leave_out(label, uncertain, preset.max_uncertainty)
    return label, uncertain


def _by_rule(found, preset, image_id, saliency_dir):
    shape = found["shape"]
    if preset.refine == "crf":
        return refinement.crf_refine(found["image"], found["mean"], found["classes"], preset.refine_low,
                                     preset.refine_high, scale=preset.refine_scale)
    if preset.refine not in ("none", "srg"):
        raise ValueError(f"refine: expected none, crf or srg, found {preset.refine!r}")
    mean, highest = (images.resize_maps(found[k], shape) for k in ("mean", "max"))
    label = rule.allot(highest, mean, found["classes"], preset.theta)
    if preset.background_cue == "activation":
        background = rule.activation_cue(mean, preset.background_threshold)
    elif preset.background_cue == "gradient":
        gradient = rule.gradient_cue(found["gradient"], preset.background_threshold)
        background = images.resize_maps(gradient.astype(np.float32)[..., None], shape)[..., 0] > 0.5
    elif preset.background_cue == "saliency":
        background = rule.saliency_cue(saliency_dir, image_id, shape, preset.background_threshold)
    else:
        raise ValueError(f"background_cue: expected one of {', '.join(rule.CUES)}, found {preset.background_cue!r}")
    label = rule.add_background(label, background)
    if preset.refine == "srg":
        return refinement.srg_refine(found["image"], label, preset.srg_distance, preset.refine_scale)
    return label


def _write(image_id, found, preset, directory, saliency_dir, beside):
    label, uncertain = _make(found, preset, image_id, saliency_dir, "uncertainty" in beside)
    target, *others = _paths(directory, image_id, beside)
    for kind, path in zip(beside, others, strict=True):
        if kind == "maps":
            buffer = io.BytesIO()
            np.savez(buffer, classes=found["classes"], **{k: found[k].astype(np.float16)
                                                          for k in ("mean", "max", "std", "samples")})
            artifacts.write_bytes(path, buffer.getvalue())
        elif kind == "uncertainty":
            rule.write_uncertainty(path, uncertain)
        else:
            artifacts.write_json(path, {"selections": found["selections"]})
    labels.write_label(target, label)
