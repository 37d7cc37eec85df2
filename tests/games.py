"""A small game and random batches that several test files play with."""

import jax
import numpy as np

from jsreid_jax import optimizers, parallel
from jsreid_jax.models.discriminator import Discriminator
from jsreid_jax.models.joint_embedder import JointEmbedder
from jsreid_jax.train_state import Game, create_train_state
from jsreid_jax.train_step import LOSS_NAMES, StepOptions
from jsreid_jax.types import Batch, TrainState

GROUP_SIZES = (3, 1, 1)
NUM_CATEGORIES = 6
IMAGE_SIZE = (32, 16)


def constant(value: float):
    return lambda step: value


def make_game(
    *,
    optimizer: str = "sgd",
    axis_name: str | None = parallel.AXIS,
    conditioning: str = "none",
    attention: str = "guided",
    backbone: str = "resnet_tiny",
    synthesises: bool = False,
    keeps_average: bool = False,
    num_categories: int = NUM_CATEGORIES,
) -> Game:
    return Game(
        embedder=JointEmbedder(
            group_sizes=GROUP_SIZES,
            group_regions=((0.0, 1.0), (0.0, 0.4), (0.5, 1.0)),
            num_categories=num_categories,
            backbone=backbone,
            last_stride=1,
            attention=attention,
            attention_width=8,
            attention_stage=2,
            place_prior=3.0,
            projection_widths=(16, 8),
            attribute_widths=(16, 8),
            concept_scale=4.0,
            initial_temperature=0.2,
            has_synthesiser=synthesises,
            axis_name=axis_name,
        ),
        discriminator=Discriminator(
            num_categories, conditioning, synthesises, widths=(16, 1), embedding_width=8
        ),
        embedder_optimizer=optimizers.create_optimizer(optimizer),
        discriminator_optimizer=optimizers.create_optimizer(optimizer),
        keeps_average=keeps_average,
    )


def make_state(game: Game, image_size=IMAGE_SIZE) -> TrainState:
    return create_train_state(game, seed=0, image_size=image_size, num_attributes=sum(GROUP_SIZES))


def make_options(weights: dict[str, float] | None = None, **fields) -> StepOptions:
    values = dict.fromkeys(LOSS_NAMES, 1.0) | (weights or {})
    for name in ("backbone_rate", "image_rate", "attribute_rate", "discriminator_rate"):
        fields.setdefault(name, constant(0.02))
    fields.setdefault("axis_name", parallel.AXIS)
    return StepOptions(weights={k: constant(v) for k, v in values.items()}, **fields)


def make_batch(seed: int, size: int = 16, image_size=IMAGE_SIZE) -> Batch:
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(size, *image_size, 3)).astype(np.float32)
    attributes = rng.choice([-1.0, 0.0, 1.0], (size, sum(GROUP_SIZES))).astype(np.float32)
    return Batch(
        image=image,  # pyright: ignore
        attributes=attributes,  # pyright: ignore
        description=attributes,  # pyright: ignore
        label=rng.integers(0, NUM_CATEGORIES, size).astype(np.int32),  # pyright: ignore
    )


def per_device(batch: Batch, devices: int) -> Batch:
    return jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), batch)


def trees_equal(a, b) -> bool:
    a, b = jax.device_get((a, b))
    return jax.tree.all(jax.tree.map(lambda x, y: x.tobytes() == y.tobytes(), a, b))
