import jax
import jax.numpy as jnp
import numpy as np
import pytest
from games import GROUP_SIZES, make_batch, make_game, make_state

from jsreid_jax.models.attention import ConditionedAttention, GuidedAttention, region_prior
from jsreid_jax.models.backbones import BACKBONES, create_backbone
from jsreid_jax.models.layers import Conv
from jsreid_jax.models.synthesiser import draw_from_prior


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2), (7, 2)])
def test_convolution_is_the_padded_cross_correlation(kernel, stride):
    """Against a loop over the kernel positions, odd sizes included."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 13, 9, 3)).astype(np.float32)
    module = Conv(5, kernel, stride)
    variables = module.init(jax.random.key(0), x)
    weights = np.asarray(variables["params"]["kernel"])
    pad = (kernel - 1) // 2
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    height = (padded.shape[1] - kernel) // stride + 1
    width = (padded.shape[2] - kernel) // stride + 1
    expected = np.zeros((2, height, width, 5))
    for i in range(height):
        for j in range(width):
            window = padded[:, i * stride : i * stride + kernel, j * stride : j * stride + kernel]
            expected[:, i, j] = np.einsum("bklc,klcf->bf", window, weights)
    np.testing.assert_allclose(module.apply(variables, x), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "last_stride", "shape", "millions"),
    [
        ("resnet50", 1, (16, 8, 2048), 23.5),
        ("resnet50", 2, (8, 4, 2048), 23.5),
        ("resnet18", 2, (8, 4, 512), 11.2),
        ("resnet_small", 1, (32, 16, 128), 0.3),
        ("mobilenet_v2", 2, (8, 4, 1280), 2.2),
        ("mobilenet_v2", 1, (16, 8, 1280), 2.2),
    ],
)
def test_backbones_have_the_published_sizes(name, last_stride, shape, millions):
    backbone = create_backbone(name, last_stride=last_stride, axis_name=None, dtype=jnp.float32)
    image = jax.ShapeDtypeStruct((1, 256, 128, 3), jnp.float32)

    def run(image):
        return backbone.init_with_output(jax.random.key(0), image, train=False)

    output, variables = jax.eval_shape(run, image)
    assert output[-1].shape == (1, *shape)
    count = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))
    assert count / 1e6 == pytest.approx(millions, abs=0.1)


def test_unknown_backbones_and_strides_are_refused():
    with pytest.raises(ValueError, match="resnet99.*expected one of " + ", ".join(BACKBONES)):
        create_backbone("resnet99", last_stride=1, axis_name=None, dtype=jnp.float32)
    with pytest.raises(ValueError, match="last_stride is 3"):
        create_backbone("resnet18", last_stride=3, axis_name=None, dtype=jnp.float32)


@pytest.fixture(scope="module")
def small():
    game = make_game(axis_name=None)
    state = make_state(game)
    return game.embedder, {"params": state.embedder.params, "batch_stats": state.batch_stats}


def test_embeddings_are_unit_vectors_in_one_space(small):
    embedder, variables = small
    batch = make_batch(0)
    images = embedder.apply(variables, batch.image, method="embed_images")
    descriptions = embedder.apply(variables, batch.attributes, method="embed_attributes")
    assert images.shape == descriptions.shape == (16, 8)
    np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(descriptions, axis=1), 1.0, atol=1e-5)


def test_evaluation_does_not_depend_on_the_rest_of_the_batch(small):
    embedder, variables = small
    image = make_batch(0).image
    together = embedder.apply(variables, image, method="embed_images")
    alone = embedder.apply(variables, image[:1], method="embed_images")
    np.testing.assert_allclose(together[:1], alone, atol=1e-5)


def test_attention_maps_are_distributions_and_guided_by_the_attribute_stream(small):
    embedder, variables = small
    image = make_batch(0).image
    maps = embedder.apply(variables, image, method="attention_maps")
    assert maps.shape == (16, len(GROUP_SIZES), 8, 4)
    np.testing.assert_allclose(maps.sum(axis=(2, 3)), 1.0, atol=1e-5)
    assert maps.min() >= 0

    def map_mass(tokens):
        params = variables["params"]
        stream = params["attribute_stream"] | {"tokens": tokens}
        changed = variables | {"params": params | {"attribute_stream": stream}}
        return (embedder.apply(changed, image, method="attention_maps") ** 2).sum()

    gradient = jax.grad(map_mass)(variables["params"]["attribute_stream"]["tokens"])
    assert float(jnp.abs(gradient).min(axis=1).max()) > 0


@pytest.mark.parametrize("last_stride", [1, 2])
def test_maps_are_learned_at_an_early_stage_and_pool_the_last(last_stride):
    game = make_game(axis_name=None, backbone="resnet_small")
    image = make_batch(0, size=2).image
    description = np.ones((2, sum(GROUP_SIZES)), np.float32)
    for stage, channels, shape in ((1, 128, (4, 2)), (2, 64, (4, 2)), (3, 32, (8, 4))):
        shape = tuple(n // last_stride if stage == 1 else n for n in shape)
        embedder = game.embedder.clone(attention_stage=stage, last_stride=last_stride)
        variables = embedder.init(jax.random.key(0), image, description, train=False)
        maps = embedder.apply(variables, image, method="attention_maps")
        assert maps.shape == (2, len(GROUP_SIZES), *shape)
        np.testing.assert_allclose(maps.sum(axis=(2, 3)), 1.0, atol=1e-5)
        attention = variables["params"]["image_stream"]["attention"]
        assert len(attention["early"]["hidden"]["kernel"]) == channels
        assert len(attention["late"]["hidden"]["kernel"]) == 128


def attention_of(height: int, width: int, place_prior: float = 0.0):
    """A module, its variables and what it looks at: a map (3, 2) and an early one of that size."""
    regions = ((0.0, 1.0), (0.0, 0.4))
    module = GuidedAttention((2, 1), regions, place_prior, width=4)
    rng = np.random.default_rng(0)
    late, early = (
        rng.normal(size=(1, *size, 5)).astype(np.float32) for size in ((3, 2), (height, width))
    )
    looked_at = (late, early, np.ones((2, 4), np.float32))
    return module, module.init(jax.random.key(0), *looked_at, train=False), looked_at


@pytest.mark.parametrize(
    ("size", "factor"),
    [((3, 2), 1), ((6, 4), 2), ((5, 3), 2), ((9, 5), 4)],
    ids=["same", "twice", "odd", "two strides"],
)
def test_attention_pools_where_it_looks(size, factor):
    """A query that matches one place's key returns the value of the last stage there."""
    module, variables, looked_at = attention_of(*size)
    sharp = jax.tree.map(jnp.array, variables)
    sharp["params"]["query"]["kernel"] = 1e4 * sharp["params"]["query"]["kernel"]
    found = module.apply(sharp, *looked_at, train=False)
    assert found.logits.shape == found.map_logits.shape == (1, 3)
    assert found.maps.shape == (1, 2, *size)
    flat = np.asarray(found.maps).reshape(2, -1)
    np.testing.assert_allclose(flat.max(axis=1), 1.0, atol=1e-4)

    def dense(layer, x):
        return x @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])

    def values(kind, value, x):
        hidden = dense(sharp["params"][kind]["hidden"], x)
        # BatchNorm has no statistics yet: it divides by sqrt(1 + epsilon).
        return dense(sharp["params"][value], np.maximum(hidden / np.sqrt(1 + 1e-5), 0))

    late, early, _ = looked_at
    rows, columns = np.unravel_index(flat.argmax(axis=1), size)
    at_late = values("late", "value", late)[0][rows // factor, columns // factor]
    np.testing.assert_allclose(found.pooled[0], at_late, atol=1e-3)
    at_early = np.maximum(values("early", "early_value", early)[0][rows, columns], 0)
    head = sharp["params"]["early_prediction"]
    logits = (at_early[[0, 0, 1]] * np.asarray(head["kernel"])).sum(axis=1) + head["bias"]
    np.testing.assert_allclose(found.map_logits[0], logits, atol=1e-3)


def test_a_score_of_a_place_draws_its_own_group_there_and_no_other():
    module, variables, looked_at = attention_of(3, 2)
    before = module.apply(variables, *looked_at, train=False).maps
    params = variables["params"]
    moved = variables | {"params": params | {"place": params["place"].at[1, 4].set(10.0)}}
    maps = module.apply(moved, *looked_at, train=False).maps
    np.testing.assert_allclose(maps[0, 1].reshape(-1), np.eye(6)[4], atol=1e-6)
    np.testing.assert_array_equal(maps[0, 0], before[0, 0])


def test_attention_begins_in_the_region_where_a_group_is_worn():
    module, variables, looked_at = attention_of(6, 4)
    anywhere = module.apply(variables, *looked_at, train=False).maps
    prior = module.clone(place_prior=2.0)
    maps = np.asarray(prior.apply(variables, *looked_at, train=False).maps)
    np.testing.assert_allclose(maps[:, 0], anywhere[:, 0], atol=1e-6)
    # The middles of two rows of six lie above 0.4.
    weighted = np.array(anywhere[:, 1])
    weighted[:, 2:] *= np.exp(-2.0)
    weighted /= weighted.sum()
    np.testing.assert_allclose(maps[:, 1], weighted, atol=1e-6)
    assert maps[0, 1, :2].sum() > anywhere[0, 1, :2].sum() + 0.1


@pytest.mark.parametrize(
    ("height", "inside"),
    [(10, [0, 1]), (8, [0, 1]), (4, [0]), (2, [0]), (1, [0])],
)
def test_a_region_has_rows_on_every_map(height, inside):
    """Those whose middle is inside, or the nearest one."""
    prior = region_prior([(0.0, 0.2), (0.0, 1.0)], (height, 3), 2.0).reshape(2, height, 3)
    expected = np.full(height, -2.0)
    expected[inside] = 0.0
    np.testing.assert_array_equal(prior[0], np.repeat(expected[:, None], 3, axis=1))
    assert (prior[1] == 0).all()


def test_maps_learn_from_what_they_see_where_they_are_learned_alone():
    """Neither the embedding nor the prediction from the last stage moves them."""
    module, variables, looked_at = attention_of(6, 4)

    def gradient(name):
        def total(params):
            found = module.apply(variables | {"params": params}, *looked_at, train=False)
            return (getattr(found, name) ** 2).sum()

        gradients = jax.grad(total)(variables["params"])
        of_maps = [gradients[name] for name in ("place", "key", "query")]
        return max(np.abs(leaf).max() for leaf in jax.tree.leaves(of_maps))

    assert gradient("map_logits") > 0
    assert gradient("pooled") == gradient("logits") == 0


def test_an_unknown_group_leaves_no_trace(small):
    """The code 0 adds nothing: the token behind it can be anything."""
    embedder, variables = small
    description = np.array([[1, -1, -1, 0, 1]], np.float32)
    tokens = variables["params"]["attribute_stream"]["tokens"]
    stream = variables["params"]["attribute_stream"] | {"tokens": tokens.at[3].set(7.0)}
    changed = variables | {"params": variables["params"] | {"attribute_stream": stream}}

    def embed(variables, description):
        return embedder.apply(variables, description, method="embed_attributes")

    np.testing.assert_array_equal(embed(variables, description), embed(changed, description))
    known = np.array([[1, -1, -1, 1, 1]], np.float32)
    assert np.abs(embed(variables, known) - embed(changed, known)).max() > 1e-3


def test_without_attention_there_are_no_maps():
    game = make_game(axis_name=None, attention="none")
    state = make_state(game)
    variables = {"params": state.embedder.params, "batch_stats": state.batch_stats}
    assert "attention" not in state.embedder.params["image_stream"]
    image = make_batch(0).image
    assert game.embedder.apply(variables, image, method="attention_maps") is None
    assert game.embedder.apply(variables, image, method="embed_images").shape == (16, 8)


def test_conditioned_attention_equals_a_loop():
    """Scores of all pairs, and of own images of each description, are those of one pair."""
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(3, 4, 5)).astype(np.float32)
    feature_map = rng.normal(size=(2, 3, 2, 7)).astype(np.float32)
    known = np.array([[1, 1, 1, 1], [1, 0, 0, 1], [0, 0, 0, 0]], np.float32)
    module = ConditionedAttention(6)

    def all_pairs(module, tokens, known, feature_map):
        images = module.image_memory(feature_map)
        return module.scores(module.description_memory(tokens), known, images), images

    (scores, images), variables = module.init_with_output(
        jax.random.key(0), tokens, known, feature_map, method=all_pairs
    )
    description = module.apply(variables, tokens, method="description_memory")
    query, expected = np.split(np.asarray(description), 2, axis=-1)
    key, value = np.split(np.asarray(images), 2, axis=-1)
    for q in range(3):
        for g in range(2):
            found = []
            for r in np.flatnonzero(known[q]):
                looks = np.exp(key[g] @ query[q, r] / np.sqrt(6))
                pooled = (looks / looks.sum()) @ value[g]
                found.append(pooled @ expected[q, r] / np.sqrt(6))
            wanted = np.mean(found) if found else 0.0
            assert float(scores[q, g]) == pytest.approx(wanted, abs=1e-5)
    images = np.asarray(images)
    own = np.stack([images[[1, 0]], images[[0, 0]], images[[1, 1]]])
    again = module.apply(variables, description, known, own, method="scores")
    for q, chosen in enumerate(([1, 0], [0, 0], [1, 1])):
        np.testing.assert_allclose(again[q], scores[q, np.array(chosen)], atol=1e-5)


def test_conditioned_scores_of_unknown_groups_do_not_depend_on_the_image():
    game = make_game(axis_name=None, attention="guided+conditioned")
    variables, batch = make_state(game).variables, make_batch(0)
    images = game.embedder.apply(variables, batch.image, method="image_memory")

    def scores(description):
        return np.asarray(game.embedder.apply(variables, description, images, method="score_pairs"))

    assert np.ptp(scores(np.ones((1, 5), np.float32))) > 1e-4
    assert np.ptp(scores(np.zeros((1, 5), np.float32))) == 0


def test_conditioned_maps_are_those_that_score():
    """Made by hand: a description's score of an image is what its maps find there."""
    game = make_game(axis_name=None, attention="guided+conditioned")
    variables = make_state(game).variables
    batch = make_batch(0, size=3)
    maps = game.embedder.apply(variables, batch.description, batch.image, method="conditioned_maps")
    assert maps.shape == (3, len(GROUP_SIZES), 8, 4)
    np.testing.assert_allclose(maps.sum(axis=(2, 3)), 1.0, atol=1e-5)
    memory = game.embedder.apply(variables, batch.image, method="image_memory")
    scores = game.embedder.apply(variables, batch.description, memory, method="score_pairs")

    def expected(module):
        tokens = module.attribute_stream.value_tokens(batch.description)
        return module.conditioned_attention.description_memory(tokens)

    wanted = game.embedder.apply(variables, method=expected)[..., 8:]
    known = np.stack(
        [batch.description[:, columns].any(axis=1) for columns in ([0, 1, 2], [3], [4])]
    )
    for row in range(3):
        pooled = maps[row].reshape(3, -1) @ memory[row][:, 8:]
        found = (pooled * wanted[row]).sum(axis=-1) / np.sqrt(8)
        own = (found * known[:, row]).sum() / max(known[:, row].sum(), 1)
        np.testing.assert_allclose(own, scores[row, row], atol=1e-5)


def test_attention_that_re_ranks_changes_no_embedding_shape():
    for attention, is_guided in (("none", False), ("conditioned", False), ("guided", True)):
        game = make_game(axis_name=None, attention=attention)
        params = make_state(game).embedder.params
        assert ("conditioned_attention" in params) == (attention == "conditioned")
        assert ("attention" in params["image_stream"]) == is_guided
    with pytest.raises(ValueError, match="'sharp', expected one of none, g"):
        make_state(make_game(axis_name=None, attention="sharp"))


def test_the_prior_draws_every_group_from_another_row():
    description = np.stack([np.full(5, i + 1.0) for i in range(64)]).astype(np.float32)
    order = jax.random.normal(jax.random.key(0), (64, len(GROUP_SIZES)))
    drawn = np.asarray(draw_from_prior(order, description, GROUP_SIZES))
    groups = np.split(drawn, np.cumsum(GROUP_SIZES)[:-1], axis=1)
    for group in groups:
        assert (group == group[:, :1]).all()
        assert sorted(group[:, 0].tolist()) == list(range(1, 65))
    assert (groups[0][:, 0] != groups[1][:, 0]).mean() > 0.9


def test_recognition_logits_are_the_groups_own_with_guidance():
    for attention in ("none", "guided"):
        game = make_game(axis_name=None, attention=attention)
        state, batch = make_state(game), make_batch(0)
        embedding, logits = game.embedder.apply(state.variables, batch.image, method="recognise")
        whole = game.embedder.apply(state.variables, batch.image, batch.attributes, train=False)
        expected = whole.image_attribute_logits if attention == "none" else whole.group_logits
        np.testing.assert_allclose(logits, expected, atol=1e-5)
        np.testing.assert_allclose(embedding, whole.image, atol=1e-5)
