"""The image stream: backbone, attention, projection into the joint space."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jsreid_jax.models.attention import GuidedAttention
from jsreid_jax.models.backbones import create_backbone
from jsreid_jax.models.layers import Mlp, batch_norm
from jsreid_jax.types import Array

ATTENTION = ("none", "guided")


class ImageStream(nn.Module):
    """Images to points of the joint space; ResNet-50 [paper], projection 512-256-128 [SAL].

    With attention "guided", the group features are fused with the global average-pooled feature
    in front of the projection (ours).
    """

    backbone: str
    last_stride: int
    attention: str
    attention_width: int
    group_sizes: Sequence[int]
    projection_widths: Sequence[int]
    axis_name: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, image: Array, group_queries: Array, *, train: bool
    ) -> tuple[Array, Array | None, Array | None]:
        """Embed images.

        Args:
            image: (B, H, W, 3), normalised.
            group_queries: (R, T) from the attribute stream; unused without attention.
            train: whether BatchNorm uses (and updates from) the batch.

        Returns:
            (B, D) not normalised, group logits (B, A) or None, attention maps (B, R, h, w) or None.
        """
        backbone = create_backbone(
            self.backbone,
            last_stride=self.last_stride,
            axis_name=self.axis_name,
            dtype=self.dtype,
        )
        feature_map = backbone(image, train=train)
        features = feature_map.mean(axis=(1, 2))
        group_logits = maps = None
        if self.attention == "guided":
            attention = GuidedAttention(
                self.group_sizes, self.attention_width, self.dtype, name="attention"
            )
            pooled, group_logits, maps = attention(feature_map, group_queries)
            pooled = pooled.reshape(pooled.shape[0], -1)
            features = jnp.concatenate([features, pooled], axis=-1)
        elif self.attention != "none":
            raise ValueError(
                f"model.attention is {self.attention!r}, expected one of {', '.join(ATTENTION)}"
            )
        norm = batch_norm(axis_name=self.axis_name, dtype=self.dtype, name="feature_norm")
        features = norm(features, use_running_average=not train)
        projection = Mlp(
            self.projection_widths, axis_name=self.axis_name, dtype=self.dtype, name="projection"
        )
        return projection(features, train=train), group_logits, maps
