"""Protocols on a set small enough to check by hand."""

import dataclasses
import itertools

import numpy as np
import pytest

from jsreid_jax import protocols
from jsreid_jax.errors import ModelError
from jsreid_jax.protocols import Candidates, create_task

CATEGORIES = np.array([[-1, -1, 1], [1, -1, -1], [1, 1, -1]], np.int8)
GROUP_SIZES = (1, 2)


def some_images() -> Candidates:
    """Four gallery images, then four query images; category 2 has no query image."""
    label = np.array([0, 0, 1, 2, 0, 0, 1, 1])
    return Candidates(
        attributes=CATEGORIES[label],
        label=label,
        person_id=np.array([7, 8, 9, 3, 7, 8, 9, 4]),
        camera_id=np.array([1, 1, 2, 1, 1, 2, 2, 2]),
        is_query=np.arange(8) >= 4,
        categories=CATEGORIES,
    )


def rows(pairs) -> list[list[int]]:
    return [row.tolist() for row in protocols.rows_of(pairs)]


def test_category_asks_once_per_description_and_ranks_everything():
    task = create_task("category", some_images())
    np.testing.assert_array_equal(task.queries, CATEGORIES)
    assert task.images.tolist() == list(range(8))
    assert rows(task.positives) == [[0, 1, 4, 5], [2, 6, 7], [3]]
    assert rows(task.ignored) == [[], [], []]
    assert task.average_precision == "step" and task.category.tolist() == [0, 1, 2]


def test_asmr_differs_in_the_average_precision_alone():
    task, same = create_task("asmr", some_images()), create_task("category", some_images())
    assert task.average_precision == "trapezoid" and task.protocol == "asmr"
    assert rows(task.positives) == rows(same.positives) and rows(task.ignored) == rows(same.ignored)


def test_sal_python_drops_the_view_of_the_first_query_image():
    """Query 0 is first asked with person 7 in camera 1: images 0 and 4; query 1 with 2 and 6."""
    task = create_task("sal_python", some_images())
    assert rows(task.positives) == [[0, 1, 4, 5], [2, 6, 7], [3]]
    assert rows(task.ignored) == [[0, 4], [2, 6], []]


def test_sal_python_without_cameras_drops_the_asking_image_alone():
    """PETA: no camera, no query images: every image may ask and the first one of each does."""
    images = dataclasses.replace(
        some_images(), camera_id=np.full(8, -1), is_query=np.zeros(8, bool)
    )
    assert rows(create_task("sal_python", images).ignored) == [[0], [2], [3]]


def test_per_image_asks_with_every_query_image_and_ranks_the_rest():
    task = create_task("per_image", some_images())
    assert task.category.tolist() == [0, 0, 1, 1]
    np.testing.assert_array_equal(task.queries, CATEGORIES[[0, 0, 1, 1]])
    assert task.images.tolist() == [0, 1, 2, 3]
    assert rows(task.positives) == [[0, 1], [0, 1], [2], [2]]


def test_per_image_places_are_those_of_its_gallery():
    """The gallery need not come first."""
    images = some_images()
    order = np.array([4, 0, 5, 1, 6, 2, 7, 3])
    fields = {
        name: getattr(images, name)[order]
        for name in ("attributes", "label", "person_id", "camera_id", "is_query")
    }
    task = create_task("per_image", Candidates(**fields, categories=CATEGORIES))
    assert task.images.tolist() == [1, 3, 5, 7]
    assert rows(task.positives) == [[0, 1], [0, 1], [2], [2]]


@pytest.mark.parametrize("protocol", protocols.PROTOCOLS)
def test_images_of_which_nothing_is_known_are_found_and_not_judged(protocol):
    """One more in the gallery and one more that asks; label -1."""
    images, nothing = some_images(), np.zeros((2, CATEGORIES.shape[1]), np.int8)
    more = Candidates(
        attributes=np.concatenate([images.attributes, nothing]),
        label=np.append(images.label, [-1, -1]),
        person_id=np.append(images.person_id, [8, 9]),
        camera_id=np.append(images.camera_id, [1, 1]),
        is_query=np.append(images.is_query, [False, True]),
        categories=CATEGORIES,
    )
    before, after = (create_task(protocol, candidates) for candidates in (images, more))
    np.testing.assert_array_equal(after.queries, before.queries)
    assert rows(after.positives) == rows(before.positives)
    new = set(np.flatnonzero(after.images >= len(images.label)).tolist())
    assert new and all(new <= set(row) for row in rows(after.ignored))


def test_a_protocol_that_needs_query_images_says_so():
    images = dataclasses.replace(some_images(), is_query=np.zeros(8, bool))
    with pytest.raises(ModelError, match="per_image, but the set has 0 query images and 8"):
        create_task("per_image", images)


def test_nobody_to_ask_for_is_one_sentence():
    nobody = Candidates(*(np.zeros((0, 3), np.int8), *([np.zeros(0, int)] * 4), CATEGORIES[:0]))
    with pytest.raises(ModelError, match="0 test queries and 0 gallery images"):
        create_task("category", nobody)


def test_what_labels_leave_open_is_neither_right_nor_wrong():
    queries = np.array([[1, -1, 1], [1, 0, 0], [0, 0, 0]])
    attributes = np.array([[1, -1, 1], [1, -1, -1], [1, 0, 0], [-1, 0, 0], [0, 0, 0]])
    right, undecided = protocols.match(queries, attributes)
    assert rows(right) == [[0], [0, 1, 2], [0, 1, 2, 3, 4]]
    assert rows(undecided) == [[2, 4], [4], []]


def test_matching_many_queries_is_matching_each():
    rng = np.random.default_rng(0)
    queries, attributes = rng.integers(-1, 2, (150, 5)), rng.integers(-1, 2, (90, 5))
    right, undecided = protocols.match(queries, attributes)
    for query, answers, open_ones in zip(
        queries, protocols.rows_of(right), protocols.rows_of(undecided), strict=True
    ):
        said = query != 0
        agrees = (attributes == query)[:, said].all(axis=1)
        possible = ((attributes == query) | (attributes == 0))[:, said].all(axis=1)
        assert answers.tolist() == np.flatnonzero(agrees).tolist()
        assert open_ones.tolist() == np.flatnonzero(possible & ~agrees).tolist()


def test_partial_queries_keep_whole_groups_and_find_more():
    images = some_images()
    task = create_task("category", images)
    by_known = [
        protocols.partial_task(task, images.attributes, GROUP_SIZES, known=known, seed=0)
        for known in (1, 2)
    ]
    one, both = by_known
    np.testing.assert_array_equal(both.queries, task.queries)
    known = protocols.known_groups(one.queries, GROUP_SIZES)
    assert known.sum(axis=1).tolist() == [1, 1, 1]
    for query, whole, answers in zip(
        one.queries, task.queries, protocols.rows_of(one.positives), strict=True
    ):
        said = query != 0
        np.testing.assert_array_equal(query[said], whole[said])
        expected = (images.attributes == whole)[:, said].all(axis=1)
        assert answers.tolist() == np.flatnonzero(expected).tolist()
    assert sum(map(len, rows(one.positives))) > sum(map(len, rows(task.positives)))


@pytest.mark.parametrize("protocol", protocols.PROTOCOLS)
def test_a_query_that_keeps_all_groups_is_the_whole_query(protocol):
    """Whatever the protocol leaves out stays out."""
    images = some_images()
    task = create_task(protocol, images)
    attributes = images.attributes[task.images]
    sizes = (1,) * attributes.shape[1]
    whole = protocols.partial_task(task, attributes, sizes, known=len(sizes), seed=0)
    np.testing.assert_array_equal(whole.queries, task.queries)
    assert rows(whole.positives) == rows(task.positives)
    assert rows(whole.ignored) == rows(task.ignored)
    part = protocols.partial_task(task, attributes, sizes, known=1, seed=0)
    for kept, excluded in zip(rows(part.ignored), rows(task.excluded), strict=True):
        assert set(excluded) <= set(kept)


def test_sal_python_of_unknown_persons_drops_the_asking_image_alone():
    images = dataclasses.replace(some_images(), person_id=np.full(8, -1))
    excluded = create_task("sal_python", images).excluded
    # Nobody asks for the last.
    assert [len(row) for row in rows(excluded)] == [1, 1, 0]


def test_no_query_with_a_right_image_is_one_sentence():
    images = some_images()
    lone = Candidates(
        **{
            name: getattr(images, name)[:1]
            for name in ("attributes", "label", "person_id", "camera_id")
        },
        is_query=np.ones(1, bool),
        categories=CATEGORIES[:1],
    )
    with pytest.raises(ModelError, match="none of the 1 queries has a right image among the 1"):
        create_task("sal_python", lone)
    unknown = dataclasses.replace(
        lone,
        attributes=np.zeros_like(lone.attributes),
        label=np.array([-1]),
        categories=CATEGORIES[:0],
    )
    with pytest.raises(ModelError, match="nothing is known of any of the 1 images"):
        create_task("category", unknown)


def test_partial_queries_of_more_groups_contain_those_of_fewer():
    rng = np.random.default_rng(1)
    attributes = rng.choice(np.array([-1, 1], np.int8), (40, 7))
    label = np.arange(40)
    images = Candidates(attributes, label, label, label, label < 0, attributes)
    task = create_task("category", images)
    sizes = (2, 1, 1, 3)
    parts = [
        protocols.partial_task(task, attributes, sizes, known=known, seed=2).queries
        for known in (1, 2, 3, 4)
    ]
    for fewer, more in itertools.pairwise(parts):
        np.testing.assert_array_equal(more[fewer != 0], fewer[fewer != 0])
        assert (protocols.known_groups(more, sizes) >= protocols.known_groups(fewer, sizes)).all()
    other = protocols.partial_task(task, attributes, sizes, known=1, seed=3).queries
    assert (other != parts[0]).any()


def test_groups_that_are_unknown_are_not_wrong():
    queries = np.array([[1, 1, -1], [1, 0, 0], [1, 1, -1]])
    found = np.array([[1, -1, 1], [-1, 1, -1], [0, 1, -1]])
    expected = [[False, True], [True, False], [False, False]]
    assert protocols.wrong_groups(queries, found, GROUP_SIZES).tolist() == expected


def test_every_protocol_is_explained():
    assert set(protocols.EXPLANATIONS) == set(protocols.PROTOCOLS)


def test_single_groups_ask_for_every_answer_of_the_gallery():
    attributes = np.array([[1, 1, -1], [-1, -1, 1], [1, -1, -1], [0, 1, -1], [1, 1, 0]], np.int8)
    task = create_task("asmr", some_images())
    single, groups = protocols.single_group_task(task, attributes, GROUP_SIZES)
    assert single.average_precision == "trapezoid"
    assert groups.tolist() == [0, 0, 1, 1, 1]
    assert single.queries.tolist() == [
        *([-1, 0, 0], [1, 0, 0]),
        *([0, -1, -1], [0, -1, 1], [0, 1, -1]),
    ]
    assert rows(single.positives) == [[1], [0, 2, 4], [2], [1], [0, 3]]
    # Of image 3 nobody knows the first group, of image 4 one column of the second.
    assert rows(single.ignored) == [[3], [3], [], [], [4]]
