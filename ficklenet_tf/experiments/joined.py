"""Tables of several nights or machines as one: what each measured with random seeds of its own."""

import pathlib
from collections.abc import Sequence
from typing import Any

from ficklenet_tf.errors import UserError
from ficklenet_tf.experiments.claims import Claim, Measured
from ficklenet_tf.experiments.tables import COSTS, Table, text_of
from ficklenet_tf.runs import artifacts


def read(path: str | pathlib.Path) -> Table:
    """Returns the table in a JSON file that `tables.write` wrote.

    Raises:
      FileNotFoundError: there is no such file.
      UserError: it holds no table.
    """
    path = pathlib.Path(path)
    try:
        content = artifacts.read_json(path)
        return Table(path.stem, content["title"],
                     tuple({key: _cell(cell) for key, cell in row.items()} for row in content["rows"]),
                     tuple(Claim(claim["claim"], _cell(claim["greater"]), _cell(claim["less"]),
                                 claim.get("spread", False)) for claim in content["claims"]),
                     tuple(content["notes"]), tuple(content["random_seeds"]), tuple(content["made_on"]))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: expected a table of tools.reproduce, found {error!r}") from error


def join(parts: Sequence[Table]) -> Table:
    """Joins tables of the same settings and of different random seeds; the claims are judged over all of them.

    A cell that is not measured once per seed (a threshold) keeps the values of all parts where they differ, "a / b" in
    the order of the parts. A cost is the mean of the parts that know it.

    Args:
      parts: one `Table` or more, as `read` returns them.

    Returns:
      A `Table` of the first one's name, its seeds in the order of the parts.

    Raises:
      UserError: a part is over something else than random seeds; two parts have a seed in common, or differ in
        title, rows, claims or notes.
    """
    first, *others = parts
    if not all(part.random_seeds for part in parts):
        raise UserError(f"{first.name}: expected a table over random seeds, found one that is over something else")
    seeds = [seed for part in parts for seed in part.random_seeds]
    if len(set(seeds)) < len(seeds):
        raise UserError(f"{first.name}: expected parts with random seeds of their own, found "
                        f"{' and '.join(str(list(part.random_seeds)) for part in parts)}")
    for what, of in (("title", lambda part: part.title), ("notes", lambda part: part.notes),
                     ("columns", lambda part: part.headings),
                     ("rows", lambda part: [next(iter(row.values())) for row in part.rows]),
                     ("claims", lambda part: [claim.text for claim in part.claims])):
        for part in others:
            if of(part) != of(first):
                raise UserError(f"{first.name}: expected parts of equal {what}, found {of(first)} and {of(part)}")
    rows = tuple({key: _joined([row.get(key) for row in same], key in COSTS) for key in same[0]}
                 for same in zip(*(part.rows for part in parts), strict=True))
    claims = tuple(Claim(same[0].text, _all_values([claim.greater for claim in same]),
                         _all_values([claim.less for claim in same]), same[0].spread)
                   for same in zip(*(part.claims for part in parts), strict=True))
    return Table(first.name, first.title, rows, claims, first.notes, tuple(seeds),
                 tuple(made for part in parts for made in part.made_on))


def _cell(stored: Any) -> Any:
    if not isinstance(stored, dict):
        return stored
    return Measured(tuple(value / stored["unit"] for value in stored["values"]), stored["unit"], stored["digits"])


def _joined(cells: Sequence[Any], cost: bool) -> Any:
    if cost:
        cells = [cell for cell in cells if cell is not None] or [None]
    if all(isinstance(cell, Measured) for cell in cells):
        return _all_values(cells)
    different = list(dict.fromkeys(cells))
    return different[0] if len(different) == 1 else " / ".join(map(text_of, cells))


def _all_values(measured: Sequence[Measured]) -> Measured:
    return Measured(tuple(value for each in measured for value in each.values), measured[0].unit, measured[0].digits)
