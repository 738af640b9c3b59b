"""FickleNet (Lee et al., CVPR 2019) in TensorFlow: from image-level tags to a served segmenter."""
