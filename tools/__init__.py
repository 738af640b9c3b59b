"""The binaries: one a stage, each parses flags and calls the library."""

from ficklenet_tf.runs import quiet

quiet.load_tensorflow()
