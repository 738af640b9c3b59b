"""Drawings that the report has no use for: a curve with its deviation over a logarithmic axis, and kernels."""

import io
import math
import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ficklenet_tf.models import hidden_units
from ficklenet_tf.runs import artifacts

_BLUE, _PALE, _GREY, _RED = (42, 120, 214), (205, 222, 245), (120, 120, 120), (200, 60, 40)


def write_png(path: str | pathlib.Path, pixels: np.ndarray) -> None:
    """Writes `[h, w, 3]` uint8 as PNG, whole or not at all."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    artifacts.write_bytes(path, buffer.getvalue())


def kernels(kernel_size: int, rate: float, count: int, seed: int = 0, cell: int = 14) -> np.ndarray:
    """Draws the hidden units that one window sees, for several selections (Figure 3).

    Args:
      kernel_size: s.
      rate: dropout rate p.
      count: selections, side by side.
      seed: of the selections.
      cell: side of a hidden unit in pixels.

    Returns:
      `[h, w, 3]` uint8: selected units blue, dropped ones pale, the centre, which is always selected, red.
    """
    gap, side = 10, kernel_size * cell
    sheet = Image.new("RGB", (count * (side + gap) + gap, side + 2 * gap), "white")
    draw = ImageDraw.Draw(sheet)
    seeds = np.array([[seed, i] for i in range(count)], np.int32)
    selections = hidden_units.draw(seeds, kernel_size, kernel_size, kernel_size, rate, False)
    windows = hidden_units.windows_of(selections, kernel_size, kernel_size, kernel_size).numpy()
    for number, mask in enumerate(windows[:, kernel_size**2 // 2].reshape(-1, kernel_size, kernel_size)):
        for (row, column), kept in np.ndenumerate(mask > 0):
            centre = row == column == kernel_size // 2
            left, top = gap + number * (side + gap) + column * cell, gap + row * cell
            draw.rectangle((left, top, left + cell - 2, top + cell - 2),
                           fill=_RED if centre else _BLUE if kept else _PALE)
    return np.asarray(sheet)


def curve(counts: Sequence[int], means: Sequence[float], deviations: Sequence[float], *, across: str, up: str,
          reference: tuple[float, str] | None = None, width: int = 720, height: int = 420) -> np.ndarray:
    """Draws means with their deviation over a logarithmic axis (Figure 5).

    Args:
      counts: rising positive numbers.
      means: one per count.
      deviations: one per count, drawn as a band of one deviation on either side.
      across: name of the horizontal axis.
      up: name of the vertical axis.
      reference: (value, name) of a horizontal line, or None.
      width: pixels.
      height: pixels.

    Returns:
      `[height, width, 3]` uint8.
    """
    left, right, top, bottom = 70, 20, 30, 60
    middle, spread = np.asarray(means, float), np.nan_to_num(np.asarray(deviations, float))
    ends = [*(middle - spread), *(middle + spread), *([reference[0]] if reference else [])]
    step = _step((max(ends) - min(ends)) / 4)
    low, high = math.floor(min(ends) / step) * step, math.ceil(max(ends) / step + 1e-9) * step
    sheet = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    span = max(math.log(counts[-1] / counts[0]), 1e-9)

    def place(count: int, value: float) -> tuple[float, float]:
        return (left + (width - left - right) * math.log(count / counts[0]) / span,
                top + (height - top - bottom) * (high - value) / max(high - low, 1e-9))

    upper = [place(count, value) for count, value in zip(counts, middle + spread, strict=True)]
    lower = [place(count, value) for count, value in zip(counts, middle - spread, strict=True)]
    if len(counts) > 1:
        draw.polygon([*upper, *lower[::-1]], fill=_PALE)
    for value in np.arange(low, high + step / 2, step):
        y = place(counts[0], value)[1]
        draw.line((left, y, width - right, y), fill=(225, 225, 225))
        draw.text((left - 8, y), f"{value:.4g}", fill="black", font=font, anchor="rm")
    for count in counts:
        draw.text((place(count, low)[0], height - bottom + 8), str(count), fill="black", font=font, anchor="ma")
    if reference:
        y = place(counts[0], reference[0])[1]
        draw.line((left, y, width - right, y), fill=_RED, width=2)
        draw.text((width - right - 4, y - 4), reference[1], fill=_RED, font=font, anchor="rs")
    points = [place(count, value) for count, value in zip(counts, middle, strict=True)]
    draw.line(points, fill=_BLUE, width=3)
    for x, y in points:
        draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill=_BLUE)
    draw.text(((left + width - right) / 2, height - 12), across, fill=_GREY, font=font, anchor="ms")
    draw.text((8, 8), up, fill=_GREY, font=font)
    return np.asarray(sheet)


def _step(value: float) -> float:
    """Returns the least number from `value` on that is 1, 2 or 5 times a power of ten."""
    if not value > 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= value * 0.999)
