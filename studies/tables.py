"""What a study writes: tables as Markdown and CSV, pictures, and everything as JSON."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import experiment
from jsreid_jax import pictures, report
from studies.results import FINISHED, METRICS, SUBSETS

# What the Markdown table has room for; the CSV file has all.
SHOWN, COMPARED = ("rank1", "rank10", "mAP", "mINP"), ("rank1", "mAP")


def write_all(summary: dict[str, Any], folder: Path) -> None:
    """Write study.json, table.md, table.csv, table.png and curves.png, each whole at any moment.

    Args:
        summary: from `results.Outcomes`.
        folder: made if missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    experiment.write_text(folder / "table.md", markdown(summary))
    experiment.write_text(folder / "table.csv", as_csv(summary))
    nothing = {"mean": np.nan, "deviation": np.nan}
    panels = {
        report.METRICS[metric]: {
            subset: {
                name: (values["mean"], values["deviation"])
                for name, run in summary["runs"].items()
                for values in [run["subsets"][subset][metric] if run["subsets"] else nothing]
            }
            for subset in SUBSETS
        }
        for metric in COMPARED
    }
    experiment.write_bytes(folder / "table.png", pictures.means_png(panels))
    curves = {name: run["curves"] for name, run in summary["runs"].items()}
    experiment.write_bytes(
        folder / "curves.png",
        pictures.training_curves_png(curves, y_label="mAP of validation descriptions"),
    )
    experiment.write_json(folder / "study.json", experiment.without_nan(summary))


def markdown(summary: dict[str, Any]) -> str:
    """The table of a study for a README."""
    seeds = ", ".join(map(str, summary["seeds"]))
    size = ""
    if summary["queries"] is not None:
        size = f"{summary['queries']} queries x {summary['gallery']} images. "
    lines = [
        f"# {summary['title']}",
        "",
        summary["question"],
        "",
        f"`{summary['command']}`",
        "",
        f"{len(summary['seeds'])} seed(s): {seeds}. Protocol `{summary['protocol']}`: "
        f"{summary['protocol_says']}. {size}Per cent: mean ± standard deviation over seeds.",
        "",
        f"Differences are to `{summary['reference']}`, paired by seed and query, with 95 % "
        f"bootstrap intervals ({summary['resamples']} draws of seeds and queries, independent of "
        "each other): they cover which descriptions are asked and, as far as so few seeds show "
        "it (one does not), the luck of training; not other persons, images or cameras. They are "
        "not corrected for the number of comparisons.",
        "",
        "Modality probe: balanced accuracy of a linear probe that tells images from descriptions "
        "in the joint space, 50 says that it cannot, 100 that they lie apart (all descriptions).",
        *_code(summary["code"]),
    ]
    shown = [report.METRICS[metric] for metric in SHOWN]
    compared = [f"{report.METRICS[m]} against {summary['reference']}" for m in COMPARED]
    columns = ["run", "seeds", *shown, *compared, "modality probe", "training s"]
    columns += ["image passes", "steps of the checkpoints"]
    for subset in SUBSETS:
        lines += ["", f"## {subset}{_queries(summary, subset)}", ""]
        lines += [_line(columns), _line(["---"] * len(columns))]
        for name, run in summary["runs"].items():
            lines += [
                _line([*cells, *[""] * (len(columns) - len(cells))])
                for cells in _rows(summary, name, run, subset)
            ]
    return "\n".join(lines) + "\n"


def _code(runs_of: dict[str, list[str]]) -> list[str]:
    """A paragraph on the versions of the code that trained the runs, if there is a run."""
    if not runs_of:
        return []
    named = {code or "not noted": runs for code, runs in runs_of.items()}
    if len(named) == 1:
        return ["", f"Code of all runs: {next(iter(named))}."]
    parts = "; ".join(f"{code}: {', '.join(runs)}" for code, runs in named.items())
    return [
        "",
        f"**Trained by different versions of the code**, which may be why they differ. {parts}.",
    ]


def _queries(summary: dict[str, Any], subset: str) -> str:
    """How many queries a subset has, once a run knows it."""
    for run in summary["runs"].values():
        if run["subsets"]:
            return f" ({run['subsets'][subset]['queries']} queries)"
    return ""


def _rows(
    summary: dict[str, Any], name: str, run: dict[str, Any], subset: str
) -> Iterator[list[str]]:
    """The lines of one run: its numbers, and what is missing of it, if any of either."""
    if run["subsets"]:
        values = run["subsets"][subset]
        differences = (_difference(values[metric]["difference"]) for metric in COMPARED)
        paired, own = run["paired_seeds"], run["finished_seeds"]
        # Where the reference is behind, a difference is of fewer seeds than the means beside it.
        note = f" (seeds {_seeds(paired)})" if paired and paired != own else ""
        is_reference = name == summary["reference"]
        yield [
            name,
            _seeds(run["finished_seeds"]),
            *(_spread(values[metric]) for metric in SHOWN),
            *(
                ["reference"] * len(COMPARED)
                if is_reference
                else (f"{d}{note}" for d in differences)
            ),
            _spread(run["probe"]),
            "-" if np.isnan(run["seconds"]) else f"{run['seconds']:.0f}",
            f"{run['image_passes']:,}",
            ", ".join(map(str, run["best_steps"].values())),
        ]
    for state, seeds in _missing(run):
        yield [name, _seeds(seeds), state]


def _missing(run: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Every state other than finished, with its seeds."""
    states = run["states"]
    for state in dict.fromkeys(states.values()):
        if state != FINISHED:
            yield state, [seed for seed in states if states[seed] == state]


def _seeds(seeds: Sequence[Any]) -> str:
    return ", ".join(map(str, seeds))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _spread(values: dict[str, Any]) -> str:
    mean, deviation = 100 * values["mean"], 100 * values["deviation"]
    if np.isnan(mean):
        return "-"
    return f"{mean:.1f}" if np.isnan(deviation) else f"{mean:.1f} ± {deviation:.1f}"


def _difference(values: dict[str, float]) -> str:
    mean, low, high = (100 * values[name] for name in ("mean", "low", "high"))
    if np.isnan(mean):
        return "-"
    return f"{mean:+.1f}" + ("" if np.isnan(low) else f" [{low:+.1f}, {high:+.1f}]")


def as_csv(summary: dict[str, Any]) -> str:
    """One line per run, subset and metric, shares in full; and per run and what is missing of it.

    Seeds stand in one cell, between spaces; the difference may have fewer than the mean.
    """
    columns = (
        *("run", "subset", "metric", "state", "seeds", "queries", "mean", "deviation"),
        *("difference", "low", "high", "paired_seeds"),
        *("modality_probe", "training_seconds", "image_passes"),
    )
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for name, run in summary["runs"].items():
        for subset, metrics in run["subsets"].items():
            for metric in METRICS:
                values = metrics[metric]
                difference = values["difference"]
                numbers = {
                    "mean": values["mean"],
                    "deviation": values["deviation"],
                    "difference": difference["mean"],
                    "low": difference["low"],
                    "high": difference["high"],
                    "modality_probe": run["probe"]["mean"],
                    "training_seconds": run["seconds"],
                }
                writer.writerow(
                    {
                        "run": name,
                        "subset": subset,
                        "metric": metric,
                        "state": FINISHED,
                        "seeds": " ".join(map(str, run["finished_seeds"])),
                        "queries": metrics["queries"],
                        "paired_seeds": " ".join(map(str, run["paired_seeds"])),
                        "image_passes": run["image_passes"],
                    }
                    | {key: "" if np.isnan(value) else value for key, value in numbers.items()}
                )
        for state, seeds in _missing(run):
            writer.writerow({"run": name, "state": state, "seeds": " ".join(seeds)})
    return text.getvalue()
