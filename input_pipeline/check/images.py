"""Reads and decodes all images of a data set once, as fast as the cores allow."""

import hashlib
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tensorflow as tf

from input_pipeline import preprocessing
from input_pipeline.errors import DataError

CROP_HEIGHT, CROP_WIDTH = 96, 48

# Images that one call of the graph reads and decodes. A call of one small crop costs half as much
# again as decoding it; 16 at once make that a few per cent.
_CHUNK = 16
# Calls whose results Python takes at once.
_CALLS = 8

# How files of the formats that training reads begin.
_JPEG, _PNG, _BMP = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM"
_SIGNATURES = (_JPEG, _PNG, _BMP, b"GIF8")


@dataclass(frozen=True)
class Pixels:
    """What reading N image files showed.

    fingerprint: (N,) int64 hash of each file's bytes. size: (N, 2) int32 height and width, 0 where
    the image is at fault. faults: why, by index. crops: (H, W, 3) uint8 of at most CROP_HEIGHT x
    CROP_WIDTH, by index, of those that were wanted.
    """

    fingerprint: np.ndarray
    size: np.ndarray
    faults: dict[int, str]
    crops: dict[int, np.ndarray]


def read_images(
    paths: Sequence[str],
    wanted: Collection[int] = (),
    progress: Callable[[int], Any] = lambda count: None,
) -> Pixels:
    """Reads and decodes N files with the decoder of training, on all cores.

    wanted: indices of the images of which crops are kept. Images go through one TensorFlow graph in
    chunks. Those that are wanted, the rest of the last chunk and all of a chunk in which one is at
    fault go one by one; only the last are decoded twice.
    """
    fingerprint = np.zeros(len(paths), np.int64)
    size = np.zeros((len(paths), 2), np.int32)
    faults: dict[int, str] = {}
    crops: dict[int, np.ndarray] = {}
    is_read = np.zeros(len(paths), bool)
    not_wanted = np.setdiff1d(np.arange(len(paths)), list(wanted))
    for indices, fingerprints, sizes in _read_chunks(paths, not_wanted):
        fingerprint[indices], size[indices], is_read[indices] = fingerprints, sizes, True
        progress(indices.size)
    one_by_one = [i for i, read in enumerate(is_read) if not read]
    with ThreadPoolExecutor(_cores()) as threads:
        results = threads.map(
            _read_one, [paths[i] for i in one_by_one], [i in wanted for i in one_by_one]
        )
        for index, result in zip(one_by_one, results, strict=True):
            if isinstance(result, str):
                faults[index] = result
            else:
                fingerprint[index], size[index], crop = result
                if crop is not None:
                    crops[index] = crop
            progress(1)
    return Pixels(fingerprint, size, faults, crops)


def _read_chunks(
    paths: Sequence[str], indices: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yields indices (n, C), fingerprints (n, C) and sizes (n, C, 2) of n whole chunks of C images.

    Chunks in which an image is at fault are left out, and so is the rest that fills none.
    """
    if len(indices) < _CHUNK:
        return
    chunks = (
        tf.data.Dataset.from_tensor_slices((indices, [paths[i] for i in indices]))
        .batch(_CHUNK, drop_remainder=True)
        .map(_read_chunk, num_parallel_calls=tf.data.AUTOTUNE, deterministic=False)
        .ignore_errors()
        .batch(_CALLS)
    )
    iterator: Any = chunks.as_numpy_iterator()
    yield from iterator


@tf.autograph.experimental.do_not_convert
def _read_chunk(indices: tf.Tensor, paths: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    encoded = [tf.io.read_file(path) for path in tf.unstack(paths)]
    # Without a use of the picture TensorFlow would leave the decoding out.
    sizes = [tf.shape(preprocessing.decode(image))[:2] for image in encoded]
    return indices, _fingerprint(tf.stack(encoded)), tf.stack(sizes)


def _fingerprint(encoded: tf.Tensor) -> tf.Tensor:
    """int64 of each of some files' bytes; equal bytes have equal ones, nearly always only these."""
    return tf.strings.to_hash_bucket_fast(encoded, 2**63 - 1)


def _read_one(path: str, with_crop: bool) -> tuple[int, tuple[int, int], np.ndarray | None] | str:
    """Fingerprint, size and, if wanted, crop of one image; or what is wrong with it."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        return f"cannot be opened ({error.strerror})"
    encoded = tf.constant(content)
    try:
        image = np.asarray(preprocessing.decode(encoded))
    except tf.errors.OpError:
        return _fault(content)
    height, width = image.shape[:2]
    crop = None
    if with_crop:
        scale = min(CROP_HEIGHT / height, CROP_WIDTH / width)
        fitting = max(1, round(scale * width)), max(1, round(scale * height))
        crop = cv2.resize(image, fitting, interpolation=cv2.INTER_AREA)
    return int(_fingerprint(encoded)), (height, width), crop


def _fault(content: bytes) -> str:
    """Why a file does not decode."""
    if not content:
        return "is empty"
    if not content.startswith(_SIGNATURES):
        return "is not a JPEG, PNG, GIF or BMP file"
    is_cut = (
        (content.startswith(_JPEG) and not content.endswith(b"\xff\xd9"))
        or (content.startswith(_PNG) and b"IEND" not in content[-12:])
        or (content.startswith(_BMP) and len(content) < int.from_bytes(content[2:6], "little"))
    )
    return "is truncated" if is_cut else "is damaged and does not decode"


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def identical_files(paths: Sequence[str], pixels: Pixels) -> list[list[int]]:
    """Indices of every two or more readable files with the same bytes, in order.

    Equal fingerprints only tell which files are worth comparing.
    """
    is_readable = pixels.size.all(1)
    _, group, counts = np.unique(
        pixels.fingerprint[is_readable], return_inverse=True, return_counts=True
    )
    candidates = np.flatnonzero(is_readable)[counts[group] > 1]
    groups: dict[bytes, list[int]] = {}
    for index in map(int, candidates):
        try:
            content = Path(paths[index]).read_bytes()
        except OSError as error:
            raise DataError(
                f"{paths[index]} was there and is not any more ({error.strerror}): check the "
                "folder again when nobody changes it"
            ) from error
        groups.setdefault(hashlib.sha256(content).digest(), []).append(index)
    return [group for group in groups.values() if len(group) > 1]
