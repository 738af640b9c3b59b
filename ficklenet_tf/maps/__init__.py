"""From a trained classifier and a photograph to localization maps."""
