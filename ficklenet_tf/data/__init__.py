"""Photographs, label images and data sets; the input pipelines of both trainings."""
