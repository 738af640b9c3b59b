"""Tables of pictures: each names the classes that its mask shows, and is enlarged by a click."""

from collections.abc import Sequence
from html import escape

from ficklenet_tf.data import labels
from ficklenet_tf.report import charts, markup, picture_rows
from ficklenet_tf.report.picture_rows import Picture, Pictures

_MOST_NAMES = 6  # under a picture: a mask of noise has every class


def table(rows: Sequence[tuple[str, Pictures]], class_names: Sequence[str], large: bool = False) -> str:
    """Returns a table of pictures that scrolls sideways while its first column stays in sight.

    Args:
      rows: list of (caption, pictures).
      class_names: of the masks.
      large: for few columns; a wide screen shows two halves side by side.
    """
    if large and len(rows) > 1:
        half = (len(rows) + 1) // 2
        halves = "".join(_table(part, class_names, large) for part in (rows[:half], rows[half:]))
        return f'<div class="side wide">{halves}</div>'
    return _table(rows, class_names, large)


def _table(rows: Sequence[tuple[str, Pictures]], class_names: Sequence[str], large: bool) -> str:
    headings = picture_rows.headings([cells for _, cells in rows])
    lines = []
    for caption, cells in rows:
        line = []
        for number, heading in enumerate(headings):
            below = f'<span class="caption">{escape(caption)}</span>' if number == 0 else ""
            picture = _picture(cells[heading], f"{heading} of {caption}", class_names) if heading in cells else "–"
            line.append(f"<td>{picture}{below}</td>")
        lines.append(f"<tr>{''.join(line)}</tr>")
    head = "".join(f"<th>{escape(text)}</th>" for text in headings)
    return markup.scroll(f'<table class="pictures{" large" if large else ""}" style="--columns:{len(headings)}">'
                         f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>")


def _picture(picture: Picture, words: str, class_names: Sequence[str]) -> str:
    """Returns a picture in a button that enlarges it, and below it the classes that it shows."""
    height, width = picture.pixels.shape[:2]
    return (f'<button type="button" class="picture"><img src="{charts.data_uri(picture.pixels, quality=70)}" '
            f'alt="{escape(words)}" width="{width}" height="{height}"></button>'
            f"{_named(picture.class_ids, class_names)}")


def _named(class_ids: Sequence[int] | None, class_names: Sequence[str]) -> str:
    """Returns the colours and names of a mask's classes; of the background only where there is nothing else."""
    if class_ids is None:
        return ""
    shown = [i for i in class_ids if i != labels.BACKGROUND]
    names = [swatch(i, class_names[i]) for i in shown[:_MOST_NAMES]]
    if len(shown) > _MOST_NAMES:
        names.append(f"<span>and {len(shown) - _MOST_NAMES} more</span>")
    if not shown:
        names = [swatch(labels.BACKGROUND, "background only")] if class_ids else ["<span>no answer</span>"]
    return f'<span class="classes">{" ".join(names)}</span>'


def swatch(class_id: int, name: str) -> str:
    """Returns the colour that a class has in all masks, and a name."""
    colour = ",".join(map(str, labels.palette()[class_id]))
    return f'<span><i style="background:rgb({colour})"></i>{escape(name)}</span>'


def legend() -> str:
    """Returns what every mask may have beside classes."""
    return (f'<p class="legend">{swatch(labels.BACKGROUND, "background")} '
            f'{swatch(labels.IGNORE, "no answer, or not judged")} <span>Press a picture to enlarge it.</span></p>')
