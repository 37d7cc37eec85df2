"""Embedding a gallery and its queries on all devices, and judging how they are ranked.

Ranks and metrics are retrieval.py's, what counts as right protocols.py's.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jsreid_jax import parallel, retrieval
from jsreid_jax.models.joint_embedder import JointEmbedder, unit_length
from jsreid_jax.protocols import Task, known_groups, rows_of, wrong_groups
from jsreid_jax.retrieval import Ranks
from jsreid_jax.types import Array, PyTree

# Length of the curve of cumulative match characteristics.
CMC_LENGTH = 50
# How an image fits a description.
SCORES = ("cosine", "recognition", "fused")
# Of the images that a CPU embeds at once, measured with ResNet-50 (`python -m benchmarks pytorch`).
_CACHED_PIXELS = 2 * 256 * 128


def embed_rows(
    embed: Callable[[PyTree, Array], Array],
    variables: PyTree,
    batches: Iterable[dict[str, np.ndarray]],
    *,
    field: str,
    dtype: Any = np.float32,
) -> np.ndarray:
    """Embeddings of all real rows, in order.

    Args:
        embed: from `parallel.parallel_apply`.
        variables: replicated.
        batches: {field: (N, B / N, ...), "mask": (N, B / N)} per device; False marks padding.
        field: which leaf is embedded.
        dtype: of what is kept.

    Returns:
        (rows, ...) of dtype.
    """
    rows = []
    for batch in batches:
        embeddings = np.asarray(embed(variables, parallel.split_over_devices(batch[field])))
        rows.append(embeddings[batch["mask"]].astype(dtype))
    return np.concatenate(rows)


class Embedders:
    """The compiled functions of a model that evaluation needs, reused by all evaluations of a run.

    images(variables, (N, B / N, H, W, 3)) and attributes(variables, (N, B / N, A)) give vectors
    whose inner product is a score, see `query_vectors`: unit vectors of width D, and behind them,
    unless the score is the cosine, 2 A numbers whose product is the log-likelihood of the
    description under the attributes that are recognised in the image (ours).
    memory(variables, images) and pairs(variables, {description, images}) are for `rerank`.
    maps: by kind of attention that the model has, "guided" or "conditioned", a function of
        (variables, {description, image}) that gives maps (N, B / N, R, h, w).

    mirror: embed an image as the mean of its own and its mirror image's embedding, of unit length
        (usual in person re-identification): a description does not tell left from right.
    score: one of SCORES.
    """

    def __init__(self, model: JointEmbedder, *, mirror: bool, score: str = "cosine"):
        apply: Callable[..., Any] = model.apply

        def views(image: Array) -> list[Array]:
            return [image, image[:, :, ::-1]] if mirror else [image]

        def images(variables: PyTree, image: Array) -> Array:
            if score == "cosine":
                seen = [apply(variables, view, method="embed_images") for view in views(image)]
                return unit_length(jnp.stack(seen).sum(axis=0))
            seen = [apply(variables, view, method="recognise") for view in views(image)]
            logits = jnp.stack([logits for _, logits in seen]).mean(axis=0, dtype=jnp.float32)
            return jnp.concatenate(
                [
                    unit_length(jnp.stack([embedding for embedding, _ in seen]).sum(axis=0)),
                    jax.nn.log_sigmoid(logits),
                    jax.nn.log_sigmoid(-logits),
                ],
                axis=-1,
            )

        def attributes(variables: PyTree, description: Array) -> Array:
            embedding = apply(variables, description, method="embed_attributes")
            if score == "cosine":
                return embedding
            said = [(description > 0), (description < 0)]
            return jnp.concatenate([embedding, *said], axis=-1)

        def memory(variables: PyTree, image: Array) -> Array:
            return apply(variables, image, method="image_memory")

        def pairs(variables: PyTree, batch: PyTree) -> Array:
            return apply(variables, batch["description"], batch["images"], method="score_pairs")

        def guided_maps(variables: PyTree, batch: PyTree) -> Array:
            return apply(variables, batch["image"], method="attention_maps")

        def conditioned_maps(variables: PyTree, batch: PyTree) -> Array:
            return apply(variables, batch["description"], batch["image"], method="conditioned_maps")

        self.width = model.attribute_widths[-1]
        self.score = score
        self.images = parallel.parallel_apply(_in_parts(images))
        self.attributes = parallel.parallel_apply(attributes)
        self.memory = parallel.parallel_apply(memory)
        self.pairs = parallel.parallel_apply(pairs)
        self.maps = {
            kind: parallel.parallel_apply(function)
            for kind, function in (("guided", guided_maps), ("conditioned", conditioned_maps))
            if kind in model.attention.split("+")
        }


def _in_parts(
    function: Callable[[PyTree, Array], Array],
) -> Callable[[PyTree, Array], Array]:
    """function(variables, images (B, H, W, 3)), on a CPU some images after the other.

    What layers hand to each other then stays in the cache; accelerators want the batch whole.
    """
    if jax.default_backend() != "cpu":
        return function

    def mapped(variables: PyTree, images: Array) -> Array:
        count, height, width, _ = images.shape
        at_once = max(_CACHED_PIXELS // (height * width), 1)
        parts = next(n for n in range(1, count + 1) if count % n == 0 and count // n <= at_once)
        split = images.reshape(parts, count // parts, height, width, -1)
        found = jax.lax.map(functools.partial(function, variables), split)
        return found.reshape(count, *found.shape[2:])

    return mapped


def query_vectors(
    vectors: np.ndarray, *, width: int, score: str, fusion_weight: float
) -> np.ndarray:
    """What of descriptions' vectors (Q, V) counts: (Q, V) for the inner product with images'.

    width: D of V. score: one of SCORES. fusion_weight: of the log-likelihood in "fused".
    """
    weights = np.ones(vectors.shape[1], np.float32)
    if score == "recognition":
        weights[:width] = 0.0
    elif score == "fused":
        weights[width:] = fusion_weight
    return vectors * weights


def rerank(
    ranks: Ranks, task: Task, best: np.ndarray, new_scores: np.ndarray
) -> tuple[Ranks, np.ndarray]:
    """The ranking with the best images of every query put into the order of new scores.

    Args:
        ranks: of the first ranking.
        task: what is right.
        best: (Q, R) the first ranking's best images, best first, -1 where there are fewer.
        new_scores: (Q, R) of these; ties keep their first order.

    Returns:
        The new ranks, and best in the new order.
    """
    order = np.argsort(np.where(best < 0, np.inf, -new_scores), axis=1, kind="stable")
    best = np.take_along_axis(best, order, axis=1)
    new = ranks.ranks.copy()
    for query, positives in enumerate(rows_of(task.positives)):
        start, stop = ranks.starts[query : query + 2]
        places = 1 + np.flatnonzero(np.isin(best[query], positives))
        # Nothing crosses the end of the list, so its positives are the first ones as before.
        new[start:stop][: len(places)] = places
    return Ranks(ranks.starts, new), best


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
    second_look: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
    look_at: int = 0,
) -> Judgement:
    """Rank a gallery and judge the ranking.

    Args:
        task: what is asked and what is right.
        queries: (Q, V) vectors of the task's queries.
        gallery: (G, V) vectors of its images; the inner product is the score.
        seen: (Q,) bool, whether the description occurs in training.
        block_size: gallery images scored at once.
        top_k: how many of the best images to remember.
        second_look: takes the `look_at` best images (Q, R) of every query and their scores to new
            scores, by which they are ranked anew.
        look_at: how many.
    """
    streamed = retrieval.stream_ranks(
        queries,
        gallery,
        task.positives,
        task.ignored,
        block_size=block_size,
        top_k=max(top_k, look_at if second_look else 0),
    )
    ranks, top = streamed.ranks, streamed.best
    if second_look is not None:
        new_scores = second_look(top[:, :look_at], streamed.best_scores[:, :look_at])
        ranks, again = rerank(ranks, task, top[:, :look_at], new_scores)
        top = np.concatenate([again, top[:, look_at:]], axis=1)
    per_query = retrieval.query_metrics(ranks)
    metrics = retrieval.split_metrics(per_query, seen)
    starts = ranks.starts
    is_valid = np.diff(starts) > 0
    first = np.zeros(len(is_valid), np.int64)
    first[is_valid] = ranks.ranks[starts[:-1][is_valid]]
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
        top=top[:, :top_k],
    )


def bootstrap(
    task: Task, judgement: Judgement, seen: np.ndarray, *, seed: int
) -> dict[str, dict[str, tuple[float, float]]]:
    """95 % intervals over descriptions of every mean metric, for all / seen / unseen."""
    intervals = {
        name: retrieval.intervals(judgement.per_query, rows, asked=task.category, seed=seed)
        for name, rows in subsets(seen).items()
    }
    return {
        name: values | {"mAP": values[f"mAP_{task.average_precision}"]}
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
