"""Claims between the rows of a table of segmenters: by the last measured column, with CRF where there is one."""

from collections.abc import Iterable, Mapping

from ficklenet_tf.experiments.claims import Claim
from ficklenet_tf.experiments.systems import CLAIMS, SYSTEMS
from ficklenet_tf.experiments.tables import Row


def of_systems(rows: Iterable[Row]) -> tuple[Claim, ...]:
    """Returns those of `systems.CLAIMS` of which both rows are there, found by their "system"."""
    by_title = {row["system"]: row for row in rows}
    titles = [(SYSTEMS[high].title, SYSTEMS[low].title) for high, low in CLAIMS]
    return of_pairs({f"{high}, above {low}": (by_title[high], by_title[low]) for high, low in titles
                     if high in by_title and low in by_title})


def of_pairs(pairs: Mapping[str, tuple[Row, Row]]) -> tuple[Claim, ...]:
    """Returns a claim for each of `pairs`: text -> (greater row, lesser row)."""
    compared = []
    for text, (high, low) in pairs.items():
        column = [key for key in high if key.startswith("val ")][-1]
        compared.append(Claim(f"{text}, {column}", high[column], low[column]))
    return tuple(compared)
