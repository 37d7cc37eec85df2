"""Market-1501 with attributes: schema, folder reader (no TensorFlow), TFDS builder."""
