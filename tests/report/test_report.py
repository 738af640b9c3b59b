"""The page of a run directory written by hand: every section, the files' own numbers, missing stages, safe HTML."""

import html.parser
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from ficklenet_tf import presets, report
from ficklenet_tf.data import datasets, labels
from ficklenet_tf.data.datasets import records
from ficklenet_tf.evaluation import metrics
from ficklenet_tf.maps.image_maps import ImageMaps
from ficklenet_tf.report import charts, markup, pictures, stages
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
        """Notes text, but not the style sheet."""
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self):
        """The page's words, single spaces between them."""
        return re.sub(r"\s+", " ", " ".join(self.texts))


def _split(name, count, size=(20, 30), labelled=True):
    """A split held in memory: image i has tag i % 2 + 1, in a square of its mask."""
    rng, examples = np.random.default_rng(0), []
    for i in range(count):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(buffer, "PNG")
        label = np.zeros(size, np.uint8)
        label[5:15, 5:15], label[0] = i % 2 + 1, labels.IGNORE
        examples.append({"image": buffer.getvalue(), "tags": [i % 2 + 1], "label": records.encode_ids(label),
                         "has_label": labelled})
    return datasets.Split(dataset="shapes", name=name, class_names=NAMES, fingerprint=f"{name}-print",
                          image_ids=tuple(f"{name}_{i}" for i in range(count)), has_labels=labelled, records=examples,
                          rows=tuple(range(count)), labelled=(labelled,) * count, left_out=("bad.jpg: <broken>",))


def _scores(rng, ids):
    matrix = rng.integers(1, 1000, (3, 4))
    return {**metrics.scores(matrix), "images": len(ids), "unlabelled": 0, "confusion": matrix.tolist(),
            "image_iou": {image_id: float(rng.random()) for image_id in ids}}


def _write_training(directory, config, columns, **facts):
    stage.begin_stage(directory, {"config": artifacts.as_json(config.__dict__), "seed": 7})
    lines = [",".join(["step", "learning_rate", *columns])]
    lines += [",".join(map(str, [step, 0.01 / step, *(1 / (step + i) for i in range(len(columns)))]))
              for step in range(1, 90)]
    artifacts.write_bytes(directory / "log.csv", ("\n".join(lines) + "\n").encode())
    artifacts.write_run(directory, class_names=list(NAMES), **facts)


@pytest.fixture
def train():
    """Five training images."""
    return _split("train", 5)


@pytest.fixture
def val():
    """Four held-out images."""
    return _split("val", 4)


@pytest.fixture
def run_dir(tmp_path, train, val):
    """Writes the files that all stages of a run leave, with random content."""
    rng, run = np.random.default_rng(1), tmp_path / "my run"
    _write_training(run / "classifier", presets.CPU.classifier, ["loss"], held_out="val",
                    metrics={"map": 0.54321, "ap_per_class": [0.9, float("nan")], "loss": 0.1})
    _write_training(run / "segmenter", presets.CPU.segmenter, ["loss", "seed_loss", "boundary_loss"], metrics={})
    for name in ("seeds", "seeds_deterministic"):
        stage.begin_stage(run / name, {"stage": "seeds"})
        artifacts.write_run(run / name, metrics=_scores(rng, train.image_ids))
        for i, image_id in enumerate(train.image_ids):
            labels.write_label(run / name / f"{image_id}.png", rng.choice([0, i % 2 + 1, labels.IGNORE], (20, 30)))
            maps = ImageMaps(np.array([i % 2]), *(rng.random((5, 5, 1)) for _ in range(3)),
                             samples=rng.random((3, 5, 5, 1)), num_maps=3, shape=(20, 30))
            maps.write(run / layout.maps_of(name) / f"{image_id}.npz")
    for name in ("predictions", "predictions_crf"):
        for image_id in val.image_ids:
            labels.write_label(run / name / f"{image_id}.png", rng.integers(0, 3, (20, 30)))
        artifacts.write_run(run / name, stage="predictions", images=4)
        artifacts.write_json(run / "evaluation" / f"{name}.json", _scores(rng, val.image_ids))
    (run / "saved_model" / "1").mkdir(parents=True)
    artifacts.write_json(run / "result.json", {
        "preset": "cpu", "flags": {"weights": "<none>"}, "served_agreement": 0.99987,
        "seconds": {"classifier": 4000.0, "seeds": 75.0, "verify": 3.5}})
    return run


def _page(run_dir, train, val, **options):
    path = report.write_report(run_dir, train_split=train, val_split=val, title="A <title> & more", **options)
    assert path == run_dir / "report.html"
    return path.read_text(), Page(path.read_text())


def test_page_has_every_section_and_no_reference_outside(run_dir, train, val):
    text, page = _page(run_dir, train, val)
    assert page.ids == list(SECTIONS)
    assert "Missing" not in page.text
    assert page.references and all(r.startswith("data:image/") for r in page.references)
    assert not re.search(r"https?:|<script|@import|url\(|//[a-z]", re.sub(r"base64,[^\"]*", "", text))


def test_names_and_messages_are_escaped(run_dir, train, val):
    text, page = _page(run_dir, train, val)
    assert "A <title> & more" in page.text and "cat & <dog>" in page.text and 'the "bus"' in page.text
    assert "bad.jpg: <broken>" in page.text and "<none>" in page.text
    assert "<dog>" not in text and "<broken>" not in text and "<none>" not in text


def test_numbers_are_those_of_the_files(run_dir, train, val):
    _, page = _page(run_dir, train, val)
    text = page.text
    assert "Classifier, mAP 54.3" in text and "Served model 99.987" in text
    for path, name in {"seeds/run.json": "random selections", "seeds_deterministic/run.json": "plain Grad-CAM",
                       "evaluation/predictions.json": "without CRF",
                       "evaluation/predictions_crf.json": "with CRF"}.items():
        scores = json.loads((run_dir / path).read_text())
        scores = scores.get("metrics", scores)
        row = " ".join(f"{100 * scores[key]:.1f}" for key in ("miou", "recall", "precision"))
        assert f"{name} {row}" in text
        values = scores["recall_per_class"] + scores["precision_per_class"] if "run.json" in path else \
            scores["iou_per_class"]
        assert all(f" {100 * value:.1f} " in text for value in values), path
    assert "1 h 07 min" in text and "75 s" in text and "verify measured 3.5 s" in text
    assert "train-print" in text and "val-print" in text and artifacts.versions()["numpy"] in text


def test_confusion_matrix_says_each_rows_shares(run_dir, train, val):
    _, page = _page(run_dir, train, val)
    matrix = np.array(json.loads((run_dir / "evaluation/predictions_crf.json").read_text())["confusion"])
    shares = 100 * matrix / matrix.sum(1, keepdims=True)
    section = page.text[page.text.index("Confusion matrix"):page.text.index("The hardest images")]
    shown = " ".join(f"{value:.0f}" for value in shares.ravel() if value >= 0.5)
    assert section.strip().endswith(shown) and "no answer" in section
    context = 100 * matrix[0, 1:-1].sum() / matrix.sum()
    assert "background called an object" in section and f" {context:.1f} " in section


def test_hardest_images_come_first(run_dir, train, val):
    _, page = _page(run_dir, train, val)
    image_iou = json.loads((run_dir / "evaluation/predictions_crf.json").read_text())["image_iou"]
    ordered = sorted(image_iou.items(), key=lambda item: item[1])
    places = [page.text.index(f"{image_id}: IoU {100 * iou:.1f}") for image_id, iou in ordered]
    assert places == sorted(places)


def test_rows_limit_the_pictures(run_dir, train, val):
    few, many = (_page(run_dir, train, val, rows=rows)[0].count("maps of") for rows in (1, 5))
    assert 0 < few and many == 5 * few


def test_empty_run_names_every_stage_and_its_command(tmp_path, train, val):
    run = tmp_path / "a b"
    run.mkdir()
    _, page = _page(run, train, val)
    assert "missing" in page.ids and set(SECTIONS) <= set(page.ids)
    for command in ("tools.train_classifier", "tools.extract_seeds --keep_maps", "--mode=deterministic",
                    "tools.train_segmenter", "tools.evaluate", "tools.run_pipeline"):
        assert command in page.text
    assert "--dataset=shapes --preset=... --output_dir='" in page.text  # a path with a space, quoted
    assert "export.export_saved_model --run_dir='" in page.text


def test_begun_stage_shows_its_curve_and_is_named(run_dir, train, val):
    (run_dir / "segmenter" / "run.json").unlink()
    _, page = _page(run_dir, train, val)
    assert "Missing: Segmenter (segmenter/), begun but not finished" in page.text
    assert "tools.train_segmenter --dataset=shapes --preset=cpu" in page.text and "89 steps" in page.text


def test_splits_without_masks(run_dir):
    train, val = _split("train", 5, labelled=False), _split("val", 4, labelled=False)
    for name in ("seeds", "seeds_deterministic"):
        artifacts.write_run(run_dir / name, metrics=None)
    for path in (run_dir / "evaluation").iterdir():
        path.unlink()
    _, page = _page(run_dir, train, val)
    assert "ground truth of" not in page.text and "the images have no masks" in page.text


def test_broken_files_are_named(run_dir, train, val, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        report.write_report(tmp_path / "nowhere", train_split=train, val_split=val, title="")
    (run_dir / "result.json").write_text("{")
    with pytest.raises(ValueError, match="result.json"):
        report.write_report(run_dir, train_split=train, val_split=val, title="")


def test_time_is_unknown_where_files_were_copied(run_dir):
    (run_dir / "result.json").unlink()
    run = json.loads((run_dir / "classifier" / "run.json").read_text())
    artifacts.write_json(run_dir / "classifier" / "run.json", {**run, "finished": "2001-01-01T00:00:00Z"})
    read = stages.read(run_dir, "shapes").stages
    assert read["classifier"].seconds is None and 0 <= read["seeds"].seconds < 60


def test_chosen_images_cover_the_classes(run_dir, train):
    assert pictures.choose(run_dir, train, 4) == [(0, 1), (1, 2), (2, 1), (3, 2)]
    (run_dir / "seeds" / "train_0.png").unlink()
    assert pictures.choose(run_dir, train, 2) == [(1, 2), (2, 1)]  # images with seeds first


def test_mask_and_heat_have_the_palettes_colours():
    photo = np.full((2, 2, 3), 100, np.uint8)
    drawn = pictures.mask(photo, np.array([[0, 1], [2, 255]], np.uint8))
    expected = 25 + 0.75 * labels.palette()[[0, 1, 2, 255]].reshape(2, 2, 3)
    assert np.abs(drawn - expected).max() <= 0.5
    dark, bright = pictures.heat(photo, np.zeros((3, 3))), pictures.heat(photo, np.ones((3, 3)))
    assert dark.max() < 60 and bright[..., 0].min() > 180 and bright[..., 2].max() < bright[..., 0].min()


@pytest.mark.parametrize("size", [(1, 1), (10, 8000), (8000, 10), (375, 500)])
def test_thumbnails_of_any_shape(size):
    small = pictures.thumbnail(np.zeros((*size, 3), np.uint8), 100)
    assert max(small.shape[:2]) == 100 and min(small.shape[:2]) >= 1


@pytest.mark.parametrize("num_classes", [2, 21, 200])
def test_confusion_matrix_of_any_number_of_classes(num_classes):
    matrix = np.hstack([np.eye(num_classes, dtype=int) * 9, np.zeros((num_classes, 1), int)])
    matrix[-1] = 0  # a class that does not occur
    drawn = charts.confusion_matrix(matrix, [f"a rather long class name {i}" for i in range(num_classes)])
    Page(drawn)
    assert "no answer" not in drawn and len(drawn) < 60_000
    assert not charts.normalized(matrix)[-1].any()


def test_most_confused_by_hand():
    matrix = [[90, 10, 0, 0], [0, 1, 3, 4], [0, 0, 5, 0]]
    assert charts.most_confused(matrix, NAMES) == [(NAMES[1], NAMES[2], 3 / 8), (NAMES[0], NAMES[1], 0.1)]


def test_curves_follow_the_log():
    rows = [{"step": 1.0, "loss": 4.0}, {"step": 5.0, "loss": 2.0}, {"step": 10.0, "loss": 0.0}]
    drawn = charts.curves(rows, ["loss"], "<x>", width=158, height=146)
    Page(drawn)  # the frame is 100 x 100 at (46, 10), 4.0 is its top
    assert 'class="raw s0" points="56.0,10.0 96.0,60.0 146.0,110.0"' in drawn
    assert 'class="smooth s0" points="56.0,35.0 96.0,60.0 146.0,85.0"' in drawn


def test_small_words():
    assert [markup.percent(v) for v in (0.5, None, float("nan"))] == ["50.0", "–", "–"]
    assert [markup.duration(v) for v in (1.26, 59.6, 119, 600, 3720, None)] == [
        "1.3 s", "60 s", "119 s", "10 min", "1 h 02 min", "–"]


def test_picture_has_the_rows_asked_for(run_dir, train, val, tmp_path):
    path = report.write_picture(run_dir, train, tmp_path / "picture.png", rows=2, side=60)
    with Image.open(path) as image:  # photograph, map, mean, seeds, truth; no prediction of training images
        assert image.size == (6 + 5 * 66, 22 + 2 * (40 + 6))
    for i in range(5):
        labels.write_label(run_dir / "predictions" / f"train_{i}.png", np.zeros((20, 30), np.uint8))
    report.write_picture(run_dir, train, path, rows=2, val_split=val, side=60)
    with Image.open(path) as image:
        assert image.size == (6 + 6 * 66, 2 * (22 + 2 * (40 + 6)))
