"""Any folder of images with a CSV file and a schema file. No TensorFlow.

docs/your_own_images.md is the reference of both files.
"""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from input_pipeline.attributes import Schema
from input_pipeline.datasets.any_folder import cells
from input_pipeline.datasets.any_folder.image_files import (
    ARCHIVE_SUFFIXES,
    find_images,
    image_name,
)
from input_pipeline.datasets.any_folder.label_file import LabelTable, read_label_table
from input_pipeline.datasets.any_folder.schema_file import find_schema_file, read_schema_file
from input_pipeline.datasets.listing import (
    SPLITS,
    ImageFile,
    Images,
    Listing,
    ReaderOptions,
    count_facts,
    expected_facts,
    image_file,
    non_empty,
    require_folder,
)
from input_pipeline.errors import DataError


def read_any_folder(data_dir: Path | str, options: ReaderOptions | None = None) -> Listing:
    """Lists and checks a folder; training images of which no group is known are left out.

    DataError: whatever is wrong with the schema file, the CSV file or the image files, with the
    line where it stands.
    """
    data_dir, options = Path(data_dir), options or ReaderOptions()
    if data_dir.is_file() and data_dir.name.lower().endswith(ARCHIVE_SUFFIXES):
        raise DataError(f"{data_dir} is an archive: unpack it and give the folder")
    require_folder(data_dir, "holds the images with a CSV file and a schema file")
    schema_file = find_schema_file(data_dir, options.schema)
    schema = read_schema_file(schema_file, default_name=data_dir.resolve().name or "folder")
    table = read_label_table(data_dir / options.labels, schema.group_names, schema_file=schema_file)
    splits, warnings = _read_images(data_dir, table, schema)
    facts = count_facts(splits) | _count_persons(splits)
    expected, source, is_rendered = expected_facts(data_dir, {})
    return Listing(
        reader="folder",
        data_dir=data_dir,
        schema=schema,
        splits=splits,
        facts=facts,
        expected=expected,
        source=source,
        is_rendered=is_rendered,
        warnings=[*table.warnings, *warnings],
    )


def _read_images(
    data_dir: Path, table: LabelTable, schema: Schema
) -> tuple[dict[str, Images], list[str]]:
    """The images of every split, and a sentence if some were left out."""
    splits = _read_splits(table)
    names = [
        image_name(row[table.columns["path"]], f"{table.file}: line {line}")
        for line, row in table.rows
    ]
    codes = _read_attributes(table, schema)
    lines = [line for line, _ in table.rows]
    entries = find_images(data_dir, table.file, list(zip(lines, names, strict=True)))
    person_ids, camera_ids = _read_ids(table, "person_id"), _read_ids(table, "camera_id")
    files: dict[str, list[ImageFile]] = {split: [] for split in SPLITS}
    attributes: dict[str, list[bytes]] = {split: [] for split in SPLITS}
    nothing_known = bytes(schema.num_attributes)
    left_out = []
    for row, code in enumerate(codes):
        # A test image of which nothing is known can still be found.
        if code == nothing_known and splits[row] == "train":
            left_out.append(lines[row])
            continue
        files[splits[row]].append(
            image_file(
                entries[row],
                # As it is on the disk, where letters with accents may be written otherwise.
                str(PurePosixPath(names[row]).with_name(entries[row].name)),
                person_id=person_ids[row],
                camera_id=camera_ids[row],
            )
        )
        attributes[splits[row]].append(code)
    if len(left_out) == len(codes):
        raise DataError(
            f"{table.file}: the attribute cells of all rows are empty and all are of 'train': fill "
            "in what is known of the images, or make them 'test' to search them"
        )
    warnings = []
    if left_out:
        named = ", ".join(map(str, left_out[:3])) + (", ..." if len(left_out) > 3 else "")
        warnings.append(
            f"{table.file}: left out {len(left_out):,} training image(s) of which nothing is known "
            f"(line {named})"
        )
    width = schema.num_attributes
    images = {
        split: Images.by_name(
            files[split],
            np.frombuffer(b"".join(attributes[split]), np.int8).reshape(-1, width),
        )
        for split in SPLITS
    }
    return non_empty(images), warnings


def _read_splits(table: LabelTable) -> list[str]:
    """The split of every row."""
    place, splits = table.columns["split"], []
    for line, row in table.rows:
        try:
            splits.append(cells.read_split(row[place]))
        except cells.CellError as error:
            raise DataError(f"{table.file}: line {line}, column 'split': {error}") from error
    return splits


def _read_attributes(table: LabelTable, schema: Schema) -> list[bytes]:
    """The A codes of every row, int8 as bytes. DataError: the first wrong cell; all are counted."""
    readers = [
        (group.name, table.columns[group.name], cells.value_reader(schema, group))
        for group in schema.groups
    ]
    codes, wrong = [], []
    for line, row in table.rows:
        try:
            codes.append(b"".join([read(row[place]) for _, place, read in readers]))
        except cells.CellError:
            for name, place, read in readers:
                try:
                    read(row[place])
                except cells.CellError as error:
                    wrong.append(f"line {line}, column {name!r}: {error}")
    if wrong:
        more = f" ({len(wrong) - 1:,} further cells are wrong)" if len(wrong) > 1 else ""
        raise DataError(f"{table.file}: {wrong[0]}{more}")
    return codes


def _read_ids(table: LabelTable, column: str) -> list[int]:
    """Ids of all rows; all unknown where there is no such column. DataError: no id."""
    place = table.columns.get(column)
    if place is None:
        return cells.ids([""] * len(table.rows))
    for line, row in table.rows:
        try:
            cells.check_id(row[place])
        except cells.CellError as error:
            raise DataError(f"{table.file}: line {line}, column {column!r}: {error}") from error
    return cells.ids([row[place] for _, row in table.rows])


def _count_persons(splits: Mapping[str, Images]) -> dict[str, int]:
    """Known persons in train, val and test, where any is known."""
    parts = {"train": ("train",), "val": ("val",), "test": ("query", "gallery")}
    counts = {
        f"{part}_persons": cells.number_of_persons(
            file.person_id for split in members if split in splits for file in splits[split].files
        )
        for part, members in parts.items()
    }
    return {name: count for name, count in counts.items() if count}
