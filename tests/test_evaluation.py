import jax
import numpy as np
from games import make_batch, make_game, make_state

from input_pipeline import device_batches, pipeline
from jsreid_jax import evaluation, parallel


def test_padding_never_reaches_the_ranking():
    """Rows come back in order, without padding, as one device would embed them."""
    game = make_game()
    state = make_state(game)
    variables = state.variables
    images = make_batch(0, size=19).image
    batches = (
        device_batches.split_batch(batch, 8)
        for batch in pipeline.array_batches(np.asarray(images), batch_size=8)
    )
    embedders = evaluation.Embedders(game.embedder, mirror=False)
    got = evaluation.embed_rows(
        embedders.images, parallel.replicate(variables), batches, field="array"
    )
    expected = game.embedder.apply(variables, images, method="embed_images")
    assert got.shape == (19, 8)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_mirrored_images_embed_alike():
    game = make_game()
    variables = parallel.replicate(make_state(game).variables)
    image = np.asarray(make_batch(0, size=8).image)[:, None]
    plain, averaged = (
        evaluation.Embedders(game.embedder, mirror=mirror).images for mirror in (False, True)
    )

    def embed(function, image):
        return np.asarray(function(variables, parallel.split_over_devices(image)))[:, 0]

    flipped = image[..., ::-1, :]
    assert np.abs(embed(plain, image) - embed(plain, flipped)).max() > 1e-3
    np.testing.assert_allclose(embed(averaged, image), embed(averaged, flipped), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(embed(averaged, image), axis=1), 1.0, atol=1e-6)
    both = embed(plain, image) + embed(plain, flipped)
    both /= np.linalg.norm(both, axis=1, keepdims=True)
    np.testing.assert_allclose(embed(averaged, image), both, atol=1e-5)


def test_scores_are_cosines():
    queries, gallery = np.array([[1.0, 0.0]]), np.array([[0.6, 0.8], [0.0, -1.0]])
    np.testing.assert_allclose(evaluation.cosine_scores(queries, gallery), [[0.6, 0.0]])


def test_batches_arrive_on_their_devices_in_order():
    batches = [{"x": np.full((8, 2), i)} for i in range(5)]
    arrived = list(parallel.prefetch_to_devices(batches))
    assert [int(batch["x"][0, 0]) for batch in arrived] == list(range(5))
    assert len(arrived[0]["x"].sharding.device_set) == jax.local_device_count() == 8
