"""Data: attribute schema, data set readers, the tf.data pipeline and the rendered default.

TensorFlow lives in this package and Flax does not. The package itself imports nothing, so that the
renderer's worker processes start without TensorFlow.
"""
