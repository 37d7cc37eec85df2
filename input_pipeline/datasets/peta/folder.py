"""The files of a PETA folder, real or rendered: PETA.mat and images/00001.png ... No TensorFlow.

SAL's split (Cao et al., ECCV 2020) ranks images of 200 descriptions that no training image has;
the five published partitions draw images, so that persons and descriptions are in several parts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from input_pipeline.datasets.image_labels import (
    column_names,
    image_listing,
    listed_images,
    whole_numbers,
    zero_one,
)
from input_pipeline.datasets.listing import (
    PETA_SPLITS,
    Images,
    Listing,
    ReaderOptions,
    one_of,
    require_folder,
)
from input_pipeline.datasets.person_labels import read_mat, write_mat
from input_pipeline.datasets.peta.schema import (
    PETA_NAMES,
    PETA_SCHEMA,
    bits_to_attributes,
)
from input_pipeline.errors import DataError

LABEL_FILE_NAME = "PETA.mat"
IMAGE_FOLDER = "images"

# In front of the attributes: number of the image, person, subset, and the person's number there.
ID_COLUMNS = 4
# The file also names, by their columns in `data` from 1, those 35 that the literature recognises.
_SELECTED_COLUMNS = range(5, 40)
# The file's numbers have 16 bits.
MOST_IMAGES = 2**16 - 1

# The names of the parts of a published partition, and what they are here.
_PARTS = {"train": "train", "val": "val", "test": "gallery"}

# SAL's split: of the 2,090 descriptions that two or more images have, 200 are the test's.
_SAL_CATEGORIES, _SAL_TEST_CATEGORIES, _SAL_SEED = 2090, 200, 1
_SAL_FACTS = {
    "train_categories": 1_890,
    "test_categories": 200,
    "unseen_test_categories": 200,
    "train_images": 11_886,
    "gallery_images": 1_435,
}
_OFFICIAL_FACTS = {"train_images": 9_500, "val_images": 1_900, "gallery_images": 7_600}


@dataclass(frozen=True)
class PetaLabels:
    """PETA.mat: N images in the order of their numbers 1 to N.

    person_id, subset, original_id: (N,) int32. bits: (N, 105) bool, columns as in names.
    partitions: five times {"train", "val", "test": numbers of images}.
    """

    person_id: np.ndarray
    subset: np.ndarray
    original_id: np.ndarray
    bits: np.ndarray
    names: tuple[str, ...]
    partitions: tuple[Mapping[str, np.ndarray], ...]


def image_name(number: int) -> str:
    """The file of an image in its folder."""
    return f"{number:05d}.png"


def read_peta_folder(data_dir: Path | str, options: ReaderOptions | None = None) -> Listing:
    """Lists and checks a PETA folder; the images of the chosen split must be there.

    DataError: the label file or an image is missing or damaged; see `read_peta_labels`. Counts that
    differ from what the set is known to have are left to `Listing.require_facts`.
    """
    data_dir, split = Path(data_dir), (options or ReaderOptions()).peta_split
    if split not in PETA_SPLITS:
        raise DataError(f"the split of PETA is {split!r}: expected {one_of(PETA_SPLITS)}")
    require_folder(data_dir, f"holds {LABEL_FILE_NAME} and the folder {IMAGE_FOLDER}")
    path = data_dir / LABEL_FILE_NAME
    labels = read_peta_labels(path)
    require_folder(data_dir / IMAGE_FOLDER, "holds PETA's images")
    if split == "sal":
        rows = sal_split(labels.bits, path)
    else:
        partition = labels.partitions[PETA_SPLITS.index(split) - 1]
        rows = {_PARTS[part]: numbers - 1 for part, numbers in partition.items()}
    chosen = np.concatenate(list(rows.values()))
    files = listed_images(
        data_dir,
        IMAGE_FOLDER,
        [image_name(row + 1) for row in chosen.tolist()],
        labels.person_id[chosen].tolist(),
    )
    file_of = dict(zip(chosen.tolist(), files, strict=True))
    attributes = bits_to_attributes(labels.bits, labels.names)
    return image_listing(
        reader="peta",
        data_dir=data_dir,
        schema=PETA_SCHEMA,
        splits={
            name: Images.by_name([file_of[row] for row in its_rows.tolist()], attributes[its_rows])
            for name, its_rows in rows.items()
        },
        published=_SAL_FACTS if split == "sal" else _OFFICIAL_FACTS,
        in_manifest=lambda name: split == "sal",
    )


def sal_split(bits: np.ndarray, path: Path) -> dict[str, np.ndarray]:
    """{"train", "gallery": rows} of the table (N, 105), as SAL's code draws them.

    Descriptions of a single image are left out. A smaller set has proportionally fewer test
    descriptions, at least one. DataError: fewer than two descriptions are left.
    """
    _, first, label, count = np.unique(
        bits, axis=0, return_index=True, return_inverse=True, return_counts=True
    )
    kept = np.flatnonzero(count > 1)
    if len(kept) < 2:
        raise DataError(
            f"{len(kept)} descriptions in the label file {path} are of two or more images: SAL's "
            "split needs at least two, choose --config.data.peta_split=official_1"
        )
    # What is drawn depends on the order: that of their first images in the file.
    kept = kept[np.argsort(first[kept])]
    num_test = max(1, round(len(kept) * _SAL_TEST_CATEGORIES / _SAL_CATEGORIES))
    legacy = np.random.RandomState(_SAL_SEED)
    train = legacy.choice(len(kept), len(kept) - num_test, replace=False)
    test = np.delete(np.arange(len(kept)), train)
    return {
        split: np.flatnonzero(np.isin(label.reshape(-1), kept[drawn]))
        for split, drawn in (("train", train), ("gallery", test))
    }


def read_peta_labels(path: Path) -> PetaLabels:
    """Reads and checks PETA.mat.

    DataError: it is missing or no MATLAB file, holds another struct or lacks a field, the table is
    not of images 1 to N, a value is neither 0 nor 1, a partition names an image that is not there
    or one twice.
    """
    content = read_mat(path, title="PETA")
    struct = content.get("peta")
    fields = getattr(getattr(struct, "dtype", None), "names", None) or ()
    wanted = {"data", "attribute", "partion_attribute"}
    if struct is None or not wanted <= set(fields) or struct.size != 1:
        raise DataError(
            f"the label file {path} holds {sorted(fields or content)}, expected one struct 'peta' "
            f"with {sorted(wanted)}: use the PETA.mat of the PETA data set"
        )
    names = column_names(struct["attribute"].item(), "peta.attribute", path, PETA_NAMES)
    table = np.asarray(struct["data"].item())
    width = ID_COLUMNS + len(PETA_NAMES)
    if table.ndim != 2 or table.shape[1] != width or not len(table):
        raise DataError(
            f"peta.data in the label file {path} has the shape {table.shape}: expected one row per "
            f"image and {width} columns, restore the file"
        )
    number, person_id, subset, original_id = (
        whole_numbers(table[:, column], f"column {column + 1} of peta.data", path)
        for column in range(ID_COLUMNS)
    )
    if (number != np.arange(1, len(table) + 1)).any():
        raise DataError(
            f"column 1 of peta.data in the label file {path} does not count the images from 1 to "
            f"{len(table):,}: restore the file"
        )
    return PetaLabels(
        person_id=person_id,
        subset=subset,
        original_id=original_id,
        bits=zero_one(table[:, ID_COLUMNS:], "peta.data", path, (len(table), len(PETA_NAMES))),
        names=tuple(names),
        partitions=_read_partitions(struct["partion_attribute"].item(), len(table), path),
    )


def _read_partitions(
    cells: Any, num_images: int, path: Path
) -> tuple[Mapping[str, np.ndarray], ...]:
    what = "peta.partion_attribute"
    partitions = []
    for cell in np.ravel(cells):
        if set(getattr(cell.dtype, "names", None) or ()) != set(_PARTS):
            break
        partition = {
            part: whole_numbers(cell[part].item(), f"{what}.{part}", path, limits=(1, num_images))
            for part in _PARTS
        }
        numbers, counts = np.unique(np.concatenate([*partition.values()]), return_counts=True)
        if (counts > 1).any():
            raise DataError(
                f"{what} in the label file {path} names image {numbers[counts > 1][0]} twice in "
                "one partition: restore the file"
            )
        if not all(len(numbers) for numbers in partition.values()):
            raise DataError(f"{what} in the label file {path} has an empty part: restore the file")
        partitions.append(partition)
    if len(partitions) != len(PETA_SPLITS) - 1 or len(np.ravel(cells)) != len(partitions):
        raise DataError(
            f"{what} in the label file {path} is not five partitions into {one_of(_PARTS)}: "
            "restore the file"
        )
    return tuple(partitions)


def write_peta_labels(path: Path, labels: PetaLabels) -> None:
    """Writes the published form: the same struct, types and order; fixed bytes."""
    numbers = np.arange(1, len(labels.bits) + 1)
    ids = np.stack([numbers, labels.person_id, labels.subset, labels.original_id], axis=1)
    names = np.empty((len(labels.names), 1), object)
    names[:, 0] = labels.names
    partitions = np.empty((len(labels.partitions), 1), object)
    for row, partition in enumerate(labels.partitions):
        cell = np.empty((1, 1), [(part, object) for part in _PARTS])
        for part in _PARTS:
            cell[part][0, 0] = partition[part].astype(np.uint16)[:, None]
        partitions[row, 0] = cell
    struct = {
        "data": np.concatenate([ids, labels.bits], axis=1).astype(np.uint16),
        "attribute": names,
        "selected_attribute": np.array([_SELECTED_COLUMNS], np.uint8),
        "partion_attribute": partitions,
    }
    write_mat(path, {"peta": struct})
