"""Segments photographs by a server.

    python -m export.client --server=localhost:8500 photo.jpg --output_dir=out

Sends files to TensorFlow Serving, over gRPC, or over REST where --server begins with http://. Writes
OUTPUT_DIR/<name>.png, labels in VOC's palette, and <name>_overlay.jpg; one line per file says how long it took.
Of this software it needs only this file and transport.py, in a directory export/.
"""

import concurrent.futures
import io
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Sequence

import numpy as np
from absl import app, flags
from PIL import ExifTags, Image, ImageOps

from export import transport


def segment(client: transport.Client, path: pathlib.Path, output_dir: pathlib.Path,
            opacity: float = 0.6) -> tuple[float, np.ndarray]:
    """Segments one file and writes labels and overlay.

    Args:
      client: a `transport.Client`.
      path: a JPEG or PNG.
      output_dir: where to write.
      opacity: of the labels in the overlay, 0..1.

    Returns:
      (seconds that the request took, `[classes]` shares of the pixels).

    Raises:
      OSError: a file cannot be read or written.
      transport.ServerError: the server refused, or did not answer in time.
    """
    data = upright(path.read_bytes())
    start = time.perf_counter()
    answer = client.predict("serve_jpeg", {"image": [data]})
    seconds = time.perf_counter() - start
    png = answer["label_png_bytes"][0]
    write(output_dir / f"{path.stem}.png", png)
    write(output_dir / f"{path.stem}_overlay.jpg", overlay(data, png, opacity))
    return seconds, answer["fractions"][0]


def upright(data: bytes) -> bytes:
    """Returns a photograph's bytes as the server takes them: JPEG or PNG, turned as a viewer shows it.

    The server does not look at EXIF's orientation. A file that is fine is sent as it is; any other that Pillow
    reads is turned and written anew as PNG, without loss.

    Args:
      data: the file's bytes.

    Raises:
      OSError: not an image.
    """
    with Image.open(io.BytesIO(data)) as image:
        plain = image.format in ("JPEG", "MPO", "PNG") and image.mode in ("RGB", "L")
        if plain and image.getexif().get(ExifTags.Base.Orientation, 1) == 1:
            return data
        buffer = io.BytesIO()
        ImageOps.exif_transpose(image).convert("RGB").save(buffer, "PNG", compress_level=3)
        return buffer.getvalue()


def overlay(data: bytes, png: bytes, opacity: float) -> bytes:
    """Lays label colours over a photograph; the background stays as it is.

    Args:
      data: the photograph's bytes.
      png: the labels', a palette PNG.
      opacity: of the colours, 0..1.

    Returns:
      bytes of a JPEG.
    """
    with Image.open(io.BytesIO(data)) as image, Image.open(io.BytesIO(png)) as label:
        photograph, class_ids = np.asarray(image.convert("RGB"), np.float32), np.asarray(label)[..., None]
        colours = np.asarray(label.convert("RGB"), np.float32)
    mixed = np.where(class_ids == 0, photograph, (1 - opacity) * photograph + opacity * colours)
    buffer = io.BytesIO()
    Image.fromarray(np.round(mixed).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def write(path: pathlib.Path, data: bytes) -> None:
    """Writes bytes under a temporary name, then renames it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def segment_all(client: transport.Client, paths: Sequence[str | pathlib.Path], output_dir: str | pathlib.Path, *,
                concurrency: int = 4, opacity: float = 0.6) -> int:
    """Segments files, some at once, and prints a line for each.

    Args:
      client: of the server.
      paths: JPEG or PNG files.
      output_dir: where to write.
      concurrency: requests under way at once.
      opacity: of the labels in the overlay, 0..1.

    Returns:
      How many files failed; each is named on standard error.
    """
    seconds: list[float] = []
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(concurrency) as pool:
        running = {pool.submit(segment, client, pathlib.Path(path), pathlib.Path(output_dir), opacity): path
                   for path in paths}
        for future in concurrent.futures.as_completed(running):
            try:
                took, shares = future.result()
            except (OSError, transport.ServerError) as error:
                failed += 1
                print(f"error: {running[future]}: {error}", file=sys.stderr)
                continue
            seconds.append(took)
            print(f"{running[future]}: {1000 * took:.0f} ms, classes {np.flatnonzero(shares).tolist()}", flush=True)
    if seconds:
        print(f"{len(seconds)} of {len(paths)} photographs -> {output_dir}; "
              f"median {1000 * np.median(seconds):.0f} ms, slowest {1000 * max(seconds):.0f} ms")
    return failed


def _define_flags() -> None:
    flags.DEFINE_string("server", None, "host:port (gRPC, usually 8500) or http://host:port (REST, usually 8501).",
                        required=True)
    flags.DEFINE_string("output_dir", "out", "Where label images and overlays are written.")
    flags.DEFINE_string("model", "ficklenet", "The model's name in the server.")
    flags.DEFINE_string("model_version", None, "Number or label of the version (default: the server's choice).")
    flags.DEFINE_float("deadline", 60.0, "Seconds for one photograph, retries included.", lower_bound=0.1)
    flags.DEFINE_integer("attempts", 4, "How often an unreachable or overloaded server is asked.", lower_bound=1)
    flags.DEFINE_integer("concurrency", 4, "Requests under way at once.", lower_bound=1)
    flags.DEFINE_float("opacity", 0.6, "Of the labels in the overlay.", lower_bound=0.0, upper_bound=1.0)
    for name in ("deadline", "opacity"):
        flags.register_validator(name, lambda value: value == value, "expected a number")  # NaN has no bounds


def main(argv: list[str]) -> None:
    """Segments every file; exit code 1 where one failed."""
    flags_, names = flags.FLAGS, [pathlib.Path(name).stem for name in argv[1:]]
    if not names:
        raise app.UsageError("expected at least one photograph")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise app.UsageError(f"expected files of different names, found {', '.join(repeated)} twice: "
                             "one answer would overwrite the other")
    version = int(flags_.model_version) if (flags_.model_version or "").isdigit() else flags_.model_version
    with transport.Client(flags_.server, flags_.model, version, flags_.deadline, flags_.attempts) as client:
        failed = segment_all(client, argv[1:], flags_.output_dir, concurrency=flags_.concurrency,
                             opacity=flags_.opacity)
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    _define_flags()  # here, so that whoever imports this module keeps flags of the same names
    app.run(main)
