"""Who is rendered: descriptions with the marginals of Market-1501, split into train and test.

A category is a tuple of 12 option indices in the order of MARKET_SCHEMA.groups; the index after a
colour group's last value means no named colour.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from input_pipeline.attributes import ABSENT
from input_pipeline.datasets.market1501.folder import PersonLabels
from input_pipeline.datasets.market1501.schema import MARKET_SCHEMA, attributes_to_market_fields
from input_pipeline.errors import DataError

Category = tuple[int, ...]

# Real ids run from 1 to 1501; 0 and -1 mark distractors.
_LARGEST_ID = 1501
_MOST_PERSONS = 9999

# Counts of the published set, as shares.
_TRAIN_CATEGORIES = 508 / 751
_TEST_CATEGORIES = 484 / 750
_UNSEEN = 315 / 484
# Share of unseen test categories whose nearest training category differs in 1, 2 and 3 of the 27
# raw fields; one colour for another counts twice, because two fields differ.
_NEAREST_SHARES = {1: 0.72, 2: 0.24, 3: 0.04}

# Frequencies among the 1,501 persons of the published set, rounded. Keyed by gender (0 male, 1
# female) where the two differ; a rest of a colour list to 1 is "no named colour".
_AGE = (0.01, 0.805, 0.175, 0.01)
_TEENAGER = 1
_FEMALE = 0.44
_LONG_HAIR = (0.006, 0.785)
_LONG_SLEEVES = (0.03, 0.09)
_DRESS = (0.0, 0.3)
_LONG_DRESS = 0.13
_LONG_TROUSERS = (0.42, 0.39)
_HAT = (0.02, 0.045)
# Backpack, bag, handbag: they exclude one another. Almost only teenagers carry backpacks.
_BAGS_TEENAGER = ((0.36, 0.15, 0.08), (0.25, 0.35, 0.13))
_BAGS_OTHERS = ((0.04, 0.17, 0.1), (0.03, 0.38, 0.15))
# Orders of MARKET_SCHEMA: black white red purple yellow gray blue green ...
_UPPER = (
    (0.155, 0.255, 0.085, 0.035, 0.07, 0.155, 0.09, 0.065),
    (0.135, 0.34, 0.12, 0.035, 0.06, 0.095, 0.035, 0.07),
)
# ... and black white pink purple yellow gray blue green brown.
_LOWER = (
    (0.43, 0.045, 0.007, 0.0, 0.0, 0.22, 0.16, 0.015, 0.095),
    (0.325, 0.105, 0.065, 0.003, 0.017, 0.095, 0.215, 0.035, 0.055),
)

_GROUP = {name: index for index, name in enumerate(MARKET_SCHEMA.group_names)}
_BAG_GROUPS = tuple(_GROUP[name] for name in ("backpack", "bag", "handbag"))
_PURPLE_LOWER = MARKET_SCHEMA.groups[_GROUP["lower_colour"]].values.index("purple")
_DRESS_OPTION = MARKET_SCHEMA.groups[_GROUP["lower_type"]].values.index("dress")


def draw_population(*, seed: int, train_persons: int, test_persons: int) -> PersonLabels:
    """Persons of Market-like descriptions; the same for the same arguments.

    The shares of categories to persons, of unseen test categories and of their distances to the
    nearest training category are those above, to rounding. DataError: counts out of range.
    """
    if train_persons < 4 or test_persons < 4 or train_persons + test_persons > _MOST_PERSONS:
        raise DataError(
            f"{train_persons} training and {test_persons} test persons cannot be rendered: "
            f"expected 4 or more of each and at most {_MOST_PERSONS} together"
        )
    rng = np.random.default_rng(seed)
    train = _draw_train(rng, train_persons)
    test = _draw_test(rng, test_persons, train)
    ids = 1 + rng.permutation(max(_LARGEST_ID, train_persons + test_persons))
    return PersonLabels(
        train=_as_fields(sorted(ids[:train_persons].tolist()), train),
        test=_as_fields(sorted(ids[train_persons:][:test_persons].tolist()), test),
    )


def category_fields(category: Category) -> dict[str, int]:
    """The 27 raw fields of a category."""
    values = {
        group.name: (*group.values, ABSENT)[option]
        for group, option in zip(MARKET_SCHEMA.groups, category, strict=True)
    }
    return attributes_to_market_fields(MARKET_SCHEMA.encode(values))


def draw_category(rng: np.random.Generator) -> Category:
    """One description with the marginals above."""
    age = _pick(rng, _AGE)
    female = int(rng.random() < _FEMALE)
    dress = rng.random() < _DRESS[female]
    bags = (_BAGS_TEENAGER if age == _TEENAGER else _BAGS_OTHERS)[female]
    carried = _pick(rng, bags)
    long_lower = rng.random() < (_LONG_DRESS if dress else _LONG_TROUSERS[female])
    return (
        age,
        female,
        int(rng.random() < _LONG_HAIR[female]),
        int(rng.random() >= _LONG_SLEEVES[female]),
        int(not long_lower),
        _DRESS_OPTION if dress else 1 - _DRESS_OPTION,
        int(rng.random() < _HAT[female]),
        *(int(carried == kind) for kind in range(3)),
        _pick(rng, _UPPER[female]),
        _pick(rng, _LOWER[female]),
    )


def _pick(rng: np.random.Generator, shares: Sequence[float]) -> int:
    """An index by the given shares; len(shares) for what they leave to 1."""
    return int(np.searchsorted(np.cumsum(shares), rng.random(), side="right"))


def _draw_train(rng: np.random.Generator, persons: int) -> list[Category]:
    """(persons,) categories."""
    drawn: dict[Category, None] = {}
    wanted = max(2, round(_TRAIN_CATEGORIES * persons))
    while len(drawn) < wanted:
        drawn[draw_category(rng)] = None
    return _fill_up(rng, list(drawn), persons)


def _draw_test(rng: np.random.Generator, persons: int, train: Sequence[Category]) -> list[Category]:
    """(persons,) categories, of which the wanted share is not among the training ones."""
    wanted = max(2, round(_TEST_CATEGORIES * persons))
    # A small training set may not have enough categories to share.
    shareable = [
        category
        for category in dict.fromkeys(train[i] for i in rng.permutation(len(train)))
        if category[_GROUP["lower_colour"]] != _PURPLE_LOWER
    ]
    seen = shareable[: wanted - max(1, round(_UNSEEN * wanted))]
    unseen = _draw_unseen(rng, wanted - len(seen), train)
    return _fill_up(rng, seen + unseen, persons)


def _draw_unseen(
    rng: np.random.Generator, wanted: int, train: Sequence[Category]
) -> list[Category]:
    """Categories at the wanted distances, made by drawing some groups of a training one anew."""
    quota = {2: round(_NEAREST_SHARES[2] * wanted), 3: round(_NEAREST_SHARES[3] * wanted)}
    quota[1] = wanted - quota[2] - quota[3]
    known = np.array([_raw_fields(category) for category in sorted(set(train))])
    drawn: dict[Category, None] = {}
    while len(drawn) < wanted:
        category = _redraw_groups(rng, train[int(rng.integers(len(train)))])
        if category is None or category in drawn:
            continue
        distance = int((known != np.array(_raw_fields(category))).sum(axis=1).min())
        if quota.get(distance, 0) > 0:
            quota[distance] -= 1
            drawn[category] = None
    return list(drawn)


def _raw_fields(category: Category) -> list[int]:
    """The 27 raw fields of a category, in one order."""
    return list(category_fields(category).values())


def _redraw_groups(rng: np.random.Generator, category: Category) -> Category | None:
    """The category with one to five groups drawn anew, or None where the result cannot be."""
    fresh = draw_category(rng)
    redrawn = set(rng.permutation(len(category))[: rng.integers(1, 6)].tolist())
    if redrawn & set(_BAG_GROUPS):
        redrawn |= set(_BAG_GROUPS)
    result = tuple(fresh[i] if i in redrawn else category[i] for i in range(len(category)))
    male_in_dress = not result[_GROUP["gender"]] and result[_GROUP["lower_type"]] == _DRESS_OPTION
    if male_in_dress or result[_GROUP["lower_colour"]] == _PURPLE_LOWER:
        return None
    return result


def _fill_up(
    rng: np.random.Generator, distinct: Sequence[Category], persons: int
) -> list[Category]:
    """(persons,) the distinct categories and repetitions of them, likelier ones more often."""
    # How often a category comes up in draws is how likely it is; one more each keeps it possible.
    known = set(distinct)
    weights = Counter(distinct)
    weights.update(c for c in (draw_category(rng) for _ in range(20 * persons)) if c in known)
    shares = np.array([weights[category] for category in distinct], np.float64)
    extra = rng.choice(len(distinct), size=persons - len(distinct), p=shares / shares.sum())
    filled = [*distinct, *(distinct[i] for i in extra)]
    return [filled[i] for i in rng.permutation(persons)]


def _as_fields(ids: Sequence[int], drawn: Sequence[Category]) -> dict[int, dict[str, int]]:
    return {
        person_id: category_fields(category) for person_id, category in zip(ids, drawn, strict=True)
    }
