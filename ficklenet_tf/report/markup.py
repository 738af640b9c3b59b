"""Small pieces of HTML, every text escaped."""

import math
from html import escape

from ficklenet_tf.data import labels
from ficklenet_tf.report import charts, pictures


def percent(value, digits=1):
    """Writes a share 0..1 in per cent; a dash for None or NaN."""
    return "–" if value is None or math.isnan(value) else f"{100 * value:.{digits}f}"


def duration(seconds):
    """Writes seconds as a person would; a dash for None."""
    if seconds is None:
        return "–"
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


def section(name, title, how, *parts):
    """A section: its title, one sentence that says how to read it, its content."""
    return (f'<section id="{name}"><h2>{escape(title)}</h2>\n<p class="how">{escape(how)}</p>\n'
            + "\n".join(parts) + "</section>")


def missing(what, command):
    """Says what is missing and which command makes it."""
    words = " ".join(f"<span>{escape(word)}</span>" for word in command.split(" "))  # lines break between words only
    return f'<p class="missing">Missing: {escape(what)}. Make it by <code>{words}</code></p>'


def tile(label, value, note):
    """A headline number."""
    return (f'<div class="tile"><span>{escape(label)}</span><strong>{escape(value)}</strong>'
            f"<small>{escape(note)}</small></div>")


def table(heads, rows, wrap=()):
    """A table of texts; columns but the first that hold numbers are aligned right, those in `wrap` may be long."""
    def cell(kind, column, text):
        plain = text.replace("–", "0").replace(" ", "").lstrip("+-−")
        look = "wrap" if column in wrap else "number" if column and plain[:1].isdigit() and len(text) < 12 else ""
        return f'<{kind} class="{look}">{escape(text)}</{kind}>'

    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join("<tr>" + "".join(cell("td", i, text) for i, text in enumerate(row)) + "</tr>" for row in rows)
    return (f'<div class="scroll"><table class="facts"><thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>")


def picture_table(rows, large=False):
    """A table of pictures that scrolls sideways, the first column staying in sight.

    Args:
      rows: list of (caption, dict of heading -> `[h, w, 3]` uint8).
      large: for few columns; a wide screen shows two halves side by side.
    """
    if large and len(rows) > 1:
        half = (len(rows) + 1) // 2
        return f'<div class="side wide">{_picture_table(rows[:half], large)}{_picture_table(rows[half:], large)}</div>'
    return _picture_table(rows, large)


def _picture_table(rows, large):
    heads = pictures.headings([cells for _, cells in rows])
    lines = []
    for caption, cells in rows:
        line = []
        for number, head in enumerate(heads):
            words = f'<span class="caption">{escape(caption)}</span>' if number == 0 else ""
            image = _image(cells[head], f"{head} of {caption}") if head in cells else "–"
            line.append(f"<td>{image}{words}</td>")
        lines.append(f"<tr>{''.join(line)}</tr>")
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    return (f'<div class="scroll"><table class="pictures{" large" if large else ""}"><thead><tr>{head}</tr></thead>'
            f"<tbody>{''.join(lines)}</tbody></table></div>")


def _image(pixels, alt):
    height, width = pixels.shape[:2]
    return (f'<img src="{charts.data_uri(pixels, quality=82)}" alt="{escape(alt)}" width="{width}" '
            f'height="{height}">')


def class_legend(class_names):
    """The colour of each class in all masks, and of «no answer»."""
    colours = labels.palette()
    entries = [*enumerate(class_names), (labels.IGNORE, "no answer, or not judged")]
    return '<p class="legend classes">' + " ".join(
        f'<span><i style="background:rgb({",".join(map(str, colours[i]))})"></i>{escape(name)}</span>'
        for i, name in entries) + "</p>"
