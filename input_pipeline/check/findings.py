"""What there is to say about a data set, counted and compared.

Shape letters: N images of all splits in the order of the listing, A attribute columns.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from input_pipeline.attributes import ABSENT_CODE, PRESENT, UNKNOWN, Group, Schema, category_labels
from input_pipeline.check.images import identical_files, read_images
from input_pipeline.datasets.listing import TEST_SPLITS, UNKNOWN_ID, Listing, ReaderOptions

# What a training run keeps apart: query and gallery images are both of the test.
PARTS = {"train": ("train",), "val": ("val",), "test": TEST_SPLITS}

CROPS_PER_VALUE = 5

# Beside the values of a group: all of its columns say no, or say nothing.
NONE, NOT_KNOWN = "(none)", "(unknown)"

# How many files or persons a sentence names.
_NAMED = 3
# Categories compared with all training categories at once.
_BLOCK = 1024


@dataclass(frozen=True)
class Fact:
    """A count; expected is None where nobody says what it must be."""

    name: str
    found: int | None
    expected: int | None


@dataclass(frozen=True)
class Unreadable:
    """An image file that training would stumble over, and why."""

    name: str
    split: str
    reason: str


@dataclass(frozen=True)
class Duplicate:
    """Files of the same bytes, with the splits they are in and what they are said to show."""

    names: Sequence[str]
    splits: Sequence[str]
    descriptions: Sequence[str]


@dataclass(frozen=True)
class SharedPersons:
    """Persons in two of PARTS; by_protocol: why that is so in the published set, else empty."""

    parts: tuple[str, str]
    person_ids: Sequence[int]
    by_protocol: str


@dataclass(frozen=True)
class Marginal:
    """Of one value and each part of PARTS: images that have it, and images where it is known."""

    group: str
    value: str
    count: Mapping[str, int]
    known: Mapping[str, int]

    def share(self, part: str) -> float | None:
        """Of the images where the value is known, None where there is no such image."""
        return self.count[part] / self.known[part] if self.known[part] else None


@dataclass(frozen=True)
class Findings:
    """All that a check reports.

    images: of each split. persons: of each part of PARTS, None where the set does not tell.
    unknown_persons: images of unknown persons in each part. categories: of each part.
    unseen_categories: test categories that training does not have; unseen_distances: of those, how
    many differ in how many of the A columns from the nearest training category.
    image_sizes: smallest and largest height and width. marginals: of every value, and of "none"
    and "unknown" where they occur. unknown_groups: per part the groups of which nothing is known.
    absent_values: per part the values that never occur, of the other groups.
    """

    reader: str
    data_dir: str
    schema: str
    is_rendered: bool
    source: str
    images: Mapping[str, int]
    persons: Mapping[str, int | None]
    unknown_persons: Mapping[str, int]
    categories: Mapping[str, int]
    unseen_categories: int | None
    unseen_distances: Mapping[int, int]
    facts: Sequence[Fact]
    failed_facts: Sequence[str]
    warnings: Sequence[str]
    image_sizes: Mapping[str, tuple[int, int]]
    unreadable: Sequence[Unreadable]
    duplicates: Sequence[Duplicate]
    shared_persons: Sequence[SharedPersons]
    marginals: Sequence[Marginal]
    unknown_groups: Mapping[str, Sequence[str]]
    absent_values: Mapping[str, Sequence[str]]

    @property
    def unseen_share(self) -> float | None:
        """Of the test categories, those that training does not have."""
        if self.unseen_categories is None:
            return None
        return self.unseen_categories / self.categories["test"]

    @property
    def leaked_images(self) -> list[Duplicate]:
        """Images that are in two splits."""
        return [group for group in self.duplicates if len(group.splits) > 1]

    @property
    def contradictions(self) -> list[Duplicate]:
        """Images that are said to show different things."""
        return [group for group in self.duplicates if len(group.descriptions) > 1]

    @property
    def problems(self) -> list[str]:
        """One sentence for everything that makes a result on this data doubtful; exit code 1."""
        problems = list(self.failed_facts)
        if self.unreadable:
            problems.append(
                f"{number(self.unreadable, 'image')} cannot be read"
                f"{some([f'{file.name} {file.reason}' for file in self.unreadable])}"
            )
        problems += [
            f"{number(shared.person_ids, 'person')} in both {' and '.join(shared.parts)}"
            f"{some(shared.person_ids)}"
            for shared in self.shared_persons
            if not shared.by_protocol
        ]
        if self.leaked_images:
            problems.append(
                f"{number(self.leaked_images, 'image')} in more than one split"
                f"{some([' = '.join(group.names) for group in self.leaked_images])}"
            )
        return problems

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, strings and numbers, for JSON."""
        found = dataclasses.asdict(self)
        found["unseen_share"] = self.unseen_share
        for entry, marginal in zip(found["marginals"], self.marginals, strict=True):
            entry["share"] = {part: marginal.share(part) for part in marginal.count}
        return {"ok": not self.problems, "problems": self.problems} | found


def check(
    listing: Listing,
    options: ReaderOptions,
    *,
    progress: Callable[[int], Any] = lambda count: None,
) -> tuple[Findings, dict[tuple[str, str], list[np.ndarray]]]:
    """Reads all images of a listing; returns what there is to say, and crops by (group, value).

    Of a value there are at most CROPS_PER_VALUE crops, so that the memory does not grow with the
    data set. progress: is told how many further images have been read.
    """
    schema, splits = listing.schema, listing.splits
    files = [file for images in splits.values() for file in images.files]
    split_of = [split for split, images in splits.items() for _ in images.files]
    attributes = np.concatenate([images.attributes for images in splits.values()])
    # Strings, because joining as many Paths would cost a tenth of the whole check.
    paths = [f"{listing.data_dir}/{file.name}" for file in files]
    samples = choose_samples(schema, attributes)
    pixels = read_images(paths, {i for rows in samples.values() for i in rows}, progress)
    rows_of = {
        part: np.flatnonzero(np.isin(split_of, members))
        for part, members in PARTS.items()
        if any(split in splits for split in members)
    }
    codes = {part: attributes[rows] for part, rows in rows_of.items()}
    person_id = np.concatenate([images.person_id for images in splits.values()])
    person_ids = {part: person_id[rows] for part, rows in rows_of.items()}
    unseen = unseen_categories(listing)
    findings = Findings(
        reader=listing.reader,
        data_dir=str(listing.data_dir),
        schema=schema.name,
        is_rendered=listing.is_rendered,
        source=listing.source,
        images={split: len(images.files) for split, images in splits.items()},
        persons={
            part: len(np.unique(ids[ids != UNKNOWN_ID])) or None for part, ids in person_ids.items()
        },
        unknown_persons={part: int((ids == UNKNOWN_ID).sum()) for part, ids in person_ids.items()},
        categories={part: len(listing.known_categories(PARTS[part][0])) for part in rows_of},
        unseen_categories=None if unseen is None else len(unseen),
        unseen_distances=_histogram(unseen, listing.train_categories),
        facts=[
            Fact(name, listing.facts.get(name), listing.expected.get(name))
            for name in dict.fromkeys((*listing.facts, *listing.expected))
        ],
        failed_facts=listing.failed_facts(),
        warnings=list(listing.warnings),
        image_sizes=_image_sizes(pixels.size),
        unreadable=[
            Unreadable(files[i].name, split_of[i], reason)
            for i, reason in sorted(pixels.faults.items())
        ],
        duplicates=[
            Duplicate(
                names=[files[i].name for i in group],
                splits=list(dict.fromkeys(split_of[i] for i in group)),
                descriptions=[schema.describe(row) for row in np.unique(attributes[group], axis=0)],
            )
            for group in identical_files(paths, pixels)
        ],
        shared_persons=shared_persons(
            person_ids, by_protocol=_why_persons_are_shared(listing.reader, options)
        ),
        marginals=marginals(schema, codes),
        unknown_groups={part: unknown_groups(schema, rows) for part, rows in codes.items()},
        absent_values={part: absent_values(schema, rows) for part, rows in codes.items()},
    )
    crops = {
        value: [pixels.crops[i] for i in rows if i in pixels.crops]
        for value, rows in samples.items()
    }
    return findings, crops


def choose_samples(schema: Schema, attributes: np.ndarray) -> dict[tuple[str, str], list[int]]:
    """Up to CROPS_PER_VALUE rows of attributes (N, A) by (group, value), from all over the set."""
    samples = {}
    for group, value, has, _ in _values(schema, attributes):
        rows = np.flatnonzero(has)
        count = min(len(rows), CROPS_PER_VALUE)
        # The middles of as many equal stretches: images of one person follow each other.
        middles = (2 * np.arange(count) + 1) * len(rows) // (2 * max(count, 1))
        samples[group.name, value] = rows[middles].tolist()
    return samples


def _values(
    schema: Schema, attributes: np.ndarray
) -> Iterator[tuple[Group, str, np.ndarray, np.ndarray]]:
    """Group, value, which rows of attributes (N, A) have it (N,), and of which it is known (N,).

    Of a yes-or-no group only "yes". NONE and NOT_KNOWN where some row is so.
    """
    for group, columns in zip(schema.groups, schema.slices, strict=True):
        codes = attributes[:, columns]
        is_known: np.ndarray = (codes != UNKNOWN).any(1)
        if group.binary:
            if not group.is_yes_no:
                yield group, group.values[0], codes[:, 0] == ABSENT_CODE, is_known
            yield group, group.values[1], codes[:, 0] == PRESENT, is_known
        else:
            for value, column in zip(group.values, codes.T, strict=True):
                yield group, value, column == PRESENT, column != UNKNOWN
            is_none: np.ndarray = (codes == ABSENT_CODE).all(1)
            if is_none.any():
                yield group, NONE, is_none, is_known
        if not is_known.all():
            yield group, NOT_KNOWN, ~is_known, np.ones(len(codes), bool)


def marginals(schema: Schema, codes: Mapping[str, np.ndarray]) -> list[Marginal]:
    """How often every value occurs in the attributes (N, A) of each part."""
    bounds = np.cumsum([0, *(len(rows) for rows in codes.values())])
    places = {
        part: slice(start, end)
        for part, start, end in zip(codes, bounds[:-1], bounds[1:], strict=True)
    }
    return [
        Marginal(
            group=group.name,
            value=value,
            count={part: int(has[place].sum()) for part, place in places.items()},
            known={part: int(is_known[place].sum()) for part, place in places.items()},
        )
        for group, value, has, is_known in _values(schema, np.concatenate(list(codes.values())))
    ]


def unknown_groups(schema: Schema, attributes: np.ndarray) -> list[str]:
    """Groups of which attributes (N, A) tell nothing of anybody."""
    return [
        group.name
        for group, columns in zip(schema.groups, schema.slices, strict=True)
        if not attributes[:, columns].any()
    ]


def absent_values(schema: Schema, attributes: np.ndarray) -> list[str]:
    """ "group=value" of what nobody has in attributes (N, A), but for groups wholly unknown."""
    absent = []
    for group, columns in zip(schema.groups, schema.slices, strict=True):
        codes = attributes[:, columns]
        if not codes.any():
            continue
        if group.binary:
            occurs = [(codes == ABSENT_CODE).any(), (codes == PRESENT).any()]
        else:
            occurs = (codes == PRESENT).any(0)
        absent += [
            f"{group.name}={value}"
            for value, is_there in zip(group.values, occurs, strict=True)
            if not is_there
        ]
    return absent


def shared_persons(
    person_ids: Mapping[str, np.ndarray], *, by_protocol: str = ""
) -> list[SharedPersons]:
    """Known persons that occur in two parts; person_ids: of the images of each part."""
    found = []
    for first, second in itertools.combinations(person_ids, 2):
        shared = np.intersect1d(person_ids[first], person_ids[second])
        shared = shared[shared != UNKNOWN_ID].tolist()
        if shared:
            found.append(SharedPersons((first, second), shared, by_protocol))
    return found


def _why_persons_are_shared(reader: str, options: ReaderOptions) -> str:
    """Empty where the published protocol keeps persons apart, as all but one do."""
    if reader == "peta" and options.peta_split != "sal":
        return "PETA's published partitions draw images, not persons"
    return ""


def unseen_categories(listing: Listing) -> np.ndarray | None:
    """(U, A) test categories that training does not have; None if one of both is missing."""
    train, test = listing.train_categories, listing.test_categories
    if not len(train) or not len(test):
        return None
    return test[category_labels(test, train) < 0]


def nearest_distances(categories: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(U,) in how many columns each category (U, A) differs from the nearest known one (K, A)."""
    distances = [np.zeros(0, np.int64)]
    of_code = [(known == code).T.astype(np.float32) for code in (PRESENT, ABSENT_CODE, UNKNOWN)]
    # In blocks: PA-100K has thousands of both.
    for start in range(0, len(categories), _BLOCK):
        block = categories[start : start + _BLOCK]
        agreeing = sum(
            (block == code).astype(np.float32) @ columns
            for code, columns in zip((PRESENT, ABSENT_CODE, UNKNOWN), of_code, strict=True)
        )
        distances.append(block.shape[1] - np.asarray(agreeing).max(1).astype(np.int64))
    return np.concatenate(distances)


def _histogram(unseen: np.ndarray | None, known: np.ndarray) -> dict[int, int]:
    if unseen is None:
        return {}
    distances, counts = np.unique(nearest_distances(unseen, known), return_counts=True)
    return dict(zip(distances.tolist(), counts.tolist(), strict=True))


def _image_sizes(size: np.ndarray) -> dict[str, tuple[int, int]]:
    """Height and width of the image with the fewest pixels and of that with the most."""
    readable = size[size.all(1)]
    if not len(readable):
        return {}
    area = readable.astype(np.int64).prod(1)
    return {
        name: (int(readable[i][0]), int(readable[i][1]))
        for name, i in (("smallest", area.argmin()), ("largest", area.argmax()))
    }


def some(things: Sequence[object]) -> str:
    """The first few in brackets."""
    named = ", ".join(map(str, things[:_NAMED]))
    return f" ({named}{', ...' if len(things) > _NAMED else ''})"


def number(things: Sequence[object], what: str) -> str:
    """'1 image', '2 images'."""
    return f"{len(things):,} {what}{'' if len(things) == 1 else 's'}"
