"""The alternating step: the discriminator, then the embedder against the updated discriminator.

One forward pass of the embedder serves both: its embeddings are computed once with `jax.vjp`, the
discriminator learns from their values, and the gradient of the embedder's losses is pulled back
through the same pass. Written against an axis name only; `parallel.py` gives it the devices.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jsreid_jax import losses
from jsreid_jax.models.joint_embedder import Draw
from jsreid_jax.models.synthesiser import NOISE_WIDTH, draw_from_prior
from jsreid_jax.optimizers import descend, late_correction
from jsreid_jax.train_state import Game
from jsreid_jax.types import (
    Array,
    Batch,
    Embeddings,
    Player,
    PyTree,
    Schedule,
    Synthesis,
    TrainState,
)

LOSS_NAMES = (
    "image_concept",
    "attribute_concept",
    "adversary",
    "consistency",
    "contrastive",
    "group_prediction",
    "attribute_head",
    "description_head",
    "conditioned",
    "arc_face",
    "semantic_margin",
    "synthesis",
    "cycle",
)

# Of whole descriptions: with fewer, their weight in the game grows no more.
_SMALLEST_SHARE = 0.01


@dataclass(frozen=True)
class StepOptions:
    """How the game is played.

    weights: for every one of LOSS_NAMES a schedule of the step.
    backbone_rate, image_rate, attribute_rate, discriminator_rate: learning rates, schedules of the
        step: of the backbone, of the rest of the image stream, of everything else in the embedder,
        and of the discriminator.
    generator: which modality tries to look like the other, one of losses.GENERATORS.
    description_dropout: share of descriptions that are partial; the adversary judges the others.
    discriminator_steps: updates of the discriminator per step.
    label_smoothing: of the discriminator's real examples.
    gradient_penalty: weight of the discriminator's R1 penalty.
    learn_temperature: whether the contrastive loss moves its temperature.
    arc_scale, arc_margin: of the ArcFace loss.
    categories: (K, A) training descriptions; None where no loss asks for them.
    all_known: whether no attribute of any training image is unknown.
    map_weights: (2, A) of attributes, from `losses.balanced_weights`, for what maps learn from.
    first_steps: from `first_steps`; parts that are not named are taught from the start.
    average_decay: of the exponential moving average of the embedder's parameters.
    micro_batches: parts of a device's batch whose activations are in memory one after the other.
    seed: of what the synthesiser is asked for.
    axis_name: device axis; None on one device outside pmap.
    """

    weights: Mapping[str, Schedule]
    backbone_rate: Schedule
    image_rate: Schedule
    attribute_rate: Schedule
    discriminator_rate: Schedule
    generator: str = "attributes"
    description_dropout: float = 0.0
    discriminator_steps: int = 1
    label_smoothing: float = 0.0
    gradient_penalty: float = 0.0
    learn_temperature: bool = True
    arc_scale: float = 12.0
    arc_margin: float = 0.2
    categories: np.ndarray | None = None
    all_known: bool = False
    map_weights: np.ndarray | None = None
    first_steps: Mapping[str, int] = field(default_factory=dict)
    average_decay: float = 0.0
    micro_batches: int = 1
    seed: int = 0
    axis_name: str | None = None


def _mean_over_devices(tree: PyTree, axis_name: str | None) -> PyTree:
    return tree if axis_name is None else jax.lax.pmean(tree, axis_name)


def discriminate(game: Game, params: PyTree, embedding: Array, label: Array) -> Array:
    """The discriminator's logits (B,) for embeddings (B, D) of categories label (B,)."""
    return game.discriminator.apply({"params": params}, embedding, label)  # pyright: ignore


def discriminate_features(game: Game, params: PyTree, features: Array, description: Array) -> Array:
    """The discriminator's logits (B,) for image features (B, F) of descriptions (B, A)."""
    return game.discriminator.apply(  # pyright: ignore
        {"params": params}, features, description, method="judge_features"
    )


def _accuracy(
    real: Array, made: Array, axis_name: str | None, weights: Array | None = None
) -> Array:
    """Share of right answers of a discriminator with these logits, both sides counted alike.

    weights: (B,) of the made ones, whose mean may differ from batch to batch and is taken out.
    """
    weights = jnp.ones_like(made) if weights is None else weights
    sums = (real > 0).mean(), (weights * (made <= 0)).mean(), weights.mean()
    of_real, of_made, weight = _mean_over_devices(sums, axis_name)
    return 0.5 * (of_real + of_made / jnp.maximum(weight, _SMALLEST_SHARE))


def _is_whole(batch: Batch) -> Array:
    """(B,) bool: the description says all that is known of the image."""
    return jnp.all(batch.description == batch.attributes, axis=-1)


def _judged(batch: Batch, options: StepOptions) -> Array:
    """(B,) weights of descriptions in the game of images and descriptions (ours).

    Every image shows a whole person. Were partial descriptions made to look like images, whole
    ones, which are what is told apart at the end, would have to lie elsewhere (docs/tuning.md).
    Divided by their expected share, whatever the share of one device's rows: the mean weight is 1,
    and a little more where dropout left open what nobody knew.
    """
    expected = max(1.0 - options.description_dropout, _SMALLEST_SHARE)
    return _is_whole(batch) / expected


def update_discriminator(
    game: Game,
    player: Player,
    embeddings: Embeddings,
    batch: Batch,
    *,
    rate: Array,
    active: Array,
    options: StepOptions,
) -> tuple[Player, dict[str, Array]]:
    """One step of the discriminator on embeddings that it takes as they are.

    Args:
        game: the networks and optimizers.
        player: the discriminator before.
        embeddings: values only; no gradient leaves here.
        batch: what they are of.
        rate: () learning rate.
        active: () bool; False (no adversary has any weight) leaves the player untouched.
        options: how the game is played.

    Returns:
        The discriminator after, and its loss and accuracies before the step.
    """

    def loss_fn(params):
        judge = functools.partial(discriminate, game, params, label=batch.label)
        image_logits, attribute_logits = judge(embeddings.image), judge(embeddings.attribute)
        judged = _judged(batch, options)
        found = _accuracy(image_logits, attribute_logits, options.axis_name, judged)
        accuracy = {"discriminator_accuracy": found}
        loss = losses.discriminator_loss(
            image_logits, attribute_logits, smoothing=options.label_smoothing, weights=judged
        )
        if options.gradient_penalty:
            penalty = losses.gradient_penalty(judge, embeddings.image)
            loss = loss + options.gradient_penalty * penalty
        if embeddings.synthesis is not None:
            made = embeddings.synthesis
            judge_features = functools.partial(discriminate_features, game, params)
            real, seen = (judge_features(x, batch.description) for x in (made.real, made.seen))
            found = _accuracy(real, seen, options.axis_name)
            accuracy["feature_discriminator_accuracy"] = found
            loss = loss + losses.discriminator_loss(real, seen, smoothing=options.label_smoothing)
        return loss, accuracy

    (loss, accuracy), gradient = jax.value_and_grad(loss_fn, has_aux=True)(player.params)
    gradient = _mean_over_devices(gradient, options.axis_name)
    updated = descend(game.discriminator_optimizer, player, gradient, rate)
    updated = jax.tree.map(lambda new, old: jnp.where(active, new, old), updated, player)
    return updated, {"discriminator_loss": loss} | accuracy


def synthesis_losses(
    game: Game, made: Synthesis, batch: Batch, discriminator_params: PyTree
) -> tuple[Array, Array]:
    """The synthesiser's adversarial loss, and what its unseen people teach [SAL, form ours].

    The second is the cycle (their attributes are told from their features) and the consistency of
    both modalities on descriptions that few training persons have (`draw_from_prior`).
    """
    judge = functools.partial(discriminate_features, game, discriminator_params)
    fooled = jnp.concatenate(
        [judge(made.seen, batch.description), judge(made.unseen, made.unseen_description)]
    )
    cycle = losses.attribute_loss(made.unseen_attribute_logits, made.unseen_description)
    meeting = losses.consistency_loss(made.unseen_image, made.unseen_attribute)
    return -jax.nn.log_sigmoid(fooled).mean(), cycle + meeting


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
    if embeddings.group_logits is not None and embeddings.map_logits is not None:
        from_late = losses.attribute_loss(embeddings.group_logits, batch.attributes)
        # Balanced, or the map of what few people have settles anywhere (docs/tuning.md).
        from_maps = losses.attribute_loss(
            embeddings.map_logits, batch.attributes, weights=options.map_weights
        )
        group_prediction = 0.5 * (from_late + from_maps)
    arc_face = semantic_margin = conditioned = synthesis = cycle = jnp.zeros(())
    if embeddings.category is not None and embeddings.group_weights is not None:
        arc_face = losses.arc_face_loss(
            embeddings.image,
            embeddings.category,
            batch.label,
            scale=options.arc_scale,
            margin=options.arc_margin,
        )
        group_sizes = game.embedder.group_sizes
        semantic_margin = losses.semantic_margin_loss(
            embeddings.category,
            *losses.group_options(np.asarray(options.categories), group_sizes),
            embeddings.group_weights,
        )
    if embeddings.pair_scores is not None:
        conditioned = losses.pair_loss(
            embeddings.pair_scores,
            batch.attributes,
            batch.description,
            all_known=options.all_known,
        )
    if embeddings.synthesis is not None:
        synthesis, cycle = synthesis_losses(game, embeddings.synthesis, batch, discriminator_params)
    return {
        "image_concept": losses.concept_loss(embeddings.image_logits, batch.label),
        # A partial description fits several categories: it has none to be classified as.
        "attribute_concept": losses.concept_loss(
            embeddings.attribute_logits, batch.label, counts=_is_whole(batch)
        ),
        "adversary": losses.generator_loss(
            discriminate(game, discriminator_params, embeddings.image, batch.label),
            discriminate(game, discriminator_params, embeddings.attribute, batch.label),
            generator=options.generator,
            weights=_judged(batch, options),
        ),
        "consistency": losses.consistency_loss(embeddings.image, embeddings.attribute),
        "contrastive": losses.contrastive_loss(
            embeddings.image,
            embeddings.attribute,
            batch.attributes,
            batch.description,
            log_temperature,
            all_known=options.all_known,
            axis_name=options.axis_name,
        ),
        "group_prediction": group_prediction,
        "attribute_head": losses.attribute_loss(
            embeddings.image_attribute_logits, batch.attributes
        ),
        "description_head": losses.attribute_loss(
            embeddings.attribute_attribute_logits, batch.description
        ),
        "conditioned": conditioned,
        "arc_face": arc_face,
        "semantic_margin": semantic_margin,
        "synthesis": synthesis,
        "cycle": cycle,
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
    rates: PyTree,
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
        rates: the learning rate of every part of the parameters, a prefix of them.
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


def draw_people(
    batch: Batch, group_sizes: Sequence[int], step: Array, options: StepOptions
) -> Draw:
    """What the synthesiser is asked for at a step: of the whole batch, and of it a device's share.

    So it does not depend on the number of devices. All in one draw: a CPU runs each as a loop of
    many small operations.
    """
    descriptions, first = batch.description, 0
    if options.axis_name is not None:
        descriptions = jax.lax.all_gather(descriptions, options.axis_name, tiled=True)
        first = jax.lax.axis_index(options.axis_name) * len(batch.label)
    key = jax.random.fold_in(jax.random.key(options.seed), step)
    widths = (NOISE_WIDTH, NOISE_WIDTH, len(group_sizes))
    drawn = jax.random.normal(key, (len(descriptions), sum(widths)))
    noise, unseen_noise, order = jnp.split(drawn, np.cumsum(widths)[:-1], axis=1)
    whole = Draw(
        noise=noise,
        unseen_description=draw_from_prior(order, descriptions, group_sizes),
        unseen_noise=unseen_noise,
    )
    return jax.tree.map(
        lambda rows: jax.lax.dynamic_slice_in_dim(rows, first, len(batch.label)), whole
    )


_OF_DESCRIPTIONS = (
    *("attribute_concept", "adversary", "consistency", "contrastive", "description_head"),
    *("arc_face", "semantic_margin", "cycle"),
)
# By part of the embedder that may rest at first: the losses that teach it. (The image stream learns
# from any. Tokens ask for attention too, but not through their norm.)
_TAUGHT_BY = {
    "attribute_stream/mlp": _OF_DESCRIPTIONS,
    "attribute_stream/tokens": (*_OF_DESCRIPTIONS, "group_prediction", "conditioned"),
    "attribute_stream/token_norm": _OF_DESCRIPTIONS,
    "attribute_head": ("attribute_head", "description_head", "cycle"),
    "concept_classifier": ("image_concept", "attribute_concept"),
    "conditioned_attention": ("conditioned",),
    "group_weights": ("semantic_margin",),
    "log_temperature": ("contrastive",),
    "synthesiser": ("synthesis", "cycle"),
}


def first_steps(starts: Mapping[str, int], *, generator: str) -> dict[str, int]:
    """The first step that teaches a part of the embedder, for those that rest until then.

    starts: of the losses that have a weight, by name. generator: as in `StepOptions`.
    """
    if generator == "images":
        starts = {name: start for name, start in starts.items() if name != "adversary"}
    firsts = {
        part: min((starts[name] for name in teachers if name in starts), default=0)
        for part, teachers in _TAUGHT_BY.items()
    }
    return {part: first for part, first in firsts.items() if first > 0}


def learning_rates(state: TrainState, options: StepOptions) -> PyTree:
    """The rate of every part of the embedder: a prefix of its parameters."""
    backbone, image, attribute = (
        rate(state.step)
        for rate in (options.backbone_rate, options.image_rate, options.attribute_rate)
    )

    def of_part(name: str) -> Array:
        if name not in options.first_steps:
            return attribute
        return attribute * late_correction(state.step, options.first_steps[name])

    params = state.embedder.params
    return {part: of_part(part) for part in params} | {
        "image_stream": {
            name: backbone if name == "backbone" else image for name in params["image_stream"]
        },
        "attribute_stream": {
            name: of_part(f"attribute_stream/{name}") for name in params["attribute_stream"]
        },
    }


def embed(
    game: Game,
    options: StepOptions,
    params: PyTree,
    batch_stats: PyTree,
    batch: Batch,
    draw: Draw | None,
) -> tuple[Embeddings, PyTree]:
    """The embedder's forward pass on a device's batch, and BatchNorm's statistics after it.

    With micro-batches (ours): every part runs by itself, keeps nothing but its embeddings and
    runs again when the gradient is pulled back. So the losses see the whole batch, its negatives
    too, as in GradCache (Gao et al. 2021); BatchNorm alone sees parts. Conditioned attention
    scores pairs across the batch, which no part has.
    """

    def forward(batch_stats: PyTree, part: tuple[Array, Array, Draw | None]):
        image, description, draw = part
        embeddings, mutated = game.embedder.apply(
            {"params": params, "batch_stats": batch_stats},
            image,
            description,
            train=True,
            categories=options.categories,
            draw=draw,
            mutable=["batch_stats"],
        )
        return mutated["batch_stats"], embeddings

    whole = batch.image, batch.description, draw
    count = options.micro_batches
    if count == 1:
        batch_stats, embeddings = forward(batch_stats, whole)
        return embeddings, batch_stats
    parts = jax.tree.map(lambda rows: rows.reshape(count, -1, *rows.shape[1:]), whole)
    batch_stats, stacked = jax.lax.scan(jax.checkpoint(forward), batch_stats, parts)
    joined = jax.tree.map(lambda rows: rows.reshape(-1, *rows.shape[2:]), stacked)
    # These are not of images: every part says the same.
    return joined.replace(
        log_temperature=stacked.log_temperature[0],
        category=None if stacked.category is None else stacked.category[0],
        group_weights=stacked.group_weights[0],
    ), batch_stats


def train_step(
    game: Game, options: StepOptions, state: TrainState, batch: Batch
) -> tuple[TrainState, dict[str, Array]]:
    """One alternating step on one device's share of the batch.

    Returns the next state, identical on all devices, and scalar metrics averaged over the devices.
    """
    weights = {name: options.weights[name](state.step) for name in LOSS_NAMES}

    draw = None
    if game.embedder.has_synthesiser:
        draw = draw_people(batch, game.embedder.group_sizes, state.step, options)

    embeddings, pullback, batch_stats = jax.vjp(
        lambda params: embed(game, options, params, state.batch_stats, batch, draw),
        state.embedder.params,
        has_aux=True,
    )

    is_played = weights["adversary"] > 0
    if game.embedder.has_synthesiser:
        is_played |= weights["synthesis"] > 0
    discriminator, metrics = state.discriminator, {}
    for _ in range(options.discriminator_steps):
        discriminator, metrics = update_discriminator(
            game,
            discriminator,
            embeddings,
            batch,
            rate=options.discriminator_rate(state.step),
            active=is_played,
            options=options,
        )
    metrics = metrics | {"adversary_weight": weights["adversary"]}
    if game.embedder.has_synthesiser:
        metrics["synthesis_weight"] = weights["synthesis"]
    embedder, embedder_metrics = update_embedder(
        game,
        state.embedder,
        embeddings,
        pullback,
        batch,
        discriminator.params,
        weights=weights,
        rates=learning_rates(state, options),
        options=options,
    )
    average = state.average
    if average is not None:
        # Of few steps the average is of few: it must not remember the first parameters.
        decay = jnp.minimum(options.average_decay, (1.0 + state.step) / (10.0 + state.step))
        average = jax.tree.map(
            lambda old, new: decay * old + (1.0 - decay) * new, average, embedder.params
        )
    next_state = TrainState(
        step=state.step + 1,
        embedder=embedder,
        discriminator=discriminator,
        # The statistics come out of a synchronised BatchNorm: already equal on all devices.
        batch_stats=batch_stats,
        average=average,
    )
    return next_state, _mean_over_devices(metrics | embedder_metrics, options.axis_name)
