"""The binaries: they turn flags into calls of the library. One per stage, and some that run several."""

from ficklenet_tf.runs import quiet

quiet.hush()
