"""Ranking quality: scores in, numbers out. numpy only, one query at a time.

Ties are resolved by gallery index: of two equally scored images the one that comes first in the
gallery is ranked first. Queries without a matching image do not count; how many did is reported.
"""

from collections.abc import Sequence

import numpy as np

RANKS = (1, 5, 10, 20)


def positive_ranks(scores: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Ranks (P,), from 1 and ascending, of the P relevant images of one query.

    Args:
        scores: (G,), higher is better.
        relevant: (G,) bool.
    """
    order = np.argsort(-scores, kind="stable")
    return np.flatnonzero(relevant[order]) + 1


def query_metrics(ranks: np.ndarray) -> dict[str, float]:
    """Metrics of one query from the ranks (P >= 1, ascending) of its relevant images.

    rank-k: 1 if a relevant image is among the first k. AP: mean of the precision at every relevant
    image (the standard, stepwise form). INP: P over the rank of the last relevant image.
    """
    hits = np.arange(1, len(ranks) + 1)
    metrics = {f"rank{k}": float(ranks[0] <= k) for k in RANKS}
    return metrics | {"mAP": float((hits / ranks).mean()), "mINP": float(len(ranks) / ranks[-1])}


def retrieval_metrics(scores: np.ndarray, relevant: np.ndarray) -> dict[str, float]:
    """Mean metrics over all queries that have a relevant image.

    Args:
        scores: (Q, G), higher is better.
        relevant: (Q, G) bool.

    Returns:
        rank1, rank5, rank10, rank20, mAP, mINP, each in [0, 1] (NaN without a valid query), and
        valid_queries.

    Raises:
        ValueError: shapes that differ, or a score that is not a number.
    """
    if scores.shape != relevant.shape or scores.ndim != 2:
        raise ValueError(f"scores {scores.shape} and relevant {relevant.shape} must both be (Q, G)")
    if np.isnan(scores).any():
        raise ValueError("scores hold NaN: a ranking of them means nothing")
    rows = [
        query_metrics(positive_ranks(query_scores, query_relevant))
        for query_scores, query_relevant in zip(scores, relevant, strict=True)
        if query_relevant.any()
    ]
    names = (*(f"rank{k}" for k in RANKS), "mAP", "mINP")
    means = {
        name: float(np.mean([row[name] for row in rows])) if rows else np.nan for name in names
    }
    return means | {"valid_queries": len(rows)}


def split_metrics(
    scores: np.ndarray, relevant: np.ndarray, seen: np.ndarray
) -> dict[str, dict[str, float]]:
    """`retrieval_metrics` over all queries and over those seen and unseen in training.

    seen: (Q,) bool. The gallery is always the whole gallery.
    """
    subsets: Sequence[tuple[str, np.ndarray]] = (
        ("all", np.ones(len(seen), bool)),
        ("seen", seen),
        ("unseen", ~seen),
    )
    return {name: retrieval_metrics(scores[rows], relevant[rows]) for name, rows in subsets}
