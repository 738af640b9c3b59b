"""Tables of several nights or machines as one: what each measured with random seeds, or of systems, of its own."""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from ficklenet_tf.errors import UserError
from ficklenet_tf.experiments import row_claims
from ficklenet_tf.experiments.claims import Claim, Measured
from ficklenet_tf.experiments.systems import SYSTEMS
from ficklenet_tf.experiments.tables import COSTS, Row, Table, text_of
from ficklenet_tf.runs import artifacts, progress, stage


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
                     tuple(content["notes"]), tuple(content["random_seeds"]), tuple(content["made_on"]),
                     content.get("settings", {}))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: expected a table of tools.reproduce, found {error!r}") from error


def join(parts: Sequence[Table]) -> Table:
    """Joins tables of the same settings; the claims are judged over all of them.

    Parts of the same random seeds are tables of different systems: their rows stand in the order of
    `systems.SYSTEMS`, and the claims are those between all of them. Then parts of different random seeds are joined.
    A cell that is not measured once per seed (a threshold) keeps the values of all parts where they differ, "a / b" in
    the order of the parts. A cost is the mean of the parts that know it.

    Args:
      parts: one `Table` or more, as `read` returns them.

    Returns:
      A `Table` of the first one's name, its seeds in the order of the parts.

    Raises:
      UserError: a part is over something else than random seeds; two parts have some seeds in common and not all, or
        all and a system too; they differ in title, notes or settings; those of different seeds in rows or claims.
    """
    first = parts[0]
    if not all(part.random_seeds for part in parts):
        raise UserError(f"{first.name}: expected a table over random seeds, found one that is over something else")
    for what, of in (("title", lambda part: part.title), ("notes", lambda part: part.notes),
                     ("columns", lambda part: part.headings)):
        _check_equal(parts, what, of)
    settings = _common_settings(parts)
    by_seeds: dict[tuple[int, ...], list[Table]] = {}
    for part in parts:
        by_seeds.setdefault(part.random_seeds, []).append(part)
    joined = _of_more_seeds([_of_more_systems(same) for same in by_seeds.values()])
    return dataclasses.replace(joined, settings=settings)


def _common_settings(parts: Sequence[Table]) -> dict[str, Any]:
    """Returns the settings of the parts; says which of them have none, and raises UserError where they differ."""
    known = [part for part in parts if part.settings]
    if known and len(known) < len(parts):
        progress.say(f"{parts[0].name}: {len(parts) - len(known)} of {len(parts)} parts do not say by which settings "
                     "they were made: see to it that these are the same")
    for part in known:
        different = ", ".join(stage.differences(known[0].settings, part.settings))
        if different:
            raise UserError(f"{part.name}: expected parts of equal settings, found {different}")
    return known[0].settings if known else {}


def _of_more_systems(parts: Sequence[Table]) -> Table:
    """Joins tables of the same random seeds and of different systems."""
    first = parts[0]
    if len(parts) == 1:
        return dataclasses.replace(first, rows=_ordered(first.rows))
    rows: dict[str, Row] = {}
    if not all("system" in row for part in parts for row in part.rows):
        _refuse_seeds(parts)
    for row in (row for part in parts for row in part.rows):
        if rows.setdefault(row["system"], row) != row:
            raise UserError(f"{first.name}: expected parts of the same random seeds to have systems of their own, "
                            f"found {row['system']} in two, measured differently")
    return dataclasses.replace(first, rows=_ordered(rows.values()), claims=row_claims.of_systems(rows.values()),
                               made_on=tuple(made for part in parts for made in part.made_on))


def _ordered(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Returns the rows of systems in the order of `SYSTEMS`, others behind them as they are."""
    order = {system.title: number for number, system in enumerate(SYSTEMS.values())}
    return tuple(sorted(rows, key=lambda row: order.get(row.get("system", ""), len(order))))


def _of_more_seeds(parts: Sequence[Table]) -> Table:
    """Joins tables of the same rows and of different random seeds."""
    first, seeds = parts[0], [seed for part in parts for seed in part.random_seeds]
    if len(set(seeds)) < len(seeds):
        _refuse_seeds(parts)
    _check_equal(parts, "rows", lambda part: [next(iter(row.values())) for row in part.rows])
    _check_equal(parts, "claims", lambda part: [claim.text for claim in part.claims])
    rows = tuple({key: _joined([row.get(key) for row in same], key in COSTS) for key in same[0]}
                 for same in zip(*(part.rows for part in parts), strict=True))
    claims = tuple(Claim(same[0].text, _all_values([claim.greater for claim in same]),
                         _all_values([claim.less for claim in same]), same[0].spread)
                   for same in zip(*(part.claims for part in parts), strict=True))
    return dataclasses.replace(first, rows=rows, claims=claims, random_seeds=tuple(seeds),
                               made_on=tuple(made for part in parts for made in part.made_on))


def _refuse_seeds(parts: Sequence[Table]) -> NoReturn:
    raise UserError(f"{parts[0].name}: expected parts with random seeds of their own, found "
                    f"{' and '.join(str(list(part.random_seeds)) for part in parts)}")


def _check_equal(parts: Sequence[Table], what: str, of: Callable[[Table], Any]) -> None:
    for part in parts:
        if of(part) != of(parts[0]):
            raise UserError(f"{part.name}: expected parts of equal {what}, found {of(parts[0])} and {of(part)}")


def _cell(stored: Any) -> Any:
    if not isinstance(stored, dict):
        return stored
    values = (math.nan if value is None else value / stored["unit"] for value in stored["values"])
    return Measured(tuple(values), stored["unit"], stored["digits"])


def _joined(cells: Sequence[Any], cost: bool) -> Any:
    if cost:
        cells = [cell for cell in cells if cell is not None] or [None]
    if all(isinstance(cell, Measured) for cell in cells):
        return _all_values(cells)
    different = list(dict.fromkeys(cells))
    return different[0] if len(different) == 1 else " / ".join(map(text_of, cells))


def _all_values(measured: Sequence[Measured]) -> Measured:
    return Measured(tuple(value for each in measured for value in each.values), measured[0].unit, measured[0].digits)
