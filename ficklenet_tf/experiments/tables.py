"""Tables as files: Markdown, CSV and JSON, with mean and deviation over seeds and what they say of the claims."""

import csv
import dataclasses
import io
import math
import pathlib
from typing import Any

from ficklenet_tf.experiments.claims import Claim, Measured, judge
from ficklenet_tf.runs import artifacts, hardware

Row = dict[str, Any]  # heading -> str, number, `Measured` or None (nothing there)


COSTS = {"processor min": 1, "MiB": 0, "seeds: ms per image": 0}  # headings of costs -> digits after the point


@dataclasses.dataclass(frozen=True)
class Table:
    """A table to be written.

    Attributes:
      name: of the files, "table5".
      title: one line.
      rows: of `Row`; its keys are the headings.
      claims: of `Claim`.
      notes: lines below the table: what was measured on what.
      random_seeds: of the values of every `Measured` (of `COSTS` some may be missing), in their order; empty where
        these are not over random seeds.
      made_on: versions, hardware and random seeds of each part; empty: here, all of it.
      settings: what it was made with, see `table_settings.of`; empty: not known.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    claims: tuple[Claim, ...] = ()
    notes: tuple[str, ...] = ()
    random_seeds: tuple[int, ...] = ()
    made_on: tuple[dict[str, Any], ...] = ()
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def headings(self) -> list[str]:
        """Every heading once, in order."""
        return list(dict.fromkeys(key for row in self.rows for key in row))


def write(table: Table, directory: str | pathlib.Path) -> str:
    """Writes `<name>.md`, `.csv` and `.json` to `directory`; returns the Markdown."""
    directory, text = pathlib.Path(directory), markdown(table)
    artifacts.write_bytes(directory / f"{table.name}.md", text.encode())
    artifacts.write_bytes(directory / f"{table.name}.csv", _csv(table).encode())
    claims = [{"claim": judged.claim.text, "verdict": judged.verdict, "difference": _known(judged.claim.difference),
               "interval": judged.claim.interval and list(map(_known, judged.claim.interval)), "p": judged.p_value,
               "pairs": judged.claim.pairs, "spread": judged.claim.spread,
               "greater": _plain(judged.claim.greater), "less": _plain(judged.claim.less)}
              for judged in judge(table.claims)]
    artifacts.write_json(directory / f"{table.name}.json", {
        "title": table.title, "random_seeds": list(table.random_seeds),
        "rows": [{key: _plain(cell) for key, cell in row.items()} for row in table.rows],
        "claims": claims, "notes": list(table.notes), "settings": table.settings, "made_on": table.made_on or [
            {"versions": artifacts.versions(), "hardware": hardware.describe(), "random_seeds": table.random_seeds}]})
    return text


def markdown(table: Table) -> str:
    """Returns the table, its notes and claims as Markdown."""
    lines = [f"# {table.title}", "", "| " + " | ".join(table.headings) + " |", "|" + "---|" * len(table.headings)]
    lines += ["| " + " | ".join(text_of(row.get(key)) for key in table.headings) + " |" for row in table.rows]
    lines += [line for note in (*_repeats(table.random_seeds), *table.notes) for line in ("", note)]
    if table.claims:
        tests = "Pitman's and Morgan's test of paired spreads" if table.claims[0].spread else "paired t tests"
        over = "seeds" if table.random_seeds else "repeats"
        lines += ["", f"Claims, by {tests} over the {over}, p after Holm's correction; fewer than five pairs "
                  "give a direction:", "", *(f"- {judged}" for judged in judge(table.claims))]
    return "\n".join(lines) + "\n"


def _repeats(random_seeds: tuple[int, ...]) -> tuple[str, ...]:
    """Returns the line that says over what the numbers are, if they are over random seeds."""
    if not random_seeds:
        return ()
    named = ", ".join(map(str, random_seeds))
    return (f"One random seed: {named}." if len(random_seeds) == 1 else
            f"Mean ± deviation over {len(random_seeds)} random seeds: {named}.",)


def text_of(cell: Any) -> str:
    """Returns a cell as it is written; a dash where nothing is there."""
    if cell is None:
        return "–"
    return f"{cell:g}" if isinstance(cell, float) else str(cell)


def _known(number: float) -> float | None:
    """Returns what JSON can hold of a number: None in place of NaN."""
    return None if math.isnan(number) else number


def _plain(cell: Any) -> Any:
    """Returns what JSON can hold of a cell."""
    if isinstance(cell, Measured):
        return {"mean": _known(cell.mean), "deviation": _known(cell.deviation),
                "values": [_known(value * cell.unit) for value in cell.values],
                "unit": cell.unit, "digits": cell.digits}
    return cell


def _csv(table: Table) -> str:
    measured_headings = {key for row in table.rows for key, cell in row.items() if isinstance(cell, Measured)}
    columns = [part for key in table.headings for part in (
        [key, f"{key} deviation"] if key in measured_headings else [key])]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, restval="")
    writer.writeheader()
    for row in table.rows:
        flat: Row = {}
        for key, cell in row.items():
            if isinstance(cell, Measured):
                flat |= {key: _known(cell.mean), f"{key} deviation": _known(cell.deviation)}
            else:
                flat[key] = cell
        writer.writerow({key: "" if cell is None else cell for key, cell in flat.items()})
    return buffer.getvalue()
