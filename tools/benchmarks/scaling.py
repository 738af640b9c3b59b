"""Growth of time and memory: fitted orders over the sections' own measurements, and what more cores bring."""

import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

from tools.benchmarks import head, localization, measure
from tools.benchmarks.tables import Plot, Table, plot_of

Point = tuple[float, float]


def run(options: measure.Options) -> list[Table]:
    """Returns the section's tables: the points, what was fitted to them, and the cores."""
    points = [*localization.growth(options), *head.growth(options)]
    return [orders(points), *points, cores(options)]


def slope(points: Sequence[Point]) -> float:
    """Returns the exponent b of y = a x^b that fits (x, y) points best, by least squares of the logarithms."""
    logs = [(math.log(x), math.log(y)) for x, y in points]
    mean_x, mean_y = (sum(values) / len(logs) for values in zip(*logs, strict=True))
    return (sum((x - mean_x) * (y - mean_y) for x, y in logs) / sum((x - mean_x)**2 for x, _ in logs))


def curves(table: Table) -> Iterator[tuple[str, str, list[Point]]]:
    """Yields (variant, column of y, sorted points) of a table with a plot; points without a positive y are left out.

    Args:
      table: `tables.Table` with a `plot`; a variant is a value of its column `by`, "" without.
    """
    columns, plot = list(table.columns), plot_of(table)
    variants = dict.fromkeys(row[columns.index(plot.by)] if plot.by else "" for row in table.rows)
    for variant in variants:
        rows = [row for row in table.rows if not plot.by or row[columns.index(plot.by)] == variant]
        for name in plot.y:
            points = sorted((row[columns.index(plot.x)], row[columns.index(name)]) for row in rows)
            yield variant, name, [(x, y) for x, y in points if y and y > 0]


def orders(tables: Sequence[Table]) -> Table:
    """Fits every curve as a whole and between neighbours, which shows where one order passes into another."""
    rows = []
    for table in tables:
        for variant, name, curve in curves(table):
            if len(curve) < 2:
                continue
            local = [slope(pair) for pair in zip(curve, curve[1:], strict=False)]
            steps = [abs(b - a) for a, b in zip(local, local[1:], strict=False)]
            turn = curve[steps.index(max(steps)) + 1][0] if steps else None
            title = f"{table.title}, {variant}" if variant else table.title
            rows.append([title, name, slope(curve), local[0], local[-1], turn])
    return Table("Order of growth: b of y = a x^b", ("curve", "of", "b", "b at the start", "b at the end",
                                                     "changes most at x ="), rows,
                 "Fitted to the logarithms of the points in the tables below. b near 0 at the start is the fixed "
                 "part: starting a graph, or memory that other parts of the work need anyway.")


def cores(options: measure.Options) -> Table:
    """The same work on one core and on all, each in a fresh process that may use no more."""
    works: dict[str, tuple[str, dict[str, Any]]] = {
        "head, training": (f"{head.__name__}:head_work", {"form": "contracted", "scale": options.scale}),
        "pass of the backbone": (f"{__name__}:pass_work", {"scale": options.scale})}
    counts = [1, *[n for n in (2, 4, 8, 16, 32, 64) if n < len(os.sched_getaffinity(0))],
              len(os.sched_getaffinity(0))]
    rows = []
    for name, (target, arguments) in works.items():
        on_one_core = None
        for count in dict.fromkeys(counts):
            seconds = min(measure.peak_memory(target, arguments, calls=4, cores=count)["seconds"][1:])
            on_one_core = on_one_core or seconds
            rows.append([name, count, 1000 * seconds, on_one_core / seconds])
    return Table("The same work on more cores", ("work", "cores", "ms", "times faster than one"), rows,
                 "Each in a fresh process bound to that many cores; the best of three calls after the first.",
                 plot=Plot("cores", ("times faster than one",), by="work", log=False))


def pass_work(scale: str = "full") -> measure.Work:
    """Makes the work "one pass of the backbone"."""
    import tensorflow as tf

    from tools.benchmarks import inputs
    size = measure.SIZES[scale]
    network, _ = inputs.backbone(size, "", "head")
    x, forward = tf.zeros([1, size.side, size.side, 3]), tf.function(lambda x: network(x, training=False))
    return lambda: forward(x).numpy()
