"""Looks at your photographs before the long work, and says on one page what to put right and what to think about.

    python -m tools.check_data --dataset=folder --data_dir=mine

Ends with exit code 0 where training can begin, with 1 where it cannot. Reads every photograph and label image once;
changes nothing. With photographs in a folder for each class, --write_tags writes mine/tags.csv as the folders say it,
and ends: then further tags of a photograph can be added by hand (dog;person).
"""

import pathlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from absl import flags

from tools import cli, define

if TYPE_CHECKING:
    from ficklenet_tf.data import inspection

define.source("folder")
flags.DEFINE_integer("names", 5, "How many photographs are named for each finding.", lower_bound=1)
flags.DEFINE_boolean("write_tags", False, "Write tags.csv as the folders of the classes say it, and end.")

_TAGS = 30  # lines of the table of tags at most
# Fields of `inspection.Findings` that stop a training: what they are, and what to do.
_STOPS = (
    ("missing", "photographs that are listed and not there", "put them there, or take their lines out"),
    ("unreadable", "photographs that cannot be read", "save them anew as JPEG, or take them out"),
    ("bad_ids", "photographs whose names are not fit for the names of files made of them",
     "rename them: 1 to 200 bytes without the ending, no control characters, no point at the beginning"),
    ("bad_annotations", "photographs whose annotation cannot be read", "correct the XML file, or take the photograph "
     "out of the lists"),
    ("untagged", "photographs to train on without a tag", "give each at least one, or name them in splits/val.txt"),
    ("unknown_tags", "photographs with tags that are no class", "correct the tag, or add it to classes.txt"),
    ("repeated", "names that occur twice", "a name without its ending may occur once: all tags of a photograph "
     "go on one line (dog;person); other photographs are renamed"),
    ("unheard", "split lists with photographs that nothing lists", "correct the names, or take them out"),
    ("bad_masks", "photographs whose label image cannot be read", "a label image is a PNG of class ids"),
    ("mask_sizes", "photographs whose label image has another size (photograph, label image)",
     "both must be the same"),
    ("mask_ids", "photographs whose label image has ids that are no class",
     "line 1 of classes.txt is id 1, 0 is the background, 255 is for what nobody knows"))
# Fields that do not.
_ADVICE = (
    ("alike_tags", "tags that look like one", "if they are one, write them in one way: each is a class now"),
    ("joined_tags", "tags that look like several", "tags are separated by ; in tags.csv"),
    ("few", "tags on fewer than {FEW} photographs to train on", "the classifier may learn them by heart, and not the "
     "thing: add some, or leave the tag out"),
    ("everywhere", "tags on every photograph to train on", "nothing shows what the thing is not: add others"),
    ("same", "photographs that are there several times", "keep one of each, with all its tags"),
    ("alike", "photographs that look alike", "look at them: of copies keep one; of a series a few"),
    ("small", "photographs with a side below {SMALL_SIDE} pixels",
     "enlarged to the network's size they show no shapes: leave them out, or find larger ones"),
    ("large", "photographs with a side above {LARGE_SIDE} pixels", "masks are made at full size, which takes time and "
     "memory, and the dense CRF is made for some 500 pixels: tools.make_copies writes copies of that size"),
    ("unlisted", "files and folders that are not used", "list them in tags.csv, or put them where the others lie "
     "(bird/a.jpg, not bird/x/a.jpg); or leave them there"),
    ("not_shown", "photographs with tags that their label image lacks", "if the thing is there, draw it with "
     "the id of its line in classes.txt (255 is for what nobody knows); else the tag is wrong"),
    ("not_tagged", "photographs with classes in the label image that their tags lack", "add the tag: a missing one "
     "teaches the classifier that the thing is not there"))


def main() -> None:
    """Prints the page; exits with 1 where training cannot begin."""
    if cli.FLAGS.write_tags:
        _write_tags()
        return
    from ficklenet_tf.data import inspection  # here: TensorFlow takes seconds, and --help needs none

    findings = inspection.inspect(cli.FLAGS.dataset, cli.FLAGS.data_dir)
    print("\n".join(page(findings, cli.FLAGS.names)))
    if findings.stops:
        sys.exit(1)


def _write_tags() -> None:
    from ficklenet_tf.data.datasets import class_folders
    from ficklenet_tf.errors import UserError

    if cli.FLAGS.dataset != "folder" or not cli.FLAGS.data_dir:
        raise UserError("write_tags: expected --dataset=folder and the directory of your photographs as --data_dir")
    cli.done("the folders' tags", class_folders.write_table(pathlib.Path(cli.FLAGS.data_dir)))


def page(findings: "inspection.Findings", num_names: int) -> Iterator[str]:
    """Yields the lines of the page.

    Args:
      findings: of `inspection.inspect`.
      num_names: how many photographs are named for each finding.
    """
    from ficklenet_tf.data import inspection

    masks = f", {findings.num_masks} with a label image" if findings.num_masks else ""
    yield f"{findings.root}: {findings.num_images} photographs{masks}"
    yield f"{findings.num_train} to train on, {findings.num_held_out} held out"
    yield ""
    yield from _tag_table(findings)
    if findings.stops:
        yield from ("", "TO PUT RIGHT FIRST")
    for split, count in (("to train on", findings.num_train), ("held out", findings.num_held_out)):
        if not count:
            yield from _finding(f"no photograph {split}", [], "add photographs, or lists in splits/", num_names)
    for field, what, advice in _STOPS:
        yield from _finding(what, _texts(findings, field), advice, num_names)
    advice_lines = [*_leaks(findings, num_names)]
    for field, what, advice in _ADVICE:
        advice_lines += _finding(what.format(**vars(inspection)), _texts(findings, field),
                                 advice.format(**vars(inspection)), num_names)
    if advice_lines:
        yield from ("", "TO THINK ABOUT", *advice_lines)
    yield ""
    skip = "; --on_error=skip leaves out what is broken" if findings.num_train and findings.num_held_out else ""
    yield f"Training cannot begin before that is put right{skip}." if findings.stops else "Training can begin."


def _tag_table(findings: "inspection.Findings") -> Iterator[str]:
    """Yields a line for each tag, the most frequent first; of many tags the middle ones are left out."""
    tags = sorted(findings.tags.items(), key=lambda item: (-item[1].train, item[0]))
    width = max(len("tag"), *(len(tag) for tag, _ in tags))
    yield f"{'tag':{width}}  to train on  held out"
    for number, (tag, count) in enumerate(tags):
        left_out = len(tags) - _TAGS
        if left_out <= 0 or not _TAGS // 2 <= number < _TAGS // 2 + left_out:
            yield f"{tag:{width}}  {count.train:11}  {count.held_out:8}"
        elif number == _TAGS // 2:
            yield f"... {left_out} more"
    most, least = tags[0], tags[-1]
    if most[1].train >= 10 * max(least[1].train, 1):
        yield f"Unequal: {most[0]} has {most[1].train} photographs to train on, {least[0]} {least[1].train}."


def _leaks(findings: "inspection.Findings", num_names: int) -> Iterator[str]:
    """Yields the lines on photographs that are learned and held out: what makes a score too good."""
    pairs = [" = ".join(group.leak) for group in findings.same if group.leak]
    pairs += [" ~ ".join(group.leak) for group in findings.alike if group.leak]
    yield from _finding("photographs to train on that are held out too (=), or look like one that is (~)", pairs,
                        "the scores are too good by them: keep all alike on one side, by splits/val.txt, or drop some",
                        num_names)


def _finding(what: str, names: list[str], advice: str, num_names: int) -> Iterator[str]:
    """Yields a finding's lines: how many, the first names, what to do; nothing where there are none."""
    if not names and not what.startswith("no "):
        return
    yield f"  {what}{f': {len(names)}' if names else ''}"
    yield from (f"      {name if name.isprintable() else repr(name)[1:-1]}" for name in names[:num_names])
    if len(names) > num_names:
        yield f"      and {len(names) - num_names} more"
    yield f"    -> {advice}"


def _texts(findings: "inspection.Findings", field: str) -> list[str]:
    """Returns a field of `findings` as one text for each fact."""
    facts, joint = getattr(findings, field), " x " if field in ("small", "large", "mask_sizes") else ", "
    if isinstance(facts, dict):
        return [f"{name}: {_text(fact, joint)}" for name, fact in facts.items()]
    return [_text(fact, joint) for fact in facts]


def _text(fact: Any, joint: str) -> str:
    """Returns one fact as text; `joint` stands between numbers."""
    if hasattr(fact, "names"):
        more = f" and {len(fact.names) - 4} more" if len(fact.names) > 4 else ""
        return ", ".join(fact.names[:4]) + more + (" (their tags differ)" if fact.tags_differ else "")
    if isinstance(fact, tuple):
        return (joint if isinstance(fact[0], int) else ", ").join(_text(part, joint) for part in fact)
    return str(fact)


if __name__ == "__main__":
    cli.start(main)
