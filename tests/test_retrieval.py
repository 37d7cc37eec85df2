import numpy as np
import pytest

from jsreid_jax import retrieval


def brute_force(scores, relevant):
    """Another way to the same numbers: a walk down each list, sorted by (-score, index)."""
    rows = []
    for query_scores, query_relevant in zip(scores, relevant, strict=True):
        if not any(query_relevant):
            continue
        ranking = sorted(range(len(query_scores)), key=lambda i: (-query_scores[i], i))
        found, precisions, first, last = 0, [], None, None
        for position, index in enumerate(ranking, 1):
            if query_relevant[index]:
                found += 1
                precisions.append(found / position)
                first, last = first or position, position
        assert first is not None and last is not None
        row = {f"rank{k}": float(first <= k) for k in (1, 5, 10, 20)}
        row |= {"mAP": sum(precisions) / found, "mINP": found / last}
        rows.append(row)
    means = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
    return means | {"valid_queries": len(rows)}


@pytest.mark.parametrize("seed", range(20))
def test_metrics_equal_brute_force(seed):
    rng = np.random.default_rng(seed)
    queries, gallery = rng.integers(2, 20), rng.integers(1, 80)
    scores = rng.normal(size=(queries, gallery))
    if seed % 2:  # many ties
        scores = np.round(scores)
    relevant = rng.random((queries, gallery)) < 0.1
    relevant[0] = False  # a query without match
    relevant[1, rng.integers(gallery)] = True
    metrics = retrieval.retrieval_metrics(scores, relevant)
    expected = brute_force(scores, relevant)
    assert metrics.keys() == expected.keys()
    for name, value in expected.items():
        assert metrics[name] == pytest.approx(value, abs=1e-12), name


def test_a_hand_checked_ranking():
    scores = np.array([[0.9, 0.8, 0.7, 0.6]])
    relevant = np.array([[False, True, False, True]])
    metrics = retrieval.retrieval_metrics(scores, relevant)
    assert metrics["rank1"] == 0.0
    assert metrics["rank5"] == 1.0
    assert metrics["mAP"] == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert metrics["mINP"] == pytest.approx(2 / 4)


def test_ties_go_to_the_smaller_gallery_index():
    relevant = np.array([[False, True]])
    assert retrieval.retrieval_metrics(np.array([[1.0, 1.0]]), relevant)["rank1"] == 0.0
    assert retrieval.retrieval_metrics(np.array([[1.0, 1.0]]), relevant[:, ::-1])["rank1"] == 1.0


def test_no_valid_query_is_not_a_score():
    metrics = retrieval.retrieval_metrics(np.ones((2, 3)), np.zeros((2, 3), bool))
    assert metrics["valid_queries"] == 0
    assert np.isnan(metrics["mAP"])


def test_subsets_keep_the_whole_gallery():
    scores = np.array([[0.1, 0.9, 0.5], [0.9, 0.1, 0.5]])
    relevant = np.array([[True, False, False], [True, False, False]])
    metrics = retrieval.split_metrics(scores, relevant, np.array([True, False]))
    assert metrics["seen"]["mAP"] == pytest.approx(1 / 3)
    assert metrics["unseen"]["mAP"] == 1.0
    assert metrics["all"]["mAP"] == pytest.approx(2 / 3)


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="must both be"):
        retrieval.retrieval_metrics(np.ones((2, 3)), np.ones((3, 2), bool))
    with pytest.raises(ValueError, match="NaN"):
        retrieval.retrieval_metrics(np.full((1, 2), np.nan), np.ones((1, 2), bool))
