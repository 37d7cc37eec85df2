"""The attribute stream: descriptions to points of the joint space."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from jsreid_jax.models.layers import Mlp, batch_norm
from jsreid_jax.types import Array


class AttributeStream(nn.Module):
    """An MLP on the attribute vector with BatchNorm and ReLU between, no noise input [paper].

    Its first layer keeps one token per attribute, so that an unknown attribute (0) adds nothing
    and every group has an embedding of its own: the mean of its attributes' tokens, which guides
    the image stream's attention (ours).
    """

    group_sizes: Sequence[int]
    widths: Sequence[int]
    axis_name: str | None = None
    dtype: Any = jnp.float32

    def setup(self):
        """Make the token table and the layers behind it."""
        self.tokens = self.param(
            "tokens",
            nn.initializers.normal(1.0 / np.sqrt(len(self.group_sizes))),
            (sum(self.group_sizes), self.widths[0]),
            jnp.float32,
        )
        self.token_norm = batch_norm(axis_name=self.axis_name, dtype=self.dtype)
        self.mlp = Mlp(self.widths[1:], axis_name=self.axis_name, dtype=self.dtype)

    def __call__(self, attributes: Array, *, train: bool) -> Array:
        """Embed descriptions (B, A), coded +1 / -1 / 0 unknown, as (B, D), not normalised."""
        x = attributes.astype(self.dtype) @ self.tokens.astype(self.dtype)
        x = self.token_norm(x, use_running_average=not train)
        return self.mlp(nn.relu(x), train=train)

    def value_tokens(self, attributes: Array) -> Array:
        """What descriptions (B, A) say of each group: (B, R, widths[0]), sums of signed tokens."""
        signed = attributes[:, :, None] * self.tokens
        return jnp.stack(
            [part.sum(axis=1) for part in jnp.split(signed, self._inner_ends(), axis=1)], axis=1
        )

    def known_groups(self, attributes: Array) -> Array:
        """(B, R) 1.0 where descriptions (B, A) say anything of a group."""
        parts = jnp.split(attributes != 0, self._inner_ends(), axis=1)
        return jnp.stack([part.any(axis=1) for part in parts], axis=1).astype(jnp.float32)

    def _inner_ends(self) -> np.ndarray:
        return np.cumsum(self.group_sizes)[:-1]

    def group_queries(self) -> Array:
        """One vector per group, (R, widths[0]): the mean of its attributes' tokens."""
        averages = np.zeros((len(self.group_sizes), sum(self.group_sizes)), np.float32)
        start = 0
        for group, size in enumerate(self.group_sizes):
            averages[group, start : start + size] = 1.0 / size
            start += size
        return jnp.asarray(averages) @ self.tokens
