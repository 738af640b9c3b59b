"""A run's files written by hand, and a page as its reader finds it."""

import html
import html.parser
import io
import re
import shlex

import numpy as np
from PIL import Image

from ficklenet_tf import report
from ficklenet_tf.data import datasets, labels
from ficklenet_tf.data.datasets import records
from ficklenet_tf.evaluation import metrics
from ficklenet_tf.runs import artifacts, layout, stage

NAMES = ("background", "cat & <dog>", 'the "bus"')
SECTIONS = ("headline", "seeds", "seed-scores", "masks", "iou", "confusion", "hardest", "curves", "run")
VOID = {"meta", "img", "br", "link", "input", "hr", "image", "line", "rect", "polyline"}


class Page(html.parser.HTMLParser):
    """Collects a page's ids, texts and references, and fails where tags do not nest."""

    def __init__(self, text):
        """Parses `text`."""
        super().__init__()
        self.open, self.ids, self.texts, self.references = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        """Notes an opening tag."""
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "srcset", "data"):
                self.references.append(value)

    def handle_startendtag(self, tag, attrs):
        """Notes an SVG element without content."""
        assert tag in VOID
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag):
        """Checks that the tag closes the one opened last."""
        if tag not in VOID:
            assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        """Notes text, but not the style sheet and the script."""
        if self.open and self.open[-1] not in ("style", "script"):
            self.texts.append(data)

    @property
    def text(self):
        """The page's words, single spaces between them."""
        return re.sub(r"\s+", " ", " ".join(self.texts))


def split(name, count, size=(20, 30), labelled=True, dataset="shapes"):
    """A split held in memory: image i has tag i % 2 + 1, in a square of its mask."""
    rng, examples = np.random.default_rng(0), []
    for i in range(count):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(buffer, "PNG")
        label = np.zeros(size, np.uint8)
        label[5:15, 5:15], label[0] = i % 2 + 1, labels.IGNORE
        examples.append({"image": buffer.getvalue(), "tags": [i % 2 + 1], "label": records.encode_ids(label),
                         "has_label": labelled})
    return datasets.Split(dataset=dataset, name=name, class_names=NAMES, fingerprint=f"{name}-print",
                          image_ids=tuple(f"{name}_{i}" for i in range(count)), has_labels=labelled, records=examples,
                          rows=tuple(range(count)), labelled=(labelled,) * count, left_out=("bad.jpg: <broken>",))


def scores(rng, ids):
    """Scores of random counts."""
    matrix = rng.integers(1, 1000, (3, 4))
    return {**metrics.scores(matrix), "images": len(ids), "unlabelled": 0, "confusion": matrix.tolist(),
            "image_iou": {image_id: float(rng.random()) for image_id in ids}}


def write_training(directory, config, columns, **facts):
    """Writes what a training leaves, with a log of 89 steps."""
    stage.begin_stage(directory, {"config": artifacts.as_json(config.__dict__), "seed": 7})
    lines = [",".join(["step", "learning_rate", *columns])]
    lines += [",".join(map(str, [step, 0.01 / step, *(1 / (step + i) for i in range(len(columns)))]))
              for step in range(1, 90)]
    artifacts.write_bytes(directory / "log.csv", ("\n".join(lines) + "\n").encode())
    artifacts.write_run(directory, class_names=list(NAMES), **facts)


def page(run_dir, train, val, **options):
    """Writes the report; returns its text and the `Page`."""
    path = report.write_report(run_dir, train_split=train, val_split=val, title="A <title> & more", **options)
    assert path == run_dir / "report.html"
    return path.read_text(), Page(path.read_text())


def section(text, name):
    """Returns one section of a page's HTML."""
    return re.search(rf'<section id="{name}">.*?</section>', text, re.DOTALL)[0]


def commands(text):
    """Returns the commands that HTML shows, as they are copied."""
    return [html.unescape(re.sub(r"<[^>]*>", "", shown))
            for shown in re.findall(r'<p class="command"><code>(.*?)</code>', text)]


def unfinished(run, *names):
    """Makes stages of a run such as have begun."""
    for name in names:
        (run / name / layout.RUN).unlink()


def by_stages(run):
    """Makes a run of tools.run_pipeline one that was made stage by stage."""
    (run / layout.RESULT).unlink()


def shown(run, train, val, **caller):
    """Returns the commands on a run's page, written by a caller with these flags."""
    return commands(page(run, train, val, flags=caller)[0])


def flags(line):
    """Returns (binary, name -> value) of a line; of a flag without a value True."""
    _, _, binary, *arguments = shlex.split(line)
    pairs = [argument.removeprefix("--").partition("=") for argument in arguments if argument.startswith("--")]
    return binary, {name: value if equals else True for name, equals, value in pairs}
