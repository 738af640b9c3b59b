"""Segments photographs: a label PNG and an overlay for each.

    python -m tools.predict --output_dir=runs/demo --to=masks photo.jpg another.png

Reads the segmenter's last finished round below OUTPUT_DIR (segmenter_retrained/ or segmenter/); writes TO/<name>.png
(class ids with a palette) and TO/<name>_overlay.jpg, and says which classes it found and their shares of the pixels.
One of more than 2.1 million pixels (16.8 million with --crf=none) is computed at that size, as by export.client, and
its labels are enlarged. A photograph that cannot be read, or is too large for a GPU's memory, or whose answer cannot
be written, is named, the others are done; the exit code is 1 then.
"""

import collections
import pathlib
from typing import TYPE_CHECKING

from absl import flags

from ficklenet_tf.errors import UserError, first_line
from ficklenet_tf.runs import layout, progress
from tools import cli, define, words

if TYPE_CHECKING:
    from ficklenet_tf import crf
    from ficklenet_tf.evaluation import prediction

define.segmenter()
flags.DEFINE_string("to", "masks", "Directory for the answers.")
flags.DEFINE_enum("crf", "dsrg", [*words.CRFS, words.AUTO], "Dense CRF's parameters; none: without; auto: what "
                  "tools.evaluate --crf=auto has chosen.")
define.run_dir()
define.imports()


def main(paths: list[str]) -> None:
    """Segments each of `paths`."""
    from ficklenet_tf import crf
    from ficklenet_tf.evaluation import prediction
    from ficklenet_tf.seeds import crf_choice

    if not paths:
        raise UserError("expected photographs after the flags, found none: python -m tools.predict --output_dir=RUN "
                        "IMAGE...")
    to = pathlib.Path(cli.FLAGS.to)
    _check_names([pathlib.Path(path) for path in paths], to)
    if not cli.run_dir().is_dir():
        raise UserError(f"output_dir: expected a run's directory, found no {cli.run_dir()}")
    predictor = prediction.Predictor(prediction.last_stage(cli.run_dir(), cli.FLAGS.segmenter))
    spec = crf.SPECS[crf_choice.chosen(cli.run_dir(), cli.FLAGS.crf, cli.FLAGS.segmenter)]
    failed = segment([pathlib.Path(path) for path in paths], to, predictor, spec)
    done = len(paths) - len(failed)
    if done:
        cli.done(f"{done} photograph{'s' if done > 1 else ''}", to)
    if failed:
        raise UserError("\n".join(failed))


def segment(paths: list[pathlib.Path], to: pathlib.Path, predictor: "prediction.Predictor",
            spec: "crf.CRFSpec | None") -> list[str]:
    """Writes a label PNG and an overlay of each photograph, and prints what was found in it as soon as that is done.

    Args:
      paths: of the photographs.
      to: directory for the answers.
      predictor: a `prediction.Predictor`.
      spec: see its `labels`.

    Returns:
      What is wrong with each photograph that has no answer.
    """
    import tensorflow as tf

    failed = []
    bar = progress.bar(paths, unit="img", desc="predict")
    for path in bar:
        try:
            line = _segment(path, to, predictor, spec)
        except (UserError, OSError) as error:
            failed.append(str(error) if path.name in str(error) else f"{path}: {error}")
        except (tf.errors.ResourceExhaustedError, tf.errors.InvalidArgumentError, MemoryError) as error:
            # A GPU's kernels refuse what is too large for them as invalid.
            failed.append(f"{path}: expected a photograph that this machine suffices for, found {first_line(error)}")
        else:
            with bar.external_write_mode():
                print(line, flush=True)
    return failed


def _segment(path: pathlib.Path, to: pathlib.Path, predictor: "prediction.Predictor",
             spec: "crf.CRFSpec | None") -> str:
    """Writes the answer for one photograph; returns its name, and the classes and their shares."""
    from ficklenet_tf.data import images, labels
    from ficklenet_tf.serving import servable, signatures, verify

    image = images.read_image(path)
    fit = verify.fitting(image, servable.MAX_PIXELS // (signatures.CRF_SHARE if spec else 1))
    label = images.nearest(predictor.labels(fit, spec), image.shape[:2])
    # The overlay first: it says that the other file is an answer.
    images.write_overlay(to / f"{path.stem}{layout.OVERLAY}", image, label)
    labels.write_label(to / f"{path.stem}.png", label)
    note = "" if fit is image else (f"; computed at {fit.shape[1]} x {fit.shape[0]} of {image.shape[1]} x "
                                    f"{image.shape[0]} pixels")
    return f"{path.name}: {labels.in_words(labels.shares(label, predictor.class_names))}{note}"


def _check_names(paths: list[pathlib.Path], to: pathlib.Path) -> None:
    """Raises UserError where one answer would overwrite another one, or a photograph."""
    written = [to / f"{path.stem}{end}" for path in paths for end in (".png", layout.OVERLAY)]
    repeated = sorted(path.name for path, count in collections.Counter(written).items() if count > 1)
    if repeated:
        raise UserError("expected photographs of different names, their answers go to one directory; found several "
                        f"whose answer is {', '.join(repeated)}")
    photographs = {path.resolve() for path in paths}
    over = [path for path in written if path.resolve() in photographs]
    if over:
        raise UserError(f"to: expected another directory, found that the photograph {over[0]} would be overwritten")
    others = [name for path in paths if (name := to / f"{path.stem}.png").is_file()
              and not (to / f"{path.stem}{layout.OVERLAY}").exists()]
    if others:
        raise UserError(f"to: expected another directory, found {others[0]} in it, which is no answer of this tool, "
                        "without its overlay, and would be overwritten")


if __name__ == "__main__":
    cli.start(main, arguments=True)
