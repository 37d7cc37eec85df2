import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jsreid_jax import optimizers
from jsreid_jax.types import Player


def test_a_weight_starts_and_warms_up():
    schedule = optimizers.weight_schedule(weight=2.0, start_step=10, warmup_steps=4)
    values = [float(schedule(step)) for step in (0, 9, 10, 11, 13, 14, 100)]
    assert values == [0.0, 0.0, 0.5, 1.0, 2.0, 2.0, 2.0]
    at_once = optimizers.weight_schedule(weight=3.0, start_step=0, warmup_steps=0)
    assert float(at_once(0)) == 3.0


def test_cosine_falls_to_zero_after_warmup():
    rate = optimizers.learning_rate_schedule(
        0.1, kind="cosine", num_train_steps=100, warmup_steps=10
    )
    assert float(rate(0)) == pytest.approx(0.01)
    assert float(rate(9)) == pytest.approx(0.1)
    assert float(rate(55)) == pytest.approx(0.05)
    assert float(rate(100)) == pytest.approx(0.0, abs=1e-9)


def test_drops_multiply_at_their_steps():
    rate = optimizers.learning_rate_schedule(
        0.1, kind="drops", num_train_steps=100, warmup_steps=10, drop_steps=(40, 70, 70)
    )
    assert float(rate(4)) == pytest.approx(0.05)
    assert [round(float(rate(s)), 7) for s in (39, 40, 69, 70)] == [0.1, 0.01, 0.01, 0.0001]
    constant = optimizers.learning_rate_schedule(
        0.1, kind="constant", num_train_steps=100, warmup_steps=0
    )
    assert float(constant(0)) == float(constant(99)) == pytest.approx(0.1)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="'linear', expected one of cosine"):
        optimizers.learning_rate_schedule(0.1, kind="linear", num_train_steps=1, warmup_steps=0)
    with pytest.raises(ValueError, match="'lion', expected one of adam"):
        optimizers.create_optimizer("lion")


def test_learning_rates_follow_the_batch():
    factors = {
        rule: optimizers.batch_size_factor(rule, batch_size=512, reference=128)
        for rule in optimizers.BATCH_SIZE_RULES
    }
    assert factors == {"none": 1.0, "linear": 4.0, "sqrt": 2.0}


def step(optimizer, params, gradient, rate):
    player = Player(params=params, opt_state=optimizer.init(params))
    return optimizers.descend(optimizer, player, gradient, rate).params


def test_every_part_descends_at_its_own_rate():
    params = {"image_stream": {"a": jnp.ones(2)}, "attribute_stream": {"b": jnp.ones(2)}}
    rates = {"image_stream": 0.1, "attribute_stream": 0.01}
    moved = step(optimizers.create_optimizer("sgd"), params, params, rates)
    np.testing.assert_allclose(moved["image_stream"]["a"], 0.9, rtol=1e-6)
    np.testing.assert_allclose(moved["attribute_stream"]["b"], 0.99, rtol=1e-6)
    moved = step(optimizers.create_optimizer("sgd"), params, params, 0.5)
    np.testing.assert_allclose(moved["attribute_stream"]["b"], 0.5, rtol=1e-6)


def test_a_part_that_has_rested_begins_as_with_the_run():
    """Two hundred updates without gradient, then the way of an Adam that begins there."""
    rng = np.random.default_rng(0)
    adam = optimizers.create_optimizer("adam")
    late = Player(params=jnp.zeros(3), opt_state=adam.init(jnp.zeros(3)))
    for step in range(200):
        rate = 0.01 * optimizers.late_correction(jnp.asarray(step), 200)
        late = optimizers.descend(adam, late, jnp.zeros(3), rate)
    fresh = Player(params=jnp.zeros(3), opt_state=adam.init(jnp.zeros(3)))
    uncorrected = late
    for step in range(200, 260):
        gradient = jnp.asarray(rng.normal(size=3) + 0.3, jnp.float32)
        rate = 0.01 * optimizers.late_correction(jnp.asarray(step), 200)
        late = optimizers.descend(adam, late, gradient, rate)
        fresh = optimizers.descend(adam, fresh, gradient, 0.01)
        uncorrected = optimizers.descend(adam, uncorrected, gradient, 0.01)
        np.testing.assert_allclose(late.params, fresh.params, rtol=2e-4)
    assert (np.abs(uncorrected.params) > 2 * np.abs(fresh.params)).all()


def test_adam_with_decay_is_adamw():
    rng = np.random.default_rng(0)
    params = {"kernel": jnp.array(rng.normal(size=(3, 2))), "bias": jnp.ones(2)}
    ours, theirs = (
        optimizers.create_optimizer("adam", weight_decay=0.1),
        optax.adamw(0.01, weight_decay=0.1, mask={"kernel": True, "bias": False}),
    )
    player = Player(params=params, opt_state=ours.init(params))
    expected, state = params, theirs.init(params)
    for _ in range(3):
        gradient = jax.tree.map(lambda x: jnp.array(rng.normal(size=x.shape)), params)
        player = optimizers.descend(ours, player, gradient, 0.01)
        updates, state = theirs.update(gradient, state, expected)
        expected = optax.apply_updates(expected, updates)
    for got, wanted in zip(jax.tree.leaves(player.params), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5)


def test_clipping_limits_the_norm():
    zero, huge = {"a": jnp.zeros(4)}, {"a": jnp.full(4, 100.0)}
    moved = step(optimizers.create_optimizer("sgd", clip_norm=1.0), zero, huge, 1.0)
    assert float(jnp.linalg.norm(moved["a"])) == pytest.approx(1.0, rel=1e-5)
