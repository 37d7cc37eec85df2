"""The alternating step: the discriminator, then the embedder against the updated discriminator.

One forward pass of the embedder serves both: its embeddings are computed once with `jax.vjp`, the
discriminator learns from their values, and the gradient of the embedder's losses is pulled back
through the same pass. Written against an axis name only; `parallel.py` gives it the devices.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax

from jsreid_jax import losses
from jsreid_jax.optimizers import descend
from jsreid_jax.train_state import Game
from jsreid_jax.types import Array, Batch, Embeddings, Player, PyTree, Schedule, TrainState

LOSS_NAMES = (
    "image_concept",
    "attribute_concept",
    "adversary",
    "consistency",
    "contrastive",
    "group_prediction",
    "attribute_head",
)


@dataclass(frozen=True)
class StepOptions:
    """How the game is played.

    weights: for every one of LOSS_NAMES a schedule of the step.
    image_rate, attribute_rate, discriminator_rate: learning rates, schedules of the step: of the
        image stream, of everything else in the embedder, and of the discriminator.
    generator: which modality tries to look like the other, one of losses.GENERATORS.
    discriminator_steps: updates of the discriminator per step.
    learn_temperature: whether the contrastive loss moves its temperature.
    axis_name: device axis; None on one device outside pmap.
    """

    weights: Mapping[str, Schedule]
    image_rate: Schedule
    attribute_rate: Schedule
    discriminator_rate: Schedule
    generator: str = "attributes"
    discriminator_steps: int = 1
    learn_temperature: bool = True
    axis_name: str | None = None


def _mean_over_devices(tree: PyTree, axis_name: str | None) -> PyTree:
    return tree if axis_name is None else jax.lax.pmean(tree, axis_name)


def discriminate(game: Game, params: PyTree, embedding: Array, label: Array) -> Array:
    """The discriminator's logits (B,) for embeddings (B, D) of categories label (B,)."""
    return game.discriminator.apply({"params": params}, embedding, label)  # pyright: ignore


def update_discriminator(
    game: Game,
    player: Player,
    embeddings: Embeddings,
    label: Array,
    *,
    rate: Array,
    active: Array,
    axis_name: str | None,
) -> tuple[Player, dict[str, Array]]:
    """One step of the discriminator on embeddings that it takes as they are.

    Args:
        game: the networks and optimizers.
        player: the discriminator before.
        embeddings: values only; no gradient leaves here.
        label: (B,) categories, for a conditioned discriminator.
        rate: () learning rate.
        active: () bool; False (the adversary's weight is 0) leaves the player untouched.
        axis_name: device axis or None.

    Returns:
        The discriminator after, and its loss and accuracy before the step.
    """

    def loss_fn(params):
        image_logits = discriminate(game, params, embeddings.image, label)
        attribute_logits = discriminate(game, params, embeddings.attribute, label)
        correct = 0.5 * ((image_logits > 0).mean() + (attribute_logits <= 0).mean())
        return losses.discriminator_loss(image_logits, attribute_logits), correct

    (loss, accuracy), gradient = jax.value_and_grad(loss_fn, has_aux=True)(player.params)
    gradient = _mean_over_devices(gradient, axis_name)
    updated = descend(game.discriminator_optimizer, player, gradient, rate)
    updated = jax.tree.map(lambda new, old: jnp.where(active, new, old), updated, player)
    return updated, {"discriminator_loss": loss, "discriminator_accuracy": accuracy}


def embedder_losses(
    game: Game,
    embeddings: Embeddings,
    batch: Batch,
    discriminator_params: PyTree,
    options: StepOptions,
) -> dict[str, Array]:
    """Every unweighted loss of the embedder, by the names of LOSS_NAMES."""
    log_temperature = embeddings.log_temperature
    if not options.learn_temperature:
        log_temperature = jax.lax.stop_gradient(log_temperature)
    group_prediction = jnp.zeros(())
    if embeddings.group_logits is not None:
        group_prediction = losses.attribute_loss(embeddings.group_logits, batch.attributes)
    is_whole = jnp.all(batch.description == batch.attributes, axis=-1)
    return {
        "image_concept": losses.concept_loss(embeddings.image_logits, batch.label),
        # A partial description fits several categories: it has none to be classified as.
        "attribute_concept": losses.concept_loss(
            embeddings.attribute_logits, batch.label, counts=is_whole
        ),
        "adversary": losses.generator_loss(
            discriminate(game, discriminator_params, embeddings.image, batch.label),
            discriminate(game, discriminator_params, embeddings.attribute, batch.label),
            generator=options.generator,
        ),
        "consistency": losses.consistency_loss(embeddings.image, embeddings.attribute),
        "contrastive": losses.contrastive_loss(
            embeddings.image,
            embeddings.attribute,
            batch.attributes,
            batch.description,
            log_temperature,
            axis_name=options.axis_name,
        ),
        "group_prediction": group_prediction,
        "attribute_head": 0.5
        * (
            losses.attribute_loss(embeddings.image_attribute_logits, batch.attributes)
            + losses.attribute_loss(embeddings.attribute_attribute_logits, batch.description)
        ),
    }


def update_embedder(
    game: Game,
    player: Player,
    embeddings: Embeddings,
    pullback,
    batch: Batch,
    discriminator_params: PyTree,
    *,
    weights: Mapping[str, Array],
    rates: Mapping[str, Array],
    options: StepOptions,
) -> tuple[Player, dict[str, Array]]:
    """One step of the embedder against a discriminator that stands still.

    Args:
        game: the networks and optimizers.
        player: the embedder before.
        embeddings: its forward pass on the batch.
        pullback: takes a cotangent of the embeddings to one of the embedder's parameters.
        batch: what the embeddings are of.
        discriminator_params: the adversary, after its own update.
        weights: every loss's weight at this step.
        rates: the learning rate of every top-level part of the parameters.
        options: how the game is played.

    Returns:
        The embedder after, and its losses before the step.
    """

    def total(embeddings: Embeddings):
        parts = embedder_losses(game, embeddings, batch, discriminator_params, options)
        return sum(weights[name] * parts[name] for name in LOSS_NAMES), parts

    (loss, parts), cotangent = jax.value_and_grad(total, has_aux=True)(embeddings)
    (gradient,) = pullback(cotangent)
    gradient = _mean_over_devices(gradient, options.axis_name)
    updated = descend(game.embedder_optimizer, player, gradient, rates)
    metrics = {f"{name}_loss": value for name, value in parts.items()}
    metrics |= {"embedder_loss": loss, "gradient_norm": optax.tree.norm(gradient)}
    # Of the updated parameters: a step that spoils them is noticed before they are saved.
    metrics["parameter_norm"] = optax.tree.norm(updated.params)
    metrics["concept_accuracy"] = (embeddings.image_logits.argmax(-1) == batch.label).mean()
    return updated, metrics


def train_step(
    game: Game, options: StepOptions, state: TrainState, batch: Batch
) -> tuple[TrainState, dict[str, Array]]:
    """One alternating step on one device's share of the batch.

    Returns the next state, identical on all devices, and scalar metrics averaged over the devices.
    """
    weights = {name: options.weights[name](state.step) for name in LOSS_NAMES}

    def forward(params):
        return game.embedder.apply(
            {"params": params, "batch_stats": state.batch_stats},
            batch.image,
            batch.description,
            train=True,
            mutable=["batch_stats"],
        )

    embeddings, pullback, mutated = jax.vjp(forward, state.embedder.params, has_aux=True)

    discriminator, metrics = state.discriminator, {}
    for _ in range(options.discriminator_steps):
        discriminator, metrics = update_discriminator(
            game,
            discriminator,
            embeddings,
            batch.label,
            rate=options.discriminator_rate(state.step),
            active=weights["adversary"] > 0,
            axis_name=options.axis_name,
        )
    rates = {
        part: (options.image_rate if part == "image_stream" else options.attribute_rate)(state.step)
        for part in state.embedder.params
    }
    embedder, embedder_metrics = update_embedder(
        game,
        state.embedder,
        embeddings,
        pullback,
        batch,
        discriminator.params,
        weights=weights,
        rates=rates,
        options=options,
    )
    next_state = TrainState(
        step=state.step + 1,
        embedder=embedder,
        discriminator=discriminator,
        # The statistics come out of a synchronised BatchNorm: already equal on all devices.
        batch_stats=mutated["batch_stats"],
    )
    return next_state, _mean_over_devices(metrics | embedder_metrics, options.axis_name)
