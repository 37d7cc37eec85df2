"""Data sets in three image folders with a label file of persons: Market-1501 and DukeMTMC.

No TensorFlow. Query and gallery are the folders `query/` and `bounding_box_test/`, the latter
without distractors.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from input_pipeline.attributes import Schema
from input_pipeline.datasets.listing import (
    ImageFile,
    Images,
    Listing,
    expected_facts,
    image_file,
    require_folder,
)
from input_pipeline.datasets.person_labels import LabelFile, category_facts, read_person_labels
from input_pipeline.errors import DataError

FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}

# Left by file managers, also in the published archives.
IGNORED_NAMES = ("Thumbs.db", "desktop.ini")
_DISTRACTORS = ("-1", "0000")


@dataclass(frozen=True)
class PersonFolders:
    """What is particular to one of these data sets.

    file_name: pattern of image names with the groups person and camera, example_name one of them
    and name_parts what it is made of. published: the counts that the set is known to have.
    """

    reader: str
    label_file: LabelFile
    schema: Schema
    file_name: re.Pattern[str]
    example_name: str
    name_parts: str
    published: Mapping[str, int]


def read_person_folders(data_dir: Path, form: PersonFolders) -> Listing:
    """Lists and checks a folder; a manifest.json marks a rendered one.

    DataError: a folder or file is missing, empty or of the wrong kind, a file name does not parse,
    a person has no row in the label file. Counts that differ from what the set is known to have are
    left to `Listing.require_facts`.
    """
    title = form.label_file.title
    require_folder(data_dir, f"holds the {title} folders")
    for name in FOLDERS.values():
        require_folder(data_dir / name, f"is one of the three {title} image folders")
    labels = read_person_labels(data_dir / form.label_file.name, form.label_file)
    splits: dict[str, Images] = {}
    for split, name in FOLDERS.items():
        half = "train" if split == "train" else "test"
        persons = getattr(labels, half)
        files = _list_images(data_dir, name, form, skip_distractors=split == "gallery")
        _require_rows(files, persons, half, data_dir, form)
        vectors = labels.attributes(form.label_file, half)
        row_of = {person_id: row for row, person_id in enumerate(persons)}
        splits[split] = Images.by_name(files, vectors[[row_of[file.person_id] for file in files]])
    facts = category_facts(form.label_file, labels)
    facts |= {f"{split}_images": len(images.files) for split, images in splits.items()}
    expected, source, is_rendered = expected_facts(data_dir, form.published)
    for name in facts:
        if name not in expected:
            raise DataError(f"{source} does not say {name}: render the data again")
    return Listing(
        reader=form.reader,
        data_dir=data_dir,
        schema=form.schema,
        splits=splits,
        facts=facts,
        expected={name: expected[name] for name in facts},
        source=source,
        is_rendered=is_rendered,
    )


def _list_images(
    data_dir: Path, folder: str, form: PersonFolders, *, skip_distractors: bool
) -> list[ImageFile]:
    """The images of one folder, without distractors in the gallery."""
    files = []
    with os.scandir(data_dir / folder) as entries:
        for entry in entries:
            if entry.name in IGNORED_NAMES or entry.name.startswith("."):
                continue
            match = form.file_name.fullmatch(entry.name)
            if match is None:
                raise DataError(
                    f"the file name {data_dir / folder / entry.name} does not parse: expected "
                    f"{form.name_parts} as in {form.example_name}; rename or remove it"
                )
            if skip_distractors and match["person"] in _DISTRACTORS:
                continue
            files.append(
                image_file(
                    entry,
                    f"{folder}/{entry.name}",
                    person_id=int(match["person"]),
                    camera_id=int(match["camera"]),
                )
            )
    if not files:
        raise DataError(
            f"the folder {data_dir / folder} holds no image of a known person: copy them again"
        )
    return files


def _require_rows(
    files: Sequence[ImageFile],
    persons: Mapping[int, object],
    half: str,
    data_dir: Path,
    form: PersonFolders,
) -> None:
    for file in files:
        if file.person_id not in persons:
            raise DataError(
                f"person {file.person_id:04d} of {data_dir / file.name} has no row in "
                f"{half!r} of {data_dir / form.label_file.name}: restore the label file or remove "
                "the image"
            )
