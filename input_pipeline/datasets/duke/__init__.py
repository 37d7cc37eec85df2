"""DukeMTMC with attributes: schema, folder reader (no TensorFlow), TFDS builder."""
