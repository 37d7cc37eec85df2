"""TFDS builder over a Market-1501 folder, and the arrays that the pipeline takes from it."""

import contextlib
import errno
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from input_pipeline.attributes import Schema, category_labels
from input_pipeline.datasets.market1501.folder import (
    FOLDERS,
    ImageEntry,
    MarketFolder,
    read_market_folder,
)
from input_pipeline.errors import DataError
from input_pipeline.whole_folder import only_writer, written_whole

SPLITS = tuple(FOLDERS)
_PREPARED = "prepared.json"
_NAMED_BAD_IMAGES = 5


class Market1501(tfds.core.GeneratorBasedBuilder):
    """Market-1501, real or rendered, from a manual directory; no network.

    skip_files: names ("query/0001_c1s1_001051_00.jpg") to leave out, images that do not decode.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}  # noqa: RUF012 (the base class's form)
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "The manual directory holds bounding_box_train, bounding_box_test, query and "
        "market_attribute.mat."
    )

    def __init__(self, *, skip_files: Sequence[str] = (), **kwargs: Any) -> None:
        self._skip_files = frozenset(skip_files)
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        """The one feature dict of all splits."""
        return tfds.core.DatasetInfo(
            builder=self,
            description="Pedestrians of six cameras with the attributes of each person.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                    "person_id": np.int32,
                    "camera_id": np.int32,
                    "attributes": tfds.features.Tensor(shape=(30,), dtype=np.int8),
                    "label": np.int32,
                    "file_name": tfds.features.Text(),
                }
            ),
            # File-name order on the disk too; the pipeline does its own seeded shuffling.
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        """One generator per split."""
        folder = read_market_folder(str(dl_manager.manual_dir))
        return {split: self._generate_examples(folder, split) for split in SPLITS}

    def _generate_examples(
        self, folder: MarketFolder, split: str
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """The images of a split by file name, their JPEG bytes untouched."""
        arrays = folder.arrays(split)
        for index, entry in enumerate(folder.splits[split]):
            file_name = _file_name(entry)
            if file_name in self._skip_files:
                continue
            row = {name: values[index] for name, values in arrays.items()}
            yield index, row | {"image": entry.path.read_bytes(), "file_name": file_name}


@dataclass(frozen=True)
class Split:
    """All images of one split, in the order of their file names."""

    images: np.ndarray
    """(N,) object, the encoded JPEG bytes."""
    person_id: np.ndarray
    """(N,) int32."""
    camera_id: np.ndarray
    """(N,) int32."""
    attributes: np.ndarray
    """(N, A) int8."""
    label: np.ndarray
    """(N,) int32, among the training categories for train, else among the test categories."""
    file_name: list[str]
    """(N,) below the data folder."""


@dataclass(frozen=True)
class Market1501Data:
    """A prepared data set: its categories, and `read` for the images."""

    data_dir: Path
    """The folder that was read."""
    schema: Schema
    train_categories: np.ndarray
    """(K, A) int8."""
    test_categories: np.ndarray
    """(Q, A) int8, the queries."""
    seen: np.ndarray
    """(Q,) bool, whether the test category is also a training category."""
    facts: Mapping[str, int]
    """Counts of persons, categories and image files, skipped ones included."""
    skipped: Sequence[str]
    """File names of images that do not decode."""
    prepared: Path
    """Folder of the TFDS records."""

    def read(self, split: str) -> Split:
        """All records of "train", "query" or "gallery" in file-name order."""
        if split not in SPLITS:
            raise ValueError(f"split is {split!r}: expected one of {SPLITS}")
        # TFDS decorates as_dataset in a way that hides its parameters from type checkers.
        builder: Any = tfds.builder_from_directory(_builder_dir(self.prepared))
        records = list(
            tfds.as_numpy(
                builder.as_dataset(
                    split=split,
                    shuffle_files=False,
                    decoders={"image": tfds.decode.SkipDecoding()},
                    read_config=tfds.ReadConfig(try_autocache=False),
                )
            )
        )
        records.sort(key=lambda record: record["file_name"])
        images = np.empty(len(records), object)
        images[:] = [record["image"] for record in records]
        return Split(
            images=images,
            person_id=np.array([record["person_id"] for record in records], np.int32),
            camera_id=np.array([record["camera_id"] for record in records], np.int32),
            attributes=np.array([record["attributes"] for record in records], np.int8),
            label=np.array([record["label"] for record in records], np.int32),
            file_name=[record["file_name"].decode() for record in records],
        )


def load_market1501(
    data_dir: str, *, prepared_dir: str = "", skip_bad_images: bool = False
) -> Market1501Data:
    """Checks a folder and prepares its records unless that is done for exactly this content.

    prepared_dir: where records are kept, by default `<data_dir>/prepared`. Records of an earlier
    content of the same folder are removed. skip_bad_images: leave out images that do not decode
    instead of stopping. DataError: see read_market_folder, and images that do not decode.
    """
    folder = read_market_folder(data_dir)
    root = Path(prepared_dir) if prepared_dir else folder.data_dir / "prepared"
    # Several data sets may share one prepared_dir; each removes only its own old records.
    prefix = f"market1501-{_path_digest(folder.data_dir)}-"
    current = prefix + folder.fingerprint()
    prepared = root / (f"{current}-skip" if skip_bad_images else current)
    with only_writer(prepared):
        if not prepared.exists():
            _prepare(folder, prepared, skip_bad_images=skip_bad_images)
        for other in root.iterdir():
            if other.name.startswith(prefix) and not other.name.startswith(current):
                shutil.rmtree(other)
    test_categories = folder.categories("test")
    train_categories = folder.categories("train")
    return Market1501Data(
        data_dir=folder.data_dir,
        schema=folder.schema,
        train_categories=train_categories,
        test_categories=test_categories,
        seen=category_labels(test_categories, train_categories) >= 0,
        facts=folder.facts,
        skipped=json.loads((prepared / _PREPARED).read_text())["skipped"],
        prepared=prepared,
    )


def _prepare(folder: MarketFolder, prepared: Path, *, skip_bad_images: bool) -> None:
    """Decodes every image once, then writes the TFDS records; all of it or nothing."""
    bad = _undecodable(folder)
    if bad and not skip_bad_images:
        named = ", ".join(bad[:_NAMED_BAD_IMAGES])
        raise DataError(
            f"{len(bad)} of the images in {folder.data_dir} do not decode as JPEG ({named}"
            f"{', ...' if len(bad) > _NAMED_BAD_IMAGES else ''}): restore them, or leave them out "
            "with --config.data.skip_bad_images=True"
        )
    for split, entries in folder.splits.items():
        if all(_file_name(entry) in bad for entry in entries):
            raise DataError(f"no image of {folder.data_dir / FOLDERS[split]} decodes: restore them")
    tfds.disable_progress_bar()
    with written_whole(prepared) as partial:
        builder = Market1501(data_dir=str(partial), skip_files=bad)
        try:
            # TFDS announces a download that there is none of.
            with contextlib.redirect_stdout(io.StringIO()):
                builder.download_and_prepare(
                    download_config=tfds.download.DownloadConfig(manual_dir=str(folder.data_dir))
                )
        except Exception as error:
            if not _says_disk_full(error):
                raise
            raise OSError(errno.ENOSPC, "No space left on device") from error
        (partial / _PREPARED).write_text(json.dumps({"skipped": bad}) + "\n")


def _says_disk_full(error: BaseException | None) -> bool:
    """TFDS wraps TensorFlow's error, which is no OSError, in one of its own."""
    while error is not None:
        if isinstance(error, tf.errors.ResourceExhaustedError):
            return True
        error = error.__cause__
    return False


def _undecodable(folder: MarketFolder) -> list[str]:
    """Names of the images that the pipeline's decoder refuses; a truncated one is refused."""
    entries = [entry for split in folder.splits.values() for entry in split]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        decodes = list(threads.map(_decodes, entries))
    return [_file_name(entry) for entry, ok in zip(entries, decodes, strict=True) if not ok]


def _decodes(entry: ImageEntry) -> bool:
    try:
        tf.io.decode_jpeg(entry.path.read_bytes(), channels=3)
    except tf.errors.InvalidArgumentError:
        return False
    return True


def _file_name(entry: ImageEntry) -> str:
    return f"{entry.path.parent.name}/{entry.path.name}"


def _builder_dir(prepared: Path) -> str:
    return str(prepared / Market1501.name / str(Market1501.VERSION))


def _path_digest(path: Path) -> str:
    return hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
