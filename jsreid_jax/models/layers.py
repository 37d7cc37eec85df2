"""The layers that several networks share: convolution, BatchNorm and the one Mlp."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jsreid_jax.types import Array


class BatchNorm(nn.BatchNorm):
    """BatchNorm whose running statistics are constants to whoever uses them in the same pass.

    flax's own would pull the gradient of what goes through with running statistics into the batch
    that has just updated them.
    """

    @nn.compact
    def __call__(self, x: Array, use_running_average: bool | None = None, **options: Any) -> Array:
        """Normalise x: (B, ..., C)."""
        y = super().__call__(x, use_running_average, **options)
        if not use_running_average and self.is_mutable_collection("batch_stats"):
            for name in ("mean", "var"):
                value = self.get_variable("batch_stats", name)
                self.put_variable("batch_stats", name, jax.lax.stop_gradient(value))
        return y


def batch_norm(*, axis_name: str | None, dtype: Any, name: str | None = None) -> BatchNorm:
    """BatchNorm whose batch statistics are averaged over the device axis (None: one device)."""
    return BatchNorm(axis_name=axis_name, momentum=0.9, dtype=dtype, name=name)


class Conv(nn.Module):
    """Convolution without bias, padded as in torchvision: (B, H, W, C) -> (B, H', W', features).

    groups: of channels that are convolved apart; as many as channels make it depthwise.

    A 1x1 convolution is written as the matrix product that it is: exact, harmless on accelerators,
    and spares the CPU XLA's slow kernel gradients of such convolutions.
    """

    features: int
    kernel: int = 1
    stride: int = 1
    dtype: Any = jnp.float32
    groups: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Convolve x: (B, H, W, C)."""
        k, s = self.kernel, self.stride
        weights = self.param(
            "kernel",
            nn.initializers.he_normal(),
            (k, k, x.shape[-1] // self.groups, self.features),
            jnp.float32,
        )
        x, weights = x.astype(self.dtype), weights.astype(self.dtype)
        if k == 1 and self.groups == 1:
            return x[:, ::s, ::s] @ weights[0, 0]
        pad = (k - 1) // 2
        return jax.lax.conv_general_dilated(
            jnp.asarray(x),
            weights,
            window_strides=(s, s),
            padding=((pad, pad), (pad, pad)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=self.groups,
        )


class Mlp(nn.Module):
    """Dense layers of the given widths with BatchNorm (optional) and an activation between them.

    The last layer is linear: (B, any) -> (B, widths[-1]).
    """

    widths: Sequence[int]
    use_batch_norm: bool = True
    activation: Callable[[Array], Array] = nn.relu
    axis_name: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Map x: (B, any) to (B, widths[-1])."""
        for i, width in enumerate(self.widths[:-1]):
            x = nn.Dense(width, dtype=self.dtype, name=f"dense_{i}")(x)
            if self.use_batch_norm:
                norm = batch_norm(axis_name=self.axis_name, dtype=self.dtype, name=f"norm_{i}")
                x = norm(x, use_running_average=not train)
            x = self.activation(x)
        return nn.Dense(self.widths[-1], dtype=self.dtype, name=f"dense_{len(self.widths) - 1}")(x)


leaky_relu = partial(nn.leaky_relu, negative_slope=0.2)
