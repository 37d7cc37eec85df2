"""What a run takes from a data set: training images, and sets to rank (validation or test)."""

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from input_pipeline.attributes import Schema, carve_validation
from input_pipeline.datasets.market1501.market1501 import Market1501Data, load_market1501
from input_pipeline.errors import DataError
from input_pipeline.rendering.layout import write_market_layout


@dataclass(frozen=True)
class TrainSet:
    """Images to train on; N images, A attributes, K categories.

    images: N encoded JPEGs. attributes: (N, A) int8. label: (N,) int32 in [0, K).
    categories: (K, A) int8.
    """

    images: Sequence[bytes]
    attributes: np.ndarray
    label: np.ndarray
    categories: np.ndarray


@dataclass(frozen=True)
class RetrievalSet:
    """A gallery and the descriptions to rank it by; G images, Q queries.

    images: G encoded JPEGs. label: (G,) int32, the query that each image matches, in [0, Q).
    queries: (Q, A) int8. seen: (Q,) bool, whether the description occurs in the training split of
    the benchmark (validation categories never do: they are held out).
    """

    images: Sequence[bytes]
    label: np.ndarray
    queries: np.ndarray
    seen: np.ndarray

    @property
    def relevant(self) -> np.ndarray:
        """(Q, G) bool."""
        return self.label[None, :] == np.arange(len(self.queries))[:, None]


def load_data(
    data_dir: str,
    *,
    prepared_dir: str,
    skip_bad_images: bool,
    render: Mapping[str, Any] | None = None,
    workers: int = 1,
) -> Market1501Data:
    """The data set in a folder of the Market-1501 layout, rendered first if it shall be and is not.

    render: train_persons, test_persons, images_per_person, image_height and seed of
    `write_market_layout`; None, or train_persons 0, never renders.
    """
    if render and render["train_persons"]:
        try:
            write_market_layout(Path(data_dir), workers=workers, progress=sys.stderr, **render)
        except DataError as error:
            if not Path(data_dir).exists():
                raise
            raise DataError(
                f"{error}, or set --config.data.render.train_persons=0 to read it as it is"
            ) from error
    return load_market1501(data_dir, prepared_dir=prepared_dir, skip_bad_images=skip_bad_images)


def train_and_validation(
    data: Market1501Data, *, validation_fraction: float, seed: int
) -> tuple[TrainSet, RetrievalSet | None]:
    """The training split without its validation categories, and these as a set to rank.

    Whole categories are held out, so that validation asks what the test asks: descriptions never
    seen. Without a validation fraction the second is None.
    """
    split = data.read("train")
    held_out = carve_validation(
        split.label, len(data.train_categories), fraction=validation_fraction, seed=seed
    )
    in_validation = held_out[split.label]
    present = np.isin(np.arange(len(held_out)), split.label)

    def part(rows: np.ndarray, kept: np.ndarray) -> tuple[list[bytes], np.ndarray, np.ndarray]:
        new_label = np.cumsum(kept, dtype=np.int32) - 1
        images = [split.images[i] for i in np.flatnonzero(rows)]
        return images, new_label[split.label[rows]], data.train_categories[kept]

    images, label, kept_categories = part(~in_validation, present & ~held_out)
    train = TrainSet(images, split.attributes[~in_validation], label, kept_categories)
    if not held_out.any():
        return train, None
    images, label, queries = part(in_validation, held_out)
    return train, RetrievalSet(images, label, queries, np.zeros(len(queries), bool))


def digest(train: TrainSet) -> str:
    """Changes with the number of images, their order, labels and categories."""
    content = hashlib.sha256()
    for array in (train.label, train.attributes, train.categories):
        content.update(f"{array.dtype} {array.shape} ".encode() + array.tobytes())
    for image in train.images:
        content.update(hashlib.sha256(image).digest())
    return content.hexdigest()[:16]


def test_set(data: Market1501Data) -> RetrievalSet:
    """One query per test category; the gallery is the gallery and the query images together."""
    gallery, query = data.read("gallery"), data.read("query")
    images = [*gallery.images, *query.images]
    if not images or not len(data.test_categories):
        raise DataError(
            f"{data.data_dir}: {len(data.test_categories)} test queries and {len(images)} gallery "
            "images; expected at least one of each, check bounding_box_test/ and query/"
        )
    label = np.concatenate([gallery.label, query.label])
    return RetrievalSet(images, label, data.test_categories, data.seen)


def check_schema(data: Market1501Data, schema: Schema, *, source: str) -> None:
    """Raise DataError unless the data set has the attribute columns that a model was trained on."""
    if data.schema.attribute_names != schema.attribute_names:
        raise DataError(
            f"{data.data_dir}: has the attributes of {data.schema.name!r}, but {source} was "
            f"trained on those of {schema.name!r}: evaluate it on data with the same attributes"
        )
