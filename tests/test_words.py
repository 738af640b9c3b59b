"""Words that the tools know without TensorFlow are those of the library's tables."""

from ficklenet_tf import configs, crf, distribution
from ficklenet_tf.data import datasets
from ficklenet_tf.experiments import studies
from ficklenet_tf.models import precision
from ficklenet_tf.seeds import crf_choice
from ficklenet_tf.serving import formats, servable, server_files
from ficklenet_tf.training import objective
from tools import words
from tools.benchmarks import measure


def test_words_are_the_tables():
    assert words.DATASETS == datasets.DATASETS == tuple(words.DEFAULT_SPLITS)
    assert words.STRATEGIES == distribution.STRATEGIES
    assert words.CRFS == tuple(crf.SPECS) and words.AUTO == crf_choice.AUTO == precision.AUTO
    assert words.SUPERVISIONS == objective.KINDS
    assert words.EXPORTS == ("tf_saved_model", *formats.FILES) and words.SCALES == tuple(measure.SIZES)
    assert (1.0, *words.LIMITS) == studies.LIMITS and words.REFERENCE == studies.LARGE
    assert (words.MAX_PIXELS, words.MAX_BATCH) == (servable.MAX_PIXELS, servable.MAX_BATCH)
    assert words.BASE_PATH == server_files.BASE_PATH
    assert configs.PRECISIONS == precision.PRECISIONS
