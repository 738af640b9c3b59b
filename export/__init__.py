"""What is served: the SavedModel, its exporter and a client."""
