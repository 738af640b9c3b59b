"""What a person runs to serve: the exporter, the rollout of versions, and a client that needs no TensorFlow."""
