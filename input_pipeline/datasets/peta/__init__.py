"""PETA: schema, folder reader (no TensorFlow), TFDS builder."""
