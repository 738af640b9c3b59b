"""The page of several systems on the same photographs: which to take, their numbers, seeds and masks side by side."""

import dataclasses
import pathlib
from collections.abc import Sequence
from html import escape

from ficklenet_tf.data import datasets
from ficklenet_tf.evaluation import agreement
from ficklenet_tf.report import gallery, markup, picture_rows, pictures, template
from ficklenet_tf.runs import artifacts

NAME = "comparison.html"
_SIDE = 240  # pixels, longer side of a picture
_MOST_NAMED = 6


@dataclasses.dataclass(frozen=True)
class Entry:
    """One system of the page.

    Attributes:
      key: its name.
      title: what it is.
      supervision: what it learns from, in a word or two.
      predictions: directory below the run's of its held-out masks.
      seeds: directory of its seeds, None where it learns from tags without any.
      maps: directory of the maps of its seeds, or None likewise.
      command: that makes it alone.
      seconds: of all its trainings; None: not known, see `costs.measured`.
      seed_milliseconds: of its maps and seeds, per image; None likewise.
      miou: of its masks, 0..1, None where there are none to score against.
    """

    key: str
    title: str
    supervision: str
    predictions: str
    seeds: str | None
    maps: str | None
    command: str
    seconds: float | None = None
    seed_milliseconds: float | None = None
    miou: float | None = None


def write_page(run_dir: str | pathlib.Path, entries: Sequence[Entry], verdict: agreement.Verdict, *,
               train_split: datasets.Split, val_split: datasets.Split, title: str, crf: str,
               rows: int = 8) -> pathlib.Path:
    """Writes `<run_dir>/comparison.html`: one page that holds everything it shows.

    Args:
      run_dir: the run's directory.
      entries: the systems, in the verdict's order of names.
      verdict: `agreement.Verdict` of their held-out masks.
      train_split: `datasets.Split` of the seeds.
      val_split: `datasets.Split` of the masks.
      title: of the page.
      crf: name of the dense CRF that the masks are refined by, see `crf.SPECS`.
      rows: how many images from each of the two splits.

    Returns:
      The path of comparison.html.
    """
    run_dir = pathlib.Path(run_dir)
    by_key = {entry.key: entry for entry in entries}
    ordered = [by_key[key] for key in verdict.order]
    nouns = f"{picture_rows.noun(val_split.dataset)}s"
    body = [_headline(verdict, ordered, nouns), _table(verdict, ordered, nouns),
            _masks(run_dir, ordered, val_split, rows, crf), _seeds(run_dir, ordered, train_split, rows),
            _commands(ordered)]
    subtitle = (f"{run_dir.name}: {train_split.dataset}, {len(train_split)} {nouns} of {train_split.name} to learn "
                f"from, {len(val_split)} of {val_split.name} held out, {len(train_split.class_names) - 1} classes")
    html = template.PAGE.substitute(title=escape(title), subtitle=escape(subtitle), style=template.STYLE,
                                    script=template.SCRIPT, body="\n".join(body))
    artifacts.write_bytes(run_dir / NAME, html.encode())
    return run_dir / NAME


def recommendation(verdict: agreement.Verdict, noun: str = "photograph") -> str:
    """Says in a sentence which system to take, and how sure that is; `noun` is what an image is."""
    leading, count = verdict.leading, f"{verdict.photographs} held-out {noun}s"
    if verdict.voters < agreement.FEWEST:
        return (f"Undecided between {_listed(leading)}: two systems, or systems of one or two maps, are measured by "
                "each other alone; name a third with --systems.")
    if verdict.photographs < agreement.FEWEST_PHOTOGRAPHS:
        return (f"Undecided between {_listed(leading)}: {count} are too few to tell; hold out "
                f"{agreement.FEWEST_PHOTOGRAPHS} or more.")
    if len(leading) > 1:
        return (f"Undecided between {_listed(leading)}: on {count} they agree with the other systems equally well, as "
                "far as so few can tell; take the one that is quickest to make, or whose masks you like best.")
    second = verdict.order[1]
    less, low, high = (markup.percent(value) for value in verdict.behind[verdict.names.index(second)])
    return (f"Take {leading[0]}, as far as agreement tells: on {count} its masks agree best with what the other "
            f"systems say, {markup.percent(max(verdict.agreement))} %; {second}, the next, is {less} behind (interval "
            f"{low} to {high}, 95 % for all pairs together).")


def _listed(names: Sequence[str]) -> str:
    shown = [*names[:_MOST_NAMED], *([f"{len(names) - _MOST_NAMED} more"] if len(names) > _MOST_NAMED else [])]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def rank_correlation(entries: Sequence[Entry], verdict: agreement.Verdict) -> float | None:
    """Returns how alike agreement and mIoU order the systems, -1..1; None where not all have a mIoU, or two only."""
    mious = {entry.key: entry.miou for entry in entries}
    known = [miou for miou in (mious[name] for name in verdict.names) if miou is not None]
    return agreement.rank_correlation(verdict.agreement, known) if len(known) == len(verdict.names) else None


def _headline(verdict: agreement.Verdict, entries: Sequence[Entry], nouns: str) -> str:
    parts = [f"<p><strong>{escape(recommendation(verdict, nouns.removesuffix('s')))}</strong></p>"]
    correlation = rank_correlation(entries, verdict)
    if correlation is not None:
        parts.append(markup.note(
            f"Here masks are at hand, which the recommendation does not see: they order the systems with a rank "
            f"correlation of {correlation:.2f} with the agreement (1: alike, 0: nothing in common)."))
    return markup.section(
        "headline", "Which to take",
        f"Without masks nobody can say how good a system is. What is measured is how well its masks of the held-out "
        f"{nouns} agree with the vote of the others, of which only those classes count that a {nouns[:-1]} is tagged "
        "with: the mIoU of the two. It is a hint: what most systems get wrong it takes for right, which no interval "
        "covers; look at the masks below.",
        *parts)


def _table(verdict: agreement.Verdict, entries: Sequence[Entry], nouns: str) -> str:
    scored = any(entry.miou is not None for entry in entries)
    heads = ["system", "what it is", "learns from", "agreement %", "95 %", "behind the best", "95 %",
             *(["mIoU %"] if scored else []), "training", f"seeds, ms per {nouns[:-1]}"]
    rows = []
    for entry in entries:
        place = verdict.names.index(entry.key)
        less, low, high = verdict.behind[place]
        behind = ["–", "–"] if entry is entries[0] else [markup.percent(less), _between(low, high)]
        time = "–" if entry.seed_milliseconds is None else f"{entry.seed_milliseconds:.0f}"
        rows.append([entry.key, entry.title, entry.supervision, markup.percent(verdict.agreement[place]),
                     _between(*verdict.intervals[place]), *behind,
                     *([markup.percent(entry.miou)] if scored else []), markup.duration(entry.seconds), time])
    return markup.section(
        "systems", "The systems",
        f"The intervals are over the held-out {nouns}, drawn again and again; another training of the same system "
        "would differ, too. Training is classifier, maps, seeds and segmenter; what systems share counts for each, "
        "what frozen layers give of all photographs for what needed it first: the run's first classifier, and with it "
        "systems without seeds, or the first system's segmenter; a dash says that a stage was resumed, whose time "
        "nobody knows, or that there are no seeds, or classifiers are trained on the way to them.",
        markup.table(heads, rows, wrap={1}), *(_kin(entries) if verdict.voters > 1 else []))


def _kin(entries: Sequence[Entry]) -> list[str]:
    """Returns a note for each group of systems that do not vote on each other."""
    groups: dict[str, list[str]] = {}
    for entry in entries:
        if entry.maps is not None:
            groups.setdefault(entry.maps, []).append(entry.key)
    return [markup.note(f"The seeds of {_listed(keys)} are made of the same maps: they do not vote on each other.")
            for keys in groups.values() if len(keys) > 1]


def _between(low: float, high: float) -> str:
    return f"{markup.percent(low)} to {markup.percent(high)}"


def _masks(run_dir: pathlib.Path, entries: Sequence[Entry], split: datasets.Split, rows: int, crf: str) -> str:
    nouns = f"{picture_rows.noun(split.dataset)}s"
    return markup.section(
        "masks", "Masks side by side",
        f"Evenly spaced {nouns} of {split.name}, from which no system has learned, the best system first; masks are "
        f"made with --crf={crf}.", gallery.legend(),
        _gallery(run_dir, [(entry.key, entry.predictions) for entry in entries], split, rows))


def _seeds(run_dir: pathlib.Path, entries: Sequence[Entry], split: datasets.Split, rows: int) -> str:
    directories = [(entry.key, entry.seeds) for entry in entries if entry.seeds is not None]
    seedless = [entry.key for entry in entries if entry.seeds is None]
    note = markup.note(f"Without seeds: {', '.join(seedless)}.") if seedless else ""
    shown = _gallery(run_dir, directories, split, rows) if directories else ""
    return markup.section(
        "seeds", "Seeds side by side",
        f"Evenly spaced {picture_rows.noun(split.dataset)}s of {split.name}: what each system's segmenter learns.",
        note, shown)


def _gallery(run_dir: pathlib.Path, directories: Sequence[tuple[str, str]], split: datasets.Split, rows: int) -> str:
    shown = [(split.image_ids[i], picture_rows.mask_pictures(run_dir, split, i, _SIDE, directories))
             for i in pictures.evenly(range(len(split)), rows)]
    return gallery.table(shown, split.class_names)


def _commands(entries: Sequence[Entry]) -> str:
    return markup.section(
        "commands", "One system alone",
        "Each of these makes a whole run of one system, with a served model; there its segmenter starts from its own "
        "classifier, here all start from the same one.",
        *(f"<h3>{escape(entry.key)}</h3>{markup.command(entry.command)}" for entry in entries))
