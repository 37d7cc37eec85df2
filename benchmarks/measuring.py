"""What benchmarks share: calls that alternate, and rows that a later run can be compared with."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """One thing measured beside its named alternative, once in every round.

    measured, alternative: what the two lists of values are of. values, alternatives: by round.
    unit: of both. higher_is_better: as for images/s; else as for seconds. bar: what is expected of
    the ratio of medians, as the issue that asked for it says it.
    """

    name: str
    measured: str
    alternative: str
    unit: str
    values: Sequence[float]
    alternatives: Sequence[float]
    bar: str = ""
    higher_is_better: bool = False

    @property
    def ratio(self) -> float:
        """Of the medians, measured / alternative."""
        return statistics.median(self.values) / statistics.median(self.alternatives)

    def to_json(self) -> dict[str, Any]:
        """All fields and the ratio."""
        return asdict(self) | {"ratio": self.ratio}


def alternate(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every call in every round, the calls of a round in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def with_spread(values: Sequence[float]) -> str:
    """Median and, in brackets, smallest and largest."""
    median, low, high = (f"{f(values):.4g}" for f in (statistics.median, min, max))
    return f"{median} ({low} to {high})"


def markdown(rows: Sequence[Row]) -> str:
    """A table, a line for each row."""
    lines = [
        "| what | measured | alternative | ratio | bar |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row.name} | {row.measured}: {with_spread(row.values)} {row.unit} "
            f"| {row.alternative}: {with_spread(row.alternatives)} {row.unit} "
            f"| {row.ratio:.3f} | {row.bar} |"
        )
    return "\n".join(lines)
