"""Time and memory of the exact evaluator beside what it replaces.

    python -m benchmarks.retrieval_speed [scores] [embeddings] [stream] [--rounds 5] [--folder DIR]

scores: metrics from a score matrix, beside a numpy loop that counts better scores for every
  positive, beside the loop over queries that most published evaluators share (sort every row, look
  the labels up, walk down the row for the average precision; of it some queries, scaled up), and
  beside the leanest form of it.
embeddings: ranks from embeddings of 128, beside the bare matrix product of the same size in numpy
  (in blocks, each thrown away); and the peak memory above that of the inputs.
stream: 100 queries against 10,000,000 rows of a file of 5 GB in DIR (removed at the end), with
  several block sizes, on 1 and on 8 devices; resident memory and whether all metrics agree.

Rounds alternate; medians count. What needs its own memory or devices runs in a process of its own.
"""

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from benchmarks.measuring import alternate
from jsreid_jax import retrieval
from jsreid_jax.retrieval import EmbeddingFile, Pairs, Ranks

CORES = len(os.sched_getaffinity(0))
WIDTH = 128
GIB = 2**30

SCORE_SIZES = ((3368, 15_913), (500, 20_000))
# The usual loop takes a minute; so many of its queries, all alike, tell how long all would take.
USUAL_QUERIES = 100
EMBEDDINGS_SIZE = (3368, 515_913)
STREAM_SIZE = (100, 10_000_000)
# (block size, devices); None: the evaluator's own.
STREAM_RUNS = ((None, 1), (None, 8), (100_000, 1), (100_000, 8), (1_234_567, 8))

# As Market-1501's test set: of how many persons, and how many images of them; more are distractors.
PERSONS = 750
KNOWN_IMAGES = 20_000
# Rows of the file that are made at once.
CHUNK = 100_000


def ours(scores: np.ndarray, positives: Pairs) -> np.ndarray:
    """(Q,) average precision by this project's evaluator."""
    return retrieval.query_metrics(retrieval.ranks_from_scores(scores, positives))["AP_step"]


def numpy_counter(scores: np.ndarray, positives: Pairs) -> np.ndarray:
    """The same by counting, for every positive, the better scores; the gallery is not sorted."""
    ranks = np.empty(len(positives.gallery), np.int64)
    for query, row in enumerate(scores):
        start, stop = positives.starts[query : query + 2]
        for pair in range(start, stop):
            place = positives.gallery[pair]
            better = np.count_nonzero(row > row[place])
            ranks[pair] = 1 + better + np.count_nonzero(row[:place] == row[place])
        ranks[start:stop].sort()
    return retrieval.query_metrics(Ranks(positives.starts, ranks))["AP_step"]


def lean_argsort_loop(scores: np.ndarray, positives: Pairs) -> np.ndarray:
    """The same by sorting every row with numpy's fastest sort, and nothing that is not needed."""
    ranks = []
    is_positive = np.zeros(scores.shape[1], bool)
    for query, row in enumerate(scores):
        places = positives.gallery[positives.starts[query] : positives.starts[query + 1]]
        is_positive[places] = True
        ranks.append(1 + np.flatnonzero(is_positive[np.argsort(-row)]))
        is_positive[places] = False
    found = Ranks(positives.starts, np.concatenate(ranks))
    return retrieval.query_metrics(found)["AP_step"]


def usual_argsort_loop(scores: np.ndarray, positives: Pairs) -> np.ndarray:
    """The same as evaluators of person re-identification usually have it, query by query."""
    is_positive = np.zeros(scores.shape[1], bool)
    average_precision = []
    for query, row in enumerate(scores):
        places = positives.gallery[positives.starts[query] : positives.starts[query + 1]]
        is_positive[places] = True
        matches = is_positive[np.argsort(-row)].astype(np.int32)
        is_positive[places] = False
        found = matches.cumsum()
        precision = np.asarray([hits / (place + 1.0) for place, hits in enumerate(found)])
        average_precision.append((precision * matches).sum() / matches.sum())
    return np.array(average_precision)


def market_like(num_queries: int, size: int, rng: np.random.Generator) -> Pairs:
    """Every query is one of PERSONS, and so are KNOWN_IMAGES of the gallery, anywhere in it."""
    shown = rng.integers(PERSONS, size=size)
    shown[rng.permutation(size)[KNOWN_IMAGES:]] = -1
    return Pairs.from_labels(rng.integers(PERSONS, size=num_queries), shown)


def compare_scores(rounds: int) -> None:
    """From a score matrix."""
    rng = np.random.default_rng(0)
    for num_queries, size in SCORE_SIZES:
        positives = market_like(num_queries, size, rng)
        # Without ties, of which an unstable sort makes something else.
        scores = rng.permuted(np.tile(np.arange(size, dtype=np.float32), (num_queries, 1)), axis=1)

        ways = {
            "ours": ours,
            "numpy counter": numpy_counter,
            "lean argsort loop": lean_argsort_loop,
        }
        calls = {name: functools.partial(way, scores, positives) for name, way in ways.items()}
        first = np.arange(USUAL_QUERIES)
        calls["usual argsort loop"] = functools.partial(
            usual_argsort_loop, scores[first], positives.take(first)
        )
        expected = calls["ours"]()
        for name, call in calls.items():
            found = call()
            if not np.allclose(found, expected[: len(found)], atol=1e-9):
                raise RuntimeError(f"{name} disagrees")
        seconds = alternate(calls, rounds)
        seconds["usual argsort loop"] = [
            value * num_queries / USUAL_QUERIES for value in seconds["usual argsort loop"]
        ]
        print(f"{num_queries:,} x {size:,} scores, {len(positives.gallery):,} positives")
        print_medians(seconds, reference="ours")


def print_medians(seconds: dict[str, list[float]], *, reference: str) -> None:
    """A row for every way: median, spread, and how many times the reference's median it takes."""
    base = statistics.median(seconds[reference])
    for name, values in seconds.items():
        median = statistics.median(values)
        print(
            f"  {name:20}{median:9.3f} s  ({min(values):.3f} to {max(values):.3f})"
            f"{median / base:9.2f} x {reference}"
        )


def bare_product(queries: np.ndarray, gallery: np.ndarray) -> None:
    """The matrix product alone, in blocks of the size that the evaluator would take."""
    rows = max(retrieval.BLOCK_SCORES // len(queries), 1)
    for start in range(0, len(gallery), rows):
        np.matmul(queries, gallery[start : start + rows].T)


def unit_rows(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count, WIDTH) float32 of unit length."""
    rows = rng.standard_normal((count, WIDTH), np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def resident() -> int:
    """Bytes that are resident now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak_resident() -> int:
    """The most bytes that were ever resident; getrusage would count the parent's before exec."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def compare_embeddings(rounds: int) -> None:
    """From embeddings; the first evaluation, compilation included, tells the memory."""
    jax.config.update("jax_num_cpu_devices", CORES)
    rng = np.random.default_rng(0)
    num_queries, size = EMBEDDINGS_SIZE
    queries, gallery = unit_rows(rng, num_queries), np.empty((size, WIDTH), np.float32)
    for start in range(0, size, CHUNK):
        gallery[start : start + CHUNK] = unit_rows(rng, min(CHUNK, size - start))
    positives = market_like(num_queries, size, rng)
    before = resident()
    retrieval.stream_ranks(queries, gallery, positives)
    above = peak_resident() - before
    ways = {
        "bare product": lambda: bare_product(queries, gallery),
        "ours": lambda: retrieval.stream_ranks(queries, gallery, positives),
    }
    seconds = alternate(ways, rounds)
    print(
        f"{num_queries:,} x {size:,} embeddings of {WIDTH}, {len(positives.gallery):,} positives, "
        f"{CORES} devices"
    )
    print_medians(seconds, reference="bare product")
    print(f"  peak memory above the inputs: {above / GIB:.2f} GiB")


def write_stream(folder: Path) -> None:
    """gallery.npy, queries.npy and positives.npz; some positives are exact copies of others."""
    rng = np.random.default_rng(0)
    num_queries, size = STREAM_SIZE
    queries = unit_rows(rng, num_queries)
    rows = [np.sort(rng.choice(size, 20, replace=False)) for _ in range(num_queries)]
    file = folder / "gallery.npy"
    gallery = np.lib.format.open_memmap(file, "w+", np.float32, (size, WIDTH))
    for start in range(0, size, CHUNK):
        gallery[start : start + CHUNK] = unit_rows(rng, CHUNK)
    for query, places in zip(queries, rows, strict=True):
        # Near enough to be found, too far to be all in front.
        near = query + 2.2 * unit_rows(rng, len(places) // 2)
        near /= np.linalg.norm(near, axis=1, keepdims=True)
        gallery[places[: len(near)]] = near
        gallery[places[len(near) :]] = near  # ties, far apart
    gallery.flush()
    del gallery
    np.save(folder / "queries.npy", queries)
    starts = np.cumsum([0, *map(len, rows)])
    np.savez(folder / "positives.npz", starts=starts, gallery=np.concatenate(rows))


def stream_once(folder: Path, block_size: int | None, devices: int) -> None:
    """One evaluation of the file; prints metrics, seconds and memory as JSON."""
    jax.config.update("jax_num_cpu_devices", devices)
    with np.load(folder / "positives.npz") as stored:
        positives = Pairs(stored["starts"], stored["gallery"])
    queries = np.load(folder / "queries.npy")
    start = time.perf_counter()
    streamed = retrieval.stream_ranks(
        queries, EmbeddingFile(folder / "gallery.npy"), positives, block_size=block_size
    )
    seconds = time.perf_counter() - start
    metrics = retrieval.summarise(retrieval.query_metrics(streamed.ranks))
    print(json.dumps({"metrics": metrics, "seconds": seconds, "peak": peak_resident()}))


def compare_stream(folder: Path) -> None:
    """From a file, one process per block size and number of devices."""
    num_queries, size = STREAM_SIZE
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        write_stream(Path(temporary))
        print(f"{num_queries:,} x {size:,} from a file, embeddings of {WIDTH}")
        found = []
        for block_size, devices in STREAM_RUNS:
            command = [sys.executable, "-m", "benchmarks.retrieval_speed", "--one", temporary]
            command += [json.dumps([block_size, devices])]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            result = json.loads(done.stdout.splitlines()[-1])
            found.append(result["metrics"])
            print(
                f"  block {block_size or 'default':>9}, {devices} devices: "
                f"{result['seconds']:6.1f} s, {result['peak'] / GIB:.2f} GiB resident, "
                f"mAP {result['metrics']['mAP_step']:.6f}, mINP {result['metrics']['mINP']:.6f}"
            )
        largest = max(abs(a[name] - b[name]) for a in found for b in found for name in a)
        print(f"  largest difference of any metric: {largest:.1e}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measure the exact evaluator.")
    parser.add_argument("parts", nargs="*", default=["scores", "embeddings", "stream"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        folder, how = arguments.one
        stream_once(Path(folder), *json.loads(how))
        return
    parts = {
        "scores": lambda: compare_scores(arguments.rounds),
        "embeddings": lambda: compare_embeddings(arguments.rounds),
        "stream": lambda: compare_stream(arguments.folder),
    }
    unknown = set(arguments.parts) - set(parts)
    if unknown:
        parser.error(f"unknown part {', '.join(sorted(unknown))}: expected {', '.join(parts)}")
    for part in arguments.parts:
        parts[part]()


if __name__ == "__main__":
    main()
