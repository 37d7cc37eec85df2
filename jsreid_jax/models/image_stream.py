"""The image stream: backbone, attention, projection into the joint space."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from jsreid_jax.models.attention import GroupOutputs, GuidedAttention
from jsreid_jax.models.backbones import create_backbone
from jsreid_jax.models.layers import Mlp, batch_norm
from jsreid_jax.types import Array

# What config.model.attention may be; "conditioned" re-ranks and changes no embedding.
ATTENTION = ("none", "guided", "conditioned", "guided+conditioned")


class ImageOutputs(NamedTuple):
    """What the image stream makes of images.

    embedding: (B, D), not normalised. features: (B, F), what is projected. groups: what guided
    attention makes of them, None without it. feature_map: (B, h, w, C) of the last stage.
    """

    embedding: Array
    features: Array
    groups: GroupOutputs | None
    feature_map: Array


class ImageStream(nn.Module):
    """Images to points of the joint space; ResNet-50 [paper], projection 512-256-128 [SAL].

    With guided attention the group features are fused with the global average-pooled feature in
    front of the projection (ours).

    attention_stage: where maps are learned: a stage of the backbone, counted from its end, 1 is
        the last. What an early one says of a place it has seen there.
    place_prior: how much less likely, in logarithms, places outside a group's region are at first.
    remat: whether the backbone computes its activations twice instead of keeping them.
    """

    architecture: str
    last_stride: int
    is_guided: bool
    attention_width: int
    attention_stage: int
    place_prior: float
    group_sizes: Sequence[int]
    group_regions: Sequence[tuple[float, float]]
    projection_widths: Sequence[int]
    axis_name: str | None = None
    dtype: Any = jnp.float32
    remat: bool = False

    def setup(self):
        """Make backbone, attention and projection."""
        self.backbone = create_backbone(
            self.architecture,
            last_stride=self.last_stride,
            axis_name=self.axis_name,
            dtype=self.dtype,
            remat=self.remat,
        )
        if self.is_guided:
            self.attention = GuidedAttention(
                self.group_sizes,
                self.group_regions,
                self.place_prior,
                self.attention_width,
                self.axis_name,
                self.dtype,
            )
        self.feature_norm = batch_norm(axis_name=self.axis_name, dtype=self.dtype)
        self.projection = Mlp(self.projection_widths, axis_name=self.axis_name, dtype=self.dtype)

    def __call__(self, image: Array, group_queries: Array, *, train: bool) -> ImageOutputs:
        """Embed images.

        Args:
            image: (B, H, W, 3), normalised.
            group_queries: (R, T) from the attribute stream; unused without guided attention.
            train: whether BatchNorm uses (and updates from) the batch.
        """
        stages = self.backbone(image, train=train)
        features = stages[-1].mean(axis=(1, 2))
        groups = None
        if self.is_guided:
            groups = self.attention(
                stages[-1], stages[-self.attention_stage], group_queries, train=train
            )
            pooled = groups.pooled.reshape(len(features), -1)
            features = jnp.concatenate([features, pooled], axis=-1)
        features = self.feature_norm(features, use_running_average=not train)
        embedding = self.projection(features, train=train)
        return ImageOutputs(embedding, features, groups, stages[-1])

    def project(self, features: Array) -> Array:
        """Where features (B, F) made elsewhere go: (B, D), with running BatchNorm statistics."""
        return self.projection(features, train=False)
