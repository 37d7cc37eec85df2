"""Records of a checked folder: the TFDS builder that every data set shares, and `load`.

All data sets have the one feature dict of `RecordsBuilder`; images are stored as the encoded bytes
that lie on the disk.
"""

import contextlib
import errno
import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from input_pipeline import preprocessing
from input_pipeline.attributes import Schema
from input_pipeline.datasets.listing import SPLITS, Listing, ReaderOptions
from input_pipeline.errors import DataError
from input_pipeline.whole_folder import only_writer, written_whole

_PREPARED = "prepared.json"
_NAMED_BAD_IMAGES = 5


class RecordsBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A data set from a manual directory; no network. One subclass per data set names its reader.

    options: see ReaderOptions. skip_files: names below the data folder to leave out, images that do
    not decode.
    """

    # The data set's reader, of datasets.readers, as a staticmethod.
    read_folder: Callable[[Path, ReaderOptions], Listing]

    VERSION = tfds.core.Version("2.0.0")
    RELEASE_NOTES = {"2.0.0": "One feature dict for all data sets."}  # noqa: RUF012

    def __init__(
        self,
        *,
        options: ReaderOptions | None = None,
        skip_files: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        self._options = options or ReaderOptions()
        self._skip_files = frozenset(skip_files)
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        """The one feature dict of all splits of all data sets."""
        return tfds.core.DatasetInfo(
            builder=self,
            description="Pedestrians with the attributes of each; -1 is an id that is not known.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "person_id": np.int32,
                    "camera_id": np.int32,
                    "attributes": tfds.features.Tensor(shape=(None,), dtype=np.int8),
                    "label": np.int32,
                    "file_name": tfds.features.Text(),
                }
            ),
            # File-name order on the disk too; the pipeline does its own seeded shuffling.
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        """One generator per split."""
        listing = type(self).read_folder(Path(str(dl_manager.manual_dir)), self._options)
        listing.require_facts()
        return {split: self._generate_examples(listing, split) for split in listing.splits}

    def _generate_examples(
        self, listing: Listing, split: str
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """The images of a split by file name, their bytes untouched."""
        arrays = listing.arrays(split)
        for index, file in enumerate(listing.splits[split].files):
            if file.name in self._skip_files:
                continue
            row = {name: values[index] for name, values in arrays.items()}
            yield index, row | {"image": listing.path(file).read_bytes(), "file_name": file.name}


@dataclass(frozen=True)
class Split:
    """All images of one split, in the order of their file names."""

    images: np.ndarray
    """(N,) object, the encoded bytes."""
    person_id: np.ndarray
    """(N,) int32, -1 where the data set does not tell."""
    camera_id: np.ndarray
    """(N,) int32, -1 where the data set does not tell."""
    attributes: np.ndarray
    """(N, A) int8."""
    label: np.ndarray
    """(N,) int32, among the training categories for train, else among the split's own; -1 where
    nothing is known of the image."""
    file_name: list[str]
    """(N,) below the data folder."""


@dataclass(frozen=True)
class DataSet:
    """A prepared data set: what its reader found, and `read` for the images."""

    listing: Listing
    skipped: Sequence[str]
    """File names of images that do not decode."""
    prepared: Path
    """Folder of the TFDS records."""

    @property
    def data_dir(self) -> Path:
        """The folder that was read."""
        return self.listing.data_dir

    @property
    def schema(self) -> Schema:
        """The attribute groups."""
        return self.listing.schema

    @property
    def facts(self) -> Mapping[str, int]:
        """Counts of what the reader found, skipped images included."""
        return self.listing.facts

    def has(self, split: str) -> bool:
        """Whether the data set has images of a split."""
        return split in self.listing.splits

    def read(self, split: str) -> Split:
        """All records of one of SPLITS in file-name order; none where the set has no such split."""
        if split not in SPLITS:
            raise ValueError(f"split is {split!r}: expected one of {SPLITS}")
        records = _read_records(self.prepared, split) if self.has(split) else []
        records.sort(key=lambda record: record["file_name"])
        images = np.empty(len(records), object)
        images[:] = [record["image"] for record in records]
        width = self.schema.num_attributes
        attributes = np.array([record["attributes"] for record in records], np.int8)
        return Split(
            images=images,
            person_id=np.array([record["person_id"] for record in records], np.int32),
            camera_id=np.array([record["camera_id"] for record in records], np.int32),
            attributes=attributes.reshape(-1, width),
            label=np.array([record["label"] for record in records], np.int32),
            file_name=[record["file_name"].decode() for record in records],
        )


def _read_records(prepared: Path, split: str) -> list[dict[str, Any]]:
    try:
        features = next(prepared.glob("*/*/features.json"))
        # TFDS decorates as_dataset in a way that hides its parameters from type checkers.
        builder: Any = tfds.builder_from_directory(str(features.parent))
        return list(
            tfds.as_numpy(
                builder.as_dataset(
                    split=split,
                    shuffle_files=False,
                    decoders={"image": tfds.decode.SkipDecoding()},
                    read_config=tfds.ReadConfig(try_autocache=False),
                )
            )
        )
    # What TFDS and TensorFlow say of files that are missing, cut short or changed.
    except (StopIteration, OSError, ValueError, KeyError, tf.errors.OpError) as error:
        raise DataError(
            f"the prepared records {prepared} are damaged ({type(error).__name__}, split "
            f"{split!r}): remove this folder, it is made again from the data"
        ) from error


def prepare(
    builder: type[RecordsBuilder],
    data_dir: str,
    *,
    options: ReaderOptions | None = None,
    prepared_dir: str = "",
    skip_bad_images: bool = False,
) -> DataSet:
    """Checks a folder and prepares its records unless that is done for exactly this content.

    prepared_dir: where records are kept, by default `<data_dir>/prepared`. Records of an earlier
    content of the same folder are removed. skip_bad_images: leave out images that do not decode
    instead of stopping. DataError: what the reader says, a count that differs from what the set is
    known to have, images that do not decode, and a place for records that cannot be written.
    """
    options = options or ReaderOptions()
    listing = builder.read_folder(Path(data_dir), options)
    listing.require_facts()
    root = Path(prepared_dir) if prepared_dir else listing.data_dir / "prepared"
    # Several data sets may share one prepared_dir; each removes only its own old records.
    prefix = f"{listing.reader}-{_path_digest(listing.data_dir, options)}-"
    current = prefix + listing.fingerprint()
    prepared = root / (f"{current}-skip" if skip_bad_images else current)
    try:
        with only_writer(prepared):
            # Written last: without it something has been removed by hand.
            if prepared.exists() and not (prepared / _PREPARED).is_file():
                shutil.rmtree(prepared)
            if not prepared.exists():
                _prepare(builder, listing, options, prepared, skip_bad_images=skip_bad_images)
            for other in root.iterdir():
                if other.name.startswith(prefix) and not other.name.startswith(current):
                    shutil.rmtree(other)
    except DataError as error:
        if not prepared_dir and _says_not_permitted(error):
            raise DataError(
                f"{root}: records of the images are kept there, and it cannot be written; expected "
                "a folder with permission: name one with --config.data.prepared_dir"
            ) from error
        raise
    skipped = json.loads((prepared / _PREPARED).read_text())["skipped"]
    return DataSet(listing, skipped, prepared)


def _prepare(
    builder: type[RecordsBuilder],
    listing: Listing,
    options: ReaderOptions,
    prepared: Path,
    *,
    skip_bad_images: bool,
) -> None:
    """Decodes every image once, then writes the TFDS records; all of it or nothing."""
    bad = _undecodable(listing)
    if bad and not skip_bad_images:
        named = ", ".join(bad[:_NAMED_BAD_IMAGES])
        raise DataError(
            f"{len(bad)} of the images in {listing.data_dir} do not decode as JPEG, PNG, GIF or "
            f"BMP ({named}{', ...' if len(bad) > _NAMED_BAD_IMAGES else ''}): restore them, or "
            "leave them out with --config.data.skip_bad_images=True"
        )
    known_bad = frozenset(bad)
    for split, images in listing.splits.items():
        if all(file.name in known_bad for file in images.files):
            folder = listing.path(images.files[0]).parent
            raise DataError(f"no image of {folder} ({split}) decodes: restore them")
    tfds.disable_progress_bar()
    with written_whole(prepared) as partial:
        writer = builder(data_dir=str(partial), options=options, skip_files=bad)
        try:
            # TFDS announces a download that there is none of.
            with contextlib.redirect_stdout(io.StringIO()):
                writer.download_and_prepare(
                    download_config=tfds.download.DownloadConfig(manual_dir=str(listing.data_dir))
                )
        except Exception as error:
            if not _says_disk_full(error):
                raise
            raise OSError(errno.ENOSPC, "No space left on device") from error
        (partial / _PREPARED).write_text(json.dumps({"skipped": bad}) + "\n")


def _says_not_permitted(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return True
        error = error.__cause__
    return False


def _says_disk_full(error: BaseException | None) -> bool:
    """TFDS wraps TensorFlow's error, which is no OSError, in one of its own."""
    while error is not None:
        if isinstance(error, tf.errors.ResourceExhaustedError):
            return True
        error = error.__cause__
    return False


def _undecodable(listing: Listing) -> list[str]:
    """Names of the images that the pipeline's decoder refuses; a truncated one is refused."""
    files = [file for images in listing.splits.values() for file in images.files]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        decodes = list(threads.map(lambda file: decodes_whole(listing.path(file)), files))
    return [file.name for file, ok in zip(files, decodes, strict=True) if not ok]


def decodes_whole(path: Path) -> bool:
    """Whether the pipeline's decoder takes the file."""
    try:
        preprocessing.decode(path.read_bytes())  # pyright: ignore[reportArgumentType]
    except tf.errors.InvalidArgumentError:
        return False
    return True


def _path_digest(path: Path, options: ReaderOptions) -> str:
    return hashlib.sha256(f"{path.resolve()} {options}".encode()).hexdigest()[:8]
