"""Segments photographs: a label PNG and an overlay for each.

    python -m tools.predict --output_dir=runs/demo --to=masks photo.jpg another.png

Reads the segmenter's last finished round below OUTPUT_DIR (segmenter_retrained/ or segmenter/); writes TO/<name>.png
(class ids with a palette) and TO/<name>_overlay.jpg, and says which classes it found and their shares of the pixels.
A photograph that cannot be read is named, the others are done; the exit code is 1 then.
"""

import pathlib

from absl import flags

from ficklenet_tf.errors import UserError
from ficklenet_tf.runs import progress
from tools import cli, define, words

define.segmenter()
flags.DEFINE_string("to", "masks", "Directory for the answers.")
flags.DEFINE_enum("crf", "dsrg", [*words.CRFS, words.AUTO], "Dense CRF's parameters; none: without; auto: what "
                  "tools.evaluate --crf=auto has chosen.")
define.run_dir()
define.imports()


def main(paths: list[str]) -> None:
    """Segments each of `paths`."""
    from ficklenet_tf import crf
    from ficklenet_tf.data import images, labels
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
    found, unread = list[str](), list[str]()
    for path in progress.bar([pathlib.Path(name) for name in paths], unit="img", desc="predict"):
        try:
            image = images.read_image(path)
        except (UserError, OSError) as error:
            unread.append(str(error))
            continue
        label = predictor.labels(image, spec)
        labels.write_label(to / f"{path.stem}.png", label)
        images.write_overlay(to / f"{path.stem}_overlay.jpg", image, label)
        found.append(f"{path.name}: {labels.in_words(labels.shares(label, predictor.class_names))}")
    if found:
        print("\n".join(found))
        cli.done(f"{len(found)} photograph{'s' if len(found) > 1 else ''}", to)
    if unread:
        raise UserError("\n".join(unread))


def _check_names(paths: list[pathlib.Path], to: pathlib.Path) -> None:
    """Raises UserError where one answer would overwrite another one, or a photograph."""
    written = [to / f"{path.stem}{end}" for path in paths for end in (".png", "_overlay.jpg")]
    repeated = sorted({path.name for path in written if written.count(path) > 1})
    if repeated:
        raise UserError("expected photographs of different names, their answers go to one directory; found several "
                        f"whose answer is {', '.join(repeated)}")
    photographs = {path.resolve() for path in paths}
    over = [path for path in written if path.resolve() in photographs]
    if over:
        raise UserError(f"to: expected another directory, found that the photograph {over[0]} would be overwritten")


if __name__ == "__main__":
    cli.start(main, arguments=True)
