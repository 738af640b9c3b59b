"""The job of tools.reproduce: what it trains for which table or figure."""

import dataclasses
from collections.abc import Callable

import numpy as np

from ficklenet_tf import crf, presets
from ficklenet_tf.data import datasets
from ficklenet_tf.errors import UserError
from ficklenet_tf.experiments import (
    drawing,
    figures,
    job,
    map_scores,
    map_tables,
    mask_tables,
    plan,
    rehearsed,
    studies,
    systems,
    table_settings,
    tables,
)
from ficklenet_tf.models import pretrained
from ficklenet_tf.runs import layout
from ficklenet_tf.seeds import needed
from ficklenet_tf.training import objective
from tools import cli, words
from tools.benchmarks import head_table


def _wanted() -> list[tuple[str, str]]:
    """Returns what to make, (flag, name), tables first."""
    wanted = []
    for flag, legal in {"table": words.TABLES, "figure": words.FIGURES, "study": words.STUDIES}.items():
        names = list(legal) if cli.FLAGS.all else getattr(cli.FLAGS, flag)
        for name in names:
            if name not in legal:
                raise UserError(f"{flag}: expected {', '.join(legal)}, found {name!r}")
        wanted += [(flag, name) for name in legal if name in names]
    if ("table", "3") in wanted and not _semi():
        raise UserError(f"systems: expected some of {', '.join(mask_tables.SEMI)} for Table 3, found "
                        f"{','.join(cli.FLAGS.systems)}")
    if not wanted:
        raise UserError("expected --table, --figure, --study or --all, found none of them")
    return wanted


def _strong(split: datasets.Split) -> datasets.Split:
    """Returns the images whose masks semi-supervision may use."""
    if name := _strong_name():
        return cli.learned(cli.split(name))
    return cli.own_masks(split).with_masks(cli.FLAGS.table3_images)


def _strong_name() -> str | None:
    """Returns the split of which all images with masks are strong ones, if there is one."""
    return cli.FLAGS.strong_split or ("train" if cli.FLAGS.dataset == "voc" else None)


def _plan(trains: bool) -> plan.Plan:
    if not cli.FLAGS["seed"].using_default_value:
        raise UserError("seed: expected none, the tables are over --random_seeds from --first_random_seed on")
    preset = cli.preset(trains)
    (split, held_out), first = cli.splits(), cli.FLAGS.first_random_seed
    return plan.Plan(cli.run_dir(), split, held_out, preset,
                     weights=cli.FLAGS.weights, random_seeds=tuple(range(first, first + cli.FLAGS.random_seeds)),
                     map_images=cli.FLAGS.map_images, strong=_strong(split), spec=crf.SPECS[cli.FLAGS.crf],
                     options=cli.loop_options(),
                     saliency_dir=needed.saliency_of(cli.run_dir(), preset.seeds, cli.FLAGS.saliency_dir))


def _semi() -> list[str]:
    """Returns the systems of Table 3: of those that are asked for, those that it has."""
    return [key for key in mask_tables.SEMI if key in cli.systems()]


def _rows(wanted: list[tuple[str, str]]) -> set[str]:
    """Returns the systems that the wanted tables have as rows, and the wanted figures as columns."""
    rows = {("table", "1"): cli.systems(), ("table", "2"): cli.systems(), ("table", "3"): _semi(),
            ("figure", "4"): ["ficklenet"], ("figure", "6"): ["dsrg"], ("study", "uncertainty"): ["ficklenet"]}
    return {key for made in wanted for key in rows.get(made, ())}


def _check_flags(preset: presets.Preset, wanted: list[tuple[str, str]]) -> None:
    """Raises UserError where a flag was given that a wanted row would not heed."""
    if ("study", "uncertainty") in wanted and cli.FLAGS["seeds.max_uncertainty"].value is not None:
        raise UserError("seeds.max_uncertainty: expected none with the study of it, whose rows have --limits, found "
                        f"{preset.seeds.max_uncertainty:g}")
    if ("table", "3") in wanted and cli.FLAGS["table3_images"].present and _strong_name():
        raise UserError(f"table3_images: expected none where all of a split's masks are taken, found it beside "
                        f"{_strong_name()}, see --strong_split")
    if {("table", "5"), ("table", "7"), ("study", "rescale")} & set(wanted):
        _check_chosen(preset.seeds, "the preset's rule of seeds")
    for key in sorted(_rows(wanted)):
        for stage, fields in systems.SYSTEMS[key].changes.items():
            for name, own in fields.items():
                flag, given = f"{stage}.{name}", getattr(getattr(preset, stage), name)
                if cli.FLAGS[flag].value is not None and given != own:
                    raise UserError(f"{flag}: expected none with a table of systems, of which {key} has {own} itself, "
                                    f"found {given}")
        _check_chosen(systems.SYSTEMS[key].applied(preset).seeds, key)


def _check_chosen(config: presets.SeedsConfig, whose: str) -> None:
    """Raises UserError where a flag sets what is chosen by masks."""
    chosen, _ = map_scores.NUMBERS.get(config.refine, ((), ()))
    for name in chosen:
        if cli.FLAGS[f"seeds.{name}"].value is not None:
            raise UserError(f"seeds.{name}: expected none, as for {whose} it is chosen by masks of training images, "
                            f"found {getattr(config, name)}")


def _check_masks(work: plan.Plan, wanted: list[tuple[str, str]]) -> None:
    """Raises UserError where there are no masks for what is wanted: not after hours of training."""
    if not set(wanted) <= {("table", "4"), ("figure", "1"), ("figure", "3")}:
        plan.check_masks(work.split, "maps")
    if _rows(wanted) or ("study", "uncertainty") in wanted or ("table", "5") in wanted and cli.FLAGS.with_segmenter:
        plan.check_masks(work.held_out, "segmenters")
    if {("table", "3"), ("figure", "4")} & set(wanted):
        objective.divide("semi", work.split, work.strong)


def _with_saliency(work: plan.Plan, wanted: list[tuple[str, str]]) -> plan.Plan:
    """Returns the plan with saliency maps, made here unless they are given, where a wanted row learns from them."""
    needing = sorted(key for key in _rows(wanted) if job.needs_saliency(systems.SYSTEMS[key].applied(work.preset)))
    if not needing and not needed.saliency(work.preset.seeds):
        return work
    if cli.FLAGS.saliency_dir:
        needed.check_saliency(cli.FLAGS.saliency_dir, work.split)
    if work.saliency_dir:
        return work
    return dataclasses.replace(work, saliency_dir=cli.make_saliency(work.run_dir, work.split, needing))


def _residual(work: plan.Plan) -> plan.Plan:
    """The plan of Table 2: DeepLab-v2's head, and another backbone, which gets a directory of its own."""
    classifier = work.preset.classifier
    backbone = cli.FLAGS.table2_backbone or ("small" if classifier.backbone == "small" else "resnet50")
    preset = dataclasses.replace(work.preset, classifier=dataclasses.replace(classifier, backbone=backbone),
                                 segmenter=dataclasses.replace(work.preset.segmenter, head="aspp"))
    work = dataclasses.replace(work, preset=preset)
    if backbone == classifier.backbone and cli.FLAGS.table2_weights:
        raise UserError(f"table2_weights: expected none, as Table 2 has the other tables' backbone {backbone} and "
                        f"--weights, found {cli.FLAGS.table2_weights}")
    return work if backbone == classifier.backbone else dataclasses.replace(
        work, run_dir=work.run_dir / f"table2_{backbone}", weights=cli.FLAGS.table2_weights)


_TABLES: dict[str, Callable[[plan.Plan], tables.Table]] = {
    "1": lambda work: mask_tables.weak(work, cli.systems()),
    "2": lambda work: mask_tables.weak(_residual(work), cli.systems(), "table2"),
    "3": lambda work: mask_tables.supervised(work, _semi()),
    "4": lambda work: head_table.table4(cli.FLAGS.scale),
    "5": lambda work: map_tables.table5(work, mask_tables.rate if cli.FLAGS.with_segmenter else None),
    "6": lambda work: map_tables.table6(work, cli.FLAGS.repeats),
    "7": map_tables.table7,
    "rescale": map_tables.rescaling,
    "uncertainty": lambda work: studies.uncertainty(work, (1.0, *map(float, cli.FLAGS.limits))),
    "convergence": lambda work: studies.convergence(work, cli.FLAGS.reference_images, cli.FLAGS.reference),
}
_FIGURES: dict[str, Callable[[plan.Plan], np.ndarray]] = {
    "1": figures.figure1, "3": figures.figure3, "4": figures.figure4,
    "5": lambda work: figures.figure5(work, cli.FLAGS.repeats), "6": figures.figure6}


def run() -> None:
    """Makes what was asked for."""
    wanted = _wanted()
    trains = not set(wanted) <= {("table", "4"), ("figure", "3")}
    work = _plan(trains)
    _check_flags(work.preset, wanted)
    _check_masks(work, wanted)
    work = _with_saliency(work, wanted)
    if ("table", "2") in wanted:  # not after Table 1 has been trained
        table2 = _residual(work)
        classifier = table2.preset.classifier
        pretrained.check(table2.weights, classifier.backbone, classifier.trainable_layers,
                         "weights" if table2.weights == work.weights else "table2_weights")
    if cli.FLAGS.rehearsal and trains:
        rows = cli.systems() if ("table", "1") in wanted else []
        first = work.job("ficklenet")
        base = dataclasses.replace(first, preset=work.preset, system=systems.System("", {}), names=job.Names())
        jobs = [base, *(work.job(key) for key in rows)]
        rehearsed.rehearse(*jobs, last=jobs[-1].names.segmenter if rows else layout.CLASSIFIER, segmenters=bool(rows))
    for flag, name in wanted:
        if flag == "figure":
            path = work.run_dir / layout.FIGURES / f"figure{name}.png"
            drawing.write_png(path, _FIGURES[name](work))
            cli.done(f"Figure {name}", path)
        else:
            table = _TABLES[name](work)
            if table.random_seeds:
                settings = table_settings.of(_residual(work) if name == "2" else work)
                table = dataclasses.replace(table, settings=settings)
            print(tables.write(table, work.run_dir / layout.TABLES))
            cli.done(table.title, work.run_dir / layout.TABLES / f"{table.name}.md")
