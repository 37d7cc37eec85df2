"""A trained model: from a run or a bundle, and searching with it. Shared by what evaluates."""

import copy
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging

import experiment
from experiment import Config
from input_pipeline import splits
from input_pipeline.attributes import Schema
from jsreid_jax import evaluation, export, parallel, protocols, retrieval
from jsreid_jax.checkpoints import Checkpoints
from jsreid_jax.errors import ModelError
from jsreid_jax.models.joint_embedder import JointEmbedder
from jsreid_jax.train_state import create_train_state
from jsreid_jax.types import PyTree, TrainState


@dataclass(frozen=True)
class Model:
    """A trained embedder and what its checkpoint says of it.

    description: JSON dict: config, schema, num_categories, step, which (best or last).
    shapes: of the run's other checkpoints; None of a bundle, which has one.
    of_folder: fields of the config that another data folder has otherwise.
    """

    embedder: JointEmbedder
    variables: PyTree
    config: Config
    schema: Schema
    description: dict[str, Any]
    shapes: TrainState | None = None
    of_folder: Mapping[str, Any] = dataclasses.field(default_factory=dict)


# Checkpoints of a run that goes on while it is evaluated may be gone before they are read.
_ATTEMPTS = 5


# Fields of a config that another machine may want otherwise, and that change no number but by
# rounding; and those of another data folder.
OF_MACHINE = (
    *("data.prepared_dir", "eval.batch_size", "eval.block_size"),
    *("eval.pictured_queries", "eval.pictured_images", "num_cpu_devices"),
)
OF_FOLDER = ("data.labels", "data.schema", "data.skip_bad_images")


def load_run(workdir: Path, which: str, overrides: Mapping[str, Any] | None = None) -> Model:
    """The checkpoint that validation chose ("best") or the last; without any validation the last.

    overrides: values by field, of OF_MACHINE and OF_FOLDER.
    """
    folder = workdir / "checkpoints"
    if not folder.is_dir():
        raise ModelError(
            f"{folder}: not found; expected the workdir of a run of train.py, check --workdir"
        )
    file = workdir / "config.json"
    config = experiment.stored_config(
        experiment.read_json(file), source=file, overrides=_only(OF_MACHINE, overrides)
    )
    experiment.set_up_devices(config, trains=False)
    attempts = 0
    while True:
        attempts += 1
        checkpoints = Checkpoints(folder, read_only=True)
        step = checkpoints.best_step() if which == "best" else checkpoints.latest_step()
        step = checkpoints.latest_step() if step is None else step
        if step is None:
            raise ModelError(f"{folder}: holds no checkpoint yet; let train.py reach its first one")
        try:
            return _restore(checkpoints, step, config, which, _only(OF_FOLDER, overrides))
        except ModelError:
            # Training that goes on may have put a newer one in its place.
            if attempts == _ATTEMPTS or (folder / str(step) / "state").exists():
                raise
        finally:
            checkpoints.close()


def _restore(
    checkpoints: Checkpoints,
    step: int,
    config: Config,
    which: str,
    of_folder: Mapping[str, Any],
) -> Model:
    told = checkpoints.restore_meta(step)
    # A bundle does not need what further training would compare with.
    told.pop("best_validation", None)
    description = {
        "config": experiment.as_json(config),
        "step": step,
        "which": which,
    } | told
    schema, embedder, shapes = _prepare(description, config)
    shapes = parallel.replicated_shapes(shapes, devices=jax.devices())
    state = checkpoints.restore_state(step, shapes)
    return Model(embedder, state.variables, config, schema, description, shapes, of_folder)


def before_adversary(workdir: Path, model: Model) -> tuple[int, PyTree] | None:
    """Step and variables of a run just before its adversary began; None if nothing tells of it."""
    step = model.description.get("adversary_begins")
    checkpoints = Checkpoints(workdir / "checkpoints", read_only=True)
    try:
        if step is None or step >= model.description["step"] or not checkpoints.has_step(step):
            return None
        assert model.shapes is not None, "before_adversary() is asked of a run, not of a bundle"
        return step, checkpoints.restore_state(step, model.shapes).variables
    finally:
        checkpoints.close()


def load_bundle(folder: Path, overrides: Mapping[str, Any] | None = None) -> Model:
    """A bundle that --export_dir wrote; overrides: as of `load_run`."""
    file = folder / "config.json"
    description = experiment.read_json(file)
    expected = {"config", "schema", "num_categories", "seen_categories", "step", "which"}
    missing = expected - description.keys()
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
    config = experiment.stored_config(
        description["config"], source=file, overrides=_only(OF_MACHINE, overrides)
    )
    experiment.set_up_devices(config, trains=False)
    schema, embedder, shapes = _prepare(description, config)
    shapes = parallel.replicated_shapes(shapes)
    try:
        seen = experiment.from_text(description["seen_categories"])
        if seen.shape[1:] != (schema.num_attributes,):
            raise ValueError(f"found {seen.shape}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(
            f"{file}: seen_categories does not read, expected texts of {schema.num_attributes} "
            "characters + - ?, export the bundle again"
        ) from error
    checksum = description.get("variables_checksum")
    variables = export.read_variables(folder, shapes.variables, checksum=checksum)
    of_folder = _only(OF_FOLDER, overrides)
    return Model(embedder, variables, config, schema, description, of_folder=of_folder)


def _only(fields: Sequence[str], overrides: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (overrides or {}).items() if name in fields}


def _prepare(
    description: dict[str, Any], config: Config
) -> tuple[Schema, JointEmbedder, TrainState]:
    """What a checkpoint needs: its schema, its network, and the shapes of its arrays."""
    schema = Schema.from_dict(description["schema"])
    embedder = experiment.create_embedder(config, schema, description["num_categories"])
    create = functools.partial(
        create_train_state,
        experiment.create_game(config, embedder),
        seed=config.seed,
        image_size=experiment.image_size(config),
        num_attributes=schema.num_attributes,
    )
    return schema, embedder, jax.eval_shape(create)


def read_set(model: Model, *, split: str, data_dir: str | None) -> splits.RetrievalSet:
    """The test images, or the validation images that the run was selected on."""
    config = model.config
    if data_dir is not None:
        config = copy.deepcopy(config)
        config.update_from_flattened_dict(model.of_folder)
    data = experiment.load_data(config, data_dir)
    splits.check_schema(data, model.schema, source="the model")
    if split == "test":
        return splits.test_set(data, experiment.from_text(model.description["seen_categories"]))
    _, validation = splits.train_and_validation(
        data, validation_fraction=config.data.validation_fraction, seed=config.seed
    )
    if validation is None:
        raise ModelError(
            "config.data.validation_fraction is 0 in this run, so no validation categories "
            "were held out: evaluate --split test"
        )
    return validation


def choose_weights(model: Model) -> None:
    """Note in the description the weights that validation categories choose: what adds up a score.

    A bundle brings them. A run that held out no categories takes the smallest, closest to the
    cosine and to the first ranking.
    """
    _choose_fusion_weight(model)
    _choose_rerank_weight(model)


def _choose_fusion_weight(model: Model) -> None:
    """Of recognition in a fused score; a checkpoint that training validated brings it."""
    config, description = model.config, model.description
    if config.eval.score != "fused" or "fusion_weight" in description:
        return
    weights = config.eval.fusion_weights
    validated = description.get("validation") or {}
    description["fusion_weight"] = validated.get("fusion_weight", min(weights))
    if "fusion_weight" in validated:
        return
    if not _can_choose(config, "eval.fusion_weights", weights):
        return
    validation = read_set(model, split="validation", data_dir=None)
    embedders = evaluation.Embedders(
        model.embedder, mirror=config.eval.mirror, score=config.eval.score
    )
    scores, _ = experiment.validate(config, embedders, model.variables, validation)
    description["fusion_weight"] = scores["fusion_weight"]


def _choose_rerank_weight(model: Model) -> None:
    """Of conditioned attention, which nothing trains to add to the first ranking's scores."""
    config, description = model.config, model.description
    if not config.eval.rerank or "rerank_weight" in description:
        return
    weights = config.eval.rerank_weights
    description["rerank_weight"] = min(weights)
    if not _can_choose(config, "eval.rerank_weights", weights):
        return
    validation = read_set(model, split="validation", data_dir=None)
    task = protocols.create_task("category", experiment.candidates(validation))
    images = [validation.images[i] for i in task.images]
    searcher = Searcher(model)
    first = retrieval.stream_ranks(
        searcher.descriptions(task.queries),
        searcher.images(images),
        task.positives,
        task.ignored,
        block_size=config.eval.block_size,
        top_k=config.eval.rerank,
    )
    pairs = searcher.pair_scores(task.queries, images, first.best)

    def mean_average_precision(weight: float) -> float:
        scores = first.best_scores + weight * pairs
        ranks, _ = evaluation.rerank(first.ranks, task, first.best, scores)
        return retrieval.summarise(retrieval.query_metrics(ranks))["mAP_step"]

    description["rerank_weight"] = max(sorted(weights), key=mean_average_precision)


def _can_choose(config: Config, field: str, weights: Sequence[float]) -> bool:
    """Whether there are several weights, and validation categories to choose among them."""
    if len(weights) > 1 and not config.data.validation_fraction:
        logging.warning(
            "config.data.validation_fraction is 0, so nothing can choose among config.%s: the "
            "smallest, %s, is taken",
            field,
            min(weights),
        )
        return False
    return len(weights) > 1


class Searcher:
    """A model's embedding functions, compiled once: lists in, vectors out."""

    def __init__(self, model: Model):
        self._model = model
        config = model.config
        self._embedders = evaluation.Embedders(
            model.embedder, mirror=config.eval.mirror, score=config.eval.score
        )

    def with_variables(self, variables: PyTree) -> "Searcher":
        """The same network at another moment of its training, without compiling again."""
        other = copy.copy(self)
        other._model = dataclasses.replace(self._model, variables=variables)
        return other

    @property
    def width(self) -> int:
        """D: how many numbers of a vector are the embedding."""
        return self._embedders.width

    def images(self, images: Sequence[bytes]) -> np.ndarray:
        """(G, V) of encoded images."""
        model = self._model
        return experiment.embed_images(model.config, self._embedders, model.variables, images)

    def descriptions(self, attributes: np.ndarray) -> np.ndarray:
        """(Q, V) of descriptions (Q, A)."""
        model = self._model
        # Of a run nobody may have asked for it yet.
        _choose_fusion_weight(model)
        vectors = experiment.embed_descriptions(
            model.config, self._embedders, model.variables, attributes
        )
        return evaluation.query_vectors(
            vectors,
            width=self._embedders.width,
            score=model.config.eval.score,
            # Of other scores it does not count.
            fusion_weight=model.description.get("fusion_weight", 1.0),
        )

    def second_look(
        self, attributes: np.ndarray, images: Sequence[bytes]
    ) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        """For `evaluation.judge`: new scores of the best images of descriptions (Q, A)."""

        def look(best: np.ndarray, scores: np.ndarray) -> np.ndarray:
            weight = self._model.description["rerank_weight"]
            return scores + weight * self.pair_scores(attributes, images, best)

        return look

    def pair_scores(
        self, attributes: np.ndarray, images: Sequence[bytes], best: np.ndarray
    ) -> np.ndarray:
        """(Q, R) scores by conditioned attention of the best images of descriptions (Q, A)."""
        model = self._model
        return experiment.score_pairs(
            model.config, self._embedders, model.variables, attributes, images, best
        )

    def attention(self, attributes: np.ndarray, images: Sequence[bytes]) -> dict[str, np.ndarray]:
        """Where the model looks in a few images: (N, R, h, w) by kind of attention.

        attributes: (N, A), a description for each image, which conditioned attention asks for.
        """
        model = self._model
        return experiment.attention_maps(
            model.config, self._embedders, model.variables, attributes, images
        )
