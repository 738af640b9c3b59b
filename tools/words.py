"""Words that flags may say, known without TensorFlow, so that --help needs none of it.

The library's own tables have the same ones: tests/test_words.py.
"""

from ficklenet_tf import configs

DATASETS = ("shapes", "voc", "folder")
DEFAULT_SPLITS = {"shapes": ("train", "val"), "voc": ("train_aug", "val"), "folder": ("train", "val")}
STRATEGIES = ("none", "mirrored", "multi_worker")
CRFS = ("none", "sec", "dsrg", "dsrg_relative", "deeplab", "deeplab_relative", "deeplab_v2")
AUTO = configs.AUTO
SUPERVISIONS = ("weak", "semi", "full")
EXPORTS = ("tf_saved_model", "onnx", "openvino", "litert")
SCALES = ("full", "tiny")  # of measurements
SECTIONS = ("localization", "head", "crf", "segmenter", "pipeline", "serving", "scaling", "peers")  # of the benchmark
TABLES, FIGURES = ("1", "2", "3", "4", "5", "6", "7"), ("1", "3", "4", "5", "6")
STUDIES = ("rescale", "uncertainty", "convergence")
LIMITS, REFERENCE = (0.4, 0.3, 0.26), 20000  # of the studies uncertainty and convergence
MAX_PIXELS, MAX_BATCH, BASE_PATH = 2**24, 32, "/models/ficklenet"  # of a served model
