"""Market-1501 with attributes: the label file (no TensorFlow) and the TFDS reader."""
