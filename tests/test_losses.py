import functools

import jax
import numpy as np
import pytest

from jsreid_jax import losses, parallel


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def test_concept_loss_is_cross_entropy():
    logits = np.array([[0.0, np.log(3.0)], [0.0, 0.0]], np.float32)
    expected = -(np.log(3 / 4) + np.log(1 / 2)) / 2
    assert float(losses.concept_loss(logits, np.array([1, 0]))) == pytest.approx(expected, abs=1e-6)


def test_attribute_loss_counts_known_attributes_only():
    logits = np.array([[2.0, -1.0, 100.0]], np.float32)
    attributes = np.array([[1.0, -1.0, 0.0]], np.float32)
    expected = -(np.log(sigmoid(2.0)) + np.log(sigmoid(1.0))) / 2
    assert float(losses.attribute_loss(logits, attributes)) == pytest.approx(expected, abs=1e-6)
    assert float(losses.attribute_loss(logits, np.zeros((1, 3), np.float32))) == 0.0
    # Rows weigh the same however much is known of them: devices can average their means.
    rows = np.array([[1.0, -1.0, 0.0], [1.0, 0.0, 0.0]], np.float32)
    both = (expected - np.log(sigmoid(2.0))) / 2
    assert float(losses.attribute_loss(logits.repeat(2, 0), rows)) == pytest.approx(both, abs=1e-6)


def test_balanced_weights_let_the_rare_count_as_much_as_the_common():
    attributes = np.array([[1, 1, 0], [-1, 1, 1], [-1, 0, 1], [-1, 0, -1]], np.float32)
    weights = losses.balanced_weights(attributes)
    assert weights.dtype == np.float32
    present, absent = (attributes > 0).sum(0), (attributes < 0).sum(0)
    np.testing.assert_allclose(weights[0] * present, [2.0, 1.0, 1.5])
    np.testing.assert_allclose((weights[1] * absent)[[0, 2]], [2.0, 1.5])
    # One of a thousand is not let outshout the rest; what nobody has, or nobody knows, breaks
    # nothing.
    rare = np.where(np.arange(1000)[:, None] < [1, 0, 0], 1.0, [-1.0, -1.0, 0.0])
    np.testing.assert_allclose(losses.balanced_weights(rare)[0], [10.0, 10.0, 0.0])
    logits = np.array([[2.0, -1.0, 1.0]], np.float32)
    known = np.array([[1.0, -1.0, 0.0]], np.float32)
    expected = -(3.0 * np.log(sigmoid(2.0)) + 0.5 * np.log(sigmoid(1.0))) / 2
    weights = np.array([[3.0, 9.0, 9.0], [9.0, 0.5, 9.0]], np.float32)
    found = losses.attribute_loss(logits, known, weights=weights)
    assert float(found) == pytest.approx(expected, abs=1e-6)


def test_adversarial_losses_follow_the_equations():
    image, attribute = np.array([1.5], np.float32), np.array([-0.5], np.float32)
    expected = -np.log(sigmoid(1.5)) - np.log(1 - sigmoid(-0.5))
    assert float(losses.discriminator_loss(image, attribute)) == pytest.approx(expected, abs=1e-6)
    as_attributes = losses.generator_loss(image, attribute, generator="attributes")
    as_images = losses.generator_loss(image, attribute, generator="images")
    both = losses.generator_loss(image, attribute, generator="both")
    assert float(as_attributes) == pytest.approx(-np.log(sigmoid(-0.5)), abs=1e-6)
    assert float(as_images) == pytest.approx(-np.log(1 - sigmoid(1.5)), abs=1e-6)
    assert float(both) == pytest.approx(float(as_attributes) + float(as_images), abs=1e-6)


def test_adversarial_losses_weigh_descriptions_one_by_one():
    image, attribute = np.array([1.5, 0.0], np.float32), np.array([-0.5, 9.0], np.float32)
    weights = np.array([2.0, 0.0], np.float32)
    real = -(np.log(sigmoid(1.5)) + np.log(sigmoid(0.0))) / 2
    judged = losses.discriminator_loss(image, attribute, weights=weights)
    expected = real - np.log(1 - sigmoid(-0.5))
    assert float(judged) == pytest.approx(expected, abs=1e-6)
    fooled = losses.generator_loss(image, attribute, generator="attributes", weights=weights)
    assert float(fooled) == pytest.approx(-np.log(sigmoid(-0.5)), abs=1e-6)


def test_consistency_loss_is_one_minus_cosine():
    image = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    attribute = np.array([[1.0, 0.0], [0.0, -1.0]], np.float32)
    assert float(losses.consistency_loss(image, attribute)) == pytest.approx((0 + 2) / 2)


def unit_rows(rng, shape):
    x = rng.normal(size=shape)
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def brute_force_contrastive(image, attribute, label, temperature):
    total = 0.0
    for anchors, others in ((image, attribute), (attribute, image)):
        for i, anchor in enumerate(anchors):
            logits = others @ anchor / temperature
            log_probability = logits - np.log(np.exp(logits).sum())
            total -= log_probability[label == label[i]].mean()
    return total / (2 * len(image))


# Five categories of three binary attributes.
CATEGORIES = np.array([[1, 1, 1], [1, 1, -1], [1, -1, 1], [-1, 1, 1], [-1, -1, -1]], np.float32)


def test_a_partial_description_has_everyone_it_is_true_of_as_positive():
    description = np.array([[1, 0, 0], [1, 1, -1], [0, 0, 0]], np.float32)
    attributes = np.array([[1, 1, -1], [1, -1, 0], [-1, 1, 1]], np.float32)
    expected = [[1, 1, 0], [1, 0, 0], [1, 1, 1]]
    is_true, is_open = losses.true_or_open(description, attributes)
    np.testing.assert_array_equal(is_true, expected)
    assert not is_open.any()


def test_pairs_of_which_nobody_knows_are_open():
    description = np.array([[1, 1, -1], [1, 0, 0]], np.float32)
    attributes = np.array([[1, 0, -1], [0, 0, 0], [-1, 0, 0], [1, 1, 0]], np.float32)
    is_true, is_open = losses.true_or_open(description, attributes)
    np.testing.assert_array_equal(is_true, [[0, 0, 0, 0], [1, 0, 0, 1]])
    np.testing.assert_array_equal(is_open, [[1, 1, 0, 1], [0, 1, 0, 0]])


def test_open_pairs_neither_attract_nor_repel():
    """The second image may or may not be what the first description says."""
    rng = np.random.default_rng(0)
    image, attribute = unit_rows(rng, (3, 4)), unit_rows(rng, (3, 4))
    attributes = np.array([[1, 1, -1], [1, 0, -1], [-1, 1, 1]], np.float32)
    is_true = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1]], bool)
    counts = np.array([[1, 0, 1], [1, 1, 1], [1, 1, 1]], bool)
    scores = attribute @ image.T / 0.3
    expected = 0.0
    for table, true, counted in ((scores, is_true, counts), (scores.T, is_true.T, counts.T)):
        for row, positive, known in zip(table, true, counted, strict=True):
            expected -= (row - np.log(np.exp(row[known]).sum()))[positive].mean()
    found = losses.contrastive_loss(image, attribute, attributes, attributes, np.log(0.3))
    assert float(found) == pytest.approx(expected / 6, abs=1e-5)
    # Where all is known, not looking for open pairs changes nothing.
    known = CATEGORIES[:3]
    one, other = (
        losses.contrastive_loss(image, attribute, known, known, np.log(0.3), all_known=all_known)
        for all_known in (True, False)
    )
    assert float(one) == pytest.approx(float(other), abs=1e-6) != pytest.approx(float(found))
    assert float(losses.pair_loss(scores, attributes, attributes)) == pytest.approx(
        expected / 6, abs=1e-5
    )


def test_rows_that_do_not_count_add_nothing_to_the_concept_loss():
    logits, label = np.eye(3, dtype=np.float32), np.array([0, 1, 1])
    counts = np.array([True, True, False])
    loss = float(losses.concept_loss(logits, label, counts=counts))
    assert loss == pytest.approx(float(losses.concept_loss(logits[:2], label[:2])) * 2 / 3)


def test_contrastive_loss_equals_a_loop():
    rng = np.random.default_rng(0)
    image, attribute = unit_rows(rng, (6, 4)), unit_rows(rng, (6, 4))
    label = np.array([0, 1, 0, 2, 1, 0])
    attributes = CATEGORIES[label]
    loss = losses.contrastive_loss(image, attribute, attributes, attributes, np.log(0.3))
    expected = brute_force_contrastive(image, attribute, label, 0.3)
    assert float(loss) == pytest.approx(expected, abs=1e-5)


def test_contrastive_negatives_come_from_all_devices():
    """Loss and gradient over eight devices are those of the whole batch on one."""
    rng = np.random.default_rng(1)
    image, attribute = unit_rows(rng, (16, 4)), unit_rows(rng, (16, 4))
    label = rng.integers(0, 5, 16)
    description = CATEGORIES[label] * rng.integers(0, 2, (16, 3))
    whole = functools.partial(
        losses.contrastive_loss,
        attributes=CATEGORIES[label],
        description=description,
        log_temperature=np.log(0.3),
    )
    expected = jax.value_and_grad(whole, argnums=(0, 1))(image, attribute)

    def of_device(image, attribute, attributes, description):
        def loss(image, attribute):
            return losses.contrastive_loss(
                image, attribute, attributes, description, np.log(0.3), axis_name=parallel.AXIS
            )

        value, gradient = jax.value_and_grad(loss, argnums=(0, 1))(image, attribute)
        return jax.lax.pmean(value, parallel.AXIS), gradient

    split = [
        x.reshape(8, 2, *x.shape[1:]) for x in (image, attribute, CATEGORIES[label], description)
    ]
    value, gradient = jax.pmap(of_device, axis_name=parallel.AXIS)(*split)
    assert float(value[0]) == pytest.approx(float(expected[0]), abs=1e-5)
    for got, wanted in zip(gradient, expected[1], strict=True):
        # Each device holds the gradient of the sum of all devices' means; pmean divides by 8.
        np.testing.assert_allclose(got.reshape(16, 4) / 8, wanted, atol=1e-5)


def test_losses_of_bfloat16_logits_are_float32():
    import jax.numpy as jnp

    logits = jnp.ones((2, 3), jnp.bfloat16)
    assert losses.concept_loss(logits, np.array([0, 1])).dtype == np.float32
    assert losses.attribute_loss(logits, np.ones((2, 3), np.float32)).dtype == np.float32


def test_smoothing_believes_in_images_only_partly():
    image, attribute = np.array([1.5], np.float32), np.array([-0.5], np.float32)
    real = -0.9 * np.log(sigmoid(1.5)) - 0.1 * np.log(1 - sigmoid(1.5))
    expected = real - np.log(1 - sigmoid(-0.5))
    smooth = losses.discriminator_loss(image, attribute, smoothing=0.1)
    assert float(smooth) == pytest.approx(expected, abs=1e-6)


def test_gradient_penalty_is_half_the_mean_squared_gradient():
    rows = np.array([[1.0, 2.0], [3.0, -1.0]], np.float32)
    penalty = losses.gradient_penalty(lambda x: (x**2).sum(axis=-1), rows)
    assert float(penalty) == pytest.approx(0.5 * ((2 * rows) ** 2).sum(axis=1).mean(), rel=1e-5)


def test_arc_face_adds_the_margin_to_the_own_angle():
    rng = np.random.default_rng(0)
    image, category = unit_rows(rng, (5, 4)), unit_rows(rng, (3, 4))
    label = np.array([0, 2, 1, 1, 0])
    total = 0.0
    for row, own in zip(image, label, strict=True):
        logits = category @ row
        logits[own] = np.cos(np.arccos(logits[own]) + 0.2)
        total -= 12 * logits[own] - np.log(np.exp(12 * logits).sum())
    loss = losses.arc_face_loss(image, category, label, scale=12.0, margin=0.2)
    assert float(loss) == pytest.approx(total / 5, abs=1e-5)
    # Also where an angle is 0 the gradient is finite.
    gradient = jax.grad(
        lambda x: losses.arc_face_loss(x, category, np.array([1]), scale=12.0, margin=0.2)
    )(category[1:2])
    assert np.isfinite(np.asarray(gradient)).all()


def test_arc_face_never_rewards_the_opposite_pole():
    """The farther an image is from its own description, the worse, up to an angle of pi."""
    category = np.eye(2, dtype=np.float32)
    angles = np.linspace(0, np.pi, 50)
    images = np.stack([np.cos(angles), 0 * angles, np.sin(angles)], axis=1)
    padded = np.pad(category, ((0, 0), (0, 1)))
    found = [
        float(losses.arc_face_loss(image[None], padded, np.array([0]), scale=12.0, margin=0.2))
        for image in images.astype(np.float32)
    ]
    assert (np.diff(found) > 0).all()
    gradient = jax.grad(
        lambda x: losses.arc_face_loss(x, padded, np.array([0]), scale=12.0, margin=0.2)
    )(np.array([[-1.0, 0, 0]], np.float32))
    assert gradient[0, 0] < -1


def test_semantic_margin_equals_a_loop_over_pairs():
    rng = np.random.default_rng(0)
    sizes = (1, 3, 2)
    descriptions = np.unique(rng.choice([-1, 0, 1], (9, 6)), axis=0)
    category, weights = unit_rows(rng, (len(descriptions), 4)), np.array([0.5, 2.0, 3.0])
    cosines, targets = [], []
    for i, a in enumerate(descriptions):
        for j, b in enumerate(descriptions):
            if i != j:
                differs = [(a[s] != b[s]).any() for s in (slice(0, 1), slice(1, 4), slice(4, 6))]
                cosines.append(category[i] @ category[j])
                targets.append(sigmoid(1 - np.dot(differs, weights) / 10))
    expected = np.mean((np.array(cosines) - np.mean(cosines) - targets) ** 2)
    options, group_of_option = losses.group_options(descriptions, sizes)
    loss = losses.semantic_margin_loss(category, options, group_of_option, weights)
    assert float(loss) == pytest.approx(expected, abs=1e-5)


def test_pair_loss_is_the_contrastive_loss_of_its_scores():
    rng = np.random.default_rng(0)
    image, attribute = unit_rows(rng, (6, 4)), unit_rows(rng, (6, 4))
    attributes = CATEGORIES[[0, 1, 0, 2, 1, 0]]
    expected = losses.contrastive_loss(image, attribute, attributes, attributes, np.log(0.3))
    scores = attribute @ image.T / 0.3
    loss = losses.pair_loss(scores, attributes, attributes)
    assert float(loss) == pytest.approx(float(expected), abs=1e-5)
