"""What travels between the modules, and the letters that name array axes everywhere.

B batch, H W C image, h w C feature map, A attributes, R groups, T token width, D embedding,
K training categories, Q queries, G gallery, N devices.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import struct

Array = jax.Array | np.ndarray
PyTree = Any
Schedule = Callable[[Any], Any]


@struct.dataclass
class Batch:
    """One training batch of a device: images with the descriptions of the people in them.

    image: (B, H, W, 3) float32, normalised.
    attributes: (B, A) float32, +1 present, -1 absent, 0 unknown: what is known of the person.
    description: (B, A) float32, what the attribute stream is told: attributes, or only some groups
        of them (description dropout).
    label: (B,) int32, index of the description among the K training categories.
    """

    image: Array
    attributes: Array
    description: Array
    label: Array


@struct.dataclass
class Synthesis:
    """Image features of a batch, and such as the synthesiser makes of descriptions; F features.

    real, seen: (B, F), of the images, and synthetic ones of their descriptions.
    unseen_description: (B, A), drawn from the training prior. unseen: (B, F), synthetic ones.
    unseen_image: (B, D), unit length, where the image stream's projection takes them.
    unseen_attribute: (B, D), unit length, of the descriptions.
    unseen_attribute_logits: (B, A) of the attribute head for unseen_image.
    """

    real: Array
    seen: Array
    unseen_description: Array
    unseen: Array
    unseen_image: Array
    unseen_attribute: Array
    unseen_attribute_logits: Array


@struct.dataclass
class Embeddings:
    """All that the embedder says about a batch; every loss is a function of this and the batch.

    image, attribute: (B, D), unit length, the two modalities in the joint space.
    image_logits, attribute_logits: (B, K) of the shared concept classifier.
    image_attribute_logits, attribute_attribute_logits: (B, A) of the shared attribute head.
    group_logits: (B, A), every group's attributes predicted from its own attention-pooled
        feature; None without guided attention.
    map_logits: (B, A), the same from what its map saw where it was learned; None likewise.
    log_temperature: () of the contrastive loss.
    category: (K, D), unit length, of every training description; None where no loss asks for it.
    group_weights: (R,) of the semantic margin; None likewise.
    pair_scores: (B, B), every description (row) with every image by the attention that it
        conditions; None without that attention.
    synthesis: what the synthesiser makes of descriptions; None without one.
    """

    image: Array
    attribute: Array
    image_logits: Array
    attribute_logits: Array
    image_attribute_logits: Array
    attribute_attribute_logits: Array
    group_logits: Array | None
    map_logits: Array | None
    log_temperature: Array
    category: Array | None = None
    group_weights: Array | None = None
    pair_scores: Array | None = None
    synthesis: Synthesis | None = None


@struct.dataclass
class Player:
    """One side of the adversarial game: its parameters and its optimizer's memory."""

    params: PyTree
    opt_state: PyTree


@struct.dataclass
class TrainState:
    """Everything that a training run must keep; randomness is derived from (seed, step) instead.

    step: () int32, number of finished steps.
    embedder: both streams and the shared heads.
    discriminator: the adversary.
    batch_stats: running BatchNorm statistics of the embedder.
    average: exponential moving average of the embedder's parameters; None where none is kept.
    """

    step: Array
    embedder: Player
    discriminator: Player
    batch_stats: PyTree
    average: PyTree = None

    @property
    def variables(self) -> PyTree:
        """What the embedder needs to embed: its parameters and BatchNorm statistics.

        The averaged parameters, where an average is kept.
        """
        params = self.embedder.params if self.average is None else self.average
        return {"params": params, "batch_stats": self.batch_stats}
