"""What a run takes from a data set: training images, and sets to rank (validation or test)."""

import dataclasses
import hashlib
import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from input_pipeline.attributes import Group, Schema, carve_validation, category_labels
from input_pipeline.datasets.listing import TEST_SPLITS, ReaderOptions
from input_pipeline.datasets.load import load_data_set
from input_pipeline.datasets.records import DataSet, Split
from input_pipeline.errors import DataError
from input_pipeline.rendering.layout import write_layout


@dataclass(frozen=True)
class TrainSet:
    """Images to train on; N images, A attributes, K categories.

    images: N encoded images. attributes: (N, A) int8. label: (N,) int32 in [0, K).
    categories: (K, A) int8.
    """

    images: Sequence[bytes]
    attributes: np.ndarray
    label: np.ndarray
    categories: np.ndarray


@dataclass(frozen=True)
class RetrievalSet:
    """Images with what is known of them, and the descriptions among them; G images, Q categories.

    Who is asked and what counts as right is a protocol's business.

    images: G encoded images. file_name: G names. attributes: (G, A) int8. label: (G,) int32, the
    category of each image, in [0, Q), -1 where nothing is known of it. person_id, camera_id: (G,)
    int32, -1 unknown. is_query: (G,) bool, whether the data set counts the image among its query
    images.
    categories: (Q, A) int8. seen: (Q,) bool, whether the description occurs in the training split
    of the benchmark (carved validation categories never do: they are held out).
    """

    images: Sequence[bytes]
    file_name: Sequence[str]
    attributes: np.ndarray
    label: np.ndarray
    person_id: np.ndarray
    camera_id: np.ndarray
    is_query: np.ndarray
    categories: np.ndarray
    seen: np.ndarray


def render_if_missing(data: Any, *, workers: int = 1) -> None:
    """Renders the folder of a config's section `data` if that is asked for and it is not there.

    DataError: the folder is there with other parameters, or the disk is full.
    """
    render = data.render.to_dict()
    if not render["train_persons"]:
        return
    folder = Path(data.dir)
    try:
        write_layout(folder, layout=data.name, workers=workers, progress=sys.stderr, **render)
    except DataError as error:
        if not folder.exists():
            raise
        raise DataError(
            f"{error}, or set --config.data.render.train_persons=0 to read it as it is"
        ) from error


def load_data(data: Any, *, data_dir: str | None = None, workers: int = 1) -> DataSet:
    """The data set of a config's section `data`, rendered first if that is asked for.

    data_dir: another folder of the same kind, which is never rendered.
    """
    if data_dir is None:
        render_if_missing(data, workers=workers)
    return load_data_set(
        data.name,
        data_dir or data.dir,
        options=ReaderOptions.of(data),
        prepared_dir=data.prepared_dir,
        skip_bad_images=data.skip_bad_images,
    )


def train_and_validation(
    data: DataSet, *, validation_fraction: float, seed: int
) -> tuple[TrainSet, RetrievalSet | None]:
    """The training images, and a set to rank for choosing a model; the test set is never read.

    A data set with a validation split of its own is validated on that. From any other whole
    categories of the training split are held out, so that validation asks what the test asks:
    descriptions never seen. Without a validation fraction the second is None.
    """
    split = data.read("train")
    if not len(split.images):
        raise DataError(
            f"{data.data_dir}: has no training image: expected at least one in the split 'train'"
        )
    known = data.listing.train_categories
    if data.has("val") and validation_fraction:
        validation = data.read("val")
        if not validation.attributes.any():
            raise DataError(
                f"{data.data_dir}: nothing is known of any of the {len(validation.images)} images "
                "of the split 'val', so that they cannot choose a checkpoint: label some, or make "
                "them 'test'"
            )
        seen = category_labels(data.listing.known_categories("val"), known) >= 0
        return _train_set(split, known), _retrieval_set(data, [("val", validation)], seen)
    held_out = carve_validation(
        split.label,
        len(known),
        fraction=validation_fraction,
        seed=seed,
        person_id=split.person_id,
    )
    in_validation = held_out[split.label]
    present = np.isin(np.arange(len(held_out)), split.label)
    train = _train_set(
        _rows(split, ~in_validation, present & ~held_out), known[present & ~held_out]
    )
    if not held_out.any():
        return train, None
    validation = _rows(split, in_validation, held_out)
    seen = np.zeros(held_out.sum(), bool)
    return train, _retrieval_set(data, [("train", validation)], seen, known[held_out])


def _rows(split: Split, rows: np.ndarray, kept: np.ndarray) -> Split:
    """The rows (N,) bool of a split, labels counted among the kept (K,) bool categories alone."""
    new_label = np.cumsum(kept, dtype=np.int32) - 1
    return Split(
        images=split.images[rows],
        person_id=split.person_id[rows],
        camera_id=split.camera_id[rows],
        attributes=split.attributes[rows],
        label=new_label[split.label[rows]],
        file_name=[split.file_name[i] for i in np.flatnonzero(rows)],
    )


def _train_set(split: Split, categories: np.ndarray) -> TrainSet:
    return TrainSet(list(split.images), split.attributes, split.label, categories)


def _retrieval_set(
    data: DataSet,
    parts: Sequence[tuple[str, Split]],
    seen: np.ndarray,
    categories: np.ndarray | None = None,
) -> RetrievalSet:
    splits = [split for _, split in parts]
    if categories is None:
        categories = data.listing.known_categories(parts[0][0])
    return RetrievalSet(
        images=[image for split in splits for image in split.images],
        file_name=[name for split in splits for name in split.file_name],
        attributes=np.concatenate([split.attributes for split in splits]),
        label=np.concatenate([split.label for split in splits]),
        person_id=np.concatenate([split.person_id for split in splits]),
        camera_id=np.concatenate([split.camera_id for split in splits]),
        is_query=np.concatenate(
            [np.full(len(split.images), name == "query") for name, split in parts]
        ),
        categories=categories,
        seen=seen,
    )


def labelled(data: RetrievalSet) -> RetrievalSet:
    """The same without the images of which nothing is known: no description judges them.

    The set itself where that leaves none.
    """
    known = data.label >= 0
    if known.all() or not known.any():
        return data
    return dataclasses.replace(
        data,
        images=list(itertools.compress(data.images, known)),
        file_name=list(itertools.compress(data.file_name, known)),
        attributes=data.attributes[known],
        label=data.label[known],
        person_id=data.person_id[known],
        camera_id=data.camera_id[known],
        is_query=data.is_query[known],
    )


def digest(data: TrainSet | RetrievalSet) -> str:
    """Changes with the number of images, their order, labels and categories."""
    content = hashlib.sha256()
    for array in (data.label, data.attributes, data.categories):
        content.update(f"{array.dtype} {array.shape} ".encode() + array.tobytes())
    for image in data.images:
        content.update(hashlib.sha256(image).digest())
    return content.hexdigest()[:16]


def test_set(data: DataSet, known: np.ndarray | None = None) -> RetrievalSet:
    """The gallery images, then the query images, and every description among them.

    known: (K, A) descriptions that count as seen, by default those of the set's training split.
    """
    parts = [(name, data.read(name)) for name in TEST_SPLITS]
    images = sum(len(split.images) for _, split in parts)
    if not images:
        raise DataError(
            f"{data.data_dir}: 0 test queries and 0 gallery images; expected at least one image, "
            "check the splits 'gallery' and 'query' (a CSV's 'test')"
        )
    known = data.listing.train_categories if known is None else known
    seen = category_labels(data.listing.test_categories, known) >= 0
    return _retrieval_set(data, parts, seen)


def check_schema(data: DataSet, schema: Schema, *, source: str) -> None:
    """Raise DataError unless the data set has the attribute columns that a model was trained on."""
    found, expected = ({group.name: group for group in s.groups} for s in (data.schema, schema))
    differing = [
        name
        for name in dict.fromkeys((*expected, *found))
        if name not in found or name not in expected or not _same(found[name], expected[name])
    ]
    if differing or list(found) != list(expected):
        first = (
            f"group {differing[0]!r} is {_values(found.get(differing[0]))} here and "
            f"{_values(expected.get(differing[0]))} there"
            if differing
            else f"the groups stand in the order {', '.join(found)} here"
        )
        raise DataError(
            f"{data.data_dir}: has the attributes of {data.schema.name!r}, but {source} was "
            f"trained on those of {schema.name!r}: {first}; evaluate it on data with the same "
            "groups and values in the same order"
        )


def _same(a: Group, b: Group) -> bool:
    """Whether two groups have the same columns; how they are put into words does not matter."""
    return (a.values, a.binary, a.multiple) == (b.values, b.binary, b.multiple)


def _values(group: Group | None) -> str:
    if group is None:
        return "missing"
    several = " (several at once)" if group.multiple else ""
    return f"one of {', '.join(group.values)}{several}"
