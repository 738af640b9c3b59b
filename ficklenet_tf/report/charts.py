"""Charts that need no script and follow the page's colours: curves and the confusion matrix as SVG, bars as HTML."""

import base64
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from PIL import Image


def data_uri(pixels: np.ndarray, file_format: str = "WEBP", **options: Any) -> str:
    """Encodes `[h, w, 3 or 4]` uint8 as a data URI; `options` are those of Pillow's `save`."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, file_format, **options)
    return f"data:image/{file_format.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def curves(rows: Sequence[Mapping[str, float]], columns: Sequence[str], title: str, width: int = 420,
           height: int = 230) -> str:
    """Draws columns of a log against its steps: each value pale, their running mean strong.

    Args:
      rows: list of dicts of floats with "step".
      columns: names to draw, each in its own colour.
      title: for screen readers.
      width: of the SVG's coordinates.
      height: of the SVG's coordinates.

    Returns:
      SVG as a string.
    """
    left, right, top, bottom = 46, 12, 10, 36
    last = max(row["step"] for row in rows)
    high = _ceiling(max(float(np.quantile([row[c] for row in rows if c in row], 0.99)) for c in columns))

    def place(step: float, value: float) -> str:
        x = left + (width - left - right) * step / last
        return f"{x:.1f},{top + (height - top - bottom) * (1 - min(max(value / high, 0.0), 1.0)):.1f}"

    parts = [f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">']
    for tick in np.linspace(0, high, 5):
        x, y = place(0, tick).split(",")
        parts.append(f'<line class="grid" x1="{x}" x2="{width - right}" y1="{y}" y2="{y}"/>'
                     f'<text x="{left - 6}" y="{float(y) + 4:.1f}" text-anchor="end">{tick:.3g}</text>')
    for share, anchor in ((0, "start"), (0.5, "middle"), (1, "end")):
        x = place(share * last, 0).split(",")[0]
        parts.append(f'<text x="{x}" y="{height - bottom + 16}" text-anchor="{anchor}">{share * last:.0f}</text>')
    parts.append(f'<text x="{(left + width - right) / 2}" y="{height - 4}" text-anchor="middle">step</text>')
    for number, column in enumerate(columns):
        logged = [row for row in rows if column in row]
        values = np.array([row[column] for row in logged])
        for style, series in (("raw", values), ("smooth", _running_mean(values, max(1, len(values) // 20)))):
            points = [place(row["step"], value) for row, value in zip(logged, series, strict=True)]
            points = [points[i] for i in np.unique(np.linspace(0, len(points) - 1, 400).astype(int))]
            parts.append(f'<polyline class="{style} s{number}" points="{" ".join(points)}"/>')
    return "".join([*parts, "</svg>"])


def _ceiling(value: float) -> float:
    """Returns the least of 1, 2, 4, 6, 8 or 10 times a power of ten that `value` fits under; 1 for 0 or less."""
    if not value > 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(factor * power for factor in (1, 2, 4, 6, 8, 10) if factor * power >= value * 0.999)


def _running_mean(values: np.ndarray, half: int) -> np.ndarray:
    """Returns the mean over up to `half` neighbours on either side; `[n]` in and out."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)


def legend(names: Iterable[str]) -> str:
    """Returns a line that says which series has which colour."""
    return '<p class="legend">' + "".join(f'<span><i class="s{i}"></i>{escape(name)}</span>'
                                          for i, name in enumerate(names)) + "</p>"


def bars(class_names: Sequence[str], series: Mapping[str, Sequence[float]]) -> str:
    """Draws one group of horizontal bars per class.

    Args:
      class_names: of the groups.
      series: dict of name -> list of numbers 0..1, one per class.

    Returns:
      HTML as a string; the numbers (per cent) stand beside the bars.
    """
    groups = []
    for index, name in enumerate(class_names):
        lines = []
        for number, values in enumerate(series.values()):
            value = 100 * values[index]
            lines.append(f'<div class="bar"><b class="s{number}" style="width:{value:.1f}%"></b>'
                         f"<span>{value:.1f}</span></div>")
        groups.append(f'<div class="group"><span class="name">{escape(name)}</span><div>{"".join(lines)}</div></div>')
    tall = " tall" if len(class_names) > 40 else ""
    return (legend(series) if len(series) > 1 else "") + f'<div class="bars{tall}">{"".join(groups)}</div>'


def normalized(confusion: np.ndarray | Sequence[Sequence[int]]) -> np.ndarray:
    """Divides each row of `[classes, classes + 1]` counts by its sum; a class without pixels gives zeros.

    The last column ("no answer") is left out where it is empty.
    """
    counts = np.asarray(confusion, np.float64)
    if not counts[:, -1].any():
        counts = counts[:, :-1]
    return np.divide(counts, counts.sum(1, keepdims=True), out=np.zeros_like(counts),
                     where=counts.sum(1, keepdims=True) > 0)


def confusion_matrix(confusion: np.ndarray | Sequence[Sequence[int]], class_names: Sequence[str]) -> str:
    """Draws a confusion matrix as a heat map; rows are true classes, each divided by its sum.

    Args:
      confusion: `[classes, classes + 1]` counts; see `metrics.confusion`.
      class_names: 2 to 200 names, the background first.

    Returns:
      SVG as a string, in pixels of the page: it may be wider than a phone.
    """
    share = normalized(confusion)
    rows, columns = share.shape
    names = [name if len(name) <= 18 else name[:17] + "…" for name in class_names]
    heads = [*names, "no answer"][:columns]
    cell = 34 if rows <= 8 else 26 if rows <= 25 else 11
    font = 11 if rows <= 25 else 9
    margin = 12 + round(0.58 * font * max(len(name) for name in heads))
    pixels = np.zeros((rows, columns, 4), np.uint8)
    pixels[..., :3], pixels[..., 3] = (42, 120, 214), (255 * share).round()
    width, height = margin + columns * cell + 2, margin + rows * cell + 2
    parts = [f'<svg class="matrix" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" '
             f'aria-label="confusion matrix" font-size="{font}">',
             f'<image x="{margin}" y="{margin}" width="{columns * cell}" height="{rows * cell}" '
             f'preserveAspectRatio="none" href="{data_uri(pixels, "PNG")}"/>',
             f'<rect class="frame" x="{margin}" y="{margin}" width="{columns * cell}" height="{rows * cell}"/>']
    for i, name in enumerate(names):
        y = margin + (i + 0.5) * cell + font / 3
        parts.append(f'<text x="{margin - 5}" y="{y:.1f}" text-anchor="end">{escape(name)}</text>')
    for j, name in enumerate(heads):
        x = margin + (j + 0.5) * cell + font / 3
        parts.append(f'<text transform="translate({x:.1f} {margin - 5}) rotate(-90)">{escape(name)}</text>')
    for i, j in np.argwhere(share >= 0.005) if rows <= 25 else ():
        light = ' class="light"' if share[i, j] > 0.8 else ""
        parts.append(f'<text{light} x="{margin + (j + 0.5) * cell:.1f}" y="{margin + (i + 0.5) * cell + 4:.1f}" '
                     f'text-anchor="middle">{100 * share[i, j]:.0f}</text>')
    return "".join([*parts, "</svg>"])


def most_confused(confusion: np.ndarray | Sequence[Sequence[int]], class_names: Sequence[str],
                  count: int = 3) -> list[tuple[str, str, float]]:
    """Returns (true class, answered class, share of the true class's pixels) of the greatest mistakes."""
    share = normalized(confusion)[:, :len(class_names)]
    np.fill_diagonal(share, 0)
    order = np.argsort(-share, axis=None, kind="stable")[:count]
    pairs = [np.unravel_index(position, share.shape) for position in order]
    return [(class_names[i], class_names[j], float(share[i, j])) for i, j in pairs if share[i, j] > 0]
