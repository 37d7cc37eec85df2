"""Attribute-guided attention: one map over the image per attribute group.

The paper has attribute-guided attention; its exact form could not be verified, these two are ours.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jsreid_jax.models.layers import batch_norm
from jsreid_jax.types import Array

# Adam moves a parameter by about the learning rate: with this a group settles on the places that
# matter to it within the first epochs of a short run.
_PLACE_SCALE = 10.0


def region_prior(
    regions: Sequence[tuple[float, float]], size: tuple[int, int], strength: float
) -> np.ndarray:
    """What is added to scores before anything is learned: (R, h * w) float32.

    0 in the rows whose middle lies in a group's region (or nearest to it, where a coarse map has
    none inside), -strength in the others. Ours.

    regions: (R, 2) first and last share of the height. size: (h, w).
    """
    height, width = size
    middle = (np.arange(height) + 0.5) / height
    first, last = np.array(regions)[:, :, None].transpose(1, 0, 2)
    outside = np.maximum(np.maximum(first - middle, middle - last), 0.0)
    prior = np.where(outside == outside.min(axis=1, keepdims=True), 0.0, -strength)
    return np.repeat(prior, width, axis=1).astype(np.float32)


class GroupOutputs(NamedTuple):
    """What guided attention makes of images.

    pooled: (B, R, width), every group's feature of the last stage. logits: (B, A), every group's
    attributes predicted from it. map_logits: (B, A), the same from what the maps saw where they
    were learned. maps: (B, R, h, w), each sums to 1.
    """

    pooled: Array
    logits: Array
    map_logits: Array
    maps: Array


class _HiddenLayer(nn.Module):
    """A hidden layer of each place by itself: what is seen there is put together, not spread."""

    width: int
    axis_name: str | None
    dtype: Any

    @nn.compact
    def __call__(self, feature_map: Array, *, train: bool) -> Array:
        """Map (B, h, w, C) to (B, h * w, width)."""
        places = feature_map.reshape(feature_map.shape[0], -1, feature_map.shape[-1])
        places = nn.Dense(self.width, dtype=self.dtype, name="hidden")(places)
        norm = batch_norm(axis_name=self.axis_name, dtype=self.dtype, name="norm")
        return nn.relu(norm(places, use_running_average=not train))


class _GroupPrediction(nn.Module):
    """Every group's attributes from its own pooled feature: (B, R, width) -> (B, A) float32."""

    group_sizes: Sequence[int]

    @nn.compact
    def __call__(self, pooled: Array) -> Array:
        group_of_attribute = np.repeat(np.arange(len(self.group_sizes)), self.group_sizes)
        count, width = len(group_of_attribute), pooled.shape[-1]
        initial = nn.initializers.lecun_normal(in_axis=1, out_axis=0)
        kernel = self.param("kernel", initial, (count, width), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (count,), jnp.float32)
        own = nn.relu(pooled)[:, group_of_attribute].astype(jnp.float32)
        return jnp.einsum("bat,at->ba", own, kernel) + bias


class GuidedAttention(nn.Module):
    """Every group looks at the image with a query vector that the attribute stream gives it.

    Scaled dot-product attention over the h * w places of an early stage, plus a learned score of
    every place for every group, which begins with the region of the body where the group is worn:
    few people have a hat, and without it the clothes of these few are learned first. What
    a group pools there must predict the group, so that "hat" learns to look at heads; an early
    stage, because a late one tells at every place of half the image, and a map then may lie
    anywhere. With the maps, which it does not move, every group pools the last stage too: that
    feature joins the embedding and must predict the group as well.
    """

    group_sizes: Sequence[int]
    group_regions: Sequence[tuple[float, float]]
    place_prior: float
    width: int
    axis_name: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, feature_map: Array, early_map: Array, group_queries: Array, *, train: bool
    ) -> GroupOutputs:
        """Pool both feature maps once per group.

        Args:
            feature_map: (B, h', w', C') of the last stage.
            early_map: (B, h, w, C) of the same or an earlier stage: strides of 2 make h' of h.
            group_queries: (R, T) from the attribute stream.
            train: whether BatchNorm uses (and updates from) the batch.
        """
        batch, height, width, _ = early_map.shape
        dense = functools.partial(nn.Dense, self.width, dtype=self.dtype)
        hidden = functools.partial(_HiddenLayer, 2 * self.width, self.axis_name, self.dtype)
        early = hidden(name="early")(early_map, train=train)
        keys, early_values = dense(name="key")(early), dense(name="early_value")(early)
        queries = dense(name="query")(group_queries)
        scores = jnp.einsum("rt,bpt->brp", queries, keys) / np.sqrt(self.width)
        place = self.param(
            "place", nn.initializers.zeros, (len(self.group_sizes), height * width), jnp.float32
        )
        place = _PLACE_SCALE * place
        place += region_prior(self.group_regions, (height, width), self.place_prior)
        maps = jax.nn.softmax(scores.astype(jnp.float32) + place, axis=-1)
        seen = jnp.einsum("brp,bpt->brt", maps.astype(self.dtype), early_values)
        values = dense(name="value")(hidden(name="late")(feature_map, train=train))
        maps = maps.reshape(batch, -1, height, width)
        # The last stage is as coarse or coarser: the mass of all places that one of it covers.
        coarse = _summed(maps, feature_map.shape[1:3])
        # The embedding uses what is pooled, but where to look is learned from the own group alone:
        # else a map of "hat" serves whatever the embedding has use for.
        coarse = jax.lax.stop_gradient(coarse).reshape(batch, coarse.shape[1], -1)
        pooled = jnp.einsum("brp,bpt->brt", coarse.astype(self.dtype), values)
        return GroupOutputs(
            pooled=pooled,
            logits=_GroupPrediction(self.group_sizes, name="late_prediction")(pooled),
            map_logits=_GroupPrediction(self.group_sizes, name="early_prediction")(seen),
            maps=maps,
        )


def _summed(maps: Array, size: Sequence[int]) -> Array:
    """Maps (B, R, h, w) on the coarser grid of that size: (B, R, h', w'), with the same mass."""
    # Strides of 2 round up: h' of h places is h / factor, the factor a power of two.
    rows, columns = (
        1 << (-(-fine // coarse) - 1).bit_length()
        for fine, coarse in zip(maps.shape[2:], size, strict=True)
    )
    padding = [
        (0, factor * coarse - fine)
        for factor, coarse, fine in zip((rows, columns), size, maps.shape[2:], strict=True)
    ]
    maps = jnp.pad(maps, [(0, 0), (0, 0), *padding])
    return maps.reshape(*maps.shape[:2], size[0], rows, size[1], columns).sum(axis=(3, 5))


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
