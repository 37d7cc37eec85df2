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
    judges_features: a second such MLP tells real image features from synthesised ones, given the
    description [SAL], with the widths feature_widths (ours).
    """

    num_categories: int
    conditioning: str = "none"
    judges_features: bool = False
    widths: Sequence[int] = (512, 256, 1)
    feature_widths: Sequence[int] = (256, 128, 1)
    embedding_width: int = 128

    def setup(self):
        """Make the networks."""
        if self.conditioning not in CONDITIONING:
            raise ValueError(
                f"losses.discriminator_conditioning is {self.conditioning!r}, "
                f"expected one of {', '.join(CONDITIONING)}"
            )
        self.mlp = Mlp(self.widths, use_batch_norm=False, activation=leaky_relu)
        if self.conditioning == "category":
            self.category = nn.Embed(self.num_categories, self.embedding_width)
        if self.judges_features:
            self.feature_mlp = Mlp(self.feature_widths, use_batch_norm=False, activation=leaky_relu)

    def __call__(self, embedding: Array, label: Array) -> Array:
        """Logits (B,) that the embeddings (B, D) of categories label (B,) are of images."""
        embedding = embedding.astype(jnp.float32)
        # Entries of a unit vector are small: scaled, they are what an MLP is initialised for, and
        # small offsets between the modalities are seen too (ours).
        logits = self.mlp(np.sqrt(self.embedding_width) * embedding, train=False)[:, 0]
        if self.conditioning == "category":
            terms = self.category(label) * embedding
            logits = logits + terms.sum(axis=-1) / np.sqrt(self.embedding_width)
        return logits

    def judge_features(self, features: Array, description: Array) -> Array:
        """Logits (B,) that features (B, F) are of images of people of descriptions (B, A)."""
        both = jnp.concatenate([features.astype(jnp.float32), description], axis=-1)
        return self.feature_mlp(both, train=False)[:, 0]

    def judge_all(
        self, embedding: Array, label: Array, features: Array | None, description: Array
    ) -> tuple[Array, Array | None]:
        """Both judgements; features: None without the second network."""
        logits = self(embedding, label)
        if features is None:
            return logits, None
        return logits, self.judge_features(features, description)
