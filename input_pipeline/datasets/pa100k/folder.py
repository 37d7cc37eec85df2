"""The files of a PA-100K folder, real or rendered: annotation.mat and the images. No TensorFlow.

Nobody says who the persons are. The set's own validation split is read as such, its test split is
the gallery.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from input_pipeline.datasets.image_labels import (
    attributes_of,
    column_names,
    image_listing,
    listed_images,
    texts,
    zero_one,
)
from input_pipeline.datasets.listing import Images, Listing, ReaderOptions, require_folder
from input_pipeline.datasets.pa100k.schema import PA100K_NAMES, pa100k_schema
from input_pipeline.datasets.person_labels import read_mat, write_mat
from input_pipeline.errors import DataError

LABEL_FILE_NAME = "annotation.mat"
# As the archive unpacks; the first of them that is there is read.
IMAGE_FOLDERS = ("data", "release_data/release_data")

# The names of the parts in the label file, and what they are here.
_PARTS = {"train": "train", "val": "val", "test": "gallery"}
_PUBLISHED = {"train_images": 80_000, "val_images": 10_000, "gallery_images": 10_000}


@dataclass(frozen=True)
class PA100KLabels:
    """annotation.mat: per part ("train", "val", "test") N image names and bits (N, 26) bool.

    names: of the columns.
    """

    images: Mapping[str, list[str]]
    bits: Mapping[str, np.ndarray]
    names: tuple[str, ...]


def read_pa100k_folder(data_dir: Path | str, options: ReaderOptions | None = None) -> Listing:
    """Lists and checks a PA-100K folder.

    options.orientation adds Front, Side and Back to the attributes, which are of the picture rather
    than of the person. DataError: the label file, the image folder or an image is missing or
    damaged; see `read_pa100k_labels`. Counts that differ from what the set is known to have are
    left to `Listing.require_facts`.
    """
    data_dir, orientation = Path(data_dir), (options or ReaderOptions()).orientation
    require_folder(data_dir, f"holds {LABEL_FILE_NAME} and the folder {IMAGE_FOLDERS[0]}")
    labels = read_pa100k_labels(data_dir / LABEL_FILE_NAME)
    folder = next((name for name in IMAGE_FOLDERS if (data_dir / name).is_dir()), None)
    if folder is None:
        raise DataError(
            f"{data_dir} has neither the folder {IMAGE_FOLDERS[0]} nor {IMAGE_FOLDERS[1]}: unpack "
            "PA-100K's images there"
        )
    schema, columns = pa100k_schema(orientation=orientation)
    files = listed_images(
        data_dir, folder, [name for images in labels.images.values() for name in images]
    )
    ends = np.cumsum([len(images) for images in labels.images.values()]).tolist()
    splits = {
        _PARTS[part]: Images.by_name(
            files[end - len(bits) : end], attributes_of(bits, labels.names, columns, schema)
        )
        for (part, bits), end in zip(labels.bits.items(), ends, strict=True)
    }
    return image_listing(
        reader="pa100k",
        data_dir=data_dir,
        schema=schema,
        splits=splits,
        published=_PUBLISHED,
        in_manifest=lambda name: name.endswith("images") or not orientation,
    )


def read_pa100k_labels(path: Path) -> PA100KLabels:
    """Reads and checks annotation.mat.

    DataError: it is missing or no MATLAB file, lacks a variable, names other attributes, a part has
    no image, or as many names as labels, or a value is neither 0 nor 1.
    """
    content = read_mat(path, title="PA-100K")
    wanted = {"attributes"} | {
        variable for part in _PARTS for variable in (f"{part}_images_name", f"{part}_label")
    }
    lacking = sorted(wanted - set(content))
    if lacking:
        raise DataError(
            f"the label file {path} holds {sorted(content)} and lacks {lacking}: use the "
            f"{LABEL_FILE_NAME} of the PA-100K data set"
        )
    names = column_names(content["attributes"], "attributes", path, PA100K_NAMES)
    images = {
        part: texts(content[f"{part}_images_name"], f"{part}_images_name", path) for part in _PARTS
    }
    for part, its_images in images.items():
        if not its_images:
            raise DataError(
                f"{part}_images_name in the label file {path} lists no image: restore the file"
            )
    bits = {
        part: zero_one(
            content[f"{part}_label"], f"{part}_label", path, (len(images[part]), len(names))
        )
        for part in _PARTS
    }
    return PA100KLabels(images, bits, tuple(names))


def write_pa100k_labels(path: Path, labels: PA100KLabels) -> None:
    """Writes the published form: the same variables and types; fixed bytes."""
    content: dict[str, np.ndarray] = {"attributes": _cells(labels.names)}
    for part in ("test", "train", "val"):
        content[f"{part}_images_name"] = _cells(labels.images[part])
        content[f"{part}_label"] = labels.bits[part].astype(np.uint8)
    write_mat(path, content)


def _cells(texts: list[str] | tuple[str, ...]) -> np.ndarray:
    """A column of a MATLAB cell array (N, 1)."""
    cells = np.empty((len(texts), 1), object)
    cells[:, 0] = texts
    return cells
