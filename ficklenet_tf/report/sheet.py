"""One PNG of a run for a README: small pictures in rows under their headings."""

import io
import pathlib

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ficklenet_tf.report import pictures
from ficklenet_tf.runs import artifacts


def write_picture(run_dir, train_split, path, rows=4, *, val_split=None, side=160):
    """Writes one PNG for a README: photographs, a map, the mean map, seeds, masks, ground truth.

    Args:
      run_dir: the run's directory.
      train_split: `datasets.Split` of the seeds.
      path: the PNG.
      rows: training images.
      val_split: also so many held-out images with the segmenter's masks below them; None for none.
      side: longer side of each picture in pixels.

    Returns:
      `path`.
    """
    classes, own = len(train_split.class_names), ("photograph", "map 1", "mean", "seeds", "segmenter",
                                                  "ground truth")
    drawn = [pictures.seed_pictures(run_dir, train_split[i], class_id, classes, side)
             for i, class_id in pictures.choose(run_dir, train_split, rows)]
    blocks = [[{k: cells[k] for k in own if k in cells} for cells in drawn]]
    if val_split is not None:
        blocks.append([pictures.mask_pictures(run_dir, val_split[i], classes, side)
                       for i in pictures.predicted(run_dir, val_split, rows)])
    parts = [lay_out(block, side) for block in blocks if block]
    sheet = np.full((sum(p.shape[0] for p in parts), max(p.shape[1] for p in parts), 3), 255, np.uint8)
    top = 0
    for part in parts:
        sheet[top:top + part.shape[0], :part.shape[1]] = part
        top += part.shape[0]
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "PNG", optimize=True)
    artifacts.write_bytes(path, buffer.getvalue())
    return pathlib.Path(path)


def lay_out(rows, side, gap=6, header=22):
    """Lays rows of pictures on white under their headings; returns `[h, w, 3]` uint8."""
    columns = pictures.headings(rows)
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
