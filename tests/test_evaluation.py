import jax
import numpy as np
from games import make_batch, make_game, make_state

from input_pipeline import device_batches, pipeline
from jsreid_jax import evaluation, parallel


def test_padding_never_reaches_the_ranking():
    """Rows come back in order, without padding, as one device would embed them."""
    game = make_game()
    state = make_state(game)
    variables = {"params": state.embedder.params, "batch_stats": state.batch_stats}
    images = make_batch(0, size=19).image
    batches = (
        device_batches.split_batch(batch, 8)
        for batch in pipeline.array_batches(np.asarray(images), batch_size=8)
    )
    embedders = evaluation.Embedders(game.embedder)
    got = evaluation.embed_rows(
        embedders.images, parallel.replicate(variables), batches, field="array"
    )
    expected = game.embedder.apply(variables, images, method="embed_images")
    assert got.shape == (19, 8)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_scores_are_cosines():
    queries, gallery = np.array([[1.0, 0.0]]), np.array([[0.6, 0.8], [0.0, -1.0]])
    np.testing.assert_allclose(evaluation.cosine_scores(queries, gallery), [[0.6, 0.0]])


def test_batches_arrive_on_their_devices_in_order():
    batches = [{"x": np.full((8, 2), i)} for i in range(5)]
    arrived = list(parallel.prefetch_to_devices(batches))
    assert [int(batch["x"][0, 0]) for batch in arrived] == list(range(5))
    assert len(arrived[0]["x"].sharding.device_set) == jax.local_device_count() == 8
