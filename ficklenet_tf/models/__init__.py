"""The networks: backbones, the stochastic head, the classifier and the segmenter."""
