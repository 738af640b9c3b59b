"""Segments photographs by a server.

    python -m export.client --server=localhost:8500 photo.jpg --to=out

Sends files to TensorFlow Serving, over gRPC, or over REST where --server begins with http://. Writes
TO/<name>.png, labels in VOC's palette, and TO/<name>_overlay.jpg; one line per file says what was found, with its
share of the pixels, and how long it took. With --crf the server refines the labels by the dense CRF.
Of this software it needs only this file, photographs.py, transport.py and messages.py, in a directory export/, and of
others grpcio, protobuf and Pillow, with --crf NumPy too.
"""

import argparse
import collections
import concurrent.futures
import dataclasses
import functools
import io
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence

from PIL import Image

from export import photographs, transport

_LABELS, _NAMES = "label_png_bytes", "class_names_bytes"
_ITERATIONS = 10  # of the dense CRF, as published
os.umask(_UMASK := os.umask(0o077))  # which cannot be asked for otherwise
_NAMELESS = "numbers: this version was exported without the names of its classes"


@dataclasses.dataclass(frozen=True)
class Options:
    """How files are sent and drawn.

    Attributes:
      max_pixels: of a photograph; a larger one is shrunk before it is sent, and its labels are enlarged.
      opacity: of the labels in the overlay, 0..1.
      concurrency: requests under way at once.
      crf: whether the labels are refined by the dense CRF, in the server.
    """

    max_pixels: int = photographs.MAX_PIXELS
    opacity: float = 0.6
    concurrency: int = 4
    crf: bool = False


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came of one file.

    Attributes:
      seconds: of the request.
      shares: {class id: share of the pixels}, above 0.
      class_names: the background first; None where the server's version does not tell them.
      note: what is to be said besides.
    """

    seconds: float
    shares: dict[int, float]
    class_names: tuple[str, ...] | None = None
    note: str = ""

    @property
    def found(self) -> str:
        """The classes found with their shares, the largest first, without the background: "dog 12 %, person 3 %"."""
        ids = sorted((i for i in self.shares if i), key=lambda i: -self.shares[i])
        words = ", ".join(f"{self.class_names[i] if self.class_names else f'class {i}'} "
                          f"{f'{100 * self.shares[i]:.0f}' if self.shares[i] >= 0.005 else '< 1'} %" for i in ids)
        return f"{words or 'no object'}{'' if self.class_names or not ids else f' ({_NAMELESS})'}"


def segment(client: transport.Client, path: pathlib.Path, output_dir: pathlib.Path,
            options: Options = Options()) -> Answer:
    """Segments one file and writes labels and overlay.

    Args:
      client: a `transport.Client`.
      path: a photograph, of any format that Pillow reads.
      output_dir: where to write.
      options: `Options`.

    Returns:
      An `Answer`.

    Raises:
      OSError: a file cannot be read or written. Pillow has errors of its own for broken and for enormous files.
      transport.ServerError: the server refused, or did not answer in time.
    """
    original = path.read_bytes()
    data, shape, note = photographs.prepared(original, options.max_pixels)
    start = time.perf_counter()
    png, names = _refined(client, data) if options.crf else _labelled(client, data)
    seconds = time.perf_counter() - start
    with Image.open(io.BytesIO(png)) as image:
        counts = image.histogram()[:256]
        if note:
            buffer = io.BytesIO()
            image.resize(shape, Image.Resampling.NEAREST).save(buffer, "PNG")
            png = buffer.getvalue()
    write(output_dir / f"{path.stem}.png", png)
    write(output_dir / f"{path.stem}_overlay.jpg", photographs.overlay(original, png, options.opacity))
    return Answer(seconds, {i: count / sum(counts) for i, count in enumerate(counts) if count}, names, note)


def _labelled(client: transport.Client, data: bytes) -> tuple[bytes, tuple[str, ...] | None]:
    """Returns a file's labels, a palette PNG, and the names of the classes where the version tells them."""
    answer = client.predict("serve_jpeg", {"image": [data]}, (_LABELS,), (_NAMES,))
    return answer[_LABELS][0], tuple(answer[_NAMES][0].decode().split("\n")) if _NAMES in answer else None


def _refined(client: transport.Client, data: bytes) -> tuple[bytes, tuple[str, ...] | None]:
    """Returns what `_labelled` does, refined by the dense CRF: `serve_crf` takes pixels, and returns ids alone."""
    import numpy as np  # here: files alone need none

    palette, names = _legend(client)
    with Image.open(io.BytesIO(data)) as image:
        inputs = {"images": np.asarray(image.convert("RGB"))[None], "iterations": np.array([_ITERATIONS], np.int32)}
    labels = Image.fromarray(client.predict("serve_crf", inputs, ("labels",))["labels"][0].astype(np.uint8))
    labels.putpalette(palette)
    buffer = io.BytesIO()
    labels.save(buffer, "PNG")
    return buffer.getvalue(), names


@functools.lru_cache(maxsize=4)
def _legend(client: transport.Client) -> tuple[list[int], tuple[str, ...] | None]:
    """Returns the palette of a version's labels and the names of its classes, by one small grey picture."""
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), "grey").save(buffer, "PNG")
    png, names = _labelled(client, buffer.getvalue())
    with Image.open(io.BytesIO(png)) as image:
        return image.getpalette() or [], names


def write(path: pathlib.Path, data: bytes) -> None:
    """Writes bytes under a temporary name, then renames it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o666 & ~_UMASK)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def segment_all(client: transport.Client, paths: Sequence[str | pathlib.Path], output_dir: str | pathlib.Path,
                options: Options = Options()) -> int:
    """Segments files, some at once, and prints a line for each.

    Args:
      client: of the server.
      paths: photographs.
      output_dir: where to write.
      options: `Options`.

    Returns:
      How many files failed; each is named on standard error, and the others go on.

    Raises:
      ValueError: one answer would overwrite another one, or a photograph.
    """
    _check_names([pathlib.Path(path) for path in paths], pathlib.Path(output_dir))
    seconds: list[float] = []
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(options.concurrency) as pool:
        running = {pool.submit(segment, client, pathlib.Path(path), pathlib.Path(output_dir), options): path
                   for path in paths}
        try:
            for future in concurrent.futures.as_completed(running):
                try:
                    answer = future.result()
                except Exception as error:  # Pillow raises SyntaxError, ValueError and its own for broken files
                    failed += 1
                    print(f"error: {running[future]}: {error}", file=sys.stderr)
                    continue
                seconds.append(answer.seconds)
                print(f"{running[future]}: {answer.found}; {1000 * answer.seconds:.0f} ms"
                      f"{f'; {answer.note}' if answer.note else ''}", flush=True)
        except BaseException:  # Ctrl-C: those under way are awaited, the others are not sent
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if seconds:
        print(f"{len(seconds)} of {len(paths)} photographs -> {output_dir}; "
              f"median {1000 * statistics.median(seconds):.0f} ms, slowest {1000 * max(seconds):.0f} ms")
    return failed


def _check_names(paths: Sequence[pathlib.Path], output_dir: pathlib.Path) -> None:
    written = [output_dir / f"{path.stem}{end}" for path in paths for end in (".png", "_overlay.jpg")]
    repeated = sorted(path.name for path, count in collections.Counter(written).items() if count > 1)
    if repeated:
        raise ValueError(f"expected files of different names, found two whose answer is {', '.join(repeated)}")
    sources = {path.resolve() for path in paths}
    over = [path for path in written if path.resolve() in sources]
    if over:
        raise ValueError(f"{over[0]}: expected another --to, found that a photograph would be overwritten")


def between(least: float, most: float, kind: type[int] | type[float] = int) -> type[int] | type[float]:
    """Returns a type for `argparse`: a number from `least` to `most`."""
    def parse(text: str) -> float:
        if not least <= (value := kind(text)) <= most:  # NaN neither
            raise argparse.ArgumentTypeError(f"expected a number from {least:g} to {most:g}, found {text}")
        return value

    parse.__name__ = "number"  # of argparse's own message
    return parse  # type: ignore[return-value]


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    made = argparse.ArgumentParser(prog="python -m export.client", description=__doc__, allow_abbrev=False,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("photographs", nargs="+", metavar="PHOTOGRAPH")
    made.add_argument("--server", required=True,
                      help="host:port (gRPC, usually 8500) or http://host:port (REST, usually 8501)")
    made.add_argument("--to", default="out", help="directory for label images and overlays (%(default)s)")
    made.add_argument("--model", default="ficklenet", help="the model's name in the server (%(default)s)")
    made.add_argument("--model_version", default=transport.STABLE,
                      help="label or number of the version (%(default)s); empty: the greatest number that the server "
                           "has loaded, a canary too")
    made.add_argument("--deadline", type=between(0.1, 1e6, float), default=60.0,
                      help="seconds for one photograph; an absent or busy server is asked until then (%(default)s)")
    made.add_argument("--concurrency", type=between(1, 1000), default=4,
                      help="requests under way at once (%(default)s)")
    made.add_argument("--crf", action="store_true",
                      help=f"refine the labels by the dense CRF, {_ITERATIONS} iterations; the version needs "
                           "the signature serve_crf")
    made.add_argument("--max_pixels", type=between(64, 1e9),
                      help=f"larger photographs are shrunk before they are sent ({photographs.MAX_PIXELS}; with --crf "
                           f"{photographs.MAX_PIXELS_CRF}, over REST {photographs.MAX_PIXELS_REST}, as every "
                           "probability travels as text)")
    made.add_argument("--opacity", type=between(0, 1, float), default=0.6,
                      help="of the labels in the overlay (%(default)s)")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Segments every file; exit code 1 where one failed, 2 where the arguments are wrong."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if any(argument.split("=")[0] == "--output_dir" for argument in arguments):
        print("error: --output_dir is called --to now", file=sys.stderr)
        sys.exit(2)
    given = parser().parse_args(arguments)
    version = int(given.model_version) if given.model_version.isdecimal() else given.model_version or None
    with transport.Client(given.server, given.model, version, given.deadline) as client:
        refined = photographs.MAX_PIXELS_REST if client.is_rest else photographs.MAX_PIXELS_CRF
        most = given.max_pixels or (refined if given.crf else photographs.MAX_PIXELS)
        try:
            failed = segment_all(client, given.photographs, given.to,
                                 Options(most, given.opacity, given.concurrency, given.crf))
        except ValueError as error:
            sys.exit(f"error: {error}")
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            sys.exit(130)
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
