"""The synthesiser: image features of people whom nobody has seen [SAL]."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from jsreid_jax.models.layers import Mlp
from jsreid_jax.types import Array

NOISE_WIDTH = 64


class Synthesiser(nn.Module):
    """Descriptions and noise to image features, an MLP with BatchNorm and ReLU between [SAL].

    The features are those that the image stream projects. Widths are ours.
    """

    widths: Sequence[int] = (128, 256)
    axis_name: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, description: Array, noise: Array, *, num_features: int, train: bool
    ) -> Array:
        """Features (B, num_features) for descriptions (B, A) and noise (B, NOISE_WIDTH)."""
        widths = (*self.widths, num_features)
        mlp = Mlp(widths, axis_name=self.axis_name, dtype=self.dtype, name="mlp")
        return mlp(jnp.concatenate([description, noise], axis=-1), train=train)


def draw_from_prior(order: Array, description: Array, group_sizes: Sequence[int]) -> Array:
    """Descriptions (B, A) whose groups come each from another row: a product of marginals.

    So the training set's own frequencies of every group are the prior (ours; [SAL] too samples from
    the training prior). order: (B, R) random numbers; those of a group say which row comes where.
    """
    rows = jnp.argsort(order, axis=0)[:, np.repeat(np.arange(len(group_sizes)), group_sizes)]
    return jnp.take_along_axis(description, rows, axis=0)
