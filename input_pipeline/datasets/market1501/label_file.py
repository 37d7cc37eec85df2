"""`market_attribute.mat`: which person has which attributes. No TensorFlow.

The file holds one struct with `test` and `train`, each with 27 fields of one value per person and
`image_index`, the person ids as strings. The ORDER of the fields differs between the two, so
everything here goes by name: stacked by position, 0 instead of 169 categories would be common.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from input_pipeline.attributes import (
    MARKET_FIELDS,
    categories,
    category_labels,
    market_field_range,
    market_fields_to_attributes,
)
from input_pipeline.errors import DataError

LABEL_FILE_NAME = "market_attribute.mat"
_STRUCT = "market_attribute"
_IDS = "image_index"

# The orders of the published file.
_UPPER = "upblack upwhite upred uppurple upyellow upgray upblue upgreen"
_TRAIN_UPPER = "upblack upblue upgreen upgray uppurple upred upwhite upyellow"
_FIELD_ORDER = {
    "test": (
        "age backpack bag handbag clothes down up hair hat gender " + _UPPER + " downblack "
        "downwhite downpink downpurple downyellow downgray downblue downgreen downbrown"
    ).split(),
    "train": (
        "age backpack bag handbag downblack downblue downbrown downgray downgreen downpink "
        "downpurple downwhite downyellow " + _TRAIN_UPPER + " clothes down up hair hat gender"
    ).split(),
}

# Bytes 0..115 of a MATLAB 5 file are free text; scipy puts the date there, which would make two
# renderings of the same data differ.
_HEADER_TEXT_BYTES = 116


@dataclass(frozen=True)
class MarketLabels:
    """The 27 raw fields of every person: {person_id: {field: value}} for both halves."""

    train: dict[int, dict[str, int]]
    test: dict[int, dict[str, int]]


def category_facts(labels: MarketLabels) -> dict[str, int]:
    """Counts of persons, categories (distinct vectors) and test categories unseen in training."""
    train, test = person_attributes(labels.train), person_attributes(labels.test)
    train_categories, _ = categories(train)
    test_categories, _ = categories(test)
    return {
        "train_persons": len(labels.train),
        "test_persons": len(labels.test),
        "train_categories": len(train_categories),
        "test_categories": len(test_categories),
        "unseen_test_categories": int(
            (category_labels(test_categories, train_categories) < 0).sum()
        ),
    }


def person_attributes(persons: Mapping[int, Mapping[str, int]]) -> np.ndarray:
    """(persons, 30) int8, in the mapping's order."""
    return np.stack([market_fields_to_attributes(fields) for fields in persons.values()])


def read_market_labels(path: Path | str) -> MarketLabels:
    """Reads and checks a label file.

    DataError: the file is missing or no MATLAB file, holds another struct, a field is missing or
    extra, fields differ in length, a value is out of range, a person id is malformed or doubled.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(
            f"the label file {path} does not exist: put {LABEL_FILE_NAME} of the Market-1501 "
            "attribute annotations there"
        )
    try:
        content = scipy.io.loadmat(path)
    except Exception as error:  # scipy fails in many ways on a damaged file; all mean the same.
        raise DataError(
            f"the label file {path} is not a readable MATLAB file ({error}): download it again"
        ) from error
    struct = content.get(_STRUCT)
    names = getattr(getattr(struct, "dtype", None), "names", None)
    if struct is None or names is None or set(names) != {"train", "test"} or struct.size != 1:
        found = sorted(key for key in content if not key.startswith("__"))
        raise DataError(
            f"the label file {path} holds {found}, expected one struct {_STRUCT!r} with 'train' "
            f"and 'test': use {LABEL_FILE_NAME} of the Market-1501 attribute annotations"
        )
    halves = {half: _read_half(struct[half].item(), half, path) for half in ("train", "test")}
    both = sorted(set(halves["train"]) & set(halves["test"]))
    if both:
        raise DataError(
            f"the label file {path} lists person {both[0]:04d} in both train and test: every "
            "person belongs to one of them"
        )
    return MarketLabels(**halves)


def write_market_labels(path: Path | str, labels: MarketLabels) -> None:
    """Writes the published form: the same struct, types and two field orders; fixed bytes."""
    halves: dict[str, dict[str, np.ndarray]] = {}
    for half, persons in (("test", labels.test), ("train", labels.train)):
        fields = {
            name: np.array([[person[name] for person in persons.values()]], np.uint8)
            for name in _FIELD_ORDER[half]
        }
        ids = np.empty((1, len(persons)), object)
        for column, person_id in enumerate(persons):
            ids[0, column] = np.array([f"{person_id:04d}"])
        halves[half] = fields | {_IDS: ids}
    scipy.io.savemat(path, {_STRUCT: halves}, do_compression=True, oned_as="row")
    with open(path, "r+b") as file:
        file.write(b"MATLAB 5.0 MAT-file, rendered".ljust(_HEADER_TEXT_BYTES))


def _read_half(half: Any, name: str, path: Path) -> dict[int, dict[str, int]]:
    """{person_id: fields} of one half, in the file's order."""
    fields = set(getattr(half.dtype, "names", None) or ())
    expected = {*MARKET_FIELDS, _IDS}
    if fields != expected:
        missing, extra = sorted(expected - fields), sorted(fields - expected)
        wrong = [f"lacks {missing}"] * bool(missing) + [f"has the extra {extra}"] * bool(extra)
        raise DataError(
            f"{name!r} in the label file {path} {' and '.join(wrong)}: expected the 27 Market-1501 "
            f"fields and {_IDS!r}"
        )
    ids = _person_ids(half[_IDS].item(), name, path)
    columns = {
        field: _field_values(half[field].item(), field, name, path) for field in MARKET_FIELDS
    }
    for field, values in columns.items():
        if len(values) != len(ids):
            raise DataError(
                f"{name}.{field} in the label file {path} has {len(values)} values for {len(ids)} "
                "persons: a person is missing, restore the file"
            )
    return {
        person_id: {field: int(values[row]) for field, values in columns.items()}
        for row, person_id in enumerate(ids)
    }


def _person_ids(cells: np.ndarray, name: str, path: Path) -> list[int]:
    ids: list[int] = []
    for cell in np.ravel(cells):
        text = str(np.ravel(cell)[0]) if np.size(cell) else ""
        if not (text.isascii() and text.isdigit() and int(text) > 0):
            raise DataError(
                f"{name}.{_IDS} in the label file {path} holds {text!r}: expected person ids such "
                "as '0002'"
            )
        ids.append(int(text))
    if not ids:
        raise DataError(f"{name!r} in the label file {path} lists no person: restore the file")
    counts = np.bincount(ids)
    if counts.max() > 1:
        raise DataError(
            f"{name}.{_IDS} in the label file {path} lists person {counts.argmax():04d} "
            f"{counts.max()} times: every person has one row"
        )
    return ids


def _field_values(values: np.ndarray, field: str, name: str, path: Path) -> np.ndarray:
    low, high = market_field_range(field)
    flat = np.ravel(values)
    is_number = np.issubdtype(flat.dtype, np.number)
    bad = ~np.isin(flat, range(low, high + 1)) if is_number else np.ones(len(flat), bool)
    if bad.any():
        raise DataError(
            f"{name}.{field} in the label file {path} holds {flat[bad][0]!s}: expected whole "
            f"numbers from {low} to {high}"
        )
    return flat
