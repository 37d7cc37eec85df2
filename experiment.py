"""From a config to what a run needs: devices, data, the game. Shared by train.py and eval.py."""

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

import config_check
from configs import default
from input_pipeline import device_batches, pipeline, splits
from input_pipeline.attributes import Schema
from input_pipeline.datasets.records import DataSet
from jsreid_jax import evaluation, hosts, losses, optimizers, parallel, protocols, retrieval
from jsreid_jax.errors import ModelError
from jsreid_jax.models.discriminator import Discriminator
from jsreid_jax.models.joint_embedder import JointEmbedder
from jsreid_jax.train_state import Game
from jsreid_jax.train_step import LOSS_NAMES, StepOptions, first_steps
from jsreid_jax.types import PyTree, Schedule

# An ml_collections.ConfigDict; its declared field types, a union of everything, say less than Any.
Config = Any


def set_up_devices(config: Config, *, trains: bool = True) -> None:
    """Make virtual CPU devices, and check that the devices of all hosts divide the batch sizes.

    trains: whether training's counts too, or evaluation's alone.

    Must run before anything else asks JAX for its devices, and after the hosts have met. On a
    machine with accelerators the virtual devices exist and are not used.

    Raises:
        ModelError: hosts with different numbers of devices, configs or versions of the code.
        DataError: a batch size that the devices do not divide.
    """
    # By field: the size, and into how many parts each device takes its own of it.
    sizes = {"eval.batch_size": (config.eval.batch_size, 1)}
    if trains:
        sizes["train.batch_size"] = (config.train.batch_size, config.train.micro_batches)
    count = config.num_cpu_devices
    if not count:
        cores = min(len(os.sched_getaffinity(0)), 8)
        at_most = config.train.batch_size // 2 if _needs_company(config) and trains else cores
        fitting = (
            n
            for n in range(1, min(cores, at_most) + 1)
            if all(size % (n * parts) == 0 for size, parts in sizes.values())
        )
        count = max(fitting, default=1)
    jax.config.update("jax_num_cpu_devices", count)
    keep_compiled_programs()
    hosts.check_devices()
    hosts.check_agreement(
        {"program": Path(sys.argv[0]).name, "version of the code": code_version()}
        | {"config": json.dumps(as_json(config))},
        explain=_differing_facts,
    )
    logging.info(
        "%d device(s) on %d host(s): %s",
        jax.device_count(),
        jax.process_count(),
        jax.devices()[0].device_kind,
    )
    for field, (size, parts) in sizes.items():
        device_batches.check_batch_size(
            size, devices=jax.device_count(), field=f"config.{field}", parts=parts
        )
    if trains:
        _check_company(config, rows=config.train.batch_size // jax.device_count())


def _needs_company(config: Config) -> bool:
    """Whether a loss compares the rows of a device."""
    return config.losses.conditioned.weight > 0


def _check_company(config: Config, *, rows: int) -> None:
    """Raise ModelError if a device has one row where a loss compares several."""
    if _needs_company(config) and rows < 2:
        raise ModelError(
            f"config.train.batch_size is {config.train.batch_size}, {rows} image on each of "
            f"{jax.device_count()} devices, expected two or more on each: config.losses."
            "conditioned sets the images of a device against each other; set a larger batch, or "
            "use fewer devices"
        )


def keep_compiled_programs() -> None:
    """Let JAX keep what it compiles for the next process, unless the user told it where to.

    Below ~/.cache, a folder for each kind of processor: of a program that another kind compiled,
    JAX says that it might crash, and runs it.
    """
    if jax.config.jax_compilation_cache_dir is not None:  # pyright: ignore[reportAttributeAccessIssue]
        return
    cpuinfo = Path("/proc/cpuinfo")
    features = (
        re.search("^(flags|Features).*", cpuinfo.read_text(), re.M) if cpuinfo.is_file() else None
    )
    kind = hashlib.sha256(f"{platform.machine()} {features and features[0]}".encode()).hexdigest()
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    jax.config.update("jax_compilation_cache_dir", str(home / "jsreid" / f"compiled-{kind[:8]}"))
    # The many small ones too: together they take as long as the large one.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def code_version() -> str:
    """Changes with every source file of this project and with the libraries that compute."""
    root = Path(__file__).resolve().parent
    content = hashlib.sha256()
    folders = ("", "configs", "input_pipeline", "jsreid_jax")
    files = {file for name in folders for file in (root / name).glob("**/*.py" if name else "*.py")}
    for file in sorted(files):
        content.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes())
    libraries = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tensorflow-cpu", "numpy")
    for name in libraries:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            content.update(f"{name} {importlib.metadata.version(name)}".encode())
    return content.hexdigest()[:16]


def _differing_facts(name: str, there: str, first: str) -> str:
    """How a host's fact differs from the first host's, for a sentence."""
    if name != "config":
        return f"{there} there, {first} on host 0"
    differences = differing_fields(json.loads(there), json.loads(first), now="on host 0")
    return "; ".join(differences[:5])


def load_data(config: Config, data_dir: str | None = None) -> DataSet:
    """The config's data set; a folder given by hand instead is never rendered."""
    workers = min(len(os.sched_getaffinity(0)), 32)
    data = splits.load_data(config.data, data_dir=data_dir, workers=workers)
    for warning in data.listing.warnings:
        logging.warning("%s", warning)
    if data.skipped:
        logging.info(
            "Left out %d image(s) that do not decode: %s",
            len(data.skipped),
            ", ".join(data.skipped[:5]),
        )
    return data


def image_size(config: Config) -> tuple[int, int]:
    """(H, W)."""
    return config.data.image_height, config.data.image_width


def check_workdir(config: Config, workdir: Path) -> None:
    """Raise ModelError if the workdir cannot be one, or holds the run of another config.

    On how many devices a run is computed, and where its prepared images lie, is not part of what it
    computes: it may go on on others.
    """
    existing = next(path for path in (workdir, *workdir.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise ModelError(f"{existing}: is a file, expected a folder: choose another --workdir")
    file = workdir / "config.json"
    if not file.exists():
        if any((workdir / "checkpoints").glob("[0-9]*")):
            raise ModelError(
                f"{workdir}: has checkpoints but no config.json, so nobody knows of which config; "
                "expected the config.json of the run: put it back, or use another --workdir"
            )
        return
    stored, given = as_json(stored_config(read_json(file), source=file)), as_json(config)
    for config_dict in (stored, given):
        del config_dict["num_cpu_devices"], config_dict["data"]["prepared_dir"]
    differences = differing_fields(stored, given)
    if differences:
        raise ModelError(
            f"{file}: this workdir belongs to a run with another config: "
            f"{'; '.join(differences[:5])}{' and more' if len(differences) > 5 else ''}; "
            "use the same config to resume it, or another --workdir"
        )


def adversary_begins(config: Config, *, steps_per_epoch: int, num_train_steps: int) -> int | None:
    """How many steps come before the adversary's first; None where it never or always plays."""
    adversary = config.losses.adversary
    step = round(adversary.start_epoch * steps_per_epoch)
    return step if adversary.weight > 0 and 0 < step < num_train_steps else None


def create_embedder(config: Config, schema: Schema, num_categories: int) -> JointEmbedder:
    """The config's embedder for a schema's attributes and a number of training categories."""
    model = config.model
    return JointEmbedder(
        group_sizes=schema.group_sizes,
        group_regions=schema.group_regions,
        num_categories=num_categories,
        backbone=model.backbone,
        last_stride=model.last_stride,
        attention=model.attention,
        attention_width=model.attention_width,
        attention_stage=model.attention_stage,
        place_prior=model.place_prior,
        projection_widths=tuple(model.projection_widths),
        attribute_widths=tuple(model.attribute_widths),
        concept_scale=model.concept_scale,
        initial_temperature=config.losses.temperature,
        has_synthesiser=config.losses.synthesis.weight > 0,
        axis_name=parallel.AXIS,
        dtype=jnp.dtype(model.dtype),
        remat=model.remat,
    )


def create_game(config: Config, embedder: JointEmbedder) -> Game:
    """Both players and their optimizers."""
    optimizer = config.optimizer
    return Game(
        embedder=embedder,
        discriminator=Discriminator(
            num_categories=embedder.num_categories,
            conditioning=config.losses.discriminator_conditioning,
            judges_features=embedder.has_synthesiser,
            embedding_width=embedder.attribute_widths[-1],
        ),
        embedder_optimizer=optimizers.create_optimizer(
            optimizer.name, weight_decay=optimizer.weight_decay, clip_norm=optimizer.clip_norm
        ),
        discriminator_optimizer=optimizers.create_optimizer(optimizer.name),
        keeps_average=config.train.average_decay > 0,
    )


def create_options(
    config: Config, train_set: splits.TrainSet, *, steps_per_epoch: int, num_train_steps: int
) -> StepOptions:
    """How the game is played; here, once, epochs become steps.

    train_set: whose descriptions and attribute frequencies some losses ask for.
    """

    def steps(epochs: float) -> int:
        return round(epochs * steps_per_epoch)

    optimizer = config.optimizer
    factor = optimizers.batch_size_factor(
        optimizer.batch_size_rule,
        batch_size=config.train.batch_size,
        reference=optimizer.reference_batch_size,
    )

    def learning_rate(peak: float) -> Schedule:
        return optimizers.learning_rate_schedule(
            factor * peak,
            kind=optimizer.schedule,
            num_train_steps=num_train_steps,
            warmup_steps=steps(optimizer.warmup_epochs),
            drop_steps=tuple(steps(epoch) for epoch in optimizer.drop_epochs),
            drop_factor=optimizer.drop_factor,
        )

    weights = {
        name: optimizers.weight_schedule(
            weight=config.losses[name].weight,
            start_step=steps(config.losses[name].start_epoch),
            warmup_steps=steps(config.losses[name].warmup_epochs),
        )
        for name in LOSS_NAMES
    }
    starts = {
        name: steps(config.losses[name].start_epoch)
        for name in LOSS_NAMES
        if config.losses[name].weight > 0
        # Without maps there is no such loss, whatever its weight.
        and (name != "group_prediction" or "guided" in config.model.attention)
    }
    image_rate = learning_rate(optimizer.image_learning_rate)
    needs_categories = config.losses.arc_face.weight + config.losses.semantic_margin.weight > 0
    return StepOptions(
        weights=weights,
        backbone_rate=optimizers.resting(image_rate, steps(optimizer.freeze_backbone_epochs)),
        image_rate=image_rate,
        attribute_rate=learning_rate(optimizer.attribute_learning_rate),
        discriminator_rate=learning_rate(optimizer.discriminator_learning_rate),
        generator=config.losses.generator,
        description_dropout=config.data.description_dropout,
        discriminator_steps=config.losses.discriminator_steps,
        label_smoothing=config.losses.label_smoothing,
        gradient_penalty=config.losses.gradient_penalty,
        learn_temperature=config.losses.learn_temperature,
        arc_scale=config.losses.arc_scale,
        arc_margin=config.losses.arc_margin,
        categories=np.asarray(train_set.categories, np.float32) if needs_categories else None,
        all_known=bool(np.all(train_set.attributes != 0)),
        map_weights=losses.balanced_weights(train_set.attributes),
        # Sgd has no moments.
        first_steps=first_steps(starts, generator=config.losses.generator)
        if optimizer.name == "adam"
        else {},
        average_decay=config.train.average_decay,
        micro_batches=config.train.micro_batches,
        seed=config.seed,
        axis_name=parallel.AXIS,
    )


def embed_images(
    config: Config, embedders: evaluation.Embedders, variables: PyTree, images: Sequence[bytes]
) -> np.ndarray:
    """(G, V) vectors of encoded images, see `evaluation.Embedders`; every host embeds a share."""

    def embed(rows: slice) -> np.ndarray:
        batches = pipeline.image_batches(
            images[rows], batch_size=_host_batch_size(config), image_size=image_size(config)
        )
        return evaluation.embed_rows(embedders.images, variables, _split(batches), field="image")

    return hosts.rows_of_all(len(images), embed)


def embed_descriptions(
    config: Config, embedders: evaluation.Embedders, variables: PyTree, descriptions: np.ndarray
) -> np.ndarray:
    """(Q, V) vectors of descriptions (Q, A), see `evaluation.Embedders`."""
    batches = pipeline.array_batches(
        descriptions.astype(np.float32), batch_size=_host_batch_size(config)
    )
    return evaluation.embed_rows(embedders.attributes, variables, _split(batches), field="array")


def score_pairs(
    config: Config,
    embedders: evaluation.Embedders,
    variables: PyTree,
    descriptions: np.ndarray,
    images: Sequence[bytes],
    best: np.ndarray,
) -> np.ndarray:
    """(Q, R) scores by conditioned attention of the best images of every query.

    Every host looks at a share of the queries, and keeps the attention's memory of every image that
    is among the best of these, in float16: h * w * 4 * attention_width bytes of each (32 KiB at
    128x64 and a width of 64).

    Args:
        config: of the model.
        embedders: of the model.
        variables: replicated.
        descriptions: (Q, A).
        images: G encoded images.
        best: (Q, R) places among them, -1 where there are fewer: what stands there means nothing.
    """
    devices = jax.local_device_count()

    def look(queries: slice) -> np.ndarray:
        wanted, place = np.unique(np.maximum(best[queries], 0), return_inverse=True)
        batches = pipeline.image_batches(
            [images[i] for i in wanted],
            batch_size=_host_batch_size(config),
            image_size=image_size(config),
        )
        memory = evaluation.embed_rows(
            embedders.memory, variables, _split(batches), field="image", dtype=np.float16
        )
        logging.info(
            "Re-ranking the best %d of %d queries; memory of %d images: %.0f MiB",
            best.shape[1],
            len(best[queries]),
            len(memory),
            memory.nbytes / 2**20,
        )
        place = place.reshape(best[queries].shape)
        asked = descriptions[queries].astype(np.float32)
        found = []
        for start in range(0, len(place), devices):
            rows = np.arange(start, start + devices).clip(max=len(place) - 1)
            batch = {
                "description": asked[rows][:, None],
                "images": memory[place[rows]][:, None].astype(np.float32),
            }
            found.append(np.asarray(embedders.pairs(variables, parallel.split_over_devices(batch))))
        return np.concatenate(found)[: len(place), 0]

    return hosts.rows_of_all(len(best), look)


def attention_maps(
    config: Config,
    embedders: evaluation.Embedders,
    variables: PyTree,
    descriptions: np.ndarray,
    images: Sequence[bytes],
) -> dict[str, np.ndarray]:
    """Where the model looks in a few encoded images: (N, R, h, w) by kind of attention.

    descriptions: (N, A), one for each image; only conditioned attention asks for it.
    """
    devices = jax.local_device_count()
    size = devices * math.ceil(len(images) / devices)
    padded = np.zeros((size, descriptions.shape[1]), np.float32)
    padded[: len(descriptions)] = descriptions
    [batch] = pipeline.image_batches(images, batch_size=size, image_size=image_size(config))
    pairs = device_batches.split_batch(
        {"image": batch["image"], "description": padded}, devices=devices
    )
    found = {
        kind: np.asarray(maps(variables, parallel.split_over_devices(pairs)))
        for kind, maps in embedders.maps.items()
    }
    return {
        kind: maps.reshape(size, *maps.shape[2:])[: len(images)] for kind, maps in found.items()
    }


def _host_batch_size(config: Config) -> int:
    """How many images a host embeds at once."""
    return config.eval.batch_size // jax.process_count()


def _split(batches: Iterator[dict[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
    split = functools.partial(device_batches.split_batch, devices=jax.local_device_count())
    return map(split, batches)


def candidates(retrieval_set: splits.RetrievalSet) -> protocols.Candidates:
    """What a protocol asks of a set: everything but the pictures."""
    return protocols.Candidates(
        attributes=retrieval_set.attributes,
        label=retrieval_set.label,
        person_id=retrieval_set.person_id,
        camera_id=retrieval_set.camera_id,
        is_query=retrieval_set.is_query,
        categories=retrieval_set.categories,
    )


class Validation(NamedTuple):
    """What validation found.

    scores: means by name. average_precisions: (Q,) float64 in [0, 1], of the descriptions that
    have a right image, always in the same order.
    """

    scores: dict[str, float]
    average_precisions: np.ndarray


def validate(
    config: Config,
    embedders: evaluation.Embedders,
    variables: PyTree,
    validation: splits.RetrievalSet,
) -> Validation:
    """Scores of all validation descriptions that have a right image.

    Always by the protocol `category`, because carved validation images have no query images. A
    fused score has the weight that is best here, as "fusion_weight".
    """
    task = protocols.create_task("category", candidates(validation))
    queries = embed_descriptions(config, embedders, variables, task.queries)
    gallery = embed_images(config, embedders, variables, validation.images)
    is_fused = config.eval.score == "fused"
    found: list[Validation] = []
    for weight in config.eval.fusion_weights if is_fused else (1.0,):
        streamed = retrieval.stream_ranks(
            evaluation.query_vectors(
                queries, width=embedders.width, score=config.eval.score, fusion_weight=weight
            ),
            gallery,
            task.positives,
            task.ignored,
            block_size=config.eval.block_size,
        )
        per_query = retrieval.query_metrics(streamed.ranks)
        scores = retrieval.summarise(per_query)
        scores["mAP"] = scores["mAP_step"]
        if is_fused:
            scores["fusion_weight"] = weight
        precisions = per_query["AP_step"]
        found.append(Validation(scores, precisions[~np.isnan(precisions)]))
    return max(found, key=lambda validation: validation.scores["mAP"])


def read_json(file: Path) -> dict[str, Any]:
    """The JSON dict in a file.

    Raises:
        ModelError: it is missing or holds something else.
    """
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{file}: does not read as JSON ({error}); expected what train.py or eval.py wrote, "
            "check the path"
        ) from error
    if not isinstance(content, dict):
        raise ModelError(
            f"{file}: holds a {type(content).__name__}, expected a JSON object as train.py or "
            "eval.py write it, check the path"
        )
    return content


def without_nan(value: Any) -> Any:
    """The same nested dicts and lists with None for NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def write_json(file: Path, content: dict[str, Any]) -> None:
    """Write a JSON file that is whole at any moment."""
    write_text(file, json.dumps(content, indent=2) + "\n")


def write_text(file: Path, text: str) -> None:
    """Write a text file that is whole at any moment."""
    write_bytes(file, text.encode())


def write_bytes(file: Path, content: bytes) -> None:
    """Write a file that is whole at any moment."""
    partial = file.with_name(file.name + ".partial")
    partial.write_bytes(content)
    partial.replace(file)


def stored_config(
    fields: dict[str, Any], *, source: Path, overrides: Mapping[str, Any] | None = None
) -> Config:
    """A config from its JSON; fields newer than it have the values of default.py.

    These mean what was computed before they existed, but for losses.description_head (before it,
    half of losses.attribute_head was of descriptions) and model.attention_stage (was 1).
    overrides: other values by dotted name.

    Raises:
        ModelError: a field that no config has, or of another type.
    """
    config: Config = default.get_config()
    # Attention began anywhere.
    config.model.place_prior = 0.0
    try:
        config.lock().update(fields)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{source}: is not a config of this version ({str(error).split('. ')[0]}); expected "
            "the fields of configs/default.py, use the version that wrote it"
        ) from error
    config.update_from_flattened_dict(overrides or {})
    config_check.check_config(config)
    return config


# Codes of a description as one character each: a JSON list of numbers would be ten times as long.
_CODES = {1: "+", -1: "-", 0: "?"}


def as_text(categories: np.ndarray) -> list[str]:
    """Descriptions (K, A) as K texts like "+-?"."""
    return ["".join(_CODES[code] for code in row) for row in categories.tolist()]


def from_text(texts: Sequence[str]) -> np.ndarray:
    """The inverse of `as_text`: (K, A) int8."""
    codes = {text: code for code, text in _CODES.items()}
    return np.array([[codes[letter] for letter in text] for text in texts], np.int8)


def as_json(config: Config) -> dict[str, Any]:
    """The config as what JSON gives back (tuples are lists)."""
    return json.loads(config.to_json_best_effort())


def differing_fields(
    a: dict[str, Any], b: dict[str, Any], prefix: str = "", *, now: str = "now"
) -> list[str]:
    """One "field (a's value there, b's value now)" for every field that differs in two configs."""
    differences = []
    for key in sorted(a.keys() | b.keys()):
        left, right = a.get(key, "absent"), b.get(key, "absent")
        if isinstance(left, dict) and isinstance(right, dict):
            differences += differing_fields(left, right, f"{prefix}{key}.", now=now)
        elif left != right:
            differences.append(f"config.{prefix}{key} ({left!r} there, {right!r} {now})")
    return differences
