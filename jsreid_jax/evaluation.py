"""Embedding a gallery and its queries on all devices, and judging how they are ranked.

Ranks and metrics are retrieval.py's, what counts as right protocols.py's.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jsreid_jax import parallel, retrieval
from jsreid_jax.models.joint_embedder import JointEmbedder, unit_length
from jsreid_jax.protocols import Task, known_groups, wrong_groups
from jsreid_jax.types import Array, PyTree

# Length of the curve of cumulative match characteristics.
CMC_LENGTH = 50


def embed_rows(
    embed: Callable[[PyTree, Array], Array],
    variables: PyTree,
    batches: Iterable[dict[str, np.ndarray]],
    *,
    field: str,
) -> np.ndarray:
    """Embeddings of all real rows, in order.

    Args:
        embed: from `parallel.parallel_apply`.
        variables: replicated.
        batches: {field: (N, B / N, ...), "mask": (N, B / N)} per device; False marks padding.
        field: which leaf is embedded.

    Returns:
        (rows, D) float32.
    """
    rows = []
    for batch in batches:
        embeddings = np.asarray(embed(variables, parallel.split_over_devices(batch[field])))
        rows.append(embeddings[batch["mask"]])
    return np.concatenate(rows)


class Embedders:
    """The two compiled embedding functions of a model, reused by every evaluation of a run.

    images(variables, (N, B / N, H, W, 3)) and attributes(variables, (N, B / N, A)), both to
    (N, B / N, D).

    mirror: embed an image as the mean of its own and its mirror image's embedding, of unit length
        (usual in person re-identification): a description does not tell left from right.
    """

    def __init__(self, model: JointEmbedder, *, mirror: bool):
        def one_view(variables: PyTree, image: Array) -> Array:
            return model.apply(variables, image, method="embed_images")  # pyright: ignore

        def images(variables: PyTree, image: Array) -> Array:
            if not mirror:
                return one_view(variables, image)
            mirrored = one_view(variables, image[:, :, ::-1])
            return unit_length(one_view(variables, image) + mirrored)

        def attributes(variables: PyTree, description: Array) -> Array:
            return model.apply(variables, description, method="embed_attributes")  # pyright: ignore

        self.images = parallel.parallel_apply(images)
        self.attributes = parallel.parallel_apply(attributes)


@dataclass(frozen=True)
class Judgement:
    """How well a task was ranked; Q queries.

    per_query: (Q,) metrics of every query, NaN without a right image. metrics: their means for
    "all", "seen" and "unseen". cmc: for the same, the share of queries with a right image among the
    first 1, 2, ... images. top: (Q, k) the places of the best images, -1 where there are fewer.
    """

    per_query: dict[str, np.ndarray]
    metrics: dict[str, dict[str, float]]
    cmc: dict[str, list[float]]
    top: np.ndarray


def subsets(seen: np.ndarray) -> dict[str, np.ndarray]:
    """(Q,) bool masks of all queries and of those seen and unseen in training."""
    return {"all": np.ones(len(seen), bool), "seen": seen, "unseen": ~seen}


def judge(
    task: Task,
    queries: np.ndarray,
    gallery: np.ndarray,
    seen: np.ndarray,
    *,
    block_size: int,
    top_k: int = 1,
) -> Judgement:
    """Rank a gallery and judge the ranking.

    Args:
        task: what is asked and what is right.
        queries: (Q, D) unit vectors of the task's queries.
        gallery: (G, D) unit vectors of its images.
        seen: (Q,) bool, whether the description occurs in training.
        block_size: gallery images scored at once.
        top_k: how many of the best images to remember.
    """
    streamed = retrieval.stream_ranks(
        queries, gallery, task.positives, task.ignored, block_size=block_size, top_k=top_k
    )
    per_query = retrieval.query_metrics(streamed.ranks)
    metrics = retrieval.split_metrics(per_query, seen)
    starts = streamed.ranks.starts
    is_valid = np.diff(starts) > 0
    first = np.zeros(len(is_valid), np.int64)
    first[is_valid] = streamed.ranks.ranks[starts[:-1][is_valid]]
    shares = {
        name: first[rows & is_valid][:, None] <= np.arange(1, CMC_LENGTH + 1)
        for name, rows in subsets(seen).items()
    }
    return Judgement(
        per_query=per_query,
        metrics={
            name: values | {"mAP": values[f"mAP_{task.average_precision}"]}
            for name, values in metrics.items()
        },
        cmc={
            name: share.mean(axis=0).tolist() if len(share) else []
            for name, share in shares.items()
        },
        top=streamed.best,
    )


def bootstrap(
    judgement: Judgement, seen: np.ndarray, *, average_precision: str, seed: int
) -> dict[str, dict[str, tuple[float, float]]]:
    """95 % intervals over queries of every mean metric, for all / seen / unseen."""
    intervals = {
        name: retrieval.intervals(judgement.per_query, rows, seed=seed)
        for name, rows in subsets(seen).items()
    }
    return {
        name: values | {"mAP": values[f"mAP_{average_precision}"]}
        for name, values in intervals.items()
    }


def wrong_top1(
    task: Task,
    judgement: Judgement,
    attributes: np.ndarray,
    group_names: Sequence[str],
    group_sizes: Sequence[int],
) -> dict[str, Any]:
    """How many first images are wrong, and the share of them that gets each group wrong.

    attributes: (G, A) of the gallery. A group that the query or the image leaves open does not
    count; NaN where no wrong image tells of a group.
    """
    wrong = np.flatnonzero(judgement.per_query["rank1"] == 0.0)
    found = attributes[judgement.top[wrong, 0]]
    queries = task.queries[wrong]
    differs = wrong_groups(queries, found, group_sizes)
    told = known_groups(queries, group_sizes) & known_groups(found, group_sizes)
    return {
        "count": len(wrong),
        "groups": {
            name: float(differs[told[:, group], group].mean()) if told[:, group].any() else np.nan
            for group, name in enumerate(group_names)
        },
    }
