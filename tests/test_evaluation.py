import dataclasses
from types import SimpleNamespace
from typing import Any

import cv2
import jax
import numpy as np
import pytest
from games import GROUP_SIZES, IMAGE_SIZE, make_batch, make_game, make_state

import experiment
import trained_model
from configs import default
from input_pipeline import device_batches, pipeline
from jsreid_jax import evaluation, parallel
from jsreid_jax.errors import ModelError
from jsreid_jax.protocols import Candidates, Task, create_task
from trained_model import Model, choose_weights


def test_the_fusion_weight_of_trainings_validation_is_not_chosen_again():
    """There is neither data nor a network here to choose with."""
    config: Any = default.get_config()
    config.eval.score = "fused"
    nothing: Any = None
    description: dict[str, Any] = {"validation": {"mAP": 0.5, "fusion_weight": 0.03}}
    choose_weights(Model(nothing, nothing, config, nothing, description))
    assert description["fusion_weight"] == 0.03


def test_the_weight_of_conditioned_attention_is_chosen_on_validation(monkeypatch):
    """Pair scores put right what the first ranking has wrong, and then get more wrong than right.

    Of two descriptions, each with one right image among three; a small weight turns the first
    description's order, a large one spoils the second's.
    """
    attributes = np.array([[1, -1], [-1, 1], [-1, 1]], np.int8)
    label, nobody = np.array([0, 1, 1]), np.full(3, -1)
    candidates = Candidates(
        attributes, label, nobody, nobody, label < 0, np.array([[1, -1], [-1, 1]], np.int8)
    )
    first = np.array([[0.50, 0.51, 0.1], [0.3, 0.9, 0.8]], np.float32)
    pairs = np.array([[1.0, 0.0, 0.0], [9.0, 0.0, 0.0]], np.float32)

    class FakeSearcher:
        def __init__(self, model):
            self.descriptions = lambda asked: np.eye(2, dtype=np.float32)
            self.images = lambda images: first.T

        def pair_scores(self, asked, images, best):
            return np.take_along_axis(pairs, best, axis=1)

    asked: list[str] = []
    validation = SimpleNamespace(images=[b""] * 3)
    monkeypatch.setattr(trained_model, "Searcher", FakeSearcher)
    monkeypatch.setattr(
        trained_model,
        "read_set",
        lambda model, split, data_dir: asked.append(split) or validation,
    )
    monkeypatch.setattr(experiment, "candidates", lambda validation: candidates)
    config: Any = default.get_config()
    config.eval.rerank = 3
    nothing: Any = None
    for weights, best in (((1.0, 0.001, 0.03), 0.03), ((0.0, 0.001), 0.0), ((0.5,), 0.5)):
        config.eval.rerank_weights = weights
        model = Model(nothing, nothing, config, nothing, {})
        choose_weights(model)
        assert model.description["rerank_weight"] == best
    assert asked == ["validation"] * 2
    config.data.validation_fraction = 0.0
    config.eval.rerank_weights = (0.1, 0.01)
    choose_weights(model)
    assert model.description["rerank_weight"] == 0.5
    fresh = Model(nothing, nothing, config, nothing, {})
    choose_weights(fresh)
    assert fresh.description["rerank_weight"] == 0.01


def test_a_checkpoint_that_training_replaces_is_chosen_anew(tmp_path, monkeypatch):
    (tmp_path / "checkpoints" / "3" / "state").mkdir(parents=True)
    there = [1, 2]

    class FakeCheckpoints:
        def __init__(self, folder, read_only):
            self.step = there.pop(0)

        def best_step(self):
            return self.step

        def close(self):
            pass

    def restore(checkpoints, step, config, which, of_folder):
        if step != 2:
            raise ModelError(f"{step} does not read")
        return step

    monkeypatch.setattr(trained_model, "Checkpoints", FakeCheckpoints)
    monkeypatch.setattr(trained_model, "_restore", restore)
    for name in ("read_json", "stored_config", "set_up_devices"):
        monkeypatch.setattr(experiment, name, lambda *args, **kwargs: None)
    assert trained_model.load_run(tmp_path, "best") == 2
    # One that is there but damaged, and one that is always gone.
    for steps, sentence in (([3, 2], "3 does not read"), ([1] * 9, "1 does not read")):
        there[:] = steps
        with pytest.raises(ModelError, match=sentence):
            trained_model.load_run(tmp_path, "best")


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


def test_pairs_are_scored_again_as_one_by_one():
    """More queries than devices divide, and one with fewer images than are looked at."""
    game = make_game(attention="guided+conditioned")
    variables = make_state(game).variables
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (7, *IMAGE_SIZE, 3), np.uint8)
    images = [cv2.imencode(".png", image)[1].tobytes() for image in pixels]
    config: Any = default.get_config()
    config.data.image_height, config.data.image_width = IMAGE_SIZE
    config.eval.batch_size = 8
    descriptions = rng.choice([-1, 0, 1], (11, sum(GROUP_SIZES))).astype(np.int8)
    best = np.stack([rng.permutation(7)[:3] for _ in descriptions])
    best[4, 2] = -1
    got = experiment.score_pairs(
        config,
        evaluation.Embedders(game.embedder, mirror=False),
        parallel.replicate(variables),
        descriptions,
        images,
        best,
    )
    [batch] = pipeline.image_batches(images, batch_size=7, image_size=IMAGE_SIZE)
    apply: Any = game.embedder.apply
    memory = apply(variables, batch["image"], method="image_memory")
    alone = np.asarray(
        apply(variables, descriptions.astype(np.float32), memory, method="score_pairs")
    )
    expected = np.take_along_axis(alone, np.maximum(best, 0), axis=1)
    is_there = best >= 0
    np.testing.assert_allclose(got[is_there], expected[is_there], atol=2e-3)
    assert np.isfinite(got).all() and np.ptp(alone) > 0.1


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


def small_task() -> tuple[Task, np.ndarray]:
    """Three descriptions of two groups, one unseen; five images in another order than matches."""
    categories = np.array([[1, -1, -1], [1, 1, -1], [-1, -1, 1]], np.int8)
    label = np.array([1, 0, 2, 0, 1])
    nobody = np.full(5, -1)
    candidates = Candidates(categories[label], label, nobody, nobody, label < 0, categories)
    return create_task("category", candidates), np.array([True, True, False])


def test_judgement_of_a_hand_checked_ranking():
    task, seen = small_task()
    # Image i scores images[i] @ query: rankings 1 0 2 3 4, then 4 3 2 0 1, then 0 1 2 3 4.
    queries = np.eye(3, dtype=np.float32)
    gallery = np.array(
        [[0.8, 0.2, 0.9], [0.9, 0.1, 0.8], [0.7, 0.3, 0.7], [0.6, 0.4, 0.6], [0.5, 0.5, 0.5]],
        np.float32,
    )
    judgement = evaluation.judge(task, queries, gallery, seen, block_size=2, top_k=3)
    assert judgement.top.tolist() == [[1, 0, 2], [4, 3, 2], [0, 1, 2]]
    assert judgement.per_query["rank1"].tolist() == [1.0, 1.0, 0.0]
    first, second, third = (1 / 1 + 2 / 4) / 2, (1 / 1 + 2 / 4) / 2, 1 / 3
    assert judgement.per_query["AP_step"].tolist() == pytest.approx([first, second, third])
    assert judgement.metrics["seen"]["mAP"] == judgement.metrics["seen"]["mAP_step"]
    assert judgement.metrics["unseen"]["mAP"] == pytest.approx(third)
    assert judgement.metrics["all"]["valid_queries"] == 3
    assert judgement.cmc["all"][:3] == pytest.approx([2 / 3, 2 / 3, 1.0])
    assert judgement.cmc["unseen"][:4] == [0.0, 0.0, 1.0, 1.0]
    # The wrong first image of query 2 is image 0: both groups differ.
    attributes = np.array([[1, 1, -1], [1, -1, -1], [-1, -1, 1], [1, -1, -1], [1, 1, -1]])
    wrong = evaluation.wrong_top1(task, judgement, attributes, ("hat", "colour"), (1, 2))
    assert wrong == {"count": 1, "groups": {"hat": 1.0, "colour": 1.0}}
    attributes[0] = [-1, 0, 0]
    wrong = evaluation.wrong_top1(task, judgement, attributes, ("hat", "colour"), (1, 2))
    assert wrong["groups"]["hat"] == 0.0 and np.isnan(wrong["groups"]["colour"])


def test_a_protocol_decides_which_average_precision_is_called_map():
    task, seen = small_task()
    asmr = dataclasses.replace(task, average_precision="trapezoid")
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(3, 4)), rng.normal(size=(5, 4))
    step = evaluation.judge(task, queries, gallery, seen, block_size=8)
    trapezoid = evaluation.judge(asmr, queries, gallery, seen, block_size=8)
    assert step.metrics["all"]["mAP"] == trapezoid.metrics["all"]["mAP_step"]
    assert trapezoid.metrics["all"]["mAP"] == step.metrics["all"]["mAP_trapezoid"]
    assert step.metrics["all"]["mAP_step"] != step.metrics["all"]["mAP_trapezoid"]
    spans = evaluation.bootstrap(asmr, trapezoid, seen, seed=0)
    assert spans["all"]["mAP"] == spans["all"]["mAP_trapezoid"]
    low, high = spans["all"]["mAP"]
    assert low <= trapezoid.metrics["all"]["mAP"] <= high
    # One query has no spread.
    assert np.isnan(spans["unseen"]["mAP"]).all()


def test_batches_arrive_on_their_devices_in_order():
    batches = [{"x": np.full((8, 2), i)} for i in range(5)]
    arrived = list(parallel.prefetch_to_devices(batches))
    assert [int(batch["x"][0, 0]) for batch in arrived] == list(range(5))
    assert len(arrived[0]["x"].sharding.device_set) == jax.local_device_count() == 8


def test_fused_scores_are_cosine_and_log_likelihood():
    game = make_game(attention="guided")
    variables = make_state(game).variables
    image = np.asarray(make_batch(0, size=8).image)
    description = np.asarray(make_batch(1, size=8).attributes)
    cosine, fused = (
        evaluation.Embedders(game.embedder, mirror=False, score=score)
        for score in ("cosine", "fused")
    )
    placed = parallel.replicate(variables)

    def embed(function, rows):
        return np.asarray(function(placed, parallel.split_over_devices(rows[:, None])))[:, 0]

    _, logits = game.embedder.apply(variables, image, method="recognise")
    # log s(l) of what is said to be there, log s(-l) of what is said not to be.
    signed = np.asarray(logits)[None] * description[:, None]
    likelihood = (-np.log1p(np.exp(-signed)) * np.abs(description)[:, None]).sum(axis=2)
    cosines = embed(cosine.attributes, description) @ embed(cosine.images, image).T
    images, queries = embed(fused.images, image), embed(fused.attributes, description)

    def scores(score, weight):
        counted = evaluation.query_vectors(queries, width=8, score=score, fusion_weight=weight)
        return counted @ images.T

    np.testing.assert_allclose(scores("fused", 0.1), cosines + 0.1 * likelihood, atol=1e-4)
    np.testing.assert_allclose(scores("recognition", 1.0), likelihood, atol=1e-4)


def test_re_ranking_equals_sorting_the_best_anew():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 4, 40)
    categories = np.eye(4, dtype=np.int8) * 2 - 1
    nobody = np.full(40, -1)
    images = Candidates(categories[label], label, nobody, nobody, label < 0, categories)
    task = create_task("category", images)
    queries, gallery = rng.normal(size=(4, 6)), rng.normal(size=(40, 6))
    new = rng.normal(size=(4, 40)).astype(np.float32)

    def second_look(best, scores):
        np.testing.assert_allclose(
            scores, np.take_along_axis(queries @ gallery.T, best, axis=1), atol=1e-4
        )
        return np.take_along_axis(new, best, axis=1)

    judgement = evaluation.judge(
        task,
        queries.astype(np.float32),
        gallery.astype(np.float32),
        np.zeros(4, bool),
        block_size=128,
        top_k=40,
        second_look=second_look,
        look_at=15,
    )
    for query in range(4):
        first = np.argsort(-(queries @ gallery.T)[query], kind="stable")
        best = sorted(first[:15], key=lambda place: -new[query, place])
        expected = [*best, *first[15:]]
        assert judgement.top[query].tolist() == expected
        hits = label[expected] == query
        precision = hits.cumsum() / np.arange(1, 41)
        average_precision = precision[hits].mean()
        assert judgement.per_query["AP_step"][query] == pytest.approx(average_precision)


def test_a_run_ranks_with_the_weight_that_validation_chose(monkeypatch):
    """Also where nobody has asked for it before."""
    config: Any = default.get_config()
    config.eval.score = "fused"
    monkeypatch.setattr(experiment, "embed_descriptions", lambda *given: np.ones((2, 3)))
    used = []
    monkeypatch.setattr(
        evaluation,
        "query_vectors",
        lambda vectors, *, width, score, fusion_weight: used.append(fusion_weight),
    )
    nothing: Any = None
    for told in ({"validation": {"fusion_weight": 0.03}}, {"fusion_weight": 0.01}):
        model = Model(nothing, nothing, config, nothing, told)
        monkeypatch.setattr(
            evaluation, "Embedders", lambda *given, **others: SimpleNamespace(width=3)
        )
        trained_model.Searcher(model).descriptions(np.ones((2, 5)))
    assert used == [0.03, 0.01]
