"""The job of tools.run_pipeline: every stage of a run, one after the other, and what it says of them."""

import dataclasses
import pathlib
import time
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from ficklenet_tf import crf, presets, report
from ficklenet_tf.data import datasets, images
from ficklenet_tf.errors import UserError
from ficklenet_tf.evaluation import prediction, scoring
from ficklenet_tf.experiments import job, rehearsed, systems
from ficklenet_tf.report import commands
from ficklenet_tf.runs import artifacts, layout, restart
from ficklenet_tf.seeds import crf_choice, needed, saliency
from ficklenet_tf.serving import saved_model, server_files, verify
from tools import cli, texts

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _timed(seconds: dict[str, float | None], stage_name: str, function: Callable[_P, _R], /, *args: _P.args,
           **kwargs: _P.kwargs) -> _R:
    """Calls a function; notes how long it took, None of a stage that is gone on with, nothing of one that is done."""
    directory = cli.run_dir() / stage_name
    begun = (directory / layout.SETTINGS).exists() and not restart.is_requested(directory)
    done, started = begun and (directory / layout.RUN).exists(), time.monotonic()
    result = function(*args, **kwargs)
    if not done:
        seconds[stage_name] = None if begun else round(time.monotonic() - started, 1)
    return result


def _job(run_dir: pathlib.Path, split: datasets.Split, held_out: datasets.Split, preset: presets.Preset,
         system: systems.System) -> job.Job:
    flags = cli.FLAGS
    saliency_dir = pathlib.Path(flags.saliency_dir) if flags.saliency_dir else None
    strong = cli.strong(split, flags.supervision == "semi", "--supervision=semi")
    return job.Job(run_dir, split, held_out, preset, system, flags.weights, flags.seed, flags.cache_flips, strong,
                   saliency_dir, cli.loop_options())


def _check(work: job.Job) -> None:
    """Raises UserError where a later stage would lack what it needs, before the first one begins."""
    needed.check(work.preset.seeds, work.saliency)
    saliency_dir = cli.FLAGS.saliency_dir
    if work.needs_saliency and saliency_dir:
        needed.check_saliency(saliency_dir, work.split)
    if cli.FLAGS.crf != crf_choice.AUTO:
        return
    if not work.needs_seeds:
        raise UserError("crf: expected a CRF by name, as auto compares with seeds, and this system has none")
    if work.system.maps != "one":
        raise UserError("crf: expected a CRF by name, as auto compares with seeds of one classifier's maps, and this "
                        "system's are of several")
    few = crf_choice.photographs(work.held_out)
    crf_choice.tagged(few)
    if needed.saliency(work.preset.seeds) and saliency_dir:
        needed.check_saliency(saliency_dir, few)


def _baseline(work: job.Job) -> job.Job:
    """The same with every hidden unit, in directories of its own."""
    names = job.Names(*map(layout.deterministic, (layout.CLASSIFIER, layout.MAPS, layout.AFFINITY, layout.SEEDS)))
    config = dataclasses.replace(work.preset.classifier, training_mode="deterministic", inference_mode="deterministic")
    return dataclasses.replace(work, preset=dataclasses.replace(work.preset, classifier=config), names=names)


def _train_and_extract(works: list[job.Job], seconds: dict[str, float | None], result: dict[str, Any]) -> None:
    """Trains every job's classifier before the first maps; makes maps and seeds."""
    for work in works:
        name = work.names.classifier
        run = _timed(seconds, name, work.train_classifier)
        result.setdefault("map", run["metrics"]["map"])
        cli.done(f"{name}: {texts.map_text(run['metrics'])} in {work.held_out.name} ({len(work.held_out)})",
                 work.run_dir / name)
    for work in works:
        _timed(seconds, work.names.maps, work.localize)
        if not work.needs_seeds:
            continue
        if needed.saliency(work.preset.seeds) and cli.FLAGS.closer_looks and not cli.FLAGS.saliency_dir:
            work = _timed(seconds, layout.closer_of(work.names.maps), work.look_closer, cli.FLAGS.saliency_model)
        name = work.names.seeds
        run = _timed(seconds, name, work.make_seeds)
        if run["metrics"]:
            result[name] = {key: run["metrics"][key] for key in ("miou", "recall", "precision")}
        cli.done(f"{name}{texts.scores_text(run['metrics'])}", work.run_dir / name)


def _segment(work: job.Job, seconds: dict[str, float | None], result: dict[str, Any]) -> str:
    run_dir, held_out = work.run_dir, work.held_out
    stage = _timed(seconds, layout.SEGMENTER, work.train_segmenter)
    cli.done("segmenter", run_dir / stage)
    key = cli.FLAGS.crf
    if key == crf_choice.AUTO:
        key = _timed(seconds, "crf", _choose_crf, work, stage)
    result["crf"] = key
    if held_out.has_labels:
        scores_of = _timed(seconds, layout.EVALUATION, scoring.evaluate, run_dir, held_out,
                           prediction.Options(crf.SPECS[key]), stage_name=stage)
        for name, scores in scores_of.items():
            result[name] = {key: scores[key] for key in ("miou", "recall", "precision")}
            cli.done(f"{name}: {texts.miou_text(scores)} in {held_out.name} ({scores['images']})",
                     layout.scores(run_dir, name))
    else:  # nothing to score, but to look at
        _timed(seconds, layout.PREDICTIONS, prediction.predict_split, run_dir, held_out,
               prediction.Options(crf.SPECS[key]), stage_name=stage)
        cli.done("predictions", run_dir / layout.PREDICTIONS)
    return stage


def _choose_crf(work: job.Job, stage: str) -> str:
    """Returns the CRF that is chosen without masks; makes the saliency maps that this needs."""
    saliency_dir = cli.FLAGS.saliency_dir
    if needed.saliency(work.preset.seeds) and not saliency_dir:
        saliency_dir = work.run_dir / layout.HELD_OUT_SALIENCY
        saliency.make(work.run_dir, crf_choice.photographs(work.held_out), cli.FLAGS.saliency_model,
                      name=saliency_dir.name)
    return crf_choice.choose(work.run_dir, work.held_out, stage, saliency_dir)


def _serve(run_dir: pathlib.Path, stage: str, held_out: datasets.Split, seconds: dict[str, float | None],
           result: dict[str, Any]) -> pathlib.Path:
    path = _timed(seconds, "export", saved_model.export, run_dir, None, saved_model.Options(stage, result["crf"]))
    photographs = [verify.fitting(images.decode_image_op(held_out[i]["image"]).numpy())
                   for i in range(min(4, len(held_out)))]
    predictor = prediction.Predictor(run_dir / stage)
    expected = [predictor(photograph).argmax(-1) for photograph in photographs]
    result["served_agreement"] = _timed(seconds, "verify", verify.verify, path, photographs, expected)
    result["served_segmenter"] = predictor.run["finished"]
    cli.done(f"saved model: {100 * result['served_agreement']:.3f} % of the labels as live", path)
    return path


def run() -> None:
    """Runs every stage that is not done yet."""
    run_dir = cli.run_dir()
    seconds: dict[str, float | None] = {}
    result: dict[str, Any] = {}
    system = systems.SYSTEMS[cli.FLAGS.system] if cli.FLAGS.system else systems.System("FickleNet", {})
    semi = cli.FLAGS.supervision == "semi"
    preset = cli.preset(changed=lambda base: system.applied(base, semi))  # a wrong number ends before data are read
    refusal = system.refusal(preset, semi)
    if refusal:
        raise UserError(f"system {cli.FLAGS.system}: {refusal}")
    split, held_out = cli.splits()
    work = _job(run_dir, split, held_out, preset, system)
    _check(work)
    works, baseline = [work], _baseline(work)
    if cli.FLAGS.baseline and not cli.FLAGS.system and baseline.preset != preset:
        works.append(baseline)
    restart.request(run_dir, cli.FLAGS.restart, followers=True)
    if work.needs_saliency and not cli.FLAGS.saliency_dir:
        _timed(seconds, layout.SALIENCY, saliency.make, run_dir, split, cli.FLAGS.saliency_model)
        cli.done("saliency", run_dir / layout.SALIENCY)
    if cli.FLAGS.rehearsal:
        rehearsed.rehearse(*works)
    path = run_dir / layout.RESULT
    facts = {"preset": cli.FLAGS.preset, "system": cli.FLAGS.system, "dataset": split.dataset, "train": split.name,
             "held_out": held_out.name, "flags": cli.given_flags()}
    if not path.exists() and not layout.begun(run_dir / layout.CLASSIFIER):
        artifacts.write_json(path, facts)  # the page of a run that was stopped tells the command that goes on with it
    _train_and_extract(works, seconds, result)
    stage = _segment(work, seconds, result)
    served = _serve(run_dir, stage, held_out, seconds, result)
    previous = artifacts.read_json(path) if path.exists() else {}
    again = {*restart.with_followers(cli.FLAGS.restart), "crf", layout.EVALUATION, "export", "verify"}
    earlier = {name: value for name, value in previous.get("seconds", {}).items()
               if not cli.FLAGS.restart or name not in again}
    for name, value in seconds.items():  # what was exported already takes no time: keep what it took first
        earlier[name] = value if value is None else max(value, earlier.get(name) or 0)
    result = {**facts, **result, "seconds": earlier}
    artifacts.write_json(path, result)
    page = report.write_report(run_dir, train_split=split, val_split=held_out,
                               title=cli.title(split.dataset, system.title))
    print(_closing(run_dir, page, served, result))


def _closing(run_dir: pathlib.Path, page: pathlib.Path, served: pathlib.Path, result: dict[str, Any]) -> str:
    """Returns the last screen: what came out, and what can be done with it."""
    lines = ["\nDone."]
    lines += [f"  {name}: " + ", ".join(f"{key} {100 * value:.1f}" for key, value in result[name].items())
              for name in (layout.SEEDS, layout.PLAIN_SEEDS, layout.PREDICTIONS, layout.REFINED_PREDICTIONS)
              if name in result]
    crf_flag = None if result["crf"] == "dsrg" else result["crf"]
    predict = commands.line("tools.predict", {"output_dir": run_dir, "crf": crf_flag, "to": "masks",
                                              "import": cli.FLAGS["import"].value or None}, ["PHOTO.jpg"])
    lines += ["", "What next:",
              f"  look at it         open {page}; if the masks are bad, docs/quality.md",
              f"  try a photograph   {predict}",
              f"  serve it           {served}; how: export/README.md", *_promotion(served)]
    if result["dataset"] == "shapes":
        python = commands.python()
        lines += ["  your own           photographs in folders by class, as mine/dog/*.jpg and mine/cat/*.jpg, then",
                  f"                     {python} -m tools.check_data --dataset=folder --data_dir=mine",
                  f"                     {python} -m tools.run_pipeline --dataset=folder --data_dir=mine \\",
                  "                       --preset=cpu --weights=imagenet --output_dir=runs/mine"]
    return "\n".join(lines)


def _promotion(served: pathlib.Path) -> list[str]:
    """Returns a line where servers go on with an earlier version until they are told."""
    stable = server_files.read(served.parent / server_files.MODELS).model_config_list.config[0].version_labels
    current = stable.get(server_files.STABLE, int(served.name))
    return [] if current == int(served.name) else [
        f"                     servers go on with version {current} until export.rollout promotes {served.name}"]
