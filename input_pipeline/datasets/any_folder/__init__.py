"""Any folder of images with a CSV file and a schema file: reader (no TensorFlow), TFDS builder."""
