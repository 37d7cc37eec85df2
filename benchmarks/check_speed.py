"""Images per second of the check of a data set, beside bare loops that only decode the same files.

    python -m benchmarks.check_speed [--images 13000] [--rounds 5] [--image_height 128]

Renders some hundred images in the Market-1501 layout and copies them, each with a comment of its
own so that no two files are the same, into a folder that is removed at the end. Every round runs
each loop and the check once, in turn; before the first all run once, which also brings the files
into memory. The check is measured whole: listing, reading, decoding, comparing, counting, text and
JSON; its picture apart.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from input_pipeline.check import findings, report
from input_pipeline.datasets.listing import MANIFEST_NAME, ReaderOptions
from input_pipeline.datasets.market1501.folder import read_market_folder
from input_pipeline.rendering.layout import write_layout

CORES = len(os.sched_getaffinity(0))

# Files that a thread takes at once; one by one, handing them out would cost as much as decoding.
CHUNK = 100


def write_images(folder: Path, count: int, image_height: int) -> list[str]:
    """A checked data set of `count` images; returns their paths."""
    write_layout(
        folder,
        train_persons=48,
        test_persons=24,
        image_height=image_height,
        workers=CORES,
        progress=sys.stderr,
    )
    listing = read_market_folder(folder)
    names = [file.name for images in listing.splits.values() for file in images.files]
    contents = {name: (folder / name).read_bytes() for name in names}
    for name in names:
        (folder / name).unlink()
    paths = []
    for number in range(count):
        name = names[number % len(names)]
        parts = name.split("_")
        # The frame of 0002_c1s1_000451_03.jpg; the folder's name may hold a _ too.
        parts[-2] = f"{number:06d}"
        path = folder / "_".join(parts)
        comment = f"{number:08d}".encode()
        marker = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
        content = contents[name]
        path.write_bytes(content[:2] + marker + content[2:])
        paths.append(str(path))
    manifest = folder / MANIFEST_NAME
    facts = dict(read_market_folder(folder).facts)
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"facts": facts}))
    return paths


def tf_data(paths: Sequence[str]) -> int:
    """tf.data, one image per call."""
    images = tf.data.Dataset.from_tensor_slices(list(paths)).map(
        lambda path: tf.io.decode_jpeg(tf.io.read_file(path), channels=3),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=False,
    )
    count = images.reduce(np.int64(0), lambda count, image: count + 1)
    return int(count)


def in_threads(decode: Callable[[str], object]) -> Callable[[Sequence[str]], int]:
    """A loop that decodes chunks of files in as many threads as there are cores."""

    def decode_all(paths: Sequence[str]) -> int:
        chunks = [paths[i : i + CHUNK] for i in range(0, len(paths), CHUNK)]
        with ThreadPoolExecutor(CORES) as threads:
            return sum(threads.map(lambda c: sum(decode(p) is not None for p in c), chunks))

    return decode_all


def cv2_decode(path: str) -> object:
    """Reads with Python, decodes with OpenCV."""
    with open(path, "rb", buffering=0) as file:
        return cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_COLOR)


def tf_decode(path: str) -> object:
    """Reads with Python, decodes with TensorFlow, one call per image."""
    with open(path, "rb", buffering=0) as file:
        return tf.io.decode_jpeg(file.read(), channels=3)


BARE_LOOPS = {
    "tf.data map(read_file, decode_jpeg), AUTOTUNE": tf_data,
    "threads, cv2.imread": in_threads(cv2.imread),
    "threads, read and cv2.imdecode": in_threads(cv2_decode),
    "threads, read and tf.io.decode_jpeg": in_threads(tf_decode),
}
CHECK = "check, without the picture"
PICTURE = "the picture"


def check(folder: Path, output_dir: Path) -> tuple[int, float, float]:
    """One whole check of a folder without faults: images, its seconds, those of the picture."""
    start = time.perf_counter()
    options = ReaderOptions()
    listing = read_market_folder(folder, options)
    total = sum(len(images.files) for images in listing.splits.values())
    with tqdm(total=total, file=sys.stderr, leave=False) as bar:
        found, crops = findings.check(listing, options, progress=bar.update)
    report.text(found)
    json.dumps(found.to_dict(), indent=2)
    checked = time.perf_counter()
    report.draw(output_dir / "check.png", found, crops)
    drawn = time.perf_counter()
    if found.problems or found.duplicates:
        raise RuntimeError(f"the folder is not as it was written: {found.problems}")
    return total, checked - start, drawn - checked


def main() -> None:
    """Command line: prints the median of every loop and the check's ratio to the fastest."""
    parser = argparse.ArgumentParser(description="Measure the speed of the check.")
    parser.add_argument("--images", type=int, default=13_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--image_height", type=int, default=128)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    seconds: dict[str, list[float]] = {name: [] for name in (*BARE_LOOPS, CHECK, PICTURE)}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "data"
        paths = write_images(folder, arguments.images, arguments.image_height)
        for _ in range(arguments.rounds + 1):
            for name, loop in BARE_LOOPS.items():
                start = time.perf_counter()
                count = loop(paths)
                seconds[name].append(time.perf_counter() - start)
                if count != len(paths):
                    raise RuntimeError(f"{name}: decoded {count} of {len(paths)} images")
            _, checking, drawing = check(folder, Path(temporary))
            seconds[CHECK].append(checking)
            seconds[PICTURE].append(drawing)
    first_check = seconds[CHECK][0]
    medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    size = f"{arguments.image_height}x{arguments.image_height // 2}"
    print(f"{len(paths):,} images {size}, {CORES} cores, medians of {arguments.rounds} rounds")
    for name in (*BARE_LOOPS, CHECK):
        rate = len(paths) / medians[name]
        print(f"{name:48}{medians[name]:7.2f} s{rate:10,.0f} images/s")
    print(f"{'the same, first in its process':48}{first_check:7.2f} s")
    print(f"{PICTURE:48}{medians[PICTURE]:7.2f} s")
    fastest = min(BARE_LOOPS, key=medians.__getitem__)
    ratios = [
        bare / checked
        for bare, checked in zip(seconds[fastest][1:], seconds[CHECK][1:], strict=True)
    ]
    print(
        f"check / fastest bare loop ({fastest}): {medians[fastest] / medians[CHECK]:.2f} "
        f"(by round: {', '.join(f'{ratio:.2f}' for ratio in ratios)})"
    )


if __name__ == "__main__":
    main()
