"""Residual networks: images to feature maps.

`resnet50` follows He et al. (2016) in the form that person re-identification uses (stride on the
3x3 convolution, last stride 1 or 2); `resnet18` likewise. `resnet_small` is ours: a basic-block
network that trains on two CPU cores in minutes. `mobilenet_v2` follows Sandler et al. (2018).
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jsreid_jax.models.layers import Conv, batch_norm
from jsreid_jax.types import Array


class ResidualBlock(nn.Module):
    """A basic (two 3x3) or bottleneck (1x1, 3x3, 1x1 with 4x the width out) residual block."""

    width: int
    stride: int
    bottleneck: bool
    axis_name: str | None
    dtype: Any

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Map (B, h, w, C) to (B, h / stride, w / stride, C')."""

        def norm(x: Array, name: str) -> Array:
            layer = batch_norm(axis_name=self.axis_name, dtype=self.dtype, name=name)
            return layer(x, use_running_average=not train)

        if self.bottleneck:
            layers = [(1, 1, self.width), (3, self.stride, self.width), (1, 1, 4 * self.width)]
        else:
            layers = [(3, self.stride, self.width), (3, 1, self.width)]
        y = x
        for i, (kernel, stride, features) in enumerate(layers):
            y = Conv(features, kernel, stride, self.dtype, name=f"conv_{i}")(y)
            y = norm(y, f"norm_{i}")
            if i < len(layers) - 1:
                y = nn.relu(y)
        if x.shape != y.shape:
            x = Conv(y.shape[-1], 1, self.stride, self.dtype, name="conv_shortcut")(x)
            x = norm(x, "norm_shortcut")
        return nn.relu(x + y)


class ResNet(nn.Module):
    """A residual network without its classifier: (B, H, W, 3) -> each stage's map (B, h, w, C).

    stem: "conv7" is the 7x7 stride-2 convolution and max-pool, "conv3" two 3x3 stride-2
    convolutions; both lead to H / 4.
    last_stride: of the last of the n stages, its h = H / 2^n for 1 and H / 2^(n + 1) for 2.
    remat: whether blocks keep their input alone, and compute the rest again for the gradient.
    """

    stage_sizes: Sequence[int]
    stage_widths: Sequence[int]
    bottleneck: bool
    stem: str
    last_stride: int
    axis_name: str | None = None
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> list[Array]:
        """Map (B, H, W, 3) to the feature map of every stage, the last one last."""
        if self.stem == "conv3":
            x = Conv(self.stage_widths[0] // 2, 3, 2, self.dtype, name="stem_0")(image)
            norm = batch_norm(axis_name=self.axis_name, dtype=self.dtype, name="stem_norm_0")
            x = nn.relu(norm(x, use_running_average=not train))
            x = Conv(self.stage_widths[0], 3, 2, self.dtype, name="stem")(x)
        else:
            x = Conv(64, 7, 2, self.dtype, name="stem")(image)
        norm = batch_norm(axis_name=self.axis_name, dtype=self.dtype, name="stem_norm")
        x = nn.relu(norm(x, use_running_average=not train))
        if self.stem == "conv7":
            x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=[(1, 1), (1, 1)])  # pyright: ignore
        # `train` is Python's and not traced; the class keeps no other name in the parameters.
        block_type = nn.remat(ResidualBlock, static_argnums=(2,)) if self.remat else ResidualBlock
        last_stage, maps = len(self.stage_sizes) - 1, []
        for stage, (blocks, width) in enumerate(
            zip(self.stage_sizes, self.stage_widths, strict=True)
        ):
            stage_stride = 1 if stage == 0 else self.last_stride if stage == last_stage else 2
            for block in range(blocks):
                x = block_type(
                    width=width,
                    stride=stage_stride if block == 0 else 1,
                    bottleneck=self.bottleneck,
                    axis_name=self.axis_name,
                    dtype=self.dtype,
                    name=f"stage_{stage}_block_{block}",
                )(x, train)
            maps.append(x)
        return maps


class InvertedResidual(nn.Module):
    """Widens by `expansion`, convolves every channel by itself, narrows linearly (MobileNetV2)."""

    width: int
    stride: int
    expansion: int
    axis_name: str | None
    dtype: Any

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Map (B, h, w, C) to (B, h / stride, w / stride, width)."""

        def normed(y: Array, conv: Conv, name: str) -> Array:
            norm = batch_norm(axis_name=self.axis_name, dtype=self.dtype, name=f"norm_{name}")
            return norm(conv(y), use_running_average=not train)

        y, wide = x, self.expansion * x.shape[-1]
        if self.expansion != 1:
            y = nn.relu6(normed(y, Conv(wide, 1, 1, self.dtype, name="conv_expand"), "expand"))
        depthwise = Conv(wide, 3, self.stride, self.dtype, groups=wide, name="conv_depthwise")
        y = nn.relu6(normed(y, depthwise, "depthwise"))
        y = normed(y, Conv(self.width, 1, 1, self.dtype, name="conv_project"), "project")
        return x + y if x.shape == y.shape else y


class MobileNetV2(nn.Module):
    """MobileNetV2 without its classifier: (B, H, W, 3) -> the map of each stage (B, h, w, C).

    The four stages end at strides 4, 8, 16 and 32 (16 with last_stride 1).
    """

    last_stride: int
    axis_name: str | None = None
    dtype: Any = jnp.float32
    remat: bool = False

    # Of each stage its runs of blocks: expansion, width, number of blocks, stride of the first;
    # the last stage's is last_stride.
    STAGES = (
        ((1, 16, 1, 1), (6, 24, 2, 2)),
        ((6, 32, 3, 2),),
        ((6, 64, 4, 2), (6, 96, 3, 1)),
        ((6, 160, 3, 2), (6, 320, 1, 1)),
    )

    @nn.compact
    def __call__(self, image: Array, *, train: bool) -> list[Array]:
        """Map (B, H, W, 3) to the feature map of every stage, the last one last."""

        def stem(x: Array, width: int, kernel: int, stride: int, name: str) -> Array:
            x = Conv(width, kernel, stride, self.dtype, name=name)(x)
            norm = batch_norm(axis_name=self.axis_name, dtype=self.dtype, name=f"{name}_norm")
            return nn.relu6(norm(x, use_running_average=not train))

        x = stem(image, 32, 3, 2, "stem")
        block = nn.remat(InvertedResidual, static_argnums=(2,)) if self.remat else InvertedResidual
        maps, number = [], 0
        for stage, runs in enumerate(self.STAGES):
            for expansion, width, count, stride in runs:
                if stage == len(self.STAGES) - 1 and stride == 2:
                    stride = self.last_stride
                for place in range(count):
                    number += 1
                    x = block(
                        width=width,
                        stride=stride if place == 0 else 1,
                        expansion=expansion,
                        axis_name=self.axis_name,
                        dtype=self.dtype,
                        name=f"block_{number}",
                    )(x, train)
            maps.append(x)
        maps[-1] = stem(x, 1280, 1, 1, "head")
        return maps


_ARCHITECTURES = {
    "resnet50": dict(
        stage_sizes=(3, 4, 6, 3), stage_widths=(64, 128, 256, 512), bottleneck=True, stem="conv7"
    ),
    "resnet18": dict(
        stage_sizes=(2, 2, 2, 2), stage_widths=(64, 128, 256, 512), bottleneck=False, stem="conv7"
    ),
    "resnet_small": dict(
        stage_sizes=(1, 1, 1), stage_widths=(32, 64, 128), bottleneck=False, stem="conv3"
    ),
    # For tests: every part of the others at the smallest size that still learns something.
    "resnet_tiny": dict(stage_sizes=(1, 1), stage_widths=(16, 32), bottleneck=False, stem="conv3"),
}

_MOBILENET = "mobilenet_v2"

BACKBONES = (*_ARCHITECTURES, _MOBILENET)


def num_stages(name: str) -> int:
    """How many stages the backbone of that name has, one of BACKBONES."""
    if name == _MOBILENET:
        return len(MobileNetV2.STAGES)
    return len(_ARCHITECTURES[name]["stage_sizes"])


def create_backbone(
    name: str, *, last_stride: int, axis_name: str | None, dtype: Any, remat: bool = False
) -> ResNet | MobileNetV2:
    """The backbone of that name, one of BACKBONES; see `ResNet` for the rest.

    Raises:
        ValueError: an unknown name, or a last stride other than 1 or 2.
    """
    if name not in BACKBONES:
        raise ValueError(f"model.backbone is {name!r}, expected one of {', '.join(BACKBONES)}")
    if last_stride not in (1, 2):
        raise ValueError(f"model.last_stride is {last_stride}, expected 1 or 2")
    if name == _MOBILENET:
        return MobileNetV2(last_stride, axis_name=axis_name, dtype=dtype, remat=remat)
    return ResNet(
        **_ARCHITECTURES[name],
        last_stride=last_stride,
        axis_name=axis_name,
        dtype=dtype,
        remat=remat,
    )
