"""The adversary: is this embedding an image's?"""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from jsreid_jax.models.layers import Mlp, leaky_relu
from jsreid_jax.types import Array

CONDITIONING = ("none", "category")


class Discriminator(nn.Module):
    """MLP 512-256-1 with LeakyReLU 0.2 [SAL]; always float32, because the game is delicate.

    conditioning "category" adds a projection term: the inner product of the embedding with a
    learned vector of its category, the paper's matching at the level of semantic IDs (form ours).
    """

    num_categories: int
    conditioning: str = "none"
    widths: Sequence[int] = (512, 256, 1)

    @nn.compact
    def __call__(self, embedding: Array, label: Array) -> Array:
        """Logits (B,) that the embeddings (B, D) of categories label (B,) are of images."""
        embedding = embedding.astype(jnp.float32)
        mlp = Mlp(self.widths, use_batch_norm=False, activation=leaky_relu, name="mlp")
        logits = mlp(embedding, train=False)[:, 0]
        if self.conditioning == "category":
            width = embedding.shape[-1]
            table = nn.Embed(self.num_categories, width, name="category")
            logits = logits + (table(label) * embedding).sum(axis=-1) / np.sqrt(width)
        elif self.conditioning != "none":
            raise ValueError(
                f"losses.discriminator_conditioning is {self.conditioning!r}, "
                f"expected one of {', '.join(CONDITIONING)}"
            )
        return logits
