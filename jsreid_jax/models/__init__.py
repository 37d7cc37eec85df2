"""Flax linen modules: two streams that meet in a joint space, and their discriminator."""
