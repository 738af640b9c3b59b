"""The source of docs/tour.ipynb in percent format; `python -m tools.make_tour` executes it.

It is plain Python too: `python docs/tour.py`.
"""
# ruff: noqa: E402  (a notebook imports where it needs)

# %% [markdown]
# # A tour of FickleNet for TensorFlow
#
# A classifier learns from tags alone: "this photograph shows a dog". Where the dog is, nobody said. This notebook goes
# the whole way from such a classifier to masks, one idea per cell. Nothing is trained: it looks at a finished run.
#
# `make demo` makes that run in about ten minutes. For a run on photographs of your own set `FICKLENET_RUN` to its
# directory, `FICKLENET_DATASET` to `folder` and `FICKLENET_DATA_DIR` to the directory with the photographs.

# %%
import os
import pathlib
import sys

if not pathlib.Path("ficklenet_tf").is_dir():  # Jupyter starts in docs/
    os.chdir("..")
sys.path.insert(0, os.getcwd())
RUN = os.environ.get("FICKLENET_RUN", "runs/demo")
if not pathlib.Path(RUN, "segmenter", "run.json").exists():
    raise FileNotFoundError(f"{RUN}: expected a finished run, found none; run `make demo` first, or set FICKLENET_RUN")

# %%
import logging

import matplotlib.pyplot as plt
import numpy as np

import ficklenet_tf
from ficklenet_tf.runs import quiet

quiet.load_tensorflow()
logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns of many small graphs; here they are right


# %%
def show(pictures, side=1.6):
    """Draws a row of pictures, a dict of heading -> `[h, w, 3]` uint8."""
    figure, axes = plt.subplots(1, len(pictures), figsize=(side * len(pictures), side + 0.3), dpi=80, squeeze=False)
    for axis, (heading, picture) in zip(axes[0], pictures.items(), strict=True):
        axis.imshow(picture)
        axis.set_title(heading, fontsize=9)
        axis.axis("off")
    figure.tight_layout(pad=0.3)
    plt.show()


# %% [markdown]
# ## A photograph and its tags
#
# It comes from the held-out split: no network has learned from it. The demo's photographs are drawn. Each creature has
# a small head, whose pattern tells its class, and a large body, which hardly does. So a classifier can do its work by
# looking at heads alone. That is the problem: a mask needs the body too.

# %%
from ficklenet_tf.data import datasets, images, labels
from ficklenet_tf.report.pictures import SPREAD_SCALE, heat, mask

split = datasets.load_split(os.environ.get("FICKLENET_DATASET", "shapes"), "val",
                            data_dir=os.environ.get("FICKLENET_DATA_DIR"))
example = split[min(4, len(split) - 1)]  # try others: in some of them the networks err
photograph = images.decode_image(example["image"])
tags = [split.class_names[number + 1] for number in np.flatnonzero(example["tags"])]
print(f"{len(split)} photographs of {', '.join(split.class_names[1:])}; this one: {', '.join(tags)}")
show({"photograph": photograph, "truth": mask(photograph, labels.decode_label(example["label"]))})

# %% [markdown]
# ## Single maps: Grad-CAM on a few hidden units
#
# `localize` asks the classifier where a tag is. For each map it drops most hidden units at random (nine in ten, a new
# choice at each place of the feature map). Then it asks by Grad-CAM which places raise the score of the class. Each
# map is divided by its own maximum: yellow is 1, dark violet is 0. No two maps are alike.

# %%
MOST = 20 if os.environ.get("FICKLENET_TOUR") == "tiny" else 1000  # the greatest number of maps in this notebook
N = min(200, MOST)
classifier = ficklenet_tf.load_classifier(RUN)
maps = ficklenet_tf.localize(classifier, photograph, tags, num_maps=N, seed=0)
print(f"{maps.num_maps} maps; the first ones are kept: {maps.samples.shape} (maps, height, width, tags)")
for number, tag in enumerate(tags):
    show({f"{tag}, map {i + 1}": heat(photograph, sample[..., number]) for i, sample in enumerate(maps.samples)})

# %% [markdown]
# ## All maps together
#
# Of all N maps three pictures are kept. The mean is high where many maps agree. The maximum is high where at least one
# map found the class, so it reaches farther. The spread (standard deviation) is high where the maps do not agree.

# %%
for number, tag in enumerate(tags):
    show({f"{tag}, mean": heat(photograph, maps.mean[..., number]), "maximum": heat(photograph, maps.max[..., number]),
          "spread": heat(photograph, maps.std[..., number] * SPREAD_SCALE)})

# %% [markdown]
# ## How many maps?
#
# With N the mean map comes nearer to the mean of very many, here 1000 maps of other random choices (`seed=1`). The
# distance is `sum |mean of N - mean of 1000| / sum (mean of 1000)`. The paper takes N = 200.

# %%
counts = [n for n in (1, 3, 10, 30, 100, 200) if n < MOST]
many = ficklenet_tf.localize(classifier, photograph, tags, num_maps=MOST, seed=1).mean
means = {n: ficklenet_tf.localize(classifier, photograph, tags, num_maps=n, seed=0).mean for n in counts}
distances = [np.abs(means[n] - many).sum() / many.sum() for n in counts]
print("distance:", *(f"N = {n}: {distance:.3f}" for n, distance in zip(counts, distances, strict=True)), sep="  ")
show({f"N = {n}": heat(photograph, means[n][..., 0]) for n in counts})

# %% [markdown]
# The grey line falls by half when N is four times as large, as the error of an average of independent numbers does.

# %%
figure, axes = plt.subplots(figsize=(3.6, 2.4), dpi=80, layout="constrained")
axes.loglog(counts, distances[0] / np.sqrt(counts), color="grey", label="1 / sqrt(N)")
axes.loglog(counts, distances, "o", label="this photograph")
axes.set(xlabel="N", ylabel=f"distance to N = {MOST}")
axes.legend(fontsize=8)
plt.show()

# %% [markdown]
# ## Beside it: plain Grad-CAM
#
# With all hidden units nothing is random and there is one map (`mode="deterministic"`). The second picture asks the
# same network in that way. The third one asks a network that was also trained with all its hidden units, as usual. The
# paper compares with that one: it looks hardly farther than the part that tells the class.

# %%
usual = ficklenet_tf.load_classifier(RUN, "classifier_deterministic")
plain = [ficklenet_tf.localize(network, photograph, tags, mode="deterministic") for network in (classifier, usual)]
for number, tag in enumerate(tags):
    show({f"{tag}, mean of {N}": heat(photograph, maps.mean[..., number]),
          "all units": heat(photograph, plain[0].mean[..., number]),
          "trained with all": heat(photograph, plain[1].mean[..., number])})

# %% [markdown]
# ## Seeds: the threshold theta
#
# Seeds are the labels that the segmenter will learn from. A pixel goes to a class where any of its maps, so their
# maximum, is above theta. Where two classes claim it, the higher mean wins. A smaller theta gives more pixels, and
# more wrong ones. Dark is background. Pale is "no answer": the segmenter learns nothing there.

# %%
from ficklenet_tf.seeds import extraction
from ficklenet_tf.seeds.evidence import Evidence


def seeds(**settings):
    """Returns the picture of the seeds that `maps` give with these settings of `presets.SeedsConfig`."""
    config = ficklenet_tf.presets.SeedsConfig(**settings)
    return mask(photograph, extraction.make_seed(Evidence(example["image_id"], photograph, maps, config)))


show({f"theta {theta:g}": seeds(theta=theta) for theta in (0.2, 0.35, 0.5, 0.7, 0.9)})

# %% [markdown]
# ## Seeds: the background's cue
#
# What no class claims is background, but only where the mean maps of all classes are below the threshold of the cue.

# %%
thresholds = (0.01, 0.05, 0.1, 0.2)
show({f"cue {threshold:g}": seeds(theta=0.7, background_threshold=threshold) for threshold in thresholds})

# %% [markdown]
# ## Seeds: refined by the dense CRF
#
# Thresholds know nothing of the photograph. The dense CRF does: it wants the same label for pixels of like colour that
# lie near each other. With `refine="crf"` it decides in place of theta and cue, from the mean maps and one score for
# the background. The demo takes 0.01. In a single photograph such seeds can be wrong; the segmenter learns from many.

# %%
scores = (0.003, 0.01, 0.03, 0.1)
show({f"score {score:g}": seeds(refine="crf", refine_low=score, refine_high=score, refine_scale=1.0)
      for score in scores})

# %% [markdown]
# ## Masks
#
# The segmenter has learned from the seeds of all training photographs. It needs no tags: it gives each pixel a
# probability for each class.

# %%
model = ficklenet_tf.load_segmenter(RUN)
probs = model(photograph)
print(f"{probs.shape} (height, width, classes)")
show({name: heat(photograph, probs[..., model.class_names.index(name)]) for name in ["background", *tags]})

# %% [markdown]
# `.labels()` gives the class of each pixel, refined by the dense CRF; `None` leaves the CRF out. `.overlay()` lays the
# colours of the labels over the photograph.

# %%
answer = model.labels(photograph)
show({"labels, no CRF": mask(photograph, model.labels(photograph, None)), "labels": mask(photograph, answer),
      "overlay": model.overlay(photograph)})
print("found:", ", ".join(model.class_names[class_id] for class_id in np.unique(answer) if class_id))

# %% [markdown]
# ## The dense CRF alone
#
# It refines the logits of any model. The ones here are made up: the labels from above under much noise, so that most
# pixels are wrong. The noise of one pixel says nothing of that of its neighbours, but their colours belong together.

# %%
from ficklenet_tf import crf

noise = np.random.default_rng(0).normal(size=probs.shape)
logits = (np.eye(probs.shape[-1])[answer] + 2 * noise).astype(np.float32)
refined = crf.mean_field(photograph[None], logits[None], crf.DSRG_TEST)[0]  # [h, w, classes] probabilities
before, after = (np.argmax(values, -1).astype(np.uint8) for values in (logits, refined))
show({"photograph": photograph, "before": mask(photograph, before), "after": mask(photograph, after)})
print(f"wrong pixels: {100 * (before != answer).mean():.1f} % before, {100 * (after != answer).mean():.1f} % after")

# %% [markdown]
# It works in iterations: in each one, every pixel hears what the others say. One call takes a batch, and each image in
# it may have its own number of iterations, here 0 (the noise as it is) to 10.

# %%
iterations = np.arange(11)
batch = [np.repeat(array[None], len(iterations), axis=0) for array in (photograph, logits)]
answers = np.argmax(crf.mean_field(*batch, crf.DSRG_TEST, iterations=iterations), -1).astype(np.uint8)
show({f"iteration {count}": mask(photograph, answers[count]) for count in (1, 2, 3, 10)})
wrong = 100 * (answers != answer).mean((1, 2))
print("wrong pixels, in %:", *(f"{share:.1f}" for share in wrong))

# %% [markdown]
# ## Where to go next
#
# - [README.md](../README.md): photographs of your own, VOC 2012, serving.
# - [docs/architecture.md](architecture.md): what each file does, along one image's way.
# - [docs/paper.md](paper.md): each section, equation and table of the paper, its file and its command.
# - [CONTRIBUTING.md](../CONTRIBUTING.md): how to add a backbone, a head, a refinement or a loss.
