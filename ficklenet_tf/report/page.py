"""Puts a run's page together: headline, pictures, scores, curves, and what was run."""

import pathlib
from collections.abc import Mapping
from html import escape
from typing import Any

from ficklenet_tf.data import datasets
from ficklenet_tf.maps import merging
from ficklenet_tf.report import (
    charts,
    commands,
    facts,
    gallery,
    markup,
    own_masks,
    picture_rows,
    pictures,
    score_sections,
    stage_flags,
    stages,
    template,
    used,
)
from ficklenet_tf.runs import artifacts, layout

SIDE = 320  # pixels, longer side of a picture: to be seen enlarged, small enough inline


def write_report(run_dir: str | pathlib.Path, *, train_split: datasets.Split, val_split: datasets.Split, title: str,
                 rows: int = 12, flags: Mapping[str, Any] | None = None) -> pathlib.Path:
    """Writes `<run_dir>/report.html`: one page that holds everything it shows.

    Args:
      run_dir: the run's directory. For what a stage has not made yet the page names the command that makes it.
      train_split: `datasets.Split` of the seeds.
      val_split: `datasets.Split` of the predictions.
      title: of the page.
      rows: how many images from each of the two splits.
      flags: name -> value, those by which the splits were opened (data_dir, cache_dir and so on), for the commands of
        a run whose result.json does not say them.

    Returns:
      The path of report.html.

    Raises:
      FileNotFoundError: there is no such directory.
      UserError: a file of the run is broken; names it.
    """
    run = stages.read(run_dir, train_split.dataset, flags)
    names = train_split.class_names
    train, val = used.of_training(run, train_split), used.of_held_out(run, val_split)
    body = [facts.headline(run, names, val), facts.still_missing(run, val_split.has_labels),
            own_masks.section(train_split, val_split, SIDE), *_localized(run, train_split, rows),
            _masks(run, val, rows), *_scores(run, val_split), _curves(run, picture_rows.noun(train_split.dataset)),
            facts.what_was_run(run, (train, val))]
    subtitle = f"{run.directory.name}: {train_split.dataset}, {train.text}, {val.text}, {len(names) - 1} classes"
    html = template.PAGE.substitute(title=escape(title), subtitle=escape(subtitle), style=template.STYLE,
                                    script=template.SCRIPT, body="\n".join(part for part in body if part))
    path = pathlib.Path(run_dir) / layout.REPORT
    artifacts.write_bytes(path, html.encode())
    return path


def _localized(run: stages.Run, split: datasets.Split, rows: int) -> list[str]:
    """The sections of maps and seeds, or that there are none."""
    learned = commands.learned_without_seeds(run)
    if learned:
        return [markup.section("seeds", "Without seeds", f"This segmenter has learned {learned}: no maps and no seeds "
                               "lie between.")]
    return [_seeds(run, split, rows), score_sections.of_seeds(run, split)]


def _seeds(run: stages.Run, split: datasets.Split, rows: int) -> str:
    """Training images with their maps and seeds."""
    captioned = []
    for index, class_id in pictures.choose(run.directory, split, rows):
        cells = picture_rows.seed_pictures(run.directory, split, index, class_id, SIDE)
        shown = f"maps of {split.class_names[class_id]}" if class_id else "no tags"
        captioned.append((f"{split.image_ids[index]}: {shown}", cells))
    has_maps = any((run.directory / layout.MAPS).glob("*.npz"))
    return markup.section(
        "seeds", "From tags to seeds",
        f"Each row is a training {picture_rows.noun(split.dataset)}, chosen for its tags and not for its success: "
        f"{_of_maps(run)}, and the seeds are what the segmenter learns from; uncertainty (with --uncertainty) is how "
        f"little the maps agree on a seed; {_of_truth(run)}.",
        "" if has_maps else markup.missing("maps"), gallery.legend(), gallery.table(captioned, split.class_names))


def _of_maps(run: stages.Run) -> str:
    """What the pictures of maps show."""
    settings = stage_flags.settings(run, layout.MAPS)
    parts = merging.parts_of(settings)
    if parts:
        return (f"maps of {len(parts)} classifiers are merged by their {settings['merged']['rule']} (yellow: the "
                f"class is here); map 1 is of {next(iter(parts))} alone")
    if settings.get("mode") == "deterministic":
        return "there is one map, of all hidden units (yellow: the class is here)"
    return ("every map is one random selection of hidden units (yellow: the class is here), the mean and maximum are "
            "over all of them, spread is their standard deviation (yellow: 0.5)")


def _of_truth(run: stages.Run) -> str:
    """Who has seen the training images' masks."""
    if any(run.stages[name].settings.get("strong") for name in (layout.CLASSIFIER, layout.SEGMENTER)):
        return "of the ground truth only the masks that were given to learn from have been seen by a stage"
    return "the ground truth is for you alone, no stage has seen it"


def _masks(run: stages.Run, val: used.Used, rows: int) -> str:
    """Held-out images with the segmenter's masks."""
    split = val.split
    captioned = [(split.image_ids[i], picture_rows.mask_pictures(run.directory, split, i, SIDE))
                 for i in ([] if run.outdated else pictures.predicted(run.directory, split, rows))]
    has_masks = any(heading.startswith("segmenter") for _, cells in captioned for heading in cells)
    return markup.section(
        "masks", f"The segmenter on held-out {picture_rows.noun(split.dataset)}s",
        f"Evenly spaced images of the held-out split{_beside(split)}; CRF is the dense conditional random field that "
        "pulls edges to those of the image.",
        "" if has_masks else facts.unpredicted(run, val), gallery.legend(),
        gallery.table(captioned, split.class_names, large=True))


def _beside(split: datasets.Split) -> str:
    if split.has_labels:
        return ": compare the masks with the ground truth to their right"
    return f"; {split.name} has no masks of its own, so that nothing can be scored"


def _scores(run: stages.Run, split: datasets.Split) -> list[str]:
    """The sections of the held-out images' scores; none where there is nothing to score against."""
    if not split.has_labels and not {layout.PREDICTIONS, layout.REFINED_PREDICTIONS} & run.scores.keys():
        return []
    return [score_sections.of_classes(run, split), score_sections.confusion(run, split),
            score_sections.hardest(run, split, SIDE)]


def _curves(run: stages.Run, thing: str) -> str:
    """Losses of every training that left a log; `thing` is what an image is."""
    trainings = []
    for stage in run.stages.values():
        if not stage.log:
            continue
        columns = [key for key in stage.log[-1] if key not in ("step", "learning_rate")][:3]
        first_rate, last_rate = (stage.log[i].get("learning_rate", float("nan")) for i in (0, -1))
        note = (f"{stage.log[-1]['step']:.0f} steps, {markup.duration(stage.seconds)}; learning rate {first_rate:.2g} "
                f"at the start, {last_rate:.2g} at the end" + ("" if stage.run else "; not finished"))
        names = [column.replace("_", " ") for column in columns]
        trainings.append(f'<div><h3>{escape(stage.title)}</h3>{charts.legend(names)}'
                         f'{charts.curves(stage.log, columns, stage.title)}<p class="note">{escape(note)}</p></div>')
    absent = [markup.missing(run.stages[name].title) for name in (layout.CLASSIFIER, layout.SEGMENTER)
              if not run.stages[name].log and not run.stages[name].run]
    return markup.section(
        "curves", "Training",
        "The loss at each step, pale, and its running mean, strong: it should fall and then flatten; the "
        "segmenter's loss is the sum of its parts.", *absent, f'<div class="side">{"".join(trainings)}</div>',
        facts.average_precision(run, f"{thing}s"))
