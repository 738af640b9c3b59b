"""What tests/seeds/test_crf_choice.py and tests/test_pipeline.py hold the choice of the CRF against."""

from ficklenet_tf import crf
from ficklenet_tf.data import images, labels
from ficklenet_tf.evaluation import metrics, prediction
from ficklenet_tf.seeds import crf_choice


def of_candidates(run_dir, seeds_name, split):
    """Returns {candidate: mIoU of the run's segmenter with the seeds run_dir/seeds_name of a split's photographs}."""
    predictor = prediction.load_segmenter(run_dir)
    found = {}
    for key in crf_choice.CANDIDATES:
        pairs = [(labels.read_label(run_dir / seeds_name / f"{image_id}.png"),
                  predictor.labels(images.decode_image(split[i]["image"]), crf.SPECS[key]))
                 for i, image_id in enumerate(split.image_ids)]
        found[key] = metrics.scores(sum(metrics.confusion(*pair, len(split.class_names)) for pair in pairs))["miou"]
    return found
