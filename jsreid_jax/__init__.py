"""The method in pure JAX and Flax: models, losses, the alternating step, checkpoints, retrieval.

Nothing here imports TensorFlow or `input_pipeline`: arrays come in, arrays go out.
"""
