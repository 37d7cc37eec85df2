"""Ranking quality, exact and without ranking: positives' ranks, then rank-k, both APs and mINP.

A positive's rank is 1 + the number of gallery images that are better, so nothing is sorted but the
positives themselves. Of two equally scored images the one with the smaller gallery index is better.

`ranks_from_scores` counts in a (Q, G) score matrix that exists already. `stream_ranks` takes
embeddings and holds no such matrix: pass 1 scores only the positives (and the ignored images),
pass 2 streams the whole gallery through in blocks and counts. Both passes run one compiled program
on blocks of one shape, so an image has bit for bit the same score in both, and exact ties stay
exact. Every device scores its share of a block. Accelerators also count, and keep their counts to
the end; CPU devices leave counting to `_count_better`, because their arrays lie in host memory and
XLA's CPU code for such loops is several times slower than this one.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numba
import numpy as np
import scipy.stats

from jsreid_jax import parallel
from jsreid_jax.errors import ModelError
from jsreid_jax.types import Array, PyTree

RANKS = (1, 5, 10, 20)
# What `query_metrics` calls the value of one query, and what `summarise` calls the mean.
MEANS = {f"rank{k}": f"rank{k}" for k in RANKS} | {
    "AP_step": "mAP_step",
    "AP_trapezoid": "mAP_trapezoid",
    "INP": "mINP",
}

# Up to so many positives a query's row is compared with each of them in turn; beyond, every score
# is searched for among the sorted positives. Both are exact; this is where they cost the same.
FEW_POSITIVES = 2048
# Widths of a device's block are multiples of this: XLA's CPU product of other widths may sum in
# another order, and then the last bit of a score would depend on the block size.
WIDTH_MULTIPLE = 128
# Scores of a block on all local devices of a host, unless the caller says how large a block is.
BLOCK_SCORES = 2**24
# Positives whose counts an accelerator updates at once.
PAIRS_AT_ONCE = 512
# Rows of norm above its root could overflow to an infinite score.
MAX_SQUARED_NORM = 1e38


class Gallery(Protocol):
    """Rows of embeddings: a (G, D) array, or an `EmbeddingFile`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(G, D)."""
        ...

    def __getitem__(self, rows: Any, /) -> np.ndarray:
        """The rows of a slice or of an ascending integer array."""
        ...


# --- Which images belong to which query -----------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class Pairs:
    """Some gallery images of every query, sparse.

    starts: (Q + 1,) int64; query q has gallery[starts[q]:starts[q + 1]].
    gallery: (pairs,) int64 gallery indices, strictly ascending within a query.
    """

    starts: np.ndarray
    gallery: np.ndarray

    def __post_init__(self):
        starts, gallery = self.starts, self.gallery
        if starts.dtype != np.int64 or gallery.dtype != np.int64:
            raise ValueError(f"pairs must be int64, found {starts.dtype} and {gallery.dtype}")
        if starts[0] != 0 or starts[-1] != len(gallery) or np.any(np.diff(starts) < 0):
            raise ValueError(f"starts must ascend from 0 to the number of pairs, {len(gallery)}")
        inside = np.ones(len(gallery), bool)
        inside[starts[:-1][starts[:-1] < len(gallery)]] = False
        if np.any(gallery < 0) or np.any(np.diff(gallery, prepend=0)[inside] <= 0):
            raise ValueError("gallery indices must be >= 0 and ascend strictly within every query")

    @classmethod
    def none(cls, num_queries: int) -> "Pairs":
        """No image for any query."""
        return cls(np.zeros(num_queries + 1, np.int64), np.zeros(0, np.int64))

    @classmethod
    def from_dense(cls, relevant: np.ndarray) -> "Pairs":
        """From a (Q, G) bool matrix."""
        query, gallery = np.nonzero(relevant)
        return cls(_starts(np.bincount(query, minlength=len(relevant))), gallery)

    @classmethod
    def from_labels(cls, query_label: np.ndarray, gallery_label: np.ndarray) -> "Pairs":
        """All gallery images (G,) whose label equals that of the query (Q,)."""
        by_label = np.argsort(gallery_label, kind="stable")
        labels = np.asarray(gallery_label)[by_label]
        first = np.searchsorted(labels, query_label, side="left")
        counts = np.searchsorted(labels, query_label, side="right") - first
        return cls(_starts(counts), by_label[_concatenated_ranges(first, counts)])

    def take(self, queries: np.ndarray) -> "Pairs":
        """The pairs of some queries: integer indices, or a (Q,) bool mask."""
        counts, first = self.counts[queries], self.starts[:-1][queries]
        return Pairs(_starts(counts), self.gallery[_concatenated_ranges(first, counts)])

    def without(self, other: "Pairs") -> "Pairs":
        """These pairs less those of the same queries in `other`."""
        span = 1 + max(self.gallery.max(initial=0), other.gallery.max(initial=0))
        kept = np.isin(
            self.query * span + self.gallery,
            other.query * span + other.gallery,
            assume_unique=True,
            invert=True,
        )
        counts = np.bincount(self.query[kept], minlength=self.num_queries)
        return Pairs(_starts(counts), self.gallery[kept])

    @property
    def num_queries(self) -> int:
        """Q."""
        return len(self.starts) - 1

    @property
    def counts(self) -> np.ndarray:
        """(Q,) number of images of every query."""
        return np.diff(self.starts)

    @property
    def query(self) -> np.ndarray:
        """(pairs,) the query of every pair."""
        return np.repeat(np.arange(self.num_queries), self.counts)


@dataclasses.dataclass(frozen=True, eq=False)
class Ranks:
    """Where the positives of every query stand in its ranking, without the ignored images.

    starts: (Q + 1,) int64; query q has ranks[starts[q]:starts[q + 1]].
    ranks: (pairs,) int64, from 1, strictly ascending within a query.
    """

    starts: np.ndarray
    ranks: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Streamed:
    """What one pass over a gallery yields.

    ranks: of the positives.
    best: (Q, top_k) int64 gallery indices, best first, ignored images left out; -1 where a query
        has fewer images than top_k.
    best_scores: (Q, top_k) float32, -inf where best is -1.
    """

    ranks: Ranks
    best: np.ndarray
    best_scores: np.ndarray


def _starts(counts: np.ndarray) -> np.ndarray:
    """(Q + 1,) int64 from (Q,) counts."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _concatenated_ranges(first: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """first[0], first[0] + 1, ... (counts[0] of them), first[1], ..."""
    return np.arange(counts.sum()) + np.repeat(first - _starts(counts)[:-1], counts)


# --- Counting -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class _Thresholds:
    """The positives of every query, best first: what the gallery is compared with.

    starts: (Q + 1,) int64, as in `Pairs`.
    scores, gallery: (pairs,) score and gallery index.
    ignored_ahead: (pairs,) how many ignored images are better; they are counted, then taken off.
    """

    starts: np.ndarray
    scores: np.ndarray
    gallery: np.ndarray
    ignored_ahead: np.ndarray

    @classmethod
    def sort(cls, positives: Pairs, ignored: Pairs, scores: np.ndarray) -> "_Thresholds":
        """From the scores of the positives, followed by those of the ignored images."""
        query = np.concatenate([positives.query, ignored.query])
        gallery = np.concatenate([positives.gallery, ignored.gallery])
        order = np.lexsort((gallery, -scores, query))
        positive = order < len(positives.gallery)
        kept = order[positive]
        ignored_so_far = np.cumsum(~positive)[positive]
        return cls(
            starts=positives.starts,
            scores=scores[kept],
            gallery=gallery[kept],
            ignored_ahead=ignored_so_far - ignored.starts[query[kept]],
        )

    def ranks(self, better: np.ndarray) -> Ranks:
        """From the (pairs,) number of better gallery images."""
        return Ranks(self.starts, 1 + better - self.ignored_ahead)


# A loop over range(len(row)) becomes vector instructions; over any other range it does not, because
# its index could be negative, which Python counts from the end. A row's count fits int32, which
# packs twice as many of them into a register as int64.


@numba.njit(cache=True)
def _count_above(row: np.ndarray, threshold: float) -> int:
    count = np.int32(0)
    for column in range(len(row)):
        count = np.int32(count + np.int32(row[column] > threshold))
    return int(count)


@numba.njit(cache=True)
def _count_not_below(row: np.ndarray, threshold: float) -> int:
    count = np.int32(0)
    for column in range(len(row)):
        count = np.int32(count + np.int32(row[column] >= threshold))
    return int(count)


@numba.njit(cache=True)
def _count_nan(row: np.ndarray) -> int:
    count = np.int32(0)
    for column in range(len(row)):
        count = np.int32(count + np.int32(row[column] != row[column]))
    return int(count)


@numba.njit(cache=True)
def _count_ahead(row: np.ndarray, first: int, threshold: float, position: int) -> int:
    """How many images of a row of scores, the first of index `first`, are better than a positive.

    Equal scores count up to the positive's own index `position`.
    """
    split = min(max(position - first, 0), len(row))
    return _count_not_below(row[:split], threshold) + _count_above(row[split:], threshold)


@numba.njit(cache=True)
def _first_behind(
    score: float, position: int, scores: np.ndarray, gallery: np.ndarray, start: int, stop: int
) -> int:
    """The first of the positives [start, stop), best first, that an image is ahead of, or stop."""
    while start < stop:
        middle = (start + stop) // 2
        equal_and_not_behind = scores[middle] == score and gallery[middle] <= position
        if scores[middle] > score or equal_and_not_behind:
            start = middle + 1
        else:
            stop = middle
    return start


@numba.njit(parallel=True, cache=True)
def _count_better(
    block: np.ndarray,
    width: int,
    first: int,
    starts: np.ndarray,
    scores: np.ndarray,
    gallery: np.ndarray,
    counts: np.ndarray,
) -> tuple[int, int]:
    """Add to `counts` the images of a block of scores that are ahead of the positives.

    The count of a query with more than FEW_POSITIVES stays differential (see `_better`): adding it
    up once per block would cost more than the block.

    Args:
        block: (Q, >= width) scores; columns from `width` on are padding.
        width: real columns.
        first: gallery index of the first column.
        starts: of the positives in scores and gallery (pairs,), best first, as in `_Thresholds`.
        scores: see there.
        gallery: see there.
        counts: (pairs,) int64, changed.

    Returns:
        How many scores are NaN, and how many positives have another score here than in `scores`.
    """
    nan = 0
    moved = 0
    for query in numba.prange(len(block)):
        row = block[query, :width]
        start, stop = starts[query], starts[query + 1]
        nan += _count_nan(row)
        for pair in range(start, stop):
            column = gallery[pair] - first
            if 0 <= column < width and row[column] != scores[pair]:
                moved += 1
        if stop - start <= FEW_POSITIVES:
            for pair in range(start, stop):
                counts[pair] += _count_ahead(row, first, scores[pair], gallery[pair])
        else:
            for column in range(width):
                pair = _first_behind(row[column], first + column, scores, gallery, start, stop)
                if pair < stop:
                    counts[pair] += 1
    return nan, moved


def _better(thresholds: _Thresholds, counts: np.ndarray) -> np.ndarray:
    """(pairs,) number of better images from what `_count_better` left.

    With many positives it counted every image at the first positive that it is ahead of; it is
    ahead of all further ones too.
    """
    num_positives = np.diff(thresholds.starts)
    total = np.concatenate([[0], np.cumsum(counts)])
    before = np.repeat(total[thresholds.starts[:-1]], num_positives)
    many = np.repeat(num_positives > FEW_POSITIVES, num_positives)
    return np.where(many, total[1:] - before, counts)


@numba.njit(parallel=True, cache=True)
def _keep_best(
    block: np.ndarray,
    indices: np.ndarray,
    width: int,
    ignored_starts: np.ndarray,
    ignored: np.ndarray,
    best_scores: np.ndarray,
    best: np.ndarray,
) -> None:
    """Merge `width` columns of a block of scores into the best images of every query so far.

    Args:
        block: (Q, >= width) scores.
        indices: (Q, >= width) gallery indices; in every row equal scores have ascending indices,
            greater ones than all that were merged before.
        width: columns to merge.
        ignored_starts: (Q + 1,) of the ignored images, as in `Pairs`.
        ignored: their gallery indices.
        best_scores: (Q, top_k), descending, changed.
        best: (Q, top_k) gallery indices, changed.
    """
    last = best.shape[1] - 1
    for query in numba.prange(len(block)):
        start, stop = ignored_starts[query], ignored_starts[query + 1]
        for column in range(width):
            score = block[query, column]
            if score > best_scores[query, last]:
                index = indices[query, column]
                found = start + np.searchsorted(ignored[start:stop], index)
                if found < stop and ignored[found] == index:
                    continue
                slot = last
                while slot > 0 and score > best_scores[query, slot - 1]:
                    best_scores[query, slot] = best_scores[query, slot - 1]
                    best[query, slot] = best[query, slot - 1]
                    slot -= 1
                best_scores[query, slot] = score
                best[query, slot] = index


def ranks_from_scores(scores: np.ndarray, positives: Pairs, ignored: Pairs | None = None) -> Ranks:
    """Ranks of the positives in a score matrix, compared in its own precision.

    Args:
        scores: (Q, G) float32 or float64, higher is better; infinite values are allowed.
        positives: images that match the query.
        ignored: images that do not count for the query, neither as right nor as wrong; one that is
            also among the positives is ignored.

    Raises:
        ValueError: shapes that do not fit, another dtype, or a score that is not a number.
    """
    if scores.ndim != 2 or scores.dtype not in (np.float32, np.float64):
        raise ValueError(
            f"scores must be (Q, G) float32 or float64, found {scores.shape} {scores.dtype}"
        )
    positives, ignored = _check_pairs(positives, ignored, scores.shape)
    scores = np.ascontiguousarray(scores)
    thresholds = _Thresholds.sort(
        positives,
        ignored,
        np.concatenate([scores[pairs.query, pairs.gallery] for pairs in (positives, ignored)]),
    )
    counts = np.zeros(len(thresholds.scores), np.int64)
    nan, _ = _count_better(
        scores,
        scores.shape[1],
        0,
        thresholds.starts,
        thresholds.scores,
        thresholds.gallery,
        counts,
    )
    if nan:
        raise ValueError(f"{nan} scores are NaN: a ranking of them means nothing")
    return thresholds.ranks(_better(thresholds, counts))


def _check_pairs(
    positives: Pairs, ignored: Pairs | None, shape: tuple[int, ...]
) -> tuple[Pairs, Pairs]:
    """Positives without the ignored images, and these, once both fit scores of (Q, G)."""
    ignored = Pairs.none(positives.num_queries) if ignored is None else ignored
    for name, pairs in (("positives", positives), ("ignored", ignored)):
        if pairs.num_queries != shape[0] or pairs.gallery.max(initial=-1) >= shape[1]:
            raise ValueError(
                f"{name} hold {pairs.num_queries} queries and gallery indices up to "
                f"{pairs.gallery.max(initial=-1)}, expected {shape[0]} and less than {shape[1]}"
            )
    return positives.without(ignored), ignored


# --- Streaming ------------------------------------------------------------------------------------


class EmbeddingFile:
    """The rows of a .npy file of (G, D) float32.

    Every read maps the file anew, copies and unmaps: pages of a map count as resident memory, and a
    map that stays open ends up holding the whole file.

    Raises:
        ModelError: the file is missing, is no .npy file, holds anything else or is cut short.
    """

    # Scattered rows touch a page or more each, so they are read in runs of this many.
    _ROWS_AT_ONCE = 4096

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        expected = "expected a .npy file of a (G, D) float32 array"
        try:
            mapped = np.load(self.path, mmap_mode="r", allow_pickle=False)
        except OSError as error:
            raise ModelError(f"{self.path}: {error.strerror or error}, {expected}") from None
        except (ValueError, EOFError) as error:
            raise ModelError(f"{self.path} cannot be read ({error}), {expected}") from None
        if not isinstance(mapped, np.memmap):
            mapped.close()
            raise ModelError(f"{self.path} is an archive of arrays, {expected}")
        if mapped.ndim != 2 or mapped.dtype != np.float32 or not mapped.flags.c_contiguous:
            order = "" if mapped.flags.c_contiguous else " in Fortran order"
            raise ModelError(
                f"{self.path} holds {mapped.shape} {mapped.dtype.str}{order}, {expected}"
            )
        self.shape: tuple[int, ...] = mapped.shape
        self._offset = mapped.offset

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """A copy of the rows of a slice or of an integer array."""
        if isinstance(rows, slice):
            return self._read(rows)
        parts = [
            self._read(rows[start : start + self._ROWS_AT_ONCE])
            for start in range(0, len(rows), self._ROWS_AT_ONCE)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, self.shape[1]), np.float32)

    def _read(self, rows: slice | np.ndarray) -> np.ndarray:
        try:
            mapped = np.memmap(self.path, np.float32, "r", self._offset, self.shape)
        except (OSError, ValueError) as error:
            raise ModelError(f"{self.path} changed while it was read: {error}") from None
        return np.array(mapped[rows])


def _dot(queries: Array, rows: Array) -> Array:
    """(Q, width) products of (Q, D) and (width, D), in full float32 also where less is usual."""
    return jax.lax.dot_general(
        queries, rows, (((1,), (1,)), ((), ())), precision=jax.lax.Precision.HIGHEST
    )


def _count_on_device(tables: PyTree, block: PyTree) -> PyTree:
    """What `_count_better` does, for one device's scores: a plain comparison with every positive.

    Args:
        tables: of every positive the query, score and gallery index, each (chunks, PAIRS_AT_ONCE).
        block: counts so far (chunks, PAIRS_AT_ONCE) and moved so far (), then scores (Q, width),
            the gallery index of the first column () and of the end of the real ones ().

    Returns:
        counts and moved, with this block.
    """
    counts, moved, scores, first, stop = block
    index = first + jnp.arange(scores.shape[1], dtype=jnp.int32)

    def chunk(pairs: PyTree) -> PyTree:
        query, threshold, position = pairs
        threshold, position = threshold[:, None], position[:, None]
        rows = scores[query]
        ahead = (rows > threshold) | ((rows == threshold) & (index < position))
        other = (rows != threshold) & (index == position)
        real = index < stop
        return (ahead & real).sum(1, dtype=jnp.int32), (other & real).sum(dtype=jnp.int32)

    new_counts, new_moved = jax.lax.map(chunk, tables)
    return counts + new_counts, moved + new_moved.sum()


def _best_on_device(count: int, _: None, block: PyTree) -> PyTree:
    """The (Q, count) best scores of one device's block and their gallery indices."""
    scores, first, stop = block
    index = first + jnp.arange(scores.shape[1], dtype=jnp.int32)
    values, columns = jax.lax.top_k(jnp.where(index < stop, scores, -jnp.inf), count)
    return values, index[columns]


# Compiled once per shape in a run, not once per evaluation.
@functools.lru_cache(maxsize=4)
def _scorer(devices: tuple[Any, ...]) -> Callable[..., Any]:
    return parallel.parallel_apply(_dot, devices=devices)


@functools.lru_cache(maxsize=4)
def _counter(devices: tuple[Any, ...]) -> Callable[..., Any]:
    return parallel.parallel_apply(_count_on_device, devices=devices)


@functools.lru_cache(maxsize=4)
def _chooser(devices: tuple[Any, ...], count: int) -> Callable[..., Any]:
    return parallel.parallel_apply(functools.partial(_best_on_device, count), devices=devices)


@dataclasses.dataclass(frozen=True, eq=False)
class _Block:
    """This host's scored share of a block of rows.

    scores: (N, Q, width), on the devices; maybe not yet computed.
    first: (N,) int32, the row of each device's first column.
    stop: () int32, where the real rows end; columns beyond are padding.
    """

    scores: jax.Array
    first: np.ndarray
    stop: np.int32

    def on_host(self) -> Iterator[tuple[np.ndarray, int, int]]:
        """Every device's scores (Q, width), first row, and number of real columns."""
        for scores, first in zip(parallel.per_device(self.scores), self.first, strict=True):
            yield scores, int(first), int(np.clip(self.stop - first, 0, scores.shape[1]))


def _scored_blocks(
    read: Callable[[int, int], np.ndarray],
    size: int,
    *,
    score: Callable[..., Any],
    queries: Array,
    width: int,
    devices: parallel.Devices,
) -> Iterator[_Block]:
    """This host's share of all blocks of `size` rows, which read(start, stop) returns.

    The next block is read and handed to the devices before one is yielded, so they have work while
    the caller counts. More would only take memory.
    """
    share = width * len(devices)
    waiting = None
    for start in range(jax.process_index() * share, size, share * jax.process_count()):
        # The tail of the last block stays zero.
        rows = np.zeros((share, queries.shape[1]), np.float32)
        real = min(size - start, share)
        rows[:real] = read(start, start + real)
        placed = parallel.split_over_devices(rows.reshape(len(devices), width, -1), devices=devices)
        block = _Block(
            scores=score(queries, placed),
            first=(start + width * np.arange(len(devices))).astype(np.int32),
            stop=np.int32(size),
        )
        if waiting is not None:
            yield waiting
        waiting = block
    if waiting is not None:
        yield waiting


def _checked(rows: np.ndarray, name: str, *, first: int) -> np.ndarray:
    """The rows, if all are finite and so short that their scores are; else ValueError.

    One dot product over all rows finds out; only if it is odd each row is looked at.
    """
    with np.errstate(all="ignore"):
        if np.vdot(rows, rows) <= MAX_SQUARED_NORM:
            return rows
        squared_norms = np.square(rows, dtype=np.float64).sum(axis=1)
    bad = np.flatnonzero(~(squared_norms <= MAX_SQUARED_NORM))
    if len(bad):
        raise ValueError(
            f"{name} row {first + bad[0]} has norm {np.sqrt(squared_norms[bad[0]]):g}: "
            "embeddings must be finite, and so must be their products"
        )
    return rows


def _pair_scores(blocks: Iterator[_Block], query: np.ndarray, row: np.ndarray) -> np.ndarray:
    """(pairs,) float32 scores of pairs of a query and a streamed row, from all hosts."""
    scores = np.zeros(len(row), np.float32)
    order = np.argsort(row, kind="stable")
    sorted_rows = row[order]
    for block in blocks:
        for share, first, width in block.on_host():
            start, stop = np.searchsorted(sorted_rows, (first, first + width))
            here = order[start:stop]
            scores[here] = share[query[here], row[here] - first]
    # Every pair is scored by one host, the others have zero.
    return parallel.from_all_hosts(scores).sum(axis=0)


def _stream_on_host(
    blocks: Iterator[_Block], thresholds: _Thresholds, ignored: Pairs, top_k: int
) -> tuple[np.ndarray, int, np.ndarray, np.ndarray]:
    """What this host's share of the gallery adds, counted on the host.

    Returns:
        (pairs,) better images, how many positives have moved, and best_scores and best.
    """
    num_queries = len(thresholds.starts) - 1
    counts, moved = np.zeros(len(thresholds.scores), np.int64), 0
    best_scores = np.full((num_queries, top_k), -np.inf, np.float32)
    best = np.full((num_queries, top_k), -1, np.int64)
    for block in blocks:
        for share, first, width in block.on_host():
            _, moved_here = _count_better(
                share,
                width,
                first,
                thresholds.starts,
                thresholds.scores,
                thresholds.gallery,
                counts,
            )
            moved += moved_here
            if top_k:
                indices = np.broadcast_to(first + np.arange(share.shape[1]), share.shape)
                _keep_best(
                    share, indices, width, ignored.starts, ignored.gallery, best_scores, best
                )
    return _better(thresholds, counts), moved, best_scores, best


def _stream_on_devices(
    blocks: Iterator[_Block],
    thresholds: _Thresholds,
    ignored: Pairs,
    top_k: int,
    *,
    count: Callable[..., Any],
    choose: Callable[..., Any],
    devices: parallel.Devices,
) -> tuple[np.ndarray, int, np.ndarray, np.ndarray]:
    """`_stream_on_host`, but the devices count and keep their counts until the end."""
    num_queries, num_pairs = len(thresholds.starts) - 1, len(thresholds.scores)
    query = np.repeat(np.arange(num_queries), np.diff(thresholds.starts))
    chunks = -(-num_pairs // PAIRS_AT_ONCE)
    tables = []
    # What fills the last chunk up: index -1 stands before all images and ties with none of them.
    columns = (
        (query, np.int32, 0),
        (thresholds.scores, np.float32, np.inf),
        (thresholds.gallery, np.int32, -1),
    )
    for column, dtype, filler in columns:
        table = np.full(chunks * PAIRS_AT_ONCE, filler, dtype)
        table[:num_pairs] = column
        tables.append(table.reshape(chunks, PAIRS_AT_ONCE))
    tables = parallel.replicate(tuple(tables), devices=devices)
    counted = parallel.split_over_devices(
        (
            np.zeros((len(devices), chunks, PAIRS_AT_ONCE), np.int32),
            np.zeros(len(devices), np.int32),
        ),
        devices=devices,
    )
    best_scores = np.full((num_queries, top_k), -np.inf, np.float32)
    best = np.full((num_queries, top_k), -1, np.int64)
    for block in blocks:
        where = parallel.split_over_devices(
            (block.first, np.full(len(devices), block.stop)), devices=devices
        )
        jax.block_until_ready(counted)  # else all blocks would queue up in the devices' memory
        counted = count(tables, (*counted, block.scores, *where))
        if top_k:
            for values, indices in zip(
                *map(parallel.per_device, choose(None, (block.scores, *where))), strict=True
            ):
                _keep_best(
                    values,
                    indices,
                    values.shape[1],
                    ignored.starts,
                    ignored.gallery,
                    best_scores,
                    best,
                )
    counts, moved = (np.asarray(leaf).sum(axis=0, dtype=np.int64) for leaf in counted)
    return counts.reshape(-1)[:num_pairs], int(moved), best_scores, best


def stream_ranks(
    queries: np.ndarray,
    gallery: Gallery,
    positives: Pairs,
    ignored: Pairs | None = None,
    *,
    block_size: int | None = None,
    top_k: int = 0,
    devices: Sequence[Any] | None = None,
    count_on_devices: bool | None = None,
) -> Streamed:
    """Ranks of the positives, and the best images, from embeddings, whose products are the scores.

    With several hosts all call it with the same arguments; each reads its own rows of every block,
    and all return the same. Memory: the scores of about two blocks, and the pairs.

    Args:
        queries: (Q, D), float32 or what is rounded to it.
        gallery: (G, D), read in slices and in ascending rows; G < 2**31.
        positives: images that match the query.
        ignored: images that do not count for the query, neither as right nor as wrong; one that is
            also among the positives is ignored.
        block_size: gallery rows that all devices of all hosts score at once, rounded up to
            WIDTH_MULTIPLE rows per device; by default BLOCK_SCORES scores on a host.
        top_k: how many best images of every query to return.
        devices: local devices, by default all.
        count_on_devices: by default on accelerators. The counts are the same.

    Raises:
        ValueError: shapes that do not fit, or embeddings that are not finite.
        RuntimeError: the devices do not score an image alike in both passes.
    """
    queries = np.asarray(queries, np.float32)
    if queries.ndim != 2 or len(gallery.shape) != 2 or queries.shape[1] != gallery.shape[1]:
        raise ValueError(f"queries {queries.shape} and gallery {gallery.shape} must be (., D)")
    num_queries, size = len(queries), gallery.shape[0]
    positives, ignored = _check_pairs(positives, ignored, (num_queries, size))
    _checked(queries, "query", first=0)
    devices = tuple(jax.local_devices() if devices is None else devices)
    if count_on_devices is None:
        count_on_devices = devices[0].platform != "cpu"
    all_devices = len(devices) * jax.process_count()
    if block_size is None:
        width = BLOCK_SCORES // max(num_queries, 1) // len(devices)
    else:
        width = -(-block_size // all_devices)
    # A block that is larger than the gallery would be mostly padding.
    width = min(width, -(-size // all_devices))
    width = max(-(-width // WIDTH_MULTIPLE), 1) * WIDTH_MULTIPLE
    if size + width * all_devices >= 2**31:
        raise ValueError(f"{size} gallery rows and a block are 2**31 or more, which int32 ends at")
    # Leave out the ignored images, and top_k are still there. A power of two, because every other
    # number is compiled anew.
    enough = top_k + int(ignored.counts.max(initial=0))
    best_count = min(width, 1 << (enough - 1).bit_length()) if enough else 0
    scored_blocks = functools.partial(
        _scored_blocks,
        score=_scorer(devices),
        queries=parallel.replicate(queries, devices=devices),
        width=width,
        devices=devices,
    )

    pair_gallery = np.concatenate([positives.gallery, ignored.gallery])
    rows, row_of_pair = np.unique(pair_gallery, return_inverse=True)
    pair_scores = _pair_scores(
        scored_blocks(lambda start, stop: gallery[rows[start:stop]], len(rows)),
        np.concatenate([positives.query, ignored.query]),
        row_of_pair,
    )
    thresholds = _Thresholds.sort(positives, ignored, pair_scores)

    if count_on_devices:
        stream = functools.partial(
            _stream_on_devices,
            count=_counter(devices),
            choose=_chooser(devices, best_count),
            devices=devices,
        )
    else:
        stream = _stream_on_host
    better, moved, best_scores, best = stream(
        scored_blocks(
            lambda start, stop: _checked(gallery[start:stop], "gallery", first=start), size
        ),
        thresholds,
        ignored,
        top_k,
    )
    better, moved, best_scores, best = (
        parallel.from_all_hosts(part)
        for part in (better.astype(np.int32), np.int32(moved), best_scores, best.astype(np.int32))
    )
    if moved.sum():
        raise RuntimeError(
            f"{moved.sum()} positives have another score in their block than when they were scored "
            "alone: their ranks would not be exact on these devices"
        )
    best_scores, best = np.concatenate(best_scores, axis=1), np.concatenate(best, axis=1)
    order = np.lexsort((best, -best_scores), axis=1)[:, :top_k]
    return Streamed(
        ranks=thresholds.ranks(better.sum(axis=0, dtype=np.int64)),
        best=np.take_along_axis(best, order, axis=1).astype(np.int64),
        best_scores=np.take_along_axis(best_scores, order, axis=1),
    )


# --- Metrics --------------------------------------------------------------------------------------


def query_metrics(ranks: Ranks) -> dict[str, np.ndarray]:
    """Metrics of every query: (Q,) float64 each, NaN for a query without positives.

    rank1, rank5, rank10, rank20: 1 if a positive is among the first k.
    AP_step: mean over the positives of the precision at each, the usual, stepwise form.
    AP_trapezoid: mean over the positives of the mean of the precision just before (1 at rank 1) and
        at each, as Oxford's `compute_ap` has it.
    INP: number of positives over the rank of the last.
    """
    counts = np.diff(ranks.starts)
    valid = counts > 0
    first = ranks.starts[:-1][valid]
    hits = 1 + np.arange(len(ranks.ranks)) - np.repeat(first, counts[valid])
    precision = hits / ranks.ranks
    before = np.where(ranks.ranks == 1, 1.0, (hits - 1) / np.maximum(ranks.ranks - 1, 1))

    def spread(values: np.ndarray) -> np.ndarray:
        everywhere = np.full(len(counts), np.nan)
        everywhere[valid] = values
        return everywhere

    def mean_over_positives(values: np.ndarray) -> np.ndarray:
        # reduceat cannot add up nothing, so queries without positives take no part.
        sums = np.add.reduceat(values, first) if len(first) else np.zeros(0)
        return spread(sums / counts[valid])

    last = ranks.ranks[first + counts[valid] - 1]
    return {f"rank{k}": spread(ranks.ranks[first] <= k) for k in RANKS} | {
        "AP_step": mean_over_positives(precision),
        "AP_trapezoid": mean_over_positives((before + precision) / 2),
        "INP": spread(counts[valid] / last),
    }


def _valid_values(per_query: dict[str, np.ndarray], rows: np.ndarray | None) -> np.ndarray:
    """(metrics, valid queries) among some queries, in the order of MEANS."""
    values = np.stack([per_query[name] for name in MEANS])
    values = values if rows is None else values[:, rows]
    return values[:, ~np.isnan(values[0])]


def _by_description(
    per_query: dict[str, np.ndarray], rows: np.ndarray | None, asked: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Of valid queries, by description: sums (metrics, descriptions), and how many it has."""
    values = _valid_values(per_query, rows)
    if asked is None:
        return values, np.ones(values.shape[1])
    asked = asked if rows is None else asked[rows]
    is_valid = ~np.isnan(per_query[next(iter(MEANS))])
    is_valid = is_valid if rows is None else is_valid[rows]
    _, description = np.unique(asked[is_valid], return_inverse=True)
    sums = [np.bincount(description, weights=row) for row in values]
    return np.stack(sums), np.bincount(description).astype(float)


def summarise(per_query: dict[str, np.ndarray], rows: np.ndarray | None = None) -> dict[str, float]:
    """Means over the queries that have a positive.

    Args:
        per_query: from `query_metrics`.
        rows: a (Q,) bool mask or indices of the queries that count, by default all.

    Returns:
        rank1, rank5, rank10, rank20, mAP_step, mAP_trapezoid, mINP, each in [0, 1] (NaN without a
        valid query), and valid_queries.
    """
    values = _valid_values(per_query, rows)
    means = values.mean(axis=1) if values.size else np.full(len(MEANS), np.nan)
    return dict(zip(MEANS.values(), means.tolist(), strict=True)) | {
        "valid_queries": values.shape[1]
    }


def split_metrics(
    per_query: dict[str, np.ndarray], seen: np.ndarray
) -> dict[str, dict[str, float]]:
    """`summarise` of all queries and of those seen and unseen in training; seen: (Q,) bool."""
    return {
        name: summarise(per_query, rows)
        for name, rows in (("all", None), ("seen", seen), ("unseen", ~seen))
    }


def intervals(
    per_query: dict[str, np.ndarray],
    rows: np.ndarray | None = None,
    *,
    asked: np.ndarray | None = None,
    seed: int,
) -> dict[str, tuple[float, float]]:
    """95 % percentile bootstrap intervals, over descriptions, of the means of `summarise`.

    All metrics see the same 1,000 resamples. NaN with fewer than two descriptions that are valid.

    Args:
        per_query: from `query_metrics`.
        rows: which queries count, as for `summarise`.
        asked: (Q,) the number of each query's description: queries that ask the same are drawn
            together, for they are answered alike. By default every query asks something else.
        seed: of the resamples.
    """
    sums, counts = _by_description(per_query, rows, asked)
    if len(counts) < 2:
        return dict.fromkeys(MEANS.values(), (np.nan, np.nan))
    result = scipy.stats.bootstrap(
        (sums, counts),
        lambda sums, counts, axis: sums.sum(axis=axis) / counts.sum(axis=axis),
        axis=1,
        paired=True,
        vectorized=True,
        n_resamples=1000,
        method="percentile",
        # Resamples of all metrics and queries at once would need gigabytes.
        batch=max(1, 2**20 // len(counts)),
        rng=np.random.default_rng(seed),
    )
    low, high = result.confidence_interval
    return dict(zip(MEANS.values(), zip(low.tolist(), high.tolist(), strict=True), strict=True))
