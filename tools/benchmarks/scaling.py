"""Growth of time and memory: fitted orders over the sections' own measurements, and what more cores bring."""

import math
import os

from tools.benchmarks import head, localization, measure
from tools.benchmarks.tables import Plot, Table


def run(options):
    """Returns the section's tables: the points, what was fitted to them, and the cores."""
    points = [*localization.growth(options), *head.growth(options)]
    return [orders(points), *points, cores(options)]


def slope(points):
    """Returns the exponent b of y = a x^b that fits (x, y) points best, by least squares of the logarithms."""
    logs = [(math.log(x), math.log(y)) for x, y in points]
    mean_x, mean_y = (sum(values) / len(logs) for values in zip(*logs, strict=True))
    return (sum((x - mean_x) * (y - mean_y) for x, y in logs) / sum((x - mean_x)**2 for x, _ in logs))


def curves(table):
    """Yields (kind, column of y, sorted points) of a table that has a plot; points without a positive y are left out.

    Args:
      table: `tables.Table` with a `plot`.
    """
    columns, plot = list(table.columns), table.plot
    kinds = dict.fromkeys(row[columns.index(plot.by)] if plot.by else "" for row in table.rows)
    for kind in kinds:
        rows = [row for row in table.rows if not plot.by or row[columns.index(plot.by)] == kind]
        for name in plot.y:
            points = sorted((row[columns.index(plot.x)], row[columns.index(name)]) for row in rows)
            yield kind, name, [(x, y) for x, y in points if y and y > 0]


def orders(points):
    """Fits every curve as a whole and between neighbours, which shows where one order passes into another."""
    rows = []
    for table in points:
        for kind, name, curve in curves(table):
            if len(curve) < 2:
                continue
            local = [slope(pair) for pair in zip(curve, curve[1:], strict=False)]
            steps = [abs(b - a) for a, b in zip(local, local[1:], strict=False)]
            turn = curve[steps.index(max(steps)) + 1][0] if steps else None
            rows.append([f"{table.title}{f', {kind}' if kind else ''}", name, slope(curve), local[0], local[-1], turn])
    return Table("Order of growth: b of y = a x^b", ("curve", "of", "b", "b at the start", "b at the end",
                                                     "changes most at x ="), rows,
                 "Fitted to the logarithms of the points in the tables below. b near 0 at the start is the fixed "
                 "part: starting a graph, or memory that other parts of the work need anyway.")


def cores(options):
    """The same work on one core and on all, each in a fresh process that may use no more."""
    name = {"scale": options.scale}
    works = {"head, training": (f"{head.__name__}:head_work", {"form": "contracted", **name}),
             "pass of the backbone": (f"{__name__}:pass_work", name)}
    counts = [1, *[n for n in (2, 4, 8, 16, 32, 64) if n < len(os.sched_getaffinity(0))],
              len(os.sched_getaffinity(0))]
    rows = []
    for what, (target, arguments) in works.items():
        alone = None
        for count in dict.fromkeys(counts):
            seconds = min(measure.peak_memory(target, arguments, calls=4, cores=count)["seconds"][1:])
            alone = alone or seconds
            rows.append([what, count, 1000 * seconds, alone / seconds])
    return Table("The same work on more cores", ("work", "cores", "ms", "times faster than one"), rows,
                 "Each in a fresh process bound to that many cores; the best of three calls after the first.",
                 plot=Plot("cores", ("times faster than one",), by="work", log=False))


def pass_work(scale="full"):
    """Makes the work «one pass of the backbone»."""
    import tensorflow as tf

    from tools.benchmarks import inputs
    size = measure.SIZES[scale]
    network, _ = inputs.backbone(size, "", "none")
    x, forward = tf.zeros([1, size.side, size.side, 3]), tf.function(lambda x: network(x, training=False))
    return lambda: forward(x).numpy()
