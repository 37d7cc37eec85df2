"""A MATLAB label file of persons: which person has which raw attribute values. No TensorFlow.

Market-1501 and DukeMTMC are annotated alike: one struct with `test` and `train`, each with one
field per attribute (one value per person) and `image_index`, the person ids as strings. The ORDER
of the fields differs between the two halves, so everything here goes by name.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from input_pipeline.attributes import categories, category_labels
from input_pipeline.errors import DataError

_IDS = "image_index"

# Bytes 0..115 of a MATLAB 5 file are free text; scipy puts the date there, which would make two
# renderings of the same data differ.
_HEADER_TEXT_BYTES = 116


@dataclass(frozen=True)
class LabelFile:
    """What a data set's label file looks like.

    title: "Market-1501". name: of the file. struct: the variable in it. fields: {field: (smallest,
    largest value)}. orders: {half: fields in the published order}, for writing. to_attributes: the
    (A,) int8 attribute vector of one person's raw fields.
    """

    title: str
    name: str
    struct: str
    fields: Mapping[str, tuple[int, int]]
    orders: Mapping[str, Sequence[str]]
    to_attributes: Callable[[Mapping[str, int]], np.ndarray]


@dataclass(frozen=True)
class PersonLabels:
    """The raw fields of every person: {person_id: {field: value}} for both halves."""

    train: dict[int, dict[str, int]]
    test: dict[int, dict[str, int]]

    def attributes(self, form: LabelFile, half: str) -> np.ndarray:
        """(persons, A) int8 of "train" or "test", in the mapping's order."""
        return np.stack([form.to_attributes(fields) for fields in getattr(self, half).values()])


def category_facts(form: LabelFile, labels: PersonLabels) -> dict[str, int]:
    """Counts of persons, categories (distinct vectors) and test categories unseen in training."""
    train_categories, _ = categories(labels.attributes(form, "train"))
    test_categories, _ = categories(labels.attributes(form, "test"))
    return {
        "train_persons": len(labels.train),
        "test_persons": len(labels.test),
        "train_categories": len(train_categories),
        "test_categories": len(test_categories),
        "unseen_test_categories": int(
            (category_labels(test_categories, train_categories) < 0).sum()
        ),
    }


def read_mat(path: Path, *, title: str) -> dict[str, Any]:
    """The variables of a MATLAB file, by name.

    DataError: it is missing, or no readable MATLAB file (version 7.3 files are HDF5, and are not).
    """
    if not path.is_file():
        raise DataError(
            f"the label file {path} does not exist: put {path.name} of the {title} attribute "
            "annotations there"
        )
    try:
        content = scipy.io.loadmat(path)
    except Exception as error:  # scipy fails in many ways on a damaged file; all mean the same.
        raise DataError(
            f"the label file {path} is not a readable MATLAB file ({error}): download it again"
        ) from error
    return {name: value for name, value in content.items() if not name.startswith("__")}


def write_mat(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a MATLAB 5 file whose bytes depend on the content alone."""
    scipy.io.savemat(path, dict(content), do_compression=True, oned_as="row")
    with open(path, "r+b") as file:
        file.write(b"MATLAB 5.0 MAT-file, rendered".ljust(_HEADER_TEXT_BYTES))


def read_person_labels(path: Path | str, form: LabelFile) -> PersonLabels:
    """Reads and checks a label file.

    DataError: the file is missing or no MATLAB file, holds another struct, a field is missing or
    extra, fields differ in length, a value is out of range, a person id is malformed or doubled.
    """
    path = Path(path)
    content = read_mat(path, title=form.title)
    struct = content.get(form.struct)
    names = getattr(getattr(struct, "dtype", None), "names", None)
    if struct is None or names is None or set(names) != {"train", "test"} or struct.size != 1:
        raise DataError(
            f"the label file {path} holds {sorted(content)}, expected one struct {form.struct!r} "
            f"with 'train' and 'test': use {form.name} of the {form.title} attribute annotations"
        )
    halves = {half: _read_half(struct[half].item(), half, path, form) for half in ("train", "test")}
    both = sorted(set(halves["train"]) & set(halves["test"]))
    if both:
        raise DataError(
            f"the label file {path} lists person {both[0]:04d} in both train and test: every "
            "person belongs to one of them"
        )
    return PersonLabels(**halves)


def write_person_labels(path: Path | str, labels: PersonLabels, form: LabelFile) -> None:
    """Writes the published form: the same struct, types and two field orders; fixed bytes."""
    halves: dict[str, dict[str, np.ndarray]] = {}
    for half in form.orders:
        persons = getattr(labels, half)
        fields = {
            name: np.array([[person[name] for person in persons.values()]], np.uint8)
            for name in form.orders[half]
        }
        ids = np.empty((1, len(persons)), object)
        for column, person_id in enumerate(persons):
            ids[0, column] = np.array([f"{person_id:04d}"])
        halves[half] = fields | {_IDS: ids}
    write_mat(Path(path), {form.struct: halves})


def _read_half(half: Any, name: str, path: Path, form: LabelFile) -> dict[int, dict[str, int]]:
    """{person_id: fields} of one half, in the file's order."""
    fields = set(getattr(half.dtype, "names", None) or ())
    expected = {*form.fields, _IDS}
    if fields != expected:
        missing, extra = sorted(expected - fields), sorted(fields - expected)
        wrong = [f"lacks {missing}"] * bool(missing) + [f"has the extra {extra}"] * bool(extra)
        raise DataError(
            f"{name!r} in the label file {path} {' and '.join(wrong)}: expected the "
            f"{len(form.fields)} {form.title} fields and {_IDS!r}"
        )
    ids = _person_ids(half[_IDS].item(), name, path)
    columns = {
        field: _field_values(half[field].item(), limits, f"{name}.{field}", path)
        for field, limits in form.fields.items()
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


def _field_values(values: np.ndarray, limits: tuple[int, int], name: str, path: Path) -> np.ndarray:
    low, high = limits
    flat = np.ravel(values)
    is_number = np.issubdtype(flat.dtype, np.number)
    bad = ~np.isin(flat, range(low, high + 1)) if is_number else np.ones(len(flat), bool)
    if bad.any():
        raise DataError(
            f"{name} in the label file {path} holds {flat[bad][0]!s}: expected whole "
            f"numbers from {low} to {high}"
        )
    return flat
