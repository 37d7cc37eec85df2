"""Query by query: runs compared over seeds, and which checkpoint of a run is used.

Shape letters: S seeds, Q queries. All runs of one seed share their validation categories, and all
runs are asked the same queries, so what two runs score is paired by (seed, query).
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jsreid_jax.errors import ModelError
from jsreid_jax.retrieval import MEANS

# Of the bootstrap: so many draws, of which the interval leaves out 2.5 % at either end.
RESAMPLES = 2000
QUANTILES = (0.025, 0.975)

_COLUMNS = ("description", "seen", *MEANS)


@dataclass(frozen=True)
class Queries:
    """What one evaluation scored.

    descriptions: one text per query. seen: (Q,) bool, whether it occurs in training. per_query:
    (Q,) float64 by name, from `retrieval.query_metrics`; NaN for a query without a right image.
    """

    descriptions: Sequence[str]
    seen: np.ndarray
    per_query: dict[str, np.ndarray]


def as_csv(queries: Queries) -> str:
    """A CSV table of one line per query, its numbers in full and NaN as an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    values = np.stack([queries.per_query[name] for name in MEANS], axis=1).tolist()
    for description, seen, row in zip(queries.descriptions, queries.seen, values, strict=True):
        numbers = ["" if np.isnan(value) else repr(value) for value in row]
        writer.writerow([description, int(seen), *numbers])
    return text.getvalue()


def from_csv(text: str, *, source: object) -> Queries:
    """The table that `as_csv` made.

    Raises:
        ModelError: it is another one, or broken; source says in the sentence where it comes from.
    """
    rows = list(csv.DictReader(io.StringIO(text)))
    try:
        return Queries(
            descriptions=[row["description"] for row in rows],
            seen=np.array([bool(int(row["seen"])) for row in rows], bool),
            per_query={
                name: np.array([_number(row[name], line) for line, row in enumerate(rows, 2)])
                for name in MEANS
            },
        )
    except (KeyError, ValueError, TypeError) as error:
        raise ModelError(
            f"{source}: does not read as the table of queries of this version "
            f"({' '.join(str(error).split())}); expected what eval.py wrote, evaluate again"
        ) from error


def _number(cell: str | None, line: int) -> float:
    """An empty cell is NaN; one that is not there is the end of a table that was cut short."""
    if cell is None:
        raise ValueError(f"line {line} is cut short")
    return float(cell or "nan")


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation (n - 1) over seeds; the latter NaN with fewer than two."""
    array = np.asarray(values, np.float64)
    if not len(array):
        return np.nan, np.nan
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else np.nan


def choose(newest: np.ndarray, highest: Sequence[float]) -> tuple[bool, list[float]]:
    """Whether the newest checkpoint of a run is the one to use.

    The one-standard-error rule (Breiman et al. 1984), with the standard error of the paired
    difference: the newest one is chosen unless its mean lies more than one standard error below
    the highest. Of few descriptions the highest of several means is often luck, and the longer
    training is the better guess (docs/tuning.md). Its use here is ours.

    Args:
        newest: (Q,) average precisions of the validation descriptions, in [0, 1].
        highest: (Q,) those of the validation with the highest mean until now, of the same
            descriptions in the same order; empty before the first. A single one has no standard
            error: the higher average precision is chosen.

    Returns:
        is_chosen, and `highest` for the next call.
    """
    newest = np.asarray(newest, np.float64)
    if not len(highest):
        return True, newest.tolist()
    difference = newest - np.asarray(highest, np.float64)
    if difference.mean() >= 0:
        return True, newest.tolist()
    error = difference.std(ddof=1) / np.sqrt(len(difference)) if len(difference) > 1 else 0.0
    return bool(difference.mean() >= -error), list(highest)


def paired_difference(
    values: np.ndarray,
    reference: np.ndarray,
    *,
    descriptions: Sequence[str] | None = None,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Mean of values - reference, and its 95 % percentile bootstrap interval.

    Every draw takes S seeds and as many descriptions as are asked anew, with replacement and
    independently of each other, and keeps what they cross: one that is drawn twice counts twice
    with every seed, because seeds share their queries. Resampling queries within each seed, or
    single queries of those that ask the same, would take answers that are alike for independent
    ones, and the interval would be too narrow.

    So the interval covers which queries are asked, and the luck of training as far as S seeds show
    it (three do crudely, one not at all). It does not cover other persons and images.

    Args:
        values: (S, Q) of one run; a query that is NaN anywhere does not count.
        reference: (S, Q) of the other, same seeds and queries.
        descriptions: what each of the Q queries asks; by default every one something else.
        seed: of the draws; the same gives the same interval.

    Returns:
        mean, low, high; the interval is NaN with fewer than two descriptions, all are with none.
    """
    difference = np.asarray(values, np.float64) - np.asarray(reference, np.float64)
    is_valid = ~np.isnan(difference).any(axis=0)
    difference = difference[:, is_valid]
    if not difference.size:
        return np.nan, np.nan, np.nan
    mean = float(difference.mean())
    sums, counts = difference, np.ones(difference.shape[1], int)
    if descriptions is not None:
        # Numbered as they come.
        number: dict[str, int] = {}
        asked = np.asarray(descriptions)[is_valid].tolist()
        place = [number.setdefault(text, len(number)) for text in asked]
        counts = np.bincount(place)
        sums = difference @ np.eye(len(number))[place]
    num_seeds, num_asked = sums.shape
    if num_asked < 2:
        return mean, np.nan, np.nan
    rng = np.random.default_rng(seed)
    # How often each seed and each description is drawn says all of a draw.
    of_seeds = rng.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), size=RESAMPLES)
    of_asked = rng.multinomial(num_asked, np.full(num_asked, 1 / num_asked), size=RESAMPLES)
    means = ((of_seeds @ sums) * of_asked).sum(axis=1) / (num_seeds * (of_asked @ counts))
    low, high = np.quantile(means, QUANTILES)
    return mean, float(low), float(high)
