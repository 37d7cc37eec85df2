"""The embedder: both streams and the heads that they share."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jsreid_jax.models.attribute_stream import AttributeStream
from jsreid_jax.models.image_stream import ImageStream
from jsreid_jax.types import Array, Embeddings


def unit_length(x: Array) -> Array:
    """Rows of x (B, D) scaled to length 1, float32."""
    x = x.astype(jnp.float32)
    return x / jnp.sqrt(jnp.maximum((x * x).sum(axis=-1, keepdims=True), 1e-12))


class JointEmbedder(nn.Module):
    """Images and descriptions as unit vectors of one space of semantic concepts.

    One linear concept classifier [paper, SAL] and one linear attribute head [SAL] serve both
    modalities; they see the unit vectors scaled by `concept_scale` (ours: it sets how sharp a
    softmax over unit vectors can get).
    """

    group_sizes: Sequence[int]
    num_categories: int
    backbone: str
    last_stride: int
    attention: str
    attention_width: int
    projection_widths: Sequence[int]
    attribute_widths: Sequence[int]
    concept_scale: float
    initial_temperature: float
    axis_name: str | None = None
    dtype: Any = jnp.float32

    def setup(self):
        """Make the streams and the shared heads."""
        if self.projection_widths[-1] != self.attribute_widths[-1]:
            raise ValueError(
                f"model.projection_widths ends in {self.projection_widths[-1]} and "
                f"model.attribute_widths in {self.attribute_widths[-1]}: both streams must end in "
                "the same embedding width"
            )
        self.image_stream = ImageStream(
            backbone=self.backbone,
            last_stride=self.last_stride,
            attention=self.attention,
            attention_width=self.attention_width,
            group_sizes=self.group_sizes,
            projection_widths=self.projection_widths,
            axis_name=self.axis_name,
            dtype=self.dtype,
        )
        self.attribute_stream = AttributeStream(
            group_sizes=self.group_sizes,
            widths=self.attribute_widths,
            axis_name=self.axis_name,
            dtype=self.dtype,
        )
        self.concept_classifier = nn.Dense(self.num_categories)
        self.attribute_head = nn.Dense(sum(self.group_sizes))
        self.log_temperature = self.param(
            "log_temperature",
            lambda _: jnp.log(jnp.asarray(self.initial_temperature, jnp.float32)),
        )

    def __call__(self, image: Array, attributes: Array, *, train: bool) -> Embeddings:
        """Embed images (B, H, W, 3) and their descriptions (B, A), with every head's logits."""
        image_raw, group_logits, _ = self.image_stream(
            image, self.attribute_stream.group_queries(), train=train
        )
        image_embedding = unit_length(image_raw)
        attribute_embedding = unit_length(self.attribute_stream(attributes, train=train))
        image_concept = self.concept_scale * image_embedding
        attribute_concept = self.concept_scale * attribute_embedding
        return Embeddings(
            image=image_embedding,
            attribute=attribute_embedding,
            image_logits=self.concept_classifier(image_concept),
            attribute_logits=self.concept_classifier(attribute_concept),
            image_attribute_logits=self.attribute_head(image_concept),
            attribute_attribute_logits=self.attribute_head(attribute_concept),
            group_logits=group_logits,
            log_temperature=self.log_temperature,
        )

    def embed_images(self, image: Array) -> Array:
        """Unit vectors (B, D) of images (B, H, W, 3), with running BatchNorm statistics."""
        raw, _, _ = self.image_stream(image, self.attribute_stream.group_queries(), train=False)
        return unit_length(raw)

    def embed_attributes(self, attributes: Array) -> Array:
        """Unit vectors (B, D) of descriptions (B, A), with running BatchNorm statistics."""
        return unit_length(self.attribute_stream(attributes, train=False))

    def attention_maps(self, image: Array) -> Array | None:
        """Where each group looks in images (B, H, W, 3): (B, R, h, w); None without attention."""
        return self.image_stream(image, self.attribute_stream.group_queries(), train=False)[2]
