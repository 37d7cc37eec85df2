"""The two players' modules and the state of a training run."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jsreid_jax.models.discriminator import Discriminator
from jsreid_jax.models.joint_embedder import Draw, JointEmbedder
from jsreid_jax.models.synthesiser import NOISE_WIDTH
from jsreid_jax.types import Player, TrainState


@dataclass(frozen=True)
class Game:
    """What of a training run never changes: both players' networks and optimizers.

    keeps_average: whether an average of the embedder's parameters is kept.
    """

    embedder: JointEmbedder
    discriminator: Discriminator
    embedder_optimizer: optax.GradientTransformation
    discriminator_optimizer: optax.GradientTransformation
    keeps_average: bool = False


def create_train_state(
    game: Game, *, seed: int, image_size: tuple[int, int], num_attributes: int
) -> TrainState:
    """Fresh parameters and optimizer states at step 0, from the seed alone.

    image_size: (H, W) of the images that will be fed.
    """
    embedder_key, discriminator_key = jax.random.split(jax.random.key(seed))

    @jax.jit
    def initialise() -> TrainState:
        image = jnp.zeros((2, *image_size, 3), jnp.float32)
        attributes = jnp.zeros((2, num_attributes), jnp.float32)
        draw = None
        if game.embedder.has_synthesiser:
            noise = jnp.zeros((2, NOISE_WIDTH), jnp.float32)
            draw = Draw(noise, attributes, noise)
        (embeddings, variables) = game.embedder.init_with_output(
            embedder_key, image, attributes, train=True, draw=draw
        )
        variables: Any
        discriminator_params = game.discriminator.init(
            discriminator_key,
            embeddings.image,
            jnp.zeros((2,), jnp.int32),
            None if embeddings.synthesis is None else embeddings.synthesis.real,
            attributes,
            method="judge_all",
        )["params"]
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            embedder=Player(
                params=variables["params"],
                opt_state=game.embedder_optimizer.init(variables["params"]),
            ),
            discriminator=Player(
                params=discriminator_params,
                opt_state=game.discriminator_optimizer.init(discriminator_params),
            ),
            batch_stats=variables["batch_stats"],
            average=variables["params"] if game.keeps_average else None,
        )

    return initialise()
