"""Drawn descriptions have the shares of the published set, exactly where a share is promised."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from input_pipeline.datasets.market1501.folder import (
    MARKET_LABEL_FILE,
    read_market_labels,
)
from input_pipeline.datasets.market1501.schema import MARKET_FIELDS, MARKET_SCHEMA
from input_pipeline.datasets.person_labels import PersonLabels, category_facts
from input_pipeline.errors import DataError
from input_pipeline.rendering.population import draw_population

REAL = Path(__file__).resolve().parents[2] / "shared" / "labels" / "market_attribute.mat"
needs_real = pytest.mark.skipif(not REAL.exists(), reason=f"the published {REAL} is not here")


def both_halves(labels: PersonLabels) -> np.ndarray:
    return np.concatenate(
        [labels.attributes(MARKET_LABEL_FILE, half) for half in ("train", "test")]
    )


@pytest.fixture(scope="module")
def market_sized() -> PersonLabels:
    return draw_population(seed=0, train_persons=751, test_persons=750)


def test_published_numbers_of_categories(market_sized):
    assert category_facts(MARKET_LABEL_FILE, market_sized) == {
        "train_persons": 751,
        "test_persons": 750,
        "train_categories": 508,
        "test_categories": 484,
        "unseen_test_categories": 315,
    }


@pytest.mark.parametrize("persons", [(480, 240), (8, 8), (4, 4), (40, 12)])
@pytest.mark.parametrize("seed", [0, 1])
def test_shares_at_other_sizes(persons, seed):
    labels = draw_population(seed=seed, train_persons=persons[0], test_persons=persons[1])
    facts = category_facts(MARKET_LABEL_FILE, labels)
    assert (facts["train_persons"], facts["test_persons"]) == persons
    assert facts["train_categories"] == round(508 / 751 * persons[0])
    assert facts["test_categories"] == round(484 / 750 * persons[1])
    assert facts["unseen_test_categories"] == round(315 / 484 * facts["test_categories"])


def nearest_distances(labels) -> dict[int, float]:
    """Shares of unseen test categories by raw fields that differ from the nearest training one."""
    train, test = (
        np.array([[fields[name] for name in MARKET_FIELDS] for fields in half.values()])
        for half in (labels.train, labels.test)
    )
    test = np.unique(test, axis=0)
    nearest = (test[:, None] != train[None]).sum(axis=2).min(axis=1)
    unseen = nearest[nearest > 0]
    return {d: round(count / len(unseen), 2) for d, count in Counter(unseen.tolist()).items()}


def test_distances_of_unseen_categories(market_sized):
    assert nearest_distances(market_sized) == {1: 0.72, 2: 0.24, 3: 0.04}


@needs_real
def test_distances_are_those_of_the_published_set():
    assert nearest_distances(read_market_labels(REAL)) == {1: 0.72, 2: 0.24, 3: 0.04}


def test_bags_exclude_one_another_and_colours_are_single(market_sized):
    for persons in (market_sized.train, market_sized.test):
        for fields in persons.values():
            assert sum(fields[bag] == 2 for bag in ("backpack", "bag", "handbag")) <= 1
            assert sum(v == 2 for k, v in fields.items() if k.startswith("up") and k != "up") <= 1
            assert (
                sum(v == 2 for k, v in fields.items() if k.startswith("down") and k != "down") <= 1
            )
            assert not (fields["gender"] == 1 and fields["clothes"] == 1)
    assert all(fields["downpurple"] == 1 for fields in market_sized.test.values())
    no_colour = (
        (market_sized.attributes(MARKET_LABEL_FILE, "train")[:, 13:21] < 0).all(axis=1).sum()
    )
    assert 30 < no_colour < 130


@needs_real
def test_marginals_are_like_the_published_ones(market_sized):
    real = read_market_labels(REAL)
    drawn = both_halves(market_sized) > 0
    published = both_halves(real) > 0
    for name, ours, theirs in zip(
        MARKET_SCHEMA.attribute_names, drawn.mean(axis=0), published.mean(axis=0), strict=True
    ):
        assert abs(ours - theirs) < 0.06, name


def test_ids_are_disjoint_and_have_four_digits(market_sized):
    train, test = set(market_sized.train), set(market_sized.test)
    assert not train & test
    assert min(train | test) >= 1 and max(train | test) <= 1501
    large = draw_population(seed=0, train_persons=2000, test_persons=8)
    assert max(large.train) <= 9999


def test_depends_on_the_seed_alone():
    first = draw_population(seed=3, train_persons=20, test_persons=10)
    assert first == draw_population(seed=3, train_persons=20, test_persons=10)
    assert first != draw_population(seed=4, train_persons=20, test_persons=10)


@pytest.mark.parametrize("persons", [(3, 10), (10, 0), (9000, 1000), (-1, 5)])
def test_impossible_counts(persons):
    with pytest.raises(DataError, match=f"{persons[0]} training and {persons[1]} test"):
        draw_population(seed=0, train_persons=persons[0], test_persons=persons[1])
