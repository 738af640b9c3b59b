"""The classifier's training step: the contracted head against a plain classifier, and the paper's Table 4."""

import keras
import numpy as np
import tensorflow as tf

from ficklenet_tf import presets
from ficklenet_tf.maps import grad_cam
from ficklenet_tf.models import classifier, hidden_units, stochastic
from tools.benchmarks import inputs, localization, measure
from tools.benchmarks.tables import Goal, Plot, Table

FORMS = ("naive", "expanded", "contracted")


def run(options: measure.Options) -> list[Table]:
    """Returns the section's tables."""
    return [table4(options), whole_step(options)]


class Naive:
    """The head as the paper first puts it: a convolution with a mask of its own at each position, one by one.

    Args:
      head: a built `stochastic.StochasticHead`, whose weights are used.
    """

    def __init__(self, head: stochastic.StochasticHead) -> None:
        self.head, self.trainable_variables = head, head.trainable_variables
        self.kernel_size, self.rate, self.rescale = head.kernel_size, head.rate, head.rescale

    def units(self, x: tf.Tensor) -> tf.Tensor:
        """Returns the features, as `StochasticHead.units`."""
        return x

    def logits(self, x: tf.Tensor, selection: tf.Tensor) -> tf.Tensor:
        """Returns class logits `[b, classes]` float32, as `StochasticHead.logits`."""
        s, (height, width) = self.kernel_size, x.shape[1:3]
        masks = tf.reshape(hidden_units.windows_of(selection, height, width, s), [-1, height * width, s, s, 1])
        padded = tf.pad(x, [[0, 0], [s // 2] * 2, [s // 2] * 2, [0, 0]])

        def scores_at(position: tf.Tensor) -> tf.Tensor:
            row, column = position // width, position % width
            window = padded[:, row:row + s, column:column + s] * masks[:, position]
            return tf.tensordot(window, self.head.kernel, 3)

        scores = tf.map_fn(scores_at, tf.range(height * width), fn_output_signature=tf.float32)
        return tf.reduce_mean(scores, 0) + self.head.bias


def head_work(form: str, scale: str = "full", batch: int = 1) -> measure.Work:
    """Makes the work "one forward and one backward pass of the head", to its weights and to the features."""
    size = measure.SIZES[scale]
    head = localization.head_of(size, "contracted" if form == "naive" else form)
    layer = Naive(head) if form == "naive" else head
    features, numbers = inputs.features(size, batch), tf.range(2 * batch, dtype=tf.int32)

    @tf.function
    def step(x: tf.Tensor, numbers: tf.Tensor) -> list[tf.Tensor]:
        rng_seeds = tf.reshape(numbers, [batch, 2])
        selection = hidden_units.draw(rng_seeds, size.grid, size.grid, size.kernel_size, size.rate, False)
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(layer.logits(x, selection)**2)
        return [tf.reduce_sum(gradient) for gradient in tape.gradient(loss, [x, *head.trainable_variables])]

    return lambda: [value.numpy() for value in step(features, numbers)]


def one_map_work(form: str, scale: str = "full") -> measure.Work:
    """Makes the work "one Grad-CAM by the tape" of a form, one tag."""
    size = measure.SIZES[scale]
    head = localization.head_of(size, "contracted" if form == "naive" else form)
    layer, x = Naive(head) if form == "naive" else head, inputs.features(size)[0]
    bits = hidden_units.keep_bits(tf.constant([1, 2]), (size.grid**2, 1, size.kernel_size**2), size.rate)
    one_map = tf.function(lambda x, bits: grad_cam.tape(layer, x, tf.constant([0]), "stochastic")(bits))
    return lambda: one_map(x, bits).numpy()


def table4(options: measure.Options) -> Table:
    """The paper's Table 4 for the head, with a third row."""
    n, scale, rounds = options.size.num_maps, options.scale, min(options.rounds, 3)
    steps = measure.compare({form: head_work(form, scale) for form in FORMS}, rounds)
    maps = measure.compare({form: one_map_work(form, scale) for form in FORMS[:2]} |
                           {"contracted": localization.maps_work("closed_form", n, scale, tags=1)}, rounds)
    memory = {form: measure.peak_memory(f"{__name__}:head_work", {"form": form, "scale": scale})["peak_mib"]
              for form in FORMS}
    rows = [[form, 1000 * steps[form].median, steps[form].over(steps["contracted"]),
             maps[form].median * (1 if form == "contracted" else n), memory[form]] for form in FORMS]
    return Table(
        "The paper's Table 4, of the head alone, with a third row",
        ("head", "ms per training image", "times contracted", f"s per image of extraction (N = {n})", "peak MiB"),
        rows,
        f"{inputs.described(options)} From given features, batch 1, forward and backward to weights and features. "
        f"Maps of one tag; of naive and expanded one map was timed and multiplied by {n}, contracted is the closed "
        "form. The paper, on its machine, whole network, batch 10: naive 20 s per iteration, 2.98 s per image, "
        "8.4 GB; expanded 1.3 s, 0.21 s, 10.1 GB.",
        (Goal("head, contracted: memory", "expanded", 1 / 20, memory["contracted"] / memory["expanded"]),))


def step_work(head: str, scale: str = "full", weights: str = "", batch: int | None = None) -> measure.Work:
    """Makes the work "one training step of the whole network" with its stochastic head or a plain 1 x 1 classifier.

    Args:
      head: "contracted", or "plain": a 1 x 1 convolution to the classes and average pooling.
      scale: a key of `measure.SIZES`.
      weights: of the backbone.
      batch: images; None: the scale's.
    """
    size = measure.SIZES[scale]
    batch = batch or size.batch
    config = presets.ClassifierConfig(input_size=size.side, backbone=size.backbone, kernel_size=size.kernel_size,
                                      rate=size.rate)
    model, _ = classifier.build(config, size.classes, weights)
    variables = model.backbone.trainable_variables
    if head == "plain":
        plain = keras.layers.Conv2D(size.classes, 1)
        plain.build((None, size.grid, size.grid, size.channels))
        variables = [*variables, *plain.trainable_variables]
    else:
        variables = model.trainable_variables
    optimizer = keras.optimizers.Adam(1e-5)
    optimizer.build(variables)
    rng = np.random.default_rng(0)
    arguments = (tf.constant(rng.normal(0, 50, (batch, size.side, size.side, 3)), tf.float32),
                 tf.constant(rng.integers(0, 2, (batch, size.classes)), tf.float32),
                 tf.constant(rng.integers(0, 2**30, (batch, 2)), tf.int32))

    @tf.function
    def step(x: tf.Tensor, tags: tf.Tensor, rng_seeds: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            if head == "plain":
                logits = tf.reduce_mean(plain(model.backbone(x, training=True)), (1, 2))
            else:
                logits = model(x, training=True, rng_seeds=rng_seeds)
            loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(tags, logits))
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    return lambda: step(*arguments).numpy()


def whole_step(options: measure.Options) -> Table:
    """The step that trains everything, with the contracted head and with a plain classifier."""
    scale, weights, heads = options.scale, options.weights, ("plain", "contracted")
    memory = {head: measure.peak_memory(f"{__name__}:step_work", {"head": head, "scale": scale, "weights": weights},
                                        calls=1)["peak_mib"] for head in heads}
    times = measure.compare({head: step_work(head, scale, weights) for head in heads}, min(options.rounds, 3))
    ours, plain = times["contracted"], times["plain"]
    rows = [[head, times[head].median, times[head].over(plain), memory[head], memory[head] / memory["plain"]]
            for head in heads]
    return Table(
        f"Training step of the whole network, batch {options.size.batch}",
        ("classifier", "s per step", "times plain", "peak MiB", "times plain"), rows,
        f"{inputs.described(options)} Forward, backward and Adam on random images. Plain: a 1 x 1 convolution to the "
        "classes and average pooling.",
        (Goal("classifier step, contracted head: time", "plain 1 x 1 classifier", 1.03, ours.over(plain)),
         Goal("classifier step, contracted head: memory", "plain 1 x 1 classifier", 1.05,
              memory["contracted"] / memory["plain"])))


def growth(options: measure.Options) -> list[Table]:
    """Time and memory of the contracted and the expanded head's pass against the batch."""
    rows = []
    for form, batches in (("contracted", (1, 2, 4, 10, 40)), ("expanded", (1, 2, 4))):
        for batch in batches:
            case = measure.peak_memory(f"{__name__}:head_work", {"form": form, "scale": options.scale, "batch": batch})
            rows.append([form, batch, 1000 * case["seconds"][-1], case["peak_mib"]])
    return [Table("The head's forward and backward pass against the batch", ("head", "batch", "ms", "peak MiB"), rows,
                  inputs.described(options), plot=Plot("batch", ("ms", "peak MiB"), by="head"))]
