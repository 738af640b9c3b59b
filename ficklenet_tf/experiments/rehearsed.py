"""The rehearsal of whole jobs: one step of each training, from photographs to the segmenter's last round."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator

from ficklenet_tf.errors import UserError
from ficklenet_tf.experiments.job import Job
from ficklenet_tf.models import precision
from ficklenet_tf.runs import layout
from ficklenet_tf.training import rehearsal


def rehearse(*jobs: Job, last: str | None = None, segmenters: bool = False) -> None:
    """Takes one step of each training; of the first job the segmenter's, too.

    Args:
      *jobs: of one run.
      last: directory below the run's of the run's last training: where that has been begun, nothing is done; None:
        that of the first job's segmenter.
      segmenters: whether every job's segmenter is trained, and not the first one's alone.
    """
    first = jobs[0]
    name = first.names.segmenter
    config = first.preset.segmenter
    last = last or (layout.retrained(name) if config.retrain_steps or config.simple_first else name)
    if layout.begun(first.run_dir / last):
        return
    with rehearsal.hidden(first.run_dir, "run") as directory:
        for job in jobs:
            few = _reduced(job, directory)
            with _said(job, segmenters):
                if few.needs_seeds or job is first:  # another one without seeds has no classifier of its own
                    few.localize()
                if few.needs_seeds:
                    few.make_seeds()
        for job in jobs if segmenters else jobs[:1]:
            with _said(job, segmenters):
                _reduced(job, directory).train_segmenter()


@contextlib.contextmanager
def _said(job: Job, several: bool) -> Iterator[None]:
    """Inside, a user's mistake names the system that it stops, where there are several."""
    try:
        yield
    except UserError as error:
        if several and job.system.title:
            raise UserError(f"{job.system.title}: {error}") from error
        raise


def _reduced(job: Job, directory: pathlib.Path) -> Job:
    """Returns the job on a few images, with a step of each training."""
    preset = job.preset
    classifier = precision.settled(preset.classifier, job.run_dir)
    segmenter = precision.settled(preset.segmenter, job.run_dir)
    count = max(rehearsal.images_of(classifier), rehearsal.batch_size(segmenter))
    split = rehearsal.one_tag_first(job.split, segmenter)
    few, strong = rehearsal.first_images(split, count), job.strong
    if strong is not None:  # some of both kinds: without a mask nothing is strong, see `objective.divide`
        strong = strong.with_masks()
        masked = set(strong.image_ids)
        kinds = [[i for i, image_id in enumerate(split.image_ids) if (image_id in masked) == own][:count]
                 for own in (True, False)]
        few, used = split.select(kinds[0] + kinds[1]), {split.image_ids[i] for i in kinds[0]}
        strong = strong.select([i for i, image_id in enumerate(strong.image_ids) if image_id in used]) if used else (
            rehearsal.first_images(strong, count))
    preset = dataclasses.replace(preset, classifier=rehearsal.one_step_of(classifier),
                                 segmenter=rehearsal.one_step(segmenter),
                                 affinity=dataclasses.replace(preset.affinity, steps=1))
    return dataclasses.replace(
        job, run_dir=directory, split=few, held_out=rehearsal.first_images(job.held_out, 2), strong=strong,
        saliency_dir=job.saliency, preset=preset)
