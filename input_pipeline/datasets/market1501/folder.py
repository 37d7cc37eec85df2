"""The files of a Market-1501 folder, real or rendered, checked by its label file. No TensorFlow.

Query and gallery are the folders `query/` and `bounding_box_test/` without persons -1 and 0000; the
gallery that papers rank (16,483 images) is both together.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from input_pipeline.attributes import (
    MARKET_SCHEMA,
    Schema,
    categories,
    category_labels,
)
from input_pipeline.datasets.market1501.label_file import (
    LABEL_FILE_NAME,
    MarketLabels,
    category_facts,
    person_attributes,
    read_market_labels,
)
from input_pipeline.errors import DataError

MANIFEST_NAME = "manifest.json"
FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}

# Counts of the published set and its attribute annotations.
PUBLISHED_FACTS = {
    "train_persons": 751,
    "test_persons": 750,
    "train_categories": 508,
    "test_categories": 484,
    "unseen_test_categories": 315,
    "train_images": 12_936,
    "query_images": 3_368,
    "gallery_images": 13_115,
}

_FILE_NAME = re.compile(r"(?P<person>-1|\d{4})_c(?P<camera>[1-6])s\d_\d{6}_\d{2}\.jpg")
_EXAMPLE_NAME = "0002_c1s1_000451_03.jpg"
# Left by file managers, also in the published archive.
_IGNORED_NAMES = ("Thumbs.db", "desktop.ini")
_DISTRACTORS = ("-1", "0000")


@dataclass(frozen=True)
class ImageEntry:
    """One image file; `size` in bytes and `modified` in ns tell whether it has changed."""

    path: Path
    person_id: int
    camera_id: int
    size: int
    modified: int


@dataclass(frozen=True)
class MarketFolder:
    """A checked folder: who has which attributes, and the images of each split by file name."""

    data_dir: Path
    labels: MarketLabels
    splits: Mapping[str, Sequence[ImageEntry]]
    facts: Mapping[str, int]
    is_rendered: bool

    @property
    def schema(self) -> Schema:
        """The attribute groups."""
        return MARKET_SCHEMA

    def categories(self, half: str) -> np.ndarray:
        """(K, A) int8 distinct attribute vectors of the "train" or "test" persons."""
        return categories(person_attributes(getattr(self.labels, half)))[0]

    def arrays(self, split: str) -> dict[str, np.ndarray]:
        """person_id, camera_id, label (N,) int32 and attributes (N, A) int8 of a split's images.

        The label counts among the training categories for "train", else among the test ones.
        """
        half = _half(split)
        persons = getattr(self.labels, half)
        vectors = person_attributes(persons)
        row_of = {person_id: row for row, person_id in enumerate(persons)}
        person_id = np.array([entry.person_id for entry in self.splits[split]], np.int32)
        attributes = vectors[[row_of[person] for person in person_id.tolist()]]
        return {
            "person_id": person_id,
            "camera_id": np.array([entry.camera_id for entry in self.splits[split]], np.int32),
            "attributes": attributes,
            "label": category_labels(attributes, self.categories(half)),
        }

    def fingerprint(self) -> str:
        """Changes with any file name, size or modification time, and with the label file."""
        digest = hashlib.sha256((self.data_dir / LABEL_FILE_NAME).read_bytes())
        for split, entries in self.splits.items():
            for entry in entries:
                digest.update(f"{split}/{entry.path.name} {entry.size} {entry.modified}\n".encode())
        return digest.hexdigest()[:16]


def read_market_folder(data_dir: Path | str) -> MarketFolder:
    """Lists and checks a folder in the Market-1501 layout; a manifest.json marks a rendered one.

    DataError: a folder or file is missing, empty or of the wrong kind, a file name does not parse,
    a person has no row in the label file, or a count differs from what the set is known to have.
    """
    data_dir = Path(data_dir)
    _require_folder(data_dir, "holds the Market-1501 folders")
    for name in FOLDERS.values():
        _require_folder(data_dir / name, "is one of the three Market-1501 image folders")
    labels = read_market_labels(data_dir / LABEL_FILE_NAME)
    splits = {split: _list_images(data_dir / name, split) for split, name in FOLDERS.items()}
    for split, entries in splits.items():
        _require_rows(entries, getattr(labels, _half(split)), _half(split), data_dir)
    facts = category_facts(labels)
    facts |= {f"{split}_images": len(entries) for split, entries in splits.items()}
    manifest = data_dir / MANIFEST_NAME
    is_rendered = manifest.is_file()
    expected = _manifest_facts(manifest) if is_rendered else PUBLISHED_FACTS
    check_facts(facts, expected, source=str(manifest) if is_rendered else "the published set")
    return MarketFolder(data_dir, labels, splits, facts, is_rendered)


def check_facts(found: Mapping[str, int], expected: Mapping[str, int], *, source: str) -> None:
    """DataError that says which count differs, what was expected and the likely cause."""
    for name, count in found.items():
        if name not in expected:
            raise DataError(f"{source} does not say {name}: render the data again")
        if count != expected[name]:
            cause = (
                "image files are missing or were added, copy the images again"
                if name.endswith("_images")
                else f"{LABEL_FILE_NAME} is of another set or was changed, restore it"
            )
            raise DataError(
                f"{name.replace('_', ' ')}: found {count:,}, but {source} has {expected[name]:,}; "
                f"probably {cause}"
            )


def _half(split: str) -> str:
    return "train" if split == "train" else "test"


def _require_folder(folder: Path, role: str) -> None:
    if folder.is_dir():
        return
    what = "is a file, not a folder" if folder.exists() else "does not exist"
    raise DataError(
        f"{folder} {what}: it {role}; check the path, or render a set with python -m "
        "input_pipeline.rendering"
    )


def _list_images(folder: Path, split: str) -> list[ImageEntry]:
    """The images of one folder in the order of their names, without distractors in the gallery."""
    entries = []
    with os.scandir(folder) as files:
        for file in sorted(files, key=lambda file: file.name):
            if file.name in _IGNORED_NAMES or file.name.startswith("."):
                continue
            match = _FILE_NAME.fullmatch(file.name)
            if match is None:
                raise DataError(
                    f"the file name {folder / file.name} does not parse: expected person, camera, "
                    f"sequence, frame and box as in {_EXAMPLE_NAME}; rename or remove it"
                )
            if split == "gallery" and match["person"] in _DISTRACTORS:
                continue
            try:
                status = file.stat()
            except OSError as error:
                raise DataError(
                    f"the image {folder / file.name} cannot be read ({error.strerror}): restore it "
                    "or remove it"
                ) from error
            entries.append(
                ImageEntry(
                    path=Path(file.path),
                    person_id=int(match["person"]),
                    camera_id=int(match["camera"]),
                    size=status.st_size,
                    modified=status.st_mtime_ns,
                )
            )
    if not entries:
        raise DataError(f"the folder {folder} holds no image of a known person: copy them again")
    return entries


def _require_rows(
    entries: Sequence[ImageEntry], persons: Mapping[int, object], half: str, data_dir: Path
) -> None:
    for entry in entries:
        if entry.person_id not in persons:
            raise DataError(
                f"person {entry.person_id:04d} of {entry.path} has no row in "
                f"{half!r} of {data_dir / LABEL_FILE_NAME}: restore the label file or remove "
                "the image"
            )


def _manifest_facts(manifest: Path) -> Mapping[str, int]:
    try:
        facts = json.loads(manifest.read_text())["facts"]
        return {str(name): int(count) for name, count in facts.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{manifest} is damaged ({error!r}): render the data again") from error
