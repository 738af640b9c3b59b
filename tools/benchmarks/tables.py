"""What a section returns, and the forms in which it is kept: Markdown, JSON, plots."""

import dataclasses
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import artifacts

Cell = str | int | float | None  # None: not measured

@dataclasses.dataclass(frozen=True)
class Goal:
    """A ratio that was aimed at: `what` over `against`, at most or at least `limit`."""

    what: str
    against: str
    limit: float
    ratio: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether it was reached."""
        return self.ratio >= self.limit if self.at_least else self.ratio <= self.limit


@dataclasses.dataclass(frozen=True)
class Plot:
    """How a table is drawn: the columns `y` over the column `x`, one line for each value of the column `by`."""

    x: str
    y: tuple[str, ...]
    by: str | None = None
    log: bool = True


@dataclasses.dataclass(frozen=True)
class Table:
    """One table of a section.

    Attributes:
      title: one line.
      columns: names, with units.
      rows: lists of `Cell`, in the order of columns.
      note: what was compared and how, one paragraph.
      goals: of `Goal`, judged by this table.
      plot: how to draw it, or None.
    """

    title: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]
    note: str = ""
    goals: tuple[Goal, ...] = ()
    plot: Plot | None = None

    def __post_init__(self) -> None:
        """Checks the rows' lengths."""
        for row in self.rows:
            if len(row) != len(self.columns):
                raise UserError(f"{self.title}: expected {len(self.columns)} values per row, found {row}")

    def markdown(self) -> str:
        """Returns title, note and table."""
        parts = [f"**{self.title}**", *([self.note] if self.note else []), grid(self.columns, self.rows)]
        return "\n\n".join(parts)


def grid(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Returns a Markdown table; numbers with three digits."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join(lines + ["| " + " | ".join(map(shown, row)) + " |" for row in rows])


def shown(value: Cell) -> str:
    """Returns a cell's text: three significant digits, whole numbers in full."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def goals_table(goals: Iterable[dict[str, Any]]) -> Table:
    """Returns the table of all goals.

    Args:
      goals: dicts of `Goal`'s fields and "met", as JSON holds them.
    """
    rows = [[goal["what"], goal["against"], f"{'at least' if goal['at_least'] else 'at most'} {goal['limit']:g}",
             float(goal["ratio"]), "met" if goal["met"] else "not met"] for goal in goals]
    return Table("Goals, as ratios in one run", ("what", "against", "goal", "measured", ""), rows)


def as_json(table: Table) -> dict[str, Any]:
    """Returns a table as JSON can hold it."""
    goals = [{**dataclasses.asdict(goal), "ratio": float(goal.ratio), "met": bool(goal.met)} for goal in table.goals]
    return artifacts.as_json({**dataclasses.asdict(table), "goals": goals})


def draw(table: Table, path: str | pathlib.Path) -> None:
    """Draws a table that has a `plot` as PNG.

    Raises:
      UserError: matplotlib is missing (requirements-test.txt has it).
    """
    try:
        import matplotlib
    except ImportError as error:
        raise UserError("plots: expected matplotlib, found none; install requirements-test.txt") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot
    plot, columns = plot_of(table), list(table.columns)
    figure, axes = pyplot.subplots(1, len(plot.y), figsize=(5 * len(plot.y), 3.6), squeeze=False)
    for axis, name in zip(axes[0], plot.y, strict=True):
        variants = list(dict.fromkeys(row[columns.index(plot.by)] if plot.by else "" for row in table.rows))
        for variant in variants:
            rows = [row for row in table.rows if not plot.by or row[columns.index(plot.by)] == variant]
            points = [(row[columns.index(plot.x)], row[columns.index(name)]) for row in rows]
            axis.plot(*zip(*[point for point in points if None not in point], strict=True), "o-", label=variant)
        if plot.log:
            axis.set_xscale("log")
            axis.set_yscale("log")
        axis.set(xlabel=plot.x, ylabel=name)
        axis.grid(alpha=0.3, which="both")
        if plot.by:
            axis.legend(fontsize=8)
    figure.suptitle(table.title, fontsize=9)
    figure.tight_layout()
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def plot_of(table: Table) -> Plot:
    """Returns a table's plot.

    Raises:
      ValueError: it has none.
    """
    if table.plot is None:
        raise ValueError(f"{table.title}: expected a table with a plot, found one without")
    return table.plot


def marked(text: str, section: str) -> re.Match[str]:
    """Returns the match of a section's place in a document, between <!-- benchmark:X --> and <!-- /benchmark:X -->.

    Raises:
      UserError: there is no such place.
    """
    start, end = f"<!-- benchmark:{section} -->", f"<!-- /benchmark:{section} -->"
    place = re.search(f"(?<={re.escape(start)}).*?(?={re.escape(end)})", text, re.DOTALL)
    if place is None:
        raise UserError(f"expected the lines {start} and {end} in the document to update, found none")
    return place


def update(path: str | pathlib.Path, sections: Mapping[str, str]) -> None:
    """Puts each section's Markdown between its two marks in a document, whole or not at all.

    Args:
      path: the document.
      sections: {section: Markdown}.
    """
    path = pathlib.Path(path)
    text = path.read_text()
    for section, content in sections.items():
        place = marked(text, section)
        text = f"{text[:place.start()]}\n{content}\n{text[place.end():]}"
    artifacts.write_bytes(path, text.encode())
