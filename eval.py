"""Evaluate a run or a bundle as zero-shot retrieval: numbers, a picture of ranked lists, export.

python eval.py --workdir runs/rendered_market [--split test|validation] [--export_dir DIR]
python eval.py --checkpoint DIR [--data_dir DIR] [--output_dir DIR]
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

import command_line
import experiment
from experiment import Config
from input_pipeline import preprocessing, splits
from input_pipeline.attributes import Schema
from jsreid_jax import evaluation, export, parallel, pictures, retrieval
from jsreid_jax.checkpoints import Checkpoints
from jsreid_jax.errors import ModelError
from jsreid_jax.models.joint_embedder import JointEmbedder
from jsreid_jax.train_state import create_train_state
from jsreid_jax.types import PyTree, TrainState

PROTOCOL = "category"

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run of train.py.")
_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Folder of a bundle (--export_dir).")
_WHICH = flags.DEFINE_enum(
    "which", "best", ["best", "last"], "Checkpoint of the run: best on validation, or last."
)
_SPLIT = flags.DEFINE_enum("split", "test", ["test", "validation"], "What to rank.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Data set to evaluate on, if not the run's own.")
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Where results go; by default eval_<split> in the run or bundle."
)
_EXPORT_DIR = flags.DEFINE_string("export_dir", None, "Write the bundle for evaluation here.")


@dataclass(frozen=True)
class Model:
    """A trained embedder and what its checkpoint says of it.

    description: JSON dict: config, schema, num_categories, step, which (best or last).
    """

    embedder: JointEmbedder
    variables: PyTree
    config: Config
    schema: Schema
    description: dict[str, Any]


def main(argv: Sequence[str]) -> None:
    """Command line of evaluation."""
    del argv
    if (_WORKDIR.value is None) == (_CHECKPOINT.value is None):
        raise ModelError("expected either --workdir or --checkpoint, and not both: give one")
    source = Path(_WORKDIR.value or str(_CHECKPOINT.value))
    model = load_run(source, _WHICH.value) if _WORKDIR.value else load_bundle(source)
    if _EXPORT_DIR.value:
        export.write_bundle(Path(_EXPORT_DIR.value), model.variables, model.description)
        print(f"Bundle written to {_EXPORT_DIR.value}")
    output_dir = Path(_OUTPUT_DIR.value or source / _question(model))
    evaluate(model, split=_SPLIT.value, data_dir=_DATA_DIR.value, output_dir=output_dir)


def _question(model: Model) -> str:
    """A folder name for what is asked, so that one answer does not overwrite another's."""
    parts = ["eval", _SPLIT.value]
    if model.description["which"] == "last":
        parts.append("last")
    if _DATA_DIR.value:
        parts += ["on", Path(_DATA_DIR.value).resolve().name]
    return "_".join(parts)


def load_run(workdir: Path, which: str) -> Model:
    """The best or last checkpoint of a run; without any validation the best is the last."""
    folder = workdir / "checkpoints"
    if not folder.is_dir():
        raise ModelError(
            f"{folder}: not found; expected the workdir of a run of train.py, check --workdir"
        )
    file = workdir / "config.json"
    config = experiment.stored_config(experiment.read_json(file), source=file)
    experiment.set_up_devices(config)
    checkpoints = Checkpoints(folder, read_only=True)
    step = checkpoints.best_step() if which == "best" else checkpoints.latest_step()
    step = checkpoints.latest_step() if step is None else step
    if step is None:
        raise ModelError(f"{folder}: holds no checkpoint yet; let train.py reach its first one")
    description = {
        "config": experiment.as_json(config),
        "step": step,
        "which": which,
    } | checkpoints.restore_meta(step)
    schema, embedder, state = _prepare(description, config)
    state = checkpoints.restore_state(step, state)
    checkpoints.close()
    return Model(embedder, state.variables, config, schema, description)


def load_bundle(folder: Path) -> Model:
    """A bundle that --export_dir wrote."""
    file = folder / "config.json"
    description = experiment.read_json(file)
    missing = {"config", "schema", "num_categories", "step", "which"} - description.keys()
    if missing:
        raise ModelError(
            f"{file}: has no field {', '.join(sorted(missing))}; expected the "
            "file that eval.py --export_dir wrote, export the bundle again"
        )
    if not isinstance(description["num_categories"], int) or description["num_categories"] < 1:
        raise ModelError(
            f"{file}: num_categories is {description['num_categories']!r}, expected a number from "
            "1 on, export the bundle again"
        )
    config = experiment.stored_config(description["config"], source=file)
    experiment.set_up_devices(config)
    schema, embedder, state = _prepare(description, config)
    variables = export.read_variables(folder, state.variables)
    return Model(embedder, variables, config, schema, description)


def _prepare(
    description: dict[str, Any], config: Config
) -> tuple[Schema, JointEmbedder, TrainState]:
    """What a checkpoint needs: its schema, its network, and a fresh state to restore into."""
    schema = Schema.from_dict(description["schema"])
    embedder = experiment.create_embedder(config, schema, description["num_categories"])
    game, _ = experiment.create_game(config, embedder, steps_per_epoch=1, num_train_steps=1)
    state = create_train_state(
        game,
        seed=config.seed,
        image_size=experiment.image_size(config),
        num_attributes=schema.num_attributes,
    )
    return schema, embedder, parallel.replicate(state)


def evaluate(model: Model, *, split: str, data_dir: str | None, output_dir: Path) -> None:
    """Rank the split's gallery, print the table, write metrics.json and ranked_lists.png."""
    config = model.config
    data = experiment.load_data(config, data_dir)
    splits.check_schema(data, model.schema, source="the model")
    if split == "test":
        retrieval_set = splits.test_set(data)
    else:
        _, validation = splits.train_and_validation(
            data, validation_fraction=config.data.validation_fraction, seed=config.seed
        )
        if validation is None:
            raise ModelError(
                "config.data.validation_fraction is 0 in this run, so no validation categories "
                "were held out: evaluate --split test"
            )
        retrieval_set = validation
    embedders = evaluation.Embedders(model.embedder, mirror=config.eval.mirror)
    metrics, scores = experiment.evaluate(config, embedders, model.variables, retrieval_set)

    report = {
        "protocol": PROTOCOL,
        "split": split,
        "data_dir": str(data.data_dir),
        "step": model.description["step"],
        "which": model.description["which"],
        "queries": scores.shape[0],
        "gallery": scores.shape[1],
        # JSON has no NaN: a subset without queries has null.
        "metrics": {
            subset: {k: None if np.isnan(v) else v for k, v in values.items()}
            for subset, values in metrics.items()
        },
    }
    output_dir.mkdir(parents=True, exist_ok=True)
    picture = output_dir / "ranked_lists.png"
    picture_ranked_lists(picture, model, retrieval_set, scores)
    # Last, because its presence says that the evaluation is complete.
    experiment.write_json(output_dir / "metrics.json", report)
    print(table(report))
    print(f"Written: {output_dir / 'metrics.json'}, {picture}")


def table(report: dict[str, Any]) -> str:
    """The report as text, metrics in per cent."""
    names = [*(f"rank{k}" for k in retrieval.RANKS), "mAP", "mINP"]
    lines = [
        f"protocol {report['protocol']}, split {report['split']} of {report['data_dir']}, "
        f"{report['which']} step {report['step']}: {report['queries']} queries x "
        f"{report['gallery']} images",
        f"{'':8}{'queries':>9}" + "".join(f"{name:>8}" for name in names),
    ]
    for subset, metrics in report["metrics"].items():
        cells = (
            "       -" if metrics[name] is None else f"{100 * metrics[name]:8.1f}" for name in names
        )
        lines.append(f"{subset:8}{metrics['valid_queries']:>9}" + "".join(cells))
    return "\n".join(lines)


def picture_ranked_lists(
    file: Path, model: Model, retrieval_set: splits.RetrievalSet, scores: np.ndarray
) -> None:
    """Draw the best images of some queries, drawn evenly by the run's seed."""
    config = model.config
    rng = np.random.default_rng(config.seed)
    count = min(config.eval.pictured_queries, len(retrieval_set.queries))
    queries = np.sort(rng.choice(len(retrieval_set.queries), count, replace=False))
    relevant = retrieval_set.relevant
    titles, images, right = [], [], []
    for query in queries:
        best = np.argsort(-scores[query], kind="stable")[: config.eval.pictured_images]
        novelty = "seen" if retrieval_set.seen[query] else "unseen"
        description = model.schema.describe(retrieval_set.queries[query], mention_absent=False)
        titles.append(f"{description} ({novelty})")
        images.append([preprocessing.decode(retrieval_set.images[i]).numpy() for i in best])
        right.append([bool(relevant[query, i]) for i in best])
    pictures.draw_ranked_lists(file, titles, images, right)


if __name__ == "__main__":
    command_line.run(main)
