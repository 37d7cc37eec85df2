"""What every reader finds in a data folder: images with labels, checked but not yet decoded.

No TensorFlow. A reader is a function (data_dir, options) -> Listing; `load.py` makes records of it.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from input_pipeline.attributes import Schema, categories, category_labels
from input_pipeline.errors import DataError

# In the order in which they are prepared. "query" are images of test persons that the protocol
# `per_image` asks with; with "gallery" they are what every other protocol ranks.
SPLITS = ("train", "val", "query", "gallery")
TEST_SPLITS = ("gallery", "query")

# The protocols of PETA: SAL's categories, or the five published partitions of images.
PETA_SPLITS = ("sal", *(f"official_{number}" for number in range(1, 6)))

# Marks a rendered folder and says what it holds, in place of the published counts.
MANIFEST_NAME = "manifest.json"

# Person or camera that the data set does not tell.
UNKNOWN_ID = -1


@dataclass(frozen=True)
class ReaderOptions:
    """What a config may tell a reader; each reader takes what concerns it.

    labels: the CSV file of a folder, relative to it; schema: its schema file, likewise.
    peta_split: "sal", or "official_1" to "official_5". orientation: PA-100K's Front, Side, Back as
    attributes.
    """

    labels: str = "labels.csv"
    schema: str = ""
    peta_split: str = "sal"
    orientation: bool = False

    @staticmethod
    def of(data: Any) -> "ReaderOptions":
        """Those of the section `data` of a config."""
        return ReaderOptions(data.labels, data.schema, data.peta_split, data.orientation)


@dataclass(frozen=True)
class ImageFile:
    """One image file; `size` in bytes and `modified` in ns tell whether it has changed.

    name: below the data folder, with slashes.
    """

    name: str
    size: int
    modified: int
    person_id: int = UNKNOWN_ID
    camera_id: int = UNKNOWN_ID


@dataclass(frozen=True)
class Images:
    """The images of one split in the order of their names."""

    files: Sequence[ImageFile]
    attributes: np.ndarray
    """(N, A) int8."""

    @staticmethod
    def by_name(files: Sequence[ImageFile], attributes: np.ndarray) -> "Images":
        """Files with the rows of attributes (N, A) that belong to them, sorted by name."""
        order = sorted(range(len(files)), key=lambda i: files[i].name)
        return Images([files[i] for i in order], np.asarray(attributes, np.int8)[order])

    @property
    def person_id(self) -> np.ndarray:
        """(N,) int32."""
        return np.array([file.person_id for file in self.files], np.int32)

    @property
    def camera_id(self) -> np.ndarray:
        """(N,) int32."""
        return np.array([file.camera_id for file in self.files], np.int32)


@dataclass(frozen=True)
class Listing:
    """A checked folder. A attribute columns, K training categories, Q test categories.

    reader: its name in configs. splits: of SPLITS those that are there, none of them empty.
    facts: counts found. expected: what they must be (facts that nobody knows are left out), and
    source: who says so. warnings: sentences for the user, such as rows that were left out.
    """

    reader: str
    data_dir: Path
    schema: Schema
    splits: Mapping[str, Images]
    facts: Mapping[str, int]
    expected: Mapping[str, int] = field(default_factory=dict)
    source: str = "the published set"
    is_rendered: bool = False
    warnings: Sequence[str] = ()

    @cached_property
    def train_categories(self) -> np.ndarray:
        """(K, A) int8, distinct descriptions of training images in lexicographic order."""
        return self._categories("train")

    @cached_property
    def test_categories(self) -> np.ndarray:
        """(Q, A) int8, distinct descriptions of gallery and query images."""
        return self._categories(*TEST_SPLITS)

    def _categories(self, *splits: str) -> np.ndarray:
        rows = [self.splits[split].attributes for split in splits if split in self.splits]
        if not rows:
            return np.zeros((0, self.schema.num_attributes), np.int8)
        attributes = np.concatenate(rows)
        # An image of which nothing is known can be found, but is no description to ask with.
        return categories(attributes[attributes.any(axis=1)])[0]

    def known_categories(self, split: str) -> np.ndarray:
        """The categories among which the labels of a split count."""
        if split in TEST_SPLITS:
            return self.test_categories
        return self.train_categories if split == "train" else self._categories(split)

    def arrays(self, split: str) -> dict[str, np.ndarray]:
        """person_id, camera_id, label (N,) int32 and attributes (N, A) int8 of a split's images.

        The label of an image of which nothing is known is -1.
        """
        images = self.splits[split]
        return {
            "person_id": images.person_id,
            "camera_id": images.camera_id,
            "attributes": images.attributes,
            "label": category_labels(images.attributes, self.known_categories(split)),
        }

    def path(self, file: ImageFile) -> Path:
        """Where an image lies."""
        return self.data_dir / file.name

    def fingerprint(self) -> str:
        """Changes with any image's name, size, time or labels, and with how these are read."""
        digest = hashlib.sha256(json.dumps(self.schema.coding().to_dict()).encode())
        for split, images in self.splits.items():
            digest.update(split.encode() + images.attributes.tobytes())
            for file in images.files:
                digest.update(
                    f"{file.name} {file.size} {file.modified} {file.person_id} "
                    f"{file.camera_id}\n".encode()
                )
        return digest.hexdigest()[:16]

    def failed_facts(self) -> list[str]:
        """One sentence for every count that is not as expected."""
        return [
            f"{name.replace('_', ' ')}: found {self.facts.get(name, 0):,}, but {self.source} has "
            f"{count:,}; probably {_cause(name)}"
            for name, count in self.expected.items()
            if self.facts.get(name) != count
        ]

    def require_facts(self) -> None:
        """DataError that says which count differs, what was expected and the likely cause."""
        failed = self.failed_facts()
        if failed:
            more = f" ({len(failed) - 1} further counts differ too)" if len(failed) > 1 else ""
            raise DataError(f"{self.data_dir}: {failed[0]}{more}")


def _cause(name: str) -> str:
    if name.endswith("images"):
        return "image files are missing or were added, copy the images again"
    return "the label file is of another set or was changed, restore it"


def count_facts(splits: Mapping[str, Images]) -> dict[str, int]:
    """Categories, unseen test categories and images of every split that is there."""
    facts = {f"{split}_images": len(images.files) for split, images in splits.items()}
    listing = Listing("", Path(), Schema("", ()), splits, {})
    if "train" in splits:
        facts["train_categories"] = len(listing.train_categories)
    if any(split in splits for split in TEST_SPLITS):
        facts["test_categories"] = len(listing.test_categories)
    if {"train_categories", "test_categories"} <= facts.keys():
        labels = category_labels(listing.test_categories, listing.train_categories)
        facts["unseen_test_categories"] = int((labels < 0).sum())
    return facts


def require_folder(folder: Path, role: str) -> None:
    """DataError unless the folder is one; role completes "it ..."."""
    if folder.is_dir():
        return
    what = "is a file, not a folder" if folder.exists() else "does not exist"
    raise DataError(
        f"{folder} {what}: it {role}; check the path, or render a set with python -m "
        "input_pipeline.rendering"
    )


def image_file(
    path: Path | os.DirEntry[str],
    name: str,
    *,
    person_id: int = UNKNOWN_ID,
    camera_id: int = UNKNOWN_ID,
) -> ImageFile:
    """The entry of a file that is there. DataError: it cannot be read."""
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(
            f"the image {Path(path)} cannot be read ({error.strerror}): restore it or remove it"
        ) from error
    return ImageFile(name, status.st_size, status.st_mtime_ns, person_id, camera_id)


def expected_facts(
    data_dir: Path, published: Mapping[str, int]
) -> tuple[Mapping[str, int], str, bool]:
    """(counts, who says so, whether it is rendered): the folder's manifest's, or the published."""
    manifest = data_dir / MANIFEST_NAME
    if not manifest.is_file():
        return published, "the published set", False
    try:
        content = json.loads(manifest.read_text())
        # A file of that name in a user's own folder need not be ours.
        if not published and (not isinstance(content, dict) or "facts" not in content):
            return published, "the published set", False
        facts = content["facts"]
        counts = {str(name): int(count) for name, count in facts.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{manifest} is damaged ({error!r}): render the data again, or move it away if the "
            "images are not rendered"
        ) from error
    return counts, str(manifest), True


def non_empty(splits: Mapping[str, Images]) -> dict[str, Images]:
    """The splits that have images, in the order of SPLITS."""
    return {split: splits[split] for split in SPLITS if split in splits and splits[split].files}


def one_of(names: Iterable[str]) -> str:
    """'a', 'b' or 'c' for a sentence."""
    quoted = [repr(name) for name in names]
    return " or ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)
