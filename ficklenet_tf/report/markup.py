"""Small pieces of HTML, every text escaped."""

import math
from collections.abc import Collection, Sequence
from html import escape


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


def paragraph(text: str) -> str:
    """Returns a paragraph."""
    return f"<p>{escape(text)}</p>"


def note(text: str) -> str:
    """Returns a paragraph of lesser weight."""
    return f'<p class="note">{escape(text)}</p>'


def missing(missing_part: str) -> str:
    """Says that something is missing; what makes it stands under "Still missing"."""
    return f'<p class="missing">Missing: {escape(missing_part)}. <a href="#missing">What makes it</a></p>'


def command(line: str) -> str:
    """Returns a command to copy; on the page its lines break between words only."""
    words = " ".join(f"<span>{escape(word)}</span>" for word in line.split(" "))
    return f'<p class="command"><code>{words}</code></p>'


def scroll(content: str) -> str:
    """Returns content that scrolls sideways where the screen is narrower, with a line above that says so."""
    return ('<div><p class="hint" aria-hidden="true">Wider than the screen: scroll sideways →</p>'
            f'<div class="scroll">{content}</div></div>')


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
    return scroll(f'<table class="facts"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>')
