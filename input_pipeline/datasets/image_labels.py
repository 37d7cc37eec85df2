"""Label files of images: MATLAB tables of 0 and 1 with one row per image. No TensorFlow.

PETA and PA-100K are annotated so. Neither tells the camera; which images belong to which split is
each one's own affair.
"""

import os
import stat
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from input_pipeline.attributes import ABSENT_CODE, PRESENT, Group, Schema
from input_pipeline.datasets.listing import (
    UNKNOWN_ID,
    ImageFile,
    Images,
    Listing,
    count_facts,
    expected_facts,
    image_file,
)
from input_pipeline.errors import DataError

# How many missing images a sentence names.
_NAMED = 3


def column_names(cells: object, what: str, path: Path, expected: Collection[str]) -> list[str]:
    """The attribute names of a cell array in the file's order. DataError: not those expected."""
    names = texts(cells, what, path)
    if sorted(names) != sorted(expected):
        missing = sorted(set(expected) - set(names))
        extra = sorted(set(names) - set(expected))
        wrong = [f"lacks {missing}"] * bool(missing) + [f"has the extra {extra}"] * bool(extra)
        raise DataError(
            f"{what} in the label file {path} {' and '.join(wrong) or 'names one twice'}: expected "
            f"the {len(expected)} published attributes, restore the file"
        )
    return names


def texts(cells: object, what: str, path: Path) -> list[str]:
    """The strings of a cell array. DataError: it is none, or a cell is empty or no string."""
    if not isinstance(cells, np.ndarray) or cells.dtype != object:
        raise DataError(f"{what} in the label file {path} is no list of texts: restore the file")
    found: list[str] = []
    for number, cell in enumerate(np.ravel(cells), start=1):
        text = np.ravel(cell)[0] if np.size(cell) == 1 else None
        if not isinstance(text, str) or not text.strip():
            raise DataError(
                f"{what} in the label file {path} has no text in row {number}: restore the file"
            )
        found.append(text.strip())
    return found


def zero_one(values: object, what: str, path: Path, shape: tuple[int, int]) -> np.ndarray:
    """A table as (N, A) bool. DataError: it is not of that shape, or holds anything but 0 and 1."""
    table = np.asarray(values)
    if table.shape != shape:
        raise DataError(
            f"{what} in the label file {path} has the shape {table.shape}: expected {shape}, one "
            "row per image and one column per attribute, restore the file"
        )
    is_number = table.dtype.kind in "uifb"
    bad = ~np.isin(table, (0, 1)) if is_number else np.ones(shape, bool)
    if bad.any():
        row, column = np.argwhere(bad)[0].tolist()
        raise DataError(
            f"{what} in the label file {path} holds {table[row, column]!s} in row {row + 1}: "
            "expected 0 or 1, restore the file"
        )
    return table.astype(bool)


def whole_numbers(
    values: object, what: str, path: Path, *, limits: tuple[int, int] = (0, np.iinfo(np.int32).max)
) -> np.ndarray:
    """(N,) int32 of a column. DataError: anything but whole numbers within the limits in it."""
    column = np.ravel(np.asarray(values))
    bad = np.ones(len(column), bool)
    if column.dtype.kind in "uif":
        bad = (column < limits[0]) | (column > limits[1]) | (column != np.floor(column))
    if bad.any():
        raise DataError(
            f"{what} in the label file {path} holds {column[bad][0]!s}: expected whole numbers "
            f"from {limits[0]} to {limits[1]:,}, restore the file"
        )
    return column.astype(np.int32)


def attributes_of(
    bits: np.ndarray, names: Sequence[str], columns: Sequence[str], schema: Schema
) -> np.ndarray:
    """(N, A) int8 of a table (N, A) bool whose columns are called names.

    columns: the name behind each attribute column of the schema. Nothing is unknown.
    """
    assert len(columns) == schema.num_attributes, "one field per column"
    order = [list(names).index(column) for column in columns]
    return np.where(bits[:, order], PRESENT, ABSENT_CODE).astype(np.int8)


def columns_of(questions: Iterable[tuple[Group, Sequence[str]]]) -> tuple[str, ...]:
    """The names behind the columns of groups: one per value, of a binary group one in all."""
    columns: list[str] = []
    for group, names in questions:
        assert len(names) == (1 if group.binary else len(group.values)), group.name
        columns += names
    return tuple(columns)


def listed_images(
    data_dir: Path, folder: str, names: Sequence[str], person_ids: Sequence[int] | None = None
) -> list[ImageFile]:
    """The images `<data_dir>/<folder>/<name>`, in the order of the names.

    DataError: a name is listed twice or leads out of the folder, a link leads out of data_dir, or
    images are missing.
    """
    root = data_dir.resolve()
    if not (data_dir / folder).resolve().is_relative_to(root):
        raise DataError(
            f"the folder {data_dir / folder} is a link out of {data_dir}: put the images there"
        )
    seen: set[str] = set()
    files: list[ImageFile] = []
    missing: list[str] = []
    for row, listed in enumerate(names):
        below = PurePosixPath(listed)
        name = str(below)
        if below.is_absolute() or ".." in below.parts or "\\" in name or "\0" in name:
            raise DataError(
                f"the label file in {data_dir} names the image {listed!r}, which is not inside "
                f"{folder}: correct the name"
            )
        if name in seen:
            raise DataError(
                f"the label file in {data_dir} lists the image {name!r} twice: every image has one "
                "row, restore the file"
            )
        seen.add(name)
        path = data_dir / folder / name
        if not _is_file_inside(path, root, is_deep=len(below.parts) > 1):
            missing.append(f"{folder}/{name}")
            continue
        person_id = UNKNOWN_ID if person_ids is None else int(person_ids[row])
        files.append(image_file(path, f"{folder}/{name}", person_id=person_id))
    if missing:
        named = ", ".join(missing[:_NAMED])
        raise DataError(
            f"{len(missing):,} of the {len(names):,} images that the label file lists are not in "
            f"{data_dir} ({named}{', ...' if len(missing) > _NAMED else ''}): copy them there"
        )
    return files


def _is_file_inside(path: Path, root: Path, *, is_deep: bool) -> bool:
    """Whether there is such a file. DataError: it lies elsewhere, behind a link."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return False
    # Resolving each of 100,000 paths would take longer than all the rest.
    if (is_deep or stat.S_ISLNK(mode)) and not path.resolve().is_relative_to(root):
        raise DataError(f"the image {path} is a link out of {root}: put the image itself there")
    return path.is_file() if stat.S_ISLNK(mode) else stat.S_ISREG(mode)


def image_listing(
    *,
    reader: str,
    data_dir: Path,
    schema: Schema,
    splits: Mapping[str, Images],
    published: Mapping[str, int],
    in_manifest: Callable[[str], bool],
) -> Listing:
    """The listing of splits that are read; a manifest.json marks a rendered folder.

    in_manifest: whether the manifest's count of that name, which is of the default options, holds
    with the options at hand too. DataError: the manifest is damaged or lacks a count.
    """
    facts = count_facts(splits)
    expected, source, is_rendered = expected_facts(data_dir, published)
    if is_rendered:
        wanted = [name for name in facts if in_manifest(name)]
        for name in wanted:
            if name not in expected:
                raise DataError(f"{source} does not say {name}: render the data again")
        expected = {name: expected[name] for name in wanted}
    return Listing(
        reader=reader,
        data_dir=data_dir,
        schema=schema,
        splits=splits,
        facts=facts,
        expected=expected,
        source=source,
        is_rendered=is_rendered,
    )
