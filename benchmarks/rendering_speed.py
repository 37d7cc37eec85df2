"""Images per second of the pedestrian renderer with two processes, JPEG encoding included.

    python -m benchmarks.rendering_speed [--image_height 256] [--processes 2] [--rounds 5]

Every round renders persons with eight images each, as the rendered default does; figures are built
anew, so their cost is included, while scenes and passers-by are warm. The median round counts.
"""

import argparse
import multiprocessing
import statistics
import time

import numpy as np

from input_pipeline.rendering.looks import LOWER_CHOICES, MARKET_FIELDS, UPPER_CHOICES
from input_pipeline.rendering.render import render_jpeg

IMAGES_PER_PERSON = 8


def random_fields(rng: np.random.Generator) -> dict[str, int]:
    """A random valid description."""
    fields = dict.fromkeys(MARKET_FIELDS, 1)
    fields["age"] = int(rng.integers(1, 5))
    for name in ("gender", "hair", "up", "down", "clothes", "hat"):
        fields[name] = int(rng.integers(1, 3))
    fields[("backpack", "bag", "handbag")[rng.integers(3)]] = 2
    fields[UPPER_CHOICES[rng.integers(len(UPPER_CHOICES))]] = 2
    fields[LOWER_CHOICES[rng.integers(len(LOWER_CHOICES))]] = 2
    return fields


def render_persons(first: int, count: int, image_height: int) -> int:
    """Render all images of `count` persons from id `first`; returns the JPEG bytes made."""
    total = 0
    for person_id in range(first, first + count):
        fields = random_fields(np.random.default_rng(person_id))
        for index in range(IMAGES_PER_PERSON):
            total += len(
                render_jpeg(
                    fields,
                    seed=0,
                    person_id=person_id,
                    image_index=index,
                    camera_id=index % 6 + 1,
                    image_height=image_height,
                )
            )
    return total


def worker(number: int, arguments: argparse.Namespace, barrier, seconds) -> None:
    """Warm up, then render each round between two barriers; process 0 reports the time."""
    render_persons(1000, 25, arguments.image_height)
    for round_number in range(arguments.rounds):
        barrier.wait()
        start = time.perf_counter()
        first = 10_000 + 1000 * round_number + 100 * number
        render_persons(first, arguments.persons, arguments.image_height)
        barrier.wait()
        if number == 0:
            seconds.put(time.perf_counter() - start)


def main() -> None:
    """Command line: prints one line per round and the median."""
    parser = argparse.ArgumentParser(description="Measure the speed of the renderer.")
    parser.add_argument("--image_height", type=int, default=256)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--persons", type=int, default=12, help="per process and round")
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    barrier, seconds = context.Barrier(arguments.processes), context.Queue()
    workers = [
        context.Process(target=worker, args=(number, arguments, barrier, seconds))
        for number in range(arguments.processes)
    ]
    for process in workers:
        process.start()
    images = arguments.processes * arguments.persons * IMAGES_PER_PERSON
    rates = [images / seconds.get(timeout=600) for _ in range(arguments.rounds)]
    for process in workers:
        process.join()
    for number, rate in enumerate(rates):
        print(f"round {number}: {rate:.1f} images/s")
    print(
        f"median {statistics.median(rates):.1f} images/s, {arguments.processes} processes,"
        f" {arguments.image_height}x{arguments.image_height // 2}"
    )


if __name__ == "__main__":
    main()
