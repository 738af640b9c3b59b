"""Both trainings: what is learned from what, the losses, the loop, the rounds."""
