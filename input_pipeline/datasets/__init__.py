"""One TFDS builder per data set; importing this package imports no TensorFlow."""
