"""PA-100K: schema, folder reader (no TensorFlow), TFDS builder."""
