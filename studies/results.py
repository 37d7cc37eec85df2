"""What runs left in their folders, and the comparison of all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

import experiment
from experiment import Config
from jsreid_jax import comparison, protocols, report
from jsreid_jax.errors import ModelError
from jsreid_jax.retrieval import RANKS
from studies.plan import Run

METRICS = (*(f"rank{k}" for k in RANKS), "mAP", "mINP")
SUBSETS = report.SUBSETS
# States of a run; a failed one says where to look.
FINISHED, NOT_RUN = "finished", "not run yet"


@dataclass(frozen=True)
class Result:
    """What a finished run left.

    passes: images that went through the image stream in training. probe: how well a linear probe
    tells the modalities apart, NaN where it does not apply. curve: validation mAP by step.
    code: version of what trained it, or several; "" of runs that are older than this note.
    best_step: of the checkpoint that was evaluated.
    """

    queries: comparison.Queries
    gallery: int
    average_precision: str
    seconds: float | None
    passes: int
    probe: float
    curve: dict[int, float]
    code: str
    best_step: int


def read_result(run: Run) -> Result | None:
    """What a run left; None if it is not finished, or trained anew since its evaluation.

    Raises:
        ModelError: what is there does not read.
    """
    finished, metrics = run.workdir / "finished.json", run.evaluation / "metrics.json"
    table = run.evaluation / "per_query.csv"
    if not (finished.exists() and metrics.exists() and table.exists()):
        return None
    if metrics.stat().st_mtime < finished.stat().st_mtime:
        return None
    evaluated, trained = experiment.read_json(metrics), experiment.read_json(finished)
    try:
        text = table.read_text(encoding="utf-8")
        gallery, average_precision = int(evaluated["gallery"]), evaluated["average_precision"]
        step, seconds = int(trained["step"]), trained.get("seconds")
        probe = (evaluated.get("modalities") or {}).get("probe")
        code, best_step = " then ".join(trained.get("code", ())), int(evaluated["step"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{metrics} and {finished}: do not read as what train.py and eval.py write "
            f"({error}); remove the first to evaluate again"
        ) from error
    queries = comparison.from_csv(text, source=table)
    if len(queries.seen) != evaluated.get("queries"):
        raise ModelError(
            f"{table}: holds {len(queries.seen)} queries, but {metrics.name} beside it tells of "
            f"{evaluated.get('queries')}; remove both to evaluate again"
        )
    return Result(
        queries=queries,
        gallery=gallery,
        average_precision=average_precision,
        seconds=seconds,
        passes=step * run.config.train.batch_size,
        probe=np.nan if probe is None else float(probe),
        curve=read_curve(run.workdir, "validation/mAP"),
        code=code,
        best_step=best_step,
    )


def read_curve(workdir: Path, tag: str) -> dict[int, float]:
    """A scalar by step from a run's event files; of steps computed twice, the last counts."""
    curve: dict[int, float] = {}
    for file in sorted(workdir.glob("events.out.tfevents.*")):
        events = EventAccumulator(str(file), size_guidance={"tensors": 0})
        events.Reload()
        if tag in events.Tags()["tensors"]:
            for event in events.Tensors(tag):
                curve[event.step] = float(tensor_util.make_ndarray(event.tensor_proto))
    return curve


class Outcomes:
    """How the runs of a study stand, and what the finished ones left.

    states: by (name, seed) FINISHED, NOT_RUN, or what failed. results: of the finished ones.
    """

    def __init__(self, config: Config, runs: Sequence[Run]):
        self._config, self._runs = config, runs
        self.states = {(run.name, run.seed): NOT_RUN for run in runs}
        self.results: dict[tuple[str, int], Result] = {}

    def take(self, run: Run) -> bool:
        """Take the result of a run in, if it is finished; whether it is.

        Raises:
            ModelError: it does not read, or was asked something else than the others.
        """
        result = read_result(run)
        if result is None:
            return False
        for (name, seed), other in self.results.items():
            if _asked(result) != _asked(other):
                raise ModelError(
                    f"{run.evaluation}: its queries or gallery are not those of {name}, seed "
                    f"{seed}; expected the same data and protocol in all runs of a study"
                )
        self.results[run.name, run.seed] = result
        self.states[run.name, run.seed] = FINISHED
        return True

    def summary(self, command: str) -> dict[str, Any]:
        """Everything as nested dicts; what is not known is NaN, and without results {} or None.

        command: what the tables say they were made by.
        """
        config, results = self._config, self.results
        any_result = next(iter(results.values()), None)
        reference = {seed: results.get((config.reference, seed)) for seed in config.seeds}
        summary: dict[str, Any] = {
            "title": config.title,
            "question": config.question,
            "command": command,
            "seeds": list(config.seeds),
            "protocol": config.protocol,
            "protocol_says": protocols.EXPLANATIONS[config.protocol],
            "queries": len(any_result.queries.seen) if any_result else None,
            "gallery": any_result.gallery if any_result else None,
            "reference": config.reference,
            "resamples": comparison.RESAMPLES,
            "code": self._code(),
            "runs": {},
        }
        for run in self._runs[: len(config.runs)]:
            found = {seed: results.get((run.name, seed)) for seed in config.seeds}
            own = {seed: result for seed, result in found.items() if result is not None}
            # The reference is not compared with itself.
            others = {} if run.name == config.reference else reference
            pairs = {seed: other for seed in own if (other := others.get(seed)) is not None}
            seconds = [result.seconds for result in own.values() if result.seconds is not None]
            summary["runs"][run.name] = {
                "config": run.config_file,
                "overrides": [o for o in run.overrides if not o.startswith("seed=")],
                "states": {str(seed): self.states[run.name, seed] for seed in config.seeds},
                "finished_seeds": list(own),
                "paired_seeds": list(pairs),
                "seconds": float(np.mean(seconds)) if seconds else np.nan,
                "probe": dict(
                    zip(
                        ("mean", "deviation"),
                        comparison.mean_and_deviation([result.probe for result in own.values()]),
                        strict=True,
                    )
                ),
                "best_steps": {str(seed): result.best_step for seed, result in own.items()},
                "image_passes": round(np.mean([r.passes for r in own.values()])) if own else None,
                "curves": [result.curve for result in own.values()],
                "subsets": {
                    subset: _summarise_subset(
                        list(own.values()),
                        [(own[seed], other) for seed, other in pairs.items()],
                        subset,
                    )
                    for subset in SUBSETS
                    if own
                },
            }
        return summary

    def _code(self) -> dict[str, list[str]]:
        """By version of the code the runs that it trained, "name seed"."""
        found: dict[str, list[str]] = {}
        for (name, seed), result in sorted(self.results.items()):
            found.setdefault(result.code, []).append(f"{name} {seed}")
        return found


def _asked(result: Result) -> tuple:
    """What must be the same in two results to compare them."""
    queries = result.queries
    return queries.descriptions, queries.seen.tolist(), result.gallery, result.average_precision


def _summarise_subset(
    own: Sequence[Result], pairs: Sequence[tuple[Result, Result]], subset: str
) -> dict[str, Any]:
    """Every metric of one run for one subset of the queries: values by seed, and the difference."""
    seen = own[0].queries.seen
    rows = {"all": np.ones(len(seen), bool), "seen": seen, "unseen": ~seen}[subset]
    asked = [text for text, counts in zip(own[0].queries.descriptions, rows, strict=True) if counts]

    def values(result: Result, metric: str) -> np.ndarray:
        name = {"mAP": f"AP_{result.average_precision}", "mINP": "INP"}.get(metric, metric)
        return result.queries.per_query[name][rows]

    summary: dict[str, Any] = {"queries": int(rows.sum())}
    for metric in METRICS:
        means = [_mean(values(result, metric)) for result in own]
        mean, deviation = comparison.mean_and_deviation(means)
        difference = low = high = np.nan
        if pairs:
            difference, low, high = comparison.paired_difference(
                np.stack([values(result, metric) for result, _ in pairs]),
                np.stack([values(other, metric) for _, other in pairs]),
                descriptions=asked,
            )
        summary[metric] = {
            "values": means,
            "mean": mean,
            "deviation": deviation,
            "difference": {"mean": difference, "low": low, "high": high},
        }
    return summary


def _mean(values: np.ndarray) -> float:
    valid = values[~np.isnan(values)]
    return float(valid.mean()) if len(valid) else np.nan
