"""One PNG of a run for a README: small pictures in rows under their headings."""

import io
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ficklenet_tf.data import datasets
from ficklenet_tf.errors import UserError
from ficklenet_tf.report import picture_rows, pictures
from ficklenet_tf.runs import artifacts

_COLUMNS = ("photograph", "drawing", "map 1", "mean", "seeds", "segmenter", "ground truth")  # of `picture_rows`


def write_picture(run_dir: str | pathlib.Path, train_split: datasets.Split, path: str | pathlib.Path, rows: int = 4, *,
                  val_split: datasets.Split | None = None, side: int = 160) -> pathlib.Path:
    """Writes one PNG for a README: photographs, a map, the mean map, seeds, masks, ground truth.

    Args:
      run_dir: the run's directory.
      train_split: `datasets.Split` of the seeds.
      path: the PNG.
      rows: how many training images.
      val_split: below them come as many held-out images with the segmenter's masks; None for none.
      side: longer side of each picture in pixels.

    Returns:
      `path`.
    """
    seed_rows = [picture_rows.seed_pictures(run_dir, train_split, i, class_id, side)
                 for i, class_id in pictures.choose(run_dir, train_split, rows)]
    blocks = [[{name: cells[name].pixels for name in _COLUMNS if name in cells} for cells in seed_rows]]
    if val_split is not None:
        held_out_rows = [picture_rows.mask_pictures(run_dir, val_split, i, side)
                         for i in pictures.predicted(run_dir, val_split, rows)]
        blocks.append([{name: picture.pixels for name, picture in cells.items()} for cells in held_out_rows])
    parts = [lay_out(block, side) for block in blocks if block]
    if not parts:
        raise UserError("rows: expected at least one image to draw, found none")
    sheet = np.full((sum(part.shape[0] for part in parts), max(part.shape[1] for part in parts), 3), 255, np.uint8)
    top = 0
    for part in parts:
        sheet[top:top + part.shape[0], :part.shape[1]] = part
        top += part.shape[0]
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "PNG", optimize=True)
    artifacts.write_bytes(path, buffer.getvalue())
    return pathlib.Path(path)


def lay_out(rows: Sequence[Mapping[str, np.ndarray]], side: int, gap: int = 6, header: int = 22) -> np.ndarray:
    """Lays rows of pictures, their longer side made `side`, on white under their headings: `[h, w, 3]` uint8."""
    rows = [{heading: pictures.thumbnail(cell, side) for heading, cell in row.items()} for row in rows]
    columns = picture_rows.headings(rows)
    heights = [max(cell.shape[0] for cell in row.values()) for row in rows]
    sheet = Image.new("RGB", (gap + len(columns) * (side + gap), header + sum(heights) + gap * len(rows)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for column, heading in enumerate(columns):
        left, top = gap + column * (side + gap), header
        draw.text((left + side // 2, header - 6), heading, fill="black", font=font, anchor="ms")
        for row, height in zip(rows, heights, strict=True):
            if heading in row:
                cell = row[heading]
                sheet.paste(Image.fromarray(cell), (left + (side - cell.shape[1]) // 2, top))
            top += height + gap
    return np.asarray(sheet)
