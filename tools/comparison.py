"""The job of tools.compare: several systems in one run's directory, their masks measured against each other's."""

import dataclasses
import pathlib
from typing import Any

from ficklenet_tf import crf, presets
from ficklenet_tf.errors import UserError
from ficklenet_tf.evaluation import agreement, prediction, scoring
from ficklenet_tf.experiments import costs, rehearsed, shared, systems
from ficklenet_tf.experiments.job import Job
from ficklenet_tf.report import commands, comparison, picture_rows
from ficklenet_tf.runs import artifacts, layout
from ficklenet_tf.seeds import needed
from tools import cli, texts


def run() -> None:
    """Makes what is not there yet, and the page."""
    keys = cli.systems()
    base, works = _jobs(keys)
    agreement.check(base.split, base.held_out)
    _make_saliency(works)
    if cli.FLAGS.rehearsal:
        _rehearse(base, works)
    run = costs.measured(base.run_dir, layout.CLASSIFIER, base.train_classifier)
    cli.done(f"{layout.CLASSIFIER}, of whose backbone all segmenters are made: {texts.map_text(run['metrics'])}",
             base.run_dir / layout.CLASSIFIER)
    entries = [_entry(key, _named(key, work, base)) for key, work in works.items()]
    verdict = agreement.measure({entry.key: base.run_dir / entry.predictions for entry in entries}, base.held_out,
                                {entry.key: entry.maps for entry in entries if entry.maps})
    page = comparison.write_page(base.run_dir, entries, verdict, train_split=base.split, val_split=base.held_out,
                                 title=cli.title(base.split.dataset, "Systems"), crf=cli.FLAGS.crf,
                                 rows=cli.FLAGS.rows)
    said = comparison.recommendation(verdict, picture_rows.noun(base.split.dataset))
    artifacts.write_json(base.run_dir / "comparison.json", {
        "recommendation": said, "verdict": dataclasses.asdict(verdict), "crf": cli.FLAGS.crf,
        "systems": [dataclasses.asdict(entry) for entry in entries], "flags": cli.given_flags(),
        "rank_correlation": comparison.rank_correlation(entries, verdict)})
    print(f"\n{said}\nLook at them: {page}")


def _jobs(keys: list[str]) -> tuple[Job, dict[str, Job]]:
    """Returns the job whose classifier all segmenters start from, and that of each system, key -> `Job`."""
    flags = cli.FLAGS
    preset = cli.preset()
    changed = {key: cli.preset(changed=systems.SYSTEMS[key].applied) for key in keys}  # before the data are read
    _check_different(changed)
    base = Job(cli.run_dir(), cli.split(), cli.split(flags.held_out, held_out=True), preset, systems.System("", {}),
               flags.weights, flags.seed, training=cli.loop_options(),
               saliency_dir=pathlib.Path(flags.saliency_dir) if flags.saliency_dir else None)
    return base, {key: dataclasses.replace(base, preset=preset, system=systems.SYSTEMS[key])
                  for key, preset in changed.items()}


def _check_different(presets: dict[str, presets.Preset]) -> None:
    """Raises UserError where the flags, which win over what systems set, have made two of them one."""
    seen: dict[Any, str] = {}
    for key, preset in presets.items():
        system = systems.SYSTEMS[key]
        twin = seen.setdefault((preset, system.maps, system.rounds), key)
        if twin != key:
            raise UserError(f"systems: expected different ones, found {twin} and {key} equal with the flags given "
                            f"({', '.join(f'--{name}' for name in cli.given_flags() if '.' in name)})")


def _named(key: str, work: Job, base: Job) -> Job:
    return shared.named(work, key, base.preset.classifier, base.seed)


def _make_saliency(works: dict[str, Job]) -> None:
    """Makes the photographs' saliency maps once, where a system learns from them; checks those that are given."""
    needing = [key for key, work in works.items() if work.needs_saliency]
    if not needing:
        return
    work = works[needing[0]]
    if cli.FLAGS.saliency_dir:
        needed.check_saliency(cli.FLAGS.saliency_dir, work.split)
    else:
        cli.make_saliency(work.run_dir, work.split, needing)


def _rehearse(base: Job, works: dict[str, Job]) -> None:
    """Takes one step of each training that has not been begun; the first job has the segmenters' backbone."""
    named = [_named(key, work, base) for key, work in works.items()]
    pending = [work for work in named if not layout.begun(work.run_dir / work.names.segmenter)]
    if pending:
        rehearsed.rehearse(base, *pending, last=pending[0].names.segmenter, segmenters=True)


def _entry(key: str, work: Job) -> comparison.Entry:
    """Trains a system, predicts and, where there are masks, scores the held-out photographs."""
    made = shared.make(work)
    spec, name = crf.SPECS[cli.FLAGS.crf], made.segmenter.replace(layout.SEGMENTER, layout.PREDICTIONS, 1)
    options, miou = prediction.Options(spec), None
    judged = [*prediction.outputs(name, spec)][-1]
    if work.held_out.has_labels:
        scores = scoring.evaluate(work.run_dir, work.held_out, options, stage_name=made.segmenter, name=name)[judged]
        miou = scores["miou"]
    else:
        prediction.predict_split(work.run_dir, work.held_out, options, stage_name=made.segmenter, name=name)
    cli.done(f"{key}: {made.segmenter}" + ("" if miou is None else f", {texts.miou_text(scores)}"),
             work.run_dir / judged)
    seconds, of_seeds = (None if cost is None else cost["seconds"] for cost in (made.cost, made.cost_of_seeds))
    seeds, maps = (work.names.seeds, work.names.maps) if work.needs_seeds else (None, None)
    return comparison.Entry(
        key, work.system.title, "tags, saliency" if work.needs_saliency else "tags", judged,
        seeds, maps, _alone(key, work), seconds, None if of_seeds is None else 1000 * of_seeds / len(work.split), miou)


def _alone(key: str, work: Job) -> str:
    """Returns the command that makes a run of one system."""
    flags: dict[str, Any] = {name: value for name, value in cli.given_flags().items() if name not in (
        "systems", "rows", "output_dir")}
    closer = False if work.needs_saliency and not cli.FLAGS.saliency_dir else None  # here each looks once
    return commands.line("tools.run_pipeline", {"system": key, **flags, "closer_looks": closer,
                                                "output_dir": f"{work.run_dir}_{key}"})
