import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from games import (
    GROUP_SIZES,
    NUM_CATEGORIES,
    make_batch,
    make_game,
    make_options,
    make_state,
    per_device,
    trees_equal,
)

from jsreid_jax import losses, parallel
from jsreid_jax.checkpoints import Checkpoints
from jsreid_jax.optimizers import late_correction
from jsreid_jax.train_step import (
    draw_people,
    embed,
    embedder_losses,
    first_steps,
    learning_rates,
    train_step,
    update_discriminator,
)


def make_step(game, options, devices: int):
    """A function of (placed state, seed of a batch) to state and metrics after one step."""
    chosen = jax.devices()[:devices]
    step_fn = parallel.parallel_step(functools.partial(train_step, game, options), devices=chosen)

    def step(state, seed):
        batch = parallel.split_over_devices(per_device(make_batch(seed), devices), devices=chosen)
        return step_fn(state, batch)

    return step, functools.partial(parallel.replicate, devices=chosen)


def run_steps(game, options, *, devices: int, steps: int):
    step, place = make_step(game, options, devices)
    state, metrics = place(make_state(game)), {}
    for seed in range(steps):
        state, metrics = step(state, seed)
    return state, metrics


def largest_difference(a, b) -> float:
    a, b = jax.device_get((a, b))
    return max(jax.tree.leaves(jax.tree.map(lambda x, y: float(np.abs(x - y).max()), a, b)))


def test_eight_devices_train_as_one():
    """Ten steps, each from the same state on one device and on eight.

    Rounding may put a value on the other side of a ReLU's kink, and then a step differs visibly: of
    ten, two may. What devices really did otherwise would show in every step.
    """
    (one, on_one), (eight, on_eight) = (
        make_step(make_game(), make_options(), devices) for devices in (1, 8)
    )
    state = start = jax.device_get(make_state(make_game()))
    differences: list[float] = []
    for seed in range(10):
        state_1, metrics_1 = one(on_one(state), seed)
        state_8, metrics_8 = eight(on_eight(state), seed)
        # A tenth of the metrics' tolerance is that of everything that is kept.
        differences.append(
            max(
                largest_difference(state_1, state_8),
                0.1 * largest_difference(metrics_1, metrics_8),
            )
        )
        state = jax.device_get(state_8)
    assert largest_difference(start.embedder.params, state.embedder.params) > 1e-2
    assert sorted(differences)[7] < 1e-5, differences


def test_replicas_stay_bit_identical():
    state, _ = run_steps(make_game(optimizer="adam"), make_options(), devices=8, steps=5)
    parallel.assert_replicas_identical(state)


def test_a_forgotten_pmean_is_noticed():
    """The check above can fail: without the device axis in the options replicas drift apart."""
    state, _ = run_steps(make_game(), make_options(axis_name=None), devices=8, steps=2)
    with pytest.raises(AssertionError, match="differs from replica 0"):
        parallel.assert_replicas_identical(state)


def test_what_eight_devices_saved_goes_on_on_fewer(tmp_path):
    """The next step's losses, of the same global batch."""
    game, options = make_game(), make_options()
    step, place = make_step(game, options, 8)
    state, _ = step(place(make_state(game)), 0)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(1, state, {}, None)
    _, expected = step(state, 1)
    for devices in (2, 1):
        step, place = make_step(game, options, devices)
        with Checkpoints(tmp_path / "checkpoints", read_only=True) as checkpoints:
            restored = checkpoints.restore_state(1, place(make_state(game)))
        assert len(restored.step.devices()) == devices
        _, metrics = step(restored, 1)
        for name in metrics:
            np.testing.assert_allclose(metrics[name], expected[name], rtol=1e-5, atol=1e-5)


def one_step(game, options, state, batch):
    return jax.jit(functools.partial(train_step, game, options))(state, batch)


@pytest.fixture(scope="module")
def lone():
    """A game on one device outside pmap."""
    game = make_game(axis_name=None)
    return game, make_state(game), make_batch(0)


def test_each_player_moves_itself_only(lone):
    game, state, batch = lone
    # Only the discriminator has something to learn: every embedder loss weighs nothing, yet the
    # adversary's must weigh a trace or the discriminator rests; no modality is the generator's.
    silent = dict.fromkeys(make_options().weights, 0.0)
    options = make_options(silent | {"adversary": 1e-38}, axis_name=None)
    moved, _ = one_step(game, options, state, batch)
    assert trees_equal(moved.embedder.params, state.embedder.params)
    assert not trees_equal(moved.discriminator.params, state.discriminator.params)
    # The adversary is off: the embedder learns, the discriminator rests.
    moved, _ = one_step(game, make_options({"adversary": 0.0}, axis_name=None), state, batch)
    assert not trees_equal(moved.embedder.params, state.embedder.params)
    assert trees_equal(moved.discriminator, state.discriminator)


def test_the_discriminator_learns_from_its_own_loss_alone(lone):
    """Whatever the embedder's losses are, and whoever generates, its update is bit-identical."""
    game, state, batch = lone
    silent = dict.fromkeys(make_options().weights, 0.0) | {"adversary": 1e-38}
    everything, _ = one_step(game, make_options(axis_name=None), state, batch)
    nothing, _ = one_step(game, make_options(silent, axis_name=None), state, batch)
    reversed_, _ = one_step(game, make_options(generator="images", axis_name=None), state, batch)
    assert trees_equal(everything.discriminator, nothing.discriminator)
    assert trees_equal(everything.discriminator, reversed_.discriminator)
    assert not trees_equal(everything.embedder.params, nothing.embedder.params)


def test_parts_are_corrected_from_the_first_loss_that_teaches_them(synthesising):
    _, state, _ = synthesising
    starts = {
        **{"image_concept": 0, "group_prediction": 0, "attribute_concept": 50, "adversary": 20},
        **{"synthesis": 30, "cycle": 40},
    }
    firsts = first_steps(starts, generator="attributes")
    late = {"attribute_stream/mlp": 20, "attribute_stream/token_norm": 20}
    assert firsts == late | {"attribute_head": 40, "synthesiser": 30}
    assert first_steps(starts, generator="images")["attribute_stream/mlp"] == 40
    options = make_options(axis_name=None, first_steps=firsts)
    rates = learning_rates(state.replace(step=jnp.asarray(60)), options)
    assert float(rates["attribute_stream"]["mlp"]) == pytest.approx(
        0.02 * float(late_correction(jnp.asarray(60), 20))
    )
    assert float(rates["attribute_stream"]["tokens"]) == pytest.approx(0.02)
    assert set(rates) == set(state.embedder.params)
    assert float(rates["synthesiser"]) < float(rates["concept_classifier"]) == pytest.approx(0.02)


def test_learning_rates_follow_the_step(lone):
    """Also of a player that rests, and of one that moves several times per step."""
    game, state, batch = lone
    rates = make_options(
        axis_name=None,
        discriminator_steps=3,
        discriminator_rate=lambda step: 0.1 * (step < 1),
        attribute_rate=lambda step: 0.1 * (step >= 1),
    )
    first, _ = one_step(game, rates, state, batch)
    second, _ = one_step(game, rates, first, batch)

    def moved(old, new):
        return {
            "discriminator": not trees_equal(old.discriminator.params, new.discriminator.params),
        } | {
            part: not trees_equal(old.embedder.params[part], new.embedder.params[part])
            for part in ("image_stream", "attribute_stream", "concept_classifier")
        }

    assert moved(state, first) == {
        "discriminator": True,
        "image_stream": True,
        "attribute_stream": False,
        "concept_classifier": False,
    }
    assert moved(first, second) == {
        "discriminator": False,
        "image_stream": True,
        "attribute_stream": True,
        "concept_classifier": True,
    }


@pytest.mark.parametrize(
    ("generator", "image_moves", "attribute_moves"),
    [("attributes", False, True), ("images", True, False), ("both", True, True)],
)
def test_only_the_generator_gets_the_adversarial_gradient(
    lone, generator, image_moves, attribute_moves
):
    game, state, batch = lone
    weights = dict.fromkeys(make_options().weights, 0.0) | {"adversary": 1.0}
    options = make_options(weights, generator=generator, axis_name=None)
    moved, _ = one_step(game, options, state, batch)

    def moves(stream, part):
        return not trees_equal(
            moved.embedder.params[stream][part], state.embedder.params[stream][part]
        )

    assert moves("image_stream", "backbone") == image_moves
    assert moves("image_stream", "projection") == image_moves
    assert moves("attribute_stream", "mlp") == attribute_moves
    # The tokens guide the image stream's attention, but what images generate does not guide it.
    assert moves("attribute_stream", "tokens") == attribute_moves


def test_partial_descriptions_are_not_in_the_game(lone):
    """Neither what the discriminator learns and says of itself, nor what the generator is told."""
    game, state, batch = lone
    whole = np.arange(len(batch.label)) % 4 != 0
    batch = batch.replace(attributes=np.where(batch.attributes == 0, 1.0, batch.attributes))
    batch = batch.replace(description=np.where(whole[:, None], batch.attributes, 0.0))
    options = make_options(axis_name=None, description_dropout=0.25)
    variables = {"params": state.embedder.params, "batch_stats": state.batch_stats}
    embeddings = game.embedder.apply(variables, batch.image, batch.description, train=False)

    def learnt(attribute):
        return update_discriminator(
            game,
            state.discriminator,
            embeddings.replace(attribute=attribute),
            batch,
            rate=np.float32(0.02),
            active=np.array(True),
            options=options,
        )

    def elsewhere(rows):
        return np.where(rows[:, None], -embeddings.image, embeddings.attribute)

    assert largest_difference(learnt(elsewhere(~whole)), learnt(embeddings.attribute)) < 1e-6
    assert largest_difference(learnt(elsewhere(whole)), learnt(embeddings.attribute)) > 1e-3
    # Those that are left weigh as much as the images do: who knows nothing learns no preference.
    untrained = jax.tree.map(np.zeros_like, state.discriminator.params)
    player = state.discriminator.replace(params=untrained)
    moved, metrics = update_discriminator(
        game, player, embeddings, batch, rate=1.0, active=np.array(True), options=options
    )
    last = moved.params["mlp"]["dense_1"]["bias"]
    np.testing.assert_allclose(last, 0.0, atol=1e-6)
    assert float(metrics["discriminator_accuracy"]) == pytest.approx(0.5)
    # Whatever share of this batch is whole: an accuracy is one.
    luckless = make_options(axis_name=None, description_dropout=0.75)
    _, metrics = update_discriminator(
        game, player, embeddings, batch, rate=1.0, active=np.array(True), options=luckless
    )
    assert float(metrics["discriminator_accuracy"]) == pytest.approx(0.5)

    def adversary(attribute):
        parts = embedder_losses(
            game,
            embeddings.replace(attribute=attribute),
            batch,
            state.discriminator.params,
            options,
        )
        return parts["adversary"]

    gradient = np.abs(jax.grad(adversary)(embeddings.attribute)).sum(axis=1)
    assert (gradient[~whole] == 0).all()
    assert (gradient[whole] > 0).all()


def test_the_embedder_plays_against_the_updated_discriminator(lone):
    """The generator's loss that the step reports is of the discriminator after its own update."""
    game, state, batch = lone
    moved, metrics = one_step(game, make_options(axis_name=None), state, batch)
    embeddings, _ = game.embedder.apply(
        {"params": state.embedder.params, "batch_stats": state.batch_stats},
        batch.image,
        batch.attributes,
        train=True,
        mutable=["batch_stats"],
    )

    def loss_against(params):
        logits = game.discriminator.apply({"params": params}, embeddings.attribute, batch.label)
        return float(losses.generator_loss(logits, logits, generator="attributes"))

    updated = loss_against(moved.discriminator.params)
    assert abs(updated - loss_against(state.discriminator.params)) > 1e-4
    assert float(metrics["adversary_loss"]) == pytest.approx(updated, abs=1e-5)


def test_more_discriminator_steps_move_it_further(lone):
    game, state, batch = lone
    once, _ = one_step(game, make_options(axis_name=None), state, batch)
    thrice, _ = one_step(game, make_options(axis_name=None, discriminator_steps=3), state, batch)
    start = state.discriminator.params
    far = largest_difference(thrice.discriminator.params, start)
    assert far > 2 * largest_difference(once.discriminator.params, start)


def step_flops(adversary: bool) -> float:
    """FLOPs of one lowered step of the paper's networks: ResNet-50 at 256x128."""
    game = make_game(axis_name=None, backbone="resnet50")
    size = (256, 128)
    state = jax.eval_shape(lambda: make_state(game, size))
    batch = make_batch(0, 8, size)
    weights = {} if adversary else {"adversary": 0.0}
    options = make_options(weights, axis_name=None, discriminator_steps=1 if adversary else 0)
    lowered = jax.jit(functools.partial(train_step, game, options)).lower(state, batch)
    return lowered.cost_analysis()["flops"]


def test_the_adversary_costs_no_second_forward_pass():
    with_adversary, without = step_flops(True), step_flops(False)
    assert without > 1e10
    assert with_adversary <= 1.10 * without


def test_a_conditioned_discriminator_uses_the_category():
    game = make_game(axis_name=None, conditioning="category")
    state = make_state(game)
    embedding = np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)

    def logits(label):
        return np.asarray(
            game.discriminator.apply({"params": state.discriminator.params}, embedding, label)
        )

    assert np.abs(logits(np.array([0, 1])) - logits(np.array([2, 3]))).min() > 1e-5


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_parameters(lone):
    import jax.numpy as jnp

    game, _, batch = lone
    embedder = game.embedder.clone(dtype=jnp.bfloat16)
    game = dataclasses.replace(game, embedder=embedder)
    state, metrics = one_step(game, make_options(axis_name=None), make_state(game), batch)
    assert {leaf.dtype for leaf in jax.tree.leaves(state.embedder.params)} == {np.dtype("float32")}
    assert metrics["embedder_loss"].dtype == np.float32
    assert np.isfinite(float(metrics["embedder_loss"]))
    step = functools.partial(train_step, game, make_options(axis_name=None))
    assert "bf16" in str(jax.make_jaxpr(step)(state, batch))


@pytest.fixture(scope="module")
def synthesising():
    """A game in which features are made of descriptions."""
    game = make_game(axis_name=None, synthesises=True)
    return game, make_state(game), make_batch(0)


def moved_parts(game, options, state, batch) -> set[str]:
    moved, _ = one_step(game, options, state, batch)
    return {
        part
        for part in state.embedder.params
        if not trees_equal(moved.embedder.params[part], state.embedder.params[part])
    }


def test_the_synthesis_teaches_the_synthesiser_alone(synthesising):
    game, state, batch = synthesising
    silent = dict.fromkeys(make_options().weights, 0.0)
    options = make_options(silent | {"synthesis": 1.0}, axis_name=None)
    assert moved_parts(game, options, state, batch) == {"synthesiser"}
    moved, _ = one_step(game, options, state, batch)
    assert not trees_equal(
        moved.discriminator.params["feature_mlp"], state.discriminator.params["feature_mlp"]
    )
    _, metrics = one_step(game, options, state, batch)
    assert 0.0 <= float(metrics["feature_discriminator_accuracy"]) <= 1.0
    assert float(metrics["synthesis_weight"]) == 1.0


def test_the_cycle_teaches_both_streams_of_unseen_people(synthesising):
    game, state, batch = synthesising
    silent = dict.fromkeys(make_options().weights, 0.0)
    options = make_options(silent | {"cycle": 1.0}, axis_name=None)
    parts = moved_parts(game, options, state, batch)
    assert parts == {"synthesiser", "image_stream", "attribute_stream", "attribute_head"}
    # Not by way of the running statistics, which the images of the batch have just updated.
    moved, _ = one_step(game, options, state, batch)
    after, before = (s.embedder.params["image_stream"] for s in (moved, state))
    assert trees_equal(after["backbone"], before["backbone"])


def test_what_is_synthesised_is_a_function_of_seed_and_step(synthesising):
    game, state, batch = synthesising

    def loss(seed):
        _, metrics = one_step(game, make_options(axis_name=None, seed=seed), state, batch)
        return float(metrics["cycle_loss"])

    assert loss(0) == loss(0) != loss(1)


def test_asmr_learns_its_group_weights(lone):
    game, state, batch = lone
    silent = dict.fromkeys(make_options().weights, 0.0)
    categories = np.random.default_rng(0).choice([-1.0, 1.0], (6, 5)).astype(np.float32)
    weights = silent | {"arc_face": 1.0, "semantic_margin": 6.0}
    options = make_options(weights, axis_name=None, categories=categories)
    assert {"group_weights", "attribute_stream"} <= moved_parts(game, options, state, batch)
    assert moved_parts(game, make_options(weights, axis_name=None), state, batch) == set()


def test_groups_are_predicted_from_both_stages_and_balanced_where_maps_are_learned(lone):
    game, state, batch = lone
    weights = np.array([[3.0, 1.0, 2.0, 0.5, 4.0], [0.5, 2.0, 1.0, 1.0, 0.6]], np.float32)
    options = make_options(axis_name=None, map_weights=weights)
    embeddings, _ = embed(game, options, state.embedder.params, state.batch_stats, batch, None)
    found = embedder_losses(game, embeddings, batch, state.discriminator.params, options)
    late = losses.attribute_loss(embeddings.group_logits, batch.attributes)
    early = losses.attribute_loss(embeddings.map_logits, batch.attributes, weights=weights)
    assert float(found["group_prediction"]) == pytest.approx(float(late + early) / 2, rel=1e-6)
    assert early != losses.attribute_loss(embeddings.map_logits, batch.attributes)


def test_the_average_follows_the_parameters():
    game = make_game(axis_name=None, keeps_average=True)
    state, batch = make_state(game), make_batch(0)
    # At first the average is of the few steps that there are, whatever the decay: 1/10, 2/11.
    for decay, decays in [(0.05, (0.05, 0.05)), (0.9, (0.1, 2 / 11))]:
        options = make_options(axis_name=None, average_decay=decay)
        before = state
        for used in decays:
            after, _ = one_step(game, options, before, batch)
            wanted = jax.tree.map(
                lambda old, new, used=used: used * old + (1 - used) * new,
                before.average,
                after.embedder.params,
            )
            assert largest_difference(after.average, wanted) < 1e-6
            before = after
    first = before
    assert trees_equal(first.variables["params"], first.average)
    assert not trees_equal(first.average, first.embedder.params)
    assert make_state(make_game(axis_name=None)).average is None


def test_a_resting_backbone_learns_later(lone):
    game, state, batch = lone
    options = make_options(axis_name=None, backbone_rate=lambda step: 0.02 * (step >= 1))
    first, _ = one_step(game, options, state, batch)
    second, _ = one_step(game, options, first, batch)

    def backbone(state):
        return state.embedder.params["image_stream"]["backbone"]

    assert trees_equal(backbone(first), backbone(state))
    assert not trees_equal(backbone(second), backbone(first))
    projection = "projection"
    assert not trees_equal(
        first.embedder.params["image_stream"][projection],
        state.embedder.params["image_stream"][projection],
    )


def test_a_penalty_holds_the_discriminator_back(lone):
    game, state, batch = lone
    # Small steps: one of the penalty's gradient must not overshoot.
    make = functools.partial(make_options, axis_name=None, discriminator_rate=lambda step: 1e-3)
    free, _ = one_step(game, make(), state, batch)
    held, _ = one_step(game, make(gradient_penalty=20.0), state, batch)
    smooth, _ = one_step(game, make(label_smoothing=0.2), state, batch)
    image = game.embedder.apply(
        {"params": state.embedder.params, "batch_stats": state.batch_stats},
        batch.image,
        method="embed_images",
    )

    def judge(params, rows):
        return game.discriminator.apply({"params": params}, rows, batch.label)

    def steepness(moved):
        params = moved.discriminator.params
        return float(losses.gradient_penalty(functools.partial(judge, params), image))

    def confidence(moved):
        return float(judge(moved.discriminator.params, image).mean())

    assert steepness(held) < 0.9 * steepness(free)
    assert confidence(smooth) < confidence(free)


def test_every_loss_runs_on_eight_devices_as_replicas():
    game = make_game(attention="guided+conditioned", synthesises=True, keeps_average=True)
    categories = np.random.default_rng(0).choice([-1.0, 1.0], (6, 5)).astype(np.float32)
    options = make_options(categories=categories, average_decay=0.9, gradient_penalty=1.0)
    state, metrics = run_steps(game, options, devices=8, steps=3)
    parallel.assert_replicas_identical(state)
    assert all(np.isfinite(float(value)) for value in metrics.values())
    assert all(float(metrics[f"{name}_loss"]) != 0 for name in options.weights)


def temporary_bytes(game, options, batch) -> int:
    """What a compiled step needs beside its inputs and outputs."""
    step = jax.jit(functools.partial(train_step, game, options))
    state = jax.eval_shape(lambda: make_state(game, batch.image.shape[1:3]))
    return step.lower(state, batch).compile().memory_analysis().temp_size_in_bytes


def test_micro_batches_are_one_batch():
    """Of equal parts, so that BatchNorm too sees the same: losses and gradients are the same.

    The contrastive loss is of the whole batch: it would be lower within a part.
    """
    game, half = make_game(axis_name=None), make_batch(0, 8)
    batch = jax.tree.map(lambda rows: np.concatenate([rows, rows]), half)
    categories = np.unique(half.attributes, axis=0)[:NUM_CATEGORIES]
    (once, one), (twice, two) = (
        one_step(
            game,
            make_options(axis_name=None, categories=categories, micro_batches=count),
            make_state(game),
            batch,
        )
        for count in (1, 2)
    )
    start = make_state(game).embedder.params
    assert largest_difference(once.embedder.params, start) > 1e-3
    assert largest_difference(once.embedder.params, twice.embedder.params) < 1e-5
    assert largest_difference(once.discriminator, twice.discriminator) < 1e-5
    for name in one:
        np.testing.assert_allclose(one[name], two[name], rtol=1e-4, err_msg=name)


def test_micro_batches_of_made_features_fit_together():
    game = make_game(axis_name=None, synthesises=True)
    state, batch = jax.eval_shape(lambda: make_state(game)), make_batch(0)
    whole, parts = (
        jax.eval_shape(
            functools.partial(train_step, game, make_options(axis_name=None, micro_batches=count)),
            state,
            batch,
        )
        for count in (1, 2)
    )
    assert whole == parts


def test_micro_batches_take_less_memory_and_stay_replicas(lone):
    game, batch = lone[0], make_batch(0, 64, (64, 32))
    whole, parts = (
        temporary_bytes(game, make_options(axis_name=None, micro_batches=count), batch)
        for count in (1, 8)
    )
    assert parts < 0.5 * whole, (parts, whole)
    state, _ = run_steps(make_game(), make_options(micro_batches=2), devices=4, steps=2)
    parallel.assert_replicas_identical(state)


def kept_bytes(game, batch) -> int:
    """What the forward pass keeps for the pullback; XLA may then do better than that."""
    state = jax.eval_shape(lambda: make_state(game, batch.image.shape[1:3]))
    options = make_options(axis_name=None)

    def pullback(params, batch_stats):
        run = functools.partial(
            embed, game, options, batch_stats=batch_stats, batch=batch, draw=None
        )
        return jax.vjp(lambda params: run(params=params), params, has_aux=True)[1]

    kept = jax.eval_shape(pullback, state.embedder.params, state.batch_stats)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(kept))


def test_rematerialised_blocks_keep_less_and_learn_the_same(lone):
    game, state, batch = lone
    options = make_options(axis_name=None)
    again = dataclasses.replace(game, embedder=game.embedder.clone(remat=True))
    assert jax.tree.structure(make_state(again)) == jax.tree.structure(state)
    kept, _ = one_step(game, options, state, batch)
    computed, _ = one_step(again, options, state, batch)
    assert largest_difference(kept, computed) < 1e-5
    game, again = (
        dataclasses.replace(game, embedder=game.embedder.clone(backbone="resnet50", remat=remat))
        for remat in (False, True)
    )
    batch = make_batch(0, 8, (128, 64))
    assert kept_bytes(again, batch) < 0.5 * kept_bytes(game, batch)


def test_what_is_synthesised_does_not_depend_on_the_number_of_devices():
    """Drawn of the whole batch, its descriptions too."""
    batch = make_batch(0)
    step = jnp.asarray(3)
    whole = draw_people(batch, GROUP_SIZES, step, make_options(axis_name=None))
    for devices in (2, 4):
        options = make_options(axis_name="some")
        draw = jax.pmap(
            lambda part, options=options: draw_people(part, GROUP_SIZES, step, options),
            axis_name="some",
            devices=jax.devices()[:devices],
        )
        drawn = draw(per_device(batch, devices))
        for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(drawn), strict=True):
            np.testing.assert_array_equal(a, np.asarray(b).reshape(a.shape))
