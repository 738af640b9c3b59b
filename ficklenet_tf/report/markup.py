"""Small pieces of HTML, every text escaped."""

import math
from collections.abc import Collection, Sequence
from html import escape

import numpy as np

from ficklenet_tf.data import labels
from ficklenet_tf.report import charts, pictures


def percent(value: float | None, digits: int = 1) -> str:
    """Writes a share 0..1 in per cent; a dash for None or NaN."""
    return "–" if value is None or math.isnan(value) else f"{100 * value:.{digits}f}"


def duration(seconds: float | None) -> str:
    """Writes seconds as a person would; a dash for None."""
    if seconds is None:
        return "–"
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


def section(name: str, title: str, how: str, *parts: str) -> str:
    """Returns a section: its title, one sentence that says how to read it, its content."""
    return (f'<section id="{name}"><h2>{escape(title)}</h2>\n<p class="how">{escape(how)}</p>\n'
            + "\n".join(parts) + "</section>")


def missing(missing_part: str, command: str) -> str:
    """Says what is missing and which command makes it."""
    words = " ".join(f"<span>{escape(word)}</span>" for word in command.split(" "))  # lines break between words only
    return f'<p class="missing">Missing: {escape(missing_part)}. Make it by <code>{words}</code></p>'


def tile(label: str, value: str, note: str) -> str:
    """Returns the tile of one headline number."""
    return (f'<div class="tile"><span>{escape(label)}</span><strong>{escape(value)}</strong>'
            f"<small>{escape(note)}</small></div>")


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], wrap: Collection[int] = ()) -> str:
    """Returns a table of texts; numbers are aligned right, except in the first column.

    Args:
      heads: the columns' headings.
      rows: the cells' texts.
      wrap: indices of the columns whose texts may be long.
    """
    def cell(column: int, text: str) -> str:
        plain = text.replace("–", "0").replace(" ", "").lstrip("+-−")
        style = "wrap" if column in wrap else "number" if column and plain[:1].isdigit() and len(text) < 12 else ""
        return f'<td class="{style}">{escape(text)}</td>'

    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join("<tr>" + "".join(cell(i, text) for i, text in enumerate(row)) + "</tr>" for row in rows)
    return (f'<div class="scroll"><table class="facts"><thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>")


def picture_table(rows: Sequence[tuple[str, pictures.Pictures]], large: bool = False) -> str:
    """Returns a table of pictures that scrolls sideways while its first column stays in sight.

    Args:
      rows: list of (caption, dict of heading -> `[h, w, 3]` uint8).
      large: for few columns; a wide screen shows two halves side by side.
    """
    if large and len(rows) > 1:
        half = (len(rows) + 1) // 2
        return f'<div class="side wide">{_picture_table(rows[:half], large)}{_picture_table(rows[half:], large)}</div>'
    return _picture_table(rows, large)


def _picture_table(rows: Sequence[tuple[str, pictures.Pictures]], large: bool) -> str:
    headings = pictures.headings([cells for _, cells in rows])
    lines = []
    for caption, cells in rows:
        line = []
        for number, heading in enumerate(headings):
            words = f'<span class="caption">{escape(caption)}</span>' if number == 0 else ""
            image = _image(cells[heading], f"{heading} of {caption}") if heading in cells else "–"
            line.append(f"<td>{image}{words}</td>")
        lines.append(f"<tr>{''.join(line)}</tr>")
    head = "".join(f"<th>{escape(text)}</th>" for text in headings)
    return (f'<div class="scroll"><table class="pictures{" large" if large else ""}"><thead><tr>{head}</tr></thead>'
            f"<tbody>{''.join(lines)}</tbody></table></div>")


def _image(pixels: np.ndarray, alt: str) -> str:
    height, width = pixels.shape[:2]
    return (f'<img src="{charts.data_uri(pixels, quality=82)}" alt="{escape(alt)}" width="{width}" '
            f'height="{height}">')


def class_legend(class_names: Sequence[str]) -> str:
    """Returns the colour of each class in all masks, and of "no answer"."""
    colours = labels.palette()
    entries = [*enumerate(class_names), (labels.IGNORE, "no answer, or not judged")]
    return '<p class="legend classes">' + " ".join(
        f'<span><i style="background:rgb({",".join(map(str, colours[i]))})"></i>{escape(name)}</span>'
        for i, name in entries) + "</p>"
