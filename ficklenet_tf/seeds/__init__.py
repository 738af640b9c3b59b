"""From localization maps to seeds: thresholds, background cues, refinement."""
