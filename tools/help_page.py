"""What --help prints: what a command does, then its flags in groups: value, meaning, limits."""

import dataclasses
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from absl import flags

from ficklenet_tf import presets, setting

FLAGS = flags.FLAGS
ASKED = ("--help", "-help", "-h", "--helpshort", "-helpshort", "--helpfull", "-helpfull")
# Of those that a command has, the first ten stand first.
_FIRST = ("dataset", "data_dir", "preset", "weights", "output_dir", "table", "figure", "study", "version", "name",
          "seeds", "seeds.refine", "refine", "saliency_model", "supervision", "segmenter", "crf", "to", "classifier",
          "num_maps", "rate", "steps", "max_images", "restart")
_WIDEST, _LEFT = 110, 34  # columns of the page, of a flag and its value


@dataclasses.dataclass
class Groups:
    """Which heading a flag stands under, and which setting of a preset it is.

    Attributes:
      titles: a flag's name -> the heading; others are the command's own.
      settings: a flag's name -> (stage, field), where it overrides a preset.
    """

    titles: dict[str, str] = dataclasses.field(default_factory=dict)
    settings: dict[str, tuple[str, str]] = dataclasses.field(default_factory=dict)


def asked(arguments: Sequence[str]) -> bool:
    """Whether a command line asks for help."""
    before = arguments[:arguments.index("--")] if "--" in arguments else arguments
    return any(argument in ASKED for argument in before)


def show(doc: str, defined: Sequence[flags.Flag[Any]], groups: Groups, arguments: Sequence[str]) -> None:
    """Prints the page.

    Args:
      doc: the command's docstring.
      defined: its flags.
      groups: `Groups`.
      arguments: the command line, of which --preset counts.
    """
    try:
        FLAGS([sys.argv[0], *(word for word in arguments if word not in ASKED)])
    except flags.Error:
        pass  # what is missing or wrong beside --preset does not matter here
    width = min(_WIDEST, shutil.get_terminal_size((_WIDEST, 24)).columns)
    try:
        print("\n".join([doc.strip(), "", *_lines(defined, groups, width)]))
    except BrokenPipeError:  # of "| head"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _lines(defined: Sequence[flags.Flag[Any]], groups: Groups, width: int) -> Iterator[str]:
    by_name = {flag.name: flag for flag in defined}
    first = [name for name in _FIRST if name in by_name][:10]
    sections = {"The flags that matter first": first}
    for name in sorted(by_name):
        if name not in first and name not in groups.titles:
            sections.setdefault("More of this command", []).append(name)
    for name, title in groups.titles.items():
        if name in by_name and name not in first:
            sections.setdefault(title, []).append(name)
    if groups.settings and "preset" in by_name:
        yield (f"Numbers shown are those of --preset={FLAGS['preset'].value}; another --preset beside --help "
               "shows its own.")
        yield ""
    for title, names in sections.items():
        yield f"{title}:"
        for name in names:
            yield from _flag(by_name[name], groups.settings.get(name), width)
        yield ""
    yield "All of them can stand in a file, one a line: --flagfile=FILE."


def _flag(flag: flags.Flag[Any], setting: tuple[str, str] | None, width: int) -> Iterator[str]:
    shown, text = (flag.value, _meaning(flag)) if setting is None else _of_preset(*setting)
    left = f"  --{flag.name}={_text(shown)}"
    right = textwrap.wrap(text, width - _LEFT, break_long_words=False, break_on_hyphens=False)
    if len(left) > _LEFT - 2:
        yield left
        left = ""
    for line in right:
        yield f"{left:{_LEFT}}{line}"
        left = ""


def _text(value: Any) -> str:
    if value is None or value == "" or value == []:
        return "..."
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else f"{value}"


def _meaning(flag: flags.Flag[Any]) -> str:
    words = getattr(flag.parser, "enum_values", None)
    bounds = [getattr(flag.parser, name, None) for name in ("lower_bound", "upper_bound")]
    legal = _choice(words) if words else "" if bounds[0] is None else (
        f"From {bounds[0]}" if bounds[1] is None else f"{bounds[0]} to {bounds[1]}")
    return _sentences(re.sub(r"^<.*?>: ", "", flag.help or ""), legal)


def _of_preset(stage: str, field_name: str) -> tuple[Any, str]:
    config = getattr(presets.PRESETS[str(FLAGS["preset"].value)], stage)
    field = next(field for field in dataclasses.fields(config) if field.name == field_name)
    known, value = setting.setting_of(field), getattr(config, field_name)
    source = f"{known.source}: {_text(field.default)}" if known.source else ""
    if source and value == field.default:
        source = f"As in {known.source}"
    legal = known.legal().capitalize() if known.limits else _choice(known.words, known.several)
    return value, _sentences(known.meaning, legal, source)


def _choice(words: Sequence[str], several: bool = False) -> str:
    return f"{'Some' if several else 'One'} of {', '.join(words)}" if words else ""


def _sentences(*parts: str) -> str:
    return " ".join(f"{part.rstrip('.')}." for part in parts if part)


def settings_text(stage: str, field: dataclasses.Field[Any]) -> str:
    """Returns a preset's flag's help text, as absl keeps it."""
    return f"{setting.setting_of(field).meaning} Overrides the preset's {stage}.{field.name}."
