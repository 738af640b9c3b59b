"""Tables as files: Markdown, CSV and JSON, with mean and deviation over seeds and what they say of the claims."""

import csv
import dataclasses
import io
import math
import pathlib
from typing import Any

import numpy as np

from ficklenet_tf.runs import artifacts

Row = dict[str, Any]  # heading -> str, number, `Measured` or None (nothing there)


@dataclasses.dataclass(frozen=True)
class Measured:
    """A number measured once per seed.

    Attributes:
      values: one per seed.
      unit: factor by which it is multiplied where it is written: 100 for per cent.
      digits: after the point.
    """

    values: tuple[float, ...]
    unit: float = 100.0
    digits: int = 1

    @property
    def mean(self) -> float:
        """Mean over the seeds, as it is written."""
        return float(np.mean(self.values)) * self.unit

    @property
    def deviation(self) -> float:
        """Sample standard deviation over the seeds, as it is written; NaN for a single one."""
        return float(np.std(self.values, ddof=1)) * self.unit if len(self.values) > 1 else math.nan

    def __str__(self) -> str:
        """Mean ± deviation."""
        text = f"{self.mean:.{self.digits}f}"
        return text if math.isnan(self.deviation) else f"{text} ± {self.deviation:.{self.digits}f}"


@dataclasses.dataclass(frozen=True)
class Claim:
    """Whether one number is greater than another, as the paper says.

    Attributes:
      text: the claim in words.
      greater: `Measured`, said to be the greater one.
      less: `Measured`.
      noise: deviation of the difference, as it is written, where it is known otherwise than from several seeds.
    """

    text: str
    greater: Measured
    less: Measured
    noise: float | None = None

    @property
    def difference(self) -> float:
        """How much greater it is, as it is written."""
        return self.greater.mean - self.less.mean

    @property
    def deviation(self) -> float:
        """Of the difference over the seeds, pair by pair; NaN for a single one."""
        if self.noise is not None:
            return self.noise
        differences = np.subtract(self.greater.values, self.less.values)
        return float(np.std(differences, ddof=1)) * self.greater.unit if len(differences) > 1 else math.nan

    @property
    def verdict(self) -> str:
        """One of "agrees", "disagrees", "undecided": the difference is within its deviation, or that is not known."""
        if math.isnan(self.deviation) or abs(self.difference) <= self.deviation:
            return "undecided"
        return "agrees" if self.difference > 0 else "disagrees"

    def __str__(self) -> str:
        """The verdict, the claim and the difference."""
        spread = "" if math.isnan(self.deviation) else f" ± {self.deviation:.{self.greater.digits}f}"
        return f"**{self.verdict}**: {self.text} (difference {self.difference:+.{self.greater.digits}f}{spread})"


@dataclasses.dataclass(frozen=True)
class Table:
    """A table to be written.

    Attributes:
      name: of the files, "table5".
      title: one line.
      rows: of `Row`; its keys are the headings.
      claims: of `Claim`.
      notes: lines below the table: what was measured on what.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    claims: tuple[Claim, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def headings(self) -> list[str]:
        """Every heading once, in order."""
        return list(dict.fromkeys(key for row in self.rows for key in row))


def write(table: Table, directory: str | pathlib.Path) -> str:
    """Writes `<name>.md`, `.csv` and `.json` to `directory`; returns the Markdown."""
    directory, text = pathlib.Path(directory), markdown(table)
    artifacts.write_bytes(directory / f"{table.name}.md", text.encode())
    artifacts.write_bytes(directory / f"{table.name}.csv", _csv(table).encode())
    claims = [{"claim": claim.text, "verdict": claim.verdict, "difference": claim.difference,
               "deviation": _known(claim.deviation)} for claim in table.claims]
    artifacts.write_json(directory / f"{table.name}.json", {
        "title": table.title,
        "rows": [{key: _plain(cell) for key, cell in row.items()} for row in table.rows],
        "claims": claims, "notes": list(table.notes), "versions": artifacts.versions()})
    return text


def markdown(table: Table) -> str:
    """Returns the table, its notes and claims as Markdown."""
    lines = [f"# {table.title}", "", "| " + " | ".join(table.headings) + " |", "|" + "---|" * len(table.headings)]
    lines += ["| " + " | ".join(_text(row.get(key)) for key in table.headings) + " |" for row in table.rows]
    lines += [line for note in table.notes for line in ("", note)]
    lines += ["", "Claims, judged by the numbers above:", "", *(f"- {claim}" for claim in table.claims)] \
        if table.claims else []
    return "\n".join(lines) + "\n"


def _text(cell: Any) -> str:
    if cell is None:
        return "–"
    return f"{cell:g}" if isinstance(cell, float) else str(cell)


def _known(number: float) -> float | None:
    """Returns what JSON can hold of a deviation: None in place of NaN."""
    return None if math.isnan(number) else number


def _plain(cell: Any) -> Any:
    """Returns what JSON can hold of a cell."""
    if isinstance(cell, Measured):
        return {"mean": cell.mean, "deviation": _known(cell.deviation), "values": [v * cell.unit for v in cell.values]}
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
                flat |= {key: cell.mean, f"{key} deviation": _known(cell.deviation)}
            else:
                flat[key] = cell
        writer.writerow({key: "" if cell is None else cell for key, cell in flat.items()})
    return buffer.getvalue()
