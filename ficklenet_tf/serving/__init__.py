"""The SavedModel: its signatures, what stands beside it, how it is checked. `export/` has what a person runs."""
