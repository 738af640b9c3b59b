"""Time and memory of the dense CRF's backends, as tables in Markdown.

python -m tools.benchmark_crf --photos=VOCdevkit/VOC2012/JPEGImages
"""

import functools
import json
import pathlib
import statistics
import subprocess
import sys
import time

import numpy as np
import tensorflow as tf
from absl import app, flags

from ficklenet_tf import crf, images

_PHOTOS = flags.DEFINE_string("photos", None, "Directory of photographs (JPEG); without it a made-up image is taken.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Timings of which the median is given.", lower_bound=1)
_MEMORY = flags.DEFINE_string("memory", None, "Inner use, backend:batch:height:width:classes: prints peak MiB.")


def made_up(batch, height, width, classes, photo_dir=None, seed=0):
    """Returns images, from photographs where there are some, and logits of blobs with noise.

    Args:
      batch: number of images.
      height: their height in pixels.
      width: their width in pixels.
      classes: number of classes.
      photo_dir: directory of JPEGs, or None.
      seed: of the logits.

    Returns:
      `[batch, height, width, 3]` uint8 and `[batch, height, width, classes]` float32, NumPy.
    """
    random = np.random.default_rng(seed)

    def blobs(channels, cell):
        coarse = random.normal(size=(batch, -(-height // cell), -(-width // cell), channels)).astype(np.float32)
        return tf.image.resize(coarse, (height, width)).numpy()

    if photo_dir is None:
        photos = np.clip(128 + 60 * blobs(3, 40) + random.normal(0, 6, (batch, height, width, 3)), 0, 255)
    else:
        paths = sorted(pathlib.Path(photo_dir).glob("*.jpg"))
        paths = paths[:: max(1, len(paths) // batch)][:batch]
        photos = np.stack([tf.image.resize(images.decode(tf.io.read_file(str(path))), (height, width)).numpy()
                           for path in paths])
    return photos.astype(np.uint8), 3 * blobs(classes, 16) + random.normal(
        0, 0.3, (batch, height, width, classes)).astype(np.float32)


def medians(functions, rounds):
    """Times functions in turn, after a first call of each; returns two medians of each, in seconds.

    By the clock, and of computing, all cores together: other jobs beside this one lengthen that less.
    """
    for function in functions.values():
        function()
    times = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start, worked = time.perf_counter(), time.process_time()
            function()
            times[name].append((time.perf_counter() - start, time.process_time() - worked))
    return {name: tuple(map(statistics.median, zip(*pairs, strict=True))) for name, pairs in times.items()}


def compiled(spec, backend, xla=False):
    """Returns `mean_field` as one graph for any shape, or with `xla` for each shape."""
    shapes = None if xla else (tf.TensorSpec([None] * 3 + [3], tf.uint8), tf.TensorSpec([None] * 4))
    graph = tf.function(lambda photos, logits: crf.mean_field(photos, logits, spec, backend), shapes, jit_compile=xla)
    return lambda photos, logits: graph(photos, logits).numpy()


def time_permutohedral(photo_dir, rounds):
    """Full size, `DSRG_TEST`: the lattice beside pydensecrf; returns Markdown lines."""
    lattice = compiled(crf.DSRG_TEST, "permutohedral")
    lines = ["| size | classes | images | pydensecrf, ms/image | permutohedral, ms/image (all cores' time) | ratio |"
             " labels differ |", "|---|---|---|---|---|---|---|"]
    reference = functools.partial(crf.mean_field, spec=crf.DSRG_TEST, backend="pydensecrf")
    for batch in (1, 8):
        for height, width in ((321, 321), (375, 500)):
            for classes in (21, 3):
                photos, logits = made_up(batch, height, width, classes, photo_dir)
                both = {"pydensecrf": lambda p=photos, u=logits: reference(p, u).numpy(),
                        "permutohedral": lambda p=photos, u=logits: lattice(p, u)}
                wrong = (both["pydensecrf"]().argmax(-1) != both["permutohedral"]().argmax(-1)).sum()
                found = medians(both, rounds if batch == 1 else max(1, rounds // 2))
                theirs, ours = (1000 * found[name][0] / batch for name in ("pydensecrf", "permutohedral"))
                worked = 1000 * found["permutohedral"][1] / batch
                lines.append(f"| {height} x {width} | {classes} | {batch} | {theirs:.0f} | {ours:.0f} ({worked:.0f}) |"
                             f" {ours / theirs:.2f} | {wrong} of {batch * height * width} |")
    return lines


def time_exact(photo_dir, rounds):
    """A batch of 10 at 41 x 41, `SEC_TRAIN`: dense kernels beside the lattices; returns Markdown lines."""
    functions = {"exact, XLA": compiled(crf.SEC_TRAIN, "exact", xla=True), "exact": compiled(crf.SEC_TRAIN, "exact"),
                 "permutohedral": compiled(crf.SEC_TRAIN, "permutohedral"),
                 "pydensecrf": lambda p, u: crf.mean_field(p, u, crf.SEC_TRAIN, "pydensecrf").numpy()}
    lines = ["| classes | " + " | ".join(f"{name}, ms/image (all cores' time)" for name in functions) + " |",
             "|---|---|---|---|---|"]
    for classes in (21, 3):
        photos, logits = made_up(10, 41, 41, classes, photo_dir)
        found = medians({name: lambda f=function, p=photos, u=logits: f(p, u) for name, function in functions.items()},
                        rounds)
        cells = [f"{100 * clock:.1f} ({100 * worked:.1f})" for clock, worked in found.values()]
        lines.append(f"| {classes} | {' | '.join(cells)} |")
    return lines


def measure_memory(case, photo_dir):
    """Runs a case twice; returns by how many MiB the process's peak grew. Meant for a fresh process."""
    backend, *numbers = case.split(":")
    photos, logits = made_up(*map(int, numbers), photo_dir)
    spec = crf.SEC_TRAIN if backend == "exact" else crf.DSRG_TEST
    run = compiled(spec, backend) if backend != "pydensecrf" else lambda p, u: crf.mean_field(p, u, spec, backend)
    run(photos[:1, :8, :8], logits[:1, :8, :8])
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak starts afresh (Linux)
    before = _resident("VmRSS")
    for _ in range(2):
        run(photos, logits)
    return _resident("VmHWM") - before


def _resident(name):
    """A line of this process's status, in MiB."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def memory(photo_dir):
    """Peak memory of each backend, each in a fresh process; returns Markdown lines."""
    lines = ["| backend | images | size | classes | peak, MiB above the loaded process |", "|---|---|---|---|---|"]
    for case in ("pydensecrf:1:375:500:21", "permutohedral:1:375:500:21", "pydensecrf:1:375:500:3",
                 "permutohedral:1:375:500:3", "permutohedral:8:375:500:21", "pydensecrf:10:41:41:21",
                 "exact:10:41:41:21"):
        command = [sys.executable, "-m", "tools.benchmark_crf", f"--memory={case}"]
        if photo_dir:
            command.append(f"--photos={photo_dir}")
        answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        backend, batch, height, width, classes = case.split(":")
        peak = json.loads(answer.splitlines()[-1])
        lines.append(f"| {backend} | {batch} | {height} x {width} | {classes} | {peak:.0f} |")
    return lines


def crf_section(photo_dir, rounds):
    """All tables; returns Markdown."""
    tables = (time_permutohedral(photo_dir, rounds), time_exact(photo_dir, rounds), memory(photo_dir))
    return "\n\n".join("\n".join(table) for table in tables)


def main(_):
    """Prints the tables."""
    if _MEMORY.value:
        print(json.dumps(measure_memory(_MEMORY.value, _PHOTOS.value)))
    else:
        print(crf_section(_PHOTOS.value, _ROUNDS.value))


if __name__ == "__main__":
    app.run(main)
