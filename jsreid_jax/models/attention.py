"""Attribute-guided attention: one map over the image per attribute group.

The paper has attribute-guided attention; its exact form could not be verified, these two are ours.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jsreid_jax.models.layers import batch_norm
from jsreid_jax.types import Array

# Adam moves a parameter by about the learning rate: with this a group settles on the places that
# matter to it within the first epochs of a short run.
_PLACE_SCALE = 10.0


class GuidedAttention(nn.Module):
    """Every group looks at the image with a query vector that the attribute stream gives it.

    Scaled dot-product attention over the h * w positions, plus a learned score of every place for
    every group: where a thing is worn is known long before what it looks like. Every pooled group
    feature must predict its own group, so that "hat" learns to look at heads.
    """

    group_sizes: Sequence[int]
    width: int
    axis_name: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, feature_map: Array, group_queries: Array, *, train: bool
    ) -> tuple[Array, Array, Array]:
        """Pool the feature map once per group.

        Args:
            feature_map: (B, h, w, C).
            group_queries: (R, T) from the attribute stream.
            train: whether BatchNorm uses (and updates from) the batch.

        Returns:
            pooled (B, R, width), group_logits (B, A) and the maps (B, R, h, w), each summing to 1.
        """
        batch, height, width, _ = feature_map.shape
        positions = feature_map.reshape(batch, height * width, -1)
        # Each place by itself: what an early stage sees there is put together, not spread.
        positions = nn.Dense(2 * self.width, dtype=self.dtype, name="hidden")(positions)
        norm = batch_norm(axis_name=self.axis_name, dtype=self.dtype, name="hidden_norm")
        positions = nn.relu(norm(positions, use_running_average=not train))
        keys = nn.Dense(self.width, dtype=self.dtype, name="key")(positions)
        values = nn.Dense(self.width, dtype=self.dtype, name="value")(positions)
        queries = nn.Dense(self.width, dtype=self.dtype, name="query")(group_queries)
        scores = jnp.einsum("rt,bpt->brp", queries, keys) / np.sqrt(self.width)
        place = self.param(
            "place", nn.initializers.zeros, (len(self.group_sizes), height * width), jnp.float32
        )
        scores = scores.astype(jnp.float32) + _PLACE_SCALE * place
        maps = jax.nn.softmax(scores, axis=-1)
        pooled = jnp.einsum("brp,bpt->brt", maps.astype(self.dtype), values)
        # The embedding uses what is pooled, but where to look is learned from the own group alone:
        # else a map of "hat" serves whatever the embedding has use for.
        fused = jnp.einsum("brp,bpt->brt", jax.lax.stop_gradient(maps).astype(self.dtype), values)
        group_of_attribute = np.repeat(np.arange(len(self.group_sizes)), self.group_sizes)
        kernel = self.param(
            "group_kernel",
            nn.initializers.lecun_normal(in_axis=1, out_axis=0),
            (len(group_of_attribute), self.width),
            jnp.float32,
        )
        bias = self.param(
            "group_bias", nn.initializers.zeros, (len(group_of_attribute),), jnp.float32
        )
        own_feature = nn.relu(pooled)[:, group_of_attribute].astype(jnp.float32)
        group_logits = jnp.einsum("bat,at->ba", own_feature, kernel) + bias
        return fused, group_logits, maps.reshape(batch, -1, height, width)


class ConditionedAttention(nn.Module):
    """A description's own values decide where to look: a score of a pair, to re-rank with.

    Of every group the tokens of the values that the description has make the query vector; the
    feature it pools is compared with what the same tokens expect to find. Groups that the
    description leaves open take no part.
    """

    width: int
    dtype: Any = jnp.float32

    def setup(self):
        """Make the projections."""
        self.keys_and_values = nn.Dense(2 * self.width, dtype=self.dtype)
        self.queries_and_expected = nn.Dense(2 * self.width, dtype=self.dtype)

    def image_memory(self, feature_map: Array) -> Array:
        """What of images' feature maps (G, h, w, C) a re-ranking keeps: (G, h * w, 2 * width)."""
        positions = feature_map.reshape(feature_map.shape[0], -1, feature_map.shape[-1])
        return self.keys_and_values(positions)

    def description_memory(self, tokens: Array) -> Array:
        """The same of descriptions' group tokens (Q, R, T): (Q, R, 2 * width)."""
        return self.queries_and_expected(tokens)

    def scores(self, descriptions: Array, known: Array, images: Array) -> Array:
        """Scores of pairs by one batched product.

        Args:
            descriptions: (Q, R, 2 * width), from `description_memory`.
            known: (Q, R) 1.0 where the description says anything of the group.
            images: (Q, G, P, 2 * width) own images of each description, or (G, P, 2 * width) for
                the same of all, from `image_memory`.

        Returns:
            (Q, G) float32.
        """
        return jax.vmap(self._scores_of_one, in_axes=(0, 0, 0 if images.ndim == 4 else None))(
            descriptions, known, images
        )

    def maps(self, descriptions: Array, images: Array) -> Array:
        """Where each description looks in its own image: (B, R, P), each row sums to 1.

        descriptions: (B, R, 2 * width). images: (B, P, 2 * width).
        """
        own = jax.vmap(self._maps_of_one)(descriptions, images[:, None])
        return own[:, 0]

    def _maps_of_one(self, description: Array, images: Array) -> Array:
        queries, _ = jnp.split(description, 2, axis=-1)
        keys, _ = jnp.split(images, 2, axis=-1)
        looks = jnp.einsum("rt,gpt->grp", queries, keys) / np.sqrt(self.width)
        return jax.nn.softmax(looks.astype(jnp.float32), axis=-1)

    def _scores_of_one(self, description: Array, known: Array, images: Array) -> Array:
        maps = self._maps_of_one(description, images)
        _, expected = jnp.split(description, 2, axis=-1)
        _, values = jnp.split(images, 2, axis=-1)
        # What is pooled, compared: the product with the values first, so that no (G, R, width) is
        # ever made.
        agreement = jnp.einsum("rt,gpt->grp", expected, values) / np.sqrt(self.width)
        found = (maps * agreement.astype(jnp.float32)).sum(axis=-1)
        return (found * known).sum(axis=-1) / jnp.maximum(known.sum(), 1.0)
