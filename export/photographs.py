"""Photographs as people have them: as the server takes them, and with labels laid over them."""

import io
import struct

from PIL import ExifTags, Image

MAX_PIXELS = 2**24  # of one request, as tools export it by default
MAX_PIXELS_CRF = MAX_PIXELS // 8  # the dense CRF takes about 8 times the memory
MAX_PIXELS_REST = 2**18  # of these over REST: at 21 classes an answer is 70 MB of text


def prepared(data: bytes, max_pixels: int = MAX_PIXELS) -> tuple[bytes, tuple[int, int], str]:
    """Returns a photograph's bytes as the server takes them: JPEG or PNG, upright, not too large.

    The server does not look at EXIF's orientation, and refuses more than so many pixels. A file that is fine is sent
    as it is; any other that Pillow reads is written anew as PNG, without loss, or shrunk.

    Args:
      data: the file's bytes.
      max_pixels: the most that the server takes.

    Returns:
      (bytes, (width, height) upright, what was done where the photograph was shrunk).

    Raises:
      OSError: not an image.
    """
    with Image.open(io.BytesIO(data)) as image:
        fits = image.width * image.height <= max_pixels
        plain = image.format in ("JPEG", "MPO", "PNG") and image.mode in ("RGB", "L")
        if fits and plain and _orientation(image) == 1:
            return data, image.size, ""
        upright = _upright(image)
    shape, note = upright.size, ""
    if not fits:
        scale = (max_pixels / (shape[0] * shape[1])) ** 0.5
        upright = upright.resize((int(shape[0] * scale) or 1, int(shape[1] * scale) or 1), Image.Resampling.LANCZOS)
        note = f"computed at {upright.width} x {upright.height} of {shape[0]} x {shape[1]} pixels"
    buffer = io.BytesIO()
    upright.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue(), shape, note


# EXIF's orientation -> what makes a photograph upright; ImageOps.exif_transpose fails where a tag has an odd type.
_TURNS = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
          5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
          8: Image.Transpose.ROTATE_90}


def _orientation(image: Image.Image) -> int:
    """Returns EXIF's orientation, 1 where there is none that can be read."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except (SyntaxError, ValueError, TypeError, KeyError, OSError, struct.error):
        return 1
    return found if found in _TURNS else 1


def _upright(image: Image.Image) -> Image.Image:
    """Returns an image as it is looked at, in RGB; 16 bits become the higher 8, as in training.

    Raises:
      OSError: its numbers have no known range.
    """
    if image.mode == "I" and image.format == "PPM":  # 16 bits, which Pillow holds in 32
        image = image.point([i // 256 for i in range(2**16)], "L")
    image.load()  # a TIFF is turned by this, and says so afterwards
    if (turn := _TURNS.get(_orientation(image))) is not None:
        image = image.transpose(turn)
    if image.mode in ("I", "F"):
        raise OSError(f"expected 8 or 16 bits a channel, found Pillow's mode {image.mode}")
    if image.mode.startswith("I;16"):  # whose bytes are in one order or the other
        high = image.tobytes()[0 if image.mode == "I;16B" else 1::2]
        image = Image.frombytes("L", image.size, high)
    return image.convert("RGB")


def overlay(data: bytes, png: bytes, opacity: float) -> bytes:
    """Lays label colours over a photograph; the background stays as it is.

    Args:
      data: the photograph's bytes.
      png: the labels', a palette PNG of the photograph's size as it is shown.
      opacity: of the colours, 0..1.

    Returns:
      bytes of a JPEG.
    """
    with Image.open(io.BytesIO(data)) as image, Image.open(io.BytesIO(png)) as label:
        photograph = _upright(image)
        ids = Image.frombytes("L", label.size, label.tobytes())  # a palette's indices
        mask = ids.point([0] + [round(255 * opacity)] * 255)
        mixed = Image.composite(label.convert("RGB"), photograph, mask)
    buffer = io.BytesIO()
    mixed.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
