import jax.numpy as jnp
import numpy as np
import pytest

from jsreid_jax import optimizers


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
    assert float(rate(0)) == 0.0
    assert float(rate(10)) == pytest.approx(0.1)
    assert float(rate(55)) == pytest.approx(0.05)
    assert float(rate(100)) == pytest.approx(0.0, abs=1e-9)


def test_drops_multiply_at_their_steps():
    rate = optimizers.learning_rate_schedule(
        0.1, kind="drops", num_train_steps=100, warmup_steps=10, drop_steps=(40, 70)
    )
    assert float(rate(5)) == pytest.approx(0.05)
    assert [round(float(rate(s)), 6) for s in (39, 41, 69, 71)] == [0.1, 0.01, 0.01, 0.001]


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match=r"optimizer\.schedule is 'linear'"):
        optimizers.learning_rate_schedule(0.1, kind="linear", num_train_steps=1, warmup_steps=0)
    with pytest.raises(ValueError, match=r"optimizer\.name is 'lion'"):
        optimizers.discriminator_optimizer("lion", lambda step: 0.1)


def test_streams_have_their_own_learning_rates():
    params = {"image_stream": jnp.ones(2), "attribute_stream": jnp.ones(2), "heads": jnp.ones(2)}
    optimizer = optimizers.embedder_optimizer(
        "sgd",
        image_schedule=lambda step: 0.1,
        attribute_schedule=lambda step: 0.01,
        weight_decay=0.0,
        clip_norm=0.0,
    )
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    assert isinstance(updates, dict)
    np.testing.assert_allclose(updates["image_stream"], -0.1, rtol=1e-6)
    np.testing.assert_allclose(updates["attribute_stream"], -0.01, rtol=1e-6)
    np.testing.assert_allclose(updates["heads"], -0.01, rtol=1e-6)


def test_decay_spares_biases_and_clipping_limits_the_norm():
    params = {"image_stream": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}}
    zero = {"image_stream": {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2)}}
    optimizer = optimizers.embedder_optimizer(
        "adam",
        image_schedule=lambda step: 0.1,
        attribute_schedule=lambda step: 0.1,
        weight_decay=0.5,
        clip_norm=0.0,
    )
    updates, _ = optimizer.update(zero, optimizer.init(params), params)
    assert isinstance(updates, dict)
    np.testing.assert_allclose(updates["image_stream"]["kernel"], -0.05, rtol=1e-6)
    np.testing.assert_allclose(updates["image_stream"]["bias"], 0.0)
    clipped = optimizers.embedder_optimizer(
        "sgd",
        image_schedule=lambda step: 1.0,
        attribute_schedule=lambda step: 1.0,
        weight_decay=0.0,
        clip_norm=1.0,
    )
    huge = {"image_stream": jnp.full(4, 100.0)}
    updates, _ = clipped.update(huge, clipped.init(huge), huge)
    assert isinstance(updates, dict)
    assert float(jnp.linalg.norm(updates["image_stream"])) == pytest.approx(1.0, rel=1e-5)
