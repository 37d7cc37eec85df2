"""Who is asked, what is ranked and what counts as right: the evaluation protocols by name.

The published code bases disagree; every protocol here is one of theirs, or the category protocol of
the papers. An image answers a description if everything that the description knows is true of it.
Where the image's own label leaves that open (unknown attributes in a user's data), it is neither
right nor wrong and is left out of that query's ranking; published benchmarks know everything.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from jsreid_jax.errors import ModelError
from jsreid_jax.retrieval import Pairs

# Queries that are compared with all images at once while pairs are collected.
_QUERY_CHUNK = 64
UNKNOWN_ID = -1


@dataclass(frozen=True)
class Candidates:
    """What is known of the images of a set to rank; G images, A attributes, K categories.

    attributes: (G, A), +1, -1, 0 unknown. label: (G,) category of each image, in [0, K), -1 where
    nothing is known of it.
    person_id, camera_id: (G,), -1 unknown. is_query: (G,) bool, images that the data set asks with.
    categories: (K, A), every description among them.
    """

    attributes: np.ndarray
    label: np.ndarray
    person_id: np.ndarray
    camera_id: np.ndarray
    is_query: np.ndarray
    categories: np.ndarray


@dataclass(frozen=True)
class Task:
    """A ranking to judge; Q queries.

    protocol: one of PROTOCOLS. queries: (Q, A). category: (Q,) index of the description that each
    query is, or is a part of. images: (G',) which candidates are the gallery, in its order.
    positives, ignored: pairs of a query and a place in that gallery. excluded: of the ignored
    those that the protocol leaves out whatever is known of them. average_precision: the form
    that the protocol calls mAP, "step" or "trapezoid".
    """

    protocol: str
    queries: np.ndarray
    category: np.ndarray
    images: np.ndarray
    positives: Pairs
    ignored: Pairs
    excluded: Pairs
    average_precision: str = "step"


def match(queries: np.ndarray, attributes: np.ndarray) -> tuple[Pairs, Pairs]:
    """The images that answer each query, and those whose labels leave it open.

    Args:
        queries: (Q, A), +1, -1, 0 unknown.
        attributes: (G, A), the same of images.
    """
    answers: list[np.ndarray] = []
    open_ones: list[np.ndarray] = []
    images = np.asarray(attributes, np.float32).T
    known_of_images = np.abs(images)
    for start in range(0, len(queries), _QUERY_CHUNK):
        chunk = np.asarray(queries[start : start + _QUERY_CHUNK], np.float32)
        # Whole numbers well below 2^24: float32 products are exact.
        agreement = chunk @ images
        said = np.abs(chunk).sum(axis=1, keepdims=True)
        both_known = np.abs(chunk) @ known_of_images
        is_right = agreement == said
        answers += [np.flatnonzero(row) for row in is_right]
        open_ones += [np.flatnonzero(row) for row in (agreement == both_known) & ~is_right]
    return pairs_of_rows(answers), pairs_of_rows(open_ones)


def pairs_of_rows(rows: Sequence[np.ndarray]) -> Pairs:
    """From the ascending gallery places of every query."""
    counts = [0, *(len(row) for row in rows)]
    gallery = np.concatenate([np.zeros(0, np.int64), *rows]).astype(np.int64)
    return Pairs(np.cumsum(counts, dtype=np.int64), gallery)


def rows_of(pairs: Pairs) -> list[np.ndarray]:
    """The gallery places of every query."""
    return np.split(pairs.gallery, pairs.starts[1:-1]) if pairs.num_queries else []


def _category(candidates: Candidates) -> Task:
    positives, ignored = match(candidates.categories, candidates.attributes)
    return Task(
        protocol="category",
        queries=candidates.categories,
        category=np.arange(len(candidates.categories)),
        images=np.arange(len(candidates.label)),
        positives=positives,
        ignored=ignored,
        excluded=Pairs.none(len(candidates.categories)),
    )


def _asmr(candidates: Candidates) -> Task:
    return _replace(_category(candidates), protocol="asmr", average_precision="trapezoid")


def _sal_python(candidates: Candidates) -> Task:
    """As SAL's Python evaluator: with every query go the images of its first query image's view.

    A view is (camera, person); a set without cameras or persons has one per image, as SAL treats
    PETA. Sets without query images ask with all of theirs.
    """
    task = _category(candidates)
    is_query = candidates.is_query
    if not is_query.any():
        is_query = np.ones(len(is_query), bool)
    label, camera, person = candidates.label, candidates.camera_id, candidates.person_id
    rows = []
    for query in range(len(task.queries)):
        asked = np.flatnonzero((label == query) & is_query)
        if not len(asked):
            rows.append(asked)
            continue
        first = asked[0]
        if UNKNOWN_ID in (camera[first], person[first]):
            same_view = asked[:1]
        else:
            same_view = np.flatnonzero(
                (label == query) & (camera == camera[first]) & (person == person[first])
            )
        rows.append(same_view)
    excluded = pairs_of_rows(rows)
    return _replace(
        task,
        protocol="sal_python",
        ignored=_union(task.ignored, excluded),
        excluded=excluded,
    )


def _per_image(candidates: Candidates) -> Task:
    asked = np.flatnonzero(candidates.is_query & (candidates.label >= 0))
    images = np.flatnonzero(~candidates.is_query)
    if not len(asked) or not len(images):
        raise ModelError(
            f"config.eval.protocol is per_image, but the set has {len(asked)} query images and "
            f"{len(images)} gallery images, expected both; use protocol category"
        )
    queries = candidates.categories[candidates.label[asked]]
    positives, ignored = match(queries, candidates.attributes[images])
    return Task(
        protocol="per_image",
        queries=queries,
        category=candidates.label[asked],
        images=images,
        positives=positives,
        ignored=ignored,
        excluded=Pairs.none(len(queries)),
    )


def _union(a: Pairs, b: Pairs) -> Pairs:
    """The pairs of either."""
    both = zip(rows_of(a), rows_of(b), strict=True)
    return pairs_of_rows([np.union1d(*rows) for rows in both])


def _replace(task: Task, **changes) -> Task:
    return Task(**(vars(task) | changes))


_MAKE: dict[str, Callable[[Candidates], Task]] = {
    "category": _category,
    "sal_python": _sal_python,
    "asmr": _asmr,
    "per_image": _per_image,
}

PROTOCOLS = tuple(_MAKE)

EXPLANATIONS = {
    "category": "one query per description; the gallery is all gallery and query images; standard "
    "(step) average precision",
    "sal_python": "as category, but without the images of the query's own category that show the "
    "same person in the same camera as its first query image; standard (step) average precision",
    "asmr": "as category, with trapezoid average precision: the mean of the precision before and "
    "after each hit",
    "per_image": "one query per query image, asked with that person's description; the gallery is "
    "the gallery images alone; standard (step) average precision",
}


def create_task(protocol: str, candidates: Candidates) -> Task:
    """The ranking that a protocol, one of PROTOCOLS, makes of a set.

    Raises:
        ModelError: the set has not what the protocol needs, or nobody to ask for.
    """
    task = _MAKE[protocol](candidates)
    if not len(candidates.categories) and len(task.images):
        raise ModelError(
            f"nothing is known of any of the {len(task.images)} images, so no ranking can be "
            "judged; search them with --query, or label some"
        )
    if not len(task.queries) or not len(task.images):
        raise ModelError(
            f"found {len(task.queries)} test queries and {len(task.images)} gallery images, "
            "expected at least one of each; check the splits of the data set"
        )
    if not len(task.positives.without(task.ignored).gallery):
        raise ModelError(
            f"by the protocol {protocol} none of the {len(task.queries)} queries has a right image "
            f"among the {len(task.images)} gallery images, expected at least one; use another "
            "protocol"
        )
    return task


def partial_task(
    task: Task, attributes: np.ndarray, group_sizes: Sequence[int], *, known: int, seed: int
) -> Task:
    """The same ranking asked with fewer groups known; right is whoever fits what is left (ours).

    Args:
        task: whose queries are shortened, each to `known` of its known groups, drawn evenly.
        attributes: (G', A) of the gallery's images.
        group_sizes: (R,) columns per group.
        known: how many groups stay; a query that knows fewer stays as it is.
        seed: of the draw; the groups of a smaller `known` are among those of a larger one.
    """
    is_known = known_groups(task.queries, group_sizes)
    draw = np.random.default_rng(seed).random(is_known.shape)
    place = np.argsort(np.argsort(np.where(is_known, draw, 2.0), axis=1), axis=1)
    kept = np.repeat(place < known, group_sizes, axis=1)
    queries = np.where(kept, task.queries, 0).astype(task.queries.dtype)
    positives, ignored = match(queries, attributes)
    return _replace(
        task, queries=queries, positives=positives, ignored=_union(ignored, task.excluded)
    )


def single_group_task(
    task: Task, attributes: np.ndarray, group_sizes: Sequence[int]
) -> tuple[Task, np.ndarray]:
    """The same gallery asked for one group at a time, every answer that its images give (ours).

    A gallery image of which a group is not wholly known asks nothing of that group.

    Args:
        task: whose gallery and average precision it is.
        attributes: (G', A) of the gallery's images.
        group_sizes: (R,) columns per group.

    Returns:
        The task, its category -1 throughout, and the group (Q,) that each query asks for.
    """
    queries, groups = [], []
    ends = np.cumsum(group_sizes)
    for group, (start, end) in enumerate(zip(ends - group_sizes, ends, strict=True)):
        answers = np.unique(attributes[:, start:end], axis=0)
        answers = answers[(answers != 0).all(axis=1)]
        rows = np.zeros((len(answers), attributes.shape[1]), attributes.dtype)
        rows[:, start:end] = answers
        queries.append(rows)
        groups += [group] * len(rows)
    asked = np.concatenate(queries)
    positives, ignored = match(asked, attributes)
    single = _replace(
        task,
        queries=asked,
        category=np.full(len(asked), -1),
        positives=positives,
        ignored=ignored,
        excluded=Pairs.none(len(asked)),
    )
    return single, np.array(groups, np.int64)


def known_groups(attributes: np.ndarray, group_sizes: Sequence[int]) -> np.ndarray:
    """(N, R) bool: the groups of which descriptions (N, A) say anything."""
    starts = np.cumsum([0, *group_sizes])[:-1]
    return np.logical_or.reduceat(attributes != 0, starts, axis=1)


def wrong_groups(queries: np.ndarray, found: np.ndarray, group_sizes: Sequence[int]) -> np.ndarray:
    """(Q, R) bool: groups that an image gets wrong of a query; unknown on either side is not wrong.

    queries, found: (Q, A), the description and the attributes of one image for each.
    """
    starts = np.cumsum([0, *group_sizes])[:-1]
    differs = (queries * found) < 0
    return np.logical_or.reduceat(differs, starts, axis=1)
