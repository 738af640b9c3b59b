"""Predictions of a split, and their scores."""
