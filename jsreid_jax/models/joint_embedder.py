"""The embedder: both streams and the heads that they share."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from jsreid_jax.models.attention import ConditionedAttention
from jsreid_jax.models.attribute_stream import AttributeStream
from jsreid_jax.models.image_stream import ATTENTION, ImageOutputs, ImageStream
from jsreid_jax.models.synthesiser import Synthesiser
from jsreid_jax.types import Array, Embeddings, Synthesis


def unit_length(x: Array) -> Array:
    """Rows of x (B, D) scaled to length 1, float32."""
    x = x.astype(jnp.float32)
    return x / jnp.sqrt(jnp.maximum((x * x).sum(axis=-1, keepdims=True), 1e-12))


class Draw(NamedTuple):
    """What the synthesiser is asked for: noise (B, NOISE_WIDTH) for the batch's own descriptions.

    unseen_description (B, A) and unseen_noise (B, NOISE_WIDTH) for further ones.
    """

    noise: Array
    unseen_description: Array
    unseen_noise: Array


class JointEmbedder(nn.Module):
    """Images and descriptions as unit vectors of one space of semantic concepts.

    One linear concept classifier [paper, SAL] and one linear attribute head [SAL] serve both
    modalities; they see the unit vectors scaled by `concept_scale` (ours: it sets how sharp a
    softmax over unit vectors can get).
    """

    group_sizes: Sequence[int]
    group_regions: Sequence[tuple[float, float]]
    num_categories: int
    backbone: str
    last_stride: int
    attention: str
    attention_width: int
    attention_stage: int
    place_prior: float
    projection_widths: Sequence[int]
    attribute_widths: Sequence[int]
    concept_scale: float
    initial_temperature: float
    has_synthesiser: bool = False
    axis_name: str | None = None
    dtype: Any = jnp.float32
    remat: bool = False

    @property
    def is_conditioned(self) -> bool:
        """Whether pairs can be re-ranked by attention that the description conditions."""
        return "conditioned" in self.attention

    def setup(self):
        """Make the streams and the shared heads."""
        if self.projection_widths[-1] != self.attribute_widths[-1]:
            raise ValueError(
                f"model.projection_widths ends in {self.projection_widths[-1]} and "
                f"model.attribute_widths in {self.attribute_widths[-1]}: both streams must end in "
                "the same embedding width"
            )
        if self.attention not in ATTENTION:
            raise ValueError(
                f"model.attention is {self.attention!r}, expected one of {', '.join(ATTENTION)}"
            )
        self.image_stream = ImageStream(
            architecture=self.backbone,
            last_stride=self.last_stride,
            is_guided="guided" in self.attention,
            attention_width=self.attention_width,
            attention_stage=self.attention_stage,
            place_prior=self.place_prior,
            group_sizes=self.group_sizes,
            group_regions=self.group_regions,
            projection_widths=self.projection_widths,
            axis_name=self.axis_name,
            dtype=self.dtype,
            remat=self.remat,
        )
        self.attribute_stream = AttributeStream(
            group_sizes=self.group_sizes,
            widths=self.attribute_widths,
            axis_name=self.axis_name,
            dtype=self.dtype,
        )
        if self.is_conditioned:
            self.conditioned_attention = ConditionedAttention(self.attention_width, self.dtype)
        if self.has_synthesiser:
            self.synthesiser = Synthesiser(axis_name=self.axis_name, dtype=self.dtype)
        self.concept_classifier = nn.Dense(self.num_categories)
        self.attribute_head = nn.Dense(sum(self.group_sizes))
        self.group_weights = self.param(
            "group_weights", nn.initializers.ones, (len(self.group_sizes),), jnp.float32
        )
        self.log_temperature = self.param(
            "log_temperature",
            lambda _: jnp.log(jnp.asarray(self.initial_temperature, jnp.float32)),
        )

    def synthesise(self, features: Array, description: Array, draw: Draw) -> Synthesis:
        """Features (B, F) of images, such of their descriptions (B, A), and of unseen ones."""
        make = functools.partial(self.synthesiser, num_features=features.shape[-1], train=True)
        unseen = make(draw.unseen_description, draw.unseen_noise)
        unseen_image = unit_length(self.image_stream.project(unseen))
        unseen_attribute = self.attribute_stream(draw.unseen_description, train=False)
        return Synthesis(
            real=features,
            seen=make(description, draw.noise),
            unseen_description=draw.unseen_description,
            unseen=unseen,
            unseen_image=unseen_image,
            unseen_attribute=unit_length(unseen_attribute),
            unseen_attribute_logits=self.attribute_head(self.concept_scale * unseen_image),
        )

    def __call__(
        self,
        image: Array,
        attributes: Array,
        *,
        train: bool,
        categories: Array | None = None,
        draw: Draw | None = None,
    ) -> Embeddings:
        """Embed images and their descriptions, with every head's logits.

        Args:
            image: (B, H, W, 3).
            attributes: (B, A).
            train: whether BatchNorm uses (and updates from) the batch.
            categories: (K, A) training descriptions to embed too.
            draw: what the synthesiser makes features of.
        """
        of_image = self.image_stream(image, self.attribute_stream.group_queries(), train=train)
        groups = of_image.groups
        image_embedding = unit_length(of_image.embedding)
        attribute_embedding = unit_length(self.attribute_stream(attributes, train=train))
        image_concept = self.concept_scale * image_embedding
        attribute_concept = self.concept_scale * attribute_embedding
        category = pair_scores = synthesis = None
        if categories is not None:
            category = unit_length(self.attribute_stream(categories, train=train))
        if self.is_conditioned:
            images = self.conditioned_attention.image_memory(of_image.feature_map)
            pair_scores = self.score_pairs(attributes, images)
        if draw is not None:
            synthesis = self.synthesise(of_image.features, attributes, draw)
        return Embeddings(
            image=image_embedding,
            attribute=attribute_embedding,
            image_logits=self.concept_classifier(image_concept),
            attribute_logits=self.concept_classifier(attribute_concept),
            image_attribute_logits=self.attribute_head(image_concept),
            attribute_attribute_logits=self.attribute_head(attribute_concept),
            group_logits=None if groups is None else groups.logits,
            map_logits=None if groups is None else groups.map_logits,
            log_temperature=self.log_temperature,
            category=category,
            group_weights=self.group_weights,
            pair_scores=pair_scores,
            synthesis=synthesis,
        )

    def embed_images(self, image: Array) -> Array:
        """Unit vectors (B, D) of images (B, H, W, 3), with running BatchNorm statistics."""
        return unit_length(self._look(image).embedding)

    def recognise(self, image: Array) -> tuple[Array, Array]:
        """Unit vectors (B, D) of images (B, H, W, 3), and logits (B, A) of their attributes.

        The logits are the groups' own with guided attention, else the attribute head's.
        """
        of_image = self._look(image)
        embedding = unit_length(of_image.embedding)
        if of_image.groups is not None:
            return embedding, of_image.groups.logits
        return embedding, self.attribute_head(self.concept_scale * embedding)

    def embed_attributes(self, attributes: Array) -> Array:
        """Unit vectors (B, D) of descriptions (B, A), with running BatchNorm statistics."""
        return unit_length(self.attribute_stream(attributes, train=False))

    def attention_maps(self, image: Array) -> Array | None:
        """Where each group looks in images (B, H, W, 3): (B, R, h, w); None without guidance."""
        groups = self._look(image).groups
        return None if groups is None else groups.maps

    def conditioned_maps(self, attributes: Array, image: Array) -> Array:
        """Where each description (B, A) looks in its own image (B, H, W, 3): (B, R, h, w)."""
        feature_map = self._look(image).feature_map
        tokens = self.attribute_stream.value_tokens(attributes)
        maps = self.conditioned_attention.maps(
            self.conditioned_attention.description_memory(tokens),
            self.conditioned_attention.image_memory(feature_map),
        )
        return maps.reshape(*maps.shape[:2], *feature_map.shape[1:3])

    def image_memory(self, image: Array) -> Array:
        """What re-ranking keeps of images (B, H, W, 3): (B, h * w, 2 * attention_width)."""
        return self.conditioned_attention.image_memory(self._look(image).feature_map)

    def score_pairs(self, attributes: Array, images: Array) -> Array:
        """Scores (Q, G) of descriptions (Q, A) with images; see `ConditionedAttention.scores`."""
        tokens = self.attribute_stream.value_tokens(attributes)
        descriptions = self.conditioned_attention.description_memory(tokens)
        known = self.attribute_stream.known_groups(attributes)
        return self.conditioned_attention.scores(descriptions, known, images)

    def _look(self, image: Array) -> ImageOutputs:
        return self.image_stream(image, self.attribute_stream.group_queries(), train=False)
