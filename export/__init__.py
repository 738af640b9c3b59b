"""What is served: the SavedModel, its exporter and a client."""

from ficklenet_tf import quiet

quiet.load_tensorflow()
